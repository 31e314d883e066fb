//! Every metric of the library, by name. `docs/metrics.md` says what each means.
//!
//! They go to the global recorder of the `metrics` facade; without the feature `metrics` they cost nothing.

use std::time::Duration;

use crate::contract::{LeaseError, LeaseErrorKind};
use crate::model::StreamArn;
use crate::surface::event::EventKind;

/// Counter, by stream: records handed to processors, redeliveries included.
pub const RECORDS_DELIVERED: &str = "kcl.records.delivered";
/// Counter, by stream: bytes of the pages fetched.
pub const BYTES_FETCHED: &str = "kcl.bytes.fetched";
/// Counter, by stream: GetRecords calls that succeeded.
pub const PAGES_FETCHED: &str = "kcl.pages.fetched";
/// Histogram, by stream: how old the newest record of a page was when it was fetched, in seconds; 0 for a shard read to its end.
pub const LAG_SECONDS: &str = "kcl.lag_seconds";
/// Histogram, by stream: time in `process_records`, in seconds.
pub const PROCESS_SECONDS: &str = "kcl.process_seconds";
/// Gauge: shards that this worker owns.
pub const SHARDS_OWNED: &str = "kcl.shards.owned";
/// Gauge: bytes of pages that are fetched and not yet processed.
pub const MEMORY_BYTES: &str = "kcl.memory_bytes";
/// Counter, by reason: writes of the lease table that failed.
pub const LEASE_WRITES_FAILED: &str = "kcl.lease.writes_failed";
/// Counter, by stream: reads that were throttled although this worker made few.
pub const FOREIGN_THROTTLES: &str = "kcl.readers.foreign_throttles";
/// Counter, by kind: events told.
pub const EVENTS: &str = "kcl.events";

/// Every name above, for exporters that want to describe or register them.
pub const ALL: [&str; 10] = [
    RECORDS_DELIVERED,
    BYTES_FETCHED,
    PAGES_FETCHED,
    LAG_SECONDS,
    PROCESS_SECONDS,
    SHARDS_OWNED,
    MEMORY_BYTES,
    LEASE_WRITES_FAILED,
    FOREIGN_THROTTLES,
    EVENTS,
];

pub(crate) fn delivered(stream: &StreamArn, records: usize, took: Duration) {
    count(RECORDS_DELIVERED, "stream", stream.as_str(), records);
    record(PROCESS_SECONDS, stream, took);
}

pub(crate) fn fetched(stream: &StreamArn, bytes: usize, lag: Duration) {
    count(PAGES_FETCHED, "stream", stream.as_str(), 1);
    count(BYTES_FETCHED, "stream", stream.as_str(), bytes);
    record(LAG_SECONDS, stream, lag);
}

pub(crate) fn owned(shards: usize) {
    gauge(SHARDS_OWNED, shards);
}

pub(crate) fn memory(bytes: usize) {
    gauge(MEMORY_BYTES, bytes);
}

pub(crate) fn lease_write_failed(error: &LeaseError) {
    let reason = match error.kind() {
        LeaseErrorKind::Conflict { .. } => "conflict",
        LeaseErrorKind::Throttled => "throttled",
        LeaseErrorKind::Unavailable { .. } => "unavailable",
        LeaseErrorKind::Denied { .. } => "denied",
        LeaseErrorKind::Invalid { .. } => "invalid",
    };
    count(LEASE_WRITES_FAILED, "reason", reason, 1);
}

pub(crate) fn foreign_throttle(stream: &StreamArn) {
    count(FOREIGN_THROTTLES, "stream", stream.as_str(), 1);
}

pub(crate) fn event(kind: &EventKind) {
    count(EVENTS, "kind", event_name(kind), 1);
}

/// The value of the label `kind` of [`EVENTS`].
pub(crate) fn event_name(kind: &EventKind) -> &'static str {
    match kind {
        EventKind::Joined { .. } => "joined",
        EventKind::Rejoining { .. } => "rejoining",
        EventKind::LeaseAcquired { .. } => "lease_acquired",
        EventKind::LeaseReleased { .. } => "lease_released",
        EventKind::LeaseLost { .. } => "lease_lost",
        EventKind::LateRenewal { .. } => "late_renewal",
        EventKind::LateHeartbeat { .. } => "late_heartbeat",
        EventKind::HeartbeatRetried { .. } => "heartbeat_retried",
        EventKind::LeaseWriteRetried { .. } => "lease_write_retried",
        EventKind::LeaseTableUnavailable { .. } => "lease_table_unavailable",
        EventKind::ShardFinished { .. } => "shard_finished",
        EventKind::ShardStopped { .. } => "shard_stopped",
        EventKind::ProcessorFailed { .. } => "processor_failed",
        EventKind::RecordsSetAside { .. } => "records_set_aside",
        EventKind::DataLost { .. } => "data_lost",
        EventKind::Throttled { .. } => "throttled",
        EventKind::SourceRetried { .. } => "source_retried",
        EventKind::AccessDenied { .. } => "access_denied",
        EventKind::OpenedAtTrimHorizon { .. } => "opened_at_trim_horizon",
        EventKind::WaitingForMemory { .. } => "waiting_for_memory",
        EventKind::StreamMissing { .. } => "stream_missing",
        EventKind::StreamGone { .. } => "stream_gone",
        EventKind::StreamReplaced { .. } => "stream_replaced",
        EventKind::ReaderSlotHeld { .. } => "reader_slot_held",
        EventKind::ReaderSlotLost { .. } => "reader_slot_lost",
        EventKind::ForeignReaders { .. } => "foreign_readers",
        EventKind::ForeignItem { .. } => "foreign_item",
        EventKind::WaitingForChildren { .. } => "waiting_for_children",
    }
}

#[cfg(feature = "metrics")]
mod sink {
    use super::{Duration, StreamArn};

    pub(super) fn count(name: &'static str, label: &'static str, value: &str, by: usize) {
        metrics::counter!(name, label => value.to_owned()).increment(by as u64);
    }

    pub(super) fn record(name: &'static str, stream: &StreamArn, time: Duration) {
        metrics::histogram!(name, "stream" => stream.as_str().to_owned()).record(time.as_secs_f64());
    }

    #[expect(clippy::cast_precision_loss, reason = "a gauge needs no more than 53 bits")]
    pub(super) fn gauge(name: &'static str, value: usize) {
        metrics::gauge!(name).set(value as f64);
    }
}

#[cfg(not(feature = "metrics"))]
mod sink {
    use super::{Duration, StreamArn};

    pub(super) fn count(_name: &'static str, _label: &'static str, _value: &str, _by: usize) {}
    pub(super) fn record(_name: &'static str, _stream: &StreamArn, _time: Duration) {}
    pub(super) fn gauge(_name: &'static str, _value: usize) {}
}

use sink::{count, gauge, record};
