//! The bootstrap server as devices and operators see it.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod content_change;
mod content_serve;
mod content_world;
mod core_auth;
mod core_csr;
mod core_curl;
mod core_data;
mod core_engines;
mod core_hostile;
mod core_progress;
mod core_restconf;
mod events;
mod handover;
mod harness;
mod owner_archive;
mod owner_commands;
mod owner_devices;
mod owner_live;
mod owner_rows;
mod owner_vouchers;
mod profiles;
mod simulators;
