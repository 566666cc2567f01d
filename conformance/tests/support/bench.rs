//! Our own implementations, each with all that the suite needs to test it.

use std::path::PathBuf;

use crate::support::harness::{SUITE, Server, free_port, good, set};

/// An implementation of ours that the suite tests.
pub(crate) struct Subject {
    /// The target.
    pub(crate) target: &'static str,
    /// Makes the folder `trial` with the suite's `prepare`, and beside it whatever the
    /// implementation needs.
    pub(crate) prepare: fn(&Bench),
    /// Starts the implementation, with the bench's defect, and writes into the profile where it
    /// answers. What it returns is stopped when it is dropped.
    pub(crate) start: fn(&Bench) -> Vec<Server>,
}

/// Every one.
pub(crate) const SUBJECTS: &[Subject] = &[
    Subject {
        target: "masa",
        prepare: prepare_masa,
        start: |bench| bench.serve_https("masa", "masa/masa.toml"),
    },
    Subject {
        target: "est-server",
        prepare: prepare_est_server,
        start: |bench| bench.serve_https("registrar", "registrar/registrar.toml"),
    },
    Subject {
        target: "registrar",
        prepare: prepare_registrar,
        start: |bench| bench.serve_https("registrar", "registrar/registrar.toml"),
    },
    Subject {
        target: "est-coaps-server",
        prepare: prepare_est_coaps,
        start: serve_coaps,
    },
    Subject {
        target: "registrar-coaps",
        prepare: prepare_registrar_coaps,
        start: serve_coaps,
    },
    Subject {
        target: "join-proxy",
        prepare: prepare_join_proxy,
        start: |bench| {
            join_proxy_ports(bench);
            vec![bench.serve("proxy", "proxy/proxy.toml")]
        },
    },
    Subject {
        target: "pledge",
        prepare: prepare_pledge,
        start: |bench| {
            bench.start_device(BRSKI_DEVICE);
            Vec::new()
        },
    },
    Subject {
        target: "sztp-device",
        prepare: prepare_sztp_device,
        start: |bench| {
            bench.start_device(SZTP_DEVICE);
            Vec::new()
        },
    },
    Subject {
        target: "sztp-server",
        prepare: prepare_sztp_server,
        start: |bench| bench.serve_https("bootstrap", "bootstrap/bootstrap.toml"),
    },
];

/// The command line of a device of RFC 8572, whose folder has a host key.
pub(crate) const SZTP_DEVICE: &[&str] = &[
    "device",
    "sztp",
    "--server={url}",
    "--dhcp-option={dhcp}",
    "--idevid",
    "{idevid}",
    "--key",
    "{key}",
    "--voucher-anchors",
    "{voucher_anchors}",
    "--server-anchors",
    "{server_anchors}",
    "--state",
    "{state}",
    "--os-name",
    "conformance-os",
    "--os-version",
    "1.0",
    "--rounds",
    "{rounds}",
    "--csr",
    "--csr-key",
    "p256",
    "--decrypt",
    "--run-scripts",
    "--ssh-host-key",
    "host_key.pub",
];

/// The command line of a device that speaks BRSKI.
pub(crate) const BRSKI_DEVICE: &[&str] = &[
    "device",
    "brski",
    "--registrar",
    "{url}",
    "--idevid",
    "{idevid}",
    "--key",
    "{key}",
    "--masa-anchors",
    "{anchors}",
    "--state",
    "{state}",
    "--format",
    "{format}",
    "--attempts",
    "{attempts}",
];

/// The subject for a target.
pub(crate) fn subject(target: &str) -> &'static Subject {
    SUBJECTS
        .iter()
        .find(|subject| subject.target == target)
        .unwrap_or_else(|| panic!("no subject for target {target}"))
}

/// A folder with one implementation in it.
pub(crate) struct Bench {
    /// Where everything is; the suite's own folder is `trial` in it.
    pub(crate) folder: PathBuf,
    /// The program with the roles.
    pub(crate) program: PathBuf,
    /// The defect that is active while the implementation runs, or nothing.
    pub(crate) defect: String,
}

impl Bench {
    /// The folder that `prepare` writes.
    pub(crate) fn trial(&self) -> PathBuf {
        self.folder.join("trial")
    }

    /// Runs the suite's `prepare`.
    pub(crate) fn prepare(&self, target: &str, more: &[&str]) {
        let trial = self.trial();
        let mut arguments = vec!["prepare", "--target", target, "--dir"];
        arguments.push(trial.to_str().unwrap());
        arguments.extend(more);
        good(SUITE, &arguments, &self.folder);
        let profile = trial.join("profile.toml");
        set(&profile, "name", "\"usher\"");
        set(&profile, "version", "\"under test\"");
    }

    /// Runs the program in the folder, which has to go well.
    pub(crate) fn usher(&self, arguments: &[&str]) -> String {
        good(&self.program, arguments, &self.folder)
    }

    /// Starts a server.
    pub(crate) fn serve(&self, role: &str, config: &str) -> Server {
        let config = self.folder.join(config);
        Server::start(&self.program, role, &config, &self.defect)
    }

    fn serve_https(&self, role: &str, config: &str) -> Vec<Server> {
        let server = self.serve(role, config);
        let url = format!("\"https://localhost:{}\"", server.port);
        set(&self.trial().join("profile.toml"), "url", &url);
        vec![server]
    }

    /// Writes into the profile how the suite starts the device.
    pub(crate) fn start_device(&self, arguments: &[&str]) {
        let mut words = vec![self.program.display().to_string()];
        words.extend(arguments.iter().map(|&word| word.to_owned()));
        let words: Vec<String> = words.iter().map(|word| format!("{word:?}")).collect();
        let profile = self.trial().join("profile.toml");
        set(&profile, "command", &format!("[{}]", words.join(", ")));
    }

    /// Adds a claim to the profile.
    pub(crate) fn claim(&self, feature: &str) {
        let profile = self.trial().join("profile.toml");
        let text = std::fs::read_to_string(&profile).unwrap();
        let begin = "claims = [";
        assert!(text.contains(begin));
        let text = text.replacen(begin, &format!("{begin}\"{feature}\", "), 1);
        std::fs::write(profile, text).unwrap();
    }

    /// Copies a file within the folder.
    pub(crate) fn copy(&self, from: &str, to: &str) {
        std::fs::copy(self.folder.join(from), self.folder.join(to)).unwrap();
    }

    /// Appends to a file.
    pub(crate) fn append(&self, file: &str, text: &str) {
        let file = self.folder.join(file);
        let before = std::fs::read_to_string(&file).unwrap();
        std::fs::write(&file, format!("{before}\n{text}")).unwrap();
    }

    /// `usher registrar init`, on ports that the system picks.
    pub(crate) fn registrar(&self) {
        let listen = ["--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0"];
        let begin = ["registrar", "init", "--dir", "registrar"];
        let name = ["--name", "localhost"];
        self.usher(&[&begin[..], &name[..], &listen[..]].concat());
    }
}

fn prepare_masa(bench: &Bench) {
    bench.prepare("masa", &[]);
    let listen = ["--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0"];
    let begin = ["masa", "init", "--dir", "masa", "--name", "localhost"];
    let ca = ["--device-ca", "trial/manufacturer-ca.pem"];
    bench.usher(&[&begin[..], &listen[..], &ca[..]].concat());
    let config = ["masa", "--config", "masa/masa.toml"];
    let owner = ["owner", "add", "conformance", "--nonceless", "true"];
    let certificate = ["--certificate", "trial/domain-ca.pem"];
    bench.usher(&[&config[..], &owner[..], &certificate[..]].concat());
    let devices = ["device", "import", "trial/devices.csv"];
    bench.usher(&[&config[..], &devices[..]].concat());
    bench.copy("masa/masa-ca.pem", "trial/voucher-anchors.pem");
}

fn prepare_est_server(bench: &Bench) {
    bench.prepare("est-server", &[]);
    bench.registrar();
    bench.copy("trial/client-ca.pem", "registrar/client-ca.pem");
    bench.append(
        "registrar/registrar.toml",
        "[est]\nserver_keygen = true\n[est.without_brski]\nclient_cas = [\"client-ca.pem\"]\nsubject = \"CN={name}\"\n",
    );
    bench.copy("registrar/domain-ca.pem", "trial/server-anchors.pem");
    bench.claim("serverkeygen");
}

/// What our registrar claims over CoAP beside the usual.
const COAPS_CLAIMS: &[&str] = &[
    "exporter-binding",
    "multipart-crts",
    "open-discovery",
    "serverkeygen",
    "uri-path-abbrev",
];

/// A registrar with CoAP, whose ports are known when it is started.
fn registrar_with_coaps(bench: &Bench) {
    bench.registrar();
    bench.append(
        "registrar/registrar.toml",
        "[coap]\nlisten = [\"127.0.0.1:0\"]\n[coap.discovery]\nlisten = [\"127.0.0.1:0\"]\n[est]\nserver_keygen = true\n",
    );
    for claim in COAPS_CLAIMS {
        bench.claim(claim);
    }
}

fn prepare_est_coaps(bench: &Bench) {
    bench.prepare("est-coaps-server", &[]);
    registrar_with_coaps(bench);
    bench.copy("trial/client-ca.pem", "registrar/client-ca.pem");
    bench.append(
        "registrar/registrar.toml",
        "[est.without_brski]\nclient_cas = [\"client-ca.pem\"]\nsubject = \"CN={name}\"\n",
    );
}

fn prepare_registrar_coaps(bench: &Bench) {
    let port = free_port().to_string();
    bench.prepare("registrar-coaps", &["--suite-port", &port]);
    registrar_with_coaps(bench);
    bench.claim("json-telemetry");
    trust_conformance(bench);
}

/// Ports of UDP cannot be asked for beforehand; those of a copy have to be its own.
fn serve_coaps(bench: &Bench) -> Vec<Server> {
    let config = bench.folder.join("registrar/registrar.toml");
    let profile = bench.trial().join("profile.toml");
    let (coaps, open) = (free_udp_port(), free_udp_port());
    let text = std::fs::read_to_string(&config).unwrap();
    let any = "[\"127.0.0.1:0\"]";
    let own = |section: &str, port: u16| {
        (
            format!("[{section}]\nlisten = {any}"),
            format!("[{section}]\nlisten = [\"127.0.0.1:{port}\"]"),
        )
    };
    let (from, to) = own("coap", coaps);
    let text = text.replace(&from, &to);
    let (from, to) = own("coap.discovery", open);
    let text = text.replace(&from, &to);
    std::fs::write(&config, text).unwrap();
    set(&profile, "url", &format!("\"coaps://127.0.0.1:{coaps}\""));
    set(&profile, "open", &format!("\"127.0.0.1:{open}\""));
    vec![bench.serve("registrar", "registrar/registrar.toml")]
}

fn free_udp_port() -> u16 {
    let socket = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    socket.local_addr().unwrap().port()
}

fn prepare_registrar(bench: &Bench) {
    let port = free_port().to_string();
    bench.prepare("registrar", &["--suite-port", &port]);
    bench.registrar();
    trust_conformance(bench);
}

/// The registrar takes the suite's devices and believes its MASA.
fn trust_conformance(bench: &Bench) {
    let config = "registrar/registrar.toml";
    set(&bench.folder.join(config), "default", "\"deny\"");
    bench.append(
        config,
        "[[policy.rule]]\nname = \"conformance\"\nmanufacturer = \"conformance\"\nserial = \"CONF-REG-*\"\naction = \"allow\"\n",
    );
    for (file, usage) in [
        ("trial/device-ca.pem", "idevid"),
        ("trial/masa-tls-ca.pem", "masa-tls"),
        ("trial/voucher-ca.pem", "voucher"),
    ] {
        let begin = ["registrar", "--config", config, "trust", "import", file];
        let more = ["--vendor", "conformance", "--use", usage];
        bench.usher(&[&begin[..], &more[..]].concat());
    }
}

fn prepare_pledge(bench: &Bench) {
    bench.prepare("pledge", &[]);
    let profile = bench.trial().join("profile.toml");
    set(&profile, "listen", "\"127.0.0.1:0\"");
    // Most of a run is waiting for timers.
    set(&profile, "parallel", "8");
    bench.claim("jws");
}

fn prepare_join_proxy(bench: &Bench) {
    bench.prepare("join-proxy", &["--suite-host", "127.0.0.1"]);
    let sources: Vec<String> = (1..=16).map(|host| format!("\"127.9.0.{host}\"")).collect();
    let profile = bench.trial().join("profile.toml");
    set(&profile, "sources", &format!("[{}]", sources.join(",")));
    let claims = r#"["stateless", "stateful", "circuit", "discovery", "sealed-header"]"#;
    set(&profile, "claims", claims);
    let begin = ["proxy", "init", "--dir", "proxy", "--admin", "127.0.0.1:0"];
    let sides = ["--address", "127.0.0.1", "--jpy", "127.0.0.1:1"];
    let more = ["--coaps", "127.0.0.1:1", "--https", "127.0.0.1:1"];
    bench.usher(&[&begin[..], &sides, &more].concat());
    let config = bench.folder.join("proxy/proxy.toml");
    let text = std::fs::read_to_string(&config).unwrap();
    let text = text.replace(
        "[registrar]\n",
        "circuit_port = 0\n[registrar]\nmode = \"both\"\n",
    );
    std::fs::write(&config, text + "\n[discovery]\ncoap_port = 0\n").unwrap();
}

/// Both sides have to know each other's ports before they start.
fn join_proxy_ports(bench: &Bench) {
    let profile = bench.trial().join("profile.toml");
    let config = bench.folder.join("proxy/proxy.toml");
    for (service, listen) in [
        ("jpy", "jpy_listen"),
        ("coaps", "coaps_listen"),
        ("https", "https_listen"),
    ] {
        let place = format!("\"127.0.0.1:{}\"", free_port());
        set(&profile, listen, &place);
        set(&config, service, &format!("[{place}]"));
    }
    let circuit = free_port();
    set(&profile, "circuit", &format!("\"127.0.0.1:{circuit}\""));
    set(&config, "circuit_port", &circuit.to_string());
    let asked = free_port();
    set(&profile, "url", &format!("\"coap://127.0.0.1:{asked}\""));
    set(&config, "coap_port", &asked.to_string());
}

fn prepare_sztp_device(bench: &Bench) {
    /// A public key like any other, made for this test.
    const HOST_KEY: &str = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIBqo9D8kLs6lqwtjtkb3pgEyz1ptGR0dXUTV6Y6qV3lT conformance\n";
    bench.prepare("sztp-device", &[]);
    let profile = bench.trial().join("profile.toml");
    set(&profile, "listen", "\"127.0.0.1:0\"");
    set(&profile, "parallel", "8");
    std::fs::write(bench.trial().join("host_key.pub"), HOST_KEY).unwrap();
    for feature in ["scripts", "csr", "decrypt", "host-keys"] {
        bench.claim(feature);
    }
}

fn prepare_sztp_server(bench: &Bench) {
    bench.prepare("sztp-server", &[]);
    // Its content names its own port, so that has to be a number.
    let listen = format!("127.0.0.1:{}", free_port());
    let begin = ["bootstrap", "init", "bootstrap", "--name", "localhost"];
    let addresses = ["--listen", &listen, "--admin", "127.0.0.1:0"];
    bench.usher(&[&begin[..], &addresses[..]].concat());
    bench.copy("bootstrap/owner-ca.pem", "trial/owner-ca.pem");
    // Writes the vouchers that pin that CA.
    let vouchers = [
        "run",
        "--target",
        "sztp-server",
        "--profile",
        "profile.toml",
    ];
    let alone = ["--select", "sztp-server/vouchers"];
    good(SUITE, &[&vouchers[..], &alone[..]].concat(), &bench.trial());
    let config = ["bootstrap", "--config", "bootstrap/bootstrap.toml"];
    for (file, usage) in [
        ("trial/device-ca.pem", "idevid"),
        ("trial/voucher-ca.pem", "voucher"),
    ] {
        let import = ["trust", "import", file, "--vendor", "conformance"];
        bench.usher(&[&config[..], &import[..], &["--use", usage]].concat());
    }
    let devices = std::fs::read_to_string(bench.trial().join("devices.csv")).unwrap();
    let mut table = String::from("serial,vendor,var.hostname\n");
    for serial in devices.lines().skip(1) {
        table.push_str(&format!("{serial},conformance,{serial}\n"));
    }
    std::fs::write(bench.folder.join("devices.csv"), table).unwrap();
    for more in [
        ["devices", "import", "devices.csv"],
        ["vouchers", "import", "trial/vouchers"],
        ["apply", "bootstrap/content", "--check=none"],
    ] {
        bench.usher(&[&config[..], &more[..]].concat());
    }
}
