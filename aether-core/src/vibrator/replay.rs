//! Sending dead letters again.

use super::Emitter;
use crate::echo::{DeadLetters, ReplayError};
use crate::router::Receipt;

impl DeadLetters {
    /// Sends a letter's wave again as a new wave of this emitter: same channel, kind and content, the amplitude of its
    /// first attempt, the old wave as its cause, and the number of attempts in its metadata ([`ATTEMPTS`](crate::wave::ATTEMPTS)). The letter
    /// is removed once the medium has taken the wave. If the new wave fails too, its echo goes to this emitter.
    ///
    /// # Errors
    /// [`ReplayError`] if there is no such letter, or if it could not be sent; then it stays.
    ///
    /// # Cancel safety
    /// Cancelled while it waits for room the wave has been offered, as with [`Emitter::emit`], and the letter stays.
    pub async fn replay(&self, number: u64, emitter: &Emitter) -> Result<Receipt, ReplayError> {
        let (letter, _replaying) = self.begin_replay(number).ok_or(ReplayError::Unknown { number })?;
        match emitter.emit(letter.wave.replayed(letter.attempts)).await {
            Ok(receipt) => {
                // Another caller may have removed it meanwhile.
                drop(self.take(number));
                Ok(receipt)
            }
            Err(source) => Err(ReplayError::Emit { number, source }),
        }
    }
}
