//! What the device says of itself at the end: SSH host keys and certificate chains.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use pki::{Certificate, pkcs7};
use sztp::message::SshHostKey;

use crate::Error;

/// A line of an OpenSSH public key file.
///
/// SZTP-8572-7.3-20: the algorithm is a name of IANA's registry, and the key data is the blob of
/// RFC 4253 §6.6, which begins with the name of its format.
///
/// # Errors
/// [`Error::Config`] if it is not one.
pub fn host_key(line: &str) -> Result<SshHostKey, Error> {
    let refuse = |why: &str| Error::Config(format!("this is no SSH public key: {why}"));
    let mut words = line.split_whitespace();
    let (Some(algorithm), Some(blob)) = (words.next(), words.next()) else {
        return Err(refuse("algorithm and key are wanted"));
    };
    let key_data = STANDARD
        .decode(blob)
        .map_err(|error| refuse(&error.to_string()))?;
    let format = key_data
        .split_first_chunk::<4>()
        .and_then(|(length, rest)| rest.get(..u32::from_be_bytes(*length) as usize));
    if format != Some(algorithm.as_bytes()) {
        return Err(refuse("the key is of another algorithm than its line says"));
    }
    Ok(SshHostKey {
        algorithm: algorithm.to_owned(),
        key_data,
    })
}

/// A chain as a `trust-anchor-cert`.
///
/// SZTP-8572-7.3-21: "The CMS MUST contain only a single chain of certificates", it "MUST include
/// a self-signed root certificate", and its last certificate issued the device's certificate.
///
/// # Errors
/// [`Error::Config`] if the certificates are not such a chain.
pub fn trust_anchor_cert(chain: &[Certificate]) -> Result<Vec<u8>, Error> {
    let cms = pkcs7::certs_only(chain)?;
    sztp::agent::TrustAnchor::parse(&cms, None, &artifacts::Tolerances::strict())
        .map_err(|failure| Error::Config(format!("not a single chain with its root: {failure}")))?;
    Ok(cms)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Requirements: SZTP-8572-7.3-20
    #[test]
    fn only_a_key_that_is_what_its_line_says() {
        let blob = |name: &[u8]| {
            let length = u32::try_from(name.len()).unwrap().to_be_bytes();
            STANDARD.encode([length.as_slice(), name, b"\0\0\0\x01x"].concat())
        };
        let good = format!("ssh-ed25519 {} root@switch", blob(b"ssh-ed25519"));
        let key = host_key(&good).unwrap();
        assert_eq!(key.algorithm, "ssh-ed25519");
        assert!(key.key_data.starts_with(b"\0\0\0\x0bssh-ed25519"));
        for bad in [
            String::new(),
            "ssh-ed25519".to_owned(),
            "ssh-ed25519 !!!".to_owned(),
            "ssh-ed25519 AAAA".to_owned(),
            format!("ssh-rsa {}", blob(b"ssh-ed25519")),
        ] {
            assert!(host_key(&bad).is_err(), "{bad}");
        }
    }
}
