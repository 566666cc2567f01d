//! The work of a voucher without its transport: signing, opening, and judging the signer's path.

use std::hint::black_box;

use artifacts::{Document, Envelope, Tolerances};
use criterion::{Criterion, criterion_group, criterion_main};
use pki::path::{PathOptions, Purpose, validate};
use testkit::Pki;
use time::OffsetDateTime;
use time::macros::datetime;

const NOW: OffsetDateTime = datetime!(2026-06-01 12:00 UTC);

fn vouchers(criterion: &mut Criterion) {
    let pki = Pki::p256(NOW).expect("a PKI");
    let voucher = usher_benches::world::voucher(&pki, "SN-1", NOW).expect("a voucher");
    let strict = Tolerances::strict();
    for envelope in Envelope::ALL {
        let sign = || {
            artifacts::sign_voucher(black_box(&voucher), envelope, &pki.masa_signer, NOW)
                .expect("signed")
        };
        let signed = sign();
        let mut group = criterion.benchmark_group(format!("{} voucher", envelope.name()));
        group.bench_function("sign", |bench| bench.iter(sign));
        group.bench_function("open and check the signature", |bench| {
            bench.iter(|| {
                let opened = artifacts::open(
                    Document::Voucher,
                    black_box(&signed),
                    Some(envelope),
                    &strict,
                )
                .expect("opened");
                opened
                    .dangerous_peek()
                    .check_signature(&strict, &[])
                    .expect("holds")
            });
        });
        group.finish();
    }
}

fn paths(criterion: &mut Criterion) {
    let pki = Pki::p256(NOW).expect("a PKI");
    let device = pki.idevid("SN-1").expect("a device");
    let anchors = pki.manufacturer_anchors();
    let options = PathOptions::new(Purpose::Idevid, NOW);
    criterion.bench_function("path of an IDevID through an intermediate CA", |bench| {
        bench.iter(|| {
            let (leaf, others) = device.chain.split_first().expect("a chain");
            validate(black_box(leaf), others, &anchors, &options).expect("holds")
        });
    });
    let der = device.chain.first().expect("a leaf").der().to_vec();
    criterion.bench_function("parse a certificate", |bench| {
        bench.iter(|| pki::Certificate::from_der(black_box(&der)).expect("parses"));
    });
}

fn requests(criterion: &mut Criterion) {
    let pki = Pki::p256(NOW).expect("a PKI");
    let request = usher_benches::world::request(&pki, "SN-1", NOW).expect("a request");
    let strict = Tolerances::strict();
    criterion.bench_function(
        "open a registrar's CMS request and check its signature",
        |bench| {
            bench.iter(|| {
                let opened = artifacts::open(
                    Document::Request,
                    black_box(&request),
                    Some(Envelope::Cms),
                    &strict,
                )
                .expect("opened");
                opened
                    .dangerous_peek()
                    .check_signature(&strict, &[])
                    .expect("holds")
            });
        },
    );
}

criterion_group!(benches, vouchers, paths, requests);
criterion_main!(benches);
