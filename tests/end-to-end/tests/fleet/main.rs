//! Fleets of processes on DynamoDB Local. Where it is absent they say so and pass, unless `KCL_REQUIRE_DYNAMODB_LOCAL=1`.

mod bad_input;
mod rolling;

use std::path::Path;
use std::time::Duration;

use anyhow::{Context, ensure};
use conformance::dynamodb_local;
use conformance::dynoxide_server::{self, DynoxideServer};
use end_to_end::delivery::{self, Delivery, judge};
use end_to_end::fleet::{Consumer, Process, owners, scratch, until};
use end_to_end::job::{Consume, Write};
use end_to_end::tables::{self, Version};

const CONSUMER: &str = env!("CARGO_BIN_EXE_consumer");
const WRITER: &str = env!("CARGO_BIN_EXE_writer");

/// Generous: the machine may be busy with other tests.
const PATIENCE: Duration = Duration::from_secs(180);

fn consume(endpoint: &str, worker: &str, tables: &[String], dir: &Path) -> Consume {
    Consume {
        endpoint: endpoint.to_owned(),
        lease_endpoint: None,
        application: "fleet".to_owned(),
        worker: worker.to_owned(),
        tables: tables.to_vec(),
        lease_duration: Duration::from_secs(4),
        per_worker: false,
        output: dir.join(worker),
    }
}

fn two_tables() -> Vec<String> {
    vec!["orders".to_owned(), "invoices".to_owned()]
}

/// The deliveries of each worker, dead or alive.
fn read_all(dir: &Path, workers: &[&str]) -> anyhow::Result<Vec<Vec<Delivery>>> {
    workers.iter().map(|worker| delivery::read(&dir.join(worker))).collect()
}

fn delivered(dir: &Path, workers: &[&str]) -> anyhow::Result<usize> {
    Ok(read_all(dir, workers)?.iter().map(Vec::len).sum())
}

/// Kills the consumer that the lease table names as the owner of a shard of `table`. Its name, and how long the shard waited.
async fn kill_owner(
    db: &aws_sdk_dynamodb::Client,
    consumers: &mut Vec<Consumer>,
    table: &str,
) -> anyhow::Result<(String, u128)> {
    let dir = consumers[0].job.output.parent().context("a directory")?.to_owned();
    // The lease's key names the stream, and so the table.
    let marker = format!("${table}$");
    let owner = until("the shard is owned", PATIENCE, async || {
        let leases = owners(db, "fleet").await?;
        Ok(leases.into_iter().find(|(key, _)| key.contains(&marker)).and_then(|(_, owner)| owner))
    })
    .await?;
    let name = owner.split('/').next().context("an owner's name")?;
    let victim = consumers.iter().position(|consumer| consumer.job.worker == name).context("the owner lives")?;
    let mut victim = consumers.remove(victim);
    let killed = delivery::now();
    victim.process.kill()?;
    let others: Vec<String> = consumers.iter().map(|consumer| consumer.job.worker.clone()).collect();
    let first = until("a successor delivers", PATIENCE, async || {
        let mut first = None;
        for other in &others {
            let deliveries = delivery::read(&dir.join(other))?;
            let of_shard = deliveries.into_iter().filter(|d| d.table == table && d.at >= killed);
            first = of_shard.map(|d| d.at).chain(first).min();
        }
        Ok(first)
    })
    .await?;
    Ok((name.to_owned(), first - killed))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fleet_whose_owners_are_killed_delivers_everything_in_order() -> anyhow::Result<()> {
    const EACH: usize = 10_000;
    let test = "a_fleet_whose_owners_are_killed_delivers_everything_in_order";
    let Some(server) = dynamodb_local::start().or_skip(test) else { return Ok(()) };
    let (db, dir, tables) = (server.dynamodb(), scratch("fleet")?, two_tables());
    for table in &tables {
        tables::create(&db, table).await?;
    }
    let workers = ["ada", "bea", "cleo"];
    let start = |worker| Consumer::start(CONSUMER, consume(&server.endpoint, worker, &tables, &dir));
    let mut consumers = workers.into_iter().map(start).collect::<anyhow::Result<Vec<_>>>()?;
    let begun = delivery::now();
    let write =
        Write { endpoint: server.endpoint.clone(), tables: tables.clone(), items: EACH, keys: 200, per_second: 400 };
    let mut writer = Process::start(WRITER, &write, &dir.join("writer.log"))?;

    let mut waited = Vec::new();
    for (table, after) in [(&tables[0], EACH / 2), (&tables[1], EACH)] {
        let enough = async || Ok((delivered(&dir, &workers)? >= after).then_some(()));
        until("the fleet is at work", PATIENCE, enough).await?;
        ensure!(writer.is_running()?, "the writer was too quick, or failed");
        let (victim, millis) = kill_owner(&db, &mut consumers, table).await?;
        eprintln!("{victim} was killed: the next delivery of {table} came {millis} ms later");
        waited.push(millis);
    }
    ensure!(writer.ended(PATIENCE).await?.success(), "the writer failed");
    let written = delivery::now();
    until("everything is delivered", PATIENCE, async || {
        let verdict = judge(&read_all(&dir, &workers)?, &tables, EACH);
        Ok((verdict.distinct >= 2 * EACH).then_some(()))
    })
    .await?;
    for consumer in consumers {
        consumer.stop().await?;
    }
    let verdict = judge(&read_all(&dir, &workers)?, &tables, EACH);
    eprintln!(
        "{} records in {} ms of writing, {} delivered again, take-overs {waited:?} ms at D = 4 s",
        verdict.distinct,
        written - begun,
        verdict.redelivered
    );
    ensure!(verdict.wrong.is_empty(), "{} faults, the first: {:?}", verdict.wrong.len(), verdict.wrong.first());
    ensure!(verdict.distinct == 2 * EACH, "{} of {} records", verdict.distinct, 2 * EACH);
    // What two crashes left unrecorded: no more than 3 s (the time between checkpoints) at the writer's pace, and a lot of slack.
    ensure!(verdict.redelivered < EACH, "{} delivered again", verdict.redelivered);
    ensure!(waited.iter().all(|millis| *millis < 60_000), "a take-over took long: {waited:?} ms");
    let leases = owners(&db, "fleet").await?;
    ensure!(leases.len() == 2 && leases.values().all(Option::is_none), "the leases are not free: {leases:?}");
    std::fs::remove_dir_all(dir)?;
    Ok(())
}

/// DynamoDB Local takes a position of one stream for trimmed while other tables of the server are written to, as the lease table is
/// all the time.
#[tokio::test(flavor = "multi_thread")]
async fn a_fleet_that_starts_on_empty_tables_loses_nothing() -> anyhow::Result<()> {
    const EACH: usize = 600;
    let test = "a_fleet_that_starts_on_empty_tables_loses_nothing";
    let Some(server) = dynamodb_local::start().or_skip(test) else { return Ok(()) };
    let (db, dir, tables) = (server.dynamodb(), scratch("empty")?, two_tables());
    for table in &tables {
        tables::create(&db, table).await?;
    }
    let consumer = Consumer::start(CONSUMER, consume(&server.endpoint, "ada", &tables, &dir))?;
    until("both shards are owned", PATIENCE, async || {
        let Ok(leases) = owners(&db, "fleet").await else { return Ok(None) };
        Ok((leases.len() == 2 && leases.values().all(Option::is_some)).then_some(()))
    })
    .await?;
    // Some rounds of reading an empty stream.
    tokio::time::sleep(Duration::from_secs(2)).await;
    for write in 0..EACH {
        for table in &tables {
            tables::put(&db, table, &Version::nth(write, 50)).await?;
        }
    }
    everything_once(consumer, &dir, &tables, EACH).await
}

/// Waits until one consumer has delivered everything, and stops it: nothing twice, nothing wrong.
async fn everything_once(consumer: Consumer, dir: &Path, tables: &[String], each: usize) -> anyhow::Result<()> {
    let all = async || Ok((consumer.deliveries()?.len() >= each * tables.len()).then_some(()));
    if let Err(late) = until("everything is delivered", PATIENCE, all).await {
        let came = consumer.deliveries()?.len();
        return Err(late.context(format!("{came} were delivered; the consumer says: {}", consumer.log())));
    }
    let worker = consumer.job.worker.clone();
    consumer.stop().await?;
    let verdict = judge(&read_all(dir, &[&worker])?, tables, each);
    ensure!(verdict.wrong.is_empty() && verdict.redelivered == 0, "{verdict:?}");
    std::fs::remove_dir_all(dir)?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn leases_may_be_kept_on_another_server_than_the_stream() -> anyhow::Result<()> {
    const EACH: usize = 100;
    let test = "leases_may_be_kept_on_another_server_than_the_stream";
    let Some(server) = dynamodb_local::start().or_skip(test) else { return Ok(()) };
    let leases = DynoxideServer::start().await?;
    let (db, dir, tables) = (server.dynamodb(), scratch("elsewhere")?, vec!["orders".to_owned()]);
    tables::create(&db, &tables[0]).await?;
    for write in 0..EACH {
        tables::put(&db, &tables[0], &Version::nth(write, 25)).await?;
    }
    let mut job = consume(&server.endpoint, "ada", &tables, &dir);
    job.lease_endpoint = Some(leases.endpoint.clone());
    let consumer = Consumer::start(CONSUMER, job)?;
    everything_once(consumer, &dir, &tables, EACH).await?;
    let held = owners(&dynoxide_server::dynamodb(&leases.endpoint), "fleet").await?;
    ensure!(held.len() == 1 && held.values().all(Option::is_none), "{held:?}");
    ensure!(owners(&db, "fleet").await.is_err(), "there is a lease table beside the stream");
    Ok(())
}
