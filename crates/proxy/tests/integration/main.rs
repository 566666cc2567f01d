//! The proxy over real sockets.

mod attacks;
mod hosts;
mod network;
