//! S9: calls to the stream stay within their budgets.
//!
//! GetRecords: the configured rate for each shard that a worker reads, and a second's worth at once. DescribeStream: what the service
//! allows a whole account, and as much at once, for each worker; the shares of a fleet that comes and goes are the policy's own business.
//! Clocks may be wrong by 2 %, some calls begin a shard anew. Source: design §5 (listings are shared) and §7; P7.

use std::collections::BTreeMap;
use std::time::Duration;

use kcl_core::{ShardId, SourceOp};

use super::{Invariant, Law, Now, Place, Seen};

#[derive(Debug, Default)]
pub(super) struct CallRate {
    reads: BTreeMap<(Place, ShardId), Level>,
    describes: BTreeMap<Place, Level>,
}

/// A bucket that leaks at the rate that is allowed.
#[derive(Debug, Default)]
struct Level {
    calls: f64,
    at: Duration,
}

/// DescribeStream calls a second in an account and region.
const DESCRIBES: f64 = 10.0;

impl Level {
    fn called(&mut self, now: Duration, rate: f64) -> bool {
        let leaked = (now - self.at).as_secs_f64() * rate * 1.03;
        self.calls = (self.calls - leaked).max(0.0) + 1.0;
        self.at = now;
        self.calls <= rate + 2.0
    }
}

impl Invariant for CallRate {
    fn law(&self) -> Law {
        Law { id: "S9", promise: "P7", name: "call rate" }
    }

    fn see(&mut self, now: &Now<'_>, seen: &Seen<'_>) -> Result<(), String> {
        match seen {
            Seen::Opened(opened) => {
                self.reads.remove(&(opened.place, opened.shard.clone()));
            }
            Seen::Asked { place, op: SourceOp::GetRecords, shard: Some(shard) } => {
                let rate = f64::from(now.rules.calls_per_second);
                let level = self.reads.entry((*place, (*shard).clone())).or_default();
                if !level.called(now.at, rate) {
                    return Err(format!("{shard} is read more often than {rate} times a second"));
                }
            }
            Seen::Asked { place, op: SourceOp::DescribeStream, .. } => {
                let level = self.describes.entry(*place).or_default();
                let fine = level.called(now.at, DESCRIBES);
                return if fine {
                    Ok(())
                } else {
                    Err(format!("one worker lists more than {DESCRIBES} times a second"))
                };
            }
            _ => {}
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{Bench, id, place};
    use super::*;

    fn last(calls: usize, pause: f64, op: SourceOp) -> Result<(), String> {
        let mut bench = Bench::new(CallRate::default());
        let shard = id("s");
        let mut asked = Ok(());
        for _ in 0..calls {
            asked = bench.see(&Seen::Asked { place: place(1), op, shard: Some(&shard) });
            bench.after(pause);
        }
        asked
    }

    #[test]
    fn a_shard_that_is_read_too_often_is_found() {
        assert!(last(1000, 0.2, SourceOp::GetRecords).is_ok());
        assert!(last(1000, 0.18, SourceOp::GetRecords).is_err());
        assert!(last(7, 0.0, SourceOp::GetRecords).is_ok(), "a second's worth at once");
        assert!(last(8, 0.0, SourceOp::GetRecords).is_err());
    }

    #[test]
    fn a_worker_that_lists_too_often_is_found() {
        assert!(last(1000, 0.1, SourceOp::DescribeStream).is_ok());
        assert!(last(1000, 0.09, SourceOp::DescribeStream).is_err());
    }
}
