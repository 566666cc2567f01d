//! One association, of either version.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};

use coap::Moment;
use pki::{Blame, Certificate};

use super::v12::Session12;
use super::v13::Session13;
use super::{ClientConfig, ClientHello, Error, Version};

/// How far an association is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum State {
    /// Nothing can be sent or read yet.
    Handshaking,
    /// The peer has proven its key.
    Established,
    /// Over. What [`Session::transmit`] still gives should be sent.
    Closed(Closed),
}

/// Why an association is over.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Closed {
    /// [`Session::close`] was called.
    Ours,
    /// The peer said close_notify.
    Peer,
    /// The peer sent a fatal alert.
    Alert(String),
    /// The handshake failed here.
    Handshake(String),
    /// The handshake took too long.
    HandshakeTime,
    /// Too many records failed authentication.
    Forgeries,
    /// A certificate of the peer cannot be read.
    Certificate(String),
    /// OpenSSL failed after the handshake.
    Library(String),
}

impl Closed {
    pub(super) fn blame(&self) -> Blame {
        match self {
            Self::Ours => Blame::Caller,
            Self::Library(_) => Blame::Ours,
            Self::Handshake(_) | Self::Alert(_) => Blame::PeerIncompatible,
            Self::Peer | Self::HandshakeTime | Self::Forgeries | Self::Certificate(_) => {
                Blame::PeerMisbehaved
            }
        }
    }
}

impl fmt::Display for Closed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ours => f.write_str("closed here"),
            Self::Peer => f.write_str("closed by the peer"),
            Self::Alert(alert) => write!(f, "the peer refused: {alert}"),
            Self::Handshake(reason) => write!(f, "the handshake failed: {reason}"),
            Self::HandshakeTime => f.write_str("the handshake took too long"),
            Self::Forgeries => f.write_str("too many records failed authentication"),
            Self::Certificate(reason) => write!(f, "certificate unreadable: {reason}"),
            Self::Library(reason) => f.write_str(reason),
        }
    }
}

/// Who is at the other end of an association, as far as the handshake tells.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct SessionPeer {
    /// The peer's certificates, leaf first and as sent; empty when it showed none. Possession of
    /// the leaf's key is proven, trust is not.
    pub chain: Vec<Certificate>,
    /// The suite, by its name in the IANA registry.
    pub suite: &'static str,
    /// `DTLS 1.2`.
    pub version: &'static str,
    /// The host name that the client asked for.
    pub server_name: Option<String>,
    /// The certificate that the server showed, DER.
    pub server_certificate_der: Vec<u8>,
    /// The channel binding `tls-exporter` of
    /// [RFC 9266](https://www.rfc-editor.org/rfc/rfc9266.html); `None` without extended master
    /// secret, where it would not be unique.
    pub exporter: Option<[u8; 32]>,
}

/// One association with one peer, of a server or of a client.
pub struct Session {
    id: u64,
    inner: Inner,
}

enum Inner {
    V12(Box<Session12>),
    V13(Box<Session13>),
}

/// The same call for either version.
macro_rules! either {
    ($session:expr, $inner:ident => $call:expr) => {
        match $session {
            Inner::V12($inner) => $call,
            Inner::V13($inner) => $call,
        }
    };
}

impl fmt::Debug for Session {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Session")
            .field("id", &self.id)
            .field("state", self.state())
            .finish_non_exhaustive()
    }
}

fn next_id() -> u64 {
    static NUMBER: AtomicU64 = AtomicU64::new(1);
    NUMBER.fetch_add(1, Ordering::Relaxed)
}

impl From<Session12> for Session {
    fn from(session: Session12) -> Self {
        Self {
            id: next_id(),
            inner: Inner::V12(Box::new(session)),
        }
    }
}

impl From<Session13> for Session {
    fn from(session: Session13) -> Self {
        Self {
            id: next_id(),
            inner: Inner::V13(Box::new(session)),
        }
    }
}

impl Session {
    /// Begins an association as client; the ClientHello is ready to be sent.
    ///
    /// # Errors
    /// A configuration or an identity that cannot be used.
    pub fn client(config: &ClientConfig, now: Moment) -> Result<Self, Error> {
        Ok(match config.version {
            Version::Dtls12 => Session12::client(config, now)?.into(),
            Version::Dtls13 => Session13::client(config, now)?.into(),
        })
    }

    /// A number that no other session of this process has.
    #[must_use]
    pub fn id(&self) -> u64 {
        self.id
    }

    /// Whether this is the server's session that began with this ClientHello: then it is repeated,
    /// and for the session. Any other ClientHello is for the [`super::Front`].
    #[must_use]
    pub fn began_with(&self, datagram: &[u8]) -> bool {
        let random = either!(&self.inner, session => session.client_random());
        ClientHello::parse(datagram)
            .is_ok_and(|hello| hello.has_cookie() && Some(&hello.random) == random)
    }

    /// Takes a datagram of the peer. Whatever cannot be used in it is dropped; what that leads to
    /// is seen by [`Self::state`], [`Self::read`] and [`Self::transmit`].
    ///
    /// # Errors
    /// The association is closed.
    pub fn receive(&mut self, now: Moment, datagram: &[u8]) -> Result<(), Error> {
        either!(&mut self.inner, session => session.receive(now, datagram))
    }

    /// A datagram that is to be sent to the peer.
    pub fn transmit(&mut self) -> Option<Vec<u8>> {
        either!(&mut self.inner, session => session.transmit())
    }

    /// What the peer's application sent, one record at a time.
    pub fn read(&mut self) -> Option<Vec<u8>> {
        either!(&mut self.inner, session => session.read())
    }

    /// Sends one record of the application.
    ///
    /// # Errors
    /// Not established, or more than [`Self::payload_max`].
    pub fn send(&mut self, now: Moment, plaintext: &[u8]) -> Result<(), Error> {
        match self.state() {
            State::Handshaking => return Err(Error::Handshaking),
            State::Closed(closed) => return Err(Error::Closed(closed.clone())),
            State::Established => {}
        }
        let limit = self.payload_max();
        if plaintext.len() > limit {
            return Err(Error::TooLarge {
                length: plaintext.len(),
                limit,
            });
        }
        either!(&mut self.inner, session => session.send(now, plaintext))
    }

    /// The largest payload that the peer can take in one record.
    #[must_use]
    pub fn payload_max(&self) -> usize {
        either!(&self.inner, session => session.payload_max())
    }

    /// When [`Self::advance`] wants to be called; `None` when nothing is waited for.
    #[must_use]
    pub fn deadline(&self) -> Option<Moment> {
        either!(&self.inner, session => session.deadline())
    }

    /// Repeats a lost flight, or gives the handshake up, when its time has come.
    pub fn advance(&mut self, now: Moment) {
        either!(&mut self.inner, session => session.advance(now));
    }

    /// How far the association is.
    #[must_use]
    pub fn state(&self) -> &State {
        either!(&self.inner, session => session.state())
    }

    /// Whether it is over.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        matches!(self.state(), State::Closed(_))
    }

    /// Who is at the other end, once the handshake is done.
    #[must_use]
    pub fn peer(&self) -> Option<&SessionPeer> {
        either!(&self.inner, session => session.peer())
    }

    /// Ends the association; a close_notify is ready to be sent.
    pub fn close(&mut self) {
        either!(&mut self.inner, session => session.close());
    }
}
