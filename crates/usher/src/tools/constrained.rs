//! What constrained devices exchange: COSE, CBOR, and how many octets of them.

use artifacts::cbor::{CborError, Item, Named};
use artifacts::{Envelope, Signed, Tolerances, Voucher, VoucherFields};
use pki::cose::Sign1;
use serde_json::{Map, Value, json};

/// Sizes that count on constrained networks, in octets.
const BUDGETS: [(&str, usize); 3] = [
    // A CoAP block within a DTLS record of 512 octets.
    ("a block of 256", 256),
    ("a block of 512", 512),
    // What draft-ietf-anima-constrained-voucher section 6.1.4 has a datagram be, and what
    // OpenThread's device sets aside for a voucher.
    ("a datagram of 1024", 1024),
];

/// What is inside a signed artefact as JSON, whatever its encoding; none if it is not readable.
pub(super) fn content(signed: &Signed) -> Option<Value> {
    let payload = signed.payload()?;
    match signed.envelope() {
        Envelope::Cose => Some(Named::read(payload)?.to_json()),
        Envelope::Cms | Envelope::Jws => {
            let text = payload.strip_prefix(b"\xef\xbb\xbf").unwrap_or(payload);
            serde_json::from_slice(text).ok()
        }
    }
}

/// Whether the octets begin as COSE does, of whichever kind.
pub(super) fn is_cose(bytes: &[u8]) -> bool {
    match bytes {
        // The tags of COSE_Encrypt0, COSE_Mac0 and COSE_Sign1, and an array of four.
        [0xd0..=0xd2, 0x80..=0x9f, ..] | [0x84, 0x40..=0x5b, ..] => true,
        // Those of COSE_Encrypt, COSE_Mac and COSE_Sign, and long spellings of the others.
        [0xd8, 16..=18 | 96..=98, 0x80..=0x9f, ..] => true,
        _ => false,
    }
}

/// CBOR without a signature, in diagnostic notation.
pub(super) fn diagnostic(bytes: &[u8]) -> Value {
    match Item::parse(bytes) {
        Ok((item, form)) => {
            let mut odd = Vec::new();
            for (is, what) in [
                (form.indefinite, "lengths are indefinite"),
                (form.longer, "numbers are longer than they have to be"),
                (form.unsorted, "keys are not sorted"),
            ] {
                odd.extend(is.then_some(what));
            }
            json!({ "diagnostic": item.to_string(), "encoding_choices": odd })
        }
        Err(error) => broken(&error),
    }
}

fn broken(error: &CborError) -> Value {
    json!({ "error": format!("no CBOR: {error}") })
}

/// The headers of a COSE_Sign1 and its sizes.
pub(super) fn describe(signed: &Signed, cose: &Sign1) -> Map<String, Value> {
    let mut out = Map::new();
    out.insert("headers".to_owned(), headers(signed.bytes(), cose));
    out.insert("sizes".to_owned(), sizes(signed, cose));
    out
}

fn headers(bytes: &[u8], cose: &Sign1) -> Value {
    let placed = match (cose.certificates().len(), cose.has_chain()) {
        (0, _) => "none",
        (_, true) => "x5chain",
        (_, false) => "x5bag",
    };
    let elements = elements(bytes);
    let protected = elements
        .as_ref()
        .and_then(|[protected, ..]| match protected {
            Item::Bytes(inner) if inner.is_empty() => Some("{}".to_owned()),
            Item::Bytes(inner) => Some(Item::parse(inner).ok()?.0.to_string()),
            _ => None,
        });
    let unprotected = elements.map(|[_, unprotected, ..]| match unprotected {
        Item::Map(entries) => {
            let labels = entries.iter().map(|(label, _)| label.to_string());
            labels.collect()
        }
        _ => Vec::new(),
    });
    json!({
        "tagged": cose.is_tagged(),
        "algorithm": cose.algorithm_number(),
        "protected": protected,
        "unprotected_labels": unprotected,
        "kid": cose.key_id().map(hex::encode),
        "certificates_in": placed,
    })
}

/// The four elements of the message.
fn elements(bytes: &[u8]) -> Option<[Item; 4]> {
    let item = match Item::parse(bytes).ok()?.0 {
        Item::Tag(_, inner) => *inner,
        other => other,
    };
    match item {
        Item::Array(items) => items.try_into().ok(),
        _ => None,
    }
}

fn length(item: &Item) -> usize {
    item.encode().len()
}

/// The message with another payload and without unprotected header, as a device gets it.
fn to_device(elements: &[Item; 4], payload: Vec<u8>) -> usize {
    let [protected, _, _, signature] = elements;
    let empty = Item::Map(Vec::new());
    let all = vec![
        protected.clone(),
        empty,
        Item::Bytes(payload),
        signature.clone(),
    ];
    length(&Item::Tag(18, Box::new(Item::Array(all))))
}

fn sizes(signed: &Signed, cose: &Sign1) -> Value {
    let whole = signed.bytes().len();
    let bare = cose.without_certificates().map_or(whole, |bare| bare.len());
    let mut out = Map::new();
    out.insert("message".to_owned(), whole.into());
    out.insert("without_certificates".to_owned(), bare.into());
    let elements = elements(signed.bytes());
    if let Some([protected, unprotected, payload, signature]) = &elements {
        for (name, item) in [
            ("protected_header", protected),
            ("unprotected_header", unprotected),
            ("payload", payload),
            ("signature", signature),
        ] {
            out.insert(name.to_owned(), length(item).into());
        }
    }
    if let Some(named) = Named::read(cose.payload()) {
        let leaves: Map<_, _> = named
            .leaves
            .iter()
            .map(|(name, _, octets)| (name.clone(), (*octets).into()))
            .collect();
        out.insert("leaves".to_owned(), Value::Object(leaves));
    }
    let fits = BUDGETS
        .into_iter()
        .map(|(name, octets)| (name.to_owned(), (bare <= octets).into()));
    out.insert("fits_in".to_owned(), Value::Object(fits.collect()));
    let pinned = elements.and_then(|elements| by_pin(&elements, cose.payload()));
    out.insert("if_pinned_by".to_owned(), pinned.into());
    Value::Object(out)
}

/// How large the voucher would be with each pin that can be made of what it has.
fn by_pin(elements: &[Item; 4], payload: &[u8]) -> Option<Value> {
    let (voucher, _) = Voucher::from_cbor(payload, &Tolerances::lenient()).ok()?;
    let fields = voucher.into_fields();
    let certificate = fields.pinned_domain_cert.clone();
    let key = fields.pinned_domain_pubk.clone();
    let key = key.or_else(|| Some(certificate.as_ref()?.public_key().clone()));
    let hash = fields.pinned_domain_pubk_sha256;
    let hash = hash.or_else(|| Some(key.as_ref()?.sha256()));
    let bare = VoucherFields {
        pinned_domain_cert: None,
        pinned_domain_pubk: None,
        pinned_domain_pubk_sha256: None,
        ..fields
    };
    let size = |fields: VoucherFields| {
        let voucher = Voucher::new(fields).ok()?;
        Some(to_device(elements, voucher.to_cbor()))
    };
    Some(json!({
        "pinned-domain-pubk-sha256": hash.and_then(|hash| size(VoucherFields {
            pinned_domain_pubk_sha256: Some(hash),
            ..bare.clone()
        })),
        "pinned-domain-pubk": key.and_then(|key| size(VoucherFields {
            pinned_domain_pubk: Some(key),
            ..bare.clone()
        })),
        "pinned-domain-cert": certificate.and_then(|certificate| size(VoucherFields {
            pinned_domain_cert: Some(certificate),
            ..bare.clone()
        })),
    }))
}
