//! The service on a loopback port.
//!
//! ```text
//!  accept ──a place──► connection ──head──► body (bounded) ──a place──► WireService::answer ──► reply
//!     │                    │ idle or slow head: closed        │ slow: 408, long: 413
//!     └── stop ──► no more connections; running calls end; after the grace the rest is dropped
//! ```

use std::convert::Infallible;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use aws_types::SdkConfig;
use bytes::Bytes;
use http_body_util::{BodyExt, Either, Full};
use hyper::body::{Body, Incoming};
use hyper::service::service_fn;
use hyper::{Response, StatusCode, header};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::GracefulShutdown;
use tokio::net::TcpListener;
use tokio::sync::{Semaphore, oneshot};
use tokio::task::{JoinHandle, JoinSet};

use super::WireService;
use super::connector::HalfBody;
use super::protocol::{Answer, Delivery, Refusal, Request, request_id};

/// How a [`WireServer`] listens, and its bounds.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct ServerOptions {
    /// Where it listens. `127.0.0.1:0` by default: a free port.
    pub listen: SocketAddr,
    /// Whether it may listen where other machines reach it. It asks nobody who they are, so: no, by default.
    pub allow_remote: bool,
    /// The longest body of a request, in bytes. 16 MiB by default, as BatchWriteItem allows.
    pub max_body: usize,
    /// Connections at the same time; further ones wait to be accepted. 512 by default.
    pub max_connections: usize,
    /// Requests whose body is being read or answered at the same time; further ones wait. 64 by default.
    pub max_requests: usize,
    /// How long a connection may stand idle or take to send a request's head. 75 seconds by default.
    pub idle_timeout: Duration,
    /// How long a request may take to send its body, and to wait for its turn. 20 seconds by default.
    pub body_timeout: Duration,
    /// How long running calls may take to end when the server stops. 2 seconds by default.
    pub grace: Duration,
}

impl Default for ServerOptions {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 0)),
            allow_remote: false,
            max_body: 16 << 20,
            max_connections: 512,
            max_requests: 64,
            idle_timeout: Duration::from_secs(75),
            body_timeout: Duration::from_secs(20),
            grace: Duration::from_secs(2),
        }
    }
}

/// Why a server cannot be started.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ServeError {
    /// The address is one that other machines reach.
    #[error(
        "{0} can be reached from other machines, and this server asks nobody who they are: allow it if you mean it"
    )]
    NotLoopback(SocketAddr),
    /// Nothing can listen there.
    #[error("cannot listen on {address}")]
    Listen {
        /// Where.
        address: SocketAddr,
        /// Why not.
        source: io::Error,
    },
}

/// A [`WireService`] on a port. Dropping it ends it at once; [`stop`](Self::stop) lets running calls end.
#[derive(Debug)]
pub struct WireServer {
    service: WireService,
    address: SocketAddr,
    stop: oneshot::Sender<()>,
    task: JoinHandle<()>,
}

impl WireServer {
    /// Starts to listen, on the calling task's runtime.
    ///
    /// # Errors
    /// See [`ServeError`].
    ///
    /// # Cancel safety
    /// Dropping the future leaves nothing behind.
    pub async fn start(service: WireService, options: ServerOptions) -> Result<Self, ServeError> {
        if !options.listen.ip().is_loopback() && !options.allow_remote {
            return Err(ServeError::NotLoopback(options.listen));
        }
        let failed = |source| ServeError::Listen { address: options.listen, source };
        let listener = TcpListener::bind(options.listen).await.map_err(failed)?;
        let address = listener.local_addr().map_err(failed)?;
        let (stop, stopped) = oneshot::channel();
        let shared =
            Arc::new(Shared { service: service.clone(), requests: Semaphore::new(options.max_requests), options });
        let task = tokio::spawn(serve(listener, shared, stopped));
        Ok(Self { service, address, stop, task })
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The endpoint for an SDK: `http://127.0.0.1:<port>`.
    #[must_use]
    pub fn endpoint(&self) -> String {
        format!("http://{}", self.address)
    }

    /// A configuration for any AWS client that leads here, with credentials that only a stand-in accepts.
    #[must_use]
    pub fn sdk_config(&self) -> SdkConfig {
        self.service.configuration().endpoint_url(self.endpoint()).build()
    }

    /// Stops listening, lets running calls end within the grace, and closes all connections.
    ///
    /// # Cancel safety
    /// Dropping the future ends the server at once.
    pub async fn stop(mut self) {
        let (unused, _) = oneshot::channel();
        // Where it is gone already, there is nothing to stop.
        let _gone = std::mem::replace(&mut self.stop, unused).send(());
        let _ended = (&mut self.task).await;
    }
}

impl Drop for WireServer {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// What all connections share.
struct Shared {
    service: WireService,
    requests: Semaphore,
    options: ServerOptions,
}

/// A pause when no connection can be accepted for want of file handles, so that the loop does not spin.
const NO_HANDLES: Duration = Duration::from_millis(50);

async fn serve(listener: TcpListener, shared: Arc<Shared>, mut stopped: oneshot::Receiver<()>) {
    let mut http = hyper::server::conn::http1::Builder::new();
    http.timer(TokioTimer::new()).header_read_timeout(shared.options.idle_timeout);
    let graceful = GracefulShutdown::new();
    // Dropped with this future, and every connection with it.
    let mut connections = JoinSet::new();
    let places = Arc::new(Semaphore::new(shared.options.max_connections));
    loop {
        while connections.try_join_next().is_some() {}
        let accepted = async {
            let place = places.clone().acquire_owned().await;
            (listener.accept().await, place)
        };
        tokio::pin!(accepted);
        let (stream, place) = match futures::future::select(&mut stopped, accepted).await {
            futures::future::Either::Left(_) => break,
            futures::future::Either::Right(((Ok((stream, _peer)), place), _)) => (stream, place),
            futures::future::Either::Right(_) => {
                tokio::time::sleep(NO_HANDLES).await;
                continue;
            }
        };
        // Small answers must not wait for the acknowledgement of those before; without it they are late, and whole.
        let _slower = stream.set_nodelay(true);
        let on_request = shared.clone();
        let service = service_fn(move |request| {
            let shared = on_request.clone();
            async move { Ok::<_, Infallible>(handle(&shared, request).await) }
        });
        let connection = graceful.watch(http.serve_connection(TokioIo::new(stream), service));
        connections.spawn(async move {
            // How a connection ends is its client's affair.
            let _ended = connection.await;
            drop(place);
        });
    }
    drop(listener);
    // What is not done by then is dropped with the set.
    let _in_time = tokio::time::timeout(shared.options.grace, graceful.shutdown()).await;
}

type Reply = Response<Either<Full<Bytes>, HalfBody>>;

async fn handle(shared: &Shared, request: hyper::Request<Incoming>) -> Reply {
    let answer = respond(shared, request).await;
    match answer.delivery {
        Delivery::Late(time) => tokio::time::sleep(time).await,
        Delivery::Never => std::future::pending().await,
        Delivery::Whole | Delivery::Broken => {}
    }
    let body = match answer.delivery {
        Delivery::Broken => Either::Right(HalfBody::of(&answer)),
        Delivery::Whole | Delivery::Late(_) | Delivery::Never => Either::Left(Full::new(answer.body.clone())),
    };
    let mut reply = Response::new(body);
    *reply.status_mut() = StatusCode::from_u16(answer.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    for (name, value) in answer.headers() {
        if let Ok(value) = value.try_into() {
            reply.headers_mut().insert(name, value);
        }
    }
    if answer.delivery == Delivery::Broken {
        // As long as the whole would be, so that the half is noticed.
        reply.headers_mut().insert(header::CONTENT_LENGTH, answer.body.len().into());
    }
    reply
}

/// Reads the request and asks the service, each within its bounds.
async fn respond(shared: &Shared, request: hyper::Request<Incoming>) -> Answer {
    let limit = shared.options.body_timeout;
    let refuse = |code: &str, message: String| {
        let answer = Answer::refusal(&Refusal::new(code, message));
        Answer { request_id: request_id(|| shared.service.rt.next_u64()), ..answer }
    };
    let (head, body) = request.into_parts();
    let Ok(Ok(_turn)) = tokio::time::timeout(limit, shared.requests.acquire()).await else {
        return refuse("ServiceUnavailableException", "too many requests at the same time".to_owned());
    };
    let body = match tokio::time::timeout(limit, read(body, shared.options.max_body)).await {
        Ok(Ok(body)) => body,
        Ok(Err(Unread::TooLong)) => {
            let most = shared.options.max_body;
            return refuse("RequestEntityTooLargeException", format!("the body is longer than {most} bytes"));
        }
        // Nobody is left who could read the answer.
        Ok(Err(Unread::Broken)) => return refuse("SerializationException", String::new()),
        Err(_late) => return refuse("RequestTimeoutException", "the body did not come in time".to_owned()),
    };
    shared.service.answer(&Request {
        method: head.method.as_str(),
        path: head.uri.path(),
        target: head.headers.get("x-amz-target").and_then(|target| target.to_str().ok()),
        body: &body,
    })
}

enum Unread {
    TooLong,
    Broken,
}

/// How much of a body that is too long is read on, in lengths of the longest allowed: a client that is still sending does not
/// read an answer, and would see a closed connection instead.
const READ_ON: usize = 16;

async fn read(mut body: Incoming, most: usize) -> Result<Bytes, Unread> {
    let expected = usize::try_from(body.size_hint().lower()).unwrap_or(usize::MAX);
    let mut kept = Vec::with_capacity(expected.min(most));
    let mut length = 0_usize;
    while let Some(frame) = body.frame().await {
        let Ok(data) = frame.map_err(|_broken| Unread::Broken)?.into_data() else { continue };
        length = length.saturating_add(data.len());
        if length > most.saturating_mul(READ_ON) {
            break;
        }
        match length > most {
            true => kept = Vec::new(),
            false => kept.extend_from_slice(&data),
        }
    }
    if length > most { Err(Unread::TooLong) } else { Ok(Bytes::from(kept)) }
}
