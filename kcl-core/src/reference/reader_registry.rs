//! The reader registry in memory.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;

use crate::contract::{ReaderRegistry, ReaderSlots, RegistryError, RegistryErrorKind, SlotClaim};
use crate::model::StreamArn;

/// A [`ReaderRegistry`] in memory. Clones share one registry, as the applications of an account do.
#[derive(Debug, Clone, Default)]
pub struct MemoryReaderRegistry {
    streams: Arc<Mutex<BTreeMap<StreamArn, ReaderSlots>>>,
}

impl MemoryReaderRegistry {
    /// A registry in which no slot was ever claimed.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// All slots as they are now, by stream.
    #[must_use]
    pub fn snapshot(&self) -> BTreeMap<StreamArn, ReaderSlots> {
        self.lock().clone()
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<StreamArn, ReaderSlots>> {
        // No code of others runs under the lock, so a poisoned one still holds whole slots.
        self.streams.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[async_trait]
impl ReaderRegistry for MemoryReaderRegistry {
    async fn slots(&self, stream: &StreamArn) -> Result<ReaderSlots, RegistryError> {
        Ok(self.lock().get(stream).cloned().unwrap_or_default())
    }

    async fn write(
        &self,
        stream: &StreamArn,
        seen: &ReaderSlots,
        claim: &SlotClaim,
    ) -> Result<ReaderSlots, RegistryError> {
        let mut streams = self.lock();
        let now = streams.entry(stream.clone()).or_default();
        if !seen.admits(now, claim.slot) {
            return Err(RegistryError::new(RegistryErrorKind::Conflict, "write"));
        }
        *now = now.after(claim);
        Ok(now.clone())
    }
}
