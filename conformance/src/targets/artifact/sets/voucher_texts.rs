//! Vouchers: the JSON text itself.

use serde_json::{Value, json};

use super::{
    SERIAL,
    voucher::{Content, content},
};
use crate::forge::voucher::REQUEST;

/// All of them.
pub(super) fn texts(contents: &mut Vec<Content>) {
    contents.push(content(
        "pretty",
        true,
        &["VOUCHER-5-01"],
        "the JSON has line breaks and blanks",
        |world| {
            let value: Value =
                serde_json::from_slice(&world.voucher().encode()).unwrap_or_default();
            serde_json::to_vec_pretty(&value).unwrap_or_default()
        },
    ));
    contents.push(content(
        "reversed",
        true,
        &["VOUCHER-5-01"],
        "the leaves come in another order",
        |world| {
            let mut leaves = world.voucher();
            leaves.leaves = leaves.leaves.into_iter().rev().collect();
            leaves.encode()
        },
    ));
    contents.push(content(
        "escaped",
        true,
        &["VOUCHER-5-01"],
        "letters are escaped as JSON allows",
        |world| {
            let text = String::from_utf8_lossy(&world.voucher().encode()).into_owned();
            text.replace("proximity", "\\u0070roximity")
                .replace('/', "\\/")
                .into_bytes()
        },
    ));
    contents.push(content(
        "after-blanks",
        true,
        &["VOUCHER-5-01"],
        "blanks stand around the JSON",
        |world| [b" \n", world.voucher().encode().as_slice(), b"\r\n"].concat(),
    ));
    let bad = &["VOUCHER-5-01"];
    contents.push(content(
        "duplicate-serial",
        false,
        bad,
        "serial-number is there twice",
        |world| {
            world
                .voucher()
                .encode_with_duplicate("serial-number", &json!("JADA-2"))
        },
    ));
    contents.push(content(
        "duplicate-same",
        false,
        bad,
        "serial-number is there twice with the same value",
        |world| {
            world
                .voucher()
                .encode_with_duplicate("serial-number", &json!(SERIAL))
        },
    ));
    contents.push(content(
        "duplicate-escaped",
        false,
        bad,
        "serial-number is there twice, once escaped",
        |world| {
            let text = String::from_utf8_lossy(&world.voucher().encode()).into_owned();
            text.replacen(
                "\"assertion\"",
                "\"seri\\u0061l-number\":\"JADA-2\",\"assertion\"",
                1,
            )
            .into_bytes()
        },
    ));
    contents.push(content(
        "request-member",
        false,
        &["BRSKI-3-03", "VOUCHER-5-01"],
        "the top-level member is that of a request",
        |world| world.voucher().under(REQUEST).encode(),
    ));
    contents.push(content(
        "unqualified",
        false,
        &["BRSKI-3-03", "SZTP-8366-5.1-01"],
        "the top-level member is not qualified with its module",
        |world| world.voucher().under("voucher").encode(),
    ));
    contents.push(content(
        "capitals",
        false,
        &["BRSKI-3-03"],
        "the top-level member has other capitals",
        |world| world.voucher().under("ietf-voucher:Voucher").encode(),
    ));
    contents.push(content(
        "two-members",
        false,
        bad,
        "a second top-level member follows",
        |world| {
            let text = String::from_utf8_lossy(&world.voucher().encode()).into_owned();
            let open = text.strip_suffix('}').unwrap_or(&text);
            format!("{open},\"ietf-voucher:other\":{{}}}}").into_bytes()
        },
    ));
    for (name, why, make) in BROKEN_TEXTS {
        contents.push(content(*name, false, bad, *why, |world| {
            make(&world.voucher().encode())
        }));
    }
}

type Break = fn(&[u8]) -> Vec<u8>;

const BROKEN_TEXTS: &[(&str, &str, Break)] = &[
    ("cut", "the JSON lacks its last octet", |json| {
        json.get(..json.len() - 1).unwrap_or_default().to_vec()
    }),
    ("trailing", "something follows the JSON", |json| {
        [json, b"{}"].concat()
    }),
    ("trailing-comma", "a comma follows the last leaf", |json| {
        [json.get(..json.len() - 2).unwrap_or_default(), b",}}"].concat()
    }),
    ("comment", "there is a comment", |json| {
        [b"/* voucher */", json].concat()
    }),
    ("array", "the voucher is in an array", |json| {
        [b"[", json, b"]"].concat()
    }),
    ("bom", "a byte order mark stands before the JSON", |json| {
        [b"\xef\xbb\xbf", json].concat()
    }),
    ("not-utf8", "an octet is no UTF-8", |json| {
        let mut json = json.to_vec();
        if let Some(octet) = json.iter_mut().find(|octet| **octet == b'J') {
            *octet = 0xff;
        }
        json
    }),
    ("utf16", "the JSON is UTF-16", |json| {
        json.iter().flat_map(|octet| [0, *octet]).collect()
    }),
    ("single-quotes", "strings are in single quotes", |json| {
        json.iter()
            .map(|octet| if *octet == b'"' { b'\'' } else { *octet })
            .collect()
    }),
    ("empty", "there is no content", |_| Vec::new()),
    ("empty-object", "the content is an empty object", |_| {
        b"{}".to_vec()
    }),
    ("null", "the content is null", |_| b"null".to_vec()),
    ("text", "the content is a string", |_| {
        b"\"voucher\"".to_vec()
    }),
    ("no-leaves", "the voucher has no leaves", |_| {
        b"{\"ietf-voucher:voucher\":{}}".to_vec()
    }),
    ("deep", "arrays are nested a hundred thousand deep", |_| {
        let mut deep = b"{\"ietf-voucher:voucher\":".to_vec();
        deep.extend(std::iter::repeat_n(b'[', 100_000));
        deep
    }),
    ("control", "a string holds a control character", |json| {
        String::from_utf8_lossy(json)
            .replacen("JADA", "JA\u{1}DA", 1)
            .into_bytes()
    }),
];
