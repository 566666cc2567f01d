//! Databases, a schema, and a key for the tests.

use std::sync::{Arc, OnceLock};

use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair as _};
use pki::{PublicKey, SignatureAlgorithm, Signer};
use store::{Migration, Schema, Store};
use tempfile::TempDir;
use testkit::TempPostgres;
use time::OffsetDateTime;

/// Runs each body on both engines.
#[macro_export]
macro_rules! on_both {
    ($($name:ident),+ $(,)?) => {
        mod sqlite {
            $(
                #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
                async fn $name() {
                    super::$name($crate::support::Database::sqlite()).await;
                }
            )+
        }
        mod postgres {
            $(
                #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
                async fn $name() {
                    super::$name($crate::support::Database::postgres()).await;
                }
            )+
        }
    };
}

/// An empty database.
pub(crate) struct Database {
    pub(crate) url: String,
    /// For SQLite the file's folder, for PostgreSQL a folder for other files.
    pub(crate) directory: TempDir,
}

fn server() -> &'static TempPostgres {
    static SERVER: OnceLock<TempPostgres> = OnceLock::new();
    SERVER.get_or_init(|| TempPostgres::start().expect("Debian's postgresql starts"))
}

impl Database {
    pub(crate) fn sqlite() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let url = format!("sqlite:{}", directory.path().join("test.db").display());
        Self { url, directory }
    }

    pub(crate) fn postgres() -> Self {
        let url = server().fresh_database().unwrap();
        Self {
            url,
            directory: tempfile::tempdir().unwrap(),
        }
    }

    pub(crate) async fn open(&self) -> Store {
        Store::migrate(&self.url, &SCHEMA, now()).await.unwrap();
        Store::open(&self.url, &SCHEMA).await.unwrap()
    }
}

pub(crate) const SCHEMA: Schema = Schema {
    role: "test",
    migrations: MIGRATIONS,
};

pub(crate) const MIGRATIONS: &[Migration] = &[Migration {
    version: 1,
    name: "things",
    sql: "CREATE TABLE thing (name TEXT PRIMARY KEY, amount BIGINT NOT NULL, note TEXT, raw {blob});\
          CREATE TABLE part (id {identity}, thing TEXT NOT NULL REFERENCES thing (name));",
}];

pub(crate) fn now() -> OffsetDateTime {
    OffsetDateTime::from_unix_timestamp(1_800_000_000).unwrap() + time::Duration::microseconds(7)
}

/// An Ed25519 key from a seed.
pub(crate) struct SeedKey {
    pair: Ed25519KeyPair,
    public: PublicKey,
}

impl SeedKey {
    pub(crate) fn signer(seed: u8) -> Arc<dyn Signer> {
        let pair = Ed25519KeyPair::from_seed_unchecked(&[seed; 32]).unwrap();
        let mut spki = hex::decode("302a300506032b6570032100").unwrap();
        spki.extend_from_slice(pair.public_key().as_ref());
        let public = PublicKey::from_spki_der(&spki).unwrap();
        Arc::new(Self { pair, public })
    }
}

impl Signer for SeedKey {
    fn public_key(&self) -> &PublicKey {
        &self.public
    }

    fn algorithm(&self) -> SignatureAlgorithm {
        SignatureAlgorithm::Ed25519
    }

    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, pki::Error> {
        Ok(self.pair.sign(message).as_ref().to_vec())
    }
}
