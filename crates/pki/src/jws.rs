//! JSON Web Signature in the General JSON serialisation (RFC 7515 §7.2.1), with certificates in
//! `x5c` as draft-ietf-anima-jws-voucher wants them.
//!
//! Algorithms: ES256, ES384, ES512, EdDSA (also under its RFC 9864 name Ed25519), RS256 to RS512,
//! PS256 to PS512, and ML-DSA-44, ML-DSA-65 and ML-DSA-87 of RFC 9964. There is no `none` and no
//! HMAC.

mod parse;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use serde_json::json;

use crate::public_key::Kind;
use crate::tlv::{self, Reader};
use crate::{
    Certificate, Error, Identity, IncludeCertificates, Oddity, PublicKey, SeveralSigners,
    SignOptions, SignatureAlgorithm, VerifiedSigner,
};

/// How many of the caller's certificates are tried when a JWS does not say who signed it.
const NAMELESS_CERTIFICATES_MAX: usize = 8;

/// `typ` of a JWS voucher.
pub const TYPE_VOUCHER: &str = "voucher-jws+json";

/// What to demand of a JWS. The default is strict.
#[derive(Clone, Debug, Default)]
pub struct JwsPolicy {
    /// The `typ` that the protected header must have if it has one; `None` takes any.
    pub typ: Option<String>,
    /// Take another `typ` than the expected one.
    pub allow_other_type: bool,
    /// Take the Flattened and Compact serialisations.
    pub allow_other_serialization: bool,
    /// Take base64url with padding or the standard alphabet.
    pub allow_base64_forms: bool,
    /// Take base64url in `x5c`.
    pub allow_certificate_base64url: bool,
    /// Take certificates in `x5c` that are not in order, each certifying the one before. The
    /// signer's is the first all the same.
    pub allow_unordered_certificates: bool,
    /// What to do with more than one signature.
    pub several_signers: SeveralSigners,
}

impl JwsPolicy {
    /// Everything as the standards demand, with one expected `typ`.
    pub fn strict(typ: &str) -> Self {
        Self {
            typ: Some(typ.to_owned()),
            ..Self::default()
        }
    }

    /// Every tolerance that does not weaken what the signature says.
    pub fn tolerant(typ: Option<&str>) -> Self {
        Self {
            typ: typ.map(str::to_owned),
            allow_other_type: true,
            allow_other_serialization: true,
            allow_base64_forms: true,
            allow_certificate_base64url: true,
            allow_unordered_certificates: true,
            several_signers: SeveralSigners::All,
        }
    }
}

/// Signs a payload as General JSON with one signature; `typ` goes to the protected header.
///
/// # Errors
/// If the identity is inconsistent or signing fails.
pub fn sign(
    payload: &[u8],
    typ: Option<&str>,
    identity: &Identity,
    options: &SignOptions,
) -> Result<Vec<u8>, Error> {
    let payload_text = URL_SAFE_NO_PAD.encode(payload);
    let (protected, signature) = sign_text(&payload_text, typ, identity, options)?;
    Ok(serialize(&payload_text, &[(&protected, &signature)]))
}

/// Adds a signature over the same payload to an existing General JSON serialisation. The
/// signatures that are there are kept as they are and not verified.
///
/// # Errors
/// If the message is malformed or odd, or signing fails.
pub fn add_signature(
    jws: &[u8],
    typ: Option<&str>,
    identity: &Identity,
    options: &SignOptions,
) -> Result<Vec<u8>, Error> {
    let existing = Jws::parse(jws)?;
    let odd = existing
        .oddities
        .iter()
        .chain(
            existing
                .signatures
                .iter()
                .flat_map(|signature| &signature.oddities),
        )
        .next();
    if let Some(oddity) = odd {
        return Err(Error::JwsNotGeneral(format!("{oddity:?}")));
    }
    let (protected, signature) = sign_text(&existing.payload_text, typ, identity, options)?;
    let mut all: Vec<(&str, &str)> = existing
        .signatures
        .iter()
        .map(|signature| {
            (
                signature.protected_text.as_str(),
                signature.signature_text.as_str(),
            )
        })
        .collect();
    all.push((&protected, &signature));
    Ok(serialize(&existing.payload_text, &all))
}

fn serialize(payload: &str, signatures: &[(&str, &str)]) -> Vec<u8> {
    let signatures: Vec<_> = signatures
        .iter()
        .map(|(protected, signature)| json!({ "protected": protected, "signature": signature }))
        .collect();
    json!({ "payload": payload, "signatures": signatures })
        .to_string()
        .into_bytes()
}

/// The protected header and the signature, both in base64url.
fn sign_text(
    payload_text: &str,
    typ: Option<&str>,
    identity: &Identity,
    options: &SignOptions,
) -> Result<(String, String), Error> {
    let certificate = identity.certificate().ok_or(Error::IdentityMismatch)?;
    let algorithm = identity.signer.algorithm();
    let name = name_of(algorithm)
        .ok_or_else(|| Error::UnsupportedAlgorithm(format!("{algorithm} in JWS")))?;
    let mut header = serde_json::Map::new();
    header.insert("alg".to_owned(), name.into());
    if let Some(typ) = typ {
        header.insert("typ".to_owned(), typ.into());
    }
    let chain: &[Certificate] = match options.include_certs {
        IncludeCertificates::Chain => &identity.chain,
        IncludeCertificates::Signer => identity.chain.get(..1).unwrap_or_default(),
        IncludeCertificates::None => &[],
    };
    if chain.is_empty() {
        let id = certificate
            .subject_key_id()
            .unwrap_or_else(|| certificate.public_key().sha1_key_id().to_vec());
        header.insert("kid".to_owned(), STANDARD.encode(id).into());
    } else {
        let chain: Vec<String> = chain
            .iter()
            .map(|certificate| STANDARD.encode(certificate.der()))
            .collect();
        header.insert("x5c".to_owned(), chain.into());
    }
    let protected = URL_SAFE_NO_PAD.encode(serde_json::Value::Object(header).to_string());
    let signature = identity
        .signer
        .sign(format!("{protected}.{payload_text}").as_bytes())?;
    let signature = match field_size(algorithm) {
        Some(size) => der_to_fixed(&signature, size)
            .ok_or_else(|| Error::Signing("ECDSA signature is malformed".to_owned()))?,
        None => signature,
    };
    Ok((protected, URL_SAFE_NO_PAD.encode(signature)))
}

/// A parsed JWS. Nothing in it is verified until [`Jws::verify`] says so.
#[derive(Clone, Debug)]
pub struct Jws {
    payload: Vec<u8>,
    payload_text: String,
    signatures: Vec<Signature>,
    oddities: Vec<Oddity>,
}

/// One signature with its protected header.
#[derive(Clone, Debug)]
struct Signature {
    protected_text: String,
    signature_text: String,
    signature: Vec<u8>,
    algorithm: String,
    typ: Option<String>,
    key_id: Option<String>,
    thumbprint: Option<Vec<u8>>,
    certificates: Vec<Certificate>,
    oddities: Vec<Oddity>,
}

impl Jws {
    /// Parses a JWS.
    ///
    /// # Errors
    /// If it is malformed or over a limit.
    pub fn parse(bytes: &[u8]) -> Result<Self, Error> {
        parse::parse(bytes)
    }

    /// The payload octets.
    pub fn payload(&self) -> &[u8] {
        &self.payload
    }

    /// The number of signatures.
    pub fn signer_count(&self) -> usize {
        self.signatures.len()
    }

    /// The `x5c` certificates of one signature, signer first.
    pub fn certificates(&self, index: usize) -> &[Certificate] {
        self.signatures
            .get(index)
            .map_or(&[], |signature| &signature.certificates)
    }

    /// The `alg` of one signature.
    pub fn algorithm(&self, index: usize) -> Option<&str> {
        self.signatures
            .get(index)
            .map(|signature| signature.algorithm.as_str())
    }

    /// The `typ` of one signature.
    pub fn typ(&self, index: usize) -> Option<&str> {
        self.signatures.get(index)?.typ.as_deref()
    }

    /// The `kid` of one signature.
    pub fn key_id(&self, index: usize) -> Option<&str> {
        self.signatures.get(index)?.key_id.as_deref()
    }

    /// What is odd about the message as a whole.
    pub fn oddities(&self) -> &[Oddity] {
        &self.oddities
    }

    /// Verifies the signature (or signatures, by policy). `extra_certs` are looked at when there
    /// is no `x5c`.
    ///
    /// # Errors
    /// The first reason why the message is not acceptable.
    pub fn verify(
        &self,
        policy: &JwsPolicy,
        extra_certs: &[Certificate],
    ) -> Result<VerifiedSigner, Error> {
        let several = match self.signatures.len() {
            0 => return Err(Error::JwsNoSigner),
            1 => false,
            _ => true,
        };
        if several && policy.several_signers == SeveralSigners::Refuse {
            return Err(Error::JwsSeveralSigners(self.signatures.len()));
        }
        let results = self.verify_each(policy, extra_certs);
        let mut verified = match policy.several_signers {
            SeveralSigners::Any => crate::signed::first_verified(results, Error::JwsNoSigner)?,
            SeveralSigners::All | SeveralSigners::Refuse => {
                let all = results.into_iter().collect::<Result<Vec<_>, _>>()?;
                all.into_iter().next().ok_or(Error::JwsNoSigner)?
            }
        };
        if several {
            verified
                .oddities
                .push(Oddity::SeveralSigners(self.signatures.len()));
        }
        Ok(verified)
    }

    /// Verifies each signature for itself, in order; their number is not judged.
    pub fn verify_each(
        &self,
        policy: &JwsPolicy,
        extra_certs: &[Certificate],
    ) -> Vec<Result<VerifiedSigner, Error>> {
        self.signatures
            .iter()
            .map(|signature| self.verify_one(signature, policy, extra_certs))
            .collect()
    }

    fn verify_one(
        &self,
        signature: &Signature,
        policy: &JwsPolicy,
        extra_certs: &[Certificate],
    ) -> Result<VerifiedSigner, Error> {
        let mut oddities = self.oddities.clone();
        oddities.extend_from_slice(&signature.oddities);
        // JWS-3-01: the General JWS JSON Serialization is used.
        if oddities.contains(&Oddity::NotGeneralSerialization) && !policy.allow_other_serialization
        {
            return Err(Error::JwsNotGeneral(
                "it is another serialization".to_owned(),
            ));
        }
        if oddities.contains(&Oddity::Base64Form) && !policy.allow_base64_forms {
            return Err(Error::JwsBase64("a member"));
        }
        // JWS-3.2-03: x5c is standard base64, not base64url.
        if oddities.contains(&Oddity::CertificateBase64Form) && !policy.allow_certificate_base64url
        {
            return Err(Error::JwsCertificates(
                "it is not standard base64".to_owned(),
            ));
        }
        check_type(signature, policy, &mut oddities)?;
        check_order(signature, policy, &mut oddities)?;

        let message = format!("{}.{}", signature.protected_text, self.payload_text);
        let named: Vec<&Certificate> = match signature.certificates.first() {
            // JWS-3.2-06: the first x5c certificate is the signer.
            Some(first) => vec![first],
            None => {
                oddities.push(Oddity::SignerCertificateElsewhere);
                named_certificates(signature, extra_certs)
            }
        };
        let mut reason = Error::JwsSignerCertificateMissing;
        for certificate in named {
            match verify_under(certificate.public_key(), signature, message.as_bytes()) {
                Ok(algorithm) => {
                    let candidates = signature
                        .certificates
                        .iter()
                        .filter(|other| *other != certificate)
                        .cloned()
                        .collect();
                    return Ok(VerifiedSigner {
                        certificate: certificate.clone(),
                        candidates,
                        signing_time: None,
                        algorithm,
                        oddities,
                    });
                }
                // A known certificate that cannot be the signer's says nothing about the signature.
                Err(Error::AlgorithmKeyMismatch { .. }) if signature.certificates.is_empty() => {}
                Err(error) => reason = error,
            }
        }
        Err(reason)
    }
}

fn check_type(
    signature: &Signature,
    policy: &JwsPolicy,
    oddities: &mut Vec<Oddity>,
) -> Result<(), Error> {
    let Some(expected) = &policy.typ else {
        return Ok(());
    };
    match &signature.typ {
        None => oddities.push(Oddity::NoType),
        Some(found) if found == expected => {}
        // JWS-3.2-02: typ, if present, equals voucher-jws+json.
        Some(found) if !policy.allow_other_type => {
            return Err(Error::JwsType {
                found: found.clone(),
                expected: expected.clone(),
            });
        }
        Some(found) => oddities.push(Oddity::WrongType(found.clone())),
    }
    Ok(())
}

fn check_order(
    signature: &Signature,
    policy: &JwsPolicy,
    oddities: &mut Vec<Oddity>,
) -> Result<(), Error> {
    let ordered = signature.certificates.windows(2).all(|pair| match pair {
        [certificate, issuer] => certificate.issuer_der() == issuer.subject_der(),
        _ => true,
    });
    if ordered {
        return Ok(());
    }
    // RFC 7515 §4.1.6: each additional certificate is "used to certify the previous one".
    if !policy.allow_unordered_certificates {
        return Err(Error::JwsCertificates("they are not in order".to_owned()));
    }
    oddities.push(Oddity::CertificatesUnordered);
    Ok(())
}

/// The caller's certificates that `x5t#S256` or `kid` name, or, if there is neither, the first
/// few.
fn named_certificates<'a>(
    signature: &Signature,
    extra_certs: &'a [Certificate],
) -> Vec<&'a Certificate> {
    let key_id = signature.key_id.as_deref().and_then(parse::decode_key_id);
    let is_named = |certificate: &&Certificate| {
        if let Some(thumbprint) = &signature.thumbprint {
            return certificate.sha256().as_slice() == thumbprint.as_slice();
        }
        match (&signature.key_id, &key_id) {
            (None, _) => true,
            (Some(_), None) => false,
            (Some(_), Some(id)) => {
                certificate.subject_key_id().as_ref() == Some(id)
                    || certificate.public_key().sha1_key_id().as_slice() == id.as_slice()
            }
        }
    };
    extra_certs
        .iter()
        .filter(is_named)
        .take(NAMELESS_CERTIFICATES_MAX)
        .collect()
}

fn verify_under(
    key: &PublicKey,
    signature: &Signature,
    message: &[u8],
) -> Result<SignatureAlgorithm, Error> {
    let algorithm = algorithm_of(&signature.algorithm, key)?;
    let result = match field_size(algorithm) {
        Some(size) => {
            // JWS-3.3-02: an ES256 signature is R and S in 64 octets, not DER.
            let der = fixed_to_der(&signature.signature, size).ok_or(Error::JwsSignature)?;
            key.verify(algorithm, message, &der)
        }
        None => key.verify(algorithm, message, &signature.signature),
    };
    match result {
        Ok(()) => Ok(algorithm),
        Err(Error::SignatureInvalid(_)) if defects::seeded!("jws-skips-signature") => Ok(algorithm),
        Err(Error::SignatureInvalid(_)) => Err(Error::JwsSignature),
        Err(other) => Err(other),
    }
}

/// The algorithm that a registered name stands for. Whether it goes with the key is checked here
/// for ECDSA, whose names fix the curve, and by the verifier for the others.
fn algorithm_of(name: &str, key: &PublicKey) -> Result<SignatureAlgorithm, Error> {
    let (algorithm, kind) = match name {
        "ES256" => (SignatureAlgorithm::EcdsaP256Sha256, Some(Kind::P256)),
        "ES384" => (SignatureAlgorithm::EcdsaP384Sha384, Some(Kind::P384)),
        "ES512" => (SignatureAlgorithm::EcdsaP521Sha512, Some(Kind::P521)),
        "EdDSA" | "Ed25519" => (SignatureAlgorithm::Ed25519, Some(Kind::Ed25519)),
        "RS256" => (SignatureAlgorithm::RsaPkcs1Sha256, None),
        "RS384" => (SignatureAlgorithm::RsaPkcs1Sha384, None),
        "RS512" => (SignatureAlgorithm::RsaPkcs1Sha512, None),
        "PS256" => (SignatureAlgorithm::RsaPssSha256, None),
        "PS384" => (SignatureAlgorithm::RsaPssSha384, None),
        "PS512" => (SignatureAlgorithm::RsaPssSha512, None),
        "ML-DSA-44" => (SignatureAlgorithm::MlDsa44, Some(Kind::MlDsa44)),
        "ML-DSA-65" => (SignatureAlgorithm::MlDsa65, Some(Kind::MlDsa65)),
        "ML-DSA-87" => (SignatureAlgorithm::MlDsa87, Some(Kind::MlDsa87)),
        other => {
            // `none` and HMAC would make the certificate's public key a shared secret or no key
            // at all.
            let shown: String = other.chars().take(32).collect();
            return Err(Error::JwsAlgorithm(format!("{shown:?} is not allowed")));
        }
    };
    let fits = match kind {
        Some(kind) => key.kind_of() == kind,
        None => matches!(key.kind_of(), Kind::Rsa { .. }),
    };
    if fits {
        Ok(algorithm)
    } else {
        Err(Error::AlgorithmKeyMismatch {
            algorithm: name.to_owned(),
            key: key.describe(),
        })
    }
}

fn name_of(algorithm: SignatureAlgorithm) -> Option<&'static str> {
    Some(match algorithm {
        SignatureAlgorithm::EcdsaP256Sha256 => "ES256",
        SignatureAlgorithm::EcdsaP384Sha384 => "ES384",
        SignatureAlgorithm::EcdsaP521Sha512 => "ES512",
        SignatureAlgorithm::Ed25519 => "EdDSA",
        SignatureAlgorithm::RsaPkcs1Sha256 => "RS256",
        SignatureAlgorithm::RsaPkcs1Sha384 => "RS384",
        SignatureAlgorithm::RsaPkcs1Sha512 => "RS512",
        SignatureAlgorithm::RsaPssSha256 => "PS256",
        SignatureAlgorithm::RsaPssSha384 => "PS384",
        SignatureAlgorithm::RsaPssSha512 => "PS512",
        SignatureAlgorithm::MlDsa44 => "ML-DSA-44",
        SignatureAlgorithm::MlDsa65 => "ML-DSA-65",
        SignatureAlgorithm::MlDsa87 => "ML-DSA-87",
        _ => return None,
    })
}

/// The size of R and of S, for ECDSA.
pub(crate) fn field_size(algorithm: SignatureAlgorithm) -> Option<usize> {
    match algorithm {
        SignatureAlgorithm::EcdsaP256Sha256 => Some(32),
        SignatureAlgorithm::EcdsaP384Sha384 => Some(48),
        SignatureAlgorithm::EcdsaP521Sha512 => Some(66),
        _ => None,
    }
}

/// R and S, side by side, as DER ECDSA-Sig-Value.
pub(crate) fn fixed_to_der(fixed: &[u8], size: usize) -> Option<Vec<u8>> {
    if fixed.len() != 2 * size {
        return None;
    }
    let (r, s) = fixed.split_at(size);
    let integer = |octets: &[u8]| {
        let start = octets
            .iter()
            .position(|octet| *octet != 0)
            .unwrap_or(size - 1);
        let octets = octets.get(start..).unwrap_or_default();
        let sign: &[u8] = if octets.first().is_some_and(|octet| octet & 0x80 != 0) {
            &[0]
        } else {
            &[]
        };
        tlv::element(tlv::INTEGER, &[sign, octets])
    };
    Some(tlv::element(tlv::SEQUENCE, &[&integer(r), &integer(s)]))
}

/// DER ECDSA-Sig-Value as R and S side by side.
pub(crate) fn der_to_fixed(der: &[u8], size: usize) -> Option<Vec<u8>> {
    let mut fields = Reader::der(der).enter(tlv::SEQUENCE).ok()?;
    let mut fixed = Vec::with_capacity(2 * size);
    for _ in 0..2 {
        let integer = fields.integer().ok()?;
        let start = integer.iter().position(|octet| *octet != 0)?;
        let octets = integer.get(start..)?;
        fixed.resize(fixed.len() + size.checked_sub(octets.len())?, 0);
        fixed.extend_from_slice(octets);
    }
    fields.finish().ok()?;
    Some(fixed)
}
