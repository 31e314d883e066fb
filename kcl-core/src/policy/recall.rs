//! What an operator did to leases while a worker holds them, where nothing but the worker's own item shows its life.
//!
//! An owner that renews its lease is refused with its next renewal. In PerWorker the owner of an idle shard writes nothing, and learns of
//! it from a look at the table.

use std::collections::BTreeSet;

use super::observe::Observations;
use super::round::{Own, Streams, parent_keys, wants_an_owner};
use crate::contract::Liveness;
use crate::model::{Lease, LeaseCounter, LeaseKey, WorkerId};

/// Whether a held lease, last written by this worker with `counter`, is to be written to find out whether it still is its own: another
/// has written it, or it is gone. It may also be a write of this worker that is not answered yet.
pub(crate) fn is_doubtful(seen: &Observations, key: &LeaseKey, counter: LeaseCounter) -> bool {
    seen.leases().get(key).is_none_or(|lease| lease.item.counter.0.wrapping_sub(counter.0) > 0)
}

/// Leases that this incarnation was asked to let go of, and has let go of: it lives, so nobody may take them before it gives them away.
pub(crate) fn recalled<'a>(seen: &'a Observations, own: &Own<'_>, streams: &Streams<'_>) -> Vec<&'a Lease> {
    let me = own.id.owner();
    seen.leases()
        .values()
        .map(|lease| &*lease.item)
        .filter(|lease| lease.evicted && lease.owner.as_ref() == Some(&me) && wants_an_owner(lease))
        .filter(|lease| streams.stream_of(lease).is_some())
        .filter(|lease| !own.held.contains(&lease.key) && !own.pending.contains(&lease.key))
        .collect()
}

/// Leases that are to be read again before what continues them, which a worker may still read. Only a rewind leaves them so. In PerLease
/// they expire no sooner than the others.
pub(crate) fn awaited(seen: &Observations, own: &Own<'_>, streams: &Streams<'_>) -> BTreeSet<LeaseKey> {
    let mut awaited = BTreeSet::new();
    if own.liveness == Liveness::PerLease {
        return awaited;
    }
    let read = seen.leases().values().filter(|lease| wants_an_owner(&lease.item));
    let read = read.filter(|lease| lease.item.owner.as_ref().is_some_and(WorkerId::is_written_as));
    for lease in read.filter(|lease| seen.owner_gone_since(lease).is_none()) {
        let mut parents = parent_keys(&lease.item, streams);
        while let Some(key) = parents.pop() {
            let parent = seen.leases().get(&key).filter(|parent| !parent.item.is_finished());
            if let Some(parent) = parent.filter(|_| awaited.insert(key)) {
                parents.extend(parent_keys(&parent.item, streams));
            }
        }
    }
    awaited
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::contract::Mono;
    use crate::model::{Checkpoint, KeyForm, LeaseWrite, NewLease, StreamArn};

    fn stream() -> StreamArn {
        "arn:aws:dynamodb:r:123456789012:table/t/stream/l".parse().expect("legal")
    }

    fn worker(n: u64) -> WorkerId {
        WorkerId::new("w", n).expect("legal")
    }

    fn lease(shard: &str, parent: Option<&str>, owner: Option<u64>) -> Lease {
        let shard: crate::model::ShardId = shard.parse().expect("legal");
        let key = LeaseKey::of(KeyForm::Bare, &stream(), &shard);
        let (parent, owner) = (parent.map(|parent| parent.parse().expect("legal")), owner.map(|n| worker(n).owner()));
        let root = parent.is_none();
        NewLease {
            counter: LeaseCounter(0),
            key,
            stream: stream(),
            shard,
            owner,
            parent,
            starting_sequence: None,
            start_at: None,
            root,
        }
        .created()
    }

    fn with_own<T>(liveness: Liveness, look: impl FnOnce(&Own<'_>, &Streams<'_>) -> T) -> T {
        let (id, none, arns) = (worker(1), BTreeSet::new(), [stream()]);
        let own = Own { id: &id, weight: 100, liveness, leaving: false, held: &none, pending: &none };
        look(&own, &Streams { arns: &arns, form: KeyForm::Bare })
    }

    #[test]
    fn a_rewound_lease_waits_for_the_owners_of_all_that_continue_it() {
        let line =
            || vec![lease("s-1", None, None), lease("s-2", Some("s-1"), None), lease("s-3", Some("s-2"), Some(2))];
        let mut seen = Observations::default();
        seen.saw(line(), vec![], Mono::default());
        let waits = |seen: &Observations, mode| with_own(mode, |own, streams| awaited(seen, own, streams).len());
        assert_eq!((waits(&seen, Liveness::PerWorker), waits(&seen, Liveness::PerLease)), (2, 0));
        let asked = seen.asking();
        seen.worker(&worker(2), None, asked, Mono::default());
        assert_eq!(waits(&seen, Liveness::PerWorker), 0, "the owner is gone");
        let mut done = line();
        done[1].checkpoint = Checkpoint::ShardEnd;
        let mut seen = Observations::default();
        seen.saw(done, vec![], Mono::default());
        assert_eq!(waits(&seen, Liveness::PerWorker), 0, "as it always is");
    }

    #[test]
    fn what_this_worker_was_asked_to_let_go_of_is_given_away() {
        let mine = lease("s-1", None, Some(1));
        let evicted = mine.after(&LeaseWrite::evict(worker(2).owner()));
        let recalled = |lease: &Lease| {
            let mut seen = Observations::default();
            seen.saw(vec![lease.clone()], vec![], Mono::default());
            with_own(Liveness::PerWorker, |own, streams| recalled(&seen, own, streams).len())
        };
        assert_eq!((recalled(&mine), recalled(&evicted)), (0, 1));
        assert_eq!(recalled(&lease("s-1", None, Some(2)).after(&LeaseWrite::evict(worker(1).owner()))), 0);
    }

    #[test]
    fn a_held_lease_is_doubtful_when_another_has_written_it_or_it_is_gone() {
        let mine = lease("s-1", None, Some(1));
        let mut seen = Observations::default();
        seen.saw(vec![mine.clone()], vec![], Mono::default());
        assert!(!is_doubtful(&seen, &mine.key, mine.counter) && !is_doubtful(&seen, &mine.key, mine.counter.next()));
        seen.saw(vec![mine.after(&LeaseWrite::renew())], vec![], Mono::default());
        assert!(is_doubtful(&seen, &mine.key, mine.counter));
        seen.saw(vec![], vec![], Mono::default());
        assert!(is_doubtful(&seen, &mine.key, mine.counter));
    }
}
