//! Who is there and what it hears: vibrators announce themselves, overloaded ones say what they cannot hear, and senders
//! who respect that do not send it. Ordinary terms: service discovery, and back-pressure by priority.
//!
//! One `Presence` for each `Aether`. Vibrators enter what they are tuned to (`local_receivers`) and report evictions; emitters
//! that respect floors ask the index before they emit (`floor_index`, which has the rule of when a wave may be stopped); and
//! a [`Roster`] shows who is there. Receivers of one process are known to it at once. Those of others are known by what
//! they announce (`advertised_floors`): each when it is tuned or detuned, when its floor changes by a level (at most four times a
//! second, and each second while it is up), when somebody calls the roll, every ten seconds or so, and when it goes.
//! How announcements are written is in `announcement`, how they are told in `announcing`, and the task that makes and
//! takes them in `announcer`.

mod advertised_floors;
mod announcement;
mod announcer;
mod announcing;
mod floor_index;
mod local_receivers;
mod roster;

use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock, Weak};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::{Notify, watch};

use crate::amplitude::Floor;
use crate::background::Background;
use crate::bus::Bus;
use crate::channel::Pattern;
use crate::clock::Instant;
use crate::inbox::{Inbox, InboxOptions, ShedReason, WhenFull};
use crate::medium::{JoinError, Medium};
use crate::router::Listener;
use crate::source::{Sequencer, Source};
use crate::wave::Wave;
use advertised_floors::AdvertisedFloors;
use announcement::{ANNOUNCEMENTS, CALLS};
use floor_index::FloorIndex;
use local_receivers::{LocalReceiver, LocalReceivers};

pub use crate::router::Heard;
pub use announcement::Announcement;
pub use roster::Roster;

/// Answers to a roll call are waited for so long before any wave is stopped: one that was called shortly before answers
/// after a second.
const SETTLE: Duration = Duration::from_secs(2);
/// While floors are up the roll is called so often, for those who came while a connection was broken.
const ROLL_EVERY: Duration = Duration::from_secs(10);
/// Messages with announcements that wait to be read, and their bytes. While one that had no room is missing, nothing is
/// stopped.
const MESSAGES: usize = 1024;
const MESSAGE_BYTES: usize = 4 << 20;

/// What is known of floors in one `Aether`. The locks are taken in the order of the fields.
pub(crate) struct Presence {
    local: Mutex<LocalReceivers>,
    advertised: Mutex<AdvertisedFloors>,
    hearers: FloorIndex,
    /// Waves that emitters of this `Aether` stopped.
    stopped: AtomicU64,
    /// Messages with announcements that had no room and are not counted in the advertised yet.
    missed: AtomicU64,
    /// Locked by whoever announces: announcements leave in the order of what they say.
    announcing: tokio::sync::Mutex<()>,
    /// Tells the task that there is something to do.
    work: Notify,
    /// The task that announces. Claimed and released under the lock of `local`.
    background: Background,
    /// Counts the changes of what anybody hears, for rosters.
    changes: watch::Sender<u64>,
    /// The medium, if receivers can be in other processes.
    network: OnceLock<Weak<dyn Medium>>,
    notices: OnceLock<Arc<Inbox>>,
    /// Which of the framework's channels are heard; locked by whoever joins one.
    joined: tokio::sync::Mutex<JoinedChannels>,
    /// When the roll was called for the first time and the last.
    first_roll: OnceLock<Instant>,
    last_roll: Mutex<Option<Instant>>,
    sequencer: Arc<Sequencer>,
}

#[derive(Default)]
struct JoinedChannels {
    announcements: bool,
    calls: bool,
}

impl Presence {
    pub(crate) fn new() -> Self {
        Self {
            local: Mutex::default(),
            advertised: Mutex::default(),
            hearers: FloorIndex::new(),
            stopped: AtomicU64::new(0),
            missed: AtomicU64::new(0),
            announcing: tokio::sync::Mutex::default(),
            work: Notify::new(),
            background: Background::default(),
            changes: watch::Sender::new(0),
            network: OnceLock::new(),
            notices: OnceLock::new(),
            joined: tokio::sync::Mutex::default(),
            first_roll: OnceLock::new(),
            last_roll: Mutex::default(),
            sequencer: Arc::new(Sequencer::new(Source::framework())),
        }
    }

    /// Receivers are in other processes as well, and this medium knows the way.
    pub(crate) fn reach_over(&self, network: Weak<dyn Medium>) {
        let _ = self.network.set(network);
        self.background.note_runtime();
    }

    fn crosses_processes(&self) -> bool {
        self.network.get().is_some()
    }

    pub(crate) fn end(&self) {
        self.background.end();
    }

    pub(crate) fn stopped(&self) -> u64 {
        self.stopped.load(Ordering::Relaxed)
    }

    /// The floor that stops a wave of this age at its source, if one does. Never waits.
    pub(crate) fn stop(&self, wave: &Wave, age: impl FnOnce() -> Duration) -> Option<Floor> {
        if !self.hearers.is_raised() {
            return None;
        }
        let now = Instant::now();
        // Until everybody has had the time to say what they hear nobody's floor counts.
        let is_settled = |first: &Instant| now.saturating_duration_since(*first) >= SETTLE;
        if self.crosses_processes() && !self.first_roll.get().is_some_and(is_settled) {
            return None;
        }
        if self.missed.load(Ordering::Relaxed) > 0 {
            return None;
        }
        let floor = self.hearers.floor_of(wave.channel(), now);
        let stops = !floor.is_open() && !wave.signal().audible(age(), floor);
        self.stopped.fetch_add(u64::from(stops), Ordering::Relaxed);
        stops.then_some(floor)
    }

    /// The options of a receiver's inbox, which reports that it is overloaded.
    pub(crate) fn watching(
        self: &Arc<Self>,
        options: InboxOptions,
        instance: u64,
        is_raised: &Arc<AtomicBool>,
    ) -> InboxOptions {
        let (floors, is_raised) = (Arc::downgrade(self), Arc::clone(is_raised));
        options.also_on_shed(move |_, reason| {
            // One look for most losses: the receiver is attended to already.
            if reason == ShedReason::Full
                && !is_raised.load(Ordering::Relaxed)
                && !is_raised.swap(true, Ordering::Relaxed)
                && let Some(floors) = floors.upgrade()
            {
                floors.overloaded(instance);
            }
        })
    }

    fn overloaded(self: &Arc<Self>, instance: u64) {
        let mut local = self.local.lock();
        if local.receivers.contains_key(&instance) {
            local.raised.insert(instance);
            self.attend(local);
        }
    }

    /// A vibrator was made that receives.
    pub(crate) fn open(
        &self,
        source: &Source,
        inbox: &Arc<Inbox>,
        is_raised: Arc<AtomicBool>,
        is_listed: bool,
    ) {
        let receiver = LocalReceiver::new(source, inbox, is_raised, is_listed);
        self.local.lock().open(receiver, &self.hearers, Instant::now());
    }

    /// It is gone.
    pub(crate) fn close(self: &Arc<Self>, instance: u64) {
        let mut local = self.local.lock();
        let Some(farewell) = local.close(instance, &self.hearers, Instant::now()) else { return };
        if self.crosses_processes() && !local.are_gone {
            local.farewells.push(farewell);
            self.attend(local);
        } else {
            drop(local);
        }
        self.note_change();
    }

    /// It hears a pattern from now on, by a subscription of this number. Others learn it by [`Presence::told`].
    pub(crate) fn tune(&self, instance: u64, id: u64, heard: Heard) {
        {
            let mut local = self.local.lock();
            if local.tune(instance, id, heard, &self.hearers) && self.crosses_processes() {
                local.news.insert(instance);
                // Should nobody wait for it, the task tells it.
                self.work.notify_one();
            }
        }
        self.note_change();
    }

    /// It does not hear that pattern any more. Others are told by the task.
    pub(crate) fn detune(self: &Arc<Self>, instance: u64, id: u64) {
        {
            let mut local = self.local.lock();
            if local.detune(instance, id, &self.hearers) && self.crosses_processes() {
                local.news.insert(instance);
                self.attend(local);
            }
        }
        self.note_change();
    }

    /// Returns when others know what a receiver hears: so that no sender stops what it is to hear.
    pub(crate) async fn told(self: &Arc<Self>, bus: &Bus, instance: u64) {
        if self.crosses_processes() {
            // Fails when the medium is closed; then the join that this is for fails as well.
            let _ = self.join(bus, CALLS).await;
            self.announce(Some(instance)).await;
        }
    }

    fn note_change(&self) {
        self.changes.send_modify(|changes| *changes += 1);
    }

    /// Hears the announcements of other processes from now on and asks for those there are.
    pub(crate) async fn listen(self: &Arc<Self>, bus: &Bus) -> Result<(), JoinError> {
        if self.crosses_processes() {
            self.join(bus, ANNOUNCEMENTS).await?;
            self.call_roll().await;
        }
        Ok(())
    }

    /// The same for a sender that respects floors.
    pub(crate) async fn respect(self: &Arc<Self>, bus: &Bus) -> Result<(), JoinError> {
        self.local.lock().begin_index(&self.hearers, Instant::now());
        self.advertised.lock().begin_index(&self.hearers);
        self.listen(bus).await
    }

    async fn call_roll(&self) {
        let now = Instant::now();
        {
            let mut last = self.last_roll.lock();
            if last.is_some_and(|last| now.saturating_duration_since(last) < ROLL_EVERY) {
                return;
            }
            *last = Some(now);
        }
        let _ = self.first_roll.set(now);
        self.advertised.lock().call(&self.hearers, now);
        self.send(self.notice(CALLS, b"[]".to_vec()).into_iter().collect()).await;
    }

    /// Hears one of the framework's channels, once for all vibrators of this `Aether`.
    async fn join(self: &Arc<Self>, bus: &Bus, channel: &'static str) -> Result<(), JoinError> {
        let mut joined = self.joined.lock().await;
        let is_joined = if channel == ANNOUNCEMENTS { &mut joined.announcements } else { &mut joined.calls };
        if *is_joined {
            return Ok(());
        }
        let notices = match self.notices.get() {
            Some(notices) => Arc::clone(notices),
            None => {
                // These options are within their bounds.
                let Ok(notices) = Inbox::new(self.notice_options()) else { return Err(JoinError::Closed) };
                Arc::clone(self.notices.get_or_init(|| Arc::new(notices)))
            }
        };
        let listener = Listener {
            sequencer: Arc::clone(&self.sequencer),
            hears_own: false,
            observes: false,
            relabel: None,
        };
        // For as long as there is the `Aether`.
        bus.join(Pattern::new(channel)?, notices, listener).await?.keep();
        *is_joined = true;
        self.attend(self.local.lock());
        Ok(())
    }

    fn notice_options(self: &Arc<Self>) -> InboxOptions {
        let floors = Arc::downgrade(self);
        InboxOptions::default()
            .max_waves(MESSAGES)
            .max_bytes(MESSAGE_BYTES)
            .when_full(WhenFull::Shed)
            .on_shed(move |message, _| {
                if message.channel().as_str() == ANNOUNCEMENTS
                    && let Some(floors) = floors.upgrade()
                {
                    floors.missed.fetch_add(1, Ordering::Relaxed);
                }
            })
    }
}

impl fmt::Debug for Presence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Presence").field("stopped", &self.stopped()).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
