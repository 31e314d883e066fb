//! Calls whose operator dies, at each of their requests, and which are made again.

use std::sync::atomic::{AtomicUsize, Ordering};

use futures::future::{Either, select};
use tokio::sync::Notify;

use super::*;

/// What an operator may call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Call {
    Rewind(RewindTo),
    RewindStream,
    Release,
    ReleaseTo,
    EvictWorker,
    ClearStop,
    RemoveOurs,
    ChangeLiveness,
}

fn calls() -> [Call; 9] {
    [
        Call::Rewind(RewindTo::TrimHorizon),
        Call::Rewind(RewindTo::After(SequenceNumber::from_u128(5))),
        Call::RewindStream,
        Call::Release,
        Call::ReleaseTo,
        Call::EvictWorker,
        Call::ClearStop,
        Call::RemoveOurs,
        Call::ChangeLiveness,
    ]
}

impl Call {
    async fn make(self, admin: &Admin, mode: Liveness) -> Result<(), AdminError> {
        match self {
            Self::Rewind(to) => admin.rewind(&key("a"), to).await.map(drop),
            Self::RewindStream => admin.rewind_stream(&stream()).await.map(drop),
            Self::Release => admin.release(&key("c"), None).await.map(drop),
            Self::ReleaseTo => admin.release(&key("c"), Some(&worker("v"))).await.map(drop),
            Self::EvictWorker => admin.evict_worker(&worker("w")).await,
            Self::ClearStop => admin.clear_stop(&key("d"), Resume::SkipLost).await.map(drop),
            Self::RemoveOurs => admin.remove_ours(SECOND).await.map(drop),
            Self::ChangeLiveness => admin.change_liveness(other(mode), SECOND).await.map(drop),
        }
    }

    /// What the call is made on: leases of two live workers, where only one of the calls is about a stopped one.
    async fn table(self, mode: Liveness) -> MemoryLeaseTable {
        let table = lineage(mode).await;
        if self == Self::ClearStop {
            let mut lease = get(&table, "d");
            lease.stop = Some(StopReason::DataLost { lost: "some".to_owned() });
            table.put_lease(lease);
        }
        table
    }
}

fn other(mode: Liveness) -> Liveness {
    if mode == Liveness::PerLease { Liveness::PerWorker } else { Liveness::PerLease }
}

/// What is in a table, but for how often it was written.
fn contents(table: &MemoryLeaseTable) -> Vec<TableItem> {
    let mut items = table.snapshot();
    for item in &mut items {
        match item {
            TableItem::Lease(lease) => Arc::make_mut(lease).counter.0 = 0,
            TableItem::Worker(worker) => worker.counter.0 = 0,
            _ => {}
        }
    }
    items
}

/// Makes the call until its `nth` request, which reaches the table or not; then the operator dies. Returns whether it came to that.
async fn broken_off(table: &MemoryLeaseTable, call: Call, mode: Liveness, nth: usize, applied: bool) -> bool {
    let (made, dead) = (AtomicUsize::new(0), Arc::new(Notify::new()));
    let dies = dead.clone();
    let faulty = FaultyLeaseTable::new(Arc::new(table.clone()), virtual_rt(), move |_| {
        if made.fetch_add(1, Ordering::SeqCst) != nth {
            return LeaseFault::None;
        }
        dies.notify_one();
        LeaseFault::Carried { there: applied.then_some(Duration::ZERO), back: None }
    });
    let admin = Admin::new(Arc::new(faulty), virtual_rt());
    let (making, dead) = (std::pin::pin!(call.make(&admin, mode)), std::pin::pin!(dead.notified()));
    match select(dead, making).await {
        Either::Left(_) => true,
        Either::Right((done, _)) => {
            done.expect("nothing went wrong");
            false
        }
    }
}

#[test]
fn a_call_whose_operator_dies_at_any_request_is_finished_by_the_same_call() {
    in_both_modes(async |mode| {
        for call in calls() {
            let whole = call.table(mode).await;
            call.make(&admin(&whole), mode).await.expect("done");
            for applied in [false, true] {
                let mut nth = 0;
                loop {
                    let table = call.table(mode).await;
                    if !broken_off(&table, call, mode, nth, applied).await {
                        break;
                    }
                    // What is under way arrives.
                    virtual_rt().sleep(SECOND).await;
                    match call.make(&admin(&table), mode).await {
                        Ok(()) => {}
                        Err(AdminError::NotStopped { .. }) if call == Call::ClearStop => {}
                        Err(error) => panic!("{mode:?} {call:?}, request {nth}: {error}"),
                    }
                    assert_eq!(
                        contents(&table),
                        contents(&whole),
                        "{mode:?} {call:?}, request {nth}, applied: {applied}"
                    );
                    nth += 1;
                }
                assert!(nth > 1, "{call:?}: the call was made of {nth} requests");
            }
        }
    });
}
