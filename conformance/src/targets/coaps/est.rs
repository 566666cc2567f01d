//! EST over CoAP (RFC 9148).

use std::sync::Arc;

use ciborium::Value;

use super::{
    Served, attempt, case, certificate, certificates, est_server::csr_of, format, is, is_one_of,
    open, readable, refused,
};
use crate::{
    case::Case,
    coaps::{Answer, Ask, Coaps, Code, option, uint},
    evidence::Recorder,
    forge::{
        cms, der,
        key::{Hash, Key},
        x509::{Identity, Request as Csr, name},
    },
    oracle,
    outcome::{Finding, OrCouldNotTest as _, Told, must},
};

type Make = fn(&Csr) -> Vec<u8>;

/// Bodies that are no request, or none that may be granted.
const BAD: &[(&str, &str, &[&str], Make)] = &[
    (
        "rfc9148-4.5/truncated",
        "a request without its last octet is refused",
        &["ESC-034"],
        |csr| {
            let mut octets = csr.encode();
            octets.pop();
            octets
        },
    ),
    (
        "rfc9148-4.5/trailing",
        "a request with an octet after it is refused",
        &["ESC-034"],
        |csr| {
            let mut octets = csr.encode();
            octets.push(0);
            octets
        },
    ),
    (
        "rfc9148-4.5/garbage",
        "garbage is refused",
        &["ESC-034", "ESC-033"],
        |_| b"garbage".to_vec(),
    ),
    (
        "rfc9148-4.5/empty",
        "an empty body is refused",
        &["ESC-034"],
        |_| Vec::new(),
    ),
    (
        "rfc9148-4.5/signature",
        "a request with a wrong signature is refused",
        &["ESC-035"],
        |csr| {
            let mut octets = csr.encode();
            if let Some(last) = octets.last_mut() {
                *last ^= 1;
            }
            octets
        },
    ),
    (
        "rfc9148-4.5/signed-by-another",
        "a request that another key signed is refused",
        &["ESC-035"],
        |csr| {
            let other = Key::generate().ok();
            csr.clone().with(|csr| csr.signer = other).encode()
        },
    ),
    (
        "rfc9148-4.5/sha1",
        "a request signed over SHA-1 is refused",
        &["ESC-035"],
        |csr| csr.clone().with(|csr| csr.hash = Some(Hash::Sha1)).encode(),
    ),
    (
        "rfc9148-9.1/huge-length",
        "DER that says that it has four thousand million octets is refused",
        &["ESC-059", "ESC-034"],
        |_| vec![0x30, 0x84, 0xff, 0xff, 0xff, 0xff, 0],
    ),
    (
        "rfc9148-9.1/indefinite-length",
        "nested indefinite lengths are refused",
        &["ESC-059", "ESC-034"],
        |_| [0x30, 0x80].repeat(800),
    ),
    (
        "rfc9148-9.1/long-length",
        "a length in more octets than it needs is refused",
        &["ESC-059"],
        |csr| {
            let octets = csr.encode();
            der::inside(&octets)
                .map(|inside| der::tlv_long(0x30, inside))
                .unwrap_or_default()
        },
    ),
    (
        "rfc9148-4.3/base64",
        "a request in base64 is refused",
        &["ESC-019"],
        |csr| {
            use base64::{Engine as _, engine::general_purpose::STANDARD};
            STANDARD.encode(csr.encode()).into_bytes()
        },
    ),
];

pub(super) fn cases<K: Served>() -> Vec<Case> {
    let mut cases: Vec<Case> = BAD
        .iter()
        .map(|(rest, title, requirements, make)| {
            case::<K, _, _>(
                rest,
                title,
                requirements,
                move |kit: Arc<K>, record: Recorder| async move {
                    let identity = kit.enroller(&record).await?;
                    let mut coaps = session(&*kit, &record, &identity).await?;
                    let body = make(&csr_of(&identity)?);
                    let answer = coaps.ask(&post(&*kit, "sen", &body)).await?;
                    is_one_of(&answer, &[Code::BAD_REQUEST, Code::FORBIDDEN], "it")
                },
            )
            .tags(&["est", "hostile"])
        })
        .collect();
    cases.extend([
        case::<K, _, _>("rfc9148-4.2/crts", "crts is 2.05 and a bag of certificates in DER", &["ESC-020", "ESC-011", "ESC-012", "ESC-018", "ESC-019", "ESC-022", "ESC-031", "ESC-053", "CBR-033", "CBR-052"], crts).tags(&["est"]),
        case::<K, _, _>("rfc9148-4.3/crts-281", "crts is 281 for who asks for it", &["ESC-020", "ESC-031"], |kit: Arc<K>, record: Recorder| async move {
            let answer = open(&*kit, &record).await?.ask(&readable(&*kit).accept(format::CERTS_ONLY)).await?;
            has(&answer, Code::CONTENT, format::CERTS_ONLY)?;
            certificates(&answer.payload).map(|_| ())
        }).tags(&["est"]),
        case::<K, _, _>("cbrski-6.8/crts-287", "crts in 287 is the one CA that issues for the client", &["CBR-087", "ESC-021"], crts_287).tags(&["est"]).needs(&["single-certificates"]),
        case::<K, _, _>("cbrski-6.7.5/crts-62", "crts in multipart-core is certificates with their format, the issuer first, at most three", &["CBR-077", "CBR-078", "CBR-079", "CBR-080", "ESC-064"], crts_62).tags(&["est"]).needs(&["multipart-crts"]),
        case::<K, _, _>("rfc9148-4.3/not-acceptable", "a format that an operation does not have gets 4.06", &["ESC-023", "ESC-033", "CBR-055"], not_acceptable).tags(&["est", "hostile"]),
        case::<K, _, _>("rfc9148-4.2/sen", "sen is 2.04 and exactly the certificate that was asked for, in a bag", &["ESC-031", "ESC-018", "ESC-020", "ESC-022", "CBR-065", "CBR-033"], |kit, record| sen(kit, record, None)).tags(&["est"]),
        case::<K, _, _>("cbrski-6.8/sen-287", "sen in 287 is the certificate alone", &["CBR-086", "ESC-021"], |kit, record| sen(kit, record, Some(format::CERTIFICATE))).tags(&["est"]).needs(&["single-certificates"]),
        case::<K, _, _>("rfc9148-4.1/path", "a path leads from an issued certificate to the CA certificates", &["ESC-020"], path).tags(&["est"]),
        case::<K, _, _>("rfc9148-4.3/content-format", "a request in another Content-Format than 286 gets 4.15", &["ESC-024", "ESC-033"], content_format).tags(&["est", "hostile"]),
        case::<K, _, _>("rfc9148-4.7/same-again", "the same request three times gets one certificate", &["ESC-042"], same_again).tags(&["est", "hostile"]),
        case::<K, _, _>("rfc9148-4.1/unknown-label", "a label that nobody knows gets 4.04", &["ESC-016"], |kit: Arc<K>, record: Recorder| async move {
            let answer = open(&*kit, &record).await?.ask(&Ask::get("/.well-known/est/no-such-label/crts")).await?;
            is(&answer, Code::NOT_FOUND, "it")
        }).tags(&["est", "hostile"]),
        case::<K, _, _>("rfc9148-4.2/fullcmc", "fullcmc is not there", &["ESC-018"], |kit: Arc<K>, record: Recorder| async move {
            let mut coaps = open(&*kit, &record).await?;
            for name in ["fullcmc", "fcmc", "simpleenroll"] {
                let answer = coaps.ask(&post(&*kit, name, b"x")).await?;
                is(&answer, Code::NOT_FOUND, name)?;
            }
            Ok(())
        }).tags(&["est"]),
        case::<K, _, _>("rfc9148-4.3/att", "att is 2.05 and 285 in DER, or says that there are none", &["ESC-025", "ESC-031", "ESC-032"], att).tags(&["est"]).needs(&["att"]),
        case::<K, _, _>("rfc9148-4/anonymous-enrolment", "sen, sren, skg, skc and att are for nobody without a certificate", &["ESC-010", "CBR-019"], anonymous).tags(&["est", "hostile"]),
        case::<K, _, _>("rfc9148-4/stranger-enrolment", "sen is for nobody whose certificate a stranger issued", &["ESC-050", "ESC-010", "DTL-035"], |kit: Arc<K>, record: Recorder| async move {
            let stranger = kit.made_by(&kit.base().strangers, &record)?;
            let body = csr_of(&stranger)?.encode();
            let client = kit.base().client.with_identity(&stranger);
            super::shut_out(attempt(&client, &record, &post(&*kit, "sen", &body)).await, "a stranger")
        }).tags(&["est", "hostile"]),
        case::<K, _, _>("rfc7030-3.7/foreign-subject", "nobody gets a certificate in the name of somebody else", &["ESC-050"], foreign_subject).tags(&["est", "hostile"]),
        case::<K, _, _>("rfc9148-3/channel-binding", "a challengePassword that is not of this session is refused", &["ESC-007"], channel_binding).tags(&["est", "hostile"]).needs(&["channel-binding"]),
        case::<K, _, _>("rfc9148-3/right-channel-binding", "a challengePassword that is of this session is accepted", &["ESC-006"], right_channel_binding).tags(&["est"]).needs(&["channel-binding", "exporter-binding"]),
        case::<K, _, _>("rfc7030-4.2.2/sren", "sren renews a certificate, with its own key and with another", &["CBR-076", "ESC-018", "ESC-031"], sren).tags(&["est"]),
        case::<K, _, _>("rfc7030-4.2.2/other-subject", "sren for another subject is refused", &["ESC-065"], sren_other).tags(&["est", "hostile"]),
        case::<K, _, _>("rfc7030-4.2.2/anonymous-renewal", "sren of somebody whose certificate a stranger issued is refused", &["CBR-076"], |kit: Arc<K>, record: Recorder| async move {
            let stranger = kit.made_by(&kit.base().strangers, &record)?;
            let body = csr_of(&stranger)?.encode();
            let client = kit.base().client.with_identity(&stranger);
            super::shut_out(attempt(&client, &record, &post(&*kit, "sren", &body)).await, "it")
        }).tags(&["est", "hostile"]),
        case::<K, _, _>("rfc9148-4.8/skg", "skg is multipart-core with a key in PKCS#8 and its certificate in a bag", &["ESC-026", "ESC-044", "ESC-064", "ESC-053"], |kit, record| keygen(kit, record, "skg", format::CERTS_ONLY)).tags(&["est"]).needs(&["serverkeygen"]),
        case::<K, _, _>("rfc9148-4.8/skc", "skc is multipart-core with a key in PKCS#8 and its certificate alone", &["ESC-027", "ESC-044", "ESC-064", "ESC-053"], |kit, record| keygen(kit, record, "skc", format::CERTIFICATE)).tags(&["est"]).needs(&["serverkeygen"]),
        case::<K, _, _>("rfc9148-4.8/skg-signature", "for skg the signature of the request does not count", &["ESC-043"], |kit: Arc<K>, record: Recorder| async move {
            let identity = kit.enroller(&record).await?;
            let csr = csr_of(&identity)?.with(|csr| csr.signer = Key::generate().ok());
            let mut coaps = session(&*kit, &record, &identity).await?;
            let answer = coaps.ask(&post(&*kit, "skg", &csr.encode())).await?;
            has(&answer, Code::CHANGED, format::MULTIPART)
        }).tags(&["est"]).needs(&["serverkeygen"]),
        case::<K, _, _>("rfc9148-4.8/decrypt-key", "who wants the key encrypted gets no key in the clear", &["ESC-046"], decrypt_key).tags(&["est", "hostile"]).needs(&["serverkeygen"]),
    ]);
    cases
}

/// A session as somebody.
async fn session<K: Served>(
    kit: &K,
    record: &Recorder,
    identity: &Identity,
) -> Result<Coaps, Finding> {
    Ok(Coaps::open(&kit.base().client.with_identity(identity), record).await?)
}

fn post<K: Served>(kit: &K, operation: &str, body: &[u8]) -> Ask {
    Ask::post(
        &format!("{}/{operation}", kit.base().est),
        format::PKCS10,
        body,
    )
}

fn has(answer: &Answer, code: Code, format: u16) -> Told {
    must(
        answer.code == code,
        format!("it was answered {}; {code} is right", answer.said()),
    )?;
    must(
        answer.format() == Some(u64::from(format)),
        format!("Content-Format is {:?} and not {format}", answer.format()),
    )
}

async fn crts<K: Served>(kit: Arc<K>, record: Recorder) -> Told {
    let answer = open(&*kit, &record).await?.ask(&readable(&*kit)).await?;
    has(&answer, Code::CONTENT, format::CERTS_ONLY)?;
    let bag = certificates(&answer.payload)?;
    must(!bag.is_empty(), "there is no certificate")?;
    must(
        bag.iter().any(|one| {
            one.subject_der() == one.issuer_der()
                && one.verify_signature_by(one.public_key()).is_ok()
        }),
        "no certificate is self-signed",
    )
}

/// Enrols somebody: who, the new certificate and its key.
async fn enrolled<K: Served>(
    kit: &K,
    record: &Recorder,
) -> Result<(Identity, pki::Certificate, Key), Finding> {
    let identity = kit.enroller(record).await?;
    let csr = csr_of(&identity)?;
    let mut coaps = session(kit, record, &identity).await?;
    let answer = coaps.ask(&post(kit, "sen", &csr.encode())).await?;
    has(&answer, Code::CHANGED, format::CERTS_ONLY)?;
    let certificate = only(&answer, &csr)?;
    Ok((identity, certificate, csr.key))
}

/// The one certificate of a bag, which is for the key of the request.
fn only(answer: &Answer, csr: &Csr) -> Result<pki::Certificate, Finding> {
    let bag = certificates(&answer.payload)?;
    let [certificate] = bag.as_slice() else {
        return Err(Finding::fail(format!(
            "the answer holds {} certificates and not one",
            bag.len()
        )));
    };
    must(
        certificate.public_key().spki_der() == csr.key.spki(),
        "the certificate is for another key than the request",
    )?;
    Ok(certificate.clone())
}

async fn crts_287<K: Served>(kit: Arc<K>, record: Recorder) -> Told {
    let (_, issued, _) = enrolled(&*kit, &record).await?;
    let answer = open(&*kit, &record)
        .await?
        .ask(&readable(&*kit).accept(format::CERTIFICATE))
        .await?;
    has(&answer, Code::CONTENT, format::CERTIFICATE)?;
    let ca = certificate(&answer.payload)?;
    must(
        issued.verify_signature_by(ca.public_key()).is_ok(),
        format!("{} did not issue {}", ca.subject(), issued.subject()),
    )
}

/// The parts of multipart-core: numbers and what they are of.
fn parts(octets: &[u8]) -> Result<Vec<(u16, Vec<u8>)>, Finding> {
    let broken = |why: &str| Finding::fail(format!("it is no multipart-core: {why}"));
    let value = oracle::cbor(octets).map_err(|why| broken(&why))?;
    let items = value.as_array().ok_or_else(|| broken("no array"))?;
    must(items.len().is_multiple_of(2), "an odd number of items")?;
    let mut parts = Vec::new();
    for pair in items.chunks(2) {
        let [number, Value::Bytes(octets)] = pair else {
            return Err(broken("a representation is no byte string"));
        };
        let number = number
            .as_integer()
            .and_then(|number| u16::try_from(i128::from(number)).ok())
            .ok_or_else(|| broken("a content-format is no number"))?;
        parts.push((number, octets.clone()));
    }
    Ok(parts)
}

async fn crts_62<K: Served>(kit: Arc<K>, record: Recorder) -> Told {
    let (_, issued, _) = enrolled(&*kit, &record).await?;
    let answer = open(&*kit, &record)
        .await?
        .ask(&readable(&*kit).accept(format::MULTIPART))
        .await?;
    has(&answer, Code::CONTENT, format::MULTIPART)?;
    let parts = parts(&answer.payload)?;
    must(
        (1..=3).contains(&parts.len()),
        format!("there are {} certificates", parts.len()),
    )?;
    let mut below = issued;
    for (number, octets) in &parts {
        must(
            *number == format::CERTIFICATE,
            format!("a part has content-format {number}"),
        )?;
        let ca = certificate(octets)?;
        must(
            below.verify_signature_by(ca.public_key()).is_ok(),
            format!(
                "{} comes after {}, which it did not issue",
                ca.subject(),
                below.subject()
            ),
        )?;
        if ca.subject_der() == ca.issuer_der() {
            break;
        }
        below = ca;
    }
    Ok(())
}

async fn not_acceptable<K: Served>(kit: Arc<K>, record: Recorder) -> Told {
    let identity = kit.enroller(&record).await?;
    let mut coaps = session(&*kit, &record, &identity).await?;
    let body = csr_of(&identity)?.encode();
    for ask in [
        readable(&*kit).accept(0),
        readable(&*kit).accept(format::PKCS8),
        post(&*kit, "sen", &body).accept(0),
        post(&*kit, "sen", &body).accept(format::MULTIPART),
    ] {
        let answer = coaps.ask(&ask).await?;
        is(&answer, Code::NOT_ACCEPTABLE, "it")?;
    }
    Ok(())
}

async fn sen<K: Served>(kit: Arc<K>, record: Recorder, accept: Option<u16>) -> Told {
    let identity = kit.enroller(&record).await?;
    let csr = csr_of(&identity)?;
    let mut coaps = session(&*kit, &record, &identity).await?;
    let mut ask = post(&*kit, "sen", &csr.encode());
    if let Some(accept) = accept {
        ask = ask.accept(accept);
    }
    let answer = coaps.ask(&ask).await?;
    match accept {
        Some(format::CERTIFICATE) => {
            has(&answer, Code::CHANGED, format::CERTIFICATE)?;
            let one = certificate(&answer.payload)?;
            must(
                one.public_key().spki_der() == csr.key.spki(),
                "the certificate is for another key than the request",
            )
        }
        _ => {
            has(&answer, Code::CHANGED, format::CERTS_ONLY)?;
            only(&answer, &csr).map(|_| ())
        }
    }
}

async fn path<K: Served>(kit: Arc<K>, record: Recorder) -> Told {
    let (_, issued, _) = enrolled(&*kit, &record).await?;
    let answer = open(&*kit, &record).await?.ask(&readable(&*kit)).await?;
    let bag = certificates(&answer.payload)?;
    let roots: Vec<_> = bag
        .iter()
        .filter(|one| one.subject_der() == one.issuer_der())
        .cloned()
        .collect();
    crate::inspect::trusted(
        &issued,
        &bag,
        &roots,
        pki::path::Purpose::Any,
        kit.base().at,
    )
}

async fn content_format<K: Served>(kit: Arc<K>, record: Recorder) -> Told {
    let identity = kit.enroller(&record).await?;
    let mut coaps = session(&*kit, &record, &identity).await?;
    let body = csr_of(&identity)?.encode();
    for (operation, number) in [("sen", 0), ("sen", 281), ("sen", 60)] {
        let ask = post(&*kit, operation, &body)
            .without(option::CONTENT_FORMAT)
            .option(option::CONTENT_FORMAT, uint(number));
        let answer = coaps.ask(&ask).await?;
        is(
            &answer,
            Code::UNSUPPORTED_FORMAT,
            &format!("{operation} in Content-Format {number}"),
        )?;
    }
    Ok(())
}

async fn same_again<K: Served>(kit: Arc<K>, record: Recorder) -> Told {
    let identity = kit.enroller(&record).await?;
    let csr = csr_of(&identity)?;
    // ECDSA here is that of RFC 6979, so it is the same request each time.
    let body = csr.encode();
    let mut found: Vec<pki::Certificate> = Vec::new();
    for _ in 0..3 {
        let mut coaps = session(&*kit, &record, &identity).await?;
        let answer = coaps.ask(&post(&*kit, "sen", &body)).await?;
        has(&answer, Code::CHANGED, format::CERTS_ONLY)?;
        let one = only(&answer, &csr)?;
        if found.iter().all(|other| other.der() != one.der()) {
            found.push(one);
        }
    }
    must(
        found.len() == 1,
        format!("{} certificates were issued for one request", found.len()),
    )
}

async fn att<K: Served>(kit: Arc<K>, record: Recorder) -> Told {
    let ask = Ask::get(&format!("{}/att", kit.base().est));
    let answer = open(&*kit, &record).await?.ask(&ask).await?;
    if answer.code == Code::NOT_FOUND {
        return Ok(());
    }
    has(&answer, Code::CONTENT, format::CSR_ATTRIBUTES)?;
    must(
        answer.payload.first() == Some(&0x30) && crate::decode::der(&answer.payload).is_some(),
        "the body is no DER sequence",
    )
}

async fn anonymous<K: Served>(kit: Arc<K>, record: Recorder) -> Told {
    let identity = kit.enroller(&record).await?;
    let body = csr_of(&identity)?.encode();
    let nobody = &kit.base().client;
    for operation in ["sen", "sren", "skg", "skc"] {
        let told = attempt(nobody, &record, &post(&*kit, operation, &body)).await;
        if let Ok(answer) = &told
            && answer.code == Code::NOT_FOUND
        {
            // Not there for anybody.
            continue;
        }
        super::shut_out(told, operation)?;
    }
    let att = Ask::get(&format!("{}/att", kit.base().est));
    match attempt(nobody, &record, &att).await {
        Ok(answer) if answer.code == Code::NOT_FOUND => Ok(()),
        told => super::shut_out(told, "att"),
    }
}

async fn foreign_subject<K: Served>(kit: Arc<K>, record: Recorder) -> Told {
    let identity = kit.enroller(&record).await?;
    let other = format!("somebody-else-{:08x}", record.seed);
    let key = Key::generate().or_could_not_test("a key")?;
    let csr = Csr::new(&name("Conformance Clients", &other, Some(&other)), &key);
    let mut coaps = session(&*kit, &record, &identity).await?;
    let answer = coaps.ask(&post(&*kit, "sen", &csr.encode())).await?;
    if answer.code.is_refusal() {
        return Ok(());
    }
    let issued = only(&answer, &csr)?;
    must(
        !issued.subject().contains(&other),
        format!("a certificate for {} was issued", issued.subject()),
    )
}

async fn channel_binding<K: Served>(kit: Arc<K>, record: Recorder) -> Told {
    let identity = kit.enroller(&record).await?;
    let csr = csr_of(&identity)?.challenge_password("bm90IG9mIHRoaXMgc2Vzc2lvbg==");
    let mut coaps = session(&*kit, &record, &identity).await?;
    let answer = coaps.ask(&post(&*kit, "sen", &csr.encode())).await?;
    is_one_of(
        &answer,
        &[Code::BAD_REQUEST, Code::FORBIDDEN, Code::UNAUTHORIZED],
        "it",
    )
}

async fn right_channel_binding<K: Served>(kit: Arc<K>, record: Recorder) -> Told {
    use base64::{Engine as _, engine::general_purpose::STANDARD};
    let identity = kit.enroller(&record).await?;
    let mut coaps = session(&*kit, &record, &identity).await?;
    let binding = STANDARD.encode(&coaps.session.exporter);
    let csr = csr_of(&identity)?.challenge_password(&binding);
    let answer = coaps.ask(&post(&*kit, "sen", &csr.encode())).await?;
    has(&answer, Code::CHANGED, format::CERTS_ONLY)
}

/// Somebody with the certificate that it got here.
async fn member<K: Served>(kit: &K, record: &Recorder) -> Result<Identity, Finding> {
    let (_, issued, key) = enrolled(kit, record).await?;
    Ok(Identity {
        signatory: cms::Signatory {
            certificate: issued.der().to_vec(),
            key,
        },
        above: Vec::new(),
    })
}

async fn sren<K: Served>(kit: Arc<K>, record: Recorder) -> Told {
    let member = member(&*kit, &record).await?;
    let mut coaps = session(&*kit, &record, &member).await?;
    let another = csr_of(&member)?;
    let same = another.clone().with(|csr| csr.key = member.key().clone());
    for csr in [same, another] {
        let answer = coaps.ask(&post(&*kit, "sren", &csr.encode())).await?;
        has(&answer, Code::CHANGED, format::CERTS_ONLY)?;
        let renewed = only(&answer, &csr)?;
        let before =
            pki::Certificate::from_der(member.certificate()).or_could_not_test("a certificate")?;
        must(
            renewed.subject_der() == before.subject_der(),
            format!(
                "it is for {} and was for {}",
                renewed.subject(),
                before.subject()
            ),
        )?;
        must(renewed.der() != before.der(), "it is the old certificate")?;
    }
    Ok(())
}

async fn sren_other<K: Served>(kit: Arc<K>, record: Recorder) -> Told {
    let member = member(&*kit, &record).await?;
    let mut coaps = session(&*kit, &record, &member).await?;
    let csr = csr_of(&member)?.with(|csr| csr.subject = name("", "somebody else", None));
    let answer = coaps.ask(&post(&*kit, "sren", &csr.encode())).await?;
    refused(&answer, "a renewal for somebody else")
}

async fn keygen<K: Served>(
    kit: Arc<K>,
    record: Recorder,
    operation: &'static str,
    certificate_format: u16,
) -> Told {
    let identity = kit.enroller(&record).await?;
    let csr = csr_of(&identity)?;
    let mut coaps = session(&*kit, &record, &identity).await?;
    let answer = coaps.ask(&post(&*kit, operation, &csr.encode())).await?;
    has(&answer, Code::CHANGED, format::MULTIPART)?;
    let parts = parts(&answer.payload)?;
    let part = |wanted: u16| {
        parts
            .iter()
            .find(|(number, _)| *number == wanted)
            .map(|(_, octets)| octets.as_slice())
            .ok_or_else(|| Finding::fail(format!("there is no part with content-format {wanted}")))
    };
    must(parts.len() == 2, format!("there are {} parts", parts.len()))?;
    let key = openssl::pkey::PKey::private_key_from_pkcs8(part(format::PKCS8)?)
        .map_err(|error| Finding::fail(format!("the key is no PKCS#8: {error}")))?;
    let spki = key.public_key_to_der().or_could_not_test("a public key")?;
    must(
        spki != csr.key.spki(),
        "the key is that of the request and was not made by the server",
    )?;
    let octets = part(certificate_format)?;
    let issued = if certificate_format == format::CERTIFICATE {
        certificate(octets)?
    } else {
        certificates(octets)?
            .into_iter()
            .next()
            .ok_or_else(|| Finding::fail("there is no certificate"))?
    };
    must(
        issued.public_key().spki_der() == spki.as_slice(),
        "the certificate is not for the key",
    )
}

async fn decrypt_key<K: Served>(kit: Arc<K>, record: Recorder) -> Told {
    // id-aa-decryptKeyID and id-aa-asymmDecryptKeyID (RFC 7030 section 4.4.1).
    for attribute in ["1.2.840.113549.1.9.16.2.37", "1.2.840.113549.1.9.16.2.54"] {
        let identity = kit.enroller(&record).await?;
        let csr = csr_of(&identity)?.with(|csr| {
            csr.attributes.push(cms::attribute(
                attribute,
                &[der::octets(b"a key that nobody has")],
            ));
        });
        let mut coaps = session(&*kit, &record, &identity).await?;
        let answer = coaps.ask(&post(&*kit, "skg", &csr.encode())).await?;
        if answer.code.is_success() {
            let clear = parts(&answer.payload)?
                .iter()
                .any(|(number, _)| *number == format::PKCS8);
            must(!clear, "the key came in the clear")?;
        }
    }
    Ok(())
}
