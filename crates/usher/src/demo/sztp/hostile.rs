//! A server that nobody trusts: it gives every device the same artefacts.

use std::net::SocketAddr;

use artifacts::{Encoding, bundle::BootstrappingData};
use axum::{Router, http::StatusCode, response::IntoResponse};
use net::{
    CancellationToken,
    server::{Listener, ListenerConfig, ServerIdentities, serve},
};
use pki::Identity;
use sztp::message::GetBootstrappingDataOutput;

use crate::demo::{Failure, world::coded};

/// It runs until it is stopped.
pub(super) struct Hostile {
    listener: Listener,
    shutdown: CancellationToken,
}

impl Hostile {
    /// Starts it with a certificate of its own.
    pub(super) async fn start(
        identity: &Identity,
        data: BootstrappingData,
    ) -> Result<Self, Failure> {
        let output = GetBootstrappingDataOutput {
            reporting_level: None,
            conveyed_information: data.conveyed_information,
            owner_certificate: data.owner_certificate,
            ownership_voucher: data.ownership_voucher,
        };
        let body = output.encode(Encoding::Json);
        let answer = move || {
            let body = body.clone();
            async move {
                let json = [("content-type", "application/yang-data+json")];
                (StatusCode::OK, json, body).into_response()
            }
        };
        let identities = ServerIdentities::new(std::slice::from_ref(identity)).map_err(coded)?;
        let address = SocketAddr::from(([127, 0, 0, 1], 0));
        let shutdown = CancellationToken::new();
        let listener = serve(
            ListenerConfig::new(address, identities),
            Router::new().fallback(answer),
            shutdown.clone(),
        )
        .await
        .map_err(coded)?;
        Ok(Self { listener, shutdown })
    }

    pub(super) fn address(&self) -> SocketAddr {
        self.listener.address()
    }

    pub(super) async fn stop(self) {
        self.shutdown.cancel();
        self.listener.stopped().await;
    }
}
