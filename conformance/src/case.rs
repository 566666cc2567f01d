//! A case: one thing that the suite does to an implementation, and what it may not find.

use std::{any::Any, future::Future, pin::Pin, sync::Arc};

use crate::{
    catalogue::{Catalogue, Level},
    evidence::Recorder,
    outcome::{Finding, Told},
    role::Target,
};

/// What a role sets up once for all its cases: keys, addresses, servers of the suite's own.
pub type Kit = Arc<dyn Any + Send + Sync>;

/// A case while it runs.
pub type Running = Pin<Box<dyn Future<Output = Told> + Send>>;

type Body = Box<dyn Fn(Kit, Recorder) -> Running + Send + Sync>;

/// One case.
pub struct Case {
    /// Target, standard and section, name: `masa/rfc8995-5.5.6/inner-nonce-differs`.
    pub id: String,
    /// What it does, in a sentence.
    pub title: String,
    /// The rows of the catalogue that it covers; the first is the one that it is about.
    pub requirements: Vec<String>,
    /// Words to select it by.
    pub tags: Vec<&'static str>,
    /// Features that the profile has to claim, or the case does not apply.
    pub needs: Vec<&'static str>,
    level: Option<Level>,
    body: Body,
}

impl Case {
    /// A case whose body gets the kit that its role set up.
    pub fn new<K, F, R>(
        id: impl Into<String>,
        title: impl Into<String>,
        requirements: &[&str],
        body: F,
    ) -> Self
    where
        K: Any + Send + Sync,
        F: Fn(Arc<K>, Recorder) -> R + Send + Sync + 'static,
        R: Future<Output = Told> + Send + 'static,
    {
        let body = move |kit: Kit, record: Recorder| -> Running {
            match kit.downcast::<K>() {
                Ok(kit) => Box::pin(body(kit, record)),
                Err(_) => Box::pin(std::future::ready(Err(Finding::could_not_test(
                    "the case was given the kit of another target",
                )))),
            }
        };
        Self {
            id: id.into(),
            title: title.into(),
            requirements: requirements.iter().map(|&id| id.to_owned()).collect(),
            tags: Vec::new(),
            needs: Vec::new(),
            level: None,
            body: Box::new(body),
        }
    }

    /// Words to select it by: `hostile`, `tls`, `slow`.
    #[must_use]
    pub fn tags(mut self, tags: &[&'static str]) -> Self {
        self.tags.extend_from_slice(tags);
        self
    }

    /// Features that the profile has to claim.
    #[must_use]
    pub fn needs(mut self, features: &[&'static str]) -> Self {
        self.needs.extend_from_slice(features);
        self
    }

    /// How a failure counts, where it is not what the first requirement says.
    #[must_use]
    pub fn level(mut self, level: Level) -> Self {
        self.level = Some(level);
        self
    }

    /// How a failure counts.
    #[must_use]
    pub fn level_by(&self, catalogue: &Catalogue) -> Level {
        self.level.unwrap_or_else(|| {
            let ids: Vec<&str> = self.requirements.iter().map(String::as_str).collect();
            catalogue.level(&ids)
        })
    }

    /// For what no standard forbids in words and every sound implementation refuses: as a SHOULD.
    #[must_use]
    pub fn prudence(self, is: bool) -> Self {
        if is { self.level(Level::Should) } else { self }
    }

    /// The target, which its id begins with.
    #[must_use]
    pub fn target(&self) -> Option<Target> {
        Target::from_name(self.id.split('/').next()?)
    }

    /// Begins it.
    #[must_use]
    pub fn begin(&self, kit: Kit, record: Recorder) -> Running {
        (self.body)(kit, record)
    }
}
