//! The sum over all processes of one program.

use super::handlers::HandlersAccount;
use super::known::Rates;
use super::sums;
use crate::amplitude::Floor;
use crate::inbox::Ledger;

/// The account of all processes of one program, those that have gone included. Its counts never fall: a process that
/// restarts is another process, and what the earlier one counted stays.
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
    /// The handlers. Circuit breakers are those of present processes, without their openings in processes before.
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
        sums::lost(&self.ledger).saturating_add(sums::lost(&self.outbox))
    }
}
