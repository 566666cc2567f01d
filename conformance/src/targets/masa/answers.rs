//! How a MASA answers: transport, status, media types.

use std::sync::Arc;

use openssl::ssl::SslVersion;

use super::{Masa, refused};
use crate::{
    case::Case,
    evidence::Recorder,
    http::Request,
    inspect::Envelope,
    outcome::{Finding, Told, must},
};

pub(super) fn cases() -> Vec<Case> {
    vec![
        Case::new(
            "masa/rfc8995-5.6/answers-200",
            "a right request is answered 200 with a voucher in the form asked for",
            &[
                "BRSKI-5.6-01",
                "BRSKI-5.6-20",
                "BRSKI-5-04",
                "BRSKI-9.1.1-01",
            ],
            |kit, record| answers(kit, record, Envelope::Cms),
        )
        .needs(&["cms"]),
        Case::new(
            "masa/jws-voucher-6.1/answers-200",
            "a request in JWS is answered with a voucher in JWS",
            &["JWS-6.1-02", "JWS-6.1-01"],
            |kit, record| answers(kit, record, Envelope::Jws),
        )
        .needs(&["jws"])
        .tags(&["jws"]),
        Case::new(
            "masa/rfc8995-5.1/tls-1.3",
            "a client that offers TLS 1.3 alone is served",
            &["BRSKI-5.1-04"],
            |kit, record| over(kit, record, SslVersion::TLS1_3, "TLS13"),
        )
        .tags(&["tls"])
        .needs(&["cms"]),
        Case::new(
            "masa/rfc8995-5.1/tls-1.2",
            "a client that offers TLS 1.2 alone is served",
            &["BRSKI-5.4-01"],
            |kit, record| over(kit, record, SslVersion::TLS1_2, "TLS12"),
        )
        .tags(&["tls"])
        .needs(&["cms"]),
        Case::new(
            "masa/rfc8995-5.4/tls-1.1-refused",
            "TLS 1.1 and older is refused",
            &["BRSKI-5.4-01"],
            old_tls,
        )
        .tags(&["tls", "hostile"]),
        Case::new(
            "masa/rfc8995-5.5/unknown-media-type",
            "a media type that nobody knows is refused",
            &["BRSKI-5.5-03", "BRSKI-5.6-19"],
            unknown_media_type,
        )
        .tags(&["hostile"])
        .needs(&["cms"]),
        Case::new(
            "masa/rfc8995-5.6/unknown-media-type-415",
            "a media type that nobody knows gets 415",
            &["BRSKI-5.6-19"],
            |kit: Arc<Masa>, record| async move {
                let answer = unknown_media_type_answer(&kit, &record).await?;
                must(answer.status == 415, format!("it got {}", answer.status))
            },
        )
        .needs(&["cms"]),
        Case::new(
            "masa/rfc8995-5.6/unknown-accept",
            "an Accept that names nothing known is refused with 406 or 415",
            &["BRSKI-5.6-17", "BRSKI-5.6-19"],
            unknown_accept,
        )
        .tags(&["hostile"])
        .needs(&["cms"]),
        Case::new(
            "masa/rfc8995-5.2/accept-list",
            "an Accept with a list, q-values and wildcards gets a voucher",
            &["BRSKI-5.2-17"],
            accept_list,
        )
        .needs(&["cms"]),
        Case::new(
            "masa/rfc8366-8.3/media-type-case",
            "the media type counts in any case and with parameters",
            &["VOUCHER-8.3-01"],
            media_type_case,
        )
        .needs(&["cms"]),
        Case::new(
            "masa/rfc8995-6/transfer-encoding-ignored",
            "Content-Transfer-Encoding changes nothing",
            &["BRSKI-6-03", "EST8951-3-02"],
            transfer_encoding,
        )
        .needs(&["cms"]),
        Case::new(
            "masa/rfc8995-6/base64-refused",
            "a request in base64 is refused",
            &["BRSKI-6-01"],
            base64_refused,
        )
        .tags(&["hostile"])
        .needs(&["cms"]),
        Case::new(
            "masa/rfc8995-5.6/voucher-is-binary",
            "the voucher is binary and no base64",
            &["BRSKI-6-01"],
            |kit: Arc<Masa>, record| async move {
                let issued = kit.opened(&record, Envelope::Cms).await?;
                must(
                    issued.answer.body.first() == Some(&0x30),
                    "the body does not begin with 30",
                )
            },
        )
        .needs(&["cms"]),
        Case::new(
            "masa/rfc8995-5.6/unknown-device",
            "a device that the MASA does not know gets 404",
            &["BRSKI-5.6-16"],
            unknown_device,
        )
        .needs(&["cms"]),
        Case::new(
            "masa/rfc8995-5.6/errors-are-text",
            "an error comes with an explanation in plain UTF-8 text",
            &["BRSKI-5.6-03"],
            errors_are_text,
        )
        .needs(&["cms"]),
        Case::new(
            "masa/rfc8995-5.5/repeat",
            "the same request again gets a voucher again",
            &["BRSKI-5.6-01", "BRSKI-5.8-10"],
            repeat,
        )
        .needs(&["cms"]),
        Case::new(
            "masa/rfc8995-5.5/get-refused",
            "GET where POST belongs is refused",
            &["BRSKI-5.5-03"],
            |kit: Arc<Masa>, record: Recorder| async move {
                let answer = kit
                    .client
                    .send(
                        &record,
                        Request::get(format!("{}/requestvoucher", kit.path)),
                    )
                    .await?;
                refused(&answer, "GET")
            },
        ),
    ]
}

async fn answers(kit: Arc<Masa>, record: Recorder, envelope: Envelope) -> Told {
    let device = match envelope {
        Envelope::Cms => "CMS",
        Envelope::Jws => "JWS",
    };
    let ask = kit.ask(&record, envelope, device)?;
    let issued = kit.voucher(&record, &ask).await?;
    let found = issued.answer.media_type();
    must(
        found == envelope.media_type(),
        format!(
            "Content-Type is {found:?} and not {}",
            envelope.media_type()
        ),
    )
}

async fn over(kit: Arc<Masa>, record: Recorder, version: SslVersion, device: &str) -> Told {
    let device = device.to_owned();
    let ask = kit.ask(&record, Envelope::Cms, &device)?;
    let client = kit.client.with_versions(version, version);
    let request = kit.request("requestvoucher", Envelope::Cms, ask.encode());
    match client.send(&record, request).await {
        Ok(answer) => must(
            answer.status == 200,
            format!("it was answered {}", answer.status),
        ),
        Err(crate::http::HttpError::Tls(why)) => Err(Finding::fail(format!("no handshake: {why}"))),
        Err(error) => Err(error.into()),
    }
}

async fn old_tls(kit: Arc<Masa>, record: Recorder) -> Told {
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
            Err(crate::http::HttpError::Tls(_) | crate::http::HttpError::Closed(_)) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

async fn unknown_media_type_answer(
    kit: &Masa,
    record: &Recorder,
) -> Result<crate::http::Answer, Finding> {
    let ask = kit.ask(record, Envelope::Cms, "CASE")?;
    let request = Request::post(
        format!("{}/requestvoucher", kit.path),
        "application/foo",
        ask.encode(),
    );
    Ok(kit.client.send(record, request).await?)
}

async fn unknown_media_type(kit: Arc<Masa>, record: Recorder) -> Told {
    let answer = unknown_media_type_answer(&kit, &record).await?;
    refused(&answer, "application/foo")
}

async fn unknown_accept(kit: Arc<Masa>, record: Recorder) -> Told {
    let ask = kit.ask(&record, Envelope::Cms, "ACCEPT")?;
    let request = Request::post(
        format!("{}/requestvoucher", kit.path),
        Envelope::Cms.media_type(),
        ask.encode(),
    )
    .header("Accept", "application/foo");
    let answer = kit.client.send(&record, request).await?;
    must(
        matches!(answer.status, 406 | 415),
        format!("it was answered {}", answer.status),
    )
}

async fn accept_list(kit: Arc<Masa>, record: Recorder) -> Told {
    for accept in [
        "application/foo;q=0.1, application/voucher-cms+json;q=0.9",
        "*/*",
        "application/*;q=0.5, */*;q=0.1",
        "application/voucher-cms+json , text/plain",
    ] {
        let ask = kit.ask(&record, Envelope::Cms, "ACCEPT")?;
        let request = Request::post(
            format!("{}/requestvoucher", kit.path),
            Envelope::Cms.media_type(),
            ask.encode(),
        )
        .header("Accept", accept);
        let answer = kit.client.send(&record, request).await?;
        must(
            answer.status == 200,
            format!("Accept: {accept} was answered {}", answer.status),
        )?;
    }
    Ok(())
}

async fn media_type_case(kit: Arc<Masa>, record: Recorder) -> Told {
    for media_type in [
        "APPLICATION/Voucher-CMS+JSON",
        "application/voucher-cms+json; charset=utf-8",
        "application/voucher-cms+json;q=1",
    ] {
        let ask = kit.ask(&record, Envelope::Cms, "CASE")?;
        let request = Request::post(
            format!("{}/requestvoucher", kit.path),
            media_type,
            ask.encode(),
        )
        .header("Accept", Envelope::Cms.media_type());
        let answer = kit.client.send(&record, request).await?;
        must(
            answer.status == 200,
            format!("Content-Type: {media_type} was answered {}", answer.status),
        )?;
    }
    Ok(())
}

async fn transfer_encoding(kit: Arc<Masa>, record: Recorder) -> Told {
    for value in ["base64", "binary", "7bit", "quoted-printable", "x-unknown"] {
        let ask = kit.ask(&record, Envelope::Cms, "CTE")?;
        let request = kit
            .request("requestvoucher", Envelope::Cms, ask.encode())
            .header("Content-Transfer-Encoding", value);
        let answer = kit.client.send(&record, request).await?;
        must(
            answer.status == 200,
            format!(
                "Content-Transfer-Encoding: {value} was answered {}",
                answer.status
            ),
        )?;
    }
    Ok(())
}

async fn base64_refused(kit: Arc<Masa>, record: Recorder) -> Told {
    use base64::{Engine as _, engine::general_purpose::STANDARD};
    let ask = kit.ask(&record, Envelope::Cms, "BODY")?;
    let body = STANDARD.encode(ask.encode()).into_bytes();
    let answer = kit.post(&record, Envelope::Cms, body).await?;
    refused(&answer, "base64")
}

async fn unknown_device(kit: Arc<Masa>, record: Recorder) -> Told {
    let serial = "CONF-MASA-NOBODY";
    let key = crate::forge::key::Key::generate()
        .map_err(|error| Finding::could_not_test(error.to_string()))?;
    let device = kit
        .manufacturer
        .device("Conformance Manufacturer", serial, None, &key, kit.at);
    let ask = kit.ask_with(Envelope::Cms, device, serial, Some(vec![7; 16]));
    let answer = kit.post(&record, Envelope::Cms, ask.encode()).await?;
    must(
        answer.status == 404,
        format!("it was answered {}", answer.status),
    )
}

async fn errors_are_text(kit: Arc<Masa>, record: Recorder) -> Told {
    let answer = kit
        .post(&record, Envelope::Cms, b"garbage".to_vec())
        .await?;
    refused(&answer, "garbage")?;
    let media_type = answer.media_type();
    must(
        media_type.starts_with("text/plain") || media_type.is_empty(),
        format!("the explanation is {media_type}"),
    )?;
    let text =
        String::from_utf8(answer.body).map_err(|_| Finding::fail("the explanation is no UTF-8"))?;
    must(!text.trim().is_empty(), "there is no explanation")
}

async fn repeat(kit: Arc<Masa>, record: Recorder) -> Told {
    let ask = kit.ask(&record, Envelope::Cms, "REPEAT")?;
    let body = ask.encode();
    let first = kit.post(&record, Envelope::Cms, body.clone()).await?;
    let second = kit.post(&record, Envelope::Cms, body).await?;
    must(
        first.status == 200 && second.status == 200,
        format!("the answers were {} and {}", first.status, second.status),
    )
}
