//! What a running registrar is: its configuration, keys, vendors, database, and the steps that it
//! carries out for the protocol.

mod attempt;
mod caller;
mod history;
mod masa;
mod nonceless;
mod pool;
mod status;
mod voucher;
mod webhook;

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError, Weak};
use std::time::{Duration, Instant, SystemTime};

use arc_swap::ArcSwap;
use daemon::{Clock, Metrics};
use net::coap::CoapIdentities;
use net::server::ServerIdentities;
use pki::path::Anchors;
use pki::{Certificate, Identity};
use store::Store;
use store::audit::Log;
use tokio::sync::{Semaphore, SemaphorePermit};

pub use attempt::{Attempt, Presented};
pub use caller::Caller;
pub use voucher::Answer;

use crate::ca::CertificateAuthority;
use crate::config::{Config, PinScope};
use crate::vendor::Vendors;
use crate::{Error, counters::Counters};

/// Attempts of identities that no vendor vouches for that are written down in one second.
const STRANGERS_PER_SECOND_MAX: u32 = 100;

/// A registrar, ready to serve. Cheap to clone.
#[derive(Clone)]
pub struct Service(Arc<Inner>);

struct Inner {
    config: Config,
    clock: Clock,
    store: Store,
    audit: Log,
    counters: Counters,
    keys: ArcSwap<Keys>,
    vendors: ArcSwap<Vendors>,
    server_identities: ServerIdentities,
    /// The same for CoAP over DTLS, if that is served.
    coap_identities: OnceLock<CoapIdentities>,
    /// One gate for each vendor, so that a slow MASA holds back its own devices only.
    masa_gates: Mutex<HashMap<String, Arc<Gate>>>,
    /// Connections to MASAs that wait for their next request.
    pool: pool::Pool,
    /// Counts reloads, so that no connection outlives what it was trusted by.
    generation: AtomicU64,
    /// One lock for each exchange in progress: a request that is sent twice is worked on once.
    exchange_locks: Mutex<HashMap<String, Weak<tokio::sync::Mutex<()>>>>,
    ca: Option<Arc<dyn CertificateAuthority>>,
    /// How many requests of devices are worked on at once.
    turns: Semaphore,
    /// When the window began, and how many strangers were written down in it.
    strangers: Mutex<Option<(Instant, u32)>>,
    /// Modification times of the files that a change reloads.
    stamps: Mutex<Vec<(PathBuf, Option<SystemTime>)>>,
}

/// How long a request waits for its turn before it is shed.
pub(crate) const TURN_WAIT_MAX: Duration = Duration::from_secs(5);

/// How many wait at a gate for each one that may pass; more are told to come back.
const WAITING_PER_CALL: usize = 4;

/// A bound on the calls to the MASAs of one vendor, and on the devices that wait for one. Without
/// the second, the devices of one slow MASA would take all the places of the others.
struct Gate {
    admitted: Semaphore,
    calls: Semaphore,
}

impl Gate {
    fn new(size: usize) -> Self {
        Self {
            admitted: Semaphore::new(size.saturating_mul(1 + WAITING_PER_CALL)),
            calls: Semaphore::new(size),
        }
    }
}

/// Keys and certificates of the registrar.
pub struct Keys {
    /// Server identities; the first signs voucher requests and is shown to MASAs.
    pub identities: Vec<Identity>,
    /// Certificates of the domain.
    pub domain: Vec<Certificate>,
    /// The same as anchors: for LDevIDs of this domain, and for what vouchers pin.
    pub anchors: Anchors,
}

impl Keys {
    /// Reads what the configuration names.
    ///
    /// # Errors
    /// A file is missing, is no certificate or key, or key and certificate do not fit.
    pub fn load(config: &Config) -> Result<Self, Error> {
        let base = Path::new("");
        let mut identities = Vec::new();
        for pair in &config.identity.tls {
            let identity = pair.load(base)?;
            if let Some(leaf) = identity.chain.first() {
                check_purposes(leaf)?;
            }
            identities.push(identity);
        }
        let domain =
            Certificate::load_all(&config.identity.domain_ca).map_err(|error| Error::Config {
                detail: format!("{}: {error}", config.identity.domain_ca.display()),
            })?;
        // The chain of each identity reaches up to the domain, so that a MASA can pin it and a
        // device can build its path, also if the certificate file holds the leaf only.
        for identity in &mut identities {
            complete_chain(&mut identity.chain, &domain);
        }
        let anchors = domain.iter().cloned().collect();
        Ok(Self {
            identities,
            domain,
            anchors,
        })
    }

    /// The identity that signs voucher requests.
    ///
    /// # Errors
    /// There is none.
    pub fn registrar(&self) -> Result<&Identity, Error> {
        self.identities.first().ok_or_else(|| Error::Config {
            detail: "[identity] has no key".to_owned(),
        })
    }
}

impl Keys {
    /// The identity that a device saw on its connection; the first one if that is gone meanwhile.
    ///
    /// The request to the MASA is signed by this one: a MASA compares the registrar that the device
    /// saw with the signer's chain (BRSKI-5.5.5-02), so with several server identities any other
    /// would look like somebody in between.
    ///
    /// # Errors
    /// There is none at all.
    pub fn seen(&self, own: &[Certificate]) -> Result<&Identity, Error> {
        own.first()
            .and_then(|leaf| {
                self.identities
                    .iter()
                    .find(|identity| identity.chain.first() == Some(leaf))
            })
            .map_or_else(|| self.registrar(), Ok)
    }
}

/// Checks that a certificate is for everything that a registrar does with it: it answers devices,
/// calls MASAs and signs voucher requests.
fn check_purposes(leaf: &Certificate) -> Result<(), Error> {
    let purposes: Vec<String> = leaf
        .extended_key_usages()
        .iter()
        .map(ToString::to_string)
        .collect();
    // CBR-026, CBR-027, CBR-099: the registrar certificate has EKU id-kp-cmcRA, as a server
    // id-kp-serverAuth, and as a client id-kp-clientAuth.
    // CBR-100: A single registrar certificate for both roles has at least cmcRA, serverAuth and
    // clientAuth.
    let missing: Vec<&str> = [
        ("1.3.6.1.5.5.7.3.28", "cmcRA"),
        ("1.3.6.1.5.5.7.3.1", "serverAuth"),
        ("1.3.6.1.5.5.7.3.2", "clientAuth"),
    ]
    .into_iter()
    .filter(|(oid, _)| !purposes.iter().any(|purpose| purpose == oid))
    .map(|(_, name)| name)
    .collect();
    if missing.is_empty() {
        return Ok(());
    }
    Err(Error::Config {
        detail: format!(
            "the registrar's certificate {} lacks the extended key usage {}",
            leaf.subject(),
            missing.join(", ")
        ),
    })
}

/// Adds issuers from `pool` until the chain ends in a self-signed certificate or in one whose
/// issuer is not there.
fn complete_chain(chain: &mut Vec<Certificate>, pool: &[Certificate]) {
    for _ in 0..pool.len() {
        let Some(last) = chain.last() else { return };
        if last.subject_der() == last.issuer_der() {
            return;
        }
        let issuer = pool.iter().find(|candidate| {
            candidate.subject_der() == last.issuer_der()
                && last.verify_signature_by(candidate.public_key()).is_ok()
        });
        match issuer {
            Some(issuer) if !chain.contains(issuer) => chain.push(issuer.clone()),
            _ => return,
        }
    }
}

impl Service {
    /// Reads keys and vendors, opens the database, and checks that they fit together.
    ///
    /// # Errors
    /// What cannot be read, or a database whose schema is not this program's.
    pub async fn open(config: Config, clock: Clock, metrics: &Metrics) -> Result<Self, Error> {
        let keys = Keys::load(&config)?;
        let vendors = Vendors::load(&config.vendors.directory)?;
        let store = Store::open(&config.database.url, &crate::schema::SCHEMA).await?;
        let audit = open_audit(&config, &store)?;
        let server_identities = ServerIdentities::new(&keys.identities)?;
        let ca = config.ca.open()?;
        let turns = Semaphore::new(config.concurrency_max.max(1));
        let service = Self(Arc::new(Inner {
            stamps: Mutex::new(stamps(&config)),
            config,
            clock,
            store,
            audit,
            counters: Counters::new(metrics),
            keys: ArcSwap::from_pointee(keys),
            vendors: ArcSwap::from_pointee(vendors),
            server_identities,
            coap_identities: OnceLock::new(),
            masa_gates: Mutex::default(),
            pool: pool::Pool::default(),
            generation: AtomicU64::new(0),
            exchange_locks: Mutex::default(),
            strangers: Mutex::default(),
            turns,
            ca,
        }));
        service.warn_about_anchors();
        Ok(service)
    }

    /// The configuration.
    #[must_use]
    pub fn config(&self) -> &Config {
        &self.0.config
    }

    /// The clock.
    #[must_use]
    pub fn clock(&self) -> &Clock {
        &self.0.clock
    }

    /// The time now.
    #[must_use]
    pub fn now(&self) -> time::OffsetDateTime {
        self.0.clock.now()
    }

    /// The database.
    #[must_use]
    pub fn store(&self) -> &Store {
        &self.0.store
    }

    /// The audit log of this registrar.
    #[must_use]
    pub fn audit(&self) -> &Log {
        &self.0.audit
    }

    /// The counters.
    #[must_use]
    pub fn counters(&self) -> &Counters {
        &self.0.counters
    }

    /// Keys and certificates as they are now.
    #[must_use]
    pub fn keys(&self) -> Arc<Keys> {
        self.0.keys.load_full()
    }

    /// The vendor profiles as they are now.
    #[must_use]
    pub fn vendors(&self) -> Arc<Vendors> {
        self.0.vendors.load_full()
    }

    /// The CA behind the registrar, if there is one.
    #[must_use]
    pub fn ca(&self) -> Option<&Arc<dyn CertificateAuthority>> {
        self.0.ca.as_ref()
    }

    /// The server identities, which [`Service::reload`] replaces.
    #[must_use]
    pub fn server_identities(&self) -> &ServerIdentities {
        &self.0.server_identities
    }

    /// Lets [`Service::reload`] replace the certificates of a CoAP listener too.
    pub(crate) fn reload_too(&self, identities: CoapIdentities) {
        // Set once, by who listens.
        let _ = self.0.coap_identities.set(identities);
    }

    /// Reads keys, certificates and vendor profiles again. If anything cannot be read, everything
    /// stays as it was.
    ///
    /// # Errors
    /// What cannot be read.
    pub fn reload(&self) -> Result<(), Error> {
        let keys = Keys::load(&self.0.config)?;
        let vendors = Vendors::load(&self.0.config.vendors.directory)?;
        if let Some(identities) = self.0.coap_identities.get() {
            identities.replace(&crate::coap::dtls_identities(&keys)?)?;
        }
        self.0.server_identities.replace(&keys.identities)?;
        self.0.keys.store(Arc::new(keys));
        self.0.vendors.store(Arc::new(vendors));
        self.0.generation.fetch_add(1, Ordering::SeqCst);
        *self.0.stamps.lock().unwrap_or_else(PoisonError::into_inner) = stamps(&self.0.config);
        tracing::info!("keys, certificates and vendor profiles were read again");
        self.warn_about_anchors();
        Ok(())
    }

    /// [`Service::reload`], if one of the files changed since the last time.
    pub fn reload_if_changed(&self) {
        let changed = {
            let known = self.0.stamps.lock().unwrap_or_else(PoisonError::into_inner);
            *known != stamps(&self.0.config)
        };
        if changed && let Err(error) = self.reload() {
            tracing::error!(code = pki::Coded::code(&error), %error, "reload failed; the old state stays");
        }
    }

    /// Waits for a place among the requests that are worked on. Under overload the newest wait for a
    /// moment and are then told to come back.
    ///
    /// # Errors
    /// [`Error::Busy`]
    pub(crate) async fn turn(&self) -> Result<SemaphorePermit<'_>, Error> {
        match tokio::time::timeout(TURN_WAIT_MAX, self.0.turns.acquire()).await {
            Ok(Ok(turn)) => Ok(turn),
            _ => Err(Error::Busy),
        }
    }

    fn warn_about_anchors(&self) {
        let now = self.now();
        let warning = time::Duration::days(i64::from(self.0.config.vendors.expiry_warning_days));
        for vendor in &self.vendors().list {
            for purpose in crate::vendor::Use::ALL {
                for certificate in &vendor.anchors(purpose).certificates {
                    if certificate.not_after() - warning < now {
                        tracing::warn!(
                            vendor = vendor.profile.name,
                            purpose = purpose.as_str(),
                            subject = certificate.subject(),
                            expires = %certificate.not_after(),
                            "a trust anchor expires soon or has expired"
                        );
                    }
                }
            }
        }
    }

    /// Removes what the retention limits say, and counts devices by state.
    ///
    /// # Errors
    /// The database failed.
    pub async fn housekeeping(&self) -> Result<(), Error> {
        let (retention, now) = (self.0.config.retention.clone(), self.now());
        // Short transactions, so that devices get their turn between them, and as many as it
        // takes: strangers must not come faster than they are forgotten.
        loop {
            let retention = retention.clone();
            let purged = self
                .store()
                .transaction("retention", move |connection| {
                    let retention = retention.clone();
                    Box::pin(async move {
                        Ok::<_, Error>(crate::records::purge(connection, &retention, now).await?)
                    })
                })
                .await?;
            if purged != crate::records::Purged::default() {
                tracing::info!(
                    entries = purged.entries,
                    devices = purged.devices,
                    exchanges = purged.exchanges,
                    "rows beyond the retention limits were removed"
                );
            }
            if !purged.more {
                break;
            }
        }
        let mut snapshot = self.store().snapshot().await?;
        let counts = crate::records::state_counts(&mut snapshot).await?;
        for state in crate::records::State::ALL {
            let number = counts
                .iter()
                .find(|(s, _)| *s == state)
                .map_or(0, |(_, n)| *n);
            self.0.counters.devices(state, number);
        }
        Ok(())
    }

    /// Whether a stranger may be written down now. Each line costs the disk a write, and strangers
    /// are free to come as fast as they like; beyond the limit they are only counted and logged.
    pub(crate) fn stranger_turn(&self) -> bool {
        let mut window = self
            .0
            .strangers
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let (begun, count) = match *window {
            Some((begun, count)) if begun.elapsed().as_secs() == 0 => (begun, count),
            _ => (Instant::now(), 0),
        };
        *window = Some((begun, count.saturating_add(1)));
        count < STRANGERS_PER_SECOND_MAX
    }

    /// Whether the registrar's own certificates are within their lifetime.
    ///
    /// # Errors
    /// A sentence that says which one is not.
    pub fn certificates_hold(&self) -> Result<(), String> {
        let now = self.now();
        for identity in &self.keys().identities {
            let outside = identity
                .chain
                .first()
                .filter(|leaf| now < leaf.not_before() || now > leaf.not_after());
            if let Some(leaf) = outside {
                return Err(format!("{} is not valid now", leaf.subject()));
            }
        }
        Ok(())
    }

    /// How many reloads there were.
    fn generation(&self) -> u64 {
        self.0.generation.load(Ordering::SeqCst)
    }

    /// The chain that travels with voucher requests.
    fn chain_to_send(&self) -> brski::registrar::ChainToSend {
        match self.0.config.identity.pin {
            PinScope::Chain => brski::registrar::ChainToSend::Whole,
            PinScope::Registrar => brski::registrar::ChainToSend::EndEntity,
        }
    }

    /// The gate in front of the MASAs of one vendor.
    fn masa_gate(&self, vendor: &str) -> Arc<Gate> {
        let mut gates = self
            .0
            .masa_gates
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let size = self.0.config.masa.concurrency_max_per_vendor.max(1);
        Arc::clone(
            gates
                .entry(vendor.to_owned())
                .or_insert_with(|| Arc::new(Gate::new(size))),
        )
    }

    /// The lock of one exchange. Whoever holds it works on the exchange; others wait and then find
    /// the result in the database.
    fn exchange_lock(&self, exchange_id: &str) -> Arc<tokio::sync::Mutex<()>> {
        let mut locks = self
            .0
            .exchange_locks
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if let Some(lock) = locks.get(exchange_id).and_then(Weak::upgrade) {
            return lock;
        }
        locks.retain(|_, lock| lock.strong_count() > 0);
        let lock = Arc::new(tokio::sync::Mutex::new(()));
        locks.insert(exchange_id.to_owned(), Arc::downgrade(&lock));
        lock
    }
}

/// Opens the audit log over a database that is open.
///
/// # Errors
/// The key cannot be read, or is not the log's.
pub fn open_audit(config: &Config, store: &Store) -> Result<Log, Error> {
    let signer = config.identity.audit_key.load(Path::new(""))?;
    let log = Log::new(store.clone(), &config.identity.audit_origin, signer)?;
    Ok(log.with_anchor(config.identity.audit_anchor.clone()))
}

/// What a reload would read, with its times of modification.
fn stamps(config: &Config) -> Vec<(PathBuf, Option<SystemTime>)> {
    let modified = |path: &Path| std::fs::metadata(path).and_then(|m| m.modified()).ok();
    let mut paths = vec![
        config.identity.domain_ca.clone(),
        config.vendors.directory.clone(),
    ];
    for pair in &config.identity.tls {
        paths.push(pair.certificate.clone());
        paths.push(PathBuf::from(&pair.key));
    }
    if let Ok(entries) = std::fs::read_dir(&config.vendors.directory) {
        let mut inside: Vec<PathBuf> = entries
            .filter_map(Result::ok)
            .map(|entry| entry.path())
            .collect();
        inside.sort();
        for path in inside {
            if path.is_dir()
                && let Ok(entries) = std::fs::read_dir(&path)
            {
                let mut files: Vec<PathBuf> = entries
                    .filter_map(Result::ok)
                    .map(|entry| entry.path())
                    .collect();
                files.sort();
                paths.extend(files);
            }
            paths.push(path);
        }
    }
    paths
        .into_iter()
        .map(|path| (path.clone(), modified(&path)))
        .collect()
}
