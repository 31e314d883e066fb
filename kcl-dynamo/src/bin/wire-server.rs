//! DynamoDB Streams on a loopback port, for tests of consumers in any language.
//!
//! ```sh
//! cargo run -p kcl-dynamo --features wire --bin wire-server -- --listen 127.0.0.1:0
//! ```
//! It prints `listening on http://…` and serves until it is interrupted. Everything is in memory and gone afterwards.

use std::error::Error;
use std::io::Write;
use std::process::ExitCode;
use std::time::SystemTime;

use kcl_dynamo::Rt;
use kcl_dynamo::reference::{MovableClock, ReferenceStream, StreamOptions};
use kcl_dynamo::wire::{ServerOptions, WireServer, WireService};

const USAGE: &str = "\
usage: wire-server [options]
  --listen <address:port>  where to listen; 127.0.0.1:0, a free port, by default
  --allow-remote           listen where other machines reach it too; nobody is asked who they are
  --region <region>        the region in ARNs and records; local-1 by default
  --unthrottled            no limits on calls and readers
  --frozen-clock           the clock stands until a test moves it
  --forget                 records that were trimmed are forgotten, for runs of days
GET /_control lists what a test can order. docs/wire-protocol.md describes it.";

struct Arguments {
    server: ServerOptions,
    stream: StreamOptions,
    frozen: bool,
}

fn arguments(mut given: impl Iterator<Item = String>) -> Result<Option<Arguments>, String> {
    let mut arguments = Arguments { server: ServerOptions::default(), stream: StreamOptions::default(), frozen: false };
    while let Some(name) = given.next() {
        let mut value = || given.next().ok_or_else(|| format!("{name} needs a value"));
        match name.as_str() {
            "--listen" => {
                let text = value()?;
                arguments.server.listen = text.parse().map_err(|error| format!("--listen {text}: {error}"))?;
            }
            "--allow-remote" => arguments.server.allow_remote = true,
            "--region" => arguments.stream.region = value()?,
            "--unthrottled" => {
                let StreamOptions {
                    describes_per_second, lists_per_second, reads_per_second, readers_per_shard, ..
                } = StreamOptions::unthrottled();
                arguments.stream.describes_per_second = describes_per_second;
                arguments.stream.lists_per_second = lists_per_second;
                arguments.stream.reads_per_second = reads_per_second;
                arguments.stream.readers_per_shard = readers_per_shard;
            }
            "--frozen-clock" => arguments.frozen = true,
            "--forget" => arguments.stream.keep_history = false,
            "--help" | "-h" => return Ok(None),
            other => return Err(format!("{other} is unknown")),
        }
    }
    Ok(Some(arguments))
}

async fn serve(arguments: Arguments) -> Result<(), Box<dyn Error>> {
    let rt = Rt::tokio()?;
    let clock = match arguments.frozen {
        true => MovableClock::standing(SystemTime::now()),
        false => MovableClock::running(&rt),
    };
    let stream = ReferenceStream::new(clock.rt(&rt), arguments.stream);
    let service = WireService::new(stream, &rt).with_clock(clock);
    let server = WireServer::start(service, arguments.server).await?;
    // Flushed, because whoever started this waits for the line.
    let mut out = std::io::stdout();
    writeln!(out, "listening on {}", server.endpoint())?;
    out.flush()?;
    interrupted().await?;
    server.stop().await;
    Ok(())
}

#[cfg(unix)]
async fn interrupted() -> std::io::Result<()> {
    use tokio::signal::unix::{SignalKind, signal};
    let mut terminated = signal(SignalKind::terminate())?;
    let interrupt = std::pin::pin!(tokio::signal::ctrl_c());
    let terminated = std::pin::pin!(terminated.recv());
    futures::future::select(interrupt, terminated).await;
    Ok(())
}

#[cfg(not(unix))]
async fn interrupted() -> std::io::Result<()> {
    tokio::signal::ctrl_c().await
}

fn main() -> ExitCode {
    let arguments = match arguments(std::env::args().skip(1)) {
        Ok(Some(arguments)) => arguments,
        Ok(None) => {
            println!("{USAGE}");
            return ExitCode::SUCCESS;
        }
        Err(why) => {
            eprintln!("{why}\n{USAGE}");
            return ExitCode::from(2);
        }
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let ended = runtime.map_err(Into::into).and_then(|runtime| runtime.block_on(serve(arguments)));
    match ended {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            let mut cause = error.source();
            while let Some(why) = cause {
                eprintln!("because: {why}");
                cause = why.source();
            }
            ExitCode::FAILURE
        }
    }
}
