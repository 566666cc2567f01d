//! Configuration templates: Jinja, strict about what is not defined, bounded in all it does.
//!
//! A template sees `device`, `vars` and, where one was issued, `certificate`, and includes nothing
//! but other templates of its own folder: they are all in memory, there is no loader that could
//! reach for a file. What a value contains is escaped for the format that is being written, so a
//! variable cannot end the quotation that it stands in.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::io::Write;

use minijinja::value::{Value, ValueKind};
use minijinja::{AutoEscape, Environment, ErrorKind, Output, State, UndefinedBehavior};

use super::document::Format;

/// The most that comes out of a template, in octets.
pub const CONFIGURATION_SIZE_MAX: usize = 1024 * 1024;
/// The most that a template may do, in instructions.
const FUEL: u64 = 2_000_000;
/// How deep templates and macros may call each other.
const RECURSION_MAX: usize = 64;
/// The most that a filter makes of a text, in octets.
const FILTERED_SIZE_MAX: usize = 1024 * 1024;

/// Everything that a template may use.
pub const NAMES: &[&str] = &["certificate", "device", "vars"];

/// Why there is no configuration.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct TemplateError {
    /// Stable code.
    pub code: &'static str,
    /// Name of the file it happened in.
    pub file: Option<String>,
    /// Its line.
    pub line: Option<usize>,
    /// What happened; never the value of a variable.
    pub message: String,
}

/// What a template needs to know before it can be rendered.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Uses {
    /// Facts and variables of the single device.
    pub device: bool,
    /// Variables of device, site, group or all.
    pub vars: bool,
    /// A certificate that was issued to the device.
    pub certificate: bool,
}

/// All templates of a revision.
#[derive(Debug)]
pub struct Templates {
    environments: BTreeMap<Format, Environment<'static>>,
    uses: HashMap<String, Uses>,
}

impl Templates {
    /// Compiles all files, for each of the formats. Mistakes come back beside what is usable.
    #[must_use]
    pub fn new(
        files: &BTreeMap<String, String>,
        formats: &BTreeSet<Format>,
    ) -> (Self, Vec<TemplateError>) {
        let mut mistakes = Vec::new();
        let mut environments = BTreeMap::new();
        let mut uses = HashMap::new();
        for (index, format) in formats.iter().enumerate() {
            let mut environment = environment(*format);
            for (name, text) in files {
                if let Err(error) = environment.add_template_owned(name.clone(), text.clone())
                    && index == 0
                {
                    mistakes.push(describe(&error, files, "content.template-syntax"));
                }
            }
            if index == 0 {
                for (name, text) in files {
                    if let Ok(template) = environment.get_template(name) {
                        let names = template.undeclared_variables(false);
                        for unknown in names.iter().filter(|name| {
                            !NAMES.contains(&name.as_str())
                                && !environment.globals().any(|(global, _)| global == *name)
                        }) {
                            // An included template may use what its includer sets.
                            if !reaches_others(text) && !included_by_any(name, files) {
                                mistakes.push(unknown_name(name, text, unknown));
                            }
                        }
                        uses.insert(name.clone(), uses_of(text, &names, files));
                    }
                }
            }
            environments.insert(*format, environment);
        }
        mistakes.sort_by(|a, b| (&a.file, a.line).cmp(&(&b.file, b.line)));
        (Self { environments, uses }, mistakes)
    }

    /// What the template needs. A template that includes others is taken to need everything.
    #[must_use]
    pub fn uses(&self, file: &str) -> Uses {
        self.uses.get(file).cloned().unwrap_or(Uses {
            device: true,
            vars: true,
            certificate: false,
        })
    }

    /// The configuration that the template makes of the context.
    ///
    /// # Errors
    /// What the template did wrong, without the value of any variable.
    pub fn render(
        &self,
        file: &str,
        format: Format,
        context: &Value,
    ) -> Result<Vec<u8>, TemplateError> {
        let missing = || TemplateError {
            code: "content.template-failed",
            file: Some(file.to_owned()),
            line: None,
            message: "the template is not in this revision".to_owned(),
        };
        let environment = self.environments.get(&format).ok_or_else(missing)?;
        let template = environment.get_template(file).map_err(|_| missing())?;
        let mut out = Bounded {
            octets: Vec::new(),
            full: false,
        };
        match template.render_captured_to(context, &mut out) {
            Ok(_) => Ok(out.octets),
            Err(_) if out.full => Err(TemplateError {
                code: "content.template-limit",
                file: Some(file.to_owned()),
                line: None,
                message: format!(
                    "the configuration is larger than {CONFIGURATION_SIZE_MAX} octets"
                ),
            }),
            Err(error) => {
                let source = template.source().to_owned();
                let files = [(file.to_owned(), source)].into();
                Err(describe(&error, &files, "content.template-failed"))
            }
        }
    }
}

/// Whether a template takes in others, or is a guess that it might.
fn reaches_others(text: &str) -> bool {
    ["include", "import", "extends"]
        .iter()
        .any(|word| text.contains(word))
}

fn included_by_any(name: &str, files: &BTreeMap<String, String>) -> bool {
    files
        .values()
        .any(|text| reaches_others(text) && text.contains(name))
}

fn uses_of(text: &str, names: &HashSet<String>, files: &BTreeMap<String, String>) -> Uses {
    let all = reaches_others(text);
    Uses {
        device: all || names.contains("device"),
        vars: all || names.contains("vars"),
        // Naming it is how a template says that it cannot do without.
        certificate: names.contains("certificate")
            || (all
                && files.iter().any(|(name, part)| {
                    text.contains(name.as_str()) && part.contains("certificate")
                })),
    }
}

fn unknown_name(file: &str, text: &str, name: &str) -> TemplateError {
    let line = text
        .lines()
        .position(|line| line.contains(name))
        .map(|index| index + 1);
    TemplateError {
        code: "content.template-undefined",
        file: Some(file.to_owned()),
        line,
        message: format!(
            "the template uses {name:?}; there are only {}",
            NAMES.join(", ")
        ),
    }
}

fn environment(format: Format) -> Environment<'static> {
    let mut environment = Environment::new();
    environment.set_undefined_behavior(UndefinedBehavior::Strict);
    environment.set_fuel(Some(FUEL));
    environment.set_recursion_limit(RECURSION_MAX);
    environment.set_keep_trailing_newline(true);
    environment.set_trim_blocks(true);
    environment.set_lstrip_blocks(true);
    // Positions of errors; values never leave this module.
    environment.set_debug(true);
    environment.set_auto_escape_callback(|_| AutoEscape::Custom("configuration"));
    environment.set_formatter(move |out, state, value| write_value(out, state, value, format));
    // It prints all that a template could see.
    environment.remove_global("debug");
    // These make much out of little; the ones in their place know a limit.
    for filter in [
        "format", "pprint", "replace", "indent", "join", "batch", "slice",
    ] {
        environment.remove_filter(filter);
    }
    environment.add_filter("replace", replace);
    environment.add_filter("indent", indent);
    environment.add_filter("join", join);
    environment
}

fn too_large() -> minijinja::Error {
    minijinja::Error::new(ErrorKind::OutOfFuel, "the text is too large")
}

fn replace(text: &str, from: &str, to: &str) -> Result<String, minijinja::Error> {
    if from.is_empty() {
        return Err(minijinja::Error::new(
            ErrorKind::InvalidOperation,
            "an empty text cannot be replaced",
        ));
    }
    let times = text.matches(from).count();
    let size = times.saturating_mul(to.len()).saturating_add(text.len());
    if size > FILTERED_SIZE_MAX {
        return Err(too_large());
    }
    Ok(text.replace(from, to))
}

fn indent(text: &str, width: u8, first: Option<bool>) -> Result<String, minijinja::Error> {
    let size = text
        .lines()
        .count()
        .saturating_mul(usize::from(width))
        .saturating_add(text.len());
    if size > FILTERED_SIZE_MAX {
        return Err(too_large());
    }
    let pad = " ".repeat(usize::from(width));
    let mut lines = Vec::new();
    for (index, line) in text.split('\n').enumerate() {
        let padded = !line.is_empty() && (index > 0 || first.unwrap_or(false));
        lines.push(if padded {
            format!("{pad}{line}")
        } else {
            line.to_owned()
        });
    }
    Ok(lines.join("\n"))
}

fn join(list: &Value, separator: Option<&str>) -> Result<String, minijinja::Error> {
    let separator = separator.unwrap_or_default();
    let mut text = String::new();
    for (index, item) in list.try_iter()?.enumerate() {
        if index > 0 {
            text.push_str(separator);
        }
        if item.is_none() || item.is_undefined() {
            return Err(nothing());
        }
        match item.as_str() {
            Some(item) => text.push_str(item),
            None => text.push_str(&item.to_string()),
        }
        if text.len() > FILTERED_SIZE_MAX {
            return Err(too_large());
        }
    }
    Ok(text)
}

fn nothing() -> minijinja::Error {
    minijinja::Error::new(ErrorKind::UndefinedError, "there is no value")
}

/// Writes a value as the format needs it.
fn write_value(
    out: &mut Output<'_>,
    state: &State<'_, '_>,
    value: &Value,
    format: Format,
) -> Result<(), minijinja::Error> {
    // "none" in a configuration is never what was meant.
    if value.is_none() || value.is_undefined() {
        return Err(nothing());
    }
    let raw = value.is_safe() || state.auto_escape() == AutoEscape::None;
    let text;
    let text = match value.as_str() {
        Some(text) => text,
        None => {
            text = match value.kind() {
                ValueKind::Map | ValueKind::Seq | ValueKind::Iterable if format == Format::Json => {
                    return serde_json::to_string(value)
                        .map_err(|_| nothing())
                        .and_then(|json| out.write_str(&json).map_err(minijinja::Error::from));
                }
                ValueKind::Map | ValueKind::Seq | ValueKind::Iterable => {
                    return Err(minijinja::Error::new(
                        ErrorKind::InvalidOperation,
                        "a list or table cannot be written as text",
                    ));
                }
                // The engine writes True and False, which only Python reads.
                ValueKind::Bool => value.is_true().to_string(),
                _ => value.to_string(),
            };
            &text
        }
    };
    if raw {
        out.write_str(text)?;
        return Ok(());
    }
    match format {
        Format::Text => out.write_str(text)?,
        Format::Xml => {
            let mut rest = text;
            while let Some(at) = rest.find(['&', '<', '>', '"', '\'']) {
                let (before, from) = rest.split_at(at);
                out.write_str(before)?;
                let mut chars = from.chars();
                out.write_str(match chars.next() {
                    Some('&') => "&amp;",
                    Some('<') => "&lt;",
                    Some('>') => "&gt;",
                    Some('"') => "&quot;",
                    _ => "&apos;",
                })?;
                rest = chars.as_str();
            }
            out.write_str(rest)?;
        }
        Format::Json => {
            // The octets between the quotation marks: the template writes those itself.
            let json = serde_json::to_string(text).map_err(|_| nothing())?;
            let inner = json.get(1..json.len().saturating_sub(1));
            out.write_str(inner.unwrap_or_default())?;
        }
    }
    Ok(())
}

/// An error of the engine as a sentence. Its own detail can hold values, so only what it says of
/// names and syntax is passed on.
fn describe(
    error: &minijinja::Error,
    files: &BTreeMap<String, String>,
    otherwise: &'static str,
) -> TemplateError {
    let mut innermost = error;
    while let Some(source) = std::error::Error::source(innermost)
        && let Some(inner) = source.downcast_ref::<minijinja::Error>()
    {
        innermost = inner;
    }
    let (code, mut message) = match innermost.kind() {
        ErrorKind::SyntaxError => (
            "content.template-syntax",
            innermost
                .detail()
                .map_or_else(|| "syntax error".to_owned(), str::to_owned),
        ),
        ErrorKind::UndefinedError => (
            "content.template-undefined",
            "something is not defined, or has no value".to_owned(),
        ),
        ErrorKind::OutOfFuel => (
            "content.template-limit",
            "the template does more than it may".to_owned(),
        ),
        ErrorKind::TemplateNotFound => (
            "content.template-failed",
            "a template that is included is not in the folder".to_owned(),
        ),
        kind => (otherwise, kind.to_string()),
    };
    let name = innermost.name().map(str::to_owned);
    if innermost.kind() != ErrorKind::SyntaxError
        && let Some(range) = innermost.range()
        && let Some(text) = name.as_ref().and_then(|name| files.get(name))
        && let Some(expression) = text.get(range)
        && expression.len() <= 200
    {
        message.push_str(": ");
        message.push_str(expression);
    }
    TemplateError {
        code,
        file: name,
        line: innermost.line(),
        message,
    }
}

/// A buffer that does not grow beyond the largest configuration.
struct Bounded {
    octets: Vec<u8>,
    full: bool,
}

impl Write for Bounded {
    fn write(&mut self, octets: &[u8]) -> std::io::Result<usize> {
        if self.octets.len() + octets.len() > CONFIGURATION_SIZE_MAX {
            self.full = true;
            return Err(std::io::Error::other("too large"));
        }
        self.octets.extend_from_slice(octets);
        Ok(octets.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use minijinja::context;
    use proptest::prelude::*;

    use super::*;

    fn templates(files: &[(&str, &str)], format: Format) -> (Templates, Vec<TemplateError>) {
        let files = files
            .iter()
            .map(|(name, text)| ((*name).to_owned(), (*text).to_owned()))
            .collect();
        Templates::new(&files, &[format].into())
    }

    fn render(text: &str, format: Format, context: &Value) -> Result<String, TemplateError> {
        let (templates, _) = templates(&[("t", text)], format);
        templates
            .render("t", format, context)
            .map(|octets| String::from_utf8(octets).unwrap())
    }

    #[test]
    fn values_are_escaped_for_the_format() {
        let value = "a<b>&\"c'\\\n";
        let context =
            context! { vars => context! { x => value, n => 7, yes => true, list => [1, 2] } };
        let cases = [
            (
                Format::Xml,
                "<x a=\"{{ vars.x }}\"/>",
                "<x a=\"a&lt;b&gt;&amp;&quot;c&apos;\\\n\"/>",
            ),
            (
                Format::Json,
                "{\"x\": \"{{ vars.x }}\"}",
                "{\"x\": \"a<b>&\\\"c'\\\\\\n\"}",
            ),
            (
                Format::Json,
                "{{ vars.list }}{{ vars.n }}{{ vars.yes }}",
                "[1,2]7true",
            ),
            (Format::Text, "x {{ vars.x }}", "x a<b>&\"c'\\\n"),
            (Format::Xml, "{{ vars.x|safe }}", value),
            (Format::Xml, "{{ vars.n + 1 }}{{ vars.yes }}", "8true"),
            (Format::Xml, "{{ vars.list|join(',') }}", "1,2"),
            (Format::Text, "{{ 'a\nb\nc'|indent(2) }}", "a\n  b\n  c"),
            (Format::Text, "{{ 'aXb'|replace('X', '--') }}", "a--b"),
            // What a macro or a block made is not escaped twice.
            (
                Format::Xml,
                "{% macro m(v) %}<m>{{ v }}</m>{% endmacro %}{{ m('<') }}",
                "<m>&lt;</m>",
            ),
            (
                Format::Text,
                "{% for i in range(3) %}\n{{ i }}\n{% endfor %}\nend\n",
                "0\n1\n2\nend\n",
            ),
        ];
        for (format, text, expected) in cases {
            assert_eq!(
                render(text, format, &context).as_deref(),
                Ok(expected),
                "{text}"
            );
        }
    }

    #[test]
    fn what_goes_wrong_is_named_and_shows_no_value() {
        let context = context! { vars => context! { secret => "hunter2", none => () } };
        let cases = [
            ("{{ vars.nothing }}", "content.template-undefined"),
            ("{{ vars.none }}", "content.template-undefined"),
            ("{{ nothing.at.all }}", "content.template-undefined"),
            (
                "{% if vars.nothing %}{% endif %}",
                "content.template-undefined",
            ),
            ("{{ vars.secret + 1 }}", "content.template-failed"),
            ("{{ vars.secret|int }}", "content.template-failed"),
            ("{{ vars }}", "content.template-failed"),
            ("{% include '/etc/passwd' %}", "content.template-failed"),
            (
                "{% include '../../etc/passwd' %}",
                "content.template-failed",
            ),
            ("{% include 't' %}", "content.template-failed"),
            (
                "{% for a in range(9999) %}{% for b in range(9999) %}{% endfor %}{% endfor %}",
                "content.template-limit",
            ),
            (
                "{% for a in range(9999) %}{{ 'x' * 9999 }}{% endfor %}",
                "content.template-limit",
            ),
            (
                "{{ ('x' * 99999)|replace('x', 'y' * 99999) }}",
                "content.template-limit",
            ),
            (
                "{{ range(99999)|join('y' * 99999) }}",
                "content.template-limit",
            ),
            ("{{ debug() }}", "content.template-failed"),
            ("{{ vars.secret|format }}", "content.template-failed"),
        ];
        for (text, code) in cases {
            let error = render(text, Format::Text, &context).unwrap_err();
            assert_eq!(error.code, code, "{text}: {error:?}");
            assert!(!error.message.contains("hunter2"), "{error:?}");
        }
        let error = render("a\nb {{ vars.nothing }}", Format::Text, &context).unwrap_err();
        assert_eq!(error.line, Some(2));
        assert!(error.message.ends_with("vars.nothing"), "{error:?}");
    }

    #[test]
    fn mistakes_are_found_before_there_is_a_device() {
        let files = [
            ("bad.j2", "ok\n{% for x in %}"),
            ("name.j2", "\n\n{{ hostname }}"),
            (
                "good.j2",
                "{% set a = device.serial %}{{ a }}{% include 'part.j2' %}",
            ),
            ("part.j2", "{{ a }}"),
        ];
        let (templates, mistakes) = templates(&files, Format::Text);
        let found: Vec<_> = mistakes
            .iter()
            .map(|m| (m.file.as_deref().unwrap(), m.line, m.code))
            .collect();
        assert_eq!(
            found,
            [
                ("bad.j2", Some(2), "content.template-syntax"),
                ("name.j2", Some(3), "content.template-undefined"),
            ]
        );
        let context = context! { device => context! { serial => "S" } };
        assert_eq!(
            templates.render("good.j2", Format::Text, &context),
            Ok(b"SS".to_vec())
        );
    }

    #[test]
    fn what_a_template_needs_is_known() {
        let cases = [
            ("plain", false, false, false),
            ("{{ vars.a }}", false, true, false),
            ("{% set d = device %}{{ d.serial }}", true, false, false),
            ("{{ certificate.pem }}", false, false, true),
            ("{% include 'x' %}", true, true, false),
        ];
        for (text, device, vars, certificate) in cases {
            let (templates, _) = templates(&[("t", text)], Format::Text);
            let expected = Uses {
                device,
                vars,
                certificate,
            };
            assert_eq!(templates.uses("t"), expected, "{text}");
        }
    }

    proptest! {
        /// Whatever a variable holds, it stays inside the quotation marks that the template wrote.
        #[test]
        fn a_value_never_leaves_its_quotation(value in ".{0,40}") {
            let context = context! { vars => context! { x => &value } };
            let json = render("{\"x\": \"{{ vars.x }}\"}", Format::Json, &context).unwrap();
            let read: serde_json::Value = serde_json::from_str(&json).unwrap();
            prop_assert_eq!(read, serde_json::json!({ "x": value }));
            let xml = render("<x a=\"{{ vars.x }}\">{{ vars.x }}</x>", Format::Xml, &context).unwrap();
            let inside = xml.strip_prefix("<x a=\"").unwrap().strip_suffix("</x>").unwrap();
            prop_assert!(!inside.contains('<'));
            prop_assert_eq!(inside.matches('"').count(), 1);
        }

        /// No text is rendered from outside of the templates, and nothing panics.
        #[test]
        fn any_template_is_bounded(text in "(\\{\\{|\\{%|%\\}|\\}\\}|include|extends|import|'/etc/passwd'|'\\.\\./x'|vars|device|\\||\\.| |a|1){0,24}") {
            let context = context! { vars => context! { a => 1 } };
            if let Ok(out) = render(&text, Format::Text, &context) {
                prop_assert!(!out.contains("root:"));
            }
        }
    }
}
