//! The registrar over real sockets, with a scripted MASA.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod bad_input;
mod ca_keys;
mod coap;
mod coap_clients;
mod coap_deployed;
mod coap_vouchers;
mod commands;
mod cose;
mod engines;
mod enrolment;
mod enrolment_bad_input;
mod est_tools;
mod est_upstream;
mod est_upstream_trust;
mod harness;
mod onboarding;
mod policies;
mod real_masa;
mod refusals;
mod withdrawal;
