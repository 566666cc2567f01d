//! OpenSSL contexts: everything that is the same for many associations.

use std::sync::LazyLock;

use openssl::ex_data::Index;
use openssl::pkey::{Id, PKey};
use openssl::ssl::{
    ExtensionContext, Ssl, SslAlert, SslContext, SslContextBuilder, SslMethod, SslOptions,
    SslSessionCacheMode, SslVerifyMode, SslVersion,
};
use openssl::x509::{X509, X509Ref, X509StoreContextRef};
use pki::Identity;

use super::client_hello::RECORD_SIZE_LIMIT;
use super::{ClientConfig, Error, ServerConfig, Suite, Version};

/// The smallest and the largest datagram that OpenSSL makes a handshake of.
const MTU_RANGE: std::ops::RangeInclusive<usize> = 256..=4096;

/// The smallest record limit that OpenSSL's handshake fragments can be held under.
pub(super) const RECORD_LIMIT_MIN: usize = 256 - super::record::HEADER_LENGTH;

/// What the other side said by `record_size_limit`.
pub(super) static PEER_RECORD_LIMIT: LazyLock<Option<Index<Ssl, u16>>> =
    LazyLock::new(|| Ssl::new_ex_index().ok());

/// Whether the ClientHello also had `max_fragment_length`, which then is the one that counts.
pub(super) static HAS_FRAGMENT_LENGTH: LazyLock<Option<Index<Ssl, bool>>> =
    LazyLock::new(|| Ssl::new_ex_index().ok());

/// The largest RSA keys that are taken; aws-lc, which the services verify with, takes no larger ones
/// either.
const RSA_MODULUS_BITS_MAX: i32 = 8192;
const RSA_EXPONENT_BITS_MAX: i32 = 33;

const GROUPS: &str = "P-256:X25519:P-384";
const SIGNATURES: &str = "ECDSA+SHA256:ECDSA+SHA384:ECDSA+SHA512:ed25519:\
    rsa_pss_rsae_sha256:rsa_pss_rsae_sha384:RSA+SHA256:RSA+SHA384";

fn is_rsa(identity: &Identity) -> bool {
    use pki::SignatureAlgorithm as S;
    matches!(
        identity.signer.algorithm(),
        S::RsaPkcs1Sha256
            | S::RsaPkcs1Sha384
            | S::RsaPkcs1Sha512
            | S::RsaPssSha256
            | S::RsaPssSha384
            | S::RsaPssSha512
    )
}

/// One identity of a server, ready for use.
pub(super) struct ServerContext {
    pub(super) context: SslContext,
    pub(super) suites: Vec<Suite>,
    pub(super) certificate: pki::Certificate,
}

/// A context for each identity.
pub(super) fn server(config: &ServerConfig) -> Result<Vec<ServerContext>, Error> {
    check_mtu(config.mtu)?;
    let mut contexts: Vec<ServerContext> = Vec::new();
    if !config.versions.contains(&Version::Dtls12) {
        return Ok(contexts);
    }
    let mut kinds = Vec::new();
    for identity in &config.identities {
        let rsa = is_rsa(identity);
        if kinds.contains(&rsa) {
            return Err(Error::Identity(
                "two identities with the same kind of key".to_owned(),
            ));
        }
        kinds.push(rsa);
        let suites: Vec<Suite> = config
            .suites
            .iter()
            .copied()
            .filter(|suite| suite.needs_rsa() == rsa && !suite.is_of_1_3())
            .collect();
        if suites.is_empty() {
            continue;
        }
        let mut builder = builder(SslMethod::dtls_server(), &suites, Some(identity))?;
        let mut mode = SslVerifyMode::PEER;
        if config.require_client_certificate {
            mode |= SslVerifyMode::FAIL_IF_NO_PEER_CERT;
        }
        // Possession of the key is proven by OpenSSL; whom to trust is judged by the services.
        builder.set_verify_callback(mode, |_, chain| is_cheap(chain));
        builder.set_options(SslOptions::COOKIE_EXCHANGE | SslOptions::CIPHER_SERVER_PREFERENCE);
        // The cookie was checked before the OpenSSL object was made. It only has to go through the
        // same two messages as the client did.
        builder.set_cookie_generate_cb(|_, cookie| match cookie.first_mut() {
            Some(first) => {
                *first = 1;
                Ok(1)
            }
            None => Err(openssl::error::ErrorStack::get()),
        });
        builder.set_cookie_verify_cb(|_, _| true);
        add_record_limit(&mut builder, None)?;
        let certificate = identity
            .certificate()
            .cloned()
            .ok_or_else(|| Error::Identity("no certificate".to_owned()))?;
        contexts.push(ServerContext {
            context: builder.build(),
            suites,
            certificate,
        });
    }
    Ok(contexts)
}

/// Whether what OpenSSL looks at has a key that costs no more than keys of devices and CAs do. It
/// asks for each certificate before it computes anything with its key. An RSA key whose exponent is
/// as long as its modulus costs a thousand times as much to verify with.
fn is_cheap(chain: &X509StoreContextRef) -> bool {
    let key = chain.current_cert().map(X509Ref::public_key);
    let Some(Ok(key)) = key else {
        // Nothing can be computed with it.
        return true;
    };
    match key.rsa() {
        Ok(rsa) => {
            rsa.n().num_bits() <= RSA_MODULUS_BITS_MAX
                && rsa.e().num_bits() <= RSA_EXPONENT_BITS_MAX
        }
        Err(_) => !matches!(key.id(), Id::DSA | Id::DH | Id::DHX),
    }
}

/// The context of one client.
pub(super) fn client(config: &ClientConfig) -> Result<SslContext, Error> {
    check_mtu(config.mtu)?;
    if config.suites.iter().all(|suite| suite.is_of_1_3()) {
        return Err(Error::Config("no suite of DTLS 1.2".to_owned()));
    }
    let mut builder = builder(
        SslMethod::dtls_client(),
        &config.suites,
        config.identity.as_ref(),
    )?;
    // The chain is shown to the caller, who judges it: provisionally at first.
    builder.set_verify_callback(SslVerifyMode::PEER, |_, chain| is_cheap(chain));
    if let Some(limit) = config.record_limit {
        if usize::from(limit) < 64 {
            return Err(Error::Config("record limit below 64".to_owned()));
        }
        add_record_limit(&mut builder, Some(limit))?;
    }
    Ok(builder.build())
}

fn check_mtu(mtu: usize) -> Result<(), Error> {
    if MTU_RANGE.contains(&mtu) {
        return Ok(());
    }
    Err(Error::Config(format!(
        "MTU of {mtu}, which is not within {} to {}",
        MTU_RANGE.start(),
        MTU_RANGE.end()
    )))
}

fn builder(
    method: SslMethod,
    suites: &[Suite],
    identity: Option<&Identity>,
) -> Result<SslContextBuilder, Error> {
    let mut builder = SslContextBuilder::new(method)?;
    // DTL-030, DTL-031: nothing below DTLS 1.2.
    builder.set_min_proto_version(Some(SslVersion::DTLS1_2))?;
    builder.set_max_proto_version(Some(SslVersion::DTLS1_2))?;
    // OpenSSL counts a tag of 64 bits as 64 bits of security, below its level 1. Groups and
    // signatures are listed here, so the level decides about nothing else.
    if suites.iter().any(|suite| suite.has_short_tag()) {
        builder.set_security_level(0);
    }
    let names: Vec<&str> = suites
        .iter()
        .filter_map(|suite| suite.openssl_name())
        .collect();
    builder.set_cipher_list(&names.join(":"))?;
    builder.set_groups_list(GROUPS)?;
    builder.set_sigalgs_list(SIGNATURES)?;
    // DTL-020: renegotiation is refused. DTL-046, DTL-047: nothing is resumed, so no session has
    // another identity than the one that was proven in its own handshake.
    builder.set_options(
        SslOptions::NO_RENEGOTIATION
            | SslOptions::NO_TICKET
            | SslOptions::NO_COMPRESSION
            | SslOptions::NO_QUERY_MTU,
    );
    builder.set_session_cache_mode(SslSessionCacheMode::OFF);
    // OpenSSL verifies the signatures of a chain although nobody asks what came of it. It is not to
    // go up further than it has to.
    builder.set_verify_depth(0);
    if let Some(identity) = identity {
        set_identity(&mut builder, identity)?;
    }
    Ok(builder)
}

fn set_identity(builder: &mut SslContextBuilder, identity: &Identity) -> Result<(), Error> {
    let unusable = |error: openssl::error::ErrorStack| Error::Identity(error.to_string());
    let key = identity.signer.to_pkcs8().ok_or_else(|| {
        Error::Identity("the private key cannot leave its token, and OpenSSL needs it".to_owned())
    })?;
    let key = PKey::private_key_from_pkcs8(&key).map_err(unusable)?;
    let mut chain = identity.chain.iter();
    let leaf = chain
        .next()
        .ok_or_else(|| Error::Identity("no certificate".to_owned()))?;
    let leaf = X509::from_der(leaf.der()).map_err(unusable)?;
    builder.set_certificate(&leaf).map_err(unusable)?;
    builder.set_private_key(&key).map_err(unusable)?;
    builder.check_private_key().map_err(unusable)?;
    for certificate in chain {
        let certificate = X509::from_der(certificate.der()).map_err(unusable)?;
        builder
            .add_extra_chain_cert(certificate)
            .map_err(unusable)?;
    }
    Ok(())
}

/// `record_size_limit`: a client asks for its own; a server answers a client that has it, unless
/// OpenSSL answers `max_fragment_length` to the same client.
fn add_record_limit(builder: &mut SslContextBuilder, ours: Option<u16>) -> Result<(), Error> {
    builder.add_custom_ext(
        RECORD_SIZE_LIMIT,
        ExtensionContext::CLIENT_HELLO | ExtensionContext::TLS1_2_SERVER_HELLO,
        move |ssl, _, _| -> Result<Option<[u8; 2]>, SslAlert> {
            let both = HAS_FRAGMENT_LENGTH
                .as_ref()
                .and_then(|index| ssl.ex_data(*index).copied())
                .unwrap_or(false);
            if both {
                return Ok(None);
            }
            Ok(Some(ours.unwrap_or(1 << 14).to_be_bytes()))
        },
        |ssl, _, content, _| {
            let limit: [u8; 2] = content.try_into().map_err(|_| SslAlert::DECODE_ERROR)?;
            let limit = u16::from_be_bytes(limit);
            // DTL-026: a limit below 64 is not allowed.
            if limit < 64 {
                return Err(SslAlert::ILLEGAL_PARAMETER);
            }
            if let Some(index) = *PEER_RECORD_LIMIT {
                ssl.set_ex_data(index, limit);
            }
            Ok(())
        },
    )?;
    Ok(())
}
