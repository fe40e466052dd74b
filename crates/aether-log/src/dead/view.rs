//! The dead letters of a log that another process may have open.

use std::collections::BTreeMap;
use std::path::Path;

#[cfg(feature = "seal")]
use aether_seal::KeySource;

use super::FOLDER;
use super::error::DeadError;
use super::kept::Letters;
use super::letter::{DeadWave, read};
use crate::sealing::Sealing;
use crate::store::{Cursor, OpenError, View};

/// The dead letters of a log that another process may have open, for reading only, as they were when it was opened or last
/// [refreshed](DeadView::refresh).
#[derive(Debug)]
pub struct DeadView {
    view: View,
    sealing: Sealing,
    letters: Letters,
    /// Behind what was read.
    cursor: Cursor,
}

impl DeadView {
    /// Opens the dead letters of the log in this folder. Changes nothing.
    ///
    /// # Errors
    /// [`OpenError`]: there is no log, or it cannot be read.
    pub fn open(log: &Path) -> Result<Self, OpenError> {
        let view = View::open(&log.join(FOLDER))?;
        let (mut letters, mut cursor) = (Letters::default(), view.cursor(0));
        letters.read_on(&mut cursor)?;
        Ok(Self { view, sealing: Sealing::default(), letters, cursor })
    }

    /// Opens sealed letters with these keys. Default: a sealed letter is [`DeadError::Unopened`].
    ///
    /// # Errors
    /// [`OpenError::Keys`] if the keys cannot be used.
    #[cfg(feature = "seal")]
    pub fn keys(mut self, keys: impl Into<KeySource>) -> Result<Self, OpenError> {
        self.sealing = Sealing::of_folder(&self.view.folder(), keys.into())?;
        Ok(self)
    }

    /// Reads what was written since.
    ///
    /// # Errors
    /// [`OpenError`]: the folder cannot be read any more.
    pub fn refresh(&mut self) -> Result<(), OpenError> {
        self.view.refresh()?;
        Ok(self.letters.read_on(&mut self.cursor)?)
    }

    /// The numbers of all letters, the oldest first.
    #[must_use]
    pub fn numbers(&self) -> Vec<u64> {
        self.letters.numbers()
    }

    /// How many letters each consumer has.
    #[must_use]
    pub fn by_consumer(&self) -> BTreeMap<&str, u64> {
        let mut letters = BTreeMap::new();
        for kept in self.letters.kept.values() {
            *letters.entry(kept.consumer.as_str()).or_default() += 1;
        }
        letters
    }

    /// A letter. Blocks while it reads.
    ///
    /// # Errors
    /// [`DeadError`] if there is no such letter, or it cannot be read.
    pub fn show(&self, number: u64) -> Result<DeadWave, DeadError> {
        self.letters.find(number)?;
        read(number, self.view.cursor(number), &self.sealing)
    }
}
