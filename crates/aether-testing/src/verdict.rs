//! The end of a test: what is wrong with the accounts, and the account itself.

use std::fmt::{self, Write as _};

use aether_core::echo::{DeadLetter, EchoLedger};
use aether_core::inbox::InboxReport;
use aether_core::medium::MediumStatus;
use aether_core::{Aether, Ledger};
use aether_service::ServiceReport;

use crate::faults::FaultCounts;
use crate::wave_line;

/// The most dead letters that a message prints.
const MAX_PRINTED: usize = 20;

/// The accounts of a test bus at its end, as [`TestBus::finish`](crate::TestBus::finish) returns them.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Account {
    /// The sum of all inboxes, including inboxes of probes.
    pub ledger: Ledger,
    /// Each name with its inboxes.
    pub inboxes: Vec<InboxReport>,
    /// The failed waves that were reflected.
    pub echoes: EchoLedger,
    /// The medium with its outbox.
    pub medium: MediumStatus,
    /// The services in the order in which they were started.
    pub services: Vec<(String, ServiceReport)>,
    /// The effects of the faults, if the bus has any.
    pub faults: Option<FaultCounts>,
}

impl Account {
    pub(crate) fn of(
        aether: &Aether,
        services: Vec<(String, ServiceReport)>,
        faults: Option<FaultCounts>,
    ) -> Self {
        Self {
            ledger: aether.ledger(),
            inboxes: aether.inboxes(),
            echoes: aether.echo_ledger(),
            medium: aether.status(),
            services,
            faults,
        }
    }

    /// The account of the inboxes of one name; all zeros if there was none.
    #[must_use]
    pub fn inbox(&self, vibrator: &str) -> Ledger {
        let report = self.inboxes.iter().find(|report| report.vibrator == vibrator);
        report.map(|report| report.ledger).unwrap_or_default()
    }

    /// Services with waves in flight, which is wrong once they have ended.
    pub(crate) fn in_flight(&self) -> impl Iterator<Item = String> {
        let services = self.services.iter().filter(|(_, report)| report.in_flight > 0);
        services.map(|(name, report)| format!("the service {name} ended with waves in flight: {report}"))
    }

    /// Everything that does not add up.
    pub(crate) fn problems(&self) -> Vec<String> {
        let inboxes = self.inboxes.iter().filter(|report| !report.ledger.adds_up());
        let mut problems: Vec<_> = inboxes
            .map(|report| {
                format!("the ledger of {} does not add up: {}", report.vibrator, sum(&report.ledger))
            })
            .collect();
        if !self.medium.outbox.adds_up() {
            problems.push(format!("the outbox does not add up: {}", sum(&self.medium.outbox)));
        }
        if !self.echoes.adds_up() {
            problems.push(format!("the echoes do not add up: {:?}", self.echoes));
        }
        for (name, report) in &self.services {
            if !report.adds_up() {
                problems.push(format!("the account of the service {name} does not add up: {report}"));
            }
        }
        if let Some(faults) = self.faults.filter(|faults| !faults.adds_up()) {
            problems.push(format!("the faults do not add up: {faults}"));
        }
        problems
    }
}

/// Dead letters that nobody looked at, as a problem.
pub(crate) fn unread(letters: &[DeadLetter]) -> Option<String> {
    if letters.is_empty() {
        return None;
    }
    let count = letters.len();
    let word = if count == 1 { "dead letter" } else { "dead letters" };
    let mut text = format!("{count} {word} that the test did not look at with TestBus::dead_letters:");
    for letter in letters.iter().take(MAX_PRINTED) {
        let described = wave_line::described(&letter.wave, &wave_line::short_id(&letter.wave.id()), None);
        let hint = if letter.hint.is_empty() { String::new() } else { format!(" ({})", letter.hint) };
        // Writing to a String cannot fail.
        let _ = write!(
            text,
            "\n      {}\n        {} at {}{hint}",
            described.trim_end(),
            letter.reason,
            letter.by
        );
    }
    if letters.len() > MAX_PRINTED {
        let _ = write!(text, "\n      and {} more", letters.len() - MAX_PRINTED);
    }
    Some(text)
}

/// A ledger as a sum without zeros.
pub(crate) fn sum(ledger: &Ledger) -> String {
    let mut text = format!("{} offered = {} delivered", ledger.offered, ledger.delivered);
    for (reason, count) in ledger.losses().into_iter().filter(|(_, count)| *count > 0) {
        let _ = write!(text, " + {count} {}", reason.as_str());
    }
    if ledger.lost_upstream > 0 {
        let _ = write!(text, " + {} lost upstream", ledger.lost_upstream);
    }
    let _ = write!(text, " + {} queued", ledger.queued);
    text
}

impl fmt::Display for Account {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for report in &self.inboxes {
            writeln!(f, "  inbox of {}: {}", report.vibrator, sum(&report.ledger))?;
        }
        for (name, report) in &self.services {
            writeln!(f, "  service {name}: {report}")?;
        }
        if self.medium.outbox.offered > 0 {
            writeln!(f, "  outbox: {}", sum(&self.medium.outbox))?;
        }
        match &self.faults {
            Some(faults) => writeln!(f, "  faults: {faults}"),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_account_that_does_not_add_up_is_named() {
        let mut account = Account::of(&Aether::local(), Vec::new(), None);
        assert!(account.problems().is_empty());
        account.medium.outbox.offered = 3;
        account.echoes.reflected = 1;
        let problems = account.problems();
        assert_eq!(problems[0], "the outbox does not add up: 3 offered = 0 delivered + 0 queued");
        assert!(problems[1].starts_with("the echoes do not add up"), "{problems:?}");
        let services = vec![("stock".to_owned(), ServiceReport::default())];
        account.services = services;
        assert_eq!(account.in_flight().count(), 0);
        account.services[0].1.in_flight = 1;
        assert!(account.in_flight().next().is_some_and(|problem| problem.contains("stock")));
        account.services[0].1.received = 2;
        assert!(
            account.problems()[2].starts_with("the account of the service stock"),
            "{:?}",
            account.problems()
        );
    }
}
