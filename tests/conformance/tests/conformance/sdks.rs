//! SDKs of other languages read a stream of the wire server through a split, and meet its errors.
//!
//! They are looked for in `$KCL_SDKS_DIR`, else in `target/sdks` of the workspace, where `.ci/fetch-sdks` puts them. Where they are
//! absent a test says so and passes, unless `KCL_REQUIRE_SDKS=1`.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use conformance::wire::{Over, WireFixture};
use kcl_dynamo::reference::StreamOptions;
use tokio::process::Command;

/// How long a reader may take. The machine may be busy with other tests.
const LIMIT: Duration = Duration::from_secs(120);

fn directory() -> PathBuf {
    std::env::var_os("KCL_SDKS_DIR")
        .map_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target/sdks"), PathBuf::from)
}

/// Whether the SDK is there; otherwise says that `test` is skipped.
fn is_there(test: &str, file: &Path) -> bool {
    let required = std::env::var("KCL_REQUIRE_SDKS").is_ok_and(|value| value == "1");
    if !file.exists() {
        let missing = format!("there is no {} (.ci/fetch-sdks puts it there)", file.display());
        assert!(!required, "KCL_REQUIRE_SDKS=1, but {missing}");
        eprintln!("{test} is skipped: {missing}");
        return false;
    }
    true
}

/// Runs a reader against a server of its own, and gives what it says in the end.
async fn read(program: &Path, script: &str, arguments: &[&Path]) -> String {
    let fixture = WireFixture::start(Over::Server, StreamOptions::default()).await.expect("started");
    let server = fixture.server.as_ref().expect("a server");
    let output = Command::new(program)
        .arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("sdks").join(script))
        .arg(server.endpoint())
        .args(arguments)
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .output();
    let output = tokio::time::timeout(LIMIT, output).await.expect("it ends").expect("it runs");
    let (said, complained) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{script}: {said}{complained}");
    said.into_owned()
}

#[tokio::test]
async fn boto3_reads_through_a_split() {
    let python = directory().join("python/bin/python");
    if is_there("boto3_reads_through_a_split", &python) {
        let said = read(&python, "read.py", &[]).await;
        assert!(said.contains("read 61 records of 3 shards"), "{said}");
    }
}

#[tokio::test]
async fn the_sdk_for_javascript_reads_through_a_split() {
    let packages = directory().join("node");
    if is_there("the_sdk_for_javascript_reads_through_a_split", &packages.join("node_modules/@aws-sdk")) {
        let said = read(Path::new("node"), "read.mjs", &[&packages]).await;
        assert!(said.contains("read 61 records of 3 shards"), "{said}");
    }
}
