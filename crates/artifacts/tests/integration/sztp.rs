//! A manufacturer, a device, and an owner with conveyed information to sign.

use artifacts::bundle::{BootstrappingData, DeviceContext, Judgement, judge};
use artifacts::conveyed::{self, ContentType, ConveyedInformation};
use artifacts::verify::{CheckResult, ExpectedNonce};
use artifacts::{
    Assertion, Encoding, Envelope, IdevidIssuer, Nonce, SerialNumber, Tolerances, Voucher,
    VoucherFields, owner, sign_voucher,
};
use pki::cms::Decryptor;
use pki::issue::{CertificateBuilder, CrlBuilder, Profile, RevocationReason, name};
use pki::path::Anchors;
use pki::{Certificate, Crl, Identity, KeyKind, Signer as _, SoftwareKey};
use testkit::{NOW, Pki, PkiOptions, issue_under, root, serial};
use time::{Duration, OffsetDateTime};

use crate::conveyed::onboarding;

pub(crate) const SERIAL: &str = "JADA123456789";

/// Everything that the artefacts are made of.
pub(crate) struct Sztp {
    pub(crate) pki: Pki,
    pub(crate) anchors: Anchors,
    pub(crate) device: Identity,
    pub(crate) device_key: SoftwareKey,
    /// The owner's root.
    pub(crate) root: Identity,
    /// A CA below it.
    pub(crate) intermediate: Identity,
    /// The owner certificate below that, its chain without the root.
    pub(crate) owner: Identity,
    pub(crate) serial: SerialNumber,
}

impl Sztp {
    pub(crate) fn new() -> Self {
        let pki = Pki::p256(NOW).unwrap();
        let options = PkiOptions::new(NOW);
        let root = root(&options, "CN=Owner Root,O=Owner").unwrap();
        let below = |ca: &Identity, profile, subject| {
            issue_under(ca, &options, KeyKind::EcdsaP256, profile, subject, |c| c).unwrap()
        };
        let sub_ca = Profile::SubCa { path_length: None };
        let intermediate = below(&root, sub_ca, "CN=Owner CA,O=Owner");
        let owner = below(
            &intermediate,
            Profile::Owner,
            "CN=Owner Certificate,O=Owner",
        );
        let (device, device_key) = device(&pki);
        Self {
            anchors: pki.manufacturer_anchors(),
            device,
            device_key,
            root,
            intermediate,
            owner,
            serial: SerialNumber::new(SERIAL).unwrap(),
            pki,
        }
    }

    /// Another certificate under the owner's intermediate CA.
    pub(crate) fn sibling(
        &self,
        change: impl FnOnce(CertificateBuilder) -> CertificateBuilder,
    ) -> Identity {
        let options = PkiOptions::new(NOW);
        issue_under(
            &self.intermediate,
            &options,
            KeyKind::EcdsaP256,
            Profile::Owner,
            "CN=Owner Certificate,O=Owner",
            change,
        )
        .unwrap()
    }

    pub(crate) fn voucher_fields(&self) -> VoucherFields {
        VoucherFields {
            created_on: Some(NOW - Duration::HOUR),
            assertion: Some(Assertion::Verified),
            pinned_domain_cert: Some(self.root.chain[0].clone()),
            ..VoucherFields::new(self.serial.clone())
        }
    }

    pub(crate) fn voucher(&self, fields: VoucherFields) -> Vec<u8> {
        let voucher = Voucher::new(fields).unwrap();
        sign_voucher(&voucher, Envelope::Cms, &self.pki.masa_signer, NOW).unwrap()
    }

    pub(crate) fn idevid_issuer(&self) -> IdevidIssuer {
        IdevidIssuer::of(&self.device.chain[0])
    }

    pub(crate) fn signed(&self, information: &ConveyedInformation, encoding: Encoding) -> Vec<u8> {
        let content = information.encode(encoding).unwrap();
        conveyed::sign(&content, encoding, ContentType::Registered, &self.owner).unwrap()
    }

    /// Signed onboarding information with all that belongs to it.
    pub(crate) fn data(&self) -> BootstrappingData {
        BootstrappingData {
            conveyed_information: self.signed(&onboarding(), Encoding::Json),
            owner_certificate: Some(owner::encode(&self.owner.chain, &[]).unwrap()),
            ownership_voucher: Some(self.voucher(self.voucher_fields())),
        }
    }

    pub(crate) fn context<'a>(&'a self, tolerances: &'a Tolerances) -> DeviceContext<'a> {
        DeviceContext {
            serial: Some(&self.serial),
            idevid: self.device.chain.first(),
            nonce: ExpectedNonce::Nonceless,
            at: Some(NOW),
            accepted_assertions: Some(&[Assertion::Verified, Assertion::Logged]),
            decryption_key: Some(&self.device_key as &dyn Decryptor),
            ..DeviceContext::new(&self.anchors, tolerances)
        }
    }

    /// The verdict of a device that does not trust the source.
    pub(crate) fn untrusted(&self, data: &BootstrappingData) -> Judgement {
        let strict = Tolerances::strict();
        judge(data, false, &self.context(&strict))
    }

    /// A list of the CA's, with these certificates revoked.
    pub(crate) fn crl(&self, ca: &Identity, revoked: &[&Certificate]) -> Crl {
        crl(ca, revoked, NOW - Duration::HOUR)
    }
}

pub(crate) fn crl(ca: &Identity, revoked: &[&Certificate], at: OffsetDateTime) -> Crl {
    let mut builder = CrlBuilder::new(1, at, at + Duration::DAY);
    for certificate in revoked {
        builder = builder.revoke(
            certificate.serial_number(),
            at,
            RevocationReason::KeyCompromise,
        );
    }
    builder.issue(&ca.chain[0], ca.signer.as_ref()).unwrap()
}

/// A device whose key the test has at hand, so that it can decrypt.
fn device(pki: &Pki) -> (Identity, SoftwareKey) {
    let key = SoftwareKey::generate(KeyKind::EcdsaP256).unwrap();
    let copy = SoftwareKey::from_pkcs8_der(&key.to_pkcs8_der().unwrap()).unwrap();
    let certificate = CertificateBuilder::new(
        Profile::Idevid,
        name(&format!("serialNumber={SERIAL},CN=Device")).unwrap(),
        key.public_key().clone(),
        serial().unwrap(),
        NOW - Duration::DAY,
        testkit::FOREVER,
    )
    .issue(
        &pki.manufacturer_ca.chain[0],
        pki.manufacturer_ca.signer.as_ref(),
    )
    .unwrap();
    let identity = Identity::new(vec![certificate], std::sync::Arc::new(key)).unwrap();
    (identity, copy)
}

pub(crate) fn nonce(octets: &[u8]) -> Nonce {
    Nonce::from_octets(octets).unwrap()
}

/// The code of the first failure.
pub(crate) fn code(judgement: &Judgement) -> Option<&'static str> {
    use pki::Coded as _;
    judgement.result.as_ref().err().map(|error| error.code())
}

/// How one check went: `passed`, a code, or `not made`.
pub(crate) fn verdict(judgement: &Judgement, name: &str) -> &'static str {
    let check = judgement.checks.iter().find(|check| check.name == name);
    match check.map(|check| &check.result) {
        None => "absent",
        Some(CheckResult::Passed) => "passed",
        Some(CheckResult::Failed { code, .. }) => code,
        Some(CheckResult::NotMade { .. }) => "not made",
    }
}
