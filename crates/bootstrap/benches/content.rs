//! What a request costs between the device's facts and the octets that it is given: remembered,
//! found in memory, and made anew. Configurations have 12 KB; the database is SQLite on disk.

use std::collections::BTreeMap;
use std::hint::black_box;
use std::path::Path;
use std::sync::Arc;

use artifacts::Encoding;
use bootstrap::content::rules::{Encrypt, Rule, RuleSet, Subject, Target};
use bootstrap::content::{Engine, Facts, load, pattern::Pattern, revision};
use bootstrap::profile::Profile;
use bootstrap::register::{self, DeviceRow};
use bootstrap::{Config, SCHEMA};
use criterion::{Criterion, criterion_group, criterion_main};
use futures::FutureExt as _;
use store::{Store, params};
use testkit::NOW;

const CONTENT: &str = r#"
[[template]]
name = "t"
file = "templates/t.xml"
[[bundle]]
name = "b"
template = "t"
handling = "merge"
[[rule]]
name = "old"
hw-model = "old-*"
hold = true
[[rule]]
name = "all"
os-version = ["< 2", ">= 3"]
bundle = "b"
"#;

async fn world(folder: &Path) -> (Engine, Store, Arc<DeviceRow>) {
    let options = testkit::PkiOptions::new(NOW);
    let ca = testkit::root(&options, "CN=CA").expect("a CA");
    let text =
        "[database]\nurl = \"sqlite:b.db\"\n[[identity]]\ncertificate = \"a\"\nkey = \"b\"\n";
    let config = Config::parse(text, folder).expect("a configuration");
    Store::migrate(&config.database.url, &SCHEMA, NOW)
        .await
        .expect("a schema");
    let store = Store::open(&config.database.url, &SCHEMA)
        .await
        .expect("a database");
    let root = folder.join("content");
    std::fs::create_dir_all(root.join("templates")).expect("a folder");
    std::fs::write(root.join("content.toml"), CONTENT).expect("a file");
    let line = "<i><n>{{ device.serial }}</n><d>a line of a usual length in a file</d></i>\n";
    let template = format!("<c>\n{}</c>\n", line.repeat(170));
    std::fs::write(root.join("templates/t.xml"), template).expect("a file");
    let loaded = load::load(&root);
    assert!(loaded.passes(), "{:?}", loaded.findings);
    revision::store_revision(&store, &loaded.document, &loaded.bodies, "", "", NOW)
        .await
        .expect("a revision");
    store
        .transaction("bench", |connection| {
            async move {
                connection
                    .execute(
                        "INSERT INTO device (vendor, serial, state, created_us, changed_us) \
                         VALUES ('acme', 'SN-1', 'registered', 0, 0)",
                        params![],
                    )
                    .await
            }
            .boxed()
        })
        .await
        .expect("a device");
    let mut reader = store.reader().await.expect("a reader");
    let device = register::find_device(&mut reader, "SN-1", None)
        .await
        .expect("the device");
    drop(reader);
    drop(ca);
    let engine = Engine::open(&config, &store).expect("an engine");
    (engine, store, Arc::new(device))
}

fn facts(device: &Arc<DeviceRow>) -> Facts {
    Facts {
        device: Arc::clone(device),
        epoch: 1,
        revision: 1,
        hw_model: Some("new-1".to_owned()),
        os_name: Some("os".to_owned()),
        os_version: Some("1.9.2".to_owned()),
        nonce: Some(vec![7; 16]),
        signed_data_preferred: false,
        outer: Encoding::Json,
        profile: Arc::new(Profile::generic()),
        certificate: None,
        identity: None,
        now: NOW,
    }
}

fn choosing(criterion: &mut Criterion) {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .expect("a runtime");
    let folder = tempfile::tempdir().expect("a folder");
    let (engine, _store, device) = runtime.block_on(world(folder.path()));
    let facts = facts(&device);
    let mut group = criterion.benchmark_group("choose, 12 KB");
    group.bench_function("remembered", |bench| {
        bench.iter(|| {
            runtime
                .block_on(engine.choose(black_box(&facts)))
                .expect("data")
        });
    });
    group.bench_function("found in memory", |bench| {
        let mut profile = 0_u32;
        bench.iter(|| {
            // Another profile of the same kind: the decision is made again.
            profile += 1;
            let mut other = Profile::generic();
            other.title = profile.to_string();
            let facts = Facts {
                profile: Arc::new(other),
                ..facts.clone()
            };
            runtime
                .block_on(engine.choose(black_box(&facts)))
                .expect("data")
        });
    });
    group.bench_function("made anew, unsigned", |bench| {
        let mut serial = 0_u32;
        bench.iter(|| {
            serial += 1;
            let device = DeviceRow {
                id: i64::from(serial) + 10,
                serial: format!("SN-{serial}"),
                variables: BTreeMap::new(),
                ..(*device).clone()
            };
            let facts = Facts {
                device: Arc::new(device),
                ..facts.clone()
            };
            runtime
                .block_on(engine.choose(black_box(&facts)))
                .expect("data")
        });
    });
    group.finish();
}

fn rules(criterion: &mut Criterion) {
    let rule = |n: u32| Rule {
        name: n.to_string(),
        vendor: Vec::new(),
        serial: vec![Pattern::new(&format!("SN-{n}"))],
        group: Vec::new(),
        site: Vec::new(),
        device_type: Vec::new(),
        hw_model: Vec::new(),
        os_name: Vec::new(),
        os_version: Vec::new(),
        target: Target::Hold,
        encrypt: Encrypt::Never,
    };
    let set = RuleSet::new((0..10_000).map(rule).collect());
    let subject = Subject {
        vendor: "acme",
        serial: "SN-9999",
        ..Subject::default()
    };
    criterion.bench_function("the last of 10,000 rules for single devices", |bench| {
        bench.iter(|| set.choose(black_box(&subject)).expect("a rule"));
    });
}

criterion_group!(benches, choosing, rules);
criterion_main!(benches);
