//! A run in words: what happened to leases, and what workers told.

use std::time::Duration;

use super::Seen;

pub(super) fn talk(at: Duration, seen: &Seen<'_>) {
    let at = at.as_secs_f64();
    match seen {
        Seen::Lease { before, after: Some(after) } => {
            let same = |before: &&kcl_core::Lease| {
                (&before.owner, before.evicted, &before.intended_for)
                    == (&after.owner, after.evicted, &after.intended_for)
                    && (before.is_finished(), &before.stop) == (after.is_finished(), &after.stop)
            };
            if before.as_ref().is_none_or(|before| !same(before)) {
                let from = before.and_then(|before| before.owner.as_ref()).map(ToString::to_string);
                let to = after.owner.as_ref().map(ToString::to_string);
                let intended = after.intended_for.as_ref().map(ToString::to_string);
                println!(
                    "{at:10.3} {} from {from:?} to {to:?} for {intended:?} evicted {} stop {:?} at {:?}",
                    after.shard, after.evicted, after.stop, after.checkpoint
                );
            }
        }
        Seen::Lease { before: Some(before), after: None } => println!("{at:10.3} {} deleted", before.shard),
        Seen::Worker { before, after } if before.map(|b| b.state) != after.map(|a| a.state) => {
            println!("{at:10.3} worker {before:?} is {after:?}");
        }
        Seen::Opened(opened) => println!("{at:10.3} {} opened by {:?}", opened.shard, opened.place),
        Seen::Told(kind) => println!("{at:10.3} {kind:?}"),
        _ => {}
    }
}
