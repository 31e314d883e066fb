//! The simulator's commands; `docs/simulation.md` says what they are for.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use kcl_core::WorkerConfig;
use sim::runner::{Case, Search, Stopwatch};
use sim::scenario::{Plan, Reduction, Scenario, run, run_aloud};

const USAGE: &str = "\
sim run  [--seconds 60] [--seed-base N] [--scenario NAME] [--threads 2] [--keep-going]
sim soak --hours H      the same for nights; the seeds come from the date
sim seed N [--scenario NAME] [--keep 1,2,…|none] [--halve-workers N] [--halve-shards N] [--halve-time N] [--log]
sim plan N [--scenario NAME]            prints what the seed would do
sim mutants [--bases 10] [--seconds 60] [--threads 2] [BUG …]   hunts for the bugs planted in the engine
sim figures             fleet-hours per second by the size of the fleet
";

fn main() -> ExitCode {
    let mut words: Vec<String> = std::env::args().skip(1).collect();
    let command = if words.is_empty() { String::new() } else { words.remove(0) };
    if command == "mutants" {
        return exit(mutants(&words));
    }
    let ended = Options::parse(&words).and_then(|options| match command.as_str() {
        "run" => search(&options, options.seconds.unwrap_or(60.0), options.seed_base.unwrap_or(1)),
        "soak" => search(&options, options.hours.unwrap_or(8.0) * 3600.0, options.seed_base.unwrap_or_else(today)),
        "seed" => replay(&options),
        "plan" => options.case().map(|case| println!("{}", case.plan())).map(|()| true),
        "figures" => Ok(figures(&options)),
        _ => Err(USAGE.to_owned()),
    });
    exit(ended)
}

fn exit(ended: Result<bool, String>) -> ExitCode {
    match ended {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(what) => {
            eprintln!("{what}");
            ExitCode::from(2)
        }
    }
}

#[derive(Debug, Default)]
struct Options {
    seed: Option<u64>,
    seconds: Option<f64>,
    hours: Option<f64>,
    seed_base: Option<u64>,
    scenario: Option<Scenario>,
    threads: Option<usize>,
    keep_going: bool,
    log: bool,
    reduction: Reduction,
}

impl Options {
    fn parse(words: &[String]) -> Result<Self, String> {
        let mut options = Self::default();
        let mut words = words.iter();
        while let Some(word) = words.next() {
            let mut value = || words.next().ok_or_else(|| format!("{word} needs a value\n{USAGE}"));
            match word.as_str() {
                "--seconds" => options.seconds = Some(number(value()?)?),
                "--hours" => options.hours = Some(number(value()?)?),
                "--seed-base" => options.seed_base = Some(number(value()?)?),
                "--threads" => options.threads = Some(number(value()?)?),
                "--scenario" => options.scenario = Some(number(value()?)?),
                "--log" => options.log = true,
                "--keep-going" => options.keep_going = true,
                "--halve-workers" => options.reduction.workers = number(value()?)?,
                "--halve-shards" => options.reduction.shards = number(value()?)?,
                "--halve-time" => options.reduction.time = number(value()?)?,
                "--keep" => {
                    let ids = value()?;
                    let ids = ids.split(',').filter(|id| *id != "none").map(number);
                    options.reduction.keep = Some(ids.collect::<Result<_, _>>()?);
                }
                seed if options.seed.is_none() && !seed.starts_with('-') => options.seed = Some(number(seed)?),
                other => return Err(format!("{other} is not known\n{USAGE}")),
            }
        }
        Ok(options)
    }

    fn case(&self) -> Result<Case, String> {
        let seed = self.seed.ok_or_else(|| USAGE.to_owned())?;
        Ok(Case { seed, scenario: self.scenario, reduction: self.reduction.clone() })
    }
}

fn number<T: std::str::FromStr<Err: std::fmt::Display>>(text: &str) -> Result<T, String> {
    text.parse().map_err(|error| format!("{text:?}: {error}"))
}

fn search(options: &Options, seconds: f64, base: u64) -> Result<bool, String> {
    let search = Search {
        time: Duration::from_secs_f64(seconds.max(0.0)),
        base,
        scenario: options.scenario,
        threads: options.threads.unwrap_or(2),
        keep_going: options.keep_going,
        failures: failures(),
    };
    println!("seeds from {base} on");
    let summary = search.run()?;
    println!("{}", summary.sometimes);
    println!("{} polls, {} records delivered", summary.polls, summary.delivered);
    let unmet = if options.scenario.is_none() { summary.unmet() } else { Vec::new() };
    if !unmet.is_empty() {
        println!("never happened: {unmet:?}");
    }
    println!("{summary}");
    Ok(summary.violations == 0 && unmet.is_empty())
}

/// Beside the other things that are built.
fn failures() -> PathBuf {
    let target = std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| PathBuf::from("target"), PathBuf::from);
    target.join("sim-failures")
}

#[expect(clippy::disallowed_methods, reason = "chooses seeds, before any run")]
/// Days since 1970, far from the seeds that people choose.
fn today() -> u64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    since.as_secs() / 86_400 * 1_000_000_000
}

fn replay(options: &Options) -> Result<bool, String> {
    let case = options.case()?;
    let plan = case.plan();
    println!("{plan}");
    let begun = Stopwatch::start();
    let run = if options.log { run_aloud(&plan) } else { run(&plan) };
    let took = begun.elapsed();
    println!("{}", run.verdict);
    println!("trace {:016x}, {} polls, {:?} in {took:.1?}", run.trace, run.polls, run.lasted);
    if let Some(broken) = &run.broken {
        println!("FAILED {case}\n{broken}");
    }
    let hours = run.lasted.as_secs_f64() / 3600.0;
    println!("fleet_hours={hours:.2} seeds=1 violations={}", u8::from(run.broken.is_some()));
    Ok(run.broken.is_none())
}

/// Fleets of four sizes, steady and nearly idle.
fn figures(options: &Options) -> bool {
    let mut well = true;
    for (settings, config, hours) in [("default", WorkerConfig::default(), 1.0), ("calm", calm(), 4.0)] {
        for (workers, shards, share) in [(3, 4, 4.0), (8, 16, 1.0), (10, 64, 0.25), (100, 1000, 0.02)] {
            let mut plan = sim::scenario::steady(options.seed.unwrap_or(1), workers, shards, share * hours);
            plan.config = config.clone().with_liveness(plan.config.liveness);
            well &= figure(settings, &plan);
        }
    }
    well
}

/// The rhythm of a small service: shards are read once a second, the table is looked at every five.
fn calm() -> WorkerConfig {
    let seconds = Duration::from_secs;
    WorkerConfig::default()
        .with_lease_duration(seconds(30))
        .with_observe_every(seconds(5))
        .with_discover_every(seconds(300))
        .with_checkpoint_every(seconds(10))
        .with_tick_every(seconds(60))
        .with_poll_every(seconds(1))
}

fn figure(settings: &str, plan: &Plan) -> bool {
    let begun = Stopwatch::start();
    let run = run(plan);
    let took = begun.elapsed().as_secs_f64();
    let lasted = run.lasted.as_secs_f64() / 3600.0;
    println!(
        "settings={settings} workers={} shards={} fleet_hours_per_core_second={:.2} polls_per_fleet_hour={:.0} microseconds_per_poll={:.2}",
        plan.workers,
        plan.shards,
        lasted / took,
        run.polls as f64 / lasted,
        took * 1e6 / run.polls as f64
    );
    if let Some(broken) = &run.broken {
        println!("{broken}");
    }
    run.broken.is_none()
}

/// Runs this program again, built with the bugs.
#[cfg(not(feature = "planted"))]
fn mutants(words: &[String]) -> Result<bool, String> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = std::process::Command::new(cargo);
    command.args(["run", "--release", "--quiet", "--package", "sim", "--features", "planted", "--", "mutants"]);
    let status = command.args(words).status().map_err(|error| format!("cargo: {error}"))?;
    Ok(status.success())
}

/// Hunts for the planted bugs.
#[cfg(feature = "planted")]
fn mutants(words: &[String]) -> Result<bool, String> {
    use kcl_core::planted::Bug;
    use sim::mutants::{HEAD, Hunt};

    let mut hunt = Hunt { bugs: Vec::new(), bases: 10, time: Duration::from_secs(60), threads: 2 };
    let mut words = words.iter();
    while let Some(word) = words.next() {
        let mut value = || words.next().ok_or_else(|| format!("{word} needs a value\n{USAGE}"));
        match word.as_str() {
            "--bases" => hunt.bases = number(value()?)?,
            "--seconds" => hunt.time = Duration::from_secs_f64(number(value()?)?),
            "--threads" => hunt.threads = number(value()?)?,
            name => {
                let bug = Bug::ALL.iter().find(|(bug, _)| format!("{bug:?}") == name);
                hunt.bugs.push(bug.ok_or_else(|| format!("no bug is called {name}"))?.0);
            }
        }
    }
    println!("{HEAD}");
    let caught = hunt.run(|caught| println!("{caught}"));
    let found = caught.iter().filter(|caught| caught.is_found()).count();
    println!("found={found}/{}", caught.len());
    Ok(found == caught.len())
}
