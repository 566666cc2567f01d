//! Whether a certificate may be used for what the caller wants: keyUsage, extendedKeyUsage, the
//! strength of its key, and the name it has to prove.

use super::search::Fault;
use super::view::{View, usage};
use super::{PathOptions, Purpose, Reason, identity};
use crate::PublicKey;
use crate::limits::RSA_MODULUS_MIN_BITS;

const SERVER_AUTH: &[u8] = &[0x2b, 0x06, 0x01, 0x05, 0x05, 0x07, 0x03, 0x01];
const CLIENT_AUTH: &[u8] = &[0x2b, 0x06, 0x01, 0x05, 0x05, 0x07, 0x03, 0x02];
const CMC_RA: &[u8] = &[0x2b, 0x06, 0x01, 0x05, 0x05, 0x07, 0x03, 0x1c];
const ANY_PURPOSE: &[u8] = &[0x55, 0x1d, 0x25, 0x00];

/// Checks the leaf, and for TLS the intermediate certificates of `path` too: an extendedKeyUsage in a
/// CA certificate is nowhere in RFC 5280 §6, but issuers mean it as a limit and TLS stacks take it so.
pub(super) fn check<'v, 'a>(
    leaf: &'v View<'a>,
    path: &[&'v View<'a>],
    options: &PathOptions,
) -> Result<(), (&'v View<'a>, Fault)> {
    check_leaf(leaf, options).map_err(|fault| (leaf, fault))?;
    let wanted = match options.purpose {
        Purpose::Server => SERVER_AUTH,
        Purpose::Client => CLIENT_AUTH,
        Purpose::Any | Purpose::Masa | Purpose::Registrar | Purpose::Idevid => return Ok(()),
    };
    for &view in path {
        if !allows(view, wanted) {
            let detail = "the extendedKeyUsage of a CA does not include the purpose";
            return Err((view, (Reason::ExtendedKeyUsage, detail.into())));
        }
    }
    Ok(())
}

fn check_leaf(leaf: &View<'_>, options: &PathOptions) -> Result<(), Fault> {
    if is_short_rsa(leaf.certificate.public_key()) && !options.tolerate_legacy_algorithms {
        return Err((
            Reason::WeakKey,
            format!("its RSA key has less than {RSA_MODULUS_MIN_BITS} bits"),
        ));
    }
    if options.purpose != Purpose::Any && !leaf.certificate.public_key().is_supported() {
        let detail = "its public key is of a type that nothing here can use";
        return Err((Reason::AlgorithmUnsupported, detail.into()));
    }
    let (purpose, usages) = match options.purpose {
        Purpose::Any => (None, None),
        Purpose::Server => {
            let usages = usage::DIGITAL_SIGNATURE | usage::KEY_ENCIPHERMENT | usage::KEY_AGREEMENT;
            (Some((SERVER_AUTH, "serverAuth")), Some(usages))
        }
        Purpose::Client | Purpose::Idevid => (
            Some((CLIENT_AUTH, "clientAuth")),
            Some(usage::DIGITAL_SIGNATURE),
        ),
        Purpose::Masa => (None, Some(usage::DIGITAL_SIGNATURE)),
        Purpose::Registrar => {
            // BRSKI-5.5.4-01: the registrar's certificate is recognised by id-kp-cmcRA. It must be
            // named; anyExtendedKeyUsage or no extension at all would make every device a registrar.
            let named = leaf
                .extended_key_usage
                .as_ref()
                .is_some_and(|purposes| purposes.value.contains(&CMC_RA));
            if !named {
                return Err((
                    Reason::ExtendedKeyUsage,
                    "extendedKeyUsage does not include cmcRA".into(),
                ));
            }
            (None, Some(usage::DIGITAL_SIGNATURE))
        }
    };
    if let Some((wanted, name)) = purpose
        && !allows(leaf, wanted)
    {
        return Err((
            Reason::ExtendedKeyUsage,
            format!("extendedKeyUsage does not include {name}"),
        ));
    }
    if usages.is_some_and(|usages| !leaf.may(usages)) {
        return Err((
            Reason::KeyUsage,
            "keyUsage does not allow what the key is wanted for".into(),
        ));
    }
    match &options.name {
        Some(name) if !identity::proves(leaf, name) => {
            Err((Reason::NameMismatch, format!("no subjectAltName is {name}")))
        }
        _ => Ok(()),
    }
}

/// RFC 5280 §4.2.1.12: without the extension any purpose, with it only those that are named.
fn allows(view: &View<'_>, wanted: &[u8]) -> bool {
    view.extended_key_usage.as_ref().is_none_or(|purposes| {
        purposes
            .value
            .iter()
            .any(|&purpose| purpose == wanted || purpose == ANY_PURPOSE)
    })
}

/// Whether this is an RSA key that is too short to be believed.
pub(super) fn is_short_rsa(key: &PublicKey) -> bool {
    key.rsa_modulus_bits()
        .is_some_and(|bits| bits < RSA_MODULUS_MIN_BITS)
}
