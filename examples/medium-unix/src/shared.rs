//! State shared by the sending task, the receiving task and the owner of the medium.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::time::Instant;

use aether_core::medium::Router;
use aether_core::{Channel, EmitError, Pattern, Wave};
use aether_link::OutboxReader;
use aether_link::wire::{self, MAX_POSITION, Position, Sender};
use aether_link::{Gaps, Transit};
use bytes::Bytes;
use parking_lot::Mutex;
use tokio::sync::{mpsc, oneshot};

use crate::message::{MAX_FRAME, Message, Tag};

/// A message that bypasses the outbox.
pub(crate) enum Past {
    Message(Message),
    /// A marker to send after everything that precedes this mark of the outbox.
    Flush {
        mark: u64,
        marker: Message,
    },
}

/// State shared by the tasks and the owner.
pub(crate) struct Shared {
    pub(crate) router: Arc<Router>,
    pub(crate) outbox: OutboxReader,
    pub(crate) past: mpsc::Sender<Past>,
    /// Distinguishes this client from the others.
    pub(crate) node: u64,
    pub(crate) transit: Transit,
    pub(crate) joined: Mutex<HashMap<Pattern, Joined>>,
    /// Senders for the tasks waiting for the answer or marker with this number. A sender is dropped if nothing will
    /// come.
    pub(crate) waiting: Mutex<HashMap<u64, oneshot::Sender<Option<Wave>>>>,
    pub(crate) last_number: AtomicU64,
    pub(crate) is_closed: AtomicBool,
    pub(crate) is_broken: AtomicBool,
    pub(crate) malformed: AtomicU64,
    pub(crate) implausible: AtomicU64,
    pub(crate) forgotten: AtomicU64,
    pub(crate) lost_upstream: AtomicU64,
}

/// The local state of a joined pattern.
pub(crate) struct Joined {
    pub(crate) subscriptions: HashSet<u64>,
    pub(crate) gaps: Gaps,
}

impl Shared {
    pub(crate) fn is_closed(&self) -> bool {
        self.is_closed.load(Relaxed)
    }

    pub(crate) fn frame(&self, position: Option<Position>, waves: &[Wave], now: Instant) -> Option<Bytes> {
        let sender = Sender { node: self.node, sent_micros: aether_core::clock::micros_since_1970() };
        wire::encode_at(sender, position, None, waves, now).ok()
    }

    pub(crate) fn message(&self, tag: Tag, number: u64, wave: &Wave) -> Option<Message> {
        let frame = self.frame(None, std::slice::from_ref(wave), Instant::now())?;
        Some(Message { tag, number, channel: wave.channel().clone(), frame })
    }

    /// If the wave is too large, returns its size and the maximum size.
    pub(crate) fn oversize(&self, wave: &Wave) -> Option<(usize, usize)> {
        if wire::frame_bound(None) + wire::record_bound(wave) <= MAX_FRAME {
            return None;
        }
        let now = Instant::now();
        let frame = self.frame(None, std::slice::from_ref(wave), now)?;
        let bytes = frame.len() + MAX_POSITION + wire::record_growth(wave, now);
        (bytes > MAX_FRAME).then_some((bytes, MAX_FRAME))
    }

    /// The local patterns that match a channel.
    pub(crate) fn patterns(&self, channel: &Channel) -> Vec<Pattern> {
        self.joined.lock().keys().filter(|pattern| pattern.matches(channel)).cloned().collect()
    }

    /// Handles an answer or a marker. Answers and markers for other clients are ignored.
    pub(crate) fn came(&self, number: u64, answer: Option<Wave>) {
        if let Some(waiting) = self.waiting.lock().remove(&number) {
            let _ = waiting.send(answer);
        }
    }

    /// Records that the hub is gone and nothing more will arrive.
    pub(crate) fn broke(&self) {
        self.is_broken.store(true, Relaxed);
        self.waiting.lock().clear();
    }

    pub(crate) fn wait(self: &Arc<Self>) -> Waiting {
        let (sender, came) = oneshot::channel();
        let number = self.last_number.fetch_add(1, Relaxed);
        self.waiting.lock().insert(number, sender);
        Waiting { shared: Arc::clone(self), number, came }
    }

    pub(crate) fn check(&self, wave: Wave) -> Result<Wave, EmitError> {
        match self.oversize(&wave) {
            _ if self.is_closed() => Err(EmitError::Closed { wave }),
            Some((bytes, max_bytes)) => Err(EmitError::TooLarge { wave, bytes, max_bytes }),
            None => Ok(wave),
        }
    }
}

/// Waits for the answer or marker with a number. Dropping it ends the wait.
pub(crate) struct Waiting {
    shared: Arc<Shared>,
    pub(crate) number: u64,
    pub(crate) came: oneshot::Receiver<Option<Wave>>,
}

impl Drop for Waiting {
    fn drop(&mut self) {
        self.shared.waiting.lock().remove(&self.number);
    }
}
