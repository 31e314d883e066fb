//! What the plan makes of a worker that shows no sign of life.

use super::*;

/// One of two workers has all, and somebody is silent.
fn doubtful_world() -> World {
    let mut world = World::new(&[100, 100], vec![hold(3, 2); 4]);
    world.now = world.now + 100 * SECOND;
    world.limits.settle = 5 * SECOND;
    world.doubtful = true;
    world
}

#[test]
fn nothing_is_evened_out_while_somebody_is_silent_of_whom_others_may_not_know() {
    let mut world = doubtful_world();
    world.calm_rounds(10);
    assert_eq!(world.counts(), [4, 0]);
    world.doubtful = false;
    world.calm_rounds(4);
    assert_eq!(world.counts(), [4, 0], "it counts from then on");
    world.calm_rounds(3);
    assert_eq!(world.counts(), [2, 2]);
}

#[test]
fn the_quiet_time_begins_with_the_first_look_without_a_doubt_however_rare_looks_are() {
    let mut world = doubtful_world();
    world.calm_rounds(1);
    world.now = world.now + 8 * SECOND;
    world.doubtful = false;
    world.calm_rounds(1);
    assert_eq!(world.counts(), [4, 0], "others heard of it just now");
    world.now = world.now + 5 * SECOND;
    world.calm_rounds(2);
    assert_eq!(world.counts(), [2, 2]);
}

#[test]
fn doubts_that_come_again_and_again_end_as_other_changes_do() {
    let mut world = doubtful_world();
    for _ in 0..3 {
        world.now = world.now + 8 * SECOND;
        world.calm_rounds(1);
    }
    assert_eq!(world.counts(), [4, 0]);
    world.now = world.now + 8 * SECOND;
    world.calm_rounds(6);
    assert_eq!(world.counts(), [2, 2]);
}

#[test]
fn what_a_silent_owner_let_expire_is_taken_by_whoever_sees_it() {
    let mut world = World::new(&[100; 40], vec![hold(3, 40); 40]);
    world.holds.extend(vec![LeaseHold::Lapsed; 20]);
    world.costs = vec![1; 60];
    // Though it has most already.
    let moves = Balance::default().plan(&world.view(0, &world.holds, None)).moves;
    assert_eq!(moves.len(), 20, "{moves:?}");
    world.limits.max_leases = 45;
    let moves = Balance::default().plan(&world.view(0, &world.holds, None)).moves;
    assert_eq!(moves.len(), 5, "{moves:?}");
}

#[test]
fn what_a_dead_worker_held_is_divided_alike_by_those_who_see_different_parts_of_it_expire() {
    let expired = LeaseHold::Expired { intended_for: None, since: Mono::new(100 * SECOND) };
    let world = World::new(&[100; 3], vec![expired.clone(); 31]);
    let takes = |me: usize, seen: &dyn Fn(usize) -> bool| -> BTreeSet<LeaseKey> {
        let holds: Vec<LeaseHold> =
            (0..31).map(|n| if seen(n) { expired.clone() } else { LeaseHold::Expiring }).collect();
        let moves = Balance::default().plan(&world.view(me, &holds, None)).moves;
        moves.into_iter().filter_map(|planned| if let Move::Take(key) = planned { Some(key) } else { None }).collect()
    };
    for me in 0..3 {
        let all = takes(me, &|_| true);
        assert!(all.len() == 10 || all.len() == 11, "{all:?}");
        let (low, high) = (takes(me, &|n| n < 12), takes(me, &|n| n >= 12));
        assert!(!low.is_empty() && low.is_disjoint(&high));
        assert_eq!(&low | &high, all);
    }
}
