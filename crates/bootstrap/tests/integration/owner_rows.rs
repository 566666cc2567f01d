//! Device files: what makes a row, and what is said about one that makes none.

use bootstrap::register::rows::{Form, ImportRow, Refused, read};
use proptest::prelude::*;

fn all(text: &[u8], form: Form) -> (Vec<Result<ImportRow, Refused>>, Option<Refused>) {
    let mut rows = Vec::new();
    let result = read(text, form, &mut |row| {
        rows.push(row);
        true
    });
    (rows, result.err())
}

#[test]
fn the_three_forms_say_the_same() {
    let csv = "\u{feff}Serial,VENDOR,group,site,device_type,hw-model,os-name,os-version,var.Host\n\
               # a comment\n\
               SN-1,acme,branch,\"Bonn, Rhein\",generic,R12,os,1.0,br-1\n\
               SN-2, acme ,,,,,,,\n";
    let semicolons = csv
        .replace("\"Bonn, Rhein\"", "Bonn%Rhein")
        .replace(',', ";")
        .replace('%', ", ");
    let json = r#"[
        {"serial": "SN-1", "vendor": "acme", "group": "branch", "site": "Bonn, Rhein",
         "device-type": "generic", "hw-model": "R12", "os-name": "os", "os-version": "1.0",
         "variables": {"Host": "br-1"}},
        {"serial-number": "SN-2", "vendor": "acme"}
    ]"#;
    let lines = "{\"serial\":\"SN-1\",\"vendor\":\"acme\",\"group\":\"branch\",\"site\":\"Bonn, \
                 Rhein\",\"type\":\"generic\",\"model\":\"R12\",\"os_name\":\"os\",\
                 \"os_version\":\"1.0\",\"variables\":{\"Host\":\"br-1\"}}\n\n\
                 {\"serial\":\"SN-2\",\"vendor\":\"acme\"}\n";
    let expected = all(csv.as_bytes(), Form::Csv);
    assert_eq!(expected.1, None);
    let first = expected.0[0].as_ref().unwrap();
    assert_eq!(first.site.as_deref(), Some("Bonn, Rhein"));
    assert_eq!(first.variables["Host"], "br-1");
    for (text, form) in [
        (semicolons.as_str(), Form::Csv),
        (json, Form::Json),
        (lines, Form::JsonLines),
    ] {
        assert_eq!(all(text.as_bytes(), form), expected, "{form:?}");
    }
    assert_eq!(Form::of("a/b.JSON"), Form::Json);
    assert_eq!(Form::of("devices.jsonl"), Form::JsonLines);
    assert_eq!(Form::of("devices.txt"), Form::Csv);
}

#[test]
fn a_bad_row_is_refused_alone() {
    let long = "x".repeat(300);
    let rows = [
        ("SN-1,acme,g", None),
        (",acme,g", Some("bootstrap.import-value")),
        ("SN\u{7},acme,g", Some("bootstrap.import-value")),
        (long.as_str(), Some("bootstrap.import-row")),
        ("SN-2,acme", Some("bootstrap.import-row")),
        ("SN-3,acme,g,more", Some("bootstrap.import-row")),
        ("SN-4,../acme,g", Some("bootstrap.import-value")),
        ("SN-5,acme,a b", Some("bootstrap.import-value")),
        ("SN-6,acme,", None),
    ];
    let mut text = "serial,vendor,group\n".to_owned();
    for (row, _) in rows {
        text.push_str(row);
        text.push('\n');
    }
    let (found, error) = all(text.as_bytes(), Form::Csv);
    assert_eq!(error, None);
    let codes: Vec<Option<&str>> = found
        .iter()
        .map(|row| row.as_ref().err().map(|refused| refused.code))
        .collect();
    assert_eq!(codes, rows.map(|(_, code)| code));

    let json = format!(
        "[{{\"serial\":\"a\"}}, 7, {{\"serial\":7}}, {{}}, {{\"serial\":\"b\",\"colour\":1}}, \
         {{\"serial\":\"c\",\"alias-of\":\"c\"}}, {{\"serial\":\"d\",\"variables\":{{\"a-b\":1}}}}, \
         {{\"serial\":\"e\",\"variables\":{{\"a\":\"{}\"}}}}]",
        "x".repeat(300_000)
    );
    let (found, error) = all(json.as_bytes(), Form::Json);
    assert_eq!(error, None);
    assert_eq!(found.len(), 8);
    assert_eq!(found.iter().filter(|row| row.is_ok()).count(), 1);
}

#[test]
fn what_is_no_table_is_refused_whole() {
    let endless = format!("serial\n\"{}", "x".repeat(2 * 1024 * 1024));
    let deep = format!(
        "[{{\"serial\":\"a\",\"variables\":{}",
        "{\"a\":".repeat(5000)
    );
    let cases = [
        ("", Form::Csv, "serial"),
        ("name,vendor\nx,y\n", Form::Csv, "there is no column"),
        ("serial,serial\nx,y\n", Form::Csv, "two columns"),
        ("vendor\nx\n", Form::Csv, "no column is named serial"),
        (endless.as_str(), Form::Csv, "stray quotation mark"),
        ("{}", Form::Json, "an array of devices"),
        ("[{\"serial\":\"a\"}", Form::Json, "EOF"),
        ("[] []", Form::Json, "trailing"),
        (deep.as_str(), Form::Json, "recursion"),
    ];
    for (text, form, expected) in cases {
        let (_, error) = all(text.as_bytes(), form);
        let refused = error.unwrap_or_else(|| panic!("{expected}"));
        assert_eq!(refused.code, "bootstrap.import-file");
        assert!(
            refused.detail.contains(expected),
            "{expected}: {}",
            refused.detail
        );
    }
    let (rows, _) = all(b"serial\n\xff\xfe\nSN-1\n", Form::Csv);
    assert!(rows[0].is_err());
    assert!(rows[1].is_ok());
}

proptest! {
    #[test]
    fn no_text_makes_it_panic(text in proptest::collection::vec(any::<u8>(), 0..600)) {
        for form in [Form::Csv, Form::Json, Form::JsonLines] {
            let _ = all(&text, form);
        }
        let with_header = [b"serial,vendor,var.a\n".as_slice(), &text].concat();
        let _ = all(&with_header, Form::Csv);
    }

    #[test]
    fn what_is_written_is_read(
        serials in proptest::collection::vec("[ -~]{1,40}", 1..20),
        value in "[ -~]{0,40}",
    ) {
        let mut writer = csv::Writer::from_writer(Vec::new());
        writer.write_record(["serial", "site", "var.a"]).unwrap();
        let mut expected = Vec::new();
        for serial in &serials {
            let serial = serial.trim();
            // An empty one is refused, and one that begins with # is a comment.
            if serial.is_empty() || serial.starts_with('#') {
                continue;
            }
            writer.write_record([serial, value.trim(), value.trim()]).unwrap();
            expected.push(serial.to_owned());
        }
        let text = writer.into_inner().unwrap();
        let (rows, error) = all(&text, Form::Csv);
        prop_assert_eq!(error, None);
        let found: Vec<String> = rows.into_iter().map(|row| row.unwrap().serial).collect();
        prop_assert_eq!(found, expected);
    }
}
