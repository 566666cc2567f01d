//! The certificates that went out through this registrar.

use pki::Certificate;
use pki::issue::RevocationReason;
use serde::Serialize;
use store::{AssertSqlSafe, Connection, Error, Row, params};
use time::OffsetDateTime;

/// The tables, as one migration.
pub const SCHEMA: &str = "
CREATE TABLE certificate (
    certificate_id TEXT PRIMARY KEY,
    issuer_key TEXT NOT NULL,
    serial_number TEXT NOT NULL,
    holder TEXT NOT NULL,
    scope TEXT NOT NULL,
    request_digest TEXT NOT NULL,
    request_key TEXT NOT NULL,
    public_key TEXT NOT NULL,
    subject TEXT NOT NULL,
    der {blob} NOT NULL,
    origin TEXT NOT NULL,
    replaces TEXT,
    not_before_us BIGINT NOT NULL,
    not_after_us BIGINT NOT NULL,
    issued_us BIGINT NOT NULL,
    revoked_us BIGINT,
    revocation_reason TEXT
);
CREATE UNIQUE INDEX certificate_serial ON certificate (issuer_key, serial_number);
CREATE UNIQUE INDEX certificate_request ON certificate (request_key);
CREATE INDEX certificate_holder ON certificate (holder, issued_us);
CREATE INDEX certificate_key ON certificate (public_key);
CREATE INDEX certificate_revoked ON certificate (revoked_us);
CREATE INDEX certificate_issued ON certificate (issued_us);
CREATE TABLE crl (
    issuer_key TEXT PRIMARY KEY,
    number BIGINT NOT NULL,
    this_update_us BIGINT NOT NULL,
    next_update_us BIGINT NOT NULL,
    revoked BIGINT NOT NULL,
    der {blob} NOT NULL
);
";

/// A certificate as it stands in the database.
#[derive(Clone, Debug, Serialize)]
pub struct IssuedCertificate {
    /// SHA-256 of the certificate, in hexadecimal.
    pub certificate_id: String,
    /// Key identifier of the issuer, in hexadecimal.
    pub issuer_key: String,
    /// The certificate's own serial number, in hexadecimal.
    pub serial_number: String,
    /// Whose it is: a device of the device table, or `est:…` for enrolment without BRSKI.
    pub holder: String,
    /// The exchange or the certificate that it was issued for.
    pub scope: String,
    /// Its subject.
    pub subject: String,
    /// SHA-256 of its public key, in hexadecimal.
    pub public_key: String,
    /// `builtin` or `upstream`.
    pub origin: String,
    /// The certificate whose place it took.
    pub replaces: Option<String>,
    /// Validity begins.
    #[serde(with = "time::serde::rfc3339")]
    pub not_before: OffsetDateTime,
    /// Validity ends.
    #[serde(with = "time::serde::rfc3339")]
    pub not_after: OffsetDateTime,
    /// When it was issued.
    #[serde(with = "time::serde::rfc3339")]
    pub issued: OffsetDateTime,
    /// When it was revoked.
    #[serde(with = "time::serde::rfc3339::option")]
    pub revoked: Option<OffsetDateTime>,
    /// Why.
    pub revocation_reason: Option<String>,
    /// The certificate.
    #[serde(skip)]
    pub der: Vec<u8>,
}

impl IssuedCertificate {
    /// One word for lists.
    #[must_use]
    pub fn status(&self, now: OffsetDateTime) -> &'static str {
        if self.revoked.is_some() {
            "revoked"
        } else if now > self.not_after {
            "expired"
        } else if now < self.not_before {
            "not-yet-valid"
        } else {
            "valid"
        }
    }
}

/// One line of a CRL.
#[derive(Clone, Debug)]
pub struct Revocation {
    /// Content octets of the serial number.
    pub serial_number: Vec<u8>,
    /// When.
    pub at: OffsetDateTime,
    /// Why.
    pub reason: RevocationReason,
}

/// The reasons by the names of the standard.
pub const REASONS: [(&str, RevocationReason); 7] = [
    ("unspecified", RevocationReason::Unspecified),
    ("key-compromise", RevocationReason::KeyCompromise),
    ("affiliation-changed", RevocationReason::AffiliationChanged),
    ("superseded", RevocationReason::Superseded),
    (
        "cessation-of-operation",
        RevocationReason::CessationOfOperation,
    ),
    ("certificate-hold", RevocationReason::CertificateHold),
    ("privilege-withdrawn", RevocationReason::PrivilegeWithdrawn),
];

/// The reason of that name.
#[must_use]
pub fn reason(name: &str) -> Option<RevocationReason> {
    REASONS
        .iter()
        .find(|(known, _)| *known == name)
        .map(|(_, reason)| *reason)
}

/// What is to be written about a new certificate.
#[derive(Clone, Debug)]
pub struct NewCertificate {
    /// The certificate.
    pub certificate: Certificate,
    /// Whose it is.
    pub holder: String,
    /// The exchange or the certificate that it was issued for.
    pub scope: String,
    /// SHA-256 of the request, in hexadecimal.
    pub request_digest: String,
    /// The same request in the same scope by the same holder has one certificate: holder, scope,
    /// digest, and how many earlier ones of that kind are revoked or expired.
    pub request_key: String,
    /// `builtin` or `upstream`.
    pub origin: &'static str,
    /// The certificate whose place it takes.
    pub replaces: Option<String>,
    /// When it was issued.
    pub issued: OffsetDateTime,
}

const COLUMNS: &str = "certificate_id, issuer_key, serial_number, holder, scope, subject, \
    public_key, der, origin, replaces, not_before_us, not_after_us, issued_us, revoked_us, \
    revocation_reason";

fn select(rest: &str) -> AssertSqlSafe<String> {
    // Only this file's own text goes in; values are parameters.
    AssertSqlSafe(format!("SELECT {COLUMNS} FROM certificate {rest}"))
}

fn read(row: &Row) -> Result<IssuedCertificate, Error> {
    Ok(IssuedCertificate {
        certificate_id: row.text("certificate_id")?,
        issuer_key: row.text("issuer_key")?,
        serial_number: row.text("serial_number")?,
        holder: row.text("holder")?,
        scope: row.text("scope")?,
        subject: row.text("subject")?,
        public_key: row.text("public_key")?,
        der: row.bytes("der")?,
        origin: row.text("origin")?,
        replaces: row.optional_text("replaces")?,
        not_before: row.time("not_before_us")?,
        not_after: row.time("not_after_us")?,
        issued: row.time("issued_us")?,
        revoked: row.optional_integer("revoked_us")?.map(store::from_micros),
        revocation_reason: row.optional_text("revocation_reason")?,
    })
}

/// The key identifier of a certificate's issuer, in hexadecimal; the hash of its name if the
/// certificate does not name the key.
#[must_use]
pub fn issuer_key(certificate: &Certificate) -> String {
    certificate
        .authority_key_id()
        .map_or_else(|| hex::encode(certificate.issuer_der()), hex::encode)
}

/// Writes a certificate; `false` if the request has one already or the serial number is taken.
///
/// # Errors
/// The database failed.
pub async fn insert(connection: &mut Connection, new: &NewCertificate) -> Result<bool, Error> {
    let certificate = &new.certificate;
    let written = connection
        .execute(
            "INSERT INTO certificate (certificate_id, issuer_key, serial_number, holder, scope, \
             request_digest, request_key, public_key, subject, der, origin, replaces, \
             not_before_us, not_after_us, issued_us) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, \
             $10, $11, $12, $13, $14, $15) ON CONFLICT DO NOTHING",
            params![
                hex::encode(certificate.sha256()),
                issuer_key(certificate),
                hex::encode(certificate.serial_number()),
                &new.holder,
                &new.scope,
                &new.request_digest,
                &new.request_key,
                hex::encode(certificate.public_key().sha256()),
                crate::records::storable(&certificate.subject()),
                certificate.der(),
                new.origin,
                new.replaces.clone(),
                certificate.not_before(),
                certificate.not_after(),
                new.issued
            ],
        )
        .await?;
    Ok(written == 1)
}

/// All certificates for one request, newest first.
///
/// # Errors
/// The database failed.
pub async fn for_request(
    connection: &mut Connection,
    holder: &str,
    scope: &str,
    request_digest: &str,
) -> Result<Vec<IssuedCertificate>, Error> {
    connection
        .fetch_all(
            select(
                "WHERE holder = $1 AND scope = $2 AND request_digest = $3 \
                 ORDER BY issued_us DESC LIMIT 1000",
            ),
            params![holder, scope, request_digest],
        )
        .await?
        .iter()
        .map(read)
        .collect()
}

/// The certificate with that SHA-256.
///
/// # Errors
/// The database failed.
pub async fn by_id(
    connection: &mut Connection,
    certificate_id: &str,
) -> Result<Option<IssuedCertificate>, Error> {
    connection
        .fetch_optional(select("WHERE certificate_id = $1"), params![certificate_id])
        .await?
        .as_ref()
        .map(read)
        .transpose()
}

/// Fewest digits by which a certificate can be named: a short text is more likely something else.
const PREFIX_LENGTH_MIN: usize = 6;

/// Certificates whose id or serial number begins with these hexadecimal digits; colons and case do
/// not matter.
///
/// # Errors
/// The database failed.
pub async fn find(
    connection: &mut Connection,
    text: &str,
) -> Result<Vec<IssuedCertificate>, Error> {
    let digits = text.to_ascii_lowercase().replace(':', "");
    if digits.len() < PREFIX_LENGTH_MIN || !digits.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return Ok(Vec::new());
    }
    let prefix = format!("{digits}%");
    connection
        .fetch_all(
            select(
                "WHERE certificate_id LIKE $1 OR serial_number LIKE $2 \
                 ORDER BY issued_us DESC LIMIT 100",
            ),
            params![&prefix, &prefix],
        )
        .await?
        .iter()
        .map(read)
        .collect()
}

/// Whether a key is known as that of anybody else: certified for another holder, or the IDevID key
/// of another device.
///
/// # Errors
/// The database failed.
pub async fn key_of_another(
    connection: &mut Connection,
    holder: &str,
    public_key: &str,
) -> Result<bool, Error> {
    let certified = connection
        .fetch_optional(
            "SELECT holder FROM certificate WHERE public_key = $1 AND holder <> $2 LIMIT 1",
            params![public_key, holder],
        )
        .await?;
    if certified.is_some() {
        return Ok(true);
    }
    let bound = connection
        .fetch_optional(
            "SELECT device_id FROM device WHERE bound_key = $1 AND device_id <> $2 LIMIT 1",
            params![public_key, holder],
        )
        .await?;
    Ok(bound.is_some())
}

/// Whether a certificate of that holder was revoked at that time or later.
///
/// # Errors
/// The database failed.
pub async fn revoked_since(
    connection: &mut Connection,
    holder: &str,
    since: OffsetDateTime,
) -> Result<bool, Error> {
    let revoked = connection
        .fetch_optional(
            "SELECT certificate_id FROM certificate \
             WHERE holder = $1 AND revoked_us >= $2 LIMIT 1",
            params![holder, since],
        )
        .await?;
    Ok(revoked.is_some())
}

/// Whether a certificate, or one that took its place since, is revoked. Whoever holds the key of an
/// old certificate must not get around the revocation of the new one.
///
/// # Errors
/// The database failed.
pub async fn is_withdrawn(
    connection: &mut Connection,
    certificate: &IssuedCertificate,
) -> Result<bool, Error> {
    if certificate.revoked.is_some() {
        return Ok(true);
    }
    let filter = Filter {
        holder: Some(certificate.holder.clone()),
        limit: SUCCESSORS_MAX,
        ..Filter::default()
    };
    let mut others = list(connection, &filter).await?;
    let mut line = vec![certificate.certificate_id.clone()];
    loop {
        let (successors, rest): (Vec<_>, Vec<_>) = others.into_iter().partition(|other| {
            let replaced = other.replaces.as_ref();
            replaced.is_some_and(|replaced| line.contains(replaced))
        });
        if successors.is_empty() {
            return Ok(false);
        }
        if successors.iter().any(|later| later.revoked.is_some()) {
            return Ok(true);
        }
        line = successors
            .into_iter()
            .map(|later| later.certificate_id)
            .collect();
        others = rest;
    }
}

/// Most certificates of one holder among which successors are looked for.
const SUCCESSORS_MAX: u32 = 1_000;

/// Which certificates [`list`] gives.
#[derive(Clone, Debug, Default)]
pub struct Filter {
    /// Of this holder.
    pub holder: Option<String>,
    /// Revoked ones only.
    pub revoked: bool,
    /// Issued before this time; for paging.
    pub before: Option<OffsetDateTime>,
    /// At most so many.
    pub limit: u32,
}

/// Certificates, newest first.
///
/// # Errors
/// The database failed.
pub async fn list(
    connection: &mut Connection,
    filter: &Filter,
) -> Result<Vec<IssuedCertificate>, Error> {
    let before = filter.before.map_or(i64::MAX, store::micros);
    let rows = match &filter.holder {
        Some(holder) => {
            connection
                .fetch_all(
                    select("WHERE holder = $1 AND issued_us < $2 ORDER BY issued_us DESC LIMIT $3"),
                    params![holder, before, filter.limit],
                )
                .await?
        }
        None if filter.revoked => {
            connection
                .fetch_all(
                    select(
                        "WHERE revoked_us IS NOT NULL AND issued_us < $1 \
                         ORDER BY issued_us DESC LIMIT $2",
                    ),
                    params![before, filter.limit],
                )
                .await?
        }
        None => {
            connection
                .fetch_all(
                    select("WHERE issued_us < $1 ORDER BY issued_us DESC LIMIT $2"),
                    params![before, filter.limit],
                )
                .await?
        }
    };
    rows.iter().map(read).collect()
}

/// Marks a certificate as revoked; `false` if it was already.
///
/// # Errors
/// The database failed.
pub async fn revoke(
    connection: &mut Connection,
    certificate_id: &str,
    reason: &str,
    now: OffsetDateTime,
) -> Result<bool, Error> {
    let changed = connection
        .execute(
            "UPDATE certificate SET revoked_us = $1, revocation_reason = $2 \
             WHERE certificate_id = $3 AND revoked_us IS NULL",
            params![now, reason, certificate_id],
        )
        .await?;
    Ok(changed == 1)
}

/// Most lines of one CRL.
pub const CRL_LINES_MAX: u32 = 1_000_000;

/// What an issuer's CRL has to list now: revoked and not expired.
///
/// # Errors
/// The database failed.
pub async fn revocations(
    connection: &mut Connection,
    issuer_key: &str,
    now: OffsetDateTime,
) -> Result<Vec<Revocation>, Error> {
    let rows = connection
        .fetch_all(
            "SELECT serial_number, revoked_us, revocation_reason FROM certificate \
             WHERE revoked_us IS NOT NULL AND issuer_key = $1 AND not_after_us > $2 \
             ORDER BY revoked_us LIMIT $3",
            params![issuer_key, now, CRL_LINES_MAX],
        )
        .await?;
    rows.iter()
        .map(|row| {
            let serial = row.text("serial_number")?;
            Ok(Revocation {
                serial_number: hex::decode(&serial).map_err(|error| Error::Column {
                    column: "serial_number".to_owned(),
                    detail: error.to_string(),
                })?,
                at: row.time("revoked_us")?,
                reason: row
                    .optional_text("revocation_reason")?
                    .and_then(|name| reason(&name))
                    .unwrap_or(RevocationReason::Unspecified),
            })
        })
        .collect()
}

/// How many certificates of an issuer are revoked, ever. It rises with each revocation, so a CRL
/// that was made at another count is out of date.
///
/// # Errors
/// The database failed.
pub async fn revoked_count(connection: &mut Connection, issuer_key: &str) -> Result<i64, Error> {
    connection
        .fetch_one(
            "SELECT COUNT(*) AS number FROM certificate \
             WHERE revoked_us IS NOT NULL AND issuer_key = $1",
            params![issuer_key],
        )
        .await?
        .integer("number")
}
