//! The account of one process: plain data.

use std::time::Duration;

use super::handlers::HandlersAccount;
use super::sums;
use crate::amplitude::Floor;
use crate::echo::{DeadLetterCounts, EchoLedger};
use crate::inbox::Ledger;
use crate::medium::MediumStatus;
use crate::router::InboxReport;
use crate::source::Source;

/// The longest interval that is believed. A process that claims a longer one is silent earlier than it says.
const MAX_INTERVAL: Duration = Duration::from_secs(60);
/// How many intervals a process may miss, and a second for the way.
const MISSED: u32 = 3;
const ON_THE_WAY: Duration = Duration::from_secs(1);

/// What one process tells about itself: its inboxes with their ledgers and floors, its outbox, what failed, and its
/// handlers. Ordinary term: a status report.
///
/// Counts are those since the process connected; they never fall. One `Aether` counts as one process. Serialised, it has the
/// form of `docs/protocol/README.md`.
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
    /// The sum of the accounts of all inboxes, those that were left out included.
    #[must_use]
    pub fn ledger(&self) -> Ledger {
        self.inboxes.iter().fold(self.left_out.ledger, |sum, inbox| sums::sum(&sum, &inbox.ledger))
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
