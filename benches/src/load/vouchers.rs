//! Vouchers from a MASA.

use std::net::SocketAddr;
use std::sync::Arc;

use anyhow::Context;
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
                        headers(),
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

/// Header fields of a voucher request in CMS.
#[must_use]
pub fn headers() -> HeaderMap {
    let cms = HeaderValue::from_static("application/voucher-cms+json");
    let mut headers = HeaderMap::new();
    headers.insert(header::CONTENT_TYPE, cms.clone());
    headers.insert(header::ACCEPT, cms);
    headers
}
