//! Devices with little memory and bad radio: constrained BRSKI and EST over CoAP and DTLS, directly
//! and through join proxies, over a link that loses datagrams, and against whoever pretends.

mod paths;
mod proxies;
mod refusals;
mod relay;

use super::Scene;

pub(crate) fn scenes() -> Vec<Scene> {
    let mut scenes = paths::scenes();
    scenes.extend(proxies::scenes());
    scenes.extend(refusals::scenes());
    scenes
}
