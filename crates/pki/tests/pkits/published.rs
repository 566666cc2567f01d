//! The published examples: the certificates that BRSKI implementers test with, as they are.

use std::path::Path;

use pki::path::{Anchors, PathOptions, Purpose, validate};
use pki::{Certificate, Coded as _};
use time::OffsetDateTime;
use time::macros::datetime;

fn load(file: &str) -> Certificate {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/published");
    Certificate::load(folder.join(file)).unwrap()
}

fn answer(leaf: &str, anchor: &str, purpose: Purpose, at: OffsetDateTime, strict: bool) -> String {
    let options = PathOptions {
        strict_profile: strict,
        ..PathOptions::new(purpose, at)
    };
    match validate(&load(leaf), &[], &Anchors::from(load(anchor)), &options) {
        Ok(path) => format!("valid {}", path.certificates().len()),
        Err(error) => error.code().to_owned(),
    }
}

/// Requirements: X509-4.2.1.12-01, X509-4.1.2.5-01
#[test]
fn rfc_8995_appendix_c() {
    let check = |leaf: &str, anchor: &str, purpose, at| {
        let file = |name: &str| format!("rfc8995/{name}");
        answer(&file(leaf), &file(anchor), purpose, at, false)
    };
    let (owner, registrar) = ("ownerca_secp384r1.crt", "jrc_prime256v1.crt");
    let (vendor, masa, idevid) = ("vendor.crt", "masa.crt", "idevid_00-D0-E5-F2-00-02.crt");
    let at = datetime!(2021-06-01 0:00 UTC);
    assert_eq!(check(registrar, owner, Purpose::Registrar, at), "valid 2");
    // A critical extendedKeyUsage of only cmcRA serves no TLS by RFC 5280.
    assert_eq!(check(registrar, owner, Purpose::Server, at), "path.eku");
    assert_eq!(
        check(registrar, registrar, Purpose::Registrar, at),
        "valid 1"
    );
    assert_eq!(
        check(registrar, vendor, Purpose::Registrar, at),
        "path.unknown-issuer"
    );
    assert_eq!(
        check(
            registrar,
            owner,
            Purpose::Registrar,
            datetime!(2026-06-01 0:00 UTC)
        ),
        "path.expired"
    );
    assert_eq!(check(masa, vendor, Purpose::Masa, at), "valid 2");
    assert_eq!(check(masa, vendor, Purpose::Registrar, at), "path.eku");
    // The IDevID ends in the year 2999 and carries no purpose.
    assert_eq!(check(idevid, vendor, Purpose::Idevid, at), "valid 2");
    assert_eq!(check(idevid, idevid, Purpose::Idevid, at), "valid 1");
    assert_eq!(
        check(idevid, owner, Purpose::Idevid, at),
        "path.unknown-issuer"
    );
    let later = datetime!(2026-06-01 0:00 UTC);
    assert_eq!(
        check(idevid, vendor, Purpose::Idevid, later),
        "path.expired"
    );
    assert_eq!(check(idevid, idevid, Purpose::Idevid, later), "valid 1");
    let strict = answer(
        "rfc8995/jrc_prime256v1.crt",
        "rfc8995/ownerca_secp384r1.crt",
        Purpose::Registrar,
        at,
        true,
    );
    assert_eq!(strict, "path.key-identifier");
}

#[test]
fn the_jws_voucher_draft() {
    let at = datetime!(2024-12-01 0:00 UTC);
    let check = |leaf: &str, anchor: &str, purpose| {
        answer(
            &format!("jws-voucher/{leaf}"),
            &format!("jws-voucher/{anchor}"),
            purpose,
            at,
            false,
        )
    };
    assert_eq!(
        check("8.1-pvr-1.crt", "8.1-pvr-2.crt", Purpose::Idevid),
        "valid 2"
    );
    assert_eq!(
        check("8.2-rvr-1.crt", "8.2-rvr-2.crt", Purpose::Registrar),
        "valid 2"
    );
    assert_eq!(
        check("8.3-voucher-1.crt", "8.3-voucher-2.crt", Purpose::Masa),
        "valid 2"
    );
    assert_eq!(
        check("8.1-pvr-1.crt", "8.2-rvr-2.crt", Purpose::Idevid),
        "path.unknown-issuer"
    );
    assert_eq!(
        check("8.1-pvr-1.crt", "8.1-pvr-2.crt", Purpose::Registrar),
        "path.eku"
    );
}
