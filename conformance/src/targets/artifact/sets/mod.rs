//! The sets of vectors, and the world that they are from: one manufacturer, one owner, and people
//! who pretend to be one of them.

mod cms;
mod cose;
mod cose_leaves;
mod der;
mod json;
mod jws;
mod request;
mod voucher;
mod voucher_texts;

use anyhow::Result;
use base64::{Engine as _, engine::general_purpose::STANDARD};
use time::{OffsetDateTime, macros::datetime};

use super::vectors::{Context, Vector};
use crate::forge::{
    cms::{ANIMA_JSON_VOUCHER, Cms},
    key::{Key, Kind},
    voucher::{Leaves, idevid_issuer},
    x509::{Authority, Identity, pem},
};

/// The time of all vectors, unless one says otherwise.
pub(super) const NOW: OffsetDateTime = datetime!(2026-06-01 12:00:00 UTC);
/// The device's serial number.
pub(super) const SERIAL: &str = "JADA-123456789";
/// The nonce of all requests.
pub(super) const NONCE: [u8; 16] =
    *b"\xfb\xff\x60\x2a\x11\xc4\x77\x5d\x03\xbf\xff\x40\xee\x2f\x71\x66";

/// Keys and certificates.
pub(crate) struct World {
    pub(super) manufacturer: Authority,
    pub(super) device_ca: Authority,
    pub(super) masa: Identity,
    pub(super) device: Identity,
    pub(super) domain: Authority,
    pub(super) registrar: Identity,
    pub(super) attacker: Authority,
    pub(super) attacker_masa: Identity,
    pub(super) attacker_device: Identity,
    pub(super) other_domain: Authority,
    pub(super) other_registrar: Identity,
}

impl World {
    pub(super) fn new() -> Result<Self> {
        let key = |label: &str| Key::derive(Kind::P256, label);
        let maker = "Example Manufacturer";
        let manufacturer = Authority::root(maker, "Root CA", key("manufacturer")?, NOW);
        let device_ca = manufacturer.below(maker, "Device CA", key("device-ca")?, NOW);
        let masa = signer(&manufacturer, maker, key("masa")?);
        let device = device_ca.device(
            maker,
            SERIAL,
            Some("masa.example.com"),
            &key("device")?,
            NOW,
        );
        let owner = "Example Owner";
        let domain = Authority::root(owner, "Domain CA", key("domain")?, NOW);
        let registrar = domain.registrar(
            "Registrar",
            &["registrar.example.net"],
            &key("registrar")?,
            NOW,
        );
        // The same names with other keys.
        let attacker = Authority::root(maker, "Root CA", key("attacker")?, NOW);
        let attacker_masa = signer(&attacker, maker, key("attacker-masa")?);
        let attacker_device = attacker.device(
            maker,
            SERIAL,
            Some("masa.example.com"),
            &key("attacker-device")?,
            NOW,
        );
        let other_domain = Authority::root("Another Owner", "Domain CA", key("other-domain")?, NOW);
        let other_registrar = other_domain.registrar(
            "Registrar",
            &["registrar.example.org"],
            &key("other-registrar")?,
            NOW,
        );
        Ok(Self {
            manufacturer,
            device_ca,
            masa,
            device,
            domain,
            registrar,
            attacker,
            attacker_masa,
            attacker_device,
            other_domain,
            other_registrar,
        })
    }

    /// Certificates, keys and requests that the index refers to.
    pub(super) fn files(&self) -> Vec<(String, Vec<u8>)> {
        let mut files = Vec::new();
        let certificates: [(&str, &[u8]); 11] = [
            ("manufacturer", self.manufacturer.certificate()),
            ("device-ca", self.device_ca.certificate()),
            ("masa", self.masa.certificate()),
            ("device", self.device.certificate()),
            ("domain", self.domain.certificate()),
            ("registrar", self.registrar.certificate()),
            ("attacker", self.attacker.certificate()),
            ("attacker-masa", self.attacker_masa.certificate()),
            ("attacker-device", self.attacker_device.certificate()),
            ("other-domain", self.other_domain.certificate()),
            ("other-registrar", self.other_registrar.certificate()),
        ];
        for (name, der) in certificates {
            files.push((
                format!("pki/{name}.pem"),
                pem("CERTIFICATE", der).into_bytes(),
            ));
        }
        let keys: [(&str, &Key); 7] = [
            ("masa", self.masa.key()),
            ("device", self.device.key()),
            ("registrar", self.registrar.key()),
            ("domain", &self.domain.signatory.key),
            ("manufacturer", &self.manufacturer.signatory.key),
            ("device-ca", &self.device_ca.signatory.key),
            ("attacker", &self.attacker.signatory.key),
        ];
        for (name, key) in keys {
            files.push((
                format!("pki/{name}.key"),
                key.to_pem().unwrap_or_default().into_bytes(),
            ));
        }
        files.push(("pki/pvr.vcj".into(), self.pledge_request()));
        files
    }

    /// The device's own request, signed.
    pub(super) fn pledge_request(&self) -> Vec<u8> {
        let leaves =
            Leaves::pledge_request(SERIAL, &NONCE, self.registrar.certificate(), Some(NOW));
        Cms::new(
            &leaves.encode(),
            ANIMA_JSON_VOUCHER,
            &self.device.signatory,
            NOW,
        )
        .with(|cms| cms.certificates = self.device.chain())
        .encode()
    }

    /// The leaves of a right voucher.
    pub(super) fn voucher(&self) -> Leaves {
        Leaves::voucher(SERIAL, &NONCE, self.domain.certificate(), NOW)
    }

    /// The leaves of a right request of a registrar.
    pub(super) fn registrar_request(&self) -> Leaves {
        Leaves::registrar_request(
            SERIAL,
            &NONCE,
            &idevid_issuer(&self.device_ca.key_id()),
            &self.pledge_request(),
            NOW,
        )
    }
}

fn signer(ca: &Authority, maker: &str, key: Key) -> Identity {
    let subject = crate::forge::x509::name(maker, "MASA", None);
    ca.issue(&subject, &key, NOW, |certificate| certificate)
}

/// What a pledge knows that judges a voucher.
pub(super) fn pledge() -> Context {
    Context {
        anchors: vec!["pki/manufacturer.pem"],
        domain: vec!["pki/domain.pem"],
        serial: Some(SERIAL),
        nonce: Some(STANDARD.encode(NONCE)),
        idevid: Some("pki/device.pem"),
        registrar: vec!["pki/registrar.pem"],
        ..Context::default()
    }
}

/// Every vector.
pub(super) fn all() -> Vec<Vector> {
    let mut all = Vec::new();
    all.extend(cms::vectors());
    all.extend(jws::vectors());
    all.extend(voucher::vectors());
    all.extend(request::vectors());
    all.extend(cose::vectors());
    all.extend(der::vectors());
    all.extend(json::vectors());
    all
}
