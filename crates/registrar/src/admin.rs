//! The read API on the admin listener, as JSON.

use axum::Router;
use axum::extract::{Path, Query, State};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use http::StatusCode;
use pki::Coded as _;
use serde::{Deserialize, Serialize};

use crate::Error;
use crate::records::{self, Device, DeviceFilter, Recorded, State as DeviceState};
use crate::service::Service;

/// The most devices in one answer.
pub(crate) const PAGE_SIZE_MAX: u32 = 1_000;

/// The routes of the read API.
pub(crate) fn routes(service: Service) -> Router {
    Router::new()
        .route("/api/devices", get(devices))
        .route("/api/devices/{serial}", get(device))
        .with_state(service)
}

/// What may be asked for; every field narrows the answer.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Wanted {
    state: Option<DeviceState>,
    vendor: Option<String>,
    code: Option<String>,
    serial: Option<String>,
    after: Option<String>,
    limit: Option<u32>,
}

/// A page of devices; `next` goes into `after` for the next page.
#[derive(Debug, Serialize)]
struct Page {
    devices: Vec<Device>,
    next: Option<String>,
}

/// A device with everything that is known about it.
#[derive(Debug, Serialize)]
pub(crate) struct Shown {
    #[serde(flatten)]
    pub(crate) device: Device,
    pub(crate) timeline: Vec<Recorded>,
}

async fn devices(State(service): State<Service>, Query(wanted): Query<Wanted>) -> Response {
    let limit = wanted.limit.unwrap_or(100).clamp(1, PAGE_SIZE_MAX);
    let filter = DeviceFilter {
        state: wanted.state,
        vendor: wanted.vendor,
        code: wanted.code,
        serial_contains: wanted.serial,
        seen_since: None,
        after: wanted.after,
        limit,
    };
    match page(&service, &filter).await {
        Ok(devices) => {
            let full = devices.len() >= usize::try_from(limit).unwrap_or(usize::MAX);
            let next = devices
                .last()
                .filter(|_| full)
                .map(|device| device.device_id.clone());
            axum::Json(Page { devices, next }).into_response()
        }
        Err(error) => problem(&error),
    }
}

async fn page(service: &Service, filter: &DeviceFilter) -> Result<Vec<Device>, Error> {
    let mut snapshot = service.store().snapshot().await?;
    Ok(records::devices(&mut snapshot, filter).await?)
}

async fn device(
    State(service): State<Service>,
    Path(serial): Path<String>,
    Query(wanted): Query<Wanted>,
) -> Response {
    match shown(&service, &serial, wanted.vendor.as_deref()).await {
        Ok(list) if list.is_empty() => problem(&Error::DeviceUnknown { serial }),
        Ok(list) => axum::Json(serde_json::json!({ "devices": list })).into_response(),
        Err(error) => problem(&error),
    }
}

async fn shown(service: &Service, serial: &str, vendor: Option<&str>) -> Result<Vec<Shown>, Error> {
    let mut snapshot = service.store().snapshot().await?;
    let mut list = Vec::new();
    for device in records::find_devices(&mut snapshot, serial, vendor).await? {
        let timeline = records::timeline(&mut snapshot, &device.device_id, 500).await?;
        list.push(Shown { device, timeline });
    }
    Ok(list)
}

/// A problem document of RFC 9457.
fn problem(error: &Error) -> Response {
    let status = match error {
        Error::DeviceUnknown { .. } => StatusCode::NOT_FOUND,
        _ => StatusCode::SERVICE_UNAVAILABLE,
    };
    let body = serde_json::json!({
        "title": error.to_string(), "status": status.as_u16(), "code": error.code(),
    });
    let mut response = (status, axum::Json(body)).into_response();
    response.headers_mut().insert(
        http::header::CONTENT_TYPE,
        http::HeaderValue::from_static("application/problem+json"),
    );
    response
}
