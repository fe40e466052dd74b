//! Emitters whose waves follow from others: with a cause, a root and baggage, an identity of their own, or from
//! another medium.

use super::Emitter;
use super::emitter::settled;
use crate::clock::Moment;
use crate::echo::{DeadLetters, EchoReason, ReplayError};
use crate::medium::{ConfirmError, EmitError};
use crate::router::Receipt;
use crate::source::WaveId;
use crate::wave::{Baggage, BaggageError, Origin, TraceContext, Wave, WaveError};

impl Emitter {
    /// A clone for what follows from a wave or an [`Echo`](crate::Echo): everything that it emits or asks names that as
    /// its [`cause`](crate::Wave::cause), belongs to the same request ([`root`](crate::Wave::root)) and carries the same
    /// [`baggage`](crate::Wave::baggage). Handlers of `aether-service` get theirs this way.
    ///
    /// A wave that was built with another cause or root keeps it. A wave that has baggage already, because it was received
    /// before, keeps it unless this emitter has baggage.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// use aether_core::{Aether, Vibrator};
    ///
    /// let aether = Aether::local();
    /// let mut stock = Vibrator::create("stock", &aether).await?;
    /// stock.resonate_on(">").await?;
    /// let shop = Vibrator::create("shop", &aether).await?.with_baggage("tenant", "acme")?;
    /// shop.emit_wave("orders.created", &17).await?;
    ///
    /// let order = stock.receive().await.expect("the medium is open");
    /// shop.following(&order).emit_wave("orders.paid", &17).await?;
    ///
    /// let paid = stock.receive().await.expect("the medium is open");
    /// assert_eq!((paid.root(), paid.baggage().value("tenant")), (order.id(), Some("acme")));
    /// # Ok(()) }
    /// ```
    #[must_use]
    pub fn following(&self, origin: impl Into<Origin>) -> Self {
        self.with_origin(origin.into())
    }

    /// A clone that names a wave as the cause of everything it emits or asks, unless a wave was given another cause when it
    /// was built. The root and the baggage of this emitter stay; without a root it is the cause. Where the wave itself is
    /// at hand, [`Emitter::following`] keeps its request together.
    #[must_use]
    pub fn caused_by(&self, cause: WaveId) -> Self {
        let root = self.root().unwrap_or(&cause).clone();
        let trace = self.origin().and_then(Origin::trace).cloned();
        self.with_origin(Origin::new(cause, root, self.baggage().clone()).with_trace(trace))
    }

    /// A clone whose waves are part of a distributed trace, as children of this span. [`Emitter::following`] takes the
    /// span of the wave; a tracer of handlers replaces it by the span of the handling.
    #[must_use]
    pub fn within_trace(&self, context: TraceContext) -> Self {
        self.with_origin(self.origin().cloned().unwrap_or_default().with_trace(Some(context)))
    }

    /// The span of which the waves of this emitter are children, if they are part of a trace.
    #[must_use]
    pub fn trace_context(&self) -> Option<&TraceContext> {
        self.origin()?.trace()
    }

    /// A clone whose waves, and all waves that follow from them, carry one more entry of baggage: an author's own name and
    /// value, such as a tenant. An entry of the same name is replaced. All receivers of the waves can read it.
    ///
    /// # Errors
    /// [`BaggageError`] if the name or the value is not allowed, or there is no room: baggage has at most
    /// [`MAX_BAGGAGE_ENTRIES`](crate::wave::MAX_BAGGAGE_ENTRIES) entries of
    /// [`MAX_BAGGAGE_BYTES`](crate::wave::MAX_BAGGAGE_BYTES) bytes together.
    pub fn with_baggage(&self, name: &str, value: &str) -> Result<Self, BaggageError> {
        let baggage = self.baggage().with(name, value)?;
        Ok(self.with_origin(self.origin().cloned().unwrap_or_default().with_baggage(baggage)))
    }

    /// The wave that this emitter names as the cause of what it emits, if any.
    #[must_use]
    pub fn cause(&self) -> Option<&WaveId> {
        self.origin()?.cause()
    }

    /// The root of the request to which the waves of this emitter belong; none if each of them begins a request.
    #[must_use]
    pub fn root(&self) -> Option<&WaveId> {
        self.origin()?.root()
    }

    /// The baggage of everything that this emitter emits.
    #[must_use]
    pub fn baggage(&self) -> &Baggage {
        static NONE: Baggage = Baggage::NONE;
        self.origin().map_or(&NONE, Origin::baggage)
    }
}

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
        let (sequence, wave) = (wave.sequence(), self.if_kept(wave)?);
        Ok(Receipt::of(sequence, self.aether().medium().carry_confirmed(wave).await?))
    }
}

impl Emitter {
    /// Passes on a wave that came from another medium, as a bridge between two media does. Only its number of hops
    /// changes: it keeps its id, its source and its age, and arrives 5 % weaker.
    ///
    /// # Errors
    /// [`EmitError::TooFar`] for a wave that was relayed ten times already. The failure is reported to a source on the
    /// medium of this emitter; a bridge whose sources are on its other side calls [`Emitter::reflect`] there. Else as
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

impl DeadLetters {
    /// Sends a letter's wave again as a new wave of this emitter: same channel, kind and content, the amplitude of its
    /// first attempt, the old wave as its cause, and the number of attempts in its metadata
    /// ([`ATTEMPTS`](crate::wave::ATTEMPTS)). The letter is removed once the medium has taken the wave. If the new
    /// wave fails too, its echo goes to this emitter.
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
