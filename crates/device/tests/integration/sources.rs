//! The sources by themselves: a folder for a stick, a file for a lease, and scripted DNS servers.

use std::{
    collections::BTreeMap,
    fs,
    net::SocketAddr,
    os::unix::fs::symlink,
    path::Path,
    process::Command,
    sync::{Arc, Mutex},
    time::Duration,
};

use ::sztp::{
    agent::Server,
    dhcp::{BootstrapUri, encode_list},
    usb::Layout,
};
use device::{
    sources::{DhcpInput, DhcpSource, DnsSource, Multicast, UsbSource, name_servers},
    sztp::{Found, Source},
};
use hickory_proto::{
    op::{Message, MessageType, OpCode, ResponseCode},
    rr::{
        Name, RData, Record, RecordType,
        rdata::{A, SRV, TXT},
    },
};
use tempfile::TempDir;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, UdpSocket},
};

/// What a source gives until its end: findings in words, errors by their codes.
pub(crate) async fn all_of(source: &mut dyn Source) -> Vec<String> {
    let mut out = Vec::new();
    for _ in 0..40 {
        match source.next().await {
            Ok(None) => return out,
            Ok(Some(finding)) => out.push(match finding.found {
                Found::Servers(servers) => {
                    let texts: Vec<_> = servers.iter().map(Server::to_string).collect();
                    texts.join(" ")
                }
                Found::Data(data) => format!(
                    "data {} {} {}",
                    data.conveyed_information.len(),
                    data.owner_certificate.map_or(0, |it| it.len()),
                    data.ownership_voucher.map_or(0, |it| it.len())
                ),
            }),
            Err(error) => out.push(error.code),
        }
    }
    panic!("a source without end: {out:?}");
}

fn put(root: &Path, path: &str, content: &[u8]) {
    let path = root.join(path);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, content).unwrap();
}

fn stick(root: &Path, serial: &str) -> UsbSource {
    let layouts = vec![Layout::general("acme").unwrap(), Layout::IosXr];
    UsbSource::new(root, layouts, serial)
}

/// Requirements: SZTP-8572-4.1-02, SZTP-8572-4.1-05, SZTP-8572-4.1-06
#[tokio::test]
async fn each_device_finds_its_own_files_on_a_stick() {
    let folder = TempDir::new().unwrap();
    let root = folder.path();
    put(root, "sztp/acme/SN-1/conveyed-information.cms", b"1");
    put(root, "sztp/acme/SN-1/owner-certificate.cms", b"22");
    put(root, "sztp/acme/SN-1/ownership-voucher.cms", b"333");
    put(root, "sztp/acme/SN-2/conveyed-information.cms", b"4444");
    put(root, "sztp/other/SN-3/conveyed-information.cms", b"1");
    put(
        root,
        "EN9/SN-1/bootstrapping-data/conveyed-information.cms",
        b"55555",
    );
    put(root, "sztp/acme/SN-4/ownership-voucher.vcj", b"1");
    put(root, "sztp/acme/%2E%2E/conveyed-information.cms", b"666666");
    let mut first = stick(root, "SN-1");
    let want = ["data 1 2 3", "data 5 0 0"];
    assert_eq!(all_of(&mut first).await, want);
    assert_eq!(all_of(&mut first).await, [""; 0]);
    first.rewind();
    assert_eq!(all_of(&mut first).await, want);
    assert_eq!(all_of(&mut stick(root, "SN-2")).await, ["data 4 0 0"]);
    assert_eq!(all_of(&mut stick(root, "SN-3")).await, [""; 0]);
    assert_eq!(all_of(&mut stick(root, "SN-4")).await, ["usb.incomplete"]);
    assert_eq!(all_of(&mut stick(root, "..")).await, ["data 6 0 0"]);
    assert_eq!(
        all_of(&mut stick(&root.join("absent"), "SN-1")).await,
        [""; 0]
    );
}

#[tokio::test]
async fn a_hostile_stick_leads_nowhere() {
    let folder = TempDir::new().unwrap();
    let root = folder.path().join("stick");
    let secret = folder.path().join("secret");
    fs::write(&secret, b"secret").unwrap();
    // A link in place of the file, a link in place of a folder, a pipe, a folder, a giant.
    fs::create_dir_all(root.join("sztp/acme/link")).unwrap();
    symlink(
        &secret,
        root.join("sztp/acme/link/conveyed-information.cms"),
    )
    .unwrap();
    put(folder.path(), "elsewhere/conveyed-information.cms", b"1");
    symlink(
        folder.path().join("elsewhere"),
        root.join("sztp/acme/folder"),
    )
    .unwrap();
    fs::create_dir_all(root.join("sztp/acme/pipe")).unwrap();
    let pipe = root.join("sztp/acme/pipe/conveyed-information.cms");
    assert!(
        Command::new("mkfifo")
            .arg(&pipe)
            .status()
            .unwrap()
            .success()
    );
    fs::create_dir_all(root.join("sztp/acme/dir/conveyed-information.cms")).unwrap();
    put(&root, "sztp/acme/giant/conveyed-information.cms", b"");
    let giant = fs::File::options()
        .write(true)
        .open(root.join("sztp/acme/giant/conveyed-information.cms"))
        .unwrap();
    giant.set_len(1 << 40).unwrap();
    for serial in ["link", "folder", "pipe", "dir", "giant"] {
        let mut source = stick(&root, serial);
        assert_eq!(all_of(&mut source).await, ["usb.unreadable"], "{serial}");
    }
}

/// Requirements: SZTP-8572-8.1-03, SZTP-8572-8.1-04, SZTP-8572-8.2-03, SZTP-8572-4.3-01
#[tokio::test]
async fn leases_and_values_name_servers() {
    let folder = TempDir::new().unwrap();
    let lease = folder.path().join("lease");
    let uris = ["https://a.example:8443", "https://[2001:db8::1]"];
    let uris: Vec<_> = uris
        .iter()
        .map(|one| BootstrapUri::parse(one).unwrap())
        .collect();
    let good = hex::encode(encode_list(&uris).unwrap());
    let bad = hex::encode(b"\0\x10http://a.example");
    let mixed = format!("{bad}{good}");
    let servers = "a.example:8443 [2001:db8::1]:443";
    let mut source = DhcpSource::new(vec![DhcpInput::Lease(lease.clone())]);
    // No lease yet.
    assert_eq!(all_of(&mut source).await, [""; 0]);
    let cases = [
        (format!("opt143={good}\n"), vec![servers]),
        (
            format!("opt143={mixed}\nopt136={good}\n"),
            vec![servers, servers],
        ),
        (format!("opt143={bad}\n"), vec!["dhcp.uri-http"]),
        (
            format!("opt143={bad}\nopt136={good}\n"),
            vec!["dhcp.uri-http", servers],
        ),
        ("opt143=00\n".to_owned(), vec![]),
        ("opt143=00ff0000\n".to_owned(), vec!["dhcp.list"]),
    ];
    for (text, want) in cases {
        fs::write(&lease, &text).unwrap();
        source.rewind();
        assert_eq!(all_of(&mut source).await, want, "{text}");
    }
    let value = |text: &str| DhcpSource::new(vec![DhcpInput::Value(text.to_owned())]);
    assert_eq!(all_of(&mut value(&good)).await, [servers]);
    assert_eq!(
        all_of(&mut value("https://a.example")).await,
        ["dhcp.length-missing"]
    );
    assert_eq!(all_of(&mut value("what?")).await, ["dhcp.input"]);
}

/// A DNS server with a script: what it is asked is kept, and names that it does not know do not
/// exist.
struct Fake {
    address: SocketAddr,
    asked: Arc<Mutex<Vec<String>>>,
}

#[derive(Clone, Default)]
struct Script {
    answers: BTreeMap<String, Vec<RData>>,
    additionals: Vec<(String, RData)>,
    /// Answers over UDP are cut.
    truncated: bool,
    /// Everything fails.
    fails: bool,
    /// Strangers' datagrams come before the answer.
    noisy: bool,
    /// The first datagrams are lost.
    lost: usize,
}

impl Script {
    fn with(mut self, name: &str, data: Vec<RData>) -> Self {
        self.answers.insert(name.to_ascii_lowercase(), data);
        self
    }

    fn answer(&self, question: &[u8], over_udp: bool) -> Message {
        let question = Message::from_vec(question).unwrap();
        let mut answer = Message::new(question.metadata.id, MessageType::Response, OpCode::Query);
        let query = question.queries[0].clone();
        let name = query.name.to_ascii().to_ascii_lowercase();
        answer.add_query(query.clone());
        if self.fails {
            answer.metadata.response_code = ResponseCode::ServFail;
            return answer;
        }
        match self.answers.get(&name) {
            None => answer.metadata.response_code = ResponseCode::NXDomain,
            Some(_) if over_udp && self.truncated => answer.metadata.truncation = true,
            Some(all) => {
                for data in all {
                    answer.add_answer(Record::from_rdata(query.name.clone(), 60, data.clone()));
                }
                for (name, data) in &self.additionals {
                    let name = Name::from_ascii(name).unwrap();
                    answer.add_additional(Record::from_rdata(name, 60, data.clone()));
                }
            }
        }
        answer
    }
}

impl Fake {
    async fn start(label: &'static str, script: Script) -> Self {
        // UDP and TCP on one port; another test may have the TCP one.
        let (udp, tcp) = loop {
            let udp = UdpSocket::bind("127.0.0.1:0").await.unwrap();
            if let Ok(tcp) = TcpListener::bind(udp.local_addr().unwrap()).await {
                break (udp, tcp);
            }
        };
        let address = udp.local_addr().unwrap();
        let asked = Arc::new(Mutex::new(Vec::new()));
        let note = {
            let asked = Arc::clone(&asked);
            move |transport: &str, question: &[u8]| {
                let question = Message::from_vec(question).unwrap();
                let query = &question.queries[0];
                let line = format!("{label} {transport} {} {}", query.query_type, query.name);
                asked.lock().unwrap().push(line);
            }
        };
        let (over_tcp, note_tcp) = (script.clone(), note.clone());
        tokio::spawn(async move {
            let mut buffer = [0; 2000];
            let mut lost = script.lost;
            loop {
                let (size, peer) = udp.recv_from(&mut buffer).await.unwrap();
                note("udp", &buffer[..size]);
                if lost > 0 {
                    lost -= 1;
                    continue;
                }
                if script.noisy {
                    udp.send_to(b"junk", peer).await.unwrap();
                    let mut other = script.answer(&buffer[..size], true);
                    other.metadata.id ^= 1;
                    udp.send_to(&other.to_vec().unwrap(), peer).await.unwrap();
                }
                let answer = script.answer(&buffer[..size], true);
                udp.send_to(&answer.to_vec().unwrap(), peer).await.unwrap();
            }
        });
        tokio::spawn(async move {
            loop {
                let (mut stream, _) = tcp.accept().await.unwrap();
                let size = stream.read_u16().await.unwrap();
                let mut question = vec![0; usize::from(size)];
                stream.read_exact(&mut question).await.unwrap();
                note_tcp("tcp", &question);
                let answer = over_tcp.answer(&question, false).to_vec().unwrap();
                let size = u16::try_from(answer.len()).unwrap();
                stream.write_u16(size).await.unwrap();
                stream.write_all(&answer).await.unwrap();
            }
        });
        Self { address, asked }
    }

    fn asked(&self) -> Vec<String> {
        self.asked.lock().unwrap().clone()
    }

    fn multicast(&self) -> Multicast {
        Multicast {
            bind: "127.0.0.1:0".parse().unwrap(),
            group: self.address,
            interval: Duration::from_millis(100),
        }
    }
}

fn txt(content: &[u8]) -> RData {
    RData::TXT(TXT::from_bytes(content.chunks(255).collect()))
}

fn srv(priority: u16, port: u16, target: &str) -> RData {
    RData::SRV(SRV::new(
        priority,
        0,
        port,
        Name::from_ascii(target).unwrap(),
    ))
}

fn source(server: &Fake) -> DnsSource {
    let domains = ["example.com".to_owned()];
    DnsSource::new("SN-1", &domains, vec![server.address]).unwrap()
}

/// Requirements: SZTP-8572-4.2.1-01, SZTP-8572-4.2.1-02, SZTP-8572-4.2.1-03, SZTP-8572-4.2.1-04,
/// SZTP-8572-4.2.3-02
#[tokio::test]
async fn records_are_asked_for_in_the_order_of_the_standard() {
    let near = Script::default()
        .with("SN-1._sztp.local.", vec![txt(b"ci=1")])
        .with("_sztp._tcp.local.", vec![srv(0, 8443, "near.local.")]);
    let near = Script {
        additionals: vec![("near.local.".to_owned(), RData::A(A::new(192, 0, 2, 9)))],
        ..near
    };
    let far = Script::default()
        .with("SN-1._sztp.example.com.", vec![txt(b"ci=22")])
        .with(
            "_sztp._tcp.example.com.",
            vec![
                srv(2, 443, "c.example.com."),
                srv(0, 443, "a.example.com."),
                srv(1, 8443, "b.example.com."),
            ],
        );
    let (near, far) = (
        Fake::start("mdns", near).await,
        Fake::start("dns", far).await,
    );
    let mut source = source(&far).with_multicast(near.multicast());
    let want = [
        "data 1 0 0",
        "data 2 0 0",
        "192.0.2.9:8443",
        "a.example.com:443 b.example.com:8443 c.example.com:443",
    ];
    assert_eq!(all_of(&mut source).await, want);
    assert_eq!(
        near.asked(),
        [
            "mdns udp TXT SN-1._sztp.local.",
            "mdns udp SRV _sztp._tcp.local."
        ]
    );
    assert_eq!(
        far.asked(),
        [
            "dns udp TXT SN-1._sztp.example.com.",
            "dns udp SRV _sztp._tcp.example.com."
        ]
    );
    // A look-up is made only when what was found before did not help.
    source.rewind();
    source.next().await.unwrap();
    assert_eq!((near.asked().len(), far.asked().len()), (3, 2));
}

/// Requirements: SZTP-8572-4.2.4-02
#[tokio::test]
async fn what_is_cut_is_asked_for_again_over_tcp() {
    let value = [b"ci=".as_slice(), &[7; 20_000]].concat();
    let script = Script::default().with("SN-1._sztp.example.com.", vec![txt(&value)]);
    let server = Fake::start(
        "dns",
        Script {
            truncated: true,
            ..script
        },
    )
    .await;
    assert_eq!(all_of(&mut source(&server)).await, ["data 20000 0 0"]);
    assert_eq!(
        server.asked(),
        [
            "dns udp TXT SN-1._sztp.example.com.",
            "dns tcp TXT SN-1._sztp.example.com.",
            "dns udp SRV _sztp._tcp.example.com.",
        ]
    );
}

#[tokio::test]
async fn loss_noise_and_failure_end_no_look_up_early() {
    let script = Script::default().with("SN-1._sztp.example.com.", vec![txt(b"ci=1")]);
    let noisy = Fake::start(
        "dns",
        Script {
            noisy: true,
            ..script.clone()
        },
    )
    .await;
    assert_eq!(all_of(&mut source(&noisy)).await, ["data 1 0 0"]);
    let lossy = Fake::start(
        "dns",
        Script {
            lost: 1,
            ..script.clone()
        },
    )
    .await;
    assert_eq!(all_of(&mut source(&lossy)).await, ["data 1 0 0"]);
    let failing = Fake::start(
        "dns",
        Script {
            fails: true,
            ..script.clone()
        },
    )
    .await;
    assert_eq!(
        all_of(&mut source(&failing)).await,
        ["dns.failed", "dns.failed"]
    );
    // The second server is asked when the first fails.
    let good = Fake::start("dns", script).await;
    let domains = ["example.com".to_owned()];
    let mut both = DnsSource::new("SN-1", &domains, vec![failing.address, good.address]).unwrap();
    assert_eq!(all_of(&mut both).await, ["data 1 0 0"]);
    // By multicast the question is sent again too.
    let near = Script::default().with("SN-1._sztp.local.", vec![txt(b"ci=1")]);
    let near = Fake::start(
        "mdns",
        Script {
            lost: 2,
            noisy: true,
            ..near
        },
    )
    .await;
    let mut quiet = DnsSource::new("SN-1", &[], Vec::new())
        .unwrap()
        .with_multicast(near.multicast());
    assert_eq!(all_of(&mut quiet).await, ["data 1 0 0"]);
}

/// Requirements: SZTP-2782--01, SZTP-8572-4.2.2-01
#[tokio::test]
async fn records_that_do_not_help_are_told_apart() {
    let cases = [
        (vec![srv(0, 443, ".")], vec![]),
        (vec![srv(0, 0, "a.example.com.")], vec![]),
        (vec![txt(b"ci=1")], vec![]),
    ];
    for (records, want) in cases {
        let script = Script::default().with("_sztp._tcp.example.com.", records);
        let server = Fake::start("dns", script).await;
        let want: Vec<String> = want;
        assert_eq!(all_of(&mut source(&server)).await, want);
    }
    let script =
        Script::default().with("SN-1._sztp.example.com.", vec![txt(b"oc=1"), txt(b"xx=1")]);
    let server = Fake::start("dns", script).await;
    assert_eq!(all_of(&mut source(&server)).await, ["dns.incomplete"]);
    // A serial number that is no label has no records; the domain may have servers.
    let domains = ["example.com".to_owned()];
    let mut long = DnsSource::new(&"x".repeat(64), &domains, vec![server.address]).unwrap();
    assert_eq!(all_of(&mut long).await, [""; 0]);
    assert!(DnsSource::new("SN-1", &["a b".to_owned()], Vec::new()).is_err());
    assert_eq!(RecordType::TXT.to_string(), "TXT");
}

#[test]
fn the_servers_of_a_resolv_conf_are_read() {
    let text = "# a comment\nsearch example.com\nnameserver 192.0.2.1\nnameserver 2001:db8::1\nnameserver junk\n";
    let want: Vec<SocketAddr> = vec![
        "192.0.2.1:53".parse().unwrap(),
        "[2001:db8::1]:53".parse().unwrap(),
    ];
    assert_eq!(name_servers(text), want);
}
