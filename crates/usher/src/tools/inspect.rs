//! `usher artifact inspect`.

use artifacts::cbor::{Item, Named};
use artifacts::{
    AuditLog, Document, Envelope, IdevidIssuer, Nonce, Oddity, Signed, Tolerances, Voucher,
    VoucherRequest, VoucherStatus, open,
};
use base64::Engine as _;
use daemon::{Format, Outcome};
use pki::{Certificate, Coded, SoftwareKey, Unverified};
use serde_json::{Map, Value, json};

use super::constrained;
use super::conveyed;
use super::describe;
use super::dhcp;
use super::input;
use super::judge::oddities_json;
use super::sniff::{Form, Sniffed, sniff, unsupported_content};
use super::text;

/// Options of `usher artifact inspect`.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// The artefacts; `-` is standard input.
    #[arg(value_name = "FILE", required = true)]
    files: Vec<String>,
    /// The device's private key, to decrypt what is encrypted to it.
    #[arg(long, value_name = "KEY")]
    key: Option<String>,
    #[command(flatten)]
    format: Format,
}

/// How deep requests inside requests are decoded.
const NESTING_MAX: usize = 3;

/// Prints what each file is: one object, or an array of them for several files.
pub(super) fn run(arguments: &Arguments) -> Outcome {
    let mut all = Vec::new();
    let mut outcome = Outcome::Yes;
    let key = match arguments.key.as_deref().map(conveyed::key).transpose() {
        Ok(key) => key,
        Err(problem) => return arguments.format.error(&problem),
    };
    for file in &arguments.files {
        let (mut value, one) = match input::read(file) {
            Ok(bytes) => inspect(&bytes, key.as_ref(), 0),
            Err(problem) => {
                let value = json!({ "error": problem.to_string(), "code": problem.code() });
                (value, Outcome::CouldNotRun)
            }
        };
        if let Value::Object(members) = &mut value {
            members.shift_insert(0, "file".to_owned(), file.as_str().into());
        }
        if one.code() > outcome.code() {
            outcome = one;
        }
        all.push(value);
    }
    let value = if all.len() == 1 {
        all.swap_remove(0)
    } else {
        Value::Array(all)
    };
    arguments.format.print(&value, text::tree);
    outcome
}

/// Decodes one artefact. Nothing is verified but that signatures hold.
fn inspect(bytes: &[u8], key: Option<&SoftwareKey>, depth: usize) -> (Value, Outcome) {
    let Sniffed { wrapped_in, form } = sniff(bytes);
    let (kind, encoding, body, outcome) = match form {
        Form::Cms(inner) => signed(&inner, "cms", depth),
        Form::Jws(inner) => signed(&inner, "jws", depth),
        Form::Cose(inner) => signed(&inner, "cose", depth),
        Form::Cbor(inner) => plain_cbor(&inner, depth),
        Form::Certificates(certificates) => {
            let body = match certificates.as_slice() {
                [one] => describe::certificate(one),
                several => json!({ "certificates": list(several) }),
            };
            ("certificate", "der", body, Outcome::Yes)
        }
        Form::Pkcs7(certificates) => {
            let body = json!({ "certificates": list(&certificates) });
            ("certs-only", "pkcs7", body, Outcome::Yes)
        }
        Form::Csr(csr) => ("csr", "der", describe::csr(&csr), Outcome::Yes),
        Form::Crl(crl) => ("crl", "der", describe::crl(&crl), Outcome::Yes),
        Form::CsrAttributes(attributes) => (
            "csr-attributes",
            "der",
            describe::csr_attributes(&attributes),
            Outcome::Yes,
        ),
        Form::Conveyed(inner) => {
            let (body, outcome) = conveyed::inspect(&inner);
            ("conveyed-information", "cms", body, outcome)
        }
        Form::ConveyedDocument(inner, encoding) => {
            let (body, outcome) = conveyed::document(&inner, encoding);
            (
                "conveyed-information-document",
                encoding.name(),
                body,
                outcome,
            )
        }
        Form::DhcpOption(report) => {
            let usable = !report.usable().is_empty();
            let body = dhcp::describe(&report);
            ("dhcp-option", report.form, body, Outcome::of(usable))
        }
        Form::Enveloped(inner) => enveloped(&inner, key, depth),
        Form::Json(inner, value) => plain_json(&inner, &value, depth),
        Form::Unsupported(what) => {
            let body = json!({ "unsupported": what });
            ("unsupported", "unknown", body, Outcome::CouldNotRun)
        }
        Form::UnknownDer => {
            let body = json!({ "error": "DER or BER of no known kind, or broken" });
            ("unknown", "der", body, Outcome::No)
        }
        Form::Unknown => {
            let body = json!({ "error": "no known encoding", "octets": bytes.len() });
            ("unknown", "unknown", body, Outcome::No)
        }
    };
    let mut members = Map::new();
    members.insert("kind".to_owned(), kind.into());
    members.insert("encoding".to_owned(), encoding.into());
    if !wrapped_in.is_empty() {
        members.insert("wrapped_in".to_owned(), wrapped_in.into());
    }
    if let Value::Object(body) = body {
        members.extend(body);
    }
    (Value::Object(members), outcome)
}

/// What is told from outside and, with the key, what is inside.
fn enveloped(bytes: &[u8], key: Option<&SoftwareKey>, depth: usize) -> Found {
    let (mut body, mut outcome) = conveyed::enveloped(bytes);
    if let (Some(key), Outcome::Yes, Value::Object(members)) = (key, outcome, &mut body) {
        let inside = match conveyed::decrypted(bytes, key) {
            Ok(inner) if depth < NESTING_MAX => {
                let (inside, one) = inspect(&inner, None, depth + 1);
                outcome = one;
                inside
            }
            Ok(_) => Value::Null,
            Err(error) => {
                outcome = Outcome::No;
                json!({ "error": error.to_string(), "code": error.code() })
            }
        };
        members.insert("content".to_owned(), inside);
    }
    ("enveloped", "cms", body, outcome)
}

type Found = (&'static str, &'static str, Value, Outcome);

fn list(certificates: &[Certificate]) -> Value {
    certificates.iter().map(describe::certificate).collect()
}

/// JSON without a signature: telemetry, audit log, voucher data.
fn plain_json(bytes: &[u8], value: &Value, depth: usize) -> Found {
    let lenient = Tolerances::lenient();
    let report = |error: Option<String>, oddities: &[Oddity]| {
        json!({
            "content": value,
            "error": error,
            "oddities": oddities_json(oddities),
        })
    };
    if value.get("events").is_some() {
        let (error, oddities) = split(AuditLog::from_json(bytes, &lenient));
        let outcome = Outcome::of(error.is_none());
        return ("audit-log", "json", report(error, &oddities), outcome);
    }
    let has = |name: &str| value.get(name).is_some();
    if has("version") || has("status") || has("Status") {
        let (error, oddities) = split(VoucherStatus::from_json(bytes, &lenient));
        let outcome = Outcome::of(error.is_none());
        return ("telemetry", "json", report(error, &oddities), outcome);
    }
    let (kind, mut body, outcome) = data(bytes, Envelope::Cms, depth);
    if let Value::Object(members) = &mut body {
        members.insert("signed".to_owned(), false.into());
    }
    (kind, "json", body, outcome)
}

/// CBOR without a signature: voucher data, telemetry.
fn plain_cbor(bytes: &[u8], depth: usize) -> Found {
    if Named::read(bytes).is_some() {
        let (kind, mut body, outcome) = data(bytes, Envelope::Cose, depth);
        if let Value::Object(members) = &mut body {
            members.insert("signed".to_owned(), false.into());
        }
        return (kind, "cbor", body, outcome);
    }
    let mut body = constrained::diagnostic(bytes);
    let telemetry = match Item::parse(bytes) {
        Ok((Item::Map(entries), _)) => entries.iter().any(|(key, _)| {
            let name = key.to_name().to_ascii_lowercase();
            ["version", "status"].contains(&name.as_str())
        }),
        _ => false,
    };
    if !telemetry {
        return ("unknown", "cbor", body, Outcome::No);
    }
    let (error, oddities) = split(VoucherStatus::from_cbor(bytes, &Tolerances::lenient()));
    let outcome = Outcome::of(error.is_none());
    if let Value::Object(members) = &mut body {
        members.insert("error".to_owned(), error.into());
        members.insert("oddities".to_owned(), oddities_json(&oddities));
    }
    ("telemetry", "cbor", body, outcome)
}

fn split<T>(read: Result<(T, Vec<Oddity>), artifacts::Error>) -> (Option<String>, Vec<Oddity>) {
    match read {
        Ok((_, oddities)) => (None, oddities),
        Err(error) => (Some(format!("{error} [{}]", error.code())), Vec::new()),
    }
}

fn signed(bytes: &[u8], encoding: &'static str, depth: usize) -> Found {
    let lenient = Tolerances::lenient();
    let opened: Result<Unverified<Signed>, _> = open(Document::Voucher, bytes, None, &lenient);
    let opened = match opened {
        Ok(opened) => opened,
        Err(error) => {
            let body = json!({ "error": error.to_string(), "code": error.code() });
            return ("unknown", encoding, body, Outcome::No);
        }
    };
    let artefact = opened.dangerous_peek();
    if let Some(what) = unsupported_content(artefact) {
        let body = json!({ "unsupported": what });
        return ("unsupported", encoding, body, Outcome::CouldNotRun);
    }
    let payload = artefact.payload();
    let (kind, content, outcome) = match payload {
        Some(payload) => data(payload, artefact.envelope(), depth),
        None => (
            "unknown",
            json!({ "error": "the content is detached" }),
            Outcome::No,
        ),
    };
    let checked = artefact.check_signature(&lenient, &[]);
    let envelope = match &checked {
        Ok(signer) => artefact.all_oddities(signer),
        Err(_) => artefact.oddities().to_vec(),
    };
    let kind = match (kind, artefact.signer_certificate()) {
        ("pledge-voucher-request", Some(signer)) if signer.has_cmc_ra() => {
            "registrar-voucher-request"
        }
        _ => kind,
    };
    let signature = match checked {
        Ok(signer) => json!({
            "holds": true,
            "signer": describe::certificate(signer.certificate()),
            "algorithm": format!("{:?}", signer.algorithm()),
            "signing_time": signer.signing_time().map(describe::date),
            "trusted": "not judged; use `usher artifact verify`",
        }),
        // A constrained device sends no certificate and gets none, so there is nothing to hold the
        // signature against.
        Err(pki::Error::CoseSignerCertificateMissing) if artefact.certificates().is_empty() => {
            json!({
                "holds": null,
                "detail": "there is no certificate in it; use `usher artifact verify`",
            })
        }
        Err(error) => json!({
            "holds": false,
            "code": error.code(),
            "detail": error.to_string(),
            "signer": artefact.signer_certificate().as_ref().map(describe::certificate),
        }),
    };
    let mut body = Map::new();
    if let Some(cms) = artefact.cms() {
        let name = match cms.content_type().to_string().as_str() {
            "1.2.840.113549.1.9.16.1.40" => "id-ct-animaJSONVoucher".to_owned(),
            "1.2.840.113549.1.7.1" => "id-data".to_owned(),
            other => other.to_owned(),
        };
        body.insert("content_type".to_owned(), name.into());
    }
    if let Some(cose) = artefact.cose() {
        body.extend(constrained::describe(artefact, cose));
    }
    body.insert("signatures".to_owned(), artefact.signer_count().into());
    body.insert("signature".to_owned(), signature);
    let others = artefact
        .certificates()
        .iter()
        .map(describe::certificate_line);
    body.insert("certificates".to_owned(), others.collect::<Vec<_>>().into());
    body.insert("envelope_oddities".to_owned(), oddities_json(&envelope));
    if let Value::Object(content) = content {
        body.extend(content);
    }
    (kind, encoding, Value::Object(body), outcome)
}

/// Voucher data: as it stands, decoded, and what a strict reader says.
fn data(payload: &[u8], envelope: Envelope, depth: usize) -> (&'static str, Value, Outcome) {
    let mut diagnostic = Value::Null;
    let value = if envelope == Envelope::Cose {
        diagnostic = constrained::diagnostic(payload);
        match Named::read(payload) {
            Some(named) => named.to_json(),
            None => return ("unknown", diagnostic, Outcome::No),
        }
    } else {
        let text = payload.strip_prefix(b"\xef\xbb\xbf").unwrap_or(payload);
        match serde_json::from_slice::<Value>(text) {
            Ok(value) => value,
            Err(error) => {
                let body = json!({ "error": format!("the payload is no JSON: {error}") });
                return ("unknown", body, Outcome::No);
            }
        }
    };
    let top = value.as_object().and_then(|members| members.iter().next());
    let Some((name, Value::Object(members))) = top else {
        return ("unknown", json!({ "content": value }), Outcome::No);
    };
    if !name.contains("voucher") {
        return ("unknown", json!({ "content": value }), Outcome::No);
    }
    let request = name.contains("request");
    let read = |tolerances: &Tolerances| {
        if request {
            split(VoucherRequest::from_payload(payload, envelope, tolerances))
        } else {
            split(Voucher::from_payload(payload, envelope, tolerances))
        }
    };
    let (strict, _) = read(&Tolerances::strict());
    let (lenient, oddities) = read(&Tolerances::lenient());
    let outcome = Outcome::of(lenient.is_none());
    let kind = match (
        request,
        members.contains_key("prior-signed-voucher-request"),
    ) {
        (false, _) => "voucher",
        (true, true) => "registrar-voucher-request",
        (true, false) => "pledge-voucher-request",
    };
    let mut body = json!({
        "content": value,
        "decoded": decoded(members, depth),
        "strict_reader": strict.unwrap_or_else(|| "accepts it".to_owned()),
        "lenient_reader": lenient.unwrap_or_else(|| "accepts it".to_owned()),
        "oddities": oddities_json(&oddities),
    });
    if let (Value::Object(body), Value::Object(diagnostic)) = (&mut body, diagnostic) {
        body.extend(diagnostic);
    }
    (kind, body, outcome)
}

/// The binary leaves, decoded.
fn decoded(members: &Map<String, Value>, depth: usize) -> Value {
    let mut out = Map::new();
    for (name, value) in members {
        let Some(text) = value.as_str() else { continue };
        let found = match name.as_str() {
            "nonce" => Nonce::from_text(text).map(|nonce| {
                json!({ "octets": nonce.octets().len(), "hex": hex::encode(nonce.octets()) })
            }),
            "idevid-issuer" => binary(text)
                .and_then(|bytes| IdevidIssuer::from_bytes(&bytes))
                .map(|issuer| describe::idevid_issuer(&issuer)),
            "prior-signed-voucher-request" if depth < NESTING_MAX => {
                binary(text).map(|bytes| inspect(&bytes, None, depth + 1).0)
            }
            "pinned-domain-cert"
            | "proximity-registrar-cert"
            | "agent-provided-proximity-registrar-cert"
            | "agent-sign-cert" => binary(text)
                .and_then(|bytes| Certificate::from_der(&bytes).ok())
                .map(|certificate| describe::certificate(&certificate)),
            _ => continue,
        };
        out.insert(
            name.clone(),
            found.unwrap_or_else(|| "does not decode".into()),
        );
    }
    Value::Object(out)
}

fn binary(text: &str) -> Option<Vec<u8>> {
    use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
    let text: String = text.chars().filter(|c| !c.is_ascii_whitespace()).collect();
    let bare = text.trim_end_matches('=');
    STANDARD
        .decode(&text)
        .or_else(|_| URL_SAFE_NO_PAD.decode(bare))
        .ok()
}
