//! What the YANG module says beyond syntax, for reading and for writing.

use std::net::IpAddr;

use super::tree::{Field, ONBOARDING, ONBOARDING_FIELDS, REDIRECT, REDIRECT_FIELDS, Tree, Value};
use super::types::{
    BootImage, BootstrapServer, ConfigurationHandling, ConveyedInformation, HashAlgorithm,
    ImageVerification, OnboardingInformation, RedirectInformation,
};
use super::{json, xml};
use crate::Encoding;
use crate::error::{Document, Error, Fault};
use crate::json::shown;
use crate::leaf::{decode_base64, decode_base64_leniently, encode_base64};
use crate::tolerances::{Oddity, Tolerances};

/// Largest conveyed information, in octets of JSON or XML.
pub(super) const CONVEYED_SIZE_MAX_BYTES: usize = 1024 * 1024;
/// Most bootstrap servers, URIs and hashes in one document.
const ENTRIES_MAX: usize = 256;
/// Longest URI.
const URI_LENGTH_MAX_BYTES: usize = 4096;

pub(super) const DOCUMENT: Document = Document::ConveyedInformation;

pub(super) fn fail(fault: Fault, detail: impl Into<String>) -> Error {
    Error::new(DOCUMENT, fault, detail)
}

/// One reading: what is tolerated, and what was.
pub(super) struct Reading<'t> {
    pub(super) tolerances: &'t Tolerances,
    pub(super) oddities: Vec<Oddity>,
}

impl<'t> Reading<'t> {
    pub(super) fn new(tolerances: &'t Tolerances) -> Self {
        Self {
            tolerances,
            oddities: Vec::new(),
        }
    }

    pub(super) fn odd(&mut self, name: &'static str, detail: impl Into<String>) {
        let oddity = Oddity::new(name, detail);
        if !self.oddities.contains(&oddity) {
            self.oddities.push(oddity);
        }
    }

    /// A node that the module does not have.
    pub(super) fn unknown(&mut self, name: &str) -> Result<(), Error> {
        if !self.tolerances.unknown_members {
            let detail = format!("{} is not in the model", shown(name));
            return Err(fail(Fault::UnknownMember, detail));
        }
        self.odd("unknown-members", shown(name));
        Ok(())
    }

    pub(super) fn tolerate_wrapper(&mut self, name: &str) -> Result<(), Error> {
        if !self.tolerances.conveyed_wrapper {
            let detail = format!("{} is a name that is never sent", shown(name));
            return Err(fail(Fault::TopLevelName, detail));
        }
        self.odd("conveyed-wrapper", shown(name));
        Ok(())
    }

    pub(super) fn tolerate_byte_order_mark(&mut self) -> Result<(), Error> {
        if !self.tolerances.byte_order_mark {
            let detail = "the XML text begins with a byte order mark";
            return Err(fail(Fault::ByteOrderMark, detail));
        }
        self.odd("byte-order-mark", "before the XML text");
        Ok(())
    }

    fn binary(&mut self, name: &str, text: Option<String>) -> Result<Option<Vec<u8>>, Error> {
        let Some(mut text) = text else {
            return Ok(None);
        };
        let is_space = |c: char| matches!(c, ' ' | '\t' | '\r' | '\n');
        if self.tolerances.base64_white_space && text.contains(is_space) {
            text.retain(|c| !is_space(c));
            self.odd("base64-white-space", format!("in {name}"));
        }
        if let Some(bytes) = decode_base64(&text) {
            return Ok(Some(bytes));
        }
        let lenient = (!text.contains(is_space))
            .then(|| decode_base64_leniently(&text))
            .flatten();
        // Left-over bits alone keep the alphabet and the padding.
        let canonical_form = text.len() % 4 == 0 && !text.contains(['-', '_']);
        match lenient {
            Some(bytes) if canonical_form && self.tolerances.base64_non_canonical => {
                self.odd("base64-non-canonical", format!("in {name}"));
                Ok(Some(bytes))
            }
            Some(bytes) if !canonical_form && self.tolerances.binary_base64url => {
                self.odd("binary-base64url", format!("in {name}"));
                Ok(Some(bytes))
            }
            _ => {
                let detail = format!("{name} is not base64 as RFC 4648 section 4 has it");
                Err(fail(Fault::BadBase64, detail))
            }
        }
    }
}

/// Reads a document.
pub(super) fn decode(
    bytes: &[u8],
    encoding: Encoding,
    tolerances: &Tolerances,
) -> Result<(ConveyedInformation, Vec<Oddity>), Error> {
    let mut reading = Reading::new(tolerances);
    let (name, tree) = match encoding {
        Encoding::Json => json::read(bytes, &mut reading)?,
        Encoding::Xml => xml::read(bytes, &mut reading)?,
    };
    let information = if name == REDIRECT {
        ConveyedInformation::Redirect(redirect(tree, &mut reading)?)
    } else {
        ConveyedInformation::Onboarding(onboarding(tree, &mut reading)?)
    };
    check(&information, &mut reading)?;
    Ok((information, reading.oddities))
}

/// Writes a document that keeps every rule that is not tolerated to be broken.
pub(super) fn encode(
    information: &ConveyedInformation,
    encoding: Encoding,
    tolerances: &Tolerances,
) -> Result<Vec<u8>, Error> {
    check(information, &mut Reading::new(tolerances))?;
    let (name, tree) = match information {
        ConveyedInformation::Redirect(redirect) => {
            for server in &redirect.bootstrap_servers {
                // SZTP-8572-6.3-05: a degenerate SignedData with one chain that includes a
                // self-signed root.
                server.anchor(tolerances)?;
            }
            (REDIRECT, redirect_tree(redirect))
        }
        ConveyedInformation::Onboarding(onboarding) => {
            let tree = onboarding_tree(onboarding);
            // RFC 7950 section 7.9.4: a mandatory choice wants a node, and a container without
            // content counts for none. Reading is not that strict.
            if tree.0.is_empty() {
                let detail = "the onboarding information is empty";
                return Err(fail(Fault::Empty, detail));
            }
            (ONBOARDING, tree)
        }
    };
    let bytes = match encoding {
        Encoding::Json => json::write(name, tree),
        Encoding::Xml => xml::write(name, &tree),
    };
    if bytes.len() > CONVEYED_SIZE_MAX_BYTES {
        let detail = format!(
            "{} octets, the limit is {CONVEYED_SIZE_MAX_BYTES}",
            bytes.len()
        );
        return Err(fail(Fault::TooLarge, detail));
    }
    Ok(bytes)
}

pub(super) fn fields_of(name: &str) -> &'static [Field] {
    if name == REDIRECT {
        REDIRECT_FIELDS
    } else {
        ONBOARDING_FIELDS
    }
}

/// The one kind that is there.
pub(super) fn only_one<T>(found: Vec<(&'static str, T)>) -> Result<(&'static str, T), Error> {
    let several = found.len() > 1;
    let first = found.into_iter().next();
    match first {
        // SZTP-8572-6.3-01: exactly one of redirect-information and onboarding-information.
        Some(_) if several => {
            let detail = "it has redirect and onboarding information";
            Err(fail(Fault::BothKinds, detail))
        }
        Some(one) => Ok(one),
        None => {
            let detail = "it has neither redirect nor onboarding information";
            Err(fail(Fault::MissingMember, detail))
        }
    }
}

fn required(value: Option<String>, name: &str) -> Result<String, Error> {
    value.ok_or_else(|| fail(Fault::MissingMember, format!("{name} is missing")))
}

fn redirect(mut tree: Tree, reading: &mut Reading<'_>) -> Result<RedirectInformation, Error> {
    let mut bootstrap_servers = Vec::new();
    for mut entry in tree.nodes("bootstrap-server") {
        let address = required(entry.leaf("address"), "address")?;
        let port = entry.leaf("port").map(|text| port(&text)).transpose()?;
        let anchor = entry.leaf("trust-anchor");
        let trust_anchor = reading.binary("trust-anchor", anchor)?;
        bootstrap_servers.push(BootstrapServer {
            address,
            port,
            trust_anchor,
        });
    }
    Ok(RedirectInformation { bootstrap_servers })
}

fn port(text: &str) -> Result<u16, Error> {
    let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let port = digits.then(|| text.parse().ok()).flatten();
    port.ok_or_else(|| fail(Fault::BadPort, format!("port is \"{}\"", shown(text))))
}

fn onboarding(mut tree: Tree, reading: &mut Reading<'_>) -> Result<OnboardingInformation, Error> {
    let boot_image = match tree.nodes("boot-image").into_iter().next() {
        Some(node) => Some(boot_image(node, reading)?),
        None => None,
    };
    let configuration_handling = match tree.leaf("configuration-handling") {
        None => None,
        Some(text) => Some(ConfigurationHandling::from_name(&text).ok_or_else(|| {
            let detail = format!("configuration-handling is \"{}\"", shown(&text));
            fail(Fault::BadHandling, detail)
        })?),
    };
    let mut binary = |name| reading.binary(name, tree.leaf(name));
    Ok(OnboardingInformation {
        boot_image,
        configuration_handling,
        pre_configuration_script: binary("pre-configuration-script")?,
        configuration: binary("configuration")?,
        post_configuration_script: binary("post-configuration-script")?,
    })
}

fn boot_image(mut tree: Tree, reading: &mut Reading<'_>) -> Result<BootImage, Error> {
    let mut image_verifications = Vec::new();
    for mut entry in tree.nodes("image-verification") {
        let name = required(entry.leaf("hash-algorithm"), "hash-algorithm")?;
        let text = required(entry.leaf("hash-value"), "hash-value")?;
        if name != HashAlgorithm::Sha256.as_str() {
            let detail = format!("hash-algorithm is \"{}\"", shown(&name));
            if reading.tolerances.unknown_members {
                reading.odd("unknown-members", detail);
                continue;
            }
            return Err(fail(Fault::UnknownHash, detail));
        }
        let algorithm = HashAlgorithm::Sha256;
        let value = hash_value(&text, reading)?;
        image_verifications.push(ImageVerification { algorithm, value });
    }
    Ok(BootImage {
        os_name: tree.leaf("os-name"),
        os_version: tree.leaf("os-version"),
        download_uris: tree.leaves("download-uri"),
        image_verifications,
    })
}

/// Reads yang:hex-string: octets in two hexadecimal digits each, with colons between them.
fn hash_value(text: &str, reading: &mut Reading<'_>) -> Result<Vec<u8>, Error> {
    let plain = !text.contains(':') && text.len() > 2;
    let wrong = || {
        let detail = format!(
            "hash-value \"{}\" is no hex-string with colons",
            shown(text)
        );
        fail(Fault::BadHash, detail)
    };
    if plain {
        // SZTP-8572-6.3-12: a colon-separated hex-string.
        if !reading.tolerances.hash_without_colons {
            return Err(wrong());
        }
        let value = hex::decode(text).map_err(|_| wrong())?;
        reading.odd("hash-without-colons", "hash-value");
        return Ok(value);
    }
    if text.is_empty() {
        return Ok(Vec::new());
    }
    let octet = |pair: &str| match pair.len() {
        2 => hex::decode(pair).ok()?.first().copied(),
        _ => None,
    };
    text.split(':')
        .map(octet)
        .collect::<Option<Vec<u8>>>()
        .ok_or_else(wrong)
}

/// The rules between leaves, the same for reading and writing.
fn check(information: &ConveyedInformation, reading: &mut Reading<'_>) -> Result<(), Error> {
    match information {
        ConveyedInformation::Redirect(redirect) => check_redirect(redirect),
        ConveyedInformation::Onboarding(onboarding) => check_onboarding(onboarding, reading),
    }
}

fn check_redirect(redirect: &RedirectInformation) -> Result<(), Error> {
    let servers = &redirect.bootstrap_servers;
    // SZTP-8572-6.3-02: at least one entry, unique by address.
    if servers.is_empty() {
        return Err(fail(Fault::MissingMember, "there is no bootstrap-server"));
    }
    check_count("bootstrap servers", servers.len())?;
    let mut seen = std::collections::HashSet::new();
    for server in servers {
        let address = &server.address;
        // SZTP-8572-6.3-03: address is an IP address or host name.
        if !is_host(address) {
            let detail = format!("\"{}\" is neither host name nor IP address", shown(address));
            return Err(fail(Fault::BadAddress, detail));
        }
        if !seen.insert(address.to_ascii_lowercase()) {
            let detail = format!("{} stands twice", shown(address));
            return Err(fail(Fault::DuplicateServer, detail));
        }
    }
    Ok(())
}

fn check_count(what: &str, count: usize) -> Result<(), Error> {
    if count > ENTRIES_MAX {
        return Err(fail(Fault::TooLarge, format!("over {ENTRIES_MAX} {what}")));
    }
    Ok(())
}

fn check_onboarding(
    onboarding: &OnboardingInformation,
    reading: &mut Reading<'_>,
) -> Result<(), Error> {
    if let Some(image) = &onboarding.boot_image {
        check_image(image, reading)?;
    }
    // SZTP-8572-6.3-13: configuration and configuration-handling are present together or not
    // at all.
    match (&onboarding.configuration, onboarding.configuration_handling) {
        (Some(_), None) => Err(fail(
            Fault::ConfigurationWithoutHandling,
            "configuration stands without configuration-handling",
        )),
        (None, Some(_)) => Err(fail(
            Fault::HandlingWithoutConfiguration,
            "configuration-handling stands without configuration",
        )),
        (Some(_), Some(_)) | (None, None) => Ok(()),
    }
}

fn check_image(image: &BootImage, reading: &mut Reading<'_>) -> Result<(), Error> {
    check_count("URIs", image.download_uris.len())?;
    check_count("hashes", image.image_verifications.len())?;
    for text in [&image.os_name, &image.os_version].into_iter().flatten() {
        // RFC 7950 section 9.4: the characters that XML can carry.
        if !text.chars().all(crate::xml::is_xml_char) {
            let detail = format!(
                "\"{}\" has a character that no YANG string has",
                shown(text)
            );
            return Err(fail(Fault::WrongType, detail));
        }
    }
    for (index, uri) in image.download_uris.iter().enumerate() {
        if !is_uri(uri) {
            let detail = format!("download-uri \"{}\" is not a URI", shown(uri));
            return Err(fail(Fault::BadUri, detail));
        }
        // RFC 7950 section 7.7: the values of a leaf-list are unique.
        let before = image.download_uris.get(..index).unwrap_or_default();
        if before.contains(uri) {
            let detail = format!("download-uri \"{}\" stands twice", shown(uri));
            return Err(fail(Fault::DuplicateUri, detail));
        }
    }
    // SZTP-8572-6.3-11: image-verification requires at least one download-uri.
    if !image.image_verifications.is_empty() && image.download_uris.is_empty() {
        let detail = "image-verification stands without download-uri";
        return Err(fail(Fault::VerificationWithoutUri, detail));
    }
    for (index, verification) in image.image_verifications.iter().enumerate() {
        let (algorithm, length) = (verification.algorithm, verification.value.len());
        if length != algorithm.length_bytes() {
            let name = algorithm.as_str();
            let detail = format!("hash-value has {length} octets, {name} has 32");
            return Err(fail(Fault::BadHash, detail));
        }
        let before = image.image_verifications.get(..index).unwrap_or_default();
        if before.iter().any(|other| other.algorithm == algorithm) {
            if !reading.tolerances.verification_per_uri {
                let detail = format!("{} stands twice", algorithm.as_str());
                return Err(fail(Fault::DuplicateHash, detail));
            }
            reading.odd("verification-per-uri", algorithm.as_str());
        }
    }
    Ok(())
}

/// inet:host of [RFC 6991 §4](https://www.rfc-editor.org/rfc/rfc6991.html#section-4).
pub(super) fn is_host(text: &str) -> bool {
    let (address, zone) = match text.split_once('%') {
        Some((address, zone)) => (address, Some(zone)),
        None => (text, None),
    };
    if address.parse::<IpAddr>().is_ok() {
        return zone.is_none_or(|zone| {
            !zone.is_empty() && zone.len() <= 64 && zone.chars().all(char::is_alphanumeric)
        });
    }
    is_domain_name(text)
}

fn is_domain_name(text: &str) -> bool {
    let name = text.strip_suffix('.').unwrap_or(text);
    let is_label = |label: &str| {
        let bytes = label.as_bytes();
        let ends = [bytes.first(), bytes.last()];
        let inner = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
        let [Some(first), Some(last)] = ends else {
            return false;
        };
        bytes.len() <= 63
            && bytes.iter().all(inner)
            && (first.is_ascii_alphanumeric() || *first == b'_')
            && last.is_ascii_alphanumeric()
    };
    text == "." || text.len() <= 253 && name.split('.').all(is_label)
}

/// inet:uri: a scheme and printable ASCII. More is the matter of whoever downloads.
fn is_uri(text: &str) -> bool {
    let Some((scheme, rest)) = text.split_once(':') else {
        return false;
    };
    text.len() <= URI_LENGTH_MAX_BYTES
        && scheme.starts_with(|c: char| c.is_ascii_alphabetic())
        && scheme
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || b"+-.".contains(&byte))
        && !rest.is_empty()
        && text
            .bytes()
            .all(|byte| byte.is_ascii_graphic() && !b"<>\"{}|\\^`".contains(&byte))
}

fn redirect_tree(redirect: &RedirectInformation) -> Tree {
    let servers = redirect.bootstrap_servers.iter().map(|server| {
        let mut tree = Tree::default();
        tree.push_leaf("address", Some(server.address.clone()));
        tree.push_leaf("port", server.port.map(|port| port.to_string()));
        tree.push_leaf(
            "trust-anchor",
            server.trust_anchor.as_deref().map(encode_base64),
        );
        tree
    });
    Tree(vec![(
        "bootstrap-server".to_owned(),
        Value::Nodes(servers.collect()),
    )])
}

fn onboarding_tree(onboarding: &OnboardingInformation) -> Tree {
    let mut tree = Tree::default();
    if let Some(image) = &onboarding.boot_image {
        let node = image_tree(image);
        if !node.0.is_empty() {
            let node = Value::Nodes(vec![node]);
            tree.0.push(("boot-image".to_owned(), node));
        }
    }
    let handling = onboarding.configuration_handling;
    tree.push_leaf(
        "configuration-handling",
        handling.map(|handling| handling.as_str().to_owned()),
    );
    for (name, value) in [
        (
            "pre-configuration-script",
            &onboarding.pre_configuration_script,
        ),
        ("configuration", &onboarding.configuration),
        (
            "post-configuration-script",
            &onboarding.post_configuration_script,
        ),
    ] {
        tree.push_leaf(name, value.as_deref().map(encode_base64));
    }
    tree
}

fn image_tree(image: &BootImage) -> Tree {
    let mut tree = Tree::default();
    tree.push_leaf("os-name", image.os_name.clone());
    tree.push_leaf("os-version", image.os_version.clone());
    if !image.download_uris.is_empty() {
        let uris = Value::Leaves(image.download_uris.clone());
        tree.0.push(("download-uri".to_owned(), uris));
    }
    if !image.image_verifications.is_empty() {
        let hashes = image.image_verifications.iter().map(|verification| {
            let octets: Vec<String> = verification
                .value
                .iter()
                .map(|octet| format!("{octet:02x}"))
                .collect();
            let mut tree = Tree::default();
            let name = verification.algorithm.as_str();
            tree.push_leaf("hash-algorithm", Some(name.to_owned()));
            tree.push_leaf("hash-value", Some(octets.join(":")));
            tree
        });
        let hashes = Value::Nodes(hashes.collect());
        tree.0.push(("image-verification".to_owned(), hashes));
    }
    tree
}
