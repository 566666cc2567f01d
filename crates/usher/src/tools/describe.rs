//! Certificates, CSRs and CRLs as JSON.

use est::csrattrs::{AttrOrOid, CsrAttrs};
use pki::{Certificate, Crl, Csr, ObjectIdentifier};
use serde_json::{Map, Value, json};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use artifacts::IdevidIssuer;

/// A list of what is unusual.
pub(super) type Odd = Vec<String>;

/// A certificate with what is odd about it.
pub(super) fn certificate(certificate: &Certificate) -> Value {
    let tbs = certificate.x509().tbs_certificate();
    let mut out = Map::new();
    let mut put = |name: &str, value: Value| {
        out.insert(name.to_owned(), value);
    };
    put("subject", certificate.subject().into());
    put("issuer", certificate.issuer().into());
    put(
        "certificate_serial",
        hex::encode(certificate.serial_number()).into(),
    );
    put("not_before", date(certificate.not_before()).into());
    put("not_after", date(certificate.not_after()).into());
    if let Some(serial) = certificate.subject_serial_number() {
        put("device_serial_number", serial.into());
    }
    if let Some(name) = certificate.hardware_module_name() {
        let serial = name.serial_number;
        let value = json!({
            "type": name.hardware_type.to_string(),
            "serial_hex": hex::encode(&serial),
            "serial_text": String::from_utf8(serial).ok(),
        });
        put("hardware_module_name", value);
    }
    if let Some(url) = certificate.masa_url() {
        put("masa_url", url.into());
    }
    put("key", certificate.public_key().describe().into());
    put(
        "key_sha256",
        hex::encode(certificate.public_key().sha256()).into(),
    );
    put(
        "signature_algorithm",
        algorithm_name(certificate.x509().signature_algorithm().oid).into(),
    );
    put("ca", certificate.is_ca().into());
    let usages = certificate.extended_key_usages();
    if !usages.is_empty() {
        let names: Vec<_> = usages.into_iter().map(usage_name).collect();
        put("extended_key_usage", names.into());
    }
    let names = certificate.dns_names();
    if !names.is_empty() {
        put("dns_names", names.into());
    }
    put(
        "subject_key_id",
        certificate.subject_key_id().map(hex::encode).into(),
    );
    put(
        "authority_key_id",
        certificate.authority_key_id().map(hex::encode).into(),
    );
    let extensions = tbs.extensions().map(Vec::as_slice).unwrap_or_default();
    let extensions = extensions.iter().map(|extension| {
        let name = extension_name(extension.extn_id);
        if extension.critical {
            format!("{name} (critical)")
        } else {
            name
        }
    });
    put("extensions", extensions.collect::<Vec<_>>().into());
    put("sha256", hex::encode(certificate.sha256()).into());
    let odd = odd_about(certificate);
    if !odd.is_empty() {
        put("odd", odd.into());
    }
    Value::Object(out)
}

/// A certificate in a few words, for lists.
pub(super) fn certificate_line(certificate: &Certificate) -> String {
    format!(
        "{} (issued by {}, until {})",
        certificate.subject(),
        certificate.issuer(),
        date(certificate.not_after())
    )
}

fn odd_about(certificate: &Certificate) -> Odd {
    let mut odd = Odd::new();
    let idevid = certificate.masa_url().is_some();
    if certificate.not_before() > certificate.not_after() {
        odd.push("notAfter is before notBefore".to_owned());
    }
    if certificate.serial_number().len() > 20 {
        odd.push("the serial number has over 20 octets".to_owned());
    }
    if certificate
        .serial_number()
        .first()
        .is_none_or(|byte| byte & 0x80 != 0)
    {
        odd.push("the serial number is not positive".to_owned());
    }
    if idevid && certificate.subject_serial_number().is_none() {
        odd.push("an IDevID without serialNumber in its subject".to_owned());
    }
    if idevid && certificate.authority_key_id().is_none() {
        odd.push("an IDevID without authority key identifier".to_owned());
    }
    if certificate.has_cmc_ra() {
        let usages = certificate.extended_key_usages();
        if !usages.iter().any(|usage| usage.to_string() == SERVER_AUTH) {
            odd.push("a registrar's certificate without serverAuth".to_owned());
        }
        if certificate.subject_key_id().is_none() {
            odd.push("a registrar's certificate without subject key identifier".to_owned());
        }
    }
    if algorithm_name(certificate.x509().signature_algorithm().oid).contains("SHA-1") {
        odd.push("signed over SHA-1".to_owned());
    }
    odd
}

/// A CSR, its proof of possession included.
pub(super) fn csr(csr: &Csr) -> Value {
    let mut odd = Odd::new();
    let proof = csr.verify();
    if let Err(error) = &proof {
        odd.push(error.to_string());
    }
    let attributes = csr.attributes().iter().map(|attribute| {
        json!({
            "id": attribute_name(attribute.id),
            "values_hex": attribute.values.iter().map(hex::encode).collect::<Vec<_>>(),
        })
    });
    let extensions = csr.extension_request().map(|extensions| {
        extensions
            .into_iter()
            .map(|extension| extension_name(extension.extn_id))
            .collect()
    });
    let extensions: Vec<String> = extensions.unwrap_or_else(|error| {
        odd.push(error.to_string());
        Vec::new()
    });
    let dns_names = csr.dns_names().unwrap_or_else(|error| {
        odd.push(error.to_string());
        Vec::new()
    });
    let challenge = csr.challenge_password().unwrap_or_else(|error| {
        odd.push(error.to_string());
        None
    });
    json!({
        "subject": csr.subject(),
        "device_serial_number": csr.subject_serial_number(),
        "key": csr.public_key().describe(),
        "key_sha256": hex::encode(csr.public_key().sha256()),
        "signature_algorithm": csr.algorithm().map_or_else(|e| e.to_string(), |a| format!("{a:?}")),
        "proof_of_possession": proof.is_ok(),
        "challenge_password": challenge.is_some(),
        "requested_extensions": extensions,
        "dns_names": dns_names,
        "attributes": attributes.collect::<Vec<_>>(),
        "odd": odd,
    })
}

/// CSR attributes: what an EST server wants to see in a CSR.
pub(super) fn csr_attributes(attributes: &CsrAttrs) -> Value {
    let items = attributes.items().iter().map(|item| match item {
        AttrOrOid::Oid(id) => json!({ "id": attribute_name(*id) }),
        AttrOrOid::Attribute(attribute) => json!({
            "id": attribute_name(attribute.oid()),
            "values_hex": attribute.values().iter().map(hex::encode).collect::<Vec<_>>(),
        }),
        AttrOrOid::Other(bytes) => json!({ "not_understood_hex": hex::encode(bytes) }),
    });
    json!({ "items": items.collect::<Vec<_>>() })
}

/// A CRL.
pub(super) fn crl(crl: &Crl) -> Value {
    const REVOKED_SHOWN_MAX: usize = 100;
    let list = &crl.list().tbs_cert_list;
    let revoked = list.revoked_certificates.as_deref().unwrap_or_default();
    let shown = revoked.iter().take(REVOKED_SHOWN_MAX);
    let shown = shown.map(|entry| hex::encode(entry.serial_number.as_bytes()));
    json!({
        "issuer": crl.issuer(),
        "this_update": date(crl.this_update()),
        "next_update": crl.next_update().map(date),
        "signature_algorithm": algorithm_name(crl.list().signature_algorithm.oid),
        "revoked_count": revoked.len(),
        "revoked": shown.collect::<Vec<_>>(),
    })
}

/// An idevid-issuer with its form.
pub(super) fn idevid_issuer(issuer: &IdevidIssuer) -> Value {
    json!({
        "form": format!("{:?}", issuer.form()),
        "key_id": issuer.key_id().map(hex::encode),
    })
}

pub(super) fn date(date: OffsetDateTime) -> String {
    date.format(&Rfc3339).unwrap_or_else(|_| date.to_string())
}

const SERVER_AUTH: &str = "1.3.6.1.5.5.7.3.1";

fn usage_name(usage: ObjectIdentifier) -> String {
    match usage.to_string().as_str() {
        SERVER_AUTH => "serverAuth".to_owned(),
        "1.3.6.1.5.5.7.3.2" => "clientAuth".to_owned(),
        "1.3.6.1.5.5.7.3.3" => "codeSigning".to_owned(),
        "1.3.6.1.5.5.7.3.9" => "OCSPSigning".to_owned(),
        "1.3.6.1.5.5.7.3.27" => "cmcCA".to_owned(),
        "1.3.6.1.5.5.7.3.28" => "cmcRA".to_owned(),
        "2.5.29.37.0" => "anyExtendedKeyUsage".to_owned(),
        other => other.to_owned(),
    }
}

fn extension_name(id: ObjectIdentifier) -> String {
    match id.to_string().as_str() {
        "2.5.29.14" => "subjectKeyIdentifier".to_owned(),
        "2.5.29.15" => "keyUsage".to_owned(),
        "2.5.29.17" => "subjectAltName".to_owned(),
        "2.5.29.19" => "basicConstraints".to_owned(),
        "2.5.29.30" => "nameConstraints".to_owned(),
        "2.5.29.31" => "cRLDistributionPoints".to_owned(),
        "2.5.29.32" => "certificatePolicies".to_owned(),
        "2.5.29.35" => "authorityKeyIdentifier".to_owned(),
        "2.5.29.37" => "extendedKeyUsage".to_owned(),
        "1.3.6.1.5.5.7.1.1" => "authorityInfoAccess".to_owned(),
        "1.3.6.1.5.5.7.1.32" => "masaUrl".to_owned(),
        other => other.to_owned(),
    }
}

fn attribute_name(id: ObjectIdentifier) -> String {
    match id.to_string().as_str() {
        "1.2.840.113549.1.9.7" => "challengePassword".to_owned(),
        "1.2.840.113549.1.9.14" => "extensionRequest".to_owned(),
        other => other.to_owned(),
    }
}

fn algorithm_name(id: ObjectIdentifier) -> String {
    match id.to_string().as_str() {
        "1.2.840.10045.4.1" => "ECDSA with SHA-1".to_owned(),
        "1.2.840.10045.4.3.2" => "ECDSA with SHA-256".to_owned(),
        "1.2.840.10045.4.3.3" => "ECDSA with SHA-384".to_owned(),
        "1.2.840.10045.4.3.4" => "ECDSA with SHA-512".to_owned(),
        "1.2.840.113549.1.1.5" => "RSA with SHA-1".to_owned(),
        "1.2.840.113549.1.1.10" => "RSASSA-PSS".to_owned(),
        "1.2.840.113549.1.1.11" => "RSA with SHA-256".to_owned(),
        "1.2.840.113549.1.1.12" => "RSA with SHA-384".to_owned(),
        "1.2.840.113549.1.1.13" => "RSA with SHA-512".to_owned(),
        "1.3.101.112" => "Ed25519".to_owned(),
        "2.16.840.1.101.3.4.3.17" => "ML-DSA-44".to_owned(),
        "2.16.840.1.101.3.4.3.18" => "ML-DSA-65".to_owned(),
        "2.16.840.1.101.3.4.3.19" => "ML-DSA-87".to_owned(),
        other => other.to_owned(),
    }
}
