//! Several applications on one stream, and several streams of one table.

use kcl_core::{READER_SLOTS, WorkerConfig};

use super::{Class, MINUTE, SECOND};
use crate::scenario::draw::Draw;
use crate::scenario::fault::{Fault, When};
use crate::scenario::{Plan, Start};

/// One application more than may read the stream, each of one or two workers. Now and then a whole application is away for longer
/// than its slot lasts.
pub(super) fn readers(plan: &mut Plan, classes: &mut Vec<Class>, draw: &mut Draw) {
    plan.applications = READER_SLOTS + 1;
    plan.workers = plan.applications * draw.count(1..=2);
    plan.rates = super::settings::rates(plan.workers, draw);
    plan.shards = plan.shards.min(4);
    plan.start = Start::Oldest;
    plan.busy = draw.time(6 * MINUTE..=20 * MINUTE);
    // Listings of three applications are more than one may ask for.
    plan.service.limits = false;
    plan.config = at_most_a_minute(plan.config.clone());
    let kinds = [Class::Crashes, Class::Table, Class::Freezes, Class::Suspends, Class::Shards, Class::Restarts];
    classes.extend(kinds.into_iter().filter(|_| draw.one_in(2)));
    let mut at = draw.time(20 * SECOND..=2 * MINUTE);
    while at < plan.busy {
        let (gone, down, crash) = (draw.below(plan.applications), draw.time(MINUTE..=6 * MINUTE), draw.one_in(2));
        for worker in (gone..plan.workers).step_by(plan.applications) {
            let renamed = draw.one_in(2);
            let fault = match crash {
                true => Fault::Crash { worker, down, renamed },
                false => Fault::Restart { worker, down, renamed },
            };
            plan.add(When::At(at), fault);
        }
        at += draw.time(MINUTE..=5 * MINUTE);
    }
}

fn at_most_a_minute(config: WorkerConfig) -> WorkerConfig {
    let d = config.lease_duration.min(MINUTE / 2);
    let observe = config.observe_every.min(d);
    config.with_lease_duration(d).with_observe_every(observe)
}

/// The stream is switched off once or more, and another one on after a while.
pub(super) fn reenabled(plan: &mut Plan, classes: &mut Vec<Class>, draw: &mut Draw) {
    *classes = vec![Class::Crashes, Class::Restarts, Class::Shards];
    plan.busy = plan.busy.max(4 * MINUTE);
    let pause = plan.busy / draw.pick(&[2, 3, 4]) as u32;
    let mut at = pause;
    while at < plan.busy {
        let off = draw.time(SECOND..=MINUTE);
        plan.add(When::At(at), Fault::Disable);
        plan.add(When::At(at + off), Fault::Enable(plan.shards));
        at += pause + off;
    }
}
