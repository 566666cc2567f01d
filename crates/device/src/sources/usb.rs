//! Removable storage: a folder where the stick is mounted.

use std::{
    collections::VecDeque,
    fs::{self, File},
    io::{ErrorKind, Read},
    path::{Path, PathBuf},
};

use artifacts::bundle::BootstrappingData;
use pki::Coded;
use sztp::usb::{ARTEFACT_MAX_BYTES, Artefact, Layout};

use crate::sztp::{Finding, Found, Next, Source, SourceError};

/// The artefacts of one device on a stick.
///
/// A stick comes from anybody. So nothing on it is followed elsewhere (no symbolic link is), only
/// plain files are opened, and no more is read than an artefact can have.
#[derive(Debug)]
pub struct UsbSource {
    root: PathBuf,
    layouts: Vec<Layout>,
    serial: String,
    left: VecDeque<Layout>,
}

impl UsbSource {
    /// The stick that is mounted at a folder, for the device with a serial number. The layouts
    /// are looked for in order.
    #[must_use]
    pub fn new(root: impl Into<PathBuf>, layouts: Vec<Layout>, serial: &str) -> Self {
        Self {
            root: root.into(),
            left: layouts.iter().cloned().collect(),
            layouts,
            serial: serial.to_owned(),
        }
    }

    /// The artefacts in one layout, if there are any.
    fn look(&self, layout: &Layout) -> Result<Option<Finding>, SourceError> {
        // A serial number that this layout has no name for is not on the stick.
        let Ok(folder) = layout.folder(&self.serial) else {
            return Ok(None);
        };
        let read = |artefact| self.artefact(layout, artefact);
        let conveyed_information = read(Artefact::ConveyedInformation)?;
        let owner_certificate = read(Artefact::OwnerCertificate)?;
        let ownership_voucher = read(Artefact::OwnershipVoucher)?;
        let Some(conveyed_information) = conveyed_information else {
            if owner_certificate.is_some() || ownership_voucher.is_some() {
                return Err(SourceError::new(
                    "usb.incomplete",
                    format!("{}: there is no conveyed information", folder.display()),
                ));
            }
            return Ok(None);
        };
        Ok(Some(Finding {
            name: self.root.join(folder).display().to_string(),
            found: Found::Data(BootstrappingData {
                conveyed_information,
                owner_certificate,
                ownership_voucher,
            }),
        }))
    }

    fn artefact(
        &self,
        layout: &Layout,
        artefact: Artefact,
    ) -> Result<Option<Vec<u8>>, SourceError> {
        let candidates = layout
            .candidates(&self.serial, artefact)
            .map_err(|error| SourceError::new(error.code(), error.to_string()))?;
        for path in candidates {
            if let Some(content) = read_below(&self.root, &path)? {
                return Ok(Some(content));
            }
        }
        Ok(None)
    }
}

impl Source for UsbSource {
    fn name(&self) -> &str {
        "usb"
    }

    fn next(&mut self) -> Next<'_> {
        Box::pin(async move {
            while let Some(layout) = self.left.pop_front() {
                if let Some(finding) = self.look(&layout)? {
                    return Ok(Some(finding));
                }
            }
            Ok(None)
        })
    }

    fn rewind(&mut self) {
        self.left = self.layouts.iter().cloned().collect();
    }
}

/// The content of a plain file below a folder; nothing where it is not there.
fn read_below(root: &Path, path: &Path) -> Result<Option<Vec<u8>>, SourceError> {
    let fail = |reason: &str| {
        SourceError::new(
            "usb.unreadable",
            format!("{}: {reason}", root.join(path).display()),
        )
    };
    let mut at = root.to_path_buf();
    let mut size = 0;
    let mut parts = path.components().peekable();
    while let Some(part) = parts.next() {
        at.push(part);
        let about = match fs::symlink_metadata(&at) {
            Ok(about) => about,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(fail(&error.to_string())),
        };
        let is_last = parts.peek().is_none();
        if is_last && !about.is_file() {
            return Err(fail("this is no plain file"));
        }
        if !is_last && !about.is_dir() {
            return Err(fail("a folder on the way is none"));
        }
        size = about.len();
    }
    if size > ARTEFACT_MAX_BYTES {
        return Err(fail("the file is larger than any artefact"));
    }
    let mut content = Vec::new();
    File::open(&at)
        .and_then(|file| file.take(ARTEFACT_MAX_BYTES).read_to_end(&mut content))
        .map_err(|error| fail(&error.to_string()))?;
    Ok(Some(content))
}
