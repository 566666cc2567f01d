//! Signed data: RFC 8572 section 5.4.

mod bad;
mod good;

use std::sync::Arc;

use openssl::{
    cms::{CMSOptions, CmsContentInfo},
    stack::Stack,
    symm::Cipher,
    x509::X509,
};
use time::Duration;

use super::{Asking, Data, Scene, SztpDevice, signed_image, unsigned_image};
use crate::{
    case::Case,
    clock,
    evidence::Recorder,
    fake_masa::Reply,
    forge::{
        cms::{Cms, DATA, certs_only},
        der,
        key::Key,
        sztp::{
            CONVEYED_NAMESPACE, ENVELOPED_DATA, escaped, hash_value, onboarding, redirect,
            unsigned, unsigned_json,
        },
        x509::{Authority, Certificate, name},
    },
    outcome::{Finding, OrCouldNotTest as _},
    stage::Action,
};

pub(super) type Make = fn(&Asking<'_>, &SztpDevice) -> Result<Data, Finding>;

fn voucher_with(asking: &Asking<'_>, change: impl FnOnce(&mut Cms)) -> Data {
    asking.signed(&onboarding(asking.image())).with(|data| {
        data.voucher = Some(asking.voucher(&asking.leaves()).with(change).encode());
    })
}

fn spoilt_voucher(asking: &Asking<'_>, change: impl FnOnce(&mut Vec<u8>)) -> Data {
    let mut octets = asking.voucher(&asking.leaves()).encode();
    change(&mut octets);
    asking
        .signed(&onboarding(asking.image()))
        .with(|data| data.voucher = Some(octets))
}

fn conveyed_with(asking: &Asking<'_>, change: impl FnOnce(&mut Cms)) -> Data {
    let content = onboarding(asking.image());
    asking
        .signed(&content)
        .with(|data| data.conveyed = asking.conveyed(&content).with(change).encode())
}

/// Everything right but the owner, whose artefact holds `bag` or the owner's chain.
fn by_owner(
    asking: &Asking<'_>,
    owner: &crate::forge::x509::Identity,
    bag: Option<Vec<Vec<u8>>>,
) -> Result<Data, Finding> {
    let data = conveyed_with(asking, |cms| cms.signers = vec![owner.signatory.clone()]);
    let bag = bag.unwrap_or_else(|| owner.chain());
    Ok(data.with(|data| data.owner = Some(certs_only(&bag))))
}

/// A CA below another.
fn below(
    kit: &SztpDevice,
    ca: &Authority,
    change: impl FnOnce(Certificate) -> Certificate,
) -> Result<Authority, Finding> {
    let key = Key::generate().or_could_not_test("a key")?;
    let subject = name("Conformance", "Middle CA", None);
    let certificate = Certificate::new(&ca.name, &subject, key.spki(), kit.at)
        .ca(&key.key_id(), Some(0))
        .issued_by(&ca.key_id());
    let certificate = change(certificate).sign(&ca.signatory.key);
    Ok(Authority {
        above: vec![certificate.clone()],
        signatory: crate::forge::cms::Signatory { certificate, key },
        name: subject,
    })
}

/// The owner's chain with a revocation list of its CA that names this serial number, if it is not
/// empty.
fn with_crl(asking: &Asking<'_>, kit: &SztpDevice, serial: &[u8]) -> Vec<u8> {
    let key = &kit.owner.signatory.key;
    let now = clock::now();
    let mut fields = vec![
        der::int(1),
        key.algorithm(),
        kit.owner.name.clone(),
        der::time(now - Duration::hours(1)),
        der::time(now + Duration::days(7)),
    ];
    if !serial.is_empty() {
        let entry = der::seq(&[der::uint(serial), der::time(now - Duration::hours(2))]);
        fields.push(der::seq(&[entry]));
    }
    let issuer = der::seq(&[
        der::oid("2.5.29.35"),
        der::octets(&der::seq(&[der::implicit(0, &kit.owner.key_id())])),
    ]);
    let number = der::seq(&[der::oid("2.5.29.20"), der::octets(&der::int(1))]);
    fields.push(der::explicit(0, &der::seq(&[issuer, number])));
    let tbs = der::seq(&fields);
    let crl = der::seq(&[tbs.clone(), key.algorithm(), der::bits(&key.sign(&tbs))]);
    let mut certificates = asking.world.owner.chain();
    certificates.sort();
    crate::forge::cms::content_info(&der::seq(&[
        der::int(1),
        der::set(&[]),
        der::seq(&[der::oid(DATA)]),
        der::explicit(0, &certificates.concat()),
        der::explicit(1, &crl),
        der::set(&[]),
    ]))
}

/// EnvelopedData to the device, made by OpenSSL.
fn encrypted(asking: &Asking<'_>, octets: &[u8], kind: &str) -> Result<Vec<u8>, Finding> {
    let device = asking
        .came
        .client
        .first()
        .ok_or_else(|| Finding::could_not_test("the device showed no certificate"))?;
    encrypted_to(device, octets, kind)
}

/// EnvelopedData to a certificate whose content is of a type: OpenSSL writes id-data, which is put
/// right afterwards, because the type is not within what is encrypted.
fn encrypted_to(certificate: &[u8], octets: &[u8], kind: &str) -> Result<Vec<u8>, Finding> {
    let made = || -> Result<Vec<u8>, openssl::error::ErrorStack> {
        let mut stack = Stack::new()?;
        stack.push(X509::from_der(certificate)?)?;
        // What is encrypted is the content of the ContentInfo, not the ContentInfo.
        let content = der::inside(octets)
            .map(der::elements)
            .and_then(|parts| parts.into_iter().nth(1))
            .and_then(|tagged| der::inside(&tagged).map(<[u8]>::to_vec))
            .unwrap_or_default();
        CmsContentInfo::encrypt(&stack, &content, Cipher::aes_256_cbc(), CMSOptions::BINARY)?
            .to_der()
    };
    let der = made().or_could_not_test("EnvelopedData")?;
    Ok(retyped(&der, kind))
}

/// Another type in EncryptedContentInfo.
fn retyped(enveloped: &[u8], kind: &str) -> Vec<u8> {
    let parts = der::inside(enveloped)
        .map(der::elements)
        .unwrap_or_default();
    let inner = parts
        .get(1)
        .and_then(|tagged| der::inside(tagged))
        .and_then(der::inside)
        .map(der::elements)
        .unwrap_or_default();
    let fields: Vec<Vec<u8>> = inner
        .into_iter()
        .map(|field| {
            let inside = der::inside(&field).map(der::elements).unwrap_or_default();
            if inside.first() == Some(&der::oid(DATA)) {
                let mut changed = inside;
                if let Some(first) = changed.first_mut() {
                    *first = der::oid(kind);
                }
                der::seq(&changed)
            } else {
                field
            }
        })
        .collect();
    der::seq(&[
        der::oid(ENVELOPED_DATA),
        der::explicit(0, &der::seq(&fields)),
    ])
}

/// Onboarding information with the suite's image, in XML.
fn xml_image(asking: &Asking<'_>) -> String {
    let uri = escaped(&asking.world.url(asking.server, super::scene::IMAGE));
    let hash = hash_value(&asking.world.image);
    format!(
        "<onboarding-information xmlns=\"{CONVEYED_NAMESPACE}\"><boot-image><os-name>conformance-os</os-name><os-version>2.0</os-version><download-uri>{uri}</download-uri><image-verification><hash-algorithm>sha-256</hash-algorithm><hash-value>{hash}</hash-value></image-verification></boot-image></onboarding-information>"
    )
}

/// What a server answers, as `make` makes it.
pub(super) fn answer(asking: &Asking<'_>, made: Result<Data, Finding>) -> Action {
    match made {
        Ok(data) => asking.reply(&data),
        Err(finding) => Reply::new(500, "text/plain", finding.why).into(),
    }
}

fn refused(
    &(id, title, requirements, make): &(&str, &'static str, &[&str], Make),
    is_trusted: bool,
) -> Case {
    let (suffix, by) = if is_trusted {
        ("-trusted", "from a trusted server")
    } else {
        ("", "from an untrusted server")
    };
    Case::new(
        format!("sztp-device/{id}{suffix}"),
        format!("{title} is refused {by}"),
        requirements,
        move |kit: Arc<SztpDevice>, record: Recorder| async move {
            let maker = Arc::clone(&kit);
            let server = kit.server_of(if is_trusted { &kit.web } else { &kit.stranger })?;
            let scene = Scene::new(&kit, server, move |asking| {
                answer(asking, make(asking, &maker))
            })?
            .with(|scene| scene.is_discovered = !is_trusted);
            kit.play(&record, scene).await?.refused(title)
        },
    )
    .tags(&["hostile"])
}

pub(super) fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    for is_trusted in [false, true] {
        cases.extend(bad::BAD.iter().map(|it| refused(it, is_trusted)));
        cases.extend(
            bad::BAD_DATES
                .iter()
                .map(|it| refused(it, is_trusted).needs(&["clock"])),
        );
    }
    for &(id, title, requirements, needs, make) in good::BAD_SPECIAL {
        cases.push(refused(&(id, title, requirements, make), false).needs(needs));
    }
    for &(id, title, requirements, needs, make) in good::GOOD {
        cases.push(
            Case::new(
                format!("sztp-device/{id}"),
                format!("{title}: taken"),
                requirements,
                move |kit: Arc<SztpDevice>, record: Recorder| async move {
                    let maker = Arc::clone(&kit);
                    let scene =
                        Scene::untrusted(&kit, move |asking| answer(asking, make(asking, &maker)))?;
                    kit.play(&record, scene).await?.believed(title)
                },
            )
            .needs(&["boot-image"])
            .needs(needs),
        );
    }
    cases.extend([
        Case::new("sztp-device/rfc8572-2.2/unsigned-untrusted", "unsigned onboarding information of an untrusted server is refused", &["SZTP-8572-2.2-01", "SZTP-8572-5.3-13", "SZTP-8572-9.5-01", "SZTP-8572-5.3-01"], |kit: Arc<SztpDevice>, record: Recorder| async move {
            let scene = Scene::untrusted(&kit, unsigned_image)?;
            kit.play(&record, scene).await?.refused("unsigned onboarding information")
        }).tags(&["hostile"]),
        Case::new("sztp-device/rfc8572-2.2/unsigned-with-voucher", "unsigned onboarding information is refused, though a voucher and an owner certificate come with it", &["SZTP-8572-2.2-01", "SZTP-8572-5.3-13"], |kit: Arc<SztpDevice>, record: Recorder| async move {
            let scene = Scene::untrusted(&kit, |asking| {
                let content = onboarding(asking.image());
                asking.reply(&asking.signed(&content).with(|data| data.conveyed = unsigned_json(&content)))
            })?;
            kit.play(&record, scene).await?.refused("unsigned onboarding information")
        }).tags(&["hostile"]),
        Case::new("sztp-device/rfc8572-3.1/id-data-unsigned", "unsigned onboarding information of type id-data is refused from an untrusted server", &["SZTP-8572-2.2-01"], |kit: Arc<SztpDevice>, record: Recorder| async move {
            let scene = Scene::untrusted(&kit, |asking| asking.reply(&Data::bare(unsigned(&onboarding(asking.image()), DATA))))?;
            kit.play(&record, scene).await?.refused("unsigned onboarding information")
        }).tags(&["hostile"]),
        Case::new("sztp-device/rfc8572-5.4/trusted-signed", "signed onboarding information of a trusted server is carried out", &["SZTP-8572-4.4-03", "SZTP-8572-5.4-01"], |kit: Arc<SztpDevice>, record: Recorder| async move {
            let scene = Scene::trusted(&kit, signed_image)?;
            kit.play(&record, scene).await?.believed("signed data of a trusted server")
        }).needs(&["boot-image"]),
        Case::new("sztp-device/rfc8366-5.3/nonce-sent", "the device sends a nonce of 16 to 32 octets, another each time", &["SZTP-8572-7.3-06", "SZTP-9646-4.1.2-02"], |kit: Arc<SztpDevice>, record: Recorder| async move {
            let mut nonces = Vec::new();
            for _ in 0..2 {
                let run = kit.play(&record, Scene::untrusted(&kit, signed_image)?).await?;
                let text = super::scene::input_of(run.call()?, "nonce").ok_or_else(|| Finding::fail("there is no nonce"))?;
                use base64::{Engine as _, engine::general_purpose::STANDARD};
                let nonce = STANDARD.decode(&text).map_err(|error| Finding::fail(format!("the nonce: {error}")))?;
                crate::outcome::must((16..=32).contains(&nonce.len()), format!("the nonce has {} octets", nonce.len()))?;
                nonces.push(nonce);
            }
            crate::outcome::must(nonces.first() != nonces.get(1), "the nonce came twice")
        }).needs(&["nonce"]),
        Case::new("sztp-device/rfc8366-5.3/nonce-other", "a voucher with another nonce than was sent is refused", &["SZTP-8366-5.3-15"], |kit: Arc<SztpDevice>, record: Recorder| async move {
            let scene = Scene::untrusted(&kit, |asking| {
                let mut nonce = asking.nonce().unwrap_or_else(|| vec![1; 16]);
                if let Some(last) = nonce.last_mut() {
                    *last ^= 1;
                }
                asking.reply(&asking.signed_with(&asking.leaves().binary("nonce", &nonce)))
            })?;
            kit.play(&record, scene).await?.refused("a voucher with another nonce")
        }).tags(&["hostile"]).needs(&["nonce"]),
        Case::new("sztp-device/rfc8366-5.3/nonce-right", "a voucher with the nonce that was sent is taken", &["SZTP-8366-5.3-15", "SZTP-8572-7.3-07"], |kit: Arc<SztpDevice>, record: Recorder| async move {
            kit.play(&record, Scene::untrusted(&kit, signed_image)?).await?.believed("a voucher with the nonce")
        }).needs(&["nonce", "boot-image"]),
        Case::new("sztp-device/rfc8572-9.1/no-clock", "a device without a clock takes an owner certificate that has expired", &["SZTP-8572-9.1-02"], |kit: Arc<SztpDevice>, record: Recorder| async move {
            let key = Key::generate().or_could_not_test("a key")?;
            let owner = kit.owner.issue(&name("", "Owner", None), &key, kit.at, |it| it.with(|it| {
                it.not_before = kit.at - Duration::days(400);
                it.not_after = kit.at - Duration::days(30);
            }));
            let scene = Scene::untrusted(&kit, move |asking| answer(asking, by_owner(asking, &owner, None)))?;
            kit.play(&record, scene).await?.believed("an owner certificate that has expired")
        }).needs(&["no-clock", "boot-image"]),
        Case::new("sztp-device/rfc8572-6.3/empty-redirect", "redirect information without a server hinders nothing and leads nowhere", &["SZTP-8572-6.3-02"], |kit: Arc<SztpDevice>, record: Recorder| async move {
            let scene = Scene::trusted(&kit, |asking| asking.reply(&Data::bare(unsigned_json(&redirect(&[])))))?;
            kit.play(&record, scene).await?.refused("redirect information without a server")
        }).tags(&["hostile"]),
    ]);
    cases
}
