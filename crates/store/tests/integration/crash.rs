//! A process that is killed loses nothing that it acknowledged.

use std::io::{BufRead as _, BufReader};
use std::process::{Command, Stdio};

use futures::FutureExt as _;
use store::audit::{self, Entry, Log};
use store::{Connection, Error, Store, params};

use crate::on_both;
use crate::support::{Database, SCHEMA, SeedKey, now};

const CHILD: &str = "STORE_TEST_CRASH_CHILD";

async fn decide(connection: &mut Connection, name: &str) -> Result<(), Error> {
    // Two rows in one decision: after the crash both are there or neither.
    connection
        .execute(
            "INSERT INTO thing (name, amount) VALUES ($1, 0)",
            params![name],
        )
        .await?;
    connection
        .execute("INSERT INTO part (thing) VALUES ($1)", params![name])
        .await?;
    let entry = Entry {
        at: now(),
        kind: "decided".to_owned(),
        actor: "child".to_owned(),
        subject: name.to_owned(),
        data: serde_json::Value::Null,
    };
    audit::append(connection, &entry)
        .await
        .map(|_| ())
        .map_err(|_| Error::Closed)
}

/// Not a test of its own: the process that [`killed_process_keeps_its_word`] kills.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn crash_child() {
    let Ok(url) = std::env::var(CHILD) else {
        return;
    };
    let store = Store::open(&url, &SCHEMA).await.unwrap();
    let log = Log::new(store.clone(), "test/log", SeedKey::signer(1)).unwrap();
    let sealer = tokio::spawn(async move {
        loop {
            log.seal(now()).await.unwrap();
            tokio::task::yield_now().await;
        }
    });
    let workers = (0..8).map(|worker| {
        let store = store.clone();
        async move {
            for i in 0.. {
                let name = format!("{worker}-{i}");
                let inner = name.clone();
                store
                    .transaction("decide", move |c| {
                        let name = inner.clone();
                        async move { decide(c, &name).await }.boxed()
                    })
                    .await
                    .unwrap();
                eprintln!("ack {name}");
            }
        }
    });
    futures::future::join_all(workers).await;
    sealer.abort();
}

async fn killed_process_keeps_its_word(database: Database) {
    database.open().await.close().await;
    let url = database.url.clone();
    let acknowledged = tokio::task::spawn_blocking(move || {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "crash::crash_child", "--nocapture"])
            .env(CHILD, url)
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut names = Vec::new();
        let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
        while names.len() < 300 {
            let line = lines.next().expect("the child acknowledges").unwrap();
            names.extend(line.strip_prefix("ack ").map(str::to_owned));
        }
        // SIGKILL: no destructor, no flush.
        child.kill().unwrap();
        names.extend(
            lines
                .map_while(Result::ok)
                .filter_map(|line| line.strip_prefix("ack ").map(str::to_owned)),
        );
        child.wait().unwrap();
        names
    })
    .await
    .unwrap();
    let store = Store::open(&database.url, &SCHEMA).await.unwrap();
    let rows = store
        .fetch_all("SELECT name FROM thing", params![])
        .await
        .unwrap();
    let present: std::collections::HashSet<_> =
        rows.iter().map(|row| row.text("name").unwrap()).collect();
    for name in &acknowledged {
        assert!(
            present.contains(name),
            "{name} was acknowledged and is gone"
        );
    }
    let halves = store
        .fetch_optional(
            "SELECT (SELECT COUNT(*) FROM thing) AS things, (SELECT COUNT(*) FROM part) AS parts, \
             (SELECT COUNT(*) FROM audit_entry) AS entries",
            params![],
        )
        .await
        .unwrap()
        .unwrap();
    let things = halves.integer("things").unwrap();
    assert_eq!(things, halves.integer("parts").unwrap());
    assert_eq!(things, halves.integer("entries").unwrap());
    let log = Log::new(store.clone(), "test/log", SeedKey::signer(1)).unwrap();
    log.seal(now()).await.unwrap();
    let verdict = log.verify(&[], |_| {}).await.unwrap();
    assert!(verdict.ok, "{verdict:?}");
    assert_eq!(verdict.size, u64::try_from(things).unwrap());
    store.close().await;
}

on_both!(killed_process_keeps_its_word);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn cut_connection_rolls_back() {
    let database = Database::postgres();
    let store = database.open().await;
    let other = Store::open(&database.url, &SCHEMA).await.unwrap();
    let cut = store
        .transaction("cut", move |c| {
            let other = other.clone();
            async move {
                decide(c, "half").await?;
                let row = c
                    .fetch_one("SELECT pg_backend_pid()::bigint AS pid", params![])
                    .await?;
                other
                    .fetch_all(
                        "SELECT pg_terminate_backend($1::int) AS done",
                        params![row.integer("pid")?],
                    )
                    .await?;
                decide(c, "rest").await
            }
            .boxed()
        })
        .await;
    assert!(cut.is_err());
    // The pool replaces the dead connection and nothing of the half decision is left.
    let row = store
        .fetch_optional("SELECT COUNT(*) AS n FROM thing", params![])
        .await
        .unwrap();
    assert_eq!(row.unwrap().integer("n").unwrap(), 0);
    store
        .transaction("again", |c| decide(c, "whole").boxed())
        .await
        .unwrap();
    store.close().await;
}
