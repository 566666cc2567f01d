//! OpenSSH `known_hosts`, for connections to a device and for those that it makes itself (NETCONF
//! and RESTCONF call home, RFC 8071).

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::Handover;

/// Longest key that is passed on: RSA with 16384 bits has about 2 KiB.
const KEY_SIZE_MAX_BYTES: usize = 16 * 1024;

/// An SSH host key as a device reported it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HostKey {
    /// The algorithm, as the device names it.
    pub algorithm: String,
    /// The key blob of RFC 4253 section 6.6, in base64.
    pub key: String,
}

impl HostKey {
    /// The key type that stands inside the blob, if the blob is one.
    ///
    /// The type is taken from the key itself: the name beside it may be that of a signature
    /// algorithm (`rsa-sha2-256`), and whatever else a device writes there goes nowhere.
    #[must_use]
    pub fn key_type(&self) -> Option<String> {
        let blob = self.blob()?;
        let length = blob.first_chunk::<4>()?;
        let length = usize::try_from(u32::from_be_bytes(*length)).ok()?;
        if !(1..=64).contains(&length) {
            return None;
        }
        let name = blob.get(4..4 + length)?;
        // Something has to follow the name.
        blob.get(4 + length..).filter(|rest| rest.len() > 4)?;
        let plain = |byte: &u8| byte.is_ascii_alphanumeric() || b"-@._".contains(byte);
        if !name.iter().all(plain) {
            return None;
        }
        String::from_utf8(name.to_vec()).ok()
    }

    /// The fingerprint as `ssh-keygen -l` prints it.
    #[must_use]
    pub fn fingerprint(&self) -> Option<String> {
        let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, &self.blob()?);
        Some(format!("SHA256:{}", STANDARD_NO_PAD.encode(digest)))
    }

    fn blob(&self) -> Option<Vec<u8>> {
        let blob = STANDARD.decode(&self.key).ok()?;
        (blob.len() <= KEY_SIZE_MAX_BYTES).then_some(blob)
    }

    /// Type and blob as they stand in a line; `None` if this is no key.
    fn line(&self) -> Option<String> {
        Some(format!(
            "{} {}",
            self.key_type()?,
            STANDARD.encode(self.blob()?)
        ))
    }
}

/// A name that is a host in `known_hosts` and in inventories: letters, digits and `.-_:`. Anything
/// else becomes `_`: blanks, commas, wildcards, `!`, `#`, `@` and `|` mean something there.
#[must_use]
pub fn host_word(name: &str) -> String {
    let word: String = name
        .chars()
        .take(255)
        .map(|c| {
            if c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_' | ':') {
                c
            } else {
                '_'
            }
        })
        .collect();
    // A leading hyphen would be an option to the programs that are given this name.
    let word = match word.strip_prefix('-') {
        Some(rest) => format!("_{rest}"),
        None => word,
    };
    if word.is_empty() {
        "_".to_owned()
    } else {
        word
    }
}

/// How a host with a port is written.
fn with_port(host: &str, port: Option<u16>) -> String {
    match port {
        Some(port) if port != 22 => format!("[{host}]:{port}"),
        _ => host.to_owned(),
    }
}

/// The lines of `known_hosts` for connections to these devices: by name and by address.
#[must_use]
pub fn known_hosts(devices: &[Handover]) -> String {
    let mut text = String::new();
    for device in devices {
        let mut hosts = vec![with_port(&host_word(&device.name), device.port)];
        if let Some(address) = &device.address {
            let address = with_port(&host_word(address), device.port);
            if !hosts.contains(&address) {
                hosts.push(address);
            }
        }
        for line in device.ssh_host_keys.iter().filter_map(HostKey::line) {
            text.push_str(&format!("{} {line}\n", hosts.join(",")));
        }
    }
    text
}

/// The lines of `known_hosts` for a listener that devices call. It does not know beforehand who
/// calls, so the host is `vendor.serial`, to be named with `HostKeyAlias`.
#[must_use]
pub fn call_home_known_hosts(devices: &[Handover]) -> String {
    let mut text = String::new();
    for device in devices {
        let alias = host_word(&format!("{}.{}", device.vendor, device.serial));
        for line in device.ssh_host_keys.iter().filter_map(HostKey::line) {
            text.push_str(&format!("{alias} {line}\n"));
        }
    }
    text
}

/// Whose key it is, by fingerprint: what a call-home listener looks up when somebody calls. A key
/// that two devices report names neither.
#[must_use]
pub fn call_home_keys(devices: &[Handover]) -> Value {
    let mut keys = serde_json::Map::new();
    let mut twice = Vec::new();
    for device in devices {
        for key in &device.ssh_host_keys {
            let (Some(fingerprint), Some(kind)) = (key.fingerprint(), key.key_type()) else {
                continue;
            };
            let entry = json!({
                "vendor": device.vendor,
                "serial": device.serial,
                "name": device.name,
                "type": kind,
                "key": key.key,
            });
            match keys.get(&fingerprint) {
                Some(Value::Null) => {}
                Some(other)
                    if other["serial"] != entry["serial"] || other["vendor"] != entry["vendor"] =>
                {
                    twice.push(fingerprint.clone());
                    keys.insert(fingerprint, Value::Null);
                }
                _ => {
                    keys.insert(fingerprint, entry);
                }
            }
        }
    }
    keys.retain(|_, entry| !entry.is_null());
    json!({ "keys": keys, "ambiguous": twice })
}

/// The same as OpenDaylight's call-home server takes it: a device for each RSA, ECDSA or Ed25519
/// key, by the body of RFC 4253.
#[must_use]
pub fn opendaylight(devices: &[Handover]) -> Value {
    let entries: Vec<Value> = devices
        .iter()
        .flat_map(|device| {
            device
                .ssh_host_keys
                .iter()
                .filter(|key| key.key_type().is_some())
                .take(1)
                .map(|key| {
                    json!({
                        "unique-id": format!("{}.{}", device.vendor, device.serial),
                        "ssh-client-params": { "host-key": key.key },
                    })
                })
        })
        .collect();
    json!({ "odl-netconf-callhome-server:allowed-devices": { "device": entries } })
}
