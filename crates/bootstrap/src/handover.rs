//! What other systems need to take a device over that is up: inventories, known hosts, trust
//! anchors, payloads.
//!
//! Most of it a device said about itself. None of that can start a new line, a new host or a
//! template in what is written here.

pub mod ansible;
pub mod cli;
pub mod known_hosts;
pub mod netbox;

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use store::{Connection, params};
use time::OffsetDateTime;

pub use self::known_hosts::HostKey;
use crate::Error;
use crate::register::{self, DeviceFilter, DeviceRow};

/// The variable of a device that says what it is called.
pub const HOSTNAME_VARIABLE: &str = "hostname";
/// The variable of a device that says where it is managed.
pub const ADDRESS_VARIABLE: &str = "management_address";
/// The variable of a device that says on which port SSH answers.
pub const PORT_VARIABLE: &str = "ssh_port";

/// All that is known of a device that somebody takes over.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Handover {
    /// Its number in the register.
    pub device: i64,
    /// Its manufacturer.
    pub vendor: String,
    /// Its serial number.
    pub serial: String,
    /// What it is called: its variable, else its serial number.
    pub name: String,
    /// Where it is managed: its variable, else nothing. The address from which it reported is not
    /// taken, which may be that of a router on the way.
    pub address: Option<String>,
    /// The port of SSH, if it is not 22.
    pub port: Option<u16>,
    /// Its group.
    pub group: String,
    /// Its site.
    pub site: String,
    /// Its device type.
    pub device_type: String,
    /// Its hardware model, as it says.
    pub hw_model: Option<String>,
    /// Its operating system, as it says.
    pub os_name: Option<String>,
    /// The version of that, as it says.
    pub os_version: Option<String>,
    /// Where it is on its way.
    pub state: String,
    /// When it reported last.
    #[serde(with = "time::serde::rfc3339::option")]
    pub reported: Option<OffsetDateTime>,
    /// From where it reported last.
    pub reported_from: Option<String>,
    /// Variables that the operator gave it.
    pub variables: BTreeMap<String, Value>,
    /// Its SSH host keys, as it reported them last.
    pub ssh_host_keys: Vec<HostKey>,
    /// The trust anchors that it reported last: CMS in base64.
    pub trust_anchors: Vec<String>,
}

impl Handover {
    /// The same as JSON.
    #[must_use]
    pub fn json(&self) -> Value {
        // All keys are strings, so it always serialises.
        serde_json::to_value(self).unwrap_or_default()
    }

    /// The certificates of the trust anchors, as DER, and what cannot be read among them.
    #[must_use]
    pub fn anchor_certificates(&self) -> (Vec<pki::Certificate>, Vec<String>) {
        let mut certificates: Vec<pki::Certificate> = Vec::new();
        let mut unreadable = Vec::new();
        for text in &self.trust_anchors {
            let found = STANDARD
                .decode(text)
                .map_err(|error| error.to_string())
                .and_then(|der| pki::pkcs7::parse_certs_only(&der).map_err(|e| e.to_string()));
            match found {
                Ok(found) => {
                    for certificate in found {
                        if !certificates
                            .iter()
                            .any(|one| one.der() == certificate.der())
                        {
                            certificates.push(certificate);
                        }
                    }
                }
                Err(error) => unreadable.push(error),
            }
        }
        (certificates, unreadable)
    }
}

/// What is known of one device.
///
/// # Errors
/// What the database said.
pub async fn of_device(connection: &mut Connection, id: i64) -> Result<Option<Handover>, Error> {
    match register::device_by_id(connection, id).await? {
        Some(device) => Ok(Some(of_row(connection, device).await?)),
        None => Ok(None),
    }
}

/// What is known of all devices that a filter lets through.
///
/// # Errors
/// What the database said.
pub async fn of_devices(
    connection: &mut Connection,
    filter: &DeviceFilter,
) -> Result<Vec<Handover>, Error> {
    let mut filter = filter.clone();
    let mut all = Vec::new();
    loop {
        let page = register::list_devices(connection, &filter).await?;
        let Some(last) = page.last() else {
            return Ok(all);
        };
        filter.after = last.id;
        for device in page {
            all.push(of_row(connection, device).await?);
        }
    }
}

async fn of_row(connection: &mut Connection, device: DeviceRow) -> Result<Handover, Error> {
    let keys = connection
        .fetch_all(
            // What an earlier bootstrap reported and the last one did not is gone from the device.
            "SELECT kind, algorithm, value FROM device_key k WHERE device = $1 \
             AND at_us = (SELECT MAX(at_us) FROM device_key WHERE device = $1) \
             ORDER BY kind, algorithm, sha256 LIMIT 256",
            params![device.id],
        )
        .await?;
    let mut ssh_host_keys = Vec::new();
    let mut trust_anchors = Vec::new();
    for row in &keys {
        let value = STANDARD.encode(row.bytes("value")?);
        match row.text("kind")?.as_str() {
            "ssh-host-key" => ssh_host_keys.push(HostKey {
                algorithm: row.text("algorithm")?,
                key: value,
            }),
            _ => trust_anchors.push(value),
        }
    }
    let reported_from = connection
        .fetch_optional(
            "SELECT peer FROM progress WHERE device = $1 ORDER BY id DESC LIMIT 1",
            params![device.id],
        )
        .await?
        .map(|row| row.text("peer"))
        .transpose()?;
    let variable = |name: &str| match device.variables.get(name) {
        Some(Value::String(text)) if !text.is_empty() => Some(text.clone()),
        Some(Value::Number(number)) => Some(number.to_string()),
        _ => None,
    };
    Ok(Handover {
        device: device.id,
        name: variable(HOSTNAME_VARIABLE).unwrap_or_else(|| device.serial.clone()),
        address: variable(ADDRESS_VARIABLE),
        port: variable(PORT_VARIABLE).and_then(|port| port.parse().ok()),
        vendor: device.vendor,
        serial: device.serial,
        group: device.group,
        site: device.site,
        device_type: device.device_type,
        hw_model: device.hw_model,
        os_name: device.os_name,
        os_version: device.os_version,
        state: device.state.as_str().to_owned(),
        reported: device.last_progress_at,
        reported_from,
        variables: device.variables,
        ssh_host_keys,
        trust_anchors,
    })
}
