//! S6: nothing is called after its last word.
//!
//! After `lease_lost` returned comes nothing, after `shutdown_requested` only `lease_lost`, and no record after the end of the shard.
//! Source: contract of `RecordProcessor`, promise 4; P3.

use std::collections::BTreeMap;

use super::{Invariant, Law, Now, Seen};
use crate::history::{Event, Session};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Last {
    Ended,
    Parting,
    Closed,
}

#[derive(Debug, Default)]
pub(super) struct LastCall {
    said: BTreeMap<Session, Last>,
}

impl Invariant for LastCall {
    fn law(&self) -> Law {
        Law { id: "S6", promise: "P3", name: "last call" }
    }

    fn see(&mut self, _: &Now<'_>, seen: &Seen<'_>) -> Result<(), String> {
        let (session, fine, next) = match seen {
            Seen::Parting(session) => (*session, &[Last::Ended][..], Some(Last::Parting)),
            Seen::CallBegan(session) => (*session, &[Last::Ended, Last::Parting][..], None),
            Seen::Line(line) => match line.event {
                Event::Delivered(_) => (line.session, &[][..], None),
                Event::Ended => (line.session, &[][..], Some(Last::Ended)),
                Event::Closed => (line.session, &[Last::Ended, Last::Parting][..], Some(Last::Closed)),
                _ => return Ok(()),
            },
            _ => return Ok(()),
        };
        if session == Session::WORLD {
            return Ok(());
        }
        if let Some(said) = self.said.get(&session).filter(|said| !fine.contains(said)) {
            return Err(format!("session {} was called after its last word, {said:?}", session.0));
        }
        if let Some(next) = next {
            self.said.insert(session, next);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{Bench, number};
    use super::*;

    #[test]
    fn a_call_after_the_last_word_is_found() {
        for last in [Event::Closed, Event::Ended] {
            let mut bench = Bench::new(LastCall::default());
            bench.fine(&bench.line(1, "s", last).seen());
            bench.wrong(&bench.line(1, "s", Event::Delivered(number(1))).seen(), "after its last word");
        }
        let mut bench = Bench::new(LastCall::default());
        bench.fine(&bench.line(1, "s", Event::Closed).seen());
        bench.wrong(&bench.line(1, "s", Event::Closed).seen(), "after its last word");
    }

    #[test]
    fn after_a_request_to_part_only_the_loss_of_the_lease_is_told() {
        let mut bench = Bench::new(LastCall::default());
        bench.fine(&bench.line(1, "s", Event::Ended).seen());
        bench.fine(&Seen::Parting(Session(1)));
        bench.fine(&bench.line(1, "s", Event::Closed).seen());
        let mut bench = Bench::new(LastCall::default());
        bench.fine(&Seen::Parting(Session(1)));
        bench.wrong(&bench.line(1, "s", Event::Delivered(number(1))).seen(), "after its last word");
    }
}
