//! Listener and client over real sockets on loopback.

mod client;
mod coap_dtls;
mod coap_foreign;
mod coap_open;
mod coap_support;
mod dtls;
mod dtls13;
mod dtls_hello;
mod dtls_lossy;
mod dtls_openssl;
mod dtls_random;
mod dtls_support;
mod limits;
mod matrix;
mod outside;
mod support;
mod token;
mod trust;
