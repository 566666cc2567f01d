//! The proxy's configuration: one TOML file, `USHER_PROXY_…` variables above it.

use std::net::IpAddr;
use std::path::Path;
use std::time::Duration;

use daemon::admin::AdminConfig;
use daemon::config::Flags;
use daemon::logging::LogConfig;
use serde::{Deserialize, Serialize};

use crate::target::{Place, Service};
use crate::{Error, relay};

/// The configuration of a join proxy.
///
/// ```
/// let config = proxy::Config::parse(r#"
///     [pledges]
///     interfaces = ["wpan0"]
///     [registrar]
///     jpy = ["[2001:db8:0:abcd::52]:7634"]
///     https = ["registrar.example.com:8443"]
/// "#)?;
/// assert_eq!(config.limits.state_seconds, 30);
/// # Ok::<(), proxy::Error>(())
/// ```
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// The side of the pledges.
    pub pledges: PledgesConfig,
    /// The side of the registrars.
    pub registrar: RegistrarConfig,
    /// How pledges find this proxy.
    pub discovery: DiscoveryConfig,
    /// The header of JPY messages.
    pub header: HeaderConfig,
    /// What pledges may use up.
    pub limits: LimitsConfig,
    /// Where operators connect: health, readiness, metrics.
    pub admin: AdminConfig,
    /// Logs.
    pub log: LogConfig,
}

/// The `[pledges]` section.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct PledgesConfig {
    /// Network interfaces at which pledges are helped, over link-local IPv6 addresses only. They
    /// may come and go.
    pub interfaces: Vec<String>,
    /// Addresses at which pledges are helped whatever their own address: for IPv4 and for trials.
    pub addresses: Vec<IpAddr>,
    /// First UDP port towards pledges; each further registrar has the next one. 0 takes what is
    /// free.
    pub join_port: u16,
    /// TCP port of the circuit proxy; 0 takes what is free.
    pub circuit_port: u16,
}

/// Which of the two ways over UDP is used.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    /// Stateless if there is a registrar with a JPY port, else stateful.
    #[default]
    Auto,
    /// The state is in the header of each message: nothing is kept here.
    Stateless,
    /// A port for each pledge.
    Stateful,
    /// Each on a join port of its own.
    Both,
}

/// How registrars are looked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Finder {
    /// By questions for `/.well-known/core` to a multicast group.
    Coap,
    /// By multicast DNS, on the links of `interfaces`.
    Mdns,
}

/// The `[registrar]` section. A place is `HOST:PORT`, `[ADDRESS]:PORT` or a URI.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RegistrarConfig {
    /// Which way over UDP.
    pub mode: Mode,
    /// Where registrars take JPY. There is no usual port.
    pub jpy: Vec<String>,
    /// Where registrars take CoAP over DTLS; port 5684 unless said.
    pub coaps: Vec<String>,
    /// Where registrars take HTTPS; port 443 unless said.
    pub https: Vec<String>,
    /// How registrars are looked for, for what the three lists above do not say. Empty is never.
    pub discover: Vec<Finder>,
    /// Whom to ask by CoAP: multicast groups, or addresses of hosts.
    pub groups: Vec<IpAddr>,
    /// The port to ask there.
    pub group_port: u16,
    /// Interfaces on which to ask; empty leaves it to the routing table.
    pub interfaces: Vec<String>,
    /// Seconds between two searches once something was found.
    pub discover_seconds: u64,
    /// Registrars of each kind that are used; more are not looked at.
    pub registrars_max: usize,
    /// Own address towards registrars; without it the routing table decides.
    pub source: Option<IpAddr>,
}

impl Default for RegistrarConfig {
    fn default() -> Self {
        Self {
            mode: Mode::Auto,
            jpy: Vec::new(),
            coaps: Vec::new(),
            https: Vec::new(),
            discover: vec![Finder::Coap],
            groups: vec![IpAddr::from([0xff05, 0, 0, 0, 0, 0, 0, 0xfd])],
            group_port: 5683,
            interfaces: Vec::new(),
            discover_seconds: 300,
            registrars_max: 4,
            source: None,
        }
    }
}

impl RegistrarConfig {
    /// The configured places of one kind.
    pub(crate) fn places(&self, service: Service) -> Result<Vec<Place>, Error> {
        let list = match service {
            Service::Jpy => &self.jpy,
            Service::Coaps => &self.coaps,
            Service::Https => &self.https,
        };
        list.iter()
            .map(|text| Place::parse(text, service))
            .collect()
    }
}

/// The `[discovery]` section.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct DiscoveryConfig {
    /// Whether questions by CoAP are answered.
    pub coap: bool,
    /// The port of those; another than 5683 is of use in trials only.
    pub coap_port: u16,
    /// Whether questions by multicast DNS are answered, on interfaces.
    pub mdns: bool,
    /// Whether `rt=brski.jp` is answered, which pledges of drafts before June 2026 ask for.
    pub legacy: bool,
}

impl Default for DiscoveryConfig {
    fn default() -> Self {
        Self {
            coap: true,
            coap_port: 5683,
            mdns: true,
            legacy: false,
        }
    }
}

/// The `[header]` section.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct HeaderConfig {
    /// Hours after which the key of the headers changes.
    pub key_hours: u32,
    /// Minutes for which the key before is still taken, so that pledges that are under way finish.
    pub overlap_minutes: u32,
}

impl Default for HeaderConfig {
    fn default() -> Self {
        Self {
            key_hours: 24,
            overlap_minutes: 60,
        }
    }
}

/// The `[limits]` section.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct LimitsConfig {
    /// Datagrams that one pledge may send each second, on average.
    pub pledge_datagrams_per_second: u32,
    /// Datagrams that one pledge may send at once.
    pub pledge_burst: u32,
    /// Datagrams that all pledges of one link may send each second, on average. Half of them are
    /// for pledges that showed already that they get what is sent to them.
    pub link_datagrams_per_second: u32,
    /// Datagrams that all pledges of one link may send at once.
    pub link_burst: u32,
    /// Pledges of one link that are remembered for these limits.
    pub pledges_tracked: usize,
    /// Largest datagram of a pledge.
    pub datagram_bytes: usize,
    /// Stateful: ports for one pledge at once.
    pub states_per_pledge: usize,
    /// Stateful: ports for one link at once.
    pub states_per_link: usize,
    /// Stateful: seconds after the last datagram until a port is free again.
    pub state_seconds: u64,
    /// Stateful: seconds after which a pledge that never spoke after an answer gives way, if all
    /// ports of the link are taken. 0 is never.
    pub unanswered_seconds: u64,
    /// Circuit: connections of one pledge at once.
    pub connections_per_pledge: usize,
    /// Circuit: connections of one link at once.
    pub connections_per_link: usize,
    /// Circuit: seconds without a byte until a connection is closed.
    pub connection_idle_seconds: u64,
    /// Circuit: seconds until a connection is closed in any case.
    pub connection_seconds: u64,
    /// Circuit: seconds that a registrar has to take a connection.
    pub connect_seconds: u64,
}

impl Default for LimitsConfig {
    fn default() -> Self {
        Self {
            pledge_datagrams_per_second: 50,
            pledge_burst: 100,
            link_datagrams_per_second: 2000,
            link_burst: 4000,
            pledges_tracked: 4096,
            datagram_bytes: 2048,
            states_per_pledge: 2,
            states_per_link: 10,
            state_seconds: 30,
            unanswered_seconds: 10,
            connections_per_pledge: 4,
            connections_per_link: 256,
            connection_idle_seconds: 120,
            connection_seconds: 900,
            connect_seconds: 5,
        }
    }
}

impl LimitsConfig {
    fn check(&self) -> Result<(), Error> {
        let at_least_one = [
            (
                "pledge_datagrams_per_second",
                self.pledge_datagrams_per_second == 0,
            ),
            ("pledge_burst", self.pledge_burst == 0),
            (
                "link_datagrams_per_second",
                self.link_datagrams_per_second == 0,
            ),
            ("link_burst", self.link_burst == 0),
            ("pledges_tracked", self.pledges_tracked == 0),
            ("datagram_bytes", self.datagram_bytes == 0),
            ("states_per_pledge", self.states_per_pledge == 0),
            ("states_per_link", self.states_per_link == 0),
            ("state_seconds", self.state_seconds == 0),
            ("connections_per_pledge", self.connections_per_pledge == 0),
            ("connections_per_link", self.connections_per_link == 0),
            ("connection_idle_seconds", self.connection_idle_seconds == 0),
            ("connection_seconds", self.connection_seconds == 0),
            ("connect_seconds", self.connect_seconds == 0),
        ];
        match at_least_one.into_iter().find(|(_, is_zero)| *is_zero) {
            Some((name, _)) => Err(Error::Usage(format!("{name} is 0"))),
            None => Ok(()),
        }
    }

    /// The rates of one link.
    pub(crate) fn rates(&self) -> relay::Rates {
        relay::Rates {
            pledge_per_second: self.pledge_datagrams_per_second,
            pledge_burst: self.pledge_burst,
            link_per_second: self.link_datagrams_per_second,
            link_burst: self.link_burst,
            tracked_max: self.pledges_tracked,
            datagram_max: self.datagram_bytes,
        }
    }

    /// The limits of stateful mode.
    pub(crate) fn states(&self) -> relay::StateLimits {
        relay::StateLimits {
            per_pledge: self.states_per_pledge,
            per_link: self.states_per_link,
            idle: Duration::from_secs(self.state_seconds),
            unanswered: (self.unanswered_seconds > 0)
                .then(|| Duration::from_secs(self.unanswered_seconds)),
        }
    }
}

impl Config {
    /// Reads a file and the variables.
    ///
    /// # Errors
    /// When the file is not there or something in it is wrong.
    pub fn load(file: &Path, flags: &Flags) -> Result<Self, Error> {
        let config = daemon::config::load::<Self>(Some(file), "proxy", flags)?.value;
        config.check()?;
        Ok(config)
    }

    /// Reads TOML text.
    ///
    /// # Errors
    /// When something in it is wrong.
    pub fn parse(toml: &str) -> Result<Self, Error> {
        let config = daemon::config::parse::<Self>(toml)?;
        config.check()?;
        Ok(config)
    }

    /// Whether the parts go together.
    ///
    /// # Errors
    /// What is wrong.
    pub fn check(&self) -> Result<(), Error> {
        let mut configured = 0;
        for service in [Service::Jpy, Service::Coaps, Service::Https] {
            configured += self.registrar.places(service)?.len();
        }
        // JPX-004: A proxy with both modes, no discovery and no configured mode does not operate.
        if configured == 0 && self.registrar.discover.is_empty() {
            return Err(Error::NoRegistrar);
        }
        if self.pledges.interfaces.is_empty() && self.pledges.addresses.is_empty() {
            return Err(Error::Usage(
                "[pledges] names neither interfaces nor addresses (`init`: --interface or \
                 --address)"
                    .to_owned(),
            ));
        }
        if self.registrar.registrars_max == 0 {
            return Err(Error::Usage("registrars_max is 0".to_owned()));
        }
        if self.header.key_hours == 0 {
            return Err(Error::Usage("key_hours is 0".to_owned()));
        }
        self.limits.check()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SMALLEST: &str = "[pledges]\naddresses = [\"::1\"]\n";

    fn refused(text: &str) -> String {
        Config::parse(&format!("{SMALLEST}{text}"))
            .err()
            .map(|error| error.to_string())
            .unwrap_or_default()
    }

    /// Requirements: JPX-004, JPX-011
    #[test]
    fn what_helps_nobody_is_refused() {
        assert_eq!(refused(""), "");
        assert!(refused("[registrar]\ndiscover = []").contains("no registrar is configured"));
        assert!(refused("[registrar]\nregistrars_max = 0").contains("registrars_max"));
        assert!(refused("[header]\nkey_hours = 0").contains("key_hours"));
        for name in [
            "pledge_datagrams_per_second",
            "pledge_burst",
            "link_datagrams_per_second",
            "link_burst",
            "pledges_tracked",
            "datagram_bytes",
            "states_per_pledge",
            "states_per_link",
            "state_seconds",
            "connections_per_pledge",
            "connections_per_link",
            "connection_idle_seconds",
            "connection_seconds",
            "connect_seconds",
        ] {
            let error = refused(&format!("[limits]\n{name} = 0"));
            assert_eq!(error, format!("{name} is 0"));
        }
        // Nobody gives way before its time.
        assert_eq!(refused("[limits]\nunanswered_seconds = 0"), "");
        assert!(refused("[limits]\nstate_second = 3").contains("state_second"));
        let longer = Config::parse(&format!("{SMALLEST}[limits]\nstate_seconds = 90")).unwrap();
        assert_eq!(longer.limits.states().idle, Duration::from_secs(90));
        assert!(Config::parse("").is_err());
    }

    /// The sample says of each setting what it is by default, and forgets none.
    #[test]
    fn the_sample_is_true() {
        const SAMPLE: &str = include_str!("../../../docs/samples/proxy.toml");
        let read = Config::parse(SAMPLE).unwrap();
        assert_eq!(read.registrar.jpy, ["[2001:db8::52]:7634"]);
        // With each commented setting in force it is the same configuration, but for `source`,
        // which has no default.
        let all: String = SAMPLE
            .lines()
            .map(|line| match line.strip_prefix("# ") {
                Some(setting) if is_setting(setting) => format!("{setting}\n"),
                _ => format!("{line}\n"),
            })
            .collect();
        let mut full = serde_json::to_value(Config::parse(&all).unwrap()).unwrap();
        full["registrar"]["source"] = serde_json::Value::Null;
        let read = serde_json::to_value(&read).unwrap();
        assert_eq!(full, read);
        for (section, settings) in read.as_object().unwrap() {
            let begins = all.find(&format!("[{section}]")).unwrap();
            let of_section = all[begins..].split("\n[").next().unwrap();
            for name in settings.as_object().unwrap().keys() {
                assert!(
                    of_section.contains(&format!("\n{name} = ")),
                    "{section}.{name}"
                );
            }
        }
    }

    fn is_setting(line: &str) -> bool {
        let name = line.split(" = ").next().unwrap_or_default();
        line.contains(" = ")
            && name
                .bytes()
                .all(|octet| octet.is_ascii_lowercase() || octet == b'_')
    }
}
