//! Vouchers in JWS that are wrong, or unusual and right.

use serde_json::json;

use super::Make;
use crate::forge::{jws, key::Hash};

/// JWS to refuse.
pub(super) const BAD: &[(&str, &str, &[&str], Make)] = &[
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
            let text = if text.contains(['-', '_']) || !text.len().is_multiple_of(4) {
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
pub(super) const GOOD: &[(&str, &str, &[&str], Make)] = &[
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
