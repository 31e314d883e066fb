//! L6: a graceful hand-over delivers nothing twice, and a crash no more than was under way.
//!
//! What that is depends on the run, so its scenario says it. Source: P9, P2.

use super::{Ending, Expect, Law};

pub(super) const LAW: Law = Law { id: "L6", promise: "P9", name: "repeats" };

/// What is wrong, one sentence each.
pub(super) fn check(ending: &Ending, expect: &Expect) -> Vec<String> {
    let repeated = ending.verdict.repeated;
    match expect.repeats.filter(|most| repeated > *most) {
        Some(most) => vec![format!("{repeated} records were delivered again, {most} may be")],
        None => Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::super::records::Verdict;
    use super::*;

    #[test]
    fn more_repeats_than_expected_are_found() {
        let ending = Ending { verdict: Verdict { repeated: 3, ..Verdict::default() }, ..Ending::default() };
        let with = |repeats| check(&ending, &Expect { repeats, ..Expect::default() }).len();
        assert_eq!((with(None), with(Some(3)), with(Some(2))), (0, 0, 1));
    }
}
