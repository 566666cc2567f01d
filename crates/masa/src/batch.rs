//! Vouchers in batches: nonceless, for owners who bootstrap without a way to the MASA
//! (RFC 8572, pre-loaded registrars).
//!
//! The owner is known by the register, so no registrar's request is needed: a device sold to the
//! owner, or one that nobody bought if that is allowed, gets a voucher that pins the owner's
//! certificate and ends at a stated time. A batch that runs again gives the vouchers that it gave
//! before, as long as they are valid.

use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use artifacts::{
    Assertion, DomainId, Envelope, IdevidIssuer, SerialNumber, Voucher, VoucherFields, sign_voucher,
};
use aws_lc_rs::digest;
use brski::DomainKey;
use brski::masa::{AuditEvent, Grant, Holder, KeyClass, KeyPin};
use futures::FutureExt as _;
use pki::{Certificate, Identity};
use serde::Serialize;
use store::{Connection, Store, params};
use time::OffsetDateTime;

use crate::Error;
use crate::facts::{DeviceRow, Stamp};
use crate::issue::{Issued, claim, insert};
use crate::register::{certificates_of, find_owner};
use crate::timeline::{self, Event};

/// Vouchers in one transaction.
const CHUNK: usize = 64;
/// Serial numbers in one batch.
pub const SERIALS_MAX: usize = 1_000_000;
/// Longest file name without its ending.
const FILE_NAME_LENGTH_MAX: usize = 120;

/// What a batch is about.
#[derive(Clone, Debug)]
pub struct BatchOptions {
    /// The owner.
    pub owner: String,
    /// Format of the vouchers.
    pub envelope: Envelope,
    /// When they end.
    pub expires_on: OffsetDateTime,
    /// The certificate to pin; `None` for the owner's only CA certificate.
    pub pin: Option<Certificate>,
    /// A key of the owner's registrar to pin instead; the certificate then only says whose it is.
    pub key: Option<KeyPin>,
    /// Whether devices that nobody bought become this owner's.
    pub claim_unsold: bool,
    /// Sign new vouchers although valid ones are there.
    pub renew: bool,
    /// Only say what would happen.
    pub dry_run: bool,
}

/// One row of the manifest.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ManifestRow {
    /// Serial number.
    pub serial: String,
    /// Issuer key id of the device, in hex.
    pub issuer: String,
    /// `issued`, `again` or `refused`.
    pub outcome: &'static str,
    /// `ok`, or why not.
    pub code: &'static str,
    /// In words.
    pub detail: String,
    /// Name of the file, if there is one.
    pub file: Option<String>,
    /// SHA-256 of the file, in hex.
    pub sha256: Option<String>,
    /// When the voucher ends.
    #[serde(with = "time::serde::rfc3339::option")]
    pub expires_on: Option<OffsetDateTime>,
    /// Number of the voucher in the register.
    pub voucher_id: Option<i64>,
}

/// What a batch came to.
#[derive(Clone, Debug, Serialize)]
pub struct Manifest {
    /// The owner.
    pub owner: String,
    /// Format of the vouchers.
    pub format: &'static str,
    /// SHA-256 of the certificate that they pin, in hex.
    pub pinned_sha256: String,
    /// When the batch ran.
    #[serde(with = "time::serde::rfc3339")]
    pub created: OffsetDateTime,
    /// Vouchers signed now.
    pub issued: usize,
    /// Vouchers that were there.
    pub again: usize,
    /// Serial numbers without a voucher.
    pub refused: usize,
    /// One row for each serial number, in order.
    pub vouchers: Vec<ManifestRow>,
}

/// A serial number, and the issuer key id if it is named.
pub type Serial = (String, Option<Vec<u8>>);

/// Reads serial numbers: one a line, or the column `serial` of a CSV file.
///
/// # Errors
/// When the file cannot be read or has too many lines.
pub fn read_serials(path: &Path) -> Result<Vec<Serial>, Error> {
    use std::io::BufRead as _;
    let is_csv = path
        .extension()
        .is_some_and(|e| e.eq_ignore_ascii_case("csv"));
    let mut serials = Vec::new();
    let mut push = |serial: String, issuer: Option<Vec<u8>>| {
        if serials.len() >= SERIALS_MAX {
            return Err(Error::malformed(
                path,
                format!("more than {SERIALS_MAX} serial numbers"),
            ));
        }
        serials.push((serial, issuer));
        Ok(())
    };
    if is_csv {
        // What an owner sends as its list has columns of its own; two of them matter here.
        let mut reader = csv::ReaderBuilder::new()
            .trim(csv::Trim::All)
            .comment(Some(b'#'))
            .from_path(path)
            .map_err(|error| Error::malformed(path, error))?;
        let headers = reader
            .headers()
            .map_err(|error| Error::malformed(path, error))?;
        let column = |names: &[&str]| {
            headers.iter().position(|name| {
                let name = name.trim_start_matches('\u{feff}').to_ascii_lowercase();
                names.contains(&name.as_str())
            })
        };
        let serial_at = column(&["serial", "serial-number", "serial_number"])
            .ok_or_else(|| Error::malformed(path, "no column is named serial"))?;
        let issuer_at = column(&["issuer"]);
        for record in reader.records() {
            let record = record.map_err(|error| Error::malformed(path, error))?;
            let value = |at: Option<usize>| at.and_then(|at| record.get(at)).unwrap_or_default();
            let issuer = Some(value(issuer_at)).filter(|text| !text.is_empty());
            let issuer = issuer
                .map(|text| hex::decode(text.replace(':', "")))
                .transpose()
                .map_err(|error| Error::malformed(path, error))?;
            push(value(Some(serial_at)).to_owned(), issuer)?;
        }
        return Ok(serials);
    }
    let file = std::fs::File::open(path).map_err(|error| Error::file(path, error))?;
    for line in std::io::BufReader::new(file).lines() {
        let line = line.map_err(|error| Error::file(path, error))?;
        let serial = line.trim();
        if !serial.is_empty() && !serial.starts_with('#') {
            push(serial.to_owned(), None)?;
        }
    }
    Ok(serials)
}

/// A name that is safe on every file system: letters, digits, `.`, `_`, `-`; the rest as `%XX`.
#[must_use]
pub fn safe_name(serial: &str) -> String {
    let mut name = String::new();
    for (index, octet) in serial.bytes().enumerate() {
        let plain =
            octet.is_ascii_alphanumeric() || b"_-".contains(&octet) || (octet == b'.' && index > 0);
        if plain {
            name.push(char::from(octet));
        } else {
            name.push_str(&format!("%{octet:02X}"));
        }
    }
    if name.len() > FILE_NAME_LENGTH_MAX {
        // Cut between octets, and told apart by a hash of the whole.
        let hash = hex::encode(digest::digest(&digest::SHA256, serial.as_bytes()));
        name.truncate(FILE_NAME_LENGTH_MAX - 17);
        name.push('~');
        name.push_str(hash.get(..16).unwrap_or_default());
    }
    name
}

/// Everything that is the same for all vouchers of a batch.
struct Shared {
    options: BatchOptions,
    pinned: Certificate,
    identity: Arc<Identity>,
    name: String,
    now: OffsetDateTime,
}

struct Wanted {
    serial: String,
    issuer: Option<Vec<u8>>,
}

enum Outcome {
    Voucher {
        row: DeviceRow,
        id: i64,
        body: Vec<u8>,
        expires_on: Option<OffsetDateTime>,
        again: bool,
    },
    Refused(&'static str, String),
}

/// Issues the vouchers of a batch and writes them with a manifest (CSV and JSON) into a folder.
/// `progress` hears how many more serial numbers were worked on.
///
/// # Errors
/// When the owner is not there or may not have such vouchers, or a file or the database fails.
/// What is wrong with a single device is in its row of the manifest.
pub async fn run(
    store: &Store,
    identity: Arc<Identity>,
    options: BatchOptions,
    serials: Vec<Serial>,
    directory: &Path,
    now: OffsetDateTime,
    progress: impl Fn(u64),
) -> Result<Manifest, Error> {
    let owner = find_owner(store, &options.owner).await?;
    if owner.blocked {
        return Err(brski::masa::Refusal::OwnerBlocked.into());
    }
    // BRSKI-7.4.1-01: only for customers to whom that service is provided.
    if !owner.nonceless {
        return Err(brski::masa::Refusal::NoncelessNotAuthorised.into());
    }
    if options.expires_on <= now {
        return Err(Error::Usage("expires-on lies in the past".to_owned()));
    }
    let certificates = certificates_of(&mut *store.snapshot().await?, &owner.id).await?;
    let pinned = pin(&options, certificates)?;
    if pinned.not_after() <= now {
        return Err(Error::Usage(
            "the certificate to be pinned has expired".to_owned(),
        ));
    }
    // BRSKI-5.6-26: a voucher does not outlive what it pins.
    let options = BatchOptions {
        expires_on: options.expires_on.min(pinned.not_after()),
        ..options
    };
    let shared = Arc::new(Shared {
        name: format!("{}@{}", owner.id, now.unix_timestamp()),
        options,
        pinned,
        identity,
        now,
    });
    if !shared.options.dry_run {
        std::fs::create_dir_all(directory).map_err(|error| Error::file(directory, error))?;
    }
    let mut names = Names::default();
    let mut rows = Vec::with_capacity(serials.len());
    for chunk in serials.chunks(CHUNK) {
        let wanted: Arc<Vec<Wanted>> = Arc::new(
            chunk
                .iter()
                .map(|(serial, issuer)| Wanted {
                    serial: serial.clone(),
                    issuer: issuer.clone(),
                })
                .collect(),
        );
        let outcomes = issue(store, Arc::clone(&shared), Arc::clone(&wanted)).await?;
        for (wanted, outcome) in wanted.iter().zip(outcomes) {
            rows.push(write_file(&shared, wanted, outcome, directory, &mut names)?);
        }
        progress(u64::try_from(chunk.len()).unwrap_or(0));
    }
    let count = |outcome: &str| rows.iter().filter(|row| row.outcome == outcome).count();
    let manifest = Manifest {
        owner: owner.id,
        format: shared.options.envelope.name(),
        pinned_sha256: hex::encode(shared.pinned.sha256()),
        created: now,
        issued: count("issued"),
        again: count("again"),
        refused: count("refused"),
        vouchers: rows,
    };
    if !shared.options.dry_run {
        write_manifest(&manifest, directory)?;
    }
    Ok(manifest)
}

fn pin(options: &BatchOptions, certificates: Vec<Certificate>) -> Result<Certificate, Error> {
    if let Some(wanted) = &options.pin {
        return certificates
            .into_iter()
            .find(|one| one == wanted)
            .ok_or_else(|| {
                Error::Usage(format!(
                    "{} is no certificate of this owner",
                    wanted.subject()
                ))
            });
    }
    let mut authorities: Vec<_> = certificates
        .iter()
        .filter(|one| one.is_ca())
        .cloned()
        .collect();
    if authorities.is_empty() {
        authorities = certificates;
    }
    let count = authorities.len();
    match (authorities.pop(), count) {
        (Some(one), 1) => Ok(one),
        (Some(_), _) => {
            let text = "this owner has several certificates: say which one to pin";
            Err(Error::Usage(text.to_owned()))
        }
        (None, _) => Err(Error::Usage(
            "this owner has no certificate to pin".to_owned(),
        )),
    }
}

async fn issue(
    store: &Store,
    shared: Arc<Shared>,
    wanted: Arc<Vec<Wanted>>,
) -> Result<Vec<Outcome>, Error> {
    if shared.options.dry_run {
        let mut snapshot = store.snapshot().await?;
        let mut outcomes = Vec::with_capacity(wanted.len());
        for one in wanted.iter() {
            outcomes.push(match decide(&mut snapshot, &shared, one).await? {
                Decision::Sign(row, _) => Outcome::Voucher {
                    row,
                    id: 0,
                    body: Vec::new(),
                    expires_on: Some(shared.options.expires_on),
                    again: false,
                },
                Decision::Done(outcome) => outcome,
            });
        }
        return Ok(outcomes);
    }
    store
        .locking_transaction("voucher-batch", move |connection| {
            let (shared, wanted) = (Arc::clone(&shared), Arc::clone(&wanted));
            async move {
                let mut outcomes = Vec::with_capacity(wanted.len());
                for one in wanted.iter() {
                    crate::facts::lock_device(connection, &one.serial).await?;
                    let outcome = match decide(connection, &shared, one).await? {
                        Decision::Done(outcome) => outcome,
                        Decision::Sign(row, grant) => {
                            sign(connection, &shared, row, &grant).await?
                        }
                    };
                    outcomes.push(outcome);
                }
                Ok(outcomes)
            }
            .boxed()
        })
        .await
}

enum Decision {
    Sign(DeviceRow, Box<Grant>),
    Done(Outcome),
}

/// The same checks as for a registrar's request, as far as they concern the register.
async fn decide(
    connection: &mut Connection,
    shared: &Shared,
    wanted: &Wanted,
) -> Result<Decision, Error> {
    let refuse = |code, text: &str| Ok(Decision::Done(Outcome::Refused(code, text.to_owned())));
    let Some(serial) = SerialNumber::new(wanted.serial.clone()) else {
        return refuse("masa.import-value", "not a serial number");
    };
    let rows = connection
        .fetch_all(
            "SELECT serial, issuer, sold_to, holder_domain, holder_owner, blocked, formats, \
             version, (SELECT value FROM register_epoch) AS epoch \
             FROM device WHERE serial = $1 ORDER BY issuer LIMIT 64",
            params![serial.as_str()],
        )
        .await?;
    let mut fitting = Vec::new();
    for row in &rows {
        let issuer = row.bytes("issuer")?;
        if wanted.issuer.as_ref().is_none_or(|named| *named == issuer) {
            fitting.push((row, issuer));
        }
    }
    let (row, issuer) = match fitting.as_slice() {
        [] => return refuse("masa.serial-unknown", "the device is not in the register"),
        [(row, issuer)] => (*row, issuer.clone()),
        _ => {
            return refuse(
                "masa.serial-ambiguous",
                "several issuers use it: name the issuer",
            );
        }
    };
    let place = DeviceRow {
        serial: wanted.serial.clone(),
        issuer: issuer.clone(),
        stamp: Stamp {
            version: row.integer("version")?,
            epoch: row.integer("epoch")?,
        },
    };
    if let Some(reason) = row.optional_text("blocked")? {
        return refuse(
            "masa.device-blocked",
            &format!("the device is blocked: {reason}"),
        );
    }
    let owner = &shared.options.owner;
    let sold_to = row.optional_text("sold_to")?;
    let holder_owner = row.optional_text("holder_owner")?;
    let held = row.optional_bytes("holder_domain")?.is_some();
    if sold_to.as_ref().is_some_and(|buyer| buyer != owner) {
        return refuse("masa.not-the-owner", "the device was sold to another owner");
    }
    if sold_to.is_none() {
        if held && holder_owner.as_ref() != Some(owner) {
            return refuse("masa.already-owned", "another domain holds the device");
        }
        if !held && !shared.options.claim_unsold {
            return refuse(
                "masa.not-sold",
                "nobody bought the device (see --claim-unsold)",
            );
        }
    }
    let formats = row.text("formats")?;
    let name = shared.options.envelope.name();
    if !formats.is_empty() && !formats.split_whitespace().any(|format| format == name) {
        return refuse(
            "masa.format-not-for-device",
            "the device cannot process this format",
        );
    }
    if !shared.options.renew
        && let Some(outcome) = stored(connection, shared, &place).await?
    {
        return Ok(Decision::Done(outcome));
    }
    let assertion = if sold_to.is_some() {
        Assertion::Verified
    } else {
        Assertion::Logged
    };
    let mut fields = VoucherFields::new(serial);
    fields.created_on = Some(shared.now);
    fields.assertion = Some(assertion);
    match &shared.options.key {
        Some(KeyPin::Sha256(hash)) => fields.pinned_domain_pubk_sha256 = Some(*hash),
        Some(KeyPin::PublicKey(key)) => fields.pinned_domain_pubk = Some(key.clone()),
        None => {
            fields.pinned_domain_cert = Some(shared.pinned.clone());
            fields.domain_cert_revocation_checks = Some(false);
        }
    }
    fields.expires_on = Some(shared.options.expires_on);
    if rows.len() > 1 {
        fields.idevid_issuer = key_identifier(&issuer);
    }
    let domain = DomainKey::of(&shared.pinned);
    Ok(Decision::Sign(
        place,
        Box::new(Grant {
            voucher: Voucher::new(fields)?,
            envelope: shared.options.envelope,
            key: KeyClass::Nonceless,
            audit: AuditEvent {
                date: shared.now,
                // BRSKI-5.8.2-01: of a bare key it is the SHA-256 SPKI fingerprint.
                domain_id: match &shared.options.key {
                    Some(key) => key.sha256().to_vec(),
                    None => DomainId::of(&shared.pinned).as_bytes().to_vec(),
                },
                domain,
                nonce: None,
                assertion,
            },
            holder: (!held).then(|| Holder {
                domain,
                owner: Some(owner.clone()),
            }),
            idevid_key: None,
            renewal: held,
            pinned: shared.pinned.clone(),
        }),
    ))
}

/// An AuthorityKeyIdentifier with this keyIdentifier, as idevid-issuer has it.
fn key_identifier(key_id: &[u8]) -> Option<IdevidIssuer> {
    let length = u8::try_from(key_id.len())
        .ok()
        .filter(|length| *length < 120)?;
    let mut octets = vec![0x04, length + 4, 0x30, length + 2, 0x80, length];
    octets.extend_from_slice(key_id);
    IdevidIssuer::from_bytes(&octets)
}

/// What makes two batch vouchers the same: device, owner, pin, format and key.
fn fingerprint(shared: &Shared, place: &DeviceRow) -> [u8; 32] {
    let mut context = digest::Context::new(&digest::SHA256);
    let pinned = shared.pinned.sha256();
    let key = match &shared.options.key {
        Some(KeyPin::PublicKey(key)) => key.spki_der().to_vec(),
        Some(KeyPin::Sha256(hash)) => hash.to_vec(),
        None => Vec::new(),
    };
    for part in [
        b"usher batch voucher 1".as_slice(),
        &place.issuer,
        place.serial.as_bytes(),
        shared.options.owner.as_bytes(),
        &pinned,
        shared.options.envelope.name().as_bytes(),
        key.as_slice(),
    ] {
        // Lengths keep neighbouring fields apart.
        context.update(&u64::try_from(part.len()).unwrap_or(u64::MAX).to_be_bytes());
        context.update(part);
    }
    let mut hash = [0; 32];
    hash.copy_from_slice(context.finish().as_ref());
    hash
}

async fn stored(
    connection: &mut Connection,
    shared: &Shared,
    place: &DeviceRow,
) -> Result<Option<Outcome>, Error> {
    let row = connection
        .fetch_optional(
            "SELECT id, body, expires_us FROM voucher WHERE fingerprint = $1 AND expires_us > $2 \
             ORDER BY generation DESC LIMIT 1",
            params![fingerprint(shared, place), shared.now],
        )
        .await?;
    let Some(row) = row else { return Ok(None) };
    Ok(Some(Outcome::Voucher {
        row: place.clone(),
        id: row.integer("id")?,
        body: row.bytes("body")?,
        expires_on: row.optional_time("expires_us")?,
        again: true,
    }))
}

async fn sign(
    connection: &mut Connection,
    shared: &Shared,
    row: DeviceRow,
    grant: &Grant,
) -> Result<Outcome, Error> {
    let body = sign_voucher(&grant.voucher, grant.envelope, &shared.identity, shared.now)?;
    if !claim(connection, &row, grant, shared.now).await? {
        // The device is locked by now; only a change of an owner can have come in between.
        return Ok(Outcome::Refused(
            "masa.unsettled",
            "the register changed meanwhile: run the batch again".to_owned(),
        ));
    }
    let issued = Issued {
        fingerprint: fingerprint(shared, &row),
        row: &row,
        owner: Some(&shared.options.owner),
        grant,
        body: &body,
        batch: Some(&shared.name),
    };
    let id = insert(connection, &issued, shared.now).await?;
    let event = Event {
        at: shared.now,
        serial: Some(row.serial.clone()),
        issuer: Some(hex::encode(&row.issuer)),
        operation: "batch".to_owned(),
        outcome: "granted".to_owned(),
        code: "ok".to_owned(),
        http: 0,
        peer: "local".to_owned(),
        identity: format!("owner: {}", shared.options.owner),
        summary: serde_json::json!({ "batch": shared.name, "voucher_id": id }),
        next: String::new(),
    };
    timeline::write(connection, &event).await?;
    let expires_on = grant.voucher.expires_on;
    Ok(Outcome::Voucher {
        row,
        id,
        body,
        expires_on,
        again: false,
    })
}

/// Names that were given, without regard to case: some file systems have none.
#[derive(Default)]
struct Names(HashSet<String>);

impl Names {
    fn unique(&mut self, row: &DeviceRow, ending: &str) -> String {
        let name = safe_name(&row.serial);
        let plain = format!("{name}.{ending}");
        if self.0.insert(plain.to_lowercase()) {
            return plain;
        }
        let mut input = row.serial.clone().into_bytes();
        input.push(0);
        input.extend_from_slice(&row.issuer);
        let hash = hex::encode(digest::digest(&digest::SHA256, &input));
        let longer = format!("{name}~{}.{ending}", hash.get(..12).unwrap_or_default());
        self.0.insert(longer.to_lowercase());
        longer
    }
}

fn write_file(
    shared: &Shared,
    wanted: &Wanted,
    outcome: Outcome,
    directory: &Path,
    names: &mut Names,
) -> Result<ManifestRow, Error> {
    let mut manifest = ManifestRow {
        serial: wanted.serial.clone(),
        issuer: wanted.issuer.as_ref().map(hex::encode).unwrap_or_default(),
        outcome: "refused",
        code: "ok",
        detail: String::new(),
        file: None,
        sha256: None,
        expires_on: None,
        voucher_id: None,
    };
    match outcome {
        Outcome::Refused(code, detail) => {
            manifest.code = code;
            manifest.detail = detail;
        }
        Outcome::Voucher {
            row,
            id,
            body,
            expires_on,
            again,
        } => {
            manifest.issuer = hex::encode(&row.issuer);
            manifest.outcome = if again { "again" } else { "issued" };
            manifest.expires_on = expires_on;
            if !shared.options.dry_run {
                let name = names.unique(&row, shared.options.envelope.file_extension());
                let path: PathBuf = directory.join(&name);
                std::fs::write(&path, &body).map_err(|error| Error::file(&path, error))?;
                manifest.file = Some(name);
                manifest.sha256 = Some(hex::encode(digest::digest(&digest::SHA256, &body)));
                manifest.voucher_id = Some(id);
            }
        }
    }
    Ok(manifest)
}

fn write_manifest(manifest: &Manifest, directory: &Path) -> Result<(), Error> {
    let path = directory.join("manifest.csv");
    let mut writer = csv::Writer::from_path(&path).map_err(|e| Error::malformed(&path, e))?;
    for row in &manifest.vouchers {
        writer
            .serialize(row)
            .map_err(|error| Error::malformed(&path, error))?;
    }
    writer.flush().map_err(|error| Error::file(&path, error))?;
    let path = directory.join("manifest.json");
    let text = serde_json::to_vec_pretty(manifest).map_err(|e| Error::malformed(&path, e))?;
    std::fs::write(&path, text).map_err(|error| Error::file(&path, error))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn file_names_are_safe() {
        for (serial, name) in [
            ("SN-1", "SN-1"),
            (
                "../../etc/passwd",
                "%2E./../etc/passwd".replace('/', "%2F").as_str(),
            ),
            (".hidden", "%2Ehidden"),
            ("a/b\\c", "a%2Fb%5Cc"),
            ("ü", "%C3%BC"),
            ("PID:X SN:1", "PID%3AX%20SN%3A1"),
        ] {
            assert_eq!(safe_name(serial), name, "{serial}");
        }
        let long = "x".repeat(300);
        assert!(safe_name(&long).len() <= FILE_NAME_LENGTH_MAX);
        assert_ne!(safe_name(&long), safe_name(&format!("{long}y")));
    }

    #[test]
    fn names_differ_without_regard_to_case() {
        let row = |serial: &str| DeviceRow {
            serial: serial.to_owned(),
            issuer: vec![],
            stamp: Stamp::default(),
        };
        let mut names = Names::default();
        let one = names.unique(&row("ab"), "vcj");
        let two = names.unique(&row("AB"), "vcj");
        assert_eq!(one, "ab.vcj");
        assert_ne!(one.to_lowercase(), two.to_lowercase());
    }

    #[test]
    fn issuers_have_the_form_of_the_standard() {
        let issuer = key_identifier(&[7; 20]).unwrap();
        assert_eq!(issuer.key_id(), Some([7_u8; 20].as_slice()));
    }
}
