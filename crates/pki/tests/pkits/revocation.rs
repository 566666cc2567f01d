//! CRLs: who may sign them, what they cover, and which of them count.

use pki::path::{PathOptions, Purpose, Revocation};

use crate::forge::{CrlSpec, Spec, seq, tlv};
use crate::rules::{code, options};

/// Requirements: BRSKI-5.5.3-02
#[test]
fn revocation() {
    let root = Spec::ca("Root").root();
    let intermediate = Spec::ca("I")
        .with(|spec| spec.serial = vec![7])
        .under(&root);
    let leaf = Spec::leaf("L").under(&intermediate);
    let with = |crls: Vec<pki::Crl>, revocation| PathOptions {
        crls,
        revocation,
        ..options(Purpose::Any)
    };
    let check = |crls, revocation| code(&leaf, &[&intermediate], &root, &with(crls, revocation));
    let clean = || {
        vec![
            CrlSpec::new().sign(&root),
            CrlSpec::new().sign(&intermediate),
        ]
    };
    let one = |crl: pki::Crl| vec![CrlSpec::new().sign(&root), crl];
    use Revocation::{BestEffort, Required};
    assert_eq!(check(clean(), Required), "valid");
    assert_eq!(check(vec![], Required), "path.crl-missing");
    assert_eq!(check(vec![], BestEffort), "valid");
    assert_eq!(
        check(vec![CrlSpec::new().sign(&root)], Required),
        "path.crl-missing"
    );
    assert_eq!(check(vec![CrlSpec::new().sign(&root)], BestEffort), "valid");
    let revoked = || CrlSpec::new().revoke(&leaf.certificate);
    for mode in [Required, BestEffort] {
        assert_eq!(
            check(one(revoked().sign(&intermediate)), mode),
            "path.revoked"
        );
        let ca = CrlSpec::new().revoke(&intermediate.certificate).sign(&root);
        assert_eq!(
            check(vec![ca, CrlSpec::new().sign(&intermediate)], mode),
            "path.revoked"
        );
        // What a stale CRL lists stays revoked.
        let stale = revoked().until("20260201000000Z").sign(&intermediate);
        assert_eq!(check(one(stale), mode), "path.revoked");
    }
    let stale = || CrlSpec::new().until("20260201000000Z").sign(&intermediate);
    assert_eq!(check(one(stale()), Required), "path.crl-expired");
    assert_eq!(check(one(stale()), BestEffort), "valid");
    let namesake = Spec::ca("I").root();
    assert_eq!(check(one(revoked().sign(&namesake)), BestEffort), "valid");
    assert_eq!(
        check(one(CrlSpec::new().sign(&namesake)), Required),
        "path.crl-invalid"
    );
    let unknown = CrlSpec::new()
        .extension("1.3.6.1.4.1.99999.1", true, &[5, 0])
        .sign(&intermediate);
    assert_eq!(check(one(unknown), Required), "path.crl-invalid");
    for number in [None, Some((true, 1))] {
        let crl = || {
            let mut spec = CrlSpec::new();
            spec.number = number;
            one(spec.sign(&intermediate))
        };
        assert_eq!(check(crl(), Required), "valid");
        let strict = PathOptions {
            strict_profile: true,
            ..with(crl(), Required)
        };
        assert_eq!(
            code(&leaf, &[&intermediate], &root, &strict),
            "path.crl-invalid"
        );
    }
    let version_1 = |spec: CrlSpec| one(spec.with_version(None).sign(&intermediate));
    let bare = || {
        let mut spec = CrlSpec::new();
        spec.number = None;
        spec
    };
    assert_eq!(check(version_1(bare()), Required), "valid");
    assert_eq!(
        check(version_1(bare().revoke(&leaf.certificate)), Required),
        "path.revoked"
    );
    assert_eq!(
        check(version_1(CrlSpec::new()), Required),
        "path.crl-missing"
    );
    let point = |content: Vec<u8>| {
        one(CrlSpec::new()
            .extension("2.5.29.28", true, &content)
            .sign(&intermediate))
    };
    assert_eq!(check(point(seq(&[tlv(0x81, &[0xff])])), Required), "valid");
    assert_eq!(
        check(point(seq(&[tlv(0x82, &[0xff])])), Required),
        "path.crl-missing"
    );
    assert_eq!(check(point(seq(&[])), Required), "path.crl-missing");
    // The later issue counts, in whatever order they are given; without numbers each entry does.
    let earlier = || CrlSpec::new().with_number(4);
    let later = || CrlSpec::new().with_number(5);
    let (first, second) = (
        earlier().sign(&intermediate),
        later().revoke(&leaf.certificate).sign(&intermediate),
    );
    let held = (
        earlier().revoke(&leaf.certificate).sign(&intermediate),
        later().sign(&intermediate),
    );
    let clean_root = || CrlSpec::new().sign(&root);
    for mode in [Required, BestEffort] {
        assert_eq!(
            check(vec![clean_root(), first.clone(), second.clone()], mode),
            "path.revoked"
        );
        assert_eq!(
            check(vec![clean_root(), second.clone(), first.clone()], mode),
            "path.revoked"
        );
        assert_eq!(
            check(vec![clean_root(), held.0.clone(), held.1.clone()], mode),
            "valid"
        );
        assert_eq!(
            check(vec![clean_root(), held.1.clone(), held.0.clone()], mode),
            "valid"
        );
    }
    // A number alone supersedes nothing: the signature must be the issuer's.
    let forged = CrlSpec::new().with_number(9).sign(&namesake);
    let crls = || vec![clean_root(), revoked().sign(&intermediate), forged.clone()];
    assert_eq!(check(crls(), Required), "path.revoked");
    // Another certificate's serial number.
    let other = CrlSpec::new()
        .revoke(&intermediate.certificate)
        .sign(&intermediate);
    assert_eq!(check(one(other), Required), "valid");
}

#[test]
fn a_crl_signer_needs_the_right_and_a_path() {
    let root = Spec::ca("Root").root();
    let no_right = Spec::ca("I").key_usage(0x04, 2).under(&root);
    let leaf = Spec::leaf("L").under(&no_right);
    let crls = vec![CrlSpec::new().sign(&root), CrlSpec::new().sign(&no_right)];
    let required = PathOptions {
        crls,
        revocation: Revocation::Required,
        ..options(Purpose::Any)
    };
    assert_eq!(
        code(&leaf, &[&no_right], &root, &required),
        "path.crl-invalid"
    );
    // The same CA name with a key for CRLs, below the same root.
    let signer = Spec::leaf("I")
        .with(|spec| spec.serial = vec![5])
        .key_usage(0x02, 1)
        .under(&root);
    let crls = vec![CrlSpec::new().sign(&root), CrlSpec::new().sign(&signer)];
    let required = PathOptions {
        crls: crls.clone(),
        ..required
    };
    assert_eq!(
        code(&leaf, &[&no_right, &signer], &root, &required),
        "valid"
    );
    assert_eq!(
        code(&leaf, &[&no_right], &root, &required),
        "path.crl-invalid"
    );
    // Once the signer itself is revoked, what it signs counts for nothing.
    let revoked = CrlSpec::new()
        .with_number(2)
        .revoke(&signer.certificate)
        .sign(&root);
    let mut spec = required.clone();
    spec.crls = vec![revoked, CrlSpec::new().sign(&signer)];
    assert_eq!(
        code(&leaf, &[&no_right, &signer], &root, &spec),
        "path.crl-invalid"
    );
}
