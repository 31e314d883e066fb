//! One test suite per contract, for implementations of the contracts.

use std::error::Error;
use std::panic::AssertUnwindSafe;

use futures::FutureExt;

use crate::contract::rt::panic_text;

pub mod lease_table;
pub mod reader_registry;
pub mod source;

/// What became of a suite's cases.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct SuiteReport {
    /// Those that hold.
    pub passed: Vec<&'static str>,
    /// Those that need what the beds cannot do.
    pub skipped: Vec<&'static str>,
}

/// The cases of a suite as they are run.
#[derive(Default)]
struct Tally {
    report: SuiteReport,
    failed: Vec<String>,
}

impl Tally {
    /// Notes a case: it ran, it was skipped (false), or it failed for a reason.
    fn note(&mut self, name: &'static str, outcome: Result<bool, String>) {
        match outcome {
            Ok(true) => self.report.passed.push(name),
            Ok(false) => self.report.skipped.push(name),
            Err(why) => self.failed.push(format!("{name}: {why}")),
        }
    }

    /// What became of all.
    ///
    /// # Panics
    /// A case failed; the panic names those that did and why.
    fn report(self) -> SuiteReport {
        assert!(self.failed.is_empty(), "{} cases failed\n{}", self.failed.len(), self.failed.join("\n"));
        self.report
    }
}

/// Runs a case. A broken promise is a panic, a call that failed where it must not an error; either comes back as text.
async fn caught<E: Into<Box<dyn Error + Send + Sync>>>(
    case: impl Future<Output = Result<(), E>> + Send,
) -> Result<(), String> {
    match AssertUnwindSafe(case).catch_unwind().await {
        Ok(Ok(())) => Ok(()),
        Ok(Err(error)) => Err(with_causes(&*error.into())),
        Err(panic) => Err(panic_text(&*panic)),
    }
}

fn with_causes(error: &(dyn Error + 'static)) -> String {
    let causes = std::iter::successors(error.source(), |error| (*error).source());
    causes.fold(error.to_string(), |text, cause| format!("{text}: {cause}"))
}
