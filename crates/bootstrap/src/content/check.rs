//! Whether a configuration is what it should be, found out before a device is given it.
//!
//! JSON and XML have to be well-formed. Where the operator supplied YANG modules, libyang judges
//! the configuration, in a process of its own: `yanglint` of Debian's libyang2-tools, with limits
//! on time, memory and output. docs/decisions/0005-libyang-as-a-process.md has the reason.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use quick_xml::Reader;
use quick_xml::events::Event;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::process::Command;

use super::document::{Digest, Document, Format, Handling, Yang};

/// How long libyang may take for one set of modules and all configurations with it.
const TIME_MAX: Duration = Duration::from_secs(120);
/// Seconds of processor time.
const PROCESSOR_SECONDS_MAX: u32 = 120;
/// Memory, in KiB.
const MEMORY_KIB_MAX: u32 = 2 * 1024 * 1024;
/// What is read of its messages, in octets.
const MESSAGES_SIZE_MAX: u64 = 1024 * 1024;
/// Configurations that one process looks at.
const BATCH_MAX: usize = 500;
/// How deep elements may be nested.
const XML_DEPTH_MAX: usize = 256;
/// The element around the data of NETCONF operations, which no module defines.
const NETCONF: &str = "urn:ietf:params:xml:ns:netconf:base:1.0";

/// What is wrong with a configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Flaw {
    /// Stable code.
    pub code: &'static str,
    /// Line of the configuration, where one can be named.
    pub line: Option<usize>,
    /// What is wrong.
    pub message: String,
}

/// Whether the text is well-formed in its format.
///
/// # Errors
/// Where it is not.
pub fn well_formed(octets: &[u8], format: Format) -> Result<(), Flaw> {
    match format {
        Format::Text => Ok(()),
        Format::Json => serde_json::from_slice::<serde::de::IgnoredAny>(octets)
            .map(|_| ())
            .map_err(|error| Flaw {
                code: "content.json-malformed",
                line: Some(error.line()),
                // serde_json says what it expected and never what it read.
                message: error.to_string(),
            }),
        Format::Xml => xml(octets),
    }
}

fn xml(octets: &[u8]) -> Result<(), Flaw> {
    let flaw = |at: usize, message: String| Flaw {
        code: "content.xml-malformed",
        line: Some(line_at(octets, at)),
        message,
    };
    let text = std::str::from_utf8(octets)
        .map_err(|error| flaw(error.valid_up_to(), "the text is not UTF-8".to_owned()))?;
    let mut reader = Reader::from_str(text);
    reader.config_mut().enable_all_checks(true);
    let (mut depth, mut roots) = (0_usize, 0_usize);
    loop {
        let at = usize::try_from(reader.buffer_position()).unwrap_or(usize::MAX);
        let event = reader.read_event();
        let outside = depth == 0;
        match event {
            Err(error) => {
                let at = usize::try_from(reader.error_position()).unwrap_or(at);
                return Err(flaw(at, error.to_string()));
            }
            Ok(Event::Eof) => break,
            Ok(Event::DocType(_)) => {
                return Err(flaw(at, "a document type has no place here".to_owned()));
            }
            Ok(Event::Start(element) | Event::Empty(element))
                if element.attributes().any(|attribute| attribute.is_err()) =>
            {
                return Err(flaw(
                    at,
                    "an attribute is malformed or stands twice".to_owned(),
                ));
            }
            Ok(Event::Start(_)) => {
                depth += 1;
                roots += usize::from(outside);
                if depth > XML_DEPTH_MAX {
                    return Err(flaw(at, format!("elements are over {XML_DEPTH_MAX} deep")));
                }
            }
            Ok(Event::Empty(_)) => roots += usize::from(outside),
            Ok(Event::End(_)) => depth = depth.saturating_sub(1),
            Ok(Event::Text(text)) if outside && !text.trim_ascii().is_empty() => {
                return Err(flaw(at, "there is text outside of the root".to_owned()));
            }
            Ok(Event::CData(_)) if outside => {
                return Err(flaw(at, "there is text outside of the root".to_owned()));
            }
            Ok(Event::GeneralRef(name)) => {
                let known = ["amp", "lt", "gt", "quot", "apos"];
                let name: &str = name.as_ref();
                if !name.starts_with('#') && !known.contains(&name) {
                    return Err(flaw(at, "an entity is not defined".to_owned()));
                }
            }
            Ok(_) => {}
        }
        if roots > 1 {
            return Err(flaw(at, "there is a second root element".to_owned()));
        }
    }
    if roots == 0 || depth > 0 {
        return Err(flaw(octets.len(), "the document has no end".to_owned()));
    }
    Ok(())
}

fn line_at(octets: &[u8], at: usize) -> usize {
    let before = octets.get(..at.min(octets.len())).unwrap_or_default();
    1 + before.iter().filter(|octet| **octet == b'\n').count()
}

/// What to do without yanglint.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Missing {
    /// Do not apply what cannot be checked.
    #[default]
    Refuse,
    /// Apply it and say so.
    Warn,
}

/// Why libyang said nothing.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CheckError {
    /// The program is not there.
    #[error("{0} is not installed; it comes with libyang2-tools (Debian), or set content.yanglint")]
    Missing(String),
    /// It could not be run to its end.
    #[error("{0}")]
    Failed(String),
    /// The modules themselves are at fault.
    #[error("{0}")]
    Modules(String),
}

/// A configuration to be judged.
#[derive(Clone, Debug)]
pub struct Candidate {
    /// Its text.
    pub octets: Vec<u8>,
    /// Its format.
    pub format: Format,
    /// Whether it is merged into another: then it need not be complete.
    pub handling: Handling,
}

/// Runs libyang.
#[derive(Clone, Debug)]
pub struct Validator {
    /// The program.
    pub program: PathBuf,
    /// Further folders with modules.
    pub folders: Vec<PathBuf>,
}

impl Validator {
    /// Judges configurations against a set of modules: for each, its flaws.
    ///
    /// # Errors
    /// The program cannot be run, or the modules are broken.
    pub async fn judge(
        &self,
        document: &Document,
        bodies: &BTreeMap<Digest, Vec<u8>>,
        set: &Yang,
        candidates: &[Candidate],
    ) -> Result<Vec<Vec<Flaw>>, CheckError> {
        let failed = |error: std::io::Error| CheckError::Failed(format!("yanglint: {error}"));
        let folder = tempfile::Builder::new()
            .prefix("usher-yang-")
            .tempdir()
            .map_err(failed)?;
        let mut modules = Vec::new();
        for file in &set.files {
            let body = document
                .files
                .get(file)
                .and_then(|entry| bodies.get(&entry.sha256));
            let name = Path::new(file).file_name();
            if let (Some(body), Some(name)) = (body, name) {
                let path = folder.path().join(name);
                std::fs::write(path, body).map_err(failed)?;
            }
            if set.modules.contains(file)
                && let Some(name) = name.and_then(|name| name.to_str())
            {
                modules.push(name.to_owned());
            }
        }
        let mut flaws = Vec::new();
        for batch in candidates.chunks(BATCH_MAX) {
            flaws.extend(self.run(folder.path(), set, &modules, batch).await?);
        }
        Ok(flaws)
    }

    async fn run(
        &self,
        folder: &Path,
        set: &Yang,
        modules: &[String],
        batch: &[Candidate],
    ) -> Result<Vec<Vec<Flaw>>, CheckError> {
        let failed = |error: std::io::Error| CheckError::Failed(format!("yanglint: {error}"));
        let mut script = String::new();
        let folders = self.folders.iter().filter_map(|folder| folder.to_str());
        let folders: Vec<&str> = folders.filter(|path| plain(path)).collect();
        if !folders.is_empty() {
            script.push_str(&format!("searchpath {}\n", folders.join(" ")));
        }
        let features: Vec<String> = set
            .features
            .iter()
            .filter(|feature| plain(feature))
            .map(|feature| format!(" -F {feature}"))
            .collect();
        for module in modules.iter().filter(|module| plain(module)) {
            script.push_str(&format!("add{} {module}\n", features.concat()));
        }
        script.push_str(MARKER);
        script.push('\n');
        for (index, candidate) in batch.iter().enumerate() {
            let (extension, octets) = match candidate.format {
                Format::Json => ("json", candidate.octets.as_slice()),
                Format::Xml | Format::Text => ("xml", without_config(&candidate.octets)),
            };
            let name = format!("candidate-{index}.{extension}");
            std::fs::write(folder.join(&name), octets).map_err(failed)?;
            let kind = match candidate.handling {
                Handling::Merge => "edit",
                Handling::Replace => "config",
            };
            script.push_str(&format!("data -e -t {kind} -F {extension} {name}\n"));
        }
        let messages = self.converse(folder, &script).await?;
        read_messages(&messages, batch.len())
    }

    /// Feeds the program and reads what it says.
    async fn converse(&self, folder: &Path, script: &str) -> Result<String, CheckError> {
        let failed = |error: std::io::Error| CheckError::Failed(format!("yanglint: {error}"));
        let program = find_program(&self.program)
            .ok_or_else(|| CheckError::Missing(self.program.display().to_string()))?;
        // The shell sets the limits and becomes the program.
        let limits = format!(
            "ulimit -t {PROCESSOR_SECONDS_MAX} && ulimit -v {MEMORY_KIB_MAX} && exec \"$0\" \"$@\""
        );
        let mut child = Command::new("/bin/sh")
            .arg("-c")
            .arg(limits)
            .arg(program)
            .current_dir(folder)
            .env_clear()
            .env("HOME", folder)
            .env("PATH", "/usr/bin:/bin")
            .env("LC_ALL", "C")
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .map_err(failed)?;
        let (stdin, stderr) = (child.stdin.take(), child.stderr.take());
        let (Some(mut stdin), Some(stderr)) = (stdin, stderr) else {
            return Err(CheckError::Failed("yanglint: no pipe".to_owned()));
        };
        let script = script.to_owned();
        let talk = async {
            let write = async {
                stdin.write_all(script.as_bytes()).await?;
                drop(stdin);
                Ok::<(), std::io::Error>(())
            };
            let mut messages = Vec::new();
            let mut limited = stderr.take(MESSAGES_SIZE_MAX);
            let (_, read) = tokio::join!(write, limited.read_to_end(&mut messages));
            read?;
            // Whoever says more than is read is not waited for.
            drop(limited);
            let status = child.wait().await?;
            Ok::<_, std::io::Error>((messages, status))
        };
        let (messages, status) = tokio::time::timeout(TIME_MAX, talk)
            .await
            .map_err(|_| CheckError::Failed("yanglint took too long".to_owned()))?
            .map_err(failed)?;
        let messages = String::from_utf8_lossy(&messages).into_owned();
        // In this mode the exit code says nothing about the data, only whether it came to its end.
        if !status.success() {
            return Err(CheckError::Failed(format!(
                "yanglint ended with {status}: {}",
                messages.lines().last().unwrap_or_default()
            )));
        }
        Ok(messages)
    }
}

/// Whether a word can stand in yanglint's commands as it is.
fn plain(word: &str) -> bool {
    !word.is_empty()
        && !word.starts_with('-')
        && word
            .chars()
            .all(|c| c.is_ascii_alphanumeric() || "-_.@:,*/".contains(c))
}

fn find_program(program: &Path) -> Option<PathBuf> {
    if program.components().count() > 1 {
        return program.is_file().then(|| program.to_owned());
    }
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path)
        .map(|folder| folder.join(program))
        .find(|path| path.is_file())
}

/// No command of yanglint: its complaint about it stands between what it says of the modules and
/// what it says of the data.
const MARKER: &str = "the-data-follow";

/// Sorts the messages to the files that they are about: each file's end with a line that names it.
fn read_messages(messages: &str, count: usize) -> Result<Vec<Vec<Flaw>>, CheckError> {
    let said = |line: &str| -> Option<String> {
        line.strip_prefix("libyang[0]: ")
            .or_else(|| line.strip_prefix("libyang err : "))
            .map(str::to_owned)
    };
    let mut lines = messages.lines();
    let mut about_modules = None;
    for line in lines.by_ref() {
        if line.contains(MARKER) {
            break;
        }
        about_modules = about_modules.or_else(|| said(line));
    }
    if let Some(message) = about_modules {
        return Err(CheckError::Modules(message));
    }
    let mut flaws: Vec<Vec<Flaw>> = vec![Vec::new(); count];
    let mut open: Vec<Flaw> = Vec::new();
    for line in lines {
        if let Some(index) = line
            .strip_prefix("YANGLINT[E]: Failed to parse input data file \"candidate-")
            .and_then(|rest| rest.split('.').next())
            .and_then(|index| index.parse::<usize>().ok())
        {
            let mut found = std::mem::take(&mut open);
            if found.is_empty() {
                found.push(yang_flaw("the data cannot be read"));
            }
            if let Some(slot) = flaws.get_mut(index) {
                *slot = found;
            }
        } else if let Some(message) = said(line) {
            open.push(yang_flaw(&message));
        } else if let Some(message) = line.strip_prefix("YANGLINT[E]: ") {
            return Err(CheckError::Failed(format!("yanglint: {message}")));
        }
    }
    match open.first() {
        Some(flaw) => Err(CheckError::Failed(flaw.message.clone())),
        None => Ok(flaws),
    }
}

fn yang_flaw(message: &str) -> Flaw {
    let line = message
        .rsplit_once("ine number ")
        .and_then(|(_, rest)| rest.split('.').next())
        .and_then(|number| number.parse().ok());
    Flaw {
        code: "content.yang-invalid",
        line,
        message: hide_value(message),
    }
}

/// libyang quotes the values that it does not like, which may be secrets, and the names of nodes,
/// which are not.
fn hide_value(message: &str) -> String {
    const NAMES: &[&str] = &[
        "container",
        "element",
        "from",
        "identity",
        "instance",
        "key",
        "leaf",
        "list",
        "location",
        "module",
        "namespace",
        "node",
        "of",
        "parent",
        "schema",
    ];
    let mut shown = String::with_capacity(message.len());
    let mut before = "";
    for (index, part) in message.split('"').enumerate() {
        if index % 2 == 0 {
            shown.push_str(part);
            before = part.split_whitespace().last().unwrap_or_default();
        } else {
            let named = NAMES.iter().any(|name| name.eq_ignore_ascii_case(before));
            shown.push('"');
            shown.push_str(if named { part } else { "…" });
            shown.push('"');
        }
    }
    shown
}

/// The data inside of NETCONF's `config` element; anything else as it is.
fn without_config(octets: &[u8]) -> &[u8] {
    let inner = || -> Option<&[u8]> {
        let text = std::str::from_utf8(octets).ok()?;
        let mut reader = Reader::from_str(text);
        loop {
            match reader.read_event().ok()? {
                Event::Start(element) => {
                    let name = element.name();
                    if name.local_name().as_ref() != "config" {
                        return None;
                    }
                    let namespace = element.attributes().filter_map(Result::ok).find(|a| {
                        a.key.as_ref() == "xmlns" || a.key.as_ref().starts_with("xmlns:")
                    });
                    if namespace.is_some_and(|a| a.value.as_ref() != NETCONF) {
                        return None;
                    }
                    break;
                }
                Event::Empty(_) | Event::Eof => return None,
                _ => {}
            }
        }
        let begin = usize::try_from(reader.buffer_position()).ok()?;
        let end = text.rfind("</")?;
        octets.get(begin..end)
    };
    inner().unwrap_or(octets)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::content::document::FileEntry;

    #[test]
    fn only_what_is_well_formed_passes() {
        let cases = [
            (Format::Json, "{\"a\": [1, 2]}", None),
            (Format::Json, "{\"a\": 1,\n}", Some(2)),
            (Format::Json, "{} {}", Some(1)),
            (Format::Xml, "<a x=\"1\"><b/>&amp;&#65;</a>\n", None),
            (Format::Xml, "<?xml version=\"1.0\"?><!-- c --><a/>", None),
            (Format::Xml, "<a>\n<b>\n</a>", Some(3)),
            (Format::Xml, "<a/><b/>", Some(1)),
            (Format::Xml, "<a>", Some(1)),
            (Format::Xml, "", Some(1)),
            (Format::Xml, "x<a/>", Some(1)),
            (Format::Xml, "<a x='1' x='2'/>", Some(1)),
            (
                Format::Xml,
                "<!DOCTYPE a [<!ENTITY e SYSTEM 'file:///etc/passwd'>]><a>&e;</a>",
                Some(1),
            ),
            (Format::Xml, "<a>&e;</a>", Some(1)),
            (Format::Text, "<{", None),
        ];
        for (format, text, line) in cases {
            let found = well_formed(text.as_bytes(), format).err();
            assert_eq!(
                found.as_ref().and_then(|f| f.line),
                line,
                "{text}: {found:?}"
            );
            assert_eq!(found.is_some(), line.is_some(), "{text}");
        }
    }

    #[test]
    fn the_config_element_of_netconf_is_taken_off() {
        let with = format!("<config xmlns=\"{NETCONF}\"><a/></config>\n");
        let cases = [
            (with.as_str(), "<a/>"),
            ("<?xml version='1.0'?><config><a/><b/></config>", "<a/><b/>"),
            (
                "<config xmlns='urn:x'><a/></config>",
                "<config xmlns='urn:x'><a/></config>",
            ),
            ("<a/>", "<a/>"),
        ];
        for (text, inner) in cases {
            assert_eq!(without_config(text.as_bytes()), inner.as_bytes());
        }
    }

    fn modules(text: &str) -> (Document, BTreeMap<Digest, Vec<u8>>, Yang) {
        let sha256 = Digest::of(text.as_bytes());
        let mut document = Document::empty();
        let size = text.len() as u64;
        document
            .files
            .insert("yang/a.yang".to_owned(), FileEntry { sha256, size });
        let files = vec!["yang/a.yang".to_owned()];
        let set = Yang {
            modules: files.clone(),
            files,
            features: Vec::new(),
        };
        (document, [(sha256, text.as_bytes().to_vec())].into(), set)
    }

    const MODULE: &str = "module a { namespace \"urn:a\"; prefix a; container c { \
        leaf n { type uint8; } leaf m { type string { length 1..4; } mandatory true; } } }";

    fn validator() -> Validator {
        Validator {
            program: PathBuf::from("yanglint"),
            folders: Vec::new(),
        }
    }

    fn candidate(text: &str, handling: Handling) -> Candidate {
        let format = if text.starts_with('{') {
            Format::Json
        } else {
            Format::Xml
        };
        Candidate {
            octets: text.as_bytes().to_vec(),
            format,
            handling,
        }
    }

    #[tokio::test]
    async fn libyang_judges_each_configuration() {
        let (document, bodies, set) = modules(MODULE);
        let cases = [
            (
                candidate("<c xmlns=\"urn:a\"><m>x</m></c>", Handling::Replace),
                None,
            ),
            (
                candidate(
                    "<c xmlns=\"urn:a\">\n<n>777</n><m>x</m></c>",
                    Handling::Replace,
                ),
                Some("uint8"),
            ),
            (
                candidate("<c xmlns=\"urn:a\"/>", Handling::Replace),
                Some("Mandatory"),
            ),
            // What is merged need not be complete.
            (
                candidate("<c xmlns=\"urn:a\"><n>1</n></c>", Handling::Merge),
                None,
            ),
            (
                candidate(
                    "<config><c xmlns=\"urn:a\"><m>x</m></c></config>",
                    Handling::Replace,
                ),
                None,
            ),
            (
                candidate("{\"a:c\": {\"m\": \"x\", \"z\": 1}}", Handling::Replace),
                Some("\"z\""),
            ),
            (
                candidate("{\"a:c\": {\"m\": \"x\"}}", Handling::Replace),
                None,
            ),
            (
                candidate("{\"a:c\": {\"m\": \"hunter2\"}}", Handling::Replace),
                Some("length"),
            ),
        ];
        let candidates: Vec<Candidate> = cases.iter().map(|(c, _)| c.clone()).collect();
        let flaws = validator()
            .judge(&document, &bodies, &set, &candidates)
            .await
            .unwrap();
        for ((candidate, wanted), flaws) in cases.iter().zip(&flaws) {
            let text = String::from_utf8_lossy(&candidate.octets);
            match wanted {
                None => assert_eq!(flaws, &[], "{text}"),
                Some(wanted) => assert!(
                    flaws.iter().any(|f| f.message.contains(wanted)),
                    "{text}: {flaws:?}"
                ),
            }
            assert!(
                !flaws.iter().any(|f| f.message.contains("hunter2")),
                "{flaws:?}"
            );
        }
        assert_eq!(flaws[1][0].line, Some(2));
    }

    #[tokio::test]
    async fn broken_modules_and_a_missing_program_are_told_apart() {
        let candidates = [candidate("<c xmlns=\"urn:a\"/>", Handling::Replace)];
        let (document, bodies, set) = modules("module a {");
        let error = validator()
            .judge(&document, &bodies, &set, &candidates)
            .await
            .unwrap_err();
        assert!(matches!(error, CheckError::Modules(_)), "{error:?}");
        let (document, bodies, set) = modules(MODULE);
        for program in ["no-such-yanglint", "/nowhere/yanglint"] {
            let validator = Validator {
                program: PathBuf::from(program),
                folders: Vec::new(),
            };
            let error = validator
                .judge(&document, &bodies, &set, &candidates)
                .await
                .unwrap_err();
            assert_eq!(error, CheckError::Missing(program.to_owned()));
        }
        let validator = Validator {
            program: PathBuf::from("/bin/false"),
            folders: Vec::new(),
        };
        let error = validator.judge(&document, &bodies, &set, &candidates).await;
        assert!(matches!(error, Err(CheckError::Failed(_))), "{error:?}");
    }
}
