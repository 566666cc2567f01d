//! Building CRLs.

use time::OffsetDateTime;

use super::{check_issuer, extension, key_id_of};
use crate::path::view::{View, usage};
use crate::{Certificate, Crl, Error, Signer, oid, times, tlv};
use const_oid::ObjectIdentifier;

const CRL_NUMBER: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.5.29.20");
const REASON_CODE: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.5.29.21");
const ENUMERATED: u8 = 0x0a;

/// Why a certificate was revoked, RFC 5280 §5.3.1.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
#[expect(missing_docs, reason = "the names are those of the standard")]
pub enum RevocationReason {
    Unspecified,
    KeyCompromise,
    CaCompromise,
    AffiliationChanged,
    Superseded,
    CessationOfOperation,
    CertificateHold,
    PrivilegeWithdrawn,
}

impl RevocationReason {
    /// The standard's name, for example `keyCompromise`.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Unspecified => "unspecified",
            Self::KeyCompromise => "keyCompromise",
            Self::CaCompromise => "cACompromise",
            Self::AffiliationChanged => "affiliationChanged",
            Self::Superseded => "superseded",
            Self::CessationOfOperation => "cessationOfOperation",
            Self::CertificateHold => "certificateHold",
            Self::PrivilegeWithdrawn => "privilegeWithdrawn",
        }
    }

    fn code(self) -> u8 {
        match self {
            Self::Unspecified => 0,
            Self::KeyCompromise => 1,
            Self::CaCompromise => 2,
            Self::AffiliationChanged => 3,
            Self::Superseded => 4,
            Self::CessationOfOperation => 5,
            Self::CertificateHold => 6,
            Self::PrivilegeWithdrawn => 9,
        }
    }
}

/// Builds one CRL.
#[derive(Clone, Debug)]
pub struct CrlBuilder {
    number: u64,
    this_update: OffsetDateTime,
    next_update: OffsetDateTime,
    revoked: Vec<(Vec<u8>, OffsetDateTime, RevocationReason)>,
}

impl CrlBuilder {
    /// An empty CRL with its number, which must rise from one CRL to the next.
    #[must_use]
    pub fn new(number: u64, this_update: OffsetDateTime, next_update: OffsetDateTime) -> Self {
        Self {
            number,
            this_update,
            next_update,
            revoked: Vec::new(),
        }
    }

    /// Lists a certificate by its serial number's content octets. Listed twice, it stays once.
    #[must_use]
    pub fn revoke(
        mut self,
        serial_number: &[u8],
        at: OffsetDateTime,
        reason: RevocationReason,
    ) -> Self {
        self.revoked.push((serial_number.to_vec(), at, reason));
        self
    }

    /// Signs under `issuer`'s name and key identifier.
    ///
    /// # Errors
    /// If the issuer may not sign CRLs, a value has no encoding, or signing fails.
    pub fn issue(&self, issuer: &Certificate, signer: &dyn Signer) -> Result<Crl, Error> {
        check_issuer(issuer, signer)?;
        if !View::of(issuer).is_ok_and(|view| view.may(usage::CRL_SIGN)) {
            let detail = format!("crl-sign: keyUsage of {} lacks cRLSign", issuer.subject());
            return Err(Error::ProfileLint(detail));
        }
        if self.next_update <= self.this_update {
            return Err(Error::ProfileLint(
                "crl-validity: nextUpdate is not after thisUpdate".into(),
            ));
        }
        let algorithm = signer.algorithm().identifier();
        let mut seen = std::collections::HashSet::new();
        let entries: Vec<Vec<u8>> = self
            .revoked
            .iter()
            .filter(|(serial, ..)| seen.insert(serial))
            .map(|(serial, at, reason)| entry(serial, *at, *reason))
            .collect();
        let parts: Vec<&[u8]> = entries.iter().map(Vec::as_slice).collect();
        // RFC 5280 §5.1.2.6: when there are no revoked certificates the list MUST be absent.
        let entries = if parts.is_empty() {
            Vec::new()
        } else {
            tlv::element(tlv::SEQUENCE, &parts)
        };
        let key_id = tlv::element(tlv::SEQUENCE, &[&tlv::element(0x80, &[&key_id_of(issuer)])]);
        let extensions = tlv::element(
            tlv::SEQUENCE,
            &[
                &extension(oid::AUTHORITY_KEY_ID, false, &key_id),
                &extension(CRL_NUMBER, false, &number(self.number)),
            ],
        );
        let tbs = tlv::element(
            tlv::SEQUENCE,
            &[
                // v2
                &[0x02, 0x01, 0x01],
                &algorithm,
                issuer.subject_der(),
                &times::encode(self.this_update),
                &times::encode(self.next_update),
                &entries,
                &tlv::element(0xa0, &[&extensions]),
            ],
        );
        let signature = tlv::element(tlv::BIT_STRING, &[&[0], &signer.sign(&tbs)?]);
        Crl::from_der(&tlv::element(
            tlv::SEQUENCE,
            &[&tbs, &algorithm, &signature],
        ))
    }
}

fn entry(serial: &[u8], at: OffsetDateTime, reason: RevocationReason) -> Vec<u8> {
    // RFC 5280 §5.3.1: the reason code extension SHOULD be absent instead of using unspecified.
    let extensions = if reason == RevocationReason::Unspecified {
        Vec::new()
    } else {
        let code = tlv::element(ENUMERATED, &[&[reason.code()]]);
        tlv::element(tlv::SEQUENCE, &[&extension(REASON_CODE, false, &code)])
    };
    let serial = tlv::element(tlv::INTEGER, &[serial]);
    tlv::element(tlv::SEQUENCE, &[&serial, &times::encode(at), &extensions])
}

fn number(number: u64) -> Vec<u8> {
    let octets = number.to_be_bytes();
    let significant = octets.iter().position(|&octet| octet != 0).unwrap_or(7);
    let mut content = octets.get(significant..).unwrap_or_default().to_vec();
    if content.first().is_none_or(|&first| first >= 0x80) {
        content.insert(0, 0);
    }
    tlv::element(tlv::INTEGER, &[&content])
}
