//! Signed notes and checkpoints (C2SP signed-note and tlog-checkpoint, version 1).
//!
//! ```text
//! masa.example/audit            origin
//! 42                            tree size
//! CsUYapGGPo4dkMgIAUqom/Xaj…=   root hash
//!
//! — masa.example/audit Az3grl…  key name, base64(key id || Ed25519 signature)
//! ```

use aws_lc_rs::digest;
use aws_lc_rs::signature::{ED25519, UnparsedPublicKey};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use pki::{SignatureAlgorithm, Signer};

use super::Error;
use super::merkle::Hash;

/// Longest note that is read; 16 signatures of any kind fit.
const NOTE_SIZE_MAX_BYTES: usize = 128 * 1024;
/// Most signature lines that are looked at.
const SIGNATURES_MAX: usize = 64;
/// Signature type of plain Ed25519 notes.
const TYPE_ED25519: u8 = 0x01;
/// SubjectPublicKeyInfo of an Ed25519 key up to its 32 octets (RFC 8410).
const SPKI_PREFIX: [u8; 12] = [
    0x30, 0x2a, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x03, 0x21, 0x00,
];

/// A public key that signs notes, under its name: `name+hash+base64(type || key)`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NoteKey {
    name: String,
    id: [u8; 4],
    key: [u8; 32],
}

fn key_id(name: &str, key: &[u8; 32]) -> [u8; 4] {
    let mut input = name.as_bytes().to_vec();
    input.extend_from_slice(&[b'\n', TYPE_ED25519]);
    input.extend_from_slice(key);
    let hash = digest::digest(&digest::SHA256, &input);
    let mut id = [0; 4];
    id.iter_mut()
        .zip(hash.as_ref())
        .for_each(|(to, from)| *to = *from);
    id
}

fn is_key_name(name: &str) -> bool {
    !name.is_empty() && !name.contains(|c: char| c.is_whitespace() || c == '+' || c.is_control())
}

impl NoteKey {
    /// The key of a signer, which must be Ed25519, under this name.
    ///
    /// # Errors
    /// When the key is not Ed25519 or the name has spaces, `+` or control characters.
    pub fn of(name: &str, signer: &dyn Signer) -> Result<Self, Error> {
        if signer.algorithm() != SignatureAlgorithm::Ed25519 {
            return Err(Error::Key(
                "the audit log is signed with Ed25519 only".to_owned(),
            ));
        }
        let spki = signer.public_key().spki_der();
        let key = spki
            .strip_prefix(&SPKI_PREFIX)
            .and_then(|key| <[u8; 32]>::try_from(key).ok())
            .ok_or_else(|| Error::Key("not an Ed25519 SubjectPublicKeyInfo".to_owned()))?;
        if !is_key_name(name) {
            return Err(Error::Key(format!("{name:?} cannot name a note key")));
        }
        Ok(Self {
            name: name.to_owned(),
            id: key_id(name, &key),
            key,
        })
    }

    /// Reads `name+hash+base64(type || key)`.
    ///
    /// # Errors
    /// When the text has another form, another key type, or its hash does not fit.
    pub fn parse(text: &str) -> Result<Self, Error> {
        let bad = || Error::Key("not a note verifier key (name+hash+base64)".to_owned());
        let mut parts = text.trim().splitn(3, '+');
        let (Some(name), Some(hash), Some(key)) = (parts.next(), parts.next(), parts.next()) else {
            return Err(bad());
        };
        let key = STANDARD.decode(key).map_err(|_| bad())?;
        let key = match key.split_first() {
            Some((&TYPE_ED25519, key)) => <[u8; 32]>::try_from(key).map_err(|_| bad())?,
            _ => return Err(bad()),
        };
        let id = key_id(name, &key);
        if !is_key_name(name) || !hex::encode(id).eq_ignore_ascii_case(hash) {
            return Err(bad());
        }
        Ok(Self {
            name: name.to_owned(),
            id,
            key,
        })
    }

    /// The name; a log's key is named by its origin.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    fn verifies(&self, text: &str, signature: &[u8]) -> bool {
        UnparsedPublicKey::new(&ED25519, &self.key)
            .verify(text.as_bytes(), signature)
            .is_ok()
    }
}

impl std::fmt::Display for NoteKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut key = vec![TYPE_ED25519];
        key.extend_from_slice(&self.key);
        write!(
            f,
            "{}+{}+{}",
            self.name,
            hex::encode(self.id),
            STANDARD.encode(key)
        )
    }
}

/// A tree head: origin, size and root.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Checkpoint {
    /// Identity of the log.
    pub origin: String,
    /// Number of leaves.
    pub size: u64,
    /// Root of the tree at that size.
    pub root: Hash,
}

impl Checkpoint {
    fn text(&self) -> String {
        format!(
            "{}\n{}\n{}\n",
            self.origin,
            self.size,
            STANDARD.encode(self.root)
        )
    }

    /// Signs the checkpoint as a note.
    ///
    /// # Errors
    /// When the signer fails or is not Ed25519.
    pub fn sign(&self, signer: &dyn Signer) -> Result<String, Error> {
        let key = NoteKey::of(&self.origin, signer)?;
        let text = self.text();
        let signature = signer
            .sign(text.as_bytes())
            .map_err(|error| Error::Key(error.to_string()))?;
        let mut line = key.id.to_vec();
        line.extend_from_slice(&signature);
        Ok(format!(
            "{text}\n\u{2014} {} {}\n",
            key.name,
            STANDARD.encode(line)
        ))
    }

    /// Reads a signed checkpoint; it is trusted only if this key signed it.
    ///
    /// # Errors
    /// When the note is malformed, not signed by the key, or of another origin.
    pub fn open(note: &str, key: &NoteKey) -> Result<Self, Error> {
        let bad = |why: &str| Error::Checkpoint(why.to_owned());
        if note.len() > NOTE_SIZE_MAX_BYTES {
            return Err(bad("too long"));
        }
        if note.contains(|c: char| c < ' ' && c != '\n') {
            return Err(bad("control characters"));
        }
        // The text is separated from the signatures by the last empty line.
        let at = note.rfind("\n\n").ok_or_else(|| bad("no signatures"))?;
        let (text, signatures) = note.split_at(at + 1);
        let signatures = signatures.strip_prefix('\n').unwrap_or(signatures);
        if !signatures.ends_with('\n') {
            return Err(bad("the last line has no end"));
        }
        let mut signed = false;
        for line in signatures.lines().take(SIGNATURES_MAX) {
            let (name, value) = line
                .strip_prefix("\u{2014} ")
                .and_then(|line| line.split_once(' '))
                .ok_or_else(|| bad("malformed signature line"))?;
            let value = STANDARD
                .decode(value)
                .map_err(|_| bad("signature is not base64"))?;
            let Some((id, signature)) = value.split_at_checked(4) else {
                return Err(bad("signature too short"));
            };
            // Signatures of unknown keys (witnesses, rotated keys) are none of our business.
            if name != key.name || id != key.id {
                continue;
            }
            if !key.verifies(text, signature) {
                return Err(bad("the signature is wrong"));
            }
            signed = true;
        }
        if !signed {
            return Err(bad("not signed by this log's key"));
        }
        let checkpoint = Self::from_text(text).ok_or_else(|| bad("malformed text"))?;
        if checkpoint.origin != key.name {
            return Err(bad("another log's checkpoint"));
        }
        Ok(checkpoint)
    }

    fn from_text(text: &str) -> Option<Self> {
        let mut lines = text.strip_suffix('\n')?.split('\n');
        let origin = lines.next().filter(|line| !line.is_empty())?.to_owned();
        let size_text = lines.next()?;
        let size: u64 = size_text.parse().ok()?;
        // One encoding only: no sign, no leading zeroes.
        if size.to_string() != size_text {
            return None;
        }
        let root = STANDARD.decode(lines.next()?).ok()?.try_into().ok()?;
        lines
            .all(|line| !line.is_empty())
            .then_some(Self { origin, size, root })
    }
}
