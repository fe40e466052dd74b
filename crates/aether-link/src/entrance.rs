//! The way into the outbox of a medium over a network: what can never be sent is handed back, everything else enters.

use std::collections::VecDeque;
use std::iter;
use std::sync::Arc;

use bytes::Bytes;

use crate::wire::{EncodeError, MAX_POSITION, record_growth};
use aether_core::clock::{self, Instant};
use aether_core::inbox::Inbox;
use aether_core::medium::{Carried, MOST_TOGETHER, Offered, Waiting};
use aether_core::{EmitError, Wave};

/// A medium with an outbox.
pub trait Entrance {
    /// The outbox.
    fn outbox(&self) -> &Arc<Inbox>;

    /// Whether the medium was closed.
    fn is_closed(&self) -> bool;

    /// The size on the wire and the maximum size, if the wave is too large.
    fn oversize(&self, wave: &Wave) -> Option<(usize, usize)>;

    /// Returns the wave in an error if it can never be sent.
    fn check(&self, wave: Wave) -> Result<Wave, EmitError> {
        if self.is_closed() {
            return Err(EmitError::Closed { wave });
        }
        match self.oversize(&wave) {
            Some((bytes, max_bytes)) => Err(EmitError::TooLarge { wave, bytes, max_bytes }),
            None => Ok(wave),
        }
    }

    /// For [`Medium::carry`](aether_core::medium::Medium::carry).
    ///
    /// # Errors
    /// The wave, if it can never be sent.
    fn carry(&self, wave: Wave) -> Result<Carried, EmitError> {
        Ok(Carried::by_outbox(self.check(wave)?, self.outbox()))
    }

    /// For [`Medium::room_for`](aether_core::medium::Medium::room_for).
    fn room_for(&self, wave: &Wave) -> usize {
        self.outbox().room_at_once(wave).clamp(1, MOST_TOGETHER)
    }

    /// For [`Medium::carry_all`](aether_core::medium::Medium::carry_all).
    ///
    /// # Errors
    /// The first wave that can never be sent.
    fn carry_all(&self, waves: &mut VecDeque<Wave>) -> Result<Option<Waiting>, EmitError> {
        while let Some(first) = waves.pop_front() {
            let first = self.check(first)?;
            let others = waves.iter().take_while(|wave| self.oversize(wave).is_none()).count();
            let fitting = iter::once(first).chain(waves.drain(..others));
            if let Some(waiting) = Waiting::by_outbox(fitting, self.outbox()) {
                return Ok(Some(waiting));
            }
        }
        Ok(None)
    }

    /// For [`Medium::try_carry`](aether_core::medium::Medium::try_carry).
    ///
    /// # Errors
    /// The wave, if the outbox is full or it can never be sent.
    fn try_carry(&self, wave: Wave) -> Result<Offered, EmitError> {
        Offered::by_outbox(self.check(wave)?, self.outbox()).map_err(|wave| EmitError::Full { wave })
    }
}

/// [`Entrance::oversize`] of a wave in a frame of its own. The exact size is computed only if `bound`, a cheap upper bound,
/// exceeds the maximum.
pub fn frame_oversize(
    wave: &Wave,
    (bound, max_bytes): (usize, usize),
    encode: impl FnOnce(Instant) -> Result<Bytes, EncodeError>,
) -> Option<(usize, usize)> {
    if bound <= max_bytes {
        return None;
    }
    // With the greatest age at sending, so that no wave is refused that was accepted here. One time for both, as the age has
    // another length a moment later.
    let now = clock::now();
    let bytes = encode(now).map_or(bound, |frame| frame.len() + MAX_POSITION + record_growth(wave, now));
    (bytes > max_bytes).then_some((bytes, max_bytes))
}
