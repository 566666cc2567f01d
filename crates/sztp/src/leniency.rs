//! Named switches for what known RFC 8572 clients and servers send differently from the
//! standards. All off is strict.

use std::collections::BTreeSet;

macro_rules! leniency {
    ($( $(#[$doc:meta])* $field:ident = $name:literal, $lenient:literal ),* $(,)?) => {
        /// Which departures from RFC 8040, RFC 7951 and the YANG modules are accepted.
        #[derive(Clone, Debug, Default, PartialEq, Eq)]
        #[non_exhaustive]
        pub struct Leniency { $( $(#[$doc])* pub $field: bool ),* }

        impl Leniency {
            /// The name of every switch, as device-type profiles spell it.
            pub const NAMES: &'static [&'static str] = &[$( $name ),*];

            /// Nothing is tolerated.
            #[must_use]
            pub fn strict() -> Self { Self::default() }

            /// Everything is tolerated that known peers need and that takes no protection away.
            #[must_use]
            pub fn lenient() -> Self { Self { $( $field: $lenient ),* } }

            /// Exactly the named switches; `lenient` stands for all of [`Leniency::lenient`].
            ///
            /// # Errors
            /// The first name that is not known.
            pub fn from_names<'a>(names: impl IntoIterator<Item = &'a str>) -> Result<Self, String> {
                let mut leniency = Self::strict();
                for name in names {
                    match name {
                        $( $name => leniency.$field = true, )*
                        "lenient" => leniency = leniency.union(&Self::lenient()),
                        unknown => return Err(unknown.to_owned()),
                    }
                }
                Ok(leniency)
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

leniency! {
    /// A byte order mark before JSON or XML.
    byte_order_mark = "byte-order-mark", true,
    /// Base64 with line feeds or blanks in it, as XML writers wrap it.
    base64_white_space = "base64-white-space", true,
    /// Base64 whose unused last bits are not zero, as every example of RFC 8572 has it.
    base64_trailing_bits = "base64-trailing-bits", true,
    /// Base64 without its padding.
    base64_padding = "base64-padding", true,
    /// Base64url where base64 belongs.
    base64_url = "base64-url", true,
    /// A body without Content-Type; its first character tells the encoding.
    content_type_missing = "content-type-missing", true,
    /// `application/yang.data+…` (printed in RFC 8572), `application/json`, `application/xml`
    /// and `text/xml` for a body.
    content_type_legacy = "content-type-legacy", true,
    /// An empty nonce, which is then taken for an absent one.
    empty_nonce = "empty-nonce", true,
    /// `ssh-host-keys` and `trust-anchor-certs` that hold nothing and stand with another
    /// progress type than bootstrap-complete.
    empty_containers = "empty-containers", true,
    /// true, null, "" or {} for a leaf of type empty.
    empty_type = "empty-type", true,
    /// An identity without the name of its module.
    identity_unqualified = "identity-unqualified", true,
    /// A leaf-list or list with one entry that is not in an array.
    list_without_array = "list-without-array", true,
    /// Member names without their module where it belongs, or with it where it does not.
    names_qualification = "names-qualification", true,
    /// A namespace with other capitals than the module's, or none at all.
    namespace_spelling = "namespace-spelling", true,
    /// The name of the RPC where `input` or `output` belongs, as NETCONF has it.
    rpc_wrapper = "rpc-wrapper", true,
    /// A trust-anchor-cert that is no CMS with certificates.
    trust_anchor_not_cms = "trust-anchor-not-cms", true,
    /// A request format in csr-support that is none of the three of RFC 9646.
    unknown_formats = "unknown-formats", true,
    /// Members, elements and attributes that no module defines.
    unknown_members = "unknown-members", true,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_round_trip_and_unknown_ones_are_refused() {
        let every = Leniency::from_names(Leniency::NAMES.iter().copied()).unwrap();
        assert_eq!(every.names().len(), Leniency::NAMES.len());
        assert!(Leniency::strict().names().is_empty());
        assert_eq!(
            Leniency::from_names(["lenient"]).unwrap(),
            Leniency::lenient()
        );
        assert_eq!(
            Leniency::from_names(["no-such-thing"]),
            Err("no-such-thing".to_owned())
        );
    }
}
