//! The list that a manufacturer's portal wants: serial numbers, and the certificate to pin.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use pki::Certificate;
use serde::Serialize;
use store::Store;
use time::OffsetDateTime;

use super::device::{DeviceFilter, PAGE, list_devices};
use crate::Error;

/// Devices in one list.
const DEVICES_MAX: usize = 1_000_000;

/// How the certificate to pin is written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum PinForm {
    /// Base64 of DER in one line, as a voucher has it.
    #[default]
    Base64,
    /// PEM.
    Pem,
    /// SHA-256 of DER in hex, for portals that know the certificate.
    Sha256,
}

impl PinForm {
    /// The certificate in this form.
    #[must_use]
    pub fn write(self, certificate: &Certificate) -> String {
        match self {
            Self::Base64 => BASE64.encode(certificate.der()),
            Self::Pem => certificate.to_pem(),
            Self::Sha256 => hex::encode(certificate.sha256()),
        }
    }
}

/// A device for which a voucher is wanted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Wanted {
    /// Its vendor.
    pub vendor: String,
    /// Its serial number.
    pub serial: String,
    /// What it is.
    pub hw_model: String,
}

/// The list.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct RequestList {
    /// The certificate to pin, in the form that was asked for.
    pub pinned_domain_cert: String,
    /// Its subject.
    pub pinned_subject: String,
    /// SHA-256 of it, in hex.
    pub pinned_sha256: String,
    /// When it ends: no voucher lives longer.
    #[serde(with = "time::serde::rfc3339")]
    pub pinned_not_after: OffsetDateTime,
    /// The devices.
    pub devices: Vec<Wanted>,
}

/// Makes the list of the devices that the filter lets through.
///
/// # Errors
/// What the database said, or there are too many.
pub async fn request_list(
    store: &Store,
    mut filter: DeviceFilter,
    pin: &Certificate,
    form: PinForm,
) -> Result<RequestList, Error> {
    let mut devices = Vec::new();
    let mut snapshot = store.snapshot().await?;
    filter.limit = PAGE;
    loop {
        let page = list_devices(&mut snapshot, &filter).await?;
        let Some(last) = page.last() else { break };
        filter.after = last.id;
        devices.extend(page.into_iter().map(|device| Wanted {
            vendor: device.vendor,
            serial: device.serial,
            hw_model: device.hw_model.unwrap_or_default(),
        }));
        if devices.len() > DEVICES_MAX {
            return Err(Error::Usage(format!(
                "more than {DEVICES_MAX} devices: name a vendor or a group"
            )));
        }
    }
    Ok(RequestList {
        pinned_domain_cert: form.write(pin),
        pinned_subject: pin.subject(),
        pinned_sha256: hex::encode(pin.sha256()),
        pinned_not_after: pin.not_after(),
        devices,
    })
}

impl RequestList {
    /// The list as CSV: one row for each device, with the certificate in each, because portals
    /// read row by row.
    ///
    /// # Errors
    /// A value cannot be written.
    pub fn to_csv(&self) -> Result<Vec<u8>, Error> {
        let wrong = |error: csv::Error| Error::Usage(error.to_string());
        let mut writer = csv::Writer::from_writer(Vec::new());
        writer
            .write_record(["serial", "vendor", "product", "pinned-domain-cert"])
            .map_err(wrong)?;
        for device in &self.devices {
            writer
                .write_record([
                    &device.serial,
                    &device.vendor,
                    &device.hw_model,
                    &self.pinned_domain_cert,
                ])
                .map_err(wrong)?;
        }
        writer
            .into_inner()
            .map_err(|error| Error::Usage(error.to_string()))
    }
}
