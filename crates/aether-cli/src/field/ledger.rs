//! Importing ledgers and snapshots of JSON lines.

use std::path::PathBuf;

use aether_core::clock::micros_since_1970;
use aether_field::Field;
use aether_field::ledger::Ledger;
use aether_files::byte_order_mark;

use crate::error::{CommandError, LedgerError};
use crate::output::stderr_line;

/// Imports files in one step, because what is in one may have been removed in another.
/// Returns how many records were skipped, by the reader or by the field.
pub(super) fn import(field: &Field, files: &[PathBuf]) -> Result<usize, CommandError> {
    let (mut changes, mut skipped) = (Vec::new(), 0);
    for path in files {
        let file = |source| LedgerError::File { path: path.to_owned(), source };
        let bytes = std::fs::read(path).map_err(file)?;
        let format = |source| LedgerError::Format { path: path.to_owned(), source };
        let ledger = Ledger::read(byte_order_mark::without(&bytes), &field.limits(), micros_since_1970())
            .map_err(format)?;
        for problem in &ledger.problems {
            stderr_line(format_args!("{}: {problem}", path.display()));
        }
        skipped += ledger.problems.len();
        changes.extend(ledger.changes);
    }
    let removals = changes.iter().filter(|change| change.entry.is_removed()).count();
    let registers = changes.len() - removals;
    let imported = field.import(changes);
    for (name, refusal) in &imported.refused {
        stderr_line(format_args!("{name:?} was refused: {refusal}"));
    }
    for name in &imported.gone {
        stderr_line(format_args!(
            "{name:?} counts as removed: it is older than removals that are no longer kept"
        ));
    }
    skipped += imported.refused.len();
    let (taken, known) = (imported.taken, imported.known);
    stderr_line(format_args!(
        "imported {registers} registers, {removals} removals; {taken} are new, {known} older than what is there; {skipped} skipped"
    ));
    Ok(skipped)
}
