//! A voucher with the nonce of a device, fetched from the MASA while the device waits.
//!
//! [RFC 8572 §7.3](https://www.rfc-editor.org/rfc/rfc8572.html#section-7.3) leaves open how. This
//! server asks as a registrar does by
//! [RFC 8995 §5.5](https://www.rfc-editor.org/rfc/rfc8995.html#section-5.5), with the device's
//! nonce and serial number and without a pledge's request, which a device of RFC 8572 does not
//! make. The MASA knows by its register to whom it sold the device. Only MASAs that a vendor's file
//! names are ever asked, and what they answer is judged before it is stored or served.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use artifacts::{Envelope, Nonce};
use brski::masa::DeviceKey;
use brski::registrar::{OwnersNonced, masa_base_url, owners_nonced_call};
use bytes::Bytes;
use futures::FutureExt as _;
use http::{HeaderMap, HeaderValue, Method, header};
use net::client::{ClientConfig, ClientLimits, Connection, ServerTrust, Target};
use pki::path::{PathOptions, Purpose};
use pki::{Certificate, Identity};
use store::Store;
use time::OffsetDateTime;
use tokio::sync::Semaphore;

use super::device::DeviceRow;
use super::voucher::{Reader, VoucherRow, check_voucher, store_voucher, voucher_for};
use crate::Error;
use crate::config::{Config, Owner};
use crate::vendor::Vendor;

/// Calls at once to all MASAs together; more devices wait for their turn within the time limit.
const CALLS_MAX: usize = 32;
/// How often one device can make us ask in a minute.
const CALLS_PER_MINUTE_MAX: u32 = 6;
/// Devices whose calls are counted; when there are more, counting begins anew.
const COUNTED_MAX: usize = 10_000;
/// Octets of a MASA's answer.
const ANSWER_SIZE_MAX_BYTES: usize = 256 * 1024;

/// What this server asks MASAs with. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Live {
    identity: Arc<Identity>,
    owner: Arc<Owner>,
    time_max: Duration,
    calls: Arc<Semaphore>,
    counts: Arc<Mutex<HashMap<i64, (OffsetDateTime, u32)>>>,
}

impl Live {
    /// What the configuration says; `None` if MASAs are not asked.
    ///
    /// # Errors
    /// A key or certificate cannot be read, or there is no owner certificate.
    pub fn load(config: &Config) -> Result<Option<Self>, Error> {
        let Some(masa) = &config.masa else {
            return Ok(None);
        };
        let identity = masa.identity().load(&config.directory)?;
        let leaf = identity.chain.first();
        // BRSKI-5.5-02: a MASA wants to see a registrar.
        if !leaf.is_some_and(Certificate::has_cmc_ra) {
            return Err(Error::Usage(
                "the certificate of [masa] lacks id-kp-cmcRA: no MASA takes it for a registrar's"
                    .to_owned(),
            ));
        }
        let owner = config.load_owner()?.ok_or_else(|| {
            Error::Usage("[masa] needs [owner]: vouchers have to pin its certificate".to_owned())
        })?;
        Ok(Some(Self {
            identity: Arc::new(identity),
            owner: Arc::new(owner),
            time_max: Duration::from_secs(masa.timeout_seconds.max(1)),
            calls: Arc::new(Semaphore::new(CALLS_MAX)),
            counts: Arc::default(),
        }))
    }

    /// Whether this device may make us ask once more. One that sends a new nonce every second
    /// must not become the MASA's burden.
    fn admits(&self, device: i64, now: OffsetDateTime) -> bool {
        let mut counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        if counts.len() >= COUNTED_MAX {
            counts.clear();
        }
        let (since, count) = counts.entry(device).or_insert((now, 0));
        if now - *since >= time::Duration::MINUTE {
            (*since, *count) = (now, 0);
        }
        *count += 1;
        *count <= CALLS_PER_MINUTE_MAX
    }
}

/// What vouchers are judged by with this owner certificate.
#[must_use]
pub fn reader(owner: &Owner, now: OffsetDateTime) -> Reader {
    let mut owner_chain = owner.identity.chain.clone();
    for certificate in &owner.ca {
        if !owner_chain.contains(certificate) {
            owner_chain.push(certificate.clone());
        }
    }
    Reader {
        owner_chain,
        crls: owner.crls.clone(),
        now,
    }
}

/// The voucher for a device that sent this nonce: the stored one, or a new one of the MASA. `None`
/// if the vendor's file names no MASA.
///
/// `idevid` is the device's certificate if it showed one; it tells devices of several factories
/// apart.
///
/// # Errors
/// The MASA cannot be reached in time, refuses, or answers what the device would refuse.
pub async fn fetch(
    store: &Store,
    live: &Live,
    vendor: &Vendor,
    device: &DeviceRow,
    nonce: &[u8],
    idevid: Option<&Certificate>,
    now: OffsetDateTime,
) -> Result<Option<VoucherRow>, Error> {
    let Some(masa) = &vendor.file.masa else {
        return Ok(None);
    };
    // A device that repeats its request gets the same voucher again, without another call.
    if let Some(row) = stored(store, device.id, nonce, now).await? {
        return Ok(Some(row));
    }
    if !live.admits(device.id, now) {
        let detail = "the device asked too often in a minute".to_owned();
        return Err(failed("bootstrap.masa-too-often", vendor, detail));
    }
    let work = async {
        // The semaphore is never closed.
        let _turn = live.calls.acquire().await.ok();
        ask(live, vendor, masa, device, nonce, idevid, now).await
    };
    // The limit covers the wait for the turn: a device must not hang for longer.
    let der = match tokio::time::timeout(live.time_max, work).await {
        Ok(answer) => answer?,
        Err(_) => {
            return Err(failed(
                "bootstrap.masa-unreachable",
                vendor,
                format!("no answer within {:?}", live.time_max),
            ));
        }
    };
    let reader = reader(&live.owner, now);
    let checked =
        check_voucher(&reader, &der, vendor, &device.serial, Some(nonce)).map_err(|why| {
            failed(
                "bootstrap.masa-voucher",
                vendor,
                format!("{}: {}", why.code, why.detail),
            )
        })?;
    let source = masa.url.clone();
    let id = device.id;
    store
        .transaction("voucher-live", move |connection| {
            let (checked, source) = (checked.clone(), source.clone());
            async move {
                store_voucher(connection, &checked, id, &source, now).await?;
                Ok::<_, Error>(())
            }
            .boxed()
        })
        .await?;
    stored(store, device.id, nonce, now).await
}

async fn stored(
    store: &Store,
    device: i64,
    nonce: &[u8],
    now: OffsetDateTime,
) -> Result<Option<VoucherRow>, Error> {
    let mut snapshot = store.reader().await?;
    let row = voucher_for(&mut snapshot, device, Some(nonce), now).await?;
    Ok(row.filter(|row| row.nonce.as_deref() == Some(nonce)))
}

async fn ask(
    live: &Live,
    vendor: &Vendor,
    masa: &crate::vendor::MasaConfig,
    device: &DeviceRow,
    nonce: &[u8],
    idevid: Option<&Certificate>,
    now: OffsetDateTime,
) -> Result<Vec<u8>, Error> {
    let internal = |detail: String| failed("bootstrap.masa-request", vendor, detail);
    let nonce = Nonce::from_octets(nonce)
        .ok_or_else(|| internal("a nonce has 8 to 32 octets".to_owned()))?;
    let wanted = OwnersNonced {
        device: DeviceKey {
            issuer_key_id: idevid.and_then(Certificate::authority_key_id),
            serial: device.serial.clone(),
        },
        nonce,
        masa: masa_base_url(&masa.url).map_err(|refusal| internal(refusal.to_string()))?,
        envelope: Envelope::Cms,
    };
    let call = owners_nonced_call(&wanted, &live.identity, now)
        .map_err(|refusal| internal(refusal.to_string()))?;
    let target = Target::from_url(&call.url)?;
    let config = ClientConfig {
        // BRSKI-5.4-02: the name is checked, against the anchors for this vendor's MASA only.
        trust: ServerTrust::anchors(
            vendor.masa_tls_anchors.clone(),
            PathOptions::new(Purpose::Server, now),
        ),
        identity: Some((*live.identity).clone()),
        address: masa.address,
        limits: ClientLimits {
            connect_time_max: live.time_max,
            handshake_time_max: live.time_max,
            response_time_max: live.time_max,
            response_bytes_max: ANSWER_SIZE_MAX_BYTES,
        },
        ..ClientConfig::default()
    };
    let mut headers = HeaderMap::new();
    headers.insert(
        header::CONTENT_TYPE,
        HeaderValue::from_static(call.content_type),
    );
    headers.insert(header::ACCEPT, HeaderValue::from_static(call.content_type));
    let unreachable =
        |error: net::Error| failed("bootstrap.masa-unreachable", vendor, error.to_string());
    let mut connection = Connection::open(&target, &config)
        .await
        .map_err(unreachable)?;
    let body = Bytes::from(call.body);
    let response = connection
        .request(Method::POST, call.url.path(), headers, body)
        .await
        .map_err(unreachable)?;
    if response.status.as_u16() != 200 {
        let text: String = String::from_utf8_lossy(&response.body)
            .chars()
            .filter(|c| !c.is_control())
            .take(300)
            .collect();
        let detail = format!("{}: {text}", response.status.as_u16());
        return Err(failed("bootstrap.masa-refused", vendor, detail));
    }
    Ok(response.body.to_vec())
}

fn failed(code: &'static str, vendor: &Vendor, detail: String) -> Error {
    Error::Masa {
        code,
        vendor: vendor.file.name.clone(),
        detail,
    }
}
