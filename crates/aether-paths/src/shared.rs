//! The state that all parts of the paths share: the media, which of them are connected, and what waits for several of them.

use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use futures_util::future::join_all;
use parking_lot::Mutex;
use tokio::sync::watch;
use tokio::time::timeout;

use super::agreement::Agreement;
use super::choosing::Breaker;
use super::joining::Subscriptions;
use aether_core::medium::{Medium, Subscription};
use aether_core::{EmitError, FlushError, JoinError, Wave};
use aether_link::{SharedOutbox, Turn};

/// How long a flush waits for the next path to take over: longer than handing over takes.
const TURN_WITHIN: Duration = Duration::from_millis(1500);

/// One path.
pub(super) struct Path {
    /// Without secrets.
    pub(super) url: String,
    pub(super) hops: u8,
    /// Set once it has connected.
    pub(super) medium: OnceLock<Arc<dyn Medium>>,
}

pub(super) struct PathsShared {
    pub(super) paths: Vec<Path>,
    /// One that has connected. There is always one.
    pub(super) connected: Arc<dyn Medium>,
    pub(super) outbox: Arc<SharedOutbox>,
    pub(super) subscriptions: Subscriptions,
    pub(super) breakers: Mutex<Vec<Breaker>>,
    pub(super) agreement: Agreement,
    /// The path by which waves go, as in the turn of the outbox, for emitters.
    pub(super) current: AtomicUsize,
    pub(super) switches: AtomicU64,
    /// The times that a path stood after none did.
    pub(super) connects: AtomicU64,
    /// Changes with each path that connects, breaks or reconnects, and when the current one changes.
    pub(super) moves: watch::Sender<u64>,
    /// Whether any path is connected.
    pub(super) stands: watch::Sender<bool>,
    pub(super) is_closed: AtomicBool,
    pub(super) ending: watch::Sender<bool>,
}

impl Path {
    /// Whether it is connected now.
    pub(super) fn reaches_others(&self) -> bool {
        let reached = self.medium.get().map(|medium| medium.reaches_others());
        // A medium without a connection counts as connected.
        reached.is_some_and(|reached| reached.is_none_or(|reached| *reached.borrow()))
    }
}

impl PathsShared {
    pub(super) fn current(&self) -> (usize, &Arc<dyn Medium>) {
        let current = self.current.load(Ordering::Acquire);
        (current, self.medium(current).unwrap_or(&self.connected))
    }

    pub(super) fn media(&self) -> impl Iterator<Item = (usize, &Arc<dyn Medium>)> {
        self.paths.iter().enumerate().filter_map(|(index, path)| Some((index, path.medium.get()?)))
    }

    pub(super) fn is_closed(&self) -> bool {
        self.is_closed.load(Ordering::Acquire)
    }

    pub(super) fn stands(&self, path: usize) -> bool {
        self.breakers.lock().get(path).is_some_and(Breaker::stands)
    }

    pub(super) fn moved(&self) {
        self.moves.send_modify(|moves| *moves += 1);
    }

    /// The medium of a path, if it has connected.
    pub(super) fn medium(&self, path: usize) -> Option<&Arc<dyn Medium>> {
        self.paths.get(path)?.medium.get()
    }

    /// A path has connected.
    pub(super) fn add(&self, path: usize, medium: Arc<dyn Medium>) {
        let Some(place) = self.paths.get(path) else { return };
        tracing::info!(path = path + 1, url = place.url, "a path has connected");
        let medium = place.medium.get_or_init(|| medium);
        // A subscription that is added meanwhile finds the path itself.
        self.subscriptions.begin(path, medium);
        self.moved();
    }

    /// Waits until waves go by another path than this one, and this one is broken.
    pub(super) async fn lost(&self, path: usize) {
        let mut moves = self.moves.subscribe();
        while {
            moves.borrow_and_update();
            self.stands(path) || self.current().0 == path
        } {
            // Would fail only if `self` had been dropped.
            let _ = moves.changed().await;
        }
    }

    pub(super) async fn join(&self, subscription: Arc<Subscription>) -> Result<(), JoinError> {
        if self.is_closed() {
            return Err(JoinError::Closed);
        }
        let joined = self.subscriptions.add(subscription, self.paths.len());
        for (path, medium) in self.media() {
            joined.begin(path, medium);
        }
        let (mut progress, mut moves) = (joined.progress.subscribe(), self.moves.subscribe());
        let mut ending = self.ending.subscribe();
        loop {
            progress.borrow_and_update();
            moves.borrow_and_update();
            let stands: Vec<bool> = self.breakers.lock().iter().map(Breaker::stands).collect();
            let needs = |path: usize| match stands.contains(&true) {
                true => stands.get(path).is_some_and(|stands| *stands),
                false => path == self.current().0,
            };
            if joined.has_joined(needs)? {
                return Ok(());
            }
            tokio::select! {
                biased;
                _ = ending.wait_for(|ending| *ending) => return Err(JoinError::Closed),
                _ = moves.changed() => {}
                _ = progress.changed() => {}
            }
        }
    }

    pub(super) fn leave(&self, subscription: &Subscription) {
        self.subscriptions.remove(subscription);
        self.media().for_each(|(_, medium)| medium.leave(subscription));
    }

    /// The waves that were on their way when a path broke.
    pub(super) fn unconfirmed(&self) -> u64 {
        self.media().map(|(_, medium)| medium.status().unconfirmed).sum()
    }

    /// Waits until everything accepted so far has left, by whichever path, and was received.
    pub(super) async fn flush(&self) -> Result<(), FlushError> {
        let lost_before = self.unconfirmed();
        let (path, flushed) = self.flush_outbox().await;
        // The waves that other paths took before.
        let others = self
            .media()
            .filter(|(other, medium)| *other != path && self.stands(*other) && medium.status().in_flight > 0);
        let others = join_all(others.map(|(_, medium)| medium.flush())).await;
        let flushed = others.into_iter().fold(flushed, Result::and);
        match self.unconfirmed().saturating_sub(lost_before) {
            0 => flushed,
            // The current path knows its own.
            _ if matches!(flushed, Err(FlushError::Unconfirmed { .. })) => flushed,
            waves => Err(FlushError::Unconfirmed { waves, patience: Duration::ZERO }),
        }
    }

    /// Waits until everything in the outbox has left. Returns the path that took the last of it.
    async fn flush_outbox(&self) -> (usize, Result<(), FlushError>) {
        let mut moves = self.moves.subscribe();
        // Each path has asked for it.
        let outbox = self.outbox.inbox();
        let mark = outbox.map_or(0, |outbox| outbox.mark());
        let waits = || outbox.filter(|outbox| !outbox.has_passed(mark)).map(|outbox| outbox.ledger().queued);
        loop {
            moves.borrow_and_update();
            let (path, medium) = self.current();
            let flushed = tokio::select! {
                biased;
                flushed = medium.flush() => flushed,
                // The waves that have not left yet leave by the next path.
                () = self.lost(path) => continue,
            };
            let Some(waves) = waits() else { return (path, flushed) };
            // A path that has lost its turn, or hands over, has nothing left to send; one that is broken has not sent it.
            if !matches!(flushed, Ok(()) | Err(FlushError::Unanswered { .. })) {
                return (path, flushed);
            }
            if timeout(TURN_WITHIN, moves.changed()).await.is_err() {
                return (path, Err(FlushError::Unconfirmed { waves, patience: TURN_WITHIN }));
            }
        }
    }

    pub(super) async fn end(&self) -> Result<(), FlushError> {
        if let Some(outbox) = self.outbox.inbox() {
            outbox.close();
        }
        // While paths may still change.
        let flushed = self.flush().await;
        let (current, _) = self.current();
        self.ending.send_replace(true);
        self.outbox.give_turn(Turn { path: Some(current), is_last: true });
        let closed =
            join_all(self.media().map(async |(path, medium)| (path == current, medium.close().await))).await;
        self.stands.send_replace(true);
        // A path that is broken cannot be closed in time; nothing was left to send by it.
        let closed = closed.into_iter().filter(|(is_current, _)| *is_current).map(|(_, closed)| closed);
        closed.fold(flushed, Result::and)
    }

    pub(super) fn closed(&self, wave: Wave) -> Result<Wave, EmitError> {
        if self.is_closed() { Err(EmitError::Closed { wave }) } else { Ok(wave) }
    }
}
