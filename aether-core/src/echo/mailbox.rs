//! The mailbox of one source: echoes waiting to be received.
//!
//! Filled directly by the reflector of the same process, and by the medium with echoes from other processes. Emptied by
//! the source's [`Echoes`](super::Echoes). A peer that may publish can make up echoes. An echo of a wave that the
//! source never emitted, or one that stands for more failures than the source has emitted waves, is refused and
//! counted.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll, Waker};

use parking_lot::Mutex;

use super::coalescing_queue::CoalescingQueue;
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
