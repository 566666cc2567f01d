//! The data model of
//! [RFC 8572 §6.3](https://www.rfc-editor.org/rfc/rfc8572.html#section-6.3) as types.

/// One of the two kinds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ConveyedInformation {
    /// Where to go instead.
    Redirect(RedirectInformation),
    /// What to run and how to be configured.
    Onboarding(OnboardingInformation),
}

/// Other bootstrap servers, in the order to try them
/// ([RFC 8572 §2.1](https://www.rfc-editor.org/rfc/rfc8572.html#section-2.1)).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RedirectInformation {
    /// At least one; addresses are unique.
    pub bootstrap_servers: Vec<BootstrapServer>,
}

/// One bootstrap server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BootstrapServer {
    /// A host name or an IP address, never a URI.
    pub address: String,
    /// The port; 443 when absent.
    pub port: Option<u16>,
    /// The chain that authenticates the server, as a degenerate CMS SignedData;
    /// [`Self::anchor`] reads it.
    pub trust_anchor: Option<Vec<u8>>,
}

/// What a device runs and how it is configured
/// ([RFC 8572 §2.2](https://www.rfc-editor.org/rfc/rfc8572.html#section-2.2)).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct OnboardingInformation {
    /// The image that the device has to run.
    pub boot_image: Option<BootImage>,
    /// Run before the configuration.
    pub pre_configuration_script: Option<Vec<u8>>,
    /// What to do with the configuration; both or neither are there.
    pub configuration_handling: Option<ConfigurationHandling>,
    /// The configuration, in an encoding of the vendor's.
    pub configuration: Option<Vec<u8>>,
    /// Run after the configuration.
    pub post_configuration_script: Option<Vec<u8>>,
}

/// The criteria for the boot image, and where to get it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct BootImage {
    /// The operating system's name that the device must be running.
    pub os_name: Option<String>,
    /// Its version.
    pub os_version: Option<String>,
    /// Where the same image can be had, in the order to try.
    pub download_uris: Vec<String>,
    /// What the image is verified with, one for each algorithm. Only where a tolerance allows
    /// it, one algorithm stands several times, and then entry n is for URI n.
    pub image_verifications: Vec<ImageVerification>,
}

/// A hash over the image file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ImageVerification {
    /// The algorithm.
    pub algorithm: HashAlgorithm,
    /// The hash.
    pub value: Vec<u8>,
}

/// The identities derived from `hash-algorithm`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum HashAlgorithm {
    /// SHA-256.
    Sha256,
}

impl HashAlgorithm {
    /// The identity's name, without its module.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Sha256 => "sha-256",
        }
    }

    /// How many octets a hash has.
    #[must_use]
    pub fn length_bytes(self) -> usize {
        match self {
            Self::Sha256 => 32,
        }
    }
}

/// What a device does with its configuration.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ConfigurationHandling {
    /// Merge it into the running datastore.
    Merge,
    /// Replace the running datastore with it.
    Replace,
}

impl ConfigurationHandling {
    /// The YANG name.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Merge => "merge",
            Self::Replace => "replace",
        }
    }

    /// Reads the YANG name.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        [Self::Merge, Self::Replace]
            .into_iter()
            .find(|handling| handling.as_str() == name)
    }
}
