//! What a DHCP client left behind: where the option stands in its lease file, in the environment
//! of its script, or in the message itself.

use super::codec::{self, is_v4_message, v4_option, v6_options};
use super::pasted::hexadecimal;
use super::{Error, Family};

/// Largest lease file that is read. Clients append to theirs for months.
pub const LEASE_MAX_BYTES: usize = 4 * 1024 * 1024;

/// Names that lease files and scripts have for the option, the DHCP version being in some.
const NAMES: &[(&str, Family)] = &[
    // ISC dhclient, by number and by the name that its configuration gives.
    ("unknown-143", Family::V4),
    ("dhcp6.unknown-136", Family::V6),
    ("sztp-redirect", Family::V4),
    ("dhcp6.sztp-redirect", Family::V6),
    // udhcpc's environment.
    ("opt143", Family::V4),
    ("opt136", Family::V6),
    // dhcpcd's environment, by the name that its configuration gives; systemd-networkd.
    ("new_sztp_redirect", Family::V4),
    ("new_dhcp6_sztp_redirect", Family::V6),
    ("OPTION_143", Family::V4),
];

/// The data of the options in what a DHCP client left: of a file with many leases the newest.
/// The DHCPv4 option stands before the DHCPv6 one.
///
/// # Errors
///
/// [`Error::InputTooLong`] for a file that is too large, [`Error::Options`] for a broken message.
pub fn lease_options(octets: &[u8]) -> Result<Vec<(Family, Vec<u8>)>, Error> {
    if octets.len() > LEASE_MAX_BYTES {
        return Err(Error::InputTooLong(octets.len()));
    }
    if is_v4_message(octets) {
        let data = v4_option(octets, codec::V4_CODE)?;
        return Ok(data.map(|data| (Family::V4, data)).into_iter().collect());
    }
    if let [2 | 7, _, _, _, options @ ..] = octets
        && let Ok(options) = v6_options(options)
    {
        let data = options.iter().find(|(code, _)| *code == codec::V6_CODE);
        return Ok(data
            .map(|(_, data)| (Family::V6, data.to_vec()))
            .into_iter()
            .collect());
    }
    let mut v4 = None;
    let mut v6 = None;
    for line in octets.split(|octet| *octet == b'\n') {
        // A new lease forgets the one before: an option that is withdrawn is gone.
        let line = line.trim_ascii();
        if line.starts_with(b"lease {") || line.starts_with(b"lease6 {") {
            let slot = if line.starts_with(b"lease6") {
                &mut v6
            } else {
                &mut v4
            };
            *slot = None;
            continue;
        }
        if let Some((family, data)) = std::str::from_utf8(line).ok().and_then(option_in) {
            match family {
                Family::V4 => v4 = Some(data),
                Family::V6 => v6 = Some(data),
            }
        }
    }
    let found = [(Family::V4, v4), (Family::V6, v6)];
    Ok(found
        .into_iter()
        .filter_map(|(family, data)| Some((family, data?)))
        .collect())
}

/// `option NAME VALUE;` of a lease, or `NAME=VALUE` of an environment.
fn option_in(line: &str) -> Option<(Family, Vec<u8>)> {
    let (name, value) = match line.strip_prefix("option ") {
        Some(rest) => rest.split_once(' ')?,
        None => line.split_once('=')?,
    };
    let (_, family) = NAMES.iter().find(|(known, _)| *known == name)?;
    let value = value.trim().trim_end_matches(';').trim();
    let data = if let Some(quoted) = value.strip_prefix('"') {
        octal_text(quoted.strip_suffix('"')?)?
    } else {
        let value = value.trim_matches('\'');
        hexadecimal(value).map(|(_, octets)| octets)?
    };
    Some((*family, data))
}

/// ISC's quoted strings: octets beyond print are a backslash and three octal digits.
fn octal_text(text: &str) -> Option<Vec<u8>> {
    let mut out = Vec::new();
    let mut rest = text.as_bytes();
    while let [first, tail @ ..] = rest {
        rest = tail;
        if *first != b'\\' {
            out.push(*first);
            continue;
        }
        if let Some((digits, tail)) = rest.split_at_checked(3)
            && digits.iter().all(|digit| (b'0'..=b'7').contains(digit))
        {
            let number = digits
                .iter()
                .fold(0_u16, |sum, digit| sum * 8 + u16::from(digit - b'0'));
            out.push(u8::try_from(number).ok()?);
            rest = tail;
        } else if let [next, tail @ ..] = rest {
            out.push(*next);
            rest = tail;
        }
    }
    Some(out)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dhcp::{BootstrapUri, decode_list, encode_v4, encode_v6};

    /// Requirements: SZTP-8572-8.1-03, SZTP-8572-8.2-03
    #[test]
    fn what_clients_leave_behind_is_read() {
        let hex = "000b68747470733a2f2f612e62";
        let isc = "0:b:68:74:74:70:73:3a:2f:2f:61:2e:62";
        let cases = [
            (format!("lease {{\n  option unknown-143 {isc};\n}}\n"), "v4"),
            (
                format!("lease6 {{\n  option dhcp6.unknown-136 {isc};\n}}\n"),
                "v6",
            ),
            (
                "option sztp-redirect \"\\000\\013https://a.b\";".to_owned(),
                "v4",
            ),
            (
                format!("router=10.0.0.1\nopt143={hex}\nip=10.0.0.2\n"),
                "v4",
            ),
            (format!("new_sztp_redirect='{hex}'\n"), "v4"),
            (format!("OPTION_143={hex}\nopt136={hex}\n"), "v4 v6"),
            // The newest lease counts, and it may lack the option.
            (
                format!(
                    "lease {{\n option unknown-143 0:1:2;\n}}\nlease {{\n option unknown-143 {isc};\n}}"
                ),
                "v4",
            ),
            (
                format!("lease {{\n option unknown-143 {isc};\n}}\nlease {{\n}}\n"),
                "",
            ),
            ("opt143=zz\noption host-name \"x\";\n".to_owned(), ""),
            (String::new(), ""),
        ];
        for (text, want) in cases {
            let found = lease_options(text.as_bytes()).unwrap();
            let families: Vec<_> = found.iter().map(|(family, _)| family.name()).collect();
            assert_eq!(families.join(" "), want, "{text}");
            for (_, data) in found {
                assert_eq!(
                    decode_list(&data).usable()[0].to_string(),
                    "https://a.b",
                    "{text}"
                );
            }
        }
    }

    #[test]
    fn messages_themselves_are_read_too() {
        let uri = BootstrapUri::parse("https://a.b").unwrap();
        let mut message = vec![0; 236];
        message.extend_from_slice(&[0x63, 0x82, 0x53, 0x63]);
        message.extend(encode_v4(std::slice::from_ref(&uri)).unwrap());
        assert_eq!(lease_options(&message).unwrap()[0].0, Family::V4);
        message.extend_from_slice(&[9, 200]);
        assert!(lease_options(&message).is_err());
        let mut reply = vec![7, 0, 0, 1];
        reply.extend(encode_v6(&[uri]).unwrap());
        assert_eq!(lease_options(&reply).unwrap()[0].0, Family::V6);
        assert!(lease_options(&vec![b'x'; LEASE_MAX_BYTES + 1]).is_err());
    }
}
