//! Constrained devices against a registrar and a MASA: bare handshakes, whole enrolments, what one
//! enrolment takes on the wire, and a storm.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use artifacts::Envelope;
use brski::pledge::ProximityForm;
use daemon::Clock;
use device::brski::Verdict;
use net::dtls::Version;
use pki::path::Anchors;
use serde::Serialize;
use store::Store;

use testkit::{Impairment, Pki, PkiOptions};
use time::OffsetDateTime;
use url::Url;

use crate::load::forward::Forward;
use crate::load::pledges::{Adjust, Counters, Pledges, Traffic};
use crate::report::{Memory, Round, Row};
use crate::servers::{Masa, MasaSetup, Registrar, RegistrarSetup, free_address};
use crate::world;

/// How long a pledge of the storm goes on.
const STORM_TIME_MAX: Duration = Duration::from_secs(20 * 60);
/// What the link's numbers begin with.
const SEED: u64 = 1;

/// How much of everything.
#[derive(Clone, Copy, Debug)]
pub struct Size {
    /// Enrolments in one round.
    pub enrolments: usize,
    /// Bare handshakes in one round.
    pub handshakes: usize,
    /// Rounds.
    pub rounds: usize,
    /// Pledges at once in a round.
    pub clients: usize,
    /// Idle associations.
    pub idle: usize,
    /// Pledges of the storm.
    pub storm: usize,
    /// Share of datagrams that the storm's link loses.
    pub loss: f64,
}

/// What one enrolment takes on the wire between device and registrar.
#[derive(Clone, Debug, Serialize)]
pub struct Wire {
    /// Which way.
    pub path: String,
    /// The traffic of one device.
    pub traffic: Traffic,
}

/// Everybody at once.
#[derive(Clone, Debug, Serialize)]
pub struct Storm {
    /// Devices.
    pub pledges: usize,
    /// Share of datagrams that were lost, each way.
    pub loss: f64,
    /// Devices that have a certificate.
    pub enrolled: usize,
    /// Certificates that the registrar's CA issued.
    pub certificates: i64,
    /// Vouchers that the MASA issued.
    pub vouchers: i64,
    /// From the first datagram to the last device, in seconds.
    pub seconds: f64,
    /// Half of the devices were done within this, in seconds.
    pub p50_seconds: f64,
    /// 99 of 100 were done within this, in seconds.
    pub p99_seconds: f64,
    /// Associations that the devices began; two for each go without trouble.
    pub associations: u64,
    /// Most memory that the registrar took up, in MiB.
    pub registrar_peak_mib: f64,
    /// The same of the MASA.
    pub masa_peak_mib: f64,
    /// The same of the load generator with all its pledges.
    pub pledges_peak_mib: f64,
    /// CPU time of the registrar, in seconds.
    pub registrar_cpu_seconds: f64,
    /// All traffic.
    pub traffic: Traffic,
    /// Why the first device that failed did.
    pub first_failure: Option<String>,
}

/// What was measured.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Figures {
    /// Rates.
    pub rows: Vec<Row>,
    /// Idle associations.
    pub memory: Vec<Memory>,
    /// One enrolment.
    pub wires: Vec<Wire>,
    /// The storm.
    pub storm: Option<Storm>,
}

struct World {
    masa: Masa,
    registrar: Registrar,
    pki: Pki,
    anchors: Anchors,
    folder: std::path::PathBuf,
    next: usize,
}

impl World {
    async fn start(
        usher: &Path,
        folder: &Path,
        devices: usize,
        now: OffsetDateTime,
    ) -> anyhow::Result<Self> {
        let coaps = free_address()?;
        let setup =
            RegistrarSetup::new(usher, &folder.join("registrar"), "sqlite:registrar.sqlite")?;
        let address = free_address()?;
        let mut options = PkiOptions::new(now);
        options.masa_url = Some(format!("localhost:{}", address.port()));
        let pki = Pki::new(options)?;
        let masa = Masa::start(
            usher,
            &folder.join("constrained"),
            MasaSetup {
                database: "sqlite:masa.db",
                address,
                owner: &setup.domain_ca,
                devices,
            },
            &pki,
            now,
        )
        .await?;
        let anchors = masa.signer()?.into();
        let registrar = setup
            .start_with_coaps(usher, &pki, &masa.ca, coaps, devices)
            .await?;
        Ok(Self {
            masa,
            registrar,
            pki,
            anchors,
            folder: folder.to_owned(),
            next: 0,
        })
    }

    /// Devices that nobody has met.
    fn pledges(&mut self, count: usize, loss: f64) -> anyhow::Result<Pledges> {
        let devices = (self.next..self.next + count)
            .map(|number| self.pki.idevid(&world::serial(number)))
            .collect::<Result<Vec<_>, _>>()?;
        self.next += count;
        Ok(Pledges {
            to: self.registrar.coaps.context("an address for CoAP")?,
            devices: Arc::new(devices),
            anchors: self.anchors.clone(),
            impairment: Impairment {
                seed: SEED,
                loss,
                ..Impairment::NONE
            },
            now: Clock::system().now(),
            adjust: |config| config.small = true,
            counters: Arc::new(Counters::default()),
        })
    }

    async fn count(&self, of: Counted) -> anyhow::Result<i64> {
        let (path, schema, query) = match of {
            Counted::Certificates => (
                self.folder.join("registrar").join("registrar.sqlite"),
                &registrar::schema::SCHEMA,
                "SELECT COUNT(*) AS n FROM certificate",
            ),
            Counted::Vouchers => (
                self.folder.join("constrained").join("masa").join("masa.db"),
                &masa::SCHEMA,
                "SELECT COUNT(*) AS n FROM voucher",
            ),
        };
        let store = Store::open(&format!("sqlite:{}", path.display()), schema).await?;
        let row = store.fetch_optional(query, Vec::new()).await?;
        let count = row.context("a count")?.integer("n")?;
        store.close().await;
        Ok(count)
    }
}

enum Counted {
    Certificates,
    Vouchers,
}

/// Measures.
///
/// # Errors
/// If a server cannot be started, or a device without trouble on its link is refused.
pub async fn measure(usher: &Path, folder: &Path, size: Size) -> anyhow::Result<Figures> {
    let mut figures = Figures::default();
    let now = Clock::system().now();
    let calm = folder.join("calm");
    std::fs::create_dir_all(&calm)?;
    let Size {
        enrolments: count,
        handshakes,
        rounds,
        clients,
        ..
    } = size;
    if rounds > 0 {
        let devices = rounds * (count + 2 * handshakes) + 16;
        let mut world = World::start(usher, &calm, devices, now).await?;
        eprintln!("bare DTLS handshakes");
        for (version, title) in [
            (Version::Dtls12, "bare handshakes, DTLS 1.2, CCM_8, mutual"),
            (Version::Dtls13, "bare handshakes, DTLS 1.3, mutual"),
        ] {
            let mut done = Vec::new();
            for _ in 0..rounds {
                let pledges = world.pledges(handshakes, 0.0)?;
                let before = world.registrar.server.cpu()?;
                let seen = pledges.shake_hands(version, clients).await?;
                done.push(Round {
                    time: seen.time,
                    done: handshakes,
                    server_cpu: world.registrar.server.cpu()?.saturating_sub(before),
                    database_cpu: Duration::ZERO,
                    latency: seen.latency,
                });
            }
            figures.rows.push(Row::of(title, "none", clients, &done));
        }

        eprintln!("enrolments over CoAPs");
        let (mut alone, mut both) = (Vec::new(), Vec::new());
        for _ in 0..rounds {
            let pledges = world.pledges(count, 0.0)?;
            let (registrar, masa) = (world.registrar.server.cpu()?, world.masa.server.cpu()?);
            let outcome = pledges.enrol(clients).await?;
            anyhow::ensure!(
                outcome.enrolled == count,
                "{} of {count} enrolled: {:?}",
                outcome.enrolled,
                outcome.first_failure
            );
            let registrar = world.registrar.server.cpu()?.saturating_sub(registrar);
            let masa = world.masa.server.cpu()?.saturating_sub(masa);
            for (rounds, cpu) in [(&mut alone, registrar), (&mut both, registrar + masa)] {
                rounds.push(Round {
                    time: outcome.seen.time,
                    done: count,
                    server_cpu: cpu,
                    database_cpu: Duration::ZERO,
                    latency: outcome.seen.latency.clone(),
                });
            }
        }
        for (whose, rounds) in [("registrar", alone), ("MASA and registrar", both)] {
            let title = format!("enrolments over CoAPs ({whose})");
            figures
                .rows
                .push(Row::of(&title, "sqlite", clients, &rounds));
        }
        figures.wires = wires(&mut world).await?;
    }
    if size.idle > 0 {
        for (version, name) in [(Version::Dtls12, "DTLS 1.2"), (Version::Dtls13, "DTLS 1.3")] {
            eprintln!("idle associations, {name}");
            // A server of its own for each: memory that was freed before would hide the growth.
            let folder = folder.join(format!("idle-{}", name.replace(' ', "-")));
            std::fs::create_dir_all(&folder)?;
            let mut world = World::start(usher, &folder, size.idle, now).await?;
            figures
                .memory
                .push(idle(&mut world, version, name, size).await?);
        }
    }
    if size.storm > 0 {
        let stormy = folder.join("storm");
        std::fs::create_dir_all(&stormy)?;
        let mut world = World::start(usher, &stormy, size.storm, now).await?;
        figures.storm = Some(storm(&mut world, size).await?);
    }
    Ok(figures)
}

/// Growth of the registrar by associations that are silent.
async fn idle(
    world: &mut World,
    version: Version,
    name: &str,
    size: Size,
) -> anyhow::Result<Memory> {
    // The first pay for what all share.
    let warm = world.pledges(size.clients, 0.0)?.hold(version).await?;
    let before = world.registrar.server.memory()?;
    let held = world.pledges(size.idle, 0.0)?.hold(version).await?;
    let after = world.registrar.server.memory()?;
    held.release().await;
    warm.release().await;
    let growth = f64::from(u32::try_from(after.saturating_sub(before) / 1024)?);
    Ok(Memory {
        transport: name.to_owned(),
        connections: size.idle,
        kib_per_connection: growth / f64::from(u32::try_from(size.idle)?),
    })
}

/// One enrolment of each kind.
async fn wires(world: &mut World) -> anyhow::Result<Vec<Wire>> {
    let mut wires = Vec::new();
    let ways: [(&str, Adjust); 3] = [
        ("CoAPs, blocks of 1024, certificate pinned", |_| {}),
        ("CoAPs, small, certificate pinned", |config| {
            config.small = true
        }),
        (
            "CoAPs, small, hash of the key pinned, short paths",
            |config| {
                config.small = true;
                config.abbreviated = true;
                config.device.proximity = ProximityForm::PublicKeySha256;
            },
        ),
    ];
    for (path, adjust) in ways {
        let pledges = Pledges {
            adjust,
            ..world.pledges(1, 0.0)?
        };
        let outcome = pledges.enrol(1).await?;
        anyhow::ensure!(outcome.enrolled == 1, "{path}: {:?}", outcome.first_failure);
        wires.push(Wire {
            path: path.to_owned(),
            traffic: pledges.counters.traffic(),
        });
    }
    for envelope in [Envelope::Cms, Envelope::Cose] {
        let serial = world::serial(world.next);
        world.next += 1;
        let registrar = &world.registrar;
        let forward = Forward::start(registrar.address).await?;
        let origin = Url::parse(&format!("https://{}/", registrar.address))?;
        let mut config = device::brski::Config::new(
            vec![origin],
            world.pki.idevid(&serial)?,
            world.anchors.clone(),
            Clock::system().now(),
        );
        config.address = Some(forward.address());
        config.envelope = envelope;
        let path = format!("HTTPS/1.1, TLS 1.3, {}", envelope.name());
        let outcome = device::brski::run(&config, &mut |_| {}).await?;
        anyhow::ensure!(
            matches!(outcome.verdict, Verdict::Enrolled(_)),
            "{path}: not enrolled"
        );
        wires.push(Wire {
            path,
            traffic: forward.traffic(),
        });
    }
    Ok(wires)
}

/// Everybody comes back at once, as after a power cut.
async fn storm(world: &mut World, size: Size) -> anyhow::Result<Storm> {
    eprintln!("a storm of {} pledges", size.storm);
    let pledges = Pledges {
        adjust: |config| {
            config.small = true;
            config.device.attempts_max = None;
            config.device.time_max = Some(STORM_TIME_MAX);
        },
        ..world.pledges(size.storm, size.loss)?
    };
    let before = world.registrar.server.cpu()?;
    let outcome = pledges.enrol(size.storm).await?;
    let seconds = |quantile| {
        let micros = outcome.seen.latency.value_at_quantile(quantile);
        Duration::from_micros(micros).as_secs_f64()
    };
    let mib = |bytes: u64| f64::from(u32::try_from(bytes / 1024).unwrap_or(u32::MAX)) / 1024.0;
    Ok(Storm {
        pledges: size.storm,
        loss: size.loss,
        enrolled: outcome.enrolled,
        certificates: world.count(Counted::Certificates).await?,
        vouchers: world.count(Counted::Vouchers).await?,
        seconds: outcome.seen.time.as_secs_f64(),
        p50_seconds: seconds(0.5),
        p99_seconds: seconds(0.99),
        associations: outcome.associations,
        registrar_peak_mib: mib(world.registrar.server.memory_peak()?),
        masa_peak_mib: mib(world.masa.server.memory_peak()?),
        pledges_peak_mib: mib(crate::process::memory_peak_of(std::process::id())?),
        registrar_cpu_seconds: world
            .registrar
            .server
            .cpu()?
            .saturating_sub(before)
            .as_secs_f64(),
        traffic: pledges.counters.traffic(),
        first_failure: outcome.first_failure,
    })
}

impl Figures {
    /// The wires and the storm, as tables in Markdown.
    #[must_use]
    pub fn to_text(&self) -> String {
        let mut text = String::new();
        if !self.wires.is_empty() {
            text.push_str(
                "\n| one enrolment | bytes up | bytes down | datagrams or pieces up | down | round trips |\n|---|---|---|---|---|---|\n",
            );
        }
        for Wire { path, traffic } in &self.wires {
            text.push_str(&format!(
                "| {path} | {} | {} | {} | {} | {} |\n",
                traffic.up_bytes, traffic.down_bytes, traffic.up, traffic.down, traffic.turns
            ));
        }
        let Some(storm) = &self.storm else {
            return text;
        };
        text.push_str(&format!(
            "\nstorm: {} pledges at once, {:.0} % of datagrams lost each way: {} enrolled, {} \
             certificates issued, {} vouchers, in {:.1} s (half within {:.1} s, 99 % within \
             {:.1} s); {} associations; {} datagrams up, {} down; peak memory: registrar {:.0} \
             MiB, MASA {:.0} MiB, the pledges together {:.0} MiB; registrar CPU {:.1} s\n",
            storm.pledges,
            storm.loss * 100.0,
            storm.enrolled,
            storm.certificates,
            storm.vouchers,
            storm.seconds,
            storm.p50_seconds,
            storm.p99_seconds,
            storm.associations,
            storm.traffic.up,
            storm.traffic.down,
            storm.registrar_peak_mib,
            storm.masa_peak_mib,
            storm.pledges_peak_mib,
            storm.registrar_cpu_seconds,
        ));
        if let Some(failure) = &storm.first_failure {
            text.push_str(&format!("the first that failed: {failure}\n"));
        }
        text
    }
}
