//! Issuing a voucher: the decision and everything it writes, exactly once.
//!
//! The voucher is signed before the transaction that writes it, from facts read a moment earlier.
//! The transaction locks the device, reads the facts again and decides again: only if the decision
//! is the same are voucher, holder, audit entry and timeline entry written, together with the very
//! bytes that leave. Otherwise nothing was written and it starts over. So there are never two
//! vouchers for one decision, no signature waits inside a transaction, and no row exists without
//! its bytes.

use std::sync::Arc;

use artifacts::{Envelope, sign_voucher};
use aws_lc_rs::digest;
use brski::DomainKey;
use brski::masa::{Alarm, Decision, Grant, KeyClass, Policy, Refusal, Request, Revocation, decide};
use futures::FutureExt as _;
use pki::{Coded as _, Identity};
use serde_json::json;
use store::audit::{self, Entry};
use store::{Connection, Store, outbox, params};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use crate::facts::{self, DeviceRow, Shown};
use crate::register::subject;
use crate::timeline::{self, Event};
use crate::{Error, Keys};

/// How often a decision may change under our hands before we give up.
const ATTEMPTS_MAX: u32 = 8;

/// Topic of alarms in the outbox.
pub(crate) const ALARM_TOPIC: &str = "masa.alarm";

/// What a request came to.
pub(crate) enum Answer {
    /// A voucher, new or sent again.
    Voucher {
        body: Vec<u8>,
        envelope: Envelope,
        again: bool,
    },
    /// A refusal; if it is an alarm, that is written already.
    Refused { refusal: Refusal, alarm: bool },
}

/// What stays the same over all attempts of one request.
pub(crate) struct Job {
    pub(crate) request: Request,
    pub(crate) shown: Shown,
    pub(crate) policy: Arc<Policy>,
    pub(crate) revocation: Revocation,
    pub(crate) now: OffsetDateTime,
    /// The timeline entry of a granted voucher, but for outcome and status.
    pub(crate) event: Event,
}

/// Decides and writes; the answer may leave when this returns.
pub(crate) async fn issue(store: &Store, keys: &Keys, job: Arc<Job>) -> Result<Answer, Error> {
    for _ in 0..ATTEMPTS_MAX {
        let mut snapshot = store.snapshot().await?;
        let found = facts::read(
            &mut snapshot,
            &job.request,
            &job.shown,
            job.revocation,
            job.now,
        )
        .await?;
        let decision = decide(&job.request, &found.facts, &job.policy, job.now);
        match decision {
            Decision::Again => {
                if let Some((body, envelope)) = stored(&mut snapshot, &job.request).await? {
                    return Ok(Answer::Voucher {
                        body,
                        envelope,
                        again: true,
                    });
                }
            }
            Decision::Refuse {
                refusal,
                alarm: None,
            } => {
                return Ok(Answer::Refused {
                    refusal,
                    alarm: false,
                });
            }
            Decision::Refuse {
                refusal,
                alarm: Some(alarm),
            } => {
                drop(snapshot);
                raise(store, &job, &alarm, found.row.as_ref()).await?;
                return Ok(Answer::Refused {
                    refusal,
                    alarm: true,
                });
            }
            Decision::Grant(grant) => {
                drop(snapshot);
                let identity = match identity(keys, grant.key) {
                    Ok(identity) => identity,
                    Err(refusal) => {
                        return Ok(Answer::Refused {
                            refusal,
                            alarm: false,
                        });
                    }
                };
                let body = sign_voucher(&grant.voucher, grant.envelope, &identity, job.now)?;
                let envelope = grant.envelope;
                if write(store, &job, Arc::new((*grant, body.clone()))).await? {
                    return Ok(Answer::Voucher {
                        body,
                        envelope,
                        again: false,
                    });
                }
            }
        }
    }
    Err(Error::Unsettled(ATTEMPTS_MAX))
}

/// The key for this class of voucher.
fn identity(keys: &Keys, class: KeyClass) -> Result<Arc<Identity>, Refusal> {
    match class {
        KeyClass::Nonced => Ok(Arc::clone(&keys.nonced)),
        // Without a key of its own there is no nonceless service for anybody.
        KeyClass::Nonceless => keys
            .nonceless
            .clone()
            .ok_or(Refusal::NoncelessNotAuthorised),
    }
}

async fn stored(
    connection: &mut Connection,
    request: &Request,
) -> Result<Option<(Vec<u8>, Envelope)>, Error> {
    let row = connection
        .fetch_optional(
            "SELECT body, envelope FROM voucher WHERE fingerprint = $1 \
             ORDER BY generation DESC LIMIT 1",
            params![request.fingerprint()],
        )
        .await?;
    let Some(row) = row else { return Ok(None) };
    let name = row.text("envelope")?;
    let envelope = Envelope::ALL
        .into_iter()
        .find(|envelope| envelope.name() == name);
    Ok(Some((
        row.bytes("body")?,
        envelope.unwrap_or(Envelope::Cms),
    )))
}

/// Whether two decisions about one request are the same to the last octet.
fn same(one: &Grant, other: &Grant) -> bool {
    one.envelope == other.envelope
        && one.key == other.key
        && one.audit == other.audit
        && one.voucher.to_json() == other.voucher.to_json()
}

/// True if the grant was written, false if it is no longer what would be decided.
async fn write(
    store: &Store,
    job: &Arc<Job>,
    signed: Arc<(Grant, Vec<u8>)>,
) -> Result<bool, Error> {
    let job = Arc::clone(job);
    store
        .locking_transaction("voucher-issue", move |connection| {
            let (job, signed) = (Arc::clone(&job), Arc::clone(&signed));
            async move {
                facts::lock_device(connection, &job.request.device_key().serial).await?;
                let found = facts::read(
                    connection,
                    &job.request,
                    &job.shown,
                    job.revocation,
                    job.now,
                )
                .await?;
                let decision = decide(&job.request, &found.facts, &job.policy, job.now);
                let (Decision::Grant(again), Some(row)) = (decision, found.row) else {
                    return Ok(false);
                };
                if !same(&signed.0, &again) {
                    return Ok(false);
                }
                let owner = again.holder.as_ref().map_or_else(
                    || found.facts.device.and_then(|device| device.holder?.owner),
                    |holder| holder.owner.clone(),
                );
                let issued = Issued {
                    fingerprint: job.request.fingerprint(),
                    row: &row,
                    owner: owner.as_deref(),
                    grant: &signed.0,
                    body: &signed.1,
                    batch: None,
                };
                let id = insert(connection, &issued, job.now).await?;
                claim(connection, &row, &again, job.now).await?;
                let mut event = job.event.clone();
                event.summary["voucher_id"] = json!(id);
                timeline::write(connection, &event).await?;
                Ok(true)
            }
            .boxed()
        })
        .await
}

/// A voucher that is about to be written.
pub(crate) struct Issued<'a> {
    pub(crate) fingerprint: [u8; 32],
    pub(crate) row: &'a DeviceRow,
    pub(crate) owner: Option<&'a str>,
    pub(crate) grant: &'a Grant,
    pub(crate) body: &'a [u8],
    pub(crate) batch: Option<&'a str>,
}

/// Writes the voucher and its audit entry.
pub(crate) async fn insert(
    connection: &mut Connection,
    issued: &Issued<'_>,
    now: OffsetDateTime,
) -> Result<i64, Error> {
    let Issued {
        fingerprint,
        row,
        owner,
        grant,
        body,
        batch,
    } = issued;
    let key_class = match grant.key {
        KeyClass::Nonced => "nonced",
        KeyClass::Nonceless => "nonceless",
    };
    let id = connection
        .fetch_one(
            "INSERT INTO voucher (fingerprint, generation, serial, issuer, domain, domain_id, \
             owner, nonce, assertion, envelope, key_class, issued_us, expires_us, renewal, batch, \
             body) VALUES ($1, (SELECT COUNT(*) FROM voucher WHERE fingerprint = $1), $2, $3, $4, \
             $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15) RETURNING id",
            params![
                fingerprint,
                &row.serial,
                &row.issuer,
                grant.audit.domain.as_bytes(),
                &grant.audit.domain_id,
                *owner,
                grant.audit.nonce.clone(),
                grant.audit.assertion.as_str(),
                grant.envelope.name(),
                key_class,
                now,
                grant.voucher.expires_on,
                grant.renewal,
                *batch,
                *body
            ],
        )
        .await?
        .integer("id")?;
    let entry = Entry {
        at: now,
        kind: "voucher-issued".to_owned(),
        actor: format!("domain:{}", grant.audit.domain),
        subject: subject(&row.serial, &row.issuer),
        data: json!({
            "voucher_id": id,
            "owner": owner,
            "assertion": grant.audit.assertion.as_str(),
            "nonce": grant.audit.nonce,
            "expires_on": grant.voucher.expires_on.and_then(|time| time.format(&Rfc3339).ok()),
            "pinned_sha256": hex::encode(grant.pinned.sha256()),
            "format": grant.envelope.name(),
            "key": key_class,
            "renewal": grant.renewal,
            "batch": batch,
            "voucher_sha256": hex::encode(digest::digest(&digest::SHA256, body)),
        }),
    };
    audit::append(connection, &entry).await?;
    Ok(id)
}

/// Writes what the grant changes about the device.
pub(crate) async fn claim(
    connection: &mut Connection,
    row: &DeviceRow,
    grant: &Grant,
    now: OffsetDateTime,
) -> Result<(), Error> {
    if let Some(holder) = &grant.holder {
        connection
            .execute(
                "UPDATE device SET holder_domain = $1, holder_owner = $2, holder_since_us = $3, \
                 changed_us = $3 WHERE serial = $4 AND issuer = $5",
                params![
                    holder.domain.as_bytes(),
                    holder.owner.clone(),
                    now,
                    &row.serial,
                    &row.issuer
                ],
            )
            .await?;
    }
    if let Some(key) = &grant.idevid_key {
        connection
            .execute(
                "UPDATE device SET idevid_key = $1, changed_us = $2 \
                 WHERE serial = $3 AND issuer = $4 AND idevid_key IS NULL",
                params![key, now, &row.serial, &row.issuer],
            )
            .await?;
    }
    Ok(())
}

fn alarm_parts(alarm: &Alarm) -> (&'static str, String) {
    match alarm {
        Alarm::SecondDomain { asked, .. } => ("second-domain", asked.to_string()),
        Alarm::SoldToAnother { asked, .. } => ("sold-to-another", asked.to_string()),
        Alarm::Clone { seen, .. } => ("clone", seen.clone()),
        Alarm::Proximity { asked } => ("proximity", asked.to_string()),
    }
}

/// Writes an alarm: a row that counts, and for the first of its kind an audit entry and a message
/// for the operator. A peer that repeats itself cannot fill the audit log.
pub(crate) async fn raise(
    store: &Store,
    job: &Arc<Job>,
    alarm: &Alarm,
    row: Option<&DeviceRow>,
) -> Result<(), Error> {
    let (kind, asked) = alarm_parts(alarm);
    let key = job.request.device_key();
    let row = row.cloned().unwrap_or_else(|| DeviceRow {
        serial: key.serial.clone(),
        issuer: key.issuer_key_id.clone().unwrap_or_default(),
    });
    let detail = serde_json::to_value(alarm).unwrap_or_default();
    let (actor, now) = (actor(&job.request), job.now);
    store
        .locking_transaction("alarm", move |connection| {
            let (row, asked, detail) = (row.clone(), asked.clone(), detail.clone());
            let actor = actor.clone();
            async move {
                let count = connection
                    .fetch_one(
                        "INSERT INTO alarm (serial, issuer, kind, asked, detail, first_us, \
                         last_us, count) VALUES ($1, $2, $3, $4, $5, $6, $6, 1) \
                         ON CONFLICT (serial, issuer, kind, asked) DO UPDATE \
                         SET count = alarm.count + 1, last_us = $6 RETURNING count",
                        params![
                            &row.serial,
                            &row.issuer,
                            kind,
                            asked,
                            detail.to_string(),
                            now
                        ],
                    )
                    .await?
                    .integer("count")?;
                if count == 1 {
                    let entry = Entry {
                        at: now,
                        kind: format!("alarm-{kind}"),
                        actor,
                        subject: subject(&row.serial, &row.issuer),
                        data: detail.clone(),
                    };
                    audit::append(connection, &entry).await?;
                    let message = json!({
                        "alarm": kind, "serial": row.serial, "issuer": hex::encode(&row.issuer),
                        "detail": detail,
                    });
                    outbox::push(connection, ALARM_TOPIC, message.to_string().as_bytes(), now)
                        .await?;
                }
                Ok::<_, Error>(())
            }
            .boxed()
        })
        .await
}

/// How an audit entry names the domain that asks.
pub(crate) fn actor(request: &Request) -> String {
    let top = request.domain().chain().last().map(DomainKey::of);
    top.map_or_else(
        || "domain:unknown".to_owned(),
        |key| format!("domain:{key}"),
    )
}

/// The code of an answer for timeline and metrics.
pub(crate) fn code_of(answer: &Answer) -> &'static str {
    match answer {
        Answer::Voucher { .. } => "ok",
        Answer::Refused { refusal, .. } => refusal.code(),
    }
}
