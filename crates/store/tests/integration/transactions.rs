//! One decision, one commit: isolation, refusals, panics, retries.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use futures::FutureExt as _;
use futures::future::join_all;
use store::{Connection, Engine, Error, Store, params};

use crate::on_both;
use crate::support::Database;

#[derive(Debug)]
enum Refusal {
    No,
    Store(Error),
}

impl From<Error> for Refusal {
    fn from(error: Error) -> Self {
        Self::Store(error)
    }
}

async fn insert(connection: &mut Connection, name: &str, amount: i64) -> Result<u64, Error> {
    connection
        .execute(
            "INSERT INTO thing (name, amount) VALUES ($1, $2)",
            params![name, amount],
        )
        .await
}

async fn count(store: &Store) -> i64 {
    let row = store
        .fetch_optional("SELECT COUNT(*) AS n FROM thing", params![])
        .await
        .unwrap();
    row.unwrap().integer("n").unwrap()
}

async fn values_come_back_as_they_went_in(database: Database) {
    let store = database.open().await;
    store
        .transaction("values", |c| {
            async move {
                c.execute(
                    "INSERT INTO thing (name, amount, note, raw) VALUES ($1, $2, $3, $4)",
                    params![
                        "a",
                        i64::MIN,
                        "ü \u{0}".replace('\u{0}', ""),
                        vec![0_u8, 255, 0]
                    ],
                )
                .await?;
                c.execute(
                    "INSERT INTO thing (name, amount, note, raw) VALUES ($1, $2, $3, $4)",
                    params!["b", i64::MAX, None::<String>, None::<Vec<u8>>],
                )
                .await
            }
            .boxed()
        })
        .await
        .unwrap();
    let rows = store
        .fetch_all(
            "SELECT name, amount, note, raw FROM thing ORDER BY name",
            params![],
        )
        .await
        .unwrap();
    // A parameter is the one of its number, wherever it stands and however often.
    for (name, note) in [("a", "ü "), ("b", "x")] {
        let found = store
            .transaction("numbers", move |c| {
                async move {
                    c.fetch_optional(
                        "SELECT name FROM thing WHERE COALESCE(note, $2) = $2 AND name = $1 \
                         AND COALESCE(note, $2) <> $1",
                        params![name, note],
                    )
                    .await
                }
                .boxed()
            })
            .await
            .unwrap();
        assert_eq!(found.unwrap().text("name").unwrap(), name);
    }
    assert_eq!(rows[0].integer("amount").unwrap(), i64::MIN);
    assert_eq!(
        rows[0].optional_text("note").unwrap().as_deref(),
        Some("ü ")
    );
    assert_eq!(rows[0].bytes("raw").unwrap(), [0, 255, 0]);
    assert_eq!(rows[1].integer("amount").unwrap(), i64::MAX);
    assert_eq!(rows[1].optional_text("note").unwrap(), None);
    assert_eq!(rows[1].optional_bytes("raw").unwrap(), None);
    assert_eq!(rows[1].text("note").unwrap_err().code(), "store.column");
    assert_eq!(rows[1].text("absent").unwrap_err().code(), "store.column");
    store.close().await;
}

async fn refusal_rolls_back(database: Database) {
    let store = database.open().await;
    let result = store
        .transaction("refused", |c| {
            async move {
                insert(c, "a", 1).await?;
                Err::<(), _>(Refusal::No)
            }
            .boxed()
        })
        .await;
    assert!(matches!(result, Err(Refusal::No)));
    assert_eq!(count(&store).await, 0);
    store.close().await;
}

async fn unique_and_foreign_keys_hold(database: Database) {
    let store = database.open().await;
    let error = store
        .transaction("twice", |c| {
            async move {
                insert(c, "a", 1).await?;
                insert(c, "a", 2).await
            }
            .boxed()
        })
        .await
        .unwrap_err();
    assert_eq!(error.code(), "store.unique");
    let error = store
        .transaction("orphan", |c| {
            async move {
                c.execute("INSERT INTO part (thing) VALUES ($1)", params!["none"])
                    .await
            }
            .boxed()
        })
        .await
        .unwrap_err();
    assert_eq!(error.code(), "store.database");
    assert_eq!(count(&store).await, 0);
    store.close().await;
}

async fn panic_is_contained(database: Database) {
    let store = database.open().await;
    let result: Result<(), Error> = store
        .transaction("panics", |c| {
            async move {
                insert(c, "a", 1).await?;
                std::panic::panic_any("on purpose");
            }
            .boxed()
        })
        .await;
    assert_eq!(result.unwrap_err().code(), "store.panicked");
    store
        .transaction("after", |c| insert(c, "b", 1).boxed())
        .await
        .unwrap();
    assert_eq!(count(&store).await, 1);
    store.close().await;
}

async fn neighbours_do_not_hurt_each_other(database: Database) {
    let store = database.open().await;
    let results = join_all((0..240_i64).map(|i| {
        let store = store.clone();
        async move {
            store
                .transaction("neighbour", move |c| {
                    async move {
                        insert(c, &format!("{i}"), i).await?;
                        match i % 6 {
                            0 => Err(Refusal::No),
                            1 => {
                                insert(c, &format!("{i}"), i).await?;
                                Ok(())
                            }
                            2 => std::panic::panic_any("on purpose"),
                            _ => Ok(()),
                        }
                    }
                    .boxed()
                })
                .await
        }
    }))
    .await;
    for (i, result) in results.iter().enumerate() {
        match i % 6 {
            0 => assert!(matches!(result, Err(Refusal::No)), "{i}"),
            1 => assert!(
                matches!(result, Err(Refusal::Store(Error::Unique(_)))),
                "{i}"
            ),
            2 => assert!(
                matches!(result, Err(Refusal::Store(Error::Panicked(_)))),
                "{i}"
            ),
            _ => assert!(result.is_ok(), "{i} {result:?}"),
        }
    }
    assert_eq!(count(&store).await, 120);
    let report = store.statistics();
    let counts = report.transactions["neighbour"];
    assert_eq!((counts.committed, counts.refused), (120, 120));
    if store.engine() == Engine::Sqlite {
        // Concurrent decisions share commits; otherwise this would be one batch each.
        assert!(report.batches < report.batched / 4, "{report:?}");
    }
    store.close().await;
}

async fn read_modify_write_loses_nothing(database: Database) {
    let store = database.open().await;
    store
        .transaction("first", |c| insert(c, "sum", 0).boxed())
        .await
        .unwrap();
    let runs = Arc::new(AtomicUsize::new(0));
    let results = join_all((0..40).map(|_| {
        let (store, runs) = (store.clone(), Arc::clone(&runs));
        async move {
            store
                .transaction("add", move |c| {
                    runs.fetch_add(1, Ordering::Relaxed);
                    async move {
                        let row = c
                            .fetch_one("SELECT amount FROM thing WHERE name = $1", params!["sum"])
                            .await?;
                        let next = row.integer("amount")? + 1;
                        c.execute(
                            "UPDATE thing SET amount = $1 WHERE name = $2",
                            params![next, "sum"],
                        )
                        .await
                    }
                    .boxed()
                })
                .await
        }
    }))
    .await;
    let committed = results.iter().filter(|r| r.is_ok()).count();
    for result in &results {
        assert!(
            result.is_ok() || matches!(result, Err(Error::Conflict { .. })),
            "{result:?}"
        );
    }
    let row = store
        .fetch_optional("SELECT amount FROM thing", params![])
        .await
        .unwrap()
        .unwrap();
    assert_eq!(
        usize::try_from(row.integer("amount").unwrap()).unwrap(),
        committed
    );
    if store.engine() == Engine::Sqlite {
        assert_eq!(runs.load(Ordering::Relaxed), 40);
    }
    store.close().await;
}

async fn locking_transaction_has_one_winner(database: Database) {
    let store = database.open().await;
    store
        .transaction("first", |c| insert(c, "device", 0).boxed())
        .await
        .unwrap();
    let results = join_all((1..=64_i64).map(|domain| {
        let store = store.clone();
        async move {
            store
                .locking_transaction("claim", move |c| {
                    async move {
                        c.execute(
                            "UPDATE thing SET note = note WHERE name = $1",
                            params!["device"],
                        )
                        .await?;
                        let row = c.fetch_one("SELECT amount FROM thing", params![]).await?;
                        if row.integer("amount")? != 0 {
                            return Err(Refusal::No);
                        }
                        c.execute("UPDATE thing SET amount = $1", params![domain])
                            .await?;
                        Ok(domain)
                    }
                    .boxed()
                })
                .await
        }
    }))
    .await;
    let winners: Vec<_> = results.iter().filter_map(|r| r.as_ref().ok()).collect();
    assert_eq!(winners.len(), 1);
    let row = store
        .fetch_optional("SELECT amount FROM thing", params![])
        .await
        .unwrap()
        .unwrap();
    assert_eq!(row.integer("amount").unwrap(), *winners[0]);
    store.close().await;
}

async fn snapshot_stands_still(database: Database) {
    let store = database.open().await;
    store
        .transaction("first", |c| insert(c, "a", 1).boxed())
        .await
        .unwrap();
    let mut snapshot = store.snapshot().await.unwrap();
    let sql = "SELECT COUNT(*) AS n FROM thing";
    let before = snapshot
        .fetch_one(sql, params![])
        .await
        .unwrap()
        .integer("n")
        .unwrap();
    store
        .transaction("second", |c| insert(c, "b", 1).boxed())
        .await
        .unwrap();
    let after = snapshot
        .fetch_one(sql, params![])
        .await
        .unwrap()
        .integer("n")
        .unwrap();
    assert_eq!((before, after), (1, 1));
    assert!(
        snapshot
            .execute("DELETE FROM thing", params![])
            .await
            .is_err()
    );
    drop(snapshot);
    assert_eq!(count(&store).await, 2);
    store.close().await;
}

async fn closed_store_says_so(database: Database) {
    let store = database.open().await;
    store.close().await;
    let error = store
        .transaction("late", |c| insert(c, "a", 1).boxed())
        .await
        .unwrap_err();
    assert_eq!(error.code(), "store.closed");
    assert!(store.ping().await.is_err());
}

async fn caller_that_leaves_does_not_break_the_next(database: Database) {
    let store = database.open().await;
    for i in 0..20 {
        let name = format!("{i}");
        let call = store.transaction("left", move |c| {
            let name = name.clone();
            async move { insert(c, &name, 1).await }.boxed()
        });
        // Polled once and dropped: the caller is gone while the transaction is under way.
        let _ = call.now_or_never();
    }
    store
        .transaction("stays", |c| insert(c, "end", 1).boxed())
        .await
        .unwrap();
    let row = store
        .fetch_optional("SELECT name FROM thing WHERE name = $1", params!["end"])
        .await
        .unwrap();
    assert!(row.is_some());
    store.close().await;
}

on_both!(
    values_come_back_as_they_went_in,
    refusal_rolls_back,
    unique_and_foreign_keys_hold,
    panic_is_contained,
    neighbours_do_not_hurt_each_other,
    read_modify_write_loses_nothing,
    locking_transaction_has_one_winner,
    snapshot_stands_still,
    closed_store_says_so,
    caller_that_leaves_does_not_break_the_next,
);
