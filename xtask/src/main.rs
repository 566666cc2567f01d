//! What CI runs, as commands.

fn main() {}
