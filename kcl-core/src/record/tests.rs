use std::collections::BTreeMap;

use proptest::prelude::*;
use serde_dynamo::AttributeValue;
use serde_json::{Value, json};

use super::*;

fn text_item(attributes: &[(&str, &str)]) -> Item {
    let mut item = Item::default();
    for (name, text) in attributes {
        item.insert((*name).to_owned(), AttributeValue::S((*text).to_owned()));
    }
    item
}

fn parts(number: u128) -> RecordParts {
    RecordParts {
        event_id: format!("event-{number}"),
        event_name: EventName::Modify,
        region: "eu-west-1".into(),
        sequence_number: SequenceNumber::from_u128(number),
        created_at: UNIX_EPOCH + Duration::from_secs(1_700_000_000),
        keys: text_item(&[("id", "k")]),
        new_image: Some(text_item(&[("id", "k"), ("secret", "after \"all\"")])),
        old_image: Some(text_item(&[("id", "k"), ("secret", "before")])),
        view_type: StreamViewType::NewAndOldImages,
        size_bytes: 42,
        deleted_by_ttl: false,
    }
}

fn page(json: &Value) -> Result<DecodedPage, RecordError> {
    decode_page(Bytes::from(json.to_string()))
}

fn service_record() -> Value {
    json!({
        "eventID": "7de3041dd709b024af6f29e4fa13d34c", "eventName": "REMOVE", "eventVersion": "1.1",
        "eventSource": "aws:dynamodb", "awsRegion": "eu-west-1", "something": [{"new": "}"}],
        "userIdentity": {"PrincipalId": "dynamodb.amazonaws.com", "Type": "Service"},
        "dynamodb": {
            "ApproximateCreationDateTime": 1_700_000_000.25, "Keys": {"id": {"S": "k"}},
            "OldImage": {"id": {"S": "k"}, "n": {"N": "7"}}, "SequenceNumber": "300000000000000499659",
            "SizeBytes": 59, "StreamViewType": "NEW_AND_OLD_IMAGES", "other": null,
        },
    })
}

#[test]
fn a_page_of_the_service_is_split_into_its_records() {
    let body =
        Bytes::from(json!({"Records": [service_record()], "NextShardIterator": "next/\"1\"", "New": {}}).to_string());
    let page = decode_page(body.clone()).expect("a page");
    assert_eq!(page.next_shard_iterator.as_deref(), Some("next/\"1\""));
    assert_eq!((page.records.len(), page.records.bytes()), (1, body.len()));
    let record = &page.records[0];
    assert!(body.as_ptr_range().contains(&record.raw_json().as_ptr()), "records are not copied");
    assert_eq!(record.sequence_number().as_str(), "300000000000000499659");
    assert_eq!(record.event_name(), EventName::Remove);
    assert_eq!(record.event_id().as_deref(), Some("7de3041dd709b024af6f29e4fa13d34c"));
    assert_eq!(record.region().as_deref(), Some("eu-west-1"));
    assert_eq!(record.created_at(), Some(UNIX_EPOCH + Duration::from_millis(1_700_000_000_250)));
    assert_eq!(record.view_type(), Some(StreamViewType::NewAndOldImages));
    assert_eq!(record.size_bytes(), Some(59));
    assert!(record.is_ttl_delete());
    assert_eq!(record.keys().expect("keys"), text_item(&[("id", "k")]));
    assert_eq!(record.new_image().expect("no image"), None);
    assert_eq!(record.old_image().expect("an image").expect("an image").inner()["n"], AttributeValue::N("7".into()));
    let keys: BTreeMap<&str, &str> = record.keys_as().expect("keys");
    assert_eq!(keys, [("id", "k")].into());
    assert_eq!(record.new_image_as::<Value>().expect("no image"), None);
    assert_eq!(record.old_image_as::<Value>().expect("an image"), Some(json!({"id": "k", "n": 7})));
}

#[test]
fn an_answer_that_says_nothing_is_no_last_page() {
    for body in [json!({}), json!({"message": "gateway"}), json!({"NextShardIterator": null})] {
        let error = decode_page(Bytes::from(body.to_string())).expect_err("nothing was said");
        assert_eq!(error.kind(), &RecordErrorKind::Missing("Records"));
    }
}

#[test]
fn a_next_iterator_that_is_no_text_ends_no_shard() {
    for next in [json!(7), json!({}), json!([]), json!(false)] {
        let body = json!({"Records": [], "NextShardIterator": next});
        assert!(decode_page(body.to_string().into()).is_err(), "{body}");
    }
}

#[test]
fn what_the_service_may_leave_out_may_be_missing() {
    for body in [json!({"Records": []}), json!({"Records": null, "NextShardIterator": null})] {
        let page = page(&body).expect("an empty page");
        assert!(page.records.is_empty() && page.next_shard_iterator.is_none());
    }
    let bare =
        json!({"Records": [{"dynamodb": {"SequenceNumber": "1"}, "eventName": "TTL_REMOVE", "userIdentity": null}]});
    let page = page(&bare).expect("a page");
    let record = &page.records[0];
    assert_eq!(record.event_name(), EventName::Unknown("TTL_REMOVE".into()));
    assert_eq!((record.event_id(), record.region(), record.user_identity()), (None, None, None));
    assert_eq!((record.created_at(), record.view_type(), record.size_bytes()), (None, None, None));
    assert!(!record.is_ttl_delete());
    assert_eq!(record.keys().expect_err("no keys").kind(), &RecordErrorKind::Missing("dynamodb.Keys"));
}

#[test]
fn times_are_seconds_with_or_without_a_fraction_and_anything_else_is_not_told() {
    for (time, millis) in [
        (json!(1_700_000_000), Some(1_700_000_000_000)),
        (json!(1.5e9), Some(1_500_000_000_000)),
        (json!(0.001), Some(1)),
        (json!(-1), Some(-1_000)),
        (json!(1e300), None),
        (json!("2024-01-01"), None),
        (json!({"a": 1}), None),
    ] {
        let body = json!({"Records": [{"dynamodb": {"SequenceNumber": "1", "ApproximateCreationDateTime": time}}]});
        let record = page(&body).expect("a page").records[0].clone();
        assert_eq!(record.created_ms, millis, "{time}");
        assert_eq!(record.created_at().is_some(), millis.is_some());
    }
}

#[test]
fn a_record_without_a_sequence_number_spoils_the_page_by_index() {
    let good = service_record();
    for bad in
        [json!({}), json!({"dynamodb": {}}), json!({"dynamodb": null}), json!({"dynamodb": {"SequenceNumber": 7}})]
    {
        let error = page(&json!({"Records": [good, bad]})).expect_err("no number");
        assert_eq!(error.record_index(), Some(1));
        assert_eq!(error.kind(), &RecordErrorKind::Missing("dynamodb.SequenceNumber"));
    }
    let error = page(&json!({"Records": [{"dynamodb": {"SequenceNumber": "TRIM_HORIZON"}}]})).expect_err("no number");
    assert!(matches!(error.kind(), RecordErrorKind::SequenceNumber(_)));
}

#[test]
fn an_image_that_cannot_be_read_spoils_nothing_but_itself() {
    let body = json!({"Records": [{"dynamodb": {"SequenceNumber": "1", "Keys": {"id": {"S": "k"}}, "NewImage": {"a": {"NEW": "1"}}}}]});
    let record = page(&body).expect("a page").records[0].clone();
    assert_eq!(record.keys().expect("keys"), text_item(&[("id", "k")]));
    let error = record.new_image().expect_err("a type that is not known");
    assert_eq!((error.path(), error.kind()), ("NewImage.a", &RecordErrorKind::UnknownType("NEW".into())));
    record.new_image_as::<Value>().expect_err("a type that is not known");
}

#[test]
fn a_record_of_parts_is_like_one_that_came_from_the_service() {
    for (name, deleted_by_ttl) in
        [(EventName::Modify, false), (EventName::Remove, true), (EventName::Unknown("x".into()), false)]
    {
        let parts = RecordParts { event_name: name.clone(), deleted_by_ttl, ..parts(7) };
        let record = Record::new(parts.clone());
        assert_eq!((record.event_name(), record.is_ttl_delete()), (name, deleted_by_ttl));
        assert_eq!(record.created_at(), Some(parts.created_at));
        assert_eq!(record.keys().expect("keys"), parts.keys);
        assert_eq!(record.new_image().expect("an image"), parts.new_image);
        assert_eq!(record.old_image().expect("an image"), parts.old_image);
        let mut body = Vec::new();
        encode_page(std::slice::from_ref(&record), Some("next"), &mut body);
        let page = decode_page(body.into()).expect("own page");
        assert_eq!((&page.records[0], page.next_shard_iterator.as_deref()), (&record, Some("next")));
    }
}

#[test]
fn records_are_equal_when_they_tell_the_same_change() {
    let record = Record::new(parts(7));
    let value: Value = serde_json::from_slice(record.raw_json()).expect("JSON");
    let respelled = Record::from_json(serde_json::to_vec_pretty(&value).expect("JSON")).expect("a record");
    assert_ne!(record.raw_json(), respelled.raw_json());
    assert_eq!(record, respelled);
    assert_eq!(record, Record::from_json(record.to_json(None)).expect("the other form"));
    assert_ne!(record, Record::new(parts(8)));
    assert_ne!(record, Record::new(RecordParts { old_image: None, ..parts(7) }));
}

#[test]
fn the_json_form_is_that_of_lambda_events() {
    let spaced = serde_json::to_vec_pretty(&service_record()).expect("JSON");
    let record = Record::from_json(spaced).expect("a record");
    let stream: StreamArn = "arn:aws:dynamodb:eu-west-1:123456789012:table/T/stream/label".parse().expect("an ARN");
    let text = record.to_json(Some(&stream));
    assert!(!text.contains(['\n', ' ']), "{text}");
    let mut expected = service_record();
    expected["userIdentity"] = json!({"principalId": "dynamodb.amazonaws.com", "type": "Service"});
    assert_eq!(serde_json::from_str::<Value>(&record.to_json(None)).expect("JSON"), expected);
    expected["eventSourceARN"] = json!(stream.as_str());
    assert_eq!(serde_json::from_str::<Value>(&text).expect("JSON"), expected);
    let again = Record::from_json(text.clone()).expect("its own form");
    assert!(again.is_ttl_delete());
    assert_eq!(again.to_json(Some(&stream)), text);
}

#[test]
fn debug_output_shows_names_and_sizes_and_no_data() {
    let batch = RecordBatch::new(vec![Record::new(parts(7))]);
    let shown = format!("{:?} {:?}", batch[0], batch);
    assert!(shown.contains("000000000000000000007") && shown.contains("Modify"), "{shown}");
    assert!(!shown.contains("secret") && !shown.contains("after"), "{shown}");
}

#[test]
fn a_batch_costs_its_page_and_its_parts_cost_no_more() {
    let records: Vec<_> = (0..10).map(|n| Record::new(parts(n))).collect();
    let mut body = Vec::new();
    encode_page(&records, None, &mut body);
    let cost = body.len();
    let batch = decode_page(body.into()).expect("a page").records;
    assert_eq!((batch.bytes(), batch.slice(..).bytes()), (cost, cost));
    let (left, right) = (batch.slice(0..4), batch.slice(4..));
    assert!(left.bytes() + right.bytes() <= cost);
    assert_eq!(left.bytes(), records[..4].iter().map(|record| record.raw_json().len()).sum::<usize>());
    assert_eq!(right.slice(1..=2).iter().collect::<Vec<_>>(), records[5..7].iter().collect::<Vec<_>>());
    assert_eq!(right.slice(1..3), RecordBatch::new(records[5..7].to_vec()));
    assert!(RecordBatch::default().is_empty() && batch.slice(10..).is_empty());
    assert_eq!((&right).into_iter().count(), 6);
}

#[test]
fn the_index_of_a_page_stays_small() {
    assert!(size_of::<Record>() <= 120, "{}", size_of::<Record>());
}

/// A JSON value, deep enough to try the brackets.
fn any_json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<i32>().prop_map(|n| Value::from(f64::from(n) / 8.0)),
        any::<String>().prop_map(Value::from),
    ];
    leaf.prop_recursive(5, 30, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::btree_map(any::<String>(), inner, 0..4)
                .prop_map(|map| Value::Object(map.into_iter().collect())),
        ]
    })
}

proptest! {
    #[test]
    fn spans_are_what_a_whole_decode_finds(
        images in prop::collection::vec((any_json(), any_json(), any_json()), 0..5), extra in any_json(), pretty: bool,
    ) {
        let records: Vec<_> = images.iter().enumerate().map(|(n, (keys, new, old))| json!({
            "zzz": extra, "eventName": "INSERT",
            "dynamodb": {"NewImage": new, "Keys": keys, "OldImage": old, "SequenceNumber": n.to_string(), "aaa": extra},
        })).collect();
        let body = json!({"Records": records, "extra": extra, "NextShardIterator": "n"});
        let text = if pretty { serde_json::to_string_pretty(&body) } else { serde_json::to_string(&body) };
        let page = decode_page(text.expect("JSON").into()).expect("a page");
        prop_assert_eq!(page.records.len(), records.len());
        for (record, expected) in page.records.iter().zip(&records) {
            let raw: Value = serde_json::from_slice(record.raw_json()).expect("JSON");
            prop_assert_eq!(&raw, expected);
            for (span, name) in [(record.keys, "Keys"), (record.new_image, "NewImage"), (record.old_image, "OldImage")] {
                let found = span.map_or(Value::Null, |span| serde_json::from_slice(span.of(&record.page)).expect("JSON"));
                prop_assert_eq!(&found, &expected["dynamodb"][name]);
            }
            let form: Value = serde_json::from_str(&record.to_json(None)).expect("JSON");
            prop_assert_eq!(&form, expected);
        }
    }

    #[test]
    fn a_damaged_page_never_panics(at in any::<prop::sample::Index>(), byte: u8, cut in any::<prop::sample::Index>()) {
        let mut body = json!({"Records": [service_record(), service_record()], "NextShardIterator": "n"}).to_string().into_bytes();
        let at = at.index(body.len());
        body[at] = byte;
        if let Ok(page) = decode_page(body.clone().into()) {
            for record in &page.records {
                let _read_or_not = (record.keys(), record.old_image(), record.to_json(None), format!("{record:?}"));
                prop_assert!(!record.to_json(None).is_empty());
            }
        }
        body.truncate(cut.index(body.len()));
        prop_assert!(decode_page(body.into()).is_err());
    }

    #[test]
    fn garbage_is_no_page(bytes in prop::collection::vec(any::<u8>(), 0..80)) {
        let _refused_or_not = decode_page(bytes.into());
    }
}
