//! Keys and certificates for the tests, made by another library than ours.

use std::sync::Arc;

use pki::{Certificate, KeyKind, Signer, SoftwareKey};
use rcgen::{
    BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, KeyUsagePurpose, SanType,
};
use time::OffsetDateTime;
use time::macros::datetime;

pub(crate) const NOW: OffsetDateTime = datetime!(2026-06-01 12:00 UTC);

/// A CA.
pub(crate) struct Ca {
    pub(crate) certificate: Certificate,
    pub(crate) params: CertificateParams,
    pub(crate) key: KeyPair,
}

fn ca_params(name: &str, until: OffsetDateTime) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, name);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params.not_before = datetime!(2026-01-01 0:00 UTC);
    params.not_after = until;
    params.use_authority_key_identifier_extension = true;
    params
}

impl Ca {
    /// A self-signed CA.
    pub(crate) fn root(name: &str, until: OffsetDateTime) -> Self {
        let params = ca_params(name, until);
        let key = KeyPair::generate().unwrap();
        let certificate = params.self_signed(&key).unwrap();
        Self {
            certificate: Certificate::from_der(certificate.der()).unwrap(),
            params,
            key,
        }
    }

    /// A CA below this one.
    pub(crate) fn sub(&self, name: &str) -> Self {
        let params = ca_params(name, datetime!(2030-01-01 0:00 UTC));
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.issuer()).unwrap();
        Self {
            certificate: Certificate::from_der(certificate.der()).unwrap(),
            params,
            key,
        }
    }

    /// The certificate that another CA's name and key get from this CA: a bridge of a rollover.
    pub(crate) fn cross(&self, other: &Self) -> Certificate {
        let certificate = other.params.signed_by(&other.key, &self.issuer()).unwrap();
        Certificate::from_der(certificate.der()).unwrap()
    }

    fn issuer(&self) -> Issuer<'_, &KeyPair> {
        Issuer::from_params(&self.params, &self.key)
    }

    /// A certificate for a key of ours.
    pub(crate) fn issue(&self, name: &str, dns_names: &[&str], key: &dyn Signer) -> Certificate {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, name);
        params.subject_alt_names = dns_names
            .iter()
            .map(|name| SanType::DnsName((*name).try_into().unwrap()))
            .collect();
        params.not_before = datetime!(2026-05-01 0:00 UTC);
        params.not_after = datetime!(2027-05-01 0:00 UTC);
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.use_authority_key_identifier_extension = true;
        let key = Point(key.public_key().spki_der().to_vec());
        let certificate = params.signed_by(&key, &self.issuer()).unwrap();
        Certificate::from_der(certificate.der()).unwrap()
    }
}

/// A P-256 key, as rcgen wants it: the point stands at the end of the SubjectPublicKeyInfo.
struct Point(Vec<u8>);

impl rcgen::PublicKeyData for Point {
    fn der_bytes(&self) -> &[u8] {
        &self.0[self.0.len() - 65..]
    }

    fn algorithm(&self) -> &'static rcgen::SignatureAlgorithm {
        &rcgen::PKCS_ECDSA_P256_SHA256
    }
}

/// A fresh P-256 key.
pub(crate) fn key() -> Arc<SoftwareKey> {
    Arc::new(SoftwareKey::generate(KeyKind::EcdsaP256).unwrap())
}
