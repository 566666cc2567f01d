//! What an association may do and how much of everything.

use std::time::Duration;

use pki::Identity;

/// A version of DTLS.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Version {
    /// DTLS 1.2, by OpenSSL.
    Dtls12,
    /// DTLS 1.3, by dimpl.
    Dtls13,
}

/// A cipher suite with ephemeral keys and authenticated encryption; nothing else is ever
/// negotiated.
// DTL-033: no suite without encryption, without authentication, with RC4, for export or with
// static keys is in this list, so none can be configured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Suite {
    /// `TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256`.
    EcdheEcdsaAes128Gcm,
    /// `TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384`.
    EcdheEcdsaAes256Gcm,
    /// `TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256`.
    EcdheEcdsaChacha20Poly1305,
    /// `TLS_ECDHE_ECDSA_WITH_AES_128_CCM`.
    EcdheEcdsaAes128Ccm,
    /// `TLS_ECDHE_ECDSA_WITH_AES_128_CCM_8`, which every constrained device has with DTLS 1.2.
    EcdheEcdsaAes128Ccm8,
    /// `TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256`, for a server with an RSA certificate.
    EcdheRsaAes128Gcm,
    /// `TLS_AES_128_GCM_SHA256` of DTLS 1.3.
    Aes128Gcm,
    /// `TLS_AES_256_GCM_SHA384` of DTLS 1.3.
    Aes256Gcm,
    /// `TLS_CHACHA20_POLY1305_SHA256` of DTLS 1.3.
    Chacha20Poly1305,
}

impl Suite {
    /// All of them, the best first.
    pub const ALL: [Self; 9] = [
        Self::Aes128Gcm,
        Self::Aes256Gcm,
        Self::Chacha20Poly1305,
        Self::EcdheEcdsaAes128Gcm,
        Self::EcdheEcdsaAes256Gcm,
        Self::EcdheEcdsaChacha20Poly1305,
        Self::EcdheEcdsaAes128Ccm,
        Self::EcdheEcdsaAes128Ccm8,
        Self::EcdheRsaAes128Gcm,
    ];

    /// The name in the IANA registry.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::EcdheEcdsaAes128Gcm => "TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256",
            Self::EcdheEcdsaAes256Gcm => "TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384",
            Self::EcdheEcdsaChacha20Poly1305 => "TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256",
            Self::EcdheEcdsaAes128Ccm => "TLS_ECDHE_ECDSA_WITH_AES_128_CCM",
            Self::EcdheEcdsaAes128Ccm8 => "TLS_ECDHE_ECDSA_WITH_AES_128_CCM_8",
            Self::EcdheRsaAes128Gcm => "TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256",
            Self::Aes128Gcm => "TLS_AES_128_GCM_SHA256",
            Self::Aes256Gcm => "TLS_AES_256_GCM_SHA384",
            Self::Chacha20Poly1305 => "TLS_CHACHA20_POLY1305_SHA256",
        }
    }

    /// The number in the IANA registry.
    #[must_use]
    pub fn number(self) -> u16 {
        match self {
            Self::EcdheEcdsaAes128Gcm => 0xC02B,
            Self::EcdheEcdsaAes256Gcm => 0xC02C,
            Self::EcdheEcdsaChacha20Poly1305 => 0xCCA9,
            Self::EcdheEcdsaAes128Ccm => 0xC0AC,
            Self::EcdheEcdsaAes128Ccm8 => 0xC0AE,
            Self::EcdheRsaAes128Gcm => 0xC02F,
            Self::Aes128Gcm => 0x1301,
            Self::Aes256Gcm => 0x1302,
            Self::Chacha20Poly1305 => 0x1303,
        }
    }

    /// Whether a server needs an RSA certificate for it.
    pub(crate) fn needs_rsa(self) -> bool {
        self == Self::EcdheRsaAes128Gcm
    }

    /// Whether it is of DTLS 1.3.
    pub(crate) fn is_of_1_3(self) -> bool {
        self.openssl_name().is_none()
    }

    /// What OpenSSL calls it, where it has it for DTLS.
    pub(crate) fn openssl_name(self) -> Option<&'static str> {
        match self {
            Self::EcdheEcdsaAes128Gcm => Some("ECDHE-ECDSA-AES128-GCM-SHA256"),
            Self::EcdheEcdsaAes256Gcm => Some("ECDHE-ECDSA-AES256-GCM-SHA384"),
            Self::EcdheEcdsaChacha20Poly1305 => Some("ECDHE-ECDSA-CHACHA20-POLY1305"),
            Self::EcdheEcdsaAes128Ccm => Some("ECDHE-ECDSA-AES128-CCM"),
            Self::EcdheEcdsaAes128Ccm8 => Some("ECDHE-ECDSA-AES128-CCM8"),
            Self::EcdheRsaAes128Gcm => Some("ECDHE-RSA-AES128-GCM-SHA256"),
            Self::Aes128Gcm | Self::Aes256Gcm | Self::Chacha20Poly1305 => None,
        }
    }

    /// Whether a forged record is let through once in 2^64 tries only, and not once in 2^128.
    pub(crate) fn has_short_tag(self) -> bool {
        self == Self::EcdheEcdsaAes128Ccm8
    }
}

/// How a server speaks DTLS.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct ServerConfig {
    /// Certificates with their keys: at most one with a P-256, P-384 or Ed25519 key and one with
    /// an RSA key. The keys must be in this process' memory.
    pub identities: Vec<Identity>,
    /// The versions. The ClientHello chooses; see the module about DTLS 1.3.
    pub versions: Vec<Version>,
    /// The suites, the one to be preferred first. In DTLS 1.3 the client's order counts.
    pub suites: Vec<Suite>,
    /// The largest datagram of a handshake, in bytes of UDP payload: 256 to 4096.
    pub mtu: usize,
    /// Whether a client without certificate fails in the handshake. Without it the service
    /// answers, with a reason.
    pub require_client_certificate: bool,
    /// The largest handshake message that a client may send; a certificate chain counts as one.
    pub handshake_message_bytes_max: usize,
    /// The time from the cookie to the last message of the handshake.
    pub handshake_time: Duration,
    /// With CCM_8: the number of records that may fail authentication before the association is
    /// closed.
    pub forgery_limit: u32,
    /// For how long a cookie is accepted at least; at most twice that.
    pub cookie_time: Duration,
}

impl ServerConfig {
    /// The usual limits.
    #[must_use]
    pub fn new(identities: Vec<Identity>) -> Self {
        Self {
            identities,
            versions: vec![Version::Dtls13, Version::Dtls12],
            suites: Suite::ALL.to_vec(),
            mtu: 1024,
            require_client_certificate: false,
            handshake_message_bytes_max: 16 * 1024,
            handshake_time: Duration::from_secs(90),
            forgery_limit: 1 << 7,
            cookie_time: Duration::from_secs(60),
        }
    }
}

/// How a client speaks DTLS.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct ClientConfig {
    /// The certificate with its key that the client shows when asked for one.
    pub identity: Option<Identity>,
    /// The one version that is offered.
    // CBR-006: a client with DTLS 1.3 offers no other.
    pub version: Version,
    /// The suites, the one to be preferred first.
    pub suites: Vec<Suite>,
    /// The largest datagram of a handshake, in bytes of UDP payload: 256 to 4096.
    pub mtu: usize,
    /// The host name to ask for (SNI). Pledges ask for none.
    pub server_name: Option<String>,
    /// The largest record that this client can take, in bytes of plaintext, told to the server by
    /// `record_size_limit` ([RFC 8449](https://www.rfc-editor.org/rfc/rfc8449.html)). At least 64.
    pub record_limit: Option<u16>,
    /// The largest handshake message that the server may send.
    pub handshake_message_bytes_max: usize,
    /// The time from the first ClientHello to the last message of the handshake.
    pub handshake_time: Duration,
    /// With CCM_8: the number of records that may fail authentication before the association is
    /// closed.
    pub forgery_limit: u32,
}

impl ClientConfig {
    /// The usual limits, and every suite.
    #[must_use]
    pub fn new(identity: Option<Identity>) -> Self {
        Self {
            identity,
            version: Version::Dtls12,
            suites: Suite::ALL.to_vec(),
            mtu: 1024,
            server_name: None,
            record_limit: None,
            handshake_message_bytes_max: 16 * 1024,
            handshake_time: Duration::from_secs(90),
            forgery_limit: 1 << 7,
        }
    }

    /// As a device with little memory is: CCM_8 only, datagrams and records of 512 bytes.
    #[must_use]
    pub fn small(identity: Option<Identity>) -> Self {
        Self {
            suites: vec![Suite::EcdheEcdsaAes128Ccm8],
            mtu: 512,
            record_limit: Some(512),
            ..Self::new(identity)
        }
    }
}
