//! The rules of the repository that no compiler checks, as functions of text. `tests/repository.rs` runs them on the real files;
//! the tests here show that each can fail.

pub mod docs;
pub mod layers;
pub mod rules;
pub mod source;

use std::fmt;

/// A place where a rule is broken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Violation {
    /// The file, from the root of the repository.
    pub file: String,
    /// The line, from 1; 0 where the rule is about the whole file.
    pub line: usize,
    /// What is wrong and what to do.
    pub what: String,
}

impl Violation {
    /// A violation in the whole file.
    #[must_use]
    pub fn of_file(file: &str, what: impl Into<String>) -> Self {
        Self { file: file.to_owned(), line: 0, what: what.into() }
    }
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.line {
            0 => write!(f, "{}: {}", self.file, self.what),
            line => write!(f, "{}:{line}: {}", self.file, self.what),
        }
    }
}

/// Fails with all violations, one on a line.
///
/// # Panics
/// There are some.
pub fn assert_none(rule: &str, violations: &[Violation]) {
    let lines: Vec<String> = violations.iter().map(ToString::to_string).collect();
    assert!(lines.is_empty(), "{rule}:\n{}\n", lines.join("\n"));
}
