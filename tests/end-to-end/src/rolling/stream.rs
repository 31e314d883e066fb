//! A stream of many shards behind the wire server, written to while a fleet works.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use anyhow::Context;
use kcl_core::reference::{ReferenceStream, StreamOptions};
use kcl_dynamo::wire::{ServerOptions, WireServer, WireService};
use kcl_dynamo::{Rt, StreamViewType, TableName};
use serde_dynamo::{AttributeValue, Item};
use tokio::task::JoinHandle;

use crate::tables::Version;

/// From one burst of writes to the next.
const BURST: Duration = Duration::from_millis(50);

/// The server, and who writes to its stream.
#[derive(Debug)]
pub struct ManyShards {
    /// Where it answers.
    pub server: WireServer,
    written: Arc<AtomicUsize>,
    enough: Arc<AtomicBool>,
    late: Arc<AtomicU64>,
    writer: JoinHandle<anyhow::Result<()>>,
}

impl ManyShards {
    /// Starts a server with the table `name` and begins to write `per_second` records to it, to `keys` keys in turn.
    ///
    /// # Errors
    /// The server cannot be started.
    pub async fn start(name: &str, shards: usize, keys: usize, per_second: usize) -> anyhow::Result<Self> {
        let rt = Rt::tokio()?;
        let mut options = StreamOptions::default();
        options.region = "eu-west-1".to_owned();
        options.keep_history = false;
        // Deploys of ten processes would ask for the shards more often than the service allows an account.
        options.describes_per_second = None;
        let service = ReferenceStream::new(rt.clone(), options);
        let table: TableName = name.parse()?;
        service.create_table(&table, &["pk"], StreamViewType::NewImage, shards)?;
        let server = WireServer::start(WireService::new(service.clone(), &rt), ServerOptions::default()).await?;
        let (written, enough) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicBool::new(false)));
        let late = Arc::new(AtomicU64::new(0));
        let (count, stop, latest) = (written.clone(), enough.clone(), late.clone());
        let writer = tokio::spawn(async move {
            let begun = tokio::time::Instant::now();
            let mut pace = tokio::time::interval(BURST);
            while !stop.load(Ordering::Relaxed) {
                let tick = pace.tick().await;
                let lateness = u64::try_from(tick.elapsed().as_millis()).unwrap_or(u64::MAX);
                latest.fetch_max(lateness, Ordering::Relaxed);
                let due = (begun.elapsed().as_secs_f64() * per_second as f64) as usize;
                for write in count.load(Ordering::Relaxed)..due {
                    service.put(&table, item(&Version::nth(write, keys)))?;
                    count.fetch_add(1, Ordering::Relaxed);
                }
            }
            Ok(())
        });
        Ok(Self { server, written, enough, late, writer })
    }

    /// By how much a burst of writes came too late, at worst: a shard is silent for that long without the fleet's doing.
    #[must_use]
    pub fn lateness(&self) -> Duration {
        Duration::from_millis(self.late.load(Ordering::Relaxed))
    }

    /// Stops writing; returns how many records there are.
    ///
    /// # Errors
    /// The writer failed.
    pub async fn finish(&mut self) -> anyhow::Result<usize> {
        self.enough.store(true, Ordering::Relaxed);
        (&mut self.writer).await.context("the writer panicked")??;
        Ok(self.written.load(Ordering::Relaxed))
    }
}

fn item(version: &Version) -> Item {
    let mut item = Item::default();
    item.insert("pk".to_owned(), AttributeValue::S(version.pk.clone()));
    item.insert("version".to_owned(), AttributeValue::N(version.version.to_string()));
    item
}
