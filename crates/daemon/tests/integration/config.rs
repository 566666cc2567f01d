//! What stands above what, and what is refused.

#![expect(
    clippy::result_large_err,
    reason = "figment's Jail wants its own error type"
)]

use std::path::{Path, PathBuf};

use daemon::config::{Flags, IdentityConfig, ListenConfig, TlsChoice, load, parse};
use daemon::logging::{LogConfig, LogFormat};
use figment::Jail;
use pki::{Coded, KeyKind, SoftwareKey};
use serde::Deserialize;

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Sample {
    database: Option<String>,
    listen: ListenConfig,
    admin: daemon::admin::AdminConfig,
    log: LogConfig,
    tls: Vec<IdentityConfig>,
}

const FILE: &str = r#"
    database = "sqlite:masa.db"

    [listen]
    address = "0.0.0.0:8443"
    http3 = false
    tls = "1.3"
    request_time_seconds = 30

    [admin]
    address = "127.0.0.1:9000"

    [log]
    format = "json"
    filter = "info,masa=debug"

    [[tls]]
    certificate = "server.pem"
    key = "server.key"
    passphrase_file = "server.pass"
"#;

#[test]
fn a_bare_file_name_stands_in_a_folder_that_can_be_made_absolute() {
    Jail::expect_with(|jail| {
        jail.create_file("masa.toml", FILE)?;
        let loaded = load::<Sample>(Some(Path::new("masa.toml")), "masa", &Flags::new())
            .expect("a file in the working folder");
        let absolute = std::path::absolute(&loaded.directory).expect("the folder has a name");
        assert!(absolute.join("masa.toml").is_file());
        assert!(loaded.resolve(Path::new("masa.toml")).is_file());
        Ok(())
    });
}

#[test]
fn variables_stand_above_the_file_and_flags_above_both() {
    Jail::expect_with(|jail| {
        jail.create_file("masa.toml", FILE)?;
        jail.set_env("USHER_MASA_DATABASE", "sqlite:other.db");
        jail.set_env("USHER_MASA_LISTEN__ADDRESS", "[::1]:1");
        jail.set_env("USHER_MASA_LISTEN__CONNECTIONS_MAX", "7");
        jail.set_env("USHER_MASA_CONFIG", "masa.toml");
        jail.set_env("USHER_REGISTRAR_DATABASE", "not this one");
        let flags = Flags::new()
            .set("listen.address", Some("127.0.0.1:2"))
            .and_then(|flags| flags.set("admin.address", None::<&str>))
            .expect("flags");
        let loaded =
            load::<Sample>(Some(Path::new("masa.toml")), "masa", &flags).expect("it loads");
        let value = loaded.value;
        assert_eq!(value.database.as_deref(), Some("sqlite:other.db"));
        assert_eq!(value.listen.address.to_string(), "127.0.0.1:2");
        assert_eq!(value.admin.address.to_string(), "127.0.0.1:9000");
        assert_eq!(value.listen.tls, TlsChoice::Only13);
        assert!(!value.listen.http3);
        let limits = value.listen.limits();
        assert_eq!(limits.request_time_max.as_secs(), 30);
        assert_eq!(limits.connections_max, 7);
        assert_eq!(limits.idle_time_max, net::server::IDLE_TIME_MAX);
        assert_eq!(value.log.format, LogFormat::Json);
        assert_eq!(value.tls.len(), 1);
        Ok(())
    });
}

#[test]
fn without_a_file_defaults_and_variables_are_enough() {
    Jail::expect_with(|jail| {
        jail.set_env("USHER_MASA_LOG__FILTER", "warn");
        let loaded = load::<Sample>(None, "masa", &Flags::new()).expect("it loads");
        assert_eq!(loaded.value.log.filter, "warn");
        assert!(loaded.value.admin.address.ip().is_loopback());
        assert_eq!(loaded.resolve(Path::new("a.pem")), PathBuf::from("a.pem"));
        Ok(())
    });
}

#[test]
fn mistakes_are_named() {
    let code_and_text = |toml: &str| {
        let error = parse::<Sample>(toml).expect_err("a mistake");
        (error.code(), error.to_string())
    };
    let (code, text) = code_and_text("[listen]\nadress = \"127.0.0.1:1\"");
    assert_eq!(code, "config.invalid");
    assert!(text.contains("listen") && text.contains("adress"), "{text}");
    let (_, text) = code_and_text("[listen]\naddress = \"nowhere\"");
    assert!(text.contains("listen.address"), "{text}");
    let (_, text) = code_and_text("[listen]\ntls = \"1.1\"");
    assert!(text.contains("listen.tls"), "{text}");
    let missing = load::<Sample>(
        Some(Path::new("/nonexistent/masa.toml")),
        "masa",
        &Flags::new(),
    );
    assert_eq!(missing.expect_err("not there").code(), "config.missing");
    Jail::expect_with(|jail| {
        jail.set_env("USHER_MASA_LISTEN__HTTP3", "maybe");
        let error = load::<Sample>(None, "masa", &Flags::new()).expect_err("a mistake");
        assert!(
            error.to_string().contains("from the environment"),
            "{error}"
        );
        Ok(())
    });
}

/// A key file with a passphrase from a file and from a variable; paths are relative to the
/// configuration, and no error shows the secret.
#[test]
fn an_identity_is_loaded_with_its_passphrase() {
    Jail::expect_with(|jail| {
        let key = SoftwareKey::generate(KeyKind::EcdsaP256).expect("a key");
        let pem = key.to_encrypted_pkcs8_pem("correct horse").expect("PEM");
        let pkcs8 = key.to_pkcs8_der().expect("DER");
        let pair = rcgen::KeyPair::try_from(pkcs8.as_slice()).expect("a key pair");
        let params = rcgen::CertificateParams::new(vec!["localhost".to_owned()]).expect("names");
        let certificate = params.self_signed(&pair).expect("a certificate");
        jail.create_dir("etc")?;
        jail.create_file("etc/server.pem", &certificate.pem())?;
        jail.create_file("etc/server.key", &pem)?;
        jail.create_file("etc/server.pass", "correct horse\n")?;
        jail.create_file("etc/wrong.pass", "battery staple\n")?;
        jail.set_env("MASA_KEY_PASSPHRASE", "correct horse");
        let load = |extra: &str| {
            let toml = format!("certificate = \"server.pem\"\nkey = \"server.key\"\n{extra}");
            parse::<IdentityConfig>(&toml)
                .expect("parses")
                .load(Path::new("etc"))
        };
        for extra in [
            "passphrase_file = \"server.pass\"",
            "passphrase_env = \"MASA_KEY_PASSPHRASE\"",
        ] {
            let identity = load(extra).expect("it loads");
            assert_eq!(identity.chain.len(), 1);
        }
        let cases = [
            ("passphrase_file = \"wrong.pass\"", "config.identity"),
            ("passphrase_file = \"missing.pass\"", "config.secret"),
            ("passphrase_env = \"NOT_SET_ANYWHERE\"", "config.secret"),
            ("", "config.identity"),
        ];
        for (extra, code) in cases {
            let error = load(extra).expect_err("refused");
            assert_eq!(error.code(), code, "{extra}: {error}");
            let text = format!("{error} {error:?}");
            assert!(
                !text.contains("battery") && !text.contains("horse"),
                "{text}"
            );
        }
        Ok(())
    });
}
