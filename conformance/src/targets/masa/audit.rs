//! The audit log of a device, and who may see it.

use std::sync::Arc;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde_json::Value;

use super::{Ask, Masa, refused};
use crate::{
    case::Case,
    checks::voucher::pinned,
    evidence::Recorder,
    forge::key::Hash,
    http::{Answer, Request},
    inspect::{Envelope, Signed},
    outcome::{Finding, OrCouldNotTest as _, Told, must},
};

pub(super) fn cases() -> Vec<Case> {
    vec![
        Case::new(
            "masa/rfc8995-5.8/log",
            "whoever got a voucher gets the log, as JSON of the right form",
            &["BRSKI-5.8.1-01", "BRSKI-5.8.1-02", "BRSKI-9.1.1-03"],
            form,
        ),
        Case::new(
            "masa/rfc8995-5.6/issue-is-logged",
            "each voucher is in the log, with its nonce and assertion",
            &["BRSKI-5.6-28", "BRSKI-5.5.6-02", "BRSKI-5.5.5-04"],
            logged,
        ),
        Case::new(
            "masa/rfc8995-5.8.2/domain-id",
            "domainID is the key identifier of the pinned certificate",
            &["BRSKI-5.8.2-01", "BRSKI-11.2-01"],
            domain_id,
        ),
        Case::new(
            "masa/rfc8995-5.8/other-domain",
            "somebody who never had the device learns nothing: 404",
            &["BRSKI-5.8-04"],
            other_domain,
        )
        .tags(&["hostile"]),
        Case::new(
            "masa/rfc8995-5.8/altered",
            "a request for the log with a wrong signature is refused",
            &["BRSKI-5.8-03"],
            altered,
        )
        .tags(&["hostile"]),
        Case::new(
            "masa/rfc8995-5.8/unsigned",
            "a request for the log without a signature is refused",
            &["BRSKI-5.8-03"],
            unsigned,
        )
        .tags(&["hostile"]),
        Case::new(
            "masa/rfc8995-5.8/no-cmcra",
            "a request for the log signed without cmcRA is refused",
            &["BRSKI-5.8-03"],
            no_cmcra,
        )
        .tags(&["hostile"]),
        Case::new(
            "masa/rfc8995-5.8.1/nonceless",
            "the nonce of a voucher without one is null in the log",
            &["BRSKI-5.8.1-03", "BRSKI-5.5.6-02"],
            nonceless,
        )
        .needs(&["nonceless"]),
    ]
    .into_iter()
    .map(|case| case.tags(&["audit-log"]).needs(&["cms", "audit-log"]))
    .collect()
}

async fn ask_log(kit: &Masa, record: &Recorder, body: Vec<u8>) -> Result<Answer, Finding> {
    let request = kit
        .request("requestauditlog", Envelope::Cms, body)
        .header("Accept", "application/json");
    Ok(kit.client.send(record, request).await?)
}

/// A voucher, and the log that has it.
async fn log_of(kit: &Masa, record: &Recorder, ask: &Ask) -> Result<(Signed, Value), Finding> {
    let issued = kit.voucher(record, ask).await?;
    let mut answer = ask_log(kit, record, ask.encode()).await?;
    if answer.status == 201 {
        let location = answer
            .header("location")
            .ok_or_else(|| Finding::fail("201 without Location"))?
            .to_owned();
        let path = match location.strip_prefix("https://") {
            Some(rest) => format!("/{}", rest.split_once('/').map_or("", |(_, path)| path)),
            None => location,
        };
        answer = kit.client.send(record, Request::get(path)).await?;
    }
    must(
        answer.status == 200,
        format!("the log was answered {}: {}", answer.status, answer.text()),
    )?;
    let media_type = answer.media_type();
    must(
        media_type == "application/json",
        format!("the log's Content-Type is {media_type:?}"),
    )?;
    let log = serde_json::from_slice(&answer.body)
        .map_err(|error| Finding::fail(format!("the log is no JSON: {error}")))?;
    Ok((issued.signed, log))
}

fn events(log: &Value) -> Result<&Vec<Value>, Finding> {
    log.get("events")
        .and_then(Value::as_array)
        .ok_or_else(|| Finding::fail("the log has no array events"))
}

async fn form(kit: Arc<Masa>, record: Recorder) -> Told {
    let ask = kit.ask(&record, Envelope::Cms, "AUDIT")?;
    let (_, log) = log_of(&kit, &record, &ask).await?;
    must(
        log.get("version").is_some_and(Value::is_u64),
        "version is no number",
    )?;
    if let Some(truncation) = log.get("truncation") {
        for name in ["nonced duplicates", "nonceless duplicates", "arbitrary"] {
            let counter = truncation.get(name);
            must(
                counter.is_none_or(Value::is_u64),
                format!("truncation: {name} is {counter:?}"),
            )?;
        }
    }
    let events = events(&log)?;
    must(!events.is_empty(), "there is no event")?;
    for event in events {
        let text = |name: &str| event.get(name).and_then(Value::as_str);
        let date = text("date").ok_or_else(|| Finding::fail("an event has no date"))?;
        time::OffsetDateTime::parse(date, &time::format_description::well_known::Rfc3339)
            .map_err(|error| Finding::fail(format!("date {date}: {error}")))?;
        let domain = text("domainID").ok_or_else(|| Finding::fail("an event has no domainID"))?;
        STANDARD
            .decode(domain)
            .map_err(|error| Finding::fail(format!("domainID {domain}: {error}")))?;
        must(
            event
                .get("nonce")
                .is_some_and(|nonce| nonce.is_null() || nonce.is_string()),
            "nonce is neither a string nor null",
        )?;
        must(
            matches!(
                text("assertion"),
                Some("verified" | "logged" | "proximity" | "agent-proximity")
            ),
            format!("assertion is {:?}", event.get("assertion")),
        )?;
    }
    // The second opinion: our own reader of logs, strict.
    artifacts::AuditLog::from_json(log.to_string().as_bytes(), &artifacts::Tolerances::strict())
        .map(|_| ())
        .or_could_not_test("the two readers of logs differ")
}

async fn logged(kit: Arc<Masa>, record: Recorder) -> Told {
    for _ in 0..2 {
        let ask = kit.ask(&record, Envelope::Cms, "LOGGED")?;
        let (_, log) = log_of(&kit, &record, &ask).await?;
        let nonce = ask.outer.leaves.get("nonce").cloned().unwrap_or_default();
        let event = events(&log)?
            .iter()
            .find(|event| event.get("nonce") == Some(&nonce))
            .ok_or_else(|| Finding::fail(format!("no event has the nonce {nonce}")))?;
        let assertion = event.get("assertion").and_then(Value::as_str);
        must(
            matches!(assertion, Some("proximity" | "verified")),
            format!("the event says {assertion:?} where proximity was proven"),
        )?;
    }
    Ok(())
}

async fn domain_id(kit: Arc<Masa>, record: Recorder) -> Told {
    let ask = kit.ask(&record, Envelope::Cms, "DOMAIN-ID")?;
    let (voucher, log) = log_of(&kit, &record, &ask).await?;
    let pinned = pinned(&voucher)?;
    let expected = pinned
        .subject_key_id()
        .unwrap_or_else(|| Hash::Sha256.of(pinned.public_key().spki_der()));
    let nonce = ask.outer.leaves.get("nonce").cloned().unwrap_or_default();
    let event = events(&log)?
        .iter()
        .find(|event| event.get("nonce") == Some(&nonce))
        .ok_or_else(|| Finding::fail("the voucher's event is missing"))?;
    let found = event
        .get("domainID")
        .and_then(Value::as_str)
        .unwrap_or_default();
    must(
        found == STANDARD.encode(&expected),
        format!("domainID is {found} and not {}", STANDARD.encode(&expected)),
    )
}

async fn other_domain(kit: Arc<Masa>, record: Recorder) -> Told {
    let ask = kit.ask(&record, Envelope::Cms, "AUDIT-OTHER")?;
    kit.voucher(&record, &ask).await?;
    let other = kit.other_registrar.clone();
    let certificate = other.certificate().to_vec();
    let asking = kit
        .ask(&record, Envelope::Cms, "AUDIT-OTHER")?
        .inner(|leaves| leaves.binary("proximity-registrar-cert", &certificate))
        .with(|ask| ask.registrar = other.clone());
    let request = kit.request("requestauditlog", Envelope::Cms, asking.encode());
    let answer = kit
        .client
        .with_identity(&other)
        .send(&record, request)
        .await?;
    must(
        answer.status == 404,
        format!("it was answered {}: {}", answer.status, answer.text()),
    )
}

async fn altered(kit: Arc<Masa>, record: Recorder) -> Told {
    let ask = kit.ask(&record, Envelope::Cms, "AUDIT")?;
    let mut body = ask.encode();
    if let Some(last) = body.last_mut() {
        *last ^= 1;
    }
    let answer = ask_log(&kit, &record, body).await?;
    refused(&answer, "it")
}

async fn unsigned(kit: Arc<Masa>, record: Recorder) -> Told {
    let ask = kit.ask(&record, Envelope::Cms, "AUDIT")?;
    let body = ask.cms().with(|cms| cms.signers.clear()).encode();
    let answer = ask_log(&kit, &record, body).await?;
    refused(&answer, "it")
}

async fn no_cmcra(kit: Arc<Masa>, record: Recorder) -> Told {
    let without = kit.domain.issue(
        &crate::forge::x509::name("", "Registrar", None),
        kit.registrar.key(),
        kit.at,
        |certificate| certificate,
    );
    let ask = kit
        .ask(&record, Envelope::Cms, "AUDIT")?
        .with(|ask| ask.registrar = without);
    let answer = ask_log(&kit, &record, ask.encode()).await?;
    refused(&answer, "it")
}

async fn nonceless(kit: Arc<Masa>, record: Recorder) -> Told {
    let device = kit.device("AUDIT-NONCELESS")?;
    let ask = kit.ask_with(
        Envelope::Cms,
        device,
        &super::serial("AUDIT-NONCELESS"),
        None,
    );
    let (_, log) = log_of(&kit, &record, &ask).await?;
    must(
        events(&log)?
            .iter()
            .any(|event| event.get("nonce") == Some(&Value::Null)),
        "no event has a nonce of null",
    )
}
