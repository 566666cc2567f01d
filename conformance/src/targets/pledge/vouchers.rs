//! Vouchers that a device has to refuse, and unusual ones that it has to take.

mod cms;
mod jws;

use std::sync::Arc;

use serde_json::json;
use time::Duration;

use super::{Asked, Pledge, Scene};
use crate::{
    case::Case,
    clock,
    evidence::Recorder,
    fake_masa::Reply,
    forge::{
        der,
        voucher::{Leaves, REQUEST, idevid_issuer},
    },
    inspect::Envelope,
    outcome::Finding,
    stage::Action,
};

type Change = fn(&Asked<'_>) -> Leaves;

/// Leaves that make a voucher one to refuse.
const BAD_LEAVES: &[(&str, &str, &[&str], Change)] = &[
    (
        "rfc8995-5.6.1/nonce-bit",
        "a voucher whose nonce differs in one bit",
        &["BRSKI-5.6.1-03", "BRSKI-2.6.1-03", "VOUCHER-5.3-23"],
        |asked| {
            let mut nonce = asked.nonce.clone();
            if let Some(last) = nonce.last_mut() {
                *last ^= 1;
            }
            asked.leaves().binary("nonce", &nonce)
        },
    ),
    (
        "rfc8995-5.6.1/nonce-shortened",
        "a voucher with the beginning of the nonce",
        &["BRSKI-5.6.1-03", "VOUCHER-5.3-23"],
        |asked| {
            let part = asked.nonce.get(..8).unwrap_or(&asked.nonce).to_vec();
            let part = if part == asked.nonce {
                vec![1; 8]
            } else {
                part
            };
            asked.leaves().binary("nonce", &part)
        },
    ),
    (
        "rfc8995-5.6.1/serial-other",
        "a voucher for another device",
        &["BRSKI-5.6.1-02", "VOUCHER-5.3-13"],
        |asked| asked.leaves().set("serial-number", "CONF-OTHER"),
    ),
    (
        "rfc8366-5.3/serial-case",
        "a voucher whose serial number differs in case alone",
        &["VOUCHER-5.3-14", "VOUCHER-5.3-13"],
        |asked| {
            let lower = asked.serial.to_lowercase();
            let other = if lower == asked.serial {
                asked.serial.to_uppercase()
            } else {
                lower
            };
            asked.leaves().set("serial-number", other)
        },
    ),
    (
        "rfc8366-5.3/serial-space",
        "a voucher whose serial number has a space after it",
        &["VOUCHER-5.3-14"],
        |asked| {
            asked
                .leaves()
                .set("serial-number", format!("{} ", asked.serial))
        },
    ),
    (
        "rfc8366-5.3/serial-beginning",
        "a voucher for the beginning of the serial number",
        &["VOUCHER-5.3-13"],
        |asked| {
            let part: String = asked.serial.chars().take(4).collect();
            asked.leaves().set("serial-number", part)
        },
    ),
    (
        "rfc8366-5.3/serial-missing",
        "a voucher without serial-number",
        &["VOUCHER-5.3-13", "BRSKI-5.6.1-02"],
        |asked| asked.leaves().unset("serial-number"),
    ),
    (
        "rfc8366-5.3/serial-list",
        "a voucher whose serial-number is a list",
        &["VOUCHER-5.3-13"],
        |asked| asked.leaves().set("serial-number", json!([asked.serial])),
    ),
    (
        "rfc8995-5.6.1/no-pin",
        "a voucher without pinned-domain-cert",
        &["BRSKI-5.6.1-04"],
        |asked| asked.leaves().unset("pinned-domain-cert"),
    ),
    (
        "rfc8995-5.6.1/empty-pin",
        "a voucher with an empty pinned-domain-cert",
        &["BRSKI-5.6.1-04"],
        |asked| asked.leaves().set("pinned-domain-cert", ""),
    ),
    (
        "rfc8995-5.6.1/pin-no-certificate",
        "a voucher whose pinned-domain-cert is no certificate",
        &["BRSKI-5.6.1-04"],
        |asked| {
            asked
                .leaves()
                .binary("pinned-domain-cert", b"no certificate")
        },
    ),
    (
        "rfc8995-5.6.1/pin-followed",
        "a voucher whose pinned-domain-cert has octets after the certificate",
        &["BRSKI-5.6.1-04"],
        |asked| {
            let pin = [asked.world.pin.as_slice(), &[0, 0]].concat();
            asked.leaves().binary("pinned-domain-cert", &pin)
        },
    ),
    (
        "rfc8366-5.3/idevid-issuer-other",
        "a voucher for a device of another issuer",
        &["VOUCHER-5.3-15"],
        |asked| {
            asked
                .leaves()
                .binary("idevid-issuer", &idevid_issuer(&[9; 20]))
        },
    ),
    (
        "rfc8366-5.3/assertion-unknown",
        "a voucher with an assertion that does not exist",
        &["VOUCHER-5.3-12"],
        |asked| asked.leaves().set("assertion", "certainly"),
    ),
    (
        "rfc8366-5.3/assertion-missing",
        "a voucher without assertion",
        &["VOUCHER-5.3-11", "VOUCHER-5.3-12"],
        |asked| asked.leaves().unset("assertion"),
    ),
    (
        "rfc8366-5.3/assertion-number",
        "a voucher whose assertion is a number",
        &["VOUCHER-5.3-12"],
        |asked| asked.leaves().set("assertion", 2),
    ),
    (
        "rfc8366-5.3/nonce-and-expiry",
        "a voucher with nonce and expires-on",
        &["VOUCHER-5.3-06"],
        |asked| {
            let end = clock::text(clock::now() + Duration::days(1));
            asked.leaves().set("expires-on", end)
        },
    ),
    (
        "rfc8995-3/request-member",
        "a voucher under the top-level member of requests",
        &["BRSKI-3-03"],
        |asked| asked.leaves().under(REQUEST),
    ),
    (
        "rfc8995-3/bare-member",
        "a voucher under a member without the module's name",
        &["BRSKI-3-03"],
        |asked| asked.leaves().under("voucher"),
    ),
    (
        "rfc8995-3.3/base64url",
        "a voucher whose pinned-domain-cert is base64url without padding",
        &["BRSKI-3.3-01"],
        |asked| {
            use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
            let text = URL_SAFE_NO_PAD.encode(&asked.world.pin);
            // Text that is the same in both alphabets would be right.
            let text = if text.contains(['-', '_']) || !text.len().is_multiple_of(4) {
                text
            } else {
                format!("{text}_")
            };
            asked.leaves().set("pinned-domain-cert", text)
        },
    ),
    (
        "rfc8366bis-8.4/revocation-checks-text",
        "a voucher whose domain-cert-revocation-checks is text",
        &["VOUCHERBIS-8.4-01"],
        |asked| asked.leaves().set("domain-cert-revocation-checks", "true"),
    ),
];

/// The same for a device that judges dates.
const BAD_DATES: &[(&str, &str, &[&str], Change)] = &[
    (
        "rfc8366-5.3/expired",
        "a voucher that has expired",
        &["VOUCHER-5.3-08", "BRSKI-2.6.1-02"],
        |asked| {
            let now = clock::now();
            asked
                .leaves()
                .unset("nonce")
                .set("created-on", clock::text(now - Duration::days(40)))
                .set("expires-on", clock::text(now - Duration::days(10)))
        },
    ),
    (
        "rfc8995-2.6.1/created-tomorrow",
        "a voucher that was made next year",
        &["BRSKI-2.6.1-02"],
        |asked| {
            asked.leaves().set(
                "created-on",
                clock::text(clock::now() + Duration::days(400)),
            )
        },
    ),
    (
        "rfc8366-5.3/created-on-no-date",
        "a voucher whose created-on is no date",
        &["BRSKI-2.6.1-02", "VOUCHER-5.3-01"],
        |asked| asked.leaves().set("created-on", "yesterday"),
    ),
];

/// Leaves that are unusual and right.
const GOOD_LEAVES: &[(&str, &str, &[&str], Change)] = &[
    (
        "rfc8995-5.6.1/unknown-leaf",
        "a voucher with a leaf that nobody knows",
        &["BRSKI-5.6.1-05", "VOUCHERBIS-8.6-02"],
        |asked| {
            asked
                .leaves()
                .set("conformance-leaf", json!({ "a": [1, 2] }))
        },
    ),
    (
        "rfc8366-5.3/idevid-issuer",
        "a voucher with the device's own idevid-issuer",
        &["VOUCHER-5.3-15", "VOUCHERBIS-6.3-01"],
        |asked| match issuer_of(asked) {
            Some(value) => asked.leaves().binary("idevid-issuer", &value),
            None => asked.leaves(),
        },
    ),
    (
        "rfc8366-5.3/assertion-verified",
        "a voucher that asserts verified",
        &["VOUCHER-5.3-11"],
        |asked| asked.leaves().set("assertion", "verified"),
    ),
    (
        "rfc8366-5.3/revocation-checks-false",
        "a voucher that forbids revocation checks",
        &["VOUCHER-5.3-20"],
        |asked| asked.leaves().set("domain-cert-revocation-checks", false),
    ),
    (
        "rfc8366-5.3/no-revocation-checks",
        "a voucher that says nothing about revocation checks",
        &["VOUCHER-5.3-20"],
        |asked| asked.leaves().unset("domain-cert-revocation-checks"),
    ),
    (
        "rfc7951-5.4/other-order",
        "a voucher whose leaves are in another order",
        &["VOUCHER-5-01"],
        |asked| {
            let mut leaves = asked.leaves();
            let reversed: serde_json::Map<_, _> = leaves
                .leaves
                .iter()
                .rev()
                .map(|(name, value)| (name.clone(), value.clone()))
                .collect();
            leaves.leaves = reversed;
            leaves
        },
    ),
    (
        "rfc3339-5.6/offset",
        "a voucher whose created-on is in another time zone, with fractions of a second",
        &["VOUCHER-5.3-01"],
        |asked| {
            let at = (clock::now() - Duration::hours(1)).to_offset(time::macros::offset!(+5:30));
            let text = clock::text(at).replacen("+05:30", ".125+05:30", 1);
            asked.leaves().set("created-on", text)
        },
    ),
];

/// What a device with nonceless vouchers takes.
const GOOD_NONCELESS: &[(&str, &str, &[&str], Change)] = &[
    (
        "rfc8995-7.2/nonceless",
        "a voucher without nonce that has not expired",
        &["BRSKI-7.2-01"],
        |asked| {
            let end = clock::text(clock::now() + Duration::days(30));
            asked.leaves().unset("nonce").set("expires-on", end)
        },
    ),
    (
        "rfc8366-5.3/last-renewal-date",
        "a voucher whose last-renewal-date has passed",
        &["VOUCHER-5.3-24"],
        |asked| {
            let now = clock::now();
            asked
                .leaves()
                .unset("nonce")
                .set("expires-on", clock::text(now + Duration::days(30)))
                .set("last-renewal-date", clock::text(now - Duration::hours(2)))
        },
    ),
];

fn issuer_of(asked: &Asked<'_>) -> Option<Vec<u8>> {
    let idevid = pki::Certificate::from_der(asked.came.client.first()?).ok()?;
    Some(der::octets(&idevid.authority_key_id_extension()?))
}

pub(super) type Make = fn(&Asked<'_>, &Pledge) -> Result<Vec<u8>, Finding>;

/// Makes a case in which the voucher is of these leaves.
fn of_leaves(
    envelope: Envelope,
    (id, title, requirements, change): (&str, &'static str, &[&str], Change),
    is_good: bool,
) -> Case {
    let feature = match envelope {
        Envelope::Cms => "cms",
        Envelope::Jws => "jws",
    };
    let verdict = if is_good { "taken" } else { "refused" };
    let case = Case::new(
        format!("pledge/{id}-{feature}"),
        format!("{title} is {verdict}"),
        requirements,
        move |kit: Arc<Pledge>, record: Recorder| async move {
            let scene =
                Scene::new(&kit, envelope)?.voucher(move |asked| asked.answer(change(asked)));
            let run = kit.play(&record, scene).await?;
            if is_good {
                run.enrolled(title)
            } else {
                run.refused(title)
            }
        },
    )
    .needs(&[feature]);
    if is_good {
        case
    } else {
        case.tags(&["hostile"])
    }
}

/// Makes a case in which the voucher is made like this.
fn of_octets(
    envelope: Envelope,
    (id, title, requirements, make): (&str, &'static str, &[&str], Make),
    is_good: bool,
) -> Case {
    let feature = match envelope {
        Envelope::Cms => "cms",
        Envelope::Jws => "jws",
    };
    let verdict = if is_good { "taken" } else { "refused" };
    let case = Case::new(
        format!("pledge/{id}"),
        format!("{title} is {verdict}"),
        requirements,
        move |kit: Arc<Pledge>, record: Recorder| async move {
            let maker = Arc::clone(&kit);
            let scene = Scene::new(&kit, envelope)?.voucher(move |asked| -> Action {
                match make(asked, &maker) {
                    Ok(octets) => asked.reply(octets),
                    Err(finding) => Reply::new(500, "text/plain", finding.why).into(),
                }
            });
            let run = kit.play(&record, scene).await?;
            if is_good {
                run.enrolled(title)
            } else {
                run.refused(title)
            }
        },
    )
    .needs(&[feature]);
    if is_good {
        case
    } else {
        case.tags(&["hostile"])
    }
}

pub(super) fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    for envelope in [Envelope::Cms, Envelope::Jws] {
        cases.extend(BAD_LEAVES.iter().map(|&it| of_leaves(envelope, it, false)));
        cases.extend(
            BAD_DATES
                .iter()
                .map(|&it| of_leaves(envelope, it, false).needs(&["clock"])),
        );
        cases.extend(GOOD_LEAVES.iter().map(|&it| of_leaves(envelope, it, true)));
        cases.extend(
            GOOD_NONCELESS
                .iter()
                .map(|&it| of_leaves(envelope, it, true).needs(&["nonceless"])),
        );
    }
    cases.push(
        of_leaves(
            Envelope::Cms,
            (
                "rfc8366-5.3/assertion-logged",
                "a voucher that asserts logged",
                &["VOUCHER-5.3-11"],
                |asked| asked.leaves().set("assertion", "logged"),
            ),
            true,
        )
        .needs(&["assertion-logged"]),
    );
    cases.extend(
        cms::BAD
            .iter()
            .map(|&it| of_octets(Envelope::Cms, it, false)),
    );
    cases.extend(
        cms::GOOD
            .iter()
            .map(|&it| of_octets(Envelope::Cms, it, true)),
    );
    cases.extend(
        jws::BAD
            .iter()
            .map(|&it| of_octets(Envelope::Jws, it, false)),
    );
    cases.extend(
        jws::GOOD
            .iter()
            .map(|&it| of_octets(Envelope::Jws, it, true)),
    );
    cases
}
