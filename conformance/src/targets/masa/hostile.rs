//! Envelopes that have to be refused, and bodies that are nothing.

use std::sync::Arc;

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use serde_json::json;

use super::{Ask, Masa, refused};
use crate::{
    case::Case,
    evidence::Recorder,
    forge::{
        cms::{Attributes, DATA, Over, SZTP_JSON, SignerId, attribute},
        der,
        jws::general,
        key::Hash,
    },
    inspect::Envelope,
    outcome::{Told, must},
};

type Make = fn(&Ask, &Masa) -> Vec<u8>;

struct Bad {
    name: &'static str,
    title: &'static str,
    requirements: &'static [&'static str],
    make: Make,
}

const CMS: &[Bad] = &[
    Bad {
        name: "rfc8995-5.5.3/signature",
        title: "a request with a wrong signature is refused",
        requirements: &["BRSKI-5.5.3-01", "BRSKI-5.6-15"],
        make: |ask, _| {
            let mut octets = ask.encode();
            if let Some(last) = octets.last_mut() {
                *last ^= 1;
            }
            octets
        },
    },
    Bad {
        name: "rfc8995-5.5.3/signed-by-another",
        title: "a request signed with another key than its certificate's is refused",
        requirements: &["BRSKI-5.5.3-01"],
        make: |ask, kit| {
            ask.cms()
                .with(|cms| {
                    if let Some(signer) = cms.signers.first_mut() {
                        signer.key = kit.other_registrar.key().clone();
                    }
                })
                .encode()
        },
    },
    Bad {
        name: "rfc5652-5.6/content-changed",
        title: "content that was changed after it was signed is refused",
        requirements: &["CMS-5.6-01"],
        make: |ask, _| {
            let mut octets = ask.encode();
            if let Some(at) = octets.windows(6).position(|part| part == b"assert")
                && let Some(octet) = octets.get_mut(at)
            {
                *octet = b'A';
            }
            octets
        },
    },
    Bad {
        name: "rfc5652-5.6/message-digest",
        title: "a message-digest of another content is refused",
        requirements: &["CMS-5.6-01"],
        make: |ask, _| {
            ask.cms()
                .with(|cms| cms.message_digest = Some(Hash::Sha256.of(b"another")))
                .encode()
        },
    },
    Bad {
        name: "rfc8366-5.4/other-content-type",
        title: "a CMS whose content is said to be something else than a voucher is refused",
        requirements: &["VOUCHER-5.4-02"],
        make: |ask, _| {
            ask.cms()
                .with(|cms| {
                    SZTP_JSON.clone_into(&mut cms.content_type);
                    SZTP_JSON.clone_into(&mut cms.attribute_content_type);
                })
                .encode()
        },
    },
    Bad {
        name: "rfc5652-5.6/content-type",
        title: "a content-type attribute that is not eContentType is refused",
        requirements: &["CMS-5.6-02"],
        make: |ask, _| {
            ask.cms()
                .with(|cms| DATA.clone_into(&mut cms.attribute_content_type))
                .encode()
        },
    },
    Bad {
        name: "rfc5652-5.6/attributes-as-content",
        title: "signed attributes that pose as content are refused",
        requirements: &["CMS-5.6-03"],
        make: |ask, _| {
            let right = ask.cms();
            let attributes = der::set(&right.usual_attributes(Hash::Sha256));
            right
                .with(|cms| {
                    cms.content = attributes;
                    cms.attributes = Attributes::Absent;
                })
                .encode()
        },
    },
    Bad {
        name: "rfc5652-5.3/no-signed-attributes",
        title: "a request without signedAttrs is refused",
        requirements: &["VOUCHERBIS-7.1-04", "CMS-5.3-03"],
        make: |ask, _| {
            ask.cms()
                .with(|cms| cms.attributes = Attributes::Absent)
                .encode()
        },
    },
    Bad {
        name: "rfc5652-5.3/no-message-digest",
        title: "a request without message-digest is refused",
        requirements: &["CMS-5.3-05"],
        make: |ask, _| {
            let cms = ask.cms();
            let mut attributes = cms.usual_attributes(Hash::Sha256);
            attributes.remove(1);
            cms.with(|cms| {
                cms.attributes = Attributes::These {
                    attributes,
                    unsorted: false,
                }
            })
            .encode()
        },
    },
    Bad {
        name: "rfc5652-5.3/message-digest-twice",
        title: "a request with two message-digests is refused",
        requirements: &["CMS-5.3-05"],
        make: |ask, _| {
            let cms = ask.cms();
            let mut attributes = cms.usual_attributes(Hash::Sha256);
            attributes.push(attribute("1.2.840.113549.1.9.4", &[der::octets(&[0; 32])]));
            cms.with(|cms| {
                cms.attributes = Attributes::These {
                    attributes,
                    unsorted: false,
                }
            })
            .encode()
        },
    },
    Bad {
        name: "rfc5652-5.4/implicit-tag",
        title: "a signature over the attributes' implicit tag is refused",
        requirements: &["CMS-5.4-01"],
        make: |ask, _| ask.cms().with(|cms| cms.over = Over::ImplicitTag).encode(),
    },
    Bad {
        name: "rfc5652-5.2/detached",
        title: "a request without its content is refused",
        requirements: &["CMS-5.2-01"],
        make: |ask, _| ask.cms().with(|cms| cms.detached = true).encode(),
    },
    Bad {
        name: "rfc8366-5.4/no-signer",
        title: "a request without a signature is refused",
        requirements: &["VOUCHER-5.4-03"],
        make: |ask, _| ask.cms().with(|cms| cms.signers.clear()).encode(),
    },
    Bad {
        name: "rfc8366-5.4/signer-unknown",
        title: "a request whose signer's certificate is not there is refused",
        requirements: &["VOUCHER-5.4-03"],
        make: |ask, _| {
            ask.cms()
                .with(|cms| cms.signer_id = SignerId::Raw(der::seq(&[der::seq(&[]), der::int(7)])))
                .encode()
        },
    },
    Bad {
        name: "rfc8366-5.4/sha1",
        title: "a request signed over SHA-1 is refused",
        requirements: &["VOUCHER-5.4-03"],
        make: |ask, _| ask.cms().with(|cms| cms.hash = Some(Hash::Sha1)).encode(),
    },
    Bad {
        name: "rfc8366-5.4/trailing",
        title: "octets after the request are refused",
        requirements: &["VOUCHER-5.4-01"],
        make: |ask, _| [ask.encode().as_slice(), b"trailing"].concat(),
    },
    Bad {
        name: "rfc8366-5/duplicate-leaf",
        title: "a leaf that is there twice is refused",
        requirements: &["VOUCHER-5-01"],
        make: |ask, kit| {
            let content = ask
                .leaves()
                .encode_with_duplicate("serial-number", &json!(ask.serial));
            super::signed(Envelope::Cms, &content, &kit.registrar, kit.at)
        },
    },
    Bad {
        name: "rfc8366-5/no-json",
        title: "content that is no JSON is refused",
        requirements: &["VOUCHER-5-01"],
        make: |_, kit| super::signed(Envelope::Cms, b"serial-number: 7", &kit.registrar, kit.at),
    },
    Bad {
        name: "rfc8366-5/deep-json",
        title: "JSON that is nested fifty thousand deep is refused",
        requirements: &["VOUCHER-5-01"],
        make: |_, kit| super::signed(Envelope::Cms, &[b'['; 50_000], &kit.registrar, kit.at),
    },
    Bad {
        name: "rfc8366-5/empty-content",
        title: "empty content is refused",
        requirements: &["VOUCHER-5-01"],
        make: |_, kit| super::signed(Envelope::Cms, b"", &kit.registrar, kit.at),
    },
];

const JWS: &[Bad] = &[
    Bad {
        name: "jws-voucher-3.2/alg-none",
        title: "alg none is refused",
        requirements: &["JWS-3.2-01"],
        make: |ask, _| {
            ask.jws()
                .with(|jws| {
                    jws.header["alg"] = "none".into();
                    jws.signature = Some(Vec::new());
                })
                .encode()
        },
    },
    Bad {
        name: "jws-voucher-3.2/alg-other",
        title: "an alg that the key cannot do is refused",
        requirements: &["JWS-3.2-01"],
        make: |ask, _| {
            ask.jws()
                .with(|jws| jws.header["alg"] = "ES384".into())
                .encode()
        },
    },
    Bad {
        name: "jws-voucher-3.2/typ-other",
        title: "another typ is refused",
        requirements: &["JWS-3.2-02"],
        make: |ask, _| {
            ask.jws()
                .with(|jws| jws.header["typ"] = "JWT".into())
                .encode()
        },
    },
    Bad {
        name: "jws-voucher-3.2/no-x5c",
        title: "a request without x5c is refused",
        requirements: &["JWS-3.2-03"],
        make: |ask, _| {
            ask.jws()
                .with(|jws| {
                    if let Some(header) = jws.header.as_object_mut() {
                        header.shift_remove("x5c");
                    }
                })
                .encode()
        },
    },
    Bad {
        name: "jws-voucher-3.3/signature-der",
        title: "a signature in DER is refused",
        requirements: &["JWS-3.3-02"],
        make: |ask, _| {
            ask.jws()
                .with(|jws| {
                    let input = format!("{}.{}", jws.protected(), jws.payload_text());
                    jws.signature = Some(jws.signer.key.sign(input.as_bytes()));
                })
                .encode()
        },
    },
    Bad {
        name: "jws-voucher-3.3/payload-changed",
        title: "a payload that was changed is refused",
        requirements: &["JWS-3.3-01"],
        make: |ask, _| {
            let jws = ask.jws();
            let other = ask.leaves().set("assertion", "verified").encode();
            general(&URL_SAFE_NO_PAD.encode(other), &[jws.entry()]).into_bytes()
        },
    },
    Bad {
        name: "jws-voucher-3/compact",
        title: "the compact serialisation is refused",
        requirements: &["JWS-3-01"],
        make: |ask, _| ask.jws().compact(),
    },
    Bad {
        name: "jws-voucher-3/flattened",
        title: "the flattened serialisation is refused",
        requirements: &["JWS-3-01"],
        make: |ask, _| ask.jws().flattened(),
    },
];

struct Garbage {
    name: &'static str,
    title: &'static str,
    make: fn() -> Vec<u8>,
}

const GARBAGE: &[Garbage] = &[
    Garbage {
        name: "empty",
        title: "an empty body",
        make: Vec::new,
    },
    Garbage {
        name: "text",
        title: "a body of text",
        make: || b"please".to_vec(),
    },
    Garbage {
        name: "number",
        title: "a body that is a DER number",
        make: super::requests::just_a_number,
    },
    Garbage {
        name: "sequence",
        title: "a body that is an empty DER sequence",
        make: || der::seq(&[]),
    },
    Garbage {
        name: "huge-length",
        title: "DER that says that it has four thousand million octets",
        make: || vec![0x30, 0x84, 0xff, 0xff, 0xff, 0xff, 0x00],
    },
    Garbage {
        name: "indefinite",
        title: "DER of indefinite length without an end",
        make: || vec![0x30, 0x80, 0x06, 0x09],
    },
    Garbage {
        name: "nested",
        title: "DER nested ten thousand deep",
        make: || {
            let mut octets = Vec::new();
            for _ in 0..10_000 {
                octets.extend([0x30, 0x80]);
            }
            octets
        },
    },
    Garbage {
        name: "ones",
        title: "a body of ones",
        make: || vec![0xff; 1000],
    },
    Garbage {
        name: "json",
        title: "an empty JSON object",
        make: || b"{}".to_vec(),
    },
];

pub(super) fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    for (rows, envelope, feature) in [(CMS, Envelope::Cms, "cms"), (JWS, Envelope::Jws, "jws")] {
        for bad in rows {
            cases.push(
                Case::new(
                    format!("masa/{}", bad.name),
                    bad.title,
                    bad.requirements,
                    move |kit: Arc<Masa>, record: Recorder| async move {
                        let ask = kit.ask(&record, envelope, "FORM")?;
                        let body = (bad.make)(&ask, &kit);
                        let answer = kit.post(&record, envelope, body).await?;
                        refused(&answer, "it")
                    },
                )
                .tags(&["hostile", feature])
                .needs(&[feature])
                .prudence(bad.name.ends_with("/sha1")),
            );
        }
    }
    for garbage in GARBAGE {
        cases.push(
            Case::new(
                format!("masa/rfc8995-5.6/garbage-{}", garbage.name),
                format!("{} is refused, and the MASA goes on", garbage.title),
                &["BRSKI-5.6-03", "BRSKI-5.5.3-01"],
                move |kit: Arc<Masa>, record: Recorder| async move {
                    for envelope in [Envelope::Cms, Envelope::Jws] {
                        let answer = kit.post(&record, envelope, (garbage.make)()).await?;
                        refused(&answer, "it")?;
                    }
                    Ok(())
                },
            )
            .tags(&["hostile", "garbage"]),
        );
    }
    cases.push(
        Case::new(
            "masa/rfc8995-5.6/too-large",
            "a body of three million octets is refused without a crash",
            &["BRSKI-5.6-03"],
            too_large,
        )
        .tags(&["hostile", "garbage"]),
    );
    cases
}

async fn too_large(kit: Arc<Masa>, record: Recorder) -> Told {
    const SIZE_BYTES: usize = 3_000_000;
    match kit
        .post(&record, Envelope::Cms, vec![0x30; SIZE_BYTES])
        .await
    {
        Ok(answer) => refused(&answer, "it")?,
        // Whoever sends too much may be cut off.
        Err(crate::http::HttpError::Closed(_) | crate::http::HttpError::Tls(_)) => {}
        Err(error) => return Err(error.into()),
    }
    let ask = kit.ask(&record, Envelope::Cms, "GARBAGE")?;
    let answer = kit.post(&record, Envelope::Cms, ask.encode()).await?;
    must(
        answer.status == 200,
        format!("afterwards a right request was answered {}", answer.status),
    )
}
