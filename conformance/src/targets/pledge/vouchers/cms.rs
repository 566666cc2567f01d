//! Vouchers in CMS that are wrong, or unusual and right.

use serde_json::json;

use super::super::{MAKER, Pledge};
use super::Make;
use crate::{
    forge::{
        cms::{Attributes, DATA, SignerId},
        der,
        key::Hash,
        x509::{Identity, name},
    },
    outcome::Finding,
};

/// Envelopes to refuse.
pub(super) const BAD: &[(&str, &str, &[&str], Make)] = &[
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
            ca.name = name(MAKER, "MASA", None);
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
    let subject = name(MAKER, "Voucher Sub CA", None);
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
pub(super) const GOOD: &[(&str, &str, &[&str], Make)] = &[
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
