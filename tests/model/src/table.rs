//! What the lease table does with a write.

use crate::rules::{Clause, Mode, Setting};
use crate::state::{Hold, Item, ItemState, Kind, Lease, NO_ITEM, NO_LEASE, NOBODY, SHARD_END, State, Write};

/// Whether the table would apply the write now.
#[must_use]
pub fn accepts(rules: &Setting, s: &State, m: &Write) -> bool {
    let on = usize::from(m.on);
    if m.is_on_lease() {
        let lease = s.leases[on];
        let same = m.counter == lease.counter || !rules.is_guarded(m.kind);
        return match m.kind {
            Kind::CreateLease => !lease.exists,
            _ => lease.exists && same && m.owner == lease.owner,
        };
    }
    let item = s.items[on];
    let same = item.counter == m.counter;
    match m.kind {
        Kind::Register => item.state == ItemState::Absent,
        Kind::Beat => {
            let live = item.state == ItemState::Live || !rules.has(Clause::BeatNeedsLive);
            live && item.state != ItemState::Absent && (same || !rules.has(Clause::BeatNeedsLive))
        }
        // A write of the item that a try to register found.
        Kind::Adopt => {
            let live = item.state == ItemState::Live || !rules.has(Clause::RegisterFindsLive);
            same && live && item.state != ItemState::Absent
        }
        Kind::Fence => same && matches!(item.state, ItemState::Live | ItemState::Evicted),
        Kind::EvictWorker => same && item.state == ItemState::Live,
        _ => same && item.state != ItemState::Absent,
    }
}

/// Whether counters are counted and this write would go past the bound.
#[must_use]
pub fn is_beyond_bound(rules: &Setting, s: &State, m: &Write) -> bool {
    let counter =
        if m.is_on_lease() { s.leases[usize::from(m.on)].counter } else { s.items[usize::from(m.on)].counter };
    let fresh = m.kind == Kind::CreateLease && rules.has(Clause::FreshCounter);
    let creates =
        matches!(m.kind, Kind::CreateLease | Kind::Register | Kind::DeleteLease | Kind::DeleteWorker) && !fresh;
    !creates && rules.count_to.is_some_and(|bound| counter >= bound)
}

/// Applies a write that is accepted. What the answer tells is left in it.
pub fn apply(rules: &Setting, s: &mut State, m: &mut Write) {
    if m.is_on_lease() {
        apply_to_lease(rules, s, m)
    } else {
        apply_to_item(rules, s, m)
    }
    m.applied = true;
}

fn apply_to_lease(rules: &Setting, s: &mut State, m: &mut Write) {
    let on = usize::from(m.on);
    let before = s.leases[on];
    let next = before.counter + 1;
    // A counter that nobody can name yet, until `settle` makes it small again.
    let lease = &mut s.leases[on];
    lease.counter = next;
    lease.still = 0;
    match m.kind {
        Kind::Take => {
            *lease = Lease { owner: m.by, intended: NOBODY, evicted: false, ..*lease };
        }
        Kind::Renew => lease.checkpoint = m.checkpoint,
        Kind::Release => {
            *lease = Lease { owner: NOBODY, intended: m.intended, checkpoint: m.checkpoint, ..*lease };
        }
        Kind::EvictLease => {
            lease.evicted = true;
            lease.intended = m.intended;
        }
        Kind::Finish => finish(rules, s, m),
        Kind::CreateLease => {
            let counter = if rules.has(Clause::FreshCounter) { next } else { 0 };
            *lease = Lease { exists: true, counter, ..NO_LEASE };
        }
        // A key remembers what it had.
        Kind::DeleteLease => *lease = Lease { counter: before.counter, ..NO_LEASE },
        _ => {}
    }
    s.leases[on].gone &= s.leases[on].owner == before.owner && m.kind != Kind::Take;
    let after = s.leases[on];
    if before.exists && after.exists && after.checkpoint < before.checkpoint {
        s.went_back = true;
    }
    m.checkpoint = after.checkpoint;
    m.counter = after.counter;
}

fn finish(rules: &Setting, s: &mut State, m: &Write) {
    let on = usize::from(m.on);
    if on == 0 {
        for child in 1..=rules.children - usize::from(rules.hidden) {
            if s.leases[child].exists {
                continue;
            }
            // Of a key that may have been deleted before.
            let fresh = rules.count_to.is_some() && rules.has(Clause::FreshCounter);
            let counter = if fresh { s.leases[child].counter + 1 } else { 0 };
            s.leases[child] = Lease { exists: true, owner: m.by, counter, ..NO_LEASE };
            let w = usize::from(m.by / 2);
            // Only the incarnation that still waits for the answer will begin with them.
            if s.me(w) == m.by && s.workers[w].sent[0].kind == Kind::Finish {
                let held = &mut s.workers[w].held[child];
                *held = crate::state::Held { hold: Hold::Born, counter, ..crate::state::NOT_HELD };
            }
        }
    }
    if on == 0 && !rules.has(Clause::FinishIsAtomic) {
        return;
    }
    let lease = &mut s.leases[on];
    *lease = Lease { owner: NOBODY, intended: NOBODY, checkpoint: SHARD_END, ..*lease };
}

fn apply_to_item(rules: &Setting, s: &mut State, m: &mut Write) {
    debug_assert!(rules.mode == Mode::PerWorker);
    let item = &mut s.items[usize::from(m.on)];
    item.counter += 1;
    item.still = 0;
    match m.kind {
        Kind::Register => {
            *item = Item { state: ItemState::Live, ..NO_ITEM };
            for lease in s.leases.iter_mut().filter(|lease| lease.owner == m.on) {
                lease.gone = true;
            }
        }
        Kind::Beat | Kind::Adopt => item.state = ItemState::Live,
        Kind::Fence => item.state = ItemState::Fenced,
        Kind::EvictWorker => item.state = ItemState::Evicted,
        Kind::DeleteWorker => *item = NO_ITEM,
        _ => {}
    }
    m.counter = s.items[usize::from(m.on)].counter;
}
