//! A worker that writes down every record it is handed, as told by its one argument: a
//! [`Consume`](end_to_end::job) as JSON. SIGTERM or Ctrl-C stop it gracefully.

use std::fs::{File, OpenOptions};
use std::io::Write as _;
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use conformance::dynamodb_local::config;
use end_to_end::calls::{Calls, Server};
use end_to_end::delivery::{Delivery, now};
use end_to_end::job::{self, Consume};
use end_to_end::tables::Version;
use kcl_dynamo::{Liveness, ProcessError, RecordBatch, RecordProcessor, ShardContext, ShardInfo, Worker};
use tokio::signal::unix::{SignalKind, signal};

/// Appends a line for each record before it acknowledges the batch.
struct Recorder {
    output: Arc<Mutex<File>>,
}

#[async_trait]
impl RecordProcessor for Recorder {
    async fn process_records(&mut self, batch: &RecordBatch, shard: &ShardContext) -> Result<(), ProcessError> {
        let mut lines = String::new();
        let (table, at) = (shard.info().stream.table_name(), now());
        for record in batch {
            let Version { pk, version } =
                Version::of(record).map_err(|e| ProcessError::msg(e.to_string()).at(record))?;
            let sequence = record.sequence_number().to_string().parse()?;
            let (table, epoch, shard) = (table.to_owned(), shard.info().epoch, shard.shard().to_string());
            lines.push_str(&format!("{}\n", Delivery { table, shard, epoch, sequence, key: pk, version, at }));
        }
        let mut output = self.output.lock().unwrap_or_else(PoisonError::into_inner);
        output.write_all(lines.as_bytes())?;
        Ok(())
    }
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    tracing_subscriber::fmt()
        .with_writer(std::io::stderr)
        .with_ansi(false)
        .with_env_filter("kcl_core=info,kcl_dynamo=info")
        .init();
    let job: Consume = job::of_this_process()?;
    let output = Arc::new(Mutex::new(OpenOptions::new().create(true).append(true).open(&job.output)?));
    let mut terminated = signal(SignalKind::terminate())?;
    let calls = Calls::beside(&job.output)?;
    let leases = job.lease_endpoint.as_deref().unwrap_or(&job.endpoint);
    let mut builder = Worker::builder(job.application, &calls.of(Server::Stream, &config(&job.endpoint)))
        .lease_config(&calls.of(Server::Leases, &config(leases)));
    for table in job.tables {
        builder = builder.table(table);
    }
    let worker = builder
        .configure(move |settings| {
            let liveness = job.per_worker.then_some(Liveness::PerWorker);
            settings.with_name(job.worker).with_lease_duration(job.lease_duration).with_liveness(liveness)
        })
        .processor(move |_: &ShardInfo| Recorder { output: output.clone() })
        .build()
        .await?;
    let stop = async {
        tokio::select! {
            _ = terminated.recv() => {}
            _ = tokio::signal::ctrl_c() => {}
        }
    };
    let report = worker.run_until(stop).await?;
    eprintln!("stopped: {} shards released, {} abandoned", report.released, report.abandoned);
    Ok(())
}
