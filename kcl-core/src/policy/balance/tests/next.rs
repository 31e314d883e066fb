//! When the plan says something else though nobody writes anything.

use super::*;

/// For each of two workers, how long until it has more to give or to expect. The first has all four leases, taken `age` ago.
fn next(settle: Duration, age: Duration, held_by_first: usize) -> [Option<Duration>; 2] {
    let now = Mono::new(100 * SECOND);
    let since = Some(Mono::new(100 * SECOND - age));
    let held = |n: usize| LeaseHold::Held { by: worker(usize::from(n >= held_by_first)).owner(), since };
    let mut world = World::new(&[100, 100], (0..4).map(held).collect());
    world.limits.settle = settle;
    [0, 1].map(|me| {
        let next = Balance::default().plan(&world.view(me, &world.holds, None)).next;
        next.map(|at| at.since(now))
    })
}

#[test]
fn a_giver_looks_when_the_quiet_time_ends_and_a_receiver_a_little_before() {
    assert_eq!(next(8 * SECOND, 50 * SECOND, 4), [Some(8 * SECOND), Some(7 * SECOND)]);
}

#[test]
fn a_giver_looks_when_a_lease_comes_of_age_and_a_receiver_a_little_before() {
    assert_eq!(next(Duration::ZERO, SECOND, 4), [Some(2 * SECOND), Some(SECOND)]);
}

#[test]
fn an_even_fleet_waits_for_nothing() {
    assert_eq!(next(8 * SECOND, SECOND, 2), [None; 2]);
    assert_eq!(next(Duration::ZERO, SECOND, 2), [None; 2]);
}

#[test]
fn a_giver_that_has_more_than_one_round_takes_looks_again_soon() {
    let mut world = World::new(&[100, 100], vec![hold(3, 2); 4]);
    world.now = world.now + 100 * SECOND;
    world.limits.moves_per_round = 1;
    let plan = Balance::default().plan(&world.view(0, &world.holds, None));
    assert_eq!((plan.moves.len(), plan.next), (1, Some(world.now)));
}
