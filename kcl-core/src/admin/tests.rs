//! An operator's calls on the table in memory.

mod broken_off;
mod ours;

use std::sync::atomic::{AtomicUsize, Ordering};

use super::*;
use crate::contract::{BootstrapMarker, SCHEMA_VERSION, TableItem, TableMeta, WorkerState};
use crate::model::{KeyForm, LeaseCounter, NewLease, PendingCheckpoint, StartPosition};
use crate::reference::MemoryLeaseTable;
use crate::testing::{run, virtual_rt};
use crate::wrap::{FaultyLeaseTable, LeaseFault, LeaseOperation, ObservedLeaseTable};
use std::time::{Duration, SystemTime};

const SECOND: Duration = Duration::from_secs(1);

fn stream() -> StreamArn {
    "arn:aws:dynamodb:eu-west-1:123456789012:table/T/stream/l".parse().expect("an ARN")
}

fn at(n: u128) -> Checkpoint {
    Checkpoint::Sequence(SequenceNumber::from_u128(n))
}

fn owner(name: &str) -> Owner {
    worker(name).owner()
}

fn new_lease(shard: &str, parent: Option<&str>) -> NewLease {
    let shard: ShardId = shard.parse().expect("a shard");
    NewLease {
        counter: LeaseCounter(0),
        key: LeaseKey::of(KeyForm::Qualified, &stream(), &shard),
        stream: stream(),
        shard,
        owner: None,
        parent: parent.map(|parent| parent.parse().expect("a shard")),
        starting_sequence: None,
        start_at: None,
        root: parent.is_none(),
    }
}

fn key(shard: &str) -> LeaseKey {
    new_lease(shard, None).key
}

/// A lease of the stream in some state.
fn put(table: &MemoryLeaseTable, shard: &str, parent: Option<&str>, checkpoint: Checkpoint, owned_by: Option<&str>) {
    let mut lease = new_lease(shard, parent).created();
    lease.checkpoint = checkpoint;
    lease.owner = owned_by.map(owner);
    lease.counter.0 = 10;
    table.put_lease(lease);
}

fn get(table: &MemoryLeaseTable, shard: &str) -> Lease {
    let leases = table.leases();
    leases.into_iter().find(|lease| lease.shard.as_str() == shard).expect("it is there")
}

/// Runs a test in both ways to show life.
fn in_both_modes(test: impl AsyncFn(Liveness)) {
    for mode in [Liveness::PerLease, Liveness::PerWorker] {
        run(test(mode));
    }
}

fn worker(name: &str) -> WorkerId {
    WorkerId::new(name, 1).expect("a name")
}

async fn state_of(table: &MemoryLeaseTable, name: &str) -> WorkerState {
    table.worker(&worker(name)).await.expect("read").expect("there").state
}

/// A table of that mode, with two workers that live.
async fn table_of(mode: Liveness) -> MemoryLeaseTable {
    let table = MemoryLeaseTable::new();
    let meta = TableMeta { schema: SCHEMA_VERSION, liveness: mode, key_form: KeyForm::Qualified };
    table.fix_meta(&meta).await.expect("fixed");
    for name in ["v", "w"] {
        table.register_worker(&worker(name), 100).await.expect("registered");
    }
    table
}

/// `a` is finished and so is its child `b`; `c` continues `b` and is read; `d` is a half read child of `a`; `z` has nothing to do with
/// them.
async fn lineage(mode: Liveness) -> MemoryLeaseTable {
    let table = table_of(mode).await;
    put(&table, "a", None, Checkpoint::ShardEnd, None);
    put(&table, "b", Some("a"), Checkpoint::ShardEnd, None);
    put(&table, "c", Some("b"), at(30), Some("w"));
    put(&table, "d", Some("a"), at(40), None);
    put(&table, "z", None, at(50), Some("w"));
    table
}

fn admin(table: &MemoryLeaseTable) -> Admin {
    Admin::new(Arc::new(table.clone()), virtual_rt())
}

#[test]
fn a_rewind_takes_back_a_shard_and_everything_that_continues_it() {
    in_both_modes(async |mode| {
        let table = lineage(mode).await;
        let z = get(&table, "z");
        let rewound =
            admin(&table).rewind(&key("a"), RewindTo::After(SequenceNumber::from_u128(5))).await.expect("done");
        let shards: Vec<&str> = rewound.iter().map(|one| one.shard.as_str()).collect();
        assert_eq!(shards, ["a", "b", "d", "c"]);
        assert_eq!((rewound[0].from, rewound[0].to), (Checkpoint::ShardEnd, at(5)));
        assert_eq!(rewound[3].owner, Some(owner("w")));
        assert_eq!(get(&table, "a").checkpoint, at(5));
        for shard in ["b", "c", "d"] {
            assert_eq!(get(&table, shard).checkpoint, Checkpoint::TrimHorizon, "{shard}");
        }
        assert_eq!(get(&table, "z"), z, "what does not continue it is left alone");
        assert!(table.leases().iter().all(|lease| !lease.loss_accepted), "the operator named a record");
    });
}

#[test]
fn nobody_may_take_a_rewound_lease_while_a_child_of_it_may_still_be_read() {
    in_both_modes(async |mode| {
        let table = lineage(mode).await;
        admin(&table).rewind(&key("a"), RewindTo::TrimHorizon).await.expect("done");
        for (shard, holder) in [("a", Some(owner("w"))), ("c", Some(owner("w")))] {
            let lease = get(&table, shard);
            assert_eq!((lease.owner, lease.evicted), (holder, true), "{shard}");
        }
        // Nobody held these. A reader that sees them before it sees the parent must still not take them.
        for shard in ["b", "d"] {
            let lease = get(&table, shard);
            assert_eq!(
                (lease.owner.expect("held").as_str(), lease.evicted),
                ("operator/0000000000000000", true),
                "{shard}"
            );
        }
        assert!(["a", "b", "c", "d"].iter().all(|shard| get(&table, shard).loss_accepted));
    });
}

#[test]
fn a_rewound_lease_that_nobody_reads_is_free_at_once() {
    in_both_modes(async |mode| {
        let table = table_of(mode).await;
        put(&table, "a", None, at(9), None);
        // The Java library leaves the owner of a finished lease named.
        put(&table, "b", None, Checkpoint::ShardEnd, Some("java"));
        for shard in ["a", "b"] {
            admin(&table).rewind(&key(shard), RewindTo::TrimHorizon).await.expect("done");
            let lease = get(&table, shard);
            assert_eq!((lease.owner, lease.evicted, lease.checkpoint), (None, false, Checkpoint::TrimHorizon));
        }
    });
}

#[test]
fn a_rewind_takes_what_was_prepared_and_the_filter_with_it_and_leaves_a_stop() {
    in_both_modes(async |mode| {
        let table = table_of(mode).await;
        put(&table, "a", None, at(9), None);
        let mut lease = get(&table, "a");
        lease.pending = Some(PendingCheckpoint { at: at(12), state: None });
        lease.start_at = Some(SystemTime::UNIX_EPOCH + SECOND);
        lease.stop = Some(StopReason::ProcessorFailed { error: "it broke".to_owned() });
        table.put_lease(lease.clone());
        let rewound = admin(&table).rewind(&key("a"), RewindTo::TrimHorizon).await.expect("done");
        assert_eq!(rewound[0].stop, lease.stop);
        let now = get(&table, "a");
        assert_eq!((now.pending, now.start_at, now.stop), (None, None, lease.stop));
    });
}

#[test]
fn a_rewind_only_goes_back() {
    in_both_modes(async |mode| {
        let table = table_of(mode).await;
        put(&table, "a", None, at(9), None);
        put(&table, "b", None, Checkpoint::TrimHorizon, None);
        let before = table.leases();
        let admin = admin(&table);
        let to = |n| RewindTo::After(SequenceNumber::from_u128(n));
        assert_eq!(admin.rewind(&key("a"), to(9)).await.expect("it is there"), []);
        let forward = admin.rewind(&key("a"), to(10)).await;
        assert!(matches!(forward, Err(AdminError::NotBack { .. })), "{forward:?}");
        let unread = admin.rewind(&key("b"), RewindTo::After(SequenceNumber::from_u128(1))).await;
        assert!(matches!(unread, Err(AdminError::NotBack { .. })), "{unread:?}");
        assert_eq!(admin.rewind(&key("b"), RewindTo::TrimHorizon).await.expect("nothing to do"), []);
        let unknown = admin.rewind(&key("x"), RewindTo::TrimHorizon).await;
        assert!(matches!(unknown, Err(AdminError::NoLease { .. })), "{unknown:?}");
        assert_eq!(table.leases(), before);
    });
}

#[test]
fn a_lineage_that_one_step_cannot_hold_is_refused_whole() {
    in_both_modes(async |mode| {
        let table = table_of(mode).await;
        put(&table, "a", None, Checkpoint::ShardEnd, None);
        for n in 0..100 {
            put(&table, &format!("child-{n}"), Some("a"), at(1), None);
        }
        let before = table.leases();
        let refused = admin(&table).rewind(&key("a"), RewindTo::TrimHorizon).await;
        assert!(matches!(refused, Err(AdminError::TooManyDescendants { count: 101, .. })), "{refused:?}");
        assert_eq!(table.leases(), before);
    });
}

#[test]
fn a_whole_stream_is_rewound_and_no_other() {
    in_both_modes(async |mode| {
        let table = lineage(mode).await;
        let mut other = new_lease("o", None);
        other.stream = "arn:aws:dynamodb:eu-west-1:123456789012:table/O/stream/l".parse().expect("an ARN");
        other.key = LeaseKey::of(KeyForm::Qualified, &other.stream, &other.shard);
        let mut other = other.created();
        other.checkpoint = at(3);
        table.put_lease(other.clone());
        let rewound = admin(&table).rewind_stream(&stream()).await.expect("done");
        assert_eq!(rewound.len(), 5);
        for lease in table.leases() {
            let expected = if lease.shard.as_str() == "o" { at(3) } else { Checkpoint::TrimHorizon };
            assert_eq!(lease.checkpoint, expected, "{}", lease.shard);
        }
        let elsewhere = "arn:aws:dynamodb:eu-west-1:123456789012:table/X/stream/l".parse().expect("an ARN");
        let unknown = admin(&table).rewind_stream(&elsewhere).await;
        assert!(matches!(unknown, Err(AdminError::NoStream { .. })), "{unknown:?}");
    });
}

#[test]
fn a_write_that_an_owner_was_faster_than_is_decided_anew() {
    in_both_modes(async |mode| {
        let table = lineage(mode).await;
        // The owner of `c` renews it between the operator's read and write, three times.
        let (inner, renewals) = (table.clone(), AtomicUsize::new(0));
        let observed = ObservedLeaseTable::new(Arc::new(table.clone()), move |call| {
            if call.operation == LeaseOperation::Get
                && call.subject.ends_with(":c")
                && renewals.fetch_add(1, Ordering::SeqCst) < 3
            {
                inner.put_lease(get(&inner, "c").after(&LeaseWrite::renew()));
            }
        });
        let admin = Admin::new(Arc::new(observed), virtual_rt());
        admin.rewind(&key("a"), RewindTo::TrimHorizon).await.expect("done");
        assert_eq!(get(&table, "c").checkpoint, Checkpoint::TrimHorizon);
        assert_eq!(get(&table, "a").counter.0, 11, "written once");
    });
}

#[test]
fn a_write_whose_answer_was_lost_is_recognised() {
    in_both_modes(async |mode| {
        let (table, lost) = (lineage(mode).await, AtomicUsize::new(0));
        let faulty = FaultyLeaseTable::new(Arc::new(table.clone()), virtual_rt(), move |call| {
            let first = call.operation == LeaseOperation::WriteAll && lost.fetch_add(1, Ordering::SeqCst) == 0;
            if first { LeaseFault::ReplyLost } else { LeaseFault::None }
        });
        let admin = Admin::new(Arc::new(faulty), virtual_rt());
        assert_eq!(admin.rewind(&key("a"), RewindTo::TrimHorizon).await.expect("done").len(), 4);
        assert_eq!(get(&table, "a").counter.0, 11, "written once");
    });
}

#[test]
fn a_write_that_may_still_be_applied_is_an_error_that_says_so() {
    in_both_modes(async |mode| {
        let table = lineage(mode).await;
        let faulty = FaultyLeaseTable::new(Arc::new(table.clone()), virtual_rt(), |call| match call.operation {
            LeaseOperation::WriteAll => LeaseFault::Late { applied_after: 3600 * SECOND, told_after: None },
            _ => LeaseFault::None,
        });
        let admin = Admin::new(Arc::new(faulty), virtual_rt());
        let unknown = admin.rewind(&key("a"), RewindTo::TrimHorizon).await;
        assert!(matches!(unknown, Err(AdminError::Unknown { .. })), "{unknown:?}");
    });
}

#[test]
fn an_owner_is_made_to_let_go() {
    in_both_modes(async |mode| {
        let table = lineage(mode).await;
        let admin = admin(&table);
        let to = WorkerId::new("v", 2).expect("a name");
        assert_eq!(admin.release(&key("c"), Some(&to)).await.expect("done"), owner("w"));
        let lease = get(&table, "c");
        assert_eq!((lease.owner, lease.evicted, lease.intended_for), (Some(owner("w")), true, Some(to.owner())));
        assert_eq!((lease.checkpoint, lease.counter.0), (at(30), 11));
        let already = admin.release(&key("z"), Some(&worker("w"))).await.expect("it has it");
        assert_eq!((already, get(&table, "z").counter.0), (owner("w"), 10), "nothing is to be done");
        for shard in ["a", "d"] {
            let nobody = admin.release(&key(shard), None).await;
            assert!(matches!(nobody, Err(AdminError::NotOwned { .. })), "{nobody:?}");
        }
    });
}

#[test]
fn a_worker_whose_leases_do_not_show_that_it_lives_is_evicted_with_its_lease() {
    in_both_modes(async |mode| {
        let expected = if mode == Liveness::PerWorker { WorkerState::Evicted } else { WorkerState::Live };
        for call in [0, 1] {
            let table = lineage(mode).await;
            put(&table, "c", Some("b"), at(30), Some("x"));
            // Scans do not show the owner's item yet.
            table.set_scan_lag(1);
            table.register_worker(&worker("x"), 100).await.expect("registered");
            if call == 0 {
                admin(&table).release(&key("c"), None).await.map(drop).expect("done");
            } else {
                admin(&table).rewind(&key("a"), RewindTo::TrimHorizon).await.map(drop).expect("done");
            }
            assert_eq!((state_of(&table, "x").await, state_of(&table, "w").await), (expected, WorkerState::Live));
        }
    });
}

#[test]
fn a_child_that_was_made_while_the_table_was_scanned_is_taken_back_with_its_parent() {
    in_both_modes(async |mode| {
        let table = lineage(mode).await;
        let c = get(&table, "c");
        let child = |shard: &str| NewLease { owner: c.owner.clone(), ..new_lease(shard, Some("c")) };
        // Scans do not show yet what the finish has written.
        table.set_scan_lag(3);
        table.finish(&c.key, &c.guard(), &[child("e"), child("f")]).await.expect("finished");
        let rewound = admin(&table).rewind(&key("b"), RewindTo::TrimHorizon).await.expect("done");
        let shards: Vec<&str> = rewound.iter().map(|one| one.shard.as_str()).collect();
        assert_eq!(shards, ["b", "c", "e", "f"]);
        assert!(get(&table, "e").evicted && get(&table, "f").evicted);
    });
}

#[test]
fn a_worker_is_evicted_by_name() {
    in_both_modes(async |mode| {
        let table = table_of(mode).await;
        let unknown = admin(&table).evict_worker(&worker("x")).await;
        assert!(matches!(unknown, Err(AdminError::NoWorker { .. })), "{unknown:?}");
        for _ in 0..2 {
            admin(&table).evict_worker(&worker("w")).await.expect("done");
            assert_eq!(
                (state_of(&table, "w").await, state_of(&table, "v").await),
                (WorkerState::Evicted, WorkerState::Live)
            );
        }
    });
}

#[test]
fn a_stop_is_cleared_and_only_a_loss_can_be_skipped() {
    in_both_modes(async |mode| {
        let failed = StopReason::ProcessorFailed { error: "it broke".to_owned() };
        let lost = StopReason::DataLost { lost: "some".to_owned() };
        for (reason, resume, cleared) in [
            (failed.clone(), Resume::Retry, true),
            (failed, Resume::SkipLost, false),
            (lost.clone(), Resume::Retry, true),
            (lost, Resume::SkipLost, true),
        ] {
            let table = table_of(mode).await;
            put(&table, "a", None, at(9), None);
            let mut lease = get(&table, "a");
            lease.stop = Some(reason.clone());
            table.put_lease(lease);
            let result = admin(&table).clear_stop(&key("a"), resume).await;
            let now = get(&table, "a");
            if cleared {
                assert_eq!(result.expect("cleared"), reason);
                assert_eq!((now.stop, now.loss_accepted), (None, resume == Resume::SkipLost));
                let again = admin(&table).clear_stop(&key("a"), resume).await;
                assert!(matches!(again, Err(AdminError::NotStopped { .. })), "{again:?}");
            } else {
                assert!(matches!(result, Err(AdminError::NotALoss { .. })), "{result:?}");
                assert_eq!(now.stop, Some(reason));
            }
        }
    });
}
