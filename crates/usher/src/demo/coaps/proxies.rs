//! A device reaches the registrar through a join proxy, in each of the three ways.

use ::coap::{Request, format};
use ::device::{brski::Outcome, coaps::join_ports};
use net::coap::CoapClient;
use proxy::{Mode, Running, Way};

use super::paths::enrol;
use crate::demo::{
    Failure, Scene, Told,
    device::{self, enrolled},
    world::{World, coded},
};

pub(super) fn scenes() -> Vec<Scene> {
    vec![
        Scene::new(
            "brski-cose-coaps-stateless",
            "a device enrols through a stateless join proxy, which it asks for its port",
            |world| Box::pin(constrained(world, Mode::Stateless, Way::Stateless)),
        ),
        Scene::new(
            "brski-cose-coaps-stateful",
            "a device enrols through a stateful join proxy",
            |world| Box::pin(constrained(world, Mode::Stateful, Way::Stateful)),
        ),
        Scene::new(
            "brski-cms-http-circuit",
            "a device enrols over HTTPS through a circuit proxy",
            |world| Box::pin(circuit(world)),
        ),
    ]
}

/// A join proxy on loopback that knows the registrar of the demo.
async fn start(world: &World, mode: Mode) -> Result<Running, Failure> {
    let text = format!(
        "[pledges]\naddresses = [\"127.0.0.1\"]\n\
         [registrar]\njpy = [\"{}\"]\ncoaps = [\"{}\"]\nhttps = [\"{}\"]\n\
         [discovery]\ncoap_port = 0\n",
        world.jpy_address()?,
        world.coaps_address()?,
        world.registrar_address(),
    );
    let mut config = proxy::Config::parse(&text).map_err(coded)?;
    config.registrar.mode = mode;
    proxy::serve(config).await.map_err(coded)
}

async fn constrained(world: &World, mode: Mode, way: Way) -> Told {
    let serial = format!("DEMO-COAPS-{}", way.name().to_uppercase());
    world.ship(&serial, None).await?;
    let proxy = start(world, mode).await?;
    let told = through(world, &proxy, &serial, way).await;
    proxy.stop().await;
    told
}

async fn through(world: &World, proxy: &Running, serial: &str, way: Way) -> Told {
    let asked = proxy
        .discovery_addresses()
        .first()
        .copied()
        .ok_or_else(|| Failure::new("proxy.usage", &"nobody answers pledges"))?;
    let client = CoapClient::open(asked, coap::Config::default())
        .await
        .map_err(coded)?;
    let question = Request {
        query: vec!["brski-jp=*".to_owned()],
        accept: Some(format::LINK_FORMAT),
        ..Request::get(".well-known/core")
    };
    let answer = client.request(question).await.map_err(coded)?;
    client.close().await;
    let ports = join_ports(&answer.payload);
    let join = proxy.addresses(way).first().copied();
    let join = join
        .filter(|join| ports.contains(&join.port()))
        .ok_or_else(|| Failure::new("proxy.usage", &format!("it offers ports {ports:?}")))?;
    let mut config = world.coaps_device(serial)?;
    config.small = true;
    config.device.address = Some(join);
    let outcome: Outcome = enrol(&config).await?;
    Ok(format!("{}, by port {}", enrolled(&outcome)?, join.port()))
}

async fn circuit(world: &World) -> Told {
    let serial = "DEMO-CIRCUIT";
    world.ship(serial, None).await?;
    let proxy = start(world, Mode::Auto).await?;
    let told = async {
        let mut config = world.device(serial)?;
        let join = proxy.addresses(Way::Circuit).first().copied();
        config.address =
            Some(join.ok_or_else(|| Failure::new("proxy.usage", &"there is no circuit"))?);
        enrolled(&device::enrol(&config).await?)
    }
    .await;
    proxy.stop().await;
    told
}
