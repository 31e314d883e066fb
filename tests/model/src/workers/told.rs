//! What a worker learns of its writes, told to the engine's own tenures.

use kcl_core::Lease;

use super::{Answer, Taken, Workers, key};
use crate::engine::watchers_clock;
use crate::moves::Told;
use crate::policy::tenure::{Refusal, Validity, is_own_heartbeat};
use crate::state::{Kind, LEASES, Write};

impl Workers<'_> {
    pub(super) fn learns(&mut self, w: usize, m: &Write, told: Told, taken: &Taken<'_>, answer: Answer) {
        let l = usize::from(m.on);
        if self.bodies[w].over {
            return;
        }
        let applied_now = taken.step.wrote.is_some_and(|(_, applied)| applied);
        if !m.is_on_lease() {
            let kept = std::mem::take(&mut self.bodies[w].beat_applied);
            return self.hears_of_itself(w, m, told, taken, if applied_now { answer } else { kept });
        }
        let kept = std::mem::take(&mut self.bodies[w].applied[l]);
        match told {
            Told::Acknowledged => self.acknowledged(w, m, if applied_now { answer } else { kept }),
            Told::Refused => self.refused(w, m, taken),
            Told::Nothing => {
                if let Some(tenure) = &mut self.bodies[w].tenures[l] {
                    tenure.unanswered();
                }
            }
        }
    }

    fn acknowledged(&mut self, w: usize, m: &Write, answer: Answer) {
        let (now, l) = (self.now(w), usize::from(m.on));
        let sent = self.bodies[w].sent[l].unwrap_or(now);
        let body = &mut self.bodies[w];
        let mut leases = answer.leases.into_iter();
        match m.kind {
            Kind::Take => {
                let Some(lease) = leases.next() else { return };
                body.seen.lease(lease.clone(), watchers_clock(body.awake));
                self.begin(w, l, lease, sent);
            }
            Kind::Renew => {
                if let (Some(mut tenure), Some(lease)) = (body.tenures[l].take(), leases.next()) {
                    if let Some(pulse) = body.pulse {
                        tenure.sustained(pulse);
                    }
                    let held = tenure.acknowledged(sent, &now, lease).is_ok();
                    body.tenures[l] = held.then_some(tenure);
                }
            }
            _ => {
                let held = body.tenures[l].take().is_some();
                body.seen.forget_lease(&key(l));
                body.forgot[l] = body.awake;
                for child in leases.filter(|_| held && m.kind == Kind::Finish) {
                    let shard = (1..LEASES).find(|l| key(*l) == child.key);
                    let body = &mut self.bodies[w];
                    body.seen.lease(child.clone(), watchers_clock(body.awake));
                    if let Some(shard) = shard {
                        self.begin(w, shard, child, sent);
                    }
                }
            }
        }
    }

    fn refused(&mut self, w: usize, m: &Write, taken: &Taken<'_>) {
        let l = usize::from(m.on);
        let body = &mut self.bodies[w];
        let current = taken.table.leases.iter().find(|lease| lease.key == key(l));
        if m.kind == Kind::Take {
            if let Some(current) = current {
                body.seen.lease(current.clone(), watchers_clock(body.awake));
            }
            return;
        }
        let Some(mut tenure) = body.tenures[l].take() else { return };
        let finished = m.kind == Kind::Finish && current.is_some_and(Lease::is_finished);
        let let_go = m.kind == Kind::Release && tenure.has_let_go(current);
        if !finished && !let_go && tenure.refused(current) == Refusal::OwnWriteFound {
            self.tally.found += 1;
            body.tenures[l] = Some(tenure);
        }
    }

    fn hears_of_itself(&mut self, w: usize, m: &Write, told: Told, taken: &Taken<'_>, answer: Answer) {
        let (now, timing) = (self.now(w), self.timing);
        let body = &mut self.bodies[w];
        let found = taken.table.workers.iter().find(|item| item.id == body.id);
        match (told, m.kind) {
            (Told::Acknowledged, _) => {
                let sent = body.beat_sent.unwrap_or(now);
                let next = body.pulse.map_or(Validity::from_write(sent), |pulse| pulse.extended(sent, &now, timing));
                body.pulse = Some(next);
                body.item = answer.worker;
                body.unanswered = false;
            }
            (Told::Nothing, _) => body.unanswered = true,
            // An item of this name is an earlier try to register: a write on its counter comes next.
            (Told::Refused, Kind::Register) if found.is_some_and(|found| found.state.lives()) => {}
            (Told::Refused, Kind::Beat) => match (&body.item, found) {
                (Some(own), Some(found)) if is_own_heartbeat(own, body.unanswered, found) => {
                    body.item = Some(found.clone());
                    body.unanswered = false;
                    self.tally.found += 1;
                }
                _ => body.give_up(),
            },
            (Told::Refused, _) => body.give_up(),
        }
    }
}
