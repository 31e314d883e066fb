//! Members of a fleet that are stopped, added, replaced and killed, on a stream of many shards behind the wire server.

use std::time::Duration;

use anyhow::ensure;
use conformance::dynamodb_local;
use end_to_end::fleet::{scratch, until};
use end_to_end::rolling::{ManyShards, Rolling};

use super::{CONSUMER, PATIENCE, consume};

const SHARDS: usize = 12;

#[tokio::test(flavor = "multi_thread")]
async fn members_that_stop_join_and_are_replaced_repeat_nothing_and_one_that_dies_loses_nothing() -> anyhow::Result<()>
{
    let test = "members_that_stop_join_and_are_replaced_repeat_nothing_and_one_that_dies_loses_nothing";
    let Some(local) = dynamodb_local::start().or_skip(test) else { return Ok(()) };
    let dir = scratch("rolling")?;
    let mut stream = ManyShards::start("orders", SHARDS, 10 * SHARDS, 10 * SHARDS).await?;
    let mut job = consume(&stream.server.endpoint(), "", &["orders".to_owned()], &dir);
    job.lease_endpoint = Some(local.endpoint.clone());
    job.lease_duration = Duration::from_secs(10);
    job.per_worker = true;
    let mut fleet = Rolling::new(CONSUMER, local.dynamodb(), job, dir.clone(), SHARDS);
    for _ in 0..3 {
        fleet.start()?;
    }
    fleet.settled().await?;
    fleet.all_delivered_from().await?;
    for measured in [fleet.deploy().await?, fleet.stop().await?, fleet.join().await?] {
        let again: usize = measured.changes.iter().map(|change| change.again).sum();
        eprintln!("{}: {} changes of hands, {again} delivered again", measured.what, measured.changes.len());
        ensure!(again == 0, "{}: {again} records were delivered again", measured.what);
    }
    let killed = fleet.kill().await?;
    ensure!(!killed.changes.is_empty(), "nobody took over");
    let written = stream.finish().await?;
    until("everything is delivered", PATIENCE, async || {
        Ok((fleet.delivered()? >= written && fleet.verdict(written)?.distinct >= written).then_some(()))
    })
    .await?;
    fleet.end().await?;
    let verdict = fleet.verdict(written)?;
    ensure!(verdict.wrong.is_empty(), "{} faults, the first: {:?}", verdict.wrong.len(), verdict.wrong.first());
    std::fs::remove_dir_all(dir)?;
    Ok(())
}
