//! The PKI of a test: a manufacturer, domains, devices. Keys are P-256 and fresh for each world.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use pki::{
    Certificate, Identity, KeyKind, Signer, SoftwareKey,
    issue::{CertificateBuilder, Profile, name},
    path::Anchors,
};
use time::{Duration, OffsetDateTime, macros::datetime};

/// The time at which every test begins.
pub(crate) const NOW: OffsetDateTime = datetime!(2026-06-01 12:00:00 UTC);

/// Certificate serial numbers only have to differ.
static SERIAL: AtomicU64 = AtomicU64::new(1);

pub(crate) fn serial() -> [u8; 16] {
    let mut bytes = [0x11; 16];
    bytes[8..].copy_from_slice(&SERIAL.fetch_add(1, Ordering::Relaxed).to_be_bytes());
    bytes
}

pub(crate) fn key() -> Arc<SoftwareKey> {
    Arc::new(SoftwareKey::generate(KeyKind::EcdsaP256).unwrap())
}

/// A CA.
#[derive(Clone)]
pub(crate) struct Ca {
    pub(crate) certificate: Certificate,
    pub(crate) key: Arc<SoftwareKey>,
    /// What stands above it, the nearest first.
    pub(crate) above: Vec<Certificate>,
}

impl Ca {
    pub(crate) fn root(common_name: &str) -> Self {
        let key = key();
        let subject = name(&format!("CN={common_name}")).unwrap();
        let certificate = CertificateBuilder::new(
            Profile::RootCa,
            subject,
            key.public_key().clone(),
            serial(),
            NOW - Duration::days(100),
            NOW + Duration::days(3650),
        )
        .self_sign(key.as_ref())
        .unwrap();
        Self {
            certificate,
            key,
            above: Vec::new(),
        }
    }

    pub(crate) fn below(&self, common_name: &str) -> Self {
        let key = key();
        let certificate = self
            .builder(Profile::SubCa { path_length: None }, common_name, &key)
            .issue(&self.certificate, self.key.as_ref())
            .unwrap();
        let mut above = vec![self.certificate.clone()];
        above.extend(self.above.iter().cloned());
        Self {
            certificate,
            key,
            above,
        }
    }

    pub(crate) fn builder(
        &self,
        profile: Profile,
        subject: &str,
        key: &Arc<SoftwareKey>,
    ) -> CertificateBuilder {
        let subject = if subject.contains('=') {
            subject.to_owned()
        } else {
            format!("CN={subject}")
        };
        CertificateBuilder::new(
            profile,
            name(&subject).unwrap(),
            key.public_key().clone(),
            serial(),
            NOW - Duration::days(1),
            NOW + Duration::days(365),
        )
    }

    /// Signs, and gives the certificate with its whole chain and its key.
    pub(crate) fn identity(&self, builder: &CertificateBuilder, key: Arc<SoftwareKey>) -> Identity {
        let certificate = builder.issue(&self.certificate, self.key.as_ref()).unwrap();
        let mut chain = vec![certificate, self.certificate.clone()];
        chain.extend(self.above.iter().cloned());
        Identity::new(chain, key).unwrap()
    }

    pub(crate) fn anchors(&self) -> Anchors {
        self.certificate.clone().into()
    }

    pub(crate) fn registrar(&self, common_name: &str) -> Identity {
        let key = key();
        let builder = self
            .builder(Profile::Registrar, common_name, &key)
            .dns_name(format!("{common_name}.example"));
        self.identity(&builder, key)
    }
}

/// A manufacturer and its MASA's keys.
#[derive(Clone)]
pub(crate) struct Manufacturer {
    pub(crate) ca: Ca,
    pub(crate) masa: Identity,
    pub(crate) masa_nonceless: Identity,
}

impl Manufacturer {
    pub(crate) fn new(common_name: &str) -> Self {
        let ca = Ca::root(common_name);
        let signer = |role: &str| {
            let key = key();
            ca.identity(&ca.builder(Profile::MasaSigner, role, &key), key)
        };
        let (masa, masa_nonceless) = (signer("MASA short"), signer("MASA long"));
        Self {
            ca,
            masa,
            masa_nonceless,
        }
    }

    pub(crate) fn device(&self, serial_number: &str) -> Identity {
        let key = key();
        let builder = CertificateBuilder::new(
            Profile::Idevid,
            name(&format!("serialNumber={serial_number},CN=Device")).unwrap(),
            key.public_key().clone(),
            serial(),
            NOW - Duration::days(50),
            time::macros::datetime!(9999-12-31 23:59:59 UTC),
        )
        .masa_url("masa.example:9443");
        self.ca.identity(&builder, key)
    }
}

/// Only the device's own certificate, as many devices send it.
pub(crate) fn leaf_only(identity: &Identity) -> Identity {
    Identity::new(identity.chain[..1].to_vec(), Arc::clone(&identity.signer)).unwrap()
}

/// What a server answers.
#[derive(Clone, Debug)]
pub(crate) struct Response {
    pub(crate) status: u16,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
}

impl Response {
    pub(crate) fn new(status: u16, content_type: &str, body: impl Into<Vec<u8>>) -> Self {
        let headers = vec![("content-type".to_owned(), content_type.to_owned())];
        Self {
            status,
            headers,
            body: body.into(),
        }
    }

    pub(crate) fn with(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }

    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers
            .iter()
            .find(|(key, _)| key == name)
            .map(|(_, value)| value.as_str())
    }
}
