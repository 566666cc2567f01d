//! What goes back to the peer.

use std::time::Duration;

use pki::{Certificate, Coded};

use super::Refusal;
use crate::{CsrAttrs, Error, body, multipart};

/// What an answer brings, before a transport has encoded it.
#[derive(Clone, Default, PartialEq, Eq)]
pub enum Content {
    /// Nothing that a client could use.
    #[default]
    None,
    /// CA certificates.
    CaCertificates(Vec<Certificate>),
    /// CSR attributes, DER.
    CsrAttrs(Vec<u8>),
    /// An issued certificate.
    Certificate(Certificate),
    /// A generated key and its certificate.
    KeyAndCertificate {
        /// An unencrypted PKCS#8 `PrivateKeyInfo`.
        private_key_pkcs8: Vec<u8>,
        /// The certificate.
        certificate: Certificate,
    },
}

/// Shows no key.
impl std::fmt::Debug for Content {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::None => "None",
            Self::CaCertificates(_) => "CaCertificates",
            Self::CsrAttrs(_) => "CsrAttrs",
            Self::Certificate(_) => "Certificate",
            Self::KeyAndCertificate { .. } => "KeyAndCertificate",
        })
    }
}

/// An answer as HTTP has it, without the transport's own headers. CoAP makes its own of
/// [`Self::content`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// HTTP status.
    pub status: u16,
    /// Content-Type, absent where there is no body.
    pub content_type: Option<String>,
    /// Content-Transfer-Encoding. RFC 8951 §3 has receivers ignore it; clients from before it
    /// refuse an answer without.
    pub content_transfer_encoding: Option<&'static str>,
    /// Seconds for a Retry-After header.
    pub retry_after_seconds: Option<u64>,
    /// A challenge for a WWW-Authenticate header.
    pub www_authenticate: Option<&'static str>,
    /// Methods for an Allow header.
    pub allow: Option<&'static str>,
    /// The body.
    pub body: Vec<u8>,
    /// What the body says.
    pub content: Content,
    /// The code of a refusal, for logs and the timeline.
    pub code: Option<&'static str>,
}

/// Two extensionReq attributes, each with an empty value, which the RFC forbids.
const EXTENSION_REQUESTS: &[u8] = &[
    0x30, 0x22, 0x30, 0x0f, 6, 9, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 9, 14, 0x31, 2, 0x30, 0,
    0x30, 0x0f, 6, 9, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 9, 14, 0x31, 2, 0x30, 0,
];

impl Answer {
    fn bare(status: u16) -> Self {
        Self {
            status,
            content_type: None,
            content_transfer_encoding: None,
            retry_after_seconds: None,
            www_authenticate: None,
            allow: None,
            body: Vec::new(),
            content: Content::None,
            code: None,
        }
    }

    fn base64(content_type: &str, der: &[u8]) -> Self {
        let mut body = body::encode(der);
        if defects::seeded!("est-answers-in-binary") {
            body = der.to_vec();
        }
        if defects::seeded!("est-answers-in-pem") {
            let begin = b"-----BEGIN PKCS7-----\n".as_slice();
            body = [begin, &body, b"\n-----END PKCS7-----\n"].concat();
        }
        Self {
            content_type: Some(content_type.to_owned()),
            content_transfer_encoding: Some("base64"),
            body,
            ..Self::bare(200)
        }
    }

    /// The bag of CA certificates.
    ///
    /// # Errors
    /// The bag cannot be encoded.
    pub fn ca_certificates(certificates: &[Certificate]) -> Result<Self, Error> {
        // EST-4.1.3-01: "A successful response MUST be a certs-only CMC Simple PKI Response".
        let bag = pki::pkcs7::certs_only(certificates)?;
        Ok(Self {
            content: Content::CaCertificates(certificates.to_vec()),
            ..if defects::seeded!("est-cacerts-as-certificate") {
                let first = certificates.first().map(Certificate::der);
                Self::base64("application/pkix-cert", first.unwrap_or_default())
            } else {
                Self::base64(body::PKCS7_MIME, &bag)
            }
        })
    }

    /// The CSR attributes; 204 if there are none.
    ///
    /// # Errors
    /// The attributes cannot be encoded.
    pub fn csr_attrs(attributes: Option<&CsrAttrs>) -> Result<Self, Error> {
        match attributes.filter(|attributes| !attributes.is_empty()) {
            // EST8951-4-01: DER, then base64, without headers.
            Some(attributes) => {
                let mut der = attributes.to_der()?;
                if defects::seeded!("est-csrattrs-twice") {
                    der = EXTENSION_REQUESTS.to_vec();
                }
                let media_type = if defects::seeded!("est-csrattrs-as-octets") {
                    "application/octet-stream"
                } else {
                    body::CSR_ATTRS
                };
                Ok(Self {
                    content: Content::CsrAttrs(der.clone()),
                    ..Self::base64(media_type, &der)
                })
            }
            None => Ok(Self::bare(204)),
        }
    }

    /// An issued certificate.
    ///
    /// # Errors
    /// The bag cannot be encoded.
    pub fn certificate(certificate: &Certificate) -> Result<Self, Error> {
        // EST-4.2.3-02: "containing only the certificate that was issued".
        let mut bag = pki::pkcs7::certs_only(std::slice::from_ref(certificate))?;
        if defects::seeded!("est-answers-with-bare-certificate") {
            bag = certificate.der().to_vec();
        }
        let media_type = if defects::seeded!("est-answers-without-smime-type") {
            body::PKCS7_MIME
        } else {
            body::PKCS7_MIME_CERTS_ONLY
        };
        Ok(Self {
            content: Content::Certificate(certificate.clone()),
            ..Self::base64(media_type, &bag)
        })
    }

    /// A generated key and its certificate.
    ///
    /// # Errors
    /// The bag cannot be encoded.
    pub fn key_and_certificate(
        private_key_pkcs8: &[u8],
        certificate: &Certificate,
    ) -> Result<Self, Error> {
        let bag = pki::pkcs7::certs_only(std::slice::from_ref(certificate))?;
        let (content_type, body) = multipart::write(private_key_pkcs8, &bag);
        Ok(Self {
            content_type: Some(content_type),
            body,
            content: Content::KeyAndCertificate {
                private_key_pkcs8: private_key_pkcs8.to_vec(),
                certificate: certificate.clone(),
            },
            ..Self::bare(200)
        })
    }

    /// Accepted, and not decided yet.
    #[must_use]
    pub fn accepted(retry_after: Duration) -> Self {
        Self {
            // EST-4.2.3-05: "The server MUST include a Retry-After header".
            retry_after_seconds: Some(retry_after.as_secs().max(1)),
            content_type: Some(body::TEXT_PLAIN.to_owned()),
            body: b"accepted for processing; repeat the same request later\n".to_vec(),
            ..Self::bare(202)
        }
    }

    /// A refusal.
    #[must_use]
    pub fn refused(refusal: &Refusal) -> Self {
        Self {
            // HTTP has no 401 without a challenge.
            www_authenticate: matches!(refusal, Refusal::CredentialsRequired)
                .then_some("Basic realm=\"est\", charset=\"UTF-8\""),
            allow: match refusal {
                Refusal::MethodNotAllowed(operation) => Some(operation.method()),
                _ => None,
            },
            ..Self::failed(refusal.status(), refusal.code(), &refusal.to_string())
        }
    }

    /// An answer of 4xx or 5xx with its code and a sentence for a human reader
    /// ([RFC 7030 §4.2.3](https://www.rfc-editor.org/rfc/rfc7030.html#section-4.2.3)).
    #[must_use]
    pub fn failed(status: u16, code: &'static str, detail: &str) -> Self {
        Self {
            content_type: Some(body::TEXT_PLAIN.to_owned()),
            body: format!("{code}: {detail}\n").into_bytes(),
            code: Some(code),
            ..Self::bare(status)
        }
    }
}
