//! What `usher artifact verify` is asked, on the command line or in a line of a batch.

use serde::{Deserialize, Deserializer};
use serde_json::Value;

/// One or several file names.
#[derive(Clone, Debug, Default)]
pub(super) struct Names(pub(super) Vec<String>);

impl<'de> Deserialize<'de> for Names {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(untagged)]
        enum Either {
            Many(Vec<String>),
            None(()),
            One(String),
        }
        Ok(Self(match Either::deserialize(deserializer)? {
            Either::Many(names) => names,
            Either::None(()) => Vec::new(),
            Either::One(name) => vec![name],
        }))
    }
}

/// Text, or a number for text: serial numbers are often all digits.
fn text<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<String>, D::Error> {
    match Value::deserialize(deserializer)? {
        Value::Null => Ok(None),
        Value::String(text) => Ok(Some(text)),
        Value::Number(number) => Ok(Some(number.to_string())),
        other => Err(serde::de::Error::custom(format!("{other} is no text"))),
    }
}

/// What to judge and everything that is known about it.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Case {
    #[serde(alias = "artifact", alias = "path", alias = "FILE")]
    pub(super) file: Option<String>,
    pub(super) kind: Option<String>,
    pub(super) anchors: Names,
    pub(super) intermediates: Names,
    pub(super) crl: Names,
    pub(super) at: Option<String>,
    #[serde(alias = "no-clock")]
    pub(super) no_clock: Option<bool>,
    pub(super) lenient: Option<bool>,
    pub(super) tolerate: Names,
    #[serde(deserialize_with = "text")]
    pub(super) serial: Option<String>,
    pub(super) nonce: Option<String>,
    pub(super) idevid: Option<String>,
    pub(super) domain: Names,
    pub(super) request: Option<String>,
    pub(super) peer: Names,
    pub(super) registrar: Names,
    #[serde(alias = "owner-certificate")]
    pub(super) owner_certificate: Option<String>,
    pub(super) voucher: Option<String>,
    pub(super) key: Option<String>,
    #[serde(alias = "trusted-source")]
    pub(super) trusted_source: Option<bool>,
}

impl Case {
    /// The members that a batch line may have.
    pub(super) const MEMBERS: &'static [&'static str] = &[
        "file",
        "artifact",
        "path",
        "FILE",
        "kind",
        "anchors",
        "intermediates",
        "crl",
        "at",
        "no_clock",
        "no-clock",
        "lenient",
        "tolerate",
        "serial",
        "nonce",
        "idevid",
        "domain",
        "request",
        "peer",
        "registrar",
        "owner_certificate",
        "owner-certificate",
        "voucher",
        "key",
        "trusted_source",
        "trusted-source",
    ];

    /// Takes from `defaults` what is not said here.
    pub(super) fn or(self, defaults: &Self) -> Self {
        let names = |mine: Names, theirs: &Names| {
            if mine.0.is_empty() {
                theirs.clone()
            } else {
                mine
            }
        };
        Self {
            file: self.file.or_else(|| defaults.file.clone()),
            kind: self.kind.or_else(|| defaults.kind.clone()),
            anchors: names(self.anchors, &defaults.anchors),
            intermediates: names(self.intermediates, &defaults.intermediates),
            crl: names(self.crl, &defaults.crl),
            at: self.at.or_else(|| defaults.at.clone()),
            no_clock: self.no_clock.or(defaults.no_clock),
            lenient: self.lenient.or(defaults.lenient),
            tolerate: names(self.tolerate, &defaults.tolerate),
            serial: self.serial.or_else(|| defaults.serial.clone()),
            nonce: self.nonce.or_else(|| defaults.nonce.clone()),
            idevid: self.idevid.or_else(|| defaults.idevid.clone()),
            domain: names(self.domain, &defaults.domain),
            request: self.request.or_else(|| defaults.request.clone()),
            peer: names(self.peer, &defaults.peer),
            registrar: names(self.registrar, &defaults.registrar),
            owner_certificate: self
                .owner_certificate
                .or_else(|| defaults.owner_certificate.clone()),
            voucher: self.voucher.or_else(|| defaults.voucher.clone()),
            key: self.key.or_else(|| defaults.key.clone()),
            trusted_source: self.trusted_source.or(defaults.trusted_source),
        }
    }
}
