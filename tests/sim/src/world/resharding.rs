//! Rolls and splits shards.

use std::time::Duration;

use kcl_core::StreamArn;
use kcl_core::reference::ReferenceStream;
use rand::Rng as _;

use super::workload::pause;
use crate::handle::Handle;
use crate::node::Main;
use crate::rng::below;

/// Replaces a random open shard now and then: by two as long as there are few, else by one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Resharding {
    /// The mean pause; each lasts from half of it to one and a half.
    pub every: Duration,
    /// How many shards are open at most.
    pub max_open: usize,
    /// When it stops, since the run began.
    pub until: Duration,
}

impl Resharding {
    /// Starts with `stream`. The result is the number of shards replaced.
    pub fn start(self, sim: &Handle, service: &ReferenceStream, stream: &StreamArn) -> Main<u64> {
        let (handle, service, stream) = (sim.clone(), service.clone(), stream.clone());
        sim.spawn("resharding", async move {
            let mut rng = handle.rng("resharding");
            let mut replaced = 0;
            while handle.now() < self.until {
                handle.sleep(pause(self.every, rng.next_u64())).await;
                let open = service.open_shards(&stream);
                // A stream that is switched off has no open shard, and a choice among none is none.
                let Some(shard) = open.get(below(rng.next_u64(), open.len())) else { continue };
                let children = match open.len() < self.max_open {
                    true => service.split(&stream, shard),
                    false => service.roll(&stream, shard).map(|child| vec![child]),
                };
                match children {
                    Ok(_) => replaced += 1,
                    Err(error) => handle.fail(format!("an open shard was not replaced: {error}")),
                }
            }
            replaced
        })
    }
}
