//! What a running bootstrap server is: its configuration, manufacturers, profiles, database, and
//! the steps that it carries out for the protocol.

mod exchange;
mod identify;
mod live;
mod lookup;
mod rendered;
mod upkeep;

use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use daemon::{Clock, Metrics};
use net::server::ServerIdentities;
use store::{Options, Store};
use time::OffsetDateTime;

use crate::auth::{Judge, Rate};
use crate::config::Config;
use crate::content::Engine;
use crate::counters::Counters;
use crate::csr::Authority;
use crate::profile::Profiles;
use crate::register::DeviceRow;
use crate::timeline::Ledger;
use crate::vendor::Vendors;
use crate::{Error, SCHEMA};

pub(crate) use self::exchange::{Call, Reply, Rpc, Step, error_encoding, joined};
use self::lookup::Lookup;
use self::rendered::Rendered;

/// A bootstrap server, ready to serve. Cheap to clone.
#[derive(Clone)]
pub struct Service(Arc<Inner>);

struct Inner {
    config: Config,
    clock: Clock,
    store: Store,
    ledger: Ledger,
    lookup: Lookup,
    rendered: Rendered,
    counters: Counters,
    engine: Engine,
    rules: ArcSwap<Rules>,
    identities: ServerIdentities,
    legacy_identities: Option<ServerIdentities>,
    judges: [Judge; 2],
    failures: Rate,
    strangers: Rate,
    all_strangers: Rate,
}

/// What can change while the server runs.
pub(crate) struct Rules {
    pub(crate) vendors: Vendors,
    pub(crate) legacy_vendors: Vendors,
    pub(crate) profiles: Profiles,
    /// Where certificates for devices come from.
    pub(crate) authority: Option<Authority>,
    /// What MASAs are asked with.
    pub(crate) live: Option<crate::register::live::Live>,
}

impl Rules {
    fn load(config: &Config) -> Result<Self, Error> {
        let profiles = config.profiles.directory.as_deref();
        let profiles = profiles.map(|directory| config.resolve(directory));
        let vendors = Vendors::load(&config.resolve(&config.vendors.directory))?;
        // SHA-1 in a factory's chain is let pass on the legacy listener only.
        if let Some(vendor) = vendors.list.iter().find(|one| one.tolerances.sha1) {
            return Err(Error::malformed(
                &vendor.path,
                "the tolerance sha1 belongs into the folder of [legacy]",
            ));
        }
        let legacy_vendors = match &config.legacy {
            Some(legacy) => Vendors::load(&config.resolve(&legacy.vendors))?,
            None => Vendors::default(),
        };
        let profiles = Profiles::load(profiles.as_deref())?;
        Ok(Self {
            vendors: vendors.with_serial_rules(&profiles),
            legacy_vendors: legacy_vendors.with_serial_rules(&profiles),
            profiles,
            authority: Authority::open(config)?,
            live: crate::register::live::Live::load(config)?,
        })
    }
}

/// The listener that a request came in by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Door {
    /// The one for everybody.
    Main,
    /// The one for legacy devices, with anchors of its own.
    Legacy,
}

/// A device with what its data depends on.
#[derive(Clone, Debug)]
pub struct Found {
    /// The device.
    pub device: Arc<DeviceRow>,
    /// The epoch of the register.
    pub epoch: i64,
    /// The revision of the content.
    pub revision: i64,
}

impl Service {
    /// Reads keys, manufacturers and profiles, and opens the database.
    ///
    /// # Errors
    /// What cannot be read, or a database whose schema is not this program's.
    pub async fn open(config: Config, clock: Clock, metrics: &Metrics) -> Result<Self, Error> {
        let options = Options {
            connections_max: config.database.connections_max,
            ..Options::default()
        };
        let rules = Rules::load(&config)?;
        let identities = ServerIdentities::new(&config.identities()?)?;
        let legacy_identities = match &config.legacy {
            Some(legacy) => {
                let identities = config.load_identities(&legacy.identity)?;
                Some(ServerIdentities::new(&identities)?)
            }
            None => None,
        };
        let store = Store::open_with(&config.database.url, &SCHEMA, &options).await?;
        Ok(Self(Arc::new(Inner {
            ledger: Ledger::start(store.clone()),
            lookup: Lookup::start(store.clone()),
            // Bodies are a third longer than what is in them, and only busy devices need one.
            rendered: Rendered::new(u64::from(config.content.cache_mib) * 1024 * 1024 / 3),
            counters: Counters::new(metrics, &store),
            engine: Engine::open(&config, &store)?,
            rules: ArcSwap::from_pointee(rules),
            identities,
            legacy_identities,
            judges: [Judge::default(), Judge::default()],
            failures: Rate::new(Duration::from_secs(60)),
            strangers: Rate::new(Duration::from_secs(1)),
            all_strangers: Rate::new(Duration::from_secs(1)),
            config,
            clock,
            store,
        })))
    }

    /// The configuration.
    #[must_use]
    pub fn config(&self) -> &Config {
        &self.0.config
    }

    /// Where it takes the time from.
    #[must_use]
    pub fn clock(&self) -> &Clock {
        &self.0.clock
    }

    /// The time now.
    #[must_use]
    pub fn now(&self) -> OffsetDateTime {
        self.0.clock.now()
    }

    /// The database.
    #[must_use]
    pub fn store(&self) -> &Store {
        &self.0.store
    }

    /// The content that is served.
    #[must_use]
    pub fn engine(&self) -> &Engine {
        &self.0.engine
    }

    /// The server identities, which [`Service::reload`] replaces.
    #[must_use]
    pub fn server_identities(&self) -> &ServerIdentities {
        &self.0.identities
    }

    /// Those of the legacy listener, if there is one.
    #[must_use]
    pub fn legacy_identities(&self) -> Option<&ServerIdentities> {
        self.0.legacy_identities.as_ref()
    }

    /// Reads certificates, keys, manufacturers and profiles again. What is wrong leaves the old
    /// ones in use.
    ///
    /// # Errors
    /// What is wrong with the new ones.
    pub fn reload(&self, config: &Config) -> Result<(), Error> {
        // Everything is read before anything is replaced.
        let rules = Rules::load(config)?;
        let identities = config.identities()?;
        let legacy = match (&config.legacy, &self.0.legacy_identities) {
            (Some(legacy), Some(shown)) => Some((shown, config.load_identities(&legacy.identity)?)),
            _ => None,
        };
        self.0.engine.reload(config)?;
        self.0.identities.replace(&identities)?;
        if let Some((shown, identities)) = legacy {
            shown.replace(&identities)?;
        }
        self.0.rules.store(Arc::new(rules));
        self.0.judges.iter().for_each(Judge::forget);
        Ok(())
    }
}
