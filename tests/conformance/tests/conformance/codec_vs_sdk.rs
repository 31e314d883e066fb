//! Pages decoded by the library and by the AWS SDK say the same.

use std::fmt::Write as _;
use std::time::SystemTime;

use aws_sdk_dynamodbstreams::Client;
use aws_sdk_dynamodbstreams::config::{BehaviorVersion, Credentials, Region};
use aws_sdk_dynamodbstreams::operation::get_records::GetRecordsOutput;
use kcl_core::{DecodedPage, Record, decode_page};
use proptest::collection::{hash_map, vec};
use proptest::prelude::*;
use proptest::strategy::ValueTree as _;
use proptest::test_runner::{Config, TestRunner};
use serde_dynamo::Item;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;

/// What the server says next, one body for each request.
type Bodies = mpsc::UnboundedReceiver<Vec<u8>>;

/// Answers each POST with the next body, over as many connections as the client likes.
async fn serve(listener: TcpListener, mut bodies: Bodies) -> anyhow::Result<()> {
    loop {
        let (mut stream, _from) = listener.accept().await?;
        while read_request(&mut stream).await? {
            let Some(body) = bodies.recv().await else { return Ok(()) };
            let mut answer = String::new();
            write!(answer, "HTTP/1.1 200 OK\r\ncontent-type: application/x-amz-json-1.0\r\n")?;
            write!(answer, "content-length: {}\r\n\r\n", body.len())?;
            stream.write_all(answer.as_bytes()).await?;
            stream.write_all(&body).await?;
        }
    }
}

/// Reads one request; `false` when the connection has ended.
async fn read_request(stream: &mut TcpStream) -> anyhow::Result<bool> {
    let mut request = Vec::new();
    loop {
        if let Some(end) = request.windows(4).position(|four| four == b"\r\n\r\n") {
            let head = String::from_utf8_lossy(&request[..end]).to_ascii_lowercase();
            let length = head.lines().find_map(|line| line.strip_prefix("content-length:"));
            let length: usize = length.map(|text| text.trim().parse()).transpose()?.unwrap_or(0);
            if request.len() >= end + 4 + length {
                return Ok(true);
            }
        }
        if stream.read_buf(&mut request).await? == 0 {
            return Ok(false);
        }
    }
}

async fn client() -> anyhow::Result<(Client, mpsc::UnboundedSender<Vec<u8>>)> {
    let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
    let config = aws_sdk_dynamodbstreams::Config::builder()
        .behavior_version(BehaviorVersion::latest())
        .region(Region::new("eu-west-1"))
        .credentials_provider(Credentials::new("key", "secret", None, None, "test"))
        .endpoint_url(format!("http://{}", listener.local_addr()?))
        .build();
    let (send, bodies) = mpsc::unbounded_channel();
    tokio::spawn(serve(listener, bodies));
    Ok((Client::from_conf(config), send))
}

/// A string of JSON, with some of its characters escaped in ways that the service need not use but may.
fn json_string() -> impl Strategy<Value = String> {
    (any::<String>(), any::<bool>()).prop_map(|(text, ascii)| {
        let plain = serde_json::to_string(&text).unwrap_or_default();
        if !ascii {
            return plain;
        }
        let mut units = [0; 2];
        plain.chars().fold(String::new(), |mut out, c| {
            if c.is_ascii() {
                out.push(c);
            } else {
                for unit in c.encode_utf16(&mut units) {
                    out.push_str(&format!("\\u{unit:04x}"));
                }
            }
            out
        })
    })
}

fn object(members: impl IntoIterator<Item = (String, String)>) -> String {
    let members: Vec<_> = members.into_iter().map(|(name, value)| format!("{name} : {value}")).collect();
    format!("{{ {} }}", members.join(" , "))
}

fn value() -> impl Strategy<Value = String> {
    let number = || any::<i64>().prop_map(|n| format!("\"{n}\""));
    let binary = || "([A-Za-z0-9+/]{4}){0,4}(AA==|AAA=)?".prop_map(|text| format!("\"{text}\""));
    let leaf = prop_oneof![
        json_string().prop_map(|text| format!("{{\"S\":{text}}}")),
        number().prop_map(|text| format!("{{\"N\":{text}}}")),
        binary().prop_map(|text| format!("{{\"B\":{text}}}")),
        any::<bool>().prop_map(|flag| format!("{{\"BOOL\":{flag}}}")),
        Just("{\"NULL\":true}".to_owned()),
        vec(json_string(), 0..4).prop_map(|set| format!("{{\"SS\":[{}]}}", set.join(","))),
        vec(number(), 0..4).prop_map(|set| format!("{{\"NS\":[{}]}}", set.join(","))),
        vec(binary(), 0..4).prop_map(|set| format!("{{\"BS\":[{}]}}", set.join(","))),
    ];
    leaf.prop_recursive(8, 30, 4, |inner| {
        prop_oneof![
            vec(inner.clone(), 0..4).prop_map(|list| format!("{{\"L\":[{}]}}", list.join(" ,"))),
            hash_map(json_string(), inner, 0..4).prop_map(|map| format!("{{\"M\":{}}}", object(map))),
        ]
    })
}

fn item() -> impl Strategy<Value = String> {
    hash_map(json_string(), value(), 0..5).prop_map(object)
}

/// A record whose fields come in any order, and some not at all.
fn record() -> impl Strategy<Value = String> {
    let image = || prop_oneof![1 => Just("null".to_owned()), 4 => item()];
    let change = (item(), image(), image(), any::<u64>(), 0..2_000_000_000u32, any::<bool>());
    let change = change.prop_map(|(keys, new, old, number, time, whole)| {
        let time = if whole { time.to_string() } else { format!("{time}.5") };
        vec![
            ("\"Keys\"".to_owned(), keys),
            ("\"NewImage\"".to_owned(), new),
            ("\"OldImage\"".to_owned(), old),
            ("\"SequenceNumber\"".to_owned(), format!("\"{number:021}\"")),
            ("\"ApproximateCreationDateTime\"".to_owned(), time),
            ("\"SizeBytes\"".to_owned(), "59".to_owned()),
            ("\"StreamViewType\"".to_owned(), "\"NEW_AND_OLD_IMAGES\"".to_owned()),
            ("\"Added\"".to_owned(), "[{\"later\":\"}\"},null]".to_owned()),
        ]
    });
    let change = change.prop_shuffle().prop_map(object);
    let name = prop_oneof![Just("INSERT"), Just("MODIFY"), Just("REMOVE"), Just("SOMETHING")];
    let identity = "{\"PrincipalId\":\"dynamodb.amazonaws.com\",\"Type\":\"Service\"}";
    let identity = prop_oneof![Just("null"), Just(identity)];
    (change, name, identity, json_string())
        .prop_map(|(change, name, identity, id)| {
            vec![
                ("\"dynamodb\"".to_owned(), change),
                ("\"eventName\"".to_owned(), format!("\"{name}\"")),
                ("\"userIdentity\"".to_owned(), identity.to_owned()),
                ("\"eventID\"".to_owned(), id),
                ("\"awsRegion\"".to_owned(), "\"eu-west-1\"".to_owned()),
            ]
        })
        .prop_shuffle()
        .prop_map(object)
}

fn page() -> impl Strategy<Value = String> {
    (vec(record(), 0..6), proptest::option::of(json_string())).prop_map(|(records, next)| {
        let mut members = vec![("\"Records\"".to_owned(), format!("[{}]", records.join(",")))];
        members.extend(next.map(|next| ("\"NextShardIterator\"".to_owned(), next)));
        object(members)
    })
}

type SdkItem = std::collections::HashMap<String, aws_sdk_dynamodbstreams::types::AttributeValue>;

fn from_sdk(item: &SdkItem) -> Item {
    conformance::items::from_stream(item)
}

fn assert_same(record: &Record, sdk: &aws_sdk_dynamodbstreams::types::Record) {
    let change = sdk.dynamodb().expect("every record has its change");
    assert_eq!(Some(record.sequence_number().as_str()), change.sequence_number());
    assert_eq!(Some(record.event_name().as_str()), sdk.event_name().map(|name| name.as_str()));
    assert_eq!(record.event_id().as_deref(), sdk.event_id());
    assert_eq!(record.region().as_deref(), sdk.aws_region());
    let time = change.approximate_creation_date_time().map(|time| SystemTime::try_from(*time).expect("after 1970"));
    assert_eq!(record.created_at(), time);
    assert_eq!(
        record.view_type().map(|view| view.as_str().to_owned()),
        change.stream_view_type().map(|view| view.as_str().to_owned())
    );
    assert_eq!(record.size_bytes(), change.size_bytes().and_then(|size| u64::try_from(size).ok()));
    let identity = record.user_identity();
    assert_eq!(
        identity.as_ref().map(|identity| (identity.kind(), identity.principal_id())),
        sdk.user_identity().map(|identity| (identity.r#type(), identity.principal_id()))
    );
    assert_eq!(Some(record.keys().expect("keys")), change.keys().map(from_sdk));
    assert_eq!(record.new_image().expect("an image"), change.new_image().map(from_sdk));
    assert_eq!(record.old_image().expect("an image"), change.old_image().map(from_sdk));
}

fn assert_same_page(page: &DecodedPage, sdk: &GetRecordsOutput) {
    assert_eq!(page.next_shard_iterator.as_deref(), sdk.next_shard_iterator());
    assert_eq!(page.records.len(), sdk.records().len());
    for (record, sdk) in page.records.iter().zip(sdk.records()) {
        assert_same(record, sdk);
    }
}

#[tokio::test]
async fn every_page_says_to_the_library_what_it_says_to_the_sdk() {
    let (client, bodies) = client().await.expect("a loopback server");
    let mut runner = TestRunner::new(Config::default());
    for _ in 0..200 {
        let body = page().new_tree(&mut runner).expect("a page").current();
        bodies.send(body.clone().into_bytes()).expect("the server runs");
        let sdk = client.get_records().shard_iterator("i").send().await;
        let sdk = sdk.unwrap_or_else(|error| panic!("{error:?}: {body}"));
        let page = decode_page(body.clone().into()).unwrap_or_else(|error| panic!("{error}: {body}"));
        assert_same_page(&page, &sdk);
    }
}
