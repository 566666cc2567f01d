//! The bootstrap server's tables.

use store::{Migration, Schema};

/// The schema of the bootstrap server's database.
pub const SCHEMA: Schema = Schema {
    role: "bootstrap",
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
        name: "content",
        sql: CONTENT,
    },
    Migration {
        version: 3,
        name: "timeline",
        sql: TIMELINE,
    },
];

/// Devices, their vouchers, and the epoch: a number that every change to devices, vouchers or
/// content adds one to (`register::touch`), so that whatever is kept in memory knows when it is
/// old. What devices themselves cause (`state`, the times) does not count as such a change.
///
/// Identity of a device is (vendor, serial). `alias_of` names the device whose data a second
/// serial number (that of the chassis beside that of the module) gets.
const REGISTER: &str = "\
CREATE TABLE epoch (id BIGINT PRIMARY KEY, value BIGINT NOT NULL, revision BIGINT NOT NULL);
INSERT INTO epoch (id, value, revision) VALUES (1, 0, 0);
CREATE TABLE owner (
  id TEXT PRIMARY KEY,
  name TEXT NOT NULL,
  note TEXT NOT NULL DEFAULT '',
  created_us BIGINT NOT NULL
);
CREATE TABLE device (
  id {identity},
  vendor TEXT NOT NULL,
  serial TEXT NOT NULL,
  alias_of BIGINT REFERENCES device (id),
  group_name TEXT NOT NULL DEFAULT '',
  site TEXT NOT NULL DEFAULT '',
  device_type TEXT NOT NULL DEFAULT '',
  hw_model TEXT,
  os_name TEXT,
  os_version TEXT,
  variables TEXT NOT NULL DEFAULT '{}',
  state TEXT NOT NULL,
  owner TEXT,
  basic_hash TEXT,
  blocked TEXT,
  note TEXT NOT NULL DEFAULT '',
  version BIGINT NOT NULL DEFAULT 0,
  created_us BIGINT NOT NULL,
  changed_us BIGINT NOT NULL,
  first_seen_us BIGINT,
  last_seen_us BIGINT,
  last_progress_us BIGINT,
  last_progress TEXT,
  waiting_since_us BIGINT,
  released_us BIGINT,
  replaced_by BIGINT,
  UNIQUE (vendor, serial)
);
CREATE INDEX device_serial ON device (serial);
CREATE INDEX device_group ON device (group_name, id);
CREATE INDEX device_state ON device (state, id);
CREATE INDEX device_waiting ON device (waiting_since_us) WHERE waiting_since_us IS NOT NULL;
CREATE TABLE voucher (
  id {identity},
  device BIGINT NOT NULL REFERENCES device (id),
  der {blob} NOT NULL,
  sha256 {blob} NOT NULL,
  created_us BIGINT,
  expires_us BIGINT,
  nonce {blob},
  pin_sha256 {blob} NOT NULL,
  assertion TEXT NOT NULL,
  source TEXT NOT NULL,
  stored_us BIGINT NOT NULL,
  UNIQUE (device, sha256)
);
CREATE INDEX voucher_expires ON voucher (expires_us);
";

/// What devices get, by revision: each `apply` is one new revision, and nothing in an old one ever
/// changes. `epoch.revision` is the one that is served. A revision is a document, which names the
/// files that it needs by their digests; a file that several revisions need is there once.
///
/// `artefact` keeps what is signed, by the digest of everything that went into it: what is found
/// there is never old. `device` is set where it was made for one device alone.
const CONTENT: &str = "\
CREATE TABLE revision (
  id BIGINT PRIMARY KEY,
  at_us BIGINT NOT NULL,
  author TEXT NOT NULL,
  note TEXT NOT NULL,
  digest {blob} NOT NULL,
  document TEXT NOT NULL,
  prebuilt_us BIGINT
);
CREATE TABLE content_file (
  sha256 {blob} PRIMARY KEY,
  body {blob} NOT NULL
);
CREATE TABLE rollout (
  id {identity},
  name TEXT NOT NULL,
  bundle TEXT NOT NULL,
  from_version TEXT NOT NULL,
  to_version TEXT NOT NULL,
  state TEXT NOT NULL,
  stage BIGINT NOT NULL,
  failures_percent_max BIGINT NOT NULL,
  reports_min BIGINT NOT NULL,
  served BIGINT NOT NULL,
  succeeded BIGINT NOT NULL,
  failed BIGINT NOT NULL,
  reason TEXT NOT NULL,
  created_us BIGINT NOT NULL,
  changed_us BIGINT NOT NULL,
  UNIQUE (bundle, from_version, to_version)
);
CREATE TABLE rollout_device (
  rollout BIGINT NOT NULL REFERENCES rollout (id),
  device BIGINT NOT NULL REFERENCES device (id),
  outcome TEXT NOT NULL,
  at_us BIGINT NOT NULL,
  PRIMARY KEY (rollout, device)
);
CREATE INDEX rollout_device_device ON rollout_device (device);
CREATE TABLE artefact (
  input_digest {blob} PRIMARY KEY,
  device BIGINT,
  revision BIGINT NOT NULL,
  der {blob} NOT NULL,
  created_us BIGINT NOT NULL
);
CREATE INDEX artefact_device ON artefact (device);
CREATE INDEX artefact_revision ON artefact (revision);
";

/// What devices did. Lines without a device are those of strangers and of peers that were refused
/// before anybody knew who they are.
const TIMELINE: &str = "\
CREATE TABLE event (
  id {identity},
  at_us BIGINT NOT NULL,
  device BIGINT,
  vendor TEXT,
  serial TEXT,
  operation TEXT NOT NULL,
  outcome TEXT NOT NULL,
  code TEXT NOT NULL,
  http BIGINT NOT NULL,
  peer TEXT NOT NULL,
  identity TEXT NOT NULL,
  summary TEXT NOT NULL,
  next TEXT NOT NULL
);
CREATE INDEX event_device ON event (device, id) WHERE device IS NOT NULL;
CREATE INDEX event_serial ON event (serial, id) WHERE device IS NULL AND serial IS NOT NULL;
CREATE TABLE progress (
  id {identity},
  device BIGINT NOT NULL REFERENCES device (id),
  at_us BIGINT NOT NULL,
  type TEXT NOT NULL,
  message TEXT,
  peer TEXT NOT NULL
);
CREATE INDEX progress_device ON progress (device, id);
CREATE TABLE device_key (
  device BIGINT NOT NULL REFERENCES device (id),
  kind TEXT NOT NULL,
  algorithm TEXT NOT NULL,
  sha256 {blob} NOT NULL,
  value {blob} NOT NULL,
  at_us BIGINT NOT NULL,
  PRIMARY KEY (device, kind, sha256)
);
CREATE TABLE csr_demand (
  device BIGINT PRIMARY KEY REFERENCES device (id),
  at_us BIGINT NOT NULL,
  demand TEXT NOT NULL
);
CREATE TABLE certificate (
  id {identity},
  device BIGINT NOT NULL REFERENCES device (id),
  csr_sha256 {blob} NOT NULL,
  serial TEXT NOT NULL,
  chain {blob} NOT NULL,
  not_before_us BIGINT NOT NULL,
  not_after_us BIGINT NOT NULL,
  at_us BIGINT NOT NULL,
  UNIQUE (device, csr_sha256)
);
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
