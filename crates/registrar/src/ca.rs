//! The certification authority behind the registrar.
