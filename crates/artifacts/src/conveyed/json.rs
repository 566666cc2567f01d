//! Conveyed information in JSON ([RFC 7951](https://www.rfc-editor.org/rfc/rfc7951.html)).

use serde_json::{Map, Value as Json};

use super::rules::Reading;
use super::tree::{Field, Kind, ONBOARDING, REDIRECT, Tree, Value};
use super::{MODULE, rules};
use crate::error::{Error, Fault};
use crate::json::{shown, type_name};

/// Reads the text as a tree, with the name of its top node.
pub(super) fn read(bytes: &[u8], reading: &mut Reading<'_>) -> Result<(&'static str, Tree), Error> {
    let limit = rules::CONVEYED_SIZE_MAX_BYTES;
    let value = crate::json::parse(
        rules::DOCUMENT,
        bytes,
        limit,
        reading.tolerances,
        &mut reading.oddities,
    )?;
    let mut members = object("the top level", value)?;
    let wrapper = [
        format!("{MODULE}:conveyed-information"),
        "conveyed-information".to_owned(),
    ];
    if let Some(name) = wrapper.iter().find(|name| members.contains_key(*name)) {
        // SZTP-8040-8-02: the template's name never appears on the wire.
        reading.tolerate_wrapper(name)?;
        let inner = members.shift_remove(name).unwrap_or_default();
        members = object(name, inner)?;
    }
    let mut found = Vec::new();
    for (name, value) in members {
        // RFC 7951 section 4: the name of a top-level member is qualified by its module.
        let kind = name
            .strip_prefix(MODULE)
            .and_then(|rest| rest.strip_prefix(':'));
        let bare = [REDIRECT, ONBOARDING]
            .into_iter()
            .find(|known| name == *known);
        match (kind, bare) {
            (Some(REDIRECT), _) => found.push((REDIRECT, value)),
            (Some(ONBOARDING), _) => found.push((ONBOARDING, value)),
            (_, Some(bare)) if reading.tolerances.top_level_names => {
                reading.odd("top-level-names", format!("{bare} without its module"));
                found.push((bare, value));
            }
            (_, Some(bare)) => {
                let detail = format!("the member \"{bare}\" is not qualified by \"{MODULE}\"");
                return Err(rules::fail(Fault::TopLevelName, detail));
            }
            (_, None) => reading.unknown(&name)?,
        }
    }
    let (name, value) = rules::only_one(found)?;
    let fields = rules::fields_of(name);
    Ok((name, node(name, value, fields, reading)?))
}

fn object(name: &str, value: Json) -> Result<Map<String, Json>, Error> {
    match value {
        Json::Object(members) => Ok(members),
        other => Err(wrong_type(name, "an object", &other)),
    }
}

fn wrong_type(name: &str, want: &str, found: &Json) -> Error {
    let detail = format!("{name} is {}, it must be {want}", type_name(found));
    rules::fail(Fault::WrongType, detail)
}

fn node(
    name: &str,
    value: Json,
    fields: &'static [Field],
    reading: &mut Reading<'_>,
) -> Result<Tree, Error> {
    let mut tree = Tree::default();
    for (member, value) in object(name, value)? {
        let Some(field) = fields.iter().find(|field| field.name == member) else {
            reading.unknown(&member)?;
            continue;
        };
        if value.is_null() && reading.tolerances.wrong_json_types {
            reading.odd("wrong-json-types", format!("{member} is null"));
            continue;
        }
        let value = read_value(field, value, reading)?;
        tree.0.push((member, value));
    }
    Ok(tree)
}

fn read_value(field: &Field, value: Json, reading: &mut Reading<'_>) -> Result<Value, Error> {
    let name = field.name;
    Ok(match field.kind {
        Kind::Text => Value::Leaf(text(name, value, reading)?),
        Kind::Number => Value::Leaf(number(name, value, reading)?),
        Kind::Identity => {
            let text = text(name, value, reading)?;
            // RFC 7951 section 6.8: the module's name may stand before an identity of the same
            // module.
            let bare = text
                .strip_prefix(MODULE)
                .and_then(|rest| rest.strip_prefix(':'));
            Value::Leaf(bare.unwrap_or(&text).to_owned())
        }
        Kind::LeafList => {
            let items = array(name, value, reading)?;
            let texts = items.into_iter().map(|item| text(name, item, reading));
            Value::Leaves(texts.collect::<Result<_, _>>()?)
        }
        Kind::Container(fields) => Value::Nodes(vec![node(name, value, fields, reading)?]),
        Kind::List(fields) => {
            let items = array(name, value, reading)?;
            let nodes = items
                .into_iter()
                .map(|item| node(name, item, fields, reading));
            Value::Nodes(nodes.collect::<Result<_, _>>()?)
        }
    })
}

fn array(name: &str, value: Json, reading: &mut Reading<'_>) -> Result<Vec<Json>, Error> {
    match value {
        Json::Array(items) => Ok(items),
        single if reading.tolerances.wrong_json_types => {
            reading.odd("wrong-json-types", format!("{name} is no array"));
            Ok(vec![single])
        }
        other => Err(wrong_type(name, "an array", &other)),
    }
}

fn text(name: &str, value: Json, reading: &mut Reading<'_>) -> Result<String, Error> {
    match value {
        Json::String(text) => Ok(text),
        Json::Number(number) if reading.tolerances.wrong_json_types => {
            reading.odd("wrong-json-types", format!("{name} is a number"));
            Ok(number.to_string())
        }
        other => Err(wrong_type(name, "a string", &other)),
    }
}

fn number(name: &str, value: Json, reading: &mut Reading<'_>) -> Result<String, Error> {
    match value {
        Json::Number(number) => Ok(number.to_string()),
        Json::String(text) if reading.tolerances.wrong_json_types => {
            reading.odd(
                "wrong-json-types",
                format!("{name} is the string \"{}\"", shown(&text)),
            );
            Ok(text)
        }
        other => Err(wrong_type(name, "a number", &other)),
    }
}

/// Writes a tree.
pub(super) fn write(name: &str, tree: Tree) -> Vec<u8> {
    let fields = rules::fields_of(name);
    let mut top = Map::new();
    top.insert(format!("{MODULE}:{name}"), written(tree, fields));
    Json::Object(top).to_string().into_bytes()
}

fn written(tree: Tree, fields: &'static [Field]) -> Json {
    let mut members = Map::new();
    for (name, value) in tree.0 {
        let Some(field) = fields.iter().find(|field| field.name == name) else {
            continue;
        };
        let json = match (value, &field.kind) {
            (Value::Leaf(text), Kind::Number) => text
                .parse::<u64>()
                .map_or(Json::String(text), |number| Json::Number(number.into())),
            (Value::Leaf(text), Kind::Identity) => Json::String(format!("{MODULE}:{text}")),
            (Value::Leaf(text), _) => Json::String(text),
            (Value::Leaves(texts), _) => texts.into_iter().map(Json::String).collect(),
            (Value::Nodes(nodes), Kind::List(fields)) => nodes
                .into_iter()
                .map(|node| written(node, fields))
                .collect(),
            (Value::Nodes(nodes), Kind::Container(fields)) => nodes
                .into_iter()
                .next()
                .map_or(Json::Null, |node| written(node, fields)),
            (Value::Nodes(_), _) => continue,
        };
        members.insert(name, json);
    }
    Json::Object(members)
}
