//! Content-formats: the numbers of media types, by the registry
//! [CoAP Content-Formats](https://www.iana.org/assignments/core-parameters/).

/// `text/plain; charset=utf-8`.
pub const TEXT_PLAIN: u16 = 0;
/// `application/cose; cose-type="cose-sign1"`: what some deployed stacks say of a voucher.
pub const COSE_SIGN1: u16 = 18;
/// `application/link-format`.
pub const LINK_FORMAT: u16 = crate::link::CONTENT_FORMAT;
/// `application/json`.
pub const JSON: u16 = 50;
/// `application/cbor`.
pub const CBOR: u16 = 60;
/// `application/multipart-core`, [RFC 8710](https://www.rfc-editor.org/rfc/rfc8710.html).
pub const MULTIPART_CORE: u16 = 62;
/// `application/pkcs7-mime; smime-type=server-generated-key`.
pub const PKCS7_SERVER_GENERATED_KEY: u16 = 280;
/// `application/pkcs7-mime; smime-type=certs-only`.
pub const PKCS7_CERTS_ONLY: u16 = 281;
/// `application/pkcs8`.
pub const PKCS8: u16 = 284;
/// `application/csrattrs`.
pub const CSR_ATTRS: u16 = 285;
/// `application/pkcs10`.
pub const PKCS10: u16 = 286;
/// `application/pkix-cert`.
pub const PKIX_CERT: u16 = 287;
/// `application/voucher+cose`; a temporary registration of draft-ietf-anima-constrained-voucher.
pub const VOUCHER_COSE: u16 = 836;
