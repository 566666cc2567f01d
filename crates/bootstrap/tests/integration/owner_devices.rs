//! Devices in, out, changed, swapped and given away.

use std::collections::HashSet;
use std::sync::{Arc, Mutex};

use bootstrap::Error;
use bootstrap::register::{
    DeviceChange, DeviceFilter, Heard, ImportOptions, ImportReport, RowOutcome, RowResult, State,
    count_devices, find_device, import, list_devices, release, replace, set_device, transfer,
};
use store::params;
use testkit::NOW;

use crate::harness::Lab;

fn options() -> ImportOptions {
    ImportOptions {
        vendors: HashSet::from(["acme".to_owned(), "other".to_owned()]),
        types: Some(HashSet::from(["generic".to_owned()])),
        ..ImportOptions::default()
    }
}

async fn bring(
    lab: &Lab,
    text: &str,
    options: ImportOptions,
) -> Result<(ImportReport, Vec<RowResult>), Error> {
    let file = lab.path("devices.csv");
    std::fs::write(&file, text).unwrap();
    let heard = Arc::new(Mutex::new(Vec::new()));
    let listener = {
        let heard = Arc::clone(&heard);
        Arc::new(move |what: Heard<'_>| match what {
            Heard::Begin => heard.lock().unwrap().clear(),
            Heard::Rows(rows) => heard.lock().unwrap().extend_from_slice(rows),
        })
    };
    let report = import(&lab.store, &file, options, NOW, listener).await?;
    let rows = heard.lock().unwrap().clone();
    Ok((report, rows))
}

fn counts(report: ImportReport) -> [u64; 5] {
    [
        report.rows,
        report.created,
        report.updated,
        report.unchanged,
        report.refused,
    ]
}

fn everything() -> store::audit::Filter {
    store::audit::Filter {
        limit: 100,
        ..store::audit::Filter::default()
    }
}

async fn total(lab: &Lab) -> i64 {
    let row = lab.row("SELECT COUNT(*) AS n FROM device", params![]).await;
    row.integer("n").unwrap()
}

async fn epoch(lab: &Lab) -> i64 {
    let row = lab.row("SELECT value FROM epoch", params![]).await;
    row.integer("value").unwrap()
}

pub(crate) async fn an_import_is_all_or_nothing_and_the_same_again_changes_nothing() {
    let lab = Lab::prepare("").await;
    let file = "serial,vendor,group,site,device-type,alias-of,var.hostname\n\
                SN-1,acme,branch,bonn,generic,,one\n\
                SN-2,acme,branch,bonn,,,two\n\
                SN-2-RP0,acme,,,,SN-2,\n\
                SN-1,other,,,,,\n";
    // A dry run says everything and writes nothing.
    let dry = ImportOptions {
        dry_run: true,
        ..options()
    };
    let (report, rows) = bring(&lab, file, dry).await.unwrap();
    assert_eq!(counts(report), [4, 4, 0, 0, 0]);
    assert!(!report.written);
    assert_eq!(rows.len(), 4);
    assert_eq!(total(&lab).await, 0);
    // One bad row, and nothing is written.
    let bad = format!("{file}SN-9,nobody,,,,,\n");
    let (report, rows) = bring(&lab, &bad, options()).await.unwrap();
    assert_eq!(counts(report), [5, 4, 0, 0, 1]);
    assert!(!report.written);
    assert_eq!((rows[4].row, rows[4].serial.as_str()), (5, "SN-9"));
    assert_eq!(total(&lab).await, 0);
    assert_eq!(epoch(&lab).await, 0);
    // For real, then again.
    let (report, _) = bring(&lab, file, options()).await.unwrap();
    assert_eq!(counts(report), [4, 4, 0, 0, 0]);
    assert!(report.written);
    assert_eq!(epoch(&lab).await, 1);
    let (report, _) = bring(&lab, file, options()).await.unwrap();
    assert_eq!(counts(report), [4, 0, 0, 4, 0]);
    assert!(!report.written);
    assert_eq!((total(&lab).await, epoch(&lab).await), (4, 1));
    let mut snapshot = lab.store.snapshot().await.unwrap();
    let module = find_device(&mut snapshot, "SN-2-RP0", None).await.unwrap();
    let whole = find_device(&mut snapshot, "SN-2", None).await.unwrap();
    assert_eq!(module.alias_of, Some(whole.id));
    assert_eq!(whole.variables["hostname"], "two");
    // Two vendors use one number.
    let several = find_device(&mut snapshot, "SN-1", None).await;
    assert!(matches!(several, Err(Error::Ambiguous { count: 2, .. })));
    let named = find_device(&mut snapshot, "other/SN-1", None)
        .await
        .unwrap();
    assert_eq!(named.vendor, "other");
    drop(snapshot);
    // The good rows without the bad one.
    let partial = ImportOptions {
        partial: true,
        ..options()
    };
    let more = "serial,vendor\nSN-3,acme\nSN-4,nobody\n";
    let (report, _) = bring(&lab, more, partial).await.unwrap();
    assert_eq!(counts(report), [2, 1, 0, 0, 1]);
    assert_eq!(total(&lab).await, 5);
    lab.stop().await;
}

pub(crate) async fn rows_are_refused_for_a_reason() {
    let lab = Lab::prepare("").await;
    lab.register("SN-1").await;
    let file = "serial,vendor,group,device-type,owner,alias-of\n\
                SN-1,acme,core,,,\n\
                SN-2,nobody,,,,\n\
                SN-3,,,,,\n\
                SN-4,acme,,unheard-of,,\n\
                SN-5,acme,,,stranger,\n\
                SN-6,acme,,,,SN-404\n\
                SN-7,acme,a,,,\n\
                SN-7,acme,a,,,\n\
                SN-7,acme,b,,,\n\
                ,acme,,,,\n";
    let (report, rows) = bring(&lab, file, options()).await.unwrap();
    let codes: Vec<&str> = rows
        .iter()
        .map(|row| match &row.outcome {
            RowOutcome::Created => "created",
            RowOutcome::Updated { .. } => "updated",
            RowOutcome::Unchanged => "unchanged",
            RowOutcome::Refused { code, .. } => code,
        })
        .collect();
    assert_eq!(
        codes,
        [
            "bootstrap.import-differs",
            "bootstrap.import-vendor",
            "bootstrap.import-vendor",
            "bootstrap.import-type",
            "bootstrap.import-owner",
            "bootstrap.import-alias",
            "created",
            "unchanged",
            "bootstrap.import-duplicate",
            "bootstrap.import-value",
        ]
    );
    assert_eq!(counts(report), [10, 1, 0, 1, 8]);
    // The vendor of all rows, and new values.
    let overwrite = ImportOptions {
        overwrite: true,
        vendor: Some("acme".to_owned()),
        ..options()
    };
    let (report, rows) = bring(&lab, "serial,group\nSN-1,core\n", overwrite)
        .await
        .unwrap();
    assert_eq!(counts(report), [1, 0, 1, 0, 0]);
    let changed = vec!["group".to_owned()];
    assert_eq!(rows[0].outcome, RowOutcome::Updated { changed });
    // What is no table at all writes nothing and says so.
    for text in ["", "colour\nred\n"] {
        let error = bring(&lab, text, options()).await.unwrap_err();
        assert!(matches!(error, Error::Malformed { .. }), "{error}");
    }
    lab.stop().await;
}

pub(crate) async fn a_long_file_streams() {
    let lab = Lab::prepare("").await;
    let mut text = "serial,vendor,var.n\n".to_owned();
    for n in 0..5000 {
        text.push_str(&format!("SN-{n:05},acme,{n}\n"));
    }
    let (report, rows) = bring(&lab, &text, options()).await.unwrap();
    assert_eq!(counts(report), [5000, 5000, 0, 0, 0]);
    assert!(
        rows.iter()
            .enumerate()
            .all(|(at, row)| row.row == at as u64 + 1)
    );
    let filter = DeviceFilter {
        serial_prefix: Some("SN-001".to_owned()),
        limit: 1000,
        ..DeviceFilter::default()
    };
    let mut snapshot = lab.store.snapshot().await.unwrap();
    let found = list_devices(&mut snapshot, &filter).await.unwrap();
    assert_eq!(found.len(), 100);
    let counted = count_devices(&mut snapshot, &filter).await.unwrap();
    assert_eq!(counted, [(State::Registered, 100)]);
    drop(snapshot);
    lab.stop().await;
}

pub(crate) async fn what_an_operator_sets_is_kept_and_noted() {
    let lab = Lab::prepare("").await;
    let id = lab.register("SN-1").await;
    let change = DeviceChange {
        group: Some("core".to_owned()),
        site: Some("Bonn, Rhein".to_owned()),
        variables: [("hostname".to_owned(), "one".into())].into(),
        block: Some("stolen".to_owned()),
        ..DeviceChange::default()
    };
    let before = epoch(&lab).await;
    assert!(
        set_device(&lab.store, id, change.clone(), NOW)
            .await
            .unwrap()
    );
    assert!(!set_device(&lab.store, id, change, NOW).await.unwrap());
    assert_eq!(epoch(&lab).await, before + 1);
    let mut snapshot = lab.store.snapshot().await.unwrap();
    let device = find_device(&mut snapshot, "SN-1", None).await.unwrap();
    assert_eq!(
        (device.group.as_str(), device.site.as_str()),
        ("core", "Bonn, Rhein")
    );
    assert_eq!(device.blocked.as_deref(), Some("stolen"));
    drop(snapshot);
    for bad in [
        DeviceChange {
            group: Some("a b".to_owned()),
            ..DeviceChange::default()
        },
        DeviceChange {
            variables: [("a-b".to_owned(), 1.into())].into(),
            ..DeviceChange::default()
        },
        DeviceChange {
            note: Some("\u{7}".to_owned()),
            ..DeviceChange::default()
        },
    ] {
        assert!(set_device(&lab.store, id, bad, NOW).await.is_err());
    }
    // The names of what changed are in the audit log, and no values, which can be secrets.
    let entries = store::audit::list(&lab.store, &everything()).await.unwrap();
    let text = String::from_utf8_lossy(&entries.last().unwrap().octets).into_owned();
    assert!(
        text.contains("var.hostname") && !text.contains("one"),
        "{text}"
    );
    lab.stop().await;
}

async fn count(lab: &Lab, sql: &'static str, device: i64) -> i64 {
    lab.row(sql, params![device]).await.integer("n").unwrap()
}

/// What hangs on a device: a voucher, a certificate, an artefact.
async fn hang_on(lab: &Lab, device: i64) {
    let blob = vec![1_u8];
    lab.change(
        "INSERT INTO voucher (device, der, sha256, pin_sha256, assertion, source, stored_us) \
         VALUES ($1, $2, $2, $2, 'verified', 'test', 0)",
        params![device, &blob],
    )
    .await;
    lab.change(
        "INSERT INTO certificate (device, csr_sha256, serial, chain, not_before_us, not_after_us, \
         at_us) VALUES ($1, $2, '0a0b', $2, 0, $3, 0)",
        params![device, &blob, NOW + time::Duration::days(365)],
    )
    .await;
}

pub(crate) async fn a_replacement_takes_over_and_the_old_one_gets_nothing() {
    let lab = Lab::start("").await;
    lab.stage(
        "[[rule]]\nname = \"all\"\nredirect = \"r\"\n[[redirect]]\nname = \"r\"\n\
         [[redirect.server]]\naddress = \"192.0.2.1\"\n",
        &[],
    )
    .await;
    let old = lab.register("SN-1").await;
    hang_on(&lab, old).await;
    let change = DeviceChange {
        group: Some("core".to_owned()),
        variables: [("hostname".to_owned(), "one".into())].into(),
        ..DeviceChange::default()
    };
    set_device(&lab.store, old, change, NOW).await.unwrap();
    assert_eq!(
        lab.device("SN-1").ask(serde_json::json!({})).await.status,
        200
    );
    let done = replace(&lab.store, "SN-1", "SN-2", None, NOW)
        .await
        .unwrap();
    assert!(done.changed && done.added);
    assert_eq!(done.taken_over, ["group", "var.hostname"]);
    assert_eq!(done.left.vouchers_deleted, 1);
    assert_eq!(done.left.variables_removed, 1);
    assert_eq!(done.left.certificates_valid, ["0a0b"]);
    let mut snapshot = lab.store.snapshot().await.unwrap();
    let new = find_device(&mut snapshot, "SN-2", None).await.unwrap();
    assert_eq!(new.group, "core");
    assert_eq!(new.variables["hostname"], "one");
    let gone = find_device(&mut snapshot, "SN-1", None).await.unwrap();
    assert_eq!(
        (gone.state, gone.replaced_by),
        (State::Replaced, Some(new.id))
    );
    assert!(gone.variables.is_empty());
    drop(snapshot);
    // At once, also for a server that runs.
    assert_eq!(
        lab.device("SN-1").ask(serde_json::json!({})).await.status,
        403
    );
    assert_eq!(
        lab.device("SN-2").ask(serde_json::json!({})).await.status,
        200
    );
    // The second time changes nothing, and another successor is a mistake.
    let again = replace(&lab.store, "SN-1", "SN-2", None, NOW)
        .await
        .unwrap();
    assert!(!again.changed);
    assert!(
        replace(&lab.store, "SN-1", "SN-3", None, NOW)
            .await
            .is_err()
    );
    assert!(
        replace(&lab.store, "SN-2", "SN-2", None, NOW)
            .await
            .is_err()
    );
    assert!(
        replace(&lab.store, "SN-404", "SN-5", None, NOW)
            .await
            .is_err()
    );
    lab.register("SN-6").await;
    lab.change(
        "UPDATE device SET state = 'complete' WHERE serial = 'SN-6'",
        params![],
    )
    .await;
    let error = replace(&lab.store, "SN-2", "SN-6", None, NOW)
        .await
        .unwrap_err();
    assert!(error.to_string().contains("--reset"), "{error}");
    lab.stop().await;
}

pub(crate) async fn what_is_released_or_transferred_gets_nothing() {
    let lab = Lab::prepare("").await;
    let first = lab.register("SN-1").await;
    hang_on(&lab, first).await;
    let done = release(&lab.store, "SN-1", None, "sold", NOW)
        .await
        .unwrap();
    assert!(done.changed);
    assert_eq!(done.left.vouchers_deleted, 1);
    assert_eq!(
        count(
            &lab,
            "SELECT COUNT(*) AS n FROM voucher WHERE device = $1",
            first
        )
        .await,
        0
    );
    let again = release(&lab.store, "SN-1", None, "sold", NOW)
        .await
        .unwrap();
    assert!(!again.changed);
    assert_eq!(again.left.certificates_valid, ["0a0b"]);
    lab.register("SN-2").await;
    let done = transfer(&lab.store, "SN-2", None, "globex", NOW)
        .await
        .unwrap();
    assert!(done.released.changed);
    assert!(
        !transfer(&lab.store, "SN-2", None, "globex", NOW)
            .await
            .unwrap()
            .released
            .changed
    );
    assert!(
        transfer(&lab.store, "SN-2", None, "initech", NOW)
            .await
            .unwrap()
            .released
            .changed
    );
    assert!(transfer(&lab.store, "SN-2", None, "", NOW).await.is_err());
    let kinds: Vec<String> = store::audit::list(&lab.store, &everything())
        .await
        .unwrap()
        .iter()
        .filter_map(|entry| store::audit::Entry::decode(&entry.octets))
        .map(|entry| entry.kind)
        .collect();
    assert_eq!(
        kinds,
        [
            "device-released",
            "device-transferred",
            "device-transferred"
        ]
    );
    // Ordered again, it begins anew, if somebody says so.
    let file = "serial,vendor,group\nSN-1,acme,\n";
    let (report, _) = bring(&lab, file, options()).await.unwrap();
    assert_eq!(report.refused, 1);
    let overwrite = ImportOptions {
        overwrite: true,
        ..options()
    };
    let (report, _) = bring(&lab, file, overwrite).await.unwrap();
    assert_eq!(report.updated, 1);
    assert_eq!(lab.state("SN-1").await, "registered");
    lab.stop().await;
}
