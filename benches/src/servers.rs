//! A MASA and a registrar as an operator sets them up, each in a folder of its own.

use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};

use anyhow::Context;
use pki::Certificate;
use store::Store;
use testkit::Pki;
use time::OffsetDateTime;

use crate::process::{Server, run};
use crate::world::serial;

/// The owner in the MASA's register.
const OWNER: &str = "load-network";
/// Rows of one import into the register.
const IMPORT_ROWS: usize = 100_000;
/// All clients of a load come from one address.
const CONNECTIONS_MAX: usize = 60_000;

/// A running MASA.
pub struct Masa {
    /// The process.
    pub server: Server,
    /// Where registrars connect.
    pub address: SocketAddr,
    /// Its CA: of vouchers and of its TLS server.
    pub ca: PathBuf,
    folder: PathBuf,
}

/// What a MASA is made with.
pub struct MasaSetup<'a> {
    /// `sqlite:FILE` or `postgres://…`.
    pub database: &'a str,
    /// Where registrars connect.
    pub address: SocketAddr,
    /// The CA of the owner of all devices.
    pub owner: &'a Certificate,
    /// How many devices.
    pub devices: usize,
}

/// An address on loopback that is free now, TCP and UDP.
///
/// # Errors
/// If there is none.
pub fn free_address() -> anyhow::Result<SocketAddr> {
    for _ in 0..64 {
        let tcp = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        let address = tcp.local_addr()?;
        if std::net::UdpSocket::bind(address).is_ok() {
            return Ok(address);
        }
    }
    anyhow::bail!("no port is free for TCP and UDP")
}

impl Masa {
    /// Makes a MASA with its devices, all sold to the owner, and starts it.
    ///
    /// # Errors
    /// If one of the steps fails.
    pub async fn start(
        usher: &Path,
        folder: &Path,
        setup: MasaSetup<'_>,
        pki: &Pki,
        now: OffsetDateTime,
    ) -> anyhow::Result<Self> {
        let MasaSetup {
            database,
            address,
            owner,
            devices,
        } = setup;
        std::fs::create_dir_all(folder)?;
        let anchor = folder.join("manufacturer.pem");
        let root = pki.manufacturer_root.chain.last().context("a root")?;
        std::fs::write(&anchor, root.to_pem())?;
        let admin = free_address()?;
        let mut options = masa::InitOptions::new(folder.join("masa"));
        options.listen = address;
        options.admin = admin;
        options.database = database.to_owned();
        options.device_anchors = vec![anchor];
        let made = masa::init(&options, now).await?;
        let config = masa::Config::load(&made.config, &daemon::config::Flags::new())?;
        let store = Store::open(&config.database.url, &masa::SCHEMA).await?;
        let change = masa::register::OwnerChange {
            nonceless: Some(true),
            certificates: vec![owner.clone()],
            ..masa::register::OwnerChange::default()
        };
        masa::register::add_owner(&store, OWNER, change, now).await?;
        for first in (0..devices).step_by(IMPORT_ROWS) {
            let rows = (first..devices.min(first + IMPORT_ROWS))
                .map(|number| {
                    Ok(masa::register::ImportRow {
                        serial: serial(number),
                        sold_to: Some(OWNER.to_owned()),
                        ..masa::register::ImportRow::default()
                    })
                })
                .collect();
            let options = masa::register::ImportOptions::default();
            masa::register::Import::prepare(&rows, options, "load")
                .run(&store, now, |_| {})
                .await?;
        }
        store.close().await;
        let config = made.config.display().to_string();
        let mut server = Server::start(
            usher,
            &["masa", "--config", &config, "serve"],
            &limits("MASA"),
            &folder.join("masa.log"),
        )?;
        server.ready(admin).await?;
        Ok(Self {
            server,
            address,
            ca: made.masa_ca,
            folder: folder.join("masa"),
        })
    }

    /// The certificate that signs its vouchers.
    ///
    /// # Errors
    /// If it cannot be read.
    pub fn signer(&self) -> anyhow::Result<Certificate> {
        Certificate::load_all(self.folder.join("voucher.pem"))?
            .into_iter()
            .next()
            .context("the certificate that signs vouchers")
    }
}

/// Limits that one host with all the clients does not reach.
fn limits(role: &str) -> Vec<(&'static str, String)> {
    let names = if role == "MASA" {
        [
            "USHER_MASA_LISTEN__CONNECTIONS_MAX",
            "USHER_MASA_LISTEN__CONNECTIONS_PER_ADDRESS_MAX",
            "USHER_MASA_LISTEN__IDLE_TIME_SECONDS",
        ]
    } else {
        [
            "USHER_REGISTRAR_LISTEN__CONNECTIONS_MAX",
            "USHER_REGISTRAR_LISTEN__CONNECTIONS_PER_ADDRESS_MAX",
            "USHER_REGISTRAR_LISTEN__IDLE_TIME_SECONDS",
        ]
    };
    let values = [
        CONNECTIONS_MAX.to_string(),
        CONNECTIONS_MAX.to_string(),
        "3600".to_owned(),
    ];
    names.into_iter().zip(values).collect()
}

/// A running registrar.
pub struct Registrar {
    /// The process.
    pub server: Server,
    /// Where devices connect.
    pub address: SocketAddr,
    /// The certificate that it shows.
    pub certificate: Certificate,
    /// Where it speaks CoAP over DTLS.
    pub coaps: Option<SocketAddr>,
}

/// A registrar that was set up and is not started yet.
pub struct RegistrarSetup {
    folder: PathBuf,
    address: SocketAddr,
    admin: SocketAddr,
    /// The CA of its domain.
    pub domain_ca: Certificate,
    certificate: Certificate,
}

impl RegistrarSetup {
    /// Makes the folder of a registrar by `usher registrar init`.
    ///
    /// # Errors
    /// If the command fails.
    pub fn new(usher: &Path, folder: &Path, database: &str) -> anyhow::Result<Self> {
        let (address, admin) = (free_address()?, free_address()?);
        let directory = folder.display().to_string();
        run(
            usher,
            &[
                "registrar",
                "init",
                "--dir",
                &directory,
                "--listen",
                &address.to_string(),
                "--admin",
                &admin.to_string(),
                "--database",
                database,
                "--name",
                "localhost",
                "--name",
                "127.0.0.1",
            ],
        )?;
        Ok(Self {
            folder: folder.to_owned(),
            address,
            admin,
            domain_ca: Certificate::load(folder.join("domain-ca.pem"))?,
            certificate: Certificate::load_all(folder.join("registrar.pem"))?
                .into_iter()
                .next()
                .context("the registrar's certificate")?,
        })
    }

    /// Trusts the manufacturer and its MASA, lets every device in, and starts.
    ///
    /// # Errors
    /// If one of the steps fails.
    pub async fn start(self, usher: &Path, pki: &Pki, masa_ca: &Path) -> anyhow::Result<Registrar> {
        self.start_with(usher, pki, masa_ca, None, Vec::new()).await
    }

    /// The same, with CoAP over DTLS for so many devices at once.
    ///
    /// # Errors
    /// If one of the steps fails.
    pub async fn start_with_coaps(
        self,
        usher: &Path,
        pki: &Pki,
        masa_ca: &Path,
        coaps: SocketAddr,
        devices: usize,
    ) -> anyhow::Result<Registrar> {
        let variables = vec![
            ("USHER_REGISTRAR_COAP__LISTEN", format!("[\"{coaps}\"]")),
            ("USHER_REGISTRAR_COAP__SOCKETS", "2".to_owned()),
            // One association for each device, and one that it has just left.
            (
                "USHER_REGISTRAR_COAP__LIMITS__PEERS_MAX",
                (2 * devices).max(1000).to_string(),
            ),
        ];
        self.start_with(usher, pki, masa_ca, Some(coaps), variables)
            .await
    }

    async fn start_with(
        self,
        usher: &Path,
        pki: &Pki,
        masa_ca: &Path,
        coaps: Option<SocketAddr>,
        more: Vec<(&'static str, String)>,
    ) -> anyhow::Result<Registrar> {
        let vendors = self.folder.join("vendors.d");
        std::fs::create_dir_all(&vendors)?;
        let root = pki.manufacturer_root.chain.last().context("a root")?;
        std::fs::write(vendors.join("load-idevid.pem"), root.to_pem())?;
        std::fs::copy(masa_ca, vendors.join("load-masa.pem"))?;
        let profile = "name = \"load\"\nidevid_anchors = [\"load-idevid.pem\"]\n\
                       masa_tls_anchors = [\"load-masa.pem\"]\nvoucher_anchors = [\"load-masa.pem\"]\n";
        std::fs::write(vendors.join("load.toml"), profile)?;
        let config = self.folder.join("registrar.toml").display().to_string();
        let mut variables = limits("REGISTRAR");
        variables.push(("USHER_REGISTRAR_POLICY__DEFAULT", "allow".to_owned()));
        variables.extend(more);
        let mut server = Server::start(
            usher,
            &["registrar", "--config", &config, "serve"],
            &variables,
            &self.folder.join("registrar.log"),
        )?;
        server.ready(self.admin).await?;
        Ok(Registrar {
            server,
            address: self.address,
            certificate: self.certificate,
            coaps,
        })
    }
}
