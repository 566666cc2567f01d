//! The leaves of vouchers and requests as proven types.

use std::fmt;

use base64::Engine as _;
use base64::alphabet;
use base64::engine::DecodePaddingMode;
use base64::engine::general_purpose::{
    GeneralPurpose, GeneralPurposeConfig, STANDARD, URL_SAFE_NO_PAD,
};
use pki::Certificate;

/// Longest serial number in octets; X.520 itself stops at 64 characters.
pub const SERIAL_NUMBER_LENGTH_MAX_BYTES: usize = 256;
/// Shortest and longest nonce in octets
/// ([RFC 8366 §5.3](https://www.rfc-editor.org/rfc/rfc8366.html#section-5.3)).
pub const NONCE_LENGTH_BYTES: std::ops::RangeInclusive<usize> = 8..=32;
/// Longest idevid-issuer in octets.
const IDEVID_ISSUER_LENGTH_MAX_BYTES: usize = 1024;

/// Any spelling of base64: padding may be missing, left-over bits may be set.
const LENIENT: GeneralPurposeConfig = GeneralPurposeConfig::new()
    .with_decode_padding_mode(DecodePaddingMode::Indifferent)
    .with_decode_allow_trailing_bits(true);
const LENIENT_STANDARD: GeneralPurpose = GeneralPurpose::new(&alphabet::STANDARD, LENIENT);
const LENIENT_URL: GeneralPurpose = GeneralPurpose::new(&alphabet::URL_SAFE, LENIENT);

/// Base64 as [RFC 4648 §4](https://www.rfc-editor.org/rfc/rfc4648.html#section-4) has it.
pub(crate) fn decode_base64(text: &str) -> Option<Vec<u8>> {
    STANDARD.decode(text).ok()
}

/// Base64 in either alphabet, padded or not, with white space in it.
pub(crate) fn decode_base64_leniently(text: &str) -> Option<Vec<u8>> {
    let text: String = text
        .chars()
        .filter(|c| !matches!(c, ' ' | '\t' | '\r' | '\n'))
        .collect();
    LENIENT_STANDARD
        .decode(&text)
        .or_else(|_| LENIENT_URL.decode(&text))
        .ok()
}

pub(crate) fn encode_base64(bytes: &[u8]) -> String {
    STANDARD.encode(bytes)
}

pub(crate) fn encode_base64url(bytes: &[u8]) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

/// The serial number of a device: X520SerialNumber of its IDevID, never the serial number
/// of a certificate. Compared octet for octet.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SerialNumber(String);

impl SerialNumber {
    /// Takes the text if it is one: not empty, at most
    /// [`SERIAL_NUMBER_LENGTH_MAX_BYTES`], no control characters.
    #[must_use]
    pub fn new(text: impl Into<String>) -> Option<Self> {
        let text = text.into();
        let right = !text.is_empty()
            && text.len() <= SERIAL_NUMBER_LENGTH_MAX_BYTES
            && !text.chars().any(char::is_control);
        right.then_some(Self(text))
    }

    /// The text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for SerialNumber {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A nonce, kept as the text it came in: what is copied into a voucher has to be the
/// pledge's own spelling, whatever base64 that is.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Nonce {
    text: String,
}

impl Nonce {
    /// Writes fresh random octets as a nonce, when there are 8 to 32 of them.
    #[must_use]
    pub fn from_octets(octets: &[u8]) -> Option<Self> {
        NONCE_LENGTH_BYTES.contains(&octets.len()).then(|| Self {
            text: encode_base64(octets),
        })
    }

    /// Takes the text when it decodes, in any spelling of base64, to 8 to 32 octets.
    #[must_use]
    pub fn from_text(text: impl Into<String>) -> Option<Self> {
        let text = text.into();
        let octets = decode_base64_leniently(&text)?;
        let fits = NONCE_LENGTH_BYTES.contains(&octets.len());
        (fits || defects::seeded!("request-any-nonce")).then_some(Self { text })
    }

    /// Takes a text that is no base64, when it is 8 to 64 printable characters long.
    pub(crate) fn from_opaque(text: &str) -> Option<Self> {
        let right = (8..=64).contains(&text.len()) && !text.chars().any(char::is_control);
        right.then(|| Self {
            text: text.to_owned(),
        })
    }

    /// Takes any short text to compare received nonces with. It need not be a nonce that could
    /// be sent: then nothing equals it.
    #[must_use]
    pub fn to_compare(text: impl Into<String>) -> Self {
        Self { text: text.into() }
    }

    /// The text as it was received.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// The octets, or those of the text when it is no base64.
    #[must_use]
    pub fn octets(&self) -> Vec<u8> {
        decode_base64_leniently(&self.text).unwrap_or_else(|| self.text.as_bytes().to_vec())
    }
}

impl fmt::Display for Nonce {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// How the MASA knows who the owner is
/// ([RFC 8366 §5.3](https://www.rfc-editor.org/rfc/rfc8366.html#section-5.3)).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Assertion {
    /// By its own records of sales.
    Verified,
    /// It does not; the issuance is in the log.
    Logged,
    /// The pledge's signed statement that it saw this registrar.
    Proximity,
    /// A registrar-agent's signed statement that it saw the pledge.
    AgentProximity,
}

impl Assertion {
    /// All four, in the order of the YANG enumeration.
    pub const ALL: [Self; 4] = [
        Self::Verified,
        Self::Logged,
        Self::Proximity,
        Self::AgentProximity,
    ];

    /// The YANG name.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Verified => "verified",
            Self::Logged => "logged",
            Self::Proximity => "proximity",
            Self::AgentProximity => "agent-proximity",
        }
    }

    /// Its value in the YANG enumeration, which CBOR carries.
    #[must_use]
    pub fn number(self) -> u64 {
        match self {
            Self::Verified => 0,
            Self::Logged => 1,
            Self::Proximity => 2,
            Self::AgentProximity => 3,
        }
    }

    /// Reads the value.
    #[must_use]
    pub fn from_number(number: u64) -> Option<Self> {
        Self::ALL
            .into_iter()
            .find(|assertion| assertion.number() == number)
    }

    /// Reads the YANG name.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL
            .into_iter()
            .find(|assertion| assertion.as_str() == name)
    }
}

impl fmt::Display for Assertion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Which of the forms in the field an idevid-issuer has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IdevidIssuerForm {
    /// The whole extnValue, OCTET STRING included: `04 18 30 16 80 14 …`; the standard's.
    ExtensionValue,
    /// The AuthorityKeyIdentifier SEQUENCE: `30 16 80 14 …`.
    Sequence,
    /// The key identifier alone, 20 octets as a rule.
    KeyId,
}

/// The authority key identifier of an IDevID, which makes its serial number unique.
#[derive(Clone, Debug)]
pub struct IdevidIssuer {
    bytes: Vec<u8>,
    form: IdevidIssuerForm,
}

impl IdevidIssuer {
    /// Reads any of the three forms.
    #[must_use]
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        if bytes.len() > IDEVID_ISSUER_LENGTH_MAX_BYTES {
            return None;
        }
        let form = if unwrap(bytes, 0x04).is_some_and(|inner| unwrap(inner, 0x30).is_some()) {
            IdevidIssuerForm::ExtensionValue
        } else if unwrap(bytes, 0x30).is_some() {
            IdevidIssuerForm::Sequence
        } else if (4..=64).contains(&bytes.len()) {
            IdevidIssuerForm::KeyId
        } else {
            return None;
        };
        Some(Self {
            bytes: bytes.to_vec(),
            form,
        })
    }

    /// The value that
    /// [rfc8366bis §6.1](https://datatracker.ietf.org/doc/html/draft-ietf-anima-rfc8366bis#section-6.1)
    /// gives for an IDevID: its authority key identifier extension, or one made of the
    /// SHA-1 of its own key when it has none.
    #[must_use]
    pub fn of(idevid: &Certificate) -> Self {
        let sequence = idevid.authority_key_id_extension().unwrap_or_else(|| {
            let key_id = idevid.public_key().sha1_key_id();
            let mut sequence = vec![0x30, 22, 0x80, 20];
            sequence.extend_from_slice(&key_id);
            sequence
        });
        Self {
            bytes: wrap_octet_string(&sequence),
            form: IdevidIssuerForm::ExtensionValue,
        }
    }

    /// The octets as they were received.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Which form that is.
    #[must_use]
    pub fn form(&self) -> IdevidIssuerForm {
        self.form
    }

    /// The key identifier in it; none when the extension names issuer and number only.
    #[must_use]
    pub fn key_id(&self) -> Option<&[u8]> {
        match self.sequence() {
            Some(sequence) => {
                let content = unwrap(sequence, 0x30)?;
                first_element(content, 0x80)
            }
            None => Some(&self.bytes),
        }
    }

    /// Whether both name the same issuer: the whole structures are compared when both have
    /// one, the key identifiers otherwise.
    #[must_use]
    pub fn matches(&self, other: &Self) -> bool {
        match (self.sequence(), other.sequence()) {
            (Some(mine), Some(theirs)) => mine == theirs,
            _ => self.key_id().is_some() && self.key_id() == other.key_id(),
        }
    }

    fn sequence(&self) -> Option<&[u8]> {
        match self.form {
            IdevidIssuerForm::ExtensionValue => unwrap(&self.bytes, 0x04),
            IdevidIssuerForm::Sequence => Some(&self.bytes),
            IdevidIssuerForm::KeyId => None,
        }
    }
}

/// The content of the DER element that fills `bytes`, when it has this tag.
fn unwrap(bytes: &[u8], tag: u8) -> Option<&[u8]> {
    let (content, rest) = element(bytes, tag)?;
    rest.is_empty().then_some(content)
}

/// The content of the first DER element of `bytes`, when it has this tag.
fn first_element(bytes: &[u8], tag: u8) -> Option<&[u8]> {
    element(bytes, tag).map(|(content, _)| content)
}

fn element(bytes: &[u8], tag: u8) -> Option<(&[u8], &[u8])> {
    let (&found, rest) = bytes.split_first()?;
    let (&first, mut rest) = rest.split_first()?;
    let length = match first {
        0..=0x7f => usize::from(first),
        0x81 | 0x82 => {
            let (digits, after) = rest.split_at_checked(usize::from(first & 0x7f))?;
            rest = after;
            digits
                .iter()
                .fold(0, |length, digit| length << 8 | usize::from(*digit))
        }
        _ => return None,
    };
    if found != tag {
        return None;
    }
    rest.split_at_checked(length)
}

fn wrap_octet_string(content: &[u8]) -> Vec<u8> {
    let length = content.len();
    let mut out = vec![0x04];
    match u8::try_from(length) {
        Ok(short) if short < 0x80 => out.push(short),
        Ok(byte) => out.extend([0x81, byte]),
        // An extension of a certificate that parsed is far below 64 KiB; a longer one is
        // cut off by the size limits before it gets here.
        Err(_) => {
            let [high, low] = u16::try_from(length).unwrap_or(u16::MAX).to_be_bytes();
            out.extend([0x82, high, low]);
        }
    }
    out.extend_from_slice(content);
    out
}

/// The domain's name in an audit log: the pinned certificate's SubjectKeyIdentifier, or
/// else the SHA-256 of its public key
/// ([RFC 8995 §5.8.2](https://www.rfc-editor.org/rfc/rfc8995.html#section-5.8.2)).
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DomainId(Vec<u8>);

impl DomainId {
    /// The identifier of a pinned certificate.
    #[must_use]
    pub fn of(pinned: &Certificate) -> Self {
        // BRSKI-5.8.2-01: the SubjectKeyIdentifier of the pinned-domain-cert, or the SHA-256
        // SPKI fingerprint if it has none.
        Self(
            pinned
                .subject_key_id()
                .unwrap_or_else(|| pinned.public_key().sha256().to_vec()),
        )
    }

    /// Takes the octets.
    #[must_use]
    pub fn from_bytes(bytes: impl Into<Vec<u8>>) -> Self {
        Self(bytes.into())
    }

    /// Reads the base64 text of an audit log.
    #[must_use]
    pub fn from_text(text: &str) -> Option<Self> {
        decode_base64_leniently(text)
            .filter(|bytes| !bytes.is_empty())
            .map(Self)
    }

    /// The octets.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Display for DomainId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&encode_base64(&self.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Requirements: VOUCHER-5.3-22
    #[test]
    fn nonces_are_8_to_32_octets_in_any_base64() {
        for (text, octets) in [
            ("-_XE9zK9q8Ll1qylMtLKeg", Some(16)),
            ("TauvK+Y/cc2RfIFvpZzfKQ==", Some(16)),
            ("62a2e7693d82fcda2624de58fb6722e5", Some(24)),
            ("base64encodedvalue==", Some(13)),
            ("AAAAAAAAAAA=", Some(8)),
            ("AAAAAAAAAA==", None),
            ("AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=", Some(32)),
            ("AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA", None),
            ("not base64!", None),
            ("", None),
        ] {
            let nonce = Nonce::from_text(text);
            assert_eq!(
                nonce.as_ref().map(|nonce| nonce.octets().len()),
                octets,
                "{text}"
            );
            assert!(nonce.is_none_or(|nonce| nonce.as_str() == text));
        }
    }

    /// Requirements: VOUCHERBIS-6.3-01
    #[test]
    fn idevid_issuer_is_the_same_in_all_three_forms() {
        let key_id = [7_u8; 20];
        let sequence = [&[0x30, 22, 0x80, 20][..], &key_id].concat();
        let extension = [&[0x04, 24][..], &sequence].concat();
        let forms = [&extension[..], &sequence, &key_id]
            .map(|bytes| IdevidIssuer::from_bytes(bytes).unwrap());
        assert_eq!(
            forms.each_ref().map(IdevidIssuer::form),
            [
                IdevidIssuerForm::ExtensionValue,
                IdevidIssuerForm::Sequence,
                IdevidIssuerForm::KeyId,
            ]
        );
        let other = IdevidIssuer::from_bytes(&[8; 20]).unwrap();
        for form in &forms {
            assert_eq!(form.key_id(), Some(&key_id[..]));
            assert!(forms.iter().all(|another| form.matches(another)));
            assert!(!form.matches(&other));
        }
        assert!(IdevidIssuer::from_bytes(&[]).is_none());
        assert!(IdevidIssuer::from_bytes(&[1; 65]).is_none());
    }

    #[test]
    fn serial_numbers_are_printable_and_bounded() {
        assert!(SerialNumber::new("00-D0-E5-F2-00-02").is_some());
        assert!(SerialNumber::new("PID:XY SN:é").is_some());
        for wrong in ["", "a\u{0}", "a\n", &"x".repeat(257)] {
            assert!(SerialNumber::new(wrong).is_none(), "{wrong:?}");
        }
    }
}
