//! Certificates for devices (RFC 9646): this server is a registration authority at a registrar's
//! EST.
//!
//! A device that says that it can make certificate requests is asked for one; the one that it then
//! sends is checked ([`sztp::csr`]) and handed to the EST server under this server's own
//! certificate. What was issued is kept: the same request again gets the same certificate, also
//! when the first answer was lost.

use std::sync::Arc;
use std::time::Duration;

use aws_lc_rs::digest;
use bytes::Bytes;
use est::body::BodyTolerances;
use est::client::{self, DomainTrust, HttpAnswer, Outcome};
use futures::FutureExt as _;
use http::{HeaderMap, HeaderValue, Method, header};
use net::client::{ClientConfig, ClientLimits, Connection, Response, ServerTrust, Target};
use pki::Certificate;
use pki::path::{Anchors, PathOptions, Purpose};
use serde_json::json;
use store::params;
use sztp::Encoding;
use sztp::csr::{Asked, Checked, Device, KeyAlgorithm, Policy, ask, check, choose};
use sztp::message::{CsrFormat, CsrInput, CsrRequest};
use sztp::restconf::{Fault, RestconfError};
use time::OffsetDateTime;
use tokio::sync::Semaphore;

use crate::config::{Config, CsrConfig};
use crate::content::IssuedCertificate;
use crate::events::{self, Event, Kind};
use crate::register::DeviceRow;
use crate::service::{Service, Step};
use crate::{Error, register};

/// Exchanges with the EST server at once; devices beyond that wait for their turn.
const EXCHANGES_MAX: usize = 16;
/// Largest answer of the EST server that is read.
const ANSWER_SIZE_MAX_BYTES: usize = 256 * 1024;

/// Gets certificates from a registrar.
pub(crate) struct Authority {
    policy: Policy,
    target: Target,
    label: Option<String>,
    client: ClientConfig,
    anchors: Arc<Anchors>,
    trust: DomainTrust,
    timeout: Duration,
    turns: Semaphore,
}

impl Authority {
    /// Reads what the configuration names; none if it says nothing about certificates.
    pub(crate) fn open(config: &Config) -> Result<Option<Self>, Error> {
        let Some(csr) = &config.csr else {
            return Ok(None);
        };
        let url = url::Url::parse(&csr.url)
            .ok()
            .filter(|url| url.scheme() == "https")
            .ok_or_else(|| Error::Usage("[csr] url has to be an https URL".to_owned()))?;
        let certificates = config.certificates(&csr.anchors)?;
        let identity = csr.identity().load(&config.directory)?;
        let is_authority = identity.certificate().is_some_and(Certificate::has_cmc_ra);
        if !is_authority {
            let path = config.resolve(&csr.certificate);
            return Err(Error::malformed(
                &path,
                "the certificate of a registration authority has id-kp-cmcRA in it",
            ));
        }
        let trust = client::CaCertificates::new(certificates.clone()).judge(None, None)?;
        Ok(Some(Self {
            policy: policy(csr)?,
            target: Target::from_url(&url)?,
            label: csr.label.clone(),
            client: ClientConfig {
                identity: Some(identity),
                address: csr.address,
                limits: ClientLimits {
                    response_time_max: Duration::from_secs(csr.timeout_seconds.max(1)),
                    response_bytes_max: ANSWER_SIZE_MAX_BYTES,
                    ..ClientLimits::default()
                },
                ..ClientConfig::default()
            },
            anchors: Arc::new(certificates.into_iter().collect()),
            trust,
            timeout: Duration::from_secs(csr.timeout_seconds.max(1)),
            turns: Semaphore::new(EXCHANGES_MAX),
        }))
    }

    /// The part of an answer that is about certificates: the certificate for the request that came
    /// along, or nothing, or what the device has to do first.
    pub(crate) async fn serve(
        &self,
        service: &Service,
        row: &DeviceRow,
        identity: Option<&Certificate>,
        csr: &CsrInput,
        now: OffsetDateTime,
    ) -> Result<Option<Arc<IssuedCertificate>>, Step> {
        let device = Device {
            serial: &row.serial,
            identity,
        };
        match csr {
            CsrInput::Support(support) => {
                let wanted = choose(support, &self.policy, &device).map_err(Step::Refused)?;
                let Some(request) = wanted else {
                    return Ok(None);
                };
                keep_demand(service, row, &request, now)
                    .await
                    .map_err(Step::Failed)?;
                // SZTP-9646-2.1-04: the request for a CSR is an error response.
                Err(Step::Refused(ask(&request)))
            }
            csr => self
                .certify(service, row, &device, csr, now)
                .await
                .map(Some),
        }
    }

    async fn certify(
        &self,
        service: &Service,
        row: &DeviceRow,
        device: &Device<'_>,
        input: &CsrInput,
        now: OffsetDateTime,
    ) -> Result<Arc<IssuedCertificate>, Step> {
        let octets = match input {
            CsrInput::P10(der) | CsrInput::Cmc(der) | CsrInput::Cmp(der) => der.as_slice(),
            CsrInput::Support(_) => &[],
        };
        let mut csr_sha256 = [0; 32];
        csr_sha256.copy_from_slice(digest::digest(&digest::SHA256, octets).as_ref());
        // The same request again gets the same certificate.
        let (known, asked) = recall(service, row, &csr_sha256)
            .await
            .map_err(Step::Failed)?;
        if let Some(issued) = known {
            return Ok(Arc::new(issued));
        }
        let checked =
            check(input, asked.as_ref(), &self.policy, device, now).map_err(Step::Refused)?;
        let chain = self.enrol(&checked, now).await?;
        let issued = IssuedCertificate {
            chain: chain.iter().map(|one| one.der().to_vec()).collect(),
            csr_sha256,
        };
        keep(service, row, issued, &chain, now)
            .await
            .map(Arc::new)
            .map_err(Step::Failed)
    }

    /// Has the EST server sign a checked request. The certificates, that of the device first.
    async fn enrol(
        &self,
        checked: &Checked,
        now: OffsetDateTime,
    ) -> Result<Vec<Certificate>, Step> {
        let unavailable = |detail: String| {
            let server = self.target.to_string();
            tracing::error!(%server, detail, "no certificate for a device");
            Step::Refused(RestconfError::new(
                Fault::CsrCa,
                "the certification authority gives no certificate now",
            ))
        };
        let work = async {
            // The semaphore is never closed.
            let _turn = self.turns.acquire().await;
            let trust = ServerTrust::anchors(
                Arc::clone(&self.anchors),
                PathOptions::new(Purpose::Server, now),
            );
            let config = ClientConfig {
                trust,
                ..self.client.clone()
            };
            let mut connection = Connection::open(&self.target, &config)
                .await
                .map_err(|error| error.to_string())?;
            let request = client::enroll_request(self.label.as_deref(), &checked.csr);
            let mut headers = HeaderMap::new();
            headers.insert(header::ACCEPT, HeaderValue::from_static(request.accept));
            if let Some(content_type) = request.content_type {
                headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
            }
            let answer = connection
                .request(
                    Method::POST,
                    &request.path,
                    headers,
                    Bytes::from(request.body),
                )
                .await
                .map_err(|error| error.to_string())?;
            let outcome = client::enrolled(
                &http_answer(&answer),
                checked.csr.public_key(),
                &self.trust,
                Some(now),
                now,
                &BodyTolerances::default(),
            )
            .map_err(|error| error.to_string())?;
            match outcome {
                Outcome::Done(enrolled) => Ok(enrolled.chain),
                Outcome::Redirect { location } => Err(format!("it redirects to {location}")),
                Outcome::Wait { after } => Err(format!("it wants us to wait {after:?}")),
            }
        };
        match tokio::time::timeout(self.timeout, work).await {
            Ok(Ok(chain)) if !chain.is_empty() => Ok(chain),
            Ok(Ok(_)) => Err(unavailable("its answer holds no certificate".to_owned())),
            Ok(Err(detail)) => Err(unavailable(detail)),
            Err(_) => Err(unavailable(format!("no answer in {:?}", self.timeout))),
        }
    }
}

fn policy(config: &CsrConfig) -> Result<Policy, Error> {
    let mut policy = Policy {
        required: config.required,
        allow_identity_key: config.identity_key,
        ..Policy::default()
    };
    if !config.algorithms.is_empty() {
        policy.algorithms = config
            .algorithms
            .iter()
            .map(|name| {
                KeyAlgorithm::parse(name)
                    .ok_or_else(|| Error::Usage(format!("[csr] there is no algorithm {name:?}")))
            })
            .collect::<Result<_, _>>()?;
    }
    if !config.new_key {
        policy.algorithms.clear();
    }
    if !config.formats.is_empty() {
        policy.formats = config
            .formats
            .iter()
            .map(|name| {
                CsrFormat::parse(name)
                    .ok_or_else(|| Error::Usage(format!("[csr] there is no format {name:?}")))
            })
            .collect::<Result<_, _>>()?;
    }
    Ok(policy)
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

/// Keeps what a device was asked for: there is no transaction number, so the device is what
/// connects its two requests.
async fn keep_demand(
    service: &Service,
    device: &DeviceRow,
    request: &CsrRequest,
    now: OffsetDateTime,
) -> Result<(), Error> {
    let demand = String::from_utf8_lossy(&request.encode(Encoding::Json)).into_owned();
    let device = device.id;
    service
        .store()
        .locking_transaction("csr-demand", move |connection| {
            let demand = demand.clone();
            async move {
                connection
                    .execute(
                        "INSERT INTO csr_demand (device, at_us, demand) VALUES ($1, $2, $3) \
                         ON CONFLICT (device) DO UPDATE SET at_us = excluded.at_us, \
                         demand = excluded.demand",
                        params![device, now, demand],
                    )
                    .await?;
                Ok::<_, Error>(())
            }
            .boxed()
        })
        .await
}

/// The certificate that this request got before, and what the device was asked for.
async fn recall(
    service: &Service,
    device: &DeviceRow,
    csr_sha256: &[u8; 32],
) -> Result<(Option<IssuedCertificate>, Option<Asked>), Error> {
    let mut reader = service.store().reader().await?;
    // In this order: a certificate is kept in the transaction that removes what was asked, so who
    // finds nothing asked any more finds the certificate.
    let demand = reader
        .fetch_optional(
            "SELECT at_us, demand FROM csr_demand WHERE device = $1",
            params![device.id],
        )
        .await?;
    let row = reader
        .fetch_optional(
            "SELECT chain FROM certificate WHERE device = $1 AND csr_sha256 = $2",
            params![device.id, csr_sha256],
        )
        .await?;
    if let Some(row) = row {
        return Ok((Some(issued(&row.bytes("chain")?, *csr_sha256)?), None));
    }
    let Some(row) = demand else {
        return Ok((None, None));
    };
    // What another version of this program wrote and this one cannot read was not asked.
    let request = CsrRequest::decode(row.text("demand")?.as_bytes(), Encoding::Json).ok();
    let at = row.time("at_us")?;
    Ok((None, request.map(|request| Asked { request, at })))
}

fn issued(chain: &[u8], csr_sha256: [u8; 32]) -> Result<IssuedCertificate, Error> {
    let chain = Certificate::all_from_pem(&String::from_utf8_lossy(chain))?;
    Ok(IssuedCertificate {
        chain: chain.iter().map(|one| one.der().to_vec()).collect(),
        csr_sha256,
    })
}

/// Keeps a certificate and says what was issued. If another request was faster, its certificate
/// is the one.
async fn keep(
    service: &Service,
    row: &DeviceRow,
    certificate: IssuedCertificate,
    chain: &[Certificate],
    now: OffsetDateTime,
) -> Result<IssuedCertificate, Error> {
    let pem: String = chain.iter().map(Certificate::to_pem).collect();
    let Some(leaf) = chain.first() else {
        return Ok(certificate);
    };
    let serial = hex::encode(leaf.serial_number());
    let (not_before, not_after) = (leaf.not_before(), leaf.not_after());
    let detail = json!({
        "serial": serial, "subject": leaf.subject(), "issuer": leaf.issuer(),
        "sha256": hex::encode(leaf.sha256()),
    });
    let event = Event {
        at: now,
        kind: Kind::Certificate,
        device: row.id,
        vendor: row.vendor.clone(),
        serial: row.serial.clone(),
        detail: detail.clone(),
    };
    let event = Some(event).filter(|event| event.wanted(&service.config().events));
    let subject = register::subject(&row.vendor, &row.serial);
    let (device, csr_sha256) = (row.id, certificate.csr_sha256);
    let chain = service
        .store()
        .transaction("certificate", move |connection| {
            let (pem, serial, event) = (pem.clone(), serial.clone(), event.clone());
            let (subject, detail) = (subject.clone(), detail.clone());
            async move {
                let written = connection
                    .execute(
                        "INSERT INTO certificate (device, csr_sha256, serial, chain, \
                         not_before_us, not_after_us, at_us) VALUES ($1, $2, $3, $4, $5, $6, $7) \
                         ON CONFLICT (device, csr_sha256) DO NOTHING",
                        params![
                            device,
                            &csr_sha256,
                            &serial,
                            pem.as_bytes(),
                            not_before,
                            not_after,
                            now
                        ],
                    )
                    .await?;
                if written == 0 {
                    let row = connection
                        .fetch_one(
                            "SELECT chain FROM certificate WHERE device = $1 AND csr_sha256 = $2",
                            params![device, &csr_sha256],
                        )
                        .await?;
                    return Ok::<_, Error>(row.bytes("chain")?);
                }
                // One request for a certificate is answered once.
                connection
                    .execute("DELETE FROM csr_demand WHERE device = $1", params![device])
                    .await?;
                register::record(
                    connection,
                    "certificate-issued",
                    "bootstrap",
                    &subject,
                    detail,
                    now,
                )
                .await?;
                if let Some(event) = &event {
                    events::emit(connection, event).await?;
                }
                Ok(pem.into_bytes())
            }
            .boxed()
        })
        .await?;
    issued(&chain, csr_sha256)
}
