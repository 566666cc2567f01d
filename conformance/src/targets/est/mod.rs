//! Target `est-server`: the suite is EST clients, most of them hostile.

mod enrol;
mod reads;

use std::sync::Arc;

use anyhow::Result;
use base64::{Engine as _, engine::general_purpose::STANDARD};
use pki::Certificate;
use time::OffsetDateTime;

use crate::{
    case::{Case, Kit},
    clock,
    evidence::Recorder,
    forge::{
        key::Key,
        x509::{Authority, CLIENT_AUTH, Identity, Request as Csr, name},
    },
    http::{Answer, Client, Request},
    outcome::{Finding, OrCouldNotTest as _, Told, must},
    profile::Profile,
    role::{Feature, Plan, Prepared, Role, Setup, Target},
    workshop::Workshop,
};

/// The role.
pub static EST: EstRole = EstRole;

/// An EST server.
pub struct EstRole;

const FEATURES: &[Feature] = &[
    Feature {
        name: "certificate",
        means: "clients of client-ca.pem may enrol by their certificate",
        usual: true,
    },
    Feature {
        name: "password",
        means: "settings.user and settings.password may enrol by HTTP Basic",
        usual: false,
    },
    Feature {
        name: "csrattrs",
        means: "csrattrs says something",
        usual: true,
    },
    Feature {
        name: "anonymous-reads",
        means: "cacerts and csrattrs need no client certificate",
        usual: true,
    },
    Feature {
        name: "no-label",
        means: "the operations are there without a label in the path, too",
        usual: true,
    },
    Feature {
        name: "serverkeygen",
        means: "the server makes keys",
        usual: false,
    },
    Feature {
        name: "channel-binding",
        means: "a challengePassword that is no channel binding is refused",
        usual: true,
    },
];

impl Role for EstRole {
    fn target(&self) -> Target {
        Target::EstServer
    }

    fn features(&self) -> &'static [Feature] {
        FEATURES
    }

    fn cases(&self) -> Vec<Case> {
        let mut cases = reads::cases();
        cases.extend(enrol::cases());
        cases
    }

    fn prepare(&self, plan: &Plan) -> Result<Prepared> {
        let now = clock::now();
        let workshop = Workshop::create(&plan.folder)?;
        let ca = workshop.make_root("client-ca", "Conformance Clients", "Client CA", now)?;
        workshop.make_root("unknown-ca", "Somebody Else", "Client CA", now)?;
        workshop.export(
            "client",
            &client(&workshop, &ca, "conformance-client", now)?,
        )?;
        let mut profile = Profile::new(Target::EstServer);
        profile.endpoint.url = Some(
            plan.endpoint
                .clone()
                .unwrap_or_else(|| "https://est.example:8443".into()),
        );
        for (name, value) in [
            ("path", "/.well-known/est"),
            ("server_anchors", "server-anchors.pem"),
            ("user", ""),
            ("password", ""),
        ] {
            profile.settings.insert(name.into(), value.into());
        }
        Ok(Prepared {
            instructions: INSTRUCTIONS.into(),
            profile,
        })
    }

    fn start(&self, setup: &Setup<'_>) -> Result<Kit> {
        Ok(Arc::new(Est::new(setup)?))
    }
}

const INSTRUCTIONS: &str = "\
# Testing an EST server

The suite is EST clients. Configure the server under test like this:

1. TLS clients with certificates of `client-ca.pem` may enrol for themselves (claim `certificate`).
   Do not trust `unknown-ca.pem`.
2. Or give the suite a user: settings.user and settings.password (claim `password`).
3. Put what the server's own certificate chains up to into `server-anchors.pem` beside the profile.
4. If the operations are below a label, put it into settings.path: `/.well-known/est/label`.

Then set `implementation`, `claims` and `endpoint` in `profile.toml` and run

    usher-conformance run --target est-server --profile profile.toml --out report

Each run asks for about thirty certificates.
";

fn client(
    workshop: &Workshop,
    ca: &Authority,
    common_name: &str,
    at: OffsetDateTime,
) -> Result<Identity> {
    let key = workshop.key(common_name)?;
    Ok(ca.issue(
        &name("Conformance Clients", common_name, None),
        &key,
        at,
        |certificate| certificate.purposes(&[CLIENT_AUTH]),
    ))
}

/// What the cases share.
pub(crate) struct Est {
    pub(crate) anonymous: Client,
    pub(crate) client: Client,
    pub(crate) identity: Identity,
    pub(crate) path: String,
    pub(crate) ca: Authority,
    pub(crate) unknown_ca: Authority,
    pub(crate) server_anchors: Vec<Certificate>,
    credentials: Option<(String, String)>,
    pub(crate) at: OffsetDateTime,
}

impl Est {
    fn new(setup: &Setup<'_>) -> Result<Self> {
        let profile = setup.profile;
        let url = profile
            .endpoint
            .url
            .as_deref()
            .ok_or_else(|| anyhow::anyhow!("the profile lacks endpoint.url"))?;
        let anonymous = Client::new(
            url,
            profile.endpoint.address.as_deref(),
            profile.timing.answer(),
        )?;
        let workshop = Workshop::open(setup.folder)?;
        let at = clock::now();
        let ca = workshop.root("client-ca")?;
        let identity = client(&workshop, &ca, "conformance-client", at)?;
        let credentials = match (profile.text("user"), profile.text("password")) {
            (Some(user), Some(password)) => Some((user.to_owned(), password.to_owned())),
            _ => None,
        };
        let server_anchors = profile
            .file(setup.folder, "server_anchors")
            .and_then(|path| Certificate::load_all(path).ok())
            .unwrap_or_default();
        Ok(Self {
            client: if profile.claims("certificate") {
                anonymous.with_identity(&identity)
            } else {
                anonymous.clone()
            },
            anonymous,
            identity,
            path: profile
                .text("path")
                .unwrap_or("/.well-known/est")
                .trim_end_matches('/')
                .to_owned(),
            unknown_ca: workshop.root("unknown-ca")?,
            ca,
            server_anchors,
            credentials,
            at,
        })
    }

    /// A GET of an operation.
    pub(crate) fn get(&self, operation: &str) -> Request {
        Request::get(format!("{}/{operation}", self.path))
    }

    /// A POST of a request in base64, with the user's name and password if there is one.
    pub(crate) fn post(&self, operation: &str, csr: &[u8]) -> Request {
        let request = self.post_octets(operation, STANDARD.encode(csr).into_bytes());
        match &self.credentials {
            Some((user, password)) => request.basic(user, password),
            None => request,
        }
    }

    /// The same with any body and nobody's password.
    pub(crate) fn post_octets(&self, operation: &str, body: Vec<u8>) -> Request {
        Request::post(
            format!("{}/{operation}", self.path),
            "application/pkcs10",
            body,
        )
    }

    /// A request for a certificate for the suite's own client.
    pub(crate) fn csr(&self) -> Result<Csr, Finding> {
        let key = Key::generate().or_could_not_test("a key")?;
        let subject = match &self.credentials {
            Some((user, _)) => name("", user, None),
            None => name("Conformance Clients", "conformance-client", None),
        };
        Ok(Csr::new(&subject, &key))
    }

    /// Enrols, and expects exactly the certificate.
    pub(crate) async fn enrol(&self, record: &Recorder, csr: &Csr) -> Result<Certificate, Finding> {
        let request = self.post("simpleenroll", &csr.encode());
        let answer = self.client.send(record, request).await?;
        self.certificate_of(&answer, csr)
    }

    /// The one certificate of an answer.
    pub(crate) fn certificate_of(
        &self,
        answer: &Answer,
        csr: &Csr,
    ) -> Result<Certificate, Finding> {
        must(
            answer.status == 200,
            format!("it was answered {}: {}", answer.status, answer.text()),
        )?;
        let certificates = certificates(answer)?;
        let [certificate] = certificates.as_slice() else {
            return Err(Finding::fail(format!(
                "the answer holds {} certificates and not one",
                certificates.len()
            )));
        };
        must(
            certificate.public_key().spki_der() == csr.key.spki(),
            "the certificate is for another key than the request",
        )?;
        Ok(certificate.clone())
    }

    /// What cacerts says.
    pub(crate) async fn ca_certificates(
        &self,
        record: &Recorder,
    ) -> Result<Vec<Certificate>, Finding> {
        let answer = self.client.send(record, self.get("cacerts")).await?;
        must(
            answer.status == 200,
            format!("cacerts was answered {}", answer.status),
        )?;
        certificates(&answer)
    }
}

/// A body in base64, without anything else in it.
pub(crate) fn base64_body(answer: &Answer) -> Result<Vec<u8>, Finding> {
    let text = std::str::from_utf8(&answer.body)
        .map_err(|_| Finding::fail("the body is binary and no base64"))?;
    must(
        !text.contains("-----BEGIN"),
        "the body is PEM and not base64 alone",
    )?;
    let bare: String = text.split_ascii_whitespace().collect();
    STANDARD
        .decode(bare)
        .map_err(|error| Finding::fail(format!("the body is no base64: {error}")))
}

/// The certificates of a certs-only message, by two parsers.
pub(crate) fn certificates(answer: &Answer) -> Result<Vec<Certificate>, Finding> {
    let der = base64_body(answer)?;
    let ours = pki::pkcs7::parse_certs_only(&der);
    let theirs = openssl::pkcs7::Pkcs7::from_der(&der)
        .map_err(|error| error.to_string())
        .and_then(|bag| {
            bag.signed()
                .and_then(|signed| signed.certificates())
                .map(|stack| stack.len())
                .ok_or_else(|| "no certificates".to_owned())
        });
    let (certificates, count) =
        crate::oracle::agree(ours, theirs, "the answer is no certs-only PKCS#7")?;
    if certificates.len() != count {
        return Err(Finding::could_not_test(
            "the two parsers of the suite count other certificates",
        ));
    }
    Ok(certificates)
}

/// The answer has to be a refusal: 4xx.
pub(crate) fn refused(answer: &Answer, what: &str) -> Told {
    if answer.is_refusal() {
        return Ok(());
    }
    Err(Finding::fail(format!(
        "{what} was answered {}: {}",
        answer.status,
        answer.text()
    )))
}
