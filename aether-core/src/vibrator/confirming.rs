//! Emits that wait for the broker. Called by services, for waves whose loss they must know of.

use super::Emitter;
use super::tracer::Emission;
use crate::medium::{ConfirmError, EmitError};
use crate::router::Receipt;
use crate::wave::Wave;

impl Emitter {
    /// Emits a wave, and waits until the broker has it. In process it is the same as [`Emitter::emit`].
    ///
    /// Ok means that the server has received the wave. It does not mean that a receiver has: ask where that counts. The
    /// emitter waits for one round trip, behind the waves that were emitted before. Over NATS it gives up when the server
    /// has confirmed nothing for 2 s, or for 0.5 s without a connection, and after 30 s in any case.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// use aether_core::{Aether, Kind, Wave};
    ///
    /// let aether = Aether::local();
    /// let shop = aether.emitter("shop")?;
    /// shop.emit_confirmed(Wave::builder("stock.commit").kind(Kind::Command).text("a lamp")).await?;
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// [`ConfirmError::Emit`] as [`Emitter::emit`]; [`ConfirmError::Shed`] if the outbox shed the wave;
    /// [`ConfirmError::Unconfirmed`] if the server has not confirmed it in time. In the last case it may arrive
    /// nevertheless, so emitting it again can deliver it twice.
    ///
    /// # Panics
    /// As [`Emitter::emit`].
    ///
    /// # Cancel safety
    /// Cancelled before the first poll, nothing was emitted. Cancelled later, the wave has been offered, and nobody waits
    /// for the confirmation.
    pub async fn emit_confirmed<W>(&self, wave: W) -> Result<Receipt, ConfirmError>
    where
        W: TryInto<Wave>,
        EmitError: From<W::Error>,
    {
        let mut wave = match self.stamped(wave.try_into().map_err(EmitError::from)?) {
            Err(EmitError::RateLimited { wave }) => Box::pin(self.stamped_in_turn(wave)).await?,
            wave => wave?,
        };
        let sequence = wave.sequence();
        let mut span = self.begin_span(&mut wave, Emission::Emit);
        let confirmed = self.aether().medium().carry_confirmed(wave).await;
        if let (Err(error), Some(span)) = (&confirmed, &mut span) {
            span.failed(error);
        }
        let settled = confirmed.map_err(|error| match error {
            ConfirmError::Emit(error) => self.unnumbered(error).into(),
            other => other,
        })?;
        Ok(Receipt::of(sequence, settled))
    }
}
