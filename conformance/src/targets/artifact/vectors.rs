//! The vectors: made on demand, the same octets each time; written out as a product of their own,
//! and given to a verifier under test one by one.

use std::{
    collections::BTreeSet,
    io::Write as _,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::{Arc, OnceLock},
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail};
use serde::Serialize;
use time::OffsetDateTime;

use super::{
    Bench,
    sets::{self, World},
};
use crate::{
    case::Case,
    cli::{EXIT_OK, complain, say},
    clock, decode,
    evidence::Recorder,
    forge::key::Hash,
    outcome::{Finding, OrCouldNotTest as _, Told},
    report::VECTORS_SCHEMA,
};

/// What a file is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Kind {
    /// A voucher.
    Voucher,
    /// A pledge's voucher request.
    Pvr,
    /// A registrar's voucher request.
    Rvr,
    /// A certificate, with the chain beside it.
    Certificate,
    /// A PKCS#10 request.
    Csr,
    /// An audit log of a MASA.
    AuditLog,
    /// Voucher status or enrolment status.
    Telemetry,
}

impl Kind {
    /// Its name in the index.
    #[must_use]
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Voucher => "voucher",
            Self::Pvr => "pvr",
            Self::Rvr => "rvr",
            Self::Certificate => "certificate",
            Self::Csr => "csr",
            Self::AuditLog => "audit-log",
            Self::Telemetry => "telemetry",
        }
    }
}

/// How a file is encoded, which is also the feature that a verifier claims.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Encoding {
    /// CMS SignedData.
    Cms,
    /// JSON Web Signature.
    Jws,
    /// COSE_Sign1.
    Cose,
    /// DER without an envelope.
    Der,
    /// JSON without an envelope.
    Json,
    /// CBOR without an envelope.
    Cbor,
}

impl Encoding {
    /// Its name in the index.
    #[must_use]
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Cms => "cms",
            Self::Jws => "jws",
            Self::Cose => "cose",
            Self::Der => "der",
            Self::Json => "json",
            Self::Cbor => "cbor",
        }
    }

    fn extension(self, kind: Kind) -> &'static str {
        match (self, kind) {
            (Self::Cms, Kind::Voucher | Kind::Pvr | Kind::Rvr) => "vcj",
            (Self::Cms, _) => "cms",
            (Self::Jws, _) => "vjj",
            (Self::Cose, _) => "cose",
            (Self::Der, _) => "der",
            (Self::Json, _) => "json",
            (Self::Cbor, _) => "cbor",
        }
    }
}

type Make = Arc<dyn Fn(&World) -> Vec<u8> + Send + Sync>;

/// What a verifier is told beside the file. Names are files of [`World::files`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Context {
    /// The time at which to judge; the world's own, if none.
    pub(crate) at: Option<OffsetDateTime>,
    /// What is trusted.
    pub(crate) anchors: Vec<&'static str>,
    /// What may help to build a path.
    pub(crate) intermediates: Vec<&'static str>,
    /// What has to be pinned, or the domain's anchor.
    pub(crate) domain: Vec<&'static str>,
    /// The device's serial number.
    pub(crate) serial: Option<&'static str>,
    /// The nonce that was sent, in base64.
    pub(crate) nonce: Option<String>,
    /// The device's certificate.
    pub(crate) idevid: Option<&'static str>,
    /// The request that is answered.
    pub(crate) request: Option<&'static str>,
    /// The server certificate that the pledge saw, and its chain.
    pub(crate) registrar: Vec<&'static str>,
    /// The TLS client that sent it.
    pub(crate) peer: Vec<&'static str>,
    /// What a certificate is to be used for.
    pub(crate) purpose: Option<&'static str>,
}

/// One vector.
#[derive(Clone)]
pub(crate) struct Vector {
    /// Its id, which is also its path without the ending.
    pub(crate) id: String,
    /// What it is.
    pub(crate) kind: Kind,
    /// How it is encoded.
    pub(crate) encoding: Encoding,
    /// Whether a verifier has to accept it.
    pub(crate) valid: bool,
    /// The row that it is about, and further rows.
    pub(crate) requirements: Vec<&'static str>,
    /// What is right or wrong with it.
    pub(crate) reason: String,
    /// What a verifier is told.
    pub(crate) context: Context,
    make: Make,
}

impl Vector {
    /// A vector that is made by `make`.
    pub(crate) fn new(
        id: impl Into<String>,
        (kind, encoding): (Kind, Encoding),
        valid: bool,
        requirements: &[&'static str],
        reason: impl Into<String>,
        make: impl Fn(&World) -> Vec<u8> + Send + Sync + 'static,
    ) -> Self {
        Self {
            id: id.into(),
            kind,
            encoding,
            valid,
            requirements: requirements.to_vec(),
            reason: reason.into(),
            context: Context::default(),
            make: Arc::new(make),
        }
    }

    /// With this context.
    #[must_use]
    pub(crate) fn context(mut self, context: Context) -> Self {
        self.context = context;
        self
    }

    /// Its octets.
    #[must_use]
    pub(crate) fn octets(&self, world: &World) -> Vec<u8> {
        (self.make)(world)
    }

    /// Its file below the folder of the index.
    #[must_use]
    pub(crate) fn file(&self) -> String {
        format!("{}.{}", self.id, self.encoding.extension(self.kind))
    }
}

/// Every vector.
///
/// # Errors
/// If two have the same id.
pub(crate) fn all() -> Result<Vec<Vector>> {
    let vectors = sets::all();
    let mut ids = BTreeSet::new();
    for vector in &vectors {
        if !ids.insert(vector.id.as_str()) {
            bail!("two vectors are named {}", vector.id);
        }
    }
    Ok(vectors)
}

/// The keys and certificates of all vectors.
///
/// # Errors
/// If a key cannot be made.
pub(crate) fn world() -> Result<&'static World> {
    static WORLD: OnceLock<Result<World, String>> = OnceLock::new();
    WORLD
        .get_or_init(|| World::new().map_err(|error| format!("{error:#}")))
        .as_ref()
        .map_err(|error| anyhow::anyhow!("{error}"))
}

#[derive(Serialize)]
struct Index {
    schema: &'static str,
    vectors: Vec<Entry>,
}

#[derive(Serialize)]
struct Entry {
    id: String,
    file: String,
    kind: &'static str,
    encoding: &'static str,
    expect: &'static str,
    requirement: &'static str,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    also: Vec<&'static str>,
    reason: String,
    sha256: String,
    #[serde(flatten)]
    told: Knowledge,
}

/// The members that a verifier is told, with the names of `usher artifact verify --batch`.
#[derive(Serialize)]
struct Knowledge {
    at: String,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    anchors: Vec<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    intermediates: Vec<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    domain: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    serial: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    nonce: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    idevid: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    request: Option<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    registrar: Vec<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    peer: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    purpose: Option<&'static str>,
}

fn told(context: &Context, place: impl Fn(&str) -> String) -> Knowledge {
    let places = |names: &[&str]| names.iter().map(|name| place(name)).collect();
    Knowledge {
        at: clock::text(context.at.unwrap_or(sets::NOW)),
        anchors: places(&context.anchors),
        intermediates: places(&context.intermediates),
        domain: places(&context.domain),
        serial: context.serial.map(str::to_owned),
        nonce: context.nonce.clone(),
        idevid: context.idevid.map(&place),
        request: context.request.map(&place),
        registrar: places(&context.registrar),
        peer: places(&context.peer),
        purpose: context.purpose,
    }
}

/// Writes everything below a folder and returns how many vectors there are.
///
/// # Errors
/// If a file cannot be written.
pub(super) fn write_all(folder: &Path) -> Result<usize> {
    let world = world()?;
    let vectors = all()?;
    let write = |name: &str, octets: &[u8]| -> Result<()> {
        let path = folder.join(name);
        if let Some(parent) = path.parent() {
            std::fs::create_dir_all(parent)?;
        }
        std::fs::write(&path, octets).with_context(|| path.display().to_string())
    };
    for (name, octets) in world.files() {
        write(&name, &octets)?;
    }
    let mut entries = Vec::new();
    for vector in &vectors {
        let octets = vector.octets(world);
        let file = vector.file();
        write(&file, &octets)?;
        let (first, also) = vector
            .requirements
            .split_first()
            .with_context(|| format!("{}: names no requirement", vector.id))?;
        entries.push(Entry {
            id: vector.id.clone(),
            file,
            kind: vector.kind.name(),
            encoding: vector.encoding.name(),
            expect: if vector.valid { "valid" } else { "invalid" },
            requirement: first,
            also: also.to_vec(),
            reason: vector.reason.clone(),
            sha256: hex::encode(Hash::Sha256.of(&octets)),
            told: told(&vector.context, str::to_owned),
        });
    }
    let index = Index {
        schema: "usher-conformance-vectors-1",
        vectors: entries,
    };
    let mut text = serde_json::to_string_pretty(&index)?;
    text.push('\n');
    write("index.json", text.as_bytes())?;
    write("index.schema.json", VECTORS_SCHEMA.as_bytes())?;
    Ok(vectors.len())
}

/// The vectors in a temporary folder, for as long as a run lasts.
pub(crate) struct Written {
    folder: PathBuf,
    written: OnceLock<Result<(), String>>,
}

impl Written {
    pub(super) fn new() -> Result<Self> {
        let name = format!("usher-conformance-{:016x}", rand::random::<u64>());
        Ok(Self {
            folder: std::env::temp_dir().join(name),
            written: OnceLock::new(),
        })
    }

    fn folder(&self) -> Result<&Path, Finding> {
        self.written
            .get_or_init(|| {
                write_all(&self.folder)
                    .map(|_| ())
                    .map_err(|error| format!("{error:#}"))
            })
            .as_ref()
            .map_err(Finding::could_not_test)?;
        Ok(&self.folder)
    }
}

impl Drop for Written {
    fn drop(&mut self) {
        // It is below the system's folder for what may be lost.
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

/// A case for each vector.
pub(super) fn cases() -> Vec<Case> {
    sets::all()
        .into_iter()
        .map(|vector| {
            let verdict = if vector.valid { "accepts" } else { "refuses" };
            let title = format!("the verifier {verdict}: {}", vector.reason);
            let requirements = vector.requirements.clone();
            let encoding = vector.encoding.name();
            Case::new(
                format!("artifact/vector/{}", vector.id),
                title,
                &requirements,
                move |bench: Arc<Bench>, record| {
                    let vector = vector.clone();
                    async move {
                        tokio::task::spawn_blocking(move || judge(&bench, &record, &vector))
                            .await
                            .or_could_not_test("the verifier")?
                    }
                },
            )
            .tags(&["vector"])
            .needs(&["verifier", encoding])
        })
        .collect()
}

fn judge(bench: &Bench, record: &Recorder, vector: &Vector) -> Told {
    let Some(command) = &bench.verifier else {
        return Err(Finding::could_not_test("settings.verifier is not set"));
    };
    let folder = bench.vectors.folder()?;
    let octets = std::fs::read(folder.join(vector.file())).or_could_not_test("the vector")?;
    record.sent(vector.file(), &octets, decode::describe(&octets));
    let place = |name: &str| folder.join(name).display().to_string();
    let mut line =
        serde_json::to_value(told(&vector.context, place)).or_could_not_test("the line")?;
    line["id"] = vector.id.clone().into();
    line["file"] = place(&vector.file()).into();
    line["kind"] = vector.kind.name().into();
    record.note(format!("told: {line}"));
    match start(command, &bench.folder, &format!("{line}\n")) {
        Ok((code, said)) => {
            record.received(format!("exit code {code}"), said.as_bytes(), said.clone());
            match (code, vector.valid) {
                (0, true) | (1, false) => Ok(()),
                (0, false) => Err(Finding::fail(format!("it was accepted: {}", vector.reason))),
                (1, true) => Err(Finding::fail(format!(
                    "it was refused, and it is right: {}",
                    vector.reason
                ))),
                (127, _) => Err(Finding::not_applicable(
                    "the verifier says that it does not know such files",
                )),
                (other, _) => Err(Finding::could_not_test(format!(
                    "the verifier ended with exit code {other}"
                ))),
            }
        }
        Err(error) => Err(Finding::could_not_test(format!("{command}: {error:#}"))),
    }
}

/// Starts a program by the shell, writes to it, and returns its exit code and what it said.
fn start(command: &str, folder: &Path, input: &str) -> Result<(i32, String)> {
    const TIME_MAX: Duration = Duration::from_secs(30);
    const SAID_MAX: usize = 8192;
    let mut child = Command::new("/bin/sh")
        .args(["-c", command])
        .current_dir(folder)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()?;
    if let Some(mut stdin) = child.stdin.take() {
        // A verifier need not read what it does not want.
        let _ = stdin.write_all(input.as_bytes());
    }
    let begun = Instant::now();
    let (sender, receiver) = std::sync::mpsc::channel();
    let id = child.id();
    std::thread::spawn(move || {
        // Nobody listens any more when it took too long.
        let _ = sender.send(child.wait_with_output());
    });
    let output = match receiver.recv_timeout(TIME_MAX) {
        Ok(output) => output?,
        Err(_) => {
            // It is our own child; killing it ends the thread that waits for it.
            let _ = Command::new("kill").arg(id.to_string()).status();
            bail!("no verdict after {} s", begun.elapsed().as_secs());
        }
    };
    let mut said = String::from_utf8_lossy(&output.stdout).into_owned();
    said.push_str(&String::from_utf8_lossy(&output.stderr));
    let said: String = said.chars().take(SAID_MAX).collect();
    let code = output.status.code().context("a signal ended it")?;
    Ok((code, said))
}

/// `usher-conformance vectors`.
#[derive(Debug, clap::Args)]
pub struct VectorsArguments {
    /// Write the vectors, their keys and the index into this folder.
    #[arg(long, value_name = "DIR")]
    write: PathBuf,
}

/// Carries it out.
///
/// # Errors
/// If a file cannot be written.
pub fn vectors(arguments: &VectorsArguments) -> Result<u8> {
    let vectors = all()?;
    let count = write_all(&arguments.write)?;
    let good = vectors.iter().filter(|vector| vector.valid).count();
    complain(&format!("wrote {}", arguments.write.display()));
    say(&format!(
        "{count} vectors: {good} good, {} bad",
        count - good
    ));
    Ok(EXIT_OK)
}
