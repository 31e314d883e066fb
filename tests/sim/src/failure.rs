//! Why a run failed, with all that is needed to see it again.

use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use kcl_core::TaskClass;

/// A failed run.
#[derive(Debug, Clone)]
pub struct Failure {
    /// The seed, which repeats the run.
    pub seed: u64,
    /// When it failed, since the run began.
    pub at: Duration,
    /// How many polls had been made, counting the failed one.
    pub polls: u64,
    /// What failed.
    pub cause: Box<Cause>,
}

/// What failed.
#[derive(Debug, Clone)]
pub enum Cause {
    /// A task panicked, or its destructor did; also where the panic was caught inside the task.
    Panicked {
        /// The task.
        task: TaskInfo,
        /// The panic's text.
        message: String,
        /// Where in the source.
        location: String,
    },
    /// A check found something wrong, right after this task was polled.
    Violated {
        /// What was wrong.
        message: String,
        /// The last task that was polled.
        task: Option<TaskInfo>,
    },
    /// The root future waits, and nothing will ever wake it: these tasks wait for each other.
    Deadlocked(Vec<TaskInfo>),
    /// The root future did not end within the limit of virtual time; these tasks are alive.
    Overdue(Vec<TaskInfo>),
    /// Time stood still for too many polls; this task was the last.
    Spinning(TaskInfo),
}

/// A task, for people.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TaskInfo {
    /// Its number: tasks are counted in the order they were spawned.
    pub number: u64,
    /// Its name.
    pub name: Cow<'static, str>,
    /// The node it runs on.
    pub node: Arc<str>,
    /// The boot of that node, from 1.
    pub boot: u32,
    /// Its class.
    pub class: TaskClass,
    /// How often it was polled.
    pub polls: u64,
    /// When it was polled last, since the run began.
    pub last_polled: Duration,
    /// Whether it is kept from running: its node is frozen, suspended or its processors block.
    pub held: bool,
}

impl TaskInfo {
    /// For a failure outside of any task.
    pub(crate) fn unknown(now: Duration) -> Self {
        Self {
            number: 0,
            name: "no task".into(),
            node: Arc::from("world"),
            boot: 1,
            class: TaskClass::Lease,
            polls: 0,
            last_polled: now,
            held: false,
        }
    }
}

impl fmt::Display for TaskInfo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} (task {}) of {}, boot {}", self.name, self.number, self.node, self.boot)?;
        match self.polls {
            0 => write!(f, ", never polled")?,
            polls => write!(f, ", polled {polls} times, last at {:?}", self.last_polled)?,
        }
        if self.held { write!(f, ", held back") } else { Ok(()) }
    }
}

struct List<'a>(&'a [TaskInfo]);

impl fmt::Display for List<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|task| write!(f, "\n  {task}"))
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "seed {} failed at {:?}, poll {}: ", self.seed, self.at, self.polls)?;
        match &*self.cause {
            Cause::Panicked { task, message, location } => write!(f, "{message}\n  at {location}\n  in {task}"),
            Cause::Violated { message, task: Some(task) } => write!(f, "{message}\n  after {task}"),
            Cause::Violated { message, task: None } => f.write_str(message),
            Cause::Deadlocked(tasks) => write!(f, "nothing can ever run again{}", List(tasks)),
            Cause::Overdue(tasks) => write!(f, "the time is up{}", List(tasks)),
            Cause::Spinning(task) => write!(f, "time stands still while tasks wake each other\n  {task}"),
        }
    }
}

impl std::error::Error for Failure {}
