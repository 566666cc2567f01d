//! RESTCONF errors: their meaning, their status, and their bodies
//! ([RFC 8040 §7](https://www.rfc-editor.org/rfc/rfc8040.html#section-7)).

use std::fmt;

use artifacts::{Encoding, Oddity};
use pki::{Blame, Coded};

use crate::leniency::Leniency;
use crate::message::CsrRequest;
use crate::schema::{self, Element, Value};

/// Largest body of any message, in octets. Conveyed information may hold a whole
/// configuration, and base64 adds a third.
pub const BODY_SIZE_MAX_BYTES: usize = 8 * 1024 * 1024;
/// Largest request body, in octets: certificates of a device at most.
pub const REQUEST_SIZE_MAX_BYTES: usize = 256 * 1024;
/// Most entries of one error body that are read.
pub const ERRORS_COUNT_MAX: usize = 64;

macro_rules! names {
    ($( $(#[$doc:meta])* $vis:vis enum $type:ident { $( $(#[$vdoc:meta])* $variant:ident = $name:literal ),* $(,)? } )*) => { $(
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        $vis enum $type { $( $(#[$vdoc])* $variant ),* }

        impl $type {
            /// Every value, in the order of its definition.
            pub const ALL: &'static [Self] = &[$( Self::$variant ),*];

            /// The name on the wire.
            #[must_use]
            pub const fn as_str(self) -> &'static str {
                match self { $( Self::$variant => $name ),* }
            }

            /// The value of this name.
            #[must_use]
            pub fn parse(name: &str) -> Option<Self> {
                match name { $( $name => Some(Self::$variant), )* _ => None }
            }
        }

        impl std::fmt::Display for $type {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(self.as_str())
            }
        }
    )* };
}
pub(crate) use names;

names! {
    /// The layer at which an error came up.
    pub enum ErrorType {
        /// Below the messages.
        Transport = "transport",
        /// The message's form.
        Rpc = "rpc",
        /// The protocol.
        Protocol = "protocol",
        /// What the message asks for.
        Application = "application",
    }

    /// The kinds of error that RFC 8040 has a status for.
    pub enum ErrorTag {
        /// The resource is in use.
        InUse = "in-use",
        /// A value is not acceptable.
        InvalidValue = "invalid-value",
        /// The request or the reply is too large.
        TooBig = "too-big",
        /// Something expected is missing; RFC 9646 asks for a CSR with it.
        MissingAttribute = "missing-attribute",
        /// An attribute's value is wrong.
        BadAttribute = "bad-attribute",
        /// There is an attribute that is not known.
        UnknownAttribute = "unknown-attribute",
        /// An element's value is wrong.
        BadElement = "bad-element",
        /// There is an element that is not known.
        UnknownElement = "unknown-element",
        /// There is a namespace that is not known.
        UnknownNamespace = "unknown-namespace",
        /// The peer may not.
        AccessDenied = "access-denied",
        /// A lock is held.
        LockDenied = "lock-denied",
        /// Resources are exhausted.
        ResourceDenied = "resource-denied",
        /// A rollback failed.
        RollbackFailed = "rollback-failed",
        /// The data is there already.
        DataExists = "data-exists",
        /// The data is not there.
        DataMissing = "data-missing",
        /// The operation is not supported.
        OperationNotSupported = "operation-not-supported",
        /// The operation failed.
        OperationFailed = "operation-failed",
        /// The operation was carried out in part.
        PartialOperation = "partial-operation",
        /// The message cannot be read.
        MalformedMessage = "malformed-message",
    }
}

impl ErrorTag {
    /// The statuses that the table of RFC 8040 section 7 gives for this tag.
    #[must_use]
    pub fn statuses(self) -> &'static [u16] {
        match self {
            Self::InvalidValue => &[400, 404, 406],
            Self::TooBig => &[413, 400],
            Self::MissingAttribute
            | Self::BadAttribute
            | Self::UnknownAttribute
            | Self::BadElement
            | Self::UnknownElement
            | Self::UnknownNamespace
            | Self::MalformedMessage => &[400],
            Self::AccessDenied => &[401, 403],
            Self::InUse
            | Self::LockDenied
            | Self::ResourceDenied
            | Self::DataExists
            | Self::DataMissing => &[409],
            Self::OperationNotSupported => &[405, 501],
            Self::OperationFailed => &[412, 500],
            Self::RollbackFailed | Self::PartialOperation => &[500],
        }
    }
}

macro_rules! faults {
    ($( $(#[$doc:meta])* $variant:ident = $code:literal, $status:literal, $type:ident, $tag:ident ),* $(,)?) => {
        /// One cause of refusal: its code, its status and its tag belong together.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        #[non_exhaustive]
        pub enum Fault { $( $(#[$doc])* $variant ),* }

        impl Fault {
            /// Every cause, for documentation and tests.
            pub const ALL: &'static [Self] = &[$( Self::$variant ),*];

            /// The stable dotted code.
            #[must_use]
            pub fn code(self) -> &'static str {
                match self { $( Self::$variant => $code ),* }
            }

            /// The HTTP status.
            #[must_use]
            pub fn status(self) -> u16 {
                match self { $( Self::$variant => $status ),* }
            }

            /// The error-type.
            #[must_use]
            pub fn error_type(self) -> ErrorType {
                match self { $( Self::$variant => ErrorType::$type ),* }
            }

            /// The error-tag.
            #[must_use]
            pub fn tag(self) -> ErrorTag {
                match self { $( Self::$variant => ErrorTag::$tag ),* }
            }
        }
    };
}

faults! {
    // The form of a message.
    /// The text is not JSON.
    NotJson = "restconf.not-json", 400, Rpc, MalformedMessage,
    /// The text is not well-formed XML.
    NotXml = "restconf.not-xml", 400, Rpc, MalformedMessage,
    /// The text is not UTF-8.
    NotUtf8 = "restconf.not-utf8", 400, Rpc, MalformedMessage,
    /// The text begins with a byte order mark.
    ByteOrderMark = "restconf.byte-order-mark", 400, Rpc, MalformedMessage,
    /// The XML has a document type, an entity of its own or a processing instruction.
    Doctype = "restconf.doctype", 400, Rpc, MalformedMessage,
    /// It is nested too deeply.
    TooDeep = "restconf.too-deep", 400, Rpc, MalformedMessage,
    /// It has more nodes or attributes than the limit.
    TooMany = "restconf.too-many", 400, Rpc, MalformedMessage,
    /// It is larger than the limit.
    TooLarge = "restconf.too-large", 413, Rpc, TooBig,
    /// A member or element stands twice.
    DuplicateMember = "restconf.duplicate-member", 400, Rpc, MalformedMessage,
    /// The outermost name is not that of the message.
    WrongWrapper = "restconf.wrong-wrapper", 400, Rpc, MalformedMessage,
    /// There is no body where one is needed.
    BodyMissing = "restconf.body-missing", 400, Rpc, MalformedMessage,
    // The content of a message.
    /// A member or element that no module defines there.
    UnknownElement = "restconf.unknown-element", 400, Protocol, UnknownElement,
    /// An attribute that no module defines.
    UnknownAttribute = "restconf.unknown-attribute", 400, Protocol, UnknownAttribute,
    /// A namespace or module name that is not known.
    UnknownNamespace = "restconf.unknown-namespace", 400, Protocol, UnknownNamespace,
    /// Something that must be there is not. RFC 8040 has no status for missing-element.
    MissingElement = "restconf.missing-element", 400, Protocol, InvalidValue,
    /// A value of another type than its schema says.
    WrongType = "restconf.wrong-type", 400, Protocol, InvalidValue,
    /// A binary value is not base64 as RFC 4648 §4 has it.
    BadBase64 = "restconf.bad-base64", 400, Protocol, InvalidValue,
    /// A value is longer or shorter than its schema says.
    BadLength = "restconf.bad-length", 400, Protocol, InvalidValue,
    /// A value is none of those that its schema names.
    BadValue = "restconf.bad-value", 400, Protocol, InvalidValue,
    /// Two nodes that exclude each other, or one that may not stand with another's value.
    NotTogether = "restconf.not-together", 400, Protocol, BadElement,
    // The request around the message.
    /// Accept allows neither of the two encodings.
    NotAcceptable = "restconf.not-acceptable", 406, Protocol, InvalidValue,
    /// The Content-Type is none that is read here.
    UnsupportedMediaType = "restconf.unsupported-media-type", 415, Protocol, InvalidValue,
    /// The method does not go with the resource.
    MethodNotAllowed = "restconf.method-not-allowed", 405, Protocol, OperationNotSupported,
    /// There is no such resource.
    NotFound = "restconf.not-found", 404, Protocol, InvalidValue,
    /// The peer proved no identity that is known here.
    Unauthenticated = "restconf.unauthenticated", 401, Protocol, AccessDenied,
    /// The peer may not do this.
    Forbidden = "restconf.forbidden", 403, Protocol, AccessDenied,
    /// More requests at a time than are taken from one peer.
    Busy = "restconf.busy", 409, Protocol, ResourceDenied,
    /// The server failed.
    Internal = "restconf.internal", 500, Application, OperationFailed,
    // What a bootstrap server decides.
    /// Nothing is staged for this device.
    NothingStaged = "sztp.nothing-staged", 404, Application, InvalidValue,
    /// The device asked for signed data and only unsigned onboarding information is there.
    SignedUnavailable = "sztp.signed-unavailable", 409, Application, DataMissing,
    /// There is signed data, but no voucher that the device could accept.
    NoVoucher = "sztp.no-voucher", 409, Application, DataMissing,
    /// The voucher that answers the device's nonce could not be had at this moment.
    VoucherUnavailable = "sztp.voucher-unavailable", 409, Application, ResourceDenied,
    /// The server does not give the kind of information that is staged.
    RoleMismatch = "sztp.role-mismatch", 409, Application, DataMissing,
    /// The server wants a CSR and says which one.
    CsrWanted = "sztp.csr-wanted", 400, Application, MissingAttribute,
    /// The server issues no certificates here.
    CsrNotSupported = "sztp.csr-not-supported", 400, Application, InvalidValue,
    /// A CSR came that nobody asked this device for, and policy wants it asked for.
    CsrNotRequested = "sztp.csr-not-requested", 400, Application, InvalidValue,
    /// The device offers no algorithm or format that policy allows.
    CsrNoneAcceptable = "sztp.csr-none-acceptable", 400, Application, InvalidValue,
    /// The CSR cannot be read.
    CsrMalformed = "sztp.csr-malformed", 400, Application, InvalidValue,
    /// The CSR is in a format that is not read here.
    CsrFormat = "sztp.csr-format", 400, Application, InvalidValue,
    /// The CSR is not signed with its own key.
    CsrPossession = "sztp.csr-possession", 400, Application, InvalidValue,
    /// The CSR does not come from the device that sends it.
    CsrOrigin = "sztp.csr-origin", 400, Application, InvalidValue,
    /// The CSR is not the one that was asked for.
    CsrMismatch = "sztp.csr-mismatch", 400, Application, MissingAttribute,
    /// The CA refused, or cannot be reached at this moment.
    CsrCa = "sztp.csr-ca", 409, Application, ResourceDenied,
}

impl Fault {
    /// Who has to act.
    #[must_use]
    pub fn blame(self) -> Blame {
        match self {
            Self::NotAcceptable
            | Self::UnsupportedMediaType
            | Self::MethodNotAllowed
            | Self::NotFound
            | Self::CsrNoneAcceptable
            | Self::CsrFormat => Blame::PeerIncompatible,
            Self::NothingStaged
            | Self::SignedUnavailable
            | Self::NoVoucher
            | Self::VoucherUnavailable
            | Self::RoleMismatch
            | Self::CsrCa
            | Self::CsrNotSupported
            | Self::Busy
            | Self::Internal => Blame::Ours,
            _ => Blame::PeerMisbehaved,
        }
    }
}

/// Where in a message a fault lies, outermost first, each node with the name of its module.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ErrorPath(pub(crate) Vec<(schema::Module, &'static str)>);

impl ErrorPath {
    /// The instance identifier in the form of the encoding: module names where they change
    /// in JSON (RFC 7951 section 6.11), prefixes everywhere in XML.
    #[must_use]
    pub fn render(&self, encoding: Encoding) -> String {
        let mut text = String::new();
        let mut before = None;
        for (module, name) in &self.0 {
            text.push('/');
            if encoding == Encoding::Xml || before != Some(*module) {
                text.push_str(match encoding {
                    Encoding::Json => module.name(),
                    Encoding::Xml => module.prefix(),
                });
                text.push(':');
            }
            text.push_str(name);
            before = Some(*module);
        }
        text
    }
}

impl fmt::Display for ErrorPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.render(Encoding::Json))
    }
}

/// One refusal as a RESTCONF server gives it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct RestconfError {
    /// The HTTP status.
    pub status: u16,
    /// The layer.
    pub error_type: ErrorType,
    /// The kind.
    pub tag: ErrorTag,
    /// Our dotted code; it travels as error-app-tag.
    pub code: &'static str,
    /// One sentence for a person; nothing secret, nothing of another device.
    pub message: String,
    /// The node at fault.
    pub path: Option<ErrorPath>,
    /// The CSR that the server asks for.
    pub info: Option<Box<CsrRequest>>,
    /// The cause.
    pub fault: Fault,
}

impl RestconfError {
    /// A refusal for this cause.
    #[must_use]
    pub fn new(fault: Fault, message: impl Into<String>) -> Self {
        Self {
            status: fault.status(),
            error_type: fault.error_type(),
            tag: fault.tag(),
            code: fault.code(),
            message: message.into(),
            path: None,
            info: None,
            fault,
        }
    }

    /// The same with the node at fault.
    #[must_use]
    pub(crate) fn at(mut self, path: ErrorPath) -> Self {
        self.path = Some(path);
        self
    }

    /// The same with the CSR that the server asks for.
    #[must_use]
    pub fn with_csr_request(mut self, request: CsrRequest) -> Self {
        self.info = Some(Box::new(request));
        self
    }

    /// The body of the response, `ietf-restconf:errors`.
    #[must_use]
    pub fn encode(&self, encoding: Encoding) -> Vec<u8> {
        let mut error = vec![
            Element::text("error-type", self.error_type.as_str()),
            Element::text("error-tag", self.tag.as_str()),
            Element::text("error-app-tag", self.code),
        ];
        if let Some(path) = &self.path {
            error.push(Element::new("error-path", Value::Path(path.clone())));
        }
        error.push(Element::text("error-message", &self.message));
        if let Some(request) = &self.info {
            error.push(Element::new(
                "error-info",
                Value::Children(vec![request.element()]),
            ));
        }
        let errors = Element::children("errors", vec![Element::children("error", error)]);
        schema::encode(&schema::ERRORS, &errors, encoding)
    }
}

impl Coded for RestconfError {
    fn code(&self) -> &'static str {
        self.code
    }

    fn blame(&self) -> Blame {
        self.fault.blame()
    }
}

/// One entry of an error body that a server sent.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ErrorEntry {
    /// error-type as it stands there.
    pub error_type: String,
    /// error-tag as it stands there.
    pub tag: String,
    /// error-app-tag.
    pub app_tag: Option<String>,
    /// error-path as it stands there.
    pub path: Option<String>,
    /// error-message.
    pub message: Option<String>,
    /// The CSR that the server asks for.
    pub csr_request: Option<CsrRequest>,
}

/// The body of an error response as a device reads it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ErrorReport {
    /// Its entries.
    pub errors: Vec<ErrorEntry>,
}

impl ErrorReport {
    /// Reads an error body.
    ///
    /// # Errors
    /// It is not one.
    pub fn decode(
        body: &[u8],
        encoding: Encoding,
        leniency: &Leniency,
    ) -> Result<(Self, Vec<Oddity>), RestconfError> {
        let mut oddities = Vec::new();
        let root = schema::decode(&schema::ERRORS, body, encoding, leniency, &mut oddities)?;
        let mut report = Self::default();
        for error in root.all("error") {
            if report.errors.len() == ERRORS_COUNT_MAX {
                let message = format!("more than {ERRORS_COUNT_MAX} errors in one body");
                return Err(RestconfError::new(Fault::TooMany, message));
            }
            let text = |name| error.get(name).map(|node| node.string());
            report.errors.push(ErrorEntry {
                error_type: text("error-type").unwrap_or_default(),
                tag: text("error-tag").unwrap_or_default(),
                app_tag: text("error-app-tag"),
                path: text("error-path"),
                message: text("error-message"),
                csr_request: error
                    .get("error-info")
                    .and_then(|info| info.get("csr-request"))
                    .and_then(CsrRequest::from_element),
            });
        }
        Ok((report, oddities))
    }

    /// The CSR that the server asks for, when the response is that of RFC 9646 section 2.3:
    /// status 400, tag missing-attribute, csr-request inside. The error-type is not fixed.
    #[must_use]
    pub fn csr_request(&self, status: u16) -> Option<&CsrRequest> {
        if status != 400 {
            return None;
        }
        self.errors
            .iter()
            .filter(|error| error.tag == ErrorTag::MissingAttribute.as_str())
            .find_map(|error| error.csr_request.as_ref())
    }
}
