//! PEM blocks (RFC 7468), read leniently and within limits.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use crate::limits::PEM_SIZE_MAX_BYTES;
use crate::{Document, Error};

/// A decoded block.
pub(crate) struct Block<'a> {
    pub(crate) label: &'a str,
    pub(crate) der: Vec<u8>,
}

/// All blocks of a text, in order. Text outside of blocks is skipped.
pub(crate) fn blocks(text: &str) -> impl Iterator<Item = Result<Block<'_>, Error>> {
    let mut rest = text;
    let mut failed = text.len() > PEM_SIZE_MAX_BYTES;
    let mut over_limit = failed;
    std::iter::from_fn(move || {
        if over_limit {
            over_limit = false;
            return Some(Err(Error::LimitExceeded {
                document: Document::Pem,
                what: "octets",
                limit: PEM_SIZE_MAX_BYTES,
            }));
        }
        if failed {
            return None;
        }
        let (_, after) = rest.split_once("-----BEGIN ")?;
        let block = read_block(after);
        match block {
            Ok((block, after)) => {
                rest = after;
                Some(Ok(block))
            }
            Err(detail) => {
                failed = true;
                Some(Err(Error::malformed(Document::Pem, detail)))
            }
        }
    })
}

fn read_block(after_begin: &str) -> Result<(Block<'_>, &str), &'static str> {
    let (label, after) = after_begin
        .split_once("-----")
        .ok_or("BEGIN line has no end")?;
    if label.len() > 64 || label.contains('\n') {
        return Err("label is malformed");
    }
    let (body, after) = after.split_once("-----END ").ok_or("END line is missing")?;
    let after = after
        .strip_prefix(label)
        .ok_or("END line has another label")?;
    let after = after.strip_prefix("-----").ok_or("END line is malformed")?;
    // Header lines, as RFC 1421 and OpenSSL's old formats have them, end with an empty line. That
    // of an encrypted key says that what follows is no DER.
    let body = if body.contains(':') {
        if body.contains("ENCRYPTED") {
            return Err("old encrypted keys are not supported; use PKCS#8");
        }
        let (_, after) = body
            .split_once("\n\n")
            .or_else(|| body.split_once("\r\n\r\n"))
            .ok_or("header lines have no end")?;
        after
    } else {
        body
    };
    let body: String = body.chars().filter(|c| !c.is_ascii_whitespace()).collect();
    let der = STANDARD.decode(body).map_err(|_| "body is not base64")?;
    Ok((Block { label, der }, after))
}

/// Encodes a block.
pub(crate) fn encode(label: &str, der: &[u8]) -> String {
    let mut out = format!("-----BEGIN {label}-----\n");
    let body = STANDARD.encode(der);
    let mut rest = body.as_str();
    while !rest.is_empty() {
        // Base64 is ASCII, so any position is a character border.
        let (line, after) = rest.split_at(rest.len().min(64));
        out.push_str(line);
        out.push('\n');
        rest = after;
    }
    out.push_str(&format!("-----END {label}-----\n"));
    out
}

/// Whether a file's octets are PEM rather than DER.
pub(crate) fn is_pem(bytes: &[u8]) -> bool {
    bytes
        .windows(11)
        .take(PEM_SIZE_MAX_BYTES)
        .any(|window| window == b"-----BEGIN ")
}

/// Reads a file.
pub(crate) fn read_file(path: &std::path::Path) -> Result<Vec<u8>, Error> {
    let failed = |detail: String| Error::File {
        path: path.display().to_string(),
        detail,
    };
    std::fs::read(path).map_err(|error| failed(error.to_string()))
}
