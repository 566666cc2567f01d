//! Seeded defects: places where a test build misbehaves on demand.
//!
//! A conformance suite that has never seen a wrong implementation proves nothing. So the product's
//! own code says, at each dangerous requirement, how it would be broken:
//!
//! ```
//! # let (nonce, other) = (1, 1);
//! if nonce == other || defects::seeded!("pledge-skips-nonce") {
//!     // …
//! }
//! ```
//!
//! With several names the macro says whether any of them is active; two calls joined by `||` would
//! be `false || false` to the compiler, and its lints say so.
//!
//! Without the feature `on` the macro is the word `false`, so that neither the name nor a branch is
//! left in what is compiled. The program `usher-defective` has the feature; there the environment
//! variable `USHER_DEFECT` names the one defect that is active. `docs/conformance.md` says how to add
//! one.

/// Whether defects can be switched on in this build. Cargo gives a package the features that all
/// packages of a build ask for together, so a program that is meant for use asserts when it is
/// compiled that it is not.
pub const CAN_BE_ON: bool = cfg!(feature = "on");

/// Whether a defect with one of these names is active: never, without the feature `on`.
#[cfg(not(feature = "on"))]
#[macro_export]
macro_rules! seeded {
    ($($name:literal),+ $(,)?) => {
        false
    };
}

/// Whether a defect with one of these names is active: whether `USHER_DEFECT` names it.
#[cfg(feature = "on")]
#[macro_export]
macro_rules! seeded {
    ($($name:literal),+ $(,)?) => {
        $crate::active(&[$($name),+])
    };
}

/// Whether `USHER_DEFECT` named one of these defects when it was first asked for.
#[cfg(feature = "on")]
#[must_use]
pub fn active(names: &[&str]) -> bool {
    static ACTIVE: std::sync::OnceLock<Option<String>> = std::sync::OnceLock::new();
    let active = ACTIVE.get_or_init(|| std::env::var("USHER_DEFECT").ok());
    active.as_deref().is_some_and(|name| names.contains(&name))
}
