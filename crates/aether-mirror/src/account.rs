//! The counting of what a mirror does, and the listeners of it.

use std::collections::BTreeMap;

use parking_lot::Mutex;
use tokio::sync::broadcast;
use tokio::sync::broadcast::error::RecvError;

use crate::status::{MirrorEvent, MirrorStatus, RefusedReason};

/// The events that wait for a slow listener. Beyond it the oldest ones are left out, and counted.
const KEPT: usize = 1024;

/// The refused files whose reason is remembered, so that one that is looked at again does not count again.
const REMEMBERED: usize = 4096;

#[derive(Debug)]
pub(crate) struct Account {
    counted: Mutex<Counted>,
    events: Mutex<Option<broadcast::Sender<MirrorEvent>>>,
    /// The listener that hears everything from the start on, until somebody wants it.
    first: Mutex<Option<broadcast::Receiver<MirrorEvent>>>,
}

#[derive(Debug, Default)]
struct Counted {
    status: MirrorStatus,
    refused: BTreeMap<String, RefusedReason>,
}

impl Account {
    pub(crate) fn new() -> Self {
        let (events, first) = broadcast::channel(KEPT);
        let (events, first) = (Mutex::new(Some(events)), Mutex::new(Some(first)));
        Self { counted: Mutex::default(), events, first }
    }

    pub(crate) fn status(&self) -> MirrorStatus {
        self.counted.lock().status.clone()
    }

    /// The files that are refused now, at most 4,096.
    pub(crate) fn refused(&self) -> BTreeMap<String, RefusedReason> {
        self.counted.lock().refused.clone()
    }

    pub(crate) fn count(&self, count: impl FnOnce(&mut MirrorStatus)) {
        count(&mut self.counted.lock().status);
    }

    /// Takes note of something that was done with a file.
    pub(crate) fn done(&self, event: MirrorEvent) {
        {
            let status = &mut self.counted.lock().status;
            *match &event {
                MirrorEvent::Written { .. } => &mut status.written,
                MirrorEvent::Deleted { .. } => &mut status.deleted,
                MirrorEvent::Sent { .. } => &mut status.sent,
                MirrorEvent::SentDeletion { .. } => &mut status.sent_deletions,
                MirrorEvent::Conflict { .. } => &mut status.conflicts,
                MirrorEvent::Refused { reason, .. } => status.refused.entry(*reason).or_default(),
            } += 1;
        }
        tracing::debug!("{event}");
        if let Some(events) = &*self.events.lock() {
            // Nobody may be listening.
            let _ = events.send(event);
        }
    }

    /// A file is not mirrored. Counted once for each file and reason, until it is.
    pub(crate) fn refuse(&self, path: &str, reason: RefusedReason) {
        {
            let refused = &mut self.counted.lock().refused;
            if refused.get(path) == Some(&reason) {
                return;
            }
            if refused.len() < REMEMBERED || refused.contains_key(path) {
                refused.insert(path.to_owned(), reason);
            }
        }
        self.done(MirrorEvent::Refused { path: path.to_owned(), reason });
    }

    /// A file is as it should be, or is gone.
    pub(crate) fn accept(&self, path: &str) {
        self.counted.lock().refused.remove(path);
    }

    pub(crate) fn events(&self) -> MirrorEvents {
        let first = self.first.lock().take();
        let receiver = first.or_else(|| self.events.lock().as_ref().map(broadcast::Sender::subscribe));
        MirrorEvents { receiver, missed: 0 }
    }

    /// Ends the listeners, once they have heard everything.
    pub(crate) fn close(&self) {
        self.events.lock().take();
    }
}

/// The events of a mirror, from [`Mirror::events`](crate::Mirror::events).
#[derive(Debug)]
pub struct MirrorEvents {
    receiver: Option<broadcast::Receiver<MirrorEvent>>,
    missed: u64,
}

impl MirrorEvents {
    /// The next event; `None` when the mirror has ended. Cancel safe.
    pub async fn next(&mut self) -> Option<MirrorEvent> {
        loop {
            match self.receiver.as_mut()?.recv().await {
                Ok(event) => return Some(event),
                Err(RecvError::Lagged(missed)) => self.missed += missed,
                Err(RecvError::Closed) => return None,
            }
        }
    }

    /// The events that this listener did not get, because more than 1,024 were waiting.
    #[must_use]
    pub const fn missed(&self) -> u64 {
        self.missed
    }
}
