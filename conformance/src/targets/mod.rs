//! One module for each kind of implementation under test. A new one is written down in [`ROLES`].

pub mod artifact;
pub mod coaps;
pub mod est;
pub mod join_proxy;
pub mod masa;
pub mod pledge;
pub mod registrar;
pub mod sztp_device;
pub mod sztp_server;

use crate::role::Role;

/// Every role that the suite has cases for.
pub static ROLES: &[&dyn Role] = &[
    &artifact::ARTIFACT,
    &masa::MASA,
    &est::EST,
    &coaps::EST_COAPS,
    &registrar::REGISTRAR,
    &coaps::REGISTRAR_COAPS,
    &join_proxy::JOIN_PROXY,
    &pledge::PLEDGE,
    &sztp_device::SZTP_DEVICE,
    &sztp_server::SZTP_SERVER,
];
