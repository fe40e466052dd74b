//! Whether a log in a folder is sealed: as a whole, or not at all.
//!
//! The first of its waves, letters and waves for later are looked at: somebody else may have put later ones there.

use std::path::Path;

use aether_link::wire;

use crate::dead::{self, is_sealed_letter};
use crate::sealing::Sealing;
use crate::store::{Cursor, Item, OpenError, ReadError, Record, Store, View};
use crate::stored_wave::WAVE;
use crate::timers::{self, is_sealed_row};

/// Whether the log in this folder is sealed, which another process may have open; `None` if there is nothing in it. Readers
/// need its keys then, and refuse all waves with keys otherwise.
///
/// # Errors
/// [`OpenError`]: there is no log, or it cannot be read.
pub fn is_sealed(folder: &Path) -> Result<Option<bool>, OpenError> {
    let [waves, letters, later] = first_ones(folder, View::open(folder)?.cursor(0))?;
    Ok(waves.or(letters).or(later))
}

/// Fails if a log is sealed and there are no keys, or the other way round.
pub(crate) fn check(store: &Store, sealing: &Sealing) -> Result<(), OpenError> {
    let path = store.folder();
    let first = first_ones(path, store.cursor(0))?.into_iter().flatten();
    match first.into_iter().find(|is_sealed| *is_sealed != sealing.has_keys()) {
        Some(true) => Err(OpenError::Sealed { path: path.to_owned() }),
        Some(false) => Err(OpenError::Plain { path: path.to_owned() }),
        None => Ok(()),
    }
}

/// Whether the first wave, the first letter and the first wave for later are sealed.
fn first_ones(log: &Path, waves: Cursor) -> Result<[Option<bool>; 3], OpenError> {
    let beside = |folder: &str, is_sealed: fn(&Record) -> Option<bool>| {
        let folder = log.join(folder);
        match folder.is_dir().then(|| View::open(&folder)).transpose() {
            Ok(None) | Err(OpenError::Nothing { .. }) => Ok(None),
            Ok(Some(view)) => Ok(first(view.cursor(0), is_sealed)?),
            Err(error) => Err(error),
        }
    };
    let is_sealed_wave = |record: &Record| (record.kind == WAVE).then(|| wire::is_sealed(&record.body));
    Ok([
        first(waves, is_sealed_wave)?,
        beside(dead::FOLDER, is_sealed_letter)?,
        beside(timers::FOLDER, is_sealed_row)?,
    ])
}

fn first(mut cursor: Cursor, is_sealed: impl Fn(&Record) -> Option<bool>) -> Result<Option<bool>, ReadError> {
    while let Some(item) = cursor.next_item()? {
        if let Item::Record(record) = item
            && let Some(is_sealed) = is_sealed(&record)
        {
            return Ok(Some(is_sealed));
        }
    }
    Ok(None)
}
