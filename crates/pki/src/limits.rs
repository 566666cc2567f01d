//! A named limit on everything that a peer controls.

/// A certificate, in octets of DER. The largest sensible one carries ML-DSA-87 key and signature.
pub const CERTIFICATE_SIZE_MAX_BYTES: usize = 64 * 1024;
/// A certification request, in octets of DER.
pub const CSR_SIZE_MAX_BYTES: usize = 64 * 1024;
/// A CRL, in octets of DER.
pub const CRL_SIZE_MAX_BYTES: usize = 16 * 1024 * 1024;
/// A CMS SignedData or a JWS, in octets as received.
pub const SIGNED_MESSAGE_SIZE_MAX_BYTES: usize = 1024 * 1024;
/// A file of PEM blocks or a certificate bag, in octets.
pub const PEM_SIZE_MAX_BYTES: usize = 4 * 1024 * 1024;
/// Certificates in one CMS certificate set, `x5c` or certs-only bag.
pub const CERTIFICATES_PER_SET_MAX: usize = 32;
/// Certificates in one PEM file of anchors.
pub const CERTIFICATES_PER_FILE_MAX: usize = 4096;
/// CRLs in one CMS message or certs-only bag.
pub const CRLS_PER_SET_MAX: usize = 16;
/// SignerInfos in a CMS message, signatures in a JWS.
pub const SIGNERS_MAX: usize = 8;
/// Recipients of an EnvelopedData.
pub const RECIPIENTS_MAX: usize = 16;
/// Attributes in signedAttrs, unsignedAttrs or a CSR.
pub const ATTRIBUTES_MAX: usize = 32;
/// Digest algorithms named at the head of a SignedData.
pub const DIGEST_ALGORITHMS_MAX: usize = 16;
/// Nesting of constructed ASN.1 values.
pub const ASN1_DEPTH_MAX: usize = 32;
/// Nesting of JSON values.
pub const JSON_DEPTH_MAX: usize = 32;
/// Members of one JSON object in a JWS.
pub const JSON_MEMBERS_MAX: usize = 64;
/// Length of a validated path, leaf and anchor included.
pub const PATH_LENGTH_MAX: usize = 10;
/// PBKDF2 rounds accepted when a private key is opened, so that a key file cannot
/// stall the process for hours.
pub const PBKDF2_ROUNDS_MAX: u32 = 5_000_000;
/// Memory that scrypt may take when a private key is opened.
pub const SCRYPT_MEMORY_MAX_BYTES: u64 = 256 * 1024 * 1024;
/// Parallel lanes of scrypt, each of which costs its time again.
pub const SCRYPT_PARALLEL_MAX: u16 = 16;
/// Modulus of an RSA key, in bits: the smallest accepted without the legacy switch.
pub const RSA_MODULUS_MIN_BITS: usize = 2048;
/// Modulus of an RSA key, in bits: the largest accepted.
pub const RSA_MODULUS_MAX_BITS: usize = 8192;
