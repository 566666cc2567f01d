//! `usher proxy …`.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;

use clap::{Args, Subcommand};
use daemon::cli::Doctor;
use daemon::config::Flags;
use daemon::{Format, Outcome};

use crate::target::{Place, Service};
use crate::targets::Search;
use crate::{Config, Error, InitOptions, link, probe};

/// `usher proxy`: the join proxy.
#[derive(Debug, Args)]
pub struct Command {
    /// The configuration; without it `proxy.toml` here or in /etc/usher.
    #[arg(
        long,
        short,
        global = true,
        env = "USHER_PROXY_CONFIG",
        value_name = "FILE"
    )]
    config: Option<PathBuf>,
    #[command(flatten)]
    format: Format,
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Write a configuration.
    Init(InitArguments),
    /// Help pledges until told to stop.
    Serve(ServeArguments),
    /// Look for what is wrong, and say what to do about it.
    Doctor,
}

#[derive(Debug, Args)]
struct InitArguments {
    /// The folder to make.
    #[arg(long, value_name = "DIR", default_value = ".")]
    dir: PathBuf,
    /// Interface at which pledges are helped, by their link-local addresses; repeat it.
    #[arg(long = "interface", value_name = "NAME")]
    interfaces: Vec<String>,
    /// Address at which pledges are helped, for IPv4 and for trials; repeat it.
    #[arg(long = "address", value_name = "IP")]
    addresses: Vec<IpAddr>,
    /// A registrar's port for stateless join proxies (JPY); repeat it.
    #[arg(long, value_name = "HOST:PORT")]
    jpy: Vec<String>,
    /// A registrar's port for CoAP over DTLS, for the stateful way; repeat it.
    #[arg(long, value_name = "HOST[:PORT]")]
    coaps: Vec<String>,
    /// A registrar's port for HTTPS, for the circuit proxy; repeat it.
    #[arg(long, value_name = "HOST[:PORT]")]
    https: Vec<String>,
    /// Where operators connect.
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:9450")]
    admin: SocketAddr,
}

#[derive(Debug, Args)]
struct ServeArguments {
    /// Where operators connect, above the configuration.
    #[arg(long, value_name = "ADDRESS")]
    admin: Option<SocketAddr>,
}

impl Command {
    /// Runs the command and says how it ended.
    #[must_use]
    pub fn run(&self) -> Outcome {
        daemon::cli::block_on(self.format, async {
            let result = match &self.action {
                Action::Init(arguments) => self.init(arguments),
                Action::Serve(arguments) => self.serve(arguments).await,
                Action::Doctor => self.doctor().await,
            };
            daemon::cli::finish(self.format, result)
        })
    }

    fn config_file(&self) -> Result<PathBuf, Error> {
        Ok(daemon::cli::config_file(self.config.as_deref(), "proxy")?)
    }

    fn init(&self, arguments: &InitArguments) -> Result<Outcome, Error> {
        let made = crate::init(&InitOptions {
            directory: arguments.dir.clone(),
            interfaces: arguments.interfaces.clone(),
            addresses: arguments.addresses.clone(),
            jpy: arguments.jpy.clone(),
            coaps: arguments.coaps.clone(),
            https: arguments.https.clone(),
            admin: arguments.admin,
        })?;
        self.format.print(&made, |made| {
            let file = made.config.display();
            format!(
                "configuration  {file}\n\nusher proxy --config {file} doctor\nusher proxy --config \
                 {file} serve"
            )
        });
        Ok(Outcome::Yes)
    }

    async fn serve(&self, arguments: &ServeArguments) -> Result<Outcome, Error> {
        let flags = Flags::new().set("admin.address", arguments.admin.as_ref())?;
        let config = Config::load(&self.config_file()?, &flags)?;
        daemon::logging::init(&config.log)?;
        let running = crate::serve(config).await?;
        daemon::signals::until_stopped(running.shutdown(), || {
            tracing::info!("a join proxy has nothing to load again; restart it");
        })
        .await?;
        running.stop().await;
        Ok(Outcome::Yes)
    }

    async fn doctor(&self) -> Result<Outcome, Error> {
        let mut doctor = Doctor::new();
        let file = self.config_file()?;
        let config = match Config::load(&file, &Flags::new()) {
            Ok(config) => {
                doctor.pass("configuration", file.display().to_string());
                config
            }
            Err(error) => {
                doctor.fail("configuration", error.to_string(), "see docs/proxy.md");
                return Ok(doctor.print(self.format));
            }
        };
        let present = link::present(&config.pledges);
        for name in &config.pledges.interfaces {
            match present.iter().find(|link| link.name == *name) {
                Some(link) => doctor.pass(format!("interface {name}"), link.address.to_string()),
                None => doctor.fail(
                    format!("interface {name}"),
                    "it is not there, is down, or has no link-local IPv6 address",
                    "bring it up (`ip link set dev NAME up`); the proxy takes it up when it comes",
                ),
            }
        }
        for service in [Service::Jpy, Service::Coaps, Service::Https] {
            for place in config.registrar.places(service)? {
                registrar(&mut doctor, service, &place).await;
            }
        }
        search(&mut doctor, &config).await?;
        Ok(doctor.print(self.format))
    }
}

/// Whether a registrar answers, where one is looked for.
async fn search(doctor: &mut Doctor, config: &Config) -> Result<(), Error> {
    let search = Search::new(config, Arc::default())?;
    let wanted = search.wanted();
    if wanted.is_empty() {
        return Ok(());
    }
    let found = search.ask_around().await;
    if found.is_empty() {
        let schemes: Vec<&str> = wanted.iter().map(|service| service.scheme()).collect();
        doctor.fail(
            "search",
            format!("nobody answers ({})", schemes.join(", ")),
            "does the registrar answer there, are `interfaces` and `groups` of [registrar] right, \
             and is multicast routed to it?",
        );
    }
    for target in found {
        let place = Place {
            host: target.address.ip().to_string(),
            port: target.address.port(),
        };
        registrar(doctor, target.service, &place).await;
    }
    Ok(())
}

/// Whether a registrar can be reached, as far as that can be told from outside.
async fn registrar(doctor: &mut Doctor, service: Service, place: &Place) {
    /// How long a registrar may take to answer.
    const WAIT: std::time::Duration = std::time::Duration::from_secs(5);
    let name = format!("registrar {}://{place}", service.scheme());
    let found = tokio::net::lookup_host((place.host.as_str(), place.port)).await;
    let Some(address) = found.ok().and_then(|mut all| all.next()) else {
        doctor.fail(
            name,
            "its name has no address",
            "look at the name, and at DNS",
        );
        return;
    };
    if service != Service::Https {
        doctor.result(
            name,
            probe::ask(service, address, WAIT).await,
            "is the registrar running, is this its port, and does the firewall let UDP back?",
        );
        return;
    }
    let connecting = tokio::net::TcpStream::connect(address);
    match tokio::time::timeout(WAIT, connecting).await {
        Ok(Ok(_)) => doctor.pass(name, format!("{address} takes connections")),
        Ok(Err(error)) => doctor.fail(name, error.to_string(), "is the registrar running there?"),
        Err(_) => doctor.fail(name, "no answer", "look at routes and firewalls"),
    }
}
