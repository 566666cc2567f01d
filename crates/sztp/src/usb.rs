//! Layouts of removable storage
//! ([RFC 8572 §4.1](https://www.rfc-editor.org/rfc/rfc8572.html#section-4.1)): which file of a
//! stick holds which artefact of which device.
//!
//! RFC 8572 fixes neither folders nor names. It asks for a convention that keeps several devices
//! and several manufacturers apart, so the general layout is
//!
//! ```text
//! sztp/<vendor>/<serial>/conveyed-information.cms
//!                        owner-certificate.cms
//!                        ownership-voucher.vcj
//! sztp/<vendor>/images/<file>
//! ```
//!
//! and the other is the one that Cisco IOS-XR reads, `EN9/<serial>/bootstrapping-data/…`.
//!
//! Paths are relative to the root of the filesystem, made of plain names only, and the same
//! stick works where names have no case (FAT): a serial number becomes a name by a rule that
//! loses nothing, and two that would share a folder are refused together.

use std::collections::BTreeMap;
use std::path::{Component, Path, PathBuf};

use pki::{Blame, Coded};

/// Longest name of a folder or file, in octets: what FAT, exFAT and ext4 take.
pub const NAME_MAX_BYTES: usize = 255;
/// Largest artefact that a device reads from a stick.
pub const ARTEFACT_MAX_BYTES: u64 = 16 * 1024 * 1024;

/// The folder of the general layout.
const GENERAL: &str = "sztp";
/// The folder of boot images in the general layout; no serial number becomes this name.
const IMAGES: &str = "images";
/// The folders of IOS-XR's layout.
const IOS_XR: &str = "EN9";
const IOS_XR_DATA: &str = "bootstrapping-data";

/// Why something has no place on a stick.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// An artefact is not the binary one. The caller's fault.
    #[error("{0} has to be the binary (DER) artefact, not text")]
    NotBinary(&'static str),
    /// Two serial numbers would share a folder on a filesystem whose names have no case. The
    /// caller's fault.
    #[error("the serial numbers {0:?} and {1:?} would share a folder")]
    Collision(String, String),
    /// Signed data without its owner certificate or voucher, or the other way round. The
    /// caller's fault.
    #[error("owner certificate and ownership voucher go together or are both absent")]
    Incomplete,
    /// A name of a vendor, image or device makes no name of a folder or file. The caller's
    /// fault.
    #[error("{name:?} cannot be a name on a stick: {reason}")]
    Name {
        /// The name.
        name: String,
        /// Why.
        reason: &'static str,
    },
}

impl Coded for Error {
    fn code(&self) -> &'static str {
        match self {
            Self::NotBinary(_) => "usb.not-binary",
            Self::Collision(..) => "usb.collision",
            Self::Incomplete => "usb.incomplete",
            Self::Name { .. } => "usb.name",
        }
    }

    fn blame(&self) -> Blame {
        Blame::Caller
    }
}

/// A file of a device on a stick.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Artefact {
    /// The conveyed information.
    ConveyedInformation,
    /// The owner certificate.
    OwnerCertificate,
    /// The ownership voucher.
    OwnershipVoucher,
    /// IOS-XR's signed list of what to do besides.
    Actions,
}

impl Artefact {
    /// The three artefacts of RFC 8572.
    pub const STANDARD: [Self; 3] = [
        Self::ConveyedInformation,
        Self::OwnerCertificate,
        Self::OwnershipVoucher,
    ];

    /// The names under which it is looked for, the one that is written first.
    #[must_use]
    pub fn names(self) -> &'static [&'static str] {
        match self {
            Self::ConveyedInformation => &["conveyed-information.cms"],
            Self::OwnerCertificate => &["owner-certificate.cms"],
            Self::OwnershipVoucher => &["ownership-voucher.vcj", "ownership-voucher.cms"],
            Self::Actions => &["ztp_actions.cms"],
        }
    }

    fn file_name(self) -> &'static str {
        match self {
            Self::ConveyedInformation => "conveyed-information.cms",
            Self::OwnerCertificate => "owner-certificate.cms",
            Self::OwnershipVoucher => "ownership-voucher.vcj",
            Self::Actions => "ztp_actions.cms",
        }
    }
}

/// What stands where on a stick.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Layout {
    /// `sztp/<vendor>/<serial>/…`; see [`Layout::general`].
    General {
        /// The name of the vendor's folder.
        vendor: FolderName,
    },
    /// `EN9/<serial>/bootstrapping-data/…`, which Cisco IOS-XR reads since 7.3.2.
    IosXr,
}

/// A name that is safe as one component of a path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FolderName(String);

impl FolderName {
    /// The name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Layout {
    /// The general layout for the devices of a vendor.
    ///
    /// # Errors
    ///
    /// [`Error::Name`] for an empty or too long name.
    pub fn general(vendor: &str) -> Result<Self, Error> {
        Ok(Self::General {
            vendor: FolderName(encode_name(vendor)?),
        })
    }

    /// The folder of a device, relative to the root of the stick.
    ///
    /// # Errors
    ///
    /// [`Error::Name`] where the serial number makes no name: it is empty or too long, or, in
    /// IOS-XR's layout, would have to be written in another way than the device looks for it.
    pub fn folder(&self, serial: &str) -> Result<PathBuf, Error> {
        let mut name = encode_name(serial)?;
        match self {
            Self::General { vendor } => {
                // The folder of images is no device's.
                if name.eq_ignore_ascii_case(IMAGES) {
                    name = encode_first(&name);
                }
                Ok([GENERAL, vendor.as_str(), &name].iter().collect())
            }
            Self::IosXr if name != serial => Err(Error::Name {
                name: serial.to_owned(),
                reason: "IOS-XR looks for the serial number as it is, and no filesystem has this",
            }),
            Self::IosXr => Ok([IOS_XR, &name, IOS_XR_DATA].iter().collect()),
        }
    }

    /// The path of an artefact, relative to the root of the stick: where an owner writes it.
    ///
    /// # Errors
    ///
    /// As [`Self::folder`].
    pub fn path(&self, serial: &str, artefact: Artefact) -> Result<PathBuf, Error> {
        Ok(self.folder(serial)?.join(artefact.file_name()))
    }

    /// The paths at which a device looks for an artefact, in order.
    ///
    /// # Errors
    ///
    /// As [`Self::folder`].
    pub fn candidates(&self, serial: &str, artefact: Artefact) -> Result<Vec<PathBuf>, Error> {
        let folder = self.folder(serial)?;
        let names = artefact.names().iter();
        Ok(names.map(|name| folder.join(name)).collect())
    }

    /// Whose artefact a path of this layout is; nothing for any other path.
    #[must_use]
    pub fn recognise(&self, path: &Path) -> Option<(String, Artefact)> {
        let mut names = Vec::new();
        for component in path.components() {
            match component {
                Component::Normal(name) => names.push(name.to_str()?),
                _ => return None,
            }
        }
        let (serial, file) = match (self, names.as_slice()) {
            (Self::General { vendor }, [GENERAL, folder, serial, file])
                if *folder == vendor.as_str() && !serial.eq_ignore_ascii_case(IMAGES) =>
            {
                (serial, file)
            }
            (Self::IosXr, [IOS_XR, serial, IOS_XR_DATA, file]) => (serial, file),
            _ => return None,
        };
        let artefact = [
            Artefact::ConveyedInformation,
            Artefact::OwnerCertificate,
            Artefact::OwnershipVoucher,
            Artefact::Actions,
        ]
        .into_iter()
        .find(|artefact| artefact.names().contains(file))?;
        let serial = decode_name(serial)?;
        // Only what this layout would have written itself is of it.
        let folder = self.folder(&serial).ok()?;
        path.starts_with(&folder).then_some((serial, artefact))
    }

    /// The folders of many devices on one stick.
    ///
    /// # Errors
    ///
    /// [`Error::Collision`] for two serial numbers that share a folder where names have no case,
    /// and as [`Self::folder`].
    pub fn plan<'a>(
        &self,
        serials: impl IntoIterator<Item = &'a str>,
    ) -> Result<Vec<(&'a str, PathBuf)>, Error> {
        let mut taken: BTreeMap<String, &str> = BTreeMap::new();
        let mut out = Vec::new();
        for serial in serials {
            let folder = self.folder(serial)?;
            let without_case = folder.to_string_lossy().to_lowercase();
            if let Some(other) = taken.insert(without_case, serial) {
                return Err(Error::Collision(other.to_owned(), serial.to_owned()));
            }
            out.push((serial, folder));
        }
        Ok(out)
    }

    /// The files of one device: path and content.
    ///
    /// # Errors
    ///
    /// [`Error::Incomplete`] if only one of owner certificate and voucher is there,
    /// [`Error::NotBinary`] for an artefact that is not DER, and as [`Self::folder`].
    pub fn files<'a>(
        &self,
        serial: &str,
        conveyed_information: &'a [u8],
        owner_certificate: Option<&'a [u8]>,
        ownership_voucher: Option<&'a [u8]>,
    ) -> Result<Vec<(PathBuf, &'a [u8])>, Error> {
        if owner_certificate.is_some() != ownership_voucher.is_some() {
            return Err(Error::Incomplete);
        }
        let all = [
            (Artefact::ConveyedInformation, Some(conveyed_information)),
            (Artefact::OwnerCertificate, owner_certificate),
            (Artefact::OwnershipVoucher, ownership_voucher),
        ];
        let mut out = Vec::new();
        for (artefact, content) in all {
            let Some(content) = content else { continue };
            // SZTP-8572-4.1-03: Mapped to a file containing the binary artifact.
            if content.first() != Some(&0x30) {
                return Err(Error::NotBinary(artefact.file_name()));
            }
            out.push((self.path(serial, artefact)?, content));
        }
        Ok(out)
    }

    /// Where a boot image lies on the stick.
    ///
    /// # Errors
    ///
    /// [`Error::Name`] where the name of the image is no plain file name. It stands in a
    /// `download-uri`, so it is not rewritten.
    pub fn image_path(&self, image: &str) -> Result<PathBuf, Error> {
        if encode_name(image)? != image {
            return Err(Error::Name {
                name: image.to_owned(),
                reason: "an image has a name of letters, digits, dots, hyphens and underscores",
            });
        }
        match self {
            Self::General { vendor } => {
                Ok([GENERAL, vendor.as_str(), IMAGES, image].iter().collect())
            }
            Self::IosXr => Ok([IOS_XR, image].iter().collect()),
        }
    }

    /// The `download-uri` values by which a device finds an image on the stick. A device of the
    /// general layout takes `file:///` from the root of the stick; IOS-XR has the stick as
    /// `disk2:` or `disk3:`, and wants the hash with each of both.
    ///
    /// # Errors
    ///
    /// As [`Self::image_path`].
    pub fn image_uris(&self, image: &str) -> Result<Vec<String>, Error> {
        let path = self.image_path(image)?;
        let path = path.display();
        Ok(match self {
            Self::General { .. } => vec![format!("file:///{path}")],
            Self::IosXr => vec![
                format!("file:///disk2:/{path}"),
                format!("file:///disk3:/{path}"),
            ],
        })
    }
}

/// Names that DOS, and so Windows, takes for devices whatever their ending.
const RESERVED: &[&str] = &["aux", "con", "nul", "prn"];

/// A name of letters, digits, `-`, `_` and `.`; every other octet of the text is `%` and two
/// digits, so that different texts have different names. A dot at an end, which hides a file or
/// is lost on FAT, and the first letter of a name that DOS reserves are written so too.
fn encode_name(text: &str) -> Result<String, Error> {
    let refuse = |reason| {
        Err(Error::Name {
            name: text.chars().take(NAME_MAX_BYTES).collect(),
            reason,
        })
    };
    if text.is_empty() {
        return refuse("it is empty");
    }
    if text.len() > NAME_MAX_BYTES {
        return refuse("it is longer than 255 octets");
    }
    let mut name = String::new();
    for (at, octet) in text.bytes().enumerate() {
        let end = at == 0 || at + 1 == text.len();
        match octet {
            b'.' if end => push_encoded(&mut name, octet),
            b'-' | b'_' | b'.' => name.push(char::from(octet)),
            octet if octet.is_ascii_alphanumeric() => name.push(char::from(octet)),
            octet => push_encoded(&mut name, octet),
        }
    }
    if is_reserved(&name) {
        name = encode_first(&name);
    }
    if name.len() > NAME_MAX_BYTES {
        return refuse("it is longer than 255 octets as a name");
    }
    Ok(name)
}

fn push_encoded(name: &mut String, octet: u8) {
    name.push_str(&format!("%{octet:02X}"));
}

/// The name with its first octet written as digits.
fn encode_first(name: &str) -> String {
    let mut octets = name.bytes();
    let mut out = String::new();
    if let Some(first) = octets.next() {
        push_encoded(&mut out, first);
    }
    out.extend(octets.map(char::from));
    out
}

fn is_reserved(name: &str) -> bool {
    let stem = name.split('.').next().unwrap_or_default();
    let stem = stem.to_ascii_lowercase();
    let numbered = stem
        .strip_prefix("com")
        .or_else(|| stem.strip_prefix("lpt"))
        .is_some_and(|number| number.len() == 1 && number.bytes().all(|b| b.is_ascii_digit()));
    numbered || RESERVED.contains(&stem.as_str())
}

/// The text of a name.
fn decode_name(name: &str) -> Option<String> {
    let mut octets = Vec::new();
    let mut rest = name.as_bytes();
    while let [first, tail @ ..] = rest {
        if *first == b'%' {
            let (digits, tail) = tail.split_at_checked(2)?;
            octets.extend(hex::decode(digits).ok()?);
            rest = tail;
        } else {
            octets.push(*first);
            rest = tail;
        }
    }
    String::from_utf8(octets).ok()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const DER: &[u8] = &[0x30, 0x00];

    /// Requirements: SZTP-8572-4.1-05, SZTP-8572-4.1-06
    #[test]
    fn each_device_and_vendor_has_a_folder_of_its_own() {
        let acme = Layout::general("Acme Routers").unwrap();
        let other = Layout::general("Other").unwrap();
        let shown = |layout: &Layout, serial: &str| {
            let path = layout.path(serial, Artefact::OwnershipVoucher).unwrap();
            path.display().to_string()
        };
        let cases = [
            (
                shown(&acme, "SN-1"),
                "sztp/Acme%20Routers/SN-1/ownership-voucher.vcj",
            ),
            (
                shown(&other, "SN-1"),
                "sztp/Other/SN-1/ownership-voucher.vcj",
            ),
            (
                shown(&other, ".."),
                "sztp/Other/%2E%2E/ownership-voucher.vcj",
            ),
            (shown(&other, "."), "sztp/Other/%2E/ownership-voucher.vcj"),
            (
                shown(&other, "../../etc"),
                "sztp/Other/%2E.%2F..%2Fetc/ownership-voucher.vcj",
            ),
            (
                shown(&other, "a\\b:c"),
                "sztp/Other/a%5Cb%3Ac/ownership-voucher.vcj",
            ),
            (
                shown(&other, "con"),
                "sztp/Other/%63on/ownership-voucher.vcj",
            ),
            (
                shown(&other, "COM1.x"),
                "sztp/Other/%43OM1.x/ownership-voucher.vcj",
            ),
            (
                shown(&other, "%63on"),
                "sztp/Other/%2563on/ownership-voucher.vcj",
            ),
            (
                shown(&other, "images"),
                "sztp/Other/%69mages/ownership-voucher.vcj",
            ),
            (
                shown(&Layout::IosXr, "FOC2"),
                "EN9/FOC2/bootstrapping-data/ownership-voucher.vcj",
            ),
        ];
        for (got, want) in cases {
            assert_eq!(got, want);
        }
        assert!(matches!(
            Layout::IosXr.folder("a/b"),
            Err(Error::Name { .. })
        ));
        assert!(matches!(other.folder(""), Err(Error::Name { .. })));
        assert!(matches!(
            other.folder(&"x".repeat(256)),
            Err(Error::Name { .. })
        ));
        assert!(matches!(
            other.folder(&"/".repeat(100)),
            Err(Error::Name { .. })
        ));
    }

    #[test]
    fn serial_numbers_that_share_a_folder_on_fat_are_refused() {
        let layout = Layout::general("v").unwrap();
        assert_eq!(
            layout.plan(["SN1", "SN2", "sn1"]),
            Err(Error::Collision("SN1".to_owned(), "sn1".to_owned()))
        );
        let serials: Vec<String> = (0..5000).map(|n| format!("SN{n:05}")).collect();
        let plan = layout.plan(serials.iter().map(String::as_str)).unwrap();
        assert_eq!(plan.len(), 5000);
    }

    /// Requirements: SZTP-8572-4.1-03, SZTP-8572-3.5-01
    #[test]
    fn only_whole_sets_of_binary_artefacts_are_written() {
        let layout = Layout::IosXr;
        let three = layout.files("S", DER, Some(DER), Some(DER)).unwrap();
        let names: Vec<_> = three
            .iter()
            .map(|(path, _)| path.display().to_string())
            .collect();
        assert_eq!(
            names,
            [
                "EN9/S/bootstrapping-data/conveyed-information.cms",
                "EN9/S/bootstrapping-data/owner-certificate.cms",
                "EN9/S/bootstrapping-data/ownership-voucher.vcj",
            ]
        );
        assert_eq!(layout.files("S", DER, None, None).unwrap().len(), 1);
        assert_eq!(
            layout.files("S", DER, Some(DER), None),
            Err(Error::Incomplete)
        );
        assert_eq!(
            layout.files("S", b"MIIB", None, None),
            Err(Error::NotBinary("conveyed-information.cms"))
        );
    }

    #[test]
    fn images_have_plain_names_and_the_uris_that_devices_expect() {
        let general = Layout::general("v").unwrap();
        assert_eq!(
            general.image_uris("os-7.1.iso").unwrap(),
            ["file:///sztp/v/images/os-7.1.iso"]
        );
        assert_eq!(
            Layout::IosXr.image_uris("xr.iso").unwrap(),
            ["file:///disk2:/EN9/xr.iso", "file:///disk3:/EN9/xr.iso"]
        );
        for bad in ["../x", "a/b", "", ".", "a b"] {
            assert!(general.image_path(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn what_is_not_of_the_layout_is_not_recognised() {
        let layout = Layout::general("v").unwrap();
        let cases = [
            "sztp/v/SN/other.cms",
            "sztp/w/SN/conveyed-information.cms",
            "sztp/v/images/conveyed-information.cms",
            "sztp/v/../conveyed-information.cms",
            "/sztp/v/SN/conveyed-information.cms",
            "sztp/v/%zz/conveyed-information.cms",
            // Not as we would have written it, so it would be another name of the same device.
            "sztp/v/%53N/conveyed-information.cms",
            "EN9/SN/bootstrapping-data/conveyed-information.cms",
        ];
        for path in cases {
            assert_eq!(layout.recognise(Path::new(path)), None, "{path}");
        }
        let second = Path::new("sztp/v/SN/ownership-voucher.cms");
        assert_eq!(
            layout.recognise(second),
            Some(("SN".to_owned(), Artefact::OwnershipVoucher))
        );
    }

    proptest! {
        /// Requirements: SZTP-8572-4.1-05
        #[test]
        fn a_path_leads_back_to_its_serial_number_and_never_leaves_the_stick(
            serial in "\\PC{1,40}",
            vendor in "[ -~]{1,20}",
        ) {
            let layout = Layout::general(&vendor).unwrap();
            if let Ok(path) = layout.path(&serial, Artefact::OwnerCertificate) {
                prop_assert!(path.components().all(|part| matches!(part, Component::Normal(_))));
                prop_assert_eq!(path.components().count(), 4);
                prop_assert_eq!(
                    layout.recognise(&path),
                    Some((serial, Artefact::OwnerCertificate))
                );
            }
        }
    }
}
