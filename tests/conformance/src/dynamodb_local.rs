//! DynamoDB Local, started for a test and stopped with it.
//!
//! It is looked for in `$DYNAMODB_LOCAL_DIR`, else in `target/dynamodb-local` of the workspace, where
//! `.ci/fetch-dynamodb-local` puts it; nothing is downloaded here. Where it is absent a test says so and passes, unless
//! `KCL_REQUIRE_DYNAMODB_LOCAL=1`.
//!
//! It gets slower with every stream record it holds, so start one for each heavy test. It listens on all interfaces.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use aws_sdk_dynamodb::config::{BehaviorVersion, Credentials, Region, SharedCredentialsProvider};
use aws_types::SdkConfig;

/// How long a start may take. The machine may be busy with other tests.
const START_LIMIT: Duration = Duration::from_secs(60);

/// How often another port is tried, when the one that was free has been taken meanwhile.
const PORTS_TRIED: usize = 3;

/// What came of a start.
#[derive(Debug)]
pub enum Started {
    /// It runs until this is dropped.
    Running(LocalServer),
    /// It is not on this machine, or cannot run here.
    Absent(String),
}

impl Started {
    /// The server, or `None` after printing why there is none.
    #[must_use]
    pub fn or_skip(self, test: &str) -> Option<LocalServer> {
        match self {
            Self::Running(server) => Some(server),
            Self::Absent(reason) => {
                eprintln!("{test} is skipped: {reason}");
                None
            }
        }
    }
}

fn is_required() -> bool {
    std::env::var("KCL_REQUIRE_DYNAMODB_LOCAL").is_ok_and(|value| value == "1")
}

/// A DynamoDB Local of this test's own. Dropping it stops it, also while a panic unwinds.
#[derive(Debug)]
pub struct LocalServer {
    /// Where it answers: `http://127.0.0.1:<port>`.
    pub endpoint: String,
    child: Child,
}

/// Starts one. Returns when it answers.
///
/// # Panics
/// It is absent and `KCL_REQUIRE_DYNAMODB_LOCAL=1`; or it is there and does not start, which is no reason to skip a test.
#[must_use]
pub fn start() -> Started {
    let dir = directory();
    match find(&dir) {
        Ok(()) => Started::Running(launch(&dir).expect("DynamoDB Local starts where it is installed")),
        Err(reason) => {
            assert!(!is_required(), "KCL_REQUIRE_DYNAMODB_LOCAL=1, but {reason}");
            Started::Absent(reason)
        }
    }
}

fn directory() -> PathBuf {
    std::env::var_os("DYNAMODB_LOCAL_DIR")
        .map_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target/dynamodb-local"), PathBuf::from)
}

/// Whether one could be started from `dir`, and if not, why.
fn find(dir: &Path) -> Result<(), String> {
    if !dir.join("DynamoDBLocal.jar").is_file() || !dir.join("DynamoDBLocal_lib").is_dir() {
        return Err(format!(
            "there is no DynamoDB Local in {} (.ci/fetch-dynamodb-local puts it there)",
            dir.display()
        ));
    }
    let java = Command::new("java").arg("-version").stdout(Stdio::null()).stderr(Stdio::null()).status();
    match java {
        Ok(status) if status.success() => Ok(()),
        Ok(status) => Err(format!("java does not work: {status}")),
        Err(e) => Err(format!("there is no java to run DynamoDB Local: {e}")),
    }
}

fn launch(dir: &Path) -> anyhow::Result<LocalServer> {
    let mut last = None;
    for _port in 0..PORTS_TRIED {
        match launch_once(dir) {
            Ok(server) => return Ok(server),
            Err(e) => last = Some(e),
        }
    }
    Err(last.context("no port was tried")?)
}

fn launch_once(dir: &Path) -> anyhow::Result<LocalServer> {
    let port = free_port()?;
    let child = Command::new("java")
        .args(["-Xmx512m", "-Djava.library.path=DynamoDBLocal_lib", "-jar", "DynamoDBLocal.jar"])
        .args(["-inMemory", "-sharedDb", "-disableTelemetry", "-port", &port.to_string()])
        .current_dir(dir)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .context("java cannot be run")?;
    let mut server = LocalServer { endpoint: format!("http://127.0.0.1:{port}"), child };
    let begun = Instant::now();
    while begun.elapsed() < START_LIMIT {
        let answers = answers(port);
        // Asked after the answer came: had the port been taken, another server may be the one that answers.
        if let Some(status) = server.child.try_wait()? {
            bail!("DynamoDB Local ended at once: {status}");
        }
        if answers {
            return Ok(server);
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    bail!("DynamoDB Local does not answer within {START_LIMIT:?}")
}

fn free_port() -> anyhow::Result<u16> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).context("no free port")?;
    Ok(listener.local_addr()?.port())
}

/// Whether something that speaks HTTP is there. The service refuses such a request, but it answers.
fn answers(port: u16) -> bool {
    let ask = || -> std::io::Result<bool> {
        let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port))?;
        stream.set_read_timeout(Some(Duration::from_secs(5)))?;
        stream.write_all(b"GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")?;
        let mut start = [0; 5];
        stream.read_exact(&mut start)?;
        Ok(&start == b"HTTP/")
    };
    ask().unwrap_or(false)
}

impl LocalServer {
    /// A configuration that leads there, for any client and for the library.
    #[must_use]
    pub fn config(&self) -> SdkConfig {
        config(&self.endpoint)
    }

    /// A client of its tables.
    #[must_use]
    pub fn dynamodb(&self) -> aws_sdk_dynamodb::Client {
        aws_sdk_dynamodb::Client::new(&self.config())
    }

    /// A client of its streams.
    #[must_use]
    pub fn streams(&self) -> aws_sdk_dynamodbstreams::Client {
        aws_sdk_dynamodbstreams::Client::new(&self.config())
    }
}

impl Drop for LocalServer {
    fn drop(&mut self) {
        // It may have ended by itself; nobody is left to be told.
        let _ended = self.child.kill();
        let _reaped = self.child.wait();
    }
}

/// A configuration for whatever listens at `endpoint`, with credentials that only a stand-in accepts.
#[must_use]
pub fn config(endpoint: &str) -> SdkConfig {
    let credentials = Credentials::new("test", "test", None, None, "test");
    SdkConfig::builder()
        .behavior_version(BehaviorVersion::latest())
        .region(Region::new("eu-west-1"))
        .credentials_provider(SharedCredentialsProvider::new(credentials))
        .endpoint_url(endpoint)
        .build()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_absent_server_is_told_with_the_remedy() {
        let reason = find(Path::new("/nowhere")).expect_err("there is none");
        assert!(reason.contains("/nowhere") && reason.contains(".ci/fetch-dynamodb-local"), "{reason}");
    }

    #[test]
    fn a_server_stops_when_its_test_panics() {
        let Some(server) = start().or_skip("a_server_stops_when_its_test_panics") else { return };
        let port = server.endpoint.rsplit(':').next().and_then(|port| port.parse().ok()).expect("a port");
        assert!(answers(port));
        let panicked = std::panic::catch_unwind(move || {
            let _running = server;
            panic!("as a test does that fails");
        });
        assert!(panicked.is_err());
        assert!(!answers(port));
    }
}
