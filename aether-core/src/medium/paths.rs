//! Several paths as one medium: what cannot go by the first one goes by the next (diffraction, that is failover).
//!
//! All paths share one outbox ([`outlet`](super::outlet)), and one path at a time takes waves from it: the first one whose
//! circuit breaker is closed ([`choosing`]), as far as others stand on it, too ([`agreement`]). A wave leaves by one path only,
//! so nothing has to be recognised as a duplicate. What was on its way when a path broke is lost there and counted as
//! `unconfirmed`: to send it again would hand commands to two members of a group, which are two processes that cannot know of
//! each other. Everything that is heard is heard on all paths ([`joining`]), because others may send by another one.

mod agreement;
mod beats;
mod choosing;
mod connecting;
mod joining;
mod options;
mod shared;
mod supervising;

pub use options::{MAX_PATHS, PathError, PathOptions, PathState, PathStatus};

use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use futures_util::future::BoxFuture;
use parking_lot::Mutex;
use tokio::sync::watch;

use super::outlet::{SharedOutbox, Turn};
use super::{
    AskError, ConfirmError, ConnectError, EmitError, FlushError, JoinError, Medium, MediumStatus, Promises,
    Reach,
};
use crate::clock;
use crate::router::{Carried, Offered, Router, Settled, Subscription, Waiting};
use crate::wave::Wave;
use agreement::Agreement;
use choosing::Breaker;
use connecting::{Connect, FirstAttempts, add_when_connected, connect_all};
use joining::Subscriptions;
use shared::{Path, PathsShared};

/// The handle of the medium. When it is dropped, the media of all paths are.
struct Paths {
    shared: Arc<PathsShared>,
    /// Whether closing has finished. The lock is held while closing is in progress.
    closing: tokio::sync::Mutex<bool>,
}

/// A path broke while a question was on its way, or its answer.
#[derive(Debug, thiserror::Error)]
#[error("the path {url} broke while the question was on its way: it may have been heard")]
struct PathBroke {
    url: String,
}

/// Connects all paths, of which one has to stand now, and follows which of them do.
pub(crate) async fn connect(
    options: Vec<PathOptions>,
    router: Arc<Router>,
    connect: Connect,
) -> Result<Arc<dyn Medium>, ConnectError> {
    let outbox = Arc::new(SharedOutbox::new(options.len()));
    let FirstAttempts { media, missing } = connect_all(&options, &outbox, &connect).await?;
    let Some(connected) = media.iter().flatten().next().map(Arc::clone) else {
        return Err(PathError::None.into());
    };
    let paths = options.iter().zip(media).enumerate().map(|(path, (options, medium))| Path {
        url: super::without_secrets(&options.url),
        hops: options.hops_at(path),
        medium: medium.map(OnceLock::from).unwrap_or_default(),
    });
    let paths: Vec<_> = paths.collect();
    let now = clock::now();
    let breakers: Vec<_> = paths.iter().map(|path| Breaker::new(path.reaches_others(), now)).collect();
    let shared = Arc::new(PathsShared {
        breakers: Mutex::new(breakers),
        agreement: Agreement::new(paths.len()),
        paths,
        connected,
        outbox,
        subscriptions: Subscriptions::default(),
        current: AtomicUsize::new(0),
        switches: AtomicU64::new(0),
        connects: AtomicU64::new(1),
        moves: watch::Sender::new(0),
        stands: watch::Sender::new(true),
        is_closed: AtomicBool::new(false),
        ending: watch::Sender::new(false),
    });
    // A path that has not connected never has the turn.
    shared.begin();
    tokio::spawn(supervising::supervise(Arc::clone(&shared)));
    for attempt in missing {
        tokio::spawn(add_when_connected(Arc::clone(&shared), attempt));
    }
    // Dropping it ends everything.
    let paths = Arc::new(Paths { shared, closing: tokio::sync::Mutex::default() });
    if let Err(error) = beats::begin(&paths.shared, router).await {
        tracing::warn!(%error, "what others can use is not known: this process chooses its path alone");
    }
    Ok(paths)
}

impl Medium for Paths {
    fn promises(&self) -> Promises {
        let all = self.shared.media().map(|(_, medium)| medium.promises());
        all.reduce(Promises::both).unwrap_or_else(|| self.shared.connected.promises())
    }

    fn carry(&self, wave: Wave) -> Result<Carried, EmitError> {
        self.shared.current().1.carry(self.shared.closed(wave)?)
    }

    fn try_carry(&self, wave: Wave) -> Result<Offered, EmitError> {
        self.shared.current().1.try_carry(self.shared.closed(wave)?)
    }

    fn room_for(&self, wave: &Wave) -> usize {
        self.shared.current().1.room_for(wave)
    }

    fn carry_all(&self, waves: &mut VecDeque<Wave>) -> Result<Option<Waiting>, EmitError> {
        if self.shared.is_closed()
            && let Some(wave) = waves.pop_front()
        {
            return Err(EmitError::Closed { wave });
        }
        self.shared.current().1.carry_all(waves)
    }

    fn join(&self, subscription: Arc<Subscription>) -> BoxFuture<'_, Result<(), JoinError>> {
        Box::pin(self.shared.join(subscription))
    }

    fn leave(&self, subscription: &Subscription) {
        self.shared.leave(subscription);
    }

    fn ask(&self, question: Wave, patience: Duration) -> BoxFuture<'_, Result<Wave, AskError>> {
        Box::pin(async move {
            let mut question = self.shared.closed(question)?;
            let (path, medium) = self.shared.current();
            let Some(Path { url, hops, .. }) = self.shared.paths.get(path) else {
                return medium.ask(question, patience).await;
            };
            question.detour(*hops);
            tokio::select! {
                biased;
                answered = medium.ask(question, patience) => answered,
                () = self.shared.lost(path) => Err(AskError::Client(Box::new(PathBroke { url: url.clone() }))),
            }
        })
    }

    fn notify(&self, notices: Vec<Wave>) -> BoxFuture<'_, Vec<Reach>> {
        Box::pin(async move {
            let unknown = vec![Reach::Unknown; notices.len()];
            let (path, medium) = self.shared.current();
            tokio::select! {
                biased;
                reaches = medium.notify(notices) => reaches,
                () = self.shared.lost(path) => unknown,
            }
        })
    }

    fn flush(&self) -> BoxFuture<'_, Result<(), FlushError>> {
        Box::pin(async move {
            if self.shared.is_closed() {
                return Err(FlushError::Closed);
            }
            self.shared.flush().await
        })
    }

    fn carry_confirmed(&self, wave: Wave) -> BoxFuture<'_, Result<Settled, ConfirmError>> {
        let shared = &self.shared;
        Box::pin(shared.outbox.confirming.carry_and_settle(self, wave, shared.flush()))
    }

    fn close(&self) -> BoxFuture<'_, Result<(), FlushError>> {
        Box::pin(async move {
            self.shared.is_closed.store(true, Ordering::Release);
            // A repeated close waits for the first one, and takes over if that one was cancelled.
            let mut is_over = self.closing.lock().await;
            if *is_over {
                return Ok(());
            }
            let ended = self.shared.end().await;
            *is_over = true;
            ended
        })
    }

    fn status(&self) -> MediumStatus {
        let media = self.shared.media().map(|(_, medium)| medium.status());
        let mut status = media.fold(MediumStatus::default(), MediumStatus::plus);
        status.connected =
            !self.shared.is_closed() && self.shared.breakers.lock().iter().any(Breaker::stands);
        status.connects = self.shared.connects.load(Ordering::Relaxed);
        status.outbox = self.shared.outbox.inbox().map(|outbox| outbox.ledger()).unwrap_or_default();
        status
    }

    fn missing_keys(&self) -> Vec<(u64, u64)> {
        most_first(self.shared.media().flat_map(|(_, medium)| medium.missing_keys()))
    }

    fn unknown_signers(&self) -> Vec<(u64, u64)> {
        most_first(self.shared.media().flat_map(|(_, medium)| medium.unknown_signers()))
    }

    fn connection(&self) -> Option<watch::Receiver<bool>> {
        Some(self.shared.stands.subscribe())
    }

    fn paths(&self) -> Vec<PathStatus> {
        let (now, current) = (clock::now(), self.shared.current().0);
        let breakers = self.shared.breakers.lock().clone();
        let paths = self.shared.paths.iter().zip(breakers).enumerate();
        let status = |(index, (path, breaker)): (usize, (&Path, Breaker))| PathStatus {
            url: path.url.clone(),
            hops: path.hops,
            state: match path.medium.get() {
                None => PathState::NotConnected,
                Some(_) if !breaker.stands() => PathState::Broken,
                Some(_) if index == current => PathState::InUse,
                Some(_) if breaker.is_on_trial(now) => PathState::OnTrial,
                Some(_) => PathState::Ready,
            },
            is_current: index == current,
            cut_off: self.shared.agreement.cut_off(index, now),
            sent: self.shared.outbox.sent(index),
            switches: self.shared.switches.load(Ordering::Relaxed),
            medium: path.medium.get().map(|medium| medium.status()),
        };
        paths.map(status).collect()
    }
}

/// The sums of counts by id, most first, as [`Medium::missing_keys`] returns them.
fn most_first(counts: impl Iterator<Item = (u64, u64)>) -> Vec<(u64, u64)> {
    let mut sums = BTreeMap::<u64, u64>::new();
    counts.for_each(|(id, messages)| *sums.entry(id).or_default() += messages);
    let mut sums: Vec<_> = sums.into_iter().collect();
    sums.sort_by_key(|(_, messages)| std::cmp::Reverse(*messages));
    sums.truncate(16);
    sums
}

impl Drop for Paths {
    fn drop(&mut self) {
        // Without close(), the current path empties the outbox.
        self.shared.ending.send_replace(true);
        self.shared.subscriptions.end();
        self.shared.outbox.give_turn(Turn { path: Some(self.shared.current().0), is_last: true });
    }
}

impl fmt::Debug for Paths {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let media: Vec<_> = self.shared.media().map(|(_, medium)| medium).collect();
        f.debug_struct("Paths").field("current", &self.shared.current().0).field("media", &media).finish()
    }
}

/// Reads a payload as a beat, and takes it into a table.
#[cfg(fuzzing)]
pub(crate) fn fuzz_beat(payload: &[u8]) {
    let Ok(beat) = serde_json::from_slice(payload) else { return };
    let agreement = Agreement::new(3);
    agreement.note(beat, clock::now());
    assert!((0..3).all(|path| agreement.cut_off(path, clock::now()) <= 1));
}
