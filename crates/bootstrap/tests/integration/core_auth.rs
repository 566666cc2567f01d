//! Who a peer is, and what is said about it.

use serde_json::json;
use store::params;

use crate::harness::{Device, Lab};

/// A profile whose devices may send a password.
pub(crate) const WITH_PASSWORDS: &str = "name = \"with-passwords\"\ntitle = \"a box with a password\"\n\
     evidence = \"a test\"\n\n[quirks]\nbasic-authentication = { on = true, reason = \"a test\" }\n";

async fn lab_with_passwords() -> Lab {
    let mut lab = Lab::prepare(
        "[profiles]\ndirectory = \"profiles.d\"\n[authentication]\nfailures_per_minute_max = 3\n",
    )
    .await;
    std::fs::create_dir(lab.path("profiles.d")).unwrap();
    std::fs::write(lab.path("profiles.d/with-passwords.toml"), WITH_PASSWORDS).unwrap();
    lab.serve().await;
    lab
}

async fn set_password(lab: &Lab, serial: &str, password: &str) {
    let hash = bootstrap::auth::hash_password(password, b"some salt");
    lab.change(
        "UPDATE device SET basic_hash = $1 WHERE serial = $2",
        params![hash, serial],
    )
    .await;
}

/// A device is known by its certificate and nobody else by what it says.
///
/// Requirements: SZTP-8040-2.5-01, SZTP-8040-2.5-02, SZTP-8040-2.5-03, SZTP-8040-2.5-06,
/// SZTP-8572-4.4-05, SZTP-8995-2.3.1-01
pub(crate) async fn strangers_are_refused_and_seen() {
    let lab = Lab::start("").await;
    let known = lab.register("SN-1").await;
    let address = lab.address();
    let cases: Vec<(&str, Device, &str)> = vec![
        (
            "no certificate",
            lab.anonymous(),
            "bootstrap.credentials-missing",
        ),
        (
            "made by nobody known",
            Device::new(address, Some(lab.pki.forged_idevid("SN-1").unwrap())),
            "",
        ),
        (
            "signed by itself",
            Device::new(address, Some(lab.pki.self_signed_device("SN-1").unwrap())),
            "",
        ),
        (
            "not in the register",
            lab.device("SN-2"),
            "bootstrap.serial-unknown",
        ),
        (
            "another kind of credentials",
            lab.anonymous().with("authorization", "Bearer SN-1"),
            "bootstrap.authorization-unsupported",
        ),
        (
            "a header of a proxy that is none",
            lab.anonymous().with("client-cert", ":AAAA:"),
            "bootstrap.credentials-missing",
        ),
    ];
    for (title, device, code) in cases {
        let got = device.ask(json!({})).await;
        let (status, tag, app_tag) = got.refusal();
        assert_eq!((status, tag.as_str()), (401, "access-denied"), "{title}");
        // What is wrong with it is for the operator only.
        assert_eq!(app_tag, "restconf.unauthenticated", "{title}");
        let line = lab.line().await;
        assert_eq!((line.http, line.device), (401, None), "{title}");
        if !code.is_empty() {
            assert_eq!(line.code, code, "{title}");
        }
        assert!(!line.identity.is_empty(), "{title}");
        assert!(!line.next.is_empty(), "{title}");
    }
    // An operator who looks for a serial number finds what was refused under it, and whether it was
    // proven. What anybody can write into a certificate is in no way a sign of the device.
    let found = |serial| bootstrap::timeline::strangers(&lab.store, Some(serial), 10);
    let lines = found("SN-1").await.unwrap();
    let seen: Vec<_> = lines
        .iter()
        .map(|line| (line.code.as_str(), line.device, line.vendor.as_deref()))
        .collect();
    let unknown = "registrar.manufacturer-unknown";
    assert_eq!(
        seen,
        [(unknown, None, None), (unknown, None, None)],
        "newest first"
    );
    let lines = found("SN-2").await.unwrap();
    assert_eq!(lines.len(), 1);
    assert_eq!(lines[0].vendor.as_deref(), Some("acme"));
    assert!(found("SN-3").await.unwrap().is_empty());
    // The right one is not refused for who it is.
    let got = lab.device("SN-1").ask(json!({})).await;
    assert_ne!(got.status, 401, "{}", got.text());
    assert_eq!(lab.line().await.device, Some(known));
    lab.stop().await;
}

/// Requirements: SZTP-8572-5.3-05, SZTP-8040-2.5-04, SZTP-8040-2.5-05, SZTP-8040-2.5-07
pub(crate) async fn passwords_count_where_a_profile_says_so() {
    let lab = lab_with_passwords().await;
    lab.register_as("acme", "PW-1", "with-passwords").await;
    lab.register_as("acme", "PW-2", "").await;
    lab.register_as("acme", "PW-3", "with-passwords").await;
    for serial in ["PW-1", "PW-2"] {
        set_password(&lab, serial, "mountain-air").await;
    }
    let cases = [
        (
            "right",
            lab.anonymous().with_basic("PW-1", "mountain-air"),
            false,
            "",
        ),
        (
            "both, and they agree",
            lab.device("PW-1").with_basic("PW-1", "mountain-air"),
            false,
            "",
        ),
        (
            "a certificate of another",
            lab.device("PW-2").with_basic("PW-1", "mountain-air"),
            true,
            "bootstrap.identities-differ",
        ),
        (
            "a certificate that proves nothing",
            Device::new(lab.address(), Some(lab.pki.forged_idevid("PW-1").unwrap()))
                .with_basic("PW-1", "mountain-air"),
            true,
            "",
        ),
        (
            "a profile that has no passwords",
            lab.anonymous().with_basic("PW-2", "mountain-air"),
            true,
            "bootstrap.basic-not-allowed",
        ),
        (
            "no password set",
            lab.anonymous().with_basic("PW-3", ""),
            true,
            "bootstrap.credentials-wrong",
        ),
    ];
    for (title, device, refused, code) in cases {
        let got = device.ask(json!({})).await;
        assert_eq!(got.status == 401, refused, "{title}: {}", got.text());
        if refused {
            assert!(got.header("www-authenticate").is_some(), "{title}");
        }
        if !code.is_empty() {
            assert_eq!(lab.line().await.code, code, "{title}");
        }
    }
    // Two were wrong passwords; the third is, and then there is a pause, for the right one too.
    let got = lab
        .anonymous()
        .with_basic("PW-1", "guess")
        .ask(json!({}))
        .await;
    assert_eq!(got.status, 401);
    let got = lab
        .anonymous()
        .with_basic("PW-1", "mountain-air")
        .ask(json!({}))
        .await;
    assert_eq!(got.refusal().0, 409, "{}", got.text());
    assert_eq!(got.header("retry-after"), Some("60"));
    // Who shows a certificate and no password is not held up.
    assert_ne!(lab.device("PW-1").ask(json!({})).await.status, 409);
    lab.stop().await;
}

/// Requirements: SZTP-8040-4.4.2-02, SZTP-8040-4-01
pub(crate) async fn devices_that_are_blocked_or_gone_get_nothing() {
    let lab = Lab::start("").await;
    let device = lab.register("GONE-1").await;
    for (sql, code) in [
        (
            "UPDATE device SET blocked = 'stolen' WHERE id = $1",
            "bootstrap.device-blocked",
        ),
        (
            "UPDATE device SET blocked = NULL, state = 'released' WHERE id = $1",
            "bootstrap.device-released",
        ),
        (
            "UPDATE device SET state = 'replaced' WHERE id = $1",
            "bootstrap.device-released",
        ),
    ] {
        lab.change(sql, params![device]).await;
        let got = lab.device("GONE-1").ask(json!({})).await;
        assert_eq!(
            (got.refusal().0, got.refusal().1.as_str()),
            (403, "access-denied")
        );
        let line = lab.line().await;
        assert_eq!((line.code.as_str(), line.device), (code, Some(device)));
    }
    assert_eq!(lab.state("GONE-1").await, "replaced");
    lab.stop().await;
}

/// RFC 9440: only a proxy that is named in the configuration says what certificate was shown to it.
pub(crate) async fn a_proxy_hands_on_what_it_was_shown() {
    use base64::Engine as _;
    let lab = Lab::start("[authentication]\nproxies = [\"127.0.0.1\"]\n").await;
    lab.register("PX-1").await;
    let idevid = lab.pki.idevid("PX-1").unwrap();
    let field = |index: usize| {
        let der = idevid.chain[index].der();
        format!(
            ":{}:",
            base64::engine::general_purpose::STANDARD.encode(der)
        )
    };
    let shown = lab
        .anonymous()
        .with("client-cert", &field(0))
        .with("client-cert-chain", &field(1));
    assert_ne!(shown.ask(json!({})).await.status, 401);
    // The proxy's own certificate is not the device's.
    assert_eq!(lab.device("PX-1").ask(json!({})).await.status, 401);
    for broken in [":AAAA:", "AAAA", "::", ":=:"] {
        let got = lab
            .anonymous()
            .with("client-cert", broken)
            .ask(json!({}))
            .await;
        assert_eq!(got.status, 401, "{broken}");
        assert!(lab.line().await.code.starts_with("bootstrap."), "{broken}");
    }
    lab.stop().await;
}

/// A change by the operator holds for the next request.
pub(crate) async fn a_change_in_the_register_is_seen_at_once() {
    let lab = Lab::start("").await;
    let device = lab.device("NEW-1");
    assert_eq!(device.ask(json!({})).await.status, 401);
    lab.register("NEW-1").await;
    for _ in 0..3 {
        assert_eq!(device.ask(json!({})).await.status, 404);
        lab.change(
            "UPDATE device SET blocked = 'for a moment' WHERE serial = $1",
            params!["NEW-1"],
        )
        .await;
        assert_eq!(device.ask(json!({})).await.status, 403);
        lab.change(
            "UPDATE device SET blocked = NULL WHERE serial = $1",
            params!["NEW-1"],
        )
        .await;
    }
    lab.stop().await;
}

/// A second serial number of a device gets its data and counts as the device.
pub(crate) async fn an_alias_is_the_device() {
    let lab = Lab::start("").await;
    let chassis = lab.register("CHASSIS").await;
    lab.register("MODULE").await;
    lab.change(
        "UPDATE device SET alias_of = $1 WHERE serial = 'MODULE'",
        params![chassis],
    )
    .await;
    assert_eq!(lab.device("MODULE").ask(json!({})).await.status, 404);
    let line = lab.line().await;
    assert_eq!(
        (line.device, line.serial.as_deref()),
        (Some(chassis), Some("CHASSIS"))
    );
    lab.stop().await;
}

/// Old devices have a listener with anchors of their own, and nobody else is weakened by it.
pub(crate) async fn legacy_devices_have_a_door_of_their_own() {
    let mut lab = Lab::prepare(
        "[legacy]\nvendors = \"legacy.d\"\n\
         identity = [{ certificate = \"tls-rsa.pem\", key = \"tls-rsa.key\" }]\n\
         [legacy.listen]\ntls = \"1.2\"\nhttp3 = false\n",
    )
    .await;
    let old = testkit::Pki::p256(testkit::NOW).unwrap();
    let server = |builder: pki::issue::CertificateBuilder| builder.dns_name("localhost");
    crate::harness::issue_kind(
        lab.folder.path(),
        &lab.ca,
        "tls-rsa",
        pki::issue::Profile::TlsServer,
        pki::KeyKind::Rsa2048,
        server,
    );
    std::fs::create_dir(lab.path("legacy.d")).unwrap();
    let anchor = old.manufacturer_root.chain[0].to_pem();
    std::fs::write(lab.path("legacy.d/old.pem"), anchor).unwrap();
    std::fs::write(
        lab.path("legacy.d/old.toml"),
        "name = \"old\"\nidevid_anchors = [\"old.pem\"]\n",
    )
    .unwrap();
    lab.serve().await;
    lab.register_as("old", "OLD-1", "").await;
    lab.register_as("acme", "ACME-1", "").await;
    let legacy = lab.running().legacy_address().unwrap();
    let main = lab.address();
    let (old, acme) = (
        old.idevid("OLD-1").unwrap(),
        lab.pki.idevid("ACME-1").unwrap(),
    );
    for (address, identity, known) in [
        (main, &acme, true),
        (main, &old, false),
        (legacy, &old, true),
        (legacy, &acme, false),
    ] {
        let device = Device::new(address, Some(identity.clone()));
        let got = device.ask(json!({})).await;
        // Nothing is staged, which only a device that is known hears.
        assert_eq!(got.status, if known { 404 } else { 401 }, "{}", got.text());
        let version = device.connect().await.tls_version().unwrap();
        let expected = if address == main {
            net::TlsVersion::Tls13
        } else {
            net::TlsVersion::Tls12
        };
        assert_eq!(version, expected);
    }
    lab.stop().await;
}

/// Manufacturers are read again while the server runs; what is wrong leaves the old ones in use.
pub(crate) async fn a_reload_takes_effect_or_changes_nothing() {
    let lab = Lab::start("").await;
    lab.register("RL-1").await;
    let device = lab.device("RL-1");
    assert_eq!(device.ask(json!({})).await.status, 404);
    let service = lab.running().service();
    // Anchors of somebody else: the device is a stranger at once, also on judgements that were
    // remembered.
    let file = lab.path("vendors.d/root.pem");
    let own = std::fs::read(&file).unwrap();
    std::fs::write(&file, lab.ca.chain[0].to_pem()).unwrap();
    service.reload(&lab.config()).unwrap();
    assert_eq!(device.ask(json!({})).await.status, 401);
    std::fs::write(&file, own).unwrap();
    service.reload(&lab.config()).unwrap();
    assert_eq!(device.ask(json!({})).await.status, 404);
    std::fs::write(lab.path("vendors.d/broken.toml"), "name = 7").unwrap();
    assert!(service.reload(&lab.config()).is_err());
    assert_eq!(device.ask(json!({})).await.status, 404);
    std::fs::remove_file(lab.path("vendors.d/broken.toml")).unwrap();
    // Another server certificate is shown on the next connection.
    let server = |builder: pki::issue::CertificateBuilder| builder.dns_name("localhost");
    let new = crate::harness::issue(
        lab.folder.path(),
        &lab.ca,
        "tls",
        pki::issue::Profile::TlsServer,
        server,
    );
    service.reload(&lab.config()).unwrap();
    assert_eq!(device.connect().await.peer_chain()[0], new.chain[0]);
    lab.stop().await;
}
