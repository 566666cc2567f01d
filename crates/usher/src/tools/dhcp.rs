//! `usher dhcp`: the SZTP redirect option for an owner's DHCP server, and what is wrong with one.

use std::io::Read;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use clap::{Subcommand, ValueEnum};
use daemon::{Format, Outcome};
use pki::Coded;
use serde_json::{Map, Value, json};
use sztp::dhcp::snippet::{Server, snippet};
use sztp::dhcp::{
    self, BootstrapUri, Error, Family, INPUT_MAX_BYTES, Report, V4_INSTANCE_MAX_BYTES, encode_list,
    encode_v4, encode_v6,
};

use super::text;

/// What was seen with udhcpc, dhcpd and Kea.
const LONG_LIST: &str = "a list of more than 255 octets is split, and small DHCPv4 clients, which take messages of 576 octets only, may get no option or no lease: name fewer servers";

/// `usher dhcp …`
#[derive(Debug, Subcommand)]
pub(crate) enum DhcpCommand {
    /// Write DHCPv4 option 143 and DHCPv6 option 136 for bootstrap servers, with the lines for
    /// Kea, ISC dhcpd, dnsmasq, Cisco IOS and Junos.
    Encode(EncodeArguments),
    /// Say what a pasted option holds, what is wrong with it and what mends it. Exits 1 if a
    /// device that follows RFC 8572 would not use it.
    Decode(DecodeArguments),
}

impl DhcpCommand {
    /// Runs the command.
    pub(crate) fn run(&self) -> Outcome {
        match self {
            Self::Encode(arguments) => arguments.run(),
            Self::Decode(arguments) => arguments.run(),
        }
    }
}

/// Options of `usher dhcp encode`.
#[derive(Debug, clap::Args)]
pub(crate) struct EncodeArguments {
    /// Bootstrap servers in the order in which devices try them: https://host[:port].
    #[arg(value_name = "URI", required = true)]
    uris: Vec<String>,
    /// Only for this DHCP version.
    #[arg(long, value_enum, value_name = "VERSION")]
    family: Option<FamilyName>,
    /// Print these lines alone.
    #[arg(long = "for", value_enum, value_name = "SERVER", requires = "family")]
    server: Option<ServerName>,
    #[command(flatten)]
    format: Format,
}

/// Options of `usher dhcp decode`.
#[derive(Debug, clap::Args)]
pub(crate) struct DecodeArguments {
    /// The option or its data as hexadecimal of any kind, base64, text, or a line of a DHCP
    /// server's configuration; `-` is standard input, which may be the octets themselves.
    #[arg(value_name = "VALUE", required = true)]
    value: Vec<String>,
    /// The DHCP version that it is of, where the value does not show it.
    #[arg(long, value_enum, value_name = "VERSION")]
    family: Option<FamilyName>,
    #[command(flatten)]
    format: Format,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum FamilyName {
    V4,
    V6,
}

impl From<FamilyName> for Family {
    fn from(name: FamilyName) -> Self {
        match name {
            FamilyName::V4 => Self::V4,
            FamilyName::V6 => Self::V6,
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum ServerName {
    Base64,
    CiscoIos,
    Dnsmasq,
    Hex,
    IscDhcpd,
    Junos,
    Kea,
}

impl ServerName {
    fn server(self) -> Option<Server> {
        match self {
            Self::Base64 | Self::Hex => None,
            Self::CiscoIos => Some(Server::CiscoIos),
            Self::Dnsmasq => Some(Server::Dnsmasq),
            Self::IscDhcpd => Some(Server::IscDhcpd),
            Self::Junos => Some(Server::Junos),
            Self::Kea => Some(Server::Kea),
        }
    }
}

impl EncodeArguments {
    fn run(&self) -> Outcome {
        self.answer().unwrap_or_else(|error| {
            self.format.error(&error);
            // The command ran and says no.
            Outcome::No
        })
    }

    fn answer(&self) -> Result<Outcome, Error> {
        let uris = self
            .uris
            .iter()
            .map(|text| BootstrapUri::parse(text).map_err(|fault| Error::uri(text, fault)))
            .collect::<Result<Vec<_>, _>>()?;
        let families = match self.family {
            Some(name) => vec![name.into()],
            None => vec![Family::V4, Family::V6],
        };
        if let (Some(server), Some(family)) = (self.server, families.first()) {
            return self.one(server, *family, &uris);
        }
        let list = encode_list(&uris)?;
        let mut document = Map::new();
        document.insert("ok".to_owned(), json!(true));
        document.insert("uris".to_owned(), json!(texts(&uris)));
        document.insert("data".to_owned(), octets(&list));
        for family in families {
            document.insert(family.name().to_owned(), option(family, &uris)?);
        }
        if list.len() > V4_INSTANCE_MAX_BYTES {
            document.insert("note".to_owned(), json!(LONG_LIST));
        }
        self.format.print(&Value::Object(document), readable);
        Ok(Outcome::Yes)
    }

    /// The lines of one server, without anything around them, so that they go into a file.
    fn one(
        &self,
        name: ServerName,
        family: Family,
        uris: &[BootstrapUri],
    ) -> Result<Outcome, Error> {
        let list = encode_list(uris)?;
        let lines = match name.server() {
            Some(server) => snippet(server, family, uris)?,
            None if name == ServerName::Hex => Some(hex::encode(&list)),
            None => Some(STANDARD.encode(&list)),
        };
        let Some(lines) = lines else {
            self.format.problem(
                "dhcp.server-cannot",
                "this server cannot send this option: it has none of that kind for this DHCP version, or the list is too long for its configuration",
            );
            return Ok(Outcome::No);
        };
        self.format
            .print(&json!({ "ok": true, "lines": lines }), |_| lines.clone());
        Ok(Outcome::Yes)
    }
}

impl DecodeArguments {
    fn run(&self) -> Outcome {
        let input = match self.value.as_slice() {
            [one] if one == "-" => {
                let mut bytes = Vec::new();
                // One octet more than is taken, so that too much is noticed.
                let limit = u64::try_from(INPUT_MAX_BYTES + 1).unwrap_or(u64::MAX);
                if let Err(error) = std::io::stdin().take(limit).read_to_end(&mut bytes) {
                    let detail = format!("cannot read standard input: {error}");
                    return self.format.problem("config.file-unreadable", &detail);
                }
                bytes
            }
            // A paste with blanks is several words to the shell.
            words => words.join(" ").into_bytes(),
        };
        match dhcp::inspect_as(&input, self.family.map(Family::from)) {
            Ok(report) => {
                let usable = !report.usable().is_empty();
                self.format.print(&describe(&report), text::tree);
                Outcome::of(usable)
            }
            Err(error) => self.format.error(&error),
        }
    }
}

/// A report as a document.
pub(super) fn describe(report: &Report) -> Value {
    let usable = report.usable();
    let entries: Vec<Value> = report
        .entries
        .iter()
        .map(|entry| {
            let text = String::from_utf8_lossy(&entry.octets);
            json!({
                "offset": entry.offset,
                "text": text,
                "usable": entry.uri.is_ok(),
                "code": entry.uri.as_ref().err().map(Coded::code),
            })
        })
        .collect();
    let mistakes: Vec<Value> = report
        .mistakes
        .iter()
        .map(|mistake| {
            json!({
                "code": mistake.code,
                "detail": mistake.detail,
                "fix": mistake.fix,
                "fatal": mistake.fatal,
            })
        })
        .collect();
    let mut document = json!({
        "ok": !usable.is_empty(),
        "kind": "dhcp-option",
        "encoding": report.form,
        "framing": report.framing.name(),
        "family": report.family.map(Family::name),
        "instances": report.instances,
        "data_hex": hex::encode(&report.list),
        "uris": texts(&usable),
        "entries": entries,
        "mistakes": mistakes,
    });
    let corrected = if report.meant.is_empty() {
        usable
    } else {
        report.meant.clone()
    };
    if !report.mistakes.is_empty()
        && let (Ok(list), Some(members)) = (encode_list(&corrected), document.as_object_mut())
    {
        members.insert(
            "corrected".to_owned(),
            json!({ "uris": texts(&corrected), "data_hex": hex::encode(list) }),
        );
    }
    document
}

fn texts(uris: &[BootstrapUri]) -> Vec<String> {
    uris.iter().map(ToString::to_string).collect()
}

fn octets(bytes: &[u8]) -> Value {
    json!({
        "octets": bytes.len(),
        "hex": hex::encode(bytes),
        "base64": STANDARD.encode(bytes),
    })
}

fn option(family: Family, uris: &[BootstrapUri]) -> Result<Value, Error> {
    let whole = match family {
        Family::V4 => encode_v4(uris)?,
        Family::V6 => encode_v6(uris)?,
    };
    let mut snippets = Map::new();
    for server in Server::ALL {
        let lines = snippet(server, family, uris)?;
        snippets.insert(server.name().to_owned(), json!(lines));
    }
    Ok(json!({
        "code": family.code(),
        "option": octets(&whole),
        "snippets": snippets,
    }))
}

/// The snippets as they are, which a tree of members would not show.
fn readable(document: &Value) -> String {
    let text = |value: &Value, name: &str| value[name].as_str().unwrap_or_default().to_owned();
    let mut out = String::new();
    let data = &document["data"];
    out.push_str(&format!(
        "data, {} octets\n  hex     {}\n  base64  {}\n",
        data["octets"],
        text(data, "hex"),
        text(data, "base64")
    ));
    if let Some(note) = document["note"].as_str() {
        out.push_str(&format!("note: {note}\n"));
    }
    for family in [Family::V4, Family::V6] {
        let Some(of_family) = document.get(family.name()) else {
            continue;
        };
        let whole = &of_family["option"];
        out.push_str(&format!(
            "\nDHCP{} option {}, with code and length, {} octets\n  hex     {}\n",
            family.name(),
            family.code(),
            whole["octets"],
            text(whole, "hex")
        ));
        for server in Server::ALL {
            let lines = of_family["snippets"][server.name()].as_str();
            out.push_str(&format!("\n# {} ({})\n", server.name(), family.name()));
            out.push_str(lines.unwrap_or("# this server cannot send this option\n"));
        }
    }
    out
}
