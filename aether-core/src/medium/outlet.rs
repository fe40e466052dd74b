//! The outbox of a medium, as its sending task sees it.
//!
//! A medium that is the only one of its process has its outbox to itself. Where a process has several paths
//! ([`paths`](super::paths)), all of them share one outbox, and one path at a time takes waves from it. A wave that has not
//! left when its path breaks therefore goes by the next one, and none leaves twice.

use std::fmt;
use std::ops::Deref;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

use tokio::sync::watch;

use super::confirming::Confirming;
use crate::clock::Moment;
use crate::inbox::{Inbox, InboxOptions, InboxOptionsError};
use crate::wave::Wave;

/// Emitters that wait for room start to wait when the outbox holds this many waves, while there is a connection. A longer
/// queue would not send anything sooner. Its waves would only be older when they leave, and would no longer be in the
/// processor's caches. Without a connection, emitters can use the entire outbox.
pub(super) const AHEAD: usize = 2048;

/// Which path takes waves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Turn {
    /// `None` while one path hands over to another.
    pub(super) path: Option<usize>,
    /// The other paths will not have a turn any more.
    pub(super) is_last: bool,
}

/// The one outbox of several paths. The first of them that asks for it decides its options.
pub(super) struct SharedOutbox {
    inbox: OnceLock<Arc<Inbox>>,
    /// The waves whose emitters wait until they are confirmed.
    pub(super) confirming: Arc<Confirming>,
    /// The number of waves that each path took.
    sent: Vec<Arc<AtomicU64>>,
    turns: watch::Sender<Turn>,
}

impl SharedOutbox {
    pub(super) fn new(paths: usize) -> Self {
        let (confirming, sent) = (Arc::default(), (0..paths).map(|_| Arc::default()).collect());
        Self {
            inbox: OnceLock::new(),
            confirming,
            sent,
            turns: watch::Sender::new(Turn { path: None, is_last: false }),
        }
    }

    /// The outlet of a path. Waves that it takes are weakened by its hops.
    fn outlet(&self, options: InboxOptions, (path, hops): (usize, u8)) -> Result<Outlet, InboxOptionsError> {
        // Checked for each path, so that an error does not depend on which one is the first.
        let inbox = Arc::new(Inbox::new(self.confirming.watching(options))?);
        let inbox = Arc::clone(self.inbox.get_or_init(|| inbox));
        let sent = self.sent.get(path).map(Arc::clone).unwrap_or_default();
        Ok(Outlet { inbox, shared: Some(Place { path, hops, sent, turns: self.turns.subscribe() }) })
    }

    /// The outbox, once a path has asked for it.
    pub(super) fn inbox(&self) -> Option<&Arc<Inbox>> {
        self.inbox.get()
    }

    /// The number of waves that a path took.
    pub(super) fn sent(&self, path: usize) -> u64 {
        self.sent.get(path).map_or(0, |sent| sent.load(Ordering::Relaxed))
    }

    /// Gives the turn to a path, and forgets what the receivers behind the other one have asked for.
    pub(super) fn give_turn(&self, turn: Turn) {
        if self.turns.send_if_modified(|now| std::mem::replace(now, turn) != turn)
            && let Some(inbox) = self.inbox()
        {
            inbox.hold_until(None);
        }
    }
}

/// The way to an outbox for one of several paths.
#[derive(Clone)]
pub(crate) struct PathOutlet {
    outbox: Arc<SharedOutbox>,
    path: usize,
    hops: u8,
    is_used: Arc<AtomicBool>,
}

impl PathOutlet {
    pub(super) fn new(outbox: Arc<SharedOutbox>, path: usize, hops: u8) -> Self {
        Self { outbox, path, hops, is_used: Arc::default() }
    }

    pub(super) fn outlet(&self, options: InboxOptions) -> Result<Outlet, InboxOptionsError> {
        self.is_used.store(true, Ordering::Release);
        self.outbox.outlet(options, (self.path, self.hops))
    }

    /// Whether the medium has asked for the outbox.
    pub(super) fn is_used(&self) -> bool {
        self.is_used.load(Ordering::Acquire)
    }
}

/// The outbox of a medium, for its sending task. It is the [`Inbox`] that emitters fill; where several media are the paths
/// of one process, they share it, and a medium finds waves there only while it is its turn.
///
/// A medium gets it from [`ConnectRequest::outlet`](super::ConnectRequest::outlet).
#[derive(Clone)]
pub struct Outlet {
    inbox: Arc<Inbox>,
    shared: Option<Place>,
}

/// The place of a path among several.
#[derive(Clone)]
struct Place {
    path: usize,
    hops: u8,
    sent: Arc<AtomicU64>,
    turns: watch::Receiver<Turn>,
}

impl Outlet {
    /// The outlet of an outbox that is not shared.
    #[must_use]
    pub const fn new(inbox: Arc<Inbox>) -> Self {
        Self { inbox, shared: None }
    }

    /// The outbox, for emitters and accounts.
    #[must_use]
    pub const fn inbox(&self) -> &Arc<Inbox> {
        &self.inbox
    }

    fn has_turn(&self) -> bool {
        self.shared.as_ref().is_none_or(|place| place.turns.borrow().path == Some(place.path))
    }

    /// Like [`Inbox::filled`]: waits until there is a wave to take (returns true), or until the medium will have none to
    /// take any more (returns false). Only one task at a time may wait.
    ///
    /// # Cancel safety
    /// If cancelled before completion, nothing is taken.
    pub async fn filled(&self) -> bool {
        self.filled_after(0).await
    }

    /// Like [`Outlet::filled`], for waves offered after the mark `seen`: see [`Inbox::filled_after`].
    ///
    /// # Cancel safety
    /// If cancelled before completion, nothing is taken.
    pub async fn filled_after(&self, seen: u64) -> bool {
        let Some(Place { path, turns, .. }) = &self.shared else {
            return self.inbox.filled_after(seen).await;
        };
        let mut turns = turns.clone();
        loop {
            let turn = *turns.borrow_and_update();
            match (turn.path == Some(*path), turn.is_last) {
                (true, true) => return self.inbox.filled_after(seen).await,
                (false, true) => return false,
                (true, false) => tokio::select! {
                    biased;
                    // The last turn stays, also if whoever gives turns has gone.
                    changed = turns.changed() => if changed.is_err() { return self.inbox.filled_after(seen).await },
                    is_filled = self.inbox.filled_after(seen) => return is_filled,
                },
                (false, false) => {
                    if turns.changed().await.is_err() {
                        return false;
                    }
                }
            }
        }
    }

    /// Like [`Inbox::take_many`], but takes nothing while another path has the turn.
    pub fn take_many(&self, most: usize, most_bytes: usize, into: &mut Vec<Wave>) {
        if self.has_turn() {
            let before = into.len();
            self.inbox.take_many(most, most_bytes, into);
            self.note_taken(into, before);
        }
    }

    /// Like [`Inbox::take_unheld`], but takes nothing while another path has the turn.
    pub fn take_unheld(
        &self,
        most: (usize, usize),
        seen: &mut u64,
        is_held: impl FnMut(&Wave) -> bool,
        into: &mut Vec<Wave>,
    ) -> usize {
        if !self.has_turn() {
            return 0;
        }
        let before = into.len();
        let left = self.inbox.take_unheld(most, seen, is_held, into);
        self.note_taken(into, before);
        left
    }

    /// Counts waves. One that goes by a detour arrives weaker, as if it had been relayed.
    fn note_taken(&self, waves: &mut [Wave], from: usize) {
        let Some(Place { hops, sent, .. }) = &self.shared else { return };
        sent.fetch_add((waves.len() - from) as u64, Ordering::Relaxed);
        if *hops > 0 {
            waves.iter_mut().skip(from).for_each(|wave| wave.detour(*hops));
        }
    }

    /// Like [`Inbox::has_passed`]. While another path has the turn, nothing that waits will leave by this one.
    #[must_use]
    pub fn has_passed(&self, mark: u64) -> bool {
        !self.has_turn() || self.inbox.has_passed(mark)
    }

    /// Like [`Inbox::let_run_ahead`]. Has no effect on an outbox that is shared: the paths together decide.
    pub fn let_run_ahead(&self, waves: usize) {
        if self.shared.is_none() {
            self.inbox.let_run_ahead(waves);
        }
    }

    /// Like [`Inbox::hold_until`]. Has no effect while another path has the turn.
    pub fn hold_until(&self, until: Option<Moment>) {
        if self.has_turn() {
            self.inbox.hold_until(until);
        }
    }
}

impl Deref for Outlet {
    type Target = Inbox;

    fn deref(&self) -> &Inbox {
        &self.inbox
    }
}

impl fmt::Debug for Outlet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let path = self.shared.as_ref().map(|place| place.path);
        f.debug_struct("Outlet").field("path", &path).field("inbox", &self.inbox).finish()
    }
}
