//! Hand-over of devices that are up, checked by OpenSSH and Ansible.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bootstrap::handover::{self, Handover, HostKey, ansible, known_hosts, netbox};
use bootstrap::register::{DeviceFilter, State};
use proptest::prelude::*;
use serde_json::{Value, json};

use crate::harness::Lab;

/// A key blob: type and something behind it.
fn blob(kind: &str, key: &[u8]) -> Vec<u8> {
    let mut blob = Vec::new();
    for part in [kind.as_bytes(), key] {
        blob.extend_from_slice(&u32::try_from(part.len()).unwrap().to_be_bytes());
        blob.extend_from_slice(part);
    }
    blob
}

fn key(seed: u8) -> HostKey {
    HostKey {
        algorithm: "ssh-ed25519".to_owned(),
        key: STANDARD.encode(blob("ssh-ed25519", &[seed; 32])),
    }
}

fn device(name: &str, serial: &str, seed: u8) -> Handover {
    Handover {
        device: 1,
        vendor: "acme".to_owned(),
        serial: serial.to_owned(),
        name: name.to_owned(),
        address: None,
        port: None,
        group: "edge".to_owned(),
        site: "bonn".to_owned(),
        device_type: String::new(),
        hw_model: Some("model-x".to_owned()),
        os_name: Some("os".to_owned()),
        os_version: Some("1.0".to_owned()),
        state: "complete".to_owned(),
        reported: None,
        reported_from: None,
        variables: BTreeMap::new(),
        ssh_host_keys: vec![key(seed)],
        trust_anchors: Vec::new(),
    }
}

fn run(program: &str, folder: &Path, arguments: &[&str]) -> String {
    let output = Command::new(program)
        .args(arguments)
        .current_dir(folder)
        .env("ANSIBLE_LOCALHOST_WARNING", "false")
        .env("ANSIBLE_LOCAL_TEMP", folder)
        .env("HOME", folder)
        .output()
        .unwrap_or_else(|error| panic!("{program}: {error}"));
    let (out, err) = (
        String::from_utf8_lossy(&output.stdout).into_owned(),
        String::from_utf8_lossy(&output.stderr).into_owned(),
    );
    assert!(
        output.status.success(),
        "{program} {arguments:?}: {out}{err}"
    );
    out
}

/// A device reports its keys, and OpenSSH reads them out of what is handed over. A second
/// bootstrap replaces the first.
#[tokio::test]
async fn what_a_device_reported_is_what_openssh_reads() {
    let lab = Lab::start("").await;
    lab.register("SN-1").await;
    lab.change(
        "UPDATE device SET variables = $1 WHERE serial = 'SN-1'",
        store::params![
            json!({ "hostname": "sw-1", "management_address": "192.0.2.7", "ssh_port": 830 })
                .to_string()
        ],
    )
    .await;
    for name in ["first", "second"] {
        let file = lab.path(name);
        let arguments = ["-q", "-t", "ed25519", "-N", "", "-C", "", "-f"];
        let mut arguments: Vec<&str> = arguments.to_vec();
        arguments.push(file.to_str().unwrap());
        run("ssh-keygen", lab.folder.path(), &arguments);
        let public = std::fs::read_to_string(file.with_extension("pub")).unwrap();
        let data = public.split(' ').nth(1).unwrap().trim().to_owned();
        let got = lab
            .device("SN-1")
            .report(json!({
                "progress-type": "bootstrap-complete",
                "ssh-host-keys": { "ssh-host-key": [
                    { "algorithm": "ssh-ed25519", "key-data": data },
                ] },
            }))
            .await;
        assert_eq!(got.status, 204, "{}", got.text());
        lab.hand.advance(std::time::Duration::from_secs(60));
    }
    let mut snapshot = lab.store.snapshot().await.unwrap();
    let filter = DeviceFilter {
        state: Some(State::Complete),
        ..DeviceFilter::default()
    };
    let devices = handover::of_devices(&mut snapshot, &filter).await.unwrap();
    drop(snapshot);
    assert_eq!(devices.len(), 1);
    assert_eq!(
        devices[0].ssh_host_keys.len(),
        1,
        "the first key is gone from the device"
    );
    let file = lab.path("known_hosts");
    std::fs::write(&file, known_hosts::known_hosts(&devices)).unwrap();
    let folder = lab.folder.path();
    let found = run(
        "ssh-keygen",
        folder,
        &["-F", "[192.0.2.7]:830", "-l", "-f", "known_hosts"],
    );
    let own = run("ssh-keygen", folder, &["-l", "-f", "second.pub"]);
    let fingerprint = own.split(' ').nth(1).unwrap();
    assert!(found.contains(fingerprint), "{found} {own}");
    assert_eq!(
        devices[0].ssh_host_keys[0].fingerprint().as_deref(),
        Some(fingerprint)
    );
    run(
        "ssh-keygen",
        folder,
        &["-F", "[sw-1]:830", "-f", "known_hosts"],
    );
    std::fs::write(&file, known_hosts::call_home_known_hosts(&devices)).unwrap();
    run(
        "ssh-keygen",
        folder,
        &["-F", "acme.SN-1", "-f", "known_hosts"],
    );
    lab.stop().await;
}

/// The static and the dynamic inventory say the same to Ansible, and nothing that a device says is
/// run as a template.
#[test]
fn ansible_reads_both_inventories_and_runs_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let trap = folder.path().join("sprung");
    let template = format!("{{{{ lookup('pipe', 'touch {}') }}}}", trap.display());
    let mut bad = device("sw-2", "SN: \"2\"\n{% raw %}", 2);
    bad.hw_model = Some(template.clone());
    bad.os_version = Some("é 路 \u{1f4a5} \u{7f}'\\".to_owned());
    bad.address = Some("2001:db8::1".to_owned());
    bad.port = Some(830);
    bad.variables
        .insert("ntp".to_owned(), json!(["192.0.2.1", { "a": true }]));
    bad.variables
        .insert("usher_state".to_owned(), json!("overwritten"));
    bad.variables.insert("not a name".to_owned(), json!(1));
    let devices = [device("sw-1", "SN-1", 1), bad];
    std::fs::write(folder.path().join("static.yaml"), ansible::yaml(&devices)).unwrap();
    let document = ansible::list(&devices).to_string();
    let script = folder.path().join("dynamic");
    std::fs::write(folder.path().join("list.json"), document).unwrap();
    std::fs::write(&script, "#!/bin/sh\ncat \"$(dirname \"$0\")/list.json\"\n").unwrap();
    run("chmod", folder.path(), &["+x", "dynamic"]);
    let mut seen = Vec::new();
    for inventory in ["static.yaml", "dynamic"] {
        let listed = run(
            "ansible-inventory",
            folder.path(),
            &["-i", inventory, "--list"],
        );
        let listed: Value = serde_json::from_str(&listed).unwrap();
        let host = &listed["_meta"]["hostvars"]["sw-2"];
        let text = |name: &str| match &host[name] {
            Value::String(text) => text.clone(),
            other => other["__ansible_unsafe"]
                .as_str()
                .unwrap_or_default()
                .to_owned(),
        };
        assert_eq!(text("usher_hw_model"), template);
        assert_eq!(text("usher_os_version"), "é 路 \u{1f4a5} \u{7f}'\\");
        assert_eq!(text("usher_serial"), "SN: \"2\"\n{% raw %}");
        assert_eq!(text("ansible_host"), "2001:db8::1");
        assert_eq!(text("usher_state"), "complete");
        assert_eq!(host["ansible_port"], 830);
        assert_eq!(host["ntp"], json!(["192.0.2.1", { "a": true }]));
        assert!(host.get("not a name").is_none());
        for group in ["group_edge", "site_bonn", "vendor_acme"] {
            assert_eq!(listed[group]["hosts"], json!(["sw-1", "sw-2"]), "{listed}");
        }
        let shown = run(
            "ansible",
            folder.path(),
            &[
                "-i",
                inventory,
                "sw-2",
                "-c",
                "local",
                "-m",
                "debug",
                "-a",
                "var=usher_hw_model",
            ],
        );
        assert!(shown.contains("lookup('pipe'"), "{shown}");
        assert!(!trap.exists(), "{inventory}: what a device said was run");
        seen.push(host.clone());
    }
    // `!unsafe` is taken off by one reader and not by the other; the rest is the same.
    assert_eq!(seen[0]["ntp"], seen[1]["ntp"]);
}

#[test]
fn a_key_of_two_devices_names_neither() {
    let devices = [
        device("a", "SN-1", 1),
        device("b", "SN-2", 1),
        device("c", "SN-3", 3),
    ];
    let keys = known_hosts::call_home_keys(&devices);
    let shared = key(1).fingerprint().unwrap();
    assert_eq!(keys["ambiguous"], json!([shared]));
    assert_eq!(
        keys["keys"][key(3).fingerprint().unwrap()]["serial"],
        "SN-3"
    );
    assert!(keys["keys"].get(&shared).is_none());
    let list = known_hosts::opendaylight(&devices);
    let list = &list["odl-netconf-callhome-server:allowed-devices"]["device"];
    assert_eq!(list[2]["unique-id"], "acme.SN-3");
    assert_eq!(list[2]["ssh-client-params"]["host-key"], key(3).key);
}

#[test]
fn two_devices_of_one_name_are_two_hosts() {
    let devices = [
        device("sw", "SN-1", 1),
        device("sw", "SN-2", 2),
        device("sw", "SN-2", 3),
    ];
    let list = ansible::list(&devices);
    assert_eq!(list["all"]["hosts"], json!(["sw", "sw.SN-2", "sw.2"]));
    assert_eq!(ansible::host(&devices, "nobody"), json!({}));
}

#[test]
fn netbox_hears_of_a_device_as_from_itself() {
    let at = time::macros::datetime!(2026-02-03 4:05:06 UTC);
    let payload = netbox::payload(&device("sw-1", "SN-1", 1), "evt_1", at);
    for member in [
        "event",
        "timestamp",
        "model",
        "username",
        "request_id",
        "data",
        "snapshots",
    ] {
        assert!(payload.get(member).is_some(), "{member}");
    }
    assert_eq!(payload["model"], "device");
    assert_eq!(payload["data"]["serial"], "SN-1");
    assert_eq!(
        payload["data"]["device_type"]["manufacturer"]["name"],
        "acme"
    );
    assert_eq!(payload["snapshots"]["postchange"], payload["data"]);
}

/// The bundle has the certificates of the CMS, and what is no CMS is said to be none.
#[test]
fn trust_anchors_become_a_bundle() {
    let pki = testkit::Pki::p256(testkit::NOW).unwrap();
    let root = pki.manufacturer_root.chain[0].clone();
    let mut one = device("sw-1", "SN-1", 1);
    one.trust_anchors = vec![
        STANDARD.encode(pki::pkcs7::certs_only(std::slice::from_ref(&root)).unwrap()),
        STANDARD.encode(b"mysshpass"),
    ];
    let (certificates, unreadable) = one.anchor_certificates();
    assert_eq!(certificates.len(), 1);
    assert_eq!(certificates[0].der(), root.der());
    assert_eq!(unreadable.len(), 1);
}

proptest! {
    /// Whatever a device is called and whatever it sends for a key, a file of known hosts keeps its
    /// lines, and no line is for another host.
    #[test]
    fn known_hosts_keeps_its_form(
        name in "\\PC{0,40}|(.|\n|\r|[ ,*?!#@|\\[\\]:-]){0,40}",
        serial in "(.|\n| ){0,20}",
        algorithm in "(.|\n){0,20}",
        kind in "(ssh-ed25519|[a-z0-9@.-]{1,20}|(.|\n){0,20})",
        body in proptest::collection::vec(any::<u8>(), 0..64),
        raw in proptest::option::of("(.|\n){0,40}"),
        port in proptest::option::of(any::<u16>()),
    ) {
        let mut one = device(&name, &serial, 1);
        one.port = port;
        one.address = Some(name.clone());
        let key = raw.unwrap_or_else(|| STANDARD.encode(blob(&kind, &body)));
        one.ssh_host_keys.push(HostKey { algorithm, key });
        for text in [
            known_hosts::known_hosts(std::slice::from_ref(&one)),
            known_hosts::call_home_known_hosts(std::slice::from_ref(&one)),
        ] {
            prop_assert!(text.ends_with('\n'));
            let lines: Vec<&str> = text.lines().collect();
            prop_assert!((1..=2).contains(&lines.len()), "{:?}", text);
            for line in lines {
                let fields: Vec<&str> = line.split(' ').collect();
                prop_assert_eq!(fields.len(), 3, "{:?}", line);
                prop_assert!(!fields[0].starts_with(['#', '@', '|', '-']));
                prop_assert!(!fields[0].contains(['*', '?', '!']));
                let blob = STANDARD.decode(fields[2]).unwrap();
                let length = usize::from(blob[3]);
                prop_assert_eq!(&blob[4..4 + length], fields[1].as_bytes());
            }
        }
    }

    /// Any text of a device is one YAML scalar with the mark of unsafe text.
    #[test]
    fn an_inventory_keeps_its_lines(text in "(.|\n|\r|\u{85}|\u{2028}|: |[{}%#&*!|>'\"`@]){0,60}") {
        let mut one = device("sw-1", "SN-1", 1);
        one.hw_model = Some(text.clone());
        one.name = text;
        let yaml = ansible::yaml(&[one]);
        prop_assert!(yaml.is_ascii());
        let plain = ansible::yaml(&[device("sw-1", "SN-1", 1)]);
        prop_assert_eq!(yaml.lines().count(), plain.lines().count());
        let line = yaml.lines().find(|line| line.contains("usher_hw_model")).unwrap();
        prop_assert!(line.starts_with("      \"usher_hw_model\": !unsafe \"") && line.ends_with('"'));
    }
}
