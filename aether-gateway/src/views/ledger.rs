//! The ledgers: every queue of every process, with sums that add up on the screen.

use serde::Serialize;

use crate::status::{
    AccountsPart, DeadLettersLine, InboxLine, LedgerLine, MediumLine, ReflectedLine, Status,
};

#[derive(Debug, Serialize)]
pub(crate) struct Ledgers {
    accounts: AccountsPart,
    /// The inboxes of the process of the gateway, and their sum with those that are closed.
    own_inboxes: Vec<InboxLine>,
    own_sum: LedgerLine,
    medium: MediumLine,
    reflected: ReflectedLine,
    dead_letters: DeadLettersLine,
}

impl Ledgers {
    pub(crate) fn of(status: Status) -> Self {
        let Status { accounts, inboxes, all_inboxes, medium, reflected, dead_letters, .. } = status;
        Self { accounts, own_inboxes: inboxes, own_sum: all_inboxes, medium, reflected, dead_letters }
    }
}
