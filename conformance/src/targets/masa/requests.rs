//! What a MASA has to check in a request, and what it has to ignore.

use std::sync::Arc;

use serde_json::Value;
use time::Duration;

use super::{Ask, Masa, refused, signed};
use crate::{
    case::Case,
    checks::voucher::pinned,
    evidence::Recorder,
    forge::{
        der,
        voucher::VOUCHER,
        x509::{CLIENT_AUTH, CMC_RA, SERVER_AUTH, name},
    },
    inspect::Envelope,
    outcome::{Finding, OrCouldNotTest as _, Told, must},
};

/// A change to a right request that makes it one to refuse.
struct Bad {
    name: &'static str,
    title: &'static str,
    requirements: &'static [&'static str],
    needs: &'static [&'static str],
    change: fn(Ask, &Masa) -> Result<Ask, Finding>,
}

const BAD: &[Bad] = &[
    Bad {
        name: "rfc8995-5.5.4/no-cmcra",
        title: "a request signed with a certificate without cmcRA is refused",
        requirements: &["BRSKI-5.5.4-01"],
        needs: &[],
        change: |ask, kit| {
            let without = kit.domain.issue(
                &name("", "Registrar", None),
                kit.registrar.key(),
                kit.at,
                |certificate| certificate.purposes(&[SERVER_AUTH, CLIENT_AUTH]),
            );
            Ok(ask.with(|ask| ask.registrar = without))
        },
    },
    Bad {
        name: "rfc8995-5.5.4/no-purposes",
        title: "a request signed with a certificate that names no purposes is refused",
        requirements: &["BRSKI-5.5.4-01"],
        needs: &[],
        change: |ask, kit| {
            let without = kit.domain.issue(
                &name("", "Registrar", None),
                kit.registrar.key(),
                kit.at,
                |certificate| certificate,
            );
            Ok(ask.with(|ask| ask.registrar = without))
        },
    },
    Bad {
        name: "rfc8995-5.5.4/signed-by-device",
        title: "a request that the device signed in the registrar's place is refused",
        requirements: &["BRSKI-5.5.4-01"],
        needs: &[],
        change: |ask, _| {
            let device = ask.device.clone();
            Ok(ask.with(|ask| ask.registrar = device))
        },
    },
    Bad {
        name: "rfc8995-5.5.3/expired-registrar",
        title: "a request signed with a certificate that has expired is refused",
        requirements: &["BRSKI-5.5.3-01"],
        needs: &[],
        change: |ask, kit| {
            let expired = kit.domain.issue(
                &name("", "Registrar", None),
                kit.registrar.key(),
                kit.at,
                |certificate| {
                    certificate.purposes(&[CMC_RA]).with(|it| {
                        it.not_before = kit.at - Duration::days(3);
                        it.not_after = kit.at - Duration::days(2);
                    })
                },
            );
            Ok(ask.with(|ask| ask.registrar = expired))
        },
    },
    Bad {
        name: "rfc8995-5.5.6/inner-nonce-differs",
        title: "a request whose nonce is not the pledge's is refused",
        requirements: &["BRSKI-5.5.6-01"],
        needs: &["pledge-identity"],
        change: |ask, _| Ok(ask.outer(|leaves| leaves.binary("nonce", b"another nonce!!!"))),
    },
    Bad {
        name: "rfc8995-5.5.6/inner-nonce-only",
        title: "a request without a nonce around a pledge's request that has one is refused",
        requirements: &["BRSKI-5.5.4-02", "BRSKI-5.5.6-01"],
        needs: &["pledge-identity"],
        change: |ask, kit| {
            let other = kit.other_registrar.clone();
            Ok(ask
                .outer(|leaves| leaves.unset("nonce"))
                .with(|ask| ask.registrar = other))
        },
    },
    Bad {
        name: "rfc8995-5.5.5/serial-differs",
        title: "a request for another serial number than the pledge's is refused",
        requirements: &["BRSKI-5.5.5-03"],
        needs: &["pledge-identity"],
        change: |ask, _| {
            let other = super::serial("PROXIMITY");
            Ok(ask.outer(|leaves| leaves.set("serial-number", other)))
        },
    },
    Bad {
        name: "rfc8995-5.5.5/inner-serial-differs",
        title: "a pledge's request for another serial number than its certificate's is refused",
        requirements: &["BRSKI-5.5.5-03", "BRSKI-5.5.5-01"],
        needs: &["pledge-identity"],
        change: |ask, _| {
            let other = super::serial("PROXIMITY");
            let same = other.clone();
            Ok(ask
                .outer(|leaves| leaves.set("serial-number", other))
                .inner(|leaves| leaves.set("serial-number", same)))
        },
    },
    Bad {
        name: "rfc8995-5.5.5/foreign-device",
        title: "a pledge's request signed by a device that somebody else made is refused",
        requirements: &["BRSKI-5.5.5-01"],
        needs: &["pledge-identity"],
        change: |ask, kit| {
            let serial = ask.serial.clone();
            let foreign = kit.other_domain.device(
                "Conformance Manufacturer",
                &serial,
                None,
                ask.device.key(),
                kit.at,
            );
            Ok(ask.with(|ask| ask.inner_signer = foreign))
        },
    },
    Bad {
        name: "rfc8995-5.5.5/inner-signed-by-registrar",
        title: "a pledge's request that the registrar signed is refused",
        requirements: &["BRSKI-5.5.5-01"],
        needs: &["pledge-identity"],
        change: |ask, _| {
            let registrar = ask.registrar.clone();
            Ok(ask.with(|ask| ask.inner_signer = registrar))
        },
    },
    Bad {
        name: "rfc8995-5.5.5/clone",
        title: "a pledge's request signed by a self-made copy of the device is refused",
        requirements: &["BRSKI-5.5.5-01"],
        needs: &["pledge-identity"],
        change: |ask, kit| {
            let subject = name("Conformance Manufacturer", "Device", Some(&ask.serial));
            let key = crate::forge::key::Key::generate().or_could_not_test("a key")?;
            let certificate = crate::forge::x509::Certificate::new(
                &kit.manufacturer.name,
                &subject,
                key.spki(),
                kit.at,
            )
            .end_entity(&key.key_id())
            .issued_by(&kit.manufacturer.key_id())
            .sign(&key);
            Ok(ask.with(|ask| {
                ask.inner_signer = crate::forge::x509::Identity {
                    signatory: crate::forge::cms::Signatory { certificate, key },
                    above: Vec::new(),
                };
            }))
        },
    },
    Bad {
        name: "rfc8995-3/request-member",
        title: "a request under the top-level member of a voucher is refused",
        requirements: &["BRSKI-3-03"],
        needs: &[],
        change: |ask, _| Ok(ask.outer(|leaves| leaves.under(VOUCHER))),
    },
    Bad {
        name: "rfc8995-3/inner-member",
        title: "a pledge's request under the top-level member of a voucher is refused",
        requirements: &["BRSKI-3-03"],
        needs: &["pledge-identity"],
        change: |ask, _| Ok(ask.inner(|leaves| leaves.under(VOUCHER))),
    },
    Bad {
        name: "rfc8366-5.3/nonce-7",
        title: "a nonce of 7 octets is refused",
        requirements: &["VOUCHER-5.3-22"],
        needs: &[],
        change: |ask, _| {
            Ok(ask
                .outer(|leaves| leaves.binary("nonce", b"7octets"))
                .inner(|leaves| leaves.binary("nonce", b"7octets")))
        },
    },
    Bad {
        name: "rfc8366-5.3/nonce-33",
        title: "a nonce of 33 octets is refused",
        requirements: &["VOUCHER-5.3-22"],
        needs: &[],
        change: |ask, _| {
            Ok(ask
                .outer(|leaves| leaves.binary("nonce", &[0x41; 33]))
                .inner(|leaves| leaves.binary("nonce", &[0x41; 33])))
        },
    },
    Bad {
        name: "rfc8366-5.3/serial-number-type",
        title: "a serial number that is no string is refused",
        requirements: &["VOUCHER-5.3-03"],
        needs: &[],
        change: |ask, _| Ok(ask.outer(|leaves| leaves.set("serial-number", 12345))),
    },
    Bad {
        name: "rfc8366-6.2/serial-number-pattern",
        title: "a pattern for a serial number is taken literally, and so refused",
        requirements: &["VOUCHER-6.2-01"],
        needs: &[],
        change: |ask, _| Ok(ask.outer(|leaves| leaves.set("serial-number", "CONF-MASA-*"))),
    },
    Bad {
        name: "rfc8995-5.6/stale",
        title: "a request that is dated a year ago is refused",
        requirements: &["BRSKI-5.6-15"],
        needs: &[],
        change: |ask, kit| {
            let long_ago = crate::clock::text(kit.at - Duration::days(365));
            Ok(ask.outer(|leaves| leaves.set("created-on", long_ago)))
        },
    },
];

pub(super) fn cases() -> Vec<Case> {
    let mut cases: Vec<Case> = BAD
        .iter()
        .flat_map(|bad| [(bad, Envelope::Cms, "cms"), (bad, Envelope::Jws, "jws")])
        .map(|(bad, envelope, feature)| {
            Case::new(
                format!("masa/{}-{feature}", bad.name),
                bad.title,
                bad.requirements,
                move |kit: Arc<Masa>, record: Recorder| async move {
                    let ask = kit.ask(&record, envelope, "FORM")?;
                    let ask = (bad.change)(ask, &kit)?;
                    let answer = kit.post(&record, envelope, ask.encode()).await?;
                    refused(&answer, "it")
                },
            )
            .tags(&["hostile"])
            .needs(bad.needs)
            .needs(&[feature])
        })
        .collect();
    cases.extend([
        Case::new("masa/rfc8995-5.5.5/other-registrar-named", "a pledge's request that names another registrar proves no proximity", &["BRSKI-5.5.5-02"], other_registrar).tags(&["hostile"]).needs(&["cms", "pledge-identity"]),
        Case::new("masa/rfc8995-5.5.5/inner-changed", "a pledge's request that was changed proves no proximity", &["BRSKI-5.5.5-01"], inner_changed).tags(&["hostile"]).needs(&["cms", "pledge-identity"]),
        Case::new("masa/rfc8995-5.5.5/no-prior", "without the pledge's own request no proximity is asserted, whatever the registrar says", &["BRSKI-5.5.5-05", "BRSKI-3.4-04", "VOUCHERBIS-9.2-02"], no_prior).tags(&["hostile"]).needs(&["cms"]),
        Case::new("masa/rfc8995-5.5/own-proximity", "proximity-registrar-cert in the registrar's request is no evidence", &["BRSKI-5.5-15"], own_proximity).tags(&["hostile"]).needs(&["cms"]),
        Case::new("masa/rfc8995-3.4/pin-ignored", "pinned-domain-cert in a request is ignored", &["BRSKI-3.4-01"], pin_ignored).tags(&["hostile"]).needs(&["cms"]),
        Case::new("masa/rfc8995-3.4/renewal-date-ignored", "last-renewal-date in a request is ignored", &["BRSKI-3.4-02", "VOUCHERBIS-9.2-01"], |kit: Arc<Masa>, record: Recorder| async move {
            leaf_ignored(kit, record, "last-renewal-date", "2020-01-01T00:00:00Z".into()).await
        }).needs(&["cms"]),
        Case::new("masa/rfc8995-3.4/revocation-checks-ignored", "domain-cert-revocation-checks in a request is ignored", &["BRSKI-3.4-03", "VOUCHERBIS-9.2-01"], |kit: Arc<Masa>, record: Recorder| async move {
            leaf_ignored(kit, record, "domain-cert-revocation-checks", true.into()).await
        }).needs(&["cms"]),
        Case::new("masa/rfc8995-5.5.2/stranger-in-bag", "a certificate that has nothing to do with the registrar is not pinned for being in the message", &["BRSKI-5.5.2-03"], stranger_in_bag).tags(&["hostile"]).needs(&["cms"]),
        Case::new("masa/rfc8366-5.3/nonce-8", "a nonce of 8 octets is accepted", &["VOUCHER-5.3-22"], |kit, record| nonce_of(kit, record, 8)).needs(&["cms"]),
        Case::new("masa/rfc8366-5.3/nonce-32", "a nonce of 32 octets is accepted", &["VOUCHER-5.3-22"], |kit, record| nonce_of(kit, record, 32)).needs(&["cms"]),
        Case::new("masa/rfc5652-5.3/key-id", "a signer who is named by key identifier is accepted", &["CMS-5.3-01"], key_id).needs(&["cms"]),
        Case::new("masa/rfc8995-5.5.4/nonceless-anonymous", "a request without a nonce from somebody unknown is refused", &["BRSKI-5.5.4-02", "BRSKI-7.4.1-01"], nonceless_anonymous).tags(&["hostile", "nonce"]).needs(&["cms"]),
        Case::new("masa/rfc8995-5.6/nonceless", "a voucher without a nonce has an end, and that is not after its pin's", &["BRSKI-5.6-25", "VOUCHER-5.3-05", "VOUCHER-5.3-10", "BRSKI-7.4.1-02"], nonceless).tags(&["nonce"]).needs(&["cms", "nonceless"]),
        Case::new("masa/rfc8995-5.6/nonceless-short", "a voucher without a nonce ends before the registrar's certificate does", &["BRSKI-5.6-26"], nonceless_short).tags(&["nonce"]).needs(&["cms", "nonceless"]),
        Case::new("masa/rfc8995-5.6/second-domain", "a device that one domain has is not given to another", &["BRSKI-5.6-15"], second_domain).tags(&["hostile"]).needs(&["cms", "unknown-registrars"]),
    ]);
    cases
}

/// Either a refusal, or a voucher that does not assert proximity.
async fn not_proximity(kit: &Masa, record: &Recorder, body: Vec<u8>) -> Told {
    let answer = kit.post(record, Envelope::Cms, body).await?;
    if answer.is_refusal() {
        return Ok(());
    }
    must(
        answer.status == 200,
        format!("it was answered {}", answer.status),
    )?;
    let voucher = crate::inspect::open_with(&answer.body, &kit.trusted())?;
    let assertion = voucher.leaves(VOUCHER)?.get("assertion").cloned();
    must(
        assertion != Some(Value::from("proximity")),
        "the voucher asserts proximity",
    )
}

async fn other_registrar(kit: Arc<Masa>, record: Recorder) -> Told {
    let ask = kit.ask(&record, Envelope::Cms, "PRIOR")?;
    let other = kit.other_registrar.certificate().to_vec();
    let ask = ask.inner(|leaves| leaves.binary("proximity-registrar-cert", &other));
    not_proximity(&kit, &record, ask.encode()).await
}

async fn inner_changed(kit: Arc<Masa>, record: Recorder) -> Told {
    let ask = kit.ask(&record, Envelope::Cms, "PRIOR")?;
    let mut prior = ask.prior();
    if let Some(last) = prior.last_mut() {
        *last ^= 1;
    }
    let leaves = ask.leaves().binary("prior-signed-voucher-request", &prior);
    let body = signed(Envelope::Cms, &leaves.encode(), &kit.registrar, kit.at);
    not_proximity(&kit, &record, body).await
}

async fn no_prior(kit: Arc<Masa>, record: Recorder) -> Told {
    for assertion in ["proximity", "verified"] {
        let ask = kit
            .ask(&record, Envelope::Cms, "NO-PRIOR")?
            .outer(|leaves| leaves.set("assertion", assertion))
            .with(|ask| ask.with_prior = false);
        not_proximity(&kit, &record, ask.encode()).await?;
    }
    Ok(())
}

async fn own_proximity(kit: Arc<Masa>, record: Recorder) -> Told {
    let own = kit.registrar.certificate().to_vec();
    let ask = kit
        .ask(&record, Envelope::Cms, "NO-PRIOR")?
        .outer(|leaves| leaves.binary("proximity-registrar-cert", &own))
        .with(|ask| ask.with_prior = false);
    not_proximity(&kit, &record, ask.encode()).await
}

async fn pin_ignored(kit: Arc<Masa>, record: Recorder) -> Told {
    let bogus = kit.other_domain.certificate().to_vec();
    let ask = kit
        .ask(&record, Envelope::Cms, "IGNORED")?
        .outer(|leaves| leaves.binary("pinned-domain-cert", &bogus));
    let issued = kit.voucher(&record, &ask).await?;
    must(
        pinned(&issued.signed)?.der() != bogus,
        "the voucher pins what the request asked for",
    )
}

async fn leaf_ignored(kit: Arc<Masa>, record: Recorder, name: &str, value: Value) -> Told {
    let ask = kit
        .ask(&record, Envelope::Cms, "IGNORED")?
        .outer(|leaves| leaves.set(name, value.clone()));
    let issued = kit.voucher(&record, &ask).await?;
    must(
        issued.signed.leaves(VOUCHER)?.get(name) != Some(&value),
        format!("the voucher has {name} as the request had it"),
    )
}

async fn stranger_in_bag(kit: Arc<Masa>, record: Recorder) -> Told {
    let ask = kit.ask(&record, Envelope::Cms, "BAG")?;
    let stranger = kit.other_domain.certificate().to_vec();
    let body = ask
        .cms()
        .with(|cms| cms.certificates.push(stranger.clone()))
        .encode();
    let answer = kit.post(&record, Envelope::Cms, body).await?;
    if answer.is_refusal() {
        return Ok(());
    }
    must(
        answer.status == 200,
        format!("it was answered {}", answer.status),
    )?;
    let voucher = crate::inspect::open_with(&answer.body, &kit.trusted())?;
    must(
        pinned(&voucher)?.der() != stranger,
        "the certificate of a stranger is pinned",
    )
}

async fn nonce_of(kit: Arc<Masa>, record: Recorder, length: usize) -> Told {
    let device = kit.device("NONCE")?;
    let mut nonce = rand::random::<[u8; 32]>().to_vec();
    nonce.truncate(length);
    let ask = kit.ask_with(Envelope::Cms, device, &super::serial("NONCE"), Some(nonce));
    kit.voucher(&record, &ask).await.map(|_| ())
}

async fn key_id(kit: Arc<Masa>, record: Recorder) -> Told {
    let ask = kit.ask(&record, Envelope::Cms, "KEYID")?;
    let body = ask
        .cms()
        .with(|cms| cms.signer_id = crate::forge::cms::SignerId::KeyId)
        .encode();
    let answer = kit.post(&record, Envelope::Cms, body).await?;
    must(
        answer.status == 200,
        format!("it was answered {}: {}", answer.status, answer.text()),
    )
}

async fn nonceless_anonymous(kit: Arc<Masa>, record: Recorder) -> Told {
    let name = "NONCELESS-ANONYMOUS";
    let device = kit.device(name)?;
    let stranger = kit.other_registrar.clone();
    let ask = kit
        .ask_with(Envelope::Cms, device, &super::serial(name), None)
        .with(|ask| ask.registrar = stranger.clone());
    let request = kit.request("requestvoucher", Envelope::Cms, ask.encode());
    let mut anonymous = kit.client.clone();
    anonymous.identity = None;
    let answer = anonymous.send(&record, request.clone()).await?;
    refused(
        &answer,
        "a request without a nonce and without a client certificate",
    )?;
    let answer = kit
        .client
        .with_identity(&stranger)
        .send(&record, request)
        .await?;
    refused(&answer, "a request without a nonce from an unknown domain")
}

async fn nonceless(kit: Arc<Masa>, record: Recorder) -> Told {
    let device = kit.device("NONCELESS")?;
    let ask = kit.ask_with(Envelope::Cms, device, &super::serial("NONCELESS"), None);
    let issued = kit.voucher(&record, &ask).await?;
    let leaves = issued.signed.leaves(VOUCHER)?;
    must(!leaves.contains_key("nonce"), "the voucher has a nonce")?;
    must(
        leaves.contains_key("expires-on"),
        "the voucher has no expires-on",
    )?;
    for check in crate::checks::voucher::CHECKS {
        if check.name == "expiry-within-pin" {
            (check.check)(&issued.signed)?;
        }
    }
    Ok(())
}

async fn nonceless_short(kit: Arc<Masa>, record: Recorder) -> Told {
    let end = kit.at + Duration::minutes(5);
    let short = kit.domain.issue(
        &name("", "Registrar", None),
        kit.registrar.key(),
        kit.at,
        |certificate| {
            certificate
                .purposes(&[SERVER_AUTH, CLIENT_AUTH, CMC_RA])
                .with(|it| it.not_after = end)
        },
    );
    let device = kit.device("SHORT")?;
    let ask = kit
        .ask_with(Envelope::Cms, device, &super::serial("SHORT"), None)
        .with(|ask| ask.registrar = short.clone());
    let request = kit.request("requestvoucher", Envelope::Cms, ask.encode());
    let answer = kit
        .client
        .with_identity(&short)
        .send(&record, request)
        .await?;
    must(
        answer.status == 200,
        format!("it was answered {}: {}", answer.status, answer.text()),
    )?;
    let voucher = crate::inspect::open_with(&answer.body, &kit.trusted())?;
    let expires = voucher
        .leaves(VOUCHER)?
        .get("expires-on")
        .and_then(Value::as_str)
        .ok_or_else(|| Finding::fail("there is no expires-on"))?;
    let expires =
        time::OffsetDateTime::parse(expires, &time::format_description::well_known::Rfc3339)
            .map_err(|error| Finding::fail(format!("expires-on: {error}")))?;
    must(
        expires <= end,
        format!("it expires on {expires}, the registrar's certificate on {end}"),
    )
}

async fn second_domain(kit: Arc<Masa>, record: Recorder) -> Told {
    let ask = kit.ask(&record, Envelope::Cms, "REPEAT")?;
    kit.voucher(&record, &ask).await?;
    let other = kit.other_registrar.clone();
    let certificate = other.certificate().to_vec();
    let ask = kit
        .ask(&record, Envelope::Cms, "REPEAT")?
        .inner(|leaves| leaves.binary("proximity-registrar-cert", &certificate))
        .with(|ask| ask.registrar = other.clone());
    let request = kit.request("requestvoucher", Envelope::Cms, ask.encode());
    let answer = kit
        .client
        .with_identity(&other)
        .send(&record, request)
        .await?;
    refused(&answer, "the request of a second domain")
}

/// DER that is only a number, for bodies that are no message at all.
pub(super) fn just_a_number() -> Vec<u8> {
    der::int(7)
}
