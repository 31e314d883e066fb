//! Snapshots, and what they say of a worker's health.

use expect_test::expect;

use super::*;
use crate::contract::{Mono, Reader, ShardInfo, StartReason};
use crate::policy::attention::{Blocked, Stopped};
use crate::surface::health::HealthReason;
use crate::testing::{run, virtual_rt};

const SECOND: Duration = Duration::from_secs(1);

fn id<T: std::str::FromStr<Err: std::fmt::Debug>>(text: &str) -> T {
    text.parse().expect("legal")
}

fn info(shard: &str) -> ShardInfo {
    ShardInfo {
        stream: id("arn:aws:dynamodb:eu-west-1:123456789012:table/T/stream/l"),
        shard: id(shard),
        parents: Vec::new(),
        epoch: 7,
        reason: StartReason::New,
    }
}

#[test]
fn the_names_of_a_snapshot_stay() {
    run(async {
        let rt = virtual_rt();
        let board = Board::new(rt.clone(), 10 * SECOND);
        board.joined(WorkerId::new("w", 1).expect("legal"));
        let since = rt.now();
        board.begin(&id("a"), &info("a"));
        rt.sleep(SECOND).await;
        board.state(&id("a"), ShardState::Reading);
        board.lag(&id("a"), Duration::from_millis(1500));
        board.processed(&id("a"), id("123456789012345678901"), 3);
        board.error(&id("a"), "it broke");
        board.failed("the table is away");
        board.looked();
        let blocked = Blocked { shard: id("c"), lease: id("c"), parents: vec![id("b")], since };
        let reason = StopReason::DataLost { lost: "some".to_owned() };
        let stopped = Stopped { shard: id("b"), lease: id("b"), reason, checkpoint: Checkpoint::TrimHorizon, since };
        board.seen(2, 3, vec![blocked], vec![stopped]);
        let other = Reader { application: "other".to_owned(), lease_table: "o".to_owned() };
        board.slot(&info("a").stream, false, &[other], Some("no answer"));
        board.turned();
        rt.sleep(2 * SECOND).await;
        let json = serde_json::to_string_pretty(&board.snapshot()).expect("JSON");
        expect![[r#"
            {
              "at_ms": 1700000003000,
              "worker": "w/0000000000000001",
              "phase": "running",
              "lease_duration_ms": 10000,
              "turned_ago_ms": 2000,
              "table_seen_ago_ms": 2000,
              "live_workers": 2,
              "leases_seen": 3,
              "shards": [
                {
                  "stream": "arn:aws:dynamodb:eu-west-1:123456789012:table/T/stream/l",
                  "shard": "a",
                  "lease": "a",
                  "epoch": 7,
                  "state": "reading",
                  "state_age_ms": 2000,
                  "owned_for_ms": 3000,
                  "lag_ms": 1500,
                  "processed": "123456789012345678901",
                  "processed_ago_ms": 2000,
                  "records": 3,
                  "last_error": {
                    "error": "it broke",
                    "at_ms": 1700000001000,
                    "ago_ms": 2000
                  }
                }
              ],
              "blocked": [
                {
                  "shard": "c",
                  "lease": "c",
                  "parents": [
                    "b"
                  ],
                  "age_ms": 3000
                }
              ],
              "stopped": [
                {
                  "shard": "b",
                  "lease": "b",
                  "reason": "data-lost: some",
                  "checkpoint": "TRIM_HORIZON",
                  "age_ms": 3000
                }
              ],
              "reader_slots": [
                {
                  "stream": "arn:aws:dynamodb:eu-west-1:123456789012:table/T/stream/l",
                  "held": false,
                  "age_ms": 2000,
                  "holders": [
                    "other (lease table o)"
                  ],
                  "error": "no answer"
                }
              ],
              "last_error": {
                "error": "the table is away",
                "at_ms": 1700000001000,
                "ago_ms": 2000
              }
            }"#]]
        .assert_eq(&json);
        board.end(&id("a"));
        assert!(board.snapshot().shards.is_empty());
        let health = serde_json::to_string(&board.snapshot().health()).expect("JSON");
        assert_eq!(health, r#"{"live":true,"ready":true,"reasons":[]}"#);
    });
}

fn status(phase: Phase, turned_ago: u32, table_seen_ago: Option<u32>) -> WorkerStatus {
    run(async move {
        let board = Board::new(virtual_rt(), 10 * SECOND);
        let table_seen_ago = table_seen_ago.map(|ago| ago * SECOND);
        WorkerStatus { phase, turned_ago: turned_ago * SECOND, table_seen_ago, ..board.snapshot() }
    })
}

#[test]
fn a_worker_is_ready_while_it_is_a_member_and_sees_the_table() {
    let reasons = |phase, turned_ago, seen_ago| status(phase, turned_ago, seen_ago).health().reasons;
    assert_eq!(reasons(Phase::Running, 29, Some(29)), []);
    assert_eq!(reasons(Phase::Built, 0, None), [HealthReason::NotStarted]);
    assert_eq!(reasons(Phase::Joining, 0, None), [HealthReason::NotJoined]);
    assert_eq!(reasons(Phase::Running, 0, None), [HealthReason::TableNotSeen]);
    assert_eq!(reasons(Phase::Running, 0, Some(30)), [HealthReason::TableOutOfSight { seen_ago: 30 * SECOND }]);
    assert_eq!(reasons(Phase::Stopping, 99, Some(99)), [HealthReason::Stopping]);
}

#[test]
fn only_what_a_new_process_mends_makes_a_worker_dead() {
    let health = |phase, turned_ago, seen_ago| {
        let health = status(phase, turned_ago, seen_ago).health();
        (health.live, health.ready)
    };
    assert_eq!(health(Phase::Running, 0, Some(0)), (true, true));
    assert_eq!(health(Phase::Running, 0, Some(3600)), (true, false), "a restart brings no table back");
    assert_eq!(health(Phase::Running, 30, Some(0)), (false, false));
    assert_eq!(health(Phase::Joining, 30, None), (false, false));
    assert_eq!(health(Phase::Stopping, 3600, Some(0)), (true, false), "it may take its time");
    assert_eq!(health(Phase::Ended, 0, Some(0)), (false, false));
    assert_eq!(health(Phase::Built, 3600, None), (true, false));
}

#[test]
fn a_shard_ages_in_its_state_until_the_state_changes() {
    run(async {
        let rt = virtual_rt();
        let board = Board::new(rt.clone(), 10 * SECOND);
        board.begin(&id("a"), &info("a"));
        let age = |board: &Board| board.snapshot().shards[0].state_age;
        board.state(&id("a"), ShardState::WaitingForChildren);
        rt.sleep(5 * SECOND).await;
        board.state(&id("a"), ShardState::WaitingForChildren);
        assert_eq!(age(&board), 5 * SECOND);
        board.state(&id("a"), ShardState::Ending);
        assert_eq!(age(&board), Duration::ZERO);
        assert_eq!(board.snapshot().shards[0].owned_for, 5 * SECOND);
        assert_eq!(board.snapshot().turned_ago, rt.now().since(Mono::default()));
    });
}

#[test]
fn reading_that_waits_for_a_reader_slot_is_a_state_until_it_goes_on() {
    run(async {
        let rt = virtual_rt();
        let board = Board::new(rt.clone(), 10 * SECOND);
        board.begin(&id("a"), &info("a"));
        let state = |board: &Board| {
            let shard = board.snapshot().shards.remove(0);
            (serde_json::to_value(shard.state).expect("JSON"), shard.state_age)
        };
        // Fetching begins beside the processor, in either order.
        board.waits_for_slot(&id("a"), true);
        board.state(&id("a"), ShardState::Reading);
        rt.sleep(SECOND).await;
        assert_eq!(state(&board), ("waiting_for_reader_slot".into(), SECOND));
        board.waits_for_slot(&id("a"), false);
        assert_eq!(state(&board), ("reading".into(), Duration::ZERO));
        board.waits_for_slot(&id("a"), true);
        board.state(&id("a"), ShardState::Ending);
        assert_eq!(state(&board), ("ending".into(), Duration::ZERO), "what ends does not wait any more");
    });
}

#[test]
fn a_reader_slot_ages_until_it_is_lost_and_is_forgotten_with_its_stream() {
    run(async {
        let rt = virtual_rt();
        let board = Board::new(rt.clone(), 10 * SECOND);
        let stream = info("a").stream;
        let held = |held| board.slot(&stream, held, &[], None);
        let shown = || board.snapshot().reader_slots.first().map(|slot| (slot.held, slot.age));
        assert_eq!(shown(), None);
        held(true);
        rt.sleep(SECOND).await;
        held(true);
        assert_eq!(shown(), Some((true, SECOND)));
        held(false);
        assert_eq!(shown(), Some((false, Duration::ZERO)));
        board.slot_left(&stream);
        assert_eq!(shown(), None);
    });
}

#[test]
fn what_an_incarnation_could_not_give_away_is_not_shown_for_the_next_one() {
    run(async {
        let rt = virtual_rt();
        let board = Board::new(rt.clone(), 10 * SECOND);
        board.joined(WorkerId::new("w", 1).expect("legal"));
        for shard in ["a", "b"] {
            board.begin(&id(shard), &info(shard));
        }
        let reason = StopReason::DataLost { lost: "some".to_owned() };
        let stopped =
            Stopped { shard: id("b"), lease: id("b"), reason, checkpoint: Checkpoint::TrimHorizon, since: rt.now() };
        board.seen(2, 3, vec![], vec![stopped]);
        // Its call blocks: nobody says that it has ended.
        board.parted();
        board.joined(WorkerId::new("w", 2).expect("legal"));
        board.begin(&id("a"), &info("a"));
        let status = board.snapshot();
        let shards: Vec<&str> = status.shards.iter().map(|shard| shard.shard.as_str()).collect();
        assert_eq!((shards, status.stopped.len()), (vec!["a"], 0));
    });
}
