//! The end of a run, and what is to be expected of it.

use std::time::Duration;

use kcl_core::reference::ShardView;
use kcl_core::{Lease, ShardId};

use super::records::{Truth, Verdict};
use super::{Gap, Law, Violation, caught_up, even_share, frontier, no_leak, records, repeats, tombstones, unowned};

/// What is there at the end of a run, after its faults.
#[derive(Debug, Clone, Default)]
pub struct Ending {
    /// When, since the run began.
    pub at: Duration,
    /// The lease table.
    pub leases: Vec<Lease>,
    /// The service.
    pub shards: Vec<ShardFact>,
    /// What was written.
    pub truth: Truth,
    /// What the history shows.
    pub verdict: Verdict,
    /// Each living worker, and how many shards it says it owns.
    pub owned: Vec<(String, usize)>,
    /// Tasks of workers that have ended.
    pub leaked: Vec<String>,
}

/// A shard, as the service has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ShardFact {
    /// Its name.
    pub shard: ShardId,
    /// The shard it continues.
    pub parent: Option<ShardId>,
    /// When it was closed, since the run began.
    pub closed: Option<Duration>,
    /// Whether it has left the stream.
    pub vanished: bool,
}

impl From<ShardView> for ShardFact {
    fn from(view: ShardView) -> Self {
        let closed = view.closed.map(kcl_core::Mono::since_origin);
        Self { shard: view.shard.id, parent: view.shard.parent, closed, vanished: view.vanished }
    }
}

/// What is to be expected of an ending, beside what always is: nothing lost, nothing missing, no leak, a whole frontier.
#[derive(Debug, Clone, Default)]
pub struct Expect {
    /// Closed shards are finished, and tombstones of shards that have been gone for so long are deleted.
    pub tombstones_gone_after: Option<Duration>,
    /// The workers all want the same number of shards, and had the time to share them.
    pub even: bool,
    /// The most records that may have been delivered again to another processor.
    pub repeats: Option<u64>,
    /// How long what was acknowledged may have waited to be recorded.
    pub recorded_within: Option<Duration>,
    /// The longest that a shard may have been without a reader after a crash or a release.
    pub unowned: Option<Duration>,
}

pub(super) fn check(ending: &Ending, expect: &Expect, gaps: &[Gap], waited: Option<&repeats::Wait>) -> Vec<Violation> {
    let found: [(Law, Vec<String>); 8] = [
        (records::LAW, records::check(ending)),
        (frontier::LAW, frontier::check(ending)),
        (tombstones::LAW, tombstones::check(ending, expect)),
        (even_share::LAW, even_share::check(ending, expect)),
        (caught_up::LAW, caught_up::check(ending)),
        (no_leak::LAW, no_leak::check(ending)),
        (repeats::LAW, repeats::check(ending, expect, waited)),
        (unowned::LAW, unowned::check(gaps, expect)),
    ];
    let violations = found.into_iter().flat_map(|(law, found)| found.into_iter().map(move |what| (law, what)));
    violations.map(|(law, what)| Violation { law, at: ending.at, what }).collect()
}
