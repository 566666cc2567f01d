//! Migrations, and what a program refuses to open.

use store::{Migration, Schema, Store, params};

use crate::on_both;
use crate::support::{Database, MIGRATIONS, SCHEMA, now};

const NEWER: &[Migration] = &[
    MIGRATIONS[0],
    Migration {
        version: 2,
        name: "colour",
        sql: "ALTER TABLE thing ADD COLUMN colour TEXT NOT NULL DEFAULT 'grey';",
    },
];
const NEWER_SCHEMA: Schema = Schema {
    role: "test",
    migrations: NEWER,
};

async fn refusal(url: &str, schema: &Schema) -> &'static str {
    match Store::open(url, schema).await {
        Ok(_) => "opened",
        Err(error) => error.code(),
    }
}

async fn migrate_is_explicit_and_repeatable(database: Database) {
    assert_eq!(
        refusal(&database.url, &SCHEMA).await,
        "store.schema-missing"
    );
    let applied = Store::migrate(&database.url, &SCHEMA, now()).await.unwrap();
    let names: Vec<_> = applied
        .iter()
        .map(|a| (a.component.as_str(), a.version))
        .collect();
    assert_eq!(names, [("store", 1), ("store", 2), ("test", 1)]);
    assert_eq!(
        Store::migrate(&database.url, &SCHEMA, now()).await.unwrap(),
        []
    );
    assert_eq!(refusal(&database.url, &SCHEMA).await, "opened");
}

async fn upgrade_keeps_the_rows(database: Database) {
    let store = database.open().await;
    store
        .transaction("insert", |c| {
            Box::pin(async move {
                c.execute(
                    "INSERT INTO thing (name, amount) VALUES ($1, $2)",
                    params!["a", 1_i64],
                )
                .await
            })
        })
        .await
        .unwrap();
    store.close().await;
    // The newer program refuses the old database until it is migrated, then the older refuses it.
    assert_eq!(
        refusal(&database.url, &NEWER_SCHEMA).await,
        "store.schema-outdated"
    );
    let applied = Store::migrate(&database.url, &NEWER_SCHEMA, now())
        .await
        .unwrap();
    assert_eq!(applied.len(), 1);
    assert_eq!(refusal(&database.url, &SCHEMA).await, "store.schema-newer");
    let error = Store::migrate(&database.url, &SCHEMA, now())
        .await
        .unwrap_err();
    assert_eq!(error.code(), "store.schema-newer");
    let store = Store::open(&database.url, &NEWER_SCHEMA).await.unwrap();
    let row = store
        .fetch_optional("SELECT amount, colour FROM thing", params![])
        .await
        .unwrap();
    let row = row.unwrap();
    assert_eq!(row.integer("amount").unwrap(), 1);
    assert_eq!(row.text("colour").unwrap(), "grey");
    store.close().await;
}

async fn another_role_is_refused(database: Database) {
    database.open().await.close().await;
    let other = Schema {
        role: "other",
        migrations: MIGRATIONS,
    };
    assert_eq!(refusal(&database.url, &other).await, "store.wrong-role");
    let error = Store::migrate(&database.url, &other, now())
        .await
        .unwrap_err();
    assert_eq!(error.code(), "store.wrong-role");
}

async fn edited_migration_is_refused(database: Database) {
    database.open().await.close().await;
    const EDITED: &[Migration] = &[Migration {
        version: 1,
        name: "things",
        sql: "SELECT 1",
    }];
    let edited = Schema {
        role: "test",
        migrations: EDITED,
    };
    assert_eq!(
        refusal(&database.url, &edited).await,
        "store.schema-altered"
    );
}

async fn failing_migration_leaves_nothing(database: Database) {
    const BROKEN: &[Migration] = &[
        MIGRATIONS[0],
        Migration {
            version: 2,
            name: "broken",
            sql: "CREATE TABLE half (a BIGINT); NOT SQL;",
        },
    ];
    let broken = Schema {
        role: "test",
        migrations: BROKEN,
    };
    assert!(Store::migrate(&database.url, &broken, now()).await.is_err());
    assert_eq!(
        refusal(&database.url, &SCHEMA).await,
        "store.schema-missing"
    );
    // The good program can still take the database over.
    let store = database.open().await;
    assert!(
        store
            .fetch_all("SELECT a FROM half", params![])
            .await
            .is_err()
    );
    store.close().await;
}

async fn concurrent_migrations_take_turns(database: Database) {
    let url = database.url.clone();
    let run = |url: String| async move { Store::migrate(&url, &SCHEMA, now()).await };
    let results = tokio::join!(run(url.clone()), run(url.clone()), run(url));
    let mut counts = [results.0, results.1, results.2].map(|r| r.unwrap().len());
    counts.sort_unstable();
    assert_eq!(counts, [0, 0, 3]);
    assert_eq!(refusal(&database.url, &SCHEMA).await, "opened");
}

on_both!(
    migrate_is_explicit_and_repeatable,
    upgrade_keeps_the_rows,
    another_role_is_refused,
    edited_migration_is_refused,
    failing_migration_leaves_nothing,
    concurrent_migrations_take_turns,
);

#[tokio::test]
async fn urls() {
    for (url, code) in [
        ("mysql://x", "store.url"),
        ("", "store.url"),
        ("sqlite:", "store.url"),
        ("sqlite::memory:", "store.url"),
        ("sqlite:/no/such/place.db", "store.schema-missing"),
        ("postgres:///x?host=/no/such/socket", "store.unavailable"),
    ] {
        assert_eq!(refusal(url, &SCHEMA).await, code, "{url}");
    }
    let error = Store::open("postgres://user:secret@[bad", &SCHEMA)
        .await
        .unwrap_err();
    assert!(!error.to_string().contains("secret"), "{error}");
}

#[tokio::test]
async fn sqlite_is_private_and_durable() {
    use std::os::unix::fs::PermissionsExt as _;
    let database = Database::sqlite();
    let store = database.open().await;
    let file = database.directory.path().join("test.db");
    assert_eq!(file.metadata().unwrap().permissions().mode() & 0o777, 0o600);
    let settings = store
        .transaction("settings", |c| {
            Box::pin(async move {
                let mut found = Vec::new();
                for (pragma, column) in [
                    ("PRAGMA synchronous", "synchronous"),
                    ("PRAGMA foreign_keys", "foreign_keys"),
                ] {
                    found.push(c.fetch_one(pragma, params![]).await?.integer(column)?);
                }
                let mode = c.fetch_one("PRAGMA journal_mode", params![]).await?;
                Ok::<_, store::Error>((found, mode.text("journal_mode")?))
            })
        })
        .await
        .unwrap();
    // 2 is FULL: the WAL is synchronised before a commit is answered.
    assert_eq!(settings, (vec![2, 1], "wal".to_owned()));
    store.close().await;
}
