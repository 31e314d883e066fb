//! The service's own protocol in front of the in-process reference stream.
//!
//! [`WireService`] answers what an SDK, in any language, sends to DynamoDB Streams, and as much of DynamoDB as is needed to
//! feed a stream. So a consumer meets splits, trims, expired iterators and throttles over the real protocol, when its test says so:
//!
//! * in this process, as the HTTP client of the AWS SDK ([`WireService::http_client`]): no socket;
//! * over a loopback port ([`WireServer`], and the binary `wire-server`), with a control interface at `/_control`.
//!
//! Requests are not authenticated, and signatures are not checked. `docs/testing-your-consumer.md` says how each is used, and
//! `docs/wire-protocol.md` what is answered.
//!
//! ```
//! use aws_sdk_dynamodbstreams::config::{BehaviorVersion, Credentials, Region};
//! use aws_sdk_dynamodbstreams::{Client, Config};
//! use kcl_dynamo::reference::{MovableClock, ReferenceStream, StreamOptions};
//! use kcl_dynamo::wire::WireService;
//! use kcl_dynamo::{Rt, StreamViewType};
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let rt = Rt::tokio()?;
//! let clock = MovableClock::running(&rt);
//! let stream = ReferenceStream::new(clock.rt(&rt), StreamOptions::default());
//! stream.create_table(&"orders".parse()?, &["id"], StreamViewType::NewAndOldImages, 1)?;
//!
//! let service = WireService::new(stream, &rt).with_clock(clock);
//! let config = Config::builder()
//!     .behavior_version(BehaviorVersion::latest())
//!     .region(Region::new("local-1"))
//!     .credentials_provider(Credentials::new("any", "any", None, None, "test"))
//!     .http_client(service.http_client());
//! let client = Client::from_conf(config.build());
//! assert_eq!(client.list_streams().table_name("orders").send().await?.streams().len(), 1);
//! # Ok(())
//! # }
//! ```

mod connector;
mod control;
mod fault;
mod fields;
mod item;
mod protocol;
mod server;
mod streams;
mod table;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use kcl_core::reference::{MovableClock, ReferenceStream};
use kcl_core::{Rt, TableName};
use serde_json::json;

pub use self::fault::Fault;
use self::fault::Orders;
use self::fields::Fields;
use self::item::{KeySchema, KeyType};
pub use self::protocol::{Answer, Delivery, Request};
use self::protocol::{Operation, Refusal};
pub use self::server::{ServeError, ServerOptions, WireServer};

/// The path under which the control interface is found.
pub const CONTROL_PATH: &str = "/_control";

/// DynamoDB Streams' protocol in front of a [`ReferenceStream`]. Cheap to clone; clones are one service.
#[derive(Clone)]
pub struct WireService {
    stream: ReferenceStream,
    clock: Option<MovableClock>,
    rt: Rt,
    known: Arc<Known>,
}

/// What the service knows beside the stream.
#[derive(Debug, Default)]
struct Known {
    /// The types of key attributes, where the table's maker told them.
    key_types: Mutex<BTreeMap<TableName, Vec<KeyType>>>,
    orders: Mutex<Orders>,
}

impl WireService {
    /// The protocol in front of `stream`. `rt` gives the random numbers of request ids.
    #[must_use]
    pub fn new(stream: ReferenceStream, rt: &Rt) -> Self {
        Self { stream, clock: None, rt: rt.clone(), known: Arc::default() }
    }

    /// Lets the control interface move `clock`, which must be that of the stream.
    #[must_use]
    pub fn with_clock(self, clock: MovableClock) -> Self {
        Self { clock: Some(clock), ..self }
    }

    /// The stream behind it.
    #[must_use]
    pub fn stream(&self) -> &ReferenceStream {
        &self.stream
    }

    /// Lets the next `times` calls of `operation`, such as `GetRecords`, meet `fault`. Orders for the same operation are carried
    /// out one after the other.
    ///
    /// # Errors
    /// There is no such operation, or a hundred orders wait for it already.
    pub fn order(&self, operation: &str, fault: Fault, times: u32) -> Result<(), OrderError> {
        let found = Operation::of_name(operation).ok_or_else(|| OrderError::NoOperation(operation.to_owned()))?;
        match lock(&self.known.orders).add(found, fault, times) {
            true => Ok(()),
            false => Err(OrderError::TooMany(found.name())),
        }
    }

    /// Takes all orders back.
    pub fn clear_orders(&self) {
        lock(&self.known.orders).clear();
    }

    /// What the service answers. It does not wait: how late the answer comes is [`Answer::delivery`], which whoever carries it
    /// must heed.
    #[must_use]
    pub fn answer(&self, request: &Request<'_>) -> Answer {
        let mut answer = self.route(request);
        answer.request_id = protocol::request_id(|| self.rt.next_u64());
        answer
    }

    fn route(&self, request: &Request<'_>) -> Answer {
        if let Some(command) = request.path.strip_prefix(CONTROL_PATH) {
            return control::answer(self, request.method, command.trim_matches('/'), request.body);
        }
        match (request.method, request.path) {
            ("POST", "/") => {}
            // The service's own answer to a browser or a health check.
            ("GET" | "HEAD", "/") => return Answer::plain(200, &json!("healthy: wire-server")),
            _ => return Answer::refusal(&Refusal { status: 404, ..Refusal::unknown_operation() }),
        }
        let Some(operation) = request.target.and_then(Operation::of_target) else {
            return Answer::refusal(&Refusal::unknown_operation());
        };
        let fault = lock(&self.known.orders).take(operation);
        if let Some(refusal) = fault.as_ref().and_then(Fault::instead) {
            return Answer::refusal(&refusal);
        }
        let answer = match self.call(operation, request.body) {
            Ok(body) => Answer::service(200, body),
            Err(refusal) => Answer::refusal(&refusal),
        };
        match fault {
            Some(fault) => fault.spoil(answer),
            None => answer,
        }
    }

    fn call(&self, operation: Operation, body: &[u8]) -> Result<Vec<u8>, Refusal> {
        let fields = Fields::of_body(body)?;
        match operation {
            Operation::ListStreams => streams::list_streams(self, &fields),
            Operation::DescribeStream => streams::describe_stream(self, &fields),
            Operation::GetShardIterator => streams::get_shard_iterator(self, &fields),
            Operation::GetRecords => streams::get_records(self, &fields),
            Operation::DescribeTable => table::describe_table(self, &fields),
            Operation::PutItem => table::put_item(self, &fields),
            Operation::DeleteItem => table::delete_item(self, &fields),
            Operation::BatchWriteItem => table::batch_write_item(self, &fields),
        }
    }

    /// The key attributes of `table`.
    fn key_schema(&self, table: &TableName) -> Result<KeySchema, Refusal> {
        let view = self.stream.table(table).map_err(|_missing| Refusal::not_found("Requested resource not found"))?;
        let types = lock(&self.known.key_types);
        let types = types.get(table).map_or(&[][..], Vec::as_slice);
        let type_of = |at: usize| types.get(at).copied();
        Ok(KeySchema(view.keys.into_iter().enumerate().map(|(at, name)| (name, type_of(at))).collect()))
    }
}

impl fmt::Debug for WireService {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WireService").field("stream", &self.stream).finish_non_exhaustive()
    }
}

/// Why a fault cannot be ordered.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum OrderError {
    /// There is no such operation.
    #[error("there is no operation {0:?}")]
    NoOperation(String),
    /// Too many orders wait for the operation.
    #[error("too many orders wait for {0}")]
    TooMany(&'static str),
}

/// Every critical section is a few assignments that leave nothing half done, so a panic elsewhere spoils nothing.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
