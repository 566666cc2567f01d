//! What both ends share of TLS: the provider, proof of possession without trust, and identities
//! whose key is a [`pki::Signer`] in a file or in an HSM.

use std::fmt;
use std::sync::{Arc, OnceLock};

use pki::{Identity, SignatureAlgorithm};
use rustls::client::danger::HandshakeSignatureValid;
use rustls::crypto::CryptoProvider;
use rustls::pki_types::CertificateDer;
use rustls::sign::CertifiedKey;
use rustls::{DigitallySignedStruct, PeerMisbehaved, SignatureScheme, SupportedProtocolVersion};

use crate::Error;

/// Which versions of TLS a side takes part in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum TlsVersions {
    /// TLS 1.3, and 1.2 for those who know no better.
    #[default]
    Both,
    /// TLS 1.2 only: for tests and for peers that break on a 1.3 hello.
    Only12,
    /// TLS 1.3 only.
    Only13,
}

impl TlsVersions {
    pub(crate) fn rustls(self) -> &'static [&'static SupportedProtocolVersion] {
        static BOTH: [&SupportedProtocolVersion; 2] =
            [&rustls::version::TLS13, &rustls::version::TLS12];
        static ONLY12: [&SupportedProtocolVersion; 1] = [&rustls::version::TLS12];
        static ONLY13: [&SupportedProtocolVersion; 1] = [&rustls::version::TLS13];
        match self {
            Self::Both => &BOTH,
            Self::Only12 => &ONLY12,
            Self::Only13 => &ONLY13,
        }
    }
}

/// The one provider: aws-lc-rs, with X25519MLKEM768 before the classical groups.
pub(crate) fn provider() -> Arc<CryptoProvider> {
    static PROVIDER: OnceLock<Arc<CryptoProvider>> = OnceLock::new();
    Arc::clone(PROVIDER.get_or_init(|| Arc::new(rustls::crypto::aws_lc_rs::default_provider())))
}

/// Label of the channel binding in RFC 9266 section 2.
pub(crate) const CHANNEL_BINDING_LABEL: &[u8] = b"EXPORTER-Channel-Binding";

/// The schemes under which a peer can prove its key; RSA with PKCS#1 only counts in TLS 1.2.
pub(crate) fn verify_schemes() -> Vec<SignatureScheme> {
    provider()
        .signature_verification_algorithms
        .supported_schemes()
}

/// Checks the peer's signature over the handshake with the key in its certificate.
///
/// The certificate is not parsed further than to its key: a certificate with an unknown critical
/// extension or an odd date still has to reach the service that can refuse it with a reason.
pub(crate) fn verify_possession(
    message: &[u8],
    certificate: &CertificateDer<'_>,
    signed: &DigitallySignedStruct,
    tls13: bool,
) -> Result<HandshakeSignatureValid, rustls::Error> {
    let bad_certificate =
        || rustls::Error::InvalidCertificate(rustls::CertificateError::BadEncoding);
    let spki = spki_of(certificate).ok_or_else(bad_certificate)?;
    let (algorithm, key) = split_spki(spki).ok_or_else(bad_certificate)?;
    if tls13 && !usable_in_tls13(signed.scheme) {
        return Err(PeerMisbehaved::SignedHandshakeWithUnadvertisedSigScheme.into());
    }
    let candidates = provider()
        .signature_verification_algorithms
        .mapping
        .iter()
        .find(|(scheme, _)| *scheme == signed.scheme)
        .map(|(_, candidates)| *candidates)
        .ok_or(PeerMisbehaved::SignedHandshakeWithUnadvertisedSigScheme)?;
    // In TLS 1.3 the scheme fixes the curve, which is the first candidate; in TLS 1.2 it does not.
    let candidates = if tls13 {
        candidates.get(..1).unwrap_or_default()
    } else {
        candidates
    };
    let matching = candidates
        .iter()
        .find(|candidate| candidate.public_key_alg_id().as_ref() == algorithm)
        .ok_or(PeerMisbehaved::SignedHandshakeWithUnadvertisedSigScheme)?;
    matching
        .verify_signature(key, message, signed.signature())
        .map(|()| HandshakeSignatureValid::assertion())
        .map_err(|_| rustls::Error::InvalidCertificate(rustls::CertificateError::BadSignature))
}

/// RFC 8446 section 4.2.3 takes RSA with PKCS#1 away from handshake signatures.
fn usable_in_tls13(scheme: SignatureScheme) -> bool {
    !is_pkcs1(scheme)
}

/// RSA with PKCS#1 v1.5.
pub(crate) fn is_pkcs1(scheme: SignatureScheme) -> bool {
    matches!(
        scheme,
        SignatureScheme::RSA_PKCS1_SHA256
            | SignatureScheme::RSA_PKCS1_SHA384
            | SignatureScheme::RSA_PKCS1_SHA512
            | SignatureScheme::RSA_PKCS1_SHA1
    )
}

/// One TLV of a DER encoding.
struct Tlv<'a> {
    tag: u8,
    content: &'a [u8],
    whole: &'a [u8],
    rest: &'a [u8],
}

/// Takes one TLV off the front. Lengths have up to four bytes.
fn tlv(input: &[u8]) -> Option<Tlv<'_>> {
    let (&tag, after_tag) = input.split_first()?;
    let (&first, after_first) = after_tag.split_first()?;
    let (length, body) = if first < 0x80 {
        (usize::from(first), after_first)
    } else {
        let count = usize::from(first & 0x7f);
        if count == 0 || count > 4 {
            return None;
        }
        let bytes = after_first.get(..count)?;
        let length = bytes
            .iter()
            .fold(0_usize, |sum, byte| (sum << 8) | usize::from(*byte));
        (length, after_first.get(count..)?)
    };
    let content = body.get(..length)?;
    let rest = body.get(length..)?;
    let whole = input.get(..input.len().checked_sub(rest.len())?)?;
    Some(Tlv {
        tag,
        content,
        whole,
        rest,
    })
}

/// Takes a SEQUENCE off the front.
fn sequence(input: &[u8]) -> Option<Tlv<'_>> {
    tlv(input).filter(|tlv| tlv.tag == 0x30)
}

/// The SubjectPublicKeyInfo (whole TLV) of a certificate, found by position.
fn spki_of(certificate: &[u8]) -> Option<&[u8]> {
    let tbs = sequence(sequence(certificate)?.content)?.content;
    // version [0] EXPLICIT is absent in certificates of version 1.
    let first = tlv(tbs)?;
    let mut rest = if first.tag == 0xa0 { first.rest } else { tbs };
    // serialNumber, signature, issuer, validity, subject.
    for _ in 0..5 {
        rest = tlv(rest)?.rest;
    }
    sequence(rest).map(|spki| spki.whole)
}

/// Content of the algorithm identifier, and the key bits.
fn split_spki(spki: &[u8]) -> Option<(&[u8], &[u8])> {
    let algorithm = sequence(sequence(spki)?.content)?;
    let bits = tlv(algorithm.rest).filter(|tlv| tlv.tag == 0x03)?;
    match bits.content.split_first() {
        Some((0, key)) => Some((algorithm.content, key)),
        _ => None,
    }
}

/// Makes a [`pki::Identity`] usable by rustls, without taking the key out of its `Signer`.
pub(crate) fn certified_key(identity: &Identity) -> Result<Arc<CertifiedKey>, Error> {
    let Some(leaf) = identity.chain.first() else {
        return Err(Error::Identity("the chain is empty".to_owned()));
    };
    // A mismatch would only show as a failed handshake at the peer, who cannot mend it.
    if leaf.public_key().spki_der() != identity.signer.public_key().spki_der() {
        return Err(Error::Identity(format!(
            "the key does not belong to the certificate of {}",
            leaf.subject()
        )));
    }
    let schemes = schemes_of(identity.signer.algorithm());
    if schemes.is_empty() {
        return Err(Error::Identity(format!(
            "TLS has no signature scheme for {:?}",
            identity.signer.algorithm()
        )));
    }
    let chain = identity
        .chain
        .iter()
        .map(|one| CertificateDer::from(one.der().to_vec()))
        .collect();
    let key = SigningKey {
        signer: Arc::clone(&identity.signer),
        schemes,
    };
    Ok(Arc::new(CertifiedKey::new(chain, Arc::new(key))))
}

/// The TLS schemes for a key of this algorithm, most wanted first.
fn schemes_of(algorithm: SignatureAlgorithm) -> &'static [(SignatureScheme, SignatureAlgorithm)] {
    use SignatureAlgorithm as A;
    use SignatureScheme as S;
    match algorithm {
        A::EcdsaP256Sha256 => &[(S::ECDSA_NISTP256_SHA256, A::EcdsaP256Sha256)],
        A::EcdsaP384Sha384 => &[(S::ECDSA_NISTP384_SHA384, A::EcdsaP384Sha384)],
        A::EcdsaP521Sha512 => &[(S::ECDSA_NISTP521_SHA512, A::EcdsaP521Sha512)],
        A::Ed25519 => &[(S::ED25519, A::Ed25519)],
        A::MlDsa44 => &[(S::ML_DSA_44, A::MlDsa44)],
        A::MlDsa65 => &[(S::ML_DSA_65, A::MlDsa65)],
        A::MlDsa87 => &[(S::ML_DSA_87, A::MlDsa87)],
        A::RsaPkcs1Sha256
        | A::RsaPkcs1Sha384
        | A::RsaPkcs1Sha512
        | A::RsaPssSha256
        | A::RsaPssSha384
        | A::RsaPssSha512 => &[
            (S::RSA_PSS_SHA256, A::RsaPssSha256),
            (S::RSA_PSS_SHA384, A::RsaPssSha384),
            (S::RSA_PSS_SHA512, A::RsaPssSha512),
            (S::RSA_PKCS1_SHA256, A::RsaPkcs1Sha256),
            (S::RSA_PKCS1_SHA384, A::RsaPkcs1Sha384),
            (S::RSA_PKCS1_SHA512, A::RsaPkcs1Sha512),
        ],
        _ => &[],
    }
}

/// Whether rustls may pick this key for a peer with these schemes.
pub(crate) fn can_sign_for(key: &CertifiedKey, offered: &[SignatureScheme]) -> bool {
    key.key.choose_scheme(offered).is_some()
}

/// A `pki::Signer` as rustls wants it.
struct SigningKey {
    signer: Arc<dyn pki::Signer>,
    schemes: &'static [(SignatureScheme, SignatureAlgorithm)],
}

impl rustls::sign::SigningKey for SigningKey {
    fn choose_scheme(&self, offered: &[SignatureScheme]) -> Option<Box<dyn rustls::sign::Signer>> {
        let (scheme, algorithm) = self
            .schemes
            .iter()
            .find(|(scheme, _)| offered.contains(scheme))?;
        Some(Box::new(OneScheme {
            signer: Arc::clone(&self.signer),
            scheme: *scheme,
            algorithm: *algorithm,
        }))
    }

    fn algorithm(&self) -> rustls::SignatureAlgorithm {
        use rustls::SignatureAlgorithm as Kind;
        match self.schemes.first().map(|(scheme, _)| *scheme) {
            Some(
                SignatureScheme::ECDSA_NISTP256_SHA256
                | SignatureScheme::ECDSA_NISTP384_SHA384
                | SignatureScheme::ECDSA_NISTP521_SHA512,
            ) => Kind::ECDSA,
            Some(SignatureScheme::ED25519) => Kind::ED25519,
            Some(SignatureScheme::RSA_PSS_SHA256) => Kind::RSA,
            // ML-DSA has no number among the algorithms of TLS 1.2; rustls does the same.
            _ => Kind::Unknown(0),
        }
    }
}

impl fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SigningKey").finish_non_exhaustive()
    }
}

/// A key under the scheme that was negotiated.
struct OneScheme {
    signer: Arc<dyn pki::Signer>,
    scheme: SignatureScheme,
    algorithm: SignatureAlgorithm,
}

impl rustls::sign::Signer for OneScheme {
    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, rustls::Error> {
        self.signer
            .sign_with(self.algorithm, message)
            .map_err(|error| rustls::Error::General(format!("signing failed: {error}")))
    }

    fn scheme(&self) -> SignatureScheme {
        self.scheme
    }
}

impl fmt::Debug for OneScheme {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OneScheme")
            .field("scheme", &self.scheme)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Cut or bent at any place, a certificate is refused and never read beyond its end.
    #[test]
    fn broken_certificates_have_no_key_or_the_same_key() {
        let key = rcgen::KeyPair::generate().expect("a key");
        let params = rcgen::CertificateParams::new(vec!["localhost".to_owned()]).expect("names");
        let certificate = params.self_signed(&key).expect("a certificate");
        let der = certificate.der().to_vec();
        let spki = spki_of(&der).expect("found").to_vec();
        let (_, bits) = split_spki(&spki).expect("split");
        assert_eq!(bits, rcgen::PublicKeyData::der_bytes(&key));
        for length in 0..der.len() {
            assert_eq!(spki_of(der.get(..length).unwrap_or_default()), None);
        }
        for index in 0..der.len() {
            let mut bent = der.clone();
            if let Some(byte) = bent.get_mut(index) {
                *byte ^= 0x81;
            }
            // Whatever is found lies inside the certificate; it only must not panic.
            let _ = spki_of(&bent).and_then(split_spki);
        }
    }
}
