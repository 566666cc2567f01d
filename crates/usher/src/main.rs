//! The one binary: every role, the artefact tools, and the demo.

fn main() {}
