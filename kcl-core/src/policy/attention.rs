//! Leases that nobody reads although they are not finished: those that wait for a parent, and those that wait for an operator.

use std::sync::Arc;

use super::observe::{Observations, Seen};
use super::round::{Streams, parent_keys};
use crate::contract::Mono;
use crate::model::{Checkpoint, Lease, LeaseKey, ShardId, StopReason};

/// A lease that waits for a parent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Blocked {
    pub(crate) shard: ShardId,
    pub(crate) lease: LeaseKey,
    /// Those that are not finished.
    pub(crate) parents: Vec<ShardId>,
    /// Since when it was seen to wait: its counter stands still while nobody reads it.
    pub(crate) since: Mono,
}

/// A lease that waits for an operator.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Stopped {
    pub(crate) shard: ShardId,
    pub(crate) lease: LeaseKey,
    pub(crate) reason: StopReason,
    pub(crate) checkpoint: Checkpoint,
    /// Since when it was seen to be stopped.
    pub(crate) since: Mono,
}

/// The unfinished leases of these streams of which a parent has an unfinished lease.
pub(crate) fn blocked(seen: &Observations, streams: &Streams<'_>) -> Vec<Blocked> {
    let unfinished = |key: &LeaseKey| seen.leases().get(key).filter(|parent| !parent.item.is_finished());
    let blocked = |lease: &Seen<Arc<Lease>>| {
        let parents = parent_keys(&lease.item, streams);
        let parents: Vec<ShardId> =
            parents.iter().filter_map(unfinished).map(|parent| parent.item.shard.clone()).collect();
        let Lease { shard, key, .. } = &*lease.item;
        (!parents.is_empty()).then(|| Blocked { shard: shard.clone(), lease: key.clone(), parents, since: lease.since })
    };
    let open = seen.leases().values().filter(|lease| !lease.item.is_finished() && lease.item.stop.is_none());
    open.filter_map(blocked).collect()
}

/// The leases of these streams that are stopped.
pub(crate) fn stopped(seen: &Observations, streams: &Streams<'_>) -> Vec<Stopped> {
    let stopped_ones = seen.leases().values().filter(|lease| lease.item.stop.is_some());
    let ours = stopped_ones.filter(|lease| streams.stream_of(&lease.item).is_some());
    let stopped = |lease: &Seen<Arc<Lease>>| {
        let Lease { shard, key, stop, checkpoint, .. } = &*lease.item;
        let reason = stop.clone().filter(|_| !lease.item.is_finished())?;
        Some(Stopped { shard: shard.clone(), lease: key.clone(), reason, checkpoint: *checkpoint, since: lease.since })
    };
    ours.filter_map(stopped).collect()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::model::{KeyForm, LeaseCounter, StreamArn};

    #[test]
    fn what_waits_is_told_with_its_reason_and_since_when() {
        let stream: StreamArn = "arn:aws:dynamodb:r:123456789012:table/t/stream/l".parse().expect("legal");
        let lease = |shard: &str, parent: Option<&str>, checkpoint, stop: Option<&str>| {
            let shard: ShardId = shard.parse().expect("legal");
            let key = LeaseKey::of(KeyForm::Bare, &stream, &shard);
            let mut lease = Lease::new(key, shard, LeaseCounter(3), checkpoint);
            lease.parents = parent.iter().map(|parent| parent.parse().expect("legal")).collect();
            lease.stop = stop.map(StopReason::parse);
            lease
        };
        let leases = vec![
            lease("a", None, Checkpoint::TrimHorizon, Some("data-lost: some")),
            lease("b", Some("a"), Checkpoint::TrimHorizon, None),
            lease("c", None, Checkpoint::ShardEnd, Some("data-lost: long ago")),
            lease("d", Some("c"), Checkpoint::TrimHorizon, None),
        ];
        let (mut seen, first) = (Observations::default(), Mono::new(Duration::from_secs(7)));
        seen.saw(leases.clone(), vec![], first);
        seen.saw(leases, vec![], Mono::new(Duration::from_secs(9)));
        let streams = Streams { arns: &[stream], form: KeyForm::Bare };
        let blocked = blocked(&seen, &streams);
        assert_eq!(blocked.len(), 1);
        assert_eq!((blocked[0].shard.as_str(), blocked[0].parents[0].as_str(), blocked[0].since), ("b", "a", first));
        let stopped = stopped(&seen, &streams);
        assert_eq!(stopped.len(), 1);
        assert_eq!((stopped[0].shard.as_str(), stopped[0].since), ("a", first));
        assert_eq!(stopped[0].reason, StopReason::DataLost { lost: "some".to_owned() });
    }
}
