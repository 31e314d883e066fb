//! S11: at most two applications read a stream, and one worker of an application reads a shard.
//!
//! A call for records that arrives at the stream comes from an application that holds one of the stream's slots at that instant, of
//! which there are two. Once a processor of another worker was opened on a shard, under a later epoch, the earlier worker asks for no
//! more of it. An application that is refused is told two others that hold the slots. Source: design §8; P4.

use std::collections::{BTreeMap, BTreeSet};

use kcl_core::{READER_SLOTS, ShardId, SourceOp};

use super::{Invariant, Law, Now, Place, Seen};

#[derive(Debug, Default)]
pub(super) struct Readers {
    /// By shard: the newest epoch of each machine that had a processor on it.
    epochs: BTreeMap<ShardId, BTreeMap<Place, u64>>,
}

impl Readers {
    fn asked(&self, place: Place, shard: &ShardId) -> Result<(), String> {
        let Some(epochs) = self.epochs.get(shard) else { return Ok(()) };
        let Some(own) = epochs.get(&place) else { return Ok(()) };
        match epochs.iter().find(|(_, epoch)| *epoch > own) {
            Some((_, later)) => {
                Err(format!("{shard} is read under epoch {own}, and epoch {later} has begun elsewhere"))
            }
            None => Ok(()),
        }
    }
}

impl Invariant for Readers {
    fn law(&self) -> Law {
        Law { id: "S11", promise: "P4", name: "readers" }
    }

    fn see(&mut self, _: &Now<'_>, seen: &Seen<'_>) -> Result<(), String> {
        match seen {
            Seen::Opened(opened) => {
                let epochs = self.epochs.entry(opened.shard.clone()).or_default();
                epochs.insert(opened.place, opened.epoch);
                Ok(())
            }
            Seen::Asked { place, op: SourceOp::GetRecords, shard: Some(shard) } => self.asked(*place, shard),
            Seen::Read { application, holders: Some(holders) }
                if !holders.iter().any(|holder| holder == application) =>
            {
                Err(format!("{application} reads, and the slots are those of {holders:?}"))
            }
            Seen::TurnedAway { application, holders } => {
                let others: BTreeSet<&str> = holders.iter().map(|holder| holder.application.as_str()).collect();
                match others.len() == READER_SLOTS && !others.contains(application) {
                    true => Ok(()),
                    false => Err(format!("{application} was refused by {holders:?}")),
                }
            }
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use kcl_core::Reader;

    use super::super::testing::{Bench, id, opened, place};
    use super::*;

    #[test]
    fn an_application_without_a_slot_that_reads_is_found() {
        let mut bench = Bench::new(Readers::default());
        let holders = ["a".to_owned(), "b".to_owned()];
        bench.fine(&Seen::Read { application: "a", holders: Some(&holders) });
        bench.fine(&Seen::Read { application: "c", holders: None });
        bench.wrong(&Seen::Read { application: "c", holders: Some(&holders) }, "c reads");
    }

    #[test]
    fn a_worker_that_asks_for_what_another_has_begun_with_is_found() {
        let mut bench = Bench::new(Readers::default());
        let shard = id("s");
        let asked = |machine| Seen::Asked { place: place(machine), op: SourceOp::GetRecords, shard: Some(&shard) };
        bench.fine(&Seen::Opened(&opened(1, "s", 1)));
        bench.fine(&asked(1));
        bench.fine(&Seen::Opened(&opened(2, "s", 5)));
        bench.fine(&asked(2));
        bench.wrong(&asked(1), "under epoch 1");
        bench.fine(&Seen::Opened(&opened(1, "s", 9)));
        bench.fine(&asked(1));
    }

    #[test]
    fn a_refusal_that_names_the_wrong_holders_is_found() {
        let mut bench = Bench::new(Readers::default());
        let reader = |name: &str| Reader { application: name.to_owned(), lease_table: name.to_owned() };
        bench.fine(&Seen::TurnedAway { application: "c", holders: &[reader("a"), reader("b")] });
        bench.wrong(&Seen::TurnedAway { application: "a", holders: &[reader("a"), reader("b")] }, "refused");
        bench.wrong(&Seen::TurnedAway { application: "c", holders: &[reader("a"), reader("a")] }, "refused");
    }
}
