//! Voucher data in XML: RFC 8366 has JSON only, RFC 8572 §3.3 has whatever encoding goes with
//! id-data, and some stacks write the module's XML.

use serde_json::{Map, Value};

use crate::error::{Document, Error, Fault};
use crate::json::{JSON_SIZE_MAX_BYTES, shown};
use crate::voucher::VOUCHER_MEMBER;
use crate::xml;

const NAMESPACE: &str = "urn:ietf:params:xml:ns:yang:ietf-voucher";

/// Whether the text begins as XML does.
pub(crate) fn is_xml(text: &[u8]) -> bool {
    let text = text.strip_prefix(b"\xef\xbb\xbf").unwrap_or(text);
    text.trim_ascii_start().first() == Some(&b'<')
}

/// The same data in JSON, to be read as such.
pub(crate) fn to_json(bytes: &[u8]) -> Result<Vec<u8>, Error> {
    let fail = |fault, detail: String| Error::new(Document::Voucher, fault, detail);
    let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes);
    let root = xml::parse(Document::Voucher, bytes, JSON_SIZE_MAX_BYTES)?;
    if root.name != "voucher" || root.namespace != NAMESPACE {
        let detail = format!("the root is <{}>", shown(&root.name));
        return Err(fail(Fault::TopLevelName, detail));
    }
    let mut members = Map::new();
    for child in root.children {
        if child.namespace != NAMESPACE || !child.children.is_empty() {
            let detail = format!("<{}> is no leaf of a voucher", shown(&child.name));
            return Err(fail(Fault::WrongType, detail));
        }
        let value = match (child.name.as_str(), child.text.as_str()) {
            ("domain-cert-revocation-checks", "true") => Value::Bool(true),
            ("domain-cert-revocation-checks", "false") => Value::Bool(false),
            _ => Value::String(child.text),
        };
        if members.insert(child.name.clone(), value).is_some() {
            let detail = format!("<{}> stands twice", shown(&child.name));
            return Err(fail(Fault::DuplicateMember, detail));
        }
    }
    let mut top = Map::new();
    top.insert(VOUCHER_MEMBER.to_owned(), Value::Object(members));
    Ok(Value::Object(top).to_string().into_bytes())
}
