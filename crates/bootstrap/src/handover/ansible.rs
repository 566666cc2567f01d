//! Ansible inventories: YAML, JSON, and the answers of a dynamic inventory script.
//!
//! Ansible takes a value with `{{` in it for a template and runs it. What a device says of itself
//! is therefore marked as unsafe text, in each of the forms that Ansible has for that.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value, json};

use super::Handover;
use super::known_hosts::host_word;

/// The name of a group: Ansible wants what would be a variable.
fn group_word(prefix: &str, name: &str) -> String {
    let word: String = name
        .chars()
        .take(100)
        .map(|c| if c.is_ascii_alphanumeric() { c } else { '_' })
        .collect();
    format!("{prefix}_{word}")
}

/// Text that a device chose, as no template.
fn device_text(text: &str) -> Value {
    json!({ "__ansible_unsafe": text })
}

/// Each host once, by a name that no other has.
fn names(devices: &[Handover]) -> Vec<(String, &Handover)> {
    let mut taken = BTreeSet::new();
    let mut named = Vec::with_capacity(devices.len());
    for device in devices {
        let mut name = host_word(&device.name);
        if !taken.insert(name.clone()) {
            name = host_word(&format!("{}.{}", device.name, device.serial));
            let mut number = 2;
            while !taken.insert(name.clone()) {
                name = format!("{}.{number}", host_word(&device.name));
                number += 1;
            }
        }
        named.push((name, device));
    }
    named
}

fn variables(device: &Handover) -> Map<String, Value> {
    let mut variables = Map::new();
    if let Some(address) = &device.address {
        variables.insert("ansible_host".to_owned(), json!(host_word(address)));
    }
    if let Some(port) = device.port {
        variables.insert("ansible_port".to_owned(), json!(port));
    }
    let optional = [
        ("usher_hw_model", &device.hw_model),
        ("usher_os_name", &device.os_name),
        ("usher_os_version", &device.os_version),
    ];
    variables.insert("usher_vendor".to_owned(), device_text(&device.vendor));
    variables.insert("usher_serial".to_owned(), device_text(&device.serial));
    for (name, value) in optional {
        if let Some(value) = value {
            variables.insert(name.to_owned(), device_text(value));
        }
    }
    variables.insert("usher_state".to_owned(), json!(device.state));
    let keys: Vec<Value> = device
        .ssh_host_keys
        .iter()
        .filter_map(|key| {
            // Both are made here of the key itself, and hold nothing that a device chose.
            Some(json!({
                "type": key.key_type()?,
                "fingerprint": key.fingerprint()?,
                "key": key.key,
            }))
        })
        .collect();
    variables.insert("usher_ssh_host_keys".to_owned(), json!(keys));
    // The operator's own, under their own names; a template in them is the operator's wish. They
    // do not replace what stands above.
    for (name, value) in &device.variables {
        let plain = name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
            && !name.starts_with(|c: char| c.is_ascii_digit());
        if plain && !name.is_empty() && !variables.contains_key(name) {
            variables.insert(name.clone(), value.clone());
        }
    }
    variables
}

fn groups(named: &[(String, &Handover)]) -> BTreeMap<String, Vec<String>> {
    let mut groups: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for (name, device) in named {
        for (prefix, value) in [
            ("group", &device.group),
            ("site", &device.site),
            ("type", &device.device_type),
            ("vendor", &device.vendor),
        ] {
            if !value.is_empty() {
                groups
                    .entry(group_word(prefix, value))
                    .or_default()
                    .push(name.clone());
            }
        }
    }
    groups
}

/// The answer to `--list`: groups, and all variables in `_meta`.
#[must_use]
pub fn list(devices: &[Handover]) -> Value {
    let named = names(devices);
    let groups = groups(&named);
    let mut document = Map::new();
    let hostvars: Map<String, Value> = named
        .iter()
        .map(|(name, device)| (name.clone(), Value::Object(variables(device))))
        .collect();
    document.insert("_meta".to_owned(), json!({ "hostvars": hostvars }));
    let hosts: Vec<&String> = named.iter().map(|(name, _)| name).collect();
    let children: Vec<&String> = groups.keys().collect();
    document.insert(
        "all".to_owned(),
        json!({ "hosts": hosts, "children": children }),
    );
    for (group, hosts) in &groups {
        document.insert(group.clone(), json!({ "hosts": hosts }));
    }
    Value::Object(document)
}

/// The answer to `--host NAME`; an unknown host has no variables.
#[must_use]
pub fn host(devices: &[Handover], wanted: &str) -> Value {
    let found = names(devices)
        .into_iter()
        .find(|(name, _)| name == wanted)
        .map(|(_, device)| variables(device));
    Value::Object(found.unwrap_or_default())
}

/// A static inventory as YAML.
#[must_use]
pub fn yaml(devices: &[Handover]) -> String {
    let named = names(devices);
    let mut text = String::from("---\nall:\n  hosts:\n");
    if named.is_empty() {
        return "---\nall:\n  hosts: {}\n".to_owned();
    }
    for (name, device) in &named {
        text.push_str(&format!("    {}:\n", quoted(name)));
        for (variable, value) in variables(device) {
            text.push_str(&format!("      {}: {}\n", quoted(&variable), flow(&value)));
        }
    }
    text.push_str("  children:\n");
    for (group, hosts) in groups(&named) {
        text.push_str(&format!("    {}:\n      hosts:\n", quoted(&group)));
        for host in hosts {
            text.push_str(&format!("        {}: {{}}\n", quoted(&host)));
        }
    }
    text
}

/// A value in YAML's flow form, which is JSON but for the mark of unsafe text.
fn flow(value: &Value) -> String {
    match value {
        Value::Object(members) => {
            if let Some(Value::String(text)) = members.get("__ansible_unsafe") {
                return format!("!unsafe {}", quoted(text));
            }
            let members: Vec<String> = members
                .iter()
                .map(|(name, value)| format!("{}: {}", quoted(name), flow(value)))
                .collect();
            format!("{{{}}}", members.join(", "))
        }
        Value::Array(items) => {
            let items: Vec<String> = items.iter().map(flow).collect();
            format!("[{}]", items.join(", "))
        }
        Value::String(text) => quoted(text),
        other => other.to_string(),
    }
}

/// A double-quoted scalar. JSON's escapes are YAML's too; what YAML does not allow in the open is
/// escaped as well.
fn quoted(text: &str) -> String {
    let mut quoted = String::with_capacity(text.len() + 2);
    quoted.push('"');
    for c in text.chars() {
        match c {
            '"' => quoted.push_str("\\\""),
            '\\' => quoted.push_str("\\\\"),
            ' '..='~' => quoted.push(c),
            c if u32::from(c) > 0xffff => quoted.push_str(&format!("\\U{:08x}", u32::from(c))),
            c => quoted.push_str(&format!("\\u{:04x}", u32::from(c))),
        }
    }
    quoted.push('"');
    quoted
}

/// A script that Ansible can use as a dynamic inventory.
#[must_use]
pub fn script(program: &str, config: &str) -> String {
    let shell = |text: &str| format!("'{}'", text.replace('\'', "'\\''"));
    format!(
        "#!/bin/sh\n# Dynamic inventory of the devices that came up: ansible-inventory -i THIS --list\n\
         exec {} bootstrap --config {} handover ansible \"$@\"\n",
        shell(program),
        shell(config)
    )
}
