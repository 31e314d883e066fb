//! Rules about code.

use crate::Violation;
use crate::source::SourceFile;

/// The longest that the code of a library file may be, its tests aside.
pub const LONGEST: usize = 500;

/// Modules of `kcl-core` that neither wait nor read a clock nor draw a random number.
pub const PURE: &[&str] = &["model", "record", "policy"];

/// What a pure module has no use for.
const IMPURE: &[&str] = &[
    "async fn",
    "async move",
    "async {",
    ".await",
    "Instant::now",
    "SystemTime::now",
    "rand::",
    "tokio::",
    "tracing::",
];

/// Marks of work that is not done.
const UNFINISHED: &[&str] = &["todo!", "unimplemented!", "#[ignore"];

/// What may panic.
const PANICS: &[&str] = &[".unwrap()", ".expect(", "panic!(", "unreachable!("];

/// Nothing waits in a pure module.
#[must_use]
pub fn pure(files: &[SourceFile]) -> Vec<Violation> {
    let pure = |file: &&SourceFile| {
        let inner = file.path.split_once("src/").map_or("", |(_, inner)| inner);
        !file.is_test() && PURE.contains(&inner.split(['/', '.']).next().unwrap_or_default())
    };
    files
        .iter()
        .filter(pure)
        .flat_map(|file| find(file, &file.library_code(), IMPURE, "has no place in a pure module"))
        .collect()
}

/// Nothing is left undone, in tests neither.
#[must_use]
pub fn finished(files: &[SourceFile]) -> Vec<Violation> {
    files.iter().flat_map(|file| find(file, &file.code(), UNFINISHED, "is work that is not done")).collect()
}

/// Library code does not panic on purpose.
#[must_use]
pub fn no_panics(files: &[SourceFile]) -> Vec<Violation> {
    let library = files.iter().filter(|file| !file.is_test());
    library.flat_map(|file| find(file, &file.library_code(), PANICS, "may panic: return an error")).collect()
}

/// No library file grows past [`LONGEST`].
#[must_use]
pub fn short(files: &[SourceFile]) -> Vec<Violation> {
    let library = files.iter().filter(|file| !file.is_test());
    library
        .filter_map(|file| {
            let lines = lines_without_tests(file);
            let what = format!(
                "has {lines} lines beside its tests, {LONGEST} are allowed: take a noun out into a file of its own"
            );
            (lines > LONGEST).then(|| Violation::of_file(&file.path, what))
        })
        .collect()
}

/// The lines up to the inline tests, which stand at the end of a file.
fn lines_without_tests(file: &SourceFile) -> usize {
    let lines: Vec<&str> = file.text.lines().collect();
    let inline = |at: &usize| {
        lines[*at].starts_with("#[cfg(test)]") && lines.get(at + 1).is_some_and(|line| line.ends_with('{'))
    };
    (0..lines.len()).find(inline).unwrap_or(lines.len())
}

/// Every method of a contract that may fail says how, under `# Errors`.
#[must_use]
pub fn errors_documented(files: &[SourceFile]) -> Vec<Violation> {
    files.iter().flat_map(errors_of).collect()
}

fn errors_of(file: &SourceFile) -> Vec<Violation> {
    let lines: Vec<&str> = file.text.lines().collect();
    let mut violations = Vec::new();
    let mut in_trait = false;
    for (at, line) in lines.iter().enumerate() {
        match *line {
            line if line.starts_with("pub trait ") => in_trait = !line.ends_with("{}"),
            "}" => in_trait = false,
            line if in_trait && line.trim_start().starts_with("async fn ") => {
                let signature: Vec<&str> = lines[at..].iter().copied().take_while(|l| !ends_signature(l)).collect();
                let last = lines.get(at + signature.len()).copied().unwrap_or_default();
                let fails = signature.iter().chain([&last]).any(|line| line.contains("-> Result<"));
                let above = lines[..at].iter().rev().map(|line| line.trim_start());
                let documented =
                    above.take_while(|l| l.starts_with("///") || l.starts_with("#[")).any(|l| l == "/// # Errors");
                if fails && !documented {
                    let what = format!("`{}` does not say how it fails: add `# Errors`", line.trim());
                    violations.push(Violation { file: file.path.clone(), line: at + 1, what });
                }
            }
            _ => {}
        }
    }
    violations
}

fn ends_signature(line: &str) -> bool {
    line.ends_with(';') || line.ends_with('{')
}

/// `kcl-core` depends on nothing of AWS.
#[must_use]
pub fn no_aws(manifest: &SourceFile) -> Vec<Violation> {
    let lines = manifest.text.lines().enumerate();
    lines
        .filter(|(_, line)| {
            let name = line.trim_start().trim_start_matches(['"', '[']).trim_start_matches("dependencies.");
            name.starts_with("aws-") || name.starts_with("aws_") || line.contains("package = \"aws-")
        })
        .map(|(at, line)| Violation {
            file: manifest.path.clone(),
            line: at + 1,
            what: format!("`{}` belongs in kcl-dynamo", line.trim()),
        })
        .collect()
}

fn find(file: &SourceFile, code: &str, words: &[&str], why: &str) -> Vec<Violation> {
    let mut violations = Vec::new();
    for (at, line) in code.lines().enumerate() {
        let found = words.iter().filter(|word| line.contains(**word));
        violations.extend(found.map(|word| Violation {
            file: file.path.clone(),
            line: at + 1,
            what: format!("`{word}` {why}"),
        }));
    }
    violations
}

#[cfg(test)]
mod tests {
    use super::*;

    fn one(path: &str, text: &str) -> Vec<SourceFile> {
        vec![SourceFile::new(path, text)]
    }

    #[test]
    fn waiting_in_a_pure_module_is_found() {
        for text in ["async fn f() {}", "fn f() { g.await }", "fn f() { std::time::Instant::now(); }"] {
            assert_eq!(pure(&one("kcl-core/src/policy/balance.rs", text)).len(), 1, "{text}");
            assert_eq!(pure(&one("kcl-core/src/model/id.rs", text)).len(), 1, "{text}");
            assert_eq!(pure(&one("kcl-core/src/runner/fleet.rs", text)), []);
            assert_eq!(pure(&one("kcl-core/src/policy/balance/tests.rs", text)), []);
        }
        assert_eq!(pure(&one("kcl-core/src/policy/balance.rs", "// .await\nfn f() {}")), []);
    }

    #[test]
    fn unfinished_work_is_found_in_code_and_in_tests() {
        let text =
            "fn f() { todo!() }\n#[cfg(test)]\nmod tests {\n    #[test]\n    #[ignore = \"slow\"]\n    fn t() {}\n}\n";
        let lines: Vec<usize> = finished(&one("a/src/lib.rs", text)).iter().map(|found| found.line).collect();
        assert_eq!(lines, [1, 5]);
        assert_eq!(finished(&one("a/src/lib.rs", "/// todo!() is not allowed\nfn f() {}")), []);
    }

    #[test]
    fn a_panic_is_found_in_library_code_and_not_in_tests() {
        let text = "fn f() { g().unwrap(); }\n#[cfg(test)]\nmod tests {\n    fn t() { g().unwrap(); }\n}\n";
        assert_eq!(no_panics(&one("a/src/lib.rs", text)).len(), 1);
        assert_eq!(no_panics(&one("a/src/lib.rs", "fn f() { g().unwrap_or_default(); }")), []);
    }

    #[test]
    fn a_long_file_is_found_and_tests_do_not_count() {
        let code = "fn f() {}\n".repeat(LONGEST);
        let tests = format!("#[cfg(test)]\nmod tests {{\n{}}}\n", "    // a line\n".repeat(LONGEST));
        assert_eq!(short(&one("a/src/lib.rs", &format!("{code}{tests}"))), []);
        assert_eq!(short(&one("a/src/lib.rs", &format!("{code}fn g() {{}}\n{tests}"))).len(), 1);
        assert_eq!(short(&one("a/src/b/tests.rs", &format!("{code}{code}"))), []);
    }

    #[test]
    fn a_fallible_method_without_errors_is_found() {
        let method = "    async fn get(\n        &self,\n    ) -> Result<u8, E>;\n";
        let documented = "    /// Gets.\n    ///\n    /// # Errors\n    /// It fails.\n";
        let infallible = "    /// Waits.\n    async fn wait(&self);\n";
        let of = |body: &str| errors_documented(&one("a.rs", &format!("pub trait T {{\n{body}}}\n"))).len();
        assert_eq!(of(&format!("    /// Gets.\n{method}")), 1);
        assert_eq!(of(&format!("{infallible}{method}")), 1);
        assert_eq!(of(&format!("{documented}{method}{infallible}")), 0);
    }

    #[test]
    fn a_dependency_on_aws_is_found() {
        for line in ["aws-config = \"1\"", "[dependencies.aws-types]", "dynamo = { package = \"aws-sdk-dynamodb\" }"] {
            assert_eq!(no_aws(&SourceFile::new("kcl-core/Cargo.toml", line)).len(), 1, "{line}");
        }
        assert_eq!(no_aws(&SourceFile::new("kcl-core/Cargo.toml", "bytes = \"1\" # as aws-sdk does")), []);
    }
}
