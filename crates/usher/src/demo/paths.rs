//! The happy paths: a device goes all the way, over each envelope and each HTTP version.

use artifacts::Envelope;
use brski::pledge::ProximityForm;
use device::brski::renew;
use net::HttpVersion;
use pki::Coded as _;

use super::{
    Failure, Scene, Told,
    device::{enrol, enrolled},
    world::World,
};

const VERSIONS: [(HttpVersion, &str); 3] = [
    (HttpVersion::Http1, "http1.1"),
    (HttpVersion::Http2, "http2"),
    (HttpVersion::Http3, "http3"),
];

pub(crate) fn scenes() -> Vec<Scene> {
    let mut scenes = Vec::new();
    for envelope in Envelope::ALL {
        for (http, short) in VERSIONS {
            let format = envelope.name();
            let id = format!("brski-{format}-{short}");
            let proximity = proximity(envelope, http);
            let pinned = match proximity {
                ProximityForm::Certificate => "",
                ProximityForm::PublicKey => ", the registrar's key pinned",
                ProximityForm::PublicKeySha256 => ", the hash of the registrar's key pinned",
            };
            let title = format!(
                "a device enrols and renews: {} vouchers over {}{pinned}",
                format.to_uppercase(),
                short.replace("http", "HTTP/")
            );
            let serial = format!("DEMO-{}-{short}", format.to_uppercase());
            scenes.push(Scene::new(id, title, move |world| {
                let serial = serial.clone();
                Box::pin(async move { whole_way(world, &serial, envelope, http, proximity).await })
            }));
        }
    }
    scenes
}

/// Each HTTP version pins in another way where the device speaks COSE.
fn proximity(envelope: Envelope, http: HttpVersion) -> ProximityForm {
    match (envelope, http) {
        (Envelope::Cose, HttpVersion::Http2) => ProximityForm::PublicKey,
        (Envelope::Cose, HttpVersion::Http3) => ProximityForm::PublicKeySha256,
        _ => ProximityForm::Certificate,
    }
}

/// Provisional TLS, voucher, CA certificates, CSR attributes, enrolment, telemetry, re-enrolment.
async fn whole_way(
    world: &World,
    serial: &str,
    envelope: Envelope,
    http: HttpVersion,
    proximity: ProximityForm,
) -> Told {
    world.ship(serial, None).await?;
    let mut config = world.device(serial)?;
    config.envelope = envelope;
    config.http = http;
    config.proximity = proximity;
    if envelope == Envelope::Cose {
        config.masa_anchors = world.voucher_signer().clone().into();
    }
    let outcome = enrol(&config).await?;
    let told = enrolled(&outcome)?;
    let renewal = renew(&config)
        .await
        .map_err(|error| Failure::new(error.code(), &error))?;
    let Some(renewed) = &renewal.identity else {
        let text = renewal
            .refusal
            .map(|(status, text)| format!("{status} {text}"));
        return Err(Failure::new("pledge.refused", &text.unwrap_or_default()));
    };
    let new = renewed
        .certificate()
        .map(|certificate| certificate.public_key().sha256());
    if new == Some(renewal.previous.public_key().sha256()) {
        return Err(Failure::new(
            "pledge.refused",
            &"the renewed certificate has the old key",
        ));
    }
    Ok(format!("{told}; renewed with a new key"))
}
