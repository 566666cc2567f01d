//! What a device does not take, and what a server does not give.

use artifacts::{
    Encoding,
    bundle::BootstrappingData,
    conveyed::{self, ContentType, ConveyedInformation, OnboardingInformation},
    owner,
};
use device::sztp::{NonceUse, Options, Outcome};
use pki::{Identity, issue::Profile};

use super::{
    hostile::Hostile,
    paths::bootstrapped,
    world::{SztpWorld, anchors, boot, hears_of, server},
};
use crate::demo::{
    Failure, Scene, Told,
    world::{World, below, coded},
};

pub(super) fn scenes() -> Vec<Scene> {
    vec![
        Scene::new(
            "sztp-untrusted-unsigned",
            "refused: unsigned data from a server that the device does not know",
            |world| Box::pin(unsigned(world)),
        ),
        Scene::new(
            "sztp-untrusted-other-serial",
            "refused: a voucher for another device",
            |world| Box::pin(other_serial(world)),
        ),
        Scene::new(
            "sztp-untrusted-other-owner",
            "refused: an owner certificate that does not lead to what the voucher pins",
            |world| Box::pin(other_owner(world)),
        ),
        Scene::new(
            "sztp-untrusted-replay",
            "refused: a voucher with another nonce than the device's",
            |world| Box::pin(replayed_nonce(world)),
        ),
        Scene::new(
            "sztp-untrusted-expired",
            "refused: a voucher that has ended",
            |world| Box::pin(expired(world)),
        ),
        Scene::new(
            "sztp-untrusted-image-hash",
            "refused: a boot image with another hash than the one that was signed",
            |world| Box::pin(image_hash(world)),
        ),
        Scene::new(
            "sztp-trusted-rogue",
            "refused: a device that signed its own identity gets nothing",
            |world| Box::pin(rogue(world)),
        ),
    ]
}

/// The device has to have refused, and for this reason.
fn refused(outcome: &Outcome, code: &str) -> Told {
    if let Ok(told) = bootstrapped(outcome) {
        return Err(Failure::new("device.sztp", &format!("it took it: {told}")));
    }
    let document = outcome.document();
    let trace = document.get("trace").cloned().unwrap_or_default();
    let reason = find(&trace, code).ok_or_else(|| {
        let other = outcome.code().unwrap_or("unfinished");
        Failure::new("device.sztp", &format!("refused, but for {other}: {trace}"))
    })?;
    Ok(format!("{code}: {reason}"))
}

/// The text that stands beside this code somewhere in a trace.
fn find(value: &serde_json::Value, code: &str) -> Option<String> {
    match value {
        serde_json::Value::Object(members) => {
            if members.values().any(|value| value.as_str() == Some(code)) {
                let text = ["detail", "text", "reason"]
                    .iter()
                    .find_map(|name| members.get(*name)?.as_str());
                return Some(text.unwrap_or_default().to_owned());
            }
            members.values().find_map(|value| find(value, code))
        }
        serde_json::Value::Array(values) => values.iter().find_map(|value| find(value, code)),
        _ => None,
    }
}

/// What the owner would give this device, signed: the parts to put together wrongly.
fn parts(
    sztp: &SztpWorld,
    signer: &Identity,
    voucher_of: &str,
    information: &OnboardingInformation,
) -> Result<BootstrappingData, Failure> {
    let content = ConveyedInformation::Onboarding(information.clone())
        .encode(Encoding::Json)
        .map_err(coded)?;
    let signed =
        conveyed::sign(&content, Encoding::Json, ContentType::Registered, signer).map_err(coded)?;
    let voucher = sztp.vouchers.join(format!("{voucher_of}.vcj"));
    let voucher = std::fs::read(voucher).map_err(|error| Failure::new("config.file", &error))?;
    Ok(BootstrappingData {
        conveyed_information: signed,
        owner_certificate: Some(owner::encode(&signer.chain, &[]).map_err(coded)?),
        ownership_voucher: Some(voucher),
    })
}

fn information() -> OnboardingInformation {
    OnboardingInformation {
        post_configuration_script: Some(b"#!/bin/sh\necho owned\n".to_vec()),
        ..OnboardingInformation::default()
    }
}

/// Runs a device against a server that gives it this.
async fn meet(
    world: &World,
    serial: &str,
    data: BootstrappingData,
    change: impl FnOnce(&mut Options),
) -> Result<Outcome, Failure> {
    let sztp = world.sztp().await?;
    let unknown = world.unknown_ca()?;
    let tls = below(&unknown, Profile::TlsServer, "CN=Nobody", world.now())?;
    let hostile = Hostile::start(&tls.identity, data).await?;
    let mut options = sztp.device(world, serial)?;
    hears_of(&mut options, hostile.address())?;
    change(&mut options);
    let outcome = boot(options).await;
    hostile.stop().await;
    outcome
}

async fn unsigned(world: &World) -> Told {
    let content = ConveyedInformation::Onboarding(information())
        .encode(Encoding::Json)
        .map_err(coded)?;
    let data = BootstrappingData {
        conveyed_information: conveyed::unsigned(&content, Encoding::Json),
        owner_certificate: None,
        ownership_voucher: None,
    };
    let outcome = meet(world, "SZTP-UNSIGNED", data, |_| {}).await?;
    refused(&outcome, "bundle.untrusted-onboarding")
}

async fn other_serial(world: &World) -> Told {
    let sztp = world.sztp().await?;
    let data = parts(sztp, &sztp.owner, "SZTP-PIN", &information())?;
    let outcome = meet(world, "SZTP-SERIAL", data, |_| {}).await?;
    refused(&outcome, "voucher.serial-mismatch")
}

async fn other_owner(world: &World) -> Told {
    let sztp = world.sztp().await?;
    let unknown = world.unknown_ca()?;
    let thief = below(&unknown, Profile::MasaSigner, "CN=Thief", world.now())?;
    let data = parts(sztp, &thief.identity, "SZTP-PIN", &information())?;
    let outcome = meet(world, "SZTP-PIN", data, |_| {}).await?;
    refused(&outcome, "owner.not-pinned")
}

async fn replayed_nonce(world: &World) -> Told {
    let sztp = world.sztp().await?;
    let mut data = parts(sztp, &sztp.owner, "SZTP-REPLAY", &information())?;
    // A good voucher of another day: its nonce was another.
    data.ownership_voucher =
        Some(world.voucher("SZTP-REPLAY", &sztp.owner_ca, Some([7; 16]), None)?);
    let outcome = meet(world, "SZTP-REPLAY", data, |options| {
        options.nonce = NonceUse::Always;
    })
    .await?;
    refused(&outcome, "voucher.nonce-mismatch")
}

async fn expired(world: &World) -> Told {
    let sztp = world.sztp().await?;
    let mut data = parts(sztp, &sztp.owner, "SZTP-EXPIRED", &information())?;
    let yesterday = world.now() - time::Duration::DAY;
    data.ownership_voucher =
        Some(world.voucher("SZTP-EXPIRED", &sztp.owner_ca, None, Some(yesterday))?);
    let outcome = meet(world, "SZTP-EXPIRED", data, |_| {}).await?;
    refused(&outcome, "voucher.expired")
}

async fn image_hash(world: &World) -> Told {
    let serial = "SZTP-HASH";
    let sztp = world.sztp().await?;
    // The owner's signature is good; what lies at the URL is not what was signed.
    let port = sztp.address().port();
    let information = OnboardingInformation {
        boot_image: Some(conveyed::BootImage {
            os_name: Some("Demo OS".to_owned()),
            os_version: Some("2.0".to_owned()),
            download_uris: vec![format!("https://localhost:{port}/.well-known/host-meta")],
            image_verifications: vec![conveyed::ImageVerification {
                algorithm: conveyed::HashAlgorithm::Sha256,
                value: vec![0x5a; 32],
            }],
        }),
        ..OnboardingInformation::default()
    };
    let data = parts(sztp, &sztp.owner, serial, &information)?;
    let outcome = meet(world, serial, data, |options| {
        options.image_anchors = anchors(&sztp.server_ca);
    })
    .await?;
    refused(&outcome, "device.image-hash")
}

async fn rogue(world: &World) -> Told {
    let serial = "SZTP-ROGUE";
    let sztp = world.sztp().await?;
    let unknown = world.unknown_ca()?;
    let idevid = world.idevid(serial, &unknown)?;
    let mut options = sztp.device_with(world, serial, idevid)?;
    options.server_anchors = anchors(&sztp.server_ca);
    options.well_known = vec![server(sztp.address())];
    let outcome = boot(options).await?;
    let told = refused(&outcome, "sztp.refused")?;
    let lines = bootstrap::timeline::list(&sztp.store, None, None, 50)
        .await
        .map_err(coded)?;
    match lines
        .iter()
        .find(|line| line.identity.contains(serial) && line.http == 401)
    {
        Some(line) => Ok(format!("{told}; the timeline: {} {}", line.http, line.code)),
        None => Err(Failure::new(
            "device.sztp",
            &"the timeline does not show it",
        )),
    }
}
