//! CoAP messages, made and read by hand; they share no code with the implementation of this
//! repository.

use std::fmt;

use crate::{decode, dtls_wire::Reader};

/// Confirmable.
pub const CON: u8 = 0;
/// Non-confirmable.
pub const NON: u8 = 1;
/// Acknowledgement.
pub const ACK: u8 = 2;
/// Reset.
pub const RST: u8 = 3;

/// Numbers of options.
pub mod option {
    /// Uri-Host.
    pub const URI_HOST: u16 = 3;
    /// ETag.
    pub const ETAG: u16 = 4;
    /// Observe.
    pub const OBSERVE: u16 = 6;
    /// Uri-Port.
    pub const URI_PORT: u16 = 7;
    /// Uri-Path.
    pub const URI_PATH: u16 = 11;
    /// Content-Format.
    pub const CONTENT_FORMAT: u16 = 12;
    /// Uri-Path-Abbrev.
    pub const URI_PATH_ABBREV: u16 = 13;
    /// Max-Age.
    pub const MAX_AGE: u16 = 14;
    /// Uri-Query.
    pub const URI_QUERY: u16 = 15;
    /// Accept.
    pub const ACCEPT: u16 = 17;
    /// Q-Block1.
    pub const Q_BLOCK1: u16 = 19;
    /// Block2.
    pub const BLOCK2: u16 = 23;
    /// Block1.
    pub const BLOCK1: u16 = 27;
    /// Size2.
    pub const SIZE2: u16 = 28;
    /// Proxy-Uri.
    pub const PROXY_URI: u16 = 35;
    /// Size1.
    pub const SIZE1: u16 = 60;
    /// Echo.
    pub const ECHO: u16 = 252;
    /// Request-Tag.
    pub const REQUEST_TAG: u16 = 292;
}

/// A code such as 4.04.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Code(pub u8);

impl Code {
    /// 0.00.
    pub const EMPTY: Self = Self(0);
    /// 0.01.
    pub const GET: Self = Self(1);
    /// 0.02.
    pub const POST: Self = Self(2);
    /// 2.03.
    pub const VALID: Self = Self(0x43);
    /// 2.04.
    pub const CHANGED: Self = Self(0x44);
    /// 2.05.
    pub const CONTENT: Self = Self(0x45);
    /// 2.31.
    pub const CONTINUE: Self = Self(0x5f);
    /// 4.00.
    pub const BAD_REQUEST: Self = Self(0x80);
    /// 4.01.
    pub const UNAUTHORIZED: Self = Self(0x81);
    /// 4.02.
    pub const BAD_OPTION: Self = Self(0x82);
    /// 4.03.
    pub const FORBIDDEN: Self = Self(0x83);
    /// 4.04.
    pub const NOT_FOUND: Self = Self(0x84);
    /// 4.05.
    pub const METHOD_NOT_ALLOWED: Self = Self(0x85);
    /// 4.06.
    pub const NOT_ACCEPTABLE: Self = Self(0x86);
    /// 4.08.
    pub const INCOMPLETE: Self = Self(0x88);
    /// 4.13.
    pub const TOO_LARGE: Self = Self(0x8d);
    /// 4.15.
    pub const UNSUPPORTED_FORMAT: Self = Self(0x8f);
    /// 5.03.
    pub const UNAVAILABLE: Self = Self(0xa3);
    /// 5.05.
    pub const NO_PROXY: Self = Self(0xa5);

    /// 2.xx.
    #[must_use]
    pub fn is_success(self) -> bool {
        self.0 >> 5 == 2
    }

    /// 4.xx.
    #[must_use]
    pub fn is_refusal(self) -> bool {
        self.0 >> 5 == 4
    }
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{:02}", self.0 >> 5, self.0 & 31)
    }
}

impl fmt::Debug for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// A number in as few octets as it needs; zero needs none.
#[must_use]
pub fn uint(value: u64) -> Vec<u8> {
    value
        .to_be_bytes()
        .into_iter()
        .skip_while(|octet| *octet == 0)
        .collect()
}

/// The number in an option.
#[must_use]
pub fn number(octets: &[u8]) -> u64 {
    octets
        .iter()
        .fold(0, |number, octet| number << 8 | u64::from(*octet))
}

/// The value of Block1 or Block2.
#[must_use]
pub fn block(number: u32, more: bool, exponent: u8) -> Vec<u8> {
    uint(u64::from(number) << 4 | u64::from(more) << 3 | u64::from(exponent))
}

/// A message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    /// Confirmable and so on.
    pub kind: u8,
    /// Method or response.
    pub code: Code,
    /// The message id.
    pub id: u16,
    /// The token.
    pub token: Vec<u8>,
    /// The options; they are sorted when they are sent.
    pub options: Vec<(u16, Vec<u8>)>,
    /// The payload.
    pub payload: Vec<u8>,
}

impl Message {
    /// One without options.
    #[must_use]
    pub fn new(kind: u8, code: Code, id: u16) -> Self {
        Self {
            kind,
            code,
            id,
            token: Vec::new(),
            options: Vec::new(),
            payload: Vec::new(),
        }
    }

    /// Adds an option.
    #[must_use]
    pub fn option(mut self, number: u16, value: impl Into<Vec<u8>>) -> Self {
        self.options.push((number, value.into()));
        self
    }

    /// With this payload.
    #[must_use]
    pub fn payload(mut self, payload: &[u8]) -> Self {
        self.payload = payload.to_vec();
        self
    }

    /// The first option with this number.
    #[must_use]
    pub fn get(&self, number: u16) -> Option<&[u8]> {
        self.options
            .iter()
            .find(|(found, _)| *found == number)
            .map(|(_, value)| value.as_slice())
    }

    /// The first option with this number, as a number.
    #[must_use]
    pub fn uint(&self, option: u16) -> Option<u64> {
        self.get(option).map(number)
    }

    /// A block option: number, whether more follows, and exponent.
    #[must_use]
    pub fn block(&self, option: u16) -> Option<(u64, bool, u8)> {
        let value = self.uint(option)?;
        let exponent = u8::try_from(value & 7).ok()?;
        Some((value >> 4, value & 8 != 0, exponent))
    }

    /// The octets.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let length = u8::try_from(self.token.len()).unwrap_or(15);
        let mut out = vec![1 << 6 | self.kind << 4 | length, self.code.0];
        out.extend(self.id.to_be_bytes());
        out.extend_from_slice(&self.token);
        let mut options = self.options.clone();
        options.sort_by_key(|(number, _)| *number);
        let mut before = 0;
        for (number, value) in &options {
            let (delta, delta_more) = nibble(usize::from(number - before));
            let (length, length_more) = nibble(value.len());
            before = *number;
            out.push(delta << 4 | length);
            out.extend(delta_more);
            out.extend(length_more);
            out.extend_from_slice(value);
        }
        if !self.payload.is_empty() {
            out.push(0xff);
            out.extend_from_slice(&self.payload);
        }
        out
    }

    /// Reads one.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn decode(octets: &[u8]) -> Result<Self, String> {
        let mut reader = Reader(octets);
        let short = || "it ends too early".to_owned();
        let first = reader.u8().ok_or_else(short)?;
        if first >> 6 != 1 {
            return Err(format!("it has version {}", first >> 6));
        }
        let length = usize::from(first & 15);
        if length > 8 {
            return Err(format!("its token has length {length}"));
        }
        let mut message = Self::new(
            first >> 4 & 3,
            Code(reader.u8().ok_or_else(short)?),
            reader.u16().ok_or_else(short)?,
        );
        message.token = reader.take(length).ok_or_else(short)?.to_vec();
        if message.code == Code::EMPTY && octets.len() > 4 {
            return Err("it is empty and yet says something".into());
        }
        let mut number = 0_u16;
        while let Some(head) = reader.u8() {
            if head == 0xff {
                if reader.is_empty() {
                    return Err("nothing follows the payload marker".into());
                }
                message.payload = reader.0.to_vec();
                break;
            }
            let delta = extended(head >> 4, &mut reader).ok_or("an option is malformed")?;
            let length = extended(head & 15, &mut reader).ok_or("an option is malformed")?;
            number = u16::try_from(delta)
                .ok()
                .and_then(|delta| number.checked_add(delta))
                .ok_or("the number of an option is too large")?;
            let value = reader.take(length).ok_or_else(short)?;
            message.options.push((number, value.to_vec()));
        }
        Ok(message)
    }

    /// It, for people.
    #[must_use]
    pub fn shown(&self) -> String {
        let kind = match self.kind {
            CON => "CON",
            NON => "NON",
            ACK => "ACK",
            _ => "RST",
        };
        let mut text = format!(
            "{kind} {} id {:04x} token {}\n",
            self.code,
            self.id,
            hex::encode(&self.token)
        );
        for (number, value) in &self.options {
            let shown = match *number {
                option::URI_PATH | option::URI_QUERY | option::URI_HOST => {
                    String::from_utf8_lossy(value).into_owned()
                }
                option::BLOCK1 | option::BLOCK2 => {
                    let value = crate::coaps_message::number(value);
                    format!(
                        "number {}, more {}, {} octets",
                        value >> 4,
                        value & 8 != 0,
                        1_u32 << ((value & 7) + 4)
                    )
                }
                option::ETAG | option::ECHO | option::REQUEST_TAG => hex::encode(value),
                _ if value.len() <= 4 => crate::coaps_message::number(value).to_string(),
                _ => hex::encode(value),
            };
            text.push_str(&format!("option {number}: {shown}\n"));
        }
        if !self.payload.is_empty() {
            text.push_str(&decode::describe(&self.payload));
        }
        text
    }
}

fn nibble(value: usize) -> (u8, Vec<u8>) {
    match value {
        0..=12 => (u8::try_from(value).unwrap_or_default(), Vec::new()),
        13..=268 => (13, vec![u8::try_from(value - 13).unwrap_or_default()]),
        _ => {
            let rest = u16::try_from(value - 269).unwrap_or(u16::MAX);
            (14, rest.to_be_bytes().to_vec())
        }
    }
}

fn extended(nibble: u8, reader: &mut Reader<'_>) -> Option<usize> {
    match nibble {
        13 => Some(usize::from(reader.u8()?) + 13),
        14 => Some(usize::from(reader.u16()?) + 269),
        15 => None,
        small => Some(usize::from(small)),
    }
}
