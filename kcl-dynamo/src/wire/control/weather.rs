//! Commands about what goes wrong, and when: throttles, faults, delays, limits and the clock.

use std::time::Duration;

use kcl_core::SourceOp;
use kcl_core::reference::{LastPage, Visibility};
use serde::Deserialize;
use serde_json::{Value, json};

use super::{Failure, Outcome, read};
use crate::wire::{Fault, WireService};

/// A command without anything to say.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Nothing {}

/// The longest time of a command, a year: sums of times stay far within what a clock can show.
const LONGEST: Duration = Duration::from_secs(366 * 24 * 3600);
/// Shards roll no more often, so that moving the clock ahead makes no endless lineage.
const SHORTEST_ROLL: Duration = Duration::from_millis(100);

/// A time of a command.
pub(super) fn seconds(seconds: f64) -> Result<Duration, Failure> {
    let time =
        Duration::try_from_secs_f64(seconds).map_err(|error| Failure::other(format!("{seconds} seconds: {error}")))?;
    match time <= LONGEST {
        true => Ok(time),
        false => Err(Failure::other(format!("{seconds} seconds: more than a year"))),
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Throttle {
    operation: String,
    seconds: f64,
}

pub(super) fn throttle(service: &WireService, body: &[u8]) -> Outcome {
    let command: Throttle = read(body)?;
    let found = SourceOp::ALL.into_iter().find(|op| op.name() == command.operation);
    let op = found.ok_or_else(|| Failure::other("only operations of streams are throttled; use a fault for others"))?;
    service.stream.throttle(op, seconds(command.seconds)?);
    Ok(json!({}))
}

#[derive(Deserialize)]
struct Order {
    operation: String,
    #[serde(default = "once")]
    times: u32,
    #[serde(flatten)]
    kind: Kind,
}

fn once() -> u32 {
    1
}

#[derive(Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
enum Kind {
    Error { code: String },
    Late { seconds: f64 },
    Silence,
    Broken,
    Checksum,
    Garbage,
}

pub(super) fn fault(service: &WireService, body: &[u8]) -> Outcome {
    let Order { operation, times, kind } = read(body)?;
    let fault = match kind {
        Kind::Error { code } => Fault::Error { code },
        Kind::Late { seconds: late } => Fault::Late(seconds(late)?),
        Kind::Silence => Fault::Silence,
        Kind::Broken => Fault::Broken,
        Kind::Checksum => Fault::Checksum,
        Kind::Garbage => Fault::Garbage,
    };
    service.order(&operation, fault, times)?;
    Ok(json!({}))
}

pub(super) fn clear_faults(service: &WireService, body: &[u8]) -> Outcome {
    let Nothing {} = read(body)?;
    service.clear_orders();
    Ok(json!({}))
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields, default)]
struct Delays {
    child_after: f64,
    closing_after: f64,
    readable_after: f64,
}

pub(super) fn delay_visibility(service: &WireService, body: &[u8]) -> Outcome {
    let delays: Delays = read(body)?;
    service.stream.delay_visibility(Visibility {
        child_after: seconds(delays.child_after)?,
        closing_after: seconds(delays.closing_after)?,
        readable_after: seconds(delays.readable_after)?,
    });
    Ok(json!({}))
}

pub(super) fn expire_iterators(service: &WireService, body: &[u8]) -> Outcome {
    let Nothing {} = read(body)?;
    service.stream.expire_iterators();
    Ok(json!({}))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Advance {
    seconds: f64,
}

pub(super) fn advance(service: &WireService, body: &[u8]) -> Outcome {
    let time = seconds(read::<Advance>(body)?.seconds)?;
    let clock = service.clock.as_ref().ok_or_else(|| Failure::other("this service was given no clock that moves"))?;
    clock.advance(time);
    Ok(json!({ "ahead": clock.ahead().as_secs_f64() }))
}

/// What is not named stays as it is; 0 takes a limit away.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Configure {
    retention: Option<f64>,
    iterator_life: Option<f64>,
    roll_every: Option<f64>,
    page_records: Option<usize>,
    page_bytes: Option<u64>,
    describe_page: Option<usize>,
    trailing_empty_page: Option<bool>,
    empty_page_every: Option<u32>,
    extra_empty_last_page: Option<bool>,
    describes_per_second: Option<usize>,
    lists_per_second: Option<usize>,
    reads_per_second: Option<usize>,
    readers_per_shard: Option<usize>,
}

pub(super) fn configure(service: &WireService, body: &[u8]) -> Outcome {
    let command: Configure = read(body)?;
    let retention = command.retention.map(seconds).transpose()?;
    let iterator_life = command.iterator_life.map(seconds).transpose()?;
    let roll_every = command.roll_every.map(seconds).transpose()?;
    if roll_every.is_some_and(|every| !every.is_zero() && every < SHORTEST_ROLL) {
        return Err(Failure::other("roll_every is 0.1 seconds at least, or 0 for never"));
    }
    service.stream.reconfigure(|options| {
        set(&mut options.retention, retention);
        set(&mut options.iterator_life, iterator_life);
        set(&mut options.page_records, command.page_records);
        set(&mut options.page_bytes, command.page_bytes);
        set(&mut options.describe_page, command.describe_page);
        set(&mut options.trailing_empty_page, command.trailing_empty_page);
        let last = command.extra_empty_last_page;
        set(&mut options.last_page, last.map(|extra| if extra { LastPage::ExtraEmpty } else { LastPage::WithRecords }));
        limit(&mut options.roll_every, roll_every);
        limit(&mut options.empty_page_every, command.empty_page_every);
        limit(&mut options.describes_per_second, command.describes_per_second);
        limit(&mut options.lists_per_second, command.lists_per_second);
        limit(&mut options.reads_per_second, command.reads_per_second);
        limit(&mut options.readers_per_shard, command.readers_per_shard);
    });
    Ok(json!({}))
}

fn set<T>(option: &mut T, value: Option<T>) {
    if let Some(value) = value {
        *option = value;
    }
}

fn limit<T: PartialEq + Default>(option: &mut Option<T>, value: Option<T>) {
    if let Some(value) = value {
        *option = (value != T::default()).then_some(value);
    }
}

pub(super) fn calls(service: &WireService, body: &[u8]) -> Outcome {
    let Nothing {} = read(body)?;
    let counts = service.stream.calls();
    let calls: Value = SourceOp::ALL.into_iter().map(|op| (op.name().to_owned(), Value::from(counts.of(op)))).collect();
    Ok(json!({ "calls": calls }))
}
