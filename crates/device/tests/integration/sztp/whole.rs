//! From the first connection to the last report.

use std::time::Duration;

use artifacts::{Encoding, conveyed::ConveyedInformation};
use device::sztp::{
    Clock, CsrAbility, DeviceEvent, Event, Options, Outcome, RunningOs, Scripts, Server as Address,
    Verdict, factory_reset, run, trust_anchor_cert,
};
use net::HttpVersion;
use pki::{Certificate, Csr, KeyKind, Signer, SoftwareKey, issue::Profile};
use sztp::{
    message::{
        CsrFormat, CsrInput, CsrRequest, GetBootstrappingDataInput, ProgressType, ReportingLevel,
    },
    restconf::{Fault, RestconfError},
};

use super::server::{Reply, Server};
use crate::sztp_world::{World, onboarding, redirect, unsigned, whole};

pub(crate) fn options(world: &World) -> Options {
    let idevid = pki::Identity {
        chain: world.device.chain.clone(),
        signer: std::sync::Arc::clone(&world.device.signer),
    };
    let mut options = Options::new(idevid, world.pki.manufacturer_anchors(), world.now);
    options.os = RunningOs {
        name: Some("VendorOS".to_owned()),
        version: Some("17.2".to_owned()),
        image_sha256: None,
    };
    options.hw_model = Some("model-x".to_owned());
    options.rounds_max = Some(1);
    options.time_max = Some(Duration::from_secs(60));
    options
}

/// A device that knows this server and the owner's CA from its factory.
pub(crate) fn trusting(world: &World, server: &Server) -> Options {
    let mut options = options(world);
    options.well_known = vec![server.address.clone()];
    options.server_anchors = world.domain_anchors();
    options
}

pub(crate) async fn bootstrap(options: Options) -> Outcome {
    run(options, &mut |_| {}).await.unwrap()
}

pub(crate) fn giving(
    information: ConveyedInformation,
) -> impl FnMut(&GetBootstrappingDataInput, &[Certificate]) -> Reply + Send + 'static {
    move |_, _| Reply::Data(unsigned(&information), Some(ReportingLevel::Verbose))
}

/// Requirements: SZTP-8572-5.3-03, SZTP-8572-5.3-06, SZTP-8572-5.1-03, SZTP-8572-5.1-10,
/// SZTP-8572-9.2-01, SZTP-8040-3.1-01, SZTP-8040-5.2-03, SZTP-8040-7.1-04
#[tokio::test]
async fn a_trusted_server_in_each_encoding_over_each_http_version() {
    let world = World::new();
    let server = Server::start(world.server(&["127.0.0.1"]), giving(whole())).await;
    for http in [HttpVersion::Http1, HttpVersion::Http2, HttpVersion::Http3] {
        for encoding in [Encoding::Json, Encoding::Xml] {
            let mut options = trusting(&world, &server);
            options.http = http;
            options.encoding = encoding;
            options.trust_anchor_certs = vec![trust_anchor_cert(&[world.domain_ca()]).unwrap()];
            server.with(|shared| shared.reports.clear());
            let outcome = bootstrap(options).await;
            let Verdict::Bootstrapped(bootstrapped) = &outcome.verdict else {
                panic!("{http} {encoding}: {:?}", outcome.verdict)
            };
            assert!(bootstrapped.reported);
            assert_eq!(
                outcome.configuration.as_deref(),
                Some(&b"hostname x\nno sztp\n"[..])
            );
            let reports = server.reports();
            assert_eq!(reports.first(), Some(&ProgressType::BootstrapInitiated));
            assert_eq!(reports.last(), Some(&ProgressType::BootstrapComplete));
            assert_eq!(reports.len(), 10);
            assert_eq!(outcome.reports().len(), 10);
            server.with(|shared| {
                // The whole chain of the IDevID, up to its root.
                assert_eq!(shared.chains.last(), Some(&world.device.chain));
                assert!(shared.chains.last().unwrap().len() > 1);
                let input = shared.inputs.last().unwrap();
                assert_eq!(input.hw_model.as_deref(), Some("model-x"));
                let last = shared.reports.last().unwrap();
                assert_eq!(last.trust_anchor_certs.len(), 1);
            });
            let document = outcome.document();
            assert_eq!(document["state"], "bootstrapped");
            let trace = document["trace"].as_array().unwrap();
            for event in [
                "round",
                "source",
                "server",
                "connected",
                "trust",
                "root",
                "exchanged",
                "check",
                "verdict",
                "report",
                "script-shown",
                "script",
                "committed",
                "bootstrapped",
            ] {
                assert!(
                    trace.iter().any(|record| record["event"] == event),
                    "{event}"
                );
            }
        }
    }
    server.stop().await;
}

/// RFC 8572 appendix B with everything that a device may be told on the way.
///
/// Requirements: SZTP-8572-5.5-04, SZTP-8572-5.5-06
#[tokio::test]
async fn an_untrusted_server_becomes_a_trusted_one() {
    let world = World::new();
    let server = Server::start(world.server(&["127.0.0.1"]), |_, _| Reply::Status(404)).await;
    let back = redirect(&[("127.0.0.1", Some(server.port()), Some(world.anchor()))]);
    let signed = world.signed(&back);
    server.answers(move |input, _| {
        let data = if input.signed_data_preferred {
            signed.clone()
        } else {
            unsigned(&whole())
        };
        Reply::Data(data, None)
    });
    let mut options = options(&world);
    options.well_known = vec![server.address.clone()];
    options.password = Some("secret".to_owned());
    let outcome = bootstrap(options).await;
    assert!(outcome.is_bootstrapped(), "{:?}", outcome.verdict);
    server.with(|shared| {
        let [first, second] = shared.inputs.as_slice() else {
            panic!()
        };
        assert!(first.signed_data_preferred && first.hw_model.is_none());
        assert!(!second.signed_data_preferred && second.hw_model.is_some());
        assert_eq!(shared.authorizations[0], None);
        assert!(
            shared.authorizations[1]
                .as_ref()
                .unwrap()
                .starts_with("Basic ")
        );
    });
    assert_eq!(
        server.reports(),
        [
            ProgressType::BootstrapInitiated,
            ProgressType::BootstrapComplete
        ]
    );
    // What a trace shows of it is not the password.
    assert!(!outcome.document().to_string().contains("Basic"));
    server.stop().await;
}

/// Requirements: SZTP-8572-5.3-13, SZTP-8572-5.6-05, SZTP-8040-2.3-01
#[tokio::test]
async fn refusals() {
    let world = World::new();
    let other = World::new();
    let server = Server::start(world.server(&["127.0.0.1"]), giving(whole())).await;
    let stranger = Server::start(other.server(&["127.0.0.1"]), giving(whole())).await;
    let misnamed = Server::start(world.server(&["192.0.2.1"]), giving(whole())).await;
    let untrusting = |address: &Address| {
        let mut options = options(&world);
        options.well_known = vec![address.clone()];
        options
    };
    for (options, code) in [
        (untrusting(&server.address), "bundle.untrusted-onboarding"),
        (trusting(&world, &stranger), "path.signature"),
        (trusting(&world, &misnamed), "path.name-mismatch"),
        (
            untrusting(&Address::new("127.0.0.1", Some(1))),
            "net.connect",
        ),
        (
            untrusting(&Address::new("absent.invalid", None)),
            "sztp.no-address",
        ),
    ] {
        let outcome = bootstrap(options).await;
        assert_eq!(outcome.code(), Some(code), "{:?}", outcome.verdict);
        assert_eq!(outcome.configuration, None);
        assert_eq!(outcome.document()["code"], code);
    }
    for server in [server, stranger, misnamed] {
        assert!(server.reports().is_empty());
        server.stop().await;
    }
}

/// A server that does what it can to be a nuisance is left for the next one, and the trace of it
/// stays small.
#[tokio::test]
async fn a_nuisance() {
    let world = World::new();
    let good = Server::start(world.server(&["127.0.0.1"]), giving(whole())).await;
    let nuisance = Server::start(world.server(&["127.0.0.1"]), |_, _| Reply::Status(404)).await;
    for (body, code) in [
        (vec![b' '; 9 * 1024 * 1024], "net.response-too-large"),
        (b"[".repeat(200_000), "restconf.too-deep"),
        (
            format!("[{}1]", "1,".repeat(100_000)).into_bytes(),
            "restconf.",
        ),
        (b"\xff\xfe\x00".to_vec(), "restconf."),
    ] {
        nuisance.answers(move |_, _| Reply::Raw(body.clone()));
        let mut options = trusting(&world, &nuisance);
        options.well_known.push(good.address.clone());
        let outcome = bootstrap(options).await;
        assert!(outcome.is_bootstrapped(), "{code}: {:?}", outcome.verdict);
        let left: Vec<&str> = outcome
            .notes()
            .filter_map(|note| match note {
                sztp::agent::Note::ServerLeft { failure, .. } => Some(failure.code.as_str()),
                _ => None,
            })
            .collect();
        assert!(left[0].starts_with(code), "{code}: {left:?}");
        assert!(outcome.document().to_string().len() < 100_000, "{code}");
    }
    good.stop().await;
    nuisance.stop().await;
}

/// Requirements: SZTP-8572-5.5-02, SZTP-8572-5.5-03
#[tokio::test]
async fn a_name_with_an_address_where_nobody_is() {
    let world = World::new();
    let server = Server::start(world.server(&["bs.example"]), giving(whole())).await;
    let mut options = options(&world);
    options.well_known = vec![Address::new("bs.example", Some(server.port()))];
    options.server_anchors = world.domain_anchors();
    let addresses = ["127.0.0.9", "::1", "127.0.0.1"];
    let addresses = addresses.map(|address| address.parse().unwrap());
    options.hosts = vec![("bs.example".to_owned(), addresses.to_vec())];
    let outcome = bootstrap(options).await;
    assert!(outcome.is_bootstrapped(), "{:?}", outcome.verdict);
    server.stop().await;
}

/// Requirements: SZTP-8572-5.6-18, SZTP-8572-5.6-20, SZTP-8572-5.6-08, SZTP-8572-6.3-17
#[tokio::test]
async fn scripts_run_and_a_broken_one_leaves_nothing_behind() {
    let world = World::new();
    let server = Server::start(world.server(&["127.0.0.1"]), giving(whole())).await;
    let with = |pre: &str, post: &str| {
        let mut information = onboarding();
        information.pre_configuration_script = Some(pre.as_bytes().to_vec());
        information.post_configuration_script = Some(post.as_bytes().to_vec());
        ConveyedInformation::Onboarding(information)
    };
    let folder = tempfile::tempdir().unwrap();
    let scripted = || {
        let mut options = trusting(&world, &server);
        options.state_folder = Some(folder.path().to_owned());
        options.scripts = Scripts::Run {
            time_max: Duration::from_secs(20),
        };
        options
    };
    server.answers(giving(with(
        "echo $SZTP_SERIAL_NUMBER > seen",
        "echo 'cannot reach the controller'; exit 3",
    )));
    let outcome = bootstrap(scripted()).await;
    assert_eq!(outcome.code(), Some("sztp.script-error"));
    assert_eq!(
        server.reports().last(),
        Some(&ProgressType::PostScriptError)
    );
    let message = server.with(|shared| shared.reports.last().unwrap().message.clone());
    assert!(message.unwrap().starts_with("cannot reach the controller"));
    assert_eq!(outcome.configuration, None);
    assert!(!folder.path().join("sandbox").exists());
    assert!(outcome.state.enabled);

    server.answers(giving(with(
        "echo $SZTP_SERIAL_NUMBER > seen",
        "echo careful; exit 10",
    )));
    let outcome = bootstrap(scripted()).await;
    assert!(outcome.is_bootstrapped(), "{:?}", outcome.verdict);
    assert!(server.reports().contains(&ProgressType::PostScriptWarning));
    let seen = std::fs::read_to_string(folder.path().join("sandbox/pre/seen")).unwrap();
    assert_eq!(seen, "SN-1\n");
    // The configuration switched SZTP off.
    let asked = server.with(|shared| shared.inputs.len());
    assert_eq!(bootstrap(scripted()).await.verdict, Verdict::Disabled);
    assert_eq!(server.with(|shared| shared.inputs.len()), asked);
    server.stop().await;
}

/// A server that is the owner's and its CA at once.
fn issuing(
    ca: pki::Identity,
    now: time::OffsetDateTime,
    gives: bool,
) -> impl FnMut(&GetBootstrappingDataInput, &[Certificate]) -> Reply + Send + 'static {
    move |input, _| match &input.csr {
        Some(CsrInput::Support(support)) => {
            let request = CsrRequest {
                algorithm: support
                    .algorithms
                    .as_ref()
                    .and_then(|all| all.first().cloned()),
                format: CsrFormat::P10,
                cert_req_info: None,
            };
            let error = RestconfError::new(Fault::CsrWanted, "Missing input parameter");
            Reply::Error(error.with_csr_request(request))
        }
        Some(CsrInput::P10(der)) => {
            let csr = Csr::from_der(der).unwrap();
            csr.verify().unwrap();
            let certificate = pki::issue::CertificateBuilder::new(
                Profile::Ldevid,
                pki::issue::name(&csr.subject()).unwrap(),
                csr.public_key().clone(),
                testkit::serial().unwrap(),
                now - time::Duration::HOUR,
                now + time::Duration::days(90),
            )
            .issue(ca.certificate().unwrap(), ca.signer.as_ref())
            .unwrap();
            let chain = [ca.certificate().unwrap().clone(), certificate];
            let cms = pki::pkcs7::certs_only(&chain).unwrap();
            let mut information = onboarding();
            let text = serde_json::json!({
                "ietf-keystore:cert-data": base64_of(&cms),
                "sztp": { "enabled": false },
            });
            if gives {
                information.configuration = Some(text.to_string().into_bytes());
            }
            Reply::Data(
                unsigned(&ConveyedInformation::Onboarding(information)),
                Some(ReportingLevel::Verbose),
            )
        }
        _ => Reply::Status(400),
    }
}

fn base64_of(bytes: &[u8]) -> String {
    use base64::Engine as _;
    base64::engine::general_purpose::STANDARD.encode(bytes)
}

/// Requirements: SZTP-9646-2.2-01, SZTP-9646-4.1.1-01, SZTP-9646-4.1.2-01, SZTP-9646-4.1.3-01,
/// SZTP-9646-4.1.3-02, SZTP-9646-4.1.6-01, SZTP-9646-2.3-04
#[tokio::test]
async fn a_certificate_for_a_new_key_comes_with_the_configuration() {
    let world = World::new();
    let ca = || pki::Identity {
        chain: world.pki.domain.ca.chain.clone(),
        signer: std::sync::Arc::clone(&world.pki.domain.ca.signer),
    };
    let identity = world.server(&["127.0.0.1"]);
    let server = Server::start(identity, issuing(ca(), world.now, true)).await;
    let folder = tempfile::tempdir().unwrap();
    let key_file = folder.path().join("ldevid.key.pem");
    let able = || {
        let mut options = trusting(&world, &server);
        options.state_folder = Some(folder.path().to_owned());
        options.key_passphrase = Some("open sesame".to_owned());
        options.csr = Some(CsrAbility {
            keys: vec![KeyKind::EcdsaP384],
        });
        options
    };
    let outcome = bootstrap(able()).await;
    assert!(outcome.is_bootstrapped(), "{:?}", outcome.verdict);
    let key = SoftwareKey::load(&key_file, Some("open sesame")).unwrap();
    assert!(
        SoftwareKey::load(&key_file, None).is_err(),
        "it is encrypted"
    );
    let certificate = Certificate::load(folder.path().join("ldevid.pem")).unwrap();
    assert_eq!(certificate.public_key(), key.public_key());
    assert!(outcome.events.iter().any(|record| matches!(
        &record.event,
        Event::Device(DeviceEvent::CertificateReceived { .. })
    )));
    assert!(!server.reports().contains(&ProgressType::ConfigWarning));
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt as _;
        let mode = std::fs::metadata(&key_file).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
    }

    // Back to the factory, nothing of it is left.
    factory_reset(folder.path()).unwrap();
    let left: Vec<_> = std::fs::read_dir(folder.path())
        .unwrap()
        .map(|entry| entry.unwrap().file_name())
        .collect();
    assert_eq!(left, ["lock"]);

    // A configuration without a certificate for the key is worth a warning.
    server.answers(issuing(ca(), world.now, false));
    let outcome = bootstrap(able()).await;
    assert!(outcome.is_bootstrapped());
    let second = SoftwareKey::load(&key_file, Some("open sesame")).unwrap();
    assert_ne!(second.public_key(), key.public_key(), "a new key each time");
    assert!(server.reports().contains(&ProgressType::ConfigWarning));
    assert!(!folder.path().join("ldevid.pem").exists());
    server.stop().await;
}

/// An IDevID's key usage says nothing of encryption.
fn encrypted(artefact: &[u8], recipient: &Certificate) -> Vec<u8> {
    let options = pki::cms::EnvelopOptions {
        any_key_usage: true,
        ..pki::cms::EnvelopOptions::default()
    };
    let recipients = std::slice::from_ref(recipient);
    artifacts::conveyed::encrypt_with(artefact, recipients, &options).unwrap()
}

/// Requirements: SZTP-8572-5.1-12, SZTP-8572-5.3-07
#[tokio::test]
async fn what_is_encrypted_to_the_device_is_decrypted() {
    let world = World::new();
    let certificate = world.device.certificate().unwrap();
    // The IDevID's key as the factory kept it; the one in the world cannot be asked for its secret.
    let key = SoftwareKey::generate(KeyKind::EcdsaP256).unwrap();
    let own = pki::issue::CertificateBuilder::new(
        Profile::Idevid,
        pki::issue::name(&certificate.subject()).unwrap(),
        key.public_key().clone(),
        testkit::serial().unwrap(),
        world.now - time::Duration::HOUR,
        testkit::FOREVER,
    );
    let factory = &world.pki.manufacturer_ca;
    let own = own
        .issue(factory.certificate().unwrap(), factory.signer.as_ref())
        .unwrap();
    let mut data = world.signed(&whole());
    data.conveyed_information = encrypted(&data.conveyed_information, &own);
    for artefact in [&mut data.owner_certificate, &mut data.ownership_voucher] {
        *artefact = artefact
            .as_deref()
            .map(|artefact| encrypted(artefact, &own));
    }
    let identity = world.server(&["127.0.0.1"]);
    let server = Server::start(identity, move |_, _| Reply::Data(data.clone(), None)).await;
    let key = std::sync::Arc::new(key);
    for (able, bootstrapped) in [(true, true), (false, false)] {
        let mut options = options(&world);
        let mut chain = vec![own.clone()];
        chain.extend(factory.chain.iter().cloned());
        let signer: std::sync::Arc<dyn Signer> = std::sync::Arc::clone(&key) as _;
        options.idevid = pki::Identity::new(chain, signer).unwrap();
        options.clock = Clock::Trusted;
        if able {
            options.decryptor = Some(std::sync::Arc::clone(&key) as _);
        }
        options.well_known = vec![server.address.clone()];
        let outcome = bootstrap(options).await;
        assert_eq!(
            outcome.is_bootstrapped(),
            bootstrapped,
            "{:?}",
            outcome.verdict
        );
    }
    server.stop().await;
}
