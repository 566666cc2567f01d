//! One sink: its queue, its state, and how events reach it.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use net::TlsVersions;
use net::client::{ClientConfig, ClientLimits, ServerTrust, Target};
use pki::path::{Anchors, PathOptions, Purpose};
use serde::Serialize;
use serde_json::Value;
use time::OffsetDateTime;
use url::Url;

use super::config::{SyslogConfig, SyslogFormat, WebhookConfig, refuse};
use super::syslog::{
    DATAGRAM_LENGTH_MAX_BYTES, Header, SYSLOG_LENGTH_MAX_BYTES, Transport, rfc5424,
};
use super::webhook::Webhook;
use super::{Event, SINK_TOPIC_PREFIX, Severity, cef};
use crate::Error;
use crate::config::IdentityConfig;

/// Makes a body of its own kind of an event; `None` leaves the event out.
pub type Format = Arc<dyn Fn(&Event) -> Option<Value> + Send + Sync>;

/// Formats that a service offers to webhooks, by name.
pub type Formats = BTreeMap<String, Format>;

/// How a sink does.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Status {
    /// Deliveries since the start.
    pub delivered: u64,
    /// Deliveries that failed since the start, whosever fault that was.
    pub failed: u64,
    /// Failures in a row.
    pub failures_in_a_row: u32,
    /// Why the last one failed, until one succeeds.
    pub last_error: Option<String>,
}

pub(super) struct Sink {
    pub(super) name: String,
    pub(super) topic: String,
    pub(super) kinds: Vec<String>,
    pub(super) severity_min: Severity,
    pub(super) attempts_max: i64,
    pub(super) limit: Duration,
    pub(super) receiver: Receiver,
    pub(super) state: Mutex<State>,
}

#[derive(Default)]
pub(super) struct State {
    pub(super) status: Status,
    /// The sink is left alone until then.
    pub(super) paused_until: Option<OffsetDateTime>,
    /// After a batch that broke, one event at a time shows which one it is.
    pub(super) cautious: bool,
}

pub(super) enum Receiver {
    Webhook {
        webhook: Webhook,
        format: Option<Format>,
    },
    Syslog {
        transport: Transport,
        header: Header,
        format: SyslogFormat,
        product: String,
        length_max_bytes: usize,
    },
}

impl Sink {
    pub(super) fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The event as such a sink reads it. Empty for a sink that is no syslog.
    pub(super) fn syslog(&self, event: &Event) -> Vec<u8> {
        let Receiver::Syslog {
            header,
            format,
            product,
            length_max_bytes,
            ..
        } = &self.receiver
        else {
            return Vec::new();
        };
        match format {
            SyslogFormat::Rfc5424 => rfc5424(event, header, None, *length_max_bytes),
            SyslogFormat::Cef => {
                let record = cef(event, product, env!("CARGO_PKG_VERSION"));
                rfc5424(event, header, Some(&record), *length_max_bytes)
            }
        }
    }
}

impl Transport {
    /// The same with the time at which a receiver's certificate has to be valid.
    pub(super) fn at(&self, now: OffsetDateTime) -> Self {
        let mut same = self.clone();
        if let Self::Stream { config, .. } = &mut same
            && let ServerTrust::Anchors { options, .. } = &mut config.trust
        {
            **options = PathOptions::new(Purpose::Server, now);
        }
        same
    }
}

pub(super) fn webhook_sink(
    config: &WebhookConfig,
    base: &Path,
    formats: &Formats,
) -> Result<Sink, Error> {
    let webhook = Webhook::new(config, &|path| base.join(path))?;
    let format = match config.format.as_str() {
        "standard" => None,
        name => Some(Arc::clone(formats.get(name).ok_or_else(|| {
            refuse(format!(
                "webhook {}: there is no format {name}",
                config.name
            ))
        })?)),
    };
    Ok(Sink {
        name: config.name.clone(),
        topic: format!("{SINK_TOPIC_PREFIX}{}", config.name),
        kinds: config.kinds.clone(),
        severity_min: config.severity_min,
        attempts_max: i64::from(config.attempts_max.max(1)),
        limit: Duration::from_secs(config.timeout_seconds.clamp(1, 300)),
        receiver: Receiver::Webhook { webhook, format },
        state: Mutex::default(),
    })
}

pub(super) fn syslog_sink(
    config: &SyslogConfig,
    base: &Path,
    product: &str,
) -> Result<Sink, Error> {
    let refuse = |reason: String| refuse(format!("syslog {}: {reason}", config.name));
    let url = Url::parse(&config.url).map_err(|error| refuse(error.to_string()))?;
    let limit = Duration::from_secs(config.timeout_seconds.clamp(1, 300));
    let (host, port) = host_and_port(&url).map_err(|reason| refuse(reason.to_owned()))?;
    if config.facility > 23 {
        return Err(refuse("a facility is 0 to 23".to_owned()));
    }
    let secure = match url.scheme() {
        "udp" | "tcp" => false,
        "tls" => true,
        _ => return Err(refuse("only udp, tcp and tls are spoken".to_owned())),
    };
    if !secure && (config.anchors.is_some() || config.certificate.is_some()) {
        return Err(refuse("`anchors` and `certificate` are for tls".to_owned()));
    }
    let transport = if url.scheme() == "udp" {
        Transport::Udp(format!("{host}:{port}"))
    } else {
        let trust = match &config.anchors {
            Some(path) => {
                let path = base.join(path);
                let anchors = Anchors::load(&path)
                    .map_err(|error| refuse(format!("{}: {error}", path.display())))?;
                // The time is put in at each connection.
                let options = PathOptions::new(Purpose::Server, OffsetDateTime::UNIX_EPOCH);
                ServerTrust::anchors(anchors, options)
            }
            None if secure => {
                return Err(refuse("`anchors` names the CA of the receiver".to_owned()));
            }
            None => ServerTrust::Provisional,
        };
        let identity = match (&config.certificate, &config.key) {
            (Some(certificate), Some(key)) => {
                let identity = IdentityConfig {
                    certificate: certificate.clone(),
                    key: key.clone(),
                    passphrase_file: None,
                    passphrase_env: None,
                    module: None,
                };
                Some(identity.load(base)?)
            }
            (None, None) => None,
            _ => return Err(refuse("`certificate` and `key` go together".to_owned())),
        };
        let host = match host.trim_matches(['[', ']']).parse() {
            Ok(address) => net::client::Host::Address(address),
            Err(_) => net::client::Host::Name(host),
        };
        let mut target = Target::new(host, port);
        target.secure = secure;
        Transport::Stream {
            target,
            config: Box::new(ClientConfig {
                trust,
                identity,
                tls: TlsVersions::Both,
                limits: ClientLimits {
                    connect_time_max: limit,
                    handshake_time_max: limit,
                    ..ClientLimits::default()
                },
                ..ClientConfig::default()
            }),
            confirm: config.confirm,
        }
    };
    let datagram = matches!(transport, Transport::Udp(_));
    Ok(Sink {
        name: config.name.clone(),
        topic: format!("{SINK_TOPIC_PREFIX}{}", config.name),
        kinds: config.kinds.clone(),
        severity_min: config.severity_min,
        attempts_max: i64::from(config.attempts_max.max(1)),
        limit,
        receiver: Receiver::Syslog {
            transport,
            header: Header {
                facility: config.facility,
                hostname: config.hostname.clone().unwrap_or_else(own_hostname),
                application: product.to_owned(),
                enterprise: config.enterprise,
            },
            format: config.format,
            product: product.to_owned(),
            length_max_bytes: if datagram {
                DATAGRAM_LENGTH_MAX_BYTES
            } else {
                SYSLOG_LENGTH_MAX_BYTES
            },
        },
        state: Mutex::default(),
    })
}

/// Host and port of `udp://…`, `tcp://…` or `tls://…`, with the usual ports.
fn host_and_port(url: &Url) -> Result<(String, u16), &'static str> {
    let host = url
        .host_str()
        .filter(|host| !host.is_empty())
        .ok_or("there is no host in it")?;
    let usual = match url.scheme() {
        "udp" => 514,
        "tls" => 6514,
        _ => 601,
    };
    let port = url.port().unwrap_or(usual);
    Ok((host.to_owned(), port))
}

/// What the system calls this machine.
fn own_hostname() -> String {
    ["/proc/sys/kernel/hostname", "/etc/hostname"]
        .into_iter()
        .find_map(|path| std::fs::read_to_string(path).ok())
        .map(|name| name.trim().to_owned())
        .filter(|name| !name.is_empty())
        .unwrap_or_else(|| "-".to_owned())
}
