//! Advertised floors: overloaded receivers say what they cannot hear, and senders who respect that do not send it.
//! Ordinary term: back-pressure by priority.
//!
//! One [`Floors`] for each `Aether`. Vibrators enter what they are tuned to and report evictions; emitters that respect
//! floors ask before they emit. The rule of when a wave may be stopped is in [`book`]; how adverts are written in
//! [`advert`]; the task that makes and takes them in [`attend`]. Receivers of one process are known to it at once.
//! Those of others are known by what they advertise: each when it is tuned or detuned, when its floor changes by a level
//! (at most four times a second, and each second while it is up), and when a sender calls the roll.

mod advert;
mod attend;
mod book;

use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock, Weak};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::{Notify, watch};

use crate::aether::Aether;
use crate::amplitude::Floor;
use crate::channel::{Channel, Pattern};
use crate::clock::Instant;
use crate::inbox::{Inbox, InboxOptions, ShedReason, WhenFull};
use crate::medium::{JoinError, Medium};
use crate::router::Listener;
use crate::source::{Sequencer, Source};
use crate::wave::{ContentType, Wave};
use advert::{ADVERTS, Advert, CALLS};
use book::Book;

/// Answers to a roll call are waited for so long before any wave is stopped.
const SETTLE: Duration = Duration::from_secs(1);
/// While floors are up the roll is called so often, for those who came while a connection was broken.
const ROLL_EVERY: Duration = Duration::from_secs(10);
/// Messages with adverts that wait to be read. Who overflows it repeats itself within a second.
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
    /// The medium, if receivers can be in other processes.
    network: OnceLock<Weak<dyn Medium>>,
    ear: OnceLock<Arc<Inbox>>,
    /// Which of the framework's channels are heard; locked by whoever joins one.
    joined: tokio::sync::Mutex<Joined>,
    roll: Mutex<Roll>,
    sequencer: Arc<Sequencer>,
}

#[derive(Default)]
struct Joined {
    adverts: bool,
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
    news: HashMap<u64, Advert>,
    /// Those whose floor may be up.
    raised: HashSet<u64>,
    is_attended: bool,
}

struct Receiver {
    source: Source,
    inbox: Arc<Inbox>,
    patterns: Vec<Pattern>,
    is_raised: Arc<AtomicBool>,
    advertised: Floor,
    /// When that was.
    since: Option<Instant>,
}

impl Receiver {
    fn advert(&self) -> Advert {
        Advert { receiver: self.source.clone(), patterns: self.patterns.clone(), floor: self.advertised }
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
            network: OnceLock::new(),
            ear: OnceLock::new(),
            joined: tokio::sync::Mutex::default(),
            roll: Mutex::default(),
            sequencer: Arc::new(Sequencer::new(Source::framework())),
        }
    }

    /// Receivers are in other processes as well, and this medium knows the way.
    pub(crate) fn reach_over(&self, network: Weak<dyn Medium>) {
        let _ = self.network.set(network);
    }

    pub(crate) fn end(&self) {
        self.ended.send_replace(true);
    }

    pub(crate) fn stopped(&self) -> u64 {
        self.stopped.load(Ordering::Relaxed)
    }

    /// The floor that stops a wave at its source, if one does.
    pub(crate) fn stop(&self, wave: &Wave) -> Option<Floor> {
        if !self.is_raised.load(Ordering::Relaxed) {
            return None;
        }
        let floor = self.floor_of(wave.channel(), Instant::now());
        let stops = !wave.audible_at(Instant::now, floor);
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
    fn enter(&self, advert: &Advert, is_ours: bool) {
        let mut book = self.book.lock();
        let (instance, patterns) = (advert.receiver.instance(), advert.patterns.clone());
        book.enter(instance, patterns, advert.floor, is_ours, Instant::now());
        if !advert.floor.is_open() {
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
            self.attend(&mut ours);
        }
    }

    /// A vibrator was made that receives.
    pub(crate) fn open(&self, source: &Source, inbox: &Arc<Inbox>, is_raised: Arc<AtomicBool>) {
        let receiver = Receiver {
            source: source.clone(),
            inbox: Arc::clone(inbox),
            patterns: Vec::new(),
            is_raised,
            advertised: Floor::OPEN,
            since: None,
        };
        self.ours.lock().receivers.insert(source.instance(), receiver);
    }

    /// It is gone.
    pub(crate) fn close(self: &Arc<Self>, instance: u64) {
        self.tune(instance, Vec::new());
        self.ours.lock().receivers.remove(&instance);
    }

    /// It hears these patterns from now on. The others are told by the task.
    pub(crate) fn tune(self: &Arc<Self>, instance: u64, patterns: Vec<Pattern>) {
        if let Some(advert) = self.enter_ours(instance, patterns)
            && self.network.get().is_some()
        {
            let mut ours = self.ours.lock();
            ours.news.insert(instance, advert);
            self.attend(&mut ours);
        }
    }

    /// The same, and returns when it has been told: so that no sender stops what the receiver is to hear.
    pub(crate) async fn tune_and_tell(
        self: &Arc<Self>,
        aether: &Aether,
        instance: u64,
        patterns: Vec<Pattern>,
    ) {
        if self.network.get().is_some() {
            // Fails when the medium is closed; then the join that this is for fails as well.
            let _ = self.join(aether, CALLS).await;
        }
        if let Some(advert) = self.enter_ours(instance, patterns) {
            self.tell(&[advert]).await;
        }
    }

    /// Enters what one of our receivers hears, if that is something new.
    fn enter_ours(&self, instance: u64, patterns: Vec<Pattern>) -> Option<Advert> {
        let mut ours = self.ours.lock();
        let receiver = ours.receivers.get_mut(&instance)?;
        if receiver.patterns == patterns {
            return None;
        }
        receiver.patterns = patterns;
        let advert = receiver.advert();
        self.enter(&advert, true);
        Some(advert)
    }

    /// Publishes adverts. Cancelled, they may have been told or not; they are repeated when the roll is called.
    async fn tell(&self, adverts: &[Advert]) {
        /// So that a message stays below what any server takes.
        const IN_A_MESSAGE: usize = 32;
        let notices =
            adverts.chunks(IN_A_MESSAGE).filter_map(|some| self.notice(ADVERTS, advert::write(some)));
        self.send(notices.collect()).await;
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

    /// Begins to respect floors: hears the adverts of other processes and asks for those there are.
    pub(crate) async fn respect(self: &Arc<Self>, aether: &Aether) -> Result<(), JoinError> {
        if self.network.get().is_some() {
            self.join(aether, ADVERTS).await?;
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
    async fn join(self: &Arc<Self>, aether: &Aether, channel: &'static str) -> Result<(), JoinError> {
        let mut joined = self.joined.lock().await;
        let is_joined = if channel == ADVERTS { &mut joined.adverts } else { &mut joined.calls };
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
            tuned: None,
        };
        let subscription = aether.router().subscribe(Pattern::new(channel)?, None, ear, listener);
        let joining = Joining { aether, subscription: Some(Arc::clone(&subscription)) };
        aether.medium().join(subscription).await?;
        joining.stays();
        *is_joined = true;
        self.attend(&mut self.ours.lock());
        Ok(())
    }
}

/// A subscription that is taken back unless it is done.
struct Joining<'a> {
    aether: &'a Aether,
    subscription: Option<Arc<crate::router::Subscription>>,
}

impl Joining<'_> {
    /// For as long as there is the `Aether`.
    fn stays(mut self) {
        self.subscription = None;
    }
}

impl Drop for Joining<'_> {
    fn drop(&mut self) {
        if let Some(subscription) = &self.subscription {
            self.aether.router().unsubscribe(subscription);
            self.aether.medium().leave(subscription);
        }
    }
}

#[cfg(test)]
mod tests;
