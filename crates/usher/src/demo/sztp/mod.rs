//! Devices far away: RFC 8572 and 9646, from the owner's own server, over a redirect, from a stick,
//! and against whoever pretends.

mod hostile;
mod paths;
mod refusals;
mod world;

use super::Scene;

pub(crate) use world::SztpWorld;

pub(crate) fn scenes() -> Vec<Scene> {
    let mut scenes = paths::scenes();
    scenes.extend(refusals::scenes());
    scenes
}
