//! Several paths as one medium: what cannot go by the first one goes by the next (diffraction, that is failover).
//!
//! All paths share one outbox ([`aether_link::OutboxReader`]), and one path at a time takes waves from it: the first
//! one whose circuit breaker is closed (`choosing`), as far as others stand on it, too (`agreement`). A wave leaves by
//! one path only, so nothing has to be recognised as a duplicate. Waves that were on their way when a path broke are
//! lost there and counted as `unconfirmed`: to send it again would hand commands to two members of a group, which are
//! two processes that cannot know of each other. Everything that is heard is heard on all paths (`joining`), because
//! others may send by another one.

mod agreement;
mod beats;
mod choosing;
mod connecting;
mod joining;
mod options;
mod shared;
mod supervising;

pub use options::{MAX_PATHS, PathError, PathOptions, PathState, PathStatus};

use std::collections::VecDeque;
use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use futures_util::future::BoxFuture;
use parking_lot::Mutex;
use tokio::sync::watch;

use aether_core::medium::{
    Carried, ConnectRequest, Details, ForeignError, Medium, MediumStatus, Offered, Promises, Reach, Settled,
    Subscription, Waiting,
};
use aether_core::{
    Aether, AetherBuilder, AskError, ConfirmError, ConnectError, EmitError, FlushError, JoinError, Wave,
    clock,
};
use aether_link::{SharedOutbox, Turn};
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

impl From<PathError> for ConnectError {
    fn from(error: PathError) -> Self {
        ForeignError::new(error).into()
    }
}

/// A path broke while a question was on its way, or its answer.
#[derive(Debug, thiserror::Error)]
#[error("the path {url} broke while the question was on its way: it may have been heard")]
struct PathBroke {
    url: String,
}

/// The statuses of all paths, as the medium knows them.
struct PathList(Vec<PathStatus>);

/// The paths of a process, in their order, if it has several. Empty otherwise.
#[must_use]
pub fn paths(aether: &Aether) -> Vec<PathStatus> {
    aether.details::<PathList>().into_iter().flat_map(|PathList(paths)| paths).collect()
}

/// The paths of a builder.
pub trait WithPaths {
    /// Adds a path: the address of a medium that is used when those before it are broken, or do not reach all processes. The
    /// paths replace the [`url`](AetherBuilder::url), which has them with blanks between them. All processes should
    /// have the same paths in the same order: each of them hears on all paths, and emits by the first one that all can
    /// use. Connecting fails if no path can be reached, or if one fails with an error that time does not mend; paths
    /// that are away follow. Up to [`MAX_PATHS`]. Options hold for all paths that they fit.
    ///
    /// A wave that waits when its path breaks goes by the next one, weaker by the hops of that path. A wave that is on
    /// its way counts as [`unconfirmed`](MediumStatus::unconfirmed), and none is sent twice.
    ///
    /// ```no_run
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// use aether::paths::{WithPaths, paths};
    ///
    /// let aether = aether::builder().path("nats://10.0.0.1:4222").path("nats://10.0.1.1:4222").connect().await?;
    /// for path in paths(&aether) {
    ///     println!("{}: {}, {} waves", path.url, path.state.as_str(), path.sent);
    /// }
    /// # Ok(()) }
    /// ```
    #[must_use]
    fn path(self, path: impl Into<PathOptions>) -> Self;
}

impl WithPaths for AetherBuilder {
    fn path(self, path: impl Into<PathOptions>) -> Self {
        let mut paths: Vec<PathOptions> = self.given();
        paths.push(path.into());
        let urls: Vec<_> = paths.iter().map(|path| &*path.url).collect();
        self.url(urls.join(" ")).several(connect).options(paths)
    }
}

/// Connects all paths of a request, of which one has to stand now, and follows which of them do. The connector of
/// [`AetherBuilder::several`].
///
/// # Errors
/// [`PathError`] in [`ConnectError::Medium`] if paths cannot be used together; the first error that will not pass by
/// itself; or the first one, if no path can be reached.
///
/// # Cancel safety
/// If cancelled before completion, no connection stays open.
pub async fn connect(request: ConnectRequest) -> Result<Arc<dyn Medium>, ConnectError> {
    let mut options: Vec<PathOptions> = request.options();
    if !request.url.split_whitespace().eq(options.iter().map(|path| &*path.url)) {
        options = request.url.split_whitespace().map(PathOptions::from).collect();
    }
    let router = Arc::clone(&request.router);
    let connect: Connect = Arc::new(move |url, path| {
        let request = request.clone().with_options(Some(path));
        Box::pin(request.connect_to(url))
    });
    let outbox = Arc::new(SharedOutbox::new(options.len()));
    let FirstAttempts { media, missing } = connect_all(&options, &outbox, &connect).await?;
    let Some(connected) = media.iter().flatten().next().map(Arc::clone) else {
        return Err(PathError::None.into());
    };
    let paths = options.iter().zip(media).enumerate().map(|(path, (options, medium))| Path {
        url: aether_core::medium::without_secrets(&options.url),
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

    fn connection(&self) -> Option<watch::Receiver<bool>> {
        Some(self.shared.stands.subscribe())
    }

    fn details(&self, into: &mut Details) {
        into.add(PathList(self.statuses()));
        self.shared.media().for_each(|(_, medium)| medium.details(into));
    }
}

impl Paths {
    fn statuses(&self) -> Vec<PathStatus> {
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
#[doc(hidden)]
pub fn fuzz_beat(payload: &[u8]) {
    let Ok(beat) = serde_json::from_slice(payload) else { return };
    let agreement = Agreement::new(3);
    agreement.note(beat, clock::now());
    assert!((0..3).all(|path| agreement.cut_off(path, clock::now()) <= 1));
}
