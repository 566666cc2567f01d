//! The two encodings of data that a YANG module models.

use std::fmt;

/// JSON ([RFC 7951](https://www.rfc-editor.org/rfc/rfc7951.html)) or XML
/// ([RFC 7950](https://www.rfc-editor.org/rfc/rfc7950.html)).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Encoding {
    /// JSON.
    Json,
    /// XML.
    Xml,
}

impl Encoding {
    /// Both.
    pub const ALL: [Self; 2] = [Self::Json, Self::Xml];

    /// A short name: `json` or `xml`.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Json => "json",
            Self::Xml => "xml",
        }
    }
}

impl fmt::Display for Encoding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Json => "JSON",
            Self::Xml => "XML",
        })
    }
}
