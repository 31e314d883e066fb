use std::collections::BTreeSet;

use proptest::prelude::*;

use super::*;

const SECOND: Duration = Duration::from_secs(1);

fn worker(n: usize) -> WorkerId {
    WorkerId::new(&format!("w{n}"), 1).expect("legal")
}

fn key(n: usize) -> LeaseKey {
    format!("k{n:04}").parse().expect("legal")
}

fn limits() -> Limits {
    Limits {
        max_leases: 1000,
        min_hold: 3 * SECOND,
        claim_deadline: 2 * SECOND,
        evict_after: 5 * SECOND,
        max_moves_per_round: 10,
    }
}

/// How a worker behaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Manner {
    Good,
    /// Hands nothing over.
    Greedy,
    /// Takes nothing, by no means.
    Deaf,
}

/// A fleet and its leases, as they truly are.
struct World {
    weights: Vec<u32>,
    manners: Vec<Manner>,
    memory: Vec<Balance>,
    holds: Vec<LeaseHold>,
    history: Vec<Vec<LeaseHold>>,
    limits: Limits,
    now: Mono,
}

impl World {
    fn new(weights: &[u32], holds: Vec<LeaseHold>) -> Self {
        let workers = weights.len();
        Self {
            weights: weights.to_vec(),
            manners: vec![Manner::Good; workers],
            memory: vec![Balance::default(); workers],
            holds,
            history: Vec::new(),
            limits: limits(),
            now: Mono::new(100 * SECOND),
        }
    }

    fn view(&self, me: usize, holds: &[LeaseHold], unseen: Option<usize>) -> View {
        let workers = self.weights.iter().enumerate().filter(|(n, _)| *n == me || Some(*n) != unseen);
        let workers = workers.map(|(n, weight)| WorkerView { id: worker(n), weight: *weight }).collect();
        let leases = holds.iter().enumerate().map(|(n, hold)| LeaseView { key: key(n), hold: hold.clone() }).collect();
        View { me: worker(me), workers, leases, now: self.now, limits: self.limits }
    }

    /// One round: every worker plans on what it sees, then carries it out as far as its view still holds.
    /// `stale` and `unseen` tell, for each worker, how old its view is and whom it does not see.
    fn round(&mut self, stale: &[usize], unseen: &[Option<usize>]) -> usize {
        self.history.push(self.holds.clone());
        let mut plans = Vec::new();
        for me in 0..self.weights.len() {
            let seen = self.history.len() - 1 - stale[me].min(self.history.len() - 1);
            let seen = self.history[seen].clone();
            let view = self.view(me, &seen, unseen[me]);
            plans.push((self.memory[me].plan(&view), seen));
        }
        self.now = self.now + SECOND;
        let mut applied = 0;
        for (me, (moves, seen)) in plans.into_iter().enumerate() {
            for step in moves {
                applied += usize::from(self.apply(me, &step, &seen));
            }
        }
        // An evicted owner's time runs out at the end of the round.
        for hold in &mut self.holds {
            if let LeaseHold::Evicted { intended_for } = hold {
                *hold = LeaseHold::Expired { intended_for: intended_for.clone(), since: self.now };
            }
        }
        applied
    }

    /// Applies a move as the lease table would: only if the lease is as it was seen.
    fn apply(&mut self, me: usize, step: &Move, seen: &[LeaseHold]) -> bool {
        let (Move::Take(key) | Move::HandOver { key, .. } | Move::Evict(key)) = step;
        let n: usize = key.as_str()[1..].parse().expect("made by `key`");
        let hold = &mut self.holds[n];
        match step {
            Move::Take(_) => {
                assert!(
                    matches!(seen[n], LeaseHold::Free { .. } | LeaseHold::Expired { .. }),
                    "only the free are taken"
                );
                if self.manners[me] == Manner::Deaf || *hold != seen[n] {
                    return false;
                }
                *hold = LeaseHold::Held { by: worker(me).owner(), since: self.now };
            }
            Move::HandOver { to, .. } => {
                assert!(held_by(&seen[n], me), "only one's own is handed over");
                assert_ne!(*to, worker(me));
                if self.manners[me] == Manner::Greedy || *hold != seen[n] {
                    return false;
                }
                *hold = LeaseHold::Free { intended_for: Some(to.owner()), since: self.now };
            }
            Move::Evict(_) => {
                assert!(!held_by(&seen[n], me) && matches!(seen[n], LeaseHold::Held { .. }), "only others are evicted");
                if self.manners[me] == Manner::Deaf || *hold != seen[n] {
                    return false;
                }
                *hold = LeaseHold::Evicted { intended_for: Some(worker(me).owner()) };
            }
        }
        true
    }

    fn calm_round(&mut self) -> usize {
        let workers = self.weights.len();
        self.round(&vec![0; workers], &vec![None; workers])
    }

    fn calm_rounds(&mut self, rounds: usize) {
        for _ in 0..rounds {
            self.calm_round();
        }
    }

    fn counts(&self) -> Vec<usize> {
        (0..self.weights.len()).map(|n| self.holds.iter().filter(|hold| held_by(hold, n)).count()).collect()
    }

    /// Everything is held, everyone has its share within rounding, and it stays so.
    fn check_settles(&mut self, rounds: usize) {
        let before = format!("{:?}", self.holds);
        self.calm_rounds(rounds);
        let counts = self.counts();
        let (all, weights) = (self.holds.len() as u64, self.weights.iter().map(|w| u64::from(*w)).sum::<u64>());
        assert_eq!(counts.iter().sum::<usize>(), self.holds.len(), "all are held: {counts:?} from {before}");
        for (count, weight) in counts.iter().zip(&self.weights) {
            let share = all * u64::from(*weight);
            let range = share / weights..=share.div_ceil(weights);
            assert!(range.contains(&(*count as u64)), "{counts:?} of {:?} from {before}", self.weights);
        }
        for _ in 0..30 {
            assert_eq!(self.calm_round(), 0, "it oscillates: {counts:?} from {before}");
        }
    }
}

fn held_by(hold: &LeaseHold, n: usize) -> bool {
    matches!(hold, LeaseHold::Held { by, .. } if *by == worker(n).owner())
}

/// The possible states of a lease in a fleet of `workers`.
fn hold(code: usize, workers: usize) -> LeaseHold {
    let since = Mono::new(100 * SECOND);
    match code {
        0 => LeaseHold::Free { intended_for: None, since },
        1 => LeaseHold::Expired { intended_for: None, since },
        // Meant for one who is dead.
        2 => LeaseHold::Free { intended_for: Some(worker(99).owner()), since },
        n if n < 3 + workers => LeaseHold::Held { by: worker(n - 3).owner(), since },
        n => LeaseHold::Free { intended_for: Some(worker(n - 3 - workers).owner()), since },
    }
}

#[test]
fn every_small_fleet_settles_at_even_shares() {
    for (workers, leases) in [(1_usize, 3), (2, 4), (3, 4)] {
        let codes: usize = 3 + 2 * workers;
        for state in 0..codes.pow(leases) {
            let holds = (0..leases).map(|n| hold(state / codes.pow(n) % codes, workers)).collect();
            World::new(&vec![100; workers], holds).check_settles(15);
        }
    }
}

/// What all workers of one view would do together.
fn plans(world: &World) -> Vec<(usize, Move)> {
    let plan = |me: usize| Balance::default().plan(&world.view(me, &world.holds, None));
    (0..world.weights.len()).flat_map(|me| plan(me).into_iter().map(move |step| (me, step))).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn any_fleet_settles_at_shares_by_weight(
        weights in prop::collection::vec(1_u32..300, 1..8), codes in prop::collection::vec(0_usize..100, 0..60),
    ) {
        let workers = weights.len();
        let holds = codes.iter().map(|code| hold(code % (3 + 2 * workers), workers)).collect();
        World::new(&weights, holds).check_settles(60);
    }

    #[test]
    fn workers_that_see_the_same_never_want_the_same_lease(
        weights in prop::collection::vec(0_u32..300, 1..8), codes in prop::collection::vec(0_usize..100, 0..60),
        max_leases in 1_usize..20,
    ) {
        let workers = weights.len();
        let holds = codes.iter().map(|code| hold(code % (3 + 2 * workers), workers)).collect();
        let mut world = World::new(&weights, holds);
        world.limits.max_leases = max_leases;
        let plans = plans(&world);
        let keys: BTreeSet<_> = plans.iter().map(|(_, step)| match step {
            Move::Take(key) | Move::HandOver { key, .. } | Move::Evict(key) => key,
        }).collect();
        prop_assert_eq!(keys.len(), plans.len());
        for me in 0..workers {
            let takes = plans.iter().filter(|(by, step)| *by == me && matches!(step, Move::Take(_))).count();
            let held = world.counts()[me];
            prop_assert!(takes == 0 || takes + held <= max_leases, "{} + {} of {}", held, takes, max_leases);
        }
    }

    #[test]
    fn nothing_is_orphaned_while_views_differ_and_all_settles_once_they_agree(
        workers in 2_usize..5,
        codes in prop::collection::vec(0_usize..100, 1..20),
        chaos in prop::collection::vec(prop::collection::vec((0_usize..4, prop::option::of(0_usize..5)), 5), 0..30),
    ) {
        let holds = codes.iter().map(|code| hold(code % (3 + 2 * workers), workers)).collect();
        let mut world = World::new(&vec![100; workers], holds);
        for round in chaos {
            let (stale, unseen): (Vec<_>, Vec<_>) = round.into_iter().unzip();
            world.round(&stale, &unseen);
        }
        // Whoever was thought deaf is given leases again after a while.
        world.calm_rounds(45);
        world.check_settles(60);
    }
}

#[test]
fn a_difference_of_one_is_left_alone_and_one_of_two_is_not() {
    let held = |counts: &[usize]| {
        let owners = counts.iter().enumerate().flat_map(|(n, count)| std::iter::repeat_n(n, *count));
        owners.map(|n| hold(3 + n, counts.len())).collect::<Vec<_>>()
    };
    let check = |counts: &[usize], moves: usize| {
        let mut world = World::new(&vec![100; counts.len()], held(counts));
        world.now = world.now + 10 * SECOND;
        assert_eq!(plans(&world).len(), moves, "{counts:?}");
    };
    check(&[2, 1], 0);
    check(&[3, 3, 2], 0);
    check(&[3, 1], 1);
    check(&[4, 4, 0], 2);
    check(&[6, 0, 0], 4);
}

#[test]
fn a_lease_just_taken_is_not_moved() {
    let mut world = World::new(&[100, 100], vec![hold(3, 2); 4]);
    assert!(plans(&world).is_empty());
    world.now = world.now + world.limits.min_hold;
    assert_eq!(plans(&world).len(), 2);
}

#[test]
fn a_dead_workers_leases_are_all_taken_in_one_round() {
    let mut world = World::new(&[100, 100], vec![hold(1, 2); 100]);
    world.calm_round();
    assert_eq!(world.counts(), [50, 50]);
}

#[test]
fn a_worker_that_hands_nothing_over_is_evicted_only_after_a_while() {
    let mut world = World::new(&[100, 100], vec![hold(3, 2); 4]);
    world.manners[0] = Manner::Greedy;
    for _ in 0..5 {
        world.calm_round();
        assert_eq!(world.counts(), [4, 0]);
    }
    world.calm_rounds(4);
    assert_eq!(world.counts(), [2, 2]);
}

#[test]
fn a_worker_that_takes_nothing_does_not_keep_leases_unread() {
    let mut world = World::new(&[100, 100], vec![hold(3, 2); 4]);
    world.manners[1] = Manner::Deaf;
    let mut unread = 0;
    for _ in 0..200 {
        world.calm_round();
        unread += 4 - world.counts()[0];
    }
    // Two leases are tried on it once in forty seconds, for two claim deadlines or less.
    assert!(unread <= 200 / 40 * 2 * 5 + 20, "{unread}");
}

#[test]
fn a_full_worker_takes_nothing_more_and_a_worker_of_no_weight_gives_everything() {
    let mut world = World::new(&[100, 100], vec![hold(0, 2); 10]);
    world.limits.max_leases = 3;
    world.calm_rounds(30);
    assert_eq!(world.counts(), [3, 3]);
    World::new(&[0, 100, 100], vec![hold(3, 3); 10]).check_settles(30);
}

#[test]
fn a_worker_that_is_not_a_member_moves_nothing() {
    let world = World::new(&[100], vec![hold(0, 1); 3]);
    let mut view = world.view(0, &world.holds, None);
    view.me = worker(7);
    assert!(Balance::default().plan(&view).is_empty());
}
