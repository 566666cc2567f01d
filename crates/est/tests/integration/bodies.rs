//! Bodies, media types, paths and the multipart answer.

use est::body::{self, BodyError, BodyOddity, BodyTolerances, MediaType};
use est::{Operation, multipart, path, split_path};
use proptest::prelude::*;

const STRICT: BodyTolerances = BodyTolerances {
    binary_der: false,
    pem: false,
};
const LIMIT: usize = 4096;

/// Requirements: EST8951-3-01, EST8951-3.1-01, EST8951-3.1-02
#[test]
fn white_space_of_any_kind_is_tolerated() {
    for text in [
        "MAMCAQE=",
        "MAMCAQE=\n",
        "MAMC\r\nAQE=\r\n",
        " MAMC\tAQ E=",
        "M\nA\nM\nC\nA\nQ\nE\n=\n",
        // Without padding: seen from clients, and there is only one reading.
        "MAMCAQE",
    ] {
        let read = body::decode(text.as_bytes(), LIMIT, &STRICT);
        assert_eq!(read, Ok((vec![0x30, 3, 2, 1, 1], None)), "{text:?}");
    }
}

/// Requirements: EST8951-3-01
#[test]
fn what_is_written_is_one_line_of_base64() {
    let text = body::encode(&[0x5a; 300]);
    assert_eq!(text.len(), 400);
    assert!(
        text.iter()
            .all(|byte| byte.is_ascii_alphanumeric() || b"+/=".contains(byte))
    );
}

#[test]
fn departures_are_refused_by_name_unless_tolerated() {
    let der = [&[0x30, 0x82, 0x01, 0x00][..], &[0; 256]].concat();
    let pem = b"-----BEGIN CERTIFICATE REQUEST-----\nMAMCAQE=\n-----END CERTIFICATE REQUEST-----\n";
    let all = BodyTolerances::all();
    assert_eq!(
        body::decode(&der, LIMIT, &STRICT),
        Err(BodyError::BinaryDer)
    );
    assert_eq!(
        body::decode(&der, LIMIT, &all),
        Ok((der.clone(), Some(BodyOddity::BinaryDer)))
    );
    assert_eq!(body::decode(pem, LIMIT, &STRICT), Err(BodyError::Pem));
    assert_eq!(
        body::decode(pem, LIMIT, &all),
        Ok((vec![0x30, 3, 2, 1, 1], Some(BodyOddity::Pem)))
    );
    for (text, error) in [
        (&b""[..], BodyError::Empty),
        (b" \r\n\t", BodyError::Empty),
        (b"M", BodyError::NotBase64),
        (b"MAMC!QE=", BodyError::NotBase64),
        (b"MAMCAQE==", BodyError::NotBase64),
        (b"MA=MCAQE", BodyError::NotBase64),
        // base64url is another alphabet.
        (b"_-__", BodyError::NotBase64),
        (
            &[b'A'; LIMIT + 4],
            BodyError::TooLarge { limit_bytes: LIMIT },
        ),
    ] {
        for tolerances in [STRICT, all] {
            assert_eq!(body::decode(text, LIMIT, &tolerances), Err(error));
        }
    }
}

/// Requirements: EST-4.2.3-01
#[test]
fn media_types_compare_by_type_and_name() {
    for text in [
        "application/pkcs7-mime; smime-type=certs-only",
        "Application/PKCS7-MIME;smime-type=\"certs-only\"",
        "application/pkcs7-mime ; SMIME-Type=certs-only ; x=\"a;b\"",
    ] {
        let media_type = MediaType::parse(text).unwrap();
        assert_eq!(media_type.essence(), body::PKCS7_MIME, "{text}");
        assert_eq!(
            media_type.parameter("smime-type"),
            Some("certs-only"),
            "{text}"
        );
    }
    for text in ["", "application", "/", "application/", "a b/c", ";"] {
        assert_eq!(MediaType::parse(text), None, "{text:?}");
    }
}

/// Requirements: EST-3.2.2-01, EST-3.2.2-03
#[test]
fn paths_with_and_without_label() {
    for operation in Operation::ALL {
        for label in [None, Some("factory-2")] {
            assert_eq!(
                split_path(&path(label, operation)),
                Some((label, operation))
            );
        }
    }
    for text in [
        "/.well-known/est",
        "/.well-known/est/",
        "/.well-known/est/cacerts/",
        "/.well-known/est//cacerts",
        "/.well-known/est/cacerts/cacerts",
        "/.well-known/est/a/b/cacerts",
        "/.well-known/est/CACERTS",
        "/cacerts",
    ] {
        assert_eq!(split_path(text), None, "{text}");
    }
}

/// The transcript of RFC 7030 appendix A.4, from the preamble to the closing boundary.
fn appendix_a4() -> String {
    let text = include_str!("../data/rfc7030/appendixA.txt");
    let start = text.find("   This is the preamble").unwrap();
    let end = text.find("--estServerExampleBoundary--").unwrap();
    let lines = text[start..end]
        .lines()
        .map(|line| line.strip_prefix("   ").unwrap_or(line));
    lines.map(|line| format!("{line}\r\n")).collect::<String>() + "--estServerExampleBoundary--\r\n"
}

/// Requirements: EST-4.4.2-01, EST-4.4.2-02
#[test]
fn the_published_key_generation_answer_is_read() {
    let parts = multipart::read(
        "multipart/mixed ; boundary=estServerExampleBoundary",
        appendix_a4().as_bytes(),
    )
    .unwrap();
    let expect = |text: &str| body::decode(text.as_bytes(), LIMIT, &STRICT).unwrap().0;
    assert_eq!(
        parts.private_key_pkcs8,
        expect(include_str!("../data/rfc7030/A4-serverkeygen-pkcs8.b64"))
    );
    assert_eq!(
        parts.certificates_pkcs7,
        expect(include_str!("../data/rfc7030/A4-serverkeygen-cert.b64"))
    );
    let key = pki::SoftwareKey::from_pkcs8_der(&parts.private_key_pkcs8).unwrap();
    let certificates = pki::pkcs7::parse_certs_only(&parts.certificates_pkcs7).unwrap();
    assert_eq!(certificates[0].public_key(), pki::Signer::public_key(&key));
}

#[test]
fn multipart_answers_that_lack_something_are_refused() {
    let (content_type, good) = multipart::write(b"key", b"certificate");
    let good = String::from_utf8(good).unwrap();
    assert!(multipart::read(&content_type, good.as_bytes()).is_ok());
    let boundary = "---usher-est-part-";
    for (case, content_type, text) in [
        ("no boundary", "multipart/mixed", good.clone()),
        (
            "another type",
            "multipart/form-data; boundary=x",
            good.clone(),
        ),
        (
            "cut off",
            &content_type,
            good.replace("---usher-est-part---", ""),
        ),
        (
            "no key",
            &content_type,
            good.replace("application/pkcs8", "text/plain"),
        ),
        (
            "no certificate",
            &content_type,
            good.replace("application/pkcs7-mime", "text/plain"),
        ),
        (
            "two keys",
            &content_type,
            good.replacen(
                boundary,
                &format!("{boundary}\r\nContent-Type: application/pkcs8\r\n\r\na2V5\r\n{boundary}"),
                1,
            ),
        ),
        ("empty", &content_type, String::new()),
    ] {
        assert!(
            multipart::read(content_type, text.as_bytes()).is_err(),
            "{case}"
        );
    }
}

proptest! {
    #[test]
    fn bodies_survive_the_way_there_and_back(bytes in prop::collection::vec(any::<u8>(), 1..600)) {
        let text = body::encode(&bytes);
        let (read, oddity) = body::decode(&text, 1024, &STRICT).unwrap();
        prop_assert_eq!(read, bytes);
        prop_assert_eq!(oddity, None);
    }

    #[test]
    fn no_body_and_no_header_makes_a_reader_panic(
        bytes in prop::collection::vec(any::<u8>(), 0..400),
        text in ".{0,200}",
    ) {
        let _ = body::decode(&bytes, 256, &BodyTolerances::all());
        let _ = MediaType::parse(&text);
        let _ = split_path(&text);
        let _ = multipart::read(&text, &bytes);
        let _ = multipart::read("multipart/mixed; boundary=b", &bytes);
    }

    #[test]
    fn parts_survive_the_way_there_and_back(
        key in prop::collection::vec(any::<u8>(), 1..200),
        certificate in prop::collection::vec(any::<u8>(), 1..200),
    ) {
        let (content_type, body) = multipart::write(&key, &certificate);
        let parts = multipart::read(&content_type, &body).unwrap();
        prop_assert_eq!(parts.private_key_pkcs8, key);
        prop_assert_eq!(parts.certificates_pkcs7, certificate);
    }
}
