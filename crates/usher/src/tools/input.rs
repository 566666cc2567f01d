//! What the tools read: files, standard input, or PEM text in place of a file's name.

use std::io::Read;

use pki::path::Anchors;
use pki::{Blame, Certificate, Coded, Crl};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

/// Largest file that is read.
pub(super) const FILE_SIZE_MAX_BYTES: u64 = 16 * 1024 * 1024;

/// Why a command could not run. The artefact's own faults are verdicts, not problems.
#[derive(Debug, thiserror::Error)]
pub(super) enum Problem {
    /// A file cannot be read.
    #[error("cannot read {name}: {detail}")]
    File { name: String, detail: String },
    /// A file that the caller trusts or names as context is not what it should be.
    #[error("{name}: {source}")]
    Material { name: String, source: pki::Error },
    /// An option has no sense.
    #[error("{0}")]
    Usage(String),
}

impl Problem {
    pub(super) fn usage(detail: impl Into<String>) -> Self {
        Self::Usage(detail.into())
    }
}

impl Coded for Problem {
    fn code(&self) -> &'static str {
        match self {
            Self::File { .. } => "config.file-unreadable",
            Self::Material { .. } => "config.certificate-unreadable",
            Self::Usage(_) => "config.usage",
        }
    }

    fn blame(&self) -> Blame {
        Blame::Caller
    }
}

/// The octets of a file, of standard input (`-`), or of PEM text given in place of a name.
pub(super) fn read(name: &str) -> Result<Vec<u8>, Problem> {
    if name.trim_start().starts_with("-----BEGIN ") {
        return Ok(name.as_bytes().to_vec());
    }
    let fail = |error: std::io::Error| Problem::File {
        name: name.to_owned(),
        detail: error.to_string(),
    };
    let mut bytes = Vec::new();
    let limited = FILE_SIZE_MAX_BYTES + 1;
    if name == "-" {
        std::io::stdin()
            .take(limited)
            .read_to_end(&mut bytes)
            .map_err(fail)?;
    } else {
        let file = std::fs::File::open(name).map_err(fail)?;
        file.take(limited).read_to_end(&mut bytes).map_err(fail)?;
    }
    if u64::try_from(bytes.len()).unwrap_or(u64::MAX) > FILE_SIZE_MAX_BYTES {
        let detail = format!("larger than {FILE_SIZE_MAX_BYTES} octets");
        return Err(Problem::File {
            name: name.to_owned(),
            detail,
        });
    }
    Ok(bytes)
}

/// The certificates in some octets: PEM with any number, or one in DER.
pub(super) fn certificates_in(bytes: &[u8]) -> Result<Vec<Certificate>, pki::Error> {
    if bytes.first() == Some(&0x30) {
        return Ok(vec![Certificate::from_der(bytes)?]);
    }
    Certificate::all_from_pem(&String::from_utf8_lossy(bytes))
}

/// The certificates of several files that the caller gives as context.
pub(super) fn certificates(names: &[String]) -> Result<Vec<Certificate>, Problem> {
    let mut all = Vec::new();
    for name in names {
        let bytes = read(name)?;
        let found = certificates_in(&bytes).map_err(|source| Problem::Material {
            name: shown(name),
            source,
        })?;
        if found.is_empty() {
            return Err(Problem::usage(format!(
                "{}: there is no certificate in it",
                shown(name)
            )));
        }
        all.extend(found);
    }
    Ok(all)
}

/// The one certificate of a file; of a chain the first.
pub(super) fn certificate(name: &str) -> Result<Certificate, Problem> {
    let mut all = certificates(&[name.to_owned()])?;
    Ok(all.swap_remove(0))
}

/// The anchors of several files.
pub(super) fn anchors(names: &[String]) -> Result<Anchors, Problem> {
    Ok(certificates(names)?.into_iter().collect())
}

/// The CRLs of several files.
pub(super) fn crls(names: &[String]) -> Result<Vec<Crl>, Problem> {
    let mut all = Vec::new();
    for name in names {
        let bytes = read(name)?;
        let found = if bytes.first() == Some(&0x30) {
            Crl::from_der(&bytes).map(|crl| vec![crl])
        } else {
            Crl::all_from_pem(&String::from_utf8_lossy(&bytes))
        };
        all.extend(found.map_err(|source| Problem::Material {
            name: shown(name),
            source,
        })?);
    }
    Ok(all)
}

/// A time in RFC 3339.
pub(super) fn time(text: &str) -> Result<OffsetDateTime, Problem> {
    OffsetDateTime::parse(text, &Rfc3339)
        .map_err(|error| Problem::usage(format!("{text:?} is not an RFC 3339 time: {error}")))
}

/// The name of a file for a message; inline PEM has none.
fn shown(name: &str) -> String {
    if name.contains("-----BEGIN ") {
        "PEM text".to_owned()
    } else {
        name.to_owned()
    }
}
