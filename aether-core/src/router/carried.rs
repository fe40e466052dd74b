//! The result of carrying a wave: done, or waiting for room.

use std::sync::Arc;

use super::offered::Offered;
use super::waiting::Waiting;
use crate::inbox::{Inbox, Offer};
use crate::wave::Wave;

/// The result of carrying a wave.
#[derive(Debug)]
pub enum Carried {
    /// The wave was offered to all inboxes.
    Done(Offered),
    /// Some inboxes have no room; [`Waiting::finish`] waits for them.
    Waiting(Waiting),
}

impl Carried {
    /// Puts a wave into the outbox of a medium, where it may have to wait for room, as
    /// [`Medium::carry`](crate::medium::Medium) requires.
    pub fn by_outbox(wave: Wave, outbox: &Arc<Inbox>) -> Self {
        match outbox.offer(wave, Offer::IfRoom) {
            Ok(()) => Self::Done(Offered::UNKNOWN),
            Err(wave) => Self::Waiting(Waiting::new(wave, [Arc::clone(outbox)], Offered::UNKNOWN)),
        }
    }
}
