//! A manufacturer and an owner out of nothing: every key and certificate that a BRSKI exchange needs,
//! and the wrong ones that have to be refused.

use std::sync::Arc;

use aws_lc_rs::rand;
use pki::issue::{AltName, CertificateBuilder, Profile, name};
use pki::path::Anchors;
use pki::{Certificate, Error, Identity, KeyKind, Signer, SoftwareKey};
use time::macros::datetime;
use time::{Duration, OffsetDateTime};

/// The end of an identity without a known end, as IEEE 802.1AR writes it.
pub const FOREVER: OffsetDateTime = datetime!(9999-12-31 23:59:59 UTC);

/// How long the certificates of servers and CAs live.
const LIFETIME: Duration = Duration::days(3650);

/// How a [`Pki`] is made.
#[derive(Clone, Debug)]
pub struct PkiOptions {
    /// The kind of key of CAs, voucher signers, registrars and devices.
    pub kind: KeyKind,
    /// Validity starts a day before this time.
    pub now: OffsetDateTime,
    /// The MASA's host name, for its TLS certificate and, with the port, for the IDevIDs.
    pub masa_host: String,
    /// What the MASA URL extension of IDevIDs says; none for no such extension.
    pub masa_url: Option<String>,
    /// The registrar's host name.
    pub registrar_host: String,
    /// The manufacturer's devices are issued by a CA below its root.
    pub intermediate: bool,
}

impl PkiOptions {
    /// P-256 keys, `localhost` everywhere, a MASA URL of that host, an intermediate CA.
    #[must_use]
    pub fn new(now: OffsetDateTime) -> Self {
        Self {
            kind: KeyKind::EcdsaP256,
            now,
            masa_host: "localhost".into(),
            masa_url: Some("localhost:9443".into()),
            registrar_host: "localhost".into(),
            intermediate: true,
        }
    }

    /// The same with another kind of key.
    #[must_use]
    pub fn with_kind(mut self, kind: KeyKind) -> Self {
        self.kind = kind;
        self
    }

    /// The kind for keys that serve TLS: the stack has no certificates with ML-DSA or Ed25519 that
    /// every peer could use, so a P-256 key stands in for those.
    fn tls_kind(&self) -> KeyKind {
        match self.kind {
            KeyKind::MlDsa44 | KeyKind::MlDsa65 | KeyKind::MlDsa87 | KeyKind::Ed25519 => {
                KeyKind::EcdsaP256
            }
            kind => kind,
        }
    }
}

/// A CA: its certificate with those above it, and its key.
pub type Ca = Identity;

/// An owner: a domain CA and its registrar.
pub struct Domain {
    /// The domain's root CA.
    pub ca: Ca,
    /// The registrar's certificate and key, for TLS in both directions and for signing requests.
    pub registrar: Identity,
}

impl Domain {
    /// The domain's CA as an anchor.
    #[must_use]
    pub fn anchors(&self) -> Anchors {
        self.ca.chain.last().cloned().into_iter().collect()
    }
}

/// A manufacturer with its MASA, and an owner.
pub struct Pki {
    options: PkiOptions,
    /// The manufacturer's root CA.
    pub manufacturer_root: Ca,
    /// The CA that issues devices: the root, or one below it.
    pub manufacturer_ca: Ca,
    /// Signs vouchers with a nonce.
    pub masa_signer: Identity,
    /// Signs nonceless vouchers.
    pub masa_nonceless_signer: Identity,
    /// The MASA's TLS server.
    pub masa_tls: Identity,
    /// The owner.
    pub domain: Domain,
}

impl Pki {
    /// Makes everything.
    ///
    /// # Errors
    /// If key generation or signing fails.
    pub fn new(options: PkiOptions) -> Result<Self, Error> {
        let manufacturer_root = root(
            &options,
            "CN=Manufacturer Root CA,O=Usher Test Manufacturer",
        )?;
        let manufacturer_ca = if options.intermediate {
            let profile = Profile::SubCa {
                path_length: Some(0),
            };
            let subject = "CN=Manufacturer Device CA,O=Usher Test Manufacturer";
            issue_under(
                &manufacturer_root,
                &options,
                options.kind,
                profile,
                subject,
                |ca| ca,
            )?
        } else {
            clone_identity(&manufacturer_root)
        };
        let signer = |subject: &str| {
            let profile = Profile::MasaSigner;
            issue_under(
                &manufacturer_root,
                &options,
                options.kind,
                profile,
                subject,
                |masa| masa,
            )
        };
        let masa_signer = signer("CN=MASA Voucher Signer,O=Usher Test Manufacturer")?;
        let masa_nonceless_signer = signer("CN=MASA Nonceless Signer,O=Usher Test Manufacturer")?;
        let masa_tls = issue_under(
            &manufacturer_root,
            &options,
            options.tls_kind(),
            Profile::TlsServer,
            "CN=MASA,O=Usher Test Manufacturer",
            |server| local_names(server, &options.masa_host),
        )?;
        let domain = domain(&options, "Usher Test Owner")?;
        Ok(Self {
            options,
            manufacturer_root,
            manufacturer_ca,
            masa_signer,
            masa_nonceless_signer,
            masa_tls,
            domain,
        })
    }

    /// P-256 throughout, at `now`.
    ///
    /// # Errors
    /// If key generation or signing fails.
    pub fn p256(now: OffsetDateTime) -> Result<Self, Error> {
        Self::new(PkiOptions::new(now))
    }

    /// How it was made.
    #[must_use]
    pub fn options(&self) -> &PkiOptions {
        &self.options
    }

    /// The manufacturer's root as an anchor.
    #[must_use]
    pub fn manufacturer_anchors(&self) -> Anchors {
        self.manufacturer_root
            .chain
            .last()
            .cloned()
            .into_iter()
            .collect()
    }

    /// A device's factory identity with this serial number in its subject.
    ///
    /// # Errors
    /// If key generation or signing fails.
    pub fn idevid(&self, serial_number: &str) -> Result<Identity, Error> {
        self.idevid_with(serial_number, |idevid| idevid)
    }

    /// The same with changes to the certificate, for example a hardwareModuleName.
    ///
    /// # Errors
    /// If key generation or signing fails.
    pub fn idevid_with(
        &self,
        serial_number: &str,
        change: impl FnOnce(CertificateBuilder) -> CertificateBuilder,
    ) -> Result<Identity, Error> {
        idevid(&self.manufacturer_ca, &self.options, serial_number, change)
    }

    /// The identity of a device that claims the serial number and was made by nobody known: its issuer
    /// has the name of the manufacturer's CA and another key.
    ///
    /// # Errors
    /// If key generation or signing fails.
    pub fn forged_idevid(&self, serial_number: &str) -> Result<Identity, Error> {
        let subject = self
            .manufacturer_ca
            .chain
            .first()
            .map(Certificate::subject)
            .unwrap_or_default();
        let forger = root(&self.options, &subject)?;
        idevid(&forger, &self.options, serial_number, |idevid| idevid)
    }

    /// A device that signed its own certificate. It is marked as a CA, because the lint lets nothing
    /// else sign itself.
    ///
    /// # Errors
    /// If key generation or signing fails.
    pub fn self_signed_device(&self, serial_number: &str) -> Result<Identity, Error> {
        root(
            &self.options,
            &format!("serialNumber={},CN=Rogue Device", escape(serial_number)),
        )
    }

    /// A copy of a device: the same subject and serial number under the real CA with another key, as
    /// if the factory had been made to issue it twice.
    ///
    /// # Errors
    /// If key generation or signing fails.
    pub fn cloned_idevid(&self, serial_number: &str) -> Result<Identity, Error> {
        self.idevid(serial_number)
    }

    /// Another owner with a CA and a registrar of its own.
    ///
    /// # Errors
    /// If key generation or signing fails.
    pub fn other_domain(&self, organization: &str) -> Result<Domain, Error> {
        domain(&self.options, organization)
    }

    /// A certificate under the owner's CA that is no registrar's: no cmcRA.
    ///
    /// # Errors
    /// If key generation or signing fails.
    pub fn impostor_registrar(&self) -> Result<Identity, Error> {
        issue_under(
            &self.domain.ca,
            &self.options,
            self.options.tls_kind(),
            Profile::TlsServer,
            "CN=Impostor Registrar,O=Usher Test Owner",
            |server| {
                let purposes = ["1.3.6.1.5.5.7.3.1", "1.3.6.1.5.5.7.3.2"];
                local_names(server, &self.options.registrar_host)
                    .purposes(purposes.map(pki::ObjectIdentifier::new_unwrap))
            },
        )
    }

    /// Any certificate under the owner's CA.
    ///
    /// # Errors
    /// If key generation or signing fails.
    pub fn domain_certificate(
        &self,
        profile: Profile,
        subject: &str,
        change: impl FnOnce(CertificateBuilder) -> CertificateBuilder,
    ) -> Result<Identity, Error> {
        issue_under(
            &self.domain.ca,
            &self.options,
            self.options.tls_kind(),
            profile,
            subject,
            change,
        )
    }
}

/// 16 random bytes, for a certificate's serial number.
///
/// # Errors
/// If the random number generator fails.
pub fn serial() -> Result<[u8; 16], Error> {
    let mut bytes = [0; 16];
    rand::fill(&mut bytes).map_err(|_| Error::KeyGeneration)?;
    Ok(bytes)
}

/// A new self-signed CA.
///
/// # Errors
/// If key generation or signing fails.
pub fn root(options: &PkiOptions, subject: &str) -> Result<Ca, Error> {
    let signer: Arc<dyn Signer> = Arc::new(SoftwareKey::generate(options.kind)?);
    let certificate = CertificateBuilder::new(
        Profile::RootCa,
        name(subject)?,
        signer.public_key().clone(),
        serial()?,
        options.now - Duration::DAY,
        FOREVER,
    )
    .self_sign(signer.as_ref())?;
    Identity::new(vec![certificate], signer)
}

/// A new key and its certificate under `ca`. The chain ends below the root.
///
/// # Errors
/// If key generation or signing fails.
pub fn issue_under(
    ca: &Ca,
    options: &PkiOptions,
    kind: KeyKind,
    profile: Profile,
    subject: &str,
    change: impl FnOnce(CertificateBuilder) -> CertificateBuilder,
) -> Result<Identity, Error> {
    let signer: Arc<dyn Signer> = Arc::new(SoftwareKey::generate(kind)?);
    let not_after = match profile {
        Profile::Idevid | Profile::RootCa | Profile::SubCa { .. } => FOREVER,
        _ => options.now + LIFETIME,
    };
    let builder = CertificateBuilder::new(
        profile,
        name(subject)?,
        signer.public_key().clone(),
        serial()?,
        options.now - Duration::DAY,
        not_after,
    );
    let issuer = ca.certificate().ok_or(Error::IdentityMismatch)?;
    let certificate = change(builder).issue(issuer, ca.signer.as_ref())?;
    let above = ca
        .chain
        .iter()
        .filter(|certificate| certificate.subject_der() != certificate.issuer_der());
    let chain = std::iter::once(certificate).chain(above.cloned()).collect();
    Identity::new(chain, signer)
}

fn idevid(
    ca: &Ca,
    options: &PkiOptions,
    serial_number: &str,
    change: impl FnOnce(CertificateBuilder) -> CertificateBuilder,
) -> Result<Identity, Error> {
    let subject = format!(
        "serialNumber={},CN=Device,O=Usher Test Manufacturer",
        escape(serial_number)
    );
    issue_under(
        ca,
        options,
        options.tls_kind(),
        Profile::Idevid,
        &subject,
        |mut builder| {
            if let Some(url) = &options.masa_url {
                builder = builder.masa_url(url);
            }
            change(builder)
        },
    )
}

fn domain(options: &PkiOptions, organization: &str) -> Result<Domain, Error> {
    let ca = root(options, &format!("CN=Domain CA,O={}", escape(organization)))?;
    let registrar = issue_under(
        &ca,
        options,
        options.tls_kind(),
        Profile::Registrar,
        &format!("CN=Registrar,O={}", escape(organization)),
        |registrar| local_names(registrar, &options.registrar_host),
    )?;
    Ok(Domain { ca, registrar })
}

/// The host's name, and what a loopback test may call it.
fn local_names(builder: CertificateBuilder, host: &str) -> CertificateBuilder {
    builder
        .dns_name(host)
        .alt_name(AltName::Ip([127, 0, 0, 1].into()))
        .alt_name(AltName::Ip(std::net::Ipv6Addr::LOCALHOST.into()))
}

/// A value for a name in RFC 4514 form, whatever characters it has.
fn escape(value: &str) -> String {
    let mut escaped = String::with_capacity(value.len());
    for c in value.chars() {
        if " \"#+,;<=>\\".contains(c) {
            escaped.push('\\');
        }
        escaped.push(c);
    }
    escaped
}

fn clone_identity(identity: &Identity) -> Identity {
    Identity {
        chain: identity.chain.clone(),
        signer: Arc::clone(&identity.signer),
    }
}

#[cfg(test)]
mod tests {
    use pki::path::{PathOptions, Purpose, Reason, validate};

    use super::*;

    const NOW: OffsetDateTime = datetime!(2026-06-01 12:00 UTC);

    fn check(identity: &Identity, anchors: &Anchors, purpose: Purpose) -> Result<usize, Reason> {
        let options = PathOptions::new(purpose, NOW);
        let (leaf, others) = identity.chain.split_first().unwrap();
        let strict = PathOptions {
            strict_profile: true,
            ..options
        };
        validate(leaf, others, anchors, &strict)
            .map(|path| path.certificates().len())
            .map_err(|error| error.reason)
    }

    #[test]
    fn each_kind_of_key_makes_a_whole_world() {
        for kind in [
            KeyKind::EcdsaP256,
            KeyKind::EcdsaP384,
            KeyKind::EcdsaP521,
            KeyKind::Ed25519,
            KeyKind::Rsa2048,
            KeyKind::MlDsa44,
            KeyKind::MlDsa65,
            KeyKind::MlDsa87,
        ] {
            let pki = Pki::new(PkiOptions::new(NOW).with_kind(kind)).unwrap();
            let manufacturer = pki.manufacturer_anchors();
            let owner = pki.domain.anchors();
            assert_eq!(
                check(
                    &pki.idevid("JADA1").unwrap(),
                    &manufacturer,
                    Purpose::Idevid
                ),
                Ok(3)
            );
            assert_eq!(
                check(&pki.masa_signer, &manufacturer, Purpose::Masa),
                Ok(2),
                "{kind:?}"
            );
            assert_eq!(check(&pki.masa_tls, &manufacturer, Purpose::Server), Ok(2));
            assert_eq!(
                check(&pki.domain.registrar, &owner, Purpose::Registrar),
                Ok(2)
            );
            assert_eq!(check(&pki.domain.registrar, &owner, Purpose::Server), Ok(2));
            assert_eq!(check(&pki.domain.registrar, &owner, Purpose::Client), Ok(2));
        }
    }

    #[test]
    fn the_wrong_ones_are_wrong() {
        let pki = Pki::p256(NOW).unwrap();
        let manufacturer = pki.manufacturer_anchors();
        let forged = pki.forged_idevid("JADA1").unwrap();
        assert_eq!(
            check(&forged, &manufacturer, Purpose::Idevid),
            Err(Reason::UnknownIssuer)
        );
        let rogue = pki.self_signed_device("JADA1").unwrap();
        assert_eq!(
            check(&rogue, &manufacturer, Purpose::Idevid),
            Err(Reason::UnknownIssuer)
        );
        let impostor = pki.impostor_registrar().unwrap();
        let owner = pki.domain.anchors();
        assert_eq!(
            check(&impostor, &owner, Purpose::Registrar),
            Err(Reason::ExtendedKeyUsage)
        );
        let other = pki.other_domain("Another Owner").unwrap();
        assert_eq!(
            check(&other.registrar, &owner, Purpose::Registrar),
            Err(Reason::UnknownIssuer)
        );
        let idevid = pki.idevid("JADA1").unwrap();
        let leaf = idevid.certificate().unwrap();
        assert_eq!(leaf.subject_serial_number().as_deref(), Some("JADA1"));
        assert_eq!(leaf.masa_url().as_deref(), Some("localhost:9443"));
        assert_eq!(leaf.not_after(), FOREVER);
        let odd = pki.idevid("A-1,B+C=\"D\" #7").unwrap();
        let serial = odd.certificate().unwrap().subject_serial_number();
        assert_eq!(serial.as_deref(), Some("A-1,B+C=\"D\" #7"));
    }
}
