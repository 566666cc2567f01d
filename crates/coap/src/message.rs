//! The message format, [RFC 7252 §3](https://www.rfc-editor.org/rfc/rfc7252.html#section-3).

use crate::{Code, Error, option};

/// Longest token in bytes.
pub const TOKEN_LENGTH_MAX: usize = 8;
/// Options in one message that we read; the longest request of EST or BRSKI has about a dozen.
pub const OPTIONS_MAX: usize = 64;
/// Longest option value in bytes that we read; Proxy-Uri with 1034 is the longest that is defined.
pub const OPTION_LENGTH_MAX: usize = 1034;

const VERSION: u8 = 1;
const PAYLOAD_MARKER: u8 = 0xff;
const HEADER_LENGTH: usize = 4;

/// How a message is carried.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// Sent again until it is acknowledged (CON).
    Confirmable,
    /// Sent once (NON).
    NonConfirmable,
    /// Answers a confirmable message (ACK).
    Acknowledgement,
    /// Says that a message could not be processed (RST).
    Reset,
}

impl Kind {
    const fn bits(self) -> u8 {
        match self {
            Self::Confirmable => 0,
            Self::NonConfirmable => 1,
            Self::Acknowledgement => 2,
            Self::Reset => 3,
        }
    }

    const fn from_bits(bits: u8) -> Self {
        match bits & 0x03 {
            0 => Self::Confirmable,
            1 => Self::NonConfirmable,
            2 => Self::Acknowledgement,
            _ => Self::Reset,
        }
    }
}

/// What ties a response to its request: 0 to 8 bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Token {
    bytes: [u8; TOKEN_LENGTH_MAX],
    length: u8,
}

impl Token {
    /// A token of these bytes, `None` for more than eight.
    #[must_use]
    pub fn new(value: &[u8]) -> Option<Self> {
        let mut bytes = [0; TOKEN_LENGTH_MAX];
        bytes.get_mut(..value.len())?.copy_from_slice(value);
        Some(Self {
            bytes,
            length: u8::try_from(value.len()).ok()?,
        })
    }

    /// Its bytes.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        self.bytes
            .get(..usize::from(self.length))
            .unwrap_or_default()
    }
}

/// One message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    /// How it is carried.
    pub kind: Kind,
    /// Method or response code.
    pub code: Code,
    /// Ties an acknowledgement to its message, and shows duplicates.
    pub id: u16,
    /// Ties a response to its request.
    pub token: Token,
    options: Vec<(u16, Vec<u8>)>,
    /// The payload; empty for none.
    pub payload: Vec<u8>,
}

impl Message {
    /// A message without options and payload.
    #[must_use]
    pub const fn new(kind: Kind, code: Code, id: u16, token: Token) -> Self {
        Self {
            kind,
            code,
            id,
            token,
            options: Vec::new(),
            payload: Vec::new(),
        }
    }

    /// An empty message: acknowledgement, reset or ping.
    #[must_use]
    pub fn empty(kind: Kind, id: u16) -> Self {
        Self::new(kind, Code::EMPTY, id, Token::default())
    }

    /// Reads a datagram.
    ///
    /// # Errors
    /// [`Error::Version`] for what must be ignored in silence; else [`Error::Format`] or
    /// [`Error::Limit`], which [`peek`](Self::peek) tells how to answer.
    pub fn decode(datagram: &[u8]) -> Result<Self, Error> {
        let (first, code, id) = header(datagram)?;
        let kind = Kind::from_bits(first >> 4);
        let code = Code(code);
        let token_length = usize::from(first & 0x0f);
        // COA-002: Token length 9-15 is a message format error (RST for CON, ignore for NON).
        if token_length > TOKEN_LENGTH_MAX {
            return Err(Error::Format("the token is longer than 8 bytes"));
        }
        let body = datagram.get(HEADER_LENGTH..).unwrap_or_default();
        // COA-005: Empty messages have TKL 0 and no bytes after the Message ID; otherwise format
        // error.
        if code == Code::EMPTY && (token_length > 0 || !body.is_empty()) {
            return Err(Error::Format("an empty message has content"));
        }
        let (token, mut rest) = body
            .split_at_checked(token_length)
            .ok_or(Error::Format("the token is cut off"))?;
        let token = Token::new(token).ok_or(Error::Format("the token is longer than 8 bytes"))?;
        let mut message = Self::new(kind, code, id, token);
        let mut number = 0_u16;
        while let Some((&byte, after)) = rest.split_first() {
            if byte == PAYLOAD_MARKER {
                // COA-003: A payload marker followed by zero-length payload is a message format
                // error.
                if after.is_empty() && !defects::seeded!("coap-takes-empty-payload") {
                    return Err(Error::Format("nothing follows the payload marker"));
                }
                message.payload = after.to_vec();
                break;
            }
            let (delta, after) = extended(byte >> 4, after)?;
            let (length, after) = extended(byte & 0x0f, after)?;
            number = u16::try_from(delta)
                .ok()
                .and_then(|delta| number.checked_add(delta))
                .ok_or(Error::Format("an option number is above 65535"))?;
            let length = usize::try_from(length).map_err(|_| Error::Format("option length"))?;
            let (value, after) = after
                .split_at_checked(length)
                .ok_or(Error::Format("an option is cut off"))?;
            if length > OPTION_LENGTH_MAX {
                return Err(Error::Limit("an option is longer than 1034 bytes"));
            }
            if message.options.len() == OPTIONS_MAX {
                return Err(Error::Limit("more than 64 options"));
            }
            message.options.push((number, value.to_vec()));
            rest = after;
        }
        Ok(message)
    }

    /// Kind and message id of a datagram that [`decode`](Self::decode) may have refused; `None` for
    /// what is not CoAP of version 1.
    #[must_use]
    pub fn peek(datagram: &[u8]) -> Option<(Kind, u16)> {
        let (first, _, id) = header(datagram).ok()?;
        Some((Kind::from_bits(first >> 4), id))
    }

    /// Writes the datagram.
    ///
    /// # Errors
    /// [`Error::Unwritable`] for an empty message with content and for an option value longer than
    /// 65,804 bytes.
    pub fn encode(&self) -> Result<Vec<u8>, Error> {
        let token = self.token.as_bytes();
        let content = !token.is_empty() || !self.options.is_empty() || !self.payload.is_empty();
        if self.code == Code::EMPTY && content {
            return Err(Error::Unwritable("an empty message has content"));
        }
        let mut out = Vec::with_capacity(
            HEADER_LENGTH + token.len() + 8 * self.options.len() + self.payload.len() + 1,
        );
        // The length is at most 8 by construction.
        let token_length = self.token.length;
        out.push((VERSION << 6) | (self.kind.bits() << 4) | token_length);
        out.push(self.code.0);
        out.extend(self.id.to_be_bytes());
        out.extend(token);
        let mut before = 0;
        for (number, value) in &self.options {
            let length = u32::try_from(value.len())
                .ok()
                .filter(|length| *length <= 65_535 + 269)
                .ok_or(Error::Unwritable("an option is too long"))?;
            let delta = u32::from(number.saturating_sub(before));
            out.push((nibble(delta) << 4) | nibble(length));
            extend(&mut out, delta);
            extend(&mut out, length);
            out.extend(value);
            before = *number;
        }
        if !self.payload.is_empty() {
            out.push(PAYLOAD_MARKER);
            out.extend(&self.payload);
        }
        Ok(out)
    }

    /// The options in the order of their numbers; those of one number in the order they came.
    pub fn options(&self) -> impl Iterator<Item = (u16, &[u8])> {
        self.options
            .iter()
            .map(|(number, value)| (*number, value.as_slice()))
    }

    /// The values of one option.
    pub fn values(&self, number: u16) -> impl Iterator<Item = &[u8]> {
        self.options()
            .filter(move |(found, _)| *found == number)
            .map(|(_, value)| value)
    }

    /// The first value of one option.
    #[must_use]
    pub fn value(&self, number: u16) -> Option<&[u8]> {
        self.values(number).next()
    }

    /// The first value of one option as an unsigned integer.
    #[must_use]
    pub fn uint(&self, number: u16) -> Option<u32> {
        self.value(number).and_then(option::uint)
    }

    /// Adds an option behind those of the same number.
    pub fn add(&mut self, number: u16, value: impl Into<Vec<u8>>) {
        let at = self
            .options
            .partition_point(|(existing, _)| *existing <= number);
        self.options.insert(at, (number, value.into()));
    }

    /// Adds an unsigned integer in its shortest form.
    pub fn add_uint(&mut self, number: u16, value: u32) {
        self.add(number, option::uint_bytes(value));
    }

    /// Takes all options of this number out.
    pub fn remove(&mut self, number: u16) {
        self.options.retain(|(existing, _)| *existing != number);
    }
}

fn header(datagram: &[u8]) -> Result<(u8, u8, u16), Error> {
    let [first, code, high, low, ..] = *datagram else {
        return Err(Error::Version);
    };
    // COA-001: Messages with version other than 1 are silently ignored.
    if first >> 6 != VERSION && !defects::seeded!("coap-reads-any-version") {
        return Err(Error::Version);
    }
    Ok((first, code, u16::from_be_bytes([high, low])))
}

/// The value that a nibble and the bytes after it say.
fn extended(nibble: u8, rest: &[u8]) -> Result<(u32, &[u8]), Error> {
    const CUT: Error = Error::Format("an option is cut off");
    match nibble {
        13 => {
            let (byte, rest) = rest.split_first().ok_or(CUT)?;
            Ok((u32::from(*byte) + 13, rest))
        }
        14 => {
            let (bytes, rest) = rest.split_first_chunk().ok_or(CUT)?;
            Ok((u32::from(u16::from_be_bytes(*bytes)) + 269, rest))
        }
        // COA-004: Option delta or length nibble 15 (other than the payload marker) is a format
        // error.
        15 => Err(Error::Format("an option has the reserved nibble 15")),
        small => Ok((u32::from(small), rest)),
    }
}

const fn nibble(value: u32) -> u8 {
    match value {
        0..=12 => value.to_le_bytes()[0],
        13..=268 => 13,
        _ => 14,
    }
}

fn extend(out: &mut Vec<u8>, value: u32) {
    match value {
        0..=12 => {}
        13..=268 => out.push((value - 13).to_le_bytes()[0]),
        _ => {
            let [low, high, ..] = (value - 269).to_le_bytes();
            out.extend([high, low]);
        }
    }
}
