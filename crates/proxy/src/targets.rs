//! Which registrars are used: those that are configured, and those that are found.

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use coap::link as core_link;
use coap::{Request, Response, format};
use net::coap::discover_multicast;
use tokio::sync::Notify;

use crate::relay::is_link_local;
use crate::target::{Place, Service, Target};
use crate::{Config, Error, Finder, Mode, link, mdns};

/// How long answers to a question for registrars are waited for.
const ANSWER_TIME: Duration = Duration::from_secs(6);
/// How soon registrars are looked for again while there is none.
const RETRY_TIME: Duration = Duration::from_secs(10);
/// A registrar that did not answer this many searches in a row, while others did, is left.
const MISSES_MAX: u32 = 3;
/// Registrars that are remembered, of all services.
const FOUND_MAX: usize = 64;
/// How often names are resolved again.
const RESOLVE_TIME: Duration = Duration::from_secs(60);

/// The registrars at this moment.
#[derive(Debug, Default)]
pub(crate) struct Targets {
    list: ArcSwap<Vec<Target>>,
    changed: Notify,
}

impl Targets {
    pub(crate) fn of(&self, service: Service) -> Vec<SocketAddr> {
        let list = self.list.load();
        list.iter()
            .filter(|target| target.service == service)
            .map(|target| target.address)
            .collect()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.list.load().is_empty()
    }

    pub(crate) async fn changed(&self) {
        self.changed.notified().await;
    }

    fn replace(&self, list: Vec<Target>) {
        if **self.list.load() != list {
            for target in &list {
                tracing::info!(service = target.service.scheme(), address = %target.address, "a registrar is used");
            }
            self.list.store(Arc::new(list));
            self.changed.notify_one();
        }
    }
}

/// The registrars that were found, those that are known longest first, with how many searches in
/// a row each of them did not answer.
#[derive(Debug, Default)]
struct Found(Vec<(Target, u32)>);

impl Found {
    fn targets(&self) -> impl Iterator<Item = Target> {
        self.0.iter().map(|(target, _)| *target)
    }

    /// Takes up what one search found. An answer may be lost, so nobody is left because of one;
    /// and nobody is left for nobody.
    fn update(&mut self, seen: &BTreeSet<Target>) {
        if seen.is_empty() {
            return;
        }
        for (target, misses) in &mut self.0 {
            *misses = match seen.contains(target) {
                true => 0,
                false => *misses + 1,
            };
        }
        self.0.retain(|(_, misses)| *misses < MISSES_MAX);
        for target in seen {
            if self.0.len() < FOUND_MAX && !self.targets().any(|known| known == *target) {
                self.0.push((*target, 0));
            }
        }
    }

    /// Whether all of them answered the last time.
    fn is_settled(&self) -> bool {
        !self.0.is_empty() && self.0.iter().all(|(_, misses)| *misses == 0)
    }
}

/// Keeps the list up to date.
pub(crate) struct Search {
    config: Config,
    places: Vec<(Service, Place)>,
    found: Found,
    targets: Arc<Targets>,
}

impl Search {
    pub(crate) fn new(config: &Config, targets: Arc<Targets>) -> Result<Self, Error> {
        let mut places = Vec::new();
        for service in [Service::Jpy, Service::Coaps, Service::Https] {
            let list = config.registrar.places(service)?;
            places.extend(list.into_iter().map(|place| (service, place)));
        }
        Ok(Self {
            config: config.clone(),
            places,
            found: Found::default(),
            targets,
        })
    }

    /// Resolves what is configured. A name that cannot be resolved now is tried again later.
    pub(crate) async fn resolve(&self) {
        let mut list: Vec<Target> = Vec::new();
        for (service, place) in &self.places {
            let address = match place.literal() {
                Some(address) => Some(address),
                None => first_address(place).await,
            };
            match address {
                Some(address) => list.push(Target {
                    service: *service,
                    address,
                }),
                None => {
                    tracing::warn!(code = "proxy.unresolved", %place, "the registrar's name has no address");
                }
            }
        }
        list.extend(self.found.targets());
        self.targets
            .replace(some_of(list, self.config.registrar.registrars_max));
    }

    /// Resolves and searches, again and again.
    pub(crate) async fn run(mut self) {
        let seldom = Duration::from_secs(self.config.registrar.discover_seconds.max(1));
        let mut next = tokio::time::Instant::now();
        loop {
            if !self.wanted().is_empty() && tokio::time::Instant::now() >= next {
                self.search().await;
                let wait = match self.found.is_settled() {
                    true => seldom,
                    false => RETRY_TIME.min(seldom),
                };
                next = tokio::time::Instant::now() + wait;
            }
            self.resolve().await;
            let wait = match self.wanted().is_empty() {
                true => RESOLVE_TIME,
                false => RESOLVE_TIME.min(next - tokio::time::Instant::now()),
            };
            tokio::time::sleep(wait).await;
        }
    }

    /// What is looked for: the services of which no place is configured.
    pub(crate) fn wanted(&self) -> Vec<Service> {
        if self.config.registrar.discover.is_empty() {
            return Vec::new();
        }
        // An operator who names a registrar's CoAPs port alone wants the stateful way.
        let udp = self
            .places
            .iter()
            .any(|(service, _)| *service != Service::Https);
        let mut wanted = match udp {
            true => Vec::new(),
            // Nothing is asked for that the mode has no use for.
            false => match self.config.registrar.mode {
                Mode::Stateless => vec![Service::Jpy],
                Mode::Stateful => vec![Service::Coaps],
                Mode::Auto | Mode::Both => vec![Service::Jpy, Service::Coaps],
            },
        };
        let https = self
            .places
            .iter()
            .any(|(service, _)| *service == Service::Https);
        // HTTPS registrars have no form of being found by CoAP.
        if !https && self.config.registrar.discover.contains(&Finder::Mdns) {
            wanted.push(Service::Https);
        }
        wanted
    }

    /// Everybody who answers now, in every way that is configured.
    pub(crate) async fn ask_around(&self) -> BTreeSet<Target> {
        let (jpy, coaps, mdns) = tokio::join!(
            self.ask_groups(Service::Jpy),
            self.ask_groups(Service::Coaps),
            self.ask_mdns(),
        );
        [jpy, coaps, mdns].concat().into_iter().collect()
    }

    async fn ask_groups(&self, service: Service) -> Vec<Target> {
        let by_coap = self.config.registrar.discover.contains(&Finder::Coap);
        let mut found = Vec::new();
        if by_coap && self.wanted().contains(&service) {
            for group in &self.config.registrar.groups {
                found.extend(self.ask(*group, service).await);
            }
        }
        found
    }

    async fn search(&mut self) {
        let found = self.ask_around().await;
        self.found.update(&found);
    }

    /// By multicast DNS, for registrars on a link of this host.
    async fn ask_mdns(&self) -> Vec<Target> {
        if !self.config.registrar.discover.contains(&Finder::Mdns) {
            return Vec::new();
        }
        let mut scopes: Vec<u32> = self
            .config
            .registrar
            .interfaces
            .iter()
            .filter_map(|name| link::index_of(name))
            .collect();
        if self.config.registrar.interfaces.is_empty() {
            scopes.push(0);
        }
        let mut found = Vec::new();
        for scope in scopes {
            for service in self.wanted() {
                match mdns::find(service, scope).await {
                    Ok(answers) => found.extend(answers),
                    Err(error) => {
                        tracing::warn!(code = "proxy.search", %error, "registrars cannot be asked for");
                    }
                }
            }
        }
        found
    }

    // JPX-037: Registrar location is discovered when not configured, by default by CoAP
    // link-format queries.
    async fn ask(&self, group: IpAddr, service: Service) -> Vec<Target> {
        let kind = match service {
            Service::Jpy => "brski.rjp",
            Service::Coaps | Service::Https => "brski",
        };
        let request = Request {
            query: vec![format!("rt={kind}")],
            non_confirmable: true,
            ..Request::get(".well-known/core")
        };
        let to = SocketAddr::new(group, self.config.registrar.group_port);
        let interfaces = &self.config.registrar.interfaces;
        let names: Vec<Option<&str>> = match interfaces.is_empty() {
            true => vec![None],
            false => interfaces.iter().map(|name| Some(name.as_str())).collect(),
        };
        let mut found = Vec::new();
        for name in names {
            match discover_multicast(to, name, request.clone(), ANSWER_TIME).await {
                Ok(answers) => {
                    for (from, response) in answers {
                        let own = from.ip().is_loopback();
                        found.extend(places(&response, kind, service, own));
                    }
                }
                Err(error) => {
                    tracing::warn!(code = "proxy.search", %to, %error, "registrars cannot be asked for");
                }
            }
        }
        found
    }
}

async fn first_address(place: &Place) -> Option<SocketAddr> {
    let found = tokio::net::lookup_host((place.host.as_str(), place.port)).await;
    found.ok().and_then(|mut all| all.next())
}

/// The registrars of an answer; `own` where it came from this host.
fn places(response: &Response, kind: &str, service: Service, own: bool) -> Vec<Target> {
    if !response.code.is_success() || response.content_format != Some(format::LINK_FORMAT) {
        return Vec::new();
    }
    let links = std::str::from_utf8(&response.payload)
        .ok()
        .and_then(|text| core_link::decode(text).ok())
        .unwrap_or_default();
    links
        .iter()
        .filter(|link| link.is_of_type(kind))
        // A relative reference has no scheme, and is no place to go to without DTLS.
        .filter(|link| link.target.contains("://"))
        .filter_map(|link| Place::parse(&link.target, service).ok())
        // A name from the network is not resolved: the network's answer is not ours to spread.
        .filter_map(|place| place.literal())
        .filter(|address| is_host(address.ip()) || (own && address.ip().is_loopback()))
        .map(|address| Target { service, address })
        .collect()
}

/// Whether an address can be that of a registrar elsewhere. A link-local one says nothing without
/// its link.
pub(crate) fn is_host(address: IpAddr) -> bool {
    // An IPv4 address in IPv6's clothes goes where the IPv4 address goes.
    let address = address.to_canonical();
    let is_broadcast = matches!(address, IpAddr::V4(v4) if v4.is_broadcast());
    !(address.is_unspecified()
        || address.is_multicast()
        || address.is_loopback()
        || is_link_local(address)
        || is_broadcast)
}

// JPX-036: If more registrars are found than can be offered, the proxy selects some of them.
fn some_of(list: Vec<Target>, most: usize) -> Vec<Target> {
    let mut chosen: Vec<Target> = Vec::new();
    for target in list {
        let same = chosen
            .iter()
            .filter(|known| known.service == target.service)
            .count();
        if same < most && !chosen.contains(&target) {
            chosen.push(target);
        }
    }
    chosen
}

#[cfg(test)]
mod tests {
    use coap::Code;

    use super::*;

    fn answer(text: &str) -> Response {
        Response::content(Code::CONTENT, format::LINK_FORMAT, text)
    }

    /// Requirements: JPX-023, JPX-024, JPX-041, JPX-043
    #[test]
    fn answers_of_registrars_are_read() {
        let jpy = "<jpy://[2001:db8:0:abcd::52]:7634>;rt=brski.rjp,<jpy://[2001:db8::9]>;rt=brski.rjp,\
                   <coaps://[2001:db8::9]:1>;rt=brski.rjp,<jpy://evil.example:5>;rt=brski.rjp";
        let found = places(&answer(jpy), "brski.rjp", Service::Jpy, false);
        assert_eq!(found.len(), 1);
        assert_eq!(
            found[0].address,
            "[2001:db8:0:abcd::52]:7634".parse().unwrap()
        );
        let coaps = "<coaps://[2001:db8:0:abcd::52]/b>;rt=brski,</b>;rt=brski,<coaps://[2001:db8::1]:9/x>;rt=\"x brski\"";
        let found: Vec<String> = places(&answer(coaps), "brski", Service::Coaps, false)
            .iter()
            .map(|target| target.address.to_string())
            .collect();
        assert_eq!(found, ["[2001:db8:0:abcd::52]:5684", "[2001:db8::1]:9"]);
        let nowhere = "<coaps://[ff02::1]>;rt=brski,<coaps://[::]>;rt=brski,<coaps://127.0.0.1>;rt=brski,<coaps://255.255.255.255>;rt=brski,<coaps://[fe80::1]>;rt=brski";
        assert!(places(&answer(nowhere), "brski", Service::Coaps, false).is_empty());
        let here = "<coaps://127.0.0.1:5>;rt=brski,<coaps://[::]>;rt=brski";
        assert_eq!(
            places(&answer(here), "brski", Service::Coaps, true).len(),
            1
        );
        // What only this host can reach is nowhere that others may send us.
        for own in [
            "127.0.0.1",
            "[::1]",
            "[::ffff:127.0.0.1]",
            "[::ffff:0.0.0.0]",
            "[::ffff:224.0.0.1]",
        ] {
            let answer = answer(&format!("<coaps://{own}:9/x>;rt=brski"));
            assert!(
                places(&answer, "brski", Service::Coaps, false).is_empty(),
                "{own}"
            );
        }
        for nothing in ["", "not links", "<coaps://192.0.2.1>;rt=brski.rjp"] {
            assert!(places(&answer(nothing), "brski", Service::Coaps, false).is_empty());
        }
        let refusal = Response::new(Code::NOT_FOUND);
        assert!(places(&refusal, "brski", Service::Coaps, false).is_empty());
    }

    /// Requirements: JPX-036
    #[test]
    fn some_of_many_are_used() {
        let target = |service, port| Target {
            service,
            address: SocketAddr::from(([192, 0, 2, 1], port)),
        };
        let many: Vec<Target> = (1..=9)
            .flat_map(|port| [target(Service::Jpy, port), target(Service::Coaps, port)])
            .collect();
        let chosen = some_of(many, 4);
        assert_eq!(chosen.len(), 8);
        let twice = vec![target(Service::Jpy, 1); 3];
        assert_eq!(some_of(twice, 4).len(), 1);
    }

    #[test]
    fn a_lost_answer_is_no_reason_to_leave() {
        let target = |host: u8| Target {
            service: Service::Jpy,
            address: SocketAddr::from(([192, 0, 2, host], 7634)),
        };
        let hosts = |found: &Found| -> Vec<String> {
            let hosts = found.targets().map(|target| target.address.ip());
            hosts.map(|host| host.to_string()).collect()
        };
        let seen = |hosts: &[u8]| hosts.iter().copied().map(target).collect();
        let mut found = Found::default();
        assert!(!found.is_settled());
        found.update(&seen(&[9]));
        assert!(found.is_settled());
        // A newer one does not take the place of one that is in use.
        found.update(&seen(&[1, 9]));
        assert_eq!(hosts(&found), ["192.0.2.9", "192.0.2.1"]);
        for _ in 0..10 {
            found.update(&seen(&[]));
        }
        assert_eq!(hosts(&found).len(), 2);
        for _ in 1..MISSES_MAX {
            found.update(&seen(&[1]));
            assert_eq!(hosts(&found).len(), 2);
            assert!(!found.is_settled());
        }
        found.update(&seen(&[1]));
        assert_eq!(hosts(&found), ["192.0.2.1"]);
        let many: Vec<u8> = (0..=255).collect();
        found.update(&seen(&many));
        assert_eq!(hosts(&found).len(), FOUND_MAX);
    }

    #[test]
    fn only_what_is_of_use_is_looked_for() {
        let wanted = |registrar: &str| {
            let text = format!("[pledges]\naddresses = [\"::1\"]\n[registrar]\n{registrar}");
            let config = Config::parse(&text).unwrap();
            Search::new(&config, Arc::default()).unwrap().wanted()
        };
        let (jpy, coaps, https) = (Service::Jpy, Service::Coaps, Service::Https);
        assert_eq!(wanted(""), [jpy, coaps]);
        assert_eq!(wanted("mode = \"both\""), [jpy, coaps]);
        assert_eq!(wanted("mode = \"stateless\""), [jpy]);
        assert_eq!(wanted("mode = \"stateful\""), [coaps]);
        assert_eq!(wanted("https = [\"r.example\"]"), [jpy, coaps]);
        assert_eq!(wanted("discover = [\"mdns\"]"), [jpy, coaps, https]);
        assert_eq!(wanted("coaps = [\"r.example\"]"), []);
        assert_eq!(
            wanted("discover = [\"mdns\"]\ncoaps = [\"r.example\"]"),
            [https]
        );
        assert_eq!(wanted("discover = []\njpy = [\"r.example:1\"]"), []);
    }
}
