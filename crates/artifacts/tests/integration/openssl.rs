//! `openssl cms` reads what this crate makes, and this crate what it makes.

use std::path::PathBuf;
use std::process::Command;
use std::sync::Arc;

use artifacts::bundle::{BootstrappingData, Judgement, judge};
use artifacts::conveyed::{self, ContentType, Parsed, encrypt_with};
use artifacts::{Encoding, Tolerances, owner};
use pki::cms::EnvelopOptions;
use pki::{Certificate, Coded as _, Identity, SoftwareKey};
use time::Duration;

use crate::conveyed::onboarding;
use crate::sztp::{SERIAL, Sztp, code, verdict};

struct OpenSsl(tempfile::TempDir);

impl OpenSsl {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn write(&self, name: &str, content: impl AsRef<[u8]>) {
        std::fs::write(self.path(name), content).unwrap();
    }

    fn read(&self, name: &str) -> Vec<u8> {
        std::fs::read(self.path(name)).unwrap()
    }

    fn run(&self, arguments: &str) -> String {
        let output = Command::new("openssl")
            .args(arguments.split_whitespace())
            .current_dir(self.0.path())
            .output()
            .expect("openssl is installed");
        let said = [output.stdout, output.stderr].concat();
        let said = String::from_utf8_lossy(&said).into_owned();
        assert!(output.status.success(), "openssl {arguments}: {said}");
        said
    }

    /// A self-signed certificate and its key.
    fn identity(&self, name: &str, key: &str, options: &str, subject: &str) -> Identity {
        self.run(&format!(
            "req -x509 -nodes -newkey {key} -keyout {name}.key -out {name}.crt {options} \
             -subj {subject}"
        ));
        let certificate = Certificate::load(self.path(&format!("{name}.crt"))).unwrap();
        let key = SoftwareKey::load(self.path(&format!("{name}.key")), None).unwrap();
        Identity::new(vec![certificate], Arc::new(key)).unwrap()
    }
}

const P256: &str = "ec -pkeyopt ec_paramgen_curve:P-256";

/// An owner certificate that signed itself and is no CA.
pub(crate) fn self_signed(options: &str, subject: &str) -> Identity {
    let extensions = "-addext basicConstraints=critical,CA:FALSE -addext keyUsage=digitalSignature";
    OpenSsl::new().identity("x", P256, &format!("{options} {extensions}"), subject)
}

/// Signed by the owner certificate of OpenSSL's making; the voucher pins that.
fn judged(
    world: &Sztp,
    owner: &Identity,
    conveyed_information: Vec<u8>,
    tolerances: &Tolerances,
) -> Judgement {
    let mut fields = world.voucher_fields();
    fields.pinned_domain_cert = Some(owner.chain[0].clone());
    let data = BootstrappingData {
        conveyed_information,
        owner_certificate: Some(owner::encode(&owner.chain, &[]).unwrap()),
        ownership_voucher: Some(world.voucher(fields)),
    };
    let mut context = world.context(tolerances);
    context.at = Some(owner.chain[0].not_before() + Duration::HOUR);
    judge(&data, false, &context)
}

/// Requirements: SZTP-8572-3.1-01, SZTP-8572-3.1-05, SZTP-5652-5.3-01, SZTP-5652-11.1-01
#[test]
fn openssl_verifies_what_we_sign() {
    let openssl = OpenSsl::new();
    for (name, key) in [("p256", P256), ("rsa", "rsa:2048")] {
        let identity = openssl.identity(name, key, "-days 10", "/CN=owner");
        for encoding in Encoding::ALL {
            for content_type in [ContentType::Registered, ContentType::IdData] {
                let content = onboarding().encode(encoding).unwrap();
                let signed = conveyed::sign(&content, encoding, content_type, &identity).unwrap();
                openssl.write("in", &signed);
                openssl.run(&format!(
                    "cms -verify -binary -inform DER -in in -out out -CAfile {name}.crt \
                     -purpose any"
                ));
                assert_eq!(openssl.read("out"), content);
                let printed = openssl.run("asn1parse -inform DER -in in");
                assert!(printed.contains("contentType") && printed.contains("messageDigest"));
            }
        }
    }
}

/// Requirements: SZTP-8572-3.4-03, SZTP-5652-6-01
#[test]
fn openssl_decrypts_and_then_verifies_what_we_encrypt() {
    let openssl = OpenSsl::new();
    let owner = openssl.identity("owner", P256, "-days 10", "/CN=owner");
    for (name, key) in [("ec", P256), ("rsa", "rsa:2048")] {
        let device = openssl.identity(name, key, "-days 10", "/CN=device");
        let content = onboarding().encode(Encoding::Json).unwrap();
        let signed =
            conveyed::sign(&content, Encoding::Json, ContentType::Registered, &owner).unwrap();
        let artefact = encrypt_with(&signed, &device.chain, &EnvelopOptions::default()).unwrap();
        openssl.write("in", artefact);
        openssl.run(&format!(
            "cms -decrypt -binary -inform DER -in in -out out -recip {name}.crt -inkey {name}.key"
        ));
        // What comes out is the unencrypted form of the artefact, as section 3.4 has it.
        assert_eq!(openssl.read("out"), signed);
        openssl.run(
            "cms -verify -binary -inform DER -in out -out content -CAfile owner.crt -purpose any",
        );
        assert_eq!(openssl.read("content"), content);
        let unsigned = conveyed::unsigned(&content, Encoding::Json);
        let artefact = encrypt_with(&unsigned, &device.chain, &EnvelopOptions::default()).unwrap();
        openssl.write("in", artefact);
        openssl.run(&format!(
            "cms -decrypt -binary -inform DER -in in -out out -recip {name}.crt -inkey {name}.key"
        ));
        assert_eq!(openssl.read("out"), content);
    }
}

/// How an owner may sign with OpenSSL, and what a strict device says.
///
/// Requirements: SZTP-5652-5.3-01, SZTP-8572-3.1-01, SZTP-8572-3.1-07
#[test]
fn we_verify_what_openssl_signs() {
    let world = Sztp::new();
    let openssl = OpenSsl::new();
    let owner = openssl.identity("owner", "rsa:2048", "-days 10", "/CN=owner");
    let sign =
        "cms -sign -in in -out out -outform DER -nodetach -signer owner.crt -inkey owner.key";
    let json = "-econtent_type 1.2.840.113549.1.9.16.1.43";
    #[rustfmt::skip]
    let ways = [
        (format!("-binary {json}"), None, ""),
        (format!("-binary -nocerts {json}"), None, ""),
        (format!("-binary -keyid {json}"), None, ""),
        (format!("-binary -keyopt rsa_padding_mode:pss -md sha256 -keyopt rsa_pss_saltlen:-1 {json}"), None, ""),
        // id-data, as the scripts of several vendors have it; with and without `-binary`, which
        // makes CR LF of each LF.
        ("-binary".to_owned(), None, ""),
        (String::new(), None, ""),
        (format!("-binary -stream -indef {json}"), Some("conveyed.not-der"), "ber"),
        (format!("-binary -noattr {json}"), Some("cms.signed-attributes-missing"), "-"),
        ("-binary -noattr".to_owned(), Some("cms.signed-attributes-missing"), "no-signed-attributes"),
        ("-binary -econtent_type 1.2.840.113549.1.9.16.1.40".to_owned(), Some("conveyed.content-type"), "-"),
        ("-binary -econtent_type 1.2.840.113549.1.9.16.1.42".to_owned(), Some("conveyed.encoding-mismatch"), "-"),
    ];
    // With line feeds, so that canonical text is another text.
    let content = String::from_utf8(onboarding().encode(Encoding::Json).unwrap()).unwrap();
    let content = content.replace("\",\"", "\",\n\"");
    openssl.write("in", &content);
    let strict = Tolerances::strict();
    for (way, want, tolerance) in ways {
        openssl.run(&format!("{sign} {way}"));
        let judgement = judged(&world, &owner, openssl.read("out"), &strict);
        assert_eq!(code(&judgement), want, "{way}");
        match tolerance {
            "" => assert_eq!(judgement.result.unwrap(), onboarding(), "{way}"),
            "-" => {}
            name => {
                let tolerances = Tolerances::from_names([name]).unwrap();
                let judgement = judged(&world, &owner, openssl.read("out"), &tolerances);
                assert_eq!(code(&judgement), None, "{way}");
                assert!(judgement.oddities.iter().any(|oddity| oddity.name == name));
            }
        }
    }
    // Detached.
    openssl
        .run("cms -sign -in in -out out -outform DER -binary -signer owner.crt -inkey owner.key");
    let judgement = judged(&world, &owner, openssl.read("out"), &strict);
    assert_eq!(
        verdict(&judgement, "conveyed-information"),
        "cms.content-missing"
    );
}

/// PKCS#7 as `openssl smime` signs it, and an XML voucher in id-data.
///
/// Requirements: SZTP-8366-5.4-03, SZTP-8366-5.4-01, SZTP-8572-3.3-01
#[test]
fn vouchers_by_openssl_in_both_encodings() {
    let world = Sztp::new();
    let openssl = OpenSsl::new();
    let masa = openssl.identity("masa", "rsa:2048", "-days 10", "/CN=masa");
    let json = artifacts::Voucher::new(world.voucher_fields())
        .unwrap()
        .to_json();
    let pin = world.root.chain[0].to_pem();
    let pin: String = pin.lines().filter(|line| !line.starts_with('-')).collect();
    let xml = |leaves: &str| {
        format!(
            "<voucher xmlns=\"urn:ietf:params:xml:ns:yang:ietf-voucher\">\
             <created-on>2026-06-01T11:00:00Z</created-on><assertion>verified</assertion>\
             <serial-number>{SERIAL}</serial-number><pinned-domain-cert>{pin}</pinned-domain-cert>\
             <domain-cert-revocation-checks>false</domain-cert-revocation-checks>{leaves}</voucher>"
        )
    };
    let json = String::from_utf8(json).unwrap();
    let smime = "smime -sign -binary -nodetach";
    let cms = "cms -sign -binary -nodetach -econtent_type 1.2.840.113549.1.9.16.1.40";
    let double = xml("<assertion>logged</assertion>");
    let entity = format!("<!DOCTYPE voucher []>{}", xml(""));
    for (command, content, want) in [
        (smime, json.as_str(), None),
        (cms, &json, None),
        (smime, &xml(""), None),
        (smime, &double, Some("voucher.duplicate-member")),
        (smime, &entity, Some("voucher.xml-doctype")),
        (smime, &xml("<x><y/></x>"), Some("voucher.wrong-type")),
        (smime, &xml("&x;"), Some("voucher.xml-entity")),
        (smime, "<voucher/>", Some("voucher.top-level-name")),
        (smime, "<voucher", Some("voucher.not-xml")),
    ] {
        openssl.write("in", content);
        openssl.run(&format!(
            "{command} -in in -out out -outform DER -signer masa.crt -inkey masa.key"
        ));
        let mut data = world.data();
        data.ownership_voucher = Some(openssl.read("out"));
        let strict = Tolerances::strict();
        let anchors = masa.chain[0].clone().into();
        let mut context = world.context(&strict);
        context.voucher_anchors = &anchors;
        context.at = Some(masa.chain[0].not_before() + Duration::HOUR);
        let judgement = judge(&data, false, &context);
        assert_eq!(code(&judgement), want, "{command} {content}");
    }
}

/// `openssl crl2pkcs7` makes owner certificates; `-outform DER` of unsigned content is `cms
/// -data_create`.
///
/// Requirements: SZTP-8572-3.2-02, SZTP-8572-3.2-05, SZTP-8572-3.1-03
#[test]
fn owner_certificates_and_unsigned_content_by_openssl() {
    let world = Sztp::new();
    let openssl = OpenSsl::new();
    let chain: String = world.owner.chain.iter().map(Certificate::to_pem).collect();
    openssl.write("chain.pem", chain);
    openssl.write("crl.pem", world.crl(&world.intermediate, &[]).to_pem());
    openssl.run("crl2pkcs7 -in crl.pem -certfile chain.pem -outform DER -out out");
    let mut data = world.data();
    data.owner_certificate = Some(openssl.read("out"));
    let judgement = world.untrusted(&data);
    assert_eq!(code(&judgement), None);
    assert_eq!(verdict(&judgement, "owner-revocation"), "passed");
    openssl.run("crl2pkcs7 -nocrl -certfile chain.pem -outform DER -out out");
    assert_eq!(
        owner::decode(&openssl.read("out"))
            .unwrap()
            .certificates()
            .len(),
        2
    );
    // The other way round.
    openssl.write(
        "in",
        owner::encode(&world.owner.chain, &[world.crl(&world.root, &[])]).unwrap(),
    );
    let printed = openssl.run("pkcs7 -inform DER -in in -print_certs -noout");
    assert_eq!(printed.matches("subject=").count(), 2, "{printed}");

    openssl.write("in", onboarding().encode(Encoding::Xml).unwrap());
    openssl.run("cms -data_create -binary -in in -out out -outform DER");
    let strict = Tolerances::strict();
    match conveyed::parse(&openssl.read("out"), &strict).unwrap() {
        Parsed::Unsigned {
            encoding, content, ..
        } => {
            assert_eq!(encoding, Encoding::Xml);
            assert_eq!(content, openssl.read("in"));
        }
        other => panic!("{other:?}"),
    }
    openssl.write("in", conveyed::unsigned(b"{}", Encoding::Json));
    let printed = openssl.run("cms -cmsout -print -noout -inform DER -in in");
    assert!(printed.contains("1.2.840.113549.1.9.16.1.43"), "{printed}");
}

/// Requirements: SZTP-8572-5.3-07, SZTP-5083-implied_by_8572_3.1_3.4-01
#[test]
fn what_openssl_encrypts_is_id_data() {
    let world = Sztp::new();
    let openssl = OpenSsl::new();
    openssl.write("device.pem", world.device.chain[0].to_pem());
    openssl.write("in", world.data().conveyed_information);
    let mut data = world.data();
    openssl.run("cms -encrypt -binary -in in -out out -outform DER -aes256 -recip device.pem");
    data.conveyed_information = openssl.read("out");
    let strict = Tolerances::strict();
    assert_eq!(
        code(&judge(&data, false, &world.context(&strict))),
        Some("conveyed.unrecognised-format")
    );
    let tolerant = Tolerances::from_names(["enveloped-as-data"]).unwrap();
    assert_eq!(code(&judge(&data, false, &world.context(&tolerant))), None);
    // Streamed, it is BER besides.
    openssl.run(
        "cms -encrypt -binary -stream -indef -in in -out out -outform DER -aes256 \
         -recip device.pem",
    );
    data.conveyed_information = openssl.read("out");
    let judgement = judge(&data, false, &world.context(&tolerant));
    assert_eq!(code(&judgement), Some("conveyed.not-der"));
    let lenient = Tolerances::lenient();
    assert_eq!(code(&judge(&data, false, &world.context(&lenient))), None);
    // AuthEnvelopedData is none of the types that RFC 8572 names.
    openssl.write("recipient.key", world.device_key.to_pkcs8_pem().unwrap());
    let rsa = openssl.identity("rsa", "rsa:2048", "-days 10", "/CN=device");
    openssl.run("cms -encrypt -binary -in in -out out -outform DER -aes-256-gcm -recip rsa.crt");
    data.conveyed_information = openssl.read("out");
    let judgement = judge(&data, false, &world.context(&lenient));
    assert_eq!(code(&judgement), Some("cms.unexpected-type"));
    assert!(rsa.signer.public_key().describe().starts_with("RSA"));
    let refused = conveyed::parse(&data.conveyed_information, &strict).unwrap_err();
    assert_eq!(refused.code(), "cms.unexpected-type");
}
