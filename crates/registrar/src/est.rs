//! The EST routes.
