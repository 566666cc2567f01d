//! Trust anchors.

use std::collections::{HashMap, HashSet};
use std::path::Path;

use super::name::DistinguishedName;
use super::view::View;
use crate::{Certificate, Error};

/// The certificates whose keys are trusted. Cheap enough to clone; build it once and keep it.
#[derive(Clone, Debug, Default)]
pub struct Anchors {
    certificates: Vec<Certificate>,
    present: HashSet<Certificate>,
    /// Places in `certificates` by the normalised subject, so that thousands of anchors cost a
    /// validation nothing.
    by_subject: HashMap<Vec<Vec<u8>>, Vec<usize>>,
}

impl Anchors {
    /// No anchors: every path is refused.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Reads a file of anchors, PEM or DER.
    ///
    /// # Errors
    /// If the file cannot be read, holds none, or one is malformed.
    pub fn load(path: impl AsRef<Path>) -> Result<Self, Error> {
        Ok(Certificate::load_all(path)?.into_iter().collect())
    }

    /// Adds an anchor; one that is there already is not added again.
    pub fn add(&mut self, certificate: Certificate) {
        if !self.present.insert(certificate.clone()) {
            return;
        }
        if let Ok(subject) = DistinguishedName::from_der(certificate.subject_der()) {
            let places = self.by_subject.entry(subject.key().to_vec()).or_default();
            places.push(self.certificates.len());
        }
        self.certificates.push(certificate);
    }

    /// Whether this very certificate is an anchor.
    #[must_use]
    pub fn contains(&self, certificate: &Certificate) -> bool {
        self.present.contains(certificate)
    }

    /// The anchors that a path through `pool` can end in: those that are in it, and those whose
    /// subject is the issuer of one in it.
    pub(super) fn relevant_to<'a>(&'a self, pool: &[View<'a>]) -> Vec<View<'a>> {
        let mut places: Vec<usize> = pool
            .iter()
            .flat_map(|view| [&view.issuer, &view.subject])
            .filter_map(|name| self.by_subject.get(name.key()))
            .flatten()
            .copied()
            .collect();
        places.sort_unstable();
        places.dedup();
        places
            .into_iter()
            .filter_map(|place| self.certificates.get(place))
            .filter_map(|certificate| View::of(certificate).ok())
            .collect()
    }

    /// The anchors in the order of their addition.
    pub fn iter(&self) -> impl Iterator<Item = &Certificate> {
        self.certificates.iter()
    }

    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.certificates.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.certificates.is_empty()
    }
}

impl FromIterator<Certificate> for Anchors {
    fn from_iter<I: IntoIterator<Item = Certificate>>(certificates: I) -> Self {
        let mut anchors = Self::new();
        anchors.extend(certificates);
        anchors
    }
}

impl Extend<Certificate> for Anchors {
    fn extend<I: IntoIterator<Item = Certificate>>(&mut self, certificates: I) {
        for certificate in certificates {
            self.add(certificate);
        }
    }
}

impl From<Certificate> for Anchors {
    fn from(certificate: Certificate) -> Self {
        [certificate].into_iter().collect()
    }
}
