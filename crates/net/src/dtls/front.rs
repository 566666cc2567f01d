//! The part of a server that keeps no state.

use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use aws_lc_rs::hmac;
use coap::Moment;
use pki::Identity;

use super::client_hello::First;
use super::context::{self, RECORD_LIMIT_MIN, ServerContext};
use super::session::Session;
use super::v12::Session12;
use super::v13::{self, Cookie, Session13};
use super::{ClientHello, Error, ServerConfig, Suite};

const HANDSHAKE_FAILURE: u8 = 40;
const UNSUPPORTED_CERTIFICATE: u8 = 43;
const ILLEGAL_PARAMETER: u8 = 47;
const PROTOCOL_VERSION: u8 = 70;

/// One byte of which key, 16 of HMAC.
const COOKIE_LENGTH: usize = 17;

/// The stateless beginning of every association of a server. Cheap to clone.
#[derive(Clone)]
pub struct Front(Arc<Inner>);

struct Inner {
    config: ServerConfig,
    contexts: ArcSwap<Contexts>,
    secret: hmac::Key,
}

/// What is made of the identities.
struct Contexts {
    of_1_2: Vec<ServerContext>,
    of_1_3: Option<v13::ServerContext>,
}

impl Contexts {
    fn new(config: &ServerConfig) -> Result<Self, Error> {
        let contexts = Self {
            of_1_2: context::server(config)?,
            of_1_3: v13::ServerContext::new(config)?,
        };
        if contexts.of_1_2.is_empty() && contexts.of_1_3.is_none() {
            return Err(Error::Config(
                "no identity that goes with any of the suites and versions".to_owned(),
            ));
        }
        Ok(contexts)
    }
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
        let contexts = Contexts::new(&config)?;
        Ok(Self(Arc::new(Inner {
            config,
            contexts: ArcSwap::from_pointee(contexts),
            secret: hmac::Key::new(hmac::HMAC_SHA256, &secret),
        })))
    }

    /// Takes other identities from now on. Associations that are there keep theirs, and cookies that
    /// were given stay valid.
    ///
    /// # Errors
    /// Identities that cannot be used; then nothing changes.
    pub fn replace(&self, identities: &[Identity]) -> Result<(), Error> {
        let config = ServerConfig {
            identities: identities.to_vec(),
            ..self.0.config.clone()
        };
        self.0.contexts.store(Arc::new(Contexts::new(&config)?));
        Ok(())
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
        // DTL-028: client_certificate_type and server_certificate_type are negotiated independently;
        // no common type gives unsupported_certificate. Ours is X.509 both ways.
        if !hello.has_x509() {
            return answer(datagram, hello.alert(UNSUPPORTED_CERTIFICATE));
        }
        // CBR-004: the ClientHello decides between the versions.
        let contexts = self.0.contexts.load();
        if let Some(context) = &contexts.of_1_3
            && let Some(suite) = context.suite_for(&hello)
        {
            return self.receive_1_3(context, now, peer_key, &hello, suite, datagram);
        }
        // DTL-031: DTLS 1.0 is never negotiated. CBR-005: nor what is configured away.
        if contexts.of_1_2.is_empty() || !hello.has_dtls_1_2() {
            return answer(datagram, hello.alert(PROTOCOL_VERSION));
        }
        // DTL-001, DTL-003, DTL-005: without the cookie that this peer was given, nothing is
        // kept and a HelloVerifyRequest is the answer.
        let valid = self.cookie_is_valid(now, peer_key, &hello)
            || defects::seeded!("dtls-takes-any-cookie");
        if hello.message_sequence != 1 || !valid {
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
        let context = contexts.of_1_2.iter().find(|context| {
            context
                .suites
                .iter()
                .any(|suite| hello.offers(suite.number()))
        });
        let Some(context) = context else {
            return answer(datagram, hello.alert(HANDSHAKE_FAILURE));
        };
        match Session12::server(&self.0.config, context, now, &hello, datagram) {
            Ok(mut session) if session.is_closed() => match session.transmit() {
                Some(alert) => answer(datagram, alert),
                None => Hello::Dropped("refused by OpenSSL"),
            },
            Ok(session) => Hello::Accept(Box::new(Session::from(session))),
            Err(_) => Hello::Dropped("OpenSSL failed"),
        }
    }

    fn receive_1_3(
        &self,
        context: &v13::ServerContext,
        now: Moment,
        peer_key: &[u8],
        hello: &ClientHello<'_>,
        suite: Suite,
        datagram: &[u8],
    ) -> Hello {
        let current = self.generation(now);
        let Some(shown) = hello.cookie_of_1_3() else {
            // DTL-001: a HelloRetryRequest, and nothing is kept.
            let cookie = self.cookie_of_1_3(current, peer_key, hello, hello.first());
            return answer(datagram, v13::retry_request(hello, suite, &cookie));
        };
        let valid = [Some(current), current.checked_sub(1)]
            .into_iter()
            .flatten()
            .map(|generation| {
                let first = Cookie::first_in(shown);
                self.cookie_of_1_3(generation, peer_key, hello, first)
            })
            .find(|cookie| cookie.is(shown));
        // DTL-002: a cookie that is not ours ends the attempt.
        let (Some(cookie), 1) = (valid, hello.message_sequence) else {
            return answer(datagram, hello.alert(ILLEGAL_PARAMETER));
        };
        match Session13::server(context, now, hello, suite, cookie, datagram) {
            Ok(mut session) if session.is_closed() => match session.transmit() {
                Some(alert) => answer(datagram, alert),
                None => answer(datagram, hello.alert(HANDSHAKE_FAILURE)),
            },
            Ok(session) => Hello::Accept(Box::new(Session::from(session))),
            Err(_) => Hello::Dropped("dimpl failed"),
        }
    }

    fn cookie_of_1_3(
        &self,
        generation: u64,
        peer_key: &[u8],
        hello: &ClientHello<'_>,
        first: First,
    ) -> Cookie {
        Cookie::new(hello, first, |parts| {
            let parts: Vec<&[u8]> = [peer_key]
                .into_iter()
                .chain(parts.iter().copied())
                .collect();
            self.mac(generation, &parts)
        })
    }

    fn mac(&self, generation: u64, parts: &[&[u8]]) -> hmac::Tag {
        let mut context = hmac::Context::with_key(&self.0.secret);
        context.update(&generation.to_be_bytes());
        for part in parts {
            context.update(&part.len().to_be_bytes());
            context.update(part);
        }
        context.sign()
    }

    /// The configuration that it began with.
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
        let [session_id, suites, compression] = hello.parameters();
        let parts = [peer_key, &hello.random, session_id, suites, compression];
        let mac = self.mac(generation, &parts);
        let mut cookie = vec![generation.to_be_bytes()[7]];
        cookie.extend(mac.as_ref().iter().take(COOKIE_LENGTH - 1));
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
