//! The reference pledge.
