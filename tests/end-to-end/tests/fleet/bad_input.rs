//! What cannot work is told by `build`, with what to change, before anything is written.

use std::error::Error;
use std::fmt::Write as _;
use std::time::Duration;

use anyhow::{Context, ensure};
use aws_sdk_dynamodb::types::StreamSpecification;
use conformance::dynamodb_local::{self, LocalServer, config};
use end_to_end::tables;
use kcl_dynamo::{
    ArnError, BuildError, OpenError, ProcessError, READER_REGISTRY, ReaderPolicy, Record, ResolveError, TableName,
    Worker, WorkerBuilder,
};

async fn ignore(_record: Record) -> Result<(), ProcessError> {
    Ok(())
}

fn builder(server: &LocalServer) -> WorkerBuilder {
    Worker::builder("leases", &server.config()).for_each(ignore)
}

async fn refused(builder: WorkerBuilder) -> anyhow::Result<BuildError> {
    builder.build().await.err().context("it was built")
}

/// An error and its causes, as a program prints them.
fn told(error: &BuildError) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        // Writing to a string does not fail.
        let _written = write!(text, ": {error}");
        cause = error.source();
    }
    text
}

#[tokio::test(flavor = "multi_thread")]
async fn a_mistake_is_told_before_anything_is_written() -> anyhow::Result<()> {
    let test = "a_mistake_is_told_before_anything_is_written";
    let Some(server) = dynamodb_local::start().or_skip(test) else { return Ok(()) };
    let db = server.dynamodb();
    for table in ["orders", "disabled"] {
        tables::create(&db, table).await?;
    }
    let off = StreamSpecification::builder().stream_enabled(false).build()?;
    db.update_table().table_name("disabled").stream_specification(off).send().await?;

    let unknown = refused(builder(&server).table("nowhere")).await?;
    ensure!(
        matches!(&unknown, BuildError::Worker(kcl_core::BuildError::Stream(ResolveError::NoStream { .. }))),
        "{unknown:?}"
    );
    ensure!(told(&unknown).contains("table nowhere has no stream"), "{}", told(&unknown));

    let malformed = refused(builder(&server).stream("arn:aws:dynamodb:eu-west-1/table/orders/stream/2")).await?;
    ensure!(matches!(&malformed, BuildError::Worker(kcl_core::BuildError::Name(_))), "{malformed:?}");
    ensure!(told(&malformed).contains("eu-west-1/table/orders"), "{}", told(&malformed));

    let disabled = refused(builder(&server).table("disabled")).await?;
    ensure!(
        matches!(&disabled, BuildError::Worker(kcl_core::BuildError::Stream(ResolveError::Disabled { .. }))),
        "{disabled:?}"
    );
    ensure!(told(&disabled).contains("enable a stream on table disabled"), "{}", told(&disabled));

    let other = refused(builder(&server).table("orders").lease_table("disabled")).await?;
    ensure!(matches!(&other, BuildError::LeaseTable(OpenError::OtherSchema { .. })), "{other:?}");
    ensure!(told(&other).contains("disabled is not a lease table: its key is pk"), "{}", told(&other));

    let settings = refused(builder(&server).table("orders").configure(|c| c.with_batch_size(0))).await?;
    ensure!(told(&settings).contains("batch_size"), "{}", told(&settings));

    let name = "not a table name".parse::<TableName>().err().context("a space is no part of a name")?;
    let named = refused(builder(&server).table("orders").lease_table("not a table name")).await?;
    ensure!(matches!(&named, BuildError::TableName(e) if same(e, &name)), "{named:?}");

    let nobody = config("http://127.0.0.1:1");
    let hasty = |worker: WorkerBuilder| worker.configure(|c| c.with_source_timeout(Duration::from_millis(200)));
    let silent = refused(hasty(builder(&server).table("orders").stream_config(&nobody))).await?;
    ensure!(
        matches!(&silent, BuildError::Worker(kcl_core::BuildError::Stream(e @ ResolveError::Call { .. })) if e.is_retryable()),
        "{silent:?}"
    );
    ensure!(told(&silent).contains("http://127.0.0.1:1"), "{}", told(&silent));
    let silent = refused(builder(&server).table("orders").lease_config(&nobody)).await?;
    ensure!(matches!(&silent, BuildError::LeaseTable(OpenError::Failed { .. })), "{silent:?}");
    ensure!(told(&silent).contains("table leases could not be opened"), "{}", told(&silent));

    let listed = db.list_tables().send().await?;
    ensure!(listed.table_names() == ["disabled", "orders"], "a lease table was made: {:?}", listed.table_names());
    let items = db.scan().table_name("disabled").send().await?;
    ensure!(items.count() == 0, "something was written to a table that is not ours");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_third_application_is_refused_by_name_of_the_two_that_read() -> anyhow::Result<()> {
    let test = "a_third_application_is_refused_by_name_of_the_two_that_read";
    let Some(server) = dynamodb_local::start().or_skip(test) else { return Ok(()) };
    let db = server.dynamodb();
    tables::create(&db, "orders").await?;
    let worker = |name: &str| Worker::builder(name, &server.config()).table("orders").for_each(ignore);
    let _first = worker("mailer").build().await?;
    let _second = worker("indexer").build().await?;
    let _of_the_same = worker("mailer").build().await?;
    let third = refused(worker("archiver")).await?;
    ensure!(
        matches!(&third, BuildError::Worker(kcl_core::BuildError::ReaderLimit(limit)) if limit.holders.len() == 2),
        "{third:?}"
    );
    let text = told(&third);
    ensure!(text.contains("mailer (lease table mailer in") && text.contains("and indexer"), "{text}");
    let off = worker("archiver").configure(|c| c.with_readers(ReaderPolicy::Off));
    let _unasked = off.build().await?;
    let listed = db.list_tables().send().await?;
    ensure!(listed.table_names().iter().any(|name| name == READER_REGISTRY), "{:?}", listed.table_names());
    Ok(())
}

fn same(left: &ArnError, right: &ArnError) -> bool {
    left.to_string() == right.to_string()
}
