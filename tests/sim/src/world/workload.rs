//! Writes items.

use std::time::Duration;

use kcl_core::TableName;
use kcl_core::reference::ReferenceStream;
use rand::Rng as _;
use serde_dynamo::{AttributeValue, Item};

use crate::handle::Handle;
use crate::node::Main;
use crate::rng::below;

/// A writer of items with the string key `id` and the number `n`, which rises with every write.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Workload {
    /// How many different items it writes.
    pub keys: usize,
    /// The mean pause between two writes; each lasts from half of it to one and a half.
    pub every: Duration,
    /// When it stops, since the run began.
    pub until: Duration,
}

impl Workload {
    /// Starts writing to `table`, which must have the key `id`. The result is the number of records written.
    ///
    /// The run fails if the table refuses a write.
    pub fn start(self, sim: &Handle, service: &ReferenceStream, table: &TableName) -> Main<u64> {
        let (handle, service, table) = (sim.clone(), service.clone(), table.clone());
        sim.spawn(format!("writer of {table}"), async move {
            let mut rng = handle.rng(&format!("workload/{table}"));
            let mut written = 0;
            while handle.now() < self.until {
                match service.put(&table, item(below(rng.next_u64(), self.keys), written)) {
                    Ok(record) => written += u64::from(record.is_some()),
                    Err(error) => handle.fail(format!("a write was refused: {error}")),
                }
                handle.sleep(pause(self.every, rng.next_u64())).await;
            }
            written
        })
    }
}

fn item(key: usize, n: u64) -> Item {
    let mut item = Item::default();
    item.insert("id".to_owned(), AttributeValue::S(format!("key-{key}")));
    item.insert("n".to_owned(), AttributeValue::N(n.to_string()));
    item
}

/// From half of `mean` to one and a half of it.
pub(crate) fn pause(mean: Duration, random: u64) -> Duration {
    let span = usize::try_from(mean.as_nanos()).unwrap_or(usize::MAX).max(1);
    mean / 2 + Duration::from_nanos(below(random, span) as u64)
}
