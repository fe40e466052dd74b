//! The sending half of a vibrator, which also works alone.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use serde::Serialize;
use tokio::task::coop;

use super::pace::is_due_for_emitting;
use super::tracer::{self, Emission, EmitSpan, tracer_for};
use crate::aether::Aether;
use crate::channel::{Channel, ChannelError};
use crate::clock::Moment;
use crate::echo::{EchoReason, Echoes, EchoesError};
use crate::emission::EmissionRate;
use crate::medium::{ConfirmError, EmitError};
use crate::router::{Carried, Receipt};
use crate::source::{Sequencer, Source, SourceError, WaveId};
use crate::wave::{Origin, Wave};

/// Emits waves under one name: the sending half of a [`Vibrator`](crate::Vibrator), or made by [`Aether::emitter`] for a
/// service that only sends. Cloning it is a few reference counts; all clones share one sequence of numbers.
#[derive(Debug, Clone)]
pub struct Emitter {
    aether: Aether,
    sequencer: Arc<Sequencer>,
    /// The cause, request and trace that all waves emitted here inherit.
    origin: Option<Arc<Origin>>,
    /// The floors that are respected and the limit, if there are any.
    guard: Option<Arc<EmitGuard>>,
}

/// The account of what an [`Emitter`] and all of its clones were given to emit, in waves:
/// `offered = numbered + shed_at_source + rate_limited`. Relayed waves are in it only if they were stopped.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct EmitterAccount {
    /// Waves that got a number, answers included: the medium took them. A refused wave keeps its number only if another
    /// clone of the emitter took the next number at the same moment.
    pub numbered: u64,
    /// Waves that were stopped here because no receiver would have heard them. They have no number, so receivers see no
    /// gap.
    pub shed_at_source: u64,
    /// Waves that were refused, or whose emit was cancelled, because the [rate](crate::VibratorBuilder::rate) was reached.
    /// They have no number.
    pub rate_limited: u64,
}

impl EmitterAccount {
    /// All waves.
    #[must_use]
    pub const fn offered(&self) -> u64 {
        self.numbered + self.shed_at_source + self.rate_limited
    }
}

impl Aether {
    /// Makes an emitter without a receiver, for a service that only sends: it has no inbox and is on no roster. It can ask
    /// questions and listen for its [echoes](Emitter::echoes). It does not respect floors; the emitter of a
    /// [`Vibrator`](crate::Vibrator) can. It has the [limit](crate::AetherBuilder::emission_rate) of the `Aether`, if there
    /// is one. The name follows the same rules as there.
    ///
    /// # Errors
    /// [`SourceError`] if the name is empty, longer than 128 bytes or has control characters.
    pub fn emitter(&self, name: &str) -> Result<Emitter, SourceError> {
        self.reflector().note_runtime();
        let sequencer = Arc::new(Sequencer::new(Source::new(name)?));
        Ok(Emitter::new(self.clone(), sequencer, false, self.emission_rate()))
    }
}

impl Emitter {
    /// How long [`Emitter::ask`] waits for an answer.
    pub const ASK_PATIENCE: Duration = Duration::from_secs(2);

    pub(super) fn new(
        aether: Aether,
        sequencer: Arc<Sequencer>,
        respects_floors: bool,
        rate: Option<EmissionRate>,
    ) -> Self {
        let guard = (respects_floors || rate.is_some()).then(|| {
            Arc::new(EmitGuard {
                respects_floors,
                rate,
                stopped: AtomicU64::new(0),
                limited: AtomicU64::new(0),
            })
        });
        // A tracer is called for what has an origin, so that without one there is nothing to look up.
        let origin = tracer::is_installed().then(Arc::default);
        Self { aether, sequencer, origin, guard }
    }

    /// How many waves were emitted so far, and how many were stopped because no receiver would have heard them.
    #[must_use]
    pub fn account(&self) -> EmitterAccount {
        let counted = |count: fn(&EmitGuard) -> &AtomicU64| {
            self.guard.as_ref().map_or(0, |guard| count(guard).load(Ordering::Relaxed))
        };
        EmitterAccount {
            numbered: self.sequencer.last(),
            shed_at_source: counted(|guard| &guard.stopped),
            rate_limited: counted(|guard| &guard.limited),
        }
    }

    pub(super) fn origin(&self) -> Option<&Origin> {
        self.origin.as_deref()
    }

    pub(super) fn with_origin(&self, origin: Origin) -> Self {
        Self { origin: Some(Arc::new(origin)), ..self.clone() }
    }

    /// The `Aether` that it emits on.
    #[must_use]
    pub fn aether(&self) -> &Aether {
        &self.aether
    }

    /// Numbers its waves, for libraries that extend the [bus](crate::bus). All clones share it, and it lives as long as
    /// the vibrator or one of its emitters.
    #[must_use]
    pub fn sequencer(&self) -> &Arc<Sequencer> {
        &self.sequencer
    }

    /// The name and the instance number under which it emits.
    #[must_use]
    pub fn source(&self) -> &Source {
        self.sequencer.source()
    }

    /// The identity of a wave that this emitter emitted, for the [`cause`](crate::WaveBuilder::cause) of others say.
    #[must_use]
    pub fn id_of(&self, receipt: &Receipt) -> WaveId {
        WaveId { source: self.source().clone(), sequence: receipt.sequence }
    }

    /// Emits a wave, or builds one and emits it. Waits while a receiver's inbox or the outbox is full, at most as
    /// long as its options allow; after that the weakest wave there is shed and counted. On NATS it also waits, no
    /// longer than that, while the connection is up and 2048 waves that are no weaker are in the outbox: more would
    /// only be older when they leave.
    ///
    /// Ok means in process that the wave was offered to every inbox that hears it, and on a network that it is in the
    /// bounded outbox or has left. [`Aether::flush`] waits until the broker has it.
    ///
    /// A wave that waits may be overtaken by one that another task emits meanwhile. Where the order counts, emit one
    /// after the other.
    ///
    /// Of several emitters that wait for one inbox, the strongest is let in first. So while strong waves fill all room,
    /// weak ones wait as long as is allowed and are then shed: [`ServeOrder::Strength`](crate::ServeOrder) has more.
    ///
    /// # Errors
    /// [`EmitError`], which hands the wave back. The wave then has no number, and the next wave gets that number, so
    /// receivers see no gap (unless several clones of an emitter emit at the same moment and one is refused).
    ///
    /// # Panics
    /// If it has to wait outside of a tokio runtime, or in one without a timer.
    ///
    /// # Cancel safety
    /// Cancelled before the first poll, nothing was emitted. Cancelled later, the wave has been offered: an inbox for
    /// whose room it waited sheds its weakest wave at once and counts it. Cancelled while it waits for the
    /// [rate](crate::VibratorBuilder::rate), nothing was emitted, and the wave is counted as `rate_limited`.
    pub async fn emit<W>(&self, wave: W) -> Result<Receipt, EmitError>
    where
        W: TryInto<Wave>,
        EmitError: From<W::Error>,
    {
        let wave = wave.try_into()?;
        if let Some(origin) = &self.origin
            && tracer_for(origin.trace()).is_some()
        {
            // Boxed, so that it does not enlarge the future of every emit.
            return Box::pin(self.emit_traced(wave)).await;
        }
        let wave = if self.is_free(&wave) {
            self.numbered(wave, Moment::now())
        } else {
            match self.stamped_at(wave, Moment::now) {
                // Boxed, and only looked at where emitting failed: without a limit it costs nothing.
                Err(EmitError::RateLimited { wave }) => Box::pin(self.stamped_in_turn(wave)).await?,
                wave => wave?,
            }
        };
        let (sequence, carried) = self.carry_stamped(wave)?;
        // As `settled`, written out: a future inside of this one would be made, polled and dropped for every wave.
        match carried {
            Carried::Done(offered) => {
                if is_due_for_emitting() {
                    coop::consume_budget().await;
                }
                Ok(Receipt::new(sequence, offered))
            }
            carried => settled_later(sequence, carried).await.map_err(|error| self.unnumbered(error)),
        }
    }

    /// Emits a wave in a span that ends when it was offered.
    async fn emit_traced(&self, wave: Wave) -> Result<Receipt, EmitError> {
        let mut wave = self.stamped_when_due(wave).await?;
        let mut span = self.begin_span(&mut wave, Emission::Emit);
        let settled = match self.carry_stamped(wave) {
            Ok((sequence, carried)) => {
                settled(sequence, carried).await.map_err(|error| self.unnumbered(error))
            }
            Err(error) => Err(error),
        };
        if let (Err(error), Some(span)) = (&settled, &mut span) {
            span.failed(error);
        }
        settled
    }

    /// Begins the span of an emission, if a tracer has to see this wave.
    #[inline]
    pub(super) fn begin_span(&self, wave: &mut Wave, emission: Emission) -> Option<Box<dyn EmitSpan>> {
        self.origin.as_ref()?;
        Self::begin_span_of(wave, emission)
    }

    /// The wave has inherited the context of its parent, if there is one.
    #[cold]
    fn begin_span_of(wave: &mut Wave, emission: Emission) -> Option<Box<dyn EmitSpan>> {
        let parent = wave.trace_context();
        tracer_for(parent.as_ref())?.begin(wave, parent, emission)
    }

    #[inline]
    fn carry_stamped(&self, wave: Wave) -> Result<(u64, Carried), EmitError> {
        let sequence = wave.sequence();
        let carried = self.aether.medium().carry(wave).map_err(|error| self.unnumbered(error))?;
        Ok((sequence, carried))
    }

    /// Emits a wave without ever waiting.
    ///
    /// # Errors
    /// [`EmitError::Full`] hands the wave back, offered to nobody, if an inbox or the outbox has no room for a wave of
    /// its strength and [`Emitter::emit`] would have waited; the others are as there. The last eighth of an inbox is
    /// kept for waves of normal amplitude or more (see [`WhenFull::Wait`](crate::WhenFull)), so the weak are refused
    /// first. If one inbox hears the wave, that inbox sheds nothing for it while its emitters are patient. If several
    /// do, one that other emitters fill in between sheds its weakest wave and counts it.
    pub fn try_emit<W>(&self, wave: W) -> Result<Receipt, EmitError>
    where
        W: TryInto<Wave>,
        EmitError: From<W::Error>,
    {
        let mut wave = self.stamped(wave.try_into()?).inspect_err(|error| self.note_limited(error))?;
        let sequence = wave.sequence();
        let mut span = self.begin_span(&mut wave, Emission::Emit);
        match self.aether.medium().try_carry(wave) {
            Ok(offered) => Ok(Receipt::new(sequence, offered)),
            Err(error) => {
                if let Some(span) = &mut span {
                    span.failed(&error);
                }
                Err(self.unnumbered(error))
            }
        }
    }

    /// Emits an event of normal amplitude with a JSON payload.
    ///
    /// # Errors
    /// [`EmitError::Invalid`] if the channel is not valid or the payload cannot be written; else as [`Emitter::emit`].
    ///
    /// # Cancel safety
    /// As [`Emitter::emit`].
    pub async fn emit_wave<C>(&self, channel: C, payload: impl Serialize) -> Result<Receipt, EmitError>
    where
        C: TryInto<Channel>,
        ChannelError: From<C::Error>,
    {
        self.emit(Wave::new(channel, payload)?).await
    }

    /// Emits an event of normal amplitude with a payload of bytes.
    ///
    /// # Errors
    /// [`EmitError::Invalid`] if the channel is not valid; else as [`Emitter::emit`].
    ///
    /// # Cancel safety
    /// As [`Emitter::emit`].
    pub async fn emit_bytes<C>(&self, channel: C, payload: impl Into<Bytes>) -> Result<Receipt, EmitError>
    where
        C: TryInto<Channel>,
        ChannelError: From<C::Error>,
    {
        self.emit(Wave::from_bytes(channel, payload)?).await
    }

    /// Tells the source of a wave that it was not handled. A handler calls it when it refuses a wave or fails at it.
    /// Commands and queries come back as an [`Echo`](crate::Echo) or become [dead letters](Aether::dead_letters), and so
    /// do waves whose source [asked](crate::WaveBuilder::echo); other waves are left alone. Only the first report of
    /// a wave by this vibrator counts, unless a thousand reports of other waves came in between.
    ///
    /// `hint` is for people. It is cut off after [`MAX_HINT_BYTES`](crate::wave::MAX_HINT_BYTES) bytes.
    ///
    /// # Cancel safety
    /// Cancelled before the first poll, nothing is reported. Cancelled later, the report is on its way.
    pub async fn reflect(&self, wave: &Wave, reason: EchoReason, hint: &str) {
        self.aether.reflector().reflect_by_hand(wave, reason, hint, self.source());
        // Lets other tasks run in a loop that would otherwise never wait.
        coop::consume_budget().await;
    }

    /// Listens for the echoes of this emitter's own waves from now on: commands and queries that nobody heard, that were
    /// shed or expired, that a handler refused or failed at, or that were relayed too often. Ordinary term: error
    /// returns. Events and broadcasts are reflected if they [ask](crate::WaveBuilder::echo); responses and echoes are
    /// not.
    ///
    /// If nobody listens at the source, such waves go to the [dead letters](Aether::dead_letters) of the process where
    /// they failed. So listen before emitting.
    ///
    /// Over NATS any receiver of this connection counts as one that hears, the emitter's own vibrator included. With
    /// CloudEvents nobody can tell whether anybody hears
    /// ([`Promises::reflects_unheard`]).
    ///
    /// [`Promises::reflects_unheard`]: crate::medium::Promises::reflects_unheard
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// use aether_core::{Aether, EchoReason, Kind, Wave};
    ///
    /// let aether = Aether::local();
    /// let shop = aether.emitter("shop")?;
    /// let mut echoes = shop.echoes().await?;
    /// let receipt = shop.emit(Wave::builder("stock.reserve").kind(Kind::Command).text("a lamp").build()?).await?;
    /// let echo = echoes.receive().await.expect("the medium is open");
    /// assert_eq!((echo.of, echo.reason), (shop.id_of(&receipt), EchoReason::NoResonator));
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// [`EchoesError::Taken`] while an earlier [`Echoes`] of the same vibrator or emitter exists;
    /// [`EchoesError::Join`] if the medium is closed.
    ///
    /// # Cancel safety
    /// Cancelled before completion, nobody listens.
    pub async fn echoes(&self) -> Result<Echoes, EchoesError> {
        let aether = &self.aether;
        Echoes::open(aether.bus(), aether.reflector(), &self.sequencer, aether.lifeline()).await
    }

    #[inline]
    pub(super) fn stamped(&self, wave: Wave) -> Result<Wave, EmitError> {
        self.stamped_at(wave, Moment::now)
    }

    #[inline]
    pub(super) fn stamped_at(&self, mut wave: Wave, now: impl FnOnce() -> Moment) -> Result<Wave, EmitError> {
        if wave.channel().is_reserved() {
            return Err(EmitError::Reserved { wave });
        }
        wave = self.if_kept(wave)?;
        if self.guard.is_some() {
            wave = self.guarded(wave)?;
        }
        Ok(self.numbered(wave, now()))
    }

    /// Whether a wave is emitted whatever its strength and the time.
    #[inline]
    fn is_free(&self, wave: &Wave) -> bool {
        self.guard.is_none() && !wave.channel().is_reserved() && !wave.needs_log()
    }

    /// Hands back a wave that needs a log, if none keeps its channel.
    #[inline]
    pub(super) fn if_kept(&self, wave: Wave) -> Result<Wave, EmitError> {
        let is_kept = !wave.needs_log() || self.aether.medium().keeps(wave.channel());
        if is_kept { Ok(wave) } else { Err(EmitError::NotKept { wave }) }
    }

    /// Gives a wave its number, its time, and what it inherits.
    #[inline]
    fn numbered(&self, mut wave: Wave, now: Moment) -> Wave {
        wave.stamp(&self.sequencer, now);
        if let Some(origin) = &self.origin {
            wave.inherit(origin);
        }
        wave
    }

    /// Hands back a wave that no receiver would hear, or for which the limit has no token now.
    fn guarded(&self, wave: Wave) -> Result<Wave, EmitError> {
        // Emitting makes it new, even if it was received or emitted before.
        let wave = self.unless_stopped(wave, |_| Duration::ZERO)?;
        match self.guard.as_ref().and_then(|guard| guard.rate.as_ref()) {
            Some(rate) if !rate.try_take(wave.amplitude()) => Err(EmitError::RateLimited { wave }),
            _ => Ok(wave),
        }
    }

    /// Whether there is a limit.
    pub(super) fn is_limited(&self) -> bool {
        self.guard.as_ref().is_some_and(|guard| guard.rate.is_some())
    }

    /// Counts a wave that the limit has refused for good.
    #[cold]
    pub(crate) fn note_limited(&self, error: &EmitError) {
        if let (Some(guard), EmitError::RateLimited { .. }) = (&self.guard, error) {
            guard.limited.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Stamps a wave, which waits for its turn if the emitter is limited.
    pub(super) async fn stamped_when_due(&self, wave: Wave) -> Result<Wave, EmitError> {
        match self.stamped(wave) {
            Err(EmitError::RateLimited { wave }) => Box::pin(self.stamped_in_turn(wave)).await,
            stamped => stamped,
        }
    }

    /// Waits until the limit lets a wave go, and numbers it.
    #[cold]
    async fn stamped_in_turn(&self, wave: Wave) -> Result<Wave, EmitError> {
        let Some(guard) = &self.guard else { return Err(EmitError::RateLimited { wave }) };
        let Some(rate) = &guard.rate else { return Err(EmitError::RateLimited { wave }) };
        let mut turn = EmitTurn(Some(guard));
        if !rate.turn(wave.amplitude()).await {
            return Err(EmitError::RateLimited { wave });
        }
        turn.0 = None;
        Ok(self.numbered(wave, Moment::now()))
    }

    /// Takes back the number of a wave that the medium refused.
    #[cold]
    pub(super) fn unnumbered(&self, mut error: EmitError) -> EmitError {
        if let Some(wave) = error.wave_mut() {
            wave.unstamp(&self.sequencer);
        }
        error
    }

    /// Hands back a wave of this age if no receiver would hear it and floors are respected.
    pub(super) fn unless_stopped(
        &self,
        wave: Wave,
        age: impl FnOnce(&Wave) -> Duration,
    ) -> Result<Wave, EmitError> {
        let Some(guard) = self.guard.as_ref().filter(|guard| guard.respects_floors) else { return Ok(wave) };
        match self.aether.presence().stop(&wave, || age(&wave)) {
            Some(floor) => {
                guard.stopped.fetch_add(1, Ordering::Relaxed);
                Err(EmitError::BelowFloor { wave, floor })
            }
            None => Ok(wave),
        }
    }
}

/// Waits if the medium asks for it; otherwise gives way to other tasks when it is time. Cancelled in either case, the
/// wave has been offered.
#[inline]
pub(crate) async fn settled(sequence: u64, carried: Carried) -> Result<Receipt, EmitError> {
    match carried {
        Carried::Done(offered) if !is_due_for_emitting() => Ok(Receipt::new(sequence, offered)),
        // One place to wait at keeps the future of an emit simple.
        carried => settled_later(sequence, carried).await,
    }
}

async fn settled_later(sequence: u64, carried: Carried) -> Result<Receipt, EmitError> {
    match carried {
        Carried::Done(offered) => {
            coop::consume_budget().await;
            Ok(Receipt::new(sequence, offered))
        }
        Carried::Waiting(waiting) => Ok(Receipt::of(sequence, waiting.finish().await?)),
    }
}

/// Floors that are respected, or a limit. Emitters without either have none.
#[derive(Debug)]
pub(super) struct EmitGuard {
    pub(super) respects_floors: bool,
    pub(super) rate: Option<EmissionRate>,
    /// Waves that no receiver would have heard.
    pub(super) stopped: AtomicU64,
    /// Waves whose turn did not come.
    pub(super) limited: AtomicU64,
}

/// A wave that waits for its turn. Dropped before that came, it counts as refused by the limit.
struct EmitTurn<'a>(Option<&'a EmitGuard>);

impl Drop for EmitTurn<'_> {
    fn drop(&mut self) {
        if let Some(guard) = self.0 {
            guard.limited.fetch_add(1, Ordering::Relaxed);
        }
    }
}

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
        let mut wave = self.stamped_when_due(wave.try_into().map_err(EmitError::from)?).await?;
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
