//! The records of DTLS 1.2 after the handshake.
//!
//! OpenSSL's object of an association takes up 80 to 90 KB, most of it buffers for handshakes that
//! are over. So once the handshake is done its keys are taken over and the object is dropped. What
//! stays are two keys, two numbers and a window, and with them the number of records that failed
//! authentication, which OpenSSL would not tell.

use aws_lc_rs::hmac;
use openssl::cipher::{Cipher, CipherRef};
use openssl::cipher_ctx::CipherCtx;
use openssl::error::ErrorStack;
use openssl::ssl::SslRef;
use zeroize::Zeroizing;

use super::record::{HANDSHAKE, Record, SEQUENCE_MAX, Window};
use super::{Error, Suite};

const DTLS_1_2: [u8; 2] = [0xFE, 0xFD];
const EPOCH: u16 = 1;
const EXPLICIT_NONCE_LENGTH: usize = 8;
const NONCE_LENGTH: usize = 12;

/// The longest plaintext of a record.
pub(super) const PLAINTEXT_MAX: usize = 1 << 14;

/// How a suite protects records.
#[derive(Clone, Copy)]
struct Method {
    cipher: &'static CipherRef,
    key_length: usize,
    tag_length: usize,
    /// CCM wants to know lengths beforehand.
    is_ccm: bool,
    /// Part of the nonce stands in the record, and the other part is secret.
    has_explicit_nonce: bool,
    /// Of the pseudorandom function.
    hash: hmac::Algorithm,
}

impl Method {
    fn of(suite: Suite) -> Option<Self> {
        let gcm = Self {
            cipher: Cipher::aes_128_gcm(),
            key_length: 16,
            tag_length: 16,
            is_ccm: false,
            has_explicit_nonce: true,
            hash: hmac::HMAC_SHA256,
        };
        let ccm = Self {
            cipher: Cipher::aes_128_ccm(),
            is_ccm: true,
            ..gcm
        };
        Some(match suite {
            Suite::EcdheEcdsaAes128Gcm | Suite::EcdheRsaAes128Gcm => gcm,
            Suite::EcdheEcdsaAes256Gcm => Self {
                cipher: Cipher::aes_256_gcm(),
                key_length: 32,
                hash: hmac::HMAC_SHA384,
                ..gcm
            },
            Suite::EcdheEcdsaChacha20Poly1305 => Self {
                cipher: Cipher::chacha20_poly1305(),
                key_length: 32,
                has_explicit_nonce: false,
                ..gcm
            },
            Suite::EcdheEcdsaAes128Ccm => ccm,
            Suite::EcdheEcdsaAes128Ccm8 => Self {
                tag_length: 8,
                ..ccm
            },
            Suite::Aes128Gcm | Suite::Aes256Gcm | Suite::Chacha20Poly1305 => return None,
        })
    }

    fn salt_length(self) -> usize {
        if self.has_explicit_nonce {
            NONCE_LENGTH - EXPLICIT_NONCE_LENGTH
        } else {
            NONCE_LENGTH
        }
    }
}

/// The keys of one direction.
struct Keys {
    key: Zeroizing<Vec<u8>>,
    salt: Zeroizing<Vec<u8>>,
}

impl Keys {
    /// The nonce for what stands in the record, or for its number where nothing does.
    fn nonce(&self, explicit: &[u8; 8]) -> [u8; NONCE_LENGTH] {
        let mut nonce = [0; NONCE_LENGTH];
        for (to, from) in nonce.iter_mut().zip(self.salt.iter()) {
            *to = *from;
        }
        let tail = nonce.iter_mut().skip(NONCE_LENGTH - EXPLICIT_NONCE_LENGTH);
        // With a salt of the nonce's length this is exclusive or, with a shorter one it is put
        // behind it.
        for (to, from) in tail.zip(explicit) {
            *to ^= *from;
        }
        nonce
    }
}

/// Both directions of an association after its handshake.
pub(super) struct Protected {
    method: Method,
    ours: Keys,
    theirs: Keys,
    /// The number of the next record.
    next: u64,
    window: Window,
}

/// What became of a record.
pub(super) enum Opened {
    /// It is the peer's.
    Plaintext(Vec<u8>),
    /// It was seen before.
    Repeated,
    /// It failed authentication.
    Forged,
}

impl Protected {
    /// Takes the keys of a finished handshake. `next` is a number that OpenSSL has not used.
    pub(super) fn take_over(ssl: &SslRef, suite: Suite, next: u64) -> Result<Self, Error> {
        let failed = || Error::Library("the keys of the handshake cannot be had".to_owned());
        let method = Method::of(suite).ok_or_else(failed)?;
        let session = ssl.session().ok_or_else(failed)?;
        let mut master = Zeroizing::new([0; 48]);
        if session.master_key(master.as_mut_slice()) != master.len() {
            return Err(failed());
        }
        let (mut client, mut server) = ([0; 32], [0; 32]);
        if ssl.client_random(&mut client) != 32 || ssl.server_random(&mut server) != 32 {
            return Err(failed());
        }
        let lengths = 2 * (method.key_length + method.salt_length());
        // RFC 5246 section 6.3; suites with authenticated encryption have no MAC keys.
        let seed = [b"key expansion".as_slice(), &server, &client].concat();
        let block = Zeroizing::new(expand(method.hash, master.as_slice(), &seed, lengths));
        let mut rest = block.as_slice();
        let mut take = |length| {
            let (taken, after) = rest.split_at_checked(length).unwrap_or_default();
            rest = after;
            Zeroizing::new(taken.to_vec())
        };
        let [client_key, server_key] = [(); 2].map(|()| take(method.key_length));
        let [client_salt, server_salt] = [(); 2].map(|()| take(method.salt_length()));
        let client = Keys {
            key: client_key,
            salt: client_salt,
        };
        let server = Keys {
            key: server_key,
            salt: server_salt,
        };
        let (ours, theirs) = if ssl.is_server() {
            (server, client)
        } else {
            (client, server)
        };
        Ok(Self {
            method,
            ours,
            theirs,
            next,
            window: Window::default(),
        })
    }

    /// The record around a plaintext; `None` when all numbers are used up.
    pub(super) fn seal(
        &mut self,
        content_type: u8,
        plaintext: &[u8],
    ) -> Result<Option<Vec<u8>>, ErrorStack> {
        if self.next > SEQUENCE_MAX {
            return Ok(None);
        }
        let sequence = self.next;
        self.next += 1;
        let number = number(sequence);
        let mut body = Vec::with_capacity(plaintext.len() + 24);
        if self.method.has_explicit_nonce {
            body.extend_from_slice(&number);
        }
        let nonce = self.ours.nonce(&number);
        let data = associated_data(&number, content_type, plaintext.len());
        encrypt(
            &self.method,
            &self.ours.key,
            &nonce,
            &data,
            plaintext,
            &mut body,
        )?;
        let record = Record {
            content_type,
            epoch: EPOCH,
            sequence,
            version: DTLS_1_2,
            body: &body,
        };
        Ok(Some(record.with_sequence(sequence)))
    }

    /// What is in a record of the peer.
    pub(super) fn open(&mut self, record: &Record<'_>) -> Opened {
        // DTL-010: a number counts once.
        if self.window.has(record.sequence) && !defects::seeded!("dtls-forgets-records") {
            return Opened::Repeated;
        }
        match decrypt(&self.method, &self.theirs, record) {
            Some(plaintext) => {
                self.window.insert(record.sequence);
                Opened::Plaintext(plaintext)
            }
            None => Opened::Forged,
        }
    }

    /// What is in a record of our own: the Finished message that OpenSSL made.
    pub(super) fn open_own(&self, record: &Record<'_>) -> Option<Vec<u8>> {
        if record.content_type != HANDSHAKE {
            return None;
        }
        decrypt(&self.method, &self.ours, record)
    }
}

/// Epoch and number, as they stand in the header.
fn number(sequence: u64) -> [u8; 8] {
    (u64::from(EPOCH) << 48 | sequence).to_be_bytes()
}

fn associated_data(number: &[u8; 8], content_type: u8, length: usize) -> [u8; 13] {
    let [n0, n1, n2, n3, n4, n5, n6, n7] = *number;
    let [major, minor] = DTLS_1_2;
    let [l0, l1] = u16::try_from(length).unwrap_or(u16::MAX).to_be_bytes();
    [
        n0,
        n1,
        n2,
        n3,
        n4,
        n5,
        n6,
        n7,
        content_type,
        major,
        minor,
        l0,
        l1,
    ]
}

/// Appends ciphertext and tag.
fn encrypt(
    method: &Method,
    key: &[u8],
    nonce: &[u8; NONCE_LENGTH],
    data: &[u8],
    plaintext: &[u8],
    out: &mut Vec<u8>,
) -> Result<(), ErrorStack> {
    let mut context = CipherCtx::new()?;
    context.encrypt_init(Some(method.cipher), None, None)?;
    context.set_iv_length(NONCE_LENGTH)?;
    if method.is_ccm {
        context.set_tag_length(method.tag_length)?;
    }
    context.encrypt_init(None, Some(key), Some(nonce))?;
    if method.is_ccm {
        context.set_data_len(plaintext.len())?;
    }
    context.cipher_update(data, None)?;
    context.cipher_update_vec(plaintext, out)?;
    context.cipher_final_vec(out)?;
    let mut tag = vec![0; method.tag_length];
    context.tag(&mut tag)?;
    out.extend_from_slice(&tag);
    Ok(())
}

fn decrypt(method: &Method, keys: &Keys, record: &Record<'_>) -> Option<Vec<u8>> {
    let number = number(record.sequence);
    let (explicit, sealed) = if method.has_explicit_nonce {
        record.body.split_first_chunk::<EXPLICIT_NONCE_LENGTH>()?
    } else {
        (&number, record.body)
    };
    let length = sealed.len().checked_sub(method.tag_length)?;
    // OpenSSL checks no tag of CCM where there is no text; nobody sends such records.
    let is_empty = length == 0 && method.is_ccm;
    if length > PLAINTEXT_MAX || is_empty || record.version != DTLS_1_2 {
        return None;
    }
    let (ciphertext, tag) = sealed.split_at_checked(length)?;
    let data = associated_data(&number, record.content_type, length);
    let nonce = keys.nonce(explicit);
    let open = || -> Result<Vec<u8>, ErrorStack> {
        let mut context = CipherCtx::new()?;
        context.decrypt_init(Some(method.cipher), None, None)?;
        context.set_iv_length(NONCE_LENGTH)?;
        if method.is_ccm {
            context.set_tag(tag)?;
        }
        context.decrypt_init(None, Some(&keys.key), Some(&nonce))?;
        if method.is_ccm {
            context.set_data_len(length)?;
        } else {
            context.set_tag(tag)?;
        }
        context.cipher_update(&data, None)?;
        let mut plaintext = Vec::with_capacity(length + 16);
        context.cipher_update_vec(ciphertext, &mut plaintext)?;
        if !method.is_ccm {
            context.cipher_final_vec(&mut plaintext)?;
        }
        Ok(plaintext)
    };
    open().ok()
}

/// `P_hash` of [RFC 5246 §5](https://www.rfc-editor.org/rfc/rfc5246.html#section-5).
fn expand(algorithm: hmac::Algorithm, secret: &[u8], seed: &[u8], length: usize) -> Vec<u8> {
    let key = hmac::Key::new(algorithm, secret);
    let mut out = Vec::with_capacity(length + 64);
    let mut a = hmac::sign(&key, seed);
    while out.len() < length {
        let mut context = hmac::Context::with_key(&key);
        context.update(a.as_ref());
        context.update(seed);
        out.extend_from_slice(context.sign().as_ref());
        a = hmac::sign(&key, a.as_ref());
    }
    out.truncate(length);
    out
}
