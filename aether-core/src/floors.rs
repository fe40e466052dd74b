//! Who is there and what it hears: vibrators announce themselves, overloaded ones say what they cannot hear, and senders
//! who respect that do not send it. Ordinary terms: service discovery, and back-pressure by priority.
//!
//! One [`Floors`] for each `Aether`. Vibrators enter what they are tuned to and report evictions; emitters that respect
//! floors ask before they emit, and a [`Roster`] shows who is there. The rule of when a wave may be stopped is in
//! [`book`]; how announcements are written in [`announcement`]; the task that makes and takes them in [`attend`].
//! Receivers of one process are known to it at once. Those of others are known by what they announce: each when it is
//! tuned or detuned, when its floor changes by a level (at most four times a second, and each second while it is up),
//! when somebody calls the roll, every ten seconds or so, and when it goes.

mod announcement;
mod attend;
mod book;
mod roster;

use std::collections::{HashMap, HashSet};
use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock, Weak};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::runtime::Handle;
use tokio::sync::{Notify, watch};

use crate::amplitude::Floor;
use crate::bus::Bus;
use crate::channel::{Channel, Pattern};
use crate::clock::Instant;
use crate::inbox::{Inbox, InboxOptions, ShedReason, WhenFull};
use crate::medium::{JoinError, Medium};
use crate::router::{Heard, Listener};
use crate::source::{Sequencer, Source};
use crate::wave::{ContentType, Wave};
use announcement::{ANNOUNCEMENTS, CALLS};
use book::Book;

pub use announcement::Announcement;
pub use roster::Roster;

/// Answers to a roll call are waited for so long before any wave is stopped.
const SETTLE: Duration = Duration::from_secs(1);
/// While floors are up the roll is called so often, for those who came while a connection was broken.
const ROLL_EVERY: Duration = Duration::from_secs(10);
/// Messages with announcements that wait to be read. Who overflows it repeats itself within a second.
const MESSAGES: usize = 1024;

/// What is known of floors in one `Aether`.
pub(crate) struct Floors {
    book: Mutex<Book>,
    /// Whether any floor may be up: what emitters look at first.
    is_raised: AtomicBool,
    /// Waves that emitters of this `Aether` stopped.
    stopped: AtomicU64,
    ours: Mutex<Ours>,
    /// Tells the task that there is something to do.
    work: Notify,
    ended: watch::Sender<bool>,
    /// Counts the changes of what anybody hears, for rosters.
    changes: watch::Sender<u64>,
    /// The medium, if receivers can be in other processes.
    network: OnceLock<Weak<dyn Medium>>,
    /// Where the task is started: that of the network, or whichever there is.
    runtime: OnceLock<Handle>,
    ear: OnceLock<Arc<Inbox>>,
    /// Which of the framework's channels are heard; locked by whoever joins one.
    joined: tokio::sync::Mutex<Joined>,
    roll: Mutex<Roll>,
    sequencer: Arc<Sequencer>,
}

#[derive(Default)]
struct Joined {
    announcements: bool,
    calls: bool,
}

/// When the roll was called, for the first time and the last.
#[derive(Default)]
struct Roll {
    first: Option<Instant>,
    last: Option<Instant>,
}

/// The receivers of this process.
#[derive(Default)]
struct Ours {
    receivers: HashMap<u64, Receiver>,
    /// Those who have something new to say, or are gone.
    news: HashMap<u64, Announcement>,
    /// Those whose floor may be up.
    raised: HashSet<u64>,
    is_attended: bool,
    /// They have said goodbye, because the medium is about to be closed.
    are_gone: bool,
}

struct Receiver {
    source: Source,
    inbox: Arc<Inbox>,
    heard: Vec<Heard>,
    is_raised: Arc<AtomicBool>,
    advertised: Floor,
    /// When that was.
    since: Option<Instant>,
    /// Whether rosters show it.
    is_listed: bool,
    #[cfg(feature = "nats")]
    made_at: std::time::SystemTime,
}

impl Receiver {
    fn announcement(&self) -> Announcement {
        Announcement {
            vibrator: self.source.clone(),
            heard: self.heard.clone(),
            effective_floor: self.inbox.effective_floor(),
            floor: self.advertised,
            is_listed: self.is_listed,
        }
    }
}

impl Floors {
    pub(crate) fn new() -> Self {
        Self {
            book: Mutex::default(),
            is_raised: AtomicBool::new(false),
            stopped: AtomicU64::new(0),
            ours: Mutex::default(),
            work: Notify::new(),
            ended: watch::Sender::new(false),
            changes: watch::Sender::new(0),
            network: OnceLock::new(),
            runtime: OnceLock::new(),
            ear: OnceLock::new(),
            joined: tokio::sync::Mutex::default(),
            roll: Mutex::default(),
            sequencer: Arc::new(Sequencer::new(Source::framework())),
        }
    }

    /// Receivers are in other processes as well, and this medium knows the way.
    pub(crate) fn reach_over(&self, network: Weak<dyn Medium>) {
        let _ = self.network.set(network);
        if let Ok(runtime) = Handle::try_current() {
            let _ = self.runtime.set(runtime);
        }
    }

    pub(crate) fn end(&self) {
        self.ended.send_replace(true);
    }

    pub(crate) fn stopped(&self) -> u64 {
        self.stopped.load(Ordering::Relaxed)
    }

    /// The floor that stops a wave of this age at its source, if one does.
    pub(crate) fn stop(&self, wave: &Wave, age: impl FnOnce() -> Duration) -> Option<Floor> {
        if !self.is_raised.load(Ordering::Relaxed) {
            return None;
        }
        let floor = self.floor_of(wave.channel(), Instant::now());
        let stops = !floor.is_open() && !wave.signal().audible(age(), floor);
        self.stopped.fetch_add(u64::from(stops), Ordering::Relaxed);
        stops.then_some(floor)
    }

    fn floor_of(&self, channel: &Channel, now: Instant) -> Floor {
        if self.network.get().is_some() {
            // Until everybody has had the time to say what they hear nobody's floor counts.
            let first = self.roll.lock().first;
            if first.is_none_or(|first| now.saturating_duration_since(first) < SETTLE) {
                return Floor::OPEN;
            }
        }
        let mut book = self.book.lock();
        let floor = book.floor_of(channel, now);
        if floor.is_open() && !book.is_raised(now) {
            self.is_raised.store(false, Ordering::Relaxed);
        }
        floor
    }

    /// Enters what a receiver hears into the book.
    fn enter(&self, announced: Announcement, is_ours: bool) {
        let is_raised = !announced.floor.is_open();
        if self.book.lock().enter(announced, is_ours, Instant::now()) {
            self.changes.send_modify(|changes| *changes += 1);
        }
        if is_raised {
            self.is_raised.store(true, Ordering::Relaxed);
        }
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
        let mut ours = self.ours.lock();
        if ours.receivers.contains_key(&instance) {
            ours.raised.insert(instance);
            self.attend(ours);
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
        let receiver = Receiver {
            source: source.clone(),
            inbox: Arc::clone(inbox),
            heard: Vec::new(),
            is_raised,
            advertised: Floor::OPEN,
            since: None,
            is_listed,
            #[cfg(feature = "nats")]
            made_at: std::time::SystemTime::now(),
        };
        self.ours.lock().receivers.insert(source.instance(), receiver);
    }

    /// It is gone.
    pub(crate) fn close(self: &Arc<Self>, instance: u64) {
        self.tune(instance, Vec::new());
        self.ours.lock().receivers.remove(&instance);
    }

    /// It hears these patterns from now on. The others are told by the task.
    pub(crate) fn tune(self: &Arc<Self>, instance: u64, heard: Vec<Heard>) {
        if let Some(announcement) = self.enter_ours(instance, heard)
            && self.network.get().is_some()
        {
            let mut ours = self.ours.lock();
            ours.news.insert(instance, announcement);
            self.attend(ours);
        }
    }

    /// The same, and returns when it has been told: so that no sender stops what the receiver is to hear.
    pub(crate) async fn tune_and_tell(self: &Arc<Self>, bus: &Bus, instance: u64, heard: Vec<Heard>) {
        if self.network.get().is_some() {
            // Fails when the medium is closed; then the join that this is for fails as well.
            let _ = self.join(bus, CALLS).await;
        }
        if let Some(announcement) = self.enter_ours(instance, heard) {
            self.tell(&[announcement]).await;
        }
    }

    /// Enters what one of our receivers hears, if that is something new.
    fn enter_ours(&self, instance: u64, heard: Vec<Heard>) -> Option<Announcement> {
        let mut ours = self.ours.lock();
        let receiver = ours.receivers.get_mut(&instance)?;
        if receiver.heard == heard {
            return None;
        }
        receiver.heard = heard;
        let announcement = receiver.announcement();
        self.enter(announcement.clone(), true);
        Some(announcement)
    }

    /// Publishes announcements. Cancelled, they may have been told or not; they are repeated when the roll is called.
    async fn tell(&self, announcements: &[Announcement]) {
        let payloads = announcement::write_all(announcements).into_iter();
        self.send(payloads.filter_map(|payload| self.notice(ANNOUNCEMENTS, payload)).collect()).await;
    }

    /// Says goodbye for all receivers of this process. Nothing is announced afterwards.
    pub(crate) async fn leave(&self) {
        let farewells: Vec<_> = {
            let mut ours = self.ours.lock();
            ours.are_gone = true;
            let news: Vec<_> = ours.news.drain().map(|(_, announcement)| announcement).collect();
            let tuned = ours.receivers.values().filter(|receiver| !receiver.heard.is_empty());
            tuned.map(Receiver::announcement).chain(news).map(|announced| announced.farewell()).collect()
        };
        self.tell(&farewells).await;
    }

    /// Sends notices, if there is a network, and for as long as there is the `Aether`.
    async fn send(&self, notices: Vec<Wave>) {
        if let Some(network) = self.network.get().and_then(Weak::upgrade)
            && !notices.is_empty()
        {
            let mut ended = self.ended.subscribe();
            tokio::select! {
                _ = network.tell(notices) => {}
                _ = ended.wait_for(|ended| *ended) => {}
            }
        }
    }

    fn notice(&self, channel: &str, payload: Vec<u8>) -> Option<Wave> {
        let channel = Channel::with_reserved(channel).ok()?;
        Some(Wave::plain(channel, payload.into(), ContentType::Json).noticed(&self.sequencer))
    }

    /// Hears the announcements of other processes from now on and asks for those there are.
    pub(crate) async fn listen(self: &Arc<Self>, bus: &Bus) -> Result<(), JoinError> {
        if self.network.get().is_some() {
            self.join(bus, ANNOUNCEMENTS).await?;
            self.call_roll().await;
        }
        Ok(())
    }

    async fn call_roll(&self) {
        let now = Instant::now();
        {
            let mut roll = self.roll.lock();
            if roll.last.is_some_and(|last| now.saturating_duration_since(last) < ROLL_EVERY) {
                return;
            }
            roll.first.get_or_insert(now);
            roll.last = Some(now);
        }
        self.book.lock().call();
        self.send(self.notice(CALLS, b"[]".to_vec()).into_iter().collect()).await;
    }

    /// Hears one of the framework's channels, once for all vibrators of this `Aether`.
    async fn join(self: &Arc<Self>, bus: &Bus, channel: &'static str) -> Result<(), JoinError> {
        let mut joined = self.joined.lock().await;
        let is_joined = if channel == ANNOUNCEMENTS { &mut joined.announcements } else { &mut joined.calls };
        if *is_joined {
            return Ok(());
        }
        let ear = match self.ear.get() {
            Some(ear) => Arc::clone(ear),
            None => {
                let options = InboxOptions::default().max_waves(MESSAGES).when_full(WhenFull::Shed);
                // These options are within their bounds.
                let Ok(ear) = Inbox::new(options) else { return Err(JoinError::Closed) };
                Arc::clone(self.ear.get_or_init(|| Arc::new(ear)))
            }
        };
        let listener = Listener {
            sequencer: Arc::clone(&self.sequencer),
            hears_own: false,
            observes: false,
            relabel: None,
        };
        // For as long as there is the `Aether`.
        bus.join(Pattern::new(channel)?, ear, listener).await?.keep();
        *is_joined = true;
        self.attend(self.ours.lock());
        Ok(())
    }
}

impl fmt::Debug for Floors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Floors").field("stopped", &self.stopped()).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
