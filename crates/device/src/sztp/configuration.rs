//! The reference device's configuration: a document of any kind. It merges JSON as
//! [RFC 7396](https://www.rfc-editor.org/rfc/rfc7396.html) does, and puts anything else after what
//! is there, as lines typed into a device.

use artifacts::conveyed::ConfigurationHandling;
use base64::{Engine as _, engine::general_purpose::STANDARD};
use pki::{Certificate, PublicKey, pkcs7};
use serde_json::Value;
use sztp::agent::Failure;

use super::CONFIGURATION_SIZE_MAX_BYTES;

/// Depth of objects that are merged.
const DEPTH_MAX: usize = 64;
/// Base64 shorter than this is no certificate.
const CERTIFICATE_TEXT_MIN_CHARS: usize = 200;
/// Texts in a configuration that are looked at as certificates.
const CANDIDATES_MAX: usize = 1000;

/// What the running configuration becomes.
///
/// SZTP-8572-6.3-14: "Merge configuration into the running datastore" or "Replace the existing
/// running datastore with the passed configuration."
pub(super) fn apply(
    running: Option<&[u8]>,
    new: &[u8],
    handling: ConfigurationHandling,
) -> Result<Vec<u8>, Failure> {
    let result = match (handling, running) {
        (ConfigurationHandling::Replace, _) | (ConfigurationHandling::Merge, None) => new.to_vec(),
        (ConfigurationHandling::Merge, Some(running)) => merge(running, new),
    };
    if result.len() > CONFIGURATION_SIZE_MAX_BYTES {
        let text = format!("the configuration is above {CONFIGURATION_SIZE_MAX_BYTES} octets");
        return Err(Failure::new("device.configuration-too-large", text));
    }
    Ok(result)
}

fn merge(running: &[u8], new: &[u8]) -> Vec<u8> {
    let objects = (
        serde_json::from_slice::<Value>(running),
        serde_json::from_slice::<Value>(new),
    );
    if let (Ok(mut target @ Value::Object(_)), Ok(patch @ Value::Object(_))) = objects {
        merge_value(&mut target, patch, 0);
        let mut bytes = serde_json::to_vec_pretty(&target).unwrap_or_else(|_| new.to_vec());
        bytes.push(b'\n');
        return bytes;
    }
    let mut bytes = running.to_vec();
    if bytes.last().is_some_and(|last| *last != b'\n') {
        bytes.push(b'\n');
    }
    bytes.extend_from_slice(new);
    bytes
}

fn merge_value(target: &mut Value, patch: Value, depth: usize) {
    match (target, patch) {
        (Value::Object(target), Value::Object(patch)) if depth < DEPTH_MAX => {
            for (name, value) in patch {
                merge_value(target.entry(name).or_insert(Value::Null), value, depth + 1);
            }
        }
        (target, patch) => *target = patch,
    }
}

/// Whether the configuration switches SZTP off: the leaf `enabled` of
/// [RFC 8572 appendix A](https://www.rfc-editor.org/rfc/rfc8572.html#appendix-A) in JSON or XML,
/// or a line `no sztp` or `sztp disable` in a configuration of lines.
pub(super) fn disables_sztp(configuration: &[u8]) -> bool {
    let text = String::from_utf8_lossy(configuration);
    if let Ok(Value::Object(members)) = serde_json::from_slice::<Value>(configuration) {
        return members.iter().any(|(name, value)| {
            let name = name.rsplit(':').next().unwrap_or(name);
            name == "sztp" && value.get("enabled") == Some(&Value::Bool(false))
        });
    }
    let plain: String = text.split_whitespace().collect();
    let in_xml = plain
        .split_once("<sztp")
        .and_then(|(_, rest)| rest.split_once("</sztp>"))
        .is_some_and(|(inside, _)| inside.contains("<enabled>false</enabled>"));
    in_xml
        || text.lines().any(|line| {
            let words: Vec<&str> = line.split_whitespace().collect();
            matches!(words.as_slice(), ["no", "sztp"] | ["sztp", "disable"])
        })
}

/// The chain in a document that certifies this key, the key's own certificate first.
///
/// SZTP-9646-4.1.3-02: the fresh public key in the certificate confirms that the answer is not a
/// replayed one. Where the certificate stands is left to the device type; this one looks at PEM,
/// and at whatever is base64 of a certificate or of a degenerate CMS.
pub(super) fn certificates_for(document: &[u8], key: &PublicKey) -> Vec<Certificate> {
    let text = String::from_utf8_lossy(document);
    let is_ours = |one: &Certificate| one.public_key().is_same_key(key);
    let sorted = |mut found: Vec<Certificate>| {
        let own = found.iter().position(is_ours)?;
        found.swap(0, own);
        Some(found)
    };
    if let Some(found) = Certificate::all_from_pem(&text).ok().and_then(sorted) {
        return found;
    }
    let is_base64 = |c: char| c.is_ascii_alphanumeric() || "+/=".contains(c);
    text.split(|c: char| !is_base64(c))
        .filter(|token| token.len() >= CERTIFICATE_TEXT_MIN_CHARS)
        .take(CANDIDATES_MAX)
        .filter_map(|token| STANDARD.decode(token).ok())
        .find_map(|der| {
            let found = match Certificate::from_der(&der) {
                Ok(one) => vec![one],
                Err(_) => pkcs7::parse_certs_only(&der).ok()?,
            };
            sorted(found)
        })
        .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Requirements: SZTP-8572-6.3-14
    #[test]
    fn merge_and_replace() {
        use ConfigurationHandling::{Merge, Replace};
        for (running, new, handling, expect) in [
            (None, "a", Merge, "a"),
            (Some("old"), "new", Replace, "new"),
            (Some("old"), "new", Merge, "old\nnew"),
            (Some("old\n"), "new\n", Merge, "old\nnew\n"),
            (
                Some(r#"{"a":{"b":1,"c":2},"d":[1]}"#),
                r#"{"a":{"c":3},"d":[2],"e":true}"#,
                Merge,
                "{\n  \"a\": {\n    \"b\": 1,\n    \"c\": 3\n  },\n  \"d\": [\n    2\n  ],\n  \
                 \"e\": true\n}\n",
            ),
            (Some(r#"{"a":1}"#), "[1]", Merge, "{\"a\":1}\n[1]"),
        ] {
            let running = running.map(str::as_bytes);
            let result = apply(running, new.as_bytes(), handling).unwrap();
            assert_eq!(String::from_utf8(result).unwrap(), expect);
        }
        let large = vec![b'x'; CONFIGURATION_SIZE_MAX_BYTES];
        assert!(apply(None, &large, Merge).is_ok());
        let refusal = apply(Some(b"more"), &large, Merge).unwrap_err();
        assert_eq!(refusal.code, "device.configuration-too-large");
    }

    #[test]
    fn what_switches_sztp_off() {
        for (text, off) in [
            (
                r#"{"example-device-data-model:sztp":{"enabled":false}}"#,
                true,
            ),
            (
                r#"{"example-device-data-model:sztp":{"enabled":true}}"#,
                false,
            ),
            (r#"{"sztp":{}}"#, false),
            (
                "<config><sztp xmlns=\"x\">\n <enabled> false </enabled>\n</sztp></config>",
                true,
            ),
            ("<sztp><enabled>true</enabled></sztp>", false),
            ("<x/><enabled>false</enabled>", false),
            ("hostname x\nno  sztp\n", true),
            ("sztp disable", true),
            ("description no sztp here", false),
            ("", false),
        ] {
            assert_eq!(disables_sztp(text.as_bytes()), off, "{text}");
        }
    }
}
