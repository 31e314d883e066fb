//! Every implementation of a contract against the contract.

mod codec_vs_sdk;
mod java_and_back;
mod lease_table;
mod lease_table_dynamodb_local;
mod lease_table_dynoxide;
mod reader_registry;
mod sdks;
mod source_dynamodb_local;
mod source_wire;
