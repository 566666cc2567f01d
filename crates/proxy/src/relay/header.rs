//! The sealed header of JPY messages.
//!
//! A registrar tells the pledges behind one proxy apart by this header, byte for byte
//! ([§4.4](https://datatracker.ietf.org/doc/html/draft-ietf-anima-constrained-join-proxy-21#section-4.4)),
//! so the same pledge has to get the same header each time: a nonce that differs from message to
//! message would make each datagram a pledge of its own. AES-GCM-SIV
//! ([RFC 8452](https://www.rfc-editor.org/rfc/rfc8452.html)) is made for that: with one nonce for
//! all, it shows whether two headers are the same and nothing else.
//!
//! ```text
//! generation (1) | sealed: form (1) listener (2) port (2) address (4, 8 or 16) | tag (16)
//! ```
//! Of a link-local IPv6 address below fe80::/64 the last 8 bytes are written: 30 bytes in all.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use aws_lc_rs::aead::{AES_128_GCM_SIV, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};

use super::{Moment, Pledge, Refusal};

/// Bytes of a key.
pub const KEY_LENGTH: usize = 16;
/// Longest header in bytes: of a pledge whose address is neither IPv4 nor below fe80::/64.
pub const HEADER_LENGTH_MAX: usize = 38;

const TAG_LENGTH: usize = 16;
const LINK_LOCAL: u8 = 0;
const IPV4: u8 = 1;
const IPV6: u8 = 2;

/// Which key sealed a header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Generation(u8);

struct Key {
    generation: u8,
    key: LessSafeKey,
}

impl Key {
    fn new(generation: u8, bytes: &[u8; KEY_LENGTH]) -> Option<Self> {
        let key = UnboundKey::new(&AES_128_GCM_SIV, bytes).ok()?;
        Some(Self {
            generation,
            key: LessSafeKey::new(key),
        })
    }
}

/// The keys of the headers: one in use, and for a while the one before. No one else has them, and
/// they are not written down.
pub struct Keys {
    current: Key,
    previous: Option<(Key, Moment)>,
    period: Moment,
    overlap: Moment,
    changes_at: Moment,
}

impl std::fmt::Debug for Keys {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Keys")
            .field("generation", &self.current.generation)
            .finish_non_exhaustive()
    }
}

impl Keys {
    /// Keys that change after each `period`; the old one is taken for `overlap` longer, by whoever
    /// began with it. `None` if the library refuses the key.
    #[must_use]
    pub fn new(
        now: Moment,
        period: Moment,
        overlap: Moment,
        key: &[u8; KEY_LENGTH],
    ) -> Option<Self> {
        Some(Self {
            current: Key::new(0, key)?,
            previous: None,
            period,
            overlap: overlap.min(period),
            changes_at: now + period,
        })
    }

    /// Whether it is time for [`change`](Self::change).
    #[must_use]
    pub fn is_due(&self, now: Moment) -> bool {
        now >= self.changes_at
    }

    /// Takes a new key into use. Says whether it did.
    pub fn change(&mut self, now: Moment, key: &[u8; KEY_LENGTH]) -> bool {
        // JPX-030: The header key is rotated rarely (24 h).
        let Some(next) = Key::new(self.current.generation.wrapping_add(1), key) else {
            return false;
        };
        let before = std::mem::replace(&mut self.current, next);
        self.previous = Some((before, now + self.overlap));
        self.changes_at = now + self.period;
        true
    }

    /// The header of a pledge. One that is under way keeps the key that it began with as long as
    /// that counts: another header would be another pledge to the registrar.
    ///
    /// # Errors
    /// [`Refusal::Header`] if the library refuses to seal, which it has no reason to.
    pub fn seal(
        &self,
        now: Moment,
        began: Option<Generation>,
        pledge: &Pledge,
    ) -> Result<(Vec<u8>, Generation), Refusal> {
        let key = match &self.previous {
            Some((key, until)) if *until > now && began == Some(Generation(key.generation)) => key,
            _ => &self.current,
        };
        let mut header = Vec::with_capacity(HEADER_LENGTH_MAX);
        header.push(key.generation);
        let [high, low] = pledge.listener.to_be_bytes();
        let [port_high, port_low] = pledge.address.port().to_be_bytes();
        let head = |form| [form, high, low, port_high, port_low];
        match pledge.address.ip() {
            IpAddr::V4(address) => {
                header.extend(head(IPV4));
                header.extend(address.octets());
            }
            IpAddr::V6(address) => match interface_identifier(address) {
                Some(identifier) => {
                    header.extend(head(LINK_LOCAL));
                    header.extend(identifier);
                }
                None => {
                    header.extend(head(IPV6));
                    header.extend(address.octets());
                }
            },
        }
        if defects::seeded!("join-proxy-shows-the-pledge") {
            return Ok((header, Generation(key.generation)));
        }
        // JPX-028: A generic stateless proxy encrypts and integrity-protects the header with a key
        // only it knows.
        let tag = header
            .get_mut(1..)
            .and_then(|plain| {
                key.key
                    .seal_in_place_separate_tag(nonce(), Aad::from([key.generation]), plain)
                    .ok()
            })
            .ok_or(Refusal::Header)?;
        header.extend(tag.as_ref());
        Ok((header, Generation(key.generation)))
    }

    /// The pledge of a header.
    ///
    /// # Errors
    /// [`Refusal::Header`] for a header that this proxy did not seal, or with a key that is gone.
    pub fn open(&self, now: Moment, header: &[u8]) -> Result<Pledge, Refusal> {
        let (generation, sealed) = header.split_first().ok_or(Refusal::Header)?;
        let key = match &self.previous {
            _ if *generation == self.current.generation => &self.current,
            Some((key, until)) if *generation == key.generation && *until > now => key,
            _ => return Err(Refusal::Header),
        };
        if defects::seeded!("join-proxy-shows-the-pledge") {
            return read(sealed).ok_or(Refusal::Header);
        }
        if sealed.len() < TAG_LENGTH || header.len() > HEADER_LENGTH_MAX {
            return Err(Refusal::Header);
        }
        let mut buffer = [0; HEADER_LENGTH_MAX];
        let space = buffer.get_mut(..sealed.len()).ok_or(Refusal::Header)?;
        space.copy_from_slice(sealed);
        // JPX-029: A header that fails decryption or integrity check is silently discarded.
        let plain = key
            .key
            .open_in_place(nonce(), Aad::from([*generation]), space)
            .map_err(|_| Refusal::Header)?;
        read(plain).ok_or(Refusal::Header)
    }
}

/// One nonce for all: see above.
fn nonce() -> Nonce {
    Nonce::assume_unique_for_key([0; NONCE_LEN])
}

/// The last 8 bytes of an address below fe80::/64.
fn interface_identifier(address: Ipv6Addr) -> Option<[u8; 8]> {
    let (prefix, identifier) = address
        .octets()
        .split_first_chunk::<8>()
        .map(|(prefix, rest)| (*prefix, <[u8; 8]>::try_from(rest)))?;
    (prefix == [0xfe, 0x80, 0, 0, 0, 0, 0, 0]).then(|| identifier.ok())?
}

fn read(plain: &[u8]) -> Option<Pledge> {
    let ([form, high, low, port_high, port_low], rest) = plain.split_first_chunk::<5>()?;
    let address = match *form {
        LINK_LOCAL => {
            let identifier: [u8; 8] = rest.try_into().ok()?;
            let mut octets = [0; 16];
            octets
                .first_chunk_mut::<2>()?
                .copy_from_slice(&[0xfe, 0x80]);
            octets.last_chunk_mut::<8>()?.copy_from_slice(&identifier);
            IpAddr::V6(Ipv6Addr::from(octets))
        }
        IPV4 => IpAddr::V4(Ipv4Addr::from(<[u8; 4]>::try_from(rest).ok()?)),
        IPV6 => IpAddr::V6(Ipv6Addr::from(<[u8; 16]>::try_from(rest).ok()?)),
        _ => return None,
    };
    let port = u16::from_be_bytes([*port_high, *port_low]);
    Some(Pledge {
        listener: u16::from_be_bytes([*high, *low]),
        address: SocketAddr::new(address, port),
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const HOUR: Moment = Moment::from_secs(3600);

    fn keys() -> Keys {
        Keys::new(Moment::ZERO, 24 * HOUR, HOUR, &[7; KEY_LENGTH]).unwrap()
    }

    fn pledge() -> Pledge {
        Pledge::new(3, "[fe80::c78:e3c4:58a0:a4ad]:45965".parse().unwrap())
    }

    /// Requirements: JPX-026, JPX-028, JPX-029
    #[test]
    fn a_header_is_the_same_each_time_and_short() {
        let keys = keys();
        let (header, _) = keys.seal(Moment::ZERO, None, &pledge()).unwrap();
        assert_eq!(header.len(), 30);
        assert_eq!(keys.seal(HOUR, None, &pledge()).unwrap().0, header);
        assert_eq!(keys.open(HOUR, &header), Ok(pledge()));
        let other = Pledge {
            listener: 4,
            ..pledge()
        };
        assert_ne!(keys.seal(HOUR, None, &other).unwrap().0, header);
        // The address does not show.
        let identifier = [0x0c, 0x78, 0xe3, 0xc4, 0x58, 0xa0, 0xa4, 0xad];
        assert!(
            !header
                .windows(4)
                .any(|window| identifier.windows(4).any(|part| part == window))
        );
        for bit in 0..header.len() * 8 {
            let mut forged = header.clone();
            forged[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(keys.open(HOUR, &forged), Err(Refusal::Header), "bit {bit}");
        }
        for length in 0..header.len() {
            assert_eq!(keys.open(HOUR, &header[..length]), Err(Refusal::Header));
        }
        let stranger = Keys::new(Moment::ZERO, HOUR, HOUR, &[8; KEY_LENGTH]).unwrap();
        assert_eq!(stranger.open(HOUR, &header), Err(Refusal::Header));
    }

    /// Requirements: JPX-030
    #[test]
    fn whoever_is_under_way_keeps_its_header_over_a_change() {
        let mut keys = keys();
        let (header, began) = keys.seal(Moment::ZERO, None, &pledge()).unwrap();
        assert!(!keys.is_due(23 * HOUR));
        assert!(keys.is_due(24 * HOUR));
        assert!(keys.change(24 * HOUR, &[9; KEY_LENGTH]));
        let now = 24 * HOUR + HOUR / 2;
        assert_eq!(keys.seal(now, Some(began), &pledge()).unwrap().0, header);
        assert_eq!(keys.open(now, &header), Ok(pledge()));
        let (newer, generation) = keys.seal(now, None, &pledge()).unwrap();
        assert_ne!(newer, header);
        // After the overlap there is one key again.
        let now = 25 * HOUR;
        assert_eq!(keys.open(now, &header), Err(Refusal::Header));
        assert_eq!(
            keys.seal(now, Some(began), &pledge()).unwrap(),
            (newer, generation)
        );
    }

    proptest! {
            #[test]
            fn every_address_comes_back(octets in any::<[u8; 16]>(), v4 in any::<[u8; 4]>(), which in 0..3, port in 1_u16.., listener: u16) {
                let ip = match which {
                    0 => IpAddr::V4(Ipv4Addr::from(v4)),
                    1 => IpAddr::V6(Ipv6Addr::from(octets)),
                    _ => {
                        let mut octets = octets;
                        octets[..8].copy_from_slice(&[0xfe, 0x80, 0, 0, 0, 0, 0, 0]);
                        IpAddr::V6(Ipv6Addr::from(octets))
                    }
                };
                let pledge = Pledge::new(listener, SocketAddr::new(ip, port));
                let keys = keys();
                let (header, _) = keys.seal(HOUR, None, &pledge).unwrap();
    let longest = if which == 1 { HEADER_LENGTH_MAX } else { 32 };
                prop_assert!(header.len() <= longest);
                prop_assert_eq!(keys.open(HOUR, &header), Ok(pledge));
            }

            #[test]
            fn nothing_else_opens(header in prop::collection::vec(any::<u8>(), 0..80)) {
                prop_assert_eq!(keys().open(HOUR, &header), Err(Refusal::Header));
            }
        }
}
