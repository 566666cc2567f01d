//! COSE vouchers and requests: the published ones, and who may sign what.

mod messages;
mod published;
mod vouchers;

use artifacts::verify::{
    PledgeRequestContext, ProximityTarget, RegistrarRequestContext, Trust, VoucherContext,
    verify_pledge_request, verify_registrar_request, verify_voucher,
};
use artifacts::{
    Assertion, Document, Envelope, IdevidIssuer, Nonce, RequestFields, SerialNumber, Signed,
    Tolerances, Voucher, VoucherFields, VoucherRequest, open, sign_request, sign_request_with,
    sign_voucher,
};
use ciborium::Value;
use pki::path::Anchors;
use pki::{Certificate, Coded, Identity, KeyKind, SignOptions, Unverified};
use testkit::{Pki, PkiOptions};
use time::OffsetDateTime;
use time::macros::datetime;

use crate::common::file;

/// When the certificates of the draft are all valid.
pub(crate) const AT: OffsetDateTime = datetime!(2023-06-01 00:00 UTC);
pub(crate) const NOW: OffsetDateTime = datetime!(2026-11-23 20:00 UTC);

pub(crate) fn example(name: &str) -> Vec<u8> {
    file(&format!("cbrski-31/{name}"))
}

pub(crate) fn certificate(name: &str) -> Certificate {
    Certificate::from_der(&example(&format!("{name}.der"))).unwrap()
}

pub(crate) fn opened(bytes: &[u8]) -> Unverified<Signed> {
    opened_by(bytes, &Tolerances::strict())
}

pub(crate) fn opened_by(bytes: &[u8], tolerances: &Tolerances) -> Unverified<Signed> {
    open(Document::Request, bytes, Some(Envelope::Cose), tolerances).unwrap()
}

/// The four parts of a COSE_Sign1 as ciborium sees them.
pub(crate) fn parts(bytes: &[u8]) -> [Value; 4] {
    let Value::Tag(18, inner) = ciborium::from_reader(bytes).unwrap() else {
        panic!("tag 18 is missing")
    };
    inner.into_array().unwrap().try_into().unwrap()
}

pub(crate) fn joined(parts: [Value; 4]) -> Vec<u8> {
    let mut out = Vec::new();
    let message = Value::Tag(18, Box::new(Value::Array(parts.to_vec())));
    ciborium::into_writer(&message, &mut out).unwrap();
    out
}

pub(crate) struct Scene {
    pub(crate) pki: Pki,
    pub(crate) pledge: Identity,
    pub(crate) nonce: Nonce,
    pub(crate) serial: SerialNumber,
}

impl Scene {
    pub(crate) fn new() -> Self {
        let pki = Pki::new(PkiOptions::new(NOW).with_kind(KeyKind::EcdsaP256)).unwrap();
        Self {
            pledge: pki.idevid("JADA123456789").unwrap(),
            pki,
            nonce: Nonce::from_octets(&[7; 8]).unwrap(),
            serial: SerialNumber::new("JADA123456789").unwrap(),
        }
    }

    pub(crate) fn registrar(&self) -> &Identity {
        &self.pki.domain.registrar
    }

    pub(crate) fn pledge_fields(&self) -> RequestFields {
        let key = self.registrar().chain[0].public_key();
        RequestFields {
            assertion: Some(Assertion::Proximity),
            nonce: Some(self.nonce.clone()),
            proximity_registrar_pubk_sha256: Some(key.sha256()),
            ..RequestFields::new(self.serial.clone())
        }
    }

    pub(crate) fn pledge_payload(&self) -> Vec<u8> {
        VoucherRequest::new(self.pledge_fields()).unwrap().to_cbor()
    }

    pub(crate) fn pledge_request(&self) -> Vec<u8> {
        let request = VoucherRequest::new(self.pledge_fields()).unwrap();
        sign_request(&request, Envelope::Cose, &self.pledge, None).unwrap()
    }

    pub(crate) fn registrar_request(&self, prior: Vec<u8>, extra: Vec<Certificate>) -> Vec<u8> {
        let fields = RequestFields {
            created_on: Some(NOW),
            idevid_issuer: Some(IdevidIssuer::of(&self.pledge.chain[0])),
            nonce: Some(self.nonce.clone()),
            prior_signed_voucher_request: Some(prior),
            ..RequestFields::new(self.serial.clone())
        };
        let request = VoucherRequest::new(fields).unwrap();
        let options = SignOptions {
            extra_certs: extra,
            ..SignOptions::default()
        };
        sign_request_with(&request, Envelope::Cose, self.registrar(), &options).unwrap()
    }

    pub(crate) fn judge_pledge(&self, bytes: &[u8], peer: &Certificate) -> &'static str {
        let manufacturer = self.pki.manufacturer_anchors();
        let context = PledgeRequestContext {
            peer: Some(peer),
            candidates: &self.pledge.chain[1..],
            proximity: ProximityTarget::ServerCertificate(&self.registrar().chain[..1]),
            ..PledgeRequestContext::new(Trust::new(&manufacturer, Some(NOW)))
        };
        let signed = match open(Document::Request, bytes, None, &Tolerances::strict()) {
            Ok(signed) => signed,
            Err(error) => return error.code(),
        };
        let judged = verify_pledge_request(&signed, &context, &Tolerances::strict());
        judged.result().map_or_else(Coded::code, |_| "valid")
    }

    pub(crate) fn judge_registrar(&self, bytes: &[u8]) -> &'static str {
        let manufacturer = self.pki.manufacturer_anchors();
        let context = RegistrarRequestContext::new(Some(NOW))
            .with_pledge(Trust::new(&manufacturer, Some(NOW)));
        let judged = verify_registrar_request(&opened(bytes), &context, &Tolerances::strict());
        match judged.result() {
            Ok(verified) if verified.proximity_proven => "proximity",
            Ok(_) => "valid",
            Err(error) => error.code(),
        }
    }

    pub(crate) fn voucher_fields(&self) -> VoucherFields {
        VoucherFields {
            created_on: Some(NOW),
            assertion: Some(Assertion::Proximity),
            nonce: Some(self.nonce.clone()),
            ..VoucherFields::new(self.serial.clone())
        }
    }

    pub(crate) fn voucher(&self, fields: VoucherFields) -> Vec<u8> {
        let voucher = Voucher::new(fields).unwrap();
        sign_voucher(&voucher, Envelope::Cose, &self.pki.masa_signer, NOW).unwrap()
    }

    pub(crate) fn stripped(bytes: &[u8]) -> Vec<u8> {
        let signed = opened(bytes);
        let cose = signed.dangerous_peek().cose().unwrap();
        cose.without_certificates().unwrap()
    }

    /// As a device with the MASA's signing certificate built in.
    pub(crate) fn judge_voucher(&self, bytes: &[u8], request: &VoucherRequest) -> &'static str {
        let anchors: Anchors = self.pki.masa_signer.chain[0].clone().into();
        let context = VoucherContext {
            request: Some(request),
            idevid: Some(&self.pledge.chain[0]),
            registrar_chain: Some(&self.registrar().chain[..1]),
            ..VoucherContext::new(Trust::new(&anchors, None))
        };
        let judged = verify_voucher(&opened(bytes), &context, &Tolerances::strict());
        judged.result().map_or_else(Coded::code, |_| "valid")
    }
}
