//! S1: at most one worker acts for a shard, in true time.
//!
//! A processor is called only while the lease table names its tenure: the last write that set the owner is the one that its epoch
//! tells. And when a lease goes to somebody else, nobody who runs believes any more that it is theirs. A machine that stands believes
//! nothing; what it does when it goes on is judged by the first rule. Nobody is told of a loss that did not happen. Source: design §5, rules 2 and 3; P3.

use std::collections::{BTreeMap, BTreeSet};

use kcl_core::{Lease, LeaseLost, Owner, ShardId};
use tokio_util::sync::CancellationToken;

use super::{Condition, Invariant, Law, Now, Place, Seen};
use crate::history::{Event, Session};

#[derive(Debug, Default)]
pub(super) struct OneOwner {
    /// By shard: who owns it by the table, and the counter that the write left which made it so.
    owners: BTreeMap<ShardId, (Option<Owner>, i64)>,
    believers: BTreeMap<ShardId, Vec<Believer>>,
    sessions: BTreeMap<Session, u64>,
    /// Taken back by an operator, and not taken since: the owner learns of it with its next write, or when its time is over.
    operated: BTreeSet<ShardId>,
    /// An operator is about to write these.
    announced: BTreeSet<ShardId>,
}

#[derive(Debug)]
struct Believer {
    session: Session,
    place: Place,
    epoch: u64,
    lost: CancellationToken,
}

impl OneOwner {
    fn written(&mut self, now: &Now<'_>, before: Option<&Lease>, after: &Lease) -> Result<(), String> {
        if self.announced.remove(&after.shard) {
            self.operated.insert(after.shard.clone());
            self.owners.insert(after.shard.clone(), (after.owner.clone(), after.counter.0));
            return Ok(());
        }
        let operated = self.operated.remove(&after.shard);
        let retaken = operated || before.is_some_and(|before| before.evicted && !after.evicted);
        let known = self.owners.get(&after.shard);
        let same = known.is_some_and(|(owner, _)| *owner == after.owner);
        // An owner that takes what names it already changes nothing here: whoever then begins with a later epoch ends those before.
        if same && !retaken {
            return Ok(());
        }
        self.owners.insert(after.shard.clone(), (after.owner.clone(), after.counter.0));
        let Some(believers) = self.believers.get_mut(&after.shard) else { return Ok(()) };
        believers.retain(|believer| {
            !believer.lost.is_cancelled() && !matches!((now.condition)(believer.place), Condition::Dead(_))
        });
        let runs =
            |believer: &&Believer| matches!((now.condition)(believer.place), Condition::Runs | Condition::Blocked);
        match believers.iter().find(runs) {
            None => Ok(()),
            Some(believer) => Err(format!(
                "{} went to {:?} while session {} believes to own it",
                after.shard, after.owner, believer.session.0
            )),
        }
    }

    /// A call of a session on a shard.
    fn called(&mut self, session: Session, shard: &ShardId) -> Result<(), String> {
        if self.operated.contains(shard) {
            return Ok(());
        }
        let Some(epoch) = self.sessions.get(&session) else { return Ok(()) };
        let Some((owner, since)) = self.owners.get(shard) else { return Ok(()) };
        let newest = self.believers.get(shard).into_iter().flatten().map(|believer| believer.epoch).max();
        if owner.is_none() || i64::try_from(*epoch).is_ok_and(|epoch| epoch < *since) || newest > Some(*epoch) {
            return Err(format!(
                "session {} of epoch {epoch} acts for {shard}, which is {owner:?}'s since counter {since}",
                session.0
            ));
        }
        Ok(())
    }
}

impl Invariant for OneOwner {
    fn law(&self) -> Law {
        Law { id: "S1", promise: "P3", name: "one owner" }
    }

    fn see(&mut self, now: &Now<'_>, seen: &Seen<'_>) -> Result<(), String> {
        match seen {
            Seen::Lease { before, after: Some(after) } => self.written(now, *before, after),
            Seen::Lease { before: Some(gone), after: None } => {
                self.owners.remove(&gone.shard);
                Ok(())
            }
            Seen::Operated { shard } => {
                self.announced.insert((*shard).clone());
                Ok(())
            }
            Seen::Opened(opened) => {
                let (session, place, epoch) = (opened.session, opened.place, opened.epoch);
                self.sessions.insert(session, epoch);
                let believers = self.believers.entry(opened.shard.clone()).or_default();
                believers.retain(|believer| !believer.lost.is_cancelled());
                believers.push(Believer { session, place, epoch, lost: opened.lost.clone() });
                self.called(session, &opened.shard)
            }
            Seen::Lost { session, shard, why: why @ (LeaseLost::Taken | LeaseLost::Deleted) } => {
                let operated = self.operated.contains(*shard);
                let still = !operated && self.called(*session, shard).is_ok() && self.owners.contains_key(*shard);
                match still && self.sessions.contains_key(session) {
                    true => {
                        Err(format!("session {} was told that {shard} is {why:?}, and it is still its own", session.0))
                    }
                    false => Ok(()),
                }
            }
            Seen::Line(line) => match line.event {
                Event::Delivered(_) | Event::Returned | Event::Ended => self.called(line.session, &line.shard),
                _ => Ok(()),
            },
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{Bench, lease, opened};
    use super::*;

    #[test]
    fn a_call_after_another_has_taken_the_lease_is_found() {
        let mut bench = Bench::new(OneOwner::default());
        let a = lease("s", 1, Some("a/1"));
        bench.fine(&Seen::Lease { before: None, after: Some(&a) });
        bench.fine(&Seen::Opened(&opened(1, "s", 1)));
        bench.fine(&bench.line(1, "s", Event::Returned).seen());
        bench.stands(1);
        bench.fine(&Seen::Lease { before: Some(&a), after: Some(&lease("s", 2, Some("b/1"))) });
        bench.wrong(&bench.line(1, "s", Event::Returned).seen(), "acts for s");
    }

    #[test]
    fn one_who_runs_and_believes_to_own_what_another_takes_is_found() {
        let mut bench = Bench::new(OneOwner::default());
        let a = lease("s", 1, Some("a/1"));
        bench.fine(&Seen::Lease { before: None, after: Some(&a) });
        let holder = opened(1, "s", 1);
        bench.fine(&Seen::Opened(&holder));
        let b = lease("s", 2, Some("b/1"));
        bench.wrong(&Seen::Lease { before: Some(&a), after: Some(&b) }, "believes to own it");
    }

    #[test]
    fn one_who_has_let_go_is_no_believer() {
        let mut bench = Bench::new(OneOwner::default());
        let a = lease("s", 1, Some("a/1"));
        bench.fine(&Seen::Lease { before: None, after: Some(&a) });
        let holder = opened(1, "s", 1);
        bench.fine(&Seen::Opened(&holder));
        holder.lost.cancel();
        bench.fine(&Seen::Lease { before: Some(&a), after: Some(&lease("s", 2, None)) });
        bench.wrong(&bench.line(1, "s", Event::Returned).seen(), "acts for s");
    }

    #[test]
    fn an_owner_from_whom_an_operator_took_a_shard_back_acts_until_the_lease_is_taken_and_no_longer() {
        let (mut bench, shard) = (Bench::new(OneOwner::default()), super::super::testing::id("s"));
        let a = lease("s", 1, Some("a/1"));
        bench.fine(&Seen::Lease { before: None, after: Some(&a) });
        let holder = opened(1, "s", 1);
        bench.fine(&Seen::Opened(&holder));
        bench.fine(&Seen::Operated { shard: &shard });
        let operated = lease("s", 2, Some("operator/1"));
        bench.fine(&Seen::Lease { before: Some(&a), after: Some(&operated) });
        bench.fine(&Seen::Lost { session: Session(1), shard: &shard, why: LeaseLost::Taken });
        bench.fine(&bench.line(1, "s", Event::Returned).seen());
        let b = lease("s", 3, Some("b/1"));
        bench.wrong(&Seen::Lease { before: Some(&operated), after: Some(&b) }, "believes to own it");
        holder.lost.cancel();
        bench.wrong(&bench.line(1, "s", Event::Returned).seen(), "acts for s");
    }

    #[test]
    fn a_loss_that_did_not_happen_is_found() {
        let mut bench = Bench::new(OneOwner::default());
        let (a, shard) = (lease("s", 1, Some("a/1")), super::super::testing::id("s"));
        bench.fine(&Seen::Lease { before: None, after: Some(&a) });
        let holder = opened(1, "s", 1);
        bench.fine(&Seen::Opened(&holder));
        bench.wrong(&Seen::Lost { session: Session(1), shard: &shard, why: LeaseLost::Taken }, "still its own");
        bench.fine(&Seen::Lost { session: Session(1), shard: &shard, why: LeaseLost::Expired });
        holder.lost.cancel();
        bench.fine(&Seen::Lease { before: Some(&a), after: Some(&lease("s", 2, Some("b/1"))) });
        bench.fine(&Seen::Lost { session: Session(1), shard: &shard, why: LeaseLost::Taken });
    }

    #[test]
    fn an_older_instance_of_the_same_owner_acts_no_more_once_a_newer_has_begun() {
        let mut bench = Bench::new(OneOwner::default());
        let a = lease("s", 1, Some("a/1"));
        bench.fine(&Seen::Lease { before: None, after: Some(&a) });
        bench.fine(&Seen::Opened(&opened(1, "s", 1)));
        bench.fine(&Seen::Lease { before: Some(&a), after: Some(&lease("s", 5, Some("a/1"))) });
        bench.fine(&Seen::Opened(&opened(2, "s", 5)));
        bench.wrong(&bench.line(1, "s", Event::Returned).seen(), "epoch 1 acts");
    }
}
