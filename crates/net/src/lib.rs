//! Listeners and clients: TLS, HTTP/1.1, HTTP/2 and HTTP/3, with every limit on a peer.
