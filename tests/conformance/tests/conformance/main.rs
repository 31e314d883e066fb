//! Every implementation of a contract against the contract.

mod codec_vs_sdk;
mod lease_table;
mod lease_table_dynamodb_local;
mod lease_table_dynoxide;
mod sdks;
mod source_dynamodb_local;
mod source_wire;
