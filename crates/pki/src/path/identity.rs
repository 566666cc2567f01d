//! Server names by [RFC 9525]: DNS-ID and IP-ID of the subjectAltName, never the common name.
//!
//! [RFC 9525]: https://www.rfc-editor.org/rfc/rfc9525.html

use super::ServerName;
use super::name::GeneralName;
use super::view::View;

/// Whether the certificate proves the name.
pub(super) fn proves(view: &View<'_>, name: &ServerName) -> bool {
    let names = view
        .subject_alt_name
        .as_ref()
        .map_or(&[][..], |names| &names.value);
    match name {
        ServerName::Dns(expected) => {
            // A name from a configuration may be written as absolute.
            let expected = expected.strip_suffix('.').unwrap_or(expected);
            is_dns_name(expected)
                && names.iter().any(|presented| match presented {
                    GeneralName::Dns(presented) => dns_matches(presented, expected),
                    _ => false,
                })
        }
        ServerName::Ip(expected) => {
            let octets = match expected {
                std::net::IpAddr::V4(address) => address.octets().to_vec(),
                std::net::IpAddr::V6(address) => address.octets().to_vec(),
            };
            names
                .iter()
                .any(|presented| *presented == GeneralName::Ip(&octets))
        }
    }
}

/// RFC 9525 §6.3: the wildcard is the complete left-most label and stands for one label. Below a
/// single label (`*.com`) it is refused: no one owner can speak for all of those names.
fn dns_matches(presented: &str, expected: &str) -> bool {
    match presented.strip_prefix("*.") {
        Some(parent) => {
            is_dns_name(parent)
                && parent.contains('.')
                && expected
                    .split_once('.')
                    .is_some_and(|(_, expected_parent)| {
                        parent.eq_ignore_ascii_case(expected_parent)
                    })
        }
        None => is_dns_name(presented) && presented.eq_ignore_ascii_case(expected),
    }
}

/// The preferred name syntax of RFC 1034 §3.5 as RFC 1123 §2.1 amends it: letters, digits and
/// hyphens; the last label is not a number, so that an IP address is not a name.
pub(crate) fn is_dns_name(name: &str) -> bool {
    let label = |label: &str| {
        !label.is_empty()
            && label.len() <= 63
            && !label.starts_with('-')
            && !label.ends_with('-')
            && label
                .bytes()
                .all(|octet| octet.is_ascii_alphanumeric() || octet == b'-')
    };
    let last_is_number = name
        .rsplit('.')
        .next()
        .is_some_and(|last| last.bytes().all(|octet| octet.is_ascii_digit()));
    name.len() <= 253 && name.split('.').all(label) && !last_is_number
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn presented_and_expected_dns_names() {
        let cases = [
            ("example.com", "example.com", true),
            ("EXAMPLE.com", "example.COM", true),
            ("example.com", "www.example.com", false),
            ("*.example.com", "www.example.com", true),
            ("*.example.com", "example.com", false),
            ("*.example.com", "a.b.example.com", false),
            ("w*.example.com", "www.example.com", false),
            ("www.*.com", "www.example.com", false),
            ("*", "localhost", false),
            ("*.com", "example.com", false),
            ("foo_bar.example.com", "foo_bar.example.com", false),
            ("192.0.2.1", "192.0.2.1", false),
            ("example.com.", "example.com", false),
            ("-a.example", "-a.example", false),
        ];
        for (presented, expected, matches) in cases {
            assert_eq!(
                dns_matches(presented, expected),
                matches,
                "{presented} for {expected}"
            );
        }
    }

    #[test]
    fn dns_name_syntax() {
        assert!(is_dns_name("localhost"));
        assert!(is_dns_name("xn--bcher-kva.example"));
        for bad in [
            "",
            ".",
            "a..b",
            "a b",
            "8.8.8.8",
            "a_b",
            "*.a",
            &"a".repeat(64),
        ] {
            assert!(!is_dns_name(bad), "{bad:?}");
        }
    }
}
