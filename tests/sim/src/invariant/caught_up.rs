//! L4: once nothing fails any more, every shard that is open or unread is owned by a worker that lives, and none is behind.
//!
//! What is behind shows as records that are missing. Source: P5.

use super::{Ending, Law};

pub(super) const LAW: Law = Law { id: "L4", promise: "P5", name: "caught up" };

/// What is wrong, one sentence each.
pub(super) fn check(ending: &Ending) -> Vec<String> {
    if ending.owned.is_empty() {
        return Vec::new();
    }
    let waiting =
        ending.leases.iter().filter(|lease| lease.owner.is_none() && !lease.is_finished() && lease.stop.is_none());
    let mut wrong: Vec<String> = waiting.map(|lease| format!("nobody reads {}", lease.shard)).collect();
    let unfinished = ending.leases.iter().filter(|lease| !lease.is_finished() && lease.stop.is_none()).count();
    let owned: usize = ending.owned.iter().map(|(_, owned)| owned).sum();
    if owned != unfinished {
        wrong.push(format!("the workers own {owned} shards, and {unfinished} are to be read"));
    }
    wrong
}

#[cfg(test)]
mod tests {
    use super::super::testing::{ending, lease};
    use super::*;

    #[test]
    fn a_shard_that_nobody_reads_is_found() {
        let of = |owner, owned| {
            let mut ending = ending(&[("s", None)], vec![lease("s", 3, owner)]);
            ending.owned = vec![("a".to_owned(), owned)];
            check(&ending).len()
        };
        assert_eq!(of(Some("a/1"), 1), 0);
        assert_eq!(of(None, 0), 2);
        assert_eq!(of(Some("dead/1"), 0), 1, "its owner is gone");
    }
}
