use std::time::Duration;

use serde_dynamo::{AttributeValue, Item};

use super::*;
use crate::contract::{DescribePage, MAX_RECORDS, SourceErrorKind, SourceOp, StreamSource};
use crate::model::{IteratorPosition, ShardId, StreamArn, StreamStatus, StreamViewType, TableName};
use crate::record::EventName;
use crate::testing::{run, virtual_rt};

const HOUR: Duration = Duration::from_secs(3600);

struct Fixture {
    rt: Rt,
    service: ReferenceStream,
    table: TableName,
    stream: StreamArn,
}

fn fixture(options: StreamOptions, shards: usize) -> Fixture {
    let rt = virtual_rt();
    let service = ReferenceStream::new(rt.clone(), options);
    let table: TableName = "orders".parse().expect("legal");
    let stream = service.create_table(&table, &["id"], StreamViewType::NewAndOldImages, shards).expect("new");
    Fixture { rt, service, table, stream }
}

fn item(id: &str, v: &str) -> Item {
    let mut item = Item::default();
    item.insert("id".to_owned(), AttributeValue::S(id.to_owned()));
    item.insert("v".to_owned(), AttributeValue::S(v.to_owned()));
    item
}

impl Fixture {
    fn put(&self, id: &str, v: &str) -> Option<Written> {
        self.service.put(&self.table, item(id, v)).expect("a table")
    }

    async fn oldest(&self, shard: &ShardId) -> crate::ShardIterator {
        self.service.shard_iterator(&self.stream, shard, IteratorPosition::TrimHorizon).await.expect("an iterator")
    }

    async fn listed(&self) -> Vec<ShardId> {
        let page = self.service.describe_stream(&self.stream, &DescribePage::default()).await.expect("described");
        page.shards.into_iter().map(|shard| shard.id).collect()
    }

    async fn describe_kind(&self) -> Option<SourceErrorKind> {
        self.service.describe_stream(&self.stream, &DescribePage::default()).await.err().map(|error| error.kind())
    }
}

#[test]
fn a_keys_changes_follow_its_lineage() {
    run(async {
        let f = fixture(StreamOptions::default(), 3);
        for n in 0..50 {
            f.put(&n.to_string(), "a");
        }
        for shard in f.service.open_shards(&f.stream) {
            f.service.split(&f.stream, &shard).expect("open");
        }
        for n in 0..50 {
            let (before, after) = (n.to_string(), f.put(&n.to_string(), "b").expect("recorded"));
            let views = f.service.shards(&f.stream);
            let child = views.iter().find(|view| view.shard.id == after.shard).expect("known");
            let parent = child.shard.parent.clone().expect("a child");
            let (_, records) =
                f.service.written(&f.stream).into_iter().find(|(id, _)| *id == parent).expect("the parent");
            let first = records.iter().find(|record| record.keys().expect("keys") == keys(&before));
            assert!(first.expect("in the parent").sequence_number() < after.sequence_number);
        }
    });
}

fn keys(id: &str) -> Item {
    let mut keys = item(id, "");
    keys.remove("v");
    keys
}

#[test]
fn an_update_merges_and_a_time_to_live_says_who_deleted() {
    run(async {
        let f = fixture(StreamOptions::default(), 1);
        f.put("1", "a");
        let mut more = Item::default();
        more.insert("w".to_owned(), AttributeValue::Bool(true));
        f.service.update(&f.table, &keys("1"), more.clone()).expect("a table");
        assert_eq!(f.service.update(&f.table, &keys("1"), more).expect("a table"), None);
        assert_eq!(f.service.get(&f.table, &keys("1")).expect("a table").expect("an item").len(), 3);
        f.service.ttl_delete(&f.table, &keys("1")).expect("a table");
        let records = f.service.written(&f.stream).remove(0).1;
        let events: Vec<EventName> = records.iter().map(|record| record.event_name()).collect();
        assert_eq!(events, [EventName::Insert, EventName::Modify, EventName::Remove]);
        assert_eq!(records.iter().map(|record| record.is_ttl_delete()).collect::<Vec<_>>(), [false, false, true]);
        assert!(f.service.put(&f.table, Item::default()).is_err(), "an item without its key");
    });
}

#[test]
fn a_closed_shard_vanishes_a_day_after_its_closing() {
    run(async {
        let f = fixture(StreamOptions::default(), 1);
        f.put("1", "a");
        let root = f.service.open_shards(&f.stream).remove(0);
        f.rt.sleep(23 * HOUR).await;
        let child = f.service.roll(&f.stream, &root).expect("open");
        f.rt.sleep(23 * HOUR).await;
        assert_eq!(f.listed().await.len(), 2);
        let empty = f.service.get_records(&f.oldest(&root).await, 10).await.expect("a page");
        assert!(empty.records.is_empty() && empty.next.is_none(), "its record is older than a day");
        f.rt.sleep(HOUR).await;
        assert_eq!(f.listed().await, [child]);
        let gone = f.service.shard_iterator(&f.stream, &root, IteratorPosition::TrimHorizon).await;
        assert_eq!(gone.expect_err("vanished").kind(), SourceErrorKind::NotFound);
        assert_eq!(f.service.written(&f.stream).iter().map(|(_, records)| records.len()).sum::<usize>(), 1);
    });
}

#[test]
fn shards_roll_by_themselves_when_told_to() {
    run(async {
        let f = fixture(StreamOptions { roll_every: Some(4 * HOUR), ..StreamOptions::default() }, 2);
        f.rt.sleep(13 * HOUR).await;
        let views = f.service.shards(&f.stream);
        assert_eq!(views.len(), 8);
        assert_eq!(views.iter().filter(|view| view.closed.is_none()).count(), 2);
        f.rt.sleep(87 * HOUR).await;
        assert_eq!(f.listed().await.len(), 2 * 7);
    });
}

#[test]
fn without_history_what_is_trimmed_takes_no_memory() {
    run(async {
        let f = fixture(StreamOptions { keep_history: false, ..StreamOptions::default() }, 1);
        let root = f.service.open_shards(&f.stream).remove(0);
        f.put("1", "a");
        f.service.roll(&f.stream, &root).expect("open");
        f.rt.sleep(25 * HOUR).await;
        f.put("1", "b");
        let written = f.service.written(&f.stream);
        assert_eq!(written.iter().map(|(_, records)| records.len()).collect::<Vec<_>>(), [1]);
    });
}

#[test]
fn a_stream_that_is_enabled_again_is_another_one() {
    run(async {
        let f = fixture(StreamOptions::default(), 2);
        f.put("1", "a");
        f.service.disable_stream(&f.table).expect("enabled");
        assert_eq!(f.put("1", "b"), None, "nothing is captured");
        let second = f.service.enable_stream(&f.table, StreamViewType::KeysOnly, 1).expect("disabled");
        assert!(f.service.enable_stream(&f.table, StreamViewType::KeysOnly, 1).is_err());
        f.put("1", "c");
        let listed = f.service.list_streams(&f.table).await.expect("a table");
        assert_eq!(listed.iter().map(|summary| &summary.arn).collect::<Vec<_>>(), [&f.stream, &second]);
        let old = f.service.describe_stream(&f.stream, &DescribePage::default()).await.expect("readable");
        assert_eq!((old.status, old.shards.len()), (StreamStatus::Disabled, 2));
        f.rt.sleep(24 * HOUR).await;
        assert_eq!(f.describe_kind().await, Some(SourceErrorKind::NotFound));
        assert_eq!(f.service.list_streams(&f.table).await.expect("a table").len(), 1);
        f.service.delete_table(&f.table).expect("a table");
        assert_eq!(f.service.list_streams(&f.table).await.expect("a day long").len(), 1);
        f.rt.sleep(24 * HOUR).await;
        let gone = f.service.list_streams(&f.table).await.expect_err("neither table nor stream");
        assert_eq!(gone.kind(), SourceErrorKind::NotFound);
    });
}

#[test]
fn a_new_stream_lists_no_shards_while_it_is_enabling() {
    run(async {
        let f = fixture(StreamOptions { enabling_for: HOUR, disabling_for: HOUR, ..StreamOptions::default() }, 2);
        let status = async || {
            let page = f.service.describe_stream(&f.stream, &DescribePage::default()).await.expect("described");
            (page.status, page.shards.len())
        };
        assert_eq!(status().await, (StreamStatus::Enabling, 0));
        assert_eq!(f.put("1", "a"), None);
        f.rt.sleep(HOUR).await;
        assert_eq!(status().await, (StreamStatus::Enabled, 2));
        f.service.disable_stream(&f.table).expect("enabled");
        assert_eq!(status().await, (StreamStatus::Disabling, 2));
        f.rt.sleep(HOUR).await;
        assert_eq!(status().await, (StreamStatus::Disabled, 2));
    });
}

#[test]
fn listings_are_limited_to_their_rates() {
    run(async {
        let f = fixture(StreamOptions::default(), 1);
        let mut answered = 0;
        while f.describe_kind().await.is_none() {
            answered += 1;
        }
        assert_eq!(answered, 10);
        assert_eq!(f.describe_kind().await, Some(SourceErrorKind::Throttled));
        f.rt.sleep(Duration::from_secs(1)).await;
        assert_eq!(f.describe_kind().await, None);
        for _call in 0..5 {
            f.service.list_streams(&f.table).await.expect("within the rate");
        }
        assert_eq!(f.service.list_streams(&f.table).await.expect_err("6").kind(), SourceErrorKind::Throttled);
        assert_eq!(f.service.calls().of(SourceOp::DescribeStream), 13);
        assert_eq!(f.service.calls().total(), 19);
    });
}

#[test]
fn a_third_reader_is_throttled_while_two_are_reading() {
    run(async {
        let f = fixture(StreamOptions::default(), 1);
        let shard = f.service.open_shards(&f.stream).remove(0);
        let readers = [f.oldest(&shard).await, f.oldest(&shard).await, f.oldest(&shard).await];
        for _round in 0..4 {
            f.service.get_records(&readers[0], 1).await.expect("first");
            f.service.get_records(&readers[1], 1).await.expect("second");
            let third = f.service.get_records(&readers[2], 1).await.expect_err("third");
            assert_eq!(third.kind(), SourceErrorKind::Throttled);
            let cause = std::error::Error::source(&third).and_then(|cause| cause.downcast_ref::<ServiceError>());
            assert_eq!(cause.expect("a code").code(), ServiceErrorCode::LimitExceeded);
            f.rt.sleep(Duration::from_millis(500)).await;
        }
        f.rt.sleep(Duration::from_millis(500)).await;
        f.service.get_records(&readers[2], 1).await.expect("the others are silent");
    });
}

#[test]
fn iterators_expire_on_command() {
    run(async {
        let f = fixture(StreamOptions::default(), 1);
        let shard = f.service.open_shards(&f.stream).remove(0);
        let before = f.oldest(&shard).await;
        f.service.expire_iterators();
        assert_eq!(f.service.get_records(&before, 1).await.expect_err("old").kind(), SourceErrorKind::Expired);
        f.service.get_records(&f.oldest(&shard).await, 1).await.expect("new");
    });
}

#[test]
fn a_number_that_was_trimmed_is_refused_and_its_neighbour_is_not() {
    run(async {
        let f = fixture(StreamOptions::unthrottled(), 1);
        let numbers: Vec<_> = ["1", "2", "3"].map(|id| f.put(id, "a").expect("recorded")).into();
        let shard = numbers[0].shard.clone();
        f.service.trim(&f.stream, &shard, numbers[1].sequence_number).expect("a shard");
        let kind = async |position| {
            f.service.shard_iterator(&f.stream, &shard, position).await.err().map(|error| error.kind())
        };
        let (last, kept) = (numbers[1].sequence_number, numbers[2].sequence_number);
        assert_eq!(kind(IteratorPosition::At(last)).await, Some(SourceErrorKind::Trimmed));
        assert_eq!(kind(IteratorPosition::After(last)).await, Some(SourceErrorKind::Trimmed));
        assert_eq!(kind(IteratorPosition::At(kept)).await, None);
        f.service.roll(&f.stream, &shard).expect("open");
        let ending = f.service.shards(&f.stream).iter().find_map(|view| view.shard.ending).expect("closed");
        assert_eq!(kind(IteratorPosition::After(ending)).await, None);
        let beyond = format!("{}0", ending.as_str()).parse().expect("a number");
        assert_eq!(kind(IteratorPosition::At(beyond)).await, Some(SourceErrorKind::Invalid));
        f.service.trim_all(&f.stream, &shard).expect("a shard");
        let page = f.service.get_records(&f.oldest(&shard).await, 1).await.expect("a page");
        assert!(page.records.is_empty() && page.next.is_none());
    });
}

#[test]
fn a_shard_can_be_made_unknown_for_a_while_and_removed_for_good() {
    run(async {
        let f = fixture(StreamOptions::default(), 1);
        let shard = f.service.open_shards(&f.stream).remove(0);
        let open = f.oldest(&shard).await;
        f.service.make_unknown(&f.stream, &shard, HOUR / 6).expect("a shard");
        assert_eq!(f.listed().await, std::slice::from_ref(&shard));
        assert_eq!(f.service.get_records(&open, 1).await.expect_err("unknown").kind(), SourceErrorKind::NotFound);
        f.rt.sleep(HOUR / 6).await;
        f.service.get_records(&open, 1).await.expect("known again");
        assert_eq!(f.service.remove_shard(&f.stream, &shard), Err(TableError::Open(shard.clone())));
        let child = f.service.roll(&f.stream, &shard).expect("open");
        f.service.remove_shard(&f.stream, &shard).expect("closed");
        assert_eq!(f.listed().await, [child]);
        assert_eq!(f.service.roll(&f.stream, &shard), Err(TableError::NoShard(shard)));
    });
}

#[test]
fn describing_after_a_shard_that_is_gone_goes_on_behind_it() {
    run(async {
        let f = fixture(StreamOptions { trailing_empty_page: true, describe_page: 2, ..StreamOptions::default() }, 4);
        let all: Vec<ShardId> = f.service.shards(&f.stream).into_iter().map(|view| view.shard.id).collect();
        assert!(all.is_sorted());
        let describe = async |after: &str| {
            let after = Some(after.parse().expect("an id"));
            let page = DescribePage { after, children_of: None };
            f.service.describe_stream(&f.stream, &page).await.expect("described")
        };
        assert_eq!(describe("shardId-0").await.shards.len(), 2);
        let last = describe(all[1].as_str()).await;
        assert_eq!(last.last_evaluated.as_ref(), all.last(), "a full page names a next one");
        let trailing = describe(all[3].as_str()).await;
        assert!(trailing.shards.is_empty() && trailing.last_evaluated.is_none());
    });
}

#[test]
fn many_records_are_pushed_without_a_table() {
    run(async {
        let f = fixture(StreamOptions::unthrottled(), 1);
        f.put("1", "a");
        let shard = f.service.open_shards(&f.stream).remove(0);
        let parts = || crate::RecordParts {
            event_id: String::new(),
            event_name: EventName::Insert,
            region: "local-1".to_owned(),
            sequence_number: crate::SequenceNumber::from_u128(0),
            created_at: std::time::UNIX_EPOCH,
            keys: keys("1"),
            new_image: None,
            old_image: None,
            view_type: StreamViewType::KeysOnly,
            size_bytes: 100,
            deleted_by_ttl: false,
        };
        let ends = f.service.push_to(&f.stream, &shard, (0..2500).map(|_| parts())).expect("open").expect("some");
        assert!(ends.0 < ends.1);
        assert_eq!(f.service.push(&f.stream, parts()).expect("routed").shard, shard);
        let mut next = Some(f.oldest(&shard).await);
        let mut sizes = Vec::new();
        while let Some(at) = next.take().filter(|_| sizes.len() < 4) {
            let page = f.service.get_records(&at, MAX_RECORDS).await.expect("a page");
            sizes.push(page.records.len());
            next = page.next;
        }
        assert_eq!(sizes, [1000, 1000, 502, 0]);
    });
}
