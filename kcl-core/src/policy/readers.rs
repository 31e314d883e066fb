//! Who may claim which reader slot of a stream, and how long a claim lets an application read.
//!
//! ```text
//!   a slot's counter stood still for the slot's life ──► anyone may claim it
//!   our slot was written by us ──► we may read for 0.95 of its life, from the sending of the write
//!   our slot was seen to have moved (another worker of ours wrote it) ──► the same, from the sending of the last request
//!                                                                         whose answer showed it before the move
//! ```
//! The last line holds because requests are strongly consistent: what one answer did not show was written after that request was
//! sent. So whoever watches the slot counts from a later instant than we do.

use std::time::{Duration, SystemTime};

use super::tenure::{LeaseTiming, Validity};
use crate::contract::{Mono, READER_SLOTS, Reader, ReaderSlot, ReaderSlots, SlotClaim, Stamp};

/// How long a slot's counter must stand still before the slot passes on.
pub(crate) const SLOT_LIFE: Duration = Duration::from_secs(180);

/// How long an application's slot may stand still before one of its workers renews it.
const RENEW_AFTER: Duration = Duration::from_secs(60);

/// How often the slots are looked at, unless something is due sooner.
pub(crate) const LOOK_EVERY: Duration = Duration::from_secs(30);

/// How often they are looked at by an application that waits for a slot, or whose own is about to lapse.
pub(crate) const LOOK_SOON: Duration = Duration::from_secs(10);

/// What one worker knows of the slots of one stream.
#[derive(Debug, Clone)]
pub(crate) struct SlotWatch {
    me: Reader,
    /// How many applications may read the stream, this one included.
    limit: usize,
    seen: ReaderSlots,
    /// For each slot: when the answer was received that first showed its holder and counter.
    since: [Mono; READER_SLOTS],
    /// When the last request was sent whose answer was seen.
    asked: Option<Stamp>,
    validity: Option<Validity>,
}

/// What to do about the slots.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum SlotStep {
    /// Nothing: the own slot is held, and was renewed not long ago.
    Keep,
    /// Write this.
    Write(SlotClaim),
    /// Others hold as many slots as there may be readers.
    Full(Vec<ReaderSlot>),
}

impl SlotWatch {
    /// Nothing is known yet.
    pub(crate) fn new(me: Reader, limit: usize, now: Mono) -> Self {
        let (seen, since) = (ReaderSlots::default(), [now; READER_SLOTS]);
        Self { me, limit, seen, since, asked: None, validity: None }
    }

    /// The slots as they were seen last.
    pub(crate) fn seen(&self) -> &ReaderSlots {
        &self.seen
    }

    /// A read, sent at `sent`, was answered at `now`.
    pub(crate) fn read(&mut self, sent: Stamp, now: Mono, slots: ReaderSlots) {
        let moved = |watch: &Self| match (watch.seen.of(&watch.me), slots.of(&watch.me)) {
            (Some((_, before)), Some((_, after))) => before.counter != after.counter,
            (None, Some(_)) => true,
            (_, None) => false,
        };
        if let Some(asked) = self.asked.filter(|_| moved(self)) {
            self.extend(asked);
        }
        if slots.of(&self.me).is_none() {
            // It has passed on: then nobody of ours may have been valid for long.
            self.validity = None;
        }
        self.take_in(sent, now, slots);
    }

    /// A write of ours, sent at `sent`, was acknowledged at `now`.
    pub(crate) fn wrote(&mut self, sent: Stamp, now: Mono, slots: ReaderSlots) {
        self.extend(sent);
        self.take_in(sent, now, slots);
    }

    fn extend(&mut self, from: Stamp) {
        let later = self.validity.is_none_or(|validity| validity.sent() < from.mono);
        if later {
            self.validity = Some(Validity::from_write(from));
        }
    }

    fn take_in(&mut self, sent: Stamp, now: Mono, slots: ReaderSlots) {
        let identity = |slot: &Option<ReaderSlot>| slot.as_ref().map(|slot| (slot.holder.clone(), slot.counter));
        for ((before, after), since) in self.seen.0.iter().zip(&slots.0).zip(&mut self.since) {
            if self.asked.is_none() || identity(before) != identity(after) {
                *since = now;
            }
        }
        self.seen = slots;
        self.asked = Some(sent);
    }

    /// The right to read that follows from what was seen.
    pub(crate) fn validity(&self) -> Option<Validity> {
        self.validity
    }

    /// What is to be done at `now`.
    pub(crate) fn decide(&self, now: &Stamp) -> SlotStep {
        let own = self.seen.of(&self.me).map(|(index, _)| index);
        let valid = self.validity.is_some_and(|validity| validity.holds(now, slot_timing()));
        if let Some(index) = own.filter(|_| valid) {
            let due = now.mono.since(self.since[index]) >= RENEW_AFTER;
            return if due { self.claim(index, now.wall) } else { SlotStep::Keep };
        }
        let others = self.others(now.mono);
        if others.len() >= self.limit {
            return SlotStep::Full(others);
        }
        match own.or_else(|| self.free(now.mono)) {
            Some(index) => self.claim(index, now.wall),
            None => SlotStep::Full(others),
        }
    }

    /// Slots that other applications hold and that were not seen to stand still for their life.
    fn others(&self, now: Mono) -> Vec<ReaderSlot> {
        let held = self.seen.0.iter().zip(self.since).filter_map(|(slot, since)| Some((slot.as_ref()?, since)));
        held.filter(|(slot, since)| slot.holder != self.me && now.since(*since) < slot.life)
            .map(|(slot, _)| slot.clone())
            .collect()
    }

    /// A slot that may be claimed: that of an application that is gone first, so that it does not come back to it.
    fn free(&self, now: Mono) -> Option<usize> {
        let lapsed = |index: &usize| match &self.seen.0[*index] {
            Some(slot) => now.since(self.since[*index]) >= slot.life,
            None => false,
        };
        (0..READER_SLOTS).find(lapsed).or_else(|| (0..READER_SLOTS).find(|index| self.seen.0[*index].is_none()))
    }

    fn claim(&self, slot: usize, renewed_at: SystemTime) -> SlotStep {
        SlotStep::Write(SlotClaim { slot, holder: self.me.clone(), life: SLOT_LIFE, renewed_at })
    }

    /// When to look next, after all that could be done at `now` was done. `jitter` shortens a pause, so that the workers of an
    /// application do not all write at once.
    pub(crate) fn next_look(&self, now: &Stamp, jitter: impl Fn(Duration) -> Duration) -> Mono {
        match self.validity.filter(|validity| validity.holds(now, slot_timing())) {
            Some(validity) => {
                let deadline = validity.deadline(slot_timing());
                // More often towards the end, for another try.
                let usual = if deadline.since(now.mono) > SLOT_LIFE / 2 { LOOK_EVERY } else { LOOK_SOON };
                (now.mono + jitter(usual)).min(deadline)
            }
            None => now.mono + jitter(LOOK_SOON),
        }
    }
}

/// The durations that follow from the life of a slot of ours.
pub(crate) const fn slot_timing() -> LeaseTiming {
    LeaseTiming::new(SLOT_LIFE)
}

/// Whether all of these slots were renewed so lately, by their holders' clocks, that it is of no use to wait for one. A clock that is ahead
/// of ours says nothing: its application may be dead for as long. A wrong answer costs a wait or a start that is tried again, and no right
/// follows from it.
pub(crate) fn all_fresh(slots: &[ReaderSlot], wall: SystemTime) -> bool {
    let apart = |slot: &ReaderSlot| wall.duration_since(slot.renewed_at).unwrap_or_else(|ahead| ahead.duration());
    slots.iter().all(|slot| apart(slot) < slot.life)
}

#[cfg(test)]
mod tests;
