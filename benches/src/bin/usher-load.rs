//! `usher-load`: what a MASA, a registrar and a bootstrap server can do, measured over real sockets.
//!
//! The servers are child processes of the `usher` binary in temporary folders; the load comes from
//! this process on the same machine. Each scenario runs several rounds and the medians are shown.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use artifacts::Envelope;
use clap::Parser;
use daemon::Clock;
use net::HttpVersion;
use pki::Identity;
use testkit::{Pki, PkiOptions, TempPostgres};
use time::OffsetDateTime;
use usher_benches::bootstrap::BootstrapSetup;
use usher_benches::load::{bootstrap, connections, enrolments, vouchers};
use usher_benches::process::cpu_of_all;
use usher_benches::report::{Report, Round, Row, Start};
use usher_benches::servers::{Masa, MasaSetup, RegistrarSetup, free_address};
use usher_benches::{coaps, raw, world};

#[derive(Debug, Parser)]
#[command(about = "Load generator: vouchers, enrolments and idle connections over real sockets")]
struct Arguments {
    /// The binary under load; build it with --release.
    #[arg(long, default_value = "target/release/usher")]
    usher: PathBuf,
    /// Rounds of each scenario; the medians are shown.
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// Vouchers in one round.
    #[arg(long, default_value_t = 3000)]
    vouchers: usize,
    /// Enrolments in one round.
    #[arg(long, default_value_t = 500)]
    enrolments: usize,
    /// Requests to a bootstrap server in one round.
    #[arg(long, default_value_t = 10_000)]
    requests: usize,
    /// Clients at once.
    #[arg(long, default_value_t = 16)]
    clients: usize,
    /// Idle connections of each transport.
    #[arg(long, default_value_t = 2000)]
    idle: usize,
    /// Bare DTLS handshakes in one round.
    #[arg(long, default_value_t = 2000)]
    handshakes: usize,
    /// Pledges of the storm over CoAPs; 0 for none.
    #[arg(long, default_value_t = 10_000)]
    storm: usize,
    /// Share of the storm's datagrams that are lost, each way.
    #[arg(long, default_value_t = 0.05)]
    loss: f64,
    /// Devices in the large register.
    #[arg(long, default_value_t = 1_000_000)]
    large: usize,
    /// Only scenarios whose name has this in it.
    #[arg(long, default_value = "")]
    only: String,
    /// Leave PostgreSQL out.
    #[arg(long)]
    no_postgres: bool,
    /// Print JSON instead of a table.
    #[arg(long)]
    json: bool,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let runtime = match tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
    {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("error: {error}");
            return ExitCode::from(2);
        }
    };
    match runtime.block_on(measure(&arguments)) {
        Ok(report) if arguments.json => {
            println!(
                "{}",
                serde_json::to_string_pretty(&report).unwrap_or_default()
            );
            ExitCode::SUCCESS
        }
        Ok(report) => {
            println!("{}", report.to_text());
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

async fn measure(arguments: &Arguments) -> anyhow::Result<Report> {
    let folder = tempfile::tempdir()?;
    let raw = raw::measure(Duration::from_secs(2), folder.path())?;
    let mut report = Report {
        raw,
        rows: Vec::new(),
        memory: Vec::new(),
        starts: Vec::new(),
        coaps: None,
    };
    let run = Run {
        arguments,
        folder: folder.path(),
        now: Clock::system().now(),
        postgres: None,
    };
    let wants = |name: &str| name.contains(&arguments.only);
    let devices = (arguments.vouchers * arguments.rounds).max(1000);

    if wants("idle") {
        run.idle(&mut report).await?;
    }
    if wants("vouchers keep-alive") || wants("vouchers new TLS") {
        let sqlite = || Ok("sqlite:masa.db".to_owned());
        run.vouchers("sqlite", &sqlite, devices, &mut report)
            .await?;
        if !arguments.no_postgres {
            let postgres = TempPostgres::start_durable()?;
            let fresh = || Ok(postgres.fresh_database()?);
            run.vouchers("postgres", &fresh, devices, &mut report)
                .await?;
        }
    }
    if wants("register") {
        for size in [1000, arguments.large] {
            run.register(size, &mut report).await?;
        }
    }
    if wants("enrolments") || wants("coaps") {
        run.enrolments(&mut report).await?;
    }
    if wants("coaps") {
        let size = coaps::Size {
            enrolments: arguments.enrolments,
            handshakes: arguments.handshakes,
            rounds: arguments.rounds,
            clients: arguments.clients,
            idle: arguments.idle,
            storm: arguments.storm,
            loss: arguments.loss,
        };
        let mut figures =
            coaps::measure(&arguments.usher, &folder.path().join("coaps"), size).await?;
        report.memory.append(&mut figures.memory);
        report.coaps = Some(figures);
    }
    for size in [1000, arguments.large] {
        if wants("bootstrap") {
            run.bootstrap("sqlite", "sqlite:bootstrap.db", size, &mut report)
                .await?;
        }
    }
    if wants("bootstrap") && !arguments.no_postgres {
        let postgres = TempPostgres::start_durable()?;
        let database = postgres.fresh_database()?;
        run.bootstrap("postgres", &database, 1000, &mut report)
            .await?;
    }
    Ok(report)
}

struct Run<'a> {
    arguments: &'a Arguments,
    folder: &'a Path,
    now: OffsetDateTime,
    /// The folder of our PostgreSQL, which stands in the command line of its first process.
    postgres: Option<String>,
}

impl Run<'_> {
    fn pki(&self, masa: std::net::SocketAddr) -> anyhow::Result<Pki> {
        let mut options = PkiOptions::new(self.now);
        options.masa_url = Some(format!("localhost:{}", masa.port()));
        Ok(Pki::new(options)?)
    }

    async fn masa(
        &self,
        name: &str,
        database: &str,
        devices: usize,
    ) -> anyhow::Result<(Masa, Pki)> {
        let address = free_address()?;
        let pki = self.pki(address)?;
        let owner = pki.domain.ca.certificate().context("a CA")?.clone();
        let masa = Masa::start(
            &self.arguments.usher,
            &self.folder.join(name),
            MasaSetup {
                database,
                address,
                owner: &owner,
                devices,
            },
            &pki,
            self.now,
        )
        .await?;
        Ok((masa, pki))
    }

    /// Vouchers of fresh devices, with a connection each and with connections kept.
    async fn vouchers(
        &self,
        name: &str,
        database: &dyn Fn() -> anyhow::Result<String>,
        devices: usize,
        report: &mut Report,
    ) -> anyhow::Result<()> {
        for keep_alive in [true, false] {
            let scenario = if keep_alive {
                "vouchers keep-alive"
            } else {
                "vouchers new TLS"
            };
            if !scenario.contains(&self.arguments.only) {
                continue;
            }
            eprintln!("{scenario}, {name}");
            let folder = format!("{name}-{keep_alive}");
            let database = database()?;
            let (masa, pki) = self.masa(&folder, &database, devices).await?;
            let order = (0..devices).collect::<Vec<_>>();
            let rounds = self.voucher_rounds(&masa, &pki, &order, keep_alive).await?;
            report
                .rows
                .push(Row::of(scenario, name, self.arguments.clients, &rounds));
        }
        Ok(())
    }

    async fn voucher_rounds(
        &self,
        masa: &Masa,
        pki: &Pki,
        order: &[usize],
        keep_alive: bool,
    ) -> anyhow::Result<Vec<Round>> {
        let Arguments {
            vouchers: count,
            rounds,
            clients,
            ..
        } = *self.arguments;
        let mut done = Vec::new();
        let mut devices: HashMap<usize, Identity> = HashMap::new();
        for round in 0..rounds {
            let numbers = order.iter().skip(round * count).take(count);
            let now = Clock::system().now();
            let requests = numbers
                .map(|number| {
                    let serial = world::serial(*number);
                    let device = match devices.entry(*number) {
                        Entry::Occupied(device) => device.into_mut(),
                        Entry::Vacant(place) => place.insert(pki.idevid(&serial)?),
                    };
                    world::request_of(pki, device, &serial, now)
                })
                .collect::<anyhow::Result<Vec<_>>>()?;
            let registrar = &pki.domain.registrar;
            let (server, other) = (masa.server.cpu()?, self.database_cpu());
            let requests = Arc::new(requests);
            let seen =
                vouchers::ask(masa.address, registrar, requests, clients, keep_alive).await?;
            done.push(Round {
                time: seen.time,
                done: count,
                server_cpu: masa.server.cpu()?.saturating_sub(server),
                database_cpu: self.database_cpu().saturating_sub(other),
                latency: seen.latency,
            });
        }
        Ok(done)
    }

    /// Devices that are connected to a registrar, with their certificates, and silent.
    async fn idle(&self, report: &mut Report) -> anyhow::Result<()> {
        let usher = &self.arguments.usher;
        for http in [HttpVersion::Http1, HttpVersion::Http2, HttpVersion::Http3] {
            eprintln!("idle connections, {http}");
            // A server of its own for each: memory that was freed before would hide the growth.
            let folder = self
                .folder
                .join(format!("idle-{}", http.to_string().replace('/', "-")));
            let setup = RegistrarSetup::new(usher, &folder, "sqlite:registrar.sqlite")?;
            let pki = self.pki(free_address()?)?;
            let masa_ca = folder.join("masa-ca.pem");
            let root = pki.manufacturer_root.certificate().context("a root")?;
            std::fs::write(&masa_ca, root.to_pem())?;
            let registrar = setup.start(usher, &pki, &masa_ca).await?;
            let device = pki.idevid(&world::serial(0))?;
            // The first connections pay for what all share.
            let warm = self.arguments.clients;
            let address = registrar.address;
            connections::idle(&registrar.server, address, &device, http, warm).await?;
            let count = self.arguments.idle;
            let memory =
                connections::idle(&registrar.server, address, &device, http, count).await?;
            report.memory.push(memory);
        }
        Ok(())
    }

    /// The same load on registers of different sizes, the devices spread over the whole register.
    async fn register(&self, size: usize, report: &mut Report) -> anyhow::Result<()> {
        let scenario = format!("vouchers, register of {size}");
        eprintln!("{scenario}");
        let (masa, pki) = self
            .masa(&format!("register-{size}"), "sqlite:masa.db", size)
            .await?;
        let wanted = self.arguments.vouchers * self.arguments.rounds;
        // A small register is asked for its devices again and again, each time with a new nonce.
        let stride = (size / wanted.max(1)).max(1);
        let order: Vec<usize> = (0..wanted).map(|number| (number * stride) % size).collect();
        let rounds = self.voucher_rounds(&masa, &pki, &order, true).await?;
        report.rows.push(Row::of(
            &scenario,
            "sqlite",
            self.arguments.clients,
            &rounds,
        ));
        Ok(())
    }

    /// Devices that fetch their data and report, in registers of different sizes.
    async fn bootstrap(
        &self,
        name: &str,
        database: &str,
        size: usize,
        report: &mut Report,
    ) -> anyhow::Result<()> {
        use bootstrap::Operation::{Get, Report as Progress};
        let Arguments {
            requests: count,
            rounds,
            clients,
            ..
        } = *self.arguments;
        let usher = &self.arguments.usher;
        let pki = self.pki(free_address()?)?;
        let folder = self.folder.join(format!("bootstrap-{name}-{size}"));
        eprintln!("bootstrap server with {size} devices, {name}");
        let setup = BootstrapSetup::new(usher, &folder, database, &pki, size)?;
        let server = setup.start(usher).await?;
        report.starts.push(Start {
            server: format!("bootstrap, {name}"),
            devices: size,
            ready_ms: server.start_time.as_secs_f64() * 1000.0,
            memory_mib: f64::from(u32::try_from(server.server.memory()? / 1024)?) / 1024.0,
        });
        // Enough devices that each is met a few times, spread over the whole register.
        let met = size.min(count).min(2000);
        let devices = (0..met)
            .map(|number| Ok(pki.idevid(&world::serial(number * (size / met)))?))
            .collect::<anyhow::Result<Vec<_>>>()?;
        let devices = Arc::new(devices);
        for (scenario, operation, keep_alive) in [
            ("bootstrap get keep-alive", Get, true),
            ("bootstrap report keep-alive", Progress, true),
            ("bootstrap get new TLS", Get, false),
        ] {
            eprintln!("{scenario}");
            let mut done = Vec::new();
            for _ in 0..rounds {
                let (before, other) = (server.server.cpu()?, self.database_cpu());
                let devices = Arc::clone(&devices);
                let address = server.address;
                let seen =
                    bootstrap::ask(address, devices, operation, count, clients, keep_alive).await?;
                done.push(Round {
                    time: seen.time,
                    done: count,
                    server_cpu: server.server.cpu()?.saturating_sub(before),
                    database_cpu: self.database_cpu().saturating_sub(other),
                    latency: seen.latency,
                });
            }
            let title = format!("{scenario}, {size} devices");
            report.rows.push(Row::of(&title, name, clients, &done));
        }
        Ok(())
    }

    /// Enrolments over HTTPS, with vouchers in CMS and in COSE.
    async fn enrolments(&self, report: &mut Report) -> anyhow::Result<()> {
        eprintln!("enrolments");
        let Arguments {
            enrolments: count,
            rounds,
            clients,
            ..
        } = *self.arguments;
        let usher = &self.arguments.usher;
        let folder = self.folder.join("registrar");
        let setup = RegistrarSetup::new(usher, &folder, "sqlite:registrar.sqlite")?;
        let address = free_address()?;
        let pki = self.pki(address)?;
        let envelopes = [Envelope::Cms, Envelope::Cose];
        let masa = Masa::start(
            usher,
            &self.folder.join("enrolments"),
            MasaSetup {
                database: "sqlite:masa.db",
                address,
                owner: &setup.domain_ca,
                devices: count * rounds * envelopes.len(),
            },
            &pki,
            self.now,
        )
        .await?;
        let registrar = setup.start(usher, &pki, &masa.ca).await?;
        let mut next = 0;
        for envelope in envelopes {
            let mut done = Vec::new();
            for _ in 0..rounds {
                let now = Clock::system().now();
                let devices = (next..next + count)
                    .map(|number| {
                        let serial = world::serial(number);
                        let identity = pki.idevid(&serial)?;
                        let registrar = &registrar.certificate;
                        enrolments::Device::new(identity, &serial, registrar, envelope, now)
                    })
                    .collect::<anyhow::Result<Vec<_>>>()?;
                next += count;
                let before = masa.server.cpu()? + registrar.server.cpu()?;
                let seen = enrolments::enrol(registrar.address, Arc::new(devices), clients).await?;
                let after = masa.server.cpu()? + registrar.server.cpu()?;
                done.push(Round {
                    time: seen.time,
                    done: count,
                    server_cpu: after.saturating_sub(before),
                    database_cpu: Duration::ZERO,
                    latency: seen.latency,
                });
            }
            let title = format!(
                "enrolments over HTTPS, {} (MASA and registrar)",
                envelope.name()
            );
            report.rows.push(Row::of(&title, "sqlite", clients, &done));
        }
        Ok(())
    }

    fn database_cpu(&self) -> Duration {
        self.postgres.as_deref().map_or(Duration::ZERO, cpu_of_all)
    }
}
