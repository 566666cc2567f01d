//! Certificate policies: the valid policy graph of [RFC 9618], which replaces the tree of RFC 5280
//! §6.1 because that one grows exponentially with hostile mappings. A level of the graph has at most
//! one node for each policy, so its size is bounded by what the certificates contain.
//!
//! [RFC 9618]: https://www.rfc-editor.org/rfc/rfc9618.html

use std::collections::{BTreeMap, BTreeSet};

use super::PolicyOptions;
use super::view::{ANY_POLICY, View};

type Policy<'a> = &'a [u8];

#[derive(Clone, Debug, Default)]
struct Node<'a> {
    expected: BTreeSet<Policy<'a>>,
    /// The valid policies of its parents, which are in the level above.
    parents: BTreeSet<Policy<'a>>,
}

type Level<'a> = BTreeMap<Policy<'a>, Node<'a>>;

/// The policy state of §6.1.2 (a), (d), (e) and (f), carried from certificate to certificate.
#[derive(Debug)]
pub(super) struct Policies<'a> {
    /// Level 0 is the anchor's. An empty last level is the graph NULL.
    levels: Vec<Level<'a>>,
    explicit_policy: u32,
    policy_mapping: u32,
    inhibit_any: u32,
}

/// Why the policies do not hold.
pub(super) type Refusal = &'static str;

impl<'a> Policies<'a> {
    /// The state before the first of `length` certificates.
    pub(super) fn new(options: &PolicyOptions, length: usize) -> Self {
        let unlimited = u32::try_from(length).unwrap_or(u32::MAX).saturating_add(1);
        let start = |inhibited: bool| if inhibited { 0 } else { unlimited };
        let root = Node {
            expected: BTreeSet::from([ANY_POLICY]),
            parents: BTreeSet::new(),
        };
        Self {
            levels: vec![BTreeMap::from([(ANY_POLICY, root)])],
            explicit_policy: start(options.require_explicit),
            policy_mapping: start(options.inhibit_mapping),
            inhibit_any: start(options.inhibit_any),
        }
    }

    fn is_null(&self) -> bool {
        self.levels.last().is_none_or(BTreeMap::is_empty)
    }

    /// §6.1.3 (d), (e) and (f).
    pub(super) fn process(&mut self, view: &View<'a>, last: bool) -> Result<(), Refusal> {
        let mut level = Level::new();
        if let (Some(policies), Some(above)) = (&view.policies, self.levels.last()) {
            for &policy in policies
                .value
                .iter()
                .filter(|&&policy| policy != ANY_POLICY)
            {
                let mut parents = expecting(above, policy);
                if parents.is_empty() && above.contains_key(ANY_POLICY) {
                    parents.insert(ANY_POLICY);
                }
                if !parents.is_empty() {
                    level.insert(
                        policy,
                        Node {
                            expected: BTreeSet::from([policy]),
                            parents,
                        },
                    );
                }
            }
            let any_counts = self.inhibit_any > 0 || (!last && view.is_self_issued());
            if policies.value.contains(&ANY_POLICY) && any_counts {
                let expected: BTreeSet<Policy<'a>> = above
                    .values()
                    .flat_map(|node| node.expected.iter().copied())
                    .collect();
                for policy in expected {
                    if !level.contains_key(policy) {
                        let parents = expecting(above, policy);
                        level.insert(
                            policy,
                            Node {
                                expected: BTreeSet::from([policy]),
                                parents,
                            },
                        );
                    }
                }
            }
        }
        self.levels.push(level);
        if self.explicit_policy == 0 && self.is_null() {
            return Err("an explicit policy is required and none is valid for the path");
        }
        Ok(())
    }

    /// §6.1.4 (a), (b), (h), (i) and (j).
    pub(super) fn prepare(&mut self, view: &View<'a>) -> Result<(), Refusal> {
        if let Some(mappings) = &view.policy_mappings {
            self.map(&mappings.value)?;
        }
        if !view.is_self_issued() {
            self.explicit_policy = self.explicit_policy.saturating_sub(1);
            self.policy_mapping = self.policy_mapping.saturating_sub(1);
            self.inhibit_any = self.inhibit_any.saturating_sub(1);
        }
        if let Some(constraints) = &view.policy_constraints {
            if let Some(skip) = constraints.value.require_explicit {
                self.explicit_policy = self.explicit_policy.min(skip);
            }
            if let Some(skip) = constraints.value.inhibit_mapping {
                self.policy_mapping = self.policy_mapping.min(skip);
            }
        }
        if let Some(skip) = &view.inhibit_any_policy {
            self.inhibit_any = self.inhibit_any.min(skip.value);
        }
        Ok(())
    }

    fn map(&mut self, mappings: &[(Policy<'a>, Policy<'a>)]) -> Result<(), Refusal> {
        let mut by_issuer: BTreeMap<Policy<'a>, BTreeSet<Policy<'a>>> = BTreeMap::new();
        for &(issuer, subject) in mappings {
            // RFC 5280 §6.1.4 (a): anyPolicy does not appear as an issuerDomainPolicy or a
            // subjectDomainPolicy.
            if issuer == ANY_POLICY || subject == ANY_POLICY {
                return Err("anyPolicy is mapped");
            }
            by_issuer.entry(issuer).or_default().insert(subject);
        }
        let Some(level) = self.levels.last_mut() else {
            return Ok(());
        };
        for (issuer, subjects) in by_issuer {
            if self.policy_mapping == 0 {
                level.remove(issuer);
            } else if let Some(node) = level.get_mut(issuer) {
                node.expected = subjects;
            } else if level.contains_key(ANY_POLICY) {
                let parents = BTreeSet::from([ANY_POLICY]);
                level.insert(
                    issuer,
                    Node {
                        expected: subjects,
                        parents,
                    },
                );
            }
        }
        Ok(())
    }

    /// §6.1.5 (a), (b) and (g): the policies that hold for the whole path.
    pub(super) fn wrap_up(
        mut self,
        view: &View<'a>,
        initial: &BTreeSet<Vec<u8>>,
    ) -> Result<BTreeSet<Vec<u8>>, Refusal> {
        self.explicit_policy = self.explicit_policy.saturating_sub(1);
        let constraints = view.policy_constraints.as_ref();
        if constraints.and_then(|constraints| constraints.value.require_explicit) == Some(0) {
            self.explicit_policy = 0;
        }
        let valid = self.constrained(initial);
        if self.explicit_policy == 0 && valid.is_empty() {
            return Err("no acceptable policy is valid for the path");
        }
        Ok(valid)
    }

    /// The user-constrained-policy-set: the policies of the authorities' own domain (nodes whose
    /// parent is anyPolicy) from which a node of the last level descends, as far as acceptable.
    fn constrained(&self, initial: &BTreeSet<Vec<u8>>) -> BTreeSet<Vec<u8>> {
        let acceptable = |policy: Policy<'_>| {
            initial.is_empty() || initial.contains(ANY_POLICY) || initial.contains(policy)
        };
        let mut valid = BTreeSet::new();
        let mut alive: BTreeSet<Policy<'a>> = match self.levels.last() {
            Some(level) => level.keys().copied().collect(),
            None => BTreeSet::new(),
        };
        if alive.contains(ANY_POLICY) {
            // anyPolicy down to the leaf: every acceptable policy holds.
            if initial.is_empty() {
                valid.insert(ANY_POLICY.to_vec());
            } else {
                valid.extend(initial.iter().cloned());
            }
        }
        for level in self.levels.iter().rev() {
            let mut above = BTreeSet::new();
            for policy in alive {
                let Some(node) = level.get(policy) else {
                    continue;
                };
                if node.parents.contains(ANY_POLICY) && policy != ANY_POLICY && acceptable(policy) {
                    valid.insert(policy.to_vec());
                }
                above.extend(
                    node.parents
                        .iter()
                        .copied()
                        .filter(|&parent| parent != ANY_POLICY),
                );
            }
            alive = above;
        }
        valid
    }
}

/// The policies of a level whose nodes expect `policy` next.
fn expecting<'a>(level: &Level<'a>, policy: Policy<'a>) -> BTreeSet<Policy<'a>> {
    level
        .iter()
        .filter(|(_, node)| node.expected.contains(policy))
        .map(|(&valid, _)| valid)
        .collect()
}
