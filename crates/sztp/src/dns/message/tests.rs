use hickory_proto::rr::rdata::{A, CNAME, SRV, TXT};
use proptest::prelude::*;

use super::*;

fn record(name: &str, data: RData) -> Record {
    Record::from_rdata(Name::from_ascii(name).unwrap(), 60, data)
}

fn answer(question: &Question, id: u16, answers: Vec<Record>) -> Message {
    let mut message = Message::new(id, MessageType::Response, OpCode::Query);
    message.add_query(Query::query(question.name.clone(), question.wanted()));
    message.add_answers(answers);
    message
}

fn txt(strings: Vec<&[u8]>) -> RData {
    RData::TXT(TXT::from_bytes(strings))
}

fn srv(priority: u16, port: u16, target: &str) -> RData {
    RData::SRV(SRV::new(
        priority,
        0,
        port,
        Name::from_ascii(target).unwrap(),
    ))
}

/// Requirements: SZTP-8572-4.2.1-03, SZTP-8572-4.2.1-04
#[test]
fn the_names_are_those_of_the_standard() {
    let cases = [
        (
            Question::device("SN-1", "example.com").unwrap(),
            "SN-1._sztp.example.com.",
            "TXT",
            false,
        ),
        (
            Question::device("SN-1", LOCAL).unwrap(),
            "SN-1._sztp.local.",
            "TXT",
            true,
        ),
        (
            Question::service("example.com.").unwrap(),
            "_sztp._tcp.example.com.",
            "SRV",
            false,
        ),
        (
            Question::service("local").unwrap(),
            "_sztp._tcp.local.",
            "SRV",
            true,
        ),
    ];
    for (question, name, kind, multicast) in cases {
        assert_eq!(
            (question.name().as_str(), question.record_type()),
            (name, kind)
        );
        assert_eq!(question.is_multicast(), multicast);
        let asked = Message::from_vec(&question.ask(7).unwrap()).unwrap();
        assert_eq!(asked.queries[0].name.to_ascii(), name);
        assert_eq!(asked.metadata.id, 7);
        assert_eq!(asked.metadata.recursion_desired, !multicast);
    }
    // A serial number with dots and blanks is one label.
    let odd = Question::device("PID:X SN.1", "example.com").unwrap();
    assert_eq!(odd.name.num_labels(), 4);
    assert!(Question::device("", "example.com").is_err());
    assert!(Question::device(&"x".repeat(64), "example.com").is_err());
    assert!(Question::device("x", "a..b").is_err());
    assert!(Question::service("").is_err());
    assert!(Question::service(&"a.".repeat(130)).is_err());
}

/// Requirements: SZTP-8572-4.2.2-01, SZTP-8572-4.2.2-02, SZTP-6763-6.3-01, SZTP-6763-6.5-01
#[test]
fn strings_of_a_record_are_put_together() {
    let question = Question::device("S", "example.com").unwrap();
    let name = "S._sztp.example.com.";
    let records = vec![
        record(name, txt(vec![b"xx=other"])),
        record(name, txt(vec![b"ci=0\0\xff", b"=more"])),
        record(name, txt(vec![b"oc=0b"])),
        record(name, txt(vec![b"ov=0c"])),
        record("other.example.com.", txt(vec![b"ci=stranger"])),
    ];
    let message = answer(&question, 9, records).to_vec().unwrap();
    let Answer::Artefacts(found) = question.read(9, &message).unwrap() else {
        panic!("no artefacts");
    };
    assert_eq!(
        found.conveyed_information.as_deref(),
        Some(&b"0\0\xff=more"[..])
    );
    assert_eq!(found.owner_certificate.as_deref(), Some(&b"0b"[..]));
    assert_eq!(found.ownership_voucher.as_deref(), Some(&b"0c"[..]));
    // Names have no case.
    let upper = answer(
        &question,
        9,
        vec![record("s._SZTP.EXAMPLE.com.", txt(vec![b"ci=0"]))],
    );
    assert!(matches!(
        question.read(9, &upper.to_vec().unwrap()),
        Ok(Answer::Artefacts(_))
    ));
}

/// Requirements: SZTP-2782--01, SZTP-8572-4.2.3-02, SZTP-8572-4.2.3-03
#[test]
fn servers_come_with_their_ports_and_addresses() {
    let question = Question::service(LOCAL).unwrap();
    let name = "_sztp._tcp.local.";
    let mut message = answer(
        &question,
        0,
        vec![
            record(name, srv(1, 8443, "a.local.")),
            record(name, srv(0, 443, "b.local.")),
        ],
    );
    message.queries.clear();
    message.add_additional(record("a.local.", RData::A(A::new(10, 0, 0, 1))));
    let octets = message.to_vec().unwrap();
    let Answer::Services(found) = question.read(5, &octets).unwrap() else {
        panic!("no servers");
    };
    assert_eq!(found.len(), 2);
    assert_eq!((found[0].target.as_str(), found[0].port), ("a.local", 8443));
    assert_eq!(found[0].addresses, ["10.0.0.1".parse::<IpAddr>().unwrap()]);
    // A unicast answer has to repeat question and identifier.
    let unicast = Question::service("example.com").unwrap();
    assert_eq!(unicast.read(5, &octets), Err(Error::Unrelated));
    let none = answer(
        &unicast,
        5,
        vec![record("_sztp._tcp.example.com.", srv(0, 0, "."))],
    );
    assert_eq!(
        unicast.read(5, &none.to_vec().unwrap()),
        Ok(Answer::Services(Vec::new()))
    );
}

/// Requirements: SZTP-8572-4.2.4-02
#[test]
fn truncation_failure_and_aliases_are_told_apart() {
    let question = Question::device("S", "example.com").unwrap();
    let read = |message: &Message| question.read(1, &message.to_vec().unwrap());
    let mut message = answer(&question, 1, Vec::new());
    assert_eq!(read(&message), Ok(Answer::Nothing));
    message.metadata.response_code = ResponseCode::NXDomain;
    assert_eq!(read(&message), Ok(Answer::Nothing));
    message.metadata.response_code = ResponseCode::ServFail;
    assert!(matches!(read(&message), Err(Error::Failed(_))));
    message.metadata.truncation = true;
    assert_eq!(read(&message), Ok(Answer::Truncated));
    message.metadata.message_type = MessageType::Query;
    assert_eq!(read(&message), Err(Error::Unrelated));
    let alias = RData::CNAME(CNAME(Name::from_ascii("x.example.net.").unwrap()));
    let records = vec![
        record("x.example.net.", txt(vec![b"ci=0"])),
        record("S._sztp.example.com.", alias),
    ];
    let aliased = answer(&question, 1, records);
    assert!(matches!(read(&aliased), Ok(Answer::Artefacts(_))));
    let alone = answer(
        &question,
        1,
        vec![record("S._sztp.example.com.", txt(vec![b"oc=0"]))],
    );
    assert!(matches!(read(&alone), Err(Error::Incomplete(_))));
    assert!(matches!(
        question.read(1, b"junk"),
        Err(Error::Malformed(_))
    ));
}

proptest! {
    #[test]
    fn no_message_fails_badly(octets in prop::collection::vec(any::<u8>(), 0..200)) {
        for question in [Question::device("S", "local"), Question::service("example.com")] {
            let question = question.unwrap();
            let _ = question.read(0, &octets);
            // The same behind a head that is right.
            let mut message = answer(&question, 1, Vec::new()).to_vec().unwrap();
            message[7] = 3;
            message.extend_from_slice(&octets);
            let _ = question.read(1, &message);
        }
    }
}
