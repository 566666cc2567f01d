//! Connections that do nothing.

use std::net::SocketAddr;

use net::HttpVersion;
use net::client::{ClientConfig, Connection, Target};
use pki::Identity;

use crate::process::Server;
use crate::report::Memory;

/// Opens idle connections and says what each costs the server.
///
/// # Errors
/// If a connection cannot be made.
pub async fn idle(
    server: &Server,
    address: SocketAddr,
    identity: &Identity,
    http: HttpVersion,
    count: usize,
) -> anyhow::Result<Memory> {
    let config = ClientConfig {
        identity: Some(identity.clone()),
        http,
        ..ClientConfig::default()
    };
    let target = Target::from_address(address);
    let before = server.memory()?;
    let mut open = Vec::with_capacity(count);
    for _ in 0..count {
        open.push(Connection::open(&target, &config).await?);
    }
    // A request on the last one: once it is answered, the server is through with all of them.
    if let Some(last) = open.last_mut() {
        let headers = http::HeaderMap::new();
        last.request(http::Method::GET, "/", headers, bytes::Bytes::new())
            .await?;
    }
    let after = server.memory()?;
    let growth = f64::from(u32::try_from(after.saturating_sub(before) / 1024)?);
    Ok(Memory {
        transport: http.to_string(),
        connections: count,
        kib_per_connection: growth / f64::from(u32::try_from(count)?),
    })
}
