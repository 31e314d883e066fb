//! What a test holds of a run while it runs: the true time, the nodes, the randomness, the checks.

use std::borrow::Cow;
use std::fmt;
use std::future::Future;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use kcl_core::{Rt, TaskClass};
use rand::rngs::Xoshiro256PlusPlus;

use crate::clock::epoch;
use crate::failure::TaskInfo;
use crate::invariant::Condition;
use crate::node::{Main, Node};
use crate::process::{ProcessId, ProcessRt};
use crate::rng::stream;
use crate::state::Shared;

/// A run, seen from inside and out. Cheap to clone.
#[derive(Clone)]
pub struct Handle {
    pub(crate) shared: Arc<Shared>,
}

impl fmt::Debug for Handle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Handle").field("seed", &self.seed()).field("now", &self.now()).finish_non_exhaustive()
    }
}

impl Handle {
    /// The seed of the run.
    #[must_use]
    pub fn seed(&self) -> u64 {
        self.shared.seed
    }

    /// The true time since the run began.
    #[must_use]
    pub fn now(&self) -> Duration {
        self.shared.lock().now.since_start()
    }

    /// The true time of day: [`epoch`] when the run began.
    #[must_use]
    pub fn wall(&self) -> SystemTime {
        epoch() + self.now()
    }

    /// The runtime of the world: true clocks, and tasks that no fault touches. For whatever stands for a service.
    #[must_use]
    pub fn rt(&self) -> Rt {
        ProcessRt::rt(&self.shared, ProcessId::WORLD)
    }

    /// The node of this name, which is made when it is first asked for.
    #[must_use]
    pub fn node(&self, name: &str) -> Node {
        Node::named(&self.shared, name)
    }

    /// The random stream of `label`. The same label gives the same stream, from its beginning, at every call; other
    /// labels give streams that do not depend on how much was drawn from this one.
    #[must_use]
    pub fn rng(&self, label: &str) -> Xoshiro256PlusPlus {
        stream(self.shared.seed, label, 0)
    }

    /// Runs `task` in the world.
    pub fn spawn<F>(&self, name: impl Into<Cow<'static, str>>, task: F) -> Main<F::Output>
    where
        F: Future + Send + 'static,
        F::Output: Send + 'static,
    {
        self.node("world").spawn(name, task)
    }

    /// Waits for `time` of true time.
    ///
    /// # Cancel safety
    /// Dropping it ends the wait and nothing else.
    pub async fn sleep(&self, time: Duration) {
        self.rt().sleep(time).await;
    }

    /// Waits until every task that can run at this instant has run: time moves, by a nanosecond, only then.
    ///
    /// # Cancel safety
    /// Dropping it ends the wait and nothing else.
    pub async fn settle(&self) {
        self.sleep(Duration::from_nanos(1)).await;
    }

    /// The living tasks of all nodes and of the world, oldest first.
    #[must_use]
    pub fn tasks(&self) -> Vec<TaskInfo> {
        self.shared.lock().infos(|_| true)
    }

    /// Fails the run after the present poll, because an invariant does not hold. The first one counts.
    pub fn fail(&self, message: impl Into<String>) {
        let message = message.into();
        self.shared.order(|orders| {
            orders.violation.get_or_insert(message);
        });
    }

    /// Checks something after every poll: `check` is given the time since the run began, and answers what is wrong.
    pub fn check(&self, check: impl FnMut(Duration) -> Result<(), String> + Send + 'static) {
        self.shared.order(|orders| orders.checks.push(Box::new(check)));
    }

    /// Panics whose text contains `text` do not fail the run: the test provokes them, and the code under test catches
    /// them on purpose. An empty text allows all.
    pub fn allow_panics(&self, text: impl Into<String>) {
        self.shared.panics.allow(text.into());
    }

    /// How many panics happened that were allowed.
    #[must_use]
    pub fn allowed_panics(&self) -> u64 {
        self.shared.panics.tolerated()
    }

    /// A hash of every poll so far (which task, when) and every [`Handle::note`]: equal in two runs that did the same.
    #[must_use]
    pub fn trace_hash(&self) -> u64 {
        self.shared.lock().trace.hash()
    }

    /// How many polls were made.
    #[must_use]
    pub fn polls(&self) -> u64 {
        self.shared.lock().trace.polls()
    }

    /// The process whose task is being polled, or was last.
    pub(crate) fn running(&self) -> ProcessId {
        self.shared.lock().running
    }

    /// What a process is able to do now.
    pub(crate) fn condition(&self, id: ProcessId) -> Condition {
        let state = self.shared.lock();
        let process = state.process(id);
        match process {
            _ if !process.alive => Condition::Dead(process.died.since_start()),
            _ if process.holds(state.now, TaskClass::Lease) => Condition::Stands,
            _ if process.was_suspended => Condition::Woken,
            _ if process.holds(state.now, TaskClass::Processing) => Condition::Blocked,
            _ => Condition::Runs,
        }
    }

    /// Folds an event of the test's own into the trace, so that runs which differ in it differ in their hash.
    pub fn note(&self, event: u64) {
        self.shared.lock().trace.note(event);
    }
}
