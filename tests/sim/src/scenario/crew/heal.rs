//! The end of all faults.

use std::time::Duration;

use kcl_core::SourceOp;

use super::Crew;
use crate::Node;
use crate::fleet::Weather;
use crate::scenario::fault::{Mood, StreamWeather};
use crate::scenario::wire::Latency;

impl Crew {
    /// Ends all faults but those that [`Crew::thaw`] ends: ways are mended, every place is taken.
    pub(crate) fn heal(&self) {
        let seats = {
            let mut state = self.lock();
            state.waiting.clear();
            state.away = false;
            for berth in state.berths() {
                berth.wire.set_table(Weather::default());
                berth.wire.set_stream(StreamWeather::default());
                berth.wire.set_latency(Latency::QUICK);
                berth.temper.set(Mood::Calm);
            }
            state.places.len()
        };
        for op in SourceOp::ALL {
            self.inner.fleet().service.throttle(op, Duration::ZERO);
        }
        // A scan that stays some writes behind, however much time passes without a write, is a fault too.
        self.inner.fleets.iter().for_each(|fleet| fleet.leases.set_scan_lag(0));
        (0..seats).for_each(|place| self.fill(place));
    }

    /// Machines that stand go on, and user code that blocks its threads ends. One machine after the other: none writes at the very
    /// instant at which another goes on, which has had no time to look at its clock by then.
    pub(crate) async fn thaw(&self) {
        let nodes: Vec<Node> = self.lock().berths().map(|berth| berth.member.node.clone()).collect();
        for node in nodes {
            self.inner.sim.sleep(Duration::from_millis(10)).await;
            node.thaw();
        }
    }
}
