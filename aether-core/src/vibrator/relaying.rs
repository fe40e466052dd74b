//! Passing on waves that came from another medium. Called by bridges.

use super::Emitter;
use super::emitter::settled;
use crate::clock::Moment;
use crate::echo::EchoReason;
use crate::medium::EmitError;
use crate::router::Receipt;
use crate::wave::Wave;

impl Emitter {
    /// Passes on a wave that came from another medium, as a bridge between two media does. Only its number of hops
    /// changes: it keeps its id, its source and its age, and arrives 5 % weaker.
    ///
    /// # Errors
    /// [`EmitError::TooFar`] for a wave that was relayed ten times already. Its source is told if it is on the medium of
    /// this emitter; a bridge whose sources are on its other side calls [`Emitter::reflect`] there. Else as
    /// [`Emitter::emit`].
    ///
    /// # Cancel safety
    /// As [`Emitter::emit`].
    pub async fn relay(&self, wave: &Wave) -> Result<Receipt, EmitError> {
        if wave.channel().is_reserved() {
            return Err(EmitError::Reserved { wave: wave.clone() });
        }
        let Some(onward) = wave.relayed(Moment::now()) else {
            self.reflect(wave, EchoReason::TooFar, "relayed as often as is allowed").await;
            return Err(EmitError::TooFar { wave: wave.clone() });
        };
        self.carry_relayed(onward).await
    }

    /// Gives the medium a wave that was relayed and may be relayed once more.
    ///
    /// Cancel safety: as [`Emitter::emit`].
    pub async fn carry_relayed(&self, onward: Wave) -> Result<Receipt, EmitError> {
        let onward = self.unless_stopped(onward, Wave::age)?;
        let sequence = onward.sequence();
        let carried = self.aether().medium().carry(onward)?;
        settled(sequence, carried).await
    }
}
