//! Opening everything in a sealed log, which shows what was not stored with its keys.

use std::path::Path;

use aether_log::store::{OpenError, View};
use aether_log::{DeadError, DeadView, LogReader, Replay};
use aether_service::MediumArgs;

use super::chosen::print_unopened;
use super::keys::keys_of;
use crate::error::{CommandError, LogError};
use crate::output::stderr_line;

/// Opens each wave and each dead letter. Fails if one was not opened. Does nothing without keys, or if the log is not
/// sealed.
pub(super) async fn open_all(folder: &Path, medium: &MediumArgs) -> Result<(), CommandError> {
    let Some(keys) = keys_of(folder, medium).map_err(LogError::from)? else { return Ok(()) };
    let view = View::open(folder).map_err(LogError::from)?;
    let reader = LogReader::new(view.cursor(0)).keys(&keys).map_err(LogError::from)?;
    let mut waves = Replay::new(reader);
    let mut opened = 0_u64;
    while waves.next_wave().await.map_err(LogError::from)?.is_some() {
        opened += 1;
    }
    let mut unopened = print_unopened(&waves);
    let letters = match DeadView::open(folder) {
        Err(OpenError::Nothing { .. } | OpenError::Io { .. }) => None,
        letters => Some(letters.and_then(|letters| letters.keys(&keys)).map_err(LogError::from)?),
    };
    if let Some(letters) = letters {
        for number in letters.numbers() {
            match letters.show(number) {
                Err(error @ DeadError::Unopened { .. }) => {
                    unopened += 1;
                    stderr_line(aether_service::error_chain(&error));
                }
                // Replayed or dropped since.
                Err(DeadError::Unknown { .. }) => {}
                letter => drop(letter.map_err(LogError::from)?),
            }
        }
    }
    stderr_line(format_args!("{opened} waves were opened"));
    match unopened {
        0 => Ok(()),
        waves => Err(LogError::Unopened { waves }.into()),
    }
}
