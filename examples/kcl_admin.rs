//! An operator's tool for a lease table on AWS, or at an endpoint that speaks its protocol.
//!
//! ```sh
//! cargo run --example kcl_admin --features aws -- order-mailer list
//! ```
//! All of it is one call each of [`kcl_dynamo::Admin`]: build these into a tool of your own where you like.

use std::sync::Arc;
use std::time::Duration;

use kcl_dynamo::{
    Admin, Create, DynamoLeaseTable, LeaseEntry, LeaseKey, LeaseTableOptions, Resume, RewindTo, Rt, TableView,
};
use serde::Serialize;

const HELP: &str = "\
usage: kcl_admin <lease table> <command>

  list [--json]                     every lease with its state, owner and checkpoint; workers; what is not ours
  rewind <lease> trim-horizon       read a shard again from the oldest record that is left, and all that continues it
  rewind <lease> <sequence number>  the same, from right after this record
  rewind-stream <stream ARN>        read a whole stream again from the oldest records that are left
  release <lease> [<worker>]        make the owner let go; the worker, if named, gets the lease first
  evict <worker>                    make a worker let go of everything and join anew
  clear-stop <lease> retry          let a stopped shard be read again, from its checkpoint
  clear-stop <lease> skip-lost      the same, without what is lost there
  remove-ours [<seconds>]           of a stopped fleet: remove what the Java library does not know. Items that show a
                                    worker are watched for so long (60): the fleet's lease duration or more

<lease> is a lease's key, or the id of its shard. <worker> is a worker's id with its number, as listed.
Region, credentials and endpoint are those of the AWS command line (AWS_REGION, AWS_PROFILE, AWS_ENDPOINT_URL).
All commands but remove-ours may be given while the fleet runs.";

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    if matches!(args[..], ["--help" | "-h"]) {
        println!("{HELP}");
        return Ok(());
    }
    let [table, command @ ..] = &args[..] else { anyhow::bail!(HELP) };
    if command.is_empty() {
        anyhow::bail!(HELP);
    }
    let aws = aws_config::load_defaults(aws_config::BehaviorVersion::latest()).await;
    let mut options = LeaseTableOptions::new(table.parse()?);
    options.create = Create::Never;
    let leases = DynamoLeaseTable::open(&aws_sdk_dynamodb::Client::new(&aws), options).await?;
    let admin = Admin::new(Arc::new(leases), Rt::tokio()?);
    match command {
        ["list"] => show(&admin.list().await?),
        ["list", "--json"] => print(&admin.list().await?)?,
        ["rewind", lease, "trim-horizon"] => {
            print(&admin.rewind(&key(&admin, lease).await?, RewindTo::TrimHorizon).await?)?;
        }
        ["rewind", lease, after] => {
            let to = RewindTo::After(after.parse()?);
            print(&admin.rewind(&key(&admin, lease).await?, to).await?)?;
        }
        ["rewind-stream", stream] => print(&admin.rewind_stream(&stream.parse()?).await?)?,
        ["release", lease, to @ ..] if to.len() < 2 => {
            let to = to.first().map(|worker| worker.parse()).transpose()?;
            let owner = admin.release(&key(&admin, lease).await?, to.as_ref()).await?;
            println!("{owner} must let go of it");
        }
        ["evict", worker] => {
            admin.evict_worker(&worker.parse()?).await?;
            println!("{worker} must let go of everything");
        }
        ["clear-stop", lease, resume @ ("retry" | "skip-lost")] => {
            let resume = if *resume == "retry" { Resume::Retry } else { Resume::SkipLost };
            let reason = admin.clear_stop(&key(&admin, lease).await?, resume).await?;
            println!("it was stopped: {reason}");
        }
        ["remove-ours", watch @ ..] if watch.len() < 2 => {
            let watch = watch.first().map_or(Ok(60), |seconds| seconds.parse())?;
            print(&admin.remove_ours(Duration::from_secs(watch)).await?)?;
        }
        _ => anyhow::bail!(HELP),
    }
    Ok(())
}

/// The lease that a text means.
async fn key(admin: &Admin, text: &str) -> anyhow::Result<LeaseKey> {
    match &admin.list().await?.find(text)[..] {
        [lease] => Ok(lease.key.clone()),
        [] => anyhow::bail!("there is no lease {text}, and no lease of a shard {text}: see list"),
        several => anyhow::bail!("{} leases are of a shard {text}: give the key of one", several.len()),
    }
}

fn print(value: &impl Serialize) -> anyhow::Result<()> {
    println!("{}", serde_json::to_string_pretty(value)?);
    Ok(())
}

fn show(table: &TableView) {
    for lease in &table.leases {
        println!("{}", line(lease));
    }
    for worker in &table.workers {
        println!("worker {}: {}, {} leases", worker.id, worker.state, worker.leases);
    }
    for item in &table.foreign {
        println!("not ours: {} ({})", item.key, item.why);
    }
}

fn line(lease: &LeaseEntry) -> String {
    let owner = lease.owner.as_ref().map(|owner| format!(", owner {owner}")).unwrap_or_default();
    let stop = lease.stop.as_ref().map(|stop| format!(", {stop}")).unwrap_or_default();
    let parents: Vec<&str> = lease.parents.iter().map(|parent| parent.as_str()).collect();
    let parents = if parents.is_empty() { String::new() } else { format!(", child of {}", parents.join(", ")) };
    format!("{}: {:?}, at {}{owner}{parents}{stop}", lease.key, lease.state, lease.checkpoint)
}
