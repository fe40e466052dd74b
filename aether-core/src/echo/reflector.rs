//! The reflector: takes the failures of one `Aether` and notifies their sources, or keeps the waves as dead letters.
//!
//! Called where a wave is lost, outside of all locks and in the task that caused the loss: by the router, the inboxes,
//! the outbox, and by [`Emitter::reflect`](crate::Emitter::reflect). A source in this process is notified at once. Each
//! remote source has a queue. One task sends a message per source and pauses between messages, so the first failure is
//! reported at once and a storm of failures is merged. The task ends when the queues are empty.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock, Weak};
use std::time::Duration;

use parking_lot::{Mutex, RwLock};
use tokio::sync::Notify;

use super::mailbox::CoalescingQueue;
use super::{DeadLetters, Echo, EchoMailbox, EchoReason, FailedWave, channel_of, write};
use crate::background::{Background, Claim};
use crate::inbox::{InboxOptions, ShedReason};
use crate::medium::{Medium, Reach};
use crate::proof::ShareSizes;
use crate::source::{Sequencer, Source};
use crate::wave::{ContentType, Wave};

/// Bounds of the queues: the number of sources, and of separate echoes for each of them.
const MAX_SOURCES: usize = 256;
const KEPT_APART: usize = 16;
/// The bound of the waves kept until their source is known to be present, in bytes. A principal has at most as much
/// of it as is free, so one alone has half, and whoever comes next finds room.
const MAX_BYTES: usize = 16 << 20;
/// The maximum size of what the echoes of one message carry of their waves, in bytes, and never more than a quarter of
/// the largest message of the medium.
const MAX_CARRIED: usize = 256 << 10;
/// The shortest time between two messages to a source. Failures in between are merged: at 100 messages a second,
/// reporting a storm of failures costs less than the work that failed.
const PAUSE: Duration = Duration::from_millis(10);
/// The maximum number of echoes into which one is split if it reports more failures than its source would believe.
const MAX_PARTS: u64 = 64;
/// How many manually reported failures are remembered, to reject duplicates.
const REMEMBERED: usize = 1024;

/// The counts of the failures of one [`Aether`](crate::Aether), in waves: `reflected = echoed + buried + left_to_asker +
/// unconfirmed + pending`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct EchoLedger {
    /// Failures of reflected waves: one for each receiver or group that failed.
    pub reflected: u64,
    /// Failures whose source was notified: it is in this process, or the broker confirms that it subscribes.
    pub echoed: u64,
    /// Failures that became dead letters because the source does not listen for echoes. Letters that are kept although
    /// the source received an echo are in [`DeadLetterCounts`](super::DeadLetterCounts) alone.
    pub buried: u64,
    /// Failures of questions whose source does not listen for echoes: `ask` reports them to the asker.
    pub left_to_asker: u64,
    /// Failures being sent when the connection broke or the runtime ended; whether they arrived is unknown. With keys also
    /// waves and failures of which it was reported that nobody hears them, which could not be verified.
    pub unconfirmed: u64,
    /// Failures waiting to be sent.
    pub pending: u64,
    /// Impossible echoes received by sources of this process: of waves that the source never emitted, of more failures
    /// than it has emitted waves, malformed, or in a name that their signer may not use. Included in no other count.
    pub refused: u64,
}

impl EchoLedger {
    /// Whether every failure is accounted for. Always true; for assertions in tests.
    #[must_use]
    pub const fn adds_up(&self) -> bool {
        self.reflected == self.echoed + self.buried + self.left_to_asker + self.unconfirmed + self.pending
    }
}

/// The failures of one `Aether`.
pub(crate) struct Reflector {
    /// The listening sources of this process, by instance.
    mailboxes: RwLock<HashMap<u64, Arc<EchoMailbox>>>,
    state: Mutex<ReflectorState>,
    letters: DeadLetters,
    /// The medium, if sources can be in other processes.
    network: OnceLock<Weak<dyn Medium>>,
    /// Numbers the messages that carry echoes.
    sequencer: Sequencer,
    /// The task that notifies sources in other processes. Claimed and released under the lock of `state`.
    background: Background,
    /// Notified whenever the queues are empty.
    settled: Notify,
    /// Echoes refused by mailboxes.
    refused: Arc<AtomicU64>,
}

#[derive(Default)]
struct ReflectorState {
    pending: BTreeMap<u64, Pending>,
    /// How many of these sources each principal has.
    sources: ShareSizes,
    /// The total weight of the waves in `pending`.
    bytes: usize,
    /// The weight of the waves of each principal.
    weights: ShareSizes,
    ledger: EchoLedger,
    handmade: ByHand,
}

/// The queue of one remote source.
struct Pending {
    emitted: CoalescingQueue<Failed>,
    asked: CoalescingQueue<Failed>,
    /// The highest number among those waves, a lower bound on the waves emitted by the source.
    latest: u64,
    /// The principal of the first wave.
    principal: u64,
}

/// The entry that is queued with an echo.
struct Failed {
    /// The wave, if there was room for it.
    wave: Option<Wave>,
    /// Whether the wave is a dead letter already.
    is_kept: bool,
    /// The number of its failures that are dead letters already, including the failure of the wave.
    letters: u64,
}

/// Recent manual reports: the reporter and the wave.
#[derive(Default)]
struct ByHand(VecDeque<(u64, u64, u64)>);

impl ByHand {
    fn is_new(&mut self, failure: (u64, u64, u64)) -> bool {
        let is_new = !self.0.contains(&failure);
        if is_new {
            self.0.push_back(failure);
            if self.0.len() > REMEMBERED {
                self.0.pop_front();
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

    /// Sets the medium through which sources in other processes are reached.
    pub(crate) fn reach_over(&self, network: Weak<dyn Medium>) {
        let _ = self.network.set(network);
    }

    /// Remembers the caller's runtime, if there is one: failures may happen in one that ends soon.
    pub(crate) fn note_runtime(&self) {
        self.background.note_runtime();
    }

    /// Registers a source's mailbox, unless it has one.
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

    /// Closes the mailboxes; queued echoes can still be received.
    pub(crate) fn close(&self) {
        let mut mailboxes: Vec<_> = self.mailboxes.write().drain().collect();
        // In the same order in each run, because closing wakes listeners.
        mailboxes.sort_unstable_by_key(|(instance, _)| *instance);
        for (_, mailbox) in mailboxes {
            mailbox.close();
        }
    }

    /// Gives up the queued failures, because the last handle is gone.
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

    /// The counter of refused echoes, for mailboxes.
    pub(super) fn refused(&self) -> Arc<AtomicU64> {
        Arc::clone(&self.refused)
    }

    /// Reports a failed wave of any kind; kinds that are not reflected are ignored.
    pub(crate) fn reflect(self: &Arc<Self>, wave: &Wave, reason: EchoReason, hint: &str, by: &str) {
        if !wave.reflects() {
            return;
        }
        let mailbox = self.mailboxes.read().get(&wave.source().instance()).cloned();
        let is_kept = self.letters.keeps_echoed(wave);
        if let Some(mailbox) = mailbox {
            if is_kept {
                self.letters.bury(wave, reason, hint, by);
            }
            {
                let ledger = &mut self.state.lock().ledger;
                ledger.reflected += 1;
                ledger.echoed += 1;
            }
            mailbox.hear(wave, reason, hint, by);
        } else if self.network.get().is_none() || !self.pend(wave, reason, hint, by, is_kept) {
            self.give_up(wave, reason, hint, by);
        }
    }

    /// Counts a wave that may have failed. Its source is not told, because it may have been received.
    pub(crate) fn count_unconfirmed(&self, wave: &Wave) {
        if wave.reflects() {
            let ledger = &mut self.state.lock().ledger;
            ledger.reflected += 1;
            ledger.unconfirmed += 1;
        }
    }

    /// Like [`Reflector::reflect`], for a report by a vibrator, which is accepted once for each wave.
    pub(crate) fn reflect_by_hand(
        self: &Arc<Self>,
        wave: &Wave,
        reason: EchoReason,
        hint: &str,
        by: &Source,
    ) {
        let failure = (by.instance(), wave.source().instance(), wave.sequence());
        if wave.reflects() && self.state.lock().handmade.is_new(failure) {
            self.reflect(wave, reason, hint, by.name());
        }
    }

    /// Handles a failure whose source is neither here nor remote, or for which the queues are full.
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

    /// Queues a failure, if there is room for one more source, or its principal has fewer than another. `is_kept`
    /// keeps the wave as a dead letter at once.
    fn pend(self: &Arc<Self>, wave: &Wave, reason: EchoReason, hint: &str, by: &str, is_kept: bool) -> bool {
        let mut gone = None;
        let start = {
            let mut state = self.state.lock();
            let ReflectorState { pending, sources, bytes, weights, ledger, .. } = &mut *state;
            let (instance, principal) = (wave.source().instance(), wave.principal());
            if !pending.contains_key(&instance) {
                if pending.len() >= MAX_SOURCES {
                    // The principal with most sources makes room, so invented ones keep no others from being told.
                    let holder = sources.gives_way_to(principal);
                    let of_holder = pending.iter().find(|(_, pending)| pending.principal == holder);
                    let Some(&other) = of_holder.filter(|_| holder != principal).map(|(other, _)| other)
                    else {
                        return false;
                    };
                    gone = pending.remove(&other);
                    sources.subtract(holder, 1);
                }
                sources.add(principal, 1);
            }
            let pending = pending.entry(instance).or_insert_with(|| Pending {
                emitted: CoalescingQueue::new(KEPT_APART),
                asked: CoalescingQueue::new(KEPT_APART),
                latest: 0,
                principal,
            });
            pending.latest = pending.latest.max(wave.sequence());
            ledger.reflected += 1;
            ledger.pending += 1;
            // Without the reply path, which would keep an asker waiting.
            let make = || {
                let held = wave.clone().unanswerable();
                let room = MAX_BYTES.saturating_sub(*bytes + weights.of(principal));
                let held = Some(held).filter(|wave| wave.weight() <= room);
                let weight = held.as_ref().map_or(0, Wave::weight);
                *bytes += weight;
                weights.add(principal, weight);
                let failed = Failed { wave: held, is_kept, letters: u64::from(is_kept) };
                (Echo::bare(wave, reason, hint, by), failed)
            };
            let queue = if wave.is_question() { &mut pending.asked } else { &mut pending.emitted };
            queue.add(reason, 1, make, |failed| failed.letters += u64::from(is_kept));
            self.background.claim()
        };
        if let Some(gone) = gone {
            self.settle(gone, Reach::Unsent);
        }
        if is_kept {
            self.letters.bury(wave, reason, hint, by);
        }
        if let Claim::Start(runtime) = start {
            let telling = Delivery { reflector: Arc::clone(self), batch: Vec::new(), is_over: false };
            runtime.spawn(telling.run());
        }
        true
    }

    /// The queue of one source as one wave on its channel. The parts of the failed waves take at most `room` bytes.
    fn notice(&self, of: u64, pending: &Pending, room: usize) -> Option<Wave> {
        let mut room = room;
        let echoes = pending.emitted.iter().chain(pending.asked.iter()).map(|(echo, failed)| {
            let wave = failed.wave.as_ref().map(|wave| Box::new(FailedWave::of(wave)));
            let wave = wave.filter(|wave| wave.weight() <= room);
            room -= wave.as_ref().map_or(0, |wave| wave.weight());
            Echo { wave, ..echo.clone() }
        });
        // Several receivers may fail at one wave, and then several echoes are needed to stay plausible.
        let believable: Vec<_> = echoes.flat_map(|echo| parts(echo, pending.latest)).collect();
        let payload = write(&believable);
        // The name contains only a number, so it is always valid.
        let wave = Wave::plain(channel_of(of).ok()?, payload.into(), ContentType::Json);
        Some(wave.noticed(&self.sequencer))
    }

    fn settle(&self, pending: Pending, reach: Reach) {
        let Pending { emitted, asked, .. } = pending;
        // Not all of one principal: a source is claimed by whoever emits in its name.
        let held = emitted.iter().chain(asked.iter()).filter_map(|(_, failed)| failed.wave.as_ref());
        let weights: Vec<_> = held.map(|wave| (wave.principal(), wave.weight())).collect();
        let asked: u64 = asked.iter().map(|(echo, _)| echo.count).sum();
        let all: u64 = emitted.iter().map(|(echo, _)| echo.count).sum();
        {
            let mut state = self.state.lock();
            for (principal, weight) in weights {
                state.bytes -= weight;
                state.weights.subtract(principal, weight);
            }
            let ledger = &mut state.ledger;
            ledger.pending -= all + asked;
            match reach {
                Reach::Delivered => ledger.echoed += all + asked,
                Reach::Unknown => ledger.unconfirmed += all + asked,
                Reach::NoListener | Reach::Unsent => {
                    ledger.buried += all;
                    ledger.left_to_asker += asked;
                }
            }
        }
        if matches!(reach, Reach::NoListener | Reach::Unsent) {
            for (echo, Failed { wave, is_kept, letters }) in emitted.into_entries() {
                let mut kept = letters;
                if let Some(wave) = wave.filter(|_| !is_kept) {
                    self.letters.bury(&wave, echo.reason, &echo.hint, &echo.by);
                    kept += 1;
                }
                self.letters.count_merged(echo.count - kept);
            }
        }
        self.settled.notify_waiters();
    }

    /// Waits until every failure so far was reported or buried.
    pub(crate) async fn settled(&self) {
        loop {
            let settled = self.settled.notified();
            tokio::pin!(settled);
            // Registered before the check, so that no notification is missed.
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

/// Splits an echo so that no part reports more failures than its source is known to have emitted waves, as far as
/// [`MAX_PARTS`] parts suffice.
fn parts(echo: Echo, emitted: u64) -> impl Iterator<Item = Echo> + use<> {
    let most = emitted.max(echo.count.div_ceil(MAX_PARTS)).max(1);
    let whole = std::iter::repeat_n(most, usize::try_from(echo.count / most).unwrap_or(usize::MAX));
    let counts = whole.chain(Some(echo.count % most).filter(|rest| *rest > 0));
    let (mut carried, echo) = (echo.wave.clone(), Echo { wave: None, ..echo });
    // The first part carries the wave.
    counts.map(move |count| Echo { count, wave: carried.take(), ..echo.clone() })
}

/// The sending task. If it is dropped with its runtime, the next one continues.
struct Delivery {
    reflector: Arc<Reflector>,
    /// The batch being sent.
    batch: Vec<(u64, Pending)>,
    is_over: bool,
}

impl Delivery {
    /// Sends until the queues are empty.
    async fn run(mut self) {
        let reflector = Arc::clone(&self.reflector);
        while self.takes_batch() {
            let medium = reflector.network.get().and_then(Weak::upgrade);
            let room = medium.as_ref().map_or(0, |medium| medium.promises().max_payload / 4).min(MAX_CARRIED);
            let notices: Vec<_> =
                self.batch.iter().filter_map(|(of, pending)| reflector.notice(*of, pending, room)).collect();
            let tell = async {
                match medium {
                    Some(medium) => medium.notify(notices).await,
                    None => Vec::new(),
                }
            };
            let reaches = tokio::select! {
                biased;
                () = reflector.background.ended() => Vec::new(),
                reaches = tell => reaches,
            };
            // A message that the medium does not report on was not sent.
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
        self.batch.extend(std::mem::take(&mut state.pending));
        state.sources = ShareSizes::default();
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

/// Inbox options whose losses are reflected. `by` names the vibrator, or is `-` for the outbox.
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
