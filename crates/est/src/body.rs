//! Bodies and media types.
//!
//! [RFC 8951 §3](https://www.rfc-editor.org/rfc/rfc8951.html#section-3): each body is the base64
//! of a DER encoding, whatever a Content-Transfer-Encoding says, and a reader tolerates white
//! space in it. A PEM file or plain DER in its place is a known habit of clients and accepted
//! only behind a named tolerance.

use base64::{
    Engine,
    engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig},
};
use pki::{Blame, Coded};

/// Largest body of a request that is read, before base64 is undone.
pub const BODY_SIZE_MAX_BYTES: usize = 64 * 1024;

/// Largest body of an answer that is read, before base64 is undone: a `/cacerts` bag may carry a
/// chain of post-quantum certificates.
pub const ANSWER_SIZE_MAX_BYTES: usize = 1024 * 1024;

/// Media type of a certification request.
pub const PKCS10: &str = "application/pkcs10";
/// Media type of a certs-only bag of CA certificates.
pub const PKCS7_MIME: &str = "application/pkcs7-mime";
/// Media type of an answer with an issued certificate.
pub const PKCS7_MIME_CERTS_ONLY: &str = "application/pkcs7-mime; smime-type=certs-only";
/// Media type of CSR attributes.
pub const CSR_ATTRS: &str = "application/csrattrs";
/// Media type of an unencrypted private key.
pub const PKCS8: &str = "application/pkcs8";
/// Media type of a refusal.
pub const TEXT_PLAIN: &str = "text/plain; charset=utf-8";

/// Departures from RFC 8951 that a peer may be allowed, each off by default.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct BodyTolerances {
    /// Plain DER where base64 belongs.
    pub binary_der: bool,
    /// PEM armour around the base64.
    pub pem: bool,
}

impl BodyTolerances {
    /// All tolerances.
    #[must_use]
    pub const fn all() -> Self {
        Self {
            binary_der: true,
            pem: true,
        }
    }
}

/// A tolerance that was used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BodyOddity {
    /// The body was plain DER.
    BinaryDer,
    /// The body was a PEM file.
    Pem,
}

impl BodyOddity {
    /// The tolerance's stable name.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::BinaryDer => "est-body-binary-der",
            Self::Pem => "est-body-pem",
        }
    }
}

/// Why a body cannot be read. Always the sender's fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum BodyError {
    /// Plain DER, and that tolerance is off.
    #[error("the body is plain DER where base64 belongs")]
    BinaryDer,
    /// Nothing, or white space only.
    #[error("the body is empty")]
    Empty,
    /// Not base64.
    #[error("the body is not base64")]
    NotBase64,
    /// PEM, and that tolerance is off.
    #[error("the body is PEM where bare base64 belongs")]
    Pem,
    /// Longer than the limit.
    #[error("the body is longer than {limit_bytes} bytes")]
    TooLarge {
        /// The limit.
        limit_bytes: usize,
    },
}

impl Coded for BodyError {
    fn code(&self) -> &'static str {
        match self {
            Self::BinaryDer => "est.body-binary-der",
            Self::Empty => "est.body-empty",
            Self::NotBase64 => "est.body-not-base64",
            Self::Pem => "est.body-pem",
            Self::TooLarge { .. } => "est.body-too-large",
        }
    }

    fn blame(&self) -> Blame {
        Blame::PeerMisbehaved
    }
}

// Padding is demanded by RFC 4648 and left out by some clients, which costs nothing to read.
const READER: GeneralPurpose = GeneralPurpose::new(
    &base64::alphabet::STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// Undoes the base64 of a body.
///
/// # Errors
/// See [`BodyError`].
pub fn decode(
    body: &[u8],
    limit_bytes: usize,
    tolerances: &BodyTolerances,
) -> Result<(Vec<u8>, Option<BodyOddity>), BodyError> {
    if body.len() > limit_bytes {
        return Err(BodyError::TooLarge { limit_bytes });
    }
    // A DER SEQUENCE longer than 127 bytes starts with 30 8x, and 8x is no ASCII. A short one
    // starts with '0' and a length: 30 00 is the only one that could be mistaken, and an empty
    // SEQUENCE has no use here.
    if let [0x30, second, ..] = body
        && (*second >= 0x80 || looks_binary(body))
    {
        return if tolerances.binary_der {
            Ok((body.to_vec(), Some(BodyOddity::BinaryDer)))
        } else {
            Err(BodyError::BinaryDer)
        };
    }
    let (text, oddity) = match pem_content(body) {
        Some(_) if !tolerances.pem => return Err(BodyError::Pem),
        Some(content) => (content, Some(BodyOddity::Pem)),
        None => (body, None),
    };
    // EST8951-3.1-01: "white space including CR, LF, spaces (ASCII 32), and tabs (ASCII 9) SHOULD
    // be tolerated by receivers."
    if defects::seeded!("est-refuses-white-space") && text.contains(&b'\n') {
        return Err(BodyError::NotBase64);
    }
    if defects::seeded!("est-refuses-long-lines") && !text.contains(&b'\n') {
        return Err(BodyError::NotBase64);
    }
    let text: Vec<u8> = text
        .iter()
        .copied()
        .filter(|byte| !matches!(byte, b'\r' | b'\n' | b' ' | b'\t'))
        .collect();
    if text.is_empty() {
        return Err(BodyError::Empty);
    }
    let bytes = READER.decode(&text).map_err(|_| BodyError::NotBase64)?;
    Ok((bytes, oddity))
}

/// Base64 on one line, as [RFC 4648 §4](https://www.rfc-editor.org/rfc/rfc4648.html#section-4)
/// has it.
#[must_use]
pub fn encode(der: &[u8]) -> Vec<u8> {
    base64::engine::general_purpose::STANDARD
        .encode(der)
        .into_bytes()
}

fn looks_binary(body: &[u8]) -> bool {
    body.iter()
        .any(|byte| !byte.is_ascii() || (byte.is_ascii_control() && !byte.is_ascii_whitespace()))
}

/// What stands between the first BEGIN line and its END line.
fn pem_content(body: &[u8]) -> Option<&[u8]> {
    let text = std::str::from_utf8(body).ok()?;
    let (_, rest) = text.split_once("-----BEGIN ")?;
    let (_, rest) = rest.split_once("-----")?;
    let (content, _) = rest.split_once("-----END ")?;
    Some(content.as_bytes())
}

/// A media type with its parameters; type and parameter names compare without regard to case.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MediaType {
    essence: String,
    parameters: Vec<(String, String)>,
}

/// Most parameters of a media type that are read.
const PARAMETERS_MAX: usize = 16;

impl MediaType {
    /// Reads a Content-Type value. `None` if it has no type and subtype.
    #[must_use]
    pub fn parse(value: &str) -> Option<Self> {
        let mut parts = split_outside_quotes(value).into_iter();
        let essence = parts.next()?.trim().to_ascii_lowercase();
        let (kind, subtype) = essence.split_once('/')?;
        if kind.is_empty() || subtype.is_empty() || essence.contains(char::is_whitespace) {
            return None;
        }
        let parameters = parts
            .take(PARAMETERS_MAX)
            .filter_map(|parameter| {
                let (name, value) = parameter.split_once('=')?;
                Some((name.trim().to_ascii_lowercase(), unquote(value.trim())))
            })
            .collect();
        Some(Self {
            essence,
            parameters,
        })
    }

    /// `type/subtype` in lower case.
    #[must_use]
    pub fn essence(&self) -> &str {
        &self.essence
    }

    /// The value of a parameter, by its name in lower case.
    #[must_use]
    pub fn parameter(&self, name: &str) -> Option<&str> {
        self.parameters
            .iter()
            .find(|(known, _)| known == name)
            .map(|(_, value)| value.as_str())
    }
}

/// Splits at each `;` that does not stand inside a quoted string.
fn split_outside_quotes(value: &str) -> Vec<&str> {
    let mut parts = Vec::new();
    let mut rest = value;
    while parts.len() <= PARAMETERS_MAX {
        let mut quoted = false;
        let mut escaped = false;
        let end = rest.find(|character: char| {
            if escaped {
                escaped = false;
                return false;
            }
            match character {
                '\\' if quoted => escaped = true,
                '"' => quoted = !quoted,
                ';' if !quoted => return true,
                _ => {}
            }
            false
        });
        let Some((part, tail)) = end.and_then(|end| rest.split_at_checked(end)) else {
            break;
        };
        parts.push(part);
        rest = tail.strip_prefix(';').unwrap_or(tail);
    }
    parts.push(rest);
    parts
}

fn unquote(value: &str) -> String {
    let Some(inner) = value
        .strip_prefix('"')
        .and_then(|value| value.strip_suffix('"'))
    else {
        return value.to_owned();
    };
    let mut unquoted = String::with_capacity(inner.len());
    let mut escaped = false;
    for character in inner.chars() {
        if character == '\\' && !escaped {
            escaped = true;
        } else {
            unquoted.push(character);
            escaped = false;
        }
    }
    unquoted
}
