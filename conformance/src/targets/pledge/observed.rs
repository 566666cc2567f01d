//! What a device sends when nothing is wrong.

use std::sync::Arc;

use openssl::nid::Nid;
use pki::path::Purpose;
use serde_json::Value;
use time::{OffsetDateTime, format_description::well_known::Rfc3339};

use super::{Pledge, Run, scene::csr_of};
use crate::{
    case::Case,
    checks::voucher::CHECKS,
    evidence::Recorder,
    forge::voucher::REQUEST,
    inspect::{Envelope, Signed, binary, trusted},
    outcome::{Finding, OrCouldNotTest as _, Told, must},
    stage::Came,
};

type Look = fn(&Pledge, &Run, &Came, &Signed) -> Told;

/// What has to hold in an enrolment that nothing is wrong with, in CMS and in JWS.
const LOOKS: &[(&str, &str, &[&str], Look)] = &[
    (
        "rfc8995-1.5/whole-flow",
        "the device takes voucher, status, CA certificates, attributes, certificate and status",
        &[
            "BRSKI-1.5-01",
            "BRSKI-5.9-01",
            "BRSKI-5.9.1-01",
            "BRSKI-5.9.3-01",
            "EST-3.1-01",
        ],
        whole_flow,
    ),
    (
        "rfc8995-2.3/idevid",
        "TLS and the request show one IDevID of the manufacturer's",
        &["BRSKI-2.3-01", "BRSKI-3-01", "BRSKI-5.2-03"],
        idevid,
    ),
    (
        "rfc8995-2.3.1/serial-number",
        "serial-number is the attribute of the IDevID's subject and not the certificate's number",
        &["BRSKI-2.3.1-01", "BRSKI-2.3.1-02", "BRSKI-5-08"],
        serial_number,
    ),
    (
        "rfc8995-3/top-level-member",
        "the only top-level member is ietf-voucher-request:voucher",
        &["BRSKI-3-03", "JWS-3.1-01"],
        |_, _, _, request| request.leaves(REQUEST).map(|_| ()),
    ),
    (
        "rfc8995-3.3/base64",
        "binary leaves are base64 with padding",
        &["BRSKI-3.3-01"],
        |_, _, _, request| {
            let leaves = request.leaves(REQUEST)?;
            for name in ["nonce", "proximity-registrar-cert", "idevid-issuer"] {
                if let Some(value) = leaves.get(name) {
                    binary(name, value)?;
                }
            }
            Ok(())
        },
    ),
    (
        "rfc8995-5.2/proximity",
        "assertion is proximity, and the registrar's certificate comes along",
        &["BRSKI-5.2-10", "BRSKI-3.4-07"],
        |_, _, _, request| {
            let leaves = request.leaves(REQUEST)?;
            let assertion = leaves.get("assertion").and_then(Value::as_str);
            must(
                assertion == Some("proximity"),
                format!("assertion is {assertion:?}"),
            )?;
            must(
                leaves.contains_key("proximity-registrar-cert"),
                "proximity-registrar-cert is missing",
            )
        },
    ),
    (
        "rfc8995-3.4/first-certificate",
        "proximity-registrar-cert is the first certificate of the handshake, octet by octet",
        &["BRSKI-3.4-08"],
        |_, run, _, request| {
            let leaves = request.leaves(REQUEST)?;
            let value = leaves
                .get("proximity-registrar-cert")
                .ok_or_else(|| Finding::fail("proximity-registrar-cert is missing"))?;
            must(
                binary("proximity-registrar-cert", value)? == run.world.registrar.certificate(),
                "it is another certificate than the registrar showed first",
            )
        },
    ),
    (
        "rfc8995-5.2/post",
        "the voucher is asked for by POST to /.well-known/brski/requestvoucher",
        &["BRSKI-5.2-01"],
        |_, _, came, _| {
            must(
                came.method == "POST" && came.path == "/.well-known/brski/requestvoucher",
                format!("it was {} {}", came.method, came.path),
            )
        },
    ),
    (
        "rfc8995-5.2/content-type",
        "the request has the media type of its envelope",
        &["BRSKI-5.2-02", "JWS-6.1-01", "VOUCHER-5-02"],
        |_, _, came, request| {
            must(
                came.media_type() == request.envelope.media_type(),
                format!("Content-Type is {:?}", came.header("content-type")),
            )
        },
    ),
    (
        "rfc8995-6/binary",
        "the body is the request itself and no base64",
        &["BRSKI-6-01"],
        |_, _, came, request| {
            let first = match request.envelope {
                Envelope::Cms => 0x30,
                Envelope::Jws => b'{',
            };
            must(
                came.body.first() == Some(&first),
                "the body does not begin like the envelope",
            )
        },
    ),
    (
        "rfc8995-5.2/accept",
        "Accept names the media type of vouchers",
        &["BRSKI-5.2-05"],
        |_, _, came, request| {
            let accept = came.header("accept").unwrap_or_default();
            must(
                accept
                    .to_ascii_lowercase()
                    .contains(request.envelope.media_type()),
                format!("Accept is {accept:?}"),
            )
        },
    ),
    (
        "rfc8995-5.2/created-on",
        "created-on, if it is there, is a date-and-time of about now",
        &["BRSKI-5.2-06"],
        created_on,
    ),
    (
        "rfc8995-5.2/nonce",
        "the nonce has 8 to 32 octets that differ",
        &["BRSKI-5.2-08"],
        |_, _, _, request| {
            let leaves = request.leaves(REQUEST)?;
            let value = leaves
                .get("nonce")
                .ok_or_else(|| Finding::fail("there is no nonce"))?;
            let nonce = binary("nonce", value)?;
            must(
                (8..=32).contains(&nonce.len()),
                format!("the nonce has {} octets", nonce.len()),
            )?;
            must(
                nonce.iter().any(|octet| Some(octet) != nonce.first()),
                "the nonce is one octet repeated",
            )
        },
    ),
    (
        "rfc8366-5.3/known-leaves",
        "there are no leaves but those of the module, and none that only a voucher has",
        &["BRSKI-5.2-16", "JWS-5-01"],
        known_leaves,
    ),
    (
        "rfc8995-5/persistent-connection",
        "from requestvoucher to voucher_status there is one connection",
        &["BRSKI-5-05"],
        |_, run, came, _| {
            let telemetry = run.came("voucher_status")?;
            must(
                telemetry.connection == came.connection,
                format!(
                    "requestvoucher came on connection {}, voucher_status on {}",
                    came.connection, telemetry.connection
                ),
            )
        },
    ),
    (
        "rfc8995-5.6.2/same-registrar",
        "the device goes on to EST at the same registrar",
        &["BRSKI-5.6.2-09"],
        |_, run, _, _| run.came("simpleenroll").map(|_| ()),
    ),
    (
        "rfc8995-5.9/attributes-first",
        "csrattrs is asked for before simpleenroll",
        &["BRSKI-5.9-02", "EST-4.5-01"],
        |_, run, _, _| {
            let attributes = run.came("csrattrs")?;
            let enrol = run.came("simpleenroll")?;
            must(
                attributes.at <= enrol.at && attributes.method == "GET",
                "simpleenroll came first",
            )
        },
    ),
    (
        "rfc8995-5.9.1/cacerts",
        "cacerts is asked for by GET below /.well-known/est",
        &["BRSKI-5.9.1-01", "EST-3.1-02"],
        |_, run, _, _| {
            let came = run.came("cacerts")?;
            must(
                came.method == "GET" && came.path.starts_with("/.well-known/est/"),
                format!("it was {} {}", came.method, came.path),
            )
        },
    ),
    (
        "rfc7030-4.2.1/pkcs10",
        "simpleenroll is a POST of application/pkcs10",
        &["EST-4.2.1-01"],
        |_, run, _, _| {
            let came = run.came("simpleenroll")?;
            must(
                came.method == "POST" && came.media_type() == "application/pkcs10",
                format!("it was {} of {}", came.method, came.media_type()),
            )
        },
    ),
    (
        "rfc8951-3/base64",
        "the request for a certificate is base64 of DER",
        &["EST8951-3-01", "BRSKI-6-02"],
        |_, run, _, _| csr_of(&run.came("simpleenroll")?.body).map(|_| ()),
    ),
    (
        "rfc7030-4.2.1/possession",
        "the request for a certificate is signed with its own key",
        &["EST-4.2.1-03"],
        possession,
    ),
    (
        "rfc8995-5.9.3/new-key",
        "the certificate is for a key that is not the IDevID's",
        &["BRSKI-5.9.3-01"],
        new_key,
    ),
    (
        "rfc8995-5.9.4/new-connection",
        "enrollstatus comes on a new connection with the new certificate",
        &["BRSKI-5.9.4-02"],
        new_connection,
    ),
    (
        "rfc7030-3.3.1/https-only",
        "everything comes over TLS 1.2 or newer",
        &["BRSKI-5.1-02", "EST-3.3-01", "EST-3.3-02", "VOUCHER-7.4-01"],
        |_, run, _, _| {
            let old = run
                .seen
                .requests
                .iter()
                .find(|came| came.tls != "TLSv1.2" && came.tls != "TLSv1.3");
            must(
                old.is_none(),
                format!("a request came over {}", old.map_or("", |came| &came.tls)),
            )
        },
    ),
];

/// Checks on any signed artefact that hold for requests as well.
const CHECKS_OF_REQUESTS: &[&str] = &[
    "der",
    "content-type",
    "one-signature",
    "signed-attributes",
    "version",
    "algorithms",
    "signer-certificate",
    "general-serialisation",
];

type LookAtOwn = fn(&pki::Certificate) -> Told;

/// What has to hold for an identity that the manufacturer made.
const OWN: &[(&str, &str, &[&str], LookAtOwn)] = &[
    (
        "rfc8995-2.3/no-usage",
        "the IDevID is not restricted to certain usages",
        &["BRSKI-2.3-02"],
        |idevid| {
            must(
                idevid.extended_key_usages().is_empty() && extension(idevid, "2.5.29.15").is_none(),
                "it has keyUsage or extendedKeyUsage",
            )
        },
    ),
    (
        "rfc8995-2.3.2/authority-only",
        "the address of the MASA is a host and perhaps a port",
        &["BRSKI-2.3.2-05"],
        |idevid| {
            let url = idevid.masa_url().unwrap_or_default();
            must(!url.contains('/'), format!("it is {url}"))
        },
    ),
    (
        "rfc8995-2.3.2/not-critical",
        "the address of the MASA is not critical",
        &["BRSKI-2.3.2-06"],
        |idevid| {
            must(
                extension(idevid, "1.3.6.1.5.5.7.1.32") != Some(true),
                "it is critical",
            )
        },
    ),
    (
        "rfc8995-2.6.2/for-ever",
        "the IDevID has no known end",
        &["BRSKI-2.6.2-01"],
        |idevid| {
            must(
                idevid.not_after().year() == 9999,
                format!("it ends {}", idevid.not_after()),
            )
        },
    ),
    (
        "rfc8995-2.8/masa-url",
        "the IDevID has the address of the MASA",
        &["BRSKI-2.8-01", "BRSKI-9.1.3-01"],
        |idevid| must(idevid.masa_url().is_some(), "there is none"),
    ),
    (
        "rfc8995-5/serial-number",
        "the IDevID's subject has a serial number",
        &["BRSKI-5-08"],
        |idevid| must(idevid.subject_serial_number().is_some(), "there is none"),
    ),
];

/// Whether an extension is there, and whether it is critical.
fn extension(certificate: &pki::Certificate, wanted: &str) -> Option<bool> {
    let extensions = certificate.x509().tbs_certificate().extensions()?;
    extensions
        .iter()
        .find(|extension| extension.extn_id.to_string() == wanted)
        .map(|extension| extension.critical)
}

pub(super) fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    for (envelope, feature) in [(Envelope::Cms, "cms"), (Envelope::Jws, "jws")] {
        for (id, title, requirements, look) in LOOKS {
            cases.push(
                Case::new(
                    format!("pledge/{id}-{feature}"),
                    *title,
                    requirements,
                    move |kit: Arc<Pledge>, record: Recorder| async move {
                        let run = kit.good(&record, envelope).await?;
                        let (came, request) = run.request()?;
                        must(
                            request.envelope == envelope,
                            "the request is in another envelope than was asked for",
                        )?;
                        look(&kit, &run, came, &request)
                    },
                )
                .needs(&[feature]),
            );
        }
        for check in CHECKS {
            let is_meant =
                CHECKS_OF_REQUESTS.contains(&check.name) && check.tags.contains(&feature);
            if !is_meant {
                continue;
            }
            cases.push(
                Case::new(
                    format!("pledge/{}/request-{}-{feature}", check.section, check.name),
                    format!("of the device's request: {}", check.title),
                    check.requirements,
                    move |kit: Arc<Pledge>, record: Recorder| async move {
                        let run = kit.good(&record, envelope).await?;
                        (check.check)(&run.request()?.1)
                    },
                )
                .needs(&[feature]),
            );
        }
    }
    for (id, title, requirements, look) in OWN {
        cases.push(
            Case::new(
                format!("pledge/{id}"),
                *title,
                requirements,
                move |kit: Arc<Pledge>, record: Recorder| async move {
                    let run = kit.good(&record, Envelope::Cms).await?;
                    look(&run.request()?.1.signer)
                },
            )
            .needs(&["own-idevid"]),
        );
    }
    cases
}

fn whole_flow(_: &Pledge, run: &Run, _: &Came, _: &Signed) -> Told {
    for operation in [
        "requestvoucher",
        "voucher_status",
        "cacerts",
        "csrattrs",
        "simpleenroll",
        "enrollstatus",
    ] {
        run.came(operation)?;
    }
    run.enrolled("a right voucher")
}

fn idevid(kit: &Pledge, _: &Run, came: &Came, request: &Signed) -> Told {
    let leaf = came
        .client
        .first()
        .ok_or_else(|| Finding::fail("the device showed no certificate in TLS"))?;
    must(
        leaf == request.signer.der(),
        "the request is signed by another certificate than TLS showed",
    )?;
    let mut others = request.certificates.clone();
    for der in &came.client {
        others.push(pki::Certificate::from_der(der).or_could_not_test("the device's chain")?);
    }
    trusted(
        &request.signer,
        &others,
        &kit.device_anchors,
        Purpose::Any,
        kit.at,
    )
}

fn serial_number(_: &Pledge, _: &Run, _: &Came, request: &Signed) -> Told {
    let leaves = request.leaves(REQUEST)?;
    let said = leaves.get("serial-number").and_then(Value::as_str);
    let has = request.signer.subject_serial_number();
    let theirs = openssl::x509::X509::from_der(request.signer.der())
        .ok()
        .and_then(|x509| {
            let entry = x509
                .subject_name()
                .entries_by_nid(Nid::SERIALNUMBER)
                .next()?;
            String::from_utf8(entry.data().as_slice().to_vec()).ok()
        });
    if has != theirs {
        return Err(Finding::could_not_test(
            "the two parsers of the suite read other serial numbers in the IDevID",
        ));
    }
    must(
        said.is_some() && said == has.as_deref(),
        format!("the request says {said:?}, the IDevID {has:?}"),
    )
}

fn created_on(kit: &Pledge, _: &Run, _: &Came, request: &Signed) -> Told {
    let Some(value) = request.leaves(REQUEST)?.get("created-on") else {
        return Ok(());
    };
    let text = value.as_str().unwrap_or_default();
    let at = OffsetDateTime::parse(text, &Rfc3339)
        .map_err(|error| Finding::fail(format!("created-on {text:?}: {error}")))?;
    must(
        (at - kit.at).abs() < time::Duration::days(1),
        format!("created-on is {text}"),
    )
}

fn known_leaves(_: &Pledge, _: &Run, _: &Came, request: &Signed) -> Told {
    const KNOWN: &[&str] = &[
        "created-on",
        "expires-on",
        "assertion",
        "serial-number",
        "idevid-issuer",
        "nonce",
        "prior-signed-voucher-request",
        "proximity-registrar-cert",
        "proximity-registrar-pubk",
        "proximity-registrar-pubk-sha256",
        "agent-signed-data",
        "agent-provided-proximity-registrar-cert",
        "agent-sign-cert",
    ];
    let unknown: Vec<&str> = request
        .leaves(REQUEST)?
        .keys()
        .map(String::as_str)
        .filter(|name| !KNOWN.contains(name))
        .collect();
    must(
        unknown.is_empty(),
        format!("the request has {}", unknown.join(", ")),
    )
}

fn possession(_: &Pledge, run: &Run, _: &Came, _: &Signed) -> Told {
    let csr = csr_of(&run.came("simpleenroll")?.body)?;
    let der = csr.to_der().or_could_not_test("the request")?;
    let ours = pki::csr::Csr::from_der(&der).and_then(|csr| csr.verify());
    let theirs = csr
        .public_key()
        .and_then(|key| csr.verify(&key))
        .unwrap_or(false);
    crate::oracle::both(ours.is_ok(), theirs, "the signature does not hold")
}

fn new_key(_: &Pledge, run: &Run, _: &Came, request: &Signed) -> Told {
    let csr = csr_of(&run.came("simpleenroll")?.body)?;
    let spki = csr
        .public_key()
        .and_then(|key| key.public_key_to_der())
        .or_could_not_test("the key")?;
    if spki == request.signer.public_key().spki_der() {
        return Err(Finding::warning(
            "the domain's certificate is for the IDevID's key",
        ));
    }
    Ok(())
}

fn new_connection(_: &Pledge, run: &Run, _: &Came, _: &Signed) -> Told {
    let enrol = run.came("simpleenroll")?;
    let status = run.came("enrollstatus")?;
    must(
        status.connection != enrol.connection,
        "it came on the connection of simpleenroll",
    )?;
    let csr = csr_of(&enrol.body)?;
    let key = csr.public_key().or_could_not_test("the key")?;
    let shown = status
        .client
        .first()
        .and_then(|der| openssl::x509::X509::from_der(der).ok())
        .and_then(|certificate| certificate.public_key().ok())
        .is_some_and(|shown| shown.public_eq(&key));
    must(shown, "it came without the new certificate")
}
