//! The OPI agent at fa528b8: Go's HTTP client over HTTP/1.1, no Accept, Basic always, an empty
//! nonce always, and a reader that refuses what it does not know. docs/interop.md has the run of
//! the agent itself.

use serde::Deserialize;

use super::{Reply, Wire, base64, enable_quirks, lab_with, octets_of_content_info, post, unbase64};
use crate::harness::{GET, Lab, REPORT};

/// All that its operator has to turn on.
pub(super) const NEEDED: &[&str] = &["empty-nonce", "empty-containers", "trust-anchor-not-cms"];

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Outer {
    #[serde(rename = "ietf-sztp-bootstrap-server:output")]
    output: Output,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct Output {
    conveyed_information: String,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct OnboardingDocument {
    #[serde(rename = "ietf-sztp-conveyed-info:onboarding-information")]
    onboarding: Onboarding,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub(super) struct Onboarding {
    pub(super) boot_image: Image,
    pub(super) pre_configuration_script: String,
    pub(super) configuration_handling: String,
    pub(super) configuration: String,
    pub(super) post_configuration_script: String,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub(super) struct Image {
    pub(super) download_uri: Vec<String>,
    pub(super) image_verification: Vec<Verification>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(super) struct Verification {
    pub(super) hash_algorithm: String,
    pub(super) hash_value: String,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct RedirectDocument {
    #[serde(rename = "ietf-sztp-conveyed-info:redirect-information")]
    redirect: Redirect,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(super) struct Redirect {
    pub(super) bootstrap_server: Vec<Server>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(super) struct Server {
    pub(super) address: String,
    #[serde(default)]
    pub(super) port: i64,
    #[serde(default, rename = "trust-anchor")]
    _trust_anchor: String,
}

#[derive(Debug)]
pub(super) enum Taken {
    Onboarding(Onboarding),
    Redirect(Redirect),
}

/// What the reader makes of a reply.
pub(super) fn take(reply: &Reply) -> Result<Taken, String> {
    let outer: Outer = serde_json::from_slice(&reply.body).map_err(|error| error.to_string())?;
    if reply.status != 200 {
        return Err(format!("status {}", reply.status));
    }
    let der = unbase64(&outer.output.conveyed_information);
    let content = octets_of_content_info(&der).ok_or("no OCTET STRING")?;
    if let Ok(document) = serde_json::from_slice::<OnboardingDocument>(&content) {
        return Ok(Taken::Onboarding(document.onboarding));
    }
    serde_json::from_slice::<RedirectDocument>(&content)
        .map(|document| Taken::Redirect(document.redirect))
        .map_err(|error| error.to_string())
}

pub(super) const BODY: &str = r#"{"ietf-sztp-bootstrap-server:input":{"hw-model":"","os-name":"Fedora Linux","os-version":"37","nonce":""}}"#;

/// The request as Go's client writes it.
pub(super) fn request(host: &str, path: &str, token: &str, body: &str) -> Vec<u8> {
    post(
        path,
        &[
            ("Host", host),
            ("User-Agent", "Go-http-client/1.1"),
            ("Content-Length", &body.len().to_string()),
            ("Authorization", &format!("Basic {token}")),
            ("Content-Type", "application/yang-data+json"),
            ("Accept-Encoding", "gzip"),
        ],
        body,
    )
}

pub(super) fn progress(kind: &str, more: &str) -> String {
    let more = if more.is_empty() {
        r#""ssh-host-keys":{},"trust-anchor-certs":{}"#
    } else {
        more
    };
    format!(
        r#"{{"ietf-sztp-bootstrap-server:input":{{"progress-type":"{kind}","message":"Report","{}}}}}"#,
        more.trim_start_matches('"')
    )
}

/// The last report: a real host key, and a password where a CMS belongs.
pub(super) fn complete() -> String {
    let mut blob = vec![0, 0, 0, 11];
    blob.extend_from_slice(b"ssh-ed25519");
    blob.extend_from_slice(&[0, 0, 0, 32]);
    blob.extend_from_slice(&[7; 32]);
    progress(
        "bootstrap-complete",
        &format!(
            r#""ssh-host-keys":{{"ssh-host-key":[{{"algorithm":"ssh-ed25519","key-data":"{}"}}]}},"trust-anchor-certs":{{"trust-anchor-cert":["{}"]}}"#,
            base64(&blob),
            base64(b"mysshpass")
        ),
    )
}

pub(super) const CONTENT: &str = r#"
[[image]]
name = "os"
os-name = "Fedora Linux"
os-version = "38"
uri = ["https://a.example.net/os", "https://b.example.net/os"]
sha256 = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"

[[script]]
name = "pre"
file = "pre.sh"

[[template]]
name = "base"
file = "templates/base.cfg"
format = "text"

[[bundle]]
name = "access"
image = "os"
pre-script = "pre"
template = "base"
handling = "merge"
post-script = "pre"

[[redirect]]
name = "away"
[[redirect.server]]
address = "other.example.net"

[[rule]]
name = "moved"
group = "moved"
redirect = "away"

[[rule]]
name = "all"
bundle = "access"
"#;

pub(super) const FILES: &[(&str, &str)] = &[
    ("pre.sh", "#!/bin/sh\n"),
    ("templates/base.cfg", "hostname {{ device.serial }}\n"),
];

/// A server with such a device, whose profile has these quirks on.
async fn lab(enable: &[&str], password: Option<&str>) -> Lab {
    let mut lab = lab_with("opi-agent", enable).await;
    let id = lab.register_as("acme", "OPI-1", "opi-agent").await;
    if let Some(password) = password {
        let hash = bootstrap::auth::hash_password(password, b"0123456789abcdef");
        lab.change(
            "UPDATE device SET basic_hash = $1 WHERE id = $2",
            store::params![hash, id],
        )
        .await;
    }
    lab.stage(CONTENT, FILES).await;
    lab.serve().await;
    lab
}

struct Agent {
    wire: Wire,
    host: String,
    token: String,
}

impl Agent {
    async fn new(lab: &Lab, certificate: bool, password: &str) -> Self {
        let identity = certificate.then(|| lab.pki.idevid("OPI-1").unwrap());
        Self {
            wire: Wire::open(lab.address(), identity).await,
            host: lab.address().to_string(),
            token: base64(format!("OPI-1:{password}").as_bytes()),
        }
    }

    async fn ask(&mut self) -> Reply {
        let request = request(&self.host, GET, &self.token, BODY);
        self.wire.exchange(&request).await
    }

    async fn report(&mut self, body: &str) -> Reply {
        let request = request(&self.host, REPORT, &self.token, body);
        self.wire.exchange(&request).await
    }
}

#[tokio::test]
async fn it_gets_what_it_can_read_and_reports_to_the_end() {
    let lab = lab(NEEDED, Some("my-secret")).await;
    let mut agent = Agent::new(&lab, true, "my-secret").await;
    let Taken::Onboarding(onboarding) = take(&agent.ask().await).unwrap() else {
        panic!("a redirect");
    };
    // With one URI both readings of image-verification agree.
    assert_eq!(
        onboarding.boot_image.download_uri,
        ["https://a.example.net/os"]
    );
    let [verification] = onboarding.boot_image.image_verification.as_slice() else {
        panic!("{onboarding:?}");
    };
    assert_eq!(
        verification.hash_algorithm,
        "ietf-sztp-conveyed-info:sha-256"
    );
    let hash = verification.hash_value.replace(':', "");
    assert!(hash.starts_with("ba7816bf") && hash == hash.to_lowercase());
    assert_eq!(onboarding.configuration_handling, "merge");
    assert_eq!(unbase64(&onboarding.configuration), b"hostname OPI-1\n");
    assert_eq!(
        unbase64(&onboarding.pre_configuration_script),
        b"#!/bin/sh\n"
    );
    assert_eq!(
        unbase64(&onboarding.post_configuration_script),
        b"#!/bin/sh\n"
    );
    for kind in ["bootstrap-initiated", "config-initiated", "config-complete"] {
        assert_eq!(agent.report(&progress(kind, "")).await.status, 204);
    }
    assert_eq!(agent.report(&complete()).await.status, 204);
    assert_eq!(lab.state("OPI-1").await, "complete");
    // What it needed shows in the timeline.
    let summary = lab.line().await.summary.to_string();
    assert!(summary.contains("trust-anchor-not-cms"), "{summary}");
    lab.stop().await;
}

/// Each switch is off as it is delivered, and the device is told no without it.
#[tokio::test]
async fn each_switch_is_needed_for_what_it_is_there_for() {
    for (missing, ask, report, last) in [
        ("empty-nonce", 400, 204, 204),
        ("empty-containers", 200, 400, 204),
        ("trust-anchor-not-cms", 200, 204, 400),
    ] {
        let enable: Vec<&str> = NEEDED
            .iter()
            .copied()
            .filter(|one| *one != missing)
            .collect();
        let lab = lab(&enable, Some("my-secret")).await;
        let mut agent = Agent::new(&lab, true, "my-secret").await;
        assert_eq!(agent.ask().await.status, ask, "without {missing}");
        let body = progress("config-initiated", "");
        assert_eq!(
            agent.report(&body).await.status,
            report,
            "without {missing}"
        );
        assert_eq!(
            agent.report(&complete()).await.status,
            last,
            "without {missing}"
        );
        lab.stop().await;
    }
}

/// Without its certificate the password counts only where the operator said so.
#[tokio::test]
async fn a_password_alone_counts_by_name_only() {
    let mut with = NEEDED.to_vec();
    with.push("basic-authentication");
    for (enable, certificate, password, status) in [
        (NEEDED, false, "my-secret", 401),
        (with.as_slice(), false, "my-secret", 200),
        (with.as_slice(), false, "another", 401),
        (NEEDED, true, "another", 401),
    ] {
        let lab = lab(enable, Some("my-secret")).await;
        let mut agent = Agent::new(&lab, certificate, password).await;
        assert_eq!(
            agent.ask().await.status,
            status,
            "{enable:?} {certificate} {password}"
        );
        lab.stop().await;
    }
}

/// Certificate and user name of two devices are those of neither, although both are good.
///
/// Requirements: SZTP-8572-5.3-05
#[tokio::test]
async fn two_identities_are_none() {
    let lab = lab(NEEDED, Some("my-secret")).await;
    lab.register_as("acme", "OPI-2", "opi-agent").await;
    let identity = lab.pki.idevid("OPI-2").unwrap();
    let mut agent = Agent::new(&lab, true, "my-secret").await;
    assert_eq!(agent.ask().await.status, 200);
    agent.wire = Wire::open(lab.address(), Some(identity)).await;
    assert_eq!(agent.ask().await.status, 401);
    lab.stop().await;
}

/// A redirect always says its port: without one the device takes 0 and gives up.
#[tokio::test]
async fn a_redirect_says_its_port() {
    let lab = lab(NEEDED, None).await;
    lab.change(
        "UPDATE device SET group_name = 'moved' WHERE serial = $1",
        store::params!["OPI-1"],
    )
    .await;
    let mut agent = Agent::new(&lab, true, "x").await;
    let Taken::Redirect(redirect) = take(&agent.ask().await).unwrap() else {
        panic!("no redirect");
    };
    assert_eq!(redirect.bootstrap_server[0].address, "other.example.net");
    assert_eq!(redirect.bootstrap_server[0].port, 443);
    lab.stop().await;
}

/// The same device under the model's own profile is refused at its first octet that is wrong, and
/// what it would be given is not what it can read.
#[tokio::test]
async fn the_model_makes_no_exception_for_it() {
    let mut lab = lab_with("opi-agent", &[]).await;
    enable_quirks(&lab, "opi-agent", &["empty-nonce"]);
    lab.register_as("acme", "OPI-1", "generic").await;
    lab.stage(CONTENT, FILES).await;
    lab.serve().await;
    let mut agent = Agent::new(&lab, true, "x").await;
    assert_eq!(agent.ask().await.status, 400);
    let body = BODY.replace(",\"nonce\":\"\"", "");
    let request = request(&agent.host, GET, &agent.token, &body);
    let reply = agent.wire.exchange(&request).await;
    assert_eq!(reply.status, 200);
    let refused = take(&reply).unwrap_err();
    assert!(refused.contains("unknown field"), "{refused}");
    lab.stop().await;
}
