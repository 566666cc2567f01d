//! The built binary, run as a stranger would run it.

mod tools;
