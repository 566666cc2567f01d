//! What devices reach over HTTP: the RESTCONF resources, host-meta, and images.
//!
//! Every answer has Cache-Control (SZTP-8040-5.5-01), and every refusal under the RESTCONF root has
//! a body in one of the two encodings.

use axum::Router;
use axum::body::Body;
use axum::extract::{Extension, Request, State};
use axum::response::Response;
use http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use http_body_util::BodyExt as _;
use net::Peer;
use net::server::Asked;
use serde_json::json;
use sztp::restconf::{Fault, RestconfError};
use sztp::{Encoding, discovery, negotiate};

use crate::config::Role;
use crate::service::{Call, Door, Reply, Rpc, Service, error_encoding, joined};

/// Where the RESTCONF resources are. Many devices do not ask for it and take this for granted.
pub(crate) const ROOT: &str = "/restconf";
/// The fields of resources that can be read.
const READ_METHODS: &str = "GET, HEAD, OPTIONS";
/// The fields of operations.
const RPC_METHODS: &str = "POST, OPTIONS";

#[derive(Clone)]
struct Shared {
    service: Service,
    door: Door,
}

/// The router of one listener.
pub(crate) fn router(service: &Service, door: Door) -> Router {
    Router::new().fallback(answer).with_state(Shared {
        service: service.clone(),
        door,
    })
}

/// What a path names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Resource {
    HostMeta,
    HostMetaJson,
    Root,
    Data,
    YangLibrary,
    ModulesState,
    Operations,
    YangLibraryVersion,
    Rpc(Rpc),
}

/// What a path names, after its percent-encoding was undone.
///
/// # Errors
/// It names nothing, or is not encoded as a path is.
fn resource(path: &str, role: Role) -> Result<Resource, RestconfError> {
    // SZTP-8040-5.1-01: `module:rpc` may come with the colon encoded.
    let path = decoded(path).ok_or_else(|| {
        RestconfError::new(
            Fault::BadValue,
            "the path is not percent-encoded as a URI is",
        )
    })?;
    let missing = || RestconfError::new(Fault::NotFound, "there is no such resource");
    if let Some(rest) = path.strip_prefix(ROOT) {
        // SZTP-8572-7.1-01: the operations by the name of their module.
        return match rest {
            "" => Ok(Resource::Root),
            "/data" => Ok(Resource::Data),
            "/data/ietf-yang-library:yang-library" => Ok(Resource::YangLibrary),
            "/data/ietf-yang-library:modules-state" => Ok(Resource::ModulesState),
            "/operations" => Ok(Resource::Operations),
            "/yang-library-version" => Ok(Resource::YangLibraryVersion),
            "/operations/ietf-sztp-bootstrap-server:get-bootstrapping-data" => {
                Ok(Resource::Rpc(Rpc::GetBootstrappingData))
            }
            // SZTP-8572-7.3-13: a redirect server has no report-progress.
            "/operations/ietf-sztp-bootstrap-server:report-progress" if role.onboards() => {
                Ok(Resource::Rpc(Rpc::ReportProgress))
            }
            _ => Err(missing()),
        };
    }
    match path.as_str() {
        "/.well-known/host-meta" => Ok(Resource::HostMeta),
        "/.well-known/host-meta.json" => Ok(Resource::HostMetaJson),
        _ => Err(missing()),
    }
}

/// A path without its percent-encoding, if that is right and gives UTF-8.
fn decoded(path: &str) -> Option<String> {
    if !path.contains('%') {
        return Some(path.to_owned());
    }
    let mut octets = Vec::with_capacity(path.len());
    let mut rest = path.bytes();
    while let Some(octet) = rest.next() {
        if octet == b'%' {
            let digit = |octet: Option<u8>| char::from(octet?).to_digit(16);
            let (high, low) = (digit(rest.next())?, digit(rest.next())?);
            match u8::try_from(high * 16 + low).ok()? {
                // An encoded slash is part of a name and parts no names; none here has one.
                b'/' => octets.extend_from_slice(b"%2F"),
                octet => octets.push(octet),
            }
        } else {
            octets.push(octet);
        }
    }
    String::from_utf8(octets).ok()
}

async fn answer(
    State(shared): State<Shared>,
    Extension(peer): Extension<Peer>,
    request: Request,
) -> Response {
    let (parts, body) = request.into_parts();
    let service = &shared.service;
    let head = parts.method == Method::HEAD;
    let path = parts.uri.path();
    let asked = Form::of(&parts.headers);
    let role = service.config().role;
    let found = resource(path, role);
    // A proxy is many senders at one address.
    let address = crate::auth::canonical(peer.address.ip());
    let proxies = &service.config().authentication.proxies;
    let sender = (!proxies.contains(&address)).then_some(address);
    if found.is_err()
        && let Some(response) = service
            .engine()
            .hosted_for(sender, &parts.method, path, &parts.headers)
            .await
    {
        return with_cache_control(response);
    }
    let reply = match found {
        Ok(Resource::Rpc(rpc)) if parts.method == Method::POST => {
            if parts.uri.query().is_some_and(|query| !query.is_empty()) {
                let error =
                    RestconfError::new(Fault::BadValue, "an operation has no query parameters");
                stray(&shared, &peer, &parts, &error, &asked).await
            } else if is_coded(&parts.headers) {
                let error = RestconfError::new(
                    Fault::UnsupportedMediaType,
                    "a body with a Content-Encoding is not read here",
                );
                stray(&shared, &peer, &parts, &error, &asked).await
            } else {
                // The transport has read the body whole, within its limits.
                let body = match body.collect().await {
                    Ok(collected) => collected.to_bytes(),
                    Err(_) => bytes::Bytes::new(),
                };
                service
                    .call(Call {
                        door: shared.door,
                        rpc,
                        peer: &peer,
                        headers: &parts.headers,
                        body,
                    })
                    .await
            }
        }
        Ok(Resource::Rpc(_)) if parts.method == Method::OPTIONS => options(RPC_METHODS),
        Ok(Resource::Rpc(_)) => {
            // SZTP-8040-4.3-01: GET on an operation is 405 and operation-not-supported.
            let error = RestconfError::new(Fault::MethodNotAllowed, "an operation takes POST");
            let mut reply = stray(&shared, &peer, &parts, &error, &asked).await;
            reply.allow = Some(RPC_METHODS);
            reply
        }
        Ok(_) if parts.method == Method::OPTIONS => options(READ_METHODS),
        Ok(resource) if parts.method == Method::GET || head => {
            let read = check_query(resource, parts.uri.query())
                .and_then(|()| read(resource, &asked, role));
            match read {
                Ok(reply) => reply,
                Err(error) => stray(&shared, &peer, &parts, &error, &asked).await,
            }
        }
        Ok(_) => {
            let error =
                RestconfError::new(Fault::MethodNotAllowed, "this resource can only be read");
            let mut reply = stray(&shared, &peer, &parts, &error, &asked).await;
            reply.allow = Some(READ_METHODS);
            reply
        }
        Err(error) => stray(&shared, &peer, &parts, &error, &asked).await,
    };
    respond(reply, head)
}

/// Whether a body is compressed or coded in another way.
fn is_coded(headers: &HeaderMap) -> bool {
    headers
        .get_all(header::CONTENT_ENCODING)
        .iter()
        .any(|value| !value.as_bytes().eq_ignore_ascii_case(b"identity"))
}

/// RFC 8040 section 4.8: of the query parameters only `content` has a meaning here, since all
/// data is state; what is not supported is refused and not passed over.
fn check_query(resource: Resource, query: Option<&str>) -> Result<(), RestconfError> {
    let is_data = matches!(
        resource,
        Resource::Data | Resource::YangLibrary | Resource::ModulesState
    );
    match query {
        None | Some("") => Ok(()),
        Some(_) if matches!(resource, Resource::HostMeta | Resource::HostMetaJson) => Ok(()),
        Some("content=all" | "content=nonconfig") if is_data => Ok(()),
        Some(_) => Err(RestconfError::new(
            Fault::BadValue,
            "this query parameter is not supported here",
        )),
    }
}

/// What a request says about the form of its answer.
struct Form {
    accept: Option<String>,
    encoding: Encoding,
}

impl Form {
    fn of(headers: &HeaderMap) -> Self {
        let accept = joined(headers, &header::ACCEPT);
        let content_type = joined(headers, &header::CONTENT_TYPE);
        Self {
            encoding: error_encoding(accept.as_deref(), content_type.as_deref()),
            accept,
        }
    }
}

/// SZTP-8040-4.1-01: OPTIONS says which methods there are.
fn options(methods: &'static str) -> Reply {
    let mut reply = Reply::empty(200);
    reply.allow = Some(methods);
    reply
}

/// A request that is not served, written down.
async fn stray(
    shared: &Shared,
    peer: &Peer,
    parts: &http::request::Parts,
    error: &RestconfError,
    asked: &Form,
) -> Reply {
    let detail = json!({
        "method": parts.method.as_str(),
        "path": crate::timeline::clean(parts.uri.path()),
        "detail": error.message,
    });
    shared
        .service
        .note_stray(peer, "other", error.code, error.status, detail)
        .await;
    Reply::refusal(error, asked.encoding)
}

/// A resource that can be read without proving anything: it says what any RESTCONF server says.
fn read(resource: Resource, asked: &Form, role: Role) -> Result<Reply, RestconfError> {
    let accept = asked.accept.as_deref();
    let refuse = |wanted: &str| {
        RestconfError::new(
            Fault::NotAcceptable,
            format!("this resource comes as {wanted} only"),
        )
    };
    match resource {
        Resource::HostMeta => {
            // SZTP-6415-3-01: XRD, or JRD for those who want that only. Devices that send the
            // Accept of their other requests here too get the XRD: RFC 9110 section 12.5.1 lets a
            // server answer so, and without the root they would be lost.
            let xrd = negotiate::accepts(accept, &[negotiate::XRD_XML, "application/xml"]);
            if !xrd && negotiate::accepts(accept, &[negotiate::JRD_JSON]) {
                let body = discovery::host_meta_json(ROOT);
                return Ok(Reply::body(200, negotiate::JRD_JSON, body));
            }
            let body = discovery::host_meta(ROOT);
            Ok(Reply::body(200, negotiate::XRD_XML, body))
        }
        Resource::HostMetaJson => {
            if negotiate::accepts(accept, &[negotiate::JRD_JSON]) {
                let body = discovery::host_meta_json(ROOT);
                return Ok(Reply::body(200, negotiate::JRD_JSON, body));
            }
            Err(refuse(negotiate::JRD_JSON))
        }
        _ => {
            let encoding = negotiate::response_encoding(accept, None)?;
            let roles = role.roles();
            let body = match resource {
                Resource::Root => discovery::root_resource(roles, encoding),
                Resource::Data => discovery::data(roles, encoding),
                Resource::YangLibrary => discovery::yang_library(roles, encoding),
                Resource::ModulesState => discovery::modules_state(roles, encoding),
                Resource::Operations => discovery::operations(roles, encoding),
                _ => discovery::yang_library_version(encoding),
            };
            Ok(Reply::body(200, negotiate::media_type(encoding), body))
        }
    }
}

/// Turns an answer into HTTP.
fn respond(reply: Reply, head: bool) -> Response {
    let length = reply.body.len();
    let body = if head {
        Body::empty()
    } else {
        Body::from(reply.body)
    };
    let mut response = Response::new(body);
    // Every status here is one that exists.
    *response.status_mut() = StatusCode::from_u16(reply.status).unwrap_or(StatusCode::CONFLICT);
    let headers = response.headers_mut();
    headers.insert(
        header::CACHE_CONTROL,
        HeaderValue::from_static(negotiate::CACHE_CONTROL),
    );
    if let Some(content_type) = reply.content_type {
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
        if head {
            // SZTP-8040-4.2-01: HEAD has the fields that GET has.
            headers.insert(header::CONTENT_LENGTH, HeaderValue::from(length));
        }
    }
    if let Some(allow) = reply.allow {
        headers.insert(header::ALLOW, HeaderValue::from_static(allow));
    }
    if reply.challenge {
        headers.insert(
            header::WWW_AUTHENTICATE,
            HeaderValue::from_static("Basic realm=\"bootstrap\", charset=\"UTF-8\""),
        );
    }
    if let Some(seconds) = reply.retry_after {
        headers.insert(header::RETRY_AFTER, HeaderValue::from(seconds));
    }
    response
}

fn with_cache_control(mut response: Response) -> Response {
    response
        .headers_mut()
        .entry(header::CACHE_CONTROL)
        .or_insert(HeaderValue::from_static(negotiate::CACHE_CONTROL));
    response
}

/// Writes down what the transport refused, and gives it the form that RESTCONF's errors have.
pub(crate) struct Witness(pub(crate) Service);

impl net::server::Observer for Witness {
    fn refused(
        &self,
        peer: &Peer,
        method: &Method,
        uri: &http::Uri,
        code: &'static str,
        detail: &str,
    ) {
        let service = self.0.clone();
        let peer = peer.clone();
        let detail = json!({
            "method": method.as_str(),
            "path": crate::timeline::clean(uri.path()),
            "detail": detail,
        });
        let status = match code {
            "net.body-too-large" => Fault::TooLarge.status(),
            "net.body-broken" | "net.body-too-slow" => Fault::BodyMissing.status(),
            "net.panic" => Fault::Internal.status(),
            _ => Fault::Busy.status(),
        };
        tokio::spawn(async move {
            service
                .note_stray(&peer, "transport", code, status, detail)
                .await;
        });
    }

    fn answer(
        &self,
        asked: &Asked,
        _uri: &http::Uri,
        status: StatusCode,
        code: &'static str,
    ) -> Option<http::Response<Body>> {
        let text = |value: &Option<HeaderValue>| -> Option<String> {
            value.as_ref()?.to_str().ok().map(str::to_owned)
        };
        let (accept, content_type) = (text(&asked.accept), text(&asked.content_type));
        let encoding = error_encoding(accept.as_deref(), content_type.as_deref());
        // RFC 8040 §7 has its own table; statuses that are not in it become their neighbours.
        let (fault, message) = match status {
            StatusCode::PAYLOAD_TOO_LARGE => (Fault::TooLarge, "the body is too large"),
            StatusCode::BAD_REQUEST if code == "net.header" => {
                (Fault::BodyMissing, "the header is not that of a request")
            }
            StatusCode::BAD_REQUEST => (Fault::BodyMissing, "the body broke off"),
            StatusCode::REQUEST_TIMEOUT => (Fault::BodyMissing, "the body came too slowly"),
            StatusCode::INTERNAL_SERVER_ERROR => (Fault::Internal, "internal error"),
            _ => (Fault::Busy, "the server cannot answer now"),
        };
        let mut error = RestconfError::new(fault, message);
        error.code = code;
        Some(respond(Reply::refusal(&error, encoding), false))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_decoded_once() {
        for (path, expected) in [
            ("/restconf", Some("/restconf")),
            ("/a%3Ab", Some("/a:b")),
            ("/a%3ab", Some("/a:b")),
            ("/%2525", Some("/%25")),
            ("/restconf%2fdata", Some("/restconf%2Fdata")),
            ("/%", None),
            ("/%2", None),
            ("/%zz", None),
            ("/%ff", None),
            ("/%+1", None),
        ] {
            assert_eq!(decoded(path).as_deref(), expected, "{path}");
        }
    }
}
