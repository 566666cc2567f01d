//! The demo's world: one manufacturer with its factory and MASA, one network with its registrar,
//! another network that also buys from the manufacturer, all with keys made a moment ago.

use std::{
    ffi::OsString,
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration as StdDuration,
};

use artifacts::{Assertion, Envelope, Nonce, SerialNumber, Voucher, VoucherFields, sign_voucher};
use daemon::Clock;
use device::{brski::Config as DeviceConfig, coaps::Config as CoapsConfig};
use pki::{
    Certificate, Coded, Identity, KeyKind, Signer, SoftwareKey,
    issue::{AltName, CertificateBuilder, Profile, name},
    path::Anchors,
};
use store::Store;
use time::{Duration, OffsetDateTime};
use tokio::sync::OnceCell;
use url::Url;

use super::{Failure, sztp::SztpWorld};

/// The owner in the MASA's register that the demo's registrar belongs to.
pub(crate) const OUR_NETWORK: &str = "demo-network";
/// Another owner in the register.
pub(crate) const OTHER_NETWORK: &str = "other-network";
/// How long a device may take, all attempts together.
const DEVICE_TIME_MAX: StdDuration = StdDuration::from_secs(20);
/// Lifetime of the demo's certificates.
const LIFETIME: Duration = Duration::days(30);

/// Everything that runs.
pub(crate) struct World {
    clock: Clock,
    folder: PathBuf,
    manufacturer: Made,
    masa: masa::Running,
    masa_store: Store,
    registrar: registrar::Running,
    registrar_certificate: Certificate,
    masa_anchor: Certificate,
    voucher_signer: Certificate,
    /// The CA of those who may ask the registrar for the certificates of others.
    ra_ca: Made,
    sztp: OnceCell<Result<SztpWorld, Failure>>,
}

impl World {
    /// Makes the PKI and starts the servers, each on a port that the system picks.
    pub(crate) async fn start(folder: &Path) -> Result<Self, Failure> {
        let clock = Clock::system();
        let now = clock.now();
        let manufacturer = root("CN=Demo Manufacturer CA", now)?;
        let domain = root("CN=Demo Network CA", now)?;
        let other = root("CN=Other Network CA", now)?;
        let ra_ca = root("CN=Demo Registration Authorities CA", now)?;
        let masa_anchor = certificate(&manufacturer.identity)?;

        let masa_folder = Folder::make(folder, "masa")?;
        masa_folder.certificate("manufacturer-ca.pem", &masa_anchor)?;
        let server = below(
            &manufacturer.identity,
            Profile::TlsServer,
            "CN=Demo MASA",
            now,
        )?;
        masa_folder.identity("tls", &server)?;
        let signer = |subject| below(&manufacturer.identity, Profile::MasaSigner, subject, now);
        let nonced = signer("CN=Demo Voucher Signer")?;
        masa_folder.identity("nonced", &nonced)?;
        masa_folder.identity("nonceless", &signer("CN=Demo Nonceless Voucher Signer")?)?;
        masa_folder.key(
            "audit.key",
            &SoftwareKey::generate(KeyKind::Ed25519).map_err(coded)?,
        )?;
        let config = masa::Config::parse(MASA_CONFIG, &masa_folder.0).map_err(coded)?;
        let url = config.database.url.clone();
        Store::migrate(&url, &masa::SCHEMA, now)
            .await
            .map_err(coded)?;
        let masa = masa::serve(config, clock.clone()).await.map_err(coded)?;
        // The file for whoever starts the servers again by hand: the devices that were made know
        // this address, so it is no longer the system's choice.
        let text = fixed(MASA_CONFIG, [masa.device_address(), masa.admin_address()]);
        masa_folder.write("masa.toml", text.as_bytes())?;
        let masa_store = Store::open(&url, &masa::SCHEMA).await.map_err(coded)?;
        for (id, ca) in [(OUR_NETWORK, &domain), (OTHER_NETWORK, &other)] {
            let change = masa::register::OwnerChange {
                nonceless: Some(id == OUR_NETWORK),
                certificates: vec![certificate(&ca.identity)?],
                ..masa::register::OwnerChange::default()
            };
            masa::register::add_owner(&masa_store, id, change, now)
                .await
                .map_err(coded)?;
        }

        let registrar_folder = Folder::make(folder, "registrar")?;
        registrar_folder.identity("domain-ca", &domain)?;
        registrar_folder.certificate("ra-ca.pem", &certificate(&ra_ca.identity)?)?;
        let identity = below(
            &domain.identity,
            Profile::Registrar,
            "CN=Demo Registrar",
            now,
        )?;
        registrar_folder.identity("registrar", &identity)?;
        let audit_key = SoftwareKey::generate(KeyKind::Ed25519).map_err(coded)?;
        registrar_folder.key("audit.key", &audit_key)?;
        let vendors = Folder::make(&registrar_folder.0, "vendors.d")?;
        vendors.certificate("demo-manufacturer.pem", &masa_anchor)?;
        vendors.write("demo-manufacturer.toml", VENDOR.as_bytes())?;
        let config =
            registrar::Config::parse(REGISTRAR_CONFIG, &registrar_folder.0).map_err(coded)?;
        Store::migrate(&config.database.url, &registrar::schema::SCHEMA, now)
            .await
            .map_err(coded)?;
        let registrar = registrar::serve(config, clock.clone())
            .await
            .map_err(coded)?;
        let mut picked = vec![registrar.device_address(), registrar.admin_address()];
        picked.extend_from_slice(registrar.coap_addresses());
        picked.extend(registrar.jpy_address());
        let text = fixed(REGISTRAR_CONFIG, picked);
        registrar_folder.write("registrar.toml", text.as_bytes())?;
        Ok(Self {
            clock,
            folder: folder.to_path_buf(),
            manufacturer,
            masa,
            masa_store,
            registrar,
            registrar_certificate: certificate(&identity.identity)?,
            masa_anchor,
            voucher_signer: certificate(&nonced.identity)?,
            ra_ca,
            sztp: OnceCell::new(),
        })
    }

    /// The bootstrap servers, started when the first row needs them.
    pub(crate) async fn sztp(&self) -> Result<&SztpWorld, Failure> {
        let started = self.sztp.get_or_init(|| SztpWorld::start(self)).await;
        started.as_ref().map_err(Clone::clone)
    }

    /// Somebody new who buys devices, and gets vouchers for them as files.
    pub(crate) async fn add_owner(&self, id: &str, ca: &Certificate) -> Result<(), Failure> {
        let change = masa::register::OwnerChange {
            nonceless: Some(true),
            certificates: vec![ca.clone()],
            ..masa::register::OwnerChange::default()
        };
        masa::register::add_owner(&self.masa_store, id, change, self.clock.now())
            .await
            .map_err(coded)?;
        Ok(())
    }

    pub(crate) fn clock(&self) -> Clock {
        self.clock.clone()
    }

    pub(crate) fn manufacturer(&self) -> &Identity {
        &self.manufacturer.identity
    }

    /// The certificate of whoever signs vouchers with a nonce: a device that speaks COSE has it
    /// built in, since it does not travel with them.
    pub(crate) fn voucher_signer(&self) -> &Certificate {
        &self.voucher_signer
    }

    pub(crate) fn ra_ca(&self) -> &Identity {
        &self.ra_ca.identity
    }

    /// The factory ships a device: a row in the MASA's register, sold to somebody or nobody yet.
    pub(crate) async fn ship(&self, serial: &str, sold_to: Option<&str>) -> Result<(), Failure> {
        let row = masa::register::ImportRow {
            serial: serial.to_owned(),
            product: Some("demo-sensor".to_owned()),
            sold_to: sold_to.map(str::to_owned),
            ..masa::register::ImportRow::default()
        };
        let options = masa::register::ImportOptions::default();
        let import = masa::register::Import::prepare(&vec![Ok(row)], options, "demo");
        import
            .run(&self.masa_store, self.clock.now(), |_| {})
            .await
            .map_err(coded)?;
        Ok(())
    }

    /// A device fresh from the factory, with a state folder of its own.
    pub(crate) fn device(&self, serial: &str) -> Result<DeviceConfig, Failure> {
        let made = self.make_idevid(serial, &self.manufacturer.identity)?;
        let config = self.device_with(serial, made.identity.clone())?;
        Folder(self.folder.join("devices").join(serial)).identity("idevid", &made)?;
        Ok(config)
    }

    /// A device with an IDevID of the caller's.
    pub(crate) fn device_with(
        &self,
        serial: &str,
        idevid: Identity,
    ) -> Result<DeviceConfig, Failure> {
        let url = Url::parse(&format!(
            "https://localhost:{}/",
            self.registrar_address().port()
        ))
        .map_err(|error| Failure::new("config.usage", &error))?;
        let anchors: Anchors = std::iter::once(self.masa_anchor.clone()).collect();
        let mut config = DeviceConfig::new(vec![url], idevid, anchors, self.clock.now());
        config.address = Some(self.registrar_address());
        config.attempts_max = Some(1);
        config.time_max = Some(DEVICE_TIME_MAX);
        config.state_folder = Some(self.state_folder(serial)?);
        Ok(config)
    }

    /// A device that speaks CoAP, fresh from the factory.
    pub(crate) fn coaps_device(&self, serial: &str) -> Result<CoapsConfig, Failure> {
        let made = self.make_idevid(serial, &self.manufacturer.identity)?;
        self.coaps_device_with(serial, made.identity)
    }

    /// A device that speaks CoAP with an IDevID of the caller's.
    pub(crate) fn coaps_device_with(
        &self,
        serial: &str,
        idevid: Identity,
    ) -> Result<CoapsConfig, Failure> {
        let anchors = std::iter::once(self.voucher_signer.clone()).collect();
        let registrars = [self.coaps_address()?];
        let mut config = CoapsConfig::new(&registrars, idevid, anchors, self.clock.now());
        config.device.attempts_max = Some(1);
        config.device.time_max = Some(DEVICE_TIME_MAX);
        config.device.state_folder = Some(self.state_folder(serial)?);
        Ok(config)
    }

    /// Where the registrar speaks CoAP over DTLS.
    pub(crate) fn coaps_address(&self) -> Result<SocketAddr, Failure> {
        let addresses = self.registrar.coap_addresses();
        let none = || Failure::new("config.usage", &"the registrar does not speak CoAP");
        addresses.first().copied().ok_or_else(none)
    }

    /// Where the registrar listens for stateless join proxies.
    pub(crate) fn jpy_address(&self) -> Result<SocketAddr, Failure> {
        let none = || Failure::new("config.usage", &"the registrar does not listen for proxies");
        self.registrar.jpy_address().ok_or_else(none)
    }

    /// The root of the network.
    pub(crate) fn domain_ca(&self) -> Result<Certificate, Failure> {
        Certificate::load(self.folder.join("registrar").join("domain-ca.pem")).map_err(coded)
    }

    /// The registrar's certificates and its key, as only the registrar has them.
    pub(crate) fn registrar_identity(&self) -> Result<Identity, Failure> {
        let folder = self.folder.join("registrar");
        let chain = Certificate::load_all(folder.join("registrar.pem")).map_err(coded)?;
        let key = std::fs::read_to_string(folder.join("registrar.key"))
            .map_err(|error| Failure::new("config.file", &error))?;
        let key = SoftwareKey::from_pem(&key, None).map_err(coded)?;
        Identity::new(chain, Arc::new(key)).map_err(coded)
    }

    fn state_folder(&self, serial: &str) -> Result<PathBuf, Failure> {
        let folder = self.folder.join("devices").join(serial).join("state");
        std::fs::create_dir_all(&folder).map_err(|error| Failure::new("config.file", &error))?;
        Ok(folder)
    }

    /// A factory identity under this CA.
    pub(crate) fn idevid(&self, serial: &str, ca: &Identity) -> Result<Identity, Failure> {
        Ok(self.make_idevid(serial, ca)?.identity)
    }

    /// A device fresh from the factory, with its key.
    pub(crate) fn make_device(&self, serial: &str) -> Result<Made, Failure> {
        self.make_idevid(serial, &self.manufacturer.identity)
    }

    /// A voucher that the manufacturer signed at some time, for whatever reason.
    pub(crate) fn voucher(
        &self,
        serial: &str,
        pin: &Certificate,
        nonce: Option<[u8; 16]>,
        expires: Option<OffsetDateTime>,
    ) -> Result<Vec<u8>, Failure> {
        let bad = |what: &str| Failure::new("voucher.bad-serial-number", &what);
        let folder = self.folder.join("masa");
        let chain = Certificate::load_all(folder.join("nonceless.pem")).map_err(coded)?;
        let key = std::fs::read_to_string(folder.join("nonceless.key"))
            .map_err(|error| Failure::new("config.file", &error))?;
        let key = SoftwareKey::from_pem(&key, None).map_err(coded)?;
        let signer = Identity::new(chain, Arc::new(key)).map_err(coded)?;
        let serial = SerialNumber::new(serial).ok_or_else(|| bad("serial number"))?;
        let mut fields = VoucherFields::new(serial);
        fields.pinned_domain_cert = Some(pin.clone());
        let made = expires.unwrap_or_else(|| self.now()) - Duration::DAY;
        fields.created_on = Some(made);
        fields.assertion = Some(Assertion::Verified);
        fields.expires_on = expires;
        fields.nonce = nonce.and_then(|nonce| Nonce::from_octets(&nonce));
        let voucher = Voucher::new(fields).map_err(coded)?;
        sign_voucher(&voucher, Envelope::Cms, &signer, made).map_err(coded)
    }

    fn make_idevid(&self, serial: &str, ca: &Identity) -> Result<Made, Failure> {
        let key = SoftwareKey::generate(KeyKind::EcdsaP256).map_err(coded)?;
        let issued = CertificateBuilder::new(
            Profile::Idevid,
            name(&format!("serialNumber={serial},CN=Demo Sensor")).map_err(coded)?,
            key.public_key().clone(),
            rand::random(),
            self.clock.now() - Duration::DAY,
            time::macros::datetime!(9999-12-31 23:59:59 UTC),
        )
        .masa_url(format!("localhost:{}", self.masa_address().port()))
        .issue(&certificate(ca)?, ca.signer.as_ref())
        .map_err(coded)?;
        Made::new(vec![issued], key)
    }

    /// A CA that nobody knows.
    pub(crate) fn unknown_ca(&self) -> Result<Identity, Failure> {
        Ok(root("CN=Unknown Maker CA", self.clock.now())?.identity)
    }

    pub(crate) fn now(&self) -> OffsetDateTime {
        self.clock.now()
    }

    pub(crate) fn masa_address(&self) -> SocketAddr {
        self.masa.device_address()
    }

    /// What the MASA wrote down about a device.
    pub(crate) async fn masa_timeline(
        &self,
        serial: &str,
    ) -> Result<Vec<masa::timeline::Event>, Failure> {
        const EVENTS_MAX: u32 = 100;
        self.masa.flush().await;
        masa::timeline::list(&self.masa_store, Some(serial), EVENTS_MAX)
            .await
            .map_err(coded)
    }

    pub(crate) fn registrar_address(&self) -> SocketAddr {
        self.registrar.device_address()
    }

    /// Where everything of this demo is.
    pub(crate) fn folder(&self) -> &Path {
        &self.folder
    }

    /// The configuration file of the MASA, for its commands.
    pub(crate) fn masa_config(&self) -> PathBuf {
        self.folder.join("masa").join("masa.toml")
    }

    /// Closes the MASA's listeners, and waits until nobody answers there.
    pub(crate) async fn masa_goes_away(&self) -> Result<(), Failure> {
        const LOOKS_MAX: u32 = 100;
        self.masa.shutdown().cancel();
        for _ in 0..LOOKS_MAX {
            if tokio::net::TcpStream::connect(self.masa_address())
                .await
                .is_err()
            {
                return Ok(());
            }
            tokio::time::sleep(StdDuration::from_millis(20)).await;
        }
        Err(Failure::new("masa.internal", &"the MASA still answers"))
    }

    /// The configuration file of the registrar, for its commands.
    pub(crate) fn registrar_config(&self) -> PathBuf {
        self.folder.join("registrar").join("registrar.toml")
    }

    pub(crate) fn registrar_certificate(&self) -> &Certificate {
        &self.registrar_certificate
    }

    pub(crate) fn masa_anchor(&self) -> &Certificate {
        &self.masa_anchor
    }

    /// Stops the servers; requests in progress are answered first.
    pub(crate) async fn stop(self) {
        if let Some(Ok(sztp)) = self.sztp.into_inner() {
            sztp.stop().await;
        }
        self.registrar.stop().await;
        self.masa_store.close().await;
        self.masa.stop().await;
    }
}

/// Runs this very program once more, as an operator would.
pub(crate) async fn usher(arguments: &[OsString]) -> Result<(), Failure> {
    let ours = |error: std::io::Error| Failure::new("config.file", &error);
    // The link still leads here after the file was replaced, say by a new build.
    let link = std::path::PathBuf::from("/proc/self/exe");
    let program = if link.exists() {
        link
    } else {
        std::env::current_exe().map_err(ours)?
    };
    let output = tokio::process::Command::new(program)
        .args(arguments)
        .output()
        .await
        .map_err(ours)?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    Err(Failure::new(
        "config.usage",
        &format!("{arguments:?}: {}", said.trim()),
    ))
}

/// Any crate's error as the demo's.
pub(crate) fn coded(error: impl Coded) -> Failure {
    Failure::new(error.code(), &daemon::cli::chain_of(&error))
}

fn certificate(identity: &Identity) -> Result<Certificate, Failure> {
    identity
        .certificate()
        .cloned()
        .ok_or_else(|| Failure::new("pki.identity-mismatch", &"no certificate"))
}

fn root(subject: &str, now: OffsetDateTime) -> Result<Made, Failure> {
    let key = SoftwareKey::generate(KeyKind::EcdsaP256).map_err(coded)?;
    let issued = CertificateBuilder::new(
        Profile::RootCa,
        name(subject).map_err(coded)?,
        key.public_key().clone(),
        rand::random(),
        now - Duration::DAY,
        now + LIFETIME,
    )
    .self_sign(&key)
    .map_err(coded)?;
    Made::new(vec![issued], key)
}

/// A certificate for a server on loopback, or for a signer, under this CA.
pub(crate) fn below(
    ca: &Identity,
    profile: Profile,
    subject: &str,
    now: OffsetDateTime,
) -> Result<Made, Failure> {
    let key = SoftwareKey::generate(KeyKind::EcdsaP256).map_err(coded)?;
    let issuer = certificate(ca)?;
    let mut builder = CertificateBuilder::new(
        profile,
        name(subject).map_err(coded)?,
        key.public_key().clone(),
        rand::random(),
        now - Duration::HOUR,
        now + LIFETIME - Duration::HOUR,
    );
    if profile != Profile::MasaSigner {
        let loopback = AltName::Ip(std::net::Ipv4Addr::LOCALHOST.into());
        builder = builder.dns_name("localhost").alt_name(loopback);
    }
    let issued = builder.issue(&issuer, ca.signer.as_ref()).map_err(coded)?;
    Made::new(vec![issued, issuer], key)
}

/// An identity whose key can still be written to a file.
pub(crate) struct Made {
    pub(crate) identity: Identity,
    key: Arc<SoftwareKey>,
}

impl Made {
    /// What reads what is encrypted for it.
    pub(crate) fn decryptor(&self) -> Arc<dyn pki::Decryptor> {
        Arc::clone(&self.key) as Arc<dyn pki::Decryptor>
    }

    fn new(chain: Vec<Certificate>, key: SoftwareKey) -> Result<Self, Failure> {
        let key = Arc::new(key);
        let identity = Identity::new(chain, Arc::clone(&key) as Arc<dyn Signer>).map_err(coded)?;
        Ok(Self { identity, key })
    }
}

/// A configuration with the addresses that the system picked, in their order.
fn fixed(config: &str, picked: impl IntoIterator<Item = SocketAddr>) -> String {
    const ANY: &str = "127.0.0.1:0";
    let set = |config: String, address: SocketAddr| config.replacen(ANY, &address.to_string(), 1);
    picked.into_iter().fold(config.to_owned(), set)
}

/// A folder of a role, with what belongs into it.
pub(crate) struct Folder(pub(crate) PathBuf);

impl Folder {
    fn make(parent: &Path, name: &str) -> Result<Self, Failure> {
        let path = parent.join(name);
        std::fs::create_dir_all(&path).map_err(|error| Failure::new("config.file", &error))?;
        Ok(Self(path))
    }

    fn write(&self, name: &str, bytes: &[u8]) -> Result<(), Failure> {
        use std::{io::Write as _, os::unix::fs::OpenOptionsExt as _};
        std::fs::OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .open(self.0.join(name))
            .and_then(|mut file| file.write_all(bytes))
            .map_err(|error| Failure::new("config.file", &error))
    }

    fn certificate(&self, name: &str, certificate: &Certificate) -> Result<(), Failure> {
        self.write(name, certificate.to_pem().as_bytes())
    }

    fn key(&self, name: &str, key: &SoftwareKey) -> Result<(), Failure> {
        self.write(name, key.to_pkcs8_pem().map_err(coded)?.as_bytes())
    }

    pub(crate) fn identity(&self, stem: &str, made: &Made) -> Result<(), Failure> {
        let chain: String = made
            .identity
            .chain
            .iter()
            .map(Certificate::to_pem)
            .collect();
        self.write(&format!("{stem}.pem"), chain.as_bytes())?;
        self.key(&format!("{stem}.key"), &made.key)
    }
}

const MASA_CONFIG: &str = r#"
[database]
url = "sqlite:masa.sqlite"
[listen]
address = "127.0.0.1:0"
[admin]
address = "127.0.0.1:0"
[[identity]]
certificate = "tls.pem"
key = "tls.key"
[signing.nonced]
certificate = "nonced.pem"
key = "nonced.key"
[signing.nonceless]
certificate = "nonceless.pem"
key = "nonceless.key"
[devices]
anchors = ["manufacturer-ca.pem"]
[audit]
origin = "demo.invalid/masa"
key = "audit.key"
"#;

const REGISTRAR_CONFIG: &str = r#"
[listen]
address = "127.0.0.1:0"
[admin]
address = "127.0.0.1:0"
[database]
url = "sqlite:registrar.sqlite"
[identity]
domain_ca = "domain-ca.pem"
[[identity.tls]]
certificate = "registrar.pem"
key = "registrar.key"
[identity.audit_key]
key = "audit.key"
[ca]
certificate = "domain-ca.pem"
key = "domain-ca.key"
[est]
server_keygen = true
additional_certificates = true
[est.without_brski]
client_cas = ["ra-ca.pem"]
registration_authorities = true
[coap]
listen = ["127.0.0.1:0"]
jpy_listen = "127.0.0.1:0"
[policy]
default = "deny"
retry_after_seconds = 1
[[policy.rule]]
name = "devices that wait for a human"
manufacturer = "demo-manufacturer"
serial = "DEMO-ASK-*"
action = "ask"
[[policy.rule]]
name = "all others of the demo's manufacturer"
manufacturer = "demo-manufacturer"
action = "allow"
"#;

const VENDOR: &str = r#"
name = "demo-manufacturer"
idevid_anchors = ["demo-manufacturer.pem"]
masa_tls_anchors = ["demo-manufacturer.pem"]
voucher_anchors = ["demo-manufacturer.pem"]
"#;
