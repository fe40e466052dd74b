//! What a vibrator does on hopping channels: hears them, and sends on them.

use std::sync::Arc;

use lru::LruCache;
use parking_lot::Mutex;
use serde::Serialize;

use super::emitter::settled;
use super::{Emitter, Vibrator};
use crate::aether::Aether;
use crate::channel::{Channel, ChannelError};
use crate::clock::Moment;
use crate::hopping::{
    ClockError, ClockKeeper, Following, Hop, HopAccount, HopJoinError, HopView, Listening, Sending, keep,
};
use crate::medium::{EmitError, JoinError};
use crate::router::{Carried, Receipt};
use crate::wave::{Wave, WaveError, into_channel};

/// So many hopping channels a vibrator sends on at a time. The one not used for longest is given up, and begun anew
/// when it is used again.
const SENDINGS: std::num::NonZeroUsize = std::num::NonZeroUsize::new(256).unwrap();

/// By the sequence and the channel.
type Open = LruCache<(u64, Channel), Arc<Sending>>;

/// The hopping channels that a vibrator sends on.
#[derive(Default)]
pub(crate) struct Sendings {
    /// Made when it is first needed: it takes all of its memory at once.
    open: Mutex<Option<Open>>,
}

impl std::fmt::Debug for Sendings {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let open = self.open.lock().as_ref().map_or(0, LruCache::len);
        f.debug_struct("Sendings").field("open", &open).finish_non_exhaustive()
    }
}

/// Why a wave was not sent on a hopping channel; holds the wave, with the channel it was given.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum HopEmitError {
    /// The channel could not be begun.
    #[error("the channel cannot be sent on")]
    Start(#[source] Box<HopJoinError>),
    /// It is not known well enough what time it is, so the wave could be where nobody hears it.
    #[error("the time is not known well enough to hop")]
    Clock {
        /// What was not emitted.
        wave: Wave,
        /// Why.
        source: Box<ClockError>,
    },
    /// The wave is for another channel than the emitter.
    #[error("the wave is for {}: this emitter hops on {channel}", wave.channel())]
    OtherChannel {
        /// What was not emitted.
        wave: Wave,
        /// Where the emitter hops.
        channel: Channel,
    },
    /// The medium did not take it.
    #[error("the wave was not taken")]
    Emit(#[from] EmitError),
}

impl From<HopJoinError> for HopEmitError {
    fn from(error: HopJoinError) -> Self {
        Self::Start(Box::new(error))
    }
}

impl From<WaveError> for HopEmitError {
    fn from(error: WaveError) -> Self {
        Self::Emit(error.into())
    }
}

/// Emits waves on one hopping channel. Made by [`Emitter::hopping`]; cloning it is a few reference counts.
#[derive(Clone)]
pub struct HoppingEmitter {
    emitter: Emitter,
    sending: Arc<Sending>,
}

impl HoppingEmitter {
    /// Emits a wave on the lane of the moment. The receivers see it on the channel it is made for.
    ///
    /// # Errors
    /// [`HopEmitError`], which hands the wave back.
    ///
    /// # Cancel safety
    /// As [`Emitter::emit`].
    pub async fn emit(&self, wave: Wave) -> Result<Receipt, HopEmitError> {
        let (sequence, carried) = self.carry(wave)?;
        Ok(Receipt::new(sequence, settled(carried).await))
    }

    #[inline]
    fn carry(&self, mut wave: Wave) -> Result<(u64, Carried), HopEmitError> {
        let channel = self.sending.channel();
        if wave.channel() != channel {
            return Err(HopEmitError::OtherChannel { wave, channel: channel.clone() });
        }
        let now = Moment::now();
        let turn = match self.sending.move_onto_lane(&mut wave, now) {
            Ok(turn) => turn,
            Err(source) => return Err(HopEmitError::Clock { wave, source: Box::new(source) }),
        };
        match self.emitter.carry_at(wave, || now) {
            Ok(carried) => {
                if let Some(turn) = turn {
                    turn.count();
                }
                Ok(carried)
            }
            Err(error) => Err(error.moved_to(channel).into()),
        }
    }

    /// The channel.
    #[must_use]
    pub fn channel(&self) -> &Channel {
        self.sending.channel()
    }

    /// How it hops.
    #[must_use]
    pub fn hop(&self) -> &Hop {
        self.sending.hop()
    }

    /// What is known of the lanes.
    #[must_use]
    pub fn view(&self) -> HopView {
        self.sending.view()
    }
}

impl std::fmt::Debug for HoppingEmitter {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("HoppingEmitter").field("channel", self.channel()).finish_non_exhaustive()
    }
}

impl Emitter {
    /// Begins to send on a hopping channel, or goes on with it: what [`Emitter::emit_hopping_wave`] does by itself. For
    /// waves that are made with [`Wave::builder`], and where each nanosecond counts.
    ///
    /// # Errors
    /// [`HopJoinError`] if the channel is not valid, the medium is closed, or it is not known well enough what time it
    /// is.
    ///
    /// # Cancel safety
    /// Cancelled before completion, nothing was begun.
    pub async fn hopping<C>(&self, channel: C, hop: &Hop) -> Result<HoppingEmitter, HopJoinError>
    where
        C: TryInto<Channel>,
        ChannelError: From<C::Error>,
    {
        self.hopping_on(into_channel(channel).map_err(JoinError::from)?, hop).await
    }

    async fn hopping_on(&self, channel: Channel, hop: &Hop) -> Result<HoppingEmitter, HopJoinError> {
        let place = (hop.id(), channel);
        let open = self.sendings().open.lock().as_mut().and_then(|open| open.get(&place).cloned());
        let sending = match open {
            Some(sending) => sending,
            None => {
                let me = self.source().instance();
                let begun = Sending::start(self.aether(), me, &place.1, hop).await?;
                // Of two that were begun at once the first stays; nothing was sent on the other.
                let mut open = self.sendings().open.lock();
                let open = open.get_or_insert_with(|| LruCache::new(SENDINGS));
                Arc::clone(open.get_or_insert(place, || begun))
            }
        };
        Ok(HoppingEmitter { emitter: self.clone(), sending })
    }

    /// Emits an event of normal amplitude with a JSON payload on a hopping channel.
    ///
    /// The first one begins to send on it: over a network the clock is measured then, which takes eight round trips.
    ///
    /// # Errors
    /// [`HopEmitError`]: the channel cannot be begun or is not valid, the payload cannot be written, or as
    /// [`Emitter::emit`].
    ///
    /// # Cancel safety
    /// As [`Emitter::emit`]; cancelled while the channel is begun, nothing was emitted.
    pub async fn emit_hopping_wave<C>(
        &self,
        channel: C,
        hop: &Hop,
        payload: &impl Serialize,
    ) -> Result<Receipt, HopEmitError>
    where
        C: TryInto<Channel>,
        ChannelError: From<C::Error>,
    {
        let wave = Wave::from_json(channel, payload)?;
        let hopping = self.hopping_on(wave.channel().clone(), hop).await?;
        hopping.emit(wave).await
    }

    /// The same by a sequence without a key, that of [`Hop::sequence`] with default values. **Predictable**: whoever
    /// knows the seed knows where the channel is.
    ///
    /// # Errors
    /// As [`Emitter::emit_hopping_wave`].
    ///
    /// # Cancel safety
    /// As [`Emitter::emit_hopping_wave`].
    pub async fn emit_time_hopping_wave<C>(
        &self,
        channel: C,
        seed: u64,
        payload: &impl Serialize,
    ) -> Result<Receipt, HopEmitError>
    where
        C: TryInto<Channel>,
        ChannelError: From<C::Error>,
    {
        let hop = self.aether().hopping().by_seed(seed);
        self.emit_hopping_wave(channel, &hop, payload).await
    }
}

impl Vibrator {
    /// Hears a hopping channel from now on: once this returns, no wave is missed that is sent within the error of the
    /// clocks. Its waves come like all others, on the channel they were sent to. A channel that is heard already by
    /// this [`Hop`] changes nothing. Ordinary term: subscribe.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// use aether_core::{Aether, Hop, Vibrator};
    ///
    /// let aether = Aether::local();
    /// let hop = Hop::keyed(b"32 bytes that nobody else knows.").build()?;
    /// let mut stock = Vibrator::create("stock", &aether).await?;
    /// stock.resonate_hopping("orders.created", &hop).await?;
    ///
    /// let shop = Vibrator::create("shop", &aether).await?;
    /// shop.emit_hopping_wave("orders.created", &hop, &"a lamp").await?;
    /// let wave = stock.receive().await.expect("the medium is open");
    /// assert_eq!((wave.channel().as_str(), wave.json::<String>()?), ("orders.created", "a lamp".to_owned()));
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// [`HopJoinError`] if the channel is not valid, the medium is closed, or it is not known well enough what time it
    /// is.
    ///
    /// # Cancel safety
    /// Cancelled before completion, the channel is not heard.
    pub async fn resonate_hopping<C>(&self, channel: C, hop: &Hop) -> Result<(), HopJoinError>
    where
        C: TryInto<Channel>,
        ChannelError: From<C::Error>,
    {
        let channel = into_channel(channel).map_err(JoinError::from)?;
        if self.followed.lock().iter().any(|following| following.is(&channel, hop)) {
            return Ok(());
        }
        let listening = Listening {
            aether: self.emitter.aether(),
            inbox: &self.inbox,
            sequencer: self.emitter.sequencer(),
            hears_own: self.hears_own,
            observes: self.observes,
        };
        let following = Following::start(listening, &channel, hop).await?;
        let mut followed = self.followed.lock();
        if !followed.iter().any(|following| following.is(&channel, hop)) {
            followed.push(following);
        }
        Ok(())
    }

    /// Hears what [`Emitter::emit_time_hopping_wave`] sends by the same seed. **Predictable.**
    ///
    /// # Errors
    /// As [`Vibrator::resonate_hopping`].
    ///
    /// # Cancel safety
    /// As [`Vibrator::resonate_hopping`].
    pub async fn resonate_time_hopping<C>(&self, channel: C, seed: u64) -> Result<(), HopJoinError>
    where
        C: TryInto<Channel>,
        ChannelError: From<C::Error>,
    {
        let hop = self.emitter.aether().hopping().by_seed(seed);
        self.resonate_hopping(channel, &hop).await
    }

    /// Stops hearing a hopping channel, by whatever keys. What is queued can still be received. A channel that is not
    /// heard changes nothing. Ordinary term: unsubscribe.
    pub fn detune_hopping(&self, channel: &Channel) {
        let gone: Vec<_> =
            self.followed.lock().extract_if(.., |following| following.is_of(channel)).collect();
        // Outside of the lock: each leaves its lanes.
        drop(gone);
    }

    /// What was heard of a hopping channel; nothing where it is not heard.
    #[must_use]
    pub fn hop_account(&self, channel: &Channel, hop: &Hop) -> Option<HopAccount> {
        self.followed.lock().iter().find(|following| following.is(channel, hop)).map(Following::account)
    }
}

impl Aether {
    /// Keeps the clock for a key: all who hop by it over this medium measure their offset to this machine. One process
    /// does so for a key; it goes on for as long as what is returned lives. Ordinary term: a time server.
    ///
    /// From now on its time comes from the monotonic clock, so a wall clock that is set does not move the slots.
    ///
    /// # Errors
    /// [`JoinError`] if the medium is closed.
    ///
    /// # Cancel safety
    /// Cancelled before completion, the clock is not kept.
    pub async fn keep_clock(&self, hop: &Hop) -> Result<ClockKeeper, JoinError> {
        keep(self, hop).await
    }
}
