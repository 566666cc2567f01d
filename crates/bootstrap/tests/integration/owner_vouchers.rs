//! Vouchers in: judged before they are stored, from files, folders and archives.

use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use bootstrap::register::live::reader;
use bootstrap::register::{
    DeviceFilter, PinForm, VoucherFilter, VoucherOptions, VoucherOutcome, VoucherReport,
    VoucherResult, import_vouchers, list_vouchers, prune_vouchers, release, request_list,
    voucher_for,
};
use bootstrap::vendor::Vendors;
use pki::Certificate;
use store::params;
use testkit::NOW;
use time::Duration;

use crate::content_world::voucher_der;
use crate::harness::Lab;

fn options() -> VoucherOptions {
    VoucherOptions {
        dry_run: false,
        all_or_nothing: false,
        any_name: false,
        add_devices: false,
        warn: Duration::days(30),
    }
}

async fn bring(
    lab: &Lab,
    files: &[PathBuf],
    options: VoucherOptions,
) -> (VoucherReport, Vec<VoucherResult>) {
    let heard = Arc::new(Mutex::new(Vec::new()));
    let listener = {
        let heard = Arc::clone(&heard);
        Arc::new(move |what: Option<&[VoucherResult]>| match what {
            None => heard.lock().unwrap().clear(),
            Some(results) => heard.lock().unwrap().extend_from_slice(results),
        })
    };
    let owner = lab.config().load_owner().unwrap().unwrap();
    let vendors = Vendors::load(&lab.path("vendors.d")).unwrap().list;
    let reader = reader(&owner, NOW);
    let report = import_vouchers(&lab.store, files, reader, vendors, options, listener)
        .await
        .unwrap();
    let results = heard.lock().unwrap().clone();
    (report, results)
}

fn word(outcome: &VoucherOutcome) -> &'static str {
    match outcome {
        VoucherOutcome::Stored => "stored",
        VoucherOutcome::Known => "known",
        VoucherOutcome::Skipped { .. } => "skipped",
        VoucherOutcome::Refused { code, .. } => code,
    }
}

async fn stored(lab: &Lab) -> i64 {
    let row = lab
        .row("SELECT COUNT(*) AS n FROM voucher", params![])
        .await;
    row.integer("n").unwrap()
}

/// Requirements: SZTP-8366-5.1-01, SZTP-8366-5.3-01, SZTP-8366-5.3-02, SZTP-8366-5.3-03, SZTP-8572-3.3-01, SZTP-8572-5.4-05, SZTP-8572-5.4-06, SZTP-8572-5.4-08, SZTP-8572-5.4-10
pub(crate) async fn each_voucher_is_judged_before_it_is_stored() {
    let lab = Lab::prepare("").await;
    for serial in ["SN-1", "SN-2", "SN-3", "SN-4", "SN-5"] {
        lab.register(serial).await;
    }
    lab.change(
        "UPDATE device SET state = 'released' WHERE serial = 'SN-5'",
        params![],
    )
    .await;
    let pin = lab.ca.chain[0].clone();
    let other = lab.pki.domain.ca.chain[0].clone();
    let year = Some(NOW + Duration::days(365));
    let der = |serial: &str, pin: &Certificate, expires, nonce: Option<&[u8]>| {
        voucher_der(&lab, serial, pin, expires, nonce)
    };
    let good = der("SN-1", &pin, year, None);
    let mut flipped = good.clone();
    *flipped.last_mut().unwrap() ^= 1;
    let folder = lab.path("in");
    std::fs::create_dir(&folder).unwrap();
    let cases: Vec<(&str, Vec<u8>, &str)> = vec![
        ("SN-1.vcj", good.clone(), "stored"),
        ("SN-2.vcj", der("SN-2", &pin, None, None), "stored"),
        (
            "SN-3.vcj",
            der("SN-3", &pin, Some(NOW + Duration::days(3)), None),
            "stored",
        ),
        ("a.vcj", good.clone(), "bootstrap.voucher-misnamed"),
        ("b.vcj", flipped, "cms.signature-invalid"),
        ("c.vcj", good[..good.len() / 2].to_vec(), "cms.malformed"),
        ("d.vcj", b"MIIB".to_vec(), "cms.malformed"),
        ("e.vcj", Vec::new(), "bootstrap.voucher-encoding"),
        (
            "SN-4.vcj",
            der("SN-4", &pin, Some(NOW - Duration::SECOND), None),
            "voucher.expired",
        ),
        (
            "SN-4b.vcj",
            der("SN-4", &other, year, None),
            "voucher.pin-mismatch",
        ),
        (
            "SN-4c.vcj",
            der("SN-4", &pin, None, Some(&[7; 16])),
            "bootstrap.voucher-nonced",
        ),
        (
            "SN-5.vcj",
            der("SN-5", &pin, year, None),
            "bootstrap.device-released",
        ),
        (
            "SN-9.vcj",
            der("SN-9", &pin, year, None),
            "bootstrap.serial-unknown",
        ),
    ];
    for (name, octets, _) in &cases {
        std::fs::write(folder.join(name), octets).unwrap();
    }
    std::fs::write(folder.join("readme.txt"), "not looked at").unwrap();
    let check = |results: &[VoucherResult]| {
        assert_eq!(results.len(), cases.len());
        for (name, _, expected) in &cases {
            let result = results
                .iter()
                .find(|result| result.file.ends_with(&format!("/{name}")))
                .unwrap();
            let found = word(&result.outcome);
            // What breaks first in a truncated structure is the parser's business.
            if expected.ends_with("malformed") {
                assert!(
                    matches!(result.outcome, VoucherOutcome::Refused { .. }),
                    "{name}"
                );
            } else {
                assert_eq!(found, *expected, "{name}: {result:?}");
            }
            assert_eq!(result.warning.is_some(), *name == "SN-3.vcj", "{name}");
        }
    };
    let dry = VoucherOptions {
        dry_run: true,
        ..options()
    };
    let (report, results) = bring(&lab, std::slice::from_ref(&folder), dry).await;
    check(&results);
    assert!(!report.written);
    assert_eq!(stored(&lab).await, 0);
    let whole = VoucherOptions {
        all_or_nothing: true,
        ..options()
    };
    let (report, results) = bring(&lab, std::slice::from_ref(&folder), whole).await;
    check(&results);
    assert!(!report.written);
    assert_eq!(stored(&lab).await, 0);
    let (report, results) = bring(&lab, std::slice::from_ref(&folder), options()).await;
    check(&results);
    assert_eq!((report.files, report.stored, report.refused), (13, 3, 10));
    assert_eq!(stored(&lab).await, 3);
    let (report, _) = bring(&lab, &[folder], options()).await;
    assert_eq!((report.stored, report.known), (0, 3));
    lab.stop().await;
}

pub(crate) async fn an_archive_is_a_folder() {
    let lab = Lab::prepare("").await;
    let pin = lab.ca.chain[0].clone();
    let mut builder = tar::Builder::new(flate2::write::GzEncoder::new(
        Vec::new(),
        flate2::Compression::default(),
    ));
    for n in 0..200 {
        let serial = format!("SN-{n:03}");
        let der = voucher_der(&lab, &serial, &pin, None, None);
        let mut header = tar::Header::new_gnu();
        header.set_size(der.len() as u64);
        header.set_cksum();
        let name = format!("bulk_ovs/{serial}.vcj");
        builder
            .append_data(&mut header, name, der.as_slice())
            .unwrap();
    }
    let octets = builder.into_inner().unwrap().finish().unwrap();
    let file = lab.path("bulk_ovs.tar.gz");
    std::fs::write(&file, &octets).unwrap();
    // Nobody is known, and nothing is stored; then the devices come with their vouchers.
    let (report, _) = bring(&lab, std::slice::from_ref(&file), options()).await;
    assert_eq!((report.stored, report.refused), (0, 200));
    let add = VoucherOptions {
        add_devices: true,
        all_or_nothing: true,
        ..options()
    };
    let (report, results) = bring(&lab, std::slice::from_ref(&file), add.clone()).await;
    assert_eq!((report.stored, report.refused), (200, 0));
    assert_eq!(results[7].member.as_deref(), Some("bulk_ovs/SN-007.vcj"));
    assert_eq!(stored(&lab).await, 200);
    // An archive that breaks off: what came before is told, and with all or nothing not stored.
    std::fs::write(&file, &octets[..octets.len() - 400]).unwrap();
    let (report, results) = bring(&lab, &[file], add).await;
    assert!(!report.written);
    assert_eq!(
        word(&results.last().unwrap().outcome),
        "bootstrap.archive-broken"
    );
    lab.stop().await;
}

pub(crate) async fn a_device_gets_the_voucher_that_fits() {
    let lab = Lab::prepare("").await;
    let device = lab.register("SN-1").await;
    let pin = lab.ca.chain[0].clone();
    let folder = lab.path("in");
    std::fs::create_dir(&folder).unwrap();
    for (name, days) in [("a", 10), ("b", 300), ("c", 100)] {
        let der = voucher_der(&lab, "SN-1", &pin, Some(NOW + Duration::days(days)), None);
        std::fs::write(folder.join(format!("{name}.vcj")), der).unwrap();
    }
    let any = VoucherOptions {
        any_name: true,
        ..options()
    };
    assert_eq!(bring(&lab, &[folder], any).await.0.stored, 3);
    let days_left = async |at: time::OffsetDateTime, nonce: Option<&[u8]>| {
        let mut snapshot = lab.store.snapshot().await.unwrap();
        let row = voucher_for(&mut snapshot, device, nonce, at).await.unwrap();
        row.map(|row| (row.expires.unwrap() - NOW).whole_days())
    };
    // The one that ends last; that somebody sent a nonce for which there is none changes nothing.
    assert_eq!(days_left(NOW, None).await, Some(300));
    assert_eq!(days_left(NOW, Some(&[1; 16])).await, Some(300));
    assert_eq!(days_left(NOW + Duration::days(300), None).await, None);
    let filter = VoucherFilter {
        ends_before: Some(NOW + Duration::days(30)),
        limit: 10,
        ..VoucherFilter::default()
    };
    let mut snapshot = lab.store.snapshot().await.unwrap();
    assert_eq!(
        list_vouchers(&mut snapshot, &filter).await.unwrap().len(),
        1
    );
    drop(snapshot);
    let later = NOW + Duration::days(150);
    assert_eq!(
        prune_vouchers(&lab.store, later, true, NOW).await.unwrap(),
        2
    );
    assert_eq!(
        prune_vouchers(&lab.store, later, false, NOW).await.unwrap(),
        2
    );
    assert_eq!(stored(&lab).await, 1);
    lab.stop().await;
}

pub(crate) async fn the_manufacturer_gets_a_list_of_what_is_missing() {
    let lab = Lab::prepare("").await;
    for serial in ["SN-1", "SN-2", "SN-3"] {
        lab.register(serial).await;
    }
    let pin = lab.ca.chain[0].clone();
    let file = lab.path("SN-2.vcj");
    std::fs::write(&file, voucher_der(&lab, "SN-2", &pin, None, None)).unwrap();
    bring(&lab, &[file], options()).await;
    release(&lab.store, "SN-3", None, "", NOW).await.unwrap();
    let filter = DeviceFilter {
        without_voucher: Some(NOW),
        ..DeviceFilter::default()
    };
    for (form, begins) in [
        (PinForm::Base64, "MII"),
        (PinForm::Pem, "-----BEGIN CERTIFICATE-----"),
        (PinForm::Sha256, ""),
    ] {
        let list = request_list(&lab.store, filter.clone(), &pin, form)
            .await
            .unwrap();
        assert_eq!(list.devices.len(), 1);
        assert_eq!(list.devices[0].serial, "SN-1");
        assert!(list.pinned_domain_cert.starts_with(begins));
        let csv = list.to_csv().unwrap();
        let mut reader = csv::Reader::from_reader(csv.as_slice());
        let record = reader.records().next().unwrap().unwrap();
        assert_eq!(&record[0], "SN-1");
        assert_eq!(&record[3], list.pinned_domain_cert);
    }
    lab.stop().await;
}
