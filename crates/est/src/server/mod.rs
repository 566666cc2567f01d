//! The server's side: `request + what is known about the peer -> Step`.
//!
//! The service authenticates the peer, looks up what it may do ([`Standing`]), and calls
//! [`handle`]. The checks run in this order, and the first that fails decides the answer: method,
//! who asks, media type, body, request, proof of possession, channel binding, the demands of
//! `/csrattrs`, and for re-enrolment the names of the old certificate. So an unknown peer learns
//! nothing about what is wrong with its request.

mod answer;
mod refusal;

pub use self::{
    answer::{Answer, Content},
    refusal::Refusal,
};

use std::time::Duration;

use base64::{Engine, engine::general_purpose::STANDARD};
use der::asn1::ObjectIdentifier;
use pki::{Certificate, Csr};

use crate::{
    Error, Operation,
    body::{self, BodyError, BodyOddity, BodyTolerances, MediaType},
    csrattrs::{Demand, oids},
};

/// A request as it came over the transport.
#[derive(Clone, Copy, Debug)]
pub struct Request<'a> {
    /// The method, by its name in HTTP.
    pub method: &'a str,
    /// The operation that the path names.
    pub operation: Operation,
    /// The media type of the body.
    pub content_type: Option<&'a str>,
    /// The body, read no further than a little over the limit.
    pub body: &'a [u8],
    /// What carried the request.
    pub transport: Transport,
    /// The RFC 9266 `tls-exporter` channel binding of the connection, if it has one.
    pub channel_binding: Option<&'a [u8]>,
}

/// What carried a request. It makes a difference to the body, and to what strangers may read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Transport {
    /// HTTP over TLS: bodies are base64, and what is public is for anybody.
    #[default]
    Https,
    /// CoAP over DTLS ([RFC 9148](https://www.rfc-editor.org/rfc/rfc9148.html)): bodies are DER,
    /// and nothing is for strangers.
    Coaps {
        /// Whether the Accept option leaves a format that the answer has.
        acceptable: bool,
    },
}

/// What the service knows about the peer.
#[derive(Clone, Debug)]
pub enum Standing {
    /// It showed nothing.
    Anonymous {
        /// Whether this server would take a name and a password.
        credentials_offered: bool,
    },
    /// It is known, and whether it may get a certificate was not asked: enough for what only reads.
    Known,
    /// It may get a first certificate: a voucher was issued for it, or policy names it.
    MayEnrol,
    /// It holds a certificate of this domain, valid and not revoked, and used it on this
    /// connection.
    Member {
        /// That certificate.
        current: Certificate,
        /// Whether it may also enrol anew.
        may_enrol: bool,
    },
    /// It would be allowed, and a human has not decided yet.
    Pending {
        /// When to ask again.
        retry_after: Duration,
    },
    /// It may not, for the service's own reason.
    Refused {
        /// That reason's stable code.
        code: &'static str,
        /// What may be told about it.
        reason: String,
    },
}

/// What is done about challengePassword.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ChannelBinding {
    /// Verify it if it is there, and refuse what cannot be verified.
    #[default]
    Verify,
    /// Demand and verify it.
    Require,
    /// Pass it over: a tolerance for clients that put tls-unique or a shared secret there.
    Ignore,
}

/// What this server offers and demands.
#[derive(Clone, Debug)]
pub struct Policy {
    /// The answer to `/cacerts`: the root first, then whatever a path needs, then rollover.
    pub ca_certificates: Vec<Certificate>,
    /// The answer to `/csrattrs`, and what each request is held against.
    pub demand: Demand,
    /// What is done about challengePassword.
    pub channel_binding: ChannelBinding,
    /// Whether keys are generated here.
    pub server_keygen: bool,
    /// Departures in bodies that are allowed.
    pub tolerances: BodyTolerances,
    /// Largest body of a request.
    pub body_size_max_bytes: usize,
}

impl Default for Policy {
    fn default() -> Self {
        Self {
            ca_certificates: Vec::new(),
            demand: Demand::default(),
            channel_binding: ChannelBinding::default(),
            server_keygen: false,
            tolerances: BodyTolerances::default(),
            body_size_max_bytes: body::BODY_SIZE_MAX_BYTES,
        }
    }
}

/// A request that passed each check.
#[derive(Clone, Debug)]
pub struct Enrolment {
    /// The request. Its proof of possession was verified, except for server-side key generation.
    pub csr: Csr,
    /// Whether challengePassword was the channel binding of the connection.
    pub channel_bound: bool,
    /// Tolerances that were used.
    pub oddities: Vec<&'static str>,
}

/// What the service is to do.
#[derive(Debug)]
pub enum Step {
    /// Send this.
    Reply(Answer),
    /// Issue a first certificate for the key of the request.
    Issue(Enrolment),
    /// Issue a certificate in the place of `current`.
    Reenrol {
        /// The request.
        enrolment: Enrolment,
        /// The certificate that is renewed.
        current: Certificate,
        /// Whether the key is another one.
        rekey: bool,
    },
    /// Generate a key, issue a certificate for it, and send both.
    GenerateKey {
        /// The request; its key and signature count for nothing.
        enrolment: Enrolment,
        /// The certificate that is renewed, if the peer holds one.
        current: Option<Certificate>,
    },
    /// A proper request that a human has yet to decide about; answer [`Answer::accepted`].
    Defer {
        /// The request.
        enrolment: Enrolment,
        /// When to ask again.
        retry_after: Duration,
    },
    /// Say no; answer [`Answer::refused`].
    Refuse(Refusal),
}

/// Decides what to do about a request.
///
/// # Errors
/// Only if our own answer cannot be encoded; what the peer did wrong is a [`Step::Refuse`].
pub fn handle(request: &Request<'_>, standing: &Standing, policy: &Policy) -> Result<Step, Error> {
    if request.method != request.operation.method() && !defects::seeded!("est-ignores-the-method") {
        return Ok(Step::Refuse(Refusal::MethodNotAllowed(request.operation)));
    }
    if let Transport::Coaps { acceptable } = request.transport {
        // ESC-010: All EST-coaps functions require an authenticated client (also /crts and /att).
        if let Err(refusal) = authenticated(standing)
            && !defects::seeded!("est-coaps-serves-anybody")
        {
            return Ok(Step::Refuse(refusal));
        }
        // ESC-023: An Accept that cannot be served gives 4.06. It is looked at before anything is
        // issued.
        if !acceptable {
            return Ok(Step::Refuse(Refusal::NotAcceptable));
        }
    }
    let anonymous = matches!(standing, Standing::Anonymous { .. });
    match request.operation {
        Operation::CsrAttrs if anonymous && defects::seeded!("est-hides-csrattrs") => {
            Ok(Step::Refuse(Refusal::CertificateRequired))
        }
        _ if request.body.is_empty()
            && request.method == "POST"
            && defects::seeded!("est-fails-on-empty-body") =>
        {
            Ok(Step::Reply(Answer::failed(
                500,
                "est.body-empty",
                "nothing",
            )))
        }
        // EST-4.1.2-01 and EST-4.5-02: "The EST server SHOULD NOT require client authentication
        // or authorization to reply to this request."
        Operation::CaCerts => Answer::ca_certificates(&policy.ca_certificates).map(Step::Reply),
        Operation::CsrAttrs => {
            let attributes = policy.demand_with_binding().to_csr_attrs()?;
            Answer::csr_attrs(Some(&attributes)).map(Step::Reply)
        }
        // EST-4.3-01: "Support for the /fullcmc function is OPTIONAL".
        Operation::FullCmc => Ok(Step::Refuse(Refusal::FullCmcUnsupported)),
        Operation::ServerKeyGen if !policy.server_keygen => {
            Ok(Step::Refuse(Refusal::ServerKeyGenDisabled))
        }
        Operation::ServerKeyGen | Operation::SimpleEnroll | Operation::SimpleReenroll => {
            Ok(enrol(request, standing, policy).unwrap_or_else(Step::Refuse))
        }
    }
}

impl Policy {
    /// The demand, with challengePassword if the channel binding is required.
    fn demand_with_binding(&self) -> Demand {
        let mut demand = self.demand.clone();
        demand.challenge_password |= self.channel_binding == ChannelBinding::Require;
        demand
    }
}

fn enrol(request: &Request<'_>, standing: &Standing, policy: &Policy) -> Result<Step, Refusal> {
    authorise(request.operation, standing)?;

    // EST-4.2.1-01: "The HTTP content-type of "application/pkcs10" is used here."
    let is_pkcs10 = request
        .content_type
        .and_then(MediaType::parse)
        .is_some_and(|media_type| media_type.essence() == body::PKCS10);
    if !is_pkcs10 && !defects::seeded!("est-takes-any-media-type") {
        return Err(Refusal::MediaType);
    }
    let (der, oddity) = decode(request, policy)?;
    let csr = match Csr::from_der(&der) {
        Err(_) if defects::seeded!("est-fails-on-garbage") => {
            return Ok(Step::Reply(Answer::failed(500, "csr.malformed", "garbage")));
        }
        Err(_) if defects::seeded!("est-accepts-trailing-octets") => {
            let before = der.len().saturating_sub(1);
            Csr::from_der(der.get(..before).unwrap_or_default())?
        }
        read => read?,
    };
    let generate = request.operation == Operation::ServerKeyGen;
    // EST-4.4.1-01: "the server MUST ignore the public key values and signature in the CSR".
    if !generate {
        // EST-4.2.1-02: the signature "provides proof-of-possession of the client-possessed
        // private key to the EST server".
        if defects::seeded!("est-accepts-sha1") {
            csr.verify_legacy()?;
        } else {
            csr.verify()?;
        }
        // Known here and not at the CA: a key of a kind that no profile allows is the peer's doing.
        let key = csr.public_key();
        if key.kind().is_none() {
            return Err(pki::Error::UnsupportedKey(key.describe()).into());
        }
    }
    let (channel_bound, ignored) = check_binding(&csr, request.channel_binding, policy)?;
    let demand = policy.demand_with_binding();
    if generate {
        demand.without_key().check(&csr)?;
        check_key_protection(&csr)?;
    } else {
        demand.check(&csr)?;
    }
    let oddities = oddity
        .map(BodyOddity::name)
        .into_iter()
        .chain(ignored)
        .collect::<Vec<&'static str>>();
    let enrolment = Enrolment {
        csr,
        channel_bound,
        oddities,
    };

    Ok(match (request.operation, standing) {
        (_, Standing::Pending { retry_after }) => Step::Defer {
            enrolment,
            retry_after: *retry_after,
        },
        (Operation::SimpleReenroll, Standing::Member { current, .. }) => {
            check_names(&enrolment.csr, current)?;
            // EST-4.2.2-03: the same key renews, another key rekeys.
            let rekey = enrolment.csr.public_key() != current.public_key();
            Step::Reenrol {
                enrolment,
                current: current.clone(),
                rekey,
            }
        }
        (Operation::ServerKeyGen, Standing::Member { current, may_enrol }) => {
            if !may_enrol {
                check_names(&enrolment.csr, current)?;
            }
            Step::GenerateKey {
                enrolment,
                current: Some(current.clone()),
            }
        }
        (Operation::ServerKeyGen, _) => Step::GenerateKey {
            enrolment,
            current: None,
        },
        _ => Step::Issue(enrolment),
    })
}

fn decode(
    request: &Request<'_>,
    policy: &Policy,
) -> Result<(Vec<u8>, Option<BodyOddity>), BodyError> {
    let limit_bytes = policy.body_size_max_bytes;
    match request.transport {
        Transport::Https => body::decode(request.body, limit_bytes, &policy.tolerances),
        // ESC-019: Payloads are raw DER, never base64.
        Transport::Coaps { .. } if request.body.is_empty() => Err(BodyError::Empty),
        Transport::Coaps { .. } if request.body.len() > limit_bytes => {
            Err(BodyError::TooLarge { limit_bytes })
        }
        Transport::Coaps { .. } => Ok((request.body.to_vec(), None)),
    }
}

/// Whether the peer is one that this server knows.
fn authenticated(standing: &Standing) -> Result<(), Refusal> {
    match standing {
        Standing::Anonymous { .. } => Err(Refusal::CertificateRequired),
        Standing::Refused { code, reason } => Err(Refusal::NotAuthorised {
            code,
            reason: reason.clone(),
        }),
        Standing::Known
        | Standing::MayEnrol
        | Standing::Member { .. }
        | Standing::Pending { .. } => Ok(()),
    }
}

/// EST-4.2-02: "The server MUST authenticate the client [...]. The server MUST verify client
/// authorization".
fn authorise(operation: Operation, standing: &Standing) -> Result<(), Refusal> {
    match (operation, standing) {
        (
            _,
            Standing::Anonymous {
                credentials_offered: true,
            },
        ) => Err(Refusal::CredentialsRequired),
        (
            _,
            Standing::Anonymous {
                credentials_offered: false,
            },
        ) => Err(Refusal::CertificateRequired),
        (_, Standing::Refused { code, reason }) => Err(Refusal::NotAuthorised {
            code,
            reason: reason.clone(),
        }),
        (_, Standing::Known) => Err(Refusal::NotAuthorised {
            code: "est.not-authorised",
            reason: "nobody said that it may enrol".to_owned(),
        }),
        (Operation::SimpleReenroll, Standing::MayEnrol)
            if defects::seeded!("est-renews-for-anybody") =>
        {
            Ok(())
        }
        (Operation::SimpleReenroll, Standing::MayEnrol | Standing::Pending { .. }) => {
            Err(Refusal::ReenrolCertificateMissing)
        }
        (
            Operation::SimpleEnroll,
            Standing::Member {
                may_enrol: false, ..
            },
        ) => Err(Refusal::AlreadyEnrolled),
        (_, Standing::MayEnrol | Standing::Member { .. } | Standing::Pending { .. }) => Ok(()),
    }
}

/// EST-3.5-02: "If tls-unique information is included by the client, the server MUST verify it."
/// TLS 1.3 has no tls-unique; the binding is the `tls-exporter` of RFC 9266, base64 as RFC 7030
/// §3.5 has it.
fn check_binding(
    csr: &Csr,
    binding: Option<&[u8]>,
    policy: &Policy,
) -> Result<(bool, Option<&'static str>), Refusal> {
    let Some(claimed) = csr.challenge_password()? else {
        return if policy.channel_binding == ChannelBinding::Require {
            Err(Refusal::ChannelBindingMissing)
        } else {
            Ok((false, None))
        };
    };
    if let Some(binding) = binding
        && claimed == challenge_password(binding)
    {
        return Ok((true, None));
    }
    if defects::seeded!("est-ignores-channel-binding") {
        return Ok((false, None));
    }
    match policy.channel_binding {
        ChannelBinding::Ignore => Ok((false, Some("est-challenge-password-ignored"))),
        ChannelBinding::Verify | ChannelBinding::Require if binding.is_none() => {
            Err(Refusal::ChannelBindingUnavailable)
        }
        ChannelBinding::Verify | ChannelBinding::Require => Err(Refusal::ChannelBindingMismatch),
    }
}

/// How a channel binding stands in challengePassword.
#[must_use]
pub fn challenge_password(binding: &[u8]) -> String {
    STANDARD.encode(binding)
}

/// EST-4.4.1-02: "If the server does not have a secret key matching the identifier specified by
/// the client, the request MUST be terminated and an error returned to the client." This server
/// holds no such keys, so a request that names one is refused instead of getting its key bare.
fn check_key_protection(csr: &Csr) -> Result<(), Refusal> {
    let named = |oid: ObjectIdentifier| csr.attributes().iter().any(|found| found.id == oid);
    if named(oids::DECRYPT_KEY_IDENTIFIER) {
        return Err(Refusal::DecryptKeyUnknown("DecryptKeyIdentifier"));
    }
    if named(oids::ASYMMETRIC_DECRYPT_KEY_IDENTIFIER) {
        return Err(Refusal::DecryptKeyUnknown("AsymmetricDecryptKeyIdentifier"));
    }
    Ok(())
}

/// EST-4.2.2-02: "The request Subject field and SubjectAltName extension MUST be identical to the
/// corresponding fields in the certificate being renewed/rekeyed."
fn check_names(csr: &Csr, current: &Certificate) -> Result<(), Refusal> {
    if defects::seeded!("est-renews-other-names") {
        return Ok(());
    }
    if csr.public_key() != current.public_key() && defects::seeded!("est-refuses-another-key") {
        return Err(Refusal::SubjectChanged);
    }
    if csr
        .attributes()
        .iter()
        .any(|attribute| attribute.id == oids::CHANGE_SUBJECT_NAME)
    {
        return Err(Refusal::ChangeSubjectName);
    }
    // A client may have rebuilt the name with another string type, which is the same name.
    if csr.subject_der() != current.subject_der() && csr.subject() != current.subject() {
        return Err(Refusal::SubjectChanged);
    }
    let wanted = csr.subject_alt_name_der()?;
    let held = current.extension(oids::SUBJECT_ALT_NAME);
    if !same_general_names(wanted.as_deref(), held) {
        return Err(Refusal::SubjectAltNameChanged);
    }
    Ok(())
}

/// Compares two GeneralNames without regard to their order, which means nothing.
fn same_general_names(one: Option<&[u8]>, other: Option<&[u8]>) -> bool {
    let names = |der: Option<&[u8]>| -> Option<Vec<Vec<u8>>> {
        let Some(der) = der else {
            return Some(Vec::new());
        };
        let mut names = crate::tlv::one(der)
            .and_then(crate::tlv::children)
            .and_then(|names| {
                names
                    .into_iter()
                    .map(crate::tlv::bytes)
                    .collect::<Result<Vec<_>, _>>()
            })
            .ok()?;
        names.sort();
        Some(names)
    };
    match (names(one), names(other)) {
        (Some(one), Some(other)) => one == other,
        _ => false,
    }
}
