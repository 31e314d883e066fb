//! S7: one call at a time for each shard.
//!
//! A call that stands with its machine, or died with it, is none: it is dropped before it does anything more. Source: P1, P3.

use std::collections::BTreeMap;

use kcl_core::ShardId;

use super::{Condition, Invariant, Law, Now, Place, Seen};
use crate::history::Session;

#[derive(Debug, Default)]
pub(super) struct OneCall {
    sessions: BTreeMap<Session, (ShardId, Place)>,
    running: BTreeMap<ShardId, Vec<Session>>,
}

impl Invariant for OneCall {
    fn law(&self) -> Law {
        Law { id: "S7", promise: "P1 P3", name: "one call at a time" }
    }

    fn see(&mut self, now: &Now<'_>, seen: &Seen<'_>) -> Result<(), String> {
        match seen {
            Seen::Opened(opened) => {
                self.sessions.insert(opened.session, (opened.shard.clone(), opened.place));
            }
            Seen::CallBegan(session) => {
                let Some((shard, _)) = self.sessions.get(session) else { return Ok(()) };
                let running = self.running.entry(shard.clone()).or_default();
                let runs = |other: &&Session| {
                    let place = self.sessions.get(other).map(|(_, place)| *place);
                    place.is_some_and(|place| (now.condition)(place) == Condition::Runs)
                };
                if let Some(other) = running.iter().find(runs) {
                    return Err(format!(
                        "session {} was called on {shard} during a call of session {}",
                        session.0, other.0
                    ));
                }
                running.push(*session);
            }
            Seen::CallOver(session) => {
                let Some((shard, _)) = self.sessions.get(session) else { return Ok(()) };
                if let Some(running) = self.running.get_mut(shard) {
                    running.retain(|running| running != session);
                }
            }
            _ => {}
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{Bench, opened};
    use super::*;

    fn two() -> Bench<OneCall> {
        let mut bench = Bench::new(OneCall::default());
        bench.fine(&Seen::Opened(&opened(1, "s", 1)));
        bench.fine(&Seen::Opened(&opened(2, "s", 2)));
        bench.fine(&Seen::CallBegan(Session(1)));
        bench
    }

    #[test]
    fn a_call_during_another_is_found() {
        two().wrong(&Seen::CallBegan(Session(2)), "during a call of session 1");
        two().wrong(&Seen::CallBegan(Session(1)), "during a call of session 1");
    }

    #[test]
    fn a_call_that_is_over_or_stands_with_its_machine_is_none() {
        let mut over = two();
        over.fine(&Seen::CallOver(Session(1)));
        over.fine(&Seen::CallBegan(Session(2)));
        let mut stands = two();
        stands.stands(1);
        stands.fine(&Seen::CallBegan(Session(2)));
    }
}
