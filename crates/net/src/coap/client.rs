//! Asking over CoAP.

use std::cell::RefCell;
use std::collections::HashMap;
use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use ::coap::{Code, Config, Endpoint, Event, Failure, Handle, Moment, Request, Response, Via};
use tokio::io::Interest;
use tokio::net::UdpSocket;
use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;

use super::config::HANDSHAKE_TIME_MAX;
use super::peer::{Name, Named};
use super::place::block_exponent;
use super::{DtlsPeer, socket};
use crate::Error;
use crate::dtls::{ClientConfig, Session, State};

/// Datagrams that are read before something else gets its turn.
const READ_AT_ONCE: usize = 64;

/// Answers to a multicast question that are taken: more than a link has servers, and no more than
/// somebody who never stops to answer may make us keep.
const ANSWERS_MAX: usize = 256;
/// And of those so many from one address.
const ANSWERS_PER_ADDRESS_MAX: usize = 4;

const READ_OR_ERROR: Interest = Interest::READABLE.add(Interest::ERROR);

/// A client: one socket towards one server.
///
/// Requests can be made at once from several tasks; how many of them go out at once is
/// [`Config::nstart`]. Dropping the client ends the association as [`Self::close`] does.
#[derive(Debug)]
pub struct CoapClient {
    peer: Option<DtlsPeer>,
    local: SocketAddr,
    commands: mpsc::UnboundedSender<Command>,
    task: tokio::task::JoinHandle<()>,
}

#[derive(Debug)]
struct Command {
    request: Request,
    answer: oneshot::Sender<Result<Response, Error>>,
}

impl CoapClient {
    /// Connects with DTLS. The server's certificates are for the caller to judge, see
    /// [`Self::peer`]: nothing else than the possession of their key is proven.
    ///
    /// # Errors
    /// [`Error::Connect`] when nobody listens there, [`Error::Handshake`] when the handshake
    /// fails, [`Error::HandshakeTimeout`] when it is not done within [`HANDSHAKE_TIME_MAX`].
    pub async fn connect(to: SocketAddr, dtls: &ClientConfig, coap: Config) -> Result<Self, Error> {
        Self::connect_within(HANDSHAKE_TIME_MAX, to, dtls, coap).await
    }

    /// Connects with DTLS within a time.
    ///
    /// # Errors
    /// As [`Self::connect`].
    pub async fn connect_within(
        limit: Duration,
        to: SocketAddr,
        dtls: &ClientConfig,
        coap: Config,
    ) -> Result<Self, Error> {
        let socket = socket::connected(to).await?;
        let mut line = Line::new(socket, coap, Name::session(0));
        line.session = Some(Session::client(dtls, line.now())?);
        tokio::time::timeout(limit, line.handshake(to))
            .await
            .map_err(|_| Error::HandshakeTimeout(limit))??;
        let session = line.session.as_ref();
        if let Some(exponent) = session.and_then(|session| block_exponent(session.payload_max())) {
            line.endpoint.limit_blocks(&line.name, exponent);
        }
        let peer = session.and_then(|session| Some(DtlsPeer::of(session.peer()?, session.id())));
        Self::start(line, peer)
    }

    /// A client in the clear.
    ///
    /// # Errors
    /// [`Error::Bind`] or [`Error::Connect`] when there is no socket to be had.
    pub async fn open(to: SocketAddr, coap: Config) -> Result<Self, Error> {
        let socket = socket::connected(to).await?;
        Self::start(Line::new(socket, coap, Name::address(to)), None)
    }

    fn start(line: Line, peer: Option<DtlsPeer>) -> Result<Self, Error> {
        let local = line.socket.local_addr().map_err(|error| lost(&error))?;
        let (commands, queue) = mpsc::unbounded_channel();
        Ok(Self {
            peer,
            local,
            commands,
            task: tokio::spawn(line.run(queue)),
        })
    }

    /// The server, as DTLS shows it; `None` in the clear.
    #[must_use]
    pub fn peer(&self) -> Option<&DtlsPeer> {
        self.peer.as_ref()
    }

    /// Our address.
    #[must_use]
    pub fn local_address(&self) -> SocketAddr {
        self.local
    }

    /// Asks, and waits for the answer, whatever its code.
    ///
    /// # Errors
    /// [`Error::Exchange`] when none came, or none that can be used; [`Error::Closed`] when the
    /// association has ended.
    pub async fn request(&self, request: Request) -> Result<Response, Error> {
        let gone = || Error::Closed("the association has ended".to_owned());
        let (answer, answered) = oneshot::channel();
        self.commands
            .send(Command { request, answer })
            .map_err(|_| gone())?;
        answered.await.map_err(|_| gone())?
    }

    /// Ends the association and waits until the peer was told.
    pub async fn close(self) {
        drop(self.commands);
        // The task does not panic by itself; if it was aborted there is nobody left to tell.
        let _ = self.task.await;
    }
}

/// Asks everybody who listens at a multicast address, and collects answers for `wait`. The
/// interface is named where the system should not choose it.
///
/// # Errors
/// [`Error::Bind`], [`Error::Name`] or [`Error::Connect`] when the request cannot be sent.
pub async fn discover_multicast(
    group: SocketAddr,
    interface: Option<&str>,
    request: Request,
    wait: Duration,
) -> Result<Vec<(SocketAddr, Response)>, Error> {
    let (socket, group) = socket::towards_group(group, interface)?;
    let config = Config {
        response_wait: wait,
        ..Config::default()
    };
    let name = Name::address(group);
    let mut line = Line::new(socket, config, name);
    line.endpoint.request_multicast(line.now(), &name, request);
    let mut found = Vec::new();
    let mut buffer = vec![0; socket::DATAGRAM_MAX];
    loop {
        while let Some(transmit) = line.endpoint.transmit() {
            if let Named::Address(to) = transmit.peer.what() {
                let sent = line.socket.send_to(&transmit.datagram, to).await;
                if to == group {
                    sent.map_err(|error| Error::Connect {
                        target: to.to_string(),
                        reason: error.to_string(),
                    })?;
                }
            }
        }
        while let Some(event) = line.endpoint.event() {
            match event {
                Event::Response { peer, response, .. } => {
                    if let Named::Address(from) = peer.what() {
                        take_answer(&mut found, from, response);
                    }
                }
                // Its time is over.
                Event::Failed { .. } => return Ok(found),
                Event::Request { exchange, .. } => {
                    let refusal = Response::new(Code::NOT_FOUND);
                    line.endpoint.respond(line.now(), exchange, refusal);
                }
            }
        }
        let deadline = line.deadline();
        tokio::select! {
            received = line.socket.recv_from(&mut buffer) => {
                if let Ok((length, from)) = received {
                    let datagram = buffer.get(..length).unwrap_or_default();
                    let now = line.now();
                    line.endpoint.receive(now, &Name::address(from), Via::Open, datagram);
                }
            }
            () = deadline => line.advance(),
        }
    }
}

fn take_answer(found: &mut Vec<(SocketAddr, Response)>, from: SocketAddr, response: Response) {
    let same = found.iter().filter(|(known, _)| known.ip() == from.ip());
    if same.count() < ANSWERS_PER_ADDRESS_MAX && found.len() < ANSWERS_MAX {
        found.push((from, response));
    }
}

fn lost(error: &io::Error) -> Error {
    Error::Closed(error.to_string())
}

thread_local! {
    /// Clients are many, and each reads for a moment only.
    static BUFFER: RefCell<Vec<u8>> = RefCell::new(vec![0; socket::DATAGRAM_MAX]);
}

/// A socket and what is spoken over it.
struct Line {
    socket: UdpSocket,
    session: Option<Session>,
    endpoint: Endpoint<Name>,
    name: Name,
    start: Instant,
    waiting: HashMap<Handle, oneshot::Sender<Result<Response, Error>>>,
}

impl Line {
    fn new(socket: UdpSocket, config: Config, name: Name) -> Self {
        Self {
            socket,
            session: None,
            endpoint: Endpoint::new(config, rand::random::<u64>),
            name,
            start: Instant::now(),
            waiting: HashMap::new(),
        }
    }

    fn now(&self) -> Moment {
        self.start.elapsed()
    }

    /// Comes when [`Self::advance`] is to be called.
    fn deadline(&self) -> impl Future<Output = ()> + use<> {
        let session = self.session.as_ref().and_then(Session::deadline);
        let next = [session, self.endpoint.deadline()]
            .into_iter()
            .flatten()
            .min()
            .map(|next| self.start + next);
        async move {
            match next {
                Some(next) => tokio::time::sleep_until(next).await,
                None => std::future::pending().await,
            }
        }
    }

    fn advance(&mut self) {
        let now = self.now();
        if let Some(session) = &mut self.session
            && session.deadline().is_some_and(|at| at <= now)
        {
            session.advance(now);
        }
        self.endpoint.advance(now);
    }

    async fn handshake(&mut self, to: SocketAddr) -> Result<(), Error> {
        loop {
            self.flush().await;
            match self.session.as_ref().map(Session::state) {
                Some(State::Established) => return Ok(()),
                Some(State::Closed(reason)) => return Err(Error::Handshake(reason.to_string())),
                _ => {}
            }
            let deadline = self.deadline();
            tokio::select! {
                ready = self.socket.ready(READ_OR_ERROR) => {
                    ready.and_then(|_| self.read()).map_err(|error| Error::Connect {
                        target: to.to_string(),
                        reason: error.to_string(),
                    })?;
                }
                () = deadline => self.advance(),
            }
        }
    }

    async fn run(mut self, mut commands: mpsc::UnboundedReceiver<Command>) {
        loop {
            self.settle();
            self.flush().await;
            if self.session.as_ref().is_some_and(Session::is_closed) {
                break;
            }
            let deadline = self.deadline();
            tokio::select! {
                ready = self.socket.ready(READ_OR_ERROR) => {
                    // The network says that an earlier datagram did not arrive; the peer may be
                    // back for the next one.
                    let _ = ready.and_then(|_| self.read());
                }
                () = deadline => self.advance(),
                command = commands.recv() => match command {
                    Some(command) => self.ask(command),
                    None => break,
                },
            }
        }
        if let Some(session) = &mut self.session {
            session.close();
        }
        self.flush().await;
        self.endpoint.forget(&self.name);
        self.settle();
    }

    fn ask(&mut self, command: Command) {
        let now = self.now();
        let handle = self.endpoint.request(now, &self.name, command.request);
        self.waiting.insert(handle, command.answer);
    }

    /// Reads what is there.
    fn read(&mut self) -> io::Result<()> {
        // What the network reports is to be asked for by itself, or it is found by chance.
        let error = self.socket.try_io(Interest::ERROR, || {
            let error = self.socket.take_error()?;
            error.ok_or_else(|| io::ErrorKind::WouldBlock.into())
        });
        if let Ok(error) = error {
            return Err(error);
        }
        BUFFER.with_borrow_mut(|buffer| {
            for _ in 0..READ_AT_ONCE {
                match self.socket.try_recv(buffer) {
                    Ok(length) => self.receive(buffer.get(..length).unwrap_or_default()),
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                    Err(error) => return Err(error),
                }
            }
            Ok(())
        })
    }

    fn receive(&mut self, datagram: &[u8]) {
        let now = self.now();
        let Some(session) = &mut self.session else {
            self.endpoint.receive(now, &self.name, Via::Open, datagram);
            return;
        };
        // What is wrong with it shows in the state.
        let _ = session.receive(now, datagram);
        while let Some(message) = session.read() {
            self.endpoint
                .receive(now, &self.name, Via::Secured, &message);
        }
    }

    /// Hands out what came.
    fn settle(&mut self) {
        while let Some(event) = self.endpoint.event() {
            let (handle, result) = match event {
                Event::Response {
                    handle, response, ..
                } => (handle, Ok(response)),
                Event::Failed {
                    handle, failure, ..
                } => (handle, Err(failed(failure))),
                Event::Request { exchange, .. } => {
                    let refusal = Response::new(Code::NOT_FOUND);
                    self.endpoint.respond(self.now(), exchange, refusal);
                    continue;
                }
            };
            if let Some(answer) = self.waiting.remove(&handle) {
                // Whoever asked may have gone away.
                let _ = answer.send(result);
            }
        }
    }

    /// Sends what is to be sent. What the system does not take is as if it were lost.
    async fn flush(&mut self) {
        let now = self.now();
        while let Some(transmit) = self.endpoint.transmit() {
            match &mut self.session {
                Some(session) => {
                    // What cannot be sent shows in the state; CoAP sends it again.
                    let _ = session.send(now, &transmit.datagram);
                }
                None => {
                    let _ = self.socket.send(&transmit.datagram).await;
                }
            }
        }
        if let Some(session) = &mut self.session {
            while let Some(datagram) = session.transmit() {
                let _ = self.socket.send(&datagram).await;
            }
        }
    }
}

fn failed(failure: Failure) -> Error {
    match failure {
        Failure::Gone => Error::Closed("the peer ended the association".to_owned()),
        failure => Error::Exchange(failure),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_that_answers_all_the_time_leaves_room_for_others() {
        let mut found = Vec::new();
        let mut answer = |host: u8, port| {
            let from = SocketAddr::from(([192, 0, 2, host], port));
            take_answer(&mut found, from, Response::new(Code::CONTENT));
            found.len()
        };
        assert_eq!((0..1000).map(|port| answer(1, port)).max(), Some(4));
        assert_eq!(answer(2, 1), 5);
        let all = (0..=255).flat_map(|host| [(host, 1), (host, 2)]);
        assert_eq!(all.map(|(host, port)| answer(host, port)).max(), Some(256));
    }
}
