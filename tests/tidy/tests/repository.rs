//! The rules of the repository, on its files.

use tidy::source::{self, SourceFile};
use tidy::{assert_none, docs, layers, rules};

fn rust(dir: &str) -> Vec<SourceFile> {
    let files = source::files(dir, "rs").expect("the repository is readable");
    assert!(!files.is_empty(), "there is no code in {dir}");
    files
}

fn libraries() -> Vec<SourceFile> {
    [rust("kcl-core/src"), rust("kcl-dynamo/src")].concat()
}

fn document(path: &str) -> SourceFile {
    source::file(path).unwrap_or_else(|error| panic!("{path}: {error}"))
}

#[test]
fn each_layer_of_the_engine_imports_only_what_lies_below_it() {
    assert_none("imports against the layers", &layers::check(&rust("kcl-core/src")));
}

#[test]
fn nouns_and_policy_neither_wait_nor_read_clocks() {
    assert_none("impure code", &rules::pure(&rust("kcl-core/src")));
}

#[test]
fn library_files_stay_short() {
    assert_none("long files", &rules::short(&libraries()));
}

#[test]
fn library_code_does_not_panic_on_purpose() {
    // The suites of `conformance` are tests that are compiled for their users.
    let files: Vec<_> = libraries().into_iter().filter(|file| !file.path.contains("/conformance/")).collect();
    assert_none("panics", &rules::no_panics(&files));
}

#[test]
fn nothing_is_left_undone_and_no_test_is_ignored() {
    let files: Vec<_> = rust("").into_iter().filter(|file| !file.path.starts_with("tests/tidy/")).collect();
    assert_none("unfinished work", &rules::finished(&files));
}

#[test]
fn contracts_say_how_they_fail() {
    assert_none("undocumented errors", &rules::errors_documented(&rust("kcl-core/src/contract")));
}

#[test]
fn the_engine_does_not_depend_on_aws() {
    assert_none("dependencies on AWS", &rules::no_aws(&document("kcl-core/Cargo.toml")));
}

#[test]
fn every_metric_is_documented() {
    let page = document("docs/metrics.md");
    let metrics = docs::metric_names(&document("kcl-core/src/surface/metrics.rs"));
    let named = docs::table_names(&page, "Names");
    assert_none("metrics", &docs::same_names("metric", &metrics, &page, &named));
}

#[test]
fn every_event_is_documented() {
    let page = document("docs/operations.md");
    let events = docs::variants(&rust("kcl-core/src"), "EventKind");
    assert_none("events", &docs::same_names("event", &events, &page, &docs::table_names(&page, "Events")));
}

#[test]
fn every_setting_is_documented() {
    let page = document("docs/operations.md");
    let settings = docs::fields(&rust("kcl-core/src"), "WorkerConfig");
    assert_none("settings", &docs::same_names("setting", &settings, &page, &docs::table_names(&page, "Settings")));
}

#[test]
fn the_map_names_every_file_of_the_engine() {
    let dirs = ["model", "record", "contract", "policy", "surface", "runner", "worker"];
    let map = document("ARCHITECTURE.md");
    assert_none("files without a place on the map", &docs::mapped(&map, &rust("kcl-core/src"), &dirs));
}

#[test]
fn links_between_documents_lead_somewhere() {
    let documents = source::files("", "md").expect("the repository is readable");
    let exists = |path: &str| source::root().join(path).exists();
    assert_none("dead links", &docs::links(&documents, exists));
}

#[test]
fn the_first_pages_stay_short() {
    assert_none("long pages", &docs::at_most(&document("README.md"), 160));
    assert_none("long pages", &docs::at_most(&document("ARCHITECTURE.md"), 300));
}
