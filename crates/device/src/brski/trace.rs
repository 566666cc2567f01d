//! Messages decoded for people: what `--json` shows of each.

use artifacts::{Document, Envelope, Tolerances, Voucher, VoucherRequest, open};
use brski::pledge::What;
use pki::{Certificate, Coded, Csr};
use serde_json::{Value, json};

/// Bodies above this size are not decoded.
const DECODED_SIZE_MAX_BYTES: usize = 256 * 1024;

/// A request's body.
#[must_use]
pub(super) fn request(what: What, body: &[u8]) -> Value {
    match what {
        What::RequestVoucher => signed(Document::Request, body),
        What::VoucherStatus | What::EnrolStatus => json_text(body),
        What::Enrol => csr(body),
        What::CaCertificates | What::CsrAttributes => Value::Null,
    }
}

/// An answer's body.
#[must_use]
pub(super) fn answer(what: What, status: u16, body: &[u8]) -> Value {
    if body.is_empty() || body.len() > DECODED_SIZE_MAX_BYTES {
        return Value::Null;
    }
    if status != 200 {
        return json!({ "text": text(body) });
    }
    match what {
        What::RequestVoucher => signed(Document::Voucher, body),
        What::CaCertificates | What::Enrol => bag(body),
        What::CsrAttributes => match est_der(body) {
            Some(der) => json!({ "der": hex::encode(der) }),
            None => json!({ "text": text(body) }),
        },
        What::VoucherStatus | What::EnrolStatus => json!({ "text": text(body) }),
    }
}

/// A certificate in a line.
#[must_use]
pub(super) fn certificate(certificate: &Certificate) -> Value {
    json!({
        "subject": certificate.subject(),
        "issuer": certificate.issuer(),
        "serial": hex::encode(certificate.serial_number()),
        "not_after": certificate.not_after().to_string(),
        "sha256": hex::encode(certificate.sha256()),
    })
}

fn signed(document: Document, body: &[u8]) -> Value {
    let opened = match open(document, body, None, &Tolerances::lenient()) {
        Ok(opened) => opened,
        Err(error) => return json!({ "unreadable": error.to_string(), "code": error.code() }),
    };
    // Shown to a person, never decided upon.
    let signed = opened.dangerous_peek();
    json!({
        "envelope": signed.envelope().name(),
        "payload": signed.payload().map(|payload| match signed.envelope() {
            Envelope::Cose => cbor(document, payload),
            Envelope::Cms | Envelope::Jws => json_text(payload),
        }),
        "signer": signed.signer_certificate().map(|one| one.subject()),
        "certificates": signed.certificates().iter().map(Certificate::subject).collect::<Vec<_>>(),
        "size": body.len(),
    })
}

/// CBOR with the names of its leaves.
fn cbor(document: Document, payload: &[u8]) -> Value {
    let lenient = Tolerances::lenient();
    let json = match document {
        Document::Request => {
            VoucherRequest::from_cbor(payload, &lenient).map(|(request, _)| request.to_json())
        }
        _ => Voucher::from_cbor(payload, &lenient).map(|(voucher, _)| voucher.to_json()),
    };
    match json {
        Ok(json) => json_text(&json),
        Err(error) => json!({ "unreadable": error.to_string(), "code": error.code() }),
    }
}

fn bag(body: &[u8]) -> Value {
    match est_der(body).map(|der| pki::pkcs7::parse_certs_only(&der)) {
        Some(Ok(certificates)) => {
            json!({ "certificates": certificates.iter().map(certificate).collect::<Vec<_>>() })
        }
        Some(Err(error)) => json!({ "unreadable": error.to_string(), "code": error.code() }),
        None => json!({ "text": text(body) }),
    }
}

fn csr(body: &[u8]) -> Value {
    match est_der(body).map(|der| Csr::from_der(&der)) {
        Some(Ok(csr)) => json!({
            "subject": csr.subject(),
            "key_sha256": hex::encode(csr.public_key().sha256()),
        }),
        Some(Err(error)) => json!({ "unreadable": error.to_string(), "code": error.code() }),
        None => json!({ "text": text(body) }),
    }
}

fn est_der(body: &[u8]) -> Option<Vec<u8>> {
    est::body::decode(
        body,
        DECODED_SIZE_MAX_BYTES,
        &est::body::BodyTolerances::all(),
    )
    .ok()
    .map(|(der, _)| der)
}

fn json_text(bytes: &[u8]) -> Value {
    serde_json::from_slice(bytes).unwrap_or_else(|_| json!({ "text": text(bytes) }))
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes)
        .chars()
        .map(|c| if c.is_control() { ' ' } else { c })
        .take(1000)
        .collect()
}
