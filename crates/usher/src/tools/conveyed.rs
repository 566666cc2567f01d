//! Conveyed information, owner certificates and whole bootstrapping data of RFC 8572.

use artifacts::bundle::{self, BootstrappingData, DeviceContext};
use artifacts::conveyed::{
    self, BootstrapServer, ConveyedInformation, OnboardingInformation, Parsed, SignedInformation,
};
use artifacts::enveloped::Enveloped;
use artifacts::verify::ExpectedNonce;
use artifacts::{Document, Encoding, Error, Tolerances, owner};
use daemon::Outcome;
use pki::cms::{Decryptor, EnvelopedData};
use pki::path::{self, PathOptions, Purpose};
use pki::{Certificate, Coded, ObjectIdentifier, SoftwareKey};
use serde_json::{Map, Value, json};
use zeroize::Zeroizing;

use super::case::Case;
use super::describe;
use super::input::{self, Problem};
use super::judge::{Known, Verdict, check_json, oddities_json, serial_of, subjects};

/// The longest configuration or script that is shown as text.
const TEXT_SHOWN_MAX_BYTES: usize = 4096;

/// What belongs to conveyed information, and the device's side of it.
pub(super) struct Bundle {
    owner_certificate: Option<Vec<u8>>,
    voucher: Option<Vec<u8>>,
    key: Option<SoftwareKey>,
    trusted_source: bool,
}

impl Bundle {
    pub(super) fn load(case: &Case) -> Result<Self, Problem> {
        let read = |name: &Option<String>| name.as_deref().map(input::read).transpose();
        Ok(Self {
            owner_certificate: read(&case.owner_certificate)?,
            voucher: read(&case.voucher)?,
            key: case.key.as_deref().map(key).transpose()?,
            trusted_source: case.trusted_source == Some(true),
        })
    }

    pub(super) fn key(&self) -> Option<&SoftwareKey> {
        self.key.as_ref()
    }
}

/// A private key that decrypts.
pub(super) fn key(name: &str) -> Result<SoftwareKey, Problem> {
    let bytes = Zeroizing::new(input::read(name)?);
    let key = match std::str::from_utf8(&bytes) {
        Ok(text) if text.contains("-----BEGIN ") => SoftwareKey::from_pem(text, None),
        _ => SoftwareKey::from_pkcs8_der(&bytes),
    };
    key.map_err(|source| Problem::Material {
        name: "the private key".to_owned(),
        source,
    })
}

/// What is inside of an encrypted artefact.
pub(super) fn decrypted(artefact: &[u8], key: &SoftwareKey) -> Result<Zeroizing<Vec<u8>>, Error> {
    let lenient = Tolerances::lenient();
    // Every content type that any of the three artefacts may have is taken as conveyed
    // information; what it is shows when it is open.
    let enveloped = Enveloped::parse(Document::ConveyedInformation, artefact, &lenient)?;
    let (artefact, _) = enveloped.decrypt(key, None, &lenient)?;
    Ok(artefact)
}

/// The members that say what an encrypted artefact tells from outside.
pub(super) fn enveloped(artefact: &[u8]) -> (Value, Outcome) {
    match EnvelopedData::parse(artefact) {
        Ok(data) => {
            let (cipher, recipients) = data.describe();
            let body = json!({
                "content_type": content_type_name(data.content_type()),
                "cipher": cipher,
                "recipients": recipients,
                "recipient_count": data.recipient_count(),
                "content": "encrypted; give the device's key with --key",
            });
            (body, Outcome::Yes)
        }
        Err(error) => failure(&error),
    }
}

fn failure(error: &dyn Coded) -> (Value, Outcome) {
    let body = json!({ "error": error.to_string(), "code": error.code() });
    (body, Outcome::No)
}

fn content_type_name(id: ObjectIdentifier) -> String {
    let name = match id {
        pki::cms::ID_DATA => "id-data",
        pki::cms::ID_SIGNED_DATA => "id-signedData",
        pki::cms::ID_ENVELOPED_DATA => "id-envelopedData",
        conveyed::ID_CT_SZTP_CONVEYED_INFO_XML => "id-ct-sztpConveyedInfoXML",
        conveyed::ID_CT_SZTP_CONVEYED_INFO_JSON => "id-ct-sztpConveyedInfoJSON",
        other => return other.to_string(),
    };
    name.to_owned()
}

/// Conveyed information in its CMS, described.
pub(super) fn inspect(artefact: &[u8]) -> (Value, Outcome) {
    let lenient = Tolerances::lenient();
    let parsed = match conveyed::parse(artefact, &lenient) {
        Ok(parsed) => parsed,
        Err(error) => return failure(&error),
    };
    let mut body = Map::new();
    let (content, encoding, oddities) = match &parsed {
        Parsed::Unsigned {
            encoding,
            content,
            oddities,
        } => {
            body.insert("signed".to_owned(), false.into());
            let id = pki::cms::content_type_of(artefact).ok();
            let name = id.map(content_type_name);
            body.insert("content_type".to_owned(), name.into());
            (content.as_slice(), *encoding, oddities.as_slice())
        }
        Parsed::Signed(signed) => {
            body.insert("signed".to_owned(), true.into());
            let name = content_type_name(signed.signed_data().content_type());
            body.insert("content_type".to_owned(), name.into());
            body.insert("signature".to_owned(), signature(signed, &lenient));
            let others = signed.signed_data().certificates().iter();
            let others: Vec<_> = others.map(describe::certificate_line).collect();
            body.insert("certificates".to_owned(), others.into());
            (
                signed.dangerous_peek(),
                signed.encoding(),
                signed.oddities(),
            )
        }
        Parsed::Enveloped(_) => return enveloped(artefact),
    };
    body.insert("envelope_oddities".to_owned(), oddities_json(oddities));
    let (content, outcome) = document(content, encoding);
    if let Value::Object(members) = content {
        body.extend(members);
    }
    (Value::Object(body), outcome)
}

fn signature(signed: &SignedInformation, tolerances: &Tolerances) -> Value {
    match signed.verify(&[], tolerances) {
        Ok((_, signer)) => json!({
            "holds": true,
            "signer": describe::certificate(signer.certificate()),
            "algorithm": format!("{:?}", signer.algorithm()),
            "signing_time": signer.signing_time().map(describe::date),
            "trusted": "not judged; use `usher artifact verify`",
        }),
        Err(error) => json!({
            "holds": false,
            "code": error.code(),
            "detail": error.to_string(),
        }),
    }
}

/// The document inside: what it says, and what a strict reader says of it.
pub(super) fn document(content: &[u8], encoding: Encoding) -> (Value, Outcome) {
    let strict = ConveyedInformation::decode(content, encoding, &Tolerances::strict());
    let lenient = ConveyedInformation::decode_noting(content, encoding, &Tolerances::lenient());
    let reader = |error: Option<&Error>| {
        error.map_or_else(
            || "accepts it".to_owned(),
            |error| format!("{error} [{}]", error.code()),
        )
    };
    let strict_reader = reader(strict.as_ref().err());
    let lenient_reader = reader(lenient.as_ref().err());
    let outcome = Outcome::of(lenient.is_ok());
    let (information, oddities) = lenient.ok().unzip();
    let body = json!({
        "content_encoding": encoding.name(),
        "information": information.as_ref().map(ConveyedInformation::kind),
        "content": information.as_ref().map(shown),
        "strict_reader": strict_reader,
        "lenient_reader": lenient_reader,
        "oddities": oddities_json(&oddities.unwrap_or_default()),
    });
    (body, outcome)
}

fn shown(information: &ConveyedInformation) -> Value {
    match information {
        ConveyedInformation::Redirect(redirect) => {
            let servers = redirect.bootstrap_servers.iter().map(server);
            json!({ "bootstrap_servers": servers.collect::<Vec<_>>() })
        }
        ConveyedInformation::Onboarding(onboarding) => onboarding_shown(onboarding),
    }
}

fn server(server: &BootstrapServer) -> Value {
    let anchor = match server.anchor(&Tolerances::strict()) {
        Ok(None) => Value::Null,
        Ok(Some(anchor)) => anchor
            .chain()
            .iter()
            .map(describe::certificate_line)
            .collect(),
        Err(error) => json!({ "error": error.to_string(), "code": error.code() }),
    };
    json!({
        "address": server.address,
        "port": server.port.unwrap_or(443),
        "trust_anchor": anchor,
    })
}

fn onboarding_shown(onboarding: &OnboardingInformation) -> Value {
    let mut body = Map::new();
    if let Some(image) = &onboarding.boot_image {
        let hashes = image.image_verifications.iter();
        let hashes = hashes.map(|hash| {
            json!({ "algorithm": hash.algorithm.as_str(), "value": hex::encode(&hash.value) })
        });
        let value = json!({
            "os_name": image.os_name,
            "os_version": image.os_version,
            "download_uris": image.download_uris,
            "image_verifications": hashes.collect::<Vec<_>>(),
        });
        body.insert("boot_image".to_owned(), value);
    }
    let handling = onboarding.configuration_handling;
    let handling = handling.map(|handling| handling.as_str());
    body.insert("configuration_handling".to_owned(), handling.into());
    for (name, octets) in [
        (
            "pre_configuration_script",
            &onboarding.pre_configuration_script,
        ),
        ("configuration", &onboarding.configuration),
        (
            "post_configuration_script",
            &onboarding.post_configuration_script,
        ),
    ] {
        let Some(octets) = octets else { continue };
        let text = (octets.len() <= TEXT_SHOWN_MAX_BYTES)
            .then(|| std::str::from_utf8(octets).ok())
            .flatten();
        let value = json!({
            "octets": octets.len(),
            "sha256": hex::encode(pki::DigestAlgorithm::Sha256.hash(octets)),
            "text": text,
        });
        body.insert(name.to_owned(), value);
    }
    Value::Object(body)
}

/// Judges conveyed information with what belongs to it, as a device does.
pub(super) fn verify(known: &Known, artefact: &[u8]) -> Result<Verdict, Problem> {
    let data = BootstrappingData {
        conveyed_information: artefact.to_vec(),
        owner_certificate: known.bundle.owner_certificate.clone(),
        ownership_voucher: known.bundle.voucher.clone(),
    };
    if data.ownership_voucher.is_some() {
        known.need_anchors()?;
    }
    let serial = known.serial.clone();
    let serial = serial.or_else(|| serial_of(known.idevid.as_ref()?));
    let crls = known.crls.as_deref().unwrap_or_default();
    let context = DeviceContext {
        serial: serial.as_ref(),
        idevid: known.idevid.as_ref(),
        voucher_crls: crls,
        nonce: known
            .nonce
            .as_ref()
            .map_or(ExpectedNonce::Unknown, ExpectedNonce::Exactly),
        at: known.now,
        owner_crls: crls,
        decryption_key: known.bundle.key().map(|key| key as &dyn Decryptor),
        ..DeviceContext::new(&known.anchors, &known.tolerances)
    };
    let judged = bundle::judge(&data, known.bundle.trusted_source, &context);
    let failure = judged.result.as_ref().err();
    let failure = failure.map(|error| (error.code(), error.to_string()));
    let summary = judged.result.as_ref().ok().map(|information| {
        json!({
            "information": information.kind(),
            "trust_state": judged.trusted,
            "serial_number": judged.voucher.as_ref().map(|voucher| voucher.serial_number.as_str()),
            "owner_path": subjects(&judged.owner_path),
            "content": shown(information),
        })
    });
    let encoding = judged.encoding.map_or("cms", Encoding::name);
    Ok(Verdict::new("conveyed-information", encoding, failure)
        .with("signed", judged.signed.into())
        .with("checks", judged.checks.iter().map(check_json).collect())
        .with("oddities", oddities_json(&judged.oddities))
        .with("verified", summary.into())
        .with("at", known.at_text()))
}

/// Judges the document alone: whether it keeps the rules of its YANG module.
pub(super) fn verify_document(known: &Known, content: &[u8], encoding: Encoding) -> Verdict {
    let read = ConveyedInformation::decode_noting(content, encoding, &known.tolerances);
    let failure = read.as_ref().err();
    let failure = failure.map(|error| (error.code(), error.to_string()));
    let oddities = read.as_ref().map(|(_, oddities)| oddities.as_slice());
    let oddities = oddities_json(oddities.unwrap_or_default());
    let summary = read.as_ref().ok().map(|(information, _)| {
        json!({ "information": information.kind(), "content": shown(information) })
    });
    Verdict::new("conveyed-information-document", encoding.name(), failure)
        .with("oddities", oddities)
        .with("verified", summary.into())
}

/// Judges an owner certificate: its form, and the path to the anchors, which are what the voucher
/// pins.
pub(super) fn verify_owner(known: &Known, artefact: &[u8]) -> Result<Verdict, Problem> {
    known.need_anchors()?;
    let judged = owner::decode_with(artefact, &known.tolerances).map(|artefact| {
        let path = owner_path(known, &artefact);
        (artefact, path)
    });
    let (failure, oddities, summary) = match &judged {
        Ok((artefact, Ok(path))) => (
            None,
            artefact.oddities(),
            Some(json!({ "owner_path": subjects(path), "crls": artefact.crls().len() })),
        ),
        Ok((artefact, Err(error))) => (
            Some((error.code(), error.to_string())),
            artefact.oddities(),
            None,
        ),
        Err(error) => (Some((error.code(), error.to_string())), &[][..], None),
    };
    Ok(Verdict::new("owner-certificate", "cms", failure)
        .with("oddities", oddities_json(oddities))
        .with("verified", summary.into())
        .with("at", known.at_text()))
}

fn owner_path(
    known: &Known,
    artefact: &owner::OwnerCertificate,
) -> Result<Vec<Certificate>, Error> {
    let certificate = artefact.owner_certificate()?;
    let mut crls = artefact.crls().to_vec();
    crls.extend_from_slice(known.crls.as_deref().unwrap_or_default());
    let mut others = artefact.certificates().to_vec();
    others.extend_from_slice(&known.intermediates);
    let options = PathOptions {
        at: known.now,
        purpose: Purpose::Any,
        crls,
        tolerate_legacy_algorithms: known.tolerances.sha1,
        ..PathOptions::default()
    };
    let path = path::validate(certificate, &others, &known.anchors, &options)?;
    Ok(path.certificates().to_vec())
}
