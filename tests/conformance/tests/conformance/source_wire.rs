//! The SDK's stream source against the wire service, over its connector and over its server: the suite of the contract with
//! nothing left out, and every class of error.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use conformance::items::to_table;
use conformance::wire::{Over, WireFixture};
use kcl_core::conformance::source::{BedError, BedSpec, SourceBed, SourceBeds, SourceCapabilities};
use kcl_dynamo::reference::StreamOptions as ServiceOptions;
use kcl_dynamo::wire::Fault;
use kcl_dynamo::{
    DescribePage, DynamoStreamSource, IteratorPosition, SequenceNumber, ServiceFault, ShardId, ShardIterator,
    SourceError, SourceErrorKind, SourceOp, StreamArn, StreamOptions, StreamSource, StreamViewType, TableName,
};
use serde_dynamo::Item;

/// Each bed has a service of its own.
struct WireBeds(Over);

struct WireBed {
    fixture: WireFixture,
    db: aws_sdk_dynamodb::Client,
    source: DynamoStreamSource,
    table: TableName,
    stream: StreamArn,
}

#[async_trait]
impl SourceBeds for WireBeds {
    fn capabilities(&self) -> SourceCapabilities {
        SourceCapabilities::ALL
    }

    async fn build(&self, spec: BedSpec) -> Result<Box<dyn SourceBed>, BedError> {
        let fixture = WireFixture::start(self.0, ServiceOptions::default()).await?;
        let (table, stream) = fixture.table("orders", spec.view_type, spec.shards)?;
        let source = DynamoStreamSource::new(&fixture.config, &StreamOptions::default())?;
        let db = aws_sdk_dynamodb::Client::new(&fixture.config);
        Ok(Box::new(WireBed { fixture, db, source, table, stream }))
    }
}

#[async_trait]
impl SourceBed for WireBed {
    fn source(&self) -> Arc<dyn StreamSource> {
        Arc::new(self.source.clone())
    }

    fn table(&self) -> TableName {
        self.table.clone()
    }

    fn stream(&self) -> StreamArn {
        self.stream.clone()
    }

    async fn put(&self, item: Item) -> Result<(), BedError> {
        self.db.put_item().table_name(self.table.as_str()).set_item(Some(to_table(item))).send().await?;
        Ok(())
    }

    async fn delete(&self, keys: Item) -> Result<(), BedError> {
        self.db.delete_item().table_name(self.table.as_str()).set_key(Some(to_table(keys))).send().await?;
        Ok(())
    }

    async fn pause(&self) {
        self.fixture.clock.advance(Duration::from_millis(250));
    }

    async fn disable(&self) -> Result<(), BedError> {
        Ok(self.fixture.service.stream().disable_stream(&self.table)?)
    }

    async fn split(&self, shard: &ShardId, children: usize) -> Result<(), BedError> {
        match children {
            1 => drop(self.fixture.service.stream().roll(&self.stream, shard)?),
            _ => drop(self.fixture.service.stream().split(&self.stream, shard)?),
        }
        Ok(())
    }

    async fn trim(&self, shard: &ShardId, through: SequenceNumber) -> Result<(), BedError> {
        Ok(self.fixture.service.stream().trim(&self.stream, shard, through)?)
    }

    async fn advance(&self, time: Duration) -> Result<(), BedError> {
        self.fixture.clock.advance(time);
        Ok(())
    }

    async fn throttle(&self, op: SourceOp, time: Duration) -> Result<(), BedError> {
        self.fixture.service.stream().throttle(op, time);
        Ok(())
    }
}

fn run<T>(work: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.expect("a runtime").block_on(work)
}

mod over_the_connector {
    use super::{Over, WireBeds, run};

    kcl_core::source_suite_tests!(run, WireBeds(Over::Connector));
}

mod over_the_server {
    use super::{Over, WireBeds, run};

    kcl_core::source_suite_tests!(run, WireBeds(Over::Server));
}

/// A source, and what each of its calls needs.
struct Calls {
    fixture: WireFixture,
    source: DynamoStreamSource,
    table: TableName,
    stream: StreamArn,
    shard: ShardId,
    iterator: ShardIterator,
}

impl Calls {
    /// `patience` is how long the source waits for an answer.
    async fn start(over: Over, patience: Duration) -> Self {
        let fixture = WireFixture::start(over, ServiceOptions::unthrottled()).await.expect("started");
        let (table, stream) = fixture.table("orders", StreamViewType::KeysOnly, 1).expect("a table");
        let mut options = StreamOptions::default();
        options.request_timeout = patience;
        let source = DynamoStreamSource::new(&fixture.config, &options).expect("a whole configuration");
        let shard = fixture.service.stream().open_shards(&stream).remove(0);
        let iterator =
            fixture.service.stream().open_shard(&stream, &shard, IteratorPosition::TrimHorizon).expect("open");
        Self { fixture, source, table, stream, shard, iterator }
    }

    async fn call(&self, op: SourceOp) -> Result<(), SourceError> {
        match op {
            SourceOp::ListStreams => self.source.list_streams(&self.table).await.map(drop),
            SourceOp::DescribeStream => {
                self.source.describe_stream(&self.stream, &DescribePage::default()).await.map(drop)
            }
            SourceOp::GetShardIterator => {
                self.source.shard_iterator(&self.stream, &self.shard, IteratorPosition::Latest).await.map(drop)
            }
            SourceOp::GetRecords => self.source.get_records(&self.iterator, 10).await.map(drop),
        }
    }

    async fn under(&self, op: SourceOp, fault: Fault) -> Option<SourceErrorKind> {
        self.fixture.service.order(op.name(), fault, 1).expect("ordered");
        let kind = self.call(op).await.err().map(|error| error.kind());
        self.call(op).await.unwrap_or_else(|error| panic!("{} fails after its fault: {error:?}", op.name()));
        kind
    }
}

#[test]
fn every_code_of_the_service_ends_in_its_class_over_both() {
    run(async {
        for over in [Over::Connector, Over::Server] {
            let calls = Calls::start(over, Duration::from_secs(60)).await;
            for op in SourceOp::ALL {
                let denied = SourceErrorKind::Denied { action: op.name() };
                for (code, kind) in [
                    ("ResourceNotFoundException", SourceErrorKind::NotFound),
                    ("ExpiredIteratorException", SourceErrorKind::Expired),
                    ("TrimmedDataAccessException", SourceErrorKind::Trimmed),
                    ("LimitExceededException", SourceErrorKind::Throttled),
                    ("ThrottlingException", SourceErrorKind::Throttled),
                    ("ProvisionedThroughputExceededException", SourceErrorKind::Throttled),
                    ("ValidationException", SourceErrorKind::Invalid),
                    ("SerializationException", SourceErrorKind::Invalid),
                    ("UnknownOperationException", SourceErrorKind::Invalid),
                    ("AccessDeniedException", denied),
                    ("UnrecognizedClientException", denied),
                    ("ExpiredTokenException", denied),
                    ("InternalServerError", SourceErrorKind::Unavailable),
                    ("ServiceUnavailableException", SourceErrorKind::Unavailable),
                ] {
                    let met = calls.under(op, Fault::Error { code: code.to_owned() }).await;
                    assert_eq!(met, Some(kind), "{} {code} {over:?}", op.name());
                }
            }
        }
    });
}

#[test]
fn answers_that_do_not_arrive_whole_are_damaged_or_unavailable_and_never_taken_for_empty() {
    run(async {
        for over in [Over::Connector, Over::Server] {
            let calls = Calls::start(over, Duration::from_secs(60)).await;
            for op in SourceOp::ALL {
                let broken = calls.under(op, Fault::Broken).await;
                assert_eq!(broken, Some(SourceErrorKind::Unavailable), "{} {over:?}", op.name());
                // Of GetRecords the body is decoded here, of the others by the SDK.
                let garbage = calls.under(op, Fault::Garbage).await;
                assert_eq!(garbage, Some(SourceErrorKind::Corrupt), "{} {over:?}", op.name());
                assert_eq!(calls.under(op, Fault::Late(Duration::from_millis(5))).await, None, "late, but in time");
            }
            let wrong = calls.under(SourceOp::GetRecords, Fault::Checksum).await;
            assert_eq!(wrong, Some(SourceErrorKind::Corrupt), "{over:?}");
        }
    });
}

#[test]
fn a_service_that_stays_silent_is_unavailable() {
    run(async {
        for over in [Over::Connector, Over::Server] {
            let calls = Calls::start(over, Duration::from_secs(1)).await;
            for op in SourceOp::ALL {
                calls.fixture.service.order(op.name(), Fault::Silence, 1).expect("ordered");
                let error = calls.call(op).await.expect_err("nobody answers");
                assert_eq!(error.kind(), SourceErrorKind::Unavailable, "{} {over:?}", op.name());
            }
        }
    });
}

#[test]
fn a_refusal_reaches_the_log_with_code_text_and_request_id() {
    run(async {
        for over in [Over::Connector, Over::Server] {
            let calls = Calls::start(over, Duration::from_secs(60)).await;
            let error = calls.source.get_records(&ShardIterator::new("garbled"), 10).await.expect_err("garbled");
            let fault = std::error::Error::source(&error).and_then(|cause| cause.downcast_ref::<ServiceFault>());
            let fault = fault.expect("every failed call says what was answered");
            assert_eq!((fault.code(), fault.status()), (Some("ValidationException"), Some(400)));
            assert_eq!(fault.request_id().map(str::len), Some(52));
            assert!(fault.to_string().contains("Invalid ShardIterator"), "{fault}");
        }
    });
}
