//! Carrying out the pledge's steps.

use std::{sync::Arc, time::Instant};

use artifacts::Envelope;
use brski::pledge::{
    ClientCertificate, Failure, Input, Machine, Phase, Request, State, Step, WaitReason, What,
};
use http::{HeaderMap, HeaderName, HeaderValue};
use pki::{Certificate, Coded, Identity, Signer};
use serde::Serialize;
use serde_json::Value;
use url::Url;

use super::{
    Config, DeviceClock, key,
    link::{Connected, HttpLink, Link},
    store::{Store, Stored},
    trace,
};
use crate::Error;

/// What the device is doing, as it happens.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "kebab-case", tag = "event")]
pub enum Event {
    /// A connection is up.
    Connected {
        /// Where to.
        origin: String,
        /// With which certificate the device authenticates.
        client: &'static str,
        /// The HTTP version, or `CoAP`.
        http: String,
        /// The TLS or DTLS version.
        tls: Option<String>,
        /// What the server showed, the leaf first.
        chain: Vec<Value>,
    },
    /// A connection could not be made, or broke.
    Disconnected {
        /// Where to.
        origin: String,
        /// Why.
        reason: String,
    },
    /// A request was answered.
    Exchanged(Message),
    /// The domain key and the certification request were made.
    RequestMade {
        /// SHA-256 of the public key.
        key_sha256: String,
    },
    /// The device waits.
    Waiting {
        /// How long, in milliseconds.
        ms: u64,
        /// Why.
        reason: String,
    },
    /// The device is enrolled.
    Enrolled {
        /// Its certificate.
        certificate: Value,
    },
    /// The device gave up.
    GaveUp {
        /// The code of the reason.
        code: String,
        /// The reason.
        detail: String,
    },
}

/// A request and its answer, decoded.
#[derive(Clone, Debug, Serialize)]
pub struct Message {
    /// The resource: `requestvoucher`, `cacerts`…
    pub what: String,
    /// Method and path.
    pub request_line: String,
    /// The request's body, decoded.
    pub request: Value,
    /// The answer's status; 204 for 2.04 of CoAP.
    pub status: u16,
    /// The answer's media type.
    pub content_type: Option<String>,
    /// `Retry-After`.
    pub retry_after: Option<String>,
    /// The answer's body, decoded.
    pub answer: Value,
    /// Time from request to answer.
    pub ms: u64,
}

/// One thing that the device did, in short.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct StepRecord {
    /// What: `connect`, a resource, `key`, `wait`.
    pub what: String,
    /// The status of the answer, if there was one; 204 for 2.04 of CoAP.
    pub status: Option<u16>,
    /// Whether it went on from there.
    pub ok: bool,
    /// How long it took.
    pub ms: u64,
    /// A word on it: the refusal's text, the reason for a wait.
    pub detail: String,
}

/// How a run ended.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// Enrolled, refused, or stopped before the end.
    pub verdict: Verdict,
    /// What the device did, in order.
    pub steps: Vec<StepRecord>,
    /// The voucher request that was sent last, for rehearsals of a replay.
    pub voucher_request: Option<Vec<u8>>,
    /// How long it took.
    pub ms: u64,
}

/// How a run ended.
#[derive(Clone, Debug)]
pub enum Verdict {
    /// The device has a certificate of its domain.
    Enrolled(Box<Enrolment>),
    /// It has not, and gave up: why.
    Refused(Failure),
    /// Time ran out, or the power was cut in rehearsal; a later run goes on.
    Unfinished {
        /// The last failure, if there was one.
        last_failure: Option<Failure>,
    },
}

impl Outcome {
    /// Whether the device is enrolled.
    #[must_use]
    pub fn is_enrolled(&self) -> bool {
        matches!(self.verdict, Verdict::Enrolled(_))
    }

    /// The code of the failure, if the device gave up.
    #[must_use]
    pub fn code(&self) -> Option<&'static str> {
        match &self.verdict {
            Verdict::Refused(failure) => Some(failure.code()),
            Verdict::Enrolled(_) | Verdict::Unfinished { .. } => None,
        }
    }
}

/// What a device has in the end.
#[derive(Clone, Debug)]
pub struct Enrolment {
    /// The domain certificate, what stands above it, and the key.
    pub identity: Identity,
    /// The domain's trust anchor.
    pub anchor: Certificate,
    /// The registrar's certificate.
    pub registrar: Option<Certificate>,
    /// The voucher.
    pub voucher: Vec<u8>,
    /// What the voucher asserts.
    pub assertion: Option<String>,
    /// Whether success was reported to the registrar.
    pub reported: bool,
    /// The origin of the registrar.
    pub origin: Url,
}

/// Enrols the device, or goes on with an enrolment that was cut short, until it is enrolled, gives
/// up, or runs out of time. Whatever happens is told to `observer` as well.
///
/// # Errors
/// If the device's own surroundings fail: its disk, its random numbers, its configuration.
pub async fn run(config: &Config, observer: &mut dyn FnMut(&Event)) -> Result<Outcome, Error> {
    run_over(config, HttpLink::new(config), observer).await
}

/// The same over a link of any kind.
pub(crate) async fn run_over<L: Link, O: FnMut(&Event) + ?Sized>(
    config: &Config,
    link: L,
    observer: &mut O,
) -> Result<Outcome, Error> {
    let store = Store::open(config.state_folder.clone(), config.key_passphrase.clone())?;
    let stored = store
        .load(&config.idevid)?
        .filter(|_| !defects::seeded!("pledge-forgets-its-enrolment"));
    let (machine, key_generation) = match stored {
        Some(Stored {
            pledge,
            key_generation,
            ..
        }) => (
            Machine::resume(config.pledge(), reopened(pledge)),
            key_generation,
        ),
        None => (Machine::new(config.pledge()), 1),
    };
    let mut device = Device {
        config,
        machine,
        store,
        key_generation,
        clock: DeviceClock::starting_at(config.starts_at),
        link,
        origin: None,
        observer,
        steps: Vec::new(),
        voucher_request: None,
    };
    let begun = Instant::now();
    let verdict = match config.time_max {
        Some(limit) => match tokio::time::timeout(limit, device.drive()).await {
            Ok(verdict) => verdict?,
            Err(_) => Verdict::Unfinished {
                last_failure: device.machine.state().last_failure.clone(),
            },
        },
        None => device.drive().await?,
    };
    Ok(Outcome {
        verdict,
        steps: device.steps,
        voucher_request: device.voucher_request,
        ms: millis(begun),
    })
}

/// A device that gave up starts anew when somebody starts it anew.
fn reopened(mut state: State) -> State {
    if state.phase == Phase::GivenUp {
        state.phase = Phase::Discovery;
        state.attempts = 0;
        for registrar in &mut state.registrars {
            registrar.not_before = None;
        }
    }
    state
}

struct Device<'a, L, O: ?Sized> {
    config: &'a Config,
    machine: Machine,
    store: Store,
    key_generation: u32,
    clock: DeviceClock,
    link: L,
    origin: Option<Url>,
    observer: &'a mut O,
    steps: Vec<StepRecord>,
    voucher_request: Option<Vec<u8>>,
}

impl<L: Link, O: FnMut(&Event) + ?Sized> Device<'_, L, O> {
    async fn drive(&mut self) -> Result<Verdict, Error> {
        let mut step = self.advance(&Input::Begin)?;
        let mut count = 0;
        loop {
            // Whatever the machine decided is on disk before it is carried out. A power cut from
            // here on costs at most this one step.
            self.save()?;
            if self.config.power_cut_before == Some(count) {
                let last_failure = self.machine.state().last_failure.clone();
                return Ok(Verdict::Unfinished { last_failure });
            }
            count += 1;
            step = match step {
                Step::Connect { origin, client } => self.connect(origin, client).await?,
                Step::Send(request) => self.send(request).await?,
                Step::MakeRequest { attributes } => self.make_request(attributes.as_deref())?,
                Step::Wait { until, reason } => {
                    self.link.close().await;
                    let WaitReason::BackOff(failure) = reason;
                    self.wait(until, &failure.to_string()).await?
                }
                Step::Pause { until } => self.wait(until, "the registrar said: later").await?,
                Step::Done => {
                    self.link.close().await;
                    return self.enrolled();
                }
                Step::GiveUp(failure) => {
                    self.link.close().await;
                    let code = failure.code().to_owned();
                    (self.observer)(&Event::GaveUp {
                        code,
                        detail: failure.to_string(),
                    });
                    return Ok(Verdict::Refused(failure));
                }
            };
        }
    }

    fn save(&self) -> Result<(), Error> {
        self.store.save(&Stored::new(
            &self.config.idevid,
            self.machine.state().clone(),
            self.key_generation,
        ))
    }

    fn advance(&mut self, input: &Input<'_>) -> Result<Step, Error> {
        let mut random = [0; 32];
        rand::TryRngCore::try_fill_bytes(&mut rand::rngs::OsRng, &mut random)
            .map_err(|_| Error::Random)?;
        Ok(self.machine.step(input, self.clock.now(), &random))
    }

    async fn connect(&mut self, origin: Url, client: ClientCertificate) -> Result<Step, Error> {
        let begun = Instant::now();
        let result = self.open(&origin, client).await;
        let (ok, detail) = match &result {
            Ok(connected) => (true, connected.protocol.clone()),
            Err(error) => (false, error.to_string()),
        };
        self.record("connect", None, ok, begun, detail);
        self.origin = Some(origin.clone());
        match result {
            Ok(connected) => {
                (self.observer)(&Event::Connected {
                    origin: origin.to_string(),
                    client: match client {
                        ClientCertificate::Idevid => "idevid",
                        ClientCertificate::Ldevid => "ldevid",
                    },
                    http: connected.protocol,
                    tls: connected.security,
                    chain: connected.chain.iter().map(trace::certificate).collect(),
                });
                self.advance(&Input::Connected {
                    chain: &connected.chain,
                })
            }
            Err(error) => self.disconnected(&error.to_string()).await,
        }
    }

    /// Every connection is provisional towards TLS; the machine judges the chain that was shown,
    /// by the voucher and later by the domain's anchor.
    async fn open(&mut self, origin: &Url, client: ClientCertificate) -> Result<Connected, Error> {
        let identity = match client {
            ClientCertificate::Idevid => self.config.idevid.clone(),
            ClientCertificate::Ldevid => self.ldevid()?,
        };
        self.link.connect(origin, identity).await
    }

    async fn disconnected(&mut self, reason: &str) -> Result<Step, Error> {
        self.link.close().await;
        let origin = self.origin.as_ref().map(Url::to_string).unwrap_or_default();
        (self.observer)(&Event::Disconnected {
            origin,
            reason: reason.to_owned(),
        });
        self.advance(&Input::Disconnected { reason })
    }

    async fn send(&mut self, request: Request) -> Result<Step, Error> {
        if request.what == What::RequestVoucher {
            self.voucher_request = Some(request.body.clone());
        }
        let begun = Instant::now();
        let name = self.link.name(request.what);
        let answer = match self.link.send(&request).await {
            Ok(answer) => answer,
            Err(reason) => {
                self.record(name, None, false, begun, reason.clone());
                return self.disconnected(&reason).await;
            }
        };
        let decoded = trace::answer(request.what, answer.status, &answer.body);
        let detail = decoded
            .get("text")
            .and_then(Value::as_str)
            .unwrap_or_default()
            .to_owned();
        let ok = answer.status < 400;
        self.record(name, Some(answer.shown), ok, begun, detail);
        (self.observer)(&Event::Exchanged(Message {
            what: name.to_owned(),
            request_line: format!("{} {}", request.method, request.path),
            request: trace::request(request.what, &request.body),
            status: answer.shown,
            content_type: answer.header("content-type").map(str::to_owned),
            retry_after: answer.header("retry-after").map(str::to_owned),
            answer: decoded,
            ms: millis(begun),
        }));
        self.advance(&Input::Answered {
            status: answer.status,
            headers: &answer.headers,
            body: &answer.body,
        })
    }

    fn make_request(&mut self, attributes: Option<&[u8]>) -> Result<Step, Error> {
        let begun = Instant::now();
        let binding = self.link.exporter();
        let made = key::certification_request(
            &mut self.store,
            self.key_generation,
            self.config.key_kind,
            attributes,
            &self.config.idevid,
            &self.config.serial,
            binding.as_ref().map(<[u8; 32]>::as_slice),
        );
        match made {
            Ok((csr, key)) => {
                let key_sha256 = hex::encode(key.public_key().sha256());
                self.record("key", None, true, begun, csr.subject());
                (self.observer)(&Event::RequestMade { key_sha256 });
                self.advance(&Input::RequestMade { csr: csr.der() })
            }
            // The registrar asked for something that we cannot do, and hears of it.
            Err(error @ Error::Est(_)) => {
                self.record("key", None, false, begun, error.to_string());
                self.advance(&Input::RequestFailed {
                    reason: &error.to_string(),
                })
            }
            Err(error) => Err(error),
        }
    }

    async fn wait(&mut self, until: time::OffsetDateTime, reason: &str) -> Result<Step, Error> {
        let begun = Instant::now();
        let pause = self.clock.until(until);
        let ms = u64::try_from(pause.as_millis()).unwrap_or(u64::MAX);
        (self.observer)(&Event::Waiting {
            ms,
            reason: reason.to_owned(),
        });
        tokio::time::sleep(pause).await;
        self.record("wait", None, true, begun, reason.to_owned());
        self.advance(&Input::Begin)
    }

    fn enrolled(&mut self) -> Result<Verdict, Error> {
        let Phase::Enrolled(enrolled) = &self.machine.state().phase else {
            return Err(Error::NotEnrolled);
        };
        let anchor = Certificate::from_der(&enrolled.anchor)?;
        let registrar = match enrolled.registrar_chain.first() {
            Some(der) => Some(Certificate::from_der(der)?),
            None => None,
        };
        let enrolment = Enrolment {
            identity: self.ldevid()?,
            anchor,
            registrar,
            voucher: enrolled.voucher.clone(),
            assertion: enrolled.assertion.clone(),
            reported: enrolled.reported,
            origin: enrolled.origin.clone(),
        };
        publish(&self.store, &enrolment)?;
        if let Some(certificate) = enrolment.identity.certificate() {
            (self.observer)(&Event::Enrolled {
                certificate: trace::certificate(certificate),
            });
        }
        Ok(Verdict::Enrolled(Box::new(enrolment)))
    }

    fn ldevid(&self) -> Result<Identity, Error> {
        ldevid(
            &self.store,
            &self.machine.state().phase,
            self.key_generation,
        )
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

/// The domain certificate with its key.
pub(crate) fn ldevid(store: &Store, phase: &Phase, generation: u32) -> Result<Identity, Error> {
    let Phase::Enrolled(enrolled) = phase else {
        return Err(Error::NotEnrolled);
    };
    let key = store.existing_key(generation)?.ok_or(Error::NotEnrolled)?;
    let mut chain = Vec::new();
    for der in &enrolled.chain {
        chain.push(Certificate::from_der(der)?);
    }
    if chain.is_empty() {
        chain.push(Certificate::from_der(&enrolled.certificate)?);
    }
    let signer: Arc<dyn Signer> = key;
    Ok(Identity::new(chain, signer)?)
}

/// Writes what other programs on the device want: certificate chain, anchor, voucher.
pub(crate) fn publish(store: &Store, enrolment: &Enrolment) -> Result<(), Error> {
    let chain: String = enrolment
        .identity
        .chain
        .iter()
        .map(Certificate::to_pem)
        .collect();
    store.publish("ldevid.pem", chain.as_bytes())?;
    store.publish("ca.pem", enrolment.anchor.to_pem().as_bytes())?;
    // CBR-163: File extension of stored COSE vouchers is .vch.
    let envelope = match enrolment.voucher.first() {
        Some(0x30) => Envelope::Cms,
        Some(b'{') => Envelope::Jws,
        _ => Envelope::Cose,
    };
    let name = format!("voucher.{}", envelope.file_extension());
    store.publish(&name, &enrolment.voucher)
}

pub(super) fn headers(fields: &[(&'static str, String)]) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for (name, value) in fields {
        // The machine's own values are plain ASCII; a label that is not would be refused by the
        // registrar anyway.
        if let Ok(value) = HeaderValue::from_str(value) {
            headers.insert(HeaderName::from_static(name), value);
        }
    }
    headers
}

pub(super) fn millis(begun: Instant) -> u64 {
    u64::try_from(begun.elapsed().as_millis()).unwrap_or(u64::MAX)
}
