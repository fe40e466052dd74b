//! Presence: vibrators announce themselves and what they subscribe to, and overloaded ones advertise the floor below
//! which they hear nothing. Senders that respect floors do not send such waves. Ordinary terms: service discovery, and
//! back-pressure by priority.
//!
//! Each `Aether` has one `Presence`. Vibrators register their subscriptions (`local_receivers`) and report evictions.
//! Emitters that respect floors query the index before they emit (`floor_index`, which defines when a wave may be
//! stopped). A [`Roster`] lists the vibrators.
//!
//! Receivers of the same process are known at once, receivers of other processes through their announcements
//! (`advertised_floors`). A receiver announces itself when it is tuned or detuned, when its floor changes by a level
//! (at most four times a second, and each second while it is up), after a roll call, about every ten seconds, and when
//! it leaves. The encoding is in `announcement`, and the task that sends and receives in `announcer`.

mod advertised_floors;
mod announcement;
mod announcer;
mod floor_index;
mod local_receivers;
mod roster;

use std::fmt;
use std::sync::atomic::Ordering;
use std::sync::{Arc, OnceLock, Weak};
use std::time::Duration;

use tokio::sync::{Notify, watch};

use crate::amplitude::Floor;
use crate::background::Background;
use crate::bus::Bus;
use crate::channel::Pattern;
use crate::clock::{self, Instant};
use crate::inbox::{Inbox, InboxOptions, ShedReason, WhenFull};
use crate::medium::{JoinError, Medium};
use crate::router::Listener;
use crate::source::{Sequencer, Source};
use crate::sync::{AtomicBool, AtomicU64, Mutex};
use crate::wave::Wave;
use advertised_floors::AdvertisedFloors;
use announcement::{ANNOUNCEMENTS, CALLS};
use floor_index::FloorIndex;
use local_receivers::{LocalReceiver, LocalReceivers};

pub use crate::router::Heard;
pub use announcement::Announcement;
pub use roster::Roster;

/// How long after the first roll call no wave is stopped yet: an answer takes up to a second if another call came
/// shortly before.
const SETTLE: Duration = Duration::from_secs(2);
/// How often the roll is called while floors are up, for receivers that joined while a connection was broken.
const ROLL_EVERY: Duration = Duration::from_secs(10);
/// Bounds of the queue of unread announcements: messages, and bytes. While a dropped message is unaccounted for, no
/// wave is stopped.
const MESSAGES: usize = 1024;
const MESSAGE_BYTES: usize = 4 << 20;

/// The presence state of one `Aether`. Lock order: the order of the fields.
pub(crate) struct Presence {
    local: Mutex<LocalReceivers>,
    advertised: Mutex<AdvertisedFloors>,
    hearers: FloorIndex,
    /// Waves stopped by emitters of this `Aether`.
    stopped: AtomicU64,
    /// Messages dropped for lack of room and not yet counted in `advertised`.
    missed: AtomicU64,
    /// Held while announcing, so that announcements are sent in the order in which they were made.
    announcing: tokio::sync::Mutex<()>,
    /// Notifies the task of work.
    work: Notify,
    /// The task that announces. Claimed and released under the lock of `local`.
    background: Background,
    /// Counts changes of any receiver's subscriptions, for rosters.
    changes: watch::Sender<u64>,
    /// The medium, if receivers can be in other processes.
    network: OnceLock<Weak<dyn Medium>>,
    notices: OnceLock<Arc<Inbox>>,
    /// The joined channels of the framework; held during a join.
    joined: tokio::sync::Mutex<JoinedChannels>,
    /// When the roll was first called.
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

    /// Sets the medium through which receivers in other processes are reached.
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

    /// The entries of the tables about vibrators in other processes.
    #[cfg(feature = "test-util")]
    pub(crate) fn tables(&self) -> Vec<(&'static str, usize)> {
        let (local, advertised) = (self.local.lock(), self.advertised.lock());
        let [receivers, announcers] = advertised.sizes();
        let indexed = self.hearers.change(|index| index.len()).saturating_sub(local.receivers.len());
        vec![
            ("receivers", receivers),
            ("bytes of receivers", advertised.bytes()),
            ("announcers", announcers),
            ("indexed receivers", indexed),
        ]
    }

    pub(crate) fn stopped(&self) -> u64 {
        self.stopped.load(Ordering::Relaxed)
    }

    /// The floor that stops a wave of this age at its source, if any. Never waits.
    pub(crate) fn stop(&self, wave: &Wave, age: impl FnOnce() -> Duration) -> Option<Floor> {
        if !self.hearers.is_raised() {
            return None;
        }
        let now = clock::now();
        // No floor counts until every receiver has had time to answer.
        let is_settled = |first: &Instant| now.saturating_duration_since(*first) >= SETTLE;
        if self.crosses_processes() && !self.first_roll.get().is_some_and(is_settled) {
            return None;
        }
        // A sender that sees a loss counted sees that the index is incomplete, too.
        if self.missed.load(Ordering::Acquire) > 0 {
            return None;
        }
        let floor = self.hearers.floor_of(wave.channel(), now);
        let stops = !floor.is_open() && !wave.signal().audible(age(), floor);
        self.stopped.fetch_add(u64::from(stops), Ordering::Relaxed);
        stops.then_some(floor)
    }

    /// Inbox options for a receiver that reports overload.
    pub(crate) fn watching(
        self: &Arc<Self>,
        options: InboxOptions,
        instance: u64,
        is_raised: &Arc<AtomicBool>,
    ) -> InboxOptions {
        let (floors, is_raised) = (Arc::downgrade(self), Arc::clone(is_raised));
        options.also_on_shed(move |_, reason| {
            // Usually a single check, because the receiver is already being handled.
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

    /// Registers a receiving vibrator.
    pub(crate) fn open(
        &self,
        source: &Source,
        inbox: &Arc<Inbox>,
        is_raised: Arc<AtomicBool>,
        is_listed: bool,
    ) {
        let receiver = LocalReceiver::new(source, inbox, is_raised, is_listed);
        self.local.lock().open(receiver, &self.hearers, clock::now());
    }

    /// Removes a vibrator.
    pub(crate) fn close(self: &Arc<Self>, instance: u64) {
        let mut local = self.local.lock();
        let Some(farewell) = local.close(instance, &self.hearers, clock::now()) else { return };
        if self.crosses_processes() {
            local.farewells.push(farewell);
        }
        if self.crosses_processes() && !local.have_left {
            self.attend(local);
        } else {
            drop(local);
        }
        self.note_change();
    }

    /// Registers a subscription by its id. [`Presence::told`] announces it to others.
    pub(crate) fn tune(&self, instance: u64, id: u64, heard: Heard) {
        {
            let mut local = self.local.lock();
            if local.tune(instance, id, heard, &self.hearers) && self.crosses_processes() {
                local.news.insert(instance);
                // If no caller waits for the announcement, the task sends it.
                self.work.notify_one();
            }
        }
        self.note_change();
    }

    /// Removes a subscription. The task announces that to others.
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

    /// The same, for a subscription whose receiver is not known.
    pub(crate) fn detune_wherever(self: &Arc<Self>, id: u64) {
        let receiver = self.local.lock().receiver_of(id);
        if let Some(instance) = receiver {
            self.detune(instance, id);
        }
    }

    /// Returns once a receiver's subscriptions were announced, so that no sender stops waves for them.
    pub(crate) async fn announced(self: &Arc<Self>, bus: &Bus, instance: u64) {
        if self.crosses_processes() {
            // Fails if the medium is closed; then the caller's join fails as well.
            let _ = self.join(bus, CALLS).await;
            self.announce(Some(instance)).await;
        }
    }

    fn note_change(&self) {
        self.changes.send_modify(|changes| *changes += 1);
    }

    /// Subscribes to the announcements of other processes and requests the current ones.
    pub(crate) async fn listen(self: &Arc<Self>, bus: &Bus) -> Result<(), JoinError> {
        if self.crosses_processes() {
            self.join(bus, ANNOUNCEMENTS).await?;
            self.call_roll().await;
        }
        Ok(())
    }

    /// Like [`Presence::listen`], for a sender that respects floors.
    pub(crate) async fn respect(self: &Arc<Self>, bus: &Bus) -> Result<(), JoinError> {
        self.local.lock().begin_index(&self.hearers, clock::now());
        self.advertised.lock().begin_index(&self.hearers);
        self.listen(bus).await
    }

    async fn call_roll(&self) {
        let now = clock::now();
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

    /// Joins one of the framework's channels, once for all vibrators of this `Aether`.
    async fn join(self: &Arc<Self>, bus: &Bus, channel: &'static str) -> Result<(), JoinError> {
        let mut joined = self.joined.lock().await;
        let is_joined = if channel == ANNOUNCEMENTS { &mut joined.announcements } else { &mut joined.calls };
        if *is_joined {
            return Ok(());
        }
        let notices = match self.notices.get() {
            Some(notices) => Arc::clone(notices),
            None => {
                // These options are within bounds.
                let Ok(notices) = Inbox::new(self.notice_options()) else { return Err(JoinError::Closed) };
                Arc::clone(self.notices.get_or_init(|| Arc::new(notices)))
            }
        };
        let listener = Listener { hears_own: false, ..Listener::new(Arc::clone(&self.sequencer)) };
        // Kept as long as the `Aether`.
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

/// Reads a payload as announcements, and what was written of them again.
#[cfg(fuzzing)]
pub(crate) fn fuzz_announcements(payload: &[u8]) {
    let Some(read) = announcement::read(payload) else { return };
    let parts = announcement::write_all(&read);
    let again: Option<Vec<_>> = parts.iter().map(|part| announcement::read(part)).collect();
    assert!(again.is_some(), "what was written is read");
}

#[cfg(test)]
mod tests;
