//! Breadth first through every reachable state, with the properties checked on each.

use std::collections::HashMap;
use std::fmt;
use std::time::{Duration, Instant};

use crate::moves::{Moves, believes};
use crate::rules::{Mode, Setting};
use crate::state::{
    Held, Hold, ItemState, LEASES, LOOSE, Member, NAMES, NO_ITEM, NO_LEASE, NOBODY, NOT_HELD, Power, SHARD_END, STALE,
    State, WORKERS, Worker, Write, name,
};

/// A property that does not hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Broken {
    /// Two workers believe that they may deliver from one shard.
    TwoOwners,
    /// A checkpoint moved back.
    CheckpointWentBack,
    /// A child was owned before its parent was finished.
    ChildBeforeParent,
    /// A worker lives, and without a further fault the shard is never read again.
    Orphan,
}

impl fmt::Display for Broken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::TwoOwners => "two valid owners",
            Self::CheckpointWentBack => "a checkpoint moved back",
            Self::ChildBeforeParent => "a child before its parent",
            Self::Orphan => "an orphaned lease",
        })
    }
}

/// What a search found.
#[derive(Debug)]
pub struct Found {
    /// States seen.
    pub states: usize,
    /// Those of them in which no worker is suspended.
    pub awake: usize,
    /// Steps between them.
    pub steps: u64,
    /// Steps on the longest of the shortest ways.
    pub depth: usize,
    /// Whether every reachable state was seen.
    pub ended: bool,
    /// The first broken property with the shortest way to it.
    pub broken: Option<(Broken, Vec<String>)>,
    /// Time taken.
    pub took: Duration,
}

/// Where every search begins: the parent's lease waits for an owner, and all workers run.
#[must_use]
pub fn start(rules: &Setting) -> State {
    let mut leases = [NO_LEASE; LEASES];
    leases[0].exists = true;
    leases[rules.children].exists |= rules.child_exists;
    let mut workers = [Worker::fresh(Power::Down, 0); WORKERS];
    workers[..rules.workers].iter_mut().for_each(|w| w.power = Power::Up);
    let items = [NO_ITEM; NAMES];
    let mut s = State { leases, items, workers, loose: [Write::NONE; LOOSE], went_back: false };
    if rules.mode == Mode::PerWorker && rules.joined {
        for w in 0..rules.workers {
            s.items[w * 2].state = ItemState::Live;
            s.workers[w].member = Member::Registered;
            s.workers[w].counter = 0;
        }
        s.leases[0].owner = 0;
        s.workers[0].held[0] = Held { hold: Hold::Yes, counter: 0, ..NOT_HELD };
    }
    s.settle(rules);
    s
}

fn broken(rules: &Setting, s: &State) -> Option<Broken> {
    for l in 0..=rules.children {
        let owners = (0..rules.workers).filter(|w| believes(rules, s, *w, l)).count();
        if owners > 1 {
            return Some(Broken::TwoOwners);
        }
        let early = s.leases[0].exists && s.leases[0].checkpoint != SHARD_END;
        let owned = s.leases[l].exists && s.leases[l].owner != NOBODY;
        if l > 0 && early && (owners > 0 || owned) {
            return Some(Broken::ChildBeforeParent);
        }
    }
    s.went_back.then_some(Broken::CheckpointWentBack)
}

/// Every shard is finished, read by somebody, or waits for a parent that is.
fn is_covered(rules: &Setting, s: &State) -> bool {
    let parent_ended = !s.leases[0].exists || s.leases[0].checkpoint == SHARD_END;
    (0..=rules.children).all(|l| {
        let lease = s.leases[l];
        let waits = l > 0 && !parent_ended;
        let gone = !lease.exists && rules.count_to.is_some();
        waits
            || gone
            || (lease.exists && lease.checkpoint == SHARD_END)
            || (0..rules.workers).any(|w| s.workers[w].held[l].hold == Hold::Yes && believes(rules, s, w, l))
    })
}

/// Counters that are counted end at the bound, and a fleet that may write no more is no orphanage. Neither is a worker that has no
/// name left to come back under: the model gives each two.
fn progress_is_owed(rules: &Setting, s: &State) -> bool {
    let acts = |w: &usize| {
        let worker = &s.workers[*w];
        let item = s.items[usize::from(s.me(*w))].state;
        let stays = match (rules.mode, worker.member) {
            (Mode::PerLease, _) => true,
            (_, Member::New) => matches!(item, ItemState::Absent | ItemState::Live),
            (_, Member::Registered) => item == ItemState::Live && (worker.counter != STALE || worker.unanswered),
            (_, Member::GivenUp) => false,
        };
        worker.power == Power::Up && (stays || !s.mentions(name(*w, 1 - worker.incarnation)))
    };
    rules.count_to.is_none() && (0..rules.workers).any(|w| acts(&w))
}

#[derive(Default)]
struct Graph {
    ids: HashMap<u64, u32, Plain>,
    prints: Vec<u64>,
    from: Vec<u32>,
    /// Faultless steps, as pairs in the order of their first.
    edges: Vec<u32>,
    starts: Vec<usize>,
    covered: Vec<bool>,
    owed: Vec<bool>,
    awake: usize,
}

/// Searches to the end, or to the first broken property. `liveness` costs an edge list.
#[must_use]
pub fn search(rules: &Setting, liveness: bool) -> Found {
    let begun = Instant::now();
    let mut graph = Graph::default();
    let first = start(rules);
    graph.insert(rules, &first, 0);
    let (mut level, mut steps, mut depth) = (vec![first], 0, 0);
    let mut ended = true;
    let mut hit = None;
    'levels: while !level.is_empty() {
        let mut next = Vec::new();
        for (id, s) in (graph.starts.len() as u32..).zip(&level) {
            graph.starts.push(graph.edges.len());
            for (step, after) in Moves::of(rules, s).out {
                steps += 1;
                let (to, new) = graph.insert(rules, &after, id);
                if liveness && !step.fault {
                    graph.edges.push(to);
                }
                if new {
                    if let Some(broken) = broken(rules, &after) {
                        hit = Some((broken, to));
                        break 'levels;
                    }
                    next.push(after);
                }
            }
        }
        if graph.prints.len() > rules.max_states {
            ended = false;
            break;
        }
        depth += 1;
        level = next;
    }
    if hit.is_none() && ended && liveness && rules.count_to.is_none() {
        hit = graph.orphan().map(|id| (Broken::Orphan, id));
    }
    Found {
        states: graph.prints.len(),
        awake: graph.awake,
        steps,
        depth,
        ended: ended && hit.is_none(),
        broken: hit.map(|(broken, id)| (broken, graph.way_to(rules, id))),
        took: begun.elapsed(),
    }
}

impl Graph {
    fn insert(&mut self, rules: &Setting, s: &State, from: u32) -> (u32, bool) {
        let print = s.fingerprint(rules);
        let fresh = self.prints.len() as u32;
        match self.ids.entry(print) {
            std::collections::hash_map::Entry::Occupied(found) => (*found.get(), false),
            std::collections::hash_map::Entry::Vacant(slot) => {
                slot.insert(fresh);
                self.prints.push(print);
                self.from.push(from);
                self.awake += usize::from(s.workers.iter().all(|worker| worker.power != Power::Suspended));
                self.covered.push(is_covered(rules, s));
                self.owed.push(progress_is_owed(rules, s));
                (fresh, true)
            }
        }
    }

    /// The first state with a living worker from which no faultless way leads to a state where all is read.
    fn orphan(&self) -> Option<u32> {
        let n = self.prints.len();
        let mut counts = vec![0_u32; n + 1];
        self.edges.iter().for_each(|to| counts[*to as usize + 1] += 1);
        for i in 0..n {
            counts[i + 1] += counts[i];
        }
        let mut fill = counts.clone();
        let mut back = vec![0_u32; self.edges.len()];
        for id in 0..n {
            let end = self.starts.get(id + 1).copied().unwrap_or(self.edges.len());
            for to in &self.edges[self.starts[id]..end] {
                back[fill[*to as usize] as usize] = id as u32;
                fill[*to as usize] += 1;
            }
        }
        let mut good = self.covered.clone();
        let mut todo: Vec<u32> = (0..n as u32).filter(|id| good[*id as usize]).collect();
        while let Some(id) = todo.pop() {
            for from in &back[counts[id as usize] as usize..counts[id as usize + 1] as usize] {
                if !good[*from as usize] {
                    good[*from as usize] = true;
                    todo.push(*from);
                }
            }
        }
        (0..n as u32).find(|id| self.owed[*id as usize] && !good[*id as usize])
    }

    fn way_to(&self, rules: &Setting, id: u32) -> Vec<String> {
        let mut ids = vec![id];
        while ids[ids.len() - 1] != 0 {
            ids.push(self.from[ids[ids.len() - 1] as usize]);
        }
        ids.reverse();
        let mut s = start(rules);
        let mut way = Vec::new();
        for id in &ids[1..] {
            let wanted = self.prints[*id as usize];
            let found = Moves::of(rules, &s).out.into_iter().find(|(_, next)| next.fingerprint(rules) == wanted);
            if let Some((step, next)) = found {
                way.push(format!("{step}"));
                s = next;
            }
        }
        way.push(describe(rules, &s));
        way
    }
}

fn describe(rules: &Setting, s: &State) -> String {
    use std::fmt::Write as _;
    let mut text = String::from("=>");
    for l in 0..=rules.children {
        let lease = s.leases[l];
        if !lease.exists {
            continue;
        }
        let owners: Vec<usize> = (0..rules.workers).filter(|w| believes(rules, s, *w, l)).collect();
        // Writing to a string cannot fail.
        let _infallible = write!(
            text,
            " lease {l}: owner {} intended {} evicted {} checkpoint {} valid for workers {owners:?};",
            lease.owner, lease.intended, lease.evicted, lease.checkpoint
        );
    }
    if rules.mode == Mode::PerWorker {
        for (n, item) in s.items.iter().enumerate().filter(|(_, item)| item.state != ItemState::Absent) {
            let _infallible = write!(text, " item {n}: {:?};", item.state);
        }
    }
    text
}

#[derive(Default, Clone)]
struct Plain;

impl std::hash::BuildHasher for Plain {
    type Hasher = Same;
    fn build_hasher(&self) -> Same {
        Same(0)
    }
}

/// Fingerprints are mixed already.
struct Same(u64);

impl std::hash::Hasher for Same {
    fn finish(&self) -> u64 {
        self.0
    }
    fn write(&mut self, _: &[u8]) {}
    fn write_u64(&mut self, v: u64) {
        self.0 = v;
    }
}
