//! Text from peers, cut and cleaned before it is kept.

/// The beginning of a peer's explanation: at most `chars_max` characters, no control characters,
/// nothing that is not UTF-8.
pub(crate) fn excerpt(bytes: &[u8], chars_max: usize) -> String {
    // A character has at most four bytes, so the rest of the body need not be looked at.
    let bytes = bytes.get(..chars_max.saturating_mul(4)).unwrap_or(bytes);
    String::from_utf8_lossy(bytes)
        .chars()
        .take(chars_max)
        .map(|c| if c.is_control() { ' ' } else { c })
        .collect::<String>()
        .trim()
        .to_owned()
}
