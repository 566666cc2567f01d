//! Signed data that is unusual and right, and what goes wrong with revocation and encryption.

use super::{
    super::{Data, MAKER},
    Make, below, by_owner, conveyed_with, encrypted, encrypted_to, voucher_with, with_crl,
    xml_image,
};
use crate::{
    forge::{
        cms::{SIGNED_DATA, SZTP_XML, Signatory, SignerId},
        der,
        key::Key,
        sztp::onboarding,
        x509::{Certificate, Identity, name},
    },
    outcome::OrCouldNotTest as _,
};

/// Id, title, requirements, features and what is given.
pub(super) type Row = (
    &'static str,
    &'static str,
    &'static [&'static str],
    &'static [&'static str],
    Make,
);

/// Signed data that is unusual and right.
pub(super) const GOOD: &[Row] = &[
    (
        "rfc8572-3.2/owner-intermediate",
        "an owner certificate with the CA between it and the pinned one",
        &["SZTP-8572-5.4-10", "SZTP-8366-5.3-11"],
        &[],
        |asking, kit| {
            let ca = below(kit, &kit.owner, |it| it)?;
            by_owner(asking, &kit.signer_of(&ca, "Owner")?, None)
        },
    ),
    (
        "rfc8572-3.2/owner-with-pinned",
        "an owner certificate that comes with the pinned one",
        &["SZTP-8572-3.2-04"],
        &[],
        |asking, kit| {
            let owner = asking.world.owner.clone();
            let bag = vec![
                owner.certificate().to_vec(),
                kit.owner.certificate().to_vec(),
            ];
            by_owner(asking, &owner, Some(bag))
        },
    ),
    (
        "rfc8572-3.3/owner-is-pinned",
        "an owner certificate that is the pinned one, and self-signed",
        &["SZTP-8572-3.3-04"],
        &[],
        |asking, kit| {
            let key = Key::generate().or_could_not_test("a key")?;
            let subject = name("Conformance Owner", "Itself", None);
            let certificate = Certificate::new(&subject, &subject, key.spki(), kit.at)
                .end_entity(&key.key_id())
                .sign(&key);
            let owner = Identity {
                signatory: Signatory { certificate, key },
                above: Vec::new(),
            };
            let leaves = asking
                .leaves()
                .binary("pinned-domain-cert", owner.certificate());
            Ok(by_owner(asking, &owner, None)?
                .with(|data| data.voucher = Some(asking.voucher(&leaves).encode())))
        },
    ),
    (
        "rfc8572-3.2/owner-no-subject",
        "an owner certificate without a subject",
        &["SZTP-8572-3.2-08"],
        &[],
        |asking, kit| {
            let key = Key::generate().or_could_not_test("a key")?;
            let owner = kit.owner.issue(&der::seq(&[]), &key, kit.at, |it| {
                it.extension(
                    "2.5.29.17",
                    true,
                    der::seq(&[der::implicit(2, b"owner.example")]),
                )
            });
            by_owner(asking, &owner, None)
        },
    ),
    (
        "rfc8572-5.4/voucher-intermediate",
        "a voucher with the CA between its signer and the anchor",
        &["SZTP-8572-5.4-04", "SZTP-8366-5.4-02"],
        &[],
        |asking, kit| {
            let ca = below(kit, &kit.masa, |it| it)?;
            let signer = kit.signer_of(&ca, "MASA")?;
            Ok(voucher_with(asking, |cms| {
                cms.signers = vec![signer.signatory.clone()];
                cms.certificates = signer.chain();
            }))
        },
    ),
    (
        "rfc8572-5.4/voucher-own-issuer",
        "a voucher with the device's own idevid-issuer",
        &["SZTP-8572-5.4-09", "SZTP-8366-5.3-08"],
        &[],
        |asking, _| {
            let issuer = asking
                .came
                .client
                .first()
                .and_then(|der| pki::Certificate::from_der(der).ok())
                .and_then(|idevid| idevid.authority_key_id_extension());
            let leaves = match issuer {
                Some(value) => asking
                    .leaves()
                    .binary("idevid-issuer", &der::octets(&value)),
                None => asking.leaves(),
            };
            Ok(asking.signed_with(&leaves))
        },
    ),
    (
        "rfc8572-5.4/voucher-unknown-leaf",
        "a voucher with a leaf that nobody knows",
        &["SZTP-8366-5.1-01"],
        &[],
        |asking, _| Ok(asking.signed_with(&asking.leaves().set("conformance-leaf", 1))),
    ),
    (
        "rfc5652-5.3/signer-by-key-id",
        "artefacts whose signers are named by key identifier",
        &["CMS-5.3-01"],
        &[],
        |asking, _| {
            let content = onboarding(asking.image());
            Ok(asking.signed(&content).with(|data| {
                data.conveyed = asking
                    .conveyed(&content)
                    .with(|cms| cms.signer_id = SignerId::KeyId)
                    .encode();
                data.voucher = Some(
                    asking
                        .voucher(&asking.leaves())
                        .with(|cms| cms.signer_id = SignerId::KeyId)
                        .encode(),
                );
            }))
        },
    ),
    (
        "rfc8572-3.1/conveyed-with-owner",
        "conveyed information that has its signer's certificate in it as well",
        &["SZTP-8572-3.1-05"],
        &[],
        |asking, _| {
            let owner = asking.world.owner.clone();
            Ok(conveyed_with(asking, |cms| {
                cms.certificates = owner.chain()
            }))
        },
    ),
    (
        "rfc8572-3.1/xml",
        "conveyed information in XML, whatever the messages are in",
        &["SZTP-8572-3.1_10.3-01", "SZTP-8572-10.3-01"],
        &["xml"],
        |asking, _| {
            Ok(asking.signed(&onboarding(asking.image())).with(|data| {
                data.conveyed = asking
                    .conveyed(xml_image(asking).as_bytes())
                    .with(|cms| {
                        SZTP_XML.clone_into(&mut cms.content_type);
                        SZTP_XML.clone_into(&mut cms.attribute_content_type);
                    })
                    .encode();
            }))
        },
    ),
    (
        "rfc8572-5.4/revocation-good",
        "a voucher that wants the owner's revocation checked, with a list that does not name it",
        &["SZTP-8572-5.4-11", "SZTP-8572-3.2-05"],
        &["clock"],
        |asking, kit| {
            let bag = with_crl(asking, kit, &[]);
            let leaves = asking.leaves().set("domain-cert-revocation-checks", true);
            Ok(asking
                .signed_with(&leaves)
                .with(|data| data.owner = Some(bag)))
        },
    ),
    (
        "rfc8572-3.4/encrypted-unsigned-parts",
        "signed conveyed information that is encrypted, beside the others in clear",
        &["SZTP-8572-3.4-01", "SZTP-8572-5.3-07", "SZTP-8572-5.1-12"],
        &["decrypt"],
        |asking, _| {
            let data = asking.signed(&onboarding(asking.image()));
            let conveyed = encrypted(asking, &data.conveyed, SIGNED_DATA)?;
            Ok(data.with(|data| data.conveyed = conveyed))
        },
    ),
    (
        "rfc8572-3.4/encrypted-all",
        "all three artefacts encrypted",
        &["SZTP-8572-3.4-01", "SZTP-8572-5.3-07"],
        &["decrypt"],
        |asking, _| {
            let data = asking.signed(&onboarding(asking.image()));
            Ok(Data {
                conveyed: encrypted(asking, &data.conveyed, SIGNED_DATA)?,
                owner: Some(encrypted(
                    asking,
                    &data.owner.unwrap_or_default(),
                    SIGNED_DATA,
                )?),
                voucher: Some(encrypted(
                    asking,
                    &data.voucher.unwrap_or_default(),
                    SIGNED_DATA,
                )?),
                level: None,
            })
        },
    ),
];

/// Revocation and encryption that go wrong.
pub(super) const BAD_SPECIAL: &[Row] = &[
    (
        "rfc8572-5.4/revocation-revoked",
        "an owner certificate that a list in its artefact names as revoked",
        &["SZTP-8572-5.4-11"],
        &["clock"],
        |asking, kit| {
            let serial = pki::Certificate::from_der(asking.world.owner.certificate())
                .or_could_not_test("the owner")?
                .serial_number()
                .to_vec();
            let bag = with_crl(asking, kit, &serial);
            let leaves = asking.leaves().set("domain-cert-revocation-checks", true);
            Ok(asking
                .signed_with(&leaves)
                .with(|data| data.owner = Some(bag)))
        },
    ),
    (
        "rfc8572-5.3/encrypted-to-another",
        "conveyed information that is encrypted to another device",
        &["SZTP-8572-5.3-07"],
        &["decrypt"],
        |asking, kit| {
            let key = Key::generate().or_could_not_test("a key")?;
            let other = kit.devices.device(MAKER, "CONF-OTHER", None, &key, kit.at);
            let data = asking.signed(&onboarding(asking.image()));
            let conveyed = encrypted_to(other.certificate(), &data.conveyed, SIGNED_DATA)?;
            Ok(data.with(|data| data.conveyed = conveyed))
        },
    ),
    (
        "rfc8572-5.3/encrypted-bad-signature",
        "encrypted conveyed information whose signature does not hold",
        &["SZTP-8572-5.3-07", "SZTP-8572-5.4-12"],
        &["decrypt"],
        |asking, _| {
            let mut data = asking.signed(&onboarding(asking.image()));
            if let Some(last) = data.conveyed.last_mut() {
                *last ^= 1;
            }
            let conveyed = encrypted(asking, &data.conveyed, SIGNED_DATA)?;
            Ok(data.with(|data| data.conveyed = conveyed))
        },
    ),
];
