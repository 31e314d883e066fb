//! The settings of a worker, and what makes them impossible.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use crate::contract::{FailurePolicy, Liveness, LossDecision, LossPolicy, MAX_RECORDS, READER_SLOTS};
use crate::model::KeyForm;
use crate::policy::polling::PollingConfig;

/// The settings of a worker. All have defaults that suit a service; `with_*` changes one.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct WorkerConfig {
    /// The worker's name, for people; the same in every run if it is set. Two workers may share one. Default: drawn at random.
    pub name: Option<String>,
    /// D: a crashed worker's shards move on after D plus one observation. Default 10 s. All workers of a fleet must agree.
    pub lease_duration: Duration,
    /// How often the lease table is read to see who lives. Default 1 s.
    pub observe_every: Duration,
    /// How often each worker lists the stream's shards, times the number of workers. Default 30 s.
    pub discover_every: Duration,
    /// The most shards this worker owns at once. Default: no limit.
    pub max_leases: usize,
    /// This worker's share of the shards, relative to the others' weights. Default 100.
    pub weight: u32,
    /// How long a shard stays with its owner before it may be moved to even things out. Default 30 s.
    pub min_hold: Duration,
    /// How long no worker must have come or gone before shards are moved to even things out. In a rolling deploy, one that comes then
    /// gets the shards of one that goes, and no others. Default 10 s.
    pub settle: Duration,
    /// Whether `Ok` from `process_records` acknowledges the batch. Default: automatic.
    pub checkpoints: Checkpoints,
    /// How long an acknowledgement may wait to be recorded in the lease table. Default 3 s: about as often as a lease is renewed
    /// anyway, so that checkpoints cost next to nothing. Zero records each batch.
    pub checkpoint_every: Duration,
    /// The most records in one call of `process_records`. Default 1000, a whole page.
    pub batch_size: usize,
    /// How often `tick` is called at most. Default 1 s.
    pub tick_every: Duration,
    /// How long one call of a processor may take before it is dropped and the instance replaced. Default: no limit.
    pub process_timeout: Option<Duration>,
    /// The pause between reads of a shard that has something to read. Default 250 ms.
    pub poll_every: Duration,
    /// The longest pause between reads of an idle shard. Default 1 s.
    pub poll_idle: Duration,
    /// The most reads of one shard in a second. Default 5; the service's own limit is not documented.
    pub calls_per_second: u32,
    /// How long one call to the stream may take. Default 10 s. On the AWS SDK, `StreamOptions::request_timeout` ends it too.
    pub source_timeout: Duration,
    /// Bytes of fetched pages that wait to be processed, over all shards. Default 64 MiB.
    pub memory: usize,
    /// Pages fetched ahead of the one being processed, for each shard. Default 2.
    pub prefetch: usize,
    /// Fetches under way at once, over all shards; each may hold one page beyond `memory`. Default 64.
    pub concurrent_fetches: usize,
    /// A start at LATEST or at a timestamp delivers records stamped up to this much earlier, because the service's stamps are coarse
    /// and clocks differ. Default 60 s.
    pub start_slack: Duration,
    /// How long a graceful stop waits for running calls. Default 30 s.
    pub shutdown_timeout: Duration,
    /// What happens when a processor fails.
    pub failures: FailurePolicy,
    /// What happens when records were gone before they could be read. Default: stop the shard.
    pub losses: Arc<dyn LossPolicy>,
    /// The form of lease keys. Default: that of the leases in the table, qualified in an empty one.
    pub key_form: Option<KeyForm>,
    /// How the death of a worker is seen. The table is marked with it at its first use, and a worker that is configured otherwise is
    /// refused. Default: as the table is marked; per lease, as the Java library does, in one that is not.
    pub liveness: Option<Liveness>,
    /// Whether the application keeps to the reader slots of its streams. Default: it does, where it was given a registry.
    pub readers: ReaderPolicy,
    /// How many applications may read a stream at once, this one included. Default 2, the service's limit; 1 where a Lambda trigger
    /// or a global table reads the stream too.
    pub reader_slots: usize,
}

/// What the reader slots of a stream mean for this application.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum ReaderPolicy {
    /// Without a slot it does not begin, and it stops reading before its slot can pass to another application.
    #[default]
    Enforce,
    /// Without a slot it does not begin. Once begun, it reads on whatever becomes of its slot.
    AdmitOnly,
    /// It neither claims slots nor asks for them.
    Off,
}

/// Who acknowledges.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Checkpoints {
    /// `Ok` from `process_records` acknowledges the batch.
    #[default]
    Automatic,
    /// Only the processor does, through its `Checkpointer`; and `Ok` from `shard_ended` acknowledges everything.
    Manual,
}

impl Default for WorkerConfig {
    fn default() -> Self {
        Self {
            name: None,
            lease_duration: Duration::from_secs(10),
            observe_every: Duration::from_secs(1),
            discover_every: Duration::from_secs(30),
            max_leases: usize::MAX,
            weight: 100,
            min_hold: Duration::from_secs(30),
            settle: Duration::from_secs(10),
            checkpoints: Checkpoints::Automatic,
            checkpoint_every: Duration::from_secs(3),
            batch_size: MAX_RECORDS,
            tick_every: Duration::from_secs(1),
            process_timeout: None,
            poll_every: Duration::from_millis(250),
            poll_idle: Duration::from_secs(1),
            calls_per_second: 5,
            source_timeout: Duration::from_secs(10),
            memory: 64 << 20,
            prefetch: 2,
            concurrent_fetches: 64,
            start_slack: Duration::from_secs(60),
            shutdown_timeout: Duration::from_secs(30),
            failures: FailurePolicy::default(),
            losses: Arc::new(LossDecision::StopShard),
            key_form: None,
            readers: ReaderPolicy::Enforce,
            reader_slots: READER_SLOTS,
            liveness: None,
        }
    }
}

macro_rules! setters {
    ($($setter:ident $field:ident: $type:ty;)*) => {
        impl WorkerConfig {
            $(
                #[doc = concat!("Sets [`WorkerConfig::", stringify!($field), "`].")]
                #[must_use]
                pub fn $setter(mut self, $field: $type) -> Self {
                    self.$field = $field;
                    self
                }
            )*
        }
    };
}

setters! {
    with_lease_duration lease_duration: Duration;
    with_observe_every observe_every: Duration;
    with_discover_every discover_every: Duration;
    with_max_leases max_leases: usize;
    with_weight weight: u32;
    with_min_hold min_hold: Duration;
    with_settle settle: Duration;
    with_checkpoints checkpoints: Checkpoints;
    with_checkpoint_every checkpoint_every: Duration;
    with_batch_size batch_size: usize;
    with_tick_every tick_every: Duration;
    with_process_timeout process_timeout: Option<Duration>;
    with_poll_every poll_every: Duration;
    with_poll_idle poll_idle: Duration;
    with_calls_per_second calls_per_second: u32;
    with_source_timeout source_timeout: Duration;
    with_memory memory: usize;
    with_prefetch prefetch: usize;
    with_concurrent_fetches concurrent_fetches: usize;
    with_start_slack start_slack: Duration;
    with_shutdown_timeout shutdown_timeout: Duration;
    with_failures failures: FailurePolicy;
    with_losses losses: Arc<dyn LossPolicy>;
    with_key_form key_form: Option<KeyForm>;
    with_readers readers: ReaderPolicy;
    with_reader_slots reader_slots: usize;
    with_liveness liveness: Option<Liveness>;
}

impl WorkerConfig {
    /// Sets [`WorkerConfig::name`].
    #[must_use]
    pub fn with_name(mut self, name: impl Into<String>) -> Self {
        self.name = Some(name.into());
        self
    }

    pub(crate) fn polling(&self) -> PollingConfig {
        PollingConfig {
            interval: self.poll_every,
            idle_max: self.poll_idle,
            calls_per_second: f64::from(self.calls_per_second),
            ..PollingConfig::default()
        }
    }

    /// Checks that the settings can work together.
    ///
    /// # Errors
    /// All that is wrong, at once.
    pub fn validate(&self) -> Result<(), ConfigError> {
        let mut wrong = Vec::new();
        let mut check = |ok: bool, what: &str| {
            if !ok {
                wrong.push(what.to_owned());
            }
        };
        let name = self.name.as_deref().unwrap_or("w");
        check(crate::model::WorkerId::new(name, 0).is_ok(), "name must have 1 to 255 bytes and no slash");
        check(self.lease_duration >= Duration::from_secs(1), "lease_duration must be at least 1 s");
        check(self.lease_duration <= Duration::from_secs(600), "lease_duration must be at most 10 min");
        check(!self.observe_every.is_zero(), "observe_every must not be zero");
        check(
            self.observe_every <= self.lease_duration,
            "observe_every must be at most lease_duration, or a crash is noticed late",
        );
        check(!self.discover_every.is_zero(), "discover_every must not be zero");
        check(self.max_leases >= 1, "max_leases must be at least 1");
        check(self.weight >= 1, "weight must be at least 1");
        check(
            self.checkpoint_every <= Duration::from_secs(3600),
            "checkpoint_every must be at most 1 h: that much is delivered again after a crash",
        );
        check((1..=MAX_RECORDS).contains(&self.batch_size), "batch_size must be 1 to 1000");
        check(!self.tick_every.is_zero(), "tick_every must not be zero");
        check(self.process_timeout != Some(Duration::ZERO), "process_timeout must not be zero");
        check(!self.poll_every.is_zero(), "poll_every must not be zero");
        check(self.poll_every <= self.poll_idle, "poll_every must be at most poll_idle");
        check(self.poll_idle <= Duration::from_secs(300), "poll_idle must be at most 5 min: iterators live 15 min");
        check(self.calls_per_second >= 1, "calls_per_second must be at least 1");
        check(!self.source_timeout.is_zero(), "source_timeout must not be zero");
        check(
            self.memory >= 8 << 20,
            "memory must be at least 8 MiB: a page takes about 1 MiB, and one shard must not take all",
        );
        check((1..=1000).contains(&self.prefetch), "prefetch must be 1 to 1000");
        check((1..=100_000).contains(&self.concurrent_fetches), "concurrent_fetches must be 1 to 100000");
        check(self.failures.attempts >= 1, "failures.attempts must be at least 1");
        check(
            self.failures.backoff <= self.failures.max_backoff,
            "failures.backoff must be at most failures.max_backoff",
        );
        check((1..=READER_SLOTS).contains(&self.reader_slots), "reader_slots must be 1 or 2");
        if wrong.is_empty() { Ok(()) } else { Err(ConfigError { wrong }) }
    }
}

/// Settings that cannot work. Says all that is wrong.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub struct ConfigError {
    wrong: Vec<String>,
}

impl ConfigError {
    pub(crate) fn new(wrong: Vec<String>) -> Self {
        Self { wrong }
    }

    /// One sentence for each thing that is wrong.
    #[must_use]
    pub fn violations(&self) -> &[String] {
        &self.wrong
    }
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the configuration cannot work: {}", self.wrong.join("; "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_defaults_work() {
        WorkerConfig::default().validate().expect("valid");
    }

    #[test]
    fn every_violation_is_reported_at_once() {
        let config = WorkerConfig::default()
            .with_name("a/b")
            .with_batch_size(0)
            .with_observe_every(Duration::from_secs(11))
            .with_poll_every(Duration::from_secs(2));
        let error = config.validate().expect_err("invalid");
        assert_eq!(error.violations().len(), 4, "{error}");
    }
}
