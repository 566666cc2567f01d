//! Target `est-coaps-server`: an EST server over CoAP and DTLS (RFC 9148).

use std::sync::Arc;

use anyhow::Result;

use super::{Base, Served, format};
use crate::{
    case::{Case, Kit},
    clock,
    coaps::Ask,
    dtls::Client,
    evidence::Recorder,
    forge::{
        key::Key,
        x509::{Authority, CLIENT_AUTH, Identity, Request as Csr, name},
    },
    outcome::{Finding, OrCouldNotTest as _},
    profile::Profile,
    role::{Feature, Plan, Prepared, Role, Setup, Target},
    workshop::Workshop,
};

/// The role.
pub static EST_COAPS: EstCoapsRole = EstCoapsRole;

/// An EST server over CoAP.
pub struct EstCoapsRole;

/// What a server with CoAP over DTLS can claim, whatever it serves.
pub(super) const FEATURES: &[Feature] = &[
    Feature {
        name: "dtls-1.3",
        means: "DTLS 1.3 beside 1.2 on the same port, with TLS_AES_128_GCM_SHA256",
        usual: true,
    },
    Feature {
        name: "dtls-1.3-ccm",
        means: "the suites with CCM in DTLS 1.3",
        usual: false,
    },
    Feature {
        name: "downgrade-mark",
        means: "the mark of RFC 8446 section 4.1.3 when a device with both versions gets 1.2",
        usual: false,
    },
    Feature {
        name: "ed25519",
        means: "devices whose certificates have Ed25519 keys",
        usual: false,
    },
    Feature {
        name: "forgery-limit",
        means: "a session ends after 128 records that fail authentication",
        usual: true,
    },
    Feature {
        name: "etag",
        means: "crts has an ETag",
        usual: true,
    },
    Feature {
        name: "size2",
        means: "Size2 is answered",
        usual: true,
    },
    Feature {
        name: "discovery",
        means: "/.well-known/core is there",
        usual: true,
    },
    Feature {
        name: "open-discovery",
        means: "/.well-known/core is answered without DTLS at settings.open",
        usual: false,
    },
    Feature {
        name: "uri-path-abbrev",
        means: "option 13 in place of a path",
        usual: false,
    },
    Feature {
        name: "single-certificates",
        means: "Content-Format 287",
        usual: true,
    },
    Feature {
        name: "multipart-crts",
        means: "crts in multipart-core",
        usual: false,
    },
    Feature {
        name: "att",
        means: "att is there",
        usual: true,
    },
    Feature {
        name: "serverkeygen",
        means: "skg and skc are there",
        usual: false,
    },
    Feature {
        name: "exporter-binding",
        means: "the channel binding in DTLS 1.2 is the exporter's of RFC 9266",
        usual: false,
    },
    Feature {
        name: "channel-binding",
        means: "a challengePassword that is no channel binding is refused",
        usual: true,
    },
];

impl Role for EstCoapsRole {
    fn target(&self) -> Target {
        Target::EstCoapsServer
    }

    fn features(&self) -> &'static [Feature] {
        FEATURES
    }

    fn cases(&self) -> Vec<Case> {
        let mut cases = super::common::<EstCoaps>();
        cases.extend(super::est::cases::<EstCoaps>());
        cases
    }

    fn prepare(&self, plan: &Plan) -> Result<Prepared> {
        let now = clock::now();
        let workshop = Workshop::create(&plan.folder)?;
        let ca = workshop.make_root("client-ca", "Conformance Clients", "Client CA", now)?;
        workshop.make_root("unknown-ca", "Conformance Clients", "Client CA", now)?;
        let key = workshop.key("sample")?;
        workshop.export("client", &client(&ca, "conformance-sample", &key, now))?;
        let mut profile = Profile::new(Target::EstCoapsServer);
        profile.endpoint.url = Some(
            plan.endpoint
                .clone()
                .unwrap_or_else(|| "coaps://est.example:5684".into()),
        );
        for (name, value) in [("path", "/.well-known/est"), ("open", "")] {
            profile.settings.insert(name.into(), value.into());
        }
        Ok(Prepared {
            instructions: INSTRUCTIONS.into(),
            profile,
        })
    }

    fn start(&self, setup: &Setup<'_>) -> Result<Kit> {
        let workshop = Workshop::open(setup.folder)?;
        Ok(Arc::new(EstCoaps {
            base: Base::new(
                setup,
                workshop.root("client-ca")?,
                workshop.root("unknown-ca")?,
            )?,
        }))
    }
}

const INSTRUCTIONS: &str = "\
# Testing an EST server over CoAP

The suite is constrained EST clients. Configure the server under test like this:

1. DTLS clients with certificates of `client-ca.pem` may enrol for themselves. Their names are
   `O=Conformance Clients, CN=conformance-…`. Do not trust `unknown-ca.pem`, which has the same name.
2. If the operations are below a label, put it into settings.path: `/.well-known/est/label`.
3. If discovery is answered without DTLS, put its `address:port` into settings.open and claim
   `open-discovery`.
4. `client.pem` with `private/client.key` is a client to try it with.

Then set `implementation`, `claims` and `endpoint` in `profile.toml` and run

    usher-conformance run --target est-coaps-server --profile profile.toml --out report

Each run opens some hundred sessions from one address and asks for about a hundred certificates:
limits for each address have to allow it.
";

fn client(ca: &Authority, common_name: &str, key: &Key, at: time::OffsetDateTime) -> Identity {
    ca.issue(
        &name("Conformance Clients", common_name, None),
        key,
        at,
        |certificate| certificate.purposes(&[CLIENT_AUTH]),
    )
}

impl Base {
    /// From a profile.
    pub(super) fn new(
        setup: &Setup<'_>,
        insiders: Authority,
        strangers: Authority,
    ) -> Result<Self> {
        let profile = setup.profile;
        let url = profile
            .endpoint
            .url
            .as_deref()
            .ok_or_else(|| anyhow::anyhow!("the profile lacks endpoint.url"))?;
        Ok(Self {
            client: Client::new(
                url,
                profile.endpoint.address.as_deref(),
                profile.timing.answer(),
            )?,
            insiders,
            strangers,
            est: profile
                .text("path")
                .unwrap_or("/.well-known/est")
                .trim_matches('/')
                .to_owned(),
            open: profile.text("open").map(str::to_owned),
            at: clock::now(),
        })
    }
}

/// What the cases share.
pub(super) struct EstCoaps {
    base: Base,
}

impl Served for EstCoaps {
    const TARGET: &'static str = "est-coaps-server";

    fn base(&self) -> &Base {
        &self.base
    }

    fn insider(&self, record: &Recorder) -> Result<Identity, Finding> {
        self.made_by(&self.base.insiders, record)
    }

    fn made_by(&self, ca: &Authority, record: &Recorder) -> Result<Identity, Finding> {
        let key = Key::generate().or_could_not_test("a key")?;
        let common_name = format!(
            "conformance-{:08x}-{:04x}",
            record.seed,
            rand::random::<u16>()
        );
        Ok(client(ca, &common_name, &key, self.base.at))
    }

    async fn enroller(&self, record: &Recorder) -> Result<Identity, Finding> {
        self.insider(record)
    }

    async fn deed(&self, record: &Recorder) -> Result<(Identity, Ask), Finding> {
        let identity = self.insider(record)?;
        let csr = csr_of(&identity)?;
        let path = format!("{}/sen", self.base.est);
        Ok((identity, Ask::post(&path, format::PKCS10, &csr.encode())))
    }
}

/// A request for a certificate with the name of somebody's own.
pub(super) fn csr_of(identity: &Identity) -> Result<Csr, Finding> {
    let own =
        pki::Certificate::from_der(identity.certificate()).or_could_not_test("a certificate")?;
    let key = Key::generate().or_could_not_test("a key")?;
    Ok(Csr::new(own.subject_der(), &key))
}
