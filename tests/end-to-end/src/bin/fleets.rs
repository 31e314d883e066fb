//! Prints what a fleet of processes does when its members are killed, stopped, added and replaced: leases on DynamoDB Local, the
//! stream behind the wire server, every process one worker. Run by hand, on a machine that does nothing else:
//!
//! ```sh
//! cargo build -p end-to-end --bins && cargo run -p end-to-end --bin fleets -- 3 100
//! ```
//! The arguments are the number of processes and of shards, and, if given, the liveness mode: `per-worker`. It takes four to seven
//! minutes. What it prints goes into the table of `docs/benchmarks.md`.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use conformance::dynamodb_local::{self, Started};
use end_to_end::calls::{Latency, Server};
use end_to_end::changes::{Change, median_and_worst};
use end_to_end::delivery::now;
use end_to_end::fleet::{scratch, until};
use end_to_end::job::Consume;
use end_to_end::rolling::{ManyShards, Measured, Rolling};

/// Records a second for each shard.
const RATE: usize = 10;

/// Keys for each shard.
const KEYS: usize = 10;

/// From one poll of a busy shard to the next, as the processes are configured by default.
const POLL: Duration = Duration::from_millis(250);

/// How long the fleet is left alone, to see what the machine makes of it.
const UNDISTURBED: Duration = Duration::from_secs(10);

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
    let begun = Instant::now();
    for _ in 0..processes {
        fleet.start()?;
    }
    fleet.settled().await?;
    fleet.all_delivered_from().await?;
    let mode = if per_worker { "PerWorker" } else { "PerLease" };
    println!(
        "{processes} processes, {shards} shards, {RATE} records/s a shard, D = 10 s, polls every {POLL:?}, {mode}\n"
    );
    println!(
        "| {mode}, {processes} processes, {shards} shards | moves | silence, median | silence, worst | delivered again | lease table, p50 / p99 |"
    );
    println!("|---|---|---|---|---|---|");
    let from = now();
    let gaps = fleet.undisturbed(UNDISTURBED).await?;
    let (median, worst) = median_and_worst(gaps).unwrap_or_default();
    let table = both(&fleet.latency(Server::Leases, from..now())?);
    println!("| nobody comes or goes | – | {median} ms | {worst} ms | – | {table} |");
    let measured = fleet.stop().await?;
    tell(&measured, &fleet)?;
    let measured = fleet.join().await?;
    tell(&measured, &fleet)?;
    let measured = fleet.kill().await?;
    tell(&measured, &fleet)?;
    let measured = fleet.join().await?;
    tell(&measured, &fleet)?;
    let measured = fleet.deploy().await?;
    tell(&measured, &fleet)?;
    let written = stream.finish().await?;
    until("everything is delivered", Duration::from_secs(60), async || {
        Ok((fleet.delivered()? >= written && fleet.verdict(written)?.distinct >= written).then_some(()))
    })
    .await?;
    fleet.end().await?;
    let verdict = fleet.verdict(written)?;
    let (again, faults) = (verdict.redelivered, verdict.wrong.len());
    println!("\n{written} records, {again} delivered again, {faults} faults, {:.0?}", begun.elapsed());
    println!("lease table, as the processes saw it: {}", fleet.latency(Server::Leases, from..now())?);
    println!("stream, as the processes saw it: {}", fleet.latency(Server::Stream, from..now())?);
    println!("the writer was late by up to {:?}", stream.lateness());
    ensure!(verdict.wrong.is_empty(), "the first fault: {:?}", verdict.wrong.first());
    std::fs::remove_dir_all(dir)?;
    Ok(())
}

/// A line: how long shards were silent from the last record at the one owner to the first at the other, and how much of that is beyond
/// the time from one poll to the next. And how long the lease table's server took to answer meanwhile.
fn tell(measured: &Measured, fleet: &Rolling) -> anyhow::Result<()> {
    let silences = measured.changes.iter().map(Change::silence).collect();
    let (median, worst) = median_and_worst(silences).unwrap_or_default();
    let beyond = |silence: u128| silence.saturating_sub(POLL.as_millis());
    let again: usize = measured.changes.iter().map(|change| change.again).sum();
    let mut shards = BTreeMap::new();
    for change in &measured.changes {
        *shards.entry(&change.shard).or_insert(0_usize) += 1;
    }
    let (moves, most) = (measured.changes.len(), shards.values().max().copied().unwrap_or_default());
    println!(
        "| {} | {moves}, {most} of a shard at most | {median} ms, {} beyond a poll | {worst} ms, {} beyond a poll | {again} | {} |",
        measured.what,
        beyond(median),
        beyond(worst),
        both(&fleet.latency(Server::Leases, measured.time.clone())?),
    );
    Ok(())
}

fn both(latency: &Latency) -> String {
    format!("{:.1} / {:.1} ms", latency.per_mille(500), latency.per_mille(990))
}
