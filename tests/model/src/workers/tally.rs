//! What a walk has tried.

/// How often the engine decided, and how.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Tally {
    /// A validity that both have.
    pub valid: usize,
    /// A validity that the model has and the engine has not.
    pub stricter: usize,
    /// A refused write that both go on from.
    pub found: usize,
    /// A lease that the engine takes.
    pub takes: usize,
    /// A lease whose owner is gone, or has let it expire, in both.
    pub expired: usize,
    /// A lease in its own name that the engine takes up.
    pub own: usize,
    /// A hand-over or an eviction of the engine's plan.
    pub moves: usize,
    /// A fence or a deletion that the engine writes.
    pub farewells: usize,
}

impl Tally {
    /// Adds those of another walk.
    pub fn add(&mut self, other: &Self) {
        self.valid += other.valid;
        self.stricter += other.stricter;
        self.found += other.found;
        self.takes += other.takes;
        self.expired += other.expired;
        self.own += other.own;
        self.moves += other.moves;
        self.farewells += other.farewells;
    }
}
