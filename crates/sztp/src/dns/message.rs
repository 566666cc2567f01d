//! Questions and answers.

use std::collections::BTreeMap;
use std::net::IpAddr;

use hickory_proto::op::{Edns, Message, MessageType, OpCode, Query, ResponseCode};
use hickory_proto::rr::{DNSClass, Name, RData, Record, RecordType};

use super::records::{Artefacts, Service};
use super::{Error, LOCAL};

/// Largest DNS message, which only TCP carries.
pub const MESSAGE_MAX_BYTES: usize = 65_535;
/// Largest answer that is asked for over UDP: it is not fragmented anywhere.
pub const UDP_MESSAGE_MAX_BYTES: u16 = 1232;
/// Largest multicast DNS message
/// ([RFC 6762 §17](https://www.rfc-editor.org/rfc/rfc6762.html#section-17)).
pub const MDNS_MESSAGE_MAX_BYTES: usize = 9000;
/// Most aliases that are followed inside an answer.
const ALIASES_MAX: usize = 8;
/// Most records of an answer that are looked at.
const RECORDS_MAX: usize = 256;
/// Longest label of a DNS name, in octets.
const LABEL_MAX_BYTES: usize = 63;

/// What a device asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Question {
    name: Name,
    kind: Kind,
    multicast: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Artefacts,
    Service,
}

/// What an answer holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// The artefacts of this device.
    Artefacts(Artefacts),
    /// There is nothing of the kind at the name.
    Nothing,
    /// Bootstrap servers, not ordered yet. None at all means that the domain says there is no
    /// such service.
    Services(Vec<Service>),
    /// The answer did not fit: ask again over TCP.
    Truncated,
}

impl Question {
    /// The artefacts of a device: TXT records at `<serial-number>._sztp.<domain>`.
    ///
    /// # Errors
    ///
    /// [`Error::Name`] for a serial number that is no label, or a domain that is no name.
    pub fn device(serial: &str, domain: &str) -> Result<Self, Error> {
        // SZTP-8572-4.2.1-03: devices MUST query for TXT records under "<serial-number>._sztp".
        if serial.is_empty() || serial.len() > LABEL_MAX_BYTES {
            return Err(Error::Name {
                name: serial.to_owned(),
                reason: "a label has 1 to 63 octets",
            });
        }
        let mut labels = vec![serial.as_bytes(), b"_sztp"];
        labels.extend(labels_of(domain)?);
        Ok(Self {
            name: name_of(labels, domain)?,
            kind: Kind::Artefacts,
            multicast: is_local(domain),
        })
    }

    /// The servers of a domain: SRV records at `_sztp._tcp.<domain>`.
    ///
    /// # Errors
    ///
    /// [`Error::Name`] for a domain that is no name.
    pub fn service(domain: &str) -> Result<Self, Error> {
        // SZTP-8572-4.2.1-04: devices MUST query for SRV records under "_sztp._tcp".
        let mut labels: Vec<&[u8]> = vec![b"_sztp", b"_tcp"];
        labels.extend(labels_of(domain)?);
        Ok(Self {
            name: name_of(labels, domain)?,
            kind: Kind::Service,
            multicast: is_local(domain),
        })
    }

    /// The name that is asked for, with a dot at its end.
    #[must_use]
    pub fn name(&self) -> String {
        self.name.to_ascii()
    }

    /// `TXT` or `SRV`.
    #[must_use]
    pub fn record_type(&self) -> &'static str {
        match self.kind {
            Kind::Artefacts => "TXT",
            Kind::Service => "SRV",
        }
    }

    /// Whether multicast DNS is asked, which is for names below `local` alone.
    #[must_use]
    pub fn is_multicast(&self) -> bool {
        self.multicast
    }

    /// The message that asks. Multicast questions have the identifier 0 or any other; a
    /// responder repeats it to a device that asks from a port of its own
    /// ([RFC 6762 §6.7](https://www.rfc-editor.org/rfc/rfc6762.html#section-6.7)).
    ///
    /// # Errors
    ///
    /// [`Error::Malformed`] if the message has no encoding.
    pub fn ask(&self, id: u16) -> Result<Vec<u8>, Error> {
        let mut message = Message::new(id, MessageType::Query, OpCode::Query);
        message.metadata.recursion_desired = !self.multicast;
        message.add_query(Query::query(self.name.clone(), self.wanted()));
        if !self.multicast {
            let mut edns = Edns::new();
            edns.set_max_payload(UDP_MESSAGE_MAX_BYTES).set_version(0);
            message.set_edns(edns);
        }
        message
            .to_vec()
            .map_err(|error| Error::Malformed(error.to_string()))
    }

    /// Reads a message that should be the answer to [`Self::ask`] with this identifier.
    ///
    /// # Errors
    ///
    /// [`Error::Malformed`] for what is no DNS message, [`Error::Unrelated`] for the answer to
    /// another question, [`Error::Failed`] where the server refuses or fails, and
    /// [`Error::Incomplete`] for artefacts that do not go together.
    pub fn read(&self, id: u16, octets: &[u8]) -> Result<Answer, Error> {
        let message =
            Message::from_vec(octets).map_err(|error| Error::Malformed(error.to_string()))?;
        let header = &message.metadata;
        // A responder that answers by multicast uses the identifier 0.
        let expected = header.id == id || (self.multicast && header.id == 0);
        if !expected || header.message_type != MessageType::Response {
            return Err(Error::Unrelated);
        }
        let asked = message
            .queries
            .iter()
            .any(|query| query.name == self.name && query.query_type == self.wanted());
        // Multicast answers need not repeat the question.
        if !asked && (!self.multicast || !message.queries.is_empty()) {
            return Err(Error::Unrelated);
        }
        if header.truncation && !self.multicast {
            return Ok(Answer::Truncated);
        }
        match header.response_code {
            ResponseCode::NoError => {}
            ResponseCode::NXDomain => return Ok(Answer::Nothing),
            code => return Err(Error::Failed(code.to_string())),
        }
        let names = self.with_aliases(&message.answers);
        let answers = message.answers.iter().take(RECORDS_MAX);
        let mine = answers
            .filter(|record| record.dns_class == DNSClass::IN && names.contains(&record.name));
        match self.kind {
            Kind::Artefacts => artefacts(mine),
            Kind::Service => Ok(services(mine, &message.additionals)),
        }
    }

    fn wanted(&self) -> RecordType {
        match self.kind {
            Kind::Artefacts => RecordType::TXT,
            Kind::Service => RecordType::SRV,
        }
    }

    /// The name itself and those it is an alias of.
    fn with_aliases(&self, answers: &[Record]) -> Vec<Name> {
        let mut names = vec![self.name.clone()];
        while names.len() <= ALIASES_MAX {
            let last = names.last();
            let next = answers
                .iter()
                .take(RECORDS_MAX)
                .find_map(|record| match &record.data {
                    RData::CNAME(target) if Some(&record.name) == last => Some(target.0.clone()),
                    _ => None,
                });
            match next {
                Some(name) if !names.contains(&name) => names.push(name),
                _ => break,
            }
        }
        names
    }
}

fn artefacts<'a>(records: impl Iterator<Item = &'a Record>) -> Result<Answer, Error> {
    let mut found = Artefacts::default();
    let mut any = false;
    for record in records {
        if let RData::TXT(txt) = &record.data {
            any |= found.take(&txt.txt_data.concat());
        }
    }
    if !any {
        return Ok(Answer::Nothing);
    }
    found.check()?;
    Ok(Answer::Artefacts(found))
}

fn services<'a>(records: impl Iterator<Item = &'a Record>, additionals: &[Record]) -> Answer {
    let mut addresses: BTreeMap<&Name, Vec<IpAddr>> = BTreeMap::new();
    for record in additionals.iter().take(RECORDS_MAX) {
        let address = match &record.data {
            RData::A(address) => IpAddr::V4(address.0),
            RData::AAAA(address) => IpAddr::V6(address.0),
            _ => continue,
        };
        addresses.entry(&record.name).or_default().push(address);
    }
    let mut found = Vec::new();
    let mut any = false;
    for record in records {
        let RData::SRV(srv) = &record.data else {
            continue;
        };
        any = true;
        // SZTP-2782--01: A Target of "." means that the service is decidedly not available at
        // this domain.
        if srv.target.is_root() || srv.port == 0 {
            continue;
        }
        let target = srv.target.to_ascii();
        found.push(Service {
            priority: srv.priority,
            weight: srv.weight,
            port: srv.port,
            target: target.trim_end_matches('.').to_owned(),
            addresses: addresses.get(&srv.target).cloned().unwrap_or_default(),
        });
    }
    if any {
        Answer::Services(found)
    } else {
        Answer::Nothing
    }
}

/// The labels of a domain, which is written as ASCII and may end in a dot.
pub(super) fn labels_of(domain: &str) -> Result<Vec<&[u8]>, Error> {
    let refuse = |reason| Error::Name {
        name: domain.chars().take(300).collect(),
        reason,
    };
    let bare = domain.strip_suffix('.').unwrap_or(domain);
    if bare.is_empty() {
        return Err(refuse("it is empty"));
    }
    let mut labels = Vec::new();
    for label in bare.split('.') {
        let good = label
            .bytes()
            .all(|octet| octet.is_ascii_alphanumeric() || matches!(octet, b'-' | b'_'));
        if label.is_empty() || label.len() > LABEL_MAX_BYTES || !good {
            return Err(refuse(
                "a label of a domain has 1 to 63 letters, digits, hyphens or underscores",
            ));
        }
        labels.push(label.as_bytes());
    }
    Ok(labels)
}

fn name_of(labels: Vec<&[u8]>, given: &str) -> Result<Name, Error> {
    let mut name = Name::from_labels(labels).map_err(|_| Error::Name {
        name: given.chars().take(300).collect(),
        reason: "the name is longer than 255 octets",
    })?;
    name.set_fqdn(true);
    Ok(name)
}

fn is_local(domain: &str) -> bool {
    let bare = domain.strip_suffix('.').unwrap_or(domain);
    bare.eq_ignore_ascii_case(LOCAL) || bare.to_ascii_lowercase().ends_with(".local")
}

#[cfg(test)]
mod tests;
