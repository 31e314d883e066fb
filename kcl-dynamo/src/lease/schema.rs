//! The names in the table. Those of leases are the Java library's (`DynamoDBLeaseSerializer`), the rest are ours.

pub(super) const LEASE_KEY: &str = "leaseKey";
pub(super) const LEASE_COUNTER: &str = "leaseCounter";
pub(super) const LEASE_OWNER: &str = "leaseOwner";
pub(super) const CHECKPOINT: &str = "checkpoint";
pub(super) const SUB_SEQUENCE: &str = "checkpointSubSequenceNumber";
pub(super) const THROUGHPUT: &str = "throughputKBps";
pub(super) const OWNER_SWITCHES: &str = "ownerSwitchesSinceCheckpoint";
pub(super) const PARENTS: &str = "parentShardId";
pub(super) const CHILDREN: &str = "childShardIds";
pub(super) const STARTING_HASH_KEY: &str = "startingHashKey";
pub(super) const ENDING_HASH_KEY: &str = "endingHashKey";
pub(super) const PENDING: &str = "pendingCheckpoint";
pub(super) const PENDING_SUB_SEQUENCE: &str = "pendingCheckpointSubSequenceNumber";
pub(super) const PENDING_STATE: &str = "pendingCheckpointState";
pub(super) const CHECKPOINT_OWNER: &str = "checkpointOwner";
pub(super) const ENTITY_TYPE: &str = "entityType";
pub(super) const STREAM_NAME: &str = "streamName";
pub(super) const SHARD_ID: &str = "shardId";

pub(super) const STREAM_ARN: &str = "streamArn";
pub(super) const STARTING_SEQUENCE: &str = "startingSequenceNumber";
/// Milliseconds since the epoch, as all our times.
pub(super) const START_AT: &str = "startAt";
pub(super) const ROOT: &str = "root";
pub(super) const INTENDED_FOR: &str = "intendedFor";
pub(super) const EVICTED: &str = "evicted";
pub(super) const STOP_REASON: &str = "stopReason";
pub(super) const LOSS_ACCEPTED: &str = "lossAccepted";
pub(super) const TIP_AT: &str = "tipAt";
pub(super) const TIP_CHECKPOINT: &str = "tipCheckpoint";

/// The attributes of a lease that are ours.
pub(super) const OUR_OWN: [&str; 10] = [
    STREAM_ARN,
    STARTING_SEQUENCE,
    START_AT,
    ROOT,
    INTENDED_FOR,
    EVICTED,
    STOP_REASON,
    LOSS_ACCEPTED,
    TIP_AT,
    TIP_CHECKPOINT,
];

/// The counter of a worker. Not `leaseCounter`: an item without that is no lease to anybody.
pub(super) const WORKER_COUNTER: &str = "workerCounter";
pub(super) const WORKER_STATE: &str = "workerState";
pub(super) const WORKER_WEIGHT: &str = "workerWeight";

pub(super) const MARKER_AT: &str = "bootstrapAt";
pub(super) const MARKER_START: &str = "bootstrapStart";
pub(super) const MARKER_START_TIMESTAMP: &str = "bootstrapStartTimestamp";
pub(super) const MARKER_COMPLETE: &str = "bootstrapComplete";

pub(super) const META_SCHEMA: &str = "schemaVersion";
pub(super) const META_LIVENESS: &str = "liveness";
pub(super) const META_KEY_FORM: &str = "keyForm";
pub(super) const META_RINGS: &str = "rings";

pub(super) const TYPE_LEASE: &str = "LEASE";
pub(super) const TYPE_WORKER: &str = "KCL_RS_WORKER";
pub(super) const TYPE_MARKER: &str = "KCL_RS_STREAM";
pub(super) const TYPE_META: &str = "KCL_RS_META";

pub(super) const WORKER_PREFIX: &str = "worker/";
pub(super) const MARKER_PREFIX: &str = "stream/";
pub(super) const META_KEY: &str = "meta";

/// The index of leases by owner, which the Java library queries.
pub(super) const OWNER_INDEX: &str = "LeaseOwnerToLeaseKeyIndex";
