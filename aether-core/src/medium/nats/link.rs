//! What is known of the connection: whether it stands, and what the broker has confirmed.
//!
//! NATS does not acknowledge messages, but a server handles what one client sends in order. So now and then a small
//! message goes to a subject that only this connection hears, a *marker*; when it is back, the server has seen
//! everything before it. Each carries a token that only we can know ([`Tokens`]). What was not confirmed when the connection broke is written off and counted. Where the markers
//! come back the server also says that nobody hears what it was asked about ([`Inquiries`]).

use std::collections::{HashMap, VecDeque};
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use async_nats::connection::State;
use async_nats::{Client, Event};
use bytes::Bytes;
use futures_util::StreamExt;
use parking_lot::Mutex;
use tokio::sync::{oneshot, watch};
use tokio::task::JoinHandle;

use super::tokens::Tokens;
use super::unheard_probes::{Inquiries, unheard};
use crate::inbox::Inbox;
use crate::router::Router;
use crate::wave::Wave;

/// The client's queue of events holds 128 and drops what is more, so a connection that broke or came back could go
/// unnoticed. Whoever waits for either, or for a marker, asks the client itself as well, this often.
const LOST_EVENT_WATCH: Duration = Duration::from_secs(1);

/// Emitters that wait for room wait with so many waves in the outbox while the connection stands. A longer queue would
/// send nothing sooner: its waves would only be older when they leave, and no longer in the processor's caches. While
/// the connection is away all of the outbox is theirs.
const AHEAD: usize = 2048;

/// A connection that somebody has seen.
pub(super) struct ConnectionNumber {
    state: watch::Receiver<bool>,
    number: u64,
}

/// Where a flush began.
#[derive(Debug)]
pub(super) struct Goal {
    /// Behind what was in the outbox.
    mark: u64,
    /// How many waves had left the outbox when the last of those had.
    delivered: Option<u64>,
}

/// The connection was closed for good.
#[derive(Debug)]
pub(super) struct Ended;

pub(super) struct Link {
    /// What its ledger calls delivered was handed to the client.
    outbox: Arc<Inbox>,
    connected: watch::Sender<bool>,
    /// Changes with every confirmation, loss and reconnection.
    progress: watch::Sender<u64>,
    flight: Mutex<Flight>,
    dropped_by_client: AtomicU64,
    /// Waves that could not be sent, and that no flush has named yet.
    unsendable: AtomicU64,
    /// Messages taken from the client, whatever they were.
    taken: AtomicU64,
    /// Markers, and words of the server, that somebody else made up.
    refused: AtomicU64,
    /// How our own are known.
    tokens: Tokens,
    marks: Mutex<Option<Marks>>,
}

/// Where the markers go, and the task that takes them in.
struct Marks {
    /// Subjects below it come back to this connection alone.
    inbox: String,
    /// That of the markers.
    subject: async_nats::Subject,
    task: JoinHandle<()>,
}

/// A marker of the sending task, and what went before it.
struct Marker {
    number: u64,
    waves: u64,
    inquiry: u64,
}

#[derive(Default)]
struct Flight {
    /// How many of the waves taken from the outbox were confirmed or written off.
    settled: u64,
    written_off: u64,
    /// How many of them the sending task has handed to the client altogether when it last sent a marker.
    marked: u64,
    /// The markers of the sending task that are under way.
    markers: VecDeque<Marker>,
    inquiries: Inquiries,
    last_marker: u64,
    /// Those who wait for a marker of their own.
    waiting: HashMap<u64, oneshot::Sender<()>>,
    /// How many connections have been seen to break. One less than the client has made, while one stands.
    breaks: u64,
    ended: bool,
}

impl Flight {
    /// Nothing that is under way will be confirmed.
    fn write_off(&mut self, outbox: &Inbox) {
        let taken = outbox.ledger().delivered;
        self.written_off += taken - self.settled;
        self.settled = taken;
        self.markers.clear();
        self.inquiries.clear();
        // Dropping their senders tells those who wait.
        self.waiting.clear();
    }
}

impl Link {
    pub(super) fn new(outbox: Arc<Inbox>) -> Self {
        outbox.let_run_ahead(AHEAD);
        Self {
            outbox,
            connected: watch::Sender::new(true),
            progress: watch::Sender::new(0),
            flight: Mutex::default(),
            dropped_by_client: AtomicU64::new(0),
            unsendable: AtomicU64::new(0),
            taken: AtomicU64::new(0),
            refused: AtomicU64::new(0),
            tokens: Tokens::default(),
            marks: Mutex::new(None),
        }
    }

    /// Begins to listen for markers, and for the server's word on what nobody hears, which the router is told.
    pub(super) async fn connected_to(
        self: &Arc<Self>,
        client: &Client,
        router: Arc<Router>,
    ) -> Result<(), async_nats::SubscribeError> {
        let inbox = client.new_inbox();
        let subject = async_nats::Subject::from(format!("{inbox}.marker"));
        // One subscription for both, so that they come in the order in which the server sent them.
        let mut words = client.subscribe(format!("{inbox}.*")).await?;
        let (link, markers) = (Arc::clone(self), subject.clone());
        let task = tokio::spawn(async move {
            while let Some(word) = words.next().await {
                link.took_message();
                if word.subject == markers {
                    let number = str::from_utf8(&word.payload).ok().and_then(|text| link.tokens.read(text));
                    number.map_or_else(|| link.refuse(), |number| link.confirm(number));
                } else if let Some(number) = unheard(&word, &link.tokens) {
                    let Some(number) = number else {
                        link.refuse();
                        continue;
                    };
                    let waves = link.flight.lock().inquiries.take(number);
                    waves.iter().for_each(|wave| router.reflect_nobody(wave));
                }
            }
        });
        self.flight.lock().breaks = connects(client).saturating_sub(1);
        *self.marks.lock() = Some(Marks { inbox, subject, task });
        Ok(())
    }

    /// Opens an inquiry about waves that are about to be sent, and returns its reply subject. Called by the sending task;
    /// `None` once the connection has ended.
    pub(super) fn inquire(&self, waves: Vec<Wave>) -> Option<String> {
        let marks = self.marks.lock();
        let inbox = &marks.as_ref()?.inbox;
        let number = self.flight.lock().inquiries.open(waves);
        Some(format!("{inbox}.{}", self.tokens.write(number)))
    }

    /// Called by the client's task for events.
    pub(super) fn note(&self, event: &Event) {
        match event {
            Event::Connected => self.stands(),
            Event::Disconnected | Event::Closed => {
                self.connected.send_replace(false);
                self.outbox.let_run_ahead(usize::MAX);
                self.flight.lock().breaks += 1;
                self.write_off();
            }
            Event::SlowConsumer(_) => {
                self.dropped_by_client.fetch_add(1, Ordering::Relaxed);
            }
            _ => {}
        }
    }

    /// There is a connection.
    fn stands(&self) {
        self.connected.send_replace(true);
        self.outbox.let_run_ahead(AHEAD);
        self.moved();
    }

    /// Something was confirmed, lost or made new, or receivers that have asked for a pause go on.
    pub(super) fn moved(&self) {
        self.progress.send_modify(|moves| *moves += 1);
    }

    fn confirm(&self, number: u64) {
        {
            let mut flight = self.flight.lock();
            if let Some(waiting) = flight.waiting.remove(&number) {
                let _ = waiting.send(());
            }
            // They come back in the order in which they left.
            while let Some(marker) = flight.markers.pop_front_if(|marker| marker.number <= number) {
                flight.settled = flight.settled.max(marker.waves);
                flight.inquiries.close(marker.inquiry);
            }
        }
        self.moved();
    }

    /// The connection broke: nothing that is under way will be confirmed.
    fn write_off(&self) {
        self.flight.lock().write_off(&self.outbox);
        self.moved();
    }

    /// Waits, and asks the client now and then whether an event was lost that the wait may depend on.
    async fn watching<T>(&self, client: &Client, wait: impl Future<Output = T>) -> T {
        let mut wait = pin!(wait);
        loop {
            match tokio::time::timeout(LOST_EVENT_WATCH, wait.as_mut()).await {
                Ok(done) => return done,
                Err(_) => self.look_for_lost_events(client),
            }
        }
    }

    /// Makes up for the events that were lost, if any were.
    fn look_for_lost_events(&self, client: &Client) {
        let broken = connects(client).saturating_sub(1);
        let is_unseen = {
            let mut flight = self.flight.lock();
            let is_unseen = flight.breaks < broken;
            flight.breaks = flight.breaks.max(broken);
            is_unseen
        };
        if is_unseen {
            self.write_off();
        }
        if !self.is_connected() && client.connection_state() == State::Connected {
            self.stands();
        }
    }

    pub(super) fn is_connected(&self) -> bool {
        *self.connected.borrow()
    }

    /// Changes when the connection breaks or is back, and when it has ended.
    pub(super) fn changes(&self) -> watch::Receiver<bool> {
        self.connected.subscribe()
    }

    /// Waves in the client's hands or beyond that the broker has not confirmed.
    pub(super) fn in_flight(&self) -> u64 {
        let flight = self.flight.lock();
        self.outbox.ledger().delivered.saturating_sub(flight.settled)
    }

    /// Waits until the connection stands.
    pub(super) async fn standing(&self, client: &Client) {
        let mut connected = self.connected.subscribe();
        // Fails only if `self` were gone.
        let _ = self.watching(client, connected.wait_for(|connected| *connected)).await;
    }

    /// To be handed to [`Link::connected_after`].
    pub(super) fn connection(&self, client: &Client) -> ConnectionNumber {
        ConnectionNumber { state: self.connected.subscribe(), number: connects(client) }
    }

    /// Waits until there is a connection later than the one seen last.
    ///
    /// Cancel safety: cancelled while it waits, no connection is missed.
    pub(super) async fn connected_after(&self, seen: &mut ConnectionNumber, client: &Client) {
        loop {
            let connects = connects(client);
            if connects != seen.number && self.is_connected() {
                seen.number = connects;
                return;
            }
            // Fails only if `self` were gone.
            let _ = seen.state.changed().await;
        }
    }

    /// Takes back that waves were handed to the client, because they could not be written or are too large for it.
    pub(super) fn unsendable(&self, waves: &[Wave]) {
        {
            let mut flight = self.flight.lock();
            self.outbox.count_unsendable(waves.len() as u64);
            let taken = self.outbox.ledger().delivered;
            flight.settled = flight.settled.min(taken);
            flight.marked = flight.marked.min(taken);
            self.unsendable.fetch_add(waves.len() as u64, Ordering::Relaxed);
        }
        // Outside of the lock: a callback may look at the accounts.
        self.outbox.report_unsendable(waves);
    }

    /// How many waves could not be sent since this was last asked.
    pub(super) fn take_unsendable(&self) -> u64 {
        self.unsendable.swap(0, Ordering::Relaxed)
    }

    pub(super) fn progress(&self) -> watch::Receiver<u64> {
        self.progress.subscribe()
    }

    /// How many markers of the sending task are under way.
    pub(super) fn marks_under_way(&self) -> usize {
        self.flight.lock().markers.len()
    }

    /// Sends a marker behind everything that was taken from the outbox. Called by the one task that takes from it,
    /// when all of that is in the client's hands.
    pub(super) async fn mark(&self, client: &Client) {
        let number = {
            let mut flight = self.flight.lock();
            if flight.ended {
                return;
            }
            flight.last_marker += 1;
            flight.marked = self.outbox.ledger().delivered;
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
            // Fails only when the client has ended; then the events settle what is under way.
            let _ = client.publish(subject, payload).await;
        }
    }

    /// Waits until fewer than so many markers of the sending task are under way: they came back or were written off.
    pub(super) async fn fewer_marks_than(&self, most: usize, client: &Client) {
        if self.marks_under_way() < most {
            return;
        }
        let mut progress = self.progress();
        while {
            progress.borrow_and_update();
            self.marks_under_way() >= most
        } {
            // Fails only if `self` were gone.
            let _ = self.watching(client, progress.changed()).await;
        }
    }

    /// Waits until the server has handled everything that this client was given before. Waits for as long as the
    /// connection is away.
    pub(super) async fn round_trip(&self, client: &Client) -> Result<(), Ended> {
        while !self.marker_returns(client).await {
            if self.flight.lock().ended {
                return Err(Ended);
            }
            self.standing(client).await;
        }
        Ok(())
    }

    /// Sends one marker and waits until it is back, or until it cannot come any more: the connection broke or ended.
    pub(super) async fn marker_returns(&self, client: &Client) -> bool {
        let (number, back) = {
            let mut flight = self.flight.lock();
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

    /// Whether nothing can be sent any more.
    pub(super) fn has_ended(&self) -> bool {
        self.flight.lock().ended
    }

    /// What is to be settled for everything to be that was taken so far.
    pub(super) fn goal(&self) -> Goal {
        Goal { mark: self.outbox.mark(), delivered: None }
    }

    /// How many waves the outbox holds or the broker has not confirmed; `None` when everything before the goal has left
    /// the outbox, is in the client's hands, and was confirmed or written off. What is emitted meanwhile does not count,
    /// or whoever flushes beside a busy emitter would never be done.
    pub(super) fn unsettled(&self, goal: &mut Goal) -> Option<u64> {
        let flight = self.flight.lock();
        let has_left = self.outbox.has_passed(goal.mark);
        let ledger = self.outbox.ledger();
        let delivered = match goal.delivered {
            None if has_left => *goal.delivered.insert(ledger.delivered),
            // What could not be sent after all was taken back.
            Some(delivered) => delivered.min(ledger.delivered),
            None => u64::MAX,
        };
        let is_settled = flight.settled >= delivered && flight.marked >= delivered;
        (!is_settled).then(|| ledger.queued + ledger.delivered - flight.settled)
    }

    /// Waves that were under way when a connection broke.
    pub(super) fn unconfirmed(&self) -> u64 {
        self.flight.lock().written_off
    }

    /// Called for each message that was taken from the client.
    pub(super) fn took_message(&self) {
        self.taken.fetch_add(1, Ordering::Relaxed);
    }

    /// How many messages the client has received that nobody has taken from it, not yet or not any more.
    pub(super) fn untaken(&self, client: &Client) -> u64 {
        // In this order: what comes in between is not taken from what was not there.
        let taken = self.taken.load(Ordering::Acquire);
        client.statistics().in_messages.load(Ordering::Acquire).saturating_sub(taken)
    }

    /// Somebody made up a marker or a word of the server.
    pub(super) fn refuse(&self) {
        self.refused.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn refused(&self) -> u64 {
        self.refused.load(Ordering::Relaxed)
    }

    /// A message was taken from the client and dropped, because too many wait.
    pub(super) fn drop_message(&self) {
        self.dropped_by_client.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn dropped_by_client(&self) -> u64 {
        self.dropped_by_client.load(Ordering::Relaxed)
    }

    /// No more markers: whoever waits is told so, and the sending task goes on without them.
    pub(super) fn end(&self) {
        {
            let mut flight = self.flight.lock();
            flight.ended = true;
            flight.write_off(&self.outbox);
        }
        if let Some(marks) = self.marks.lock().take() {
            marks.task.abort();
        }
        self.connected.send_replace(true);
        self.moved();
    }
}

/// How many connections the client has made.
fn connects(client: &Client) -> u64 {
    client.statistics().connects.load(Ordering::Relaxed)
}

#[cfg(test)]
mod tests;
