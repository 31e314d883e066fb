//! From what a user names (a stream's ARN, a table's ARN, a table's name) to the stream that is read.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use super::fetch::timed_out;
use crate::contract::{DescribePage, Rt, SourceError, SourceErrorKind, StreamSource};
use crate::model::{ArnError, StreamArn, StreamDescription, StreamStatus, StreamViewType, TableName};
use crate::policy::backoff::Backoff;

/// What DynamoDB Local writes for a region in every ARN, whatever region its client has.
const LOCAL_REGION: &str = "ddblocal";

/// Which stream a user means.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StreamSpec {
    /// This stream and no other: not a later one of the same table.
    Stream(StreamArn),
    /// The newest stream of this table.
    Table {
        /// The table.
        name: TableName,
        /// The region, where the table was named by its ARN.
        region: Option<Arc<str>>,
    },
}

impl StreamSpec {
    /// The table whose changes are meant.
    #[must_use]
    pub fn table_name(&self) -> &str {
        match self {
            Self::Stream(arn) => arn.table_name(),
            Self::Table { name, .. } => name.as_str(),
        }
    }

    fn region(&self) -> Option<&str> {
        match self {
            Self::Stream(arn) => Some(arn.region()),
            Self::Table { region, .. } => region.as_deref(),
        }
    }
}

impl FromStr for StreamSpec {
    type Err = ArnError;

    /// Accepts a stream's ARN, a table's ARN or a table's name.
    fn from_str(text: &str) -> Result<Self, ArnError> {
        if text.starts_with("arn:") && text.contains("/stream/") {
            return text.parse().map(Self::Stream);
        }
        let name = text.parse()?;
        let region = text.strip_prefix("arn:").and_then(|rest| rest.split(':').nth(2));
        Ok(Self::Table { name, region: region.filter(|r| !r.is_empty()).map(Arc::from) })
    }
}

impl From<StreamArn> for StreamSpec {
    fn from(arn: StreamArn) -> Self {
        Self::Stream(arn)
    }
}

impl From<TableName> for StreamSpec {
    fn from(name: TableName) -> Self {
        Self::Table { name, region: None }
    }
}

impl fmt::Display for StreamSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Stream(arn) => write!(f, "stream {arn}"),
            Self::Table { name, region: Some(region) } => write!(f, "table {name} in {region}"),
            Self::Table { name, region: None } => write!(f, "table {name}"),
        }
    }
}

/// What there is to read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ResolvedStream {
    /// The stream that was meant.
    pub arn: StreamArn,
    /// Whether it still takes changes.
    pub status: StreamStatus,
    /// What its records carry.
    pub view_type: Option<StreamViewType>,
    /// Streams that the table had before and that can still be read, oldest first. Empty for a stream named by its ARN.
    pub older: Vec<StreamArn>,
}

impl ResolvedStream {
    /// This stream, if changes still come: a program that has nothing left to drain cannot want another one.
    ///
    /// # Errors
    /// [`ResolveError::Disabled`] when the stream is switched off or being switched off.
    pub fn require_enabled(self) -> Result<Self, ResolveError> {
        match self.status {
            StreamStatus::Enabling | StreamStatus::Enabled => Ok(self),
            StreamStatus::Disabling | StreamStatus::Disabled => Err(ResolveError::Disabled { stream: self.arn }),
        }
    }
}

/// Why there is nothing to read. Each says what to change.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ResolveError {
    /// The ARN is of another region than the client.
    #[error("{spec} is in region {named}, but the client is in {client}: change the client's region or the ARN")]
    WrongRegion {
        /// What was asked for.
        spec: Box<StreamSpec>,
        /// The region of the ARN.
        named: String,
        /// The region of the client.
        client: String,
    },
    /// The service knows no such table, or its table has no stream; it does not tell these two apart.
    #[error(
        "table {table} has no stream{}, or does not exist there: check name, account, region and endpoint, or enable a \
         stream on the table (UpdateTable with StreamEnabled=true and StreamViewType=NEW_AND_OLD_IMAGES)",
        in_region(region.as_deref())
    )]
    NoStream {
        /// The table that was asked for.
        table: TableName,
        /// The client's region, where there is one.
        region: Option<String>,
    },
    /// The service knows no such stream.
    #[error(
        "stream {stream} does not exist{}: it may have been disabled more than 24 hours ago; name the table instead, or \
         check account, region and endpoint",
        in_region(region.as_deref())
    )]
    NoSuchStream {
        /// The stream that was asked for.
        stream: StreamArn,
        /// The client's region, where there is one.
        region: Option<String>,
    },
    /// The stream takes no more changes.
    #[error(
        "stream {stream} is disabled: enable a stream on table {} (UpdateTable with StreamEnabled=true), and name the \
         table or the new stream's ARN",
        stream.table_name()
    )]
    Disabled {
        /// The stream that was asked for.
        stream: StreamArn,
    },
    /// A permission is missing, or the credentials are not accepted; the source says which.
    #[error("access to {spec} is denied: grant dynamodb:{action} on the table's streams (table/{}/stream/*)", spec.table_name())]
    Denied {
        /// What was asked for.
        spec: Box<StreamSpec>,
        /// The IAM action that is missing, without the service prefix.
        action: &'static str,
        /// The service's answer.
        source: SourceError,
    },
    /// The service could not be asked; the source says why and whether asking again may help.
    #[error("cannot find {spec}")]
    Call {
        /// What was asked for.
        spec: Box<StreamSpec>,
        /// The failed call.
        source: SourceError,
    },
}

fn in_region(region: Option<&str>) -> String {
    region.map_or_else(String::new, |region| format!(" in {region}"))
}

impl ResolveError {
    /// Whether asking again may help without anybody's doing.
    #[must_use]
    pub fn is_retryable(&self) -> bool {
        match self {
            Self::Call { source, .. } => source.is_retryable(),
            Self::WrongRegion { .. }
            | Self::NoStream { .. }
            | Self::NoSuchStream { .. }
            | Self::Disabled { .. }
            | Self::Denied { .. } => false,
        }
    }
}

/// Finds the stream that `spec` means. `region` is the client's, where ARNs are held to it; ARNs of DynamoDB Local pass
/// everywhere.
///
/// A table means its newest stream, whatever the status of that: a stream that was disabled stays readable for 24
/// hours, and only the caller knows whether there is something left to drain ([`ResolvedStream::require_enabled`]).
///
/// # Errors
/// Every [`ResolveError`] but `Disabled`.
///
/// # Cancel safety
/// It reads only.
pub async fn resolve(
    source: &dyn StreamSource,
    spec: &StreamSpec,
    region: Option<&str>,
) -> Result<ResolvedStream, ResolveError> {
    check_region(spec, region)?;
    match spec {
        StreamSpec::Stream(arn) => {
            let described = describe(source, spec, arn, region).await?;
            Ok(resolved(arn.clone(), described, Vec::new()))
        }
        StreamSpec::Table { name, .. } => {
            let no_stream = || ResolveError::NoStream { table: name.clone(), region: region.map(str::to_owned) };
            let mut streams: Vec<StreamArn> = match source.list_streams(name).await {
                Ok(streams) => streams.into_iter().map(|stream| stream.arn).collect(),
                Err(e) if e.kind() == SourceErrorKind::NotFound => return Err(no_stream()),
                Err(e) => return Err(failed(spec, e)),
            };
            let newest = streams.pop().ok_or_else(no_stream)?;
            let described = describe(source, spec, &newest, region).await?;
            Ok(resolved(newest, described, streams))
        }
    }
}

/// No new try is begun once this many call time-outs have passed since the first.
const PATIENCE: u32 = 4;

/// [`resolve`], tried again while that may help: the workers of a fleet that starts at once use up the service's rate between them, and
/// a program that ended for that would only be started again. `call_timeout` bounds each call, and so decides how long this takes.
///
/// # Errors
/// As [`resolve`]; what the last try failed with.
///
/// # Cancel safety
/// It reads only.
pub(crate) async fn resolve_patiently(
    rt: &Rt,
    call_timeout: Duration,
    source: &dyn StreamSource,
    spec: &StreamSpec,
    region: Option<&str>,
) -> Result<ResolvedStream, ResolveError> {
    let begun = rt.now();
    let mut backoff = Backoff::new(Duration::from_millis(200), Duration::from_secs(5));
    loop {
        // A table takes two calls.
        let tried = rt.timeout(call_timeout.saturating_mul(2), resolve(source, spec, region)).await;
        let error = match tried.unwrap_or_else(|| Err(failed(spec, timed_out("DescribeStream")))) {
            Err(error) if error.is_retryable() => error,
            settled => return settled,
        };
        let pause = rt.jitter(backoff.next_pause());
        if rt.now().since(begun) + pause >= call_timeout.saturating_mul(PATIENCE) {
            return Err(error);
        }
        tracing::warn!(%error, cause = %describe_cause(&error), ?pause, "the stream was not found yet: asking again");
        rt.sleep(pause).await;
    }
}

fn describe_cause(error: &ResolveError) -> String {
    std::error::Error::source(error).map_or_else(String::new, ToString::to_string)
}

fn resolved(arn: StreamArn, described: StreamDescription, older: Vec<StreamArn>) -> ResolvedStream {
    ResolvedStream { arn, status: described.status, view_type: described.view_type, older }
}

fn check_region(spec: &StreamSpec, region: Option<&str>) -> Result<(), ResolveError> {
    match (spec.region(), region) {
        (Some(named), Some(client)) if named != client && named != LOCAL_REGION => Err(ResolveError::WrongRegion {
            spec: Box::new(spec.clone()),
            named: named.to_owned(),
            client: client.to_owned(),
        }),
        _ => Ok(()),
    }
}

async fn describe(
    source: &dyn StreamSource,
    spec: &StreamSpec,
    stream: &StreamArn,
    region: Option<&str>,
) -> Result<StreamDescription, ResolveError> {
    source.describe_stream(stream, &DescribePage::default()).await.map_err(|e| match e.kind() {
        SourceErrorKind::NotFound => {
            ResolveError::NoSuchStream { stream: stream.clone(), region: region.map(str::to_owned) }
        }
        _ => failed(spec, e),
    })
}

fn failed(spec: &StreamSpec, source: SourceError) -> ResolveError {
    match source.kind() {
        SourceErrorKind::Denied { action } => ResolveError::Denied { spec: Box::new(spec.clone()), action, source },
        _ => ResolveError::Call { spec: Box::new(spec.clone()), source },
    }
}

#[cfg(test)]
mod tests;
