//! Targets `est-coaps-server` and `registrar-coaps`: the suite is constrained devices, most of
//! them hostile. What is true of every server with CoAP over DTLS is tried at both.

mod blocks;
mod est;
mod est_server;
mod forms;
mod handshakes;
mod masa;
mod messages;
mod open;
mod options;
mod registrar;
mod requests;
mod sessions;
mod vouchers;

use std::sync::Arc;

use time::OffsetDateTime;

pub use est_server::{EST_COAPS, EstCoapsRole};
pub use registrar::{REGISTRAR_COAPS, RegistrarCoapsRole};

use crate::{
    case::Case,
    coaps::{Answer, Ask, CoapError, Coaps, Code},
    dtls::{Client, DtlsError},
    evidence::Recorder,
    forge::x509::{Authority, Identity},
    outcome::{Finding, Told, must},
};

/// Content-formats.
pub(crate) mod format {
    /// Link format.
    pub(crate) const LINKS: u16 = 40;
    /// JSON.
    pub(crate) const JSON: u16 = 50;
    /// CBOR.
    pub(crate) const CBOR: u16 = 60;
    /// Multipart-core.
    pub(crate) const MULTIPART: u16 = 62;
    /// Certificates alone, in PKCS#7.
    pub(crate) const CERTS_ONLY: u16 = 281;
    /// A key in PKCS#8.
    pub(crate) const PKCS8: u16 = 284;
    /// CSR attributes.
    pub(crate) const CSR_ATTRIBUTES: u16 = 285;
    /// PKCS#10.
    pub(crate) const PKCS10: u16 = 286;
    /// One certificate.
    pub(crate) const CERTIFICATE: u16 = 287;
    /// A voucher or request in COSE.
    pub(crate) const VOUCHER: u16 = 836;
}

/// What every server with CoAP over DTLS has in common for the suite.
pub(crate) struct Base {
    /// The suite as nobody.
    pub(crate) client: Client,
    /// Who issues those whom the server serves.
    pub(crate) insiders: Authority,
    /// A CA with the same name or none, which the server does not trust.
    pub(crate) strangers: Authority,
    /// The root of the EST resources.
    pub(crate) est: String,
    /// Where CoAP without DTLS is answered.
    pub(crate) open: Option<String>,
    /// Now.
    pub(crate) at: OffsetDateTime,
}

/// A kit whose server can be tried with everything that is true of CoAP over DTLS.
pub(crate) trait Served: Send + Sync + 'static {
    /// The target, with which ids begin.
    const TARGET: &'static str;
    /// What is common.
    fn base(&self) -> &Base;
    /// Somebody whom the server serves.
    fn insider(&self, record: &Recorder) -> Result<Identity, Finding>;
    /// Somebody else's certificate, under any CA, made like an insider's.
    fn made_by(&self, ca: &Authority, record: &Recorder) -> Result<Identity, Finding>;
    /// Somebody who may enrol now.
    fn enroller(&self, record: &Recorder)
    -> impl Future<Output = Result<Identity, Finding>> + Send;
    /// A POST that makes something happen and has to be granted, with what tells whether two
    /// answers are of one happening.
    fn deed(
        &self,
        record: &Recorder,
    ) -> impl Future<Output = Result<(Identity, Ask), Finding>> + Send;
    /// What a success of the deed looks like.
    fn was_done(&self, answer: &Answer) -> Told {
        must(
            answer.code == Code::CHANGED,
            format!("a right request was answered {}", answer.said()),
        )
    }
}

/// The cases for every server with CoAP over DTLS.
fn common<K: Served>() -> Vec<Case> {
    let mut cases = handshakes::cases::<K>();
    cases.extend(sessions::cases::<K>());
    cases.extend(messages::cases::<K>());
    cases.extend(options::cases::<K>());
    cases.extend(blocks::cases::<K>());
    cases.extend(open::cases::<K>());
    cases
}

/// The id of a case.
fn id<K: Served>(rest: &str) -> String {
    format!("{}/{rest}", K::TARGET)
}

/// A session as an insider.
async fn open<K: Served>(kit: &K, record: &Recorder) -> Result<Coaps, Finding> {
    let identity = kit.insider(record)?;
    Ok(Coaps::open(&kit.base().client.with_identity(&identity), record).await?)
}

/// A GET that an insider may make.
fn readable<K: Served>(kit: &K) -> Ask {
    Ask::get(&format!("{}/crts", kit.base().est))
}

/// The session still answers.
async fn lives<K: Served>(kit: &K, coaps: &mut Coaps) -> Told {
    let answer = coaps.ask(&readable(kit)).await?;
    must(
        answer.code == Code::CONTENT,
        format!("afterwards crts was answered {}", answer.said()),
    )
}

/// The server still takes a new session and answers.
async fn serves<K: Served>(kit: &K, record: &Recorder) -> Told {
    let mut coaps = open(kit, record).await?;
    lives(kit, &mut coaps).await
}

/// The answer has one of these codes.
fn is_one_of(answer: &Answer, codes: &[Code], what: &str) -> Told {
    must(
        codes.contains(&answer.code),
        format!("{what} was answered {}; right is {codes:?}", answer.said()),
    )
}

/// The answer has this code.
fn is(answer: &Answer, code: Code, what: &str) -> Told {
    is_one_of(answer, &[code], what)
}

/// The answer is a refusal.
fn refused(answer: &Answer, what: &str) -> Told {
    must(
        answer.code.is_refusal(),
        format!("{what} was answered {}", answer.said()),
    )
}

/// Whoever may not be served gets no session, or a refusal.
fn shut_out(told: Result<Answer, CoapError>, what: &str) -> Told {
    match told {
        Ok(answer) => is_one_of(&answer, &[Code::UNAUTHORIZED, Code::FORBIDDEN], what),
        Err(
            CoapError::Dtls(DtlsError::Alert(..) | DtlsError::Silence(_) | DtlsError::Broken(_))
            | CoapError::Alert(..),
        ) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

/// A whole attempt of somebody: a session and one request.
async fn attempt(client: &Client, record: &Recorder, ask: &Ask) -> Result<Answer, CoapError> {
    let mut coaps = Coaps::open(client, record).await?;
    coaps.ask(ask).await
}

/// One certificate, by two parsers.
fn certificate(octets: &[u8]) -> Result<pki::Certificate, Finding> {
    let (certificate, ()) = crate::oracle::agree(
        pki::Certificate::from_der(octets),
        crate::oracle::certificate(octets),
        "the body is no DER certificate",
    )?;
    Ok(certificate)
}

/// The certificates of a certs-only message, by two parsers.
fn certificates(octets: &[u8]) -> Result<Vec<pki::Certificate>, Finding> {
    let theirs = openssl::pkcs7::Pkcs7::from_der(octets)
        .map_err(|error| error.to_string())
        .and_then(|bag| {
            bag.signed()
                .and_then(|signed| signed.certificates())
                .map(|stack| stack.len())
                .ok_or_else(|| "no certificates".to_owned())
        });
    let (certificates, count) = crate::oracle::agree(
        pki::pkcs7::parse_certs_only(octets),
        theirs,
        "the body is no certs-only PKCS#7 in DER",
    )?;
    if certificates.len() != count {
        return Err(Finding::could_not_test(
            "the two parsers of the suite count other certificates",
        ));
    }
    Ok(certificates)
}

/// Sends what a closure makes of each kit and recorder: the shape of most cases.
fn case<K, F, R>(rest: &str, title: &str, requirements: &[&str], body: F) -> Case
where
    K: Served,
    F: Fn(Arc<K>, Recorder) -> R + Send + Sync + 'static,
    R: Future<Output = Told> + Send + 'static,
{
    Case::new(id::<K>(rest), title, requirements, body)
}
