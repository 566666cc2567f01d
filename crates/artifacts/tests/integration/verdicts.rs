//! Each thing that can be wrong with a signed artefact has its own code.

use artifacts::verify::{
    CheckResult, ExpectedNonce, PledgeRequestContext, ProximityTarget, RegistrarRequestContext,
    Trust, VoucherContext, verify_pledge_request, verify_registrar_request, verify_voucher,
};
use artifacts::{
    Assertion, Envelope, IdevidIssuer, Nonce, RequestFields, SerialNumber, Tolerances, Voucher,
    VoucherFields, VoucherRequest, sign_request_with, sign_voucher,
};
use pki::path::Anchors;
use pki::{Certificate, Coded, SignOptions};
use time::{Duration, OffsetDateTime};

use crate::common::{AT_8995, NONCE, World, certificate, file, identity, opened, request, serial};

const STRICT: fn() -> Tolerances = Tolerances::strict;

fn voucher_code(bytes: &[u8], context: &VoucherContext<'_>) -> &'static str {
    let judged = verify_voucher(&opened(bytes, &STRICT()), context, &STRICT());
    judged.result().map_or_else(Coded::code, |_| "valid")
}

/// Requirements: BRSKI-5.6.1-01, BRSKI-5.6.1-02, BRSKI-5.6.1-03, VOUCHER-5.3-08, VOUCHER-5.3-09, VOUCHER-5.3-11, VOUCHER-5.3-13, VOUCHER-5.3-14, VOUCHER-5.3-15, VOUCHER-5.3-23, VOUCHER-5.3-24, VOUCHER-6.2-01, JWS-5-01
#[test]
fn a_voucher_is_judged_leaf_by_leaf() {
    type Change = fn(&mut VoucherFields);
    let world = World::new();
    let soon = AT_8995 + Duration::minutes(20);
    let cases: [(&str, Change); 16] = [
        ("valid", |_| ()),
        ("voucher.serial-mismatch", |f| {
            f.serial_number = SerialNumber::new("*").unwrap()
        }),
        ("voucher.serial-mismatch", |f| {
            f.serial_number = SerialNumber::new("other").unwrap()
        }),
        ("voucher.serial-mismatch", |f| {
            f.serial_number = SerialNumber::new("00-d0-e5-f2-00-02").unwrap();
        }),
        ("voucher.serial-mismatch", |f| {
            f.serial_number = SerialNumber::new("00-D0-E5-F2-00-02 ").unwrap();
        }),
        ("voucher.nonce-mismatch", |f| {
            f.nonce = Nonce::from_text("AQECAwQFBgcICQoLDA0ODw==")
        }),
        // The same octets in another spelling is another text.
        ("voucher.nonce-mismatch", |f| {
            f.nonce = Nonce::from_text("AAECAwQFBgcICQoLDA0ODw")
        }),
        ("voucher.nonce-missing", |f| f.nonce = None),
        ("voucher.nonce-missing", |f| {
            f.nonce = None;
            f.expires_on = Some(AT_8995 - Duration::seconds(1));
        }),
        ("voucher.assertion-refused", |f| {
            f.assertion = Some(Assertion::Logged)
        }),
        ("voucher.idevid-issuer-mismatch", |f| {
            f.idevid_issuer = IdevidIssuer::from_bytes(&[
                4, 22, 0x30, 20, 0x80, 18, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16,
                17, 18,
            ])
        }),
        ("valid", |f| f.last_renewal_date = None),
        ("valid", |f| {
            f.est_domain = Some("https://est.example/.well-known/est".to_owned())
        }),
        ("valid", |f| f.domain_cert_revocation_checks = Some(false)),
        ("voucher.revocation-unknown", |f| {
            f.domain_cert_revocation_checks = Some(true)
        }),
        ("voucher.pin-mismatch", |f| {
            f.pinned_domain_cert = Some(certificate("rfc8995/vendor.crt"))
        }),
    ];
    let serial = serial();
    let nonce = Nonce::from_text(NONCE).unwrap();
    let context = VoucherContext {
        serial_number: Some(&serial),
        idevid: Some(world.idevid()),
        nonce: ExpectedNonce::Exactly(&nonce),
        accepted_assertions: Some(&[Assertion::Verified, Assertion::Proximity]),
        registrar_chain: Some(&world.registrar.chain[..1]),
        ..VoucherContext::new(world.vendor_trust())
    };
    for (want, change) in cases {
        let mut fields = world.voucher_fields();
        change(&mut fields);
        for envelope in Envelope::ALL {
            let respelt = fields.nonce == Nonce::from_text("AAECAwQFBgcICQoLDA0ODw");
            if respelt && envelope == Envelope::Cose {
                // CBOR carries the octets, which have one spelling.
                continue;
            }
            let bytes = world.voucher(envelope, fields.clone());
            assert_eq!(voucher_code(&bytes, &context), want, "{fields:?}");
        }
    }
    // The right idevid-issuer, and vouchers without a nonce.
    let mut fields = world.voucher_fields();
    fields.idevid_issuer = Some(IdevidIssuer::of(world.idevid()));
    assert_eq!(
        voucher_code(&world.voucher(Envelope::Cms, fields.clone()), &context),
        "valid"
    );
    fields.nonce = None;
    fields.expires_on = Some(soon);
    fields.last_renewal_date = Some(AT_8995 - Duration::days(1));
    let bytes = world.voucher(Envelope::Cms, fields);
    let nonceless = VoucherContext {
        nonce: ExpectedNonce::ExactlyOrNonceless(&nonce),
        ..context.clone()
    };
    assert_eq!(voucher_code(&bytes, &nonceless), "valid");
    let at = |now: Option<OffsetDateTime>| {
        let trust = Trust {
            now,
            ..world.vendor_trust()
        };
        voucher_code(
            &bytes,
            &VoucherContext {
                trust,
                ..nonceless.clone()
            },
        )
    };
    assert_eq!(at(Some(soon)), "valid");
    assert_eq!(at(Some(soon + Duration::seconds(1))), "voucher.expired");
    assert_eq!(at(None), "voucher.clock-needed");
    let trust = Trust {
        now: None,
        ..world.vendor_trust()
    };
    let without = VoucherContext {
        trust,
        expires_on_without_clock: true,
        ..nonceless.clone()
    };
    assert_eq!(voucher_code(&bytes, &without), "valid");
}

/// Requirements: BRSKI-5.6.1-01, VOUCHER-5.4-06, JWS-3.2-05, BRSKI-3-03
#[test]
fn a_voucher_needs_the_right_signer() {
    let world = World::new();
    let context = VoucherContext::new(world.vendor_trust());
    let voucher = Voucher::new(world.voucher_fields()).unwrap();
    let by = |identity| sign_voucher(&voucher, Envelope::Cms, identity, AT_8995).unwrap();
    // A chain with its own root inside is not trusted for that, be it in a CMS or in x5c.
    for envelope in Envelope::ALL {
        let bytes = sign_voucher(&voucher, envelope, &world.registrar, AT_8995).unwrap();
        assert_eq!(voucher_code(&bytes, &context), "path.unknown-issuer");
    }
    // A device's certificate is under the same CA as the MASA's.
    assert_eq!(
        voucher_code(&by(&world.pledge), &context),
        "voucher.signer-mismatch"
    );
    let under_owner = VoucherContext::new(world.owner_trust());
    assert_eq!(
        voucher_code(&by(&world.registrar), &under_owner),
        "voucher.signer-mismatch"
    );
    // The MASA's own certificate as anchor, with no other certificate at hand.
    let anchors = Anchors::from(world.masa.chain[0].clone());
    let pinned = VoucherContext::new(Trust::new(&anchors, Some(AT_8995)));
    assert_eq!(voucher_code(&by(&world.masa), &pinned), "valid");
    // A request is no voucher, whoever signed it.
    let disguised = request(Envelope::Cms, world.pledge_fields(), &world.masa);
    assert_eq!(voucher_code(&disguised, &context), "voucher.top-level-name");
    let bytes = by(&world.masa);
    let judged = verify_pledge_request(
        &opened(&bytes, &STRICT()),
        &PledgeRequestContext::new(world.vendor_trust()),
        &STRICT(),
    );
    assert_eq!(
        judged.result().unwrap_err().code(),
        "request.top-level-name"
    );
}

/// Requirements: BRSKI-5.6.2-01, BRSKI-5.6.2-02, VOUCHER-5.3-17, VOUCHER-5.3-18, VOUCHERBIS-8-01, VOUCHERBIS-8-02, VOUCHERBIS-8-03
#[test]
fn the_registrar_must_lead_to_the_pin() {
    type Change = fn(&World, &mut VoucherFields);
    let world = World::new();
    let [jrc, ca] = world.registrar.chain.as_slice() else {
        panic!("two certificates")
    };
    let foreign = certificate("rfc8995/masa.crt");
    let ee: Change = |w, f| f.pinned_domain_cert = Some(w.registrar.chain[0].clone());
    let key: Change = |w, f| {
        f.pinned_domain_cert = None;
        f.pinned_domain_pubk = Some(w.registrar.chain[0].public_key().clone());
    };
    let hash: Change = |w, f| {
        f.pinned_domain_cert = None;
        f.pinned_domain_pubk_sha256 = Some(w.registrar.chain[0].public_key().sha256());
    };
    let conflict: Change = |_, f| f.pinned_domain_pubk_sha256 = Some([7; 32]);
    let none: Change = |_, _| ();
    let (valid, mismatch) = ("valid", "voucher.pin-mismatch");
    for (change, chain, want) in [
        (none, vec![jrc.clone()], valid),
        (none, vec![jrc.clone(), ca.clone()], valid),
        (none, vec![foreign.clone()], mismatch),
        (
            none,
            vec![foreign.clone(), jrc.clone(), ca.clone()],
            mismatch,
        ),
        (none, vec![], mismatch),
        (ee, vec![jrc.clone()], valid),
        (ee, vec![foreign.clone(), jrc.clone()], mismatch),
        (ee, vec![ca.clone()], mismatch),
        (key, vec![jrc.clone()], valid),
        (key, vec![foreign.clone(), jrc.clone()], mismatch),
        (hash, vec![jrc.clone(), ca.clone()], valid),
        (hash, vec![foreign.clone()], mismatch),
        // Two pins that do not agree: without a request the hash comes first.
        (conflict, vec![jrc.clone()], mismatch),
    ] {
        let mut fields = world.voucher_fields();
        change(&world, &mut fields);
        let bytes = world.voucher(Envelope::Cms, fields);
        let context = VoucherContext {
            registrar_chain: Some(&chain),
            ..VoucherContext::new(world.vendor_trust())
        };
        assert_eq!(voucher_code(&bytes, &context), want);
    }
    // With a request the form that it used counts.
    let mut fields = world.voucher_fields();
    conflict(&world, &mut fields);
    let bytes = world.voucher(Envelope::Cms, fields);
    let sent = VoucherRequest::new(world.pledge_fields()).unwrap();
    let chain = [jrc.clone()];
    let context = VoucherContext {
        registrar_chain: Some(&chain),
        request: Some(&sent),
        ..VoucherContext::new(world.vendor_trust())
    };
    assert_eq!(voucher_code(&bytes, &context), valid);
    // The domain that the caller expects.
    let bytes = world.voucher(Envelope::Cms, world.voucher_fields());
    for (domain, want) in [
        (jrc, valid),
        (ca, valid),
        (&foreign, "voucher.domain-mismatch"),
    ] {
        let context = VoucherContext {
            domain: Some(domain),
            ..VoucherContext::new(world.vendor_trust())
        };
        assert_eq!(voucher_code(&bytes, &context), want);
    }
}

#[test]
fn what_is_not_known_is_not_passed() {
    let world = World::new();
    let bytes = world.voucher(Envelope::Jws, world.voucher_fields());
    let context = VoucherContext::new(world.vendor_trust());
    let judged = verify_voucher(&opened(&bytes, &STRICT()), &context, &STRICT());
    let made: Vec<_> = judged
        .checks()
        .iter()
        .filter(|check| check.result == CheckResult::Passed)
        .map(|check| check.name)
        .collect();
    assert_eq!(made, ["signature", "trust", "content"]);
    assert_eq!(
        judged.complete(&["assertion"]).unwrap_err(),
        "serial-number"
    );
}

/// Requirements: BRSKI-5.2-08, BRSKI-5.2-11, BRSKI-5.2-12, BRSKI-5.2-14, BRSKI-5.5-10, BRSKI-5.2-07, BRSKI-5.2-16
#[test]
fn a_pledges_request_is_judged() {
    type Change = fn(&mut RequestFields);
    let world = World::new();
    let cases: [(&str, Change); 9] = [
        ("valid", |_| ()),
        ("valid", |f| f.created_on = Some(AT_8995)),
        ("request.nonce-missing", |f| f.nonce = None),
        ("request.serial-mismatch", |f| {
            f.serial_number = SerialNumber::new("other").unwrap()
        }),
        ("request.assertion-not-proximity", |f| f.assertion = None),
        ("request.assertion-not-proximity", |f| {
            f.assertion = Some(Assertion::Logged)
        }),
        ("request.proximity-missing", |f| {
            f.proximity_registrar_cert = None
        }),
        ("request.proximity-mismatch", |f| {
            f.proximity_registrar_cert = Some(certificate("rfc8995/ownerca_secp384r1.crt"));
        }),
        ("request.idevid-issuer-mismatch", |f| {
            f.idevid_issuer = Some(IdevidIssuer::of(&certificate("jws-voucher/8.1-pvr-1.crt")));
        }),
    ];
    let context = PledgeRequestContext {
        peer: Some(world.idevid()),
        proximity: ProximityTarget::ServerCertificate(&world.registrar.chain[..1]),
        ..PledgeRequestContext::new(world.vendor_trust())
    };
    let code = |bytes: &[u8], context: &PledgeRequestContext<'_>| {
        let judged = verify_pledge_request(&opened(bytes, &STRICT()), context, &STRICT());
        judged.result().map_or_else(Coded::code, |_| "valid")
    };
    for (want, change) in cases {
        let mut fields = world.pledge_fields();
        change(&mut fields);
        for envelope in Envelope::ALL {
            let bytes = world.pledge_request(envelope, fields.clone());
            assert_eq!(code(&bytes, &context), want, "{fields:?}");
        }
    }
    // Another device's TLS connection.
    let bytes = world.pledge_request(Envelope::Cms, world.pledge_fields());
    let other = certificate("jws-voucher/8.1-pvr-1.crt");
    let context = PledgeRequestContext {
        peer: Some(&other),
        ..context
    };
    assert_eq!(code(&bytes, &context), "request.signer-mismatch");
    // A device of another manufacturer.
    let context = PledgeRequestContext::new(world.owner_trust());
    assert_eq!(code(&bytes, &context), "path.unknown-issuer");
}

fn registrar_code(bytes: &[u8], context: &RegistrarRequestContext<'_>) -> &'static str {
    let judged = verify_registrar_request(&opened(bytes, &STRICT()), context, &STRICT());
    match judged.result() {
        Ok(verified) if verified.proximity_proven => "proximity",
        Ok(_) => "valid",
        Err(error) => error.code(),
    }
}

/// Requirements: BRSKI-5.5-14, BRSKI-5.5-15, BRSKI-5.5.4-01, BRSKI-5.5.5-01, BRSKI-5.5.5-02, BRSKI-5.5.5-03, BRSKI-5.5.5-05, BRSKI-5.5.6-01, BRSKI-3.4-04, VOUCHERBIS-6.1-01, VOUCHERBIS-9.2-02
#[test]
fn a_registrars_request_is_judged() {
    type Change = fn(&World, &mut RequestFields);
    let world = World::new();
    fn prior(world: &World, change: fn(&mut RequestFields)) -> Option<Vec<u8>> {
        let mut fields = world.pledge_fields();
        change(&mut fields);
        Some(world.pledge_request(Envelope::Cms, fields))
    }
    let cases: [(&str, Change); 16] = [
        ("proximity", |_, _| ()),
        ("proximity", |_, f| f.assertion = Some(Assertion::Verified)),
        ("valid", |_, f| f.prior_signed_voucher_request = None),
        ("proximity", |_, f| f.nonce = None),
        ("request.idevid-issuer-missing", |_, f| {
            f.idevid_issuer = None
        }),
        ("request.idevid-issuer-mismatch", |_, f| {
            f.idevid_issuer = Some(IdevidIssuer::of(&certificate("jws-voucher/8.1-pvr-1.crt")));
        }),
        ("request.proximity-not-allowed", |w, f| {
            f.proximity_registrar_cert = Some(w.registrar.chain[0].clone());
        }),
        ("request.prior-serial-mismatch", |_, f| {
            f.serial_number = SerialNumber::new("x").unwrap()
        }),
        ("request.prior-nonce-mismatch", |_, f| {
            f.nonce = Nonce::from_text("AAAAAAAAAAA=")
        }),
        ("request.prior-invalid", |_, f| {
            f.prior_signed_voucher_request = Some(b"junk".to_vec())
        }),
        ("request.prior-invalid", |_, f| {
            let last = f
                .prior_signed_voucher_request
                .as_mut()
                .unwrap()
                .last_mut()
                .unwrap();
            *last ^= 1;
        }),
        ("request.prior-invalid", |w, f| {
            // Signed by a device of nobody.
            f.prior_signed_voucher_request =
                Some(request(Envelope::Cms, w.pledge_fields(), &w.registrar));
        }),
        ("request.prior-serial-mismatch", |w, f| {
            // Signed by a certificate of the manufacturer that is no device.
            f.prior_signed_voucher_request =
                Some(request(Envelope::Cms, w.pledge_fields(), &w.masa));
        }),
        ("request.prior-serial-mismatch", |w, f| {
            f.prior_signed_voucher_request =
                prior(w, |f| f.serial_number = SerialNumber::new("other").unwrap());
        }),
        ("request.proximity-missing", |w, f| {
            f.prior_signed_voucher_request = prior(w, |f| f.proximity_registrar_cert = None);
        }),
        ("request.proximity-mismatch", |w, f| {
            f.prior_signed_voucher_request = prior(w, |f| {
                f.proximity_registrar_cert = Some(certificate("rfc8995/masa.crt"));
            });
        }),
    ];
    let known = RegistrarRequestContext {
        domain: Some(world.owner_trust()),
        ..RegistrarRequestContext::new(Some(AT_8995)).with_pledge(world.vendor_trust())
    };
    for (want, change) in cases {
        for envelope in Envelope::ALL {
            let pledge = world.pledge_request(envelope, world.pledge_fields());
            let mut fields = world.registrar_fields(pledge);
            change(&world, &mut fields);
            let bytes = world.registrar_request(envelope, fields.clone());
            assert_eq!(
                registrar_code(&bytes, &known),
                want,
                "{envelope:?} {fields:?}"
            );
            let unknown = RegistrarRequestContext {
                domain: None,
                ..known
            };
            assert_eq!(
                registrar_code(&bytes, &unknown),
                want,
                "{envelope:?} unknown domain"
            );
        }
    }
}

/// Requirements: BRSKI-5.5.3-01, BRSKI-5.5.4-01, BRSKI-5.5-13
#[test]
fn a_registrars_request_needs_the_right_signer_and_date() {
    let world = World::new();
    let pledge = world.pledge_request(Envelope::Cms, world.pledge_fields());
    let fields = world.registrar_fields(pledge.clone());
    let context = RegistrarRequestContext::new(Some(AT_8995)).with_pledge(world.vendor_trust());
    let by_masa = request(Envelope::Cms, fields.clone(), &world.masa);
    assert_eq!(registrar_code(&by_masa, &context), "request.not-registrar");
    let by_pledge = request(Envelope::Cms, fields.clone(), &world.pledge);
    assert_eq!(
        registrar_code(&by_pledge, &context),
        "request.not-registrar"
    );
    let bytes = world.registrar_request(Envelope::Cms, fields);
    let foreign = RegistrarRequestContext {
        domain: Some(world.vendor_trust()),
        ..context
    };
    assert_eq!(registrar_code(&bytes, &foreign), "path.unknown-issuer");
    let aged = |now| {
        let trust = Trust {
            now: Some(now),
            ..world.owner_trust()
        };
        let age_max = Some(Duration::hours(1));
        registrar_code(
            &bytes,
            &RegistrarRequestContext {
                domain: Some(trust),
                age_max,
                ..context
            },
        )
    };
    assert_eq!(aged(AT_8995), "proximity");
    assert_eq!(aged(AT_8995 + Duration::hours(2)), "request.stale");
    assert_eq!(aged(AT_8995 - Duration::minutes(4)), "proximity");
    assert_eq!(aged(AT_8995 - Duration::minutes(6)), "request.in-future");
    let other = serial();
    let nonce = Nonce::from_text("AAAAAAAAAAA=").unwrap();
    for (change, want) in [
        (
            RegistrarRequestContext {
                prior: Some(&pledge),
                ..context
            },
            "proximity",
        ),
        (
            RegistrarRequestContext {
                prior: Some(b"x"),
                ..context
            },
            "request.prior-mismatch",
        ),
        (
            RegistrarRequestContext {
                serial_number: Some(&other),
                ..context
            },
            "proximity",
        ),
        (
            RegistrarRequestContext {
                nonce: Some(&nonce),
                ..context
            },
            "request.nonce-mismatch",
        ),
        (
            RegistrarRequestContext {
                peer: Some(&world.registrar.chain[0]),
                ..context
            },
            "proximity",
        ),
        (
            RegistrarRequestContext {
                peer: Some(world.idevid()),
                ..context
            },
            "request.signer-mismatch",
        ),
    ] {
        assert_eq!(registrar_code(&bytes, &change), want);
    }
}

/// A registrar that signs requests with another key than its TLS server's shows both
/// certificates, and one CA stands above them. A thief who puts the victim's certificate
/// into the set proves nothing.
///
/// Requirements: BRSKI-5.5.5-02, BRSKI-5.5.2-03
#[test]
fn proximity_is_proven_by_the_domain_and_not_by_a_certificate_that_lies_around() {
    let world = World::new();
    let vendor = Trust {
        now: None,
        ..world.vendor_trust()
    };
    let context = RegistrarRequestContext::new(None).with_pledge(vendor);
    let chain = ["jws-voucher/8.2-rvr-1.crt", "jws-voucher/8.2-rvr-2.crt"];
    let signer = identity(&chain, "jws-voucher/8.2-rvr-0.key");
    let tls = tls_certificate_of_8_1();
    let victim = world.registrar.chain[0].clone();
    for (seen, extra, want) in [
        (&tls, vec![tls.clone()], "proximity"),
        (&tls, vec![], "request.proximity-mismatch"),
        (&victim, vec![victim.clone()], "request.proximity-mismatch"),
        (
            &victim,
            world.registrar.chain.clone(),
            "request.proximity-mismatch",
        ),
    ] {
        let mut fields = world.pledge_fields();
        fields.proximity_registrar_cert = Some(seen.clone());
        let pledge = world.pledge_request(Envelope::Cms, fields);
        let fields = VoucherRequest::new(world.registrar_fields(pledge)).unwrap();
        let options = SignOptions {
            extra_certs: extra,
            ..SignOptions::default()
        };
        let bytes = sign_request_with(&fields, Envelope::Cms, &signer, &options).unwrap();
        assert_eq!(registrar_code(&bytes, &context), want, "{}", seen.subject());
        let judged = verify_registrar_request(&opened(&bytes, &STRICT()), &context, &STRICT());
        if let Ok(verified) = judged.result() {
            // Only what is above the signer may be pinned.
            assert!(
                verified
                    .signer_path
                    .iter()
                    .all(|one| one.der() != tls.der())
            );
        }
    }
}

fn tls_certificate_of_8_1() -> Certificate {
    let signed = opened(&file("jws-voucher/8.1-pvr.jws.json"), &STRICT());
    let payload = signed.dangerous_peek().payload().unwrap().to_vec();
    let (request, _) = VoucherRequest::from_json(&payload, &STRICT()).unwrap();
    request.proximity_registrar_cert.clone().unwrap()
}
