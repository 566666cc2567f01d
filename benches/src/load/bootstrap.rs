//! Devices at a bootstrap server.

use std::net::SocketAddr;
use std::sync::Arc;

use anyhow::Context;
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, header};
use net::client::{ClientConfig, Connection, Target};
use pki::Identity;

use super::{Seen, spread};

/// What a device asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operation {
    /// `get-bootstrapping-data`.
    Get,
    /// `report-progress`.
    Report,
}

impl Operation {
    fn path(self) -> &'static str {
        match self {
            Self::Get => "/restconf/operations/ietf-sztp-bootstrap-server:get-bootstrapping-data",
            Self::Report => "/restconf/operations/ietf-sztp-bootstrap-server:report-progress",
        }
    }

    fn body(self) -> &'static str {
        match self {
            Self::Get => {
                "{\"ietf-sztp-bootstrap-server:input\":{\"hw-model\":\"load\",\
                 \"os-name\":\"load-os\",\"os-version\":\"1.0\"}}"
            }
            Self::Report => {
                "{\"ietf-sztp-bootstrap-server:input\":{\"progress-type\":\"parsing-warning\",\
                 \"message\":\"a line in the timeline\"}}"
            }
        }
    }

    fn status(self) -> u16 {
        match self {
            Self::Get => 200,
            Self::Report => 204,
        }
    }
}

/// Sends one request after the other, `clients` at a time. With a connection each, job by job the
/// next device; with connections kept, each client is one device.
///
/// # Errors
/// If a request is not answered as it should be.
pub async fn ask(
    server: SocketAddr,
    devices: Arc<Vec<Identity>>,
    operation: Operation,
    count: usize,
    clients: usize,
    keep_alive: bool,
) -> anyhow::Result<Seen> {
    spread(
        clients,
        count,
        move |connection: Option<Connection>, job| {
            let devices = Arc::clone(&devices);
            async move {
                let mut connection = match connection {
                    Some(connection) => connection,
                    None => {
                        let device = devices.get(job % devices.len().max(1));
                        let config = ClientConfig {
                            identity: Some(device.context("a device")?.clone()),
                            ..ClientConfig::default()
                        };
                        Connection::open(&Target::from_address(server), &config).await?
                    }
                };
                let json = HeaderValue::from_static("application/yang-data+json");
                let mut headers = HeaderMap::new();
                headers.insert(header::CONTENT_TYPE, json);
                let body = Bytes::from_static(operation.body().as_bytes());
                let path = operation.path();
                let response = connection
                    .request(Method::POST, path, headers, body)
                    .await?;
                anyhow::ensure!(
                    response.status == operation.status(),
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
