//! Vouchers in batches.

use std::collections::HashMap;
use std::sync::Arc;

use artifacts::Envelope;
use masa::batch::{self, BatchOptions, Manifest};
use masa::register::{OwnerChange, add_owner, block, find_device};
use time::Duration;

use crate::on_both;
use crate::support::{Masa, NOW};

fn options(owner: &str) -> BatchOptions {
    BatchOptions {
        owner: owner.to_owned(),
        envelope: Envelope::Cms,
        expires_on: NOW + Duration::days(100),
        pin: None,
        key: None,
        claim_unsold: false,
        renew: false,
        dry_run: false,
    }
}

async fn run(
    masa: &Masa,
    options: BatchOptions,
    serials: &[&str],
) -> Result<Manifest, masa::Error> {
    let identity = masa.config.keys().unwrap().nonceless.unwrap();
    let serials = serials
        .iter()
        .map(|serial| ((*serial).to_owned(), None))
        .collect();
    let out = masa.directory.path().join("out");
    batch::run(
        masa.store(),
        Arc::clone(&identity),
        options,
        serials,
        &out,
        NOW,
        |_| {},
    )
    .await
}

async fn batches_are_written_with_a_manifest(masa: Masa) {
    masa.owner("acme", &masa.pki.domain, true).await;
    masa.owner("other", &masa.pki.other_domain("Other").unwrap(), true)
        .await;
    masa.device_rows(&["SN-1", "../SN-2", "SN-BLOCKED"], Some("acme"), "")
        .await;
    masa.device_rows(&["SN-OTHER"], Some("other"), "").await;
    masa.devices(&["SN-FREE"]).await;
    let device = find_device(masa.store(), "SN-BLOCKED", None).await.unwrap();
    block(masa.store(), &device, Some("lost"), NOW)
        .await
        .unwrap();
    let serials = [
        "SN-1",
        "../SN-2",
        "SN-BLOCKED",
        "SN-OTHER",
        "SN-FREE",
        "SN-404",
        "SN-1",
    ];
    let dry = BatchOptions {
        dry_run: true,
        ..options("acme")
    };
    let manifest = run(&masa, dry, &serials).await.unwrap();
    assert_eq!((manifest.issued, manifest.refused), (3, 4));
    assert_eq!(masa.count("voucher").await, 0);

    let manifest = run(&masa, options("acme"), &serials).await.unwrap();
    assert_eq!(
        (manifest.issued, manifest.again, manifest.refused),
        (2, 1, 4)
    );
    let codes: Vec<_> = manifest.vouchers.iter().map(|row| row.code).collect();
    assert_eq!(
        codes,
        [
            "ok",
            "ok",
            "masa.device-blocked",
            "masa.not-the-owner",
            "masa.not-sold",
            "masa.serial-unknown",
            "ok"
        ]
    );
    assert_eq!(
        manifest.vouchers[1].file.as_deref(),
        Some("%2E.%2FSN-2.vcj")
    );
    let out = masa.directory.path().join("out");
    let mut names: Vec<_> = std::fs::read_dir(&out)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    assert_eq!(names.len(), 5, "{names:?}");
    let json: serde_json::Value =
        serde_json::from_slice(&std::fs::read(out.join("manifest.json")).unwrap()).unwrap();
    assert_eq!(json["vouchers"][0]["file"], "SN-1.vcj");
    assert!(
        std::fs::read_to_string(out.join("manifest.csv"))
            .unwrap()
            .lines()
            .count()
            == 8
    );
    // Again: the same bytes. With renew: other ones, and the audit log has both.
    let again = run(&masa, options("acme"), &["SN-1"]).await.unwrap();
    assert_eq!((again.issued, again.again), (0, 1));
    assert_eq!(again.vouchers[0].sha256, manifest.vouchers[0].sha256);
    let renewed = BatchOptions {
        renew: true,
        envelope: Envelope::Jws,
        ..options("acme")
    };
    let renewed = run(&masa, renewed, &["SN-1"]).await.unwrap();
    assert_eq!(renewed.vouchers[0].file.as_deref(), Some("SN-1.vjj"));
    assert_eq!(masa.count("voucher").await, 3);
    let claim = BatchOptions {
        claim_unsold: true,
        ..options("acme")
    };
    let claimed = run(&masa, claim, &["SN-FREE"]).await.unwrap();
    assert_eq!(claimed.issued, 1);
    let device = find_device(masa.store(), "SN-FREE", None).await.unwrap();
    assert_eq!(device.holder_owner.as_deref(), Some("acme"));
    masa.stop().await;
}

async fn batches_need_a_contract(masa: Masa) {
    masa.owner("acme", &masa.pki.domain, false).await;
    masa.device_rows(&["SN-1"], Some("acme"), "").await;
    let code =
        |result: Result<Manifest, masa::Error>| result.err().map(|error| pki::Coded::code(&error));
    let refused = run(&masa, options("acme"), &["SN-1"]).await;
    assert_eq!(code(refused), Some("masa.nonceless-not-authorised"));
    assert_eq!(
        code(run(&masa, options("nobody"), &["SN-1"]).await),
        Some("masa.not-found")
    );
    let change = OwnerChange {
        nonceless: Some(true),
        certificates: vec![masa.pki.other_domain("Second CA").unwrap().ca.chain[0].clone()],
        ..OwnerChange::default()
    };
    add_owner(masa.store(), "acme", change, NOW).await.unwrap();
    assert_eq!(
        code(run(&masa, options("acme"), &["SN-1"]).await),
        Some("masa.usage")
    );
    let pinned = BatchOptions {
        pin: Some(masa.pki.domain.ca.chain[0].clone()),
        ..options("acme")
    };
    let manifest = run(&masa, pinned, &["SN-1"]).await.unwrap();
    assert_eq!(
        manifest.pinned_sha256,
        hex::encode(masa.pki.domain.ca.chain[0].sha256())
    );
    let past = BatchOptions {
        expires_on: NOW - Duration::days(1),
        ..options("acme")
    };
    assert_eq!(code(run(&masa, past, &["SN-1"]).await), Some("masa.usage"));
    masa.stop().await;
}

async fn serial_files(masa: Masa) {
    let directory = masa.directory.path();
    let list = directory.join("serials.txt");
    std::fs::write(&list, "# a comment\nSN-1\n\n  SN-2  \n").unwrap();
    let table = directory.join("serials.csv");
    std::fs::write(&table, "serial,issuer\nSN-1,aa\nSN-2,\n").unwrap();
    let read = |path| -> HashMap<String, Option<Vec<u8>>> {
        batch::read_serials(path).unwrap().into_iter().collect()
    };
    assert_eq!(read(&list).len(), 2);
    assert_eq!(read(&table)["SN-1"], Some(vec![0xaa]));
    assert_eq!(read(&table)["SN-2"], None);
    assert!(batch::read_serials(&directory.join("none")).is_err());
    masa.stop().await;
}

on_both!(
    /// Requirements: BRSKI-5.6-26, BRSKI-11.6.2-01
    batches_are_written_with_a_manifest,
    /// Requirements: BRSKI-7.4.1-01, BRSKI-7.4.1-03
    batches_need_a_contract,
    serial_files,
);
