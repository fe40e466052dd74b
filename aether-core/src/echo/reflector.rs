//! The reflector: takes the failures of one `Aether` and tells their sources, or keeps the waves as dead letters.
//!
//! Called where a wave is lost, outside of all locks and in whatever task caused the loss: by the router, the inboxes,
//! the outbox, and by [`Emitter::reflect`](crate::Emitter::reflect). A source in this process is told at once. What is
//! for others waits in one queue a source, and one task tells them, a message for each source and a pause between the
//! messages: the first failure is told at once, a storm of them is merged. The task ends when nothing is left to tell.

use std::collections::{HashMap, HashSet, VecDeque};
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock, Weak};
use std::time::Duration;

use parking_lot::{Mutex, RwLock};
use tokio::sync::Notify;

use super::coalescing_queue::CoalescingQueue;
use super::{DeadLetters, Echo, EchoMailbox, EchoReason, channel_of, write};
use crate::background::{Background, Claim};
use crate::inbox::{InboxOptions, ShedReason};
use crate::medium::{Medium, Reach};
use crate::source::{Sequencer, Source};
use crate::wave::{ContentType, Wave};

/// At most so many sources wait to be told at a time, with so many echoes apart from each other for each of them.
const MAX_SOURCES: usize = 256;
const KEPT_APART: usize = 16;
/// The most bytes of waves that are kept until it is known whether their source is there.
const MAX_BYTES: usize = 8 << 20;
/// A source is told so often at most. What fails meanwhile is merged: at 100 messages a second a storm of failures
/// costs less than the work that failed.
const PAUSE: Duration = Duration::from_millis(10);
/// An echo of so many failures that its source might not believe it is told as so many echoes at most.
const MAX_PARTS: u64 = 64;
/// How many failures reported by hand are remembered, so that none is reported twice.
const REMEMBERED: usize = 1024;

/// The account of the failures of one [`Aether`](crate::Aether), in waves:
/// `reflected = told + buried + left_to_asker + unconfirmed + pending`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct EchoLedger {
    /// Failures of waves that are reflected: one for each receiver or group that failed.
    pub reflected: u64,
    /// Those whose source was told: it is in this process, or the broker knows that it listens.
    pub told: u64,
    /// Those that came to the dead letters, as nobody at the source listens.
    pub buried: u64,
    /// Those of questions of which nobody at the source listens for echoes: the asker learns it from `ask`.
    pub left_to_asker: u64,
    /// Those that were under way when the connection broke, or the runtime ended: told or not.
    pub unconfirmed: u64,
    /// Those that wait to be told.
    pub pending: u64,
    /// Echoes that sources of this process were sent and that cannot be: of waves that the source never emitted, of more
    /// failures than it has emitted waves, or malformed. They are in no other count.
    pub refused: u64,
}

impl EchoLedger {
    /// Whether every failure is accounted for. Always true; what tests assert.
    #[must_use]
    pub const fn adds_up(&self) -> bool {
        self.reflected == self.told + self.buried + self.left_to_asker + self.unconfirmed + self.pending
    }
}

/// The failures of one `Aether`.
pub(crate) struct Reflector {
    /// The sources of this process that listen, by their instance.
    mailboxes: RwLock<HashMap<u64, Arc<EchoMailbox>>>,
    state: Mutex<ReflectorState>,
    letters: DeadLetters,
    /// The medium, if sources can be in other processes.
    network: OnceLock<Weak<dyn Medium>>,
    /// Numbers the messages with echoes.
    sequencer: Sequencer,
    /// The task that tells sources in other processes. Claimed and released under the lock of `state`.
    background: Background,
    /// Told whenever nothing is left to tell.
    settled: Notify,
    /// Echoes that the mailboxes did not take.
    refused: Arc<AtomicU64>,
}

#[derive(Default)]
struct ReflectorState {
    pending: HashMap<u64, Pending>,
    /// The weight of the waves in `pending`.
    bytes: usize,
    ledger: EchoLedger,
    by_hand: ByHand,
}

/// What one source is to be told.
struct Pending {
    /// With the waves, as far as there was room.
    emitted: CoalescingQueue<Option<Wave>>,
    asked: CoalescingQueue<()>,
    /// The highest number of those waves: so many has the source emitted at least.
    latest: u64,
}

/// The failures reported by hand lately: who reported, and of which wave.
#[derive(Default)]
struct ByHand {
    order: VecDeque<(u64, u64, u64)>,
    known: HashSet<(u64, u64, u64)>,
}

impl ByHand {
    fn is_new(&mut self, failure: (u64, u64, u64)) -> bool {
        let is_new = self.known.insert(failure);
        if is_new {
            self.order.push_back(failure);
            if self.order.len() > REMEMBERED
                && let Some(oldest) = self.order.pop_front()
            {
                self.known.remove(&oldest);
            }
        }
        is_new
    }
}

impl Reflector {
    pub(crate) fn new() -> Self {
        Self {
            mailboxes: RwLock::default(),
            state: Mutex::default(),
            letters: DeadLetters::default(),
            network: OnceLock::new(),
            sequencer: Sequencer::new(Source::framework()),
            background: Background::default(),
            settled: Notify::new(),
            refused: Arc::default(),
        }
    }

    /// Sources are in other processes as well, and this medium knows the way.
    pub(crate) fn reach_over(&self, network: Weak<dyn Medium>) {
        let _ = self.network.set(network);
    }

    /// Remembers the runtime of the caller, if there is one: failures may happen in one that ends soon.
    pub(crate) fn note_runtime(&self) {
        self.background.note_runtime();
    }

    /// Enters a source's mailbox, unless it has one.
    pub(super) fn open(&self, mailbox: &Arc<EchoMailbox>) -> bool {
        let mut mailboxes = self.mailboxes.write();
        let is_first = !mailboxes.contains_key(&mailbox.instance());
        if is_first {
            mailboxes.insert(mailbox.instance(), Arc::clone(mailbox));
        }
        is_first
    }

    pub(super) fn shut(&self, mailbox: &Arc<EchoMailbox>) {
        let mut mailboxes = self.mailboxes.write();
        if mailboxes.get(&mailbox.instance()).is_some_and(|other| Arc::ptr_eq(other, mailbox)) {
            mailboxes.remove(&mailbox.instance());
        }
    }

    /// What was told can still be received, nothing more comes.
    pub(crate) fn close(&self) {
        for mailbox in self.mailboxes.write().drain() {
            mailbox.1.close();
        }
    }

    /// Nobody is left who could be told or look: gives up what waits.
    pub(crate) fn end(&self) {
        self.background.end();
    }

    pub(crate) fn letters(&self) -> &DeadLetters {
        &self.letters
    }

    pub(crate) fn ledger(&self) -> EchoLedger {
        let refused = self.refused.load(Ordering::Relaxed);
        EchoLedger { refused, ..self.state.lock().ledger }
    }

    /// Where mailboxes count what they do not take.
    pub(super) fn refused(&self) -> Arc<AtomicU64> {
        Arc::clone(&self.refused)
    }

    /// A wave that failed, of whatever kind: those that are not reflected are left alone.
    pub(crate) fn reflect(self: &Arc<Self>, wave: &Wave, reason: EchoReason, hint: &str, by: &str) {
        if !wave.reflects() {
            return;
        }
        let mailbox = self.mailboxes.read().get(&wave.source().instance()).cloned();
        if let Some(mailbox) = mailbox {
            {
                let ledger = &mut self.state.lock().ledger;
                ledger.reflected += 1;
                ledger.told += 1;
            }
            mailbox.hear(wave, reason, hint, by);
        } else if self.network.get().is_none() || !self.pend(wave, reason, hint, by) {
            self.give_up(wave, reason, hint, by);
        }
    }

    /// The same, reported by a vibrator, which may do so once for each wave.
    pub(crate) fn reflect_by_hand(
        self: &Arc<Self>,
        wave: &Wave,
        reason: EchoReason,
        hint: &str,
        by: &Source,
    ) {
        let failure = (by.instance(), wave.source().instance(), wave.sequence());
        if wave.reflects() && self.state.lock().by_hand.is_new(failure) {
            self.reflect(wave, reason, hint, by.name());
        }
    }

    /// The source is not here and cannot be elsewhere, or too many others wait.
    fn give_up(&self, wave: &Wave, reason: EchoReason, hint: &str, by: &str) {
        {
            let ledger = &mut self.state.lock().ledger;
            ledger.reflected += 1;
            *(if wave.is_question() { &mut ledger.left_to_asker } else { &mut ledger.buried }) += 1;
        }
        if !wave.is_question() {
            self.letters.bury(wave, reason, hint, by);
        }
    }

    /// Puts it with what is to be told, if there is room for one more source.
    fn pend(self: &Arc<Self>, wave: &Wave, reason: EchoReason, hint: &str, by: &str) -> bool {
        let start = {
            let mut state = self.state.lock();
            let ReflectorState { pending, bytes, ledger, .. } = &mut *state;
            let instance = wave.source().instance();
            if pending.len() >= MAX_SOURCES && !pending.contains_key(&instance) {
                return false;
            }
            let pending = pending.entry(instance).or_insert_with(|| Pending {
                emitted: CoalescingQueue::new(KEPT_APART),
                asked: CoalescingQueue::new(KEPT_APART),
                latest: 0,
            });
            pending.latest = pending.latest.max(wave.sequence());
            ledger.reflected += 1;
            ledger.pending += 1;
            if wave.is_question() {
                // Without the wave, which would hold its asker.
                pending.asked.add(reason, 1, || (Echo::new(wave, reason, hint, by), ()));
            } else {
                pending.emitted.add(reason, 1, || {
                    let fits = *bytes + wave.weight() <= MAX_BYTES;
                    *bytes += if fits { wave.weight() } else { 0 };
                    (Echo::new(wave, reason, hint, by), fits.then(|| wave.clone()))
                });
            }
            self.background.claim()
        };
        if let Claim::Start(runtime) = start {
            let telling = Delivery { reflector: Arc::clone(self), batch: Vec::new(), is_over: false };
            runtime.spawn(telling.run());
        }
        true
    }

    /// All that one source is told now, as one wave on its channel.
    fn notice(&self, of: u64, pending: &Pending) -> Option<Wave> {
        let emitted = pending.emitted.iter().map(|(echo, _)| echo);
        let echoes = emitted.chain(pending.asked.iter().map(|(echo, ())| echo));
        // Several receivers may fail at each wave: then it takes several echoes to say so.
        let believable: Vec<_> = echoes.flat_map(|echo| parts(echo, pending.latest)).collect();
        let payload = write(&believable);
        // The name is made of a number: it is always valid.
        let wave = Wave::plain(channel_of(of).ok()?, payload.into(), ContentType::Json);
        Some(wave.noticed(&self.sequencer))
    }

    fn settle(&self, pending: Pending, reach: Reach) {
        let Pending { emitted, asked, .. } = pending;
        let asked: u64 = asked.iter().map(|(echo, ())| echo.count).sum();
        let all: u64 = emitted.iter().map(|(echo, _)| echo.count).sum();
        {
            let mut state = self.state.lock();
            state.bytes -=
                emitted.iter().filter_map(|(_, wave)| wave.as_ref()).map(Wave::weight).sum::<usize>();
            let ledger = &mut state.ledger;
            ledger.pending -= all + asked;
            match reach {
                Reach::Heard => ledger.told += all + asked,
                Reach::Unknown => ledger.unconfirmed += all + asked,
                Reach::Nobody | Reach::Unsent => {
                    ledger.buried += all;
                    ledger.left_to_asker += asked;
                }
            }
        }
        if matches!(reach, Reach::Nobody | Reach::Unsent) {
            for (echo, wave) in emitted.into_entries() {
                let kept = wave.map_or(0, |wave| {
                    self.letters.bury(&wave, echo.reason, &echo.hint, &echo.by);
                    1
                });
                self.letters.count_merged(echo.count - kept);
            }
        }
        self.settled.notify_waiters();
    }

    /// Waits until everything that failed so far was told or buried.
    pub(crate) async fn settled(&self) {
        loop {
            let settled = self.settled.notified();
            tokio::pin!(settled);
            // Registered before the look, so that nothing is missed in between.
            settled.as_mut().enable();
            if self.state.lock().ledger.pending == 0 {
                return;
            }
            settled.await;
        }
    }
}

impl fmt::Debug for Reflector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reflector").field("ledger", &self.ledger()).finish_non_exhaustive()
    }
}

/// An echo as echoes of which none stands for more failures than its source is known to have emitted waves, as far as
/// [`MAX_PARTS`] of them are enough.
fn parts(echo: &Echo, emitted: u64) -> impl Iterator<Item = Echo> + use<> {
    let (echo, most) = (echo.clone(), emitted.max(echo.count.div_ceil(MAX_PARTS)).max(1));
    let whole = std::iter::repeat_n(most, usize::try_from(echo.count / most).unwrap_or(usize::MAX));
    let counts = whole.chain(Some(echo.count % most).filter(|rest| *rest > 0));
    counts.map(move |count| Echo { count, ..echo.clone() })
}

/// The one task. Dropped in the middle, with the runtime that it was in, it leaves the rest to the next one.
struct Delivery {
    reflector: Arc<Reflector>,
    /// What is being told.
    batch: Vec<(u64, Pending)>,
    is_over: bool,
}

impl Delivery {
    /// Tells until nothing is left.
    async fn run(mut self) {
        let reflector = Arc::clone(&self.reflector);
        while self.takes_batch() {
            let notices: Vec<_> =
                self.batch.iter().filter_map(|(of, pending)| reflector.notice(*of, pending)).collect();
            let tell = async {
                match reflector.network.get().and_then(Weak::upgrade) {
                    Some(medium) => medium.tell(notices).await,
                    None => Vec::new(),
                }
            };
            let reaches = tokio::select! {
                reaches = tell => reaches,
                () = reflector.background.ended() => Vec::new(),
            };
            // What the medium does not speak of was not sent.
            let reaches = reaches.into_iter().chain(std::iter::repeat(Reach::Unsent));
            for ((_, pending), reach) in self.batch.drain(..).zip(reaches) {
                reflector.settle(pending, reach);
            }
            tokio::time::sleep(PAUSE).await;
        }
    }

    fn takes_batch(&mut self) -> bool {
        let mut state = self.reflector.state.lock();
        if state.pending.is_empty() {
            self.reflector.background.release();
            self.is_over = true;
        }
        self.batch.extend(state.pending.drain());
        !self.is_over
    }
}

impl Drop for Delivery {
    fn drop(&mut self) {
        if self.is_over {
            return;
        }
        {
            let _state = self.reflector.state.lock();
            self.reflector.background.release();
        }
        for (_, pending) in self.batch.drain(..) {
            self.reflector.settle(pending, Reach::Unknown);
        }
    }
}

/// The options of a queue whose losses are reflected. `by` names the vibrator, or nobody where it is the outbox.
pub(crate) fn reflecting(options: InboxOptions, reflector: &Arc<Reflector>, by: &str) -> InboxOptions {
    let (reflector, by) = (Arc::clone(reflector), by.to_owned());
    options.also_on_shed(move |wave, reason| {
        let (reason, hint) = match reason {
            ShedReason::Full => (EchoReason::Shed, "the queue was full"),
            ShedReason::BelowFloor => (EchoReason::Shed, "below the noise floor"),
            ShedReason::Sojourn => (EchoReason::Shed, "waited longer than the sojourn cap"),
            ShedReason::Expired => (EchoReason::Expired, "decayed below the noise floor while it waited"),
            ShedReason::Closed => (EchoReason::Shed, "the receiver went away"),
            ShedReason::Unsendable => (EchoReason::Shed, "the medium could not take it"),
        };
        reflector.reflect(wave, reason, hint, &by);
    })
}

#[cfg(test)]
mod tests;
