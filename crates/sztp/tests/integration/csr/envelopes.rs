//! CMC and CMP requests.

use std::path::Path;
use std::process::Command;

use pki::{Certificate, Csr, Identity, ObjectIdentifier, SignOptions, Signer, SoftwareKey, cms};
use sztp::csr::{Asked, Device, KeyAlgorithm, Origin, Policy, check};
use sztp::message::{CsrFormat, CsrInput};
use sztp::restconf::Fault;

use super::{NOW, PASSWORD, SERIAL, World, asked, csr, key};

/// One DER element.
fn der(tag: u8, parts: &[&[u8]]) -> Vec<u8> {
    let content = parts.concat();
    let mut out = vec![tag];
    // Two octets of length are enough for the test's messages.
    let [high, low] = u16::try_from(content.len()).unwrap().to_be_bytes();
    match (high, low) {
        (0, 0..=0x7f) => out.push(low),
        (0, _) => out.extend([0x81, low]),
        _ => out.extend([0x82, high, low]),
    }
    out.extend(content);
    out
}

const PKI_DATA: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.6.1.5.5.7.12.2");
const BODY_PART: &[u8] = &[2, 1, 1];

/// A PKIData with these requests and nested messages.
pub(crate) fn pki_data(requests: &[u8], nested: &[u8], others: &[u8]) -> Vec<u8> {
    der(
        0x30,
        &[
            &der(0x30, &[]),
            &der(0x30, &[requests]),
            &der(0x30, &[nested]),
            &der(0x30, &[others]),
        ],
    )
}

/// TaggedRequest of a PKCS#10.
pub(crate) fn tcr(csr: &Csr) -> Vec<u8> {
    der(0xa0, &[BODY_PART, csr.der()])
}

pub(crate) fn sign(content: &[u8], identity: &Identity) -> Vec<u8> {
    cms::sign(content, PKI_DATA, identity, &SignOptions::default()).unwrap()
}

/// Requirements: SZTP-9646-3.2-14, SZTP-9646-4.1.5-01
#[test]
fn cmc_requests() {
    let world = World::new();
    let policy = Policy {
        formats: vec![CsrFormat::Cmc],
        ..Policy::default()
    };
    let new = key();
    let fresh = csr(&world.idevid, &new);
    let own = csr(&world.idevid, world.idevid.signer.as_ref());
    let asked_new = asked(Some(KeyAlgorithm::EcP256), CsrFormat::Cmc);
    let asked_own = asked(None, CsrFormat::Cmc);
    let judge = |der: Vec<u8>, asked: &Asked| {
        check(
            &CsrInput::Cmc(der),
            Some(asked),
            &policy,
            &world.device(),
            NOW,
        )
    };
    // The key that exists: one reqSequence, signed with it.
    let checked = judge(
        sign(&pki_data(&tcr(&own), &[], &[]), &world.idevid),
        &asked_own,
    )
    .unwrap();
    assert_eq!(checked.origin, Origin::IdentityKey);
    assert_eq!(checked.format, CsrFormat::Cmc);
    // A new key: one cmsSequence that holds what the new key signed.
    let holder = Identity::new(
        vec![testkit_self_signed(&new)],
        std::sync::Arc::new(SoftwareKey::from_pkcs8_der(&new.to_pkcs8_der().unwrap()).unwrap()),
    )
    .unwrap();
    let inner = sign(&pki_data(&tcr(&fresh), &[], &[]), &holder);
    let tagged = der(0x30, &[BODY_PART, &inner]);
    let nested = sign(&pki_data(&[], &tagged, &[]), &world.idevid);
    let checked = judge(nested, &asked_new).unwrap();
    assert_eq!(checked.origin, Origin::Envelope);
    assert!(checked.is_new_key);
    assert_eq!(checked.csr.der(), fresh.der());

    let twice = der(
        0x30,
        &[
            BODY_PART,
            &sign(&pki_data(&[], &tagged, &[]), &world.idevid),
        ],
    );
    let auth_data = der(
        0x30,
        &[
            &[6, 11, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 9, 0x10, 1, 2],
            &[0xa0, 2, 0x30, 0],
        ],
    );
    let shared = der(0x30, &[BODY_PART, &auth_data]);
    let crm = der(0xa1, &[BODY_PART]);
    let mut broken = sign(&pki_data(&tcr(&own), &[], &[]), &world.idevid);
    *broken.last_mut().unwrap() ^= 1;
    let two = [tcr(&own), tcr(&own)].concat();
    for (case, der, fault) in [
        (
            "signed by another device",
            sign(&pki_data(&tcr(&own), &[], &[]), &world.other),
            Fault::CsrOrigin,
        ),
        (
            "signed by the new key only",
            sign(&pki_data(&tcr(&fresh), &[], &[]), &holder),
            Fault::CsrOrigin,
        ),
        ("broken signature", broken, Fault::CsrOrigin),
        (
            "two requests",
            sign(&pki_data(&two, &[], &[]), &world.idevid),
            Fault::CsrMalformed,
        ),
        (
            "a request and a message",
            sign(&pki_data(&tcr(&own), &tagged, &[]), &world.idevid),
            Fault::CsrMalformed,
        ),
        (
            "nothing",
            sign(&pki_data(&[], &[], &[]), &world.idevid),
            Fault::CsrMalformed,
        ),
        (
            "other messages",
            sign(&pki_data(&tcr(&own), &[], &[0x30, 0]), &world.idevid),
            Fault::CsrMalformed,
        ),
        (
            "nested twice",
            sign(&pki_data(&[], &twice, &[]), &world.idevid),
            Fault::CsrMalformed,
        ),
        (
            "CRMF",
            sign(&pki_data(&crm, &[], &[]), &world.idevid),
            Fault::CsrFormat,
        ),
        ("shared secret", auth_data.clone(), Fault::CsrFormat),
        (
            "shared secret inside",
            sign(&pki_data(&[], &shared, &[]), &world.idevid),
            Fault::CsrFormat,
        ),
        (
            "no PKIData",
            sign(&[4, 0], &world.idevid),
            Fault::CsrMalformed,
        ),
        ("PKCS#10", own.der().to_vec(), Fault::CsrMalformed),
        ("empty", Vec::new(), Fault::CsrMalformed),
    ] {
        let error = judge(der, &asked_own).expect_err(case);
        assert_eq!(error.fault, fault, "{case}: {error}");
    }
    let good = sign(&pki_data(&tcr(&own), &[], &[]), &world.idevid);
    let error = check(
        &CsrInput::Cmc(good),
        Some(&asked_own),
        &policy,
        &PASSWORD,
        NOW,
    )
    .unwrap_err();
    assert_eq!(error.fault, Fault::CsrOrigin);
}

/// A certificate for a key that only the test knows.
fn testkit_self_signed(key: &SoftwareKey) -> Certificate {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("key.pem");
    std::fs::write(&file, key.to_pkcs8_pem().unwrap().as_bytes()).unwrap();
    let out = openssl(
        folder.path(),
        &[
            "req", "-new", "-x509", "-key", "key.pem", "-subj", "/CN=new", "-days", "9",
            "-outform", "DER",
        ],
    );
    Certificate::from_der(&out).unwrap()
}

fn openssl(folder: &Path, arguments: &[&str]) -> Vec<u8> {
    let output = Command::new("openssl")
        .current_dir(folder)
        .args(arguments)
        .output()
        .expect("openssl is installed: see xtask/src/packages.rs");
    assert!(
        output.status.success(),
        "{arguments:?}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    output.stdout
}

/// What OpenSSL's CMP client writes: it talks to its own mock server, and what it sent is kept.
///
/// Requirements: SZTP-9646-3.2-15, SZTP-9646-3.2-17, SZTP-9646-4.1.5-01
#[test]
fn cmp_requests_of_openssl() {
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| std::fs::write(folder.path().join(name), text).unwrap();
    let new = key();
    let other = key();
    write("new.pem", &new.to_pkcs8_pem().unwrap());
    write("other.pem", &other.to_pkcs8_pem().unwrap());
    // OpenSSL needs the key in a file, so this device's identity is made of a key of the test.
    let device_key = key();
    write("id.pem", &device_key.to_pkcs8_pem().unwrap());
    openssl(
        folder.path(),
        &[
            "req",
            "-new",
            "-x509",
            "-key",
            "id.pem",
            "-subj",
            "/serialNumber=SN-1",
            "-days",
            "9",
            "-out",
            "id.crt",
        ],
    );
    openssl(
        folder.path(),
        &[
            "req",
            "-new",
            "-x509",
            "-key",
            "other.pem",
            "-subj",
            "/serialNumber=SN-2",
            "-days",
            "9",
            "-out",
            "other.crt",
        ],
    );
    openssl(
        folder.path(),
        &[
            "req",
            "-new",
            "-key",
            "id.pem",
            "-subj",
            "/serialNumber=SN-1",
            "-out",
            "own.csr",
        ],
    );
    openssl(
        folder.path(),
        &[
            "req",
            "-new",
            "-key",
            "new.pem",
            "-subj",
            "/serialNumber=SN-1",
            "-out",
            "new.csr",
        ],
    );
    let identity = Certificate::load(folder.path().join("id.crt")).unwrap();
    let device = Device {
        serial: SERIAL,
        identity: Some(&identity),
    };
    let cmp = |name: &str, arguments: &[&str]| {
        let common = [
            "-recipient",
            "/CN=CA",
            "-use_mock_srv",
            "-srv_cert",
            "id.crt",
            "-srv_key",
            "id.pem",
            "-rsp_cert",
            "id.crt",
            "-trusted",
            "id.crt",
            "-reqout",
            name,
            "-certout",
            "out.pem",
        ];
        // The mock server's certificate is for no key of ours, so the command fails after it
        // has written what it sent.
        Command::new("openssl")
            .current_dir(folder.path())
            .arg("cmp")
            .args(arguments)
            .args(common)
            .output()
            .expect("openssl is installed: see xtask/src/packages.rs");
        std::fs::read(folder.path().join(name)).unwrap()
    };
    let protected = [
        "-cert",
        "id.crt",
        "-key",
        "id.pem",
        "-srv_trusted",
        "id.crt",
    ];
    let p10cr = cmp(
        "p10cr.der",
        &[&["-cmd", "p10cr", "-csr", "new.csr"][..], &protected].concat(),
    );
    let bare = cmp(
        "bare.der",
        &[
            "-cmd",
            "p10cr",
            "-csr",
            "own.csr",
            "-unprotected_requests",
            "-ref",
            "1",
        ],
    );
    let bare_new = cmp(
        "bare-new.der",
        &[
            "-cmd",
            "p10cr",
            "-csr",
            "new.csr",
            "-unprotected_requests",
            "-ref",
            "1",
        ],
    );
    let mac = cmp(
        "mac.der",
        &[
            "-cmd",
            "p10cr",
            "-csr",
            "new.csr",
            "-ref",
            "1",
            "-secret",
            "pass:x",
            "-srv_ref",
            "1",
            "-srv_secret",
            "pass:x",
        ],
    );
    let ir = cmp(
        "ir.der",
        &[
            &["-cmd", "ir", "-newkey", "new.pem", "-subject", "/CN=x"][..],
            &protected,
        ]
        .concat(),
    );
    let stranger = cmp(
        "stranger.der",
        &[
            "-cmd",
            "p10cr",
            "-csr",
            "new.csr",
            "-cert",
            "other.crt",
            "-key",
            "other.pem",
            "-srv_trusted",
            "other.crt",
        ],
    );

    let policy = Policy {
        formats: vec![CsrFormat::Cmp],
        ..Policy::default()
    };
    let asked_new = asked(Some(KeyAlgorithm::EcP256), CsrFormat::Cmp);
    let asked_own = asked(None, CsrFormat::Cmp);
    let judge = |der: &[u8], asked: &Asked| {
        check(
            &CsrInput::Cmp(der.to_vec()),
            Some(asked),
            &policy,
            &device,
            NOW,
        )
    };
    let checked = judge(&p10cr, &asked_new).unwrap();
    assert_eq!(checked.origin, Origin::Envelope);
    assert_eq!(checked.csr.public_key(), new.public_key());
    let checked = judge(&bare, &asked_own).unwrap();
    assert_eq!(checked.origin, Origin::IdentityKey);
    // Without protection, a new key has nothing but the transport.
    let checked = judge(&bare_new, &asked_new).unwrap();
    assert_eq!(checked.origin, Origin::Transport);

    let mut broken = p10cr.clone();
    let at = p10cr.len() - identity.der().len() - 12;
    broken[at] ^= 1;
    let mut version = p10cr.clone();
    let at = version
        .windows(3)
        .position(|three| three == [2, 1, 2])
        .unwrap();
    version[at + 2] = 3;
    for (case, der, fault) in [
        ("MAC", &mac, Fault::CsrFormat),
        ("ir", &ir, Fault::CsrFormat),
        ("another device", &stranger, Fault::CsrOrigin),
        ("another version", &version, Fault::CsrMalformed),
        (
            "cut",
            &p10cr[..p10cr.len() - 1].to_vec(),
            Fault::CsrMalformed,
        ),
        ("empty", &Vec::new(), Fault::CsrMalformed),
    ] {
        let error = judge(der, &asked_new).expect_err(case);
        assert_eq!(error.fault, fault, "{case}: {error}");
    }
    assert!(judge(&broken, &asked_new).is_err());
}

/// Every octet changed and every length cut is an error of the peer or the same CSR, no panic.
#[test]
fn any_change_of_an_envelope_is_an_answer() {
    let world = World::new();
    let policy = Policy {
        formats: CsrFormat::ALL.to_vec(),
        ..Policy::default()
    };
    let own = csr(&world.idevid, world.idevid.signer.as_ref());
    let cmc = sign(&pki_data(&tcr(&own), &[], &[]), &world.idevid);
    for at in 0..cmc.len() {
        let mut changed = cmc.clone();
        changed[at] = changed[at].wrapping_add(1);
        for input in [
            CsrInput::Cmc(changed.clone()),
            CsrInput::Cmp(changed.clone()),
            CsrInput::P10(changed),
            CsrInput::Cmc(cmc[..at].to_vec()),
        ] {
            let asked = asked(None, CsrFormat::Cmc);
            if let Ok(checked) = check(&input, Some(&asked), &policy, &world.device(), NOW) {
                assert_eq!(checked.csr.der(), own.der());
            }
        }
    }
}
