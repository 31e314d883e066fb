//! Prints what it costs fleets when workers come, go and die:
//! `cargo run --release -p sim --example figures -- per-worker 10x100 100x10000`, workers × shards.
//!
//! Words before the sizes: `per-lease` (the default) or `per-worker`, how a death is seen; `quick`, shards may be moved sooner, and only one
//! worker comes or goes at a time; `crash`, only one worker's crash. A fleet of a hundred workers and ten thousand shards takes minutes.

use std::time::Duration;

use kcl_core::Liveness;
use sim::figures::{Changes, HEAD, Measure};

fn main() {
    let (mut quick, mut changes, mut liveness) = (false, Changes::All, Liveness::PerLease);
    println!("{HEAD}");
    for word in std::env::args().skip(1) {
        match word.as_str() {
            "quick" => (quick, changes) = (true, Changes::OfOne),
            "crash" => changes = Changes::Crash,
            "per-lease" => liveness = Liveness::PerLease,
            "per-worker" => liveness = Liveness::PerWorker,
            size => match parsed(size) {
                Some((workers, shards)) => {
                    let mut measure = Measure::new(workers, shards);
                    measure.changes = changes;
                    measure.config = measure.config.with_liveness(Some(liveness));
                    print(measure, quick);
                }
                None => eprintln!("{size} is not of the form 10x100"),
            },
        }
    }
}

fn parsed(size: &str) -> Option<(usize, usize)> {
    let (workers, shards) = size.split_once('x')?;
    Some((workers.parse().ok()?, shards.parse().ok()?))
}

fn print(mut measure: Measure, quick: bool) {
    if quick {
        let soon = Duration::from_secs(5);
        measure.config = measure.config.with_min_hold(soon).with_settle(soon);
    }
    measure.tell(1, |figure| println!("{figure}"));
}
