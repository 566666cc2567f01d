//! Requests and responses as an application sees them: whole, however many messages they took.

use crate::{Code, Message, option};

/// Short numbers for paths, draft-ietf-core-uri-path-abbrev §2.1.
///
/// A server that knows a value also serves the path that it stands for.
#[derive(Clone, Copy, Debug, Default)]
pub struct Abbreviations(());

impl Abbreviations {
    const KNOWN: &'static [(u32, &'static str)] = &[
        (0, ".well-known/core"),
        (1, ".well-known/rd"),
        (2, ".well-known/edhoc"),
        (301, ".well-known/est/crts"),
        (302, ".well-known/est/sen"),
        (303, ".well-known/est/sren"),
        (304, ".well-known/est/skg"),
        (305, ".well-known/est/skc"),
        (306, ".well-known/est/att"),
        (401, ".well-known/brski/es"),
        (402, ".well-known/brski/rv"),
        (403, ".well-known/brski/vs"),
    ];

    /// The path of a value, without a slash in front.
    #[must_use]
    pub fn path(value: u32) -> Option<&'static str> {
        Self::KNOWN
            .iter()
            .find(|(known, _)| *known == value)
            .map(|(_, path)| *path)
    }

    /// The value of a path without a slash in front.
    #[must_use]
    pub fn value(path: &str) -> Option<u32> {
        Self::KNOWN
            .iter()
            .find(|(_, known)| *known == path)
            .map(|(value, _)| *value)
    }
}

/// A request.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Request {
    /// The method; `None` reads as GET.
    pub method: Option<Code>,
    /// Segments of the path.
    pub path: Vec<String>,
    /// Arguments of the query.
    pub query: Vec<String>,
    /// Media type of the payload, by its number.
    pub content_format: Option<u16>,
    /// Media type that is wanted, by its number.
    pub accept: Option<u16>,
    /// What the client has already.
    pub etags: Vec<Vec<u8>>,
    /// The name that the client asked for.
    pub host: Option<String>,
    /// The whole body.
    pub payload: Vec<u8>,
    /// Whether it was, or is to be, sent unreliably.
    pub non_confirmable: bool,
    /// Whether its path was, or is to be, sent as a number.
    pub abbreviated: bool,
    /// Echo value, given back to prove that the peer is reachable.
    pub echo: Option<Vec<u8>>,
    /// Size of the block to ask for or that the client asked for, as exponent (0 to 6).
    pub block_exponent: Option<u8>,
    /// Whether the client wants to know the size of the response.
    pub size_wanted: bool,
}

impl Request {
    /// GET of a path such as `.well-known/core`.
    #[must_use]
    pub fn get(path: &str) -> Self {
        Self {
            method: Some(Code::GET),
            path: segments(path),
            ..Self::default()
        }
    }

    /// POST of a body to a path.
    #[must_use]
    pub fn post(path: &str, content_format: u16, payload: impl Into<Vec<u8>>) -> Self {
        Self {
            method: Some(Code::POST),
            path: segments(path),
            content_format: Some(content_format),
            payload: payload.into(),
            ..Self::default()
        }
    }

    /// The method.
    #[must_use]
    pub fn code(&self) -> Code {
        self.method.unwrap_or(Code::GET)
    }

    /// The path with slashes between its segments and none in front.
    #[must_use]
    pub fn path(&self) -> String {
        self.path.join("/")
    }

    /// Options but those of block-wise transfer.
    pub(crate) fn write(&self, message: &mut Message) {
        if let Some(host) = &self.host {
            message.add(option::URI_HOST, host.as_bytes());
        }
        let value = self
            .abbreviated
            .then(|| Abbreviations::value(&self.path()))
            .flatten();
        match value {
            Some(value) => message.add_uint(option::URI_PATH_ABBREV, value),
            None => {
                for segment in &self.path {
                    message.add(option::URI_PATH, segment.as_bytes());
                }
            }
        }
        for argument in &self.query {
            message.add(option::URI_QUERY, argument.as_bytes());
        }
        if let Some(format) = self.content_format {
            message.add_uint(option::CONTENT_FORMAT, u32::from(format));
        }
        if let Some(format) = self.accept {
            message.add_uint(option::ACCEPT, u32::from(format));
        }
        for etag in &self.etags {
            message.add(option::ETAG, etag.as_slice());
        }
        if let Some(echo) = &self.echo {
            message.add(option::ECHO, echo.as_slice());
        }
        if self.size_wanted {
            message.add_uint(option::SIZE2, 0);
        }
    }

    /// Reads a message whose options were understood. The error is the response to give.
    pub(crate) fn read(message: &Message, payload: Vec<u8>) -> Result<Self, Response> {
        // COA-083: Proxy-Uri/Proxy-Scheme requests are refused with 5.05.
        if message.value(option::PROXY_URI).is_some()
            || message.value(option::PROXY_SCHEME).is_some()
        {
            return Err(Response::diagnostic(
                Code::PROXYING_NOT_SUPPORTED,
                "this is no proxy",
            ));
        }
        let mut path = Vec::new();
        for segment in message.values(option::URI_PATH) {
            match std::str::from_utf8(segment) {
                // COA-031: Uri-Path options are compared byte-exact per segment; "." and ".."
                // segments are not allowed; empty segment significant.
                Ok("." | "..") => {
                    return Err(Response::diagnostic(
                        Code::BAD_OPTION,
                        "Uri-Path is a dot segment",
                    ));
                }
                Ok(segment) => path.push(segment.to_owned()),
                Err(_) => {
                    return Err(Response::diagnostic(
                        Code::BAD_OPTION,
                        "Uri-Path is not UTF-8",
                    ));
                }
            }
        }
        let abbreviated = message.uint(option::URI_PATH_ABBREV);
        if let Some(value) = abbreviated {
            // COA-079: Uri-Path and Uri-Path-Abbrev in one request: 4.02.
            if !path.is_empty() && !defects::seeded!("coap-takes-path-and-number") {
                return Err(Response::diagnostic(
                    Code::BAD_OPTION,
                    "Uri-Path and Uri-Path-Abbrev exclude each other",
                ));
            }
            // COA-078: Unknown value gives 4.02, never 4.04.
            let Some(known) = Abbreviations::path(value) else {
                return Err(Response::diagnostic(
                    Code::BAD_OPTION,
                    "Uri-Path-Abbrev has an unknown value",
                ));
            };
            path = segments(known);
        }
        let text = |value: &[u8]| String::from_utf8(value.to_vec());
        let query = message
            .values(option::URI_QUERY)
            .map(text)
            .collect::<Result<Vec<_>, _>>()
            .map_err(|_| Response::diagnostic(Code::BAD_OPTION, "Uri-Query is not UTF-8"))?;
        let host = message
            .value(option::URI_HOST)
            .map(text)
            .transpose()
            .map_err(|_| Response::diagnostic(Code::BAD_OPTION, "Uri-Host is not UTF-8"))?;
        Ok(Self {
            method: Some(message.code),
            path,
            query,
            content_format: format(message, option::CONTENT_FORMAT),
            accept: format(message, option::ACCEPT),
            etags: message.values(option::ETAG).map(<[u8]>::to_vec).collect(),
            host,
            payload,
            non_confirmable: message.kind == crate::Kind::NonConfirmable,
            abbreviated: abbreviated.is_some(),
            echo: message.value(option::ECHO).map(<[u8]>::to_vec),
            block_exponent: None,
            size_wanted: message.uint(option::SIZE2) == Some(0),
        })
    }
}

/// A response.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Response {
    /// What came of it.
    pub code: Code,
    /// Media type of the payload, by its number.
    pub content_format: Option<u16>,
    /// Version of the representation.
    pub etag: Option<Vec<u8>>,
    /// How long it holds, or in 5.03 how long to wait, in seconds.
    pub max_age: Option<u32>,
    /// In 4.13: the largest body that is taken, in bytes.
    pub size1: Option<u32>,
    /// In 4.01: the value to come back with.
    pub echo: Option<Vec<u8>>,
    /// Where a created resource is.
    pub location_path: Vec<String>,
    /// The whole body.
    pub payload: Vec<u8>,
}

impl Response {
    /// A response without a body.
    #[must_use]
    pub const fn new(code: Code) -> Self {
        Self {
            code,
            content_format: None,
            etag: None,
            max_age: None,
            size1: None,
            echo: None,
            location_path: Vec::new(),
            payload: Vec::new(),
        }
    }

    /// A response with a body.
    #[must_use]
    pub fn content(code: Code, content_format: u16, payload: impl Into<Vec<u8>>) -> Self {
        Self {
            content_format: Some(content_format),
            payload: payload.into(),
            ..Self::new(code)
        }
    }

    /// An error with a text for people,
    /// [RFC 7252 §5.5.2](https://www.rfc-editor.org/rfc/rfc7252.html#section-5.5.2).
    #[must_use]
    pub fn diagnostic(code: Code, text: &str) -> Self {
        Self {
            payload: text.as_bytes().to_vec(),
            ..Self::new(code)
        }
    }

    /// Options but those of block-wise transfer.
    pub(crate) fn write(&self, message: &mut Message) {
        if let Some(format) = self.content_format {
            message.add_uint(option::CONTENT_FORMAT, u32::from(format));
        }
        if let Some(etag) = &self.etag {
            message.add(option::ETAG, etag.as_slice());
        }
        if let Some(seconds) = self.max_age {
            message.add_uint(option::MAX_AGE, seconds);
        }
        if let Some(size) = self.size1 {
            message.add_uint(option::SIZE1, size);
        }
        if let Some(echo) = &self.echo {
            message.add(option::ECHO, echo.as_slice());
        }
        for segment in &self.location_path {
            message.add(option::LOCATION_PATH, segment.as_bytes());
        }
    }

    /// Reads a message whose options were understood.
    pub(crate) fn read(message: &Message, payload: Vec<u8>) -> Self {
        Self {
            code: message.code,
            content_format: format(message, option::CONTENT_FORMAT),
            etag: message.value(option::ETAG).map(<[u8]>::to_vec),
            max_age: message.uint(option::MAX_AGE),
            size1: message.uint(option::SIZE1),
            echo: message.value(option::ECHO).map(<[u8]>::to_vec),
            location_path: message
                .values(option::LOCATION_PATH)
                .map(|segment| String::from_utf8_lossy(segment).into_owned())
                .collect(),
            payload,
        }
    }
}

fn format(message: &Message, number: u16) -> Option<u16> {
    message
        .uint(number)
        .and_then(|format| u16::try_from(format).ok())
}

fn segments(path: &str) -> Vec<String> {
    path.split('/')
        .skip_while(|segment| segment.is_empty())
        .map(str::to_owned)
        .collect()
}
