//! Rust files: where they are, and their code without comments, texts and tests.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// One file of the repository.
#[derive(Debug, Clone)]
pub struct SourceFile {
    /// From the root of the repository, with slashes.
    pub path: String,
    /// What is in it.
    pub text: String,
    /// Declared by `#[cfg(test)] mod name;` in another file.
    declared_test: bool,
}

impl SourceFile {
    /// A file that need not exist.
    #[must_use]
    pub fn new(path: &str, text: &str) -> Self {
        Self { path: path.to_owned(), text: text.to_owned(), declared_test: false }
    }

    /// Whether the whole file holds tests: it is named `tests.rs`, lies in a directory `tests`, or is declared for tests only.
    #[must_use]
    pub fn is_test(&self) -> bool {
        self.declared_test || self.path.split('/').any(|part| part == "tests" || part == "tests.rs")
    }

    /// The code, its comments and texts replaced by blanks, line by line as in the file.
    #[must_use]
    pub fn code(&self) -> String {
        blank(&self.text)
    }

    /// The code without what is compiled for tests only.
    #[must_use]
    pub fn library_code(&self) -> String {
        without_tests(&self.code())
    }
}

/// The root of the repository.
#[must_use]
pub fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// All files below `dir` (from the root) whose names end with `.ext`, sorted by path. Build results are left out.
///
/// # Errors
/// A file or directory cannot be read.
pub fn files(dir: &str, ext: &str) -> io::Result<Vec<SourceFile>> {
    let mut found = Vec::new();
    let mut open = vec![dir.to_owned()];
    while let Some(dir) = open.pop() {
        for entry in fs::read_dir(root().join(&dir))? {
            let entry = entry?;
            let name = entry.file_name().to_string_lossy().into_owned();
            let path = if dir.is_empty() { name.clone() } else { format!("{dir}/{name}") };
            let kind = entry.file_type()?;
            if kind.is_dir() && !name.starts_with('.') && name != "target" {
                open.push(path);
            } else if kind.is_file() && name.ends_with(&format!(".{ext}")) {
                found.push(SourceFile::new(&path, &fs::read_to_string(entry.path())?));
            }
        }
    }
    found.sort_by(|a, b| a.path.cmp(&b.path));
    mark_declared_tests(&mut found);
    Ok(found)
}

/// One file.
///
/// # Errors
/// It cannot be read.
pub fn file(path: &str) -> io::Result<SourceFile> {
    Ok(SourceFile::new(path, &fs::read_to_string(root().join(path))?))
}

/// Marks the files that another one declares by `#[cfg(test)] mod name;`.
fn mark_declared_tests(files: &mut [SourceFile]) {
    let modules: Vec<String> = files.iter().flat_map(declared_tests).collect();
    for file in files {
        let of =
            |module: &String| file.path.strip_prefix(module).is_some_and(|rest| rest == ".rs" || rest.starts_with('/'));
        file.declared_test = modules.iter().any(of);
    }
}

/// The modules that a file declares for tests only, as paths without `.rs`.
fn declared_tests(file: &SourceFile) -> Vec<String> {
    let Some((dir, name)) = file.path.rsplit_once('/') else { return Vec::new() };
    let dir = match name {
        "mod.rs" | "lib.rs" | "main.rs" => dir.to_owned(),
        name => format!("{dir}/{}", name.trim_end_matches(".rs")),
    };
    let code = file.code();
    let items = code.split(TEST_ONLY).skip(1).filter_map(|item| item.split([';', '{']).next());
    items.filter_map(|item| Some(format!("{dir}/{}", item.trim().rsplit_once("mod ")?.1.trim()))).collect()
}

/// What stands before an item that is compiled for tests only.
const TEST_ONLY: &str = "#[cfg(test)]";

/// Replaces comments, strings and characters by blanks. Lines stay where they are.
fn blank(text: &str) -> String {
    let chars: Vec<char> = text.chars().collect();
    let mut code = String::with_capacity(text.len());
    let mut at = 0;
    while let Some(&c) = chars.get(at) {
        let end = token_end(&chars, at);
        if end == at {
            code.push(c);
            at += 1;
            continue;
        }
        code.extend(chars[at..end].iter().map(|&c| if c == '\n' { '\n' } else { ' ' }));
        at = end;
    }
    code
}

/// Where the comment or text that begins at `at` ends; `at` itself where none begins.
fn token_end(chars: &[char], at: usize) -> usize {
    let next = |n: usize| chars.get(at + n).copied();
    let in_name = at > 0 && (chars[at - 1].is_alphanumeric() || chars[at - 1] == '_');
    match (chars[at], next(1)) {
        ('/', Some('/')) => find(chars, at, |c| c == '\n'),
        ('/', Some('*')) => end_of_block(chars, at),
        ('"', _) => end_of_string(chars, at),
        ('r', Some('"' | '#')) if !in_name => end_of_raw(chars, at, 1),
        ('b', Some('r')) if !in_name && matches!(next(2), Some('"' | '#')) => end_of_raw(chars, at, 2),
        ('\'', Some('\\')) => find(chars, at + 3, |c| c == '\'') + 1,
        // A lifetime has no quote behind its first letter.
        ('\'', Some(_)) if next(2) == Some('\'') => at + 3,
        _ => at,
    }
}

fn find(chars: &[char], from: usize, is: impl Fn(char) -> bool) -> usize {
    (from..chars.len()).find(|&at| is(chars[at])).unwrap_or(chars.len())
}

fn end_of_block(chars: &[char], from: usize) -> usize {
    let mut depth = 0_usize;
    let mut at = from;
    while at < chars.len() {
        match (chars[at], chars.get(at + 1)) {
            ('/', Some('*')) => (depth, at) = (depth + 1, at + 2),
            ('*', Some('/')) if depth == 1 => return at + 2,
            ('*', Some('/')) => (depth, at) = (depth - 1, at + 2),
            _ => at += 1,
        }
    }
    chars.len()
}

fn end_of_string(chars: &[char], from: usize) -> usize {
    let mut at = from + 1;
    while at < chars.len() {
        match chars[at] {
            '\\' => at += 2,
            '"' => return at + 1,
            _ => at += 1,
        }
    }
    chars.len()
}

/// The end of a raw string whose hashes begin `prefix` after `from`; `from` where it is a raw name such as `r#type`.
fn end_of_raw(chars: &[char], from: usize, prefix: usize) -> usize {
    let hashes = chars[from + prefix..].iter().take_while(|&&c| c == '#').count();
    let open = from + prefix + hashes;
    if chars.get(open) != Some(&'"') {
        return from;
    }
    let closes =
        |at: usize| chars[at] == '"' && chars[at + 1..].iter().take(hashes).filter(|&&c| c == '#').count() == hashes;
    (open + 1..chars.len()).find(|&at| closes(at)).map_or(chars.len(), |at| at + 1 + hashes)
}

/// Blanks every item under `#[cfg(test)]`. `code` holds no comments and texts any more.
fn without_tests(code: &str) -> String {
    let mut rest = code;
    let mut kept = String::with_capacity(code.len());
    while let Some(at) = rest.find(TEST_ONLY) {
        kept.push_str(&rest[..at]);
        let item = &rest[at + TEST_ONLY.len()..];
        let end = end_of_item(item);
        kept.extend(item[..end].chars().filter(|&c| c == '\n'));
        rest = &item[end..];
    }
    kept.push_str(rest);
    kept
}

/// Where the item that begins `code` ends: at its semicolon, or at the brace that closes its body.
fn end_of_item(code: &str) -> usize {
    let mut depth = 0_usize;
    for (at, c) in code.char_indices() {
        match c {
            ';' if depth == 0 => return at + 1,
            '{' => depth += 1,
            '}' if depth <= 1 => return at + 1,
            '}' => depth -= 1,
            _ => {}
        }
    }
    code.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn comments_and_texts_are_no_code() {
        let text = concat!(
            "let a = \"todo!() \\\" //\"; // todo!()\n",
            "/* todo!() /* nested */ todo!() */ let b = 'x'; let c: &'static str = r#\"todo!()\"#;\n",
            "let r#type = '\\'';\n",
        );
        let code = SourceFile::new("a.rs", text).code();
        assert!(!code.contains("todo"), "{code}");
        assert!(code.contains("let b =") && code.contains("&'static str =") && code.contains("r#type"), "{code}");
        assert_eq!(code.lines().count(), text.lines().count());
    }

    #[test]
    fn what_is_compiled_for_tests_is_left_out() {
        let text = "fn a() {}\n#[cfg(test)]\nmod tests {\n    fn b() { if true {} }\n}\nfn c() {}\n#[cfg(test)]\nmod more;\nfn d() {}\n";
        let code = SourceFile::new("a.rs", text).library_code();
        assert!(code.contains("fn a") && code.contains("fn c") && code.contains("fn d"), "{code}");
        assert!(!code.contains("fn b") && !code.contains("mod more"), "{code}");
    }

    #[test]
    fn a_file_that_is_declared_for_tests_is_a_test() {
        let declaring = "#[cfg(test)]\npub(crate) mod testing;\nmod other;\n";
        let mut files = [
            SourceFile::new("a/src/lib.rs", declaring),
            SourceFile::new("a/src/b.rs", "#[cfg(test)]\nmod suite;"),
            SourceFile::new("a/src/testing.rs", ""),
            SourceFile::new("a/src/b/suite.rs", ""),
            SourceFile::new("a/src/other.rs", ""),
        ];
        mark_declared_tests(&mut files);
        assert_eq!(files.map(|file| file.is_test()), [false, false, true, true, false]);
    }

    #[test]
    fn a_file_of_tests_is_known_by_its_path() {
        for (path, test) in [("a/src/b/tests.rs", true), ("a/src/b/tests/c.rs", true), ("a/src/tests_of.rs", false)] {
            assert_eq!(SourceFile::new(path, "").is_test(), test, "{path}");
        }
    }
}
