//! Who holds which lease: an even share for every worker, in as few moves as can be.
//!
//! Every worker computes the whole assignment from what it sees and carries out its own lines only. Workers that see the same
//! compute the same, so nobody leads. Views that differ cost a refused write or a moment's delay: a lease that nobody takes in
//! time is anyone's.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::time::Duration;

use crate::Mono;
use crate::model::{LeaseKey, Owner, WorkerId};

/// What a worker sees of the fleet. Finished and stopped leases are not in it.
#[derive(Debug, Clone)]
pub(crate) struct View {
    /// Who looks. It moves nothing unless it is among the workers.
    pub(crate) me: WorkerId,
    /// The workers that live.
    pub(crate) workers: Vec<WorkerView>,
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
    /// Its share, relative to the others'. 0 for a worker that wants no leases.
    pub(crate) weight: u32,
}

/// A lease that is not finished and not stopped.
#[derive(Debug, Clone)]
pub(crate) struct LeaseView {
    /// Which.
    pub(crate) key: LeaseKey,
    /// Who has it.
    pub(crate) hold: LeaseHold,
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
    /// Somebody who is gone, or was evicted and has let its time run out: it may be taken.
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
        /// Since when.
        since: Mono,
    },
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
    /// A lease that is held for less is not moved.
    pub(crate) min_hold: Duration,
    /// How long a lease is left to the one it is meant for. Then to the one the plan gives it to, and as long again
    /// later to anyone.
    pub(crate) claim_deadline: Duration,
    /// How long a worker may hold more than its share and hand nothing over.
    pub(crate) evict_after: Duration,
    /// Hand-overs, or evictions, in one round at most. Takes are not limited: nobody reads those shards.
    pub(crate) max_moves_per_round: usize,
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

/// The plan's memory: who has been holding too much, and who does not take what is meant for it.
#[derive(Debug, Clone, Default)]
pub(crate) struct Balance {
    over: BTreeMap<WorkerId, Over>,
    deaf: BTreeMap<WorkerId, Mono>,
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

    /// What I am to do now.
    pub(crate) fn plan(&mut self, view: &View) -> Vec<Move> {
        self.note_deaf(view);
        let Some(fleet) = Fleet::of(view, &self.deaf) else {
            self.over.clear();
            return Vec::new();
        };
        let transfers = fleet.transfers();
        let mut moves = fleet.takes(view);
        moves.extend(fleet.hand_overs(view, &transfers));
        moves.extend(self.evictions(view, &fleet, &transfers));
        moves
    }

    fn note_deaf(&mut self, view: &View) {
        let pardon = view.limits.claim_deadline.saturating_mul(Self::DEAF_FOR);
        self.deaf.retain(|_, since| view.now.since(*since) < pardon);
        for lease in &view.leases {
            let (LeaseHold::Free { intended_for: Some(owner), since }
            | LeaseHold::Expired { intended_for: Some(owner), since }) = &lease.hold
            else {
                continue;
            };
            if view.now.since(*since) >= view.limits.claim_deadline
                && let Some(worker) = view.workers.iter().find(|worker| worker.id.owner() == *owner)
            {
                self.deaf.entry(worker.id.clone()).or_insert(view.now);
            }
        }
        // What I take is my own affair.
        self.deaf.remove(&view.me);
    }

    fn evictions(&mut self, view: &View, fleet: &Fleet<'_>, transfers: &[Transfer]) -> Vec<Move> {
        let before = std::mem::take(&mut self.over);
        for seat in fleet.seats.iter().filter(|seat| *seat.id != view.me && seat.excess() > 0) {
            let held = seat.held.len();
            // One that has let go of something since is on its way.
            let since = before.get(seat.id).filter(|over| over.held <= held).map_or(view.now, |over| over.since);
            self.over.insert(seat.id.clone(), Over { since, held });
        }
        let mut moves = Vec::new();
        for transfer in transfers.iter().filter(|transfer| transfer.to == fleet.me) {
            let from = &fleet.seats[transfer.from];
            let stuck = self.over.get(from.id);
            if stuck.is_some_and(|over| view.now.since(over.since) >= view.limits.evict_after) {
                moves.extend(from.movable(view).skip(transfer.skip).take(transfer.leases).cloned().map(Move::Evict));
            }
        }
        moves.truncate(view.limits.max_moves_per_round);
        moves
    }
}

/// The fleet as the plan sees it.
struct Fleet<'a> {
    me: usize,
    /// In the order of the workers' ids.
    seats: Vec<Seat<'a>>,
    /// What waits for me.
    mine: Vec<&'a LeaseKey>,
    /// What waits for nobody in particular, in the order of the keys.
    pool: Vec<Waiting<'a>>,
}

/// A worker's place in the plan.
struct Seat<'a> {
    id: &'a WorkerId,
    weight: u64,
    /// What it holds, in the order of the keys, and since when.
    held: Vec<(&'a LeaseKey, Mono)>,
    /// What waits for it beside.
    coming: usize,
    /// The most it may have.
    cap: usize,
    /// What it is to have.
    target: usize,
    /// What the plan gives it of the pool.
    pooled: usize,
}

impl Seat<'_> {
    fn count(&self) -> usize {
        self.held.len() + self.coming
    }

    /// What it is to give away; what merely waits for it cannot be handed over.
    fn excess(&self) -> usize {
        self.count().saturating_sub(self.target).min(self.held.len())
    }

    /// What it is still to get.
    fn room(&self) -> usize {
        self.target.saturating_sub(self.count() + self.pooled)
    }

    /// What may be moved, in the order in which it is.
    fn movable(&self, view: &View) -> impl Iterator<Item = &LeaseKey> {
        let moves = |since: Mono| view.now.since(since) >= view.limits.min_hold;
        self.held.iter().filter(move |(_, since)| moves(*since)).map(|(key, _)| *key)
    }
}

/// A lease that nobody has.
struct Waiting<'a> {
    key: &'a LeaseKey,
    /// Since when it is for the plan to give.
    since: Mono,
    /// To whom the plan gives it; nobody when all are full.
    to: Option<usize>,
}

/// So many leases from one worker to another, after those that go to others before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Transfer {
    from: usize,
    to: usize,
    skip: usize,
    leases: usize,
}

impl<'a> Fleet<'a> {
    /// `None` when the worker that looks is not among those that live.
    fn of(view: &'a View, deaf: &BTreeMap<WorkerId, Mono>) -> Option<Self> {
        let by_id: BTreeMap<&WorkerId, u32> = view.workers.iter().map(|worker| (&worker.id, worker.weight)).collect();
        let me = by_id.keys().position(|id| **id == view.me)?;
        let seats = by_id.iter().map(|(id, weight)| Seat {
            id,
            weight: u64::from(*weight),
            held: Vec::new(),
            coming: 0,
            cap: view.limits.max_leases,
            target: 0,
            pooled: 0,
        });
        let mut fleet = Self { me, seats: seats.collect(), mine: Vec::new(), pool: Vec::new() };
        fleet.sort_in(view);
        for seat in fleet.seats.iter_mut().filter(|seat| deaf.contains_key(seat.id)) {
            seat.cap = seat.cap.min(seat.count());
        }
        fleet.set_targets();
        fleet.give_pool();
        Some(fleet)
    }

    /// Puts every lease where it is counted.
    fn sort_in(&mut self, view: &'a View) {
        let owners: BTreeMap<Owner, usize> =
            self.seats.iter().enumerate().map(|(n, seat)| (seat.id.owner(), n)).collect();
        let mut leases: Vec<&LeaseView> = view.leases.iter().collect();
        leases.sort_by_key(|lease| &lease.key);
        for LeaseView { key, hold } in leases {
            let intended = match hold {
                LeaseHold::Held { .. } => None,
                LeaseHold::Free { intended_for, .. }
                | LeaseHold::Expired { intended_for, .. }
                | LeaseHold::Evicted { intended_for } => intended_for.as_ref().and_then(|owner| owners.get(owner)),
            };
            match (hold, intended) {
                (LeaseHold::Held { by, since }, _) => {
                    if let Some(seat) = owners.get(by).and_then(|n| self.seats.get_mut(*n)) {
                        seat.held.push((key, *since));
                    }
                }
                (LeaseHold::Evicted { .. }, Some(n)) => self.seats[*n].coming += 1,
                (LeaseHold::Evicted { .. }, None) => {}
                (LeaseHold::Free { since, .. } | LeaseHold::Expired { since, .. }, Some(n)) => {
                    if view.now.since(*since) >= view.limits.claim_deadline {
                        self.pool.push(Waiting { key, since: *since + view.limits.claim_deadline, to: None });
                    } else {
                        self.seats[*n].coming += 1;
                        if *n == self.me {
                            self.mine.push(key);
                        }
                    }
                }
                (LeaseHold::Free { since, .. } | LeaseHold::Expired { since, .. }, None) => {
                    self.pool.push(Waiting { key, since: *since, to: None });
                }
            }
        }
    }

    /// Sets every worker's target: its share by weight, rounded down or up, rounded up first where a worker holds so
    /// many already. A worker within rounding of its share thus neither gives nor gets.
    fn set_targets(&mut self) {
        let mut left = self.pool.len() + self.seats.iter().map(Seat::count).sum::<usize>();
        if self.seats.iter().all(|seat| seat.weight == 0) {
            self.seats.iter_mut().for_each(|seat| seat.weight = 1);
        }
        let mut open: Vec<usize> = (0..self.seats.len()).collect();
        // What a full worker cannot have is shared by the others, which may fill them in turn.
        loop {
            let weights: u64 = open.iter().map(|n| self.seats[*n].weight).sum();
            let (full, rest): (Vec<usize>, Vec<usize>) = open.iter().partition(|n| {
                let seat = &self.seats[**n];
                wide(left) * u128::from(seat.weight) > wide(seat.cap) * u128::from(weights)
            });
            if full.is_empty() {
                break;
            }
            for n in full {
                self.seats[n].target = self.seats[n].cap.min(left);
                left -= self.seats[n].target;
            }
            open = rest;
        }
        self.round(&open, left);
    }

    /// Shares `left` leases out among workers that are not full by them.
    fn round(&mut self, open: &[usize], left: usize) {
        let weights: u128 = open.iter().map(|n| u128::from(self.seats[*n].weight)).sum();
        if weights == 0 {
            return;
        }
        let mut rounded_down = Vec::new();
        let mut given = 0;
        for n in open {
            let seat = &mut self.seats[*n];
            let product = wide(left) * u128::from(seat.weight);
            // At most `left`, so it fits.
            seat.target = usize::try_from(product / weights).unwrap_or(left);
            given += seat.target;
            if !product.is_multiple_of(weights) {
                rounded_down.push((Reverse(seat.count() > seat.target), Reverse(product % weights), *n));
            }
        }
        rounded_down.sort_unstable();
        for (_, _, n) in rounded_down.into_iter().take(left.saturating_sub(given)) {
            self.seats[n].target += 1;
        }
    }

    /// Gives each lease of the pool to the worker with the most room.
    fn give_pool(&mut self) {
        for n in 0..self.pool.len() {
            let to = (0..self.seats.len()).filter(|to| self.seats[*to].room() > 0);
            let to = to.max_by_key(|to| (self.seats[*to].room(), Reverse(*to)));
            if let Some(to) = to {
                self.seats[to].pooled += 1;
            }
            self.pool[n].to = to;
        }
    }

    /// Who gives how many to whom.
    fn transfers(&self) -> Vec<Transfer> {
        let mut room: Vec<usize> = self.seats.iter().map(Seat::room).collect();
        let mut transfers = Vec::new();
        for (from, seat) in self.seats.iter().enumerate() {
            let mut skip = 0;
            for (to, room) in room.iter_mut().enumerate() {
                let leases = (seat.excess() - skip).min(*room);
                if leases > 0 {
                    transfers.push(Transfer { from, to, skip, leases });
                    *room -= leases;
                    skip += leases;
                }
            }
        }
        transfers
    }

    fn takes(&self, view: &View) -> Vec<Move> {
        let patience = self.patience(view);
        let intended = self.mine.iter().copied();
        let given = self.pool.iter().filter(|lease| lease.to == Some(self.me)).map(|lease| lease.key);
        let orphaned = |lease: &&Waiting<'_>| lease.to != Some(self.me) && view.now.since(lease.since) >= patience;
        let orphans = self.pool.iter().filter(orphaned).map(|lease| lease.key);
        let room = view.limits.max_leases.saturating_sub(self.seats[self.me].held.len());
        intended.chain(given).chain(orphans).take(room).cloned().map(Move::Take).collect()
    }

    /// How long I leave a lease to the worker to which the plan gives it: the longer, the more others are better placed.
    fn patience(&self, view: &View) -> Duration {
        let place = |n: usize| (Reverse(self.seats[n].room()), self.seats[n].count(), n);
        let better = (0..self.seats.len()).filter(|n| place(*n) < place(self.me)).count();
        let rank = u32::try_from(better).unwrap_or(u32::MAX).min(Balance::LAST_RANK);
        let eighths = Balance::RANKS_PER_DEADLINE;
        view.limits.claim_deadline.saturating_mul(eighths + rank) / eighths
    }

    fn hand_overs(&self, view: &View, transfers: &[Transfer]) -> Vec<Move> {
        let mut movable = self.seats[self.me].movable(view);
        let mut moves = Vec::new();
        for transfer in transfers.iter().filter(|transfer| transfer.from == self.me) {
            let to = self.seats[transfer.to].id;
            let keys = movable.by_ref().take(transfer.leases);
            moves.extend(keys.map(|key| Move::HandOver { key: key.clone(), to: to.clone() }));
        }
        moves.truncate(view.limits.max_moves_per_round);
        moves
    }
}

fn wide(number: usize) -> u128 {
    // A usize has at most 64 bits.
    number as u128
}

#[cfg(test)]
mod tests;
