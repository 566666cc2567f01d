//! The bootstrap server as devices see it.
