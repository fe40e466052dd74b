//! The state of the connection: whether it is up, and what the broker has confirmed.
//!
//! NATS does not acknowledge messages, but a server processes the messages of one client in order. Therefore a small
//! message, a *marker*, is sent now and then to a subject that only this connection subscribes to. When the marker
//! returns, the server has processed everything before it. Each marker carries a token that only this process can
//! compute ([`Tokens`]). Waves that were not confirmed when the connection broke are written off and counted. The
//! server's no-responders replies to inquiries arrive in the same place as the markers
//! ([`Inquiries`](super::no_responders::Inquiries)).

use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use async_nats::connection::State;
use async_nats::{Client, Event};
use bytes::Bytes;
use futures_util::StreamExt;
use parking_lot::Mutex;
use tokio::sync::{oneshot, watch};
use tokio::task::{JoinHandle, spawn_blocking};
use tokio::time::timeout;

use super::authentication::Tokens;
use super::no_responders::unheard;
use super::refusals::PermissionBarrier;
use super::unconfirmed::{Goal, Marker, Unconfirmed, Waiting};
use aether_core::Wave;
use aether_link::{AHEAD, OutboxReader};

/// The client's event queue holds 128 events and drops any beyond that, so a broken or restored connection could go
/// unnoticed. Tasks that wait for either, or for a marker, therefore also poll the client itself at this interval.
const LOST_EVENT_WATCH: Duration = Duration::from_secs(1);

/// Closing and flushing give up after this long without any progress while the connection is down, and so does what
/// was dropped.
pub(super) const AWAY_PATIENCE: Duration = Duration::from_millis(500);

/// A connection that a task has seen.
pub(super) struct ConnectionNumber {
    state: watch::Receiver<bool>,
    number: u64,
}

/// The connection was closed permanently.
#[derive(Debug)]
pub(super) struct Ended;

/// Reads again what is read for each connection.
pub(super) type Renew = Arc<dyn Fn() + Send + Sync>;

/// Whether a connection is up, and what the broker has confirmed of it. Each connection has one.
pub(super) struct ConnectionState {
    outbox: OutboxReader,
    connected: watch::Sender<bool>,
    /// Whether the server is away, also when the connection has ended and nobody waits for it any more.
    away: watch::Sender<bool>,
    /// Changes with every confirmation, loss and reconnection.
    progress: watch::Sender<u64>,
    pub(super) unconfirmed: Mutex<Unconfirmed>,
    /// Waves are being taken from the outbox, and are not counted yet.
    is_taking: AtomicBool,
    dropped_by_client: AtomicU64,
    /// Waves that could not be sent and that no flush has reported yet.
    unsendable: AtomicU64,
    /// Messages taken from the client, of any kind.
    taken: AtomicU64,
    /// Forged markers and forged server notices.
    refused: AtomicU64,
    /// Called for each new connection.
    on_connected: Option<Renew>,
    /// The number of connections for which it was called.
    renewed: AtomicU64,
    barrier: PermissionBarrier,
    /// Authenticates our own markers.
    pub(super) tokens: Tokens,
    /// Inquiries and probes have other tokens: whoever hears an inquiry knows its token, and must not make a marker of
    /// it.
    pub(super) inquiry_tokens: Tokens,
    pub(super) probe_tokens: Tokens,
    pub(super) marks: Mutex<Option<Marks>>,
}

/// The subject of the markers, and the task that receives them.
pub(super) struct Marks {
    /// Messages on subjects below it reach only this connection.
    pub(super) inbox: String,
    /// The subject of the markers.
    pub(super) subject: async_nats::Subject,
    task: JoinHandle<()>,
}

impl ConnectionState {
    /// `on_connected` is called for each new connection.
    pub(super) fn new(outbox: OutboxReader, on_connected: Option<Renew>) -> Self {
        outbox.let_run_ahead(AHEAD);
        Self {
            outbox,
            connected: watch::Sender::new(true),
            away: watch::Sender::new(false),
            progress: watch::Sender::new(0),
            unconfirmed: Mutex::default(),
            is_taking: AtomicBool::new(false),
            dropped_by_client: AtomicU64::new(0),
            unsendable: AtomicU64::new(0),
            taken: AtomicU64::new(0),
            refused: AtomicU64::new(0),
            on_connected,
            renewed: AtomicU64::new(0),
            barrier: PermissionBarrier::default(),
            tokens: Tokens::default(),
            inquiry_tokens: Tokens::default(),
            probe_tokens: Tokens::default(),
            marks: Mutex::new(None),
        }
    }

    /// Starts listening for markers, and for the server's no-responders replies. `unheard_waves` is called with waves
    /// that nobody hears.
    pub(super) async fn connected_to(
        self: &Arc<Self>,
        client: &Client,
        unheard_waves: impl Fn(Vec<Wave>) + Send + 'static,
    ) -> Result<(), async_nats::SubscribeError> {
        let inbox = client.new_inbox();
        let subject = async_nats::Subject::from(format!("{inbox}.marker"));
        // One subscription for both, so that they arrive in the order in which the server sent them.
        let mut words = client.subscribe(format!("{inbox}.*")).await?;
        let (state, markers) = (Arc::clone(self), subject.clone());
        let task = tokio::spawn(async move {
            while let Some(word) = words.next().await {
                state.took_message();
                if word.subject == markers {
                    let number = str::from_utf8(&word.payload).ok().and_then(|text| state.tokens.read(text));
                    number.map_or_else(|| state.refuse(), |number| state.confirm(number));
                    continue;
                }
                match (unheard(&word, &state.inquiry_tokens), unheard(&word, &state.probe_tokens)) {
                    (Some(Some(number)), _) => {
                        let waves = state.unconfirmed.lock().inquiries.take(number);
                        if !waves.is_empty() {
                            unheard_waves(waves);
                        }
                    }
                    (_, Some(Some(number))) => state.unconfirmed.lock().probe_is_unheard(number),
                    (Some(None), _) => state.refuse(),
                    _ => {}
                }
            }
        });
        self.unconfirmed.lock().breaks = connects(client).saturating_sub(1);
        *self.marks.lock() = Some(Marks { inbox, subject, task });
        Ok(())
    }

    /// Reads for a new connection what is read for each: in another thread, because files can be slow and long.
    ///
    /// Cancel safety: cancelled while it waits, it is done nevertheless.
    pub(super) async fn renew(&self) {
        let Some(renew) = self.on_connected.clone() else { return };
        self.renewed.fetch_add(1, Ordering::Relaxed);
        // Fails only if it panics, or when the runtime ends.
        let _ = spawn_blocking(move || renew()).await;
    }

    /// Called by the client's event task.
    pub(super) fn note(&self, event: &Event) {
        match event {
            Event::Connected => self.note_connected(),
            Event::Disconnected | Event::Closed => {
                self.connected.send_replace(false);
                self.away.send_replace(true);
                self.outbox.let_run_ahead(usize::MAX);
                self.unconfirmed.lock().breaks += 1;
                self.write_off();
            }
            Event::ServerError(_) => self.barrier.note(event),
            Event::SlowConsumer(_) => {
                self.dropped_by_client.fetch_add(1, Ordering::Relaxed);
            }
            _ => {}
        }
    }

    /// Records that the connection is up.
    fn note_connected(&self) {
        self.connected.send_replace(true);
        self.away.send_replace(false);
        self.outbox.let_run_ahead(AHEAD);
        self.note_progress();
    }

    /// Signals a confirmation, a loss or a reconnection, or that receivers that requested a pause are making progress.
    pub(super) fn note_progress(&self) {
        self.progress.send_modify(|moves| *moves += 1);
    }

    fn confirm(&self, number: u64) {
        let told = self.unconfirmed.lock().confirm(number);
        told.into_iter().for_each(Waiting::tell);
        self.note_progress();
    }

    /// The connection broke: nothing that is in flight will be confirmed.
    fn write_off(&self) {
        let written_off = self.unconfirmed.lock().write_off();
        drop(written_off);
        self.note_progress();
    }

    /// Waits, and regularly checks with the client whether an event was lost that the wait may depend on.
    pub(super) async fn watching<T>(&self, client: &Client, wait: impl Future<Output = T>) -> T {
        let mut wait = pin!(wait);
        loop {
            match tokio::time::timeout(LOST_EVENT_WATCH, wait.as_mut()).await {
                Ok(done) => return done,
                Err(_) => self.look_for_lost_events(client),
            }
        }
    }

    /// Handles any lost events.
    fn look_for_lost_events(&self, client: &Client) {
        let connects = connects(client);
        if let Some(renew) = self.on_connected.clone()
            && self.renewed.swap(connects, Ordering::Relaxed) < connects
        {
            spawn_blocking(move || renew());
        }
        let broken = connects.saturating_sub(1);
        let is_unseen = {
            let mut flight = self.unconfirmed.lock();
            let is_unseen = flight.breaks < broken;
            flight.breaks = flight.breaks.max(broken);
            is_unseen
        };
        if is_unseen {
            self.write_off();
        }
        if !self.is_connected() && client.connection_state() == State::Connected {
            self.note_connected();
        }
    }

    pub(super) fn is_connected(&self) -> bool {
        *self.connected.borrow()
    }

    /// Changes when the connection breaks or is restored, and when it has ended.
    pub(super) fn changes(&self) -> watch::Receiver<bool> {
        self.connected.subscribe()
    }

    /// The number of waves in the client's hands or beyond that the broker has not confirmed.
    pub(super) fn in_flight(&self) -> u64 {
        let flight = self.unconfirmed.lock();
        flight.taken.saturating_sub(flight.settled)
    }

    /// Waits until the connection is up.
    pub(super) async fn until_connected(&self, client: &Client) {
        let mut connected = self.connected.subscribe();
        // Would fail only if `self` had been dropped.
        let _ = self.watching(client, connected.wait_for(|connected| *connected)).await;
    }

    /// The current connection, to be passed to [`ConnectionState::connected_after`].
    pub(super) fn connection(&self, client: &Client) -> ConnectionNumber {
        ConnectionNumber { state: self.connected.subscribe(), number: connects(client) }
    }

    /// Waits until there is a later connection than the last one seen.
    ///
    /// Cancel safety: if cancelled while waiting, no connection is missed.
    pub(super) async fn connected_after(&self, seen: &mut ConnectionNumber, client: &Client) {
        loop {
            let connects = connects(client);
            if connects != seen.number && self.is_connected() {
                seen.number = connects;
                return;
            }
            // Would fail only if `self` had been dropped.
            let _ = seen.state.changed().await;
        }
    }

    /// Takes a batch from the outbox and counts it. Called by the sending task.
    pub(super) fn take(&self, batch: &mut Vec<Wave>, take: impl FnOnce(&OutboxReader, &mut Vec<Wave>)) {
        let before = batch.len();
        self.is_taking.store(true, Ordering::SeqCst);
        // Outside the lock: a callback for what is too late may read the accounts.
        take(&self.outbox, batch);
        self.unconfirmed.lock().taken += (batch.len() - before) as u64;
        self.is_taking.store(false, Ordering::SeqCst);
    }

    /// Reverts the hand-over of waves to the client, because they could not be written or are too large for it.
    pub(super) fn unsendable(&self, waves: &[Wave]) {
        {
            let mut flight = self.unconfirmed.lock();
            self.outbox.count_unsendable(waves.len() as u64);
            flight.taken -= waves.len() as u64;
            let taken = flight.taken;
            flight.settled = flight.settled.min(taken);
            flight.marked = flight.marked.min(taken);
            self.unsendable.fetch_add(waves.len() as u64, Ordering::Relaxed);
        }
        // Outside the lock: a callback may read the accounts.
        self.outbox.report_unsendable(waves);
    }

    /// The number of waves that could not be sent since the previous call.
    pub(super) fn take_unsendable(&self) -> u64 {
        self.unsendable.swap(0, Ordering::Relaxed)
    }

    pub(super) fn progress(&self) -> watch::Receiver<u64> {
        self.progress.subscribe()
    }

    /// The number of the sending task's markers in flight.
    fn marks_under_way(&self) -> usize {
        self.unconfirmed.lock().markers.len()
    }

    /// Sends a marker behind everything taken from the outbox. Called by the single task that takes from it, when
    /// everything taken is in the client's hands.
    pub(super) async fn mark(&self, client: &Client) {
        let number = {
            let mut flight = self.unconfirmed.lock();
            if flight.ended {
                return;
            }
            flight.last_marker += 1;
            flight.marked = flight.taken;
            let (number, waves, inquiry) = (flight.last_marker, flight.marked, flight.inquiries.last());
            flight.markers.push_back(Marker { number, waves, inquiry });
            number
        };
        self.send_marker(client, number).await;
    }

    async fn send_marker(&self, client: &Client, number: u64) {
        let subject = self.marks.lock().as_ref().map(|marks| marks.subject.clone());
        if let Some(subject) = subject {
            let payload = Bytes::from(self.tokens.write(number));
            // Fails only when the client has ended. In that case the events settle the waves in flight.
            let _ = client.publish(subject, payload).await;
        }
    }

    /// Waits until fewer than `most` markers of the sending task are in unconfirmed: the others returned or were written
    /// off.
    pub(super) async fn fewer_marks_than(&self, most: usize, client: &Client) {
        if self.marks_under_way() < most {
            return;
        }
        let mut progress = self.progress();
        while {
            progress.borrow_and_update();
            self.marks_under_way() >= most
        } {
            // Would fail only if `self` had been dropped.
            let _ = self.watching(client, progress.changed()).await;
        }
    }

    /// Waits until the server has processed everything that this client was given before the call. Waits for as long as
    /// the connection is down.
    async fn round_trip(&self, client: &Client) -> Result<(), Ended> {
        while !self.marker_returns(client).await {
            if self.unconfirmed.lock().ended {
                return Err(Ended);
            }
            self.until_connected(client).await;
        }
        Ok(())
    }

    /// The same, and errors of the server that came before it have been noted.
    pub(super) async fn round_trip_behind_errors(&self, client: &Client) -> Result<(), Ended> {
        let (returned, ()) = tokio::join!(self.round_trip(client), self.barrier.pass(client));
        returned
    }

    /// Sends one marker and waits until it returns, or until it can no longer return because the connection broke or
    /// ended.
    pub(super) async fn marker_returns(&self, client: &Client) -> bool {
        let (number, back) = {
            let mut flight = self.unconfirmed.lock();
            if flight.ended {
                return false;
            }
            flight.last_marker += 1;
            let (sender, back) = oneshot::channel();
            let number = flight.last_marker;
            flight.waiting.insert(number, sender);
            (number, back)
        };
        self.send_marker(client, number).await;
        self.watching(client, back).await.is_ok()
    }

    /// Waits until the server stays away for as long as closing waits for it.
    pub(super) async fn stays_away(&self) {
        let mut away = self.away.subscribe();
        loop {
            // Both would fail only if `self` had been dropped.
            let _ = away.wait_for(|away| *away).await;
            if timeout(AWAY_PATIENCE, away.wait_for(|away| !*away)).await.is_err() {
                return;
            }
        }
    }

    /// Whether sending is no longer possible.
    pub(super) fn has_ended(&self) -> bool {
        self.unconfirmed.lock().ended
    }

    /// The goal of settling everything taken so far.
    pub(super) fn goal(&self) -> Goal {
        Goal { mark: self.outbox.mark(), taken: None }
    }

    /// The number of waves that are in the outbox or not confirmed by the broker. `None` when everything before the
    /// goal has left the outbox, is in the client's hands, and was confirmed or written off. Waves emitted in the
    /// meantime do not count, because otherwise a flush alongside a busy emitter would never finish.
    pub(super) fn unsettled(&self, goal: &mut Goal) -> Option<u64> {
        let flight = self.unconfirmed.lock();
        // In this order: what has left is counted, or about to be.
        let has_left = self.outbox.has_passed(goal.mark) && !self.is_taking.load(Ordering::SeqCst);
        let taken = match goal.taken {
            None if has_left => *goal.taken.insert(flight.taken),
            // Waves that could not be sent after all were deducted.
            Some(taken) => taken.min(flight.taken),
            None => u64::MAX,
        };
        let is_settled = flight.settled >= taken && flight.marked >= taken;
        (!is_settled).then(|| self.outbox.ledger().queued + flight.taken - flight.settled)
    }

    /// Waves that were in flight when a connection broke.
    pub(super) fn unconfirmed(&self) -> u64 {
        self.unconfirmed.lock().written_off
    }

    /// Called for each message taken from the client.
    pub(super) fn took_message(&self) {
        self.taken.fetch_add(1, Ordering::Relaxed);
    }

    /// The number of messages that the client has received and that have not been taken from it, or never will be.
    pub(super) fn untaken(&self, client: &Client) -> u64 {
        // The order matters: messages that arrive between the two reads must not make the difference too small.
        let taken = self.taken.load(Ordering::Acquire);
        client.statistics().in_messages.load(Ordering::Acquire).saturating_sub(taken)
    }

    /// Counts a forged marker or a forged server notice.
    pub(super) fn refuse(&self) {
        self.refused.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn refused(&self) -> u64 {
        self.refused.load(Ordering::Relaxed)
    }

    /// Counts a message that was taken from the client and dropped because too many are waiting.
    pub(super) fn drop_message(&self) {
        self.dropped_by_client.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn dropped_by_client(&self) -> u64 {
        self.dropped_by_client.load(Ordering::Relaxed)
    }

    /// Stops the markers. Waiting tasks are notified, and the sending task continues without markers.
    pub(super) fn end(&self) {
        let written_off = {
            let mut flight = self.unconfirmed.lock();
            flight.ended = true;
            flight.write_off()
        };
        drop(written_off);
        if let Some(marks) = self.marks.lock().take() {
            marks.task.abort();
        }
        self.connected.send_replace(true);
        self.note_progress();
    }
}

/// The number of connections that the client has made.
fn connects(client: &Client) -> u64 {
    client.statistics().connects.load(Ordering::Relaxed)
}

#[cfg(test)]
mod tests;
