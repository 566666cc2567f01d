//! Named switches for what known peers do differently from the standards.
//!
//! All off is strict. Each use is recorded as an [`Oddity`], so an operator sees which
//! device of which manufacturer needs which switch.

use std::collections::BTreeSet;

macro_rules! tolerances {
    ($( $(#[$doc:meta])* $field:ident = $name:literal, $lenient:literal ),* $(,)?) => {
        /// Which departures from the standards are accepted.
        #[derive(Clone, Debug, Default, PartialEq, Eq)]
        #[non_exhaustive]
        pub struct Tolerances { $( $(#[$doc])* pub $field: bool ),* }

        impl Tolerances {
            /// The name of every switch, as vendor profiles spell it.
            pub const NAMES: &'static [&'static str] = &[$( $name ),*];

            /// Nothing is tolerated.
            #[must_use]
            pub fn strict() -> Self { Self::default() }

            /// Everything is tolerated that known peers need and that takes no protection away.
            #[must_use]
            pub fn lenient() -> Self { Self { $( $field: $lenient ),* } }

            /// Exactly the named switches.
            ///
            /// # Errors
            /// The first name that is not known.
            pub fn from_names<'a>(names: impl IntoIterator<Item = &'a str>) -> Result<Self, String> {
                let mut tolerances = Self::strict();
                for name in names {
                    match name {
                        $( $name => tolerances.$field = true, )*
                        "lenient" => tolerances = tolerances.union(&Self::lenient()),
                        unknown => return Err(unknown.to_owned()),
                    }
                }
                Ok(tolerances)
            }

            /// The names of the switches that are on.
            #[must_use]
            pub fn names(&self) -> BTreeSet<&'static str> {
                let mut names = BTreeSet::new();
                $( if self.$field { names.insert($name); } )*
                names
            }

            /// What either of the two tolerates.
            #[must_use]
            pub fn union(&self, other: &Self) -> Self {
                Self { $( $field: self.$field || other.$field ),* }
            }
        }
    };
}

tolerances! {
    /// A binary leaf of conveyed information with left-over bits set in its base64.
    base64_non_canonical = "base64-non-canonical", true,
    /// A binary leaf of conveyed information with line feeds or blanks in its base64.
    base64_white_space = "base64-white-space", true,
    /// CMS that is BER but not DER (indefinite lengths, unsorted sets).
    ber = "ber", true,
    /// A binary leaf in base64url, without padding, or with white space in it.
    binary_base64url = "binary-base64url", true,
    /// A byte order mark before the JSON text.
    byte_order_mark = "byte-order-mark", true,
    /// Conveyed information within an element or member named conveyed-information.
    conveyed_wrapper = "conveyed-wrapper", true,
    /// COSE with an array of one certificate where the certificate itself belongs, as the examples
    /// of the drafts have it.
    cose_array_of_one = "cose-array-of-one", true,
    /// COSE without the tag that says it is COSE_Sign1.
    cose_untagged = "cose-untagged", true,
    /// An artefact that was encrypted as id-data instead of id-signedData.
    enveloped_as_data = "enveloped-as-data", true,
    /// A hash in plain hexadecimal, without colons.
    hash_without_colons = "hash-without-colons", true,
    /// CMS with eContentType id-data, as RFC 8995 appendix C and many stacks have it.
    id_data = "id-data", true,
    /// CMS with id-data and no signed attributes. Off in lenient mode: it opens the
    /// content/attributes confusion that rfc8366bis section 7.1 names.
    no_signed_attributes = "no-signed-attributes", false,
    /// idevid-issuer as the bare key identifier or as the SEQUENCE without its OCTET STRING.
    idevid_issuer_forms = "idevid-issuer-forms", true,
    /// A registrar's request without idevid-issuer, as RFC 8995 allowed.
    idevid_issuer_missing = "idevid-issuer-missing", true,
    /// JWS with padding or the standard alphabet where base64url without padding belongs.
    jws_base64 = "jws-base64", true,
    /// JWS in compact or flattened serialisation.
    jws_serialization = "jws-serialization", true,
    /// JWS with base64url in x5c.
    jws_x5c_base64url = "jws-x5c-base64url", true,
    /// last-renewal-date without expires-on; nothing processes it.
    last_renewal_without_expires_on = "last-renewal-without-expires-on", true,
    /// A voucher or an owner certificate beside unsigned information, which they say nothing about.
    loose_grouping = "loose-grouping", true,
    /// An XML namespace in other capitals than the module's.
    namespace_case = "namespace-case", true,
    /// nonce and expires-on in one voucher; both are then enforced.
    nonce_and_expires_on = "nonce-and-expires-on", true,
    /// A voucher signed with a certificate that is for TLS only. Off in lenient mode.
    masa_tls_certificate = "masa-tls-certificate", false,
    /// A nonce that came back in another base64 spelling of the same octets.
    nonce_reencoded = "nonce-reencoded", true,
    /// A nonce that is no base64 at all; its octets are then those of the text.
    nonce_text = "nonce-text", true,
    /// `application/voucher-cose+cbor`, the media type of COSE vouchers up to
    /// draft-ietf-anima-constrained-voucher-22, and `application/cose`.
    old_cose_media_type = "old-cose-media-type", true,
    /// The media types that early drafts used.
    old_media_types = "old-media-types", true,
    /// A PEM certificate where DER belongs.
    pem_certificate = "pem-certificate", true,
    /// A pledge's request that names the registrar but leaves assertion out.
    pledge_assertion_missing = "pledge-assertion-missing", true,
    /// proximity-registrar-cert in a registrar's request; it is ignored.
    registrar_proximity = "registrar-proximity", true,
    /// reason-context of telemetry as a text instead of a map; it stands under the key 0.
    reason_context_text = "reason-context-text", true,
    /// Signatures over SHA-1. Off in lenient mode.
    sha1 = "sha1", false,
    /// Telemetry member names in the old spelling with capitals.
    telemetry_case = "telemetry-case", true,
    /// Base64 or PEM text where the binary artefact belongs.
    text_armour = "text-armour", true,
    /// Top-level member names of drafts, and unknown members beside the right one.
    top_level_names = "top-level-names", true,
    /// Octets after the end of the artefact.
    trailing_bytes = "trailing-bytes", true,
    /// A trust anchor that is a bare certificate, or a chain without its root. Off in lenient
    /// mode: which certificate is meant is then a guess.
    trust_anchor_form = "trust-anchor-form", false,
    /// Nodes that the data model of conveyed information does not have; they are ignored.
    unknown_members = "unknown-members", true,
    /// One hash for each URI instead of one for each algorithm.
    verification_per_uri = "verification-per-uri", true,
    /// Booleans and numbers spelt as strings, null for absent.
    wrong_json_types = "wrong-json-types", true,
    /// Voucher data in XML.
    xml_voucher = "xml-voucher", true,
}

/// Something unusual that was accepted, or is worth a person's look.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Oddity {
    /// The name of the switch that let it pass, or of the observation.
    pub name: &'static str,
    /// Where and what.
    pub detail: String,
}

impl Oddity {
    pub(crate) fn new(name: &'static str, detail: impl Into<String>) -> Self {
        Self {
            name,
            detail: detail.into(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_round_trip_and_unknown_ones_are_refused() {
        let every = Tolerances::from_names(Tolerances::NAMES.iter().copied()).unwrap();
        assert_eq!(every.names().len(), Tolerances::NAMES.len());
        assert!(Tolerances::strict().names().is_empty());
        assert_eq!(
            Tolerances::from_names(["lenient"]).unwrap(),
            Tolerances::lenient()
        );
        assert!(!Tolerances::lenient().no_signed_attributes);
        assert_eq!(
            Tolerances::from_names(["no-such-thing"]),
            Err("no-such-thing".to_owned())
        );
    }
}
