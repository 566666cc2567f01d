//! The artefacts and messages of RFC 8572, by hand, in JSON and XML.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde_json::{Value, json};

use super::{
    cms::{SZTP_JSON, SZTP_XML, certs_only},
    der,
    key::Hash,
};

/// The namespace of get-bootstrapping-data and report-progress.
pub const NAMESPACE: &str = "urn:ietf:params:xml:ns:yang:ietf-sztp-bootstrap-server";
/// The namespace of conveyed information.
pub const CONVEYED_NAMESPACE: &str = "urn:ietf:params:xml:ns:yang:ietf-sztp-conveyed-info";
/// JSON over RESTCONF.
pub const YANG_JSON: &str = "application/yang-data+json";
/// XML over RESTCONF.
pub const YANG_XML: &str = "application/yang-data+xml";
/// EnvelopedData.
pub const ENVELOPED_DATA: &str = "1.2.840.113549.1.7.3";

/// Base64.
#[must_use]
pub fn base64(octets: &[u8]) -> String {
    STANDARD.encode(octets)
}

/// A ContentInfo of any type around an OCTET STRING: conveyed information that nobody signed.
#[must_use]
pub fn unsigned(content: &[u8], kind: &str) -> Vec<u8> {
    der::seq(&[der::oid(kind), der::explicit(0, &der::octets(content))])
}

/// Unsigned conveyed information in JSON.
#[must_use]
pub fn unsigned_json(content: &[u8]) -> Vec<u8> {
    unsigned(content, SZTP_JSON)
}

/// Unsigned conveyed information in XML.
#[must_use]
pub fn unsigned_xml(content: &[u8]) -> Vec<u8> {
    unsigned(content, SZTP_XML)
}

/// onboarding-information.
#[must_use]
pub fn onboarding(value: Value) -> Vec<u8> {
    json!({ "ietf-sztp-conveyed-info:onboarding-information": value })
        .to_string()
        .into_bytes()
}

/// redirect-information.
#[must_use]
pub fn redirect(servers: &[Value]) -> Vec<u8> {
    json!({ "ietf-sztp-conveyed-info:redirect-information": { "bootstrap-server": servers } })
        .to_string()
        .into_bytes()
}

/// An entry of redirect-information, with the chain that its trust-anchor holds.
#[must_use]
pub fn server(address: &str, port: u16, anchor: Option<&[Vec<u8>]>) -> Value {
    let mut server = json!({ "address": address, "port": port });
    if let Some(chain) = anchor {
        server["trust-anchor"] = base64(&certs_only(chain)).into();
    }
    server
}

/// The colon-separated SHA-256 of an image.
#[must_use]
pub fn hash_value(image: &[u8]) -> String {
    let digest = Hash::Sha256.of(image);
    let octets: Vec<String> = digest.iter().map(|octet| format!("{octet:02x}")).collect();
    octets.join(":")
}

/// XML text.
#[must_use]
pub fn escaped(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
}

/// The value of the first element of this name, whatever its prefix: enough for messages without
/// nesting of the same name.
#[must_use]
pub fn element(text: &str, name: &str) -> Option<String> {
    let mut rest = text;
    while let Some(start) = rest.find('<') {
        rest = rest.get(start + 1..)?;
        let end = rest.find('>')?;
        let tag = rest.get(..end)?;
        rest = rest.get(end + 1..)?;
        let bare = tag.trim_end_matches('/');
        let full = bare.split_ascii_whitespace().next().unwrap_or_default();
        let local = full.rsplit(':').next().unwrap_or_default();
        if local != name || tag.starts_with(['/', '?', '!']) {
            continue;
        }
        if tag.ends_with('/') {
            return Some(String::new());
        }
        let close = rest.find(&format!("</{full}"))?;
        let value = rest.get(..close)?.trim();
        return Some(
            value
                .replace("&lt;", "<")
                .replace("&gt;", ">")
                .replace("&amp;", "&"),
        );
    }
    None
}

/// An errors resource of RFC 8040.
#[must_use]
pub fn errors(kind: &str, tag: &str, info: Option<Value>) -> Value {
    let mut error =
        json!({ "error-type": kind, "error-tag": tag, "error-message": "said the suite" });
    if let Some(info) = info {
        error["error-info"] = info;
    }
    json!({ "ietf-restconf:errors": { "error": [error] } })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn elements_are_found_by_their_local_name() {
        let text = "<?xml version=\"1.0\"?><s:input xmlns:s=\"x\"><s:nonce>QUJD</s:nonce><s:signed-data-preferred/></s:input>";
        assert_eq!(element(text, "nonce").as_deref(), Some("QUJD"));
        assert_eq!(element(text, "signed-data-preferred").as_deref(), Some(""));
        assert_eq!(element(text, "hw-model"), None);
    }
}
