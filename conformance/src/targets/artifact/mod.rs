//! Target `artifact`: files that an implementation made, and a program that judges files.

mod files;
mod sets;
mod vectors;

use std::path::PathBuf;

use anyhow::Result;

use crate::{
    case::{Case, Kit},
    profile::Profile,
    role::{Feature, Plan, Prepared, Role, Setup, Target},
};

pub use self::vectors::{VectorsArguments, vectors};

/// The role.
pub static ARTIFACT: Artifact = Artifact;

/// Files, and programs that judge files.
pub struct Artifact;

const FEATURES: &[Feature] = &[
    Feature {
        name: "files",
        means: "settings.files are vouchers that the implementation issued",
        usual: true,
    },
    Feature {
        name: "verifier",
        means: "settings.verifier is a program that judges artefacts; the vectors are given to it",
        usual: true,
    },
    Feature {
        name: "cms",
        means: "the verifier knows CMS",
        usual: true,
    },
    Feature {
        name: "jws",
        means: "the verifier knows JWS",
        usual: true,
    },
    Feature {
        name: "cose",
        means: "the verifier knows COSE",
        usual: false,
    },
    Feature {
        name: "der",
        means: "the verifier knows certificates and certificate requests",
        usual: true,
    },
    Feature {
        name: "json",
        means: "the verifier knows unsigned JSON: audit logs, telemetry",
        usual: true,
    },
    Feature {
        name: "cbor",
        means: "the verifier knows unsigned CBOR",
        usual: false,
    },
];

impl Role for Artifact {
    fn target(&self) -> Target {
        Target::Artifact
    }

    fn features(&self) -> &'static [Feature] {
        FEATURES
    }

    fn cases(&self) -> Vec<Case> {
        let mut cases = files::cases();
        cases.extend(vectors::cases());
        cases
    }

    fn prepare(&self, plan: &Plan) -> Result<Prepared> {
        let written = vectors::write_all(&plan.folder.join("vectors"))?;
        let mut profile = Profile::new(Target::Artifact);
        for (name, value) in [
            ("voucher_anchors", "masa-anchors.pem"),
            ("verifier", "./judge.sh"),
        ] {
            profile.settings.insert(name.into(), value.into());
        }
        profile
            .settings
            .insert("files".into(), toml::Value::Array(vec!["made".into()]));
        let instructions = INSTRUCTIONS.replace("{count}", &written.to_string());
        Ok(Prepared {
            instructions,
            profile,
        })
    }

    fn start(&self, setup: &Setup<'_>) -> Result<Kit> {
        Ok(std::sync::Arc::new(Bench::new(setup)?))
    }
}

const INSTRUCTIONS: &str = "\
# Testing files and verifiers

Two things can be tested, together or alone.

**Files that the implementation makes.** Put vouchers into the folder `made` beside `profile.toml`
(any names, any depth) and the certificates that devices trust into `masa-anchors.pem`. Claim
`files`.

**A program that judges files.** There are {count} vectors in `vectors`; `vectors/index.json` says
what each is and what has to come of it. The suite starts `settings.verifier` once for each of them,
in the folder of the profile, and writes one line of JSON to its standard input: `id`, `file`,
`kind`, `at`, `anchors`, and what else is known, with absolute paths. It has to exit with 0 when it
accepts the file, with 1 when it refuses it, and with 127 when it does not know such files. Claim
`verifier` and the encodings that the program knows: `cms`, `jws`, `cose`, `der`, `json`, `cbor`.

Then set `implementation` in `profile.toml` and run

    usher-conformance run --target artifact --profile profile.toml --out report
";

/// What the cases share.
pub(crate) struct Bench {
    pub(crate) folder: PathBuf,
    pub(crate) files: Vec<PathBuf>,
    pub(crate) anchors: Option<PathBuf>,
    pub(crate) at: Option<time::OffsetDateTime>,
    pub(crate) verifier: Option<String>,
    pub(crate) vectors: vectors::Written,
}

impl Bench {
    fn new(setup: &Setup<'_>) -> Result<Self> {
        let folder = std::fs::canonicalize(setup.folder)?;
        let profile = setup.profile;
        let mut files = Vec::new();
        for name in profile.list("files") {
            collect(&folder.join(name), &mut files);
        }
        files.sort();
        let at = match profile.text("at") {
            Some(text) => Some(time::OffsetDateTime::parse(
                text,
                &time::format_description::well_known::Rfc3339,
            )?),
            None => None,
        };
        Ok(Self {
            anchors: profile.file(&folder, "voucher_anchors"),
            verifier: profile.text("verifier").map(str::to_owned),
            at,
            files,
            folder,
            vectors: vectors::Written::new()?,
        })
    }
}

/// Every file below a path, or the file that it is.
fn collect(path: &std::path::Path, files: &mut Vec<PathBuf>) {
    match std::fs::read_dir(path) {
        Ok(entries) => {
            for entry in entries.flatten() {
                collect(&entry.path(), files);
            }
        }
        Err(_) => {
            if path.is_file() {
                files.push(path.to_owned());
            }
        }
    }
}
