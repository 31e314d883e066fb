//! A state of the fleet in small integers, made canonical so that the space is finite.

use crate::rules::{Mode, Setting};

/// At most so many workers.
pub const WORKERS: usize = 3;
/// One parent and at most two children.
pub const LEASES: usize = 3;
/// Two incarnations for each worker: a name is used again once nothing mentions it.
pub const NAMES: usize = WORKERS * 2;
/// At most so many loose writes.
pub const LOOSE: usize = 3;
/// Nobody.
pub const NOBODY: u8 = 15;
/// A counter that no item has any more.
pub const STALE: u8 = 254;
/// The checkpoint of a finished shard.
pub const SHARD_END: u8 = 3;

/// A lease item.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(missing_docs, reason = "the attributes of the item")]
pub struct Lease {
    pub exists: bool,
    pub owner: u8,
    pub intended: u8,
    pub evicted: bool,
    pub checkpoint: u8,
    pub counter: u8,
    /// Ticks for which the counter has stood still: what a worker that looks all the time has seen.
    pub still: u8,
    /// The owner's item was missing while the lease named it. Whoever has seen that may take the lease, even if a registration makes
    /// the item anew that was given up long ago.
    pub gone: bool,
}

/// A worker item's state.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(missing_docs, reason = "as in the design")]
pub enum ItemState {
    Absent,
    Live,
    Evicted,
    Fenced,
}

/// A worker item.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(missing_docs, reason = "the attributes of the item")]
pub struct Item {
    pub state: ItemState,
    pub counter: u8,
    /// As of a lease.
    pub still: u8,
}

/// How a worker stands to a lease.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Hold {
    /// Not its own.
    No,
    /// It delivers while it is valid.
    Yes,
    /// It has stopped and is letting go.
    Parting,
    /// Created in its name by a finish whose answer is not there yet.
    Born,
}

/// What a worker knows of a lease it holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(missing_docs, reason = "named as in the engine")]
pub struct Held {
    pub hold: Hold,
    pub counter: u8,
    /// Ticks since the write that gave the validity was sent, on the worker's own clock.
    pub age: u8,
    /// What was delivered and acknowledged.
    pub progress: u8,
    pub unanswered: bool,
}

/// A write.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[expect(missing_docs, reason = "the moves of the protocol")]
pub enum Kind {
    None,
    Take,
    Renew,
    Release,
    Finish,
    EvictLease,
    CreateLease,
    DeleteLease,
    Register,
    Beat,
    Adopt,
    Fence,
    EvictWorker,
    DeleteWorker,
}

/// A write on its way, or the answer to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[expect(missing_docs, reason = "the parts of a write")]
pub struct Write {
    pub kind: Kind,
    /// The lease, or the name of the worker item.
    pub on: u8,
    pub counter: u8,
    pub owner: u8,
    /// The name of the sender.
    pub by: u8,
    /// The checkpoint carried; on an answer, the one that was found.
    pub checkpoint: u8,
    pub intended: u8,
    /// Ticks since it was sent, on the sender's clock.
    pub age: u8,
    /// It was applied, and its answer is on the way.
    pub applied: bool,
}

impl Write {
    /// No write.
    pub const NONE: Self = Self {
        kind: Kind::None,
        on: 0,
        counter: 0,
        owner: NOBODY,
        by: NOBODY,
        checkpoint: 0,
        intended: NOBODY,
        age: 0,
        applied: false,
    };
    /// Whether there is one.
    #[must_use]
    pub fn is_some(&self) -> bool {
        self.kind != Kind::None
    }
    /// Whether it is a write of a lease item.
    #[must_use]
    pub fn is_on_lease(&self) -> bool {
        self.kind < Kind::Register
    }
}

/// Whether a worker runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(missing_docs, reason = "plain")]
pub enum Power {
    Down,
    Up,
    Suspended,
}

/// Whether a worker is a member of the fleet (PerWorker).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(missing_docs, reason = "plain")]
pub enum Member {
    New,
    Registered,
    GivenUp,
}

/// One worker.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(missing_docs, reason = "named as in the engine")]
pub struct Worker {
    pub power: Power,
    pub incarnation: u8,
    pub member: Member,
    pub counter: u8,
    pub age: u8,
    pub unanswered: bool,
    pub beat: Write,
    pub held: [Held; LEASES],
    pub sent: [Write; LEASES],
    /// Names whose items it once found missing.
    pub missing: u8,
}

/// The fleet and its table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(missing_docs, reason = "plain")]
pub struct State {
    pub leases: [Lease; LEASES],
    pub items: [Item; NAMES],
    pub workers: [Worker; WORKERS],
    pub loose: [Write; LOOSE],
    /// A checkpoint went back.
    pub went_back: bool,
}

/// No item.
pub const NO_ITEM: Item = Item { state: ItemState::Absent, counter: 0, still: 0 };
/// No lease.
pub const NO_LEASE: Lease = Lease {
    exists: false,
    owner: NOBODY,
    intended: NOBODY,
    evicted: false,
    checkpoint: 0,
    counter: 0,
    still: 0,
    gone: false,
};
/// Not held.
pub const NOT_HELD: Held = Held { hold: Hold::No, counter: STALE, age: 0, progress: 0, unanswered: false };

impl Worker {
    /// A worker that has just started.
    #[must_use]
    pub fn fresh(power: Power, incarnation: u8) -> Self {
        Self {
            power,
            incarnation,
            member: Member::New,
            counter: STALE,
            age: 0,
            unanswered: false,
            beat: Write::NONE,
            held: [NOT_HELD; LEASES],
            sent: [Write::NONE; LEASES],
            missing: 0,
        }
    }
}

/// The name of a worker's incarnation.
#[must_use]
pub fn name(worker: usize, incarnation: u8) -> u8 {
    worker as u8 * 2 + incarnation
}

impl State {
    /// The name that a worker bears now.
    #[must_use]
    pub fn me(&self, w: usize) -> u8 {
        name(w, self.workers[w].incarnation)
    }

    /// Whether anything but the worker itself mentions the name.
    #[must_use]
    pub fn mentions(&self, n: u8) -> bool {
        self.items[usize::from(n)].state != ItemState::Absent || self.mentions_owner(n)
    }

    fn mentions_owner(&self, n: u8) -> bool {
        self.leases.iter().any(|l| l.owner == n || l.intended == n)
            || self.loose.iter().any(|m| names(m, n))
            || self.workers.iter().any(|w| names(&w.beat, n) || w.sent.iter().any(|m| names(m, n)))
    }

    /// Forgets what can make no difference: dead references, ages of nothing, and, unless they are counted, the
    /// counters themselves, of which only "still the same" matters.
    pub fn settle(&mut self, rules: &Setting) {
        let counted = rules.count_to.is_some();
        self.settle_table(rules, counted);
        let (leases, items) = (self.leases, self.items);
        let now = |on_lease: bool, on: u8| {
            if on_lease { leases[usize::from(on)].counter } else { items[usize::from(on)].counter }
        };
        let fix = |on_lease: bool, on: u8, c: &mut u8| {
            if !counted {
                *c = if *c == now(on_lease, on) { 0 } else { STALE };
            }
        };
        for w in 0..WORKERS {
            let me = self.me(w);
            let worker = &mut self.workers[w];
            for l in 0..LEASES {
                if worker.held[l].hold == Hold::No {
                    worker.held[l] = NOT_HELD;
                } else {
                    fix(true, l as u8, &mut worker.held[l].counter);
                }
                let sent = &mut worker.sent[l];
                if sent.is_some() {
                    fix(true, l as u8, &mut sent.counter);
                    if rules.mode == Mode::PerWorker || sent.kind == Kind::Release {
                        sent.age = 0;
                    }
                    // It will be refused, whatever it says.
                    if sent.counter == STALE && !sent.applied && rules.is_guarded(sent.kind) {
                        *sent = Write { kind: sent.kind, on: sent.on, counter: STALE, ..Write::NONE };
                    }
                }
            }
            if worker.member == Member::Registered {
                fix(false, me, &mut worker.counter);
            } else {
                worker.counter = STALE;
                worker.age = 0;
                worker.unanswered = false;
            }
            if worker.beat.is_some() {
                fix(false, me, &mut worker.beat.counter);
            }
        }
        for m in &mut self.loose {
            m.age = 0;
            m.applied = false;
            if m.is_some() && m.kind != Kind::Register && m.kind != Kind::CreateLease {
                fix(m.is_on_lease(), m.on, &mut m.counter);
                if !counted && m.counter == STALE && rules.is_guarded(m.kind) {
                    *m = Write::NONE;
                }
            }
        }
        if !counted {
            self.leases.iter_mut().for_each(|l| l.counter = 0);
            self.items.iter_mut().for_each(|i| i.counter = 0);
            for w in 0..WORKERS {
                if self.workers[w].incarnation == 1 {
                    self.rename([0, 1, 2], 1 << w);
                }
            }
        }
        self.loose.sort_unstable_by(|a, b| b.cmp(a));
    }

    fn settle_table(&mut self, rules: &Setting, counted: bool) {
        for n in 0..NAMES as u8 {
            let w = usize::from(n / 2);
            let borne = self.workers[w].power != Power::Down && self.me(w) == n;
            let item = &self.items[usize::from(n)];
            if !borne && item.state != ItemState::Absent && !counted && !self.mentions_owner(n) {
                // Nobody can act under this name or be named by it any more: others see it off, sooner or later.
                self.items[usize::from(n)] = NO_ITEM;
            }
            let item = &mut self.items[usize::from(n)];
            if matches!(item.state, ItemState::Absent | ItemState::Fenced) {
                item.still = 0;
            }
        }
        for lease in &mut self.leases {
            let owned = rules.mode == Mode::PerLease && lease.owner != NOBODY;
            let tombstone = lease.checkpoint == SHARD_END;
            if !lease.exists || (tombstone && !counted) || !(owned || tombstone) {
                lease.still = 0;
            }
            lease.gone &= lease.owner != NOBODY;
        }
    }

    /// Puts each worker in the place that `to` says; those whose bit is set change the names of their two incarnations.
    fn rename(&mut self, to: [usize; WORKERS], flip: u8) {
        let of = |n: u8| match n {
            NOBODY => NOBODY,
            n => name(to[usize::from(n / 2)], (n % 2) ^ (flip >> (n / 2) & 1)),
        };
        let before = *self;
        for l in &mut self.leases {
            l.owner = of(l.owner);
            l.intended = of(l.intended);
        }
        let write = |m: &mut Write| {
            m.by = of(m.by);
            m.intended = of(m.intended);
            m.owner = of(m.owner);
            if m.is_some() && !m.is_on_lease() {
                m.on = of(m.on);
            }
        };
        self.loose.iter_mut().for_each(write);
        for n in 0..NAMES as u8 {
            self.items[usize::from(of(n))] = before.items[usize::from(n)];
        }
        for (w, place) in to.into_iter().enumerate() {
            let mut worker = before.workers[w];
            worker.incarnation ^= flip >> w & 1;
            write(&mut worker.beat);
            worker.sent.iter_mut().for_each(write);
            worker.missing = 0;
            for n in 0..NAMES as u8 {
                worker.missing |= (before.workers[w].missing >> n & 1) << of(n);
            }
            self.workers[place] = worker;
        }
    }

    /// 64 bits that tell states apart that differ by more than the places of the workers.
    #[must_use]
    pub fn fingerprint(&self, rules: &Setting) -> u64 {
        let orders: &[[usize; WORKERS]] = match rules.workers {
            1 => &[[0, 1, 2]],
            2 => &[[0, 1, 2], [1, 0, 2]],
            _ => &[[0, 1, 2], [1, 0, 2], [0, 2, 1], [2, 1, 0], [1, 2, 0], [2, 0, 1]],
        };
        let print = |to: &[usize; WORKERS]| {
            let mut s = *self;
            s.rename(*to, 0);
            s.loose.sort_unstable_by(|a, b| b.cmp(a));
            s.print(rules)
        };
        orders.iter().map(print).min().unwrap_or_default()
    }

    fn print(&self, rules: &Setting) -> u64 {
        let mut mix = Mix(0x9e37_79b9_7f4a_7c15);
        for lease in &self.leases[..=rules.children] {
            mix.add(lease.packed());
        }
        for (n, m) in self.loose[..rules.loose].iter().enumerate() {
            mix.add(m.packed() | (n as u64) << 56);
        }
        let mut word = u64::from(self.went_back);
        for item in &self.items[..rules.workers * 2] {
            word = word << 10 | u64::from(item.counter & 15) << 6 | u64::from(item.still) << 2 | item.state as u64;
        }
        mix.add(word);
        for w in &self.workers[..rules.workers] {
            let bits =
                [w.power as u8, w.incarnation, w.member as u8, w.counter, w.age, u8::from(w.unanswered), w.missing];
            mix.add(u64::from_le_bytes([bits[0], bits[1], bits[2], bits[3], bits[4], bits[5], bits[6], 0]));
            mix.add(w.beat.packed());
            for l in 0..=rules.children {
                let h = w.held[l];
                mix.add(u64::from_le_bytes([
                    h.hold as u8 | u8::from(h.unanswered) << 4,
                    h.counter,
                    h.age,
                    h.progress,
                    0,
                    0,
                    0,
                    1,
                ]));
                mix.add(w.sent[l].packed());
            }
        }
        mix.0
    }
}

impl Lease {
    fn packed(&self) -> u64 {
        let flags = u8::from(self.exists) | u8::from(self.evicted) << 1 | u8::from(self.gone) << 2;
        u64::from_le_bytes([flags, self.owner, self.intended, self.checkpoint, self.counter, self.still, 0, 0])
    }
}

impl Write {
    fn packed(&self) -> u64 {
        let names = u64::from(self.owner) << 8 | u64::from(self.by) << 4 | u64::from(self.intended);
        let small = u64::from(self.age) << 4 | u64::from(self.checkpoint) << 1 | u64::from(self.applied);
        (self.kind as u64) | u64::from(self.on) << 8 | u64::from(self.counter) << 16 | names << 24 | small << 40
    }
}

fn names(m: &Write, n: u8) -> bool {
    m.is_some()
        && (m.by == n || m.intended == n || (!m.is_on_lease() && m.on == n) || (m.is_on_lease() && m.owner == n))
}

struct Mix(u64);

impl Mix {
    fn add(&mut self, v: u64) {
        let x = u128::from(self.0 ^ v).wrapping_mul(0x9ddf_ea08_eb38_2d69_c3a5_c85c_97cb_3127_u128);
        self.0 = (x as u64) ^ ((x >> 64) as u64).rotate_left(23) ^ v.rotate_left(41);
    }
}
