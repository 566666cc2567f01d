//! What devices are served, by which rule, and what they make of it.

use artifacts::conveyed::{
    ConfigurationHandling, ConveyedInformation, ID_CT_SZTP_CONVEYED_INFO_JSON,
    ID_CT_SZTP_CONVEYED_INFO_XML, Parsed,
};
use artifacts::{Encoding, Tolerances};
use bootstrap::content::{Facts, Refusal, Work};
use bootstrap::profile::Quirk;
use store::params;
use sztp::message::ReportingLevel;
use testkit::NOW;
use time::Duration;

use crate::content_world::{
    FOLDER, configuration, device, doubting, engine, facts, inside, profile, stage, verdict,
    voucher, voucher_pinning,
};
use crate::harness::Lab;

/// Requirements: SZTP-8572-3.1-02, SZTP-8572-3.1-03, SZTP-8572-6.3-01, SZTP-8572-6.3-02,
/// SZTP-8572-6.3-05, SZTP-8572-6.3-08, SZTP-8572-6.3-12, SZTP-8572-6.3-13, SZTP-8572-6.3-15,
/// SZTP-8572-7.3-05
pub(crate) async fn each_device_gets_what_its_rule_says() {
    let lab = Lab::prepare("").await;
    device(&lab, "S-1", "", "bonn").await;
    device(&lab, "S-2", "", "berlin").await;
    device(&lab, "S-3", "spare", "bonn").await;
    device(&lab, "S-4", "alike", "bonn").await;
    stage(&lab, FOLDER).await;
    let engine = engine(&lab);
    let old = Some("old-7".to_owned());
    let cases = [
        ("S-1", None, Some(("bonn", "bundle access@1"))),
        ("S-1", old.clone(), Some(("moved", "redirect away"))),
        ("S-2", None, None),
        ("S-2", old, Some(("moved", "redirect away"))),
        ("S-3", None, None),
        ("S-4", None, Some(("alike", "bundle shared@1"))),
    ];
    for (serial, hw_model, expected) in cases {
        let facts = Facts {
            hw_model,
            ..facts(&lab, serial).await
        };
        let found = match engine.choose(&facts).await {
            Ok(prepared) => Some((prepared.rule, prepared.target)),
            Err(Refusal::NothingStaged | Refusal::Held) => None,
            Err(other) => panic!("{serial}: {other}"),
        };
        let expected = expected.map(|(rule, target)| (rule.to_owned(), target.to_owned()));
        assert_eq!(found, expected, "{serial} {:?}", facts.hw_model);
    }
    let prepared = engine.choose(&facts(&lab, "S-1").await).await.unwrap();
    let ConveyedInformation::Onboarding(onboarding) = inside(&prepared) else {
        panic!("a redirect");
    };
    let image = onboarding.boot_image.unwrap();
    assert_eq!(image.os_version.as_deref(), Some("2.0"));
    assert_eq!(
        image.download_uris[0],
        "https://images.example.net/os-2.bin"
    );
    assert_eq!(image.download_uris.len(), 2);
    assert_eq!(image.image_verifications.len(), 1);
    assert_eq!(image.image_verifications[0].value[..2], [0xba, 0x78]);
    let handling = onboarding.configuration_handling;
    assert_eq!(handling, Some(ConfigurationHandling::Merge));
    let script = onboarding.pre_configuration_script.unwrap();
    assert_eq!(script, b"#!/bin/sh\n");
    assert_eq!(
        configuration(&prepared),
        "<c xmlns=\"urn:x\"><n>S-1.example.net</n><t>192.0.2.1</t></c>\n"
    );
    let moved = Facts {
        hw_model: Some("old-7".to_owned()),
        ..facts(&lab, "S-1").await
    };
    let prepared = engine.choose(&moved).await.unwrap();
    let ConveyedInformation::Redirect(redirect) = inside(&prepared) else {
        panic!("no redirect");
    };
    let [first, second] = redirect.bootstrap_servers.as_slice() else {
        panic!("{redirect:?}");
    };
    assert_eq!(
        (first.address.as_str(), first.port),
        ("other.example.net", Some(8443))
    );
    let anchor = first.anchor(&Tolerances::strict()).unwrap().unwrap();
    assert_eq!(anchor.chain(), &lab.ca.chain[..1]);
    assert_eq!(
        (second.address.as_str(), second.port),
        ("2001:db8::1", None)
    );
    lab.stop().await;
}

/// Requirements: SZTP-8572-3.1-01, SZTP-8572-3.1-05, SZTP-8572-3.2-02, SZTP-8572-3.2-03,
/// SZTP-8572-3.5-01, SZTP-8572-5.4-02, SZTP-8572-7.3-09, SZTP-8572-4.4-03
pub(crate) async fn what_is_signed_is_accepted_by_a_device_that_trusts_nobody() {
    let lab = Lab::prepare("").await;
    for serial in ["S-1", "S-2"] {
        let id = device(&lab, serial, "", "bonn").await;
        voucher(&lab, id, serial).await;
    }
    stage(&lab, FOLDER).await;
    let engine = engine(&lab);
    for (outer, oid) in [
        (Encoding::Json, ID_CT_SZTP_CONVEYED_INFO_JSON),
        (Encoding::Xml, ID_CT_SZTP_CONVEYED_INFO_XML),
    ] {
        for hw_model in [None, Some("old-1".to_owned())] {
            let facts = Facts {
                outer,
                hw_model,
                ..doubting(&lab, "S-1").await
            };
            let prepared = engine.choose(&facts).await.unwrap();
            let tolerances = Tolerances::strict();
            let der = &prepared.conveyed_information;
            let Parsed::Signed(signed) = artifacts::conveyed::parse(der, &tolerances).unwrap()
            else {
                panic!("not signed");
            };
            assert_eq!(signed.signed_data().content_type(), oid);
            let judgement = verdict(&lab, &prepared, "S-1", false);
            assert!(judgement.result.is_ok(), "{:#?}", judgement.checks);
            // Another device refuses it.
            let judgement = verdict(&lab, &prepared, "S-2", false);
            assert!(judgement.result.is_err());
        }
    }
    // A server that is trusted may sign all the same, and does where the profile says so.
    let always = Facts {
        profile: profile(&[Quirk::AlwaysSigned]),
        ..facts(&lab, "S-1").await
    };
    let prepared = engine.choose(&always).await.unwrap();
    assert!(prepared.owner_certificate.is_some() && prepared.ownership_voucher.is_some());
    assert!(verdict(&lab, &prepared, "S-1", true).result.is_ok());
    lab.stop().await;
}

/// Requirements: SZTP-8572-7.3-02, SZTP-8572-7.3-03, SZTP-8572-4.4-02, SZTP-8572-3.5-01
pub(crate) async fn who_asks_for_signed_data_never_gets_unsigned_onboarding() {
    let lab = Lab::prepare("").await;
    let expired = device(&lab, "S-1", "", "bonn").await;
    let foreign = device(&lab, "S-2", "", "bonn").await;
    device(&lab, "S-3", "", "bonn").await;
    let good = device(&lab, "S-4", "", "bonn").await;
    let pin = lab.ca.chain[0].clone();
    let past = Some(NOW - Duration::MINUTE);
    voucher_pinning(&lab, expired, "S-1", &pin, past, None).await;
    let other = lab.pki.manufacturer_root.chain[0].clone();
    voucher_pinning(&lab, foreign, "S-2", &other, None, None).await;
    voucher(&lab, good, "S-4").await;
    stage(&lab, FOLDER).await;
    let engine = engine(&lab);
    for serial in ["S-1", "S-2", "S-3"] {
        let refusal = engine
            .choose(&doubting(&lab, serial).await)
            .await
            .unwrap_err();
        assert!(
            matches!(refusal, Refusal::NoVoucher(_)),
            "{serial}: {refusal}"
        );
        // Unsigned redirect information is allowed.
        let moved = Facts {
            hw_model: Some("old-1".to_owned()),
            ..doubting(&lab, serial).await
        };
        let prepared = engine.choose(&moved).await.unwrap();
        assert!(prepared.owner_certificate.is_none() && prepared.ownership_voucher.is_none());
        assert!(prepared.redirect);
        // But not to devices that take nothing unsigned.
        let strict = Facts {
            profile: profile(&[Quirk::AlwaysSigned]),
            ..moved
        };
        let refusal = engine.choose(&strict).await.unwrap_err();
        assert!(
            matches!(refusal, Refusal::NoVoucher(_)),
            "{serial}: {refusal}"
        );
    }
    let never = Facts {
        profile: profile(&[Quirk::Unsigned]),
        ..doubting(&lab, "S-4").await
    };
    let refusal = engine.choose(&never).await.unwrap_err();
    assert!(matches!(refusal, Refusal::Unsigned(_)), "{refusal}");
    assert!(engine.choose(&doubting(&lab, "S-4").await).await.is_ok());
    lab.stop().await;
}

/// Requirements: SZTP-8572-7.3-07
pub(crate) async fn the_voucher_for_the_nonce_comes_first_and_ends_in_time() {
    let lab = Lab::prepare("").await;
    let id = device(&lab, "S-1", "", "bonn").await;
    let pin = lab.ca.chain[0].clone();
    let soon = Some(NOW + Duration::MINUTE);
    voucher_pinning(&lab, id, "S-1", &pin, soon, None).await;
    let nonce = vec![7; 16];
    voucher_pinning(&lab, id, "S-1", &pin, None, Some(&nonce)).await;
    stage(&lab, FOLDER).await;
    let engine = engine(&lab);
    let without = engine.choose(&doubting(&lab, "S-1").await).await.unwrap();
    let asking = Facts {
        nonce: Some(nonce),
        ..doubting(&lab, "S-1").await
    };
    let with = engine.choose(&asking).await.unwrap();
    assert_ne!(with.ownership_voucher, without.ownership_voucher);
    assert_eq!(with.conveyed_information, without.conveyed_information);
    assert!(engine.choose(&doubting(&lab, "S-1").await).await.is_ok());
    // What is in memory ends with its voucher.
    lab.hand.advance(std::time::Duration::from_secs(120));
    let refusal = engine
        .choose(&doubting(&lab, "S-1").await)
        .await
        .unwrap_err();
    assert!(matches!(refusal, Refusal::NoVoucher(_)), "{refusal}");
    lab.stop().await;
}

pub(crate) async fn nothing_is_signed_twice_and_nothing_old_is_served() {
    let lab = Lab::prepare("").await;
    for (serial, group) in [("S-1", ""), ("S-2", "alike"), ("S-3", "alike")] {
        let id = device(&lab, serial, group, "bonn").await;
        voucher(&lab, id, serial).await;
    }
    stage(&lab, FOLDER).await;
    let first = engine(&lab);
    let asked = doubting(&lab, "S-1").await;
    let given = first.choose(&asked).await.unwrap();
    for _ in 0..100 {
        let again = first.choose(&asked).await.unwrap();
        assert_eq!(again.conveyed_information, given.conveyed_information);
    }
    assert_eq!(
        first.work(),
        Work {
            remembered: 100,
            found: 0,
            stored: 0,
            built: 1,
            signed: 1
        }
    );
    // Another replica, and one that was started again, find it in the database.
    let second = engine(&lab);
    let again = second.choose(&asked).await.unwrap();
    assert_eq!(again.conveyed_information, given.conveyed_information);
    assert_eq!((second.work().stored, second.work().signed), (1, 0));
    // Devices that differ in nothing that matters share one.
    let a = first.choose(&doubting(&lab, "S-2").await).await.unwrap();
    let b = first.choose(&doubting(&lab, "S-3").await).await.unwrap();
    assert_eq!(a.conveyed_information, b.conveyed_information);
    assert_ne!(a.ownership_voucher, b.ownership_voucher);
    assert_eq!((first.work().signed, first.work().found), (2, 1));
    // A change that nothing of the device depends on makes nothing new.
    lab.change(
        "UPDATE device SET note = $1 WHERE serial = 'S-1'",
        params!["x"],
    )
    .await;
    let same = first.choose(&doubting(&lab, "S-1").await).await.unwrap();
    assert_eq!(same.conveyed_information, given.conveyed_information);
    assert_eq!(first.work().signed, 2);
    // A change of a variable does, for each replica at once.
    lab.change(
        "UPDATE device SET variables = $1 WHERE serial = 'S-1'",
        params!["{\"domain\": \"changed.example\"}"],
    )
    .await;
    for engine in [&first, &second] {
        let changed = engine.choose(&doubting(&lab, "S-1").await).await.unwrap();
        assert!(configuration(&changed).contains("S-1.changed.example"));
    }
    assert_eq!((first.work().signed, second.work().signed), (3, 0));
    // So does a new revision, whoever applied it; and what it leaves alone stays as it was.
    stage(
        &lab,
        &FOLDER.replace("ntp = \"192.0.2.1\"", "ntp = \"192.0.2.2\""),
    )
    .await;
    for engine in [&first, &second] {
        let changed = engine.choose(&doubting(&lab, "S-1").await).await.unwrap();
        assert!(configuration(&changed).contains("192.0.2.2"));
        assert_eq!(changed.revision, 2);
    }
    lab.stop().await;
}

/// Requirements: SZTP-8572-9.6-04, SZTP-8572-B-01, SZTP-8572-7.3-10, SZTP-8572-7.3-11
pub(crate) async fn an_untrusted_connection_is_promoted() {
    let lab = Lab::prepare("").await;
    let id = device(&lab, "S-1", "", "bonn").await;
    voucher(&lab, id, "S-1").await;
    let promoting =
        format!("reporting-level = \"verbose\"\n{FOLDER}\n[promotion]\nredirect = \"away\"\n");
    stage(&lab, &promoting).await;
    let engine = engine(&lab);
    // First a signed redirect to this server itself, with the trust anchor that it needs.
    let prepared = engine.choose(&doubting(&lab, "S-1").await).await.unwrap();
    assert!(prepared.redirect && prepared.ownership_voucher.is_some());
    assert_eq!(prepared.reporting_level, None);
    let judgement = verdict(&lab, &prepared, "S-1", false);
    let Ok(ConveyedInformation::Redirect(redirect)) = judgement.result else {
        panic!("{:?}", judgement.checks);
    };
    assert!(redirect.bootstrap_servers[0].trust_anchor.is_some());
    // Then, over a connection that is trusted, the rest.
    let prepared = engine.choose(&facts(&lab, "S-1").await).await.unwrap();
    assert!(!prepared.redirect && prepared.ownership_voucher.is_none());
    assert_eq!(prepared.reporting_level, Some(ReportingLevel::Verbose));
    lab.stop().await;
}

/// Requirements: SZTP-8572-1.2-01, SZTP-8572-1.2-02, SZTP-8572-3.1-09
pub(crate) async fn a_role_gives_only_its_kind_of_information() {
    for (role, redirect, bundle) in [
        ("redirect", true, false),
        ("onboarding", false, true),
        ("both", true, true),
    ] {
        let lab = Lab::prepare(&format!("role = \"{role}\"")).await;
        device(&lab, "S-1", "", "bonn").await;
        stage(&lab, FOLDER).await;
        let engine = engine(&lab);
        let moved = Facts {
            hw_model: Some("old-1".to_owned()),
            ..facts(&lab, "S-1").await
        };
        let found = engine.choose(&moved).await;
        assert_eq!(found.is_ok(), redirect, "{role}");
        if let Ok(prepared) = found {
            // Devices that trust this server rely on the anchor in what is not signed.
            let judgement = verdict(&lab, &prepared, "S-1", true);
            let Ok(ConveyedInformation::Redirect(information)) = judgement.result else {
                panic!("{:?}", judgement.checks);
            };
            assert!(information.bootstrap_servers[0].trust_anchor.is_some());
        }
        let found = engine.choose(&facts(&lab, "S-1").await).await;
        assert_eq!(found.is_ok(), bundle, "{role}: {found:?}");
        lab.stop().await;
    }
}

/// Quirks, os-version and os-name that the device sends, and whether it is given the image.
type Case = (
    &'static [Quirk],
    Option<&'static str>,
    Option<&'static str>,
    bool,
);

/// Requirements: SZTP-8572-6.3-08
pub(crate) async fn no_device_installs_the_same_image_for_ever() {
    let lab = Lab::prepare("").await;
    device(&lab, "S-1", "", "bonn").await;
    stage(&lab, FOLDER).await;
    let engine = engine(&lab);
    // A device that is told the version decides itself; one that is not would go round in circles.
    let cases: [Case; 6] = [
        (&[], Some("2.0"), None, true),
        (&[Quirk::OmitOsNames], None, None, true),
        (&[Quirk::OmitOsNames], Some("1.0"), None, true),
        (&[Quirk::OmitOsNames], Some("2.0"), None, false),
        (&[Quirk::OmitOsNames], Some("2.0"), Some("os"), false),
        (&[Quirk::OmitOsNames], Some("2.0"), Some("other"), true),
    ];
    for (quirks, os_version, os_name, given) in cases {
        let facts = Facts {
            os_version: os_version.map(str::to_owned),
            os_name: os_name.map(str::to_owned),
            profile: profile(quirks),
            ..facts(&lab, "S-1").await
        };
        let prepared = engine.choose(&facts).await.unwrap();
        let ConveyedInformation::Onboarding(onboarding) = inside(&prepared) else {
            panic!("a redirect");
        };
        let image = onboarding.boot_image;
        assert_eq!(
            image.is_some(),
            given,
            "{quirks:?} {os_version:?} {os_name:?}"
        );
        if let Some(image) = image {
            assert_eq!(image.os_version.is_none(), !quirks.is_empty());
        }
    }
    lab.stop().await;
}

/// Requirements: SZTP-8572-3.1-04, SZTP-8572-3.1-06, SZTP-8572-3.4-01, SZTP-8572-3.4-02, SZTP-8572-3.4-03
pub(crate) async fn what_is_encrypted_is_for_one_device() {
    let lab = Lab::prepare("").await;
    let id = device(&lab, "S-1", "", "bonn").await;
    voucher(&lab, id, "S-1").await;
    let encrypting = FOLDER.replace("site = \"bonn\"", "site = \"bonn\"\nencrypt = \"always\"");
    stage(&lab, &encrypting).await;
    let engine = engine(&lab);
    let refusal = engine
        .choose(&doubting(&lab, "S-1").await)
        .await
        .unwrap_err();
    assert!(matches!(refusal, Refusal::Unusable(_)), "{refusal}");
    let key = pki::SoftwareKey::generate(pki::KeyKind::EcdsaP256).unwrap();
    let certificate = pki::issue::CertificateBuilder::new(
        pki::issue::Profile::Idevid,
        pki::issue::name("serialNumber=S-1,CN=Device").unwrap(),
        pki::Signer::public_key(&key).clone(),
        testkit::serial().unwrap(),
        NOW - Duration::DAY,
        testkit::FOREVER,
    )
    .issue(&lab.ca.chain[0], lab.ca.signer.as_ref())
    .unwrap();
    let asked = Facts {
        identity: Some(certificate.clone()),
        ..doubting(&lab, "S-1").await
    };
    let prepared = engine.choose(&asked).await.unwrap();
    let strict = Tolerances::strict();
    let der = &prepared.conveyed_information;
    let Parsed::Enveloped(enveloped) = artifacts::conveyed::parse(der, &strict).unwrap() else {
        panic!("not encrypted");
    };
    let (artefact, _) = enveloped
        .decrypt(&key, Some(&certificate), &strict)
        .unwrap();
    assert!(matches!(
        artifacts::conveyed::parse(&artefact, &strict).unwrap(),
        Parsed::Signed(_)
    ));
    let again = engine.choose(&asked).await.unwrap();
    assert_eq!(again.conveyed_information, prepared.conveyed_information);
    // The same unsigned, for a device that trusts this server.
    let trusting = Facts {
        signed_data_preferred: false,
        ..asked
    };
    let prepared = engine.choose(&trusting).await.unwrap();
    let der = &prepared.conveyed_information;
    let Parsed::Enveloped(enveloped) = artifacts::conveyed::parse(der, &strict).unwrap() else {
        panic!("not encrypted");
    };
    assert_eq!(enveloped.content_type(), ID_CT_SZTP_CONVEYED_INFO_JSON);
    let (artefact, _) = enveloped
        .decrypt(&key, Some(&certificate), &strict)
        .unwrap();
    assert!(matches!(
        artifacts::conveyed::parse(&artefact, &strict).unwrap(),
        Parsed::Unsigned { .. }
    ));
    lab.stop().await;
}
