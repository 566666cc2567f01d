//! The state machine: attempts, connections, back-off, and the request for the voucher. The
//! enrolment that follows is in `enrol.rs`.

use artifacts::{
    Assertion, Envelope, Nonce, PinnedDomainCert, RequestFields, VoucherRequest, VoucherStatus,
    sign_request,
};
use est::client::{Redirect, redirect, retry_after};
use pki::Certificate;
use time::{Duration, OffsetDateTime};
use url::Url;

use super::{
    ANSWER_SIZE_MAX_BYTES, BACK_OFF_MAX, BACK_OFF_MIN, CHAIN_LENGTH_MAX, ClientCertificate, Config,
    EnrolPhase, EnrolStep, Expected, Failure, Input, MAX_AGE_MAX, PENDING_MAX, Phase, Procedure,
    ProximityForm, REFUSAL_TEXT_MAX_CHARS, RETRY_AFTER_DEFAULT, RETRY_AFTER_MAX, RegistrarMemory,
    Request, State, Step, VoucherPhase, WaitReason, What, judge_voucher, voucher,
};
use crate::{cause::Cause, paths, text::excerpt};

/// How often a broken connection is set up again within one attempt.
const RECONNECTS_MAX: u32 = 3;
/// How often a redirect within one origin is followed within one attempt.
const SAME_ORIGIN_REDIRECTS_MAX: u32 = 3;

/// The pledge.
pub struct Machine {
    pub(super) config: Config,
    pub(super) state: State,
    /// What is not stored: a power cut ends it.
    pub(super) volatile: Volatile,
}

#[derive(Debug, Default)]
pub(super) struct Volatile {
    /// The connection, if there is one, and its peer's chain.
    pub(super) connection: Option<Connection>,
    /// The request whose answer is waited for.
    pub(super) outstanding: Option<What>,
    /// The attempt for which a first connection is being made.
    attempt: Option<Attempt>,
    /// Set while failure is being reported: what to fail with afterwards.
    pub(super) closing: Option<Failure>,
    /// Connections in a row that broke.
    pub(super) reconnects: u32,
    /// Redirects within the origin in this attempt.
    redirects: u32,
}

#[derive(Debug)]
pub(super) struct Connection {
    pub(super) client: ClientCertificate,
    pub(super) chain: Option<Vec<Certificate>>,
}

#[derive(Clone, Debug)]
struct Attempt {
    registrar: usize,
    origin: Url,
    path: String,
    redirected: bool,
}

impl Machine {
    /// A device as it leaves the factory.
    #[must_use]
    pub fn new(config: Config) -> Self {
        let registrars = config.registrars.iter().map(|origin| RegistrarMemory {
            origin: origin.clone(),
            failures: 0,
            not_before: None,
        });
        let state = State {
            phase: Phase::Discovery,
            registrars: registrars.collect(),
            attempts: 0,
            last_failure: None,
        };
        Self::resume(config, state)
    }

    /// A device that goes on from a stored state.
    #[must_use]
    pub fn resume(config: Config, mut state: State) -> Self {
        // Registrars that were discovered since are tried as well.
        for origin in &config.registrars {
            if !state.registrars.iter().any(|known| known.origin == *origin) {
                state.registrars.push(RegistrarMemory {
                    origin: origin.clone(),
                    failures: 0,
                    not_before: None,
                });
            }
        }
        Self {
            config,
            state,
            volatile: Volatile::default(),
        }
    }

    /// What is to be stored.
    #[must_use]
    pub fn state(&self) -> &State {
        &self.state
    }

    /// What the manufacturer built in.
    #[must_use]
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// Takes what happened, and says what to do next. `random` are fresh octets from a
    /// cryptographic generator, new ones for each call.
    pub fn step(&mut self, input: &Input<'_>, now: OffsetDateTime, random: &[u8; 32]) -> Step {
        match *input {
            Input::Begin => self.proceed(now, random),
            Input::Connected { chain } => self.connected(chain, now, random),
            Input::Disconnected { reason } => self.disconnected(reason, now, random),
            Input::Answered {
                status,
                headers,
                body,
            } => {
                let answer = Answer {
                    status,
                    headers,
                    body,
                };
                self.answered(&answer, now, random)
            }
            Input::RequestMade { csr } => self.request_made(csr, now, random),
            Input::RequestFailed { reason } => {
                let cause = Cause::new("pledge.request-failed", excerpt(reason.as_bytes(), 200));
                self.enrolment_failed(Failure::Internal(cause), now, random)
            }
        }
    }

    /// What the state asks for next.
    pub(super) fn proceed(&mut self, now: OffsetDateTime, random: &[u8; 32]) -> Step {
        match &self.state.phase {
            Phase::Discovery => self.begin_attempt(now),
            Phase::Voucher(phase) => {
                if now - phase.begun_at > PENDING_MAX {
                    // BRSKI-5.6-10: "A pledge SHOULD be willing to maintain a 202 retry-state for
                    // up to 4 days, after which time the enrollment attempt fails".
                    return self.fail(Failure::PendingTooLong, now, random);
                }
                if let Some(until) = soon(phase.not_before, now, self.longest_wait()) {
                    return Step::Pause { until };
                }
                if self.is_connected(ClientCertificate::Idevid) {
                    return self.send_voucher_request();
                }
                let origin = phase.origin.clone();
                self.connect(origin, ClientCertificate::Idevid)
            }
            Phase::Enrol(_) | Phase::Enrolled(_) => self.proceed_enrolment(now, random),
            Phase::GivenUp => Step::GiveUp(self.last_failure()),
        }
    }

    /// Starts with the registrar that has not been tried for the longest time.
    fn begin_attempt(&mut self, now: OffsetDateTime) -> Step {
        let earliest =
            |memory: &RegistrarMemory| memory.not_before.unwrap_or(OffsetDateTime::UNIX_EPOCH);
        let next = self
            .state
            .registrars
            .iter()
            .enumerate()
            .min_by_key(|(_, memory)| earliest(memory))
            .map(|(index, memory)| (index, memory.clone()));
        let Some((registrar, memory)) = next else {
            let cause = Cause::new("pledge.no-registrar", "no registrar is known");
            return Step::GiveUp(Failure::Internal(cause));
        };
        if let Some(until) = soon(memory.not_before, now, BACK_OFF_MAX) {
            return Step::Wait {
                until,
                reason: WaitReason::BackOff(self.last_failure()),
            };
        }
        self.state.attempts = self.state.attempts.saturating_add(1);
        self.volatile = Volatile {
            attempt: Some(Attempt {
                registrar,
                origin: memory.origin.clone(),
                path: paths::REQUEST_VOUCHER.to_owned(),
                redirected: false,
            }),
            ..Volatile::default()
        };
        self.connect(memory.origin, ClientCertificate::Idevid)
    }

    pub(super) fn connect(&mut self, origin: Url, client: ClientCertificate) -> Step {
        self.volatile.connection = Some(Connection {
            client,
            chain: None,
        });
        self.volatile.outstanding = None;
        Step::Connect { origin, client }
    }

    pub(super) fn is_connected(&self, client: ClientCertificate) -> bool {
        self.volatile
            .connection
            .as_ref()
            .is_some_and(|connection| connection.client == client && connection.chain.is_some())
    }

    pub(super) fn send(&mut self, request: Request) -> Step {
        self.volatile.outstanding = Some(request.what);
        Step::Send(request)
    }

    fn connected(&mut self, chain: &[Certificate], now: OffsetDateTime, random: &[u8; 32]) -> Step {
        let Some(leaf) = chain.first() else {
            let cause = Cause::new("pledge.no-certificate", "the registrar showed none");
            return self.fail(Failure::RegistrarChain(cause), now, random);
        };
        if chain.len() > CHAIN_LENGTH_MAX {
            let cause = Cause::new("pledge.chain-too-long", "there are too many certificates");
            return self.fail(Failure::RegistrarChain(cause), now, random);
        }
        if let Some(connection) = &mut self.volatile.connection {
            connection.chain = Some(chain.to_vec());
        }
        if let Some(attempt) = self.volatile.attempt.take() {
            return match self.voucher_phase(&attempt, chain, now, random) {
                Ok(phase) => {
                    self.state.phase = Phase::Voucher(phase);
                    self.send_voucher_request()
                }
                Err(failure) => self.fail(failure, now, random),
            };
        }
        match &self.state.phase {
            // BRSKI-5-06: "They MUST check each subsequent connection for the same certificates".
            Phase::Voucher(phase) => {
                if phase.registrar_chain.first().map(Vec::as_slice) == Some(leaf.der()) {
                    self.send_voucher_request()
                } else {
                    self.fail(Failure::RegistrarChanged, now, random)
                }
            }
            Phase::Enrol(_) | Phase::Enrolled(_) => self.enrolment_connected(chain, now, random),
            Phase::Discovery | Phase::GivenUp => self.proceed(now, random),
        }
    }

    /// Signs a voucher request for this very connection.
    fn voucher_phase(
        &self,
        attempt: &Attempt,
        chain: &[Certificate],
        now: OffsetDateTime,
        random: &[u8; 32],
    ) -> Result<VoucherPhase, Failure> {
        let internal = |code: &str, text: &str| Failure::Internal(Cause::new(code, text));
        let request = if let Some(replay) = &self.config.replay {
            replay.clone()
        } else {
            let mut fields = RequestFields::new(self.config.serial_number()?);
            // BRSKI-5.2-06: pledges that have a real-time clock populate created-on.
            fields.created_on = self.config.at(now);
            if defects::seeded!("pledge-dates-requests-wrongly") {
                fields.created_on = fields.created_on.map(|at| at - Duration::days(400));
            }
            // BRSKI-5.2-08, BRSKI-5.2-09: "Different nonces MUST be generated for each
            // bootstrapping attempt, whether in series or concurrently."
            let nonce = Nonce::from_octets(nonce_octets(self.config.envelope, random))
                .ok_or_else(|| internal("request.bad-nonce", "the nonce"))?;
            fields.nonce = Some(nonce);
            // BRSKI-5.2-10: assertion is "proximity" in the voucher request, and the pledge MUST
            // include the proximity-registrar-cert field.
            fields.assertion = Some(if defects::seeded!("pledge-asserts-logged") {
                Assertion::Logged
            } else {
                Assertion::Proximity
            });
            // BRSKI-3.4-08: the first certificate in the TLS server's certificate_list.
            // CBR-154: proximity-registrar-pubk equals the SPKI of the server byte for byte.
            let server = if defects::seeded!("pledge-names-itself") {
                self.config.idevid.certificate()
            } else {
                chain.first()
            };
            match self.config.proximity {
                ProximityForm::Certificate => fields.proximity_registrar_cert = server.cloned(),
                ProximityForm::PublicKey => {
                    fields.proximity_registrar_pubk = server.map(|one| one.public_key().clone());
                }
                ProximityForm::PublicKeySha256 => {
                    fields.proximity_registrar_pubk_sha256 =
                        server.map(|one| one.public_key().sha256());
                }
            }
            let request = VoucherRequest::new(fields)
                .map_err(|error| Failure::Internal(Cause::of(&error)))?;
            let signing_time = self.config.at(now);
            sign_request(
                &request,
                self.config.envelope,
                &self.config.idevid,
                signing_time,
            )
            .map_err(|error| Failure::Internal(Cause::of(&error)))?
        };
        Ok(VoucherPhase {
            registrar: attempt.registrar,
            origin: attempt.origin.clone(),
            path: attempt.path.clone(),
            redirected: attempt.redirected,
            // BRSKI-5.1-09: "The certificate (or chain) MUST be retained for later validation."
            registrar_chain: chain.iter().map(|one| one.der().to_vec()).collect(),
            nonce: voucher::own_nonce(&self.config, &request)?,
            request,
            begun_at: now,
            not_before: None,
        })
    }

    /// BRSKI-5.6-11, BRSKI-5.6-12: "A pledge that retries a request after receiving a 202 message
    /// MUST resend the same voucher-request."
    fn send_voucher_request(&mut self) -> Step {
        let Phase::Voucher(phase) = &self.state.phase else {
            let cause = Cause::new("pledge.state", "no voucher request is under way");
            return Step::GiveUp(Failure::Internal(cause));
        };
        let media_type = self.config.envelope.media_type();
        let request = Request {
            what: What::RequestVoucher,
            method: "POST",
            path: phase.path.clone(),
            headers: vec![
                ("content-type", media_type.to_owned()),
                // BRSKI-5.2-05: "The pledge SHOULD include an Accept header field".
                if defects::seeded!("pledge-accepts-html") {
                    ("accept", "text/html".to_owned())
                } else {
                    ("accept", media_type.to_owned())
                },
            ],
            body: phase.request.clone(),
        };
        self.send(request)
    }

    fn disconnected(&mut self, reason: &str, now: OffsetDateTime, random: &[u8; 32]) -> Step {
        self.volatile.connection = None;
        self.volatile.outstanding = None;
        // Failure could not be reported; it is a failure all the same.
        if let Some(failure) = self.volatile.closing.take() {
            return self.fail(failure, now, random);
        }
        let failure = Failure::Connection(excerpt(reason.as_bytes(), REFUSAL_TEXT_MAX_CHARS));
        if self.volatile.attempt.is_some() {
            return self.fail(failure, now, random);
        }
        self.volatile.reconnects = self.volatile.reconnects.saturating_add(1);
        if self.volatile.reconnects > RECONNECTS_MAX {
            return self.fail(failure, now, random);
        }
        // The answer may be what was lost, so the same is asked again over a new connection.
        let pause = Duration::seconds(1 << self.volatile.reconnects.min(5));
        Step::Wait {
            until: now + pause,
            reason: WaitReason::BackOff(failure),
        }
    }

    fn answered(&mut self, answer: &Answer<'_>, now: OffsetDateTime, random: &[u8; 32]) -> Step {
        self.volatile.reconnects = 0;
        let Some(what) = self.volatile.outstanding.take() else {
            return self.proceed(now, random);
        };
        if self.volatile.closing.is_some() {
            // BRSKI-5.7-08: "The client ignores any response."
            let failure = self.volatile.closing.take();
            return self.fail(failure.unwrap_or(Failure::PendingTooLong), now, random);
        }
        // BRSKI-5.7-08: "The client ignores any response" to a status report, a huge one too.
        let is_report = matches!(what, What::VoucherStatus | What::EnrolStatus);
        if is_report && answer.status >= 400 && defects::seeded!("pledge-minds-report-answers") {
            return self.fail(answer.refusal(what), now, random);
        }
        if !is_report && answer.body.len() > ANSWER_SIZE_MAX_BYTES {
            let failure = Failure::AnswerTooLarge(what.name().to_owned());
            return self.fail(failure, now, random);
        }
        match what {
            What::RequestVoucher => self.voucher_answered(answer, now, random),
            _ => self.enrolment_answered(what, answer, now, random),
        }
    }

    fn voucher_answered(
        &mut self,
        answer: &Answer<'_>,
        now: OffsetDateTime,
        random: &[u8; 32],
    ) -> Step {
        let longest = self.longest_wait();
        let Phase::Voucher(phase) = &mut self.state.phase else {
            return self.proceed(now, random);
        };
        match answer.status {
            200 => match self.accept_voucher(answer, now) {
                Ok(phase) => {
                    self.state.phase = Phase::Enrol(phase);
                    self.proceed(now, random)
                }
                // BRSKI-5.6.2-04: "The pledge SHOULD send voucher status telemetry before closing
                // the TLS connection."
                Err(failure) if defects::seeded!("pledge-is-silent-about-vouchers") => {
                    self.fail(failure, now, random)
                }
                Err(failure) => {
                    let status = VoucherStatus::failure(failure.reason(), None);
                    self.volatile.closing = Some(failure);
                    self.send(telemetry(What::VoucherStatus, &status))
                }
            },
            202 if defects::seeded!("pledge-asks-anew-after-later") => {
                self.state.phase = Phase::Discovery;
                self.begin_attempt(now)
            }
            202 => {
                let wait = honoured(answer.header("retry-after"), now, longest);
                phase.not_before = Some(now + wait);
                Step::Pause { until: now + wait }
            }
            301 | 302 | 303 | 307 | 308 => self.redirected(answer, now, random),
            _ => {
                let failure = answer.refusal(What::RequestVoucher);
                self.fail(failure, now, random)
            }
        }
    }

    fn accept_voucher(
        &self,
        answer: &Answer<'_>,
        now: OffsetDateTime,
    ) -> Result<EnrolPhase, Failure> {
        let Phase::Voucher(phase) = &self.state.phase else {
            return Err(Failure::Internal(Cause::new("pledge.state", "no request")));
        };
        let content_type = answer.header("content-type").unwrap_or_default();
        let named = artifacts::Envelope::from_media_type(content_type, &self.config.tolerances)
            .ok()
            .map(|(envelope, _)| envelope);
        if named != Some(self.config.envelope) && !defects::seeded!("pledge-takes-any-media-type") {
            return Err(Failure::VoucherMediaType(excerpt(
                content_type.as_bytes(),
                100,
            )));
        }
        let chain = certificates(&phase.registrar_chain)?;
        let envelope = self.config.envelope;
        let expected = Expected {
            request: &phase.request,
            registrar_chain: &chain,
            envelope,
        };
        let voucher = judge_voucher(&self.config, answer.body, expected, now)?;
        // CBR-028: after voucher verification, a registrar certificate without id-kp-cmcRA is
        // refused as RA.
        if self.config.procedure == Procedure::Constrained
            && !chain.first().is_some_and(Certificate::has_cmc_ra)
        {
            return Err(Failure::RegistrarChain(Cause::new(
                "pledge.registrar-not-ra",
                "it is not marked as a registration authority",
            )));
        }
        Ok(EnrolPhase {
            registrar: phase.registrar,
            origin: phase.origin.clone(),
            registrar_chain: phase.registrar_chain.clone(),
            voucher: answer.body.to_vec(),
            assertion: voucher
                .assertion
                .map(|assertion| assertion.as_str().to_owned()),
            // VCB-033: the pins that the pledge did not ask for are ignored.
            pinned: match voucher::effective_pin(&self.config, &voucher) {
                Some(PinnedDomainCert::Certificate(pinned)) => Some(pinned.der().to_vec()),
                _ => None,
            },
            ca_certificates: Vec::new(),
            provisional: false,
            issued: None,
            attributes: None,
            csr: None,
            begun_at: None,
            not_before: None,
            next: if defects::seeded!("pledge-reports-no-success") {
                EnrolStep::CaCertificates
            } else {
                EnrolStep::VoucherStatus
            },
        })
    }

    /// BRSKI-5.6-13: "the pledge MUST NOT follow more than one redirection (3xx code) to another
    /// web origin."
    fn redirected(&mut self, answer: &Answer<'_>, now: OffsetDateTime, random: &[u8; 32]) -> Step {
        let Phase::Voucher(phase) = &mut self.state.phase else {
            return self.proceed(now, random);
        };
        let refuse = |why: &str| Failure::Redirect(excerpt(why.as_bytes(), 200));
        let Some(location) = answer.header("location") else {
            return self.fail(refuse("there is no Location"), now, random);
        };
        let requested = phase
            .origin
            .join(&phase.path)
            .map_or_else(|_| String::new(), String::from);
        let may_leave = !phase.redirected || defects::seeded!("pledge-follows-every-redirect");
        match redirect(&requested, "POST", location, may_leave) {
            Ok(Redirect::SameOrigin { path }) => {
                self.volatile.redirects += 1;
                if self.volatile.redirects > SAME_ORIGIN_REDIRECTS_MAX {
                    return self.fail(refuse("too many redirects"), now, random);
                }
                phase.path = path;
                self.send_voucher_request()
            }
            Ok(Redirect::OtherOrigin { url }) => match Url::parse(&url) {
                Ok(mut url) => {
                    let path = url.path().to_owned();
                    let path = if path == "/" {
                        paths::REQUEST_VOUCHER.to_owned()
                    } else {
                        path
                    };
                    url.set_path("/");
                    url.set_query(None);
                    url.set_fragment(None);
                    // BRSKI-5.6-14: again provisionally, with a request for the new connection.
                    self.volatile.attempt = Some(Attempt {
                        registrar: phase.registrar,
                        origin: url.clone(),
                        path,
                        redirected: true,
                    });
                    self.connect(url, ClientCertificate::Idevid)
                }
                Err(error) => self.fail(refuse(&error.to_string()), now, random),
            },
            Err(error) => self.fail(refuse(&error.to_string()), now, random),
        }
    }

    /// Ends the attempt. BRSKI-2.1-01: the device returns to discovery and keeps no partial trust.
    pub(super) fn fail(
        &mut self,
        failure: Failure,
        now: OffsetDateTime,
        random: &[u8; 32],
    ) -> Step {
        // What has a certificate keeps it. Nobody who gets between an enrolled device and its
        // registrar can throw it back to the beginning.
        if matches!(self.state.phase, Phase::Enrolled(_)) {
            return self.enrolled_unreported(failure);
        }
        let registrar = match (&self.volatile.attempt, &self.state.phase) {
            (Some(attempt), _) => Some(attempt.registrar),
            (None, Phase::Voucher(phase)) => Some(phase.registrar),
            (None, Phase::Enrol(phase)) => Some(phase.registrar),
            (None, _) => None,
        };
        // BRSKI-4.1-06, BRSKI-4.1-07: exponential back-off up to one hour, for each registrar by
        // itself.
        if let Some(memory) = registrar.and_then(|index| self.state.registrars.get_mut(index)) {
            memory.failures = memory.failures.saturating_add(1);
            memory.not_before = Some(now + back_off(memory.failures, random));
        }
        self.volatile = Volatile::default();
        self.state.phase = Phase::Discovery;
        self.state.last_failure = Some(failure.clone());
        if self
            .config
            .attempts_max
            .is_some_and(|most| self.state.attempts >= most)
        {
            self.state.phase = Phase::GivenUp;
            return Step::GiveUp(failure);
        }
        // BRSKI-5.6.2-05: "The pledge MUST attempt to enroll using any other proxies it has found."
        self.begin_attempt(now)
    }

    /// How long "later" is honoured.
    pub(super) fn longest_wait(&self) -> Duration {
        match self.config.procedure {
            // BRSKI-5.6-07: "the pledge MUST limit the Retry-After time to 60 seconds."
            Procedure::Full if defects::seeded!("pledge-waits-as-told") => Duration::days(1),
            Procedure::Full => RETRY_AFTER_MAX,
            // CBR-057: On 5.03 with Max-Age the pledge waits Max-Age seconds. Somebody who is not
            // authenticated yet cannot send it to sleep for days.
            Procedure::Constrained => MAX_AGE_MAX,
        }
    }

    fn last_failure(&self) -> Failure {
        self.state
            .last_failure
            .clone()
            .unwrap_or_else(|| Failure::Connection("not tried yet".to_owned()))
    }
}

/// An answer from the registrar.
pub(super) struct Answer<'a> {
    pub(super) status: u16,
    pub(super) headers: &'a [(String, String)],
    pub(super) body: &'a [u8],
}

impl Answer<'_> {
    pub(super) fn header(&self, name: &str) -> Option<&str> {
        self.headers
            .iter()
            .find(|(key, _)| key.eq_ignore_ascii_case(name))
            .map(|(_, value)| value.as_str())
    }

    pub(super) fn refusal(&self, what: What) -> Failure {
        Failure::Refused {
            what: what.name().to_owned(),
            status: self.status,
            text: excerpt(self.body, REFUSAL_TEXT_MAX_CHARS),
        }
    }
}

/// So much of the random octets as a nonce has in this envelope: where each octet counts, half of
/// them are still far more than anybody can guess.
fn nonce_octets(envelope: Envelope, random: &[u8; 32]) -> &[u8] {
    if defects::seeded!("pledge-repeats-its-nonce") {
        return &[7; 16];
    }
    let (half, _) = random.split_at(16);
    match envelope {
        Envelope::Cose => half,
        Envelope::Cms | Envelope::Jws => random,
    }
}

/// A status report: `POST` of JSON.
pub(super) fn telemetry(what: What, status: &VoucherStatus) -> Request {
    Request {
        what,
        method: "POST",
        path: match what {
            _ if defects::seeded!("pledge-reports-to-est") => "/.well-known/est/status".to_owned(),
            What::EnrolStatus => paths::ENROL_STATUS.to_owned(),
            _ => paths::VOUCHER_STATUS.to_owned(),
        },
        headers: vec![("content-type", "application/json".to_owned())],
        body: spoilt(status.to_json()),
    }
}

/// A status report as a seeded defect writes it.
fn spoilt(body: Vec<u8>) -> Vec<u8> {
    let change = |from: &str, to: &str| {
        String::from_utf8_lossy(&body)
            .replacen(from, to, 1)
            .into_bytes()
    };
    if defects::seeded!("pledge-writes-status-as-text") {
        return change("\"status\":true", "\"status\":\"true\"");
    }
    if defects::seeded!("pledge-writes-version-as-text") {
        return change("\"version\":1", "\"version\":\"1\"");
    }
    if defects::seeded!("pledge-writes-members-in-capitals") {
        return change("\"version\"", "\"Version\"");
    }
    if defects::seeded!("pledge-gives-no-reason") {
        return change("\"reason\":", "\"x-reason\":");
    }
    body
}

/// Stored certificates.
pub(super) fn certificates(ders: &[Vec<u8>]) -> Result<Vec<Certificate>, Failure> {
    ders.iter()
        .map(|der| Certificate::from_der(der))
        .collect::<Result<_, _>>()
        .map_err(|error| Failure::Internal(Cause::of(&error)))
}

/// How long the pledge really waits after a 202.
pub(super) fn honoured(header: Option<&str>, now: OffsetDateTime, longest: Duration) -> Duration {
    // BRSKI-5.6-31: a date, a negative number or garbage is no reason to fail.
    let Some(value) = header else {
        return RETRY_AFTER_DEFAULT;
    };
    if defects::seeded!("pledge-comes-too-early") {
        return Duration::SECOND;
    }
    let wait = Duration::try_from(retry_after(Some(value), now)).unwrap_or(longest);
    wait.clamp(Duration::SECOND, longest)
}

/// The moment to wait for, if it lies ahead. A clock that was set back must not make a pause
/// longer than it can ever be, so what lies too far ahead counts from now.
fn soon(
    not_before: Option<OffsetDateTime>,
    now: OffsetDateTime,
    longest: Duration,
) -> Option<OffsetDateTime> {
    not_before
        .filter(|moment| *moment > now)
        .map(|moment| moment.min(now + longest))
}

/// Doubles from [`BACK_OFF_MIN`] to [`BACK_OFF_MAX`], less up to a quarter by chance, so that a
/// building full of devices does not come back in step after a power cut.
fn back_off(failures: u32, random: &[u8; 32]) -> Duration {
    let doublings = failures.saturating_sub(1).min(16);
    let full = (BACK_OFF_MIN * (1_i32 << doublings)).min(BACK_OFF_MAX);
    let [.., last] = *random;
    full - full * (i32::from(last) % 64) / 256
}
