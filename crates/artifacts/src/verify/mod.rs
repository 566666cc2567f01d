//! Who may say what: the verdicts on vouchers and requests.
//!
//! There is one copy of each check, and the pledge, the registrar, the MASA and the tools
//! call it. Checks are made in the order of the standard. A check for which the caller knows
//! too little is recorded as not made, never as passed; a server that must know everything
//! asks for [`Outcome::complete`].

mod pledge_request;
mod registrar_request;
mod trust;
mod voucher;

use pki::{Certificate, Coded, Unverified, VerifiedSigner};

pub use self::pledge_request::{
    PledgeRequestContext, ProximityTarget, SerialRule, VerifiedPledgeRequest, verify_pledge_request,
};
pub use self::registrar_request::{
    RegistrarRequestContext, VerifiedRegistrarRequest, verify_registrar_request,
};
pub use self::trust::{Trust, temporary_anchor};
pub use self::voucher::{
    ExpectedNonce, VerifiedVoucher, VoucherContext, check_pin, verify_voucher,
};
use crate::envelope::Signed;
use crate::error::{Document, Error, Fault};
use crate::tolerances::{Oddity, Tolerances};

/// One check and how it went.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Check {
    /// Its name, stable: `signature`, `trust`, `serial-number`…
    pub name: &'static str,
    /// How it went.
    pub result: CheckResult,
}

/// How a check went.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CheckResult {
    /// As it should.
    Passed,
    /// It failed.
    Failed {
        /// The dotted code.
        code: &'static str,
        /// For a person.
        detail: String,
    },
    /// It could not be made.
    NotMade {
        /// What was missing.
        why: &'static str,
    },
}

/// The verdict: every check, what was odd, and the verified document if all checks that were
/// made have passed.
#[derive(Debug)]
pub struct Outcome<T> {
    checks: Vec<Check>,
    oddities: Vec<Oddity>,
    result: Result<T, Error>,
}

impl<T> Outcome<T> {
    /// The checks in the order in which they were made.
    #[must_use]
    pub fn checks(&self) -> &[Check] {
        &self.checks
    }

    /// What was odd and tolerated.
    #[must_use]
    pub fn oddities(&self) -> &[Oddity] {
        &self.oddities
    }

    /// The document, or the first check that failed. Checks that were not made are not held
    /// against it.
    ///
    /// # Errors
    /// The first check that failed.
    pub fn result(&self) -> Result<&T, &Error> {
        self.result.as_ref()
    }

    /// The same by value.
    ///
    /// # Errors
    /// The first check that failed.
    pub fn into_result(self) -> Result<T, Error> {
        self.result
    }

    /// The document if every check was made, those named in `waived` aside.
    ///
    /// # Errors
    /// The first check that failed, or the name of the first that was not made.
    pub fn complete(self, waived: &[&str]) -> Result<Result<T, Error>, &'static str> {
        if self.result.is_ok() {
            let open = self.checks.iter().find(|check| {
                matches!(check.result, CheckResult::NotMade { .. }) && !waived.contains(&check.name)
            });
            if let Some(open) = open {
                return Err(open.name);
            }
        }
        Ok(self.result)
    }

    /// All three parts.
    ///
    /// # Errors
    /// Never; the inner result is the verdict.
    pub fn into_parts(self) -> (Vec<Check>, Vec<Oddity>, Result<T, Error>) {
        (self.checks, self.oddities, self.result)
    }
}

/// Collects the checks of one verdict.
struct Checks {
    document: Document,
    list: Vec<Check>,
    oddities: Vec<Oddity>,
    first: Option<Error>,
}

impl Checks {
    fn new(document: Document) -> Self {
        Self {
            document,
            list: Vec::new(),
            oddities: Vec::new(),
            first: None,
        }
    }

    fn fail(&self, fault: Fault, detail: impl Into<String>) -> Error {
        Error::new(self.document, fault, detail)
    }

    fn record<T>(&mut self, name: &'static str, result: Result<T, Error>) -> Option<T> {
        match result {
            Ok(value) => {
                self.list.push(Check {
                    name,
                    result: CheckResult::Passed,
                });
                Some(value)
            }
            Err(error) => {
                let (code, detail) = (error.code(), error.to_string());
                self.list.push(Check {
                    name,
                    result: CheckResult::Failed { code, detail },
                });
                self.first.get_or_insert(error);
                None
            }
        }
    }

    /// A check that is a comparison.
    fn compare(&mut self, name: &'static str, holds: bool, fault: Fault, detail: &str) {
        let result = if holds {
            Ok(())
        } else {
            Err(self.fail(fault, detail))
        };
        self.record(name, result);
    }

    fn not_made(&mut self, name: &'static str, why: &'static str) {
        self.list.push(Check {
            name,
            result: CheckResult::NotMade { why },
        });
    }

    fn rest_not_made(&mut self, names: &[&'static str], why: &'static str) {
        for name in names {
            self.not_made(name, why);
        }
    }

    /// The signature's mathematics; the payload comes out together with its signer.
    fn signature<'s>(
        &mut self,
        signed: &'s Unverified<Signed>,
        tolerances: &Tolerances,
        known: &[Certificate],
    ) -> Option<(VerifiedSigner, &'s [u8])> {
        // Peeking is what a verification method does first; the payload is used only with
        // the signer that this very signature names.
        let signed = signed.dangerous_peek();
        let result = signed.check_signature(tolerances, known);
        self.signature_result(signed, result)
    }

    /// The same where only these can have signed, whatever certificates came along.
    fn signature_by<'s>(
        &mut self,
        signed: &'s Unverified<Signed>,
        tolerances: &Tolerances,
        signers: &[Certificate],
    ) -> Option<(VerifiedSigner, &'s [u8])> {
        let signed = signed.dangerous_peek();
        let result = signed.check_signature_by(tolerances, signers);
        self.signature_result(signed, result)
    }

    fn signature_result<'s>(
        &mut self,
        signed: &'s Signed,
        result: Result<VerifiedSigner, pki::Error>,
    ) -> Option<(VerifiedSigner, &'s [u8])> {
        let result = result.map_err(Error::from);
        let result = result.and_then(|signer| match signed.payload() {
            Some(payload) => Ok((signer, payload)),
            // CMS-5.2-01: eContent is present (not detached) in voucher artefacts.
            None => Err(pki::Error::CmsContentMissing.into()),
        });
        let Some((signer, payload)) = self.record("signature", result) else {
            self.oddities.extend_from_slice(signed.oddities());
            return None;
        };
        self.oddities.extend(signed.all_oddities(&signer));
        Some((signer, payload))
    }

    fn finish<T>(self, value: Option<T>) -> Outcome<T> {
        let result = match (self.first, value) {
            (None, Some(value)) => Ok(value),
            (Some(error), _) => Err(error),
            // Every caller that has no value has recorded the failure that kept it from one.
            (None, None) => Err(Error::new(
                self.document,
                Fault::Unrecognised,
                "not verified",
            )),
        };
        Outcome {
            checks: self.list,
            oddities: self.oddities,
            result,
        }
    }
}
