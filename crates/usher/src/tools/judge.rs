//! One artefact, one verdict.

use artifacts::cbor::Named;
use artifacts::verify::{
    Check, CheckResult, ExpectedNonce, Outcome as Judged, PledgeRequestContext, ProximityTarget,
    RegistrarRequestContext, Trust, VoucherContext, verify_pledge_request,
    verify_registrar_request, verify_voucher,
};
use artifacts::{
    AuditLog, Document, Envelope, Error, Nonce, Oddity, SerialNumber, Signed, Tolerances,
    VoucherRequest, VoucherStatus, open,
};
use brski::SerialRule;
use daemon::{Clock, Outcome};
use pki::path::{self, Anchors, PathOptions, Purpose};
use pki::{Certificate, Coded, Crl, Unverified};
use serde_json::{Map, Value, json};
use time::OffsetDateTime;

use super::case::Case;
use super::constrained::content;
use super::conveyed::{self, Bundle};
use super::dhcp;
use super::input::{self, Problem};
use super::sniff::{Form, Sniffed, sniff, unsupported_content};

/// What an artefact may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    AuditLog,
    Certificate,
    ConveyedInformation,
    Crl,
    Csr,
    DhcpOption,
    OwnerCertificate,
    PledgeRequest,
    RegistrarRequest,
    Telemetry,
    Voucher,
}

impl Kind {
    fn name(self) -> &'static str {
        match self {
            Self::AuditLog => "audit-log",
            Self::Certificate => "certificate",
            Self::ConveyedInformation => "conveyed-information",
            Self::Crl => "crl",
            Self::Csr => "csr",
            Self::DhcpOption => "dhcp-option",
            Self::OwnerCertificate => "owner-certificate",
            Self::PledgeRequest => "pledge-voucher-request",
            Self::RegistrarRequest => "registrar-voucher-request",
            Self::Telemetry => "telemetry",
            Self::Voucher => "voucher",
        }
    }
}

/// The verdict as JSON and as an exit code.
#[derive(Debug)]
pub(super) struct Verdict {
    pub(super) members: Map<String, Value>,
    pub(super) outcome: Outcome,
}

impl Verdict {
    pub(super) fn new(kind: &str, encoding: &str, failure: Option<(&str, String)>) -> Self {
        let valid = failure.is_none();
        let (code, detail) = failure.unzip();
        let mut members = Map::new();
        members.insert(
            "verdict".to_owned(),
            if valid { "valid" } else { "invalid" }.into(),
        );
        members.insert("kind".to_owned(), kind.into());
        members.insert("encoding".to_owned(), encoding.into());
        members.insert("code".to_owned(), code.into());
        members.insert("detail".to_owned(), detail.into());
        Self {
            members,
            outcome: Outcome::of(valid),
        }
    }

    fn unsupported(encoding: &str, what: &str) -> Self {
        let failure = Some(("request.unsupported", format!("{what}: not supported")));
        let mut verdict = Self::new("unsupported", encoding, failure);
        verdict
            .members
            .insert("verdict".to_owned(), "unsupported".into());
        verdict.outcome = Outcome::CouldNotRun;
        verdict
    }

    pub(super) fn with(mut self, name: &str, value: Value) -> Self {
        self.members.insert(name.to_owned(), value);
        self
    }
}

/// Judges one artefact.
pub(super) fn judge(case: &Case, clock: &Clock) -> Result<Verdict, Problem> {
    let Some(file) = &case.file else {
        return Err(Problem::usage("no file to verify"));
    };
    judge_bytes(&input::read(file)?, file, case, clock)
}

fn judge_bytes(bytes: &[u8], file: &str, case: &Case, clock: &Clock) -> Result<Verdict, Problem> {
    let wanted = case.kind.as_deref().map(Wanted::from_name).transpose()?;
    let Sniffed { wrapped_in, form } = sniff(bytes);
    let known = Known::load(case, clock)?;
    let plain = |kind: Kind, encoding: &str, result: Result<(), (&str, String)>| {
        let verdict = match wanted {
            Some(wanted) if !wanted.takes(kind) => {
                let detail = format!("this is a {}", kind.name());
                Verdict::new(kind.name(), encoding, Some(("voucher.wrong-kind", detail)))
            }
            _ => Verdict::new(kind.name(), encoding, result.err()),
        };
        Ok(verdict.with("at", known.at_text()))
    };
    let armour = wrapped_in.first().copied();
    match form {
        Form::Unsupported(what) => Ok(Verdict::unsupported(armour.unwrap_or("binary"), what)),
        Form::Pkcs7(_) | Form::Cms(_)
            if matches!(wanted, Some(Wanted::Exactly(Kind::OwnerCertificate))) =>
        {
            conveyed::verify_owner(&known, bytes)
        }
        Form::Conveyed(inner) if Wanted::may_be(wanted, Kind::ConveyedInformation) => {
            conveyed::verify(&known, &inner)
        }
        Form::ConveyedDocument(inner, encoding)
            if Wanted::may_be(wanted, Kind::ConveyedInformation) =>
        {
            Ok(conveyed::verify_document(&known, &inner, encoding))
        }
        Form::Conveyed(_) | Form::ConveyedDocument(..) => {
            plain(Kind::ConveyedInformation, "cms", Ok(()))
        }
        Form::Enveloped(inner) => {
            // Another artefact than conveyed information is judged as what it is inside.
            let opened = known
                .bundle
                .key()
                .map(|key| conveyed::decrypted(&inner, key));
            match opened {
                Some(Ok(opened)) if !matches!(sniff(&opened).form, Form::Conveyed(_)) => {
                    judge_bytes(&opened, file, case, clock)
                }
                _ => conveyed::verify(&known, &inner),
            }
        }
        Form::Certificates(chain) | Form::Pkcs7(chain) => {
            let result = known.certificate(&chain)?;
            plain(Kind::Certificate, armour.unwrap_or("der"), result)
        }
        Form::Csr(csr) => {
            let result = csr
                .verify()
                .map_err(|error| (error.code(), error.to_string()));
            plain(Kind::Csr, armour.unwrap_or("der"), result)
        }
        Form::DhcpOption(report) => {
            let result = match report.mistakes.first() {
                None => Ok(()),
                Some(mistake) => Err((mistake.code, mistake.detail.clone())),
            };
            let described = dhcp::describe(&report);
            let verdict = plain(Kind::DhcpOption, report.form, result)?;
            Ok(verdict.with("verified", described))
        }
        Form::Crl(crl) => plain(Kind::Crl, armour.unwrap_or("der"), known.crl(&crl)?),
        Form::CsrAttributes(_) => {
            let detail = "CSR attributes carry no signature".to_owned();
            let failure = Some(("request.unsupported", detail));
            Ok(Verdict::new(
                "csr-attributes",
                armour.unwrap_or("der"),
                failure,
            ))
        }
        Form::Json(bytes, value) => {
            let telemetry = value.get("version").is_some() && value.get("events").is_none();
            let kind = match wanted {
                Some(Wanted::Exactly(kind @ (Kind::AuditLog | Kind::Telemetry))) => kind,
                _ if value.get("events").is_some() => Kind::AuditLog,
                _ if telemetry || value.get("status").is_some() => Kind::Telemetry,
                // Voucher data without a signature is no artefact of anyone.
                _ => {
                    let error = Error::from(pki::Error::JwsNoSigner);
                    let failure = Some((error.code(), "JSON without a signature".to_owned()));
                    return Ok(Verdict::new("unknown", "json", failure));
                }
            };
            let read = match kind {
                Kind::AuditLog => AuditLog::from_json(&bytes, &known.tolerances).map(|read| read.1),
                _ => VoucherStatus::from_json(&bytes, &known.tolerances).map(|read| read.1),
            };
            let (oddities, result) = match read {
                Ok(oddities) => (oddities, Ok(())),
                Err(error) => (Vec::new(), Err((error.code(), error.to_string()))),
            };
            let verdict = plain(kind, "json", result)?;
            Ok(verdict.with("oddities", oddities_json(&oddities)))
        }
        Form::Cbor(inner) => {
            let (kind, failure) = match VoucherStatus::from_cbor(&inner, &known.tolerances) {
                Ok((_, oddities)) => {
                    let verdict = plain(Kind::Telemetry, "cbor", Ok(()))?;
                    return Ok(verdict.with("oddities", oddities_json(&oddities)));
                }
                // CBR-003: An unsigned constrained voucher request (plain CBOR map) is rejected.
                Err(_) if Named::read(&inner).is_some() => (
                    "unknown",
                    (
                        "cose.malformed",
                        "voucher data without a signature".to_owned(),
                    ),
                ),
                Err(error) => (Kind::Telemetry.name(), (error.code(), error.to_string())),
            };
            Ok(Verdict::new(kind, "cbor", Some(failure)).with("at", known.at_text()))
        }
        // The hexadecimal of a draft is taken off here; base64 and PEM are the reader's to judge.
        Form::Cose(inner) if armour == Some("hex") => known.signed(&inner, file, wanted, armour),
        Form::Cms(_) | Form::Jws(_) | Form::Cose(_) | Form::UnknownDer | Form::Unknown => {
            known.signed(bytes, file, wanted, armour)
        }
    }
}

/// The kind that the caller says it is.
#[derive(Clone, Copy, Debug)]
enum Wanted {
    Exactly(Kind),
    Request,
}

impl Wanted {
    fn from_name(name: &str) -> Result<Self, Problem> {
        Ok(Self::Exactly(match name {
            "voucher" => Kind::Voucher,
            "voucher-request" | "request" => return Ok(Self::Request),
            "pledge-voucher-request" | "pvr" => Kind::PledgeRequest,
            "registrar-voucher-request" | "rvr" => Kind::RegistrarRequest,
            "certificate" => Kind::Certificate,
            "conveyed-information" => Kind::ConveyedInformation,
            "owner-certificate" => Kind::OwnerCertificate,
            "dhcp-option" => Kind::DhcpOption,
            "csr" => Kind::Csr,
            "crl" => Kind::Crl,
            "audit-log" => Kind::AuditLog,
            "telemetry" | "voucher-status" | "enroll-status" => Kind::Telemetry,
            other => return Err(Problem::usage(format!("kind {other:?} is not known"))),
        }))
    }

    /// Whether it may be of this kind, as far as the caller says.
    fn may_be(wanted: Option<Self>, kind: Kind) -> bool {
        wanted.is_none_or(|wanted| wanted.takes(kind))
    }

    fn takes(self, kind: Kind) -> bool {
        match self {
            Self::Exactly(wanted) => wanted == kind,
            Self::Request => matches!(kind, Kind::PledgeRequest | Kind::RegistrarRequest),
        }
    }
}

/// The context, loaded.
pub(super) struct Known {
    pub(super) anchors: Anchors,
    pub(super) intermediates: Vec<Certificate>,
    pub(super) crls: Option<Vec<Crl>>,
    pub(super) now: Option<OffsetDateTime>,
    pub(super) tolerances: Tolerances,
    pub(super) serial: Option<SerialNumber>,
    pub(super) nonce: Option<Nonce>,
    pub(super) idevid: Option<Certificate>,
    pub(super) bundle: Bundle,
    domain: Vec<Certificate>,
    request: Option<(Vec<u8>, VoucherRequest)>,
    peer: Vec<Certificate>,
    registrar: Vec<Certificate>,
}

impl Known {
    fn load(case: &Case, clock: &Clock) -> Result<Self, Problem> {
        let mut tolerances = Tolerances::from_names(case.tolerate.0.iter().map(String::as_str))
            .map_err(|name| Problem::usage(format!("tolerance {name:?} is not known")))?;
        if case.lenient == Some(true) {
            tolerances = tolerances.union(&Tolerances::lenient());
        }
        let now = match (&case.at, case.no_clock) {
            (Some(_), Some(true)) => {
                return Err(Problem::usage("a time and no clock exclude each other"));
            }
            (None, Some(true)) => None,
            (Some(at), _) => Some(input::time(at)?),
            (None, _) => Some(clock.now()),
        };
        let serial = match &case.serial {
            Some(text) => Some(
                SerialNumber::new(text.as_str())
                    .ok_or_else(|| Problem::usage("the serial number has no sense"))?,
            ),
            None => None,
        };
        let nonce = case.nonce.as_deref().map(Nonce::to_compare);
        Ok(Self {
            anchors: input::anchors(&case.anchors.0)?,
            intermediates: input::certificates(&case.intermediates.0)?,
            crls: if case.crl.0.is_empty() {
                None
            } else {
                Some(input::crls(&case.crl.0)?)
            },
            now,
            tolerances,
            serial,
            nonce,
            idevid: case.idevid.as_deref().map(input::certificate).transpose()?,
            domain: input::certificates(&case.domain.0)?,
            request: case.request.as_deref().map(request).transpose()?,
            peer: input::certificates(&case.peer.0)?,
            registrar: input::certificates(&case.registrar.0)?,
            bundle: Bundle::load(case)?,
        })
    }

    pub(super) fn at_text(&self) -> Value {
        self.now.map(super::describe::date).into()
    }

    fn trust<'a>(&'a self, anchors: &'a Anchors) -> Trust<'a> {
        Trust {
            anchors,
            intermediates: &self.intermediates,
            crls: self.crls.as_deref().unwrap_or_default(),
            now: self.now,
        }
    }

    pub(super) fn need_anchors(&self) -> Result<(), Problem> {
        if self.anchors.is_empty() {
            Err(Problem::usage("--anchors is needed"))
        } else {
            Ok(())
        }
    }

    fn certificate(
        &self,
        chain: &[Certificate],
    ) -> Result<Result<(), (&'static str, String)>, Problem> {
        self.need_anchors()?;
        let Some((leaf, others)) = chain.split_first() else {
            return Ok(Err((
                "pki.pkcs7-malformed",
                "there is no certificate in it".to_owned(),
            )));
        };
        let mut others = others.to_vec();
        others.extend_from_slice(&self.intermediates);
        let options = PathOptions {
            at: self.now,
            purpose: Purpose::Any,
            crls: self.crls.clone().unwrap_or_default(),
            tolerate_legacy_algorithms: self.tolerances.sha1,
            ..PathOptions::default()
        };
        let result = path::validate(leaf, &others, &self.anchors, &options);
        Ok(result
            .map(|_| ())
            .map_err(|error| (error.code(), error.to_string())))
    }

    fn crl(&self, crl: &Crl) -> Result<Result<(), (&'static str, String)>, Problem> {
        self.need_anchors()?;
        let signed = self
            .anchors
            .iter()
            .filter(|anchor| anchor.subject_der() == crl.issuer_der())
            .any(|anchor| crl.verify_signature_by(anchor.public_key()).is_ok());
        Ok(if !signed {
            Err((
                "path.crl-invalid",
                "signed by none of the anchors".to_owned(),
            ))
        } else if self
            .now
            .zip(crl.next_update())
            .is_some_and(|(now, next)| now > next)
        {
            Err(("path.crl-expired", "past its nextUpdate".to_owned()))
        } else {
            Ok(())
        })
    }

    fn signed(
        &self,
        bytes: &[u8],
        file: &str,
        wanted: Option<Wanted>,
        armour: Option<&'static str>,
    ) -> Result<Verdict, Problem> {
        let document = match wanted {
            Some(
                Wanted::Request | Wanted::Exactly(Kind::PledgeRequest | Kind::RegistrarRequest),
            ) => Document::Request,
            _ => Document::Voucher,
        };
        let signed = match open(document, bytes, None, &self.tolerances) {
            Ok(signed) => signed,
            Err(error) => {
                let encoding = match error.code().split('.').next() {
                    Some("cms") => "cms",
                    Some("jws") => "jws",
                    Some("cose") => "cose",
                    _ => armour.unwrap_or("unknown"),
                };
                let failure = Some((error.code(), error.to_string()));
                let kind = if document == Document::Request {
                    "voucher-request"
                } else {
                    "unknown"
                };
                return Ok(Verdict::new(kind, encoding, failure).with("at", self.at_text()));
            }
        };
        if let Some(what) = unsupported_content(signed.dangerous_peek()) {
            let encoding = signed.dangerous_peek().envelope().name();
            return Ok(Verdict::unsupported(encoding, what));
        }
        self.need_anchors()?;
        let kind = match wanted {
            Some(Wanted::Exactly(kind)) => kind,
            Some(Wanted::Request) => request_kind(&signed),
            None => kind_of(&signed, file),
        };
        Ok(match kind {
            Kind::Voucher => self.voucher(&signed),
            Kind::PledgeRequest => self.pledge_request(&signed),
            Kind::RegistrarRequest => self.registrar_request(&signed),
            other => {
                let detail = format!("a signed artefact is no {}", other.name());
                let encoding = signed.dangerous_peek().envelope().name();
                Verdict::new(other.name(), encoding, Some(("voucher.wrong-kind", detail)))
            }
        }
        .with("at", self.at_text()))
    }

    fn voucher(&self, signed: &Unverified<Signed>) -> Verdict {
        // The pledge's peer is the registrar.
        let chain = if self.registrar.is_empty() {
            &self.peer
        } else {
            &self.registrar
        };
        let serial = self
            .serial
            .clone()
            .or_else(|| serial_of(self.idevid.as_ref()?));
        let context = VoucherContext {
            serial_number: serial.as_ref(),
            idevid: self.idevid.as_ref(),
            nonce: self
                .nonce
                .as_ref()
                .map_or(ExpectedNonce::Unknown, ExpectedNonce::Exactly),
            request: self.request.as_ref().map(|(_, request)| request),
            registrar_chain: (!chain.is_empty()).then_some(chain),
            domain: self.domain.first(),
            domain_crls: self.crls.as_deref(),
            expires_on_without_clock: true,
            revocation_without_crls: true,
            ..VoucherContext::new(self.trust(&self.anchors))
        };
        let judged = verify_voucher(signed, &context, &self.tolerances);
        let summary = judged.result().ok().map(|verified| {
            json!({
                "serial_number": verified.voucher.serial_number.as_str(),
                "assertion": verified.voucher.assertion.map(artifacts::Assertion::as_str),
                "signer_path": subjects(&verified.signer_path),
                "registrar_path": verified.registrar_path.as_deref().map(subjects),
            })
        });
        verdict(Kind::Voucher, signed, judged, summary)
    }

    fn pledge_request(&self, signed: &Unverified<Signed>) -> Verdict {
        let proximity = match self.registrar.get(..1) {
            Some(server) => ProximityTarget::ServerCertificate(server),
            None => ProximityTarget::Unknown,
        };
        let context = PledgeRequestContext {
            peer: self.peer.first(),
            idevid: self.idevid.as_ref(),
            nonce: self.nonce.as_ref(),
            serial_rule: Some(&serial_of),
            expected_serial_number: self.serial.as_ref(),
            proximity,
            ..PledgeRequestContext::new(self.trust(&self.anchors))
        };
        let judged = verify_pledge_request(signed, &context, &self.tolerances);
        let summary = judged.result().ok().map(|verified| {
            json!({
                "serial_number": verified.serial_number.as_str(),
                "nonce": verified.request.nonce.as_ref().map(Nonce::as_str),
                "signer_path": subjects(&verified.signer_path),
            })
        });
        verdict(Kind::PledgeRequest, signed, judged, summary)
    }

    fn registrar_request(&self, signed: &Unverified<Signed>) -> Verdict {
        let domain: Anchors = self.domain.iter().cloned().collect();
        if !domain.is_empty() {
            // The domain's certificate is then the anchor of the outer signature.
            return self.registrar_request_by(signed, Some(&domain), Some(&self.anchors));
        }
        let both = self.registrar_request_by(signed, Some(&self.anchors), Some(&self.anchors));
        if both.outcome == Outcome::Yes || self.anchors.len() > 1 {
            return both;
        }
        // One anchor cannot be that of two hierarchies. If the request inside is under it, the
        // domain is one that is not known, as for a MASA; if the outer one is, nothing is known
        // about the manufacturer.
        let unknown = |check: &str| {
            let list = both.members.get("checks").and_then(Value::as_array);
            list.into_iter().flatten().any(|made| {
                made["name"] == check
                    && made["result"] == "failed"
                    && made["detail"]
                        .as_str()
                        .is_some_and(|text| text.contains("unknown-issuer"))
            })
        };
        if unknown("trust") {
            let as_masa = self.registrar_request_by(signed, None, Some(&self.anchors));
            let proven = as_masa.members["verified"]["proximity_proven"] == true;
            return if proven { as_masa } else { both };
        }
        if unknown("prior-signature") {
            return self.registrar_request_by(signed, Some(&self.anchors), None);
        }
        both
    }

    fn registrar_request_by(
        &self,
        signed: &Unverified<Signed>,
        domain: Option<&Anchors>,
        manufacturer: Option<&Anchors>,
    ) -> Verdict {
        let context = RegistrarRequestContext {
            domain: domain.map(|anchors| self.trust(anchors)),
            pledge: manufacturer.map(|anchors| self.trust(anchors)),
            peer: self.peer.first(),
            serial_number: self.serial.as_ref(),
            nonce: self
                .nonce
                .as_ref()
                .or_else(|| self.request.as_ref()?.1.nonce.as_ref()),
            prior: self.request.as_ref().map(|(bytes, _)| bytes.as_slice()),
            server_certificate: self.registrar.first(),
            idevid: self.idevid.as_ref(),
            serial_rule: Some(&serial_of),
            ..RegistrarRequestContext::new(self.now)
        };
        let judged = verify_registrar_request(signed, &context, &self.tolerances);
        let summary = judged.result().ok().map(|verified| {
            json!({
                "serial_number": verified.request.serial_number.as_str(),
                "nonce": verified.request.nonce.as_ref().map(Nonce::as_str),
                "domain_known": verified.domain_known,
                "proximity_proven": verified.proximity_proven,
                "signer_path": subjects(&verified.signer_path),
            })
        });
        let mut verdict = verdict(Kind::RegistrarRequest, signed, judged, summary);
        if domain.is_none()
            && let Some(Value::Array(checks)) = verdict.members.get_mut("checks")
        {
            let why = "no anchor of the domain was given; its chain is consistent in itself";
            checks.push(json!({ "name": "domain-trust", "result": "not made", "detail": why }));
        }
        verdict
    }
}

/// The serial number by the standard's rule, else the one of a hardwareModuleName. Other rules
/// are a vendor profile's business.
pub(super) fn serial_of(idevid: &Certificate) -> Option<SerialNumber> {
    let hardware = SerialRule::HardwareModuleName;
    let text = SerialRule::default().serial_of(idevid);
    SerialNumber::new(text.or_else(|| hardware.serial_of(idevid))?)
}

/// The caller's own request: its leaves are context, so it is not verified and read leniently.
fn request(name: &str) -> Result<(Vec<u8>, VoucherRequest), Problem> {
    let bytes = input::read(name)?;
    let lenient = Tolerances::lenient();
    let unusable = |error: &dyn std::fmt::Display| {
        Problem::usage(format!("{name} is no voucher request: {error}"))
    };
    let signed = open(Document::Request, &bytes, None, &lenient).map_err(|e| unusable(&e))?;
    let signed = signed.dangerous_peek();
    let payload = signed.payload().unwrap_or_default();
    let (request, _) = VoucherRequest::from_payload(payload, signed.envelope(), &lenient)
        .map_err(|e| unusable(&e))?;
    Ok((signed.bytes().to_vec(), request))
}

/// What a signed artefact says it is: by its top-level member, else by its file's name.
fn kind_of(signed: &Unverified<Signed>, file: &str) -> Kind {
    let value = content(signed.dangerous_peek()).unwrap_or_default();
    let payload = signed.dangerous_peek().payload().unwrap_or_default();
    let is_request = match value.as_object().and_then(|members| members.keys().next()) {
        Some(name) => name.contains("request"),
        None => {
            let voucher_file = Envelope::ALL
                .iter()
                .any(|envelope| file.ends_with(&format!(".{}", envelope.file_extension())));
            let needle = b"ietf-voucher-request";
            !voucher_file && payload.windows(needle.len()).any(|window| window == needle)
        }
    };
    if is_request {
        request_kind(signed)
    } else {
        Kind::Voucher
    }
}

/// A registrar's request has the pledge's inside, or a registrar's signature, or neither nonce
/// nor evidence of proximity.
fn request_kind(signed: &Unverified<Signed>) -> Kind {
    let signed = signed.dangerous_peek();
    let by_signer = signed
        .signer_certificate()
        .is_some_and(|signer| signer.has_cmc_ra());
    let value = content(signed);
    let has = |name: &str| {
        let members = value.as_ref().and_then(Value::as_object);
        let inner = members.and_then(|members| members.values().next());
        inner.is_some_and(|inner| inner.get(name).is_some())
    };
    let proximity = has("proximity-registrar-cert")
        || has("proximity-registrar-pubk")
        || has("proximity-registrar-pubk-sha256");
    let by_content = has("prior-signed-voucher-request")
        || (has("idevid-issuer") && !proximity && !has("assertion"));
    if by_signer || by_content {
        Kind::RegistrarRequest
    } else {
        Kind::PledgeRequest
    }
}

fn verdict<T>(
    kind: Kind,
    signed: &Unverified<Signed>,
    judged: Judged<T>,
    summary: Option<Value>,
) -> Verdict {
    let encoding = signed.dangerous_peek().envelope().name();
    let (checks, oddities, result) = judged.into_parts();
    let failure = result.err().map(|error| (error.code(), error.to_string()));
    Verdict::new(kind.name(), encoding, failure)
        .with("checks", checks.iter().map(check_json).collect())
        .with("oddities", oddities_json(&oddities))
        .with("verified", summary.into())
}

pub(super) fn check_json(check: &Check) -> Value {
    match &check.result {
        CheckResult::Passed => json!({ "name": check.name, "result": "passed" }),
        CheckResult::Failed { code, detail } => {
            json!({ "name": check.name, "result": "failed", "code": code, "detail": detail })
        }
        CheckResult::NotMade { why } => {
            json!({ "name": check.name, "result": "not made", "detail": why })
        }
    }
}

pub(super) fn oddities_json(oddities: &[Oddity]) -> Value {
    oddities
        .iter()
        .map(|oddity| json!({ "name": oddity.name, "detail": oddity.detail }))
        .collect()
}

pub(super) fn subjects(path: &[Certificate]) -> Vec<String> {
    path.iter().map(Certificate::subject).collect()
}
