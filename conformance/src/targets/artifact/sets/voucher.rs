//! Vouchers: what is said inside, in each envelope of JSON.

use base64::{
    Engine as _,
    engine::general_purpose::{STANDARD, STANDARD_NO_PAD, URL_SAFE},
};
use serde_json::{Value, json};

use super::{
    super::vectors::{Context, Encoding, Kind, Vector},
    NONCE, NOW, SERIAL, World, pledge,
};
use crate::forge::{
    cms::{ANIMA_JSON_VOUCHER, Cms},
    jws::Jws,
    voucher::{Leaves, idevid_issuer},
    x509::pem,
};

type Make = std::sync::Arc<dyn Fn(&World) -> Vec<u8> + Send + Sync>;

/// What is inside, and what comes of it.
pub(super) struct Content {
    name: String,
    valid: bool,
    requirements: Vec<&'static str>,
    reason: String,
    context: Context,
    make: Make,
}

pub(super) fn content(
    name: impl Into<String>,
    valid: bool,
    requirements: &[&'static str],
    reason: impl Into<String>,
    make: impl Fn(&World) -> Vec<u8> + Send + Sync + 'static,
) -> Content {
    Content {
        name: name.into(),
        valid,
        requirements: requirements.to_vec(),
        reason: reason.into(),
        context: pledge(),
        make: std::sync::Arc::new(make),
    }
}

/// A right voucher with one change.
fn change(
    name: impl Into<String>,
    valid: bool,
    requirements: &[&'static str],
    reason: impl Into<String>,
    change: impl Fn(Leaves, &World) -> Leaves + Send + Sync + 'static,
) -> Content {
    content(name, valid, requirements, reason, move |world| {
        change(world.voucher(), world).encode()
    })
}

impl Content {
    fn context(mut self, change: impl FnOnce(&mut Context)) -> Self {
        change(&mut self.context);
        self
    }
}

/// The same content in CMS and in JWS.
pub(super) fn vectors() -> Vec<Vector> {
    let mut vectors = Vec::new();
    for content in contents() {
        let make = content.make.clone();
        vectors.push(
            Vector::new(
                format!("voucher-cms/leaf-{}", content.name),
                (Kind::Voucher, Encoding::Cms),
                content.valid,
                &content.requirements,
                content.reason.clone(),
                move |world| {
                    Cms::new(&make(world), ANIMA_JSON_VOUCHER, &world.masa.signatory, NOW).encode()
                },
            )
            .context(content.context.clone()),
        );
        let make = content.make.clone();
        vectors.push(
            Vector::new(
                format!("voucher-jws/leaf-{}", content.name),
                (Kind::Voucher, Encoding::Jws),
                content.valid,
                &content.requirements,
                content.reason.clone(),
                move |world| {
                    Jws::new(&make(world), &world.masa.signatory, &world.masa.chain()).encode()
                },
            )
            .context(content.context),
        );
    }
    vectors
}

fn contents() -> Vec<Content> {
    let mut contents = Vec::new();
    serial_numbers(&mut contents);
    nonces(&mut contents);
    dates(&mut contents);
    pins(&mut contents);
    other_leaves(&mut contents);
    super::voucher_texts::texts(&mut contents);
    contents
}

fn serial_numbers(contents: &mut Vec<Content>) {
    let rows = &["VOUCHER-5.3-13", "SZTP-8366-5.3-07"];
    for (name, serial) in [
        ("digits", "0012345"),
        ("blank", "PID:A900 SN:7"),
        ("colons", "00-D0-E5-F2-00-02"),
        ("one", "7"),
        (
            "long",
            "A123456789B123456789C123456789D123456789E123456789F123456789",
        ),
    ] {
        contents.push(
            change(
                format!("serial-{name}"),
                true,
                &["VOUCHER-5.3-03", "VOUCHER-5.3-13"],
                format!("the serial number {serial:?} is the device's"),
                move |leaves, _| leaves.set("serial-number", serial),
            )
            .context(|context| {
                context.serial = Some(serial);
                context.idevid = None;
            }),
        );
    }
    for (name, serial, why) in [
        ("other", "JADA-123456780", "another device's"),
        ("lower-case", "jada-123456789", "in other capitals"),
        ("blank-after", "JADA-123456789 ", "followed by a blank"),
        ("blank-before", " JADA-123456789", "preceded by a blank"),
        ("prefix", "JADA-12345678", "only the beginning"),
        ("longer", "JADA-1234567890", "followed by a digit"),
        ("pattern", "JADA-*", "a pattern"),
        ("list", "JADA-123456789,JADA-2", "a list"),
        (
            "look-alike",
            "JADA-12345678\u{0039}\u{0301}",
            "with a combining mark",
        ),
        ("empty", "", "empty"),
    ] {
        contents.push(change(
            format!("serial-{name}"),
            false,
            if name == "pattern" || name == "list" {
                &["VOUCHER-6.2-01", "VOUCHER-5.3-13"]
            } else if name.starts_with("lower") || name.starts_with("blank") {
                &["VOUCHER-5.3-14", "VOUCHER-5.3-13"]
            } else {
                rows
            },
            format!("serial-number is {why}"),
            move |leaves, _| leaves.set("serial-number", serial),
        ));
    }
    for (name, value, why) in [
        ("number", json!(123_456_789), "a number"),
        ("null", Value::Null, "null"),
        ("array", json!([SERIAL]), "an array"),
        ("object", json!({}), "an object"),
        ("true", json!(true), "a boolean"),
    ] {
        contents.push(change(
            format!("serial-{name}"),
            false,
            &["VOUCHER-5.3-03"],
            format!("serial-number is {why} and no string"),
            move |leaves, _| leaves.set("serial-number", value.clone()),
        ));
    }
    contents.push(change(
        "serial-missing",
        false,
        &["VOUCHER-5.3-03"],
        "serial-number is missing",
        |leaves, _| leaves.unset("serial-number"),
    ));
}

fn nonces(contents: &mut Vec<Content>) {
    for length in 8_usize..=32 {
        let nonce: Vec<u8> = (0..length).map(|at| 0x40 + at.to_le_bytes()[0]).collect();
        let told = STANDARD.encode(&nonce);
        contents.push(
            change(
                format!("nonce-{length}"),
                true,
                &["VOUCHER-5.3-22", "VOUCHER-5.3-23", "SZTP-8366-5.3-14"],
                format!("a nonce of {length} octets that is the one sent"),
                move |leaves, _| leaves.binary("nonce", &nonce),
            )
            .context(|context| context.nonce = Some(told)),
        );
    }
    for length in [0_usize, 1, 7, 33, 64] {
        let nonce: Vec<u8> = (0..length).map(|at| 0x40 + at.to_le_bytes()[0]).collect();
        let told = STANDARD.encode(&nonce);
        contents.push(
            change(
                format!("nonce-{length}"),
                false,
                &["VOUCHER-5.3-22", "SZTP-8366-5.3-14"],
                format!("a nonce of {length} octets"),
                move |leaves, _| leaves.binary("nonce", &nonce),
            )
            .context(|context| context.nonce = (!told.is_empty()).then_some(told)),
        );
    }
    let rows = &["VOUCHER-5.3-23", "SZTP-8366-5.3-15"];
    for bit in [0_usize, 63, 127] {
        contents.push(change(
            format!("nonce-bit-{bit}"),
            false,
            rows,
            format!("bit {bit} of the nonce is not the one sent"),
            move |leaves, _| {
                let mut nonce = NONCE;
                if let Some(octet) = nonce.get_mut(bit / 8) {
                    *octet ^= 1 << (bit % 8);
                }
                leaves.binary("nonce", &nonce)
            },
        ));
    }
    contents.push(change(
        "nonce-shorter",
        false,
        rows,
        "the nonce is the beginning of the one sent",
        |leaves, _| leaves.binary("nonce", &NONCE[..8]),
    ));
    contents.push(change(
        "nonce-missing",
        false,
        rows,
        "there is no nonce though one was sent, and no end either",
        |leaves, _| leaves.unset("nonce"),
    ));
    for (name, text, why) in [
        ("base64url", URL_SAFE.encode(NONCE), "base64url"),
        (
            "unpadded",
            STANDARD_NO_PAD.encode(NONCE),
            "base64 without padding",
        ),
        ("hexadecimal", hex::encode(NONCE), "hexadecimal"),
        (
            "blank",
            format!(" {}", STANDARD.encode(NONCE)),
            "base64 after a blank",
        ),
    ] {
        // This nonce has octets that the two alphabets write differently.
        contents.push(change(
            format!("nonce-{name}"),
            false,
            &["BRSKI-3.3-01"],
            format!("the nonce is written in {why}"),
            move |leaves, _| leaves.set("nonce", text.clone()),
        ));
    }
    contents.push(change(
        "nonce-array",
        false,
        &["BRSKI-3.3-01"],
        "the nonce is an array of numbers",
        |leaves, _| leaves.set("nonce", json!(NONCE)),
    ));
}

fn dates(contents: &mut Vec<Content>) {
    for (name, text) in [
        ("fraction", "2026-06-01T11:59:59.123Z"),
        ("offset", "2026-06-01T13:30:00+02:00"),
        ("negative-offset", "2026-06-01T04:00:00-08:00"),
        ("unknown-offset", "2026-06-01T11:00:00-00:00"),
        ("leap-day", "2024-02-29T00:00:00Z"),
        ("microseconds", "2026-06-01T11:59:59.000001Z"),
    ] {
        contents.push(change(
            format!("created-on-{name}"),
            true,
            &["VOUCHER-5.3-01", "SZTP-8366-5.3-01"],
            format!("created-on is {text}"),
            move |leaves, _| leaves.set("created-on", text),
        ));
    }
    for (name, value, why) in [
        ("basic", json!("20260601T115959Z"), "in the basic format"),
        (
            "blank",
            json!("2026-06-01 11:59:59Z"),
            "with a blank for the T",
        ),
        (
            "no-offset",
            json!("2026-06-01T11:59:59"),
            "without an offset",
        ),
        ("date-only", json!("2026-06-01"), "a date alone"),
        ("number", json!(1_780_315_199), "a number"),
        (
            "month-13",
            json!("2026-13-01T00:00:00Z"),
            "in a thirteenth month",
        ),
        (
            "february-30",
            json!("2026-02-30T00:00:00Z"),
            "on February 30",
        ),
        ("hour-25", json!("2026-06-01T25:00:00Z"), "at hour 25"),
        ("empty", json!(""), "empty"),
        ("null", Value::Null, "null"),
        (
            "generalized",
            json!("20260601115959Z"),
            "as in certificates",
        ),
    ] {
        contents.push(change(
            format!("created-on-{name}"),
            false,
            &["VOUCHER-5.3-01", "SZTP-8366-5.3-01"],
            format!("created-on is {why}"),
            move |leaves, _| leaves.set("created-on", value.clone()),
        ));
    }
    contents.push(change(
        "created-on-future",
        false,
        &["BRSKI-2.6.1-02"],
        "created-on is a year ahead of the pledge's clock",
        |leaves, _| leaves.set("created-on", "2027-06-01T12:00:00Z"),
    ));
    let nonceless = |leaves: Leaves| leaves.unset("nonce").set("assertion", "logged");
    let unsent = |context: &mut Context| context.nonce = None;
    for (name, text) in [
        ("ahead", "2026-06-02T12:00:00Z"),
        ("a-second-ahead", "2026-06-01T12:00:01Z"),
        ("offset", "2026-06-01T15:00:00+02:00"),
    ] {
        contents.push(
            change(
                format!("expires-on-{name}"),
                true,
                &["VOUCHER-5.3-08", "SZTP-8366-5.3-02"],
                format!("without a nonce, and it expires on {text}"),
                move |leaves, _| nonceless(leaves).set("expires-on", text),
            )
            .context(unsent),
        );
    }
    for (name, text) in [
        ("passed", "2026-05-31T12:00:00Z"),
        ("a-second-ago", "2026-06-01T11:59:59Z"),
        ("offset-passed", "2026-06-01T13:00:00+02:00"),
    ] {
        contents.push(
            change(
                format!("expires-on-{name}"),
                false,
                &["VOUCHER-5.3-08", "SZTP-8366-5.3-02", "BRSKI-2.6.1-02"],
                format!("without a nonce, and it expired on {text}"),
                move |leaves, _| {
                    nonceless(leaves)
                        .set("created-on", "2026-05-01T12:00:00Z")
                        .set("expires-on", text)
                },
            )
            .context(unsent),
        );
    }
    contents.push(change(
        "nonce-and-expires-on",
        false,
        &["VOUCHER-5.3-06", "VOUCHER-5.3-05", "SZTP-8366-5.3-03"],
        "nonce and expires-on are both there",
        |leaves, _| leaves.set("expires-on", "2026-06-02T12:00:00Z"),
    ));
    contents.push(
        change(
            "last-renewal-date",
            true,
            &["VOUCHER-5.3-24"],
            "last-renewal-date is in the past, which is for information only",
            move |leaves, _| {
                nonceless(leaves)
                    .set("expires-on", "2026-06-02T12:00:00Z")
                    .set("last-renewal-date", "2026-05-30T12:00:00Z")
            },
        )
        .context(unsent),
    );
    contents.push(change(
        "last-renewal-alone",
        false,
        &["VOUCHER-5.3-07", "SZTP-8366-5.3-16"],
        "last-renewal-date comes without expires-on",
        |leaves, _| leaves.set("last-renewal-date", "2026-06-30T12:00:00Z"),
    ));
}

fn pins(contents: &mut Vec<Content>) {
    contents.push(
        change(
            "pin-end-entity",
            true,
            &["VOUCHER-5.3-18", "BRSKI-5.6.2-02"],
            "the registrar's own certificate is pinned",
            |leaves, world| leaves.binary("pinned-domain-cert", world.registrar.certificate()),
        )
        .context(|context| context.domain = vec!["pki/registrar.pem"]),
    );
    let rows = &["VOUCHER-5.3-17", "BRSKI-5.6.2-01"];
    contents.push(change(
        "pin-other-domain",
        false,
        rows,
        "another owner's CA is pinned",
        |leaves, world| leaves.binary("pinned-domain-cert", world.other_domain.certificate()),
    ));
    contents.push(change(
        "pin-other-registrar",
        false,
        rows,
        "another owner's registrar is pinned",
        |leaves, world| leaves.binary("pinned-domain-cert", world.other_registrar.certificate()),
    ));
    contents.push(change(
        "pin-manufacturer",
        false,
        rows,
        "the manufacturer's CA is pinned",
        |leaves, world| leaves.binary("pinned-domain-cert", world.manufacturer.certificate()),
    ));
    let form = &["VOUCHER-5.3-04", "SZTP-8366-5.3-10"];
    contents.push(change(
        "pin-pem",
        false,
        form,
        "the pinned certificate is PEM within base64",
        |leaves, world| {
            let text = pem("CERTIFICATE", world.domain.certificate());
            leaves.binary("pinned-domain-cert", text.as_bytes())
        },
    ));
    contents.push(change(
        "pin-bag",
        false,
        form,
        "a certs-only CMS is pinned",
        |leaves, world| {
            let bag = crate::forge::cms::certs_only(&[world.domain.certificate().to_vec()]);
            leaves.binary("pinned-domain-cert", &bag)
        },
    ));
    contents.push(change(
        "pin-trailing",
        false,
        form,
        "an octet follows the pinned certificate",
        |leaves, world| {
            let mut octets = world.domain.certificate().to_vec();
            octets.push(0);
            leaves.binary("pinned-domain-cert", &octets)
        },
    ));
    contents.push(change(
        "pin-two",
        false,
        form,
        "two certificates are pinned, one after the other",
        |leaves, world| {
            let both = [world.domain.certificate(), world.registrar.certificate()].concat();
            leaves.binary("pinned-domain-cert", &both)
        },
    ));
    contents.push(change(
        "pin-cut",
        false,
        form,
        "the pinned certificate lacks its last octet",
        |leaves, world| {
            let whole = world.domain.certificate();
            let cut = whole.get(..whole.len() - 1).unwrap_or_default();
            leaves.binary("pinned-domain-cert", cut)
        },
    ));
    contents.push(change(
        "pin-base64url",
        false,
        &["BRSKI-3.3-01", "VOUCHER-5.3-04"],
        "the pinned certificate is base64url",
        |leaves, world| {
            let text = URL_SAFE.encode(world.domain.certificate());
            leaves.set("pinned-domain-cert", text)
        },
    ));
    contents.push(change(
        "pin-array",
        false,
        form,
        "the pinned certificate is an array of one",
        |leaves, world| {
            let text = STANDARD.encode(world.domain.certificate());
            leaves.set("pinned-domain-cert", json!([text]))
        },
    ));
    contents.push(change(
        "pin-empty",
        false,
        form,
        "the pinned certificate is empty",
        |leaves, _| leaves.set("pinned-domain-cert", ""),
    ));
    contents.push(change(
        "pin-missing",
        false,
        form,
        "nothing is pinned",
        |leaves, _| leaves.unset("pinned-domain-cert"),
    ));
    contents.push(change(
        "pin-request",
        false,
        form,
        "a public key is pinned as if it were a certificate",
        |leaves, world| leaves.binary("pinned-domain-cert", world.domain.signatory.key.spki()),
    ));
}

fn other_leaves(contents: &mut Vec<Content>) {
    for name in ["verified", "logged", "proximity"] {
        contents.push(change(
            format!("assertion-{name}"),
            true,
            &["VOUCHER-5.3-02", "SZTP-8366-5.3-05"],
            format!("assertion is {name}"),
            move |leaves, _| leaves.set("assertion", name),
        ));
    }
    for (name, value) in [
        ("unknown", json!("foo")),
        ("capitals", json!("Proximity")),
        ("number", json!(2)),
        ("empty", json!("")),
        ("null", Value::Null),
        ("array", json!(["proximity"])),
        ("qualified", json!("ietf-voucher:proximity")),
    ] {
        contents.push(change(
            format!("assertion-{name}"),
            false,
            &["VOUCHER-5.3-12", "SZTP-8366-5.3-05"],
            format!("assertion is {value}"),
            move |leaves, _| leaves.set("assertion", value.clone()),
        ));
    }
    let rows = &["VOUCHER-5.3-15", "SZTP-8366-5.3-08", "VOUCHERBIS-6.3-01"];
    contents.push(change(
        "idevid-issuer",
        true,
        rows,
        "idevid-issuer is that of the device",
        |leaves, world| leaves.binary("idevid-issuer", &idevid_issuer(&world.device_ca.key_id())),
    ));
    contents.push(change(
        "idevid-issuer-other",
        false,
        rows,
        "idevid-issuer is another CA's",
        |leaves, world| {
            leaves.binary(
                "idevid-issuer",
                &idevid_issuer(&world.manufacturer.key_id()),
            )
        },
    ));
    contents.push(change(
        "idevid-issuer-cut",
        false,
        rows,
        "idevid-issuer lacks its last octet",
        |leaves, world| {
            let whole = idevid_issuer(&world.device_ca.key_id());
            let cut = whole.get(..whole.len() - 1).unwrap_or_default();
            leaves.binary("idevid-issuer", cut)
        },
    ));
    contents.push(change(
        "idevid-issuer-empty",
        false,
        rows,
        "idevid-issuer is empty",
        |leaves, _| leaves.set("idevid-issuer", ""),
    ));
    contents.push(change(
        "revocation-absent",
        true,
        &["BRSKI-5.6-24"],
        "domain-cert-revocation-checks is left out",
        |leaves, _| leaves.unset("domain-cert-revocation-checks"),
    ));
    for (name, value) in [
        ("text-true", json!("true")),
        ("text-false", json!("false")),
        ("number", json!(0)),
        ("null", Value::Null),
    ] {
        contents.push(change(
            format!("revocation-{name}"),
            false,
            &["VOUCHER-5.3-21", "VOUCHERBIS-8.4-01", "SZTP-8366-5.3-13"],
            format!("domain-cert-revocation-checks is {value}"),
            move |leaves, _| leaves.set("domain-cert-revocation-checks", value.clone()),
        ));
    }
}
