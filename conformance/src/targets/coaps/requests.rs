//! Voucher requests of devices, most of them wrong.

use std::sync::Arc;

use super::{
    Served, format,
    forms::{BAD_ENVELOPES, BAD_LEAVES, ODD_ENVELOPES, ODD_LEAVES},
    is, is_one_of, refused,
    registrar::{Device, RegistrarCoaps, rv},
};
use crate::{
    case::Case,
    coaps::{Ask, Code, option, uint},
    coaps_voucher::{Leaves, leaf},
    evidence::Recorder,
    forge::{
        cbor,
        cose::{Cose, X5BAG, X5CHAIN},
    },
    outcome::{OrCouldNotTest as _, Told, must},
};

pub(super) fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    let id = |rest: &str| format!("{}/{rest}", RegistrarCoaps::TARGET);
    for (rest, title, requirements, change) in BAD_LEAVES {
        cases.push(
            Case::new(
                id(rest),
                format!("{title}, and the MASA is not asked"),
                requirements,
                move |kit: Arc<RegistrarCoaps>, record: Recorder| async move {
                    let device = kit.device(&record)?;
                    let leaves = change(kit.leaves(&record, &device).await?);
                    bad(
                        &kit,
                        &record,
                        &device,
                        leaves.signed(&device.identity.signatory),
                    )
                    .await
                },
            )
            .tags(&["hostile", "voucher"]),
        );
    }
    for (rest, title, requirements, make) in BAD_ENVELOPES {
        cases.push(
            Case::new(
                id(rest),
                format!("{title}, and the MASA is not asked"),
                requirements,
                move |kit: Arc<RegistrarCoaps>, record: Recorder| async move {
                    let device = kit.device(&record)?;
                    let leaves = kit.leaves(&record, &device).await?;
                    let body = make(Cose::new(&leaves.encode(), &device.identity.signatory));
                    bad(&kit, &record, &device, body).await
                },
            )
            .tags(&["hostile", "voucher", "cose"]),
        );
    }
    for (rest, title, requirements, change) in ODD_ENVELOPES {
        cases.push(
            Case::new(
                id(rest),
                *title,
                requirements,
                move |kit: Arc<RegistrarCoaps>, record: Recorder| async move {
                    let device = kit.device(&record)?;
                    let leaves = kit.leaves(&record, &device).await?;
                    let body = Cose::new(&leaves.encode(), &device.identity.signatory)
                        .with(change)
                        .encode();
                    good(&kit, &record, &device, body).await
                },
            )
            .tags(&["voucher", "cose"]),
        );
    }
    for (rest, title, requirements, change) in ODD_LEAVES {
        cases.push(
            Case::new(
                id(rest),
                *title,
                requirements,
                move |kit: Arc<RegistrarCoaps>, record: Recorder| async move {
                    let device = kit.device(&record)?;
                    let leaves = change(kit.leaves(&record, &device).await?);
                    good(
                        &kit,
                        &record,
                        &device,
                        leaves.signed(&device.identity.signatory),
                    )
                    .await
                },
            )
            .tags(&["voucher"]),
        );
    }
    cases.extend([
        Case::new(
            id("cbrski-9/by-certificate"),
            "a request that names the registrar by its certificate gets a voucher",
            &["CBR-131"],
            |kit, record| named_by(kit, record, leaf::PROXIMITY_CERT),
        )
        .tags(&["voucher"]),
        Case::new(
            id("cbrski-9/by-key"),
            "a request that names the registrar by its key gets a voucher",
            &["CBR-131", "CBR-158"],
            |kit, record| named_by(kit, record, leaf::PROXIMITY_KEY),
        )
        .tags(&["voucher"]),
        Case::new(
            id("cbrski-9/by-hash"),
            "a request that names the registrar by the hash of its key gets a voucher",
            &["CBR-131", "CBR-158"],
            |kit, record| named_by(kit, record, leaf::PROXIMITY_HASH),
        )
        .tags(&["voucher"]),
        Case::new(
            id("cbrski-9/other-certificate"),
            "a request that names another registrar by its certificate is refused",
            &["CBR-131"],
            |kit, record| other(kit, record, leaf::PROXIMITY_CERT),
        )
        .tags(&["voucher", "hostile"]),
        Case::new(
            id("cbrski-9/other-key"),
            "a request that names another registrar by its key is refused",
            &["CBR-131"],
            |kit, record| other(kit, record, leaf::PROXIMITY_KEY),
        )
        .tags(&["voucher", "hostile"]),
        Case::new(
            id("rfc8366bis-9/hash-before-certificate"),
            "where the hash and the certificate name different registrars the hash counts",
            &["VCB-035"],
            conflicting,
        )
        .tags(&["voucher", "hostile"]),
        Case::new(
            id("cbrski-9.2.2/chain-of-another"),
            "a request by another key that brings its own chain is refused",
            &["CBR-123", "COS-015"],
            |kit: Arc<RegistrarCoaps>, record: Recorder| async move {
                let device = kit.device(&record)?;
                let another = kit.device(&record)?;
                for label in [X5BAG, X5CHAIN] {
                    let leaves = kit.leaves(&record, &device).await?;
                    let body = Cose::new(&leaves.encode(), &another.identity.signatory)
                        .with(|it| {
                            it.unprotected.push((
                                cbor::int(label),
                                Cose::certificates(&another.identity.chain()),
                            ))
                        })
                        .encode();
                    bad(&kit, &record, &device, body).await?;
                }
                Ok(())
            },
        )
        .tags(&["voucher", "hostile", "cose"]),
        Case::new(
            id("cbrski-9.2.2/own-chain"),
            "a chain in a request is ignored",
            &["CBR-123"],
            |kit: Arc<RegistrarCoaps>, record: Recorder| async move {
                let device = kit.device(&record)?;
                let leaves = kit.leaves(&record, &device).await?;
                let body = Cose::new(&leaves.encode(), &device.identity.signatory)
                    .with(|it| {
                        it.unprotected.push((
                            cbor::int(X5BAG),
                            Cose::certificates(&device.identity.chain()),
                        ))
                    })
                    .encode();
                good(&kit, &record, &device, body).await
            },
        )
        .tags(&["voucher", "cose"]),
        Case::new(
            id("cbrski-6.5/accept"),
            "rv with an Accept that it cannot keep gets 4.06",
            &["CBR-037", "CBR-055"],
            accept,
        )
        .tags(&["voucher", "hostile"]),
        Case::new(
            id("cbrski-6.5/content-format"),
            "rv in another Content-Format gets 4.15",
            &["CBR-038", "CBR-003", "CBR-145", "CBR-055"],
            content_format,
        )
        .tags(&["voucher", "hostile"]),
        Case::new(
            id("rfc8995-5.3/denied"),
            "a device that policy refuses gets 4.03, and the MASA is not asked",
            &["CBR-055"],
            |kit: Arc<RegistrarCoaps>, record: Recorder| async move {
                let device =
                    kit.device_called("CONF-DENY", &kit.base().insiders, &kit.masa_url, &record)?;
                let leaves = kit.leaves(&record, &device).await?;
                let answer = kit
                    .ask(
                        &record,
                        &device,
                        &rv(&leaves.signed(&device.identity.signatory)),
                    )
                    .await?;
                is(&answer, Code::FORBIDDEN, "it")?;
                must(kit.asked(&device) == 0, "the MASA was asked all the same")
            },
        )
        .tags(&["voucher", "hostile"])
        .needs(&["deny-list"]),
        Case::new(
            id("cbrski-6.1.3/stranger"),
            "a device of an unknown manufacturer gets no voucher, and its MASA is not asked",
            &["DTL-035", "CBR-055"],
            |kit: Arc<RegistrarCoaps>, record: Recorder| async move {
                let device =
                    kit.device_called("CONF-REG", &kit.base().strangers, &kit.masa_url, &record)?;
                let leaves = kit.leaves(&record, &device).await?;
                let client = kit.base().client.with_identity(&device.identity);
                let told = super::attempt(
                    &client,
                    &record,
                    &rv(&leaves.signed(&device.identity.signatory)),
                )
                .await;
                super::shut_out(told, "it")?;
                must(kit.asked(&device) == 0, "the MASA was asked all the same")
            },
        )
        .tags(&["voucher", "hostile"]),
        Case::new(
            id("rfc9254-3.2/far-keys"),
            "keys far below and above every leaf are refused or ignored, and the registrar goes on",
            &["VCB-010"],
            far_keys,
        )
        .tags(&["voucher", "hostile"]),
        Case::new(
            id("rfc8366bis-6.1/no-issuer-key"),
            "a device whose certificate does not name its issuer's key gets a voucher",
            &["VCB-023"],
            no_issuer_key,
        )
        .tags(&["voucher"]),
        Case::new(
            id("cbrski-6.7.4/sren-of-device"),
            "sren with the certificate of the manufacturer is refused",
            &["CBR-076", "DTL-047"],
            |kit: Arc<RegistrarCoaps>, record: Recorder| async move {
                let identity = kit.enroller(&record).await?;
                let body = super::est_server::csr_of(&identity)?.encode();
                let client = kit.base().client.with_identity(&identity);
                let ask = Ask::post("/.well-known/est/sren", format::PKCS10, &body);
                let answer = super::attempt(&client, &record, &ask).await?;
                refused(&answer, "it")
            },
        )
        .tags(&["est", "hostile"]),
        Case::new(
            id("rfc8995-5.9/sen-before-voucher"),
            "sen before there was a voucher is refused",
            &["ESC-050"],
            |kit: Arc<RegistrarCoaps>, record: Recorder| async move {
                let device = kit.device(&record)?;
                let body = super::est_server::csr_of(&device.identity)?.encode();
                let client = kit.base().client.with_identity(&device.identity);
                let ask = Ask::post("/.well-known/est/sen", format::PKCS10, &body);
                let answer = super::attempt(&client, &record, &ask).await?;
                refused(&answer, "it")
            },
        )
        .tags(&["est", "hostile"]),
    ]);
    cases
}

async fn bad(kit: &Arc<RegistrarCoaps>, record: &Recorder, device: &Device, body: Vec<u8>) -> Told {
    let answer = kit.ask(record, device, &rv(&body)).await?;
    refused(&answer, "it")?;
    must(kit.asked(device) == 0, "the MASA was asked all the same")
}

async fn good(
    kit: &Arc<RegistrarCoaps>,
    record: &Recorder,
    device: &Device,
    body: Vec<u8>,
) -> Told {
    let answer = kit.ask(record, device, &rv(&body)).await?;
    is(&answer, Code::CHANGED, "it")
}

/// How a registrar is named in this leaf by its certificate.
fn naming(certificate: &[u8], by: i64) -> Result<Vec<u8>, crate::outcome::Finding> {
    let parsed = pki::Certificate::from_der(certificate).or_could_not_test("a certificate")?;
    let spki = parsed.public_key().spki_der().to_vec();
    Ok(match by {
        leaf::PROXIMITY_CERT => certificate.to_vec(),
        leaf::PROXIMITY_KEY => spki,
        _ => crate::forge::key::Hash::Sha256.of(&spki),
    })
}

async fn named_by(kit: Arc<RegistrarCoaps>, record: Recorder, by: i64) -> Told {
    let device = kit.device(&record)?;
    let server = kit.server(&record).await?;
    let named = naming(&server, by)?;
    let leaves = Leaves::request(&device.serial, &device.nonce, (by, &named));
    let exchange = kit.voucher(&record, device, &leaves).await?;
    // What the MASA needs for its own comparison.
    let signed = crate::coaps_voucher::open(&exchange.asked.body)?;
    must(
        signed.certificates.contains(&server),
        "the registrar's certificate is not among the certificates of its request",
    )
}

async fn other(kit: Arc<RegistrarCoaps>, record: Recorder, by: i64) -> Told {
    let device = kit.device(&record)?;
    let another = kit.device(&record)?;
    let named = naming(another.identity.certificate(), by)?;
    let leaves = Leaves::request(&device.serial, &device.nonce, (by, &named));
    let body = leaves.signed(&device.identity.signatory);
    bad(&kit, &record, &device, body).await
}

async fn conflicting(kit: Arc<RegistrarCoaps>, record: Recorder) -> Told {
    let device = kit.device(&record)?;
    let server = kit.server(&record).await?;
    let wrong = Leaves::request(
        &device.serial,
        &device.nonce,
        (leaf::PROXIMITY_HASH, &[7; 32]),
    )
    .set(leaf::PROXIMITY_CERT, cbor::bytes(&server));
    bad(
        &kit,
        &record,
        &device,
        wrong.signed(&device.identity.signatory),
    )
    .await
}

async fn accept(kit: Arc<RegistrarCoaps>, record: Recorder) -> Told {
    for number in [50, 0, 65_000] {
        let device = kit.device(&record)?;
        let leaves = kit.leaves(&record, &device).await?;
        let ask = rv(&leaves.signed(&device.identity.signatory)).accept(number);
        let answer = kit.ask(&record, &device, &ask).await?;
        is(&answer, Code::NOT_ACCEPTABLE, &format!("Accept {number}"))?;
    }
    Ok(())
}

async fn content_format(kit: Arc<RegistrarCoaps>, record: Recorder) -> Told {
    for number in [0, 60, 50, 65_000] {
        let device = kit.device(&record)?;
        let leaves = kit.leaves(&record, &device).await?;
        let body = if number == 60 {
            leaves.encode()
        } else {
            leaves.signed(&device.identity.signatory)
        };
        let ask = rv(&body)
            .without(option::CONTENT_FORMAT)
            .option(option::CONTENT_FORMAT, uint(number));
        let answer = kit.ask(&record, &device, &ask).await?;
        is_one_of(
            &answer,
            &[Code::UNSUPPORTED_FORMAT, Code::NOT_ACCEPTABLE],
            &format!("Content-Format {number}"),
        )?;
        must(kit.asked(&device) == 0, "the MASA was asked all the same")?;
    }
    Ok(())
}

async fn no_issuer_key(kit: Arc<RegistrarCoaps>, record: Recorder) -> Told {
    let base = kit.base();
    let mut device = kit.device(&record)?;
    let key = device.identity.key().clone();
    let subject =
        crate::forge::x509::name("Conformance Manufacturer", "Device", Some(&device.serial));
    device.identity =
        base.insiders
            .issue(&subject, &key, base.at - time::Duration::days(1), |it| {
                it.without("2.5.29.35").masa_url(&kit.masa_url)
            });
    let leaves = kit.leaves(&record, &device).await?;
    let body = leaves.signed(&device.identity.signatory);
    good(&kit, &record, &device, body).await
}

async fn far_keys(kit: Arc<RegistrarCoaps>, record: Recorder) -> Told {
    for key in [
        cbor::int(-2450),
        cbor::int(i64::MIN),
        cbor::head(0, u64::MAX),
        cbor::tag(47, &cbor::head(0, u64::MAX)),
        cbor::tag(2, &cbor::bytes(&[0xff; 16])),
    ] {
        let device = kit.device(&record)?;
        let leaves = kit
            .leaves(&record, &device)
            .await?
            .add(key, cbor::bytes(b"far"));
        let body = leaves.signed(&device.identity.signatory);
        let answer = kit.ask(&record, &device, &rv(&body)).await?;
        must(
            answer.code.is_refusal() || answer.code == Code::CHANGED,
            format!("it was answered {}", answer.said()),
        )?;
    }
    super::serves(&*kit, &record).await
}
