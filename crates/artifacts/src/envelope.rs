//! The signed envelopes: CMS, JWS and COSE, their media types, signing and opening.

use pki::cms::{CmsPolicy, ID_CT_ANIMA_JSON_VOUCHER, SignedData};
use pki::cose::{CoseCertificates, CoseOptions, CosePolicy, Sign1};
use pki::jws::{Jws, JwsPolicy, TYPE_VOUCHER};
use pki::{
    Certificate, Identity, IncludeCertificates, SeveralSigners, SignOptions, Unverified,
    VerifiedSigner, cms, cose, jws,
};
use time::OffsetDateTime;

use crate::error::{Document, Error, Fault};
use crate::leaf::decode_base64_leniently;
use crate::request::VoucherRequest;
use crate::tolerances::{Oddity, Tolerances};
use crate::voucher::Voucher;

/// Largest signed artefact, in octets, text armour included.
pub const ARTIFACT_SIZE_MAX_BYTES: usize = 1024 * 1024;

/// The media type of COSE vouchers up to draft-ietf-anima-constrained-voucher-22, which is still
/// sent.
pub const OLD_COSE_MEDIA_TYPE: &str = "application/voucher-cose+cbor";

/// How an artefact is signed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Envelope {
    /// CMS SignedData around JSON (RFC 8366).
    Cms,
    /// General JWS JSON serialisation (draft-ietf-anima-jws-voucher).
    Jws,
    /// COSE_Sign1 around CBOR (draft-ietf-anima-constrained-voucher).
    Cose,
}

impl Envelope {
    /// All three.
    pub const ALL: [Self; 3] = [Self::Cms, Self::Jws, Self::Cose];
    /// Those around JSON.
    pub const JSON: [Self; 2] = [Self::Cms, Self::Jws];

    /// The media type, for Content-Type and Accept.
    #[must_use]
    pub fn media_type(self) -> &'static str {
        match self {
            Self::Cms => "application/voucher-cms+json",
            Self::Jws => "application/voucher-jws+json",
            Self::Cose => "application/voucher+cose",
        }
    }

    /// The extension of a file with a voucher.
    #[must_use]
    pub fn file_extension(self) -> &'static str {
        match self {
            Self::Cms => "vcj",
            Self::Jws => "vjj",
            // CBR-163: File extension of stored COSE vouchers is .vch.
            Self::Cose => "vch",
        }
    }

    /// A short name: `cms`, `jws` or `cose`.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Cms => "cms",
            Self::Jws => "jws",
            Self::Cose => "cose",
        }
    }

    /// Reads a media type; case and parameters do not matter (VOUCHER-8.3-01).
    ///
    /// # Errors
    /// If it is not one of a voucher.
    pub fn from_media_type(
        media_type: &str,
        tolerances: &Tolerances,
    ) -> Result<(Self, Option<Oddity>), Error> {
        let essence = media_type.split(';').next().unwrap_or_default().trim();
        let essence = essence.to_ascii_lowercase();
        for envelope in Self::ALL {
            if essence == envelope.media_type() {
                return Ok((envelope, None));
            }
        }
        let old = match essence.as_str() {
            "application/voucherrequest-cms+json"
            | "application/voucher-request-cms+json"
            | "application/pkcs7-mime"
            | "application/cms" => Some(Self::Cms),
            "application/voucher-request-jws+json"
            | "application/jose+json"
            | "application/voucher+jose" => Some(Self::Jws),
            _ => None,
        };
        let old_cose = matches!(essence.as_str(), OLD_COSE_MEDIA_TYPE | "application/cose");
        match old {
            None if old_cose && tolerances.old_cose_media_type => Ok((
                Self::Cose,
                Some(Oddity::new("old-cose-media-type", essence)),
            )),
            Some(envelope) if tolerances.old_media_types => {
                Ok((envelope, Some(Oddity::new("old-media-types", essence))))
            }
            _ => {
                let detail = format!("media type {}", crate::json::shown(&essence));
                Err(Error::new(Document::Request, Fault::WrongMediaType, detail))
            }
        }
    }
}

/// A parsed envelope with its payload. What it says is not believed before a verification of
/// [`crate::verify`]; the functions that open one return it as [`Unverified`].
#[derive(Clone, Debug)]
pub struct Signed {
    envelope: Envelope,
    bytes: Vec<u8>,
    parsed: Parsed,
    oddities: Vec<Oddity>,
}

#[derive(Clone, Debug)]
enum Parsed {
    Cms(Box<SignedData>),
    Jws(Box<Jws>),
    Cose(Box<Sign1>),
}

impl Signed {
    /// How it is signed.
    #[must_use]
    pub fn envelope(&self) -> Envelope {
        self.envelope
    }

    /// The artefact itself, text armour taken off.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// The JSON or CBOR octets inside; none when the CMS is detached.
    #[must_use]
    pub fn payload(&self) -> Option<&[u8]> {
        match &self.parsed {
            Parsed::Cms(cms) => cms.content(),
            Parsed::Jws(jws) => Some(jws.payload()),
            Parsed::Cose(cose) => Some(cose.payload()),
        }
    }

    /// The certificates that came along.
    #[must_use]
    pub fn certificates(&self) -> &[Certificate] {
        match &self.parsed {
            Parsed::Cms(cms) => cms.certificates(),
            Parsed::Jws(jws) => jws.certificates(0),
            Parsed::Cose(cose) => cose.certificates(),
        }
    }

    /// How many signatures there are.
    #[must_use]
    pub fn signer_count(&self) -> usize {
        match &self.parsed {
            Parsed::Cms(cms) => cms.signer_count(),
            Parsed::Jws(jws) => jws.signer_count(),
            Parsed::Cose(_) => 1,
        }
    }

    /// The certificate that the (first) signature names, if it came along. In an unordered bag it
    /// is the one whose key verifies the signature.
    #[must_use]
    pub fn signer_certificate(&self) -> Option<Certificate> {
        match &self.parsed {
            Parsed::Cms(cms) => cms.signer_certificate(0, &[]),
            Parsed::Jws(jws) => jws.certificates(0).first().cloned(),
            Parsed::Cose(cose) if cose.has_chain() => cose.certificates().first().cloned(),
            Parsed::Cose(cose) => {
                let mut bag = cose.certificates().iter();
                bag.find(|one| cose.verify_with_key(one.public_key()).is_ok())
                    .cloned()
            }
        }
    }

    /// The CMS structure, when it is one.
    #[must_use]
    pub fn cms(&self) -> Option<&SignedData> {
        match &self.parsed {
            Parsed::Cms(cms) => Some(cms),
            Parsed::Jws(_) | Parsed::Cose(_) => None,
        }
    }

    /// The JWS structure, when it is one.
    #[must_use]
    pub fn jws(&self) -> Option<&Jws> {
        match &self.parsed {
            Parsed::Jws(jws) => Some(jws),
            Parsed::Cms(_) | Parsed::Cose(_) => None,
        }
    }

    /// The COSE structure, when it is one.
    #[must_use]
    pub fn cose(&self) -> Option<&Sign1> {
        match &self.parsed {
            Parsed::Cose(cose) => Some(cose),
            Parsed::Cms(_) | Parsed::Jws(_) => None,
        }
    }

    /// What was odd about the encoding.
    #[must_use]
    pub fn oddities(&self) -> &[Oddity] {
        &self.oddities
    }

    /// The same with what was odd about the signature.
    #[must_use]
    pub fn all_oddities(&self, signer: &VerifiedSigner) -> Vec<Oddity> {
        let mut oddities = self.oddities.clone();
        for oddity in signer.oddities().iter().map(oddity_of_envelope) {
            if !oddities.contains(&oddity) {
                oddities.push(oddity);
            }
        }
        oddities
    }

    /// Checks the signature against the certificate it names: mathematics, not trust. `known`
    /// is where that certificate may be found if it did not come along.
    ///
    /// # Errors
    /// Why it does not hold.
    pub fn check_signature(
        &self,
        tolerances: &Tolerances,
        known: &[Certificate],
    ) -> Result<VerifiedSigner, pki::Error> {
        match &self.parsed {
            Parsed::Cms(cms) => cms.verify(&cms_policy(tolerances), known),
            Parsed::Jws(jws) => jws.verify(&jws_policy(tolerances), known),
            Parsed::Cose(cose) => cose.verify(&cose_policy(tolerances), known),
        }
    }

    /// Checks the signature of COSE, where the signer's certificate need not travel and what
    /// travels need not be the signer's, against those that are known to be possible. Another
    /// envelope is checked as by [`Signed::check_signature`].
    ///
    /// # Errors
    /// Why it does not hold.
    pub fn check_signature_by(
        &self,
        tolerances: &Tolerances,
        signers: &[Certificate],
    ) -> Result<VerifiedSigner, pki::Error> {
        let Parsed::Cose(cose) = &self.parsed else {
            return self.check_signature(tolerances, signers);
        };
        let policy = cose_policy(tolerances);
        let mut reason = pki::Error::CoseSignerCertificateMissing;
        for signer in signers {
            match cose.verify_by(&policy, signer) {
                Ok(signer) => return Ok(signer),
                // A key of another kind says nothing about the signature, when there is another.
                Err(pki::Error::AlgorithmKeyMismatch { .. }) if signers.len() > 1 => {}
                Err(error) => reason = error,
            }
        }
        Err(reason)
    }
}

fn cose_policy(tolerances: &Tolerances) -> CosePolicy {
    CosePolicy {
        allow_untagged: tolerances.cose_untagged,
        allow_array_of_one: tolerances.cose_array_of_one,
    }
}

fn cms_policy(tolerances: &Tolerances) -> CmsPolicy {
    // VOUCHER-5.4-02: eContentType is id-ct-animaJSONVoucher.
    let mut policy = CmsPolicy::strict(ID_CT_ANIMA_JSON_VOUCHER);
    policy.allow_id_data = tolerances.id_data;
    if defects::seeded!("voucher-any-content-type") {
        policy.content_type = None;
    }
    policy.allow_ber = tolerances.ber;
    policy.allow_unsorted_signed_attributes = tolerances.ber;
    policy.allow_missing_pss_parameters = tolerances.ber;
    policy.allow_missing_signed_attributes =
        tolerances.no_signed_attributes || defects::seeded!("cms-accepts-no-signed-attributes");
    policy.allow_legacy_algorithms = tolerances.sha1 || defects::seeded!("cms-accepts-sha1");
    policy.allow_trailing_data =
        tolerances.trailing_bytes || defects::seeded!("cms-accepts-trailing-octets");
    policy.several_signers = SeveralSigners::Refuse;
    policy
}

fn jws_policy(tolerances: &Tolerances) -> JwsPolicy {
    // JWS-3.2-02: the typ parameter, if present, MUST contain the value voucher-jws+json.
    let mut policy = JwsPolicy::strict(TYPE_VOUCHER);
    policy.allow_other_serialization =
        tolerances.jws_serialization || defects::seeded!("jws-accepts-other-serialisation");
    policy.allow_other_type = defects::seeded!("jws-accepts-other-type");
    policy.allow_base64_forms = tolerances.jws_base64;
    policy.allow_certificate_base64url = tolerances.jws_x5c_base64url;
    // JWS-3-03: several signatures are allowed; each has to verify, and the first is judged.
    policy.several_signers = SeveralSigners::All;
    policy
}

/// Opens an artefact. With no envelope given the encoding is guessed from the first octets.
///
/// # Errors
/// If it is none of CMS, JWS and COSE, malformed, or over a limit.
pub fn open(
    document: Document,
    bytes: &[u8],
    envelope: Option<Envelope>,
    tolerances: &Tolerances,
) -> Result<Unverified<Signed>, Error> {
    let fail = |fault, detail: String| Error::new(document, fault, detail);
    if bytes.len() > ARTIFACT_SIZE_MAX_BYTES {
        let detail = format!(
            "{} octets, the limit is {ARTIFACT_SIZE_MAX_BYTES}",
            bytes.len()
        );
        return Err(fail(Fault::TooLarge, detail));
    }
    let mut oddities = Vec::new();
    let bytes = match disarm(bytes) {
        None => bytes.to_vec(),
        Some((armour, inner)) => {
            if !(tolerances.text_armour || defects::seeded!("voucher-accepts-base64")) {
                return Err(fail(
                    Fault::NotBinary,
                    format!("{armour} where binary belongs"),
                ));
            }
            oddities.push(Oddity::new("text-armour", armour));
            inner
        }
    };
    let bytes = match bytes.strip_prefix(b"\xef\xbb\xbf") {
        None => bytes,
        Some(_) if !tolerances.byte_order_mark => {
            let detail = "it begins with a byte order mark".to_owned();
            return Err(fail(Fault::ByteOrderMark, detail));
        }
        Some(rest) => {
            oddities.push(Oddity::new("byte-order-mark", "before the artefact"));
            rest.to_vec()
        }
    };
    let guessed = guess(&bytes);
    let envelope = match (envelope.or(guessed), guessed) {
        (Some(wanted), Some(guessed)) if wanted != guessed => {
            let detail = format!(
                "{} expected, it looks like {}",
                wanted.name(),
                guessed.name()
            );
            return Err(fail(Fault::WrongMediaType, detail));
        }
        (Some(envelope), _) => envelope,
        (None, _) => {
            let detail = "neither CMS nor JWS nor COSE".to_owned();
            return Err(fail(Fault::Unrecognised, detail));
        }
    };
    let parsed = match envelope {
        Envelope::Cms => Parsed::Cms(Box::new(SignedData::parse(&bytes)?)),
        Envelope::Jws => Parsed::Jws(Box::new(Jws::parse(&bytes)?)),
        Envelope::Cose => Parsed::Cose(Box::new(Sign1::parse(&bytes)?)),
    };
    let odd: &[pki::Oddity] = match &parsed {
        Parsed::Cms(cms) => cms.oddities(),
        Parsed::Jws(jws) => jws.oddities(),
        Parsed::Cose(_) => &[],
    };
    oddities.extend(odd.iter().map(oddity_of_envelope));
    Ok(Unverified::new(Signed {
        envelope,
        bytes,
        parsed,
        oddities,
    }))
}

/// What is odd about the encoding of a CMS, or an error when that is not tolerated.
pub(crate) fn check_encoding(
    document: Document,
    odd: &[pki::Oddity],
    tolerances: &Tolerances,
) -> Result<Vec<Oddity>, Error> {
    for oddity in odd {
        let detail = match oddity {
            pki::Oddity::Ber if !tolerances.ber => "it is BER, not DER".to_owned(),
            pki::Oddity::TrailingData(octets) if !tolerances.trailing_bytes => {
                format!("{octets} octets come after it")
            }
            _ => continue,
        };
        return Err(Error::new(document, Fault::NotDer, detail));
    }
    Ok(odd.iter().map(oddity_of_envelope).collect())
}

pub(crate) fn oddity_of_envelope(oddity: &pki::Oddity) -> Oddity {
    let name = match oddity {
        pki::Oddity::IdData => "id-data",
        pki::Oddity::Ber | pki::Oddity::SignedAttributesNotDer => "ber",
        pki::Oddity::NoSignedAttributes => "no-signed-attributes",
        pki::Oddity::LegacyAlgorithm => "sha1",
        pki::Oddity::TrailingData(_) => "trailing-bytes",
        pki::Oddity::NotGeneralSerialization => "jws-serialization",
        pki::Oddity::Base64Form => "jws-base64",
        pki::Oddity::CertificateBase64Form => "jws-x5c-base64url",
        pki::Oddity::Untagged => "cose-untagged",
        pki::Oddity::ArrayOfOneCertificate => "cose-array-of-one",
        _ => "envelope",
    };
    Oddity::new(name, format!("{oddity:?}"))
}

fn guess(bytes: &[u8]) -> Option<Envelope> {
    let text = bytes.trim_ascii_start();
    match (bytes.first(), text.first()) {
        (Some(0x30), _) => Some(Envelope::Cms),
        (_, Some(b'{')) => Some(Envelope::Jws),
        // COSE_Sign1 is an array of four, tagged or not. Another tag or another count is told
        // apart by the parser.
        (Some(0xd0..=0xd2 | 0x84 | 0x9f), _) => Some(Envelope::Cose),
        (Some(0xd8), _) if bytes.get(1).is_some_and(|tag| (18..=98).contains(tag)) => {
            Some(Envelope::Cose)
        }
        // A compact JWS begins with base64url of `{"`.
        _ if text.starts_with(b"eyJ") && text.iter().filter(|byte| **byte == b'.').count() == 2 => {
            Some(Envelope::Jws)
        }
        _ => None,
    }
}

/// Takes base64 or PEM off, when that is what it is.
fn disarm(bytes: &[u8]) -> Option<(&'static str, Vec<u8>)> {
    let text = std::str::from_utf8(bytes).ok()?.trim();
    if let Some(rest) = text.strip_prefix("-----BEGIN ") {
        let (_, rest) = rest.split_once("-----")?;
        let (body, _) = rest.split_once("-----END ")?;
        return Some(("PEM", decode_base64_leniently(body)?));
    }
    // DER in base64 begins with M, JSON with e, COSE_Sign1 with 0 or h; a compact JWS has dots and
    // is no base64.
    if text.is_empty() || !text.starts_with(['M', 'e', '0', 'h']) {
        return None;
    }
    let inner = decode_base64_leniently(text)?;
    guess(&inner).is_some().then_some(("base64", inner))
}

/// Signs a voucher. It is linted first: what the standard wants of a voucher that is issued
/// goes beyond what a reader accepts.
///
/// # Errors
/// If a leaf is missing that an issued voucher must have, or signing fails.
pub fn sign_voucher(
    voucher: &Voucher,
    envelope: Envelope,
    identity: &Identity,
    now: OffsetDateTime,
) -> Result<Vec<u8>, Error> {
    let missing = |name: &str| {
        let detail = format!("an issued voucher must have {name}");
        Error::new(Document::Voucher, Fault::MissingMember, detail)
    };
    // VOUCHER-5.3-01: created-on is present in every voucher.
    if voucher.created_on.is_none() && !defects::seeded!("masa-no-created-on") {
        return Err(missing("created-on"));
    }
    // VOUCHER-5.3-02: assertion is present.
    if voucher.assertion.is_none() && !defects::seeded!("masa-no-assertion") {
        return Err(missing("assertion"));
    }
    let payload = voucher.to_payload(envelope);
    // CBR-126: The voucher sent to the registrar has an unprotected x5bag with the complete MASA
    // signing chain.
    sign(&payload, envelope, identity, &options(Some(now)))
}

/// Signs a pledge's voucher request: with the whole chain of the identity, but in COSE without
/// any certificate. A pledge without a clock gives no signing time.
///
/// # Errors
/// If signing fails.
pub fn sign_request(
    request: &VoucherRequest,
    envelope: Envelope,
    identity: &Identity,
    now: Option<OffsetDateTime>,
) -> Result<Vec<u8>, Error> {
    let mut options = options(now);
    if envelope == Envelope::Cose {
        // CBR-122: The PVR has no x5bag or x5chain.
        options.include_certs = IncludeCertificates::None;
    }
    sign_request_with(request, envelope, identity, &options)
}

/// Signs a voucher request with a choice of certificates: a registrar includes just those
/// that it wants pinned, and in COSE (as an unordered bag) also those of the pledge.
///
/// # Errors
/// If signing fails.
pub fn sign_request_with(
    request: &VoucherRequest,
    envelope: Envelope,
    identity: &Identity,
    options: &SignOptions,
) -> Result<Vec<u8>, Error> {
    sign(&request.to_payload(envelope), envelope, identity, options)
}

fn options(signing_time: Option<OffsetDateTime>) -> SignOptions {
    // VOUCHER-5.4-05: the CMS contains all certificates up to and including the anchor, as
    // far as the identity has them.
    SignOptions {
        signing_time,
        include_certs: IncludeCertificates::Chain,
        ..SignOptions::default()
    }
}

fn sign(
    payload: &[u8],
    envelope: Envelope,
    identity: &Identity,
    options: &SignOptions,
) -> Result<Vec<u8>, Error> {
    Ok(match envelope {
        Envelope::Cms if defects::seeded!("voucher-signs-id-data") => {
            cms::sign(payload, cms::ID_DATA, identity, options)?
        }
        Envelope::Cms => cms::sign(payload, ID_CT_ANIMA_JSON_VOUCHER, identity, options)?,
        Envelope::Jws if defects::seeded!("jws-signs-other-type") => {
            jws::sign(payload, Some("JWT"), identity, options)?
        }
        Envelope::Jws => jws::sign(payload, Some(TYPE_VOUCHER), identity, options)?,
        Envelope::Cose => {
            // The bag has the chain of the identity that signs, so what is not wanted in it is
            // taken from that.
            let mut identity = identity.clone();
            if options.include_certs != IncludeCertificates::Chain {
                identity.chain.truncate(1);
            }
            let none = options.include_certs == IncludeCertificates::None;
            let certificates = if none && options.extra_certs.is_empty() {
                CoseCertificates::None
            } else {
                CoseCertificates::Bag(options.extra_certs.clone())
            };
            let options = CoseOptions {
                certificates,
                key_id: None,
            };
            cose::sign(payload, &identity, &options)?
        }
    })
}
