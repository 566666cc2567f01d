//! Every refusal of the MASA: what causes it, its code and its HTTP status.

use artifacts::{
    Assertion, Envelope, IdevidIssuer, Nonce, RequestFields, SerialNumber, Tolerances,
    VoucherRequest, sign_request, sign_request_with,
};
use brski::masa::{
    self, Alarm, Decision, DeviceRecord, Grant, Holder, Inbound, KeyClass, OwnerRecord, Pin,
    Revocation,
};
use pki::{Certificate, Coded, Identity, IncludeCertificates, SignOptions, issue::Profile};
use time::{Duration, OffsetDateTime};

use crate::{
    sim::{Masa, Response},
    world::{Ca, Manufacturer, NOW, key, leaf_only},
};

pub(crate) struct Scene {
    pub(crate) masa: Masa,
    pub(crate) domain: Ca,
    pub(crate) idevid: Identity,
    pub(crate) registrar: Identity,
    /// What the pledge says, and who signs it; `None` for no request of the pledge.
    pub(crate) inner: Option<(RequestFields, Identity)>,
    pub(crate) outer: RequestFields,
    pub(crate) include: IncludeCertificates,
    pub(crate) extra: Vec<Certificate>,
    pub(crate) envelope: Envelope,
    pub(crate) content_type: String,
    pub(crate) accept: Option<String>,
    /// Changes the signed inner and outer bytes.
    pub(crate) tamper_inner: fn(&mut Vec<u8>),
    pub(crate) tamper: fn(&mut Vec<u8>),
    pub(crate) now: OffsetDateTime,
}

pub(crate) fn nonce(fill: u8) -> Option<Nonce> {
    Nonce::from_octets(&[fill; 16])
}

impl Scene {
    pub(crate) fn new() -> Self {
        let manufacturer = Manufacturer::new("Acme");
        let idevid = manufacturer.device("SN-1");
        let mut masa = Masa::new(manufacturer);
        masa.register("SN-1");
        let domain = Ca::root("Domain");
        let registrar = domain.registrar("registrar");
        let serial = SerialNumber::new("SN-1").unwrap();
        let mut inner = RequestFields::new(serial.clone());
        inner.created_on = Some(NOW);
        inner.assertion = Some(Assertion::Proximity);
        inner.nonce = nonce(1);
        inner.proximity_registrar_cert = registrar.certificate().cloned();
        let mut outer = RequestFields::new(serial);
        outer.created_on = Some(NOW);
        outer.nonce = nonce(1);
        outer.idevid_issuer = Some(IdevidIssuer::of(idevid.certificate().unwrap()));
        Self {
            masa,
            domain,
            inner: Some((inner, leaf_only(&idevid))),
            idevid,
            registrar,
            outer,
            include: IncludeCertificates::Chain,
            extra: Vec::new(),
            envelope: Envelope::Cms,
            content_type: Envelope::Cms.media_type().to_owned(),
            accept: None,
            tamper_inner: |_| {},
            tamper: |_| {},
            now: NOW,
        }
    }

    pub(crate) fn inner(&mut self) -> &mut RequestFields {
        &mut self.inner.as_mut().unwrap().0
    }

    pub(crate) fn device(&mut self) -> &mut DeviceRecord {
        self.masa.devices.get_mut("SN-1").unwrap()
    }

    pub(crate) fn nonceless(&mut self) {
        self.inner = None;
        self.outer.nonce = None;
    }

    pub(crate) fn owner(&mut self, id: &str, certificate: Certificate) -> &mut OwnerRecord {
        self.masa.owners.push(OwnerRecord {
            id: id.to_owned(),
            certificates: vec![certificate],
            nonceless: false,
            blocked: false,
            pin: None,
        });
        self.masa.owners.last_mut().unwrap()
    }

    pub(crate) fn body(&self) -> Vec<u8> {
        let mut outer = self.outer.clone();
        if let Some((inner, signer)) = &self.inner {
            let request = VoucherRequest::new(inner.clone()).unwrap();
            let mut bytes = sign_request(&request, self.envelope, signer, Some(NOW)).unwrap();
            (self.tamper_inner)(&mut bytes);
            outer.prior_signed_voucher_request = Some(bytes);
        }
        let request = VoucherRequest::new(outer).unwrap();
        let options = SignOptions {
            signing_time: Some(NOW),
            include_certs: self.include,
            extra_certs: self.extra.clone(),
            ..SignOptions::default()
        };
        let mut bytes =
            sign_request_with(&request, self.envelope, &self.registrar, &options).unwrap();
        (self.tamper)(&mut bytes);
        bytes
    }

    pub(crate) fn inbound<'a>(&'a self, body: &'a [u8]) -> Inbound<'a> {
        Inbound {
            body,
            content_type: Some(&self.content_type),
            accept: self.accept.as_deref(),
        }
    }

    pub(crate) fn open(&self) -> Result<masa::Request, masa::Refusal> {
        let body = self.body();
        let (devices, policy) = (self.masa.anchors(), &self.masa.policy);
        masa::open_request(self.inbound(&body), &devices, policy, self.now)
    }

    pub(crate) fn decide(&self) -> Decision {
        match self.open() {
            Ok(request) => {
                let facts = self.masa.facts(&request);
                masa::decide(&request, &facts, &self.masa.policy, self.now)
            }
            Err(refusal) => Decision::Refuse {
                refusal,
                alarm: None,
            },
        }
    }

    pub(crate) fn grant(&self) -> Grant {
        match self.decide() {
            Decision::Grant(grant) => *grant,
            other => panic!("{other:?}"),
        }
    }

    pub(crate) fn send(&mut self) -> Response {
        let body = self.body();
        let content_type = self.content_type.clone();
        let inbound = Inbound {
            body: &body,
            content_type: Some(&content_type),
            accept: self.accept.as_deref(),
        };
        self.masa.voucher(inbound, self.now)
    }
}

/// Turns the last byte: in CMS and JWS alike that is inside the signature or breaks the syntax.
fn flip_last(bytes: &mut [u8]) {
    *bytes.last_mut().unwrap() ^= 1;
}

/// Turns a byte of the text `SN-1` in the signed content.
fn flip_content(bytes: &mut [u8]) {
    let at = bytes
        .windows(4)
        .position(|window| window == b"SN-1")
        .unwrap();
    bytes[at + 3] = b'2';
}

type Row = (&'static str, u16, &'static str, fn(&mut Scene));

/// Each row: the code, the status, the requirements that it shows, and what is wrong.
const ROWS: &[Row] = &[
    ("masa.media-type", 415, "BRSKI-5.5-03 BRSKI-5.6-19", |s| {
        s.content_type = "application/foo".to_owned();
    }),
    ("masa.accept-not-understood", 415, "BRSKI-5.6-19", |s| {
        s.accept = Some("text/html".to_owned());
    }),
    ("masa.not-acceptable", 406, "BRSKI-5.6-17", |s| {
        s.accept = Some("application/voucher-cms+json;q=0".to_owned());
    }),
    ("masa.request-malformed", 400, "BRSKI-5.6-03", |s| {
        s.tamper = |bytes| bytes.truncate(40);
    }),
    ("masa.request-malformed", 400, "BRSKI-5.6-03", |s| {
        s.tamper = Vec::clear
    }),
    // Another media type than what the body is.
    ("masa.request-malformed", 400, "BRSKI-5.6-03", |s| {
        s.content_type = Envelope::Jws.media_type().to_owned();
    }),
    (
        "masa.request-signature",
        403,
        "BRSKI-5.5.3-01 BRSKI-5.6-15",
        |s| s.tamper = |bytes| flip_last(bytes),
    ),
    ("masa.request-signature", 403, "BRSKI-5.5.3-01", |s| {
        s.tamper = |bytes| flip_content(bytes)
    }),
    // The registrar's certificate was stolen, its key was not.
    ("masa.request-signature", 403, "BRSKI-5.5.3-01", |s| {
        let thief = s.domain.registrar("thief");
        s.registrar = Identity {
            chain: s.registrar.chain.clone(),
            signer: thief.signer,
        };
    }),
    ("masa.registrar-chain", 403, "BRSKI-5.5.2-01", |s| {
        s.now = NOW + Duration::days(400);
        s.outer.created_on = Some(s.now);
    }),
    ("masa.registrar-not-ra", 403, "BRSKI-5.5.4-01", |s| {
        let key = key();
        let builder = s.domain.builder(Profile::Ldevid, "serialNumber=SN-9", &key);
        s.registrar = s.domain.identity(&builder, key);
        let own = s.registrar.certificate().cloned();
        s.inner().proximity_registrar_cert = own;
    }),
    (
        "masa.registrar-revoked",
        403,
        "BRSKI-5.5.3-02 VOUCHER-7.3-01 VOUCHERBIS-11.3-01",
        |s| {
            s.masa.revocation = Revocation::Revoked;
        },
    ),
    ("masa.revocation-unavailable", 503, "BRSKI-5.5.3-02", |s| {
        s.masa.policy.revocation_required = true;
        s.masa.revocation = Revocation::Unavailable;
    }),
    ("masa.registrar-unknown", 403, "BRSKI-5.5.4-03", |s| {
        s.masa.policy.unknown_registrars = false;
    }),
    ("masa.owner-blocked", 403, "", |s| {
        let certificate = s.domain.certificate.clone();
        s.owner("o", certificate).blocked = true;
    }),
    ("masa.proximity-cert-in-request", 403, "BRSKI-5.5-15", |s| {
        s.outer.proximity_registrar_cert = s.registrar.certificate().cloned();
    }),
    ("masa.request-stale", 403, "BRSKI-5.6-15", |s| {
        s.now = NOW + Duration::hours(1)
    }),
    ("masa.request-from-future", 403, "", |s| {
        s.now = NOW - Duration::hours(1)
    }),
    ("masa.prior-missing", 403, "", |s| s.inner = None),
    ("masa.prior-malformed", 403, "BRSKI-5.5.5-01", |s| {
        s.tamper_inner = |bytes| bytes.truncate(50);
    }),
    ("masa.prior-signature", 403, "BRSKI-5.5.5-01", |s| {
        s.tamper_inner = |bytes| flip_last(bytes)
    }),
    ("masa.prior-not-our-device", 403, "BRSKI-5.5.5-01", |s| {
        let stranger = Manufacturer::new("Stranger").device("SN-1");
        s.outer.idevid_issuer = Some(IdevidIssuer::of(stranger.certificate().unwrap()));
        s.inner.as_mut().unwrap().1 = stranger;
    }),
    ("masa.prior-serial-mismatch", 403, "BRSKI-5.5.5-03", |s| {
        s.outer.serial_number = SerialNumber::new("SN-2").unwrap();
        s.masa.register("SN-2");
    }),
    // The device signed with its own key, for another serial number than its own.
    ("masa.prior-serial-mismatch", 403, "BRSKI-5.5.5-03", |s| {
        s.inner().serial_number = SerialNumber::new("SN-2").unwrap();
        s.outer.serial_number = SerialNumber::new("SN-2").unwrap();
        s.masa.register("SN-2");
    }),
    ("masa.prior-nonce-mismatch", 403, "BRSKI-5.5.6-01", |s| {
        s.outer.nonce = nonce(2)
    }),
    ("masa.proximity-missing", 403, "BRSKI-5.5.5-02", |s| {
        s.inner().proximity_registrar_cert = None;
    }),
    ("masa.proximity-mismatch", 403, "BRSKI-5.5.5-02", |s| {
        let other = Ca::root("Other").registrar("other");
        s.inner().proximity_registrar_cert = other.certificate().cloned();
    }),
    // The certificate that the pledge saw is in the message, and not in the signer's chain.
    ("masa.proximity-mismatch", 403, "BRSKI-5.5.5-02", |s| {
        let other = Ca::root("Other").registrar("other");
        s.inner().proximity_registrar_cert = other.certificate().cloned();
        s.extra = other.chain;
    }),
    (
        "masa.idevid-issuer-missing",
        403,
        "VOUCHERBIS-6.1-01",
        |s| s.outer.idevid_issuer = None,
    ),
    (
        "masa.idevid-issuer-mismatch",
        403,
        "VOUCHERBIS-6.1-02",
        |s| {
            s.outer.idevid_issuer = IdevidIssuer::from_bytes(&[
                0x04, 0x18, 0x30, 0x16, 0x80, 0x14, 9, 9, 9, 9, 9, 9, 9, 9, 9, 9, 9, 9, 9, 9, 9, 9,
                9, 9, 9, 9,
            ]);
        },
    ),
    (
        "masa.nonceless-unauthenticated",
        403,
        "BRSKI-5.5.4-02",
        Scene::nonceless,
    ),
    (
        "masa.nonceless-not-authorised",
        403,
        "BRSKI-7.4.1-01",
        |s| {
            let certificate = s.domain.certificate.clone();
            s.owner("o", certificate);
            s.nonceless();
        },
    ),
    ("masa.serial-unknown", 404, "BRSKI-5.6-16", |s| {
        s.masa.devices.clear()
    }),
    // A pattern is a serial number like any other.
    ("masa.serial-unknown", 404, "VOUCHER-6.2-01", |s| {
        s.masa.policy.prior_required = false;
        s.inner = None;
        s.outer.serial_number = SerialNumber::new("SN-*").unwrap();
    }),
    ("masa.device-blocked", 403, "", |s| {
        s.device().blocked = Some("stolen".to_owned())
    }),
    ("masa.not-the-owner", 403, "", |s| {
        s.device().sold_to = Some("somebody".to_owned())
    }),
    ("masa.not-sold", 403, "", |s| {
        s.masa.policy.first_come = false
    }),
    ("masa.already-owned", 403, "BRSKI-5.6-15", |s| {
        let other = Ca::root("Other").certificate;
        s.device().holder = Some(Holder {
            domain: brski::DomainKey::of(&other),
            owner: None,
        });
    }),
    ("masa.clone-suspected", 403, "", |s| {
        s.device().idevid_key = Some([7; 32])
    }),
    ("masa.format-not-for-device", 406, "BRSKI-5.6-17", |s| {
        s.device().formats = vec![Envelope::Jws];
        s.accept = Some("application/voucher-cms+json".to_owned());
    }),
    ("masa.assertion-too-weak", 403, "", |s| {
        s.device().assertion_min = Some(Assertion::Verified)
    }),
];

/// Requirements: BRSKI-5.5-03, BRSKI-5.5-15, BRSKI-5.5.2-01, BRSKI-5.5.3-01, BRSKI-5.5.3-02,
/// BRSKI-5.5.4-01, BRSKI-5.5.4-02, BRSKI-5.5.5-01, BRSKI-5.5.5-02, BRSKI-5.5.5-03,
/// BRSKI-5.5.6-01, BRSKI-5.6-03, BRSKI-5.6-15, BRSKI-5.6-16, BRSKI-5.6-17, BRSKI-5.6-19,
/// BRSKI-7.4.1-01, VOUCHER-6.2-01, VOUCHER-7.3-01, VOUCHERBIS-6.1-01, VOUCHERBIS-11.3-01
#[test]
fn each_refusal_has_its_cause_its_code_and_its_status() {
    for envelope in Envelope::ALL {
        for (index, (code, status, requirements, spoil)) in ROWS.iter().enumerate() {
            let mut scene = Scene::new();
            scene.envelope = envelope;
            scene.content_type = envelope.media_type().to_owned();
            spoil(&mut scene);
            if let (Envelope::Cose, Some((_, signer))) = (envelope, &scene.inner) {
                // The certificates of whoever signed for the device stand in the registrar's bag.
                scene.extra.extend(signer.chain.clone());
            }
            if envelope != Envelope::Cms && !fits_jws(index) {
                continue;
            }
            let row = format!("{envelope:?} {index} {code} {requirements}");
            match scene.decide() {
                Decision::Refuse { refusal, .. } => {
                    assert_eq!(refusal.code(), *code, "{row}: {refusal}");
                    assert_eq!(refusal.http_status(), *status, "{row}");
                    assert!(refusal.body().starts_with(code), "{row}");
                }
                other => panic!("{row}: {other:?}"),
            }
            // Nothing is written for a request that was refused.
            let response = scene.send();
            assert_eq!(response.status, *status, "{row}");
            assert!(scene.masa.events.is_empty(), "{row}");
        }
    }
}

/// Rows that speak of octets or of the certificate set of CMS only.
fn fits_jws(index: usize) -> bool {
    let (code, ..) = ROWS[index];
    let of_bytes = [
        "masa.request-malformed",
        "masa.request-signature",
        "masa.prior-signature",
    ];
    let by_format = ["masa.format-not-for-device"];
    !of_bytes.contains(&code) && !by_format.contains(&code)
}

/// Requirements: BRSKI-5.5.1-01, BRSKI-5.5.5-04, BRSKI-5.5.6-02, BRSKI-5.6-01, BRSKI-5.6-20,
/// BRSKI-5.6-21, BRSKI-5.6-22, BRSKI-5.6-23, BRSKI-5.6-24, BRSKI-5.6-25, BRSKI-5.6-28,
/// BRSKI-3.4-01, BRSKI-3.4-04, VOUCHER-5.3-05, SZTP-8366-5.3-03
#[test]
fn a_nonced_voucher_says_what_was_proven_and_nothing_else() {
    let mut scene = Scene::new();
    // What the registrar claims beyond its evidence counts for nothing.
    scene.outer.assertion = Some(Assertion::Verified);
    let grant = scene.grant();
    let voucher = &grant.voucher;
    assert_eq!(voucher.assertion, Some(Assertion::Proximity));
    assert_eq!(voucher.nonce, nonce(1));
    assert_eq!(voucher.serial_number.as_str(), "SN-1");
    assert_eq!(voucher.created_on, Some(NOW));
    assert_eq!(voucher.expires_on, None);
    assert_eq!(voucher.domain_cert_revocation_checks, Some(false));
    assert!(voucher.idevid_issuer.is_none());
    assert_eq!(
        voucher.pinned_domain_cert,
        Some(scene.domain.certificate.clone())
    );
    assert_eq!(grant.key, KeyClass::Nonced);
    assert_eq!(grant.envelope, Envelope::Cms);
    assert_eq!(
        grant.audit.nonce.as_deref(),
        nonce(1).as_ref().map(Nonce::as_str)
    );
    assert_eq!(grant.audit.assertion, Assertion::Proximity);
    let domain_id = scene.domain.certificate.subject_key_id().unwrap();
    assert_eq!(grant.audit.domain_id, domain_id);
    assert!(grant.idevid_key.is_some());
    assert!(!grant.renewal);

    // The same request again: the same bytes, and nothing new in the log.
    let first = scene.send();
    let second = scene.send();
    assert_eq!((first.status, second.status), (200, 200));
    assert_eq!(first.body, second.body);
    assert_eq!(scene.masa.events["SN-1"].len(), 1);

    // A later attempt of the same domain, by another registrar of it: a renewal, logged.
    let mut again = Scene {
        registrar: scene.domain.registrar("second"),
        ..scene
    };
    again.outer.nonce = nonce(3);
    let own = again.registrar.certificate().cloned();
    again.inner().nonce = nonce(3);
    again.inner().proximity_registrar_cert = own;
    let grant = again.grant();
    assert!(grant.renewal);
    assert_eq!(grant.holder, None);
    assert_eq!(again.send().status, 200);
    assert_eq!(again.masa.events["SN-1"].len(), 2);
}

/// Requirements: BRSKI-5.5.5-05, BRSKI-5.5.4-03, BRSKI-3.4-09
#[test]
fn without_the_pledges_own_word_it_is_logged_at_most() {
    let mut scene = Scene::new();
    scene.masa.policy.prior_required = false;
    scene.inner = None;
    scene.outer.assertion = Some(Assertion::Proximity);
    assert_eq!(scene.grant().voucher.assertion, Some(Assertion::Logged));
    assert_eq!(scene.grant().audit.assertion, Assertion::Logged);
}

/// Requirements: BRSKI-5.5.2-02, BRSKI-5.5.2-03, BRSKI-5.5-06, BRSKI-5.8.2-01
#[test]
fn the_pin_is_a_member_of_the_verified_chain() {
    let mut scene = Scene::new();
    let middle = scene.domain.below("Middle");
    scene.registrar = middle.registrar("registrar");
    let leaf = scene.registrar.certificate().cloned().unwrap();
    scene.inner().proximity_registrar_cert = Some(leaf.clone());
    // A foreign CA in the message is no candidate.
    let foreign = Ca::root("Foreign").certificate;
    scene.extra = vec![foreign.clone()];
    for (pin, expect) in [
        (Pin::EndEntity, &leaf),
        (Pin::Issuer, &middle.certificate),
        (Pin::TopOfChain, &scene.domain.certificate),
    ] {
        scene.masa.policy.pin = pin;
        let grant = scene.grant();
        assert_eq!(
            grant.voucher.pinned_domain_cert.as_ref(),
            Some(expect),
            "{pin:?}"
        );
        assert_eq!(grant.audit.domain, brski::DomainKey::of(expect));
    }
    // Only the end entity certificate came along: that is what can be pinned.
    scene.masa.policy.pin = Pin::TopOfChain;
    scene.include = IncludeCertificates::Signer;
    scene.extra = Vec::new();
    assert_eq!(scene.grant().voucher.pinned_domain_cert, Some(leaf));
    // An owner that registered the middle CA is pinned there, whatever stands above.
    scene.include = IncludeCertificates::Chain;
    let certificate = middle.certificate.clone();
    scene.owner("o", certificate.clone());
    assert_eq!(scene.grant().voucher.pinned_domain_cert, Some(certificate));
}

/// Requirements: BRSKI-5.6-25, BRSKI-5.6-26, BRSKI-5.6-27, BRSKI-7.4.1-01, BRSKI-11.6.2-01,
/// VOUCHER-5.3-10, SZTP-8366-5.3-04, VOUCHER-7.1-01, BRSKI-3.1-01, BRSKI-5.5.6-02, BRSKI-7.4.1-02, VOUCHER-6.1-01
#[test]
fn a_nonceless_voucher_is_for_authorised_owners_under_another_key() {
    let mut scene = Scene::new();
    let certificate = scene.domain.certificate.clone();
    scene.owner("o", certificate).nonceless = true;
    scene.nonceless();
    scene.device().sold_to = Some("o".to_owned());
    let grant = scene.grant();
    assert_eq!(grant.key, KeyClass::Nonceless);
    assert_eq!(grant.voucher.assertion, Some(Assertion::Verified));
    assert_eq!(grant.voucher.nonce, None);
    assert_eq!(grant.audit.nonce, None);
    // A device without a clock cannot judge an end.
    assert_eq!(grant.voucher.expires_on, None);
    // With a clock: the earliest of lifetime, registrar's certificate and CRL.
    scene.device().has_clock = true;
    assert_eq!(scene.masa.policy.voucher_lifetime, Duration::minutes(20));
    assert_eq!(
        scene.grant().voucher.expires_on,
        Some(NOW + Duration::minutes(20))
    );
    scene.masa.policy.voucher_lifetime = Duration::days(10_000);
    let leaf_ends = scene.registrar.certificate().unwrap().not_after();
    assert_eq!(scene.grant().voucher.expires_on, Some(leaf_ends));
    let until = NOW + Duration::days(7);
    scene.masa.revocation = Revocation::Good { until: Some(until) };
    assert_eq!(scene.grant().voucher.expires_on, Some(until));
}

/// Requirements: VOUCHERBIS-6.2-01, VOUCHERBIS-6.2-02, VOUCHER-5.3-16,
/// SZTP-8366-5.3-09
#[test]
fn idevid_issuer_stands_in_the_voucher_if_the_serial_number_is_ambiguous() {
    let mut scene = Scene::new();
    assert!(scene.grant().voucher.idevid_issuer.is_none());
    scene.device().serial_ambiguous = true;
    let found = scene.grant().voucher.idevid_issuer.clone().unwrap();
    assert!(found.matches(&IdevidIssuer::of(scene.idevid.certificate().unwrap())));
}

#[test]
fn the_register_of_sales_decides_and_raises_alarms() {
    let mut scene = Scene::new();
    let certificate = scene.domain.certificate.clone();
    scene.owner("buyer", certificate);
    scene.device().sold_to = Some("buyer".to_owned());
    assert_eq!(scene.grant().voucher.assertion, Some(Assertion::Verified));

    scene.device().sold_to = Some("somebody".to_owned());
    match scene.decide() {
        Decision::Refuse {
            alarm: Some(Alarm::SoldToAnother { owner, asked }),
            ..
        } => {
            assert_eq!(owner, "somebody");
            assert_eq!(asked, brski::DomainKey::of(&scene.domain.certificate));
        }
        other => panic!("{other:?}"),
    }
    // An owner's name without the owner's certificates proves nothing.
    let stranger = Ca::root("Domain");
    scene.device().sold_to = Some("buyer".to_owned());
    scene.masa.owners[0].certificates = vec![stranger.certificate];
    assert!(matches!(scene.decide(), Decision::Refuse { .. }));
}

/// Requirements: BRSKI-5.6-15
#[test]
fn a_second_domain_is_an_alarm_and_not_an_owner() {
    let mut scene = Scene::new();
    assert_eq!(scene.send().status, 200);
    let holder = scene.device().holder.clone().unwrap().domain;
    let rival = Ca::root("Rival");
    scene.registrar = rival.registrar("rival");
    let own = scene.registrar.certificate().cloned();
    scene.inner().proximity_registrar_cert = own;
    scene.inner().nonce = nonce(5);
    scene.outer.nonce = nonce(5);
    assert_eq!(scene.send().status, 403);
    let asked = brski::DomainKey::of(&rival.certificate);
    assert_eq!(scene.masa.alarms, [Alarm::SecondDomain { holder, asked }]);
    assert_eq!(
        scene.device().holder.as_ref().map(|held| held.domain),
        Some(holder)
    );
    // After the first one released it, it is the second one's.
    scene.device().holder = None;
    assert_eq!(scene.send().status, 200);
}

/// Anybody can make a CA and read a serial number from a box.
#[test]
fn a_stranger_without_the_device_raises_no_alarm() {
    let mut scene = Scene::new();
    scene.inner = None;
    scene.device().sold_to = Some("somebody".to_owned());
    assert_eq!(scene.send().status, 403);
    scene.device().sold_to = None;
    scene.device().holder = Some(masa::Holder {
        domain: brski::DomainKey::from_bytes([7; 32]),
        owner: None,
    });
    assert_eq!(scene.send().status, 403);
    assert_eq!(scene.masa.log, ["masa.prior-missing", "masa.prior-missing"]);
    assert!(scene.masa.alarms.is_empty());
}

/// The old domain still has the device's signed request. With it, it can show that the device was
/// there once, and no more.
#[test]
fn a_released_device_is_not_taken_back_with_an_old_request() {
    let mut scene = Scene::new();
    let fresh = |scene: &mut Scene, number| {
        scene.inner().nonce = nonce(number);
        scene.outer.nonce = nonce(number);
    };
    fresh(&mut scene, 7);
    assert_eq!(scene.send().status, 200);
    assert_eq!(scene.send().status, 200);
    scene.device().holder = None;
    assert_eq!(scene.send().status, 403);
    // As another format it is the same nonce.
    scene.accept = Some(Envelope::Jws.media_type().to_owned());
    assert_eq!(scene.send().status, 403);
    assert_eq!(
        scene.masa.log,
        [
            "granted",
            "again",
            "masa.nonce-replayed",
            "masa.nonce-replayed"
        ]
    );
    assert_eq!(scene.device().holder, None);
    fresh(&mut scene, 8);
    assert_eq!(scene.send().status, 200);
}

/// Knowing a serial number is no claim to a device that nobody bought.
#[test]
fn nobody_comes_first_without_a_nonce() {
    let mut scene = Scene::new();
    let certificate = scene.domain.certificate.clone();
    scene.owner("o", certificate).nonceless = true;
    scene.nonceless();
    assert_eq!(scene.send().status, 403);
    assert_eq!(scene.masa.log, ["masa.not-sold"]);
    assert_eq!(scene.device().holder, None);
}

/// A cloned identity: the manufacturer's CA issued two certificates with one serial number.
#[test]
fn a_second_key_for_one_serial_number_is_an_alarm() {
    let mut scene = Scene::new();
    assert_eq!(scene.send().status, 200);
    let clone = scene.masa.manufacturer.device("SN-1");
    scene.inner.as_mut().unwrap().1 = clone;
    scene.inner().nonce = nonce(6);
    scene.outer.nonce = nonce(6);
    assert_eq!(scene.send().status, 403);
    assert!(matches!(
        scene.masa.alarms.as_slice(),
        [Alarm::Clone { .. }]
    ));
    assert_eq!(
        scene.masa.log.last().map(String::as_str),
        Some("masa.clone-suspected")
    );
}

/// Requirements: BRSKI-C-01
#[test]
fn a_named_tolerance_lets_a_known_quirk_pass() {
    let mut scene = Scene::new();
    scene.outer.idevid_issuer = None;
    assert!(scene.open().is_err());
    scene.masa.policy.tolerances = Tolerances::from_names(["idevid-issuer-missing"]).unwrap();
    let request = scene.open().unwrap();
    assert_eq!(request.oddities()[0].name, "idevid-issuer-missing");
}
