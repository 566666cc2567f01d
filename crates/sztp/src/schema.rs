//! The part of the YANG modules that this crate speaks, as a table: one set of rules for both
//! encodings.

use artifacts::{Encoding, Oddity};

use crate::leniency::Leniency;
use crate::message::{PROGRESS_NAMES, REPORTING_NAMES};
use crate::restconf::{
    BODY_SIZE_MAX_BYTES, ErrorPath, Fault, REQUEST_SIZE_MAX_BYTES, RestconfError,
};
use crate::value;
use crate::{json, xml};

/// A YANG module.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Module {
    BootstrapServer,
    Csr,
    ZtpTypes,
    Restconf,
    YangLibrary,
    Datastores,
}

impl Module {
    const ALL: [Self; 6] = [
        Self::BootstrapServer,
        Self::Csr,
        Self::ZtpTypes,
        Self::Restconf,
        Self::YangLibrary,
        Self::Datastores,
    ];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::BootstrapServer => "ietf-sztp-bootstrap-server",
            Self::Csr => "ietf-sztp-csr",
            Self::ZtpTypes => "ietf-ztp-types",
            Self::Restconf => "ietf-restconf",
            Self::YangLibrary => "ietf-yang-library",
            Self::Datastores => "ietf-datastores",
        }
    }

    pub(crate) fn namespace(self) -> &'static str {
        match self {
            Self::BootstrapServer => "urn:ietf:params:xml:ns:yang:ietf-sztp-bootstrap-server",
            Self::Csr => "urn:ietf:params:xml:ns:yang:ietf-sztp-csr",
            Self::ZtpTypes => "urn:ietf:params:xml:ns:yang:ietf-ztp-types",
            Self::Restconf => "urn:ietf:params:xml:ns:yang:ietf-restconf",
            Self::YangLibrary => "urn:ietf:params:xml:ns:yang:ietf-yang-library",
            Self::Datastores => "urn:ietf:params:xml:ns:yang:ietf-datastores",
        }
    }

    /// The prefix that the module gives itself.
    pub(crate) fn prefix(self) -> &'static str {
        match self {
            Self::BootstrapServer => "sztp-svr",
            Self::Csr => "sztp-csr",
            Self::ZtpTypes => "zt",
            Self::Restconf => "rc",
            Self::YangLibrary => "yanglib",
            Self::Datastores => "ds",
        }
    }

    pub(crate) fn by_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|module| module.name() == name)
    }

    pub(crate) fn by_namespace(namespace: &str) -> Option<Self> {
        Self::ALL
            .into_iter()
            .find(|module| module.namespace() == namespace)
    }
}

/// A value's type.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Type {
    Empty,
    Text,
    /// With its shortest and longest length in octets.
    Binary(usize, usize),
    Enumeration(&'static [&'static str]),
    /// An identity of this module.
    Identity(Module, &'static [&'static str]),
    /// An instance identifier; read as the text that it is.
    Path,
}

/// What a node is.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Kind {
    Container(&'static [Node]),
    /// With the most entries.
    List(&'static [Node], usize),
    Leaf(Type),
    LeafList(Type, usize),
    /// Any content; these nodes are known.
    Any(&'static [Node]),
}

/// One node of a module.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Node {
    pub(crate) module: Module,
    pub(crate) name: &'static str,
    pub(crate) kind: Kind,
    /// It must be there when its parent is.
    pub(crate) mandatory: bool,
}

impl Node {
    pub(crate) fn is_repeated(&self) -> bool {
        matches!(self.kind, Kind::List(..) | Kind::LeafList(..))
    }

    pub(crate) fn children(&self) -> &'static [Self] {
        match self.kind {
            Kind::Container(children) | Kind::List(children, ..) | Kind::Any(children) => children,
            Kind::Leaf(_) | Kind::LeafList(..) => &[],
        }
    }
}

/// A whole message.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Message {
    pub(crate) root: Node,
    /// The name of the RPC, which some put where `input` or `output` belongs.
    pub(crate) rpc: Option<&'static str>,
    pub(crate) size_max_bytes: usize,
}

/// One instance of a node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Element {
    pub(crate) name: &'static str,
    pub(crate) value: Value,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Value {
    Empty,
    Text(String),
    Bytes(Vec<u8>),
    Identity(&'static str),
    /// An identity that no module here defines; kept only where leniency lets it pass.
    UnknownIdentity,
    Path(ErrorPath),
    Children(Vec<Element>),
}

impl Element {
    pub(crate) fn new(name: &'static str, value: Value) -> Self {
        Self { name, value }
    }

    pub(crate) fn empty(name: &'static str) -> Self {
        Self::new(name, Value::Empty)
    }

    pub(crate) fn text(name: &'static str, text: impl Into<String>) -> Self {
        Self::new(name, Value::Text(text.into()))
    }

    pub(crate) fn bytes(name: &'static str, bytes: &[u8]) -> Self {
        Self::new(name, Value::Bytes(bytes.to_vec()))
    }

    pub(crate) fn children(name: &'static str, children: Vec<Self>) -> Self {
        Self::new(name, Value::Children(children))
    }

    pub(crate) fn nodes(&self) -> &[Self] {
        match &self.value {
            Value::Children(children) => children,
            _ => &[],
        }
    }

    pub(crate) fn get(&self, name: &str) -> Option<&Self> {
        self.all(name).next()
    }

    pub(crate) fn all<'a>(&'a self, name: &str) -> impl Iterator<Item = &'a Self> {
        self.nodes().iter().filter(move |child| child.name == name)
    }

    /// The descendant of this path.
    pub(crate) fn find(&self, path: &[&str]) -> Option<&Self> {
        path.iter()
            .try_fold(self, |element, name| element.get(name))
    }

    pub(crate) fn string(&self) -> String {
        match &self.value {
            Value::Text(text) => text.clone(),
            _ => String::new(),
        }
    }

    pub(crate) fn octets(&self) -> Vec<u8> {
        match &self.value {
            Value::Bytes(bytes) => bytes.clone(),
            _ => Vec::new(),
        }
    }
}

/// Most ssh-host-keys or trust-anchor-certs of one report, and most entries of one list.
const ENTRIES_COUNT_MAX: usize = 64;
const ANY_LENGTH: Type = Type::Binary(0, usize::MAX);

const fn leaf(module: Module, name: &'static str, kind: Type) -> Node {
    Node {
        module,
        name,
        kind: Kind::Leaf(kind),
        mandatory: false,
    }
}

const fn container(module: Module, name: &'static str, children: &'static [Node]) -> Node {
    Node {
        module,
        name,
        kind: Kind::Container(children),
        mandatory: false,
    }
}

const fn list(module: Module, name: &'static str, children: &'static [Node]) -> Node {
    Node {
        module,
        name,
        kind: Kind::List(children, ENTRIES_COUNT_MAX),
        mandatory: false,
    }
}

const fn leaf_list(module: Module, name: &'static str, kind: Type, min: usize) -> Node {
    Node {
        module,
        name,
        kind: Kind::LeafList(kind, ENTRIES_COUNT_MAX),
        // At least one entry is what makes the whole list mandatory.
        mandatory: min > 0,
    }
}

const fn mandatory(node: Node) -> Node {
    Node {
        mandatory: true,
        ..node
    }
}

const SVR: Module = Module::BootstrapServer;
const CSR: Module = Module::Csr;
const RC: Module = Module::Restconf;

/// The identities of [RFC 9646 §3.2](https://www.rfc-editor.org/rfc/rfc9646.html#section-3.2).
const FORMATS: Type = Type::Identity(Module::ZtpTypes, &["p10-csr", "cmp-csr", "cmc-csr"]);

pub(crate) static GET_INPUT: Message = Message {
    root: container(
        SVR,
        "input",
        &[
            leaf(SVR, "signed-data-preferred", Type::Empty),
            leaf(SVR, "hw-model", Type::Text),
            leaf(SVR, "os-name", Type::Text),
            leaf(SVR, "os-version", Type::Text),
            // SZTP-8572-7.3-06: the nonce is binary of 16 to 32 octets.
            leaf(SVR, "nonce", Type::Binary(16, 32)),
            container(
                CSR,
                "csr-support",
                &[
                    container(
                        CSR,
                        "key-generation",
                        &[mandatory(container(
                            CSR,
                            "supported-algorithms",
                            &[leaf_list(CSR, "algorithm-identifier", ANY_LENGTH, 1)],
                        ))],
                    ),
                    mandatory(container(
                        CSR,
                        "csr-generation",
                        &[mandatory(container(
                            CSR,
                            "supported-formats",
                            &[leaf_list(CSR, "format-identifier", FORMATS, 1)],
                        ))],
                    )),
                ],
            ),
            leaf(CSR, "p10-csr", ANY_LENGTH),
            leaf(CSR, "cmc-csr", ANY_LENGTH),
            leaf(CSR, "cmp-csr", ANY_LENGTH),
        ],
    ),
    rpc: Some("get-bootstrapping-data"),
    size_max_bytes: REQUEST_SIZE_MAX_BYTES,
};

pub(crate) static GET_OUTPUT: Message = Message {
    root: container(
        SVR,
        "output",
        &[
            leaf(SVR, "reporting-level", Type::Enumeration(REPORTING_NAMES)),
            mandatory(leaf(SVR, "conveyed-information", ANY_LENGTH)),
            leaf(SVR, "owner-certificate", ANY_LENGTH),
            leaf(SVR, "ownership-voucher", ANY_LENGTH),
        ],
    ),
    rpc: Some("get-bootstrapping-data"),
    size_max_bytes: BODY_SIZE_MAX_BYTES,
};

pub(crate) static REPORT_INPUT: Message = Message {
    root: container(
        SVR,
        "input",
        &[
            mandatory(leaf(
                SVR,
                "progress-type",
                Type::Enumeration(PROGRESS_NAMES),
            )),
            leaf(SVR, "message", Type::Text),
            container(
                SVR,
                "ssh-host-keys",
                &[list(
                    SVR,
                    "ssh-host-key",
                    &[
                        mandatory(leaf(SVR, "algorithm", Type::Text)),
                        mandatory(leaf(SVR, "key-data", ANY_LENGTH)),
                    ],
                )],
            ),
            container(
                SVR,
                "trust-anchor-certs",
                &[leaf_list(SVR, "trust-anchor-cert", ANY_LENGTH, 0)],
            ),
        ],
    ),
    rpc: Some("report-progress"),
    size_max_bytes: REQUEST_SIZE_MAX_BYTES,
};

const CSR_REQUEST: Node = container(
    CSR,
    "csr-request",
    &[
        container(
            CSR,
            "key-generation",
            &[mandatory(container(
                CSR,
                "selected-algorithm",
                &[mandatory(leaf(CSR, "algorithm-identifier", ANY_LENGTH))],
            ))],
        ),
        mandatory(container(
            CSR,
            "csr-generation",
            &[mandatory(container(
                CSR,
                "selected-format",
                &[mandatory(leaf(CSR, "format-identifier", FORMATS))],
            ))],
        )),
        leaf(CSR, "cert-req-info", ANY_LENGTH),
    ],
);

pub(crate) static CSR_REQUEST_ALONE: Message = Message {
    root: CSR_REQUEST,
    rpc: None,
    size_max_bytes: REQUEST_SIZE_MAX_BYTES,
};

pub(crate) static ERRORS: Message = Message {
    root: container(
        RC,
        "errors",
        &[list(
            RC,
            "error",
            &[
                mandatory(leaf(
                    RC,
                    "error-type",
                    Type::Enumeration(&["transport", "rpc", "protocol", "application"]),
                )),
                mandatory(leaf(RC, "error-tag", Type::Text)),
                leaf(RC, "error-app-tag", Type::Text),
                leaf(RC, "error-path", Type::Path),
                leaf(RC, "error-message", Type::Text),
                Node {
                    module: RC,
                    name: "error-info",
                    kind: Kind::Any(&[CSR_REQUEST]),
                    mandatory: false,
                },
            ],
        )],
    ),
    rpc: None,
    size_max_bytes: REQUEST_SIZE_MAX_BYTES,
};

const LIB: Module = Module::YangLibrary;
const MODULE_FIELDS: &[Node] = &[
    leaf(LIB, "name", Type::Text),
    leaf(LIB, "revision", Type::Text),
    leaf(LIB, "namespace", Type::Text),
    leaf_list(LIB, "feature", Type::Text, 0),
    leaf(LIB, "conformance-type", Type::Text),
];
const LIBRARY: Node = container(
    LIB,
    "yang-library",
    &[
        list(
            LIB,
            "module-set",
            &[
                leaf(LIB, "name", Type::Text),
                list(LIB, "module", MODULE_FIELDS),
                list(LIB, "import-only-module", MODULE_FIELDS),
            ],
        ),
        list(
            LIB,
            "schema",
            &[
                leaf(LIB, "name", Type::Text),
                leaf_list(LIB, "module-set", Type::Text, 0),
            ],
        ),
        list(
            LIB,
            "datastore",
            &[
                leaf(
                    LIB,
                    "name",
                    Type::Identity(Module::Datastores, &["operational"]),
                ),
                leaf(LIB, "schema", Type::Text),
            ],
        ),
        leaf(LIB, "content-id", Type::Text),
    ],
);
const STATE: Node = container(
    LIB,
    "modules-state",
    &[
        leaf(LIB, "module-set-id", Type::Text),
        list(LIB, "module", MODULE_FIELDS),
    ],
);
const OPERATION_LEAFS: &[Node] = &[
    leaf(SVR, "get-bootstrapping-data", Type::Empty),
    leaf(SVR, "report-progress", Type::Empty),
];

const fn resource(root: Node) -> Message {
    Message {
        root,
        rpc: None,
        size_max_bytes: REQUEST_SIZE_MAX_BYTES,
    }
}

pub(crate) static YANG_LIBRARY: Message = resource(LIBRARY);
pub(crate) static MODULES_STATE: Message = resource(STATE);
pub(crate) static DATA: Message = resource(container(RC, "data", &[LIBRARY, STATE]));
pub(crate) static OPERATIONS: Message = resource(container(RC, "operations", OPERATION_LEAFS));
pub(crate) static LIBRARY_VERSION: Message = resource(leaf(RC, "yang-library-version", Type::Text));
pub(crate) static ROOT: Message = resource(container(
    RC,
    "restconf",
    &[
        container(RC, "data", &[]),
        container(RC, "operations", OPERATION_LEAFS),
        leaf(RC, "yang-library-version", Type::Text),
    ],
));

/// Writes one message.
pub(crate) fn encode(message: &Message, root: &Element, encoding: Encoding) -> Vec<u8> {
    match encoding {
        Encoding::Json => json::write(&message.root, root),
        Encoding::Xml => xml::write(&message.root, root),
    }
}

/// Reads one message.
pub(crate) fn decode(
    message: &Message,
    body: &[u8],
    encoding: Encoding,
    leniency: &Leniency,
    oddities: &mut Vec<Oddity>,
) -> Result<Element, RestconfError> {
    if body.len() > message.size_max_bytes {
        let detail = format!(
            "{} octets, the limit is {}",
            body.len(),
            message.size_max_bytes
        );
        return Err(RestconfError::new(Fault::TooLarge, detail));
    }
    let mut reader = Reader {
        leniency,
        oddities,
        path: Vec::new(),
    };
    let text = reader.text(body)?;
    match encoding {
        Encoding::Json => json::read(message, text, &mut reader),
        Encoding::Xml => xml::read(message, text, &mut reader),
    }
}

/// What both readers share: where they are, and what they let pass.
pub(crate) struct Reader<'a> {
    pub(crate) leniency: &'a Leniency,
    pub(crate) oddities: &'a mut Vec<Oddity>,
    pub(crate) path: Vec<(Module, &'static str)>,
}

impl Reader<'_> {
    /// Enters a node for the time of `read`, so that faults name it.
    pub(crate) fn within<T>(
        &mut self,
        node: &Node,
        read: impl FnOnce(&mut Self) -> Result<T, RestconfError>,
    ) -> Result<T, RestconfError> {
        self.path.push((node.module, node.name));
        let result = read(self);
        self.path.pop();
        result
    }

    /// A refusal at the node that is being read.
    pub(crate) fn fail(&self, fault: Fault, detail: impl Into<String>) -> RestconfError {
        RestconfError::new(fault, detail).at(ErrorPath(self.path.clone()))
    }

    /// Lets something pass when its switch is on, and refuses it otherwise.
    pub(crate) fn tolerate(
        &mut self,
        is_tolerated: bool,
        name: &'static str,
        fault: Fault,
        detail: impl Into<String>,
    ) -> Result<(), RestconfError> {
        let detail = detail.into();
        if !is_tolerated {
            return Err(self.fail(fault, detail));
        }
        if self.oddities.len() < ODDITIES_COUNT_MAX {
            self.oddities.push(Oddity { name, detail });
        }
        Ok(())
    }

    /// The body as text.
    fn text<'b>(&mut self, body: &'b [u8]) -> Result<&'b str, RestconfError> {
        let mut body = body;
        if let Some(rest) = body.strip_prefix(b"\xef\xbb\xbf") {
            self.tolerate(
                self.leniency.byte_order_mark,
                "byte-order-mark",
                Fault::ByteOrderMark,
                "the body begins with a byte order mark",
            )?;
            body = rest;
        }
        // SZTP-8040-5.2-01: messages are UTF-8.
        std::str::from_utf8(body)
            .map_err(|error| self.fail(Fault::NotUtf8, format!("the body is not UTF-8: {error}")))
    }

    /// Checks what must be there among the children of a node, once all are read.
    pub(crate) fn complete(&self, node: &Node, children: &[Element]) -> Result<(), RestconfError> {
        for child in node.children() {
            let count = children
                .iter()
                .filter(|element| element.name == child.name)
                .count();
            if child.mandatory && count == 0 {
                let detail = format!("\"{}\" is missing in \"{}\"", child.name, node.name);
                return Err(self.fail(Fault::MissingElement, detail));
            }
            if let Kind::List(_, max) | Kind::LeafList(_, max) = child.kind
                && count > max
            {
                let detail = format!("more than {max} entries of \"{}\"", child.name);
                return Err(self.fail(Fault::TooMany, detail));
            }
        }
        Ok(())
    }

    /// A leaf's value from its text, for every type but empty and identities.
    pub(crate) fn scalar(&mut self, kind: Type, text: &str) -> Result<Value, RestconfError> {
        match kind {
            Type::Text | Type::Path => {
                if let Some(character) = text.chars().find(|c| !value::is_yang_char(*c)) {
                    let detail = format!("U+{:04X} is no character of a string", character as u32);
                    return Err(self.fail(Fault::BadValue, detail));
                }
                Ok(Value::Text(text.to_owned()))
            }
            Type::Binary(min, max) => {
                let bytes = value::base64(text, self)?;
                if !(min..=max).contains(&bytes.len()) {
                    // The nonce is the only leaf with a shortest length.
                    let detail = format!("{} octets where {min} to {max} belong", bytes.len());
                    let is_tolerated = bytes.is_empty() && self.leniency.empty_nonce;
                    self.tolerate(is_tolerated, "empty-nonce", Fault::BadLength, detail)?;
                }
                Ok(Value::Bytes(bytes))
            }
            Type::Enumeration(names) => match names.iter().find(|name| **name == text) {
                Some(_) => Ok(Value::Text(text.to_owned())),
                None => {
                    let detail = format!("\"{}\" is none of the values", value::shown(text));
                    Err(self.fail(Fault::BadValue, detail))
                }
            },
            Type::Empty | Type::Identity(..) => {
                Err(self.fail(Fault::WrongType, "not a value of this type"))
            }
        }
    }

    /// An identity of its module, or what stands for one that is not known.
    pub(crate) fn identity(
        &mut self,
        module: Option<Module>,
        name: &str,
        expected: Module,
        names: &'static [&'static str],
    ) -> Result<Value, RestconfError> {
        if module == Some(expected)
            && let Some(known) = names.iter().find(|known| **known == name)
        {
            return Ok(Value::Identity(known));
        }
        let detail = format!("\"{}\" is no identity that is known", value::shown(name));
        self.tolerate(
            self.leniency.unknown_formats,
            "unknown-formats",
            Fault::BadValue,
            detail,
        )?;
        Ok(Value::UnknownIdentity)
    }
}

/// Most oddities that one message reports.
const ODDITIES_COUNT_MAX: usize = 64;
