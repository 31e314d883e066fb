//! A stream that was left for its successor and is rewound, where requests are slow or fail: `replaced` has it where nothing does.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use kcl_core::wrap::LatencySource;
use kcl_core::{Admin, EventKind, SourceOp};

use crate::readers::Cut;
use crate::replaced::World;

const SECOND: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_secs(60);

#[test]
fn a_fleet_that_starts_after_a_rewind_reads_the_older_one_to_its_end_first() {
    sim::run(1, |sim| async move {
        let (mut world, old) = World::of(&sim, 1);
        let a = world.join("a");
        sim.sleep(MINUTE).await;
        let new = world.replaced_and_read(&old).await;
        a.kill();
        sim.sleep(MINUTE).await;
        Admin::new(Arc::new(world.leases.clone()), sim.rt()).rewind_stream(&old).await.expect("rewound");
        world.write("later", 50);
        world.delivered.lock().expect("whole").clear();
        world.told.lock().expect("whole").clear();
        world.per_batch = 2 * SECOND;
        let _b = world.join_with("b", |config| config.with_batch_size(10));
        sim.sleep(5 * MINUTE).await;
        assert_eq!(world.counts(), BTreeMap::from([(old.clone(), 200), (new.clone(), 50)]));
        assert!(world.in_order(&old));
        let told = world.told.lock().expect("whole");
        let first = |such: fn(&EventKind) -> bool| told.iter().position(|(_, kind)| such(kind));
        let finished = first(|kind| matches!(kind, EventKind::ShardFinished { .. }));
        let replaced = first(|kind| matches!(kind, EventKind::StreamReplaced { .. }));
        assert!(finished < replaced, "it was told to be read to its end at {replaced:?}, a shard at {finished:?}");
        drop(told);
        assert_eq!(world.replaced(), [(old, new)]);
    });
}

/// A discovery that began before the rewind says that all is read, after the rewound lease was taken.
#[test]
fn a_rewound_stream_is_read_again_although_a_discovery_was_under_way() {
    for offset in 0..20 {
        sim::run(offset, |sim| async move {
            let (mut world, old) = World::of(&sim, 1);
            let (seconds, cut) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicBool::new(false)));
            let slow = seconds.clone();
            let source = LatencySource::new(world.source.clone(), sim.rt(), move |op| match op {
                SourceOp::DescribeStream => Duration::from_secs(slow.load(Ordering::Relaxed)),
                _ => Duration::ZERO,
            });
            world.source = Arc::new(source);
            world.slots = Arc::new(Cut { inner: world.registry.clone(), cut: cut.clone() });
            let _a = world.join("a");
            sim.sleep(MINUTE).await;
            world.write("old", 200);
            world.service.disable_stream(&world.table).expect("disabled");
            world.enable();
            sim.sleep(20 * MINUTE).await;
            assert_eq!(world.counts()[&old], 200);
            seconds.store(4, Ordering::Relaxed);
            sim.sleep(MINUTE + offset as u32 * 3 * SECOND / 2).await;
            cut.store(true, Ordering::Relaxed);
            Admin::new(Arc::new(world.leases.clone()), sim.rt()).rewind_stream(&old).await.expect("rewound");
            sim.sleep(40 * SECOND).await;
            cut.store(false, Ordering::Relaxed);
            sim.sleep(120 * MINUTE).await;
            assert_eq!(world.counts()[&old], 400, "offset {offset}: never read again");
        });
    }
}
