//! The published certificates and keys, and artefacts made with them.

use std::path::PathBuf;
use std::sync::Arc;

use artifacts::verify::Trust;
use artifacts::{
    Assertion, Document, Envelope, IdevidIssuer, Nonce, RequestFields, SerialNumber, Signed,
    Tolerances, Voucher, VoucherFields, VoucherRequest, open, sign_request, sign_request_with,
    sign_voucher,
};
use pki::path::Anchors;
use pki::{Certificate, Identity, SignOptions, SoftwareKey, Unverified};
use time::OffsetDateTime;
use time::macros::datetime;

/// When the certificates of RFC 8995 appendix C are all valid.
pub(crate) const AT_8995: OffsetDateTime = datetime!(2021-06-01 00:00 UTC);
/// The same for draft-ietf-anima-jws-voucher section 8.
pub(crate) const AT_JWS: OffsetDateTime = datetime!(2024-12-01 00:00 UTC);

pub(crate) const SERIAL: &str = "00-D0-E5-F2-00-02";
pub(crate) const NONCE: &str = "AAECAwQFBgcICQoLDA0ODw==";

pub(crate) fn file(name: &str) -> Vec<u8> {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR"))
        .join("tests/data")
        .join(name);
    std::fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

pub(crate) fn certificate(name: &str) -> Certificate {
    let bytes = file(name);
    Certificate::from_pem(std::str::from_utf8(&bytes).unwrap()).unwrap()
}

pub(crate) fn identity(chain: &[&str], key: &str) -> Identity {
    let key = String::from_utf8(file(key)).unwrap();
    Identity {
        chain: chain.iter().map(|name| certificate(name)).collect(),
        signer: Arc::new(SoftwareKey::from_pem(&key, None).unwrap()),
    }
}

/// The two hierarchies of RFC 8995 appendix C.
pub(crate) struct World {
    pub(crate) vendor: Anchors,
    pub(crate) owner: Anchors,
    pub(crate) masa: Identity,
    pub(crate) registrar: Identity,
    pub(crate) pledge: Identity,
}

impl World {
    pub(crate) fn new() -> Self {
        let jrc = [
            "rfc8995/jrc_prime256v1.crt",
            "rfc8995/ownerca_secp384r1.crt",
        ];
        Self {
            vendor: certificate("rfc8995/vendor.crt").into(),
            owner: certificate("rfc8995/ownerca_secp384r1.crt").into(),
            masa: identity(
                &["rfc8995/masa.crt", "rfc8995/vendor.crt"],
                "rfc8995/masa.key",
            ),
            registrar: identity(&jrc, "rfc8995/jrc_prime256v1.key"),
            pledge: identity(
                &["rfc8995/idevid_00-D0-E5-F2-00-02.crt"],
                "rfc8995/idevid_00-D0-E5-F2-00-02.key",
            ),
        }
    }

    pub(crate) fn vendor_trust(&self) -> Trust<'_> {
        Trust::new(&self.vendor, Some(AT_8995))
    }

    pub(crate) fn owner_trust(&self) -> Trust<'_> {
        Trust::new(&self.owner, Some(AT_8995))
    }

    pub(crate) fn idevid(&self) -> &Certificate {
        &self.pledge.chain[0]
    }

    pub(crate) fn voucher_fields(&self) -> VoucherFields {
        VoucherFields {
            created_on: Some(AT_8995),
            assertion: Some(Assertion::Proximity),
            pinned_domain_cert: Some(self.registrar.chain[1].clone()),
            nonce: Nonce::from_text(NONCE),
            ..VoucherFields::new(serial())
        }
    }

    pub(crate) fn voucher(&self, envelope: Envelope, fields: VoucherFields) -> Vec<u8> {
        let voucher = Voucher::new(fields).unwrap();
        sign_voucher(&voucher, envelope, &self.masa, AT_8995).unwrap()
    }

    pub(crate) fn pledge_fields(&self) -> RequestFields {
        RequestFields {
            assertion: Some(Assertion::Proximity),
            nonce: Nonce::from_text(NONCE),
            proximity_registrar_cert: Some(self.registrar.chain[0].clone()),
            ..RequestFields::new(serial())
        }
    }

    pub(crate) fn pledge_request(&self, envelope: Envelope, fields: RequestFields) -> Vec<u8> {
        request(envelope, fields, &self.pledge)
    }

    pub(crate) fn registrar_fields(&self, prior: Vec<u8>) -> RequestFields {
        RequestFields {
            created_on: Some(AT_8995),
            assertion: Some(Assertion::Proximity),
            idevid_issuer: Some(IdevidIssuer::of(self.idevid())),
            nonce: Nonce::from_text(NONCE),
            prior_signed_voucher_request: Some(prior),
            ..RequestFields::new(serial())
        }
    }

    pub(crate) fn registrar_request(&self, envelope: Envelope, fields: RequestFields) -> Vec<u8> {
        let request = VoucherRequest::new(fields).unwrap();
        // In COSE the device's certificates come along with the registrar's.
        let options = SignOptions {
            signing_time: Some(AT_8995),
            extra_certs: match envelope {
                Envelope::Cms | Envelope::Jws => Vec::new(),
                Envelope::Cose => self.pledge.chain.clone(),
            },
            ..SignOptions::default()
        };
        sign_request_with(&request, envelope, &self.registrar, &options).unwrap()
    }
}

pub(crate) fn serial() -> SerialNumber {
    SerialNumber::new(SERIAL).unwrap()
}

pub(crate) fn request(envelope: Envelope, fields: RequestFields, identity: &Identity) -> Vec<u8> {
    let request = VoucherRequest::new(fields).unwrap();
    sign_request(&request, envelope, identity, Some(AT_8995)).unwrap()
}

pub(crate) fn opened(bytes: &[u8], tolerances: &Tolerances) -> Unverified<Signed> {
    open(Document::Voucher, bytes, None, tolerances).unwrap()
}
