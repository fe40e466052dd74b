//! The conformance suite that every [`Medium`](aether_core::medium::Medium) must pass and a real NATS server for tests.
//!
//! The implementor of a medium writes a [`Harness`] and passes it to [`run`]. Each case checks one line of the contract
//! documented at [`Medium`](aether_core::medium::Medium), through the same [`Aether`](aether_core::Aether) and
//! [`Vibrator`](aether_core::Vibrator) that services use. A case that needs means the site does not have, or that
//! checks what the medium does not [promise](aether_core::medium::Promises), is reported as skipped, by name. Assert
//! the skipped names, so that a case that is no longer run is noticed. The suite never panics, and never sleeps in
//! place of waiting for an event.
//!
//! ```
//! use aether_core::Aether;
//! use aether_conformance::{Harness, Site, SiteError, Suite};
//! use aether_core::InboxOptions;
//! use futures_util::future::{BoxFuture, ready};
//!
//! struct LocalHarness;
//! struct LocalSite(Aether);
//!
//! impl Harness for LocalHarness {
//!     fn site(&self) -> BoxFuture<'_, Result<Box<dyn Site>, SiteError>> {
//!         Box::pin(ready(Ok(Box::new(LocalSite(Aether::local())) as Box<dyn Site>)))
//!     }
//! }
//!
//! impl Site for LocalSite {
//!     fn connect(&self, _outbox: InboxOptions) -> BoxFuture<'_, Result<Aether, SiteError>> {
//!         Box::pin(ready(Ok(self.0.clone())))
//!     }
//! }
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() {
//! let report = Suite::default().only(["closing_twice_is_harmless"]).run(&LocalHarness).await;
//! assert!(report.passed(), "{report}");
//! assert!(report.skipped().is_empty());
//! # }
//! ```

mod asking;
mod back_pressure;
#[cfg(target_os = "linux")]
mod cable;
mod cancelling;
mod carrying;
mod case;
mod closing;
mod content;
mod foreign;
mod groups;
mod harness;
mod hearing;
mod jammer;
mod joining;
mod observing;
mod order;
mod outage;
mod overload;
mod ports;
mod reflecting;
mod report;
mod respecting;
mod server;
mod size;
mod stage;

#[cfg(target_os = "linux")]
pub use cable::{Cable, CableError, End};
pub use harness::{Foreign, ForeignMessage, Harness, Link, Site, SiteError};
pub use jammer::Jammer;
pub use ports::free_port;
pub use report::{CaseReport, Failure, Outcome, Report};
pub use server::{NatsCluster, NatsServer, ServerError, ServerOptions};

use std::sync::Arc;
use std::time::Duration;

use futures_util::stream::{self, StreamExt as _};
use tokio::time::Instant;

use case::Case;
use stage::{Patience, Stage};

/// In the order of the contract.
const CASES: [&[Case]; 17] = [
    carrying::CASES,
    order::CASES,
    hearing::CASES,
    groups::CASES,
    joining::CASES,
    asking::CASES,
    observing::CASES,
    size::CASES,
    overload::CASES,
    back_pressure::CASES,
    closing::CASES,
    outage::CASES,
    cancelling::CASES,
    content::CASES,
    foreign::CASES,
    reflecting::CASES,
    respecting::CASES,
];

/// Runs every case with the default limit. The entry point for tests of a medium.
///
/// # Cancel safety
/// If cancelled before completion, the running case is abandoned.
pub async fn run(harness: &dyn Harness) -> Report {
    Suite::default().run(harness).await
}

/// The number of cases that run at the same time.
const AT_ONCE: usize = 4;

/// The cases to run, and their patience.
#[derive(Debug, Clone)]
#[must_use = "no case runs before run()"]
pub struct Suite {
    limit: Duration,
    only: Option<Vec<String>>,
}

impl Default for Suite {
    fn default() -> Self {
        Self { limit: Self::LIMIT, only: None }
    }
}

impl Suite {
    /// How long a case waits by default while nothing that it expects happens. Only a case that fails waits for so long.
    pub const LIMIT: Duration = Duration::from_secs(120);

    /// Sets how long a case may wait for the next thing that it expects. Default: [`Suite::LIMIT`].
    pub fn limit(mut self, limit: Duration) -> Self {
        self.limit = limit;
        self
    }

    /// Runs only the cases with these names. Default: all. An unknown name is reported as a failed case.
    pub fn only(mut self, names: impl IntoIterator<Item = impl Into<String>>) -> Self {
        self.only = Some(names.into_iter().map(Into::into).collect());
        self
    }

    /// Runs the cases, each on a site of its own, four at a time: most of them wait for an outage to end.
    ///
    /// # Cancel safety
    /// If cancelled before completion, the running cases are abandoned.
    pub async fn run(&self, harness: &dyn Harness) -> Report {
        let is_wanted =
            |case: &&Case| self.only.as_ref().is_none_or(|only| only.iter().any(|name| name == case.name));
        let cases = CASES.into_iter().flatten().filter(is_wanted).map(|case| async move {
            let started = Instant::now();
            let outcome = self.run_case(case, harness).await;
            CaseReport { name: case.name.to_owned(), line: case.line, outcome, took: started.elapsed() }
        });
        let mut reports = stream::iter(cases).buffered(AT_ONCE);
        let mut report = Report::default();
        while let Some(case) = reports.next().await {
            report.push(case);
        }
        for name in self.only.iter().flatten() {
            if !CASES.into_iter().flatten().any(|case| case.name == name) {
                let failure = Failure::new("a case of this name", "none");
                let outcome = Outcome::Failed(failure);
                report.push(CaseReport { name: name.clone(), line: 0, outcome, took: Duration::ZERO });
            }
        }
        report
    }

    async fn run_case(&self, case: &Case, harness: &dyn Harness) -> Outcome {
        let patience = Arc::new(Patience::new(self.limit));
        let run = async {
            let site = harness.site().await?;
            if !case.needs.possible_at(&*site) {
                return Ok(Outcome::Skipped);
            }
            let stage = Stage::new(site, Arc::clone(&patience)).await?;
            if !case.needs.met_by(&stage) {
                return Ok(Outcome::Skipped);
            }
            (case.run)(&stage).await?;
            Ok(Outcome::Passed)
        };
        tokio::select! {
            biased;
            ended = run => ended.unwrap_or_else(Outcome::Failed),
            // The waits of a stage end before, and name what they wait for. This catches any other wait.
            () = patience.is_over() => Outcome::Failed(Failure::new(
                format_args!("something to move within {:?}", self.limit),
                "a call that did not return",
            )),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_line_of_the_contract_has_a_case_and_no_name_is_used_twice() {
        let mut names: Vec<_> = CASES.into_iter().flatten().map(|case| case.name).collect();
        let lines: std::collections::BTreeSet<_> =
            CASES.into_iter().flatten().map(|case| case.line).collect();
        assert!(lines.into_iter().eq(1..=15));
        names.sort_unstable();
        assert!(names.is_sorted_by(|a, b| a < b), "{names:?}");
    }
}
