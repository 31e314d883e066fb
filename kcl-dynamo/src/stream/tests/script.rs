//! A service of written answers, in place of the HTTP client.

use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
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
use kcl_core::{ShardId, StreamArn};

use crate::stream::{DynamoStreamSource, StreamOptions};

#[derive(Debug)]
pub(super) enum Answer {
    Reply { status: u16, headers: Vec<(&'static str, String)>, body: SdkBody },
    Refused,
    Never,
}

impl Answer {
    pub(super) fn ok(body: &str) -> Self {
        Self::Reply { status: 200, headers: Vec::new(), body: SdkBody::from(body) }
    }

    pub(super) fn of_frames(frames: Vec<Result<&'static str, &'static str>>) -> Self {
        Self::Reply { status: 200, headers: Vec::new(), body: SdkBody::from_body_1_x(Frames(frames.into())) }
    }

    pub(super) fn error(status: u16, code: &str) -> Self {
        Self::status(status, &format!(r#"{{"__type":"com.amazonaws.dynamodb.v20120810#{code}","message":"because"}}"#))
    }

    pub(super) fn status(status: u16, body: &str) -> Self {
        Self::Reply { status, headers: Vec::new(), body: SdkBody::from(body) }
    }

    pub(super) fn with_header(mut self, name: &'static str, value: &impl ToString) -> Self {
        if let Self::Reply { headers, .. } = &mut self {
            headers.push((name, value.to_string()));
        }
        self
    }

    fn respond(self) -> HttpConnectorFuture {
        match self {
            Self::Reply { status, headers, body } => {
                let mut response = HttpResponse::new(status.try_into().expect("a status"), body);
                for (name, value) in headers {
                    response.headers_mut().insert(name, value);
                }
                HttpConnectorFuture::ready(Ok(response))
            }
            Self::Refused => HttpConnectorFuture::ready(Err(ConnectorError::io("connection refused".into()))),
            Self::Never => HttpConnectorFuture::new(std::future::pending()),
        }
    }
}

/// A body in pieces; the last may be a broken connection.
#[derive(Debug)]
struct Frames(VecDeque<Result<&'static str, &'static str>>);

impl Body for Frames {
    type Data = Bytes;
    type Error = &'static str;

    fn poll_frame(mut self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        Poll::Ready(self.0.pop_front().map(|part| part.map(|text| Frame::data(Bytes::from_static(text.as_bytes())))))
    }
}

#[derive(Debug, Clone)]
pub(super) struct Asked {
    pub(super) target: String,
    pub(super) body: serde_json::Value,
}

/// Gives its answers one after the other and notes what it was asked.
#[derive(Debug, Clone)]
pub(super) struct Script {
    answers: Arc<Mutex<VecDeque<Answer>>>,
    asked: Arc<Mutex<Vec<Asked>>>,
}

impl HttpConnector for Script {
    fn call(&self, request: HttpRequest) -> HttpConnectorFuture {
        let target = request.headers().get("x-amz-target").unwrap_or_default().to_owned();
        let body = serde_json::from_slice(request.body().bytes().unwrap_or_default()).expect("a JSON request");
        self.asked.lock().expect("unpoisoned").push(Asked { target, body });
        self.answers.lock().expect("unpoisoned").pop_front().expect("an answer for every request").respond()
    }
}

impl Script {
    pub(super) fn new(answers: impl IntoIterator<Item = Answer>) -> Self {
        Self { answers: Arc::new(Mutex::new(answers.into_iter().collect())), asked: Arc::default() }
    }

    pub(super) fn asked(&self) -> Vec<Asked> {
        self.asked.lock().expect("unpoisoned").clone()
    }

    pub(super) fn config(&self) -> SdkConfig {
        SdkConfig::builder()
            .region(Region::new("eu-west-1"))
            .credentials_provider(SharedCredentialsProvider::new(Credentials::new("id", "secret", None, None, "test")))
            .behavior_version(BehaviorVersion::latest())
            .http_client(self.http_client())
            .build()
    }

    fn http_client(&self) -> SharedHttpClient {
        let connector = SharedHttpConnector::new(self.clone());
        http_client_fn(move |_settings, _components| connector.clone())
    }
}

pub(super) fn source(script: &Script) -> DynamoStreamSource {
    DynamoStreamSource::new(&script.config(), &StreamOptions::default()).expect("complete")
}

pub(super) fn arn() -> StreamArn {
    "arn:aws:dynamodb:eu-west-1:123456789012:table/orders/stream/2026-01-01".parse().expect("legal")
}

pub(super) fn shard(id: &str) -> ShardId {
    id.parse().expect("legal")
}
