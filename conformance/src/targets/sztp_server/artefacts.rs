//! What a server gives out, verified by parsers that nobody here wrote.

use std::sync::Arc;

use openssl::{cms::CmsContentInfo, pkcs7::Pkcs7};
use pki::{Certificate, path::Purpose};
use serde_json::{Value, json};

use super::{Encoding, GET, Output, SztpServer, json_input, xml_input};
use crate::{
    case::Case,
    evidence::Recorder,
    forge::{
        cms::{DATA, SIGNED_DATA, SZTP_JSON, SZTP_XML},
        der,
        sztp::element,
    },
    inspect, oracle,
    outcome::{Finding, OrCouldNotTest as _, Told, must},
};

/// The content of conveyed information and its type.
struct Conveyed {
    content: Vec<u8>,
    kind: String,
    is_signed: bool,
}

/// Takes conveyed information apart. A signature is judged elsewhere.
fn conveyed(octets: &[u8]) -> Result<Conveyed, Finding> {
    let parts = der::inside(octets).map(der::elements).unwrap_or_default();
    let [kind, tagged] = parts.as_slice() else {
        return Err(Finding::fail("conveyed-information is no ContentInfo"));
    };
    for known in [SZTP_JSON, SZTP_XML, DATA] {
        if *kind == der::oid(known) {
            let inner = der::inside(tagged).unwrap_or_default();
            must(
                inner.first() == Some(&0x04),
                "the content of unsigned conveyed information is no OCTET STRING",
            )?;
            return Ok(Conveyed {
                content: der::inside(inner).unwrap_or_default().to_vec(),
                kind: known.to_owned(),
                is_signed: false,
            });
        }
    }
    must(
        *kind == der::oid(SIGNED_DATA),
        "conveyed-information is of another type than those of RFC 8572 section 3.1",
    )?;
    let cms = pki::cms::SignedData::parse(octets)
        .map_err(|error| Finding::fail(format!("conveyed-information: {error}")))?;
    Ok(Conveyed {
        content: cms.content().unwrap_or_default().to_vec(),
        kind: cms.content_type().to_string(),
        is_signed: true,
    })
}

/// The information as JSON; XML is only looked into.
fn information(conveyed: &Conveyed) -> Result<Option<Value>, Finding> {
    if conveyed.kind == SZTP_XML {
        return Ok(None);
    }
    serde_json::from_slice(&conveyed.content)
        .map(Some)
        .map_err(|error| Finding::fail(format!("conveyed information is no JSON: {error}")))
}

fn is_redirect(conveyed: &Conveyed) -> bool {
    let text = String::from_utf8_lossy(&conveyed.content);
    text.contains("redirect-information")
}

type Look = fn(&SztpServer, &Output, &Conveyed) -> Told;

/// Of what a device gets that trusts the server, and of what one gets that does not.
const LOOKS: &[(&str, &str, &[&str], Look)] = &[
    (
        "rfc8572-3.1/der",
        "conveyed information is DER",
        &["SZTP-8572-3.1-01"],
        |_, output, conveyed| {
            if !conveyed.is_signed {
                return Ok(());
            }
            let theirs = CmsContentInfo::from_der(&output.conveyed)
                .and_then(|cms| cms.to_der())
                .is_ok_and(|again| again == output.conveyed);
            let parts = der::inside(&output.conveyed)
                .map(der::elements)
                .unwrap_or_default();
            let ours = der::seq(&parts) == output.conveyed;
            oracle::both(ours, theirs, "it is BER and not DER")
        },
    ),
    (
        "rfc8572-3.1/type",
        "conveyed information is of a type of RFC 8572 section 3.1",
        &["SZTP-8572-3.1-03", "SZTP-8572-3.1-05", "SZTP-8572-10.3-01"],
        |_, _, conveyed| {
            must(
                [SZTP_JSON, SZTP_XML, DATA].contains(&conveyed.kind.as_str()),
                format!("its type is {}", conveyed.kind),
            )
        },
    ),
    (
        "rfc8572-6.3/one-of",
        "conveyed information is a redirect or onboarding and not both",
        &[
            "SZTP-8572-6.3-01",
            "SZTP-8572-3.1-02",
            "SZTP-8040-8-02",
            "SZTP-7951-4-01",
        ],
        |_, _, conveyed| match information(conveyed)? {
            Some(value) => {
                let members: Vec<String> = value
                    .as_object()
                    .map(|object| object.keys().cloned().collect())
                    .unwrap_or_default();
                let known = [
                    "ietf-sztp-conveyed-info:redirect-information",
                    "ietf-sztp-conveyed-info:onboarding-information",
                ];
                must(
                    members.len() == 1 && members.iter().all(|name| known.contains(&name.as_str())),
                    format!("its members are {members:?}"),
                )
            }
            None => {
                let text = String::from_utf8_lossy(&conveyed.content);
                let redirect = element(&text, "redirect-information").is_some();
                let onboarding = element(&text, "onboarding-information").is_some();
                must(redirect != onboarding, "it is both or neither")
            }
        },
    ),
    (
        "rfc8572-3.5/together",
        "owner certificate and voucher come with signed data, and with nothing else",
        &["SZTP-8572-3.5-01", "SZTP-8572-7.3-09", "SZTP-8572-5.4-02"],
        |_, output, conveyed| {
            must(
                output.owner.is_some() == conveyed.is_signed
                    && output.voucher.is_some() == conveyed.is_signed,
                format!(
                    "signed: {}, owner certificate: {}, voucher: {}",
                    conveyed.is_signed,
                    output.owner.is_some(),
                    output.voucher.is_some()
                ),
            )
        },
    ),
    (
        "rfc8572-7.3/reporting-level",
        "reporting-level is minimal or verbose",
        &["SZTP-8572-7.3-10"],
        |_, output, _| {
            let level = output.level.as_deref();
            must(
                matches!(level, None | Some("minimal" | "verbose")),
                format!("it is {level:?}"),
            )
        },
    ),
    (
        "rfc8572-6.3/redirect-list",
        "servers of a redirect have an address each, a port as a number, and a chain with its root",
        &[
            "SZTP-8572-6.3-02",
            "SZTP-8572-6.3-03",
            "SZTP-8572-6.3-05",
            "SZTP-7951-6.1-01",
        ],
        redirect_list,
    ),
    (
        "rfc8572-6.3/onboarding",
        "onboarding information has configuration and handling together, and hashes with colons",
        &[
            "SZTP-8572-6.3-13",
            "SZTP-8572-6.3-15",
            "SZTP-8572-6.3-11",
            "SZTP-8572-6.3-12",
        ],
        onboarding,
    ),
];

/// Of signed data.
const SIGNED: &[(&str, &str, &[&str], Look)] = &[
    (
        "rfc8572-7.3/preferred",
        "a device that prefers signed data gets it, or a redirect",
        &[
            "SZTP-8572-7.3-02",
            "SZTP-8572-7.3-03",
            "SZTP-8572-4.4-02",
            "SZTP-9646-4.2.3-01",
        ],
        |_, _, conveyed| {
            must(
                conveyed.is_signed || is_redirect(conveyed),
                "it got unsigned onboarding information",
            )
        },
    ),
    (
        "rfc8572-9.6/promotion",
        "a device that does not trust the server yet is sent back with a trust anchor, signed",
        &["SZTP-8572-9.6-04", "SZTP-8572-B-01"],
        |_, _, conveyed| {
            if conveyed.is_signed && is_redirect(conveyed) {
                Ok(())
            } else {
                Err(Finding::warning("it got no signed redirect"))
            }
        },
    ),
    (
        "rfc8572-3.2/owner-degenerate",
        "the owner certificate is a CMS with certificates and without signers",
        &["SZTP-8572-3.2-02", "SZTP-5652-5.1-01"],
        |_, output, _| bag(output).map(|_| ()),
    ),
    (
        "rfc8572-3.2/owner-key-usage",
        "the owner certificate may sign",
        &["SZTP-8572-3.2-01"],
        |kit, output, _| {
            let owner = owner(kit, output)?;
            let x509 = openssl::x509::X509::from_der(owner.der()).or_could_not_test("the owner")?;
            let text = x509.to_text().or_could_not_test("the owner")?;
            let text = String::from_utf8_lossy(&text);
            must(
                !text.contains("X509v3 Key Usage") || text.contains("Digital Signature"),
                "its key usage lacks digitalSignature",
            )
        },
    ),
    (
        "rfc8572-5.4/voucher",
        "the voucher is the one for this device, signed by its manufacturer",
        &["SZTP-8572-4.4-05", "SZTP-8572-9.16-02", "SZTP-8572-3.3-01"],
        |kit, output, _| {
            let voucher = voucher(output)?;
            voucher.trusted(&kit.voucher_anchors, Purpose::Masa, kit.at)?;
            let leaves = voucher.leaves(crate::forge::voucher::VOUCHER)?;
            let serial = leaves.get("serial-number").and_then(Value::as_str);
            must(
                serial == Some(super::serial(1).as_str()),
                format!("it is for {serial:?}"),
            )
        },
    ),
    (
        "rfc8572-3.2/owner-chain",
        "the owner certificate leads to what the voucher pins, with what lies in its artefact",
        &["SZTP-8572-3.2-03", "SZTP-8366-5.3-11"],
        |kit, output, _| owner(kit, output).map(|_| ()),
    ),
    (
        "rfc8572-5.4/signature",
        "the owner signed the conveyed information",
        &["SZTP-8572-3.1-05", "SZTP-5652-5.3-01"],
        |kit, output, conveyed| {
            must(conveyed.is_signed, "it is not signed")?;
            let owner = owner(kit, output)?;
            let signed = inspect::open_with(&output.conveyed, std::slice::from_ref(&owner))?;
            must(
                signed.signer.der() == owner.der(),
                format!("{} signed it", signed.signer.subject()),
            )
        },
    ),
];

fn redirect_list(_: &SztpServer, _: &Output, conveyed: &Conveyed) -> Told {
    use base64::{Engine as _, engine::general_purpose::STANDARD};
    let Some(value) = information(conveyed)? else {
        return Ok(());
    };
    let Some(redirect) = value.get("ietf-sztp-conveyed-info:redirect-information") else {
        return Ok(());
    };
    let servers = redirect
        .get("bootstrap-server")
        .and_then(Value::as_array)
        .filter(|servers| !servers.is_empty())
        .ok_or_else(|| Finding::fail("there is no server"))?;
    let mut addresses = Vec::new();
    for server in servers {
        let address = server
            .get("address")
            .and_then(Value::as_str)
            .unwrap_or_default();
        must(
            !address.is_empty() && !address.contains('/'),
            format!("the address is {address:?}"),
        )?;
        must(!addresses.contains(&address), "an address is there twice")?;
        addresses.push(address);
        must(
            server.get("port").is_none_or(Value::is_u64),
            "a port is no number",
        )?;
        let Some(anchor) = server.get("trust-anchor").and_then(Value::as_str) else {
            continue;
        };
        let der = STANDARD
            .decode(anchor)
            .map_err(|error| Finding::fail(format!("trust-anchor: {error}")))?;
        let chain = certificates(&der, "trust-anchor")?;
        must(
            chain
                .iter()
                .any(|one| one.subject_der() == one.issuer_der()),
            "trust-anchor has no self-signed root",
        )?;
    }
    Ok(())
}

fn onboarding(_: &SztpServer, _: &Output, conveyed: &Conveyed) -> Told {
    use base64::{Engine as _, engine::general_purpose::STANDARD};
    let Some(value) = information(conveyed)? else {
        return Ok(());
    };
    let Some(value) = value.get("ietf-sztp-conveyed-info:onboarding-information") else {
        return Ok(());
    };
    must(
        value.get("configuration").is_some() == value.get("configuration-handling").is_some(),
        "one of configuration and configuration-handling is alone",
    )?;
    for name in [
        "configuration",
        "pre-configuration-script",
        "post-configuration-script",
    ] {
        if let Some(leaf) = value.get(name) {
            let text = leaf.as_str().unwrap_or_default();
            STANDARD
                .decode(text)
                .map_err(|error| Finding::fail(format!("{name} is no base64: {error}")))?;
        }
    }
    let Some(image) = value.get("boot-image") else {
        return Ok(());
    };
    let uris = image.get("download-uri").and_then(Value::as_array);
    for verification in image
        .get("image-verification")
        .and_then(Value::as_array)
        .into_iter()
        .flatten()
    {
        must(
            uris.is_some_and(|uris| !uris.is_empty()),
            "image-verification without download-uri",
        )?;
        let value = verification
            .get("hash-value")
            .and_then(Value::as_str)
            .unwrap_or_default();
        must(
            value.split(':').count() == 32 && value.split(':').all(|octet| octet.len() == 2),
            format!("hash-value is {value:?}"),
        )?;
    }
    Ok(())
}

/// The certificates of a degenerate CMS, by two parsers.
fn certificates(der: &[u8], what: &str) -> Result<Vec<Certificate>, Finding> {
    let ours = pki::pkcs7::parse_certs_only(der);
    let theirs = Pkcs7::from_der(der)
        .map_err(|error| error.to_string())
        .and_then(|bag| {
            bag.signed()
                .and_then(|signed| signed.certificates())
                .map(openssl::stack::StackRef::len)
                .ok_or_else(|| "no certificates".to_owned())
        });
    let (certificates, count) =
        oracle::agree(ours, theirs, &format!("{what} is no degenerate CMS"))?;
    must(
        !certificates.is_empty() && certificates.len() == count,
        format!("{what} holds no certificate"),
    )?;
    Ok(certificates)
}

fn bag(output: &Output) -> Result<Vec<Certificate>, Finding> {
    let owner = output
        .owner
        .as_deref()
        .ok_or_else(|| Finding::fail("there is no owner certificate"))?;
    certificates(owner, "owner-certificate")
}

fn voucher(output: &Output) -> Result<inspect::Signed, Finding> {
    let octets = output
        .voucher
        .as_deref()
        .ok_or_else(|| Finding::fail("there is no voucher"))?;
    inspect::open(octets)
}

/// The owner's certificate: the one of its artefact that issued none of the others and leads to
/// the pin.
fn owner(kit: &SztpServer, output: &Output) -> Result<Certificate, Finding> {
    let pin = crate::checks::voucher::pinned(&voucher(output)?)?;
    let bag = bag(output)?;
    let leaf = bag
        .iter()
        .find(|one| {
            !bag.iter()
                .any(|other| other.der() != one.der() && other.issuer_der() == one.subject_der())
        })
        .cloned()
        .ok_or_else(|| Finding::fail("owner-certificate has no end of a chain"))?;
    if leaf.der() != pin.der() {
        inspect::trusted(&leaf, &bag, &[pin], Purpose::Any, kit.at)?;
    }
    Ok(leaf)
}

pub(super) fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    for (suffix, is_preferred, encoding) in [
        ("", false, Encoding::Json),
        ("-xml", false, Encoding::Xml),
        ("-signed", true, Encoding::Json),
    ] {
        for &(id, title, requirements, look) in LOOKS {
            let case = looked_at(
                format!("{id}{suffix}"),
                title,
                requirements,
                is_preferred,
                encoding,
                look,
            );
            cases.push(if is_preferred {
                case.needs(&["signed"])
            } else {
                case
            });
        }
    }
    for &(id, title, requirements, look) in SIGNED {
        cases.push(
            looked_at(
                id.to_owned(),
                title,
                requirements,
                true,
                Encoding::Json,
                look,
            )
            .needs(&["signed"]),
        );
    }
    cases
}

fn looked_at(
    id: String,
    title: &str,
    requirements: &[&str],
    is_preferred: bool,
    encoding: Encoding,
    look: Look,
) -> Case {
    Case::new(
        format!("sztp-server/{id}"),
        title,
        requirements,
        move |kit: Arc<SztpServer>, record: Recorder| async move {
            let body = match (encoding, is_preferred) {
                (Encoding::Json, true) => json_input(&json!({ "signed-data-preferred": [null] })),
                (Encoding::Json, false) => json_input(&json!({})),
                (Encoding::Xml, _) => xml_input(""),
            };
            let answer = kit.call(&record, GET, encoding, Some(body)).await?;
            let output = Output::of(&answer)?;
            let conveyed = conveyed(&output.conveyed)?;
            record.note(format!(
                "conveyed information: {}",
                String::from_utf8_lossy(&conveyed.content)
            ));
            look(&kit, &output, &conveyed)
        },
    )
    .needs(&[encoding.feature()])
}
