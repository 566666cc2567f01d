//! How values of other crates are written in stored states: as the names that the standards give
//! them, and bytes as base64.

use artifacts::{Assertion, Envelope};
use serde::{Deserialize, Deserializer, Serializer, de::Error};

/// An assertion by its YANG name.
pub(crate) mod assertion {
    use super::*;

    #[expect(
        clippy::trivially_copy_pass_by_ref,
        reason = "the signature is serde's"
    )]
    pub(crate) fn serialize<S: Serializer>(
        value: &Assertion,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(value.as_str())
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Assertion, D::Error> {
        let name = String::deserialize(deserializer)?;
        Assertion::from_name(&name).ok_or_else(|| D::Error::custom("unknown assertion"))
    }
}

/// An envelope by its media type.
pub(crate) mod envelope {
    use super::*;

    #[expect(
        clippy::trivially_copy_pass_by_ref,
        reason = "the signature is serde's"
    )]
    pub(crate) fn serialize<S: Serializer>(
        value: &Envelope,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(value.media_type())
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Envelope, D::Error> {
        let name = String::deserialize(deserializer)?;
        crate::media::envelope_of(&name).ok_or_else(|| D::Error::custom("unknown envelope"))
    }

    pub(crate) mod option {
        use super::*;

        #[expect(clippy::ref_option, reason = "the signature is serde's")]
        pub(crate) fn serialize<S: Serializer>(
            value: &Option<Envelope>,
            serializer: S,
        ) -> Result<S::Ok, S::Error> {
            match value {
                Some(value) => serializer.serialize_str(value.media_type()),
                None => serializer.serialize_none(),
            }
        }

        pub(crate) fn deserialize<'de, D: Deserializer<'de>>(
            deserializer: D,
        ) -> Result<Option<Envelope>, D::Error> {
            Option::<String>::deserialize(deserializer)?
                .map(|name| {
                    crate::media::envelope_of(&name)
                        .ok_or_else(|| D::Error::custom("unknown envelope"))
                })
                .transpose()
        }
    }
}

/// Bytes as base64 text.
pub(crate) mod bytes {
    use base64::{Engine, engine::general_purpose::STANDARD};

    use super::*;

    pub(crate) fn serialize<S: Serializer>(value: &[u8], serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&STANDARD.encode(value))
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Vec<u8>, D::Error> {
        STANDARD
            .decode(String::deserialize(deserializer)?)
            .map_err(D::Error::custom)
    }

    pub(crate) mod option {
        use super::*;

        #[expect(clippy::ref_option, reason = "the signature is serde's")]
        pub(crate) fn serialize<S: Serializer>(
            value: &Option<Vec<u8>>,
            serializer: S,
        ) -> Result<S::Ok, S::Error> {
            match value {
                Some(value) => super::serialize(value, serializer),
                None => serializer.serialize_none(),
            }
        }

        pub(crate) fn deserialize<'de, D: Deserializer<'de>>(
            deserializer: D,
        ) -> Result<Option<Vec<u8>>, D::Error> {
            Option::<String>::deserialize(deserializer)?
                .map(|text| STANDARD.decode(text).map_err(D::Error::custom))
                .transpose()
        }
    }

    pub(crate) mod list {
        use serde::ser::SerializeSeq;

        use super::*;

        pub(crate) fn serialize<S: Serializer>(
            values: &[Vec<u8>],
            serializer: S,
        ) -> Result<S::Ok, S::Error> {
            let mut list = serializer.serialize_seq(Some(values.len()))?;
            for value in values {
                list.serialize_element(&STANDARD.encode(value))?;
            }
            list.end()
        }

        pub(crate) fn deserialize<'de, D: Deserializer<'de>>(
            deserializer: D,
        ) -> Result<Vec<Vec<u8>>, D::Error> {
            Vec::<String>::deserialize(deserializer)?
                .into_iter()
                .map(|text| STANDARD.decode(text).map_err(D::Error::custom))
                .collect()
        }
    }
}
