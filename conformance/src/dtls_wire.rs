//! What goes over the wire in DTLS 1.2: records, handshake messages, keys. Everything is made by
//! hand, so that it can be wrong.

use openssl::{
    cipher::{Cipher, CipherRef},
    cipher_ctx::CipherCtx,
    error::ErrorStack,
    hash::MessageDigest,
    pkey::PKey,
    sign::Signer,
};

/// Record type of ChangeCipherSpec.
pub const CHANGE_CIPHER_SPEC: u8 = 20;
/// Record type of alerts.
pub const ALERT: u8 = 21;
/// Record type of handshake messages.
pub const HANDSHAKE: u8 = 22;
/// Record type of application data.
pub const APPLICATION_DATA: u8 = 23;

/// DTLS 1.0.
pub const DTLS_1_0: u16 = 0xfeff;
/// DTLS 1.2.
pub const DTLS_1_2: u16 = 0xfefd;
/// DTLS 1.3.
pub const DTLS_1_3: u16 = 0xfefc;

/// TLS_ECDHE_ECDSA_WITH_AES_128_CCM_8.
pub const CCM_8: u16 = 0xc0ae;
/// TLS_ECDHE_ECDSA_WITH_AES_128_CCM.
pub const CCM: u16 = 0xc0ac;
/// TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256.
pub const GCM: u16 = 0xc02b;
/// TLS_EMPTY_RENEGOTIATION_INFO_SCSV.
pub const NO_RENEGOTIATION: u16 = 0x00ff;

/// Octets of a record's head.
const RECORD_HEAD: usize = 13;

/// Reads from the front of some octets.
#[derive(Clone, Copy, Debug)]
pub struct Reader<'a>(pub &'a [u8]);

impl<'a> Reader<'a> {
    /// So many octets.
    pub fn take(&mut self, count: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(count)?;
        self.0 = rest;
        Some(taken)
    }

    /// A number of so many octets.
    pub fn number(&mut self, octets: usize) -> Option<u64> {
        let taken = self.take(octets)?;
        Some(
            taken
                .iter()
                .fold(0, |number, octet| number << 8 | u64::from(*octet)),
        )
    }

    /// One octet.
    pub fn u8(&mut self) -> Option<u8> {
        self.take(1)?.first().copied()
    }

    /// Two octets.
    pub fn u16(&mut self) -> Option<u16> {
        self.number(2).and_then(|number| number.try_into().ok())
    }

    /// What follows a length of so many octets.
    pub fn vector(&mut self, octets: usize) -> Option<&'a [u8]> {
        let length = usize::try_from(self.number(octets)?).ok()?;
        self.take(length)
    }

    /// Whether nothing is left.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// A number in so many octets.
#[must_use]
pub fn number(value: u64, octets: usize) -> Vec<u8> {
    value
        .to_be_bytes()
        .get(8 - octets.min(8)..)
        .unwrap_or_default()
        .to_vec()
}

/// Octets behind their length.
#[must_use]
pub fn vector(octets: usize, content: &[u8]) -> Vec<u8> {
    let mut out = number(content.len() as u64, octets);
    out.extend_from_slice(content);
    out
}

/// A record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// What it is.
    pub kind: u8,
    /// The version in its head.
    pub version: u16,
    /// The epoch.
    pub epoch: u16,
    /// Its number within the epoch.
    pub number: u64,
    /// What it carries.
    pub body: Vec<u8>,
}

impl Record {
    /// The octets.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut out = vec![self.kind];
        out.extend(number(u64::from(self.version), 2));
        out.extend(number(u64::from(self.epoch), 2));
        out.extend(number(self.number, 6));
        out.extend(vector(2, &self.body));
        out
    }

    /// The records of a datagram, as far as they can be read. Those of DTLS 1.3 that are
    /// encrypted have another form and end it.
    #[must_use]
    pub fn all(datagram: &[u8]) -> Vec<Self> {
        let mut reader = Reader(datagram);
        let mut records = Vec::new();
        while let Some(record) = Self::read(&mut reader) {
            records.push(record);
        }
        records
    }

    fn read(reader: &mut Reader<'_>) -> Option<Self> {
        let kind = reader.u8()?;
        if !(CHANGE_CIPHER_SPEC..=APPLICATION_DATA).contains(&kind) {
            return None;
        }
        Some(Self {
            kind,
            version: reader.u16()?,
            epoch: reader.u16()?,
            number: reader.number(6)?,
            body: reader.vector(2)?.to_vec(),
        })
    }

    /// Octets of it with its head.
    #[must_use]
    pub fn length(&self) -> usize {
        RECORD_HEAD + self.body.len()
    }
}

/// A handshake message, whole.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Handshake {
    /// What it is.
    pub kind: u8,
    /// Its number.
    pub number: u16,
    /// What it says.
    pub body: Vec<u8>,
}

/// ClientHello.
pub const CLIENT_HELLO: u8 = 1;
/// ServerHello, and HelloRetryRequest.
pub const SERVER_HELLO: u8 = 2;
/// HelloVerifyRequest.
pub const HELLO_VERIFY_REQUEST: u8 = 3;
/// NewSessionTicket.
pub const NEW_SESSION_TICKET: u8 = 4;
/// Certificate.
pub const CERTIFICATE: u8 = 11;
/// ServerKeyExchange.
pub const SERVER_KEY_EXCHANGE: u8 = 12;
/// CertificateRequest.
pub const CERTIFICATE_REQUEST: u8 = 13;
/// ServerHelloDone.
pub const SERVER_HELLO_DONE: u8 = 14;
/// CertificateVerify.
pub const CERTIFICATE_VERIFY: u8 = 15;
/// ClientKeyExchange.
pub const CLIENT_KEY_EXCHANGE: u8 = 16;
/// Finished.
pub const FINISHED: u8 = 20;

impl Handshake {
    /// It as one fragment, which is what goes into the transcript.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        self.fragment(0, self.body.len(), self.body.len())
    }

    /// A fragment of it that says that the whole has `total` octets.
    #[must_use]
    pub fn fragment(&self, from: usize, to: usize, total: usize) -> Vec<u8> {
        let part = self.body.get(from..to).unwrap_or_default();
        let mut out = vec![self.kind];
        out.extend(number(total as u64, 3));
        out.extend(number(u64::from(self.number), 2));
        out.extend(number(from as u64, 3));
        out.extend(vector(3, part));
        out
    }
}

/// Puts fragments together.
#[derive(Clone, Debug, Default)]
pub struct Assembler {
    parts: std::collections::BTreeMap<u16, (u8, Vec<Option<u8>>)>,
    /// The number of the message that comes next.
    pub next: u16,
}

impl Assembler {
    /// Takes the fragments of a record.
    pub fn take(&mut self, body: &[u8]) {
        let mut reader = Reader(body);
        while !reader.is_empty() {
            if self.take_one(&mut reader).is_none() {
                return;
            }
        }
    }

    fn take_one(&mut self, reader: &mut Reader<'_>) -> Option<()> {
        const MESSAGE_MAX_BYTES: usize = 1 << 17;
        let kind = reader.u8()?;
        let total = usize::try_from(reader.number(3)?).ok()?;
        let number = reader.u16()?;
        let from = usize::try_from(reader.number(3)?).ok()?;
        let part = reader.vector(3)?;
        if number < self.next || total > MESSAGE_MAX_BYTES {
            return Some(());
        }
        let entry = self
            .parts
            .entry(number)
            .or_insert_with(|| (kind, vec![None; total]));
        for (place, octet) in entry.1.iter_mut().skip(from).zip(part) {
            *place = Some(*octet);
        }
        Some(())
    }

    /// The next message, if it is whole.
    pub fn message(&mut self) -> Option<Handshake> {
        let (kind, parts) = self.parts.get(&self.next)?;
        let body: Vec<u8> = parts.iter().copied().collect::<Option<_>>()?;
        let message = Handshake {
            kind: *kind,
            number: self.next,
            body,
        };
        self.parts.remove(&self.next);
        self.next += 1;
        Some(message)
    }
}

/// A ClientHello before it is encoded.
#[derive(Clone, Debug)]
pub struct Hello {
    /// client_version.
    pub version: u16,
    /// The version in the record's head.
    pub record_version: u16,
    /// session_id.
    pub session_id: Vec<u8>,
    /// The suites.
    pub suites: Vec<u16>,
    /// The extensions, in this order.
    pub extensions: Vec<(u16, Vec<u8>)>,
}

/// server_name.
pub const SERVER_NAME: u16 = 0;
/// max_fragment_length.
pub const MAX_FRAGMENT_LENGTH: u16 = 1;
/// supported_groups.
pub const SUPPORTED_GROUPS: u16 = 10;
/// ec_point_formats.
pub const EC_POINT_FORMATS: u16 = 11;
/// signature_algorithms.
pub const SIGNATURE_ALGORITHMS: u16 = 13;
/// application_layer_protocol_negotiation.
pub const ALPN: u16 = 16;
/// client_certificate_type.
pub const CLIENT_CERTIFICATE_TYPE: u16 = 19;
/// server_certificate_type.
pub const SERVER_CERTIFICATE_TYPE: u16 = 20;
/// extended_master_secret.
pub const EXTENDED_MASTER_SECRET: u16 = 23;
/// record_size_limit.
pub const RECORD_SIZE_LIMIT: u16 = 28;
/// session_ticket.
pub const SESSION_TICKET: u16 = 35;
/// early_data.
pub const EARLY_DATA: u16 = 42;
/// supported_versions.
pub const SUPPORTED_VERSIONS: u16 = 43;
/// cookie.
pub const COOKIE: u16 = 44;
/// key_share.
pub const KEY_SHARE: u16 = 51;
/// renegotiation_info.
pub const RENEGOTIATION_INFO: u16 = 0xff01;

/// secp256r1.
pub const P256: u16 = 23;
/// x25519.
pub const X25519: u16 = 29;

impl Hello {
    /// What a constrained device says: CCM_8, P-256, extended master secret.
    #[must_use]
    pub fn usual() -> Self {
        Self {
            version: DTLS_1_2,
            record_version: DTLS_1_2,
            session_id: Vec::new(),
            suites: vec![CCM_8, NO_RENEGOTIATION],
            extensions: vec![
                (SUPPORTED_GROUPS, vec![0, 2, 0, 23]),
                (EC_POINT_FORMATS, vec![1, 0]),
                // ecdsa_secp256r1_sha256, ecdsa_secp384r1_sha384, ed25519, rsa_pss_rsae_sha256,
                // rsa_pkcs1_sha256.
                (
                    SIGNATURE_ALGORITHMS,
                    vec![0, 10, 4, 3, 5, 3, 8, 7, 8, 4, 4, 1],
                ),
                (EXTENDED_MASTER_SECRET, Vec::new()),
            ],
        }
    }

    /// What a device with DTLS 1.3 alone says.
    #[must_use]
    pub fn new_1_3(suite: u16, group: u16, share: &[u8]) -> Self {
        let mut hello = Self::usual()
            .suites(&[suite])
            .set(
                SUPPORTED_GROUPS,
                [vec![0, 2], number(u64::from(group), 2)].concat(),
            )
            .set(SUPPORTED_VERSIONS, vec![2, 0xfe, 0xfc]);
        let entry = [number(u64::from(group), 2), vector(2, share)].concat();
        hello.extensions.push((KEY_SHARE, vector(2, &entry)));
        hello
            .without(EC_POINT_FORMATS)
            .without(EXTENDED_MASTER_SECRET)
    }

    /// Offers these suites.
    #[must_use]
    pub fn suites(mut self, suites: &[u16]) -> Self {
        self.suites = suites.to_vec();
        self
    }

    /// Sets an extension.
    #[must_use]
    pub fn set(mut self, kind: u16, content: Vec<u8>) -> Self {
        match self.extensions.iter_mut().find(|(found, _)| *found == kind) {
            Some((_, found)) => *found = content,
            None => self.extensions.push((kind, content)),
        }
        self
    }

    /// Takes an extension out.
    #[must_use]
    pub fn without(mut self, kind: u16) -> Self {
        self.extensions.retain(|(found, _)| *found != kind);
        self
    }

    /// Names the server.
    #[must_use]
    pub fn server_name(self, name: &str) -> Self {
        let entry = [vec![0], vector(2, name.as_bytes())].concat();
        self.set(SERVER_NAME, vector(2, &entry))
    }

    /// The message's body.
    #[must_use]
    pub fn encode(&self, random: &[u8], cookie: &[u8]) -> Vec<u8> {
        let mut out = number(u64::from(self.version), 2);
        out.extend_from_slice(random);
        out.extend(vector(1, &self.session_id));
        out.extend(vector(1, cookie));
        let suites: Vec<u8> = self
            .suites
            .iter()
            .flat_map(|suite| suite.to_be_bytes())
            .collect();
        out.extend(vector(2, &suites));
        out.extend([1, 0]);
        let extensions: Vec<u8> = self
            .extensions
            .iter()
            .flat_map(|(kind, content)| [number(u64::from(*kind), 2), vector(2, content)].concat())
            .collect();
        if !extensions.is_empty() {
            out.extend(vector(2, &extensions));
        }
        out
    }
}

/// A ServerHello.
#[derive(Clone, Debug, Default)]
pub struct ServerHello {
    /// server_version.
    pub version: u16,
    /// random.
    pub random: Vec<u8>,
    /// session_id.
    pub session_id: Vec<u8>,
    /// The suite that was chosen.
    pub suite: u16,
    /// The extensions.
    pub extensions: Vec<(u16, Vec<u8>)>,
}

impl ServerHello {
    /// Reads one.
    #[must_use]
    pub fn read(body: &[u8]) -> Option<Self> {
        let mut reader = Reader(body);
        let mut hello = Self {
            version: reader.u16()?,
            random: reader.take(32)?.to_vec(),
            session_id: reader.vector(1)?.to_vec(),
            suite: reader.u16()?,
            extensions: Vec::new(),
        };
        reader.u8()?;
        if reader.is_empty() {
            return Some(hello);
        }
        let mut inside = Reader(reader.vector(2)?);
        while !inside.is_empty() {
            hello
                .extensions
                .push((inside.u16()?, inside.vector(2)?.to_vec()));
        }
        reader.is_empty().then_some(hello)
    }

    /// An extension.
    #[must_use]
    pub fn extension(&self, kind: u16) -> Option<&[u8]> {
        self.extensions
            .iter()
            .find(|(found, _)| *found == kind)
            .map(|(_, content)| content.as_slice())
    }

    /// The version that was agreed on.
    #[must_use]
    pub fn negotiated(&self) -> u16 {
        self.extension(SUPPORTED_VERSIONS)
            .and_then(|content| Reader(content).u16())
            .unwrap_or(self.version)
    }

    /// Whether it is a HelloRetryRequest.
    #[must_use]
    pub fn is_retry(&self) -> bool {
        const RETRY: [u8; 8] = [0xcf, 0x21, 0xad, 0x74, 0xe5, 0x9a, 0x61, 0x11];
        self.random.starts_with(&RETRY)
    }
}

/// HMAC with SHA-256. A library that fails gives no octets, with which nothing is accepted.
#[must_use]
pub fn hmac(key: &[u8], message: &[u8]) -> Vec<u8> {
    PKey::hmac(key)
        .and_then(|key| Signer::new(MessageDigest::sha256(), &key)?.sign_oneshot_to_vec(message))
        .unwrap_or_default()
}

/// The pseudorandom function of TLS 1.2 with SHA-256.
#[must_use]
pub fn prf(secret: &[u8], label: &str, seed: &[u8], length: usize) -> Vec<u8> {
    let seed = [label.as_bytes(), seed].concat();
    let mut round = hmac(secret, &seed);
    let mut out = Vec::new();
    while out.len() < length && !round.is_empty() {
        out.extend(hmac(secret, &[round.as_slice(), seed.as_slice()].concat()));
        round = hmac(secret, &round);
    }
    out.truncate(length);
    out
}

/// Protects the records of one direction.
#[derive(Clone)]
pub struct Protection {
    suite: u16,
    key: Vec<u8>,
    salt: Vec<u8>,
}

impl Protection {
    /// With this key and the secret part of the nonce.
    #[must_use]
    pub fn new(suite: u16, key: &[u8], salt: &[u8]) -> Self {
        Self {
            suite,
            key: key.to_vec(),
            salt: salt.to_vec(),
        }
    }

    fn cipher(&self) -> &'static CipherRef {
        if self.suite == GCM {
            Cipher::aes_128_gcm()
        } else {
            Cipher::aes_128_ccm()
        }
    }

    fn tag_length(&self) -> usize {
        if self.suite == CCM_8 { 8 } else { 16 }
    }

    fn associated(record: &Record, length: usize) -> Vec<u8> {
        let mut out = number(u64::from(record.epoch), 2);
        out.extend(number(record.number, 6));
        out.push(record.kind);
        out.extend(number(u64::from(record.version), 2));
        out.extend(number(length as u64, 2));
        out
    }

    /// Encrypts the body of a record.
    #[must_use]
    pub fn seal(&self, mut record: Record) -> Record {
        let explicit = [number(u64::from(record.epoch), 2), number(record.number, 6)].concat();
        let nonce = [self.salt.as_slice(), explicit.as_slice()].concat();
        let associated = Self::associated(&record, record.body.len());
        let sealed = self
            .encrypt(&nonce, &associated, &record.body)
            .unwrap_or_default();
        record.body = [explicit, sealed].concat();
        record
    }

    /// Decrypts the body of a record.
    #[must_use]
    pub fn open(&self, record: &Record) -> Option<Vec<u8>> {
        let (explicit, rest) = record.body.split_at_checked(8)?;
        let (sealed, tag) = rest.split_at_checked(rest.len().checked_sub(self.tag_length())?)?;
        let nonce = [self.salt.as_slice(), explicit].concat();
        let associated = Self::associated(record, sealed.len());
        self.decrypt(&nonce, &associated, sealed, tag).ok()
    }

    fn is_ccm(&self) -> bool {
        self.suite != GCM
    }

    fn encrypt(
        &self,
        nonce: &[u8],
        associated: &[u8],
        plaintext: &[u8],
    ) -> Result<Vec<u8>, ErrorStack> {
        let mut context = CipherCtx::new()?;
        context.encrypt_init(Some(self.cipher()), None, None)?;
        context.set_iv_length(nonce.len())?;
        if self.is_ccm() {
            // CCM has to know the lengths before the key.
            context.set_tag_length(self.tag_length())?;
        }
        context.encrypt_init(None, Some(&self.key), Some(nonce))?;
        if self.is_ccm() {
            context.set_data_len(plaintext.len())?;
        }
        context.cipher_update(associated, None)?;
        let mut out = Vec::new();
        context.cipher_update_vec(plaintext, &mut out)?;
        context.cipher_final_vec(&mut out)?;
        let mut tag = vec![0; self.tag_length()];
        context.tag(&mut tag)?;
        out.extend(tag);
        Ok(out)
    }

    fn decrypt(
        &self,
        nonce: &[u8],
        associated: &[u8],
        sealed: &[u8],
        tag: &[u8],
    ) -> Result<Vec<u8>, ErrorStack> {
        let mut context = CipherCtx::new()?;
        context.decrypt_init(Some(self.cipher()), None, None)?;
        context.set_iv_length(nonce.len())?;
        if self.is_ccm() {
            context.set_tag(tag)?;
        }
        context.decrypt_init(None, Some(&self.key), Some(nonce))?;
        if self.is_ccm() {
            context.set_data_len(sealed.len())?;
        } else {
            context.set_tag(tag)?;
        }
        context.cipher_update(associated, None)?;
        let mut out = Vec::new();
        context.cipher_update_vec(sealed, &mut out)?;
        if !self.is_ccm() {
            context.cipher_final_vec(&mut out)?;
        }
        Ok(out)
    }
}
