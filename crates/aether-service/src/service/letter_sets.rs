//! The handlers of a service that answer questions about dead letters: the letters of the process and of its durable
//! log.

use std::time::Duration;

use aether_core::{Aether, CreateError, InboxOptions, WhenFull};
use aether_log::DurableLog;

use super::error::ServiceError;
use super::handlers::{HandlerSet, Handlers};
use super::limits::Limits;
#[cfg(feature = "jetstream")]
use crate::letters::store_of_stream;
use crate::letters::{Clerk, LogClerk, answer, answer_of_log, channel_of, store_of_log};

/// The set that answers questions about dead letters.
pub(super) fn letters(name: &str, aether: &Aether) -> Result<HandlerSet, ServiceError> {
    let (letters, log) = (aether.dead_letters(), DurableLog::of(aether));
    let channel = channel_of(letters.store());
    let emitter = aether.emitter(name).map_err(CreateError::from)?;
    let limits = Limits::independent().concurrency(4).time_out(Duration::from_secs(10));
    let handlers = Handlers::new().group("aether.letters").state(Clerk { letters, emitter, log });
    Ok(handlers.on_query(channel, answer).limits(limits).inbox(inbox()).into_set())
}

/// The set that answers questions about the dead letters of the durable log of the process, if it has one.
pub(super) fn letters_of_log(name: &str, aether: &Aether) -> Result<Option<HandlerSet>, ServiceError> {
    let Some(log) = DurableLog::of(aether) else { return Ok(None) };
    let emitter = aether.emitter(name).map_err(CreateError::from)?;
    let limits = Limits::independent().concurrency(2).time_out(Duration::from_secs(10));
    let handlers = Handlers::new().group("aether.letters");
    let store = match &log {
        // Where folders cannot be told apart, a number of its own does for all but finding the log by its folder.
        DurableLog::Folder(log) => {
            store_of_log(log.folder()).unwrap_or_else(|| aether.dead_letters().store().wrapping_add(1))
        }
        #[cfg(feature = "jetstream")]
        DurableLog::JetStream(log) => store_of_stream(log.name()),
        _ => return Ok(None),
    };
    let handlers = handlers.state(LogClerk { log, store, emitter });
    Ok(Some(handlers.on_query(channel_of(store), answer_of_log).limits(limits).inbox(inbox()).into_set()))
}

/// Few questions wait, and those that find no room are asked again.
fn inbox() -> InboxOptions {
    InboxOptions::default().max_waves(64).max_bytes(256 << 10).when_full(WhenFull::Shed)
}
