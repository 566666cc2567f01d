//! JSON as RFC 7951 encodes YANG data, on I-JSON: UTF-8, no duplicate members, bounded.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use pki::json::{self, Limits, Refusal, type_name};
use serde_json::{Map, Value as Json};

use artifacts::Encoding;

use crate::restconf::{Fault, RestconfError};
use crate::schema::{Element, Kind, Message, Module, Node, Reader, Type, Value};
use crate::value::{shown, yang_string};

/// Deepest nesting of arrays and objects.
pub(crate) const DEPTH_MAX: usize = 32;
/// Most values of one text: each takes many times the octets that it is written with.
const VALUES_COUNT_MAX: usize = 10_000;

/// Writes one message.
pub(crate) fn write(node: &Node, root: &Element) -> Vec<u8> {
    let mut top = Map::new();
    top.insert(qualified(node.module, node.name), value(node, root));
    Json::Object(top).to_string().into_bytes()
}

fn qualified(module: Module, name: &str) -> String {
    format!("{}:{name}", module.name())
}

fn value(node: &Node, element: &Element) -> Json {
    match (&element.value, node.kind) {
        // SZTP-7951-6.9-01: empty is [null].
        (Value::Empty | Value::UnknownIdentity, _) => Json::Array(vec![Json::Null]),
        (Value::Text(text), _) => Json::String(yang_string(text)),
        (Value::Bytes(bytes), _) => Json::String(STANDARD.encode(bytes)),
        (Value::Path(path), _) => Json::String(path.render(Encoding::Json)),
        // SZTP-7951-6.8-01: an identity of another module than the leaf's is qualified.
        (Value::Identity(name), Kind::Leaf(kind) | Kind::LeafList(kind, ..)) => {
            Json::String(match kind {
                Type::Identity(module, _) => qualified(module, name),
                _ => (*name).to_owned(),
            })
        }
        (Value::Identity(name), _) => Json::String((*name).to_owned()),
        (Value::Children(children), _) => {
            let mut members = Map::new();
            for child in node.children() {
                let mut values: Vec<Json> = children
                    .iter()
                    .filter(|element| element.name == child.name)
                    .map(|element| value(child, element))
                    .collect();
                // SZTP-7951-4-01: a child of another module than its parent is qualified.
                let name = if child.module == node.module {
                    child.name.to_owned()
                } else {
                    qualified(child.module, child.name)
                };
                // SZTP-7951-5-01: lists and leaf-lists are arrays even with one entry.
                if child.is_repeated() {
                    if !values.is_empty() {
                        members.insert(name, Json::Array(values));
                    }
                } else if let Some(value) = values.pop() {
                    members.insert(name, value);
                }
            }
            Json::Object(members)
        }
    }
}

/// Reads one message.
pub(crate) fn read(
    message: &Message,
    text: &str,
    reader: &mut Reader<'_>,
) -> Result<Element, RestconfError> {
    let root = &message.root;
    let Json::Object(top) = parse(text)? else {
        let detail = "the body is no JSON object";
        return Err(RestconfError::new(Fault::WrongWrapper, detail));
    };
    let mut members = top.into_iter();
    let (Some((name, value)), None) = (members.next(), members.next()) else {
        let detail = format!(
            "the body has another number of members than the one \"{}\"",
            qualified(root.module, root.name)
        );
        return Err(RestconfError::new(Fault::WrongWrapper, detail));
    };
    // SZTP-8040-3.6.1-01: the one member is the qualified name of the message.
    let (module, local) = split(&name);
    if name != qualified(root.module, root.name) {
        let is_ours = module.is_none_or(|module| module == root.module.name());
        let detail = format!(
            "\"{}\" stands where \"{}\" belongs",
            shown(&name),
            qualified(root.module, root.name)
        );
        if !is_ours || (local != root.name && Some(local) != message.rpc) {
            return Err(RestconfError::new(Fault::WrongWrapper, detail));
        }
        if module.is_none() {
            reader.tolerate(
                reader.leniency.names_qualification,
                "names-qualification",
                Fault::WrongWrapper,
                detail.clone(),
            )?;
        }
        if local != root.name {
            reader.tolerate(
                reader.leniency.rpc_wrapper,
                "rpc-wrapper",
                Fault::WrongWrapper,
                detail,
            )?;
        }
    }
    reader.within(root, |reader| instance(root, value, reader))
}

fn split(name: &str) -> (Option<&str>, &str) {
    match name.split_once(':') {
        Some((module, local)) => (Some(module), local),
        None => (None, name),
    }
}

/// One instance of a node from its JSON value.
fn instance(node: &Node, json: Json, reader: &mut Reader<'_>) -> Result<Element, RestconfError> {
    let value = match node.kind {
        Kind::Container(_) | Kind::List(..) => children(node, json, false, reader)?,
        Kind::Any(_) => children(node, json, true, reader)?,
        Kind::Leaf(kind) | Kind::LeafList(kind, ..) => leaf(node, kind, json, reader)?,
    };
    Ok(Element::new(node.name, value))
}

fn children(
    node: &Node,
    json: Json,
    is_open: bool,
    reader: &mut Reader<'_>,
) -> Result<Value, RestconfError> {
    let Json::Object(members) = json else {
        let detail = format!("{} where an object belongs", type_name(&json));
        return Err(reader.fail(Fault::WrongType, detail));
    };
    let mut elements: Vec<Element> = Vec::new();
    for (name, value) in members {
        let Some(child) = child(node, &name, is_open, reader)? else {
            continue;
        };
        if elements.iter().any(|element| element.name == child.name) {
            let detail = format!("\"{}\" stands twice, once with its module", child.name);
            return Err(reader.fail(Fault::DuplicateMember, detail));
        }
        reader.within(child, |reader| {
            if !child.is_repeated() {
                elements.push(instance(child, value, reader)?);
                return Ok(());
            }
            let values = match value {
                Json::Array(values) => values,
                single => {
                    // SZTP-7951-5-01: an array even with one entry.
                    let detail = format!("{} where an array belongs", type_name(&single));
                    let is_tolerated = reader.leniency.list_without_array;
                    reader.tolerate(
                        is_tolerated,
                        "list-without-array",
                        Fault::WrongType,
                        detail,
                    )?;
                    vec![single]
                }
            };
            for value in values {
                elements.push(instance(child, value, reader)?);
            }
            Ok(())
        })?;
    }
    reader.complete(node, &elements)?;
    Ok(Value::Children(elements))
}

/// The child that a member's name means; `None` for one that is passed over.
fn child(
    node: &Node,
    name: &str,
    is_open: bool,
    reader: &mut Reader<'_>,
) -> Result<Option<&'static Node>, RestconfError> {
    let unknown = |reader: &mut Reader<'_>, fault| {
        if is_open {
            return Ok(None);
        }
        let detail = format!("\"{}\" is no member of \"{}\"", shown(name), node.name);
        let is_tolerated = reader.leniency.unknown_members;
        reader
            .tolerate(is_tolerated, "unknown-members", fault, detail)
            .map(|()| None)
    };
    if name.starts_with('@') {
        return unknown(reader, Fault::UnknownAttribute);
    }
    let (module, local) = split(name);
    let found = node.children().iter().find(|child| {
        child.name == local && module.is_none_or(|module| module == child.module.name())
    });
    let Some(found) = found else {
        let is_known = module.is_none_or(|module| Module::by_name(module).is_some());
        let fault = if is_known {
            Fault::UnknownElement
        } else {
            Fault::UnknownNamespace
        };
        return unknown(reader, fault);
    };
    // SZTP-7951-4-01, SZTP-7951-4-02: with the module's name exactly where it differs from
    // the parent's.
    if module.is_some() != (found.module != node.module) {
        let detail = format!("\"{}\" is qualified in the wrong way", shown(name));
        let is_tolerated = reader.leniency.names_qualification;
        reader.tolerate(
            is_tolerated,
            "names-qualification",
            Fault::UnknownElement,
            detail,
        )?;
    }
    Ok(Some(found))
}

fn leaf(
    node: &Node,
    kind: Type,
    json: Json,
    reader: &mut Reader<'_>,
) -> Result<Value, RestconfError> {
    if let Type::Empty = kind {
        // SZTP-7951-6.9-01: [null], and nothing else.
        let is_empty = matches!(&json, Json::Array(items) if matches!(items[..], [Json::Null]));
        if !is_empty {
            let is_spelling = match &json {
                Json::Bool(true) | Json::Null => true,
                Json::String(text) => text.is_empty(),
                Json::Object(members) => members.is_empty(),
                Json::Array(items) => items.is_empty(),
                _ => false,
            };
            let detail = format!("{} where [null] belongs", type_name(&json));
            let is_tolerated = is_spelling && reader.leniency.empty_type;
            reader.tolerate(is_tolerated, "empty-type", Fault::WrongType, detail)?;
        }
        return Ok(Value::Empty);
    }
    let Json::String(text) = &json else {
        let detail = format!("{} where a string belongs", type_name(&json));
        return Err(reader.fail(Fault::WrongType, detail));
    };
    let Type::Identity(expected, names) = kind else {
        return reader.scalar(kind, text);
    };
    // SZTP-7951-6.8-01: qualified unless the identity is of the leaf's own module.
    let (module, local) = split(text);
    let module = match module {
        Some(module) => Module::by_name(module),
        None if expected == node.module => Some(expected),
        None => {
            let detail = format!("the identity \"{}\" has no module", shown(text));
            let is_tolerated = reader.leniency.identity_unqualified;
            reader.tolerate(
                is_tolerated,
                "identity-unqualified",
                Fault::BadValue,
                detail,
            )?;
            Some(expected)
        }
    };
    reader.identity(module, local, expected, names)
}

/// Parses a JSON text.
pub(crate) fn parse(text: &str) -> Result<Json, RestconfError> {
    let limits = Limits {
        values: VALUES_COUNT_MAX,
        ..Limits::depth(DEPTH_MAX)
    };
    json::parse(text.as_bytes(), &limits).map_err(|refusal| {
        let (fault, detail) = match refusal {
            // SZTP-7951-7-01: readers would not agree on which one of two counts.
            Refusal::DuplicateMember(name) => (
                Fault::DuplicateMember,
                format!("the member \"{}\" stands twice", shown(&name)),
            ),
            Refusal::TooDeep => (Fault::TooDeep, format!("nested over {DEPTH_MAX} deep")),
            Refusal::NotJson(why) => (Fault::NotJson, format!("not JSON: {why}")),
            _ => (
                Fault::TooMany,
                format!("more than {VALUES_COUNT_MAX} values"),
            ),
        };
        RestconfError::new(fault, detail)
    })
}
