//! The arithmetic of the plan: what every worker has, and what moves between them.
//!
//! A worker's load is the cost of its leases divided by its weight. A move is made only if it brings two loads clearly nearer
//! to each other, so every move lowers the sum of their squares: a fleet comes to rest, and stays there.

use std::cmp::{Ordering, Reverse};
use std::collections::{BTreeMap, BinaryHeap, VecDeque};
use std::time::Duration;

use super::pairing::{self, Moving};
use super::{Balance, LeaseHold, LeaseView, Move, View};
use crate::Mono;
use crate::model::{LeaseKey, Owner, WorkerId};
use crate::planted::{self, Bug};

/// The fleet as the plan sees it.
pub(super) struct Seats<'a> {
    /// The place of the worker that looks.
    pub(super) me: usize,
    /// In the order of the workers' ids.
    pub(super) seats: Vec<Seat<'a>>,
    /// What waits for me.
    mine: Vec<&'a LeaseKey>,
    /// What waits for nobody in particular, the costliest first, then in the order of the keys.
    pool: Vec<Waiting<'a>>,
}

/// A worker's place in the plan.
pub(super) struct Seat<'a> {
    pub(super) id: &'a WorkerId,
    weight: u64,
    leaving: bool,
    /// What it holds, in the order of the keys.
    pub(super) held: Vec<Held<'a>>,
    /// How many it is to have, and what they cost.
    count: usize,
    cost: u64,
    /// The most it may have.
    cap: usize,
}

/// A lease that a worker holds.
pub(super) struct Held<'a> {
    key: &'a LeaseKey,
    cost: u64,
    /// It has been held for long enough to be moved.
    movable: bool,
    /// When that will be, where it has not yet.
    movable_at: Option<Mono>,
}

/// A lease that nobody has.
struct Waiting<'a> {
    key: &'a LeaseKey,
    cost: u64,
    /// Since when it is for the plan to give; absent while it may not be taken yet.
    since: Option<Mono>,
    /// Whoever sees it takes it.
    lapsed: bool,
    /// To whom the plan gives it; nobody when all are full.
    to: Option<usize>,
}

/// One lease from one worker to another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Transfer {
    pub(super) from: usize,
    pub(super) to: usize,
    /// Its place among what the giver holds.
    held: usize,
    /// The giver may not keep it; otherwise the move evens things out.
    pub(super) forced: bool,
}

impl Seat<'_> {
    fn is_open(&self) -> bool {
        !self.leaving && self.count < self.cap
    }

    /// How loaded it would be with two thirds of `cost` more, in a fine scale: whoever is lowest by this is the first to whom a lease
    /// of that cost is worth moving.
    fn level(&self, cost: u64) -> u128 {
        (u128::from(3 * self.cost + 2 * cost) << 32) / u128::from(self.weight)
    }

    /// Which of two bears more for its weight.
    fn cmp_load(&self, other: &Self) -> Ordering {
        let (a, b) = (u128::from(self.cost), u128::from(other.cost));
        (a * u128::from(other.weight)).cmp(&(b * u128::from(self.weight)))
    }

    fn get(&mut self, cost: u64) {
        self.count += 1;
        self.cost += cost;
    }

    fn give(&mut self, cost: u64) {
        self.count -= 1;
        self.cost -= cost;
    }
}

impl<'a> Seats<'a> {
    /// `None` when the worker that looks is not among those that live.
    pub(super) fn of(view: &'a View, deaf: &BTreeMap<WorkerId, Mono>) -> Option<Self> {
        let by_id: BTreeMap<&WorkerId, _> = view.workers.iter().map(|worker| (&worker.id, worker)).collect();
        let me = by_id.keys().position(|id| **id == view.me)?;
        let seats = by_id.values().map(|worker| Seat {
            id: &worker.id,
            weight: if planted::is(Bug::WeightsIgnored) { 1 } else { u64::from(worker.weight.max(1)) },
            leaving: worker.leaving,
            held: Vec::new(),
            count: 0,
            cost: 0,
            cap: view.limits.max_leases,
        });
        let mut seats = Self { me, seats: seats.collect(), mine: Vec::new(), pool: Vec::new() };
        seats.sort_in(view);
        for seat in seats.seats.iter_mut().filter(|seat| deaf.contains_key(seat.id)) {
            seat.cap = seat.cap.min(seat.count);
        }
        Some(seats)
    }

    /// Puts every lease where it is counted.
    fn sort_in(&mut self, view: &'a View) {
        let owners: BTreeMap<Owner, usize> =
            self.seats.iter().enumerate().map(|(n, seat)| (seat.id.owner(), n)).collect();
        for LeaseView { key, hold, cost } in &view.leases {
            let cost = u64::from((*cost).max(1));
            let place = |owner: &Option<Owner>| owner.as_ref().and_then(|owner| owners.get(owner)).copied();
            match hold {
                LeaseHold::Held { by, since } => {
                    if let Some(seat) = owners.get(by).and_then(|n| self.seats.get_mut(*n)) {
                        seat.get(cost);
                        let movable_at = since.map(|since| since + view.limits.min_hold).filter(|at| *at > view.now);
                        seat.held.push(Held { key, cost, movable: movable_at.is_none(), movable_at });
                    }
                }
                LeaseHold::Expiring => self.pool.push(Waiting { key, cost, since: None, lapsed: false, to: None }),
                LeaseHold::Lapsed => {
                    self.pool.push(Waiting { key, cost, since: Some(view.now), lapsed: true, to: None });
                }
                LeaseHold::Evicted { intended_for } => {
                    if let Some(n) = place(intended_for) {
                        self.seats[n].get(cost);
                    }
                }
                LeaseHold::Free { intended_for, since } | LeaseHold::Expired { intended_for, since } => {
                    // Whoever leaves takes nothing more.
                    match place(intended_for).filter(|n| !self.seats[*n].leaving) {
                        Some(n) if view.now.since(*since) < view.limits.claim_deadline => {
                            self.seats[n].get(cost);
                            if n == self.me {
                                self.mine.push(key);
                            }
                        }
                        Some(_) => {
                            let since = Some(*since + view.limits.claim_deadline);
                            self.pool.push(Waiting { key, cost, since, lapsed: false, to: None });
                        }
                        None => self.pool.push(Waiting { key, cost, since: Some(*since), lapsed: false, to: None }),
                    }
                }
            }
        }
        self.seats.iter_mut().for_each(|seat| seat.held.sort_by_key(|held| held.key));
        self.mine.sort();
        self.pool.sort_by_key(|lease| (Reverse(lease.cost), lease.key));
        if planted::is(Bug::WaitingChildrenFillCap) {
            self.pool.reverse();
        }
    }

    /// Gives each lease of the pool to the worker that it loads least.
    pub(super) fn give_pool(&mut self) {
        let mut pool = std::mem::take(&mut self.pool);
        let mut least = LeastLoaded::default();
        for lease in &mut pool {
            lease.to = least.get(&mut self.seats, lease.cost);
        }
        self.pool = pool;
    }

    /// Everything of those that leave, and what a worker holds beyond the most it may.
    pub(super) fn clear_out(&mut self) -> Vec<Transfer> {
        // One worker after the other, so that where one is done already, that changes little for the next.
        let mut going: Vec<(usize, Reverse<u64>, &LeaseKey, usize)> = Vec::new();
        for (from, seat) in self.seats.iter().enumerate() {
            let surplus = if seat.leaving { seat.held.len() } else { seat.count.saturating_sub(seat.cap) };
            let held = seat.held.iter().enumerate().rev().filter(|(_, held)| seat.leaving || held.movable);
            going.extend(held.take(surplus).map(|(n, held)| (from, Reverse(held.cost), held.key, n)));
        }
        going.sort_unstable();
        let mut least = LeastLoaded::default();
        let mut transfers = Vec::new();
        for (from, Reverse(cost), _, held) in going {
            let Some(to) = least.get(&mut self.seats, cost) else { break };
            let seat = &mut self.seats[from];
            seat.give(cost);
            seat.held[held].movable = false;
            transfers.push(Transfer { from, to, held, forced: true });
        }
        transfers
    }

    /// What brings the loads nearer to each other, the most unequal pair first.
    pub(super) fn even_out(&mut self) -> Vec<Transfer> {
        let mut transfers = Vec::new();
        let movable = self.seats.iter().map(|seat| Movable::of(seat));
        let mut movable: Vec<Movable> = movable.collect();
        let mut givers: Vec<usize> = (0..self.seats.len()).filter(|n| !movable[*n].is_empty()).collect();
        loop {
            let most = givers.iter().copied().max_by(|a, b| self.seats[*a].cmp_load(&self.seats[*b]).then(b.cmp(a)));
            let Some(from) = most else { return transfers };
            let cost = movable[from].least();
            let open = (0..self.seats.len()).filter(|n| self.seats[*n].is_open());
            let Some(to) = open.min_by_key(|n| (self.seats[*n].level(cost), *n)) else { return transfers };
            match movable[from].best(&self.seats[from], &self.seats[to]) {
                Some((held, cost)) => {
                    self.seats[from].give(cost);
                    self.seats[to].get(cost);
                    transfers.push(Transfer { from, to, held, forced: false });
                }
                None => givers.retain(|n| *n != from),
            }
        }
    }

    /// Swaps receivers such that what is done of a plan changes nothing of the rest.
    pub(super) fn pair(&self, transfers: &mut [Transfer]) {
        if transfers.is_empty() {
            return;
        }
        let moving: Vec<Moving> = transfers
            .iter()
            .map(|transfer| {
                let held = &self.seats[transfer.from].held[transfer.held];
                let (lease, class) = (pairing::hash(held.key.as_str()), (transfer.forced, held.cost));
                Moving { lease, class, from: transfer.from, to: transfer.to }
            })
            .collect();
        let receivers: Vec<u64> = self.seats.iter().map(|seat| pairing::hash(seat.id.owner().as_str())).collect();
        for (transfer, to) in transfers.iter_mut().zip(pairing::paired(&moving, &receivers)) {
            transfer.to = to;
        }
    }

    /// Those that are made in this round. Both sides of a transfer must come to the same answer.
    pub(super) fn this_round<'t>(&self, transfers: &'t [Transfer], most: usize) -> Vec<&'t Transfer> {
        let (mut given, mut got) = (vec![0_usize; self.seats.len()], vec![0_usize; self.seats.len()]);
        let fits = |transfer: &&Transfer| {
            let gives = self.seats[transfer.from].leaving || given[transfer.from] < 10 * most;
            if !gives || got[transfer.to] >= most {
                return false;
            }
            given[transfer.from] += 1;
            got[transfer.to] += 1;
            true
        };
        transfers.iter().filter(fits).collect()
    }

    /// Whether another is so much less loaded than I am that I shall give it something, now or when that may be moved.
    pub(super) fn gives_more(&self) -> bool {
        (0..self.seats.len()).any(|to| self.is_uneven(self.me, to))
    }

    /// Whether another is so much more loaded than I am that it will give me something.
    pub(super) fn gets_more(&self) -> bool {
        (0..self.seats.len()).any(|from| self.is_uneven(from, self.me))
    }

    fn is_uneven(&self, from: usize, to: usize) -> bool {
        let (giver, receiver) = (&self.seats[from], &self.seats[to]);
        let least = giver.held.iter().map(|held| held.cost).min();
        from != to && receiver.is_open() && !giver.leaving && least.is_some_and(|cost| is_worth(cost, giver, receiver))
    }

    /// When the first lease comes of age that I shall give or get to even things out.
    pub(super) fn next_movable(&self, view: &View) -> Option<Mono> {
        let early = view.limits.claim_deadline / 2;
        let mine = |from: usize| match from == self.me {
            true => self.gives_more().then_some(Duration::ZERO),
            false => self.is_uneven(from, self.me).then_some(early),
        };
        let givers = (0..self.seats.len()).filter_map(|from| mine(from).map(|early| (from, early)));
        let ages = givers.filter_map(|(from, early)| {
            let first = self.seats[from].held.iter().filter_map(|held| held.movable_at).min()?;
            Some(view.now + first.since(view.now).saturating_sub(early))
        });
        ages.min()
    }

    pub(super) fn key(&self, transfer: &Transfer) -> &'a LeaseKey {
        self.seats[transfer.from].held[transfer.held].key
    }

    pub(super) fn takes(&self, view: &View) -> Vec<Move> {
        let me = &self.seats[self.me];
        if me.leaving {
            return Vec::new();
        }
        let patience = self.patience(view);
        let intended = self.mine.iter().copied();
        let given = self.pool.iter().filter(|lease| lease.since.is_some() && lease.to == Some(self.me));
        let given = given.map(|lease| lease.key);
        let waited = |lease: &Waiting<'_>| lease.since.is_some_and(|since| view.now.since(since) >= patience);
        let orphaned = |lease: &&Waiting<'_>| lease.to != Some(self.me) && (lease.lapsed || waited(lease));
        let orphans = self.pool.iter().filter(orphaned).map(|lease| lease.key);
        let room = view.limits.max_leases.saturating_sub(me.held.len());
        intended.chain(given).chain(orphans).take(room).cloned().map(Move::Take).collect()
    }

    /// How long I leave a lease to the worker to which the plan gives it: the longer, the more others are better placed.
    fn patience(&self, view: &View) -> Duration {
        let me = &self.seats[self.me];
        let before_me = |(n, seat): &(usize, &Seat<'_>)| {
            seat.is_open() && seat.cmp_load(me).then(n.cmp(&self.me)) == Ordering::Less
        };
        let better = self.seats.iter().enumerate().filter(before_me).count();
        let rank = u32::try_from(better).unwrap_or(u32::MAX).min(Balance::LAST_RANK);
        let eighths = Balance::RANKS_PER_DEADLINE;
        view.limits.claim_deadline.saturating_mul(eighths + rank) / eighths
    }
}

/// Whether a lease of that cost is worth moving: its cost must not exceed the one that evens the two loads best by more than half, or loads
/// that change a little would send it to and fro.
fn is_worth(cost: u64, from: &Seat<'_>, to: &Seat<'_>) -> bool {
    let (a, b) = (u128::from(from.weight), u128::from(to.weight));
    let apart = (u128::from(from.cost) * b).checked_sub(u128::from(to.cost) * a);
    apart.is_some_and(|apart| 2 * u128::from(cost) * (a + b) <= 3 * apart)
}

/// Finds the worker that the next lease loads least.
#[derive(Default)]
struct LeastLoaded {
    cost: u64,
    levels: BinaryHeap<Reverse<(u128, usize)>>,
}

impl LeastLoaded {
    /// Gives it the lease.
    fn get(&mut self, seats: &mut [Seat<'_>], cost: u64) -> Option<usize> {
        if self.cost != cost {
            self.cost = cost;
            let open = seats.iter().enumerate().filter(|(_, seat)| seat.is_open());
            self.levels = open.map(|(n, seat)| Reverse((seat.level(cost), n))).collect();
        }
        let Reverse((_, to)) = self.levels.pop()?;
        seats[to].get(cost);
        if seats[to].is_open() {
            self.levels.push(Reverse((seats[to].level(cost), to)));
        }
        Some(to)
    }
}

/// What a worker may give away, by cost, in the order of the keys.
struct Movable(BTreeMap<u64, VecDeque<usize>>);

impl Movable {
    fn of(seat: &Seat<'_>) -> Self {
        let mut by_cost: BTreeMap<u64, VecDeque<usize>> = BTreeMap::new();
        if !seat.leaving && seat.count <= seat.cap {
            for (n, held) in seat.held.iter().enumerate().filter(|(_, held)| held.movable) {
                by_cost.entry(held.cost).or_default().push_back(n);
            }
        }
        Self(by_cost)
    }

    fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The lowest cost of them; zero when there are none.
    fn least(&self) -> u64 {
        self.0.keys().next().copied().unwrap_or(0)
    }

    /// The lease that evens two loads best, if one is worth the move.
    fn best(&mut self, from: &Seat<'_>, to: &Seat<'_>) -> Option<(usize, u64)> {
        let (a, b) = (u128::from(from.weight), u128::from(to.weight));
        let apart = (u128::from(from.cost) * b).checked_sub(u128::from(to.cost) * a)?;
        // The best cost is apart / (a + b).
        let miss = |cost: u64| (u128::from(cost) * (a + b)).abs_diff(apart);
        let costs = self.0.keys().copied().filter(|cost| is_worth(*cost, from, to));
        let cost = costs.min_by_key(|cost| (miss(*cost), Reverse(*cost)))?;
        let queue = self.0.get_mut(&cost)?;
        let held = queue.pop_front()?;
        if queue.is_empty() {
            self.0.remove(&cost);
        }
        Some((held, cost))
    }
}
