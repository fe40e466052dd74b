//! Emitting waves that have their identity already. Called by relays of transactional outboxes.

use super::Emitter;
use crate::medium::{ConfirmError, EmitError};
use crate::router::Receipt;
use crate::wave::{Wave, WaveError};

impl Emitter {
    /// Emits a wave under the identity that it has, and waits until the broker, or the log of a durable channel, has it. The
    /// wave keeps its source, its number and its age; nothing of this emitter is added. It may be emitted any number of
    /// times: logs, and receivers that remember identities, take it for the same wave.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// use aether_core::{Aether, Source, Vibrator, Wave, WaveId};
    ///
    /// let aether = Aether::local();
    /// let mut billing = Vibrator::create("billing", &aether).await?;
    /// billing.resonate_on("orders.>").await?;
    /// let id = WaveId { source: Source::with_instance("shop", 7)?, sequence: 1 };
    /// let wave = Wave::builder("orders.created").text("a lamp").build()?.identified(id.clone(), None);
    /// aether.emitter("relay")?.emit_identified(wave).await?;
    /// assert_eq!(billing.receive().await.expect("the medium is open").id(), id);
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// As [`Emitter::emit_confirmed`]; [`EmitError::Invalid`] with [`WaveError::NoIdentity`] if the wave was never given an
    /// identity.
    ///
    /// # Panics
    /// As [`Emitter::emit`].
    ///
    /// # Cancel safety
    /// As [`Emitter::emit_confirmed`].
    pub async fn emit_identified(&self, wave: Wave) -> Result<Receipt, ConfirmError> {
        if wave.channel().is_reserved() {
            return Err(EmitError::Reserved { wave }.into());
        }
        if wave.sequence() == 0 {
            return Err(EmitError::Invalid(WaveError::NoIdentity).into());
        }
        let sequence = wave.sequence();
        Ok(Receipt::of(sequence, self.aether().medium().carry_confirmed(wave).await?))
    }
}
