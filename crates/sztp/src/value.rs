//! The lexical forms of values that both encodings share.

use base64::Engine as _;
use base64::alphabet;
use base64::engine::DecodePaddingMode;
use base64::engine::general_purpose::{GeneralPurpose, GeneralPurposeConfig, STANDARD};

use crate::restconf::{Fault, RestconfError};
use crate::schema::Reader;

const ANY_PADDING: GeneralPurposeConfig = GeneralPurposeConfig::new()
    .with_decode_padding_mode(DecodePaddingMode::Indifferent)
    .with_decode_allow_trailing_bits(true);
const LENIENT: GeneralPurpose = GeneralPurpose::new(&alphabet::STANDARD, ANY_PADDING);

/// Base64 as [RFC 4648 §4](https://www.rfc-editor.org/rfc/rfc4648.html#section-4) has it, or a
/// spelling that leniency names.
pub(crate) fn base64(text: &str, reader: &mut Reader<'_>) -> Result<Vec<u8>, RestconfError> {
    // SZTP-7951-6.6-01: binary is standard base64 with padding, not base64url.
    if let Ok(bytes) = STANDARD.decode(text) {
        return Ok(bytes);
    }
    let leniency = reader.leniency;
    let fail = |reader: &Reader<'_>| {
        reader.fail(
            Fault::BadBase64,
            "not base64 as RFC 4648 section 4 has it".to_owned(),
        )
    };
    let is_blank = |c: char| matches!(c, ' ' | '\t' | '\r' | '\n');
    let mut cleaned = text.to_owned();
    if cleaned.contains(is_blank) {
        reader.tolerate(
            leniency.base64_white_space,
            "base64-white-space",
            Fault::BadBase64,
            "base64 with white space in it",
        )?;
        cleaned.retain(|c| !is_blank(c));
    }
    if cleaned.contains(['-', '_']) && !cleaned.contains(['+', '/']) {
        reader.tolerate(
            leniency.base64_url,
            "base64-url",
            Fault::BadBase64,
            "base64url where base64 belongs",
        )?;
        cleaned = cleaned.replace('-', "+").replace('_', "/");
    }
    if let Ok(bytes) = STANDARD.decode(&cleaned) {
        return Ok(bytes);
    }
    let bytes = LENIENT.decode(&cleaned).map_err(|_| fail(reader))?;
    if !cleaned.len().is_multiple_of(4) {
        reader.tolerate(
            leniency.base64_padding,
            "base64-padding",
            Fault::BadBase64,
            "base64 without its padding",
        )?;
    }
    let canonical = STANDARD.encode(&bytes);
    if canonical.trim_end_matches('=') != cleaned.trim_end_matches('=') {
        reader.tolerate(
            leniency.base64_trailing_bits,
            "base64-trailing-bits",
            Fault::BadBase64,
            "base64 whose unused last bits are not zero",
        )?;
    }
    Ok(bytes)
}

/// Whether a YANG string may hold this character
/// ([RFC 7950 §9.4](https://www.rfc-editor.org/rfc/rfc7950.html#section-9.4)).
pub(crate) fn is_yang_char(c: char) -> bool {
    match c {
        '\t' | '\n' | '\r' => true,
        c if c < ' ' => false,
        // The last two code points of every plane and U+FDD0 to U+FDEF are no characters.
        c => !matches!(c as u32 & 0xffff, 0xfffe | 0xffff) && !matches!(c, '\u{fdd0}'..='\u{fdef}'),
    }
}

/// The text as a YANG string can hold it: what it cannot hold is replaced.
pub(crate) fn yang_string(text: &str) -> String {
    text.chars()
        .map(|c| {
            if is_yang_char(c) {
                c
            } else {
                char::REPLACEMENT_CHARACTER
            }
        })
        .collect()
}

/// A peer's text, short enough and without control characters, for a message.
pub(crate) fn shown(text: &str) -> String {
    const SHOWN_MAX_CHARS: usize = 60;
    let mut out: String = text
        .chars()
        .take(SHOWN_MAX_CHARS)
        .map(|c| {
            if c.is_control() || !is_yang_char(c) {
                char::REPLACEMENT_CHARACTER
            } else {
                c
            }
        })
        .collect();
    if text.chars().nth(SHOWN_MAX_CHARS).is_some() {
        out.push('…');
    }
    out
}
