//! What is said before a session is there.

use std::sync::Arc;

use openssl::pkey::PKey;

use super::{Served, attempt, case, lives, open, readable, shut_out};
use crate::{
    case::Case,
    coaps::Coaps,
    dtls::*,
    evidence::Recorder,
    forge::{
        cms::Signatory,
        der,
        key::{Key, Kind},
        x509::{Certificate, FOREVER, Identity, name},
    },
    outcome::{Finding, OrCouldNotTest as _, Told, must},
};

/// illegal_parameter.
const ILLEGAL_PARAMETER: u8 = 47;

/// Suites that nobody may choose, with what is wrong with them.
const WEAK: &[(u16, &str)] = &[
    (0x0001, "RSA_WITH_NULL_MD5"),
    (0x0003, "RSA_EXPORT_WITH_RC4_40_MD5"),
    (0x0005, "RSA_WITH_RC4_128_SHA"),
    (0x0009, "RSA_WITH_DES_CBC_SHA"),
    (0x002f, "RSA_WITH_AES_128_CBC_SHA"),
    (0x009c, "RSA_WITH_AES_128_GCM_SHA256"),
    (0x0034, "DH_anon_WITH_AES_128_CBC_SHA"),
    (0xc004, "ECDH_ECDSA_WITH_AES_128_CBC_SHA"),
    (0xc006, "ECDHE_ECDSA_WITH_NULL_SHA"),
    (0xc007, "ECDHE_ECDSA_WITH_RC4_128_SHA"),
    (0xc018, "ECDH_anon_WITH_AES_128_CBC_SHA"),
    (0xc0a8, "PSK_WITH_AES_128_CCM_8"),
];

pub(super) fn cases<K: Served>() -> Vec<Case> {
    vec![
        case::<K, _, _>("rfc7251-2/ccm-8", "a device that has TLS_ECDHE_ECDSA_WITH_AES_128_CCM_8 and secp256r1 alone is served", &["ESC-001", "CBR-009"], served).tags(&["dtls"]),
        case::<K, _, _>("rfc8422-5.1/point-formats", "points are uncompressed, and uncompressed ones are understood", &["ESC-002"], point_formats).tags(&["dtls"]),
        case::<K, _, _>("rfc7627-5/extended-master-secret", "the extended master secret is agreed on", &["DTL-034", "ESC-058"], |kit: Arc<K>, record: Recorder| async move {
            let probe = kit.base().client.probe(&record).await?;
            must(probe.hello()?.extension(EXTENDED_MASTER_SECRET).is_some(), "the ServerHello has no extended_master_secret")
        }).tags(&["dtls"]),
        case::<K, _, _>("rfc6347-4.1/record-version", "a first record with version 254.255 is no reason to refuse", &["DTL-031"], |kit: Arc<K>, record: Recorder| async move {
            let client = insider(&*kit, &record)?.with_hello(|mut hello| { hello.record_version = DTLS_1_0; hello });
            lives(&*kit, &mut Coaps::open(&client, &record).await?).await
        }).tags(&["dtls"]),
        case::<K, _, _>("rfc9325-3.1/dtls-1.0", "DTLS 1.0 is not agreed on, and CCM_8 never below 1.2", &["DTL-031", "DTL-030"], dtls_1_0).tags(&["dtls", "hostile"]),
        case::<K, _, _>("rfc9325-4.1/weak-suites", "suites without encryption, without authentication, with RC4, DES or static keys are not chosen", &["DTL-033", "ESC-057"], weak_suites).tags(&["dtls", "hostile"]),
        case::<K, _, _>("rfc6347-4.2.1/cookie", "who has not shown that it is where it says gets a request for a cookie, and not more than three times what it sent", &["DTL-001", "DTL-004"], cookie).tags(&["dtls", "hostile"]),
        case::<K, _, _>("rfc6347-4.2.1/wrong-cookie", "a wrong cookie counts as none", &["DTL-003"], wrong_cookie).tags(&["dtls", "hostile"]),
        case::<K, _, _>("rfc9147-5.1/cookie-of-another", "a cookie counts for the address that got it", &["DTL-005"], cookie_of_another).tags(&["dtls", "hostile"]),
        case::<K, _, _>("rfc6347-4.2.3/fragments", "messages in small fragments are put together", &["DTL-015", "CBR-025"], |kit, record| fragments(kit, record, |tricks| tricks.fragment = Some(90))).tags(&["dtls"]),
        case::<K, _, _>("rfc6347-4.2.3/fragments-in-disorder", "fragments in reverse order are put together", &["DTL-015", "CBR-025"], |kit, record| fragments(kit, record, |tricks| { tricks.fragment = Some(120); tricks.shuffled = true; })).tags(&["dtls", "hostile"]),
        case::<K, _, _>("rfc6347-4.2.3/fragments-overlap", "fragments that overlap and come twice are put together", &["DTL-015", "CBR-025"], |kit, record| fragments(kit, record, |tricks| { tricks.fragment = Some(200); tricks.overlapping = true; })).tags(&["dtls", "hostile"]),
        case::<K, _, _>("rfc6347-4.2.3/fragments-of-other-length", "fragments that say different lengths of one message yield no session", &["DTL-015"], |kit: Arc<K>, record: Recorder| async move {
            no_session(&kit, &record, |tricks| { tricks.fragment = Some(100); tricks.other_total = true; }).await
        }).tags(&["dtls", "hostile"]),
        case::<K, _, _>("rfc9147-5.5/huge-message", "a message that says that it has 2^24-1 octets is not waited for with memory: the server goes on", &["DTL-016"], huge_message).tags(&["dtls", "hostile"]),
        case::<K, _, _>("rfc6066-4/max-fragment-length", "max_fragment_length 512 is echoed and kept", &["DTL-025", "CBR-024"], |kit, record| limited(kit, record, MAX_FRAGMENT_LENGTH, vec![1])).tags(&["dtls"]),
        case::<K, _, _>("rfc6066-4/max-fragment-length-5", "max_fragment_length 5 gets illegal_parameter", &["DTL-025"], |kit, record| illegal(kit, record, MAX_FRAGMENT_LENGTH, vec![5])).tags(&["dtls", "hostile"]),
        case::<K, _, _>("rfc8449-4/record-size-limit", "record_size_limit 512 is answered and kept", &["DTL-044", "CBR-024"], |kit, record| limited(kit, record, RECORD_SIZE_LIMIT, vec![2, 0])).tags(&["dtls"]),
        case::<K, _, _>("rfc8449-4/record-size-limit-63", "record_size_limit 63 gets illegal_parameter", &["DTL-026"], |kit, record| illegal(kit, record, RECORD_SIZE_LIMIT, vec![0, 63])).tags(&["dtls", "hostile"]),
        case::<K, _, _>("rfc8449-5/both-limits", "with both limits record_size_limit counts alone", &["DTL-026"], both_limits).tags(&["dtls", "hostile"]),
        case::<K, _, _>("cbrski-6.1.4/datagrams", "no datagram of the handshake has more than 1024 octets", &["CBR-021"], |kit: Arc<K>, record: Recorder| async move {
            let session = insider(&*kit, &record)?.connect(&record).await?;
            let most = session.handshake_datagrams.iter().max().copied().unwrap_or_default();
            must(most <= 1024, format!("one has {most}"))
        }).tags(&["dtls"]),
        case::<K, _, _>("cbrski-6.3/server-name", "no server name, any and a wrong one lead to the same certificate", &["CBR-030"], server_name).tags(&["dtls"]),
        case::<K, _, _>("rfc7250-4.1/certificate-type", "without a word about certificate types, and when X.509 is asked for, the certificate is X.509", &["DTL-029", "DTL-028", "CBR-152"], certificate_type).tags(&["dtls"]),
        case::<K, _, _>("iot-profile/alpn", "a protocol name that nobody knows is no reason to refuse", &["DTL-041"], |kit: Arc<K>, record: Recorder| async move {
            for name in ["coap", "no-such-protocol"] {
                let list = vector(1, name.as_bytes());
                let client = insider(&*kit, &record)?.with_hello(|hello| hello.set(ALPN, vector(2, &list)));
                lives(&*kit, &mut Coaps::open(&client, &record).await?).await?;
            }
            Ok(())
        }).tags(&["dtls"]),
        case::<K, _, _>("rfc5746-3.6/renegotiation-info", "that renegotiation is known to be dangerous is said", &["DTL-020"], |kit: Arc<K>, record: Recorder| async move {
            let probe = kit.base().client.probe(&record).await?;
            must(probe.hello()?.extension(RENEGOTIATION_INFO).is_some(), "the ServerHello has no renegotiation_info")
        }).tags(&["dtls"]),
        case::<K, _, _>("rfc6347-4.2.4/lost-flight", "a flight of the server's that is lost comes again by itself", &["DTL-013"], |kit, record| fragments(kit, record, |tricks| tricks.deaf_to_first_flight = true)).tags(&["dtls", "slow"]),
        case::<K, _, _>("rfc6347-4.2.4/lost-last-flight", "the last flight comes again when the client's does", &["DTL-013"], |kit, record| fragments(kit, record, |tricks| tricks.deaf_to_last_flight = true)).tags(&["dtls", "slow"]),
        case::<K, _, _>("rfc8446-4.4.3/possession", "who cannot sign with the key of its certificate gets no session", &["DTL-036"], |kit: Arc<K>, record: Recorder| async move {
            no_session(&kit, &record, |tricks| tricks.signed_by_another = true).await
        }).tags(&["dtls", "hostile"]),
        case::<K, _, _>("rfc5246-7.4.8/no-certificate-verify", "who leaves CertificateVerify out gets no session", &["DTL-036"], |kit: Arc<K>, record: Recorder| async move {
            no_session(&kit, &record, |tricks| tricks.unsigned = true).await
        }).tags(&["dtls", "hostile"]),
        case::<K, _, _>("rfc5246-7.4.9/wrong-finished", "a wrong Finished yields no session", &["DTL-036"], |kit: Arc<K>, record: Recorder| async move {
            no_session(&kit, &record, |tricks| tricks.wrong_finished = true).await
        }).tags(&["dtls", "hostile"]),
        case::<K, _, _>("rfc9148-4/no-client-certificate", "who shows no certificate is shut out", &["ESC-010", "CBR-019"], |kit: Arc<K>, record: Recorder| async move {
            shut_out(attempt(&kit.base().client, &record, &readable(&*kit)).await, "somebody without a certificate")
        }).tags(&["dtls", "hostile"]),
        case::<K, _, _>("rfc5280-6/stranger", "who shows a certificate of an unknown CA is shut out", &["DTL-035"], |kit: Arc<K>, record: Recorder| async move {
            let stranger = kit.made_by(&kit.base().strangers, &record)?;
            shut(&kit, &record, &stranger).await
        }).tags(&["dtls", "hostile"]),
        case::<K, _, _>("rfc5280-6/self-signed", "who signed its own certificate is shut out", &["DTL-035"], |kit: Arc<K>, record: Recorder| async move {
            let own = changed(&*kit, |it| it, true)?;
            shut(&kit, &record, &own).await
        }).tags(&["dtls", "hostile"]),
        case::<K, _, _>("rfc5280-6/forged", "a certificate with the CA's name and another signature is shut out", &["DTL-035"], |kit: Arc<K>, record: Recorder| async move {
            let mut forger = kit.base().insiders.clone();
            forger.signatory.key = Key::generate().or_could_not_test("a key")?;
            let forged = kit.made_by(&forger, &record)?;
            shut(&kit, &record, &forged).await
        }).tags(&["dtls", "hostile"]),
        case::<K, _, _>("rfc5280-4.2/critical-extension", "a certificate with a critical extension that nobody knows is shut out", &["DTL-037"], |kit: Arc<K>, record: Recorder| async move {
            let odd = changed(&*kit, |it| it.extension("1.3.6.1.4.1.99999.1", true, der::null()), false)?;
            shut(&kit, &record, &odd).await
        }).tags(&["dtls", "hostile"]),
        case::<K, _, _>("rfc5280-4.2.1.9/issued-by-no-ca", "a certificate that a device issued is shut out", &["DTL-037"], |kit: Arc<K>, record: Recorder| async move {
            let device = kit.insider(&record)?;
            let below = crate::forge::x509::Authority {
                name: pki::Certificate::from_der(device.certificate()).or_could_not_test("a certificate")?.subject_der().to_vec(),
                above: device.chain(),
                signatory: device.signatory,
            };
            let child = kit.made_by(&below, &record)?;
            shut(&kit, &record, &child).await
        }).tags(&["dtls", "hostile"]),
        case::<K, _, _>("rfc5280-4.1.2.5/year-9999", "a certificate that ends in the year 9999 is served", &["DTL-035"], |kit: Arc<K>, record: Recorder| async move {
            let identity = changed(&*kit, |it| it.with(|it| it.not_after = FOREVER), false)?;
            let mut coaps = Coaps::open(&kit.base().client.with_identity(&identity), &record).await?;
            lives(&*kit, &mut coaps).await
        }).tags(&["dtls"]),
        case::<K, _, _>("rfc9147-9/version-1.3", "a device with DTLS 1.3 alone and TLS_AES_128_GCM_SHA256 is answered in it, on the same port", &["CBR-004", "CBR-008", "CBR-011", "DTL-001"], |kit, record| hello_1_3(kit, record, 0x1301, P256)).tags(&["dtls"]).needs(&["dtls-1.3"]),
        case::<K, _, _>("rfc8446-9.1/x25519", "a device with DTLS 1.3 and X25519 alone is answered", &["CBR-016"], |kit, record| hello_1_3(kit, record, 0x1301, X25519)).tags(&["dtls"]).needs(&["dtls-1.3"]),
        case::<K, _, _>("cbrski-6.1.2.2/ccm", "a device with DTLS 1.3 and TLS_AES_128_CCM_SHA256 alone is answered", &["CBR-013"], |kit, record| hello_1_3(kit, record, 0x1304, P256)).tags(&["dtls"]).needs(&["dtls-1.3-ccm"]),
        case::<K, _, _>("cbrski-6.1.2.2/ccm-8", "a device with DTLS 1.3 and TLS_AES_128_CCM_8_SHA256 alone is answered", &["CBR-012"], |kit, record| hello_1_3(kit, record, 0x1305, P256)).tags(&["dtls"]).needs(&["dtls-1.3-ccm"]),
        case::<K, _, _>("cbrski-6.1.1/newest-version", "a device with both versions is answered in DTLS 1.3", &["CBR-007"], |kit: Arc<K>, record: Recorder| async move {
            let (hello, _) = new_1_3(0x1301, P256)?;
            let hello = hello
                .suites(&[0x1301, CCM_8, NO_RENEGOTIATION])
                .set(SUPPORTED_VERSIONS, vec![4, 0xfe, 0xfc, 0xfe, 0xfd])
                .set(EXTENDED_MASTER_SECRET, Vec::new())
                .set(EC_POINT_FORMATS, vec![1, 0]);
            let probe = kit.base().client.with_hello(|_| hello).probe(&record).await?;
            let version = probe.hello()?.negotiated();
            must(version == DTLS_1_3, format!("version {version:04x} was chosen"))
        }).tags(&["dtls"]).needs(&["dtls-1.3"]),
        case::<K, _, _>("iot-profile/preference", "whoever offers TLS_AES_128_CCM_8_SHA256 first and GCM too gets GCM or CCM", &["DTL-043"], |kit: Arc<K>, record: Recorder| async move {
            let (hello, _) = new_1_3(0x1301, P256)?;
            let hello = hello.suites(&[0x1305, 0x1304, 0x1301]);
            let probe = kit.base().client.with_hello(|_| hello).probe(&record).await?;
            let suite = probe.hello()?.suite;
            must(matches!(suite, 0x1301 | 0x1304), format!("suite {suite:04x} was chosen"))
        }).tags(&["dtls"]).needs(&["dtls-1.3"]),
        case::<K, _, _>("rfc9147-5.3/no-session-id", "in DTLS 1.3 no session id is echoed", &["DTL-018"], |kit: Arc<K>, record: Recorder| async move {
            let (mut hello, _) = new_1_3(0x1301, P256)?;
            hello.session_id = vec![7; 32];
            let probe = kit.base().client.with_hello(|_| hello).probe(&record).await?;
            must(probe.hello()?.session_id.is_empty(), "a session id was echoed")
        }).tags(&["dtls"]).needs(&["dtls-1.3"]),
        case::<K, _, _>("rfc9147-5.1/wrong-cookie-1.3", "a wrong cookie in DTLS 1.3 gets illegal_parameter, or a new request for one", &["DTL-002"], wrong_cookie_1_3).tags(&["dtls", "hostile"]).needs(&["dtls-1.3"]),
        case::<K, _, _>("iot-profile/early-data", "early data is not accepted", &["DTL-042"], |kit: Arc<K>, record: Recorder| async move {
            let (hello, _) = new_1_3(0x1301, P256)?;
            let probe = kit.base().client.with_hello(|_| hello.set(EARLY_DATA, Vec::new())).probe(&record).await?;
            match probe.hello() {
                Ok(server) => must(server.extension(EARLY_DATA).is_none() && probe.retry.as_ref().is_none_or(|retry| retry.extension(EARLY_DATA).is_none()), "early_data was accepted"),
                Err(DtlsError::Alert(..)) => Ok(()),
                Err(error) => Err(error.into()),
            }
        }).tags(&["dtls", "hostile"]).needs(&["dtls-1.3"]),
        case::<K, _, _>("rfc8446-4.1.3/downgrade-mark", "who offers DTLS 1.3 and gets 1.2 is shown the mark against downgrades", &["DTL-032"], |kit: Arc<K>, record: Recorder| async move {
            let client = kit.base().client.with_hello(|hello| hello.set(SUPPORTED_VERSIONS, vec![2, 0xfe, 0xfd]));
            let probe = client.probe(&record).await?;
            must(probe.hello()?.random.ends_with(b"DOWNGRD\x01"), "the ServerHello's random has no mark")
        }).tags(&["dtls"]).needs(&["dtls-1.3", "downgrade-mark"]),
        case::<K, _, _>("cbrski-6.1.2.2/ed25519", "a device whose key is Ed25519 is served", &["CBR-015"], |kit: Arc<K>, record: Recorder| async move {
            let key = Key::derive(Kind::Ed25519, &format!("{:x}", record.seed)).or_could_not_test("a key")?;
            let identity = with_key(&*kit, key)?;
            let mut coaps = Coaps::open(&kit.base().client.with_identity(&identity), &record).await?;
            lives(&*kit, &mut coaps).await
        }).tags(&["dtls"]).needs(&["ed25519"]),
    ]
}

/// The suite as somebody whom the server serves.
pub(super) fn insider<K: Served>(kit: &K, record: &Recorder) -> Result<Client, Finding> {
    Ok(kit.base().client.with_identity(&kit.insider(record)?))
}

fn with_key<K: Served>(kit: &K, key: Key) -> Result<Identity, Finding> {
    let base = kit.base();
    let serial = format!("CONF-REG-{:08x}", rand::random::<u32>());
    Ok(base.insiders.device(
        "Conformance Manufacturer",
        &serial,
        None,
        &key,
        base.at - time::Duration::days(1),
    ))
}

/// An insider's certificate with a change, signed by the CA or by itself.
fn changed<K: Served>(
    kit: &K,
    change: impl FnOnce(Certificate) -> Certificate,
    by_itself: bool,
) -> Result<Identity, Finding> {
    let base = kit.base();
    let key = Key::generate().or_could_not_test("a key")?;
    let serial = format!("CONF-REG-{:08x}", rand::random::<u32>());
    let subject = name("Conformance Manufacturer", "Device", Some(&serial));
    let issuer = if by_itself {
        subject.clone()
    } else {
        base.insiders.name.clone()
    };
    let plain = Certificate::new(
        &issuer,
        &subject,
        key.spki(),
        base.at - time::Duration::days(1),
    )
    .end_entity(&key.key_id())
    .issued_by(&base.insiders.key_id());
    let signer = if by_itself {
        &key
    } else {
        &base.insiders.signatory.key
    };
    let certificate = change(plain).sign(signer);
    Ok(Identity {
        signatory: Signatory { certificate, key },
        above: base.insiders.above.clone(),
    })
}

async fn served<K: Served>(kit: Arc<K>, record: Recorder) -> Told {
    let mut coaps = open(&*kit, &record).await?;
    must(
        coaps.session.server.suite == CCM_8,
        format!("suite {:04x} was chosen", coaps.session.server.suite),
    )?;
    lives(&*kit, &mut coaps).await
}

async fn fragments<K: Served>(kit: Arc<K>, record: Recorder, change: fn(&mut Tricks)) -> Told {
    let client = insider(&*kit, &record)?.with_tricks(change);
    match Coaps::open(&client, &record).await {
        Ok(mut coaps) => lives(&*kit, &mut coaps).await,
        Err(error @ (DtlsError::Silence(_) | DtlsError::Alert(..))) => {
            // Somebody who does the usual is served, so it is that.
            super::serves(&*kit, &record).await?;
            Err(Finding::fail(format!("there is no session: {error}")))
        }
        Err(error) => Err(error.into()),
    }
}

async fn no_session<K: Served>(kit: &Arc<K>, record: &Recorder, change: fn(&mut Tricks)) -> Told {
    let mut client = insider(&**kit, record)?.with_tricks(change);
    // A refusal may be silent.
    client.patience = client.patience.min(std::time::Duration::from_secs(4));
    match client.connect(record).await {
        Ok(_) => Err(Finding::fail("there is a session")),
        Err(DtlsError::Alert(..) | DtlsError::Silence(_)) => super::serves(&**kit, record).await,
        Err(error) => Err(error.into()),
    }
}

async fn shut<K: Served>(kit: &Arc<K>, record: &Recorder, identity: &Identity) -> Told {
    let client = kit.base().client.with_identity(identity);
    shut_out(attempt(&client, record, &readable(&**kit)).await, "it")
}

async fn point_formats<K: Served>(kit: Arc<K>, record: Recorder) -> Told {
    // The session is there only if the server's point was uncompressed.
    let coaps = open(&*kit, &record).await?;
    let formats = coaps.session.server.extension(EC_POINT_FORMATS);
    must(
        formats.is_none_or(|formats| {
            let mut reader = Reader(formats);
            reader.vector(1).is_some_and(|list| list.contains(&0))
        }),
        "ec_point_formats of the server lacks uncompressed points",
    )
}

async fn dtls_1_0<K: Served>(kit: Arc<K>, record: Recorder) -> Told {
    for suite in [CCM_8, 0xc009, 0xc013, 0x002f] {
        let mut client = kit.base().client.with_hello(|mut hello| {
            hello.version = DTLS_1_0;
            hello.record_version = DTLS_1_0;
            hello.suites(&[suite, NO_RENEGOTIATION])
        });
        client.patience = client.patience.min(std::time::Duration::from_secs(3));
        if let Ok(hello) = client.probe(&record).await?.hello() {
            return Err(Finding::fail(format!(
                "version {:04x} with suite {:04x} was agreed on",
                hello.negotiated(),
                hello.suite
            )));
        }
    }
    super::serves(&*kit, &record).await
}

async fn weak_suites<K: Served>(kit: Arc<K>, record: Recorder) -> Told {
    for (suite, name) in WEAK {
        let mut client = kit
            .base()
            .client
            .with_hello(|hello| hello.suites(&[*suite, NO_RENEGOTIATION]));
        client.patience = client.patience.min(std::time::Duration::from_secs(2));
        if client.probe(&record).await?.hello().is_ok() {
            return Err(Finding::fail(format!("{name} was chosen")));
        }
    }
    super::serves(&*kit, &record).await
}

async fn cookie<K: Served>(kit: Arc<K>, record: Recorder) -> Told {
    let probe = kit.base().client.probe(&record).await?;
    probe.hello()?;
    must(
        probe.cookie.is_some(),
        "the first ClientHello was answered with a ServerHello",
    )?;
    let (sent, came) = probe.first;
    must(
        came <= 3 * sent,
        format!("{sent} octets were answered with {came}"),
    )
}

async fn wrong_cookie<K: Served>(kit: Arc<K>, record: Recorder) -> Told {
    let answer = kit
        .base()
        .client
        .hello_with_cookie(&record, &[0x5a; 20])
        .await?;
    must(
        answer == Some(HELLO_VERIFY_REQUEST),
        format!("it was answered with handshake message {answer:?}"),
    )
}

async fn cookie_of_another<K: Served>(kit: Arc<K>, record: Recorder) -> Told {
    let answer = kit.base().client.cookie_of_another(&record).await?;
    must(
        answer == Some(HELLO_VERIFY_REQUEST),
        format!("from another port it was answered with handshake message {answer:?}"),
    )
}

async fn huge_message<K: Served>(kit: Arc<K>, record: Recorder) -> Told {
    let base = kit.base();
    base.client.huge_message(&record).await?;
    super::serves(&*kit, &record).await
}

async fn limited<K: Served>(
    kit: Arc<K>,
    record: Recorder,
    extension: u16,
    content: Vec<u8>,
) -> Told {
    let mut client =
        insider(&*kit, &record)?.with_hello(|hello| hello.set(extension, content.clone()));
    client.tricks.fragment = Some(400);
    let session = client.connect(&record).await?;
    let answered = session.server.extension(extension).map(<[u8]>::to_vec);
    match (extension, answered) {
        (_, None) => {
            return Err(Finding::fail(
                "the ServerHello does not have the extension, so the limit is not kept",
            ));
        }
        (MAX_FRAGMENT_LENGTH, Some(found)) => {
            must(found == content, format!("it was answered with {found:?}"))?;
        }
        (_, Some(_)) => {}
    }
    // 13 octets of head in the clear; the handshake's records are no longer than the limit.
    let most = session.handshake_records_max;
    must(most <= 512, format!("a record of the handshake has {most}"))?;
    let mut coaps = Coaps::on(session, client.patience);
    lives(&*kit, &mut coaps).await?;
    let most = coaps.session.plaintext_max;
    must(most <= 512, format!("a record has {most} octets"))
}

async fn illegal<K: Served>(
    kit: Arc<K>,
    record: Recorder,
    extension: u16,
    content: Vec<u8>,
) -> Told {
    let client = kit
        .base()
        .client
        .with_hello(|hello| hello.set(extension, content));
    match client.probe(&record).await?.hello() {
        Ok(_) => Err(Finding::fail("there was a ServerHello")),
        Err(DtlsError::Alert(_, ILLEGAL_PARAMETER)) => Ok(()),
        Err(error) => Err(Finding::fail(format!("illegal_parameter was due; {error}"))),
    }
}

async fn both_limits<K: Served>(kit: Arc<K>, record: Recorder) -> Told {
    let client = kit.base().client.with_hello(|hello| {
        hello
            .set(RECORD_SIZE_LIMIT, vec![2, 0])
            .set(MAX_FRAGMENT_LENGTH, vec![2])
    });
    let probe = client.probe(&record).await?;
    let hello = probe.hello()?;
    match (
        hello.extension(RECORD_SIZE_LIMIT).is_some(),
        hello.extension(MAX_FRAGMENT_LENGTH).is_some(),
    ) {
        (true, true) => Err(Finding::fail(
            "the ServerHello has both, at which a client has to end the handshake",
        )),
        // A server without record_size_limit answers the other one.
        (false, true) => Ok(()),
        (true, false) => Ok(()),
        (false, false) => Err(Finding::fail("the ServerHello has neither")),
    }
}

async fn server_name<K: Served>(kit: Arc<K>, record: Recorder) -> Told {
    let plain = insider(&*kit, &record)?;
    let usual = plain.connect(&record).await?.chain;
    for name in ["localhost", "no-such-name.invalid", "a.b.c.d.e.f"] {
        let client = plain.with_hello(|hello| hello.server_name(name));
        match client.connect(&record).await {
            Ok(session) => must(
                session.chain == usual,
                format!("with {name} another certificate was shown"),
            )?,
            Err(DtlsError::Alert(_, description)) => {
                return Err(Finding::fail(format!(
                    "{name} was answered with alert {description}"
                )));
            }
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

async fn certificate_type<K: Served>(kit: Arc<K>, record: Recorder) -> Told {
    let plain = insider(&*kit, &record)?;
    let asked = plain.with_hello(|hello| {
        hello
            .set(CLIENT_CERTIFICATE_TYPE, vec![1, 0])
            .set(SERVER_CERTIFICATE_TYPE, vec![1, 0])
    });
    for client in [&plain, &asked] {
        let session = client.connect(&record).await?;
        let leaf = session
            .chain
            .first()
            .ok_or_else(|| Finding::fail("there is no certificate"))?;
        super::certificate(leaf)?;
    }
    Ok(())
}

fn new_1_3(suite: u16, group: u16) -> Result<(Hello, Key), Finding> {
    let key = Key::generate().or_could_not_test("a key")?;
    let share = if group == X25519 {
        PKey::generate_x25519()
            .and_then(|key| key.raw_public_key())
            .or_could_not_test("a key")?
    } else {
        // The point is the end of the SubjectPublicKeyInfo.
        let spki = key.spki();
        spki.get(spki.len().saturating_sub(65)..)
            .unwrap_or_default()
            .to_vec()
    };
    Ok((Hello::new_1_3(suite, group, &share), key))
}

async fn hello_1_3<K: Served>(kit: Arc<K>, record: Recorder, suite: u16, group: u16) -> Told {
    let (hello, _) = new_1_3(suite, group)?;
    let probe = kit
        .base()
        .client
        .with_hello(|_| hello)
        .probe(&record)
        .await?;
    let server = match probe.hello() {
        Ok(server) => server,
        Err(error) => {
            return Err(Finding::fail(format!("there is no ServerHello: {error}")));
        }
    };
    must(
        server.negotiated() == DTLS_1_3 && server.suite == suite,
        format!(
            "version {:04x} and suite {:04x} were chosen",
            server.negotiated(),
            server.suite
        ),
    )?;
    must(
        probe.cookie.is_some(),
        "the first ClientHello was answered without a request for a cookie",
    )?;
    let (sent, came) = probe.first;
    must(
        came <= 3 * sent,
        format!("{sent} octets were answered with {came}"),
    )
}

async fn wrong_cookie_1_3<K: Served>(kit: Arc<K>, record: Recorder) -> Told {
    let (hello, _) = new_1_3(0x1301, P256)?;
    let wrong = hello.set(COOKIE, vector(2, &[0x5a; 32]));
    let probe = kit
        .base()
        .client
        .with_hello(|_| wrong)
        .probe(&record)
        .await?;
    match probe.hello() {
        Err(DtlsError::Alert(..)) => Ok(()),
        _ if probe.retry.is_some() => Ok(()),
        Ok(_) => Err(Finding::fail("it was answered with a ServerHello")),
        Err(error) => Err(Finding::fail(format!("illegal_parameter was due; {error}"))),
    }
}
