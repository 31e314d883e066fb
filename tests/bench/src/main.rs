//! What the whole consumer costs beside a bare SDK loop, on DynamoDB Local. `docs/benchmarks.md` says how to read it.
//!
//! ```sh
//! cargo run --release -p bench                    # CPU time of a record, in turns
//! cargo run --release -p bench -- memory          # peak memory
//! cargo run --release -p bench -- cpu 10000 20 5  # records, passes, rounds
//! cargo run --release -p bench -- wire            # the wire server: pages a second, and its share beside a consumer
//! ```
//! Every measurement is a process of its own (this program, started again), so that the server's time, that of the other
//! ways, and memory used before count in none.

mod consume;
mod server;
mod wire;

use std::fmt;
use std::fs;
use std::process::{Command, Stdio};
use std::str::FromStr;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};

use crate::consume::Look;
use crate::server::Server;

/// Clock ticks a second in `/proc`, on every Linux that runs on today's machines.
const TICKS: u32 = 100;

/// A way to read the stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Way {
    Sdk,
    WorkerKeys,
    WorkerImages,
}

impl Way {
    const ALL: [Self; 3] = [Self::Sdk, Self::WorkerKeys, Self::WorkerImages];

    fn name(self) -> &'static str {
        match self {
            Self::Sdk => "sdk",
            Self::WorkerKeys => "worker-keys",
            Self::WorkerImages => "worker-images",
        }
    }
}

impl fmt::Display for Way {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl FromStr for Way {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> anyhow::Result<Self> {
        Self::ALL.into_iter().find(|way| way.name() == text).with_context(|| format!("{text} is no way to read"))
    }
}

/// What one process used.
#[derive(Debug, Clone, Copy)]
struct Used {
    cpu: Duration,
    wall: Duration,
    peak_kib: u64,
}

fn main() -> anyhow::Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match arguments[..] {
        ["child", way, endpoint, stream, records, passes] => {
            child(way.parse()?, endpoint, stream, records.parse()?, passes.parse()?)
        }
        [] => cpu(10_000, 10, 5),
        ["cpu", records, passes, rounds] => cpu(records.parse()?, passes.parse()?, rounds.parse()?),
        ["memory"] => memory(20_000, 3),
        ["wire"] => wire::measure(10_000, 20, 3),
        ["wire", records, passes, rounds] => wire::measure(records.parse()?, passes.parse()?, rounds.parse()?),
        ["wire-serve", records] => wire::serve(records.parse()?),
        ["wire-read", way, endpoint, stream, records, passes] => {
            wire::read(way.parse()?, endpoint, stream, records.parse()?, passes.parse()?)
        }
        _ => bail!("usage: bench [cpu <records> <passes> <rounds> | memory | wire [<records> <passes> <rounds>]]"),
    }
}

fn runtime() -> anyhow::Result<tokio::runtime::Runtime> {
    Ok(tokio::runtime::Builder::new_current_thread().enable_all().build()?)
}

/// What a record costs in one round of one way, in microseconds.
#[derive(Debug, Clone, Copy)]
struct Cost {
    /// Starting and stopping included, once for each pass.
    whole: f64,
    /// Without them.
    record: f64,
}

/// Every way in turns; prints each round and the medians.
fn cpu(records: usize, passes: usize, rounds: usize) -> anyhow::Result<()> {
    let server = Server::start()?;
    let runtime = runtime()?;
    let stream = runtime.block_on(server::fill(&server.endpoint, "orders", records))?;
    let single = runtime.block_on(server::fill(&server.endpoint, "single", 1))?;
    println!("{records} records of 1 KB, {passes} passes in a process, {rounds} rounds in turns");
    let mut costs: [Vec<Cost>; 3] = Default::default();
    for round in 1..=rounds {
        for (way, costs) in Way::ALL.into_iter().zip(&mut costs) {
            let all = measure(way, &server, &stream, records, passes)?;
            let start = measure(way, &server, &single, 1, passes)?;
            #[expect(clippy::cast_precision_loss, reason = "a figure for people")]
            let each = |cpu: Duration| cpu.as_secs_f64() * 1e6 / (records * passes) as f64;
            let cost = Cost { whole: each(all.cpu), record: each(all.cpu.saturating_sub(start.cpu)) };
            println!(
                "round {round} {way:14} {:5.2} us a record, {:5.2} without starting and stopping (CPU {:.2?} and {:.2?}, wall {:.2?})",
                cost.whole, cost.record, all.cpu, start.cpu, all.wall
            );
            costs.push(cost);
        }
    }
    let whole = costs.each_ref().map(|costs| median(costs.iter().map(|cost| cost.whole).collect()));
    let record = costs.each_ref().map(|costs| median(costs.iter().map(|cost| cost.record).collect()));
    for (what, [sdk, keys, images]) in [("whole", whole), ("without starting and stopping", record)] {
        println!("median, {what}: sdk {sdk:.2} us, worker-keys {keys:.2} us, worker-images {images:.2} us a record");
        println!("  worker-keys/sdk = {:.3} (to reach: 0.45)", keys / sdk);
        println!("  worker-images/sdk = {:.3} (to reach: 0.65)", images / sdk);
    }
    Ok(())
}

fn median(mut figures: Vec<f64>) -> f64 {
    figures.sort_by(f64::total_cmp);
    figures.get(figures.len() / 2).copied().unwrap_or(f64::NAN)
}

/// The peak of each way over one catch-up.
fn memory(records: usize, rounds: usize) -> anyhow::Result<()> {
    let server = Server::start()?;
    let stream = runtime()?.block_on(server::fill(&server.endpoint, "orders", records))?;
    for round in 1..=rounds {
        for way in Way::ALL {
            let used = measure(way, &server, &stream, records, 1)?;
            println!("round {round} {way:14} peak {:.1} MB", used.peak_kib as f64 * 1024.0 / 1e6);
        }
    }
    Ok(())
}

/// Runs one way in a process of its own.
fn measure(way: Way, server: &Server, stream: &str, records: usize, passes: usize) -> anyhow::Result<Used> {
    let begun = Instant::now();
    let child = Command::new(std::env::current_exe()?)
        .args(["child", way.name(), &server.endpoint, stream, &records.to_string(), &passes.to_string()])
        .stderr(Stdio::inherit())
        .output()?;
    let wall = begun.elapsed();
    anyhow::ensure!(child.status.success(), "{way} failed");
    let text = String::from_utf8(child.stdout)?;
    let mut figures = text.split_whitespace().map(str::parse::<u64>);
    let mut next = || figures.next().context("a figure is missing")?.context("a figure is no number");
    Ok(Used { cpu: Duration::from_millis(next()?), wall, peak_kib: next()? })
}

/// Reads the stream, and prints the CPU time in milliseconds and the peak memory in KiB of this process.
fn child(way: Way, endpoint: &str, stream: &str, records: usize, passes: usize) -> anyhow::Result<()> {
    runtime()?.block_on(async {
        let client = aws_sdk_dynamodbstreams::Client::new(&server::config(endpoint));
        for pass in 0..passes {
            let application = format!("bench-{}-{pass}", std::process::id());
            match way {
                Way::Sdk => consume::sdk(&client, stream, records).await?,
                Way::WorkerKeys => consume::worker(endpoint, stream, records, &application, Look::Keys).await?,
                Way::WorkerImages => consume::worker(endpoint, stream, records, &application, Look::Image).await?,
            }
        }
        anyhow::Ok(())
    })?;
    println!("{} {}", cpu_time()?.as_millis(), peak_kib()?);
    Ok(())
}

/// User and system time of all threads that this process has and had.
fn cpu_time() -> anyhow::Result<Duration> {
    cpu_time_of("self")
}

/// User and system time of a process, by its number.
fn cpu_time_of(process: &str) -> anyhow::Result<Duration> {
    let stat = fs::read_to_string(format!("/proc/{process}/stat"))?;
    // The name may hold blanks; it ends with the last bracket, and the state is the third field.
    let (_name, fields) = stat.rsplit_once(')').context("an unknown form of stat")?;
    let ticks = fields.split_whitespace().skip(11).take(2).map(str::parse::<u32>).sum::<Result<u32, _>>()?;
    Ok(Duration::from_secs(1) * ticks / TICKS)
}

fn peak_kib() -> anyhow::Result<u64> {
    let status = fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).context("no peak")?;
    Ok(line.trim().trim_end_matches(" kB").parse()?)
}
