//! What dimpl is given to compute with: aws-lc-rs, and two things that its interface has no other
//! place for.
//!
//! - The cookie of a HelloRetryRequest. dimpl binds it to the client's random under a secret of the
//!   association, which would have to be kept from the first ClientHello on. Ours is bound to the
//!   peer and to the whole ClientHello and can be made anew; dimpl asks for it by an HMAC.
//! - The peer's certificate chain. dimpl shows the leaf only. All certificates go through the
//!   transcript's hash, and are taken from there.
//!
//! Both pass by a variable of the thread, for the time of one call into dimpl.

use std::cell::{Cell, RefCell};
use std::sync::Arc;
use std::time::Duration;

use dimpl::crypto::{
    Buf, CryptoProvider, Dtls13CipherSuite, HashAlgorithm, HashContext, HashProvider, HmacProvider,
    aws_lc_rs,
};
use dimpl::{Config, CryptoError};

use super::{Error, Suite};

const CERTIFICATE: u8 = 11;

/// Chains in DER, leaf first.
pub(super) type Chains = Vec<Vec<Vec<u8>>>;

thread_local! {
    static COOKIE: Cell<Option<[u8; 32]>> = const { Cell::new(None) };
    static CHAINS: RefCell<Option<Chains>> = const { RefCell::new(None) };
}

/// dimpl's configuration. It tests its cryptography once for each.
pub(super) fn config(
    suites: &[Suite],
    mtu: usize,
    handshake_time: Duration,
) -> Result<Arc<Config>, Error> {
    let suites: Vec<Dtls13CipherSuite> = suites
        .iter()
        .map(|suite| Dtls13CipherSuite::from_u16(suite.number()))
        .collect();
    let provider = CryptoProvider {
        hash_provider: &HASHES,
        hmac_provider: &HMACS,
        ..aws_lc_rs::default_provider()
    };
    Config::builder()
        .with_crypto_provider(provider)
        .dtls13_cipher_suites(&suites)
        .mtu(mtu)
        .flight_retries(12)
        .handshake_timeout(handshake_time)
        .build()
        .map(Arc::new)
        .map_err(|error| Error::Config(error.to_string()))
}

/// Calls dimpl with a cookie that it takes for its own.
pub(super) fn with_cookie<T>(cookie: [u8; 32], call: impl FnOnce() -> T) -> T {
    COOKIE.set(Some(cookie));
    let result = call();
    COOKIE.set(None);
    result
}

/// Calls dimpl, and gives the chains that went through the transcript meanwhile.
pub(super) fn with_chains<T>(call: impl FnOnce() -> T) -> (T, Chains) {
    CHAINS.set(Some(Vec::new()));
    let result = call();
    (result, CHAINS.take().unwrap_or_default())
}

#[derive(Debug)]
struct Hmacs;

static HMACS: Hmacs = Hmacs;

impl HmacProvider for Hmacs {
    /// In DTLS 1.3 dimpl computes the cookie by this and nothing else.
    fn hmac_sha256(&self, key: &[u8], data: &[u8]) -> Result<[u8; 32], CryptoError> {
        if let Some(cookie) = COOKIE.get() {
            return Ok(cookie);
        }
        let mut mac = [0; 32];
        self.hmac(HashAlgorithm::SHA256, key, data, &mut mac)?;
        Ok(mac)
    }

    fn hmac(
        &self,
        hash: HashAlgorithm,
        key: &[u8],
        data: &[u8],
        out: &mut [u8],
    ) -> Result<usize, CryptoError> {
        let real = aws_lc_rs::default_provider().hmac_provider;
        real.hmac(hash, key, data, out)
    }
}

#[derive(Debug)]
struct Hashes;

static HASHES: Hashes = Hashes;

impl HashProvider for Hashes {
    fn create_hash(&self, algorithm: HashAlgorithm) -> Box<dyn HashContext> {
        let real = aws_lc_rs::default_provider().hash_provider;
        Box::new(Watched(real.create_hash(algorithm)))
    }
}

#[derive(Debug)]
struct Watched(Box<dyn HashContext>);

impl HashContext for Watched {
    fn update(&mut self, data: &[u8]) {
        CHAINS.with_borrow_mut(|chains| {
            if let Some(chains) = chains {
                note_chains(data, chains);
            }
        });
        self.0.update(data);
    }

    fn clone_and_finalize(&self, out: &mut Buf) {
        self.0.clone_and_finalize(out);
    }
}

/// Reads a transcript: type, length of three bytes, message.
fn note_chains(mut transcript: &[u8], chains: &mut Chains) {
    while let Some((&[kind, a, b, c], rest)) = transcript.split_first_chunk() {
        let length = u32::from_be_bytes([0, a, b, c]) as usize;
        let Some((message, rest)) = rest.split_at_checked(length) else {
            return;
        };
        transcript = rest;
        if kind != CERTIFICATE {
            continue;
        }
        if let Some(chain) = read_chain(message)
            && !chain.is_empty()
            && !chains.contains(&chain)
        {
            chains.push(chain);
        }
    }
}

/// The certificates of a Certificate message of TLS 1.3.
fn read_chain(message: &[u8]) -> Option<Vec<Vec<u8>>> {
    let (context, rest) = message.split_first()?;
    let rest = rest.get(usize::from(*context)..)?;
    let (&[a, b, c], mut list) = rest.split_first_chunk()?;
    if list.len() != u32::from_be_bytes([0, a, b, c]) as usize {
        return None;
    }
    let mut chain = Vec::new();
    while !list.is_empty() {
        let (&[a, b, c], rest) = list.split_first_chunk()?;
        let (certificate, rest) =
            rest.split_at_checked(u32::from_be_bytes([0, a, b, c]) as usize)?;
        let (&extensions, rest) = rest.split_first_chunk()?;
        list = rest.get(usize::from(u16::from_be_bytes(extensions))..)?;
        chain.push(certificate.to_vec());
    }
    Some(chain)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(kind: u8, body: &[u8]) -> Vec<u8> {
        let length = u8::try_from(body.len()).expect("short");
        [&[kind, 0, 0, length], body].concat()
    }

    #[test]
    fn chains_are_read_from_a_transcript() {
        let server = [0, 0, 0, 6, 0, 0, 1, 7, 0, 0];
        let client = [1, 9, 0, 0, 14, 0, 0, 2, 1, 2, 0, 0, 0, 0, 1, 3, 0, 1, 5];
        let transcript = [
            message(254, &[0; 32]),
            message(2, &[1; 40]),
            message(CERTIFICATE, &server),
            message(15, &[2; 70]),
            message(CERTIFICATE, &client),
        ]
        .concat();
        let (mut chains, wanted) = (Vec::new(), [vec![vec![7]], vec![vec![1, 2], vec![3]]]);
        // dimpl hashes the transcript again with each message.
        note_chains(&transcript, &mut chains);
        note_chains(&transcript, &mut chains);
        assert_eq!(chains, wanted);
        for length in 0..transcript.len() {
            note_chains(&transcript[..length], &mut Vec::new());
        }
        for broken in [&client[1..], &client[..18], &[0, 0, 0, 1, 0], &[0]] {
            assert_eq!(read_chain(broken), None);
        }
        assert_eq!(read_chain(&[0, 0, 0, 0]), Some(Vec::new()));
    }
}
