//! The counts of all processes since the last reading: waves offered, delivered, lost and queued, by program and queue.
//!
//! [`Views`](crate::views) reads the accounts every second, and takes the counts every five seconds, for the history,
//! the log and the archive. Counts are compared process by process and not program by program: a process that is heard
//! for the first time brings along its earlier losses, which are not new. Pure: the caller passes the time.

use std::collections::BTreeMap;
use std::time::Duration;

use aether_core::account::KnownProcess;
use aether_core::{Ledger, Source};
use lru::LruCache;
use tokio::time::Instant;

/// The number of reasons for which a queue loses waves.
const REASONS: usize = 7;
/// The maximum number of processes whose counts are remembered: twice as many as accounts are kept of, so that one which was
/// forgotten there and comes back does not count twice.
const MOST_PROCESSES: usize = 8192;

/// The inboxes of a program, or its outboxes.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Queue {
    pub(crate) program: String,
    /// `inbox` or `outbox`.
    pub(crate) queue: &'static str,
}

/// The counts of a queue. `offered = delivered + all losses + queued`.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Increment {
    pub(crate) offered: u64,
    pub(crate) delivered: u64,
    /// By how much the queues have grown, including queues of processes that have gone.
    pub(crate) queued: i64,
    /// Without reasons for which nothing was lost.
    pub(crate) lost: BTreeMap<&'static str, u64>,
}

/// The counts of one process.
#[derive(Debug, Clone)]
pub(crate) struct Told {
    process: Source,
    /// The time since it connected, by the clock of the reader.
    runs_for: Duration,
    counts: [Ledger; QUEUES.len()],
}

impl From<&KnownProcess> for Told {
    fn from(known: &KnownProcess) -> Self {
        let account = &known.account;
        Self {
            process: account.process.clone(),
            runs_for: account.uptime.saturating_add(known.age),
            counts: [account.ledger(), account.medium.outbox],
        }
    }
}

/// The counts of all processes when they were read last.
#[derive(Debug)]
pub(crate) struct Increments {
    /// Those that were heard last come first.
    counts: LruCache<Source, [Ledger; QUEUES.len()]>,
    /// A process that began later and is not remembered was never read.
    complete_since: Instant,
    /// The counts since they were taken last.
    grown: BTreeMap<Queue, Increment>,
}

const QUEUES: [&str; 2] = ["inbox", "outbox"];

impl Increments {
    /// Nothing was read yet, by a reader that hears accounts from this moment.
    pub(crate) fn new(begin: Instant) -> Self {
        Self { counts: LruCache::unbounded(), complete_since: begin, grown: BTreeMap::new() }
    }

    /// Adds the counts since the last reading. A process that began before the reader counts from when it was read
    /// first.
    pub(crate) fn read(&mut self, processes: impl IntoIterator<Item = Told>, now: Instant) {
        let complete_for = now.saturating_duration_since(self.complete_since);
        for Told { process, runs_for, counts } in processes {
            let was_never_read = runs_for <= complete_for;
            let before = self.counts.get(&process).copied().or(was_never_read.then(Default::default));
            for (at, queue) in QUEUES.into_iter().enumerate() {
                let grown = before.and_then(|before| Increment::between(&before[at], &counts[at]));
                if let Some(grown) = grown {
                    let place = Queue { program: process.name().to_owned(), queue };
                    self.grown.entry(place).or_default().add(&grown);
                }
            }
            self.counts.put(process, counts);
        }
        while self.counts.len() > MOST_PROCESSES {
            self.counts.pop_lru();
            self.complete_since = now;
        }
    }

    /// The counts since they were taken last.
    pub(crate) fn take(&mut self) -> BTreeMap<Queue, Increment> {
        std::mem::take(&mut self.grown)
    }
}

impl Increment {
    /// The counts between two ledgers of one queue. `None` for nothing, and for a ledger that contradicts the one
    /// before.
    fn between(before: &Ledger, now: &Ledger) -> Option<Self> {
        let mut grown = Self {
            offered: now.offered.checked_sub(before.offered)?,
            delivered: now.delivered.checked_sub(before.delivered)?,
            queued: i64::try_from(now.queued).ok()?.checked_sub_unsigned(before.queued)?,
            lost: BTreeMap::new(),
        };
        for ((reason, now), (_, before)) in losses(now).into_iter().zip(losses(before)) {
            let waves = now.checked_sub(before)?;
            if waves > 0 {
                grown.lost.insert(reason, waves);
            }
        }
        (grown != Self::default()).then_some(grown)
    }

    fn add(&mut self, other: &Self) {
        self.offered = self.offered.saturating_add(other.offered);
        self.delivered = self.delivered.saturating_add(other.delivered);
        self.queued = self.queued.saturating_add(other.queued);
        for (reason, waves) in &other.lost {
            let sum = self.lost.entry(reason).or_default();
            *sum = sum.saturating_add(*waves);
        }
    }
}

/// The losses of a ledger by reason, what was lost on the way to it included.
pub(crate) fn losses(ledger: &Ledger) -> [(&'static str, u64); REASONS] {
    let mut all = [("lost_upstream", ledger.lost_upstream); REASONS];
    for (place, (reason, waves)) in all.iter_mut().zip(ledger.losses()) {
        *place = (reason.as_str(), waves);
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ledger(offered: u64, delivered: u64, full: u64) -> Ledger {
        let mut ledger = Ledger::default();
        (ledger.offered, ledger.delivered, ledger.shed_full) = (offered, delivered, full);
        ledger.queued = offered - delivered - full;
        ledger
    }

    #[test]
    fn an_increment_adds_up_and_a_contradiction_counts_as_nothing() {
        let (before, now) = (ledger(10, 5, 2), ledger(20, 16, 3));
        let grown = Increment::between(&before, &now).unwrap();
        assert_eq!((grown.offered, grown.delivered, grown.queued), (10, 11, -2));
        assert_eq!(grown.lost, BTreeMap::from([("full", 1)]));
        assert_eq!(grown.offered as i64, grown.delivered as i64 + 1 + grown.queued);
        assert_eq!(Increment::between(&now, &before), None);
        assert_eq!(Increment::between(&now, &now), None);
        let mut sum = grown.clone();
        sum.add(&grown);
        assert_eq!((sum.queued, sum.lost["full"]), (-4, 2));
    }

    fn told(name: &str, instance: u64, runs_for: u64, lost: u64) -> Told {
        let process = Source::with_instance(name, instance).unwrap();
        let runs_for = Duration::from_secs(runs_for);
        Told { process, runs_for, counts: [ledger(lost, 0, lost), Ledger::default()] }
    }

    /// The losses of a program in a reading.
    fn lost(read: &BTreeMap<Queue, Increment>, program: &str) -> u64 {
        let place = Queue { program: program.to_owned(), queue: "inbox" };
        read.get(&place).map_or(0, |grown| grown.lost["full"])
    }

    #[test]
    fn old_losses_of_a_process_that_is_heard_late_or_again_are_not_new_ones() {
        let begin = Instant::now();
        let mut increments = Increments::new(begin);
        let at = |seconds| begin + Duration::from_secs(seconds);
        increments.read([told("old", 1, 100, 7)], at(0));
        assert!(increments.take().is_empty());
        // One that ran before, and one that began since.
        increments.read([told("old", 2, 100, 1000), told("new", 3, 3, 2)], at(4));
        increments.read([told("old", 2, 101, 1000), told("new", 3, 4, 5)], at(5));
        let read = increments.take();
        assert_eq!((lost(&read, "old"), lost(&read, "new")), (0, 5));
        // The table of accounts has forgotten two of them meanwhile.
        increments.read([], at(700));
        let back = [told("old", 1, 1000, 8), told("old", 2, 1000, 1003), told("new", 3, 904, 6)];
        increments.read(back, at(905));
        let read = increments.take();
        assert_eq!((lost(&read, "old"), lost(&read, "new")), (1 + 3, 1));
    }

    #[test]
    fn memory_of_processes_is_bounded_and_who_is_forgotten_begins_anew() {
        let begin = Instant::now();
        let mut increments = Increments::new(begin);
        let at = |seconds| begin + Duration::from_secs(seconds);
        increments.read([], at(0));
        let made_up = (0..=MOST_PROCESSES as u64).map(|instance| told("made-up", instance + 1, 1, 1));
        increments.read(made_up, at(5));
        assert_eq!(lost(&increments.take(), "made-up"), MOST_PROCESSES as u64 + 1);
        assert_eq!(increments.counts.len(), MOST_PROCESSES);
        increments.read([told("made-up", 1, 6, 9), told("made-up", 2, 6, 3)], at(10));
        assert_eq!(lost(&increments.take(), "made-up"), 2, "the first was forgotten");
    }

    #[test]
    fn every_loss_of_a_ledger_has_its_reason() {
        let mut ledger = Ledger::default();
        (ledger.shed_full, ledger.shed_unsendable, ledger.lost_upstream) = (1, 2, 4);
        let all = losses(&ledger);
        assert_eq!(all.iter().map(|(_, waves)| waves).sum::<u64>(), ledger.lost());
        assert_eq!((all[0], all[5], all[6]), (("full", 1), ("unsendable", 2), ("lost_upstream", 4)));
    }
}
