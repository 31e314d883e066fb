//! Runs one steady fleet, for profilers. Instructions tell more than time on a machine that does other work too:
//! `valgrind --tool=callgrind target/release/examples/speed 3x4 0.2`, workers × shards, and virtual hours.

use kcl_core::WorkerConfig;

fn main() {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let Some((workers, shards, hours)) = parsed(&words) else {
        return eprintln!("usage: speed 3x4 0.2");
    };
    let mut plan = sim::scenario::steady(1, workers, shards, hours);
    plan.config = WorkerConfig::default().with_liveness(plan.config.liveness);
    let run = sim::scenario::run(&plan);
    let hours = run.lasted.as_secs_f64() / 3600.0;
    println!("{hours:.3} fleet-hours, {} polls, trace {:016x}", run.polls, run.trace);
    if let Some(broken) = run.broken {
        println!("{broken}");
    }
}

fn parsed(words: &[String]) -> Option<(usize, usize, f64)> {
    let [size, hours] = words else { return None };
    let (workers, shards) = size.split_once('x')?;
    Some((workers.parse().ok()?, shards.parse().ok()?, hours.parse().ok()?))
}
