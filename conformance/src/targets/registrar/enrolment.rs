//! After the voucher: telemetry, audit log, EST.

use std::sync::Arc;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde_json::json;

use super::{Device, Exchange, Registrar, refused};
use crate::{
    case::Case,
    evidence::Recorder,
    forge::{
        cms::Signatory,
        key::Key,
        x509::{Identity, Request as Csr, name},
    },
    http::{Answer, HttpError, Request},
    inspect::Envelope,
    outcome::{Finding, OrCouldNotTest as _, Told, must},
    targets::est,
};

pub(super) fn cases() -> Vec<Case> {
    let mut cases = vec![
        Case::new("registrar/rfc8995-5.7/status", "a report of success is answered 200", &["BRSKI-5.7-07", "BRSKI-1.5-02"], |kit, record| status(kit, record, json!({ "version": 1, "status": true, "reason": "validated" }))),
        Case::new("registrar/rfc8995-5.7/status-false", "a report of failure is answered 200", &["BRSKI-5.7-07"], |kit, record| status(kit, record, json!({ "version": 1, "status": false, "reason": "no", "reason-context": { "pin": "other" } }))),
        Case::new("registrar/rfc8995-5.7/status-extra", "a report with an unknown member is answered 200", &["BRSKI-5.7-09"], |kit, record| status(kit, record, json!({ "version": 1, "status": true, "reason": "ok", "later": 1 }))),
        Case::new("registrar/rfc8995-5.7/status-version-2", "a report of a later version is answered 200", &["BRSKI-5.7-10"], |kit, record| status(kit, record, json!({ "version": 2, "status": true, "reason": "ok" }))),
        Case::new("registrar/rfc8995-5.7/status-malformed", "malformed reports are refused, and the registrar goes on", &["BRSKI-5.7-11"], malformed).tags(&["hostile"]),
        Case::new("registrar/rfc8995-5.8/audit-log", "after the report the registrar asks for the log, with the very request that got the voucher", &["BRSKI-5.8-01"], audit_log).needs(&["audit-log"]),
        Case::new("registrar/rfc8995-5/enrol-without-voucher", "a device without a voucher gets no certificate", &["BRSKI-5-09", "EST-4.2-02"], enrol_without_voucher).tags(&["hostile"]).needs(&["est"]),
        Case::new("registrar/rfc8995-5.9/enrol", "after the voucher a device gets its certificate, and reports it", &["BRSKI-1.5-02", "BRSKI-5-03", "BRSKI-5.9.4-05", "EST-4.2.3-01"], enrol).needs(&["est"]),
        Case::new("registrar/rfc8995-5.9.4/status-over-new-certificate", "the report over the new certificate is answered 200", &["BRSKI-5.9.4-08"], status_over_new).needs(&["est"]),
        Case::new("registrar/rfc8995-9.1.2/renew", "the new certificate can be renewed", &["BRSKI-9.1.2-03", "EST-4.2.2-03"], renew).needs(&["est"]),
        Case::new("registrar/rfc7030-3.7/serial-of-another", "a device gets no certificate with another device's serial number", &["EST-3.7-02"], serial_of_another).tags(&["hostile"]).needs(&["est"]),
        Case::new("registrar/rfc7030-4.2.1/signed-by-another", "a request that another key signed is refused", &["EST-4.2.1-02"], signed_by_another).tags(&["hostile"]).needs(&["est"]),
        Case::new("registrar/rfc8995-5/another-device-enrols", "the voucher of one device is not good for another", &["BRSKI-5-07", "BRSKI-5-09"], another_device).tags(&["hostile"]).needs(&["est"]),
    ];
    for operation in ["requestvoucher", "voucher_status", "enrollstatus"] {
        cases.push(Case::new(
            format!("registrar/rfc8995-1.5/{operation}-exists"),
            format!("{operation} is there: a wrong request is refused and not unknown"),
            &["BRSKI-1.5-02", "BRSKI-5-03"],
            move |kit: Arc<Registrar>, record: Recorder| async move {
                let device = kit.device(&record)?;
                let client = kit.client.with_identity(&device.identity);
                let request = Request::post(
                    format!("/.well-known/brski/{operation}"),
                    "application/json",
                    "{",
                );
                let answer = client.send(&record, request).await?;
                refused(&answer, "half a request")?;
                let nowhere = Request::post(
                    "/.well-known/brski/nosuchoperation",
                    "application/json",
                    "{",
                );
                let unknown = client.send(&record, nowhere).await?;
                must(
                    answer.status != 404 || answer.body != unknown.body,
                    "it is as unknown as an operation that does not exist",
                )
            },
        ));
    }
    cases
        .into_iter()
        .map(|case| case.tags(&["enrolment"]).needs(&["cms"]))
        .collect()
}

/// A report as JSON over the device's connection.
async fn report(
    kit: &Registrar,
    record: &Recorder,
    device: &Device,
    operation: &str,
    body: Vec<u8>,
) -> Result<Answer, HttpError> {
    let client = kit.client.with_identity(&device.identity);
    let request = Request::post(
        format!("/.well-known/brski/{operation}"),
        "application/json",
        body,
    );
    client.send(record, request).await
}

fn good() -> Vec<u8> {
    json!({ "version": 1, "status": true, "reason": "validated" })
        .to_string()
        .into_bytes()
}

async fn status(kit: Arc<Registrar>, record: Recorder, body: serde_json::Value) -> Told {
    let exchange = kit.voucher(&record, Envelope::Cms).await?;
    let answer = report(
        &kit,
        &record,
        &exchange.device,
        "voucher_status",
        body.to_string().into_bytes(),
    )
    .await?;
    must(
        answer.status == 200,
        format!("it was answered {}: {}", answer.status, answer.text()),
    )
}

async fn malformed(kit: Arc<Registrar>, record: Recorder) -> Told {
    let exchange = kit.voucher(&record, Envelope::Cms).await?;
    for body in [
        "{\"version\":1,\"status\":tr",
        "",
        "[]",
        "{\"version\":\"1\",\"status\":\"yes\"}",
        "{\"version\":1}",
        "\u{0}",
    ] {
        let answer = report(
            &kit,
            &record,
            &exchange.device,
            "voucher_status",
            body.as_bytes().to_vec(),
        )
        .await?;
        refused(&answer, "a malformed report")?;
    }
    let answer = report(&kit, &record, &exchange.device, "voucher_status", good()).await?;
    must(
        answer.status == 200,
        format!("afterwards a right report was answered {}", answer.status),
    )
}

/// Voucher and report, so that a device may enrol.
async fn accepted(kit: &Registrar, record: &Recorder) -> Result<Exchange, Finding> {
    let exchange = kit.voucher(record, Envelope::Cms).await?;
    let answer = report(kit, record, &exchange.device, "voucher_status", good()).await?;
    if answer.status != 200 {
        return Err(Finding::could_not_test(format!(
            "the report was answered {}",
            answer.status
        )));
    }
    Ok(exchange)
}

async fn audit_log(kit: Arc<Registrar>, record: Recorder) -> Told {
    const LOOKS_MAX: usize = 40;
    let exchange = accepted(&kit, &record).await?;
    for _ in 0..LOOKS_MAX {
        let came = kit.masa.came(&exchange.device.serial);
        if let Some(asked) = came
            .iter()
            .find(|came| came.operation() == "requestauditlog")
        {
            record.received(
                "at the MASA: requestauditlog",
                &asked.body,
                asked.line.clone(),
            );
            must(
                asked.body == exchange.asked.body,
                "it is another request than the one that got the voucher",
            )?;
            return must(
                asked.header("content-type") == exchange.asked.header("content-type"),
                "it has another media type",
            );
        }
        // It may ask a little later than it answers.
        tokio::time::sleep(std::time::Duration::from_millis(250)).await;
    }
    Err(Finding::fail("the registrar did not ask for the log"))
}

fn csr(device: &Device) -> Result<Csr, Finding> {
    let key = Key::generate().or_could_not_test("a key")?;
    Ok(Csr::new(&name("", "", Some(&device.serial)), &key))
}

async fn est_post(
    kit: &Registrar,
    record: &Recorder,
    identity: &Identity,
    operation: &str,
    csr: &[u8],
) -> Result<Answer, HttpError> {
    let request = Request::post(
        format!("/.well-known/est/{operation}"),
        "application/pkcs10",
        STANDARD.encode(csr),
    );
    kit.client
        .with_identity(identity)
        .send(record, request)
        .await
}

async fn enrol_without_voucher(kit: Arc<Registrar>, record: Recorder) -> Told {
    let device = kit.device(&record)?;
    let csr = csr(&device)?;
    match est_post(
        &kit,
        &record,
        &device.identity,
        "simpleenroll",
        &csr.encode(),
    )
    .await
    {
        Ok(answer) => refused(&answer, "it"),
        Err(HttpError::Tls(_) | HttpError::Closed(_)) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

/// Voucher, report, certificate.
async fn enrolled(kit: &Registrar, record: &Recorder) -> Result<(Device, Identity), Finding> {
    let exchange = accepted(kit, record).await?;
    let csr = csr(&exchange.device)?;
    let answer = est_post(
        kit,
        record,
        &exchange.device.identity,
        "simpleenroll",
        &csr.encode(),
    )
    .await?;
    must(
        answer.status == 200,
        format!(
            "simpleenroll was answered {}: {}",
            answer.status,
            answer.text()
        ),
    )?;
    let certificates = est::certificates(&answer)?;
    let [certificate] = certificates.as_slice() else {
        return Err(Finding::fail(format!(
            "the answer holds {} certificates and not one",
            certificates.len()
        )));
    };
    must(
        certificate.public_key().spki_der() == csr.key.spki(),
        "the certificate is for another key than the request",
    )?;
    let identity = Identity {
        signatory: Signatory {
            certificate: certificate.der().to_vec(),
            key: csr.key.clone(),
        },
        above: Vec::new(),
    };
    Ok((exchange.device, identity))
}

async fn enrol(kit: Arc<Registrar>, record: Recorder) -> Told {
    let (device, _) = enrolled(&kit, &record).await?;
    let answer = report(&kit, &record, &device, "enrollstatus", good()).await?;
    must(
        answer.status == 200,
        format!("enrollstatus was answered {}", answer.status),
    )
}

async fn status_over_new(kit: Arc<Registrar>, record: Recorder) -> Told {
    let (mut device, identity) = enrolled(&kit, &record).await?;
    device.identity = identity;
    let answer = report(&kit, &record, &device, "enrollstatus", good()).await?;
    must(
        answer.status == 200,
        format!("enrollstatus was answered {}", answer.status),
    )
}

async fn renew(kit: Arc<Registrar>, record: Recorder) -> Told {
    let (_, identity) = enrolled(&kit, &record).await?;
    let certificate =
        pki::Certificate::from_der(identity.certificate()).or_could_not_test("the certificate")?;
    let mut csr = Csr::new(certificate.subject_der(), identity.key());
    if let Some(names) = certificate.extension(pki::ObjectIdentifier::new_unwrap("2.5.29.17")) {
        use crate::forge::der;
        let extension = der::seq(&[der::oid("2.5.29.17"), der::octets(names)]);
        csr.attributes.push(crate::forge::cms::attribute(
            "1.2.840.113549.1.9.14",
            &[der::seq(&[extension])],
        ));
    }
    let answer = est_post(&kit, &record, &identity, "simplereenroll", &csr.encode()).await?;
    must(
        answer.status == 200,
        format!("it was answered {}: {}", answer.status, answer.text()),
    )
}

async fn serial_of_another(kit: Arc<Registrar>, record: Recorder) -> Told {
    let exchange = accepted(&kit, &record).await?;
    let other = "CONF-REG-ANOTHER";
    let csr = csr(&exchange.device)?.with(|csr| csr.subject = name("", "", Some(other)));
    let answer = est_post(
        &kit,
        &record,
        &exchange.device.identity,
        "simpleenroll",
        &csr.encode(),
    )
    .await?;
    if answer.is_refusal() {
        return Ok(());
    }
    must(
        answer.status == 200,
        format!("it was answered {}", answer.status),
    )?;
    for certificate in est::certificates(&answer)? {
        must(
            !certificate.subject().contains(other),
            format!("the certificate is for {}", certificate.subject()),
        )?;
    }
    Ok(())
}

async fn signed_by_another(kit: Arc<Registrar>, record: Recorder) -> Told {
    let exchange = accepted(&kit, &record).await?;
    let other = kit.unknown.signatory.key.clone();
    let csr = csr(&exchange.device)?.with(|csr| csr.signer = Some(other));
    let answer = est_post(
        &kit,
        &record,
        &exchange.device.identity,
        "simpleenroll",
        &csr.encode(),
    )
    .await?;
    refused(&answer, "it")
}

async fn another_device(kit: Arc<Registrar>, record: Recorder) -> Told {
    let exchange = accepted(&kit, &record).await?;
    // The same serial number under the same CA, with another key: a clone.
    let clone = kit.device_of(&kit.devices, &exchange.device.serial, Some(&kit.masa_url))?;
    let csr = csr(&clone)?;
    match est_post(
        &kit,
        &record,
        &clone.identity,
        "simpleenroll",
        &csr.encode(),
    )
    .await
    {
        Ok(answer) => refused(&answer, "a clone"),
        Err(HttpError::Tls(_) | HttpError::Closed(_)) => Ok(()),
        Err(error) => Err(error.into()),
    }
}
