//! Several streams in one worker, each with its own start and processors.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use kcl_core::reference::{MemoryLeaseTable, ReferenceStream, StreamOptions};
use kcl_core::{
    EventKind, ProcessError, Record, StartPosition, Stream, StreamArn, StreamSource, StreamViewType, TableName, Worker,
};
use serde_dynamo::{AttributeValue, Item};
use sim::Handle;

const SECOND: Duration = Duration::from_secs(1);

fn table(name: &str) -> TableName {
    name.parse().expect("a legal name")
}

fn create(service: &ReferenceStream, name: &str, shards: usize) -> StreamArn {
    service.create_table(&table(name), &["id"], StreamViewType::NewAndOldImages, shards).expect("a stream")
}

fn write(service: &ReferenceStream, name: &str, keys: std::ops::Range<usize>) {
    for key in keys {
        let mut item = Item::default();
        item.insert("id".to_owned(), AttributeValue::S(format!("{name}-{key}")));
        service.put(&table(name), item).expect("the table is there");
    }
}

/// How many records each processor was given, by its name and the table in the key.
type Seen = Arc<Mutex<BTreeMap<(&'static str, String), usize>>>;

fn count(seen: &Seen, name: &'static str, record: &Record) {
    let key = record.keys().expect("decoded");
    let Some(AttributeValue::S(id)) = key.get("id") else { panic!("a text") };
    let table = id.split('-').next().expect("a first part").to_owned();
    *seen.lock().expect("whole").entry((name, table)).or_default() += 1;
}

fn worker(sim: &Handle, service: &ReferenceStream, seen: &Seen) -> kcl_core::WorkerBuilder {
    let source: Arc<dyn StreamSource> = Arc::new(service.clone());
    let seen = seen.clone();
    let counting = move |name: &'static str| {
        let seen = seen.clone();
        move |record: Record| {
            count(&seen, name, &record);
            async { Ok::<(), ProcessError>(()) }
        }
    };
    let _ = sim;
    Worker::builder("sim", source, Arc::new(MemoryLeaseTable::new()))
        .start(StartPosition::TrimHorizon)
        .for_each(counting("any"))
        .consume(Stream::table("orders").for_each(counting("orders")))
        .consume(Stream::table("users").start(StartPosition::Latest).for_each(counting("users")))
        .table("stock")
        .configure(|config| config.with_start_slack(Duration::ZERO))
}

#[test]
fn each_stream_has_its_own_start_and_processors_and_the_rest_are_the_builders() {
    sim::run(1, |sim| async move {
        let service = ReferenceStream::new(sim.rt(), StreamOptions::unthrottled());
        for name in ["orders", "users", "stock"] {
            create(&service, name, 2);
            write(&service, name, 0..10);
        }
        sim.sleep(10 * SECOND).await;
        let (seen, told) = (Seen::default(), Arc::new(Mutex::new(Vec::new())));
        let builder = worker(&sim, &service, &seen);
        let events = told.clone();
        let owned = Arc::new(Mutex::new(Vec::new()));
        let shown = owned.clone();
        let _main = sim.node("a").boot(move |rt| async move {
            let worker = builder.rt(rt.clone()).build().await.expect("built");
            let (mut stream, handle) = (worker.handle().events(), worker.handle());
            let listen = async move {
                while let Some(event) = stream.next().await {
                    events.lock().expect("whole").push((event.stream, event.kind));
                    *shown.lock().expect("whole") = handle.status().shards;
                }
            };
            let _listener = rt.spawn("events", kcl_core::TaskClass::Lease, listen);
            worker.run().await.expect("runs");
        });
        sim.sleep(10 * SECOND).await;
        for name in ["orders", "users", "stock"] {
            write(&service, name, 10..15);
        }
        sim.sleep(10 * SECOND).await;
        let of = |name, table: &str, count| ((name, table.to_owned()), count);
        let wanted = [of("any", "stock", 15), of("orders", "orders", 15), of("users", "users", 5)];
        assert_eq!(*seen.lock().expect("whole"), BTreeMap::from(wanted));
        let told = told.lock().expect("whole");
        let acquired: Vec<_> =
            told.iter().filter(|(_, kind)| matches!(kind, EventKind::LeaseAcquired { .. })).collect();
        let mut tables: Vec<_> =
            acquired.iter().map(|(stream, _)| stream.as_ref().expect("named").table_name()).collect();
        tables.sort_unstable();
        assert_eq!(tables, ["orders", "orders", "stock", "stock", "users", "users"]);
        let owned = owned.lock().expect("whole");
        let mut tables: Vec<_> = owned.iter().map(|shard| shard.stream.table_name().to_owned()).collect();
        tables.sort_unstable();
        assert_eq!(tables, ["orders", "orders", "stock", "stock", "users", "users"]);
    });
}

#[test]
fn a_stream_without_processors_is_named() {
    sim::run(2, |sim| async move {
        let service = ReferenceStream::new(sim.rt(), StreamOptions::unthrottled());
        create(&service, "orders", 1);
        let source: Arc<dyn StreamSource> = Arc::new(service);
        let builder = Worker::builder("sim", source, Arc::new(MemoryLeaseTable::new()))
            .consume(Stream::table("orders").for_each(|_| async { Ok(()) }))
            .table("users");
        let error = builder.rt(sim.rt()).build().await.expect_err("users has no processor");
        assert!(error.to_string().contains("users"), "{error}");
    });
}

#[test]
fn a_stream_that_is_named_twice_is_refused_by_both_names() {
    sim::run(3, |sim| async move {
        let service = ReferenceStream::new(sim.rt(), StreamOptions::unthrottled());
        let [arn, ..] = ["orders", "users", "stock"].map(|name| create(&service, name, 1));
        let seen = Seen::default();
        let twice = |stream: Stream| worker(&sim, &service, &seen).consume(stream).rt(sim.rt()).build();
        let error = twice(Stream::arn(arn.as_str())).await.expect_err("refused").to_string();
        assert!(error.contains(&format!("orders and {arn} are the same stream")), "{error}");
        let table = arn.as_str().split("/stream/").next().expect("a first part");
        assert!(twice(Stream::table(table)).await.is_err(), "by the ARN of its table");
        let error = twice(Stream::table("stock")).await.expect_err("refused").to_string();
        assert!(error.contains("stock and stock are the same stream"), "{error}");
    });
}

#[test]
fn an_older_stream_that_is_named_beside_its_table_does_not_hold_up_the_newer_one() {
    for older_first in [true, false] {
        sim::run(4, |sim| async move {
            let service = ReferenceStream::new(sim.rt(), StreamOptions::unthrottled());
            let old = create(&service, "orders", 2);
            let (leases, seen) = (MemoryLeaseTable::new(), Seen::default());
            let of_old = || Stream::arn(old.as_str()).for_each(|_| std::future::pending());
            let of_table = || {
                let seen = seen.clone();
                Stream::table("orders").for_each(move |record: Record| {
                    count(&seen, "new", &record);
                    async { Ok::<(), ProcessError>(()) }
                })
            };
            let run = |name: &str, streams: Vec<Stream>| {
                let source: Arc<dyn StreamSource> = Arc::new(service.clone());
                let mut builder = Worker::builder("sim", source, Arc::new(leases.clone()));
                for stream in streams {
                    builder = builder.consume(stream);
                }
                let node = sim.node(name);
                let _main = node.boot(|rt| async move {
                    builder.rt(rt).build().await.expect("built").run().await.expect("runs");
                });
                node
            };
            // Whoever begins with a stream's ARN adds its table once the stream is replaced.
            let a = run("a", vec![of_old()]);
            sim.sleep(30 * SECOND).await;
            write(&service, "orders", 0..10);
            service.disable_stream(&table("orders")).expect("disabled");
            let _new = service.enable_stream(&table("orders"), StreamViewType::NewAndOldImages, 2).expect("enabled");
            write(&service, "orders", 10..20);
            a.kill();
            let both = if older_first { vec![of_old(), of_table()] } else { vec![of_table(), of_old()] };
            let _b = run("b", both);
            sim.sleep(120 * SECOND).await;
            let read = seen.lock().expect("whole").get(&("new", "orders".to_owned())).copied();
            assert_eq!(read, Some(10), "older first: {older_first}");
        });
    }
}
