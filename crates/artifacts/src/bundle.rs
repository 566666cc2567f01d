//! Bootstrapping data as a device judges it: conveyed information, owner certificate and
//! ownership voucher together
//! ([RFC 8572 §5.3](https://www.rfc-editor.org/rfc/rfc8572.html#section-5.3) to
//! [§5.5](https://www.rfc-editor.org/rfc/rfc8572.html#section-5.5)).
//!
//! [`judge`] makes each check in the order of the standard and records a verdict for it. After a
//! step that failed, no later one is made. The device agent, the server's explanations and the
//! tools all call it, so they reach one verdict.

use pki::path::{self, Anchors, PathOptions, Purpose, Reason, Revocation};
use pki::{Certificate, Coded as _, Crl, Decryptor};
use time::{Duration, OffsetDateTime};
use zeroize::Zeroizing;

use crate::conveyed::{self, ConveyedInformation, Parsed, SignedInformation};
use crate::enveloped::{Enveloped, is_enveloped};
use crate::error::{Document, Error, Fault};
use crate::leaf::{Assertion, SerialNumber};
use crate::owner::{self, OwnerCertificate};
use crate::tolerances::{Oddity, Tolerances};
use crate::verify::{
    Check, CheckResult, ExpectedNonce, Trust, VerifiedVoucher, VoucherContext, verify_voucher,
};
use crate::voucher::Voucher;
use crate::{Encoding, date, open};

/// The artefacts as they came from one source.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct BootstrappingData {
    /// The conveyed information artefact, DER.
    pub conveyed_information: Vec<u8>,
    /// The owner certificate artefact, DER.
    pub owner_certificate: Option<Vec<u8>>,
    /// The ownership voucher artefact, DER.
    pub ownership_voucher: Option<Vec<u8>>,
}

/// What a device knows when it judges. What is unknown makes checks that are not made.
#[derive(Clone, Copy)]
pub struct DeviceContext<'a> {
    /// The device's serial number.
    pub serial: Option<&'a SerialNumber>,
    /// The device's IDevID, for idevid-issuer.
    pub idevid: Option<&'a Certificate>,
    /// The manufacturer's anchors for ownership vouchers.
    pub voucher_anchors: &'a Anchors,
    /// The manufacturer's revocation lists.
    pub voucher_crls: &'a [Crl],
    /// The nonce that was sent.
    pub nonce: ExpectedNonce<'a>,
    /// The time; `None` when the clock is not accurate, and then nothing that depends on it is
    /// checked.
    pub at: Option<OffsetDateTime>,
    /// How far the clocks of device and manufacturer may be apart.
    pub clock_skew: Duration,
    /// The assertions that local policy accepts; `None` accepts all.
    pub accepted_assertions: Option<&'a [Assertion]>,
    /// Revocation lists for the owner's chain, besides those that come along.
    pub owner_crls: &'a [Crl],
    /// The key to decrypt with.
    pub decryption_key: Option<&'a dyn Decryptor>,
    /// The certificate of that key: only what is encrypted to it is decrypted.
    pub decryption_certificate: Option<&'a Certificate>,
    /// What is tolerated.
    pub tolerances: &'a Tolerances,
}

impl<'a> DeviceContext<'a> {
    /// Nothing is known but whom to trust.
    #[must_use]
    pub fn new(voucher_anchors: &'a Anchors, tolerances: &'a Tolerances) -> Self {
        Self {
            serial: None,
            idevid: None,
            voucher_anchors,
            voucher_crls: &[],
            nonce: ExpectedNonce::Unknown,
            at: None,
            clock_skew: Duration::ZERO,
            accepted_assertions: None,
            owner_crls: &[],
            decryption_key: None,
            decryption_certificate: None,
            tolerances,
        }
    }
}

/// The verdict.
#[derive(Debug)]
pub struct Judgement {
    /// Every check in the order of the standard.
    pub checks: Vec<Check>,
    /// What was odd and tolerated.
    pub oddities: Vec<Oddity>,
    /// The trust-state afterwards: a trusted source, or signed data that holds.
    pub trusted: bool,
    /// Whether the information is signed; `None` when it could not be read that far.
    pub signed: Option<bool>,
    /// The encoding of the information, when it could be read that far.
    pub encoding: Option<Encoding>,
    /// The voucher, when it holds.
    pub voucher: Option<Voucher>,
    /// The owner certificate and its path to the pinned certificate, when it holds.
    pub owner_path: Vec<Certificate>,
    /// The information, or the first check that failed. From an untrusted source it is redirect
    /// information without trust anchors.
    pub result: Result<ConveyedInformation, Error>,
}

/// The names of the checks in the order of
/// [RFC 8572 §5.3](https://www.rfc-editor.org/rfc/rfc8572.html#section-5.3) and
/// [§5.4](https://www.rfc-editor.org/rfc/rfc8572.html#section-5.4). Decryption is recorded for an
/// artefact that is encrypted only; all others always are.
pub const CHECKS: &[&str] = &[
    "conveyed-information-decryption",
    "owner-certificate-decryption",
    "ownership-voucher-decryption",
    "conveyed-information",
    "grouping",
    "voucher-signature",
    "voucher-trust",
    "voucher-content",
    "voucher-created-on",
    "voucher-expires-on",
    "voucher-assertion",
    "voucher-serial-number",
    "voucher-idevid-issuer",
    "voucher-nonce",
    "owner-certificate",
    "owner-signer",
    "owner-key-usage",
    "owner-trust",
    "owner-revocation",
    "signature",
    "content",
    "trust-state",
];

/// Judges bootstrapping data as a device does. `trusted_source` is the trust-state before: true
/// when the source is a bootstrap server that the device authenticated.
#[must_use]
pub fn judge(
    data: &BootstrappingData,
    trusted_source: bool,
    context: &DeviceContext<'_>,
) -> Judgement {
    let mut judge = Judge {
        context,
        checks: Vec::new(),
        oddities: Vec::new(),
        trusted: false,
        signed: None,
        encoding: None,
        voucher: None,
        owner_path: Vec::new(),
    };
    let result = judge.run(data, trusted_source);
    let trusted = judge.trusted && result.is_ok();
    judge.fill_up(if result.is_ok() {
        "the information is not signed"
    } else {
        "a check before failed"
    });
    Judgement {
        checks: judge.checks,
        oddities: judge.oddities,
        trusted,
        signed: judge.signed,
        encoding: judge.encoding,
        voucher: judge.voucher,
        owner_path: judge.owner_path,
        result,
    }
}

struct Judge<'a, 'c> {
    context: &'c DeviceContext<'a>,
    checks: Vec<Check>,
    oddities: Vec<Oddity>,
    trusted: bool,
    signed: Option<bool>,
    encoding: Option<Encoding>,
    voucher: Option<Voucher>,
    owner_path: Vec<Certificate>,
}

fn fail(fault: Fault, detail: impl Into<String>) -> Error {
    Error::new(Document::BootstrappingData, fault, detail)
}

impl Judge<'_, '_> {
    fn record<T>(&mut self, name: &'static str, result: Result<T, Error>) -> Result<T, Error> {
        let verdict = match &result {
            Ok(_) => CheckResult::Passed,
            Err(error) => CheckResult::Failed {
                code: error.code(),
                detail: error.to_string(),
            },
        };
        self.checks.push(Check {
            name,
            result: verdict,
        });
        result
    }

    fn not_made(&mut self, name: &'static str, why: &'static str) {
        let result = CheckResult::NotMade { why };
        self.checks.push(Check { name, result });
    }

    fn note(&mut self, oddities: impl IntoIterator<Item = Oddity>) {
        for oddity in oddities {
            if !self.oddities.contains(&oddity) {
                self.oddities.push(oddity);
            }
        }
    }

    /// Puts the checks into order and adds those that were not come to.
    fn fill_up(&mut self, why: &'static str) {
        let mut made = std::mem::take(&mut self.checks);
        for &name in CHECKS {
            if let Some(place) = made.iter().position(|check| check.name == name) {
                self.checks.push(made.remove(place));
            } else if !name.ends_with("-decryption") {
                self.not_made(name, why);
            }
        }
    }

    fn run(
        &mut self,
        data: &BootstrappingData,
        trusted_source: bool,
    ) -> Result<ConveyedInformation, Error> {
        // SZTP-8572-5.3-07: what is encrypted is decrypted before any further processing.
        let conveyed = self.decrypted(
            Document::ConveyedInformation,
            "conveyed-information-decryption",
            &data.conveyed_information,
        )?;
        let owner = match &data.owner_certificate {
            Some(artefact) => Some(self.decrypted(
                Document::OwnerCertificate,
                "owner-certificate-decryption",
                artefact,
            )?),
            None => None,
        };
        let voucher = match &data.ownership_voucher {
            Some(artefact) => {
                Some(self.decrypted(Document::Voucher, "ownership-voucher-decryption", artefact)?)
            }
            None => None,
        };
        let tolerances = self.context.tolerances;
        let parsed = conveyed::parse(&conveyed, tolerances).and_then(not_encrypted);
        match self.record("conveyed-information", parsed)? {
            Parsed::Signed(signed) => {
                self.signed = Some(true);
                self.encoding = Some(signed.encoding());
                self.note(signed.oddities().iter().cloned());
                let content = self.signed_content(&signed, owner, voucher)?;
                // SZTP-8572-5.3-08: signed information that validates sets trust-state to true.
                self.trusted = true;
                self.content(&content, signed.encoding())
            }
            Parsed::Unsigned {
                encoding,
                content,
                oddities,
            } => {
                self.signed = Some(false);
                self.encoding = Some(encoding);
                self.note(oddities);
                let alone = owner.is_none() && voucher.is_none();
                let grouping = self.unsigned_grouping(alone);
                self.record("grouping", grouping)?;
                self.trusted = trusted_source;
                self.content(&content, encoding)
            }
            Parsed::Enveloped(_) => Err(encrypted_twice()),
        }
    }

    fn decrypted(
        &mut self,
        document: Document,
        name: &'static str,
        artefact: &[u8],
    ) -> Result<Zeroizing<Vec<u8>>, Error> {
        if !is_enveloped(artefact) {
            return Ok(Zeroizing::new(artefact.to_vec()));
        }
        let context = self.context;
        let Some(key) = context.decryption_key else {
            self.not_made(name, "no key to decrypt with was given");
            let detail = format!("the {document} is encrypted and there is no key");
            return Err(fail(Fault::DecryptionKeyMissing, detail));
        };
        let result = Enveloped::parse(document, artefact, context.tolerances)
            .and_then(|data| data.decrypt(key, context.decryption_certificate, context.tolerances));
        let (artefact, oddities) = self.record(name, result)?;
        self.note(oddities);
        Ok(artefact)
    }

    fn unsigned_grouping(&mut self, alone: bool) -> Result<(), Error> {
        // SZTP-8572-3.5-01: with unsigned information neither of the two is present.
        if alone {
            return Ok(());
        }
        let detail = "unsigned information came with a voucher or an owner certificate";
        if !self.context.tolerances.loose_grouping {
            return Err(fail(Fault::Grouping, detail));
        }
        self.note([Oddity::new("loose-grouping", detail)]);
        Ok(())
    }

    /// The algorithm of RFC 8572 section 5.4; what comes out is the content that was signed.
    fn signed_content(
        &mut self,
        signed: &SignedInformation,
        owner: Option<Zeroizing<Vec<u8>>>,
        voucher: Option<Zeroizing<Vec<u8>>>,
    ) -> Result<Vec<u8>, Error> {
        // SZTP-8572-5.4-03: signed information without both of them is not validated.
        let grouping = match (owner, voucher) {
            (Some(owner), Some(voucher)) => Ok((owner, voucher)),
            (_, None) => Err(fail(
                Fault::VoucherMissing,
                "signed information came without an ownership voucher",
            )),
            (None, Some(_)) => Err(fail(
                Fault::OwnerCertificateMissing,
                "signed information came without an owner certificate",
            )),
        };
        let (owner, voucher) = self.record("grouping", grouping)?;
        let voucher = self.voucher(&voucher)?;
        let tolerances = self.context.tolerances;
        let owner = owner::decode_with(&owner, tolerances);
        let owner = self.record("owner-certificate", owner)?;
        self.note(owner.oddities().iter().cloned());
        let certificate = self.owner_certificate(signed, &owner, &voucher)?;
        // SZTP-8572-5.4-12: the conveyed information was signed by the validated owner
        // certificate.
        let verified = signed
            .verify(std::slice::from_ref(&certificate), tolerances)
            .and_then(|(content, signer)| {
                if *signer.certificate() == certificate {
                    Ok((content, conveyed::oddities_of(&signer)))
                } else {
                    let detail = "another certificate of the same name made the signature";
                    Err(fail(Fault::SignerNotOwner, detail))
                }
            });
        let (content, oddities) = self.record("signature", verified)?;
        self.note(oddities);
        self.voucher = Some(voucher.voucher);
        Ok(content.to_vec())
    }

    fn voucher(&mut self, artefact: &[u8]) -> Result<VerifiedVoucher, Error> {
        let context = self.context;
        // RFC 8572 section 3.3 allows id-data, and with it another encoding, and RFC 8366 leaves open which form idevid-issuer
        // has. The nonce was sent as octets, so its octets are compared.
        let mut tolerances = context.tolerances.clone();
        tolerances.id_data = true;
        tolerances.idevid_issuer_forms = true;
        tolerances.nonce_reencoded = true;
        tolerances.xml_voucher = true;
        let signed = open(Document::Voucher, artefact, None, &tolerances);
        let signed = match signed {
            Ok(signed) => signed,
            Err(error) => return self.record("voucher-signature", Err(error)),
        };
        // SZTP-8572-5.4-04: the signature leads to one of the pre-configured anchors, with the
        // help of certificates that came along.
        let mut voucher_context = VoucherContext::new(Trust {
            anchors: context.voucher_anchors,
            intermediates: &[],
            crls: context.voucher_crls,
            now: context.at,
        });
        voucher_context.serial_number = context.serial;
        voucher_context.idevid = context.idevid;
        voucher_context.nonce = context.nonce;
        voucher_context.accepted_assertions = context.accepted_assertions;
        voucher_context.expires_on_without_clock = true;
        let outcome = verify_voucher(&signed, &voucher_context, &tolerances);
        let (checks, oddities, result) = outcome.into_parts();
        self.note(oddities.into_iter().filter(|oddity| {
            // Allowed by the standard, so nothing odd.
            !matches!(
                oddity.name,
                "id-data" | "idevid-issuer-forms" | "nonce-reencoded" | "xml-voucher"
            )
        }));
        for check in checks {
            let name = match check.name {
                "signature" => "voucher-signature",
                "trust" => "voucher-trust",
                "content" => "voucher-content",
                "expires-on" => "voucher-expires-on",
                "assertion" => "voucher-assertion",
                "serial-number" => "voucher-serial-number",
                "idevid-issuer" => "voucher-idevid-issuer",
                "nonce" => "voucher-nonce",
                // Pin and domain are judged with the owner certificate.
                _ => continue,
            };
            let result = check.result;
            self.checks.push(Check { name, result });
        }
        let verified = result?;
        self.created_on(&verified.voucher)?;
        Ok(verified)
    }

    fn created_on(&mut self, voucher: &Voucher) -> Result<(), Error> {
        // SZTP-8572-5.4-05: with an accurate clock, a voucher whose created-on is not in the
        // past is rejected.
        let Some(now) = self.context.at else {
            self.not_made("voucher-created-on", "there is no clock");
            return Ok(());
        };
        let Some(created_on) = voucher.created_on else {
            self.not_made("voucher-created-on", "the voucher has none");
            return Ok(());
        };
        let latest = now.checked_add(self.context.clock_skew).unwrap_or(now);
        let result = if created_on <= latest {
            Ok(())
        } else {
            let detail = format!(
                "the voucher is of {}, it is {}",
                date::format(created_on),
                date::format(now)
            );
            Err(Error::new(Document::Voucher, Fault::InFuture, detail))
        };
        self.record("voucher-created-on", result)
    }

    /// Finds the owner certificate and authenticates it.
    fn owner_certificate(
        &mut self,
        signed: &SignedInformation,
        owner: &OwnerCertificate,
        voucher: &VerifiedVoucher,
    ) -> Result<Certificate, Error> {
        // SZTP-8572-3.2-07: the key is that of the owner certificate that was delivered.
        let candidates = owner.named_by(signed);
        let named = match candidates.first() {
            Some(first) => Ok(first.clone()),
            None => Err(fail(
                Fault::SignerNotOwner,
                "the signer's certificate is not in the owner certificate",
            )),
        };
        let first = self.record("owner-signer", named)?;
        // Several are named alike only in an artefact that means to confuse; the one with a path
        // counts.
        let judged: Vec<_> = candidates
            .into_iter()
            .map(|candidate| {
                let path = self.owner_path(&candidate, owner, &voucher.voucher);
                (candidate, path)
            })
            .collect();
        let best = judged.iter().position(|(_, path)| path.is_ok());
        let mut judged = judged.into_iter();
        let (certificate, path) = judged.nth(best.unwrap_or(0)).unwrap_or_else(|| {
            let error = fail(Fault::OwnerNotPinned, "there is no owner certificate");
            (first, Err(error))
        });
        let usage = owner::check_key_usage(&certificate);
        self.record("owner-key-usage", usage)?;
        let (crls, forbidden) = self.owner_crls(owner, &voucher.voucher);
        match path {
            Ok(path) => {
                self.record("owner-trust", Ok(()))?;
                if forbidden {
                    self.not_made("owner-revocation", "the voucher forbids it");
                } else if crls.is_empty() && !is_required(&voucher.voucher) {
                    let why = "there is no CRL and the voucher does not demand one";
                    self.not_made("owner-revocation", why);
                } else if path.len() == 1 && !is_required(&voucher.voucher) {
                    let why = "the owner certificate itself is pinned";
                    self.not_made("owner-revocation", why);
                } else {
                    self.record("owner-revocation", Ok(()))?;
                }
                self.owner_path = path;
                Ok(certificate)
            }
            Err(error) if is_about_revocation(&error) => {
                self.record("owner-trust", Ok(()))?;
                self.record("owner-revocation", Err(error))
            }
            Err(error) => self.record("owner-trust", Err(error)),
        }
    }

    /// The lists to use, and whether revocation may not be checked at all.
    fn owner_crls(&self, owner: &OwnerCertificate, voucher: &Voucher) -> (Vec<Crl>, bool) {
        // SZTP-8366-5.3-12: true obliges, false forbids, absence leaves it to the usual rules.
        if voucher.domain_cert_revocation_checks == Some(false) {
            return (Vec::new(), true);
        }
        let given = self.context.owner_crls.iter();
        (given.chain(owner.crls()).cloned().collect(), false)
    }

    /// The path from the owner certificate to the pinned one, its own first.
    fn owner_path(
        &self,
        certificate: &Certificate,
        owner: &OwnerCertificate,
        voucher: &Voucher,
    ) -> Result<Vec<Certificate>, Error> {
        let pinned = voucher.pinned_domain_cert.as_ref();
        let Some(pinned) = pinned else {
            let detail = "the voucher pins no certificate";
            return Err(Error::new(Document::Voucher, Fault::NoPin, detail));
        };
        let (crls, _) = self.owner_crls(owner, voucher);
        // SZTP-8572-5.4-11: with domain-cert-revocation-checks the status of the whole chain has
        // to be known and good.
        let revocation = if is_required(voucher) {
            Revocation::Required
        } else {
            Revocation::BestEffort
        };
        // SZTP-8572-5.4-10, SZTP-8366-5.3-11, SZTP-8572-3.3-04: the path ends in the pinned certificate, which may
        // be a root, an intermediate or the owner certificate itself.
        let anchors: Anchors = pinned.clone().into();
        let options = PathOptions {
            at: self.context.at,
            purpose: Purpose::Any,
            crls,
            revocation,
            tolerate_legacy_algorithms: self.context.tolerances.sha1,
            // A pinned CA certificate is a key that is trusted, whatever its period; that of the
            // owner certificate counts, pinned or not.
            tolerate_anchor_validity: certificate != pinned,
            ..PathOptions::default()
        };
        match path::validate(certificate, owner.certificates(), &anchors, &options) {
            Ok(path) => {
                if certificate == pinned && is_required(voucher) {
                    status_of_pinned(certificate, owner, options)?;
                }
                Ok(path.certificates().to_vec())
            }
            // No issuer, or one of that name with another key.
            Err(error) if matches!(error.reason, Reason::UnknownIssuer | Reason::Signature) => {
                let detail = format!("no path leads to the pinned certificate: {error}");
                Err(fail(Fault::OwnerNotPinned, detail))
            }
            Err(error) => Err(error.into()),
        }
    }

    fn content(
        &mut self,
        content: &[u8],
        encoding: Encoding,
    ) -> Result<ConveyedInformation, Error> {
        let tolerances = self.context.tolerances;
        let decoded = ConveyedInformation::decode_noting(content, encoding, tolerances);
        let (mut information, oddities) = self.record("content", decoded)?;
        self.note(oddities);
        let allowed = match &mut information {
            // SZTP-8572-2.2-01, SZTP-8572-5.3-13: untrusted onboarding information is never
            // processed.
            ConveyedInformation::Onboarding(_) if !self.trusted => Err(fail(
                Fault::UntrustedOnboarding,
                "unsigned onboarding information from a source that is not trusted",
            )),
            ConveyedInformation::Redirect(redirect) if !self.trusted => {
                // SZTP-8572-2.1-01, SZTP-8572-5.5-06: the trust anchors of untrusted redirect
                // information are discarded.
                for server in &mut redirect.bootstrap_servers {
                    server.trust_anchor = None;
                }
                Ok(())
            }
            ConveyedInformation::Onboarding(_) | ConveyedInformation::Redirect(_) => Ok(()),
        };
        self.record("trust-state", allowed)?;
        Ok(information)
    }
}

fn is_required(voucher: &Voucher) -> bool {
    voucher.domain_cert_revocation_checks == Some(true)
}

fn not_encrypted(parsed: Parsed) -> Result<Parsed, Error> {
    match parsed {
        Parsed::Enveloped(_) => Err(encrypted_twice()),
        parsed => Ok(parsed),
    }
}

fn encrypted_twice() -> Error {
    let detail = "what was decrypted is encrypted again";
    Error::new(Document::ConveyedInformation, Fault::ContentType, detail)
}

/// The path is there, and revocation stands against it or is not known.
fn is_about_revocation(error: &Error) -> bool {
    match error {
        Error::Path(error) => matches!(
            error.reason,
            Reason::Revoked | Reason::CrlExpired | Reason::CrlInvalid | Reason::CrlMissing
        ),
        error => error.fault() == Some(Fault::RevocationUnknown),
    }
}

/// The status of an owner certificate that is itself pinned: no path leads up from it on which a
/// list would be asked, so its issuer is. The certificate names the issuer's key by its hash; that
/// its signature verifies is not enough, because it verifies with keys made for that as well.
fn status_of_pinned(
    certificate: &Certificate,
    owner: &OwnerCertificate,
    options: PathOptions,
) -> Result<(), Error> {
    let issuer = owner.certificates().iter().find(|other| {
        let key = other.public_key();
        *other != certificate
            && other.subject_der() == certificate.issuer_der()
            && certificate.authority_key_id().as_deref() == Some(&key.sha1_key_id())
            && certificate.verify_signature_by(key).is_ok()
    });
    let Some(issuer) = issuer else {
        // SZTP-8572-5.4-11: with a status that is unattainable the owner certificate is refused.
        let detail = "the voucher demands revocation checks, and the issuer of the pinned owner \
                      certificate did not come along";
        return Err(Error::new(
            Document::Voucher,
            Fault::RevocationUnknown,
            detail,
        ));
    };
    let options = PathOptions {
        tolerate_anchor_validity: true,
        ..options
    };
    let anchors: Anchors = issuer.clone().into();
    path::validate(certificate, owner.certificates(), &anchors, &options)?;
    Ok(())
}
