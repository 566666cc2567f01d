//! Records as they stand in a datagram, before and after OpenSSL.

pub(super) const HEADER_LENGTH: usize = 13;

pub(super) const CHANGE_CIPHER_SPEC: u8 = 20;
pub(super) const ALERT: u8 = 21;
pub(super) const HANDSHAKE: u8 = 22;
pub(super) const APPLICATION_DATA: u8 = 23;

/// Record numbers have 48 bits.
pub(super) const SEQUENCE_MAX: u64 = (1 << 48) - 1;

/// One record of DTLS 1.2.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Record<'a> {
    pub(super) content_type: u8,
    pub(super) epoch: u16,
    pub(super) sequence: u64,
    pub(super) version: [u8; 2],
    pub(super) body: &'a [u8],
}

impl Record<'_> {
    /// The record on the wire, with another number.
    pub(super) fn with_sequence(&self, sequence: u64) -> Vec<u8> {
        let mut wire = Vec::with_capacity(HEADER_LENGTH + self.body.len());
        self.append_with_sequence(sequence, &mut wire);
        wire
    }

    pub(super) fn append_with_sequence(&self, sequence: u64, wire: &mut Vec<u8>) {
        wire.push(self.content_type);
        wire.extend_from_slice(&self.version);
        wire.extend_from_slice(&self.epoch.to_be_bytes());
        // Record numbers have 48 bits: the two highest bytes are nought.
        wire.extend(sequence.to_be_bytes().into_iter().skip(2));
        let length = u16::try_from(self.body.len()).unwrap_or(u16::MAX);
        wire.extend_from_slice(&length.to_be_bytes());
        wire.extend_from_slice(self.body);
    }
}

/// The records of a datagram, up to the first that is none.
pub(super) struct Records<'a>(pub(super) &'a [u8]);

impl<'a> Iterator for Records<'a> {
    type Item = Record<'a>;

    fn next(&mut self) -> Option<Record<'a>> {
        let (header, rest) = self.0.split_first_chunk::<HEADER_LENGTH>()?;
        let [
            content_type,
            major,
            minor,
            e0,
            e1,
            s0,
            s1,
            s2,
            s3,
            s4,
            s5,
            l0,
            l1,
        ] = *header;
        let length = usize::from(u16::from_be_bytes([l0, l1]));
        let body = rest.get(..length)?;
        self.0 = rest.get(length..)?;
        Some(Record {
            content_type,
            epoch: u16::from_be_bytes([e0, e1]),
            sequence: u64::from_be_bytes([0, 0, s0, s1, s2, s3, s4, s5]),
            version: [major, minor],
            body,
        })
    }
}

/// The header of a handshake message's fragment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Fragment {
    pub(super) message_type: u8,
    pub(super) length: usize,
    pub(super) message_sequence: u16,
    pub(super) offset: usize,
    pub(super) fragment_length: usize,
}

pub(super) const FRAGMENT_HEADER_LENGTH: usize = 12;

impl Fragment {
    /// The header and what follows it.
    pub(super) fn parse(body: &[u8]) -> Option<(Self, &[u8])> {
        let (header, rest) = body.split_first_chunk::<FRAGMENT_HEADER_LENGTH>()?;
        let [message_type, l0, l1, l2, s0, s1, o0, o1, o2, f0, f1, f2] = *header;
        let number =
            |a: u8, b: u8, c: u8| usize::from(a) << 16 | usize::from(b) << 8 | usize::from(c);
        let fragment = Self {
            message_type,
            length: number(l0, l1, l2),
            message_sequence: u16::from_be_bytes([s0, s1]),
            offset: number(o0, o1, o2),
            fragment_length: number(f0, f1, f2),
        };
        Some((fragment, rest))
    }
}

/// The fragments of one handshake record that is not encrypted fit their record, and no message is
/// larger than the limit.
pub(super) fn handshake_is_sound(mut body: &[u8], message_bytes_max: usize) -> bool {
    while !body.is_empty() {
        let Some((fragment, rest)) = Fragment::parse(body) else {
            return false;
        };
        // DTL-015, DTL-016: a fragment lies within its message, and the message is bounded before
        // anything is allocated for it.
        if fragment.length > message_bytes_max
            || fragment.offset + fragment.fragment_length > fragment.length
        {
            return false;
        }
        let Some(rest) = rest.get(fragment.fragment_length..) else {
            return false;
        };
        body = rest;
    }
    true
}

/// Which numbers of protected records were seen, so that a record that the network delivered twice
/// is not counted as a forged one.
#[derive(Clone, Debug, Default)]
pub(super) struct Window {
    highest: u64,
    seen: u64,
}

impl Window {
    /// Seen before, or too old to tell.
    pub(super) fn has(&self, sequence: u64) -> bool {
        if sequence > self.highest {
            return false;
        }
        let age = self.highest - sequence;
        age >= 64 || self.seen >> age & 1 == 1
    }

    pub(super) fn insert(&mut self, sequence: u64) {
        if sequence > self.highest {
            let step = sequence - self.highest;
            self.seen = if step >= 64 { 0 } else { self.seen << step };
            self.highest = sequence;
        }
        let age = self.highest - sequence;
        if age < 64 {
            self.seen |= 1 << age;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_counts_once() {
        let mut window = Window::default();
        for number in [0, 1, 5, 3, 70, 69, 200] {
            assert!(!window.has(number), "{number}");
            window.insert(number);
            assert!(window.has(number), "{number}");
        }
        assert!(!window.has(199));
        assert!(window.has(136), "too old to tell");
        assert!(!window.has(137));
        assert!(!window.has(SEQUENCE_MAX));
        window.insert(SEQUENCE_MAX);
        assert!(window.has(200));
    }

    #[test]
    fn records_come_out_as_they_went_in() {
        let record = Record {
            content_type: HANDSHAKE,
            epoch: 1,
            sequence: 0x0102_0304_0506,
            version: [0xFE, 0xFD],
            body: b"body",
        };
        let mut wire = record.with_sequence(record.sequence);
        wire.extend(record.with_sequence(SEQUENCE_MAX));
        wire.extend_from_slice(&[22, 0xFE, 0xFD, 0, 0]);
        let last = Record {
            sequence: SEQUENCE_MAX,
            ..record
        };
        assert_eq!(Records(&wire).collect::<Vec<_>>(), [record, last]);
    }
}
