//! Processes, and what the lease table says of them.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsStr;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};
use aws_sdk_dynamodb::Client;
use aws_sdk_dynamodb::types::AttributeValue;
use serde::Serialize;

use crate::delivery::{self, Delivery};
use crate::job::Consume;

/// How often something is looked at that is waited for.
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// A process that ends with the test.
#[derive(Debug)]
pub struct Process(Child);

impl Process {
    /// Starts `program` with its job. What it says goes to the file `log`.
    ///
    /// # Errors
    /// It cannot be started.
    pub fn start(program: impl AsRef<OsStr>, job: &impl Serialize, log: &Path) -> anyhow::Result<Self> {
        let child = Command::new(program)
            .arg(serde_json::to_string(job)?)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(File::create(log)?)
            .spawn()
            .context("a process cannot be started")?;
        Ok(Self(child))
    }

    /// Whether it has not ended yet.
    ///
    /// # Errors
    /// The system does not tell.
    pub fn is_running(&mut self) -> anyhow::Result<bool> {
        Ok(self.0.try_wait()?.is_none())
    }

    /// Ends it as a power cut would.
    ///
    /// # Errors
    /// It has ended already.
    pub fn kill(&mut self) -> anyhow::Result<()> {
        ensure!(self.is_running()?, "the process has ended by itself");
        self.0.kill()?;
        self.0.wait()?;
        Ok(())
    }

    /// Asks it to stop, with SIGTERM.
    ///
    /// # Errors
    /// The signal cannot be sent.
    pub fn terminate(&self) -> anyhow::Result<()> {
        let sent = Command::new("kill").args(["-TERM", &self.0.id().to_string()]).status()?;
        ensure!(sent.success(), "the process takes no signal");
        Ok(())
    }

    /// Waits for its end.
    ///
    /// # Errors
    /// It goes on for longer than `limit`.
    pub async fn ended(&mut self, limit: Duration) -> anyhow::Result<ExitStatus> {
        until("the process ends", limit, async || Ok(self.0.try_wait()?)).await
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // It may have ended by itself; nobody is left to be told.
        let _ended = self.0.kill();
        let _reaped = self.0.wait();
    }
}

/// One consumer of a fleet.
#[derive(Debug)]
pub struct Consumer {
    /// What it was told.
    pub job: Consume,
    /// Its process.
    pub process: Process,
    log: PathBuf,
}

impl Consumer {
    /// Starts one.
    ///
    /// # Errors
    /// It cannot be started.
    pub fn start(program: impl AsRef<OsStr>, job: Consume) -> anyhow::Result<Self> {
        let log = job.output.with_extension("log");
        let process = Process::start(program, &job, &log)?;
        Ok(Self { job, process, log })
    }

    /// What it wrote down so far.
    ///
    /// # Errors
    /// See [`delivery::read`].
    pub fn deliveries(&self) -> anyhow::Result<Vec<Delivery>> {
        delivery::read(&self.job.output)
    }

    /// Stops it gracefully.
    ///
    /// # Errors
    /// It does not end, or not well; its log says why.
    pub async fn stop(mut self) -> anyhow::Result<()> {
        self.process.terminate()?;
        let status = self.process.ended(Duration::from_secs(40)).await?;
        ensure!(status.success(), "{} ended with {status}: {}", self.job.worker, self.log());
        Ok(())
    }

    /// What it said.
    #[must_use]
    pub fn log(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_else(|e| e.to_string())
    }
}

/// A new directory for the files of one test.
///
/// # Errors
/// It cannot be made.
pub fn scratch(test: &str) -> anyhow::Result<PathBuf> {
    static MADE: AtomicU64 = AtomicU64::new(0);
    let name = format!("kcl-{test}-{}-{}", std::process::id(), MADE.fetch_add(1, Ordering::Relaxed));
    let path = std::env::temp_dir().join(name);
    std::fs::create_dir_all(&path)?;
    Ok(path)
}

/// Looks until there is something.
///
/// # Errors
/// There is nothing for `limit`, or looking fails.
pub async fn until<T>(
    what: &str,
    limit: Duration,
    mut look: impl AsyncFnMut() -> anyhow::Result<Option<T>>,
) -> anyhow::Result<T> {
    let begun = Instant::now();
    while begun.elapsed() < limit {
        if let Some(found) = look().await? {
            return Ok(found);
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
    bail!("not within {limit:?}: {what}")
}

/// The owners of the leases, as the lease table names them: `name/incarnation`; `None` for a free one. Not the items of workers.
///
/// # Errors
/// The table cannot be read.
pub async fn owners(db: &Client, table: &str) -> anyhow::Result<BTreeMap<String, Option<String>>> {
    Ok(items(db, table).await?.0)
}

/// The owners of the leases, and the ids of the workers that have an item.
///
/// # Errors
/// The table cannot be read.
pub async fn items(db: &Client, table: &str) -> anyhow::Result<(BTreeMap<String, Option<String>>, BTreeSet<String>)> {
    let text = |value: Option<&AttributeValue>| value.and_then(|v| v.as_s().ok()).cloned();
    let scanned = db.scan().table_name(table).consistent_read(true).send().await?;
    let (mut leases, mut workers) = (BTreeMap::new(), BTreeSet::new());
    for item in scanned.items() {
        let key = text(item.get("leaseKey")).context("an item without a key")?;
        if item.contains_key("leaseCounter") {
            leases.insert(key, text(item.get("leaseOwner")));
        } else if let Some(id) = key.strip_prefix("worker/") {
            workers.insert(id.to_owned());
        }
    }
    Ok((leases, workers))
}
