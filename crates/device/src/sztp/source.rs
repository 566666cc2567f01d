//! Where a device looks for bootstrapping data.

use std::{future::Future, pin::Pin};

use sztp::agent::Finding;

/// What [`Source::next`] gives back.
pub type Next<'a> = Pin<Box<dyn Future<Output = Result<Option<Finding>, SourceError>> + Send + 'a>>;

/// A source of bootstrapping data
/// ([RFC 8572 §4](https://www.rfc-editor.org/rfc/rfc8572.html#section-4)) other than a bootstrap
/// server: removable storage, DNS, DHCP.
///
/// A source may hold several findings. The device tries what it is given before it asks for more,
/// so a source that has an order of its own (multicast DNS before unicast, records for this very
/// device before those for all) does the later look-ups only when they are asked for.
pub trait Source: Send {
    /// The source's name in the trace: `usb`, `dns`, `dhcp`.
    fn name(&self) -> &str;

    /// Looks for the next finding of this round; `None` when there is no more.
    ///
    /// An error is noted in the trace, and the source is asked again: one look-up that failed does
    /// not hide the next one. It must not give errors without end.
    fn next(&mut self) -> Next<'_>;

    /// A new round begins: start from the first finding again, and look anew.
    fn rewind(&mut self);
}

/// Why a source could not be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{reason} ({code})")]
pub struct SourceError {
    /// The stable dotted code.
    pub code: String,
    /// Why, in words.
    pub reason: String,
}

impl SourceError {
    /// An error with its code.
    pub fn new(code: impl Into<String>, reason: impl Into<String>) -> Self {
        Self {
            code: code.into(),
            reason: reason.into(),
        }
    }
}
