//! What the device gets: its voucher, answers to its reports, and links.

use std::sync::Arc;

use super::{
    Served, format, is, is_one_of, open, refused,
    registrar::{RegistrarCoaps, rv},
};
use crate::{
    case::Case,
    coaps::{Ask, Code, option, uint},
    coaps_voucher,
    evidence::Recorder,
    forge::cbor,
    outcome::{Finding, Told, must},
};

/// Reports: their octets, the Content-Format, and the codes that are right.
type Report = (
    &'static str,
    &'static str,
    &'static [&'static str],
    fn() -> Vec<u8>,
    u16,
    &'static [Code],
);

const REPORTS: &[Report] = &[
    (
        "cbrski-6.5.1/status",
        "a report of success gets 2.04 without a body",
        &["CBR-042", "CBR-149", "CBR-052", "CBR-033"],
        || report(1, true, &[]),
        format::CBOR,
        &[Code::CHANGED],
    ),
    (
        "cbrski-6.5.1/failure",
        "a report of failure gets 2.04 without a body",
        &["CBR-042", "CBR-149"],
        || {
            report(
                1,
                false,
                &[(cbor::text("reason"), cbor::text("it did not work"))],
            )
        },
        format::CBOR,
        &[Code::CHANGED],
    ),
    (
        "cbrski-6.5.1/unknown-fields",
        "a report of another version with fields that nobody knows gets 2.04",
        &["CBR-050"],
        || report(2, true, &[(cbor::text("more"), cbor::int(1))]),
        format::CBOR,
        &[Code::CHANGED],
    ),
    (
        "cbrski-6.5.1/truncated",
        "a report that is cut off gets 4.00",
        &["CBR-051"],
        || report(1, true, &[]).into_iter().take(8).collect(),
        format::CBOR,
        &[Code::BAD_REQUEST],
    ),
    (
        "cbrski-6.5.1/no-map",
        "a report that is no map gets 4.00",
        &["CBR-051"],
        || cbor::array(&[cbor::int(1)]),
        format::CBOR,
        &[Code::BAD_REQUEST],
    ),
    (
        "cbrski-6.5.1/status-number",
        "a report whose status is no boolean gets 4.00",
        &["CBR-051"],
        || {
            cbor::map(&[
                (cbor::text("version"), cbor::int(1)),
                (cbor::text("status"), cbor::int(1)),
            ])
        },
        format::CBOR,
        &[Code::BAD_REQUEST],
    ),
    (
        "cbrski-6.5.1/other-format",
        "a report in a Content-Format that nobody knows gets 4.15",
        &["CBR-055", "COA-032"],
        || report(1, true, &[]),
        65_000,
        &[Code::UNSUPPORTED_FORMAT],
    ),
];

fn report(version: i64, status: bool, more: &[(Vec<u8>, Vec<u8>)]) -> Vec<u8> {
    let mut fields = vec![
        (cbor::text("version"), cbor::int(version)),
        (cbor::text("status"), cbor::boolean(status)),
    ];
    fields.extend_from_slice(more);
    cbor::map(&fields)
}

pub(super) fn cases() -> Vec<Case> {
    let id = |rest: &str| format!("{}/{rest}", RegistrarCoaps::TARGET);
    let mut cases = Vec::new();
    for (rest, title, requirements, make, number, codes) in REPORTS {
        for name in ["vs", "es"] {
            cases.push(
                Case::new(
                    id(&format!("{rest}-{name}")),
                    format!("{name}: {title}"),
                    requirements,
                    move |kit: Arc<RegistrarCoaps>, record: Recorder| async move {
                        let ask =
                            Ask::post(&format!("/.well-known/brski/{name}"), *number, &make());
                        let answer = onboarded(&kit, &record, &ask).await?;
                        is_one_of(&answer, codes, "it")?;
                        must(
                            !answer.code.is_success() || answer.payload.is_empty(),
                            "2.04 has a body",
                        )
                    },
                )
                .tags(&["telemetry"]),
            );
        }
    }
    cases.extend([
        Case::new(id("cbrski-6.5/voucher"), "rv is 2.04 and 836 without an Accept", &["CBR-034", "CBR-035", "CBR-085", "CBR-162", "CBR-033", "CBR-052"], |kit, record| voucher(kit, record, false)).tags(&["voucher"]),
        Case::new(id("cbrski-6.5/voucher-accept"), "rv is 836 for who asks for it", &["CBR-036", "CBR-085"], |kit, record| voucher(kit, record, true)).tags(&["voucher"]),
        Case::new(id("cbrski-6.8/no-certificates"), "the certificates of the MASA's signature are taken out of the voucher", &["CBR-083"], |kit: Arc<RegistrarCoaps>, record: Recorder| async move {
            let (_, signed) = exchanged(&kit, &record).await?;
            for label in [32, 33] {
                must(signed.unprotected(label).is_none(), format!("header {label} is there"))?;
            }
            Ok(())
        }).tags(&["voucher", "cose"]),
        Case::new(id("cbrski-6.8/otherwise-unchanged"), "protected header, payload and signature of the voucher are the MASA's, octet for octet", &["CBR-084"], |kit: Arc<RegistrarCoaps>, record: Recorder| async move {
            let (serial, signed) = exchanged(&kit, &record).await?;
            let issued = kit.signing.issued(&serial).ok_or_else(|| Finding::could_not_test("the suite's MASA issued none"))?;
            let issued = coaps_voucher::parts(&issued).map_err(Finding::could_not_test)?;
            must(signed.protected == issued.protected, "the protected header is another")?;
            must(signed.payload == issued.payload, "the payload is another")?;
            must(signed.signature == issued.signature, "the signature is another")?;
            coaps_voucher::is_signed_by(&signed, kit.signing.signer.certificate())
        }).tags(&["voucher", "cose"]),
        Case::new(id("cbrski-6.5.3/abbreviations"), "402, 403 and 401 are rv, vs and es, 302 is sen", &["CBR-054", "COA-081"], abbreviations).tags(&["coap"]).needs(&["uri-path-abbrev"]),
        Case::new(id("cbrski-15.1/links"), "the links of BRSKI have the types that are registered, and rt=brski is the root alone", &["CBR-159", "CBR-164", "COA-045"], links).tags(&["discovery"]).needs(&["discovery"]),
        Case::new(id("cbrski-e/short-paths"), "what has a short path has the long one as well, and both do the same", &["CBR-165"], short_paths).tags(&["discovery"]).needs(&["discovery"]),
        Case::new(id("cbrski-6.5.1/json"), "vs and es take JSON", &["CBR-043"], |kit: Arc<RegistrarCoaps>, record: Recorder| async move {
            let ask = Ask::post("/.well-known/brski/vs", format::JSON, br#"{"version":1,"status":true}"#);
            is(&onboarded(&kit, &record, &ask).await?, Code::CHANGED, "it")
        }).tags(&["telemetry"]).needs(&["json-telemetry"]),
        Case::new(id("cbrski-6.1.3/anonymous"), "rv, vs and es are for nobody without a certificate", &["CBR-019", "CBR-055"], |kit: Arc<RegistrarCoaps>, record: Recorder| async move {
            let device = kit.device(&record)?;
            let leaves = kit.leaves(&record, &device).await?;
            let asks = [
                rv(&leaves.signed(&device.identity.signatory)),
                Ask::post("/.well-known/brski/vs", format::CBOR, &report(1, true, &[])),
                Ask::post("/.well-known/brski/es", format::CBOR, &report(1, true, &[])),
            ];
            for ask in &asks {
                super::shut_out(super::attempt(&kit.base().client, &record, ask).await, "it")?;
            }
            must(kit.asked(&device) == 0, "the MASA was asked all the same")
        }).tags(&["voucher", "hostile"]),
        Case::new(id("cbrski-6.5.1/status-of-nobody"), "a report of a device that nobody knows is refused", &["CBR-055"], |kit: Arc<RegistrarCoaps>, record: Recorder| async move {
            let stranger = kit.made_by(&kit.base().strangers, &record)?;
            let client = kit.base().client.with_identity(&stranger);
            let ask = Ask::post("/.well-known/brski/vs", format::CBOR, &report(1, true, &[]));
            match super::attempt(&client, &record, &ask).await {
                Ok(answer) => refused(&answer, "it"),
                told => super::shut_out(told, "it"),
            }
        }).tags(&["telemetry", "hostile"]),
    ]);
    cases
}

/// A device with its voucher asks something in a session of its own.
async fn onboarded(
    kit: &RegistrarCoaps,
    record: &Recorder,
    ask: &Ask,
) -> Result<crate::coaps::Answer, Finding> {
    let identity = kit.enroller(record).await?;
    let client = kit.base().client.with_identity(&identity);
    Ok(super::attempt(&client, record, ask).await?)
}

async fn exchanged(
    kit: &RegistrarCoaps,
    record: &Recorder,
) -> Result<(String, coaps_voucher::Signed), Finding> {
    let device = kit.device(record)?;
    let leaves = kit.leaves(record, &device).await?;
    let exchange = kit.voucher(record, device, &leaves).await?;
    let signed = coaps_voucher::open(&exchange.answer.payload)?;
    Ok((exchange.device.serial, signed))
}

async fn voucher(kit: Arc<RegistrarCoaps>, record: Recorder, accept: bool) -> Told {
    let device = kit.device(&record)?;
    let leaves = kit.leaves(&record, &device).await?;
    let mut ask = rv(&leaves.signed(&device.identity.signatory));
    if accept {
        ask = ask.accept(format::VOUCHER);
    }
    let answer = kit.ask(&record, &device, &ask).await?;
    is(&answer, Code::CHANGED, "a right request")?;
    must(
        answer.format() == Some(u64::from(format::VOUCHER)),
        format!("Content-Format is {:?}", answer.format()),
    )?;
    let signed = coaps_voucher::open(&answer.payload)?;
    must(
        signed.text(coaps_voucher::leaf::VOUCHER_SERIAL) == Some(&device.serial)
            && signed.bytes(coaps_voucher::leaf::NONCE) == Some(&device.nonce),
        "it is for another device or another request",
    )
}

async fn abbreviations(kit: Arc<RegistrarCoaps>, record: Recorder) -> Told {
    let device = kit.device(&record)?;
    let leaves = kit.leaves(&record, &device).await?;
    let short = |number: u64, ask: Ask| {
        ask.without(option::URI_PATH)
            .option(option::URI_PATH_ABBREV, uint(number))
    };
    let request = rv(&leaves.signed(&device.identity.signatory));
    let answer = kit.ask(&record, &device, &short(402, request)).await?;
    is(&answer, Code::CHANGED, "402")?;
    let mut coaps = kit.session(&record, &device).await?;
    for number in [403, 401] {
        let ask = Ask::post("", format::CBOR, &report(1, true, &[]));
        let answer = coaps.ask(&short(number, ask)).await?;
        is(&answer, Code::CHANGED, &number.to_string())?;
    }
    let csr = super::est_server::csr_of(&device.identity)?.encode();
    let answer = coaps
        .ask(&short(302, Ask::post("", format::PKCS10, &csr)))
        .await?;
    is(&answer, Code::CHANGED, "302")
}

async fn links(kit: Arc<RegistrarCoaps>, record: Recorder) -> Told {
    let mut coaps = open(&*kit, &record).await?;
    let answer = coaps.ask(&Ask::get("/.well-known/core?rt=brski*")).await?;
    is(&answer, Code::CONTENT, "rt=brski*")?;
    let all = super::options::links(&answer.payload)?;
    for wanted in ["brski", "brski.rv", "brski.vs", "brski.es"] {
        let there = all.iter().any(|(_, rest)| {
            rest.contains(&format!("rt={wanted};"))
                || rest.ends_with(&format!("rt={wanted}"))
                || rest.contains(&format!("rt=\"{wanted}\""))
        });
        must(there, format!("no link has rt={wanted}: {all:?}"))?;
    }
    let answer = coaps.ask(&Ask::get("/.well-known/core?rt=brski")).await?;
    is(&answer, Code::CONTENT, "rt=brski")?;
    let root = super::options::links(&answer.payload)?;
    must(root.len() == 1, format!("rt=brski is {root:?}"))
}

async fn short_paths(kit: Arc<RegistrarCoaps>, record: Recorder) -> Told {
    let mut coaps = open(&*kit, &record).await?;
    let answer = coaps
        .ask(&Ask::get("/.well-known/core?rt=brski.rv"))
        .await?;
    is(&answer, Code::CONTENT, "rt=brski.rv")?;
    let path = super::options::links(&answer.payload)?
        .into_iter()
        .next()
        .map(|(target, _)| target)
        .ok_or_else(|| Finding::fail("there is no link"))?;
    let device = kit.device(&record)?;
    let leaves = kit.leaves(&record, &device).await?;
    let request = leaves.signed(&device.identity.signatory);
    let short = Ask::post(&path, format::VOUCHER, &request);
    let one = kit.ask(&record, &device, &short).await?;
    is(&one, Code::CHANGED, &path)?;
    let other = kit.ask(&record, &device, &rv(&request)).await?;
    is(&other, Code::CHANGED, "/.well-known/brski/rv")?;
    must(one.payload == other.payload, "they gave different vouchers")
}
