//! The register in the form in which `devices import` reads it.

use std::collections::BTreeSet;
use std::io::{BufWriter, Write};

use serde_json::{Value, json};
use store::Store;

use crate::Error;
use crate::register::rows::COLUMNS;
use crate::register::{DeviceFilter, DeviceRow, device_by_id, list_devices};

/// Devices that are read at once.
const PAGE: u32 = 1000;

/// Writes the devices that the filter lets through, page by page; says how many.
pub(super) async fn devices(
    store: &Store,
    filter: DeviceFilter,
    out: Box<dyn Write + Send>,
    lines: bool,
) -> Result<u64, Error> {
    let mut out = BufWriter::new(out);
    let failed = |error: std::io::Error| Error::file(std::path::Path::new("output"), error);
    if lines {
        let mut count = 0;
        each_page(store, filter, async |devices, parts| {
            for (device, whole) in devices.iter().zip(parts) {
                writeln!(out, "{}", object(device, whole.as_deref())).map_err(failed)?;
                count += 1;
            }
            Ok(())
        })
        .await?;
        out.flush().map_err(failed)?;
        return Ok(count);
    }
    // A header needs every variable that there is, so the register is read twice.
    let mut names = BTreeSet::new();
    // Where one value is no text, all are written as JSON, so that they come back as they were.
    let mut typed = BTreeSet::new();
    each_page(store, filter.clone(), async |devices, _| {
        for (name, value) in devices.iter().flat_map(|device| &device.variables) {
            names.insert(name.clone());
            if !value.is_string() {
                typed.insert(name.clone());
            }
        }
        Ok(())
    })
    .await?;
    let wrong = |error: csv::Error| Error::Usage(error.to_string());
    let mut writer = csv::Writer::from_writer(out);
    let mut header: Vec<String> = COLUMNS.iter().map(|name| (*name).to_owned()).collect();
    header.extend(names.iter().map(|name| {
        let joint = if typed.contains(name) { ":=" } else { "" };
        format!("var.{name}{joint}")
    }));
    writer.write_record(&header).map_err(wrong)?;
    let mut count = 0;
    each_page(store, filter, async |devices, parts| {
        for (device, whole) in devices.iter().zip(parts) {
            let mut record = vec![
                device.serial.clone(),
                device.vendor.clone(),
                device.group.clone(),
                device.site.clone(),
                device.device_type.clone(),
                device.hw_model.clone().unwrap_or_default(),
                device.os_name.clone().unwrap_or_default(),
                device.os_version.clone().unwrap_or_default(),
                device.owner.clone().unwrap_or_default(),
                whole.clone().unwrap_or_default(),
            ];
            record.extend(names.iter().map(|name| match device.variables.get(name) {
                None => String::new(),
                Some(Value::String(text)) if !typed.contains(name) => text.clone(),
                Some(other) => other.to_string(),
            }));
            writer.write_record(&record).map_err(wrong)?;
            count += 1;
        }
        Ok(())
    })
    .await?;
    writer.flush().map_err(failed)?;
    Ok(count)
}

fn object(device: &DeviceRow, whole: Option<&str>) -> Value {
    let mut object = json!({ "serial": device.serial, "vendor": device.vendor });
    let texts = [
        ("group", Some(device.group.as_str())),
        ("site", Some(&device.site)),
        ("device-type", Some(&device.device_type)),
        ("hw-model", device.hw_model.as_deref()),
        ("os-name", device.os_name.as_deref()),
        ("os-version", device.os_version.as_deref()),
        ("owner", device.owner.as_deref()),
        ("alias-of", whole),
    ];
    if let Some(members) = object.as_object_mut() {
        for (name, value) in texts {
            if let Some(value) = value.filter(|value| !value.is_empty()) {
                members.insert(name.to_owned(), value.into());
            }
        }
        if !device.variables.is_empty() {
            members.insert("variables".to_owned(), json!(device.variables));
        }
    }
    object
}

/// Reads page by page in one state of the database.
async fn each_page(
    store: &Store,
    mut filter: DeviceFilter,
    mut work: impl AsyncFnMut(&[DeviceRow], &[Option<String>]) -> Result<(), Error>,
) -> Result<(), Error> {
    let mut snapshot = store.snapshot().await?;
    filter.limit = PAGE;
    loop {
        let page = list_devices(&mut snapshot, &filter).await?;
        let Some(last) = page.last() else {
            return Ok(());
        };
        filter.after = last.id;
        let mut parts = Vec::with_capacity(page.len());
        for device in &page {
            parts.push(match device.alias_of {
                Some(id) => device_by_id(&mut snapshot, id).await?.map(|one| one.serial),
                None => None,
            });
        }
        work(&page, &parts).await?;
    }
}
