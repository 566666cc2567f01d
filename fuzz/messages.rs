//! What the two targets of RESTCONF messages share.

use sztp::message::{GetBootstrappingDataInput, GetBootstrappingDataOutput, ReportProgressInput};
use sztp::restconf::RestconfError;
use sztp::{Encoding, Leniency};

/// Reads a body as each message, strictly and with every switch.
pub fn read(body: &[u8], encoding: Encoding) {
    let every = Leniency::from_names(Leniency::NAMES.iter().copied()).expect("the names");
    for leniency in [Leniency::strict(), every] {
        match GetBootstrappingDataInput::decode(body, encoding, &leniency) {
            Ok((message, _)) => {
                let again = message.encode(encoding);
                let strict = GetBootstrappingDataInput::decode(&again, encoding, &Leniency::strict());
                // A device that offers only formats that nobody knows ends up offering none.
                if let Ok((read, oddities)) = strict {
                    assert_eq!(read, message);
                    assert!(oddities.is_empty());
                }
            }
            Err(error) => judge(&error),
        }
        match GetBootstrappingDataOutput::decode(body, encoding, &leniency) {
            Ok((message, _)) => {
                let again = message.encode(encoding);
                let strict = GetBootstrappingDataOutput::decode(&again, encoding, &Leniency::strict());
                assert_eq!(strict.expect("our own reply").0, message);
            }
            Err(error) => judge(&error),
        }
        match ReportProgressInput::decode(body, encoding, &leniency) {
            Ok((message, oddities)) => {
                let again = message.encode(encoding);
                let strict = ReportProgressInput::decode(&again, encoding, &Leniency::strict());
                if oddities.is_empty() {
                    assert_eq!(strict.expect("our own report").0, message);
                }
            }
            Err(error) => judge(&error),
        }
    }
}

/// A peer's input is answered with a client error that can be written.
pub fn judge(error: &RestconfError) {
    assert!((400..500).contains(&error.status));
    for encoding in [Encoding::Json, Encoding::Xml] {
        assert!(!error.encode(encoding).is_empty());
    }
}
