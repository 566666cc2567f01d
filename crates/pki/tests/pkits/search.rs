//! The search for a path: it finds another one when one fails, and it ends.

use pki::path::{PathLimits, PathOptions, Purpose};

use crate::forge::{Authority, Spec, dns};
use crate::rules::{code, options};

/// Many CAs of one name and many keys: every one could be the issuer, none is.
#[test]
fn hostile_heaps_end() {
    let any = options(Purpose::Any);
    let root = Spec::ca("Root").root();
    let mut heap: Vec<Authority> = Vec::new();
    for _ in 0..60 {
        let maker = heap
            .last()
            .cloned()
            .unwrap_or_else(|| Spec::ca("Same").root());
        heap.push(
            Spec::ca("Same")
                .with(|spec| spec.authority_key_id = false)
                .under(&maker),
        );
    }
    let leaf = Spec::leaf("L")
        .with(|spec| spec.authority_key_id = false)
        .under(&heap[59]);
    let others: Vec<&Authority> = heap.iter().collect();
    assert_eq!(code(&leaf, &others, &root, &any), "path.too-complex");
    let few = PathOptions {
        limits: PathLimits {
            certificates_max: 10,
            ..PathLimits::default()
        },
        ..any.clone()
    };
    assert_eq!(code(&leaf, &others, &root, &few), "path.too-complex");

    let names: Vec<Vec<u8>> = (0..400).map(|n| dns(&format!("n{n}.example"))).collect();
    let bases: Vec<Vec<u8>> = (0..400).map(|n| dns(&format!("x{n}.example"))).collect();
    let ca = Spec::ca("I").constrained(&[], &bases).under(&root);
    let leaf = Spec::leaf("L").alt_names(&names).under(&ca);
    assert_eq!(code(&leaf, &[&ca], &root, &any), "path.too-complex");
}

#[test]
fn long_paths_end() {
    let root = Spec::ca("Root").root();
    let mut chain = vec![Spec::ca("CA 0").under(&root)];
    for n in 1..9 {
        let next = Spec::ca(&format!("CA {n}")).under(chain.last().unwrap());
        chain.push(next);
    }
    let any = options(Purpose::Any);
    let at = |depth: usize| {
        let leaf = Spec::leaf("L").under(&chain[depth]);
        let others: Vec<&Authority> = chain.iter().collect();
        code(&leaf, &others, &root, &any)
    };
    assert_eq!(at(7), "valid");
    assert_eq!(at(8), "path.path-length");
}

/// Two CAs that certify each other, and a leaf below them.
#[test]
fn cycles_end() {
    let any = options(Purpose::Any);
    let root = Spec::ca("Root").root();
    let a = Spec::ca("A").root();
    let b = Spec::ca("B").under(&a);
    let a_by_b = Spec::ca("A")
        .with(|spec| spec.key = Some(a.key.clone()))
        .under(&b);
    let leaf = Spec::leaf("L").under(&a);
    assert_eq!(
        code(&leaf, &[&a, &b, &a_by_b], &root, &any),
        "path.unknown-issuer"
    );
    // With one of them under the root there is a way out.
    let a_by_root = Spec::ca("A")
        .with(|spec| spec.key = Some(a.key.clone()))
        .under(&root);
    assert_eq!(
        code(&leaf, &[&a, &b, &a_by_b, &a_by_root], &root, &any),
        "valid"
    );
}

/// Layers of CAs, each certified by all of the layer above: many paths from few certificates.
#[test]
fn meshes_end() {
    let any = options(Purpose::Any);
    let root = Spec::ca("Root").root();
    let expired = Spec::ca("Top").until("20260101000000Z").under(&root);
    let mut layer = vec![expired];
    let mut all = layer.clone();
    for depth in 0..7 {
        let mut next: Vec<Authority> = Vec::new();
        for twin in 0..2 {
            let name = format!("CA {depth}");
            let key = Some(Spec::ca("key").root().key);
            for above in &layer {
                let spec = Spec::ca(&name).with(|spec| {
                    spec.key = key.clone();
                    spec.serial = vec![1, depth, twin];
                });
                next.push(spec.under(above));
            }
        }
        next.truncate(4);
        all.extend(next.iter().cloned());
        layer = next;
    }
    let leaf = Spec::leaf("L").under(&layer[0]);
    let others: Vec<&Authority> = all.iter().collect();
    let started = std::time::Instant::now();
    let answer = code(&leaf, &others, &root, &any);
    assert!(
        ["path.expired", "path.too-complex"].contains(&answer),
        "{answer}"
    );
    assert!(started.elapsed().as_secs() < 5, "{:?}", started.elapsed());
}

/// The first path that is found is not the only one.
#[test]
fn another_path_is_tried_when_one_fails() {
    let any = options(Purpose::Any);
    let root = Spec::ca("Root").root();
    let expired = Spec::ca("I").until("20260101000000Z").under(&root);
    let renewed = Spec::ca("I")
        .with(|spec| spec.key = Some(expired.key.clone()))
        .under(&root);
    let leaf = Spec::leaf("L").under(&expired);
    assert_eq!(code(&leaf, &[&expired, &renewed], &root, &any), "valid");
    assert_eq!(code(&leaf, &[&expired], &root, &any), "path.expired");
}
