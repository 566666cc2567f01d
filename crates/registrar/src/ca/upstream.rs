//! Another EST server as the CA.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use ::est::body::BodyTolerances;
use ::est::client::{self, HttpAnswer, HttpRequest, Outcome};
use arc_swap::ArcSwapOption;
use base64::{Engine as _, engine::general_purpose::STANDARD};
use bytes::Bytes;
use futures::future::BoxFuture;
use http::{HeaderMap, HeaderValue, Method, header};
use net::client::{ClientConfig, ClientLimits, Connection, Response, ServerTrust, Target};
use pki::path::{Anchors, PathOptions, Purpose};
use pki::{Certificate, Crl};
use serde::{Deserialize, Serialize};
use time::OffsetDateTime;
use url::Url;

use super::names::{alt_names_of, same_names};
use super::records::Revocation;
use super::{CaError, CertificateAuthority, Issued, Order};
use crate::config::anchored;

/// The `[ca.upstream]` part of the configuration.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct UpstreamConfig {
    /// The server, for example `https://ca.example.com` or `https://ca.example.com:8443`.
    pub url: String,
    /// The CA label, if the server wants one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub label: Option<String>,
    /// PEM file of the anchors of the server's TLS certificate.
    pub tls_anchors: PathBuf,
    /// PEM file of the CA's own certificates, root included: what `/cacerts` gives to devices and
    /// what issued certificates must lead to.
    pub ca_certificates: PathBuf,
    /// PEM file of the registrar's client certificate for this server, leaf first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub certificate: Option<PathBuf>,
    /// Its key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<String>,
    /// File with the passphrase of the key, or the PIN of its token.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub passphrase_file: Option<PathBuf>,
    /// The name for HTTP Basic, if the server wants that.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
    /// File with the password for HTTP Basic.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub password_file: Option<PathBuf>,
    /// Time for one whole exchange, connection included.
    #[serde(default = "default_timeout_seconds")]
    pub timeout_seconds: u64,
    /// Accept answers that follow older readings of EST: PEM or plain DER instead of base64.
    #[serde(default)]
    pub tolerate_body_encoding: bool,
}

const fn default_timeout_seconds() -> u64 {
    20
}

impl UpstreamConfig {
    pub(super) fn anchor_paths(&mut self, base: &Path) {
        self.tls_anchors = anchored(base, &self.tls_anchors);
        self.ca_certificates = anchored(base, &self.ca_certificates);
        for path in [
            &mut self.certificate,
            &mut self.passphrase_file,
            &mut self.password_file,
        ] {
            *path = path.as_deref().map(|path| anchored(base, path));
        }
        if let Some(key) = &mut self.key
            && !key.starts_with("pkcs11:")
        {
            *key = anchored(base, Path::new(key.as_str()))
                .to_string_lossy()
                .into_owned();
        }
    }
}

/// A CA that is reached by EST.
pub struct UpstreamCa {
    target: Target,
    client: ClientConfig,
    anchors: Arc<Anchors>,
    label: Option<String>,
    authorization: Option<HeaderValue>,
    ca_certificates: Vec<Certificate>,
    trust: client::DomainTrust,
    tolerances: BodyTolerances,
    timeout: Duration,
    /// What the server demanded of requests when it was asked last.
    demands: ArcSwapOption<::est::csrattrs::Requirements>,
}

impl std::fmt::Debug for UpstreamCa {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("UpstreamCa")
            .field("target", &self.target.to_string())
            .finish_non_exhaustive()
    }
}

impl UpstreamCa {
    /// Reads anchors and credentials. Nothing is connected yet.
    ///
    /// # Errors
    /// A file cannot be used, or the URL is not HTTPS.
    pub fn open(config: &UpstreamConfig) -> Result<Self, CaError> {
        let unusable =
            |error: &dyn std::fmt::Display| CaError::Config(format!("[ca.upstream]: {error}"));
        let url = Url::parse(&config.url).map_err(|error| unusable(&error))?;
        if url.scheme() != "https" {
            return Err(CaError::Config(
                "[ca.upstream] url must be https".to_owned(),
            ));
        }
        let target = Target::from_url(&url).map_err(|error| unusable(&error))?;
        let anchors = Anchors::load(&config.tls_anchors).map_err(|error| unusable(&error))?;
        let ca_certificates =
            Certificate::load_all(&config.ca_certificates).map_err(|error| unusable(&error))?;
        // No time here: certificates are judged again with each answer.
        let trust = client::CaCertificates::new(ca_certificates.clone())
            .judge(None, None)
            .map_err(|error| unusable(&error))?;
        let identity = match (&config.certificate, &config.key) {
            (Some(certificate), Some(key)) => Some(
                daemon::config::IdentityConfig {
                    passphrase_file: config.passphrase_file.clone(),
                    ..daemon::config::IdentityConfig::files(certificate.clone(), key.clone())
                }
                .load(Path::new("."))
                .map_err(|error| unusable(&error))?,
            ),
            (None, None) => None,
            _ => {
                return Err(CaError::Config(
                    "[ca.upstream] certificate and key go together".to_owned(),
                ));
            }
        };
        let authorization = match (&config.user, &config.password_file) {
            (Some(user), Some(file)) => {
                let text = std::fs::read_to_string(file).map_err(|error| unusable(&error))?;
                let password = text.lines().next().unwrap_or_default();
                let value = format!("Basic {}", STANDARD.encode(format!("{user}:{password}")));
                let mut value = HeaderValue::from_str(&value).map_err(|error| unusable(&error))?;
                value.set_sensitive(true);
                Some(value)
            }
            (None, None) => None,
            _ => {
                return Err(CaError::Config(
                    "[ca.upstream] user and password_file go together".to_owned(),
                ));
            }
        };
        let tolerances = if config.tolerate_body_encoding {
            BodyTolerances::all()
        } else {
            BodyTolerances::default()
        };
        Ok(Self {
            target,
            client: ClientConfig {
                identity,
                ..ClientConfig::default()
            },
            anchors: Arc::new(anchors),
            label: config.label.clone(),
            authorization,
            ca_certificates,
            trust,
            tolerances,
            timeout: Duration::from_secs(config.timeout_seconds.max(1)),
            demands: ArcSwapOption::empty(),
        })
    }

    async fn place(&self, order: &Order, now: OffsetDateTime) -> Result<Issued, CaError> {
        let mut connection = self.connect(now).await?;
        if self.demands.load().is_none() {
            let answer = self
                .send(
                    &mut connection,
                    client::csr_attrs_request(self.label.as_deref()),
                )
                .await?;
            // A server without that answer demands nothing.
            if let Ok(Outcome::Done(demands)) =
                client::csr_attrs(&http_answer(&answer), &self.tolerances)
            {
                self.demands.store(Some(Arc::new(demands)));
            }
        }
        // The registrar is not the holder of the certificate that is renewed, so even a renewal is
        // a simpleenroll here.
        let request = client::enroll_request(self.label.as_deref(), &order.csr);
        let answer = self.send(&mut connection, request).await?;
        let outcome = client::enrolled(
            &http_answer(&answer),
            &order.public_key,
            &self.trust,
            Some(now),
            now,
            &self.tolerances,
        );
        match outcome {
            Ok(Outcome::Done(enrolled)) => {
                check_names(&enrolled.certificate, order)?;
                Ok(Issued::Certificate(enrolled.certificate))
            }
            Ok(Outcome::Wait { after }) => Ok(Issued::Pending { retry_after: after }),
            Ok(Outcome::Redirect { location }) => {
                Err(CaError::Answer(format!("it redirects to {location}")))
            }
            Err(::est::Error::Status { status, detail }) if status < 500 => {
                Err(CaError::Refused(format!("{status} {detail}")))
            }
            Err(::est::Error::Status { status, detail }) => {
                Err(CaError::Unreachable(format!("{status} {detail}")))
            }
            Err(::est::Error::HttpAuthentication) => {
                Err(CaError::Refused("it wants other credentials".to_owned()))
            }
            Err(error) => Err(CaError::Answer(error.to_string())),
        }
    }

    async fn connect(&self, now: OffsetDateTime) -> Result<Connection, CaError> {
        let trust = ServerTrust::anchors(
            Arc::clone(&self.anchors),
            PathOptions::new(Purpose::Server, now),
        );
        let config = ClientConfig {
            trust,
            limits: ClientLimits {
                response_time_max: self.timeout,
                ..ClientLimits::default()
            },
            ..self.client.clone()
        };
        // EST-3.6-01: nothing is sent, credentials least of all, before the server is authorised.
        Connection::open(&self.target, &config)
            .await
            .map_err(|error| match error {
                net::Error::Untrusted { .. } => CaError::Untrusted(error.to_string()),
                error => CaError::Unreachable(error.to_string()),
            })
    }

    async fn send(
        &self,
        connection: &mut Connection,
        request: HttpRequest,
    ) -> Result<Response, CaError> {
        let mut headers = HeaderMap::new();
        headers.insert(header::ACCEPT, HeaderValue::from_static(request.accept));
        if let Some(content_type) = request.content_type {
            headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
        }
        if let Some(authorization) = &self.authorization {
            headers.insert(header::AUTHORIZATION, authorization.clone());
        }
        let method = if request.method == "POST" {
            Method::POST
        } else {
            Method::GET
        };
        connection
            .request(method, &request.path, headers, Bytes::from(request.body))
            .await
            .map_err(|error| CaError::Unreachable(error.to_string()))
    }
}

fn http_answer(response: &Response) -> HttpAnswer<'_> {
    HttpAnswer {
        status: response.status.as_u16(),
        content_type: response.header("content-type"),
        retry_after: response.header("retry-after"),
        location: response.header("location"),
        body: &response.body,
    }
}

/// The registrar chose the names; a CA that gives others gave another certificate than ordered.
fn check_names(certificate: &Certificate, order: &Order) -> Result<(), CaError> {
    let subject = order.subject.to_string();
    if certificate.subject() != subject {
        return Err(CaError::Answer(format!(
            "the subject is {}, ordered was {subject}",
            certificate.subject()
        )));
    }
    let given = alt_names_of(certificate)
        .map_err(|_| CaError::Answer("its subjectAltName cannot be read".to_owned()))?;
    if !same_names(&given, &order.alt_names) {
        return Err(CaError::Answer(format!(
            "it names {given:?}, ordered was {:?}",
            order.alt_names
        )));
    }
    if certificate.is_ca() {
        return Err(CaError::Answer(
            "the certificate is that of a CA".to_owned(),
        ));
    }
    Ok(())
}

impl CertificateAuthority for UpstreamCa {
    fn kind(&self) -> &'static str {
        "upstream"
    }

    fn ca_certificates(&self) -> Vec<Certificate> {
        self.ca_certificates.clone()
    }

    fn issue<'a>(
        &'a self,
        order: &'a Order,
        now: OffsetDateTime,
    ) -> BoxFuture<'a, Result<Issued, CaError>> {
        Box::pin(async move {
            tokio::time::timeout(self.timeout, self.place(order, now))
                .await
                .map_err(|_| CaError::Unreachable(format!("no answer in {:?}", self.timeout)))?
        })
    }

    fn takes_names_from_request(&self) -> bool {
        true
    }

    fn demands(&self) -> Option<Arc<::est::csrattrs::Requirements>> {
        self.demands.load_full()
    }

    fn sign_crl(
        &self,
        _number: u64,
        _revoked: &[Revocation],
        _now: OffsetDateTime,
    ) -> Result<Option<Crl>, CaError> {
        Ok(None)
    }
}
