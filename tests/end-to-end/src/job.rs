//! What a process is asked to do. It is handed over as JSON in the one argument of the process.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::Context;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

/// What the process `consumer` does: works in a fleet, and writes down what it is handed.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Consume {
    /// The server of the streams.
    pub endpoint: String,
    /// The server of the lease table, where that is another one.
    pub lease_endpoint: Option<String>,
    /// The fleet.
    pub application: String,
    /// The worker's name.
    pub worker: String,
    /// The tables whose changes are consumed.
    pub tables: Vec<String>,
    /// D.
    pub lease_duration: Duration,
    /// Whether only workers, not leases, show that they live.
    #[serde(default)]
    pub per_worker: bool,
    /// Where deliveries are written down.
    pub output: PathBuf,
}

/// What the process `writer` does: writes items whose versions count up for each key.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Write {
    /// The server.
    pub endpoint: String,
    /// The tables, all written to at the same time.
    pub tables: Vec<String>,
    /// How many items each table is sent.
    pub items: usize,
    /// How many keys each table has. At least 25, so that no batch names a key twice.
    pub keys: usize,
    /// The most items a second for each table.
    pub per_second: usize,
}

/// The job of this process.
///
/// # Errors
/// There is not exactly one argument, or it is not such a job.
pub fn of_this_process<T: DeserializeOwned>() -> anyhow::Result<T> {
    let mut arguments = std::env::args().skip(1);
    let (Some(job), None) = (arguments.next(), arguments.next()) else { anyhow::bail!("usage: <job as JSON>") };
    serde_json::from_str(&job).with_context(|| format!("no job: {job}"))
}
