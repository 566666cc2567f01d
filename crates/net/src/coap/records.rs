//! As much of a DTLS record as it takes to know whose it is.

/// Bytes of a record's header, [RFC 6347 §4.1](https://www.rfc-editor.org/rfc/rfc6347.html#section-4.1).
const RECORD_HEADER: usize = 13;
/// Bytes of the header of a handshake message.
const HANDSHAKE_HEADER: usize = 12;
const CHANGE_CIPHER_SPEC: u8 = 20;
const ALERT: u8 = 21;
const HANDSHAKE: u8 = 22;
const CLIENT_HELLO: u8 = 1;
/// The upper bits of the first byte of a record that DTLS 1.3 protects,
/// [RFC 9147 §4](https://www.rfc-editor.org/rfc/rfc9147.html#section-4).
const UNIFIED: u8 = 0b0010_0000;
const UNIFIED_MASK: u8 = 0b1110_0000;
/// The two bits of it that the epoch ends with, and what they are for handshakes.
const EPOCH_MASK: u8 = 0b11;
const EPOCH_HANDSHAKE: u8 = 2;

/// The first record of a datagram.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Record {
    /// The beginning of a handshake, with the random number of its ClientHello.
    Hello([u8; 32]),
    /// More of a handshake.
    Handshake,
    /// Something of an association that stands, or nothing that is known.
    Other,
}

pub(super) fn first(datagram: &[u8]) -> Record {
    let Some(&kind) = datagram.first() else {
        return Record::Other;
    };
    if kind & UNIFIED_MASK == UNIFIED {
        return match kind & EPOCH_MASK {
            EPOCH_HANDSHAKE => Record::Handshake,
            _ => Record::Other,
        };
    }
    let clear = datagram.get(3..5) == Some(&[0, 0]);
    match (kind, clear) {
        (HANDSHAKE, true) => hello(datagram).map_or(Record::Handshake, Record::Hello),
        (HANDSHAKE, false) | (CHANGE_CIPHER_SPEC | ALERT, true) => Record::Handshake,
        _ => Record::Other,
    }
}

fn hello(datagram: &[u8]) -> Option<[u8; 32]> {
    let message = datagram.get(RECORD_HEADER..)?;
    let body = message.get(HANDSHAKE_HEADER..)?;
    let offset = message.get(6..9)?;
    // Behind the version.
    let random = body.get(2..34)?;
    let begins = message.first() == Some(&CLIENT_HELLO) && offset == [0, 0, 0];
    begins.then(|| random.try_into().ok()).flatten()
}
