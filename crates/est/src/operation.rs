//! The operations and their paths.

/// One of the operations of RFC 7030.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Operation {
    /// `GET /cacerts`
    CaCerts,
    /// `GET /csrattrs`
    CsrAttrs,
    /// `POST /fullcmc`
    FullCmc,
    /// `POST /serverkeygen`
    ServerKeyGen,
    /// `POST /simpleenroll`
    SimpleEnroll,
    /// `POST /simplereenroll`
    SimpleReenroll,
}

impl Operation {
    /// All operations.
    pub const ALL: [Self; 6] = [
        Self::CaCerts,
        Self::CsrAttrs,
        Self::FullCmc,
        Self::ServerKeyGen,
        Self::SimpleEnroll,
        Self::SimpleReenroll,
    ];

    /// The last segment of the path.
    #[must_use]
    pub const fn segment(self) -> &'static str {
        match self {
            Self::CaCerts => "cacerts",
            Self::CsrAttrs => "csrattrs",
            Self::FullCmc => "fullcmc",
            Self::ServerKeyGen => "serverkeygen",
            Self::SimpleEnroll => "simpleenroll",
            Self::SimpleReenroll => "simplereenroll",
        }
    }

    /// The operation of a path's last segment.
    #[must_use]
    pub fn from_segment(segment: &str) -> Option<Self> {
        Self::ALL
            .into_iter()
            .find(|operation| operation.segment() == segment)
    }

    /// The method that the operation is asked by.
    #[must_use]
    pub const fn method(self) -> &'static str {
        match self {
            Self::CaCerts | Self::CsrAttrs => "GET",
            Self::FullCmc | Self::ServerKeyGen | Self::SimpleEnroll | Self::SimpleReenroll => {
                "POST"
            }
        }
    }
}

const PREFIX: &str = "/.well-known/est/";

/// The path of an operation, with or without a CA label.
#[must_use]
pub fn path(label: Option<&str>, operation: Operation) -> String {
    match label {
        Some(label) => format!("{PREFIX}{label}/{}", operation.segment()),
        None => format!("{PREFIX}{}", operation.segment()),
    }
}

/// Takes a path apart into label and operation. A label is never the name of an operation
/// ([RFC 7030 §3.2.2](https://www.rfc-editor.org/rfc/rfc7030.html#section-3.2.2)).
#[must_use]
pub fn split_path(path: &str) -> Option<(Option<&str>, Operation)> {
    let rest = path.strip_prefix(PREFIX)?;
    match rest.split_once('/') {
        None => Some((None, Operation::from_segment(rest)?)),
        Some((label, segment)) => {
            let operation = Operation::from_segment(segment)?;
            // EST-3.2.2-03: the label "cannot be the same as any operation path segment".
            if label.is_empty() || Operation::from_segment(label).is_some() {
                return None;
            }
            Some((Some(label), operation))
        }
    }
}
