//! Following a request: emitters whose waves inherit a cause, a root and baggage.

use super::Emitter;
use crate::source::WaveId;
use crate::wave::{Baggage, BaggageError, Origin, TraceContext};

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

    /// A clone whose waves are part of a distributed trace, as children of this span. [`Emitter::following`] takes that of
    /// the wave; a tracer of handlers replaces it by the span of the handling.
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
    /// value, such as a tenant. An entry of the same name is replaced. Whoever hears the waves can read it.
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
