//! What the machine can do at all: signatures, handshakes and durable writes, one core each.

use std::io::Write;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context;
use pki::{KeyKind, SignatureAlgorithm, Signer, SoftwareKey};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, ServerName};

/// Rates of one core.
#[derive(Clone, Copy, Debug, serde::Serialize)]
pub struct Raw {
    /// P-256 signatures in a second.
    pub p256_signs: f64,
    /// P-256 verifications in a second.
    pub p256_verifies: f64,
    /// Mutual TLS 1.3 handshakes in a second, both ends on the core.
    pub tls13_mutual_handshakes: f64,
    /// Median time of a 4 KiB write with fsync, in milliseconds.
    pub fsync_ms: f64,
}

fn rate(time: Duration, mut work: impl FnMut() -> anyhow::Result<()>) -> anyhow::Result<f64> {
    let started = Instant::now();
    let mut count = 0_u32;
    while started.elapsed() < time {
        for _ in 0..10 {
            work()?;
        }
        count += 10;
    }
    Ok(f64::from(count) / started.elapsed().as_secs_f64())
}

/// Measures everything for about this time each.
///
/// # Errors
/// If a key or a file does not work.
pub fn measure(time: Duration, folder: &Path) -> anyhow::Result<Raw> {
    let key = SoftwareKey::generate(KeyKind::EcdsaP256)?;
    let message = [7_u8; 1000];
    let signature = key.sign(&message)?;
    let p256_signs = rate(time, || Ok(key.sign(&message).map(|_| ())?))?;
    let p256_verifies = rate(time, || {
        let algorithm = SignatureAlgorithm::EcdsaP256Sha256;
        Ok(key.public_key().verify(algorithm, &message, &signature)?)
    })?;
    let server = End::new("server")?;
    let client = End::new("client")?;
    let (server, client) = (server.server()?, client.client()?);
    let tls13_mutual_handshakes = rate(time, || handshake(&server, &client))?;
    Ok(Raw {
        p256_signs,
        p256_verifies,
        tls13_mutual_handshakes,
        fsync_ms: fsync(folder)?,
    })
}

fn fsync(folder: &Path) -> anyhow::Result<f64> {
    let path = folder.join("fsync");
    let mut file = std::fs::File::create(&path)?;
    let mut times = Vec::new();
    for _ in 0..100 {
        let started = Instant::now();
        file.write_all(&[0; 4096])?;
        file.sync_data()?;
        times.push(started.elapsed().as_secs_f64() * 1000.0);
    }
    std::fs::remove_file(path)?;
    Ok(crate::report::median(&times))
}

struct End {
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
}

impl End {
    fn new(name: &str) -> anyhow::Result<Self> {
        let key = rcgen::KeyPair::generate()?;
        let mut params = rcgen::CertificateParams::new(vec!["localhost".to_owned()])?;
        params
            .distinguished_name
            .push(rcgen::DnType::CommonName, name);
        let certificate = params.self_signed(&key)?;
        let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
        Ok(Self {
            chain: vec![certificate.der().clone()],
            key,
        })
    }

    fn server(self) -> anyhow::Result<Arc<rustls::ServerConfig>> {
        let config = rustls::ServerConfig::builder_with_provider(provider())
            .with_protocol_versions(&[&rustls::version::TLS13])?
            .with_client_cert_verifier(Arc::new(Trusting(schemes())))
            .with_single_cert(self.chain, self.key)?;
        Ok(Arc::new(config))
    }

    fn client(self) -> anyhow::Result<Arc<rustls::ClientConfig>> {
        let mut config = rustls::ClientConfig::builder_with_provider(provider())
            .with_protocol_versions(&[&rustls::version::TLS13])?
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(Trusting(schemes())))
            .with_client_auth_cert(self.chain, self.key)?;
        config.resumption = rustls::client::Resumption::disabled();
        Ok(Arc::new(config))
    }
}

fn provider() -> Arc<rustls::crypto::CryptoProvider> {
    Arc::new(rustls::crypto::aws_lc_rs::default_provider())
}

fn schemes() -> rustls::crypto::WebPkiSupportedAlgorithms {
    provider().signature_verification_algorithms
}

/// One handshake in memory.
fn handshake(
    server: &Arc<rustls::ServerConfig>,
    client: &Arc<rustls::ClientConfig>,
) -> anyhow::Result<()> {
    let name = ServerName::try_from("localhost").context("a name")?;
    let mut client = rustls::ClientConnection::new(Arc::clone(client), name)?;
    let mut server = rustls::ServerConnection::new(Arc::clone(server))?;
    let mut wire = Vec::new();
    while client.is_handshaking() || server.is_handshaking() {
        wire.clear();
        client.write_tls(&mut wire)?;
        let mut rest = wire.as_slice();
        while !rest.is_empty() {
            server.read_tls(&mut rest)?;
            server.process_new_packets()?;
        }
        wire.clear();
        server.write_tls(&mut wire)?;
        let mut rest = wire.as_slice();
        while !rest.is_empty() {
            client.read_tls(&mut rest)?;
            client.process_new_packets()?;
        }
    }
    Ok(())
}

/// Believes every certificate, and checks each signature.
#[derive(Debug)]
struct Trusting(rustls::crypto::WebPkiSupportedAlgorithms);

impl rustls::client::danger::ServerCertVerifier for Trusting {
    fn verify_server_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: rustls::pki_types::UnixTime,
    ) -> Result<rustls::client::danger::ServerCertVerified, rustls::Error> {
        Ok(rustls::client::danger::ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &rustls::DigitallySignedStruct,
    ) -> Result<rustls::client::danger::HandshakeSignatureValid, rustls::Error> {
        rustls::crypto::verify_tls12_signature(message, certificate, signed, &self.0)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &rustls::DigitallySignedStruct,
    ) -> Result<rustls::client::danger::HandshakeSignatureValid, rustls::Error> {
        rustls::crypto::verify_tls13_signature(message, certificate, signed, &self.0)
    }

    fn supported_verify_schemes(&self) -> Vec<rustls::SignatureScheme> {
        self.0.supported_schemes()
    }
}

impl rustls::server::danger::ClientCertVerifier for Trusting {
    fn root_hint_subjects(&self) -> &[rustls::DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _now: rustls::pki_types::UnixTime,
    ) -> Result<rustls::server::danger::ClientCertVerified, rustls::Error> {
        Ok(rustls::server::danger::ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &rustls::DigitallySignedStruct,
    ) -> Result<rustls::client::danger::HandshakeSignatureValid, rustls::Error> {
        rustls::crypto::verify_tls12_signature(message, certificate, signed, &self.0)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &rustls::DigitallySignedStruct,
    ) -> Result<rustls::client::danger::HandshakeSignatureValid, rustls::Error> {
        rustls::crypto::verify_tls13_signature(message, certificate, signed, &self.0)
    }

    fn supported_verify_schemes(&self) -> Vec<rustls::SignatureScheme> {
        self.0.supported_schemes()
    }
}
