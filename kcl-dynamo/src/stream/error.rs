//! What a failed call means. Classified by the service's error code, never by its message.

use std::error::Error as StdError;
use std::fmt;

use aws_sdk_dynamodbstreams::config::http::HttpResponse;
use aws_sdk_dynamodbstreams::error::{ProvideErrorMetadata, SdkError};
use aws_types::request_id::RequestId;
use kcl_core::{SourceError, SourceErrorKind};

use crate::lease::is_denied;

type BoxError = Box<dyn StdError + Send + Sync>;

/// A call of the service. Its name is also that of the IAM action.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Operation {
    ListStreams,
    DescribeStream,
    GetShardIterator,
    GetRecords,
}

impl Operation {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::ListStreams => "ListStreams",
            Self::DescribeStream => "DescribeStream",
            Self::GetShardIterator => "GetShardIterator",
            Self::GetRecords => "GetRecords",
        }
    }
}

/// Whom a call was addressed to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Caller {
    pub(super) region: String,
    pub(super) endpoint: Option<String>,
}

impl fmt::Display for Caller {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.endpoint {
            Some(endpoint) => write!(f, "{endpoint}, region {}", self.region),
            None => write!(f, "DynamoDB Streams in {}", self.region),
        }
    }
}

/// What the service answered, or why it did not: the source of a [`SourceError`], for people and for logs.
#[derive(Debug)]
pub struct ServiceFault {
    code: Option<String>,
    status: Option<u16>,
    message: String,
    request_id: Option<String>,
    advice: Option<&'static str>,
    asked: Caller,
    source: Option<BoxError>,
}

impl ServiceFault {
    /// The service's error code, if it answered with one.
    #[must_use]
    pub fn code(&self) -> Option<&str> {
        self.code.as_deref()
    }

    /// The HTTP status, if there was an answer.
    #[must_use]
    pub fn status(&self) -> Option<u16> {
        self.status
    }

    /// The service's name of this request, for AWS support.
    #[must_use]
    pub fn request_id(&self) -> Option<&str> {
        self.request_id.as_deref()
    }

    /// What to change, where that is known.
    #[must_use]
    pub fn advice(&self) -> Option<&'static str> {
        self.advice
    }
}

impl fmt::Display for ServiceFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(code) = &self.code {
            write!(f, "{code}: ")?;
        }
        write!(f, "{} (asked {}", self.message, self.asked)?;
        if let Some(id) = &self.request_id {
            write!(f, ", request {id}")?;
        }
        f.write_str(")")?;
        self.advice.map_or(Ok(()), |advice| write!(f, "; {advice}"))
    }
}

impl StdError for ServiceFault {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.source.as_deref().map(|e| e as &(dyn StdError + 'static))
    }
}

const NETWORK: &str = "check the network, the region, the endpoint and the credentials provider";
const CREDENTIALS: &str = "the credentials are wrong or have expired, or this machine's clock is: renew them";
const ENDPOINT: &str = "check that the endpoint is one of DynamoDB Streams";

/// An answer that came and cannot be used: why, and what found that out.
pub(super) fn damaged(operation: Operation, asked: &Caller, why: String, source: Option<BoxError>) -> SourceError {
    let fault = ServiceFault {
        code: None,
        status: None,
        message: why,
        request_id: None,
        advice: None,
        asked: asked.clone(),
        source,
    };
    SourceError::new(SourceErrorKind::Corrupt, operation.name()).with_source(fault)
}

/// What the caller does next about `error`.
pub(super) fn classify<E>(operation: Operation, asked: &Caller, error: SdkError<E, HttpResponse>) -> SourceError
where
    E: ProvideErrorMetadata + StdError + Send + Sync + 'static,
{
    let status = error.raw_response().map(|response| response.status().as_u16());
    let request_id = error.raw_response().and_then(|response| response.headers().request_id()).map(str::to_owned);
    let meta = error.meta();
    let (code, text) = (meta.code().map(str::to_owned), meta.message().map(str::to_owned));
    let (kind, advice, message) = match &error {
        SdkError::ServiceError(_) => {
            let (kind, advice) = of_answer(operation, code.as_deref(), status.unwrap_or_default());
            (kind, advice, text.unwrap_or_else(|| "the service gives no reason".to_owned()))
        }
        SdkError::ConstructionFailure(_) => (SourceErrorKind::Invalid, None, "the request cannot be made".to_owned()),
        SdkError::TimeoutError(_) => {
            (SourceErrorKind::Unavailable, Some(NETWORK), "no answer within StreamOptions::request_timeout".to_owned())
        }
        SdkError::ResponseError(_) => {
            (SourceErrorKind::Unavailable, None, "the answer broke off or is not one of the service".to_owned())
        }
        // What is left is a request that could not be sent; the SDK may learn more ways to fail.
        _ => (SourceErrorKind::Unavailable, Some(NETWORK), "the request could not be sent".to_owned()),
    };
    // Of an error with a code everything is told above; of the others the cause says more.
    let source = if code.is_some() { None } else { error.into_source().ok() };
    let fault = ServiceFault { code, status, message, request_id, advice, asked: asked.clone(), source };
    SourceError::new(kind, operation.name()).with_source(fault)
}

/// By code; where an answer has none, or one that is not known, by HTTP status.
///
/// Source: the errors of each operation and the common errors in the DynamoDB API reference; the throttling codes are
/// those of the AWS SDKs' retry specification.
fn of_answer(operation: Operation, code: Option<&str>, status: u16) -> (SourceErrorKind, Option<&'static str>) {
    let denied = SourceErrorKind::Denied { action: operation.name() };
    match code.unwrap_or_default() {
        "ExpiredIteratorException" => (SourceErrorKind::Expired, None),
        "TrimmedDataAccessException" => (SourceErrorKind::Trimmed, None),
        "ResourceNotFoundException" => {
            (SourceErrorKind::NotFound, Some("check table, stream, account, region and endpoint"))
        }
        "LimitExceededException"
        | "ThrottlingException"
        | "Throttling"
        | "ThrottledException"
        | "RequestThrottled"
        | "RequestThrottledException"
        | "RequestLimitExceeded"
        | "TooManyRequestsException"
        | "ProvisionedThroughputExceeded"
        | "ProvisionedThroughputExceededException"
        | "BandwidthLimitExceeded"
        | "SlowDown" => (SourceErrorKind::Throttled, None),
        code if is_denied(code) => (denied, None),
        // Retried slowly, as a missing permission is: credentials are renewed while a service runs.
        "UnrecognizedClientException"
        | "ExpiredToken"
        | "ExpiredTokenException"
        | "InvalidClientTokenId"
        | "InvalidSignatureException"
        | "SignatureDoesNotMatch"
        | "IncompleteSignature"
        | "IncompleteSignatureException"
        | "MissingAuthenticationToken"
        | "MissingAuthenticationTokenException"
        | "RequestExpired"
        | "RequestTimeTooSkewed" => (denied, Some(CREDENTIALS)),
        "ValidationException" | "SerializationException" | "ValidationError" => (SourceErrorKind::Invalid, None),
        "UnknownOperationException" => (SourceErrorKind::Invalid, Some(ENDPOINT)),
        "InternalServerError"
        | "InternalFailure"
        | "InternalServerErrorException"
        | "InternalServiceError"
        | "ServiceUnavailable"
        | "ServiceUnavailableException" => (SourceErrorKind::Unavailable, None),
        _ => of_status(denied, status),
    }
}

fn of_status(denied: SourceErrorKind, status: u16) -> (SourceErrorKind, Option<&'static str>) {
    match status {
        // A success whose body is no answer of the service.
        200..300 => (SourceErrorKind::Corrupt, Some(ENDPOINT)),
        401 | 403 => (denied, None),
        408 => (SourceErrorKind::Unavailable, None),
        429 => (SourceErrorKind::Throttled, None),
        500.. => (SourceErrorKind::Unavailable, None),
        _ => (SourceErrorKind::Invalid, Some(ENDPOINT)),
    }
}
