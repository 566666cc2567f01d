//! EST over CoAP: requests and what may be believed of the answers, over one association.

use std::time::{Duration, Instant};

use ::est::{
    client::{CaCertificates, DomainTrust, Enrolled, Generated},
    coaps::{
        Operation,
        client::{self, Outcome},
    },
    csrattrs::Requirements,
};
use artifacts::VoucherStatus;
use coap::{Code, Request, Response, format};
use pki::{
    Certificate, Csr, Identity, PublicKey,
    path::{self, Anchors, PathOptions, Purpose},
};
use time::OffsetDateTime;
use url::Url;

use super::{
    Config, Transport,
    translate::{ENROL_STATUS, finished, shown},
    transport::Peer,
};
use crate::{Error, brski::StepRecord};

/// How long "later" is accepted, all waits of a request together, unless the configuration limits
/// the time of a run.
const WAIT_MAX: Duration = Duration::from_secs(10 * 60);

/// An association with an EST server.
pub struct EstClient<'a, T> {
    config: &'a Config,
    transport: T,
    peer: Peer,
    steps: Vec<StepRecord>,
}

impl<'a, T: Transport> EstClient<'a, T> {
    /// Connects as this client. The server is for the caller to judge: [`Self::chain`],
    /// [`Self::check_server`].
    ///
    /// # Errors
    /// No association came about.
    pub async fn connect(
        config: &'a Config,
        mut transport: T,
        origin: &Url,
        identity: Identity,
    ) -> Result<Self, Error> {
        let begun = Instant::now();
        let to = config.address_of(origin).await?;
        let dtls = config.dtls(identity);
        let peer = transport.connect(to, &dtls, &config.coap()).await?;
        let steps = vec![StepRecord {
            what: "connect".to_owned(),
            status: None,
            ok: true,
            ms: millis(begun),
            detail: peer.security.clone(),
        }];
        Ok(Self {
            config,
            transport,
            peer,
            steps,
        })
    }

    /// What the server showed, the leaf first.
    #[must_use]
    pub fn chain(&self) -> &[Certificate] {
        &self.peer.chain
    }

    /// What a request for a certificate can be bound to.
    #[must_use]
    pub fn exporter(&self) -> Option<[u8; 32]> {
        self.peer.exporter
    }

    /// What was done so far.
    #[must_use]
    pub fn steps(&self) -> &[StepRecord] {
        &self.steps
    }

    /// The server has to lead to one of these anchors and to be a registration authority.
    ///
    /// # Errors
    /// [`Error::Untrusted`].
    pub fn check_server(&self, anchors: &Anchors, at: Option<OffsetDateTime>) -> Result<(), Error> {
        let untrusted = |why: &str| Error::Untrusted(why.to_owned());
        let (leaf, others) = self
            .peer
            .chain
            .split_first()
            .ok_or_else(|| untrusted("it showed no certificate"))?;
        // CBR-072: Before /sren the client checks the server chains to its Explicit TA and is an
        // RA (id-kp-cmcRA).
        // ESC-060: With the implicit TA the client checks for id-kp-cmcRA in the server
        // certificate.
        if !leaf.has_cmc_ra() {
            return Err(untrusted("it is not marked as a registration authority"));
        }
        let options = PathOptions {
            at,
            purpose: Purpose::Registrar,
            ..PathOptions::default()
        };
        path::validate(leaf, others, anchors, &options)
            .map(|_| ())
            .map_err(|error| untrusted(&error.to_string()))
    }

    /// `GET crts`.
    ///
    /// # Errors
    /// The server refused, or its answer cannot be read.
    pub async fn ca_certificates(&mut self) -> Result<CaCertificates, Error> {
        let label = self.config.device.est_label.as_deref();
        let request = client::ca_certificates_request(label, self.config.ca_format);
        let response = self.exchange("crts", request).await?;
        Ok(client::ca_certificates(&response)?)
    }

    /// `GET att`.
    ///
    /// # Errors
    /// The server refused, or its answer cannot be read.
    pub async fn attributes(&mut self) -> Result<Requirements, Error> {
        let label = self.config.device.est_label.as_deref();
        let response = self
            .exchange("att", client::csr_attrs_request(label))
            .await?;
        Ok(client::csr_attrs(&response)?)
    }

    /// `POST sen` or `sren`; the answer is for [`Self::judge`].
    ///
    /// # Errors
    /// There is no answer.
    pub async fn enrol(&mut self, operation: Operation, csr: &Csr) -> Result<Response, Error> {
        let label = self.config.device.est_label.as_deref();
        let format = self.config.certificate_format;
        let request = client::enrol_request(label, operation, csr, format);
        self.exchange(operation.name(), request).await
    }

    /// What an answer to [`Self::enrol`] brings.
    ///
    /// # Errors
    /// The server refused, or its certificate is not one that may be used.
    pub fn judge(
        response: &Response,
        key: &PublicKey,
        trust: &DomainTrust,
        at: Option<OffsetDateTime>,
    ) -> Result<Enrolled, Error> {
        match client::enrolled(response, key, trust, at)? {
            Outcome::Done(enrolled) => Ok(enrolled),
            Outcome::Wait { .. } => Err(later()),
        }
    }

    /// `POST skg`, or `skc` where the certificate is wanted without a bag around it: the server
    /// makes the key.
    ///
    /// # Errors
    /// The server refused, or what it gave may not be used.
    pub async fn generate(
        &mut self,
        operation: Operation,
        csr: &Csr,
        trust: &DomainTrust,
        at: Option<OffsetDateTime>,
    ) -> Result<Generated, Error> {
        let response = self.enrol(operation, csr).await?;
        match client::generated(&response, trust, at)? {
            Outcome::Done(generated) => Ok(generated),
            Outcome::Wait { .. } => Err(later()),
        }
    }

    /// `POST es`: how the enrolment went.
    ///
    /// # Errors
    /// There is no answer; what it says is of no interest.
    pub async fn report(&mut self, status: &VoucherStatus) -> Result<(), Error> {
        let request = Request::post(ENROL_STATUS, format::CBOR, status.to_cbor());
        self.exchange("es", request).await.map(|_| ())
    }

    /// Ends the association.
    pub async fn close(mut self) -> Vec<StepRecord> {
        self.transport.close().await;
        self.steps
    }

    /// Asks; as long as the answer is "later", asks the same again when it is time.
    async fn exchange(&mut self, name: &str, request: Request) -> Result<Response, Error> {
        let first = Instant::now();
        let longest = self.config.device.time_max.unwrap_or(WAIT_MAX);
        loop {
            let begun = Instant::now();
            let request = finished(request.clone(), self.config);
            let answered = self.transport.request(request).await;
            let mut record = StepRecord {
                what: name.to_owned(),
                status: None,
                ok: false,
                ms: millis(begun),
                detail: String::new(),
            };
            let response = match answered {
                Ok(response) => response,
                Err(reason) => {
                    record.detail.clone_from(&reason);
                    self.steps.push(record);
                    return Err(Error::NoAnswer {
                        what: name.to_owned(),
                        reason,
                    });
                }
            };
            record.status = Some(shown(response.code));
            record.ok = response.code.is_success();
            if !record.ok {
                record.detail = diagnostic(&response);
            }
            self.steps.push(record);
            // ESC-041: After 5.03 the identical CSR is resent after Max-Age.
            if response.code == Code::SERVICE_UNAVAILABLE {
                let wait = response.max_age.map_or(client::MAX_AGE_DEFAULT, |seconds| {
                    Duration::from_secs(u64::from(seconds))
                });
                if first.elapsed() + wait <= longest {
                    tokio::time::sleep(wait).await;
                    continue;
                }
            }
            return Ok(response);
        }
    }
}

fn later() -> Error {
    Error::NoAnswer {
        what: "enrolment".to_owned(),
        reason: "the server did not decide in time".to_owned(),
    }
}

/// The text of a refusal, from a peer that may be anybody.
pub(super) fn diagnostic(response: &Response) -> String {
    const TEXT_MAX_CHARS: usize = 200;
    String::from_utf8_lossy(&response.payload)
        .chars()
        .map(|c| if c.is_control() { ' ' } else { c })
        .take(TEXT_MAX_CHARS)
        .collect()
}

fn millis(begun: Instant) -> u64 {
    u64::try_from(begun.elapsed().as_millis()).unwrap_or(u64::MAX)
}
