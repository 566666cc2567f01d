//! Profiles of the operator's own, in a folder.

use std::path::Path;

use bootstrap::profile::{GENERIC, Listener, Profiles, Quirk, Signing};
use pki::Coded as _;

fn write(folder: &Path, name: &str, text: &str) {
    std::fs::write(folder.join(name), text).unwrap();
}

fn load(files: &[(&str, &str)]) -> Result<Profiles, bootstrap::profile::ProfileError> {
    let folder = tempfile::tempdir().unwrap();
    for (name, text) in files {
        write(folder.path(), name, text);
    }
    Profiles::load(Some(folder.path()))
}

#[test]
fn one_file_extends_another_whatever_their_order() {
    let profiles = load(&[
        (
            "a.toml",
            "name = \"leaf\"\nextends = \"middle\"\ndisable = [\"explicit-port\"]\n",
        ),
        (
            "b.toml",
            "name = \"middle\"\nextends = \"opi-agent\"\nenable = [\"unsigned\"]\n",
        ),
        (
            "c.toml",
            "name = \"cisco-ios-xe\"\nextends = \"cisco-ios-xe\"\nlistener = \"device\"\n",
        ),
        ("not-a-profile.txt", "whatever"),
    ])
    .unwrap();
    let leaf = profiles.named("leaf").unwrap();
    assert!(leaf.has(Quirk::Unsigned) && leaf.has(Quirk::OmitOsNames));
    assert!(!leaf.has(Quirk::ExplicitPort) && !leaf.has(Quirk::EmptyNonce));
    assert_eq!(leaf.signing(), Signing::Never);
    // What comes with the program is as it was.
    assert!(!profiles.named("opi-agent").unwrap().has(Quirk::Unsigned));
    // A file takes the place of the profile whose name it has, and keeps what it does not say.
    let cisco = profiles.named("cisco-ios-xe").unwrap();
    assert_eq!(cisco.listener, Listener::Device);
    assert!(cisco.has(Quirk::AlwaysSigned) && cisco.file.is_some());
}

#[test]
fn the_next_in_the_row_serves_a_type_without_a_profile() {
    let profiles = Profiles::load(None).unwrap();
    let chosen = |own, vendor| profiles.choose(own, vendor).name.clone();
    assert_eq!(chosen(Some("juniper"), Some("arista")), "juniper");
    assert_eq!(chosen(Some("spine"), Some("arista")), "arista");
    assert_eq!(chosen(Some("spine"), Some("nobody")), GENERIC);
    assert_eq!(chosen(None, None), GENERIC);
    assert!(Profiles::load(Some(Path::new("/nonexistent/folder"))).is_ok());
}

#[test]
fn what_cannot_be_meant_is_refused_with_its_reason() {
    let quirk = |name: &str| format!("[quirks.{name}]\non = true\nreason = \"a test\"\n");
    let cases: &[(&str, &[(&str, String)])] = &[
        ("comes back to it", &[
            ("a.toml", "name = \"a\"\nextends = \"b\"\n".to_owned()),
            ("b.toml", "name = \"b\"\nextends = \"a\"\n".to_owned()),
        ]),
        ("there is no profile", &[("a.toml", "name = \"a\"\nextends = \"none\"\n".to_owned())]),
        ("a.toml is named a too", &[
            ("a.toml", "name = \"a\"\n".to_owned()),
            ("b.toml", "name = \"a\"\n".to_owned()),
        ]),
        ("lower-case", &[("a.toml", "name = \"../A\"\n".to_owned())]),
        ("unknown field", &[("a.toml", "name = \"a\"\nquirk = 1\n".to_owned())]),
        ("unknown variant", &[("a.toml", format!("name = \"a\"\n{}", quirk("no-such")))]),
        ("not among the quirks", &[("a.toml", "name = \"a\"\nenable = [\"unsigned\"]\n".to_owned())]),
        ("set twice", &[(
            "a.toml",
            "name = \"a\"\nextends = \"opi-agent\"\nenable = [\"unsigned\"]\ndisable = [\"unsigned\"]\n"
                .to_owned(),
        )]),
        ("both on", &[(
            "a.toml",
            format!("name = \"a\"\n{}{}", quirk("unsigned"), quirk("always-signed")),
        )]),
        ("both on", &[(
            "a.toml",
            "name = \"a\"\nextends = \"opi-agent\"\nenable = [\"positional-image-verification\"]\n"
                .to_owned(),
        )]),
        ("gives no reason", &[(
            "a.toml",
            "name = \"a\"\n[quirks.unsigned]\non = true\nreason = \" \"\n".to_owned(),
        )]),
        ("inner_encoding is not xml", &[(
            "a.toml",
            format!("name = \"a\"\ninner_encoding = \"json\"\n{}", quirk("wrapped-conveyed-information")),
        )]),
        ("larger than", &[("a.toml", format!("name = \"a\"\n#{}", "x".repeat(70_000)))]),
    ];
    for (reason, files) in cases {
        let files: Vec<(&str, &str)> = files.iter().map(|(n, t)| (*n, t.as_str())).collect();
        let error = load(&files).unwrap_err();
        assert!(error.to_string().contains(reason), "{reason}: {error}");
        assert!(["profile.malformed", "profile.unknown"].contains(&error.code()));
    }
}

/// The page that people read names all that there is.
#[test]
fn the_page_names_every_profile_and_every_quirk() {
    let page = std::fs::read_to_string("../../docs/profiles.md").unwrap();
    for profile in Profiles::default().iter() {
        assert!(
            page.contains(&format!("### `{}`", profile.name)),
            "{}",
            profile.name
        );
        for (quirk, setting) in &profile.quirks {
            let on = if setting.on { "on" } else { "off" };
            let row = format!("| `{quirk}` | {on} | {} |", setting.reason);
            assert!(page.contains(&row), "{}: {row}", profile.name);
        }
    }
    for quirk in Quirk::ALL {
        let row = format!(
            "| `{quirk}` | {} | {} |",
            quirk.meaning(),
            quirk.breaks().unwrap_or("")
        );
        assert!(page.contains(&row), "{row}");
    }
}
