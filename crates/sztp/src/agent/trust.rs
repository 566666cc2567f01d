//! Whether a bootstrap server is believed.

use std::net::IpAddr;

use artifacts::{Tolerances, conveyed};
use pki::{
    Certificate, Crl,
    path::{self, Anchors, PathOptions, Purpose, ServerName},
};
use time::OffsetDateTime;

use super::{CHAIN_LENGTH_MAX, Failure};

/// The trust anchor of a bootstrap server, validated
/// ([RFC 8572 §6.3](https://www.rfc-editor.org/rfc/rfc8572.html#section-6.3), leaf trust-anchor).
#[derive(Clone, Debug, PartialEq)]
pub struct TrustAnchor {
    anchor: Certificate,
    crls: Vec<Crl>,
}

impl TrustAnchor {
    /// Reads the CMS and validates the chain within it.
    ///
    /// # Errors
    /// If it is not one chain with a self-signed root, or the chain does not hold.
    pub fn parse(
        cms: &[u8],
        at: Option<OffsetDateTime>,
        tolerances: &Tolerances,
    ) -> Result<Self, Failure> {
        let read =
            conveyed::TrustAnchor::decode(cms, tolerances).map_err(|error| Failure::of(&error))?;
        // "The bootstrap server MUST only authenticate to last intermediate CA certificate listed
        // in the chain."
        let (Some(anchor), Some(root)) = (read.issuer(), read.chain().last()) else {
            return Err(Failure::new("sztp.trust-anchor", "it holds no certificate"));
        };
        let options = PathOptions {
            at,
            crls: read.crls().to_vec(),
            ..PathOptions::default()
        };
        path::validate(anchor, read.chain(), &Anchors::from(root.clone()), &options)
            .map_err(|error| Failure::of(&error))?;
        Ok(Self {
            anchor: anchor.clone(),
            crls: read.crls().to_vec(),
        })
    }

    /// What the server's certificate has to lead to.
    #[must_use]
    pub fn anchor(&self) -> &Certificate {
        &self.anchor
    }

    /// Revocation lists that came with it.
    #[must_use]
    pub fn crls(&self) -> &[Crl] {
        &self.crls
    }
}

/// Whether a server's chain leads to the anchors and names the host.
pub(super) fn judge(
    chain: &[Certificate],
    anchors: &Anchors,
    crls: &[Crl],
    at: Option<OffsetDateTime>,
    host: &str,
) -> Result<(), Failure> {
    let Some((leaf, others)) = chain.split_first() else {
        return Err(Failure::new(
            "sztp.server-chain",
            "the server showed no certificate",
        ));
    };
    if chain.len() > CHAIN_LENGTH_MAX {
        return Err(Failure::new(
            "sztp.server-chain",
            "the server showed too many certificates",
        ));
    }
    let options = PathOptions {
        at,
        purpose: Purpose::Server,
        name: Some(server_name(host)).filter(|_| !defects::seeded!("sztp-device-skips-names")),
        crls: crls.to_vec(),
        ..PathOptions::default()
    };
    path::validate(leaf, others, anchors, &options)
        .map(|_| ())
        .map_err(|error| Failure::of(&error))
}

/// The name that a server has to prove.
pub(super) fn server_name(host: &str) -> ServerName {
    match host.parse::<IpAddr>() {
        Ok(address) => ServerName::Ip(address),
        Err(_) => ServerName::Dns(host.trim_end_matches('.').to_ascii_lowercase()),
    }
}
