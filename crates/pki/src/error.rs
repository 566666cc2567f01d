//! What can go wrong, and whose fault it is.

/// Who has to act when something fails.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum Blame {
    /// The peer broke a MUST of the standard.
    PeerMisbehaved,
    /// The peer asks for something legal that we do not support.
    PeerIncompatible,
    /// We failed: storage, a key store, a bug.
    Ours,
    /// The caller of the API misused it.
    Caller,
}

/// An error with a stable dotted code, the same in logs, metrics, audit rows and documentation.
pub trait Coded: std::error::Error {
    /// The stable code, for example `cms.signature-invalid`.
    fn code(&self) -> &'static str;
    /// Who has to act.
    fn blame(&self) -> Blame;
}

/// The kind of document that did not parse.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
#[non_exhaustive]
pub enum Document {
    /// An X.509 certificate.
    Certificate,
    /// A SubjectPublicKeyInfo.
    PublicKey,
    /// A PKCS#8 private key.
    PrivateKey,
    /// A PKCS#10 certification request.
    Csr,
    /// A certificate revocation list.
    Crl,
    /// A certs-only PKCS#7 bag.
    Pkcs7,
    /// A CMS SignedData.
    Cms,
    /// A CMS EnvelopedData.
    Enveloped,
    /// A JSON Web Signature.
    Jws,
    /// A COSE_Sign1.
    Cose,
    /// A PEM file.
    Pem,
}

impl Document {
    fn name(self) -> &'static str {
        match self {
            Self::Certificate => "certificate",
            Self::PublicKey => "public key",
            Self::PrivateKey => "private key",
            Self::Csr => "certification request",
            Self::Crl => "CRL",
            Self::Pkcs7 => "PKCS#7 certificate bag",
            Self::Cms => "CMS SignedData",
            Self::Enveloped => "CMS EnvelopedData",
            Self::Jws => "JWS",
            Self::Cose => "COSE_Sign1",
            Self::Pem => "PEM file",
        }
    }
}

impl std::fmt::Display for Document {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}

/// Everything that this crate refuses or fails at, path validation aside.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The document is not what its format demands. The peer misbehaved.
    #[error("{document} is malformed: {detail}")]
    Malformed {
        /// What was being parsed.
        document: Document,
        /// Where and why it failed.
        detail: String,
    },
    /// The document is beyond one of the limits in [`crate::limits`]. The peer misbehaved.
    #[error("{document} is over a limit: {what} (at most {limit})")]
    LimitExceeded {
        /// What was being parsed.
        document: Document,
        /// The quantity that was too large.
        what: &'static str,
        /// The limit.
        limit: usize,
    },
    /// The algorithm is not one that this crate supports.
    #[error("algorithm {0} is not supported")]
    UnsupportedAlgorithm(String),
    /// The key's type, curve or size is not one that this crate supports.
    #[error("key is not supported: {0}")]
    UnsupportedKey(String),
    /// The signature algorithm does not go with the key. The peer misbehaved.
    #[error("signature algorithm {algorithm} does not go with a key of type {key}")]
    AlgorithmKeyMismatch {
        /// The signature algorithm asked for.
        algorithm: String,
        /// The type of the key at hand.
        key: String,
    },
    /// SHA-1 or short RSA where no legacy switch allows it.
    #[error("{0} is a legacy algorithm and not allowed here")]
    LegacyAlgorithm(String),
    /// A signature over a certificate, CSR or CRL does not verify.
    #[error("signature of the {0} does not verify")]
    SignatureInvalid(Document),
    /// The proof of possession in a certification request does not verify.
    #[error("the proof of possession in the request does not verify")]
    ProofOfPossession,
    /// A private key was rejected (wrong format, inconsistent, wrong algorithm).
    #[error("private key is rejected: {0}")]
    KeyRejected(String),
    /// The passphrase does not open the private key, or one is missing.
    #[error("the passphrase does not open the private key")]
    PassphraseWrong,
    /// A file could not be read.
    #[error("cannot read {path}: {detail}")]
    File {
        /// The file.
        path: String,
        /// The operating system's reason.
        detail: String,
    },
    /// Key generation failed inside the cryptographic library.
    #[error("key generation failed")]
    KeyGeneration,
    /// Signing failed inside the cryptographic library or the token.
    #[error("signing failed: {0}")]
    Signing(String),
    /// The PKCS#11 module, token, PIN or object is not usable.
    #[error("PKCS#11: {0}")]
    Pkcs11(String),
    /// Our own encoder failed: a value that has no encoding.
    #[error("cannot encode: {0}")]
    Encoding(String),
    /// A certificate or CRL that we were about to sign breaks rules of its profile.
    #[error("not signed, because the profile is broken: {0}")]
    ProfileLint(String),
    /// The certificate of the identity does not carry the signer's public key.
    #[error("the certificate does not carry the signer's public key")]
    IdentityMismatch,

    /// CMS: the content is not SignedData.
    #[error("content type {0} is not SignedData")]
    CmsNotSignedData(String),
    /// CMS: BER where strict mode demands DER.
    #[error("the SignedData is BER, not DER")]
    CmsNotDer,
    /// CMS: the eContentType is not the one expected.
    #[error("eContentType {found} is not the expected {expected}")]
    CmsContentType {
        /// What the message says.
        found: String,
        /// What the caller expects.
        expected: String,
    },
    /// CMS: there is no content (detached signature).
    #[error("the SignedData has no content")]
    CmsContentMissing,
    /// CMS: no SignerInfo at all.
    #[error("the SignedData has no signer")]
    CmsNoSigner,
    /// CMS: more than one SignerInfo where one is expected.
    #[error("the SignedData has {0} signers, one is expected")]
    CmsSeveralSigners(usize),
    /// CMS: the signer's certificate is neither in the set nor among the caller's.
    #[error("the signer's certificate is neither in the message nor known")]
    CmsSignerCertificateMissing,
    /// CMS: no signedAttrs where they are mandatory.
    #[error("the SignerInfo has no signedAttrs")]
    CmsSignedAttributesMissing,
    /// CMS: a signed attribute is absent, repeated or of the wrong form.
    #[error("signedAttrs: {0}")]
    CmsSignedAttributes(String),
    /// CMS: signedAttrs are not in DER order.
    #[error("signedAttrs are not DER encoded")]
    CmsSignedAttributesNotDer,
    /// CMS: the contentType attribute differs from eContentType.
    #[error("the contentType attribute differs from eContentType")]
    CmsContentTypeAttribute,
    /// CMS: the messageDigest attribute does not match the content.
    #[error("the messageDigest attribute does not match the content")]
    CmsDigest,
    /// CMS: digestAlgorithm and the signature's hash are different.
    #[error("digestAlgorithm {digest} does not go with signature algorithm {signature}")]
    CmsAlgorithmMismatch {
        /// The digest algorithm of the SignerInfo.
        digest: String,
        /// Its signature algorithm.
        signature: String,
    },
    /// CMS: RSASSA-PSS parameters are absent.
    #[error("RSASSA-PSS parameters are missing")]
    CmsPssParameters,
    /// CMS: the signature does not verify.
    #[error("the CMS signature does not verify")]
    CmsSignature,

    /// CMS: the topmost content type is none of those that can be here.
    #[error("content type {0} cannot be here")]
    CmsUnexpectedType(String),

    /// EnvelopedData: the content is something else.
    #[error("content type {0} is not EnvelopedData")]
    EnvelopedNotEnvelopedData(String),
    /// EnvelopedData: no recipient is meant by this key.
    #[error("the EnvelopedData is for another recipient")]
    EnvelopedNoRecipient,
    /// EnvelopedData: key or content do not decrypt.
    #[error("the EnvelopedData does not decrypt")]
    EnvelopedDecryption,
    /// EnvelopedData: there is no encrypted content.
    #[error("the EnvelopedData has no content")]
    EnvelopedContentMissing,
    /// EnvelopedData: nothing can be encrypted to this certificate.
    #[error("nothing can be encrypted to this certificate: {0}")]
    EnvelopedRecipient(String),

    /// COSE: another type of message than COSE_Sign1.
    #[error("CBOR tag {0} is not that of COSE_Sign1")]
    CoseTag(u64),
    /// COSE: a header is where it must not be, or twice.
    #[error("COSE header: {0}")]
    CoseHeader(String),
    /// COSE: `crit` names a label that is not understood.
    #[error("critical COSE label is not understood: {0}")]
    CoseCritical(String),
    /// COSE: `alg` is absent from the protected header or not allowed.
    #[error("COSE alg: {0}")]
    CoseAlgorithm(String),
    /// COSE: `x5bag`, `x5chain` or `x5t` is malformed.
    #[error("certificates of COSE: {0}")]
    CoseCertificates(String),
    /// COSE: the payload is detached.
    #[error("the COSE_Sign1 has no payload")]
    CosePayloadMissing,
    /// COSE: the signer's certificate is neither in the message nor among the caller's.
    #[error("the signer's certificate is neither in the COSE_Sign1 nor known")]
    CoseSignerCertificateMissing,
    /// COSE: the signature does not verify.
    #[error("the COSE signature does not verify")]
    CoseSignature,

    /// JWS: not the General JSON serialisation.
    #[error("not a General JSON Serialization: {0}")]
    JwsNotGeneral(String),
    /// JWS: a JSON member appears twice.
    #[error("JSON member {0:?} appears twice")]
    JwsDuplicateMember(String),
    /// JWS: base64url with padding, wrong alphabet or stray bits.
    #[error("{0} is not base64url without padding")]
    JwsBase64(&'static str),
    /// JWS: `crit` names an extension that is not understood, or is itself malformed.
    #[error("critical header parameter is not understood: {0}")]
    JwsCritical(String),
    /// JWS: `alg` is absent from the protected header, unprotected, or not allowed.
    #[error("alg: {0}")]
    JwsAlgorithm(String),
    /// JWS: `typ` is not the one expected.
    #[error("typ {found:?} is not the expected {expected:?}")]
    JwsType {
        /// What the header says.
        found: String,
        /// What the caller expects.
        expected: String,
    },
    /// JWS: `x5c` is malformed.
    #[error("x5c: {0}")]
    JwsCertificates(String),
    /// JWS: no signature at all.
    #[error("the JWS has no signature")]
    JwsNoSigner,
    /// JWS: more than one signature where one is expected.
    #[error("the JWS has {0} signatures, one is expected")]
    JwsSeveralSigners(usize),
    /// JWS: the signer's certificate is neither in `x5c` nor among the caller's.
    #[error("the signer's certificate is neither in x5c nor known")]
    JwsSignerCertificateMissing,
    /// JWS: the signature does not verify.
    #[error("the JWS signature does not verify")]
    JwsSignature,
}

impl Error {
    pub(crate) fn malformed(document: Document, detail: impl std::fmt::Display) -> Self {
        Self::Malformed {
            document,
            detail: detail.to_string(),
        }
    }
}

impl Coded for Error {
    fn code(&self) -> &'static str {
        match self {
            Self::Malformed { document, .. } => match document {
                Document::Certificate => "pki.certificate-malformed",
                Document::PublicKey => "pki.public-key-malformed",
                Document::PrivateKey => "pki.private-key-malformed",
                Document::Csr => "csr.malformed",
                Document::Crl => "pki.crl-malformed",
                Document::Pkcs7 => "pki.pkcs7-malformed",
                Document::Cms => "cms.malformed",
                Document::Enveloped => "enveloped.malformed",
                Document::Jws => "jws.malformed",
                Document::Cose => "cose.malformed",
                Document::Pem => "pki.pem-malformed",
            },
            Self::LimitExceeded { document, .. } => match document {
                Document::Csr => "csr.limit-exceeded",
                Document::Cms => "cms.limit-exceeded",
                Document::Enveloped => "enveloped.limit-exceeded",
                Document::Jws => "jws.limit-exceeded",
                Document::Cose => "cose.limit-exceeded",
                Document::Certificate
                | Document::PublicKey
                | Document::PrivateKey
                | Document::Crl
                | Document::Pkcs7
                | Document::Pem => "pki.limit-exceeded",
            },
            Self::UnsupportedAlgorithm(_) => "pki.algorithm-unsupported",
            Self::UnsupportedKey(_) => "pki.key-unsupported",
            Self::AlgorithmKeyMismatch { .. } => "pki.algorithm-key-mismatch",
            Self::LegacyAlgorithm(_) => "pki.algorithm-legacy",
            Self::SignatureInvalid(_) => "pki.signature-invalid",
            Self::ProofOfPossession => "csr.proof-of-possession",
            Self::KeyRejected(_) => "pki.key-rejected",
            Self::PassphraseWrong => "pki.passphrase-wrong",
            Self::File { .. } => "pki.file-unreadable",
            Self::KeyGeneration => "pki.key-generation-failed",
            Self::Signing(_) => "pki.signing-failed",
            Self::Pkcs11(_) => "pki.pkcs11",
            Self::Encoding(_) => "pki.encoding-failed",
            Self::ProfileLint(_) => "pki.profile-lint",
            Self::IdentityMismatch => "pki.identity-mismatch",
            Self::CmsNotSignedData(_) => "cms.not-signed-data",
            Self::CmsNotDer => "cms.not-der",
            Self::CmsContentType { .. } => "cms.content-type",
            Self::CmsContentMissing => "cms.content-missing",
            Self::CmsNoSigner => "cms.no-signer",
            Self::CmsSeveralSigners(_) => "cms.several-signers",
            Self::CmsSignerCertificateMissing => "cms.signer-certificate-missing",
            Self::CmsSignedAttributesMissing => "cms.signed-attributes-missing",
            Self::CmsSignedAttributes(_) => "cms.signed-attributes-invalid",
            Self::CmsSignedAttributesNotDer => "cms.signed-attributes-not-der",
            Self::CmsContentTypeAttribute => "cms.content-type-attribute",
            Self::CmsDigest => "cms.digest-mismatch",
            Self::CmsAlgorithmMismatch { .. } => "cms.algorithm-mismatch",
            Self::CmsPssParameters => "cms.pss-parameters-missing",
            Self::CmsSignature => "cms.signature-invalid",
            Self::CmsUnexpectedType(_) => "cms.unexpected-type",
            Self::EnvelopedNotEnvelopedData(_) => "enveloped.not-enveloped-data",
            Self::EnvelopedNoRecipient => "enveloped.no-recipient",
            Self::EnvelopedDecryption => "enveloped.decryption-failed",
            Self::EnvelopedContentMissing => "enveloped.content-missing",
            Self::EnvelopedRecipient(_) => "enveloped.recipient-unusable",
            Self::CoseTag(_) => "cose.tag",
            Self::CoseHeader(_) => "cose.header",
            Self::CoseCritical(_) => "cose.critical",
            Self::CoseAlgorithm(_) => "cose.algorithm",
            Self::CoseCertificates(_) => "cose.certificates",
            Self::CosePayloadMissing => "cose.payload-missing",
            Self::CoseSignerCertificateMissing => "cose.signer-certificate-missing",
            Self::CoseSignature => "cose.signature-invalid",
            Self::JwsNotGeneral(_) => "jws.not-general",
            Self::JwsDuplicateMember(_) => "jws.duplicate-member",
            Self::JwsBase64(_) => "jws.base64",
            Self::JwsCritical(_) => "jws.critical",
            Self::JwsAlgorithm(_) => "jws.algorithm",
            Self::JwsType { .. } => "jws.type",
            Self::JwsCertificates(_) => "jws.certificates",
            Self::JwsNoSigner => "jws.no-signer",
            Self::JwsSeveralSigners(_) => "jws.several-signers",
            Self::JwsSignerCertificateMissing => "jws.signer-certificate-missing",
            Self::JwsSignature => "jws.signature-invalid",
        }
    }

    fn blame(&self) -> Blame {
        match self {
            Self::UnsupportedAlgorithm(_)
            | Self::UnsupportedKey(_)
            | Self::LegacyAlgorithm(_)
            | Self::CmsSeveralSigners(_)
            | Self::JwsSeveralSigners(_) => Blame::PeerIncompatible,
            Self::KeyGeneration | Self::Signing(_) | Self::Pkcs11(_) => Blame::Ours,
            Self::KeyRejected(_)
            | Self::PassphraseWrong
            | Self::File { .. }
            | Self::Encoding(_)
            | Self::ProfileLint(_)
            | Self::IdentityMismatch
            | Self::EnvelopedRecipient(_) => Blame::Caller,
            Self::Malformed { .. }
            | Self::LimitExceeded { .. }
            | Self::AlgorithmKeyMismatch { .. }
            | Self::SignatureInvalid(_)
            | Self::ProofOfPossession
            | Self::CmsNotSignedData(_)
            | Self::CmsNotDer
            | Self::CmsContentType { .. }
            | Self::CmsContentMissing
            | Self::CmsNoSigner
            | Self::CmsSignerCertificateMissing
            | Self::CmsSignedAttributesMissing
            | Self::CmsSignedAttributes(_)
            | Self::CmsSignedAttributesNotDer
            | Self::CmsContentTypeAttribute
            | Self::CmsDigest
            | Self::CmsAlgorithmMismatch { .. }
            | Self::CmsPssParameters
            | Self::CmsSignature
            | Self::CmsUnexpectedType(_)
            | Self::EnvelopedNotEnvelopedData(_)
            | Self::EnvelopedNoRecipient
            | Self::EnvelopedDecryption
            | Self::EnvelopedContentMissing
            | Self::CoseTag(_)
            | Self::CoseHeader(_)
            | Self::CoseCritical(_)
            | Self::CoseAlgorithm(_)
            | Self::CoseCertificates(_)
            | Self::CosePayloadMissing
            | Self::CoseSignerCertificateMissing
            | Self::CoseSignature
            | Self::JwsNotGeneral(_)
            | Self::JwsDuplicateMember(_)
            | Self::JwsBase64(_)
            | Self::JwsCritical(_)
            | Self::JwsAlgorithm(_)
            | Self::JwsType { .. }
            | Self::JwsCertificates(_)
            | Self::JwsNoSigner
            | Self::JwsSignerCertificateMissing
            | Self::JwsSignature => Blame::PeerMisbehaved,
        }
    }
}
