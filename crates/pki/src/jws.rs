//! JSON Web Signature in the General JSON serialisation (RFC 7515 §7.2.1), with certificates in
//! `x5c` as draft-ietf-anima-jws-voucher wants them.

use crate::{Certificate, Error, Identity, Oddity, SeveralSigners, SignOptions, VerifiedSigner};

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
    let _ = (payload, typ, identity, options);
    todo!()
}

/// Adds a signature over the same payload to an existing General JSON serialisation.
///
/// # Errors
/// If the message is malformed or signing fails.
pub fn add_signature(
    jws: &[u8],
    typ: Option<&str>,
    identity: &Identity,
    options: &SignOptions,
) -> Result<Vec<u8>, Error> {
    let _ = (jws, typ, identity, options);
    todo!()
}

/// A parsed JWS. Nothing in it is verified until [`Jws::verify`] says so.
#[derive(Clone, Debug)]
pub struct Jws {
    payload: Vec<u8>,
    oddities: Vec<Oddity>,
}

impl Jws {
    /// Parses a JWS.
    ///
    /// # Errors
    /// If it is malformed or over a limit.
    pub fn parse(bytes: &[u8]) -> Result<Self, Error> {
        let _ = bytes;
        todo!()
    }

    /// The payload octets.
    pub fn payload(&self) -> &[u8] {
        &self.payload
    }

    /// The number of signatures.
    pub fn signer_count(&self) -> usize {
        todo!()
    }

    /// The `x5c` certificates of one signature, signer first.
    pub fn certificates(&self, index: usize) -> &[Certificate] {
        let _ = index;
        todo!()
    }

    /// What is odd about the message.
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
        let _ = (policy, extra_certs);
        todo!()
    }

    /// Verifies each signature for itself, in order; their number is not judged.
    pub fn verify_each(
        &self,
        policy: &JwsPolicy,
        extra_certs: &[Certificate],
    ) -> Vec<Result<VerifiedSigner, Error>> {
        let _ = (policy, extra_certs);
        todo!()
    }
}
