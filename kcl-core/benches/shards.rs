//! What many shards cost one worker: memory, threads, and CPU time while nothing is written.
//!
//! ```sh
//! cargo bench -p kcl-core --bench shards                      # 10 000 shards, PerLease
//! cargo bench -p kcl-core --bench shards -- 2000 per-worker
//! ```
//! The stream and the lease table are in memory and are there before the worker; what grows from then on is counted, the table's
//! leases with it. Nothing of the byte budget is used, since no record is written. Reads `/proc`, so it wants Linux.

use std::fs;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use kcl_core::reference::{MemoryLeaseTable, ReferenceStream, StreamOptions};
use kcl_core::{
    Liveness, ProcessError, RecordBatch, RecordProcessor, Rt, ShardContext, ShardInfo, StreamViewType, Worker,
};

/// Long enough for every shard to be read many times.
const IDLE: Duration = Duration::from_secs(20);

fn main() {
    let mut arguments = std::env::args().skip(1);
    let shards: usize = arguments.find_map(|argument| argument.parse().ok()).unwrap_or(10_000);
    // One of them in a process: the other would find memory that was used before.
    let per_worker = arguments.any(|argument| argument == "per-worker");
    let liveness = if per_worker { Liveness::PerWorker } else { Liveness::PerLease };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().expect("a runtime");
    runtime.block_on(measure(shards, liveness));
}

async fn measure(shards: usize, liveness: Liveness) {
    let rt = Rt::tokio().expect("a thread");
    let mut options = StreamOptions::unthrottled();
    options.describe_page = shards;
    let service = ReferenceStream::new(rt.clone(), options);
    let table = "orders".parse().expect("a legal name");
    let stream = service.create_table(&table, &["id"], StreamViewType::NewImage, shards).expect("a stream");
    let worker = Worker::builder("bench", Arc::new(service), Arc::new(MemoryLeaseTable::new()))
        .stream(stream.as_str())
        .processor(|_: &ShardInfo| Nothing)
        .configure(|config| config.with_liveness(Some(liveness)))
        .rt(rt.clone())
        .build()
        .await
        .expect("a worker");
    let handle = worker.handle();
    let before = Usage::now();
    let watched = worker.run_until(async {
        while handle.status().shards.len() < shards {
            rt.sleep(Duration::from_millis(200)).await;
        }
        rt.sleep(IDLE).await;
        let settled = Usage::now();
        rt.sleep(IDLE).await;
        let after = Usage::now();
        let mib = |kib: u64| kib as f64 / 1024.0;
        println!(
            "shards={shards} liveness={liveness:?} grown_mib={:.0} peak_mib={:.0} kib_a_shard={:.1} threads={} cpu_share={:.2}",
            mib(after.resident - before.resident),
            mib(after.peak - before.resident),
            (after.resident - before.resident) as f64 / shards as f64,
            after.threads,
            after.cpu.saturating_sub(settled.cpu).as_secs_f64() / IDLE.as_secs_f64(),
        );
    });
    watched.await.expect("a report");
}

/// A processor that is there.
struct Nothing;

#[async_trait]
impl RecordProcessor for Nothing {
    async fn process_records(&mut self, _: &RecordBatch, _: &ShardContext) -> Result<(), ProcessError> {
        Ok(())
    }
}

/// What the process uses: KiB, threads, and CPU time of all of them.
struct Usage {
    resident: u64,
    peak: u64,
    threads: u64,
    cpu: Duration,
}

impl Usage {
    fn now() -> Self {
        let status = fs::read_to_string("/proc/self/status").expect("Linux");
        let number = |name: &str| -> u64 {
            let line = status.lines().find_map(|line| line.strip_prefix(name)).expect("a line");
            line.split_whitespace().next().and_then(|number| number.parse().ok()).expect("a number")
        };
        let stat = fs::read_to_string("/proc/self/stat").expect("Linux");
        // After the command in parentheses, user and system time are the 12th and the 13th, in ticks of 10 ms.
        let times = stat.rsplit(')').next().unwrap_or_default().split_whitespace().skip(11).take(2);
        let ticks: u64 = times.filter_map(|ticks| ticks.parse::<u64>().ok()).sum();
        Self {
            resident: number("VmRSS:"),
            peak: number("VmHWM:"),
            threads: number("Threads:"),
            cpu: Duration::from_millis(10 * ticks),
        }
    }
}
