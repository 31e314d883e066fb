//! How long the requests of a process took, as it saw them, so that a slow server is told apart from a slow fleet.

use std::fmt;
use std::fs::{File, OpenOptions};
use std::io::Write as _;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use anyhow::Context;
use aws_smithy_runtime_api::client::http::{
    HttpClient as _, HttpConnector, HttpConnectorFuture, SharedHttpClient, SharedHttpConnector, http_client_fn,
};
use aws_smithy_runtime_api::client::orchestrator::HttpRequest;
use aws_types::SdkConfig;

use crate::delivery::now;

/// Whom a request was sent to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Server {
    /// That of the lease table.
    Leases,
    /// That of the stream.
    Stream,
}

impl Server {
    fn letter(self) -> char {
        match self {
            Self::Leases => 'L',
            Self::Stream => 'S',
        }
    }
}

/// Writes down how long each request took, a line for each, so that a process that is killed has told of all but the last.
#[derive(Debug, Clone)]
pub struct Calls(Arc<Mutex<File>>);

impl Calls {
    /// Beside the output of a consumer.
    ///
    /// # Errors
    /// The file cannot be made.
    pub fn beside(output: &Path) -> anyhow::Result<Self> {
        Ok(Self(Arc::new(Mutex::new(OpenOptions::new().create(true).append(true).open(path(output))?))))
    }

    /// The configuration, with every request to the server written down.
    #[must_use]
    pub fn of(&self, server: Server, config: &SdkConfig) -> SdkConfig {
        // The servers speak without TLS.
        let inner = aws_smithy_http_client::Builder::new().build_http();
        let calls = self.clone();
        let client: SharedHttpClient = http_client_fn(move |settings, components| {
            let inner = inner.http_connector(settings, components);
            SharedHttpConnector::new(Timed { inner, calls: calls.clone(), server })
        });
        config.to_builder().http_client(client).build()
    }

    fn note(&self, server: Server, took: std::time::Duration) {
        let line = format!("{}\t{}\t{}\n", server.letter(), now(), took.as_micros());
        // A figure less is no reason to fail a call.
        let _written = self.0.lock().unwrap_or_else(PoisonError::into_inner).write_all(line.as_bytes());
    }
}

fn path(output: &Path) -> PathBuf {
    output.with_extension("calls")
}

#[derive(Debug)]
struct Timed {
    inner: SharedHttpConnector,
    calls: Calls,
    server: Server,
}

impl HttpConnector for Timed {
    fn call(&self, request: HttpRequest) -> HttpConnectorFuture {
        let (call, calls, server, begun) = (self.inner.call(request), self.calls.clone(), self.server, Instant::now());
        HttpConnectorFuture::new(async move {
            let answer = call.await;
            calls.note(server, begun.elapsed());
            answer
        })
    }
}

/// How long some requests took: from sending to the head of the answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Latency {
    micros: Vec<u64>,
}

impl Latency {
    /// What consumers with these outputs wrote down of their requests to the server that were answered in this time, in milliseconds
    /// since the epoch.
    ///
    /// # Errors
    /// A file cannot be read.
    pub fn of<'a>(server: Server, time: Range<u128>, outputs: impl Iterator<Item = &'a Path>) -> anyhow::Result<Self> {
        let mut micros = Vec::new();
        for output in outputs {
            let path = path(output);
            let text = std::fs::read_to_string(&path).with_context(|| path.display().to_string())?;
            let took = |line: &str| {
                let (at, took) = line.strip_prefix(server.letter())?.trim().split_once('\t')?;
                let at: u128 = at.parse().ok()?;
                time.contains(&at).then(|| took.parse::<u64>().ok())?
            };
            micros.extend(text.lines().filter_map(took));
        }
        micros.sort_unstable();
        Ok(Self { micros })
    }

    /// The time that so many of a thousand did not exceed, in milliseconds.
    #[must_use]
    pub fn per_mille(&self, share: usize) -> f64 {
        let at = (self.micros.len() * share / 1000).min(self.micros.len().saturating_sub(1));
        self.micros.get(at).map_or(0.0, |micros| *micros as f64 / 1000.0)
    }
}

impl fmt::Display for Latency {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [half, most, all] = [500, 990, 1000].map(|share| self.per_mille(share));
        write!(f, "{} requests, p50 {half:.1} ms, p99 {most:.1} ms, worst {all:.1} ms", self.micros.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_requests_of_each_server_are_told_apart() {
        let dir = crate::fleet::scratch("calls").expect("made");
        let output = dir.join("w");
        let calls = Calls::beside(&output).expect("made");
        for millis in 1..=100 {
            calls.note(Server::Leases, std::time::Duration::from_millis(millis));
        }
        calls.note(Server::Stream, std::time::Duration::from_micros(500));
        let of = |server| {
            let outputs = [output.as_path()].into_iter();
            Latency::of(server, 0..u128::MAX, outputs).expect("read").to_string()
        };
        let none = Latency::of(Server::Leases, 0..1, [output.as_path()].into_iter()).expect("read");
        assert_eq!(none.per_mille(500), 0.0, "before all of them");
        assert_eq!(of(Server::Leases), "100 requests, p50 51.0 ms, p99 100.0 ms, worst 100.0 ms");
        assert_eq!(of(Server::Stream), "1 requests, p50 0.5 ms, p99 0.5 ms, worst 0.5 ms");
        std::fs::remove_dir_all(dir).expect("removed");
    }
}
