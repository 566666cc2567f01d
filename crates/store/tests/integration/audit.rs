//! The audit log: what is sealed can be proven, what is changed is found.

use std::path::Path;

use futures::FutureExt as _;
use futures::future::join_all;
use store::audit::merkle::{self, Hash};
use store::audit::{self, Checkpoint, Entry, Inclusion, Log, NoteKey, Verdict, check_consistency};
use store::{AssertSqlSafe, Error, Store, params};

use crate::on_both;
use crate::support::{Database, SeedKey, now};

const ORIGIN: &str = "masa.test/audit";

fn entry(number: usize) -> Entry {
    Entry {
        at: now() + time::Duration::seconds(i64::try_from(number).unwrap()),
        kind: "voucher-issued".to_owned(),
        actor: format!("domain {}", number % 7),
        subject: format!("SN-{number}"),
        data: serde_json::json!({ "nonce": "bm9uY2U=", "number": number }),
    }
}

async fn add(store: &Store, from: usize, to: usize) -> Vec<i64> {
    store
        .transaction("add", move |c| {
            async move {
                let mut ids = Vec::new();
                for number in from..to {
                    let id = audit::append(c, &entry(number)).await;
                    ids.push(id.map_err(|_| Error::Closed)?);
                }
                Ok::<_, Error>(ids)
            }
            .boxed()
        })
        .await
        .unwrap()
}

async fn sql(store: &Store, statement: &'static str) {
    store
        .transaction("tamper", move |c| {
            async move {
                for part in statement.split(';').filter(|part| !part.trim().is_empty()) {
                    let rows = c.execute(part, params![]).await?;
                    assert!(rows > 0, "{part} touched nothing");
                }
                Ok::<_, Error>(())
            }
            .boxed()
        })
        .await
        .unwrap();
}

fn log(store: &Store) -> Log {
    Log::new(store.clone(), ORIGIN, SeedKey::signer(7)).unwrap()
}

async fn verify(log: &Log) -> Verdict {
    log.verify(&[], |_| {}).await.unwrap()
}

async fn empty_log_is_sound(database: Database) {
    let store = database.open().await;
    let log = log(&store);
    assert_eq!(log.seal(now()).await.unwrap(), None);
    let verdict = verify(&log).await;
    assert!(verdict.ok, "{verdict:?}");
    assert_eq!(log.prove(0).await.unwrap_err().code(), "audit.no-entry");
    store.close().await;
}

async fn sealed_entries_are_proven_offline(database: Database) {
    let store = database.open().await;
    let log = log(&store);
    let ids = add(&store, 0, 3).await;
    let first = log.seal(now()).await.unwrap().unwrap();
    add(&store, 3, 600).await;
    let second = log.seal(now()).await.unwrap().unwrap();
    assert_eq!(
        log.seal(now()).await.unwrap().unwrap(),
        second,
        "nothing new, nothing signed"
    );
    let verdict = verify(&log).await;
    assert!(verdict.ok, "{verdict:?}");
    assert_eq!(
        (verdict.size, verdict.sealed_size, verdict.checkpoints),
        (600, 600, 2)
    );

    // Offline: only the text of the proof and the text of the key.
    let key = NoteKey::parse(&log.key().to_string()).unwrap();
    for index in [0_u64, 1, 255, 256, 511, 512, 599] {
        let text = log.prove(index).await.unwrap().to_string();
        let proof = Inclusion::parse(&text).unwrap();
        let (proven, checkpoint) = proof.verify(&key).unwrap();
        assert_eq!(proven, entry(usize::try_from(index).unwrap()));
        assert_eq!(checkpoint.size, 600);
    }
    assert_eq!(log.prove(600).await.unwrap_err().code(), "audit.no-entry");
    assert_eq!(log.prove_row(ids[2]).await.unwrap().index, 2);

    let proof = log.prove_consistency(3, 600).await.unwrap();
    check_consistency(&first, &second, &proof, &key).unwrap();
    assert!(check_consistency(&second, &first, &proof, &key).is_err());
    store.close().await;
}

async fn altered_proofs_fail(database: Database) {
    let store = database.open().await;
    let log = log(&store);
    add(&store, 0, 20).await;
    log.seal(now()).await.unwrap();
    let text = log.prove(5).await.unwrap().to_string();
    let key = log.key();
    let holds = |text: &str| {
        Inclusion::parse(text)
            .and_then(|p| p.verify(key).map(|_| ()))
            .is_ok()
    };
    assert!(holds(&text));
    // No single character can change without breaking the proof.
    for at in 0..text.len() {
        let mut octets = text.clone().into_bytes();
        octets[at] = if octets[at] == b'A' { b'B' } else { b'A' };
        let Ok(changed) = String::from_utf8(octets) else {
            continue;
        };
        assert!(
            !holds(&changed),
            "character {at} does not matter:\n{changed}"
        );
    }
    for bad in [
        "",
        "c2sp.org/tlog-proof@v1\n",
        &text[..text.len() - 1],
        &text.repeat(2),
    ] {
        assert!(!holds(bad), "{bad:?}");
    }
    let other = NoteKey::of(ORIGIN, SeedKey::signer(8).as_ref()).unwrap();
    let proof = Inclusion::parse(&text).unwrap();
    assert_eq!(
        proof.verify(&other).unwrap_err().code(),
        "audit.checkpoint-forged"
    );
    store.close().await;
}

async fn tampering_is_found(database: Database) {
    // What is done to the sealed log, and a code that must be among the problems.
    let cases = [
        (
            "flipped bit",
            "UPDATE audit_entry SET entry = leaf_hash WHERE leaf_index = 4",
            "audit.row-altered",
        ),
        (
            "rewritten column",
            "UPDATE audit_entry SET subject = 'SN-9' WHERE leaf_index = 4",
            "audit.row-altered",
        ),
        (
            "rewritten time",
            "UPDATE audit_entry SET at_us = at_us + 1 WHERE leaf_index = 4",
            "audit.row-altered",
        ),
        (
            "dropped row",
            "DELETE FROM audit_entry WHERE leaf_index = 4",
            "audit.row-missing",
        ),
        (
            "dropped last row",
            "DELETE FROM audit_entry WHERE leaf_index = 299",
            "audit.head-altered",
        ),
        (
            "dropped and closed up",
            "DELETE FROM audit_entry WHERE leaf_index = 299;\
             UPDATE audit_head SET size = 299",
            "audit.checkpoint-mismatch",
        ),
        (
            "reordered",
            "UPDATE audit_entry SET leaf_index = 1000 WHERE leaf_index = 4;\
             UPDATE audit_entry SET leaf_index = 4 WHERE leaf_index = 5;\
             UPDATE audit_entry SET leaf_index = 5 WHERE leaf_index = 1000",
            "audit.checkpoint-mismatch",
        ),
        (
            "inserted",
            "INSERT INTO audit_entry (leaf_index, at_us, kind, actor, subject, entry, leaf_hash) \
             SELECT 300, at_us, kind, actor, subject, entry, leaf_hash FROM audit_entry \
             WHERE leaf_index = 4",
            "audit.head-altered",
        ),
        (
            "row replaced by a copy of another",
            "DELETE FROM audit_entry WHERE leaf_index = 8;\
             INSERT INTO audit_entry (leaf_index, at_us, kind, actor, subject, entry, leaf_hash) \
             SELECT 8, at_us, kind, actor, subject, entry, leaf_hash FROM audit_entry \
             WHERE leaf_index = 4",
            "audit.checkpoint-mismatch",
        ),
        (
            "dropped checkpoint",
            "DELETE FROM audit_checkpoint WHERE size = 300",
            "audit.checkpoint-missing",
        ),
        (
            "relabelled checkpoint",
            "UPDATE audit_checkpoint SET size = 299 WHERE size = 300",
            "audit.checkpoint-forged",
        ),
        (
            "forged checkpoint",
            "UPDATE audit_checkpoint SET note = 'masa.test/audit' WHERE size = 300",
            "audit.checkpoint-forged",
        ),
        (
            "altered node",
            "UPDATE audit_node SET hash = '0123' WHERE level = 1",
            "audit.node-altered",
        ),
        (
            "dropped node",
            "DELETE FROM audit_node WHERE level = 1",
            "audit.node-altered",
        ),
        (
            "altered head",
            "UPDATE audit_head SET frontier = '0123'",
            "audit.head-altered",
        ),
        (
            "pending row",
            "UPDATE audit_entry SET entry = leaf_hash WHERE leaf_index IS NULL",
            "audit.row-altered",
        ),
    ];
    let store = database.open().await;
    let log = log(&store);
    add(&store, 0, 100).await;
    log.seal(now()).await.unwrap();
    add(&store, 100, 300).await;
    log.seal(now()).await.unwrap();
    add(&store, 300, 301).await;
    assert!(verify(&log).await.ok);
    for (name, statement, code) in cases {
        // Each case is undone by its rollback: the verdict is taken from a copy of the rows.
        keep(&store).await;
        sql(&store, statement).await;
        let verdict = verify(&log).await;
        let codes: Vec<_> = verdict.problems.iter().map(|p| p.code).collect();
        assert!(!verdict.ok && codes.contains(&code), "{name}: {codes:?}");
        put_back(&store).await;
        let verdict = verify(&log).await;
        assert!(verdict.ok, "after {name}: {verdict:?}");
    }
    store.close().await;
}

const TABLES: [&str; 4] = [
    "audit_entry",
    "audit_node",
    "audit_head",
    "audit_checkpoint",
];

async fn script(store: &Store, statements: Vec<String>) {
    store
        .transaction("script", move |c| {
            let statements = statements.clone();
            async move {
                for statement in statements {
                    c.execute(AssertSqlSafe(statement), params![]).await?;
                }
                Ok::<_, Error>(())
            }
            .boxed()
        })
        .await
        .unwrap();
}

async fn keep(store: &Store) {
    let copy = |t: &str| {
        [
            format!("DROP TABLE IF EXISTS kept_{t}"),
            format!("CREATE TABLE kept_{t} AS SELECT * FROM {t}"),
        ]
    };
    script(store, TABLES.iter().flat_map(|t| copy(t)).collect()).await;
}

async fn put_back(store: &Store) {
    let copy = |t: &str| {
        [
            format!("DELETE FROM {t}"),
            format!("INSERT INTO {t} SELECT * FROM kept_{t}"),
        ]
    };
    script(store, TABLES.iter().flat_map(|t| copy(t)).collect()).await;
}

async fn rewound_database_is_found(database: Database) {
    let store = database.open().await;
    let anchor = database.directory.path().join("audit.checkpoint");
    let log = log(&store).with_anchor(anchor.clone());
    add(&store, 0, 10).await;
    log.seal(now()).await.unwrap();
    keep(&store).await;
    add(&store, 10, 20).await;
    let latest = log.seal(now()).await.unwrap().unwrap();
    assert_eq!(std::fs::read_to_string(&anchor).unwrap(), latest);
    // A whole backup put back: consistent in itself, but not with what was seen elsewhere.
    put_back(&store).await;
    let blind = Log::new(store.clone(), ORIGIN, SeedKey::signer(7)).unwrap();
    assert!(verify(&blind).await.ok);
    let told = blind.verify(&[latest], |_| {}).await.unwrap();
    assert_eq!(told.problems[0].code, "audit.rewound");
    assert_eq!(verify(&log).await.problems[0].code, "audit.rewound");
    // And nothing is signed that would paper over it, whatever is appended.
    add(&store, 50, 70).await;
    assert_eq!(log.seal(now()).await.unwrap_err().code(), "audit.tampered");
    store.close().await;
}

async fn nothing_is_signed_over_changed_rows(database: Database) {
    let store = database.open().await;
    let log = log(&store);
    add(&store, 0, 10).await;
    log.seal(now()).await.unwrap();
    sql(
        &store,
        "UPDATE audit_entry SET leaf_hash = entry WHERE leaf_index = 3",
    )
    .await;
    add(&store, 10, 11).await;
    assert_eq!(log.seal(now()).await.unwrap_err().code(), "audit.tampered");
    assert_eq!(log.prove(2).await.unwrap_err().code(), "audit.tampered");
    store.close().await;
}

async fn replicas_append_and_seal_at_once(database: Database) {
    let store = database.open().await;
    let second = Store::open(&database.url, &crate::support::SCHEMA)
        .await
        .unwrap();
    let replicas = [store.clone(), second.clone()];
    let appends = (0..80_usize).map(|number| {
        let store = replicas[number % 2].clone();
        async move {
            add(&store, number, number + 1).await;
        }
    });
    let seals = (0..20_usize).map(|number| {
        let log = log(&replicas[number % 2]);
        async move { log.seal(now()).await.unwrap() }
    });
    tokio::join!(join_all(appends), join_all(seals));
    let log = log(&store);
    log.seal(now()).await.unwrap();
    let verdict = verify(&log).await;
    assert!(verdict.ok, "{verdict:?}");
    assert_eq!((verdict.size, verdict.pending), (80, 0));
    store.close().await;
    second.close().await;
}

fn tile(directory: &Path, path: &str) -> Vec<u8> {
    std::fs::read(directory.join("tile").join(path)).unwrap_or_else(|e| panic!("{path}: {e}"))
}

async fn export_follows_tlog_tiles(database: Database) {
    let store = database.open().await;
    let log = log(&store);
    add(&store, 0, 700).await;
    let note = log.seal(now()).await.unwrap().unwrap();
    let mut lines = Vec::new();
    assert_eq!(log.export_lines(&mut lines).await.unwrap(), 700);
    let last = String::from_utf8(lines)
        .unwrap()
        .lines()
        .last()
        .unwrap()
        .to_owned();
    let last: serde_json::Value = serde_json::from_str(&last).unwrap();
    assert_eq!(last["index"], 699);
    assert_eq!(last["entry"]["subject"], "SN-699");

    let directory = database.directory.path().join("tiles");
    assert_eq!(log.export_tiles(&directory).await.unwrap(), 700);
    assert_eq!(
        std::fs::read_to_string(directory.join("checkpoint")).unwrap(),
        note
    );
    let root = Checkpoint::open(&note, log.key()).unwrap().root;
    // The root again, from the exported files alone.
    let mut frontier = merkle::Frontier::default();
    let mut leaves: Vec<Hash> = Vec::new();
    for name in ["000", "001", "002.p/188"] {
        let bundle = tile(&directory, &format!("entries/{name}"));
        let mut rest = bundle.as_slice();
        while let [high, low, tail @ ..] = rest {
            let length = usize::from(u16::from_be_bytes([*high, *low]));
            let leaf = merkle::leaf_hash(&tail[..length]);
            leaves.push(leaf);
            frontier.push(leaf, |_| {});
            rest = &tail[length..];
        }
    }
    assert_eq!(frontier.root(), root);
    let level0: Vec<u8> = ["0/000", "0/001", "0/002.p/188"]
        .iter()
        .flat_map(|n| tile(&directory, n))
        .collect();
    assert_eq!(level0, leaves.concat());
    let level1 = tile(&directory, "1/000.p/2");
    let expected: Vec<u8> = leaves
        .chunks_exact(256)
        .flat_map(merkle::complete_root)
        .collect();
    assert_eq!(level1, expected);
    assert!(!directory.join("tile/2").exists());
    store.close().await;
}

async fn list_pages_and_filters(database: Database) {
    let store = database.open().await;
    let ids = add(&store, 0, 10).await;
    let filter = audit::Filter {
        subject: None,
        after: ids[3],
        limit: 4,
    };
    let page = audit::list(&store, &filter).await.unwrap();
    assert_eq!(page.iter().map(|r| r.id).collect::<Vec<_>>(), ids[4..8]);
    assert!(page.iter().all(|r| r.index.is_none()));
    let filter = audit::Filter {
        subject: Some("SN-2".to_owned()),
        after: 0,
        limit: 4,
    };
    let found = audit::list(&store, &filter).await.unwrap();
    assert_eq!(Entry::decode(&found[0].octets).unwrap(), entry(2));
    store.close().await;
}

on_both!(
    empty_log_is_sound,
    sealed_entries_are_proven_offline,
    altered_proofs_fail,
    tampering_is_found,
    rewound_database_is_found,
    nothing_is_signed_over_changed_rows,
    replicas_append_and_seal_at_once,
    export_follows_tlog_tiles,
    list_pages_and_filters,
);

#[test]
fn checkpoint_of_the_specification() {
    // The note of c2sp.org/tlog-checkpoint has a placeholder signature; its text must still parse
    // up to the signature, and foreign signature lines are ignored.
    let key = NoteKey::of(ORIGIN, SeedKey::signer(7).as_ref()).unwrap();
    let checkpoint = Checkpoint {
        origin: ORIGIN.to_owned(),
        size: 3,
        root: [9; 32],
    };
    let note = checkpoint.sign(SeedKey::signer(7).as_ref()).unwrap();
    let witnessed = format!(
        "{note}\u{2014} witness.example Az3grlgtzPICa5OS8npVmf1Myq/5IZniMp+ZJurmRDeOoRDe4URYN7u5/Zhcyv2q1gGzGku9nTo+zyWE+xeMcTOAYQ8=\n"
    );
    assert_eq!(Checkpoint::open(&witnessed, &key).unwrap(), checkpoint);
    let cases = [
        note.replace("\n3\n", "\n4\n"),
        note.replace("\n3\n", "\n03\n"),
        note.replace(ORIGIN, "other.test/audit"),
        note.replace('\u{2014}', "-"),
        note.trim_end().to_owned(),
        note.replace("\n\n", "\n"),
        format!("{note}\r\n"),
        String::new(),
    ];
    for bad in cases {
        let error = Checkpoint::open(&bad, &key).unwrap_err();
        assert_eq!(error.code(), "audit.checkpoint-forged", "{bad:?}");
    }
}

#[test]
fn published_note_key_and_signature() {
    // PeterNeumann's note from the documentation of golang.org/x/mod/sumdb/note.
    let key = NoteKey::parse("PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW");
    assert_eq!(key.unwrap().name(), "PeterNeumann");
    for bad in [
        "",
        "a+b",
        "PeterNeumann+c74f20a4+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW",
    ] {
        assert!(NoteKey::parse(bad).is_err(), "{bad}");
    }
}
