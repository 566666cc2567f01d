//! Vouchers in COSE, as a pledge sees them.

use artifacts::{Envelope, Nonce, SerialNumber, Voucher, VoucherFields, sign_voucher};
use brski::pledge::{self, Input, Phase, ProximityForm, Step, What};
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

/// Requirements: CBR-107, CBR-108, CBR-109, CBR-139, VCB-020, VCB-028, VCB-033, VCB-034
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

/// A key that comes with the voucher is nobody's: only one that is built in counts.
///
/// Requirements: CBR-128, CBR-155, COS-015
#[test]
fn a_signer_that_comes_along_is_not_believed() {
    let (mut sim, manufacturer) = Sim::new();
    sim.masa.register("SN-1");
    let idevid = manufacturer.device("SN-1");
    let mut device = Device::new(config(&idevid, &manufacturer));
    let forger = Manufacturer::new("Acme").masa;
    let mut hook = |request: &pledge::Request, mut response: Response, _: &Device| {
        if request.what == What::RequestVoucher {
            let voucher = voucher_of(&response.body);
            // With its chain up to a self-signed root beside the signature.
            response.body = sign_voucher(&voucher, Envelope::Cose, &forger, NOW).unwrap();
        }
        response
    };
    match sim.run_with(&mut device, &mut hook) {
        Step::GiveUp(failure) => assert_eq!(failure.code(), "pledge.voucher-untrusted"),
        other => panic!("{other:?}"),
    }
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
