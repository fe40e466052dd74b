//! The sending half of a vibrator.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crate::clock::Moment;
use bytes::Bytes;
use serde::Serialize;
use tokio::task::coop;

use super::pace::spend_for_emitting;
use crate::aether::Aether;
use crate::channel::{Channel, ChannelError};
use crate::echo::EchoReason;
use crate::extensions::ExtensionMap;
use crate::medium::{AskError, EmitError};
use crate::router::{Carried, Offered, Receipt};
use crate::source::{Sequencer, Source, WaveId};
use crate::wave::{Kind, Wave};

/// Emits waves under a vibrator's name. Cloning it is a few reference counts; all clones share one sequence of numbers.
#[derive(Debug, Clone)]
pub struct Emitter {
    aether: Aether,
    sequencer: Arc<Sequencer>,
    /// What led to everything that is emitted here.
    cause: Option<Arc<WaveId>>,
    /// Counts what was stopped, if floors are respected.
    stopped: Option<Arc<AtomicU64>>,
    /// What optional parts keep; shared by all clones.
    extensions: Arc<ExtensionMap>,
}

/// The account of what a vibrator was to emit, with all clones of its [`Emitter`], in waves:
/// `offered = numbered + shed_at_source`. Waves that it relays for others are not in it, but for those that it stopped.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct EmitterAccount {
    /// Those that got a number, answers included: the medium took them. One that it refuses keeps its number only if
    /// another clone of the emitter took the next one at the same moment.
    pub numbered: u64,
    /// Those that were stopped here, as no receiver would have heard them. They have no number, so they are no gap.
    pub shed_at_source: u64,
}

impl EmitterAccount {
    /// All of them.
    #[must_use]
    pub const fn offered(&self) -> u64 {
        self.numbered + self.shed_at_source
    }
}

impl Emitter {
    /// How long [`Emitter::ask`] waits for an answer.
    pub const ASK_PATIENCE: Duration = Duration::from_secs(2);

    pub(super) fn new(aether: Aether, sequencer: Arc<Sequencer>, respects_floors: bool) -> Self {
        Self {
            aether,
            sequencer,
            cause: None,
            stopped: respects_floors.then(Arc::default),
            extensions: Arc::default(),
        }
    }

    /// What was emitted so far, and what was stopped because no receiver would have heard it.
    #[must_use]
    pub fn account(&self) -> EmitterAccount {
        let shed_at_source = self.stopped.as_ref().map_or(0, |stopped| stopped.load(Ordering::Relaxed));
        EmitterAccount { numbered: self.sequencer.last(), shed_at_source }
    }

    pub(crate) fn aether(&self) -> &Aether {
        &self.aether
    }

    #[allow(dead_code, reason = "for optional parts")]
    pub(crate) fn extensions(&self) -> &ExtensionMap {
        &self.extensions
    }

    pub(crate) fn sequencer(&self) -> &Arc<Sequencer> {
        &self.sequencer
    }

    /// Who emits: the vibrator's name and its instance number.
    #[must_use]
    pub fn source(&self) -> &Source {
        self.sequencer.source()
    }

    /// The same emitter for what a wave led to: whatever it emits or asks names that wave as its
    /// [`cause`](Wave::cause), unless the wave was given another cause when it was made. It goes along into every task
    /// that it is moved to. Handlers of `aether-chassis` get theirs this way.
    #[must_use]
    pub fn caused_by(&self, cause: WaveId) -> Self {
        Self { cause: Some(Arc::new(cause)), ..self.clone() }
    }

    /// The wave that everything emitted here names as its cause, if any.
    #[must_use]
    pub fn cause(&self) -> Option<&WaveId> {
        self.cause.as_deref()
    }

    /// The identity of a wave that this emitter emitted, such as for the [`cause`](crate::WaveBuilder::cause) of others.
    #[must_use]
    pub fn id_of(&self, receipt: &Receipt) -> WaveId {
        WaveId { source: self.source().clone(), sequence: receipt.sequence }
    }

    /// Emits a wave. Waits where a receiver's inbox or the outbox is full, at most as long as its options say; after
    /// that the weakest wave there is shed and counted. On NATS it also waits, as long at most, where 2048 waves that are
    /// no weaker are in the outbox while the connection stands: more would only be older when they leave.
    ///
    /// Ok means: in process, that the wave was offered to every inbox that hears it; on a network, that it is in the
    /// bounded outbox or has left. [`Aether::flush`] waits until the broker has it.
    ///
    /// A wave that waits may be overtaken by one that is emitted meanwhile, from another task say. Where the order
    /// counts, emit one after the other.
    ///
    /// # Panics
    /// Where it has to wait outside of a tokio runtime, or in one without its timer.
    ///
    /// Of emitters that wait for one inbox the strongest is let in first. So where strong waves fill the room there is, weak
    /// ones wait for all of the time and are shed then: that is what strength means
    /// ([`ServeOrder::Strength`](crate::ServeOrder)).
    ///
    /// # Errors
    /// [`EmitError`], which hands the wave back. It has no number then, and the next one that is emitted gets it: who
    /// hears this source sees no gap. (Unless several clones of an emitter emit at the same moment and one is refused.)
    ///
    /// # Cancel safety
    /// Cancelled before it is first polled, nothing was emitted. Cancelled later the wave has been offered all the same:
    /// an inbox for whose room it waited sheds its weakest wave at once and counts it.
    pub async fn emit(&self, wave: Wave) -> Result<Receipt, EmitError> {
        let (sequence, carried) = self.carry_at(wave, Moment::now)?;
        Ok(Receipt::new(sequence, settled(carried).await))
    }

    /// Numbers a wave and gives it to the medium. Returns its number.
    #[inline]
    pub(crate) fn carry_at(
        &self,
        wave: Wave,
        now: impl FnOnce() -> Moment,
    ) -> Result<(u64, Carried), EmitError> {
        let wave = self.stamped_at(wave, now)?;
        let sequence = wave.sequence();
        let carried = self.aether.medium().carry(wave).map_err(|error| self.unnumbered(error))?;
        Ok((sequence, carried))
    }

    /// Emits a wave without ever waiting.
    ///
    /// # Errors
    /// [`EmitError::Full`] hands the wave back, offered to nobody, where an inbox or the outbox has no room for a wave of
    /// its strength and [`Emitter::emit`] would have waited; the others are as there. The last quarter of an inbox is
    /// kept for stronger waves and the last eighth for those of normal amplitude or more (see
    /// [`WhenFull::Wait`](crate::WhenFull)), so the weak are refused first. Where one inbox hears the wave, nothing that it
    /// has accepted is shed for it while its emitters are patient; where several do, one that other emitters fill in between
    /// sheds its weakest wave and counts it.
    pub fn try_emit(&self, wave: Wave) -> Result<Receipt, EmitError> {
        let wave = self.stamped(wave)?;
        let sequence = wave.sequence();
        let offered = self.aether.medium().try_carry(wave).map_err(|error| self.unnumbered(error))?;
        Ok(Receipt::new(sequence, offered))
    }

    /// Emits an event of normal amplitude with a JSON payload.
    ///
    /// # Errors
    /// [`EmitError::Invalid`] if the channel is not valid or the payload cannot be written; else as [`Emitter::emit`].
    ///
    /// # Cancel safety
    /// As [`Emitter::emit`].
    pub async fn emit_wave<C>(&self, channel: C, payload: &impl Serialize) -> Result<Receipt, EmitError>
    where
        C: TryInto<Channel>,
        ChannelError: From<C::Error>,
    {
        self.emit(Wave::from_json(channel, payload)?).await
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

    /// Passes on a wave that came from another medium, unchanged but for one hop more: it keeps its id, its source and
    /// its age, and arrives 5 % weaker. What a bridge between two media does.
    ///
    /// # Errors
    /// [`EmitError::TooFar`] for a wave that was relayed ten times already, and whose source is told so if it is on the
    /// medium of this emitter: a bridge whose sources are on its other side calls [`Emitter::reflect`] there. Else as
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
        let onward = self.unless_stopped(onward, Wave::age)?;
        let sequence = onward.sequence();
        let carried = self.aether.medium().carry(onward)?;
        Ok(Receipt::new(sequence, settled(carried).await))
    }

    /// Tells the source of a wave that it was not handled: what a handler does that refuses a wave or fails at it. Goes
    /// by the wave's kind: commands and queries come back as an [`Echo`](crate::Echo) or become
    /// [dead letters](Aether::dead_letters), all others are left alone. Of several reports of one wave by this vibrator
    /// the first counts, as long as there are not a thousand others in between.
    ///
    /// `hint` is for people; it is cut off after [`MAX_HINT_BYTES`](crate::MAX_HINT_BYTES).
    ///
    /// # Cancel safety
    /// Cancelled before it is first polled, nothing was told; later it has been taken over.
    pub async fn reflect(&self, wave: &Wave, reason: EchoReason, hint: &str) {
        self.aether.reflector().reflect_by_hand(wave, reason, hint, self.source());
        // Lets other tasks run in a loop that would otherwise never wait.
        coop::consume_budget().await;
    }

    /// Asks a question with a JSON payload and waits for the first answer, at most [`Emitter::ASK_PATIENCE`].
    /// Ordinary term: request-reply.
    ///
    /// # Errors
    /// [`AskError::NoResonator`] at once when nobody listens on the channel, [`AskError::Failed`] when whoever was asked
    /// says that it failed; the others say why there is no answer.
    ///
    /// # Cancel safety
    /// Cancelled before completion, the question may have been asked; an answer to it is dropped.
    pub async fn ask<C>(&self, channel: C, payload: &impl Serialize) -> Result<Wave, AskError>
    where
        C: TryInto<Channel>,
        ChannelError: From<C::Error>,
    {
        let question = Wave::builder(channel).kind(Kind::Query).json(payload).build()?;
        self.ask_wave(question, Self::ASK_PATIENCE).await
    }

    /// Asks a question that was made with [`Wave::builder`], with a patience of one's own.
    ///
    /// # Errors
    /// As [`Emitter::ask`].
    ///
    /// # Cancel safety
    /// As [`Emitter::ask`].
    pub async fn ask_wave(&self, question: Wave, patience: Duration) -> Result<Wave, AskError> {
        let question = self.stamped(question)?;
        let answer = match self.aether.medium().ask(question, patience).await {
            Err(AskError::Emit(error)) => return Err(self.unnumbered(error).into()),
            asked => asked?,
        };
        match answer.failure() {
            Some(source) => Err(AskError::Failed { channel: answer.channel().clone(), source }),
            None => Ok(answer),
        }
    }

    #[inline]
    fn stamped(&self, wave: Wave) -> Result<Wave, EmitError> {
        self.stamped_at(wave, Moment::now)
    }

    #[inline]
    fn stamped_at(&self, mut wave: Wave, now: impl FnOnce() -> Moment) -> Result<Wave, EmitError> {
        if wave.channel().is_reserved() {
            return Err(EmitError::Reserved { wave });
        }
        if self.stopped.is_some() {
            // As it will be emitted, however old it is: it may have been received or emitted before.
            wave = self.unless_stopped(wave, |_| Duration::ZERO)?;
        }
        wave.stamp(&self.sequencer, now());
        if let Some(cause) = &self.cause {
            wave.caused_by(cause);
        }
        Ok(wave)
    }

    /// Takes the number of a wave back that the medium did not take.
    #[cold]
    fn unnumbered(&self, mut error: EmitError) -> EmitError {
        if let Some(wave) = error.wave_mut() {
            wave.unstamp(&self.sequencer);
        }
        error
    }

    /// Hands a wave of this age back that no receiver would hear, if floors are respected.
    fn unless_stopped(&self, wave: Wave, age: impl FnOnce(&Wave) -> Duration) -> Result<Wave, EmitError> {
        let Some(stopped) = &self.stopped else { return Ok(wave) };
        match self.aether.presence().stop(&wave, || age(&wave)) {
            Some(floor) => {
                stopped.fetch_add(1, Ordering::Relaxed);
                Err(EmitError::BelowFloor { wave, floor })
            }
            None => Ok(wave),
        }
    }
}

/// Waits where the medium asks for that, and else gives way to other tasks when it is time. Cancelled in either, the
/// wave has been offered.
#[inline]
pub(crate) async fn settled(carried: Carried) -> Offered {
    let waiting = match carried {
        Carried::Done(offered) => {
            spend_for_emitting().await;
            return offered;
        }
        Carried::Waiting(waiting) => waiting,
    };
    waiting.finish().await
}
