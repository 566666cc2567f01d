//! Conveyed information in XML ([RFC 7950](https://www.rfc-editor.org/rfc/rfc7950.html)).

use super::rules::{self, Reading};
use super::tree::{Field, Kind, ONBOARDING, REDIRECT, Tree, Value};
use super::{MODULE, NAMESPACE};
use crate::error::{Error, Fault};
use crate::json::shown;
use crate::xml::{self, Element};

/// Reads the text as a tree, with the name of its top node.
pub(super) fn read(bytes: &[u8], reading: &mut Reading<'_>) -> Result<(&'static str, Tree), Error> {
    let mut bytes = bytes;
    if let Some(rest) = bytes.strip_prefix(b"\xef\xbb\xbf") {
        reading.tolerate_byte_order_mark()?;
        bytes = rest;
    }
    let root = xml::parse(rules::DOCUMENT, bytes, rules::CONVEYED_SIZE_MAX_BYTES)?;
    check_namespace(&root, reading)?;
    let candidates = if root.name == "conveyed-information" {
        // SZTP-8040-8-02: the template's name never appears on the wire.
        reading.tolerate_wrapper(&root.name)?;
        check_container(&root, reading)?;
        root.children
    } else {
        vec![root]
    };
    let mut found = Vec::new();
    for element in candidates {
        check_namespace(&element, reading)?;
        match element.name.as_str() {
            REDIRECT => found.push((REDIRECT, element)),
            ONBOARDING => found.push((ONBOARDING, element)),
            _ => reading.unknown(&element.name)?,
        }
    }
    let (name, element) = rules::only_one(found)?;
    Ok((name, node(element, rules::fields_of(name), reading)?))
}

fn check_namespace(element: &Element, reading: &mut Reading<'_>) -> Result<(), Error> {
    let found = element.namespace.as_str();
    if found == NAMESPACE {
        return Ok(());
    }
    if found.eq_ignore_ascii_case(NAMESPACE) && reading.tolerances.namespace_case {
        reading.odd("namespace-case", shown(found));
        return Ok(());
    }
    let detail = format!(
        "<{}> is in the namespace \"{}\"",
        shown(&element.name),
        shown(found)
    );
    Err(rules::fail(Fault::WrongNamespace, detail))
}

/// Containers and list entries hold elements only, and no element has attributes.
fn check_container(element: &Element, reading: &mut Reading<'_>) -> Result<(), Error> {
    check_attributes(element, reading)?;
    if element.text.trim().is_empty() {
        return Ok(());
    }
    let detail = format!("<{}> holds text", shown(&element.name));
    Err(rules::fail(Fault::WrongType, detail))
}

fn check_attributes(element: &Element, reading: &mut Reading<'_>) -> Result<(), Error> {
    match element.attributes.first() {
        Some(attribute) => reading.unknown(&format!("attribute {attribute} of {}", element.name)),
        None => Ok(()),
    }
}

fn node(
    element: Element,
    fields: &'static [Field],
    reading: &mut Reading<'_>,
) -> Result<Tree, Error> {
    check_container(&element, reading)?;
    let mut tree = Tree::default();
    for child in element.children {
        check_namespace(&child, reading)?;
        let Some(field) = fields.iter().find(|field| field.name == child.name) else {
            reading.unknown(&child.name)?;
            continue;
        };
        let place = tree.0.iter().position(|(name, _)| *name == field.name);
        let existing = place.and_then(|place| tree.0.get_mut(place));
        let existing = existing.map(|(_, value)| value);
        match (&field.kind, existing) {
            (Kind::LeafList, Some(Value::Leaves(texts))) => {
                texts.push(leaf(child, field, reading)?);
            }
            (Kind::List(fields), Some(Value::Nodes(nodes))) => {
                nodes.push(node(child, fields, reading)?);
            }
            (_, Some(_)) => {
                let detail = format!("<{}> stands twice", field.name);
                return Err(rules::fail(Fault::DuplicateMember, detail));
            }
            (kind, None) => {
                let value = match kind {
                    Kind::Text | Kind::Number | Kind::Identity => {
                        Value::Leaf(leaf(child, field, reading)?)
                    }
                    Kind::LeafList => Value::Leaves(vec![leaf(child, field, reading)?]),
                    Kind::Container(fields) | Kind::List(fields) => {
                        Value::Nodes(vec![node(child, fields, reading)?])
                    }
                };
                tree.0.push((field.name.to_owned(), value));
            }
        }
    }
    Ok(tree)
}

fn leaf(element: Element, field: &Field, reading: &mut Reading<'_>) -> Result<String, Error> {
    check_attributes(&element, reading)?;
    if let Some(child) = element.children.first() {
        let detail = format!("{} holds the element <{}>", field.name, shown(&child.name));
        return Err(rules::fail(Fault::WrongType, detail));
    }
    if !matches!(field.kind, Kind::Identity) {
        return Ok(element.text);
    }
    // RFC 7950 section 9.10.3: an identity is a qualified name; without a prefix it is in the
    // default namespace.
    let local = element.text.rsplit(':').next().unwrap_or_default();
    let namespace = element.text_namespace.as_deref().unwrap_or_default();
    let ours = namespace == NAMESPACE
        || reading.tolerances.namespace_case && namespace.eq_ignore_ascii_case(NAMESPACE);
    if ours {
        return Ok(local.to_owned());
    }
    // Written as in JSON, which is a mistake of some encoders.
    Ok(match element.text.split_once(':') {
        Some((MODULE, local)) if reading.tolerances.namespace_case => {
            reading.odd("namespace-case", format!("{} is a JSON name", field.name));
            local.to_owned()
        }
        _ => element.text,
    })
}

/// Writes a tree.
pub(super) fn write(name: &str, tree: &Tree) -> Vec<u8> {
    let mut out = format!("<{name} xmlns=\"{NAMESPACE}\">");
    write_children(&mut out, tree);
    close(&mut out, name);
    out.into_bytes()
}

fn write_children(out: &mut String, tree: &Tree) {
    for (name, value) in &tree.0 {
        match value {
            Value::Leaf(text) => write_leaf(out, name, text),
            Value::Leaves(texts) => {
                for text in texts {
                    write_leaf(out, name, text);
                }
            }
            Value::Nodes(nodes) => {
                for node in nodes {
                    open(out, name);
                    write_children(out, node);
                    close(out, name);
                }
            }
        }
    }
}

fn write_leaf(out: &mut String, name: &str, text: &str) {
    open(out, name);
    xml::push_escaped(out, text);
    close(out, name);
}

fn open(out: &mut String, name: &str) {
    out.push('<');
    out.push_str(name);
    out.push('>');
}

fn close(out: &mut String, name: &str) {
    out.push_str("</");
    out.push_str(name);
    out.push('>');
}
