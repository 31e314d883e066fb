//! S5: within one ownership, records come in the order of their sequence numbers.
//!
//! An earlier record comes again only in a new call after one that failed. What was skipped is the business of the history checker,
//! which knows what was written. Source: P1.

use std::collections::{BTreeMap, BTreeSet};

use kcl_core::SequenceNumber;

use super::{Invariant, Law, Now, Seen};
use crate::history::{Event, Session};

#[derive(Debug, Default)]
pub(super) struct Order {
    last: BTreeMap<Session, SequenceNumber>,
    /// In a call that began after one that did not acknowledge all: its first record may be an earlier one.
    again: BTreeSet<Session>,
}

impl Invariant for Order {
    fn law(&self) -> Law {
        Law { id: "S5", promise: "P1", name: "order" }
    }

    fn see(&mut self, _: &Now<'_>, seen: &Seen<'_>) -> Result<(), String> {
        match seen {
            Seen::CallBegan(session) => {
                self.again.insert(*session);
            }
            Seen::Line(line) => match line.event {
                Event::Delivered(number) => {
                    let first = self.again.remove(&line.session);
                    let last = self.last.insert(line.session, number);
                    if let Some(last) = last.filter(|last| number <= *last && !first) {
                        return Err(format!("{} got {number} after {last} in one call", line.shard));
                    }
                }
                Event::Closed => {
                    self.last.remove(&line.session);
                    self.again.remove(&line.session);
                }
                _ => {}
            },
            _ => {}
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{Bench, number};
    use super::*;

    fn deliver(bench: &mut Bench<Order>, n: u128) -> Result<(), String> {
        bench.see(&bench.line(1, "s", Event::Delivered(number(n))).seen())
    }

    #[test]
    fn a_record_that_comes_after_a_later_one_is_found() {
        let mut bench = Bench::new(Order::default());
        bench.fine(&Seen::CallBegan(Session(1)));
        assert!(deliver(&mut bench, 5).is_ok());
        assert!(deliver(&mut bench, 6).is_ok());
        assert!(deliver(&mut bench, 6).is_err());
        bench.fine(&Seen::CallBegan(Session(1)));
        assert!(deliver(&mut bench, 5).is_ok(), "a new call may repeat");
        assert!(deliver(&mut bench, 4).is_err());
    }
}
