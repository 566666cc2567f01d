//! The service manager's notification socket (`sd_notify`), when there is one.

use std::os::unix::net::UnixDatagram;

/// Tells systemd that the server is ready. Does nothing without `NOTIFY_SOCKET`.
pub fn ready() {
    send("READY=1");
}

/// Tells systemd that the server is on its way out.
pub fn stopping() {
    send("STOPPING=1");
}

fn send(state: &str) {
    let Some(path) = std::env::var_os("NOTIFY_SOCKET") else {
        return;
    };
    if let Err(error) = send_to(&path, state) {
        tracing::warn!(%error, "cannot notify the service manager");
    }
}

fn send_to(path: &std::ffi::OsStr, state: &str) -> std::io::Result<()> {
    use std::os::linux::net::SocketAddrExt;
    use std::os::unix::ffi::OsStrExt;
    use std::os::unix::net::SocketAddr;

    let socket = UnixDatagram::unbound()?;
    // A leading @ stands for the abstract namespace.
    let address = match path.as_bytes().split_first() {
        Some((b'@', name)) => SocketAddr::from_abstract_name(name)?,
        _ => SocketAddr::from_pathname(path)?,
    };
    socket.send_to_addr(state.as_bytes(), &address).map(|_| ())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_state_arrives_at_the_socket() {
        let directory = tempfile::tempdir().expect("a temporary folder");
        let path = directory.path().join("notify");
        let manager = UnixDatagram::bind(&path).expect("a socket");
        send_to(path.as_os_str(), "READY=1").expect("sent");
        let mut buffer = [0; 32];
        let length = manager.recv(&mut buffer).expect("received");
        assert_eq!(buffer.get(..length), Some(b"READY=1".as_slice()));
    }
}
