//! What is in a table, and taking what is ours out of it.

use expect_test::expect;

use super::*;

/// A table with everything that this library adds.
async fn ours(mode: Liveness) -> MemoryLeaseTable {
    let table = lineage(mode).await;
    let marker = BootstrapMarker {
        stream: stream(),
        at: SystemTime::UNIX_EPOCH,
        start: StartPosition::TrimHorizon,
        complete: true,
    };
    table.fix_marker(&marker).await.expect("fixed");
    table.put_foreign("Leader", "it is of the entity type LEADER");
    table
}

#[test]
fn what_is_ours_is_removed_and_nothing_else() {
    in_both_modes(async |mode| {
        let table = ours(mode).await;
        let before = table.leases();
        let removed = admin(&table).remove_ours(30 * SECOND).await.expect("done");
        assert_eq!(removed, Removed { leases: 5, workers: 2, markers: 1, meta: true });
        let items = table.snapshot();
        let rest = items.iter().filter(|item| !matches!(item, TableItem::Lease(_)));
        assert_eq!(rest.count(), 1, "the foreign item stays");
        for (before, after) in before.iter().zip(table.leases()) {
            assert!(!after.has_own_attributes());
            assert_eq!((&after.checkpoint, &after.parents), (&before.checkpoint, &before.parents));
            assert_eq!(after.owner, None, "of a worker that is gone");
        }
        assert_eq!(admin(&table).remove_ours(SECOND).await.expect("nothing to do"), Removed::default());
    });
}

#[test]
fn nothing_is_removed_under_a_fleet_that_lives() {
    in_both_modes(async |mode| {
        let (table, rt) = (ours(mode).await, virtual_rt());
        let alive = table.clone();
        let beat = async {
            rt.sleep(5 * SECOND).await;
            let worker = alive.worker(&worker("w")).await.expect("read").expect("there");
            alive.write_worker(&worker, WorkerState::Live).await.expect("alive");
            alive.put_lease(get(&alive, "c").after(&LeaseWrite::renew()));
            (alive.snapshot(), rt.sleep(60 * SECOND).await)
        };
        let admin = admin(&table);
        let (removed, (before, ())) = futures::join!(admin.remove_ours(10 * SECOND), beat);
        let error = removed.expect_err("it lives").to_string();
        assert!(error.contains("w/0000000000000001 moved") && error.contains("wrote the lease"), "{error}");
        assert_eq!(table.snapshot(), before);
    });
}

#[test]
fn a_stopped_shard_is_cleared_before_another_library_reads_on() {
    in_both_modes(async |mode| {
        let table = lineage(mode).await;
        let mut lease = get(&table, "d");
        lease.stop = Some(StopReason::DataLost { lost: "some".to_owned() });
        table.put_lease(lease);
        let refused = admin(&table).remove_ours(SECOND).await;
        assert!(matches!(&refused, Err(AdminError::Stopped { keys }) if *keys == [key("d")]), "{refused:?}");
    });
}

#[test]
fn a_list_shows_what_each_lease_waits_for_in_names_that_stay() {
    in_both_modes(async |mode| {
        let table = ours(mode).await;
        admin(&table).rewind(&key("b"), RewindTo::TrimHorizon).await.expect("done");
        let view = admin(&table).list().await.expect("read");
        let states: Vec<(&str, LeaseState)> =
            view.leases.iter().map(|lease| (lease.shard.as_str(), lease.state)).collect();
        assert_eq!(
            states,
            [
                ("a", LeaseState::Finished),
                ("b", LeaseState::Evicted),
                ("c", LeaseState::WaitingForParent),
                ("d", LeaseState::Free),
                ("z", LeaseState::Owned)
            ]
        );
        let evicted = view.workers.iter().filter(|worker| worker.state == "evicted").count();
        assert_eq!(evicted, usize::from(mode == Liveness::PerWorker));
        assert_eq!(view.meta.expect("there").liveness, if evicted == 1 { "per_worker" } else { "per_lease" });
        if evicted == 1 {
            return;
        }
        assert_eq!(view.find("c").len(), 1);
        assert_eq!(view.find(key("c").as_str()), view.find("c"));
        let json = |value: &dyn Fn() -> serde_json::Value| serde_json::to_string_pretty(&value()).expect("JSON");
        let value = serde_json::to_value(&view).expect("JSON");
        expect![[r#"
            {
              "checkpoint": "SHARD_END",
              "children": [
                "b",
                "d"
              ],
              "counter": 10,
              "intended_for": null,
              "key": "123456789012:eu-west-1$123456789012$T$l:1:a",
              "loss_accepted": false,
              "owner": null,
              "parents": [],
              "prepared": null,
              "shard": "a",
              "start_at_ms": null,
              "state": "finished",
              "stop": null,
              "stream": "arn:aws:dynamodb:eu-west-1:123456789012:table/T/stream/l"
            }"#]]
        .assert_eq(&json(&|| value["leases"][0].clone()));
        expect![[r#"
            [
              [
                {
                  "counter": 0,
                  "id": "v/0000000000000001",
                  "leases": 0,
                  "state": "live",
                  "weight": 100
                },
                {
                  "counter": 0,
                  "id": "w/0000000000000001",
                  "leases": 3,
                  "state": "live",
                  "weight": 100
                }
              ],
              [
                {
                  "at_ms": 0,
                  "complete": true,
                  "start": "TRIM_HORIZON",
                  "stream": "arn:aws:dynamodb:eu-west-1:123456789012:table/T/stream/l"
                }
              ],
              {
                "key_form": "qualified",
                "liveness": "per_lease",
                "schema": 1
              },
              [
                {
                  "key": "Leader",
                  "why": "it is of the entity type LEADER"
                }
              ]
            ]"#]]
        .assert_eq(&json(&|| serde_json::json!([value["workers"], value["markers"], value["meta"], value["foreign"]])));
    });
}

#[test]
fn a_table_of_a_later_version_is_shown_and_left_as_it_is() {
    in_both_modes(async |mode| {
        let table = MemoryLeaseTable::new();
        let meta = TableMeta { schema: SCHEMA_VERSION + 1, liveness: mode, key_form: KeyForm::Qualified };
        table.fix_meta(&meta).await.expect("fixed");
        put(&table, "a", None, at(5), None);
        let (before, admin) = (table.snapshot(), admin(&table));
        let other = if mode == Liveness::PerLease { Liveness::PerWorker } else { Liveness::PerLease };
        let refused = [
            admin.change_liveness(other, SECOND).await.map(drop),
            admin.remove_ours(SECOND).await.map(drop),
            admin.rewind(&key("a"), RewindTo::TrimHorizon).await.map(drop),
        ];
        assert!(refused.iter().all(|done| matches!(done, Err(AdminError::TooNew { .. }))), "{refused:?}");
        assert_eq!((table.snapshot(), admin.list().await.expect("shown").leases.len()), (before, 1));
    });
}
