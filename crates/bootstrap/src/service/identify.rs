//! Which device of the register a request comes from.

use std::sync::Arc;

use http::HeaderMap;
use net::Peer;
use time::OffsetDateTime;

use super::lookup::Key;
use super::{Door, Found, Service};
use crate::Error;
use crate::auth::{Shown, canonical, password_fits};
use crate::profile::Profile;
use crate::register::State;

/// A device that proved who it is.
#[derive(Clone, Debug)]
pub(super) struct Known {
    pub(super) found: Arc<Found>,
    pub(super) profile: Arc<Profile>,
    /// What it showed.
    pub(super) shown: Shown,
}

impl Known {
    /// The certificate that proved it, if one did.
    pub(super) fn certificate(&self) -> Option<&pki::Certificate> {
        match &self.shown.certificate {
            Some(Ok(proven)) => Some(&proven.certificate),
            _ => None,
        }
    }
}

/// A peer that is not served.
#[derive(Clone, Debug)]
pub(super) struct Stranger {
    pub(super) code: &'static str,
    /// For the timeline; the peer is told less.
    pub(super) detail: String,
    pub(super) kind: Kind,
    pub(super) shown: Shown,
    /// The device that it says it is or proved to be, if there is one in the register.
    pub(super) device: Option<i64>,
    pub(super) vendor: Option<String>,
    pub(super) serial: Option<String>,
}

/// What the peer is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// It has not proved to be one of our devices.
    Unauthenticated,
    /// It has, and gets nothing.
    Forbidden,
    /// It tried too many passwords.
    TooManyFailures,
}

impl Service {
    /// Finds the device behind a request.
    ///
    /// # Errors
    /// The database failed.
    pub(super) async fn identify(
        &self,
        door: Door,
        peer: &Peer,
        headers: &HeaderMap,
        now: OffsetDateTime,
    ) -> Result<Result<Known, Box<Stranger>>, Error> {
        let inner = &self.0;
        let rules = inner.rules.load();
        let (vendors, judge) = match door {
            Door::Main => (&rules.vendors, &inner.judges[0]),
            Door::Legacy => (&rules.legacy_vendors, &inner.judges[1]),
        };
        let proxies = &inner.config.authentication.proxies;
        let (shown, remembered) = judge.look(peer, headers, vendors, proxies, now);
        if remembered {
            inner.counters.identity_cache_hits.inc();
        }
        let stranger = |code, detail: String| {
            let (vendor, serial) = match (&shown.certificate, &shown.basic) {
                (Some(Ok(proven)), _) => (Some(proven.vendor.clone()), Some(proven.serial.clone())),
                // What is not proven has no manufacturer beside it.
                (Some(Err(unproven)), _) if unproven.claimed_serial.is_some() => {
                    (None, unproven.claimed_serial.clone())
                }
                (_, Some(basic)) => (None, Some(basic.user.clone())),
                _ => (None, None),
            };
            Box::new(Stranger {
                code,
                detail,
                kind: Kind::Unauthenticated,
                shown: shown.clone(),
                device: None,
                vendor,
                serial,
            })
        };
        let key = match (&shown.certificate, &shown.basic) {
            // A certificate that proves nothing is not made good by a password: both have to hold.
            (Some(Err(unproven)), _) => {
                return Ok(Err(stranger(unproven.code, unproven.detail.clone())));
            }
            (Some(Ok(proven)), basic) => {
                // SZTP-8572-5.3-05: "the serial numbers of both have to match".
                let other = basic.as_ref().filter(|basic| basic.user != proven.serial);
                if let Some(other) = other {
                    let detail = format!(
                        "the certificate is of {}, the user is {}",
                        proven.serial, other.user
                    );
                    return Ok(Err(stranger("bootstrap.identities-differ", detail)));
                }
                if shown.other_authorization {
                    let detail = "the Authorization is not readable Basic".to_owned();
                    return Ok(Err(stranger("bootstrap.authorization-unsupported", detail)));
                }
                Key::Proven {
                    vendor: proven.vendor.clone(),
                    serial: proven.serial.clone(),
                }
            }
            // SZTP-8040-2.5-07: the user name of the HTTP authentication is the device's.
            (None, Some(basic)) => Key::Named(basic.user.clone()),
            (None, None) if shown.other_authorization => {
                let detail = "the Authorization is not readable Basic".to_owned();
                return Ok(Err(stranger("bootstrap.authorization-unsupported", detail)));
            }
            // SZTP-8040-2.5-01, SZTP-8040-2.5-02.
            (None, None) => {
                let detail = "neither a client certificate nor credentials".to_owned();
                return Ok(Err(stranger("bootstrap.credentials-missing", detail)));
            }
        };
        let address = canonical(peer.address.ip());
        let failures_max = inner.config.authentication.failures_per_minute_max;
        if shown.basic.is_some() && inner.failures.count(address) >= failures_max {
            let mut stranger = stranger(
                "bootstrap.too-many-failures",
                "too many wrong passwords from this address".to_owned(),
            );
            stranger.kind = Kind::TooManyFailures;
            return Ok(Err(stranger));
        }
        let found = inner.lookup.find(key).await?;
        let profile = found.as_ref().map(|found| {
            let device = &found.device;
            let default = inner.config.profiles.default.as_deref();
            let of_vendor = vendors
                .named(&device.vendor)
                .and_then(|vendor| vendor.file.profile.as_deref());
            let own = Some(device.device_type.as_str()).filter(|name| !name.is_empty());
            rules.profiles.choose(own, of_vendor.or(default))
        });
        if let Some(basic) = &shown.basic {
            let hash = found
                .as_ref()
                .and_then(|found| found.device.basic_hash.as_deref());
            let allowed = profile.as_ref().is_some_and(|profile| profile.basic());
            // The comparison is made in every case, so that its time tells nothing.
            let fits = password_fits(&basic.password, hash);
            let with_certificate = shown.certificate.is_some();
            // With a certificate the password may be one that nobody gave us; without one it
            // is all there is.
            let good = if with_certificate {
                fits || hash.is_none()
            } else {
                fits && allowed
            };
            if !good {
                inner.failures.add(address);
                let code = if fits {
                    "bootstrap.basic-not-allowed"
                } else {
                    "bootstrap.credentials-wrong"
                };
                let detail = match (&found, allowed) {
                    (None, _) => "no device of this serial number",
                    (Some(_), false) => "the profile of this device has no basic-authentication",
                    (Some(_), true) => "the password is wrong",
                };
                let mut stranger = stranger(code, detail.to_owned());
                stranger.device = found.as_ref().map(|found| found.device.id);
                return Ok(Err(stranger));
            }
        }
        let (Some(found), Some(profile)) = (found, profile) else {
            let detail = "no device of this manufacturer and serial number".to_owned();
            return Ok(Err(stranger("bootstrap.serial-unknown", detail)));
        };
        let device = &found.device;
        let reason = match (&device.blocked, device.state) {
            (Some(reason), _) => Some(("bootstrap.device-blocked", reason.clone())),
            (None, State::Released) => Some(("bootstrap.device-released", "released".to_owned())),
            (None, State::Replaced) => Some(("bootstrap.device-released", "replaced".to_owned())),
            _ => None,
        };
        if let Some((code, detail)) = reason {
            let mut stranger = stranger(code, detail);
            stranger.kind = Kind::Forbidden;
            stranger.device = Some(device.id);
            stranger.vendor = Some(device.vendor.clone());
            stranger.serial = Some(device.serial.clone());
            return Ok(Err(stranger));
        }
        Ok(Ok(Known {
            found,
            profile,
            shown,
        }))
    }
}
