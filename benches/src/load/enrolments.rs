//! Whole enrolments: a device's first connection with voucher request, voucher status, CA
//! certificates and CSR, the registrar's call of the MASA, and the device's second connection with
//! its new certificate, where it reports success.

use std::net::SocketAddr;
use std::sync::Arc;

use anyhow::Context;
use artifacts::Envelope;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, header};
use net::client::{ClientConfig, Connection, Response, Target};
use pki::{Certificate, CsrBuilder, Identity};
use time::OffsetDateTime;

use super::{Seen, spread, vouchers};
use crate::world::pledge_request;

/// A device and what it will send; made before the clock runs.
pub struct Device {
    identity: Identity,
    envelope: Envelope,
    voucher_request: Vec<u8>,
    csr: String,
}

impl Device {
    /// A device of this serial number in front of this registrar, with its request in this
    /// envelope.
    ///
    /// # Errors
    /// If signing fails.
    pub fn new(
        identity: Identity,
        serial: &str,
        registrar: &Certificate,
        envelope: Envelope,
        now: OffsetDateTime,
    ) -> anyhow::Result<Self> {
        let voucher_request = pledge_request(&identity, serial, registrar, envelope, now)?;
        let subject = identity
            .certificate()
            .context("a certificate")?
            .subject_der();
        // The same key again keeps the load generator out of the figures; servers do not care.
        let csr = CsrBuilder::with_subject_der(subject)?.sign(identity.signer.as_ref())?;
        Ok(Self {
            identity,
            envelope,
            voucher_request,
            csr: STANDARD.encode(csr.der()),
        })
    }
}

/// Enrols all devices, `clients` at a time.
///
/// # Errors
/// If a step is refused.
pub async fn enrol(
    registrar: SocketAddr,
    devices: Arc<Vec<Device>>,
    clients: usize,
) -> anyhow::Result<Seen> {
    let count = devices.len();
    spread(clients, count, move |(), job| {
        let devices = Arc::clone(&devices);
        async move { enrol_one(registrar, devices.get(job).context("a device")?).await }
    })
    .await
}

async fn enrol_one(registrar: SocketAddr, device: &Device) -> anyhow::Result<()> {
    let target = Target::from_address(registrar);
    let mut config = ClientConfig {
        identity: Some(device.identity.clone()),
        ..ClientConfig::default()
    };
    let mut connection = Connection::open(&target, &config).await?;
    let request = Bytes::from(device.voucher_request.clone());
    let path = "/.well-known/brski/requestvoucher";
    let voucher = connection
        .request(
            Method::POST,
            path,
            vouchers::headers(device.envelope),
            request,
        )
        .await?;
    good("requestvoucher", &voucher)?;
    let status = Bytes::from_static(br#"{"version":1,"status":true}"#);
    let answer = post(
        &mut connection,
        "/.well-known/brski/voucher_status",
        "application/json",
        status.clone(),
    )
    .await?;
    good("voucher_status", &answer)?;
    let cacerts = connection
        .request(
            Method::GET,
            "/.well-known/est/cacerts",
            HeaderMap::new(),
            Bytes::new(),
        )
        .await?;
    good("cacerts", &cacerts)?;
    let csr = Bytes::from(device.csr.clone());
    let path = "/.well-known/est/simpleenroll";
    let answer = post(&mut connection, path, "application/pkcs10", csr).await?;
    good("simpleenroll", &answer)?;
    connection.close().await;

    let text: Vec<u8> = answer
        .body
        .iter()
        .copied()
        .filter(|byte| !byte.is_ascii_whitespace())
        .collect();
    let certificates = pki::pkcs7::parse_certs_only(&STANDARD.decode(text)?)?;
    let key = device.identity.signer.public_key();
    let own = certificates
        .into_iter()
        .find(|certificate| certificate.public_key() == key);
    let own = own.context("no certificate for the key in the answer")?;
    config.identity = Some(Identity::new(
        vec![own],
        Arc::clone(&device.identity.signer),
    )?);
    let mut connection = Connection::open(&target, &config).await?;
    let path = "/.well-known/brski/enrollstatus";
    let answer = post(&mut connection, path, "application/json", status).await?;
    good("enrollstatus", &answer)?;
    connection.close().await;
    Ok(())
}

async fn post(
    connection: &mut Connection,
    path: &str,
    media_type: &'static str,
    body: Bytes,
) -> anyhow::Result<Response> {
    let mut headers = HeaderMap::new();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(media_type));
    Ok(connection
        .request(Method::POST, path, headers, body)
        .await?)
}

fn good(step: &str, response: &Response) -> anyhow::Result<()> {
    anyhow::ensure!(
        response.status.is_success() && response.status != 202,
        "{step}: {} {}",
        response.status,
        String::from_utf8_lossy(&response.body)
    );
    Ok(())
}
