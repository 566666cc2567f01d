//! A bootstrap server as an operator sets it up, in a folder of its own.

use std::io::Write;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::Context;
use testkit::Pki;

use crate::process::{Server, run};
use crate::servers::free_address;
use crate::world::serial;

/// All clients of a load come from one address.
const CONNECTIONS_MAX: usize = 60_000;
/// Octets of the configuration, so that an answer in JSON has about 12 KB: it is in base64 twice.
const CONFIGURATION_SIZE: usize = 6_600;

/// A bootstrap server that was set up and is not started.
pub struct BootstrapSetup {
    folder: PathBuf,
    config: String,
    address: SocketAddr,
    admin: SocketAddr,
    variables: Vec<(&'static str, String)>,
}

/// A running bootstrap server.
pub struct Bootstrap {
    /// The process.
    pub server: Server,
    /// Where devices connect.
    pub address: SocketAddr,
    /// From the start of the program until it was ready.
    pub start_time: Duration,
}

impl BootstrapSetup {
    /// Makes a server with this many devices, all of which get the same bundle.
    ///
    /// # Errors
    /// If one of the commands fails.
    pub fn new(
        usher: &Path,
        folder: &Path,
        database: &str,
        pki: &Pki,
        devices: usize,
    ) -> anyhow::Result<Self> {
        let (address, admin) = (free_address()?, free_address()?);
        let directory = folder.display().to_string();
        run(
            usher,
            &[
                "bootstrap",
                "init",
                &directory,
                "--listen",
                &address.to_string(),
                "--admin",
                &admin.to_string(),
                "--database",
                database,
                "--no-rsa",
            ],
        )?;
        let config = folder.join("bootstrap.toml").display().to_string();
        let bootstrap = |arguments: &[&str]| {
            let mut all = vec!["bootstrap", "--config", &config];
            all.extend(arguments);
            run(usher, &all)
        };
        let anchor = folder.join("load-idevid.pem");
        let root = pki.manufacturer_root.chain.last().context("a root")?;
        std::fs::write(&anchor, root.to_pem())?;
        let anchor = anchor.display().to_string();
        bootstrap(&["trust", "import", &anchor, "--vendor", "load"])?;
        let list = folder.join("devices.csv");
        let mut file = std::io::BufWriter::new(std::fs::File::create(&list)?);
        writeln!(file, "vendor,serial")?;
        for number in 0..devices {
            writeln!(file, "load,{}", serial(number))?;
        }
        file.into_inner()?.sync_all()?;
        bootstrap(&["devices", "import", &list.display().to_string()])?;
        let content = folder.join("load-content");
        std::fs::create_dir_all(content.join("templates"))?;
        std::fs::write(content.join("content.toml"), CONTENT)?;
        let configuration = format!("hostname {{{{ device.serial }}}}\n{}", filler());
        std::fs::write(content.join("templates/base.cfg"), configuration)?;
        bootstrap(&["apply", &content.display().to_string()])?;
        Ok(Self {
            folder: folder.to_owned(),
            config,
            address,
            admin,
            variables: vec![
                (
                    "USHER_BOOTSTRAP_LISTEN__CONNECTIONS_MAX",
                    CONNECTIONS_MAX.to_string(),
                ),
                (
                    "USHER_BOOTSTRAP_LISTEN__CONNECTIONS_PER_ADDRESS_MAX",
                    CONNECTIONS_MAX.to_string(),
                ),
                (
                    "USHER_BOOTSTRAP_LISTEN__IDLE_TIME_SECONDS",
                    "3600".to_owned(),
                ),
            ],
        })
    }

    /// Starts it.
    ///
    /// # Errors
    /// If it does not become ready.
    pub async fn start(self, usher: &Path) -> anyhow::Result<Bootstrap> {
        let begun = Instant::now();
        let mut server = Server::start(
            usher,
            &["bootstrap", "--config", &self.config, "serve"],
            &self.variables,
            &self.folder.join("bootstrap.log"),
        )?;
        server.ready(self.admin).await?;
        Ok(Bootstrap {
            server,
            address: self.address,
            start_time: begun.elapsed(),
        })
    }
}

fn filler() -> String {
    let line = "interface description of no importance 0123456789\n";
    line.repeat(CONFIGURATION_SIZE / line.len())
}

const CONTENT: &str = r#"
[[template]]
name = "base"
file = "templates/base.cfg"
format = "text"

[[bundle]]
name = "base"
version = "1"
template = "base"
handling = "merge"

[[rule]]
name = "all"
bundle = "base"
"#;
