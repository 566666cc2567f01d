//! What the tests of content share: a folder, devices, vouchers, and a device's own judgement.

use std::sync::Arc;

use artifacts::bundle::{BootstrappingData, DeviceContext, Judgement, judge};
use artifacts::conveyed::{self, ConveyedInformation, Parsed};
use artifacts::verify::ExpectedNonce;
use artifacts::{
    Assertion, Encoding, Envelope, Nonce, SerialNumber, Tolerances, Voucher, VoucherFields,
};
use bootstrap::content::{Engine, Facts, Prepared, revision};
use bootstrap::profile::{Profile, Quirk, Setting};
use bootstrap::register;
use pki::Certificate;
use pki::path::Anchors;
use sha2_of::sha256;
use store::{Value, params};
use testkit::NOW;
use time::{Duration, OffsetDateTime};

use crate::harness::Lab;

/// A folder with something of everything.
pub(crate) const FOLDER: &str = r#"
[variables]
domain = "example.net"

[site.bonn.variables]
ntp = "192.0.2.1"

[[script]]
name = "pre"
file = "pre.sh"

[[template]]
name = "config"
file = "templates/config.xml"

[[template]]
name = "static"
file = "templates/static.json"

[[image]]
name = "os-2"
os-name = "os"
os-version = "2.0"
uri = ["https://images.example.net/os-2.bin", "http://images.example.net/os-2.bin"]
sha256 = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"

[[bundle]]
name = "access"
version = "1"
image = "os-2"
pre-script = "pre"
template = "config"
handling = "merge"

[[bundle]]
name = "shared"
template = "static"
handling = "replace"

[[redirect]]
name = "away"
  [[redirect.server]]
  address = "other.example.net"
  port = 8443
  trust-anchor = "anchor.pem"
  [[redirect.server]]
  address = "2001:db8::1"

[[rule]]
name = "held"
group = "spare"
hold = true

[[rule]]
name = "moved"
hw-model = "old-*"
redirect = "away"

[[rule]]
name = "alike"
group = "alike"
bundle = "shared"

[[rule]]
name = "bonn"
site = "bonn"
bundle = "access"
"#;

/// The template of the bundle `access`.
pub(crate) const CONFIG: &str =
    "<c xmlns=\"urn:x\"><n>{{ device.serial }}.{{ vars.domain }}</n><t>{{ vars.ntp }}</t></c>\n";

/// Serves a content that may name the files of [`FOLDER`].
pub(crate) async fn stage(lab: &Lab, content: &str) {
    let anchor = lab.ca.chain[0].to_pem();
    lab.stage(
        content,
        &[
            ("pre.sh", "#!/bin/sh\n"),
            ("anchor.pem", &anchor),
            ("templates/config.xml", CONFIG),
            ("templates/static.json", "{\"a\": \"{{ vars.domain }}\"}"),
        ],
    )
    .await;
}

/// Puts a device with a group and a site into the register.
pub(crate) async fn device(lab: &Lab, serial: &str, group: &str, site: &str) -> i64 {
    let id = lab.register(serial).await;
    lab.change(
        "UPDATE device SET group_name = $1, site = $2 WHERE id = $3",
        params![group, site, id],
    )
    .await;
    id
}

/// A voucher of the manufacturer for a device.
pub(crate) fn voucher_der(
    lab: &Lab,
    serial: &str,
    pin: &Certificate,
    expires: Option<OffsetDateTime>,
    nonce: Option<&[u8]>,
) -> Vec<u8> {
    let fields = VoucherFields {
        created_on: Some(NOW - Duration::HOUR),
        expires_on: expires,
        assertion: Some(Assertion::Logged),
        pinned_domain_cert: Some(pin.clone()),
        nonce: nonce.and_then(Nonce::from_octets),
        ..VoucherFields::new(SerialNumber::new(serial).unwrap())
    };
    let voucher = Voucher::new(fields).unwrap();
    artifacts::sign_voucher(&voucher, Envelope::Cms, &lab.pki.masa_signer, NOW).unwrap()
}

/// Puts such a voucher into the register.
pub(crate) async fn voucher_pinning(
    lab: &Lab,
    device: i64,
    serial: &str,
    pin: &Certificate,
    expires: Option<OffsetDateTime>,
    nonce: Option<&[u8]>,
) {
    let der = voucher_der(lab, serial, pin, expires, nonce);
    let mut values = params![device, &der, sha256(&der), NOW, expires];
    values.push(Value::Bytes(nonce.map(<[u8]>::to_vec)));
    values.extend(params![pin.sha256()]);
    lab.change(
        "INSERT INTO voucher (device, der, sha256, created_us, expires_us, nonce, pin_sha256, \
         assertion, source, stored_us) VALUES ($1, $2, $3, $4, $5, $6, $7, 'logged', 'test', $4)",
        values,
    )
    .await;
}

/// A voucher without end that pins the owner's CA.
pub(crate) async fn voucher(lab: &Lab, device: i64, serial: &str) {
    let pin = lab.ca.chain[0].clone();
    voucher_pinning(lab, device, serial, &pin, None, None).await;
}

/// The model with some quirks.
pub(crate) fn profile(quirks: &[Quirk]) -> Arc<Profile> {
    let mut profile = Profile::generic();
    for quirk in quirks {
        let reason = "a test".to_owned();
        profile.quirks.insert(*quirk, Setting { on: true, reason });
    }
    Arc::new(profile)
}

/// The facts of a device that trusts this server, as they are now.
pub(crate) async fn facts(lab: &Lab, serial: &str) -> Facts {
    let mut reader = lab.store.reader().await.unwrap();
    let device = register::find_device(&mut reader, serial, None)
        .await
        .unwrap();
    drop(reader);
    let (epoch, revision) = revision::epoch(&lab.store).await.unwrap();
    Facts {
        device: Arc::new(device),
        epoch,
        revision,
        hw_model: None,
        os_name: None,
        os_version: None,
        nonce: None,
        signed_data_preferred: false,
        outer: Encoding::Json,
        profile: profile(&[]),
        certificate: None,
        identity: None,
        now: lab.clock.now(),
    }
}

/// The same of a device that trusts nobody.
pub(crate) async fn doubting(lab: &Lab, serial: &str) -> Facts {
    Facts {
        signed_data_preferred: true,
        ..facts(lab, serial).await
    }
}

/// A server's engine over the database of the lab: a replica.
pub(crate) fn engine(lab: &Lab) -> Engine {
    Engine::open(&lab.config(), &lab.store).unwrap()
}

/// What is inside of conveyed information.
pub(crate) fn inside(prepared: &Prepared) -> ConveyedInformation {
    let strict = Tolerances::strict();
    let (content, encoding) =
        match conveyed::parse(&prepared.conveyed_information, &Tolerances::lenient()).unwrap() {
            Parsed::Unsigned {
                content, encoding, ..
            } => (content, encoding),
            Parsed::Signed(signed) => (signed.dangerous_peek().to_vec(), signed.encoding()),
            Parsed::Enveloped(_) => panic!("encrypted"),
        };
    ConveyedInformation::decode(&content, encoding, &strict).unwrap()
}

/// The configuration that onboarding information holds.
pub(crate) fn configuration(prepared: &Prepared) -> String {
    match inside(prepared) {
        ConveyedInformation::Onboarding(onboarding) => {
            String::from_utf8(onboarding.configuration.unwrap_or_default()).unwrap()
        }
        ConveyedInformation::Redirect(redirect) => panic!("{redirect:?}"),
    }
}

/// A device's judgement.
pub(crate) fn verdict(lab: &Lab, prepared: &Prepared, serial: &str, trusted: bool) -> Judgement {
    let data = BootstrappingData {
        conveyed_information: prepared.conveyed_information.to_vec(),
        owner_certificate: prepared.owner_certificate.clone().map(Vec::from),
        ownership_voucher: prepared.ownership_voucher.clone().map(Vec::from),
    };
    let mut anchors = Anchors::new();
    anchors.add(lab.pki.masa_signer.chain.last().unwrap().clone());
    let tolerances = Tolerances::strict();
    let serial = SerialNumber::new(serial).unwrap();
    let mut context = DeviceContext::new(&anchors, &tolerances);
    context.serial = Some(&serial);
    context.at = Some(lab.clock.now());
    context.nonce = ExpectedNonce::Nonceless;
    judge(&data, trusted, &context)
}

mod sha2_of {
    /// SHA-256.
    pub(crate) fn sha256(octets: &[u8]) -> Vec<u8> {
        bootstrap::content::document::Digest::of(octets).0.to_vec()
    }
}
