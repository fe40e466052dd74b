//! Checking a store.

use std::path::Path;

use aether_field::{DamagedRecord, check_store};

use crate::error::CommandError;
use crate::output::Output;

pub(super) fn verify(path: &Path) -> Result<(), CommandError> {
    let check = check_store(path)?;
    let mut output = Output::stdout();
    for DamagedRecord { name, place, .. } in &check.damaged {
        let name = name.as_deref().map_or("a name that is unreadable".to_owned(), |name| format!("{name:?}"));
        match place {
            Some(place) => output.line(format_args!("damaged: {name} at byte {place}"))?,
            None => output.line(format_args!("damaged: {name}"))?,
        }
    }
    output.line(format_args!("{} entries are readable", check.entries))?;
    if check.missing > 0 {
        output.line(format_args!("{} entries are missing", check.missing))?;
    }
    if check.is_intact { Ok(()) } else { Err(CommandError::DamagedStore { path: path.to_owned() }) }
}
