//! The reader registry of a run in which applications share a stream, and the calls that arrive at the stream.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use kcl_core::reference::MemoryReaderRegistry;
use kcl_core::wrap::{FaultySource, LeaseFault};
use kcl_core::{
    Outcome, ReaderRegistry, ReaderSlots, RegistryError, RegistryErrorKind, SlotClaim, SourceOp, StreamArn,
    StreamSource,
};

use super::wire::Wire;
use crate::fleet::Fleet;
use crate::invariant::{Seen, Watch};

/// The names of those that hold the slots of a stream.
pub(crate) fn holders(registry: &MemoryReaderRegistry, stream: &StreamArn) -> Vec<String> {
    let slots = registry.snapshot().remove(stream).unwrap_or_default();
    slots.0.into_iter().flatten().map(|slot| slot.holder.application).collect()
}

/// The registry at the other end of a worker's way.
#[derive(Debug)]
pub(super) struct Distant {
    inner: MemoryReaderRegistry,
    wire: Wire,
    watch: Watch,
}

impl Distant {
    pub(super) fn reached(inner: &MemoryReaderRegistry, wire: &Wire, watch: &Watch) -> Arc<dyn ReaderRegistry> {
        Arc::new(Self { inner: inner.clone(), wire: wire.clone(), watch: watch.clone() })
    }

    /// Carries a request there, whatever becomes of its caller, and the answer back.
    async fn carry<T: Send + 'static>(
        &self,
        request: impl Future<Output = Result<T, RegistryError>> + Send + 'static,
    ) -> Result<T, RegistryError> {
        let unavailable = |outcome| RegistryError::new(RegistryErrorKind::Unavailable { outcome }, "request");
        let (there, back) = match self.wire.way() {
            LeaseFault::Throttled => return Err(RegistryError::new(RegistryErrorKind::Throttled, "request")),
            LeaseFault::NotApplied => return Err(unavailable(Outcome::NotApplied)),
            LeaseFault::ReplyLost => {
                drop(request.await);
                return Err(unavailable(Outcome::Unknown));
            }
            LeaseFault::Carried { there, back } => (there, back),
            _ => (Some(Duration::ZERO), Some(Duration::ZERO)),
        };
        let Some(there) = there else { return std::future::pending().await };
        let (sim, rt) = (self.wire.sim.clone(), self.wire.sim.rt());
        let carried = sim.spawn("registry call under way", async move {
            rt.sleep(there).await;
            request.await
        });
        let answer = carried.await;
        let Some(back) = back else { return std::future::pending().await };
        self.wire.sim.rt().sleep(back).await;
        answer.unwrap_or_else(|_| Err(unavailable(Outcome::Unknown)))
    }
}

#[async_trait]
impl ReaderRegistry for Distant {
    async fn slots(&self, stream: &StreamArn) -> Result<ReaderSlots, RegistryError> {
        let (inner, stream) = (self.inner.clone(), stream.clone());
        self.carry(async move { inner.slots(&stream).await }).await
    }

    async fn write(
        &self,
        stream: &StreamArn,
        seen: &ReaderSlots,
        claim: &SlotClaim,
    ) -> Result<ReaderSlots, RegistryError> {
        let (inner, watch, stream) = (self.inner.clone(), self.watch.clone(), stream.clone());
        let (seen, claim) = (seen.clone(), claim.clone());
        let write = async move {
            let before = holders(&inner, &stream);
            let written = inner.write(&stream, &seen, &claim).await;
            if written.is_ok() && before.len() > 1 && !before.contains(&claim.holder.application) {
                watch.see(&Seen::SlotPassed);
            }
            written
        };
        self.carry(write).await
    }
}

/// The stream, where it sees which application reads it.
pub(super) fn seen_reading(
    source: Arc<dyn StreamSource>,
    fleet: &Fleet,
    registry: MemoryReaderRegistry,
) -> FaultySource {
    let fleet = fleet.clone();
    FaultySource::new(source, move |op| {
        if op == SourceOp::GetRecords {
            let holders = holders(&registry, &fleet.stream);
            fleet.watch.see(&Seen::Read { application: &fleet.setup.application, holders: Some(&holders) });
        }
        None
    })
}
