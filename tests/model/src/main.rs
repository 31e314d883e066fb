//! Searches one setting, or all of the table.
//!
//! ```text
//! ownership-model table
//! ownership-model lease|worker [workers=2] [children=1] [d=2] [loose=1] [without=Fence+LapseIsFinal] …
//! ```

use std::time::Instant;

use ownership_model::catalogue::{Case, kept, lease_without, worker_without};
use ownership_model::rules::{Clause, Mode, Setting};
use ownership_model::search::search;

fn main() {
    let args: Vec<String> = std::env::args().skip(1).collect();
    if args.iter().any(|arg| arg == "table") { table() } else { one(&args) }
}

fn table() {
    let begun = Instant::now();
    println!("| mode | without | bounds | broken | states | s | as expected |\n|---|---|---|---|---|---|---|");
    let (mut caught, mut as_expected) = (0, 0);
    let run = |cases: &[Case]| {
        for case in cases {
            let outcome = case.run();
            println!("{}", case.row(&outcome));
            caught += usize::from(outcome.found.broken.is_some());
            as_expected += usize::from(outcome.as_expected);
        }
        cases.len()
    };
    let (kept, out) = (kept(), [lease_without(), worker_without()].concat());
    let searches = [kept.as_slice(), out.as_slice()].map(run).iter().sum::<usize>();
    println!(
        "clauses={} caught={caught} as_expected={as_expected}/{searches} seconds={:.0}",
        out.len(),
        begun.elapsed().as_secs_f64()
    );
}

fn one(args: &[String]) {
    let mode = if args.iter().any(|arg| arg == "worker") { Mode::PerWorker } else { Mode::PerLease };
    let mut rules = Setting::new(mode);
    for arg in args {
        match arg.split_once('=') {
            Some((key, value)) => set(&mut rules, key, value),
            None if arg == "worker" || arg == "lease" => {}
            None => eprintln!("unknown: {arg}"),
        }
    }
    let found = search(&rules, true);
    if let Some((broken, way)) = &found.broken {
        println!("{broken}:");
        way.iter().enumerate().for_each(|(n, step)| println!("{:3}  {step}", n + 1));
    }
    println!(
        "mode={:?} states={} steps={} depth={} ended={} violations={} seconds={:.1}",
        rules.mode,
        found.states,
        found.steps,
        found.depth,
        found.ended,
        u8::from(found.broken.is_some()),
        found.took.as_secs_f64()
    );
}

fn set(rules: &mut Setting, key: &str, value: &str) {
    let number = value.parse::<usize>().unwrap_or_default();
    let flag = number > 0;
    match key {
        "workers" => rules.workers = number,
        "children" => rules.children = number,
        "d" => rules.d = number as u8,
        "records" => rules.records = number as u8,
        "loose" => rules.loose = number,
        "hidden" => rules.hidden = flag,
        "exists" => rules.child_exists = flag,
        "stale" => rules.stale = flag,
        "crash" => rules.crash = flag,
        "lost" => rules.lost = flag,
        "slow" => rules.slow = flag,
        "late_registration" => rules.late_registration = flag,
        "joined" => rules.joined = flag,
        "suspend" => rules.suspend = flag,
        "reduced" => rules.reduced = flag,
        "moves" => rules.moves = flag,
        "count" => rules.count_to = Some(number as u8),
        "max" => rules.max_states = number,
        "without" => {
            let named = |clause: &&Clause| value.split('+').any(|name| format!("{clause:?}") == name);
            rules.without.extend(Clause::ALL.iter().filter(named));
        }
        _ => eprintln!("unknown: {key}"),
    }
}
