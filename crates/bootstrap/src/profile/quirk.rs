//! The peculiarities that a profile can name.

use serde::{Deserialize, Serialize};

/// Makes the enum, its words, its meanings and its list from one table, so that none is forgotten.
macro_rules! quirks {
    ($($(#[$meta:meta])* $variant:ident = $word:literal, $meaning:literal, $breaks:expr;)+) => {
        /// A named departure from the model.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Deserialize, Serialize)]
        #[serde(rename_all = "kebab-case")]
        pub enum Quirk {
            $(#[doc = $meaning] $variant,)+
        }

        impl Quirk {
            /// All of them.
            pub const ALL: &[Self] = &[$(Self::$variant,)+];

            /// The word in profile files, lists and logs.
            #[must_use]
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $word,)+ }
            }

            /// What the server does while it is on.
            #[must_use]
            pub const fn meaning(self) -> &'static str {
                match self { $(Self::$variant => $meaning,)+ }
            }

            /// The rule that is broken while it is on. `None`: the standards allow what it does.
            #[must_use]
            pub const fn breaks(self) -> Option<&'static str> {
                match self { $(Self::$variant => $breaks,)+ }
            }
        }
    };
}

quirks! {
    // What a reply looks like, and when it is given.
    AlwaysSigned = "always-signed",
        "Conveyed information is signed even when the device does not ask for it, redirect information too, with owner certificate and voucher.",
        None;
    BasicAuthentication = "basic-authentication",
        "User name and password by HTTP Basic authenticate the device, alone or beside its certificate.",
        Some("RFC 8572 section 9.6 warns of passwords given to servers that are not trusted");
    ExplicitPort = "explicit-port",
        "Redirect information always says the port, 443 too.",
        None;
    HttpsImages = "https-images",
        "Every download-uri of a boot image must be https.",
        None;
    IdDataContentType = "id-data-content-type",
        "Signed conveyed information has the content type id-data in place of .42 or .43.",
        None;
    IgnoreRequestBody = "ignore-request-body",
        "A body of get-bootstrapping-data that cannot be read is taken for none.",
        Some("RFC 8040 section 7: a body that cannot be read is answered with 400");
    LineFeedsInReply = "line-feeds-in-reply",
        "Base64 in XML replies is broken into lines of 64 characters.",
        Some("RFC 7950 section 9.8: base64 as in RFC 4648 section 4, without line feeds");
    ModuleSerial = "module-serial",
        "The voucher is for another serial number than the certificate's: it is looked up among the aliases of the device.",
        None;
    NamespaceCaseInReply = "namespace-case-in-reply",
        "The namespace of XML replies ends in ietf-SZTP-bootstrap-server.",
        Some("ietf-sztp-bootstrap-server: the namespace is in lower case");
    OmitOsNames = "omit-os-names",
        "A boot image is described without os-name and os-version.",
        None;
    OmitOwnerArtefacts = "omit-owner-artefacts",
        "Replies hold neither owner-certificate nor ownership-voucher.",
        None;
    OmitReportingLevel = "omit-reporting-level",
        "Replies hold no reporting-level.",
        None;
    PositionalImageVerification = "positional-image-verification",
        "One image-verification for each download-uri, in the same order, although the key repeats.",
        Some("ietf-sztp-conveyed-info: image-verification is a list with the key hash-algorithm");
    RedirectTrustAnchor = "redirect-trust-anchor",
        "Redirect information without a trust anchor is not given.",
        None;
    ReplaceOnly = "replace-only",
        "Configuration is given with the handling `replace`; `merge` is not given.",
        None;
    SilentProgress = "silent-progress",
        "A device that was given signed data over a connection it does not trust reports nothing: its silence is no sign of trouble.",
        None;
    SingleDownloadUri = "single-download-uri",
        "A boot image is described with its first download-uri only.",
        None;
    Unsigned = "unsigned",
        "Conveyed information is never signed. A device that asks for signed data is refused.",
        Some("RFC 8572 section 5.3: unsigned data is for devices that verify their server");
    WrappedConveyedInformation = "wrapped-conveyed-information",
        "Conveyed information in XML is wrapped into an element conveyed-information.",
        Some("ietf-sztp-conveyed-info: redirect-information and onboarding-information are the top elements");

    // How a request is read: each of these is the switch of `sztp::Leniency` with the same name.
    Base64Padding = "base64-padding",
        "Base64 in requests may lack its padding.",
        Some("RFC 7950 section 9.8: base64 as in RFC 4648 section 4");
    Base64TrailingBits = "base64-trailing-bits",
        "Base64 in requests may have unused last bits that are not zero.",
        Some("RFC 4648 section 3.5: pad bits are zero");
    Base64Url = "base64-url",
        "Base64url may stand where base64 belongs.",
        Some("RFC 7950 section 9.8: base64 as in RFC 4648 section 4");
    Base64WhiteSpace = "base64-white-space",
        "Base64 in requests may be broken into lines.",
        Some("RFC 7950 section 9.8: base64 as in RFC 4648 section 4, without line feeds");
    ByteOrderMark = "byte-order-mark",
        "A byte order mark may stand before JSON or XML.",
        Some("RFC 8259 section 8.1: no byte order mark is added");
    ContentTypeLegacy = "content-type-legacy",
        "application/yang.data+json and +xml (from before RFC 8040), application/json, application/xml and text/xml are understood.",
        Some("RFC 8040 section 5.2: another media type is answered with 415");
    ContentTypeMissing = "content-type-missing",
        "A body without Content-Type is read; its first character tells the encoding.",
        Some("RFC 8040 section 5.2: a client sends Content-Type with a body");
    EmptyContainers = "empty-containers",
        "Every progress report may hold empty ssh-host-keys and trust-anchor-certs.",
        Some("ietf-sztp-bootstrap-server: both exist only when the progress type is bootstrap-complete");
    EmptyNonce = "empty-nonce",
        "A nonce of no bytes is taken for no nonce.",
        Some("ietf-sztp-bootstrap-server: a nonce has 16 to 32 bytes");
    EmptyType = "empty-type",
        "true, null, \"\" or {} may stand for a leaf of type empty.",
        Some("RFC 7951 section 6.9: it is [null]");
    IdentityUnqualified = "identity-unqualified",
        "An identity may lack the name of its module.",
        Some("RFC 7951 section 6.8: an identity of another module is qualified");
    ListWithoutArray = "list-without-array",
        "A list with one entry may be written without an array.",
        Some("RFC 7951 section 5.4: a list is an array");
    NamesQualification = "names-qualification",
        "Member names may lack their module, or have it where it does not belong.",
        Some("RFC 7951 section 4: when a member name is qualified");
    NamespaceSpelling = "namespace-spelling",
        "The namespace of a request may have other capitals than the module's, or be missing.",
        Some("ietf-sztp-bootstrap-server: the namespace is in lower case");
    RpcWrapper = "rpc-wrapper",
        "The name of the RPC may stand where `input` belongs.",
        Some("RFC 8040 section 3.6.1: the body is an `input`");
    TrustAnchorNotCms = "trust-anchor-not-cms",
        "What a device sends as trust-anchor-cert may be anything; it is kept, marked, and never trusted.",
        Some("ietf-sztp-bootstrap-server: a trust-anchor-cert is a CMS signed-data");
    UnknownFormats = "unknown-formats",
        "csr-support may name formats that are none of the three.",
        Some("RFC 9646 section 2.3: p10, cmp and cmc");
    UnknownMembers = "unknown-members",
        "Members, elements and attributes that no module defines are left out.",
        Some("RFC 8040 section 7: unknown-element is an error");
}

impl Quirk {
    /// Whether it is about reading requests.
    #[must_use]
    pub fn reads(self) -> bool {
        sztp::Leniency::NAMES.contains(&self.as_str())
    }
}

impl std::fmt::Display for Quirk {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::Quirk;

    /// The word is written twice, once for serde.
    #[test]
    fn each_word_is_the_one_in_files() {
        for quirk in Quirk::ALL {
            let word = serde_json::to_value(quirk).unwrap();
            assert_eq!(word, quirk.as_str());
        }
    }
    /// Whatever the codec tolerates by name, a profile can turn on.
    #[test]
    fn each_tolerance_of_the_codec_is_a_quirk_that_breaks_a_rule() {
        for name in sztp::Leniency::NAMES {
            let quirk = Quirk::ALL.iter().find(|quirk| quirk.as_str() == *name);
            assert!(
                quirk.is_some_and(|quirk| quirk.breaks().is_some()),
                "{name}"
            );
        }
    }
}
