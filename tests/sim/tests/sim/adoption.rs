//! A lease table that a Java fleet left is taken over where it stands.

use std::time::Duration;

use kcl_core::{Checkpoint, KeyForm, Lease, LeaseCounter, LeaseKey, SequenceNumber, Shard, ShardId, TableItem};
use sim::fleet::{Fleet, Setup};
use sim::seeds;

const SECOND: Duration = Duration::from_secs(1);

fn java(fleet: &Fleet, shard: &Shard, checkpoint: Checkpoint, owner: Option<&str>) -> Lease {
    let key = LeaseKey::of(KeyForm::Bare, &fleet.stream, &shard.id);
    let mut lease = Lease::new(key, shard.id.clone(), LeaseCounter(321), checkpoint);
    lease.owner = owner.map(|owner| owner.parse().expect("legal"));
    lease.parents = shard.parent.iter().cloned().collect();
    lease
}

fn half(fleet: &Fleet, shard: &ShardId) -> (usize, SequenceNumber) {
    let written = fleet.truth().shards[shard].written.clone();
    (written.len() / 2, written[written.len() / 2 - 1])
}

#[test]
fn a_java_table_is_read_on_from_its_checkpoints_with_parents_first() {
    for seed in seeds(20) {
        sim::run(seed, |sim| async move {
            let fleet = Setup::new(3).build(&sim);
            for _ in 0..2 {
                fleet.write(300, 100);
                sim.sleep(SECOND).await;
                fleet.service.roll_all(&fleet.stream).expect("there");
            }
            fleet.write(300, 100);
            let shards: Vec<Shard> = fleet.service.shards(&fleet.stream).into_iter().map(|view| view.shard).collect();
            let roots: Vec<&Shard> = shards.iter().filter(|shard| shard.parent.is_none()).collect();
            let child =
                |of: &Shard| shards.iter().find(|shard| shard.parent.as_ref() == Some(&of.id)).expect("rolled").clone();
            let worker = Some("0f0ddd6b-9a3f-4b54-a8f7-5b0e1f8c1c9c");
            // Half read, by a worker that is gone; its child has a lease already, that Java would read from LATEST.
            let (done_a, at_a) = half(&fleet, &roots[0].id);
            fleet.leases.put_lease(java(&fleet, roots[0], Checkpoint::Sequence(at_a), worker));
            fleet.leases.put_lease(java(&fleet, &child(roots[0]), Checkpoint::Latest, None));
            // Finished, and Java leaves the owner named; the child is half read.
            let finished_b = java(&fleet, roots[1], Checkpoint::ShardEnd, worker);
            fleet.leases.put_lease(finished_b.clone());
            let child_b = child(roots[1]);
            let (done_b, at_b) = half(&fleet, &child_b.id);
            fleet.leases.put_lease(java(&fleet, &child_b, Checkpoint::Sequence(at_b), worker));
            // Nothing of it was read.
            fleet.leases.put_lease(java(&fleet, roots[2], Checkpoint::TrimHorizon, None));

            let workers = ["a", "b"].map(|name| fleet.join(name));
            sim.sleep(60 * SECOND).await;
            let mut truth = fleet.truth();
            truth.shards.get_mut(&roots[0].id).expect("known").optional = done_a;
            truth.shards.get_mut(&child_b.id).expect("known").optional = done_b;
            let root_b = truth.shards.get_mut(&roots[1].id).expect("known");
            (root_b.optional, root_b.gone) = (root_b.written.len(), true);
            let verdict = fleet.history.judge(&truth);
            assert!(verdict.is_complete(), "seed {seed}: {verdict}");
            let expected = 900 - done_a - done_b - truth.shards[&roots[1].id].written.len();
            assert_eq!((verdict.delivered, verdict.repeated), (expected as u64, 0), "seed {seed}");
            assert_eq!(fleet.losses.all(), []);
            assert_eq!(fleet.lease(&roots[1].id), Some(finished_b), "a finished lease is left alone");
            assert_eq!(workers.iter().map(|worker| worker.owned().len()).sum::<usize>(), 3);
            assert!(fleet.leases.leases().iter().all(|lease| !lease.key.is_qualified()));
            assert!(fleet.leases.snapshot().iter().any(|item| matches!(item, TableItem::Marker(m) if m.complete)));
        });
    }
}
