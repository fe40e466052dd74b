//! Checking a store, and its stamps.

use std::path::Path;
use std::time::{Duration, SystemTime};

use aether_field::{DamagedRecord, check_store, restamp_store};

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

pub(super) fn restamp(path: &Path, writes: bool) -> Result<(), CommandError> {
    let found = restamp_store(path, writes)?;
    let mut output = Output::stdout();
    let clock = humantime::format_rfc3339_seconds(SystemTime::now());
    if found.ahead.is_zero() {
        return Ok(output.line(format_args!("no stamp is ahead of the clock of this machine, {clock}"))?);
    }
    let ahead = humantime::format_duration(Duration::from_secs(found.ahead.as_secs()));
    let entries = found.entries;
    output.line(format_args!(
        "{entries} entries are up to {ahead} ahead of the clock of this machine, {clock}{}",
        if writes { ", and have stamps of now" } else { "" }
    ))?;
    if found.owned > 0 {
        output.line(format_args!(
            "{} entries of owners are ahead as well; they are signed, and stay as they are until their time has come",
            found.owned
        ))?;
    }
    if writes { Ok(()) } else { Err(CommandError::StampsAhead { path: path.to_owned() }) }
}
