//! The lease table in memory: what every other implementation is compared with.

use std::collections::{BTreeMap, VecDeque};
use std::ops::Bound;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;

use crate::contract::{
    BootstrapMarker, LeaseError, LeaseErrorKind, LeaseTable, MAX_WRITES, SCHEMA_VERSION, ScanCursor, ScanPage,
    TableItem, TableMeta, WorkerItem, WorkerState,
};
use crate::model::{
    GuardedWrite, Lease, LeaseCounter, LeaseGuard, LeaseKey, LeaseWrite, NewLease, StreamArn, WorkerId,
};

const META_KEY: &str = "meta";

/// A [`LeaseTable`] in memory. Clones share one table, as the workers of a fleet do.
///
/// Every call is one step: it neither waits nor fails for reasons of its own. Faults, delays and counts come from the
/// wrappers in [`wrap`](crate::wrap).
#[derive(Debug, Clone)]
pub struct MemoryLeaseTable {
    state: Arc<Mutex<State>>,
    page_size: usize,
}

#[derive(Debug, Default)]
struct State {
    items: BTreeMap<String, Arc<Item>>,
    /// What the newest writes replaced, oldest first; only as many as scans lag behind.
    undo: VecDeque<Vec<(String, Option<Arc<Item>>)>>,
    lag: usize,
    /// Kept with the meta item.
    rings: u64,
}

#[derive(Debug, Clone)]
struct Item {
    body: TableItem,
    /// Attributes that are none of ours: every write leaves them.
    unknown: BTreeMap<String, String>,
}

impl Default for MemoryLeaseTable {
    fn default() -> Self {
        Self::new()
    }
}

impl MemoryLeaseTable {
    /// An empty table whose scans are fresh and come in pages of 1000 items.
    #[must_use]
    pub fn new() -> Self {
        Self { state: Arc::default(), page_size: 1000 }
    }

    /// Sets the number of items that a page of a scan holds; at least one.
    #[must_use]
    pub fn with_page_size(mut self, items: usize) -> Self {
        self.page_size = items.max(1);
        self
    }

    /// Makes scans show the table as it was `writes` writes ago, in every clone. `get` and `worker` stay exact.
    pub fn set_scan_lag(&self, writes: usize) {
        let mut state = self.lock();
        state.lag = writes;
        state.forget();
    }

    /// All items as they are now, in the order of their keys.
    #[must_use]
    pub fn snapshot(&self) -> Vec<TableItem> {
        self.lock().items.values().map(|item| item.body.clone()).collect()
    }

    /// All leases as they are now, in the order of their keys.
    #[must_use]
    pub fn leases(&self) -> Vec<Lease> {
        self.lock().items.values().filter_map(|item| item.lease().cloned()).collect()
    }

    /// Puts an item that is none of ours, over whatever has that key.
    pub fn put_foreign(&self, key: &str, why: &str) {
        let body = TableItem::Foreign { key: key.to_owned(), why: why.to_owned() };
        self.lock().commit(vec![(key.to_owned(), Some(Item::new(body)))]);
    }

    /// Puts a lease as it stands, over whatever has that key: a state that another program or an operator left.
    pub fn put_lease(&self, lease: Lease) {
        self.lock().commit(vec![(lease.key.to_string(), Some(Item::lease_of(lease)))]);
    }

    /// Adds an attribute that this library does not know to an item, and says whether there is such an item.
    pub fn put_attribute(&self, key: &str, name: &str, value: &str) -> bool {
        let mut state = self.lock();
        let Some(item) = state.items.get(key) else { return false };
        let mut item = Item::clone(item);
        item.unknown.insert(name.to_owned(), value.to_owned());
        state.commit(vec![(key.to_owned(), Some(item))]);
        true
    }

    /// The attributes of an item that this library does not know.
    #[must_use]
    pub fn attributes(&self, key: &str) -> BTreeMap<String, String> {
        self.lock().items.get(key).map(|item| item.unknown.clone()).unwrap_or_default()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // No code of others runs under the lock, so a poisoned one still holds a whole state.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Item {
    fn new(body: TableItem) -> Self {
        Self { body, unknown: BTreeMap::new() }
    }

    fn lease_of(lease: Lease) -> Self {
        Self::new(TableItem::Lease(Arc::new(lease)))
    }

    fn lease(&self) -> Option<&Lease> {
        match &self.body {
            TableItem::Lease(lease) => Some(lease),
            TableItem::Worker(_) | TableItem::Marker(_) | TableItem::Meta(_) | TableItem::Foreign { .. } => None,
        }
    }

    /// The same item with another body.
    fn with(&self, body: TableItem) -> Self {
        Self { body, unknown: self.unknown.clone() }
    }

    fn with_lease(&self, lease: Lease) -> Self {
        self.with(TableItem::Lease(Arc::new(lease)))
    }
}

impl State {
    /// Applies one write: all of `changes`, or nothing of it has been seen by anybody.
    fn commit(&mut self, changes: Vec<(String, Option<Item>)>) {
        let mut before = Vec::with_capacity(changes.len());
        for (key, item) in changes {
            let old = match item {
                Some(item) => self.items.insert(key.clone(), Arc::new(item)),
                None => self.items.remove(&key),
            };
            before.push((key, old));
        }
        self.undo.push_back(before);
        self.forget();
    }

    fn forget(&mut self) {
        let surplus = self.undo.len().saturating_sub(self.lag);
        self.undo.drain(..surplus);
    }

    /// The items as a scan sees them.
    fn scanned(&self) -> BTreeMap<String, Arc<Item>> {
        let mut items = self.items.clone();
        for (key, before) in self.undo.iter().rev().flat_map(|write| write.iter().rev()) {
            match before {
                Some(item) => items.insert(key.clone(), item.clone()),
                None => items.remove(key),
            };
        }
        items
    }

    /// A page of `items` after `from`, and the key it ends at if there is more.
    fn page(items: &BTreeMap<String, Arc<Item>>, from: Option<&str>, size: usize) -> ScanPage {
        let after = from.map_or(Bound::Unbounded, Bound::Excluded);
        let mut rest = items.range::<str, _>((after, Bound::Unbounded));
        let (mut page, mut last) = (Vec::with_capacity(size.min(items.len())), None);
        for (key, item) in rest.by_ref().take(size) {
            page.push(item.body.clone());
            last = Some(key);
        }
        let next = rest.next().and(last).map(|key| ScanCursor(key.clone()));
        ScanPage { items: page, next }
    }

    /// The item of a lease that is still as `seen`.
    fn guarded(&self, key: &LeaseKey, seen: &LeaseGuard, op: &'static str) -> Result<(&Item, &Lease), LeaseError> {
        let item = self.items.get(key.as_str());
        match item.and_then(|item| Some((item, item.lease()?))) {
            Some((item, lease)) if seen.matches(lease) => Ok((item, lease)),
            other => Err(conflict(other.map(|(_, lease)| lease), op)),
        }
    }

    /// Deletes an item that is no lease, if there is one and it is the `same`.
    fn delete_own(
        &mut self,
        key: String,
        same: impl Fn(&TableItem) -> bool,
        op: &'static str,
    ) -> Result<(), LeaseError> {
        match self.items.get(&key) {
            None => Ok(()),
            Some(item) if same(&item.body) => {
                self.commit(vec![(key, None)]);
                Ok(())
            }
            Some(_) => Err(conflict(None, op)),
        }
    }

    /// The item of a worker that is still as `seen`.
    fn guarded_worker(&self, seen: &WorkerItem, op: &'static str) -> Result<&Item, LeaseError> {
        match self.items.get(&worker_key(&seen.id)) {
            Some(item) if matches!(&item.body, TableItem::Worker(now) if same_version(now, seen)) => Ok(item),
            _ => Err(conflict(None, op)),
        }
    }
}

fn same_version(now: &WorkerItem, seen: &WorkerItem) -> bool {
    now.counter == seen.counter && now.state == seen.state
}

fn worker_key(worker: &WorkerId) -> String {
    format!("worker/{worker}")
}

fn marker_key(stream: &StreamArn) -> String {
    format!("stream/{stream}")
}

fn conflict(current: Option<&Lease>, operation: &'static str) -> LeaseError {
    LeaseError::new(LeaseErrorKind::Conflict { current: current.cloned().map(Box::new) }, operation)
}

fn invalid(what: String, operation: &'static str) -> LeaseError {
    LeaseError::new(LeaseErrorKind::Invalid { what }, operation)
}

#[async_trait]
impl LeaseTable for MemoryLeaseTable {
    async fn scan(&self, from: Option<ScanCursor>) -> Result<ScanPage, LeaseError> {
        let state = self.lock();
        let from = from.as_ref().map(|cursor| cursor.0.as_str());
        if state.undo.is_empty() {
            return Ok(State::page(&state.items, from, self.page_size));
        }
        Ok(State::page(&state.scanned(), from, self.page_size))
    }

    async fn get(&self, key: &LeaseKey) -> Result<Option<Lease>, LeaseError> {
        match self.lock().items.get(key.as_str()) {
            None => Ok(None),
            Some(item) => match item.lease() {
                Some(lease) => Ok(Some(lease.clone())),
                None => Err(invalid(format!("the item {key} is not a lease"), "get")),
            },
        }
    }

    async fn create(&self, lease: &NewLease) -> Result<Lease, LeaseError> {
        let mut state = self.lock();
        if let Some(item) = state.items.get(lease.key.as_str()) {
            return Err(conflict(item.lease(), "create"));
        }
        let created = lease.created();
        state.commit(vec![(lease.key.to_string(), Some(Item::lease_of(created.clone())))]);
        Ok(created)
    }

    async fn write(&self, key: &LeaseKey, seen: &LeaseGuard, write: &LeaseWrite) -> Result<Lease, LeaseError> {
        let mut state = self.lock();
        let (item, lease) = state.guarded(key, seen, "write")?;
        let next = lease.after(write);
        let item = item.with_lease(next.clone());
        state.commit(vec![(key.to_string(), Some(item))]);
        Ok(next)
    }

    async fn finish(
        &self,
        parent: &LeaseKey,
        seen: &LeaseGuard,
        children: &[NewLease],
    ) -> Result<Vec<Lease>, LeaseError> {
        let mut state = self.lock();
        let (item, lease) = state.guarded(parent, seen, "finish")?;
        let finish = LeaseWrite::finish(children.iter().map(|child| child.shard.clone()).collect());
        let mut changes = vec![(parent.to_string(), Some(item.with_lease(lease.after(&finish))))];
        let mut created = Vec::new();
        for child in children.iter().filter(|child| !state.items.contains_key(child.key.as_str())) {
            created.push(child.created());
            changes.push((child.key.to_string(), Some(Item::lease_of(child.created()))));
        }
        state.commit(changes);
        Ok(created)
    }

    async fn write_all(&self, writes: &[GuardedWrite]) -> Result<(), LeaseError> {
        let op = "write_all";
        if writes.len() > MAX_WRITES {
            return Err(invalid(format!("{} writes are more than {MAX_WRITES}", writes.len()), op));
        }
        let mut state = self.lock();
        let mut changes = Vec::new();
        for GuardedWrite { key, seen, write } in writes {
            let (item, lease) = state.guarded(key, seen, op)?;
            changes.push((key.to_string(), Some(item.with_lease(lease.after(write)))));
        }
        state.commit(changes);
        Ok(())
    }

    async fn delete(&self, key: &LeaseKey, seen: &LeaseGuard) -> Result<(), LeaseError> {
        let mut state = self.lock();
        if state.items.contains_key(key.as_str()) {
            state.guarded(key, seen, "delete")?;
            state.commit(vec![(key.to_string(), None)]);
        }
        Ok(())
    }

    async fn register_worker(&self, worker: &WorkerId, weight: u32) -> Result<WorkerItem, LeaseError> {
        let mut state = self.lock();
        let key = worker_key(worker);
        if state.items.contains_key(&key) {
            return Err(conflict(None, "register_worker"));
        }
        let item = WorkerItem { id: worker.clone(), counter: LeaseCounter(0), state: WorkerState::Live, weight };
        state.commit(vec![(key, Some(Item::new(TableItem::Worker(item.clone()))))]);
        Ok(item)
    }

    async fn worker(&self, worker: &WorkerId) -> Result<Option<WorkerItem>, LeaseError> {
        Ok(self.lock().items.get(&worker_key(worker)).and_then(|item| match &item.body {
            TableItem::Worker(worker) => Some(worker.clone()),
            TableItem::Lease(_) | TableItem::Marker(_) | TableItem::Meta(_) | TableItem::Foreign { .. } => None,
        }))
    }

    async fn write_worker(&self, seen: &WorkerItem, to: WorkerState) -> Result<WorkerItem, LeaseError> {
        let mut state = self.lock();
        let item = state.guarded_worker(seen, "write_worker")?;
        // The weight is what the item has, not what the caller remembers.
        let weight = if let TableItem::Worker(now) = &item.body { now.weight } else { seen.weight };
        let next = WorkerItem { id: seen.id.clone(), counter: seen.counter.next(), state: to, weight };
        let item = item.with(TableItem::Worker(next.clone()));
        state.commit(vec![(worker_key(&seen.id), Some(item))]);
        Ok(next)
    }

    async fn delete_worker(&self, seen: &WorkerItem) -> Result<(), LeaseError> {
        let mut state = self.lock();
        let key = worker_key(&seen.id);
        if state.items.contains_key(&key) {
            state.guarded_worker(seen, "delete_worker")?;
            state.commit(vec![(key, None)]);
        }
        Ok(())
    }

    async fn fix_marker(&self, marker: &BootstrapMarker) -> Result<BootstrapMarker, LeaseError> {
        let mut state = self.lock();
        let key = marker_key(&marker.stream);
        match state.items.get(&key).map(|item| &item.body) {
            Some(TableItem::Marker(stands)) => Ok(stands.clone()),
            Some(_) => Err(invalid(format!("the item {key} is not a bootstrap marker"), "fix_marker")),
            None => {
                state.commit(vec![(key, Some(Item::new(TableItem::Marker(marker.clone()))))]);
                Ok(marker.clone())
            }
        }
    }

    async fn complete_marker(&self, stream: &StreamArn) -> Result<(), LeaseError> {
        let mut state = self.lock();
        let key = marker_key(stream);
        let Some(item) = state.items.get(&key) else { return Err(conflict(None, "complete_marker")) };
        let TableItem::Marker(marker) = &item.body else { return Err(conflict(None, "complete_marker")) };
        let complete = BootstrapMarker { complete: true, ..marker.clone() };
        let item = item.with(TableItem::Marker(complete));
        state.commit(vec![(key, Some(item))]);
        Ok(())
    }

    async fn delete_marker(&self, seen: &BootstrapMarker) -> Result<(), LeaseError> {
        let same = |item: &TableItem| matches!(item, TableItem::Marker(now) if now.at == seen.at);
        self.lock().delete_own(marker_key(&seen.stream), same, "delete_marker")
    }

    async fn fix_meta(&self, meta: &TableMeta) -> Result<TableMeta, LeaseError> {
        let mut state = self.lock();
        match state.items.get(META_KEY).map(|item| &item.body) {
            Some(TableItem::Meta(stands)) if stands.schema > SCHEMA_VERSION => Err(invalid(
                format!(
                    "the table has schema {}, and this version knows schemas up to {SCHEMA_VERSION}: update it",
                    stands.schema
                ),
                "fix_meta",
            )),
            Some(TableItem::Meta(stands)) => Ok(*stands),
            Some(_) => Err(invalid(format!("the item {META_KEY} is not this library's meta item"), "fix_meta")),
            None => {
                state.commit(vec![(META_KEY.to_owned(), Some(Item::new(TableItem::Meta(*meta))))]);
                Ok(*meta)
            }
        }
    }

    async fn delete_meta(&self, seen: &TableMeta) -> Result<(), LeaseError> {
        let same = |item: &TableItem| matches!(item, TableItem::Meta(now) if now == seen);
        let mut state = self.lock();
        state.delete_own(META_KEY.to_owned(), same, "delete_meta")?;
        state.rings = 0;
        Ok(())
    }

    async fn ring(&self) -> Result<(), LeaseError> {
        let mut state = self.lock();
        match state.items.get(META_KEY).map(|item| &item.body) {
            Some(TableItem::Meta(_)) => state.rings += 1,
            _ => return Err(conflict(None, "ring")),
        }
        Ok(())
    }

    async fn rings(&self) -> Result<u64, LeaseError> {
        Ok(self.lock().rings)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Owner, ShardId};

    fn new_lease(shard: &str) -> NewLease {
        NewLease {
            counter: LeaseCounter(0),
            key: shard.parse().expect("a key"),
            stream: "arn:aws:dynamodb:eu-west-1:123456789012:table/T/stream/l".parse().expect("an ARN"),
            shard: shard.parse::<ShardId>().expect("a shard"),
            owner: None,
            parent: None,
            starting_sequence: None,
            start_at: None,
            root: true,
        }
    }

    #[tokio::test]
    async fn a_lagging_scan_shows_the_table_as_it_was_some_writes_ago() {
        let table = MemoryLeaseTable::new().with_page_size(1);
        table.set_scan_lag(2);
        let owner: Owner = "w".parse().expect("an owner");
        let a = table.create(&new_lease("a")).await.expect("created");
        table.create(&new_lease("b")).await.expect("created");
        assert_eq!(table.scan(None).await.expect("scanned").items, []);

        let taken = table.write(&a.key, &a.guard(), &LeaseWrite::take(owner)).await.expect("taken");
        assert_eq!(table.scan(None).await.expect("scanned").items, [TableItem::Lease(Arc::new(a.clone()))]);
        assert_eq!(table.get(&a.key).await.expect("read"), Some(taken.clone()));

        table.delete(&taken.key, &taken.guard()).await.expect("deleted");
        let first = table.scan(None).await.expect("scanned");
        assert_eq!(first.items, [TableItem::Lease(Arc::new(a))]);
        let second = table.scan(first.next).await.expect("scanned");
        assert_eq!((second.items.len(), second.next), (1, None));

        table.set_scan_lag(0);
        assert_eq!(table.scan(None).await.expect("scanned").items, table.snapshot());
        assert_eq!(table.snapshot().len(), 1);
    }
}
