//! Requests and answers of the service's JSON protocol, without a transport.
//!
//! Source: the service models of DynamoDB and DynamoDB Streams (protocol `json` 1.0, targets `DynamoDB_20120810` and
//! `DynamoDBStreams_20120810`).

use std::time::Duration;

use bytes::Bytes;
use serde_json::{Value, json};

/// What is asked: the parts of an HTTP request that decide the answer.
#[derive(Debug, Clone, Copy)]
pub struct Request<'a> {
    /// `POST`, but for the few pages that are read with `GET`.
    pub method: &'a str,
    /// The path, without a query. `/` is the service, `/_control/…` the control interface.
    pub path: &'a str,
    /// The header `X-Amz-Target`.
    pub target: Option<&'a str>,
    /// The whole body.
    pub body: &'a [u8],
}

/// What is answered.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Answer {
    /// The HTTP status.
    pub status: u16,
    /// The header `Content-Type`.
    pub content_type: &'static str,
    /// The header `x-amzn-RequestId`.
    pub request_id: String,
    /// The header `x-amz-crc32`: the checksum of the body.
    pub checksum: u32,
    /// The whole body.
    pub body: Bytes,
    /// How it reaches the caller.
    pub delivery: Delivery,
}

/// How an answer reaches the caller: at once and whole, unless a fault was ordered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Delivery {
    /// At once.
    Whole,
    /// After this time.
    Late(Duration),
    /// Not at all: the caller waits until it gives up.
    Never,
    /// The connection breaks within the body.
    Broken,
}

/// The content type of the service.
pub(super) const AMZ_JSON: &str = "application/x-amz-json-1.0";
const PLAIN_JSON: &str = "application/json";

impl Answer {
    /// An answer of the service.
    pub(super) fn service(status: u16, body: Vec<u8>) -> Self {
        Self::new(status, AMZ_JSON, body)
    }

    /// An answer that is not one of the service: of the control interface, or of this server for itself.
    pub(super) fn plain(status: u16, body: &Value) -> Self {
        Self::new(status, PLAIN_JSON, body.to_string().into_bytes())
    }

    /// A refusal, made here or by whatever carries the request.
    pub(super) fn refusal(refusal: &Refusal) -> Self {
        Self::service(refusal.status, refusal.body())
    }

    fn new(status: u16, content_type: &'static str, body: Vec<u8>) -> Self {
        let checksum = crc32fast::hash(&body);
        let (request_id, delivery) = (String::new(), Delivery::Whole);
        Self { status, content_type, request_id, checksum, body: Bytes::from(body), delivery }
    }

    /// All headers but the length.
    #[must_use]
    pub fn headers(&self) -> [(&'static str, String); 3] {
        [
            ("content-type", self.content_type.to_owned()),
            ("x-amzn-requestid", self.request_id.clone()),
            ("x-amz-crc32", self.checksum.to_string()),
        ]
    }
}

macro_rules! operations {
    ($($name:ident $target:literal;)*) => {
        /// An operation that is answered.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
        pub(super) enum Operation {
            $($name,)*
        }

        impl Operation {
            pub(super) const ALL: &[Self] = &[$(Self::$name,)*];

            /// The service's name of it.
            pub(super) fn name(self) -> &'static str {
                match self {
                    $(Self::$name => stringify!($name),)*
                }
            }

            /// What `X-Amz-Target` says to ask for it.
            pub(super) fn target(self) -> &'static str {
                match self {
                    $(Self::$name => concat!($target, ".", stringify!($name)),)*
                }
            }
        }
    };
}

operations! {
    ListStreams "DynamoDBStreams_20120810";
    DescribeStream "DynamoDBStreams_20120810";
    GetShardIterator "DynamoDBStreams_20120810";
    GetRecords "DynamoDBStreams_20120810";
    DescribeTable "DynamoDB_20120810";
    PutItem "DynamoDB_20120810";
    DeleteItem "DynamoDB_20120810";
    BatchWriteItem "DynamoDB_20120810";
}

impl Operation {
    pub(super) fn of_target(target: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|operation| operation.target() == target)
    }

    pub(super) fn of_name(name: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|operation| operation.name() == name)
    }
}

/// Why a request is refused, as the service says it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Refusal {
    pub(super) status: u16,
    pub(super) code: String,
    pub(super) message: String,
}

impl Refusal {
    pub(super) fn new(code: impl Into<String>, message: impl Into<String>) -> Self {
        let code = code.into();
        Self { status: status_of(&code), code, message: message.into() }
    }

    pub(super) fn validation(message: impl Into<String>) -> Self {
        Self::new("ValidationException", message)
    }

    pub(super) fn serialization(message: impl Into<String>) -> Self {
        Self::new("SerializationException", message)
    }

    pub(super) fn not_found(message: impl Into<String>) -> Self {
        Self::new("ResourceNotFoundException", message)
    }

    pub(super) fn unknown_operation() -> Self {
        Self::new("UnknownOperationException", "")
    }

    fn body(&self) -> Vec<u8> {
        let home = home_of(&self.code);
        let mut body = json!({ "__type": format!("{home}#{}", self.code) });
        if !self.message.is_empty() {
            // The errors of the framework that the service is built on spell it with a capital.
            let name = if home == FRAMEWORK { "Message" } else { "message" };
            body[name] = Value::from(self.message.as_str());
        }
        body.to_string().into_bytes()
    }
}

const FRAMEWORK: &str = "com.amazon.coral.service";

/// The namespace in the `__type` of an error.
fn home_of(code: &str) -> &'static str {
    match code {
        "ValidationException" => "com.amazon.coral.validate",
        "ThrottlingException" => "com.amazon.coral.availability",
        "SerializationException"
        | "UnknownOperationException"
        | "AccessDeniedException"
        | "UnrecognizedClientException"
        | "ExpiredTokenException"
        | "InvalidSignatureException"
        | "MissingAuthenticationTokenException"
        | "RequestEntityTooLargeException"
        | "RequestTimeoutException"
        | "ServiceUnavailableException"
        | "InternalFailure" => FRAMEWORK,
        _ => "com.amazonaws.dynamodb.v20120810",
    }
}

fn status_of(code: &str) -> u16 {
    match code {
        "InternalServerError" | "InternalFailure" => 500,
        "ServiceUnavailableException" => 503,
        "RequestEntityTooLargeException" => 413,
        "RequestTimeoutException" => 408,
        _ => 400,
    }
}

/// A request id of the service's form: 52 characters of `A-Z0-9`. `next` gives random numbers.
pub(super) fn request_id(next: impl Fn() -> u64) -> String {
    const SIGNS: &[u8; 36] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789";
    let mut id = String::with_capacity(52);
    while id.len() < 52 {
        let mut random = next();
        // Twelve signs of a number: 36^12 < 2^63.
        for _sign in 0..12.min(52 - id.len()) {
            // Below 36, so it fits and is in range.
            id.push(char::from(SIGNS[(random % 36) as usize]));
            random /= 36;
        }
    }
    id
}
