//! Who may import whom in `kcl-core`.

use std::collections::BTreeMap;

use crate::Violation;
use crate::source::SourceFile;

/// Each module of the crate's root and those it may import, itself aside. `lib.rs` may import all.
pub const LAYERS: &[(&str, &[&str])] = &[
    // Bugs on purpose, which the simulator's own build turns on.
    ("planted", &[]),
    ("model", &[]),
    ("record", &["model"]),
    ("contract", &["model", "record"]),
    ("policy", &["planted", "model", "record", "contract"]),
    ("surface", &["model", "record", "contract", "policy"]),
    ("runner", &["planted", "model", "record", "contract", "policy", "surface"]),
    ("worker", &["model", "record", "contract", "policy", "surface", "runner"]),
    ("admin", &["model", "record", "contract", "policy", "runner"]),
    ("reference", &["model", "record", "contract"]),
    ("wrap", &["model", "record", "contract"]),
    ("conformance", &["model", "record", "contract", "reference", "wrap"]),
];

/// Files of `kcl-core/src` that import what their layer may not.
#[must_use]
pub fn check(files: &[SourceFile]) -> Vec<Violation> {
    let exported = exported_names(files);
    let mut violations = Vec::new();
    for file in files.iter().filter(|file| !file.is_test()) {
        let Some(from) = module_of(&file.path).filter(|module| module != "lib") else { continue };
        let Some((_, allowed)) = LAYERS.iter().find(|(name, _)| *name == from) else {
            violations
                .push(Violation::of_file(&file.path, format!("`{from}` has no layer: give it one in tests/tidy")));
            continue;
        };
        for (line, path) in imports(&file.path, &file.library_code()) {
            let Some(to) = target(&path, &exported) else { continue };
            if to == from || allowed.contains(&to.as_str()) {
                continue;
            }
            violations.push(Violation {
                file: file.path.clone(),
                line,
                what: format!("`{from}` may not import `{path}`: it may import {allowed:?}"),
            });
        }
    }
    violations
}

/// The module of the crate's root that a file belongs to.
fn module_of(path: &str) -> Option<String> {
    let inner = path.split_once("src/")?.1;
    let first = inner.split('/').next()?;
    Some(first.trim_end_matches(".rs").to_owned())
}

/// How deep the module of a file lies: 1 for `src/policy/mod.rs`, 2 for `src/policy/listing.rs`.
fn depth_of(path: &str) -> usize {
    let inner = path.split_once("src/").map_or(path, |(_, inner)| inner);
    let parts = inner.split('/').count();
    if inner.ends_with("/mod.rs") { parts - 1 } else { parts }
}

/// The module that a path names first; of a name that the crate's root exports again, the module it comes from.
fn target(path: &str, exported: &BTreeMap<String, String>) -> Option<String> {
    let first = path.split("::").next()?;
    if LAYERS.iter().any(|(name, _)| *name == first) {
        return Some(first.to_owned());
    }
    exported.get(first).cloned()
}

/// The names that the root of each layer exports, and the layer. The lowest layer wins.
fn exported_names(files: &[SourceFile]) -> BTreeMap<String, String> {
    let mut exported = BTreeMap::new();
    for (layer, _) in LAYERS {
        let roots = [format!("src/{layer}.rs"), format!("src/{layer}/mod.rs")];
        for file in files.iter().filter(|file| roots.iter().any(|root| file.path.ends_with(root))) {
            for name in public_names(&file.library_code()) {
                exported.entry(name).or_insert_with(|| (*layer).to_owned());
            }
        }
    }
    exported
}

/// The types that a module defines or exports again.
fn public_names(code: &str) -> Vec<String> {
    let mut names = Vec::new();
    for statement in code.split([';', '{', '}', '\n']).map(str::trim) {
        let Some((_, item)) = statement.strip_prefix("pub").and_then(|rest| rest.split_once(' ')) else { continue };
        let kind = item.split(' ').next().unwrap_or_default();
        if ["struct", "enum", "trait", "type"].contains(&kind) {
            names.push(one_path(item[kind.len()..].trim_start()));
        }
    }
    for (at, _) in code.match_indices("pub").filter(|(at, _)| {
        let rest = &code[at + 3..];
        rest.starts_with(" use ") || rest.starts_with("(crate) use ")
    }) {
        let statement = code[at..].split(';').next().unwrap_or_default();
        let words = statement.split(|c: char| !c.is_alphanumeric() && c != '_');
        names.extend(words.filter(|word| word.starts_with(char::is_uppercase)).map(str::to_owned));
    }
    names
}

/// All paths from the crate's root that the code names, with their lines: `crate::a::b`, `crate::{a, b::c}`, and chains of `super` that
/// reach the root.
fn imports(path: &str, code: &str) -> Vec<(usize, String)> {
    let mut found = Vec::new();
    for (at, _) in code.match_indices("crate::") {
        if !code[..at].ends_with(|c: char| c.is_alphanumeric() || c == '_' || c == '$') {
            add(code, at, at + "crate::".len(), &mut found);
        }
    }
    let to_root = "super::".repeat(depth_of(path));
    for (at, _) in code.match_indices(&to_root) {
        add(code, at, at + to_root.len(), &mut found);
    }
    found
}

fn add(code: &str, at: usize, from: usize, found: &mut Vec<(usize, String)>) {
    let line = code[..at].matches('\n').count() + 1;
    found.extend(expand(&code[from..]).into_iter().map(|path| (line, path)));
}

/// The paths at the start of `code`: one, or those of a group in braces. Groups inside are not opened: the first names suffice.
fn expand(code: &str) -> Vec<String> {
    let Some(group) = code.strip_prefix('{') else { return vec![one_path(code)] };
    let mut depth = 0_usize;
    let mut paths = Vec::new();
    let mut from = 0;
    for (at, c) in group.char_indices() {
        match c {
            '{' => depth += 1,
            '}' if depth > 0 => depth -= 1,
            ',' | '}' if depth == 0 => {
                let path = one_path(group[from..at].trim_start());
                if !path.is_empty() {
                    paths.push(path);
                }
                from = at + 1;
                if c == '}' {
                    break;
                }
            }
            _ => {}
        }
    }
    paths
}

fn one_path(code: &str) -> String {
    let end = code.find(|c: char| !c.is_alphanumeric() && c != '_' && c != ':').unwrap_or(code.len());
    code[..end].trim_end_matches(':').to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(path: &str, text: &str) -> Vec<String> {
        let model = SourceFile::new("kcl-core/src/model/mod.rs", "pub use id::{ShardId};");
        let runner = SourceFile::new("kcl-core/src/runner/mod.rs", "pub use fleet::Fleet;");
        let files = [model, runner, SourceFile::new(path, text)];
        check(&files).into_iter().map(|violation| violation.what).collect()
    }

    #[test]
    fn an_import_from_above_is_refused_however_it_is_written() {
        for text in [
            "use crate::runner::Fleet;",
            "use crate::{model::Lease, runner::{Fleet, lock}};",
            "fn f() { crate::runner::lock(); }",
            "use super::super::runner::lock;",
            "use crate::Fleet;",
        ] {
            let found = found("kcl-core/src/policy/listing.rs", text);
            assert_eq!(found.len(), 1, "{text}: {found:?}");
            assert!(found[0].contains("`policy` may not import"), "{found:?}");
        }
    }

    #[test]
    fn an_import_from_below_and_one_of_a_neighbour_are_allowed() {
        let text = "use crate::contract::Rt;\nuse crate::ShardId;\nuse super::lineage;\nuse crate::policy::round;\n// crate::runner\n";
        assert_eq!(found("kcl-core/src/policy/listing.rs", text), [""; 0]);
        assert_eq!(found("kcl-core/src/worker/run.rs", "use crate::runner::Fleet;"), [""; 0]);
    }

    #[test]
    fn what_stands_beside_the_engine_knows_only_nouns_and_contracts() {
        for module in ["reference", "wrap", "conformance"] {
            let path = format!("kcl-core/src/{module}/a.rs");
            assert_eq!(found(&path, "use crate::policy::round;").len(), 1, "{module}");
            assert_eq!(found(&path, "use crate::contract::Rt;\nuse crate::model::Lease;"), [""; 0], "{module}");
        }
    }

    #[test]
    fn tests_may_import_what_they_like() {
        let text = "#[cfg(test)]\nmod tests {\n    use crate::worker::Worker;\n}\n";
        assert_eq!(found("kcl-core/src/policy/listing.rs", text), [""; 0]);
        assert_eq!(found("kcl-core/src/policy/listing/tests.rs", "use crate::worker::Worker;"), [""; 0]);
    }

    #[test]
    fn a_module_without_a_layer_is_refused() {
        assert!(found("kcl-core/src/helpers/mod.rs", "")[0].contains("has no layer"));
    }
}
