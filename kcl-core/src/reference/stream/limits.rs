//! Rates and readers.

use std::collections::VecDeque;
use std::time::Duration;

use super::error::{ServiceError, ServiceErrorCode};
use crate::contract::Mono;

/// The span over which calls and readers are counted.
const SECOND: Duration = Duration::from_secs(1);

/// The calls answered in the last second.
#[derive(Debug, Default)]
pub(super) struct Rate {
    answered: VecDeque<Mono>,
}

impl Rate {
    /// Counts a call, or refuses it. Refused calls are not counted, so that asking too often does not lock out.
    pub(super) fn admit(&mut self, now: Mono, limit: Option<usize>) -> Result<(), ServiceError> {
        let Some(limit) = limit else { return Ok(()) };
        while self.answered.front().is_some_and(|at| *at + SECOND <= now) {
            self.answered.pop_front();
        }
        if self.answered.len() >= limit {
            return Err(ServiceError::new(ServiceErrorCode::Throttling, "Rate exceeded"));
        }
        self.answered.push_back(now);
        Ok(())
    }
}

/// Who read a shard in the last second.
#[derive(Debug, Default)]
pub(super) struct Readers {
    rate: Rate,
    seen: Vec<(u64, Mono)>,
}

impl Readers {
    /// Counts a read by `reader`, or refuses it. A refused reader takes no place from those who are being served.
    pub(super) fn admit(
        &mut self,
        reader: u64,
        now: Mono,
        readers: Option<usize>,
        reads: Option<usize>,
    ) -> Result<(), ServiceError> {
        let exceeded = |message| ServiceError::new(ServiceErrorCode::LimitExceeded, message);
        if let Some(limit) = readers {
            self.seen.retain(|(_, at)| *at + SECOND > now);
            let known = self.seen.iter().any(|(id, _)| *id == reader);
            if !known && self.seen.len() >= limit {
                return Err(exceeded("Too many readers of the shard"));
            }
        }
        self.rate.admit(now, reads).map_err(|_| exceeded("Too many calls on the shard"))?;
        if readers.is_some() {
            self.seen.retain(|(id, _)| *id != reader);
            self.seen.push((reader, now));
        }
        Ok(())
    }
}
