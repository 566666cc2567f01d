//! The second half: voucher status, CA certificates, CSR attributes, enrolment, enrolment status
//! ([RFC 8995 §5.7 and §5.9](https://www.rfc-editor.org/rfc/rfc8995.html#section-5.9)).

use artifacts::VoucherStatus;
use est::{
    body::BodyTolerances,
    client::{
        CaCertificates, DomainTrust, HttpAnswer, HttpRequest, Outcome, ca_certificates,
        ca_certificates_request, csr_attrs, csr_attrs_request, enroll_request, enrolled,
    },
};
use pki::{
    Certificate, Coded, Csr,
    path::{self, Anchors, PathOptions, Purpose},
};
use time::OffsetDateTime;

use super::{
    ClientCertificate, EnrolPhase, EnrolStep, Enrolled, Failure, PENDING_MAX, Phase, Procedure,
    Request, Step, What,
    machine::{Answer, Machine, certificates, honoured, telemetry},
    voucher::{chain_is_pinned, stored_voucher},
};
use crate::cause::Cause;

impl Machine {
    /// What an enrolment under way asks for next.
    pub(super) fn proceed_enrolment(&mut self, now: OffsetDateTime, random: &[u8; 32]) -> Step {
        match &self.state.phase {
            Phase::Enrol(phase) => {
                if phase
                    .begun_at
                    .is_some_and(|begun_at| now - begun_at > PENDING_MAX)
                {
                    return self.fail(Failure::PendingTooLong, now, random);
                }
                if let Some(until) = phase.not_before.filter(|until| *until > now) {
                    return Step::Pause {
                        until: until.min(now + self.longest_wait()),
                    };
                }
                // Making the key and the request needs no connection, but the connection's channel
                // binding may have to go into the request, so there is one first.
                if self.is_connected(ClientCertificate::Idevid) {
                    self.next_request(now, random)
                } else {
                    let origin = phase.origin.clone();
                    self.connect(origin, ClientCertificate::Idevid)
                }
            }
            Phase::Enrolled(enrolled) if !enrolled.reported => {
                if self.is_connected(ClientCertificate::Ldevid)
                    || defects::seeded!("pledge-reports-on-the-old-connection")
                {
                    return self.send(telemetry(What::EnrolStatus, &VoucherStatus::success()));
                }
                // BRSKI-5.9.4-02: "The client SHOULD therefore always close the existing TLS
                // connection and start a new one, using the same Join Proxy."
                let origin = enrolled.origin.clone();
                self.connect(origin, ClientCertificate::Ldevid)
            }
            // BRSKI-5-02: a configured pledge does not start again by itself.
            Phase::Enrolled(_) => Step::Done,
            Phase::Discovery | Phase::Voucher(_) | Phase::GivenUp => self.proceed(now, random),
        }
    }

    /// A connection for the enrolment is up: is it the domain's?
    pub(super) fn enrolment_connected(
        &mut self,
        chain: &[Certificate],
        now: OffsetDateTime,
        random: &[u8; 32],
    ) -> Step {
        match &self.state.phase {
            Phase::Enrol(phase) => {
                let same = phase.registrar_chain.first().map(Vec::as_slice)
                    == chain.first().map(Certificate::der);
                let judged = stored_voucher(&self.config, &phase.voucher)
                    .and_then(|voucher| chain_is_pinned(&self.config, &voucher, chain, now));
                // BRSKI-5.6.2-08: another EST server of the domain has to be marked as a
                // registration authority.
                let is_ra = chain.first().is_some_and(Certificate::has_cmc_ra);
                match judged {
                    _ if defects::seeded!("pledge-believes-any-later-server") => {
                        self.next_request(now, random)
                    }
                    Ok(()) if defects::seeded!("pledge-needs-no-ra") => {
                        self.next_request(now, random)
                    }
                    Ok(()) if same || is_ra => self.next_request(now, random),
                    Ok(()) => self.fail(Failure::RegistrarChanged, now, random),
                    Err(failure) => self.fail(failure, now, random),
                }
            }
            Phase::Enrolled(enrolled) => match self.judge_domain_server(enrolled, chain, now) {
                Ok(()) => self.proceed_enrolment(now, random),
                // The device has its certificate; it just does not talk to a stranger.
                Err(failure) => self.enrolled_unreported(failure),
            },
            Phase::Discovery | Phase::Voucher(_) | Phase::GivenUp => self.proceed(now, random),
        }
    }

    /// After enrolment the domain's own anchor decides, and the registrar that we enrolled with is
    /// known by its certificate.
    fn judge_domain_server(
        &self,
        enrolled: &Enrolled,
        chain: &[Certificate],
        now: OffsetDateTime,
    ) -> Result<(), Failure> {
        let internal = |error: pki::Error| Failure::Internal(Cause::of(&error));
        let (leaf, others) = chain
            .split_first()
            .ok_or_else(|| Failure::Connection("no certificate was shown".to_owned()))?;
        if enrolled.registrar_chain.first().map(Vec::as_slice) == Some(leaf.der()) {
            return Ok(());
        }
        let anchors: Anchors = Certificate::from_der(&enrolled.anchor)
            .map_err(internal)?
            .into();
        let options = PathOptions {
            at: self.config.at(now),
            purpose: Purpose::Registrar,
            ..PathOptions::default()
        };
        path::validate(leaf, others, &anchors, &options)
            .map(|_| ())
            .map_err(|error| Failure::RegistrarChain(Cause::of(&error)))
    }

    fn next_request(&mut self, now: OffsetDateTime, random: &[u8; 32]) -> Step {
        let Phase::Enrol(phase) = &self.state.phase else {
            return self.proceed(now, random);
        };
        let label = self.config.est_label.as_deref();
        let request = match phase.next {
            EnrolStep::VoucherStatus => telemetry(What::VoucherStatus, &VoucherStatus::success()),
            EnrolStep::CaCertificates => {
                from_est(What::CaCertificates, ca_certificates_request(label))
            }
            EnrolStep::CsrAttributes => from_est(What::CsrAttributes, csr_attrs_request(label)),
            EnrolStep::MakeRequest => {
                return Step::MakeRequest {
                    attributes: phase.attributes.clone(),
                };
            }
            EnrolStep::Enrol => match phase.csr.as_deref().map(Csr::from_der) {
                Some(Ok(csr)) => from_est(What::Enrol, enroll_request(label, &csr)),
                Some(Err(error)) => {
                    let failure = Failure::Internal(Cause::of(&error));
                    return self.enrolment_failed(failure, now, random);
                }
                None => {
                    return Step::MakeRequest {
                        attributes: phase.attributes.clone(),
                    };
                }
            },
        };
        self.send(request)
    }

    pub(super) fn request_made(
        &mut self,
        csr: &[u8],
        now: OffsetDateTime,
        random: &[u8; 32],
    ) -> Step {
        if let Phase::Enrol(phase) = &mut self.state.phase {
            phase.csr = Some(csr.to_vec());
            phase.next = EnrolStep::Enrol;
        }
        self.proceed(now, random)
    }

    pub(super) fn enrolment_answered(
        &mut self,
        what: What,
        answer: &Answer<'_>,
        now: OffsetDateTime,
        random: &[u8; 32],
    ) -> Step {
        let http = HttpAnswer {
            status: answer.status,
            content_type: answer.header("content-type"),
            retry_after: answer.header("retry-after"),
            location: answer.header("location"),
            body: answer.body,
        };
        let procedure = self.config.procedure;
        match what {
            // BRSKI-5.7-08: "The client ignores any response."
            What::VoucherStatus => self.voucher_reported(),
            What::CaCertificates => match self.take_ca_certificates(&http, answer, now) {
                Ok(ders) => {
                    if let Phase::Enrol(phase) = &mut self.state.phase {
                        phase.ca_certificates = ders;
                        // CBR-059: A pledge does not request /att.
                        phase.next = match procedure {
                            Procedure::Full if defects::seeded!("pledge-skips-csrattrs") => {
                                EnrolStep::MakeRequest
                            }
                            Procedure::Full => EnrolStep::CsrAttributes,
                            Procedure::Constrained => EnrolStep::MakeRequest,
                        };
                        if let Some(body) = phase.issued.take() {
                            return self.judge_issued(&body, now, random);
                        }
                    }
                }
                Err(failure) => return self.enrolment_failed(failure, now, random),
            },
            What::CsrAttributes => match self.take_attributes(&http, answer) {
                Ok(attributes) => {
                    if let Phase::Enrol(phase) = &mut self.state.phase {
                        phase.attributes = attributes;
                        phase.next = EnrolStep::MakeRequest;
                    }
                }
                Err(failure) => return self.enrolment_failed(failure, now, random),
            },
            What::Enrol => return self.enrol_answered(&http, answer, now, random),
            What::EnrolStatus => {
                if let Phase::Enrolled(enrolled) = &mut self.state.phase {
                    enrolled.reported = true;
                }
            }
            What::RequestVoucher => {}
        }
        self.proceed(now, random)
    }

    fn voucher_reported(&mut self) {
        let procedure = self.config.procedure;
        if let Phase::Enrol(phase) = &mut self.state.phase {
            phase.next = EnrolStep::CaCertificates;
            // CBR-064: If the pinned CA is a root and signed the LDevID, /crts is skipped.
            if procedure == Procedure::Constrained
                && let Some(root) = pinned_root(phase)
            {
                phase.ca_certificates = vec![root];
                phase.provisional = true;
                phase.next = EnrolStep::MakeRequest;
            }
        }
    }

    /// The CA certificates are there; the certificate has been since before.
    fn judge_issued(&mut self, body: &[u8], now: OffsetDateTime, random: &[u8; 32]) -> Step {
        let headers = [(
            "content-type".to_owned(),
            est::body::PKCS7_MIME_CERTS_ONLY.to_owned(),
        )];
        let answer = Answer {
            status: 200,
            headers: &headers,
            body,
        };
        let http = HttpAnswer {
            status: answer.status,
            content_type: answer.header("content-type"),
            retry_after: None,
            location: None,
            body,
        };
        self.enrol_answered(&http, &answer, now, random)
    }

    fn take_ca_certificates(
        &self,
        http: &HttpAnswer<'_>,
        answer: &Answer<'_>,
        now: OffsetDateTime,
    ) -> Result<Vec<Vec<u8>>, Failure> {
        let bag = match ca_certificates(http, &self.body_tolerances()) {
            Ok(Outcome::Done(bag)) => bag,
            Ok(Outcome::Wait { .. } | Outcome::Redirect { .. }) => {
                return Err(answer.refusal(What::CaCertificates));
            }
            Err(est::Error::Status { .. }) => return Err(answer.refusal(What::CaCertificates)),
            Err(error) => return Err(Failure::CaCertificates(Cause::of(&error))),
        };
        self.judge_bag(&bag, now)?;
        Ok(bag
            .certificates()
            .iter()
            .map(|one| one.der().to_vec())
            .collect())
    }

    fn judge_bag(&self, bag: &CaCertificates, now: OffsetDateTime) -> Result<DomainTrust, Failure> {
        let Phase::Enrol(phase) = &self.state.phase else {
            return Err(Failure::Internal(Cause::new(
                "pledge.state",
                "no enrolment",
            )));
        };
        let pinned = match &phase.pinned {
            Some(der) => Some(
                Certificate::from_der(der).map_err(|error| Failure::Internal(Cause::of(&error)))?,
            ),
            None => None,
        };
        // A pinned CA has to be part of the domain's PKI. A pinned registrar was authenticated by
        // the pin, and its word is taken for the CA (RFC 7030 §4.1.3).
        let pinned = pinned.filter(Certificate::is_ca);
        bag.judge(pinned.as_ref(), self.config.at(now))
            .map_err(|error| Failure::CaCertificates(Cause::of(&error)))
    }

    fn take_attributes(
        &self,
        http: &HttpAnswer<'_>,
        answer: &Answer<'_>,
    ) -> Result<Option<Vec<u8>>, Failure> {
        let tolerances = self.body_tolerances();
        match csr_attrs(http, &tolerances) {
            Ok(Outcome::Done(_)) if answer.status == 200 => {
                est::body::decode(answer.body, super::ANSWER_SIZE_MAX_BYTES, &tolerances)
                    .map(|(der, _)| Some(der))
                    .map_err(|error| Failure::CsrAttributes(Cause::of(&error)))
            }
            Ok(Outcome::Done(_)) if defects::seeded!("pledge-demands-csrattrs") => {
                Err(answer.refusal(What::CsrAttributes))
            }
            Ok(Outcome::Done(_)) => Ok(None),
            Ok(Outcome::Wait { .. } | Outcome::Redirect { .. })
            | Err(est::Error::Status { .. }) => Err(answer.refusal(What::CsrAttributes)),
            Err(error) => Err(Failure::CsrAttributes(Cause::of(&error))),
        }
    }

    fn enrol_answered(
        &mut self,
        http: &HttpAnswer<'_>,
        answer: &Answer<'_>,
        now: OffsetDateTime,
        random: &[u8; 32],
    ) -> Step {
        match self.take_certificate(http, answer, now) {
            Ok(Some(enrolled)) => {
                if let Some(memory) = self.current_registrar() {
                    memory.failures = 0;
                    memory.not_before = None;
                }
                self.state.last_failure = None;
                self.state.phase = Phase::Enrolled(enrolled);
                self.proceed(now, random)
            }
            Ok(None) => {
                let wait = honoured(answer.header("retry-after"), now, self.longest_wait());
                if let Phase::Enrol(phase) = &mut self.state.phase {
                    phase.begun_at.get_or_insert(now);
                    phase.not_before = Some(now + wait);
                }
                Step::Pause { until: now + wait }
            }
            // CBR-062: If the pinned CA is not both a root CA and signer of the LDevID, the pledge
            // does GET /crts and chains the LDevID to one of the returned CAs.
            Err(Failure::Certificate(_) | Failure::CaCertificates(_)) if self.is_provisional() => {
                if let Phase::Enrol(phase) = &mut self.state.phase {
                    phase.issued = Some(answer.body.to_vec());
                    phase.provisional = false;
                    phase.ca_certificates.clear();
                    phase.next = EnrolStep::CaCertificates;
                }
                self.proceed(now, random)
            }
            Err(failure) => self.enrolment_failed(failure, now, random),
        }
    }

    fn is_provisional(&self) -> bool {
        matches!(&self.state.phase, Phase::Enrol(phase) if phase.provisional)
    }

    fn current_registrar(&mut self) -> Option<&mut super::RegistrarMemory> {
        let index = match &self.state.phase {
            Phase::Enrol(phase) => phase.registrar,
            _ => return None,
        };
        self.state.registrars.get_mut(index)
    }

    /// The certificate, or `None` if the registrar says "later".
    fn take_certificate(
        &self,
        http: &HttpAnswer<'_>,
        answer: &Answer<'_>,
        now: OffsetDateTime,
    ) -> Result<Option<Enrolled>, Failure> {
        let Phase::Enrol(phase) = &self.state.phase else {
            return Err(Failure::Internal(Cause::new(
                "pledge.state",
                "no enrolment",
            )));
        };
        let internal = |error: pki::Error| Failure::Internal(Cause::of(&error));
        let bag = CaCertificates::new(certificates(&phase.ca_certificates)?);
        let trust = self.judge_bag(&bag, now)?;
        let csr = phase.csr.as_deref().unwrap_or_default();
        let csr = Csr::from_der(csr).map_err(internal)?;
        let at = self.config.at(now);
        let mut key = csr.public_key().clone();
        if defects::seeded!("pledge-takes-any-certificate")
            && let Ok(Outcome::Done(bag)) = ca_certificates(http, &self.body_tolerances())
            && let Some(first) = bag.certificates().first()
        {
            key = first.public_key().clone();
        }
        match enrolled(http, &key, &trust, at, now, &self.body_tolerances()) {
            Ok(Outcome::Done(done)) => Ok(Some(Enrolled {
                origin: phase.origin.clone(),
                certificate: done.certificate.der().to_vec(),
                chain: done.chain.iter().map(|one| one.der().to_vec()).collect(),
                anchor: trust.anchor.der().to_vec(),
                ca_certificates: phase.ca_certificates.clone(),
                registrar_chain: phase.registrar_chain.clone(),
                voucher: phase.voucher.clone(),
                assertion: phase.assertion.clone(),
                reported: false,
            })),
            Ok(Outcome::Wait { .. }) => Ok(None),
            Ok(Outcome::Redirect { .. }) | Err(est::Error::Status { .. }) => {
                Err(answer.refusal(What::Enrol))
            }
            Err(error) => Err(Failure::Certificate(Cause::of(&error))),
        }
    }

    /// BRSKI-5.9.4-03: "In the case of a failed enrollment, the client MUST send the telemetry
    /// information over the same TLS connection that was used for the enrollment attempt, with a
    /// Reason string".
    pub(super) fn enrolment_failed(
        &mut self,
        failure: Failure,
        now: OffsetDateTime,
        random: &[u8; 32],
    ) -> Step {
        if !self.is_connected(ClientCertificate::Idevid) {
            return self.fail(failure, now, random);
        }
        if defects::seeded!("pledge-is-silent-about-enrolment") {
            return self.fail(failure, now, random);
        }
        let status = if defects::seeded!("pledge-always-reports-success") {
            VoucherStatus::success()
        } else {
            VoucherStatus::failure(failure.code(), None)
        };
        self.volatile.closing = Some(failure);
        self.send(telemetry(What::EnrolStatus, &status))
    }

    /// Success could not be reported. The device stays enrolled; it tries once more whenever it is
    /// started, until the report gets through.
    pub(super) fn enrolled_unreported(&mut self, failure: Failure) -> Step {
        self.volatile = super::machine::Volatile::default();
        self.state.last_failure = Some(failure);
        Step::Done
    }

    fn body_tolerances(&self) -> BodyTolerances {
        if self.config.tolerances.text_armour {
            BodyTolerances::all()
        } else {
            BodyTolerances::default()
        }
    }
}

/// What the voucher pins, if it is the certificate of a root CA.
fn pinned_root(phase: &EnrolPhase) -> Option<Vec<u8>> {
    let pinned = Certificate::from_der(phase.pinned.as_deref()?).ok()?;
    let is_root = pinned.is_ca() && pinned.subject_der() == pinned.issuer_der();
    is_root.then(|| pinned.der().to_vec())
}

fn from_est(what: What, request: HttpRequest) -> Request {
    let mut headers = vec![("accept", request.accept.to_owned())];
    if let Some(content_type) = request.content_type {
        headers.push(("content-type", content_type.to_owned()));
    }
    Request {
        what,
        method: request.method,
        path: request.path,
        headers,
        body: request.body,
    }
}
