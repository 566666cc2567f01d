//! What an envelope costs beside the signature in it: P-256, a voucher of usual size, a chain of
//! two certificates.

use std::hint::black_box;
use std::sync::Arc;

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_ASN1, ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair, KeyPair as _,
    UnparsedPublicKey,
};
use criterion::{Criterion, criterion_group, criterion_main};
use pki::cms::{self, CmsPolicy, ID_CT_ANIMA_JSON_VOUCHER, SignedData};
use pki::jws::{self, Jws, JwsPolicy, TYPE_VOUCHER};
use pki::{Certificate, Identity, SignOptions, SoftwareKey};
use time::macros::datetime;

const VENDOR: &str = include_str!("../tests/data/published/rfc8995/vendor.crt");
const SIGNER: &str = include_str!("../tests/data/published/rfc8995/jrc_prime256v1.crt");
const SIGNER_KEY: &str = include_str!("../tests/data/published/rfc8995/jrc_prime256v1.key");

fn envelopes(criterion: &mut Criterion) {
    let content = vec![b'x'; 1200];
    let random = SystemRandom::new();
    let pair = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_ASN1_SIGNING).expect("a key");
    let signature = pair.sign(&random, &content).expect("a signature");
    let public = UnparsedPublicKey::new(&ECDSA_P256_SHA256_ASN1, pair.public_key().as_ref());

    let mut group = criterion.benchmark_group("P-256 raw");
    group.bench_function("sign", |bench| {
        bench.iter(|| {
            pair.sign(&random, black_box(&content))
                .expect("a signature")
        });
    });
    group.bench_function("verify", |bench| {
        bench.iter(|| {
            public
                .verify(black_box(&content), signature.as_ref())
                .expect("verifies")
        });
    });
    group.finish();

    let chain = [SIGNER, VENDOR].map(|pem| Certificate::from_pem(pem).expect("a certificate"));
    let key = SoftwareKey::from_pem(SIGNER_KEY, None).expect("a key");
    let identity = Identity::new(chain.to_vec(), Arc::new(key)).expect("they belong together");
    let options = SignOptions {
        signing_time: Some(datetime!(2026-11-23 12:00 UTC)),
        ..SignOptions::default()
    };

    let sign = || {
        cms::sign(
            black_box(&content),
            ID_CT_ANIMA_JSON_VOUCHER,
            &identity,
            &options,
        )
        .expect("a message")
    };
    let message = sign();
    let policy = CmsPolicy::strict(ID_CT_ANIMA_JSON_VOUCHER);
    let mut group = criterion.benchmark_group("P-256 CMS");
    group.bench_function("sign", |bench| bench.iter(sign));
    group.bench_function("parse and verify", |bench| {
        bench.iter(|| {
            let signed_data = SignedData::parse(black_box(&message)).expect("parses");
            signed_data.verify(&policy, &[]).expect("verifies")
        });
    });
    group.bench_function("parse", |bench| {
        bench.iter(|| SignedData::parse(black_box(&message)).expect("parses"));
    });
    group.finish();

    // The draft's algorithm is ES256 with the chain in x5c; the second certificate is not the
    // issuer of the first here, so only the first is sent.
    let leaf = SignOptions {
        include_certs: pki::IncludeCertificates::Signer,
        ..options.clone()
    };
    let sign =
        || jws::sign(black_box(&content), Some(TYPE_VOUCHER), &identity, &leaf).expect("a message");
    let message = sign();
    let policy = JwsPolicy::strict(TYPE_VOUCHER);
    let mut group = criterion.benchmark_group("P-256 JWS");
    group.bench_function("sign", |bench| bench.iter(sign));
    group.bench_function("parse and verify", |bench| {
        bench.iter(|| {
            let jws = Jws::parse(black_box(&message)).expect("parses");
            jws.verify(&policy, &[]).expect("verifies")
        });
    });
    group.finish();

    let der = identity.chain.first().expect("a leaf").der().to_vec();
    criterion.bench_function("certificate, parse", |bench| {
        bench.iter(|| Certificate::from_der(black_box(&der)).expect("parses"));
    });
}

criterion_group!(benches, envelopes);
criterion_main!(benches);
