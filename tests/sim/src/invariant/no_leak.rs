//! L5: a worker that has ended leaves no task behind.
//!
//! Source: P9.

use super::{Ending, Law};

pub(super) const LAW: Law = Law { id: "L5", promise: "P9", name: "no leak" };

/// What is wrong, one sentence each.
pub(super) fn check(ending: &Ending) -> Vec<String> {
    ending.leaked.iter().map(|task| format!("a worker that has ended left {task} behind")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_task_that_outlives_its_worker_is_found() {
        assert_eq!(check(&Ending::default()), [""; 0]);
        assert_eq!(check(&Ending { leaked: vec!["keeper s".to_owned()], ..Ending::default() }).len(), 1);
    }
}
