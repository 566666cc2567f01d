//! Trust anchors.

use std::path::Path;

use crate::{Certificate, Error};

/// The certificates whose keys are trusted. Cheap enough to clone; build it once and keep it.
#[derive(Clone, Debug, Default)]
pub struct Anchors {
    certificates: Vec<Certificate>,
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
        if !self.contains(&certificate) {
            self.certificates.push(certificate);
        }
    }

    /// Whether this very certificate is an anchor.
    #[must_use]
    pub fn contains(&self, certificate: &Certificate) -> bool {
        self.certificates.contains(certificate)
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
