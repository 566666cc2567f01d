//! `usher demo`: the main job on loopback, with embedded databases and a fresh PKI.
//!
//! Real servers, real sockets, a reference pledge; beside the happy path the refusals that make it
//! safe. Each is a [`report::Row`].

mod coaps;
mod device;
mod paths;
mod refusals;
mod report;
mod sztp;
mod world;

use std::{fmt, future::Future, path::PathBuf, pin::Pin, time::Instant};

use daemon::{Format, Outcome};

use self::{
    report::{Report, Row, milliseconds},
    world::World,
};

/// Arguments of `usher demo`.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// Keep databases, keys and certificates here, in a new or empty folder, instead of in a
    /// temporary one.
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,
    /// Run only the rows whose id starts like this.
    #[arg(long, value_name = "PREFIX")]
    only: Option<String>,
    /// Print the rows that there are, and run nothing.
    #[arg(long)]
    list: bool,
    #[command(flatten)]
    format: Format,
}

/// Why a row, or the whole demo, did not go as it should.
#[derive(Clone, Debug)]
pub(crate) struct Failure {
    code: &'static str,
    detail: String,
}

impl Failure {
    fn new(code: &'static str, detail: &(impl fmt::Display + ?Sized)) -> Self {
        Self {
            code,
            detail: detail.to_string(),
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} [{}]", self.detail, self.code)
    }
}

/// What a row says when it went as it should.
type Told = Result<String, Failure>;

/// A row on its way there.
type Telling<'a> = Pin<Box<dyn Future<Output = Told> + 'a>>;

/// One path or one refusal, before it has run.
pub(crate) struct Scene {
    id: String,
    title: String,
    play: Box<dyn for<'a> Fn(&'a World) -> Telling<'a>>,
}

impl Scene {
    fn new(
        id: impl Into<String>,
        title: impl Into<String>,
        play: impl for<'a> Fn(&'a World) -> Telling<'a> + 'static,
    ) -> Self {
        Self {
            id: id.into(),
            title: title.into(),
            play: Box::new(play),
        }
    }
}

/// Runs the demo and prints its rows.
pub(crate) fn run(arguments: &Arguments) -> Outcome {
    let prefix = arguments.only.as_deref().unwrap_or_default();
    let mut scenes = paths::scenes();
    scenes.extend(coaps::scenes());
    // The MASA goes away in the last of the refusals.
    scenes.extend(sztp::scenes());
    scenes.extend(refusals::scenes());
    scenes.retain(|scene| scene.id.starts_with(prefix));
    if scenes.is_empty() {
        let detail = format!("no row starts with {prefix}; see usher demo --list");
        return arguments.format.problem("config.usage", &detail);
    }
    if arguments.list {
        let list: Vec<_> = scenes
            .iter()
            .map(|scene| serde_json::json!({ "id": scene.id, "title": scene.title }))
            .collect();
        arguments.format.print(&list, |_| {
            scenes
                .iter()
                .map(|scene| format!("{}  {}", scene.id, scene.title))
                .collect::<Vec<_>>()
                .join("\n")
        });
        return Outcome::Yes;
    }
    match play(arguments, &scenes) {
        Ok(report) => {
            arguments.format.print(&report, Report::table);
            Outcome::of(report.ok)
        }
        Err(failure) => arguments.format.problem(failure.code, &failure.detail),
    }
}

fn play(arguments: &Arguments, scenes: &[Scene]) -> Result<Report, Failure> {
    let ours = |error: std::io::Error| Failure::new("config.file", &error);
    // Removed with everything in it when it goes out of scope.
    let temporary;
    let folder = match &arguments.dir {
        Some(folder) => {
            // Yesterday's databases know yesterday's keys.
            if std::fs::read_dir(folder).is_ok_and(|mut entries| entries.next().is_some()) {
                let detail = format!("{} is not empty", folder.display());
                return Err(Failure::new("config.usage", &detail));
            }
            folder.clone()
        }
        None => {
            temporary = tempfile::Builder::new()
                .prefix("usher-demo-")
                .tempdir()
                .map_err(ours)?;
            temporary.path().to_path_buf()
        }
    };
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(ours)?;
    runtime.block_on(async {
        let world = World::start(&folder).await?;
        let mut rows = Vec::new();
        for scene in scenes {
            if !arguments.format.json {
                eprintln!("… {}", scene.title);
            }
            let begun = Instant::now();
            let told = (scene.play)(&world).await;
            let ms = milliseconds(begun.elapsed());
            let (ok, detail) = match told {
                Ok(detail) => (true, detail),
                Err(failure) => (false, failure.to_string()),
            };
            rows.push(Row {
                id: scene.id.clone(),
                title: scene.title.clone(),
                ok,
                ms,
                detail,
            });
        }
        world.stop().await;
        Ok(Report::new(rows))
    })
}
