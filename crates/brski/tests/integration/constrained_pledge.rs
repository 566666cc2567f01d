//! Vouchers in COSE, as a pledge sees them.

use artifacts::{
    Envelope, IdevidIssuer, Nonce, SerialNumber, Voucher, VoucherFields, sign_voucher,
};
use brski::pledge::{self, Input, Phase, ProximityForm, Step, What};
use ciborium::Value;
use pki::{
    Certificate, Coded, Identity, Signer as _,
    cose::Sign1,
    issue::{CertificateBuilder, Profile, name},
};
use time::Duration;

use crate::{
    constrained::{FORMS, config, voucher_of},
    sim::{Device, Response, Sim},
    world::{Ca, Manufacturer, NOW, key, leaf_only, serial},
};

/// A pledge with a COSE voucher whose leaves were changed, signed again by its MASA.
fn judged(form: ProximityForm, change: fn(&mut VoucherFields, &Certificate)) -> Step {
    let (mut sim, manufacturer) = Sim::new();
    sim.masa.register("SN-1");
    let idevid = manufacturer.device("SN-1");
    let mut config = config(&idevid, &manufacturer);
    config.proximity = form;
    let mut device = Device::new(config);
    let own = sim.registrars[0].identity.chain[0].clone();
    let signer = manufacturer.masa.clone();
    let mut hook = |request: &pledge::Request, mut response: Response, _: &Device| {
        if request.what == What::RequestVoucher {
            assert_eq!(response.status, 200);
            let mut fields = voucher_of(&response.body).into_fields();
            change(&mut fields, &own);
            let voucher = Voucher::new(fields).unwrap();
            let signed = sign_voucher(&voucher, Envelope::Cose, &signer, NOW).unwrap();
            response.body = Sign1::parse(&signed)
                .unwrap()
                .without_certificates()
                .unwrap();
        }
        response
    };
    sim.run_with(&mut device, &mut hook)
}

/// Requirements: CBR-107, CBR-108, CBR-109, CBR-139, VCB-020, VCB-021, VCB-028, VCB-033, VCB-034
#[test]
fn the_pledge_believes_the_pin_of_the_form_in_which_it_asked() {
    fn other() -> Certificate {
        Ca::root("Domain").registrar("registrar").chain[0].clone()
    }
    type Change = fn(&mut VoucherFields, &Certificate);
    type Row = (&'static str, ProximityForm, Option<&'static str>, Change);
    let mismatch = Some("pledge.pin-mismatch");
    let rows: &[Row] = &[
        (
            "hash and a bogus certificate",
            ProximityForm::PublicKeySha256,
            None,
            |f, _| {
                f.pinned_domain_cert = Some(other());
            },
        ),
        (
            "key and a bogus certificate",
            ProximityForm::PublicKey,
            None,
            |f, _| {
                f.pinned_domain_cert = Some(other());
            },
        ),
        (
            "certificate and a bogus hash",
            ProximityForm::Certificate,
            None,
            |f, _| {
                f.pinned_domain_pubk_sha256 = Some([7; 32]);
            },
        ),
        (
            "other hash",
            ProximityForm::PublicKeySha256,
            mismatch,
            |f, _| {
                f.pinned_domain_pubk_sha256 = Some(other().public_key().sha256());
            },
        ),
        (
            "hash of the key's bits alone",
            ProximityForm::PublicKeySha256,
            mismatch,
            |f, own| {
                let bits = own.public_key().key_bits();
                let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, bits);
                f.pinned_domain_pubk_sha256 = Some(digest.as_ref().try_into().unwrap());
            },
        ),
        ("other key", ProximityForm::PublicKey, mismatch, |f, _| {
            f.pinned_domain_pubk = Some(other().public_key().clone());
        }),
        (
            "bogus hash and the right certificate",
            ProximityForm::PublicKeySha256,
            mismatch,
            |f, own| {
                f.pinned_domain_pubk_sha256 = Some([7; 32]);
                f.pinned_domain_cert = Some(own.clone());
            },
        ),
        (
            "another CA of the same name",
            ProximityForm::Certificate,
            mismatch,
            |f, _| {
                f.pinned_domain_cert = Some(Ca::root("Domain").certificate);
            },
        ),
        (
            "another nonce",
            ProximityForm::PublicKey,
            Some("pledge.voucher-nonce"),
            |f, _| {
                f.nonce = Nonce::from_octets(&[9; 16]);
            },
        ),
        (
            "a device of another issuer",
            ProximityForm::PublicKey,
            Some("pledge.voucher-issuer"),
            |f, _| {
                let other = Manufacturer::new("Acme").device("SN-1");
                f.idevid_issuer = Some(IdevidIssuer::of(&other.chain[0]));
            },
        ),
        (
            "another device",
            ProximityForm::PublicKey,
            Some("pledge.voucher-serial"),
            |f, _| {
                f.serial_number = SerialNumber::new("SN-2").unwrap();
            },
        ),
        (
            "nonceless, by the key it did not ask for",
            ProximityForm::Certificate,
            None,
            |f, own| {
                f.nonce = None;
                f.pinned_domain_cert = None;
                f.domain_cert_revocation_checks = None;
                f.pinned_domain_pubk = Some(own.public_key().clone());
            },
        ),
        (
            "nonceless, the hash before the key",
            ProximityForm::Certificate,
            mismatch,
            |f, own| {
                f.nonce = None;
                f.pinned_domain_cert = None;
                f.domain_cert_revocation_checks = None;
                f.pinned_domain_pubk = Some(own.public_key().clone());
                f.pinned_domain_pubk_sha256 = Some([7; 32]);
            },
        ),
    ];
    for (row, form, code, change) in rows {
        match (judged(*form, *change), code) {
            (Step::Done, None) => {}
            (Step::GiveUp(failure), Some(code)) => assert_eq!(failure.code(), *code, "{row}"),
            (other, _) => panic!("{row}: {other:?}"),
        }
    }
}

/// An integer of a DER signature as 32 octets.
fn fixed(der: &[u8]) -> Vec<u8> {
    let significant: Vec<u8> = der
        .iter()
        .copied()
        .skip_while(|octet| *octet == 0)
        .collect();
    [vec![0; 32 - significant.len()], significant].concat()
}

/// A COSE_Sign1 with these entries in its two headers, beside the algorithm.
pub(crate) fn sign_by_hand(
    payload: &[u8],
    identity: &Identity,
    protected: Vec<(Value, Value)>,
    unprotected: Vec<(Value, Value)>,
) -> Vec<u8> {
    let write = |value: &Value| {
        let mut bytes = Vec::new();
        ciborium::into_writer(value, &mut bytes).unwrap();
        bytes
    };
    let mut header = vec![(1.into(), (-7).into())];
    header.extend(protected);
    let header = write(&Value::Map(header));
    let message = write(&Value::Array(vec![
        "Signature1".into(),
        Value::Bytes(header.clone()),
        Value::Bytes(Vec::new()),
        Value::Bytes(payload.to_vec()),
    ]));
    let der = identity.signer.sign(&message).unwrap();
    // SEQUENCE of two INTEGERs, each shorter than 128 octets.
    let r_length = usize::from(der[3]);
    let (r, s) = (&der[4..4 + r_length], &der[6 + r_length..]);
    let signature = [fixed(r), fixed(s)].concat();
    write(&Value::Tag(
        18,
        Box::new(Value::Array(vec![
            Value::Bytes(header),
            Value::Map(unprotected),
            Value::Bytes(payload.to_vec()),
            Value::Bytes(signature),
        ])),
    ))
}

/// A bag of certificates under its label.
pub(crate) fn bag(chain: &[Certificate]) -> (Value, Value) {
    let all = chain
        .iter()
        .map(|one| Value::Bytes(one.der().to_vec()))
        .collect();
    (32.into(), Value::Array(all))
}

/// What a signature brings along is a way to what is built in, and nothing more; what else stands
/// in the headers is passed over, unless it is said to be critical.
///
/// Requirements: CBR-128, CBR-130, CBR-155, COS-005, COS-015
#[test]
fn what_comes_along_with_a_voucher_leads_to_what_is_built_in_or_nowhere() {
    type Headers = (Vec<(Value, Value)>, Vec<(Value, Value)>);
    type Row = (
        &'static str,
        bool,
        Option<&'static str>,
        fn(&Identity) -> Headers,
    );
    let rows: &[Row] = &[
        ("nothing", false, None, |_| (vec![], vec![])),
        ("claims under the signature", false, None, |_| {
            let claims = Value::Map(vec![(6.into(), 1_780_000_000.into())]);
            (vec![(15.into(), claims)], vec![])
        }),
        ("claims beside the signature", false, None, |_| {
            let claims = Value::Map(vec![(6.into(), 1_780_000_000.into())]);
            (vec![], vec![(15.into(), claims)])
        }),
        (
            "a critical header",
            false,
            Some("pledge.voucher-malformed"),
            |_| {
                let critical = (2.into(), Value::Array(vec![99.into()]));
                (vec![critical, (99.into(), true.into())], vec![])
            },
        ),
        (
            "no certificate, and the CA built in",
            true,
            Some("pledge.voucher-signature"),
            |_| (vec![], vec![]),
        ),
        (
            "the chain under the signature, and the CA built in",
            true,
            None,
            |masa| (vec![bag(&masa.chain)], vec![]),
        ),
        (
            "the chain beside the signature, and the CA built in",
            true,
            None,
            |masa| (vec![], vec![bag(&masa.chain)]),
        ),
    ];
    for (row, by_ca, code, headers) in rows {
        let step = answered(*by_ca, |payload, masa| {
            let (protected, unprotected) = headers(masa);
            sign_by_hand(payload, masa, protected, unprotected)
        });
        match (step, code) {
            (Step::Done, None) => {}
            (Step::GiveUp(failure), Some(code)) => assert_eq!(failure.code(), *code, "{row}"),
            (other, _) => panic!("{row}: {other:?}"),
        }
    }
    // Whoever signs with a key of his own can bring a whole chain up to a root.
    let forger = Manufacturer::new("Acme").masa;
    for by_ca in [false, true] {
        for protected in [false, true] {
            let step = answered(by_ca, |payload, _| {
                let bags = vec![bag(&forger.chain)];
                let (protected, unprotected) = if protected {
                    (bags, vec![])
                } else {
                    (vec![], bags)
                };
                sign_by_hand(payload, &forger, protected, unprotected)
            });
            match step {
                Step::GiveUp(failure) => assert_eq!(failure.code(), "pledge.voucher-untrusted"),
                other => panic!("{other:?}"),
            }
        }
    }
}

/// A pledge whose voucher is signed anew by hand; it has the CA of the MASA built in, or the
/// certificate that signs.
fn answered(by_ca: bool, sign: impl Fn(&[u8], &Identity) -> Vec<u8>) -> Step {
    let (mut sim, manufacturer) = Sim::new();
    sim.masa.register("SN-1");
    let idevid = manufacturer.device("SN-1");
    let mut config = config(&idevid, &manufacturer);
    if by_ca {
        config.masa_anchors = manufacturer.ca.anchors();
    }
    let mut device = Device::new(config);
    let masa = manufacturer.masa.clone();
    let mut hook = |request: &pledge::Request, mut response: Response, _: &Device| {
        if request.what == What::RequestVoucher {
            let payload = Sign1::parse(&response.body).unwrap().payload().to_vec();
            response.body = sign(&payload, &masa);
        }
        response
    };
    sim.run_with(&mut device, &mut hook)
}

/// After the voucher, another server of the domain is known by the same pin.
///
/// Requirements: CBR-107, CBR-108, BRSKI-5-06
#[test]
fn a_pinned_key_is_the_same_on_the_next_connection() {
    for form in [ProximityForm::PublicKey, ProximityForm::PublicKeySha256] {
        let (mut sim, manufacturer) = Sim::new();
        sim.masa.register("SN-1");
        let idevid = manufacturer.device("SN-1");
        let mut config = config(&idevid, &manufacturer);
        config.proximity = form;
        let mut device = Device::new(config);
        let mut step = device.give(&Input::Begin, sim.now);
        while !matches!(device.machine.state().phase, Phase::Enrol(_)) {
            step = sim.carry_out(&mut device, step);
        }
        device.power_cut();
        let second = sim.registrars[0].domain.registrar("second").chain;
        let mut again = Device::new(device.machine.config().clone());
        again.machine = pledge::Machine::resume(
            device.machine.config().clone(),
            device.machine.state().clone(),
        );
        again.give(&Input::Begin, NOW);
        match again.give(&Input::Connected { chain: &second }, NOW) {
            Step::GiveUp(failure) => assert_eq!(failure.code(), "pledge.pin-mismatch"),
            other => panic!("{other:?}"),
        }
        assert_eq!(sim.run(&mut device), Step::Done);
    }
}

/// A registrar whose certificate it signed itself.
///
/// Requirements: CBR-157
#[test]
fn a_registrar_that_signed_its_own_certificate_will_do() {
    for form in FORMS {
        let (mut sim, manufacturer) = Sim::new();
        sim.masa.register("SN-1");
        let key = key();
        let own = CertificateBuilder::new(
            Profile::Registrar,
            name("CN=lonely").unwrap(),
            key.public_key().clone(),
            serial(),
            NOW - Duration::days(1),
            NOW + Duration::days(30),
        )
        .dns_name("lonely.example")
        .self_sign(key.as_ref())
        .unwrap();
        sim.registrars[0].identity = Identity::new(vec![own], key).unwrap();
        let idevid = manufacturer.device("SN-1");
        let mut config = config(&idevid, &manufacturer);
        config.proximity = form;
        config.idevid = leaf_only(&idevid);
        let mut device = Device::new(config);
        assert_eq!(sim.run(&mut device), Step::Done, "{form:?}");
    }
}
