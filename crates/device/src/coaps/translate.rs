//! From what the pledge decides, which speaks in terms of HTTP, to CoAP and back.

use ::est::body;
use ::est::coaps::{Operation, client, multipart};
use artifacts::{Envelope, Tolerances, VoucherStatus};
use base64::{Engine, engine::general_purpose::STANDARD};
use brski::pledge::{ANSWER_SIZE_MAX_BYTES, Request, What};
use coap::{Code, Response, format};
use pki::{Certificate, Csr};

use super::Config;
use crate::brski::link::Answer;

/// The resources of constrained BRSKI.
const VOUCHER: &str = ".well-known/brski/rv";
const VOUCHER_STATUS: &str = ".well-known/brski/vs";
pub(super) const ENROL_STATUS: &str = ".well-known/brski/es";

/// What a request is called.
pub(super) fn name(what: What) -> &'static str {
    match what {
        What::RequestVoucher => "rv",
        What::VoucherStatus => "vs",
        What::CaCertificates => "crts",
        What::CsrAttributes => "att",
        What::Enrol => "sen",
        What::EnrolStatus => "es",
    }
}

/// The request as it goes out.
pub(super) fn request(request: &Request, config: &Config) -> Result<coap::Request, String> {
    let label = config.device.est_label.as_deref();
    let made = match request.what {
        What::RequestVoucher => {
            coap::Request::post(VOUCHER, format::VOUCHER_COSE, request.body.clone())
        }
        // CBR-044: Telemetry is sent as CBOR with content-format 60.
        What::VoucherStatus => {
            coap::Request::post(VOUCHER_STATUS, format::CBOR, telemetry(request)?)
        }
        What::EnrolStatus => coap::Request::post(ENROL_STATUS, format::CBOR, telemetry(request)?),
        What::CaCertificates => client::ca_certificates_request(label, config.ca_format),
        What::CsrAttributes => client::csr_attrs_request(label),
        What::Enrol => {
            // ESC-019: Payloads are raw DER, never base64.
            let (der, _) = body::decode(
                &request.body,
                ANSWER_SIZE_MAX_BYTES,
                &body::BodyTolerances::default(),
            )
            .map_err(|error| error.to_string())?;
            let csr = Csr::from_der(&der).map_err(|error| error.to_string())?;
            let format = config.certificate_format;
            client::enrol_request(label, Operation::SimpleEnroll, &csr, format)
        }
    };
    Ok(finished(made, config))
}

/// What holds for every request of this device.
pub(super) fn finished(request: coap::Request, config: &Config) -> coap::Request {
    coap::Request {
        abbreviated: config.abbreviated,
        block_exponent: config.small.then_some(super::SMALL_BLOCK_EXPONENT),
        ..request
    }
}

/// The report in CBOR, whatever it was made in.
fn telemetry(request: &Request) -> Result<Vec<u8>, String> {
    let is_json = request
        .headers
        .iter()
        .any(|(name, value)| *name == "content-type" && value.starts_with("application/json"));
    if !is_json {
        return Ok(request.body.clone());
    }
    VoucherStatus::from_json(&request.body, &Tolerances::strict())
        .map(|(status, _)| status.to_cbor())
        .map_err(|error| error.to_string())
}

/// The answer as the pledge reads it.
pub(super) fn answer(what: What, response: &Response, config: &Config) -> Answer {
    let shown = shown(response.code);
    let mut headers = Vec::new();
    let mut body = response.payload.clone();
    let status = match response.code {
        Code::SERVICE_UNAVAILABLE if matches!(what, What::RequestVoucher | What::Enrol) => {
            // CBR-057: On 5.03 with Max-Age the pledge waits Max-Age seconds and repeats the
            // identical PVR.
            // ESC-041: After 5.03 the identical CSR is resent after Max-Age.
            let seconds = response
                .max_age
                .map_or(client::MAX_AGE_DEFAULT.as_secs(), u64::from);
            headers.push(("retry-after".to_owned(), seconds.to_string()));
            202
        }
        code if code.is_success() => {
            let (media_type, content) = content(what, response, config);
            headers.push(("content-type".to_owned(), media_type));
            body = content;
            200
        }
        _ => shown,
    };
    Answer {
        status,
        shown,
        headers,
        body,
    }
}

/// 204 for 2.04.
pub(super) fn shown(code: Code) -> u16 {
    u16::from(code.class()) * 100 + u16::from(code.detail())
}

/// Media type and body of a success, as over HTTPS.
fn content(what: What, response: &Response, config: &Config) -> (String, Vec<u8>) {
    let unknown = || {
        let name = match response.content_format {
            Some(number) => format!("content-format {number}"),
            None => "no content-format".to_owned(),
        };
        (name, response.payload.clone())
    };
    match (what, response.content_format) {
        (What::RequestVoucher, Some(format::VOUCHER_COSE)) => (
            Envelope::Cose.media_type().to_owned(),
            response.payload.clone(),
        ),
        // Deployed stacks say it of a voucher; it is the more general name.
        (What::RequestVoucher, Some(format::COSE_SIGN1))
            if config.device.tolerances.old_cose_media_type =>
        {
            (
                Envelope::Cose.media_type().to_owned(),
                response.payload.clone(),
            )
        }
        (What::CaCertificates | What::Enrol, Some(_)) => match bag(response) {
            Some(bag) => (
                body::PKCS7_MIME_CERTS_ONLY.to_owned(),
                STANDARD.encode(bag).into_bytes(),
            ),
            None => unknown(),
        },
        (What::CsrAttributes, Some(format::CSR_ATTRS)) => (
            body::CSR_ATTRS.to_owned(),
            STANDARD.encode(&response.payload).into_bytes(),
        ),
        _ => unknown(),
    }
}

/// The certificates of an answer in a PKCS#7 bag.
fn bag(response: &Response) -> Option<Vec<u8>> {
    let certificates = match response.content_format? {
        format::PKCS7_CERTS_ONLY => return Some(response.payload.clone()),
        format::PKIX_CERT => vec![Certificate::from_der(&response.payload).ok()?],
        format::MULTIPART_CORE => {
            let mut found = Vec::new();
            for (format, content) in multipart::read(&response.payload).ok()? {
                if let (format::PKIX_CERT, Some(der)) = (format, content) {
                    found.push(Certificate::from_der(der).ok()?);
                }
            }
            found
        }
        _ => return None,
    };
    pki::pkcs7::certs_only(&certificates).ok()
}
