//! What dimpl is given to compute with: aws-lc-rs, and three things that its interface has no
//! other place for.
//!
//! - The cookie of a HelloRetryRequest. dimpl binds it to the client's random under a secret of the
//!   association, which would have to be kept from the first ClientHello on. Ours is bound to the
//!   peer and to the whole ClientHello and can be made anew; dimpl asks for it by an HMAC.
//! - The peer's certificate chain. dimpl shows the leaf only. All certificates go through the
//!   transcript's hash, and are taken from there.
//! - A bound on encrypted handshake messages. dimpl keeps whatever it cannot use yet, up to thirty
//!   datagrams of any size for each association. They are looked at between decryption and dimpl.
//!
//! All pass by variables of the thread, for the time of one call into dimpl.

use std::cell::{Cell, RefCell};
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use dimpl::crypto::{
    Aad, Buf, Cipher, CryptoProvider, Dtls13CipherSuite, HashAlgorithm, HashContext, HashProvider,
    HmacProvider, Nonce, SupportedDtls13CipherSuite, TmpBuf, aws_lc_rs,
};
use dimpl::{Config, ConfigBuilder, CryptoError, CryptoOperation};

use super::record::{HANDSHAKE, handshake_is_sound};
use super::{Error, Suite};

const CERTIFICATE: u8 = 11;

/// Chains in DER, leaf first.
pub(super) type Chains = Vec<Vec<Vec<u8>>>;

thread_local! {
    static COOKIE: Cell<Option<[u8; 32]>> = const { Cell::new(None) };
    static CHAINS: RefCell<Option<Chains>> = const { RefCell::new(None) };
    static MESSAGE_BYTES_MAX: Cell<usize> = const { Cell::new(usize::MAX) };
    static HANDSHAKE_BYTES: Cell<usize> = const { Cell::new(0) };
}

#[cfg(test)]
thread_local! {
    /// What a hostile peer calls its records.
    pub(super) static DISGUISE: Cell<Option<u8>> = const { Cell::new(None) };
    /// Whether dimpl panics when something authentic comes.
    pub(super) static FAILS: Cell<bool> = const { Cell::new(false) };
}

/// What passed by in one call into dimpl.
pub(super) struct Noted {
    /// The chains that went through the transcript.
    pub(super) chains: Chains,
    /// Bytes of handshake messages that were encrypted, and authentic.
    pub(super) handshake_bytes: usize,
}

/// dimpl's configuration. It tests its cryptography once for each.
pub(super) fn config(
    suites: &[Suite],
    mtu: usize,
    handshake_time: Duration,
) -> Result<Arc<Config>, Error> {
    builder(suites, mtu, handshake_time)
        .build()
        .map(Arc::new)
        .map_err(|error| Error::Config(error.to_string()))
}

pub(super) fn builder(suites: &[Suite], mtu: usize, handshake_time: Duration) -> ConfigBuilder {
    let suites: Vec<Dtls13CipherSuite> = suites
        .iter()
        .map(|suite| Dtls13CipherSuite::from_u16(suite.number()))
        .collect();
    let provider = CryptoProvider {
        hash_provider: &HASHES,
        hmac_provider: &HMACS,
        dtls13_cipher_suites: &SUITES,
        ..aws_lc_rs::default_provider()
    };
    Config::builder()
        .with_crypto_provider(provider)
        .dtls13_cipher_suites(&suites)
        .mtu(mtu)
        .flight_retries(12)
        .handshake_timeout(handshake_time)
}

/// Calls dimpl with a cookie that it takes for its own.
pub(super) fn with_cookie<T>(cookie: [u8; 32], call: impl FnOnce() -> T) -> T {
    COOKIE.set(Some(cookie));
    let result = call();
    COOKIE.set(None);
    result
}

/// Calls dimpl, and gives what passed by meanwhile. Encrypted records with a handshake message of
/// more than these bytes are as if they were not authentic: dropped without a word.
pub(super) fn noting<T>(message_bytes_max: usize, call: impl FnOnce() -> T) -> (T, Noted) {
    CHAINS.set(Some(Vec::new()));
    MESSAGE_BYTES_MAX.set(message_bytes_max);
    HANDSHAKE_BYTES.set(0);
    let result = call();
    MESSAGE_BYTES_MAX.set(usize::MAX);
    let noted = Noted {
        chains: CHAINS.take().unwrap_or_default(),
        handshake_bytes: HANDSHAKE_BYTES.take(),
    };
    (result, noted)
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

static WATCHED: LazyLock<Vec<WatchedSuite>> = LazyLock::new(|| {
    let real = aws_lc_rs::default_provider().dtls13_cipher_suites;
    real.iter().copied().map(WatchedSuite).collect()
});

static SUITES: LazyLock<Vec<&'static dyn SupportedDtls13CipherSuite>> = LazyLock::new(|| {
    let watched = WATCHED.iter();
    watched
        .map(|suite| suite as &dyn SupportedDtls13CipherSuite)
        .collect()
});

/// A suite whose ciphers are [`WatchedCipher`]s.
#[derive(Debug)]
struct WatchedSuite(&'static dyn SupportedDtls13CipherSuite);

impl SupportedDtls13CipherSuite for WatchedSuite {
    fn suite(&self) -> Dtls13CipherSuite {
        self.0.suite()
    }

    fn hash_algorithm(&self) -> HashAlgorithm {
        self.0.hash_algorithm()
    }

    fn key_len(&self) -> usize {
        self.0.key_len()
    }

    fn iv_len(&self) -> usize {
        self.0.iv_len()
    }

    fn tag_len(&self) -> usize {
        self.0.tag_len()
    }

    fn min_protected_fragment_len(&self) -> usize {
        self.0.min_protected_fragment_len()
    }

    fn create_cipher(&self, key: &[u8]) -> Result<Box<dyn Cipher>, CryptoError> {
        Ok(Box::new(WatchedCipher(self.0.create_cipher(key)?)))
    }

    fn encrypt_sn(&self, sn_key: &[u8], sample: &[u8; 16]) -> [u8; 16] {
        self.0.encrypt_sn(sn_key, sample)
    }
}

#[derive(Debug)]
struct WatchedCipher(Box<dyn Cipher>);

impl Cipher for WatchedCipher {
    fn encrypt(&mut self, plaintext: &mut Buf, aad: Aad, nonce: Nonce) -> Result<(), CryptoError> {
        #[cfg(test)]
        if let (Some(kind), Some(last)) = (DISGUISE.get(), plaintext.last_mut()) {
            *last = kind;
        }
        self.0.encrypt(plaintext, aad, nonce)
    }

    fn decrypt(
        &mut self,
        ciphertext: &mut TmpBuf<'_>,
        aad: Aad,
        nonce: Nonce,
    ) -> Result<(), CryptoError> {
        self.0.decrypt(ciphertext, aad, nonce)?;
        #[cfg(test)]
        assert!(!FAILS.get(), "as a test wants it");
        // RFC 9147 section 4: the content, its type, and zeros.
        let plaintext: &[u8] = (*ciphertext).as_ref();
        let end = plaintext.iter().rposition(|byte| *byte != 0);
        let split = end.and_then(|end| plaintext.get(..=end)?.split_last());
        if let Some((&HANDSHAKE, messages)) = split {
            HANDSHAKE_BYTES.set(HANDSHAKE_BYTES.get().saturating_add(messages.len()));
            // DTL-015, DTL-016: encrypted messages have the same bound as those in the clear.
            if !handshake_is_sound(messages, MESSAGE_BYTES_MAX.get()) {
                return Err(CryptoError::OperationFailed(CryptoOperation::Decrypt));
            }
        }
        Ok(())
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
