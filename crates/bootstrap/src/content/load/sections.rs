//! The sections of `content.toml`, one function each.

use std::collections::BTreeMap;
use std::path::Path;

use artifacts::conveyed::TrustAnchor;
use pki::Certificate;

use super::{ImageFile, Loading, digest_of_file};
use crate::content::document::{
    Bundle, Digest, Format, Handling, HexOctets, Hosted, Image, Promotion, Reporting, RolloutPlan,
    Server, Stage, Template, Yang,
};
use crate::content::pattern::Pattern;
use crate::content::reader::{At, Reader};
use crate::content::rules::{Encrypt, Rule, Target};
use crate::content::version::VersionRange;

impl Loading {
    pub(super) fn read(&mut self, reader: &mut Reader<'_, '_>) {
        match reader.text("reporting-level") {
            Some(level) if level.value == "verbose" => {
                self.document.reporting = Reporting::Verbose;
            }
            Some(level) if level.value != "minimal" => {
                reader.error(
                    level.line,
                    "content.unknown-value",
                    "reporting-level is \"minimal\" or \"verbose\"",
                );
            }
            _ => {}
        }
        self.document.variables = reader.variables("variables");
        reader.named_tables("group", |name, group| {
            let variables = group.variables("variables");
            self.document.groups.insert(name.to_owned(), variables);
        });
        reader.named_tables("site", |name, site| {
            let variables = site.variables("variables");
            self.document.sites.insert(name.to_owned(), variables);
        });
        reader.tables("image", |reader| self.image(reader));
        reader.tables("script", |reader| self.script(reader));
        reader.tables("yang", |reader| self.yang(reader));
        reader.tables("template", |reader| self.template(reader));
        reader.tables("bundle", |reader| self.bundle(reader));
        reader.tables("redirect", |reader| self.redirect(reader));
        reader.tables("rule", |reader| self.rule(reader));
        reader.tables("rollout", |reader| self.rollout(reader));
        reader.table("promotion", |reader| {
            if let Some(redirect) = reader.needed_text("redirect") {
                self.document.promotion = Some(Promotion {
                    redirect: redirect.value.clone(),
                });
                self.names.redirects.push(redirect);
            }
        });
    }

    fn image(&mut self, reader: &mut Reader<'_, '_>) {
        let name = new_name(reader, &self.document.images);
        let os_name = reader.text("os-name").map(|text| text.value);
        let os_version = reader.text("os-version").map(|text| text.value);
        let uris = reader.texts("uri");
        for uri in &uris {
            if url::Url::parse(&uri.value).is_err() {
                let message = format!("{:?} is no URI", uri.value);
                reader.error(uri.line, "content.uri", message);
            }
        }
        let host = reader.flag("host").unwrap_or(false);
        let file = reader.text("file");
        let mut sha256 = None;
        if let Some(text) = reader.text("sha256") {
            sha256 = Digest::parse(&text.value);
            if sha256.is_none() {
                reader.error(
                    text.line,
                    "content.unknown-value",
                    "sha256 is 64 hexadecimal digits",
                );
            }
        }
        let mut hosted = None;
        if let Some(file) = &file
            && !self.root.as_os_str().is_empty()
            && let Some(full) = self.path(reader, file)
        {
            match digest_of_file(&full) {
                Ok((found, size)) => {
                    if sha256.is_some_and(|stated| stated != found) {
                        reader.error(
                            file.line,
                            "content.image-hash",
                            format!("sha256 says otherwise: {} has {found}", file.value),
                        );
                    }
                    sha256 = Some(found);
                    if host {
                        hosted = Some(Hosted {
                            file_name: file_name(&full),
                            size,
                        });
                        self.images.push(ImageFile {
                            path: full,
                            sha256: found,
                            size,
                        });
                    }
                }
                Err(error) => reader.error(
                    file.line,
                    "content.file",
                    format!("{}: {error}", file.value),
                ),
            }
        }
        if host && file.is_none() {
            let line = reader.line();
            reader.error(
                line,
                "content.missing-key",
                "an image that is hosted needs its file",
            );
        }
        if uris.is_empty() && !host && os_version.is_none() {
            let line = reader.line();
            reader.error(
                line,
                "content.missing-key",
                "an image needs a uri, `host = true`, or at least the os-version that a device shall have",
            );
        }
        // SZTP-8572-6.3-11: image-verification requires at least one download-uri.
        if sha256.is_some() && uris.is_empty() && !host {
            let line = reader.line();
            reader.error(
                line,
                "content.image-hash",
                "a digest without a uri verifies nothing",
            );
        }
        if sha256.is_none() && file.is_none() && !uris.is_empty() {
            let line = reader.line();
            reader.error(
                line,
                "content.image-hash",
                "an image with a uri needs sha256, or the file to compute it from",
            );
        }
        if let Some(name) = name {
            self.document.images.insert(
                name.value,
                Image {
                    os_name,
                    os_version,
                    uris: uris.into_iter().map(|uri| uri.value).collect(),
                    hosted,
                    sha256,
                },
            );
        }
    }

    fn script(&mut self, reader: &mut Reader<'_, '_>) {
        let name = new_name(reader, &self.document.scripts);
        let file = reader.needed_text("file");
        if let (Some(name), Some(file)) = (name, file)
            && self.keep(reader, &file)
        {
            self.document.scripts.insert(name.value, file.value);
        }
    }

    fn yang(&mut self, reader: &mut Reader<'_, '_>) {
        let name = new_name(reader, &self.document.yang);
        let folder = reader.needed_text("folder");
        let modules = reader.texts("modules");
        let features: Vec<String> = reader
            .texts("features")
            .into_iter()
            .map(|f| f.value)
            .collect();
        if modules.is_empty() {
            let line = reader.line();
            reader.error(line, "content.missing-key", "a YANG set names its modules");
        }
        let (Some(name), Some(folder)) = (name, folder) else {
            return;
        };
        let mut files = Vec::new();
        if !self.root.as_os_str().is_empty() {
            match self.files_below(&folder.value) {
                Ok(found) => {
                    for file in found {
                        if file.ends_with(".yang") || file.ends_with(".yin") {
                            let at = folder.clone().map(|_| file.clone());
                            if self.keep(reader, &at) {
                                files.push(file);
                            }
                        }
                    }
                }
                Err((code, message)) => reader.error(folder.line, code, message),
            }
        }
        let mut implemented = Vec::new();
        for module in &modules {
            let matching = files.iter().filter(|file| module_of(file) == module.value);
            // The newest of several revisions.
            match matching.max() {
                Some(file) => implemented.push(file.clone()),
                None if self.root.as_os_str().is_empty() => {}
                None => {
                    let message = format!("{} has no module {:?}", folder.value, module.value);
                    reader.error(module.line, "content.unknown-name", message);
                }
            }
        }
        self.document.yang.insert(
            name.value,
            Yang {
                files,
                modules: implemented,
                features,
            },
        );
    }

    fn template(&mut self, reader: &mut Reader<'_, '_>) {
        let name = new_name(reader, &self.document.templates);
        let file = reader.needed_text("file");
        let yang = reader.text("yang");
        let format = match reader.text("format") {
            Some(text) => match text.value.as_str() {
                "json" => Some(Format::Json),
                "text" => Some(Format::Text),
                "xml" => Some(Format::Xml),
                _ => {
                    reader.error(
                        text.line,
                        "content.unknown-value",
                        "format is \"json\", \"text\" or \"xml\"",
                    );
                    None
                }
            },
            None => file.as_ref().map(|file| format_of(&file.value)),
        };
        if let (Some(yang), Some(Format::Text)) = (&yang, format) {
            reader.error(
                yang.line,
                "content.unknown-value",
                "only a template for JSON or XML can be checked against YANG modules",
            );
        }
        let (Some(name), Some(file), Some(format)) = (name, file, format) else {
            return;
        };
        if !self.keep(reader, &file) {
            return;
        }
        self.document.templates.insert(
            name.value,
            Template {
                file: file.value,
                format,
                yang: yang.as_ref().map(|yang| yang.value.clone()),
            },
        );
        self.names.yang.extend(yang);
    }

    fn bundle(&mut self, reader: &mut Reader<'_, '_>) {
        let name = reader.needed_text("name");
        let name = check_name(reader, name);
        let version = reader.text("version").unwrap_or_else(|| At {
            line: reader.line(),
            value: "1".to_owned(),
        });
        let version = check_name(reader, Some(version));
        if let (Some(name), Some(version)) = (&name, &version) {
            reader.rename(format!("bundle {}@{}", name.value, version.value));
        }
        let image = reader.text("image");
        let pre_script = reader.text("pre-script");
        let template = reader.text("template");
        let post_script = reader.text("post-script");
        let handling = match reader.text("handling") {
            Some(text) => match text.value.as_str() {
                "merge" => Some(Handling::Merge),
                "replace" => Some(Handling::Replace),
                _ => {
                    reader.error(
                        text.line,
                        "content.unknown-value",
                        "handling is \"merge\" or \"replace\"",
                    );
                    None
                }
            },
            None => {
                // SZTP-8572-6.3-13: configuration and configuration-handling are present together.
                if template.is_some() {
                    let line = reader.line();
                    reader.error(
                        line,
                        "content.missing-key",
                        "a bundle with a template says what becomes of the configuration: handling = \"merge\" or \"replace\"",
                    );
                }
                None
            }
        };
        if template.is_none() && handling.is_some() {
            let line = reader.line();
            reader.error(
                line,
                "content.missing-key",
                "handling is for a configuration, and this bundle has no template",
            );
        }
        if image.is_none() && pre_script.is_none() && template.is_none() && post_script.is_none() {
            let line = reader.line();
            reader.error(
                line,
                "content.missing-key",
                "the bundle has nothing in it: it needs an image, a script or a template",
            );
        }
        let bundle = Bundle {
            image: image.as_ref().map(|at| at.value.clone()),
            pre_script: pre_script.as_ref().map(|at| at.value.clone()),
            template: template.as_ref().map(|at| at.value.clone()),
            handling,
            post_script: post_script.as_ref().map(|at| at.value.clone()),
        };
        self.names.images.extend(image);
        self.names.scripts.extend(pre_script);
        self.names.scripts.extend(post_script);
        self.names.templates.extend(template);
        if let (Some(name), Some(version)) = (name, version) {
            let versions = self.document.bundles.entry(name.value.clone()).or_default();
            if versions.insert(version.value.clone(), bundle).is_some() {
                reader.error(
                    version.line,
                    "content.duplicate",
                    format!("there is another {}@{}", name.value, version.value),
                );
            }
        }
    }

    fn redirect(&mut self, reader: &mut Reader<'_, '_>) {
        let name = new_name(reader, &self.document.redirects);
        let mut servers: Vec<Server> = Vec::new();
        reader.tables("server", |reader| {
            let address = reader.needed_text("address");
            let port = reader.number("port", 1..=65_535);
            let trust_anchor = reader.text("trust-anchor");
            let Some(address) = address else { return };
            // SZTP-8572-6.3-03: address is an IP address or a host name (inet:host).
            if !is_host(&address.value) {
                let message = format!(
                    "{:?} is neither an IP address nor a host name; a port has a key of its own",
                    address.value
                );
                reader.error(address.line, "content.address", message);
                return;
            }
            // SZTP-8572-6.3-02: bootstrap-server is keyed by address.
            if servers.iter().any(|server| server.address == address.value) {
                let message = format!("{} stands in the list already", address.value);
                reader.error(address.line, "content.duplicate", message);
                return;
            }
            let trust_anchor = match &trust_anchor {
                Some(file) => self.trust_anchor(reader, file),
                None => None,
            };
            servers.push(Server {
                address: address.value,
                port: port.and_then(|port| u16::try_from(port).ok()),
                trust_anchor,
            });
        });
        // SZTP-8572-6.3-02: redirect-information has at least one bootstrap-server.
        if servers.is_empty() {
            let line = reader.line();
            reader.error(
                line,
                "content.missing-key",
                "a redirect names at least one server",
            );
        }
        if let Some(name) = name {
            self.document.redirects.insert(name.value, servers);
        }
    }

    /// Reads a chain and makes the CMS of it.
    fn trust_anchor(
        &mut self,
        reader: &mut Reader<'_, '_>,
        file: &At<String>,
    ) -> Option<HexOctets> {
        if self.root.as_os_str().is_empty() {
            return None;
        }
        let full = self.path(reader, file)?;
        // SZTP-8572-6.3-05: one single chain that includes a self-signed root.
        let cms = Certificate::load_all(&full)
            .map_err(|error| error.to_string())
            .and_then(|chain| TrustAnchor::encode(&chain, &[]).map_err(|error| error.to_string()));
        match cms {
            Ok(cms) => Some(HexOctets(cms)),
            Err(error) => {
                let message = format!("{}: {error}", file.value);
                reader.error(file.line, "content.trust-anchor", message);
                None
            }
        }
    }

    fn rule(&mut self, reader: &mut Reader<'_, '_>) {
        let position = self.document.rules.len() + 1;
        let name = match reader.text("name") {
            Some(name) => check_name(reader, Some(name)).map(|name| name.value),
            None => Some(format!("rule-{position}")),
        };
        if let Some(name) = &name {
            reader.rename(format!("rule {name:?}"));
        }
        let mut patterns = |key: &str| -> Vec<Pattern> {
            let texts = reader.texts(key);
            if texts.is_empty() && reader.has(key) {
                let line = reader.line();
                reader.error(
                    line,
                    "content.empty-list",
                    format!("{key} is an empty list, which no device is in; leave it out"),
                );
            }
            texts.iter().map(|at| Pattern::new(&at.value)).collect()
        };
        let (vendor, serial) = (patterns("vendor"), patterns("serial"));
        let (group, site) = (patterns("group"), patterns("site"));
        let device_type = patterns("device-type");
        let (hw_model, os_name) = (patterns("hw-model"), patterns("os-name"));
        let mut os_version = Vec::new();
        for text in reader.texts("os-version") {
            match VersionRange::new(&text.value) {
                Ok(range) => os_version.push(range),
                Err(message) => reader.error(text.line, "content.version-range", message),
            }
        }
        let encrypt = match reader.text("encrypt") {
            None => Encrypt::Never,
            Some(text) => match text.value.as_str() {
                "never" => Encrypt::Never,
                "possible" => Encrypt::Possible,
                "always" => Encrypt::Always,
                _ => {
                    reader.error(
                        text.line,
                        "content.unknown-value",
                        "encrypt is \"never\", \"possible\" or \"always\"",
                    );
                    Encrypt::Never
                }
            },
        };
        let target = self.target(reader);
        if let (Some(name), Some(target)) = (name, target) {
            if self.document.rules.iter().any(|rule| rule.name == name) {
                let line = reader.line();
                reader.error(
                    line,
                    "content.duplicate",
                    format!("there is another rule {name:?} before this one"),
                );
            }
            self.names.rules.push(reader.line());
            self.document.rules.push(Rule {
                name,
                vendor,
                serial,
                group,
                site,
                device_type,
                hw_model,
                os_name,
                os_version,
                target,
                encrypt,
            });
        }
    }

    fn target(&mut self, reader: &mut Reader<'_, '_>) -> Option<Target> {
        let bundle = reader.text("bundle");
        let redirect = reader.text("redirect");
        let hold = reader.flag("hold").unwrap_or(false);
        match (bundle, redirect, hold) {
            (Some(bundle), None, false) => {
                let (name, version) = match bundle.value.split_once('@') {
                    Some((name, version)) => (name.to_owned(), Some(version.to_owned())),
                    None => (bundle.value.clone(), None),
                };
                self.names.bundles.push(At {
                    line: bundle.line,
                    value: (name.clone(), version.clone()),
                });
                Some(Target::Bundle { name, version })
            }
            (None, Some(redirect), false) => {
                let name = redirect.value.clone();
                self.names.redirects.push(redirect);
                Some(Target::Redirect { name })
            }
            (None, None, true) => Some(Target::Hold),
            _ => {
                let line = reader.line();
                reader.error(
                    line,
                    "content.target",
                    "a rule has exactly one of bundle, redirect and hold",
                );
                None
            }
        }
    }

    fn rollout(&mut self, reader: &mut Reader<'_, '_>) {
        let name = new_name(reader, &self.document.rollouts);
        let bundle = reader.needed_text("bundle");
        let from = reader.needed_text("from");
        let to = reader.needed_text("to");
        let mut stages = Vec::new();
        reader.tables("stage", |reader| {
            let percent = reader.number("percent", 1..=100);
            let sites: Vec<String> = reader.texts("sites").into_iter().map(|s| s.value).collect();
            match (percent, sites.is_empty()) {
                (Some(percent), true) => {
                    if stages
                        .iter()
                        .any(|stage| matches!(stage, Stage::Percent(before) if *before >= percent))
                    {
                        let line = reader.line();
                        reader.error(
                            line,
                            "content.out-of-range",
                            "the percentages of the stages ascend",
                        );
                    }
                    stages.push(Stage::Percent(percent));
                }
                (None, false) => stages.push(Stage::Sites(sites)),
                _ => {
                    let line = reader.line();
                    reader.error(
                        line,
                        "content.target",
                        "a stage has either percent or sites",
                    );
                }
            }
        });
        let failures_percent_max = reader.number("failures-percent-max", 0..=100).unwrap_or(10);
        let reports_min = reader.number("reports-min", 1..=1_000_000).unwrap_or(10);
        if stages.is_empty() {
            stages.push(Stage::Percent(100));
        }
        let (Some(name), Some(bundle), Some(from), Some(to)) = (name, bundle, from, to) else {
            return;
        };
        for version in [&from, &to] {
            self.names.bundles.push(At {
                line: version.line,
                value: (bundle.value.clone(), Some(version.value.clone())),
            });
        }
        if from.value == to.value {
            reader.error(
                to.line,
                "content.unknown-value",
                "a rollout goes from one version to another",
            );
        }
        if self.document.rollout_of(&bundle.value).is_some() {
            reader.error(
                bundle.line,
                "content.duplicate",
                format!("there is another rollout of {:?}", bundle.value),
            );
        }
        self.names.rollouts.push(name.clone());
        self.document.rollouts.insert(
            name.value,
            RolloutPlan {
                bundle: bundle.value,
                from: from.value,
                to: to.value,
                stages,
                failures_percent_max,
                reports_min,
            },
        );
    }
}

/// Names are part of addresses, file names and log lines.
fn check_name(reader: &mut Reader<'_, '_>, name: Option<At<String>>) -> Option<At<String>> {
    let name = name?;
    let fine = !name.value.is_empty()
        && name.value.len() <= 64
        && name
            .value
            .chars()
            .all(|c| c.is_ascii_alphanumeric() || "-_.".contains(c))
        && !name.value.starts_with('.');
    if fine {
        return Some(name);
    }
    reader.error(
        name.line,
        "content.name",
        format!(
            "{:?} is no name: up to 64 letters, digits, '-', '_' and '.', no '.' first",
            name.value
        ),
    );
    None
}

fn new_name<T>(reader: &mut Reader<'_, '_>, taken: &BTreeMap<String, T>) -> Option<At<String>> {
    let name = reader.needed_text("name");
    let name = check_name(reader, name)?;
    if taken.contains_key(&name.value) {
        reader.error(
            name.line,
            "content.duplicate",
            format!("there is another {:?} before this one", name.value),
        );
        return None;
    }
    reader.rename(format!("{:?}", name.value));
    Some(name)
}

fn format_of(file: &str) -> Format {
    let name = [".j2", ".jinja", ".jinja2"]
        .iter()
        .find_map(|extension| file.strip_suffix(extension))
        .unwrap_or(file);
    match name.rsplit_once('.') {
        Some((_, "json")) => Format::Json,
        Some((_, "xml")) => Format::Xml,
        _ => Format::Text,
    }
}

/// The name of the module in a file: `ietf-interfaces@2018-02-20.yang` has `ietf-interfaces`.
fn module_of(file: &str) -> &str {
    let name = file.rsplit('/').next().unwrap_or(file);
    let name = name
        .strip_suffix(".yang")
        .or_else(|| name.strip_suffix(".yin"))
        .unwrap_or(name);
    name.split('@').next().unwrap_or(name)
}

/// What the address of an image ends with: harmless characters only.
fn file_name(path: &Path) -> String {
    let name = path
        .file_name()
        .map(|name| name.to_string_lossy().into_owned())
        .unwrap_or_default();
    let clean: String = name
        .chars()
        .map(|c| {
            if c.is_ascii_alphanumeric() || "-_.".contains(c) {
                c
            } else {
                '_'
            }
        })
        .collect();
    let clean = clean.trim_start_matches('.');
    let start = clean.len().saturating_sub(128);
    match clean.get(start..) {
        Some(name) if !name.is_empty() => name.to_owned(),
        _ => "image".to_owned(),
    }
}

/// `inet:host` of RFC 6991: an IP address or a domain name.
pub(super) fn is_host(text: &str) -> bool {
    if text.parse::<std::net::IpAddr>().is_ok() {
        return true;
    }
    let name = text.strip_suffix('.').unwrap_or(text);
    !name.is_empty()
        && name.len() <= 253
        && name.split('.').all(|label| {
            !label.is_empty()
                && label.len() <= 63
                && !label.starts_with('-')
                && !label.ends_with('-')
                && label
                    .chars()
                    .all(|c| c.is_ascii_alphanumeric() || c == '-' || c == '_')
        })
        // Four numbers that are no address are a mistyped one.
        && !name.chars().all(|c| c.is_ascii_digit() || c == '.')
}
