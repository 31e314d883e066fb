//! The suite on the table in memory, bare and in every wrapper.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;

use super::support::{owned, owner, plain};
use super::*;
use crate::contract::{LeaseErrorKind, LeaseTable, Outcome};
use crate::model::LeaseWrite;
use crate::reference::MemoryLeaseTable;
use crate::testing::virtual_rt;
use crate::wrap::{CountingLeaseTable, FaultyLeaseTable, LatencyLeaseTable, LeaseFault, LeaseOperation};

type Wrap = fn(Arc<dyn LeaseTable>) -> Arc<dyn LeaseTable>;

struct Beds(Wrap);

struct Bed {
    memory: MemoryLeaseTable,
    table: Arc<dyn LeaseTable>,
}

#[async_trait]
impl LeaseTableBeds for Beds {
    fn capabilities(&self) -> LeaseTableCapabilities {
        LeaseTableCapabilities { unknown_attributes: true, foreign_items: true, fresh_scans: true }
    }

    async fn bed(&self) -> Box<dyn LeaseTableBed> {
        let memory = MemoryLeaseTable::new().with_page_size(7);
        Box::new(Bed { table: (self.0)(Arc::new(memory.clone())), memory })
    }
}

#[async_trait]
impl LeaseTableBed for Bed {
    fn table(&self) -> Arc<dyn LeaseTable> {
        self.table.clone()
    }

    async fn put_attribute(&self, key: &str, name: &str, value: &str) {
        assert!(self.memory.put_attribute(key, name, value));
    }

    async fn attribute(&self, key: &str, name: &str) -> Option<String> {
        self.memory.attributes(key).get(name).cloned()
    }

    async fn put_foreign(&self, key: &str) {
        self.memory.put_foreign(key, "it is of another library");
    }
}

async fn holds(wrap: Wrap) {
    let report = lease_table_suite(&Beds(wrap)).await;
    assert_eq!(report.skipped, <[&str; 0]>::default());
    assert_eq!(report.passed.len(), LEASE_TABLE_CASES.len());
}

#[tokio::test]
async fn the_table_in_memory_keeps_every_promise() {
    holds(|table| table).await;
}

#[tokio::test]
async fn a_counting_table_keeps_every_promise() {
    holds(|table| Arc::new(CountingLeaseTable::new(table))).await;
}

#[tokio::test(start_paused = true)]
async fn a_slow_table_keeps_every_promise() {
    holds(|table| {
        Arc::new(LatencyLeaseTable::new(table, virtual_rt(), Duration::from_millis(1)..=Duration::from_millis(30)))
    })
    .await;
}

#[tokio::test]
async fn a_faulty_table_without_faults_keeps_every_promise() {
    holds(|table| Arc::new(FaultyLeaseTable::new(table, virtual_rt(), |_| LeaseFault::None))).await;
}

#[tokio::test]
async fn wrappers_in_wrappers_keep_every_promise() {
    holds(|table| {
        let counted: Arc<dyn LeaseTable> = Arc::new(CountingLeaseTable::new(table));
        Arc::new(CountingLeaseTable::new(counted))
    })
    .await;
}

#[tokio::test]
async fn calls_are_counted_by_method() {
    let counting = CountingLeaseTable::new(Arc::new(MemoryLeaseTable::new()));
    let table: Arc<dyn LeaseTable> = Arc::new(counting.clone());
    let lease = owned(&table, "shardId-a").await.expect("created");
    table.create(&plain("shardId-a")).await.expect_err("it exists");
    table.get(&lease.key).await.expect("read");
    let counts = counting.take_counts();
    assert_eq!((counts.of(LeaseOperation::Create), counts.writes(), counts.reads()), (2, 2, 1));
    assert_eq!(counting.counts().writes(), 0);
}

#[tokio::test(start_paused = true)]
async fn each_fault_is_what_its_name_says() {
    let late = |told_after| LeaseFault::Late { applied_after: Duration::from_secs(60), told_after };
    let told = Some(Duration::from_secs(3));
    for (fault, kind, at_once, in_the_end) in [
        (LeaseFault::NotApplied, LeaseErrorKind::Unavailable { outcome: Outcome::NotApplied }, false, false),
        (LeaseFault::Throttled, LeaseErrorKind::Throttled, false, false),
        (LeaseFault::Denied { action: "UpdateItem" }, LeaseErrorKind::Denied { action: "UpdateItem" }, false, false),
        (LeaseFault::ReplyLost, LeaseErrorKind::Unavailable { outcome: Outcome::Unknown }, true, true),
        (late(told), LeaseErrorKind::Unavailable { outcome: Outcome::Unknown }, false, true),
    ] {
        let (memory, rt) = (MemoryLeaseTable::new(), virtual_rt());
        let inner: Arc<dyn LeaseTable> = Arc::new(memory.clone());
        let lease = owned(&inner, "shardId-a").await.expect("created");
        let table = FaultyLeaseTable::new(inner, rt.clone(), move |call| {
            if call.operation == LeaseOperation::Write { fault } else { LeaseFault::None }
        });
        let error =
            table.write(&lease.key, &lease.guard(), &LeaseWrite::take(owner("w/2"))).await.expect_err("a fault");
        assert_eq!(*error.kind(), kind);
        assert_eq!(memory.leases()[0] != lease, at_once, "{fault:?}");
        drop(table);
        rt.sleep(Duration::from_secs(61)).await;
        assert_eq!(memory.leases()[0] != lease, in_the_end, "{fault:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_late_write_outlives_a_caller_that_is_never_told() {
    let (memory, rt) = (MemoryLeaseTable::new(), virtual_rt());
    let table = FaultyLeaseTable::new(Arc::new(memory.clone()), rt.clone(), |_| LeaseFault::Late {
        applied_after: Duration::from_secs(9),
        told_after: None,
    });
    assert!(rt.timeout(Duration::from_secs(3), table.create(&plain("shardId-a"))).await.is_none());
    assert_eq!(memory.leases(), []);
    rt.sleep(Duration::from_secs(7)).await;
    assert_eq!(memory.leases().len(), 1);
}
