//! The results of the cases.

use std::fmt;
use std::panic::Location;
use std::time::Duration;

/// The result of a check.
pub(super) type Checked<T = ()> = Result<T, Failure>;

/// A broken requirement, the behaviour that was seen, and its place in the suite.
#[derive(Debug, Clone)]
pub struct Failure {
    expected: String,
    seen: String,
    at: &'static Location<'static>,
}

impl Failure {
    #[track_caller]
    pub(super) fn new(expected: impl fmt::Display, seen: impl fmt::Display) -> Self {
        Self::at(Location::caller(), expected, seen)
    }

    pub(super) fn at(
        at: &'static Location<'static>,
        expected: impl fmt::Display,
        seen: impl fmt::Display,
    ) -> Self {
        Self { expected: expected.to_string(), seen: seen.to_string(), at }
    }

    /// The requirement of the contract.
    #[must_use]
    pub fn expected(&self) -> &str {
        &self.expected
    }

    /// The behaviour of the medium.
    #[must_use]
    pub fn seen(&self) -> &str {
        &self.seen
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "expected {}; saw {} (at {}:{})", self.expected, self.seen, self.at.file(), self.at.line())
    }
}

/// An operation that should have succeeded; lets cases use `?`. (For that reason `Failure` is not an `Error`.)
impl<E: std::error::Error> From<E> for Failure {
    #[track_caller]
    fn from(error: E) -> Self {
        let mut seen = error.to_string();
        let mut cause = error.source();
        while let Some(error) = cause {
            seen = format!("{seen}: {error}");
            cause = error.source();
        }
        Self::new("no error", format_args!("the error {seen:?}"))
    }
}

/// Checks that two values are equal.
#[track_caller]
pub(super) fn same<T: PartialEq + fmt::Debug>(what: &str, expected: T, seen: T) -> Checked {
    if expected == seen {
        Ok(())
    } else {
        Err(Failure::new(format_args!("{what}: {expected:?}"), format_args!("{seen:?}")))
    }
}

/// Checks a condition.
#[track_caller]
pub(super) fn holds(expected: &str, condition: bool, seen: impl fmt::Debug) -> Checked {
    if condition { Ok(()) } else { Err(Failure::new(expected, format_args!("{seen:?}"))) }
}

/// The outcome of a case.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum Outcome {
    /// The medium behaves as the contract requires.
    Passed,
    /// The medium violates the contract.
    Failed(Failure),
    /// The site has no means to check it, or the medium does not promise it.
    Skipped,
}

/// A case and its outcome.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct CaseReport {
    /// The behaviour.
    pub name: String,
    /// The number of the contract line of [`Medium`](aether_core::medium::Medium), 1 to 12.
    pub line: u8,
    /// The outcome.
    pub outcome: Outcome,
    /// The duration, including setting up the site.
    pub took: Duration,
}

/// The results of all cases, in the order in which they ran. Formatted as a list, one case per line.
#[derive(Debug, Clone, Default)]
#[must_use = "a report may hold failures"]
pub struct Report {
    cases: Vec<CaseReport>,
}

impl Report {
    pub(super) fn push(&mut self, case: CaseReport) {
        self.cases.push(case);
    }

    /// All cases.
    #[must_use]
    pub fn cases(&self) -> &[CaseReport] {
        &self.cases
    }

    /// Whether at least one case ran and none failed.
    #[must_use]
    pub fn passed(&self) -> bool {
        self.failed().is_empty() && self.cases.iter().any(|case| matches!(case.outcome, Outcome::Passed))
    }

    /// The names of the cases that failed.
    #[must_use]
    pub fn failed(&self) -> Vec<&str> {
        self.names(|outcome| matches!(outcome, Outcome::Failed(_)))
    }

    /// The names of the cases that the site has no means to run, or that check what the medium does not promise.
    #[must_use]
    pub fn skipped(&self) -> Vec<&str> {
        self.names(|outcome| matches!(outcome, Outcome::Skipped))
    }

    fn names(&self, wanted: impl Fn(&Outcome) -> bool) -> Vec<&str> {
        self.cases.iter().filter(|case| wanted(&case.outcome)).map(|case| &*case.name).collect()
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for CaseReport { name, line, outcome, took } in &self.cases {
            let took = took.as_secs_f64();
            match outcome {
                Outcome::Passed => writeln!(f, "passed   {line:>2} {name} ({took:.2} s)")?,
                Outcome::Skipped => writeln!(f, "skipped  {line:>2} {name}")?,
                Outcome::Failed(failure) => {
                    writeln!(f, "FAILED   {line:>2} {name} ({took:.2} s): {failure}")?
                }
            }
        }
        Ok(())
    }
}
