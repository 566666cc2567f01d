//! The link format, [RFC 6690](https://www.rfc-editor.org/rfc/rfc6690.html): what a server has,
//! for `/.well-known/core`.

use std::fmt::{self, Write as _};

use crate::Error;

/// The media type's number: `application/link-format`.
pub const CONTENT_FORMAT: u16 = 40;
/// Links in one document that we read.
pub const LINKS_MAX: usize = 256;
/// Attributes of one link that we read.
pub const ATTRIBUTES_MAX: usize = 32;
/// Attributes whose value is a list with spaces between.
const LISTS: [&str; 4] = ["rt", "if", "rel", "ct"];

/// A link with its attributes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Link {
    /// Where it leads: a URI or a reference, as it stands between the angle brackets.
    pub target: String,
    /// Attributes in their order; one without a value has `None`.
    pub attributes: Vec<(String, Option<String>)>,
}

impl Link {
    /// A link without attributes.
    #[must_use]
    pub fn new(target: &str) -> Self {
        Self {
            target: target.to_owned(),
            attributes: Vec::new(),
        }
    }

    /// The same link with one more attribute.
    #[must_use]
    pub fn with(mut self, name: &str, value: &str) -> Self {
        self.attributes
            .push((name.to_owned(), Some(value.to_owned())));
        self
    }

    /// The first value of an attribute; names do not differ by case. An attribute without a value
    /// reads as empty.
    #[must_use]
    pub fn attribute(&self, name: &str) -> Option<&str> {
        self.attributes
            .iter()
            .find(|(known, _)| known.eq_ignore_ascii_case(name))
            .map(|(_, value)| value.as_deref().unwrap_or_default())
    }

    /// Whether the link is of this resource type; `rt` can hold several.
    #[must_use]
    pub fn is_of_type(&self, resource_type: &str) -> bool {
        self.attribute("rt")
            .is_some_and(|types| types.split(' ').any(|one| one == resource_type))
    }

    /// Whether the link passes a query such as `rt=brski*`,
    /// [RFC 6690 §4.1](https://www.rfc-editor.org/rfc/rfc6690.html#section-4.1). A star at the end
    /// stands for anything. A query without `=` passes nothing.
    #[must_use]
    pub fn matches(&self, query: &str) -> bool {
        let Some((name, wanted)) = query.split_once('=') else {
            return false;
        };
        let wanted = wanted
            .strip_prefix('"')
            .and_then(|inner| inner.strip_suffix('"'))
            .unwrap_or(wanted);
        let fits = |value: &str| match wanted.strip_suffix('*') {
            Some(prefix) => value.starts_with(prefix),
            None => value == wanted,
        };
        if name == "href" {
            return fits(&self.target);
        }
        // COA-045: rt/if/rel match per space-separated value. So do the numbers of ct.
        let list = LISTS.iter().any(|list| list.eq_ignore_ascii_case(name));
        self.attributes
            .iter()
            .filter(|(known, _)| known.eq_ignore_ascii_case(name))
            .map(|(_, value)| value.as_deref().unwrap_or_default())
            .any(|value| {
                if list {
                    value.split(' ').any(fits)
                } else {
                    fits(value)
                }
            })
    }
}

impl fmt::Display for Link {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "<{}>", self.target)?;
        for (name, value) in &self.attributes {
            write!(f, ";{name}")?;
            let Some(value) = value else {
                continue;
            };
            let number = !value.is_empty() && value.bytes().all(|byte| byte.is_ascii_digit());
            if number {
                write!(f, "={value}")?;
                continue;
            }
            f.write_str("=\"")?;
            for character in value.chars() {
                if matches!(character, '"' | '\\') {
                    f.write_char('\\')?;
                }
                f.write_char(character)?;
            }
            f.write_char('"')?;
        }
        Ok(())
    }
}

/// Writes a document.
#[must_use]
pub fn encode(links: &[Link]) -> String {
    links
        .iter()
        .map(ToString::to_string)
        .collect::<Vec<_>>()
        .join(",")
}

/// Reads a document. White space around links is passed over, though the format has none.
///
/// # Errors
/// [`Error::Link`] with the place of the mistake.
pub fn decode(document: &str) -> Result<Vec<Link>, Error> {
    let mut reader = Reader {
        text: document,
        at: 0,
    };
    let mut links = Vec::new();
    reader.skip_space();
    if reader.rest().is_empty() {
        return Ok(links);
    }
    loop {
        if links.len() == LINKS_MAX {
            return Err(reader.error("more than 256 links"));
        }
        links.push(reader.link()?);
        reader.skip_space();
        if reader.rest().is_empty() {
            return Ok(links);
        }
        reader.expect(',', "a comma between links")?;
        reader.skip_space();
    }
}

struct Reader<'a> {
    text: &'a str,
    at: usize,
}

impl<'a> Reader<'a> {
    fn rest(&self) -> &'a str {
        self.text.get(self.at..).unwrap_or_default()
    }

    const fn error(&self, cause: &'static str) -> Error {
        Error::Link { at: self.at, cause }
    }

    fn skip_space(&mut self) {
        let rest = self.rest();
        self.at += rest.len() - rest.trim_start_matches([' ', '\t', '\r', '\n']).len();
    }

    fn take(&mut self, character: char) -> bool {
        let found = self.rest().starts_with(character);
        if found {
            self.at += character.len_utf8();
        }
        found
    }

    fn expect(&mut self, character: char, cause: &'static str) -> Result<(), Error> {
        if self.take(character) {
            Ok(())
        } else {
            Err(self.error(cause))
        }
    }

    /// Everything before the first of these characters, or the end.
    fn until(&mut self, ends: &[char]) -> &'a str {
        let rest = self.rest();
        let length = rest.find(ends).unwrap_or(rest.len());
        self.at += length;
        rest.get(..length).unwrap_or_default()
    }

    fn link(&mut self) -> Result<Link, Error> {
        self.expect('<', "a link begins with <")?;
        // COA-048: relative/absolute URI references incl. empty <>.
        let target = self.until(&['>', '<']).to_owned();
        self.expect('>', "a link's target ends with >")?;
        let mut link = Link {
            target,
            attributes: Vec::new(),
        };
        while self.take(';') {
            if link.attributes.len() == ATTRIBUTES_MAX {
                return Err(self.error("more than 32 attributes"));
            }
            let name = self.until(&['=', ';', ',', ' ', '"']).to_owned();
            if name.is_empty() {
                return Err(self.error("an attribute has no name"));
            }
            let value = if self.take('=') {
                Some(self.value()?)
            } else {
                None
            };
            link.attributes.push((name, value));
        }
        Ok(link)
    }

    fn value(&mut self) -> Result<String, Error> {
        if !self.take('"') {
            return Ok(self.until(&[';', ',', ' ', '"']).to_owned());
        }
        let mut value = String::new();
        loop {
            let mut characters = self.rest().chars();
            let Some(mut character) = characters.next() else {
                return Err(self.error("a quoted value does not end"));
            };
            self.at += character.len_utf8();
            if character == '"' {
                return Ok(value);
            }
            if character == '\\' {
                character = characters
                    .next()
                    .ok_or_else(|| self.error("a quoted value does not end"))?;
                self.at += character.len_utf8();
            }
            value.push(character);
        }
    }
}
