//! Voucher requests: a pledge's and a registrar's.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde_json::json;

use super::{
    super::vectors::{Context, Encoding, Kind, Vector},
    NONCE, NOW, SERIAL, World,
    cms::flipped,
};
use crate::forge::{
    cms::{ANIMA_JSON_VOUCHER, Cms, Signatory},
    jws::Jws,
    voucher::{Leaves, VOUCHER, idevid_issuer},
    x509::{CLIENT_AUTH, Identity, SERVER_AUTH, name},
};

type Signers = fn(&World) -> Identity;
type Fill = std::sync::Arc<dyn Fn(&World) -> Vec<u8> + Send + Sync>;

struct Content {
    name: String,
    valid: bool,
    requirements: Vec<&'static str>,
    reason: String,
    context: Context,
    make: Fill,
}

/// What a registrar knows that judges a pledge's request.
fn registrar() -> Context {
    Context {
        anchors: vec!["pki/manufacturer.pem"],
        intermediates: vec!["pki/device-ca.pem"],
        registrar: vec!["pki/registrar.pem"],
        peer: vec!["pki/device.pem"],
        ..Context::default()
    }
}

/// What a MASA knows that judges a registrar's request.
fn masa() -> Context {
    Context {
        anchors: vec!["pki/manufacturer.pem"],
        intermediates: vec!["pki/device-ca.pem"],
        domain: vec!["pki/domain.pem"],
        ..Context::default()
    }
}

pub(super) fn vectors() -> Vec<Vector> {
    let mut vectors = Vec::new();
    for content in pledge_contents() {
        push(&mut vectors, "pvr", Kind::Pvr, content, |world| {
            world.device.clone()
        });
    }
    for content in registrar_contents() {
        push(&mut vectors, "rvr", Kind::Rvr, content, |world| {
            world.registrar.clone()
        });
    }
    vectors.extend(pledge_signers());
    vectors.extend(registrar_signers());
    for place in [50, 100, 150, 200, 250, 850, 960] {
        vectors.push(
            Vector::new(
                format!("pvr-cms/flip-{place:03}"),
                (Kind::Pvr, Encoding::Cms),
                false,
                &["BRSKI-5.2-13"],
                format!("a bit is turned after {place} thousandths of the octets"),
                move |world| flipped(&world.pledge_request(), place),
            )
            .context(registrar()),
        );
        vectors.push(
            Vector::new(
                format!("rvr-cms/flip-{place:03}"),
                (Kind::Rvr, Encoding::Cms),
                false,
                &["BRSKI-5.5.3-01"],
                format!("a bit is turned after {place} thousandths of the octets"),
                move |world| {
                    let octets = sign(
                        Encoding::Cms,
                        &world.registrar_request().encode(),
                        &world.registrar,
                    );
                    flipped(&octets, place)
                },
            )
            .context(masa()),
        );
    }
    vectors
}

/// In CMS and, where the prior request's envelope does not matter, in JWS.
fn push(vectors: &mut Vec<Vector>, what: &str, kind: Kind, content: Content, by: Signers) {
    for encoding in [Encoding::Cms, Encoding::Jws] {
        let make = content.make.clone();
        vectors.push(
            Vector::new(
                format!("{what}-{}/{}", encoding.name(), content.name),
                (kind, encoding),
                content.valid,
                &content.requirements,
                content.reason.clone(),
                move |world| sign(encoding, &make(world), &by(world)),
            )
            .context(content.context.clone()),
        );
    }
}

fn sign(encoding: Encoding, content: &[u8], identity: &Identity) -> Vec<u8> {
    sign_as(encoding, content, &identity.signatory, &identity.chain())
}

fn sign_as(encoding: Encoding, content: &[u8], signer: &Signatory, chain: &[Vec<u8>]) -> Vec<u8> {
    if encoding == Encoding::Jws {
        return Jws::new(content, signer, chain).encode();
    }
    Cms::new(content, ANIMA_JSON_VOUCHER, signer, NOW)
        .with(|cms| cms.certificates = chain.to_vec())
        .encode()
}

fn pledge_leaves(world: &World) -> Leaves {
    Leaves::pledge_request(SERIAL, &NONCE, world.registrar.certificate(), Some(NOW))
}

fn pledge_contents() -> Vec<Content> {
    let change = |name: &str,
                  valid: bool,
                  requirements: &[&'static str],
                  reason: &str,
                  change: fn(Leaves, &World) -> Leaves| Content {
        name: name.to_owned(),
        valid,
        requirements: requirements.to_vec(),
        reason: reason.to_owned(),
        context: registrar(),
        make: std::sync::Arc::new(move |world| change(pledge_leaves(world), world).encode()),
    };
    let mut contents = vec![
        change(
            "good",
            true,
            &["BRSKI-5.2-13", "BRSKI-3.4-07"],
            "a request as RFC 8995 has it",
            |leaves, _| leaves,
        ),
        change(
            "no-created-on",
            true,
            &["BRSKI-5.2-07"],
            "created-on is left out, as a pledge without a clock does",
            |leaves, _| leaves.unset("created-on"),
        ),
        change(
            "with-idevid-issuer",
            true,
            &["BRSKI-5.2-16", "VOUCHERBIS-6.2-03"],
            "idevid-issuer is there, which is allowed",
            |leaves, world| {
                leaves.binary("idevid-issuer", &idevid_issuer(&world.device_ca.key_id()))
            },
        ),
        change(
            "no-assertion",
            false,
            &["BRSKI-5.2-11", "BRSKI-5.2-10"],
            "assertion is missing",
            |leaves, _| leaves.unset("assertion"),
        ),
        change(
            "assertion-logged",
            false,
            &["BRSKI-5.2-11", "BRSKI-5.2-10"],
            "assertion is logged",
            |leaves, _| leaves.set("assertion", "logged"),
        ),
        change(
            "assertion-verified",
            false,
            &["BRSKI-5.2-11", "BRSKI-5.2-10"],
            "assertion is verified",
            |leaves, _| leaves.set("assertion", "verified"),
        ),
        change(
            "assertion-unknown",
            false,
            &["BRSKI-5.2-11"],
            "assertion is foo",
            |leaves, _| leaves.set("assertion", "foo"),
        ),
        change(
            "no-proximity",
            false,
            &["BRSKI-5.2-11", "BRSKI-3.4-07"],
            "proximity-registrar-cert is missing",
            |leaves, _| leaves.unset("proximity-registrar-cert"),
        ),
        change(
            "proximity-other",
            false,
            &["BRSKI-5.2-12", "BRSKI-3.4-08"],
            "proximity-registrar-cert is another registrar's",
            |leaves, world| {
                leaves.binary(
                    "proximity-registrar-cert",
                    world.other_registrar.certificate(),
                )
            },
        ),
        change(
            "proximity-ca",
            false,
            &["BRSKI-3.4-08", "BRSKI-5.2-12"],
            "proximity-registrar-cert is the domain's CA and not the registrar",
            |leaves, world| leaves.binary("proximity-registrar-cert", world.domain.certificate()),
        ),
        change(
            "proximity-garbage",
            false,
            &["BRSKI-3.4-08"],
            "proximity-registrar-cert is no certificate",
            |leaves, _| leaves.binary("proximity-registrar-cert", b"certificate"),
        ),
        change(
            "proximity-number",
            false,
            &["BRSKI-3.4-08"],
            "proximity-registrar-cert is a number",
            |leaves, _| leaves.set("proximity-registrar-cert", 7),
        ),
        change(
            "serial-other",
            false,
            &["BRSKI-2.3.1-04"],
            "serial-number is not that of the device's certificate",
            |leaves, _| leaves.set("serial-number", "JADA-2"),
        ),
        change(
            "serial-missing",
            false,
            &["VOUCHER-5.3-03"],
            "serial-number is missing",
            |leaves, _| leaves.unset("serial-number"),
        ),
        change(
            "serial-number",
            false,
            &["VOUCHER-5.3-03"],
            "serial-number is a number",
            |leaves, _| leaves.set("serial-number", 123),
        ),
        change(
            "nonce-7",
            false,
            &["VOUCHER-5.3-22", "BRSKI-5.2-08"],
            "the nonce has 7 octets",
            |leaves, _| leaves.binary("nonce", &NONCE[..7]),
        ),
        change(
            "nonce-8",
            true,
            &["VOUCHER-5.3-22", "BRSKI-5.2-08"],
            "the nonce has 8 octets",
            |leaves, _| leaves.binary("nonce", &NONCE[..8]),
        ),
        change(
            "nonce-32",
            true,
            &["VOUCHER-5.3-22", "BRSKI-5.2-08"],
            "the nonce has 32 octets",
            |leaves, _| leaves.binary("nonce", &[NONCE, NONCE].concat()),
        ),
        change(
            "nonce-33",
            false,
            &["VOUCHER-5.3-22", "BRSKI-5.2-08"],
            "the nonce has 33 octets",
            |leaves, _| leaves.binary("nonce", &[0x41; 33]),
        ),
        change(
            "nonce-number",
            false,
            &["VOUCHER-5.3-22"],
            "the nonce is a number",
            |leaves, _| leaves.set("nonce", 7),
        ),
        change(
            "created-on-basic",
            false,
            &["VOUCHER-5.3-01"],
            "created-on is in the basic format",
            |leaves, _| leaves.set("created-on", "20260601T120000Z"),
        ),
        change(
            "voucher-member",
            false,
            &["BRSKI-3-03"],
            "the top-level member is that of a voucher",
            |leaves, _| leaves.under(VOUCHER),
        ),
        change(
            "unqualified",
            false,
            &["BRSKI-3-03"],
            "the top-level member is not qualified with its module",
            |leaves, _| leaves.under("voucher"),
        ),
    ];
    contents.push(Content {
        name: "duplicate-nonce".into(),
        valid: false,
        requirements: vec!["BRSKI-3-03"],
        reason: "the nonce is there twice".into(),
        context: registrar(),
        make: std::sync::Arc::new(|world| {
            pledge_leaves(world).encode_with_duplicate("nonce", &json!(STANDARD.encode(NONCE)))
        }),
    });
    contents
}

fn registrar_contents() -> Vec<Content> {
    let change = |name: &str,
                  valid: bool,
                  requirements: &[&'static str],
                  reason: &str,
                  change: fn(Leaves, &World) -> Leaves| Content {
        name: name.to_owned(),
        valid,
        requirements: requirements.to_vec(),
        reason: reason.to_owned(),
        context: masa(),
        make: std::sync::Arc::new(move |world| change(world.registrar_request(), world).encode()),
    };
    vec![
        change(
            "good",
            true,
            &["BRSKI-5.5.3-01", "BRSKI-5.5.5-04"],
            "a request as RFC 8995 has it",
            |leaves, _| leaves,
        ),
        change(
            "issuer-other",
            false,
            &["VOUCHERBIS-6.1-02", "BRSKI-5.5-12"],
            "idevid-issuer is another CA's",
            |leaves, world| {
                leaves.binary(
                    "idevid-issuer",
                    &idevid_issuer(&world.manufacturer.key_id()),
                )
            },
        ),
        change(
            "issuer-missing",
            false,
            &["VOUCHERBIS-6.1-01"],
            "idevid-issuer is missing",
            |leaves, _| leaves.unset("idevid-issuer"),
        ),
        change(
            "serial-other",
            false,
            &["BRSKI-5.5.5-03"],
            "serial-number is not that of the certificate that signed the inner request",
            |leaves, _| leaves.set("serial-number", "JADA-2"),
        ),
        change(
            "serial-missing",
            false,
            &["VOUCHER-5.3-03"],
            "serial-number is missing",
            |leaves, _| leaves.unset("serial-number"),
        ),
        change(
            "nonce-other",
            false,
            &["BRSKI-5.5.6-01"],
            "the nonce is not that of the inner request",
            |leaves, _| leaves.binary("nonce", b"another nonce!!!"),
        ),
        change(
            "nonce-7",
            false,
            &["VOUCHER-5.3-22"],
            "the nonce has 7 octets",
            |leaves, _| leaves.binary("nonce", &NONCE[..7]),
        ),
        change(
            "proximity-there",
            false,
            &["BRSKI-5.5-14", "BRSKI-5.5-15"],
            "proximity-registrar-cert is there, which is for pledges",
            |leaves, world| {
                leaves.binary("proximity-registrar-cert", world.registrar.certificate())
            },
        ),
        change(
            "pin-there",
            true,
            &["BRSKI-3.4-01"],
            "pinned-domain-cert is there, which is ignored",
            |leaves, world| leaves.binary("pinned-domain-cert", world.other_domain.certificate()),
        ),
        change(
            "revocation-there",
            true,
            &["BRSKI-3.4-03", "VOUCHERBIS-9.2-01"],
            "domain-cert-revocation-checks is there, which is ignored",
            |leaves, _| leaves.set("domain-cert-revocation-checks", true),
        ),
        change(
            "assertion-verified",
            true,
            &["BRSKI-3.4-04", "VOUCHERBIS-9.2-02"],
            "assertion is verified, which is ignored",
            |leaves, _| leaves.set("assertion", "verified"),
        ),
        change(
            "prior-garbage",
            false,
            &["BRSKI-5.5.5-01"],
            "the inner request is garbage",
            |leaves, _| leaves.binary("prior-signed-voucher-request", b"request"),
        ),
        change(
            "prior-empty",
            false,
            &["BRSKI-5.5.5-01"],
            "the inner request is empty",
            |leaves, _| leaves.set("prior-signed-voucher-request", ""),
        ),
        change(
            "prior-base64-twice",
            false,
            &["BRSKI-5.5-13"],
            "the inner request is base64 within base64",
            |leaves, world| {
                let once = STANDARD.encode(world.pledge_request());
                leaves.binary("prior-signed-voucher-request", once.as_bytes())
            },
        ),
        change(
            "prior-changed",
            false,
            &["BRSKI-5.5.5-01"],
            "a bit of the inner request is another",
            |leaves, world| {
                leaves.binary(
                    "prior-signed-voucher-request",
                    &flipped(&world.pledge_request(), 300),
                )
            },
        ),
        change(
            "prior-foreign",
            false,
            &["BRSKI-5.5.5-01"],
            "the inner request is signed by a device that the manufacturer did not make",
            |leaves, world| {
                let inner = sign(
                    Encoding::Cms,
                    &pledge_leaves(world).encode(),
                    &world.attacker_device,
                );
                leaves.binary("prior-signed-voucher-request", &inner)
            },
        ),
        change(
            "prior-other-registrar",
            false,
            &["BRSKI-5.5.5-02"],
            "the inner request names another registrar",
            |leaves, world| {
                let inner = Leaves::pledge_request(
                    SERIAL,
                    &NONCE,
                    world.other_registrar.certificate(),
                    Some(NOW),
                );
                let inner = sign(Encoding::Cms, &inner.encode(), &world.device);
                leaves.binary("prior-signed-voucher-request", &inner)
            },
        ),
        change(
            "prior-number",
            false,
            &["BRSKI-5.5-13"],
            "the inner request is a number",
            |leaves, _| leaves.set("prior-signed-voucher-request", 7),
        ),
        change(
            "created-on-basic",
            false,
            &["VOUCHER-5.3-01"],
            "created-on is in the basic format",
            |leaves, _| leaves.set("created-on", "20260601T120000Z"),
        ),
        change(
            "voucher-member",
            false,
            &["BRSKI-3-03"],
            "the top-level member is that of a voucher",
            |leaves, _| leaves.under(VOUCHER),
        ),
        change(
            "prior-jws",
            true,
            &["JWS-8-01", "BRSKI-5.5-13"],
            "the inner request is a JWS",
            |leaves, world| {
                let inner = sign(Encoding::Jws, &pledge_leaves(world).encode(), &world.device);
                leaves.binary("prior-signed-voucher-request", &inner)
            },
        ),
        change(
            "renewal-date-there",
            true,
            &["BRSKI-3.4-02", "VOUCHERBIS-9.2-01"],
            "last-renewal-date is there, which is ignored",
            |leaves, _| leaves.set("last-renewal-date", "2026-05-01T00:00:00Z"),
        ),
    ]
}

fn pledge_signers() -> Vec<Vector> {
    let vector = |name: &str, requirements: &[&'static str], reason: &str, by: Signers| {
        Vector::new(
            format!("pvr-cms/{name}"),
            (Kind::Pvr, Encoding::Cms),
            false,
            requirements,
            reason,
            move |world| sign(Encoding::Cms, &pledge_leaves(world).encode(), &by(world)),
        )
        .context(registrar())
    };
    vec![
        vector(
            "signed-by-stranger",
            &["BRSKI-5.2-13", "BRSKI-5.1-07"],
            "a device signed that the manufacturer did not make",
            |world| world.attacker_device.clone(),
        ),
        vector(
            "signed-by-registrar",
            &["BRSKI-5.2-14"],
            "the registrar signed",
            |world| world.registrar.clone(),
        ),
        vector(
            "signed-by-masa",
            &["BRSKI-5.2-14"],
            "the manufacturer's MASA signed and not the device",
            |world| world.masa.clone(),
        ),
        vector(
            "signed-by-sibling",
            &["BRSKI-5.2-14"],
            "another device of the manufacturer signed",
            |world| {
                world.device_ca.device(
                    "Example Manufacturer",
                    "JADA-2",
                    None,
                    world.attacker_device.key(),
                    NOW,
                )
            },
        ),
        vector(
            "signed-by-clone",
            &["BRSKI-5.2-14"],
            "a device with the same serial number and another key signed",
            |world| {
                world.device_ca.device(
                    "Example Manufacturer",
                    SERIAL,
                    None,
                    world.attacker_device.key(),
                    NOW,
                )
            },
        ),
    ]
}

fn registrar_signers() -> Vec<Vector> {
    let vector =
        |name: &str, valid: bool, requirements: &[&'static str], reason: &str, by: Signers| {
            Vector::new(
                format!("rvr-cms/{name}"),
                (Kind::Rvr, Encoding::Cms),
                valid,
                requirements,
                reason,
                move |world| {
                    sign(
                        Encoding::Cms,
                        &world.registrar_request().encode(),
                        &by(world),
                    )
                },
            )
            .context(masa())
        };
    vec![
        vector(
            "signed-by-stranger",
            false,
            &["BRSKI-5.5.5-02"],
            "another owner's registrar signed",
            |world| world.other_registrar.clone(),
        ),
        vector(
            "signed-without-cmcra",
            false,
            &["BRSKI-5.5.4-01"],
            "the signer's certificate lacks cmcRA",
            |world| {
                world.domain.issue(
                    &name("", "Registrar", None),
                    world.registrar.key(),
                    NOW,
                    |certificate| certificate.purposes(&[SERVER_AUTH, CLIENT_AUTH]),
                )
            },
        ),
        vector(
            "signed-without-purposes",
            false,
            &["BRSKI-5.5.4-01"],
            "the signer's certificate names no purposes",
            |world| {
                world.domain.issue(
                    &name("", "Registrar", None),
                    world.registrar.key(),
                    NOW,
                    |certificate| certificate,
                )
            },
        ),
        vector(
            "signed-by-ca",
            false,
            &["BRSKI-5.5.4-01", "BRSKI-5.5.5-02"],
            "the domain's CA signed itself",
            |world| Identity {
                signatory: world.domain.signatory.clone(),
                above: Vec::new(),
            },
        ),
        vector(
            "signed-by-device",
            false,
            &["BRSKI-5.5.4-01"],
            "the device signed",
            |world| world.device.clone(),
        ),
        vector(
            "signed-expired",
            false,
            &["BRSKI-5.5.3-01"],
            "the signer's certificate has expired",
            |world| {
                world.domain.issue(
                    &name("", "Registrar", None),
                    world.registrar.key(),
                    NOW,
                    |certificate| {
                        certificate
                            .purposes(&[crate::forge::x509::CMC_RA])
                            .with(|it| it.not_after = NOW - time::Duration::days(1))
                    },
                )
            },
        ),
        vector(
            "signed-only-cmcra",
            true,
            &["BRSKI-5.5.4-01", "X509-4.2.1.12-01"],
            "the signer's only purpose is cmcRA",
            |world| {
                world.domain.issue(
                    &name("", "Registrar", None),
                    world.registrar.key(),
                    NOW,
                    |certificate| certificate.purposes(&[crate::forge::x509::CMC_RA]),
                )
            },
        ),
    ]
}
