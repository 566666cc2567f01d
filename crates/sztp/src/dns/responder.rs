//! Answers by multicast DNS, for a network without a DNS server of its own.

use std::collections::BTreeMap;
use std::net::IpAddr;

use hickory_proto::op::{Message, MessageType, OpCode, Query};
use hickory_proto::rr::rdata::{A, AAAA, SRV, TXT};
use hickory_proto::rr::{DNSClass, Name, RData, Record, RecordType};

use super::message::{MDNS_MESSAGE_MAX_BYTES, Question};
use super::{Artefacts, Error, LOCAL};
use crate::dhcp::BootstrapUri;

/// Seconds for which others may keep our records
/// ([RFC 6762 §10](https://www.rfc-editor.org/rfc/rfc6762.html#section-10)).
const TTL_SECONDS: u32 = 120;
/// The same for one that asks as if this were unicast DNS
/// ([RFC 6762 §6.7](https://www.rfc-editor.org/rfc/rfc6762.html#section-6.7)).
const LEGACY_TTL_SECONDS: u32 = 10;
/// Most octets of artefacts in one answer: the rest is its header and names.
const ARTEFACTS_MAX_BYTES: usize = MDNS_MESSAGE_MAX_BYTES - 600;
/// Most questions of one message that are looked at.
const QUESTIONS_MAX: usize = 16;

/// The records of one responder: bootstrap servers for everybody, artefacts for some devices.
#[derive(Clone, Debug, Default)]
pub struct Responder {
    services: Vec<(SRV, Vec<IpAddr>)>,
    /// By the name that is asked for, in lower case.
    devices: BTreeMap<String, Vec<Vec<u8>>>,
}

/// What goes back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Response {
    /// The message.
    pub message: Vec<u8>,
    /// Whether it goes to the one that asked alone, and not to the group.
    pub unicast: bool,
}

impl Responder {
    /// A responder without records.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Announces a bootstrap server behind those that were announced before. One that is named
    /// by its address gets a name in `local`; of one that has a name there the addresses have to
    /// be said, as nobody else knows them.
    ///
    /// # Errors
    ///
    /// [`Error::Name`] for a host that is no DNS name, or of `local` without addresses.
    pub fn announce(&mut self, server: &BootstrapUri, addresses: &[IpAddr]) -> Result<(), Error> {
        let refuse = |reason| Error::Name {
            name: server.address(),
            reason,
        };
        let mut addresses = addresses.to_vec();
        let host = match server.address().parse::<IpAddr>() {
            Ok(address) => {
                addresses.push(address);
                format!("sztp-{}.{LOCAL}.", self.services.len() + 1)
            }
            Err(_) => format!("{}.", server.address().trim_end_matches('.')),
        };
        let target = Name::from_ascii(&host).map_err(|_| refuse("it is no DNS name"))?;
        let is_local = host
            .trim_end_matches('.')
            .to_ascii_lowercase()
            .ends_with(".local");
        if is_local && addresses.is_empty() {
            return Err(refuse("a name in local needs an address"));
        }
        let priority = u16::try_from(self.services.len()).unwrap_or(u16::MAX);
        let port = server.port().unwrap_or(443);
        self.services
            .push((SRV::new(priority, 0, port, target), addresses));
        Ok(())
    }

    /// Serves the artefacts of a device.
    ///
    /// # Errors
    ///
    /// [`Error::Name`] for a serial number that is no label, [`Error::Incomplete`] for artefacts
    /// that do not go together, [`Error::ArtefactTooLarge`] for more than a multicast answer
    /// holds.
    pub fn serve(&mut self, serial: &str, artefacts: &Artefacts) -> Result<(), Error> {
        let question = Question::device(serial, LOCAL)?;
        artefacts.check()?;
        let contents: Vec<Vec<u8>> = artefacts
            .pairs()
            .iter()
            .map(|(key, value)| [key.as_bytes(), b"=", value].concat())
            .collect();
        let size: usize = contents
            .iter()
            .map(|content| content.len() + content.len().div_ceil(255))
            .sum();
        // SZTP-8572-4.2.4-01: signed data may not fit into a multicast DNS packet, which bounds
        // the size to 9000 bytes.
        if size > ARTEFACTS_MAX_BYTES {
            return Err(Error::ArtefactTooLarge { key: "all", size });
        }
        self.devices
            .insert(question.name().to_ascii_lowercase(), contents);
        Ok(())
    }

    /// The answer to a message that came from a port; nothing where nothing of it is ours.
    #[must_use]
    pub fn answer(&self, octets: &[u8], from_port: u16) -> Option<Response> {
        let question = Message::from_vec(octets).ok()?;
        let header = &question.metadata;
        if header.message_type != MessageType::Query || header.op_code != OpCode::Query {
            return None;
        }
        // One that asks from another port than 5353 wants an answer as of unicast DNS.
        let legacy = from_port != super::MULTICAST_PORT;
        let id = if legacy { header.id } else { 0 };
        let mut answer = Message::new(id, MessageType::Response, OpCode::Query);
        answer.metadata.authoritative = true;
        let mut unicast = legacy;
        for query in question.queries.iter().take(QUESTIONS_MAX) {
            if query.query_class != DNSClass::IN {
                continue;
            }
            let found = self.records(query, legacy);
            if found.answers.is_empty() {
                continue;
            }
            unicast |= query.mdns_unicast_response;
            if legacy {
                answer.add_query(query.clone());
            }
            answer.add_answers(found.answers);
            answer.add_additionals(found.additionals);
        }
        // What the one that asks knows already is not said again.
        answer.answers.retain(|ours| {
            !question.answers.iter().any(|known| {
                known.name == ours.name && known.data == ours.data && known.ttl >= ours.ttl / 2
            })
        });
        if answer.answers.is_empty() {
            return None;
        }
        let message = answer.to_vec().ok()?;
        (message.len() <= MDNS_MESSAGE_MAX_BYTES).then_some(Response { message, unicast })
    }

    fn records(&self, query: &Query, legacy: bool) -> Records {
        let mut out = Records::default();
        let name = query.name.to_ascii().to_ascii_lowercase();
        let wants = |kind| query.query_type == kind || query.query_type == RecordType::ANY;
        let record = |name: &Name, data| {
            let ttl = if legacy {
                LEGACY_TTL_SECONDS
            } else {
                TTL_SECONDS
            };
            Record::from_rdata(name.clone(), ttl, data)
        };
        if let Some(contents) = self.devices.get(&name)
            && wants(RecordType::TXT)
        {
            out.answers.extend(contents.iter().map(|content| {
                let strings = content.chunks(255).collect();
                record(&query.name, RData::TXT(TXT::from_bytes(strings)))
            }));
        }
        let is_service = name == format!("_sztp._tcp.{LOCAL}.");
        for (service, addresses) in &self.services {
            let mut of_host = addresses.iter().map(|address| {
                let data = match address {
                    IpAddr::V4(address) => RData::A(A(*address)),
                    IpAddr::V6(address) => RData::AAAA(AAAA(*address)),
                };
                record(&service.target, data)
            });
            if is_service && wants(RecordType::SRV) {
                out.answers
                    .push(record(&query.name, RData::SRV(service.clone())));
                // SZTP-8572-4.2.3-03: Multicast DNS (mDNS) responses SHOULD also include all
                // address records (type "A" and "AAAA") named in the SRV rdata.
                out.additionals.extend(&mut of_host);
            }
            if query.name == service.target {
                out.answers
                    .extend(of_host.filter(|record| wants(record.record_type())));
            }
        }
        out
    }
}

#[derive(Default)]
struct Records {
    answers: Vec<Record>,
    additionals: Vec<Record>,
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::dns::{Answer, MULTICAST_PORT};

    fn responder() -> Responder {
        let mut responder = Responder::new();
        let uri = |text: &str| BootstrapUri::parse(text).unwrap();
        responder
            .announce(&uri("https://192.0.2.1:9543"), &[])
            .unwrap();
        responder
            .announce(&uri("https://boot.example.com"), &[])
            .unwrap();
        let artefacts = Artefacts {
            conveyed_information: Some(vec![0x30; 3000]),
            ..Artefacts::default()
        };
        responder.serve("SN-1", &artefacts).unwrap();
        responder
    }

    /// Requirements: SZTP-8572-4.2.3-03, SZTP-8572-4.2.3-01, SZTP-8572-4.2.2-02
    #[test]
    fn a_device_understands_what_is_answered() {
        let responder = responder();
        let service = Question::service(LOCAL).unwrap();
        let answer = responder.answer(&service.ask(7).unwrap(), 40_000).unwrap();
        assert!(answer.unicast);
        let Ok(Answer::Services(found)) = service.read(7, &answer.message) else {
            panic!("no services");
        };
        assert_eq!(
            (found[0].target.as_str(), found[0].port),
            ("sztp-1.local", 9543)
        );
        assert_eq!(found[0].addresses, ["192.0.2.1".parse::<IpAddr>().unwrap()]);
        assert_eq!(
            (found[1].target.as_str(), found[1].port),
            ("boot.example.com", 443)
        );
        let device = Question::device("sn-1", LOCAL).unwrap();
        let answer = responder.answer(&device.ask(8).unwrap(), 40_000).unwrap();
        let Ok(Answer::Artefacts(found)) = device.read(8, &answer.message) else {
            panic!("no artefacts");
        };
        assert_eq!(found.conveyed_information.unwrap().len(), 3000);
        // A resolver that shares the port gets its answer by multicast.
        let shared = responder
            .answer(&service.ask(7).unwrap(), MULTICAST_PORT)
            .unwrap();
        assert!(!shared.unicast);
        let message = Message::from_vec(&shared.message).unwrap();
        assert_eq!((message.metadata.id, message.queries.len()), (0, 0));
        assert!(matches!(
            service.read(7, &shared.message),
            Ok(Answer::Services(_))
        ));
        // Nothing for others, and nothing for an answer.
        let other = Question::device("SN-2", LOCAL).unwrap();
        assert_eq!(responder.answer(&other.ask(8).unwrap(), 40_000), None);
        assert_eq!(responder.answer(&answer.message, 40_000), None);
    }

    #[test]
    fn known_answers_are_not_repeated_and_too_much_is_refused() {
        let responder = responder();
        let service = Question::service(LOCAL).unwrap();
        let shared = responder
            .answer(&service.ask(0).unwrap(), MULTICAST_PORT)
            .unwrap();
        let mut again = Message::from_vec(&service.ask(0).unwrap()).unwrap();
        again.answers = Message::from_vec(&shared.message).unwrap().answers;
        assert_eq!(
            responder.answer(&again.to_vec().unwrap(), MULTICAST_PORT),
            None
        );
        let large = Artefacts {
            conveyed_information: Some(vec![0x30; 8500]),
            ..Artefacts::default()
        };
        let mut responder = Responder::new();
        assert!(matches!(
            responder.serve("SN-1", &large),
            Err(Error::ArtefactTooLarge { .. })
        ));
        let local = BootstrapUri::parse("https://boot.local").unwrap();
        assert!(responder.announce(&local, &[]).is_err());
        let address = ["192.0.2.1".parse().unwrap()];
        assert!(responder.announce(&local, &address).is_ok());
    }

    proptest! {
        #[test]
        fn no_question_fails_badly(octets in prop::collection::vec(any::<u8>(), 0..300)) {
            let _ = responder().answer(&octets, 1);
        }
    }
}
