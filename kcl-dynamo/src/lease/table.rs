//! The lease table's calls.

use std::collections::BTreeSet;

use async_trait::async_trait;
use aws_sdk_dynamodb::Client;
use aws_sdk_dynamodb::error::SdkError;
use aws_sdk_dynamodb::operation::delete_item::DeleteItemError;
use aws_sdk_dynamodb::operation::put_item::PutItemError;
use aws_sdk_dynamodb::operation::transact_write_items::TransactWriteItemsError;
use aws_sdk_dynamodb::operation::update_item::UpdateItemError;
use aws_sdk_dynamodb::types::error::TransactionCanceledException;
use aws_sdk_dynamodb::types::{
    AttributeValue, ConditionCheck, Put, ReturnValue, ReturnValuesOnConditionCheckFailure, TransactWriteItem, Update,
};
use kcl_core::{
    BootstrapMarker, GuardedWrite, Lease, LeaseCounter, LeaseError, LeaseErrorKind, LeaseGuard, LeaseKey, LeaseTable,
    LeaseWrite, MAX_WRITES, NewLease, SCHEMA_VERSION, ScanCursor, ScanPage, StreamArn, TableMeta, WorkerId, WorkerItem,
    WorkerState,
};

use super::convert::{
    Item, ItemError, item_of, lease_of, marker_item, marker_key, marker_of, meta_item, meta_of, n, rings_of, s,
    table_item, worker_item, worker_key, worker_of, worker_state,
};
use super::error::{Call, Place};
use super::schema::*;
use super::update::Expressions;

const ABSENT: &str = "attribute_not_exists(leaseKey)";
const ALL_OLD: ReturnValuesOnConditionCheckFailure = ReturnValuesOnConditionCheckFailure::AllOld;

/// A [`LeaseTable`] in DynamoDB.
///
/// Items have the schema of the Java library, so that a fleet can move from it and back. Every write is conditional,
/// sent once (the caller retries, because only it knows what a lost answer means), and keeps attributes it does not
/// know. Times are stored in whole milliseconds. Cheap to clone; made by [`DynamoLeaseTable::open`].
#[derive(Debug, Clone)]
pub struct DynamoLeaseTable {
    pub(super) client: Client,
    pub(crate) place: Place,
    pub(super) page_size: Option<i32>,
}

type Result<T> = std::result::Result<T, LeaseError>;

impl DynamoLeaseTable {
    async fn read_item(&self, key: &str, call: Call) -> Result<Option<Item>> {
        let get = self.client.get_item().table_name(&self.place.table).key(LEASE_KEY, s(key)).consistent_read(true);
        let got = get.send().await.map_err(|error| call.classify(error, &self.place))?;
        Ok(got.item)
    }

    /// Puts an item where there is none. The inner error is the item that stands there, if the service told.
    async fn put_absent(&self, item: Item, call: Call) -> Result<std::result::Result<(), Option<Item>>> {
        let put = self
            .client
            .put_item()
            .table_name(&self.place.table)
            .set_item(Some(item))
            .condition_expression(ABSENT)
            .return_values_on_condition_check_failure(ALL_OLD);
        match put.send().await {
            Ok(_) => Ok(Ok(())),
            Err(SdkError::ServiceError(answer)) if answer.err().is_conditional_check_failed_exception() => {
                match answer.into_err() {
                    PutItemError::ConditionalCheckFailedException(refused) => Ok(Err(refused.item)),
                    _ => Ok(Err(None)),
                }
            }
            Err(error) => Err(call.classify(error, &self.place)),
        }
    }

    /// Puts an item where there is none, and returns the one that stands.
    async fn put_first(&self, item: Item, call: Call) -> Result<Item> {
        let key = item.get(LEASE_KEY).and_then(|key| key.as_s().ok()).cloned().unwrap_or_default();
        match self.put_absent(item.clone(), call).await? {
            Ok(()) => Ok(item),
            Err(Some(stands)) => Ok(stands),
            Err(None) => match self.read_item(&key, Call { action: "GetItem", ..call }).await? {
                Some(stands) => Ok(stands),
                // It was deleted in between, which this library never does.
                None => Err(call.error(LeaseErrorKind::Throttled)),
            },
        }
    }

    async fn update(&self, key: &str, with: Expressions, call: Call) -> Result<Item> {
        let update = self
            .client
            .update_item()
            .table_name(&self.place.table)
            .key(LEASE_KEY, s(key))
            .condition_expression(with.condition)
            .update_expression(with.update)
            .set_expression_attribute_names(Some(with.names))
            .set_expression_attribute_values(Some(with.values))
            .return_values(ReturnValue::AllNew)
            .return_values_on_condition_check_failure(ALL_OLD);
        match update.send().await {
            Ok(done) => done.attributes.ok_or_else(|| call.invalid("the service returned no item for a write")),
            Err(SdkError::ServiceError(answer)) if answer.err().is_conditional_check_failed_exception() => {
                match answer.into_err() {
                    UpdateItemError::ConditionalCheckFailedException(refused) => Err(conflict(refused.item(), call)),
                    _ => Err(conflict(None, call)),
                }
            }
            Err(error) => Err(call.classify(error, &self.place)),
        }
    }

    async fn delete_item(&self, key: &str, with: Expressions, call: Call) -> Result<()> {
        let delete = self
            .client
            .delete_item()
            .table_name(&self.place.table)
            .key(LEASE_KEY, s(key))
            .condition_expression(format!("{ABSENT} OR ({})", with.condition))
            .set_expression_attribute_names(Some(with.names))
            .set_expression_attribute_values(Some(with.values))
            .return_values_on_condition_check_failure(ALL_OLD);
        match delete.send().await {
            Ok(_) => Ok(()),
            Err(SdkError::ServiceError(answer)) if answer.err().is_conditional_check_failed_exception() => {
                match answer.into_err() {
                    DeleteItemError::ConditionalCheckFailedException(refused) => Err(conflict(refused.item(), call)),
                    _ => Err(conflict(None, call)),
                }
            }
            Err(error) => Err(call.classify(error, &self.place)),
        }
    }

    /// A write as a part of a transaction.
    fn write_step(
        &self,
        key: &LeaseKey,
        seen: &LeaseGuard,
        write: &LeaseWrite,
        call: Call,
    ) -> Result<TransactWriteItem> {
        let with = Expressions::write(seen, write);
        let update = Update::builder()
            .table_name(&self.place.table)
            .key(LEASE_KEY, s(key.as_str()))
            .condition_expression(with.condition)
            .update_expression(with.update)
            .set_expression_attribute_names(Some(with.names))
            .set_expression_attribute_values(Some(with.values))
            .return_values_on_condition_check_failure(ALL_OLD)
            .build()
            .map_err(|error| call.invalid("a request lacks a field").with_source(error))?;
        Ok(TransactWriteItem::builder().update(update).build())
    }

    fn finish_steps(
        &self,
        parent: &LeaseKey,
        seen: &LeaseGuard,
        children: &[NewLease],
        existing: &BTreeSet<usize>,
        call: Call,
    ) -> Result<Vec<TransactWriteItem>> {
        let broken = |error| call.invalid("a request lacks a field").with_source(error);
        let write = LeaseWrite::finish(children.iter().map(|child| child.shard.clone()).collect());
        let mut steps = vec![self.write_step(parent, seen, &write, call)?];
        for (index, child) in children.iter().enumerate() {
            let step = TransactWriteItem::builder();
            steps.push(if existing.contains(&index) {
                let check = ConditionCheck::builder()
                    .table_name(&self.place.table)
                    .key(LEASE_KEY, s(child.key.as_str()))
                    .condition_expression("attribute_exists(leaseKey)");
                step.condition_check(check.build().map_err(broken)?).build()
            } else {
                let put = Put::builder()
                    .table_name(&self.place.table)
                    .set_item(Some(item_of(child)))
                    .condition_expression(ABSENT);
                step.put(put.build().map_err(broken)?).build()
            });
        }
        Ok(steps)
    }

    /// What a cancelled transaction of guarded writes means: one that was refused, or a reason of the service's.
    fn refused(&self, cancelled: &TransactionCanceledException, call: Call) -> LeaseError {
        let reasons = cancelled.cancellation_reasons();
        match reasons.iter().find(|reason| reason.code() == Some("ConditionalCheckFailed")) {
            Some(refused) => conflict(refused.item(), call),
            None => call.error(call.cancelled(reasons.iter().filter_map(|reason| reason.code()), &self.place)),
        }
    }

    /// Reads the reasons of a cancelled transaction: a refused parent ends it, a child that is not as was thought
    /// (`existing`) is noted for the next round, and anything else is an error.
    fn cancelled(
        &self,
        cancelled: &TransactionCanceledException,
        existing: &mut BTreeSet<usize>,
        call: Call,
    ) -> Result<()> {
        let reasons = cancelled.cancellation_reasons();
        let failed = |code: Option<&str>| code == Some("ConditionalCheckFailed");
        if let Some(parent) = reasons.first().filter(|reason| failed(reason.code())) {
            return Err(conflict(parent.item(), call));
        }
        let mut changed = false;
        for (child, _) in reasons.iter().skip(1).enumerate().filter(|(_, reason)| failed(reason.code())) {
            changed = true;
            if !existing.remove(&child) {
                existing.insert(child);
            }
        }
        if changed {
            return Ok(());
        }
        Err(call.error(call.cancelled(reasons.iter().filter_map(|reason| reason.code()), &self.place)))
    }
}

/// A refused condition, with the lease that refused it where there is one.
fn conflict(item: Option<&Item>, call: Call) -> LeaseError {
    let current = item.and_then(|item| lease_of(item).ok()).map(Box::new);
    call.error(LeaseErrorKind::Conflict { current })
}

fn read<T>(key: &str, read: std::result::Result<T, ItemError>, call: Call) -> Result<T> {
    read.map_err(|why| call.invalid(format!("the item {key} is not what its key says: {why}")).with_source(why))
}

/// The condition that these attributes are still as `item` has them.
fn same_values(item: &Item, attributes: &[&str]) -> Expressions {
    let mut with = Expressions::default();
    let mut conditions = Vec::new();
    for (index, name) in attributes.iter().enumerate() {
        let (name_of, value_of) = (format!("#n{index}"), format!(":v{index}"));
        conditions.push(format!("{name_of} = {value_of}"));
        with.names.insert(name_of, (*name).to_owned());
        with.values.extend(item.get(*name).map(|value| (value_of, value.clone())));
    }
    with.condition = conditions.join(" AND ");
    with
}

/// The condition that a worker is still as `seen`.
fn worker_guard(seen: &WorkerItem) -> Expressions {
    Expressions {
        condition: "#counter = :seenCounter AND #state = :seenState".to_owned(),
        update: String::new(),
        names: [("#counter", WORKER_COUNTER), ("#state", WORKER_STATE)]
            .map(|(placeholder, name)| (placeholder.to_owned(), name.to_owned()))
            .into(),
        values: [(":seenCounter", n(seen.counter.0)), (":seenState", worker_state(seen.state))]
            .map(|(placeholder, value)| (placeholder.to_owned(), value))
            .into(),
    }
}

#[async_trait]
impl LeaseTable for DynamoLeaseTable {
    async fn scan(&self, from: Option<ScanCursor>) -> Result<ScanPage> {
        let call = Call::read("scan", "Scan");
        let mut scan = self.client.scan().table_name(&self.place.table).set_limit(self.page_size);
        if let Some(ScanCursor(key)) = from {
            scan = scan.exclusive_start_key(LEASE_KEY, s(&key));
        }
        let page = scan.send().await.map_err(|error| call.classify(error, &self.place))?;
        let next = match page.last_evaluated_key() {
            Some(last) if !last.is_empty() => match last.get(LEASE_KEY) {
                Some(AttributeValue::S(key)) => Some(ScanCursor(key.clone())),
                _ => return Err(call.invalid("the scan ended at a key without leaseKey")),
            },
            _ => None,
        };
        Ok(ScanPage { items: page.items().iter().map(table_item).collect(), next })
    }

    async fn get(&self, key: &LeaseKey) -> Result<Option<Lease>> {
        let call = Call::read("get", "GetItem");
        let item = self.read_item(key.as_str(), call).await?;
        item.map(|item| read(key.as_str(), lease_of(&item), call)).transpose()
    }

    async fn create(&self, lease: &NewLease) -> Result<Lease> {
        let call = Call::write("create", "PutItem");
        let item = item_of(lease);
        match self.put_absent(item.clone(), call).await? {
            Ok(()) => read(lease.key.as_str(), lease_of(&item), call),
            Err(stands) => Err(conflict(stands.as_ref(), call)),
        }
    }

    async fn write(&self, key: &LeaseKey, seen: &LeaseGuard, write: &LeaseWrite) -> Result<Lease> {
        let call = Call::write("write", "UpdateItem");
        let item = self.update(key.as_str(), Expressions::write(seen, write), call).await?;
        read(key.as_str(), lease_of(&item), call)
    }

    async fn finish(&self, parent: &LeaseKey, seen: &LeaseGuard, children: &[NewLease]) -> Result<Vec<Lease>> {
        // A transaction needs the permission of each of its parts.
        let call = Call::write("finish", "UpdateItem, dynamodb:PutItem and dynamodb:ConditionCheckItem");
        let mut existing = BTreeSet::new();
        // Each round but the last learns of a child; two more for children that come and go meanwhile.
        for _ in 0..children.len() + 3 {
            let steps = self.finish_steps(parent, seen, children, &existing, call)?;
            match self.client.transact_write_items().set_transact_items(Some(steps)).send().await {
                Ok(_) => {
                    let new = children.iter().enumerate().filter(|(index, _)| !existing.contains(index));
                    return new.map(|(_, new)| read(new.key.as_str(), lease_of(&item_of(new)), call)).collect();
                }
                Err(SdkError::ServiceError(answer)) if answer.err().is_transaction_canceled_exception() => {
                    if let TransactWriteItemsError::TransactionCanceledException(cancelled) = answer.err() {
                        self.cancelled(cancelled, &mut existing, call)?;
                    }
                }
                Err(error) => return Err(call.classify(error, &self.place)),
            }
        }
        Err(call.error(LeaseErrorKind::Throttled))
    }

    async fn write_all(&self, writes: &[GuardedWrite]) -> Result<()> {
        let call = Call::write("write_all", "UpdateItem");
        match writes {
            [] => return Ok(()),
            [one] => return self.write(&one.key, &one.seen, &one.write).await.map(drop),
            many if many.len() > MAX_WRITES => {
                return Err(call.invalid(format!("{} writes are more than {MAX_WRITES}", many.len())));
            }
            _ => {}
        }
        let step = |one: &GuardedWrite| self.write_step(&one.key, &one.seen, &one.write, call);
        let steps: Vec<TransactWriteItem> = writes.iter().map(step).collect::<Result<_>>()?;
        match self.client.transact_write_items().set_transact_items(Some(steps)).send().await {
            Ok(_) => Ok(()),
            Err(SdkError::ServiceError(answer)) => {
                if let TransactWriteItemsError::TransactionCanceledException(cancelled) = answer.err() {
                    return Err(self.refused(cancelled, call));
                }
                Err(call.classify(SdkError::ServiceError(answer), &self.place))
            }
            Err(error) => Err(call.classify(error, &self.place)),
        }
    }

    async fn delete(&self, key: &LeaseKey, seen: &LeaseGuard) -> Result<()> {
        self.delete_item(key.as_str(), Expressions::guard(seen), Call::write("delete", "DeleteItem")).await
    }

    async fn register_worker(&self, worker: &WorkerId, weight: u32) -> Result<WorkerItem> {
        let call = Call::write("register_worker", "PutItem");
        let item = WorkerItem { id: worker.clone(), counter: LeaseCounter(0), state: WorkerState::Live, weight };
        match self.put_absent(worker_item(&item), call).await? {
            Ok(()) => Ok(item),
            Err(_) => Err(conflict(None, call)),
        }
    }

    async fn worker(&self, worker: &WorkerId) -> Result<Option<WorkerItem>> {
        let call = Call::read("worker", "GetItem");
        let key = worker_key(worker);
        let item = self.read_item(&key, call).await?;
        item.map(|item| read(&key, worker_of(&item), call)).transpose()
    }

    async fn write_worker(&self, seen: &WorkerItem, state: WorkerState) -> Result<WorkerItem> {
        let call = Call::write("write_worker", "UpdateItem");
        let key = worker_key(&seen.id);
        let mut with = worker_guard(seen);
        with.update = "SET #counter = :counter, #state = :state".to_owned();
        with.values.insert(":counter".to_owned(), n(seen.counter.next().0));
        with.values.insert(":state".to_owned(), worker_state(state));
        let item = self.update(&key, with, call).await?;
        read(&key, worker_of(&item), call)
    }

    async fn delete_worker(&self, seen: &WorkerItem) -> Result<()> {
        self.delete_item(&worker_key(&seen.id), worker_guard(seen), Call::write("delete_worker", "DeleteItem")).await
    }

    async fn fix_marker(&self, marker: &BootstrapMarker) -> Result<BootstrapMarker> {
        let call = Call::write("fix_marker", "PutItem");
        let stands = self.put_first(marker_item(marker), call).await?;
        read(&marker_key(&marker.stream), marker_of(&stands), call)
    }

    async fn complete_marker(&self, stream: &StreamArn) -> Result<()> {
        let call = Call::write("complete_marker", "UpdateItem");
        let with = Expressions {
            condition: "#type = :type".to_owned(),
            update: "SET #complete = :true".to_owned(),
            names: [("#type".to_owned(), ENTITY_TYPE.to_owned()), ("#complete".to_owned(), MARKER_COMPLETE.to_owned())]
                .into(),
            values: [(":type".to_owned(), s(TYPE_MARKER)), (":true".to_owned(), AttributeValue::Bool(true))].into(),
        };
        self.update(&marker_key(stream), with, call).await.map(drop)
    }

    async fn delete_marker(&self, seen: &BootstrapMarker) -> Result<()> {
        let with = same_values(&marker_item(seen), &[ENTITY_TYPE, MARKER_AT]);
        self.delete_item(&marker_key(&seen.stream), with, Call::write("delete_marker", "DeleteItem")).await
    }

    async fn fix_meta(&self, meta: &TableMeta) -> Result<TableMeta> {
        let call = Call::write("fix_meta", "PutItem");
        let item = meta_item(meta).ok_or_else(|| call.invalid("this liveness cannot be stored"))?;
        let written = item.clone();
        let stands = self.put_first(item, call).await?;
        let found = read(META_KEY, meta_of(&stands), call)?;
        if found.schema > SCHEMA_VERSION && stands != written {
            let what = format!(
                "table {} has schema {}, and this version knows schemas up to {SCHEMA_VERSION}: update it",
                self.place.table, found.schema
            );
            return Err(call.invalid(what));
        }
        Ok(found)
    }

    async fn delete_meta(&self, seen: &TableMeta) -> Result<()> {
        let call = Call::write("delete_meta", "DeleteItem");
        let item = meta_item(seen).ok_or_else(|| call.invalid("this liveness cannot be stored"))?;
        let with = same_values(&item, &[ENTITY_TYPE, META_SCHEMA, META_LIVENESS, META_KEY_FORM]);
        self.delete_item(META_KEY, with, call).await
    }

    async fn ring(&self) -> Result<()> {
        let with = Expressions {
            condition: "#type = :type".to_owned(),
            update: "ADD #rings :one".to_owned(),
            names: [("#type".to_owned(), ENTITY_TYPE.to_owned()), ("#rings".to_owned(), META_RINGS.to_owned())].into(),
            values: [(":type".to_owned(), s(TYPE_META)), (":one".to_owned(), n(1))].into(),
        };
        self.update(META_KEY, with, Call::write("ring", "UpdateItem")).await.map(drop)
    }

    async fn rings(&self) -> Result<u64> {
        let call = Call::read("rings", "GetItem");
        let item = self.read_item(META_KEY, call).await?;
        item.map_or(Ok(0), |item| read(META_KEY, rings_of(&item), call))
    }
}
