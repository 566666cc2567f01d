//! The command line: others script against it, so names and exit codes do not change.

use std::{
    fmt::Write as _,
    io::{IsTerminal as _, Write as _},
    path::{Path, PathBuf},
    process::ExitCode,
};

use anyhow::{Context as _, Result, bail};
use clap::{Args, Parser, Subcommand};
use serde_json::json;

use crate::{
    case::Case,
    catalogue::Catalogue,
    expected::Expected,
    profile::Profile,
    report::{REPORT_SCHEMA, REQUIREMENTS_SCHEMA, Report, VECTORS_SCHEMA, badge, matrix, summary},
    role::{Plan, Role, Target, role},
    run::{self, Options},
    select::{Pattern, choose},
    stage::POWER_CYCLE,
    targets,
};

mod requirements;

/// Everything passed, or the command did what it was asked.
pub const EXIT_OK: u8 = 0;
/// A requirement is broken, or an expected failure passed.
pub const EXIT_FAILED: u8 = 1;
/// The command line, the profile or a file is wrong.
pub const EXIT_MISUSE: u8 = 2;
/// Nothing failed, and something could not be tested.
pub const EXIT_COULD_NOT_TEST: u8 = 3;

/// Tests anyone's pledge, registrar, MASA, join proxy, EST server, SZTP server or SZTP device.
///
/// Exit codes: 0 passed; 1 failed; 2 misuse; 3 nothing failed, but something could not be tested.
#[derive(Debug, Parser)]
#[command(name = "usher-conformance", version)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Write what the implementation has to trust, and a page that says what to configure.
    Prepare(PrepareArguments),
    /// Run the cases of a target.
    Run(RunArguments),
    /// Print the cases that there are.
    List(ListArguments),
    /// Print the catalogue with the cases that cover each row.
    Requirements(requirements::RequirementsArguments),
    /// Render several reports side by side.
    Matrix(MatrixArguments),
    /// Write the badge of a report.
    Badge(BadgeArguments),
    /// Make the test vectors, or check a verifier against them.
    Vectors(targets::artifact::VectorsArguments),
    /// Print a JSON Schema: report, requirements or vectors.
    Schema {
        /// Which one.
        name: String,
    },
}

#[derive(Debug, Args)]
struct PrepareArguments {
    /// What is tested.
    #[arg(long)]
    target: String,
    /// A new or empty folder.
    #[arg(long, value_name = "DIR")]
    dir: PathBuf,
    /// The host name or address under which the implementation reaches the suite.
    #[arg(long, value_name = "HOST", default_value = "localhost")]
    suite_host: String,
    /// The port that the suite listens on, for targets that call it.
    #[arg(long, value_name = "PORT", default_value_t = 18443)]
    suite_port: u16,
    /// Where the implementation answers, for the profile.
    #[arg(long, value_name = "URL")]
    endpoint: Option<String>,
    /// Print one JSON document.
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Args)]
struct Choice {
    /// Only these: a case's id or its beginning, a requirement's id or its beginning, `tag:WORD`,
    /// `section:5.5.6`, `level:must`; `*` stands for anything.
    #[arg(long, value_name = "PATTERN", num_args = 1.., value_delimiter = ',')]
    select: Vec<String>,
    /// Not these.
    #[arg(long, value_name = "PATTERN", num_args = 1.., value_delimiter = ',')]
    skip: Vec<String>,
}

impl Choice {
    fn of(&self, cases: Vec<Case>, catalogue: &Catalogue) -> Vec<Case> {
        let patterns =
            |texts: &[String]| -> Vec<Pattern> { texts.iter().map(Pattern::new).collect() };
        choose(
            cases,
            &patterns(&self.select),
            &patterns(&self.skip),
            catalogue,
        )
    }
}

#[derive(Debug, Args)]
struct RunArguments {
    /// What is tested.
    #[arg(long)]
    target: String,
    /// The profile; paths in it are relative to its folder.
    #[arg(long, value_name = "TOML")]
    profile: PathBuf,
    #[command(flatten)]
    choice: Choice,
    /// Write report.json, report.html, junit.xml, badge.svg and evidence.zip into this folder.
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// Known failures, each with a reason and an expiry date.
    #[arg(long, value_name = "TOML")]
    expected: Option<PathBuf>,
    /// A SHOULD that is not kept is a failure.
    #[arg(long)]
    strict: bool,
    /// The seed of everything that is chosen at random; it stands in the report.
    #[arg(long)]
    seed: Option<u64>,
    /// Cases at the same time, instead of what the profile says.
    #[arg(long)]
    parallel: Option<usize>,
    /// For devices: a shell command that sets the device back to factory state and switches it off
    /// and on, before each case. Without it and without settings.command a person is asked.
    #[arg(long, value_name = "COMMAND")]
    power_cycle: Option<String>,
    /// Say what would run and what would not apply, and run nothing.
    #[arg(long)]
    dry_run: bool,
    /// Print the report as JSON.
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Args)]
struct ListArguments {
    /// Only the cases of this target.
    #[arg(long)]
    target: Option<String>,
    #[command(flatten)]
    choice: Choice,
    /// Print one JSON document.
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Args)]
struct MatrixArguments {
    /// The reports.
    #[arg(value_name = "REPORT.json", required = true)]
    reports: Vec<PathBuf>,
    /// Write the page here instead of to standard output.
    #[arg(long, value_name = "HTML")]
    out: Option<PathBuf>,
}

#[derive(Debug, Args)]
struct BadgeArguments {
    /// The report.
    #[arg(value_name = "REPORT.json")]
    report: PathBuf,
    /// Write the badge here instead of to standard output.
    #[arg(long, value_name = "SVG")]
    out: Option<PathBuf>,
}

/// The program.
#[must_use]
pub fn main() -> ExitCode {
    let arguments = match Arguments::try_parse() {
        Ok(arguments) => arguments,
        Err(error) => {
            // Nothing can be done if the terminal is gone.
            let _ = error.print();
            return ExitCode::from(if error.use_stderr() {
                EXIT_MISUSE
            } else {
                EXIT_OK
            });
        }
    };
    match perform(arguments.command) {
        Ok(code) => ExitCode::from(code),
        Err(error) => {
            complain(&format!("usher-conformance: {error:#}"));
            ExitCode::from(EXIT_MISUSE)
        }
    }
}

fn perform(command: Command) -> Result<u8> {
    match command {
        Command::Prepare(arguments) => prepare(&arguments),
        Command::Run(arguments) => run(&arguments),
        Command::List(arguments) => list(&arguments),
        Command::Requirements(arguments) => requirements::perform(&arguments),
        Command::Matrix(arguments) => {
            let mut reports = Vec::new();
            for path in &arguments.reports {
                let file = path.with_extension("html").display().to_string();
                reports.push((file, Report::load(path)?));
            }
            deliver(arguments.out.as_deref(), &matrix(&reports))
        }
        Command::Badge(arguments) => {
            let report = Report::load(&arguments.report)?;
            deliver(arguments.out.as_deref(), &badge(&report))
        }
        Command::Vectors(arguments) => targets::artifact::vectors(&arguments),
        Command::Schema { name } => {
            let schema = match name.as_str() {
                "report" => REPORT_SCHEMA,
                "requirements" => REQUIREMENTS_SCHEMA,
                "vectors" => VECTORS_SCHEMA,
                other => bail!("no schema {other}; there are report, requirements and vectors"),
            };
            say(schema.trim_end());
            Ok(EXIT_OK)
        }
    }
}

fn role_of(name: &str) -> Result<&'static dyn Role> {
    let Some(target) = Target::from_name(name) else {
        let names: Vec<_> = Target::ALL.iter().map(|target| target.name()).collect();
        bail!("no target {name}; there are {}", names.join(", "));
    };
    role(target).with_context(|| format!("the suite has no cases for target {name} yet"))
}

fn prepare(arguments: &PrepareArguments) -> Result<u8> {
    let role = role_of(&arguments.target)?;
    let folder = &arguments.dir;
    if std::fs::read_dir(folder).is_ok_and(|mut entries| entries.next().is_some()) {
        bail!("{} is not empty", folder.display());
    }
    std::fs::create_dir_all(folder).with_context(|| folder.display().to_string())?;
    let plan = Plan {
        folder: folder.clone(),
        suite_host: arguments.suite_host.clone(),
        suite_port: arguments.suite_port,
        endpoint: arguments.endpoint.clone(),
    };
    let mut prepared = role.prepare(&plan)?;
    if prepared.profile.claims.is_empty() {
        prepared.profile.claims = role
            .features()
            .iter()
            .filter(|feature| feature.usual)
            .map(|feature| feature.name.to_owned())
            .collect();
    }
    let mut profile = String::from(
        "# What is tested and what it claims. Claimed and failing is a failure; not claimed is not\n\
         # applicable. Paths are relative to this file. Features that can be claimed:\n",
    );
    for feature in role.features() {
        writeln!(profile, "#   {:<22} {}", feature.name, feature.means)?;
    }
    profile.push_str(&toml::to_string(&prepared.profile)?);
    write(&folder.join("profile.toml"), profile.as_bytes())?;
    write(
        &folder.join("instructions.md"),
        prepared.instructions.as_bytes(),
    )?;
    if arguments.json {
        let document = json!({
            "target": arguments.target,
            "folder": folder,
            "profile": folder.join("profile.toml"),
            "instructions": folder.join("instructions.md"),
        });
        say(&document.to_string());
    } else {
        say(&prepared.instructions);
    }
    Ok(EXIT_OK)
}

fn write(path: &Path, bytes: &[u8]) -> Result<()> {
    std::fs::write(path, bytes).with_context(|| path.display().to_string())
}

fn run(arguments: &RunArguments) -> Result<u8> {
    let catalogue = Catalogue::load()?;
    let role = role_of(&arguments.target)?;
    let mut profile = Profile::load(&arguments.profile)?;
    profile.check(role)?;
    if let Some(command) = &arguments.power_cycle {
        profile
            .settings
            .insert(POWER_CYCLE.into(), command.as_str().into());
        profile.settings.remove("command");
    }
    let expected = match &arguments.expected {
        Some(path) => Expected::load(path)?,
        None => Expected::default(),
    };
    let every_case = role.cases();
    for entry in expected.entries() {
        if !every_case.iter().any(|case| case.id == entry.case) {
            bail!(
                "expected failures: {} is no case of this target",
                entry.case
            );
        }
    }
    let cases = arguments.choice.of(every_case, &catalogue);
    if cases.is_empty() {
        bail!("nothing is selected; see usher-conformance list");
    }
    if arguments.dry_run {
        say(&dry_run(&cases, &profile, &catalogue, arguments.json));
        return Ok(EXIT_OK);
    }
    let seed = arguments
        .seed
        .unwrap_or_else(|| u64::from(rand::random::<u32>()));
    let folder = match arguments.profile.parent() {
        Some(folder) if folder.as_os_str().is_empty() => Path::new("."),
        Some(folder) => folder,
        None => Path::new("."),
    };
    let options = Options {
        strict: arguments.strict,
        seed,
        parallel: arguments.parallel.unwrap_or(profile.timing.parallel),
        expected,
        command: command(arguments, seed),
    };
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()?;
    let bar = if std::io::stderr().is_terminal() {
        indicatif::ProgressBar::new(cases.len() as u64)
    } else {
        indicatif::ProgressBar::hidden()
    };
    let report = runtime.block_on(run::run(
        role,
        cases,
        &profile,
        folder,
        &options,
        &catalogue,
        &mut |case| {
            bar.set_message(case.id.clone());
            bar.inc(1);
        },
    ))?;
    bar.finish_and_clear();
    if let Some(folder) = &arguments.out {
        for path in report.write(folder)? {
            complain(&format!("wrote {}", path.display()));
        }
    }
    if arguments.json {
        say(&serde_json::to_string(&report)?);
    } else {
        say(summary(&report).trim_start_matches('\n').trim_end());
    }
    // A server that still answers a peer does not keep the program from ending.
    runtime.shutdown_background();
    Ok(report.exit_code())
}

/// The command that repeats the run, without a selection.
fn command(arguments: &RunArguments, seed: u64) -> String {
    let mut command = format!(
        "usher-conformance run --target {} --profile {} --seed {seed}",
        arguments.target,
        arguments.profile.display()
    );
    if arguments.strict {
        command.push_str(" --strict");
    }
    command
}

fn dry_run(cases: &[Case], profile: &Profile, catalogue: &Catalogue, json: bool) -> String {
    let missing = |case: &Case| -> Vec<&'static str> {
        case.needs
            .iter()
            .copied()
            .filter(|need| !profile.claims(need))
            .collect()
    };
    if json {
        let rows: Vec<_> = cases
            .iter()
            .map(|case| {
                let mut row = described(case, catalogue);
                row["applies"] = missing(case).is_empty().into();
                row
            })
            .collect();
        return serde_json::Value::from(rows).to_string();
    }
    let mut text = String::new();
    for case in cases {
        let missing = missing(case);
        // Writing to a string does not fail.
        if missing.is_empty() {
            let _ = writeln!(text, "would run       {}", case.id);
        } else {
            let _ = writeln!(
                text,
                "not applicable  {} (not claimed: {})",
                case.id,
                missing.join(", ")
            );
        }
    }
    let applicable = cases.iter().filter(|case| missing(case).is_empty()).count();
    let _ = write!(text, "{applicable} of {} would run", cases.len());
    text
}

fn described(case: &Case, catalogue: &Catalogue) -> serde_json::Value {
    json!({
        "id": case.id,
        "title": case.title,
        "target": case.target().map(Target::name),
        "level": case.level_by(catalogue).name(),
        "tags": case.tags,
        "needs": case.needs,
        "requirements": case.requirements,
    })
}

fn list(arguments: &ListArguments) -> Result<u8> {
    let catalogue = Catalogue::load()?;
    let cases = match &arguments.target {
        Some(name) => role_of(name)?.cases(),
        None => crate::role::all_cases(),
    };
    let cases = arguments.choice.of(cases, &catalogue);
    if arguments.json {
        let rows: Vec<_> = cases
            .iter()
            .map(|case| described(case, &catalogue))
            .collect();
        say(&serde_json::Value::from(rows).to_string());
        return Ok(EXIT_OK);
    }
    let mut text = String::new();
    for case in &cases {
        writeln!(
            text,
            "{}  [{}] {}\n    {}",
            case.id,
            case.level_by(&catalogue).name(),
            case.requirements.join(" "),
            case.title
        )?;
    }
    write!(text, "{} cases", cases.len())?;
    say(&text);
    Ok(EXIT_OK)
}

fn deliver(path: Option<&Path>, text: &str) -> Result<u8> {
    match path {
        Some(path) => write(path, text.as_bytes())?,
        None => say(text.trim_end()),
    }
    Ok(EXIT_OK)
}

/// Writes to standard output; whoever closed it does not want more.
pub(crate) fn say(text: &str) {
    let _ = writeln!(std::io::stdout(), "{text}");
}

/// Writes to standard error.
pub(crate) fn complain(text: &str) {
    let _ = writeln!(std::io::stderr(), "{text}");
}
