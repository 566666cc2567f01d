//! Vouchers that a device has to refuse, and unusual ones that it has to take.

use std::sync::Arc;

use serde_json::json;
use time::Duration;

use super::{Asked, Pledge, Scene};
use crate::{
    case::Case,
    clock,
    evidence::Recorder,
    fake_masa::Reply,
    forge::{
        cms::{Attributes, DATA, SignerId},
        der, jws,
        key::Hash,
        voucher::{Leaves, REQUEST, idevid_issuer},
        x509::{Identity, name},
    },
    inspect::Envelope,
    outcome::Finding,
    stage::Action,
};

type Change = fn(&Asked<'_>) -> Leaves;

/// Leaves that make a voucher one to refuse.
const BAD_LEAVES: &[(&str, &str, &[&str], Change)] = &[
    (
        "rfc8995-5.6.1/nonce-bit",
        "a voucher whose nonce differs in one bit",
        &["BRSKI-5.6.1-03", "BRSKI-2.6.1-03", "VOUCHER-5.3-23"],
        |asked| {
            let mut nonce = asked.nonce.clone();
            if let Some(last) = nonce.last_mut() {
                *last ^= 1;
            }
            asked.leaves().binary("nonce", &nonce)
        },
    ),
    (
        "rfc8995-5.6.1/nonce-shortened",
        "a voucher with the beginning of the nonce",
        &["BRSKI-5.6.1-03", "VOUCHER-5.3-23"],
        |asked| {
            let part = asked.nonce.get(..8).unwrap_or(&asked.nonce).to_vec();
            let part = if part == asked.nonce {
                vec![1; 8]
            } else {
                part
            };
            asked.leaves().binary("nonce", &part)
        },
    ),
    (
        "rfc8995-5.6.1/serial-other",
        "a voucher for another device",
        &["BRSKI-5.6.1-02", "VOUCHER-5.3-13"],
        |asked| asked.leaves().set("serial-number", "CONF-OTHER"),
    ),
    (
        "rfc8366-5.3/serial-case",
        "a voucher whose serial number differs in case alone",
        &["VOUCHER-5.3-14", "VOUCHER-5.3-13"],
        |asked| {
            let lower = asked.serial.to_lowercase();
            let other = if lower == asked.serial {
                asked.serial.to_uppercase()
            } else {
                lower
            };
            asked.leaves().set("serial-number", other)
        },
    ),
    (
        "rfc8366-5.3/serial-space",
        "a voucher whose serial number has a space after it",
        &["VOUCHER-5.3-14"],
        |asked| {
            asked
                .leaves()
                .set("serial-number", format!("{} ", asked.serial))
        },
    ),
    (
        "rfc8366-5.3/serial-beginning",
        "a voucher for the beginning of the serial number",
        &["VOUCHER-5.3-13"],
        |asked| {
            let part: String = asked.serial.chars().take(4).collect();
            asked.leaves().set("serial-number", part)
        },
    ),
    (
        "rfc8366-5.3/serial-missing",
        "a voucher without serial-number",
        &["VOUCHER-5.3-13", "BRSKI-5.6.1-02"],
        |asked| asked.leaves().unset("serial-number"),
    ),
    (
        "rfc8366-5.3/serial-list",
        "a voucher whose serial-number is a list",
        &["VOUCHER-5.3-13"],
        |asked| asked.leaves().set("serial-number", json!([asked.serial])),
    ),
    (
        "rfc8995-5.6.1/no-pin",
        "a voucher without pinned-domain-cert",
        &["BRSKI-5.6.1-04"],
        |asked| asked.leaves().unset("pinned-domain-cert"),
    ),
    (
        "rfc8995-5.6.1/empty-pin",
        "a voucher with an empty pinned-domain-cert",
        &["BRSKI-5.6.1-04"],
        |asked| asked.leaves().set("pinned-domain-cert", ""),
    ),
    (
        "rfc8995-5.6.1/pin-no-certificate",
        "a voucher whose pinned-domain-cert is no certificate",
        &["BRSKI-5.6.1-04"],
        |asked| {
            asked
                .leaves()
                .binary("pinned-domain-cert", b"no certificate")
        },
    ),
    (
        "rfc8995-5.6.1/pin-followed",
        "a voucher whose pinned-domain-cert has octets after the certificate",
        &["BRSKI-5.6.1-04"],
        |asked| {
            let pin = [asked.world.pin.as_slice(), &[0, 0]].concat();
            asked.leaves().binary("pinned-domain-cert", &pin)
        },
    ),
    (
        "rfc8366-5.3/idevid-issuer-other",
        "a voucher for a device of another issuer",
        &["VOUCHER-5.3-15"],
        |asked| {
            asked
                .leaves()
                .binary("idevid-issuer", &idevid_issuer(&[9; 20]))
        },
    ),
    (
        "rfc8366-5.3/assertion-unknown",
        "a voucher with an assertion that does not exist",
        &["VOUCHER-5.3-12"],
        |asked| asked.leaves().set("assertion", "certainly"),
    ),
    (
        "rfc8366-5.3/assertion-missing",
        "a voucher without assertion",
        &["VOUCHER-5.3-11", "VOUCHER-5.3-12"],
        |asked| asked.leaves().unset("assertion"),
    ),
    (
        "rfc8366-5.3/assertion-number",
        "a voucher whose assertion is a number",
        &["VOUCHER-5.3-12"],
        |asked| asked.leaves().set("assertion", 2),
    ),
    (
        "rfc8366-5.3/nonce-and-expiry",
        "a voucher with nonce and expires-on",
        &["VOUCHER-5.3-06"],
        |asked| {
            let end = clock::text(clock::now() + Duration::days(1));
            asked.leaves().set("expires-on", end)
        },
    ),
    (
        "rfc8995-3/request-member",
        "a voucher under the top-level member of requests",
        &["BRSKI-3-03"],
        |asked| asked.leaves().under(REQUEST),
    ),
    (
        "rfc8995-3/bare-member",
        "a voucher under a member without the module's name",
        &["BRSKI-3-03"],
        |asked| asked.leaves().under("voucher"),
    ),
    (
        "rfc8995-3.3/base64url",
        "a voucher whose pinned-domain-cert is base64url without padding",
        &["BRSKI-3.3-01"],
        |asked| {
            use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
            let text = URL_SAFE_NO_PAD.encode(&asked.world.pin);
            // Text that is the same in both alphabets would be right.
            let text = if text.contains(['-', '_']) || text.len() % 4 != 0 {
                text
            } else {
                format!("{text}_")
            };
            asked.leaves().set("pinned-domain-cert", text)
        },
    ),
    (
        "rfc8366bis-8.4/revocation-checks-text",
        "a voucher whose domain-cert-revocation-checks is text",
        &["VOUCHERBIS-8.4-01"],
        |asked| asked.leaves().set("domain-cert-revocation-checks", "true"),
    ),
];

/// The same for a device that judges dates.
const BAD_DATES: &[(&str, &str, &[&str], Change)] = &[
    (
        "rfc8366-5.3/expired",
        "a voucher that has expired",
        &["VOUCHER-5.3-08", "BRSKI-2.6.1-02"],
        |asked| {
            let now = clock::now();
            asked
                .leaves()
                .unset("nonce")
                .set("created-on", clock::text(now - Duration::days(40)))
                .set("expires-on", clock::text(now - Duration::days(10)))
        },
    ),
    (
        "rfc8995-2.6.1/created-tomorrow",
        "a voucher that was made next year",
        &["BRSKI-2.6.1-02"],
        |asked| {
            asked.leaves().set(
                "created-on",
                clock::text(clock::now() + Duration::days(400)),
            )
        },
    ),
    (
        "rfc8366-5.3/created-on-no-date",
        "a voucher whose created-on is no date",
        &["BRSKI-2.6.1-02", "VOUCHER-5.3-01"],
        |asked| asked.leaves().set("created-on", "yesterday"),
    ),
];

/// Leaves that are unusual and right.
const GOOD_LEAVES: &[(&str, &str, &[&str], Change)] = &[
    (
        "rfc8995-5.6.1/unknown-leaf",
        "a voucher with a leaf that nobody knows",
        &["BRSKI-5.6.1-05", "VOUCHERBIS-8.6-02"],
        |asked| {
            asked
                .leaves()
                .set("conformance-leaf", json!({ "a": [1, 2] }))
        },
    ),
    (
        "rfc8366-5.3/idevid-issuer",
        "a voucher with the device's own idevid-issuer",
        &["VOUCHER-5.3-15", "VOUCHERBIS-6.3-01"],
        |asked| match issuer_of(asked) {
            Some(value) => asked.leaves().binary("idevid-issuer", &value),
            None => asked.leaves(),
        },
    ),
    (
        "rfc8366-5.3/assertion-verified",
        "a voucher that asserts verified",
        &["VOUCHER-5.3-11"],
        |asked| asked.leaves().set("assertion", "verified"),
    ),
    (
        "rfc8366-5.3/revocation-checks-false",
        "a voucher that forbids revocation checks",
        &["VOUCHER-5.3-20"],
        |asked| asked.leaves().set("domain-cert-revocation-checks", false),
    ),
    (
        "rfc8366-5.3/no-revocation-checks",
        "a voucher that says nothing about revocation checks",
        &["VOUCHER-5.3-20"],
        |asked| asked.leaves().unset("domain-cert-revocation-checks"),
    ),
    (
        "rfc7951-5.4/other-order",
        "a voucher whose leaves are in another order",
        &["VOUCHER-5-01"],
        |asked| {
            let mut leaves = asked.leaves();
            let reversed: serde_json::Map<_, _> = leaves
                .leaves
                .iter()
                .rev()
                .map(|(name, value)| (name.clone(), value.clone()))
                .collect();
            leaves.leaves = reversed;
            leaves
        },
    ),
    (
        "rfc3339-5.6/offset",
        "a voucher whose created-on is in another time zone, with fractions of a second",
        &["VOUCHER-5.3-01"],
        |asked| {
            let at = (clock::now() - Duration::hours(1)).to_offset(time::macros::offset!(+5:30));
            let text = clock::text(at).replacen("+05:30", ".125+05:30", 1);
            asked.leaves().set("created-on", text)
        },
    ),
];

/// What a device with nonceless vouchers takes.
const GOOD_NONCELESS: &[(&str, &str, &[&str], Change)] = &[
    (
        "rfc8995-7.2/nonceless",
        "a voucher without nonce that has not expired",
        &["BRSKI-7.2-01"],
        |asked| {
            let end = clock::text(clock::now() + Duration::days(30));
            asked.leaves().unset("nonce").set("expires-on", end)
        },
    ),
    (
        "rfc8366-5.3/last-renewal-date",
        "a voucher whose last-renewal-date has passed",
        &["VOUCHER-5.3-24"],
        |asked| {
            let now = clock::now();
            asked
                .leaves()
                .unset("nonce")
                .set("expires-on", clock::text(now + Duration::days(30)))
                .set("last-renewal-date", clock::text(now - Duration::hours(2)))
        },
    ),
];

fn issuer_of(asked: &Asked<'_>) -> Option<Vec<u8>> {
    let idevid = pki::Certificate::from_der(asked.came.client.first()?).ok()?;
    Some(der::octets(&idevid.authority_key_id_extension()?))
}

type Make = fn(&Asked<'_>, &Pledge) -> Result<Vec<u8>, Finding>;

/// Envelopes to refuse.
const BAD_CMS: &[(&str, &str, &[&str], Make)] = &[
    (
        "rfc8995-5.6.1/signed-by-domain",
        "a voucher that the domain's CA signed",
        &["BRSKI-5.6.1-01", "VOUCHER-5.4-06"],
        |asked, kit| Ok(asked.cms_by(&kit.signer_of(&kit.domain)?).encode()),
    ),
    (
        "rfc8995-5.6.1/signed-by-registrar",
        "a voucher that the registrar signed",
        &["BRSKI-5.6.1-01"],
        |asked, _| Ok(asked.cms_by(&asked.world.registrar).encode()),
    ),
    (
        "rfc8995-5.6.1/signed-by-forger",
        "a voucher of a CA that has the MASA's name and another key",
        &["BRSKI-5.6.1-01"],
        |asked, kit| Ok(asked.cms_by(&kit.signer_of(&kit.forger)?).encode()),
    ),
    (
        "rfc8366-5.4/attacker-root",
        "a voucher that brings its own root along",
        &["VOUCHER-5.4-06"],
        |asked, kit| {
            Ok(asked
                .cms_by(&kit.signer_of(&kit.forger)?)
                .with(|cms| cms.certificates.push(kit.forger.certificate().to_vec()))
                .encode())
        },
    ),
    (
        "rfc8995-5.6.1/signed-by-itself",
        "a voucher that the device's maker of identities signed",
        &["BRSKI-5.6.1-01"],
        |asked, kit| Ok(asked.cms_by(&kit.signer_of(&kit.devices)?).encode()),
    ),
    (
        "rfc8366-5.4/no-signer",
        "a voucher without a signature",
        &["VOUCHER-5.4-03", "BRSKI-5.6.1-01"],
        |asked, _| {
            Ok(asked
                .cms(&asked.leaves())
                .with(|cms| cms.signers.clear())
                .encode())
        },
    ),
    (
        "rfc8995-5.6.1/signature-bit",
        "a voucher whose signature is off by one bit",
        &["BRSKI-5.6.1-01"],
        |asked, _| {
            let mut octets = asked.cms(&asked.leaves()).encode();
            if let Some(last) = octets.last_mut() {
                *last ^= 1;
            }
            Ok(octets)
        },
    ),
    (
        "rfc5652-5.6/digest",
        "a voucher whose content was changed after it was signed",
        &["CMS-5.6-01"],
        |asked, _| {
            Ok(asked
                .cms(&asked.leaves())
                .with(|cms| cms.message_digest = Some(Hash::Sha256.of(b"another")))
                .encode())
        },
    ),
    (
        "rfc5652-5.6/content-type",
        "a voucher whose content-type attribute is not eContentType",
        &["CMS-5.6-02"],
        |asked, _| {
            Ok(asked
                .cms(&asked.leaves())
                .with(|cms| DATA.clone_into(&mut cms.attribute_content_type))
                .encode())
        },
    ),
    (
        "rfc8366bis-7.1/id-data",
        "a voucher of type id-data",
        &["VOUCHERBIS-7.1-01"],
        |asked, _| {
            Ok(asked
                .cms(&asked.leaves())
                .with(|cms| {
                    DATA.clone_into(&mut cms.content_type);
                    DATA.clone_into(&mut cms.attribute_content_type);
                    cms.version = 1;
                })
                .encode())
        },
    ),
    (
        "rfc5652-5.3/no-signed-attributes",
        "a voucher without signedAttrs",
        &["CMS-5.3-03", "VOUCHERBIS-7.1-04"],
        |asked, _| {
            Ok(asked
                .cms(&asked.leaves())
                .with(|cms| cms.attributes = Attributes::Absent)
                .encode())
        },
    ),
    (
        "rfc5652-5.3/no-message-digest",
        "a voucher whose signedAttrs lack message-digest",
        &["CMS-5.3-05"],
        |asked, _| {
            let cms = asked.cms(&asked.leaves());
            let mut attributes = cms.usual_attributes(Hash::Sha256);
            attributes.remove(1);
            Ok(cms
                .with(|cms| {
                    cms.attributes = Attributes::These {
                        attributes,
                        unsorted: false,
                    }
                })
                .encode())
        },
    ),
    (
        "rfc5652-5.3/two-message-digests",
        "a voucher whose signedAttrs have message-digest twice",
        &["CMS-5.3-05"],
        |asked, _| {
            let cms = asked.cms(&asked.leaves());
            let mut attributes = cms.usual_attributes(Hash::Sha256);
            let again = attributes.get(1).cloned().unwrap_or_default();
            attributes.push(again);
            Ok(cms
                .with(|cms| {
                    cms.attributes = Attributes::These {
                        attributes,
                        unsorted: false,
                    }
                })
                .encode())
        },
    ),
    (
        "rfc5652-5.4/implicit-tag",
        "a voucher whose signature is over the wrong encoding of the attributes",
        &["CMS-5.4-01"],
        |asked, _| {
            Ok(asked
                .cms(&asked.leaves())
                .with(|cms| cms.over = crate::forge::cms::Over::ImplicitTag)
                .encode())
        },
    ),
    (
        "rfc5652-5.2/detached",
        "a voucher whose content is not in it",
        &["CMS-5.2-01", "VOUCHERBIS-7.1-02"],
        |asked, _| {
            Ok(asked
                .cms(&asked.leaves())
                .with(|cms| cms.detached = true)
                .encode())
        },
    ),
    (
        "rfc5652-5.3/md5",
        "a voucher that is signed with MD5",
        &["CMS-5.3-05", "BRSKI-5.6.1-01"],
        |asked, _| {
            Ok(asked
                .cms(&asked.leaves())
                .with(|cms| cms.hash = Some(Hash::Md5))
                .encode())
        },
    ),
    (
        "rfc5652-5.3/sha1",
        "a voucher that is signed with SHA-1",
        &["CMS-5.3-05", "BRSKI-5.6.1-01"],
        |asked, _| {
            Ok(asked
                .cms(&asked.leaves())
                .with(|cms| cms.hash = Some(Hash::Sha1))
                .encode())
        },
    ),
    (
        "rfc5280-4.2.1.9/signer-below-end-entity",
        "a voucher whose signer's certificate an end entity issued",
        &["X509-4.2.1.9-01"],
        |asked, kit| {
            let mut ca = kit.masa.clone();
            let middle = kit.signer_of(&kit.masa)?;
            ca.name = name(super::MAKER, "MASA", None);
            ca.signatory = middle.signatory.clone();
            ca.above = middle.chain();
            Ok(asked.cms_by(&kit.signer_of(&ca)?).encode())
        },
    ),
    (
        "rfc5280-4.2.1.3/signer-below-no-key-cert-sign",
        "a voucher whose signer's CA may sign no certificates",
        &["X509-4.2.1.3-01"],
        |asked, kit| {
            Ok(asked
                .cms_by(&below(kit, |it| {
                    it.without("2.5.29.15").extension(
                        "2.5.29.15",
                        true,
                        der::tlv(0x03, &[7, 0b1000_0000]),
                    )
                })?)
                .encode())
        },
    ),
    (
        "rfc5280-4.2/signer-critical-extension",
        "a voucher whose signer's CA has a critical extension that nobody knows",
        &["X509-4.2-01"],
        |asked, kit| {
            Ok(asked
                .cms_by(&below(kit, |it| {
                    it.extension("1.3.6.1.4.1.32473.1", true, der::null())
                })?)
                .encode())
        },
    ),
    (
        "rfc8995-6/base64",
        "a voucher in base64",
        &["BRSKI-6-01"],
        |asked, _| {
            use base64::{Engine as _, engine::general_purpose::STANDARD};
            Ok(STANDARD
                .encode(asked.cms(&asked.leaves()).encode())
                .into_bytes())
        },
    ),
    (
        "rfc8366-5/duplicate-leaf",
        "a voucher with a leaf that is there twice",
        &["VOUCHER-5-01"],
        |asked, _| {
            let content = asked.leaves().set("serial-number", "CONF-OTHER");
            Ok(asked.signed(&content.encode_with_duplicate("serial-number", &json!(asked.serial))))
        },
    ),
    (
        "rfc8366-5/no-json",
        "a voucher that holds no JSON",
        &["VOUCHER-5-01", "BRSKI-5.1-11"],
        |asked, _| Ok(asked.signed(b"\xff\xfe no JSON")),
    ),
    (
        "rfc8366-5/empty-content",
        "a voucher that holds nothing",
        &["VOUCHER-5-01"],
        |asked, _| Ok(asked.signed(b"")),
    ),
    (
        "rfc8366-5/list",
        "a voucher that holds a list",
        &["VOUCHER-5-01"],
        |asked, _| Ok(asked.signed(b"[]")),
    ),
    (
        "rfc8995-5.1/garbage",
        "garbage instead of a voucher",
        &["BRSKI-5.1-11", "BRSKI-11-02"],
        |_, _| Ok(b"garbage".to_vec()),
    ),
    (
        "rfc8995-5.1/empty",
        "nothing instead of a voucher",
        &["BRSKI-5.1-11", "BRSKI-7.2-02"],
        |_, _| Ok(Vec::new()),
    ),
    (
        "rfc8995-5.1/nested",
        "DER nested ten thousand deep instead of a voucher",
        &["BRSKI-5.1-11", "BRSKI-11-02"],
        |_, _| Ok([0x30, 0x80].repeat(10_000)),
    ),
    (
        "rfc8995-5.1/huge-length",
        "DER that says that it has four thousand million octets",
        &["BRSKI-5.1-11", "BRSKI-11-02"],
        |_, _| Ok(vec![0x30, 0x84, 0xff, 0xff, 0xff, 0xff, 0]),
    ),
    (
        "rfc8995-5.1/request-returned",
        "the device's own request instead of a voucher",
        &["BRSKI-5.6.1-01", "BRSKI-3-03"],
        |asked, _| Ok(asked.came.body.clone()),
    ),
];

/// A signer below a CA that `change` spoils, below the MASA's root.
fn below(
    kit: &Pledge,
    change: impl FnOnce(crate::forge::x509::Certificate) -> crate::forge::x509::Certificate,
) -> Result<Identity, Finding> {
    use crate::{
        forge::{
            cms::Signatory,
            key::Key,
            x509::{Authority, Certificate},
        },
        outcome::OrCouldNotTest as _,
    };
    let key = Key::generate().or_could_not_test("a key")?;
    let subject = name(super::MAKER, "Voucher Sub CA", None);
    let certificate = Certificate::new(&kit.masa.name, &subject, key.spki(), kit.at)
        .ca(&key.key_id(), Some(0))
        .issued_by(&kit.masa.key_id());
    let certificate = change(certificate).sign(&kit.masa.signatory.key);
    let ca = Authority {
        above: vec![certificate.clone()],
        signatory: Signatory { certificate, key },
        name: subject,
    };
    kit.signer_of(&ca)
}

/// Envelopes that are unusual and right.
const GOOD_CMS: &[(&str, &str, &[&str], Make)] = &[
    (
        "rfc5652-5.3/signer-by-key-id",
        "a voucher whose signer is named by key identifier",
        &["CMS-5.3-01", "CMS-5.3-02"],
        |asked, _| {
            Ok(asked
                .cms(&asked.leaves())
                .with(|cms| cms.signer_id = SignerId::KeyId)
                .encode())
        },
    ),
    (
        "rfc8366-5.4/with-anchor",
        "a voucher that brings the anchor along",
        &["VOUCHER-5.4-06", "VOUCHERBIS-7.1-06"],
        |asked, kit| {
            Ok(asked
                .cms(&asked.leaves())
                .with(|cms| cms.certificates.push(kit.masa.certificate().to_vec()))
                .encode())
        },
    ),
    (
        "rfc8366-5.4/intermediate",
        "a voucher whose signer is below an intermediate CA",
        &["VOUCHER-5.4-06", "X509-6.1-01"],
        |asked, kit| Ok(asked.cms_by(&below(kit, |it| it)?).encode()),
    ),
    (
        "rfc5280-4.2/unknown-extension",
        "a voucher whose signer's CA has an extension that nobody knows and nobody needs",
        &["X509-4.2-01"],
        |asked, kit| {
            Ok(asked
                .cms_by(&below(kit, |it| {
                    it.extension("1.3.6.1.4.1.32473.1", false, der::null())
                })?)
                .encode())
        },
    ),
    (
        "rfc5652-5.3/more-attributes",
        "a voucher with a signed attribute that nobody knows",
        &["CMS-5.3-05"],
        |asked, _| {
            let cms = asked.cms(&asked.leaves());
            let mut attributes = cms.usual_attributes(Hash::Sha256);
            attributes.push(crate::forge::cms::attribute(
                "1.3.6.1.4.1.32473.2",
                &[der::null()],
            ));
            Ok(cms
                .with(|cms| {
                    cms.attributes = Attributes::These {
                        attributes,
                        unsorted: false,
                    }
                })
                .encode())
        },
    ),
];

/// JWS to refuse.
const BAD_JWS: &[(&str, &str, &[&str], Make)] = &[
    (
        "jws-voucher-3.2/none",
        "a voucher with algorithm none",
        &["JWS-3.2-01"],
        |asked, _| {
            Ok(asked
                .jws(&asked.leaves())
                .with(|jws| {
                    jws.header["alg"] = "none".into();
                    jws.signature = Some(Vec::new());
                })
                .encode())
        },
    ),
    (
        "jws-voucher-3.2/hs256",
        "a voucher with a MAC whose key is the certificate",
        &["JWS-3.2-01"],
        |asked, _| {
            let mut jws = asked.jws(&asked.leaves());
            jws.header["alg"] = "HS256".into();
            let input = format!("{}.{}", jws.protected(), jws.payload_text());
            jws.signature = Some(hmac(&jws.signer.certificate, input.as_bytes()));
            Ok(jws.encode())
        },
    ),
    (
        "jws-voucher-3.2/no-algorithm",
        "a voucher without algorithm",
        &["JWS-3.2-01"],
        |asked, _| {
            Ok(asked
                .jws(&asked.leaves())
                .with(|jws| {
                    if let Some(header) = jws.header.as_object_mut() {
                        header.shift_remove("alg");
                    }
                })
                .encode())
        },
    ),
    (
        "jws-voucher-3.2/typ",
        "a voucher of type JWT",
        &["JWS-3.2-02"],
        |asked, _| {
            Ok(asked
                .jws(&asked.leaves())
                .with(|jws| jws.header["typ"] = "JWT".into())
                .encode())
        },
    ),
    (
        "jws-voucher-3.3/der-signature",
        "a voucher whose ECDSA signature is DER",
        &["JWS-3.3-02"],
        |asked, _| {
            let mut jws = asked.jws(&asked.leaves());
            let input = format!("{}.{}", jws.protected(), jws.payload_text());
            jws.signature = Some(jws.signer.key.sign(input.as_bytes()));
            Ok(jws.encode())
        },
    ),
    (
        "jws-voucher-3.2/attacker-chain",
        "a voucher whose x5c leads to an attacker's root",
        &["JWS-3.2-05"],
        |asked, kit| {
            let forger = kit.signer_of(&kit.forger)?;
            let mut chain = forger.chain();
            chain.push(kit.forger.certificate().to_vec());
            Ok(jws::Jws::new(&asked.leaves().encode(), &forger.signatory, &chain).encode())
        },
    ),
    (
        "jws-voucher-3.2/chain-swapped",
        "a voucher whose x5c begins with the CA",
        &["JWS-3.2-06"],
        |asked, kit| {
            let chain = vec![
                kit.masa.certificate().to_vec(),
                asked.world.signer.certificate().to_vec(),
            ];
            Ok(jws::Jws::new(
                &asked.leaves().encode(),
                &asked.world.signer.signatory,
                &chain,
            )
            .encode())
        },
    ),
    (
        "jws-voucher-3/compact",
        "a voucher in compact serialisation",
        &["JWS-3-01"],
        |asked, _| Ok(asked.jws(&asked.leaves()).compact()),
    ),
    (
        "jws-voucher-3/flattened",
        "a voucher in flattened serialisation",
        &["JWS-3-01"],
        |asked, _| Ok(asked.jws(&asked.leaves()).flattened()),
    ),
    (
        "jws-voucher-3/no-signature",
        "a voucher whose list of signatures is empty",
        &["JWS-3-01", "JWS-5-01"],
        |asked, _| Ok(jws::general(&asked.jws(&asked.leaves()).payload_text(), &[]).into_bytes()),
    ),
    (
        "jws-voucher-3.3/payload-changed",
        "a voucher whose payload was changed after it was signed",
        &["JWS-3.3-01"],
        |asked, _| {
            let right = asked.jws(&asked.leaves());
            let other = asked.jws(&asked.leaves().set("assertion", "verified"));
            Ok(jws::general(&other.payload_text(), &[right.entry()]).into_bytes())
        },
    ),
    (
        "jws-voucher-3.2/x5c-base64url",
        "a voucher whose x5c is base64url",
        &["JWS-3.2-03"],
        |asked, _| {
            use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
            let text = URL_SAFE_NO_PAD.encode(asked.world.signer.certificate());
            let text = if text.contains(['-', '_']) || text.len() % 4 != 0 {
                text
            } else {
                format!("{text}_")
            };
            Ok(asked
                .jws(&asked.leaves())
                .with(|jws| jws.header["x5c"] = json!([text]))
                .encode())
        },
    ),
    (
        "jws-voucher-3.2/crit",
        "a voucher with a critical header parameter that nobody knows",
        &["JWS-3.2-01"],
        |asked, _| {
            Ok(asked
                .jws(&asked.leaves())
                .with(|jws| {
                    jws.header["crit"] = json!(["conformance"]);
                    jws.header["conformance"] = 1.into();
                })
                .encode())
        },
    ),
];

/// JWS that are unusual and right.
const GOOD_JWS: &[(&str, &str, &[&str], Make)] = &[
    (
        "jws-voucher-3.2/no-typ",
        "a voucher without typ",
        &["JWS-3.2-02"],
        |asked, _| {
            Ok(asked
                .jws(&asked.leaves())
                .with(|jws| {
                    if let Some(header) = jws.header.as_object_mut() {
                        header.shift_remove("typ");
                    }
                })
                .encode())
        },
    ),
    (
        "jws-voucher-3.3/white-space",
        "a voucher with white space around what is signed",
        &["JWS-3.3-01"],
        |asked, _| {
            let text = String::from_utf8_lossy(&asked.jws(&asked.leaves()).encode()).into_owned();
            Ok(text.replace(':', " :\n ").into_bytes())
        },
    ),
    (
        "jws-voucher-3.2/escaped-slashes",
        "a voucher whose x5c has escaped slashes",
        &["JWS-3.2-04"],
        |asked, _| {
            use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
            let jws = asked.jws(&asked.leaves());
            let header = URL_SAFE_NO_PAD.encode(jws.header.to_string().replace('/', "\\/"));
            let signature = jws
                .signer
                .key
                .sign_raw(format!("{header}.{}", jws.payload_text()).as_bytes());
            let entry =
                json!({ "protected": header, "signature": URL_SAFE_NO_PAD.encode(signature) });
            Ok(jws::general(&jws.payload_text(), &[entry]).into_bytes())
        },
    ),
];

fn hmac(key: &[u8], message: &[u8]) -> Vec<u8> {
    const BLOCK: usize = 64;
    let mut block = Hash::Sha256.of(key);
    block.resize(BLOCK, 0);
    let pad = |with: u8| -> Vec<u8> { block.iter().map(|octet| octet ^ with).collect() };
    let inner = Hash::Sha256.of(&[pad(0x36).as_slice(), message].concat());
    Hash::Sha256.of(&[pad(0x5c).as_slice(), &inner].concat())
}

/// Makes a case in which the voucher is of these leaves.
fn of_leaves(
    envelope: Envelope,
    (id, title, requirements, change): (&str, &'static str, &[&str], Change),
    is_good: bool,
) -> Case {
    let feature = match envelope {
        Envelope::Cms => "cms",
        Envelope::Jws => "jws",
    };
    let verdict = if is_good { "taken" } else { "refused" };
    let case = Case::new(
        format!("pledge/{id}-{feature}"),
        format!("{title} is {verdict}"),
        requirements,
        move |kit: Arc<Pledge>, record: Recorder| async move {
            let scene =
                Scene::new(&kit, envelope)?.voucher(move |asked| asked.answer(change(asked)));
            let run = kit.play(&record, scene).await?;
            if is_good {
                run.enrolled(title)
            } else {
                run.refused(title)
            }
        },
    )
    .needs(&[feature]);
    if is_good {
        case
    } else {
        case.tags(&["hostile"])
    }
}

/// Makes a case in which the voucher is made like this.
fn of_octets(
    envelope: Envelope,
    (id, title, requirements, make): (&str, &'static str, &[&str], Make),
    is_good: bool,
) -> Case {
    let feature = match envelope {
        Envelope::Cms => "cms",
        Envelope::Jws => "jws",
    };
    let verdict = if is_good { "taken" } else { "refused" };
    let case = Case::new(
        format!("pledge/{id}"),
        format!("{title} is {verdict}"),
        requirements,
        move |kit: Arc<Pledge>, record: Recorder| async move {
            let maker = Arc::clone(&kit);
            let scene = Scene::new(&kit, envelope)?.voucher(move |asked| -> Action {
                match make(asked, &maker) {
                    Ok(octets) => asked.reply(octets),
                    Err(finding) => Reply::new(500, "text/plain", finding.why).into(),
                }
            });
            let run = kit.play(&record, scene).await?;
            if is_good {
                run.enrolled(title)
            } else {
                run.refused(title)
            }
        },
    )
    .needs(&[feature]);
    if is_good {
        case
    } else {
        case.tags(&["hostile"])
    }
}

pub(super) fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    for envelope in [Envelope::Cms, Envelope::Jws] {
        cases.extend(BAD_LEAVES.iter().map(|&it| of_leaves(envelope, it, false)));
        cases.extend(
            BAD_DATES
                .iter()
                .map(|&it| of_leaves(envelope, it, false).needs(&["clock"])),
        );
        cases.extend(GOOD_LEAVES.iter().map(|&it| of_leaves(envelope, it, true)));
        cases.extend(
            GOOD_NONCELESS
                .iter()
                .map(|&it| of_leaves(envelope, it, true).needs(&["nonceless"])),
        );
    }
    cases.push(
        of_leaves(
            Envelope::Cms,
            (
                "rfc8366-5.3/assertion-logged",
                "a voucher that asserts logged",
                &["VOUCHER-5.3-11"],
                |asked| asked.leaves().set("assertion", "logged"),
            ),
            true,
        )
        .needs(&["assertion-logged"]),
    );
    cases.extend(
        BAD_CMS
            .iter()
            .map(|&it| of_octets(Envelope::Cms, it, false)),
    );
    cases.extend(
        GOOD_CMS
            .iter()
            .map(|&it| of_octets(Envelope::Cms, it, true)),
    );
    cases.extend(
        BAD_JWS
            .iter()
            .map(|&it| of_octets(Envelope::Jws, it, false)),
    );
    cases.extend(
        GOOD_JWS
            .iter()
            .map(|&it| of_octets(Envelope::Jws, it, true)),
    );
    cases
}
