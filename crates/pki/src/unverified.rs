//! The type of everything that a peer claims.

/// A parsed value that nobody has vouched for yet.
///
/// It becomes a `T` only in a verification method. The parser wraps it with
/// [`Unverified::new`]; the verifier takes it out with [`Unverified::into_verified`], whose
/// argument is the evidence: a verified signer or a validated path.
#[derive(Clone)]
pub struct Unverified<T>(T);

impl<T> Unverified<T> {
    /// Wraps what a parser read from a peer.
    pub const fn new(value: T) -> Self {
        Self(value)
    }

    /// Looks at the value without believing it: for inspection, logs and timelines, and to find
    /// out whom to ask. Never base a decision in the peer's favour on it.
    pub const fn dangerous_peek(&self) -> &T {
        &self.0
    }

    /// Transforms the value, which stays unverified.
    pub fn map<U>(self, f: impl FnOnce(T) -> U) -> Unverified<U> {
        Unverified(f(self.0))
    }

    /// Takes the value out. Call it only in a verification method, after the checks.
    pub fn into_verified<E: Evidence + ?Sized>(self, _evidence: &E) -> T {
        self.0
    }
}

/// What turns [`Unverified`] into a plain value: proof that a check was made and passed.
pub trait Evidence {}

impl Evidence for crate::VerifiedSigner {}

/// Shows that something is there, not what it says.
impl<T> std::fmt::Debug for Unverified<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Unverified(..)")
    }
}
