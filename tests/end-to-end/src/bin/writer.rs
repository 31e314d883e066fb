//! Writes items to tables, as told by its one argument: a [`Write`](end_to_end::job) as JSON.

use conformance::dynamodb_local::config;
use end_to_end::job::{self, Write};
use end_to_end::tables;

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let Write { endpoint, tables, items, keys, per_second }: Write = job::of_this_process()?;
    let db = aws_sdk_dynamodb::Client::new(&config(&endpoint));
    let writes = tables.iter().map(|table| tables::write(&db, table, items, keys, per_second));
    futures::future::try_join_all(writes).await?;
    Ok(())
}
