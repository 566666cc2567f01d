//! Devices that are known by name, played by what is known of them: each sends exactly the bytes
//! that its kind was seen or documented to send, and takes the reply only as its kind would.
//!
//! None of them is a program of its maker; docs/profiles.md says where the knowledge comes from.

mod arista;
mod cisco_ios_xe;
mod cisco_ios_xr;
mod fl_sztp;
mod generic;
mod huawei;
mod juniper;
mod open_sztp;
mod opi_agent;

use std::collections::BTreeMap;
use std::net::SocketAddr;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use net::client::{ClientConfig, Stream, Target};
use pki::Identity;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use crate::harness::Lab;

/// The configuration that every simulator's server has beside the usual one.
pub(crate) const MORE: &str = "[profiles]\ndirectory = \"profiles.d\"\n";

/// A server whose operator turned some quirks of a profile on, under the same name.
pub(crate) async fn lab_with(profile: &str, enable: &[&str]) -> Lab {
    let lab = Lab::prepare(MORE).await;
    enable_quirks(&lab, profile, enable);
    lab
}

/// Writes the operator's own file.
pub(crate) fn enable_quirks(lab: &Lab, profile: &str, enable: &[&str]) {
    let folder = lab.path("profiles.d");
    std::fs::create_dir_all(&folder).unwrap();
    let text = format!("name = \"{profile}\"\nextends = \"{profile}\"\nenable = {enable:?}\n");
    std::fs::write(folder.join("own.toml"), text).unwrap();
}

/// An answer, as it came over the connection.
#[derive(Clone, Debug)]
pub(crate) struct Reply {
    pub(crate) status: u16,
    pub(crate) headers: BTreeMap<String, String>,
    pub(crate) body: Vec<u8>,
}

impl Reply {
    pub(crate) fn text(&self) -> String {
        String::from_utf8(self.body.clone()).unwrap()
    }

    pub(crate) fn content_type(&self) -> &str {
        self.headers.get("content-type").map_or("", String::as_str)
    }
}

/// A TLS connection without ALPN, over which octets go as they are.
pub(crate) struct Wire(Stream);

impl Wire {
    pub(crate) async fn open(address: SocketAddr, identity: Option<Identity>) -> Self {
        let config = ClientConfig {
            identity,
            ..ClientConfig::default()
        };
        Self(
            Stream::open(&Target::from_address(address), &config)
                .await
                .unwrap(),
        )
    }

    /// Sends these octets and reads one answer.
    pub(crate) async fn exchange(&mut self, request: &[u8]) -> Reply {
        self.0.write_all(request).await.unwrap();
        self.0.flush().await.unwrap();
        let mut bytes = Vec::new();
        loop {
            if let Some(reply) = parse(&bytes) {
                return reply;
            }
            let mut buffer = [0; 16 * 1024];
            let count = self.0.read(&mut buffer).await.unwrap();
            assert!(
                count > 0,
                "the connection ended: {:?}",
                String::from_utf8_lossy(&bytes)
            );
            bytes.extend_from_slice(&buffer[..count]);
        }
    }
}

/// A whole HTTP/1.1 answer, if it is there.
pub(crate) fn parse(bytes: &[u8]) -> Option<Reply> {
    let end = bytes.windows(4).position(|four| four == b"\r\n\r\n")?;
    let head = std::str::from_utf8(&bytes[..end]).unwrap();
    let mut lines = head.split("\r\n");
    let status = lines.next()?.split(' ').nth(1)?.parse().unwrap();
    let headers: BTreeMap<String, String> = lines
        .filter_map(|line| line.split_once(": "))
        .map(|(name, value)| (name.to_ascii_lowercase(), value.to_owned()))
        .collect();
    let rest = &bytes[end + 4..];
    let length: usize = match headers.get("content-length") {
        Some(length) => length.parse().unwrap(),
        None => {
            assert_eq!(status, 204, "a body without a length");
            0
        }
    };
    (rest.len() >= length).then(|| Reply {
        status,
        headers,
        body: rest[..length].to_vec(),
    })
}

/// A POST with these header lines, in this order, and this body.
pub(crate) fn post(path: &str, headers: &[(&str, &str)], body: &str) -> Vec<u8> {
    let mut text = format!("POST {path} HTTP/1.1\r\n");
    for (name, value) in headers {
        text.push_str(&format!("{name}: {value}\r\n"));
    }
    format!("{text}\r\n{body}").into_bytes()
}

/// One TLV with a definite length: tag, content, rest.
pub(crate) fn tlv(bytes: &[u8]) -> (u8, &[u8], &[u8]) {
    let first = usize::from(bytes[1]);
    let (length, start) = if first < 0x80 {
        (first, 2)
    } else {
        let count = first & 0x7f;
        let length = bytes[2..2 + count]
            .iter()
            .fold(0, |sum, byte| (sum << 8) | usize::from(*byte));
        (length, 2 + count)
    };
    (
        bytes[0],
        &bytes[start..start + length],
        &bytes[start + length..],
    )
}

/// A ContentInfo with a primitive OCTET STRING, and nothing else: what the Go programs can read.
pub(crate) fn octets_of_content_info(der: &[u8]) -> Option<Vec<u8>> {
    let (tag, content, rest) = tlv(der);
    if tag != 0x30 || !rest.is_empty() {
        return None;
    }
    let (tag, _oid, explicit) = tlv(content);
    if tag != 0x06 {
        return None;
    }
    let (tag, inner, _) = tlv(explicit);
    if tag != 0xa0 {
        return None;
    }
    let (tag, octets, _) = tlv(inner);
    (tag == 0x04).then(|| octets.to_vec())
}

pub(crate) fn base64(bytes: &[u8]) -> String {
    STANDARD.encode(bytes)
}

pub(crate) fn unbase64(text: &str) -> Vec<u8> {
    STANDARD.decode(text).unwrap()
}

/// The text of an XML element, by its local name; the text alone.
pub(crate) fn element(xml: &str, name: &str) -> Option<String> {
    let (_, rest) = xml.split_once(&format!("<{name}>"))?;
    let (text, _) = rest.split_once(&format!("</{name}>"))?;
    Some(text.to_owned())
}

/// The oid of a signed object's content type, by `openssl cms`.
pub(crate) fn content_type_by_openssl(lab: &Lab, der: &[u8]) -> String {
    let file = lab.path("printed.cms");
    std::fs::write(&file, der).unwrap();
    let output = std::process::Command::new("openssl")
        .args(["cms", "-cmsout", "-print", "-inform", "DER", "-in"])
        .arg(&file)
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    text.lines()
        .find_map(|line| line.trim().strip_prefix("eContentType: "))
        .unwrap_or_else(|| panic!("{text}"))
        .to_owned()
}

/// What was signed, by `openssl cms`, under the owner's CA and at the lab's time.
pub(crate) fn content_by_openssl(lab: &Lab, der: &[u8]) -> Result<Vec<u8>, String> {
    let (signed, content) = (lab.path("signed.cms"), lab.path("content.out"));
    std::fs::write(&signed, der).unwrap();
    let at = lab.clock.now().unix_timestamp().to_string();
    let output = std::process::Command::new("openssl")
        .args([
            "cms", "-verify", "-inform", "DER", "-binary", "-purpose", "any",
        ])
        .args(["-attime", &at, "-in"])
        .arg(&signed)
        .arg("-CAfile")
        .arg(lab.path("owner-ca.pem"))
        .arg("-out")
        .arg(&content)
        .output()
        .unwrap();
    if output.status.success() {
        Ok(std::fs::read(&content).unwrap())
    } else {
        Err(String::from_utf8_lossy(&output.stderr).into_owned())
    }
}
