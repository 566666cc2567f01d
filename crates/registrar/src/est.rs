//! The EST routes: `/.well-known/est[/label]/{operation}` and `/crl`.
//!
//! What is answered comes from [`::est::server`]; this module finds out who asks ([`who`]), gets
//! certificates from the CA, and writes each attempt into the timeline.

mod carry;
mod users;
mod who;

pub use self::users::{UserCommand, hash_password};

use std::path::{Path, PathBuf};
use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::extract::{Extension, Path as UrlPath, Request, State};
use axum::response::Response;
use axum::routing::{any, get};
use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, header};
use http_body_util::{BodyExt as _, LengthLimitError, Limited};
use net::Peer;
use pki::path::Anchors;
use pki::{Coded as _, KeyKind};
use serde::{Deserialize, Serialize};

use ::est::Operation;
use ::est::body::{BODY_SIZE_MAX_BYTES, BodyError, BodyTolerances};
use ::est::csrattrs::{Demand, KeyRequirement, oids};
use ::est::server::{Answer, ChannelBinding, Policy, Refusal, Transport};

use self::users::Users;
use crate::Error;
use crate::ca::{AcpNames, NamePlan, current_crl};
use crate::config::anchored;
use crate::service::{Attempt, Caller, Service};

/// The `[est]` part of the configuration.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// What is done about challengePassword: `verify` it if it is there, `require` it, or `ignore`
    /// it for clients that put something else there.
    pub channel_binding: Binding,
    /// The kind of key that devices are told to make, for example `ec-p256`; any if unset.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub key: Option<KeyName>,
    /// Whether `/csrattrs` also carries the RFC 9908 template with the subject for the device.
    pub template: bool,
    /// Whether keys are generated here for devices that ask for it.
    pub server_keygen: bool,
    /// The kind of key that is generated here.
    pub server_keygen_key: KeyName,
    /// Whether a device that holds a certificate of this domain may enrol for further ones.
    pub additional_certificates: bool,
    /// Accept a PEM file where base64 belongs.
    pub tolerate_pem: bool,
    /// Accept plain DER where base64 belongs.
    pub tolerate_binary_der: bool,
    /// Labels under which the same CA is served, as in `/.well-known/est/LABEL/cacerts`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub labels: Vec<String>,
    /// EST for clients that do not speak BRSKI. Off if unset.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub without_brski: Option<WithoutBrski>,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            channel_binding: Binding::Verify,
            key: None,
            template: true,
            server_keygen: false,
            server_keygen_key: KeyName::EcP256,
            additional_certificates: false,
            tolerate_pem: false,
            tolerate_binary_der: false,
            labels: Vec::new(),
            without_brski: None,
        }
    }
}

/// The `[est.without_brski]` part: plain RFC 7030 for servers and other machines. Whoever shows a
/// certificate of `client_cas`, or the password of a user, gets a certificate without any voucher.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct WithoutBrski {
    /// The label that is served this way; all paths if unset.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub label: Option<String>,
    /// PEM files of CAs whose TLS clients may enrol.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub client_cas: Vec<PathBuf>,
    /// File of users for HTTP Basic, made by `usher registrar est-user`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub users_file: Option<PathBuf>,
    /// The subject of their certificates; `{name}` is the user, or the common name of the client
    /// certificate, and `{serial}` its serialNumber.
    pub subject: String,
    /// Their subject alternative names, as in `[ca]`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub alt_names: Vec<String>,
    /// Whether a client of `client_cas` whose certificate has the extended key usage cmcRA speaks
    /// for others: it then gets certificates for the names in its requests. Another registrar that
    /// has this one as its `[ca.upstream]` needs that.
    pub registration_authorities: bool,
}

impl Default for WithoutBrski {
    fn default() -> Self {
        Self {
            label: None,
            client_cas: Vec::new(),
            users_file: None,
            subject: "CN={name}".to_owned(),
            alt_names: Vec::new(),
            registration_authorities: false,
        }
    }
}

/// What is done about challengePassword.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Binding {
    /// Pass it over.
    Ignore,
    /// Demand it.
    Require,
    /// Verify it if it is there.
    #[default]
    Verify,
}

/// Kinds of keys by name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "kebab-case")]
#[expect(missing_docs, reason = "the names say all there is to say")]
pub enum KeyName {
    EcP256,
    EcP384,
    EcP521,
    Ed25519,
    MlDsa44,
    MlDsa65,
    MlDsa87,
    Rsa2048,
    Rsa3072,
    Rsa4096,
}

impl KeyName {
    /// The kind as `pki` knows it.
    #[must_use]
    pub const fn kind(self) -> KeyKind {
        match self {
            Self::EcP256 => KeyKind::EcdsaP256,
            Self::EcP384 => KeyKind::EcdsaP384,
            Self::EcP521 => KeyKind::EcdsaP521,
            Self::Ed25519 => KeyKind::Ed25519,
            Self::MlDsa44 => KeyKind::MlDsa44,
            Self::MlDsa65 => KeyKind::MlDsa65,
            Self::MlDsa87 => KeyKind::MlDsa87,
            Self::Rsa2048 => KeyKind::Rsa2048,
            Self::Rsa3072 => KeyKind::Rsa3072,
            Self::Rsa4096 => KeyKind::Rsa4096,
        }
    }

    /// The kind as CSR attributes say it.
    #[must_use]
    pub const fn requirement(self) -> KeyRequirement {
        match self {
            Self::EcP256 => KeyRequirement::Ec {
                curve: Some(oids::SECP256R1),
            },
            Self::EcP384 => KeyRequirement::Ec {
                curve: Some(oids::SECP384R1),
            },
            Self::EcP521 => KeyRequirement::Ec {
                curve: Some(oids::SECP521R1),
            },
            Self::Ed25519 => KeyRequirement::Other(oids::ED25519),
            Self::MlDsa44 => KeyRequirement::Other(oids::ML_DSA_44),
            Self::MlDsa65 => KeyRequirement::Other(oids::ML_DSA_65),
            Self::MlDsa87 => KeyRequirement::Other(oids::ML_DSA_87),
            Self::Rsa2048 => KeyRequirement::Rsa { bits: Some(2048) },
            Self::Rsa3072 => KeyRequirement::Rsa { bits: Some(3072) },
            Self::Rsa4096 => KeyRequirement::Rsa { bits: Some(4096) },
        }
    }
}

impl Config {
    /// Makes relative paths relative to the folder of the configuration file.
    pub(crate) fn anchor_paths(&mut self, base: &Path) {
        if let Some(plain) = &mut self.without_brski {
            for path in &mut plain.client_cas {
                *path = anchored(base, path);
            }
            plain.users_file = plain.users_file.as_deref().map(|path| anchored(base, path));
        }
    }

    /// Whether a label leads to this registrar's CA.
    fn knows(&self, label: Option<&str>) -> bool {
        label.is_none_or(|label| {
            self.labels.iter().any(|known| known == label)
                || self
                    .without_brski
                    .as_ref()
                    .and_then(|plain| plain.label.as_deref())
                    == Some(label)
        })
    }
}

/// What the handlers share.
#[derive(Clone)]
pub(crate) struct Shared(Arc<Inner>);

struct Inner {
    service: Service,
    names: NamePlan,
    acp_names: AcpNames,
    plain: Option<Plain>,
}

/// Enrolment without BRSKI, with its files read.
struct Plain {
    label: Option<String>,
    anchors: Anchors,
    users: Option<Users>,
    names: NamePlan,
    registration_authorities: bool,
}

impl Shared {
    /// Reads what the configuration names.
    ///
    /// # Errors
    /// A file or a template of the configuration cannot be used.
    pub(crate) fn open(service: &Service) -> Result<Self, Error> {
        let config = service.config();
        for label in &config.est.labels {
            // EST-3.2.2-03: the label is never an operation.
            if ::est::split_path(&format!("/.well-known/est/{label}/cacerts")).is_none()
                || ::est::coaps::Operation::from_name(label).is_some()
                || label.contains('/')
            {
                return Err(Error::Config {
                    detail: format!("[est] {label:?} cannot be a label"),
                });
            }
        }
        let plain = config
            .est
            .without_brski
            .as_ref()
            .map(Plain::open)
            .transpose()?;
        Ok(Self(Arc::new(Inner {
            service: service.clone(),
            names: NamePlan::parse(&config.ca.subject, &config.ca.alt_names)?,
            acp_names: match &config.ca.acp_names {
                Some(file) => AcpNames::load(file)?,
                None => AcpNames::default(),
            },
            plain,
        })))
    }

    /// The routes for the HTTPS listener.
    pub(crate) fn routes(&self) -> Router {
        Router::new()
            .route("/.well-known/est/{operation}", any(unlabelled))
            .route("/.well-known/est/{label}/{operation}", any(labelled))
            .route("/crl", get(crl))
            .with_state(self.clone())
    }

    /// Carries out a request that came over CoAP, with the correlation id of its lines.
    pub(crate) async fn coaps(
        &self,
        caller: &Caller,
        label: Option<&str>,
        request: ::est::server::Request<'_>,
    ) -> (Answer, String) {
        let inner = &self.0;
        let mut attempt = Attempt::new(caller, inner.service.now());
        let call = carry::Call {
            label,
            request: Some(request),
            authorization: None,
            caller,
        };
        let answer = match inner.service.turn().await {
            Ok(_turn) => carry::out(inner, &mut attempt, &call).await,
            Err(error) => carry::failed(inner, &mut attempt, "est", error).await,
        };
        (answer, attempt.correlation)
    }
}

impl Plain {
    fn open(config: &WithoutBrski) -> Result<Self, Error> {
        let mut anchors = Anchors::new();
        for file in &config.client_cas {
            let read = Anchors::load(file).map_err(|error| Error::Config {
                detail: format!("{}: {error}", file.display()),
            })?;
            anchors.extend(read.iter().cloned());
        }
        let users = config.users_file.as_deref().map(Users::load).transpose()?;
        Ok(Self {
            label: config.label.clone(),
            anchors,
            users,
            names: NamePlan::parse(&config.subject, &config.alt_names)?,
            registration_authorities: config.registration_authorities,
        })
    }
}

impl Inner {
    /// What is offered and demanded, before it is known who asks.
    fn policy(&self) -> Policy {
        let config = self.service.config();
        let mut demand = Demand {
            key: config.est.key.map(KeyName::requirement),
            template: config.est.template,
            ..Demand::default()
        };
        if let Some(ca) = self.service.ca()
            && let Some(demands) = ca.demands()
        {
            // EST-4.5.2-04: what the CA wants is handed on to the devices.
            demand.key = demand.key.or_else(|| demands.key.clone());
            demand.signature_algorithm = demands.signature_algorithm;
        }
        Policy {
            ca_certificates: self.ca_certificates(),
            demand,
            channel_binding: match config.est.channel_binding {
                Binding::Ignore => ChannelBinding::Ignore,
                Binding::Require => ChannelBinding::Require,
                Binding::Verify => ChannelBinding::Verify,
            },
            server_keygen: config.est.server_keygen,
            tolerances: BodyTolerances {
                binary_der: config.est.tolerate_binary_der,
                pem: config.est.tolerate_pem,
            },
            body_size_max_bytes: BODY_SIZE_MAX_BYTES.min(config.body_size_max_bytes),
        }
    }

    /// EST-4.1.3-04: the CA and all above it, and what leads to the registrar's own certificate.
    fn ca_certificates(&self) -> Vec<pki::Certificate> {
        let mut all = self
            .service
            .ca()
            .map(|authority| authority.ca_certificates())
            .unwrap_or_default();
        if defects::seeded!("est-leaves-the-root-out") {
            all.retain(|one| one.subject_der() != one.issuer_der());
        }
        if defects::seeded!("est-leaves-the-issuer-out") {
            all.clear();
            all.extend(
                self.plain
                    .iter()
                    .flat_map(|plain| plain.anchors.iter().cloned()),
            );
            return all;
        }
        for certificate in &self.service.keys().domain {
            if defects::seeded!("est-leaves-the-root-out")
                && certificate.subject_der() == certificate.issuer_der()
            {
                continue;
            }
            if !all.contains(certificate) {
                all.push(certificate.clone());
            }
        }
        all
    }
}

async fn unlabelled(
    State(shared): State<Shared>,
    UrlPath(operation): UrlPath<String>,
    Extension(peer): Extension<Peer>,
    request: Request,
) -> Response {
    handle(&shared.0, None, &operation, &Caller::from(&peer), request).await
}

async fn labelled(
    State(shared): State<Shared>,
    UrlPath((label, operation)): UrlPath<(String, String)>,
    Extension(peer): Extension<Peer>,
    request: Request,
) -> Response {
    handle(
        &shared.0,
        Some(&label),
        &operation,
        &Caller::from(&peer),
        request,
    )
    .await
}

async fn handle(
    inner: &Inner,
    label: Option<&str>,
    operation: &str,
    caller: &Caller,
    request: Request,
) -> Response {
    let mut attempt = Attempt::new(caller, inner.service.now());
    let (parts, body) = request.into_parts();
    if parts.headers.contains_key("content-transfer-encoding")
        && defects::seeded!("est-minds-transfer-encoding")
    {
        return respond(Answer::failed(400, "est.not-acceptable", "unknown"), "");
    }
    let answer = match inner.service.turn().await {
        Ok(_turn) => match read(inner, body).await {
            Ok(body) => {
                let wanted = Operation::from_segment(operation);
                let call = carry::Call {
                    label,
                    request: wanted.map(|operation| ::est::server::Request {
                        method: parts.method.as_str(),
                        operation,
                        content_type: text(&parts.headers, &header::CONTENT_TYPE),
                        body: &body,
                        transport: Transport::Https,
                        channel_binding: caller.exporter.as_ref().map(<[u8; 32]>::as_slice),
                    }),
                    authorization: text(&parts.headers, &header::AUTHORIZATION),
                    caller,
                };
                carry::out(inner, &mut attempt, &call).await
            }
            Err(error) => {
                // Whose oversized body it was is worth knowing, if it can be known.
                let _ = inner.service.identify(&mut attempt, caller);
                carry::failed(inner, &mut attempt, "est", error).await
            }
        },
        Err(error) => carry::failed(inner, &mut attempt, "est", error).await,
    };
    respond(answer, &attempt.correlation)
}

async fn read(inner: &Inner, body: Body) -> Result<Bytes, Error> {
    let limit_bytes = BODY_SIZE_MAX_BYTES.min(inner.service.config().body_size_max_bytes);
    match Limited::new(body, limit_bytes).collect().await {
        Ok(collected) => Ok(collected.to_bytes()),
        Err(error) if error.is::<LengthLimitError>() => {
            Err(Refusal::Body(BodyError::TooLarge { limit_bytes }).into())
        }
        Err(error) => Err(Error::BodyUnreadable {
            detail: error.to_string(),
        }),
    }
}

fn text<'h>(headers: &'h HeaderMap, name: &HeaderName) -> Option<&'h str> {
    headers.get(name).and_then(|value| value.to_str().ok())
}

/// Turns an answer into HTTP.
fn respond(answer: Answer, correlation: &str) -> Response {
    let mut response = Response::new(Body::from(answer.body));
    *response.status_mut() =
        http::StatusCode::from_u16(answer.status).unwrap_or(http::StatusCode::SERVICE_UNAVAILABLE);
    let headers = response.headers_mut();
    let mut put = |name: HeaderName, value: Option<&str>| {
        if let Some(value) = value.and_then(|value| HeaderValue::from_str(value).ok()) {
            headers.insert(name, value);
        }
    };
    put(header::CONTENT_TYPE, answer.content_type.as_deref());
    put(
        HeaderName::from_static("content-transfer-encoding"),
        answer.content_transfer_encoding,
    );
    put(header::WWW_AUTHENTICATE, answer.www_authenticate);
    put(header::ALLOW, answer.allow);
    put(
        header::RETRY_AFTER,
        answer.retry_after_seconds.map(|s| s.to_string()).as_deref(),
    );
    put(header::CACHE_CONTROL, Some("no-store"));
    put(
        HeaderName::from_static("x-correlation-id"),
        Some(correlation),
    );
    response
}

/// `GET /crl`: the CRL in DER, for anybody.
async fn crl(State(shared): State<Shared>) -> Response {
    let service = &shared.0.service;
    let result = match service.ca() {
        Some(ca) => current_crl(service.store(), ca, service.now()).await,
        None => Ok(None),
    };
    let (status, content_type, body) = match result {
        Ok(Some(der)) => (http::StatusCode::OK, "application/pkix-crl", der),
        Ok(None) => (
            http::StatusCode::NOT_FOUND,
            ::est::body::TEXT_PLAIN,
            b"this registrar signs no CRL\n".to_vec(),
        ),
        Err(error) => {
            tracing::error!(code = error.code(), %error, "there is no CRL to give");
            let text = format!("{}\n", error.code());
            (
                http::StatusCode::SERVICE_UNAVAILABLE,
                ::est::body::TEXT_PLAIN,
                text.into_bytes(),
            )
        }
    };
    let mut response = Response::new(Body::from(body));
    *response.status_mut() = status;
    response
        .headers_mut()
        .insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
    response
}
