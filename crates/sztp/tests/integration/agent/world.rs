//! A manufacturer, an owner and the artefacts that they make.

use artifacts::{
    Assertion, Encoding, Envelope, Nonce, SerialNumber, Voucher, VoucherFields,
    bundle::BootstrappingData,
    conveyed::{
        self, BootImage, BootstrapServer, ConfigurationHandling, ContentType, ConveyedInformation,
        HashAlgorithm, ImageVerification, OnboardingInformation, RedirectInformation, TrustAnchor,
    },
    owner, sign_voucher,
};
use pki::{Certificate, Identity, issue::Profile, path::Anchors};
use sztp::agent::{Config, RunningOs, Server, State};
use testkit::Pki;
use time::{Duration, OffsetDateTime, macros::datetime};

pub(crate) const NOW: OffsetDateTime = datetime!(2026-06-01 12:00 UTC);
pub(crate) const SERIAL: &str = "SN-1";

pub(crate) struct World {
    pub(crate) pki: Pki,
    /// Signs conveyed information.
    pub(crate) owner: Identity,
    pub(crate) device: Identity,
    pub(crate) now: OffsetDateTime,
}

impl World {
    pub(crate) fn new() -> Self {
        Self::at(NOW)
    }

    pub(crate) fn at(now: OffsetDateTime) -> Self {
        let pki = Pki::p256(now).unwrap();
        let owner = pki
            .domain_certificate(Profile::Owner, "CN=Owner Certificate", |it| it)
            .unwrap();
        let device = pki.idevid(SERIAL).unwrap();
        Self {
            pki,
            owner,
            device,
            now,
        }
    }

    pub(crate) fn config(&self) -> Config {
        let idevid = self.device.certificate().unwrap().clone();
        let mut config = Config::new(SerialNumber::new(SERIAL).unwrap(), idevid);
        config.voucher_anchors = self.pki.manufacturer_anchors();
        config.hw_model = Some("model-x".to_owned());
        config.rounds_max = Some(1);
        config
    }

    pub(crate) fn state() -> State {
        State::factory(RunningOs {
            name: Some("VendorOS".to_owned()),
            version: Some("17.2".to_owned()),
            image_sha256: None,
        })
    }

    /// A TLS server under the owner's CA.
    pub(crate) fn server(&self, names: &[&str]) -> Identity {
        self.pki
            .domain_certificate(Profile::TlsServer, "CN=Bootstrap Server", |it| {
                names.iter().fold(it, |it, name| match name.parse() {
                    Ok(address) => it.alt_name(pki::issue::AltName::Ip(address)),
                    Err(_) => it.dns_name(*name),
                })
            })
            .unwrap()
    }

    pub(crate) fn domain_ca(&self) -> Certificate {
        self.pki.domain.ca.certificate().unwrap().clone()
    }

    pub(crate) fn domain_anchors(&self) -> Anchors {
        self.pki.domain.anchors()
    }

    /// The owner's CA as the trust anchor of redirect information.
    pub(crate) fn anchor(&self) -> Vec<u8> {
        TrustAnchor::encode(&[self.domain_ca()], &[]).unwrap()
    }

    pub(crate) fn voucher(&self, change: impl FnOnce(&mut VoucherFields)) -> Vec<u8> {
        let mut fields = VoucherFields::new(SerialNumber::new(SERIAL).unwrap());
        fields.created_on = Some(self.now - Duration::HOUR);
        fields.assertion = Some(Assertion::Verified);
        fields.pinned_domain_cert = Some(self.domain_ca());
        change(&mut fields);
        let voucher = Voucher::new(fields).unwrap();
        let signer = &self.pki.masa_signer;
        sign_voucher(&voucher, Envelope::Cms, signer, self.now).unwrap()
    }

    pub(crate) fn signed_with(
        &self,
        information: &ConveyedInformation,
        voucher: Vec<u8>,
    ) -> BootstrappingData {
        self.signed_content(&information.encode(Encoding::Json).unwrap(), voucher)
    }

    pub(crate) fn signed_content(&self, content: &[u8], voucher: Vec<u8>) -> BootstrappingData {
        BootstrappingData {
            conveyed_information: conveyed::sign(
                content,
                Encoding::Json,
                ContentType::Registered,
                &self.owner,
            )
            .unwrap(),
            owner_certificate: Some(owner::encode(&self.owner.chain, &[]).unwrap()),
            ownership_voucher: Some(voucher),
        }
    }

    pub(crate) fn signed(&self, information: &ConveyedInformation) -> BootstrappingData {
        self.signed_with(information, self.voucher(|_| {}))
    }
}

pub(crate) fn nonce(octets: &[u8]) -> Nonce {
    Nonce::from_octets(octets).unwrap()
}

pub(crate) fn unsigned(information: &ConveyedInformation) -> BootstrappingData {
    let content = information.encode(Encoding::Json).unwrap();
    BootstrappingData {
        conveyed_information: conveyed::unsigned(&content, Encoding::Json),
        ..BootstrappingData::default()
    }
}

/// A server's address, port and trust anchor.
pub(crate) type Listed<'a> = (&'a str, Option<u16>, Option<Vec<u8>>);

/// Redirect information to these servers.
pub(crate) fn redirect(servers: &[Listed<'_>]) -> ConveyedInformation {
    let servers = servers
        .iter()
        .map(|(address, port, trust_anchor)| BootstrapServer {
            address: (*address).to_owned(),
            port: *port,
            trust_anchor: trust_anchor.clone(),
        });
    ConveyedInformation::Redirect(RedirectInformation {
        bootstrap_servers: servers.collect(),
    })
}

/// Both scripts and a configuration.
pub(crate) fn onboarding() -> OnboardingInformation {
    OnboardingInformation {
        boot_image: None,
        pre_configuration_script: Some(b"pre".to_vec()),
        configuration_handling: Some(ConfigurationHandling::Merge),
        configuration: Some(b"hostname x\nno sztp\n".to_vec()),
        post_configuration_script: Some(b"post".to_vec()),
    }
}

pub(crate) fn whole() -> ConveyedInformation {
    ConveyedInformation::Onboarding(onboarding())
}

pub(crate) fn image(version: &str, uris: &[&str]) -> BootImage {
    BootImage {
        os_name: Some("VendorOS".to_owned()),
        os_version: Some(version.to_owned()),
        download_uris: uris.iter().map(|uri| (*uri).to_owned()).collect(),
        image_verifications: vec![ImageVerification {
            algorithm: HashAlgorithm::Sha256,
            value: vec![7; 32],
        }],
    }
}

pub(crate) fn with_image(boot_image: BootImage) -> ConveyedInformation {
    ConveyedInformation::Onboarding(OnboardingInformation {
        boot_image: Some(boot_image),
        ..onboarding()
    })
}

pub(crate) fn at(address: &str) -> Server {
    Server::new(address, None)
}
