//! What a RESTCONF server tells about itself: where its root is, which operations it has, which
//! YANG modules it implements.

use artifacts::Encoding;

use crate::negotiate::{JRD_JSON, XRD_XML};
use crate::restconf::{Fault, RestconfError};
use crate::schema::{self, Element, Module, Value};
use crate::server::Roles;
use crate::xml;

/// Where a client learns the RESTCONF root (RFC 6415).
pub const HOST_META_PATH: &str = "/.well-known/host-meta";
/// The same in JSON.
pub const HOST_META_JSON_PATH: &str = "/.well-known/host-meta.json";
/// The media type of host-meta.
pub const HOST_META_TYPE: &str = XRD_XML;
/// The media type of host-meta.json.
pub const HOST_META_JSON_TYPE: &str = JRD_JSON;
/// The root that this product serves, which is the one that agents take for granted.
pub const DEFAULT_ROOT: &str = "/restconf";
/// Largest host-meta document that is read.
pub const HOST_META_SIZE_MAX_BYTES: usize = 64 * 1024;
/// The revision of ietf-yang-library, which is the value of yang-library-version.
pub const YANG_LIBRARY_VERSION: &str = "2019-01-04";
/// The RPC by which a device gets its bootstrapping data, below `{+restconf}/operations/`.
pub const GET_BOOTSTRAPPING_DATA: &str = "ietf-sztp-bootstrap-server:get-bootstrapping-data";
/// The RPC by which a device reports progress, below `{+restconf}/operations/`.
pub const REPORT_PROGRESS: &str = "ietf-sztp-bootstrap-server:report-progress";

const XRD_NAMESPACE: &str = "http://docs.oasis-open.org/ns/xri/xrd-1.0";

/// host-meta as XRD, with exactly one link of relation `restconf`.
#[must_use]
pub fn host_meta(root: &str) -> Vec<u8> {
    // SZTP-8040-3.1-02: exactly one Link.
    let mut href = String::new();
    xml::escape(&mut href, root);
    format!("<XRD xmlns=\"{XRD_NAMESPACE}\"><Link rel=\"restconf\" href=\"{href}\"/></XRD>")
        .into_bytes()
}

/// host-meta as JRD.
#[must_use]
pub fn host_meta_json(root: &str) -> Vec<u8> {
    serde_json::json!({"links": [{"rel": "restconf", "href": root}]})
        .to_string()
        .into_bytes()
}

/// The RESTCONF root in a host-meta document, as it stands in its one link.
///
/// # Errors
/// It is no XRD, or has not exactly one link of relation `restconf`.
pub fn parse_host_meta(body: &[u8]) -> Result<String, RestconfError> {
    if body.len() > HOST_META_SIZE_MAX_BYTES {
        let detail = format!("host-meta has more than {HOST_META_SIZE_MAX_BYTES} octets");
        return Err(RestconfError::new(Fault::TooLarge, detail));
    }
    let text = std::str::from_utf8(body)
        .map_err(|_| RestconfError::new(Fault::NotUtf8, "host-meta is not UTF-8"))?;
    let document = xml::parse(text)?;
    let is_xrd = |node: &xml::Xml, name| {
        node.name == name && node.namespace.as_deref() == Some(XRD_NAMESPACE)
    };
    if !is_xrd(&document, "XRD") {
        return Err(RestconfError::new(
            Fault::WrongWrapper,
            "host-meta is no XRD",
        ));
    }
    let attribute = |node: &xml::Xml, name: &str| {
        node.attributes
            .iter()
            .find(|(known, _)| known == name)
            .map(|(_, value)| value.clone())
    };
    let mut links = document.children.iter().filter(|node| {
        is_xrd(node, "Link") && attribute(node, "rel").is_some_and(|rel| rel == "restconf")
    });
    match (
        links.next().and_then(|link| attribute(link, "href")),
        links.next(),
    ) {
        (Some(href), None) => Ok(href),
        (None, _) => Err(RestconfError::new(
            Fault::MissingElement,
            "host-meta has no restconf link with an address",
        )),
        (Some(_), Some(_)) => Err(RestconfError::new(
            Fault::DuplicateMember,
            "host-meta has more than one restconf link",
        )),
    }
}

/// The resource `{+restconf}` itself.
#[must_use]
pub fn root_resource(roles: Roles, encoding: Encoding) -> Vec<u8> {
    let restconf = Element::children(
        "restconf",
        vec![
            Element::children("data", Vec::new()),
            Element::children("operations", operation_leafs(roles)),
            Element::text("yang-library-version", YANG_LIBRARY_VERSION),
        ],
    );
    schema::encode(&schema::ROOT, &restconf, encoding)
}

/// The resource `{+restconf}/operations`.
#[must_use]
pub fn operations(roles: Roles, encoding: Encoding) -> Vec<u8> {
    let operations = Element::children("operations", operation_leafs(roles));
    schema::encode(&schema::OPERATIONS, &operations, encoding)
}

/// SZTP-8040-3.3.2-01: every RPC as an empty leaf.
fn operation_leafs(roles: Roles) -> Vec<Element> {
    let mut leafs = vec![Element::empty("get-bootstrapping-data")];
    // SZTP-8572-7.3-13: only with the feature onboarding-server.
    if roles.onboarding {
        leafs.push(Element::empty("report-progress"));
    }
    leafs
}

/// The resource `{+restconf}/yang-library-version`.
#[must_use]
pub fn yang_library_version(encoding: Encoding) -> Vec<u8> {
    let version = Element::text("yang-library-version", YANG_LIBRARY_VERSION);
    schema::encode(&schema::LIBRARY_VERSION, &version, encoding)
}

/// One module as yang-library lists it.
struct Listed {
    name: &'static str,
    revision: &'static str,
    namespace: &'static str,
    /// Its data or operations are here; otherwise others take definitions from it.
    is_implemented: bool,
}

const MODULES: &[Listed] = &[
    Listed {
        name: "ietf-sztp-bootstrap-server",
        revision: "2019-04-30",
        namespace: "urn:ietf:params:xml:ns:yang:ietf-sztp-bootstrap-server",
        is_implemented: true,
    },
    Listed {
        name: "ietf-sztp-csr",
        revision: "2024-10-10",
        namespace: "urn:ietf:params:xml:ns:yang:ietf-sztp-csr",
        is_implemented: true,
    },
    Listed {
        name: "ietf-ztp-types",
        revision: "2024-10-10",
        namespace: "urn:ietf:params:xml:ns:yang:ietf-ztp-types",
        is_implemented: true,
    },
    Listed {
        name: "ietf-restconf",
        revision: "2017-01-26",
        namespace: "urn:ietf:params:xml:ns:yang:ietf-restconf",
        is_implemented: true,
    },
    Listed {
        name: "ietf-yang-library",
        revision: "2019-01-04",
        namespace: "urn:ietf:params:xml:ns:yang:ietf-yang-library",
        is_implemented: true,
    },
    Listed {
        name: "ietf-datastores",
        revision: "2018-02-14",
        namespace: "urn:ietf:params:xml:ns:yang:ietf-datastores",
        is_implemented: true,
    },
    Listed {
        name: "ietf-yang-structure-ext",
        revision: "2020-06-17",
        namespace: "urn:ietf:params:xml:ns:yang:ietf-yang-structure-ext",
        is_implemented: false,
    },
    Listed {
        name: "ietf-crypto-types",
        revision: "2024-10-10",
        namespace: "urn:ietf:params:xml:ns:yang:ietf-crypto-types",
        is_implemented: false,
    },
    Listed {
        name: "ietf-netconf-acm",
        revision: "2018-02-14",
        namespace: "urn:ietf:params:xml:ns:yang:ietf-netconf-acm",
        is_implemented: false,
    },
    Listed {
        name: "ietf-inet-types",
        revision: "2013-07-15",
        namespace: "urn:ietf:params:xml:ns:yang:ietf-inet-types",
        is_implemented: false,
    },
    Listed {
        name: "ietf-yang-types",
        revision: "2013-07-15",
        namespace: "urn:ietf:params:xml:ns:yang:ietf-yang-types",
        is_implemented: false,
    },
];

/// The features of a module that are supported.
fn features(module: &Listed, roles: Roles) -> Vec<&'static str> {
    if module.name != Module::BootstrapServer.name() {
        return Vec::new();
    }
    let mut features = Vec::new();
    if roles.redirect {
        features.push("redirect-server");
    }
    if roles.onboarding {
        features.push("onboarding-server");
    }
    features
}

/// What changes whenever the list of modules or of features does.
#[must_use]
pub fn content_id(roles: Roles) -> String {
    let mut parts = vec![YANG_LIBRARY_VERSION];
    for module in MODULES {
        parts.push(module.name);
        parts.push(module.revision);
        parts.extend(features(module, roles));
    }
    let digest = pki::DigestAlgorithm::Sha256.hash(parts.join("\n").as_bytes());
    hex::encode(digest.get(..8).unwrap_or_default())
}

/// The resource `{+restconf}/data/ietf-yang-library:yang-library` (RFC 8525).
#[must_use]
pub fn yang_library(roles: Roles, encoding: Encoding) -> Vec<u8> {
    schema::encode(&schema::YANG_LIBRARY, &library_element(roles), encoding)
}

fn library_element(roles: Roles) -> Element {
    let mut set = vec![Element::text("name", "bootstrap")];
    for module in MODULES {
        let mut fields = vec![
            Element::text("name", module.name),
            Element::text("revision", module.revision),
            Element::text("namespace", module.namespace),
        ];
        let name = if module.is_implemented {
            let features = features(module, roles).into_iter();
            fields.extend(features.map(|feature| Element::text("feature", feature)));
            "module"
        } else {
            "import-only-module"
        };
        set.push(Element::children(name, fields));
    }
    Element::children(
        "yang-library",
        vec![
            Element::children("module-set", set),
            Element::children(
                "schema",
                vec![
                    Element::text("name", "bootstrap"),
                    Element::text("module-set", "bootstrap"),
                ],
            ),
            Element::children(
                "datastore",
                vec![
                    Element::new("name", Value::Identity("operational")),
                    Element::text("schema", "bootstrap"),
                ],
            ),
            Element::text("content-id", content_id(roles)),
        ],
    )
}

/// The resource `{+restconf}/data/ietf-yang-library:modules-state` (RFC 7895), which older
/// clients ask for.
#[must_use]
pub fn modules_state(roles: Roles, encoding: Encoding) -> Vec<u8> {
    schema::encode(&schema::MODULES_STATE, &modules_element(roles), encoding)
}

fn modules_element(roles: Roles) -> Element {
    let mut state = vec![Element::text("module-set-id", content_id(roles))];
    for module in MODULES {
        let mut fields = vec![
            Element::text("name", module.name),
            Element::text("revision", module.revision),
            Element::text("namespace", module.namespace),
        ];
        let features = features(module, roles).into_iter();
        fields.extend(features.map(|feature| Element::text("feature", feature)));
        let kind = if module.is_implemented {
            "implement"
        } else {
            "import"
        };
        fields.push(Element::text("conformance-type", kind));
        state.push(Element::children("module", fields));
    }
    Element::children("modules-state", state)
}

/// The resource `{+restconf}/data`: the list of modules is all the data there is.
#[must_use]
pub fn data(roles: Roles, encoding: Encoding) -> Vec<u8> {
    let data = Element::children("data", vec![library_element(roles), modules_element(roles)]);
    schema::encode(&schema::DATA, &data, encoding)
}
