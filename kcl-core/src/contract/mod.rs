//! The contracts: what the engine asks of a stream, of a lease table, of a processor and of the runtime.

mod checkpointer;
mod lease_table;
mod policy;
mod processor;
mod reader_registry;
pub(crate) mod rt;
#[cfg(feature = "tokio-rt")]
mod rt_tokio;
mod source;

pub(crate) use checkpointer::CheckpointPort;
pub use checkpointer::{CheckpointFailure, Checkpointer, MAX_PREPARED_STATE};
pub use lease_table::{
    BootstrapMarker, LeaseError, LeaseErrorKind, LeaseTable, Liveness, MAX_WRITES, Outcome, SCHEMA_VERSION, ScanCursor,
    ScanPage, TableItem, TableMeta, WorkerItem, WorkerState,
};
pub use policy::{DataLoss, FailureAction, FailurePolicy, FailureSink, LossCause, LossDecision, LossPolicy, LostUntil};
pub use processor::{
    FailedAt, LeaseLost, ProcessError, RecordProcessor, RecordProcessorFactory, ShardContext, ShardInfo, Start,
    StartReason,
};
pub use reader_registry::{
    READER_SLOTS, Reader, ReaderLimit, ReaderRegistry, ReaderSlot, ReaderSlots, RegistryError, RegistryErrorKind,
    SlotClaim,
};
pub use rt::{Clock, Entropy, Mono, Rt, Spawn, Stamp, TaskClass, TaskEnd, TaskHandle};
pub use source::{
    DescribePage, MAX_RECORDS, RecordsPage, ShardIterator, SourceError, SourceErrorKind, SourceOp, StreamSource,
};
