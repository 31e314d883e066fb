use std::collections::{BTreeMap, BTreeSet};

use proptest::collection::{hash_map, vec};
use proptest::prelude::*;
use serde_json::json;

use super::*;

fn item(json: &str) -> Item {
    decode_item(json.as_bytes()).expect(json)
}

fn refused(json: &str) -> RecordError {
    decode_item(json.as_bytes()).expect_err(json)
}

fn encoded(item: &Item) -> String {
    let mut out = Vec::new();
    encode_item(item, &mut out);
    String::from_utf8(out).expect("JSON is UTF-8")
}

/// `levels` lists or maps around a string, in an item.
fn nested(levels: usize, open: &str, close: &str) -> String {
    format!("{{\"a\":{}{{\"S\":\"x\"}}{}}}", open.repeat(levels), close.repeat(levels))
}

const LIST: (&str, &str) = ("{\"L\":[", "]}");
const MAP: (&str, &str) = ("{\"M\":{\"m\":", "}}");

#[test]
fn every_type_is_read_and_written_back_as_it_was() {
    for value in [
        r#"{"S":"text"}"#,
        r#"{"S":""}"#,
        r#"{"N":"-1.50E+10"}"#,
        r#"{"N":"99999999999999999999999999999999999999"}"#,
        r#"{"B":"AP8="}"#,
        r#"{"B":""}"#,
        r#"{"BOOL":true}"#,
        r#"{"BOOL":false}"#,
        r#"{"NULL":true}"#,
        r#"{"M":{}}"#,
        r#"{"M":{"a":{"S":"1"},"b":{"M":{"c":{"N":"2"}}}}}"#,
        r#"{"L":[]}"#,
        r#"{"L":[{"S":"a"},{"N":"1"},{"L":[{"BOOL":true}]}]}"#,
        r#"{"SS":["a","b"]}"#,
        r#"{"SS":[]}"#,
        r#"{"NS":["1","2.5"]}"#,
        r#"{"BS":["AA==","AQ=="]}"#,
    ] {
        let text = format!("{{\"attribute\":{value}}}");
        assert_eq!(encoded(&item(&text)), text);
        assert_eq!(decode_value(value.as_bytes()).expect(value), item(&text).inner()["attribute"]);
    }
    assert_eq!(item("{\"b\":{\"B\":\"AP8=\"}}").inner()["b"], AttributeValue::B(vec![0, 255]));
}

#[test]
fn white_space_escapes_and_null_members_are_understood() {
    let text = " { \"\\u0061\\n\" : { \"N\" : null , \"S\" : \"\\ud83d\\ude00 \\\"\\\\\\/\\b\\f\\t\\u00e9\" , \"B\" : null } } ";
    let read = item(text);
    assert_eq!(read.inner()["a\n"], AttributeValue::S("😀 \"\\/\u{8}\u{c}\té".into()));
    assert_eq!(item(&encoded(&read)), read);
    assert_eq!(item(r#"{"b":{"B":"\/\/8="}}"#).inner()["b"], AttributeValue::B(vec![255, 255]));
}

#[test]
fn of_an_attribute_given_twice_the_last_counts() {
    assert_eq!(item(r#"{"a":{"S":"1"},"a":{"S":"2"}}"#), item(r#"{"a":{"S":"2"}}"#));
}

#[test]
fn what_is_no_item_is_refused_with_the_place() {
    use RecordErrorKind as Kind;
    let unknown = refused(r#"{"a":{"L":[{"S":"x"},{"M":{"b":{"NEW":"1"}}}]}}"#);
    assert_eq!(unknown.kind(), &Kind::UnknownType("NEW".into()));
    assert_eq!(unknown.path(), "a[1].b");
    assert!(unknown.to_string().starts_with("a[1].b: unknown attribute type \"NEW\" (byte "), "{unknown}");
    for text in [r#"{"a":{}}"#, r#"{"a":{"S":null}}"#, r#"{"a":{"S":"1","N":"1"}}"#, r#"{"a":{"S":"1","S":"1"}}"#] {
        assert_eq!(refused(text).kind(), &Kind::NotOneType, "{text}");
    }
    for text in [r#"{"a":{"B":"A"}}"#, r#"{"a":{"BS":["AA==","?"]}}"#] {
        assert_eq!(refused(text).kind(), &Kind::Base64, "{text}");
    }
    for text in [
        "",
        "{",
        "[]",
        "null",
        r#"{"a":1}"#,
        r#"{"a":{"S":1}}"#,
        r#"{"a":{"S":"1"},}"#,
        r#"{"a":{"S":"1"}"#,
        r#"{"a":{"S":"1"}}x"#,
        r#"{"a":{"N":1}}"#,
        r#"{"a":{"BOOL":"true"}}"#,
        r#"{"a":{"BOOL":1}}"#,
        r#"{"a":{"L":[{"S":"1"},]}}"#,
        r#"{"a":{"S":"\ud83d"}}"#,
        r#"{"a":{"S":"\x"}}"#,
        "{\"a\":{\"S\":\"\n\"}}",
        r#"{"a":{"S":"\"#,
    ] {
        assert!(matches!(refused(text).kind(), Kind::Json { .. }), "{text}");
    }
    assert_eq!(decode_item(b"{\"a\":\xff}").expect_err("no UTF-8").kind(), &Kind::Utf8);
}

#[test]
fn values_may_lie_in_32_lists_or_maps_and_not_in_33() {
    for (open, close) in [LIST, MAP] {
        let deep = nested(32, open, close);
        assert_eq!(encoded(&item(&deep)), deep);
        read_item::<serde_json::Value>(deep.as_bytes()).expect("32 levels");
        for levels in [33, 100_000] {
            let deeper = nested(levels, open, close);
            assert_eq!(refused(&deeper).kind(), &RecordErrorKind::TooDeep);
            let error = read_item::<serde_json::Value>(deeper.as_bytes()).expect_err("too deep");
            assert_eq!(error.kind(), &RecordErrorKind::TooDeep);
        }
        let ignored = read_item::<BTreeMap<String, serde::de::IgnoredAny>>(nested(100_000, open, close).as_bytes());
        assert_eq!(ignored.expect_err("too deep to skip").kind(), &RecordErrorKind::TooDeep);
    }
}

#[derive(Debug, PartialEq, Deserialize)]
struct Order<'a> {
    id: &'a str,
    #[serde(borrow)]
    note: Cow<'a, str>,
    count: u8,
    total: f64,
    big: i128,
    discount: Option<i32>,
    missing: Option<i32>,
    blob: Vec<u8>,
    tags: BTreeSet<String>,
    sizes: Vec<u64>,
    lines: Vec<Line>,
    state: State,
    shape: State,
    pair: (i32, String),
    by_year: BTreeMap<u16, bool>,
    extra: serde_json::Value,
}

#[derive(Debug, PartialEq, Deserialize)]
struct Line {
    sku: String,
    #[serde(default)]
    gift: bool,
}

#[derive(Debug, PartialEq, Deserialize)]
enum State {
    Open,
    Paid(i32),
    Sent { by: String },
    Moved(i32, i32),
}

#[test]
fn an_item_becomes_a_struct_without_a_detour() {
    let text = r#"{
        "id": {"S": "o-1"}, "note": {"S": "a\nb"}, "count": {"N": "7"}, "total": {"N": "1.5"},
        "big": {"N": "170141183460469231731687303715884105727"}, "discount": {"NULL": true}, "blob": {"B": "AP8="},
        "unknown": {"M": {"deep": {"L": [{"S": "skipped"}]}}},
        "tags": {"SS": ["b", "a"]}, "sizes": {"NS": ["2", "1"]},
        "lines": {"L": [{"M": {"sku": {"S": "x"}, "gift": {"BOOL": true}}}, {"M": {"sku": {"S": "y"}}}]},
        "state": {"S": "Open"}, "shape": {"M": {"Sent": {"M": {"by": {"S": "post"}}}}},
        "pair": {"L": [{"N": "1"}, {"S": "one"}, {"S": "more than was asked for"}]},
        "by_year": {"M": {"1999": {"BOOL": true}}},
        "extra": {"L": [{"N": "1"}, {"N": "1.5"}, {"N": "18446744073709551615"}, {"NULL": true}, {"M": {"a": {"S": "b"}}}]}
    }"#;
    let order: Order<'_> = read_item(text.as_bytes()).expect("an order");
    assert!(text.as_bytes().as_ptr_range().contains(&order.id.as_ptr()), "strings without escapes are borrowed");
    assert_eq!(
        order,
        Order {
            id: "o-1",
            note: "a\nb".into(),
            count: 7,
            total: 1.5,
            big: i128::MAX,
            discount: None,
            missing: None,
            blob: vec![0, 255],
            tags: ["a".to_owned(), "b".to_owned()].into(),
            sizes: vec![2, 1],
            lines: vec![Line { sku: "x".into(), gift: true }, Line { sku: "y".into(), gift: false }],
            state: State::Open,
            shape: State::Sent { by: "post".into() },
            pair: (1, "one".into()),
            by_year: [(1999, true)].into(),
            extra: json!([1, 1.5, u64::MAX, null, {"a": "b"}]),
        }
    );
}

#[test]
fn variants_are_read_as_serde_dynamo_reads_them() {
    for (text, state) in [
        (r#"{"s":{"S":"Open"}}"#, State::Open),
        (r#"{"s":{"M":{"Open":{"NULL":true}}}}"#, State::Open),
        (r#"{"s":{"M":{"Paid":{"N":"3"}}}}"#, State::Paid(3)),
        (r#"{"s":{"M":{"Moved":{"L":[{"N":"1"},{"N":"2"}]}}}}"#, State::Moved(1, 2)),
    ] {
        let read: BTreeMap<String, State> = read_item(text.as_bytes()).expect(text);
        assert_eq!(read["s"], state);
        let through: BTreeMap<String, State> = serde_dynamo::from_item(item(text)).expect(text);
        assert_eq!(read, through);
    }
    for text in [r#"{"s":{"M":{}}}"#, r#"{"s":{"M":{"Paid":{"N":"3"},"Open":{"NULL":true}}}}"#, r#"{"s":{"N":"1"}}"#] {
        read_item::<BTreeMap<String, State>>(text.as_bytes()).expect_err(text);
    }
}

#[test]
fn a_type_that_does_not_fit_is_refused_with_the_place_and_without_the_data() {
    let error = read_item::<BTreeMap<String, Vec<u8>>>(br#"{"a":{"L":[{"N":"1"},{"N":"777"}]}}"#).expect_err("777");
    assert_eq!(error.kind(), &RecordErrorKind::Number("u8"));
    assert_eq!(error.to_string(), "a[1]: the number is no u8");
    let error = read_item::<BTreeMap<String, String>>(br#"{"a":{"N":"1"}}"#).expect_err("a number");
    assert_eq!(error.to_string(), "a: expected a string, found a number (N)");
}

fn value() -> impl Strategy<Value = AttributeValue> {
    let number = prop_oneof![any::<i64>().prop_map(|n| n.to_string()), (-1e9..1e9f64).prop_map(|n| n.to_string())];
    let leaf = prop_oneof![
        any::<String>().prop_map(AttributeValue::S),
        number.clone().prop_map(AttributeValue::N),
        vec(any::<u8>(), 0..20).prop_map(AttributeValue::B),
        any::<bool>().prop_map(AttributeValue::Bool),
        any::<bool>().prop_map(AttributeValue::Null),
        vec(any::<String>(), 0..4).prop_map(AttributeValue::Ss),
        vec(number, 0..4).prop_map(AttributeValue::Ns),
        vec(vec(any::<u8>(), 0..9), 0..4).prop_map(AttributeValue::Bs),
    ];
    leaf.prop_recursive(6, 40, 5, |inner| {
        prop_oneof![
            vec(inner.clone(), 0..5).prop_map(AttributeValue::L),
            hash_map(any::<String>(), inner, 0..5).prop_map(AttributeValue::M),
        ]
    })
}

fn any_item() -> impl Strategy<Value = Item> {
    hash_map(any::<String>(), value(), 0..6).prop_map(Item::from)
}

proptest! {
    #[test]
    fn an_item_survives_the_way_to_json_and_back(item in any_item()) {
        let text = encoded(&item);
        prop_assert_eq!(&decode_item(text.as_bytes()).expect("own JSON"), &item);
        prop_assert_eq!(&serde_json::from_str::<Item>(&text).expect("JSON of serde_dynamo"), &item);
        let plain: serde_json::Value = serde_json::from_str(&text).expect("JSON");
        prop_assert_eq!(&decode_item(serde_json::to_string_pretty(&plain).expect("JSON").as_bytes()).expect("spaced"), &item);
    }

    #[test]
    fn reading_directly_and_through_an_item_agree(item in any_item()) {
        let text = encoded(&item);
        let direct = read_item::<serde_json::Value>(text.as_bytes()).ok();
        prop_assert_eq!(direct, serde_dynamo::from_item::<_, serde_json::Value>(item).ok());
    }

    #[test]
    fn garbage_is_refused_and_never_panics(mut bytes in vec(any::<u8>(), 0..80), text in r#"[{}\[\]":,\\a-zSNBML0-9 nu]{0,60}"#) {
        let _refused_or_not = decode_item(text.as_bytes());
        let _refused_or_not = (read_item::<serde_json::Value>(text.as_bytes()), decode_value(&bytes));
        bytes.insert(0, b'{');
        let _refused_or_not = decode_item(&bytes);
    }

    #[test]
    fn a_damaged_item_never_panics_and_is_read_only_if_it_is_json(
        item in any_item(), at in any::<prop::sample::Index>(), byte in any::<u8>(),
    ) {
        let mut bytes = encoded(&item).into_bytes();
        let at = at.index(bytes.len());
        bytes[at] = byte;
        if decode_item(&bytes).is_ok() {
            prop_assert!(serde_json::from_slice::<serde_json::Value>(&bytes).is_ok());
        }
        let _read_or_not = read_item::<serde_json::Value>(&bytes);
    }
}
