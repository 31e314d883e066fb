//! The server: its bounds, and what it answers to whatever is sent.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::with_orders;
use crate::wire::{ServeError, ServerOptions, WireServer};

async fn start(options: ServerOptions) -> WireServer {
    WireServer::start(with_orders(), options).await.expect("a free port")
}

/// Sends all of it, and reads until the server closes the connection.
async fn exchange(server: &WireServer, sent: &[u8]) -> String {
    let mut stream = TcpStream::connect(server.address()).await.expect("connected");
    stream.write_all(sent).await.expect("sent");
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await.expect("an answer, and no reset");
    String::from_utf8_lossy(&answer).into_owned()
}

fn post(target: &str, body: &str) -> Vec<u8> {
    format!(
        "POST / HTTP/1.1\r\nHost: x\r\nConnection: close\r\nX-Amz-Target: {target}\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    )
    .into_bytes()
}

const LIST: &str = "DynamoDBStreams_20120810.ListStreams";

#[tokio::test]
async fn a_request_is_answered_with_the_headers_of_the_service() {
    let server = start(ServerOptions::default()).await;
    let answer = exchange(&server, &post(LIST, "{}")).await;
    assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
    for header in
        ["content-type: application/x-amz-json-1.0", "x-amzn-requestid: ", "x-amz-crc32: ", "content-length: "]
    {
        assert!(answer.contains(header), "{answer}");
    }
    assert!(answer.contains("\"TableName\":\"orders\""), "{answer}");
    server.stop().await;
}

#[tokio::test]
async fn whatever_is_sent_is_answered() {
    let options = ServerOptions {
        idle_timeout: Duration::from_millis(300),
        body_timeout: Duration::from_millis(200),
        ..ServerOptions::default()
    };
    let server = start(options).await;
    for (sent, status) in [
        (post(LIST, "nonsense"), "400"),
        (post("Nonsense", "{}"), "400"),
        (post("§", "{}"), "400"),
        (b"NONSENSE\r\n\r\n".to_vec(), "400"),
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n".to_vec(), "400"),
        (b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: nonsense\r\n\r\n".to_vec(), "400"),
        (
            b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\nzz\r\n".to_vec(),
            "400",
        ),
        // A body that does not come to its end.
        (b"POST / HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: 100\r\n\r\n{\"Limit\":".to_vec(), "408"),
        (b"GET /nothing HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".to_vec(), "404"),
        (b"GET / HTTP/1.0\r\n\r\n".to_vec(), "200"),
    ] {
        let answer = exchange(&server, &sent).await;
        assert_eq!(answer.split(' ').nth(1), Some(status), "{:?}: {answer}", String::from_utf8_lossy(&sent));
    }
    // Half a head is no request: the connection is closed once it stood too long, and the server goes on.
    assert_eq!(exchange(&server, b"POST / HTTP/1.1\r\nHo").await, "");
    assert!(exchange(&server, &post(LIST, "{}")).await.contains("200 OK"));
}

#[tokio::test]
async fn a_body_that_is_too_long_is_answered_so() {
    let server = start(ServerOptions { max_body: 1000, ..ServerOptions::default() }).await;
    for length in [1001, 9000] {
        let answer = exchange(&server, &post(LIST, &" ".repeat(length))).await;
        assert!(answer.starts_with("HTTP/1.1 413 "), "{answer}");
        assert!(answer.contains("RequestEntityTooLargeException"), "{answer}");
    }
    assert!(exchange(&server, &post(LIST, &format!("{{}}{}", " ".repeat(998)))).await.starts_with("HTTP/1.1 200 "));
}

#[tokio::test]
async fn more_clients_than_there_are_places_are_all_answered() {
    let server = start(ServerOptions { max_connections: 3, max_requests: 1, ..ServerOptions::default() }).await;
    let request = post(LIST, "{\"TableName\":\"absent\"}");
    let answers = futures::future::join_all((0..40).map(|_| exchange(&server, &request))).await;
    assert!(answers.iter().all(|answer| answer.starts_with("HTTP/1.1 400 ")), "{answers:?}");
}

#[tokio::test]
async fn clients_that_stay_silent_do_not_keep_others_out_for_ever() {
    let options =
        ServerOptions { max_connections: 2, idle_timeout: Duration::from_millis(100), ..ServerOptions::default() };
    let server = start(options).await;
    let mut silent = Vec::new();
    for _client in 0..2 {
        silent.push(TcpStream::connect(server.address()).await.expect("connected"));
    }
    assert!(exchange(&server, &post(LIST, "{}")).await.starts_with("HTTP/1.1 200 "));
}

#[tokio::test]
async fn a_server_that_stops_answers_what_it_was_asked_and_nothing_more() {
    let service = with_orders();
    service.order("ListStreams", crate::wire::Fault::Late(Duration::from_millis(100)), 1).expect("ordered");
    let server = WireServer::start(service, ServerOptions::default()).await.expect("a free port");
    let address = server.address();
    let mut running = TcpStream::connect(address).await.expect("connected");
    running.write_all(&post(LIST, "{}")).await.expect("sent");
    // Wait until the server has read it: the fault is used up then.
    tokio::time::sleep(Duration::from_millis(50)).await;
    let idle = TcpStream::connect(address).await.expect("connected");
    server.stop().await;
    let mut answer = String::new();
    running.read_to_string(&mut answer).await.expect("an answer");
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    drop(idle);
    assert!(TcpStream::connect(address).await.is_err(), "nobody listens any more");
}

#[tokio::test]
async fn a_stop_does_not_wait_for_a_caller_that_is_never_answered() {
    let service = with_orders();
    service.order("ListStreams", crate::wire::Fault::Silence, 1).expect("ordered");
    let options = ServerOptions { grace: Duration::from_millis(50), ..ServerOptions::default() };
    let server = WireServer::start(service, options).await.expect("a free port");
    let mut running = TcpStream::connect(server.address()).await.expect("connected");
    running.write_all(&post(LIST, "{}")).await.expect("sent");
    tokio::time::sleep(Duration::from_millis(50)).await;
    server.stop().await;
    let mut answer = Vec::new();
    // Whether the end is clean or a reset is the system's choice.
    drop(running.read_to_end(&mut answer).await);
    assert_eq!(answer, b"");
}

#[tokio::test]
async fn an_address_that_other_machines_reach_must_be_allowed() {
    let listen = SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0));
    let refused = WireServer::start(with_orders(), ServerOptions { listen, ..ServerOptions::default() }).await;
    assert!(matches!(refused, Err(ServeError::NotLoopback(address)) if address == listen));
    let taken = start(ServerOptions::default()).await;
    let again = ServerOptions { listen: taken.address(), ..ServerOptions::default() };
    assert!(matches!(WireServer::start(with_orders(), again).await, Err(ServeError::Listen { .. })));
}
