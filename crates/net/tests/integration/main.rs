//! Listener and client over real sockets on loopback.

mod client;
mod limits;
mod matrix;
mod outside;
mod support;
mod token;
mod trust;
