//! What has to hold for every voucher.

use pki::{Certificate, Oddity, path::Purpose};
use serde_json::Value;
use time::{OffsetDateTime, format_description::well_known::Rfc3339};

use crate::{
    forge::voucher::VOUCHER,
    inspect::{Envelope, Signed, binary},
    outcome::{Finding, Told, must},
};

/// A check on any voucher.
pub struct Check {
    /// The last part of the case's id.
    pub name: &'static str,
    /// Standard and section, the middle part of the case's id.
    pub section: &'static str,
    /// What it checks.
    pub title: &'static str,
    /// The rows that it covers.
    pub requirements: &'static [&'static str],
    /// Words to select it by.
    pub tags: &'static [&'static str],
    /// The check.
    pub check: fn(&Signed) -> Told,
}

/// All of them.
pub const CHECKS: &[Check] = &[
    Check {
        name: "der",
        section: "rfc8366-5.4",
        title: "the voucher is a ContentInfo of type signedData in DER",
        requirements: &["VOUCHER-5.4-01", "SZTP-8366-5.4-01"],
        tags: &["cms"],
        check: is_der,
    },
    Check {
        name: "content-type",
        section: "rfc8366-5.4",
        title: "eContentType is id-ct-animaJSONVoucher",
        requirements: &["VOUCHER-5.4-02", "VOUCHERBIS-7.1-01"],
        tags: &["cms"],
        check: content_type,
    },
    Check {
        name: "one-signature",
        section: "rfc8366-5.4",
        title: "there is a signature, and it holds",
        requirements: &["VOUCHER-5.4-03", "VOUCHERBIS-7.1-02", "CMS-5.2-01"],
        tags: &["cms", "jws"],
        check: one_signature,
    },
    Check {
        name: "signed-attributes",
        section: "rfc8366bis-7.1",
        title: "signedAttrs are present and in DER",
        requirements: &["VOUCHERBIS-7.1-04", "CMS-5.3-03", "CMS-5.3-04"],
        tags: &["cms"],
        check: signed_attributes,
    },
    Check {
        name: "version",
        section: "rfc5652-5.1",
        title: "the versions of SignedData and SignerInfo are those that the contents demand",
        requirements: &["CMS-5.1-01", "CMS-5.3-02", "VOUCHERBIS-7.1-03"],
        tags: &["cms"],
        check: version,
    },
    Check {
        name: "algorithms",
        section: "rfc5652-5.3",
        title: "digest and signature algorithm go together and are not outdated",
        requirements: &["CMS-5.3-05"],
        tags: &["cms"],
        check: algorithms,
    },
    Check {
        name: "signer-certificate",
        section: "rfc8366-5.4",
        title: "the signer's certificate comes along",
        requirements: &["VOUCHER-5.4-05", "VOUCHERBIS-7.1-06"],
        tags: &["cms"],
        check: signer_certificate,
    },
    Check {
        name: "general-serialisation",
        section: "jws-voucher-3",
        title: "a JWS voucher is in the general serialisation with typ voucher-jws+json",
        requirements: &[
            "JWS-3-01",
            "JWS-3-02",
            "JWS-3.2-01",
            "JWS-3.2-02",
            "JWS-3.2-03",
        ],
        tags: &["jws"],
        check: general_serialisation,
    },
    Check {
        name: "top-level-member",
        section: "rfc8995-3",
        title: "the only top-level member is ietf-voucher:voucher",
        requirements: &[
            "BRSKI-3-03",
            "VOUCHER-5-01",
            "SZTP-8366-5.1-01",
            "JWS-3.1-01",
        ],
        tags: &["yang"],
        check: top_level_member,
    },
    Check {
        name: "known-leaves",
        section: "rfc8366-5.3",
        title: "there are no leaves but those of the module, and no leaf of a request",
        requirements: &["BRSKI-3.4-06", "VOUCHER-5-01"],
        tags: &["yang"],
        check: known_leaves,
    },
    Check {
        name: "created-on",
        section: "rfc8366-5.3",
        title: "created-on is there and is a date-and-time of RFC 3339",
        requirements: &["VOUCHER-5.3-01", "SZTP-8366-5.3-01"],
        tags: &["yang"],
        check: created_on,
    },
    Check {
        name: "assertion",
        section: "rfc8366-5.3",
        title: "assertion is there and is one of the names that exist",
        requirements: &["VOUCHER-5.3-02"],
        tags: &["yang"],
        check: assertion,
    },
    Check {
        name: "serial-number",
        section: "rfc8366-5.3",
        title: "serial-number is there and is a string",
        requirements: &["VOUCHER-5.3-03"],
        tags: &["yang"],
        check: serial_number,
    },
    Check {
        name: "pinned-domain-cert",
        section: "rfc8366-5.3",
        title: "pinned-domain-cert is there and is one DER certificate",
        requirements: &["VOUCHER-5.3-04", "BRSKI-5.6-23"],
        tags: &["yang"],
        check: pinned_domain_cert,
    },
    Check {
        name: "nonce-or-expiry",
        section: "rfc8366-5.3",
        title: "nonce and expires-on are not both there",
        requirements: &["VOUCHER-5.3-05", "BRSKI-5.6-25", "SZTP-8366-5.3-03"],
        tags: &["yang", "nonce"],
        check: nonce_or_expiry,
    },
    Check {
        name: "nonce-length",
        section: "rfc8366-5.3",
        title: "a nonce has 8 to 32 octets",
        requirements: &["VOUCHER-5.3-22"],
        tags: &["yang", "nonce"],
        check: nonce_length,
    },
    Check {
        name: "last-renewal-date",
        section: "rfc8366-5.3",
        title: "last-renewal-date does not come without expires-on",
        requirements: &["VOUCHER-5.3-07"],
        tags: &["yang"],
        check: last_renewal_date,
    },
    Check {
        name: "expiry-within-pin",
        section: "rfc8366-5.3",
        title: "expires-on is not after the end of the pinned certificate",
        requirements: &["VOUCHER-5.3-10"],
        tags: &["yang"],
        check: expiry_within_pin,
    },
    Check {
        name: "revocation-checks",
        section: "rfc8366-5.3",
        title: "domain-cert-revocation-checks is a boolean and no string",
        requirements: &["VOUCHER-5.3-21", "VOUCHERBIS-8.4-01", "BRSKI-5.6-24"],
        tags: &["yang"],
        check: revocation_checks,
    },
    Check {
        name: "base64",
        section: "rfc8995-3.3",
        title: "binary leaves are base64 of RFC 4648 section 4",
        requirements: &["BRSKI-3.3-01"],
        tags: &["yang"],
        check: base64,
    },
];

fn odd(signed: &Signed, is: impl Fn(&Oddity) -> bool) -> Option<String> {
    signed
        .oddities
        .iter()
        .find(|oddity| is(oddity))
        .map(|oddity| format!("{oddity:?}"))
}

fn cms_only(signed: &Signed) -> Told {
    match signed.envelope {
        Envelope::Cms => Ok(()),
        Envelope::Jws => Err(Finding::not_applicable("it is no CMS")),
    }
}

fn is_der(signed: &Signed) -> Told {
    cms_only(signed)?;
    let ours = odd(signed, |oddity| {
        matches!(oddity, Oddity::Ber | Oddity::TrailingData(_))
    });
    // OpenSSL writes definite lengths in the fewest octets, whatever it read.
    let theirs = openssl::cms::CmsContentInfo::from_der(&signed.octets)
        .and_then(|cms| cms.to_der())
        .is_ok_and(|again| again == signed.octets);
    crate::oracle::both(
        ours.is_none(),
        theirs,
        "it is BER and not DER, or something follows it",
    )
}

fn content_type(signed: &Signed) -> Told {
    cms_only(signed)?;
    let found = signed
        .cms
        .as_ref()
        .map(|cms| cms.content_type().to_string())
        .unwrap_or_default();
    must(
        found == crate::forge::cms::ANIMA_JSON_VOUCHER,
        format!("eContentType is {found}"),
    )
}

fn one_signature(signed: &Signed) -> Told {
    // `open` has checked it with two libraries already.
    let count = match (&signed.cms, &signed.jws) {
        (Some(cms), _) => cms.signer_count(),
        (_, Some(jws)) => jws.signer_count(),
        _ => 0,
    };
    if count > 1 && signed.envelope == Envelope::Cms {
        return Err(Finding::warning(format!("there are {count} signatures")));
    }
    must(count > 0, "there is no signature")
}

fn signed_attributes(signed: &Signed) -> Told {
    cms_only(signed)?;
    match odd(signed, |oddity| {
        matches!(
            oddity,
            Oddity::NoSignedAttributes | Oddity::SignedAttributesNotDer
        )
    }) {
        Some(what) => Err(Finding::fail(format!("the signed attributes: {what}"))),
        None => Ok(()),
    }
}

fn version(signed: &Signed) -> Told {
    cms_only(signed)?;
    match odd(signed, |oddity| {
        matches!(
            oddity,
            Oddity::CmsVersion { .. } | Oddity::SignerInfoVersion
        )
    }) {
        Some(what) => Err(Finding::fail(format!("a version is wrong: {what}"))),
        None => Ok(()),
    }
}

fn algorithms(signed: &Signed) -> Told {
    cms_only(signed)?;
    match odd(signed, |oddity| {
        matches!(
            oddity,
            Oddity::AlgorithmMismatch
                | Oddity::DigestAlgorithmNotListed
                | Oddity::LegacyAlgorithm
                | Oddity::PssParametersMissing
        )
    }) {
        Some(what) => Err(Finding::fail(format!("the algorithms: {what}"))),
        None => Ok(()),
    }
}

fn signer_certificate(signed: &Signed) -> Told {
    cms_only(signed)?;
    must(
        signed
            .certificates
            .iter()
            .any(|one| one.der() == signed.signer.der()),
        "the certificate of the signer is not in the message",
    )
}

fn general_serialisation(signed: &Signed) -> Told {
    let Some(jws) = &signed.jws else {
        return Err(Finding::not_applicable("it is no JWS"));
    };
    if let Some(oddity) = signed.oddities.first() {
        return Err(Finding::fail(format!("the JWS: {oddity:?}")));
    }
    match jws.typ(0) {
        None | Some("voucher-jws+json") => Ok(()),
        Some(other) => Err(Finding::fail(format!("typ is {other}"))),
    }
}

fn top_level_member(signed: &Signed) -> Told {
    signed.leaves(VOUCHER).map(|_| ())
}

fn known_leaves(signed: &Signed) -> Told {
    const KNOWN: &[&str] = &[
        "additional-configuration-url",
        "assertion",
        "created-on",
        "domain-cert-revocation-checks",
        "est-domain",
        "expires-on",
        "extensions",
        "idevid-issuer",
        "last-renewal-date",
        "manufacturer-proprietary",
        "nonce",
        "pinned-domain-cert",
        "pinned-domain-pubk",
        "pinned-domain-pubk-sha256",
        "serial-number",
    ];
    let unknown: Vec<_> = signed
        .leaves(VOUCHER)?
        .keys()
        // Extensions name themselves.
        .filter(|name| !KNOWN.contains(&name.as_str()) && !name.contains(':'))
        .cloned()
        .collect();
    must(
        unknown.is_empty(),
        format!("a voucher has no leaf {}", unknown.join(", ")),
    )
}

fn date(name: &str, value: &Value) -> Result<OffsetDateTime, Finding> {
    let text = value
        .as_str()
        .ok_or_else(|| Finding::fail(format!("{name} has to be a string")))?;
    OffsetDateTime::parse(text, &Rfc3339)
        .map_err(|error| Finding::fail(format!("{name} is {text}, no date-and-time: {error}")))
}

fn leaf<'a>(signed: &'a Signed, name: &str) -> Result<Option<&'a Value>, Finding> {
    Ok(signed.leaves(VOUCHER)?.get(name))
}

fn needed<'a>(signed: &'a Signed, name: &str) -> Result<&'a Value, Finding> {
    leaf(signed, name)?.ok_or_else(|| Finding::fail(format!("there is no {name}")))
}

fn created_on(signed: &Signed) -> Told {
    date("created-on", needed(signed, "created-on")?).map(|_| ())
}

fn assertion(signed: &Signed) -> Told {
    let value = needed(signed, "assertion")?;
    must(
        matches!(
            value.as_str(),
            Some("verified" | "logged" | "proximity" | "agent-proximity")
        ),
        format!("assertion is {value}"),
    )
}

fn serial_number(signed: &Signed) -> Told {
    let value = needed(signed, "serial-number")?;
    must(
        value.as_str().is_some_and(|text| !text.is_empty()),
        format!("serial-number is {value} and no string"),
    )
}

/// The certificate that a voucher pins, by two parsers.
///
/// # Errors
/// If there is none, or it is no certificate.
pub fn pinned(signed: &Signed) -> Result<Certificate, Finding> {
    let octets = binary("pinned-domain-cert", needed(signed, "pinned-domain-cert")?)?;
    let (certificate, ()) = crate::oracle::agree(
        Certificate::from_der(&octets),
        crate::oracle::certificate(&octets),
        "pinned-domain-cert is no DER certificate",
    )?;
    Ok(certificate)
}

fn pinned_domain_cert(signed: &Signed) -> Told {
    let leaves = signed.leaves(VOUCHER)?;
    let other = ["pinned-domain-pubk", "pinned-domain-pubk-sha256"];
    if !leaves.contains_key("pinned-domain-cert")
        && other.iter().any(|name| leaves.contains_key(*name))
    {
        return Err(Finding::not_applicable("it pins a key"));
    }
    pinned(signed).map(|_| ())
}

fn nonce_or_expiry(signed: &Signed) -> Told {
    must(
        leaf(signed, "nonce")?.is_none() || leaf(signed, "expires-on")?.is_none(),
        "nonce and expires-on are both there",
    )
}

fn nonce_length(signed: &Signed) -> Told {
    let Some(nonce) = leaf(signed, "nonce")? else {
        return Err(Finding::not_applicable("it has no nonce"));
    };
    let length = binary("nonce", nonce)?.len();
    must(
        (8..=32).contains(&length),
        format!("the nonce has {length} octets"),
    )
}

fn last_renewal_date(signed: &Signed) -> Told {
    must(
        leaf(signed, "last-renewal-date")?.is_none() || leaf(signed, "expires-on")?.is_some(),
        "last-renewal-date is there without expires-on",
    )
}

fn expiry_within_pin(signed: &Signed) -> Told {
    let Some(expires) = leaf(signed, "expires-on")? else {
        return Err(Finding::not_applicable("it has no expires-on"));
    };
    let expires = date("expires-on", expires)?;
    let end = pinned(signed)?.not_after();
    must(
        expires <= end,
        format!("it expires on {expires}, the pinned certificate on {end}"),
    )
}

fn revocation_checks(signed: &Signed) -> Told {
    match leaf(signed, "domain-cert-revocation-checks")? {
        None => Err(Finding::not_applicable("it does not have the leaf")),
        Some(value) => must(
            value.is_boolean(),
            format!("domain-cert-revocation-checks is {value}"),
        ),
    }
}

fn base64(signed: &Signed) -> Told {
    const BINARY: &[&str] = &[
        "idevid-issuer",
        "nonce",
        "pinned-domain-cert",
        "pinned-domain-pubk",
        "pinned-domain-pubk-sha256",
    ];
    for name in BINARY {
        if let Some(value) = leaf(signed, name)? {
            binary(name, value)?;
        }
    }
    Ok(())
}

/// Whether a voucher is signed by somebody whom the device's anchors make trustworthy.
///
/// # Errors
/// If no path leads there.
pub fn signer_is_trusted(signed: &Signed, anchors: &[Certificate], at: OffsetDateTime) -> Told {
    signed.trusted(anchors, Purpose::Masa, at)
}
