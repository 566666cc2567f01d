//! Several representations in one body, as a CBOR array
//! ([RFC 8710](https://www.rfc-editor.org/rfc/rfc8710.html)).

use coap::format;

use crate::Error;

/// Most parts that are read.
const PARTS_MAX: usize = 32;

const UNSIGNED: u8 = 0;
const BYTES: u8 = 2;
const ARRAY: u8 = 4;
const NULL: u8 = 0xf6;
const ARRAY_OF_ANY_LENGTH: u8 = 0x9f;
const BREAK: u8 = 0xff;

/// A representation with the number of its format; none where one is absent.
pub type Part<'a> = (u16, Option<&'a [u8]>);

/// Writes the array, in the order of the parts.
#[must_use]
pub fn write(parts: &[Part<'_>]) -> Vec<u8> {
    let mut out = Vec::new();
    head(&mut out, ARRAY, parts.len() * 2);
    for (format, content) in parts {
        head(&mut out, UNSIGNED, usize::from(*format));
        match content {
            Some(content) => {
                head(&mut out, BYTES, content.len());
                out.extend_from_slice(content);
            }
            // ESC-064: a null second item means an absent representation.
            None => out.push(NULL),
        }
    }
    out
}

/// Reads the array.
///
/// # Errors
/// It is not one, or something follows it.
pub fn read(body: &[u8]) -> Result<Vec<Part<'_>>, Error> {
    let mut reader = Reader(body);
    let mut left = match reader.0.split_first() {
        Some((&ARRAY_OF_ANY_LENGTH, rest)) => {
            reader.0 = rest;
            None
        }
        _ => Some(reader.head(ARRAY, "not an array")?),
    };
    if left.is_some_and(|items| items % 2 != 0) {
        return Err(Error::Multipart("a format without its representation"));
    }
    let mut parts = Vec::new();
    loop {
        match &mut left {
            Some(0) => break,
            Some(items) => *items -= 2,
            None => {
                if let Some((&BREAK, rest)) = reader.0.split_first() {
                    reader.0 = rest;
                    break;
                }
            }
        }
        if parts.len() == PARTS_MAX {
            return Err(Error::Multipart("too many parts"));
        }
        let format = reader.head(UNSIGNED, "a format is not a number")?;
        let format = u16::try_from(format).map_err(|_| Error::Multipart("no such format"))?;
        let content = match reader.0.split_first() {
            Some((&NULL, rest)) => {
                reader.0 = rest;
                None
            }
            _ => {
                let length = reader.head(BYTES, "a representation is not a byte string")?;
                let (content, rest) = usize::try_from(length)
                    .ok()
                    .and_then(|length| reader.0.split_at_checked(length))
                    .ok_or(Error::Multipart("a representation is cut off"))?;
                reader.0 = rest;
                Some(content)
            }
        };
        parts.push((format, content));
    }
    if !reader.0.is_empty() {
        return Err(Error::Multipart("something follows the array"));
    }
    Ok(parts)
}

/// A generated key and its certificates, of the answer to `skg` or `skc`.
///
/// # Errors
/// A part is missing or doubled.
pub fn key_and_certificates(body: &[u8]) -> Result<(Vec<u8>, Vec<pki::Certificate>), Error> {
    let (mut key, mut certificates) = (None, None);
    // ESC-028: Parts of a 62 response are accepted in any order.
    for (format, content) in read(body)? {
        let Some(content) = content else { continue };
        let twice = match format {
            format::PKCS8 => key.replace(content.to_vec()).is_some(),
            format::PKCS7_CERTS_ONLY => certificates
                .replace(pki::pkcs7::parse_certs_only(content)?)
                .is_some(),
            format::PKIX_CERT => certificates
                .replace(vec![pki::Certificate::from_der(content)?])
                .is_some(),
            // An encrypted key is one that we never ask for.
            _ => false,
        };
        if twice {
            return Err(Error::Multipart("a part stands there twice"));
        }
    }
    Ok((
        key.ok_or(Error::Multipart("no private key"))?,
        certificates.ok_or(Error::Multipart("no certificate"))?,
    ))
}

/// Writes a major type with its argument in the shortest form.
fn head(out: &mut Vec<u8>, major: u8, argument: usize) {
    let major = major << 5;
    let argument = argument as u64;
    if let Ok(byte @ 0..=23) = u8::try_from(argument) {
        out.push(major | byte);
    } else if let Ok(byte) = u8::try_from(argument) {
        out.extend_from_slice(&[major | 24, byte]);
    } else if let Ok(word) = u16::try_from(argument) {
        out.push(major | 25);
        out.extend_from_slice(&word.to_be_bytes());
    } else if let Ok(word) = u32::try_from(argument) {
        out.push(major | 26);
        out.extend_from_slice(&word.to_be_bytes());
    } else {
        out.push(major | 27);
        out.extend_from_slice(&argument.to_be_bytes());
    }
}

struct Reader<'a>(&'a [u8]);

impl Reader<'_> {
    /// The argument of an item of that major type.
    fn head(&mut self, major: u8, otherwise: &'static str) -> Result<u64, Error> {
        let (&first, rest) = self.0.split_first().ok_or(Error::Multipart("cut off"))?;
        if first >> 5 != major {
            return Err(Error::Multipart(otherwise));
        }
        let length = match first & 0x1f {
            small @ 0..=23 => {
                self.0 = rest;
                return Ok(u64::from(small));
            }
            24 => 1,
            25 => 2,
            26 => 4,
            27 => 8,
            _ => return Err(Error::Multipart(otherwise)),
        };
        let (bytes, rest) = rest
            .split_at_checked(length)
            .ok_or(Error::Multipart("cut off"))?;
        self.0 = rest;
        Ok(bytes
            .iter()
            .fold(0, |value, byte| (value << 8) | u64::from(*byte)))
    }
}
