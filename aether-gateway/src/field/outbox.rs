//! The queue of messages to one client. The hub and the reader of the connection fill it, its writer empties it.

use std::collections::VecDeque;
use std::sync::Arc;

use aether_field::core::WriterId;
use aether_field::{Names, PageStart};
use parking_lot::Mutex;
use tokio::sync::Notify;

use super::change::Change;
use super::effect::Close;
use super::limits::SecurityLimits;
use super::queue::{Pushed, Queue};
use super::selection::{Part, Selection};
use super::slot::Slot;

/// The replies that may wait before no more of the client is read, in bytes.
const MAX_REPLIES: usize = 256 << 10;
/// The replies that may wait at all, in bytes. Losing writes are reported also while nothing of the client is read.
const MOST_REPLIES: usize = 8 << 20;
/// The writes whose confirmation by the disk may be owed before no more of the client is read.
const MAX_OWED: usize = 8192;

#[derive(Debug)]
pub(super) struct Outbox {
    inner: Mutex<Inner>,
    /// Something is to be sent.
    pub(super) wake: Notify,
    /// Something was sent.
    room: Notify,
    /// The client knows registers only.
    registers_only: bool,
}

#[derive(Debug)]
struct Inner {
    replies: VecDeque<String>,
    reply_bytes: usize,
    owed: usize,
    /// The writer that the client is.
    writer: Option<WriterId>,
    /// The names that the client may read.
    readable: Vec<Names>,
    selection: Selection,
    /// The epoch of cursors for it.
    epoch: Arc<str>,
    queue: Queue,
    /// A snapshot is to be sent, from the beginning or from where it has got to.
    snapshot: Option<Reading>,
    /// A snapshot is being sent. Changes are read again when they are sent, as the snapshot may be newer than they are.
    is_reading: bool,
    presence: bool,
    close: Option<Close>,
}

/// A snapshot that is being read.
#[derive(Debug, Clone, Default)]
pub(super) struct Reading {
    /// The parts that are still to be read.
    pub(super) parts: VecDeque<Part>,
    /// Where in the first of these.
    pub(super) from: Option<PageStart>,
    /// All that is read, if it is not the whole subscription.
    pub(super) only: Option<Selection>,
    /// The entries that were sent.
    pub(super) sent: u64,
    /// The revision up to which the client has everything afterwards; `None` before the start.
    pub(super) revision: Option<u64>,
    /// Whether a part was sent.
    pub(super) has_begun: bool,
}

/// Changes to be sent: with `None` where the slot has to be read.
pub(super) type Changes = Vec<(Slot, Option<Arc<Change>>)>;

impl Outbox {
    pub(super) fn new(limits: &SecurityLimits, registers_only: bool) -> Self {
        let inner = Inner {
            replies: VecDeque::new(),
            reply_bytes: 0,
            owed: 0,
            writer: None,
            readable: Vec::new(),
            epoch: "".into(),
            selection: Selection::default(),
            queue: Queue::new(limits.max_queue_bytes),
            snapshot: None,
            is_reading: false,
            presence: false,
            close: None,
        };
        Self { inner: Mutex::new(inner), wake: Notify::new(), room: Notify::new(), registers_only }
    }

    /// Queues a reply. Returns `false` if there are too many; the connection is to be closed then.
    pub(super) fn reply(&self, reply: String) -> bool {
        let mut inner = self.inner.lock();
        if inner.reply_bytes > MOST_REPLIES {
            return false;
        }
        inner.reply_bytes += reply.len();
        inner.replies.push_back(reply);
        drop(inner);
        self.wake.notify_one();
        true
    }

    pub(super) fn close(&self, close: Close) {
        self.inner.lock().close.get_or_insert(close);
        self.wake.notify_one();
    }

    /// The client is admitted as this writer, and may read these names.
    pub(super) fn admit(&self, writer: Option<WriterId>, readable: Vec<Names>) {
        let mut inner = self.inner.lock();
        (inner.writer, inner.readable) = (writer, readable);
    }

    pub(super) fn writer(&self) -> Option<WriterId> {
        self.inner.lock().writer
    }

    /// The part of these names that the client may read.
    pub(super) fn readable(&self, about: impl Iterator<Item = Names>) -> Vec<Names> {
        let inner = self.inner.lock();
        about.flat_map(|about| inner.readable.iter().filter_map(move |names| names.and(&about))).collect()
    }

    /// The epoch of cursors of the subscription.
    pub(super) fn epoch(&self) -> Arc<str> {
        Arc::clone(&self.inner.lock().epoch)
    }

    /// Starts a subscription with a snapshot, or with the slots that have changed.
    pub(super) fn subscribe<'a>(
        &self,
        (selection, epoch): (Selection, Arc<str>),
        presence: Option<bool>,
        missed: Option<impl Iterator<Item = (u64, &'a Slot)>>,
    ) -> bool {
        let mut inner = self.inner.lock();
        let inner = &mut *inner;
        inner.queue.clear();
        (inner.selection, inner.epoch) = (selection, epoch);
        inner.presence = presence.unwrap_or(inner.presence);
        (inner.snapshot, inner.is_reading) = (None, false);
        let mut resumed = missed.is_some();
        for (revision, slot) in missed.into_iter().flatten() {
            if inner.selection.has(slot) && inner.queue.push(slot, revision, None) == Pushed::Overflowed {
                resumed = false;
                break;
            }
        }
        if !resumed {
            inner.snapshot = Some(Reading::of(&inner.selection));
        }
        self.wake.notify_one();
        resumed
    }

    /// Changes a subscription: the client gets a snapshot of what is new in it. Returns the revision up to which the client
    /// has everything; `None` if a snapshot follows.
    pub(super) fn change_subscription(
        &self,
        (selection, epoch): (Selection, Arc<str>),
        presence: Option<bool>,
        settled: u64,
    ) -> Option<u64> {
        let mut inner = self.inner.lock();
        let inner = &mut *inner;
        let added = selection.without(&inner.selection);
        (inner.selection, inner.epoch) = (selection, epoch);
        inner.presence = presence.unwrap_or(inner.presence);
        let selection = &inner.selection;
        inner.queue.retain(|slot| selection.has(slot));
        if inner.snapshot.is_some() || inner.is_reading {
            // The client has a part of the snapshot before, which is of no use without the rest.
            inner.queue.clear();
            (inner.snapshot, inner.is_reading) = (Some(Reading::of(selection)), false);
        } else if !added.is_empty() {
            inner.snapshot = Some(Reading { only: Some(added.clone()), ..Reading::of(&added) });
        }
        self.wake.notify_one();
        inner.snapshot.is_none().then(|| inner.queue.complete(settled))
    }

    /// Queues a change. `None` if the client does not want it.
    pub(super) fn push(&self, revision: u64, change: &Arc<Change>) -> Option<Pushed> {
        if self.registers_only && !matches!(change.slot, Slot::Register(_)) {
            return None;
        }
        let mut inner = self.inner.lock();
        let inner = &mut *inner;
        if !inner.selection.has(&change.slot) {
            return None;
        }
        if let Some(reading) = inner.snapshot.as_ref().filter(|_| !inner.is_reading)
            && reading.has(&change.slot)
        {
            // The snapshot will have it.
            return None;
        }
        let change = (!inner.is_reading).then(|| Arc::clone(change)).ok_or(change);
        let pushed = match change {
            Ok(change) => inner.queue.push(&change.slot, revision, Some(Arc::clone(&change))),
            Err(change) => inner.queue.push(&change.slot, revision, None),
        };
        if pushed == Pushed::Overflowed {
            inner.snapshot = Some(Reading::of(&inner.selection));
            inner.is_reading = false;
        }
        self.wake.notify_one();
        Some(pushed)
    }

    /// The replies that wait.
    pub(super) fn take_replies(&self) -> VecDeque<String> {
        let mut inner = self.inner.lock();
        inner.reply_bytes = 0;
        let replies = std::mem::take(&mut inner.replies);
        drop(inner);
        if !replies.is_empty() {
            self.room.notify_one();
        }
        replies
    }

    /// Whether a snapshot is to be sent.
    pub(super) fn has_snapshot(&self) -> bool {
        self.inner.lock().snapshot.is_some()
    }

    /// The snapshot that is to be sent. `settled` is the revision up to which all changes were pushed.
    pub(super) fn take_snapshot(&self, settled: u64) -> Option<Reading> {
        let mut inner = self.inner.lock();
        let mut reading = inner.snapshot.take()?;
        inner.is_reading = true;
        // Changes of what is not read may wait since an earlier one.
        let complete = inner.queue.complete(settled);
        reading.revision.get_or_insert(complete);
        Some(reading)
    }

    /// Goes on with a snapshot, or ends it if no part is left.
    pub(super) fn go_on(&self, reading: Reading) {
        let mut inner = self.inner.lock();
        if inner.snapshot.is_some() || !inner.is_reading {
            // It was started again meanwhile.
            return;
        }
        if reading.parts.is_empty() {
            inner.is_reading = false;
        } else {
            inner.snapshot = Some(reading);
        }
    }

    /// The changes that waited longest, about `bytes` of them, and the revision up to which the client has everything with
    /// them. None while a snapshot is sent.
    pub(super) fn take_changes(&self, bytes: usize, settled: u64) -> (Changes, u64) {
        let mut inner = self.inner.lock();
        let (mut changes, mut size) = (Vec::new(), 0);
        if inner.snapshot.is_none() && !inner.is_reading {
            while size < bytes
                && let Some((slot, change)) = inner.queue.pop()
            {
                size += slot.size() + change.as_ref().map_or(1024, |change| change.size());
                changes.push((slot, change));
            }
        }
        (changes, inner.queue.complete(settled))
    }

    pub(super) fn is_idle(&self) -> bool {
        let inner = self.inner.lock();
        inner.replies.is_empty() && inner.snapshot.is_none() && !inner.is_reading && inner.queue.len() == 0
    }

    pub(super) fn take_close(&self) -> Option<Close> {
        self.inner.lock().close
    }

    pub(super) fn wants_presence(&self) -> bool {
        self.inner.lock().presence
    }

    pub(super) fn queued(&self) -> usize {
        self.inner.lock().queue.len()
    }

    /// A confirmation by the disk is owed, or no more.
    pub(super) fn owe(&self, more: usize, less: usize) {
        let mut inner = self.inner.lock();
        inner.owed = (inner.owed + more).saturating_sub(less);
        drop(inner);
        if less > 0 {
            self.room.notify_one();
        }
    }

    /// Waits until few enough replies wait and few enough confirmations are owed.
    pub(super) async fn room(&self) {
        loop {
            {
                let inner = self.inner.lock();
                if inner.reply_bytes < MAX_REPLIES && inner.owed < MAX_OWED {
                    return;
                }
            }
            self.room.notified().await;
        }
    }
}

impl Reading {
    fn of(selection: &Selection) -> Self {
        Self { parts: selection.parts(), ..Self::default() }
    }

    fn has(&self, slot: &Slot) -> bool {
        self.only.as_ref().is_none_or(|only| only.has(slot))
    }
}
