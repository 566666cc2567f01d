//! A connection for what is not HTTP, such as syslog: TCP, or TLS with the same trust.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::trust::rustls_config;
use super::wire::{connect, handshake_error, resolve, server_name};
use super::{ClientConfig, Target};
use crate::Error;

/// Octets both ways. Dropping it closes it; `shutdown` says to the peer that nothing follows.
pub struct Stream(Inner);

enum Inner {
    Plain(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
}

impl Stream {
    /// Connects, and shakes hands if the target is secure. No protocol is negotiated by ALPN.
    ///
    /// # Errors
    /// Why there is no connection; [`Error::Untrusted`] when the server is not believed.
    pub async fn open(target: &Target, config: &ClientConfig) -> Result<Self, Error> {
        let deadline = Instant::now() + config.limits.connect_time_max;
        let addresses = resolve(target, config, deadline).await?;
        let tcp = connect(target, config, &addresses, deadline).await?;
        if !target.secure {
            return Ok(Self(Inner::Plain(tcp)));
        }
        let (mut rustls, judge) = rustls_config(&target.host, config)?;
        rustls.alpn_protocols.clear();
        let connector = TlsConnector::from(Arc::new(rustls));
        let connecting = Box::pin(connector.connect(server_name(&target.host)?, tcp));
        let limit = config.limits.handshake_time_max;
        let stream = timeout(limit, connecting)
            .await
            .map_err(|_| Error::HandshakeTimeout(limit))?
            .map_err(|error| handshake_error(&judge, &error))?;
        Ok(Self(Inner::Tls(Box::new(stream))))
    }
}

impl std::fmt::Debug for Stream {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self.0 {
            Inner::Plain(_) => "Stream(plain)",
            Inner::Tls(_) => "Stream(tls)",
        })
    }
}

impl AsyncRead for Stream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<std::io::Result<()>> {
        match &mut self.0 {
            Inner::Plain(stream) => Pin::new(stream).poll_read(context, buffer),
            Inner::Tls(stream) => Pin::new(stream).poll_read(context, buffer),
        }
    }
}

impl AsyncWrite for Stream {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<std::io::Result<usize>> {
        match &mut self.0 {
            Inner::Plain(stream) => Pin::new(stream).poll_write(context, bytes),
            Inner::Tls(stream) => Pin::new(stream).poll_write(context, bytes),
        }
    }

    fn poll_flush(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<std::io::Result<()>> {
        match &mut self.0 {
            Inner::Plain(stream) => Pin::new(stream).poll_flush(context),
            Inner::Tls(stream) => Pin::new(stream).poll_flush(context),
        }
    }

    fn poll_shutdown(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<std::io::Result<()>> {
        match &mut self.0 {
            Inner::Plain(stream) => Pin::new(stream).poll_shutdown(context),
            Inner::Tls(stream) => Pin::new(stream).poll_shutdown(context),
        }
    }
}
