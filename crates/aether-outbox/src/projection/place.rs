//! Where a projection has come to.

use aether_core::WaveId;
use aether_log::{Log, LogItem, StoredWave};
use serde::{Deserialize, Serialize};

use super::error::ProjectionError;
use crate::area::PROJECTIONS;
use crate::backend::Rows;
use crate::error::StoreError;

/// Stored with the state, in the same transaction.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Place {
    pub(super) pattern: String,
    /// All waves up to this position are applied, or of other channels.
    pub(super) position: u64,
    /// The last wave that was applied, and where it was.
    pub(super) last: Option<(u64, String)>,
}

impl Place {
    pub(super) fn at_the_beginning(pattern: &str) -> Self {
        Self { pattern: pattern.to_owned(), position: 0, last: None }
    }

    /// The place behind these waves.
    pub(super) fn at(&self, position: u64, last: Option<&StoredWave>) -> Self {
        let applied = last.map(|stored| (stored.position, stored.wave.id().to_string()));
        Self { pattern: self.pattern.clone(), position, last: applied.or_else(|| self.last.clone()) }
    }

    pub(super) fn read(rows: &impl Rows, name: &str) -> Result<Option<Self>, StoreError> {
        let row = rows.get(PROJECTIONS, name.as_bytes())?;
        row.map(|row| serde_json::from_slice(&row).map_err(|source| unfit(name, source))).transpose()
    }

    pub(super) fn write(&self, rows: &impl Rows, name: &str) -> Result<(), StoreError> {
        let row = serde_json::to_vec(self).map_err(|source| unfit(name, source))?;
        rows.put(PROJECTIONS, name.as_bytes(), &row)
    }

    /// Makes sure that this is the log that the projection was made of, as far as the log still has the last wave.
    pub(super) fn check(&self, name: &str, log: &Log) -> Result<(), ProjectionError> {
        let Some((position, id)) = &self.last else { return Ok(()) };
        let Ok(id) = id.parse::<WaveId>() else { return Ok(()) };
        let extent = log.extent();
        let is_other = if extent.last < *position {
            true
        } else {
            match log.read_from(*position).next_item()? {
                Some(LogItem::Wave(stored)) => stored.position == *position && stored.wave.id() != id,
                // Damaged, or dropped since.
                _ => false,
            }
        };
        if is_other {
            return Err(ProjectionError::OtherLog {
                name: name.to_owned(),
                id: Box::new(id),
                position: *position,
            });
        }
        Ok(())
    }

    /// Makes sure that the log still has what comes next.
    pub(super) fn check_next(&self, name: &str, log: &Log) -> Result<(), ProjectionError> {
        let first = log.extent().first;
        if self.position > 0 && first > self.position + 1 {
            let (from, to) = (self.position + 1, first - 1);
            return Err(ProjectionError::Dropped { name: name.to_owned(), from, to });
        }
        Ok(())
    }
}

fn unfit(name: &str, source: serde_json::Error) -> StoreError {
    StoreError::Value { table: PROJECTIONS.to_owned(), key: name.to_owned(), source }
}
