//! A fleet of processes on a stream of many shards, whose members are killed, stopped and replaced while writing goes on.

mod stream;

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, ensure};

use crate::calls::{Latency, Server};
use crate::changes::{Change, changes, gaps};
use crate::delivery::{Tail, Verdict, judge, now};
use crate::fleet::{Consumer, items, owners, until};
use crate::job::Consume;

pub use stream::ManyShards;

/// Generous: the machine may be busy with other tests.
const PATIENCE: Duration = Duration::from_secs(180);

/// From one replacement of a deploy to the next, once the new process is a member and every shard has an owner that runs.
const BETWEEN_REPLACEMENTS: Duration = Duration::from_secs(5);

/// Between two looks at the lease table: the fleet is to have it for itself.
const LOOK_PAUSE: Duration = Duration::from_millis(400);

/// The consumers of one table, and the lease table they share.
#[derive(Debug)]
pub struct Rolling {
    program: PathBuf,
    db: aws_sdk_dynamodb::Client,
    job: Consume,
    dir: PathBuf,
    shards: usize,
    running: BTreeMap<String, Consumer>,
    /// All that were ever started, in that order.
    names: Vec<String>,
    /// What each of them delivered.
    tails: Vec<Tail>,
    /// When and by whom each shard was last delivered from.
    last: BTreeMap<String, (u128, usize)>,
}

/// What came of one measure.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Measured {
    /// What was done.
    pub what: &'static str,
    /// The changes of hands that followed.
    pub changes: Vec<Change>,
    /// When it was begun and when it was over, in milliseconds since the epoch.
    pub time: Range<u128>,
}

impl Measured {
    fn new(what: &'static str, begun: u128, changes: Vec<Change>) -> Self {
        Self { what, changes, time: begun..now() }
    }
}

/// What the lease table shows.
#[derive(Debug, Default)]
struct Shares {
    /// Shards of each process that runs.
    owned: BTreeMap<String, usize>,
    /// Processes that are members.
    members: BTreeSet<String>,
}

impl Rolling {
    /// A fleet of `program` that works as `job` says, each under a name and with an output of its own. `db` reaches the lease
    /// table; the stream has so many open shards.
    #[must_use]
    pub fn new(
        program: impl Into<PathBuf>,
        db: aws_sdk_dynamodb::Client,
        job: Consume,
        dir: PathBuf,
        shards: usize,
    ) -> Self {
        let (running, last) = (BTreeMap::new(), BTreeMap::new());
        Self { program: program.into(), db, job, dir, shards, running, names: Vec::new(), tails: Vec::new(), last }
    }

    /// Starts one more.
    ///
    /// # Errors
    /// It cannot be started.
    pub fn start(&mut self) -> anyhow::Result<()> {
        let worker = format!("w{:03}", self.names.len());
        let output = self.output(&worker);
        let job = Consume { worker: worker.clone(), output: output.clone(), ..self.job.clone() };
        self.running.insert(worker.clone(), Consumer::start(&self.program, job)?);
        self.names.push(worker);
        self.tails.push(Tail::new(output));
        Ok(())
    }

    fn output(&self, worker: &str) -> PathBuf {
        self.dir.join(worker)
    }

    /// Waits until every shard is owned by a process that runs, as evenly as can be.
    ///
    /// # Errors
    /// That does not come about.
    pub async fn settled(&self) -> anyhow::Result<()> {
        let fewest = self.shards / self.running.len();
        let most = self.shards.div_ceil(self.running.len());
        self.shared_out("the shards are shared out evenly", |owned| {
            owned.len() == self.running.len() && owned.values().all(|n| (fewest..=most).contains(n))
        })
        .await
    }

    /// Waits until every shard is owned by a process that runs, every process is a member, and the shares are such.
    async fn shared_out(
        &self,
        what: &str,
        such: impl Fn(&BTreeMap<String, usize>) -> bool + Send + Sync,
    ) -> anyhow::Result<()> {
        until(what, PATIENCE, async || {
            tokio::time::sleep(LOOK_PAUSE).await;
            let Shares { owned, members } = self.shares().await?;
            let all = owned.values().sum::<usize>() == self.shards && members.len() == self.running.len();
            Ok((all && such(&owned)).then_some(()))
        })
        .await
        .with_context(|| self.logs())
    }

    /// How many shards each process owns, and which are members.
    async fn shares(&self) -> anyhow::Result<Shares> {
        let mut shares = Shares::default();
        // The lease table is made by the first worker.
        let Ok((leases, workers)) = items(&self.db, &self.job.application).await else { return Ok(shares) };
        let running =
            |id: &str| id.split('/').next().filter(|name| self.running.contains_key(*name)).map(str::to_owned);
        shares.members = workers.iter().filter_map(|id| running(id)).collect();
        for name in leases.into_values().flatten().filter_map(|owner| running(&owner)) {
            *shares.owned.entry(name).or_insert(0) += 1;
        }
        Ok(shares)
    }

    /// Waits until something was delivered from every shard.
    ///
    /// # Errors
    /// That does not come about.
    pub async fn all_delivered_from(&mut self) -> anyhow::Result<()> {
        until("every shard is read", PATIENCE, async || {
            self.read_on()?;
            Ok((self.last.len() == self.shards).then_some(()))
        })
        .await
    }

    /// Reads what was written down meanwhile.
    fn read_on(&mut self) -> anyhow::Result<()> {
        for (worker, tail) in self.tails.iter_mut().enumerate() {
            let before = tail.deliveries().len();
            tail.read_on()?;
            for delivery in &tail.deliveries()[before..] {
                match self.last.get_mut(&delivery.shard) {
                    Some(last) => *last = (*last).max((delivery.at, worker)),
                    None => drop(self.last.insert(delivery.shard.clone(), (delivery.at, worker))),
                }
            }
        }
        Ok(())
    }

    /// What all of it shows.
    ///
    /// # Errors
    /// See [`Tail::read_on`].
    pub fn verdict(&mut self, written: usize) -> anyhow::Result<Verdict> {
        self.read_on()?;
        Ok(judge(&self.tails, &self.job.tables, written))
    }

    /// How many deliveries there were so far.
    ///
    /// # Errors
    /// See [`Tail::read_on`].
    pub fn delivered(&mut self) -> anyhow::Result<usize> {
        self.read_on()?;
        Ok(self.tails.iter().map(|tail| tail.deliveries().len()).sum())
    }

    /// How long the requests of all processes to the server took that were answered in this time.
    ///
    /// # Errors
    /// What they wrote down cannot be read.
    pub fn latency(&self, server: Server, time: Range<u128>) -> anyhow::Result<Latency> {
        let outputs: Vec<PathBuf> = self.names.iter().map(|name| self.output(name)).collect();
        Latency::of(server, time, outputs.iter().map(PathBuf::as_path))
    }

    /// Leaves the fleet alone for a while. Returns how long each shard was silent between its batches, in milliseconds.
    ///
    /// # Errors
    /// See [`Tail::read_on`].
    pub async fn undisturbed(&mut self, time: Duration) -> anyhow::Result<Vec<u128>> {
        let begun = now();
        tokio::time::sleep(time).await;
        self.read_on()?;
        Ok(gaps(&self.tails, begun))
    }

    /// Kills the process that was started first of those that run, and waits until its shards are read by others.
    ///
    /// # Errors
    /// Nobody runs, or the others do not take over.
    pub async fn kill(&mut self) -> anyhow::Result<Measured> {
        let (name, mut victim) = self.running.pop_first().context("nobody runs")?;
        let place = self.place(&name)?;
        let begun = now();
        victim.process.kill()?;
        Ok(Measured::new("killed", begun, self.taken_over(place, begun).await?))
    }

    /// Stops the process that was started first of those that run, gracefully, and waits until its shards are read by others.
    ///
    /// # Errors
    /// Nobody runs, it does not end well, or the others do not go on.
    pub async fn stop(&mut self) -> anyhow::Result<Measured> {
        let (name, leaver) = self.running.pop_first().context("nobody runs")?;
        let (place, begun) = (self.place(&name)?, now());
        leaver.stop().await?;
        Ok(Measured::new("stopped", begun, self.taken_over(place, begun).await?))
    }

    /// Starts one more and waits until it reads its share.
    ///
    /// # Errors
    /// It cannot be started, or gets no share.
    pub async fn join(&mut self) -> anyhow::Result<Measured> {
        let begun = now();
        self.start()?;
        let place = self.names.len() - 1;
        self.settled().await?;
        let share = self.shards / self.running.len();
        until("it reads its share", PATIENCE, async || {
            self.read_on()?;
            Ok((self.last.values().filter(|(_, worker)| *worker == place).count() >= share).then_some(()))
        })
        .await?;
        Ok(Measured::new("joined", begun, self.changes_since(begun)))
    }

    /// Replaces each process in turn: stops it, starts another, goes on once that is a member and every shard has an owner that runs.
    /// Ends when the shards are shared out evenly.
    ///
    /// # Errors
    /// One does not end well, or the shards are not shared out.
    pub async fn deploy(&mut self) -> anyhow::Result<Measured> {
        let begun = now();
        for _ in 0..self.running.len() {
            let (_, leaver) = self.running.pop_first().context("nobody runs")?;
            leaver.stop().await?;
            self.start()?;
            self.shared_out("every shard is owned", |_| true).await?;
            tokio::time::sleep(BETWEEN_REPLACEMENTS).await;
        }
        self.settled().await?;
        tokio::time::sleep(BETWEEN_REPLACEMENTS).await;
        self.read_on()?;
        Ok(Measured::new("deployed", begun, self.changes_since(begun)))
    }

    /// Stops all.
    ///
    /// # Errors
    /// One does not end well.
    pub async fn end(&mut self) -> anyhow::Result<()> {
        while let Some((_, consumer)) = self.running.pop_first() {
            consumer.stop().await?;
        }
        let leases = owners(&self.db, &self.job.application).await?;
        let owned: Vec<_> = leases.iter().filter(|(_, owner)| owner.is_some()).collect();
        ensure!(owned.is_empty(), "leases are not free: {owned:?}");
        Ok(())
    }

    fn place(&self, name: &str) -> anyhow::Result<usize> {
        self.names.iter().position(|started| started == name).context("it was started")
    }

    fn changes_since(&self, begun: u128) -> Vec<Change> {
        changes(&self.tails).into_iter().filter(|change| change.first >= begun).collect()
    }

    /// Waits until others have delivered from every shard that this worker had, and returns those changes of hands.
    async fn taken_over(&mut self, place: usize, begun: u128) -> anyhow::Result<Vec<Change>> {
        until("the others go on", PATIENCE, async || {
            self.read_on()?;
            Ok(self.last.values().all(|(_, worker)| *worker != place).then_some(()))
        })
        .await?;
        Ok(self.changes_since(begun).into_iter().filter(|change| change.from == place).collect())
    }

    /// The last lines of what the processes said.
    fn logs(&self) -> String {
        let tail = |log: String| log.lines().rev().take(5).collect::<Vec<_>>().join("\n");
        self.running.iter().map(|(name, consumer)| format!("{name}: {}\n", tail(consumer.log()))).collect()
    }
}
