//! Options of CoAP.

use std::sync::Arc;

use super::{Served, case, format, is, is_one_of, lives, open, readable};
use crate::{
    case::Case,
    coaps::{Ask, Code, NON, option, uint},
    evidence::Recorder,
    outcome::{Finding, Told, must},
};

/// Elective and critical numbers that nobody has registered.
const UNKNOWN_ELECTIVE: u16 = 65_000;
const UNKNOWN_CRITICAL: u16 = 65_001;

/// Requests to crts with an option, and the code of their answer.
type Row = (
    &'static str,
    &'static str,
    &'static [&'static str],
    fn() -> Vec<(u16, Vec<u8>)>,
    Code,
);

const ROWS: &[Row] = &[
    (
        "rfc7252-5.4.1/elective",
        "an elective option that nobody knows is ignored",
        &["COA-022"],
        || vec![(UNKNOWN_ELECTIVE, b"x".to_vec())],
        Code::CONTENT,
    ),
    (
        "rfc7252-5.4.1/critical",
        "a critical option that nobody knows gets 4.02",
        &["COA-023"],
        || vec![(UNKNOWN_CRITICAL, b"x".to_vec())],
        Code::BAD_OPTION,
    ),
    (
        "rfc7252-5.4.3/accept-too-long",
        "an Accept of three octets gets 4.02",
        &["COA-026"],
        || vec![(option::ACCEPT, vec![1, 0, 0])],
        Code::BAD_OPTION,
    ),
    (
        "rfc7252-5.4.3/path-too-long",
        "a Uri-Path of 256 octets gets 4.02",
        &["COA-026"],
        || vec![(option::URI_PATH, vec![b'a'; 256])],
        Code::BAD_OPTION,
    ),
    (
        "rfc7252-5.4.3/block-too-long",
        "a Block2 of four octets gets 4.02",
        &["COA-026"],
        || vec![(option::BLOCK2, vec![1, 0, 0, 6])],
        Code::BAD_OPTION,
    ),
    (
        "rfc7252-5.4.3/etag-too-long",
        "an ETag of nine octets is ignored",
        &["COA-026"],
        || vec![(option::ETAG, vec![1; 9])],
        Code::CONTENT,
    ),
    (
        "rfc7252-5.4.5/two-accepts",
        "Accept twice gets 4.02",
        &["COA-027"],
        || vec![(option::ACCEPT, uint(281)), (option::ACCEPT, uint(287))],
        Code::BAD_OPTION,
    ),
    (
        "rfc7252-5.10.4/accept",
        "a format that cannot be had gets 4.06",
        &["COA-033", "ESC-023"],
        || vec![(option::ACCEPT, uint(9999))],
        Code::NOT_ACCEPTABLE,
    ),
    (
        "rfc7252-5.7/proxy-uri",
        "a request for a proxy gets 5.05",
        &["COA-083"],
        || vec![(option::PROXY_URI, b"coap://example.com/".to_vec())],
        Code::NO_PROXY,
    ),
    (
        "rfc9148-4.4/uri-host",
        "Uri-Host and Uri-Port are understood, whatever they say",
        &["ESC-030"],
        || {
            vec![
                (option::URI_HOST, b"example.com".to_vec()),
                (option::URI_PORT, uint(9085)),
            ]
        },
        Code::CONTENT,
    ),
    (
        "rfc7641-2/observe",
        "Observe is ignored",
        &["COA-082"],
        || vec![(option::OBSERVE, Vec::new())],
        Code::CONTENT,
    ),
    (
        "rfc9177-4/q-block",
        "Q-Block1 gets 4.02 from who does not have it",
        &["COA-084"],
        || vec![(option::Q_BLOCK1, uint(6))],
        Code::BAD_OPTION,
    ),
    (
        "rfc9175-2.2.1/echo-too-long",
        "an Echo of 41 octets is ignored",
        &["COA-067"],
        || vec![(option::ECHO, vec![1; 41])],
        Code::CONTENT,
    ),
    (
        "rfc9175-3.3/request-tag",
        "Request-Tag is accepted",
        &["COA-074"],
        || vec![(option::REQUEST_TAG, vec![1, 2, 3, 4])],
        Code::CONTENT,
    ),
];

/// Option 13 in every form that is none, and the code of its answer.
const ABBREVIATIONS: &[Row] = &[
    (
        "uri-path-abbrev-2.1/unknown",
        "an abbreviation that nobody knows gets 4.02",
        &["COA-078"],
        || vec![(option::URI_PATH_ABBREV, uint(999))],
        Code::BAD_OPTION,
    ),
    (
        "uri-path-abbrev-2.4/both",
        "an abbreviation beside a path gets 4.02",
        &["COA-079"],
        || {
            vec![
                (option::URI_PATH_ABBREV, uint(301)),
                (option::URI_PATH, b"crts".to_vec()),
            ]
        },
        Code::BAD_OPTION,
    ),
    (
        "uri-path-abbrev-2/twice",
        "two abbreviations get 4.02",
        &["COA-076"],
        || {
            vec![
                (option::URI_PATH_ABBREV, uint(301)),
                (option::URI_PATH_ABBREV, uint(301)),
            ]
        },
        Code::BAD_OPTION,
    ),
    (
        "uri-path-abbrev-2/too-long",
        "an abbreviation of five octets gets 4.02",
        &["COA-076"],
        || vec![(option::URI_PATH_ABBREV, vec![1, 0, 0, 1, 0x2d])],
        Code::BAD_OPTION,
    ),
    (
        "uri-path-abbrev-2.1/crts",
        "301 is crts",
        &["COA-081", "COA-077", "CBR-054"],
        || vec![(option::URI_PATH_ABBREV, uint(301))],
        Code::CONTENT,
    ),
    (
        "uri-path-abbrev-2.1/core",
        "0 is /.well-known/core",
        &["COA-081", "CBR-054"],
        || vec![(option::URI_PATH_ABBREV, Vec::new())],
        Code::CONTENT,
    ),
];

pub(super) fn cases<K: Served>() -> Vec<Case> {
    let mut cases = Vec::new();
    for (rest, title, requirements, options, code) in ROWS {
        cases.push(
            case::<K, _, _>(
                rest,
                title,
                requirements,
                move |kit: Arc<K>, record: Recorder| async move {
                    let mut ask = readable(&*kit);
                    ask.options.extend(options());
                    let mut coaps = open(&*kit, &record).await?;
                    is(&coaps.ask(&ask).await?, *code, "it")?;
                    lives(&*kit, &mut coaps).await
                },
            )
            .tags(&["coap", "hostile"]),
        );
    }
    for (rest, title, requirements, options, code) in ABBREVIATIONS {
        cases.push(
            case::<K, _, _>(
                rest,
                title,
                requirements,
                move |kit: Arc<K>, record: Recorder| async move {
                    let mut ask = Ask::get("");
                    ask.options.extend(options());
                    let mut coaps = open(&*kit, &record).await?;
                    is(&coaps.ask(&ask).await?, *code, "it")?;
                    lives(&*kit, &mut coaps).await
                },
            )
            .tags(&["coap"])
            .needs(&["uri-path-abbrev"]),
        );
    }
    cases.extend([
        case::<K, _, _>(
            "rfc7252-5.4.1/critical-non",
            "a critical option that nobody knows in a non-confirmable request: it is not done",
            &["COA-024"],
            critical_non,
        )
        .tags(&["coap", "hostile"]),
        case::<K, _, _>(
            "rfc7252-5.10.3/no-format",
            "a body without Content-Format is not guessed at",
            &["COA-032", "ESC-024"],
            no_format,
        )
        .tags(&["coap", "hostile"]),
        case::<K, _, _>(
            "rfc7252-5.10.6.2/etag",
            "crts has an ETag, and who has that version gets 2.03 without a body",
            &["CBR-066", "CBR-067", "COA-034"],
            etag,
        )
        .tags(&["coap"])
        .needs(&["etag"]),
        case::<K, _, _>(
            "rfc6690-4/core",
            "/.well-known/core is link format, and its links are there",
            &["COA-044", "CBR-040", "ESC-014"],
            core,
        )
        .tags(&["coap", "discovery"])
        .needs(&["discovery"]),
        case::<K, _, _>(
            "rfc6690-4.1/filter",
            "/.well-known/core is filtered by whole values and beginnings of values",
            &["ESC-013", "COA-045", "ESC-054", "ESC-051"],
            filter,
        )
        .tags(&["coap", "discovery"])
        .needs(&["discovery"]),
        case::<K, _, _>(
            "rfc6690-4.1/filter-nothing",
            "a filter that nothing passes leads to no links",
            &["COA-045"],
            |kit: Arc<K>, record: Recorder| async move {
                let mut coaps = open(&*kit, &record).await?;
                let answer = coaps
                    .ask(&Ask::get("/.well-known/core?rt=no-such-type"))
                    .await?;
                must(
                    answer.payload.is_empty() || answer.code == Code::NOT_FOUND,
                    "there are links",
                )
            },
        )
        .tags(&["coap", "discovery"])
        .needs(&["discovery"]),
    ]);
    cases
}

async fn critical_non<K: Served>(kit: Arc<K>, record: Recorder) -> Told {
    let mut coaps = open(&*kit, &record).await?;
    let mut message = coaps
        .message(&readable(&*kit))
        .option(UNKNOWN_CRITICAL, b"x".to_vec());
    message.kind = NON;
    let came = coaps.fenced(&[message.encode()]).await?;
    must(
        came.iter().all(|reply| !reply.code.is_success()),
        "it was answered with success",
    )?;
    must(
        came.iter().any(|reply| reply.code == Code::BAD_OPTION),
        "4.02 is what is asked for",
    )
}

async fn no_format<K: Served>(kit: Arc<K>, record: Recorder) -> Told {
    let (identity, deed) = kit.deed(&record).await?;
    let client = kit.base().client.with_identity(&identity);
    let mut coaps = crate::coaps::Coaps::open(&client, &record).await?;
    let answer = coaps.ask(&deed.without(option::CONTENT_FORMAT)).await?;
    is_one_of(
        &answer,
        &[Code::UNSUPPORTED_FORMAT, Code::BAD_REQUEST],
        "a body without Content-Format",
    )
}

async fn etag<K: Served>(kit: Arc<K>, record: Recorder) -> Told {
    let mut coaps = open(&*kit, &record).await?;
    let first = coaps.ask(&readable(&*kit)).await?;
    let etag = first
        .get(option::ETAG)
        .ok_or_else(|| Finding::fail("crts has no ETag"))?
        .to_vec();
    for tags in [vec![etag.clone()], vec![b"another".to_vec(), etag.clone()]] {
        let mut ask = readable(&*kit);
        for tag in tags {
            ask = ask.option(option::ETAG, tag);
        }
        let answer = coaps.ask(&ask).await?;
        is(&answer, Code::VALID, "who has that version")?;
        must(answer.payload.is_empty(), "2.03 has a body")?;
        must(
            answer.get(option::ETAG) == Some(etag.as_slice()),
            "2.03 does not say which version",
        )?;
    }
    let other = coaps
        .ask(&readable(&*kit).option(option::ETAG, b"another".to_vec()))
        .await?;
    is(&other, Code::CONTENT, "who has another version")
}

/// Links as they are written: target and the rest.
pub(super) fn links(document: &[u8]) -> Result<Vec<(String, String)>, Finding> {
    let text =
        std::str::from_utf8(document).map_err(|_| Finding::fail("the links are no UTF-8"))?;
    let theirs = coap::link::decode(text).map_err(|error| error.to_string());
    // By hand: commas within quotes do not part.
    let mut links = Vec::new();
    let mut quoted = false;
    let mut one = String::new();
    for character in text.chars().chain([',']) {
        match character {
            '"' => quoted = !quoted,
            ',' if !quoted => {
                if let Some((target, rest)) = one
                    .trim()
                    .strip_prefix('<')
                    .and_then(|one| one.split_once('>'))
                {
                    links.push((target.to_owned(), rest.to_owned()));
                } else if !one.trim().is_empty() {
                    return Err(Finding::fail(format!("{one:?} is no link")));
                }
                one.clear();
                continue;
            }
            _ => {}
        }
        one.push(character);
    }
    match theirs {
        Ok(parsed) if parsed.len() == links.len() => Ok(links),
        other => Err(Finding::could_not_test(format!(
            "the two parsers of the suite differ about the links: {other:?}"
        ))),
    }
}

async fn core<K: Served>(kit: Arc<K>, record: Recorder) -> Told {
    let mut coaps = open(&*kit, &record).await?;
    let answer = coaps.ask(&Ask::get("/.well-known/core")).await?;
    is(&answer, Code::CONTENT, "/.well-known/core")?;
    must(
        answer.format() == Some(u64::from(format::LINKS)),
        format!("its Content-Format is {:?}", answer.format()),
    )?;
    for (target, rest) in links(&answer.payload)? {
        if !rest.contains("ace.est.") && !rest.contains("brski.") {
            continue;
        }
        // Every one has either method; what is not there has neither.
        let answer = coaps.ask(&Ask::new(Code(4), &target)).await?;
        is(
            &answer,
            Code::METHOD_NOT_ALLOWED,
            &format!("DELETE of {target}, which has a link,"),
        )?;
    }
    Ok(())
}

async fn filter<K: Served>(kit: Arc<K>, record: Recorder) -> Told {
    let mut coaps = open(&*kit, &record).await?;
    for (query, wanted, unwanted) in [
        (
            "rt=ace.est*",
            &["ace.est.crts", "ace.est.sen", "ace.est.sren"][..],
            "brski",
        ),
        ("rt=ace.est.sen", &["ace.est.sen"][..], "ace.est.crts"),
        (
            "rt=ace.est.s*",
            &["ace.est.sen", "ace.est.sren"][..],
            "ace.est.crts",
        ),
    ] {
        let answer = coaps
            .ask(&Ask::get(&format!("/.well-known/core?{query}")))
            .await?;
        is(&answer, Code::CONTENT, query)?;
        let text = String::from_utf8_lossy(&answer.payload).into_owned();
        for name in wanted {
            must(text.contains(name), format!("{query} lacks {name}: {text}"))?;
        }
        must(
            !text.contains(unwanted),
            format!("{query} has {unwanted}: {text}"),
        )?;
    }
    Ok(())
}
