//! `usher bootstrap handover …`.

use std::path::Path;

use clap::{Args, Subcommand, ValueEnum};
use daemon::{Format, Outcome};
use serde_json::{Value, json};
use store::Store;
use time::OffsetDateTime;

use super::{Handover, ansible, known_hosts, netbox};
use crate::Error;
use crate::register::{self, DeviceFilter, State};

/// What is handed over.
#[derive(Debug, Subcommand)]
pub enum HandoverCommand {
    /// An Ansible inventory: YAML, or with `--list` and `--host` the answers of a script.
    Ansible(AnsibleArguments),
    /// Lines for OpenSSH's known_hosts, for connections to the devices.
    KnownHosts(Which),
    /// What a NETCONF or RESTCONF call-home listener needs to know who calls (RFC 8071).
    CallHome(CallHomeArguments),
    /// The trust anchors that devices reported, as one PEM bundle.
    Anchors(Which),
    /// A NetBox-style webhook payload for each device.
    Netbox(Which),
    /// All that is known of each device, as JSON.
    Show(Which),
}

/// Which devices.
#[derive(Clone, Debug, Default, Args)]
pub struct Which {
    /// Serial numbers, or VENDOR/SERIAL; without any, all that are complete.
    pub devices: Vec<String>,
    /// Of this group.
    #[arg(long)]
    pub group: Option<String>,
    /// At this site.
    #[arg(long)]
    pub site: Option<String>,
    /// Of this type.
    #[arg(long)]
    pub device_type: Option<String>,
    /// In this state in place of `complete`.
    #[arg(long, value_enum)]
    pub state: Option<State>,
}

/// `handover ansible`.
#[derive(Debug, Args)]
pub struct AnsibleArguments {
    #[command(flatten)]
    which: Which,
    /// As an inventory script answers: JSON with everything.
    #[arg(long, conflicts_with_all = ["host", "script"])]
    list: bool,
    /// As an inventory script answers: the variables of one host.
    #[arg(long, value_name = "NAME", conflicts_with = "script")]
    host: Option<String>,
    /// Print a script to be used as a dynamic inventory.
    #[arg(long)]
    script: bool,
}

/// `handover call-home`.
#[derive(Debug, Args)]
pub struct CallHomeArguments {
    #[command(flatten)]
    which: Which,
    /// The form.
    #[arg(long = "as", value_enum, default_value = "known-hosts")]
    form: CallHomeForm,
}

/// A form for call home.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum CallHomeForm {
    /// Lines of known_hosts whose host is VENDOR.SERIAL, for HostKeyAlias.
    KnownHosts,
    /// JSON: the device to each fingerprint.
    Fingerprints,
    /// JSON for OpenDaylight's call-home server.
    Opendaylight,
}

impl Which {
    async fn read(&self, store: &Store) -> Result<Vec<Handover>, Error> {
        let mut snapshot = store.snapshot().await?;
        if self.devices.is_empty() {
            let filter = DeviceFilter {
                group: self.group.clone(),
                site: self.site.clone(),
                device_type: self.device_type.clone(),
                state: Some(self.state.unwrap_or(State::Complete)),
                ..DeviceFilter::default()
            };
            return super::of_devices(&mut snapshot, &filter).await;
        }
        let mut all = Vec::with_capacity(self.devices.len());
        for named in &self.devices {
            let device = register::find_device(&mut snapshot, named, None).await?;
            all.extend(super::of_device(&mut snapshot, device.id).await?);
        }
        Ok(all)
    }
}

impl HandoverCommand {
    /// Carries the command out. `config` is the file of the configuration, for the script.
    ///
    /// # Errors
    /// The database failed, or a device is not there.
    pub async fn run(
        &self,
        format: Format,
        config: &Path,
        store: &Store,
        now: OffsetDateTime,
    ) -> Result<Outcome, Error> {
        let text = |key: &str, text: String| {
            format.print(&json!({ key: text }), |_| text.clone());
        };
        match self {
            Self::Ansible(arguments) => {
                if arguments.script {
                    let program = std::env::current_exe()
                        .map_or_else(|_| "usher".to_owned(), |path| path.display().to_string());
                    let config = config.canonicalize().unwrap_or_else(|_| config.to_owned());
                    let script = ansible::script(&program, &config.display().to_string());
                    text("script", script);
                    return Ok(Outcome::Yes);
                }
                let devices = arguments.which.read(store).await?;
                if let Some(host) = &arguments.host {
                    print_document(&ansible::host(&devices, host));
                } else if arguments.list || format.json {
                    print_document(&ansible::list(&devices));
                } else {
                    text("inventory", ansible::yaml(&devices));
                }
            }
            Self::KnownHosts(which) => {
                let devices = which.read(store).await?;
                text("known_hosts", known_hosts::known_hosts(&devices));
            }
            Self::CallHome(arguments) => {
                let devices = arguments.which.read(store).await?;
                match arguments.form {
                    CallHomeForm::KnownHosts => {
                        text("known_hosts", known_hosts::call_home_known_hosts(&devices));
                    }
                    CallHomeForm::Fingerprints => {
                        print_document(&known_hosts::call_home_keys(&devices));
                    }
                    CallHomeForm::Opendaylight => {
                        print_document(&known_hosts::opendaylight(&devices));
                    }
                }
            }
            Self::Anchors(which) => {
                let devices = which.read(store).await?;
                return Ok(anchors(format, &devices));
            }
            Self::Netbox(which) => {
                let devices = which.read(store).await?;
                let payloads: Vec<Value> = devices
                    .iter()
                    .map(|device| {
                        let at = device.reported.unwrap_or(now);
                        netbox::payload(device, &format!("device-{}", device.device), at)
                    })
                    .collect();
                print_document(&Value::Array(payloads));
            }
            Self::Show(which) => {
                let devices = which.read(store).await?;
                let list = devices.iter().map(Handover::json).collect();
                print_document(&Value::Array(list));
            }
        }
        Ok(Outcome::Yes)
    }
}

/// What is JSON by itself is printed as it is, with `--json` and without.
fn print_document(value: &Value) {
    Format { json: true }.print(value, ToString::to_string);
}

/// A bundle with a line before each certificate that says whose it is. Unreadable ones make the
/// answer a no: a bundle that lacks an anchor looks like one that has it.
fn anchors(format: Format, devices: &[Handover]) -> Outcome {
    let mut bundle = String::new();
    let mut unreadable = Vec::new();
    for device in devices {
        let (certificates, problems) = device.anchor_certificates();
        for certificate in certificates {
            bundle.push_str(&format!(
                "# {} {}: {}\n{}",
                daemon::cli::plain(&device.vendor),
                daemon::cli::plain(&device.serial),
                daemon::cli::plain(&certificate.subject()),
                certificate.to_pem()
            ));
            if !bundle.ends_with('\n') {
                bundle.push('\n');
            }
        }
        for problem in problems {
            unreadable.push(json!({
                "vendor": device.vendor,
                "serial": device.serial,
                "detail": problem,
            }));
        }
    }
    let value = json!({ "ok": unreadable.is_empty(), "bundle": bundle, "unreadable": unreadable });
    format.print(&value, |_| bundle.clone());
    if !format.json {
        for one in &unreadable {
            tracing::warn!(device = %one["serial"], detail = %one["detail"], "no trust anchor");
        }
    }
    Outcome::of(unreadable.is_empty())
}
