//! Prints what it costs fleets when workers come, go and die:
//! `cargo run --release -p sim --example figures -- 10x100 100x10000`, workers × shards.
//!
//! A fleet of a hundred workers and ten thousand shards takes minutes. With `quick` before the sizes, shards may be moved sooner,
//! and only one worker comes or goes at a time.

use std::time::Duration;

use sim::figures::{HEAD, Measure};

fn main() {
    let mut sizes: Vec<String> = std::env::args().skip(1).collect();
    let quick = sizes.first().is_some_and(|first| first == "quick");
    if quick {
        sizes.remove(0);
    }
    println!("{HEAD}");
    for size in sizes {
        let parsed =
            size.split_once('x').and_then(|(workers, shards)| Some((workers.parse().ok()?, shards.parse().ok()?)));
        let Some((workers, shards)) = parsed else {
            eprintln!("{size} is not of the form 10x100");
            continue;
        };
        let mut measure = Measure::new(workers, shards);
        if quick {
            let soon = Duration::from_secs(5);
            measure.config = measure.config.with_min_hold(soon).with_settle(soon);
            measure.thirds = false;
        }
        for figure in measure.run(1) {
            println!("{figure}");
        }
    }
}
