//! A wave as a row of the outbox, and back.

use std::time::Duration;

use aether_core::Wave;
use aether_core::clock::micros_since_1970;
use aether_link::wire::{EncodeError, Sender, decode, encode};
use bytes::Bytes;

use crate::error::StoreError;

/// A wave of the service, which may be on any channel but the reserved ones.
pub(crate) fn own<W>(wave: W) -> Result<Wave, StoreError>
where
    W: TryInto<Wave>,
    StoreError: From<W::Error>,
{
    let wave: Wave = wave.try_into()?;
    match wave.channel().is_reserved() {
        true => Err(StoreError::Reserved { channel: wave.channel().to_string() }),
        false => Ok(wave),
    }
}

/// The time, then the wave in a frame with its channel.
pub(crate) fn write(wave: &Wave) -> Result<Vec<u8>, EncodeError> {
    let sender = Sender { node: 0, sent_micros: 0 };
    let now = tokio::time::Instant::now().into_std();
    let frame = encode(sender, Some(wave.channel()), std::slice::from_ref(wave), now)?;
    let mut row = micros_since_1970().to_be_bytes().to_vec();
    row.extend_from_slice(&frame);
    Ok(row)
}

/// The wave of a row, as old as it is now by the clock of this machine.
pub(crate) fn read(row: Vec<u8>) -> Option<Wave> {
    let micros = crate::area::number(&row)?;
    let frame = Bytes::from(row).slice(8..);
    let kept = Duration::from_micros(micros_since_1970().saturating_sub(micros));
    decode(&frame, None, tokio::time::Instant::now().into_std(), |_| kept).ok()?.waves.pop()
}
