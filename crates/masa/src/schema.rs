//! The MASA's tables.

use store::{Migration, Schema};

/// The schema of the MASA's database.
pub const SCHEMA: Schema = Schema {
    role: "masa",
    migrations: MIGRATIONS,
};

/// Applied in order, never edited once released.
const MIGRATIONS: &[Migration] = &[
    Migration {
        version: 1,
        name: "register",
        sql: REGISTER,
    },
    Migration {
        version: 2,
        name: "register epoch",
        sql: EPOCH,
    },
];

/// Counts changes of owners and additions of devices. Together with a device's version it tells a
/// transaction whether what was read before it still holds.
const EPOCH: &str = "\
CREATE TABLE register_epoch (id BIGINT PRIMARY KEY, value BIGINT NOT NULL);
INSERT INTO register_epoch (id, value) VALUES (1, 0);
";

/// Identity of a device is (issuer key id, serial). An empty issuer stands for "not known when it
/// was imported" and matches every issuer that has no row of its own.
const REGISTER: &str = "\
CREATE TABLE owner (
  id TEXT PRIMARY KEY,
  name TEXT NOT NULL,
  nonceless BIGINT NOT NULL,
  blocked BIGINT NOT NULL,
  pin TEXT,
  created_us BIGINT NOT NULL
);
CREATE TABLE owner_certificate (
  spki_sha256 {blob} PRIMARY KEY,
  owner TEXT NOT NULL REFERENCES owner (id),
  subject_key_id {blob} NOT NULL,
  certificate {blob} NOT NULL
);
CREATE INDEX owner_certificate_owner ON owner_certificate (owner);
CREATE INDEX owner_certificate_key_id ON owner_certificate (subject_key_id);
CREATE TABLE device (
  serial TEXT NOT NULL,
  issuer {blob} NOT NULL,
  product TEXT NOT NULL,
  sold_to TEXT REFERENCES owner (id),
  shipped TEXT,
  holder_domain {blob},
  holder_owner TEXT,
  holder_since_us BIGINT,
  blocked TEXT,
  idevid_key {blob},
  has_clock BIGINT NOT NULL,
  formats TEXT NOT NULL,
  assertion_min TEXT,
  created_us BIGINT NOT NULL,
  changed_us BIGINT NOT NULL,
  version BIGINT NOT NULL,
  PRIMARY KEY (serial, issuer)
);
CREATE INDEX device_sold_to ON device (sold_to, serial);
CREATE INDEX device_product ON device (product, serial);
CREATE TABLE voucher (
  id {identity},
  fingerprint {blob} NOT NULL,
  generation BIGINT NOT NULL,
  serial TEXT NOT NULL,
  issuer {blob} NOT NULL,
  domain {blob} NOT NULL,
  domain_id {blob} NOT NULL,
  owner TEXT,
  nonce TEXT,
  assertion TEXT NOT NULL,
  envelope TEXT NOT NULL,
  key_class TEXT NOT NULL,
  issued_us BIGINT NOT NULL,
  expires_us BIGINT,
  renewal BIGINT NOT NULL,
  batch TEXT,
  body {blob} NOT NULL,
  UNIQUE (fingerprint, generation)
);
CREATE INDEX voucher_device ON voucher (serial, issuer, id);
CREATE INDEX voucher_owner ON voucher (owner, id);
CREATE TABLE alarm (
  serial TEXT NOT NULL,
  issuer {blob} NOT NULL,
  kind TEXT NOT NULL,
  asked TEXT NOT NULL,
  detail TEXT NOT NULL,
  first_us BIGINT NOT NULL,
  last_us BIGINT NOT NULL,
  count BIGINT NOT NULL,
  PRIMARY KEY (serial, issuer, kind, asked)
);
CREATE TABLE event (
  id {identity},
  at_us BIGINT NOT NULL,
  serial TEXT,
  issuer {blob},
  operation TEXT NOT NULL,
  outcome TEXT NOT NULL,
  code TEXT NOT NULL,
  http BIGINT NOT NULL,
  peer TEXT NOT NULL,
  identity TEXT NOT NULL,
  summary TEXT NOT NULL,
  next TEXT NOT NULL
);
CREATE INDEX event_serial ON event (serial, id);
";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_count_from_one() {
        for (index, migration) in MIGRATIONS.iter().enumerate() {
            assert_eq!(migration.version, i64::try_from(index).unwrap() + 1);
        }
    }
}
