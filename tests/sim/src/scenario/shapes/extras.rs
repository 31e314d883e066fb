//! Settings and conduct that half of all plans have, whatever their scenario: each from a stream of its own.

use std::time::Duration;

use kcl_core::{Checkpoints, FailurePolicy};

use super::{Class, MINUTE, SECOND};
use crate::scenario::draw::Draw;
use crate::scenario::{Plan, Scenario, Start};

pub(super) fn draw(plan: &mut Plan, classes: &mut Vec<Class>) {
    let mut past = Draw::new(plan.seed, "past");
    if past.one_in(3) {
        plan.past = past.count(1..=plan.shards * 4);
    }
    if !plan.no_repeats && !classes.contains(&Class::Table) && Draw::new(plan.seed, "table").one_in(2) {
        classes.push(Class::Table);
    }
    if !plan.no_repeats && Draw::new(plan.seed, "parts").one_in(4) {
        classes.push(Class::Parts);
    }
    if !plan.no_repeats && Draw::new(plan.seed, "elsewhere").one_in(4) {
        plan.fails_elsewhere_one_in = Draw::new(plan.seed, "elsewhere/often").pick(&[3, 20]);
    }
    plan.prepares = Draw::new(plan.seed, "prepares").one_in(2);
    if matches!(plan.start, Start::At(..)) {
        // The stamps of the service are compared with the instant as it is given.
        let slack = Draw::new(plan.seed, "slack").pick(&[Duration::ZERO, 5 * SECOND, MINUTE]);
        plan.config = plan.config.clone().with_start_slack(slack);
    }
    let mut draw = Draw::new(plan.seed, "extras");
    if draw.one_in(2) {
        return;
    }
    if draw.one_in(3) {
        plan.checkpoints = Checkpoints::Manual;
    }
    if draw.one_in(4) {
        plan.weights = (0..plan.workers).map(|_| draw.pick(&[50, 100, 100, 200, 400])).collect();
    } else if draw.one_in(2) {
        // At the most that the stream may come to while resharding keeps it small, and one for a closed shard.
        let workers = plan.workers / plan.applications;
        let most = (plan.shards * 2 + 3).div_ceil(workers) + 1;
        plan.config = plan.config.clone().with_max_leases(most);
    }
    let settle = draw.pick(&[SECOND / 100, SECOND, 10 * SECOND, MINUTE]);
    plan.config = plan.config.clone().with_settle(settle);
    if draw.one_in(4) {
        extremes(plan, &mut draw);
    }
    if !plan.no_repeats && draw.one_in(3) {
        classes.push(Class::Deploys);
    }
    let kept = matches!(plan.scenario, Scenario::Outage | Scenario::Readers | Scenario::Reenabled);
    if !plan.no_repeats && !kept && plan.start == Start::Oldest && draw.one_in(4) {
        classes.push(Class::Rewinds);
    }
    if !plan.no_repeats && !kept && draw.one_in(4) {
        (plan.poison_one_in, plan.set_aside_after) = (draw.pick(&[20, 100]), draw.pick(&[2, 3]));
        // A sink that fails too often stops the shard.
        plan.operator = Some(SECOND);
    } else if matches!(plan.scenario, Scenario::Processors | Scenario::Chaos) && draw.one_in(2) {
        plan.operator = Some(draw.pick(&[SECOND, 20 * SECOND]));
        let failures = FailurePolicy::stop_after(draw.pick(&[1, 2, 5])).with_backoff(SECOND / 10, 5 * SECOND);
        plan.config = plan.config.clone().with_failures(failures);
    }
}

/// The smallest and the largest that `WorkerConfig::validate` lets pass, where a run of minutes can end well with it.
fn extremes(plan: &mut Plan, draw: &mut Draw) {
    let config = plan.config.clone();
    plan.config = match draw.below(6) {
        0 => config.with_lease_duration(SECOND).with_observe_every(SECOND / 5),
        1 => {
            let d = config.lease_duration;
            config.with_observe_every(d)
        }
        2 => config.with_batch_size(1).with_prefetch(1).with_concurrent_fetches(1),
        3 => config.with_poll_idle(MINUTE / 2).with_checkpoint_every(MINUTE),
        4 => config.with_prefetch(1000).with_concurrent_fetches(100_000).with_checkpoint_every(Duration::ZERO),
        _ => config.with_min_hold(Duration::ZERO).with_settle(Duration::ZERO).with_tick_every(SECOND / 20),
    };
}
