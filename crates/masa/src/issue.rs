//! Issuing a voucher: the decision and everything it writes, exactly once.
//!
//! The voucher is signed before the transaction that writes it, from facts read a moment earlier.
//! The first statement of the transaction locks the device if its stamp (see [`Stamp`]) is still
//! the one that was read: only then are voucher, holder, audit entry and timeline entry written,
//! together with the very bytes that leave. Otherwise nothing was written and it starts over. So there are never two
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

use crate::facts::{self, DeviceRow, Shown, Stamp};
use crate::register::subject;
use crate::timeline::{self, Event};
use crate::{Error, Keys};

/// How often a decision may change under our hands before we give up.
const ATTEMPTS_MAX: u32 = 64;

/// Topic of alarms in the outbox.
pub(crate) const ALARM_TOPIC: &str = "alarm";

/// So many domains or keys are told apart in the alarms of one kind about one device; all further
/// ones are one alarm. A domain is made in a moment, and the audit log is for ever.
const ALARMS_PER_DEVICE_MAX: i64 = 64;
/// Whom such a further alarm names.
const OTHERS: &str = "others";

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
        let mut reader = store.reader().await?;
        let found = facts::read(
            &mut reader,
            &job.request,
            &job.shown,
            job.revocation,
            job.now,
        )
        .await?;
        let decision = decide(&job.request, &found.facts, &job.policy, job.now);
        match decision {
            Decision::Again => {
                if let Some((body, envelope)) = stored(&mut reader, &job.request).await? {
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
                drop(reader);
                raise(store, &job, &alarm, found.row.as_ref()).await?;
                return Ok(Answer::Refused {
                    refusal,
                    alarm: true,
                });
            }
            Decision::Grant(grant) => {
                drop(reader);
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
                // A grant is about a device that was found.
                let Some(row) = found.row else {
                    continue;
                };
                let owner = match &grant.holder {
                    Some(holder) => holder.owner.clone(),
                    None => found.facts.device.and_then(|device| device.holder?.owner),
                };
                let signed = Signed {
                    grant: *grant,
                    row,
                    owner,
                    body: body.clone(),
                };
                if write(store, &job, signed).await? {
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

/// A decision with what it rests on and its signed voucher.
struct Signed {
    grant: Grant,
    row: DeviceRow,
    /// The owner behind the domain, new or as before.
    owner: Option<String>,
    body: Vec<u8>,
}

/// True if the grant was written, false if its facts have changed.
async fn write(store: &Store, job: &Arc<Job>, signed: Signed) -> Result<bool, Error> {
    let (job, signed) = (Arc::clone(job), Arc::new(signed));
    store
        .locking_transaction("voucher-issue", move |connection| {
            let (job, signed) = (Arc::clone(&job), Arc::clone(&signed));
            async move {
                if !claim(connection, &signed.row, &signed.grant, job.now).await? {
                    return Ok(false);
                }
                let issued = Issued {
                    fingerprint: job.request.fingerprint(),
                    row: &signed.row,
                    owner: signed.owner.as_deref(),
                    grant: &signed.grant,
                    body: &signed.body,
                    batch: None,
                };
                let id = insert(connection, &issued, job.now).await?;
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

/// Locks the device and writes what the grant changes about it. False, and nothing is written, if
/// the device or an owner changed since the stamp was read.
pub(crate) async fn claim(
    connection: &mut Connection,
    row: &DeviceRow,
    grant: &Grant,
    now: OffsetDateTime,
) -> Result<bool, Error> {
    let holder = grant.holder.as_ref();
    let rows = connection
        .execute(
            "UPDATE device SET version = version + 1, \
             holder_domain = CASE WHEN $1 = 1 THEN $2 ELSE holder_domain END, \
             holder_owner = CASE WHEN $1 = 1 THEN $3 ELSE holder_owner END, \
             holder_since_us = CASE WHEN $1 = 1 THEN $4 ELSE holder_since_us END, \
             changed_us = CASE WHEN $1 = 1 THEN $4 ELSE changed_us END, \
             idevid_key = COALESCE(idevid_key, $5) \
             WHERE serial = $6 AND issuer = $7 AND version = $8 \
               AND (SELECT value FROM register_epoch) = $9",
            params![
                holder.is_some(),
                holder.map(|holder| holder.domain.as_bytes().as_slice()),
                holder.and_then(|holder| holder.owner.clone()),
                now,
                grant.idevid_key.as_ref().map(<[u8; 32]>::as_slice),
                &row.serial,
                &row.issuer,
                row.stamp.version,
                row.stamp.epoch
            ],
        )
        .await?;
    Ok(rows == 1)
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
/// for the operator. A peer that repeats itself cannot fill the audit log, nor can one that takes a new name
/// each time.
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
        stamp: Stamp::default(),
    });
    let detail = serde_json::to_value(alarm).unwrap_or_default();
    let (actor, now) = (actor(&job.request), job.now);
    store
        .locking_transaction("alarm", move |connection| {
            let (row, asked, detail) = (row.clone(), asked.clone(), detail.clone());
            let actor = actor.clone();
            async move {
                let known = connection
                    .fetch_one(
                        "SELECT COUNT(*) AS known FROM alarm \
                         WHERE serial = $1 AND issuer = $2 AND kind = $3 AND asked <> $4",
                        params![&row.serial, &row.issuer, kind, &asked],
                    )
                    .await?
                    .integer("known")?;
                let asked = if known < ALARMS_PER_DEVICE_MAX {
                    asked
                } else {
                    OTHERS.to_owned()
                };
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
