//! The part of a server that keeps no state.

use std::sync::Arc;
use std::time::Duration;

use aws_lc_rs::hmac;
use coap::Moment;

use super::context::{self, RECORD_LIMIT_MIN, ServerContext};
use super::session::Session;
use super::{ClientHello, Error, ServerConfig};

const HANDSHAKE_FAILURE: u8 = 40;
const ILLEGAL_PARAMETER: u8 = 47;
const PROTOCOL_VERSION: u8 = 70;

/// One byte of which key, 16 of HMAC.
const COOKIE_LENGTH: usize = 17;

/// The stateless beginning of every association of a server. Cheap to clone.
#[derive(Clone)]
pub struct Front(Arc<Inner>);

struct Inner {
    config: ServerConfig,
    contexts: Vec<ServerContext>,
    secret: hmac::Key,
}

/// What a datagram led to that belongs to no association.
#[derive(Debug)]
pub enum Hello {
    /// To be sent to where the datagram came from. It is no longer than the datagram was.
    Answer(Vec<u8>),
    /// The peer has proven its address. The session has its first flight ready to be sent.
    Accept(Box<Session>),
    /// Nothing is answered; for a counter and a log of the finest level.
    Dropped(&'static str),
}

impl std::fmt::Debug for Front {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Front").finish_non_exhaustive()
    }
}

impl Front {
    /// Prepares a server. The secret is random and lasts as long as the process; several sockets of
    /// one server share a `Front`.
    ///
    /// # Errors
    /// A configuration or an identity that cannot be used.
    pub fn new(config: ServerConfig, secret: [u8; 32]) -> Result<Self, Error> {
        let contexts = context::server(&config)?;
        Ok(Self(Arc::new(Inner {
            config,
            contexts,
            secret: hmac::Key::new(hmac::HMAC_SHA256, &secret),
        })))
    }

    /// Takes a datagram that belongs to no association, or that begins with a ClientHello which the
    /// association of this peer did not begin with.
    ///
    /// `peer_key` is what the cookie is bound to: the address and port, and behind a stateless join
    /// proxy also the proxy's header.
    #[must_use]
    pub fn receive(&self, now: Moment, peer_key: &[u8], datagram: &[u8]) -> Hello {
        let hello = match ClientHello::parse(datagram) {
            Ok(hello) => hello,
            Err(reason) => return Hello::Dropped(reason),
        };
        // DTL-031: DTLS 1.0 is never negotiated.
        if !hello.has_dtls_1_2() {
            return answer(datagram, hello.alert(PROTOCOL_VERSION));
        }
        // DTL-001, DTL-003, DTL-005: without the cookie that this peer was given, nothing is
        // kept and a HelloVerifyRequest is the answer.
        if hello.message_sequence != 1 || !self.cookie_is_valid(now, peer_key, &hello) {
            let cookie = self.cookie(self.generation(now), peer_key, &hello);
            return answer(datagram, hello.verify_request(&cookie));
        }
        if hello
            .extension(super::client_hello::RECORD_SIZE_LIMIT)
            .is_some()
        {
            match hello.record_limit() {
                None | Some(..64) => return answer(datagram, hello.alert(ILLEGAL_PARAMETER)),
                // OpenSSL makes no smaller fragments of a handshake.
                Some(..RECORD_LIMIT_MIN) => {
                    return answer(datagram, hello.alert(HANDSHAKE_FAILURE));
                }
                Some(_) => {}
            }
        }
        let context = self.0.contexts.iter().find(|context| {
            context
                .suites
                .iter()
                .any(|suite| hello.offers(suite.number()))
        });
        let Some(context) = context else {
            return answer(datagram, hello.alert(HANDSHAKE_FAILURE));
        };
        match Session::server(&self.0.config, context, now, &hello, datagram) {
            Ok(mut session) if session.is_closed() => match session.transmit() {
                Some(alert) => answer(datagram, alert),
                None => Hello::Dropped("refused by OpenSSL"),
            },
            Ok(session) => Hello::Accept(Box::new(session)),
            Err(_) => Hello::Dropped("OpenSSL failed"),
        }
    }

    /// The configuration.
    #[must_use]
    pub fn config(&self) -> &ServerConfig {
        &self.0.config
    }

    // DTL-007: the key changes with the generation, and the one before is accepted too.
    fn generation(&self, now: Moment) -> u64 {
        let time = self.0.config.cookie_time.max(Duration::from_secs(1));
        now.as_secs() / time.as_secs().max(1)
    }

    fn cookie(&self, generation: u64, peer_key: &[u8], hello: &ClientHello<'_>) -> Vec<u8> {
        let mut context = hmac::Context::with_key(&self.0.secret);
        context.update(&generation.to_be_bytes());
        let [session_id, suites, compression] = hello.parameters();
        for part in [peer_key, &hello.random, session_id, suites, compression] {
            context.update(&part.len().to_be_bytes());
            context.update(part);
        }
        let mut cookie = vec![generation.to_be_bytes()[7]];
        cookie.extend(context.sign().as_ref().iter().take(COOKIE_LENGTH - 1));
        cookie
    }

    fn cookie_is_valid(&self, now: Moment, peer_key: &[u8], hello: &ClientHello<'_>) -> bool {
        let Some(&mark) = hello.cookie.first() else {
            return false;
        };
        let current = self.generation(now);
        [Some(current), current.checked_sub(1)]
            .into_iter()
            .flatten()
            .filter(|generation| generation.to_be_bytes()[7] == mark)
            .any(|generation| {
                let expected = self.cookie(generation, peer_key, hello);
                aws_lc_rs::constant_time::verify_slices_are_equal(&expected, hello.cookie).is_ok()
            })
    }
}

/// DTL-004: never more than came.
fn answer(datagram: &[u8], answer: Vec<u8>) -> Hello {
    if answer.len() > datagram.len() {
        return Hello::Dropped("the answer would be longer than the question");
    }
    Hello::Answer(answer)
}
