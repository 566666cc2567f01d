//! content.toml: any text is read, what is stored of it is read again as the same, and rules decide
//! the same way each time, with and without their index.
#![no_main]
use bootstrap::content::document::Document;
use bootstrap::content::load;
use bootstrap::content::rules::{RuleSet, Subject};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    let (mut document, findings) = load::parse(text);
    for finding in &findings {
        assert!(finding.code.starts_with("content."));
        assert!(finding.line.is_none_or(|line| line >= 1));
    }
    let stored = serde_json::to_string(&document).expect("a document is JSON");
    let mut again: Document = serde_json::from_str(&stored).expect("our own document");
    // The last bit of a number with a fraction may come back another; variables may be such.
    for document in [&mut document, &mut again] {
        document.variables.clear();
        document.groups.clear();
        document.sites.clear();
    }
    assert_eq!(again, document);
    let rules = RuleSet::new(document.rules.clone());
    for (serial, model, version) in [("a", None, None), ("SN-1", Some("m"), Some("1.2"))] {
        let subject = Subject {
            vendor: "v",
            serial,
            group: Some("g"),
            hw_model: model,
            os_version: version,
            ..Subject::default()
        };
        let chosen = rules.choose(&subject);
        let walked = document.rules.iter().find(|rule| rule.mismatch(&subject).is_none());
        assert_eq!(chosen, walked);
        let explained = rules.explain(&subject);
        let last = explained.last().and_then(|(rule, why)| why.is_none().then_some(*rule));
        assert_eq!(last, chosen);
    }
});
