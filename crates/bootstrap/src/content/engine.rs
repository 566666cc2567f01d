//! The content that is served: from a request's facts to octets, without work that was done before.
//!
//! Three places are looked at, the nearest first. What a device was given under the same epoch of
//! the register is in memory; so are artefacts by the digest of everything that went into them;
//! and signed artefacts are in the database, where other replicas find them too. Only what is in
//! none of them is rendered, encoded and signed. A change of a device, a voucher, the content or a
//! rollout changes the epoch, so nothing old is ever found.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use arc_swap::ArcSwap;
use bytes::Bytes;
use futures::FutureExt as _;
use pki::Identity;
use store::{Store, params};
use sztp::message::ReportingLevel;
use time::OffsetDateTime;

use super::build::{Content, Inputs, Plan, What};
use super::decide::{self, Mode, Trace};
use super::document::{Digest, Document, Reporting};
use super::images::Images;
use super::load;
use super::revision;
use super::rollout::{self, Rollout};
use super::rules::RuleSet;
use super::template::Templates;
use super::{Facts, Prepared, Refusal};
use crate::Error;
use crate::config::{Config, Owner, Role};

/// What is kept of a device beside the artefacts themselves, in octets.
const ENTRY_SIZE: usize = 512;

/// The content that is served. Cheap to clone.
#[derive(Clone)]
pub struct Engine(Arc<Inner>);

struct Inner {
    store: Store,
    settings: ArcSwap<Settings>,
    live: ArcSwap<Live>,
    /// Held by whoever reads new content, so that it is read once.
    loading: tokio::sync::Mutex<()>,
    /// By device and by what of its request matters.
    prepared: moka::sync::Cache<(i64, u64), Arc<Entry>>,
    artefacts: moka::sync::Cache<Digest, Bytes>,
    images: Images,
    counts: Counts,
}

/// What the configuration says.
pub(super) struct Settings {
    pub(super) role: Role,
    base_url: Option<String>,
    pub(super) owner: Option<OwnerReady>,
}

/// The owner's key and what goes with it.
pub(super) struct OwnerReady {
    identity: Arc<Identity>,
    /// The owner certificate artefact.
    artefact: Bytes,
    /// SHA-256 of what a voucher may pin.
    pub(super) pins: Vec<Vec<u8>>,
}

impl OwnerReady {
    fn new(owner: &Owner) -> Result<Self, Error> {
        let chain = &owner.identity.chain;
        // SZTP-8572-3.2-02, SZTP-8572-3.2-03: degenerate, up to what vouchers pin.
        let artefact = artifacts::owner::encode(chain, &owner.crls)?;
        let mut pins = Vec::new();
        for certificate in chain.iter().chain(&owner.ca) {
            pins.push(certificate.sha256().to_vec());
            pins.push(certificate.public_key().sha256().to_vec());
        }
        Ok(Self {
            identity: Arc::clone(&owner.identity),
            artefact: artefact.into(),
            pins,
        })
    }
}

impl Settings {
    fn new(config: &Config) -> Result<Self, Error> {
        let owner = config.load_owner()?;
        Ok(Self {
            role: config.role,
            base_url: config.content.base_url.clone(),
            owner: owner.as_ref().map(OwnerReady::new).transpose()?,
        })
    }
}

/// A revision with the rollouts as they are.
pub(super) struct Live {
    epoch: i64,
    pub(super) content: Arc<Content>,
    pub(super) rollouts: Vec<Rollout>,
}

/// What a device was given.
struct Entry {
    prepared: Prepared,
    epoch: i64,
    revision: i64,
    /// Held, so that no other profile can be at its address.
    profile: Arc<crate::profile::Profile>,
    settings: Arc<Settings>,
    /// When its voucher ends.
    until: Option<OffsetDateTime>,
}

impl Entry {
    fn holds(&self, facts: &Facts, settings: &Arc<Settings>) -> bool {
        self.epoch == facts.epoch
            && self.revision == facts.revision
            && Arc::ptr_eq(&self.profile, &facts.profile)
            && Arc::ptr_eq(&self.settings, settings)
            && self.until.is_none_or(|until| facts.now < until)
            // A nonce asks for a voucher of its own.
            && (facts.nonce.is_none() || self.prepared.ownership_voucher.is_none())
    }

    fn size(&self) -> u32 {
        let prepared = &self.prepared;
        let optional = |octets: &Option<Bytes>| octets.as_ref().map_or(0, Bytes::len);
        let size = ENTRY_SIZE
            + prepared.conveyed_information.len()
            + optional(&prepared.ownership_voucher);
        u32::try_from(size).unwrap_or(u32::MAX)
    }
}

#[derive(Default)]
struct Counts {
    remembered: AtomicU64,
    found: AtomicU64,
    stored: AtomicU64,
    built: AtomicU64,
    signed: AtomicU64,
}

/// How often each place had what a device was given.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct Work {
    /// Requests that were answered with what the device was given before.
    pub remembered: u64,
    /// Artefacts that were in memory.
    pub found: u64,
    /// Artefacts that were in the database.
    pub stored: u64,
    /// Artefacts that were made.
    pub built: u64,
    /// Of those, artefacts that were signed.
    pub signed: u64,
}

impl std::fmt::Debug for Engine {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Engine")
            .field("revision", &self.0.live.load().content.revision)
            .finish_non_exhaustive()
    }
}

impl Engine {
    /// Opens the content over a database.
    ///
    /// # Errors
    /// Keys or folders of the configuration cannot be used.
    pub fn open(config: &Config, store: &Store) -> Result<Self, Error> {
        let empty = Document::empty();
        let (templates, _) = Templates::new(
            &std::collections::BTreeMap::new(),
            &BTreeSet::from([super::document::Format::Text]),
        );
        let content = Content {
            revision: 0,
            rules: RuleSet::default(),
            templates,
            scripts: std::collections::BTreeMap::new(),
            templates_digest: Digest([0; 32]),
            document: empty,
        };
        // Half for each of the two; what devices share counts in both.
        let capacity = u64::from(config.content.cache_mib) * 1024 * 1024 / 2;
        Ok(Self(Arc::new(Inner {
            store: store.clone(),
            settings: ArcSwap::from_pointee(Settings::new(config)?),
            live: ArcSwap::from_pointee(Live {
                epoch: -1,
                content: Arc::new(content),
                rollouts: Vec::new(),
            }),
            loading: tokio::sync::Mutex::new(()),
            prepared: moka::sync::Cache::builder()
                .max_capacity(capacity)
                .weigher(|_, entry: &Arc<Entry>| entry.size())
                .build(),
            artefacts: moka::sync::Cache::builder()
                .max_capacity(capacity)
                .weigher(|_, octets: &Bytes| u32::try_from(octets.len() + 64).unwrap_or(u32::MAX))
                .build(),
            images: Images::new(config.resolve(&config.content.images)),
            counts: Counts::default(),
        })))
    }

    /// Reads keys and files of the configuration again.
    ///
    /// # Errors
    /// What cannot be read; everything then stays as it was.
    pub fn reload(&self, config: &Config) -> Result<(), Error> {
        self.0.settings.store(Arc::new(Settings::new(config)?));
        Ok(())
    }

    /// How often each place had what a device was given.
    #[must_use]
    pub fn work(&self) -> Work {
        let counts = &self.0.counts;
        Work {
            remembered: counts.remembered.load(Ordering::Relaxed),
            found: counts.found.load(Ordering::Relaxed),
            stored: counts.stored.load(Ordering::Relaxed),
            built: counts.built.load(Ordering::Relaxed),
            signed: counts.signed.load(Ordering::Relaxed),
        }
    }

    /// The images that this server hosts.
    #[must_use]
    pub fn images(&self) -> &Images {
        &self.0.images
    }

    pub(crate) fn store(&self) -> &Store {
        &self.0.store
    }

    /// The answer to a request for a boot image that this server hosts, or `None` if the path is
    /// not one of an image.
    pub async fn hosted(
        &self,
        method: &http::Method,
        path: &str,
        headers: &http::HeaderMap,
    ) -> Option<axum::response::Response> {
        self.0.images.answer(method, path, headers, None).await
    }

    /// The same for a peer, who may have so many transfers at once.
    pub async fn hosted_for(
        &self,
        sender: Option<std::net::IpAddr>,
        method: &http::Method,
        path: &str,
        headers: &http::HeaderMap,
    ) -> Option<axum::response::Response> {
        self.0.images.answer(method, path, headers, sender).await
    }

    /// Chooses and makes what a device gets.
    ///
    /// # Errors
    /// Why there is nothing for it.
    pub async fn choose(&self, facts: &Facts) -> Result<Prepared, Refusal> {
        let key = (facts.device.id, what_matters(facts));
        let settings = self.0.settings.load_full();
        if let Some(entry) = self.0.prepared.get(&key)
            && entry.holds(facts, &settings)
        {
            self.0.counts.remembered.fetch_add(1, Ordering::Relaxed);
            return Ok(entry.prepared.clone());
        }
        let (prepared, until) = self
            .prepare(facts, &settings, Mode::Serve, &mut Trace::default())
            .await?;
        let entry = Entry {
            prepared: prepared.clone(),
            epoch: facts.epoch,
            revision: facts.revision,
            profile: Arc::clone(&facts.profile),
            settings,
            until,
        };
        // A voucher for a nonce is for one request.
        if facts.nonce.is_none() || prepared.ownership_voucher.is_none() {
            self.0.prepared.insert(key, Arc::new(entry));
        }
        Ok(prepared)
    }

    /// The same without giving it to anybody, and with the way to it.
    pub(crate) async fn look(&self, facts: &Facts) -> (Result<Prepared, Refusal>, Vec<String>) {
        let settings = self.0.settings.load_full();
        let mut trace = Trace::on();
        let result = self
            .prepare(facts, &settings, Mode::Look, &mut trace)
            .await
            .map(|(prepared, _)| prepared);
        (result, trace.lines())
    }

    /// What goes onto removable storage for a device.
    pub(crate) async fn look_for_stick(&self, facts: &Facts) -> Result<Prepared, Refusal> {
        let settings = self.0.settings.load_full();
        let mut trace = Trace::default();
        self.prepare(facts, &settings, Mode::Stick, &mut trace)
            .await
            .map(|(prepared, _)| prepared)
    }

    /// Makes what the device would be given and keeps it.
    pub(crate) async fn prebuild(&self, facts: &Facts) -> Result<(), Refusal> {
        let settings = self.0.settings.load_full();
        self.prepare(facts, &settings, Mode::Prebuild, &mut Trace::default())
            .await
            .map(|_| ())
    }

    /// The content of this epoch and revision, read if it is not there.
    async fn live(&self, facts: &Facts) -> Result<Arc<Live>, Error> {
        let fits = |live: &Live| {
            live.epoch == facts.epoch && live.content.revision == facts.revision
                // Whoever asks with an older look at the register is not served older content.
                || live.epoch > facts.epoch
        };
        let live = self.0.live.load_full();
        if fits(&live) {
            return Ok(live);
        }
        let _turn = self.0.loading.lock().await;
        let live = self.0.live.load_full();
        if fits(&live) {
            return Ok(live);
        }
        // Read before the rest: what changes in between only makes it be read once more.
        let (epoch, revision) = revision::epoch(&self.0.store).await?;
        let content = if live.content.revision == revision && live.epoch >= 0 {
            Arc::clone(&live.content)
        } else {
            let content = read(&self.0.store, revision).await?;
            tracing::info!(revision, "content is served from this revision");
            Arc::new(content)
        };
        let rollouts = if content.document.rollouts.is_empty() {
            Vec::new()
        } else {
            rollout::list(&self.0.store).await?
        };
        let live = Arc::new(Live {
            epoch,
            content,
            rollouts,
        });
        self.0.live.store(Arc::clone(&live));
        Ok(live)
    }

    /// The content that is served now.
    pub(crate) async fn content(&self) -> Result<Arc<Content>, Error> {
        let (_, revision) = revision::epoch(&self.0.store).await?;
        let live = self.0.live.load_full();
        if live.epoch >= 0 && live.content.revision == revision {
            return Ok(Arc::clone(&live.content));
        }
        read(&self.0.store, revision).await.map(Arc::new)
    }

    async fn prepare(
        &self,
        facts: &Facts,
        settings: &Arc<Settings>,
        mode: Mode,
        trace: &mut Trace,
    ) -> Result<(Prepared, Option<OffsetDateTime>), Refusal> {
        let live = self.live(facts).await?;
        let content = &live.content;
        let subject = decide::subject(facts);
        trace.say(|| format!("revision {}", content.revision));
        decide::explain_rules(content, &subject, trace);
        let rule = content
            .rules
            .choose(&subject)
            .ok_or(Refusal::NothingStaged)?;
        let store = &self.0.store;
        let (what, enrol) = decide::target(store, facts, &live, &rule.target, trace).await?;
        let decided = decide::sign_or_not(store, facts, settings, &live, what, mode, trace).await?;
        let (what, signing) = (decided.what, decided.voucher);
        decide::check_role(settings.role, &what)?;
        let inner = facts.profile.inner(facts.outer);
        let recipient = decide::recipient(facts, rule.encrypt, trace)?;
        let skip_image = decide::skips_image(content, &what, facts, trace);
        let owner = settings.owner.as_ref().filter(|_| signing.is_some());
        let plan = Plan {
            signer: owner.map(|owner| Arc::clone(&owner.identity)),
            recipient,
            inner,
            skip_image,
            what,
        };
        let artefact = self
            .artefact(content, plan.clone(), facts, settings, mode, trace)
            .await?;
        if let (Mode::Serve, Some(rollout)) = (mode, enrol) {
            let running =
                rollout::enrol(&self.0.store, rollout, facts.device.id, facts.now).await?;
            if !running {
                // It was stopped this moment; the device comes again and finds the old version.
                return Err(Refusal::Failed(Error::Rollout(
                    "the rollout changed while the device was served".to_owned(),
                )));
            }
        }
        let redirect = matches!(plan.what, What::Redirect(_));
        let verbose = content.document.reporting == Reporting::Verbose;
        let prepared = Prepared {
            conveyed_information: artefact,
            // SZTP-8572-3.5-01, SZTP-8572-7.3-09: both or neither.
            owner_certificate: owner.map(|owner| owner.artefact.clone()),
            ownership_voucher: signing.as_ref().map(|row| Bytes::from(row.der.clone())),
            // SZTP-8572-7.3-10, SZTP-8572-7.3-11: of no use with a redirect; minimal goes unsaid.
            reporting_level: (verbose && !redirect).then_some(ReportingLevel::Verbose),
            redirect,
            rule: rule.name.clone(),
            target: plan.what.to_string(),
            revision: content.revision,
        };
        Ok((prepared, signing.and_then(|row| row.expires)))
    }

    /// The artefact, from wherever it is.
    async fn artefact(
        &self,
        content: &Arc<Content>,
        plan: Plan,
        facts: &Facts,
        settings: &Arc<Settings>,
        mode: Mode,
        trace: &mut Trace,
    ) -> Result<Bytes, Refusal> {
        let counts = &self.0.counts;
        let inputs = content.inputs(&plan, facts, settings.base_url.as_deref())?;
        let digest = inputs.digest;
        trace.say(|| format!("artefact {digest}"));
        if let Some(octets) = self.0.artefacts.get(&digest) {
            counts.found.fetch_add(1, Ordering::Relaxed);
            return Ok(octets);
        }
        let costly = plan.signer.is_some() || plan.recipient.is_some();
        if costly && let Some(octets) = self.stored(&digest).await? {
            counts.stored.fetch_add(1, Ordering::Relaxed);
            self.0.artefacts.insert(digest, octets.clone());
            return Ok(octets);
        }
        counts.built.fetch_add(1, Ordering::Relaxed);
        if plan.signer.is_some() {
            counts.signed.fetch_add(1, Ordering::Relaxed);
        }
        let of_device = inputs.of_device.then_some(facts.device.id);
        let work = (
            Arc::clone(content),
            Arc::clone(&facts.profile),
            Arc::clone(settings),
        );
        // A template can take a while, and so can a key in a token.
        let built = tokio::task::spawn_blocking(move || {
            let (content, profile, settings) = work;
            make(&content, &plan, &inputs, &profile, &settings)
        })
        .await
        .map_err(|error| Refusal::Failed(Error::Content(error.to_string())))??;
        let mut octets = Bytes::from(built);
        if costly && !matches!(mode, Mode::Look | Mode::Stick) {
            octets = self
                .keep(digest, of_device, content.revision, octets, facts.now)
                .await?;
        }
        self.0.artefacts.insert(digest, octets.clone());
        Ok(octets)
    }

    async fn stored(&self, digest: &Digest) -> Result<Option<Bytes>, Error> {
        let row = self
            .0
            .store
            .fetch_optional(
                "SELECT der FROM artefact WHERE input_digest = $1",
                params![&digest.0],
            )
            .await?;
        Ok(match row {
            Some(row) => Some(Bytes::from(row.bytes("der")?)),
            None => None,
        })
    }

    /// Keeps an artefact for all replicas; if another was first, its octets are the ones.
    async fn keep(
        &self,
        digest: Digest,
        device: Option<i64>,
        revision: i64,
        octets: Bytes,
        now: OffsetDateTime,
    ) -> Result<Bytes, Error> {
        let ours = octets.clone();
        let inserted = self
            .0
            .store
            .locking_transaction("artefact", move |connection| {
                let octets = octets.clone();
                async move {
                    let rows = connection
                        .execute(
                            "INSERT INTO artefact (input_digest, device, revision, der, \
                             created_us) VALUES ($1, $2, $3, $4, $5) \
                             ON CONFLICT (input_digest) DO NOTHING",
                            params![&digest.0, device, revision, octets.as_ref(), now],
                        )
                        .await?;
                    Ok::<_, Error>(rows > 0)
                }
                .boxed()
            })
            .await?;
        if inserted {
            return Ok(ours);
        }
        Ok(self.stored(&digest).await?.unwrap_or(ours))
    }
}

fn make(
    content: &Content,
    plan: &Plan,
    inputs: &Inputs,
    profile: &crate::profile::Profile,
    settings: &Settings,
) -> Result<Vec<u8>, Refusal> {
    content.artefact(plan, inputs, profile, settings.base_url.as_deref())
}

/// Reads a revision with its files.
pub(crate) async fn read(store: &Store, revision: i64) -> Result<Content, Error> {
    let document = revision::document(store, revision).await?;
    let named = document.templates.values().map(|template| &template.file);
    let files = document
        .scripts
        .values()
        .chain(named)
        .chain(&document.includes);
    let wanted: BTreeSet<Digest> = files
        .filter_map(|file| document.files.get(file))
        .map(|entry| entry.sha256)
        .collect();
    let bodies = revision::bodies(store, &wanted).await?;
    Ok(assemble(revision, document, &bodies))
}

/// Puts a document and its files together.
pub(crate) fn assemble(
    revision: i64,
    document: Document,
    bodies: &std::collections::BTreeMap<Digest, Vec<u8>>,
) -> Content {
    let (texts, _) = load::template_files(&document, bodies);
    let (templates, _) = Templates::new(&texts, &load::formats(&document));
    let mut all = Vec::new();
    for (name, text) in &texts {
        all.extend_from_slice(name.as_bytes());
        all.push(0);
        all.extend_from_slice(&Digest::of(text.as_bytes()).0);
    }
    let scripts = document
        .scripts
        .values()
        .filter_map(|file| {
            let entry = document.files.get(file)?;
            let body = bodies.get(&entry.sha256)?;
            Some((file.clone(), Arc::from(body.as_slice())))
        })
        .collect();
    Content {
        revision,
        rules: RuleSet::new(document.rules.clone()),
        templates,
        scripts,
        templates_digest: Digest::of(&all),
        document,
    }
}

/// A number for everything in the request that can change the answer; the epoch and the profile
/// are looked at beside it.
fn what_matters(facts: &Facts) -> u64 {
    use std::hash::{Hash as _, Hasher as _};
    let mut hasher = std::hash::DefaultHasher::new();
    facts.hw_model.hash(&mut hasher);
    facts.os_name.hash(&mut hasher);
    facts.os_version.hash(&mut hasher);
    facts.signed_data_preferred.hash(&mut hasher);
    facts.outer.name().hash(&mut hasher);
    let certificate = facts.certificate.as_ref();
    certificate
        .and_then(|certificate| certificate.chain.first())
        .hash(&mut hasher);
    facts
        .identity
        .as_ref()
        .map(|identity| identity.sha256())
        .hash(&mut hasher);
    hasher.finish()
}
