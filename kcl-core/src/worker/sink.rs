//! A failure sink that writes a file.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::path::Path;
use std::sync::Mutex;

use async_trait::async_trait;

use crate::contract::{FailureSink, ProcessError, ShardInfo};
use crate::record::RecordBatch;
use crate::surface::lock;

/// Appends each record that could not be processed to a file, one JSON object on a line:
/// `{"stream":…,"shard":…,"error":…,"record":…}`, the record in the form that Lambda events have.
///
/// An empty line may stand where a write was cut off. `Ok` is returned once the lines are on disk. The writes are short and block their thread.
#[derive(Debug)]
pub struct JsonLinesSink {
    file: Mutex<Lines>,
}

#[derive(Debug)]
struct Lines {
    file: File,
    /// What stands last may be half a line.
    torn: bool,
}

#[derive(serde::Serialize)]
struct Line<'a> {
    stream: &'a str,
    shard: &'a str,
    error: &'a str,
    record: &'a serde_json::value::RawValue,
}

impl JsonLinesSink {
    /// Appends to the file at `path`, made if it does not exist.
    ///
    /// # Errors
    /// The file cannot be opened for writing.
    pub fn append(path: impl AsRef<Path>) -> io::Result<Self> {
        let file = OpenOptions::new().create(true).append(true).open(path)?;
        // A line that a crash has torn must not swallow the next one.
        let begun = file.metadata()?.len() > 0;
        Ok(Self { file: Mutex::new(Lines { file, torn: begun }) })
    }
}

#[async_trait]
impl FailureSink for JsonLinesSink {
    async fn set_aside(
        &self,
        shard: &ShardInfo,
        records: &RecordBatch,
        error: &ProcessError,
    ) -> Result<(), ProcessError> {
        let error = error.to_string();
        let mut lines = Vec::new();
        for record in records.iter() {
            let json = serde_json::value::RawValue::from_string(record.to_json(Some(&shard.stream)))?;
            let line =
                Line { stream: shard.stream.as_str(), shard: shard.shard.as_str(), error: &error, record: &json };
            serde_json::to_writer(&mut lines, &line)?;
            lines.push(b'\n');
        }
        let mut file = lock(&self.file);
        if file.torn {
            file.file.write_all(b"\n")?;
        }
        file.torn = true;
        file.file.write_all(&lines)?;
        file.torn = false;
        file.file.sync_data()?;
        Ok(())
    }
}
