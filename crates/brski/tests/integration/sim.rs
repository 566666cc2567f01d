//! MASA, registrar and pledge as three state machines in one process on simulated time.

use std::collections::HashMap;

use artifacts::{
    Assertion::{Logged, Proximity, Verified},
    Envelope, Tolerances, sign_voucher,
};
use brski::{
    SerialRule,
    masa::{self, AuditEvent, AuditTruncation, Decision, DeviceRecord, OwnerRecord},
    paths,
    pledge::{self, ClientCertificate, Input, Machine, Phase, Step},
    registrar::{
        self, AuditPolicy, AuditVerdict, Exchange, MasaAnswer, MasaUrlRule, Profiles, Stage,
        VendorProfile, Verdict,
    },
};
use pki::{Certificate, Coded, Csr, Identity, issue::Profile, path::Anchors};
use time::{Duration, OffsetDateTime};
use url::Url;

pub(crate) use crate::world::Response;
use crate::world::{Ca, Manufacturer, NOW, key, leaf_only};

/// A MASA with its register in memory.
pub(crate) struct Masa {
    pub(crate) manufacturer: Manufacturer,
    pub(crate) policy: masa::Policy,
    pub(crate) devices: HashMap<String, DeviceRecord>,
    pub(crate) owners: Vec<OwnerRecord>,
    pub(crate) events: HashMap<String, Vec<AuditEvent>>,
    pub(crate) issued: HashMap<[u8; 32], (masa::IssuedVoucher, Envelope, Vec<u8>)>,
    pub(crate) alarms: Vec<masa::Alarm>,
    pub(crate) log: Vec<String>,
    pub(crate) revocation: masa::Revocation,
    pub(crate) authenticated: bool,
}

impl Masa {
    pub(crate) fn new(manufacturer: Manufacturer) -> Self {
        Self {
            manufacturer,
            policy: masa::Policy::default(),
            devices: HashMap::new(),
            owners: Vec::new(),
            events: HashMap::new(),
            issued: HashMap::new(),
            alarms: Vec::new(),
            log: Vec::new(),
            revocation: masa::Revocation::NotChecked,
            authenticated: false,
        }
    }

    pub(crate) fn register(&mut self, serial: &str) {
        self.devices
            .insert(serial.to_owned(), DeviceRecord::default());
    }

    pub(crate) fn anchors(&self) -> masa::Devices {
        masa::Devices {
            anchors: self.manufacturer.ca.anchors(),
            intermediates: Vec::new(),
            serial: SerialRule::default(),
        }
    }

    pub(crate) fn facts(&self, request: &masa::Request) -> masa::Facts {
        let keys: Vec<_> = request.domain().keys().collect();
        let issuer = request.domain().issuer_key_id();
        let owner = self.owners.iter().find(|owner| {
            owner.certificates.iter().any(|one| {
                keys.contains(&brski::DomainKey::of(one)) || one.subject_key_id() == issuer
            })
        });
        let events = self.events.get(&request.device_key().serial);
        let same = |event: &masa::AuditEvent| event.nonce.as_deref() == request.nonce();
        masa::Facts {
            device: self.devices.get(&request.device_key().serial).cloned(),
            owner: owner.cloned(),
            issued: self
                .issued
                .get(&request.fingerprint())
                .map(|(issued, ..)| issued.clone()),
            nonce_spent: events.is_some_and(|all| all.iter().any(same)),
            revocation: self.revocation,
            authenticated: self.authenticated,
        }
    }

    /// `requestvoucher`.
    pub(crate) fn voucher(&mut self, inbound: masa::Inbound<'_>, now: OffsetDateTime) -> Response {
        let opened = masa::open_request(inbound, &self.anchors(), &self.policy, now);
        let request = match opened {
            Ok(request) => request,
            Err(refusal) => return self.refuse(&refusal),
        };
        let facts = self.facts(&request);
        match masa::decide(&request, &facts, &self.policy, now) {
            Decision::Grant(grant) => {
                let identity = match grant.key {
                    masa::KeyClass::Nonced => &self.manufacturer.masa,
                    masa::KeyClass::Nonceless => &self.manufacturer.masa_nonceless,
                };
                let bytes = sign_voucher(&grant.voucher, grant.envelope, identity, now).unwrap();
                let serial = request.device_key().serial.clone();
                let device = self.devices.get_mut(&serial).unwrap();
                if let Some(holder) = grant.holder {
                    device.holder = Some(holder);
                }
                if let Some(idevid_key) = grant.idevid_key {
                    device.idevid_key = Some(idevid_key);
                }
                self.events.entry(serial).or_default().push(grant.audit);
                let issued = masa::IssuedVoucher {
                    fingerprint: request.fingerprint(),
                    issued_at: now,
                    expires_on: grant.voucher.expires_on,
                };
                let entry = (issued, grant.envelope, bytes.clone());
                self.issued.insert(request.fingerprint(), entry);
                self.log.push("granted".to_owned());
                Response::new(200, request.media_type_of(grant.envelope), bytes)
            }
            Decision::Again => {
                let (_, envelope, bytes) = &self.issued[&request.fingerprint()];
                self.log.push("again".to_owned());
                Response::new(200, request.media_type_of(*envelope), bytes.clone())
            }
            Decision::Refuse { refusal, alarm } => {
                self.alarms.extend(alarm);
                self.refuse(&refusal)
            }
        }
    }

    /// `requestauditlog`.
    pub(crate) fn audit(&mut self, inbound: masa::Inbound<'_>, now: OffsetDateTime) -> Response {
        let opened = masa::open_audit_request(inbound, &self.anchors(), &self.policy, now);
        let answered = opened.and_then(|request| {
            let events = self.events.get(&request.device_key().serial).cloned();
            masa::answer_audit(
                &request,
                &events.unwrap_or_default(),
                AuditTruncation::default(),
            )
        });
        match answered {
            Ok(log) => Response::new(200, "application/json", log.to_json()),
            Err(refusal) => self.refuse(&refusal),
        }
    }

    fn refuse(&mut self, refusal: &masa::Refusal) -> Response {
        self.log.push(refusal.code().to_owned());
        Response::new(refusal.http_status(), "text/plain", refusal.body())
    }
}

/// How the way from the registrar to the MASA behaves.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Fault {
    #[default]
    None,
    /// The request does not arrive.
    RequestLost,
    /// The answer does not arrive.
    AnswerLost,
    /// The request arrives twice.
    Twice,
}

/// A registrar with its records in memory.
pub(crate) struct Registrar {
    pub(crate) domain: Ca,
    pub(crate) identity: Identity,
    pub(crate) profiles: Profiles,
    pub(crate) verdict: Verdict,
    pub(crate) policy: registrar::Policy,
    pub(crate) audit_policy: AuditPolicy,
    pub(crate) chain: registrar::ChainToSend,
    pub(crate) request_age_max: Option<Duration>,
    pub(crate) exchanges: HashMap<String, Exchange>,
    pub(crate) nonces: Vec<(String, String)>,
    pub(crate) audits: HashMap<String, AuditVerdict>,
    pub(crate) known_keys: HashMap<String, String>,
    pub(crate) issued: HashMap<String, Certificate>,
    pub(crate) preloaded: HashMap<String, registrar::Preloaded>,
    pub(crate) prefer_preloaded: bool,
    pub(crate) masa_fault: Fault,
    pub(crate) masa_calls: Vec<registrar::MasaCall>,
    pub(crate) log: Vec<String>,
    /// Paths that were asked for, in order.
    pub(crate) paths: Vec<String>,
}

impl Registrar {
    pub(crate) fn new(domain: Ca, manufacturer: &Manufacturer) -> Self {
        let identity = domain.registrar("registrar");
        let profile = VendorProfile {
            name: "acme".to_owned(),
            anchors: manufacturer.ca.anchors(),
            intermediates: Vec::new(),
            masa_anchors: Anchors::new(),
            serial: SerialRule::default(),
            masa_url: MasaUrlRule::Extension,
            ignore_expiry: false,
            cose_name: brski::media::CoseName::Current,
            tolerances: Tolerances::strict(),
        };
        Self {
            domain,
            identity,
            profiles: Profiles::new(vec![profile]),
            verdict: Verdict::Allow,
            policy: registrar::Policy::default(),
            audit_policy: AuditPolicy::default(),
            chain: registrar::ChainToSend::Whole,
            request_age_max: Some(Duration::minutes(15)),
            exchanges: HashMap::new(),
            nonces: Vec::new(),
            audits: HashMap::new(),
            known_keys: HashMap::new(),
            issued: HashMap::new(),
            preloaded: HashMap::new(),
            prefer_preloaded: false,
            masa_fault: Fault::None,
            masa_calls: Vec::new(),
            log: Vec::new(),
            paths: Vec::new(),
        }
    }

    /// One request over a TLS connection whose client proved to have `client`.
    pub(crate) fn handle(
        &mut self,
        client: &[Certificate],
        request: &pledge::Request,
        masa: &mut Masa,
        now: OffsetDateTime,
    ) -> Response {
        self.paths.push(request.path.clone());
        let header = |name: &str| {
            request
                .headers
                .iter()
                .find(|(key, _)| *key == name)
                .map(|(_, value)| value.as_str())
        };
        let inbound = masa::Inbound {
            body: &request.body,
            content_type: header("content-type"),
            accept: header("accept"),
        };
        let result = match request.path.as_str() {
            paths::REQUEST_VOUCHER => self.voucher(client, inbound, masa, now),
            paths::VOUCHER_STATUS => self.voucher_status(client, inbound, masa, now),
            paths::ENROL_STATUS => self.enrol_status(client, inbound, now),
            "/.well-known/est/cacerts" => Ok(self.ca_certificates()),
            "/.well-known/est/csrattrs" => Ok(Response::new(404, "text/plain", "none")),
            "/.well-known/est/simpleenroll" | "/.well-known/est/simplereenroll" => {
                self.enrol(client, inbound, masa, now)
            }
            _ => Ok(Response::new(404, "text/plain", "no such resource")),
        };
        match result {
            Ok(response) => response,
            Err(refusal) => {
                self.log.push(refusal.code().to_owned());
                Response::new(
                    refusal.http_status(),
                    "text/plain; charset=utf-8",
                    refusal.body(),
                )
            }
        }
    }

    fn voucher(
        &mut self,
        client: &[Certificate],
        inbound: masa::Inbound<'_>,
        masa: &mut Masa,
        now: OffsetDateTime,
    ) -> Result<Response, registrar::Refusal> {
        let device = registrar::identify(client, &self.profiles, now)?;
        let profile = self.profiles.named(&device.vendor).unwrap().clone();
        let own = &self.identity.chain[..1];
        let age_max = self.request_age_max;
        let request = registrar::open_request(inbound, &device, own, &profile, age_max, now)?;
        let serial = device.key.serial.clone();
        let nonce = request.nonce().unwrap_or_default().to_owned();
        let current = self.exchanges.get(&serial).cloned();
        let is_current = current
            .as_ref()
            .is_some_and(|one| one.request_digest == request.digest);
        let facts = registrar::Facts {
            verdict: self.verdict.clone(),
            nonce_used: !is_current && self.nonces.contains(&(serial.clone(), nonce.clone())),
            exchange: current,
            known_key: self.known_keys.get(&serial).cloned(),
            preloaded: self.preloaded.get(&serial).cloned(),
            prefer_preloaded: self.prefer_preloaded,
        };
        let mut step = registrar::decide(&device, &request, &facts, &self.policy, now);
        if let registrar::Step::AskMasa { mut exchange } = step {
            let call = registrar::masa_call(
                &mut exchange,
                &device,
                &request,
                &self.identity,
                self.chain,
                &profile,
                now,
            )?;
            self.exchanges.insert(serial.clone(), exchange.clone());
            self.masa_calls.push(call.clone());
            let answered = self.ask(masa, &call, now);
            let answer = match &answered {
                Some(response) => MasaAnswer::Http {
                    status: response.status,
                    content_type: response.header("content-type"),
                    body: &response.body,
                },
                None => MasaAnswer::Unreachable("lost"),
            };
            let chain = self.identity.chain.clone();
            step = registrar::masa_answered(&exchange, &answer, &chain, &profile, now);
            if let (None, Some(preloaded)) = (&answered, self.preloaded.get(&serial)) {
                let offline = registrar::use_preloaded(&exchange, preloaded, now);
                step = offline.unwrap_or(step);
            }
        }
        self.nonces.push((serial.clone(), nonce));
        match step {
            registrar::Step::Wait {
                retry_after,
                exchange,
            } => {
                self.exchanges.insert(serial, exchange);
                let seconds = retry_after.whole_seconds().to_string();
                Ok(Response::new(202, "text/plain", "later").with("retry-after", &seconds))
            }
            registrar::Step::Voucher {
                voucher,
                envelope,
                exchange,
            } => {
                self.known_keys.insert(serial.clone(), device.key_digest());
                self.exchanges.insert(serial, stored(&exchange));
                let name = request.media_type_of(envelope);
                Ok(Response::new(200, name, voucher))
            }
            registrar::Step::Refuse(refusal) => Err(refusal),
            registrar::Step::AskMasa { .. } => unreachable!("carried out above"),
        }
    }

    fn ask(
        &mut self,
        masa: &mut Masa,
        call: &registrar::MasaCall,
        now: OffsetDateTime,
    ) -> Option<Response> {
        let inbound = masa::Inbound {
            body: &call.body,
            content_type: Some(call.content_type),
            accept: Some(&call.accept),
        };
        let deliver = |masa: &mut Masa| {
            if call.url.path().ends_with("/requestauditlog") {
                masa.audit(inbound, now)
            } else {
                masa.voucher(inbound, now)
            }
        };
        match std::mem::take(&mut self.masa_fault) {
            Fault::None => Some(deliver(masa)),
            Fault::RequestLost => None,
            Fault::AnswerLost => {
                deliver(masa);
                None
            }
            Fault::Twice => {
                let first = deliver(masa);
                let second = deliver(masa);
                assert_eq!(
                    first.status, second.status,
                    "the same request, the same answer"
                );
                assert_eq!(first.body, second.body, "the same request, the same bytes");
                Some(second)
            }
        }
    }

    fn serial_of(
        &self,
        client: &[Certificate],
        now: OffsetDateTime,
    ) -> Result<String, registrar::Refusal> {
        if let Some(leaf) = client.first()
            && let Some((serial, _)) = self.issued.iter().find(|(_, issued)| *issued == leaf)
        {
            return Ok(serial.clone());
        }
        Ok(registrar::identify(client, &self.profiles, now)?.key.serial)
    }

    fn voucher_status(
        &mut self,
        client: &[Certificate],
        inbound: masa::Inbound<'_>,
        masa: &mut Masa,
        now: OffsetDateTime,
    ) -> Result<Response, registrar::Refusal> {
        let serial = self.serial_of(client, now)?;
        let exchange = self.exchanges.get(&serial).cloned();
        let strict = Tolerances::strict();
        let reported = registrar::voucher_status(report(&inbound), exchange.as_ref(), &strict)?;
        if let (Some(stage), Some(exchange)) = (reported.stage, self.exchanges.get_mut(&serial)) {
            exchange.stage = stage;
        }
        if let Some(reason) = reported.report.reason {
            self.log.push(format!("voucher_status: {reason}"));
        }
        self.check_audit(&serial, masa, now);
        Ok(Response::new(200, "text/plain", ""))
    }

    fn check_audit(&mut self, serial: &str, masa: &mut Masa, now: OffsetDateTime) {
        let Some(exchange) = self.exchanges.get(serial).cloned() else {
            return;
        };
        let Ok(call) = registrar::audit_call(&exchange) else {
            return;
        };
        let answered = self.ask(masa, &call, now);
        let answer = match &answered {
            Some(response) => MasaAnswer::Http {
                status: response.status,
                content_type: response.header("content-type"),
                body: &response.body,
            },
            None => MasaAnswer::Unreachable("lost"),
        };
        match registrar::audit_answered(&exchange, &answer, &self.audit_policy) {
            Ok(verdict) => {
                self.audits.insert(serial.to_owned(), verdict);
            }
            Err(refusal) => self.log.push(refusal.code().to_owned()),
        }
    }

    fn enrol_status(
        &mut self,
        client: &[Certificate],
        inbound: masa::Inbound<'_>,
        now: OffsetDateTime,
    ) -> Result<Response, registrar::Refusal> {
        let serial = self.serial_of(client, now)?;
        let matching = self.issued.get(&serial) == client.first();
        let exchange = self.exchanges.get(&serial).cloned();
        let strict = Tolerances::strict();
        let reported =
            registrar::enrol_status(report(&inbound), exchange.as_ref(), matching, &strict)?;
        if let (Some(stage), Some(exchange)) = (reported.stage, self.exchanges.get_mut(&serial)) {
            exchange.stage = stage;
        }
        let how = if reported.matching_certificate {
            "LDevID"
        } else {
            "IDevID"
        };
        self.log.push(format!(
            "enrollstatus {} over {how}",
            reported.report.status
        ));
        Ok(Response::new(200, "text/plain", ""))
    }

    fn ca_certificates(&self) -> Response {
        let mut bag = vec![self.domain.certificate.clone()];
        bag.extend(self.domain.above.iter().cloned());
        let der = pki::pkcs7::certs_only(&bag).unwrap();
        Response::new(200, "application/pkcs7-mime", est::body::encode(&der))
    }

    fn enrol(
        &mut self,
        client: &[Certificate],
        inbound: masa::Inbound<'_>,
        masa: &mut Masa,
        now: OffsetDateTime,
    ) -> Result<Response, registrar::Refusal> {
        let serial = self.serial_of(client, now)?;
        // BRSKI-5.8-02: no telemetry may have come, so the log is asked for here at the latest.
        if !self.audits.contains_key(&serial) {
            self.check_audit(&serial, masa, now);
        }
        let exchange = self.exchanges.get(&serial);
        registrar::may_enrol(exchange, self.audits.get(&serial), &self.audit_policy)?;
        let strict = est::body::BodyTolerances::default();
        let (der, _) = est::body::decode(inbound.body, 65536, &strict).unwrap();
        let csr = Csr::from_der(&der).unwrap();
        csr.verify().unwrap();
        let certificate = match self.issued.get(&serial) {
            Some(issued) if issued.public_key() == csr.public_key() => issued.clone(),
            _ => {
                let subject = format!("serialNumber={serial},CN=Device");
                let builder = pki::issue::CertificateBuilder::new(
                    Profile::Ldevid,
                    pki::issue::name(&subject).unwrap(),
                    csr.public_key().clone(),
                    crate::world::serial(),
                    now - Duration::minutes(5),
                    now + Duration::days(90),
                );
                builder
                    .issue(&self.domain.certificate, self.domain.key.as_ref())
                    .unwrap()
            }
        };
        self.issued.insert(serial, certificate.clone());
        let der = pki::pkcs7::certs_only(&[certificate]).unwrap();
        let content_type = "application/pkcs7-mime; smime-type=certs-only";
        Ok(Response::new(200, content_type, est::body::encode(&der)))
    }
}

fn report<'a>(inbound: &masa::Inbound<'a>) -> registrar::ReportBody<'a> {
    match inbound.content_type {
        Some("application/cbor") => registrar::ReportBody::Cbor(inbound.body),
        _ => registrar::ReportBody::Json(inbound.body),
    }
}

/// Through storage and back, as between two requests in a real registrar.
fn stored(exchange: &Exchange) -> Exchange {
    let text = serde_json::to_string(exchange).unwrap();
    let back: Exchange = serde_json::from_str(&text).unwrap();
    assert_eq!(back, *exchange);
    back
}

/// A device: the pledge's machine and the key that it made.
pub(crate) struct Device {
    pub(crate) machine: Machine,
    pub(crate) idevid: Identity,
    pub(crate) connected_to: Option<usize>,
    pub(crate) client: ClientCertificate,
    pub(crate) entropy: u64,
    pub(crate) key: std::sync::Arc<pki::SoftwareKey>,
    pub(crate) requests: Vec<pledge::Request>,
    /// How far the device's own clock is off.
    pub(crate) clock_offset: Duration,
    /// The pauses that it made.
    pub(crate) waits: Vec<Duration>,
}

pub(crate) fn origin(index: usize) -> Url {
    Url::parse(&format!("https://registrar-{index}.example:8443/")).unwrap()
}

impl Device {
    pub(crate) fn config(idevid: &Identity, manufacturer: &Manufacturer) -> pledge::Config {
        pledge::Config {
            registrars: vec![origin(0)],
            idevid: leaf_only(idevid),
            serial: SerialRule::default(),
            masa_anchors: manufacturer.ca.anchors(),
            envelope: Envelope::Cms,
            clock: pledge::Clock::Trusted,
            nonceless: true,
            assertions: vec![Verified, Proximity, Logged],
            tolerances: Tolerances::strict(),
            est_label: None,
            procedure: pledge::Procedure::Full,
            proximity: pledge::ProximityForm::Certificate,
            attempts_max: Some(1),
            replay: None,
        }
    }

    pub(crate) fn new(config: pledge::Config) -> Self {
        let idevid = config.idevid.clone();
        Self {
            machine: Machine::new(config),
            idevid,
            connected_to: None,
            client: ClientCertificate::Idevid,
            entropy: 7,
            key: key(),
            requests: Vec::new(),
            clock_offset: Duration::ZERO,
            waits: Vec::new(),
        }
    }

    /// Fresh octets for each call; a test does not need them unpredictable.
    pub(crate) fn random(&mut self) -> [u8; 32] {
        let mut out = [0; 32];
        for chunk in out.chunks_mut(8) {
            self.entropy = self
                .entropy
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1);
            chunk.copy_from_slice(&self.entropy.to_be_bytes());
        }
        out
    }

    pub(crate) fn give(&mut self, input: &Input<'_>, now: OffsetDateTime) -> Step {
        let random = self.random();
        let step = self.machine.step(input, now + self.clock_offset, &random);
        // The state survives its way through a file after every single step.
        let text = serde_json::to_string(self.machine.state()).unwrap();
        let back: pledge::State = serde_json::from_str(&text).unwrap();
        assert_eq!(back, *self.machine.state());
        step
    }

    /// The power goes and comes back.
    pub(crate) fn power_cut(&mut self) {
        let config = self.machine.config().clone();
        let state = self.machine.state().clone();
        self.machine = Machine::resume(config, state);
        self.connected_to = None;
    }

    pub(crate) fn csr(&self) -> Vec<u8> {
        let facts = est::client::Facts {
            subject_der: self.idevid.certificate().unwrap().subject_der().to_vec(),
            ..est::client::Facts::default()
        };
        let requirements = est::csrattrs::Requirements::none();
        let csr = est::client::request(&requirements, &facts, None, self.key.as_ref()).unwrap();
        csr.der().to_vec()
    }

    pub(crate) fn is_enrolled(&self) -> bool {
        matches!(self.machine.state().phase, Phase::Enrolled(_))
    }

    /// The chain of the client certificate that the device authenticates with now.
    pub(crate) fn client_chain(&self) -> Vec<Certificate> {
        match (&self.client, &self.machine.state().phase) {
            (ClientCertificate::Ldevid, Phase::Enrolled(enrolled)) => enrolled
                .chain
                .iter()
                .map(|der| Certificate::from_der(der).unwrap())
                .collect(),
            _ => self.idevid.chain.clone(),
        }
    }
}

/// Everything together.
pub(crate) struct Sim {
    pub(crate) now: OffsetDateTime,
    pub(crate) masa: Masa,
    pub(crate) registrars: Vec<Registrar>,
}

impl Sim {
    pub(crate) fn new() -> (Self, Manufacturer) {
        let manufacturer = Manufacturer::new("Acme");
        let masa = Masa::new(manufacturer.clone());
        let domain = Ca::root("Domain");
        let registrar = Registrar::new(domain, &manufacturer);
        (
            Self {
                now: NOW,
                masa,
                registrars: vec![registrar],
            },
            manufacturer,
        )
    }

    /// Lets a device run until it is done or gives up, over a perfect link.
    pub(crate) fn run(&mut self, device: &mut Device) -> Step {
        let mut step = device.give(&Input::Begin, self.now);
        for _ in 0..200 {
            step = match step {
                Step::Done | Step::GiveUp(_) => return step,
                other => self.carry_out(device, other),
            };
        }
        panic!("no end: {step:?}")
    }

    pub(crate) fn carry_out(&mut self, device: &mut Device, step: Step) -> Step {
        match step {
            Step::Connect { origin: to, client } => {
                let index = (0..self.registrars.len()).find(|index| origin(*index) == to);
                device.client = client;
                device.connected_to = index;
                match index {
                    Some(index) => {
                        let chain = self.registrars[index].identity.chain.clone();
                        device.give(&Input::Connected { chain: &chain }, self.now)
                    }
                    None => device.give(&Input::Disconnected { reason: "no route" }, self.now),
                }
            }
            Step::Send(request) => {
                device.requests.push(request.clone());
                let index = device.connected_to.expect("a request without a connection");
                let client = device.client_chain();
                let response =
                    self.registrars[index].handle(&client, &request, &mut self.masa, self.now);
                self.answer(device, &response)
            }
            Step::MakeRequest { .. } => {
                let csr = device.csr();
                device.give(&Input::RequestMade { csr: &csr }, self.now)
            }
            Step::Wait { until, .. } => {
                device.connected_to = None;
                self.sleep(device, until)
            }
            Step::Pause { until } => self.sleep(device, until),
            Step::Done | Step::GiveUp(_) => step,
        }
    }

    fn sleep(&mut self, device: &mut Device, until: OffsetDateTime) -> Step {
        let until = until - device.clock_offset;
        device.waits.push(until - self.now);
        self.now = self.now.max(until);
        device.give(&Input::Begin, self.now)
    }

    /// As [`Self::run`], with a hand in every answer of a registrar.
    pub(crate) fn run_with(
        &mut self,
        device: &mut Device,
        hook: &mut dyn FnMut(&pledge::Request, Response, &Device) -> Response,
    ) -> Step {
        let mut step = device.give(&Input::Begin, self.now);
        for _ in 0..20_000 {
            step = match step {
                Step::Done | Step::GiveUp(_) => return step,
                Step::Send(request) => {
                    device.requests.push(request.clone());
                    let index = device.connected_to.expect("a request without a connection");
                    let client = device.client_chain();
                    let masa = &mut self.masa;
                    let response = self.registrars[index].handle(&client, &request, masa, self.now);
                    let response = hook(&request, response, device);
                    self.answer(device, &response)
                }
                other => self.carry_out(device, other),
            };
        }
        panic!("no end: {step:?}")
    }

    pub(crate) fn answer(&self, device: &mut Device, response: &Response) -> Step {
        let input = Input::Answered {
            status: response.status,
            headers: &response.headers,
            body: &response.body,
        };
        device.give(&input, self.now)
    }
}

/// How far an exchange got.
pub(crate) fn stage<'a>(registrar: &'a Registrar, serial: &str) -> Option<&'a Stage> {
    registrar
        .exchanges
        .get(serial)
        .map(|exchange| &exchange.stage)
}
