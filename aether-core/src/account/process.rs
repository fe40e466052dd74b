//! The account of one process, what a reader knows of it, and the sum of a program: plain data.

use std::sync::Arc;
use std::time::Duration;

use super::handlers::HandlersAccount;
use crate::amplitude::Floor;
use crate::echo::{DeadLetterCounts, EchoLedger};
use crate::inbox::Ledger;
use crate::medium::MediumStatus;
use crate::router::InboxReport;
use crate::source::Source;

/// The longest interval that is believed. A process that claims a longer one is silent after 181 s without an account.
const MAX_INTERVAL: Duration = Duration::from_secs(60);
/// How many intervals a process may miss, and a second for the way.
const MISSED: u32 = 3;
const ON_THE_WAY: Duration = Duration::from_secs(1);

/// The account that one process sends: its inboxes with their ledgers and floors, its outbox, its failed waves, and its
/// handlers. Ordinary term: a status report.
///
/// Counts begin when the process connects, and totals never fall. One `Aether` counts as one process. Serialised, it
/// has the form of `docs/protocol/README.md`.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct ProcessAccount {
    /// The name of the program, and a number drawn at random when it connected: a program that restarts is a new process.
    pub process: Source,
    /// The version of Aether in it.
    pub version: String,
    /// The time since it connected.
    pub uptime: Duration,
    /// How often it tells its account.
    pub every: Duration,
    /// Whether it is the last account: the process closes its medium.
    pub is_last: bool,
    /// The inboxes by the names of their vibrators. Those that lost most come first; what does not fit into
    /// [`MAX_ACCOUNT_BYTES`](super::MAX_ACCOUNT_BYTES) is in `left_out`.
    pub inboxes: Vec<InboxReport>,
    /// The number of names that are not in `inboxes`.
    pub left_out_names: u64,
    /// The sum of their accounts; its name is `_other`.
    pub left_out: InboxReport,
    /// The status of the medium, with the account of the outbox.
    pub medium: MediumStatus,
    /// The failed waves.
    pub echoes: EchoLedger,
    /// The dead letters.
    pub letters: DeadLetterCounts,
    /// The handlers by the names of their services; beyond 8 KiB of them the last one, `_other`, is the sum of the rest.
    pub handlers: Vec<HandlersAccount>,
}

impl ProcessAccount {
    /// The sum of the accounts of all inboxes, including the inboxes that were left out.
    #[must_use]
    pub fn ledger(&self) -> Ledger {
        self.inboxes.iter().fold(self.left_out.ledger, |sum, inbox| sum_of(&sum, &inbox.ledger))
    }

    /// The highest floor in effect.
    #[must_use]
    pub fn effective_floor(&self) -> Floor {
        let floors = self.inboxes.iter().map(|inbox| inbox.effective_floor);
        floors.fold(self.left_out.effective_floor, Floor::max)
    }

    /// The sum over all handlers, without a name.
    #[must_use]
    pub fn all_handlers(&self) -> HandlersAccount {
        let mut sum = HandlersAccount::default();
        self.handlers.iter().for_each(|handlers| sum.add(handlers));
        sum
    }

    /// How often it tells, as far as that is believed.
    pub fn interval(&self) -> Duration {
        self.every.min(MAX_INTERVAL)
    }

    /// The time without an account after which it is silent.
    pub fn patience(&self) -> Duration {
        self.interval() * MISSED + ON_THE_WAY
    }

    /// Whether every wave in it is accounted for. The counts must be below 2^53, so that no sum wraps.
    pub(super) fn adds_up(&self) -> bool {
        let inboxes = self.inboxes.iter().chain([&self.left_out]);
        let DeadLetterCounts { buried, kept, taken, overflowed } = self.letters;
        inboxes.clone().all(|inbox| inbox.ledger.adds_up())
            && self.medium.outbox.adds_up()
            && self.echoes.adds_up()
            && buried == kept + taken + overflowed
            && self.handlers.iter().all(HandlersAccount::adds_up)
    }

    /// Approximate memory that it takes, in bytes.
    pub(super) fn weight(&self) -> usize {
        let names = self.inboxes.iter().map(|inbox| inbox.vibrator.len()).sum::<usize>()
            + self.handlers.iter().map(|handlers| handlers.name.len()).sum::<usize>();
        size_of::<Self>()
            + self.process.name().len()
            + self.version.len()
            + names
            + self.inboxes.capacity() * size_of::<InboxReport>()
            + self.handlers.capacity() * size_of::<HandlersAccount>()
    }
}

/// Whether a process is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Standing {
    /// It tells its account in time.
    Present,
    /// It has missed three accounts: it crashed, hangs, or its connection is broken.
    Silent,
    /// It has told its last account and closed its medium.
    Ended,
}

impl Standing {
    /// The lower-case name: `present`, `silent`, `ended`.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Present => "present",
            Self::Silent => "silent",
            Self::Ended => "ended",
        }
    }
}

/// The rates of a process in waves a second, between two of its accounts that are at least a second apart.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
#[non_exhaustive]
pub struct Rates {
    /// Waves given to the medium. Zero in process, where there is no outbox.
    pub emitted: f64,
    /// Waves offered to the inboxes.
    pub offered: f64,
    /// Waves that receivers took.
    pub delivered: f64,
    /// Waves lost in inboxes and in the outbox, for whatever reason.
    pub lost: f64,
}

/// A process with its latest account.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct KnownProcess {
    /// The latest account.
    pub account: Arc<ProcessAccount>,
    /// Whether it is the process of the reader.
    pub is_own: bool,
    /// Whether it is there.
    pub standing: Standing,
    /// The time since its latest account, by the clock of the reader.
    pub age: Duration,
    /// The rates between its last accounts; `None` before two accounts are a second apart.
    pub rates: Option<Rates>,
    /// The number of its accounts that were rejected, or contradict an earlier one.
    pub suspicious: u64,
    /// The reason for the latest of them.
    pub suspicion: Option<AccountError>,
}

/// The account of all processes of one program, including processes that have gone. Its totals never fall: a process
/// that restarts is another process, and the counts of the earlier one stay.
///
/// `ledger.offered = ledger.delivered + all losses + ledger.queued + unsettled`.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct ProgramAccount {
    /// The name of the program; `_other` for those without a line of their own.
    pub program: String,
    /// The number of processes that are there.
    pub present: u64,
    /// The number of known processes that have missed three accounts.
    pub silent: u64,
    /// The number of known processes that have told their last account.
    pub ended: u64,
    /// The sum of the accounts of their inboxes. `queued` counts present processes only.
    pub ledger: Ledger,
    /// Waves that were queued in processes that are gone: what became of them is unknown.
    pub unsettled: u64,
    /// The sum of the accounts of their outboxes. `queued` counts present processes only.
    pub outbox: Ledger,
    /// Waves that the broker had not confirmed when a connection broke.
    pub unconfirmed: u64,
    /// The handlers. `in_flight`, `breakers` and `breakers_open` count present processes only.
    pub handlers: HandlersAccount,
    /// The highest floor in effect of the present processes.
    pub effective_floor: Floor,
    /// The sum of the rates of the present processes.
    pub rates: Rates,
    /// The number of accounts that were rejected, or contradict an earlier one.
    pub suspicious: u64,
}

impl ProgramAccount {
    pub(super) fn new(program: &str) -> Self {
        Self {
            program: program.to_owned(),
            present: 0,
            silent: 0,
            ended: 0,
            ledger: Ledger::default(),
            unsettled: 0,
            outbox: Ledger::default(),
            unconfirmed: 0,
            handlers: HandlersAccount::default(),
            effective_floor: Floor::OPEN,
            rates: Rates::default(),
            suspicious: 0,
        }
    }

    /// All lost waves, of inboxes and outboxes, whatever the reason.
    #[must_use]
    pub fn lost(&self) -> u64 {
        all_lost(&self.ledger).saturating_add(all_lost(&self.outbox))
    }
}

pub(super) fn sum_of(a: &Ledger, b: &Ledger) -> Ledger {
    a.combined(b, u64::saturating_add)
}

/// The growth since an earlier ledger of the same waves. Counts that fell give 0.
pub(super) fn grown_since(now: &Ledger, before: &Ledger) -> Ledger {
    now.combined(before, u64::saturating_sub)
}

/// All lost waves; [`Ledger::lost`] could wrap for sums that ended at the bound.
pub(super) fn all_lost(ledger: &Ledger) -> u64 {
    let shed = ledger.losses().into_iter().fold(0_u64, |sum, (_, waves)| sum.saturating_add(waves));
    shed.saturating_add(ledger.lost_upstream)
}

/// Whether a count fell that can only grow. What is queued may fall.
pub(super) fn has_fallen(now: &Ledger, before: &Ledger) -> bool {
    let grown = grown_since(before, now);
    Ledger { queued: 0, ..grown } != Ledger::default()
}

/// The maximum size of an account in bytes. It holds about 150 vibrators with ordinary names; a process with more sums up
/// the rest.
pub const MAX_ACCOUNT_BYTES: usize = 32 << 10;

/// Why an account of another process was rejected or is suspicious.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, thiserror::Error)]
#[non_exhaustive]
pub enum AccountError {
    /// Larger than an account may be.
    #[error("the account is too large: at most {} bytes are allowed", MAX_ACCOUNT_BYTES)]
    TooLarge,
    /// Not the JSON of an account, or with a value out of its range.
    #[error("the account cannot be read: use the JSON of docs/protocol/README.md, with counts below 2^53")]
    Unreadable,
    /// A sum is not the sum of its parts.
    #[error("the account does not add up: what was offered is not what became of it")]
    DoesNotAddUp,
    /// A count or the uptime fell since the last account of the process: two processes speak in one name, or one of the
    /// accounts is forged. The account was taken, and the process is marked.
    #[error("two accounts of the process contradict each other: its counts fell")]
    Contradicts,
    /// The signer of the account may not use the name of the process.
    #[error("the signer of the account may not use the name of the process")]
    Misnamed,
    /// The table of processes is full.
    #[error("there are too many processes: the table of accounts is full")]
    NoRoom,
    /// Accounts arrived faster than they were read.
    #[error("accounts arrived faster than they were read")]
    Overflowed,
}

impl AccountError {
    /// All reasons.
    pub const ALL: [Self; 7] = [
        Self::TooLarge,
        Self::Unreadable,
        Self::DoesNotAddUp,
        Self::Contradicts,
        Self::Misnamed,
        Self::NoRoom,
        Self::Overflowed,
    ];

    /// The lower-case name, as used in metrics: `too_large`, `unreadable`, `does_not_add_up`, `contradicts`,
    /// `misnamed`, `no_room`, `overflowed`.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::TooLarge => "too_large",
            Self::Unreadable => "unreadable",
            Self::DoesNotAddUp => "does_not_add_up",
            Self::Contradicts => "contradicts",
            Self::Misnamed => "misnamed",
            Self::NoRoom => "no_room",
            Self::Overflowed => "overflowed",
        }
    }
}

/// The number of accounts that arrived from other processes, by what became of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct AccountCounts {
    /// Accounts that were taken into the table, including accounts that [contradict](AccountError::Contradicts) an
    /// earlier one.
    pub taken: u64,
    suspicious: [u64; AccountError::ALL.len()],
}

impl AccountCounts {
    /// The number of accounts that were rejected or are suspicious for this reason.
    #[must_use]
    pub const fn of(&self, reason: AccountError) -> u64 {
        self.suspicious[reason as usize]
    }

    /// The numbers of all reasons, for metrics.
    #[must_use]
    pub fn by_reason(&self) -> [(AccountError, u64); AccountError::ALL.len()] {
        AccountError::ALL.map(|reason| (reason, self.of(reason)))
    }

    pub(super) const fn add(&mut self, reason: AccountError, accounts: u64) {
        self.suspicious[reason as usize] += accounts;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sums_end_at_the_bounds_and_fallen_counts_are_noticed() {
        let most = Ledger { offered: u64::MAX, shed_full: u64::MAX, expired: 1, ..Ledger::default() };
        assert_eq!(sum_of(&most, &most).offered, u64::MAX);
        assert_eq!(all_lost(&most), u64::MAX);
        let (before, now) = (
            Ledger { offered: 5, delivered: 2, queued: 3, ..Ledger::default() },
            Ledger { offered: 5, delivered: 5, ..Ledger::default() },
        );
        assert!(!has_fallen(&now, &before) && has_fallen(&before, &now));
        assert_eq!(grown_since(&now, &before).delivered, 3);
        assert_eq!(grown_since(&before, &now).delivered, 0);
    }
}
