//! DynamoDB Streams through the AWS SDK.
//!
//! The SDK sends, signs and classifies; the records it does not see: [`page`] keeps their bytes for the one codec.

mod client;
mod convert;
mod error;
mod page;
#[cfg(test)]
mod tests;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use aws_sdk_dynamodbstreams::types::{ShardFilter, ShardFilterType};
use aws_sdk_dynamodbstreams::{Client, Config};
use aws_types::SdkConfig;
use kcl_core::{
    DescribePage, IteratorPosition, RecordsPage, ResolveError, ResolvedStream, ShardId, ShardIterator, SourceError,
    StreamArn, StreamDescription, StreamSource, StreamSpec, StreamSummary, TableName,
};

pub use self::client::ClientConfigError;
pub(crate) use self::client::https_client;
pub use self::error::ServiceFault;
use self::error::{Caller, Operation};
use self::page::KeptPage;

/// How many pages of `ListStreams` are followed. A page names 100 streams, and a table keeps only those of a day.
const MAX_LIST_PAGES: usize = 20;

/// How [`DynamoStreamSource`] asks.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct StreamOptions {
    /// How long one call may take, its answer included. 10 seconds by default.
    pub request_timeout: Duration,
    /// How long the connection may take to be made. 3 seconds by default.
    pub connect_timeout: Duration,
    /// The longest answer to `GetRecords` that is kept, in bytes. 16 MiB by default; the service ends a page at about
    /// 1 MB, DynamoDB Local only at 1000 records.
    pub max_page_bytes: usize,
}

impl Default for StreamOptions {
    fn default() -> Self {
        Self {
            request_timeout: Duration::from_secs(10),
            connect_timeout: Duration::from_secs(3),
            max_page_bytes: 16 << 20,
        }
    }
}

/// Reads DynamoDB Streams through the AWS SDK. Cheap to clone; clones share one client.
///
/// It retries nothing: one call of a method is one request, but for [`StreamSource::list_streams`], which follows the
/// pages of its answer. Errors carry a [`ServiceFault`] as their source, which says what the service answered, whom was asked,
/// and what to change.
#[derive(Clone)]
pub struct DynamoStreamSource {
    inner: Arc<Inner>,
}

struct Inner {
    client: Client,
    caller: Caller,
    /// The region that ARNs must name; none behind an endpoint of the user's own.
    home_region: Option<String>,
    max_page_bytes: usize,
}

impl fmt::Debug for DynamoStreamSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DynamoStreamSource").field("caller", &self.inner.caller).finish_non_exhaustive()
    }
}

impl DynamoStreamSource {
    /// A source in the region, with the credentials, at the endpoint and over the HTTP client of `config`.
    ///
    /// Retries and time-outs of `config` are not used: those are the engine's and those of `options`.
    ///
    /// # Errors
    /// `config` names no region or no credentials.
    pub fn new(config: &SdkConfig, options: &StreamOptions) -> Result<Self, ClientConfigError> {
        if config.credentials_provider().is_none() {
            return Err(ClientConfigError::NoCredentials);
        }
        let endpoint = client::own_endpoint(config);
        Self::build(&Config::new(config), endpoint, options)
    }

    /// A source like [`Self::new`], from a configuration of the streams client.
    ///
    /// An endpoint set there cannot be read back, so ARNs are held to its region also behind an own endpoint (DynamoDB
    /// Local's own `ddblocal` is always accepted).
    ///
    /// # Errors
    /// `config` names no region.
    pub fn from_config(config: &Config, options: &StreamOptions) -> Result<Self, ClientConfigError> {
        Self::build(config, None, options)
    }

    /// A source like [`Self::from_config`], from the configuration of an existing client, which itself stays as it is.
    ///
    /// # Errors
    /// The client's configuration names no region.
    pub fn from_client(client: &Client, options: &StreamOptions) -> Result<Self, ClientConfigError> {
        Self::from_config(client.config(), options)
    }

    fn build(config: &Config, endpoint: Option<String>, options: &StreamOptions) -> Result<Self, ClientConfigError> {
        let region = config.region().ok_or(ClientConfigError::NoRegion)?.to_string();
        let home_region = endpoint.is_none().then(|| region.clone());
        let inner = Inner {
            client: Client::from_conf(client::configure(config, options)),
            caller: Caller { region, endpoint },
            home_region,
            max_page_bytes: options.max_page_bytes,
        };
        Ok(Self { inner: Arc::new(inner) })
    }

    /// The region that ARNs must name to be readable here. `None` behind an endpoint of the user's own, where any will do.
    #[must_use]
    pub fn home_region(&self) -> Option<&str> {
        self.inner.home_region.as_deref()
    }

    /// Finds the stream that `spec` means. See [`kcl_core::resolve`].
    ///
    /// # Errors
    /// Those of [`kcl_core::resolve`]; an ARN of another region than the client's is refused before any call.
    ///
    /// # Cancel safety
    /// It reads only.
    pub async fn resolve(&self, spec: &StreamSpec) -> Result<ResolvedStream, ResolveError> {
        kcl_core::resolve(self, spec, self.home_region()).await
    }

    fn damaged(&self, operation: Operation, why: impl Into<String>) -> SourceError {
        error::damaged(operation, &self.inner.caller, why.into(), None)
    }
}

#[async_trait]
impl StreamSource for DynamoStreamSource {
    async fn list_streams(&self, table: &TableName) -> Result<Vec<StreamSummary>, SourceError> {
        let operation = Operation::ListStreams;
        let mut streams = Vec::new();
        let mut after: Option<String> = None;
        for _page in 0..MAX_LIST_PAGES {
            let request = self.inner.client.list_streams().table_name(table.as_str());
            let answer = request
                .set_exclusive_start_stream_arn(after.clone())
                .send()
                .await
                .map_err(|e| error::classify(operation, &self.inner.caller, e))?;
            for stream in answer.streams() {
                let arn = convert::stream_arn(stream).map_err(|why| self.damaged(operation, why))?;
                // A stand-in for the service may take no notice of the table that was asked for.
                if arn.table_name() == table.as_str() {
                    streams.push(StreamSummary { arn });
                }
            }
            let next = answer.last_evaluated_stream_arn;
            if next.is_none() {
                streams.sort_by(|a: &StreamSummary, b| a.arn.label().cmp(b.arn.label()));
                return Ok(streams);
            }
            if next == after {
                return Err(self.damaged(operation, "the listing goes on at the stream it has just named"));
            }
            after = next;
        }
        Err(self.damaged(operation, format!("the listing does not end within {MAX_LIST_PAGES} pages")))
    }

    async fn describe_stream(&self, stream: &StreamArn, page: &DescribePage) -> Result<StreamDescription, SourceError> {
        let operation = Operation::DescribeStream;
        let children = page.children_of.as_ref().map(|parent| {
            ShardFilter::builder().r#type(ShardFilterType::ChildShards).shard_id(parent.as_str()).build()
        });
        let answer = self
            .inner
            .client
            .describe_stream()
            .stream_arn(stream.as_str())
            .set_exclusive_start_shard_id(page.after.as_ref().map(ToString::to_string))
            .set_shard_filter(children)
            .send()
            .await
            .map_err(|e| error::classify(operation, &self.inner.caller, e))?;
        let described = answer.stream_description().ok_or_else(|| self.damaged(operation, "it describes no stream"))?;
        convert::description(described).map_err(|why| self.damaged(operation, why))
    }

    async fn shard_iterator(
        &self,
        stream: &StreamArn,
        shard: &ShardId,
        position: IteratorPosition,
    ) -> Result<ShardIterator, SourceError> {
        let operation = Operation::GetShardIterator;
        let (kind, number) = convert::position(&position);
        let answer = self
            .inner
            .client
            .get_shard_iterator()
            .stream_arn(stream.as_str())
            .shard_id(shard.as_str())
            .shard_iterator_type(kind)
            .set_sequence_number(number)
            .send()
            .await
            .map_err(|e| error::classify(operation, &self.inner.caller, e))?;
        let token = answer.shard_iterator.ok_or_else(|| self.damaged(operation, "it holds no iterator"))?;
        Ok(ShardIterator::new(token))
    }

    async fn get_records(&self, iterator: &ShardIterator, limit: usize) -> Result<RecordsPage, SourceError> {
        let operation = Operation::GetRecords;
        let kept = KeptPage::new(self.inner.max_page_bytes);
        let sent = self
            .inner
            .client
            .get_records()
            .shard_iterator(iterator.as_str())
            // The service judges the limit; one beyond its type is beyond its range too.
            .limit(i32::try_from(limit).unwrap_or(i32::MAX))
            .customize()
            .interceptor(kept.interceptor())
            .send()
            .await;
        let body = match (sent, kept.take()) {
            (_, Err(why)) => return Err(self.damaged(operation, why.to_string())),
            (Err(e), Ok(_)) => return Err(error::classify(operation, &self.inner.caller, e)),
            (Ok(_empty), Ok(body)) => body,
        };
        let page = kcl_core::decode_page(body).map_err(|e| {
            error::damaged(operation, &self.inner.caller, "the page cannot be decoded".to_owned(), Some(e.into()))
        })?;
        Ok(RecordsPage { records: page.records, next: page.next_shard_iterator.map(ShardIterator::new) })
    }
}
