//! Bodies that were right before somebody changed them.

use bytes::Bytes;
use http::{HeaderMap, Method};
use net::HttpVersion;

use crate::harness::{Device, GET, Got, JSON, Lab, REPORT, XML};

const MUTATIONS: u32 = 150;

/// Numbers that look random and are the same in each run.
struct Numbers(u64);

impl Numbers {
    fn next(&mut self, below: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 % u64::try_from(below.max(1)).unwrap()).unwrap()
    }
}

/// Pieces that mean something to a parser.
const PIECES: &[&[u8]] = &[
    b"{",
    b"}",
    b"[",
    b"]",
    b"\"",
    b":",
    b",",
    b"null",
    b"[null]",
    b"true",
    b"-1e400",
    b"\\u0000",
    b"\\ud800",
    b"<",
    b">",
    b"</",
    b"/>",
    b"&amp;",
    b"&#0;",
    b"&x;",
    b"<![CDATA[",
    b"]]>",
    b"<!--",
    b"-->",
    b"<?xml?>",
    b"<!DOCTYPE a>",
    b" xmlns=\"\"",
    b"ietf-sztp-bootstrap-server:",
    b"ietf-sztp-csr:csr-support",
    b"ietf-sztp-csr:p10-csr",
    b"AAAA",
    b"====",
    b"\xff",
    b"\0",
    b"\xef\xbb\xbf",
    b"\xe2\x80\xae",
];

fn mutated(body: &[u8], numbers: &mut Numbers) -> Vec<u8> {
    let mut out = body.to_vec();
    for _ in 0..=numbers.next(3) {
        let at = numbers.next(out.len() + 1);
        let to = (at + numbers.next(12)).min(out.len());
        match numbers.next(6) {
            0 => out.truncate(at),
            1 => drop(out.drain(at..to)),
            2 => {
                if let Some(octet) = out.get_mut(at) {
                    *octet ^= 1 << numbers.next(8);
                }
            }
            3 => {
                let piece = PIECES[numbers.next(PIECES.len())];
                drop(out.splice(at..at, piece.iter().copied()));
            }
            4 => {
                let piece = PIECES[numbers.next(PIECES.len())];
                drop(out.splice(at..to, piece.iter().copied()));
            }
            _ => {
                let again = out[at..to].to_vec();
                drop(out.splice(at..at, again));
            }
        }
    }
    out
}

fn bodies() -> Vec<(&'static str, &'static str, Vec<u8>)> {
    let namespace = "urn:ietf:params:xml:ns:yang:ietf-sztp-bootstrap-server";
    let nonce = "AAAAAAAAAAAAAAAAAAAAAA==";
    let ask_json = format!(
        "{{\"ietf-sztp-bootstrap-server:input\":{{\"signed-data-preferred\":[null],\"hw-model\":\"M\",\
         \"os-name\":\"O\",\"os-version\":\"1\",\"nonce\":\"{nonce}\"}}}}"
    );
    let ask_xml = format!(
        "<input xmlns=\"{namespace}\"><signed-data-preferred/><hw-model>M</hw-model><os-name>O</os-name>\
         <os-version>1</os-version><nonce>{nonce}</nonce></input>"
    );
    let report_json = "{\"ietf-sztp-bootstrap-server:input\":{\"progress-type\":\"bootstrap-complete\",\
         \"message\":\"done\",\"ssh-host-keys\":{\"ssh-host-key\":[{\"algorithm\":\"ssh-rsa\",\"key-data\":\"AAAA\"}]}}}";
    let report_xml = format!(
        "<input xmlns=\"{namespace}\"><progress-type>bootstrap-complete</progress-type><message>done</message>\
         <ssh-host-keys><ssh-host-key><algorithm>ssh-rsa</algorithm><key-data>AAAA</key-data></ssh-host-key>\
         </ssh-host-keys></input>"
    );
    vec![
        (GET, JSON, ask_json.into_bytes()),
        (GET, XML, ask_xml.into_bytes()),
        (REPORT, JSON, report_json.as_bytes().to_vec()),
        (REPORT, XML, report_xml.into_bytes()),
    ]
}

/// What any answer has to be, whatever was asked.
fn check(got: &Got, title: &str) {
    let fits = matches!(got.status, 200 | 204 | 400 | 404 | 413);
    assert!(fits, "{title}: {} {}", got.status, got.text());
    assert_eq!(got.header("cache-control"), Some("no-store"), "{title}");
    if got.status < 400 {
        return;
    }
    let kind = got.header("content-type").unwrap_or_default();
    let text = got.text();
    if kind == JSON {
        assert!(!got.refusal().1.is_empty(), "{title}: {text}");
    } else {
        assert_eq!(kind, XML, "{title}: {text}");
        assert!(text.contains("<error-tag>"), "{title}: {text}");
    }
}

/// Requirements: SZTP-8040-7.1-01, SZTP-8040-7.1-02, SZTP-8040-5.5-01
pub(crate) async fn changed_bodies_get_an_answer_that_fits() {
    let lab = Lab::start("").await;
    lab.register("HOSTILE-1").await;
    let mut numbers = Numbers(0x5eed_1234_5678_9abc);
    for http in [HttpVersion::Http1, HttpVersion::Http2] {
        let device = Device {
            http,
            ..lab.device("HOSTILE-1")
        };
        let mut connection = device.connect().await;
        for (path, kind, body) in bodies() {
            for _ in 0..MUTATIONS {
                let body = mutated(&body, &mut numbers);
                let title = format!("{path} {kind} {:?}", String::from_utf8_lossy(&body));
                let mut headers = HeaderMap::new();
                headers.insert("content-type", kind.parse().unwrap());
                let response = connection
                    .request(Method::POST, path, headers, Bytes::from(body))
                    .await
                    .unwrap_or_else(|error| panic!("{title}: {error}"));
                let got = Got {
                    status: response.status.as_u16(),
                    headers: response.headers,
                    body: response.body,
                };
                check(&got, &title);
            }
        }
    }
    lab.stop().await;
}
