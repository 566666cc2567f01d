//! Asking a registrar for a sign of life over UDP, for `usher proxy doctor`.

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use coap::jpy::Jpy;
use tokio::net::UdpSocket;
use tokio::time::timeout;

use crate::target::Service;

const HEADER: &[u8] = b"doctor";
/// Content types of DTLS records that answer a ClientHello.
const ALERT: u8 = 21;
const HANDSHAKE: u8 = 22;

/// Sends a ClientHello, wrapped as a stateless proxy does it or as it is, and waits for DTLS.
pub(crate) async fn ask(
    service: Service,
    registrar: SocketAddr,
    wait: Duration,
) -> Result<String, String> {
    let any: SocketAddr = match registrar {
        SocketAddr::V4(_) => (Ipv4Addr::UNSPECIFIED, 0).into(),
        SocketAddr::V6(_) => (Ipv6Addr::UNSPECIFIED, 0).into(),
    };
    let text = |error: std::io::Error| error.to_string();
    let socket = UdpSocket::bind(any).await.map_err(text)?;
    socket.connect(registrar).await.map_err(text)?;
    let own = socket.local_addr().map_err(text)?.ip();
    let hello = client_hello();
    let message = match service {
        Service::Jpy => Jpy {
            header: HEADER,
            content: &hello,
        }
        .encode(),
        Service::Coaps | Service::Https => hello,
    };
    socket.send(&message).await.map_err(text)?;
    let mut buffer = vec![0; 65_536];
    let length = timeout(wait, socket.recv(&mut buffer))
        .await
        .map_err(|_| format!("no answer to {own} within {wait:?}"))?
        .map_err(text)?;
    judge(service, buffer.get(..length).unwrap_or_default())?;
    Ok(format!("{registrar} answers DTLS to {own}"))
}

fn judge(service: Service, answer: &[u8]) -> Result<(), String> {
    let content = match service {
        Service::Jpy => {
            let jpy = Jpy::decode(answer).map_err(|error| error.to_string())?;
            if jpy.header != HEADER {
                return Err("it does not give the header back as it came".to_owned());
            }
            jpy.content
        }
        Service::Coaps | Service::Https => answer,
    };
    match content.first() {
        Some(&(ALERT | HANDSHAKE)) => Ok(()),
        _ => Err("what it answers is not DTLS".to_owned()),
    }
}

/// A ClientHello of DTLS 1.2 with the suite that every registrar has,
/// TLS_ECDHE_ECDSA_WITH_AES_128_CCM_8, and its GCM sister. Nobody goes on from it, so its random
/// bytes need not be random.
fn client_hello() -> Vec<u8> {
    let extensions = [
        // Groups: secp256r1; point formats: uncompressed; signatures: ecdsa_secp256r1_sha256.
        [0, 10, 0, 4, 0, 2, 0, 23].as_slice(),
        &[0, 11, 0, 2, 1, 0],
        &[0, 13, 0, 4, 0, 2, 4, 3],
    ]
    .concat();
    let mut body = vec![0xfe, 0xfd];
    body.extend([0x55; 32]);
    // No session, no cookie.
    body.extend([0, 0]);
    body.extend([0, 4, 0xc0, 0xae, 0xc0, 0x2b]);
    body.extend([1, 0]);
    body.extend(two_bytes(extensions.len()));
    body.extend(extensions);
    let mut out = vec![HANDSHAKE, 0xfe, 0xff, 0, 0, 0, 0, 0, 0, 0, 0];
    out.extend(two_bytes(body.len() + 12));
    out.extend([1, 0]);
    out.extend(two_bytes(body.len()));
    out.extend([0, 0, 0, 0, 0, 0]);
    out.extend(two_bytes(body.len()));
    out.extend(body);
    out
}

/// A length as two bytes; nothing here is longer.
fn two_bytes(length: usize) -> [u8; 2] {
    u16::try_from(length).unwrap_or(u16::MAX).to_be_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_judged() {
        let wrapped = |header: &[u8], content: &[u8]| Jpy { header, content }.encode();
        assert!(judge(Service::Coaps, &[22, 0xfe, 0xff]).is_ok());
        assert!(judge(Service::Coaps, b"HTTP").is_err());
        assert!(judge(Service::Jpy, &wrapped(HEADER, &[22])).is_ok());
        assert!(judge(Service::Jpy, &wrapped(b"other", &[22])).is_err());
        assert!(judge(Service::Jpy, &[22, 0xfe, 0xff]).is_err());
        let hello = client_hello();
        assert_eq!(usize::from(hello[12]) + 13, hello.len());
    }
}
