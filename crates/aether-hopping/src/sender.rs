//! The sending end of a hopping channel: the current lane and, on adaptive channels, a task that sends beacons.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Weak};

use aether_core::clock::{self, Instant, Moment, moment_of};
use aether_core::medium::Sequencer;
use aether_core::wave::ChannelError;
use aether_core::{Aether, Channel, EmitError, Emitter, JoinError, Receipt, Wave, WaveError};
use lru::LruCache;
use parking_lot::Mutex;
use tokio::task::AbortHandle;

use crate::clock::{Clocks, HopClock};
use crate::clock_offset::ClockError;
use crate::control::{ControlChannel, ControlMessage};
use crate::hop::Hop;
use crate::lane_map::{HopView, LaneMap, SentSlot};
use crate::receiver::HopJoinError;
use crate::sequence::Traffic;

/// The maximum number of hopping channels that a vibrator has open for sending. If there are more, the least recently
/// used one is closed; its next use opens it again.
const MAX_SENDERS: std::num::NonZeroUsize = std::num::NonZeroUsize::new(256).unwrap();

/// Error when emitting a wave on a hopping channel. Holds the wave on its original channel.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum HopEmitError {
    /// The channel could not be opened.
    #[error("cannot open the hopping channel for sending")]
    Start(#[source] Box<HopJoinError>),
    /// The clock is not accurate enough, so receivers could miss the wave.
    #[error("the clock is not accurate enough for hopping")]
    Clock {
        /// The wave, which was not emitted.
        wave: Wave,
        /// The cause.
        source: Box<ClockError>,
    },
    /// The wave and the emitter have different channels.
    #[error("the wave is for channel {}, but this emitter sends on {channel}", wave.channel())]
    OtherChannel {
        /// The wave, which was not emitted.
        wave: Wave,
        /// The channel of the emitter.
        channel: Channel,
    },
    /// The medium refused the wave.
    #[error("the wave was not emitted")]
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

/// Emits waves on one hopping channel. Cloning increments a few reference counts.
#[derive(Clone)]
pub struct HoppingEmitter {
    emitter: Emitter,
    sender: Arc<HopSender>,
}

impl HoppingEmitter {
    /// Opens a hopping channel for sending. Use it for waves made with [`Wave::builder`], for an emitter without a
    /// receiver, and where speed matters: [`Hopping::emit_hopping_wave`](crate::Hopping::emit_hopping_wave) looks up the
    /// channel for each wave. The channel is closed with the emitter and its clones, or with the last
    /// `HoppingEmitter` if that is later.
    ///
    /// # Errors
    /// [`HopJoinError`] if the channel is invalid, the medium is closed, or the clock is not accurate enough.
    ///
    /// # Cancel safety
    /// If cancelled before completion, no channel was opened.
    pub async fn open<C>(emitter: &Emitter, channel: C, hop: &Hop) -> Result<Self, HopJoinError>
    where
        C: TryInto<Channel>,
        ChannelError: From<C::Error>,
    {
        let channel = channel.try_into().map_err(ChannelError::from).map_err(JoinError::from)?;
        Self::open_on(emitter, channel, hop).await
    }

    pub(crate) async fn open_on(
        emitter: &Emitter,
        channel: Channel,
        hop: &Hop,
    ) -> Result<Self, HopJoinError> {
        let senders = HopSenders::of(emitter.aether());
        let key = (hop.id(), channel);
        let sender = match senders.find(emitter, &key) {
            Some(sender) => sender,
            None => {
                let started = HopSender::start(emitter, &senders, &key.1, hop).await?;
                senders.keep(emitter, key, started)
            }
        };
        Ok(Self { emitter: emitter.clone(), sender })
    }

    /// Emits a wave on the current lane. Receivers see it on its original channel.
    ///
    /// # Errors
    /// [`HopEmitError`], which returns the wave.
    ///
    /// # Cancel safety
    /// As [`Emitter::emit`].
    pub async fn emit(&self, mut wave: Wave) -> Result<Receipt, HopEmitError> {
        let channel = self.channel();
        if wave.channel() != channel {
            return Err(HopEmitError::OtherChannel { wave, channel: channel.clone() });
        }
        let slot = match self.sender.move_onto_lane(&mut wave) {
            Ok(slot) => slot,
            Err(source) => return Err(HopEmitError::Clock { wave, source: Box::new(source) }),
        };
        let receipt = self.emitter.emit(wave).await.map_err(|error| moved_back(error, channel))?;
        if let Some(slot) = slot {
            slot.waves.fetch_add(1, Ordering::Relaxed);
        }
        Ok(receipt)
    }

    /// The channel.
    #[must_use]
    pub fn channel(&self) -> &Channel {
        &self.sender.channel
    }

    /// The key and the schedule.
    #[must_use]
    pub fn hop(&self) -> &Hop {
        &self.sender.hop
    }

    /// The lanes in use and their loss, as far as known.
    #[must_use]
    pub fn view(&self) -> HopView {
        self.sender.view()
    }
}

impl std::fmt::Debug for HoppingEmitter {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("HoppingEmitter").field("channel", self.channel()).finish_non_exhaustive()
    }
}

/// Moves the wave in an error back to its original channel.
fn moved_back(mut error: EmitError, channel: &Channel) -> EmitError {
    if let Some(wave) = error.wave_mut() {
        wave.move_to(channel);
    }
    error
}

/// The hopping channels that the emitters of one `Aether` send on, in its extensions.
#[derive(Default)]
struct HopSenders {
    by_emitter: Mutex<BTreeMap<u64, EmitterSenders>>,
}

/// The senders of one emitter and its clones.
struct EmitterSenders {
    /// Gone with the last clone.
    emitter: Weak<Sequencer>,
    open: LruCache<(u64, Channel), Arc<HopSender>>,
}

impl Drop for EmitterSenders {
    /// Closes one after the other: each ends a task, and the cache itself drops them in the order of a hash table.
    fn drop(&mut self) {
        while self.open.pop_lru().is_some() {}
    }
}

impl HopSenders {
    fn of(aether: &Aether) -> Arc<Self> {
        aether.extension()
    }

    fn find(&self, emitter: &Emitter, key: &(u64, Channel)) -> Option<Arc<HopSender>> {
        let mut by_emitter = self.by_emitter.lock();
        by_emitter.get_mut(&emitter.source().instance())?.open.get(key).cloned()
    }

    /// Keeps a sender. If two were started at the same time, the first stays. Nothing was sent on the other one.
    fn keep(&self, emitter: &Emitter, key: (u64, Channel), started: Arc<HopSender>) -> Arc<HopSender> {
        self.forget_gone();
        let mut by_emitter = self.by_emitter.lock();
        let senders = by_emitter.entry(emitter.source().instance()).or_insert_with(|| EmitterSenders {
            emitter: Arc::downgrade(emitter.sequencer()),
            open: LruCache::new(MAX_SENDERS),
        });
        Arc::clone(senders.open.get_or_insert(key, || started))
    }

    /// Closes the senders of emitters that were dropped.
    fn forget_gone(&self) {
        let gone: Vec<_> = {
            let mut by_emitter = self.by_emitter.lock();
            by_emitter.extract_if(.., |_, senders| senders.emitter.strong_count() == 0).collect()
        };
        // Outside of the lock, because each one ends a task.
        drop(gone);
    }
}

/// One channel on which a vibrator sends by one key.
struct HopSender {
    hop: Hop,
    channel: Channel,
    /// The instance number of the vibrator.
    me: u64,
    clock: Arc<HopClock>,
    /// The slot of the last wave. Every emit locks it for a single read.
    slot: Mutex<Option<Arc<SendSlot>>>,
    lane_map: Mutex<LaneMap<SendSlot>>,
    refused: AtomicU64,
    task: Mutex<Option<AbortHandle>>,
}

/// A slot in which waves are sent.
#[derive(Debug)]
struct SendSlot {
    /// The generation of the clock when `from` and `until` were computed.
    generation: u64,
    from: Moment,
    until: Moment,
    lane: Channel,
    /// The number of waves sent. Counted only on adaptive channels.
    waves: AtomicU64,
}

impl SendSlot {
    #[inline]
    fn is_at(&self, now: Moment, generation: u64) -> bool {
        self.from <= now && now < self.until && self.generation == generation
    }

    fn waves(&self) -> u64 {
        self.waves.load(Ordering::Relaxed)
    }
}

impl HopSender {
    async fn start(
        emitter: &Emitter,
        senders: &Arc<HopSenders>,
        channel: &Channel,
        hop: &Hop,
    ) -> Result<Arc<Self>, HopJoinError> {
        let bus = emitter.aether().bus();
        let sender = Arc::new(Self {
            hop: hop.clone(),
            channel: channel.clone(),
            me: emitter.source().instance(),
            clock: Clocks::of(emitter.aether()).clock(bus, hop).await?,
            slot: Mutex::default(),
            lane_map: Mutex::new(LaneMap::new(hop.lanes())),
            refused: AtomicU64::new(0),
            task: Mutex::default(),
        });
        if hop.is_adaptive() {
            let control = ControlChannel::new(bus, hop, channel)?;
            control.tune(sender.clock.at(clock::now())).await?;
            let ends = (Arc::downgrade(emitter.sequencer()), Arc::downgrade(senders));
            let clock = Arc::clone(&sender.clock);
            let task = tokio::spawn(send_beacons(Arc::downgrade(&sender), ends, clock, control));
            *sender.task.lock() = Some(task.abort_handle());
        }
        Ok(sender)
    }

    /// Moves a wave onto the current lane. On an adaptive channel, returns the slot in which to count the wave once it
    /// is sent.
    #[inline]
    fn move_onto_lane(&self, wave: &mut Wave) -> Result<Option<Arc<SendSlot>>, ClockError> {
        let current = self.slot.lock();
        if let Some(slot) = &*current
            && slot.is_at(Moment::now(), self.clock.generation())
        {
            wave.move_to(&slot.lane);
            return Ok(self.hop.is_adaptive().then(|| Arc::clone(slot)));
        }
        drop(current);
        let slot = self.slot_at(clock::now())?;
        wave.move_to(&slot.lane);
        Ok(self.hop.is_adaptive().then_some(slot))
    }

    /// The slot of an instant, created if it has just begun.
    #[cold]
    fn slot_at(&self, now: Instant) -> Result<Arc<SendSlot>, ClockError> {
        let generation = self.clock.generation();
        let mut lane_map = self.lane_map.lock();
        let current = self.slot.lock().clone();
        if let Some(slot) = current.filter(|slot| slot.is_at(moment_of(now), generation)) {
            return Ok(slot);
        }
        let time = self.clock.checked(now)?;
        let schedule = self.hop.schedule();
        let number = schedule.slot_at(time);
        self.hop.sequence_of().reach(number);
        let place = self.hop.sequence_of().place(Traffic::Waves, &self.channel, number);
        let place = place.ok_or(ClockError::Forgotten)?;
        let lane = lane_map.lane(number, place.draw);
        let slot = Arc::new(SendSlot {
            generation,
            from: moment_of(self.clock.instant(schedule.begin(number))),
            until: moment_of(self.clock.instant(schedule.begin(number + 1))),
            // Cannot fail: lanes and tokens consist of letters and digits.
            lane: place.on(lane).map_err(|_| ClockError::Forgotten)?,
            waves: AtomicU64::new(0),
        });
        lane_map.begin(SentSlot { slot: number, lane, waves: Arc::clone(&slot) });
        *self.slot.lock() = Some(Arc::clone(&slot));
        Ok(slot)
    }

    fn view(&self) -> HopView {
        let lane_map = self.lane_map.lock();
        HopView {
            lanes_in_use: lane_map.used().iter().collect(),
            loss: (0..self.hop.lanes()).map(|lane| lane_map.loss(lane)).collect(),
            map: lane_map.map(),
            receivers: lane_map.receivers(),
            refused: self.refused.load(Ordering::Relaxed),
        }
    }

    fn take(&self, message: &ControlMessage) {
        if let ControlMessage::Report(report) = message {
            self.lane_map.lock().take(self.me, report, SendSlot::waves);
        }
    }
}

impl Drop for HopSender {
    fn drop(&mut self) {
        if let Some(task) = self.task.get_mut() {
            task.abort();
        }
    }
}

/// Sends a beacon once per slot, in its middle, and processes the reports of receivers. Ends with the sender, which is
/// forgotten in the first slot after its emitter was dropped.
async fn send_beacons(
    sender: Weak<HopSender>,
    (emitter, senders): (Weak<Sequencer>, Weak<HopSenders>),
    clock: Arc<HopClock>,
    mut control: ControlChannel,
) {
    let mut steps = clock.watch();
    let mut last_beacon = 0;
    loop {
        let now = clock.at(clock::now());
        if let Err(JoinError::Closed) = control.tune(now).await {
            return;
        }
        let now = clock.at(clock::now());
        let schedule = control.schedule();
        let slot = schedule.slot_at(now);
        if last_beacon < slot && now >= schedule.middle(slot) {
            last_beacon = slot;
            if emitter.strong_count() == 0
                && let Some(senders) = senders.upgrade()
            {
                senders.forget_gone();
            }
            let Some(sender) = sender.upgrade() else { return };
            // Puts the map of this slot into force even if no wave is sent in it.
            let entered = sender.slot_at(clock::now());
            if let (Ok(_), Some((lane, _))) = (entered, control.lane(slot)) {
                let mut lane_map = sender.lane_map.lock();
                lane_map.decide(slot);
                let beacon = lane_map.beacon(sender.me, slot, lane, SendSlot::waves);
                drop(lane_map);
                control.send(&ControlMessage::Beacon(beacon));
            }
        }
        let middle = schedule.middle(if last_beacon < slot { slot } else { slot + 1 });
        let deadline = clock.instant(schedule.next_change(now).min(middle.max(now + 1)));
        tokio::select! {
            biased;
            changed = steps.changed() => {
                if changed.is_err() {
                    return;
                }
                last_beacon = last_beacon.min(schedule.slot_at(clock.at(clock::now())));
            }
            () = tokio::time::sleep(deadline.saturating_duration_since(clock::now())) => {}
            message = control.receive() => {
                let (Some(message), Some(sender)) = (message, sender.upgrade()) else { return };
                if let Some(message) = control.read(&message, clock.at(clock::now())) {
                    sender.take(&message);
                }
                sender.refused.store(control.refused, Ordering::Relaxed);
            }
        }
    }
}
