//! The pledge's link over CoAPs.

use std::time::Duration;

use brski::pledge::{Request, What};
use coap::{Code, Response};
use pki::{Certificate, Identity};
use tokio::time::Instant;
use url::Url;

use super::{Config, Transport, translate, transport::Peer};
use crate::{
    Error,
    brski::link::{Answer, Connected, Link},
};

/// How often "later" is taken for an answer, and the longest wait. For a voucher and a certificate
/// the pledge itself waits, as long as it takes.
const LATER_MAX: u32 = 5;
const WAIT_MAX: Duration = Duration::from_secs(60);

pub(super) struct CoapLink<'a, T> {
    config: &'a Config,
    transport: T,
    /// The association: where to, as whom, with whom.
    open: Option<(Url, Identity, Peer)>,
    heard: Instant,
}

impl<'a, T: Transport> CoapLink<'a, T> {
    pub(super) fn new(config: &'a Config, transport: T) -> Self {
        Self {
            config,
            transport,
            open: None,
            heard: Instant::now(),
        }
    }

    async fn associate(&mut self, origin: &Url, identity: Identity) -> Result<Peer, Error> {
        let to = self.config.address_of(origin).await?;
        let dtls = self.config.dtls(identity);
        let peer = self
            .transport
            .connect(to, &dtls, &self.config.coap())
            .await?;
        self.heard = Instant::now();
        Ok(peer)
    }

    /// Makes a new association with the same server where the path to it may be lost.
    async fn refresh(&mut self) -> Result<(), String> {
        if self.heard.elapsed() < self.config.silence_max {
            return Ok(());
        }
        let Some((origin, identity, before)) = self.open.take() else {
            return Ok(());
        };
        self.transport.close().await;
        let peer = self
            .associate(&origin, identity.clone())
            .await
            .map_err(|error| error.to_string())?;
        let leaf = |peer: &Peer| peer.chain.first().map(|one: &Certificate| one.sha256());
        if leaf(&peer) != leaf(&before) {
            // Whether another server is as good is not decided here.
            self.transport.close().await;
            return Err("another server is there now".to_owned());
        }
        self.open = Some((origin, identity, peer));
        Ok(())
    }
}

impl<T: Transport> Link for CoapLink<'_, T> {
    async fn connect(&mut self, origin: &Url, identity: Identity) -> Result<Connected, Error> {
        self.close().await;
        let peer = self.associate(origin, identity.clone()).await?;
        let connected = Connected {
            chain: peer.chain.clone(),
            protocol: "CoAP".to_owned(),
            security: Some(peer.security.clone()),
        };
        self.open = Some((origin.clone(), identity, peer));
        Ok(connected)
    }

    async fn send(&mut self, request: &Request) -> Result<Answer, String> {
        let request_coap = translate::request(request, self.config)?;
        let mut later = 0;
        let response = loop {
            self.refresh().await?;
            let response = self.transport.request(request_coap.clone()).await?;
            self.heard = Instant::now();
            match wait_of(request.what, &response) {
                Some(wait) if later < LATER_MAX => {
                    later += 1;
                    tokio::time::sleep(wait).await;
                }
                _ => break response,
            }
        };
        Ok(translate::answer(request.what, &response, self.config))
    }

    fn exporter(&self) -> Option<[u8; 32]> {
        self.open.as_ref().and_then(|(_, _, peer)| peer.exporter)
    }

    fn name(&self, what: What) -> &'static str {
        translate::name(what)
    }

    async fn close(&mut self) {
        self.open = None;
        self.transport.close().await;
    }
}

/// How long to wait before the same is asked again. A server that has too much to do says so at any
/// step, and to begin anew for that would be the more work for everybody.
fn wait_of(what: What, response: &Response) -> Option<Duration> {
    // The pledge keeps to the wait for these two by itself.
    let waits_itself = matches!(what, What::RequestVoucher | What::Enrol);
    if waits_itself || response.code != Code::SERVICE_UNAVAILABLE {
        return None;
    }
    let seconds = response.max_age?;
    Some(Duration::from_secs(u64::from(seconds)).min(WAIT_MAX))
}
