//! L3: once nothing fails any more, the shards are shared evenly: no worker has more than one more than another.
//!
//! Source: design §6; P5.

use super::{Ending, Expect, Law};

pub(super) const LAW: Law = Law { id: "L3", promise: "P5", name: "even share" };

/// What is wrong, one sentence each.
pub(super) fn check(ending: &Ending, expect: &Expect) -> Vec<String> {
    let most = ending.owned.iter().map(|(_, owned)| *owned).max().unwrap_or(0);
    let least = ending.owned.iter().map(|(_, owned)| *owned).min().unwrap_or(0);
    match expect.even && most > least + 1 {
        true => vec![format!("the shards are shared as {:?}", ending.owned)],
        false => Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shared(owned: &[usize]) -> Vec<String> {
        let owned = owned.iter().enumerate().map(|(n, owned)| (format!("w{n}"), *owned)).collect();
        check(&Ending { owned, ..Ending::default() }, &Expect { even: true, ..Expect::default() })
    }

    #[test]
    fn a_difference_of_more_than_one_is_found() {
        assert_eq!(shared(&[3, 2, 3]), [""; 0]);
        assert_eq!(shared(&[3, 1]).len(), 1);
        assert_eq!(shared(&[]), [""; 0]);
    }
}
