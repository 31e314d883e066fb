//! Prints what a search of the named setting finds: `ownership-model lease|worker [workers=2] [children=1] [d=2] [loose=1] …`.

use ownership_model::rules::{Clause, Mode, Setting};
use ownership_model::search::search;

fn main() {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let mode = if args.iter().any(|a| a == "worker") { Mode::PerWorker } else { Mode::PerLease };
    let mut rules = Setting::new(mode);
    for arg in &args {
        let Some((key, value)) = arg.split_once('=') else { continue };
        let number = value.parse::<usize>().unwrap_or_default();
        match key {
            "workers" => rules.workers = number,
            "children" => rules.children = number,
            "d" => rules.d = number as u8,
            "loose" => rules.loose = number,
            "crash" => rules.crash = number > 0,
            "lost" => rules.lost = number > 0,
            "slow" => rules.slow = number > 0,
            "late_registration" => rules.late_registration = number > 0,
            "joined" => rules.joined = number > 0,
            "suspend" => rules.suspend = number > 0,
            "moves" => rules.moves = number > 0,
            "exists" => rules.child_exists = number > 0,
            "count" => rules.count_to = Some(number as u8),
            "max" => rules.max_states = number,
            "without" => rules
                .without
                .extend(Clause::ALL.iter().copied().filter(|c| value.split('+').any(|v| format!("{c:?}") == v))),
            _ => eprintln!("unknown: {arg}"),
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
