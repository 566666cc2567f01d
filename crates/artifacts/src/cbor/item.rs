//! Data items of CBOR ([RFC 8949](https://www.rfc-editor.org/rfc/rfc8949.html)): reading with
//! limits, writing in one way only.

use std::fmt::{self, Write as _};

use serde_json::{Map, Number, Value};

use super::CborError;

/// Deepest nesting of arrays, maps and tags.
pub const CBOR_DEPTH_MAX: usize = 32;
/// Most data items in one document. A voucher has some dozen.
pub const CBOR_ITEMS_MAX: usize = 16 * 1024;

const FALSE: u8 = 20;
const TRUE: u8 = 21;
const NULL: u8 = 22;

const MAJOR_UNSIGNED: u8 = 0;
const MAJOR_NEGATIVE: u8 = 1;
const MAJOR_BYTES: u8 = 2;
const MAJOR_TEXT: u8 = 3;
const MAJOR_ARRAY: u8 = 4;
const MAJOR_MAP: u8 = 5;
const MAJOR_TAG: u8 = 6;
const MAJOR_SIMPLE: u8 = 7;

/// One data item.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Item {
    /// An unsigned number.
    Unsigned(u64),
    /// The number -1 - n.
    Negative(u64),
    /// A byte string.
    Bytes(Vec<u8>),
    /// A text string.
    Text(String),
    /// An array.
    Array(Vec<Self>),
    /// A map in the order in which it came. No key is in it twice.
    Map(Vec<(Self, Self)>),
    /// A tagged item.
    Tag(u64, Box<Self>),
    /// A simple value: 20 is false, 21 true, 22 null, 23 undefined.
    Simple(u8),
    /// A floating-point number by the bits of its double.
    Float(u64),
}

/// How a document is written, where CBOR leaves a choice.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Form {
    /// A length is indefinite.
    pub indefinite: bool,
    /// A number or a length takes more octets than it has to.
    pub longer: bool,
    /// The keys of a map are not in the order of
    /// [RFC 8949 §4.2.1](https://www.rfc-editor.org/rfc/rfc8949.html#section-4.2.1).
    pub unsorted: bool,
}

impl Item {
    /// True or false.
    #[must_use]
    pub fn boolean(value: bool) -> Self {
        Self::Simple(if value { TRUE } else { FALSE })
    }

    /// What it is, for a message.
    #[must_use]
    pub fn type_name(&self) -> &'static str {
        match self {
            Self::Unsigned(_) => "an unsigned number",
            Self::Negative(_) => "a negative number",
            Self::Bytes(_) => "a byte string",
            Self::Text(_) => "a text string",
            Self::Array(_) => "an array",
            Self::Map(_) => "a map",
            Self::Tag(..) => "a tagged item",
            Self::Simple(FALSE | TRUE) => "a boolean",
            Self::Simple(NULL) => "null",
            Self::Simple(_) => "a simple value",
            Self::Float(_) => "a floating-point number",
        }
    }

    /// The boolean, if it is one.
    #[must_use]
    pub fn as_bool(&self) -> Option<bool> {
        match self {
            Self::Simple(FALSE) => Some(false),
            Self::Simple(TRUE) => Some(true),
            _ => None,
        }
    }

    /// Reads one document: exactly one item, nothing after it.
    ///
    /// # Errors
    /// If it is not well-formed, has a key twice, or is over a limit.
    pub fn parse(input: &[u8]) -> Result<(Self, Form), CborError> {
        let mut parser = Parser {
            input,
            position: 0,
            items_left: CBOR_ITEMS_MAX,
            form: Form::default(),
        };
        let item = parser.item(0)?;
        // VCB-046: Voucher CBOR that is not well-formed, has trailing bytes or duplicate map keys
        // is rejected.
        match input.len().checked_sub(parser.position) {
            Some(0) => Ok((item, parser.form)),
            Some(_) if defects::seeded!("cbor-takes-trailing-octets") => Ok((item, parser.form)),
            _ => Err(CborError::Trailing(
                input.len().saturating_sub(parser.position),
            )),
        }
    }

    /// Writes it as the deterministic encoding of
    /// [RFC 8949 §4.2.1](https://www.rfc-editor.org/rfc/rfc8949.html#section-4.2.1) has it:
    /// shortest numbers, definite lengths, sorted keys.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::new();
        self.encode_to(&mut out);
        out
    }

    fn encode_to(&self, out: &mut Vec<u8>) {
        match self {
            Self::Unsigned(value) => put_head(out, MAJOR_UNSIGNED, *value),
            Self::Negative(value) => put_head(out, MAJOR_NEGATIVE, *value),
            Self::Bytes(bytes) => {
                put_head(out, MAJOR_BYTES, bytes.len() as u64);
                out.extend_from_slice(bytes);
            }
            Self::Text(text) => {
                put_head(out, MAJOR_TEXT, text.len() as u64);
                out.extend_from_slice(text.as_bytes());
            }
            Self::Array(items) => {
                put_head(out, MAJOR_ARRAY, items.len() as u64);
                for item in items {
                    item.encode_to(out);
                }
            }
            Self::Map(entries) => {
                put_head(out, MAJOR_MAP, entries.len() as u64);
                let mut encoded: Vec<_> = entries
                    .iter()
                    .map(|(key, value)| (key.encode(), value))
                    .collect();
                encoded.sort_by(|(one, _), (other, _)| one.cmp(other));
                for (key, value) in encoded {
                    out.extend_from_slice(&key);
                    value.encode_to(out);
                }
            }
            Self::Tag(tag, inner) => {
                put_head(out, MAJOR_TAG, *tag);
                inner.encode_to(out);
            }
            Self::Simple(value) if *value < 24 => out.push(MAJOR_SIMPLE << 5 | value),
            Self::Simple(value) => out.extend([MAJOR_SIMPLE << 5 | 24, *value]),
            Self::Float(bits) => put_float(out, *bits),
        }
    }

    /// The nearest JSON, for people: byte strings become base64url, keys texts, tags are left out.
    #[must_use]
    pub fn to_json(&self) -> Value {
        match self {
            Self::Unsigned(value) => (*value).into(),
            Self::Negative(value) => match i64::try_from(*value) {
                Ok(value) => (-1 - value).into(),
                Err(_) => self.to_string().into(),
            },
            Self::Bytes(bytes) => encode_base64url(bytes).into(),
            Self::Text(text) => text.as_str().into(),
            Self::Array(items) => items.iter().map(Self::to_json).collect(),
            Self::Map(entries) => {
                let entries = entries.iter();
                Value::Object(
                    entries
                        .map(|(key, value)| (key.to_name(), value.to_json()))
                        .collect::<Map<_, _>>(),
                )
            }
            Self::Tag(_, inner) => inner.to_json(),
            Self::Simple(_) => self.as_bool().map_or(Value::Null, Value::Bool),
            Self::Float(bits) => {
                Number::from_f64(f64::from_bits(*bits)).map_or(Value::Null, Value::Number)
            }
        }
    }

    /// A key as a text: itself, or what diagnostic notation makes of it.
    #[must_use]
    pub fn to_name(&self) -> String {
        match self {
            Self::Text(text) => text.clone(),
            other => other.to_string(),
        }
    }

    /// JSON as CBOR, as [RFC 8949 §6.2](https://www.rfc-editor.org/rfc/rfc8949.html#section-6.2)
    /// advises.
    #[must_use]
    pub fn from_json(value: &Value) -> Self {
        match value {
            Value::Null => Self::Simple(NULL),
            Value::Bool(value) => Self::boolean(*value),
            Value::Number(number) => match (number.as_u64(), number.as_i64()) {
                (Some(value), _) => Self::Unsigned(value),
                // A number that is not unsigned and is an i64 is negative.
                (None, Some(value)) => Self::Negative(!value.cast_unsigned()),
                (None, None) => Self::Float(number.as_f64().unwrap_or(f64::NAN).to_bits()),
            },
            Value::String(text) => Self::Text(text.clone()),
            Value::Array(items) => Self::Array(items.iter().map(Self::from_json).collect()),
            Value::Object(members) => Self::Map(
                members
                    .iter()
                    .map(|(name, value)| (Self::Text(name.clone()), Self::from_json(value)))
                    .collect(),
            ),
        }
    }
}

/// Diagnostic notation
/// ([RFC 8949 §8](https://www.rfc-editor.org/rfc/rfc8949.html#section-8)).
impl fmt::Display for Item {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unsigned(value) => write!(f, "{value}"),
            Self::Negative(value) => write!(f, "{}", -1 - i128::from(*value)),
            Self::Bytes(bytes) => write!(f, "h'{}'", hex::encode(bytes)),
            Self::Text(text) => {
                f.write_char('"')?;
                for c in text.chars() {
                    match c {
                        '"' | '\\' => write!(f, "\\{c}")?,
                        c if c.is_control() => write!(f, "\\u{:04x}", u32::from(c))?,
                        c => f.write_char(c)?,
                    }
                }
                f.write_char('"')
            }
            Self::Array(items) => {
                f.write_char('[')?;
                for (index, item) in items.iter().enumerate() {
                    let comma = if index == 0 { "" } else { ", " };
                    write!(f, "{comma}{item}")?;
                }
                f.write_char(']')
            }
            Self::Map(entries) => {
                f.write_char('{')?;
                for (index, (key, value)) in entries.iter().enumerate() {
                    let comma = if index == 0 { "" } else { ", " };
                    write!(f, "{comma}{key}: {value}")?;
                }
                f.write_char('}')
            }
            Self::Tag(tag, inner) => write!(f, "{tag}({inner})"),
            Self::Simple(FALSE) => f.write_str("false"),
            Self::Simple(TRUE) => f.write_str("true"),
            Self::Simple(NULL) => f.write_str("null"),
            Self::Simple(23) => f.write_str("undefined"),
            Self::Simple(value) => write!(f, "simple({value})"),
            Self::Float(bits) => {
                let value = f64::from_bits(*bits);
                if value.is_nan() {
                    f.write_str("NaN")
                } else if value.is_infinite() {
                    f.write_str(if value < 0.0 { "-Infinity" } else { "Infinity" })
                } else {
                    write!(f, "{value:?}")
                }
            }
        }
    }
}

fn encode_base64url(bytes: &[u8]) -> String {
    use base64::Engine as _;
    base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(bytes)
}

fn put_head(out: &mut Vec<u8>, major: u8, value: u64) {
    let major = major << 5;
    let [a, b, c, d, e, f, g, h] = value.to_be_bytes();
    match value {
        0..24 => out.push(major | h),
        24..=0xff => out.extend([major | 24, h]),
        0x100..=0xffff => out.extend([major | 25, g, h]),
        0x1_0000..=0xffff_ffff => out.extend([major | 26, e, f, g, h]),
        _ => out.extend([major | 27, a, b, c, d, e, f, g, h]),
    }
}

/// The shortest of the three forms that holds the same value.
fn put_float(out: &mut Vec<u8>, bits: u64) {
    let value = f64::from_bits(bits);
    if value.is_nan() {
        return out.extend([0xf9, 0x7e, 0x00]);
    }
    #[expect(
        clippy::cast_possible_truncation,
        reason = "compared with the value again"
    )]
    let single = value as f32;
    if f64::from(single).to_bits() != bits {
        out.push(0xfb);
        return out.extend(bits.to_be_bytes());
    }
    match half_of(single) {
        Some(half) => {
            out.push(0xf9);
            out.extend(half.to_be_bytes());
        }
        None => {
            out.push(0xfa);
            out.extend(single.to_bits().to_be_bytes());
        }
    }
}

/// The half-precision number of the same value, if there is one.
fn half_of(single: f32) -> Option<u16> {
    let bits = single.to_bits();
    let sign = u16::try_from(bits >> 16).ok()? & 0x8000;
    let exponent = (bits >> 23) & 0xff;
    let fraction = bits & 0x007f_ffff;
    let magnitude = match exponent {
        0 if fraction == 0 => 0,
        0xff if fraction == 0 => 0x7c00,
        113..=142 if fraction.trailing_zeros() >= 13 => ((exponent - 112) << 10) | (fraction >> 13),
        103..=112 => {
            let whole = fraction | 0x0080_0000;
            let shift = 126 - exponent;
            if whole.trailing_zeros() < shift {
                return None;
            }
            whole >> shift
        }
        _ => return None,
    };
    Some(sign | u16::try_from(magnitude).ok()?)
}

fn half_to_double(half: u16) -> f64 {
    let sign = if half & 0x8000 == 0 { 1.0 } else { -1.0 };
    let exponent = i32::from((half >> 10) & 0x1f);
    let fraction = f64::from(half & 0x3ff);
    let value = match exponent {
        0 => fraction * 2f64.powi(-24),
        31 if fraction == 0.0 => f64::INFINITY,
        31 => f64::NAN,
        _ => (1024.0 + fraction) * 2f64.powi(exponent - 25),
    };
    sign * value
}

struct Parser<'i> {
    input: &'i [u8],
    position: usize,
    items_left: usize,
    form: Form,
}

/// The argument of a head: a number, or the sign that the length is open.
enum Argument {
    Number(u64),
    Open,
}

impl<'i> Parser<'i> {
    fn malformed(&self, what: &'static str) -> CborError {
        CborError::Malformed {
            what,
            at: self.position,
        }
    }

    fn take(&mut self, count: u64) -> Result<&'i [u8], CborError> {
        let rest = self.input.get(self.position..).unwrap_or_default();
        let taken = usize::try_from(count)
            .ok()
            .and_then(|count| rest.get(..count))
            .ok_or_else(|| self.malformed("it is cut off"))?;
        self.position += taken.len();
        Ok(taken)
    }

    fn at_break(&mut self) -> bool {
        let found = self.input.get(self.position) == Some(&0xff);
        if found {
            self.position += 1;
        }
        found
    }

    fn head(&mut self) -> Result<(u8, u8, Argument), CborError> {
        let (mut major, mut low) = (0, 0);
        if let [first] = self.take(1)? {
            (major, low) = (first >> 5, first & 0x1f);
        }
        let (value, least) = match low {
            0..24 => (u64::from(low), 0),
            24..=27 => {
                let mut value = 0;
                for byte in self.take(1 << (low - 24))? {
                    value = value << 8 | u64::from(*byte);
                }
                let least = match low {
                    24 => 24,
                    25 => 0x100,
                    26 => 0x1_0000,
                    _ => 0x1_0000_0000,
                };
                (value, least)
            }
            31 if (MAJOR_BYTES..=MAJOR_MAP).contains(&major) => {
                self.form.indefinite = true;
                return Ok((major, low, Argument::Open));
            }
            31 if major == MAJOR_SIMPLE => return Err(self.malformed("a break stands alone")),
            _ => return Err(self.malformed("a head is reserved")),
        };
        self.form.longer |= value < least && major != MAJOR_SIMPLE;
        Ok((major, low, Argument::Number(value)))
    }

    fn item(&mut self, depth: usize) -> Result<Item, CborError> {
        if depth > CBOR_DEPTH_MAX {
            return Err(CborError::TooDeep);
        }
        self.items_left = self
            .items_left
            .checked_sub(1)
            .ok_or(CborError::TooManyItems)?;
        let (major, low, argument) = self.head()?;
        Ok(match (major, argument) {
            (MAJOR_UNSIGNED, Argument::Number(value)) => Item::Unsigned(value),
            (MAJOR_NEGATIVE, Argument::Number(value)) => Item::Negative(value),
            (MAJOR_BYTES, argument) => Item::Bytes(self.string(MAJOR_BYTES, &argument)?),
            (MAJOR_TEXT, argument) => Item::Text(self.text(&argument)?),
            (MAJOR_ARRAY, argument) => Item::Array(self.array(&argument, depth)?),
            (MAJOR_MAP, argument) => Item::Map(self.map(&argument, depth)?),
            (MAJOR_TAG, Argument::Number(tag)) => Item::Tag(tag, Box::new(self.item(depth + 1)?)),
            (MAJOR_SIMPLE, Argument::Number(value)) => self.simple(low, value)?,
            _ => return Err(self.malformed("a head is reserved")),
        })
    }

    fn string(&mut self, major: u8, argument: &Argument) -> Result<Vec<u8>, CborError> {
        match argument {
            Argument::Number(length) => Ok(self.take(*length)?.to_vec()),
            Argument::Open => {
                let mut whole = Vec::new();
                while !self.at_break() {
                    whole.extend_from_slice(self.chunk(major)?);
                }
                Ok(whole)
            }
        }
    }

    fn chunk(&mut self, major: u8) -> Result<&'i [u8], CborError> {
        match self.head()? {
            (found, _, Argument::Number(length)) if found == major => self.take(length),
            _ => Err(self.malformed("a chunk is of another type than its string")),
        }
    }

    fn text(&mut self, argument: &Argument) -> Result<String, CborError> {
        let not_utf8 = "a text string is not UTF-8";
        match argument {
            Argument::Number(length) => {
                let text = std::str::from_utf8(self.take(*length)?);
                text.map(str::to_owned)
                    .map_err(|_| self.malformed(not_utf8))
            }
            Argument::Open => {
                let mut whole = String::new();
                while !self.at_break() {
                    // RFC 8949 section 3.2.3: no character is split between two chunks.
                    let chunk = std::str::from_utf8(self.chunk(MAJOR_TEXT)?);
                    whole.push_str(chunk.map_err(|_| self.malformed(not_utf8))?);
                }
                Ok(whole)
            }
        }
    }

    /// Nothing is set aside for the announced count: it is a stranger's word.
    fn array(&mut self, argument: &Argument, depth: usize) -> Result<Vec<Item>, CborError> {
        let mut items = Vec::new();
        match argument {
            Argument::Number(count) => {
                for _ in 0..*count {
                    items.push(self.item(depth + 1)?);
                }
            }
            Argument::Open => {
                while !self.at_break() {
                    items.push(self.item(depth + 1)?);
                }
            }
        }
        Ok(items)
    }

    fn map(&mut self, argument: &Argument, depth: usize) -> Result<Vec<(Item, Item)>, CborError> {
        let mut entries = Vec::new();
        let mut keys = std::collections::BTreeMap::new();
        let mut left = match argument {
            Argument::Number(count) => Some(*count),
            Argument::Open => None,
        };
        loop {
            match &mut left {
                Some(0) => break,
                Some(left) => *left -= 1,
                None if self.at_break() => break,
                None => {}
            }
            let key = self.item(depth + 1)?;
            // Two spellings of one number are one key, so what is compared is the deterministic
            // form.
            let encoded = key.encode();
            self.form.unsorted |= keys
                .last_key_value()
                .is_some_and(|(last, ())| *last > encoded);
            if keys.insert(encoded, ()).is_some() {
                return Err(CborError::DuplicateKey(key.to_string()));
            }
            entries.push((key, self.item(depth + 1)?));
        }
        Ok(entries)
    }

    fn simple(&mut self, low: u8, value: u64) -> Result<Item, CborError> {
        let small = u8::try_from(value).unwrap_or(u8::MAX);
        Ok(match low {
            0..24 => Item::Simple(small),
            24 if value < 32 => return Err(self.malformed("a simple value is reserved")),
            24 => Item::Simple(small),
            // The casts hold what the head has: two, four and eight octets.
            25 => Item::Float(half_to_double(u16::try_from(value).unwrap_or(0)).to_bits()),
            26 => {
                let single = f32::from_bits(u32::try_from(value).unwrap_or(0));
                Item::Float(f64::from(single).to_bits())
            }
            _ => Item::Float(value),
        })
    }
}
