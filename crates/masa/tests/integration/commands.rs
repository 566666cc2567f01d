//! The command line, on a folder of its own.

use clap::Parser;
use daemon::{Clock, Outcome};
use masa::cli::Command;
use testkit::Pki;

use crate::support::{NOW, server};

#[derive(Parser)]
struct Program {
    #[command(flatten)]
    command: Command,
}

struct Shell {
    directory: tempfile::TempDir,
}

impl Shell {
    fn path(&self, name: &str) -> String {
        self.directory.path().join(name).display().to_string()
    }

    /// Runs a command as the shell would; `@name` is a path in the folder.
    async fn run(&self, line: &str) -> Outcome {
        let words = line
            .split_whitespace()
            .map(|word| match word.strip_prefix('@') {
                Some(name) => self.path(name),
                None => word.to_owned(),
            });
        let config = self.path("masa/masa.toml");
        let mut all = vec!["masa".to_owned(), "--json".to_owned()];
        all.extend(words);
        if !line.starts_with("init") {
            all.extend(["--config".to_owned(), config]);
        }
        let program =
            Program::try_parse_from(&all).unwrap_or_else(|error| panic!("{line}: {error}"));
        program.command.run_async(Clock::fixed(NOW)).await
    }

    async fn expect(&self, line: &str, outcome: Outcome) {
        assert_eq!(self.run(line).await, outcome, "{line}");
    }
}

/// The manufacturer's first day, with each exit code.
async fn first_day(database: &str) {
    let shell = Shell {
        directory: tempfile::tempdir().unwrap(),
    };
    let pki = Pki::p256(NOW).unwrap();
    let write = |name: &str, text: &str| std::fs::write(shell.path(name), text).unwrap();
    write("factory.pem", &pki.manufacturer_root.chain[0].to_pem());
    write("acme-ca.pem", &pki.domain.ca.chain[0].to_pem());
    write("secret", "correct horse battery staple\n");
    write(
        "devices.csv",
        "serial,product,sold-to\nSN-1,Router,acme\nSN-2,Router,acme\n",
    );
    write("bad.csv", "serial,sold-to\nSN-3,nobody\n");
    write("serials.txt", "SN-1\nSN-2\n");
    let (yes, no, misuse) = (Outcome::Yes, Outcome::No, Outcome::CouldNotRun);
    shell.expect("device list", misuse).await;
    let init = format!(
        "init --dir @masa --manufacturer Acme --name masa.test --name 127.0.0.1 \
         --listen 127.0.0.1:0 --admin 127.0.0.1:0 --database {database} --device-ca @factory.pem \
         --passphrase-file @secret"
    );
    shell.expect(&init, yes).await;
    let key = std::fs::read_to_string(shell.path("masa/voucher.key")).unwrap();
    assert!(key.starts_with("-----BEGIN ENCRYPTED PRIVATE KEY-----"));
    // A second init changes nothing.
    shell.expect(&init, no).await;
    shell.expect("migrate", yes).await;
    shell.expect("doctor", yes).await;
    shell
        .expect(
            "owner add acme --name Acme --certificate @acme-ca.pem --nonceless",
            yes,
        )
        .await;
    shell.expect("owner list", yes).await;
    shell.expect("owner show acme", yes).await;
    shell.expect("owner show nobody", no).await;
    shell
        .expect("device import @devices.csv --dry-run", yes)
        .await;
    shell.expect("device show SN-1", no).await;
    shell
        .expect("device import @devices.csv --report @report.csv", yes)
        .await;
    let report = std::fs::read_to_string(shell.path("report.csv")).unwrap();
    assert!(report.contains("1,created,,"), "{report}");
    shell.expect("device import @bad.csv", no).await;
    shell.expect("device import @none.csv", misuse).await;
    shell.expect("device show SN-1", yes).await;
    shell.expect("device list --owner acme", yes).await;
    shell
        .expect(
            "voucher issue --owner acme --serials @serials.txt --out @vouchers",
            yes,
        )
        .await;
    assert!(std::fs::exists(shell.path("vouchers/SN-1.vcj")).unwrap());
    // For constrained devices: in COSE, with the key of a registrar or its hash pinned.
    let registrar = &pki.domain.registrar.chain[0];
    write("registrar.pem", &registrar.to_pem());
    let spki = base64::Engine::encode(
        &base64::engine::general_purpose::STANDARD,
        registrar.public_key().spki_der(),
    );
    let spki = format!("-----BEGIN PUBLIC KEY-----\n{spki}\n-----END PUBLIC KEY-----\n");
    write("registrar.pub", &spki);
    for (folder, pin) in [
        ("cose", ""),
        ("key", "--pin-key @registrar.pem"),
        ("hash", "--pin-key @registrar.pub --pin-hash"),
    ] {
        let line = format!(
            "voucher issue --owner acme --serials @serials.txt --out @{folder} --format cose {pin}"
        );
        shell.expect(&line, yes).await;
        assert!(std::fs::exists(shell.path(&format!("{folder}/SN-1.vch"))).unwrap());
    }
    let bad = "voucher issue --owner acme --serials @serials.txt --out @bad --pin-key @serials.txt";
    shell.expect(bad, misuse).await;
    shell.expect("voucher show 3", yes).await;
    shell.expect("voucher list --serial SN-1", yes).await;
    shell.expect("voucher show 1", yes).await;
    shell.expect("voucher show 99", no).await;
    shell.expect("voucher export 1 --out @one.vcj", yes).await;
    let exported = std::fs::read(shell.path("one.vcj")).unwrap();
    assert_eq!(
        exported,
        std::fs::read(shell.path("vouchers/SN-1.vcj")).unwrap()
    );
    shell.expect("device block SN-1 --reason stolen", yes).await;
    shell.expect("device block SN-1 --lift", yes).await;
    shell.expect("device release SN-1 --unsold", yes).await;
    shell.expect("device transfer SN-1 --to acme", yes).await;
    shell.expect("device transfer SN-1 --to nobody", no).await;
    shell.expect("owner block acme", yes).await;
    shell
        .expect(
            "voucher issue --owner acme --serials @serials.txt --out @v2",
            no,
        )
        .await;
    shell.expect("owner block acme --lift", yes).await;
    // The factory's CA is elsewhere, so no trial device can be made here.
    shell.expect("device try SN-T --out @trial", misuse).await;
    shell.expect("events", yes).await;
    shell.expect("audit list", yes).await;
    shell.expect("audit list --subject SN-1", yes).await;
    shell.expect("audit verify", yes).await;
    shell.expect("audit key", yes).await;
    shell.expect("audit prove 1 --out @proof", yes).await;
    shell.expect("audit prove 999 --out @proof2", no).await;
    shell
        .expect("audit check @proof --key @masa/audit.pub", yes)
        .await;
    let proof = std::fs::read_to_string(shell.path("proof")).unwrap();
    write("forged", &proof.replace("index 0", "index 1"));
    shell
        .expect("audit check @forged --key @masa/audit.pub", no)
        .await;
    shell
        .expect(
            "audit verify --key @masa/audit.pub --checkpoint @masa/audit.checkpoint",
            yes,
        )
        .await;
    shell
        .expect("audit export --lines @log.jsonl --tiles @tiles", yes)
        .await;
    assert!(std::fs::exists(shell.path("tiles/checkpoint")).unwrap());
    // A row that somebody changes by hand is found.
    let config = masa::Config::load(
        shell.path("masa/masa.toml").as_ref(),
        &daemon::config::Flags::new(),
    )
    .unwrap();
    let store = store::Store::open(&config.database.url, &masa::SCHEMA)
        .await
        .unwrap();
    store
        .transaction("tamper", |connection| {
            Box::pin(async move {
                connection
                    .execute(
                        "UPDATE audit_entry SET subject = 'device:SN-9' WHERE leaf_index = 2",
                        store::params![],
                    )
                    .await
            })
        })
        .await
        .unwrap();
    store.close().await;
    shell.expect("audit verify", no).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn first_day_on_sqlite() {
    first_day("sqlite:masa.db").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn first_day_on_postgres() {
    first_day(&server().fresh_database().unwrap()).await;
}

#[test]
fn the_sample_configuration_is_read() {
    let text = include_str!("../../../../docs/samples/masa.toml");
    let config = masa::Config::parse(text, "/etc/usher".as_ref()).unwrap();
    config.policy.policy().unwrap();
    // The sample shows the defaults.
    let shown = toml::Value::try_from(&config.policy).unwrap();
    let default = toml::Value::try_from(masa::PolicyConfig::default()).unwrap();
    assert_eq!(shown, default);
}
