//! `usher bootstrap usb export`: bootstrapping data for devices that have no network yet.

use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use artifacts::bundle::{BootstrappingData, DeviceContext, judge};
use artifacts::conveyed::{self, ConveyedInformation};
use artifacts::{Encoding, SerialNumber};
use aws_lc_rs::digest;
use clap::{Args, Subcommand, ValueEnum};
use daemon::Outcome;
use daemon::cli::{Progress, plain};
use pki::{Certificate, Coded as _, Identity};
use serde::Serialize;
use store::Store;
use sztp::usb::Layout;
use time::OffsetDateTime;

use super::devices::{FilterArguments, lock};
use super::preflight::{facts_of, profile_of};
use super::text::rfc3339;
use super::{Context, with_store};
use crate::content::Engine;
use crate::content::document::Digest;
use crate::profile::Profile;
use crate::register::{DeviceFilter, DeviceRow, file_name, find_device, list_devices, voucher_for};
use crate::vendor::Vendor;
use crate::{Config, Error};

/// Devices on one stick.
const DEVICES_MAX: usize = 100_000;

#[derive(Debug, Subcommand)]
pub(super) enum UsbCommand {
    /// Write the signed data of devices into a folder, or onto a stick that is mounted there.
    ///
    /// Each device's files are read again and judged as the device will before it counts as
    /// written.
    Export(ExportArguments),
}

#[derive(Debug, Args)]
pub(super) struct ExportArguments {
    /// Where the stick is mounted, or any folder.
    #[arg(long, value_name = "DIR")]
    dir: PathBuf,
    /// Serial numbers; without any, the devices that the filters let through.
    serials: Vec<String>,
    #[command(flatten)]
    filter: FilterArguments,
    /// What stands where.
    #[arg(long, value_enum, default_value = "usher")]
    layout: LayoutName,
    /// Put hosted images onto the stick too, and name those as the place of the image.
    #[arg(long)]
    images: bool,
    /// Encrypt to the devices: a folder with their certificates, SERIAL.pem.
    #[arg(long, value_name = "DIR")]
    encrypt: Option<PathBuf>,
    /// Encoding of the conveyed information, where the device's type does not fix it.
    #[arg(long, value_enum, default_value = "json")]
    encoding: EncodingName,
    /// Leave out devices that have no valid voucher or no content, instead of failing.
    #[arg(long)]
    partial: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum LayoutName {
    /// `sztp/VENDOR/SERIAL/…`, which `usher device` reads.
    Usher,
    /// `EN9/SERIAL/bootstrapping-data/…`, which Cisco IOS-XR reads.
    IosXr,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum EncodingName {
    Json,
    Xml,
}

pub(super) async fn run(context: &Context, command: &UsbCommand) -> Result<Outcome, Error> {
    match command {
        UsbCommand::Export(arguments) => export(context, arguments).await,
    }
}

/// What became of a device.
#[derive(Clone, Debug, Serialize)]
struct Written {
    vendor: String,
    serial: String,
    outcome: &'static str,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    files: Vec<PathBuf>,
    #[serde(skip_serializing_if = "Option::is_none")]
    voucher_expires: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    code: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    detail: Option<String>,
}

/// Everything that is the same for all devices.
struct Export<'a> {
    config: &'a Config,
    store: &'a Store,
    engine: Engine,
    owner: Arc<Identity>,
    vendors: Vec<Vendor>,
    /// Images on the stick that were read again.
    verified: Mutex<HashSet<PathBuf>>,
    arguments: &'a ExportArguments,
    now: OffsetDateTime,
}

async fn export(context: &Context, arguments: &ExportArguments) -> Result<Outcome, Error> {
    let now = context.clock.now();
    let filter = arguments.filter.filter(context);
    let written = with_store(context, async |config, store| {
        let owner = config.load_owner()?.ok_or_else(|| {
            Error::Usage(
                "a device trusts nothing on a stick but what is signed: [owner] is needed"
                    .to_owned(),
            )
        })?;
        let job = Export {
            config,
            store,
            engine: Engine::open(config, store)?,
            owner: owner.identity,
            vendors: super::vouchers::vendors_of(config, None)?,
            verified: Mutex::default(),
            arguments,
            now,
        };
        let devices = chosen(store, arguments, filter.clone()).await?;
        job.check_folders(&devices)?;
        let progress = Progress::new(context.format, devices.len() as u64, "devices");
        let mut written = Vec::with_capacity(devices.len());
        for device in &devices {
            written.push(job.device(device).await?);
            progress.add(1);
        }
        progress.finish();
        Ok(written)
    })
    .await?;
    let good = written
        .iter()
        .filter(|one| one.outcome == "written")
        .count();
    let failed = written.len() - good;
    let ok = good > 0 && (failed == 0 || arguments.partial);
    let answer = serde_json::json!({
        "ok": ok, "dir": arguments.dir, "written": good, "failed": failed, "devices": written,
    });
    context.format.print(&answer, |_| {
        let mut lines: Vec<String> = written
            .iter()
            .filter(|one| one.outcome != "written")
            .map(|one| {
                format!(
                    "{}/{}: {} [{}]",
                    one.vendor,
                    plain(&one.serial),
                    plain(one.detail.as_deref().unwrap_or_default()),
                    one.code.as_deref().unwrap_or_default()
                )
            })
            .collect();
        lines.push(format!(
            "{good} devices on {}, read again and judged good; {failed} left out",
            arguments.dir.display()
        ));
        lines.join("\n")
    });
    Ok(Outcome::of(ok))
}

async fn chosen(
    store: &Store,
    arguments: &ExportArguments,
    mut filter: DeviceFilter,
) -> Result<Vec<DeviceRow>, Error> {
    let mut snapshot = store.snapshot().await?;
    let mut devices = Vec::new();
    for serial in &arguments.serials {
        let vendor = arguments.filter.vendor.as_deref();
        devices.push(find_device(&mut snapshot, serial, vendor).await?);
    }
    if !arguments.serials.is_empty() {
        return Ok(devices);
    }
    loop {
        let page = list_devices(&mut snapshot, &filter).await?;
        let Some(last) = page.last() else { break };
        filter.after = last.id;
        devices.extend(page);
        if devices.len() > DEVICES_MAX {
            return Err(Error::Usage(format!(
                "more than {DEVICES_MAX} devices: name a group"
            )));
        }
    }
    if devices.is_empty() {
        return Err(Error::NotFound {
            what: "device with",
            name: arguments.filter.words(),
        });
    }
    Ok(devices)
}

/// Why a device is left out.
type Left = (String, String);

impl Export<'_> {
    fn layout(&self, vendor: &str) -> Result<Layout, sztp::usb::Error> {
        match self.arguments.layout {
            LayoutName::Usher => Layout::general(vendor),
            LayoutName::IosXr => Ok(Layout::IosXr),
        }
    }

    /// Two devices never share a folder, also where names have no case.
    fn check_folders(&self, devices: &[DeviceRow]) -> Result<(), Error> {
        let mut names: Vec<&str> = devices.iter().map(|one| one.vendor.as_str()).collect();
        names.sort_unstable();
        names.dedup();
        let usage = |error: sztp::usb::Error| Error::Usage(error.to_string());
        if self.arguments.layout == LayoutName::IosXr {
            let serials = devices.iter().map(|one| one.serial.as_str());
            Layout::IosXr.plan(serials).map_err(usage)?;
            return Ok(());
        }
        for name in names {
            let layout = self.layout(name).map_err(usage)?;
            let of_vendor = devices.iter().filter(|one| one.vendor == name);
            layout
                .plan(of_vendor.map(|one| one.serial.as_str()))
                .map_err(usage)?;
        }
        Ok(())
    }

    async fn device(&self, device: &DeviceRow) -> Result<Written, Error> {
        let mut written = Written {
            vendor: device.vendor.clone(),
            serial: device.serial.clone(),
            outcome: "left-out",
            files: Vec::new(),
            voucher_expires: None,
            code: None,
            detail: None,
        };
        match self.write(device, &mut written).await? {
            Ok(()) => written.outcome = "written",
            Err((code, detail)) => {
                written.code = Some(code);
                written.detail = Some(detail);
            }
        }
        Ok(written)
    }

    async fn write(
        &self,
        device: &DeviceRow,
        written: &mut Written,
    ) -> Result<Result<(), Left>, Error> {
        let left = |code: &str, detail: String| Ok(Err((code.to_owned(), detail)));
        if let Some(reason) = &device.blocked {
            return left("bootstrap.device-blocked", reason.clone());
        }
        let vendor = self
            .vendors
            .iter()
            .find(|one| one.file.name == device.vendor);
        let Some(vendor) = vendor else {
            return left("bootstrap.vendor-unknown", device.vendor.clone());
        };
        let profile = profile_of(self.config, Some(vendor), device)?;
        let outer = match self.arguments.encoding {
            EncodingName::Json => Encoding::Json,
            EncodingName::Xml => Encoding::Xml,
        };
        let facts = facts_of(self.store, device, &profile, true, outer, self.now).await?;
        let prepared = match self.engine.look_for_stick(&facts).await {
            Ok(prepared) => prepared,
            Err(refusal) => return left(refusal.restconf().code, refusal.to_string()),
        };
        let mut data = BootstrappingData {
            conveyed_information: prepared.conveyed_information.to_vec(),
            owner_certificate: prepared.owner_certificate.map(|one| one.to_vec()),
            ownership_voucher: prepared.ownership_voucher.map(|one| one.to_vec()),
        };
        // SZTP-8572-4.1: a device trusts nothing on a stick but what is signed.
        if data.ownership_voucher.is_none() {
            let text = "devices of this type get unsigned data, which no stick can carry";
            return left("bootstrap.usb-unsigned", text.to_owned());
        }
        let layout = match self.layout(&device.vendor) {
            Ok(layout) => layout,
            Err(error) => return left(error.code(), error.to_string()),
        };
        let information = match self.judged(&data, vendor, device) {
            Ok(information) => information,
            Err(reason) => return Ok(Err(reason)),
        };
        if self.arguments.images
            && let Err(reason) =
                self.take_images(&mut data, information, &layout, &profile, outer, written)?
        {
            return Ok(Err(reason));
        }
        let signed = data.clone();
        if let Some(folder) = &self.arguments.encrypt {
            let path = folder.join(format!("{}.pem", file_name(&device.serial)));
            let recipient = match Certificate::load(&path) {
                Ok(certificate) => certificate,
                Err(error) => {
                    let text = format!("{}: {error}", path.display());
                    return left("bootstrap.usb-recipient", text);
                }
            };
            // SZTP-8572-3.4-02: signed first, encrypted then.
            match conveyed::encrypt(&data.conveyed_information, &recipient) {
                Ok(encrypted) => data.conveyed_information = encrypted,
                Err(error) => return left(error.code(), error.to_string()),
            }
        }
        let files = layout.files(
            &device.serial,
            &data.conveyed_information,
            data.owner_certificate.as_deref(),
            data.ownership_voucher.as_deref(),
        );
        let files = match files {
            Ok(files) => files,
            Err(error) => return left(error.code(), error.to_string()),
        };
        for (path, content) in &files {
            replace(&self.arguments.dir.join(path), content)?;
            written.files.push(path.clone());
        }
        if let Err(reason) = self.again(&files, &signed, vendor, device)? {
            return Ok(Err(reason));
        }
        let row = voucher_for(
            &mut *self.store.snapshot().await?,
            device.id,
            None,
            self.now,
        )
        .await?;
        written.voucher_expires = row.and_then(|row| row.expires).map(rfc3339);
        Ok(Ok(()))
    }

    /// What a device that trusts nothing makes of it.
    fn judged(
        &self,
        data: &BootstrappingData,
        vendor: &Vendor,
        device: &DeviceRow,
    ) -> Result<ConveyedInformation, Left> {
        let serial = SerialNumber::new(device.serial.as_str());
        let mut context = DeviceContext::new(&vendor.voucher_anchors, &vendor.tolerances);
        context.serial = serial.as_ref();
        context.at = Some(self.now);
        judge(data, false, &context)
            .result
            .map_err(|error| (error.code().to_owned(), error.to_string()))
    }

    /// Reads what was written and judges that. What is encrypted can be opened by the device only;
    /// it is compared octet by octet, and judged as it was before.
    fn again(
        &self,
        files: &[(PathBuf, &[u8])],
        signed: &BootstrappingData,
        vendor: &Vendor,
        device: &DeviceRow,
    ) -> Result<Result<(), Left>, Error> {
        for (path, content) in files {
            let path = self.arguments.dir.join(path);
            let found = std::fs::read(&path).map_err(|error| Error::file(&path, error))?;
            if found != *content {
                let text = format!("{} was not written as it should be", path.display());
                return Ok(Err(("bootstrap.usb-damaged".to_owned(), text)));
            }
        }
        Ok(self.judged(signed, vendor, device).map(|_| ()))
    }

    /// Puts the image onto the stick, and signs anew where it is to be found.
    fn take_images(
        &self,
        data: &mut BootstrappingData,
        mut information: ConveyedInformation,
        layout: &Layout,
        profile: &Profile,
        outer: Encoding,
        written: &mut Written,
    ) -> Result<Result<(), Left>, Error> {
        let ConveyedInformation::Onboarding(onboarding) = &mut information else {
            return Ok(Ok(()));
        };
        let Some(image) = &mut onboarding.boot_image else {
            return Ok(Ok(()));
        };
        let left = |code: &str, detail: String| Ok(Err((code.to_owned(), detail)));
        let digest = image
            .image_verifications
            .first()
            .and_then(|verification| Digest::from_slice(&verification.value));
        let name = image
            .download_uris
            .first()
            .and_then(|uri| uri.rsplit('/').next())
            .unwrap_or_default()
            .to_owned();
        let source = digest.map(|digest| self.engine.images().file(&digest));
        let Some(source) = source.filter(|path| path.is_file()) else {
            let text = format!("the image {name} is not hosted here, so it cannot be put there");
            return left("bootstrap.image-missing", text);
        };
        let (path, uris) = match layout.image_path(&name).and_then(|path| {
            let uris = layout.image_uris(&name)?;
            Ok((path, uris))
        }) {
            Ok(found) => found,
            Err(error) => return left(error.code(), error.to_string()),
        };
        let target = self.arguments.dir.join(&path);
        let digest = digest.unwrap_or(Digest([0; 32]));
        if !lock(&self.verified).contains(&target) {
            if hash_of(&target).ok().flatten() != Some(digest) {
                make_parent(&target)?;
                std::fs::copy(&source, &target).map_err(|error| Error::file(&target, error))?;
            }
            if hash_of(&target).map_err(|error| Error::file(&target, error))? != Some(digest) {
                let text = format!("{} is not the image that it should be", target.display());
                return left("bootstrap.usb-damaged", text);
            }
            lock(&self.verified).insert(target);
        }
        written.files.push(path);
        image.download_uris = uris;
        let encoding = profile.inner(outer);
        // Shaped as this type of device reads it, which can mean the hash with each place.
        let content = match crate::content::build::encode(information, encoding, profile) {
            Ok(content) => content,
            Err(refusal) => return left(refusal.restconf().code, refusal.to_string()),
        };
        match conveyed::sign(&content, encoding, profile.content_type(), &self.owner) {
            Ok(signed) => data.conveyed_information = signed,
            Err(error) => return left(error.code(), error.to_string()),
        }
        Ok(Ok(()))
    }
}

/// SHA-256 of a file; `None` if there is none.
fn hash_of(path: &Path) -> std::io::Result<Option<Digest>> {
    use std::io::Read as _;
    let mut file = match std::fs::File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    let mut context = digest::Context::new(&digest::SHA256);
    let mut buffer = vec![0; 1024 * 1024];
    loop {
        let length = file.read(&mut buffer)?;
        let Some(piece) = buffer.get(..length).filter(|piece| !piece.is_empty()) else {
            break;
        };
        context.update(piece);
    }
    Ok(Digest::from_slice(context.finish().as_ref()))
}

fn make_parent(path: &Path) -> Result<(), Error> {
    let folder = path.parent().unwrap_or_else(|| Path::new("."));
    std::fs::create_dir_all(folder).map_err(|error| Error::file(folder, error))
}

/// Writes a file so that a stick that is pulled out has the old one or the new one.
fn replace(path: &Path, content: &[u8]) -> Result<(), Error> {
    use std::io::Write as _;
    make_parent(path)?;
    let mut draft = path.as_os_str().to_owned();
    draft.push(".new");
    let draft = PathBuf::from(draft);
    let failed = |error| Error::file(&draft, error);
    let mut file = std::fs::File::create(&draft).map_err(failed)?;
    file.write_all(content).map_err(failed)?;
    file.sync_all().map_err(failed)?;
    std::fs::rename(&draft, path).map_err(|error| Error::file(path, error))
}
