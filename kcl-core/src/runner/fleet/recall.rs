//! Letting go of what an operator has written.

use std::collections::BTreeSet;

use super::Fleet;
use crate::contract::Liveness;
use crate::model::{Lease, LeaseKey};
use crate::policy::recall;
use crate::policy::round::Streams;

impl Fleet {
    /// Has each lease written that another seems to have written; and gives away what was let go of.
    pub(super) fn heed_operators(&mut self, held: &BTreeSet<LeaseKey>, streams: &Streams<'_>) {
        if self.session.liveness == Liveness::PerLease {
            return;
        }
        self.ask_the_doubtful();
        let recalled = recall::recalled(&self.seen, &self.own(held), streams);
        let recalled: Vec<Lease> = recalled.into_iter().cloned().collect();
        for lease in recalled {
            self.give_back(lease);
        }
    }
}
