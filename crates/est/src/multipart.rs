//! The answer to server-side key generation: a private key and a certificate in one
//! `multipart/mixed` body
//! ([RFC 7030 §4.4.2](https://www.rfc-editor.org/rfc/rfc7030.html#section-4.4.2)).

use crate::{
    Error,
    body::{self, BodyTolerances, MediaType},
};

/// The two parts, as DER.
#[derive(Clone, PartialEq, Eq)]
pub struct Parts {
    /// An unencrypted PKCS#8 `PrivateKeyInfo`.
    pub private_key_pkcs8: Vec<u8>,
    /// The certs-only bag.
    pub certificates_pkcs7: Vec<u8>,
}

/// Shows no key.
impl std::fmt::Debug for Parts {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Parts").finish_non_exhaustive()
    }
}

/// The boundary. Base64 has no `-`, so no body can hold it.
const BOUNDARY: &str = "-usher-est-part-";

/// Most parts that are read.
const PARTS_MAX: usize = 8;

/// Writes the body and gives its Content-Type.
#[must_use]
pub fn write(private_key_pkcs8: &[u8], certificates_pkcs7: &[u8]) -> (String, Vec<u8>) {
    let mut out = Vec::new();
    for (content_type, der) in [
        // EST-4.4.2-02: "the private key data MUST be placed in an "application/pkcs8"".
        (body::PKCS8, private_key_pkcs8),
        (body::PKCS7_MIME_CERTS_ONLY, certificates_pkcs7),
    ] {
        let is_key = content_type == body::PKCS8;
        if !is_key && defects::seeded!("est-keygen-without-certificate") {
            continue;
        }
        let content_type = if is_key && defects::seeded!("est-keygen-key-as-octets") {
            "application/octet-stream"
        } else {
            content_type
        };
        out.extend_from_slice(
            format!(
                "--{BOUNDARY}\r\nContent-Type: {content_type}\r\n\
                 Content-Transfer-Encoding: base64\r\n\r\n"
            )
            .as_bytes(),
        );
        out.extend_from_slice(&body::encode(der));
        out.extend_from_slice(b"\r\n");
    }
    out.extend_from_slice(format!("--{BOUNDARY}--\r\n").as_bytes());
    // Quoted, since clients exist that misread an unquoted boundary with a leading hyphen.
    (format!("multipart/mixed; boundary=\"{BOUNDARY}\""), out)
}

/// Reads the two parts, in whichever order they come. Preamble, epilogue and unknown parts are
/// passed over.
///
/// # Errors
/// The media type is another, a part is missing or doubled, or a part is not base64.
pub fn read(content_type: &str, text: &[u8]) -> Result<Parts, Error> {
    let media_type = MediaType::parse(content_type)
        .filter(|media_type| media_type.essence() == "multipart/mixed")
        .ok_or_else(|| Error::MediaType(content_type.to_owned()))?;
    let boundary = media_type
        .parameter("boundary")
        .filter(|boundary| !boundary.is_empty() && boundary.len() <= 70)
        .ok_or(Error::Multipart("no boundary"))?;
    let text = std::str::from_utf8(text).map_err(|_| Error::Multipart("not text"))?;

    let mut key = None;
    let mut certificates = None;
    for part in parts(text, boundary)? {
        let (header, content) = split_header(&part);
        let Some(content_type) = header_value(header, "content-type").and_then(MediaType::parse)
        else {
            continue;
        };
        let slot = match content_type.essence() {
            body::PKCS8 => &mut key,
            // An encrypted key is another pkcs7-mime part, and we never ask for one.
            body::PKCS7_MIME
                if content_type
                    .parameter("smime-type")
                    .is_none_or(|kind| kind.eq_ignore_ascii_case("certs-only")) =>
            {
                &mut certificates
            }
            _ => continue,
        };
        let (der, _) = body::decode(
            content.as_bytes(),
            body::ANSWER_SIZE_MAX_BYTES,
            &BodyTolerances::default(),
        )?;
        if slot.replace(der).is_some() {
            return Err(Error::Multipart("a part stands there twice"));
        }
    }
    Ok(Parts {
        private_key_pkcs8: key.ok_or(Error::Multipart("no private key"))?,
        certificates_pkcs7: certificates.ok_or(Error::Multipart("no certificate"))?,
    })
}

fn parts(text: &str, boundary: &str) -> Result<Vec<String>, Error> {
    let delimiter = format!("--{boundary}");
    let mut parts: Vec<String> = Vec::new();
    let mut current: Option<String> = None;
    for line in text.lines() {
        match line.strip_prefix(&delimiter).map(str::trim_end) {
            Some("") => {
                if parts.len() == PARTS_MAX {
                    return Err(Error::Multipart("too many parts"));
                }
                parts.extend(current.replace(String::new()));
            }
            Some("--") => {
                parts.extend(current.take());
                return Ok(parts);
            }
            _ => {
                if let Some(current) = &mut current {
                    current.push_str(line);
                    current.push('\n');
                }
            }
        }
    }
    Err(Error::Multipart("the closing boundary is missing"))
}

fn split_header(part: &str) -> (&str, &str) {
    match part.strip_prefix('\n') {
        Some(content) => ("", content),
        None => part.split_once("\n\n").unwrap_or((part, "")),
    }
}

fn header_value<'a>(header: &'a str, name: &str) -> Option<&'a str> {
    header.lines().find_map(|line| {
        let (found, value) = line.split_once(':')?;
        found
            .trim()
            .eq_ignore_ascii_case(name)
            .then(|| value.trim())
    })
}
