//! The medium: the methods called by [`Aether`](aether_core::Aether).

use std::collections::HashSet;
use std::fmt;
use std::hash::{BuildHasher, RandomState};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use aether_core::medium::{
    Carried, ConnectRequest, Medium, MediumStatus, Offered, Promises, Reach, Subscription,
};
use aether_core::{AskError, Channel, ConnectError, EmitError, FlushError, JoinError, Wave};
use aether_link::{Gaps, OutboxReader, Transit};
use bytes::Bytes;
use futures_util::future::BoxFuture;
use parking_lot::Mutex;
use tokio::net::UnixStream;
use tokio::sync::{mpsc, watch};
use tokio::task::AbortHandle;
use tokio::time::timeout;

use crate::message::{MAX_FRAME, Message, Tag};
use crate::shared::{Joined, Past, Shared};
use crate::{receiving, sending};

/// How many waves may queue in the outbox before emitters wait for room.
const AHEAD: usize = 2048;
/// How long a flush waits for the hub, also on a busy machine.
const PATIENCE: Duration = Duration::from_secs(30);
/// The number of messages that may bypass the outbox before senders have to wait.
const PAST: usize = 256;

/// The medium as held by its owner.
struct Unix {
    shared: Arc<Shared>,
    receiving: AbortHandle,
    ended: watch::Sender<bool>,
    /// Whether closing has finished. The task that closes the medium holds the lock.
    closing: tokio::sync::Mutex<bool>,
}

/// Connects to the hub at an address such as `unix:/run/aether.sock`. The outbox options are an `InboxOptions`. For
/// use with [`AetherBuilder::scheme`](aether_core::AetherBuilder::scheme).
///
/// # Errors
/// [`ConnectError`] if no hub serves the socket or an outbox option is out of bounds.
///
/// # Cancel safety
/// If cancelled before completion, it leaves no connection open.
pub async fn connect(request: ConnectRequest) -> Result<Arc<dyn Medium>, ConnectError> {
    let path = request.url.split_once(':').map_or("", |(_, path)| path);
    let outbox = OutboxReader::of(&request, request.options())?;
    outbox.let_run_ahead(AHEAD);
    let stream = UnixStream::connect(path).await.map_err(|error| ConnectError::Unreachable {
        url: request.url.clone(),
        is_transient: true,
        source: error.into(),
    })?;
    let (input, output) = stream.into_split();
    let (past, messages) = mpsc::channel(PAST);
    let random = RandomState::new();
    let shared = Arc::new(Shared {
        router: request.router,
        outbox,
        past,
        node: random.hash_one("node"),
        transit: Transit::default(),
        joined: Mutex::default(),
        waiting: Mutex::default(),
        last_number: AtomicU64::new(random.hash_one("number")),
        is_closed: AtomicBool::new(false),
        is_broken: AtomicBool::new(false),
        malformed: AtomicU64::new(0),
        implausible: AtomicU64::new(0),
        forgotten: AtomicU64::new(0),
        lost_upstream: AtomicU64::new(0),
    });
    let ended = watch::Sender::new(false);
    let receiving = tokio::spawn(receiving::receive(Arc::clone(&shared), input)).abort_handle();
    tokio::spawn(sending::send(Arc::clone(&shared), output, messages, ended.subscribe()));
    let unix = Unix { shared, receiving, ended, closing: tokio::sync::Mutex::default() };
    // Once a marker has come back, the hub forwards every client's messages to this client, so joins take effect at
    // once.
    let settled = unix.settle().await;
    settled.map_err(|error| ConnectError::Unreachable {
        url: request.url,
        is_transient: true,
        source: error.into(),
    })?;
    Ok(Arc::new(unix))
}

impl Unix {
    /// Sends a marker after everything queued so far and waits until it comes back.
    async fn settle(&self) -> Result<(), FlushError> {
        let unanswered = FlushError::Unanswered { patience: PATIENCE };
        let Ok(channel) = Channel::with_reserved("_aether.marker") else { return Err(unanswered) };
        let mut waiting = self.shared.wait();
        let (number, frame) = (waiting.number, Bytes::new());
        let marker = Message { tag: Tag::Marker, number, channel, frame };
        let flushed = async {
            let flush = Past::Flush { mark: self.shared.outbox.mark(), marker };
            self.shared.past.send(flush).await.is_ok() && (&mut waiting.came).await.is_ok()
        };
        match timeout(PATIENCE, flushed).await {
            Ok(true) => Ok(()),
            _ => Err(unanswered),
        }
    }

    /// Stops accepting waves and lets the outbox drain.
    fn shut(&self) {
        self.shared.is_closed.store(true, Relaxed);
        self.shared.outbox.close();
    }

    fn end(&self) {
        self.ended.send_replace(true);
        self.receiving.abort();
        self.shared.waiting.lock().clear();
    }
}

impl Medium for Unix {
    fn promises(&self) -> Promises {
        let mut promises = Promises::new(true, MAX_FRAME);
        (promises.groups, promises.reflects_unheard, promises.detects_unheard) = (false, false, false);
        promises
    }

    fn carry(&self, wave: Wave) -> Result<Carried, EmitError> {
        Ok(Carried::by_outbox(self.shared.check(wave)?, self.shared.outbox.inbox()))
    }

    fn try_carry(&self, wave: Wave) -> Result<Offered, EmitError> {
        let wave = self.shared.check(wave)?;
        Offered::by_outbox(wave, self.shared.outbox.inbox()).map_err(|wave| EmitError::Full { wave })
    }

    fn join(&self, subscription: Arc<Subscription>) -> BoxFuture<'_, Result<(), JoinError>> {
        Box::pin(async move {
            if self.shared.is_closed() {
                return Err(JoinError::Closed);
            }
            if let Some(group) = subscription.group() {
                return Err(JoinError::NoGroups { group: Channel::new(group)? });
            }
            // The hub sends everything to every client, so the join takes effect at once.
            subscription.mark_in_force();
            let mut joined = self.shared.joined.lock();
            let joined = joined.entry(subscription.pattern().clone()).or_insert_with(|| Joined {
                subscriptions: HashSet::new(),
                gaps: Gaps::new(Arc::new(OnceLock::from(Instant::now()))),
            });
            joined.subscriptions.insert(subscription.id());
            Ok(())
        })
    }

    fn leave(&self, subscription: &Subscription) {
        let mut joined = self.shared.joined.lock();
        if let Some(heard) = joined.get_mut(subscription.pattern()) {
            heard.subscriptions.remove(&subscription.id());
            if heard.subscriptions.is_empty() {
                joined.remove(subscription.pattern());
            }
        }
    }

    fn ask(&self, question: Wave, patience: Duration) -> BoxFuture<'_, Result<Wave, AskError>> {
        Box::pin(async move {
            let question = self.shared.check(question)?;
            let channel = question.channel().clone();
            let mut waiting = self.shared.wait();
            let gone = |error: &str| AskError::Client(error.to_owned().into());
            let asked = async {
                let message = self.shared.message(Tag::Question, waiting.number, &question);
                let message = message.ok_or_else(|| gone("the question makes no frame"))?;
                let sent = self.shared.past.send(Past::Message(message)).await;
                sent.map_err(|_| gone("the hub is gone"))?;
                let came = (&mut waiting.came).await.ok().flatten();
                came.ok_or_else(|| gone("the hub is gone"))
            };
            let timed_out = |_| AskError::TimedOut { channel, patience };
            let answer = timeout(patience, asked).await.map_err(timed_out)??;
            // Observers see the answer that is used. Sending them a copy does not delay the asker.
            if let Some(copy) = self.shared.message(Tag::Seen, 0, &answer) {
                let _ = self.shared.past.try_send(Past::Message(copy));
            }
            Ok(answer)
        })
    }

    fn notify(&self, notices: Vec<Wave>) -> BoxFuture<'_, Vec<Reach>> {
        Box::pin(async move {
            let mut reaches = Vec::with_capacity(notices.len());
            for notice in notices {
                let is_refused = *self.ended.borrow() || self.shared.oversize(&notice).is_some();
                let message = self.shared.message(Tag::Notice, 0, &notice).filter(|_| !is_refused);
                let is_sent = match message {
                    Some(message) => self.shared.past.send(Past::Message(message)).await.is_ok(),
                    None => false,
                };
                reaches.push(if is_sent { Reach::Delivered } else { Reach::Unsent });
            }
            reaches
        })
    }

    fn flush(&self) -> BoxFuture<'_, Result<(), FlushError>> {
        Box::pin(async {
            if self.shared.is_closed() {
                return Err(FlushError::Closed);
            }
            self.settle().await
        })
    }

    fn close(&self) -> BoxFuture<'_, Result<(), FlushError>> {
        Box::pin(async {
            self.shut();
            let mut is_over = self.closing.lock().await;
            if *is_over {
                return Ok(());
            }
            let settled = self.settle().await;
            self.shared.outbox.abandon();
            self.end();
            *is_over = true;
            settled
        })
    }

    fn status(&self) -> MediumStatus {
        let shared = &self.shared;
        let mut status = MediumStatus::default();
        status.connected = !shared.is_closed() && !shared.is_broken.load(Relaxed);
        status.connects = 1;
        status.outbox = shared.outbox.ledger();
        status.malformed = shared.malformed.load(Relaxed);
        status.implausible = shared.implausible.load(Relaxed) + shared.transit.implausible();
        status.lost_upstream = shared.lost_upstream.load(Relaxed);
        status.forgotten_streams = shared.forgotten.load(Relaxed);
        status
    }
}

impl Drop for Unix {
    fn drop(&mut self) {
        // The sending task empties the outbox while the runtime is alive.
        self.shut();
        self.end();
    }
}

impl fmt::Debug for Unix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Unix").field("status", &self.status()).finish_non_exhaustive()
    }
}
