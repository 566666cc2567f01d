//! Renewing the domain certificate before it ends
//! ([RFC 7030 §4.2.2](https://www.rfc-editor.org/rfc/rfc7030.html#section-4.2.2)): a new key, a
//! request under the old certificate, and a switch to both at once.

use std::{sync::Arc, time::Instant};

use brski::pledge::{Machine, Phase};
use bytes::Bytes;
use est::{
    body::BodyTolerances,
    client::{
        CaCertificates, HttpAnswer, HttpRequest, Outcome, csr_attrs, csr_attrs_request, enrolled,
        reenrol_request, reenroll_request,
    },
    csrattrs::Requirements,
};
use http::Method;
use net::client::{ClientConfig, Connection, Response, ServerTrust, Target};
use pki::{
    Certificate, Identity, Signer,
    path::{self, Anchors, PathOptions, Purpose},
};

use super::{
    Config, DeviceClock,
    run::{Enrolment, StepRecord, headers, ldevid, millis, publish},
    store::{Store, Stored, kind_of},
};
use crate::Error;

/// How a renewal ended.
#[derive(Clone, Debug)]
pub struct Renewal {
    /// The new certificate with its key, or `None` if the registrar refused.
    pub identity: Option<Identity>,
    /// The certificate that was renewed.
    pub previous: Certificate,
    /// What the device did, in order.
    pub steps: Vec<StepRecord>,
    /// The status with which the registrar refused, and its text.
    pub refusal: Option<(u16, String)>,
}

/// Renews the domain certificate with a new key.
///
/// The new key is on disk before the request leaves, and the state names key and certificate
/// together, so a power cut leaves the device with the old pair or with the new one.
///
/// # Errors
/// If the device is not enrolled, the registrar is not the domain's, or the device's own
/// surroundings fail.
pub async fn renew(config: &Config) -> Result<Renewal, Error> {
    let mut store = Store::open(config.state_folder.clone(), config.key_passphrase.clone())?;
    let stored = store.load(&config.idevid)?.ok_or(Error::NotEnrolled)?;
    let generation = stored.key_generation;
    let mut machine = Machine::resume(config.pledge(), stored.pledge);
    let current = ldevid(&store, &machine.state().phase, generation)?;
    let Phase::Enrolled(state) = machine.state().phase.clone() else {
        return Err(Error::NotEnrolled);
    };
    let previous = current.certificate().ok_or(Error::NotEnrolled)?.clone();
    let clock = DeviceClock::starting_at(config.starts_at);
    let anchor = Certificate::from_der(&state.anchor)?;
    let at = config.clock.is_trusted().then(|| clock.now());

    let mut session = Session {
        steps: Vec::new(),
        connection: None,
    };
    let target = Target::from_url(&state.origin)?;
    let client = ClientConfig {
        trust: ServerTrust::Provisional,
        identity: Some(current.clone()),
        http: config.http,
        tls: config.tls,
        address: config.address,
        ..ClientConfig::default()
    };
    let begun = Instant::now();
    let connection = Connection::open(&target, &client).await?;
    session.record(
        "connect",
        None,
        true,
        begun,
        connection.http_version().to_string(),
    );
    check_server(
        connection.peer_chain(),
        &anchor,
        state.registrar_chain.first(),
        at,
    )?;
    let binding = connection.exporter();
    session.connection = Some(connection);

    let label = config.est_label.as_deref();
    let tolerances = BodyTolerances::default();
    let answer = session.send("csrattrs", csr_attrs_request(label)).await?;
    let requirements = match csr_attrs(&http_answer(&answer), &tolerances) {
        Ok(Outcome::Done(requirements)) => requirements,
        Ok(Outcome::Wait { .. } | Outcome::Redirect { .. }) => Requirements::none(),
        Err(error) => return Err(error.into()),
    };
    let begun = Instant::now();
    let old_key = store.existing_key(generation)?.ok_or(Error::NotEnrolled)?;
    let kind = kind_of(&old_key).unwrap_or(config.key_kind);
    let key = store.key(generation + 1, kind)?;
    let binding = binding.as_ref().map(<[u8; 32]>::as_slice);
    let csr = reenrol_request(&previous, &requirements, binding, key.as_ref())?;
    session.record("key", None, true, begun, csr.subject());

    let answer = session
        .send("simplereenroll", reenroll_request(label, &csr))
        .await?;
    let mut bag = Vec::new();
    for der in &state.ca_certificates {
        bag.push(Certificate::from_der(der)?);
    }
    let trust = CaCertificates::new(bag).judge(None, at)?;
    let result = enrolled(
        &http_answer(&answer),
        key.public_key(),
        &trust,
        at,
        clock.now(),
        &tolerances,
    );
    let done = match result {
        Ok(Outcome::Done(done)) => done,
        Ok(Outcome::Wait { .. } | Outcome::Redirect { .. }) | Err(est::Error::Status { .. }) => {
            let text = String::from_utf8_lossy(&answer.body).trim().to_owned();
            let refusal = Some((answer.status.as_u16(), text));
            return Ok(Renewal {
                identity: None,
                previous,
                steps: session.steps,
                refusal,
            });
        }
        Err(error) => return Err(error.into()),
    };
    let mut renewed = state.clone();
    renewed.certificate = done.certificate.der().to_vec();
    renewed.chain = done.chain.iter().map(|one| one.der().to_vec()).collect();
    renewed.anchor = trust.anchor.der().to_vec();
    let mut pledge = machine.state().clone();
    pledge.phase = Phase::Enrolled(renewed);
    store.save(&Stored::new(&config.idevid, pledge.clone(), generation + 1))?;
    machine = Machine::resume(config.pledge(), pledge);
    store.forget_key(generation);
    let signer: Arc<dyn Signer> = key;
    let identity = Identity::new(done.chain, signer)?;
    if let Phase::Enrolled(enrolled) = &machine.state().phase {
        let enrolment = Enrolment {
            identity: identity.clone(),
            anchor: trust.anchor,
            registrar: None,
            voucher: enrolled.voucher.clone(),
            assertion: enrolled.assertion.clone(),
            reported: enrolled.reported,
            origin: enrolled.origin.clone(),
        };
        publish(&store, &enrolment)?;
    }
    Ok(Renewal {
        identity: Some(identity),
        previous,
        steps: session.steps,
        refusal: None,
    })
}

/// Whether half of the certificate's life is over. A device that does not trust its clock cannot
/// tell and should ask for a renewal whenever it is started.
///
/// # Errors
/// If the device is not enrolled, or its state cannot be read.
pub fn renewal_due(config: &Config) -> Result<bool, Error> {
    let store = Store::open(config.state_folder.clone(), config.key_passphrase.clone())?;
    let stored = store.load(&config.idevid)?.ok_or(Error::NotEnrolled)?;
    let Phase::Enrolled(state) = &stored.pledge.phase else {
        return Err(Error::NotEnrolled);
    };
    if !config.clock.is_trusted() {
        return Ok(true);
    }
    let certificate = Certificate::from_der(&state.certificate)?;
    let life = certificate.not_after() - certificate.not_before();
    Ok(config.starts_at >= certificate.not_before() + life / 2)
}

/// The server is the registrar that we enrolled with, or one that the domain's anchor vouches for
/// as a registration authority (RFC 7030 §3.6.1).
fn check_server(
    chain: &[Certificate],
    anchor: &Certificate,
    registrar: Option<&Vec<u8>>,
    at: Option<time::OffsetDateTime>,
) -> Result<(), Error> {
    let Some((leaf, others)) = chain.split_first() else {
        return Err(Error::Config(
            "the registrar showed no certificate".to_owned(),
        ));
    };
    if registrar.is_some_and(|known| known == leaf.der()) {
        return Ok(());
    }
    let anchors = Anchors::from(anchor.clone());
    let options = PathOptions {
        at,
        purpose: Purpose::Registrar,
        ..PathOptions::default()
    };
    path::validate(leaf, others, &anchors, &options)
        .map(|_| ())
        .map_err(|error| Error::Untrusted(error.to_string()))
}

struct Session {
    steps: Vec<StepRecord>,
    connection: Option<Connection>,
}

impl Session {
    async fn send(&mut self, what: &str, request: HttpRequest) -> Result<Response, Error> {
        let begun = Instant::now();
        let mut fields = vec![("accept", request.accept.to_owned())];
        if let Some(content_type) = request.content_type {
            fields.push(("content-type", content_type.to_owned()));
        }
        let method = if request.method == "GET" {
            Method::GET
        } else {
            Method::POST
        };
        let connection = self
            .connection
            .as_mut()
            .ok_or_else(|| Error::Config("there is no connection".to_owned()))?;
        let body = Bytes::from(request.body);
        let answer = connection
            .request(method, &request.path, headers(&fields), body)
            .await?;
        let status = answer.status.as_u16();
        self.record(what, Some(status), status < 400, begun, String::new());
        Ok(answer)
    }

    fn record(
        &mut self,
        what: &str,
        status: Option<u16>,
        ok: bool,
        begun: Instant,
        detail: String,
    ) {
        self.steps.push(StepRecord {
            what: what.to_owned(),
            status,
            ok,
            ms: millis(begun),
            detail,
        });
    }
}

fn http_answer(answer: &Response) -> HttpAnswer<'_> {
    HttpAnswer {
        status: answer.status.as_u16(),
        content_type: answer.header("content-type"),
        retry_after: answer.header("retry-after"),
        location: answer.header("location"),
        body: &answer.body,
    }
}
