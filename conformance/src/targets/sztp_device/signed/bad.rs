//! Signed data to refuse.

use serde_json::json;
use time::Duration;

use super::{Make, below, by_owner, conveyed_with, spoilt_voucher, voucher_with, xml_image};
use crate::{
    clock,
    forge::{
        cms::{ANIMA_JSON_VOUCHER, Attributes, DATA, SIGNED_DATA, SZTP_XML, certs_only},
        der,
        key::{Hash, Key},
        sztp::{ENVELOPED_DATA, onboarding},
        voucher::{REQUEST, idevid_issuer},
        x509::{Authority, name},
    },
    outcome::OrCouldNotTest as _,
};

/// Signed data to refuse, from whatever server.
pub(super) const BAD: &[(&str, &str, &[&str], Make)] = &[
    (
        "rfc8572-5.4/voucher-other-serial",
        "a voucher for another device",
        &["SZTP-8572-5.4-08", "SZTP-8366-5.3-07", "SZTP-8572-5.4-13"],
        |asking, _| Ok(asking.signed_with(&asking.leaves().set("serial-number", "CONF-OTHER"))),
    ),
    (
        "rfc8572-5.4/voucher-serial-case",
        "a voucher whose serial number differs in case alone",
        &["SZTP-8572-5.4-08", "SZTP-8366-5.3-07"],
        |asking, _| {
            let lower = asking.serial.to_lowercase();
            let other = if lower == asking.serial {
                asking.serial.to_uppercase()
            } else {
                lower
            };
            Ok(asking.signed_with(&asking.leaves().set("serial-number", other)))
        },
    ),
    (
        "rfc8572-5.4/voucher-serial-beginning",
        "a voucher for the beginning of the serial number",
        &["SZTP-8366-5.3-07"],
        |asking, _| {
            let part: String = asking.serial.chars().take(4).collect();
            Ok(asking.signed_with(&asking.leaves().set("serial-number", part)))
        },
    ),
    (
        "rfc8572-5.4/voucher-no-serial",
        "a voucher without serial number",
        &["SZTP-8572-5.4-08"],
        |asking, _| Ok(asking.signed_with(&asking.leaves().unset("serial-number"))),
    ),
    (
        "rfc8572-5.4/voucher-issuer",
        "a voucher for devices of another issuer",
        &["SZTP-8572-5.4-09", "SZTP-8366-5.3-08"],
        |asking, _| {
            Ok(asking.signed_with(
                &asking
                    .leaves()
                    .binary("idevid-issuer", &idevid_issuer(&[9; 20])),
            ))
        },
    ),
    (
        "rfc8572-5.4/voucher-forger",
        "a voucher of a CA that has the manufacturer's name and another key",
        &["SZTP-8572-5.4-04", "SZTP-8572-5.1-08"],
        |asking, kit| {
            let forger = kit.signer_of(&kit.forger, "MASA")?;
            Ok(asking.signed(&onboarding(asking.image())).with(|data| {
                data.voucher = Some(
                    asking
                        .voucher(&asking.leaves())
                        .with(|cms| {
                            cms.signers = vec![forger.signatory.clone()];
                            cms.certificates = forger.chain();
                            cms.certificates.push(kit.forger.certificate().to_vec());
                        })
                        .encode(),
                );
            }))
        },
    ),
    (
        "rfc8572-5.4/voucher-by-owner",
        "a voucher that the owner signed for itself",
        &["SZTP-8572-5.4-04"],
        |asking, kit| {
            let signer = kit.signer_of(&kit.owner, "MASA")?;
            Ok(asking.signed(&onboarding(asking.image())).with(|data| {
                data.voucher = Some(
                    asking
                        .voucher(&asking.leaves())
                        .with(|cms| {
                            cms.signers = vec![signer.signatory.clone()];
                            cms.certificates = signer.chain();
                        })
                        .encode(),
                );
            }))
        },
    ),
    (
        "rfc8572-5.4/voucher-by-server-ca",
        "a voucher that somebody below the servers' CA signed",
        &["SZTP-8572-5.4-04"],
        |asking, kit| {
            let signer = kit.signer_of(&kit.web, "MASA")?;
            Ok(asking.signed(&onboarding(asking.image())).with(|data| {
                data.voucher = Some(
                    asking
                        .voucher(&asking.leaves())
                        .with(|cms| {
                            cms.signers = vec![signer.signatory.clone()];
                            cms.certificates = signer.chain();
                        })
                        .encode(),
                );
            }))
        },
    ),
    (
        "rfc8572-5.4/voucher-no-intermediate",
        "a voucher without the CA between its signer and the anchor",
        &["SZTP-8572-5.4-04"],
        |asking, kit| {
            let signer = below(kit, &kit.masa, |it| it)?;
            let signer = kit.signer_of(&signer, "MASA")?;
            Ok(asking.signed(&onboarding(asking.image())).with(|data| {
                data.voucher = Some(
                    asking
                        .voucher(&asking.leaves())
                        .with(|cms| {
                            cms.signers = vec![signer.signatory.clone()];
                            cms.certificates = vec![signer.certificate().to_vec()];
                        })
                        .encode(),
                );
            }))
        },
    ),
    (
        "rfc8572-5.4/voucher-signature-bit",
        "a voucher whose signature is off by one bit",
        &["SZTP-8572-5.4-04"],
        |asking, _| {
            Ok(spoilt_voucher(asking, |octets| {
                if let Some(last) = octets.last_mut() {
                    *last ^= 1;
                }
            }))
        },
    ),
    (
        "rfc8572-5.4/voucher-no-signer",
        "a voucher that nobody signed",
        &["SZTP-8572-5.4-04", "SZTP-8366-5.4-01"],
        |asking, _| Ok(voucher_with(asking, |cms| cms.signers.clear())),
    ),
    (
        "rfc5652-5.6/voucher-digest",
        "a voucher whose content was changed after it was signed",
        &["SZTP-8572-5.4-04"],
        |asking, _| {
            Ok(voucher_with(asking, |cms| {
                cms.message_digest = Some(Hash::Sha256.of(b"another"))
            }))
        },
    ),
    (
        "rfc5652-11.1/voucher-content-type",
        "a voucher whose content-type attribute is not eContentType",
        &["SZTP-5652-11.1-01"],
        |asking, _| {
            Ok(voucher_with(asking, |cms| {
                DATA.clone_into(&mut cms.attribute_content_type)
            }))
        },
    ),
    (
        "rfc5652-5.3/voucher-no-attributes",
        "a voucher without signedAttrs",
        &["SZTP-5652-5.3-01"],
        |asking, _| {
            Ok(voucher_with(asking, |cms| {
                cms.attributes = Attributes::Absent
            }))
        },
    ),
    (
        "rfc8366-5.1/voucher-member",
        "a voucher under the member of requests",
        &["SZTP-8366-5.1-01"],
        |asking, _| Ok(asking.signed_with(&asking.leaves().under(REQUEST))),
    ),
    (
        "rfc8366-5.3/voucher-no-pin",
        "a voucher without pinned-domain-cert",
        &["SZTP-8366-5.3-10", "SZTP-8572-5.4-10"],
        |asking, _| Ok(asking.signed_with(&asking.leaves().unset("pinned-domain-cert"))),
    ),
    (
        "rfc8366-5.3/voucher-pin-garbage",
        "a voucher whose pinned-domain-cert is no certificate",
        &["SZTP-8366-5.3-10"],
        |asking, _| {
            Ok(asking.signed_with(
                &asking
                    .leaves()
                    .binary("pinned-domain-cert", b"no certificate"),
            ))
        },
    ),
    (
        "rfc8366-5.3/voucher-assertion",
        "a voucher with an assertion that does not exist",
        &["SZTP-8366-5.3-05", "SZTP-8572-5.4-07"],
        |asking, _| Ok(asking.signed_with(&asking.leaves().set("assertion", "certainly"))),
    ),
    (
        "rfc8366-5.3/voucher-nonce-unasked",
        "a voucher with a nonce that the device did not send",
        &["SZTP-8366-5.3-15"],
        |asking, _| {
            Ok(asking.signed_with(
                &asking
                    .leaves()
                    .unset("expires-on")
                    .binary("nonce", &[0x55; 16]),
            ))
        },
    ),
    (
        "rfc8366-5.3/voucher-nonce-and-expiry",
        "a voucher with nonce and expires-on",
        &["SZTP-8366-5.3-03"],
        |asking, _| {
            let end = clock::text(clock::now() + Duration::days(30));
            let nonce = asking.nonce().unwrap_or_else(|| vec![0x55; 16]);
            Ok(asking.signed_with(
                &asking
                    .leaves()
                    .binary("nonce", &nonce)
                    .set("expires-on", end),
            ))
        },
    ),
    (
        "rfc8366-5.3/voucher-revocation-checks-text",
        "a voucher whose domain-cert-revocation-checks is text",
        &["SZTP-8366-5.3-13", "SZTP-7951-6.3-01"],
        |asking, _| {
            Ok(asking.signed_with(&asking.leaves().set("domain-cert-revocation-checks", "true")))
        },
    ),
    (
        "rfc8572-5.4/revocation-unknown",
        "a voucher that wants the owner's revocation checked, where nothing is known about it",
        &["SZTP-8572-5.4-11", "SZTP-8366-5.3-12"],
        |asking, _| {
            Ok(asking.signed_with(&asking.leaves().set("domain-cert-revocation-checks", true)))
        },
    ),
    (
        "rfc8572-5.4/no-voucher",
        "signed data without a voucher",
        &["SZTP-8572-5.4-03", "SZTP-8572-5.4-02"],
        |asking, _| {
            Ok(asking
                .signed(&onboarding(asking.image()))
                .with(|data| data.voucher = None))
        },
    ),
    (
        "rfc8572-5.4/no-owner-certificate",
        "signed data without an owner certificate",
        &["SZTP-8572-5.4-03", "SZTP-8572-5.4-02"],
        |asking, _| {
            Ok(asking
                .signed(&onboarding(asking.image()))
                .with(|data| data.owner = None))
        },
    ),
    (
        "rfc8572-5.4/voucher-garbage",
        "signed data whose voucher is garbage",
        &["SZTP-8572-5.4-13"],
        |asking, _| {
            Ok(asking
                .signed(&onboarding(asking.image()))
                .with(|data| data.voucher = Some(b"garbage".to_vec())))
        },
    ),
    (
        "rfc8572-5.4/owner-stranger",
        "an owner certificate below another CA than the voucher pins",
        &["SZTP-8572-5.4-10", "SZTP-8366-5.3-11"],
        |asking, kit| by_owner(asking, &kit.signer_of(&kit.stranger, "Owner")?, None),
    ),
    (
        "rfc8572-5.4/owner-same-name",
        "an owner certificate below a CA with the pinned one's name and another key",
        &["SZTP-8572-5.4-10"],
        |asking, kit| {
            let key = Key::generate().or_could_not_test("a key")?;
            let double = Authority::root("Conformance Owner", "Owner CA", key, kit.at);
            let owner = kit.signer_of(&double, "Owner")?;
            let bag = vec![owner.certificate().to_vec(), double.certificate().to_vec()];
            by_owner(asking, &owner, Some(bag))
        },
    ),
    (
        "rfc8572-5.4/owner-no-intermediate",
        "an owner certificate without the CA between it and the pinned one",
        &["SZTP-8572-5.4-10", "SZTP-8572-3.2-03"],
        |asking, kit| {
            let ca = below(kit, &kit.owner, |it| it)?;
            let owner = kit.signer_of(&ca, "Owner")?;
            let bag = vec![owner.certificate().to_vec()];
            by_owner(asking, &owner, Some(bag))
        },
    ),
    (
        "rfc8572-3.2/owner-key-usage",
        "an owner certificate that may not sign",
        &["SZTP-8572-3.2-01", "SZTP-5280-6-01"],
        |asking, kit| {
            let key = Key::generate().or_could_not_test("a key")?;
            let owner = kit
                .owner
                .issue(&name("", "Owner", None), &key, kit.at, |it| {
                    it.without("2.5.29.15").extension(
                        "2.5.29.15",
                        true,
                        der::tlv(0x03, &[5, 0b0010_0000]),
                    )
                });
            by_owner(asking, &owner, None)
        },
    ),
    (
        "rfc5280-6/owner-critical-extension",
        "an owner certificate with a critical extension that nobody knows",
        &["SZTP-5280-6-01", "X509-4.2-01"],
        |asking, kit| {
            let key = Key::generate().or_could_not_test("a key")?;
            let owner = kit
                .owner
                .issue(&name("", "Owner", None), &key, kit.at, |it| {
                    it.extension("1.3.6.1.4.1.32473.1", true, der::null())
                });
            by_owner(asking, &owner, None)
        },
    ),
    (
        "rfc5280-6/owner-below-end-entity",
        "an owner certificate that an end entity below the pinned CA issued",
        &["SZTP-5280-6-01", "X509-4.2.1.9-01"],
        |asking, kit| {
            let middle = kit.signer_of(&kit.owner, "Owner")?;
            let ca = Authority {
                name: name("", "Owner", None),
                above: middle.chain(),
                signatory: middle.signatory,
            };
            by_owner(asking, &kit.signer_of(&ca, "Sub Owner")?, None)
        },
    ),
    (
        "rfc5280-6/owner-path-length",
        "an owner certificate below one CA more than the path length allows",
        &["SZTP-5280-6-01", "X509-4.2.1.9-01"],
        |asking, kit| {
            let first = below(kit, &kit.owner, |it| it)?;
            let key = Key::generate().or_could_not_test("a key")?;
            let second = first.below("Conformance Owner", "Deeper CA", key, kit.at);
            by_owner(asking, &kit.signer_of(&second, "Owner")?, None)
        },
    ),
    (
        "rfc8572-3.2/owner-bare",
        "an owner certificate that is a certificate and no CMS",
        &["SZTP-8572-3.2-02"],
        |asking, _| {
            Ok(asking
                .signed(&onboarding(asking.image()))
                .with(|data| data.owner = Some(asking.world.owner.certificate().to_vec())))
        },
    ),
    (
        "rfc8572-3.2/owner-empty",
        "an owner certificate without a certificate",
        &["SZTP-8572-3.2-02"],
        |asking, _| {
            Ok(asking
                .signed(&onboarding(asking.image()))
                .with(|data| data.owner = Some(certs_only(&[]))))
        },
    ),
    (
        "rfc8572-5.4/conveyed-by-sibling",
        "conveyed information that another owner below the same CA signed",
        &["SZTP-8572-5.4-12", "SZTP-8572-3.2-07"],
        |asking, kit| {
            let sibling = kit.signer_of(&kit.owner, "Sibling")?;
            Ok(conveyed_with(asking, |cms| {
                cms.signers = vec![sibling.signatory.clone()]
            }))
        },
    ),
    (
        "rfc8572-5.4/conveyed-by-sibling-in-bag",
        "conveyed information that brings its signer, a sibling of the owner, along",
        &["SZTP-8572-5.4-12", "SZTP-8572-3.2-07"],
        |asking, kit| {
            let sibling = kit.signer_of(&kit.owner, "Sibling")?;
            Ok(conveyed_with(asking, |cms| {
                cms.signers = vec![sibling.signatory.clone()];
                cms.certificates = sibling.chain();
            }))
        },
    ),
    (
        "rfc8572-5.4/conveyed-by-stranger",
        "conveyed information that a stranger signed",
        &["SZTP-8572-5.4-12"],
        |asking, kit| {
            let stranger = kit.signer_of(&kit.stranger, "Owner")?;
            Ok(conveyed_with(asking, |cms| {
                cms.signers = vec![stranger.signatory.clone()];
                cms.certificates = stranger.chain();
            }))
        },
    ),
    (
        "rfc8572-5.4/conveyed-by-masa",
        "conveyed information that the signer of vouchers signed",
        &["SZTP-8572-5.4-12"],
        |asking, _| {
            let signer = asking.world.signer.clone();
            Ok(conveyed_with(asking, |cms| {
                cms.signers = vec![signer.signatory.clone()];
                cms.certificates = signer.chain();
            }))
        },
    ),
    (
        "rfc8572-5.4/conveyed-signature-bit",
        "conveyed information whose signature is off by one bit",
        &["SZTP-8572-5.4-12", "SZTP-8572-5.4-01", "SZTP-8572-5.3-09"],
        |asking, _| {
            let mut data = asking.signed(&onboarding(asking.image()));
            if let Some(last) = data.conveyed.last_mut() {
                *last ^= 1;
            }
            Ok(data)
        },
    ),
    (
        "rfc8572-5.4/conveyed-changed",
        "conveyed information that was changed after it was signed",
        &["SZTP-8572-5.4-12"],
        |asking, _| {
            Ok(conveyed_with(asking, |cms| {
                cms.message_digest = Some(Hash::Sha256.of(b"another"))
            }))
        },
    ),
    (
        "rfc8572-5.4/conveyed-no-signer",
        "conveyed information that is SignedData without a signature",
        &["SZTP-8572-5.4-12", "SZTP-8572-3.1-03"],
        |asking, _| Ok(conveyed_with(asking, |cms| cms.signers.clear())),
    ),
    (
        "rfc5652-5.3/conveyed-no-attributes",
        "conveyed information without signedAttrs",
        &["SZTP-5652-5.3-01"],
        |asking, _| {
            Ok(conveyed_with(asking, |cms| {
                cms.attributes = Attributes::Absent
            }))
        },
    ),
    (
        "rfc5652-11.1/conveyed-content-type",
        "conveyed information whose content-type attribute is not eContentType",
        &["SZTP-5652-11.1-01"],
        |asking, _| {
            Ok(conveyed_with(asking, |cms| {
                SZTP_XML.clone_into(&mut cms.attribute_content_type)
            }))
        },
    ),
    (
        "rfc8572-3.1/conveyed-voucher-type",
        "conveyed information of the type of vouchers",
        &["SZTP-8572-3.1-08"],
        |asking, _| {
            Ok(conveyed_with(asking, |cms| {
                ANIMA_JSON_VOUCHER.clone_into(&mut cms.content_type);
                ANIMA_JSON_VOUCHER.clone_into(&mut cms.attribute_content_type);
            }))
        },
    ),
    (
        "rfc8572-3.4/signed-enveloped",
        "conveyed information that was encrypted first and then signed",
        &["SZTP-8572-3.4-02", "SZTP-8572-3.1-08"],
        |asking, _| {
            Ok(conveyed_with(asking, |cms| {
                ENVELOPED_DATA.clone_into(&mut cms.content_type);
                ENVELOPED_DATA.clone_into(&mut cms.attribute_content_type);
            }))
        },
    ),
    (
        "rfc8572-3.1/signed-signed",
        "conveyed information that is signed twice, one within the other",
        &["SZTP-8572-3.1-05"],
        |asking, _| {
            let inner = asking.conveyed(&onboarding(asking.image())).encode();
            Ok(asking.signed(&onboarding(asking.image())).with(|data| {
                data.conveyed = asking
                    .conveyed(&inner)
                    .with(|cms| {
                        SIGNED_DATA.clone_into(&mut cms.content_type);
                        SIGNED_DATA.clone_into(&mut cms.attribute_content_type);
                    })
                    .encode();
            }))
        },
    ),
    (
        "rfc8572-6.3/both",
        "conveyed information that is a redirect and onboarding at once",
        &["SZTP-8572-6.3-01", "SZTP-8572-3.1-02"],
        |asking, _| {
            let both = json!({
                "ietf-sztp-conveyed-info:redirect-information": { "bootstrap-server": [{ "address": "192.0.2.1" }] },
                "ietf-sztp-conveyed-info:onboarding-information": asking.image(),
            });
            Ok(asking.signed(both.to_string().as_bytes()))
        },
    ),
    (
        "rfc8572-6.3/neither",
        "conveyed information with neither a redirect nor onboarding",
        &["SZTP-8572-6.3-01", "SZTP-8572-3.1-02"],
        |asking, _| Ok(asking.signed(b"{}")),
    ),
    (
        "rfc7951-7/duplicate",
        "conveyed information with a member that is there twice",
        &["SZTP-7951-7-01"],
        |asking, _| {
            let text = String::from_utf8_lossy(&onboarding(asking.image())).into_owned();
            let again = text.replacen("\"os-version\"", "\"os-version\":\"9\",\"os-version\"", 1);
            Ok(asking.signed(again.as_bytes()))
        },
    ),
    (
        "rfc7951-4/unqualified",
        "conveyed information under a member without the module's name",
        &["SZTP-7951-4-01", "SZTP-8572-3.1-02"],
        |asking, _| {
            Ok(asking.signed(
                json!({ "onboarding-information": asking.image() })
                    .to_string()
                    .as_bytes(),
            ))
        },
    ),
    (
        "rfc8040-8/template-name",
        "conveyed information within the name of its template",
        &["SZTP-8040-8-02"],
        |asking, _| {
            Ok(asking.signed(json!({ "ietf-sztp-conveyed-info:conveyed-information": { "onboarding-information": asking.image() } }).to_string().as_bytes()))
        },
    ),
    (
        "rfc8572-3.1/not-utf-8",
        "conveyed information that is no UTF-8",
        &["SZTP-8040-5.2-01"],
        |asking, _| {
            Ok(asking.signed(b"{\"ietf-sztp-conveyed-info:onboarding-information\":{\"configuration\":\"\xff\"}}"))
        },
    ),
    (
        "rfc8572-3.1/xml-as-json",
        "XML that says that it is JSON",
        &["SZTP-8572-3.1_10.3-01"],
        |asking, _| Ok(asking.signed(xml_image(asking).as_bytes())),
    ),
    (
        "rfc8572-3.1/trailing",
        "conveyed information with octets after it",
        &["SZTP-8572-3.1-01"],
        |asking, _| {
            Ok(asking
                .signed(&onboarding(asking.image()))
                .with(|data| data.conveyed.extend([0, 0])))
        },
    ),
];

/// The same for a device that judges dates.
pub(super) const BAD_DATES: &[(&str, &str, &[&str], Make)] = &[
    (
        "rfc8572-5.4/voucher-expired",
        "a voucher that has expired",
        &["SZTP-8572-5.4-06", "SZTP-8366-5.3-02"],
        |asking, _| {
            let now = clock::now();
            Ok(asking.signed_with(
                &asking
                    .leaves()
                    .unset("nonce")
                    .set("created-on", clock::text(now - Duration::days(40)))
                    .set("expires-on", clock::text(now - Duration::days(1))),
            ))
        },
    ),
    (
        "rfc8572-5.4/voucher-tomorrow",
        "a voucher that was made tomorrow",
        &["SZTP-8572-5.4-05"],
        |asking, _| {
            Ok(asking.signed_with(
                &asking
                    .leaves()
                    .set("created-on", clock::text(clock::now() + Duration::days(1))),
            ))
        },
    ),
    (
        "rfc8572-5.4/owner-expired",
        "an owner certificate that has expired",
        &["SZTP-8572-5.4-10", "SZTP-5280-6-01"],
        |asking, kit| {
            let key = Key::generate().or_could_not_test("a key")?;
            let owner = kit
                .owner
                .issue(&name("", "Owner", None), &key, kit.at, |it| {
                    it.with(|it| {
                        it.not_before = kit.at - Duration::days(400);
                        it.not_after = kit.at - Duration::days(30);
                    })
                });
            by_owner(asking, &owner, None)
        },
    ),
];
