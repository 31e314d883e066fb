//! The validity of a worker as a whole: what its heartbeats keep alive, and all who act under it ask.

use std::sync::{Arc, Mutex};

use tokio_util::sync::CancellationToken;

use crate::contract::{Mono, Rt, Stamp};
use crate::planted::{self, Bug};
use crate::policy::tenure::{LeaseTiming, Validity};
use crate::surface::lock;

/// One incarnation's right to act. Once over, it is over for good.
#[derive(Debug)]
pub(crate) struct Pulse {
    timing: LeaseTiming,
    validity: Mutex<Validity>,
    over: CancellationToken,
}

impl Pulse {
    /// The pulse that begins with an acknowledged write of the worker's item, sent at `sent`.
    pub(crate) fn new(timing: LeaseTiming, sent: Stamp) -> Arc<Self> {
        let validity = Mutex::new(Validity::from_write(sent));
        Arc::new(Self { timing, validity, over: CancellationToken::new() })
    }

    /// The validity as it is now.
    pub(crate) fn validity(&self) -> Validity {
        *lock(&self.validity)
    }

    /// Whether the worker may act.
    pub(crate) fn holds(&self, now: &Stamp) -> bool {
        self.validity().holds(now, self.timing)
    }

    /// A heartbeat sent at `sent` was acknowledged at `now`. False if the validity before had run out: then it is over.
    pub(crate) fn beat(&self, sent: Stamp, now: &Stamp) -> bool {
        let mut validity = lock(&self.validity);
        *validity = validity.extended(sent, now, self.timing);
        let holds = validity.holds(now, self.timing);
        drop(validity);
        if !holds {
            self.end();
        }
        holds
    }

    /// The worker may not act any more.
    pub(crate) fn end(&self) {
        let mut validity = lock(&self.validity);
        *validity = validity.ended();
        drop(validity);
        self.over.cancel();
    }

    /// Fires when it is over. A deadline that passes is noticed by [`Pulse::lapse`]; who is about to act asks [`Pulse::holds`].
    pub(crate) fn over(&self) -> &CancellationToken {
        &self.over
    }

    /// When the validity ends if no heartbeat comes.
    pub(crate) fn deadline(&self) -> Mono {
        self.validity().deadline(self.timing)
    }

    /// Waits until the validity has run out, and ends it then.
    pub(crate) async fn lapse(&self, rt: &Rt) {
        while self.holds(&rt.stamp()) {
            rt.sleep_until(self.deadline()).await;
        }
        if planted::is(Bug::NeitherFenceNorDropAll) {
            return std::future::pending().await;
        }
        self.end();
    }
}
