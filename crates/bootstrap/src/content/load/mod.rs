//! A content folder from disk: read whole, every mistake listed.

mod names;
mod sections;

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io::Read;
use std::path::{Component, Path, PathBuf};

use toml::de::DeTable;

use self::names::Names;
use super::document::{Digest, Document, FileEntry, Format};
use super::finding::{Finding, Findings};
use super::reader::{At, Reader, Source};
use super::template::Templates;

/// The file that names all others.
pub const CONTENT_FILE: &str = "content.toml";
/// Files below it can be included by templates.
const TEMPLATE_FOLDER: &str = "templates";
/// The largest content.toml, in octets.
const CONTENT_SIZE_MAX: u64 = 16 * 1024 * 1024;
/// The largest script or template, in octets.
const FILE_SIZE_MAX: u64 = 4 * 1024 * 1024;
/// The most that all scripts, templates and YANG modules of a folder have, in octets.
const TOTAL_SIZE_MAX: u64 = 64 * 1024 * 1024;
/// The most files in one folder of templates or YANG modules.
const FILES_MAX: usize = 4_096;

/// A folder that was read.
#[derive(Debug)]
pub struct Folder {
    /// What it says.
    pub document: Document,
    /// Octets of the files that are stored, by digest.
    pub bodies: BTreeMap<Digest, Vec<u8>>,
    /// Image files that this server shall host.
    pub images: Vec<ImageFile>,
    /// The compiled templates.
    pub templates: Templates,
    /// What is wrong with it.
    pub findings: Vec<Finding>,
}

impl Folder {
    /// Whether it can be applied.
    #[must_use]
    pub fn passes(&self) -> bool {
        self.findings
            .iter()
            .all(|finding| finding.severity != super::finding::Severity::Error)
    }
}

/// An image file in a folder.
#[derive(Clone, Debug)]
pub struct ImageFile {
    /// Where it lies.
    pub path: PathBuf,
    /// Its digest.
    pub sha256: Digest,
    /// Octets.
    pub size: u64,
}

/// Reads a folder. What is wrong with it is in [`Folder::findings`]; it is never half understood
/// and silent about it.
#[must_use]
pub fn load(root: &Path) -> Folder {
    let mut loading = Loading {
        root: root.to_owned(),
        findings: Findings::default(),
        document: Document::empty(),
        bodies: BTreeMap::new(),
        images: Vec::new(),
        names: Names::default(),
        total: 0,
    };
    let mut text = None;
    match fs::canonicalize(root) {
        Ok(canonical) => {
            loading.root = canonical;
            text = loading.content_text();
        }
        Err(error) => loading.findings.error(
            CONTENT_FILE,
            None,
            "content.file",
            format!("{}: {error}", root.display()),
        ),
    }
    if let Some(text) = text {
        loading.content(&text);
    }
    loading.includes();
    let templates = loading.compile();
    Folder {
        document: loading.document,
        bodies: loading.bodies,
        images: loading.images,
        templates,
        findings: loading.findings.into_sorted(),
    }
}

/// Reads a `content.toml` alone, without any file that it names: what the fuzzer drives.
#[must_use]
pub fn parse(text: &str) -> (Document, Vec<Finding>) {
    let mut loading = Loading {
        root: PathBuf::new(),
        findings: Findings::default(),
        document: Document::empty(),
        bodies: BTreeMap::new(),
        images: Vec::new(),
        names: Names::default(),
        total: 0,
    };
    loading.content(text);
    (loading.document, loading.findings.into_sorted())
}

struct Loading {
    root: PathBuf,
    findings: Findings,
    document: Document,
    bodies: BTreeMap<Digest, Vec<u8>>,
    images: Vec<ImageFile>,
    names: Names,
    /// Octets stored so far.
    total: u64,
}

impl Loading {
    fn content_text(&mut self) -> Option<String> {
        let path = self.root.join(CONTENT_FILE);
        let failed = |error: &dyn std::fmt::Display| format!("cannot be read: {error}");
        let file = match File::open(&path) {
            Ok(file) => file,
            Err(error) => {
                self.findings
                    .error(CONTENT_FILE, None, "content.file", failed(&error));
                return None;
            }
        };
        let mut octets = Vec::new();
        if let Err(error) = file.take(CONTENT_SIZE_MAX + 1).read_to_end(&mut octets) {
            self.findings
                .error(CONTENT_FILE, None, "content.file", failed(&error));
            return None;
        }
        if octets.len() as u64 > CONTENT_SIZE_MAX {
            self.findings.error(
                CONTENT_FILE,
                None,
                "content.too-large",
                format!("the file has over {CONTENT_SIZE_MAX} octets"),
            );
            return None;
        }
        match String::from_utf8(octets) {
            Ok(text) => Some(text),
            Err(error) => {
                self.findings
                    .error(CONTENT_FILE, None, "content.syntax", failed(&error));
                None
            }
        }
    }

    fn content(&mut self, text: &str) {
        let source = Source::new(CONTENT_FILE, text);
        let (table, errors) = DeTable::parse_recoverable(text);
        for error in &errors {
            let line = error.span().map(|span| source.line(&span));
            let message = error.message().to_owned();
            self.findings
                .error(CONTENT_FILE, line, "content.syntax", message);
        }
        if !errors.is_empty() {
            return;
        }
        let mut findings = std::mem::take(&mut self.findings);
        let mut reader = Reader::new(&source, &mut findings, &table, CONTENT_FILE.to_owned());
        self.read(&mut reader);
        reader.finish();
        self.findings = findings;
        self.resolve();
    }

    /// A path of the writer's, made safe: below the folder, through no link that leads out.
    fn path(&mut self, reader: &mut Reader<'_, '_>, path: &At<String>) -> Option<PathBuf> {
        match self.inside(&path.value) {
            Ok(found) => Some(found),
            Err((code, message)) => {
                reader.error(path.line, code, message);
                None
            }
        }
    }

    fn inside(&self, path: &str) -> Result<PathBuf, (&'static str, String)> {
        let plain = !path.is_empty()
            && !path.contains(['\\', '\0'])
            && Path::new(path)
                .components()
                .all(|part| matches!(part, Component::Normal(_)));
        if !plain {
            return Err((
                "content.path",
                format!("{path:?} is no path below the folder"),
            ));
        }
        let full = self.root.join(path);
        let real = fs::canonicalize(&full)
            .map_err(|error| ("content.file", format!("{path}: {error}")))?;
        if !real.starts_with(&self.root) {
            return Err(("content.path", format!("{path:?} leads out of the folder")));
        }
        if !real.is_file() {
            return Err(("content.file", format!("{path}: not a file")));
        }
        Ok(full)
    }

    /// Takes a file into the revision.
    fn keep(&mut self, reader: &mut Reader<'_, '_>, path: &At<String>) -> bool {
        if self.document.files.contains_key(&path.value) {
            return true;
        }
        // Without a folder there are no files to be missed.
        if self.root.as_os_str().is_empty() {
            return true;
        }
        let Some(full) = self.path(reader, path) else {
            return false;
        };
        match self.keep_file(&path.value, &full) {
            Ok(()) => true,
            Err((code, message)) => {
                reader.error(path.line, code, message);
                false
            }
        }
    }

    fn keep_file(&mut self, name: &str, full: &Path) -> Result<(), (&'static str, String)> {
        let failed = |error: std::io::Error| ("content.file", format!("{name}: {error}"));
        let mut octets = Vec::new();
        File::open(full)
            .and_then(|file| file.take(FILE_SIZE_MAX + 1).read_to_end(&mut octets))
            .map_err(failed)?;
        let size = octets.len() as u64;
        if size > FILE_SIZE_MAX {
            return Err((
                "content.too-large",
                format!("{name} has over {FILE_SIZE_MAX} octets"),
            ));
        }
        self.total = self.total.saturating_add(size);
        if self.total > TOTAL_SIZE_MAX {
            return Err((
                "content.too-large",
                format!("the files of the folder have over {TOTAL_SIZE_MAX} octets"),
            ));
        }
        let sha256 = Digest::of(&octets);
        self.bodies.insert(sha256, octets);
        self.document
            .files
            .insert(name.to_owned(), FileEntry { sha256, size });
        Ok(())
    }

    /// Paths of all files below a folder of the folder, sorted.
    fn files_below(&self, folder: &str) -> Result<Vec<String>, (&'static str, String)> {
        let plain = !folder.is_empty()
            && Path::new(folder)
                .components()
                .all(|part| matches!(part, Component::Normal(_)));
        if !plain {
            return Err((
                "content.path",
                format!("{folder:?} is no path below the folder"),
            ));
        }
        let mut files = Vec::new();
        let mut waiting = vec![folder.trim_end_matches('/').to_owned()];
        while let Some(folder) = waiting.pop() {
            let failed = |error: std::io::Error| ("content.file", format!("{folder}: {error}"));
            for entry in fs::read_dir(self.root.join(&folder)).map_err(failed)? {
                let entry = entry.map_err(failed)?;
                let Some(name) = entry.file_name().to_str().map(str::to_owned) else {
                    continue;
                };
                if name.starts_with('.') {
                    continue;
                }
                // Of the entry itself: links are not followed.
                let kind = entry.file_type().map_err(failed)?;
                let path = format!("{folder}/{name}");
                if kind.is_dir() {
                    waiting.push(path);
                } else if kind.is_file() {
                    files.push(path);
                }
                if files.len() + waiting.len() > FILES_MAX {
                    return Err((
                        "content.too-large",
                        format!("{folder} has over {FILES_MAX} files"),
                    ));
                }
            }
        }
        files.sort();
        Ok(files)
    }

    /// Everything in the folder of templates can be included.
    fn includes(&mut self) {
        if !self.root.join(TEMPLATE_FOLDER).is_dir() {
            return;
        }
        let result = self.files_below(TEMPLATE_FOLDER).and_then(|files| {
            for file in files {
                if !self.document.files.contains_key(&file) {
                    let full = self.root.join(&file);
                    self.keep_file(&file, &full)?;
                }
                self.document.includes.insert(file);
            }
            Ok(())
        });
        if let Err((code, message)) = result {
            self.findings.error(TEMPLATE_FOLDER, None, code, message);
        }
    }

    fn compile(&mut self) -> Templates {
        let (files, broken) = template_files(&self.document, &self.bodies);
        for file in broken {
            self.findings.error(
                &file,
                None,
                "content.template-syntax",
                "the file is not UTF-8",
            );
        }
        let formats = formats(&self.document);
        let (templates, mistakes) = Templates::new(&files, &formats);
        for mistake in mistakes {
            let file = mistake.file.unwrap_or_else(|| CONTENT_FILE.to_owned());
            self.findings
                .error(&file, mistake.line, mistake.code, mistake.message);
        }
        templates
    }
}

/// The texts of all templates, and the files that are no text.
pub(super) fn template_files(
    document: &Document,
    bodies: &BTreeMap<Digest, Vec<u8>>,
) -> (BTreeMap<String, String>, Vec<String>) {
    let mut files = BTreeMap::new();
    let mut broken = Vec::new();
    let named = document.templates.values().map(|template| &template.file);
    for name in named.chain(&document.includes) {
        let body = document
            .files
            .get(name)
            .and_then(|entry| bodies.get(&entry.sha256));
        match body.map(|octets| std::str::from_utf8(octets)) {
            Some(Ok(text)) => {
                files.insert(name.clone(), text.to_owned());
            }
            Some(Err(_)) if document.templates.values().any(|t| t.file == *name) => {
                broken.push(name.clone());
            }
            _ => {}
        }
    }
    (files, broken)
}

/// The formats that templates are rendered in.
pub(super) fn formats(document: &Document) -> BTreeSet<Format> {
    let mut formats: BTreeSet<Format> = document.templates.values().map(|t| t.format).collect();
    // Files to include are looked at even if nothing includes them yet.
    if formats.is_empty() {
        formats.insert(Format::Text);
    }
    formats
}

/// The digest and size of a file, read in pieces.
pub(super) fn digest_of_file(path: &Path) -> std::io::Result<(Digest, u64)> {
    let mut file = File::open(path)?;
    let mut context = aws_lc_rs::digest::Context::new(&aws_lc_rs::digest::SHA256);
    let mut buffer = vec![0; 256 * 1024];
    let mut size = 0_u64;
    loop {
        let read = file.read(&mut buffer)?;
        let Some(piece) = buffer.get(..read).filter(|piece| !piece.is_empty()) else {
            break;
        };
        context.update(piece);
        size = size.saturating_add(read as u64);
    }
    let digest = context.finish();
    Digest::from_slice(digest.as_ref())
        .map(|digest| (digest, size))
        .ok_or_else(|| std::io::Error::other("no SHA-256 digest"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::content::finding::Severity;

    fn folder(files: &[(&str, &str)]) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        for (name, text) in files {
            let path = folder.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        folder
    }

    fn errors(findings: &[Finding]) -> Vec<(String, Option<usize>, &'static str)> {
        findings
            .iter()
            .filter(|f| f.severity == Severity::Error)
            .map(|f| (f.file.clone(), f.line, f.code))
            .collect()
    }

    const GOOD: &str = r#"
reporting-level = "verbose"

[variables]
ntp = ["192.0.2.1"]

[group.leaf.variables]
role = "leaf"

[[image]]
name = "os-1"
os-name = "os"
os-version = "1.0"
file = "images/os-1.bin"
uri = "https://images.example/os-1.bin"

[[script]]
name = "pre"
file = "scripts/pre.sh"

[[template]]
name = "config"
file = "templates/config.xml.j2"

[[bundle]]
name = "access"
version = "1"
image = "os-1"
pre-script = "pre"
template = "config"
handling = "merge"

[[bundle]]
name = "access"
version = "2"
template = "config"
handling = "replace"

[[redirect]]
name = "elsewhere"
  [[redirect.server]]
  address = "sztp.example"
  port = 8443

[[rule]]
name = "spare"
group = "spare"
hold = true

[[rule]]
name = "moved"
site = ["bonn", "berlin"]
redirect = "elsewhere"

[[rule]]
name = "rest"
os-version = ["< 2", "3.*"]
bundle = "access"

[[rollout]]
name = "spring"
bundle = "access"
from = "1"
to = "2"
  [[rollout.stage]]
  percent = 5
  [[rollout.stage]]
  sites = ["bonn"]
"#;

    fn good() -> Vec<(&'static str, &'static str)> {
        vec![
            ("content.toml", GOOD),
            ("images/os-1.bin", "image"),
            ("scripts/pre.sh", "#!/bin/sh\n"),
            (
                "templates/config.xml.j2",
                "<c>{{ device.serial }}</c>{% include 'templates/part.xml' %}",
            ),
            ("templates/part.xml", "<d/>"),
        ]
    }

    /// Requirements: SZTP-8572-6.3-12
    #[test]
    fn a_whole_folder_is_read() {
        let folder = folder(&good());
        let loaded = load(folder.path());
        assert!(loaded.passes(), "{:#?}", loaded.findings);
        let document = &loaded.document;
        assert_eq!(document.images["os-1"].sha256, Some(Digest::of(b"image")));
        assert_eq!(document.bundles["access"].len(), 2);
        assert_eq!(document.rules.len(), 3);
        assert_eq!(document.files.len(), 3, "{:?}", document.files);
        assert_eq!(loaded.bodies.len(), 3);
        // What is stored is what was read.
        let json = serde_json::to_string(document).unwrap();
        assert_eq!(&serde_json::from_str::<Document>(&json).unwrap(), document);
    }

    /// Each row replaces something in the good folder and is found on its line.
    ///
    /// Requirements: SZTP-8572-6.3-02, SZTP-8572-6.3-03, SZTP-8572-6.3-11, SZTP-8572-6.3-13
    #[test]
    fn every_mistake_has_its_code_and_line() {
        let cases: &[(&str, &str, &str)] = &[
            (
                "reporting-level = \"verbose\"",
                "reporting-level = \"loud\"",
                "content.unknown-value",
            ),
            ("reporting-level", "reporting_level", "content.unknown-key"),
            ("ntp = [\"192.0.2.1\"]", "ntp = ", "content.syntax"),
            ("name = \"os-1\"\n", "name = \"../os\"\n", "content.name"),
            (
                "os-version = \"1.0\"",
                "os-version = 1.0",
                "content.wrong-type",
            ),
            (
                "file = \"images/os-1.bin\"",
                "file = \"../os-1.bin\"",
                "content.path",
            ),
            (
                "file = \"images/os-1.bin\"",
                "file = \"/etc/passwd\"",
                "content.path",
            ),
            (
                "file = \"images/os-1.bin\"",
                "file = \"images\"",
                "content.file",
            ),
            (
                "file = \"images/os-1.bin\"",
                "file = \"images/none\"",
                "content.file",
            ),
            (
                "uri = \"https://images.example/os-1.bin\"",
                "uri = \"images.example\"",
                "content.uri",
            ),
            (
                "uri = \"https://images.example/os-1.bin\"\n",
                "",
                "content.image-hash",
            ),
            (
                "uri = \"https",
                "sha256 = \"00\"\nuri = \"https",
                "content.unknown-value",
            ),
            (
                "image = \"os-1\"",
                "image = \"os-2\"",
                "content.unknown-name",
            ),
            (
                "handling = \"merge\"",
                "handling = \"mix\"",
                "content.unknown-value",
            ),
            ("handling = \"merge\"\n", "", "content.missing-key"),
            (
                "version = \"2\"\ntemplate = \"config\"\nhandling = \"replace\"",
                "version = \"2\"",
                "content.missing-key",
            ),
            (
                "version = \"2\"\ntemplate",
                "version = \"1\"\ntemplate",
                "content.duplicate",
            ),
            (
                "address = \"sztp.example\"",
                "address = \"sztp.example:443\"",
                "content.address",
            ),
            (
                "address = \"sztp.example\"",
                "address = \"192.0.2.400\"",
                "content.address",
            ),
            ("address = \"sztp.example\"\n", "", "content.missing-key"),
            ("port = 8443", "port = 0", "content.out-of-range"),
            (
                "port = 8443",
                "port = 8443\ntrust-anchor = \"scripts/pre.sh\"",
                "content.trust-anchor",
            ),
            (
                "redirect = \"elsewhere\"",
                "redirect = \"nowhere\"",
                "content.unknown-name",
            ),
            (
                "redirect = \"elsewhere\"",
                "redirect = \"elsewhere\"\nhold = true",
                "content.target",
            ),
            (
                "site = [\"bonn\", \"berlin\"]",
                "site = []",
                "content.empty-list",
            ),
            (
                "os-version = [\"< 2\"",
                "os-version = [\"<< 2\"",
                "content.version-range",
            ),
            (
                "bundle = \"access\"\n\n[[rollout]]",
                "bundle = \"access@3\"\n\n[[rollout]]",
                "content.unknown-name",
            ),
            ("to = \"2\"", "to = \"1\"", "content.unknown-value"),
            ("percent = 5", "percent = 101", "content.out-of-range"),
            (
                "percent = 5",
                "percent = 5\n  sites = [\"a\"]",
                "content.target",
            ),
        ];
        for (from, to, code) in cases {
            let text = GOOD.replacen(from, to, 1);
            assert_ne!(text, GOOD, "{from}");
            let mut files = good();
            files[0] = ("content.toml", &text);
            let folder = folder(&files);
            let loaded = load(folder.path());
            let found = errors(&loaded.findings);
            assert!(
                found
                    .iter()
                    .any(|(file, line, c)| c == code && file == "content.toml" && line.is_some()),
                "{to}: {code} is not in {found:?}"
            );
            assert!(!loaded.passes());
        }
    }

    #[test]
    fn all_mistakes_are_listed_at_once() {
        let text = "x = 1\n[[script]]\nname = 1\n[[rule]]\nbundle = \"a\"\nhold = 1\n";
        let folder = folder(&[("content.toml", text), ("templates/a.j2", "{% if %}")]);
        let found = errors(&load(folder.path()).findings);
        let content = "content.toml".to_owned();
        assert_eq!(
            found,
            [
                (content.clone(), Some(1), "content.unknown-key"),
                (content.clone(), Some(2), "content.missing-key"),
                (content.clone(), Some(3), "content.wrong-type"),
                (content.clone(), Some(5), "content.unknown-name"),
                (content, Some(6), "content.wrong-type"),
                (
                    "templates/a.j2".to_owned(),
                    Some(1),
                    "content.template-syntax"
                ),
            ]
        );
        let nothing = load(&folder.path().join("nowhere"));
        assert_eq!(errors(&nothing.findings)[0].2, "content.file");
    }

    #[cfg(unix)]
    #[test]
    fn no_link_leads_out_of_the_folder() {
        let outside = folder(&[("secret", "hunter2")]);
        let text = "[[script]]\nname = \"a\"\nfile = \"scripts/a\"\n";
        let inside = folder(&[
            ("content.toml", text),
            ("templates/b.j2", "b"),
            ("scripts/x", ""),
        ]);
        let secret = outside.path().join("secret");
        std::os::unix::fs::symlink(&secret, inside.path().join("scripts/a")).unwrap();
        std::os::unix::fs::symlink(&secret, inside.path().join("templates/c.j2")).unwrap();
        let loaded = load(inside.path());
        assert_eq!(
            errors(&loaded.findings),
            [("content.toml".to_owned(), Some(3), "content.path")]
        );
        let files: Vec<_> = loaded.document.files.keys().collect();
        assert_eq!(files, ["templates/b.j2"]);
    }

    #[test]
    fn what_nobody_uses_and_nobody_reaches_is_mentioned() {
        let text = "[[redirect]]\nname = \"r\"\n[[redirect.server]]\naddress = \"::1\"\n\
                    [[rule]]\nhold = true\n[[rule]]\nhold = true\n";
        let (_, findings) = parse(text);
        let found: Vec<_> = findings.iter().map(|f| (f.line, f.code)).collect();
        assert_eq!(
            found,
            [
                (None, "content.unused"),
                (Some(7), "content.rule-unreachable")
            ]
        );
    }

    #[test]
    fn the_page_for_operators_shows_what_is_right() {
        let page = include_str!("../../../../../docs/content.md");
        let example = page.split("```toml\n").nth(1).unwrap();
        let example = example.split("```").next().unwrap();
        let (document, findings) = parse(example);
        assert_eq!(errors(&findings), []);
        assert_eq!((document.rules.len(), document.rollouts.len()), (4, 1));
    }

    proptest::proptest! {
        #[test]
        fn any_text_is_read_without_harm(text in ".{0,200}") {
            let _ = parse(&text);
        }
    }
}
