//! The figures of a small fleet, which must keep within what is promised. The example `figures` prints those of larger ones.

use std::time::Duration;

use sim::figures::{HEAD, Measure};

#[test]
fn a_fleet_of_three_keeps_its_promises_when_workers_come_go_and_die() {
    let figures = Measure::new(3, 100).run(1);
    println!("{HEAD}");
    for figure in figures {
        println!("{figure}");
        if figure.change == "one crashes" {
            assert!(figure.worst <= Duration::from_secs(11), "{figure}");
        } else {
            assert!(figure.worst <= Duration::from_millis(200) && figure.repeated == 0, "{figure}");
        }
    }
}
