//! What an issued voucher says.

use std::sync::Arc;

use pki::{Certificate, path::Purpose};
use serde_json::Value;

use super::{Issued, Masa};
use crate::{
    case::Case,
    checks::voucher::{CHECKS, pinned},
    evidence::Recorder,
    forge::voucher::VOUCHER,
    inspect::Envelope,
    outcome::{Finding, Told, must},
};

pub(super) fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    for (envelope, feature) in [(Envelope::Cms, "cms"), (Envelope::Jws, "jws")] {
        for check in CHECKS {
            let only_cms = check.tags == ["cms"];
            let only_jws = check.tags == ["jws"];
            if (only_cms && envelope == Envelope::Jws) || (only_jws && envelope == Envelope::Cms) {
                continue;
            }
            let about_envelope = ["one-signature", "signer-certificate"].contains(&check.name);
            cases.push(
                Case::new(
                    format!("masa/{}/{}-{feature}", check.section, check.name),
                    format!("in the voucher that was issued: {}", check.title),
                    check.requirements,
                    move |kit: Arc<Masa>, record: Recorder| async move {
                        let issued = if about_envelope {
                            kit.opened(&record, envelope).await?
                        } else {
                            kit.issued(&record, envelope).await?
                        };
                        (check.check)(&issued.signed)
                    },
                )
                .tags(&["voucher"])
                .tags(check.tags)
                .needs(&[feature]),
            );
        }
        let mut look =
            |name: &str, title: &str, requirements: &[&str], check: fn(&Masa, &Issued) -> Told| {
                cases.push(
                    Case::new(
                        format!("masa/{name}-{feature}"),
                        title,
                        requirements,
                        move |kit: Arc<Masa>, record: Recorder| async move {
                            let issued = kit.issued(&record, envelope).await?;
                            check(&kit, &issued)
                        },
                    )
                    .tags(&["voucher"])
                    .needs(&[feature]),
                );
            };
        look(
            "rfc8995-5.6/nonce",
            "the nonce is the one asked with, as the same text",
            &["BRSKI-5.6-21"],
            nonce,
        );
        look(
            "rfc8995-5.6/serial-number",
            "the serial number is the device's",
            &["BRSKI-5.6-22"],
            serial_number,
        );
        look(
            "rfc8995-5.5.5/proximity",
            "a proven proximity is what the voucher asserts",
            &["BRSKI-5.5.5-04"],
            proximity,
        );
        look(
            "rfc8995-5.5.2/pin",
            "what is pinned is a certificate of the registrar's own chain",
            &["BRSKI-5.5.2-01", "BRSKI-5.5.2-02"],
            pin,
        );
        look(
            "rfc8995-9.1.1/signer",
            "the signer is one whom devices trust",
            &["BRSKI-9.1.1-02", "BRSKI-11.6-01"],
            signer,
        );
        look(
            "rfc8366bis-6.2/no-idevid-issuer",
            "idevid-issuer is left out where the serial number is unique",
            &["VOUCHERBIS-6.2-02"],
            no_idevid_issuer,
        );
    }
    cases
}

fn leaf<'a>(issued: &'a Issued, name: &str) -> Result<&'a Value, Finding> {
    issued
        .signed
        .leaves(VOUCHER)?
        .get(name)
        .ok_or_else(|| Finding::fail(format!("there is no {name}")))
}

fn nonce(_: &Masa, issued: &Issued) -> Told {
    let sent = issued.ask.outer.leaves.get("nonce");
    let found = leaf(issued, "nonce")?;
    must(
        Some(found) == sent,
        format!(
            "the nonce is {found} and not {}",
            sent.unwrap_or(&Value::Null)
        ),
    )
}

fn serial_number(_: &Masa, issued: &Issued) -> Told {
    let found = leaf(issued, "serial-number")?;
    must(
        found.as_str() == Some(&issued.ask.serial),
        format!("serial-number is {found} and not {}", issued.ask.serial),
    )
}

fn proximity(_: &Masa, issued: &Issued) -> Told {
    let found = leaf(issued, "assertion")?;
    must(
        matches!(found.as_str(), Some("proximity" | "verified")),
        format!("assertion is {found}"),
    )
}

fn pin(kit: &Masa, issued: &Issued) -> Told {
    let pinned = pinned(&issued.signed)?;
    let chain = [kit.registrar.certificate(), kit.domain.certificate()];
    must(
        chain.contains(&pinned.der()),
        format!(
            "{} is pinned, which is not in the registrar's chain",
            pinned.subject()
        ),
    )
}

fn signer(kit: &Masa, issued: &Issued) -> Told {
    let anchors: Vec<Certificate> = kit.trusted();
    if anchors.is_empty() {
        return Err(Finding::could_not_test(
            "settings.voucher_anchors names no certificate that is there",
        ));
    }
    issued.signed.trusted(&anchors, Purpose::Masa, kit.at)
}

fn no_idevid_issuer(_: &Masa, issued: &Issued) -> Told {
    must(
        !issued.signed.leaves(VOUCHER)?.contains_key("idevid-issuer"),
        "idevid-issuer is there",
    )
}
