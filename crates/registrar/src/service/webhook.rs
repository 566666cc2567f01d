//! A service of the operator that decides about devices.
//!
//! It gets a POST with what is known from the verified IDevID and answers with
//! `{"decision": "allow" | "deny" | "ask", "reason": "…"}`. Anything else, or nothing in time, is
//! a failure, and then the configuration decides.

use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, header};
use net::client::{ClientConfig, ClientLimits, ServerTrust};
use pki::Coded as _;
use pki::path::{Anchors, PathOptions, Purpose};
use serde::Deserialize;

use super::Service;
use super::attempt::{Attempt, Presented};
use crate::Error;
use crate::policy::{Action, OnFailure, WebhookConfig};
use crate::records::{Entry, Outcome};

/// The largest answer that is read.
const ANSWER_SIZE_MAX_BYTES: usize = 64 * 1024;

#[derive(Debug, Deserialize)]
struct Decision {
    decision: Word,
    #[serde(default)]
    reason: Option<String>,
}

#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Word {
    Allow,
    Ask,
    Deny,
}

impl Service {
    /// Asks the webhook. The outcome is noted in the attempt.
    pub(super) async fn ask_webhook(
        &self,
        attempt: &mut Attempt,
        presented: &Presented,
    ) -> Result<(Action, String), Error> {
        let webhook = self
            .config()
            .policy
            .webhook
            .as_ref()
            .ok_or_else(|| Error::Config {
                detail: "a rule says `webhook`, but there is no [policy.webhook]".to_owned(),
            })?;
        let question = serde_json::json!({
            "correlation": attempt.correlation,
            "vendor": presented.vendor.profile.name,
            "serial": presented.device.key.serial,
            "product": presented.product,
            "subject": presented.device.certificate.subject(),
            "issuer": presented.device.certificate.issuer(),
            "idevid_sha256": hex::encode(presented.device.certificate.sha256()),
            "key_sha256": presented.device.key_digest(),
        });
        let limit = Duration::from_secs(webhook.timeout_seconds.max(1));
        let answer =
            match tokio::time::timeout(limit, self.post_webhook(webhook, &question, limit)).await {
                Ok(answer) => answer,
                Err(_) => Err(format!("no answer within {limit:?}")),
            };
        let now = self.now();
        match answer {
            Ok(decision) => {
                let reason = decision
                    .reason
                    .unwrap_or_default()
                    .chars()
                    .take(500)
                    .collect::<String>();
                let (action, word) = match decision.decision {
                    Word::Allow => (Action::Allow, "allow"),
                    Word::Ask => (Action::Ask, "ask"),
                    Word::Deny => (Action::Deny, "deny"),
                };
                attempt.note(
                    Entry::new(now, "webhook", format!("the webhook says {word}"))
                        .detail(serde_json::json!({ "decision": word, "reason": reason })),
                );
                if action == Action::Deny {
                    return Err(Error::WebhookDenied { detail: reason });
                }
                Ok((action, "webhook".to_owned()))
            }
            Err(detail) => {
                let error = Error::WebhookFailed { detail };
                attempt.note(
                    Entry::new(now, "webhook", error.to_string())
                        .outcome(Outcome::Failed)
                        .code(error.code())
                        .next_action(error.next_action())
                        .detail(serde_json::json!({ "on_failure": webhook.on_failure })),
                );
                match webhook.on_failure {
                    OnFailure::Deny => Err(error),
                    other => Ok((other.into(), "webhook failed".to_owned())),
                }
            }
        }
    }

    async fn post_webhook(
        &self,
        webhook: &WebhookConfig,
        question: &serde_json::Value,
        limit: Duration,
    ) -> Result<Decision, String> {
        let url = webhook.endpoint().map_err(|error| error.to_string())?;
        let mut headers = HeaderMap::new();
        headers.insert(
            header::CONTENT_TYPE,
            HeaderValue::from_static("application/json"),
        );
        headers.insert(header::ACCEPT, HeaderValue::from_static("application/json"));
        if let Some(file) = &webhook.token_file {
            let token = std::fs::read_to_string(file).map_err(|error| error.to_string())?;
            let token = token.lines().next().unwrap_or_default();
            let mut value = HeaderValue::from_str(&format!("Bearer {token}"))
                .map_err(|error| error.to_string())?;
            value.set_sensitive(true);
            headers.insert(header::AUTHORIZATION, value);
        }
        let anchors = match &webhook.anchors {
            Some(file) => Anchors::load(file).map_err(|error| error.to_string())?,
            None => Anchors::default(),
        };
        let config = ClientConfig {
            trust: ServerTrust::anchors(anchors, PathOptions::new(Purpose::Server, self.now())),
            limits: ClientLimits {
                connect_time_max: limit,
                handshake_time_max: limit,
                response_time_max: limit,
                response_bytes_max: ANSWER_SIZE_MAX_BYTES,
            },
            ..ClientConfig::default()
        };
        let body = Bytes::from(question.to_string());
        let response = net::client::fetch(&url, Method::POST, headers, body, &config)
            .await
            .map_err(|error| error.to_string())?;
        if !response.status.is_success() {
            return Err(format!("HTTP status {}", response.status));
        }
        serde_json::from_slice(&response.body).map_err(|error| error.to_string())
    }
}
