mod next;
mod silent;

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
        settle: Duration::ZERO,
        claim_deadline: 2 * SECOND,
        evict_after: 5 * SECOND,
        moves_per_round: 10,
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
    leaving: Vec<bool>,
    doubtful: bool,
    costs: Vec<u32>,
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
            leaving: vec![false; workers],
            doubtful: false,
            costs: vec![1; holds.len()],
            memory: vec![Balance::default(); workers],
            holds,
            history: Vec::new(),
            limits: limits(),
            now: Mono::new(100 * SECOND),
        }
    }

    fn view(&self, me: usize, holds: &[LeaseHold], unseen: Option<usize>) -> View {
        let workers = self.weights.iter().enumerate().filter(|(n, _)| *n == me || Some(*n) != unseen);
        let workers =
            workers.map(|(n, weight)| WorkerView { id: worker(n), weight: *weight, leaving: self.leaving[n] });
        let workers = workers.collect();
        let lease = |(n, hold): (usize, &LeaseHold)| LeaseView { key: key(n), hold: hold.clone(), cost: self.costs[n] };
        let leases = holds.iter().enumerate().map(lease).collect();
        View { me: worker(me), workers, doubtful: self.doubtful, leases, now: self.now, limits: self.limits }
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
            plans.push((self.memory[me].plan(&view).moves, seen));
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
                *hold = LeaseHold::Held { by: worker(me).owner(), since: Some(self.now) };
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

    /// What a worker bears.
    fn cost(&self, n: usize) -> u64 {
        let held = self.holds.iter().zip(&self.costs).filter(|(hold, _)| held_by(hold, n));
        held.map(|(_, cost)| u64::from(*cost)).sum()
    }

    /// Whether no lease of one worker would bring its load clearly nearer to that of another.
    fn is_even(&self) -> bool {
        let staying: Vec<usize> = (0..self.weights.len()).filter(|n| !self.leaving[*n]).collect();
        staying.iter().all(|a| {
            staying.iter().all(|b| {
                let (wa, wb) = (u64::from(self.weights[*a]), u64::from(self.weights[*b]));
                let apart = (self.cost(*a) * wb).saturating_sub(self.cost(*b) * wa);
                let held = self.holds.iter().zip(&self.costs).filter(|(hold, _)| held_by(hold, *a));
                let least = held.map(|(_, cost)| u64::from(*cost)).min();
                least.is_none_or(|least| apart == 0 || 2 * least * (wa + wb) > 3 * apart)
            })
        })
    }

    /// Everything is held by those who stay, everyone has its share within rounding, and it stays so.
    fn check_settles(&mut self, rounds: usize) {
        let before = format!("{:?}", self.holds);
        self.calm_rounds(rounds);
        let counts = self.counts();
        assert_eq!(counts.iter().sum::<usize>(), self.holds.len(), "all are held: {counts:?} from {before}");
        for (count, leaving) in counts.iter().zip(&self.leaving) {
            assert!(!leaving || *count == 0, "{counts:?} from {before}");
        }
        assert!(self.is_even(), "{counts:?} of {:?} from {before}", self.weights);
        let alike =
            self.weights.iter().all(|weight| *weight == self.weights[0]) && self.costs.iter().all(|cost| *cost == 1);
        if alike && !self.leaving.contains(&true) {
            assert!(
                counts.iter().max() <= counts.iter().min().map(|least| least + 1).as_ref(),
                "{counts:?} from {before}"
            );
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
        n if n < 3 + workers => LeaseHold::Held { by: worker(n - 3).owner(), since: Some(since) },
        n => LeaseHold::Free { intended_for: Some(worker(n - 3 - workers).owner()), since },
    }
}

/// Every state of so many leases in a fleet of `workers`.
fn small_states(workers: usize, leases: u32) -> impl Iterator<Item = Vec<LeaseHold>> {
    let codes: usize = 3 + 2 * workers;
    (0..codes.pow(leases)).map(move |state| (0..leases).map(|n| hold(state / codes.pow(n) % codes, workers)).collect())
}

#[test]
fn every_small_fleet_settles_at_even_shares() {
    for (workers, leases) in [(1, 3), (2, 4), (3, 4)] {
        for holds in small_states(workers, leases) {
            World::new(&vec![100; workers], holds).check_settles(15);
        }
    }
}

#[test]
fn every_small_fleet_empties_the_worker_that_leaves() {
    for (workers, leases) in [(2, 4), (3, 3)] {
        for holds in small_states(workers, leases) {
            let mut world = World::new(&vec![100; workers], holds);
            world.leaving[0] = true;
            world.check_settles(15);
        }
    }
}

#[test]
fn every_small_fleet_with_busy_shards_settles() {
    for holds in small_states(3, 3) {
        let mut world = World::new(&[100; 3], holds);
        world.costs = vec![17, 3, 1];
        world.check_settles(15);
    }
}

/// What all workers of one view would do together.
fn plans(world: &World) -> Vec<(usize, Move)> {
    let plan = |me: usize| Balance::default().plan(&world.view(me, &world.holds, None)).moves;
    (0..world.weights.len()).flat_map(|me| plan(me).into_iter().map(move |step| (me, step))).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn any_fleet_settles_at_shares_by_weight(
        weights in prop::collection::vec(1_u32..300, 1..8), codes in prop::collection::vec(0_usize..100, 0..60),
        costs in prop::collection::vec(prop::sample::select(vec![1_u32, 1, 1, 2, 3, 5, 9, 17]), 60), busy in any::<bool>(),
    ) {
        let workers = weights.len();
        let holds = codes.iter().map(|code| hold(code % (3 + 2 * workers), workers)).collect();
        let mut world = World::new(&weights, holds);
        if busy {
            world.costs = costs;
        }
        world.check_settles(60);
    }

    #[test]
    fn workers_that_see_the_same_never_want_the_same_lease(
        weights in prop::collection::vec(1_u32..300, 1..8), codes in prop::collection::vec(0_usize..100, 0..60),
        max_leases in 1_usize..20, leaving in prop::collection::vec(prop::bool::weighted(0.2), 8),
    ) {
        let workers = weights.len();
        let holds = codes.iter().map(|code| hold(code % (3 + 2 * workers), workers)).collect();
        let mut world = World::new(&weights, holds);
        world.limits.max_leases = max_leases;
        world.leaving = leaving[..workers].to_vec();
        world.limits.min_hold = Duration::ZERO;
        let plans = plans(&world);
        let keys: BTreeSet<_> = plans.iter().map(|(_, step)| match step {
            Move::Take(key) | Move::HandOver { key, .. } | Move::Evict(key) => key,
        }).collect();
        prop_assert_eq!(keys.len(), plans.len());
        for me in 0..workers {
            let takes = plans.iter().filter(|(by, step)| *by == me && matches!(step, Move::Take(_))).count();
            let held = world.counts()[me];
            prop_assert!(takes == 0 || takes + held <= max_leases, "{} + {} of {}", held, takes, max_leases);
            prop_assert!(takes == 0 || !world.leaving[me]);
            let expected = Balance::default().plan(&world.view(me, &world.holds, None)).expected;
            for giver in 0..workers {
                let handed: Vec<_> = plans.iter().filter_map(|(by, step)| match step {
                    Move::HandOver { key, to } if *by == giver && *to == worker(me) => Some(key.clone()),
                    _ => None,
                }).collect();
                let expected = expected.get(&worker(giver)).map(Vec::as_slice).unwrap_or_default();
                prop_assert!(expected.starts_with(&handed), "what is handed over is expected first: {:?} {:?}", expected, handed);
                prop_assert!(handed.len() == expected.len() || handed.len() <= world.limits.moves_per_round);
            }
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
    world.calm_rounds(7);
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
fn a_full_worker_takes_nothing_more_and_a_worker_that_leaves_gives_everything() {
    let mut world = World::new(&[100, 100], vec![hold(0, 2); 10]);
    world.limits.max_leases = 3;
    world.calm_rounds(30);
    assert_eq!(world.counts(), [3, 3]);
    let mut world = World::new(&[100; 3], vec![hold(3, 3); 10]);
    world.leaving[0] = true;
    world.check_settles(30);
}

#[test]
fn a_worker_that_is_not_a_member_moves_nothing() {
    let world = World::new(&[100], vec![hold(0, 1); 3]);
    let mut view = world.view(0, &world.holds, None);
    view.me = worker(7);
    assert_eq!(Balance::default().plan(&view), Plan::default());
}

#[test]
fn what_a_leaving_worker_holds_moves_at_once_and_nothing_else_does() {
    let owners = [0, 0, 0, 1, 1, 1, 2, 2, 2];
    let mut world = World::new(&[100; 3], owners.iter().map(|n| hold(3 + n, 3)).collect());
    world.limits.settle = 100 * SECOND;
    world.leaving[2] = true;
    world.calm_rounds(2);
    let moved = world.holds.iter().zip(owners).filter(|(hold, n)| !held_by(hold, *n)).count();
    assert_eq!((moved, world.counts()), (3, vec![5, 4, 0]));
}

#[test]
fn nothing_is_evened_out_before_the_fleet_has_settled() {
    let mut world = World::new(&[100, 100], vec![hold(3, 2); 4]);
    world.now = world.now + 100 * SECOND;
    world.limits.settle = 8 * SECOND;
    world.calm_rounds(8);
    assert_eq!(world.counts(), [4, 0]);
    world.calm_rounds(2);
    assert_eq!(world.counts(), [2, 2]);
}

#[test]
fn a_fleet_that_never_comes_to_rest_is_evened_out_all_the_same() {
    let mut world = World::new(&[100, 100, 100], vec![hold(3, 3); 4]);
    world.now = world.now + 100 * SECOND;
    world.limits.settle = 5 * SECOND;
    for n in 0..40 {
        // The third comes and goes.
        world.round(&[0, 0, 0], &[(n / 3 % 2 == 0).then_some(2), (n / 3 % 2 == 0).then_some(2), None]);
    }
    assert!(world.counts()[1] > 0, "{:?}", world.counts());
}

#[test]
fn a_busy_shard_counts_for_more_and_a_little_difference_moves_nothing() {
    let owners = [0, 0, 0, 0, 1, 1, 1, 1];
    let mut world = World::new(&[100, 100], owners.iter().map(|n| hold(3 + n, 2)).collect());
    world.now = world.now + 10 * SECOND;
    world.costs = vec![5, 4, 1, 1, 1, 1, 1, 1];
    assert_eq!(plans(&world).len(), 1, "one of the busy ones");
    world.costs = vec![2, 1, 1, 1, 1, 1, 1, 1];
    assert_eq!(plans(&world).len(), 0);
}

/// Prints how long one worker's plan of a large fleet takes: `cargo test -p kcl-core --lib large_fleet -- --nocapture`.
#[test]
fn a_large_fleet_is_planned() {
    const WORKERS: usize = 100;
    let leases = (0..10_000).map(|n| hold(3 + n % (WORKERS - 1), WORKERS)).collect();
    let mut world = World::new(&[100; WORKERS], leases);
    world.now = world.now + 10 * SECOND;
    world.limits.moves_per_round = 1000;
    let calm = world.view(0, &world.holds[..9_900], Some(99));
    let joined = world.view(99, &world.holds, None);
    let mut orphaned = joined.clone();
    orphaned.now = Mono::new(100 * SECOND);
    orphaned.leases.iter_mut().for_each(|lease| lease.hold = hold(0, WORKERS));
    let mut leaving = world.view(99, &world.holds, None);
    leaving.workers[..33].iter_mut().for_each(|worker| worker.leaving = true);
    let one_has_all = World::new(&[100; WORKERS], vec![hold(3 + 98, WORKERS); 10_000]);
    let mut first = one_has_all.view(99, &one_has_all.holds, None);
    first.now = world.now;
    for (what, view, expected, takes) in [
        ("calm", calm, 0, 0),
        ("one joined", joined, 100, 0),
        ("all free", orphaned, 0, 100),
        ("a third leaves", leaving, 149, 0),
        ("one has all", first, 100, 0),
    ] {
        #[expect(clippy::disallowed_methods, reason = "a figure for people; nothing depends on it")]
        let began = std::time::Instant::now();
        let plan = Balance::default().plan(&view);
        println!("{what}: {:?}", began.elapsed());
        let expects: usize = plan.expected.values().map(Vec::len).sum();
        assert_eq!((expects, plan.moves.len()), (expected, takes), "{what}");
    }
}
