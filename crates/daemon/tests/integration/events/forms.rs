//! The text forms, read back by readers that share nothing with their writers.

use std::collections::BTreeMap;

use daemon::events::{Event, Header, Severity, cef, frame, rfc5424};
use proptest::prelude::*;
use serde_json::Value;
use time::macros::datetime;

/// An RFC 5424 message, taken apart by its grammar.
#[derive(Debug)]
pub(crate) struct Message {
    pub(crate) priority: u16,
    pub(crate) hostname: String,
    pub(crate) application: String,
    pub(crate) kind: String,
    pub(crate) structured: Vec<(String, Vec<(String, String)>)>,
    pub(crate) text: String,
}

impl Message {
    pub(crate) fn parameter(&self, name: &str) -> Option<String> {
        self.structured
            .iter()
            .flat_map(|(_, parameters)| parameters)
            .find(|(found, _)| found == name)
            .map(|(_, value)| value.clone())
    }
}

struct Reader<'a>(&'a str);

impl Reader<'_> {
    fn take(&mut self) -> char {
        let c = self.0.chars().next().expect("not at the end");
        self.0 = &self.0[c.len_utf8()..];
        c
    }

    fn expect(&mut self, wanted: char) {
        assert_eq!(self.take(), wanted);
    }

    fn word(&mut self, length_max: usize) -> String {
        let (word, rest) = self.0.split_once(' ').expect("a blank");
        assert!((1..=length_max).contains(&word.len()), "{word:?}");
        assert!(word.chars().all(|c| c.is_ascii_graphic()), "{word:?}");
        self.0 = rest;
        word.to_owned()
    }
}

/// Panics where the grammar is broken.
pub(crate) fn parse(bytes: &[u8]) -> Message {
    // The mark stands before the text only; the rest is UTF-8 as a whole.
    let text = std::str::from_utf8(bytes).expect("UTF-8");
    let mut reader = Reader(text);
    reader.expect('<');
    let (priority, rest) = reader.0.split_once('>').expect("a priority");
    let priority: u16 = priority.parse().expect("a number");
    assert!(priority <= 191);
    reader.0 = rest;
    assert_eq!(reader.word(3), "1");
    let at = reader.word(32);
    time::OffsetDateTime::parse(&at, &time::format_description::well_known::Rfc3339)
        .expect("a timestamp");
    assert!(at.ends_with('Z') && at.len() <= 27, "{at}");
    let hostname = reader.word(255);
    let application = reader.word(48);
    reader.word(128);
    let kind = reader.word(32);
    let mut structured = Vec::new();
    if reader.0.starts_with('-') {
        reader.take();
    } else {
        while reader.0.starts_with('[') {
            reader.take();
            let mut id = String::new();
            while !matches!(reader.0.chars().next(), Some(' ' | ']')) {
                id.push(reader.take());
            }
            assert!(id.len() <= 32 && id.contains('@'), "{id}");
            let mut parameters = Vec::new();
            while reader.take() == ' ' {
                let mut name = String::new();
                while !reader.0.starts_with('=') {
                    let c = reader.take();
                    assert!(c.is_ascii_graphic() && !matches!(c, ']' | '"'), "{c:?}");
                    name.push(c);
                }
                assert!((1..=32).contains(&name.len()));
                reader.expect('=');
                reader.expect('"');
                let mut value = String::new();
                loop {
                    match reader.take() {
                        '"' => break,
                        '\\' => {
                            let c = reader.take();
                            assert!(matches!(c, '"' | '\\' | ']'), "escaped {c:?}");
                            value.push(c);
                        }
                        ']' => panic!("an open bracket's end in a value"),
                        c => value.push(c),
                    }
                }
                parameters.push((name, value));
            }
            structured.push((id, parameters));
        }
        assert!(!structured.is_empty());
    }
    let text = match reader.0.strip_prefix(' ') {
        Some(text) => {
            let marked = text.strip_prefix('\u{feff}');
            assert_eq!(marked.is_some(), !text.is_ascii(), "{text:?}");
            marked.unwrap_or(text).to_owned()
        }
        None => {
            assert!(reader.0.is_empty(), "{:?}", reader.0);
            String::new()
        }
    };
    assert!(!text.chars().any(char::is_control), "{text:?}");
    Message {
        priority,
        hostname,
        application,
        kind,
        structured,
        text,
    }
}

/// A CEF record: seven header fields and the extension.
fn parse_cef(record: &str) -> (Vec<String>, BTreeMap<String, String>) {
    let mut header = Vec::new();
    let mut field = String::new();
    let mut characters = record.chars();
    while header.len() < 7 {
        match characters.next().expect("seven fields") {
            '|' => header.push(std::mem::take(&mut field)),
            '\\' => {
                let c = characters.next().expect("something escaped");
                assert!(matches!(c, '|' | '\\'), "escaped {c:?}");
                field.push(c);
            }
            c => field.push(c),
        }
    }
    let rest: String = characters.collect();
    // `key=value key=value`: a key is the word before an `=` that is not escaped.
    let mut extension = BTreeMap::new();
    let mut key: Option<String> = None;
    let mut value = String::new();
    let mut characters = rest.chars();
    while let Some(c) = characters.next() {
        match c {
            '\\' => {
                let c = characters.next().expect("something escaped");
                value.push(match c {
                    'n' => '\n',
                    '=' | '\\' => c,
                    other => panic!("escaped {other:?}"),
                });
            }
            '=' => {
                let (old, next) = match value.rsplit_once(' ') {
                    Some((old, next)) => (old.to_owned(), next.to_owned()),
                    None => (String::new(), value.clone()),
                };
                if let Some(key) = key.take() {
                    assert!(extension.insert(key, old).is_none(), "a key twice");
                } else {
                    assert!(old.is_empty());
                }
                key = Some(next);
                value.clear();
            }
            c => value.push(c),
        }
    }
    extension.insert(key.expect("a key"), value);
    (header, extension)
}

fn header() -> Header {
    Header {
        facility: 16,
        hostname: "host".to_owned(),
        application: "usher".to_owned(),
        enterprise: 32473,
    }
}

fn sample(subject: &str, summary: &str, data: &[(String, String)]) -> Event {
    let mut event = Event::new(
        datetime!(2026-02-03 4:05:06.789_012_345 UTC),
        "device.failed",
        Severity::Error,
        subject,
        summary,
    );
    event.id = "evt_1".to_owned();
    for (name, value) in data {
        event.data.insert(name.clone(), Value::from(value.as_str()));
    }
    event
}

/// What `plain` makes of it is what arrives.
fn shown(text: &str) -> String {
    daemon::cli::plain(text)
}

#[test]
fn a_message_as_rfc_5424_has_it() {
    let event = sample(
        "SN \"1\"",
        "it failed: a]b",
        &[("vendor".to_owned(), "a\\b".to_owned())],
    );
    let message = rfc5424(&event, &header(), None, 8192);
    let expected = format!(
        "<131>1 2026-02-03T04:05:06.789012Z host usher {} failed [usher@32473 id=\"evt_1\" \
         subject=\"SN \\\"1\\\"\" vendor=\"a\\\\b\"] it failed: a]b",
        std::process::id()
    );
    assert_eq!(String::from_utf8(message.clone()).unwrap(), expected);
    assert_eq!(parse(&message).kind, "failed");
    assert_eq!(frame(b"abc"), b"3 abc");
}

#[test]
fn a_record_as_cef_has_it() {
    let event = sample(
        "SN=1",
        "a|b\\c=d",
        &[
            ("peer".to_owned(), "192.0.2.1".to_owned()),
            ("code".to_owned(), "x.y".to_owned()),
            ("message".to_owned(), "one\r\ntwo src=6.6.6.6".to_owned()),
        ],
    );
    assert_eq!(
        cef(&event, "usher|x", "1.0"),
        "CEF:0|Usher|usher\\|x|1.0|device.failed|a\\|b\\\\c=d|8|rt=1770091506789 externalId=evt_1 \
         deviceExternalId=SN\\=1 src=192.0.2.1 reason=x.y cs1Label=message \
         cs1=one\\ntwo src\\=6.6.6.6 msg=a|b\\\\c\\=d"
    );
}

proptest! {
    /// Whatever a device says, the message keeps its grammar, its length, and what was said.
    #[test]
    fn any_text_survives_rfc_5424(
        subject in ".{0,60}",
        summary in ".{0,200}",
        data in proptest::collection::vec(("[a-z]{1,8}", ".{0,100}"), 0..6),
    ) {
        let event = sample(&subject, &summary, &data);
        let bytes = rfc5424(&event, &header(), None, 8192);
        let message = parse(&bytes);
        prop_assert_eq!(message.structured.len(), 1);
        prop_assert_eq!(message.parameter("subject"), Some(shown(&subject)));
        prop_assert_eq!(&message.text, &shown(&summary));
        for (name, value) in &event.data {
            if name != "id" && name != "subject" {
                prop_assert_eq!(message.parameter(name), value.as_str().map(shown));
            }
        }
    }

    /// Long ones are cut, never within a character, an escape or a parameter.
    #[test]
    fn a_limit_is_kept(
        summary in "\\PC{0,400}",
        data in proptest::collection::vec(("[a-z]{1,30}", "[\"\\\\\\]é]{0,600}"), 0..30),
        limit in 480_usize..2048,
    ) {
        let event = sample("SN", &summary, &data);
        let bytes = rfc5424(&event, &header(), None, limit);
        prop_assert!(bytes.len() <= limit, "{} > {}", bytes.len(), limit);
        let message = parse(&bytes);
        prop_assert_eq!(message.parameter("id"), Some("evt_1".to_owned()));
    }

    /// Whatever a device says, it adds no field, changes no other and breaks no line.
    #[test]
    fn any_text_survives_cef(
        subject in "[^\u{0}]{0,60}",
        summary in "(.|\n|\r){0,100}",
        message in "(.|\n|\r| src=1| cs1=){0,100}",
    ) {
        let event = sample(&subject, &summary, &[("message".to_owned(), message.clone())]);
        let record = cef(&event, "usher", "1");
        prop_assert!(!record.chars().any(char::is_control));
        let (header, extension) = parse_cef(&record);
        prop_assert_eq!(&header[5], &shown(&summary));
        let keys: Vec<&str> = extension.keys().map(String::as_str).collect();
        prop_assert_eq!(
            keys,
            ["cs1", "cs1Label", "deviceExternalId", "externalId", "msg", "rt"]
        );
        let lines = |text: &str| {
            text.replace("\r\n", "\n")
                .replace('\r', "\n")
                .split('\n')
                .map(shown)
                .collect::<Vec<_>>()
                .join("\n")
        };
        prop_assert_eq!(&extension["cs1"], &lines(&message));
        prop_assert_eq!(&extension["deviceExternalId"], &lines(&subject));
        prop_assert_eq!(&extension["msg"], &lines(&summary));
    }
}
