//! The plain table of `aether top --once`: one line for each process, for people and scripts.

use std::fmt::Write as _;

use aether_core::account::KnownProcess;

use super::snapshot::{Snapshot, losses, lost};
use crate::record::printable;

/// Columns are separated by at least two spaces. No value of a column contains a space, except for the last one.
pub(super) fn table(snapshot: &Snapshot) -> String {
    let head = ["PROCESS", "STATE", "OFFERED", "DELIVERED", "LOST", "QUEUED", "FLOOR", "BREAKERS", "WHY"];
    let mut rows = vec![head.map(str::to_owned)];
    rows.extend(snapshot.processes.iter().map(row));
    let mut text = crate::table::table(&rows, &(2..=7));
    let suspicious = snapshot.counts.by_reason().into_iter().filter(|(_, accounts)| *accounts > 0);
    for (reason, accounts) in suspicious {
        let _ = writeln!(text, "suspicious accounts: {accounts} {}", reason.as_str());
    }
    text
}

fn row(known: &KnownProcess) -> [String; 9] {
    let ledger = known.account.ledger();
    let handlers = known.account.all_handlers();
    let why: Vec<_> = losses(known).into_iter().map(|(reason, waves)| format!("{reason}={waves}")).collect();
    [
        printable(&known.account.process.to_string(), 60).replace(' ', "_"),
        known.standing.as_str().to_owned(),
        ledger.offered.to_string(),
        ledger.delivered.to_string(),
        lost(known).to_string(),
        ledger.queued.to_string(),
        format!("{:.3}", known.account.effective_floor().as_f32()),
        format!("{}/{}", handlers.breakers_open, handlers.breakers),
        why.join(" "),
    ]
}
