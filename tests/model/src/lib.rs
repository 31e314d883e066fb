//! The rules of ownership as a finite model, searched to the end of its state space. See `docs/ownership-model.md`.

mod answers;
pub mod catalogue;
mod holder;
mod member;
pub mod moves;
pub mod rules;
pub mod search;
pub mod state;
pub mod table;
