//! Who may join: rules by manufacturer, product and serial number, a list in the database, a
//! human, or a webhook.
//!
//! The order is fixed, so that an operator can predict the outcome: a decision by a human about
//! this very device first, then the list in the database, then the rules of the file from top to
//! bottom, then the default. The default of the default is `deny`
//! ([RFC 8995 §7.3](https://www.rfc-editor.org/rfc/rfc8995.html#section-7.3)).

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::Error;
use crate::config::anchored;

/// The policy part of the configuration.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct PolicyConfig {
    /// What happens with a device that no rule names.
    pub default: Action,
    /// Rules, first match wins.
    #[serde(rename = "rule")]
    pub rules: Vec<Rule>,
    /// The Retry-After of a 202. Devices cap it at 60 s.
    pub retry_after_seconds: u32,
    /// How long a request waits for a human before it is refused. Devices give up after four days.
    pub pending_max_hours: u32,
    /// Oldest `created-on` of a device's request that is served; absent ignores it, as many
    /// devices have no clock.
    pub request_age_max_minutes: Option<u32>,
    /// Whom `webhook` asks.
    pub webhook: Option<WebhookConfig>,
    /// Which serial numbers get their voucher from those loaded beforehand.
    pub offline: OfflineUse,
}

impl Default for PolicyConfig {
    fn default() -> Self {
        Self {
            default: Action::Deny,
            rules: Vec::new(),
            retry_after_seconds: 30,
            pending_max_hours: 96,
            request_age_max_minutes: None,
            webhook: None,
            offline: OfflineUse::default(),
        }
    }
}

/// When a voucher that was loaded beforehand is used.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum OfflineUse {
    /// If the MASA cannot be reached.
    #[default]
    Fallback,
    /// Always, if there is one; the MASA is asked for the others.
    Prefer,
    /// Always; no MASA is ever called. For networks without a way out.
    Only,
    /// Never.
    Never,
}

/// What is done with a device.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Deserialize, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Action {
    /// It may join.
    Allow,
    /// It waits for a human.
    Ask,
    /// It is refused.
    #[default]
    Deny,
    /// The webhook decides.
    Webhook,
}

impl Action {
    /// The word in the configuration and in the timeline.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Allow => "allow",
            Self::Ask => "ask",
            Self::Deny => "deny",
            Self::Webhook => "webhook",
        }
    }
}

/// One rule. A field that is absent matches everything; `*` stands for any run of characters.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Rule {
    /// A name for the timeline; the number of the rule if absent.
    pub name: Option<String>,
    /// The vendor profile.
    pub manufacturer: Option<String>,
    /// The product, if the vendor's profile says where it stands in the IDevID.
    pub product: Option<String>,
    /// Serial numbers.
    pub serial: Option<Patterns>,
    /// What is done.
    pub action: Action,
}

/// One pattern or several.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(untagged)]
pub enum Patterns {
    /// One pattern.
    One(String),
    /// Any of these.
    Many(Vec<String>),
}

impl Patterns {
    fn matches(&self, text: &str) -> bool {
        match self {
            Self::One(pattern) => wildcard(pattern, text),
            Self::Many(patterns) => patterns.iter().any(|pattern| wildcard(pattern, text)),
        }
    }
}

/// A service of the operator that decides.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct WebhookConfig {
    /// HTTPS, or HTTP to a loopback address.
    pub url: String,
    /// How long it may take.
    #[serde(default = "default_webhook_timeout")]
    pub timeout_seconds: u64,
    /// What is done if it does not answer, or not with a decision.
    #[serde(default)]
    pub on_failure: OnFailure,
    /// PEM file with the anchors for its TLS certificate.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub anchors: Option<PathBuf>,
    /// File with a token that is sent as `Authorization: Bearer …`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub token_file: Option<PathBuf>,
}

const fn default_webhook_timeout() -> u64 {
    5
}

/// What is done when the webhook does not decide.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum OnFailure {
    /// The device may join. Chosen with care: whoever can silence the webhook decides.
    Allow,
    /// The device waits for a human.
    #[default]
    Ask,
    /// The device is refused.
    Deny,
}

impl From<OnFailure> for Action {
    fn from(value: OnFailure) -> Self {
        match value {
            OnFailure::Allow => Self::Allow,
            OnFailure::Ask => Self::Ask,
            OnFailure::Deny => Self::Deny,
        }
    }
}

/// What the policy looks at. It comes from the verified IDevID, never from the request.
#[derive(Clone, Copy, Debug)]
pub struct Subject<'a> {
    /// The vendor profile.
    pub manufacturer: &'a str,
    /// The product, if known.
    pub product: Option<&'a str>,
    /// The serial number.
    pub serial: &'a str,
}

/// The outcome of the rules, with the rule that fired.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// What is done.
    pub action: Action,
    /// The rule that said so, for the timeline.
    pub rule: String,
}

impl PolicyConfig {
    /// What the file says about a device.
    #[must_use]
    pub fn decide(&self, subject: Subject<'_>) -> Verdict {
        for (index, rule) in self.rules.iter().enumerate() {
            if rule.matches(subject) {
                let rule_name = rule
                    .name
                    .clone()
                    .unwrap_or_else(|| format!("rule {}", index + 1));
                return Verdict {
                    action: rule.action,
                    rule: rule_name,
                };
            }
        }
        Verdict {
            action: self.default,
            rule: "default".to_owned(),
        }
    }

    /// The rule that denies this device, if the first that matches does. The default is no rule.
    #[must_use]
    pub fn denied_by_rule(&self, subject: Subject<'_>) -> Option<String> {
        self.rules
            .iter()
            .any(|rule| rule.matches(subject))
            .then(|| self.decide(subject))
            .filter(|verdict| verdict.action == Action::Deny)
            .map(|verdict| verdict.rule)
    }

    /// Oldest `created-on` of a device's request that is served.
    #[must_use]
    pub fn request_age_max(&self) -> Option<time::Duration> {
        self.request_age_max_minutes
            .map(|minutes| time::Duration::minutes(i64::from(minutes)))
    }

    pub(crate) fn check(&self) -> Result<(), Error> {
        let asks_webhook = self.default == Action::Webhook
            || self.rules.iter().any(|rule| rule.action == Action::Webhook);
        if asks_webhook && self.webhook.is_none() {
            return Err(Error::Config {
                detail: "a rule says `webhook`, but there is no [policy.webhook]".to_owned(),
            });
        }
        if let Some(webhook) = &self.webhook
            && webhook.endpoint()?.scheme() == "https"
            && webhook.anchors.is_none()
        {
            return Err(Error::Config {
                detail: "[policy.webhook] needs anchors for the certificate of its https server"
                    .to_owned(),
            });
        }
        Ok(())
    }

    pub(crate) fn anchor_paths(&mut self, base: &Path) {
        if let Some(webhook) = &mut self.webhook {
            webhook.anchors = webhook.anchors.as_deref().map(|path| anchored(base, path));
            webhook.token_file = webhook
                .token_file
                .as_deref()
                .map(|path| anchored(base, path));
        }
    }
}

impl WebhookConfig {
    /// The URL, if it is one that may be called.
    ///
    /// # Errors
    /// It is not a URL, or plain HTTP to another machine.
    pub fn endpoint(&self) -> Result<url::Url, Error> {
        let url = url::Url::parse(&self.url).map_err(|error| Error::Config {
            detail: format!("[policy.webhook] url: {error}"),
        })?;
        let loopback = match url.host() {
            Some(url::Host::Ipv4(address)) => address.is_loopback(),
            Some(url::Host::Ipv6(address)) => address.is_loopback(),
            Some(url::Host::Domain(name)) => name == "localhost",
            None => false,
        };
        match url.scheme() {
            "https" => Ok(url),
            "http" if loopback => Ok(url),
            _ => Err(Error::Config {
                detail: "[policy.webhook] url has to be https, or http to a loopback address"
                    .to_owned(),
            }),
        }
    }
}

impl Rule {
    fn matches(&self, subject: Subject<'_>) -> bool {
        let manufacturer = self
            .manufacturer
            .as_deref()
            .is_none_or(|p| wildcard(p, subject.manufacturer));
        // A rule about a product never matches a device whose product is not known.
        let product = self
            .product
            .as_deref()
            .is_none_or(|pattern| subject.product.is_some_and(|text| wildcard(pattern, text)));
        let serial = self
            .serial
            .as_ref()
            .is_none_or(|p| p.matches(subject.serial));
        manufacturer && product && serial
    }
}

/// Whether `text` matches `pattern`, in which `*` stands for any run of characters. Linear in
/// practice and quadratic at worst, so a hostile serial number costs nothing.
#[must_use]
pub fn wildcard(pattern: &str, text: &str) -> bool {
    let pattern: Vec<char> = pattern.chars().collect();
    let text: Vec<char> = text.chars().collect();
    let (mut p, mut t) = (0, 0);
    let mut retry: Option<(usize, usize)> = None;
    while t < text.len() {
        if pattern.get(p) == Some(&'*') {
            retry = Some((p, t));
            p += 1;
        } else if p < pattern.len() && pattern.get(p) == text.get(t) {
            p += 1;
            t += 1;
        } else if let Some((star, from)) = retry {
            retry = Some((star, from + 1));
            p = star + 1;
            t = from + 1;
        } else {
            return false;
        }
    }
    pattern.iter().skip(p).all(|c| *c == '*')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wildcards() {
        for (pattern, text, expected) in [
            ("", "", true),
            ("*", "", true),
            ("*", "anything", true),
            ("SN-*", "SN-1", true),
            ("SN-*", "sn-1", false),
            ("SN-1", "SN-12", false),
            ("*-1", "A-B-1", true),
            ("A*B*C", "A--B-B--C", true),
            ("A*B*C", "A--B-B--", false),
            ("a**b", "ab", true),
        ] {
            assert_eq!(
                wildcard(pattern, text),
                expected,
                "{pattern} against {text}"
            );
        }
    }

    /// Requirements: BRSKI-7.3-01, BRSKI-9.1.2-01
    #[test]
    fn an_empty_policy_denies() {
        let verdict = PolicyConfig::default().decide(Subject {
            manufacturer: "acme",
            product: None,
            serial: "SN-1",
        });
        assert_eq!(
            verdict,
            Verdict {
                action: Action::Deny,
                rule: "default".to_owned()
            }
        );
    }

    #[test]
    fn the_first_rule_that_matches_wins() {
        let policy: PolicyConfig = toml::from_str(
            r#"
            default = "ask"
            [[rule]]
            name = "stolen"
            serial = ["SN-13", "SN-66*"]
            action = "deny"
            [[rule]]
            manufacturer = "acme"
            product = "C9*"
            action = "allow"
            [[rule]]
            manufacturer = "acme"
            serial = "SN-*"
            action = "deny"
            "#,
        )
        .unwrap();
        let decide = |manufacturer, product, serial| {
            let verdict = policy.decide(Subject {
                manufacturer,
                product,
                serial,
            });
            format!("{} by {}", verdict.action.as_str(), verdict.rule)
        };
        assert_eq!(decide("acme", Some("C9300"), "SN-1"), "allow by rule 2");
        assert_eq!(decide("acme", Some("C9300"), "SN-661"), "deny by stolen");
        assert_eq!(decide("acme", None, "SN-1"), "deny by rule 3");
        assert_eq!(decide("other", Some("C9300"), "SN-1"), "ask by default");
    }

    #[test]
    fn webhooks_in_the_clear_stay_on_this_machine() {
        for (url, good) in [
            ("https://policy.example/decide", true),
            ("http://127.0.0.1:8080/decide", true),
            ("http://[::1]/decide", true),
            ("http://localhost/decide", true),
            ("http://policy.example/decide", false),
            ("http://localhost.example/decide", false),
            ("ftp://127.0.0.1/", false),
            ("nonsense", false),
        ] {
            let webhook = WebhookConfig {
                url: url.to_owned(),
                timeout_seconds: 1,
                on_failure: OnFailure::Deny,
                anchors: None,
                token_file: None,
            };
            assert_eq!(webhook.endpoint().is_ok(), good, "{url}");
        }
    }

    #[test]
    fn a_rule_that_asks_a_webhook_needs_one() {
        let policy = PolicyConfig {
            default: Action::Webhook,
            ..PolicyConfig::default()
        };
        assert!(policy.check().is_err());
    }
}
