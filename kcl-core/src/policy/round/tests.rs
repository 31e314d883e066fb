use std::time::Duration;

use super::*;
use crate::model::{LeaseWrite, NewLease};

const SECOND: Duration = Duration::from_secs(1);
const D: LeaseTiming = LeaseTiming::new(Duration::from_secs(10));

fn stream() -> StreamArn {
    "arn:aws:dynamodb:r:123456789012:table/t/stream/l".parse().expect("legal")
}

fn id(n: u64) -> WorkerId {
    WorkerId::new("w", n).expect("legal")
}

fn item(n: u64, counter: i64, state: WorkerState) -> WorkerItem {
    WorkerItem { id: id(n), counter: LeaseCounter(counter), state, weight: 100 }
}

fn lease(owner: u64) -> Lease {
    let shard: crate::model::ShardId = "s-1".parse().expect("legal");
    NewLease {
        counter: LeaseCounter(0),
        key: LeaseKey::of(KeyForm::Bare, &stream(), &shard),
        stream: stream(),
        shard,
        owner: Some(id(owner).owner()),
        parent: None,
        starting_sequence: None,
        start_at: None,
        root: true,
    }
    .created()
}

/// Looks at the table once a second, and sees the same each time.
fn looked_for(seconds: u64, leases: &[Lease], workers: &[WorkerItem]) -> (Observations, Mono) {
    let (mut seen, mut now) = (Observations::default(), Mono::default());
    for _ in 0..=seconds {
        now = now + SECOND;
        seen.saw(leases.to_vec(), workers.to_vec(), now);
    }
    (seen, now)
}

fn with_own<T>(liveness: Liveness, look: impl FnOnce(&Own<'_>, &Streams<'_>) -> T) -> T {
    let (id, none, arns) = (id(1), BTreeSet::new(), [stream()]);
    let own = Own { id: &id, weight: 100, liveness, leaving: false, held: &none, pending: &none };
    look(&own, &Streams { arns: &arns, form: KeyForm::Bare })
}

fn view_of(liveness: Liveness, (seen, now): &(Observations, Mono)) -> View {
    let limits = Limits {
        max_leases: 100,
        min_hold: SECOND,
        settle: SECOND,
        claim_deadline: SECOND,
        evict_after: SECOND,
        moves_per_round: 100,
    };
    with_own(liveness, |own, streams| view(seen, own, streams, limits, D, *now))
}

fn fenced(liveness: Liveness, (seen, now): &(Observations, Mono)) -> usize {
    with_own(liveness, |own, _| departed(seen, own, D, *now).len())
}

#[test]
fn in_per_lease_a_silent_worker_is_fenced_once_no_lease_names_it_and_otherwise_much_later() {
    let workers = [item(2, 1, WorkerState::Live)];
    let after = |seconds, leases: &[Lease]| fenced(Liveness::PerLease, &looked_for(seconds, leases, &workers));
    assert_eq!([9, 10].map(|seconds| after(seconds, &[])), [0, 1]);
    assert_eq!([10, 59, 60].map(|seconds| after(seconds, &[lease(2)])), [0, 0, 1]);
}

#[test]
fn in_per_worker_a_silent_worker_is_fenced_whatever_names_it() {
    let workers = [item(2, 1, WorkerState::Live)];
    let after = |seconds| fenced(Liveness::PerWorker, &looked_for(seconds, &[lease(2)], &workers));
    assert_eq!([9, 10].map(after), [0, 1]);
}

#[test]
fn a_fleet_is_doubtful_from_when_a_worker_is_silent_until_the_table_says_that_it_is_gone() {
    for mode in [Liveness::PerLease, Liveness::PerWorker] {
        let after = |seconds, counter, state| {
            let view = view_of(mode, &looked_for(seconds, &[], &[item(2, counter, state)]));
            (view.doubtful, view.workers.len())
        };
        assert_eq!(after(9, 1, WorkerState::Live), (false, 2));
        assert_eq!(after(10, 1, WorkerState::Live), (true, 1));
        assert_eq!(after(10, 1, WorkerState::Leaving), (true, 1));
        assert_eq!(after(10, 1, WorkerState::Fenced), (false, 1));
        assert_eq!(after(10, 0, WorkerState::Live), (false, 1), "nobody has counted on it");
    }
}

#[test]
fn what_an_owner_let_expire_is_anyones_and_what_it_was_asked_for_waits_for_who_asked() {
    let hold = |lease: Lease| {
        let seen = looked_for(10, &[lease], &[item(2, 1, WorkerState::Live)]);
        view_of(Liveness::PerLease, &seen).leases[0].hold.clone()
    };
    assert_eq!(hold(lease(2)), LeaseHold::Lapsed);
    let asked = hold(lease(2).after(&LeaseWrite::evict(id(3).owner())));
    assert!(
        matches!(asked, LeaseHold::Expired { intended_for: Some(ref by), .. } if *by == id(3).owner()),
        "{asked:?}"
    );
}
