//! The ways in which a device gets what is meant for it.

use std::ffi::OsString;

use artifacts::Encoding;
use device::{
    sources::UsbSource,
    sztp::{CsrAbility, NonceUse, Outcome, Verdict},
};
use pki::KeyKind;
use sztp::usb::Layout;

use super::world::{IMAGE, SztpWorld, VENDOR, anchors, boot, command, hears_of, server};
use crate::demo::{Failure, Scene, Told, world::World};

pub(super) fn scenes() -> Vec<Scene> {
    vec![
        Scene::new(
            "sztp-trusted-json",
            "a device gets its data from a bootstrap server that it knows",
            |world| Box::pin(trusted(world, "SZTP-TRUSTED", Encoding::Json)),
        ),
        Scene::new("sztp-trusted-xml", "the same in XML", |world| {
            Box::pin(trusted(world, "SZTP-XML", Encoding::Xml))
        }),
        Scene::new(
            "sztp-trusted-image",
            "a device gets a boot image first, reboots into it, and goes on",
            |world| Box::pin(image(world)),
        ),
        Scene::new(
            "sztp-untrusted-signed",
            "a device gets signed data from a server that it does not know",
            |world| Box::pin(untrusted(world)),
        ),
        Scene::new(
            "sztp-untrusted-encrypted",
            "the same, and nobody on the way can read it",
            |world| Box::pin(sealed(world)),
        ),
        Scene::new(
            "sztp-redirect-trust-anchor",
            "the manufacturer's server sends a device to its owner's, with the trust anchor",
            |world| Box::pin(redirect(world)),
        ),
        Scene::new(
            "sztp-dhcp-143",
            "a device finds its owner's server in a DHCP option",
            |world| Box::pin(dhcp(world)),
        ),
        Scene::new(
            "sztp-usb",
            "a device without a network gets its data from a stick",
            |world| Box::pin(usb(world)),
        ),
        Scene::new(
            "sztp-9646-p10",
            "a device asks for a certificate with its request, and gets it with its data",
            |world| Box::pin(certificate(world)),
        ),
        Scene::new(
            "sztp-untrusted-power-cut",
            "a device loses power at each write to its disk and goes on",
            |world| Box::pin(power_cuts(world)),
        ),
    ]
}

/// The device has to be bootstrapped; what it did in a line.
pub(super) fn bootstrapped(outcome: &Outcome) -> Result<String, Failure> {
    match &outcome.verdict {
        Verdict::Bootstrapped(done) => {
            let reports: Vec<_> = outcome
                .reports()
                .into_iter()
                .map(|(name, status)| match status {
                    Some(status) => format!("{name} {status}"),
                    None => name.to_owned(),
                })
                .collect();
            Ok(format!(
                "by {}{}{}{}",
                done.source,
                done.server
                    .as_deref()
                    .map(|server| format!(" from {server}"))
                    .unwrap_or_default(),
                if done.signed { ", signed" } else { "" },
                if reports.is_empty() {
                    String::new()
                } else {
                    format!(": {}", reports.join(", "))
                },
            ))
        }
        Verdict::Failed(failure) => Err(Failure::new("device.sztp", failure)),
        other => Err(Failure::new("device.sztp", &format!("{other:?}"))),
    }
}

/// The configuration has to be this device's own.
pub(super) fn configured(outcome: &Outcome, serial: &str) -> Result<String, Failure> {
    let told = bootstrapped(outcome)?;
    let configuration = outcome.configuration.clone().unwrap_or_default();
    let text = String::from_utf8_lossy(&configuration);
    if text.contains(&format!("<hostname>{serial}</hostname>")) {
        Ok(told)
    } else {
        Err(Failure::new(
            "device.sztp",
            &format!("the configuration is {text:?}"),
        ))
    }
}

/// The server has to have heard that the device is done.
async fn heard(sztp: &SztpWorld, serial: &str, told: String) -> Told {
    let rows = sztp
        .store
        .fetch_all(
            "SELECT state FROM device WHERE serial = $1",
            store::params![serial],
        )
        .await
        .map_err(crate::demo::world::coded)?;
    let state = rows
        .first()
        .map(|row| row.text("state"))
        .transpose()
        .map_err(crate::demo::world::coded)?;
    if state.as_deref() == Some("complete") {
        Ok(told)
    } else {
        Err(Failure::new(
            "device.sztp",
            &format!("{serial} is {state:?} at the server"),
        ))
    }
}

async fn trusted(world: &World, serial: &str, encoding: Encoding) -> Told {
    let sztp = world.sztp().await?;
    let mut options = sztp.device(world, serial)?;
    options.server_anchors = anchors(&sztp.server_ca);
    options.well_known = vec![server(sztp.address())];
    options.encoding = encoding;
    let told = configured(&boot(options).await?, serial)?;
    heard(sztp, serial, told).await
}

async fn image(world: &World) -> Told {
    let serial = "SZTP-IMAGE";
    let sztp = world.sztp().await?;
    let mut options = sztp.device(world, serial)?;
    options.server_anchors = anchors(&sztp.server_ca);
    options.well_known = vec![server(sztp.address())];
    let outcome = boot(options).await?;
    let told = configured(&outcome, serial)?;
    if outcome.state.os.version.as_deref() != Some("2.0") {
        return Err(Failure::new(
            "device.sztp",
            &format!("it runs {:?}", outcome.state.os),
        ));
    }
    heard(
        sztp,
        serial,
        format!("{} bytes of image, {told}", IMAGE.len()),
    )
    .await
}

async fn untrusted(world: &World) -> Told {
    let serial = "SZTP-UNTRUSTED";
    let sztp = world.sztp().await?;
    let mut options = sztp.device(world, serial)?;
    hears_of(&mut options, sztp.address())?;
    let outcome = boot(options).await?;
    let told = configured(&outcome, serial)?;
    signed(&outcome, told)
}

fn signed(outcome: &Outcome, told: String) -> Told {
    match &outcome.verdict {
        Verdict::Bootstrapped(done) if done.signed => Ok(told),
        _ => Err(Failure::new("device.sztp", &"what it took was not signed")),
    }
}

async fn sealed(world: &World) -> Told {
    let serial = "SZTP-SEALED";
    let sztp = world.sztp().await?;
    let made = world.make_device(serial)?;
    let mut options = sztp.device_with(world, serial, made.identity.clone())?;
    options.decryptor = Some(made.decryptor());
    hears_of(&mut options, sztp.address())?;
    let outcome = boot(options).await?;
    let told = configured(&outcome, serial)?;
    signed(&outcome, told)
}

async fn redirect(world: &World) -> Told {
    let serial = "SZTP-REDIRECT";
    let sztp = world.sztp().await?;
    let mut options = sztp.device(world, serial)?;
    options.well_known = vec![server(sztp.redirect_address())];
    let told = configured(&boot(options).await?, serial)?;
    heard(sztp, serial, told).await
}

async fn dhcp(world: &World) -> Told {
    let serial = "SZTP-DHCP";
    let sztp = world.sztp().await?;
    let mut options = sztp.device(world, serial)?;
    options.server_anchors = anchors(&sztp.server_ca);
    hears_of(&mut options, sztp.address())?;
    let told = configured(&boot(options).await?, serial)?;
    Ok(told)
}

async fn usb(world: &World) -> Told {
    let serial = "SZTP-USB";
    let sztp = world.sztp().await?;
    let stick = world.folder().join("stick");
    let export = [
        "bootstrap".into(),
        "usb".into(),
        "export".into(),
        "--serial".into(),
        OsString::from(serial),
        "--dir".into(),
        stick.clone().into_os_string(),
    ];
    command(&sztp.config(), export).await?;
    let mut options = sztp.device(world, serial)?;
    let layouts = vec![Layout::general(VENDOR).map_err(crate::demo::world::coded)?];
    options
        .sources
        .push(Box::new(UsbSource::new(stick, layouts, serial)));
    let outcome = boot(options).await?;
    let told = configured(&outcome, serial)?;
    signed(&outcome, told)
}

async fn certificate(world: &World) -> Told {
    let serial = "SZTP-9646";
    let sztp = world.sztp().await?;
    let mut options = sztp.device(world, serial)?;
    options.server_anchors = anchors(&sztp.server_ca);
    options.well_known = vec![server(sztp.address())];
    options.csr = Some(CsrAbility {
        keys: vec![KeyKind::EcdsaP256],
    });
    let outcome = boot(options).await?;
    let told = bootstrapped(&outcome)?;
    let configuration = outcome.configuration.clone().unwrap_or_default();
    let issued = String::from_utf8(configuration)
        .ok()
        .and_then(|text| pki::Certificate::from_pem(&text).ok())
        .ok_or_else(|| Failure::new("device.sztp", &"no certificate came"))?;
    Ok(format!(
        "{} by {}; {told}",
        issued.subject(),
        issued.issuer()
    ))
}

async fn power_cuts(world: &World) -> Told {
    const CUTS_MAX: u32 = 200;
    let serial = "SZTP-POWER";
    let sztp = world.sztp().await?;
    let idevid = world.idevid(serial, world.manufacturer())?;
    for cut in 0..CUTS_MAX {
        let mut options = sztp.device_with(world, serial, idevid.clone())?;
        hears_of(&mut options, sztp.address())?;
        options.nonce = NonceUse::Never;
        // Each start gets one write further than the one before.
        options.power_cut_at_write = Some(cut);
        let outcome = boot(options).await?;
        match &outcome.verdict {
            Verdict::Unfinished { .. } => {}
            _ => {
                configured(&outcome, serial)?;
                return Ok(format!("bootstrapped after {cut} power cuts"));
            }
        }
    }
    Err(Failure::new(
        "device.sztp",
        &format!("not done after {CUTS_MAX} power cuts"),
    ))
}
