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
    let widths: Vec<_> = (0..head.len())
        .map(|column| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0))
        .collect();
    let mut text = String::new();
    for row in rows {
        let mut line = String::new();
        for (column, (value, width)) in row.iter().zip(&widths).enumerate() {
            // Numbers to the right. Writing to a String cannot fail.
            let _ = match column {
                2..=7 => write!(line, "{value:>width$}  "),
                _ => write!(line, "{value:<width$}  "),
            };
        }
        text.push_str(line.trim_end());
        text.push('\n');
    }
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
