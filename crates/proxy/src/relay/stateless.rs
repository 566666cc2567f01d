//! The stateless proxy: what a pledge sends goes out with a header, and what comes back says in
//! its header to whom.

use coap::jpy::Jpy;

use super::{Generation, Keys, Moment, Pledge, Refusal};

/// Wraps a pledge's datagram for the registrar.
///
/// # Errors
/// As [`Keys::seal`].
pub fn wrap(
    keys: &Keys,
    now: Moment,
    began: Option<Generation>,
    pledge: &Pledge,
    datagram: &[u8],
) -> Result<(Vec<u8>, Generation), Refusal> {
    let (header, generation) = keys.seal(now, began, pledge)?;
    let message = Jpy {
        header: &header,
        content: if defects::seeded!("join-proxy-cuts-off") {
            datagram.get(..1000).unwrap_or(datagram)
        } else {
            datagram
        },
    };
    let mut message = message.encode();
    if defects::seeded!("join-proxy-sends-a-map")
        && let Some(first) = message.first_mut()
    {
        *first = 0xa1;
    }
    Ok((message, generation))
}

/// Unwraps what a registrar sent: the pledge, and its datagram.
///
/// # Errors
/// [`Refusal::NotJpy`], and as [`Keys::open`]. The message is dropped without a word.
pub fn unwrap<'a>(
    keys: &Keys,
    now: Moment,
    message: &'a [u8],
) -> Result<(Pledge, &'a [u8]), Refusal> {
    let jpy = Jpy::decode(message).map_err(|_| Refusal::NotJpy)?;
    let pledge = keys.open(now, jpy.header)?;
    if jpy.content.is_empty() {
        return Err(Refusal::Empty);
    }
    Ok((pledge, jpy.content))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::relay::KEY_LENGTH;

    /// Requirements: JPX-009, JPX-022, JPX-025, JPX-029, JPX-033, JPX-034
    #[test]
    fn what_comes_back_with_the_header_goes_to_the_pledge() {
        let day = Moment::from_secs(86_400);
        let keys = Keys::new(Moment::ZERO, day, day, &[1; KEY_LENGTH]).unwrap();
        let pledge = Pledge::new(9, "[fe80::1]:5000".parse().unwrap());
        let hello = [0x16, 0xfe, 0xfd, 0, 0];
        let (message, _) = wrap(&keys, day / 2, None, &pledge, &hello).unwrap();
        // An array of two byte strings of 30 and 5 bytes, and nothing around it.
        assert_eq!(message[..3], [0x82, 0x58, 30]);
        assert_eq!(message[33..], [0x45, 0x16, 0xfe, 0xfd, 0, 0]);
        assert!(message.len() - hello.len() <= 38);
        let header = message[3..33].to_vec();
        let answer = |content: &[u8]| {
            Jpy {
                header: &header,
                content,
            }
            .encode()
        };
        assert_eq!(
            unwrap(&keys, day / 2, &answer(b"verify")),
            Ok((pledge, b"verify".as_slice()))
        );
        let mut longer = answer(b"verify");
        longer[0] = 0x83;
        longer.push(0xf6);
        assert!(unwrap(&keys, day / 2, &longer).is_ok());
        let mut forged = answer(b"verify");
        forged[10] ^= 1;
        let refused = [
            (forged, Refusal::Header),
            (answer(b""), Refusal::Empty),
            (vec![0x81, 0x41, 0], Refusal::NotJpy),
            (vec![0x80], Refusal::NotJpy),
            (b"GET / HTTP/1.1".to_vec(), Refusal::NotJpy),
            (Vec::new(), Refusal::NotJpy),
        ];
        for (message, refusal) in refused {
            assert_eq!(
                unwrap(&keys, day / 2, &message),
                Err(refusal),
                "{message:x?}"
            );
        }
    }
}
