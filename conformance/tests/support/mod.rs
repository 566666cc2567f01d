//! What the suite's two test programs share.

pub(crate) mod bench;
pub(crate) mod harness;
