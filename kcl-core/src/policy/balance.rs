//! Who holds which lease: an even share for every worker, in as few moves as can be.
//!
//! Every worker computes the whole assignment from what it sees and carries out its own lines only. Workers that see the same
//! compute the same, so nobody leads, and who is to get a lease knows it before it is given. Views that differ cost a refused
//! write or a moment's delay: a lease that nobody takes in time is anyone's.

mod pairing;
mod rest;
mod seats;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use seats::{Seats, Transfer};

use crate::Mono;
use crate::model::{LeaseKey, Owner, WorkerId};

/// What a worker sees of the fleet. Finished and stopped leases are not in it.
#[derive(Debug, Clone)]
pub(crate) struct View {
    /// Who looks. It moves nothing unless it is among the workers.
    pub(crate) me: WorkerId,
    /// The workers that live.
    pub(crate) workers: Vec<WorkerView>,
    /// Somebody is silent of whom the table does not say yet that it is gone: others may still count on it.
    pub(crate) doubtful: bool,
    /// The leases to hold.
    pub(crate) leases: Vec<LeaseView>,
    /// When it looks.
    pub(crate) now: Mono,
    /// The rules.
    pub(crate) limits: Limits,
}

/// A worker that lives.
#[derive(Debug, Clone)]
pub(crate) struct WorkerView {
    /// Who.
    pub(crate) id: WorkerId,
    /// Its share, relative to the others'; zero counts as one.
    pub(crate) weight: u32,
    /// It gives everything away and gets nothing.
    pub(crate) leaving: bool,
}

/// A lease that is not finished and not stopped.
#[derive(Debug, Clone)]
pub(crate) struct LeaseView {
    /// Which.
    pub(crate) key: LeaseKey,
    /// Who has it.
    pub(crate) hold: LeaseHold,
    /// What it takes to read the shard: 1 for an idle one.
    pub(crate) cost: u32,
}

/// Who has a lease. Instants are those at which the looking worker first saw it so.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum LeaseHold {
    /// Nobody.
    Free {
        /// Who is to take it.
        intended_for: Option<Owner>,
        /// Since when.
        since: Mono,
    },
    /// Somebody who let it expire. Only who has watched it for long enough knows: it looks at the table often, the others may not, and
    /// whom the plan gives it to need not be one of those. So whoever sees it takes it.
    Lapsed,
    /// Somebody who is known to be gone, or was evicted and has let its time run out: it may be taken.
    Expired {
        /// Who is to take it.
        intended_for: Option<Owner>,
        /// Since when.
        since: Mono,
    },
    /// This owner, which need not be a worker of the view: a dead one that is still being watched, or a Java worker.
    Held {
        /// Who.
        by: Owner,
        /// Since when; absent for longer than the worker looks.
        since: Option<Mono>,
    },
    /// The owner lets others expire, and this one will: it may not be taken yet, but is counted for whoever is to take it. Workers
    /// do not see all expire at the same time, and would divide what each sees differently.
    Expiring,
    /// An owner that was asked to let go and is being watched until it may be taken.
    Evicted {
        /// Who is to take it.
        intended_for: Option<Owner>,
    },
}

/// The rules of balance.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Limits {
    /// The most leases a worker holds; the same for the whole fleet.
    pub(crate) max_leases: usize,
    /// A lease that is held for less is not moved to even things out.
    pub(crate) min_hold: Duration,
    /// How long who is there must have been the same before things are evened out: in a deploy, one worker comes as another goes.
    pub(crate) settle: Duration,
    /// How long a lease is left to the one it is meant for. Then to the one the plan gives it to, and as long again
    /// later to anyone.
    pub(crate) claim_deadline: Duration,
    /// How long a worker may hold more than its share and hand nothing over.
    pub(crate) evict_after: Duration,
    /// What one worker is handed in one round at most, and what one evicts; ten times as much is what one gives away to even things
    /// out. Takes are not limited: nobody reads those shards.
    pub(crate) moves_per_round: usize,
}

/// What the worker that looks is to do.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Plan {
    /// Its lines.
    pub(crate) moves: Vec<Move>,
    /// What each of the others is about to hand to it, in this round or a later one, in the order in which it does.
    pub(crate) expected: BTreeMap<WorkerId, Vec<LeaseKey>>,
    /// When it has more to give, or to expect, though nobody writes anything until then: its next look is no later.
    pub(crate) next: Option<Mono>,
}

/// One line of the plan, for the worker that looks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Move {
    /// Take this lease, which is free or expired.
    Take(LeaseKey),
    /// Give this lease of mine to another worker.
    HandOver {
        /// Which.
        key: LeaseKey,
        /// To whom.
        to: WorkerId,
    },
    /// Ask the owner of this lease, which lives and does not hand it over, to let go of it in my favour.
    Evict(LeaseKey),
}

/// The plan's memory: since when the same workers are there, who has been holding too much, and who does not take what is meant for it.
#[derive(Debug, Clone, Default)]
pub(crate) struct Balance {
    crew: Option<Crew>,
    over: BTreeMap<WorkerId, Over>,
    deaf: BTreeMap<WorkerId, Mono>,
}

/// The workers that stay.
#[derive(Debug, Clone)]
struct Crew {
    workers: BTreeSet<WorkerId>,
    /// Others may have counted on somebody more.
    doubtful: bool,
    /// Since when they are these, and nobody can count on more.
    since: Mono,
    /// Since when there was no quiet time long enough.
    restless_since: Mono,
}

#[derive(Debug, Clone, Copy)]
struct Over {
    since: Mono,
    held: usize,
}

impl Balance {
    /// A worker that let a claim deadline pass is given nothing more for so many claim deadlines, or leases would go
    /// to and fro between it and the others, unread for most of the time.
    const DEAF_FOR: u32 = 20;
    /// Ranks after this one all wait the same, so that an orphan's wait is bounded whatever the size of the fleet.
    const LAST_RANK: u32 = 24;
    /// Each rank waits an eighth of the claim deadline longer than the one before.
    const RANKS_PER_DEADLINE: u32 = 8;
    /// A fleet that never comes to rest, because one of its workers dies again and again, is evened out after so many times the quiet
    /// time.
    const RESTLESS_FOR: u32 = 6;

    /// What I am to do now.
    pub(crate) fn plan(&mut self, view: &View) -> Plan {
        self.note_deaf(view);
        let quiet = self.quiet_time(view);
        let settle = view.limits.settle;
        let Some(mut seats) = Seats::of(view, &self.deaf) else {
            self.over.clear();
            return Plan::default();
        };
        seats.give_pool();
        let mut transfers = seats.clear_out();
        // A receiver looks out a little before the giver's clock has come so far.
        let early = view.limits.claim_deadline / 2;
        if quiet.saturating_add(early) >= settle {
            transfers.extend(seats.even_out());
        }
        seats.pair(&mut transfers);
        let mut moves = seats.takes(view);
        let this_round = seats.this_round(&transfers, view.limits.moves_per_round);
        let own =
            this_round.iter().filter(|transfer| transfer.from == seats.me && (transfer.forced || quiet >= settle));
        moves.extend(own.map(|transfer| Move::HandOver {
            key: seats.key(transfer).clone(),
            to: seats.seats[transfer.to].id.clone(),
        }));
        let later = own_of(&transfers, seats.me) > own_of(this_round.iter().copied(), seats.me);
        let coming: Vec<&Transfer> = this_round.into_iter().filter(|transfer| transfer.to == seats.me).collect();
        let mut expected: BTreeMap<WorkerId, Vec<LeaseKey>> = BTreeMap::new();
        for transfer in transfers.iter().filter(|transfer| transfer.to == seats.me) {
            let from = seats.seats[transfer.from].id;
            expected.entry(from.clone()).or_default().push(seats.key(transfer).clone());
        }
        moves.extend(self.evictions(view, &seats, &transfers, &coming));
        let gives = transfers.iter().any(|transfer| transfer.from == seats.me);
        let next = match settle.checked_sub(quiet).filter(|left| !left.is_zero()) {
            _ if later => Some(view.now),
            Some(left) if gives || seats.gives_more() => Some(view.now + left),
            Some(left) if seats.gets_more() => Some(view.now + left.saturating_sub(early)),
            Some(_) => None,
            None => seats.next_movable(view),
        };
        Plan { moves, expected, next }
    }

    /// How long the same workers have been there, as everybody can see; for ever where they would never be.
    fn quiet_time(&mut self, view: &View) -> Duration {
        let (now, settle) = (view.now, view.limits.settle);
        let workers = view.workers.iter().filter(|worker| !worker.leaving).map(|worker| worker.id.clone());
        let workers: BTreeSet<WorkerId> = workers.collect();
        let fresh = || Crew { workers: workers.clone(), doubtful: view.doubtful, since: now, restless_since: now };
        let crew = self.crew.get_or_insert_with(fresh);
        // It begins with the first look without a doubt: all are told at once that somebody is gone, but began to doubt at different times.
        if crew.workers != workers || crew.doubtful || view.doubtful {
            if !crew.doubtful && now.since(crew.since) >= settle {
                crew.restless_since = now;
            }
            (crew.workers, crew.doubtful, crew.since) = (workers, view.doubtful, now);
        }
        let restless = now.since(crew.restless_since) >= settle.saturating_mul(Self::RESTLESS_FOR);
        if restless { Duration::MAX } else { now.since(crew.since) }
    }

    fn note_deaf(&mut self, view: &View) {
        let pardon = view.limits.claim_deadline.saturating_mul(Self::DEAF_FOR);
        self.deaf.retain(|_, since| view.now.since(*since) < pardon);
        let late: BTreeSet<&Owner> = view
            .leases
            .iter()
            .filter_map(|lease| match &lease.hold {
                LeaseHold::Free { intended_for: Some(owner), since }
                | LeaseHold::Expired { intended_for: Some(owner), since } => {
                    (view.now.since(*since) >= view.limits.claim_deadline).then_some(owner)
                }
                _ => None,
            })
            .collect();
        if !late.is_empty() {
            for worker in view.workers.iter().filter(|worker| late.contains(&worker.id.owner())) {
                self.deaf.entry(worker.id.clone()).or_insert(view.now);
            }
        }
        // What I take is my own affair.
        self.deaf.remove(&view.me);
    }

    fn evictions(&mut self, view: &View, seats: &Seats<'_>, transfers: &[Transfer], coming: &[&Transfer]) -> Vec<Move> {
        let before = std::mem::take(&mut self.over);
        let givers: BTreeSet<usize> = transfers.iter().map(|transfer| transfer.from).collect();
        for seat in givers.into_iter().filter(|from| *from != seats.me).map(|from| &seats.seats[from]) {
            let held = seat.held.len();
            // One that has let go of something since is on its way.
            let since = before.get(seat.id).filter(|over| over.held <= held).map_or(view.now, |over| over.since);
            self.over.insert(seat.id.clone(), Over { since, held });
        }
        let stuck = |transfer: &&&Transfer| {
            let over = self.over.get(seats.seats[transfer.from].id);
            over.is_some_and(|over| view.now.since(over.since) >= view.limits.evict_after)
        };
        let moves = coming.iter().filter(stuck).map(|transfer| Move::Evict(seats.key(transfer).clone()));
        moves.take(view.limits.moves_per_round).collect()
    }
}

/// How many of them one worker gives.
fn own_of<'t>(transfers: impl IntoIterator<Item = &'t Transfer>, me: usize) -> usize {
    transfers.into_iter().filter(|transfer| transfer.from == me).count()
}

#[cfg(test)]
mod tests;
