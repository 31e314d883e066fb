//! The cases' nouns, and what they expect of an error.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use crate::contract::{LeaseError, LeaseErrorKind, LeaseTable};
use crate::model::{
    KeyForm, Lease, LeaseCounter, LeaseKey, LeaseWrite, NewLease, Owner, SequenceNumber, ShardId, StreamArn, WorkerId,
};

pub(super) type Table = Arc<dyn LeaseTable>;

/// A text of the cases' own, so legal by construction.
pub(super) fn id<T: std::str::FromStr>(text: &str) -> T {
    match text.parse() {
        Ok(id) => id,
        Err(_) => panic!("{text:?} is not legal"),
    }
}

pub(super) fn stream() -> StreamArn {
    id("arn:aws:dynamodb:eu-west-1:123456789012:table/T/stream/2024-02-12T18:57:26.492")
}

pub(super) fn owner(name: &str) -> Owner {
    id(name)
}

pub(super) fn worker(incarnation: u64) -> WorkerId {
    match WorkerId::new("worker", incarnation) {
        Ok(worker) => worker,
        Err(error) => panic!("{error}"),
    }
}

pub(super) fn millis(since_epoch: u64) -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_millis(since_epoch)
}

pub(super) fn number(n: u128) -> SequenceNumber {
    SequenceNumber::from_u128(n)
}

/// A lease in the qualified form, nobody's, without anything that is optional.
pub(super) fn plain(shard: &str) -> NewLease {
    let shard: ShardId = id(shard);
    NewLease {
        counter: LeaseCounter(0),
        key: LeaseKey::of(KeyForm::Qualified, &stream(), &shard),
        stream: stream(),
        shard,
        owner: None,
        parent: None,
        starting_sequence: None,
        start_at: None,
        root: false,
    }
}

/// A lease with everything that a new one can have.
pub(super) fn full(shard: &str) -> NewLease {
    NewLease {
        owner: Some(owner("w/1")),
        parent: Some(id("shardId-parent")),
        starting_sequence: Some(number(77)),
        start_at: Some(millis(1_700_000_000_123)),
        root: true,
        counter: LeaseCounter::beginning(millis(1_700_000_000_456)),
        ..plain(shard)
    }
}

/// A lease that exists and is owned by `w/1`.
pub(super) async fn owned(table: &Table, shard: &str) -> Result<Lease, LeaseError> {
    table.create(&NewLease { owner: Some(owner("w/1")), ..plain(shard) }).await
}

/// Writes a lease as it was last seen, and checks that what the table says and holds is [`Lease::after`].
pub(super) async fn step(table: &Table, lease: &Lease, write: &LeaseWrite) -> Result<Lease, LeaseError> {
    let written = table.write(&lease.key, &lease.guard(), write).await?;
    assert_eq!(written, lease.after(write), "the answer to {write:?}");
    assert_eq!(table.get(&lease.key).await?.as_ref(), Some(&written), "what is stored after {write:?}");
    Ok(written)
}

/// Checks that a write was refused, and that the lease it carries, if any, is the one that stands.
#[track_caller]
pub(super) fn refused<T: std::fmt::Debug>(result: Result<T, LeaseError>, stands: Option<&Lease>) {
    match result {
        Ok(done) => panic!("it was to be refused, and did {done:?}"),
        Err(error) => match error.kind() {
            LeaseErrorKind::Conflict { current: Some(current) } => assert_eq!(Some(&**current), stands),
            LeaseErrorKind::Conflict { current: None } => {}
            other => panic!("it was to be refused with a conflict, not with {other:?}"),
        },
    }
}

/// Checks that exactly one of several racing calls was applied and all others were refused.
#[track_caller]
pub(super) fn one_won<T: std::fmt::Debug>(results: Vec<Result<T, LeaseError>>) -> T {
    let mut won = Vec::new();
    for result in results {
        match result {
            Ok(done) => won.push(done),
            // Racing calls may be throttled instead of refused: nothing was written by either.
            Err(error) => {
                assert!(matches!(error.kind(), LeaseErrorKind::Conflict { .. } | LeaseErrorKind::Throttled), "{error}")
            }
        }
    }
    assert_eq!(won.len(), 1, "exactly one may win: {won:?}");
    match won.pop() {
        Some(winner) => winner,
        None => panic!("nobody won"),
    }
}
