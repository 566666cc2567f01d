//! The outbox: at least once, one worker at a time, pauses that grow.

use futures::FutureExt as _;
use futures::future::join_all;
use store::outbox::{self, Message};
use store::{Error, Store};
use time::{Duration, OffsetDateTime};

use crate::on_both;
use crate::support::{Database, now};

async fn claim(store: &Store, worker: &'static str, at: OffsetDateTime) -> Vec<Message> {
    store
        .transaction("claim", move |c| {
            outbox::claim(c, worker, 10, Duration::seconds(30), at).boxed()
        })
        .await
        .unwrap()
}

async fn push(store: &Store, text: &'static str) {
    store
        .transaction("push", move |c| {
            async move { outbox::push(c, "webhook", text.as_bytes(), now()).await }.boxed()
        })
        .await
        .unwrap();
}

async fn message_lives_and_dies_with_its_decision(database: Database) {
    let store = database.open().await;
    let refused: Result<(), Error> = store
        .transaction("refused", |c| {
            async move {
                outbox::push(c, "webhook", b"never", now()).await?;
                Err(Error::Closed)
            }
            .boxed()
        })
        .await;
    assert!(refused.is_err());
    push(&store, "one").await;
    let messages = claim(&store, "w1", now()).await;
    assert_eq!(messages.len(), 1);
    assert_eq!(messages[0].payload, b"one");
    assert_eq!(messages[0].attempt, 1);
    assert_eq!(claim(&store, "w2", now()).await, []);
    let id = messages[0].id;
    let stranger = store
        .transaction("done", move |c| {
            async move { outbox::done(c, "w2", id).await }.boxed()
        })
        .await
        .unwrap();
    assert!(!stranger);
    let owner = store
        .transaction("done", move |c| {
            async move { outbox::done(c, "w1", id).await }.boxed()
        })
        .await
        .unwrap();
    assert!(owner);
    assert_eq!(
        outbox::depth(&mut store.snapshot().await.unwrap())
            .await
            .unwrap(),
        (0, 0)
    );
    store.close().await;
}

async fn dead_worker_loses_its_claim(database: Database) {
    let store = database.open().await;
    push(&store, "one").await;
    assert_eq!(claim(&store, "w1", now()).await.len(), 1);
    let later = now() + Duration::seconds(31);
    let again = claim(&store, "w2", later).await;
    assert_eq!((again.len(), again[0].attempt), (1, 2));
    store.close().await;
}

async fn failures_back_off_and_end(database: Database) {
    let store = database.open().await;
    push(&store, "one").await;
    let mut at = now();
    let mut pauses = Vec::new();
    loop {
        let Some(message) = claim(&store, "w", at).await.pop() else {
            at += Duration::seconds(1);
            if (at - now()) > Duration::days(3) {
                break;
            }
            // Jump to the next due time instead of walking there second by second.
            let row = store
                .fetch_optional("SELECT due_us, dead_us FROM outbox", vec![])
                .await
                .unwrap()
                .unwrap();
            if row.optional_integer("dead_us").unwrap().is_some() {
                break;
            }
            let due = row.time("due_us").unwrap();
            pauses.push((due - at).whole_seconds() + 1);
            at = due;
            continue;
        };
        store
            .transaction("failed", move |c| {
                let message = message.clone();
                async move { outbox::failed(c, "w", &message, "no answer", at).await }.boxed()
            })
            .await
            .unwrap();
    }
    assert_eq!(&pauses[..5], &[2, 4, 8, 16, 32]);
    assert_eq!(*pauses.last().unwrap(), 3600);
    assert_eq!(
        i64::try_from(pauses.len()).unwrap(),
        outbox::ATTEMPTS_MAX - 1
    );
    assert_eq!(
        outbox::depth(&mut store.snapshot().await.unwrap())
            .await
            .unwrap(),
        (0, 1)
    );
    store.close().await;
}

async fn workers_share_without_overlap(database: Database) {
    let store = database.open().await;
    for _ in 0..50 {
        push(&store, "x").await;
    }
    let workers = ["a", "b", "c", "d", "e", "f", "g", "h"];
    let claims = join_all(workers.map(|worker| {
        let store = store.clone();
        async move { claim(&store, worker, now()).await }
    }))
    .await;
    let mut ids: Vec<i64> = claims.iter().flatten().map(|m| m.id).collect();
    let total = ids.len();
    ids.sort_unstable();
    ids.dedup();
    assert_eq!(ids.len(), total, "a message was given to two workers");
    store.close().await;
}

on_both!(
    message_lives_and_dies_with_its_decision,
    dead_worker_loses_its_claim,
    failures_back_off_and_end,
    workers_share_without_overlap,
);
