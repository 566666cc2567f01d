//! Judging the server while the handshake runs.

use std::sync::{Arc, Mutex, PoisonError};

use pki::path::{self, PathOptions, ServerName as PathName};
use pki::{Certificate, Coded};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{ResolvesClientCert, Resumption};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::sign::CertifiedKey;
use rustls::{CertificateError, DigitallySignedStruct, SignatureScheme};

use super::{ClientConfig, Host, ServerTrust, Sni};
use crate::{Error, HttpVersion, TlsVersions, tls};

/// The TLS side of one connection, and the judge that remembers why it refused.
pub(super) fn rustls_config(
    host: &Host,
    config: &ClientConfig,
) -> Result<(rustls::ClientConfig, Arc<Judge>), Error> {
    let judge = Arc::new(Judge {
        trust: config.trust.clone(),
        host: host.clone(),
        refusal: Mutex::new(None),
    });
    let versions = if config.http == HttpVersion::Http3 {
        TlsVersions::Only13
    } else {
        config.tls
    };
    let builder = rustls::ClientConfig::builder_with_provider(tls::provider())
        .with_protocol_versions(versions.rustls())
        .map_err(|error| Error::Handshake(error.to_string()))?
        .dangerous()
        .with_custom_certificate_verifier(Arc::clone(&judge) as Arc<dyn ServerCertVerifier>);
    let mut rustls = match &config.identity {
        Some(identity) => {
            builder.with_client_cert_resolver(Arc::new(Own(tls::certified_key(identity)?)))
        }
        None => builder.with_no_client_auth(),
    };
    rustls.alpn_protocols = vec![config.http.alpn().to_vec()];
    rustls.enable_sni = config.sni == Sni::HostName;
    // Each connection stands for itself: what a pledge concludes from one must not leak into the next.
    rustls.resumption = Resumption::disabled();
    Ok((rustls, judge))
}

/// The server certificate verifier of one connection.
pub(super) struct Judge {
    trust: ServerTrust,
    host: Host,
    refusal: Mutex<Option<Error>>,
}

impl Judge {
    /// Why the server was refused, if it was.
    pub(super) fn refusal(&self) -> Option<Error> {
        self.refusal
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take()
    }

    fn judge(&self, leaf: &[u8], others: &[CertificateDer<'_>]) -> Result<(), Error> {
        match &self.trust {
            ServerTrust::Provisional => Ok(()),
            ServerTrust::Pinned(pins) => {
                if pins.iter().any(|pin| pin.der() == leaf) {
                    return Ok(());
                }
                Err(Error::Untrusted {
                    code: "net.not-pinned",
                    source: "the server's certificate is not the pinned one".into(),
                })
            }
            ServerTrust::Anchors { anchors, options } => {
                let leaf = Certificate::from_der(leaf).map_err(unreadable)?;
                // A chain with a broken certificate in it may still lead to an anchor without it.
                let others: Vec<_> = others
                    .iter()
                    .filter_map(|der| Certificate::from_der(der).ok())
                    .collect();
                let mut options: PathOptions = (**options).clone();
                if options.name.is_none() {
                    options.name = Some(match &self.host {
                        Host::Name(name) => PathName::Dns(name.clone()),
                        Host::Address(address) => PathName::Ip(*address),
                    });
                }
                path::validate(&leaf, &others, anchors, &options)
                    .map(|_| ())
                    .map_err(|error| Error::Untrusted {
                        code: error.code(),
                        source: Box::new(error),
                    })
            }
        }
    }
}

pub(super) fn unreadable(error: pki::Error) -> Error {
    Error::Untrusted {
        code: error.code(),
        source: Box::new(error),
    }
}

impl std::fmt::Debug for Judge {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Judge")
            .field("trust", &self.trust)
            .finish_non_exhaustive()
    }
}

impl ServerCertVerifier for Judge {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        match self.judge(end_entity, intermediates) {
            Ok(()) => Ok(ServerCertVerified::assertion()),
            Err(error) => {
                *self.refusal.lock().unwrap_or_else(PoisonError::into_inner) = Some(error);
                Err(CertificateError::ApplicationVerificationFailure.into())
            }
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        tls::verify_possession(message, certificate, signed, false)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        tls::verify_possession(message, certificate, signed, true)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        tls::verify_schemes()
    }
}

/// The one client certificate, whatever the server hints at: an IDevID is the only one there is.
#[derive(Debug)]
struct Own(Arc<CertifiedKey>);

impl ResolvesClientCert for Own {
    fn resolve(
        &self,
        _root_hint_subjects: &[&[u8]],
        schemes: &[SignatureScheme],
    ) -> Option<Arc<CertifiedKey>> {
        tls::can_sign_for(&self.0, schemes).then(|| Arc::clone(&self.0))
    }

    fn has_certs(&self) -> bool {
        true
    }
}
