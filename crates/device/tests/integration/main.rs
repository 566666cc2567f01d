//! The device against a registrar and a MASA behind real sockets. The two are the state machines
//! of the protocol crate's own tests, so that nothing of the services is needed here.

#![expect(clippy::unwrap_used, reason = "the helpers of a test may fail it")]

#[expect(dead_code, reason = "the simulation can do more than is needed here")]
#[path = "../../../brski/tests/integration/sim.rs"]
mod sim;
#[expect(dead_code, reason = "and so can its PKI")]
#[path = "../../../brski/tests/integration/world.rs"]
mod world;

#[expect(dead_code, reason = "the agent's own tests make more of it")]
#[path = "../../../sztp/tests/integration/agent/world.rs"]
mod sztp_world;

mod coaps;
mod command;
mod enrol;
mod power;
mod real_dhcp;
mod real_dns;
mod server;
mod sources;
mod strangers;
mod sztp;
