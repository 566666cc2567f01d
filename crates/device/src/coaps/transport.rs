//! An association with a registrar: requests go in, responses come out.

use std::{future::Future, net::SocketAddr};

use net::{coap::CoapClient, dtls};
use pki::Certificate;

use crate::Error;

/// What carries requests: [`NetTransport`], or something else in a test.
pub trait Transport {
    /// Ends any association and makes one.
    fn connect(
        &mut self,
        to: SocketAddr,
        dtls: &dtls::ClientConfig,
        coap: &coap::Config,
    ) -> impl Future<Output = Result<Peer, Error>> + Send;

    /// Asks, and waits for the response, whatever its code.
    fn request(
        &mut self,
        request: coap::Request,
    ) -> impl Future<Output = Result<coap::Response, String>> + Send;

    /// Ends the association.
    fn close(&mut self) -> impl Future<Output = ()> + Send;
}

/// The other end.
#[derive(Clone, Debug)]
pub struct Peer {
    /// What it showed, the leaf first.
    pub chain: Vec<Certificate>,
    /// Version and suite.
    pub security: String,
    /// What a request for a certificate can be bound to.
    pub exporter: Option<[u8; 32]>,
}

/// DTLS over UDP.
#[derive(Debug, Default)]
pub struct NetTransport {
    client: Option<CoapClient>,
}

impl Transport for NetTransport {
    async fn connect(
        &mut self,
        to: SocketAddr,
        dtls: &dtls::ClientConfig,
        coap: &coap::Config,
    ) -> Result<Peer, Error> {
        self.close().await;
        let client = CoapClient::connect(to, dtls, coap.clone()).await?;
        let peer = client
            .peer()
            .map(|peer| Peer {
                chain: peer.chain.clone(),
                security: format!("{} {}", peer.version, peer.suite),
                exporter: peer.exporter,
            })
            .ok_or_else(|| Error::Config("the association shows no peer".to_owned()))?;
        self.client = Some(client);
        Ok(peer)
    }

    async fn request(&mut self, request: coap::Request) -> Result<coap::Response, String> {
        let Some(client) = &self.client else {
            return Err("there is no association".to_owned());
        };
        client
            .request(request)
            .await
            .map_err(|error| error.to_string())
    }

    async fn close(&mut self) {
        if let Some(client) = self.client.take() {
            client.close().await;
        }
    }
}
