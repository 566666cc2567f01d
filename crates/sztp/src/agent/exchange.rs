//! What is said to a bootstrap server, and what is made of its answers
//! ([RFC 8572 §4.4 and §7](https://www.rfc-editor.org/rfc/rfc8572.html#section-4.4)).

use artifacts::{
    Encoding, Nonce,
    bundle::{self, BootstrappingData, DeviceContext},
    conveyed::ConveyedInformation,
    verify::ExpectedNonce,
};
use base64::{Engine as _, engine::general_purpose::STANDARD};

use super::{
    CSR_REQUESTS_MAX, CheckNote, Clock, EXCERPT_CHARS_MAX, Failure, NonceUse, Note, Request, Step,
    What, csr, excerpt,
    machine::{Answer, Awaiting, Machine, Turn},
};
use crate::{
    discovery,
    message::{CsrInput, GetBootstrappingDataInput, GetBootstrappingDataOutput, ReportingLevel},
    negotiate,
    restconf::ErrorReport,
};

/// Longest RESTCONF root.
const ROOT_LENGTH_MAX_BYTES: usize = 256;
/// Octets of a nonce: "length 16..32".
const NONCE_LENGTH_BYTES: usize = 16;

impl Machine {
    /// SZTP-8040-3.1-01: the client discovers the root "when first connecting to a RESTCONF
    /// server".
    pub(super) fn ask_host_meta(&mut self, turn: Turn<'_>) -> Step {
        let request = Request {
            what: What::HostMeta,
            method: "GET",
            path: discovery::HOST_META_PATH.to_owned(),
            headers: vec![("accept", discovery::HOST_META_TYPE.to_owned())],
            body: Vec::new(),
        };
        self.send(Awaiting::HostMeta, request, turn)
    }

    pub(super) fn host_meta_answered(&mut self, answer: &Answer<'_>, turn: Turn<'_>) -> Step {
        let found = (answer.status == 200
            && answer.body.len() <= What::HostMeta.answer_size_max_bytes())
        .then(|| discovery::parse_host_meta(answer.body).ok())
        .flatten()
        .filter(|root| is_root(root));
        let discovered = found.is_some();
        let root = found.unwrap_or_else(|| discovery::DEFAULT_ROOT.to_owned());
        let root = root.trim_end_matches('/').to_owned();
        self.notes.push(Note::Root {
            root: root.clone(),
            discovered,
        });
        if let Some(link) = &mut self.link {
            link.root = Some(root);
        }
        self.ask_data(None, turn)
    }

    pub(super) fn is_trusted(&self) -> bool {
        self.link
            .as_ref()
            .is_some_and(|link| link.trusted == Some(true))
    }

    /// A request to one of the two RPCs.
    pub(super) fn operation(&self, what: What, body: Vec<u8>) -> Request {
        let root = self.link.as_ref().and_then(|link| link.root.clone());
        let root = root.unwrap_or_else(|| discovery::DEFAULT_ROOT.to_owned());
        let media_type = negotiate::media_type(self.config.encoding);
        let mut headers = vec![
            // SZTP-8040-5.2-03: "A Content-Type field MUST be present if a body is sent".
            ("content-type", media_type.to_owned()),
            // SZTP-8040-7.1-04: exactly one type, so that every server understands it.
            ("accept", media_type.to_owned()),
        ];
        // SZTP-8572-9.6-01: "Devices SHOULD NOT use an HTTP authentication scheme (e.g., HTTP
        // Basic) with an untrusted bootstrap server that reveals a secret".
        // SZTP-8572-5.3-04: both mechanisms identify the same serial number.
        let serial = self.config.serial_number.as_str();
        if let Some(password) = &self.config.password
            && (self.is_trusted() || defects::seeded!("sztp-device-tells-anybody"))
            // RFC 7617 §2: a user name with a colon would end there.
            && !serial.contains(':')
        {
            let credentials = STANDARD.encode(format!("{serial}:{password}"));
            headers.push(("authorization", format!("Basic {credentials}")));
        }
        let operation = match what {
            What::ReportProgress => discovery::REPORT_PROGRESS,
            What::GetBootstrappingData | What::HostMeta => discovery::GET_BOOTSTRAPPING_DATA,
        };
        Request {
            what,
            method: "POST",
            path: if defects::seeded!("sztp-device-ignores-host-meta") {
                format!("{}/operations/{operation}", discovery::DEFAULT_ROOT)
            } else {
                format!("{root}/operations/{operation}")
            },
            headers,
            body,
        }
    }

    /// Asks for bootstrapping data, telling an untrusted server no more than it has to know.
    pub(super) fn ask_data(&mut self, csr: Option<Vec<u8>>, turn: Turn<'_>) -> Step {
        let trusted = self.is_trusted() || defects::seeded!("sztp-device-tells-anybody");
        let with_nonce = match self.config.nonce {
            NonceUse::Always | NonceUse::Required => true,
            NonceUse::WithoutClock => self.config.clock == Clock::Untrusted,
            NonceUse::Never => false,
        };
        let nonce = with_nonce.then(|| turn.random.get(..NONCE_LENGTH_BYTES).map(<[u8]>::to_vec));
        let nonce = nonce.flatten();
        let Some(link) = &mut self.link else {
            return Step::GiveUp(Failure::new("sztp.internal", "there is no connection"));
        };
        // The request that follows upon a certification request repeats the nonce.
        let nonce = link.nonce.get_or_insert_with(|| nonce.unwrap_or_default());
        let nonce = Some(nonce.clone()).filter(|nonce| !nonce.is_empty());
        let input = if trusted {
            GetBootstrappingDataInput {
                signed_data_preferred: false,
                hw_model: self.config.hw_model.clone(),
                os_name: self.state.os.name.clone(),
                os_version: self.state.os.version.clone(),
                nonce,
                csr: match csr {
                    Some(csr) => Some(CsrInput::P10(csr)),
                    None => self
                        .config
                        .csr
                        .as_ref()
                        .map(|ability| CsrInput::Support(csr::support(ability))),
                },
            }
        } else {
            // SZTP-8572-7.3-01: "Devices SHOULD always send this parameter when the bootstrap
            // server is untrusted."
            // SZTP-8572-9.6-02: "It is RECOMMENDED that devices only pass the
            // 'signed-data-preferred' input parameter to an untrusted bootstrap server." The nonce
            // is appendix B's.
            // SZTP-9646-4.1.4-02: "SZTP-clients SHOULD NOT pass the 'csr-support' input parameter
            // to an untrusted SZTP-server."
            GetBootstrappingDataInput {
                signed_data_preferred: !defects::seeded!("sztp-device-prefers-nothing"),
                nonce,
                ..GetBootstrappingDataInput::default()
            }
        };
        let body = input.encode(self.config.encoding);
        let request = self.operation(What::GetBootstrappingData, body);
        self.send(Awaiting::Data, request, turn)
    }

    pub(super) fn data_answered(&mut self, answer: &Answer<'_>, turn: Turn<'_>) -> Step {
        if answer.body.len() > What::GetBootstrappingData.answer_size_max_bytes() {
            let failure = Failure::new("sztp.answer-too-large", "the answer is too large");
            return self.next_address(Some(failure), turn);
        }
        match answer.status {
            200 => match self.read_output(answer) {
                Ok(output) => self.data_arrived(output, turn),
                Err(failure) => self.unreadable(failure, turn),
            },
            400 => self.refused(answer, turn),
            // A redirect of HTTP is none of RFC 8572: nothing says what trust it would carry.
            300..=399 => {
                let failure = Failure::new("sztp.http-redirect", "the server redirects by HTTP");
                self.next_address(Some(failure), turn)
            }
            _ => {
                let failure = self.refusal(answer);
                self.next_address(Some(failure), turn)
            }
        }
    }

    /// SZTP-9646-2.2-01: a 400 may be the request for a certification request.
    fn refused(&mut self, answer: &Answer<'_>, turn: Turn<'_>) -> Step {
        let report = self.encoding_of(answer).ok().and_then(|encoding| {
            ErrorReport::decode(answer.body, encoding, &self.config.leniency).ok()
        });
        let request = report
            .as_ref()
            .and_then(|(report, _)| report.csr_request(answer.status))
            .cloned();
        let (Some(request), Some(ability)) = (request, self.config.csr.clone()) else {
            let failure = self.refusal(answer);
            return self.next_address(Some(failure), turn);
        };
        self.notes.push(Note::CsrRequested {
            new_key: request.algorithm.is_some(),
            info: request.cert_req_info.is_some(),
        });
        let (trusted, count) = match &mut self.link {
            Some(link) => {
                link.csr_requests += 1;
                (link.trusted == Some(true), link.csr_requests)
            }
            None => (false, 0),
        };
        // SZTP-9646-4.1.4-01: "the solution presented in this document cannot be used when the
        // SZTP-client connects to an untrusted SZTP-server."
        if !trusted {
            let failure = Failure::new(
                "sztp.csr-untrusted",
                "an untrusted server asks for a certification request",
            );
            return self.next_address(Some(failure), turn);
        }
        if count > CSR_REQUESTS_MAX {
            let failure = Failure::new(
                "sztp.csr-repeated",
                "the server does not stop asking for certification requests",
            );
            return self.csr_failed(failure, turn);
        }
        match csr::plan(&request, &ability, &self.config.idevid) {
            Ok(plan) => {
                self.awaiting = Awaiting::Csr;
                Step::MakeCsr(plan)
            }
            Err(failure) => self.csr_failed(failure, turn),
        }
    }

    pub(super) fn csr_made(&mut self, csr: &[u8], turn: Turn<'_>) -> Step {
        self.ask_data(Some(csr.to_vec()), turn)
    }

    fn read_output(&mut self, answer: &Answer<'_>) -> Result<GetBootstrappingDataOutput, Failure> {
        let encoding = self.encoding_of(answer)?;
        let (output, oddities) =
            GetBootstrappingDataOutput::decode(answer.body, encoding, &self.config.leniency)
                .map_err(|error| Failure::of(&error))?;
        for oddity in &oddities {
            self.notes.push(Note::oddity(oddity));
        }
        Ok(output)
    }

    fn encoding_of(&self, answer: &Answer<'_>) -> Result<Encoding, Failure> {
        let content_type = answer.header("content-type");
        negotiate::request_encoding(content_type, answer.body, &self.config.leniency)
            .map_err(|error| Failure::of(&error))?
            .0
            .ok_or_else(|| Failure::new("sztp.answer-empty", "the answer is empty"))
    }

    /// What the server said instead of giving data.
    fn refusal(&self, answer: &Answer<'_>) -> Failure {
        let body = answer
            .body
            .get(..What::ReportProgress.answer_size_max_bytes())
            .unwrap_or(answer.body);
        let report = self
            .encoding_of(answer)
            .ok()
            .and_then(|encoding| ErrorReport::decode(body, encoding, &self.config.leniency).ok());
        let said = report.and_then(|(report, _)| {
            let error = report.errors.into_iter().next()?;
            let text = format!("{}: {}", error.tag, error.message.unwrap_or_default());
            Some(excerpt(text.as_bytes(), EXCERPT_CHARS_MAX))
        });
        let said = said.unwrap_or_else(|| excerpt(body, EXCERPT_CHARS_MAX));
        Failure::new(
            "sztp.refused",
            format!("HTTP status {}: {said}", answer.status),
        )
    }

    fn data_arrived(&mut self, output: GetBootstrappingDataOutput, turn: Turn<'_>) -> Step {
        // SZTP-8572-7.3-11: "default 'minimal'".
        let verbose = output.reporting_level == Some(ReportingLevel::Verbose);
        if let Some(link) = &mut self.link {
            link.verbose = verbose;
        }
        let data = BootstrappingData {
            conveyed_information: output.conveyed_information,
            owner_certificate: output.owner_certificate,
            ownership_voucher: output.ownership_voucher,
        };
        let trusted = self.is_trusted() || defects::seeded!("sztp-device-trusts-every-server");
        self.judge(&data, trusted, turn)
    }

    /// [RFC 8572 §5.3 and §5.4](https://www.rfc-editor.org/rfc/rfc8572.html#section-5.3): what the
    /// data is worth, and what is done with it.
    pub(super) fn judge(
        &mut self,
        data: &BootstrappingData,
        trusted: bool,
        turn: Turn<'_>,
    ) -> Step {
        let nonce = self
            .link
            .as_ref()
            .and_then(|link| Nonce::from_octets(link.nonce.as_ref()?));
        // SZTP-8366-5.3-15: a nonce in the voucher is the one that was sent.
        let expected = match (&nonce, self.config.nonce) {
            (Some(nonce), NonceUse::Required) => ExpectedNonce::Exactly(nonce),
            (Some(nonce), _) => ExpectedNonce::ExactlyOrNonceless(nonce),
            (None, _) => ExpectedNonce::Nonceless,
        };
        let expected = if defects::seeded!("sztp-device-skips-nonce") {
            ExpectedNonce::Unknown
        } else {
            expected
        };
        let serial = &self.config.serial_number;
        let context = DeviceContext {
            serial: Some(serial).filter(|_| !defects::seeded!("sztp-device-skips-serial")),
            idevid: Some(&self.config.idevid)
                .filter(|_| !defects::seeded!("sztp-device-skips-issuer")),
            nonce: expected,
            at: self
                .at(turn.now)
                .filter(|_| !defects::seeded!("sztp-device-judges-no-dates")),
            clock_skew: self.config.clock_skew,
            accepted_assertions: Some(&self.config.assertions),
            decryption_key: self.config.decryptor.as_deref(),
            ..DeviceContext::new(&self.config.voucher_anchors, &self.config.tolerances)
        };
        // SZTP-8572-5.4-01: "Whenever a device is presented signed data, it MUST validate the
        // signed data", a trusted source's too.
        let judgement = bundle::judge(data, trusted, &context);
        for check in &judgement.checks {
            self.notes.push(Note::Check(CheckNote::of(check)));
        }
        for oddity in &judgement.oddities {
            self.notes.push(Note::oddity(oddity));
        }
        let signed = judgement.signed == Some(true);
        if signed && nonce.is_none() && self.config.nonce == NonceUse::Required {
            let failure = Failure::new(
                "sztp.nonce-required",
                "no nonce could be sent to the source",
            );
            return self.leave_server(failure, turn);
        }
        let (kind, refusal) = match &judgement.result {
            Ok(ConveyedInformation::Redirect(_)) => (Some("redirect-information"), None),
            Ok(ConveyedInformation::Onboarding(_)) => (Some("onboarding-information"), None),
            Err(error) => (None, Some(Failure::of(error))),
        };
        // SZTP-8572-5.3-08: signed data that holds sets trust-state to TRUE.
        // SZTP-8572-5.3-09: signed data that does not hold sets it to FALSE, whoever sent it.
        let trust_state = judgement.trusted;
        self.notes.push(Note::Verdict {
            kind,
            signed,
            trust_state,
            refusal,
        });
        match judgement.result {
            Ok(ConveyedInformation::Redirect(information)) => {
                self.follow(&information, trust_state, turn)
            }
            // SZTP-8572-5.3-13, SZTP-8572-2.2-01, SZTP-8572-9.5-01: "If the conveyed information
            // artifact contains onboarding information, and trust-state is FALSE, the device MUST
            // exit the recursive algorithm".
            Ok(ConveyedInformation::Onboarding(_)) if !trust_state => {
                let failure = Failure::new(
                    "bundle.untrusted-onboarding",
                    "unsigned onboarding information from an untrusted source",
                );
                self.leave_server(failure, turn)
            }
            Ok(ConveyedInformation::Onboarding(information)) => {
                let tolerated: Vec<&str> = judgement.oddities.iter().map(|one| one.name).collect();
                self.onboard(information, signed, &tolerated, turn)
            }
            Err(error) => {
                let failure = Failure::of(&error);
                self.unusable(data, failure, turn)
            }
        }
    }
}

/// A path without anything that could lead the request elsewhere.
fn is_root(root: &str) -> bool {
    root.starts_with('/')
        && !root.starts_with("//")
        && root.len() <= ROOT_LENGTH_MAX_BYTES
        && root
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || b"/-._~%!$&'()*+,;=:@".contains(&byte))
}
