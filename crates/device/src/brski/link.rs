//! What stands between the device and its registrar: a connection over HTTPS, or one over CoAPs.

use std::future::Future;

use brski::pledge::{Request, What};
use bytes::Bytes;
use http::Method;
use net::client::{ClientConfig, Connection, ServerTrust, Target};
use pki::{Certificate, Identity};
use url::Url;

use super::{Config, run::headers};
use crate::Error;

/// A connection to a registrar, provisional towards its transport: whose it is is judged above.
pub(crate) trait Link {
    /// Ends any connection and makes one to this origin, as this client.
    fn connect(
        &mut self,
        origin: &Url,
        identity: Identity,
    ) -> impl Future<Output = Result<Connected, Error>>;

    /// Sends a request, and waits for its answer. An error means that there is none.
    fn send(&mut self, request: &Request) -> impl Future<Output = Result<Answer, String>>;

    /// What a request for a certificate can be bound to.
    fn exporter(&self) -> Option<[u8; 32]>;

    /// What a request is called here.
    fn name(&self, what: What) -> &'static str;

    /// Ends any connection.
    fn close(&mut self) -> impl Future<Output = ()>;
}

/// A connection is up.
#[derive(Clone, Debug)]
pub(crate) struct Connected {
    /// What the server showed, the leaf first.
    pub(crate) chain: Vec<Certificate>,
    /// `HTTP/1.1`, `CoAP`…
    pub(crate) protocol: String,
    /// `TLS 1.3`, `DTLS 1.2`…
    pub(crate) security: Option<String>,
}

/// An answer as [`brski::pledge::Machine`] reads it, whatever it was on the wire.
#[derive(Clone, Debug)]
pub(crate) struct Answer {
    /// Its status in terms of HTTP.
    pub(crate) status: u16,
    /// The status as it came: 204 for 2.04 of CoAP.
    pub(crate) shown: u16,
    /// Header fields, names in lower case.
    pub(crate) headers: Vec<(String, String)>,
    /// The body.
    pub(crate) body: Vec<u8>,
}

impl Answer {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers
            .iter()
            .find(|(known, _)| known == name)
            .map(|(_, value)| value.as_str())
    }
}

/// Over HTTPS.
pub(super) struct HttpLink<'a> {
    config: &'a Config,
    connection: Option<Connection>,
}

impl<'a> HttpLink<'a> {
    pub(super) fn new(config: &'a Config) -> Self {
        Self {
            config,
            connection: None,
        }
    }
}

impl Link for HttpLink<'_> {
    async fn connect(&mut self, origin: &Url, identity: Identity) -> Result<Connected, Error> {
        self.close().await;
        let target = Target::from_url(origin)?;
        let config = ClientConfig {
            trust: ServerTrust::Provisional,
            identity: Some(identity),
            http: self.config.http,
            tls: self.config.tls,
            address: self.config.address,
            ..ClientConfig::default()
        };
        let connection = Connection::open(&target, &config).await?;
        let connected = Connected {
            chain: connection.peer_chain().to_vec(),
            protocol: connection.http_version().to_string(),
            security: connection.tls_version().map(|version| version.to_string()),
        };
        self.connection = Some(connection);
        Ok(connected)
    }

    async fn send(&mut self, request: &Request) -> Result<Answer, String> {
        let Some(connection) = &mut self.connection else {
            return Err("there is no connection".to_owned());
        };
        let method = if request.method == "GET" {
            Method::GET
        } else {
            Method::POST
        };
        let body = Bytes::from(request.body.clone());
        let response = connection
            .request(method, &request.path, headers(&request.headers), body)
            .await
            .map_err(|error| error.to_string())?;
        let status = response.status.as_u16();
        Ok(Answer {
            status,
            shown: status,
            headers: response
                .headers
                .iter()
                .filter_map(|(name, value)| {
                    Some((name.as_str().to_owned(), value.to_str().ok()?.to_owned()))
                })
                .collect(),
            body: response.body.to_vec(),
        })
    }

    fn exporter(&self) -> Option<[u8; 32]> {
        self.connection.as_ref().and_then(Connection::exporter)
    }

    fn name(&self, what: What) -> &'static str {
        what.name()
    }

    async fn close(&mut self) {
        if let Some(connection) = self.connection.take() {
            connection.close().await;
        }
    }
}
