//! Guesses what some octets are, whatever they are wrapped in.

use artifacts::conveyed::{ID_CT_SZTP_CONVEYED_INFO_JSON, ID_CT_SZTP_CONVEYED_INFO_XML};
use artifacts::{Encoding, Signed};
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use est::csrattrs::CsrAttrs;
use pki::cms::{ID_DATA, ID_ENVELOPED_DATA, ID_SIGNED_DATA, SignedData};
use pki::{Certificate, Crl, Csr, ObjectIdentifier};
use serde_json::Value;
use sztp::dhcp::Report;

use super::constrained::{content, is_cose};

/// What was found.
#[derive(Debug)]
pub(super) enum Form {
    /// CMS SignedData with at least one signer, or something that begins like it.
    Cms(Vec<u8>),
    /// JSON Web Signature in any serialisation.
    Jws(Vec<u8>),
    /// COSE, of whichever kind.
    Cose(Vec<u8>),
    /// CBOR without a signature.
    Cbor(Vec<u8>),
    /// One certificate, or several from PEM.
    Certificates(Vec<Certificate>),
    /// A certs-only PKCS#7 bag.
    Pkcs7(Vec<Certificate>),
    /// A PKCS#10 request.
    Csr(Box<Csr>),
    /// A CRL.
    Crl(Crl),
    /// CSR attributes of an EST server.
    CsrAttributes(CsrAttrs),
    /// JSON without a signature.
    Json(Vec<u8>, Value),
    /// Conveyed information, signed or unsigned, in its CMS.
    Conveyed(Vec<u8>),
    /// The document of conveyed information without its CMS.
    ConveyedDocument(Vec<u8>, Encoding),
    /// CMS EnvelopedData.
    Enveloped(Vec<u8>),
    /// The redirect option of DHCP, as octets, as text or as hexadecimal.
    DhcpOption(Box<Report>),
    /// Known by name, and not supported.
    Unsupported(&'static str),
    /// DER or BER, but of what?
    UnknownDer,
    /// Nothing that is known.
    Unknown,
}

/// Form and the layers that were taken off, outermost first.
#[derive(Debug)]
pub(super) struct Sniffed {
    pub(super) wrapped_in: Vec<&'static str>,
    pub(super) form: Form,
}

/// The longest text that is taken for hexadecimal.
const HEXADECIMAL_MAX_CHARS: usize = 256 * 1024;
/// The most layers of text armour that are taken off.
const LAYERS_MAX: usize = 3;
/// DER of the object identifier id-signedData.
const SIGNED_DATA: &[u8] = &[
    0x06, 0x09, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x07, 0x02,
];

/// Looks at the octets.
pub(super) fn sniff(bytes: &[u8]) -> Sniffed {
    let mut wrapped_in = Vec::new();
    if let Some(report) = dhcp_option(bytes) {
        let form = Form::DhcpOption(Box::new(report));
        return Sniffed { wrapped_in, form };
    }
    let mut bytes = bytes.to_vec();
    loop {
        if let Some(form) = bare(&bytes) {
            return Sniffed { wrapped_in, form };
        }
        let text = String::from_utf8_lossy(&bytes).into_owned();
        let text = text.trim().trim_start_matches('\u{feff}');
        if wrapped_in.len() == LAYERS_MAX {
            return Sniffed {
                wrapped_in,
                form: Form::Unknown,
            };
        }
        if text.contains("-----BEGIN ") {
            match pem(text) {
                Pem::Found(form) => {
                    wrapped_in.push("pem");
                    return Sniffed { wrapped_in, form };
                }
                Pem::Octets(inner) => {
                    wrapped_in.push("pem");
                    bytes = inner;
                }
                Pem::Broken => {
                    return Sniffed {
                        wrapped_in,
                        form: Form::Unknown,
                    };
                }
            }
        } else if let Some(inner) = hexadecimal(text) {
            wrapped_in.push("hex");
            bytes = inner;
        } else if let Some(inner) = base64(text) {
            wrapped_in.push("base64");
            bytes = inner;
        } else {
            return Sniffed {
                wrapped_in,
                form: Form::Unknown,
            };
        }
    }
}

/// A list of URIs with their lengths: within the first octets, or the first digits of a
/// hexadecimal paste, a URI begins.
fn dhcp_option(bytes: &[u8]) -> Option<Report> {
    const HEAD_OCTETS: usize = 12;
    let head = bytes.get(..bytes.len().min(HEAD_OCTETS))?;
    let begins = |scheme: &[u8]| head.windows(scheme.len()).any(|part| part == scheme);
    let text = bytes.get(..bytes.len().min(4 * HEAD_OCTETS))?;
    let digits: String = text
        .iter()
        .filter(|octet| octet.is_ascii_hexdigit())
        .map(|octet| char::from(octet.to_ascii_lowercase()))
        .collect();
    let is_hex = text.iter().all(|octet| {
        octet.is_ascii_hexdigit() || octet.is_ascii_whitespace() || b":.-x".contains(octet)
    });
    // `http` in hexadecimal.
    if begins(b"http") || is_hex && digits.contains("68747470") {
        sztp::dhcp::inspect(bytes).ok()
    } else {
        None
    }
}

/// What the octets are without any armour.
fn bare(bytes: &[u8]) -> Option<Form> {
    let text = bytes
        .strip_prefix(b"\xef\xbb\xbf")
        .unwrap_or(bytes)
        .trim_ascii();
    match (bytes.first()?, text.first()) {
        (0x30, _) => Some(der(bytes)),
        _ if is_cose(bytes) => Some(Form::Cose(bytes.to_vec())),
        // No text in UTF-8 begins with such an octet.
        (0x80..=0xbf, _) => Some(Form::Cbor(bytes.to_vec())),
        (_, Some(b'{')) => Some(json(bytes, text)),
        (_, Some(b'<')) => Some(xml(bytes)),
        _ if is_compact_jws(text) => Some(Form::Jws(bytes.to_vec())),
        _ => None,
    }
}

/// The namespace of conveyed information, in whatever capitals.
fn xml(bytes: &[u8]) -> Form {
    let head = bytes.get(..bytes.len().min(1024)).unwrap_or_default();
    let head = String::from_utf8_lossy(head).to_ascii_lowercase();
    if head.contains("ietf-sztp-conveyed-info") {
        Form::ConveyedDocument(bytes.to_vec(), Encoding::Xml)
    } else {
        Form::Unsupported("XML")
    }
}

/// Whether the content of a CMS is conveyed information.
fn is_conveyed(content_type: ObjectIdentifier, content: Option<&[u8]>) -> bool {
    match content_type {
        ID_CT_SZTP_CONVEYED_INFO_JSON | ID_CT_SZTP_CONVEYED_INFO_XML => true,
        ID_DATA => matches!(content.and_then(bare), Some(Form::ConveyedDocument(..))),
        _ => false,
    }
}

fn der(bytes: &[u8]) -> Form {
    match pki::cms::content_type_of(bytes) {
        Ok(ID_ENVELOPED_DATA) => return Form::Enveloped(bytes.to_vec()),
        Ok(id) if id.to_string() == "1.2.840.113549.1.9.16.1.23" => {
            return Form::Unsupported("CMS AuthEnvelopedData");
        }
        Ok(ID_SIGNED_DATA) => {
            if let Ok(cms) = SignedData::parse(bytes)
                && is_conveyed(cms.content_type(), cms.content())
            {
                return Form::Conveyed(bytes.to_vec());
            }
        }
        Ok(_) => {
            if let Ok((id, content, _)) = pki::cms::parse_plain(bytes, |_| true)
                && is_conveyed(id, Some(&content))
            {
                return Form::Conveyed(bytes.to_vec());
            }
        }
        Err(_) => {}
    }
    let head = bytes.get(..bytes.len().min(24)).unwrap_or_default();
    if head
        .windows(SIGNED_DATA.len())
        .any(|window| window == SIGNED_DATA)
    {
        let signers =
            SignedData::parse(bytes).map(|cms| (cms.signer_count(), cms.content().is_some()));
        if matches!(signers, Ok((0, false)))
            && let Ok(certificates) = pki::pkcs7::parse_certs_only(bytes)
        {
            return Form::Pkcs7(certificates);
        }
        return Form::Cms(bytes.to_vec());
    }
    if let Ok(certificate) = Certificate::from_der(bytes) {
        return Form::Certificates(vec![certificate]);
    }
    if let Ok(csr) = Csr::from_der(bytes) {
        return Form::Csr(Box::new(csr));
    }
    if let Ok(crl) = Crl::from_der(bytes) {
        return Form::Crl(crl);
    }
    match CsrAttrs::from_der(bytes) {
        Ok(attributes) => Form::CsrAttributes(attributes),
        Err(_) => Form::UnknownDer,
    }
}

fn json(bytes: &[u8], text: &[u8]) -> Form {
    // Broken JSON may still be meant as a JWS; its own parser then says what is wrong.
    let Ok(value) = serde_json::from_slice::<Value>(text) else {
        let signed = text.windows(9).any(|window| window == b"\"payload\"");
        return if signed {
            Form::Jws(bytes.to_vec())
        } else {
            Form::Json(bytes.to_vec(), Value::Null)
        };
    };
    if value.get("payload").is_some() || value.get("signatures").is_some() {
        return Form::Jws(bytes.to_vec());
    }
    let conveyed = value.as_object().is_some_and(|members| {
        members
            .keys()
            .any(|name| name.starts_with("ietf-sztp-conveyed-info:"))
    });
    if conveyed {
        Form::ConveyedDocument(bytes.to_vec(), Encoding::Json)
    } else {
        Form::Json(bytes.to_vec(), value)
    }
}

/// What a signed envelope carries that is known by name and not supported.
pub(super) fn unsupported_content(signed: &Signed) -> Option<&'static str> {
    let value = content(signed)?;
    let name = value.as_object()?.keys().next()?;
    name.starts_with("ietf-sztp-")
        .then_some("conveyed information")
}

fn is_compact_jws(text: &[u8]) -> bool {
    text.starts_with(b"eyJ") && text.iter().filter(|byte| **byte == b'.').count() == 2
}

enum Pem {
    Found(Form),
    Octets(Vec<u8>),
    Broken,
}

fn pem(text: &str) -> Pem {
    let Some(label) = text
        .split("-----BEGIN ")
        .nth(1)
        .and_then(|rest| rest.split_once("-----"))
    else {
        return Pem::Broken;
    };
    match label.0 {
        "CERTIFICATE" => match Certificate::all_from_pem(text) {
            Ok(certificates) if !certificates.is_empty() => {
                Pem::Found(Form::Certificates(certificates))
            }
            _ => pem_octets(label.1),
        },
        name if name.ends_with("PRIVATE KEY") => {
            Pem::Found(Form::Unsupported("a private key (not shown)"))
        }
        _ => pem_octets(label.1),
    }
}

fn pem_octets(rest: &str) -> Pem {
    let body = rest.split_once("-----END ").map(|(body, _)| body);
    match body.and_then(base64) {
        Some(octets) => Pem::Octets(octets),
        None => Pem::Broken,
    }
}

/// Hexadecimal digits, as drafts print CBOR. They are base64 of something too, so what they say
/// has to be COSE or well-formed CBOR.
fn hexadecimal(text: &str) -> Option<Vec<u8>> {
    if text.len() > HEXADECIMAL_MAX_CHARS {
        return None;
    }
    let digits: String = text.chars().filter(|c| !c.is_ascii_whitespace()).collect();
    let octets = hex::decode(&digits).ok()?;
    let is = match bare(&octets)? {
        Form::Cose(_) => true,
        Form::Cbor(inner) => artifacts::cbor::Item::parse(&inner).is_ok(),
        _ => false,
    };
    is.then_some(octets)
}

fn base64(text: &str) -> Option<Vec<u8>> {
    let text: String = text.chars().filter(|c| !c.is_ascii_whitespace()).collect();
    if text.len() < 8 {
        return None;
    }
    let bare = text.trim_end_matches('=');
    STANDARD
        .decode(&text)
        .or_else(|_| URL_SAFE_NO_PAD.decode(bare))
        .ok()
}
