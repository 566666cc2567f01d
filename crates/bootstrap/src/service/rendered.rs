//! Bodies of replies that were written before.
//!
//! A device that comes again gets the same artefacts, and writing twelve thousand octets as base64
//! inside JSON or XML costs more than everything else about its request. What is kept is found by
//! the place of the artefacts in memory; the artefacts are held with it, so nothing else can come
//! to be at that place.

use std::sync::Arc;

use bytes::Bytes;
use sztp::Encoding;
use sztp::message::{GetBootstrappingDataOutput, ReportingLevel};

use crate::content::Prepared;
use crate::profile::Profile;

/// Memory that an entry takes beside its octets.
const ENTRY_SIZE: usize = 256;

/// Bodies that were written.
#[derive(Clone)]
pub(super) struct Rendered(moka::sync::Cache<Key, Arc<Entry>>);

/// Where the conveyed information and the voucher are, and whether the body is JSON: devices can
/// share the first, and never the second.
type Key = (usize, usize, bool);

struct Entry {
    conveyed_information: Bytes,
    owner_certificate: Option<Bytes>,
    ownership_voucher: Option<Bytes>,
    reporting_level: Option<ReportingLevel>,
    profile: Arc<Profile>,
    body: Bytes,
}

impl Entry {
    fn is_of(&self, prepared: &Prepared, profile: &Arc<Profile>) -> bool {
        let same =
            |one: &Bytes, other: &Bytes| one.as_ptr() == other.as_ptr() && one.len() == other.len();
        let both = |one: &Option<Bytes>, other: &Option<Bytes>| match (one, other) {
            (Some(one), Some(other)) => same(one, other),
            (None, None) => true,
            _ => false,
        };
        same(&self.conveyed_information, &prepared.conveyed_information)
            && both(&self.owner_certificate, &prepared.owner_certificate)
            && both(&self.ownership_voucher, &prepared.ownership_voucher)
            && self.reporting_level == prepared.reporting_level
            && Arc::ptr_eq(&self.profile, profile)
    }

    fn size(&self) -> u32 {
        let optional = |octets: &Option<Bytes>| octets.as_ref().map_or(0, Bytes::len);
        let size = ENTRY_SIZE
            + self.body.len()
            + self.conveyed_information.len()
            + optional(&self.ownership_voucher);
        u32::try_from(size).unwrap_or(u32::MAX)
    }
}

impl Rendered {
    /// With room for so many octets.
    pub(super) fn new(capacity: u64) -> Self {
        let cache = moka::sync::Cache::builder()
            .max_capacity(capacity)
            .weigher(|_, entry: &Arc<Entry>| entry.size())
            .build();
        Self(cache)
    }

    /// The body of a reply with these artefacts.
    pub(super) fn body(
        &self,
        prepared: &Prepared,
        profile: &Arc<Profile>,
        encoding: Encoding,
    ) -> Bytes {
        let voucher = prepared.ownership_voucher.as_ref();
        let key = (
            prepared.conveyed_information.as_ptr().addr(),
            voucher.map_or(0, |voucher| voucher.as_ptr().addr()),
            encoding == Encoding::Json,
        );
        if let Some(entry) = self.0.get(&key)
            && entry.is_of(prepared, profile)
        {
            return entry.body.clone();
        }
        let output = GetBootstrappingDataOutput {
            reporting_level: prepared.reporting_level,
            conveyed_information: prepared.conveyed_information.to_vec(),
            owner_certificate: prepared.owner_certificate.as_ref().map(|it| it.to_vec()),
            ownership_voucher: prepared.ownership_voucher.as_ref().map(|it| it.to_vec()),
        };
        let body = Bytes::from(profile.render(&output, encoding));
        let entry = Entry {
            conveyed_information: prepared.conveyed_information.clone(),
            owner_certificate: prepared.owner_certificate.clone(),
            ownership_voucher: prepared.ownership_voucher.clone(),
            reporting_level: prepared.reporting_level,
            profile: Arc::clone(profile),
            body: body.clone(),
        };
        self.0.insert(key, Arc::new(entry));
        body
    }
}
