//! Prints what a fleet of processes does when its members are killed, stopped, added and replaced: leases on DynamoDB Local, the
//! stream behind the wire server, every process one worker. Run by hand, on a machine that does nothing else:
//!
//! ```sh
//! cargo build -p end-to-end --bins && cargo run -p end-to-end --bin fleets -- 3 100
//! ```
//! The arguments are the number of processes and of shards, and, if given, the liveness mode: `per-worker`.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, ensure};
use conformance::dynamodb_local::{self, Started};
use end_to_end::changes::{Change, median_and_worst};
use end_to_end::fleet::{scratch, until};
use end_to_end::job::Consume;
use end_to_end::rolling::{ManyShards, Measured, Rolling};

/// Records a second for each shard.
const RATE: usize = 10;

/// Keys for each shard.
const KEYS: usize = 10;

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let mut arguments = std::env::args().skip(1);
    let usage = "usage: fleets <processes> <shards> [per-worker]";
    let mut number = || anyhow::Ok(arguments.next().context(usage)?.parse::<usize>()?);
    let (processes, shards) = (number()?, number()?);
    let per_worker = arguments.next().is_some_and(|mode| mode == "per-worker");
    let local = match dynamodb_local::start() {
        Started::Running(local) => local,
        Started::Absent(reason) => anyhow::bail!(reason),
    };
    let (keys, dir) = (shards * KEYS, scratch("fleets")?);
    let mut stream = ManyShards::start("orders", shards, keys, shards * RATE).await?;
    let job = Consume {
        endpoint: stream.server.endpoint(),
        lease_endpoint: Some(local.endpoint.clone()),
        application: "fleets".to_owned(),
        worker: String::new(),
        tables: vec!["orders".to_owned()],
        lease_duration: Duration::from_secs(10),
        per_worker,
        output: PathBuf::new(),
    };
    let consumer = std::env::current_exe()?.with_file_name("consumer");
    let mut fleet = Rolling::new(consumer, local.dynamodb(), job, dir.clone(), shards);
    for _ in 0..processes {
        fleet.start()?;
    }
    fleet.settled().await?;
    fleet.all_delivered_from().await?;
    let mode = if per_worker { "PerWorker" } else { "PerLease" };
    println!("{processes} processes, {shards} shards, {RATE} records/s a shard, D = 10 s, {mode}");
    println!("{:<9} {:>8} {:>16} {:>16} {:>11}", "", "moves", "silence, median", "silence, worst", "redelivered");
    tell(&fleet.stop().await?);
    tell(&fleet.join().await?);
    tell(&fleet.kill().await?);
    tell(&fleet.join().await?);
    tell(&fleet.deploy().await?);
    let written = stream.finish().await?;
    until("everything is delivered", Duration::from_secs(60), async || {
        Ok((fleet.verdict(written)?.distinct >= written).then_some(()))
    })
    .await?;
    fleet.end().await?;
    let verdict = fleet.verdict(written)?;
    println!("{written} records, {} redelivered, {} faults", verdict.redelivered, verdict.wrong.len());
    ensure!(verdict.wrong.is_empty(), "the first fault: {:?}", verdict.wrong.first());
    std::fs::remove_dir_all(dir)?;
    Ok(())
}

fn tell(measured: &Measured) {
    let silences = measured.changes.iter().map(Change::silence).collect();
    let (median, worst) = median_and_worst(silences).unwrap_or_default();
    let again: usize = measured.changes.iter().map(|change| change.again).sum();
    println!("{:<9} {:>8} {median:>13} ms {worst:>13} ms {again:>11}", measured.what, measured.changes.len());
}
