//! The way between a worker and its services: it takes time, fails, and knows the steps of the protocol.
//!
//! A request to the lease table is carried by the world: once it was sent, it arrives, also if its caller has died or lost patience.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use kcl_core::reference::ReferenceStream;
use kcl_core::wrap::{FaultyLeaseTable, LeaseCall, LeaseFault, LeaseOperation, LeasePurpose, ObservedLeaseTable};
use kcl_core::{
    DescribePage, IteratorPosition, LeaseTable, RecordsPage, Rt, Shard, ShardId, ShardIterator, SourceError,
    SourceErrorKind, SourceOp, StreamArn, StreamDescription, StreamSource, StreamSummary, TableName,
};

use super::draw::Draw;
use super::fault::{Request, Step, StreamWeather};
use crate::Handle;
use crate::fleet::{Fleet, Weather};
use crate::rng::mix;

/// How long calls take: most are quick, some are not.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Latency {
    /// The longest of the quick ones.
    pub quick: Duration,
    /// One call in so many takes up to `slow`; zero: none.
    pub slow_one_in: usize,
    /// The longest of the slow ones.
    pub slow: Duration,
    /// One call in so many takes up to `stuck`; zero: none.
    pub stuck_one_in: usize,
    /// The longest of all.
    pub stuck: Duration,
}

impl Latency {
    /// Two to forty milliseconds.
    pub(crate) const QUICK: Self = Self {
        quick: Duration::from_millis(40),
        slow_one_in: 0,
        slow: Duration::ZERO,
        stuck_one_in: 0,
        stuck: Duration::ZERO,
    };

    fn draw(&self, draw: &mut Draw) -> Duration {
        let longest = if draw.one_in(self.stuck_one_in) {
            self.stuck
        } else if draw.one_in(self.slow_one_in) {
            self.slow
        } else {
            self.quick
        };
        longest / 20 + draw.even(Duration::ZERO..=longest)
    }
}

/// Told of each step.
pub(crate) trait Steps: Send + Sync {
    /// Whether something happens to the worker at this step, which must then let others run.
    fn reached(&self, step: Step) -> bool;
}

/// One worker's way. Clones share its weather.
#[derive(Clone)]
pub(crate) struct Wire {
    pub(super) sim: Handle,
    rt: Rt,
    steps: Arc<dyn Steps>,
    state: Arc<Mutex<State>>,
}

struct State {
    draw: Draw,
    latency: Latency,
    table: Weather,
    /// How often each item was asked for since the table's parts break down.
    asked: BTreeMap<String, u64>,
    stream: StreamWeather,
}

impl fmt::Debug for Wire {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Wire").finish_non_exhaustive()
    }
}

impl Wire {
    pub(crate) fn new(sim: &Handle, node: &str, latency: Latency, steps: Arc<dyn Steps>) -> Self {
        let draw = Draw::new(sim.seed(), &format!("wire/{node}"));
        let (table, stream, asked) = (Weather::default(), StreamWeather::default(), BTreeMap::new());
        let state = State { draw, latency, table, asked, stream };
        Self { sim: sim.clone(), rt: sim.rt(), steps, state: Arc::new(Mutex::new(state)) }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn set_table(&self, weather: Weather) {
        let mut state = self.lock();
        state.asked.clear();
        state.table = weather;
    }

    pub(crate) fn set_stream(&self, weather: StreamWeather) {
        self.lock().stream = weather;
    }

    pub(crate) fn set_latency(&self, latency: Latency) {
        self.lock().latency = latency;
    }

    /// Lets the fault that has just happened at `step` take hold of the worker.
    pub(crate) async fn step(&self, step: Step) {
        if self.steps.reached(step) {
            self.sim.settle().await;
        }
    }

    /// The lease table at the other end.
    ///
    /// Where nothing waits for a step, `told` is false, and the steps are not told.
    pub(crate) fn table(&self, table: Arc<dyn LeaseTable>, told: bool) -> Arc<dyn LeaseTable> {
        if !told {
            let way = self.clone();
            return Arc::new(FaultyLeaseTable::new(table, self.sim.rt(), move |call| way.fate(call)));
        }
        let there = self.clone();
        let arrived = ObservedLeaseTable::new(table, move |call| {
            there.steps.reached(Step::Applied(request(call)));
        });
        let way = self.clone();
        let carried = FaultyLeaseTable::new(Arc::new(arrived), self.sim.rt(), move |call| way.fate(call));
        let back = self.clone();
        Arc::new(ObservedLeaseTable::new(Arc::new(carried), move |call| {
            back.steps.reached(Step::Answered(request(call)));
        }))
    }

    fn fate(&self, call: &LeaseCall) -> LeaseFault {
        self.steps.reached(Step::Sent(request(call)));
        self.to_item(&call.subject).unwrap_or_else(|| self.way())
    }

    /// What becomes of a request for an item whose part of the table breaks down.
    fn to_item(&self, item: &str) -> Option<LeaseFault> {
        let State { draw, latency, table, asked, .. } = &mut *self.lock();
        if table.parts == 0 || item.is_empty() {
            return None;
        }
        let drawn = item.bytes().fold(table.parts, |drawn, byte| mix(drawn ^ u64::from(byte)));
        if drawn.is_multiple_of(4) {
            return None;
        }
        let (deaf, well) = ((drawn >> 8) % 3, 1 + (drawn >> 16) % 2);
        let before = asked.entry(item.to_owned()).or_default();
        let nth = std::mem::replace(before, *before + 1);
        let there = (nth < deaf + well).then(|| latency.draw(draw));
        let back = (deaf..deaf + well).contains(&nth).then_some(Duration::ZERO);
        Some(LeaseFault::Carried { there, back })
    }

    /// What becomes of a request to the lease table or the registry.
    pub(super) fn way(&self) -> LeaseFault {
        let State { draw, latency, table, .. } = &mut *self.lock();
        let late = Duration::from_secs(30);
        if table.cut {
            // Some requests get through late, no answer does.
            let there = draw.one_in(table.late).then(|| draw.even(Duration::ZERO..=late));
            LeaseFault::Carried { there, back: None }
        } else if table.deaf {
            LeaseFault::Carried { there: Some(latency.draw(draw)), back: None }
        } else if !table.flaps.is_zero() {
            let there = Some(latency.draw(draw));
            match Reach::at(self.sim.seed(), self.sim.now(), table.flaps) {
                Reach::Silent => LeaseFault::Carried { there: None, back: None },
                Reach::Deaf => LeaseFault::Carried { there, back: None },
                Reach::Slow => LeaseFault::Carried { there, back: Some(draw.even(Duration::ZERO..=table.flaps / 4)) },
                Reach::Lossy if draw.one_in(2) => LeaseFault::ReplyLost,
                Reach::Lossy | Reach::Well => LeaseFault::Carried { there, back: Some(Duration::ZERO) },
            }
        } else if draw.one_in(table.late) {
            LeaseFault::Carried { there: Some(draw.even(Duration::ZERO..=late)), back: None }
        } else if draw.one_in(table.throttled) {
            LeaseFault::Throttled
        } else if draw.one_in(table.refused) {
            LeaseFault::NotApplied
        } else if draw.one_in(table.reply_lost) {
            LeaseFault::ReplyLost
        } else {
            let (time, slow) = (latency.draw(draw), latency.slow);
            // All of it on one side is as good as half and half, at half the price, where it is short.
            let share = if slow.is_zero() || time < Duration::from_millis(50) { draw.below(2) } else { draw.below(5) };
            let there = if slow.is_zero() || time < Duration::from_millis(50) {
                time * share as u32
            } else {
                time / 4 * share as u32
            };
            LeaseFault::Carried { there: Some(there), back: Some(time.saturating_sub(there)) }
        }
    }

    /// The stream at the other end.
    ///
    /// Listings miss a young shard in one of `blurred` cases.
    pub(crate) fn source(&self, inner: Arc<dyn StreamSource>, fleet: &Fleet, blurred: usize) -> Arc<dyn StreamSource> {
        let service = fleet.service.clone();
        Arc::new(Source { inner, service, blurred, wire: self.clone() })
    }

    /// Leaves out of a listing what is younger than [`YOUNG`], now and then.
    fn blur(&self, service: &ReferenceStream, one_in: usize, stream: &StreamArn, shards: &mut Vec<Shard>) {
        if one_in == 0 {
            return;
        }
        let now = self.sim.rt().now();
        let views = service.shards(stream);
        let mut state = self.lock();
        shards.retain(|shard| {
            let young = views.iter().any(|view| view.shard.id == shard.id && now.since(view.opened) < YOUNG);
            !(young && state.draw.one_in(one_in))
        });
    }

    /// How long the call takes there and back, and what becomes of it.
    fn stream_fate(&self, op: SourceOp) -> (Duration, Duration, Fate) {
        let State { draw, latency, stream, .. } = &mut *self.lock();
        let time = latency.draw(draw);
        let (there, back) = if draw.one_in(2) { (time, Duration::ZERO) } else { (Duration::ZERO, time) };
        let of_shard = op == SourceOp::GetRecords || op == SourceOp::GetShardIterator;
        let fate = if stream.cut {
            Fate::Silence
        } else if draw.one_in(stream.throttled) {
            Fate::Refused(SourceErrorKind::Throttled)
        } else if draw.one_in(stream.failing) {
            if draw.one_in(2) { Fate::Refused(SourceErrorKind::Unavailable) } else { Fate::Lost }
        } else if of_shard && draw.one_in(stream.unknown) {
            Fate::Refused(SourceErrorKind::NotFound)
        } else if op == SourceOp::GetRecords && draw.one_in(stream.expired) {
            Fate::Refused(SourceErrorKind::Expired)
        } else if op == SourceOp::GetRecords && draw.one_in(stream.corrupt) {
            Fate::Refused(SourceErrorKind::Corrupt)
        } else {
            Fate::Well
        };
        (there, back, fate)
    }

    async fn pass(&self, time: Duration) {
        if !time.is_zero() {
            self.rt.sleep(time).await;
        }
    }

    async fn ask<T>(
        &self,
        op: SourceOp,
        call: impl Future<Output = Result<T, SourceError>> + Send,
    ) -> Result<T, SourceError> {
        let (there, back, fate) = self.stream_fate(op);
        self.pass(there).await;
        match fate {
            Fate::Silence => return std::future::pending().await,
            Fate::Refused(kind) => {
                self.pass(back).await;
                return Err(SourceError::new(kind, op.name()));
            }
            Fate::Well | Fate::Lost => {}
        }
        let answer = call.await;
        match op {
            SourceOp::GetRecords => self.step(Step::Page).await,
            SourceOp::DescribeStream => self.step(Step::Listing).await,
            SourceOp::ListStreams | SourceOp::GetShardIterator => {}
        }
        self.pass(back).await;
        if matches!(fate, Fate::Lost) { Err(SourceError::new(SourceErrorKind::Unavailable, op.name())) } else { answer }
    }
}

/// What gets through at an instant, where the way comes and goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Reach {
    Silent,
    /// No answer comes back.
    Deaf,
    /// Answers take up to a quarter of the stretch.
    Slow,
    /// Every other answer is lost, and the caller is told.
    Lossy,
    Well,
}

impl Reach {
    /// Each stretch is of one kind, or it breaks down: bad at first, well for a moment, then silent.
    fn at(seed: u64, now: Duration, stretch: Duration) -> Self {
        let (nth, within) = (now.as_nanos() / stretch.as_nanos(), now.as_nanos() % stretch.as_nanos());
        let drawn = mix(seed ^ nth as u64);
        let bad = u128::from(drawn >> 16) % 350;
        let well = bad + u128::from(drawn >> 40) % 250;
        let share = within * 1000 / stretch.as_nanos();
        match drawn % 8 {
            0 => Self::Silent,
            1 => Self::Slow,
            2 => Self::Lossy,
            _ if share >= well => Self::Silent,
            _ if share >= bad => Self::Well,
            3 | 4 => Self::Slow,
            _ => Self::Deaf,
        }
    }
}

enum Fate {
    Well,
    /// The answer is lost.
    Lost,
    Refused(SourceErrorKind),
    /// Neither is it made, nor does an answer come.
    Silence,
}

fn request(call: &LeaseCall) -> Request {
    match (call.operation, call.purpose) {
        (_, Some(LeasePurpose::Renew)) => Request::Renew,
        (_, Some(LeasePurpose::Checkpoint)) => Request::Checkpoint,
        (_, Some(LeasePurpose::Take)) => Request::Take,
        (_, Some(LeasePurpose::Release)) => Request::Release,
        (_, Some(LeasePurpose::HandOver)) => Request::HandOver,
        (_, Some(LeasePurpose::Evict)) => Request::Evict,
        (LeaseOperation::Finish, _) => Request::Finish,
        (LeaseOperation::Create, _) => Request::Create,
        (LeaseOperation::RegisterWorker, _) => Request::Register,
        (LeaseOperation::WriteWorker, _) => Request::Heartbeat,
        _ => Request::Other,
    }
}

/// How long listings may contradict each other about a new shard: less than the engine waits before it believes two of them.
const YOUNG: Duration = Duration::from_secs(4);

#[derive(Debug)]
struct Source {
    inner: Arc<dyn StreamSource>,
    service: ReferenceStream,
    blurred: usize,
    wire: Wire,
}

#[async_trait]
impl StreamSource for Source {
    async fn list_streams(&self, table: &TableName) -> Result<Vec<StreamSummary>, SourceError> {
        self.wire.ask(SourceOp::ListStreams, self.inner.list_streams(table)).await
    }

    async fn describe_stream(&self, stream: &StreamArn, page: &DescribePage) -> Result<StreamDescription, SourceError> {
        let mut description = self.wire.ask(SourceOp::DescribeStream, self.inner.describe_stream(stream, page)).await?;
        self.wire.blur(&self.service, self.blurred, stream, &mut description.shards);
        Ok(description)
    }

    async fn shard_iterator(
        &self,
        stream: &StreamArn,
        shard: &ShardId,
        position: IteratorPosition,
    ) -> Result<ShardIterator, SourceError> {
        self.wire.ask(SourceOp::GetShardIterator, self.inner.shard_iterator(stream, shard, position)).await
    }

    async fn get_records(&self, iterator: &ShardIterator, limit: usize) -> Result<RecordsPage, SourceError> {
        self.wire.ask(SourceOp::GetRecords, self.inner.get_records(iterator, limit)).await
    }
}
