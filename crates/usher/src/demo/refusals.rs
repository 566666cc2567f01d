//! The refusals that make the happy path safe, and the ways that lead round an obstacle.

use std::{ffi::OsString, sync::Arc};

use artifacts::{Envelope, RequestFields, SerialNumber, VoucherRequest, sign_request};
use brski::pledge::Clock;
use bytes::Bytes;
use device::brski::Verdict;
use http::{HeaderMap, HeaderValue, Method, header};
use net::client::{ClientConfig, Connection, ServerTrust, Target};
use pki::{
    Identity, KeyKind, SoftwareKey,
    path::{Anchors, PathOptions, Purpose},
};
use time::macros::datetime;

use super::{
    Failure, Scene, Told,
    device::{enrol, enrolled, refused, steps},
    world::{OTHER_NETWORK, OUR_NETWORK, World, coded, usher},
};

pub(crate) fn scenes() -> Vec<Scene> {
    vec![
        Scene::new(
            "brski-cms-clockless",
            "a device that believes it is 1970 enrols",
            |world| Box::pin(clockless(world)),
        ),
        Scene::new(
            "brski-cms-power-cut",
            "a device loses power before each step and goes on",
            |world| Box::pin(power_cuts(world)),
        ),
        Scene::new(
            "brski-cms-approve",
            "a device waits until a human says yes",
            |world| Box::pin(approve(world)),
        ),
        Scene::new(
            "brski-cms-rogue",
            "refused: a device that signed its own identity",
            |world| Box::pin(rogue(world)),
        ),
        Scene::new(
            "brski-cms-clone",
            "refused: a second device with the serial number of another",
            |world| Box::pin(clone(world)),
        ),
        Scene::new(
            "brski-cms-replay",
            "refused: an old voucher request, sent once more",
            |world| Box::pin(replay(world)),
        ),
        Scene::new(
            "brski-cms-stolen-registrar",
            "refused: somebody who has the registrar's certificate and not its key",
            |world| Box::pin(stolen_registrar(world)),
        ),
        Scene::new(
            "brski-cms-sold-elsewhere",
            "refused: a device that was sold to another network",
            |world| Box::pin(sold_elsewhere(world)),
        ),
        // The MASA goes away here, so this one stays the last.
        Scene::new(
            "brski-cms-offline",
            "a device enrols by a voucher from a file while no MASA can be reached",
            |world| Box::pin(offline(world)),
        ),
    ]
}

async fn clockless(world: &World) -> Told {
    let serial = "DEMO-1970";
    world.ship(serial, None).await?;
    let mut config = world.device(serial)?;
    config.clock = Clock::Untrusted;
    config.starts_at = datetime!(1970-01-01 00:00:17 UTC);
    enrolled(&enrol(&config).await?)
}

/// The power goes before the first step, at the next start before the second, and so on; each
/// start goes on from what is on the disk.
async fn power_cuts(world: &World) -> Told {
    const CUTS_MAX: usize = 40;
    let serial = "DEMO-POWER";
    world.ship(serial, None).await?;
    let mut config = world.device(serial)?;
    for cut in 0..CUTS_MAX {
        // Every start gets two steps far before it loses power, and so makes progress.
        config.power_cut_before = Some(2);
        let outcome = enrol(&config).await?;
        match &outcome.verdict {
            Verdict::Unfinished { .. } => {}
            Verdict::Enrolled(_) => {
                enrolled(&outcome)?;
                return Ok(format!("enrolled after {cut} power cuts"));
            }
            Verdict::Refused(_) => return enrolled(&outcome),
        }
    }
    // What two steps cannot do in one start, because a connection does not survive a power cut,
    // the last start does.
    config.power_cut_before = None;
    let outcome = enrol(&config).await?;
    enrolled(&outcome)?;
    Ok(format!(
        "enrolled after {CUTS_MAX} power cuts: {}",
        steps(&outcome)
    ))
}

/// The device asks, is told to wait, and asks again with the same bytes; meanwhile the operator runs
/// the command that an operator runs.
async fn approve(world: &World) -> Told {
    let serial = "DEMO-ASK-1";
    world.ship(serial, None).await?;
    let config = world.device(serial)?;
    let (outcome, said) = tokio::join!(enrol(&config), say_yes(world, serial));
    said?;
    let outcome = outcome?;
    let told = enrolled(&outcome)?;
    if outcome.steps.iter().any(|step| step.status == Some(202)) {
        Ok(told)
    } else {
        Err(Failure::new(
            "registrar.internal",
            &format!("it did not have to wait: {told}"),
        ))
    }
}

async fn say_yes(world: &World, serial: &str) -> Result<(), Failure> {
    const TRIES_MAX: u32 = 100;
    let approve = [
        "registrar",
        "device",
        "approve",
        serial,
        "--json",
        "--config",
    ];
    let mut approve: Vec<OsString> = approve.map(OsString::from).into();
    approve.push(world.registrar_config().into());
    for _ in 0..TRIES_MAX {
        if usher(&approve).await.is_ok() {
            return Ok(());
        }
        // The device has not asked yet.
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
    Err(Failure::new(
        "registrar.internal",
        &"the device never came up for approval",
    ))
}

async fn rogue(world: &World) -> Told {
    let serial = "DEMO-ROGUE";
    world.ship(serial, None).await?;
    let unknown = world.unknown_ca()?;
    let idevid = world.idevid(serial, &unknown)?;
    let outcome = enrol(&world.device_with(serial, idevid)?).await?;
    refused(&outcome, "registrar.manufacturer-unknown")
}

async fn clone(world: &World) -> Told {
    let serial = "DEMO-CLONE";
    world.ship(serial, None).await?;
    let first = world.device(serial)?;
    enrolled(&enrol(&first).await?)?;
    // Issued by the real factory once more, to another key.
    let mut second = world.device(serial)?;
    second.state_folder = None;
    refused(&enrol(&second).await?, "clone-suspected")
}

async fn replay(world: &World) -> Told {
    let serial = "DEMO-REPLAY";
    world.ship(serial, None).await?;
    let mut config = world.device(serial)?;
    let outcome = enrol(&config).await?;
    enrolled(&outcome)?;
    config.replay = outcome.voucher_request;
    config.state_folder = None;
    refused(&enrol(&config).await?, "registrar.request-replayed")
}

async fn stolen_registrar(world: &World) -> Told {
    let serial = "DEMO-STOLEN";
    world.ship(serial, Some(OUR_NETWORK)).await?;
    let thief = SoftwareKey::generate(KeyKind::EcdsaP256).map_err(coded)?;
    let stolen = Identity {
        chain: vec![world.registrar_certificate().clone()],
        signer: Arc::new(thief),
    };
    let number = SerialNumber::new(serial)
        .ok_or_else(|| Failure::new("voucher.bad-serial-number", &serial))?;
    let mut fields = RequestFields::new(number);
    fields.created_on = Some(world.now());
    let request = VoucherRequest::new(fields).map_err(coded)?;
    let body = sign_request(&request, Envelope::Cms, &stolen, Some(world.now())).map_err(coded)?;
    let (status, text) = post_to_masa(world, Envelope::Cms, body).await?;
    if (400..500).contains(&status) && text.contains("masa.request-signature") {
        Ok(format!("requestvoucher {status}: {}", text.trim()))
    } else {
        Err(Failure::new(
            "masa.internal",
            &format!("the MASA said {status}: {text}"),
        ))
    }
}

async fn sold_elsewhere(world: &World) -> Told {
    let serial = "DEMO-SOLD";
    world.ship(serial, Some(OTHER_NETWORK)).await?;
    let told = refused(
        &enrol(&world.device(serial)?).await?,
        "registrar.masa-refused",
    )?;
    // The device is not told why; the manufacturer's timeline is.
    let code = "masa.not-the-owner";
    let events = world.masa_timeline(serial).await?;
    match events.iter().find(|event| event.code == code) {
        Some(event) => Ok(format!(
            "{told}; the MASA's timeline: {} {code}",
            event.http
        )),
        None => Err(Failure::new(
            "masa.internal",
            &format!("the timeline has no {code}"),
        )),
    }
}

/// The manufacturer issues a nonceless voucher as a file, the operator loads it, the MASA goes away,
/// and the device comes.
async fn offline(world: &World) -> Told {
    let serial = "DEMO-OFFLINE";
    world.ship(serial, Some(OUR_NETWORK)).await?;
    let folder = world.folder().join("vouchers");
    let list = world.folder().join("serials.txt");
    let ours = |error: std::io::Error| Failure::new("config.file", &error);
    std::fs::write(&list, format!("{serial}\n")).map_err(ours)?;
    let issue = [
        "masa",
        "voucher",
        "issue",
        "--owner",
        OUR_NETWORK,
        "--json",
        "--serials",
    ];
    let mut issue: Vec<OsString> = issue.map(OsString::from).into();
    issue.extend([list.into(), "--out".into(), folder.clone().into()]);
    issue.extend(["--config".into(), world.masa_config().into()]);
    usher(&issue).await?;
    let load = ["registrar", "voucher", "import", "--json"];
    let mut load: Vec<OsString> = load.map(OsString::from).into();
    load.extend([
        folder.into(),
        "--config".into(),
        world.registrar_config().into(),
    ]);
    usher(&load).await?;
    world.masa_goes_away().await?;
    enrolled(&enrol(&world.device(serial)?).await?)
}

async fn post_to_masa(
    world: &World,
    envelope: Envelope,
    body: Vec<u8>,
) -> Result<(u16, String), Failure> {
    let anchors: Anchors = std::iter::once(world.masa_anchor().clone()).collect();
    let trust = ServerTrust::anchors(anchors, PathOptions::new(Purpose::Server, world.now()));
    let config = ClientConfig {
        trust,
        ..ClientConfig::default()
    };
    let target = Target::from_address(world.masa_address());
    let mut connection = Connection::open(&target, &config).await.map_err(coded)?;
    let mut headers = HeaderMap::new();
    let media_type = HeaderValue::from_static(envelope.media_type());
    headers.insert(header::CONTENT_TYPE, media_type.clone());
    headers.insert(header::ACCEPT, media_type);
    let path = "/.well-known/brski/requestvoucher";
    let answer = connection
        .request(Method::POST, path, headers, Bytes::from(body))
        .await
        .map_err(coded)?;
    let text = String::from_utf8_lossy(&answer.body).into_owned();
    connection.close().await;
    Ok((answer.status.as_u16(), text))
}
