//! DNS answers, and records in the text of a zone file.
#![no_main]
use libfuzzer_sys::fuzz_target;
use sztp::dns::{Answer, Question, inspect_zone, txt_zone};

fuzz_target!(|bytes: &[u8]| {
    let question = Question::device("SN-1", "example.com").expect("a good name");
    // The answer to the question behind a head that is right, so that the rest is reached.
    let mut message = question.ask(1).expect("a good question");
    message[2] |= 0x80;
    if let (Some((counts, rest)), Some(place)) = (bytes.split_at_checked(6), message.get_mut(6..12))
    {
        place.copy_from_slice(counts);
        // The additional record of the question goes.
        message.truncate(message.len() - 11);
        message.extend_from_slice(rest);
        for octets in [message.as_slice(), bytes] {
            if let Ok(Answer::Artefacts(found)) = question.read(1, octets) {
                assert!(found.check().is_ok());
                if let Ok(zone) = txt_zone("SN-1", "example.com", &found) {
                    let read = inspect_zone(&zone);
                    assert_eq!(read.len(), found.pairs().len());
                    for (record, (_, value)) in read.iter().zip(found.pairs()) {
                        assert_eq!(
                            record.value.as_ref().map(|(_, it)| it.as_slice()),
                            Some(value)
                        );
                    }
                }
            }
        }
    }
    let _ = inspect_zone(&String::from_utf8_lossy(bytes));
});
