//! The commands, as their exit codes and files show them.

use daemon::Outcome;

use crate::harness::{Lab, command};

const ALLOW: &str = "[policy]\ndefault = \"allow\"\n";

pub(crate) async fn init_makes_a_registrar_that_its_doctor_finds_well() {
    use std::os::unix::fs::PermissionsExt as _;

    let lab = Lab::prepare(ALLOW).await;
    assert_eq!(lab.run(&["doctor"]).await, Outcome::Yes);
    for key in ["registrar.key", "domain-ca.key", "audit.key"] {
        let mode = std::fs::metadata(lab.path(key))
            .unwrap()
            .permissions()
            .mode();
        assert_eq!(mode & 0o777, 0o600, "{key}");
    }
    assert_eq!(lab.run(&["migrate"]).await, Outcome::Yes);
    // A second init would take somebody's keys away.
    let before = std::fs::read(lab.path("domain-ca.key")).unwrap();
    let dir = lab.path("").display().to_string();
    assert_eq!(
        command(&lab.clock, &["init", "--dir", &dir]).await,
        Outcome::CouldNotRun
    );
    assert_eq!(std::fs::read(lab.path("domain-ca.key")).unwrap(), before);
    // A key that others can read is found.
    let key = lab.path("registrar.key");
    std::fs::set_permissions(&key, std::fs::Permissions::from_mode(0o644)).unwrap();
    assert_eq!(lab.run(&["doctor"]).await, Outcome::No);
}

/// Requirements: BRSKI-5.8.2-03
pub(crate) async fn keys_can_be_encrypted_and_rsa_stands_beside() {
    let lab = Lab::prepare(ALLOW).await;
    let folder = tempfile::tempdir().unwrap();
    let passphrase = folder.path().join("passphrase");
    std::fs::write(&passphrase, "correct horse\n").unwrap();
    let dir = folder.path().join("registrar");
    let (dir_text, passphrase) = (dir.display().to_string(), passphrase.display().to_string());
    let arguments = [
        "init",
        "--dir",
        &dir_text,
        "--passphrase-file",
        &passphrase,
        "--rsa",
        "--name",
        "registrar.example",
        "--name",
        "192.0.2.1",
        "--domain",
        "Big, Co",
        "--json",
    ];
    assert_eq!(command(&lab.clock, &arguments).await, Outcome::Yes);
    let key = std::fs::read_to_string(dir.join("registrar.key")).unwrap();
    assert!(key.starts_with("-----BEGIN ENCRYPTED PRIVATE KEY-----"));
    let flags = daemon::config::Flags::new();
    let config = registrar::Config::load(&dir.join("registrar.toml"), &flags).unwrap();
    let keys = registrar::service::Keys::load(&config).unwrap();
    assert_eq!(keys.identities.len(), 2);
    for identity in &keys.identities {
        let leaf = &identity.chain[0];
        assert!(leaf.has_cmc_ra() && leaf.subject_key_id().is_some());
        assert_eq!(leaf.extended_key_usages().len(), 3);
        assert_eq!(leaf.dns_names(), ["registrar.example"]);
    }
}

pub(crate) async fn imports_rehearse_repeat_and_refuse_as_a_whole() {
    let lab = Lab::prepare(ALLOW).await;
    let list = lab.path("list.csv");
    let file = list.display().to_string();
    let count = async || {
        let config = lab.config();
        let store = store::Store::open(&config.database.url, &registrar::schema::SCHEMA)
            .await
            .unwrap();
        let mut snapshot = store.snapshot().await.unwrap();
        registrar::records::admissions(&mut snapshot, None, 10_000)
            .await
            .unwrap()
            .len()
    };
    let mut text = "serial,product,note\n".to_owned();
    for number in 0..2500 {
        text.push_str(&format!("SN-{number},C9300,row {number}\n"));
    }
    std::fs::write(&list, &text).unwrap();
    let import = ["device", "import", &file, "--vendor", "acme"];
    let rehearse = ["device", "import", &file, "--vendor", "acme", "--dry-run"];
    assert_eq!(lab.run(&rehearse).await, Outcome::Yes);
    assert_eq!(count().await, 0);
    assert_eq!(lab.run(&import).await, Outcome::Yes);
    assert_eq!(count().await, 2500);
    assert_eq!(lab.run(&import).await, Outcome::Yes);
    assert_eq!(count().await, 2500);
    // One bad row, and nothing is written.
    text.push_str("SN-NEW,C9300,fine\n,C9300,no serial number\n");
    std::fs::write(&list, &text).unwrap();
    assert_eq!(lab.run(&import).await, Outcome::No);
    assert_eq!(count().await, 2500);
    assert_eq!(
        lab.run(&["device", "list", "--imported"]).await,
        Outcome::Yes
    );
    let unknown_vendor = ["device", "import", &file, "--vendor", "nobody"];
    assert_eq!(lab.run(&unknown_vendor).await, Outcome::No);
    assert_eq!(
        lab.run(&["device", "import", "/absent.csv"]).await,
        Outcome::CouldNotRun
    );
}

pub(crate) async fn devices_are_listed_shown_and_decided_with_exit_codes() {
    let lab = Lab::start("[policy]\ndefault = \"ask\"\n").await;
    assert_eq!(lab.device("SN-1").ask().await.status, 202);
    assert_eq!(
        lab.run(&["device", "list", "--state", "pending"]).await,
        Outcome::Yes
    );
    assert_eq!(lab.run(&["device", "show", "SN-1"]).await, Outcome::Yes);
    assert_eq!(lab.run(&["device", "show", "ABSENT"]).await, Outcome::No);
    assert_eq!(lab.run(&["device", "approve", "ABSENT"]).await, Outcome::No);
    // A stranger with the same serial number is beside the point.
    let rogue = crate::harness::Device::new(
        lab.pki.self_signed_device("SN-1").unwrap(),
        "SN-1",
        lab.address(),
    );
    assert_eq!(rogue.ask().await.status, 403);
    let lonely = lab.pki.self_signed_device("SN-R").unwrap();
    let lonely = crate::harness::Device::new(lonely, "SN-R", lab.address());
    assert_eq!(lonely.ask().await.status, 403);
    // Approval says that a device may join, not that its maker is to be believed.
    assert_eq!(lab.run(&["device", "approve", "SN-R"]).await, Outcome::No);
    assert_eq!(lonely.ask().await.status, 403);
    assert_eq!(
        lab.run(&["device", "approve", "SN-1", "--by", "ann"]).await,
        Outcome::Yes
    );
    assert_eq!(
        lab.clone_of("SN-1").ask().await.code(),
        "registrar.clone-suspected"
    );
    assert_eq!(lab.device("SN-1").ask().await.status, 200);
    lab.stop().await;
}

pub(crate) async fn the_audit_log_is_verified_proven_and_exported() {
    let lab = Lab::start("[policy]\ndefault = \"ask\"\n").await;
    let device = lab.device("SN-1");
    let request = device.request().await;
    assert_eq!(device.ask_with(request.clone()).await.status, 202);
    assert_eq!(
        lab.run(&["device", "approve", "SN-1", "--by", "ann"]).await,
        Outcome::Yes
    );
    assert_eq!(device.ask_with(request).await.status, 200);
    lab.running()
        .service()
        .audit()
        .seal(lab.clock.now())
        .await
        .unwrap();
    assert_eq!(lab.run(&["audit", "verify"]).await, Outcome::Yes);
    let proof = lab.path("proof");
    let proof_text = proof.display().to_string();
    assert_eq!(
        lab.run(&["audit", "prove", "1", "--out", &proof_text])
            .await,
        Outcome::Yes
    );
    let key = lab.running().service().audit().key().to_string();
    let check = ["audit", "check", &proof_text, "--key", &key];
    assert_eq!(lab.run(&check).await, Outcome::Yes);
    let forged = lab.path("forged");
    let forged_text = forged.display().to_string();
    let text = std::fs::read_to_string(&proof).unwrap();
    let (entry, rest) = text.split_at(text.len() / 2);
    let flipped = if rest.starts_with('A') { "B" } else { "A" };
    std::fs::write(&forged, format!("{entry}{flipped}{}", &rest[1..])).unwrap();
    let check = ["audit", "check", &forged_text, "--key", &key];
    assert_eq!(lab.run(&check).await, Outcome::No);
    let lines = lab.path("audit.jsonl");
    let lines_text = lines.display().to_string();
    assert_eq!(
        lab.run(&["audit", "export", "--lines", &lines_text]).await,
        Outcome::Yes
    );
    let exported = std::fs::read_to_string(&lines).unwrap();
    assert!(exported.contains("device-approved") && exported.contains("voucher-obtained"));

    // A row that is rewritten is found.
    let store = lab.running().service().store().clone();
    store
        .transaction("tamper", |connection| {
            Box::pin(async move {
                let sql = "UPDATE audit_entry SET entry = $1 WHERE leaf_index = 0";
                connection
                    .execute(sql, store::params![b"{}".as_slice()])
                    .await?;
                Ok::<_, store::Error>(())
            })
        })
        .await
        .unwrap();
    assert_eq!(lab.run(&["audit", "verify"]).await, Outcome::No);
    // A log that was emptied whole agrees with itself; the checkpoint beside the database does not.
    store
        .transaction("tamper", |connection| {
            Box::pin(async move {
                for sql in [
                    "DELETE FROM audit_entry",
                    "DELETE FROM audit_node",
                    "DELETE FROM audit_checkpoint",
                    "DELETE FROM audit_head",
                ] {
                    connection.execute(sql, store::params![]).await?;
                }
                Ok::<_, store::Error>(())
            })
        })
        .await
        .unwrap();
    assert_eq!(lab.run(&["audit", "verify"]).await, Outcome::No);
    lab.stop().await;
}
