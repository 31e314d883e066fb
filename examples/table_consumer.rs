//! Prints the changes of a DynamoDB table as they come, until Ctrl-C.
//!
//! ```sh
//! cargo run --example table_consumer --features aws -- orders              # a table on AWS
//! AWS_ENDPOINT_URL=http://127.0.0.1:8000 cargo run --example table_consumer --features aws -- orders
//! ```
//! The lease table `table-consumer` is created if it does not exist. Start it twice and the two share the shards.

use kcl_dynamo::{ProcessError, Record, StartPosition, Worker};

async fn print(record: Record) -> Result<(), ProcessError> {
    println!("{}", record.to_json(None));
    Ok(())
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    tracing_subscriber::fmt().with_writer(std::io::stderr).with_env_filter("kcl_core=info,kcl_dynamo=info").init();
    let Some(table) = std::env::args().nth(1) else { anyhow::bail!("usage: table_consumer <table name or ARN>") };
    let aws = aws_config::load_defaults(aws_config::BehaviorVersion::latest()).await;
    let worker = Worker::builder("table-consumer", &aws)
        .table(table)
        .start(StartPosition::TrimHorizon)
        .for_each(print)
        .build()
        .await?;
    let report = worker.run_until(tokio::signal::ctrl_c()).await?;
    eprintln!("stopped: {} shards released, {} abandoned", report.released, report.abandoned);
    Ok(())
}
