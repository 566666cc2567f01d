//! The client's side of a handshake of DTLS 1.2 after the ServerHello.

use std::time::{Duration, Instant};

use openssl::{
    bn::BigNumContext,
    derive::Deriver,
    ec::{EcGroup, EcKey, EcPoint, PointConversionForm},
    hash::MessageDigest,
    nid::Nid,
    pkey::{PKey, Private},
    sign::Verifier,
};

use crate::{
    dtls::{Client, DtlsError, FLIGHT_TIME, Probe, Resumption, Session, Wire},
    dtls_wire::*,
    forge::key::{Hash, Key},
};

fn suite(error: openssl::error::ErrorStack) -> DtlsError {
    DtlsError::Suite(error.to_string())
}

pub(crate) fn alert_of(body: &[u8]) -> DtlsError {
    let mut reader = Reader(body);
    DtlsError::Alert(
        reader.u8().unwrap_or_default(),
        reader.u8().unwrap_or_default(),
    )
}

pub(crate) struct Handshaking<'c> {
    pub(crate) client: &'c Client,
    pub(crate) hello: Hello,
    pub(crate) wire: Wire,
    pub(crate) probe: Probe,
    pub(crate) server: ServerHello,
    pub(crate) transcript: Vec<u8>,
    pub(crate) next: u16,
}

/// The client's half of the key agreement: what it sends, and the secret.
fn agree(exchange: &[u8]) -> Result<(Vec<u8>, Vec<u8>), DtlsError> {
    let broken = || DtlsError::Broken("the ServerKeyExchange cannot be read".into());
    let mut reader = Reader(exchange);
    if reader.u8() != Some(3) {
        return Err(broken());
    }
    let group = reader.u16().ok_or_else(broken)?;
    let point = reader.vector(1).ok_or_else(broken)?;
    if group == X25519 {
        let own = PKey::generate_x25519().map_err(suite)?;
        let peer = PKey::public_key_from_raw_bytes(point, openssl::pkey::Id::X25519)
            .map_err(|error| DtlsError::Broken(error.to_string()))?;
        let mut deriver = Deriver::new(&own).map_err(suite)?;
        deriver.set_peer(&peer).map_err(suite)?;
        let secret = deriver.derive_to_vec().map_err(suite)?;
        return Ok((own.raw_public_key().map_err(suite)?, secret));
    }
    if group != P256 {
        return Err(DtlsError::Broken(format!("group {group} was not offered")));
    }
    if point.first() != Some(&4) {
        return Err(DtlsError::Broken("the point is not uncompressed".into()));
    }
    let curve = EcGroup::from_curve_name(Nid::X9_62_PRIME256V1).map_err(suite)?;
    let mut numbers = BigNumContext::new().map_err(suite)?;
    let own = EcKey::generate(&curve).map_err(suite)?;
    let share = own
        .public_key()
        .to_bytes(&curve, PointConversionForm::UNCOMPRESSED, &mut numbers)
        .map_err(suite)?;
    let peer = EcPoint::from_bytes(&curve, point, &mut numbers)
        .and_then(|point| EcKey::from_public_key(&curve, &point))
        .and_then(PKey::from_ec_key)
        .map_err(|error| DtlsError::Broken(error.to_string()))?;
    let own: PKey<Private> = PKey::from_ec_key(own).map_err(suite)?;
    let mut deriver = Deriver::new(&own).map_err(suite)?;
    deriver.set_peer(&peer).map_err(suite)?;
    Ok((share, deriver.derive_to_vec().map_err(suite)?))
}

/// Whether the server's certificate's key has signed its key exchange.
fn exchange_is_signed(exchange: &[u8], chain: &[Vec<u8>], randoms: &[u8]) -> Result<(), DtlsError> {
    let broken = |why: &str| DtlsError::Broken(format!("ServerKeyExchange: {why}"));
    let mut reader = Reader(exchange);
    let parameters = reader
        .take(3)
        .and_then(|_| reader.vector(1))
        .and_then(|point| exchange.get(..4 + point.len()))
        .ok_or_else(|| broken("it cannot be read"))?;
    let scheme = reader.u16().unwrap_or_default();
    let signature = reader.vector(2).ok_or_else(|| broken("no signature"))?;
    let leaf = chain
        .first()
        .and_then(|der| openssl::x509::X509::from_der(der).ok())
        .ok_or_else(|| broken("there is no certificate"))?;
    let key = leaf.public_key().map_err(suite)?;
    let signed = [randoms, parameters].concat();
    let holds = match scheme {
        0x0807 => Verifier::new_without_digest(&key)
            .and_then(|mut verifier| verifier.verify_oneshot(signature, &signed)),
        0x0503 => Verifier::new(MessageDigest::sha384(), &key)
            .and_then(|mut verifier| verifier.verify_oneshot(signature, &signed)),
        0x0804 => Verifier::new(MessageDigest::sha256(), &key).and_then(|mut verifier| {
            verifier.set_rsa_padding(openssl::rsa::Padding::PKCS1_PSS)?;
            verifier.verify_oneshot(signature, &signed)
        }),
        _ => Verifier::new(MessageDigest::sha256(), &key)
            .and_then(|mut verifier| verifier.verify_oneshot(signature, &signed)),
    };
    if holds.unwrap_or(false) {
        Ok(())
    } else {
        Err(broken("the signature does not hold"))
    }
}

/// A piece of a flight of the client's.
enum Piece {
    Message(Handshake),
    ChangeCipherSpec,
    Protected(Handshake),
}

impl Handshaking<'_> {
    fn message(&mut self, kind: u8, body: Vec<u8>) -> Handshake {
        let message = Handshake {
            kind,
            number: self.next,
            body,
        };
        self.next += 1;
        self.transcript.extend(message.encode());
        message
    }

    async fn hear(&mut self, until: Instant) -> Result<Handshake, DtlsError> {
        let message = self.wire.message(until).await?;
        self.transcript.extend(message.encode());
        Ok(message)
    }

    fn randoms(&self) -> Vec<u8> {
        [self.probe.random.as_slice(), self.server.random.as_slice()].concat()
    }

    pub(crate) async fn finish(mut self) -> Result<Session, DtlsError> {
        self.next = self.probe.sent.number + 1;
        let patience = self.client.patience;
        if self.server.negotiated() != DTLS_1_2 {
            return Err(DtlsError::Broken(format!(
                "version {:04x} was negotiated",
                self.server.negotiated()
            )));
        }
        if let Some(resumption) = self.client.tricks.resume.clone()
            && self.is_resumed().await?
        {
            return self.resume(&resumption).await;
        }
        if self.client.tricks.deaf_to_first_flight {
            // The server has to come back to it by its own timer.
            self.wire.came.clear();
            let before = self.wire.datagrams.len();
            let until = Instant::now() + patience;
            tokio::time::sleep(Duration::from_millis(300)).await;
            while self
                .wire
                .wait(Instant::now() + Duration::from_millis(1))
                .await?
            {}
            self.wire.came.clear();
            if !self.wire.wait(until).await? {
                return Err(DtlsError::Silence(format!(
                    "second copy of the flight of {before} datagrams"
                )));
            }
        }
        let until = Instant::now() + patience;
        let mut chain = Vec::new();
        let mut exchange = Vec::new();
        let mut wants_certificate = false;
        loop {
            let message = self.hear(until).await?;
            match message.kind {
                CERTIFICATE => chain = chain_of(&message.body).unwrap_or_default(),
                SERVER_KEY_EXCHANGE => exchange = message.body,
                CERTIFICATE_REQUEST => wants_certificate = true,
                SERVER_HELLO_DONE => break,
                kind => {
                    return Err(DtlsError::Broken(format!(
                        "handshake message {kind} came out of turn"
                    )));
                }
            }
        }
        exchange_is_signed(&exchange, &chain, &self.randoms())?;
        let (share, secret) = agree(&exchange)?;
        let mut flight = Vec::new();
        let identity = self.client.identity.clone();
        if wants_certificate {
            let list: Vec<u8> = identity
                .iter()
                .flat_map(|(chain, _)| chain)
                .flat_map(|der| vector(3, der))
                .collect();
            let message = self.message(CERTIFICATE, vector(3, &list));
            flight.push(Piece::Message(message));
        }
        let message = self.message(CLIENT_KEY_EXCHANGE, vector(1, &share));
        flight.push(Piece::Message(message));
        let master = if self.server.extension(EXTENDED_MASTER_SECRET).is_some() {
            let hash = Hash::Sha256.of(&self.transcript);
            prf(&secret, "extended master secret", &hash, 48)
        } else {
            prf(&secret, "master secret", &self.randoms(), 48)
        };
        if let Some((_, key)) = identity.filter(|_| wants_certificate)
            && !self.client.tricks.unsigned
        {
            let key = if self.client.tricks.signed_by_another {
                Key::generate().map_err(|error| DtlsError::Suite(error.to_string()))?
            } else {
                key
            };
            let scheme: u16 = match key.jose_name() {
                "ES256" => 0x0403,
                "ES384" => 0x0503,
                "EdDSA" => 0x0807,
                _ => 0x0401,
            };
            let signature = key.sign(&self.transcript);
            let body = [number(u64::from(scheme), 2), vector(2, &signature)].concat();
            let message = self.message(CERTIFICATE_VERIFY, body);
            flight.push(Piece::Message(message));
        }
        flight.push(Piece::ChangeCipherSpec);
        let mut verify = prf(
            &master,
            "client finished",
            &Hash::Sha256.of(&self.transcript),
            12,
        );
        if self.client.tricks.wrong_finished
            && let Some(first) = verify.first_mut()
        {
            *first ^= 1;
        }
        let message = self.message(FINISHED, verify);
        flight.push(Piece::Protected(message));
        self.conclude(chain, master, flight, None).await
    }

    /// Whether the server goes on as in a session that is resumed.
    async fn is_resumed(&mut self) -> Result<bool, DtlsError> {
        let until = Instant::now() + self.client.patience;
        let record = self
            .wire
            .next(until)
            .await?
            .ok_or_else(|| DtlsError::Silence("handshake message".into()))?;
        let begins = record.body.first().copied();
        let resumed = record.kind == CHANGE_CIPHER_SPEC
            || (record.kind == HANDSHAKE
                && (record.epoch == 1 || begins == Some(NEW_SESSION_TICKET)));
        self.wire.came.push_front(record);
        Ok(resumed)
    }

    async fn resume(self, resumption: &Resumption) -> Result<Session, DtlsError> {
        let master = resumption.master.clone();
        self.conclude(Vec::new(), master, Vec::new(), Some(()))
            .await
    }

    /// The records of a flight.
    fn records(
        &mut self,
        flight: &[Piece],
        writing: &Protection,
        numbers: &mut u64,
    ) -> Vec<Vec<u8>> {
        let tricks = &self.client.tricks;
        let most = tricks.fragment.unwrap_or(1000);
        let mut datagrams: Vec<Vec<u8>> = Vec::new();
        for piece in flight {
            match piece {
                Piece::Message(message) => {
                    let length = message.body.len();
                    let step = if tricks.overlapping {
                        (most / 2).max(1)
                    } else {
                        most
                    };
                    let mut parts = Vec::new();
                    let mut from = 0;
                    loop {
                        let total = if tricks.other_total && from > 0 {
                            length + 1
                        } else {
                            length
                        };
                        parts.push(message.fragment(from, (from + most).min(length), total));
                        from += step;
                        if from >= length {
                            break;
                        }
                    }
                    if tricks.shuffled {
                        parts.reverse();
                    }
                    if tricks.overlapping
                        && let Some(first) = parts.first().cloned()
                    {
                        parts.push(first);
                    }
                    for part in parts {
                        datagrams.push(self.wire.clear(HANDSHAKE, part).encode());
                    }
                }
                Piece::ChangeCipherSpec => {
                    datagrams.push(self.wire.clear(CHANGE_CIPHER_SPEC, vec![1]).encode());
                }
                Piece::Protected(message) => {
                    let record = Record {
                        kind: HANDSHAKE,
                        version: DTLS_1_2,
                        epoch: 1,
                        number: *numbers,
                        body: message.encode(),
                    };
                    *numbers += 1;
                    let sealed = writing.seal(record).encode();
                    // Both go in one datagram, as most clients do it.
                    match datagrams.last_mut() {
                        Some(last) => last.extend(sealed),
                        None => datagrams.push(sealed),
                    }
                }
            }
        }
        datagrams
    }

    async fn conclude(
        mut self,
        chain: Vec<Vec<u8>>,
        master: Vec<u8>,
        mut flight: Vec<Piece>,
        resumed: Option<()>,
    ) -> Result<Session, DtlsError> {
        let swapped = [self.server.random.as_slice(), self.probe.random.as_slice()].concat();
        let block = prf(&master, "key expansion", &swapped, 40);
        let mut reader = Reader(&block);
        let mut part = |count| reader.take(count).unwrap_or_default().to_vec();
        let (ours, theirs, our_salt, their_salt) = (part(16), part(16), part(4), part(4));
        let suite = self.server.suite;
        let writing = Protection::new(suite, &ours, &our_salt);
        let reading = Protection::new(suite, &theirs, &their_salt);
        let mut numbers = 0;
        let mut ticket = Vec::new();
        let until = Instant::now() + self.client.patience;
        let mut again = FLIGHT_TIME;
        let mut deaf = self.client.tricks.deaf_to_last_flight;
        let mut done = false;
        let mut alert = None;
        while !done && Instant::now() < until {
            for datagram in self.records(&flight, &writing, &mut numbers) {
                self.wire.send(&datagram).await?;
            }
            if !flight.is_empty() {
                self.wire
                    .record
                    .note("the client's flight up to Finished was sent");
            }
            let deadline = (Instant::now() + again).min(until);
            again *= 2;
            while !done && let Some(record) = self.wire.next(deadline).await? {
                match (record.kind, record.epoch) {
                    (HANDSHAKE, 0) => {
                        self.wire.assembler.take(&record.body);
                        if let Some(message) = self.wire.assembler.message() {
                            if message.kind == NEW_SESSION_TICKET {
                                let mut body = Reader(&message.body);
                                body.take(4);
                                ticket = body.vector(2).unwrap_or_default().to_vec();
                            }
                            self.transcript.extend(message.encode());
                        }
                    }
                    (HANDSHAKE, 1) => {
                        let Some(plain) = reading.open(&record) else {
                            continue;
                        };
                        if deaf {
                            deaf = false;
                            continue;
                        }
                        self.wire.assembler.take(&plain);
                        if let Some(message) = self.wire.assembler.message() {
                            let expected = prf(
                                &master,
                                "server finished",
                                &Hash::Sha256.of(&self.transcript),
                                12,
                            );
                            if message.kind != FINISHED || message.body != expected {
                                return Err(DtlsError::Broken("Finished is wrong".into()));
                            }
                            self.transcript.extend(message.encode());
                            done = true;
                        }
                    }
                    (ALERT, epoch) => {
                        let body = if epoch == 0 {
                            Some(record.body.clone())
                        } else {
                            reading.open(&record)
                        };
                        if let Some(body) = body {
                            self.wire.record.received(
                                "alert",
                                &record.encode(),
                                format!("{body:?}"),
                            );
                            if body.first() == Some(&2) {
                                alert = Some(alert_of(&body));
                                break;
                            }
                        }
                    }
                    _ => {}
                }
            }
            if let Some(alert) = alert {
                return Err(alert);
            }
        }
        if !done {
            return Err(DtlsError::Silence("Finished of the server".into()));
        }
        if resumed.is_some() {
            let hash = Hash::Sha256.of(&self.transcript);
            let message = self.message(FINISHED, prf(&master, "client finished", &hash, 12));
            flight = vec![Piece::ChangeCipherSpec, Piece::Protected(message)];
            for datagram in self.records(&flight, &writing, &mut numbers) {
                self.wire.send(&datagram).await?;
            }
        }
        self.wire.record.note(format!(
            "a session with suite {suite:04x}{}",
            if resumed.is_some() { ", resumed" } else { "" }
        ));
        Ok(Session {
            handshake_datagrams: self.wire.datagrams.clone(),
            handshake_records_max: self.wire.records_max,
            // The context is there and empty, which is not the same as none (RFC 5705 section 4).
            exporter: prf(
                &master,
                "EXPORTER-Channel-Binding",
                &[self.randoms(), vec![0, 0]].concat(),
                32,
            ),
            resumption: Resumption {
                session_id: self.server.session_id.clone(),
                ticket,
                master,
            },
            is_resumed: resumed.is_some(),
            wire: self.wire,
            hello: self.hello,
            server: self.server,
            chain,
            writing,
            reading,
            number: numbers,
            plaintext_max: 0,
        })
    }
}

fn chain_of(body: &[u8]) -> Option<Vec<Vec<u8>>> {
    let mut reader = Reader(body);
    let mut list = Reader(reader.vector(3)?);
    let mut chain = Vec::new();
    while !list.is_empty() {
        chain.push(list.vector(3)?.to_vec());
    }
    Some(chain)
}
