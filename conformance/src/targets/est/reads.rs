//! What anybody may ask: CA certificates, CSR attributes, and what transport it takes.

use std::{net::TcpStream, sync::Arc};

use openssl::ssl::SslVersion;
use pki::path::Purpose;

use super::{Est, base64_body, certificates, refused};
use crate::{
    case::Case,
    evidence::Recorder,
    forge::der,
    http::{HttpError, Request},
    outcome::{Finding, Told, must},
};

pub(super) fn cases() -> Vec<Case> {
    vec![
        Case::new("est-server/rfc7030-4.1.3/cacerts", "cacerts is a certs-only message in base64", &["EST-4.1.3-01", "EST-3.2.2-01", "EST8951-3-01", "BRSKI-6-02"], cacerts),
        Case::new("est-server/rfc7030-4.1.2/cacerts-anonymous", "cacerts needs no client certificate", &["EST-4.1.2-01"], |kit: Arc<Est>, record| async move {
            let answer = kit.anonymous.send(&record, kit.get("cacerts")).await?;
            must(answer.status == 200, format!("it was answered {}", answer.status))
        }).needs(&["anonymous-reads"]),
        Case::new("est-server/rfc7030-4.1.3/root", "the root is among the CA certificates", &["EST-4.1.3-03"], root),
        Case::new("est-server/rfc7030-3.3/server-certificate", "the server's own certificate chains up to what the profile names", &["EST-3.3-01"], server_certificate).tags(&["tls"]),
        Case::new("est-server/rfc7030-3.3/tls-1.1-refused", "TLS 1.1 and older is refused", &["EST-3.3-02"], old_tls).tags(&["tls", "hostile"]),
        Case::new("est-server/rfc7030-3.3/tls-1.2", "a client that offers TLS 1.2 alone is served", &["EST-3.3-02"], |kit: Arc<Est>, record| async move {
            let client = kit.client.with_versions(SslVersion::TLS1_2, SslVersion::TLS1_2);
            let answer = client.send(&record, kit.get("cacerts")).await?;
            must(answer.status == 200, format!("it was answered {}", answer.status))
        }).tags(&["tls"]),
        Case::new("est-server/rfc7030-3.3/plain-http", "plain HTTP is not served on the port", &["EST-3.3-01"], plain).tags(&["tls", "hostile"]),
        Case::new("est-server/rfc7030-3.2.2/unknown-operation", "an operation that does not exist is refused", &["EST-3.2.2-01"], |kit: Arc<Est>, record| async move {
            let answer = kit.client.send(&record, kit.get("nosuchoperation")).await?;
            refused(&answer, "it")
        }).tags(&["hostile"]),
        Case::new("est-server/rfc7030-4.3/fullcmc", "fullcmc is served, or answered 404 or 501", &["EST-4.3-01", "EST-4.3.1-01"], |kit: Arc<Est>, record: Recorder| async move {
            let request = Request::post(format!("{}/fullcmc", kit.path), "application/pkcs7-mime; smime-type=CMC-request", "Z2FyYmFnZQ==");
            let answer = kit.client.send(&record, request).await?;
            must(answer.is_refusal() || answer.status == 501, format!("garbage was answered {}", answer.status))
        }),
        Case::new("est-server/rfc7030-4.5.2/csrattrs", "csrattrs is DER in base64, or says that there are none", &["EST-4.5.2-01", "EST8951-4-01", "EST8951-4-03", "EST8951-3-01"], csrattrs).needs(&["csrattrs"]),
        Case::new("est-server/rfc9908-3.2/csrattrs-key", "the type of key that csrattrs asks for is one attribute with the curve or the size", &["CSRATTRS-3.2-04"], csrattrs_key).needs(&["csrattrs"]),
        Case::new("est-server/rfc7030-3.2.3/null-suites", "TLS suites without a cipher or without a certificate are refused", &["EST-3.2.3-04"], null_suites).tags(&["hostile", "tls"]),
        Case::new("est-server/rfc7030-4.5/csrattrs-anonymous", "csrattrs needs no client certificate", &["EST-4.5-02"], |kit: Arc<Est>, record| async move {
            let answer = kit.anonymous.send(&record, kit.get("csrattrs")).await?;
            must(matches!(answer.status, 200 | 204 | 404), format!("it was answered {}", answer.status))
        }).needs(&["csrattrs", "anonymous-reads"]),
        Case::new("est-server/rfc9908-3.2/csrattrs-rules", "csrattrs keeps the rules of RFC 9908: one extensionReq with one value, no extension twice", &["CSRATTRS-3.2-01", "CSRATTRS-3.2-02", "CSRATTRS-3.2-03"], csrattrs_rules).needs(&["csrattrs"]),
        Case::new("est-server/rfc7030-3.2.2/no-label", "the operations are there without a label", &["EST-3.2.2-04"], |kit: Arc<Est>, record: Recorder| async move {
            let answer = kit.client.send(&record, Request::get("/.well-known/est/cacerts")).await?;
            must(answer.status == 200, format!("it was answered {}", answer.status))
        }).needs(&["no-label"]),
        Case::new("est-server/rfc8951-3/cacerts-transfer-encoding", "Content-Transfer-Encoding in a request changes nothing", &["EST8951-3-02", "BRSKI-6-03"], |kit: Arc<Est>, record: Recorder| async move {
            for value in ["binary", "7bit", "x-unknown"] {
                let request = kit.get("cacerts").header("Content-Transfer-Encoding", value);
                let answer = kit.client.send(&record, request).await?;
                must(answer.status == 200, format!("{value} was answered {}", answer.status))?;
            }
            Ok(())
        }),
        Case::new("est-server/rfc7030-4.1/post-refused", "POST of cacerts is refused", &["EST-4.2.3-04"], |kit: Arc<Est>, record: Recorder| async move {
            let answer = kit.client.send(&record, kit.post_octets("cacerts", b"x".to_vec())).await?;
            refused(&answer, "POST")
        }).tags(&["hostile"]),
    ]
}

async fn cacerts(kit: Arc<Est>, record: Recorder) -> Told {
    let answer = kit.client.send(&record, kit.get("cacerts")).await?;
    must(
        answer.status == 200,
        format!("it was answered {}", answer.status),
    )?;
    must(
        answer.media_type() == "application/pkcs7-mime",
        format!("Content-Type is {:?}", answer.header("content-type")),
    )?;
    must(
        !certificates(&answer)?.is_empty(),
        "there is no certificate",
    )
}

async fn root(kit: Arc<Est>, record: Recorder) -> Told {
    let certificates = kit.ca_certificates(&record).await?;
    must(
        certificates.iter().any(|one| {
            one.subject_der() == one.issuer_der()
                && one.verify_signature_by(one.public_key()).is_ok()
        }),
        "no certificate is self-signed",
    )
}

async fn server_certificate(kit: Arc<Est>, record: Recorder) -> Told {
    if kit.server_anchors.is_empty() {
        return Err(Finding::could_not_test(
            "settings.server_anchors names no certificate that is there",
        ));
    }
    let connection = kit.client.connect(&record).await?;
    let chain: Vec<pki::Certificate> = connection
        .server_chain()
        .iter()
        .filter_map(|der| pki::Certificate::from_der(der).ok())
        .collect();
    let (leaf, others) = chain
        .split_first()
        .ok_or_else(|| Finding::fail("the server showed no certificate"))?;
    crate::inspect::trusted(leaf, others, &kit.server_anchors, Purpose::Server, kit.at)
}

async fn old_tls(kit: Arc<Est>, record: Recorder) -> Told {
    for version in [SslVersion::TLS1, SslVersion::TLS1_1] {
        match kit
            .client
            .with_versions(version, version)
            .connect(&record)
            .await
        {
            Ok(connection) => {
                return Err(Finding::fail(format!(
                    "{} was negotiated",
                    connection.version()
                )));
            }
            Err(HttpError::Tls(_) | HttpError::Closed(_)) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

async fn plain(kit: Arc<Est>, record: Recorder) -> Told {
    use std::io::{Read as _, Write as _};
    let address = kit.client.address.clone();
    let patience = kit.client.patience;
    let path = kit.path.clone();
    let recorder = record.clone();
    let octets = crate::http::blocking(move || {
        let connect = |error: std::io::Error| HttpError::Connect(error.to_string());
        let mut socket = TcpStream::connect(address).map_err(connect)?;
        socket.set_read_timeout(Some(patience)).map_err(connect)?;
        let request = format!("GET {path}/cacerts HTTP/1.1\r\nHost: est\r\n\r\n");
        recorder.sent("plain HTTP", request.as_bytes(), request.clone());
        // A server may close before it has read everything.
        let _ = socket.write_all(request.as_bytes());
        let mut octets = vec![0; 4096];
        let length = socket.read(&mut octets).unwrap_or_default();
        octets.truncate(length);
        Ok(octets)
    })
    .await?;
    record.received("what came back", &octets, crate::decode::describe(&octets));
    must(
        !octets.starts_with(b"HTTP/1.1 2"),
        "plain HTTP was answered with success",
    )
}

async fn csrattrs(kit: Arc<Est>, record: Recorder) -> Told {
    let answer = kit.client.send(&record, kit.get("csrattrs")).await?;
    if matches!(answer.status, 204 | 404) {
        return Ok(());
    }
    must(
        answer.status == 200,
        format!("it was answered {}", answer.status),
    )?;
    must(
        answer.media_type() == "application/csrattrs",
        format!("Content-Type is {:?}", answer.header("content-type")),
    )?;
    let octets = base64_body(&answer)?;
    must(
        octets.first() == Some(&0x30) && crate::decode::der(&octets).is_some(),
        "the body is no DER sequence",
    )?;
    for element in der::inside(&octets).map(der::elements).unwrap_or_default() {
        let parts = der::inside(&element).map(der::elements).unwrap_or_default();
        let is_attribute = element.first() == Some(&0x30)
            && matches!(parts.as_slice(), [id, values]
                if id.first() == Some(&0x06) && values.first() == Some(&0x31));
        must(
            is_attribute || element.first() == Some(&0x06),
            format!(
                "{} is neither an identifier nor an attribute",
                hex::encode(&element)
            ),
        )?;
    }
    Ok(())
}

/// A key's type is one attribute: the algorithm, and what is left to choose of it.
async fn csrattrs_key(kit: Arc<Est>, record: Recorder) -> Told {
    let answer = kit.client.send(&record, kit.get("csrattrs")).await?;
    if answer.status != 200 {
        return Err(Finding::not_applicable("there are no CSR attributes"));
    }
    let octets = base64_body(&answer)?;
    let kinds = [
        (der::oid("1.2.840.10045.2.1"), 0x06, "a curve"),
        (der::oid("1.2.840.113549.1.1.1"), 0x02, "a size"),
    ];
    let mut keys = 0;
    for element in der::inside(&octets).map(der::elements).unwrap_or_default() {
        let parts = der::inside(&element).map(der::elements).unwrap_or_default();
        let Some((_, tag, what)) = kinds.iter().find(|(id, ..)| parts.first() == Some(id)) else {
            continue;
        };
        keys += 1;
        let values = parts
            .get(1)
            .and_then(|set| der::inside(set))
            .map(der::elements)
            .unwrap_or_default();
        must(
            values.iter().all(|value| value.first() == Some(tag)),
            format!("a value of the key's attribute is not {what}"),
        )?;
    }
    if keys == 0 {
        return Err(Finding::not_applicable("no key is asked for"));
    }
    must(keys == 1, format!("{keys} kinds of key are asked for"))
}

/// Who agrees to a suite without a cipher or without a certificate shows passwords to anybody.
async fn null_suites(kit: Arc<Est>, record: Recorder) -> Told {
    let client = kit.client.with_suites("aNULL:eNULL:@SECLEVEL=0");
    match client.connect(&record).await {
        Ok(connection) => Err(Finding::fail(format!(
            "{} was negotiated without a cipher or without a certificate",
            connection.version()
        ))),
        Err(HttpError::Tls(_) | HttpError::Closed(_)) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

async fn csrattrs_rules(kit: Arc<Est>, record: Recorder) -> Told {
    let answer = kit.client.send(&record, kit.get("csrattrs")).await?;
    if answer.status != 200 {
        return Err(Finding::not_applicable("there are no CSR attributes"));
    }
    let octets = base64_body(&answer)?;
    let extension_request = der::oid("1.2.840.113549.1.9.14");
    let elements = der::inside(&octets).map(der::elements).unwrap_or_default();
    let mut requests = 0;
    for element in elements
        .iter()
        .filter(|element| element.first() == Some(&0x30))
    {
        let parts = der::inside(element).map(der::elements).unwrap_or_default();
        if parts.first() != Some(&extension_request) {
            continue;
        }
        requests += 1;
        let values = parts
            .get(1)
            .and_then(|set| der::inside(set))
            .map(der::elements)
            .unwrap_or_default();
        must(
            values.len() == 1,
            format!("extensionReq has {} values", values.len()),
        )?;
        let mut ids: Vec<Vec<u8>> = Vec::new();
        for extension in values
            .first()
            .and_then(|value| der::inside(value))
            .map(der::elements)
            .unwrap_or_default()
        {
            let id = der::inside(&extension)
                .map(der::elements)
                .and_then(|parts| parts.into_iter().next())
                .unwrap_or_default();
            must(!ids.contains(&id), "an extension is there twice")?;
            ids.push(id);
        }
    }
    must(requests <= 1, format!("there are {requests} extensionReq"))
}
