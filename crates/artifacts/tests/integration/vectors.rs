//! The published examples at their time: the good ones verify, the broken ones fail for the
//! reason that they are broken for.

use artifacts::verify::{
    ExpectedNonce, PledgeRequestContext, ProximityTarget, RegistrarRequestContext, Trust,
    VoucherContext, verify_pledge_request, verify_registrar_request, verify_voucher,
};
use artifacts::{
    Document, DomainId, Fault, IdevidIssuer, Nonce, SerialNumber, Tolerances, Voucher,
    VoucherRequest, VoucherStatus, open,
};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use pki::Coded;
use pki::path::Anchors;
use time::OffsetDateTime;
use time::macros::datetime;

use crate::common::{AT_8995, AT_JWS, SERIAL, certificate, file};

fn names(names: &[&str]) -> Tolerances {
    Tolerances::from_names(names.iter().copied()).unwrap()
}

#[derive(Clone, Copy)]
struct Case<'a> {
    file: &'a str,
    anchor: &'a str,
    at: OffsetDateTime,
    tolerances: &'a [&'a str],
    serial: Option<&'a str>,
    nonce: Option<&'a str>,
    registrar: Option<&'a str>,
    want: Result<&'a [&'a str], &'a str>,
}

const PLAIN: Case<'_> = Case {
    file: "",
    anchor: "rfc8995/vendor.crt",
    at: AT_8995,
    tolerances: &[],
    serial: None,
    nonce: None,
    registrar: None,
    want: Ok(&[]),
};

/// Requirements: VOUCHER-5.4-02, VOUCHERBIS-7.1-01, VOUCHER-5.4-04, SZTP-8366-5.4-03, CMS-5.1-01, X509-4.2.1.12-01, BRSKI-5.6.1-01
#[test]
fn vouchers() {
    let voucher_8995 = Case {
        file: "rfc8995/voucher_00-D0-E5-F2-00-02.der",
        tolerances: &["id-data"],
        serial: Some(SERIAL),
        nonce: Some("-_XE9zK9q8Ll1qylMtLKeg"),
        registrar: Some("rfc8995/jrc_prime256v1.crt"),
        want: Ok(&["IdData"]),
        ..PLAIN
    };
    let voucher_bis = Case {
        file: "rfc8366bis/A3-voucher.der",
        tolerances: &["id-data"],
        want: Ok(&["IdData"]),
        ..PLAIN
    };
    let jws_bis = Case {
        file: "rfc8366bis/A4-voucher.jws.json",
        ..PLAIN
    };
    let jws = Case {
        file: "jws-voucher/8.3-voucher.jws.json",
        anchor: "jws-voucher/8.3-voucher-2.crt",
        at: AT_JWS,
        serial: Some("kit-987654321"),
        nonce: Some("TauvK+Y/cc2RfIFvpZzfKQ=="),
        ..PLAIN
    };
    let cases = [
        Case {
            tolerances: &[],
            want: Err("cms.content-type"),
            ..voucher_8995
        },
        Case {
            serial: Some("00-d0-e5-f2-00-02"),
            want: Err("voucher.serial-mismatch"),
            ..voucher_8995
        },
        Case {
            nonce: Some("-_XE9zK9q8Ll1qylMtLKeA"),
            want: Err("voucher.nonce-mismatch"),
            ..voucher_8995
        },
        Case {
            at: datetime!(2024-01-01 0:00 UTC),
            want: Err("path.expired"),
            ..voucher_8995
        },
        Case {
            anchor: "rfc8995/ownerca_secp384r1.crt",
            want: Err("path.unknown-issuer"),
            ..voucher_8995
        },
        Case {
            registrar: Some("rfc8995/masa.crt"),
            want: Err("voucher.pin-mismatch"),
            ..voucher_8995
        },
        voucher_8995,
        Case {
            tolerances: &[],
            want: Err("cms.content-type"),
            ..voucher_bis
        },
        // The CA that the draft prints with it is an RSA CA of the same name.
        Case {
            anchor: "rfc8366bis/idevid-ca-rsa.crt",
            at: datetime!(2021-04-20 0:00 UTC),
            want: Err("path.signature"),
            ..voucher_bis
        },
        voucher_bis,
        Case {
            registrar: Some("rfc8995/jrc_prime256v1.crt"),
            want: Err("voucher.pin-mismatch"),
            ..jws_bis
        },
        jws_bis,
        Case {
            anchor: "rfc8995/vendor.crt",
            at: AT_8995,
            want: Err("path.unknown-issuer"),
            ..jws
        },
        jws,
    ];
    for case in cases {
        let anchors = Anchors::from(certificate(case.anchor));
        let tolerances = names(case.tolerances);
        let serial = case.serial.and_then(SerialNumber::new);
        let nonce = case.nonce.and_then(Nonce::from_text);
        let chain = case.registrar.map(|name| vec![certificate(name)]);
        let context = VoucherContext {
            serial_number: serial.as_ref(),
            nonce: nonce
                .as_ref()
                .map_or(ExpectedNonce::Unknown, ExpectedNonce::Exactly),
            registrar_chain: chain.as_deref(),
            ..VoucherContext::new(Trust::new(&anchors, Some(case.at)))
        };
        let signed = open(Document::Voucher, &file(case.file), None, &tolerances).unwrap();
        let judged = verify_voucher(&signed, &context, &tolerances);
        let mut odd: Vec<_> = judged
            .oddities()
            .iter()
            .map(|odd| odd.detail.clone())
            .collect();
        odd.sort();
        let found = judged.result().map(|_| ()).map_err(Coded::code);
        assert_eq!(
            found,
            case.want.map(|_| ()),
            "{} {:?}",
            case.file,
            judged.checks()
        );
        if let Ok(want) = case.want {
            assert_eq!(odd.len(), want.len(), "{}: {odd:?}", case.file);
            assert!(
                odd.iter()
                    .zip(want)
                    .all(|(odd, want)| odd.starts_with(want)),
                "{odd:?}"
            );
        }
    }
}

/// Requirements: BRSKI-5.2-11, BRSKI-5.2-12, BRSKI-5.2-13, JWS-3.2-02, VOUCHERBIS-6.3-01
#[test]
fn pledge_requests() {
    let rfc = Case {
        file: "rfc8995/vr_00-D0-E5-F2-00-02.der",
        tolerances: &["id-data"],
        registrar: Some("rfc8995/jrc_prime256v1.crt"),
        ..PLAIN
    };
    let bis = Case {
        file: "rfc8366bis/A2-pvr.der",
        tolerances: &["id-data"],
        ..PLAIN
    };
    let jws = Case {
        file: "jws-voucher/8.1-pvr.jws.json",
        anchor: "jws-voucher/8.1-pvr-2.crt",
        at: AT_JWS,
        ..PLAIN
    };
    let prm = Case {
        file: "brski-prm/A1-pvr.jws.json",
        anchor: "",
        at: AT_JWS,
        want: Err("request.top-level-name"),
        ..PLAIN
    };
    let cases = [
        Case {
            tolerances: &[],
            want: Err("cms.content-type"),
            ..rfc
        },
        Case {
            registrar: Some("rfc8995/masa.crt"),
            want: Err("request.proximity-mismatch"),
            ..rfc
        },
        Case {
            anchor: "rfc8995/ownerca_secp384r1.crt",
            want: Err("path.unknown-issuer"),
            ..rfc
        },
        Case {
            serial: Some("another"),
            want: Err("request.serial-mismatch"),
            ..rfc
        },
        rfc,
        bis,
        Case {
            registrar: Some("jws-voucher/8.2-rvr-1.crt"),
            want: Err("request.assertion-not-proximity"),
            ..jws
        },
        Case {
            registrar: Some("jws-voucher/8.2-rvr-1.crt"),
            tolerances: &["lenient"],
            want: Err("request.proximity-mismatch"),
            ..jws
        },
        jws,
        prm,
        Case {
            tolerances: &["lenient"],
            want: Ok(&[]),
            ..prm
        },
    ];
    for case in cases {
        let tolerances = names(case.tolerances);
        let signed = open(Document::Request, &file(case.file), None, &tolerances).unwrap();
        let anchors = match case.anchor {
            // The draft prints no CA: the last certificate that came along stands in for it.
            "" => Anchors::from(
                signed
                    .dangerous_peek()
                    .certificates()
                    .last()
                    .unwrap()
                    .clone(),
            ),
            name => certificate(name).into(),
        };
        let serial = case.serial.and_then(SerialNumber::new);
        let server = case.registrar.map(|name| vec![certificate(name)]);
        let context = PledgeRequestContext {
            serial_number: serial.as_ref(),
            proximity: server
                .as_deref()
                .map_or(ProximityTarget::Unknown, ProximityTarget::ServerCertificate),
            ..PledgeRequestContext::new(Trust::new(&anchors, Some(case.at)))
        };
        let judged = verify_pledge_request(&signed, &context, &tolerances);
        let found = judged.result().map(|_| ()).map_err(Coded::code);
        assert_eq!(
            found,
            case.want.map(|_| ()),
            "{} {:?}",
            case.file,
            judged.checks()
        );
    }
}

/// Requirements: BRSKI-5.5.4-01, BRSKI-5.5.5-01, BRSKI-5.5.5-02, BRSKI-5.5.5-04, BRSKI-5.5.6-01, JWS-8-01, VOUCHERBIS-6.1-01
#[test]
fn registrar_requests() {
    let rfc = (
        "rfc8995/parboiled_vr_00-D0-E5-F2-00-02.der",
        "rfc8995/ownerca_secp384r1.crt",
        "rfc8995/vendor.crt",
        AT_8995,
    );
    let jws = (
        "jws-voucher/8.2-rvr.jws.json",
        "jws-voucher/8.2-rvr-2.crt",
        "jws-voucher/8.1-pvr-2.crt",
        AT_JWS,
    );
    let cases = [
        (rfc, &[][..], Err("cms.content-type")),
        (rfc, &["id-data"], Err("request.idevid-issuer-missing")),
        (rfc, &["id-data", "idevid-issuer-missing"], Ok(true)),
        // The draft's pledge leaves assertion out, and its registrar signs with another key than
        // its TLS server's and sends no certificate that would tie the two.
        (jws, &[], Err("request.assertion-not-proximity")),
        (
            jws,
            &["pledge-assertion-missing"],
            Err("request.proximity-mismatch"),
        ),
    ];
    for ((name, domain, manufacturer, at), tolerances, want) in cases {
        let tolerances = names(tolerances);
        let (domain, manufacturer) = (certificate(domain).into(), certificate(manufacturer).into());
        let known = RegistrarRequestContext {
            domain: Some(Trust::new(&domain, Some(at))),
            ..RegistrarRequestContext::new(Some(at))
                .with_pledge(Trust::new(&manufacturer, Some(at)))
        };
        let signed = open(Document::Request, &file(name), None, &tolerances).unwrap();
        let unknown = RegistrarRequestContext {
            domain: None,
            ..known
        };
        for (context, domain_known) in [(&known, true), (&unknown, false)] {
            let judged = verify_registrar_request(&signed, context, &tolerances);
            let found = judged.result().map(|verified| verified.proximity_proven);
            assert_eq!(
                found.map_err(Coded::code),
                want,
                "{name} {:?}",
                judged.checks()
            );
            if let Ok(verified) = judged.result() {
                assert_eq!(verified.domain_known, domain_known);
                assert_eq!(
                    verified.signer_path.len(),
                    2,
                    "{name}: domain CA at the end"
                );
                assert_eq!(
                    verified.prior.as_ref().unwrap().serial_number.as_str(),
                    SERIAL
                );
            }
        }
    }
}

/// Requirements: BRSKI-5.8.2-01, BRSKI-5.8.2-02, VOUCHERBIS-6.1-03
#[test]
fn identifiers_are_those_of_the_published_certificates() {
    let domain = |name: &str| DomainId::of(&certificate(name)).to_string();
    assert_eq!(
        domain("rfc8995/ownerca_secp384r1.crt"),
        "uaX2yxHhB6RJLKcIxnwQvIezdCY="
    );
    let jrc = domain("rfc8995/jrc_prime256v1.crt");
    assert_eq!(jrc, "Oy6w2vS8ar8m/FtEHuzs7sl7LSD3pW9yTCgCecoIL3M=");
    // Without an authority key identifier it is made of the device's own key.
    let idevid = certificate("rfc8995/idevid_00-D0-E5-F2-00-02.crt");
    let want = IdevidIssuer::from_bytes(
        &STANDARD
            .decode("BBgwFoAURYjMlpYAZDewuiNlZGRUCAZsVq0=")
            .unwrap(),
    );
    assert_eq!(
        IdevidIssuer::of(&idevid).as_bytes(),
        want.unwrap().as_bytes()
    );
    // With one it is the extension's value as the draft's own example has it.
    let idevid = certificate("jws-voucher/8.1-pvr-1.crt");
    let want = STANDARD
        .decode("BBgwFoAUlU7Vft0KvopLzyjGaNB2fcQyB/U=")
        .unwrap();
    assert_eq!(IdevidIssuer::of(&idevid).as_bytes(), want);
}

/// The figures are not clean against their own schema; each fails for what is wrong with it.
///
/// Requirements: VOUCHER-5.3-21, VOUCHERBIS-8.4-01
#[test]
fn figures_without_signature() {
    let strict = Tolerances::strict();
    for name in [
        "rfc8366/ex1-ephemeral.json",
        "rfc8366bis/8.3-ex1-ephemeral.json",
        "rfc8995/fig14-voucher.json",
    ] {
        let fault = Voucher::from_json(&file(name), &strict)
            .unwrap_err()
            .fault();
        // "base64encodedvalue==" has left-over bits, and is no certificate anyway.
        assert_eq!(fault, Some(Fault::BadBase64), "{name}");
    }
    for name in [
        "rfc8995/fig07-registrar-voucher-request-prior-signed.json",
        "rfc8995/fig08-registrar-voucher-request-nonceless.json",
    ] {
        let fault = VoucherRequest::from_json(&file(name), &strict)
            .unwrap_err()
            .fault();
        assert_eq!(fault, Some(Fault::BadBase64), "{name}");
    }
    let pin = pki_base64();
    let real = |name: &str| {
        let text = String::from_utf8(file(name)).unwrap();
        let text = text.replacen("\"idevid-issuer\": \"base64encodedvalue==\",", "", 1);
        text.replacen("base64encodedvalue==\"", &format!("{pin}\""), 1)
    };
    let fault = |name: &str, tolerances: &Tolerances| {
        Voucher::from_json(real(name).as_bytes(), tolerances)
            .map(|_| ())
            .map_err(|error| error.fault().unwrap())
    };
    assert_eq!(fault("rfc8366/ex1-ephemeral.json", &strict), Ok(()));
    assert_eq!(
        fault("rfc8366/ex2-nonephemeral.json", &strict),
        Err(Fault::WrongType)
    );
    let spelt = names(&["wrong-json-types"]);
    assert_eq!(fault("rfc8366/ex2-nonephemeral.json", &spelt), Ok(()));
    assert_eq!(
        fault("rfc8366bis/8.3-ex2-nonephemeral.json", &strict),
        Ok(())
    );
    let (voucher, _) = Voucher::from_json(
        real("rfc8366bis/8.3-ex3-extension.json").as_bytes(),
        &strict,
    )
    .unwrap();
    assert_eq!(voucher.extensions[0].name, "example-my-extension");
    assert!(voucher.extensions[0].data.is_some());
    assert!(voucher.unknown.is_empty());
    for name in [
        "rfc8995/fig16-voucher-status.json",
        "rfc8995/fig20-enrollstatus.json",
    ] {
        let (status, oddities) = VoucherStatus::from_json(&file(name), &strict).unwrap();
        assert!(status.reason.is_some() && oddities.is_empty(), "{name}");
    }
}

fn pki_base64() -> String {
    let pem = String::from_utf8(file("rfc8995/ownerca_secp384r1.crt")).unwrap();
    pem.lines().filter(|line| !line.starts_with('-')).collect()
}
