//! One module for each kind of implementation under test. A new one is written down in [`ROLES`].

pub mod artifact;
pub mod est;
pub mod masa;
pub mod pledge;
pub mod registrar;

use crate::role::Role;

/// Every role that the suite has cases for.
pub static ROLES: &[&dyn Role] = &[
    &artifact::ARTIFACT,
    &masa::MASA,
    &est::EST,
    &registrar::REGISTRAR,
    &pledge::PLEDGE,
];
