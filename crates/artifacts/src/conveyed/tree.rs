//! The schema of
//! [RFC 8572 §6.3](https://www.rfc-editor.org/rfc/rfc8572.html#section-6.3), and an instance of it
//! between the two encodings and the types.

/// A node of the schema.
pub(super) struct Field {
    pub(super) name: &'static str,
    pub(super) kind: Kind,
}

/// What kind of node it is.
pub(super) enum Kind {
    /// A leaf whose value is a string in JSON.
    Text,
    /// A leaf whose value is a number in JSON.
    Number,
    /// An identityref of this module.
    Identity,
    /// A leaf-list of strings.
    LeafList,
    /// A container.
    Container(&'static [Field]),
    /// A list.
    List(&'static [Field]),
}

const fn leaf(name: &'static str) -> Field {
    Field {
        name,
        kind: Kind::Text,
    }
}

pub(super) const REDIRECT: &str = "redirect-information";
pub(super) const ONBOARDING: &str = "onboarding-information";

/// The nodes below each of the two.
pub(super) const REDIRECT_FIELDS: &[Field] = &[Field {
    name: "bootstrap-server",
    kind: Kind::List(&[
        leaf("address"),
        Field {
            name: "port",
            kind: Kind::Number,
        },
        leaf("trust-anchor"),
    ]),
}];
pub(super) const ONBOARDING_FIELDS: &[Field] = &[
    Field {
        name: "boot-image",
        kind: Kind::Container(&[
            leaf("os-name"),
            leaf("os-version"),
            Field {
                name: "download-uri",
                kind: Kind::LeafList,
            },
            Field {
                name: "image-verification",
                kind: Kind::List(&[
                    Field {
                        name: "hash-algorithm",
                        kind: Kind::Identity,
                    },
                    leaf("hash-value"),
                ]),
            },
        ]),
    },
    leaf("configuration-handling"),
    leaf("pre-configuration-script"),
    leaf("configuration"),
    leaf("post-configuration-script"),
];

/// An instance of a container or of a list's entry: values by name, in the order of the schema
/// when it is to be written.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Tree(pub(super) Vec<(String, Value)>);

/// The value of a node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Value {
    /// Of a leaf.
    Leaf(String),
    /// Of a leaf-list.
    Leaves(Vec<String>),
    /// Of a container, which has one, or of a list.
    Nodes(Vec<Tree>),
}

impl Tree {
    fn take(&mut self, name: &str) -> Option<Value> {
        let place = self.0.iter().position(|(found, _)| found == name)?;
        Some(self.0.remove(place).1)
    }

    pub(super) fn leaf(&mut self, name: &str) -> Option<String> {
        match self.take(name)? {
            Value::Leaf(text) => Some(text),
            Value::Leaves(_) | Value::Nodes(_) => None,
        }
    }

    pub(super) fn leaves(&mut self, name: &str) -> Vec<String> {
        match self.take(name) {
            Some(Value::Leaves(texts)) => texts,
            _ => Vec::new(),
        }
    }

    pub(super) fn nodes(&mut self, name: &str) -> Vec<Self> {
        match self.take(name) {
            Some(Value::Nodes(nodes)) => nodes,
            _ => Vec::new(),
        }
    }

    /// Adds a leaf if there is a value.
    pub(super) fn push_leaf(&mut self, name: &str, text: Option<String>) {
        if let Some(text) = text {
            self.0.push((name.to_owned(), Value::Leaf(text)));
        }
    }
}
