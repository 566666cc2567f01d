//! EST without BRSKI, by tools that others wrote: curl, strongSwan's `pki` and OpenSSL.
//!
//! These tools look at the system's clock, so here the registrar does too.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on should stop")]

use std::path::{Path, PathBuf};
use std::process::Stdio;

use daemon::{Clock, Outcome};
use pki::issue::{CertificateBuilder, Profile};
use pki::{KeyKind, Signer as _, SoftwareKey};
use registrar::{Config, Running};

use crate::harness::command;

/// A registrar for machines without IDevID.
pub(crate) struct Plain {
    pub(crate) folder: tempfile::TempDir,
    running: Option<Running>,
    config: PathBuf,
}

pub(crate) const PASSWORD: &str = "correct horse battery";

impl Plain {
    /// A registrar with a user `alice`, a CA of factory clients, and what else `more` says.
    pub(crate) async fn start(more: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let clock = Clock::system();
        let dir = folder.path().display().to_string();
        let made = command(
            &clock,
            &[
                "init",
                "--dir",
                &dir,
                "--listen",
                "127.0.0.1:0",
                "--admin",
                "127.0.0.1:1",
                "--json",
            ],
        )
        .await;
        assert_eq!(made, Outcome::Yes);
        factory(folder.path(), &clock);
        let line = registrar::est::hash_password("alice", PASSWORD, &[3; 16]);
        std::fs::write(folder.path().join("users"), format!("{line}\n")).unwrap();
        let config = folder.path().join("registrar.toml");
        let text = std::fs::read_to_string(&config)
            .unwrap()
            .replace("127.0.0.1:1\"", "127.0.0.1:0\"");
        std::fs::write(&config, format!("{text}\n{more}\n")).unwrap();
        let loaded = Config::load(&config, &daemon::config::Flags::new()).unwrap();
        let running = registrar::serve(loaded, clock).await.unwrap();
        Self {
            folder,
            running: Some(running),
            config,
        }
    }

    pub(crate) fn port(&self) -> u16 {
        self.running.as_ref().unwrap().device_address().port()
    }

    /// Runs a script in the folder; `$EST` is the URL of the EST tree.
    pub(crate) async fn sh(&self, script: &str) -> (bool, String) {
        let output = tokio::process::Command::new("bash")
            .arg("-c")
            .arg(format!("set -e -o pipefail\n{script}"))
            .current_dir(self.folder.path())
            .env(
                "EST",
                format!("https://localhost:{}/.well-known/est", self.port()),
            )
            .env("HOST", format!("https://localhost:{}", self.port()))
            .env("PASSWORD", PASSWORD)
            .stdin(Stdio::null())
            .output()
            .await
            .unwrap();
        let text = String::from_utf8_lossy(&output.stdout).into_owned()
            + &String::from_utf8_lossy(&output.stderr);
        (output.status.success(), text)
    }

    /// As [`Plain::sh`], for scripts that have to succeed.
    pub(crate) async fn run(&self, script: &str) -> String {
        let (ok, text) = self.sh(script).await;
        assert!(ok, "{script}\n{text}");
        text
    }

    pub(crate) async fn stop(mut self) {
        if let Some(running) = self.running.take() {
            running.stop().await;
        }
    }
}

/// A CA that is not ours, with one client.
fn factory(folder: &Path, clock: &Clock) {
    let now = clock.now();
    let (from, to) = (
        now - time::Duration::hours(1),
        now + time::Duration::days(30),
    );
    let ca_key = SoftwareKey::generate(KeyKind::EcdsaP256).unwrap();
    let name = pki::issue::name("CN=Factory CA").unwrap();
    let public = ca_key.public_key().clone();
    let ca = CertificateBuilder::new(Profile::RootCa, name, public, rand::random(), from, to)
        .self_sign(&ca_key)
        .unwrap();
    let key = SoftwareKey::generate(KeyKind::EcdsaP256).unwrap();
    let name = pki::issue::name("CN=pump-7").unwrap();
    let public = key.public_key().clone();
    let client =
        CertificateBuilder::new(Profile::TlsClient, name, public, rand::random(), from, to)
            .issue(&ca, &ca_key)
            .unwrap();
    let write = |file: &str, text: &str| std::fs::write(folder.join(file), text).unwrap();
    write("factory-ca.pem", &ca.to_pem());
    write("pump.pem", &client.to_pem());
    write("pump.key", &key.to_pkcs8_pem().unwrap());
}

const PLAIN: &str = "[est]\nserver_keygen = true\n[est.without_brski]\nusers_file = \"users\"\n\
                     client_cas = [\"factory-ca.pem\"]\n";

/// Requirements: EST-3.2.3-01, EST-3.3-01, EST-3.3.2-01, EST-4.1.2-01, EST-4.1.3-01, EST-4.1.3-03,
/// EST-4.2-02, EST-4.2.1-01, EST-4.2.3-01, EST-4.4.2-01, EST8951-3-02, EST8951-3.1-01
#[tokio::test(flavor = "multi_thread")]
async fn curl_walks_through_every_operation() {
    let plain = Plain::start(PLAIN).await;
    // Without any credentials: what is public is given, the rest is refused with a challenge.
    let text = plain
        .run(
            "curl -sS --cacert domain-ca.pem $EST/cacerts -o cacerts.b64 -w '%{http_code} %{content_type}\\n'
             base64 -d cacerts.b64 | openssl pkcs7 -inform DER -print_certs -out cacerts.pem
             openssl x509 -in cacerts.pem -noout -subject
             openssl x509 -in cacerts.pem -outform DER | cmp - <(openssl x509 -in domain-ca.pem -outform DER)
             openssl ecparam -genkey -name prime256v1 -noout -out alice.key
             openssl req -new -key alice.key -subj /CN=alice -out alice.csr
             openssl req -in alice.csr -outform DER | base64 > alice.b64
             curl -sS --cacert domain-ca.pem -H 'Content-Type: application/pkcs10' --data-binary @alice.b64 \
               $EST/simpleenroll -D - -o refused.txt
             cat refused.txt",
        )
        .await;
    assert!(text.contains("200 application/pkcs7-mime\n"), "{text}");
    assert!(
        text.contains("HTTP/2 401") && text.contains("www-authenticate: Basic"),
        "{text}"
    );
    assert!(text.contains("est.credentials-required"), "{text}");

    let curl = "curl -sS --cacert domain-ca.pem -u alice:\"$PASSWORD\"";
    let post = format!("{curl} -H 'Content-Type: application/pkcs10'");
    let text = plain
        .run(&format!(
            "{curl} $EST/csrattrs -o csrattrs.b64 -w '%{{http_code}} %{{content_type}}\\n'
             base64 -d csrattrs.b64 | openssl asn1parse -inform DER
             {post} --data-binary @alice.b64 $EST/simpleenroll -o first.b64 -w '%{{http_code}} %{{content_type}}\\n'
             base64 -d first.b64 | openssl pkcs7 -inform DER -print_certs -out alice.pem
             grep -c BEGIN alice.pem
             openssl verify -CAfile domain-ca.pem -purpose sslclient alice.pem
             openssl x509 -in alice.pem -noout -subject -ext keyUsage,extendedKeyUsage
             cmp <(openssl x509 -in alice.pem -noout -pubkey) <(openssl pkey -in alice.key -pubout)
             # Again, with CRLF, blanks and a header that means nothing.
             sed 's/$/\\r/; s/^/ /' alice.b64 > odd.b64
             {post} -H 'Content-Transfer-Encoding: 7bit' --data-binary @odd.b64 $EST/simpleenroll -o again.b64
             cmp first.b64 again.b64"
        ))
        .await;
    assert!(text.contains("200 application/csrattrs\n"), "{text}");
    assert!(
        text.contains("200 application/pkcs7-mime; smime-type=certs-only\n1\n"),
        "{text}"
    );
    assert!(text.contains("alice.pem: OK"), "{text}");
    assert!(text.contains("subject=CN = alice"), "{text}");

    // Renewal with the certificate over HTTP/1.1, key generation, full CMC, and the CRL.
    let text = plain
        .run(&format!(
            "openssl ecparam -genkey -name prime256v1 -noout -out fresh.key
             openssl req -new -key fresh.key -subj /CN=alice -outform DER | base64 -w0 > fresh.b64
             curl -sS --http1.1 --cacert domain-ca.pem --cert alice.pem --key alice.key \
               -H 'Content-Type: application/pkcs10' --data-binary @fresh.b64 $EST/simplereenroll \
               -o second.b64 -w '%{{http_code}} %{{http_version}}\\n'
             base64 -d second.b64 | openssl pkcs7 -inform DER -print_certs -out second.pem
             openssl verify -CAfile domain-ca.pem second.pem
             cmp <(openssl x509 -in second.pem -noout -pubkey) <(openssl pkey -in fresh.key -pubout)
             {post} --data-binary @alice.b64 $EST/serverkeygen -o keygen.txt -w '%{{http_code}} %{{content_type}}\\n'
             tr -d '\\r' < keygen.txt | awk '/^--/ {{ part++; body=0; next }} body {{ print > (\"part\" part) }} /^$/ {{ body=1 }}'
             base64 -d part1 | openssl pkey -inform DER -pubout -out generated.pub
             base64 -d part2 | openssl pkcs7 -inform DER -print_certs -out generated.pem
             cmp <(openssl x509 -in generated.pem -noout -pubkey) generated.pub
             openssl verify -CAfile domain-ca.pem generated.pem
             {post} --data-binary @alice.b64 $EST/fullcmc -o /dev/null -w '%{{http_code}}\\n'
             curl -sS --cacert domain-ca.pem $HOST/crl -o crl.der
             openssl crl -inform DER -in crl.der -CAfile domain-ca.pem -noout"
        ))
        .await;
    assert!(text.contains("200 1.1\n"), "{text}");
    assert!(text.contains("200 multipart/mixed; boundary="), "{text}");
    assert!(
        text.contains("\n501\n") && text.contains("verify OK"),
        "{text}"
    );

    // A wrong password, and a client of the factory's CA.
    let text = plain
        .run(
            "curl -sS --cacert domain-ca.pem -u alice:wrong -H 'Content-Type: application/pkcs10' \
               --data-binary @alice.b64 $EST/simpleenroll -o /dev/null -w '%{http_code}\\n'
             openssl req -new -key fresh.key -subj /CN=root -outform DER | base64 -w0 > pump.b64
             openssl ecparam -genkey -name prime256v1 -noout -out pump2.key
             openssl req -new -key pump2.key -subj /CN=root -outform DER | base64 -w0 > pump2.b64
             curl -sS --cacert domain-ca.pem --cert pump.pem --key pump.key \
               -H 'Content-Type: application/pkcs10' --data-binary @pump.b64 $EST/simpleenroll
             curl -sS --cacert domain-ca.pem --cert pump.pem --key pump.key \
               -H 'Content-Type: application/pkcs10' --data-binary @pump2.b64 $EST/simpleenroll \
               | base64 -d | openssl pkcs7 -inform DER -print_certs | openssl x509 -noout -subject",
        )
        .await;
    assert!(text.starts_with("401\n"), "{text}");
    // The key is alice's.
    assert!(text.contains("est.key-in-use"), "{text}");
    assert!(
        text.contains("subject=CN = pump-7"),
        "the name is not the client's wish: {text}"
    );
    plain.stop().await;
}

/// strongSwan has a TLS and an HTTP implementation of its own.
/// Requirements: EST-3.3.2-01, EST-4.1.3-01, EST-4.2.2-03, EST-4.2.3-02
#[tokio::test(flavor = "multi_thread")]
async fn strongswan_enrols_and_renews() {
    let plain = Plain::start("[est]\n[est.without_brski]\nusers_file = \"users\"\n").await;
    let text = plain
        .run(
            "pki --estca --url $HOST --cacert domain-ca.pem --caout got.pem --outform pem --force
             cmp <(openssl x509 -in got.pem -outform DER) <(openssl x509 -in domain-ca.pem -outform DER)
             pki --gen --type ecdsa --size 256 --outform pem > gw.key
             pki --req --in gw.key --type ecdsa --dn CN=alice > gw.csr
             pki --est --url $HOST --in gw.csr --cacert domain-ca.pem \
               --userpass alice:\"$PASSWORD\" --outform pem > gw.pem
             openssl verify -CAfile domain-ca.pem gw.pem
             pki --gen --type ecdsa --size 384 --outform pem > new.key
             pki --req --in new.key --type ecdsa --dn CN=alice > new.csr
             pki --est --url $HOST --in new.csr --cacert domain-ca.pem \
               --cert gw.pem --key gw.key --outform pem > new.pem
             openssl verify -CAfile domain-ca.pem new.pem
             cmp <(openssl x509 -in new.pem -noout -pubkey) <(openssl pkey -in new.key -pubout)",
        )
        .await;
    assert!(
        text.contains("gw.pem: OK") && text.contains("new.pem: OK"),
        "{text}"
    );
    // A renewal under another name is not one.
    let (ok, text) = plain
        .sh("pki --req --in new.key --type ecdsa --dn CN=root > root.csr
             pki --est --url $HOST --in root.csr --cacert domain-ca.pem \
               --cert gw.pem --key gw.key --outform pem")
        .await;
    assert!(!ok && text.contains("400"), "{text}");
    plain.stop().await;
}

/// Requirements: EST-3.7-01
#[tokio::test(flavor = "multi_thread")]
async fn a_registration_authority_speaks_for_others() {
    let script = "openssl ecparam -genkey -name prime256v1 -noout -out $NAME.key
         openssl req -new -key $NAME.key -subj /O=Plant/CN=$NAME -addext subjectAltName=DNS:$NAME.example \
           -outform DER | base64 -w0 > $NAME.b64
         curl -sS --cacert domain-ca.pem --cert registrar.pem --key registrar.key \
           -H 'Content-Type: application/pkcs10' --data-binary @$NAME.b64 $EST/simpleenroll \
           | base64 -d | openssl pkcs7 -inform DER -print_certs | openssl x509 -noout -subject -ext subjectAltName";
    let anchors = "[est]\n[est.without_brski]\nclient_cas = [\"domain-ca.pem\"]\n";
    let plain = Plain::start(&format!("{anchors}registration_authorities = true\n")).await;
    for name in ["valve-1", "valve-2"] {
        let text = plain.run(&format!("NAME={name}\n{script}")).await;
        assert!(
            text.contains(&format!("subject=O = Plant, CN = {name}")),
            "{text}"
        );
        assert!(text.contains(&format!("DNS:{name}.example")), "{text}");
    }
    plain.stop().await;
    // Where that is off, the same certificate is an ordinary client's.
    let plain = Plain::start(anchors).await;
    let text = plain.run(&format!("NAME=valve-1\n{script}")).await;
    assert!(
        text.contains("subject=CN = localhost") && !text.contains("valve"),
        "{text}"
    );
    plain.stop().await;
}

/// Requirements: EST-3.2.3-04, EST-3.3-01, EST-3.3-02, EST-3.3-03, EST-4.4-02, EST-6-01
#[tokio::test(flavor = "multi_thread")]
async fn old_tls_and_weak_suites_are_not_spoken() {
    let plain = Plain::start(PLAIN).await;
    let connect =
        "openssl s_client -connect ${HOST#https://} -CAfile domain-ca.pem -brief </dev/null";
    for option in ["-tls1_2", "-tls1_3"] {
        plain.run(&format!("{connect} {option}")).await;
    }
    for option in [
        "-tls1_1 -cipher ALL:@SECLEVEL=0",
        "-tls1 -cipher ALL:@SECLEVEL=0",
        "-tls1_2 -cipher eNULL:@SECLEVEL=0",
        "-tls1_2 -cipher aNULL:@SECLEVEL=0",
        "-tls1_2 -cipher kRSA:@SECLEVEL=0",
        "-tls1_2 -cipher ECDHE-ECDSA-AES256-SHA",
    ] {
        let (ok, text) = plain.sh(&format!("{connect} {option}")).await;
        assert!(!ok && text.contains("alert"), "{option}: {text}");
    }
    let (ok, _) = plain
        .sh("curl -sS http://${HOST#https://}/.well-known/est/cacerts")
        .await;
    assert!(!ok, "no answer in the clear");
    plain.stop().await;
}

/// Requirements: EST-4.1.3-05
#[tokio::test(flavor = "multi_thread")]
async fn cacerts_carry_the_certificates_of_a_root_rollover() {
    let plain = Plain::start("").await;
    let text = std::fs::read_to_string(&plain.config).unwrap();
    let text = text.replace("[ca]\n", "[ca]\nrollover = \"factory-ca.pem\"\n");
    let config = Config::parse(&text, plain.folder.path()).unwrap();
    let second = registrar::serve(config, Clock::system()).await.unwrap();
    let url = format!(
        "https://localhost:{}/.well-known/est/cacerts",
        second.device_address().port()
    );
    let text = plain
        .run(&format!(
            "curl -sS --cacert domain-ca.pem {url} | base64 -d | openssl pkcs7 -inform DER -print_certs"
        ))
        .await;
    assert!(
        text.contains("CN = Usher Domain CA") && text.contains("CN = Factory CA"),
        "{text}"
    );
    second.stop().await;
    plain.stop().await;
}

/// The CA's key sits in a PKCS#11 token; SoftHSM reads its place from the environment, so the test
/// runs itself again with it.
#[tokio::test(flavor = "multi_thread")]
async fn a_ca_whose_key_sits_in_a_token_signs() {
    const TEST: &str = "est_tools::a_ca_whose_key_sits_in_a_token_signs";
    if std::env::var_os("SOFTHSM2_CONF").is_none() {
        let folder = tempfile::tempdir().unwrap();
        let tokens = folder.path().join("tokens");
        std::fs::create_dir(&tokens).unwrap();
        let config = folder.path().join("softhsm2.conf");
        std::fs::write(
            &config,
            format!("directories.tokendir = {}\n", tokens.display()),
        )
        .unwrap();
        let output = tokio::process::Command::new(std::env::current_exe().unwrap())
            .env("SOFTHSM2_CONF", &config)
            .args(["--exact", TEST, "--nocapture"])
            .output()
            .await
            .unwrap();
        let text = String::from_utf8_lossy(&output.stdout).into_owned()
            + &String::from_utf8_lossy(&output.stderr);
        assert!(
            output.status.success() && text.contains("1 passed"),
            "{text}"
        );
        return;
    }
    let plain = Plain::start(PLAIN).await;
    let module = plain
        .run(
            "softhsm2-util --init-token --free --label usher --so-pin 5678 --pin 1234 >/dev/null
             softhsm2-util --import domain-ca.key --token usher --label domain-ca --id 01 --pin 1234 >/dev/null
             echo 1234 > pin
             rm domain-ca.key
             ls /usr/lib/softhsm/libsofthsm2.so /usr/lib/*/softhsm/libsofthsm2.so 2>/dev/null | head -1 || true",
        )
        .await;
    let text = std::fs::read_to_string(&plain.config).unwrap();
    let uri = format!(
        "pkcs11:token=usher;object=domain-ca?module-path={}",
        module.trim()
    );
    let text = text.replace(
        "key = \"domain-ca.key\"",
        &format!("key = \"{uri}\"\npassphrase_file = \"pin\""),
    );
    let config = Config::parse(&text, plain.folder.path()).unwrap();
    let second = registrar::serve(config, Clock::system()).await.unwrap();
    let text = plain
        .run(&format!(
            "HOST=https://localhost:{}
             openssl ecparam -genkey -name prime256v1 -noout -out a.key
             openssl req -new -key a.key -subj /CN=alice -outform DER | base64 -w0 > a.b64
             curl -sS --cacert domain-ca.pem -u alice:\"$PASSWORD\" -H 'Content-Type: application/pkcs10' \
               --data-binary @a.b64 $HOST/.well-known/est/simpleenroll \
               | base64 -d | openssl pkcs7 -inform DER -print_certs -out a.pem
             openssl verify -CAfile domain-ca.pem a.pem
             curl -sS --cacert domain-ca.pem $HOST/crl \
               | openssl crl -inform DER -CAfile domain-ca.pem -noout",
            second.device_address().port()
        ))
        .await;
    assert!(
        text.contains("a.pem: OK") && text.contains("verify OK"),
        "{text}"
    );
    second.stop().await;
    plain.stop().await;
}

/// The users' file is made by a command, and works.
#[tokio::test(flavor = "multi_thread")]
async fn a_user_is_made_changed_and_removed() {
    let plain = Plain::start("").await;
    let config = Config::parse(
        &format!(
            "{}\n[est.without_brski]\nusers_file = \"new-users\"\n",
            std::fs::read_to_string(&plain.config).unwrap()
        ),
        plain.folder.path(),
    )
    .unwrap();
    let run = |name: &str, password: &str, remove: bool| {
        let command = registrar::est::UserCommand {
            name: name.to_owned(),
            remove,
            file: None,
        };
        command.run(
            &config,
            &mut password.as_bytes(),
            daemon::Format { json: true },
        )
    };
    assert_eq!(run("bob", "one\n", false).unwrap(), Outcome::Yes);
    assert_eq!(run("eve", "two\n", false).unwrap(), Outcome::Yes);
    let first = std::fs::read_to_string(plain.folder.path().join("new-users")).unwrap();
    assert_eq!(run("bob", "three\n", false).unwrap(), Outcome::Yes);
    let second = std::fs::read_to_string(plain.folder.path().join("new-users")).unwrap();
    assert_eq!((first.lines().count(), second.lines().count()), (2, 2));
    assert_ne!(first, second);
    assert!(!second.contains("three"));
    assert!(run("bob", "", false).is_err());
    assert!(run("a:b", "x\n", false).is_err());
    assert_eq!(run("bob", "", true).unwrap(), Outcome::Yes);
    assert_eq!(run("bob", "", true).unwrap(), Outcome::No);
    plain.stop().await;
}
