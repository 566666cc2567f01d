//! XML as RFC 7950 encodes YANG data: namespaces honoured, everything refused that a message
//! of data has no use for (document types, entities, processing instructions), bounded.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use quick_xml::events::{BytesStart, Event};
use quick_xml::name::PrefixDeclaration;

use artifacts::Encoding;

use crate::restconf::{Fault, RestconfError};
use crate::schema::{Element, Kind, Message, Module, Node, Reader, Type, Value};
use crate::value::{shown, yang_string};

/// Deepest nesting of elements.
pub(crate) const DEPTH_MAX: usize = 32;
/// Most elements of one document.
const ELEMENTS_COUNT_MAX: usize = 10_000;
/// Most attributes of one element, namespace declarations included.
const ATTRIBUTES_COUNT_MAX: usize = 16;
/// Longest namespace. Every element below has it, so a long one would take its length for each.
const NAMESPACE_LENGTH_MAX_BYTES: usize = 1024;

/// Writes one message.
pub(crate) fn write(node: &Node, root: &Element) -> Vec<u8> {
    let mut out = String::new();
    element(&mut out, node, root, None);
    out.into_bytes()
}

fn element(out: &mut String, node: &Node, element: &Element, parent: Option<Module>) {
    out.push('<');
    out.push_str(node.name);
    if parent != Some(node.module) {
        declare(out, None, node.module);
    }
    let mut content = String::new();
    match &element.value {
        Value::Empty | Value::UnknownIdentity => {}
        Value::Text(text) => escape(&mut content, &yang_string(text)),
        Value::Bytes(bytes) => content = STANDARD.encode(bytes),
        Value::Identity(name) => {
            // SZTP-7950-9.10.3-01: a QName with a prefix that is in scope.
            if let Kind::Leaf(Type::Identity(module, _))
            | Kind::LeafList(Type::Identity(module, _), ..) = node.kind
            {
                declare(out, Some(module.prefix()), module);
                content.push_str(module.prefix());
                content.push(':');
            }
            content.push_str(name);
        }
        Value::Path(path) => {
            let mut declared = Vec::new();
            for (module, _) in &path.0 {
                if !declared.contains(module) {
                    declare(out, Some(module.prefix()), *module);
                    declared.push(*module);
                }
            }
            escape(&mut content, &path.render(Encoding::Xml));
        }
        Value::Children(children) => {
            // SZTP-7950-7.14.4-01: in the order of the schema.
            for child in node.children() {
                for entry in children.iter().filter(|entry| entry.name == child.name) {
                    self::element(&mut content, child, entry, Some(node.module));
                }
            }
        }
    }
    if content.is_empty() {
        out.push_str("/>");
        return;
    }
    out.push('>');
    out.push_str(&content);
    out.push_str("</");
    out.push_str(node.name);
    out.push('>');
}

fn declare(out: &mut String, prefix: Option<&str>, module: Module) {
    out.push_str(" xmlns");
    if let Some(prefix) = prefix {
        out.push(':');
        out.push_str(prefix);
    }
    out.push_str("=\"");
    out.push_str(module.namespace());
    out.push('"');
}

/// Character data; a carriage return has to be a reference or readers take it for a line feed.
pub(crate) fn escape(out: &mut String, text: &str) {
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&apos;"),
            '\r' => out.push_str("&#13;"),
            c => out.push(c),
        }
    }
}

/// Reads one message.
pub(crate) fn read(
    message: &Message,
    text: &str,
    reader: &mut Reader<'_>,
) -> Result<Element, RestconfError> {
    let document = parse(text)?;
    let root = &message.root;
    if document.name != root.name {
        let detail = format!(
            "<{}> stands where <{}> belongs",
            shown(&document.name),
            root.name
        );
        let is_rpc = Some(document.name.as_str()) == message.rpc;
        reader.tolerate(
            is_rpc && reader.leniency.rpc_wrapper,
            "rpc-wrapper",
            Fault::WrongWrapper,
            detail,
        )?;
    }
    reader.within(root, |reader| {
        namespace(&document, root, reader)?;
        instance(root, document, reader)
    })
}

/// Checks that an element has its module's namespace.
fn namespace(xml: &Xml, node: &Node, reader: &mut Reader<'_>) -> Result<(), RestconfError> {
    let expected = node.module.namespace();
    if xml.namespace.as_deref() == Some(expected) {
        return Ok(());
    }
    let is_spelling = match xml.namespace.as_deref() {
        None => true,
        Some(found) => found.eq_ignore_ascii_case(expected),
    };
    let detail = format!(
        "<{}> has the namespace \"{}\"",
        node.name,
        shown(xml.namespace.as_deref().unwrap_or_default())
    );
    let is_tolerated = is_spelling && reader.leniency.namespace_spelling;
    reader.tolerate(
        is_tolerated,
        "namespace-spelling",
        Fault::UnknownNamespace,
        detail,
    )
}

fn instance(node: &Node, xml: Xml, reader: &mut Reader<'_>) -> Result<Element, RestconfError> {
    if let Some((attribute, _)) = xml.attributes.first() {
        let detail = format!(
            "the attribute \"{}\" of <{}> is not known",
            shown(attribute),
            node.name
        );
        let is_tolerated = reader.leniency.unknown_members;
        reader.tolerate(
            is_tolerated,
            "unknown-members",
            Fault::UnknownAttribute,
            detail,
        )?;
    }
    let value = match node.kind {
        Kind::Container(_) | Kind::List(..) => children(node, xml, false, reader)?,
        Kind::Any(_) => children(node, xml, true, reader)?,
        Kind::Leaf(kind) | Kind::LeafList(kind, ..) => leaf(node, kind, xml, reader)?,
    };
    Ok(Element::new(node.name, value))
}

fn children(
    node: &Node,
    xml: Xml,
    is_open: bool,
    reader: &mut Reader<'_>,
) -> Result<Value, RestconfError> {
    if !is_open && !xml.text.chars().all(is_blank) {
        let detail = format!("text between the elements of <{}>", node.name);
        return Err(reader.fail(Fault::WrongType, detail));
    }
    let mut elements: Vec<Element> = Vec::new();
    for entry in xml.children {
        let Some(child) = child(node, &entry, is_open, reader)? else {
            continue;
        };
        // SZTP-7950-7.14.4-01: any order is read.
        if !child.is_repeated() && elements.iter().any(|element| element.name == child.name) {
            let detail = format!("<{}> stands twice in <{}>", child.name, node.name);
            return Err(reader.fail(Fault::DuplicateMember, detail));
        }
        let element = reader.within(child, |reader| {
            if !is_open {
                namespace(&entry, child, reader)?;
            }
            instance(child, entry, reader)
        })?;
        elements.push(element);
    }
    reader.complete(node, &elements)?;
    Ok(Value::Children(elements))
}

/// The child that an element means; `None` for one that is passed over.
fn child(
    node: &Node,
    xml: &Xml,
    is_open: bool,
    reader: &mut Reader<'_>,
) -> Result<Option<&'static Node>, RestconfError> {
    let namespace = xml.namespace.as_deref();
    let mut named = node
        .children()
        .iter()
        .filter(|child| child.name == xml.name);
    if is_open {
        return Ok(named.find(|child| Some(child.module.namespace()) == namespace));
    }
    let known = namespace.and_then(Module::by_namespace);
    let found = match known {
        Some(module) => named.find(|child| child.module == module),
        // Another spelling of the namespace is judged by `namespace`.
        None => named.find(|child| {
            namespace.is_none_or(|found| found.eq_ignore_ascii_case(child.module.namespace()))
        }),
    };
    if found.is_some() {
        return Ok(found);
    }
    let detail = format!("<{}> is no child of <{}>", shown(&xml.name), node.name);
    let fault = if known.is_some() {
        Fault::UnknownElement
    } else {
        Fault::UnknownNamespace
    };
    let is_tolerated = reader.leniency.unknown_members;
    reader.tolerate(is_tolerated, "unknown-members", fault, detail)?;
    Ok(None)
}

fn leaf(
    node: &Node,
    kind: Type,
    xml: Xml,
    reader: &mut Reader<'_>,
) -> Result<Value, RestconfError> {
    if let Some(child) = xml.children.first() {
        let detail = format!("<{}> inside the leaf <{}>", shown(&child.name), node.name);
        return Err(reader.fail(Fault::WrongType, detail));
    }
    match kind {
        Type::Empty => {
            if !xml.text.is_empty() {
                let is_spelling = xml.text.chars().all(is_blank) || xml.text == "true";
                let detail = format!("\"{}\" in an empty leaf", shown(&xml.text));
                let is_tolerated = is_spelling && reader.leniency.empty_type;
                reader.tolerate(is_tolerated, "empty-type", Fault::WrongType, detail)?;
            }
            Ok(Value::Empty)
        }
        Type::Identity(expected, names) => {
            let (module, local) = match &xml.qname {
                Some((namespace, local)) => (
                    namespace.as_deref().and_then(Module::by_namespace),
                    local.as_str(),
                ),
                None => (None, xml.text.trim_matches(is_blank)),
            };
            // SZTP-7950-9.10.3-01: without a prefix the default namespace applies.
            if module != Some(expected) && !xml.text.contains(':') {
                let detail = format!("the identity \"{}\" has no prefix", shown(local));
                let is_tolerated = reader.leniency.identity_unqualified;
                reader.tolerate(
                    is_tolerated,
                    "identity-unqualified",
                    Fault::BadValue,
                    detail,
                )?;
                return reader.identity(Some(expected), local, expected, names);
            }
            reader.identity(module, local, expected, names)
        }
        _ => reader.scalar(kind, &xml.text),
    }
}

fn is_blank(c: char) -> bool {
    matches!(c, ' ' | '\t' | '\r' | '\n')
}

/// One element as it stands in the document.
#[derive(Debug, Default)]
pub(crate) struct Xml {
    pub(crate) namespace: Option<String>,
    pub(crate) name: String,
    /// All attributes but namespace declarations.
    pub(crate) attributes: Vec<(String, String)>,
    pub(crate) children: Vec<Self>,
    pub(crate) text: String,
    /// The text as a qualified name: its namespace and its local part.
    qname: Option<(Option<String>, String)>,
}

/// Namespace bindings, innermost last; an empty prefix is the default namespace.
type Scope = Vec<(String, String)>;

/// Longest text that is looked at as a qualified name.
const QNAME_LENGTH_MAX_BYTES: usize = 256;

/// Reads a document into a tree.
pub(crate) fn parse(text: &str) -> Result<Xml, RestconfError> {
    let mut source = quick_xml::Reader::from_str(text);
    source.config_mut().enable_all_checks(true);
    let mut parser = Parser::default();
    loop {
        let event = source
            .read_event()
            .map_err(|error| not_xml(format!("not XML: {error}")))?;
        match event {
            Event::Start(start) => parser.open(&start)?,
            Event::Empty(start) => {
                parser.open(&start)?;
                parser.close()?;
            }
            Event::End(_) => parser.close()?,
            Event::Text(text) => parser.text(&text.xml10_content())?,
            Event::CData(text) => {
                if parser.open.is_empty() {
                    return Err(not_xml("CDATA outside the outermost element"));
                }
                parser.text(&text.xml10_content())?;
            }
            Event::GeneralRef(reference) => {
                let c = match reference.resolve_char_ref() {
                    Ok(Some(c)) => c,
                    Ok(None) => predefined(&reference)?,
                    Err(error) => return Err(not_xml(format!("not XML: {error}"))),
                };
                if parser.open.is_empty() {
                    return Err(not_xml("text outside the outermost element"));
                }
                let mut buffer = [0; 4];
                parser.text(c.encode_utf8(&mut buffer))?;
            }
            Event::Comment(_) => {}
            Event::Decl(declaration) => {
                if parser.is_begun {
                    return Err(not_xml("an XML declaration that is not at the beginning"));
                }
                // SZTP-8040-5.2-01: messages are UTF-8.
                let encoding = declaration.encoding();
                let is_utf8 = match &encoding {
                    None => true,
                    Some(Ok(name)) => name.eq_ignore_ascii_case("utf-8"),
                    Some(Err(_)) => false,
                };
                if !is_utf8 {
                    let detail = "the XML declaration names another encoding than UTF-8";
                    return Err(RestconfError::new(Fault::NotUtf8, detail));
                }
            }
            Event::DocType(_) => {
                let detail = "a document type has no place in a message";
                return Err(RestconfError::new(Fault::Doctype, detail));
            }
            Event::PI(_) => {
                let detail = "a processing instruction has no place in a message";
                return Err(RestconfError::new(Fault::Doctype, detail));
            }
            Event::Eof => break,
        }
        parser.is_begun = true;
    }
    if !parser.open.is_empty() {
        return Err(not_xml("the document ends inside an element"));
    }
    parser.root.ok_or_else(|| not_xml("there is no element"))
}

fn not_xml(detail: impl Into<String>) -> RestconfError {
    RestconfError::new(Fault::NotXml, detail)
}

fn predefined(name: &str) -> Result<char, RestconfError> {
    match name {
        "amp" => Ok('&'),
        "lt" => Ok('<'),
        "gt" => Ok('>'),
        "quot" => Ok('"'),
        "apos" => Ok('\''),
        other => {
            let detail = format!("the entity \"{}\" is not known", shown(other));
            Err(RestconfError::new(Fault::Doctype, detail))
        }
    }
}

#[derive(Default)]
struct Parser {
    root: Option<Xml>,
    /// Elements that are not closed yet, each with how many bindings were in scope outside.
    open: Vec<(Xml, usize)>,
    scope: Scope,
    elements: usize,
    is_begun: bool,
}

impl Parser {
    fn open(&mut self, start: &BytesStart<'_>) -> Result<(), RestconfError> {
        self.elements += 1;
        if self.elements > ELEMENTS_COUNT_MAX {
            let detail = format!("more than {ELEMENTS_COUNT_MAX} elements");
            return Err(RestconfError::new(Fault::TooMany, detail));
        }
        if self.open.len() == DEPTH_MAX {
            let detail = format!("nested over {DEPTH_MAX} deep");
            return Err(RestconfError::new(Fault::TooDeep, detail));
        }
        if self.root.is_some() {
            return Err(not_xml("a second outermost element"));
        }
        let bindings = self.scope.len();
        let mut attributes = Vec::new();
        for (count, attribute) in start.attributes().enumerate() {
            let attribute = attribute.map_err(|error| not_xml(format!("not XML: {error}")))?;
            if count == ATTRIBUTES_COUNT_MAX {
                let detail = format!("more than {ATTRIBUTES_COUNT_MAX} attributes of one element");
                return Err(RestconfError::new(Fault::TooMany, detail));
            }
            let value = quick_xml::escape::unescape(&attribute.value)
                .map_err(|error| not_xml(format!("not XML: {error}")))?
                .into_owned();
            let Some(declaration) = attribute.key.as_namespace_binding() else {
                attributes.push((attribute.key.into_inner().to_owned(), value));
                continue;
            };
            let prefix = match declaration {
                PrefixDeclaration::Default => "",
                PrefixDeclaration::Named("" | "xml" | "xmlns") => {
                    return Err(not_xml("a namespace prefix that may not be declared"));
                }
                PrefixDeclaration::Named(_) if value.is_empty() => {
                    return Err(not_xml("a namespace prefix without a namespace"));
                }
                PrefixDeclaration::Named(prefix) => prefix,
            };
            if value.len() > NAMESPACE_LENGTH_MAX_BYTES {
                let detail = format!("a namespace over {NAMESPACE_LENGTH_MAX_BYTES} octets");
                return Err(RestconfError::new(Fault::TooLarge, detail));
            }
            self.scope.push((prefix.to_owned(), value));
        }
        let (namespace, name) = self.resolve(start.name().into_inner())?;
        let element = Xml {
            namespace,
            name: name.to_owned(),
            attributes,
            ..Xml::default()
        };
        self.open.push((element, bindings));
        Ok(())
    }

    fn close(&mut self) -> Result<(), RestconfError> {
        let Some((mut element, bindings)) = self.open.pop() else {
            return Err(not_xml("an end tag without its start tag"));
        };
        let text = element.text.trim_matches(is_blank);
        if element.children.is_empty() && text.len() <= QNAME_LENGTH_MAX_BYTES {
            // A leaf that is no identity may hold a colon too; only identities look at this.
            let qname = self.resolve(text).ok();
            element.qname = qname.map(|(namespace, local)| (namespace, local.to_owned()));
        }
        self.scope.truncate(bindings);
        match self.open.last_mut() {
            Some((parent, _)) => parent.children.push(element),
            None => self.root = Some(element),
        }
        Ok(())
    }

    fn text(&mut self, text: &str) -> Result<(), RestconfError> {
        if let Some((element, _)) = self.open.last_mut() {
            element.text.push_str(text);
            return Ok(());
        }
        if text.chars().all(is_blank) {
            return Ok(());
        }
        Err(not_xml("text outside the outermost element"))
    }

    /// The namespace and the local part of a name.
    fn resolve<'n>(&self, name: &'n str) -> Result<(Option<String>, &'n str), RestconfError> {
        let (prefix, local) = match name.split_once(':') {
            Some((prefix, local)) if !prefix.is_empty() => (prefix, local),
            Some(_) => return Err(not_xml("a name with an empty prefix")),
            None => ("", name),
        };
        let binding = self.scope.iter().rev().find(|(known, _)| known == prefix);
        match binding {
            Some((_, namespace)) if namespace.is_empty() => Ok((None, local)),
            Some((_, namespace)) => Ok((Some(namespace.clone()), local)),
            None if prefix.is_empty() => Ok((None, local)),
            None => {
                let detail = format!("the prefix \"{}\" has no namespace", shown(prefix));
                Err(RestconfError::new(Fault::UnknownNamespace, detail))
            }
        }
    }
}
