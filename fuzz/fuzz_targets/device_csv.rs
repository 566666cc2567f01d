//! Device files: the first octet says whether CSV, JSON or JSON lines.
#![no_main]
use bootstrap::register::rows;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let Some((first, rest)) = bytes.split_first() else {
        return;
    };
    let form = match first % 3 {
        0 => rows::Form::Csv,
        1 => rows::Form::Json,
        _ => rows::Form::JsonLines,
    };
    let result = rows::read(rest, form, &mut |row| {
        match row {
            Ok(row) => {
                assert!(rows::is_serial(&row.serial));
                assert!(row.group.as_deref().is_none_or(rows::is_name));
                assert!(row.variables.len() <= rows::VARIABLES_MAX);
            }
            Err(refused) => assert!(refused.code.starts_with("bootstrap.import-")),
        }
        true
    });
    if let Err(refused) = result {
        assert_eq!(refused.code, "bootstrap.import-file");
    }
});
