//! Pure policy: what to do, decided by plain functions of what was seen. Nothing here waits, reads a clock or draws a
//! random number; time comes as [`crate::Mono`], randomness as an argument.

pub(crate) mod attention;
pub(crate) mod backoff;
pub(crate) mod balance;
pub(crate) mod budget;
pub(crate) mod expect;
pub(crate) mod foreign;
pub(crate) mod lineage;
pub(crate) mod listing;
pub(crate) mod load;
pub(crate) mod loss;
pub(crate) mod missing;
pub(crate) mod observe;
pub(crate) mod pacing;
pub(crate) mod polling;
pub(crate) mod progress;
pub(crate) mod readers;
pub(crate) mod recall;
pub(crate) mod retry;
pub(crate) mod round;
pub(crate) mod start;
pub(crate) mod succession;
pub(crate) mod tenure;
