//! The registrar: BRSKI and EST towards devices, the MASA client, policy, and the CA behind it.

pub mod ca;
pub mod est;
pub mod schema;
