//! Link format and JPY.

use std::path::{Path, PathBuf};

use coap::{
    Error,
    jpy::Jpy,
    link::{self, Link},
};
use proptest::prelude::*;

fn data(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/data")
        .join(path)
}

/// Requirements: COA-048, JPX-050, JPX-051
#[test]
fn published_links_are_read() {
    let cases = [
        ("brski-base", 1, "rt=brski", "/b"),
        ("brski-all-short", 4, "rt=brski.rv", "/b/rv"),
        ("brski-all-noct", 4, "rt=brski.es", "/b/es"),
        (
            "brski-all-wellknown",
            4,
            "rt=brski.vs",
            "/.well-known/brski/vs",
        ),
        ("brski-rv-formats", 1, "ct=65124", "/b/rv"),
        (
            "brski-base-for-jp",
            1,
            "rt=brski",
            "coaps://[2001:db8:0:abcd::52]/b",
        ),
        ("est-rfc9148", 6, "rt=ace.est.sen", "/est/sen"),
        ("est-cbrski", 6, "rt=ace.est.skc", "/e/skc"),
        (
            "est-rfc9148-port",
            6,
            "rt=ace.est.att",
            "coaps://[2001:db8:3::123]:61617/est/att",
        ),
        ("jp-1", 1, "brski-jp=8485", ""),
        ("jp-2-quoted", 1, "brski-jp=63245", ""),
        ("jp-3-two", 2, "var=c509*", ""),
        (
            "jp-old-29",
            1,
            "rt=brski.jp",
            "coaps://[fe80::c78:e3c4:58a0:a4ad]:8485",
        ),
        ("ot-registrar", 3, "rt=ace.est", "/.well-known/est"),
        ("rjp", 1, "rt=brski.rjp", "jpy://[2001:db8:0:abcd::52]:7634"),
    ];
    for (name, count, query, target) in cases {
        let text = std::fs::read_to_string(data(&format!("link-format/{name}.wlnk"))).unwrap();
        let links = link::decode(&text).unwrap_or_else(|error| panic!("{name}: {error}"));
        assert_eq!(links.len(), count, "{name}");
        let found: Vec<_> = links.iter().filter(|link| link.matches(query)).collect();
        assert_eq!(found.len(), 1, "{name}: {found:?}");
        assert_eq!(found[0].target, target, "{name}");
        assert_eq!(
            link::decode(&link::encode(&links)).unwrap(),
            links,
            "{name}"
        );
    }
}

/// Requirements: COA-045
#[test]
fn queries_filter() {
    let link = Link::new("/b/rv")
        .with("rt", "brski brski.rv")
        .with("ct", "836 65123")
        .with("title", "a b");
    let cases = [
        ("rt=brski", true),
        ("rt=brski*", true),
        ("rt=brski.rv", true),
        ("rt=brski.r", false),
        ("rt=brski.r*", true),
        ("rt=*", true),
        ("RT=brski", true),
        ("rt=rski", false),
        ("ct=836", true),
        ("ct=65123", true),
        ("ct=83", false),
        ("href=/b/rv", true),
        ("href=/b*", true),
        ("href=/c", false),
        ("title=a b", true),
        ("title=a", false),
        ("title=\"a b\"", true),
        ("sz=*", false),
        ("rt", false),
        ("", false),
    ];
    for (query, expected) in cases {
        assert_eq!(link.matches(query), expected, "{query}");
    }
}

/// Requirements: COA-048
#[test]
fn odd_links_are_read_and_broken_ones_named() {
    let good = [
        ("", 0),
        ("<>", 1),
        ("<a>;x", 1),
        ("<a>;t=\"x,y;z\",<b>", 2),
        ("<a>;t=\"say \\\"hi\\\"\"", 1),
        ("<a,b;c>;rt=x", 1),
        (" <a> ,\r\n <b>", 2),
        ("<a>;rt=x y", 0),
    ];
    for (text, count) in good {
        match link::decode(text) {
            Ok(links) => assert_eq!(links.len(), count, "{text}"),
            Err(_) => assert_eq!(count, 0, "{text}"),
        }
    }
    let bad = [
        "<a",
        "a",
        "<a>;",
        "<a>;=x",
        "<a>;t=\"x",
        "<a><b>",
        "<a>,",
        "<a<b>",
    ];
    for text in bad {
        assert!(
            matches!(link::decode(text), Err(Error::Link { .. })),
            "{text}"
        );
    }
    let many = vec![Link::new("a"); link::LINKS_MAX + 1];
    assert!(link::decode(&link::encode(&many)).is_err());
}

/// Requirements: JPX-025, JPX-053
#[test]
fn published_jpy_messages_hold_their_datagrams() {
    for name in ["jpy-client-hello", "jpy-hello-verify-request"] {
        let message = std::fs::read(data(&format!("jpy/{name}.cbor"))).unwrap();
        let content = std::fs::read(data(&format!("jpy/{name}.dtls"))).unwrap();
        let jpy = Jpy::decode(&message).unwrap();
        assert_eq!(jpy.content, content);
        assert_eq!(jpy.header.len(), 16);
        assert_eq!(jpy.encode(), message);
    }
}

/// Requirements: JPX-025, JPX-033, JPX-034
#[test]
fn jpy_of_other_shapes() {
    let good: [(&[u8], &[u8], &[u8]); 4] = [
        (&[0x82, 0x40, 0x41, 1], &[], &[1]),
        (&[0x83, 0x41, 9, 0x41, 1, 0xf6], &[9], &[1]),
        (&[0x98, 2, 0x41, 9, 0x41, 1], &[9], &[1]),
        (&[0x82, 0x58, 1, 9, 0x59, 0, 1, 1], &[9], &[1]),
    ];
    for (bytes, header, content) in good {
        assert_eq!(Jpy::decode(bytes), Ok(Jpy { header, content }));
    }
    let bad: [(&str, &[u8]); 11] = [
        ("nothing", &[]),
        ("empty array", &[0x80]),
        ("one element", &[0x81, 0x40]),
        ("cut off", &[0x82]),
        ("no array", &[0x42, 1, 2]),
        (
            "the five elements of old drafts",
            &[0x85, 0x41, 1, 0x02, 0x03, 0x04, 0x41, 1],
        ),
        ("text", &[0x82, 0x61, b'a', 0x41, 1]),
        ("indefinite array", &[0x9f, 0x40, 0x40, 0xff]),
        ("indefinite bytes", &[0x82, 0x5f, 0x40, 0xff, 0x40]),
        (
            "length of 2^63",
            &[0x82, 0x40, 0x5b, 0x80, 0, 0, 0, 0, 0, 0, 0, 1],
        ),
        ("bytes behind", &[0x82, 0x40, 0x40, 0]),
    ];
    for (name, bytes) in bad {
        assert!(matches!(Jpy::decode(bytes), Err(Error::Jpy(_))), "{name}");
    }
    let long = vec![0; coap::jpy::HEADER_LENGTH_MAX + 1];
    let message = Jpy {
        header: &long,
        content: &[1],
    }
    .encode();
    assert!(Jpy::decode(&message).is_err());
}

proptest! {
    #[test]
    fn jpy_that_is_written_is_read(
        header in proptest::collection::vec(any::<u8>(), 0..=256),
        content in proptest::collection::vec(any::<u8>(), 0..2000),
    ) {
        let jpy = Jpy { header: &header, content: &content };
        let datagram = jpy.encode();
        prop_assert_eq!(Jpy::decode(&datagram), Ok(jpy));
    }

    #[test]
    fn any_bytes_are_no_danger(bytes in proptest::collection::vec(any::<u8>(), 0..64)) {
        if let Ok(jpy) = Jpy::decode(&bytes) {
            prop_assert!(jpy.header.len() + jpy.content.len() < bytes.len());
        }
    }

    #[test]
    fn links_that_are_written_are_read(
        targets in proptest::collection::vec("[^<>]{0,20}", 0..5),
        value in ".{0,20}",
    ) {
        let links: Vec<_> = targets
            .iter()
            .map(|target| Link::new(target).with("title", &value).with("ct", "60"))
            .collect();
        prop_assert_eq!(link::decode(&link::encode(&links)), Ok(links));
    }

    #[test]
    fn any_text_is_no_danger(text in ".{0,80}") {
        let _ = link::decode(&text);
    }
}
