//! The mailbox of one source: echoes waiting to be received.
//!
//! Filled directly by the reflector of the same process, and by the medium with echoes from other processes. Emptied by
//! the source's [`Echoes`](super::Echoes). A peer that may publish can make up echoes. An echo of a wave that the
//! source never emitted, or one that reports more failures than the source has emitted waves, is refused and
//! counted.
//!
//! The coalescing queue is used at the senders of echoes and at the source. Merging loses the identities of the merged
//! waves, but no count.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll, Waker};

use parking_lot::Mutex;

use super::{Echo, EchoReason, NOBODY, read};
use crate::inbox::{Inbox, InboxOptions, InboxOptionsError, WhenFull};
use crate::source::{Sequencer, Source};
use crate::wave::Wave;

/// The number of echoes queued separately; further ones are merged.
pub(super) const KEPT_APART: usize = 256;
/// Bounds of the queue of unread messages: messages, and bytes.
const MESSAGES: usize = 64;
const MESSAGE_BYTES: usize = 1 << 20;
/// The maximum weight of what queued echoes carry of their waves, in bytes. Beyond it echoes carry nothing.
const CARRIED_BYTES: usize = 1 << 20;

/// The echoes that one source has not received yet.
#[derive(Debug)]
pub(crate) struct EchoMailbox {
    heard: Arc<Mailbox>,
    /// Messages from the medium.
    arrived: Arc<Inbox>,
}

#[derive(Debug)]
struct Mailbox {
    sequencer: Arc<Sequencer>,
    state: Mutex<MailboxState>,
    /// Counts the echoes refused by all sources of this process.
    refused: Arc<AtomicU64>,
}

#[derive(Debug)]
struct MailboxState {
    queue: CoalescingQueue<()>,
    /// The weight of what the queued echoes carry.
    carried: usize,
    waker: Option<Waker>,
    merged: u64,
    unknown: u64,
    implausible: u64,
    malformed: u64,
}

/// The weight of what an echo carries of its wave.
fn weight(echo: &Echo) -> usize {
    echo.wave.as_ref().map_or(0, |wave| wave.weight())
}

/// The counts of refused and merged echoes.
#[derive(Debug, Clone, Copy)]
pub(super) struct MailboxCounts {
    pub(super) merged: u64,
    pub(super) unknown: u64,
    pub(super) implausible: u64,
    pub(super) malformed: u64,
}

impl Mailbox {
    /// Whether the source has emitted this wave.
    fn emitted(&self, source: &Source, sequence: u64) -> bool {
        source == self.sequencer.source() && (1..=self.sequencer.last()).contains(&sequence)
    }

    fn add(&self, reason: EchoReason, count: u64, make: impl FnOnce() -> Echo) {
        let mut state = self.state.lock();
        let MailboxState { queue, carried, .. } = &mut *state;
        let make = || {
            let mut echo = make();
            let weight = weight(&echo);
            if *carried + weight > CARRIED_BYTES {
                echo.wave = None;
            } else {
                *carried += weight;
            }
            (echo, ())
        };
        if queue.add(reason, count, make, |()| ()) {
            state.merged = state.merged.saturating_add(count);
        }
        let waker = state.waker.take();
        drop(state);
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    fn take_in(&self, wave: &Wave) {
        let Some(echoes) = read(wave.payload()) else {
            self.refuse(|state| &mut state.malformed);
            return;
        };
        for echo in echoes {
            // Everybody may report that no vibrator was involved.
            if echo.by != NOBODY && !wave.speaks_for(&echo.by) {
                self.refused.fetch_add(1, Ordering::Relaxed);
            } else if !self.emitted(&echo.of.source, echo.of.sequence) {
                self.refuse(|state| &mut state.unknown);
            } else if echo.count > self.sequencer.last() {
                self.refuse(|state| &mut state.implausible);
            } else {
                self.add(echo.reason, echo.count, || echo);
            }
        }
    }

    fn refuse(&self, as_what: impl FnOnce(&mut MailboxState) -> &mut u64) {
        *as_what(&mut self.state.lock()) += 1;
        self.refused.fetch_add(1, Ordering::Relaxed);
    }
}

impl EchoMailbox {
    pub(super) fn new(sequencer: Arc<Sequencer>, refused: Arc<AtomicU64>) -> Result<Self, InboxOptionsError> {
        let queue = CoalescingQueue::new(KEPT_APART);
        let state = MailboxState {
            queue,
            carried: 0,
            waker: None,
            merged: 0,
            unknown: 0,
            implausible: 0,
            malformed: 0,
        };
        let heard = Arc::new(Mailbox { sequencer, state: Mutex::new(state), refused });
        let overflowing = Arc::clone(&heard);
        let options = InboxOptions::default()
            .max_waves(MESSAGES)
            .max_bytes(MESSAGE_BYTES)
            .when_full(WhenFull::Shed)
            // A message that does not fit is read at once and merged, so its count is not lost.
            .on_shed(move |wave, _| overflowing.take_in(wave));
        Ok(Self { heard, arrived: Arc::new(Inbox::new(options)?) })
    }

    pub(super) fn arrived(&self) -> &Arc<Inbox> {
        &self.arrived
    }

    pub(super) fn instance(&self) -> u64 {
        self.heard.sequencer.source().instance()
    }

    /// Adds the echo of a wave.
    pub(super) fn hear(&self, wave: &Wave, reason: EchoReason, hint: &str, by: &str) {
        if self.heard.emitted(wave.source(), wave.sequence()) {
            self.heard.add(reason, 1, || Echo::new(wave, reason, hint, by));
        } else {
            self.heard.refuse(|state| &mut state.unknown);
        }
    }

    /// Stops adding; queued echoes can still be received.
    pub(super) fn close(&self) {
        self.arrived.close();
    }

    /// The next echo, or `None` once the medium is closed and all were received. Only one task at a time may poll.
    pub(super) fn poll_next(&self, cx: &mut Context<'_>) -> Poll<Option<Echo>> {
        let ended = loop {
            match self.arrived.poll_receive(cx) {
                Poll::Ready(Some(wave)) => self.heard.take_in(&wave),
                Poll::Ready(None) => break true,
                Poll::Pending => break false,
            }
        };
        let mut state = self.heard.state.lock();
        match state.queue.take_first() {
            Some((echo, ())) => {
                state.carried -= weight(&echo);
                Poll::Ready(Some(echo))
            }
            None if ended => Poll::Ready(None),
            None => {
                state.waker = Some(cx.waker().clone());
                Poll::Pending
            }
        }
    }

    pub(super) fn counts(&self) -> MailboxCounts {
        let MailboxState { merged, unknown, implausible, malformed, .. } = *self.heard.state.lock();
        MailboxCounts { merged, unknown, implausible, malformed }
    }
}

/// Echoes in the order of their first failure, each with data of its owner.
#[derive(Debug)]
pub(super) struct CoalescingQueue<T> {
    entries: VecDeque<(Echo, T)>,
    /// The number kept separately; beyond it there is at most one more for each reason.
    apart: usize,
}

impl<T> CoalescingQueue<T> {
    pub(super) const fn new(apart: usize) -> Self {
        Self { entries: VecDeque::new(), apart }
    }

    /// Adds failures. Either `make` or `merge` is called. Returns whether they were merged.
    pub(super) fn add(
        &mut self,
        reason: EchoReason,
        count: u64,
        make: impl FnOnce() -> (Echo, T),
        merge: impl FnOnce(&mut T),
    ) -> bool {
        if self.entries.len() >= self.apart {
            // Searched from the back: failures are merged into the latest echo.
            if let Some((echo, data)) = self.entries.iter_mut().rev().find(|(echo, _)| echo.reason == reason)
            {
                echo.count = echo.count.saturating_add(count);
                merge(data);
                return true;
            }
        }
        self.entries.push_back(make());
        false
    }

    /// Takes the oldest echo.
    pub(super) fn take_first(&mut self) -> Option<(Echo, T)> {
        self.entries.pop_front()
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &(Echo, T)> {
        self.entries.iter()
    }

    pub(super) fn into_entries(self) -> VecDeque<(Echo, T)> {
        self.entries
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wave::Wave;
    use proptest::prelude::*;

    const REASONS: [EchoReason; 6] = [
        EchoReason::NoResonator,
        EchoReason::Rejected,
        EchoReason::HandlerFailed,
        EchoReason::Expired,
        EchoReason::Shed,
        EchoReason::TooFar,
    ];

    proptest! {
        #[test]
        fn a_queue_is_bounded_and_loses_no_count(
            steps in prop::collection::vec((0..7_usize, 1..5_u64), 0..300),
            apart in 0..20_usize,
        ) {
            let wave = Wave::from_bytes("a", "x").unwrap();
            let mut queue = CoalescingQueue::new(apart);
            let (mut added, mut taken) = ([0_u64; 6], [0_u64; 6]);
            let place = |reason| REASONS.iter().position(|other| *other == reason).unwrap();
            for (step, count) in steps {
                if let Some(reason) = REASONS.get(step) {
                    added[step] += count;
                    queue.add(*reason, count, || (Echo { count, ..Echo::new(&wave, *reason, "", "") }, ()), |()| ());
                } else if let Some((echo, ())) = queue.take_first() {
                    taken[place(echo.reason)] += echo.count;
                }
                prop_assert!(queue.iter().count() <= apart + REASONS.len());
            }
            for (echo, ()) in queue.into_entries() {
                taken[place(echo.reason)] += echo.count;
            }
            prop_assert_eq!(added, taken);
        }
    }

    #[test]
    fn echoes_are_kept_separately_and_the_rest_are_merged_into_the_latest() {
        let mut queue = CoalescingQueue::new(2);
        for sequence in 1..=5 {
            let mut echo = Echo::new(&Wave::from_bytes("a", "x").unwrap(), EchoReason::Shed, "", "");
            echo.of.sequence = sequence;
            assert_eq!(queue.add(EchoReason::Shed, 1, || (echo, ()), |()| ()), sequence > 2);
        }
        let seen: Vec<_> = queue.iter().map(|(echo, ())| (echo.of.sequence, echo.count)).collect();
        assert_eq!(seen, [(1, 1), (2, 4)]);
    }
}
