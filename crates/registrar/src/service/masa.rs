//! Calls to MASAs ([RFC 8995 §5.4](https://www.rfc-editor.org/rfc/rfc8995.html#section-5.4)).

use std::time::Duration;

use artifacts::verify::{Check, CheckResult, Trust, VoucherContext, verify_voucher};
use artifacts::{Document, Envelope};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use brski::registrar::{MasaAnswer, MasaCall, Refusal};
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, header};
use net::client::{ClientConfig, ClientLimits, Connection, Response, ServerTrust, Target};
use pki::path::{PathOptions, Purpose};
use time::OffsetDateTime;
use url::Url;

use super::Service;
use super::pool::Key;
use crate::Error;
use crate::records::{Entry, Outcome};
use crate::vendor::Vendor;

/// An answer of a MASA.
#[derive(Clone, Debug)]
pub(super) struct Answered {
    response: Response,
    content_type: Option<String>,
}

impl Answered {
    /// As the protocol wants it.
    pub(super) fn as_protocol(&self) -> MasaAnswer<'_> {
        MasaAnswer::Http {
            status: self.response.status.as_u16(),
            content_type: self.content_type.as_deref(),
            body: &self.response.body,
        }
    }

    /// The body.
    pub(super) fn body(&self) -> Bytes {
        self.response.body.clone()
    }

    /// For the timeline.
    pub(super) fn detail(&self, call: &MasaCall) -> serde_json::Value {
        let mut detail = call_detail(call);
        if let Some(object) = detail.as_object_mut() {
            object.insert("status".into(), self.response.status.as_u16().into());
            object.insert("content_type".into(), self.content_type.clone().into());
            object.insert("length".into(), self.response.body.len().into());
            if !self.response.status.is_success() {
                let text: String = String::from_utf8_lossy(&self.response.body)
                    .chars()
                    .take(500)
                    .collect();
                object.insert("text".into(), text.into());
            }
        }
        detail
    }
}

/// A call, for the timeline.
pub(super) fn call_detail(call: &MasaCall) -> serde_json::Value {
    serde_json::json!({
        "url": call.url.as_str(),
        "format": call.content_type,
        "accept": call.accept,
        "request": BASE64.encode(&call.body),
    })
}

impl Service {
    /// Posts a request to a vendor's MASA and follows one `Location` of a 201.
    pub(super) async fn call_masa(
        &self,
        vendor: &Vendor,
        call: &MasaCall,
    ) -> Result<Answered, Error> {
        let gate = self.masa_gate(&vendor.profile.name);
        let limit = self.config().masa_timeout();
        let started = std::time::Instant::now();
        let work = async {
            let _waiting = gate.admitted.try_acquire().map_err(|_| Error::Busy)?;
            let _turn = gate.calls.acquire().await.map_err(|_| Error::Busy)?;
            self.post(vendor, call).await
        };
        // The limit covers the wait at the gate too: a device's request must not hang for longer.
        let outcome = match tokio::time::timeout(limit, work).await {
            Ok(outcome) => outcome,
            Err(_) => Err(unreachable(&format!("no answer within {limit:?}"))),
        };
        self.counters().masa_call(started.elapsed());
        outcome
    }

    async fn post(&self, vendor: &Vendor, call: &MasaCall) -> Result<Answered, Error> {
        let (target, config) = self.masa_target(vendor, &call.url)?;
        let mut headers = HeaderMap::new();
        headers.insert(
            header::CONTENT_TYPE,
            HeaderValue::from_static(call.content_type),
        );
        if let Ok(accept) = HeaderValue::from_str(&call.accept) {
            headers.insert(header::ACCEPT, accept);
        }
        self.add_login(vendor, &mut headers)?;
        let key = Key {
            vendor: vendor.profile.name.clone(),
            target: target.to_string(),
            generation: self.generation(),
        };
        let (mut connection, response) = self
            .exchange_on(&key, &target, &config, call, headers)
            .await?;
        // BRSKI-5.8-06: "the MASA MAY instead return a 201 ("Created") response, with the URL to
        // the prepared audit response in the "Location" header field".
        if response.status.as_u16() == 201
            && let Some(location) = response.header("location")
        {
            let next = call.url.join(location).map_err(|error| {
                Error::Refused(Refusal::MasaUrlInvalid(format!("Location: {error}")))
            })?;
            let response = self
                .get_location(vendor, &call.url, &next, &mut connection)
                .await?;
            self.keep(key, connection, &response);
            return Ok(answered(response));
        }
        self.keep(key, connection, &response);
        Ok(answered(response))
    }

    /// Sends a call on a connection that waited, or on a new one.
    async fn exchange_on(
        &self,
        key: &Key,
        target: &Target,
        config: &ClientConfig,
        call: &MasaCall,
        headers: HeaderMap,
    ) -> Result<(Connection, Response), Error> {
        let body = Bytes::copy_from_slice(&call.body);
        let path = call.url.path();
        if let Some(mut connection) = self.0.pool.take(key) {
            let sent = connection
                .request(Method::POST, path, headers.clone(), body.clone())
                .await;
            match sent {
                Ok(response) => return Ok((connection, response)),
                // The MASA closed it meanwhile. The same request again is the same request to a
                // MASA, so nothing is lost by sending it on a new connection.
                Err(net::Error::Closed(_) | net::Error::Http(_)) => {}
                Err(error) => return Err(refine(&call.url, &error)),
            }
        }
        let mut connection = Connection::open(target, config)
            .await
            .map_err(|error| refine(&call.url, &error))?;
        let response = connection
            .request(Method::POST, path, headers, body)
            .await
            .map_err(|error| refine(&call.url, &error))?;
        Ok((connection, response))
    }

    /// Keeps a connection for the next call, unless the MASA is about to close it.
    fn keep(&self, key: Key, connection: Connection, response: &Response) {
        let closes = response
            .header("connection")
            .is_some_and(|value| value.eq_ignore_ascii_case("close"));
        if !closes {
            self.0.pool.give(key, connection);
        }
    }

    async fn get_location(
        &self,
        vendor: &Vendor,
        from: &Url,
        next: &Url,
        connection: &mut Connection,
    ) -> Result<Response, Error> {
        let mut headers = HeaderMap::new();
        headers.insert(header::ACCEPT, HeaderValue::from_static("application/json"));
        self.add_login(vendor, &mut headers)?;
        // A MASA may point to another path of its own. To another host it may not: that would make
        // the registrar a client for whatever URL a stranger likes.
        if next.origin() != from.origin() {
            return Err(Error::Refused(Refusal::MasaUrlInvalid(
                "Location leads to another host".to_owned(),
            )));
        }
        let path = match next.query() {
            Some(query) => format!("{}?{query}", next.path()),
            None => next.path().to_owned(),
        };
        connection
            .request(Method::GET, &path, headers, Bytes::new())
            .await
            .map_err(|error| refine(next, &error))
    }

    fn masa_target(&self, vendor: &Vendor, url: &Url) -> Result<(Target, ClientConfig), Error> {
        // BRSKI-2.3.2-04: HTTPS only, whatever scheme the extension names.
        if url.scheme() != "https" {
            return Err(Error::Refused(Refusal::MasaUrlInvalid(
                "the scheme is not https".into(),
            )));
        }
        let host = url.host_str().unwrap_or_default();
        if !vendor.allows_masa_host(host) {
            return Err(Error::Refused(Refusal::MasaUrlInvalid(format!(
                "the profile of {} does not allow the host {host}",
                vendor.profile.name
            ))));
        }
        let settings = &self.config().masa;
        let target = Target::from_url(url)?;
        let keys = self.keys();
        let identity = if vendor.profile.masa.without_client_certificate {
            None
        } else {
            Some(keys.registrar()?.clone())
        };
        // BRSKI-5.4-02, BRSKI-2.5.3-01: the name is checked, against the anchors for MASAs of this
        // vendor and no other.
        let mut options = PathOptions::new(Purpose::Server, self.now());
        if defects::seeded!("registrar-ignores-masa-name") {
            options = options.with_dns_name("other.invalid");
        }
        let mut trust = ServerTrust::anchors(vendor.masa_tls.anchors.clone(), options);
        if defects::seeded!("registrar-believes-any-masa") {
            trust = ServerTrust::Provisional;
        }
        let config = ClientConfig {
            trust,
            identity,
            address: settings.addresses.get(host).copied(),
            limits: ClientLimits {
                connect_time_max: Duration::from_secs(settings.connect_timeout_seconds),
                handshake_time_max: Duration::from_secs(settings.connect_timeout_seconds),
                response_time_max: Duration::from_secs(settings.timeout_seconds),
                response_bytes_max: settings.response_size_max_bytes,
            },
            ..ClientConfig::default()
        };
        Ok((target, config))
    }

    fn add_login(&self, vendor: &Vendor, headers: &mut HeaderMap) -> Result<(), Error> {
        let rule = &vendor.profile.masa;
        if let (Some(user), Some(file)) = (&rule.user, &rule.password_file) {
            let password =
                std::fs::read_to_string(file).map_err(|error| Error::file(file, &error))?;
            let password = password.lines().next().unwrap_or_default();
            let mut value = HeaderValue::from_str(&format!(
                "Basic {}",
                BASE64.encode(format!("{user}:{password}"))
            ))
            .map_err(|error| Error::Config {
                detail: error.to_string(),
            })?;
            value.set_sensitive(true);
            headers.insert(header::AUTHORIZATION, value);
        }
        Ok(())
    }
}

fn answered(response: Response) -> Answered {
    let content_type = response.header("content-type").map(str::to_owned);
    Answered {
        response,
        content_type,
    }
}

fn unreachable(detail: &str) -> Error {
    Error::Refused(Refusal::MasaUnreachable(detail.to_owned()))
}

/// Who is to blame when a call fails: a wrong certificate is not an outage, and an answer that is
/// too large is not one either.
fn refine(url: &Url, error: &net::Error) -> Error {
    match error {
        net::Error::Untrusted { source, .. } => Error::MasaUntrusted {
            url: url.to_string(),
            detail: source.to_string(),
        },
        net::Error::ResponseTooLarge { .. } | net::Error::Http(_) => {
            Error::Refused(Refusal::MasaAnswer(brski::Cause::of(error)))
        }
        other => unreachable(&other.to_string()),
    }
}

/// What a registrar found out about a voucher before it hands it on.
pub(super) struct VoucherChecked {
    /// The name of each check and how it went.
    checks: Vec<serde_json::Value>,
    /// The path of the signer, if the vendor's anchors are known.
    signer: Option<String>,
}

impl VoucherChecked {
    /// The line in the timeline.
    pub(super) fn entry(
        &self,
        voucher: &[u8],
        handed_on_length: usize,
        envelope: Envelope,
        now: OffsetDateTime,
    ) -> Entry {
        let mut detail = voucher_detail(voucher, envelope);
        if let Some(object) = detail.as_object_mut() {
            object.insert("handed_on_length".into(), handed_on_length.into());
            object.insert("checks".into(), self.checks.clone().into());
            object.insert("signer".into(), self.signer.clone().into());
        }
        if self.signer.is_some() {
            Entry::new(now, "voucher", "the MASA's voucher is good and handed on").detail(detail)
        } else {
            Entry::new(now, "voucher", "a voucher is handed on whose signer was not judged")
                .outcome(Outcome::Notice)
                .code("registrar.voucher-signer-unjudged")
                .next_action(
                    "import the manufacturer's voucher anchors: `usher registrar trust import --use voucher`",
                )
                .detail(detail)
        }
    }
}

/// Judges who signed a voucher, by the vendor's voucher anchors.
///
/// [RFC 8995 §5.6](https://www.rfc-editor.org/rfc/rfc8995.html#section-5.6) calls the registrar's
/// evaluation "purely for transparency": the device judges for itself. So a vendor without such
/// anchors is no reason to refuse, but a signer that does not lead to them is.
pub(super) fn voucher_signer(
    voucher: &[u8],
    envelope: Envelope,
    vendor: &Vendor,
    now: OffsetDateTime,
) -> Result<VoucherChecked, Error> {
    if vendor.voucher.anchors.is_empty()
        || defects::seeded!("registrar-hands-anything-on", "registrar-hands-errors-on")
    {
        return Ok(VoucherChecked {
            checks: Vec::new(),
            signer: None,
        });
    }
    let unfit =
        |error: &artifacts::Error| Error::Refused(Refusal::VoucherUnfit(brski::Cause::of(error)));
    let tolerances = &vendor.rules.tolerances;
    let signed = artifacts::open(Document::Voucher, voucher, Some(envelope), tolerances)
        .map_err(|error| unfit(&error))?;
    if let Some(cose) = signed.dangerous_peek().cose()
        && !cose.certificates().is_empty()
        && !cose.certificates().iter().any(|one| is_by(cose, one))
    {
        let text = "no certificate beside the signature is that of the signer";
        let cause = brski::Cause::new("cose.signer-certificate-missing", text);
        return Err(Error::Refused(Refusal::VoucherUnfit(cause)));
    }
    if cannot_be_judged(&signed, vendor) {
        return Ok(VoucherChecked {
            checks: Vec::new(),
            signer: None,
        });
    }
    let trust = Trust::new(&vendor.voucher.anchors, Some(now));
    let outcome = verify_voucher(&signed, &VoucherContext::new(trust), tolerances);
    let checks = outcome.checks().iter().map(check_detail).collect();
    let verified = outcome.into_result().map_err(|error| unfit(&error))?;
    let signer = verified.signer_path.first().map(pki::Certificate::subject);
    Ok(VoucherChecked { checks, signer })
}

fn is_by(cose: &pki::cose::Sign1, certificate: &pki::Certificate) -> bool {
    cose.verify_with_key(certificate.public_key()).is_ok()
}

/// Whether a COSE voucher brings nothing by which its signer could be led to the vendor's anchors.
fn cannot_be_judged(signed: &pki::Unverified<artifacts::Signed>, vendor: &Vendor) -> bool {
    let Some(cose) = signed.dangerous_peek().cose() else {
        return false;
    };
    let by = |certificate: &pki::Certificate| is_by(cose, certificate);
    match cose.certificates() {
        // A MASA of the drafts before -27 sends no certificates. If none of the anchors signed
        // it, nobody can tell here who did.
        [] => !vendor.voucher.anchors.iter().any(by),
        // CBR-129: the other case that is accepted is one self-signed certificate whose key
        // verifies the voucher: it was signed with a bare key, which no anchor can vouch for.
        [one] => {
            one.subject_der() == one.issuer_der()
                && one.verify_signature_by(one.public_key()).is_ok()
                && by(one)
                && !vendor
                    .voucher
                    .anchors
                    .iter()
                    .any(|anchor| anchor.public_key().spki_der() == one.public_key().spki_der())
        }
        _ => false,
    }
}

fn check_detail(check: &Check) -> serde_json::Value {
    match &check.result {
        CheckResult::Passed => serde_json::json!({ "check": check.name, "result": "passed" }),
        CheckResult::Failed { code, detail } => serde_json::json!({
            "check": check.name, "result": "failed", "code": code, "detail": detail,
        }),
        CheckResult::NotMade { why } => {
            serde_json::json!({ "check": check.name, "result": "not made", "why": why })
        }
    }
}

/// A voucher, decoded for the timeline as far as it can be read.
pub(super) fn voucher_detail(voucher: &[u8], envelope: Envelope) -> serde_json::Value {
    let content = artifacts::open(
        Document::Voucher,
        voucher,
        Some(envelope),
        &artifacts::Tolerances::lenient(),
    )
    .ok()
    // Shown, not believed.
    .and_then(|signed| {
        let signed = signed.dangerous_peek();
        let payload = signed.payload()?;
        if envelope != Envelope::Cose {
            return serde_json::from_slice::<serde_json::Value>(payload).ok();
        }
        let lenient = artifacts::Tolerances::lenient();
        let (voucher, _) = artifacts::Voucher::from_cbor(payload, &lenient).ok()?;
        serde_json::from_slice(&voucher.to_json()).ok()
    });
    serde_json::json!({
        "format": envelope.name(),
        "length": voucher.len(),
        "sha256": hex::encode(
            aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, voucher)),
        "content": content,
        "bytes": BASE64.encode(voucher),
    })
}
