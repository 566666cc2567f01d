//! `usher-load`: what a MASA and a registrar can do, measured over real sockets.

fn main() {}
