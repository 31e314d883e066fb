//! The figures of small fleets, which must keep within what is promised; larger ones are printed on request.

use std::time::Duration;

use sim::figures::{Figure, HEAD, Measure};

fn print(figures: &[Figure]) {
    println!("{HEAD}");
    figures.iter().for_each(|figure| println!("{figure}"));
}

#[test]
fn a_fleet_of_three_keeps_its_promises_when_workers_come_go_and_die() {
    let figures = Measure::new(3, 100).run(1);
    print(&figures);
    for figure in figures {
        if figure.change == "one crashes" {
            assert!(figure.worst <= Duration::from_secs(11), "{figure}");
        } else {
            assert!(figure.worst <= Duration::from_millis(200) && figure.repeated == 0, "{figure}");
        }
    }
}

/// `FIGURES=10x100,100x10000 cargo test --release -p sim figures -- --ignored --nocapture`
#[test]
#[ignore = "prints what the variable FIGURES asks for; takes minutes"]
fn figures_of_fleets() {
    let asked = std::env::var("FIGURES").unwrap_or_else(|_| "3x100,10x100".to_owned());
    for fleet in asked.split(',') {
        let (workers, shards) = fleet.split_once('x').expect("workers x shards");
        let measure = Measure::new(workers.parse().expect("a number"), shards.parse().expect("a number"));
        print(&measure.run(1));
    }
}
