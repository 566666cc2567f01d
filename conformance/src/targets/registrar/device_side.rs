//! What the registrar has to check of devices.

use std::{sync::Arc, time::Duration};

use openssl::ssl::SslVersion;
use serde_json::json;

use super::{Device, Registrar, masa_side::refused_alone, refused, request};
use crate::{
    case::Case,
    evidence::Recorder,
    forge::{
        cms::{ANIMA_JSON_VOUCHER, Attributes, Cms, DATA, SZTP_JSON},
        key::{Hash, Key},
        voucher::{Leaves, VOUCHER},
        x509::{Certificate, FOREVER, Identity, name},
    },
    http::{HttpError, Request},
    inspect::Envelope,
    outcome::{Finding, OrCouldNotTest as _, Told, must},
};

type Change = fn(Leaves, &Registrar) -> Leaves;

/// Leaves that make a device's request one to refuse.
const BAD_LEAVES: &[(&str, &str, &[&str], Change)] = &[
    (
        "rfc8995-5.2/no-assertion",
        "a request without assertion is refused",
        &["BRSKI-5.2-11"],
        |leaves, _| leaves.unset("assertion"),
    ),
    (
        "rfc8995-5.2/assertion-logged",
        "a request that asserts logged is refused",
        &["BRSKI-5.2-11"],
        |leaves, _| leaves.set("assertion", "logged"),
    ),
    (
        "rfc8995-5.2/no-proximity",
        "a request without proximity-registrar-cert is refused",
        &["BRSKI-5.2-11"],
        |leaves, _| leaves.unset("proximity-registrar-cert"),
    ),
    (
        "rfc8995-5.2/other-registrar",
        "a request that names another registrar is refused",
        &["BRSKI-5.2-12"],
        |leaves, kit| leaves.binary("proximity-registrar-cert", kit.devices.certificate()),
    ),
    (
        "rfc8995-2.3.1/other-serial",
        "a request for another serial number than the certificate's is refused",
        &[
            "BRSKI-2.3.1-04",
            "BRSKI-5.2-15",
            "BRSKI-5.5-10",
            "BRSKI-5.5-11",
        ],
        |leaves, _| leaves.set("serial-number", "CONF-REG-OTHER"),
    ),
    (
        "rfc8366-5.3/no-serial",
        "a request without serial-number is refused",
        &["VOUCHER-5.3-03"],
        |leaves, _| leaves.unset("serial-number"),
    ),
    (
        "rfc8366-5.3/serial-number-type",
        "a serial number that is no string is refused",
        &["VOUCHER-5.3-03"],
        |leaves, _| leaves.set("serial-number", 7),
    ),
    (
        "rfc8366-5.3/nonce-7",
        "a nonce of 7 octets is refused",
        &["VOUCHER-5.3-22"],
        |leaves, _| leaves.binary("nonce", b"7octets"),
    ),
    (
        "rfc8366-5.3/nonce-33",
        "a nonce of 33 octets is refused",
        &["VOUCHER-5.3-22"],
        |leaves, _| leaves.binary("nonce", &[0x41; 33]),
    ),
    (
        "rfc8995-3/voucher-member",
        "a request under the top-level member of a voucher is refused",
        &["BRSKI-3-03"],
        |leaves, _| leaves.under(VOUCHER),
    ),
];

type Make = fn(&Leaves, &Device, &Registrar) -> Vec<u8>;

/// Envelopes that make a device's request one to refuse.
const BAD_ENVELOPES: &[(&str, &str, &[&str], Make)] = &[
    (
        "rfc8995-5.2/signature",
        "a request with a wrong signature is refused",
        &["BRSKI-5.2-13"],
        |leaves, device, kit| {
            let mut octets = device.sign(Envelope::Cms, leaves, kit.at);
            if let Some(last) = octets.last_mut() {
                *last ^= 1;
            }
            octets
        },
    ),
    (
        "rfc5652-5.6/content-changed",
        "content that was changed after it was signed is refused",
        &["CMS-5.6-01", "BRSKI-5.2-13"],
        |leaves, device, kit| {
            cms(leaves, device, kit)
                .with(|cms| cms.message_digest = Some(Hash::Sha256.of(b"another")))
                .encode()
        },
    ),
    (
        "rfc8366-5.4/other-content-type",
        "a CMS whose content is said to be something else than a voucher is refused",
        &["VOUCHER-5.4-02"],
        |leaves, device, kit| {
            cms(leaves, device, kit)
                .with(|cms| {
                    SZTP_JSON.clone_into(&mut cms.content_type);
                    SZTP_JSON.clone_into(&mut cms.attribute_content_type);
                })
                .encode()
        },
    ),
    (
        "rfc5652-5.6/content-type",
        "a content-type attribute that is not eContentType is refused",
        &["CMS-5.6-02"],
        |leaves, device, kit| {
            cms(leaves, device, kit)
                .with(|cms| DATA.clone_into(&mut cms.attribute_content_type))
                .encode()
        },
    ),
    (
        "rfc5652-5.3/no-signed-attributes",
        "a request without signedAttrs is refused",
        &["CMS-5.3-03", "VOUCHERBIS-7.1-04"],
        |leaves, device, kit| {
            cms(leaves, device, kit)
                .with(|cms| cms.attributes = Attributes::Absent)
                .encode()
        },
    ),
    (
        "rfc8366-5.4/no-signer",
        "a request without a signature is refused",
        &["VOUCHER-5.4-03"],
        |leaves, device, kit| {
            cms(leaves, device, kit)
                .with(|cms| cms.signers.clear())
                .encode()
        },
    ),
    (
        "rfc5652-5.2/detached",
        "a request without its content is refused",
        &["CMS-5.2-01"],
        |leaves, device, kit| {
            cms(leaves, device, kit)
                .with(|cms| cms.detached = true)
                .encode()
        },
    ),
    (
        "rfc8995-6/base64",
        "a request in base64 is refused",
        &["BRSKI-6-01"],
        |leaves, device, kit| {
            use base64::{Engine as _, engine::general_purpose::STANDARD};
            STANDARD
                .encode(device.sign(Envelope::Cms, leaves, kit.at))
                .into_bytes()
        },
    ),
    (
        "rfc8366-5/duplicate-leaf",
        "a leaf that is there twice is refused",
        &["VOUCHER-5-01"],
        |leaves, device, kit| {
            super::sign(
                Envelope::Cms,
                &leaves.encode_with_duplicate("serial-number", &json!(device.serial)),
                &device.identity,
                kit.at,
            )
        },
    ),
    (
        "rfc8995-5.3/garbage",
        "garbage is refused",
        &["BRSKI-5.3-03", "BRSKI-5.6-04"],
        |_, _, _| b"garbage".to_vec(),
    ),
    (
        "rfc8995-5.3/empty",
        "an empty body is refused",
        &["BRSKI-5.6-04"],
        |_, _, _| Vec::new(),
    ),
    (
        "rfc8995-5.3/nested",
        "DER nested ten thousand deep is refused",
        &["BRSKI-5.6-04"],
        |_, _, _| [0x30, 0x80].repeat(10_000),
    ),
    (
        "rfc8995-5.3/huge-length",
        "DER that says that it has four thousand million octets is refused",
        &["BRSKI-5.6-04"],
        |_, _, _| vec![0x30, 0x84, 0xff, 0xff, 0xff, 0xff, 0],
    ),
];

fn cms(leaves: &Leaves, device: &Device, kit: &Registrar) -> Cms {
    Cms::new(
        &leaves.encode(),
        ANIMA_JSON_VOUCHER,
        &device.identity.signatory,
        kit.at,
    )
}

pub(super) fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    for (envelope, feature) in [(Envelope::Cms, "cms"), (Envelope::Jws, "jws")] {
        for (id, title, requirements, change) in BAD_LEAVES {
            cases.push(
                Case::new(
                    format!("registrar/{id}-{feature}"),
                    format!("{title}, and the MASA is not asked"),
                    requirements,
                    move |kit: Arc<Registrar>, record: Recorder| async move {
                        let device = kit.device(&record)?;
                        let leaves = change(kit.leaves(&record, &device).await?, &kit);
                        let body = device.sign(envelope, &leaves, kit.at);
                        let answer = kit.ask(&record, &device, envelope, body).await?;
                        refused_alone(&kit, &answer, &device.serial)
                    },
                )
                .tags(&["hostile"])
                .needs(&[feature]),
            );
        }
    }
    for (id, title, requirements, make) in BAD_ENVELOPES {
        cases.push(
            Case::new(
                format!("registrar/{id}"),
                *title,
                requirements,
                move |kit: Arc<Registrar>, record: Recorder| async move {
                    let device = kit.device(&record)?;
                    let leaves = kit.leaves(&record, &device).await?;
                    let body = make(&leaves, &device, &kit);
                    let answer = kit.ask(&record, &device, Envelope::Cms, body).await?;
                    refused_alone(&kit, &answer, &device.serial)
                },
            )
            .tags(&["hostile"])
            .needs(&["cms"]),
        );
    }
    cases.extend([
        Case::new("registrar/rfc8995-5.1/no-client-certificate", "a request without a client certificate is refused", &["BRSKI-5.1-06", "BRSKI-7.3-02", "BRSKI-7.3-01"], no_client_certificate).tags(&["hostile", "tls"]),
        Case::new("registrar/rfc8995-5.1/unknown-manufacturer", "a device of an unknown manufacturer is refused, and its MASA is not asked", &["BRSKI-5.1-07", "BRSKI-11.5-01", "BRSKI-7.3-01"], unknown_manufacturer).tags(&["hostile", "tls"]),
        Case::new("registrar/rfc8995-5.1/self-signed", "a device that signed its own certificate is refused", &["BRSKI-5.1-07"], self_signed).tags(&["hostile", "tls"]),
        Case::new("registrar/rfc8995-5.1/forged-issuer", "a device whose certificate has the manufacturer's name and another signature is refused", &["BRSKI-5.1-07"], forged_issuer).tags(&["hostile", "tls"]),
        Case::new("registrar/rfc8995-5.2/signed-by-another", "a request that another device signed is refused", &["BRSKI-5.2-14"], signed_by_another).tags(&["hostile"]),
        Case::new("registrar/rfc8995-5.2/wrong-proximity-closes", "naming another registrar gets 401, and the connection is closed", &["BRSKI-5.2-12"], wrong_proximity_closes).tags(&["hostile"]),
        Case::new("registrar/rfc8995-5.2/unknown-media-type", "a media type that nobody knows is refused", &["BRSKI-5.2-04"], unknown_media_type).tags(&["hostile"]),
        Case::new("registrar/rfc8995-5.2/no-created-on", "a request without created-on is accepted", &["BRSKI-5.2-07"], |kit: Arc<Registrar>, record: Recorder| async move {
            let device = kit.device(&record)?;
            let leaves = kit.leaves(&record, &device).await?.unset("created-on");
            kit.voucher_with(&record, Envelope::Cms, device, leaves).await.map(|_| ())
        }).needs(&["cms"]),
        Case::new("registrar/rfc8995-5.2/accept-list", "an Accept with a list, q-values and wildcards gets a voucher", &["BRSKI-5.2-17"], accept_list).needs(&["cms"]),
        Case::new("registrar/rfc8995-5.3/denied", "a device that policy refuses gets a refusal, and the MASA is not asked", &["BRSKI-5.3-01", "BRSKI-5.3-02"], denied).needs(&["cms", "deny-list"]),
        Case::new("registrar/rfc8995-5.1/tls-1.2", "a device that offers TLS 1.2 alone is served", &["BRSKI-5.1-03", "BRSKI-5.1-01"], |kit, record| over(kit, record, SslVersion::TLS1_2)).tags(&["tls"]),
        Case::new("registrar/rfc8995-5.1/tls-1.3", "a device that offers TLS 1.3 alone is served", &["BRSKI-5.1-03", "BRSKI-5.1-01"], |kit, record| over(kit, record, SslVersion::TLS1_3)).tags(&["tls"]),
        Case::new("registrar/rfc8995-5.1/tls-1.1-refused", "TLS 1.1 and older is refused", &["BRSKI-5.1-05"], old_tls).tags(&["tls", "hostile"]),
        Case::new("registrar/rfc8995-5.1/no-server-name", "no server name, and a wrong one, is no reason to refuse", &["BRSKI-5.1-14"], server_name).tags(&["tls"]),
        Case::new("registrar/rfc5280-4.1.2.5/year-9999", "a device whose certificate ends in the year 9999 is served", &["X509-4.1.2.5-01"], |kit: Arc<Registrar>, record: Recorder| async move {
            kit.voucher(&record, Envelope::Cms).await.map(|_| ())
        }).needs(&["cms"]),
        Case::new("registrar/rfc8995-5/get-refused", "GET of requestvoucher is refused", &["BRSKI-5-03"], |kit: Arc<Registrar>, record: Recorder| async move {
            let device = kit.device(&record)?;
            let client = kit.client.with_identity(&device.identity);
            let answer = client.send(&record, Request::get("/.well-known/brski/requestvoucher")).await?;
            refused(&answer, "GET")
        }).tags(&["hostile"]),
        Case::new("registrar/rfc8995-5.6/too-large", "a body of three million octets is refused, and the registrar goes on", &["BRSKI-5.6-04"], too_large).tags(&["hostile"]),
    ]);
    cases
}

/// What a peer may get who is none: a refusal, or no TLS at all.
fn shut_out(told: Result<crate::http::Answer, HttpError>) -> Told {
    match told {
        Ok(answer) => refused(&answer, "it"),
        Err(HttpError::Tls(_) | HttpError::Closed(_)) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

async fn no_client_certificate(kit: Arc<Registrar>, record: Recorder) -> Told {
    let device = kit.device(&record)?;
    let leaves = kit.leaves(&record, &device).await?;
    let body = device.sign(Envelope::Cms, &leaves, kit.at);
    shut_out(
        kit.client
            .send(&record, request("requestvoucher", Envelope::Cms, body))
            .await,
    )?;
    super::masa_side::nothing_asked(&kit, &device.serial)
}

async fn stranger(kit: &Registrar, record: &Recorder, device: &Device) -> Told {
    let leaves = kit.leaves(record, device).await?;
    let body = device.sign(Envelope::Cms, &leaves, kit.at);
    let client = kit.client.with_identity(&device.identity);
    shut_out(
        client
            .send(record, request("requestvoucher", Envelope::Cms, body))
            .await,
    )?;
    super::masa_side::nothing_asked(kit, &device.serial)
}

async fn unknown_manufacturer(kit: Arc<Registrar>, record: Recorder) -> Told {
    let serial = format!("CONF-REG-{:016x}-U", record.seed);
    let device = kit.device_of(&kit.unknown, &serial, Some(&kit.masa_url))?;
    stranger(&kit, &record, &device).await
}

async fn self_signed(kit: Arc<Registrar>, record: Recorder) -> Told {
    let serial = format!("CONF-REG-{:016x}-S", record.seed);
    let key = Key::generate().or_could_not_test("a key")?;
    let subject = name("Conformance Manufacturer", "Device", Some(&serial));
    let certificate = Certificate::new(&subject, &subject, key.spki(), kit.at)
        .with(|it| it.not_after = FOREVER)
        .end_entity(&key.key_id())
        .masa_url(&kit.masa_url)
        .sign(&key);
    let device = Device {
        identity: Identity {
            signatory: crate::forge::cms::Signatory { certificate, key },
            above: Vec::new(),
        },
        serial,
        nonce: vec![7; 16],
    };
    stranger(&kit, &record, &device).await
}

async fn forged_issuer(kit: Arc<Registrar>, record: Recorder) -> Told {
    let serial = format!("CONF-REG-{:016x}-F", record.seed);
    let mut forger = kit.devices.clone();
    forger.signatory.key = Key::generate().or_could_not_test("a key")?;
    let device = kit.device_of(&forger, &serial, Some(&kit.masa_url))?;
    stranger(&kit, &record, &device).await
}

async fn signed_by_another(kit: Arc<Registrar>, record: Recorder) -> Told {
    let device = kit.device(&record)?;
    let other = kit.device(&record)?;
    let leaves = kit.leaves(&record, &device).await?;
    let body = other.sign(Envelope::Cms, &leaves, kit.at);
    let answer = kit.ask(&record, &device, Envelope::Cms, body).await?;
    refused_alone(&kit, &answer, &device.serial)
}

async fn wrong_proximity_closes(kit: Arc<Registrar>, record: Recorder) -> Told {
    const CLOSE_TIME_MAX: Duration = Duration::from_secs(3);
    let device = kit.device(&record)?;
    let leaves = kit
        .leaves(&record, &device)
        .await?
        .binary("proximity-registrar-cert", kit.devices.certificate());
    let body = device.sign(Envelope::Cms, &leaves, kit.at);
    let mut connection = kit
        .client
        .with_identity(&device.identity)
        .connect(&record)
        .await?;
    let asked = request("requestvoucher", Envelope::Cms, body);
    let (status, closed) = crate::http::blocking(move || {
        let answer = connection.exchange(&asked)?;
        Ok((answer.status, connection.is_closed_within(CLOSE_TIME_MAX)))
    })
    .await?;
    must(status == 401, format!("it was answered {status}"))?;
    must(closed, "the connection stays open")
}

async fn unknown_media_type(kit: Arc<Registrar>, record: Recorder) -> Told {
    let device = kit.device(&record)?;
    let leaves = kit.leaves(&record, &device).await?;
    let body = device.sign(Envelope::Cms, &leaves, kit.at);
    let client = kit.client.with_identity(&device.identity);
    let request = Request::post("/.well-known/brski/requestvoucher", "application/foo", body);
    let answer = client.send(&record, request).await?;
    refused_alone(&kit, &answer, &device.serial)
}

async fn accept_list(kit: Arc<Registrar>, record: Recorder) -> Told {
    for accept in [
        "*/*",
        "application/foo;q=0.2, application/voucher-cms+json;q=0.8",
        "application/*",
    ] {
        let device = kit.device(&record)?;
        let leaves = kit.leaves(&record, &device).await?;
        let request = Request::post(
            "/.well-known/brski/requestvoucher",
            Envelope::Cms.media_type(),
            device.sign(Envelope::Cms, &leaves, kit.at),
        )
        .header("Accept", accept);
        let client = kit.client.with_identity(&device.identity);
        let answer = client.send(&record, request).await?;
        must(
            matches!(answer.status, 200 | 202),
            format!("Accept: {accept} was answered {}", answer.status),
        )?;
    }
    Ok(())
}

async fn denied(kit: Arc<Registrar>, record: Recorder) -> Told {
    let serial = format!("CONF-DENY-{:016x}", record.seed);
    let device = kit.device_of(&kit.devices, &serial, Some(&kit.masa_url))?;
    let leaves = kit.leaves(&record, &device).await?;
    let body = device.sign(Envelope::Cms, &leaves, kit.at);
    let answer = kit.ask(&record, &device, Envelope::Cms, body).await?;
    refused_alone(&kit, &answer, &serial)?;
    must(
        matches!(answer.status, 403 | 404 | 406),
        format!("it was answered {}", answer.status),
    )
}

async fn over(kit: Arc<Registrar>, record: Recorder, version: SslVersion) -> Told {
    let device = kit.device(&record)?;
    let client = kit
        .client
        .with_identity(&device.identity)
        .with_versions(version, version);
    match client.connect(&record).await {
        Ok(_) => Ok(()),
        Err(HttpError::Tls(why)) => Err(Finding::fail(format!("no handshake: {why}"))),
        Err(error) => Err(error.into()),
    }
}

async fn old_tls(kit: Arc<Registrar>, record: Recorder) -> Told {
    for version in [SslVersion::TLS1, SslVersion::TLS1_1] {
        match kit
            .client
            .with_versions(version, version)
            .connect(&record)
            .await
        {
            Ok(connection) => {
                return Err(Finding::fail(format!(
                    "{} was negotiated",
                    connection.version()
                )));
            }
            Err(HttpError::Tls(_) | HttpError::Closed(_)) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

async fn server_name(kit: Arc<Registrar>, record: Recorder) -> Told {
    let device = kit.device(&record)?;
    for name in [None, Some("nobody.invalid".to_owned())] {
        let mut client = kit.client.with_identity(&device.identity);
        client.server_name = name.clone();
        match client.connect(&record).await {
            Ok(_) => {}
            Err(HttpError::Tls(why)) => {
                return Err(Finding::fail(format!("server name {name:?}: {why}")));
            }
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

async fn too_large(kit: Arc<Registrar>, record: Recorder) -> Told {
    const SIZE_BYTES: usize = 3_000_000;
    let device = kit.device(&record)?;
    let client = kit.client.with_identity(&device.identity);
    let big = request("requestvoucher", Envelope::Cms, vec![0x30; SIZE_BYTES]);
    shut_out(client.send(&record, big).await)?;
    kit.voucher(&record, Envelope::Cms).await.map(|_| ())
}
