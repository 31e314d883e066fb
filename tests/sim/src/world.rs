//! What surrounds a fleet: a table that is written to, a stream whose shards change, and processors that tell what they
//! were given.

mod recorder;
mod resharding;
mod workload;

use kcl_core::StreamArn;
use kcl_core::reference::ReferenceStream;

use crate::invariant::records::{ShardTruth, Truth};

pub use recorder::{Call, Conduct, RecordingProcessor, Script};
pub use resharding::Resharding;
pub use workload::Workload;
pub(crate) use workload::pause;

/// The streams of a table of which this was the first, oldest first.
#[must_use]
pub fn streams(service: &ReferenceStream, first: &StreamArn) -> Vec<StreamArn> {
    let later = service.streams().into_iter().filter(|arn| arn != first && arn.table_name() == first.table_name());
    std::iter::once(first.clone()).chain(later).collect()
}

/// What was written to these streams by now, trimmed and vanished shards with the rest.
#[must_use]
pub fn truth(service: &ReferenceStream, streams: &[StreamArn]) -> Truth {
    let mut truth = Truth::default();
    for stream in streams {
        for view in service.shards(stream) {
            truth.shards.entry(view.shard.id).or_insert_with(ShardTruth::default).parent = view.shard.parent;
        }
        for (shard, records) in service.written(stream) {
            let written = records.iter().map(kcl_core::Record::sequence_number).collect();
            truth.shards.entry(shard).or_default().written = written;
        }
    }
    truth
}
