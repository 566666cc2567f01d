//! Vouchers from a MASA.

use std::net::SocketAddr;
use std::sync::Arc;

use anyhow::Context;
use artifacts::Envelope;
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, header};
use net::client::{ClientConfig, Connection, Target};
use pki::Identity;

use super::{Seen, spread};

/// Asks for one voucher after the other, `clients` at a time.
///
/// # Errors
/// If a request is not answered with a voucher.
pub async fn ask(
    masa: SocketAddr,
    registrar: &Identity,
    requests: Arc<Vec<Vec<u8>>>,
    clients: usize,
    keep_alive: bool,
) -> anyhow::Result<Seen> {
    let config = Arc::new(ClientConfig {
        identity: Some(registrar.clone()),
        ..ClientConfig::default()
    });
    let count = requests.len();
    spread(
        clients,
        count,
        move |connection: Option<Connection>, job| {
            let (config, requests) = (Arc::clone(&config), Arc::clone(&requests));
            async move {
                let mut connection = match connection {
                    Some(connection) => connection,
                    None => Connection::open(&Target::from_address(masa), &config).await?,
                };
                let body = Bytes::from(requests.get(job).context("a request")?.clone());
                let response = connection
                    .request(
                        Method::POST,
                        "/.well-known/brski/requestvoucher",
                        headers(Envelope::Cms),
                        body,
                    )
                    .await?;
                anyhow::ensure!(
                    response.status == 200,
                    "{}: {}",
                    response.status,
                    String::from_utf8_lossy(&response.body)
                );
                Ok(keep_alive.then_some(connection))
            }
        },
    )
    .await
}

/// Header fields of a voucher request in this envelope.
#[must_use]
pub fn headers(envelope: Envelope) -> HeaderMap {
    let media_type = HeaderValue::from_static(envelope.media_type());
    let mut headers = HeaderMap::new();
    headers.insert(header::CONTENT_TYPE, media_type.clone());
    headers.insert(header::ACCEPT, media_type);
    headers
}
