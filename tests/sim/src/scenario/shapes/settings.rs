//! How a fleet is set up, how its service behaves and what is written: drawn for every scenario alike.

use std::time::Duration;

use kcl_core::reference::{LastPage, Visibility};
use kcl_core::{FailurePolicy, WorkerConfig};

use super::{HOUR, MINUTE, SECOND};
use crate::scenario::draw::Draw;
use crate::scenario::plan::{Service, Writes};
use crate::scenario::wire::Latency;

/// How wrong the clocks are, in parts per million: the design allows for 2 % between any two, and for a little more.
pub(super) fn rates(workers: usize, draw: &mut Draw) -> Vec<i32> {
    let kind = draw.below(4);
    let rate = |n: usize| match kind {
        0 if n.is_multiple_of(2) => -WRONG,
        0 => WRONG,
        1 => draw.below(2 * WRONG as usize + 1) as i32 - WRONG,
        _ => draw.below(401) as i32 - 200,
    };
    (0..workers).map(rate).collect()
}

/// The most that a clock is wrong by.
pub(super) const WRONG: i32 = 20_000;

pub(super) fn config(draw: &mut Draw) -> WorkerConfig {
    let d = if draw.one_in(3) { 10 * SECOND } else { draw.time(2 * SECOND..=60 * SECOND) };
    let observe = (d / draw.pick(&[1, 2, 5, 10, 20])).clamp(SECOND / 5, 5 * SECOND).min(d);
    let poll = draw.time(SECOND / 5..=2 * SECOND);
    let failures = FailurePolicy::stop_after(u32::MAX).with_backoff(SECOND / 10, 5 * SECOND);
    WorkerConfig::default()
        .with_lease_duration(d)
        .with_observe_every(observe)
        .with_discover_every(draw.time(SECOND..=MINUTE))
        .with_min_hold(draw.pick(&[Duration::ZERO, 5 * SECOND, 30 * SECOND, MINUTE]))
        .with_checkpoint_every(draw.pick(&[Duration::ZERO, SECOND / 2, 3 * SECOND, 3 * SECOND, 15 * SECOND]))
        .with_batch_size(draw.pick(&[1, 3, 100, 1000, 1000]))
        .with_poll_every(poll)
        .with_poll_idle(poll * draw.pick(&[1, 3, 10]))
        .with_calls_per_second(draw.pick(&[1, 5, 5, 10]))
        .with_source_timeout(draw.time(SECOND..=15 * SECOND))
        .with_memory(draw.pick(&[8 << 20, 64 << 20]))
        .with_prefetch(draw.pick(&[1, 2, 2, 4]))
        .with_concurrent_fetches(draw.pick(&[1, 2, 64, 64]))
        .with_tick_every(draw.pick(&[SECOND, 10 * SECOND, MINUTE]))
        .with_process_timeout(draw.pick(&[None, None, Some(30 * SECOND)]))
        .with_failures(failures)
}

pub(super) fn service(draw: &mut Draw) -> Service {
    Service {
        limits: false,
        visibility: Visibility::default(),
        blurred: 0,
        describe_page: draw.pick(&[2, 10, 100, 100]),
        trailing_empty_page: draw.one_in(3),
        page_records: draw.pick(&[3, 50, 1000, 1000]),
        empty_page_every: draw.one_in(3).then(|| 2 + draw.below(5) as u32),
        last_page: draw.pick(&[LastPage::WithRecords, LastPage::ExtraEmpty]),
        roll_every: draw.pick(&[None, None, Some(4 * HOUR), Some(10 * MINUTE)]),
        scan_page: draw.pick(&[1000, 1000, 3]),
        scan_lag: draw.pick(&[0, 0, 0, 5]),
    }
}

pub(super) fn latency(draw: &mut Draw) -> Latency {
    let heavy = Latency {
        slow_one_in: 25,
        slow: draw.time(SECOND / 10..=2 * SECOND),
        stuck_one_in: 100,
        stuck: draw.time(2 * SECOND..=20 * SECOND),
        ..Latency::QUICK
    };
    draw.pick(&[Latency::QUICK, Latency::QUICK, Latency { stuck_one_in: 0, ..heavy }, heavy])
}

pub(super) fn writes(draw: &mut Draw) -> Writes {
    let quiet = draw.time(10 * SECOND..=2 * MINUTE);
    let from = draw.time(10 * SECOND..=3 * MINUTE);
    Writes {
        keys: draw.pick(&[1, 20, 200]),
        every: draw.time(SECOND / 10..=10 * SECOND),
        before: draw.pick(&[0, 0, 100]),
        quiet: if draw.one_in(2) { vec![(from, from + quiet)] } else { Vec::new() },
    }
}
