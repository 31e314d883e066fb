//! Reader slots in unusual company: applications that only ask at the start, that read several streams, whose clocks are wrong.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use kcl_core::reference::{MemoryLeaseTable, MemoryReaderRegistry, StreamOptions};
use kcl_core::{
    BuildError, ReaderPolicy, ReaderRegistry, ReaderSlots, RegistryError, RegistryErrorKind, SlotClaim, StreamArn,
    StreamSource, StreamViewType, Worker, WorkerConfig,
};

use super::readers::{App, World, held, lost};

const MINUTE: Duration = Duration::from_secs(60);

#[test]
fn of_two_applications_that_only_ask_at_the_start_one_gets_the_place_of_a_dead_one() {
    for seed in 0..5 {
        sim::run(seed, |sim| async move {
            let world = World::new(&sim, StreamOptions::unthrottled());
            let [a, b] = ["mailer", "indexer"].map(|name| world.join(name));
            sim.sleep(MINUTE).await;
            a.node.kill();
            sim.sleep(4 * MINUTE).await;
            // The slot looks abandoned to both.
            let admit_only = |config: WorkerConfig| config.with_readers(ReaderPolicy::AdmitOnly);
            let [c, d] =
                ["archiver", "auditor"].map(|name| world.join_with(name, name, MemoryLeaseTable::new(), admit_only));
            world.write(100);
            sim.sleep(10 * MINUTE).await;
            let mut read = [c.read(), d.read()];
            read.sort_unstable();
            assert_eq!((b.read(), read), (100, [0, 100]), "seed {seed}: three read");
        });
    }
}

#[test]
fn an_application_that_is_refused_for_one_stream_keeps_nobody_from_another() {
    sim::run(1, |sim| async move {
        let world = World::new(&sim, StreamOptions::default());
        let view = StreamViewType::NewAndOldImages;
        let users = world.service.create_table(&"users".parse().expect("legal"), &["id"], view, 1).expect("a stream");
        let claim = |name: &str| SlotClaim {
            slot: usize::from(name == "y"),
            holder: kcl_core::Reader { application: name.to_owned(), lease_table: name.to_owned() },
            life: 3 * MINUTE,
            renewed_at: sim.rt().wall(),
        };
        for name in ["x", "y"] {
            let seen = world.registry.slots(&users).await.expect("read");
            world.registry.write(&users, &seen, &claim(name)).await.expect("claimed");
        }
        let source: Arc<dyn StreamSource> = Arc::new(world.service.clone());
        let builder = Worker::builder("greedy", source, Arc::new(MemoryLeaseTable::new()))
            .table("orders")
            .table("users")
            .reader_registry(Arc::new(world.registry.clone()), "greedy")
            .for_each(|_| async { Ok(()) });
        let refused = builder.rt(sim.rt()).build().await.expect_err("users has two readers");
        assert!(matches!(&refused, BuildError::ReaderLimit(limit) if limit.stream == users), "{refused}");
        assert!(!world.registry.snapshot().contains_key(&world.stream), "a slot that nobody uses");
    });
}

#[test]
fn the_slot_of_a_dead_application_frees_itself_though_its_clock_was_ahead() {
    sim::run(2, |sim| async move {
        let world = World::new(&sim, StreamOptions::default());
        let [a, b] = ["mailer", "indexer"].map(|name| world.join(name));
        a.node.set_wall_ahead(24 * 60 * MINUTE);
        sim.sleep(3 * MINUTE).await;
        a.node.kill();
        world.write(100);
        sim.sleep(4 * MINUTE).await;
        let c = world.join("archiver");
        sim.sleep(4 * MINUTE).await;
        assert!(c.refusal().is_none(), "it was refused for a slot that stands still");
        assert_eq!((b.read(), c.read(), b.count(lost), c.count(held)), (100, 100, 0, 1));
    });
}

/// A registry that throttles its first calls.
#[derive(Debug)]
struct Busy {
    inner: MemoryReaderRegistry,
    throttled: AtomicUsize,
}

impl Busy {
    fn check(&self) -> Result<(), RegistryError> {
        let left = self.throttled.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1));
        left.map_or(Ok(()), |_| Err(RegistryError::new(RegistryErrorKind::Throttled, "slots")))
    }
}

#[async_trait::async_trait]
impl ReaderRegistry for Busy {
    async fn slots(&self, stream: &StreamArn) -> Result<ReaderSlots, RegistryError> {
        self.check()?;
        self.inner.slots(stream).await
    }

    async fn write(
        &self,
        stream: &StreamArn,
        seen: &ReaderSlots,
        claim: &SlotClaim,
    ) -> Result<ReaderSlots, RegistryError> {
        self.check()?;
        self.inner.write(stream, seen, claim).await
    }
}

#[test]
fn a_registry_that_throttles_for_a_moment_ends_no_start() {
    sim::run(3, |sim| async move {
        let world = World::new(&sim, StreamOptions::default());
        let registry = Arc::new(Busy { inner: world.registry.clone(), throttled: AtomicUsize::new(3) });
        let source: Arc<dyn StreamSource> = Arc::new(world.service.clone());
        let builder = Worker::builder("mailer", source, Arc::new(MemoryLeaseTable::new()))
            .table("orders")
            .reader_registry(registry, "mailer")
            .for_each(|_| async { Ok(()) });
        let _worker = builder.rt(sim.rt()).build().await.expect("built in the end");
        assert!(world.registry.snapshot().contains_key(&world.stream));
    });
}

fn status(app: &App) -> kcl_core::WorkerStatus {
    app.handle.lock().expect("whole").as_ref().expect("built").status()
}

#[test]
fn the_status_of_a_worker_that_has_ended_shows_nothing_as_its_own() {
    for stopped in [true, false] {
        sim::run(4, |sim| async move {
            let world = World::new(&sim, StreamOptions::default());
            let a = world.join("mailer");
            sim.sleep(MINUTE).await;
            let before = status(&a);
            assert_eq!((before.reader_slots.len(), before.shards.len(), before.live_workers), (1, 2, 1));
            if stopped {
                a.handle.lock().expect("whole").as_ref().expect("built").shutdown();
            } else {
                a.node.kill();
            }
            sim.sleep(10 * MINUTE).await;
            let after = status(&a);
            assert_eq!(after.phase, kcl_core::Phase::Ended);
            assert_eq!((after.reader_slots.len(), after.shards.len()), (0, 0), "stopped {stopped}: {after:?}");
            assert_eq!((after.live_workers, after.leases_seen), (0, 0), "stopped {stopped}: {after:?}");
        });
    }
}
