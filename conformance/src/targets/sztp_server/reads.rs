//! RESTCONF as such: discovery, methods, negotiation, who may ask, and TLS.

use std::sync::Arc;

use openssl::ssl::SslVersion;
use serde_json::{Value, json};

use super::{
    Encoding, GET, Output, PROGRESS_TYPES, REPORT, SztpServer, json_input, refused, xml_input,
};
use crate::{
    case::Case,
    evidence::Recorder,
    forge::{
        key::Key,
        sztp::{YANG_JSON, YANG_XML},
        x509::{Authority, Certificate, FOREVER, Identity, name},
    },
    http::{Answer, HttpError, Request},
    outcome::{Finding, OrCouldNotTest as _, Told, must},
};

pub(super) fn cases() -> Vec<Case> {
    let mut cases = vec![
        Case::new("sztp-server/rfc8040-3.1/host-meta", "host-meta has exactly one link to the root", &["SZTP-8040-3.1-02"], |kit: Arc<SztpServer>, record: Recorder| async move {
            let answer = read(&kit, &record, "/.well-known/host-meta", "application/xrd+xml").await?;
            must(answer.status == 200, format!("it was answered {}", answer.status))?;
            let text = answer.text();
            let links = text.matches("rel='restconf'").count() + text.matches("rel=\"restconf\"").count();
            must(links == 1, format!("there are {links} links of rel restconf: {text}"))
        }),
        Case::new("sztp-server/rfc6415-2/media-type", "host-meta is application/xrd+xml", &["SZTP-6415-2-01", "SZTP-6415-3-01"], |kit: Arc<SztpServer>, record: Recorder| async move {
            let client = kit.client.with_identity(kit.device(0)?);
            let answer = client.send(&record, Request::get("/.well-known/host-meta")).await?;
            must(answer.media_type() == "application/xrd+xml", format!("it is {}", answer.media_type()))
        }),
        Case::new("sztp-server/rfc8040-3.3/root", "the root has data, operations and yang-library-version", &["SZTP-8040-3.3-01"], |kit: Arc<SztpServer>, record: Recorder| async move {
            let root = kit.root(&record).await?;
            let value = json(&read(&kit, &record, &root, YANG_JSON).await?)?;
            let restconf = value.get("ietf-restconf:restconf").ok_or_else(|| Finding::fail("ietf-restconf:restconf is missing"))?;
            for member in ["data", "operations", "yang-library-version"] {
                must(restconf.get(member).is_some(), format!("{member} is missing"))?;
            }
            Ok(())
        }).needs(&["json"]),
        Case::new("sztp-server/rfc8040-3.3.2/operations", "the RPCs are listed", &["SZTP-8040-3.3.2-01", "SZTP-8572-4.4-01"], |kit: Arc<SztpServer>, record: Recorder| async move {
            let root = kit.root(&record).await?;
            let value = json(&read(&kit, &record, &format!("{root}/operations"), YANG_JSON).await?)?;
            let operations = value.get("ietf-restconf:operations").ok_or_else(|| Finding::fail("ietf-restconf:operations is missing"))?;
            for rpc in [GET, REPORT] {
                let leaf = operations.get(format!("ietf-sztp-bootstrap-server:{rpc}"));
                must(leaf == Some(&json!([null])), format!("{rpc} is {leaf:?} and not [null]"))?;
            }
            Ok(())
        }).needs(&["json", "onboarding"]),
        Case::new("sztp-server/rfc8040-3.3.3/library-version", "yang-library-version is a date that there is", &["SZTP-8040-3.3.3-01"], |kit: Arc<SztpServer>, record: Recorder| async move {
            let root = kit.root(&record).await?;
            let value = json(&read(&kit, &record, &format!("{root}/yang-library-version"), YANG_JSON).await?)?;
            let version = value.get("ietf-restconf:yang-library-version").and_then(Value::as_str);
            must(matches!(version, Some("2016-06-21" | "2019-01-04")), format!("it is {version:?}"))
        }).needs(&["json", "yang-library"]),
        Case::new("sztp-server/rfc8040-10/library", "ietf-yang-library lists the modules", &["SZTP-8040-10-01"], |kit: Arc<SztpServer>, record: Recorder| async move {
            let root = kit.root(&record).await?;
            let mut text = String::new();
            for path in ["ietf-yang-library:yang-library", "ietf-yang-library:modules-state"] {
                let answer = read(&kit, &record, &format!("{root}/data/{path}"), YANG_JSON).await?;
                if answer.status == 200 {
                    text.push_str(&String::from_utf8_lossy(&answer.body));
                }
            }
            must(text.contains("ietf-sztp-bootstrap-server"), "ietf-sztp-bootstrap-server is not listed")
        }).needs(&["json", "yang-library"]),
        Case::new("sztp-server/rfc8040-4.2/head", "HEAD is answered like GET, without a body", &["SZTP-8040-4.2-01"], |kit: Arc<SztpServer>, record: Recorder| async move {
            let root = kit.root(&record).await?;
            let client = kit.client.with_identity(kit.device(0)?);
            let mut request = Request::get(root).header("Accept", YANG_JSON).header("Connection", "close");
            request.method = "HEAD".into();
            // The body that Content-Length announces does not come, which is how it has to be.
            match client.send(&record, request).await {
                Ok(answer) => must(answer.status == 200 && answer.body.is_empty(), format!("it was answered {}", answer.status)),
                Err(HttpError::Malformed(_)) => Ok(()),
                Err(error) => Err(error.into()),
            }
        }).needs(&["json"]),
        Case::new("sztp-server/rfc8040-4.1/options", "OPTIONS of an RPC allows POST and OPTIONS", &["SZTP-8040-4.1-01"], |kit: Arc<SztpServer>, record: Recorder| async move {
            let client = kit.client.with_identity(kit.device(0)?);
            let mut request = Request::get(kit.rpc(&record, GET).await?);
            request.method = "OPTIONS".into();
            let answer = client.send(&record, request).await?;
            let allow = answer.header("allow").unwrap_or_default().to_ascii_uppercase();
            must(allow.contains("POST") && allow.contains("OPTIONS"), format!("Allow is {allow:?}"))
        }),
        Case::new("sztp-server/rfc8040-4.3/get-rpc", "GET of an RPC is refused with 405", &["SZTP-8040-4.3-01"], |kit: Arc<SztpServer>, record: Recorder| async move {
            let path = kit.rpc(&record, GET).await?;
            let answer = read(&kit, &record, &path, YANG_JSON).await?;
            must(answer.status == 405, format!("it was answered {}", answer.status))
        }),
        Case::new("sztp-server/rfc8040-4.3/no-data", "a data resource that does not exist is refused", &["SZTP-8040-4.3-02"], |kit: Arc<SztpServer>, record: Recorder| async move {
            let root = kit.root(&record).await?;
            let answer = read(&kit, &record, &format!("{root}/data/ietf-sztp-bootstrap-server:nothing"), YANG_JSON).await?;
            must(answer.status == 404 || answer.status == 400, format!("it was answered {}", answer.status))
        }),
        Case::new("sztp-server/rfc8572-7.1/other-module", "an RPC of another module is refused", &["SZTP-8572-7.1-01"], |kit: Arc<SztpServer>, record: Recorder| async move {
            let root = kit.root(&record).await?;
            let client = kit.client.with_identity(kit.device(0)?);
            let request = Request::post(format!("{root}/operations/other-module:{GET}"), YANG_JSON, json_input(&json!({})));
            refused(&client.send(&record, request).await?, "an RPC of another module")
        }).tags(&["hostile"]),
        Case::new("sztp-server/rfc8572-7.1/no-body", "a call without a body is answered", &["SZTP-8572-7.1-02", "SZTP-8040-3.6.1-03"], |kit: Arc<SztpServer>, record: Recorder| async move {
            let answer = kit.call(&record, GET, Encoding::Json, None).await?;
            Output::of(&answer).map(|_| ())
        }).needs(&["json"]),
        Case::new("sztp-server/rfc8040-5.5/cache", "every answer has Cache-Control", &["SZTP-8040-5.5-01"], |kit: Arc<SztpServer>, record: Recorder| async move {
            let good = kit.call(&record, GET, Encoding::Json, None).await?;
            let bad = kit.call(&record, GET, Encoding::Json, Some(b"{".to_vec())).await?;
            must(good.header("cache-control").is_some() && bad.header("cache-control").is_some(), "it is missing")
        }),
        Case::new("sztp-server/rfc8572-7.3/model", "hw-model, os-name and os-version may be said", &["SZTP-8572-7.3-05"], |kit: Arc<SztpServer>, record: Recorder| async move {
            let input = json!({ "hw-model": "model-x", "os-name": "conformance-os", "os-version": "1.0" });
            kit.data(&record, kit.device(0)?, input).await.map(|_| ())
        }).needs(&["json"]),
        Case::new("sztp-server/rfc8040-5.2/other-order", "the order of members does not matter", &["SZTP-7951-7-01"], |kit: Arc<SztpServer>, record: Recorder| async move {
            let input = json!({ "os-version": "1.0", "hw-model": "model-x", "os-name": "conformance-os" });
            kit.data(&record, kit.device(0)?, input).await.map(|_| ())
        }).needs(&["json"]),
    ];
    for encoding in [Encoding::Json, Encoding::Xml] {
        let suffix = encoding.feature();
        cases.extend([
            Case::new(format!("sztp-server/rfc8040-3.6.2/output-{suffix}"), "bootstrapping data comes in output of the module, of the type that was asked for", &["SZTP-8040-3.6.2-01", "SZTP-8572-4.4-04", "SZTP-8572-7.3-08", "SZTP-8040-3.6-01", "SZTP-8040-4.4.2-01", "SZTP-8040-4.4-01", "SZTP-8040-5.2-02", "SZTP-8572-7.2-01"], move |kit: Arc<SztpServer>, record: Recorder| async move {
                let body = match encoding { Encoding::Json => json_input(&json!({})), Encoding::Xml => xml_input("") };
                let answer = kit.call(&record, GET, encoding, Some(body)).await?;
                Output::of(&answer)?;
                must(answer.media_type() == encoding.media_type(), format!("Content-Type is {}", answer.media_type()))
            }).needs(&[suffix]),
            Case::new(format!("sztp-server/rfc8572-7.3/progress-{suffix}"), "every type of progress is taken with 204 and no body", &["SZTP-8572-7.3-15", "SZTP-8572-5.6-23", "SZTP-8040-3.6-02"], move |kit: Arc<SztpServer>, record: Recorder| async move {
                for kind in PROGRESS_TYPES {
                    let body = match encoding {
                        Encoding::Json => json_input(&json!({ "progress-type": kind, "message": "said the suite" })),
                        Encoding::Xml => xml_input(&format!("<progress-type>{kind}</progress-type><message>said the suite</message>")),
                    };
                    let device = kit.device(4)?;
                    let answer = kit.call_as(&record, device, REPORT, encoding, Some(body)).await?;
                    must(answer.status == 204 && answer.body.is_empty(), format!("{kind} was answered {}: {}", answer.status, answer.text()))?;
                }
                Ok(())
            }).needs(&[suffix, "onboarding"]),
        ]);
    }
    cases.extend([
        negotiated("rfc8040-5.2/accept-html", "an Accept that names HTML alone is refused with 406", &["SZTP-8040-5.2-05"], Some("text/html"), YANG_JSON, Ok(406)),
        negotiated("rfc8040-5.2/accept-q", "q-values of Accept are honoured", &["SZTP-8040-5.2-08"], Some("*/*;q=0.1, application/yang-data+json;q=0.2, application/yang-data+xml;q=0.9"), YANG_JSON, Err(YANG_XML)).needs(&["xml"]),
        negotiated("rfc8040-5.2/accept-any", "an Accept with a wildcard is answered", &["SZTP-8040-5.2-08"], Some("*/*"), YANG_JSON, Err(YANG_JSON)),
        negotiated("rfc8040-5.2/no-accept", "without Accept the answer is in the encoding of the request", &["SZTP-8040-5.2-06"], None, YANG_JSON, Err(YANG_JSON)),
        negotiated("rfc8040-5.2/content-type", "a body of a type that nobody knows is refused with 415", &["SZTP-8040-5.2-07"], Some(YANG_JSON), "application/cbor", Ok(415)),
        Case::new("sztp-server/rfc8040-2.5/no-certificate", "whoever shows no certificate is refused with 401 and access-denied", &["SZTP-8040-2.5-02", "SZTP-8040-2.5-01", "SZTP-8040-2.5-03"], |kit: Arc<SztpServer>, record: Recorder| async move {
            let request = Request::post(kit.rpc(&record, GET).await?, YANG_JSON, json_input(&json!({}))).header("Accept", YANG_JSON);
            match kit.client.send(&record, request).await {
                Ok(answer) => must(answer.status == 401 && String::from_utf8_lossy(&answer.body).contains("access-denied"), format!("it was answered {}: {}", answer.status, answer.text())),
                Err(HttpError::Tls(_) | HttpError::Closed(_)) => Ok(()),
                Err(error) => Err(error.into()),
            }
        }).tags(&["hostile", "tls"]),
        stranger("rfc8040-2.5/unknown-maker", "a device of an unknown manufacturer is refused", &["SZTP-8040-2.5-01", "SZTP-8040-4-01"], |kit| {
            let key = Key::generate().or_could_not_test("a key")?;
            let other = Authority::root("Somebody Else", "Device CA", key, kit.at);
            kit.any_device(&other, &super::serial(1))
        }),
        stranger("rfc8040-2.5/forged-maker", "a device whose certificate has the manufacturer's name and another signature is refused", &["SZTP-8040-2.5-01", "SZTP-8040-4-01"], |kit| {
            let mut forger = kit.maker.clone();
            forger.signatory.key = Key::generate().or_could_not_test("a key")?;
            kit.any_device(&forger, &super::serial(1))
        }),
        stranger("rfc8040-2.5/self-signed", "a device that signed its own certificate is refused", &["SZTP-8040-2.5-01"], |kit| {
            let key = Key::generate().or_could_not_test("a key")?;
            let subject = name("Conformance Manufacturer", "Device", Some(&super::serial(1)));
            let certificate = Certificate::new(&subject, &subject, key.spki(), kit.at).with(|it| it.not_after = FOREVER).end_entity(&key.key_id()).sign(&key);
            Ok(Identity { signatory: crate::forge::cms::Signatory { certificate, key }, above: Vec::new() })
        }),
        stranger("rfc8040-4.4.2/unknown-device", "a device that is not registered is refused", &["SZTP-8040-4.4.2-02", "SZTP-8040-4-01"], |kit| kit.any_device(&kit.maker, "CONF-SRV-UNKNOWN")),
        stranger("rfc8995-2.3.1/common-name", "a device whose serial number stands in the common name alone is refused", &["SZTP-8995-2.3.1-01", "SZTP-8040-2.5-06"], |kit| {
            let key = Key::generate().or_could_not_test("a key")?;
            Ok(kit.maker.issue(&name("Conformance Manufacturer", &super::serial(1), None), &key, kit.at, |it| it))
        }),
        Case::new("sztp-server/rfc8572-5.3/two-identities", "a certificate of one device and the name of another by HTTP authentication are refused", &["SZTP-8572-5.3-05", "SZTP-8040-2.5-05"], |kit: Arc<SztpServer>, record: Recorder| async move {
            let client = kit.client.with_identity(kit.device(0)?);
            let request = Request::post(kit.rpc(&record, GET).await?, YANG_JSON, json_input(&json!({}))).basic(&super::serial(2), "secret");
            let answer = client.send(&record, request).await?;
            must(answer.status == 401, format!("it was answered {}", answer.status))
        }).tags(&["hostile"]),
        Case::new("sztp-server/rfc8572-4.4/own-data-alone", "no parameter brings the data of another device", &["SZTP-8572-4.4-05", "SZTP-8572-9.16-02", "SZTP-8040-4-01"], |kit: Arc<SztpServer>, record: Recorder| async move {
            let client = kit.client.with_identity(kit.device(0)?);
            let body = json_input(&json!({ "signed-data-preferred": [null] }));
            let path = format!("{}?serial-number={}", kit.rpc(&record, GET).await?, super::serial(2));
            let request = Request::post(path, YANG_JSON, body).header("Accept", YANG_JSON).header("X-Serial-Number", super::serial(2));
            let answer = client.send(&record, request).await?;
            if !answer.is_success() {
                return refused(&answer, "a query");
            }
            let output = Output::of(&answer)?;
            let voucher = output.voucher.unwrap_or_default();
            must(!String::from_utf8_lossy(&voucher).contains(&super::serial(2)), "it got the voucher of another device")
        }).tags(&["hostile"]).needs(&["signed"]),
        Case::new("sztp-server/rfc8572-9.16/no-plain-http", "HTTP without TLS is not answered", &["SZTP-8572-9.16-01", "SZTP-8040-2.1-01"], plain).tags(&["hostile"]),
        over("rfc8040-2.1/tls-1.2", SslVersion::TLS1_2),
        over("rfc8040-2.1/tls-1.3", SslVersion::TLS1_3),
        Case::new("sztp-server/rfc8040-2.1/tls-1.1-refused", "TLS 1.1 and older is refused", &["SZTP-8572-9.16-01"], |kit: Arc<SztpServer>, record: Recorder| async move {
            let client = kit.client.with_identity(kit.device(0)?).with_versions(SslVersion::TLS1, SslVersion::TLS1_1);
            match client.connect(&record).await {
                Ok(connection) => Err(Finding::fail(format!("{} was spoken", connection.version()))),
                Err(HttpError::Tls(_) | HttpError::Closed(_)) => Ok(()),
                Err(error) => Err(error.into()),
            }
        }).tags(&["hostile", "tls"]),
        Case::new("sztp-server/rfc8040-12/too-large", "a body of ten million octets is refused, and the server goes on", &["SZTP-8040-12-02"], |kit: Arc<SztpServer>, record: Recorder| async move {
            const SIZE: usize = 10_000_000;
            let body = json_input(&json!({ "hw-model": "x".repeat(SIZE) }));
            let client = kit.client.with_identity(kit.device(0)?);
            let request = Request::post(kit.rpc(&record, GET).await?, YANG_JSON, body);
            match client.send(&record, request).await {
                Ok(answer) => refused(&answer, "ten million octets")?,
                Err(HttpError::Closed(_) | HttpError::Tls(_)) => {}
                Err(error) => return Err(error.into()),
            }
            kit.data(&record, kit.device(0)?, json!({})).await.map(|_| ())
        }).tags(&["hostile"]),
    ]);
    cases
}

async fn read(
    kit: &SztpServer,
    record: &Recorder,
    path: &str,
    accept: &str,
) -> Result<Answer, Finding> {
    let client = kit.client.with_identity(kit.device(0)?);
    Ok(client
        .send(record, Request::get(path).header("Accept", accept))
        .await?)
}

fn json(answer: &Answer) -> Result<Value, Finding> {
    must(
        answer.status == 200,
        format!("it was answered {}", answer.status),
    )?;
    serde_json::from_slice(&answer.body)
        .map_err(|error| Finding::fail(format!("it is no JSON: {error}")))
}

/// A call with this Accept and Content-Type: a status, or 200 of a media type.
fn negotiated(
    id: &str,
    title: &str,
    requirements: &[&str],
    accept: Option<&'static str>,
    content_type: &'static str,
    wanted: Result<u16, &'static str>,
) -> Case {
    Case::new(
        format!("sztp-server/{id}"),
        title,
        requirements,
        move |kit: Arc<SztpServer>, record: Recorder| async move {
            let path = kit.rpc(&record, GET).await?;
            let mut request = Request::post(path, content_type, json_input(&json!({})));
            if let Some(accept) = accept {
                request = request.header("Accept", accept);
            }
            let client = kit.client.with_identity(kit.device(0)?);
            let answer = client.send(&record, request).await?;
            match wanted {
                Ok(status) => must(
                    answer.status == status,
                    format!("it was answered {}", answer.status),
                ),
                Err(kind) => must(
                    answer.status == 200 && answer.media_type() == kind,
                    format!(
                        "it was answered {} of {}",
                        answer.status,
                        answer.media_type()
                    ),
                ),
            }
        },
    )
    .needs(&["json"])
}

type Make = fn(&SztpServer) -> Result<Identity, Finding>;

/// Somebody who may have nothing.
fn stranger(id: &str, title: &str, requirements: &[&str], make: Make) -> Case {
    Case::new(
        format!("sztp-server/{id}"),
        title,
        requirements,
        move |kit: Arc<SztpServer>, record: Recorder| async move {
            let client = kit.client.with_identity(&make(&kit)?);
            let path = kit.rpc(&record, GET).await?;
            let request =
                Request::post(path, YANG_JSON, json_input(&json!({}))).header("Accept", YANG_JSON);
            match client.send(&record, request).await {
                Ok(answer) => refused(&answer, "it"),
                Err(HttpError::Closed(_) | HttpError::Tls(_)) => Ok(()),
                Err(error) => Err(error.into()),
            }
        },
    )
    .tags(&["hostile", "tls"])
}

fn over(id: &str, version: SslVersion) -> Case {
    Case::new(
        format!("sztp-server/{id}"),
        "a device with one version of TLS alone is served over HTTP/1.1",
        &["SZTP-8040-2.2-01", "SZTP-8040-2.1-02"],
        move |kit: Arc<SztpServer>, record: Recorder| async move {
            let client = kit
                .client
                .with_identity(kit.device(0)?)
                .with_versions(version, version);
            let path = kit.rpc(&record, GET).await?;
            let request =
                Request::post(path, YANG_JSON, json_input(&json!({}))).header("Accept", YANG_JSON);
            Output::of(&client.send(&record, request).await?).map(|_| ())
        },
    )
    .tags(&["tls"])
}

async fn plain(kit: Arc<SztpServer>, record: Recorder) -> Told {
    use std::io::{Read as _, Write as _};
    let address = kit.client.address.clone();
    let patience = kit.client.patience;
    let said = tokio::task::spawn_blocking(move || -> std::io::Result<Vec<u8>> {
        let mut socket = std::net::TcpStream::connect(address)?;
        socket.set_read_timeout(Some(patience))?;
        socket.write_all(
            b"GET /.well-known/host-meta HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n",
        )?;
        let mut octets = vec![0; 4096];
        let length = socket.read(&mut octets).unwrap_or_default();
        octets.truncate(length);
        Ok(octets)
    })
    .await
    .or_could_not_test("a thread")?
    .or_could_not_test("a connection")?;
    record.note(format!("the server said {} octets", said.len()));
    must(
        !said.starts_with(b"HTTP/1.1 2"),
        "host-meta was given out without TLS",
    )
}
