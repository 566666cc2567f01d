//! COSE_Sign1 ([RFC 9052 §4.2](https://www.rfc-editor.org/rfc/rfc9052.html#section-4.2)) with
//! certificates in `x5bag` or `x5chain`
//! ([RFC 9360](https://www.rfc-editor.org/rfc/rfc9360.html)), as constrained vouchers and voucher
//! requests are signed.
//!
//! Algorithms: ES256, ES384, ES512, EdDSA (also under its RFC 9864 name Ed25519), and ML-DSA-44,
//! ML-DSA-65 and ML-DSA-87. There is no MAC.

use coset::{
    Algorithm, CborSerializable as _, CoseSign1, CoseSign1Builder, Header, Label,
    TaggedCborSerializable as _, cbor::Value, iana,
};

use crate::jws::{der_to_fixed, field_size, fixed_to_der};
use crate::limits::{CERTIFICATES_PER_SET_MAX, SIGNED_MESSAGE_SIZE_MAX_BYTES};
use crate::public_key::Kind;
use crate::{
    Certificate, Document, Error, Identity, Oddity, PublicKey, SignatureAlgorithm, VerifiedSigner,
};

/// Header label of an unordered bag of certificates.
const X5BAG: i64 = 32;
/// Header label of a chain of certificates, signer first.
const X5CHAIN: i64 = 33;
/// Header label of the hash of the signer's certificate.
const X5T: i64 = 34;
/// The hash algorithm SHA-256 in `x5t`.
const SHA_256: i64 = -16;
/// CBOR tag of COSE_Sign1.
const TAG: u64 = 18;
/// How many certificates are tried when nothing says which one is the signer's.
const NAMELESS_CERTIFICATES_MAX: usize = 8;

/// ML-DSA and the fully specified Ed25519 by their registered numbers, which coset does not name.
const ED25519: i64 = -19;
const ML_DSA_44: i64 = -48;
const ML_DSA_65: i64 = -49;
const ML_DSA_87: i64 = -50;

/// Which certificates travel with a signature, in the unprotected header.
#[derive(Clone, Debug, Default)]
pub enum CoseCertificates {
    /// None: the verifier has to know the signer.
    #[default]
    None,
    /// The identity's chain and these, unordered.
    Bag(Vec<Certificate>),
    /// The identity's chain, signer first.
    Chain,
}

/// How to sign.
#[derive(Clone, Debug, Default)]
pub struct CoseOptions {
    /// Which certificates to include.
    pub certificates: CoseCertificates,
    /// Key identifier for the protected header.
    pub key_id: Option<Vec<u8>>,
}

/// What to demand of a COSE_Sign1. The default is strict.
#[derive(Clone, Debug, Default)]
pub struct CosePolicy {
    /// Take a message without tag 18.
    pub allow_untagged: bool,
    /// Take an array of one certificate, where one belongs by itself.
    pub allow_array_of_one: bool,
}

/// Signs a payload, tagged, with the algorithm in the protected header.
///
/// # Errors
/// If the identity is inconsistent, its algorithm has no number in COSE, or signing fails.
pub fn sign(payload: &[u8], identity: &Identity, options: &CoseOptions) -> Result<Vec<u8>, Error> {
    identity.certificate().ok_or(Error::IdentityMismatch)?;
    let algorithm = identity.signer.algorithm();
    let number = number_of(algorithm)
        .ok_or_else(|| Error::UnsupportedAlgorithm(format!("{algorithm} in COSE")))?;
    let protected = Header {
        alg: Some(registered(number)),
        key_id: options.key_id.clone().unwrap_or_default(),
        ..Header::default()
    };
    let mut unprotected = Header::default();
    let certificates: Vec<&Certificate> = match &options.certificates {
        CoseCertificates::None => Vec::new(),
        CoseCertificates::Bag(others) => identity.chain.iter().chain(others).collect(),
        CoseCertificates::Chain => identity.chain.iter().collect(),
    };
    if !certificates.is_empty() {
        let label = match options.certificates {
            CoseCertificates::Chain => X5CHAIN,
            _ => X5BAG,
        };
        let mut values: Vec<Value> = Vec::new();
        for certificate in certificates {
            let value = Value::Bytes(certificate.der().to_vec());
            if !values.contains(&value) {
                values.push(value);
            }
        }
        // COS-014: x5bag (32)/x5chain (33): one certificate is a bstr, two or more an array of bstr.
        let value = match <[Value; 1]>::try_from(values) {
            Ok([one]) => one,
            Err(several) => Value::Array(several),
        };
        unprotected.rest.push((Label::Int(label), value));
    }
    let message = CoseSign1Builder::new()
        .protected(protected)
        .unprotected(unprotected)
        .payload(payload.to_vec())
        .try_create_signature(&[], |message| {
            let signature = identity.signer.sign(message)?;
            match field_size(algorithm) {
                Some(size) => der_to_fixed(&signature, size)
                    .ok_or_else(|| Error::Signing("ECDSA signature is malformed".to_owned())),
                None => Ok(signature),
            }
        })?
        .build();
    message
        .to_tagged_vec()
        .map_err(|error| Error::Signing(error.to_string()))
}

/// A parsed COSE_Sign1. Nothing in it is verified until [`Sign1::verify`] says so.
#[derive(Clone, Debug)]
pub struct Sign1 {
    message: CoseSign1,
    payload: Vec<u8>,
    algorithm: i64,
    certificates: Vec<Certificate>,
    ordered: bool,
    array_of_one: bool,
    thumbprint: Option<Vec<u8>>,
    tagged: bool,
}

impl Sign1 {
    /// Parses a message, tagged or not.
    ///
    /// # Errors
    /// If it is malformed, over a limit, of another COSE type, detached, or has a header that must
    /// not be.
    pub fn parse(bytes: &[u8]) -> Result<Self, Error> {
        if bytes.len() > SIGNED_MESSAGE_SIZE_MAX_BYTES {
            return Err(Error::LimitExceeded {
                document: Document::Cose,
                what: "octets",
                limit: SIGNED_MESSAGE_SIZE_MAX_BYTES,
            });
        }
        let malformed = |error: coset::CoseError| match error {
            // COS-002: A label occurring twice in one bucket makes the message malformed.
            coset::CoseError::DuplicateMapKey => {
                Error::CoseHeader("a label is there twice".to_owned())
            }
            coset::CoseError::UnregisteredIanaValue
            | coset::CoseError::UnregisteredIanaNonPrivateValue => {
                Error::CoseHeader("a number is not registered".to_owned())
            }
            other => Error::malformed(Document::Cose, other),
        };
        let value = Value::from_slice(bytes).map_err(malformed)?;
        // COS-020: CBOR tag 18 identifies COSE_Sign1; other COSE tags (16,17,96-98) in
        // application/voucher+cose are rejected.
        let (tagged, value) = match value {
            Value::Tag(TAG, inner) => (true, *inner),
            Value::Tag(_, inner) if defects::seeded!("cose-takes-any-tag") => (true, *inner),
            Value::Tag(tag, _) => return Err(Error::CoseTag(tag)),
            other => (false, other),
        };
        // COS-006: COSE_Sign1 has exactly 4 elements [bstr, map, bstr/nil, bstr].
        let message =
            <CoseSign1 as coset::AsCborValue>::from_cbor_value(value).map_err(malformed)?;
        let payload = message.payload.clone().ok_or(Error::CosePayloadMissing)?;
        let algorithm = check_headers(&message)?;
        let mut parsed = Self {
            payload,
            algorithm,
            certificates: Vec::new(),
            ordered: false,
            array_of_one: false,
            thumbprint: None,
            tagged,
            message,
        };
        parsed.read_certificates()?;
        Ok(parsed)
    }

    fn read_certificates(&mut self) -> Result<(), Error> {
        let wrong = |what: &str| Error::CoseCertificates(what.to_owned());
        // What is protected comes first: a label stands in one of the two only.
        let headers = [&self.message.protected.header, &self.message.unprotected];
        for (label, value) in headers.iter().flat_map(|header| &header.rest) {
            match label {
                Label::Int(X5BAG | X5CHAIN) => {
                    if !self.certificates.is_empty() {
                        return Err(wrong("both x5bag and x5chain"));
                    }
                    let values = match value {
                        Value::Bytes(_) => std::slice::from_ref(value),
                        Value::Array(values) => {
                            self.array_of_one = values.len() == 1;
                            values.as_slice()
                        }
                        _ => return Err(wrong("neither a byte string nor an array")),
                    };
                    if values.is_empty() || values.len() > CERTIFICATES_PER_SET_MAX {
                        return Err(wrong("none, or more than 32"));
                    }
                    for value in values {
                        let der = value.as_bytes().ok_or_else(|| wrong("not byte strings"))?;
                        self.certificates.push(Certificate::from_der(der)?);
                    }
                    self.ordered = *label == Label::Int(X5CHAIN);
                }
                Label::Int(X5T) => {
                    let parts = value.as_array().map(Vec::as_slice);
                    let Some([Value::Integer(algorithm), Value::Bytes(hash)]) = parts else {
                        return Err(wrong("x5t is not a hash"));
                    };
                    if i128::from(*algorithm) != i128::from(SHA_256) {
                        return Err(wrong("x5t is not SHA-256"));
                    }
                    self.thumbprint = Some(hash.clone());
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// The payload octets.
    pub fn payload(&self) -> &[u8] {
        &self.payload
    }

    /// The certificates that came along.
    pub fn certificates(&self) -> &[Certificate] {
        &self.certificates
    }

    /// Whether the message says which certificate is the signer's: by their order, or by a hash.
    pub fn names_signer(&self) -> bool {
        self.ordered || self.thumbprint.is_some()
    }

    /// Whether the certificates came as a chain, signer first.
    pub fn has_chain(&self) -> bool {
        self.ordered
    }

    /// The key identifier, protected or not; empty reads as none.
    pub fn key_id(&self) -> Option<&[u8]> {
        let headers = [&self.message.protected.header, &self.message.unprotected];
        headers
            .into_iter()
            .map(|header| header.key_id.as_slice())
            .find(|key_id| !key_id.is_empty())
    }

    /// The number of the algorithm in COSE's registry.
    pub fn algorithm_number(&self) -> i64 {
        self.algorithm
    }

    /// Whether the message has tag 18.
    pub fn is_tagged(&self) -> bool {
        self.tagged
    }

    /// The same message without `x5bag` and `x5chain` in the unprotected header: what a constrained
    /// pledge gets. Protected header, payload and signature stay octet for octet, so that it
    /// verifies as before; certificates under the signature stay where they are.
    ///
    /// # Errors
    /// If the message cannot be written.
    pub fn without_certificates(&self) -> Result<Vec<u8>, Error> {
        let mut message = self.message.clone();
        message.unprotected.rest.retain(|(label, _)| {
            !matches!(label, Label::Int(X5BAG | X5CHAIN))
                || defects::seeded!("cose-keeps-certificates")
        });
        message
            .to_tagged_vec()
            .map_err(|error| Error::malformed(Document::Cose, error))
    }

    /// Verifies the signature. `known` are looked at beside the certificates that came along.
    ///
    /// # Errors
    /// The first reason why the message is not acceptable.
    pub fn verify(
        &self,
        policy: &CosePolicy,
        known: &[Certificate],
    ) -> Result<VerifiedSigner, Error> {
        let mut oddities = Vec::new();
        if !self.tagged {
            if !policy.allow_untagged {
                return Err(Error::malformed(Document::Cose, "tag 18 is missing"));
            }
            oddities.push(Oddity::Untagged);
        }
        if self.array_of_one {
            if !policy.allow_array_of_one {
                let detail = "an array of one certificate".to_owned();
                return Err(Error::CoseCertificates(detail));
            }
            oddities.push(Oddity::ArrayOfOneCertificate);
        }
        let named: Vec<&Certificate> = if self.ordered {
            // COS-016: x5chain begins with the end-entity certificate; the leaf key verifies the
            // signature.
            self.certificates.iter().take(1).collect()
        } else {
            // CBR-119: a missing or unknown kid does not change the outcome when x5bag suffices.
            let (first, last): (Vec<_>, Vec<_>) = self
                .certificates
                .iter()
                .chain(known)
                .partition(|certificate| self.is_named(certificate));
            first
                .into_iter()
                .chain(last)
                .take(NAMELESS_CERTIFICATES_MAX + self.certificates.len())
                .collect()
        };
        // COS-007: Sig_structure = ["Signature1", protected bstr as received, external_aad h'',
        // payload].
        let message = self.message.tbs_data(&[]);
        let mut reason = Error::CoseSignerCertificateMissing;
        let is_named = |certificate: &Certificate| {
            self.ordered || self.key_id().is_none() || self.is_named(certificate)
        };
        for certificate in named {
            // COS-018: x5t (34) is [hash alg, hash]; a mismatch with the used certificate fails.
            if let Some(thumbprint) = &self.thumbprint
                && certificate.sha256().as_slice() != thumbprint.as_slice()
            {
                reason = Error::CoseCertificates("x5t names another certificate".to_owned());
                continue;
            }
            match self.verify_under(certificate.public_key(), &message) {
                Ok(algorithm) => {
                    if !self.certificates.contains(certificate) {
                        oddities.push(Oddity::SignerCertificateElsewhere);
                    }
                    let candidates = self
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
                // A certificate in a bag that cannot be the signer's says nothing about the
                // signature.
                Err(Error::AlgorithmKeyMismatch { .. })
                    if !self.ordered && !matches!(reason, Error::CoseSignerCertificateMissing) => {}
                // Where there is a kid, one that it does not name is no reason either.
                Err(error) if is_named(certificate) => reason = error,
                Err(_) => {}
            }
        }
        Err(reason)
    }

    /// Verifies the signature against the certificate of a signer who is known from elsewhere,
    /// such as the peer of the connection. What the message says about its signer is passed over:
    /// certificates, `x5t` and `kid` are neither used nor held against it.
    ///
    /// # Errors
    /// The first reason why the message is not acceptable.
    pub fn verify_by(
        &self,
        policy: &CosePolicy,
        signer: &Certificate,
    ) -> Result<VerifiedSigner, Error> {
        let mut oddities = Vec::new();
        if !self.tagged {
            if !policy.allow_untagged {
                return Err(Error::malformed(Document::Cose, "tag 18 is missing"));
            }
            oddities.push(Oddity::Untagged);
        }
        let algorithm = self.verify_with_key(signer.public_key())?;
        Ok(VerifiedSigner {
            certificate: signer.clone(),
            candidates: Vec::new(),
            signing_time: None,
            algorithm,
            oddities,
        })
    }

    /// Checks the signature against a key that the caller knows to be the signer's.
    ///
    /// # Errors
    /// If it does not verify.
    pub fn verify_with_key(&self, key: &PublicKey) -> Result<SignatureAlgorithm, Error> {
        self.verify_under(key, &self.message.tbs_data(&[]))
    }

    fn is_named(&self, certificate: &Certificate) -> bool {
        self.key_id().is_some_and(|id| {
            certificate.subject_key_id().as_deref() == Some(id)
                || certificate.public_key().sha1_key_id().as_slice() == id
        })
    }

    fn verify_under(&self, key: &PublicKey, message: &[u8]) -> Result<SignatureAlgorithm, Error> {
        let (algorithm, kind) = algorithm_of(self.algorithm)
            .ok_or_else(|| Error::CoseAlgorithm(format!("{} is not allowed", self.algorithm)))?;
        // COS-011: Only curve/hash pairs of policy (P-256/ES256, P-384/ES384, Ed25519/EdDSA) are
        // accepted.
        // COS-012: EdDSA keys are OKP with Ed25519 or Ed448; kty/crv mismatch fails.
        if key.kind_of() != kind {
            return Err(Error::AlgorithmKeyMismatch {
                algorithm: format!("COSE {}", self.algorithm),
                key: key.describe(),
            });
        }
        let signature = &self.message.signature;
        let result = match field_size(algorithm) {
            Some(size) => {
                // COS-009: ES256 signature is 64 bytes r||s, fixed width; DER-encoded ECDSA is
                // rejected.
                let der = fixed_to_der(signature, size).ok_or(Error::CoseSignature)?;
                key.verify(algorithm, message, &der)
            }
            None => key.verify(algorithm, message, signature),
        };
        match result {
            Ok(()) => Ok(algorithm),
            Err(Error::SignatureInvalid(_)) if defects::seeded!("cose-skips-signature") => {
                Ok(algorithm)
            }
            Err(Error::SignatureInvalid(_)) => Err(Error::CoseSignature),
            Err(other) => Err(other),
        }
    }
}

/// Checks what the two headers may say, and gives the algorithm's number.
fn check_headers(message: &CoseSign1) -> Result<i64, Error> {
    let protected = &message.protected.header;
    let unprotected = &message.unprotected;
    // COS-004: alg must be authenticated where possible: protected bucket.
    if unprotected.alg.is_some() && !defects::seeded!("cose-takes-algorithm-twice") {
        return Err(Error::CoseHeader("alg is not protected".to_owned()));
    }
    // COS-005: crit (2) must be in the protected bucket; unknown labels listed in crit cause
    // failure.
    if !unprotected.crit.is_empty() && !defects::seeded!("cose-takes-unprotected-critical") {
        return Err(Error::CoseHeader("crit is not protected".to_owned()));
    }
    for label in &protected.crit {
        let known = matches!(
            label,
            coset::RegisteredLabelWithPrivate::Assigned(
                iana::HeaderParameter::Alg
                    | iana::HeaderParameter::Kid
                    | iana::HeaderParameter::X5Bag
                    | iana::HeaderParameter::X5Chain
                    | iana::HeaderParameter::X5T
            )
        );
        if !known {
            return Err(Error::CoseCritical(format!("{label:?}")));
        }
    }
    // COS-003: The same label in protected and unprotected is rejected.
    let twice = (!protected.key_id.is_empty() && !unprotected.key_id.is_empty())
        || (protected.content_type.is_some() && unprotected.content_type.is_some())
        || protected
            .rest
            .iter()
            .any(|(label, _)| unprotected.rest.iter().any(|(other, _)| other == label));
    if twice {
        return Err(Error::CoseHeader(
            "a label is both protected and unprotected".to_owned(),
        ));
    }
    match &protected.alg {
        Some(Algorithm::Assigned(algorithm)) => Ok(iana::EnumI64::to_i64(algorithm)),
        Some(Algorithm::PrivateUse(number)) => Ok(*number),
        Some(Algorithm::Text(_)) => Err(Error::CoseAlgorithm("it is a text".to_owned())),
        None => Err(Error::CoseAlgorithm("there is none".to_owned())),
    }
}

fn registered(number: i64) -> Algorithm {
    <iana::Algorithm as iana::EnumI64>::from_i64(number)
        .map_or(Algorithm::PrivateUse(number), Algorithm::Assigned)
}

fn number_of(algorithm: SignatureAlgorithm) -> Option<i64> {
    Some(match algorithm {
        SignatureAlgorithm::EcdsaP256Sha256 => -7,
        SignatureAlgorithm::EcdsaP384Sha384 => -35,
        SignatureAlgorithm::EcdsaP521Sha512 => -36,
        SignatureAlgorithm::Ed25519 => -8,
        SignatureAlgorithm::MlDsa44 => ML_DSA_44,
        SignatureAlgorithm::MlDsa65 => ML_DSA_65,
        SignatureAlgorithm::MlDsa87 => ML_DSA_87,
        _ => return None,
    })
}

fn algorithm_of(number: i64) -> Option<(SignatureAlgorithm, Kind)> {
    Some(match number {
        -7 => (SignatureAlgorithm::EcdsaP256Sha256, Kind::P256),
        -35 => (SignatureAlgorithm::EcdsaP384Sha384, Kind::P384),
        -36 => (SignatureAlgorithm::EcdsaP521Sha512, Kind::P521),
        -8 | ED25519 => (SignatureAlgorithm::Ed25519, Kind::Ed25519),
        ML_DSA_44 => (SignatureAlgorithm::MlDsa44, Kind::MlDsa44),
        ML_DSA_65 => (SignatureAlgorithm::MlDsa65, Kind::MlDsa65),
        ML_DSA_87 => (SignatureAlgorithm::MlDsa87, Kind::MlDsa87),
        _ => return None,
    })
}
