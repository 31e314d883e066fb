//! The servers that the contracts' suites need.

pub mod dynamodb_local;
pub mod dynoxide_server;
pub mod items;
pub mod java_schema;
pub mod wire;
