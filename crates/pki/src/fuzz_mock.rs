//! What a fuzz build takes on trust.
//!
//! A fuzzer cannot find a valid signature, so without this everything behind the first signature
//! check would never run under it. `cfg(fuzzing)` is set by `cargo xtask fuzz` and nowhere else;
//! `cargo xtask tidy` keeps it out of every other file of the product, and a build without debug
//! assertions, as anybody would ship it, does not compile with it.

#![expect(
    unexpected_cfgs,
    reason = "declaring it in Cargo.toml would invite other uses"
)]

#[cfg(all(fuzzing, not(debug_assertions)))]
compile_error!("cfg(fuzzing) takes forged signatures for valid ones: it is for `cargo xtask fuzz`");

/// Whether this signature or digest is taken for right without a look: in a fuzz build, unless its
/// last three bits are all 1, so that a fuzzer reaches both sides of each check, and mostly the
/// farther one: a request is under six signatures and digests. In any other build never.
pub(crate) fn taken_on_trust(value: &[u8]) -> bool {
    cfg!(fuzzing) && value.last().is_some_and(|last| last & 7 != 7)
}

#[cfg(test)]
mod tests {
    use super::taken_on_trust;

    #[test]
    fn nothing_is_taken_on_trust_outside_of_a_fuzz_build() {
        for last in 0..=u8::MAX {
            assert!(!taken_on_trust(&[0x30, last]));
        }
    }
}
