//! The tables of the registrar.
//!
//! `device` holds what is known now, `timeline` what happened, `exchange` each voucher request
//! with its outcome, `admission` whom the operator wants, `offline_voucher` what was loaded
//! beforehand. Times are microseconds since the epoch; booleans are 0 and 1.

use store::{Migration, Schema};

/// The schema of the registrar's database.
pub const SCHEMA: Schema = Schema {
    role: "registrar",
    migrations: MIGRATIONS,
};

const MIGRATIONS: &[Migration] = &[
    Migration {
        version: 1,
        name: "devices and exchanges",
        sql: DEVICES,
    },
    Migration {
        version: 2,
        name: "certificates and CRLs",
        sql: crate::ca::records::SCHEMA,
    },
];

const DEVICES: &str = "
CREATE TABLE device (
    device_id TEXT PRIMARY KEY,
    trusted BIGINT NOT NULL,
    vendor TEXT NOT NULL,
    serial TEXT NOT NULL,
    issuer_key TEXT NOT NULL,
    product TEXT,
    subject TEXT NOT NULL,
    idevid {blob},
    bound_key TEXT,
    presented_key TEXT,
    state TEXT NOT NULL,
    code TEXT,
    next_action TEXT,
    decision TEXT,
    decided_by TEXT,
    decided_us BIGINT,
    decision_note TEXT,
    ignore_history BIGINT NOT NULL,
    history TEXT NOT NULL,
    first_seen_us BIGINT NOT NULL,
    last_seen_us BIGINT NOT NULL
);
CREATE INDEX device_serial ON device (serial);
CREATE INDEX device_state ON device (state, last_seen_us);
CREATE INDEX device_seen ON device (trusted, last_seen_us);
CREATE TABLE timeline (
    entry_id {identity},
    device_id TEXT NOT NULL,
    at_us BIGINT NOT NULL,
    correlation TEXT NOT NULL,
    step TEXT NOT NULL,
    outcome TEXT NOT NULL,
    code TEXT,
    summary TEXT NOT NULL,
    next_action TEXT,
    detail TEXT NOT NULL
);
CREATE INDEX timeline_device ON timeline (device_id, entry_id);
CREATE INDEX timeline_at ON timeline (at_us);
CREATE INDEX timeline_correlation ON timeline (correlation);
CREATE TABLE exchange (
    exchange_id TEXT PRIMARY KEY,
    device_id TEXT NOT NULL,
    nonce TEXT,
    body TEXT NOT NULL,
    offline BIGINT NOT NULL,
    created_us BIGINT NOT NULL,
    updated_us BIGINT NOT NULL
);
CREATE INDEX exchange_device ON exchange (device_id, created_us);
CREATE INDEX exchange_nonce ON exchange (device_id, nonce);
CREATE TABLE admission (
    vendor TEXT NOT NULL,
    serial TEXT NOT NULL,
    product TEXT,
    action TEXT NOT NULL,
    note TEXT,
    changed_us BIGINT NOT NULL,
    PRIMARY KEY (vendor, serial)
);
CREATE INDEX admission_serial ON admission (serial);
CREATE TABLE offline_voucher (
    voucher_id TEXT PRIMARY KEY,
    vendor TEXT NOT NULL,
    serial TEXT NOT NULL,
    voucher {blob} NOT NULL,
    voucher_type TEXT NOT NULL,
    assertion TEXT NOT NULL,
    expires_us BIGINT,
    loaded_us BIGINT NOT NULL
);
CREATE INDEX offline_voucher_serial ON offline_voucher (serial);
";
