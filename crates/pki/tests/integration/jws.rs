//! JWS: what strict means.

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE, URL_SAFE_NO_PAD};
use pki::jws::{self, Jws, JwsPolicy, TYPE_VOUCHER};
use pki::{
    Coded as _, Error, Identity, KeyKind, Oddity, SeveralSigners, SignOptions, SoftwareKey,
    VerifiedSigner, limits,
};
use serde_json::{Value, json};

use crate::support::{Template, identity, issue};

const PAYLOAD: &[u8] = br#"{"ietf-voucher:voucher": {}}"#;

fn strict() -> JwsPolicy {
    JwsPolicy::strict(TYPE_VOUCHER)
}

fn verify(message: &[u8], policy: &JwsPolicy) -> Result<VerifiedSigner, Error> {
    Jws::parse(message)?.verify(policy, &[])
}

fn code(message: impl AsRef<[u8]>, policy: &JwsPolicy) -> &'static str {
    match verify(message.as_ref(), policy) {
        Ok(signer) => panic!("accepted: {signer:?}"),
        Err(error) => error.code(),
    }
}

/// R and S of a DER signature over P-256, side by side.
fn fixed(der: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    let mut rest = &der[2..];
    for _ in 0..2 {
        let length = usize::from(rest[1]);
        let integer = &rest[2..2 + length];
        let octets = integer.strip_prefix(&[0]).unwrap_or(integer);
        out.resize(out.len() + 32 - octets.len(), 0);
        out.extend_from_slice(octets);
        rest = &rest[2 + length..];
    }
    out
}

/// Signs a protected header given as JSON text.
fn forge(identity: &Identity, protected: &str) -> Vec<u8> {
    let (protected, payload, signature) = forge_parts(identity, protected);
    let signature = json!({ "protected": protected, "signature": signature });
    json!({ "payload": payload, "signatures": [signature] })
        .to_string()
        .into_bytes()
}

fn forge_parts(identity: &Identity, protected: &str) -> (String, String, String) {
    let protected = URL_SAFE_NO_PAD.encode(protected);
    let payload = URL_SAFE_NO_PAD.encode(PAYLOAD);
    let signature = identity
        .signer
        .sign(format!("{protected}.{payload}").as_bytes())
        .unwrap();
    (
        protected,
        payload,
        URL_SAFE_NO_PAD.encode(fixed(&signature)),
    )
}

fn x5c(identity: &Identity) -> String {
    STANDARD.encode(identity.chain[0].der())
}

/// Requirements: JWS-3.2-01, JWS-3.2-02, JWS-3.2-03, JWS-3.2-04
#[test]
fn protected_headers() {
    let identity = identity(KeyKind::EcdsaP256);
    let x5c = x5c(&identity);
    let typ = r#""typ":"voucher-jws+json""#;
    let good = format!(r#"{{"alg":"ES256",{typ},"x5c":["{x5c}"]}}"#);
    verify(&forge(&identity, &good), &strict()).unwrap();
    // JSON-escaped slashes.
    let escaped = good.replace('/', r"\/");
    assert_ne!(escaped, good);
    verify(&forge(&identity, &escaped), &strict()).unwrap();

    let url_x5c = URL_SAFE.encode(identity.chain[0].der());
    let cases = [
        (
            format!(r#"{{"alg":"none",{typ},"x5c":["{x5c}"]}}"#),
            "jws.algorithm",
        ),
        (
            format!(r#"{{"alg":"HS256",{typ},"x5c":["{x5c}"]}}"#),
            "jws.algorithm",
        ),
        (
            format!(r#"{{"alg":"es256",{typ},"x5c":["{x5c}"]}}"#),
            "jws.algorithm",
        ),
        (format!(r#"{{{typ},"x5c":["{x5c}"]}}"#), "jws.algorithm"),
        (
            format!(r#"{{"alg":1,{typ},"x5c":["{x5c}"]}}"#),
            "jws.malformed",
        ),
        (
            format!(r#"{{"alg":"ES384",{typ},"x5c":["{x5c}"]}}"#),
            "pki.algorithm-key-mismatch",
        ),
        (
            format!(r#"{{"alg":"RS256",{typ},"x5c":["{x5c}"]}}"#),
            "pki.algorithm-key-mismatch",
        ),
        (
            format!(r#"{{"alg":"ES256","alg":"ES256",{typ},"x5c":["{x5c}"]}}"#),
            "jws.duplicate-member",
        ),
        (
            format!(r#"{{"alg":"ES256","crit":["exp"],"exp":1,{typ},"x5c":["{x5c}"]}}"#),
            "jws.critical",
        ),
        (
            format!(r#"{{"alg":"ES256","crit":["b64"],"b64":false,{typ},"x5c":["{x5c}"]}}"#),
            "jws.critical",
        ),
        (
            format!(r#"{{"alg":"ES256","crit":[],{typ},"x5c":["{x5c}"]}}"#),
            "jws.critical",
        ),
        (
            format!(r#"{{"alg":"ES256","typ":"JWT","x5c":["{x5c}"]}}"#),
            "jws.type",
        ),
        (
            format!(r#"{{"alg":"ES256",{typ},"x5c":[]}}"#),
            "jws.certificates",
        ),
        (
            format!(r#"{{"alg":"ES256",{typ},"x5c":"{x5c}"}}"#),
            "jws.certificates",
        ),
        (
            format!(r#"{{"alg":"ES256",{typ},"x5c":[7]}}"#),
            "jws.certificates",
        ),
        (
            format!(r#"{{"alg":"ES256",{typ},"x5c":["AAAA"]}}"#),
            "jws.certificates",
        ),
        (
            format!(r#"{{"alg":"ES256",{typ}}}"#),
            "jws.signer-certificate-missing",
        ),
        ("[]".to_owned(), "jws.malformed"),
        ("{".to_owned(), "jws.malformed"),
        (format!("{good} x"), "jws.malformed"),
    ];
    for (protected, expected) in cases {
        assert_eq!(
            code(forge(&identity, &protected), &strict()),
            expected,
            "{protected}"
        );
    }
    if url_x5c != x5c {
        let protected = format!(r#"{{"alg":"ES256",{typ},"x5c":["{url_x5c}"]}}"#);
        assert_eq!(
            code(forge(&identity, &protected), &strict()),
            "jws.certificates"
        );
        let lenient = JwsPolicy {
            allow_certificate_base64url: true,
            ..strict()
        };
        let signer = verify(&forge(&identity, &protected), &lenient).unwrap();
        assert_eq!(signer.oddities(), [Oddity::CertificateBase64Form]);
    }
    let no_type = format!(r#"{{"alg":"ES256","x5c":["{x5c}"]}}"#);
    let signer = verify(&forge(&identity, &no_type), &strict()).unwrap();
    assert_eq!(signer.oddities(), [Oddity::NoType]);
    let unknown = format!(r#"{{"alg":"ES256",{typ},"colour":"red","x5c":["{x5c}"]}}"#);
    let signer = verify(&forge(&identity, &unknown), &strict()).unwrap();
    assert_eq!(
        signer.oddities(),
        [Oddity::UnknownMember("colour".to_owned())]
    );
}

/// Requirements: JWS-3-01, JWS-3-02
#[test]
fn serializations() {
    let identity = identity(KeyKind::EcdsaP256);
    let header = format!(
        r#"{{"alg":"ES256","typ":"voucher-jws+json","x5c":["{}"]}}"#,
        x5c(&identity)
    );
    let (protected, payload, signature) = forge_parts(&identity, &header);
    let lenient = JwsPolicy::tolerant(Some(TYPE_VOUCHER));
    let flattened =
        json!({ "payload": payload, "protected": protected, "signature": signature }).to_string();
    let compact = format!("{protected}.{payload}.{signature}");
    for message in [&flattened, &compact] {
        assert_eq!(code(message, &strict()), "jws.not-general");
        let signer = verify(message.as_bytes(), &lenient).unwrap();
        assert_eq!(signer.oddities(), [Oddity::NotGeneralSerialization]);
    }

    let one = json!({ "protected": protected, "signature": signature });
    let general = json!({ "payload": payload, "signatures": [one] });
    verify(general.to_string().as_bytes(), &strict()).unwrap();
    // White space and further members around what is signed do not matter.
    let mut pretty = general.clone();
    pretty["extra"] = json!({ "deep": [1, null, true, 1.5] });
    let signer = verify(
        serde_json::to_string_pretty(&pretty).unwrap().as_bytes(),
        &strict(),
    )
    .unwrap();
    assert_eq!(
        signer.oddities(),
        [Oddity::UnknownMember("extra".to_owned())]
    );

    let with = |change: &dyn Fn(&mut Value)| {
        let mut message = general.clone();
        change(&mut message);
        message.to_string()
    };
    let cases: [(&str, String, &str); 12] = [
        (
            "no payload",
            with(&|m| {
                m.as_object_mut().unwrap().remove("payload");
            }),
            "jws.not-general",
        ),
        (
            "no signatures",
            with(&|m| {
                m.as_object_mut().unwrap().remove("signatures");
            }),
            "jws.not-general",
        ),
        (
            "empty signatures",
            with(&|m| m["signatures"] = json!([])),
            "jws.no-signer",
        ),
        (
            "signatures no array",
            with(&|m| m["signatures"] = json!({})),
            "jws.not-general",
        ),
        (
            "signature no object",
            with(&|m| m["signatures"] = json!([1])),
            "jws.not-general",
        ),
        (
            "both forms",
            with(&|m| m["signature"] = json!("AA")),
            "jws.not-general",
        ),
        (
            "no signature",
            with(&|m| {
                m["signatures"][0]
                    .as_object_mut()
                    .unwrap()
                    .remove("signature");
            }),
            "jws.not-general",
        ),
        (
            "no protected",
            with(&|m| {
                m["signatures"][0]
                    .as_object_mut()
                    .unwrap()
                    .remove("protected");
            }),
            "jws.algorithm",
        ),
        (
            "unprotected alg",
            with(&|m| {
                m["signatures"][0] = json!({ "header": { "alg": "ES256" }, "signature": signature })
            }),
            "jws.algorithm",
        ),
        (
            "alg twice",
            with(&|m| m["signatures"][0]["header"] = json!({ "alg": "ES256" })),
            "jws.duplicate-member",
        ),
        (
            "unprotected crit",
            with(&|m| m["signatures"][0]["header"] = json!({ "crit": ["x"] })),
            "jws.critical",
        ),
        (
            "payload no string",
            with(&|m| m["payload"] = json!({})),
            "jws.malformed",
        ),
    ];
    for (name, message, expected) in cases {
        assert_eq!(code(message, &strict()), expected, "{name}");
    }
    let twice = general.to_string().replacen('{', r#"{"payload":"AA","#, 1);
    assert_eq!(code(twice, &strict()), "jws.duplicate-member");

    let many = with(&|m| m["signatures"] = json!(vec![one.clone(); limits::SIGNERS_MAX + 1]));
    assert_eq!(code(many, &strict()), "jws.limit-exceeded");
    let deep = format!(
        r#"{{"payload":{}{}}}"#,
        "[".repeat(10_000),
        "]".repeat(10_000)
    );
    assert_eq!(code(deep, &strict()), "jws.limit-exceeded");
    let huge = vec![b' '; limits::SIGNED_MESSAGE_SIZE_MAX_BYTES + 1];
    assert_eq!(code(huge, &strict()), "jws.limit-exceeded");
}

/// Requirements: JWS-3-02, JWS-3.3-02
#[test]
fn base64_and_signature_forms() {
    let identity = identity(KeyKind::EcdsaP256);
    let header = format!(
        r#"{{"alg":"ES256","typ":"voucher-jws+json","x5c":["{}"]}}"#,
        x5c(&identity)
    );
    let message = |payload: &str, signature: &str, protected: &str| {
        let one = json!({ "protected": protected, "signature": signature });
        json!({ "payload": payload, "signatures": [one] }).to_string()
    };
    let (protected, payload, signature) = forge_parts(&identity, &header);
    verify(
        message(&payload, &signature, &protected).as_bytes(),
        &strict(),
    )
    .unwrap();

    // Padding, which is signed here as well.
    let padded = URL_SAFE.encode(PAYLOAD);
    assert!(padded.ends_with('='));
    let signed = identity
        .signer
        .sign(format!("{protected}.{padded}").as_bytes())
        .unwrap();
    let padded = message(&padded, &URL_SAFE_NO_PAD.encode(fixed(&signed)), &protected);
    assert_eq!(code(&padded, &strict()), "jws.base64");
    let lenient = JwsPolicy {
        allow_base64_forms: true,
        ..strict()
    };
    let signer = verify(padded.as_bytes(), &lenient).unwrap();
    assert_eq!(signer.oddities(), [Oddity::Base64Form]);

    for bad in ["a", "!!!!", "AA AA", "AA\n"] {
        assert_eq!(
            code(message(bad, &signature, &protected), &strict()),
            "jws.base64",
            "{bad}"
        );
    }
    // Bits beyond the last octet are no other way to write the same.
    let mut stray = payload.clone();
    let last = stray.pop().unwrap();
    let index = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let at = index.iter().position(|c| char::from(*c) == last).unwrap();
    stray.push(char::from(index[at ^ 1]));
    assert_eq!(
        code(message(&stray, &signature, &protected), &strict()),
        "jws.base64"
    );

    // A signature in DER, of another length, of zeros, or over something else.
    let der = identity
        .signer
        .sign(format!("{protected}.{payload}").as_bytes())
        .unwrap();
    for bad in [
        der,
        vec![],
        vec![0; 63],
        vec![0; 64],
        vec![0xff; 64],
        vec![1; 65],
    ] {
        let bad = URL_SAFE_NO_PAD.encode(bad);
        assert_eq!(
            code(message(&payload, &bad, &protected), &strict()),
            "jws.signature-invalid"
        );
    }
    let other = URL_SAFE_NO_PAD.encode(b"{}");
    assert_eq!(
        code(message(&other, &signature, &protected), &strict()),
        "jws.signature-invalid"
    );
}

/// Requirements: JWS-3.2-06
#[test]
fn order_of_certificates() {
    let key = std::sync::Arc::new(SoftwareKey::generate(KeyKind::EcdsaP256).unwrap());
    let ca_key = SoftwareKey::generate(KeyKind::EcdsaP256).unwrap();
    let ca = Template {
        subject: "CN=ca",
        issuer: "CN=ca",
        ..Template::default()
    };
    let ca = issue(&ca, &ca_key, &ca_key);
    let leaf = Template {
        issuer: "CN=ca",
        ..Template::default()
    };
    let leaf = issue(&leaf, key.as_ref(), &ca_key);
    let sign = |chain: Vec<pki::Certificate>| {
        let identity = Identity {
            chain,
            signer: key.clone(),
        };
        jws::sign(
            PAYLOAD,
            Some(TYPE_VOUCHER),
            &identity,
            &SignOptions::default(),
        )
        .unwrap()
    };
    let signer = verify(&sign(vec![leaf.clone(), ca.clone()]), &strict()).unwrap();
    assert_eq!(
        (signer.certificate(), signer.candidates()),
        (&leaf, &[ca.clone()][..])
    );

    let swapped = sign(vec![ca.clone(), leaf.clone()]);
    assert_eq!(code(&swapped, &strict()), "jws.certificates");
    let lenient = JwsPolicy {
        allow_unordered_certificates: true,
        ..strict()
    };
    assert_eq!(code(&swapped, &lenient), "jws.signature-invalid");

    let stranger = identity(KeyKind::EcdsaP256).chain.remove(0);
    let with_stranger = sign(vec![leaf.clone(), stranger, ca]);
    assert_eq!(code(&with_stranger, &strict()), "jws.certificates");
    let signer = verify(&with_stranger, &lenient).unwrap();
    assert_eq!(signer.certificate(), &leaf);
    assert!(signer.oddities().contains(&Oddity::CertificatesUnordered));
}

/// Requirements: JWS-3-03
#[test]
fn several_signatures() {
    let one = identity(KeyKind::EcdsaP256);
    let two = identity(KeyKind::EcdsaP384);
    let options = SignOptions::default();
    let message = jws::sign(PAYLOAD, Some(TYPE_VOUCHER), &one, &options).unwrap();
    let both = jws::add_signature(&message, Some(TYPE_VOUCHER), &two, &options).unwrap();
    assert_eq!(code(&both, &strict()), "jws.several-signers");
    let parsed = Jws::parse(&both).unwrap();
    let each = parsed.verify_each(&strict(), &[]);
    assert_eq!(each[0].as_ref().unwrap().certificate(), &one.chain[0]);
    assert_eq!(each[1].as_ref().unwrap().certificate(), &two.chain[0]);
    assert_eq!(parsed.algorithm(1), Some("ES384"));

    // One of them broken.
    let mut broken: Value = serde_json::from_slice(&both).unwrap();
    broken["signatures"][0]["signature"] = URL_SAFE_NO_PAD.encode([7; 64]).into();
    let broken = broken.to_string();
    let all = JwsPolicy {
        several_signers: SeveralSigners::All,
        ..strict()
    };
    assert_eq!(code(&broken, &all), "jws.signature-invalid");
    let any = JwsPolicy {
        several_signers: SeveralSigners::Any,
        ..strict()
    };
    let signer = verify(broken.as_bytes(), &any).unwrap();
    assert_eq!(signer.certificate(), &two.chain[0]);
}
