//! DHCP: what the DHCP client of this machine got.

use std::{
    collections::VecDeque,
    fs::File,
    io::{ErrorKind, Read},
    path::PathBuf,
};

use pki::Coded;
use sztp::{
    agent::Server,
    dhcp::{Family, LEASE_MAX_BYTES, decode_list, inspect_as, lease_options},
};

use crate::sztp::{Finding, Found, Next, Source, SourceError};

/// Where the option is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DhcpInput {
    /// In what a DHCP client wrote: a lease file of ISC dhclient, the environment of a script of
    /// udhcpc or dhcpcd, or the message itself.
    Lease(PathBuf),
    /// Its data as text, in any form that `usher dhcp decode` takes.
    Value(String),
}

/// The bootstrap servers that a DHCP server named.
#[derive(Debug)]
pub struct DhcpSource {
    inputs: Vec<DhcpInput>,
    left: VecDeque<Step>,
}

#[derive(Debug)]
enum Step {
    Look(DhcpInput),
    Have(String, Family, Vec<u8>),
}

impl DhcpSource {
    /// The options in these places, in order.
    #[must_use]
    pub fn new(inputs: Vec<DhcpInput>) -> Self {
        let left = inputs.iter().cloned().map(Step::Look).collect();
        Self { inputs, left }
    }

    fn look(&mut self, input: &DhcpInput) -> Result<(), SourceError> {
        let (name, found) = match input {
            DhcpInput::Value(text) => {
                let report = inspect_as(text.as_bytes(), None).map_err(|error| coded(&error))?;
                // A device takes the option as it is, so a value that is wrong is not mended.
                let fatal = report.mistakes.iter().find(|mistake| mistake.fatal);
                if let Some(mistake) = fatal {
                    return Err(SourceError::new(mistake.code, mistake.detail.clone()));
                }
                let family = report.family.unwrap_or(Family::V4);
                ("the command line".to_owned(), vec![(family, report.list)])
            }
            DhcpInput::Lease(path) => {
                let name = path.display().to_string();
                let Some(octets) = read(path)? else {
                    return Ok(());
                };
                let found = lease_options(&octets).map_err(|error| coded(&error))?;
                (name, found)
            }
        };
        for (family, data) in found.into_iter().rev() {
            self.left.push_front(Step::Have(name.clone(), family, data));
        }
        Ok(())
    }
}

impl Source for DhcpSource {
    fn name(&self) -> &str {
        "dhcp"
    }

    fn next(&mut self) -> Next<'_> {
        Box::pin(async move {
            while let Some(step) = self.left.pop_front() {
                match step {
                    Step::Look(input) => self.look(&input)?,
                    Step::Have(place, family, data) => {
                        return finding(&place, family, &data).map(Some);
                    }
                }
            }
            Ok(None)
        })
    }

    fn rewind(&mut self) {
        self.left = self.inputs.iter().cloned().map(Step::Look).collect();
    }
}

fn finding(place: &str, family: Family, data: &[u8]) -> Result<Finding, SourceError> {
    let list = decode_list(data);
    // SZTP-8572-8.1-04, SZTP-8572-8.2-03: If the received option does not contain at least one
    // valid URI entry in the uri-data field, then the client MUST discard the option.
    let usable = list.usable();
    if usable.is_empty() {
        let code = list
            .entries
            .iter()
            .find_map(|entry| entry.uri.as_ref().err().map(Coded::code));
        return Err(SourceError::new(
            code.unwrap_or("dhcp.list"),
            format!(
                "option {} of {place} has no valid URI; look at it with `usher dhcp decode {}`",
                family.code(),
                hex::encode(data)
            ),
        ));
    }
    // SZTP-8572-8.1-03: the client processes the response with the understanding that the
    // "address" and "port" values are encoded in the URIs.
    let servers = usable
        .iter()
        .map(|uri| Server::new(uri.address(), uri.port()))
        .collect();
    Ok(Finding {
        name: format!("DHCP{} option {} of {place}", family.name(), family.code()),
        found: Found::Servers(servers),
    })
}

fn coded(error: &sztp::dhcp::Error) -> SourceError {
    SourceError::new(error.code(), error.to_string())
}

/// A client that got no lease yet has no file.
fn read(path: &PathBuf) -> Result<Option<Vec<u8>>, SourceError> {
    let fail = |error: std::io::Error| {
        SourceError::new(
            "dhcp.lease-unreadable",
            format!("{}: {error}", path.display()),
        )
    };
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(fail(error)),
    };
    let mut octets = Vec::new();
    let limit = u64::try_from(LEASE_MAX_BYTES + 1).unwrap_or(u64::MAX);
    file.take(limit).read_to_end(&mut octets).map_err(fail)?;
    Ok(Some(octets))
}
