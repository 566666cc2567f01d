//! Alarms leave the house: each is a message in the outbox, written in the transaction that found
//! it, and is posted to the operator's webhook until that says 2xx. Delivery is at least once; the
//! message has an `id` by which a receiver tells repetitions apart.

use std::time::Duration as StdDuration;

use bytes::Bytes;
use futures::FutureExt as _;
use http::{HeaderMap, HeaderValue, Method, header};
use net::client::{ClientConfig, ClientLimits, ServerTrust};
use pki::path::{Anchors, PathOptions, Purpose};
use store::Store;
use store::outbox::{self, Message};
use time::{Duration, OffsetDateTime};
use url::Url;

use crate::config::AlarmsConfig;
use crate::{Config, Error};

/// Messages that are taken at once.
const BATCH: i64 = 16;
/// How long a worker may take for what it took.
const LEASE: Duration = Duration::minutes(5);
/// Time for one delivery.
const DELIVERY_TIME_MAX: StdDuration = StdDuration::from_secs(10);
/// Largest answer that is read.
const ANSWER_SIZE_MAX_BYTES: usize = 64 * 1024;

/// Where alarms go.
#[derive(Clone)]
pub(crate) struct Webhook {
    url: Url,
    anchors: Anchors,
    token: Option<HeaderValue>,
}

impl Webhook {
    /// The configured webhook, if there is one.
    pub(crate) fn of(config: &Config) -> Result<Option<Self>, Error> {
        let AlarmsConfig {
            webhook,
            anchors,
            token_file,
        } = &config.alarms;
        let Some(webhook) = webhook else {
            return Ok(None);
        };
        let refuse = |reason: String| Error::Usage(format!("[alarms] webhook: {reason}"));
        let url = Url::parse(webhook).map_err(|error| refuse(error.to_string()))?;
        if url.scheme() != "https" {
            return Err(refuse("only https is spoken".to_owned()));
        }
        let anchors = match anchors {
            Some(path) => {
                let path = config.resolve(path);
                Anchors::load(&path).map_err(|error| Error::malformed(&path, error))?
            }
            None => return Err(refuse("`anchors` names the CA of the receiver".to_owned())),
        };
        let token = match token_file {
            Some(path) => {
                let path = config.resolve(path);
                let text =
                    std::fs::read_to_string(&path).map_err(|error| Error::file(&path, error))?;
                let token = text.lines().next().unwrap_or_default();
                let mut value = HeaderValue::from_str(&format!("Bearer {token}"))
                    .map_err(|error| Error::malformed(&path, error))?;
                value.set_sensitive(true);
                Some(value)
            }
            None => None,
        };
        Ok(Some(Self {
            url,
            anchors,
            token,
        }))
    }

    async fn post(&self, message: &Message, now: OffsetDateTime) -> Result<(), String> {
        let mut body: serde_json::Value =
            serde_json::from_slice(&message.payload).map_err(|error| error.to_string())?;
        body["id"] = message.id.into();
        body["raised"] = message
            .created
            .format(&time::format_description::well_known::Rfc3339)
            .unwrap_or_default()
            .into();
        let mut headers = HeaderMap::new();
        headers.insert(
            header::CONTENT_TYPE,
            HeaderValue::from_static("application/json"),
        );
        if let Some(token) = &self.token {
            headers.insert(header::AUTHORIZATION, token.clone());
        }
        let config = ClientConfig {
            trust: ServerTrust::anchors(
                self.anchors.clone(),
                PathOptions::new(Purpose::Server, now),
            ),
            limits: ClientLimits {
                connect_time_max: DELIVERY_TIME_MAX,
                handshake_time_max: DELIVERY_TIME_MAX,
                response_time_max: DELIVERY_TIME_MAX,
                response_bytes_max: ANSWER_SIZE_MAX_BYTES,
            },
            ..ClientConfig::default()
        };
        let body = Bytes::from(body.to_string());
        let answer = net::client::fetch(&self.url, Method::POST, headers, body, &config)
            .await
            .map_err(|error| error.to_string())?;
        if answer.status.is_success() {
            Ok(())
        } else {
            Err(format!("status {}", answer.status))
        }
    }

    /// Delivers what is due. Returns how many were delivered.
    pub(crate) async fn deliver(
        &self,
        store: &Store,
        worker: &str,
        now: OffsetDateTime,
    ) -> Result<usize, Error> {
        let name = worker.to_owned();
        let messages = store
            .transaction("outbox-claim", move |connection| {
                let name = name.clone();
                async move { outbox::claim(connection, &name, BATCH, LEASE, now).await }.boxed()
            })
            .await?;
        let mut delivered = 0;
        for message in messages {
            let outcome = self.post(&message, now).await;
            if let Err(reason) = &outcome {
                tracing::warn!(id = message.id, reason, "an alarm could not be delivered");
            } else {
                delivered += 1;
            }
            let name = worker.to_owned();
            store
                .transaction("outbox-done", move |connection| {
                    let (name, message, outcome) = (name.clone(), message.clone(), outcome.clone());
                    async move {
                        match outcome {
                            Ok(()) => outbox::done(connection, &name, message.id).await,
                            Err(reason) => {
                                outbox::failed(connection, &name, &message, &reason, now).await
                            }
                        }
                    }
                    .boxed()
                })
                .await?;
        }
        Ok(delivered)
    }
}
