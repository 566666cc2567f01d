//! A bounded reader of XML documents for data that a YANG module models (RFC 7950): elements,
//! namespaces and text. Document type declarations and entities are refused, so nothing expands
//! and nothing is fetched.

use quick_xml::NsReader;
use quick_xml::events::{BytesRef, BytesStart, Event};
use quick_xml::name::{QName, ResolveResult};

use crate::error::{Document, Error, Fault};
use crate::json::shown;

/// Deepest nesting of elements.
const XML_DEPTH_MAX: usize = 32;
/// Most elements in one document.
const XML_ELEMENTS_MAX: usize = 20_000;
/// Most attributes, namespace declarations included, of one element.
const XML_ATTRIBUTES_MAX: usize = 32;
/// Longest namespace. Every element below has it, so a long one would take its length for each.
const XML_NAMESPACE_LENGTH_MAX_BYTES: usize = 1024;

/// An element with what is in it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Element {
    /// Its name without prefix.
    pub(crate) name: String,
    /// Its namespace; empty when it has none.
    pub(crate) namespace: String,
    /// Its text, the children's left out.
    pub(crate) text: String,
    /// When the text is a qualified name whose prefix is declared: its namespace.
    pub(crate) text_namespace: Option<String>,
    /// The names of attributes that declare no namespace.
    pub(crate) attributes: Vec<String>,
    /// The elements in it.
    pub(crate) children: Vec<Self>,
}

/// Reads one document and gives its root.
pub(crate) fn parse(
    document: Document,
    bytes: &[u8],
    size_max_bytes: usize,
) -> Result<Element, Error> {
    let fail = |fault, detail: String| Error::new(document, fault, detail);
    if bytes.len() > size_max_bytes {
        let detail = format!(
            "{} octets of XML, the limit is {size_max_bytes}",
            bytes.len()
        );
        return Err(fail(Fault::TooLarge, detail));
    }
    let text = std::str::from_utf8(bytes)
        .map_err(|error| fail(Fault::NotUtf8, format!("the XML is not UTF-8: {error}")))?;
    let mut reader = NsReader::from_str(text);
    let config = reader.config_mut();
    config.enable_all_checks(true);
    config.expand_empty_elements = true;
    let mut builder = Builder {
        document,
        open: Vec::new(),
        root: None,
        elements: 0,
    };
    loop {
        let event = match reader.read_event() {
            Ok(event) => event,
            Err(error) => {
                let detail = format!("not XML: {}", shown(&error.to_string()));
                return Err(fail(Fault::NotXml, detail));
            }
        };
        match event {
            Event::Start(start) => {
                let namespace = match reader.resolver().resolve_element(start.name()).0 {
                    ResolveResult::Bound(namespace) => namespace.0.to_owned(),
                    ResolveResult::Unbound => String::new(),
                    ResolveResult::Unknown(prefix) => {
                        let detail = format!("the prefix {} is not declared", shown(&prefix));
                        return Err(fail(Fault::NotXml, detail));
                    }
                };
                builder.start(&start, namespace)?;
            }
            Event::End(_) => {
                builder.resolve_text(|prefix| {
                    let resolver = reader.resolver();
                    match resolver.resolve_prefix(prefix, true) {
                        ResolveResult::Bound(namespace) => Some(namespace.0.to_owned()),
                        ResolveResult::Unbound | ResolveResult::Unknown(_) => None,
                    }
                });
                builder.end();
            }
            Event::Text(text) => {
                let text = text.xml10_content();
                builder.text(&text)?;
            }
            Event::CData(data) => {
                let text = data.xml10_content();
                builder.text(&text)?;
            }
            Event::GeneralRef(reference) => {
                let text = builder.reference(&reference)?;
                builder.text(&text)?;
            }
            Event::DocType(_) => {
                let detail = "it has a document type declaration".to_owned();
                return Err(fail(Fault::XmlDoctype, detail));
            }
            Event::PI(_) => {
                let detail = "it has a processing instruction".to_owned();
                return Err(fail(Fault::NotXml, detail));
            }
            Event::Decl(_) | Event::Comment(_) | Event::Empty(_) => {}
            Event::Eof => break,
        }
    }
    builder.finish()
}

struct Builder {
    document: Document,
    open: Vec<Element>,
    root: Option<Element>,
    elements: usize,
}

impl Builder {
    fn fail(&self, fault: Fault, detail: impl Into<String>) -> Error {
        Error::new(self.document, fault, detail)
    }

    fn start(&mut self, start: &BytesStart<'_>, namespace: String) -> Result<(), Error> {
        if self.root.is_some() {
            return Err(self.fail(Fault::NotXml, "it has a second root element"));
        }
        if self.open.len() == XML_DEPTH_MAX {
            let detail = format!("nested over {XML_DEPTH_MAX} deep");
            return Err(self.fail(Fault::TooDeep, detail));
        }
        self.elements += 1;
        if self.elements > XML_ELEMENTS_MAX {
            let detail = format!("over {XML_ELEMENTS_MAX} elements");
            return Err(self.fail(Fault::TooLarge, detail));
        }
        let mut attributes = Vec::new();
        for (count, attribute) in start.attributes().enumerate() {
            if count == XML_ATTRIBUTES_MAX {
                let detail = format!("over {XML_ATTRIBUTES_MAX} attributes");
                return Err(self.fail(Fault::TooLarge, detail));
            }
            let attribute = attribute.map_err(|error| {
                self.fail(
                    Fault::NotXml,
                    format!("not XML: {}", shown(&error.to_string())),
                )
            })?;
            if attribute.key.as_namespace_binding().is_none() {
                attributes.push(attribute.key.into_inner().to_owned());
            } else if attribute.value.len() > XML_NAMESPACE_LENGTH_MAX_BYTES {
                let detail = format!("a namespace over {XML_NAMESPACE_LENGTH_MAX_BYTES} octets");
                return Err(self.fail(Fault::TooLarge, detail));
            }
        }
        self.open.push(Element {
            name: start.local_name().into_inner().to_owned(),
            namespace,
            attributes,
            ..Element::default()
        });
        Ok(())
    }

    fn text(&mut self, text: &str) -> Result<(), Error> {
        if let Some(wrong) = text.chars().find(|c| !is_xml_char(*c)) {
            let detail = format!("U+{:04X} is no character of XML", u32::from(wrong));
            return Err(self.fail(Fault::NotXml, detail));
        }
        match self.open.last_mut() {
            Some(element) => element.text.push_str(text),
            None if text.trim().is_empty() => {}
            None => return Err(self.fail(Fault::NotXml, "text outside of the root element")),
        }
        Ok(())
    }

    /// Character references and the five entities that every XML document has.
    fn reference(&self, reference: &BytesRef<'_>) -> Result<String, Error> {
        match reference.resolve_char_ref() {
            Ok(Some(character)) => return Ok(character.to_string()),
            Ok(None) => {}
            Err(error) => {
                let detail = format!("not XML: {}", shown(&error.to_string()));
                return Err(self.fail(Fault::NotXml, detail));
            }
        }
        let name = reference.xml10_content();
        match name.as_ref() {
            "amp" => Ok("&".to_owned()),
            "lt" => Ok("<".to_owned()),
            "gt" => Ok(">".to_owned()),
            "quot" => Ok("\"".to_owned()),
            "apos" => Ok("'".to_owned()),
            other => {
                let detail = format!("it has the entity reference &{};", shown(other));
                Err(self.fail(Fault::XmlEntity, detail))
            }
        }
    }

    /// Notes the namespace of a text that is a qualified name.
    fn resolve_text(
        &mut self,
        resolve: impl Fn(Option<quick_xml::name::Prefix<'_>>) -> Option<String>,
    ) {
        if let Some(element) = self.open.last_mut()
            && element.children.is_empty()
            && element.text.len() <= 256
        {
            element.text_namespace = resolve(QName(&element.text).prefix());
        }
    }

    fn end(&mut self) {
        let Some(element) = self.open.pop() else {
            return;
        };
        match self.open.last_mut() {
            Some(parent) => parent.children.push(element),
            None => self.root = Some(element),
        }
    }

    fn finish(self) -> Result<Element, Error> {
        if !self.open.is_empty() {
            return Err(self.fail(Fault::NotXml, "it ends within an element"));
        }
        let missing = Error::new(self.document, Fault::NotXml, "it has no root element");
        self.root.ok_or(missing)
    }
}

/// The Char production of XML 1.0.
pub(crate) fn is_xml_char(c: char) -> bool {
    matches!(c, '\t' | '\n' | '\r' | '\u{20}'..='\u{d7ff}' | '\u{e000}'..='\u{fffd}' | '\u{10000}'..)
}

/// Appends text with what XML reserves written as references, and what a reader would not get
/// back as it was.
pub(crate) fn push_escaped(out: &mut String, text: &str) {
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\r' => out.push_str("&#13;"),
            other => out.push(other),
        }
    }
}
