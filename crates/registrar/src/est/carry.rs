//! Carrying out what EST decided.

use ::est::csrattrs::{ExtensionTemplate, RdnTemplate, oids};
use ::est::server::{self, Answer, Enrolment, Policy, Refusal, Request, Standing, Step, Transport};
use ::est::{Operation, server::ChannelBinding};
use der::Encode as _;
use pki::{Certificate, Coded as _, Signer as _, SoftwareKey};

use super::Inner;
use super::who::{self, Who};
use crate::Error;
use crate::ca::{CaError, Certified, Holder, Wanted, certify};
use crate::records::{self, Entry, Outcome};
use crate::service::{Attempt, Caller};

/// One request.
pub(super) struct Call<'a> {
    pub(super) label: Option<&'a str>,
    /// `None` if the path names no operation.
    pub(super) request: Option<Request<'a>>,
    /// The Authorization header.
    pub(super) authorization: Option<&'a str>,
    pub(super) caller: &'a Caller,
}

/// Answers a request and writes down what happened.
pub(super) async fn out(inner: &Inner, attempt: &mut Attempt, call: &Call<'_>) -> Answer {
    let step = call
        .request
        .map_or("est", |request| step_name(request.operation));
    match answer(inner, attempt, call).await {
        Ok(answer) => answer,
        Err(error) => failed(inner, attempt, step, error).await,
    }
}

/// Writes down an attempt that an error ended, and says what the device gets.
pub(super) async fn failed(
    inner: &Inner,
    attempt: &mut Attempt,
    step: &'static str,
    error: Error,
) -> Answer {
    attempt.fail(step, &error, inner.service.now());
    inner.service.record_failure(attempt, &error).await;
    let mut answer = match &error {
        Error::Est(refusal) => Answer::refused(refusal),
        error => {
            let mut answer = Answer::failed(error.status().as_u16(), error.code(), "");
            answer.body = error.device_text().into_bytes();
            if error.is_transient() {
                let seconds = inner.service.config().masa.retry_after_seconds;
                answer.retry_after_seconds = Some(u64::from(seconds));
            }
            answer
        }
    };
    // The correlation id ties what the device logs to the operator's timeline.
    answer
        .body
        .extend_from_slice(format!("correlation: {}\n", attempt.correlation).as_bytes());
    answer
}

const fn step_name(operation: Operation) -> &'static str {
    match operation {
        Operation::CaCerts => "cacerts",
        Operation::CsrAttrs => "csrattrs",
        Operation::FullCmc => "fullcmc",
        Operation::ServerKeyGen => "serverkeygen",
        Operation::SimpleEnroll => "enrol",
        Operation::SimpleReenroll => "reenrol",
    }
}

async fn answer(inner: &Inner, attempt: &mut Attempt, call: &Call<'_>) -> Result<Answer, Error> {
    if call.request.is_none() && defects::seeded!("est-answers-any-operation") {
        return Answer::ca_certificates(&inner.policy().ca_certificates).map_err(own_fault);
    }
    if call.label.is_none() && defects::seeded!("est-demands-a-label") {
        return Err(Refusal::LabelUnknown.into());
    }
    let request = call.request.ok_or(Refusal::OperationUnknown)?;
    let operation = request.operation;
    if !inner.service.config().est.knows(call.label) {
        return Err(Refusal::LabelUnknown.into());
    }
    let mut policy = inner.policy();
    if operation == Operation::CaCerts
        && call.caller.chain().unwrap_or_default().is_empty()
        && defects::seeded!("est-hides-cacerts")
    {
        return Err(Refusal::CertificateRequired.into());
    }
    let who = match (operation, request.transport) {
        // Nobody needs to be known for these, except over CoAP.
        (Operation::CaCerts | Operation::FullCmc, Transport::Https) => Who {
            standing: Standing::Anonymous {
                credentials_offered: false,
            },
            holder: None,
            names: &inner.names,
        },
        _ => who::asks(inner, attempt, call, &request).await?,
    };
    demand_names(inner, &who, &mut policy)?;
    if let (Transport::Coaps { .. }, Operation::CaCerts) = (request.transport, operation) {
        let current = match &who.standing {
            Standing::Member { current, .. } => Some(current),
            _ => None,
        };
        let limit = inner.service.config().coap.ca_certificates_max;
        policy.ca_certificates = ::est::coaps::hierarchy(&policy.ca_certificates, current, limit);
    }
    if who
        .holder
        .as_ref()
        .is_some_and(|holder| holder.names_from_request)
    {
        // RFC 7030 §3.7: a registration authority has verified the binding to its own connection.
        policy.channel_binding = ChannelBinding::Ignore;
    }
    let step = server::handle(&request, &who.standing, &policy).map_err(own_fault)?;
    let holder = || {
        who.holder.clone().ok_or_else(|| Error::Config {
            detail: "a request was granted to nobody".to_owned(),
        })
    };
    match step {
        Step::Reply(answer) => {
            given(inner, attempt, operation, &answer).await;
            Ok(answer)
        }
        Step::Refuse(refusal) => Err(refusal.into()),
        Step::Defer { retry_after, .. } => Ok(Answer::accepted(retry_after)),
        Step::Issue(enrolment) => {
            issue(inner, attempt, &holder()?, &who, &enrolment, None, &policy).await
        }
        Step::Reenrol {
            enrolment, current, ..
        } => {
            issue(
                inner,
                attempt,
                &holder()?,
                &who,
                &enrolment,
                Some(&current),
                &policy,
            )
            .await
        }
        Step::GenerateKey { enrolment, current } => {
            let replaces = current.as_ref();
            generate(
                inner,
                attempt,
                &holder()?,
                &who,
                &enrolment,
                replaces,
                &policy,
            )
            .await
        }
    }
}

/// A fault of ours inside the protocol crate.
fn own_fault(error: ::est::Error) -> Error {
    match error {
        ::est::Error::Refused(refusal) => refusal.into(),
        ::est::Error::Pki(error) => Error::Pki(error),
        error => Error::Config {
            detail: error.to_string(),
        },
    }
}

/// Lets `/csrattrs` name the subject that the certificate will have. A CA that takes its names
/// from requests needs the subjectAltName in there too.
fn demand_names(inner: &Inner, who: &Who<'_>, policy: &mut Policy) -> Result<(), Error> {
    let Some(holder) = &who.holder else {
        return Ok(());
    };
    let from_request = inner
        .service
        .ca()
        .is_some_and(|ca| ca.takes_names_from_request());
    let subject = match &who.standing {
        Standing::Member {
            current,
            may_enrol: false,
        } => current.x509().tbs_certificate().subject().clone(),
        // A template that gives no name for this device is told when it enrols.
        _ => match who.names.subject(&holder.names) {
            Ok(subject) => subject,
            Err(_) => return Ok(()),
        },
    };
    let mut rdns = Vec::new();
    for attribute in subject.iter() {
        let value = attribute.value.to_der().map_err(|error| Error::Config {
            detail: error.to_string(),
        })?;
        rdns.push(vec![RdnTemplate {
            oid: attribute.oid,
            value: Some(value),
        }]);
    }
    policy.demand.subject = rdns;
    // BRSKI-5.9.2-01: "the EST CSR Attributes MUST include the ACP domain information fields".
    if from_request || who.names.has_acp_node_name() {
        let names = match &who.standing {
            Standing::Member {
                current,
                may_enrol: false,
            } => crate::ca::alt_names_of(current)?,
            _ => who.names.alt_names(&holder.names)?,
        };
        if let Some(value) = crate::ca::general_names_der(&names)? {
            policy.demand.extensions.push(ExtensionTemplate {
                oid: oids::SUBJECT_ALT_NAME,
                critical: who.names.has_acp_node_name(),
                value: Some(value),
            });
        }
    }
    Ok(())
}

/// Notes an answer that needed no CA. Strangers who read what is public leave no line.
async fn given(inner: &Inner, attempt: &mut Attempt, operation: Operation, answer: &Answer) {
    if operation == Operation::CaCerts || !attempt.sighting.trusted {
        return;
    }
    let summary = match answer.status {
        204 => "no CSR attributes".to_owned(),
        _ => format!("{} answered", operation.segment()),
    };
    attempt.note(Entry::new(
        inner.service.now(),
        step_name(operation),
        summary,
    ));
    keep(inner, attempt).await;
}

/// Writes the lines of an attempt that changed nothing else.
async fn keep(inner: &Inner, attempt: &mut Attempt) {
    inner.service.count(attempt);
    let lines = attempt.clone();
    let written: Result<(), Error> = inner
        .service
        .store()
        .transaction("est-timeline", move |connection| {
            let lines = lines.clone();
            Box::pin(async move {
                let id = &lines.sighting.device_id;
                let first = records::State::Approved;
                records::touch(connection, &lines.sighting, first, lines.begun).await?;
                records::append(connection, id, &lines.correlation, &lines.entries).await?;
                Ok(())
            })
        })
        .await;
    if let Err(error) = written {
        tracing::error!(code = error.code(), %error, "an attempt could not be written down");
    }
    attempt.entries.clear();
}

async fn issue(
    inner: &Inner,
    attempt: &mut Attempt,
    holder: &Holder,
    who: &Who<'_>,
    enrolment: &Enrolment,
    replaces: Option<&Certificate>,
    policy: &Policy,
) -> Result<Answer, Error> {
    let service = &inner.service;
    let ca = service.ca().ok_or(CaError::NotConfigured)?;
    let step = if replaces.is_some() {
        "reenrol"
    } else {
        "enrol"
    };
    let wanted = Wanted {
        csr: &enrolment.csr,
        generated: None,
        replaces,
        correlation: &attempt.correlation,
        entries: attempt.entries.clone(),
        detail: detail(enrolment, policy),
    };
    let certified = certify(
        service.store(),
        ca,
        who.names,
        holder,
        &wanted,
        service.now(),
    )
    .await?;
    match certified {
        Certified::New(certificate) => {
            service.count(attempt);
            attempt.entries.clear();
            issued(inner, attempt, holder, &certificate, step);
            Answer::certificate(&certificate).map_err(own_fault)
        }
        Certified::Again(certificate) => {
            let line = Entry::new(
                service.now(),
                step,
                "the same request again: the same certificate again",
            );
            attempt.note(line);
            if holder.is_device {
                keep(inner, attempt).await;
            }
            Answer::certificate(&certificate).map_err(own_fault)
        }
        Certified::Pending { retry_after } => {
            let line = Entry::new(service.now(), step, "the CA has not decided yet")
                .outcome(Outcome::Pending);
            attempt.note(line);
            if holder.is_device {
                keep(inner, attempt).await;
            }
            Ok(Answer::accepted(retry_after))
        }
    }
}

async fn generate(
    inner: &Inner,
    attempt: &mut Attempt,
    holder: &Holder,
    who: &Who<'_>,
    enrolment: &Enrolment,
    replaces: Option<&Certificate>,
    policy: &Policy,
) -> Result<Answer, Error> {
    let service = &inner.service;
    let ca = service.ca().ok_or(CaError::NotConfigured)?;
    if ca.takes_names_from_request() {
        // The request would have to be signed by the new key, and another CA would not take ours.
        return Err(Refusal::ServerKeyGenDisabled.into());
    }
    let kind = service.config().est.server_keygen_key.kind();
    // An RSA key takes a good part of a second.
    let key = tokio::task::spawn_blocking(move || SoftwareKey::generate(kind))
        .await
        .map_err(|_| Error::Pki(pki::Error::KeyGeneration))??;
    let wanted = Wanted {
        csr: &enrolment.csr,
        generated: Some(key.public_key()),
        replaces,
        correlation: &attempt.correlation,
        entries: attempt.entries.clone(),
        detail: detail(enrolment, policy),
    };
    let certified = certify(
        service.store(),
        ca,
        who.names,
        holder,
        &wanted,
        service.now(),
    )
    .await?;
    match certified {
        Certified::New(certificate) | Certified::Again(certificate) => {
            service.count(attempt);
            attempt.entries.clear();
            issued(inner, attempt, holder, &certificate, "serverkeygen");
            let private_key = key.to_pkcs8_der()?;
            Answer::key_and_certificate(&private_key, &certificate).map_err(own_fault)
        }
        Certified::Pending { .. } => {
            Err(CaError::Answer("it waits, and the generated key cannot".to_owned()).into())
        }
    }
}

/// Counts and logs a certificate that is in the database now.
fn issued(
    inner: &Inner,
    attempt: &Attempt,
    holder: &Holder,
    certificate: &Certificate,
    step: &'static str,
) {
    inner.service.counters().step(step, None);
    tracing::info!(
        correlation = attempt.correlation,
        device = holder.id,
        step,
        serial_number = hex::encode(certificate.serial_number()),
        subject = certificate.subject(),
        "certificate issued"
    );
}

fn detail(enrolment: &Enrolment, policy: &Policy) -> serde_json::Value {
    let csr = &enrolment.csr;
    serde_json::json!({
        "subject-asked-for": csr.subject(),
        "names-asked-for": csr.dns_names().unwrap_or_default(),
        "attributes": csr.attributes().iter().map(|found| found.id.to_string()).collect::<Vec<_>>(),
        "channel-bound": enrolment.channel_bound,
        "channel-binding-policy": match policy.channel_binding {
            ChannelBinding::Ignore => "ignore",
            ChannelBinding::Require => "require",
            ChannelBinding::Verify => "verify",
        },
        "tolerances-used": enrolment.oddities,
    })
}
