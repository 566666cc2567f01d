//! The lint: each rule is one small function over the decoded certificate and its profile.

use std::net::IpAddr;

use time::macros::datetime;

use super::Profile;
use crate::path::identity::is_dns_name;
use crate::path::name::GeneralName;
use crate::path::view::{View, usage};
use crate::{Certificate, oid};

/// Octets of random serial number under which guessing becomes thinkable (64 bits).
const SERIAL_MIN_OCTETS: usize = 8;
/// RFC 5280 §4.1.2.2: at most 20 octets.
const SERIAL_MAX_OCTETS: usize = 20;

/// Something that a certificate should not be signed with.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Finding {
    /// The rule, for example `serial-entropy`.
    pub rule: &'static str,
    /// The particulars, for a person.
    pub detail: String,
}

type Rule = fn(&View<'_>, Profile) -> Option<String>;

/// All rules with their names. A rule returns what is wrong, or nothing.
const RULES: &[(&str, Rule)] = &[
    ("basic-constraints", basic_constraints),
    ("cmc-ra", cmc_ra),
    ("critical-extensions", critical_extensions),
    ("dns-name", dns_name),
    ("empty-subject", empty_subject),
    ("extended-key-usage", extended_key_usage),
    ("idevid-not-after", idevid_not_after),
    ("idevid-serial-number", idevid_serial_number),
    ("key-identifiers", key_identifiers),
    ("key-usage", key_usage),
    ("masa-url", masa_url),
    ("public-key", public_key),
    ("root-is-self-issued", root_is_self_issued),
    ("serial-entropy", serial_entropy),
    ("server-name", server_name),
    ("validity", validity),
    ("version", version),
];

/// Holds a certificate against its profile.
#[must_use]
pub fn lint(certificate: &Certificate, profile: Profile) -> Vec<Finding> {
    let view = match View::of(certificate) {
        Ok(view) => view,
        Err(error) => {
            return vec![Finding {
                rule: "well-formed",
                detail: format!("it has {}", error.0),
            }];
        }
    };
    RULES
        .iter()
        .filter_map(|(rule, check)| check(&view, profile).map(|detail| Finding { rule, detail }))
        .collect()
}

fn found(wrong: bool, detail: &str) -> Option<String> {
    wrong.then(|| detail.to_owned())
}

fn names<'v>(view: &'v View<'_>) -> &'v [GeneralName<'v>] {
    view.subject_alt_name
        .as_ref()
        .map_or(&[], |names| &names.value)
}

fn basic_constraints(view: &View<'_>, profile: Profile) -> Option<String> {
    if profile.is_ca() {
        let good = view
            .basic_constraints
            .is_some_and(|basic| basic.critical && basic.value.ca);
        return found(!good, "a CA needs critical basicConstraints with cA");
    }
    found(view.is_ca(), "only a CA may say that it is one")
}

fn cmc_ra(view: &View<'_>, profile: Profile) -> Option<String> {
    // BRSKI-5.5.4-01: id-kp-cmcRA makes a registrar, so nothing else may ever carry it.
    let present = view.certificate.has_cmc_ra();
    match profile {
        Profile::Registrar => found(!present, "a registrar needs cmcRA in extendedKeyUsage"),
        _ => found(present, "cmcRA in a certificate that is no registrar's"),
    }
}

fn critical_extensions(view: &View<'_>, _: Profile) -> Option<String> {
    found(
        view.unknown_critical.is_some(),
        "a critical extension that path validation does not know",
    )
}

fn dns_name(view: &View<'_>, _: Profile) -> Option<String> {
    names(view).iter().find_map(|name| match name {
        GeneralName::Dns(name) if !is_dns_name(name.strip_prefix("*.").unwrap_or(name)) => {
            Some(format!("{name:?} is not a DNS name"))
        }
        _ => None,
    })
}

fn empty_subject(view: &View<'_>, profile: Profile) -> Option<String> {
    if !view.subject.is_empty() {
        return None;
    }
    let replaced = view
        .subject_alt_name
        .as_ref()
        .is_some_and(|names| names.critical);
    found(
        profile.is_ca() || !replaced,
        "an empty subject without a critical subjectAltName",
    )
}

fn extended_key_usage(view: &View<'_>, profile: Profile) -> Option<String> {
    let present = view.certificate.extended_key_usages();
    let missing = profile
        .purposes()
        .iter()
        .find(|purpose| !present.contains(purpose));
    match profile {
        Profile::Registrar | Profile::TlsServer | Profile::TlsClient => {
            missing.map(|purpose| format!("purpose {purpose} is missing"))
        }
        // Voucher signers serve nobody else's purpose; a stolen one should not open a TLS server.
        Profile::MasaSigner => found(!present.is_empty(), "a voucher signer with other purposes"),
        Profile::RootCa
        | Profile::SubCa { .. }
        | Profile::Owner
        | Profile::Idevid
        | Profile::Ldevid => None,
    }
}

fn idevid_not_after(view: &View<'_>, profile: Profile) -> Option<String> {
    // IEEE 802.1AR §8.7: GeneralizedTime 99991231235959Z, for an identity without a known end.
    let end = datetime!(9999-12-31 23:59:59 UTC);
    found(
        profile == Profile::Idevid && view.not_after != end,
        "an IDevID that ends before the year 9999",
    )
}

fn idevid_serial_number(view: &View<'_>, profile: Profile) -> Option<String> {
    let certificate = view.certificate;
    let known = certificate
        .subject_serial_number()
        .is_some_and(|serial| !serial.is_empty())
        || certificate.hardware_module_name().is_some();
    // BRSKI-2.3.1-01: the serial number of the device is in the subject or in hardwareModuleName.
    found(
        profile == Profile::Idevid && !known,
        "an IDevID without the device's serial number",
    )
}

fn key_identifiers(view: &View<'_>, profile: Profile) -> Option<String> {
    if view
        .authority_key_id
        .as_ref()
        .is_none_or(|id| id.value.key_id.is_none())
    {
        return Some("authorityKeyIdentifier is missing".into());
    }
    // BRSKI-5.8.2-03: registrar certificates always include it, because the domainID is made of it.
    let needed = profile.is_ca() || profile == Profile::Registrar;
    found(
        needed && view.subject_key_id.is_none(),
        "subjectKeyIdentifier is missing",
    )
}

fn key_usage(view: &View<'_>, profile: Profile) -> Option<String> {
    if profile == Profile::Idevid && view.key_usage.is_none() {
        return None;
    }
    let Some(bits) = view.key_usage.filter(|bits| bits.critical) else {
        return Some("critical keyUsage is missing".into());
    };
    if profile.is_ca() {
        let needed = usage::KEY_CERT_SIGN | usage::CRL_SIGN;
        return found(
            bits.value & needed != needed,
            "a CA needs keyCertSign and cRLSign",
        );
    }
    if bits.value & (usage::KEY_CERT_SIGN | usage::CRL_SIGN) != 0 {
        return Some("keyCertSign or cRLSign in a certificate that is no CA's".into());
    }
    found(
        bits.value & usage::DIGITAL_SIGNATURE == 0,
        "digitalSignature is missing",
    )
}

fn masa_url(view: &View<'_>, profile: Profile) -> Option<String> {
    let extension = view.certificate.extension(oid::MASA_URL)?;
    if profile != Profile::Idevid {
        return Some("a MASA URL in a certificate that is no IDevID".into());
    }
    let url = view.certificate.masa_url();
    let good = url.is_some_and(|url| {
        !url.is_empty() && url.chars().all(|c| c.is_ascii_graphic()) && !url.starts_with("http://")
    });
    found(
        !good || extension.is_empty(),
        "the MASA URL is empty, has spaces or is not for HTTPS",
    )
}

fn public_key(view: &View<'_>, _: Profile) -> Option<String> {
    let key = view.certificate.public_key();
    found(
        key.kind().is_none(),
        "a key of a type or size that is not issued for",
    )
}

fn root_is_self_issued(view: &View<'_>, profile: Profile) -> Option<String> {
    match profile {
        Profile::RootCa => found(!view.is_self_issued(), "a root under another issuer's name"),
        _ => found(
            view.is_self_issued() && view.is_ca(),
            "a CA below another has the same name",
        ),
    }
}

fn serial_entropy(view: &View<'_>, _: Profile) -> Option<String> {
    let serial = view.serial;
    let positive = serial.first().is_some_and(|&first| first < 0x80);
    let long = (SERIAL_MIN_OCTETS..=SERIAL_MAX_OCTETS).contains(&serial.len());
    found(
        !positive || !long,
        "the serial number is not positive with 64 bits to 20 octets",
    )
}

fn server_name(view: &View<'_>, profile: Profile) -> Option<String> {
    let named = names(view).iter().any(|name| match name {
        GeneralName::Dns(_) => true,
        GeneralName::Ip(octets) => {
            <[u8; 4]>::try_from(*octets).map(IpAddr::from).is_ok()
                || <[u8; 16]>::try_from(*octets).map(IpAddr::from).is_ok()
        }
        _ => false,
    });
    found(
        profile == Profile::TlsServer && !named,
        "a TLS server without DNS name or IP address",
    )
}

fn validity(view: &View<'_>, _: Profile) -> Option<String> {
    found(
        view.not_after <= view.not_before,
        "it ends before it begins",
    )
}

fn version(view: &View<'_>, _: Profile) -> Option<String> {
    found(view.version != 2, "it is not of version 3")
}
