//! The type of everything that a peer claims.

/// A parsed value that nobody has vouched for yet.
///
/// The parser wraps what it read with [`Unverified::new`]. There is no way to take the value out:
/// a verification method looks at it and answers with another type, which says what was proven.
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
}

/// Shows that something is there, not what it says.
impl<T> std::fmt::Debug for Unverified<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Unverified(..)")
    }
}
