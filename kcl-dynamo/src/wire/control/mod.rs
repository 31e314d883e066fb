//! The control interface: what a test says and asks, over HTTP with JSON, whatever language it is written in.
//!
//! Every command is a `POST` to `/_control/<command>` with a JSON object, and answers a JSON object. What cannot be done is
//! answered with status 400 and `{"error": …}`. `GET /_control` lists the commands. Times are seconds, items are in
//! DynamoDB JSON. `docs/wire-protocol.md` describes each command; its test compares the two.

mod shards;
mod tables;
mod weather;

use kcl_core::reference::TableError;
use kcl_core::{StreamArn, TableName};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::WireService;
use super::protocol::{Answer, Refusal};

/// A command: its name, what it does, and how it is done.
struct Command {
    name: &'static str,
    what: &'static str,
    run: fn(&WireService, &[u8]) -> Outcome,
}

type Outcome = Result<Value, Failure>;

/// Why a command was not carried out.
#[derive(Debug, thiserror::Error)]
enum Failure {
    #[error("the command's JSON cannot be used: {0}")]
    Json(#[from] serde_json::Error),
    #[error(transparent)]
    Table(#[from] TableError),
    #[error(transparent)]
    Order(#[from] super::OrderError),
    /// What the service answers to such an item or key.
    #[error("the service refuses that: {}: {}", .0.code, .0.message)]
    Refused(Refusal),
    #[error("{0}")]
    Other(String),
}

impl From<Refusal> for Failure {
    fn from(refusal: Refusal) -> Self {
        Self::Refused(refusal)
    }
}

impl Failure {
    fn other(why: impl std::fmt::Display) -> Self {
        Self::Other(why.to_string())
    }
}

const COMMANDS: &[Command] = &[
    Command { name: "create-table", what: "makes a table with an enabled stream", run: tables::create },
    Command {
        name: "delete-table",
        what: "deletes a table; its stream stays readable for 24 hours",
        run: tables::delete,
    },
    Command { name: "enable-stream", what: "enables a new stream of a table that has none", run: tables::enable },
    Command { name: "disable-stream", what: "disables a table's stream; its shards close", run: tables::disable },
    Command { name: "put", what: "writes an item", run: tables::put },
    Command { name: "update", what: "sets attributes of an item", run: tables::update },
    Command { name: "delete", what: "deletes an item", run: tables::remove },
    Command { name: "expire-item", what: "deletes an item as the time-to-live does", run: tables::expire },
    Command { name: "split", what: "closes a shard and opens two children", run: shards::split },
    Command {
        name: "roll",
        what: "closes a shard, or every open one, and opens one child for each",
        run: shards::roll,
    },
    Command { name: "trim", what: "trims a shard's records", run: shards::trim },
    Command { name: "remove-shard", what: "takes a closed shard out of the stream", run: shards::remove },
    Command { name: "hide-shard", what: "lets a listed shard be unknown for a while", run: shards::hide },
    Command { name: "shards", what: "lists a stream's shards as they are", run: shards::list },
    Command { name: "streams", what: "lists the tables and all streams", run: shards::streams },
    Command { name: "throttle", what: "throttles an operation for a while", run: weather::throttle },
    Command { name: "fault", what: "lets the next calls of an operation meet a fault", run: weather::fault },
    Command { name: "clear-faults", what: "takes back all faults that have not happened", run: weather::clear_faults },
    Command { name: "delay-visibility", what: "sets how late listings tell of shards", run: weather::delay_visibility },
    Command {
        name: "expire-iterators",
        what: "lets every iterator given so far be expired",
        run: weather::expire_iterators,
    },
    Command { name: "advance", what: "moves the clock ahead", run: weather::advance },
    Command { name: "configure", what: "changes limits and the form of pages", run: weather::configure },
    Command { name: "calls", what: "tells how often each stream operation was called", run: weather::calls },
];

/// Answers `command`, which is what stands behind the interface's path.
pub(super) fn answer(service: &WireService, method: &str, command: &str, body: &[u8]) -> Answer {
    if command.is_empty() && method == "GET" {
        let commands: Value =
            COMMANDS.iter().map(|command| (command.name.to_owned(), Value::from(command.what))).collect();
        return Answer::plain(200, &json!({ "commands": commands }));
    }
    let Some(found) = COMMANDS.iter().find(|known| known.name == command) else {
        let why = format!("there is no command {command:?}; GET {} lists them", super::CONTROL_PATH);
        return Answer::plain(404, &json!({ "error": why }));
    };
    if method != "POST" {
        return Answer::plain(405, &json!({ "error": "commands are sent by POST" }));
    }
    match (found.run)(service, body) {
        Ok(value) => Answer::plain(200, &value),
        Err(failure) => Answer::plain(400, &json!({ "error": failure.to_string() })),
    }
}

/// Reads a command. An empty body is an empty object.
fn read<T: DeserializeOwned>(body: &[u8]) -> Result<T, Failure> {
    Ok(serde_json::from_slice(if body.is_empty() { b"{}" } else { body })?)
}

/// The stream that a command is about: by its ARN, or the newest of a table.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Of {
    stream: Option<String>,
    table: Option<String>,
}

impl Of {
    fn stream(&self, service: &WireService) -> Result<StreamArn, Failure> {
        match (&self.stream, &self.table) {
            (Some(stream), None) => stream.parse().map_err(Failure::other),
            (None, Some(table)) => {
                let table: TableName = table.parse().map_err(Failure::other)?;
                let latest = service.stream.table(&table)?.latest_stream;
                latest.ok_or_else(|| TableError::NotEnabled(table).into())
            }
            _ => Err(Failure::other("name a stream by `stream` or by `table`")),
        }
    }
}

fn table(name: &str) -> Result<TableName, Failure> {
    name.parse().map_err(Failure::other)
}

#[cfg(test)]
pub(super) fn names() -> impl Iterator<Item = &'static str> {
    COMMANDS.iter().map(|command| command.name)
}
