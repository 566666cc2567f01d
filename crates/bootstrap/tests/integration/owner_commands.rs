//! The operator's first day on the command line, with each exit code.

use bootstrap::cli::Command;
use bootstrap::init::{InitOptions, init};
use clap::Parser;
use daemon::{Clock, Outcome};
use pki::issue::{CertificateBuilder, Profile};
use pki::{Certificate, Csr, Identity, KeyKind};
use testkit::{NOW, Pki, PkiOptions};
use time::Duration;

use crate::harness::database;

#[derive(Parser)]
struct Program {
    #[command(flatten)]
    command: Command,
}

struct Shell {
    directory: tempfile::TempDir,
}

impl Shell {
    fn new() -> Self {
        Self {
            directory: tempfile::tempdir().unwrap(),
        }
    }

    fn path(&self, name: &str) -> String {
        self.directory.path().join(name).display().to_string()
    }

    fn write(&self, name: &str, content: impl AsRef<[u8]>) {
        std::fs::write(self.path(name), content).unwrap();
    }

    fn read(&self, name: &str) -> String {
        std::fs::read_to_string(self.path(name)).unwrap()
    }

    /// Runs a command as the shell would; `@name` is a path in the folder.
    async fn run(&self, line: &str) -> Outcome {
        let words = line.split_whitespace().map(|word| {
            word.strip_prefix('@')
                .map_or_else(|| word.to_owned(), |name| self.path(name))
        });
        let mut all = vec!["bootstrap".to_owned(), "--json".to_owned()];
        all.extend(words);
        if !line.starts_with("init") {
            all.extend(["--config".to_owned(), self.path("site/bootstrap.toml")]);
        }
        let program =
            Program::try_parse_from(&all).unwrap_or_else(|error| panic!("{line}: {error}"));
        Box::pin(program.command.run_async(Clock::fixed(NOW))).await
    }

    async fn expect(&self, line: &str, outcome: Outcome) {
        assert_eq!(self.run(line).await, outcome, "{line}");
    }
}

fn voucher(pki: &Pki, serial: &str, pin: &Certificate) -> Vec<u8> {
    let mut fields = artifacts::VoucherFields::new(artifacts::SerialNumber::new(serial).unwrap());
    fields.created_on = Some(NOW - Duration::HOUR);
    fields.expires_on = Some(NOW + Duration::days(365));
    fields.assertion = Some(artifacts::Assertion::Verified);
    fields.pinned_domain_cert = Some(pin.clone());
    let voucher = artifacts::Voucher::new(fields).unwrap();
    let envelope = artifacts::Envelope::Cms;
    artifacts::sign_voucher(&voucher, envelope, &pki.masa_signer, NOW).unwrap()
}

const YES: Outcome = Outcome::Yes;
const NO: Outcome = Outcome::No;
const MISUSE: Outcome = Outcome::CouldNotRun;

/// Requirements: SZTP-8572-3.2-01, SZTP-8572-4.1-03
pub(crate) async fn the_first_day() {
    let shell = Shell::new();
    let pki = Pki::p256(NOW).unwrap();
    shell.write("idevid.pem", pki.manufacturer_root.chain[0].to_pem());
    let signer_ca = pki.masa_signer.chain.last().unwrap();
    shell.write("masa.pem", signer_ca.to_pem());
    shell.write("secret", "correct horse battery staple\n");
    let private = std::os::unix::fs::PermissionsExt::from_mode(0o600);
    std::fs::set_permissions(shell.path("secret"), private).unwrap();
    shell.expect("devices list", MISUSE).await;
    let database = database();
    let line = format!(
        "init @site --owner Example --name localhost --name 127.0.0.1 --listen 127.0.0.1:29543 \
         --admin 127.0.0.1:0 --database {database} --passphrase-file @secret"
    );
    shell.expect(&line, YES).await;
    for key in [
        "owner.key",
        "owner-ca.key",
        "ra.key",
        "tls.key",
        "tls-rsa.key",
        "audit.key",
    ] {
        let text = shell.read(&format!("site/{key}"));
        assert!(
            text.starts_with("-----BEGIN ENCRYPTED PRIVATE KEY-----"),
            "{key}"
        );
    }
    shell.expect(&line, NO).await;
    shell.expect("owner show", YES).await;
    // No vendor, no devices, no content.
    shell.expect("doctor", NO).await;
    shell
        .expect("trust import @idevid.pem --vendor acme --use idevid", YES)
        .await;
    shell
        .expect("trust import @masa.pem --vendor acme --use voucher", YES)
        .await;
    shell
        .expect("trust import @masa.pem --vendor ../x", MISUSE)
        .await;
    shell.expect("trust list", YES).await;
    shell.write(
        "devices.csv",
        "serial,vendor,group,var.hostname\nSN-1,acme,branch,one\nSN-2,acme,branch,two\n",
    );
    shell.expect("devices template", YES).await;
    shell
        .expect("devices import @devices.csv --dry-run", YES)
        .await;
    shell.expect("devices show SN-1", NO).await;
    shell
        .expect("devices import @devices.csv --report @report.jsonl", YES)
        .await;
    let report = shell.read("report.jsonl");
    assert!(
        report.lines().count() == 2 && report.contains("\"outcome\":\"created\""),
        "{report}"
    );
    shell.write("bad.csv", "serial,vendor\nSN-3,nobody\n");
    shell.expect("devices import @bad.csv", NO).await;
    shell.expect("devices import @none.csv", MISUSE).await;
    shell.expect("devices show SN-1", YES).await;
    shell.expect("devices show acme/SN-1 --detail", YES).await;
    shell
        .expect("devices list --group branch --count", YES)
        .await;
    shell.expect("devices groups", YES).await;
    shell
        .expect(
            "devices set SN-2 --site Bonn --var a:=[1] --note later",
            YES,
        )
        .await;
    shell.expect("devices set SN-2 --type nonsense", NO).await;
    shell.expect("devices set SN-2 --var broken", MISUSE).await;
    shell.expect("devices set SN-2 --password", YES).await;
    shell.expect("devices export --out @export.csv", YES).await;
    shell.expect("devices import @export.csv", YES).await;
    shell
        .expect("devices export --lines --out @export.jsonl", YES)
        .await;
    shell.expect("devices import @export.jsonl", YES).await;
    let request = "vouchers request-list --without-voucher --out @wanted.csv";
    shell.expect(request, YES).await;
    assert_eq!(shell.read("wanted.csv").lines().count(), 3);
    // Nothing is ready yet: neither content nor voucher.
    shell.expect("preflight SN-1 --offline", NO).await;
    std::fs::create_dir(shell.path("vouchers")).unwrap();
    let pin = Certificate::load(shell.path("site/owner-ca.pem")).unwrap();
    for serial in ["SN-1", "SN-2"] {
        shell.write(
            &format!("vouchers/{serial}.vcj"),
            voucher(&pki, serial, &pin),
        );
    }
    shell
        .expect("vouchers import @vouchers --dry-run", YES)
        .await;
    shell
        .expect(
            "vouchers import @vouchers --all-or-nothing --report @in.jsonl",
            YES,
        )
        .await;
    shell.expect("vouchers import @devices.csv", NO).await;
    // The wrong folder.
    shell.expect("vouchers import @site/content", NO).await;
    shell.expect("devices strangers", YES).await;
    shell.expect("vouchers list", YES).await;
    shell.expect("vouchers show SN-1", YES).await;
    shell.expect("vouchers show SN-9", NO).await;
    shell.expect("vouchers export --dir @out", YES).await;
    assert_eq!(
        std::fs::read(shell.path("out/SN-1.vcj")).unwrap(),
        std::fs::read(shell.path("vouchers/SN-1.vcj")).unwrap()
    );
    shell.expect("vouchers prune --dry-run", YES).await;
    shell.expect("apply @site/content", YES).await;
    shell.expect("doctor", YES).await;
    shell.expect("preflight SN-1 --offline", YES).await;
    shell
        .expect(
            "preflight SN-1 --offline --url https://ztp.example/restconf",
            NO,
        )
        .await;
    shell
        .expect(
            "preflight SN-1 --offline --url https://elsewhere.example",
            NO,
        )
        .await;
    shell.expect("preflight SN-404 --offline", NO).await;
    shell.expect("devices set SN-1 --block stolen", YES).await;
    shell.expect("preflight SN-1 --offline", NO).await;
    shell.expect("devices set SN-1 --unblock", YES).await;
    // Nobody listens there: a warning, and with --strict a failure.
    let url = "--url https://localhost:9 --connect 127.0.0.1:9";
    shell.expect(&format!("preflight SN-1 {url}"), YES).await;
    shell
        .expect(&format!("preflight SN-1 {url} --strict"), NO)
        .await;
    shell
        .expect("usb export --dir @stick --group branch", YES)
        .await;
    for file in [
        "conveyed-information.cms",
        "owner-certificate.cms",
        "ownership-voucher.vcj",
    ] {
        let path = shell.path(&format!("stick/sztp/acme/SN-1/{file}"));
        assert_eq!(std::fs::read(path).unwrap().first(), Some(&0x30), "{file}");
    }
    shell
        .expect("usb export --dir @xr SN-1 --layout ios-xr", YES)
        .await;
    assert!(std::fs::exists(shell.path("xr/EN9/SN-1/bootstrapping-data")).unwrap());
    shell
        .expect("usb export --dir @stick --group nobody", NO)
        .await;
    std::fs::create_dir(shell.path("certificates")).unwrap();
    let encrypted = "usb export --dir @secret-stick SN-1 --encrypt @certificates";
    shell.expect(encrypted, NO).await;
    let rsa = PkiOptions::new(NOW).with_kind(KeyKind::Rsa2048);
    let idevid = Pki::new(rsa).unwrap().idevid("SN-1").unwrap();
    shell.write("certificates/SN-1.pem", idevid.chain[0].to_pem());
    shell.expect(encrypted, YES).await;
    shell.expect("replace SN-1 SN-3", YES).await;
    shell.expect("replace SN-1 SN-3", YES).await;
    shell.expect("replace SN-1 SN-4", MISUSE).await;
    shell.expect("release SN-2 --reason sold", YES).await;
    shell.expect("transfer SN-2 --to globex", YES).await;
    shell.expect("release SN-404", NO).await;
    shell.expect("owner add globex --name Globex", YES).await;
    shell.expect("owner list", YES).await;
    shell.expect("owner renew", YES).await;
    shell.expect("owner show", YES).await;
    shell.expect("audit list --subject SN-1", YES).await;
    shell.expect("audit verify", YES).await;
    shell.expect("audit export --lines @audit.jsonl", YES).await;
    assert!(shell.read("audit.jsonl").contains("device-replaced"));
    shell.expect("audit prove 1 --out @proof", YES).await;
    let key = shell.read("site/audit.pub");
    shell
        .expect(&format!("audit check @proof --key {}", key.trim()), YES)
        .await;
    shell.expect("migrate", YES).await;
}

/// The owner's CA is elsewhere: requests go there, and a chain comes back.
pub(crate) async fn a_ca_elsewhere() {
    let shell = Shell::new();
    let mut options = InitOptions::new(shell.path("site"));
    options.owner_csr = true;
    options.database = database();
    options.rsa = false;
    let made = init(&options, NOW).await.unwrap();
    assert_eq!(made.requests.len(), 2);
    assert!(made.owner_ca.is_none());
    shell.expect("owner show", NO).await;
    let pki = PkiOptions::new(NOW);
    let ca = testkit::root(&pki, "CN=Elsewhere").unwrap();
    let issue =
        |file: &str, profile: Profile, change: fn(CertificateBuilder) -> CertificateBuilder| {
            let csr = Csr::from_pem(&shell.read(file)).unwrap();
            csr.verify().unwrap();
            let builder = CertificateBuilder::new(
                profile,
                csr.subject_name().clone(),
                csr.public_key().clone(),
                testkit::serial().unwrap(),
                NOW - Duration::HOUR,
                NOW + Duration::days(700),
            );
            change(builder)
                .issue(&ca.chain[0], ca.signer.as_ref())
                .unwrap()
        };
    let owner = issue("site/owner.csr", Profile::MasaSigner, |builder| builder);
    let ra = issue("site/ra.csr", Profile::Registrar, |builder| {
        builder.dns_name("ra.test")
    });
    let root = ca.chain[0].to_pem();
    // In any order; and what does not fit is refused before anything is written.
    shell.write("chain.pem", format!("{root}{}", owner.to_pem()));
    shell.write("ra-chain.pem", format!("{}{root}", ra.to_pem()));
    shell.write("alone.pem", owner.to_pem());
    shell.write("foreign.pem", &root);
    let server = issue("site/owner.csr", Profile::TlsServer, |builder| {
        builder.dns_name("x.test")
    });
    shell.write("server.pem", format!("{}{root}", server.to_pem()));
    shell.expect("owner install @foreign.pem", MISUSE).await;
    shell
        .expect("owner install @chain.pem --ra @alone.pem", MISUSE)
        .await;
    let other = testkit::root(&pki, "CN=Other").unwrap();
    shell.write("other.pem", other.chain[0].to_pem());
    shell
        .expect("owner install @chain.pem --pin @other.pem", MISUSE)
        .await;
    shell.expect("owner show", NO).await;
    shell
        .expect("owner install @chain.pem --ra @ra-chain.pem", YES)
        .await;
    shell.expect("owner show", YES).await;
    shell.expect("owner csr --out @again.csr", YES).await;
    assert_eq!(
        Csr::from_pem(&shell.read("again.csr"))
            .unwrap()
            .public_key(),
        owner.public_key()
    );
    // Nothing of the CA's key is here.
    shell.expect("owner renew", MISUSE).await;
    let config = bootstrap::Config::load(
        &shell.directory.path().join("site/bootstrap.toml"),
        &daemon::config::Flags::new(),
    )
    .unwrap();
    let loaded: bootstrap::config::Owner = config.load_owner().unwrap().unwrap();
    let identity: &Identity = &loaded.identity;
    assert_eq!(identity.chain.len(), 2);
    assert_eq!(loaded.ca[0], ca.chain[0]);
}
