//! The service as an HTTP client of the SDK: no socket, no thread, no port.

use std::pin::Pin;
use std::task::{Context, Poll};

use aws_sdk_dynamodbstreams::config::{BehaviorVersion, Credentials, Region, SharedCredentialsProvider};
use aws_smithy_runtime_api::client::http::{
    HttpConnector, HttpConnectorFuture, SharedHttpClient, SharedHttpConnector, http_client_fn,
};
use aws_smithy_runtime_api::client::orchestrator::{HttpRequest, HttpResponse};
use aws_smithy_runtime_api::client::result::ConnectorError;
use aws_smithy_types::body::SdkBody;
use aws_types::SdkConfig;
use bytes::Bytes;
use http_body::{Body, Frame};

use super::WireService;
use super::protocol::{Answer, Delivery, Request};

impl WireService {
    /// An HTTP client for `aws_sdk_dynamodbstreams`, `aws_sdk_dynamodb` and an `SdkConfig`: whatever they send is answered here,
    /// whatever the endpoint is.
    #[must_use]
    pub fn http_client(&self) -> SharedHttpClient {
        let connector = SharedHttpConnector::new(Connector(self.clone()));
        http_client_fn(move |_settings, _components| connector.clone())
    }

    /// A configuration for any AWS client, or for [`Worker::builder`](crate::Worker::builder), that leads here without a socket: with
    /// the region of the stream and credentials that only a stand-in accepts.
    #[must_use]
    pub fn sdk_config(&self) -> SdkConfig {
        self.configuration().http_client(self.http_client()).build()
    }

    /// What every client of this service is configured with.
    pub(super) fn configuration(&self) -> aws_types::sdk_config::Builder {
        let credentials = Credentials::new("test", "test", None, None, "wire");
        SdkConfig::builder()
            .behavior_version(BehaviorVersion::latest())
            .region(Region::new(self.stream.options().region))
            .credentials_provider(SharedCredentialsProvider::new(credentials))
    }
}

#[derive(Debug)]
struct Connector(WireService);

impl HttpConnector for Connector {
    fn call(&self, request: HttpRequest) -> HttpConnectorFuture {
        let service = self.0.clone();
        HttpConnectorFuture::new(async move {
            let uri = request.uri().to_owned();
            let answer = service.answer(&Request {
                method: request.method(),
                path: path_of(&uri),
                target: request.headers().get("x-amz-target"),
                // A body that is not in memory is none that an SDK makes for these operations.
                body: request.body().bytes().unwrap_or_default(),
            });
            match answer.delivery {
                Delivery::Late(time) => tokio::time::sleep(time).await,
                Delivery::Never => std::future::pending().await,
                Delivery::Whole | Delivery::Broken => {}
            }
            respond(&answer)
        })
    }
}

fn path_of(uri: &str) -> &str {
    let behind_scheme = uri.split_once("://").map_or(uri, |(_, rest)| rest);
    let path = behind_scheme.find('/').map_or("/", |at| &behind_scheme[at..]);
    path.split('?').next().unwrap_or("/")
}

fn respond(answer: &Answer) -> Result<HttpResponse, ConnectorError> {
    let status = answer.status.try_into().map_err(|error| ConnectorError::other(Box::new(error), None))?;
    let body = match answer.delivery {
        Delivery::Broken => SdkBody::from_body_1_x(HalfBody::of(answer)),
        Delivery::Whole | Delivery::Late(_) | Delivery::Never => SdkBody::from(answer.body.clone()),
    };
    let mut response = HttpResponse::new(status, body);
    for (name, value) in answer.headers() {
        response.headers_mut().insert(name, value);
    }
    Ok(response)
}

/// The first half of a body, and then a broken connection.
#[derive(Debug)]
pub(super) struct HalfBody(Option<Bytes>);

impl HalfBody {
    pub(super) fn of(answer: &Answer) -> Self {
        Self(Some(answer.body.slice(..answer.body.len() / 2)))
    }
}

/// The connection broke, by order.
#[derive(Debug, thiserror::Error)]
#[error("the connection broke within the answer")]
pub(super) struct ConnectionBroke;

impl Body for HalfBody {
    type Data = Bytes;
    type Error = ConnectionBroke;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, ConnectionBroke>>> {
        Poll::Ready(Some(self.0.take().map(Frame::data).ok_or(ConnectionBroke)))
    }
}

#[cfg(test)]
mod tests {
    use super::path_of;

    #[test]
    fn the_path_is_what_stands_between_host_and_query() {
        for (uri, path) in [
            ("http://localhost", "/"),
            ("http://localhost:1/", "/"),
            ("https://a.b/_control/x?y=/z", "/_control/x"),
            ("/", "/"),
        ] {
            assert_eq!(path_of(uri), path, "{uri}");
        }
    }
}
