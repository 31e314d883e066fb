//! A fleet of processes on a stream of many shards, whose members are killed, stopped and replaced while writing goes on.

mod stream;

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, ensure};

use crate::changes::{Change, changes};
use crate::delivery::{self, Delivery, Verdict, judge, now};
use crate::fleet::{Consumer, owners, until};
use crate::job::Consume;

pub use stream::ManyShards;

/// Generous: the machine may be busy with other tests.
const PATIENCE: Duration = Duration::from_secs(180);

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
}

/// What came of one measure.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Measured {
    /// What was done.
    pub what: &'static str,
    /// The changes of hands that followed.
    pub changes: Vec<Change>,
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
        Self { program: program.into(), db, job, dir, shards, running: BTreeMap::new(), names: Vec::new() }
    }

    /// Starts one more.
    ///
    /// # Errors
    /// It cannot be started.
    pub fn start(&mut self) -> anyhow::Result<()> {
        let worker = format!("w{:03}", self.names.len());
        let job = Consume { worker: worker.clone(), output: self.dir.join(&worker), ..self.job.clone() };
        self.running.insert(worker.clone(), Consumer::start(&self.program, job)?);
        self.names.push(worker);
        Ok(())
    }

    /// Waits until every shard is owned by a process that runs, as evenly as can be.
    ///
    /// # Errors
    /// That does not come about.
    pub async fn settled(&self) -> anyhow::Result<()> {
        let fewest = self.shards / self.running.len();
        let most = self.shards.div_ceil(self.running.len());
        until("the shards are shared out", PATIENCE, async || {
            let owned = self.owned().await?;
            let even = owned.values().all(|n| (fewest..=most).contains(n));
            let all = owned.values().sum::<usize>() == self.shards && owned.len() == self.running.len();
            Ok((even && all).then_some(()))
        })
        .await
        .with_context(|| self.logs())
    }

    /// How many shards each process owns.
    async fn owned(&self) -> anyhow::Result<BTreeMap<String, usize>> {
        let mut owned = BTreeMap::new();
        // The lease table is made by the first worker.
        let Ok(owners) = owners(&self.db, &self.job.application).await else { return Ok(owned) };
        for owner in owners.into_values().flatten() {
            let name = owner.split('/').next().unwrap_or_default().to_owned();
            if self.running.contains_key(&name) {
                *owned.entry(name).or_insert(0) += 1;
            }
        }
        Ok(owned)
    }

    /// Waits until something was delivered from every shard.
    ///
    /// # Errors
    /// That does not come about.
    pub async fn all_delivered_from(&self) -> anyhow::Result<()> {
        until("every shard is read", PATIENCE, async || {
            let deliveries = self.deliveries()?;
            let read: BTreeSet<&String> = deliveries.iter().flatten().map(|delivery| &delivery.shard).collect();
            Ok((read.len() == self.shards).then_some(()))
        })
        .await
    }

    /// Everything that was written down so far, for each worker in the order in which they were started.
    ///
    /// # Errors
    /// See [`delivery::read`].
    pub fn deliveries(&self) -> anyhow::Result<Vec<Vec<Delivery>>> {
        self.names.iter().map(|name| delivery::read(&self.dir.join(name))).collect()
    }

    /// What all of it shows.
    ///
    /// # Errors
    /// See [`delivery::read`].
    pub fn verdict(&self, written: usize) -> anyhow::Result<Verdict> {
        Ok(judge(&self.deliveries()?, &self.job.tables, written))
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
        Ok(Measured { what: "killed", changes: self.taken_over(place, begun).await? })
    }

    /// Stops the process that was started first of those that run, gracefully, and waits until its shards are read by others.
    ///
    /// # Errors
    /// Nobody runs, it does not end well, or the others do not go on.
    pub async fn stop(&mut self) -> anyhow::Result<Measured> {
        let (name, leaver) = self.running.pop_first().context("nobody runs")?;
        let (place, begun) = (self.place(&name)?, now());
        leaver.stop().await?;
        Ok(Measured { what: "stopped", changes: self.taken_over(place, begun).await? })
    }

    /// Starts one more and waits until it has its share.
    ///
    /// # Errors
    /// It cannot be started, or gets no share.
    pub async fn join(&mut self) -> anyhow::Result<Measured> {
        let begun = now();
        self.start()?;
        let place = self.names.len() - 1;
        self.settled().await?;
        let share = self.shards / self.running.len();
        let changes = until("it reads its share", PATIENCE, async || {
            let all = changes(&self.deliveries()?).into_iter();
            let to_it: Vec<Change> = all.filter(|change| change.to == place && change.first >= begun).collect();
            Ok((to_it.len() >= share).then_some(to_it))
        })
        .await?;
        Ok(Measured { what: "joined", changes })
    }

    /// Replaces each process in turn: stops it, starts another, waits until the shards are shared out again.
    ///
    /// # Errors
    /// One does not end well, or the shards are not shared out.
    pub async fn deploy(&mut self) -> anyhow::Result<Measured> {
        let begun = now();
        for _ in 0..self.running.len() {
            let (_, leaver) = self.running.pop_first().context("nobody runs")?;
            leaver.stop().await?;
            self.start()?;
            self.settled().await?;
        }
        let changes = changes(&self.deliveries()?).into_iter().filter(|change| change.first >= begun).collect();
        Ok(Measured { what: "deployed", changes })
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

    /// Waits until others have delivered from every shard that this worker had, and returns those changes of hands.
    async fn taken_over(&self, place: usize, begun: u128) -> anyhow::Result<Vec<Change>> {
        until("the others go on", PATIENCE, async || {
            let deliveries = self.deliveries()?;
            let mut after = changes(&deliveries);
            after.retain(|change| change.from == place && change.first >= begun);
            Ok(Self::read_last_by(&deliveries, place).is_empty().then_some(after))
        })
        .await
    }

    /// The shards whose last delivery came to this worker.
    fn read_last_by(deliveries: &[Vec<Delivery>], place: usize) -> BTreeSet<String> {
        let mut last: BTreeMap<&str, (u128, usize)> = BTreeMap::new();
        for (worker, deliveries) in deliveries.iter().enumerate() {
            for delivery in deliveries {
                let seen = last.entry(&delivery.shard).or_insert((delivery.at, worker));
                *seen = (*seen).max((delivery.at, worker));
            }
        }
        last.into_iter().filter(|(_, (_, worker))| *worker == place).map(|(shard, _)| shard.to_owned()).collect()
    }

    /// The last lines of what the processes said.
    fn logs(&self) -> String {
        let tail = |log: String| log.lines().rev().take(5).collect::<Vec<_>>().join("\n");
        self.running.iter().map(|(name, consumer)| format!("{name}: {}\n", tail(consumer.log()))).collect()
    }
}
