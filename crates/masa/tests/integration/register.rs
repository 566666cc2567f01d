//! The register: import, owners, transfer.

use masa::register::{
    DeviceFilter, Import, ImportOptions, ImportReport, ImportSource, OwnerChange, RowOutcome,
    add_owner, find_device, find_devices, list_devices, list_owners, read_rows, release, transfer,
};
use store::Store;

use crate::on_both;
use crate::support::{Masa, NOW};

async fn import(masa: &Masa, name: &str, content: &str, options: ImportOptions) -> ImportReport {
    let path = masa.directory.path().join(name);
    std::fs::write(&path, content).unwrap();
    let rows = read_rows(&path, ImportSource::of(&path)).unwrap();
    Import::prepare(&rows, options, name)
        .run(masa.store(), NOW, |_| {})
        .await
        .unwrap()
}

fn counts(report: &ImportReport) -> (usize, usize, usize, usize, bool) {
    (
        report.created,
        report.updated,
        report.unchanged,
        report.refused,
        report.written,
    )
}

async fn devices(store: &Store) -> Vec<String> {
    let filter = DeviceFilter {
        limit: 1000,
        ..DeviceFilter::default()
    };
    list_devices(store, &filter)
        .await
        .unwrap()
        .into_iter()
        .map(|d| d.serial)
        .collect()
}

const CSV: &str = "\
issuer,serial,product,sold-to,ship-date
00ff,SN-1,Router,acme,2026-01-31
00ff,SN-2,Router,,
,SN-3,Switch,acme,2026-02-01
";

async fn import_is_idempotent(masa: Masa) {
    masa.owner("acme", &masa.pki.domain, false).await;
    let options = ImportOptions::default();
    let dry = ImportOptions {
        dry_run: true,
        ..options.clone()
    };
    let report = import(&masa, "a.csv", CSV, dry).await;
    assert_eq!(counts(&report), (3, 0, 0, 0, false));
    assert_eq!(devices(masa.store()).await, [] as [&str; 0]);
    let report = import(&masa, "a.csv", CSV, options.clone()).await;
    assert_eq!(counts(&report), (3, 0, 0, 0, true));
    let entries = masa.count("audit_entry").await;
    let report = import(&masa, "a.csv", CSV, options.clone()).await;
    assert_eq!(counts(&report), (0, 0, 3, 0, true));
    assert_eq!(
        masa.count("audit_entry").await,
        entries,
        "nothing changed, nothing to audit"
    );
    // The same as JSON and as JSON lines.
    let json = r#"[{"issuer":"00:FF","serial":"SN-1","product":"Router","sold_to":"acme","ship_date":"2026-01-31"},
                   {"issuer":"00ff","serial-number":"SN-2","product":"Router 2"}]"#;
    let report = import(&masa, "a.json", json, options.clone()).await;
    assert_eq!(counts(&report), (0, 1, 1, 0, true));
    let report = import(
        &masa,
        "a.jsonl",
        "{\"serial\":\"SN-4\"}\n\n{\"serial\":\"SN-4\"}\n",
        options,
    )
    .await;
    assert_eq!(counts(&report), (1, 0, 1, 0, true));
    let device = find_device(masa.store(), "SN-1", None).await.unwrap();
    assert_eq!(
        (device.issuer.as_slice(), device.shipped.as_deref()),
        (&[0, 255][..], Some("2026-01-31"))
    );
    assert_eq!(
        devices(masa.store()).await,
        ["SN-1", "SN-2", "SN-3", "SN-4"]
    );
    masa.stop().await;
}

async fn import_is_all_or_nothing(masa: Masa) {
    masa.owner("acme", &masa.pki.domain, false).await;
    masa.owner("other", &masa.pki.other_domain("Other").unwrap(), false)
        .await;
    let bad = "\
serial,product,sold-to,ship-date,issuer,has-clock,formats,assertion-min
SN-1,Router,acme,2026-01-31,,yes,cms jws,proximity
,Router,,,,,,
SN-3,Router,nobody,,,,,
SN-4,Router,,31.1.2026,,,,
SN-5,Router,,,xyz,,,
SN-6,Router,,,,perhaps,,
SN-7,Router,,,,,cose xml,
SN-8,Router,,,,,,certain
SN-1,Switch,,,,,,
SN-9,too few
SN-10,Router,,,,,,
";
    let report = import(&masa, "bad.csv", bad, ImportOptions::default()).await;
    assert_eq!(counts(&report), (2, 0, 0, 9, false));
    assert_eq!(devices(masa.store()).await, [] as [&str; 0]);
    let codes: Vec<_> = report
        .outcomes
        .iter()
        .map(|outcome| match outcome {
            RowOutcome::Refused(code, _) => *code,
            _ => "ok",
        })
        .collect();
    assert_eq!(
        codes,
        [
            "ok",
            "masa.import-value",
            "masa.import-unknown-owner",
            "masa.import-value",
            "masa.import-value",
            "masa.import-row",
            "masa.import-value",
            "masa.import-value",
            "masa.import-duplicate",
            "masa.import-row",
            "ok"
        ]
    );
    let partial = ImportOptions {
        partial: true,
        ..ImportOptions::default()
    };
    let report = import(&masa, "bad.csv", bad, partial).await;
    assert_eq!(counts(&report), (2, 0, 0, 9, true));
    let device = find_device(masa.store(), "SN-1", None).await.unwrap();
    assert!(device.has_clock);
    assert_eq!(
        (device.formats.as_slice(), device.assertion_min),
        (&["cms", "jws"][..], Some("proximity"))
    );
    // An import does not take a device from its owner.
    let report = import(
        &masa,
        "take.csv",
        "serial,sold-to\nSN-1,other\n",
        ImportOptions::default(),
    )
    .await;
    assert!(matches!(
        report.outcomes[0],
        RowOutcome::Refused("masa.import-other-owner", _)
    ));
    transfer(masa.store(), &device, "other", NOW).await.unwrap();
    let device = find_device(masa.store(), "SN-1", None).await.unwrap();
    assert_eq!(device.sold_to.as_deref(), Some("other"));
    release(masa.store(), &device, true, NOW).await.unwrap();
    let device = find_device(masa.store(), "SN-1", None).await.unwrap();
    assert_eq!(device.sold_to, None);
    masa.stop().await;
}

async fn one_serial_two_issuers(masa: Masa) {
    let csv = "serial,issuer\nSN-1,aa\nSN-1,bb\n";
    let report = import(&masa, "two.csv", csv, ImportOptions::default()).await;
    assert_eq!(counts(&report), (2, 0, 0, 0, true));
    assert_eq!(find_devices(masa.store(), "SN-1").await.unwrap().len(), 2);
    let error = find_device(masa.store(), "SN-1", None).await.unwrap_err();
    assert_eq!(pki::Coded::code(&error), "masa.serial-ambiguous");
    assert!(
        find_device(masa.store(), "SN-1", Some(&[0xbb]))
            .await
            .is_ok()
    );
    masa.stop().await;
}

async fn one_certificate_one_owner(masa: Masa) {
    masa.owner("acme", &masa.pki.domain, false).await;
    let change = OwnerChange {
        certificates: vec![masa.pki.domain.ca.chain[0].clone()],
        ..OwnerChange::default()
    };
    let error = add_owner(masa.store(), "thief", change.clone(), NOW)
        .await
        .unwrap_err();
    assert_eq!(pki::Coded::code(&error), "masa.exists");
    assert_eq!(
        list_owners(masa.store(), "", 10).await.unwrap().len(),
        1,
        "rolled back whole"
    );
    let error = add_owner(masa.store(), "no good", change.clone(), NOW)
        .await
        .unwrap_err();
    assert_eq!(pki::Coded::code(&error), "masa.usage");
    assert!(
        !add_owner(masa.store(), "acme", change, NOW).await.unwrap(),
        "idempotent"
    );
    masa.stop().await;
}

on_both!(
    import_is_idempotent,
    import_is_all_or_nothing,
    one_serial_two_issuers,
    one_certificate_one_owner,
);
