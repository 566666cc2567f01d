//! The CRL that the registrar publishes at `/crl`.

use std::sync::Arc;

use pki::Crl;
use store::{Store, params};
use time::OffsetDateTime;

use super::{CaError, CertificateAuthority, records};

/// The current CRL of the CA in DER; `None` if the registrar does not sign its CA's CRLs.
///
/// A CRL is made anew when half of its time is over or when something was revoked since. Several
/// replicas may do so at once; the number in the database decides which one stays.
///
/// # Errors
/// The database failed or the CA cannot sign.
pub async fn current_crl(
    store: &Store,
    ca: &Arc<dyn CertificateAuthority>,
    now: OffsetDateTime,
) -> Result<Option<Vec<u8>>, CaError> {
    let Some(issuer) = ca.ca_certificates().into_iter().next() else {
        return Ok(None);
    };
    let issuer_key = issuer
        .subject_key_id()
        .map_or_else(|| hex::encode(issuer.subject_der()), hex::encode);
    // Most of the time the CRL at hand is good, and anybody may ask: no write for that.
    let mut snapshot = store.snapshot().await?;
    let revoked = records::revoked_count(&mut snapshot, &issuer_key).await?;
    if let (Some(der), _) = kept(&mut snapshot, &issuer_key, revoked, now).await? {
        return Ok(Some(der));
    }
    drop(snapshot);
    let ca = Arc::clone(ca);
    store
        .transaction("registrar-crl", move |connection| {
            let (issuer_key, ca) = (issuer_key.clone(), Arc::clone(&ca));
            Box::pin(async move {
                let revoked = records::revoked_count(connection, &issuer_key).await?;
                let (der, number) = kept(connection, &issuer_key, revoked, now).await?;
                if der.is_some() {
                    return Ok(der);
                }
                let lines = records::revocations(connection, &issuer_key, now).await?;
                let Some(crl) = ca.sign_crl(u64::try_from(number).unwrap_or(1), &lines, now)?
                else {
                    return Ok(None);
                };
                keep(connection, &issuer_key, number, revoked, &crl).await?;
                Ok(Some(crl.der().to_vec()))
            })
        })
        .await
}

/// The CRL in the database if it is still good, and the number that the next one gets.
async fn kept(
    connection: &mut store::Connection,
    issuer_key: &str,
    revoked: i64,
    now: OffsetDateTime,
) -> Result<(Option<Vec<u8>>, i64), CaError> {
    let row = connection
        .fetch_optional(
            "SELECT number, this_update_us, next_update_us, revoked, der FROM crl \
             WHERE issuer_key = $1",
            params![issuer_key],
        )
        .await?;
    let Some(row) = row else { return Ok((None, 1)) };
    let number = row.integer("number")? + 1;
    let from = row.time("this_update_us")?;
    let to = row.time("next_update_us")?;
    let fresh = now >= from && now < from + (to - from) / 2;
    if fresh && row.integer("revoked")? == revoked {
        return Ok((Some(row.bytes("der")?), number));
    }
    Ok((None, number))
}

async fn keep(
    connection: &mut store::Connection,
    issuer_key: &str,
    number: i64,
    revoked: i64,
    crl: &Crl,
) -> Result<(), CaError> {
    let next = crl.next_update().unwrap_or_else(|| crl.this_update());
    connection
        .execute(
            "INSERT INTO crl (issuer_key, number, this_update_us, next_update_us, revoked, der) \
             VALUES ($1, $2, $3, $4, $5, $6) ON CONFLICT (issuer_key) DO UPDATE SET \
             number = excluded.number, this_update_us = excluded.this_update_us, \
             next_update_us = excluded.next_update_us, revoked = excluded.revoked, \
             der = excluded.der",
            params![
                issuer_key,
                number,
                crl.this_update(),
                next,
                revoked,
                crl.der()
            ],
        )
        .await?;
    Ok(())
}
