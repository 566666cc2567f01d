//! A device goes all the way over CoAPs.

use std::time::Duration;

use artifacts::Envelope;
use brski::pledge::ProximityForm;
use device::{
    brski::Outcome,
    coaps::{Config, EstClient, NetTransport, generate, origin_of, renew, run},
};
use est::{client::Facts, coaps::Operation};
use pki::{KeyKind, Signer as _, SoftwareKey, path::Anchors};

use super::relay::Relay;
use crate::demo::{
    Failure, Scene, Told,
    device::enrolled,
    world::{World, coded},
};

/// The share of datagrams that the bad link loses.
const LOSS: f64 = 0.2;
/// Of the bad link: the same fates in every demo.
const SEED: u64 = 11;
/// How long a device may take over the bad link.
const BAD_LINK_TIME_MAX: Duration = Duration::from_secs(60);

pub(super) fn scenes() -> Vec<Scene> {
    vec![
        Scene::new(
            "brski-cose-coaps",
            "a device with little memory enrols: COSE vouchers over CoAP and DTLS with CCM_8",
            |world| Box::pin(whole_way(world)),
        ),
        Scene::new(
            "brski-cose-coaps-key",
            "the same with a voucher that pins the hash of the registrar's key",
            |world| Box::pin(key_pinned(world)),
        ),
        Scene::new(
            "brski-cose-coaps-loss",
            "a device enrols over a link that loses every fifth datagram, reorders and duplicates",
            |world| Box::pin(bad_link(world)),
        ),
        Scene::new(
            "est-coaps",
            "a device with a certificate of a known CA enrols without a voucher",
            |world| Box::pin(est_alone(world)),
        ),
        Scene::new(
            "est-coaps-reenrol",
            "an enrolled device renews its certificate with a new key",
            |world| Box::pin(reenrolled(world)),
        ),
        Scene::new(
            "est-coaps-skg",
            "the registrar makes the key for an enrolled device",
            |world| Box::pin(generated(world)),
        ),
    ]
}

/// Runs a device and keeps what it did.
pub(super) async fn enrol(config: &Config) -> Result<Outcome, Failure> {
    run(config, &mut |_| {}).await.map_err(coded)
}

async fn whole_way(world: &World) -> Told {
    let serial = "DEMO-COAPS";
    world.ship(serial, None).await?;
    let mut config = world.coaps_device(serial)?;
    config.small = true;
    let outcome = enrol(&config).await?;
    Ok(format!("{}; {}", enrolled(&outcome)?, sizes(&outcome)))
}

async fn key_pinned(world: &World) -> Told {
    let serial = "DEMO-COAPS-KEY";
    world.ship(serial, None).await?;
    let mut config = world.coaps_device(serial)?;
    config.small = true;
    config.abbreviated = true;
    config.device.proximity = ProximityForm::PublicKeySha256;
    let outcome = enrol(&config).await?;
    Ok(format!("{}; {}", enrolled(&outcome)?, sizes(&outcome)))
}

/// The bytes of what is signed.
fn sizes(outcome: &Outcome) -> String {
    let request = outcome.voucher_request.as_ref().map_or(0, Vec::len);
    let voucher = match &outcome.verdict {
        device::brski::Verdict::Enrolled(enrolment) => enrolment.voucher.len(),
        _ => 0,
    };
    format!(
        "{} voucher request of {request} bytes, voucher of {voucher}",
        Envelope::Cose.name().to_uppercase()
    )
}

async fn bad_link(world: &World) -> Told {
    let serial = "DEMO-COAPS-LOSS";
    world.ship(serial, None).await?;
    let relay = Relay::start(world.coaps_address()?, LOSS, SEED).await?;
    let mut config = world.coaps_device(serial)?;
    config.device.address = Some(relay.address());
    config.device.time_max = Some(BAD_LINK_TIME_MAX);
    let outcome = enrol(&config).await?;
    let told = enrolled(&outcome)?;
    Ok(format!("{told}; {}", relay.stop()))
}

async fn est_alone(world: &World) -> Told {
    let serial = "DEMO-COAPS-EST";
    let identity = world.idevid(serial, world.ra_ca())?;
    let config = world.coaps_device_with(serial, identity.clone())?;
    let origin = origin_of(world.coaps_address()?)
        .ok_or_else(|| Failure::new("config.usage", &"no origin"))?;
    let connecting = EstClient::connect(&config, NetTransport::default(), &origin, identity);
    let mut client = connecting.await.map_err(coded)?;
    let anchor = world.domain_ca()?;
    let anchors: Anchors = std::iter::once(anchor.clone()).collect();
    let at = Some(world.now());
    client.check_server(&anchors, at).map_err(coded)?;
    let bag = client.ca_certificates().await.map_err(coded)?;
    let trust = bag.judge(Some(&anchor), at).map_err(coded)?;
    let requirements = client.attributes().await.map_err(coded)?;
    let key = SoftwareKey::generate(KeyKind::EcdsaP256).map_err(coded)?;
    let facts = Facts {
        subject_der: config
            .device
            .idevid
            .certificate()
            .map(|own| own.subject_der().to_vec())
            .unwrap_or_default(),
        serial_number: Some(serial.to_owned()),
        common_name: Some(serial.to_owned()),
        ..Facts::default()
    };
    let binding = client.exporter();
    let binding = binding.as_ref().map(<[u8; 32]>::as_slice);
    let csr = est::client::request(&requirements, &facts, binding, &key).map_err(coded)?;
    let response = client
        .enrol(Operation::SimpleEnroll, &csr)
        .await
        .map_err(coded)?;
    let done =
        EstClient::<NetTransport>::judge(&response, key.public_key(), &trust, at).map_err(coded)?;
    let told = device::cli::summary(&client.close().await);
    Ok(format!("{told}: {}", done.certificate.subject()))
}

/// An enrolled device, and its configuration.
async fn some_enrolled(world: &World, serial: &str) -> Result<Config, Failure> {
    world.ship(serial, None).await?;
    let config = world.coaps_device(serial)?;
    enrolled(&enrol(&config).await?)?;
    Ok(config)
}

async fn reenrolled(world: &World) -> Told {
    let config = some_enrolled(world, "DEMO-COAPS-REENROL").await?;
    let renewal = renew(&config).await.map_err(coded)?;
    let new = renewal
        .identity
        .as_ref()
        .and_then(pki::Identity::certificate);
    let Some(new) = new else {
        let text = renewal
            .refusal
            .map(|(status, text)| format!("{status} {text}"));
        return Err(Failure::new("pledge.refused", &text.unwrap_or_default()));
    };
    if new.public_key() == renewal.previous.public_key() {
        return Err(Failure::new("pledge.refused", &"it has the old key"));
    }
    Ok(format!(
        "{}: a new key under the same name",
        device::cli::summary(&renewal.steps)
    ))
}

async fn generated(world: &World) -> Told {
    let config = some_enrolled(world, "DEMO-COAPS-SKG").await?;
    let mut told = Vec::new();
    for bare in [false, true] {
        let made = generate(&config, bare).await.map_err(coded)?;
        told.push(device::cli::summary(&made.steps));
    }
    Ok(format!("{}: two keys that fit", told.join(", ")))
}
