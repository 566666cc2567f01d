//! Configuration templates: any text is rendered within its limits or refused, nothing is read from
//! outside, and a value never leaves the quotation that a template puts it in.
#![no_main]
use std::collections::{BTreeMap, BTreeSet};

use bootstrap::content::document::Format;
use bootstrap::content::template::{CONFIGURATION_SIZE_MAX, Templates};
use libfuzzer_sys::fuzz_target;
use minijinja::context;

fuzz_target!(|input: (&str, &str)| {
    let (text, value) = input;
    if text.len() > 4096 {
        return;
    }
    let formats: BTreeSet<Format> = [Format::Json, Format::Text, Format::Xml].into();
    let files: BTreeMap<String, String> = [
        ("fuzzed".to_owned(), text.to_owned()),
        ("part".to_owned(), "{{ device.serial }}".to_owned()),
        ("json".to_owned(), "{\"a\": \"{{ vars.a }}\"}".to_owned()),
        ("xml".to_owned(), "<a b=\"{{ vars.a }}\"/>".to_owned()),
    ]
    .into();
    let (templates, _) = Templates::new(&files, &formats);
    let context = context! {
        device => context! { serial => "SN-1" },
        vars => context! { a => value, list => [1, 2], nothing => () },
    };
    // The engine counts steps and not octets: texts that double each time are left out.
    if !text.contains(['~', '+', '*']) {
        for format in formats {
            if let Ok(octets) = templates.render("fuzzed", format, &context) {
                assert!(octets.len() <= CONFIGURATION_SIZE_MAX);
            }
        }
    }
    let json = templates.render("json", Format::Json, &context).expect("a text is a value");
    let json: serde_json::Value = serde_json::from_slice(&json).expect("a value stays inside");
    assert_eq!(json["a"], value);
    let xml = templates.render("xml", Format::Xml, &context).expect("a text is a value");
    let xml = String::from_utf8(xml).expect("text");
    assert_eq!(xml.matches('"').count(), 2);
    assert_eq!(xml.matches('<').count(), 1);
});
