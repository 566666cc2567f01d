//! The proxy over real sockets.

mod hosts;
mod network;
