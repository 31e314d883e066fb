//! The rules of ownership as a finite model, searched to the end of its state space. See `docs/ownership-model.md`.

// The tests of the engine's files run where they live.
#![cfg(not(test))]
#![expect(unexpected_cfgs, reason = "a feature of the engine's, in a file of it")]

mod answers;
pub mod catalogue;
mod engine;
mod holder;
mod member;
pub mod moves;
#[expect(dead_code, reason = "the engine's own files, of which the model calls what concerns ownership")]
#[path = "../../../kcl-core/src/policy/mod.rs"]
mod policy;
pub mod rules;
pub mod search;
pub mod state;
pub mod table;
pub mod workers;

use kcl_core::Mono;

/// What the policy imports, under the name that it has in the engine.
mod contract {
    pub(crate) use kcl_core::*;

    /// The same, for code that knows both of them.
    #[derive(Debug, Clone, Copy, PartialEq, Eq)]
    pub(crate) enum Liveness {
        PerLease,
        PerWorker,
    }
}

/// What the policy imports, under the name that it has in the engine.
mod model {
    pub(crate) use kcl_core::*;
}

#[expect(dead_code, reason = "the engine's own file, of which the model uses the names")]
#[path = "../../../kcl-core/src/planted.rs"]
mod bugs;

/// The engine's planted bugs, as many at a time as clauses are taken out.
mod planted {
    use std::cell::Cell;

    pub(crate) use crate::bugs::Bug;

    thread_local! {
        static PLANTED: Cell<u64> = const { Cell::new(0) };
    }

    pub(crate) fn is(bug: Bug) -> bool {
        PLANTED.get() >> bug as u64 & 1 == 1
    }

    /// Calls `act` with these bugs planted.
    pub(crate) fn with<T>(bugs: impl IntoIterator<Item = Bug>, act: impl FnOnce() -> T) -> T {
        let before = PLANTED.replace(bugs.into_iter().fold(0, |all, bug| all | 1 << bug as u64));
        let made = act();
        PLANTED.set(before);
        made
    }
}
