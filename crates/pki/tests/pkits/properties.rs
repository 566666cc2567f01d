//! Properties: validation is total, no altered certificate is believed, and nobody's order or company
//! changes an answer.

use std::sync::OnceLock;

use pki::path::{Anchors, PathOptions, Purpose, validate};
use pki::{Certificate, Coded as _};
use proptest::prelude::*;
use time::macros::datetime;

use crate::forge::{Authority, Spec, dns};

struct World {
    root: Authority,
    chain: Vec<Authority>,
    leaf: Authority,
}

fn world() -> &'static World {
    static WORLD: OnceLock<World> = OnceLock::new();
    WORLD.get_or_init(|| {
        let root = Spec::ca("Root").root();
        let first = Spec::ca("First")
            .constrained(&[dns("example")], &[])
            .under(&root);
        let second = Spec::ca("Second").policies(&["2.5.29.32.0"]).under(&first);
        let leaf = Spec::leaf("Leaf")
            .digital_signature()
            .dns_name("a.example")
            .under(&second);
        World {
            root,
            chain: vec![first, second],
            leaf,
        }
    })
}

fn options() -> PathOptions {
    PathOptions::new(Purpose::Server, datetime!(2026-06-01 12:00 UTC)).with_dns_name("a.example")
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 600, ..ProptestConfig::default() })]

    /// A flipped bit anywhere below the anchor is never believed, and never a panic.
    #[test]
    fn a_flipped_bit_is_not_believed(which in 0_usize..3, place in any::<prop::sample::Index>(), bit in 0_u8..8) {
        let world = world();
        let mut all: Vec<Certificate> = world.chain.iter().map(|ca| ca.certificate.clone()).collect();
        all.push(world.leaf.certificate.clone());
        let mut der = all[which].der().to_vec();
        let place = place.index(der.len());
        der[place] ^= 1 << bit;
        if let Ok(altered) = Certificate::from_der(&der) {
            all[which] = altered;
            let leaf = all.pop().unwrap();
            let anchors = Anchors::from(world.root.certificate.clone());
            let answer = validate(&leaf, &all, &anchors, &options());
            prop_assert!(answer.is_err());
        }
    }

    /// The answer does not depend on the order of the others, on copies or on strangers.
    #[test]
    fn order_and_company_do_not_matter(order in Just(vec![0_usize, 1, 2, 3, 0, 1]).prop_shuffle(), complete in any::<bool>()) {
        let world = world();
        let pool = [&world.chain[0], &world.chain[1], &world.root, &world.leaf];
        let others: Vec<Certificate> = order
            .iter()
            .filter(|&&index| complete || index != 1)
            .map(|&index| pool[index].certificate.clone())
            .collect();
        let anchors = Anchors::from(world.root.certificate.clone());
        let answer = validate(&world.leaf.certificate, &others, &anchors, &options());
        match answer {
            Ok(path) => {
                prop_assert!(complete);
                prop_assert_eq!(path.certificates().len(), 4);
            }
            Err(error) => {
                prop_assert!(!complete);
                prop_assert_eq!(error.code(), "path.unknown-issuer");
            }
        }
    }

    /// Arbitrary extension contents are refused or taken, never a panic.
    #[test]
    fn arbitrary_extensions_are_survived(id in prop::sample::select(vec![14_u8, 15, 17, 18, 19, 30, 31, 32, 33, 35, 36, 37, 46, 54]), value in prop::collection::vec(any::<u8>(), 0..40), wrap in any::<bool>()) {
        let value = if wrap { crate::forge::tlv(0x30, &value) } else { value };
        let spec = Spec::leaf("Leaf").with(|spec| {
            spec.authority_key_id = false;
            spec.subject_key_id = false;
            spec.key = Some(world().leaf.key.clone());
        });
        let (der, _) = spec.extension(&format!("2.5.29.{id}"), true, value).encode(Some(&world().root));
        if let Ok(leaf) = Certificate::from_der(&der) {
            let anchors = Anchors::from(world().root.certificate.clone());
            let strict = PathOptions { strict_profile: true, ..options() };
            let _ = validate(&leaf, &[], &anchors, &strict);
            let _ = validate(&leaf, &[], &anchors, &options());
        }
    }
}
