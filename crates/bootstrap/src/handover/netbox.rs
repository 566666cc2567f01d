//! The payload of a NetBox webhook, so that what listens to NetBox can listen here too.

use serde_json::{Value, json};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use super::Handover;

/// A device as NetBox tells others of an update: event, timestamp, model, data and snapshots.
#[must_use]
pub fn payload(device: &Handover, id: &str, at: OffsetDateTime) -> Value {
    let slug = |text: &str| {
        let slug: String = text
            .chars()
            .map(|c| {
                if c.is_ascii_alphanumeric() {
                    c.to_ascii_lowercase()
                } else {
                    '-'
                }
            })
            .collect();
        slug.trim_matches('-').to_owned()
    };
    let named = |name: &str| {
        if name.is_empty() {
            Value::Null
        } else {
            json!({ "name": name, "slug": slug(name) })
        }
    };
    let model = device
        .hw_model
        .clone()
        .unwrap_or_else(|| device.device_type.clone());
    let keys: Vec<Value> = device
        .ssh_host_keys
        .iter()
        .filter_map(|key| {
            Some(json!({
                "type": key.key_type()?,
                "fingerprint": key.fingerprint()?,
                "key": key.key,
            }))
        })
        .collect();
    let data = json!({
        "name": device.name,
        "serial": device.serial,
        "status": { "value": "active", "label": "Active" },
        "device_type": {
            "model": model,
            "slug": slug(&model),
            "manufacturer": named(&device.vendor),
        },
        "site": named(&device.site),
        "role": named(&device.group),
        "platform": device.os_name.as_deref().map_or(Value::Null, named),
        "primary_ip": device.address.as_ref().map(|address| json!({ "address": address })),
        "custom_fields": {
            "os_version": device.os_version,
            "ssh_host_keys": keys,
            "trust_anchors": device.trust_anchors,
        },
    });
    json!({
        "event": "updated",
        "timestamp": at.format(&Rfc3339).unwrap_or_default(),
        "model": "device",
        "username": "usher",
        "request_id": id,
        "data": data,
        "snapshots": { "prechange": Value::Null, "postchange": data },
    })
}
