//! Vouchers in JWS: the envelope.

use base64::{
    Engine as _,
    engine::general_purpose::{STANDARD, URL_SAFE, URL_SAFE_NO_PAD},
};
use serde_json::{Value, json};

use super::{
    super::vectors::{Encoding, Kind, Vector},
    World,
    cms::flipped,
    pledge, signer,
};
use crate::forge::{
    jws::{Jws, general},
    key::{Hash, Key, Kind as KeyKind},
};

fn octets(
    name: impl Into<String>,
    valid: bool,
    requirements: &[&'static str],
    reason: impl Into<String>,
    make: impl Fn(&World) -> Vec<u8> + Send + Sync + 'static,
) -> Vector {
    Vector::new(
        format!("voucher-jws/{}", name.into()),
        (Kind::Voucher, Encoding::Jws),
        valid,
        requirements,
        reason,
        make,
    )
    .context(pledge())
}

fn vector(
    name: &str,
    valid: bool,
    requirements: &[&'static str],
    reason: &str,
    change: impl Fn(&mut Jws, &World) + Send + Sync + 'static,
) -> Vector {
    octets(name, valid, requirements, reason, move |world| {
        let mut jws = right(world);
        change(&mut jws, world);
        jws.encode()
    })
}

fn right(world: &World) -> Jws {
    Jws::new(
        &world.voucher().encode(),
        &world.masa.signatory,
        &world.masa.chain(),
    )
}

pub(super) fn vectors() -> Vec<Vector> {
    let mut vectors = good();
    vectors.extend(headers());
    vectors.extend(signatures());
    vectors.extend(serialisations());
    for place in [50, 150, 250, 350, 450, 550, 650, 750, 850, 950] {
        vectors.push(octets(
            format!("flip-{place:03}"),
            false,
            &["JWS-3.3-01", "JWS-5-01"],
            format!("a bit is turned after {place} thousandths of the octets"),
            move |world| flipped(&right(world).encode(), place),
        ));
    }
    vectors
}

fn good() -> Vec<Vector> {
    let mut vectors = vec![
        vector(
            "good",
            true,
            &["JWS-3-01", "JWS-3-02", "JWS-3.1-01"],
            "a voucher as the draft has it",
            |_, _| {},
        ),
        vector(
            "good-without-typ",
            true,
            &["JWS-3.2-02"],
            "typ is left out, as is allowed",
            |jws, _| {
                if let Some(header) = jws.header.as_object_mut() {
                    header.shift_remove("typ");
                }
            },
        ),
        vector(
            "good-with-root",
            true,
            &["JWS-3.2-03", "JWS-3.2-05"],
            "x5c has the root as well",
            |jws, world| {
                jws.header["x5c"] = json!([
                    STANDARD.encode(world.masa.certificate()),
                    STANDARD.encode(world.manufacturer.certificate()),
                ]);
            },
        ),
        octets(
            "good-escaped-slashes",
            true,
            &["JWS-3.2-04"],
            "slashes within x5c are escaped",
            |world| {
                let mut jws = right(world);
                let header = jws.header.to_string().replace('/', "\\/");
                let protected = URL_SAFE_NO_PAD.encode(header);
                let input = format!("{protected}.{}", jws.payload_text());
                jws.signature = Some(jws.signer.key.sign_raw(input.as_bytes()));
                let entry = json!({
                    "protected": protected,
                    "signature": URL_SAFE_NO_PAD.encode(jws.signature_octets()),
                });
                general(&jws.payload_text(), &[entry]).into_bytes()
            },
        ),
        octets(
            "good-other-order",
            true,
            &["JWS-3.3-01"],
            "the members of the JWS come in another order, with line breaks",
            |world| {
                let jws = right(world);
                let entry = jws.entry();
                format!(
                    "{{\n \"signatures\": [{{ \"signature\": {}, \"protected\": {} }}],\n \"payload\": \"{}\"\n}}\n",
                    entry["signature"],
                    entry["protected"],
                    jws.payload_text()
                )
                .into_bytes()
            },
        ),
    ];
    for (name, kind) in [("es384", KeyKind::P384), ("eddsa", KeyKind::Ed25519)] {
        vectors.push(octets(
            format!("good-{name}"),
            true,
            &["JWS-3.2-01"],
            format!("signed with {name}"),
            move |world| {
                let Ok(key) = Key::derive(kind, "masa") else {
                    return Vec::new();
                };
                let masa = signer(&world.manufacturer, "Example Manufacturer", key);
                Jws::new(&world.voucher().encode(), &masa.signatory, &masa.chain()).encode()
            },
        ));
    }
    vectors
}

fn headers() -> Vec<Vector> {
    let mut vectors = Vec::new();
    for (name, typ) in [
        ("jwt", json!("JWT")),
        ("request", json!("voucher-request-jws+json")),
        ("capitals", json!("Voucher-JWS+JSON2")),
        ("number", json!(1)),
        ("empty", json!("")),
    ] {
        vectors.push(vector(
            &format!("typ-{name}"),
            false,
            &["JWS-3.2-02"],
            &format!("typ is {typ}"),
            move |jws, _| jws.header["typ"] = typ.clone(),
        ));
    }
    let alg = &["JWS-3.2-01"];
    vectors.extend([
        vector(
            "alg-none",
            false,
            alg,
            "alg is none and there is no signature",
            |jws, _| {
                jws.header["alg"] = "none".into();
                jws.signature = Some(Vec::new());
            },
        ),
        vector(
            "alg-none-signed",
            false,
            alg,
            "alg is none beside a signature",
            |jws, _| {
                jws.header["alg"] = "none".into();
            },
        ),
        vector("alg-missing", false, alg, "alg is missing", |jws, _| {
            if let Some(header) = jws.header.as_object_mut() {
                header.shift_remove("alg");
            }
        }),
        vector("alg-lower-case", false, alg, "alg is es256", |jws, _| {
            jws.header["alg"] = "es256".into();
        }),
        vector(
            "alg-es384",
            false,
            alg,
            "alg says ES384 with a P-256 key",
            |jws, _| {
                jws.header["alg"] = "ES384".into();
            },
        ),
        vector(
            "alg-hs256",
            false,
            alg,
            "alg is HS256 with the public key as the secret",
            |jws, world| {
                jws.header["alg"] = "HS256".into();
                let input = format!("{}.{}", jws.protected(), jws.payload_text());
                let mac = hmac_sha256(world.masa.key().spki(), input.as_bytes());
                jws.signature = Some(mac);
            },
        ),
        vector(
            "crit-unknown",
            false,
            alg,
            "crit names a header that nobody knows",
            |jws, _| {
                jws.header["crit"] = json!(["x-unknown"]);
                jws.header["x-unknown"] = json!(1);
            },
        ),
        vector("crit-empty", false, alg, "crit is empty", |jws, _| {
            jws.header["crit"] = json!([]);
        }),
        vector(
            "b64-false",
            false,
            &["JWS-3-02"],
            "b64 is false, critically: the payload would not be base64",
            |jws, _| {
                jws.header["b64"] = json!(false);
                jws.header["crit"] = json!(["b64"]);
            },
        ),
    ]);
    let x5c = &["JWS-3.2-03"];
    vectors.extend([
        vector("x5c-missing", false, x5c, "x5c is missing", |jws, _| {
            if let Some(header) = jws.header.as_object_mut() {
                header.shift_remove("x5c");
            }
        }),
        vector(
            "x5c-empty",
            false,
            x5c,
            "x5c is an empty array",
            |jws, _| {
                jws.header["x5c"] = json!([]);
            },
        ),
        vector(
            "x5c-text",
            false,
            x5c,
            "x5c is a string and no array",
            |jws, world| {
                jws.header["x5c"] = STANDARD.encode(world.masa.certificate()).into();
            },
        ),
        vector(
            "x5c-base64url",
            false,
            x5c,
            "x5c is base64url",
            |jws, world| {
                jws.header["x5c"] = json!([URL_SAFE.encode(world.masa.certificate())]);
            },
        ),
        vector(
            "x5c-garbage",
            false,
            x5c,
            "x5c holds no certificate",
            |jws, _| {
                jws.header["x5c"] = json!([STANDARD.encode(b"certificate")]);
            },
        ),
        vector(
            "x5c-root-first",
            false,
            &["JWS-3.2-06"],
            "x5c begins with the root",
            |jws, world| {
                jws.header["x5c"] = json!([
                    STANDARD.encode(world.manufacturer.certificate()),
                    STANDARD.encode(world.masa.certificate()),
                ]);
            },
        ),
        vector(
            "x5c-of-another",
            false,
            &["JWS-3.2-06", "JWS-5-01"],
            "x5c begins with a certificate of another key",
            |jws, world| {
                jws.header["x5c"] = json!([STANDARD.encode(world.attacker_masa.certificate())]);
            },
        ),
        octets(
            "attacker",
            false,
            &["JWS-3.2-05"],
            "somebody with the MASA's name signed; their root is in x5c",
            |world| {
                let mut chain = world.attacker_masa.chain();
                chain.push(world.attacker.certificate().to_vec());
                Jws::new(
                    &world.voucher().encode(),
                    &world.attacker_masa.signatory,
                    &chain,
                )
                .encode()
            },
        ),
        octets(
            "header-only-unprotected",
            false,
            &["JWS-3.2-01"],
            "all headers are unprotected",
            |world| {
                let jws = right(world);
                let input = format!(".{}", jws.payload_text());
                let entry = json!({
                    "header": jws.header,
                    "signature": URL_SAFE_NO_PAD.encode(jws.signer.key.sign_raw(input.as_bytes())),
                });
                general(&jws.payload_text(), &[entry]).into_bytes()
            },
        ),
        vector(
            "header-twice",
            false,
            &["JWS-3.2-01"],
            "alg is in the protected and in the unprotected header",
            |jws, _| jws.unprotected = Some(json!({ "alg": "none" })),
        ),
    ]);
    vectors
}

/// HMAC of RFC 2104, for the attack that takes a public key for a secret.
fn hmac_sha256(key: &[u8], message: &[u8]) -> Vec<u8> {
    const BLOCK: usize = 64;
    let mut key = if key.len() > BLOCK {
        Hash::Sha256.of(key)
    } else {
        key.to_vec()
    };
    key.resize(BLOCK, 0);
    let pad = |with: u8| -> Vec<u8> { key.iter().map(|octet| octet ^ with).collect() };
    let inner = Hash::Sha256.of(&[pad(0x36).as_slice(), message].concat());
    Hash::Sha256.of(&[pad(0x5c), inner].concat())
}

fn signatures() -> Vec<Vector> {
    let rows = &["JWS-3.3-02"];
    vec![
        vector(
            "signature-der",
            false,
            rows,
            "the signature is DER",
            |jws, _| {
                let input = format!("{}.{}", jws.protected(), jws.payload_text());
                jws.signature = Some(jws.signer.key.sign(input.as_bytes()));
            },
        ),
        vector(
            "signature-zero",
            false,
            rows,
            "r and s are zero",
            |jws, _| {
                jws.signature = Some(vec![0; 64]);
            },
        ),
        vector(
            "signature-empty",
            false,
            rows,
            "the signature is empty",
            |jws, _| {
                jws.signature = Some(Vec::new());
            },
        ),
        vector(
            "signature-cut",
            false,
            rows,
            "the signature lacks its last octet",
            |jws, _| {
                let mut signature = jws.signature_octets();
                signature.truncate(63);
                jws.signature = Some(signature);
            },
        ),
        vector(
            "signature-longer",
            false,
            rows,
            "an octet follows the signature",
            |jws, _| {
                let mut signature = jws.signature_octets();
                signature.push(0);
                jws.signature = Some(signature);
            },
        ),
        vector(
            "signature-swapped",
            false,
            rows,
            "s comes before r",
            |jws, _| {
                let signature = jws.signature_octets();
                let (r, s) = signature.split_at(32);
                jws.signature = Some([s, r].concat());
            },
        ),
        vector(
            "signature-of-another",
            false,
            &["JWS-5-01"],
            "another key signed in the signer's name",
            |jws, world| jws.signer.key = world.attacker_masa.key().clone(),
        ),
        vector(
            "signature-over-payload",
            false,
            &["JWS-3.3-01"],
            "the signature is over the payload without the header",
            |jws, _| jws.signature = Some(jws.signer.key.sign_raw(&jws.payload)),
        ),
        octets(
            "payload-changed",
            false,
            &["JWS-3.3-01"],
            "the payload was changed after it was signed",
            |world| {
                let jws = right(world);
                let other = world.voucher().set("assertion", "verified").encode();
                general(&URL_SAFE_NO_PAD.encode(other), &[jws.entry()]).into_bytes()
            },
        ),
    ]
}

fn serialisations() -> Vec<Vector> {
    let rows = &["JWS-3-01"];
    let text = &["JWS-3-02"];
    vec![
        octets(
            "compact",
            false,
            rows,
            "it is in the compact serialisation",
            |world| right(world).compact(),
        ),
        octets(
            "flattened",
            false,
            rows,
            "it is in the flattened serialisation",
            |world| right(world).flattened(),
        ),
        octets(
            "no-signatures",
            false,
            rows,
            "signatures is empty",
            |world| general(&right(world).payload_text(), &[]).into_bytes(),
        ),
        octets(
            "signatures-object",
            false,
            rows,
            "signatures is an object",
            |world| {
                let jws = right(world);
                json!({ "payload": jws.payload_text(), "signatures": jws.entry() })
                    .to_string()
                    .into_bytes()
            },
        ),
        octets(
            "no-payload",
            false,
            rows,
            "the payload is missing",
            |world| {
                json!({ "signatures": [right(world).entry()] })
                    .to_string()
                    .into_bytes()
            },
        ),
        octets(
            "payload-json",
            false,
            text,
            "the payload is the JSON itself",
            |world| {
                let jws = right(world);
                let payload: Value = serde_json::from_slice(&jws.payload).unwrap_or_default();
                json!({ "payload": payload, "signatures": [jws.entry()] })
                    .to_string()
                    .into_bytes()
            },
        ),
        octets(
            "payload-padded",
            false,
            text,
            "the payload is base64 with padding",
            |world| {
                let mut jws = right(world);
                // One octet more, so that padding is due.
                while jws.payload.len().is_multiple_of(3) {
                    jws.payload.push(b' ');
                }
                let payload = URL_SAFE.encode(&jws.payload);
                let input = format!("{}.{payload}", jws.protected());
                let entry = json!({
                    "protected": jws.protected(),
                    "signature": URL_SAFE_NO_PAD.encode(jws.signer.key.sign_raw(input.as_bytes())),
                });
                general(&payload, &[entry]).into_bytes()
            },
        ),
        octets(
            "duplicate-payload",
            false,
            rows,
            "payload is there twice",
            |world| {
                let text = String::from_utf8_lossy(&right(world).encode()).into_owned();
                let other =
                    URL_SAFE_NO_PAD.encode(world.voucher().set("serial-number", "X").encode());
                text.replacen('{', &format!("{{\"payload\":\"{other}\","), 1)
                    .into_bytes()
            },
        ),
        octets(
            "duplicate-alg",
            false,
            &["JWS-3.2-01"],
            "alg is there twice",
            |world| {
                let mut jws = right(world);
                let header = jws
                    .header
                    .to_string()
                    .replacen('{', "{\"alg\":\"none\",", 1);
                let protected = URL_SAFE_NO_PAD.encode(header);
                let input = format!("{protected}.{}", jws.payload_text());
                jws.signature = Some(jws.signer.key.sign_raw(input.as_bytes()));
                let entry = json!({
                    "protected": protected,
                    "signature": URL_SAFE_NO_PAD.encode(jws.signature_octets()),
                });
                general(&jws.payload_text(), &[entry]).into_bytes()
            },
        ),
        octets("trailing", false, rows, "something follows", |world| {
            [right(world).encode().as_slice(), b"{}"].concat()
        }),
        octets(
            "base64-whole",
            false,
            rows,
            "the whole JWS is base64",
            |world| STANDARD.encode(right(world).encode()).into_bytes(),
        ),
        octets("cut", false, rows, "the last octet is missing", |world| {
            let whole = right(world).encode();
            whole.get(..whole.len() - 1).unwrap_or_default().to_vec()
        }),
    ]
}
