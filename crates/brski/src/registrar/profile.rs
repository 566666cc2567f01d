//! Vendor profiles: whose devices are recognised, by which rule, and where their MASA is.

use std::collections::BTreeMap;

use artifacts::Tolerances;
use pki::path::Anchors;
use serde::{Deserialize, Serialize};
use url::Url;

use super::Refusal;
use crate::{identity::SerialRule, media::CoseName, paths::BRSKI};

/// The vendor profiles as written in TOML: `[[vendor]]` tables.
///
/// ```
/// let profiles: brski::registrar::ProfilesSpec = toml::from_str(r#"
/// [[vendor]]
/// name = "acme"
/// anchors = ["acme-root.pem"]
/// serial = { subject-serial-number-template = "PID:* SN:{serial}" }
/// masa-url = "masa.acme.example:9443"
/// masa-anchors = ["acme-masa-root.pem"]
/// ignore-expiry = true
/// tolerances = ["id-data", "idevid-issuer-missing"]
/// "#)?;
/// assert_eq!(profiles.vendor[0].name, "acme");
/// # Ok::<(), toml::de::Error>(())
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ProfilesSpec {
    /// The profiles; the first whose anchors fit decides.
    #[serde(default)]
    pub vendor: Vec<ProfileSpec>,
}

/// One vendor profile as written in TOML. Files are named relative to the profile's own file.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct ProfileSpec {
    /// The vendor's name, as policy and timelines call it.
    pub name: String,
    /// Files with the certificates under which this vendor issues IDevIDs.
    pub anchors: Vec<String>,
    /// Files with intermediate certificates that devices forget to send.
    pub intermediates: Vec<String>,
    /// Where the serial number stands.
    pub serial: SerialRule,
    /// The MASA's address, if it is pinned; otherwise the IDevID's extension says it.
    pub masa_url: Option<String>,
    /// Files with the certificates under which the MASA's TLS certificate is issued.
    pub masa_anchors: Vec<String>,
    /// Whether the IDevID's validity period is ignored
    /// ([RFC 8995 §2.6.2](https://www.rfc-editor.org/rfc/rfc8995.html#section-2.6.2)).
    pub ignore_expiry: bool,
    /// The name under which this vendor's MASA knows COSE vouchers.
    pub cose_name: CoseName,
    /// Names of the tolerances towards this vendor's devices and MASA.
    pub tolerances: Vec<String>,
    /// Anything else that policy wants to match on.
    pub labels: BTreeMap<String, String>,
}

/// A vendor profile, ready for use.
#[derive(Clone, Debug)]
pub struct VendorProfile {
    /// The vendor's name.
    pub name: String,
    /// Trust anchors for IDevIDs; never used for the MASA's TLS certificate.
    pub anchors: Anchors,
    /// Intermediates that devices forget to send.
    pub intermediates: Vec<pki::Certificate>,
    /// Trust anchors for the MASA's TLS certificate; never used for IDevIDs.
    pub masa_anchors: Anchors,
    /// Where the serial number stands.
    pub serial: SerialRule,
    /// Where the MASA is.
    pub masa_url: MasaUrlRule,
    /// Whether the IDevID's validity period is ignored.
    pub ignore_expiry: bool,
    /// The name under which the MASA knows COSE vouchers.
    pub cose_name: CoseName,
    /// What is let pass.
    pub tolerances: Tolerances,
}

/// Where a vendor's MASA is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MasaUrlRule {
    /// The extension of the IDevID says it.
    Extension,
    /// Always here, whatever the IDevID says.
    Pinned(String),
    /// Here if the IDevID says nothing.
    Fallback(String),
}

/// All vendor profiles.
#[derive(Clone, Debug, Default)]
pub struct Profiles {
    profiles: Vec<VendorProfile>,
}

impl Profiles {
    /// The profiles in the order in which they are tried.
    #[must_use]
    pub fn new(profiles: Vec<VendorProfile>) -> Self {
        Self { profiles }
    }

    /// The profile of a vendor.
    #[must_use]
    pub fn named(&self, name: &str) -> Option<&VendorProfile> {
        self.profiles.iter().find(|profile| profile.name == name)
    }

    /// All profiles.
    pub fn iter(&self) -> impl Iterator<Item = &VendorProfile> {
        self.profiles.iter()
    }
}

/// The base URL of a MASA, up to and including `/.well-known/brski`, from the extension's text or
/// from configuration ([RFC 8995 §2.3.2](https://www.rfc-editor.org/rfc/rfc8995.html#section-2.3.2)).
///
/// # Errors
/// [`Refusal::MasaUrlInvalid`] for anything that is not an HTTPS address with a host.
pub fn masa_base_url(text: &str) -> Result<Url, Refusal> {
    let invalid = |why: &str| Refusal::MasaUrlInvalid(format!("{text:?}: {why}"));
    if text.is_empty() || text.len() > MASA_URL_LENGTH_MAX_BYTES {
        return Err(invalid("empty or too long"));
    }
    if text
        .chars()
        .any(|c| c.is_control() || c.is_whitespace() || c == '\\')
    {
        return Err(invalid(
            "contains blanks, control characters or backslashes",
        ));
    }
    // URL parsers repair an empty authority by taking the path for it.
    if text.contains(":///") {
        return Err(invalid("there is no host"));
    }
    // BRSKI-2.3.2-02: "If the extension value has no slash it is the authority", with https and
    // the well-known path assumed.
    let mut url = if text.contains('/') {
        Url::parse(text).map_err(|error| invalid(&error.to_string()))?
    } else {
        Url::parse(&format!("https://{text}")).map_err(|error| invalid(&error.to_string()))?
    };
    // BRSKI-2.3.2-04: "Only HTTPS URIs are supported", whatever scheme the extension names.
    if url.scheme() != "https" {
        return Err(invalid("the scheme is not https"));
    }
    if url.host_str().is_none_or(str::is_empty) {
        return Err(invalid("there is no host"));
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err(invalid("there is a user name or a password in it"));
    }
    if url.query().is_some() || url.fragment().is_some() {
        return Err(invalid("there is a query or a fragment in it"));
    }
    let path = url.path().trim_end_matches('/').to_owned();
    // BRSKI-2.3.2-03: a full URI already ends in the well-known path; it is not doubled.
    let path = if path.is_empty() {
        BRSKI.to_owned()
    } else {
        path
    };
    url.set_path(&path);
    Ok(url)
}

/// Longest address of a MASA that is read from a certificate.
pub const MASA_URL_LENGTH_MAX_BYTES: usize = 2048;

#[cfg(test)]
mod tests {
    use super::*;

    /// Requirements: BRSKI-2.3.2-02, BRSKI-2.3.2-03, BRSKI-2.3.2-04
    #[test]
    fn masa_addresses_become_https_bases_without_a_doubled_path() {
        for (text, expect) in [
            (
                "masa.example:9443",
                Some("https://masa.example:9443/.well-known/brski"),
            ),
            (
                "masa.example",
                Some("https://masa.example/.well-known/brski"),
            ),
            (
                "[2001:db8::1]:9443",
                Some("https://[2001:db8::1]:9443/.well-known/brski"),
            ),
            (
                "https://h:4443/.well-known/brski",
                Some("https://h:4443/.well-known/brski"),
            ),
            (
                "https://h:4443/.well-known/brski/",
                Some("https://h:4443/.well-known/brski"),
            ),
            ("https://h/", Some("https://h/.well-known/brski")),
            ("https://h", Some("https://h/.well-known/brski")),
            ("https://h/vendor/masa", Some("https://h/vendor/masa")),
            ("http://h/.well-known/brski", None),
            ("ldap://h/x", None),
            ("ftp://h/", None),
            ("//h/", None),
            ("user:password@h", None),
            ("h name", None),
            ("h\\x", None),
            ("https:///x", None),
            ("", None),
            ("https://h/?q", None),
        ] {
            match (masa_base_url(text), expect) {
                (Ok(url), Some(expect)) => assert_eq!(url.as_str(), expect, "{text}"),
                (Err(Refusal::MasaUrlInvalid(_)), None) => {}
                (other, _) => panic!("{text}: {other:?}"),
            }
        }
    }
}
