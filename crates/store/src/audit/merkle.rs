//! The Merkle tree of RFC 6962 section 2.1, as pure functions.
//!
//! ```text
//! MTH({})     = SHA-256()
//! MTH({d(0)}) = SHA-256(0x00 || d(0))
//! MTH(D[n])   = SHA-256(0x01 || MTH(D[0:k]) || MTH(D[k:n])), k the largest power of two below n
//! ```

use std::ops::Range;

use aws_lc_rs::digest;

/// A SHA-256 hash of a leaf or a node.
pub type Hash = [u8; 32];

fn sha256(parts: &[&[u8]]) -> Hash {
    let mut context = digest::Context::new(&digest::SHA256);
    for part in parts {
        context.update(part);
    }
    let mut hash = [0; 32];
    // A SHA-256 digest has 32 octets.
    hash.copy_from_slice(context.finish().as_ref());
    hash
}

/// Hash of the tree without leaves.
#[must_use]
pub fn empty_root() -> Hash {
    sha256(&[])
}

/// Hash of a leaf.
#[must_use]
pub fn leaf_hash(entry: &[u8]) -> Hash {
    sha256(&[&[0], entry])
}

/// Hash of an inner node.
#[must_use]
pub fn node_hash(left: &Hash, right: &Hash) -> Hash {
    sha256(&[&[1], left, right])
}

/// A node of a complete subtree: `height` 0 is a leaf, it covers `2^height` leaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Completed {
    /// Height of the subtree.
    pub height: u32,
    /// Position among the subtrees of this height.
    pub index: u64,
    /// Its hash.
    pub hash: Hash,
}

/// The right edge of a growing tree: the roots of its complete subtrees, largest first.
///
/// It is all that is needed to append a leaf and to know the root.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Frontier {
    size: u64,
    peaks: Vec<Hash>,
}

impl Frontier {
    /// The edge of a tree of this size, if the number of peaks fits it.
    #[must_use]
    pub fn from_parts(size: u64, peaks: &[u8]) -> Option<Self> {
        let peaks: Vec<Hash> = peaks
            .chunks(32)
            .map(|c| c.try_into().ok())
            .collect::<Option<_>>()?;
        (u32::try_from(peaks.len()).ok()? == size.count_ones()).then_some(Self { size, peaks })
    }

    /// Number of leaves.
    #[must_use]
    pub const fn size(&self) -> u64 {
        self.size
    }

    /// The peaks, one after the other.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        self.peaks.concat()
    }

    /// Appends a leaf; `completed` hears of each complete subtree that this finishes.
    pub fn push(&mut self, leaf: Hash, mut completed: impl FnMut(Completed)) {
        let mut hash = leaf;
        let mut height = 0;
        let mut index = self.size;
        completed(Completed {
            height,
            index,
            hash,
        });
        while index & 1 == 1 {
            let Some(left) = self.peaks.pop() else { break };
            hash = node_hash(&left, &hash);
            height += 1;
            index >>= 1;
            completed(Completed {
                height,
                index,
                hash,
            });
        }
        self.peaks.push(hash);
        self.size += 1;
    }

    /// The root of the tree.
    #[must_use]
    pub fn root(&self) -> Hash {
        let mut peaks = self.peaks.iter().rev();
        let Some(last) = peaks.next() else {
            return empty_root();
        };
        peaks.fold(*last, |right, left| node_hash(left, &right))
    }
}

/// The largest power of two below `size`; `size` is at least 2.
const fn split(size: u64) -> u64 {
    1 << (63 - (size - 1).leading_zeros())
}

/// The ranges of leaves whose hashes make an inclusion proof, leaf's sibling first
/// ([RFC 6962 §2.1.1](https://www.rfc-editor.org/rfc/rfc6962.html#section-2.1.1)).
///
/// `None` if the tree has no such leaf.
#[must_use]
pub fn inclusion_ranges(index: u64, size: u64) -> Option<Vec<Range<u64>>> {
    if index >= size {
        return None;
    }
    let mut ranges = Vec::new();
    let (mut low, mut high) = (0, size);
    while high - low > 1 {
        let middle = low + split(high - low);
        if index < middle {
            ranges.push(middle..high);
            high = middle;
        } else {
            ranges.push(low..middle);
            low = middle;
        }
    }
    ranges.reverse();
    Some(ranges)
}

/// The ranges of leaves whose hashes make a consistency proof between two sizes
/// ([RFC 6962 §2.1.2](https://www.rfc-editor.org/rfc/rfc6962.html#section-2.1.2)).
///
/// `None` if the old tree is larger than the new one. The empty tree is consistent with
/// everything and needs no hashes.
#[must_use]
pub fn consistency_ranges(old: u64, new: u64) -> Option<Vec<Range<u64>>> {
    if old > new {
        return None;
    }
    let mut ranges = Vec::new();
    if old == 0 || old == new {
        return Some(ranges);
    }
    let (mut low, mut high) = (0, new);
    // SUBPROOF(m, D[n], b): `whole` is b, true while the old tree is a subtree of its own.
    let mut whole = true;
    while old != high {
        let middle = low + split(high - low);
        if old <= middle {
            ranges.push(middle..high);
            high = middle;
        } else {
            ranges.push(low..middle);
            low = middle;
            whole = false;
        }
    }
    if !whole {
        ranges.push(low..high);
    }
    ranges.reverse();
    Some(ranges)
}

/// Splits a range of a tree into complete subtrees `(height, index)`, left to right. The hash of
/// the range is the fold of theirs from the right.
#[must_use]
pub fn subtrees(range: Range<u64>) -> Vec<(u32, u64)> {
    let mut parts = Vec::new();
    let mut low = range.start;
    while low < range.end {
        let left = range.end - low;
        let by_length = 63 - left.leading_zeros();
        let height = if low == 0 {
            by_length
        } else {
            by_length.min(low.trailing_zeros())
        };
        parts.push((height, low >> height));
        low += 1 << height;
    }
    parts
}

/// Folds the hashes of [`subtrees`] into the hash of their range.
#[must_use]
pub fn fold(hashes: &[Hash]) -> Hash {
    let mut hashes = hashes.iter().rev();
    let Some(last) = hashes.next() else {
        return empty_root();
    };
    hashes.fold(*last, |right, left| node_hash(left, &right))
}

/// Root of a complete subtree over a power-of-two number of hashes.
#[must_use]
pub fn complete_root(hashes: &[Hash]) -> Hash {
    let mut frontier = Frontier::default();
    for hash in hashes {
        frontier.push(*hash, |_| {});
    }
    frontier.root()
}

/// Whether an inclusion proof leads from the leaf to the root
/// ([RFC 9162 §2.1.3.2](https://www.rfc-editor.org/rfc/rfc9162.html#section-2.1.3.2)).
#[must_use]
pub fn verify_inclusion(leaf: &Hash, index: u64, size: u64, proof: &[Hash], root: &Hash) -> bool {
    if index >= size {
        return false;
    }
    let (mut node, mut last) = (index, size - 1);
    let mut hash = *leaf;
    for step in proof {
        if last == 0 {
            return false;
        }
        if node & 1 == 1 || node == last {
            hash = node_hash(step, &hash);
            while node & 1 == 0 && node != 0 {
                node >>= 1;
                last >>= 1;
            }
        } else {
            hash = node_hash(&hash, step);
        }
        node >>= 1;
        last >>= 1;
    }
    last == 0 && hash == *root
}

/// Whether a consistency proof leads from the old root to the new one
/// ([RFC 9162 §2.1.4.2](https://www.rfc-editor.org/rfc/rfc9162.html#section-2.1.4.2)).
#[must_use]
pub fn verify_consistency(
    old: u64,
    new: u64,
    proof: &[Hash],
    old_root: &Hash,
    new_root: &Hash,
) -> bool {
    if old > new {
        return false;
    }
    if old == new {
        return proof.is_empty() && old_root == new_root;
    }
    if old == 0 {
        return proof.is_empty() && *old_root == empty_root();
    }
    let mut steps = proof.iter();
    // A complete old tree is its own first node; the proof leaves it out.
    let first = if old.is_power_of_two() {
        Some(old_root)
    } else {
        steps.next()
    };
    let Some(first) = first else { return false };
    let (mut node, mut last) = (old - 1, new - 1);
    while node & 1 == 1 {
        node >>= 1;
        last >>= 1;
    }
    let (mut from, mut to) = (*first, *first);
    for step in steps {
        if last == 0 {
            return false;
        }
        if node & 1 == 1 || node == last {
            from = node_hash(step, &from);
            to = node_hash(step, &to);
            while node & 1 == 0 && node != 0 {
                node >>= 1;
                last >>= 1;
            }
        } else {
            to = node_hash(&to, step);
        }
        node >>= 1;
        last >>= 1;
    }
    last == 0 && from == *old_root && to == *new_root
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// RFC 6962's definition, word for word.
    fn naive(leaves: &[Vec<u8>]) -> Hash {
        match leaves {
            [] => empty_root(),
            [one] => leaf_hash(one),
            many => {
                let mut k = 1;
                while k * 2 < many.len() {
                    k *= 2;
                }
                node_hash(&naive(&many[..k]), &naive(&many[k..]))
            }
        }
    }

    fn hash_of(leaves: &[Vec<u8>], range: &Range<u64>) -> Hash {
        naive(&leaves[usize::try_from(range.start).unwrap()..usize::try_from(range.end).unwrap()])
    }

    fn leaves(n: usize) -> Vec<Vec<u8>> {
        (0..n).map(|i| format!("entry {i}").into_bytes()).collect()
    }

    #[test]
    fn published_roots() {
        // The test tree of the Certificate Transparency reference code (RFC 6962 hashing).
        let inputs = [
            "",
            "00",
            "10",
            "2021",
            "3031",
            "40414243",
            "5051525354555657",
            "606162636465666768696a6b6c6d6e6f",
        ];
        let mut frontier = Frontier::default();
        for input in inputs {
            frontier.push(leaf_hash(&hex::decode(input).unwrap()), |_| {});
        }
        assert_eq!(
            hex::encode(frontier.root()),
            "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328"
        );
        assert_eq!(
            hex::encode(empty_root()),
            "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
        );
    }

    #[test]
    fn every_proof_of_small_trees() {
        let all = leaves(40);
        for size in 0..=all.len() {
            let tree = &all[..size];
            let root = naive(tree);
            let size = size as u64;
            for index in 0..size {
                let proof: Vec<Hash> = inclusion_ranges(index, size)
                    .unwrap()
                    .iter()
                    .map(|range| hash_of(tree, range))
                    .collect();
                let leaf = leaf_hash(&tree[usize::try_from(index).unwrap()]);
                assert!(
                    verify_inclusion(&leaf, index, size, &proof, &root),
                    "{index} of {size}"
                );
                assert!(!verify_inclusion(&leaf, index + 1, size, &proof, &root));
                for at in 0..proof.len() {
                    let mut bad = proof.clone();
                    bad[at][7] ^= 1;
                    assert!(!verify_inclusion(&leaf, index, size, &bad, &root));
                }
                let mut long = proof.clone();
                long.push(leaf);
                assert!(!verify_inclusion(&leaf, index, size, &long, &root));
                if !proof.is_empty() {
                    let short = &proof[..proof.len() - 1];
                    assert!(!verify_inclusion(&leaf, index, size, short, &root));
                }
            }
            assert!(inclusion_ranges(size, size).is_none());
            for old in 0..=size {
                let old_root = naive(&all[..usize::try_from(old).unwrap()]);
                let proof: Vec<Hash> = consistency_ranges(old, size)
                    .unwrap()
                    .iter()
                    .map(|range| hash_of(tree, range))
                    .collect();
                assert!(
                    verify_consistency(old, size, &proof, &old_root, &root),
                    "{old} {size}"
                );
                let mut other = old_root;
                other[0] ^= 1;
                assert!(!verify_consistency(old, size, &proof, &other, &root));
                for at in 0..proof.len() {
                    let mut bad = proof.clone();
                    bad[at][31] ^= 0x80;
                    assert!(!verify_consistency(old, size, &bad, &old_root, &root));
                }
            }
            assert!(consistency_ranges(size + 1, size).is_none());
        }
    }

    proptest! {
        #[test]
        fn frontier_equals_the_definition(
            entries in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..20), 0..300),
        ) {
            let mut frontier = Frontier::default();
            let mut nodes = Vec::new();
            for entry in &entries {
                frontier.push(leaf_hash(entry), |node| nodes.push(node));
            }
            prop_assert_eq!(frontier.root(), naive(&entries));
            let kept = Frontier::from_parts(frontier.size(), &frontier.to_bytes());
            prop_assert_eq!(kept, Some(frontier));
            for node in nodes {
                let low = node.index << node.height;
                let range = low..low + (1 << node.height);
                prop_assert_eq!(node.hash, hash_of(&entries, &range));
            }
        }

        #[test]
        fn subtrees_cover_a_proof_range(size in 1_u64..500, index in 0_u64..500) {
            let all = leaves(usize::try_from(size).unwrap());
            for range in inclusion_ranges(index % size, size).unwrap() {
                let hashes: Vec<Hash> = subtrees(range.clone())
                    .into_iter()
                    .map(|(height, index)| {
                        hash_of(&all, &((index << height)..((index + 1) << height)))
                    })
                    .collect();
                prop_assert_eq!(fold(&hashes), hash_of(&all, &range));
            }
        }

        #[test]
        fn random_bytes_prove_nothing(
            index in 0_u64..64, size in 0_u64..64, old in 0_u64..64,
            proof in proptest::collection::vec(any::<[u8; 32]>(), 0..8),
            one in any::<[u8; 32]>(), other in any::<[u8; 32]>(),
        ) {
            prop_assume!(one != other);
            prop_assert!(!verify_inclusion(&one, index, size, &proof, &other));
            if old != 0 {
                prop_assert!(!verify_consistency(old, size, &proof, &one, &other));
            }
        }
    }
}
