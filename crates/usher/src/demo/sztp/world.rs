//! The owner's bootstrap server, the manufacturer's redirect server, and the devices that were
//! ordered; set up by the commands that an operator gives.

use std::{
    ffi::OsString,
    net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener},
    path::{Path, PathBuf},
    time::Duration as StdDuration,
};

use daemon::config::Flags;
use device::{
    sources::{DhcpInput, DhcpSource},
    sztp::{Options, Outcome, Server},
};
use pki::{Certificate, Identity, path::Anchors};
use store::Store;
use sztp::dhcp::BootstrapUri;

use crate::demo::{
    Failure,
    world::{Folder, World, below, coded, usher},
};
use pki::issue::Profile;

/// The owner in the MASA's register.
const OWNER: &str = "demo-owner";
/// How the manufacturer is called at the owner's.
pub(super) const VENDOR: &str = "demo-manufacturer";
/// How long one device may take.
const DEVICE_TIME_MAX: StdDuration = StdDuration::from_secs(20);
/// What the boot image has in it.
pub(super) const IMAGE: &[u8] = b"the boot image of the demo, as good as any other";

/// Serial numbers of the order, with the group of each.
pub(super) const ORDER: &[(&str, &str)] = &[
    ("SZTP-TRUSTED", "plain"),
    ("SZTP-XML", "plain"),
    ("SZTP-IMAGE", "image"),
    ("SZTP-UNTRUSTED", "plain"),
    ("SZTP-SEALED", "sealed"),
    ("SZTP-REDIRECT", "plain"),
    ("SZTP-DHCP", "plain"),
    ("SZTP-USB", "plain"),
    ("SZTP-9646", "certificate"),
    ("SZTP-POWER", "image"),
    ("SZTP-UNSIGNED", "plain"),
    ("SZTP-SERIAL", "plain"),
    ("SZTP-PIN", "plain"),
    ("SZTP-REPLAY", "plain"),
    ("SZTP-EXPIRED", "plain"),
    ("SZTP-HASH", "image"),
    ("SZTP-ROGUE", "plain"),
];

/// What runs beside the MASA and the registrar.
pub(crate) struct SztpWorld {
    folder: PathBuf,
    pub(super) bootstrap: bootstrap::Running,
    redirect: bootstrap::Running,
    pub(super) store: Store,
    /// The CA of the bootstrap server's TLS certificate.
    pub(super) server_ca: Certificate,
    /// The owner's CA: what vouchers pin.
    pub(super) owner_ca: Certificate,
    /// The owner certificate with its key.
    pub(super) owner: Identity,
    /// The vouchers that the MASA gave as files.
    pub(super) vouchers: PathBuf,
}

impl SztpWorld {
    pub(crate) async fn start(world: &World) -> Result<Self, Failure> {
        let folder = world.folder().join("bootstrap");
        let redirect_folder = world.folder().join("redirect");
        let address = free_address()?;
        init(&folder, "Demo Owner", address).await?;
        init(&redirect_folder, "Demo Manufacturer", free_address()?).await?;
        let config = folder.join("bootstrap.toml");
        let server_ca = load(&folder, "server-ca.pem")?;
        let owner_ca = load(&folder, "owner-ca.pem")?;

        // Certificates for devices come from the registrar of the same network, where the bootstrap
        // server is a registration authority.
        let ra = below(
            world.ra_ca(),
            Profile::Registrar,
            "CN=Demo Bootstrap Server",
            world.now(),
        )?;
        Folder(folder.clone()).identity("demo-ra", &ra)?;
        let registrar = world.registrar_address();
        append(
            &config,
            &format!(
                "\n[csr]\nurl = \"https://localhost:{}\"\naddress = \"{registrar}\"\n\
                 anchors = [\"../registrar/domain-ca.pem\"]\ncertificate = \"demo-ra.pem\"\n\
                 key = \"demo-ra.key\"\n",
                registrar.port()
            ),
        )?;
        // The redirect server is the manufacturer's, and so is its certificate: devices know it
        // from the factory.
        let tls = below(
            world.manufacturer(),
            Profile::TlsServer,
            "CN=Demo Redirect Server",
            world.now(),
        )?;
        Folder(redirect_folder.clone()).identity("tls", &tls)?;
        let redirect_config = redirect_folder.join("bootstrap.toml");
        prepend(&redirect_config, "role = \"redirect\"\n")?;

        // The order: devices sold to this owner, known here, with vouchers from the manufacturer.
        world.add_owner(OWNER, &owner_ca).await?;
        let mut rows = "vendor,serial,group\n".to_owned();
        for (serial, group) in ORDER {
            world.ship(serial, Some(OWNER)).await?;
            rows.push_str(&format!("{VENDOR},{serial},{group}\n"));
        }
        let order = world.folder().join("order.csv");
        write(&order, rows.as_bytes())?;
        let anchor = world.folder().join("masa").join("manufacturer-ca.pem");
        for config in [&config, &redirect_config] {
            let import = [
                "bootstrap".into(),
                "trust".into(),
                "import".into(),
                anchor.clone().into_os_string(),
                "--vendor".into(),
                VENDOR.into(),
            ];
            command(config, import).await?;
            let devices = ["bootstrap", "devices", "import"].map(OsString::from);
            let devices = devices.into_iter().chain([order.clone().into()]);
            command(config, devices).await?;
        }
        // The owner's list goes to the manufacturer, whose vouchers come back.
        let wanted = world.folder().join("wanted.csv");
        let list = ["bootstrap", "vouchers", "request-list", "--out"].map(OsString::from);
        let list = list.into_iter().chain([wanted.clone().into()]);
        command(&config, list).await?;
        let vouchers = world.folder().join("sztp-vouchers");
        let issue = [
            "masa".into(),
            "voucher".into(),
            "issue".into(),
            "--owner".into(),
            OWNER.into(),
            "--serials".into(),
            wanted.into_os_string(),
            "--out".into(),
            vouchers.clone().into_os_string(),
        ];
        command(&world.masa_config(), issue).await?;
        let import = ["bootstrap", "vouchers", "import"].map(OsString::from);
        let import = import.into_iter().chain([vouchers.clone().into()]);
        command(&config, import).await?;

        // What devices get.
        let content = folder.join("demo-content");
        content_folder(&content, CONTENT, address)?;
        apply(&config, &content).await?;
        let content = redirect_folder.join("demo-content");
        let server_ca_file = content.join("server-ca.pem");
        content_folder(&content, REDIRECT_CONTENT, address)?;
        write(&server_ca_file, server_ca.to_pem().as_bytes())?;
        apply(&redirect_config, &content).await?;

        let running = |path: PathBuf| async move {
            let config = bootstrap::Config::load(&path, &Flags::new()).map_err(coded)?;
            let url = config.database.url.clone();
            let running = bootstrap::serve(config, world.clock())
                .await
                .map_err(coded)?;
            Ok::<_, Failure>((running, url))
        };
        let (bootstrap, url) = running(config).await?;
        let (redirect, _) = running(redirect_config).await?;
        let store = Store::open(&url, &bootstrap::SCHEMA).await.map_err(coded)?;
        let owner_chain = Certificate::load_all(folder.join("owner.pem")).map_err(coded)?;
        let owner_key = std::fs::read_to_string(folder.join("owner.key"))
            .map_err(|error| Failure::new("config.file", &error))?;
        let owner_key = pki::SoftwareKey::from_pem(&owner_key, None).map_err(coded)?;
        let owner = Identity::new(owner_chain, std::sync::Arc::new(owner_key)).map_err(coded)?;
        Ok(Self {
            folder,
            bootstrap,
            redirect,
            store,
            server_ca,
            owner_ca,
            owner,
            vouchers,
        })
    }

    pub(super) fn config(&self) -> PathBuf {
        self.folder.join("bootstrap.toml")
    }

    pub(super) fn address(&self) -> SocketAddr {
        self.bootstrap.device_address()
    }

    pub(super) fn redirect_address(&self) -> SocketAddr {
        self.redirect.device_address()
    }

    /// A device from the factory that trusts nobody but its manufacturer.
    pub(super) fn device(&self, world: &World, serial: &str) -> Result<Options, Failure> {
        let ca = world.manufacturer();
        self.device_with(world, serial, world.idevid(serial, ca)?)
    }

    /// A device with an IDevID of the caller's.
    pub(super) fn device_with(
        &self,
        world: &World,
        serial: &str,
        idevid: Identity,
    ) -> Result<Options, Failure> {
        let mut options = Options::new(idevid, anchors(world.masa_anchor()), world.now());
        options.server_anchors = anchors(world.masa_anchor());
        options.hw_model = Some("demo-router".to_owned());
        options.os.name = Some("Demo OS".to_owned());
        options.os.version = Some("1.0".to_owned());
        options.rounds_max = Some(1);
        options.time_max = Some(DEVICE_TIME_MAX);
        options.hosts = vec![(
            "localhost".to_owned(),
            vec![IpAddr::V4(Ipv4Addr::LOCALHOST)],
        )];
        let folder = world.folder().join("devices").join(serial).join("state");
        std::fs::create_dir_all(&folder).map_err(|error| Failure::new("config.file", &error))?;
        options.state_folder = Some(folder);
        Ok(options)
    }

    pub(crate) async fn stop(self) {
        self.store.close().await;
        self.bootstrap.stop().await;
        self.redirect.stop().await;
    }
}

/// Runs a device.
pub(super) async fn boot(options: Options) -> Result<Outcome, Failure> {
    device::sztp::run(options, &mut |_| {}).await.map_err(coded)
}

/// Lets the device hear of a server by DHCP, from a network that anybody may have set up.
pub(super) fn hears_of(options: &mut Options, address: SocketAddr) -> Result<(), Failure> {
    let uri = format!("https://localhost:{}", address.port());
    let uri = BootstrapUri::parse(&uri).map_err(coded)?;
    let option = sztp::dhcp::encode_v4(&[uri]).map_err(coded)?;
    let source = DhcpSource::new(vec![DhcpInput::Value(hex::encode(option))]);
    options.sources.push(Box::new(source));
    Ok(())
}

/// The server at an address on loopback, by its name.
pub(super) fn server(address: SocketAddr) -> Server {
    Server::new("localhost", Some(address.port()))
}

pub(super) fn anchors(certificate: &Certificate) -> Anchors {
    std::iter::once(certificate.clone()).collect()
}

/// Runs a command of this program with a configuration.
pub(super) async fn command(
    config: &Path,
    arguments: impl IntoIterator<Item = OsString>,
) -> Result<(), Failure> {
    let mut all: Vec<OsString> = arguments.into_iter().collect();
    all.extend(["--json".into(), "--config".into(), config.into()]);
    usher(&all).await
}

async fn init(folder: &Path, owner: &str, address: SocketAddr) -> Result<(), Failure> {
    let init = [
        "bootstrap".into(),
        "init".into(),
        folder.as_os_str().to_owned(),
        "--owner".into(),
        owner.into(),
        "--name".into(),
        "localhost".into(),
        "--name".into(),
        "127.0.0.1".into(),
        "--listen".into(),
        address.to_string().into(),
        "--admin".into(),
        "127.0.0.1:0".into(),
        "--no-rsa".into(),
        "--json".into(),
    ];
    usher(&init).await
}

async fn apply(config: &Path, content: &Path) -> Result<(), Failure> {
    let apply = ["bootstrap", "apply"].map(OsString::from);
    command(config, apply.into_iter().chain([content.into()])).await
}

/// An address that is free now: the URLs of hosted images have to be known before the server is.
fn free_address() -> Result<SocketAddr, Failure> {
    TcpListener::bind((Ipv4Addr::LOCALHOST, 0))
        .and_then(|listener| listener.local_addr())
        .map_err(|error| Failure::new("config.file", &error))
}

fn load(folder: &Path, name: &str) -> Result<Certificate, Failure> {
    Certificate::load(folder.join(name)).map_err(coded)
}

fn write(path: &Path, bytes: &[u8]) -> Result<(), Failure> {
    std::fs::write(path, bytes).map_err(|error| Failure::new("config.file", &error))
}

fn append(path: &Path, text: &str) -> Result<(), Failure> {
    change(path, |before| format!("{before}{text}"))
}

fn prepend(path: &Path, text: &str) -> Result<(), Failure> {
    change(path, |before| format!("{text}{before}"))
}

fn change(path: &Path, change: impl FnOnce(&str) -> String) -> Result<(), Failure> {
    let before =
        std::fs::read_to_string(path).map_err(|error| Failure::new("config.file", &error))?;
    write(path, change(&before).as_bytes())
}

fn content_folder(folder: &Path, content: &str, address: SocketAddr) -> Result<(), Failure> {
    let templates = folder.join("templates");
    std::fs::create_dir_all(&templates).map_err(|error| Failure::new("config.file", &error))?;
    let content = content.replace("{port}", &address.port().to_string());
    write(&folder.join("content.toml"), content.as_bytes())?;
    write(&folder.join("before.sh"), BEFORE.as_bytes())?;
    write(&folder.join("after.sh"), AFTER.as_bytes())?;
    write(&folder.join("os-2.bin"), IMAGE)?;
    write(&templates.join("base.xml"), TEMPLATE.as_bytes())?;
    write(
        &templates.join("certificate.xml"),
        CERTIFICATE_TEMPLATE.as_bytes(),
    )
}

const BEFORE: &str = "#!/bin/sh\necho before\n";
const AFTER: &str = "#!/bin/sh\necho after\n";
const TEMPLATE: &str = "<system xmlns=\"urn:ietf:params:xml:ns:yang:ietf-system\">\
                        <hostname>{{ device.serial }}</hostname></system>\n";
const CERTIFICATE_TEMPLATE: &str = "{% if certificate %}{{ certificate.pem }}{% endif %}";

const CONTENT: &str = r#"
[[image]]
name = "os-2"
os-name = "Demo OS"
os-version = "2.0"
file = "os-2.bin"
host = true

[[script]]
name = "before"
file = "before.sh"

[[script]]
name = "after"
file = "after.sh"

[[template]]
name = "base"
file = "templates/base.xml"

[[template]]
name = "certificate"
file = "templates/certificate.xml"
format = "text"

[[bundle]]
name = "base"
version = "1"
pre-script = "before"
template = "base"
handling = "merge"
post-script = "after"

[[bundle]]
name = "upgrade"
version = "1"
image = "os-2"
template = "base"
handling = "replace"

[[bundle]]
name = "certified"
version = "1"
template = "certificate"
handling = "merge"

[[rule]]
name = "old-os"
group = "image"
bundle = "upgrade"

[[rule]]
name = "certified"
group = "certificate"
bundle = "certified"

[[rule]]
name = "sealed"
group = "sealed"
encrypt = "always"
bundle = "base"

[[rule]]
name = "all"
bundle = "base"
"#;

const REDIRECT_CONTENT: &str = r#"
[[redirect]]
name = "owner"
[[redirect.server]]
address = "localhost"
port = {port}
trust-anchor = "server-ca.pem"

[[rule]]
name = "all"
redirect = "owner"
"#;
