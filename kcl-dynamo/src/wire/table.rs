//! What writers and consumers need of the table service: DescribeTable, PutItem, DeleteItem, BatchWriteItem.
//!
//! Conditions are not carried out, and a request that has one is refused: ignoring it would be worse.
//! Source: the API reference of DynamoDB.

use std::collections::BTreeSet;

use kcl_core::codec::encode_item;
use kcl_core::reference::TableError;
use kcl_core::{StreamViewType, TableName};
use serde_dynamo::Item;
use serde_json::value::RawValue;
use serde_json::{Value, json};

use super::WireService;
use super::fields::{Checks, Fields, checked, list};
use super::item::{self, KeySchema};
use super::protocol::Refusal;
use super::streams::{epoch_seconds, set};

/// Parameters that change what a write does, and that are not known here.
const UNSUPPORTED: [&str; 4] = ["ConditionExpression", "Expected", "ConditionalOperator", "ExpressionAttributeValues"];
/// What `BatchWriteItem` takes at once.
const MOST_WRITES: usize = 25;

/// `DescribeTable`.
pub(super) fn describe_table(service: &WireService, fields: &Fields<'_>) -> Result<Vec<u8>, Refusal> {
    let table = required_table(fields)?;
    let missing = |_: TableError| Refusal::not_found(format!("Requested resource not found: Table: {table} not found"));
    let view = service.stream.table(&table).map_err(missing)?;
    let schema = service.key_schema(&table)?;
    let definitions: Vec<Value> = schema.attributes().collect();
    let mut description = json!({
        "TableName": table.as_str(),
        "TableStatus": "ACTIVE",
        "CreationDateTime": epoch_seconds(view.created_at),
        "KeySchema": key_schema(&view.keys),
        "AttributeDefinitions": definitions,
        "ItemCount": view.items,
        "TableSizeBytes": 0,
        "BillingModeSummary": { "BillingMode": "PAY_PER_REQUEST" },
        "ProvisionedThroughput": { "NumberOfDecreasesToday": 0, "ReadCapacityUnits": 0, "WriteCapacityUnits": 0 },
    });
    if let Some(latest) = &view.latest_stream {
        let arn = latest.as_str().split("/stream/").next().unwrap_or_default();
        set(&mut description, "TableArn", Some(arn.into()));
        set(&mut description, "LatestStreamArn", Some(latest.as_str().into()));
        set(&mut description, "LatestStreamLabel", Some(latest.label().into()));
    }
    if let Some(stream) = &view.stream {
        let shown = service.stream.table_of(stream).map(|stream| stream.view_type);
        let shown = shown.unwrap_or(StreamViewType::NewAndOldImages);
        let specification = json!({ "StreamEnabled": true, "StreamViewType": shown.as_str() });
        set(&mut description, "StreamSpecification", Some(specification));
    }
    Ok(json!({ "Table": description }).to_string().into_bytes())
}

/// `PutItem`.
pub(super) fn put_item(service: &WireService, fields: &Fields<'_>) -> Result<Vec<u8>, Refusal> {
    let (table, wants_old) = checked_write(fields, "item", "Item")?;
    let write = Write::put(&service.key_schema(&table)?, checked(fields.raw("Item"))?)?;
    write.apply(service, &table).map(|old| attributes(old.filter(|_| wants_old)))
}

/// `DeleteItem`.
pub(super) fn delete_item(service: &WireService, fields: &Fields<'_>) -> Result<Vec<u8>, Refusal> {
    let (table, wants_old) = checked_write(fields, "key", "Key")?;
    let write = Write::delete(&service.key_schema(&table)?, checked(fields.raw("Key"))?)?;
    write.apply(service, &table).map(|old| attributes(old.filter(|_| wants_old)))
}

/// `BatchWriteItem`. Everything is checked before anything is written.
pub(super) fn batch_write_item(service: &WireService, fields: &Fields<'_>) -> Result<Vec<u8>, Refusal> {
    let requests = fields.structure("RequestItems")?;
    let mut checks = Checks::default();
    checks.required("requestItems", requests.as_ref());
    checks.finish()?;
    let requests = checked(requests)?;
    let mut writes = Vec::new();
    for (name, entries) in requests.members() {
        let table = table_name(name)?;
        let schema = service.key_schema(&table)?;
        let mut keys = BTreeSet::new();
        for entry in list(entries)? {
            let write = Write::of_batch(&schema, entry)?;
            if !keys.insert(write.key_text(&schema)) {
                return Err(Refusal::validation("Provided list of item keys contains duplicates"));
            }
            writes.push((table.clone(), write));
        }
    }
    if writes.is_empty() {
        let must = "have length greater than or equal to 1";
        let mut checks = Checks::default();
        checks.broken("requestItems", "'{}'", must);
        checks.finish()?;
    }
    if writes.len() > MOST_WRITES {
        return Err(Refusal::validation("Too many items requested for the BatchWriteItem call"));
    }
    for (table, write) in writes {
        write.apply(service, &table)?;
    }
    Ok(json!({ "UnprocessedItems": {} }).to_string().into_bytes())
}

/// A write that was checked.
enum Write {
    Put(Item),
    Delete(Item),
}

impl Write {
    fn put(schema: &KeySchema, item: &RawValue) -> Result<Self, Refusal> {
        let item = item::decode(item)?;
        schema.check_item(&item)?;
        Ok(Self::Put(item))
    }

    fn delete(schema: &KeySchema, key: &RawValue) -> Result<Self, Refusal> {
        let key = item::decode(key)?;
        schema.check_key(&key)?;
        Ok(Self::Delete(key))
    }

    fn of_batch(schema: &KeySchema, entry: &RawValue) -> Result<Self, Refusal> {
        let entry = Fields::of(entry)?;
        match (entry.structure("PutRequest")?, entry.structure("DeleteRequest")?) {
            (Some(put), None) => Self::put(schema, checked(put.raw("Item"))?),
            (None, Some(delete)) => Self::delete(schema, checked(delete.raw("Key"))?),
            _ => Err(Refusal::validation(
                "Supplied AttributeValue has more than one datatypes set, must contain exactly one of the supported datatypes",
            )),
        }
    }

    fn key_text(&self, schema: &KeySchema) -> Vec<u8> {
        let (Self::Put(item) | Self::Delete(item)) = self;
        let mut text = Vec::new();
        encode_item(&schema.key_of(item), &mut text);
        text
    }

    /// The item that was there before.
    fn apply(self, service: &WireService, table: &TableName) -> Result<Option<Item>, Refusal> {
        let written = match self {
            Self::Put(item) => service.stream.replace_item(table, item),
            Self::Delete(key) => service.stream.take_item(table, &key),
        };
        written.map(|(_recorded, old)| old).map_err(|error| match error {
            TableError::NoTable(_) => Refusal::not_found("Requested resource not found"),
            other => Refusal::validation(other.to_string()),
        })
    }
}

/// The table of a write, and whether the item that was there is asked for.
fn checked_write(fields: &Fields<'_>, member: &str, name: &str) -> Result<(TableName, bool), Refusal> {
    let values = fields.text("ReturnValues")?;
    let mut checks = Checks::default();
    checks.required(member, fields.raw(name).as_ref());
    checks.finish()?;
    let table = required_table(fields)?;
    if let Some(parameter) = UNSUPPORTED.iter().find(|name| fields.raw(name).is_some()) {
        return Err(Refusal::validation(format!("{parameter} is not carried out by this server")));
    }
    match values.as_deref() {
        None | Some("NONE") => Ok((table, false)),
        Some("ALL_OLD") => Ok((table, true)),
        Some(_) => Err(Refusal::validation("Return values set to invalid value")),
    }
}

fn attributes(old: Option<Item>) -> Vec<u8> {
    let Some(old) = old else { return b"{}".to_vec() };
    let mut body = b"{\"Attributes\":".to_vec();
    encode_item(&old, &mut body);
    body.push(b'}');
    body
}

fn required_table(fields: &Fields<'_>) -> Result<TableName, Refusal> {
    let name = fields.text("TableName")?;
    let mut checks = Checks::default();
    checks.required("tableName", name.as_ref());
    table_length(&mut checks, name.as_ref());
    checks.finish()?;
    table_name(&checked(name)?)
}

pub(super) fn table_length(checks: &mut Checks, name: Option<&String>) {
    checks.length("tableName", name, (3, 1024));
}

/// A table given by its name, or by its ARN.
pub(super) fn table_name(text: &str) -> Result<TableName, Refusal> {
    text.parse().map_err(|_malformed| {
        let mut checks = Checks::default();
        checks.broken("tableName", format!("'{text}'"), "satisfy regular expression pattern: [a-zA-Z0-9_.-]+");
        checks.finish().err().unwrap_or_else(|| Refusal::validation("Invalid TableName"))
    })
}

pub(super) fn key_schema(names: &[String]) -> Value {
    let kinds = ["HASH", "RANGE"];
    names.iter().zip(kinds).map(|(name, kind)| json!({ "AttributeName": name, "KeyType": kind })).collect()
}
