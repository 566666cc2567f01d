//! Enrolment, renewal, and requests that have to be refused.

use std::sync::Arc;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use pki::path::Purpose;
use time::Duration;

use super::{Est, certificates, refused};
use crate::{
    case::Case,
    evidence::Recorder,
    forge::{
        cms::Signatory,
        der,
        key::{Hash, Key},
        x509::{CLIENT_AUTH, Identity, Request as Csr, name},
    },
    http::{HttpError, Request},
    outcome::{Finding, OrCouldNotTest as _, Told, must},
};

type Make = fn(&Est, &Csr) -> Vec<u8>;

/// Bodies that are no request, or none that may be granted.
const BAD: &[(&str, &str, &[&str], Make)] = &[
    (
        "rfc7030-4.2.1/signature",
        "a request with a wrong signature is refused",
        &["EST-4.2.1-02"],
        |_, csr| {
            let mut octets = csr.encode();
            if let Some(last) = octets.last_mut() {
                *last ^= 1;
            }
            armour(&octets)
        },
    ),
    (
        "rfc7030-4.2.1/subject-changed",
        "a request that was changed after it was signed is refused",
        &["EST-4.2.1-02"],
        |_, csr| {
            let mut octets = csr.encode();
            if let Some(at) = octets.windows(4).position(|part| part == b"conf")
                && let Some(octet) = octets.get_mut(at)
            {
                *octet = b'C';
            }
            armour(&octets)
        },
    ),
    (
        "rfc7030-4.2.1/signed-by-another",
        "a request that another key signed is refused",
        &["EST-4.2.1-02"],
        |kit, csr| {
            let other = kit.unknown_ca.signatory.key.clone();
            armour(&csr.clone().with(|csr| csr.signer = Some(other)).encode())
        },
    ),
    (
        "rfc7030-4.2.1/sha1",
        "a request signed over SHA-1 is refused",
        &["EST-4.2.1-02"],
        |_, csr| armour(&csr.clone().with(|csr| csr.hash = Some(Hash::Sha1)).encode()),
    ),
    (
        "rfc7030-4.2.3/empty",
        "an empty body is refused",
        &["EST-4.2.3-04"],
        |_, _| Vec::new(),
    ),
    (
        "rfc7030-4.2.3/text",
        "text is refused",
        &["EST-4.2.3-04"],
        |_, _| b"please give me a certificate".to_vec(),
    ),
    (
        "rfc7030-4.2.3/binary",
        "DER that is not base64 is refused, or read",
        &["EST8951-3-01"],
        |_, _| vec![0xff; 300],
    ),
    (
        "rfc7030-4.2.3/base64-garbage",
        "base64 of garbage is refused",
        &["EST-4.2.3-04"],
        |_, _| armour(b"garbage"),
    ),
    (
        "rfc7030-4.2.3/certificate",
        "a certificate in place of a request is refused",
        &["EST-4.2.3-04"],
        |kit, _| armour(kit.identity.certificate()),
    ),
    (
        "rfc7030-4.2.3/truncated",
        "a request without its last octet is refused",
        &["EST-4.2.3-04"],
        |_, csr| {
            let mut octets = csr.encode();
            octets.pop();
            armour(&octets)
        },
    ),
    (
        "rfc7030-4.2.3/trailing",
        "a request with an octet after it is refused",
        &["EST-4.2.3-04"],
        |_, csr| {
            let mut octets = csr.encode();
            octets.push(0);
            armour(&octets)
        },
    ),
    (
        "rfc7030-4.2.3/deep",
        "DER nested ten thousand deep is refused",
        &["EST-4.2.3-04"],
        |_, _| armour(&[0x30, 0x80].repeat(10_000)),
    ),
    (
        "rfc7030-4.2.3/huge-length",
        "DER that says that it has four thousand million octets is refused",
        &["EST-4.2.3-04"],
        |_, _| armour(&[0x30, 0x84, 0xff, 0xff, 0xff, 0xff, 0x00]),
    ),
    (
        "rfc7030-4.2.3/weak-key",
        "a request for an RSA key of 512 bits is refused",
        &["EST-4.2.1-02", "EST-4.2.3-04"],
        |_, _| armour(&weak()),
    ),
];

fn armour(octets: &[u8]) -> Vec<u8> {
    STANDARD.encode(octets).into_bytes()
}

fn weak() -> Vec<u8> {
    let key = openssl::rsa::Rsa::generate(512)
        .and_then(openssl::pkey::PKey::from_rsa)
        .ok()
        .and_then(|key| Key::from_pkey(key).ok());
    key.map(|key| {
        Csr::new(
            &name("Conformance Clients", "conformance-client", None),
            &key,
        )
        .encode()
    })
    .unwrap_or_default()
}

pub(super) fn cases() -> Vec<Case> {
    let mut cases: Vec<Case> = BAD
        .iter()
        .map(|(id, title, requirements, make)| {
            Case::new(
                format!("est-server/{id}"),
                *title,
                requirements,
                move |kit: Arc<Est>, record: Recorder| async move {
                    let csr = kit.csr()?;
                    let mut request = kit.post("simpleenroll", b"");
                    request.body = Some(make(&kit, &csr));
                    let answer = kit.client.send(&record, request).await?;
                    refused(&answer, "it")
                },
            )
            .tags(&["hostile"])
            // RFC 7030 leaves the choice of algorithms and sizes to the CA.
            .prudence(id.ends_with("/sha1") || id.ends_with("/weak-key"))
        })
        .collect();
    cases.extend([
        Case::new(
            "est-server/rfc7030-4.2.3/enrol",
            "a right request gets exactly its certificate",
            &[
                "EST-4.2.3-01",
                "EST-4.2.3-02",
                "EST-3.2.2-02",
                "EST8951-3-01",
            ],
            enrol,
        ),
        Case::new(
            "est-server/rfc7030-3.3.2/certificate",
            "a client with a certificate enrols without HTTP authentication",
            &["EST-3.3.2-01", "EST-3.2.3-01"],
            enrol,
        )
        .needs(&["certificate"]),
        Case::new(
            "est-server/rfc7030-4.1.3/path",
            "a path leads from an issued certificate to the CA certificates",
            &["EST-4.1.3-04"],
            path,
        ),
        Case::new(
            "est-server/rfc8951-3.1/white-space",
            "white space within base64 is tolerated",
            &["EST8951-3.1-01"],
            white_space,
        ),
        Case::new(
            "est-server/rfc8951-3.1/single-line",
            "base64 in one line is accepted",
            &["EST8951-3.1-02", "EST8951-3-01"],
            enrol,
        ),
        Case::new(
            "est-server/rfc8951-3/transfer-encoding",
            "Content-Transfer-Encoding changes nothing",
            &["EST8951-3-02"],
            transfer_encoding,
        ),
        Case::new(
            "est-server/rfc7030-4.2/anonymous",
            "somebody unknown gets 401 or 403",
            &["EST-4.2-02", "BRSKI-7.3-02"],
            anonymous,
        )
        .tags(&["hostile"]),
        Case::new(
            "est-server/rfc7030-3.3.2/unknown-ca",
            "a client whose certificate a stranger issued is refused",
            &["EST-3.3.2-02"],
            unknown_ca,
        )
        .tags(&["hostile"])
        .needs(&["certificate"]),
        Case::new(
            "est-server/rfc7030-3.3.2/expired",
            "a client whose certificate has expired is refused",
            &["EST-3.3.2-02"],
            expired,
        )
        .tags(&["hostile"])
        .needs(&["certificate"]),
        Case::new(
            "est-server/rfc7030-3.3.2/not-yet",
            "a client whose certificate is not valid yet is refused",
            &["EST-3.3.2-02"],
            not_yet,
        )
        .tags(&["hostile"])
        .needs(&["certificate"]),
        Case::new(
            "est-server/rfc7030-3.3.2/forged-name",
            "a client whose certificate has the CA's name and another signature is refused",
            &["EST-3.3.2-02"],
            forged,
        )
        .tags(&["hostile"])
        .needs(&["certificate"]),
        Case::new(
            "est-server/rfc7030-3.7/foreign-subject",
            "a client does not get a certificate for somebody else",
            &["EST-3.7-02"],
            foreign_subject,
        )
        .tags(&["hostile"]),
        Case::new(
            "est-server/rfc7030-3.7/foreign-host",
            "a client does not get a host name that it asks for",
            &["EST-3.7-02"],
            foreign_host,
        )
        .tags(&["hostile"]),
        Case::new(
            "est-server/rfc7030-3.5/channel-binding",
            "a challengePassword that is no channel binding is refused",
            &["EST-3.5-02"],
            channel_binding,
        )
        .tags(&["hostile"])
        .needs(&["channel-binding"]),
        Case::new(
            "est-server/rfc7030-4.2.2/renew",
            "the certificate renews with the same key",
            &["EST-4.2.2-03", "EST-3.2.2-02", "BRSKI-9.1.2-03"],
            |kit, record| renew(kit, record, true),
        ),
        Case::new(
            "est-server/rfc7030-4.2.2/rekey",
            "the certificate renews with another key",
            &["EST-4.2.2-03"],
            |kit, record| renew(kit, record, false),
        ),
        Case::new(
            "est-server/rfc7030-4.2.2/other-subject",
            "a renewal for another subject is refused",
            &["EST-4.2.2-02"],
            renew_other,
        )
        .tags(&["hostile"]),
        Case::new(
            "est-server/rfc7030-4.2.2/anonymous-renewal",
            "a renewal without a client certificate is refused",
            &["EST-4.2-02"],
            renew_anonymous,
        )
        .tags(&["hostile"]),
        Case::new(
            "est-server/rfc7030-4.2.3/media-type",
            "another media type than application/pkcs10 is refused",
            &["EST-4.2.3-04"],
            media_type,
        )
        .tags(&["hostile"]),
        Case::new(
            "est-server/rfc7030-4.2.3/get-refused",
            "GET of simpleenroll is refused",
            &["EST-4.2.3-04"],
            |kit: Arc<Est>, record: Recorder| async move {
                let answer = kit.client.send(&record, kit.get("simpleenroll")).await?;
                refused(&answer, "GET")
            },
        )
        .tags(&["hostile"]),
        Case::new(
            "est-server/rfc7030-4.2.3/repeat",
            "the same request again is answered alike",
            &["EST-4.2.3-07"],
            repeat,
        ),
        Case::new(
            "est-server/rfc7030-4.4/serverkeygen",
            "serverkeygen gives a key and its certificate in two parts",
            &["EST-4.4.2-01", "EST-4.4.2-02"],
            serverkeygen,
        )
        .needs(&["serverkeygen"]),
    ]);
    cases
}

async fn enrol(kit: Arc<Est>, record: Recorder) -> Told {
    let csr = kit.csr()?;
    let request = kit.post("simpleenroll", &csr.encode());
    let answer = kit.client.send(&record, request).await?;
    kit.certificate_of(&answer, &csr)?;
    let content_type = answer
        .header("content-type")
        .unwrap_or_default()
        .to_ascii_lowercase();
    must(
        content_type.starts_with("application/pkcs7-mime")
            && content_type
                .replace([' ', '"'], "")
                .contains("smime-type=certs-only"),
        format!("Content-Type is {content_type}"),
    )
}

async fn path(kit: Arc<Est>, record: Recorder) -> Told {
    let authorities = kit.ca_certificates(&record).await?;
    let certificate = kit.enrol(&record, &kit.csr()?).await?;
    let roots: Vec<_> = authorities
        .iter()
        .filter(|one| one.subject_der() == one.issuer_der())
        .cloned()
        .collect();
    crate::inspect::trusted(
        &certificate,
        &authorities,
        &roots,
        Purpose::Any,
        crate::clock::now(),
    )
}

async fn white_space(kit: Arc<Est>, record: Recorder) -> Told {
    let lines = |text: &str, width: usize, end: &str| -> String {
        text.as_bytes()
            .chunks(width)
            .map(|line| format!("{}{end}", String::from_utf8_lossy(line)))
            .collect()
    };
    for (width, end) in [(64, "\r\n"), (76, "\n"), (64, " \t\r\n")] {
        let csr = kit.csr()?;
        let mut request = kit.post("simpleenroll", b"");
        request.body = Some(lines(&STANDARD.encode(csr.encode()), width, end).into_bytes());
        let answer = kit.client.send(&record, request).await?;
        must(
            answer.status == 200,
            format!(
                "lines of {width} ending in {end:?} were answered {}",
                answer.status
            ),
        )?;
    }
    Ok(())
}

async fn transfer_encoding(kit: Arc<Est>, record: Recorder) -> Told {
    for value in ["base64", "binary", "7bit", "x-unknown"] {
        let csr = kit.csr()?;
        let request = kit
            .post("simpleenroll", &csr.encode())
            .header("Content-Transfer-Encoding", value);
        let answer = kit.client.send(&record, request).await?;
        must(
            answer.status == 200,
            format!("{value} was answered {}", answer.status),
        )?;
    }
    Ok(())
}

async fn anonymous(kit: Arc<Est>, record: Recorder) -> Told {
    let csr = kit.csr()?;
    let request = kit.post_octets("simpleenroll", armour(&csr.encode()));
    match kit.anonymous.send(&record, request).await {
        Ok(answer) => must(
            matches!(answer.status, 401 | 403),
            format!("it was answered {}", answer.status),
        ),
        // TLS may refuse it already.
        Err(HttpError::Tls(_) | HttpError::Closed(_)) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

/// Enrolment as somebody who may not.
async fn as_somebody(kit: &Est, record: &Recorder, identity: &Identity) -> Told {
    let csr = kit.csr()?;
    let request = kit.post_octets("simpleenroll", armour(&csr.encode()));
    match kit
        .anonymous
        .with_identity(identity)
        .send(record, request)
        .await
    {
        Ok(answer) => refused(&answer, "it"),
        Err(HttpError::Tls(_) | HttpError::Closed(_)) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

fn subject() -> Vec<u8> {
    name("Conformance Clients", "conformance-client", None)
}

async fn unknown_ca(kit: Arc<Est>, record: Recorder) -> Told {
    let stranger = kit
        .unknown_ca
        .issue(&subject(), kit.identity.key(), kit.at, |it| {
            it.purposes(&[CLIENT_AUTH])
        });
    as_somebody(&kit, &record, &stranger).await
}

async fn expired(kit: Arc<Est>, record: Recorder) -> Told {
    let at = kit.at;
    let expired = kit.ca.issue(&subject(), kit.identity.key(), at, |it| {
        it.purposes(&[CLIENT_AUTH]).with(|it| {
            it.not_before = at - Duration::days(3);
            it.not_after = at - Duration::days(2);
        })
    });
    as_somebody(&kit, &record, &expired).await
}

async fn not_yet(kit: Arc<Est>, record: Recorder) -> Told {
    let at = kit.at;
    let early = kit.ca.issue(&subject(), kit.identity.key(), at, |it| {
        it.purposes(&[CLIENT_AUTH])
            .with(|it| it.not_before = at + Duration::days(2))
    });
    as_somebody(&kit, &record, &early).await
}

async fn forged(kit: Arc<Est>, record: Recorder) -> Told {
    let mut forger = kit.ca.clone();
    forger.signatory.key = Key::generate().or_could_not_test("a key")?;
    let forged = forger.issue(&subject(), kit.identity.key(), kit.at, |it| {
        it.purposes(&[CLIENT_AUTH])
            .without("2.5.29.35")
            .issued_by(&kit.ca.key_id())
    });
    as_somebody(&kit, &record, &forged).await
}

async fn foreign_subject(kit: Arc<Est>, record: Recorder) -> Told {
    let csr = kit
        .csr()?
        .with(|csr| csr.subject = name("Conformance Clients", "administrator", None));
    let request = kit.post("simpleenroll", &csr.encode());
    let answer = kit.client.send(&record, request).await?;
    if answer.is_refusal() {
        return Ok(());
    }
    let certificate = kit.certificate_of(&answer, &csr)?;
    must(
        !certificate.subject().contains("administrator"),
        format!("the certificate is for {}", certificate.subject()),
    )
}

async fn foreign_host(kit: Arc<Est>, record: Recorder) -> Told {
    let csr = kit.csr()?.hosts(&["bank.example.com"]);
    let request = kit.post("simpleenroll", &csr.encode());
    let answer = kit.client.send(&record, request).await?;
    if answer.is_refusal() {
        return Ok(());
    }
    let certificate = kit.certificate_of(&answer, &csr)?;
    must(
        !certificate
            .dns_names()
            .iter()
            .any(|name| name == "bank.example.com"),
        "the certificate has the host name",
    )
}

async fn channel_binding(kit: Arc<Est>, record: Recorder) -> Told {
    let csr = kit
        .csr()?
        .challenge_password(&STANDARD.encode(b"no channel binding at all!!!!"));
    let request = kit.post("simpleenroll", &csr.encode());
    let answer = kit.client.send(&record, request).await?;
    refused(&answer, "it")
}

/// A certificate of the server's own, and the request that got it.
async fn enrolled(kit: &Est, record: &Recorder) -> Result<(Identity, Csr), Finding> {
    let csr = kit.csr()?;
    let certificate = kit.enrol(record, &csr).await?;
    let identity = Identity {
        signatory: Signatory {
            certificate: certificate.der().to_vec(),
            key: csr.key.clone(),
        },
        above: Vec::new(),
    };
    // A renewal has the names of the certificate, whatever the server made of the first request.
    let mut again = Csr::new(certificate.subject_der(), &csr.key);
    if let Some(names) = certificate.extension(pki::ObjectIdentifier::new_unwrap("2.5.29.17")) {
        let extension = der::seq(&[der::oid("2.5.29.17"), der::octets(names)]);
        again.attributes.push(crate::forge::cms::attribute(
            "1.2.840.113549.1.9.14",
            &[der::seq(&[extension])],
        ));
    }
    Ok((identity, again))
}

async fn renew(kit: Arc<Est>, record: Recorder, same_key: bool) -> Told {
    let (identity, mut csr) = enrolled(&kit, &record).await?;
    if !same_key {
        csr.key = Key::generate().or_could_not_test("a key")?;
    }
    let request = kit.post_octets("simplereenroll", armour(&csr.encode()));
    let answer = kit
        .anonymous
        .with_identity(&identity)
        .send(&record, request)
        .await?;
    let renewed = kit.certificate_of(&answer, &csr)?;
    let before = pki::Certificate::from_der(identity.certificate())
        .or_could_not_test("the first certificate")?;
    must(
        renewed.subject_der() == before.subject_der(),
        format!(
            "the subject was {} and is {}",
            before.subject(),
            renewed.subject()
        ),
    )
}

async fn renew_other(kit: Arc<Est>, record: Recorder) -> Told {
    let (identity, csr) = enrolled(&kit, &record).await?;
    let csr = csr.with(|csr| csr.subject = name("Conformance Clients", "administrator", None));
    let request = kit.post_octets("simplereenroll", armour(&csr.encode()));
    let answer = kit
        .anonymous
        .with_identity(&identity)
        .send(&record, request)
        .await?;
    refused(&answer, "it")
}

async fn renew_anonymous(kit: Arc<Est>, record: Recorder) -> Told {
    let (_, mut csr) = enrolled(&kit, &record).await?;
    for which in ["the same key", "another key"] {
        let request = kit.post_octets("simplereenroll", armour(&csr.encode()));
        match kit.anonymous.send(&record, request).await {
            Ok(answer) => refused(&answer, which)?,
            Err(HttpError::Tls(_) | HttpError::Closed(_)) => {}
            Err(error) => return Err(error.into()),
        }
        // Who steals a certificate has not its key; a name to renew is enough for a bad server.
        csr.key = Key::generate().or_could_not_test("a key")?;
    }
    Ok(())
}

async fn media_type(kit: Arc<Est>, record: Recorder) -> Told {
    let csr = kit.csr()?;
    let mut request = kit.post("simpleenroll", &csr.encode());
    for (name, value) in &mut request.headers {
        if name == "Content-Type" {
            *value = "application/json".into();
        }
    }
    let answer = kit.client.send(&record, request).await?;
    refused(&answer, "it")
}

async fn repeat(kit: Arc<Est>, record: Recorder) -> Told {
    let csr = kit.csr()?;
    let body = csr.encode();
    let first = kit
        .client
        .send(&record, kit.post("simpleenroll", &body))
        .await?;
    let second = kit
        .client
        .send(&record, kit.post("simpleenroll", &body))
        .await?;
    must(
        first.status == 200 && second.status == 200,
        format!("the answers were {} and {}", first.status, second.status),
    )?;
    certificates(&second).map(|_| ())
}

async fn serverkeygen(kit: Arc<Est>, record: Recorder) -> Told {
    let csr = kit.csr()?;
    let request: Request = kit.post("serverkeygen", &csr.encode());
    let answer = kit.client.send(&record, request).await?;
    must(
        answer.status == 200 && answer.media_type() == "multipart/mixed",
        format!("it was answered {} {}", answer.status, answer.media_type()),
    )?;
    let text = String::from_utf8_lossy(&answer.body).to_ascii_lowercase();
    must(
        text.matches("content-type:").count() == 2
            && text.contains("application/pkcs8")
            && text.contains("application/pkcs7-mime"),
        "there are not exactly a key and a certificate",
    )
}
