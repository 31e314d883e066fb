//! Rules that keep the documents true of the code.

use std::collections::BTreeSet;

use crate::Violation;
use crate::source::SourceFile;

/// Names of one kind, from the code and from a document, that should be the same.
#[must_use]
pub fn same_names(
    kind: &str,
    code: &BTreeSet<String>,
    document: &SourceFile,
    named: &BTreeSet<String>,
) -> Vec<Violation> {
    let missing = code.difference(named).map(|name| format!("{kind} `{name}` is in the code and not here"));
    let stale = named.difference(code).map(|name| format!("{kind} `{name}` is here and not in the code"));
    let empty = code.is_empty().then(|| format!("no {kind} was found in the code: has it moved?"));
    missing.chain(stale).chain(empty).map(|what| Violation::of_file(&document.path, what)).collect()
}

/// The names in the first cells of the tables under a heading of the second level: `` | `name` | … | ``.
#[must_use]
pub fn table_names(document: &SourceFile, heading: &str) -> BTreeSet<String> {
    let wanted = format!("## {heading}");
    let lines = document.text.lines().skip_while(|line| *line != wanted).skip(1);
    let section = lines.take_while(|line| !line.starts_with("## "));
    section.filter_map(|line| line.strip_prefix("| `")?.split('`').next()).map(str::to_owned).collect()
}

/// The values of the text constants in the metrics file: `pub const NAME: &str = "value";`.
#[must_use]
pub fn metric_names(file: &SourceFile) -> BTreeSet<String> {
    let consts = file.text.lines().filter_map(|line| line.strip_prefix("pub const "));
    consts.filter_map(|line| line.split_once(": &str = \"")?.1.split('"').next()).map(str::to_owned).collect()
}

/// The variants of `pub enum <name>`, as rustfmt writes it.
#[must_use]
pub fn variants(files: &[SourceFile], name: &str) -> BTreeSet<String> {
    let body = body_of(files, &format!("pub enum {name} {{"));
    let names =
        body.iter().filter_map(|line| line.strip_prefix("    ")).filter(|line| line.starts_with(char::is_uppercase));
    names.map(|line| line.chars().take_while(|c| c.is_alphanumeric()).collect()).collect()
}

/// The public fields of `pub struct <name>`, as rustfmt writes it.
#[must_use]
pub fn fields(files: &[SourceFile], name: &str) -> BTreeSet<String> {
    let body = body_of(files, &format!("pub struct {name} {{"));
    let fields = body.iter().filter_map(|line| line.strip_prefix("    pub "));
    fields.filter_map(|line| line.split(':').next()).map(str::to_owned).collect()
}

fn body_of<'a>(files: &'a [SourceFile], opening: &str) -> Vec<&'a str> {
    let file = files.iter().find(|file| file.text.lines().any(|line| line == opening));
    let lines = file.into_iter().flat_map(|file| file.text.lines());
    lines.skip_while(|line| *line != opening).skip(1).take_while(|line| *line != "}").collect()
}

/// Links between the documents lead somewhere. `exists` is asked for paths from the root of the repository.
#[must_use]
pub fn links(documents: &[SourceFile], exists: impl Fn(&str) -> bool) -> Vec<Violation> {
    let mut violations = Vec::new();
    for document in documents {
        let dir = document.path.rsplit_once('/').map_or("", |(dir, _)| dir);
        for (at, line) in document.text.lines().enumerate() {
            for link in line.split("](").skip(1).filter_map(|rest| rest.split([')', '#']).next()) {
                let elsewhere = link.is_empty() || link.contains("://") || link.starts_with("mailto:");
                if !elsewhere && !exists(&resolve(dir, link)) {
                    let what = format!("the link to {link} leads nowhere");
                    violations.push(Violation { file: document.path.clone(), line: at + 1, what });
                }
            }
        }
    }
    violations
}

fn resolve(dir: &str, link: &str) -> String {
    let mut parts: Vec<&str> = dir.split('/').filter(|part| !part.is_empty()).collect();
    for part in link.split('/') {
        match part {
            "" | "." => {}
            ".." => {
                parts.pop();
            }
            part => parts.push(part),
        }
    }
    parts.join("/")
}

/// A map names every file that lies directly in the given directories, by the file's name.
#[must_use]
pub fn mapped(map: &SourceFile, files: &[SourceFile], dirs: &[&str]) -> Vec<Violation> {
    let wanted = files.iter().filter(|file| {
        let inner = file.path.split_once("src/").map_or("", |(_, inner)| inner);
        !file.is_test()
            && inner
                .split_once('/')
                .is_some_and(|(dir, name)| dirs.contains(&dir) && name != "mod.rs" && !name.contains('/'))
    });
    wanted
        .filter(|file| {
            let name = file.path.rsplit('/').next().unwrap_or_default();
            !map.text.contains(&format!("`{name}`"))
        })
        .map(|file| Violation::of_file(&map.path, format!("the map does not name {}", file.path)))
        .collect()
}

/// A document that is to be read at a sitting stays short.
#[must_use]
pub fn at_most(document: &SourceFile, lines: usize) -> Vec<Violation> {
    let has = document.text.lines().count();
    let what = format!("has {has} lines, {lines} are allowed: move something to docs/");
    (has > lines).then(|| Violation::of_file(&document.path, what)).into_iter().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(names: &[&str]) -> BTreeSet<String> {
        names.iter().map(|name| (*name).to_owned()).collect()
    }

    #[test]
    fn a_name_missing_on_either_side_is_found() {
        let document = SourceFile::new("docs/a.md", "");
        let found = |code: &[&str], named: &[&str]| same_names("event", &set(code), &document, &set(named)).len();
        assert_eq!(found(&["A", "B"], &["A", "B"]), 0);
        assert_eq!(found(&["A", "B"], &["A"]), 1);
        assert_eq!(found(&["A"], &["A", "B"]), 1);
        assert_eq!(found(&[], &[]), 1, "a rule that looks at nothing must not pass");
    }

    #[test]
    fn the_names_of_a_section_are_those_of_its_own_tables() {
        let document =
            SourceFile::new("a.md", "## One\n| `a` | x |\n\n| name |\n|---|\n| `b` | `c` |\n## Two\n| `d` | x |\n");
        assert_eq!(table_names(&document, "One"), set(&["a", "b"]));
        assert_eq!(table_names(&document, "Three"), set(&[]));
    }

    #[test]
    fn names_are_read_from_code() {
        let code = concat!(
            "/// A.\npub const A: &str = \"kcl.a\";\npub const ALL: [&str; 1] = [A];\n",
            "pub enum E {\n    /// X.\n    One {\n        /// Y.\n        inner: u8,\n    },\n    Two(u8),\n    #[x]\n    Three,\n}\n",
            "pub struct S {\n    /// X.\n    pub a: u8,\n    b: u8,\n    pub c_d: Vec<u8>,\n}\n",
        );
        let files = [SourceFile::new("x.rs", ""), SourceFile::new("a.rs", code)];
        assert_eq!(metric_names(&files[1]), set(&["kcl.a"]));
        assert_eq!(variants(&files, "E"), set(&["One", "Two", "Three"]));
        assert_eq!(fields(&files, "S"), set(&["a", "c_d"]));
        assert_eq!(variants(&files, "Other"), set(&[]));
    }

    #[test]
    fn a_link_that_leads_nowhere_is_found() {
        let document = SourceFile::new(
            "docs/a.md",
            "[x](b.md#part) [y](../README.md)\n[z](c.md) [w](https://x/y.md) [v](#here)\n",
        );
        let found = links(&[document], |path| ["docs/b.md", "README.md"].contains(&path));
        assert_eq!(found.len(), 1, "{found:?}");
        assert_eq!((found[0].line, found[0].what.as_str()), (2, "the link to c.md leads nowhere"));
    }

    #[test]
    fn a_file_missing_from_the_map_is_found() {
        let map = SourceFile::new("MAP.md", "| `plan.rs` | who |");
        let of = |path: &str| mapped(&map, &[SourceFile::new(path, "")], &["policy"]).len();
        assert_eq!((of("kcl-core/src/policy/plan.rs"), of("kcl-core/src/policy/other.rs")), (0, 1));
        assert_eq!((of("kcl-core/src/policy/mod.rs"), of("kcl-core/src/policy/plan/part.rs")), (0, 0));
        assert_eq!((of("kcl-core/src/wrap/other.rs"), of("kcl-core/src/other.rs")), (0, 0));
    }

    #[test]
    fn a_document_that_grew_too_long_is_found() {
        let document = SourceFile::new("a.md", "x\nx\nx\n");
        assert_eq!((at_most(&document, 3).len(), at_most(&document, 2).len()), (0, 1));
    }
}
