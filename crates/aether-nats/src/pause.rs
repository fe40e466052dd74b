//! Pauses: messages that wait because an inbox is full, the notices to their senders, and the senders that obey.
//!
//! Each task that takes messages from the client has one [`PauseRequester`]. If an inbox makes emitters wait and is full,
//! messages for it wait here. They wait at most as long as the inbox lets emitters wait, and all subscriptions together
//! hold at most [`WAITING_BYTES`]. Meanwhile the senders are asked to pause. If a receiver is stuck, its inbox loses
//! patience and sheds waves at once. Until that inbox is half empty, nothing waits here and no sender is asked to
//! pause.
//!
//! The sending task has [`ObeyedPauses`], which reads the notices of receivers and determines the waves that stay in
//! the outbox for now; `emit` is not involved.

use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use async_nats::{Message, Subscriber};
use futures_util::future::BoxFuture;
use futures_util::{FutureExt, StreamExt};
use tokio::task::coop;

use super::authentication::{Arrived, SealingGuard, known_node};
use super::connection::NatsShared;
use super::subjects::Root;
use aether_core::clock::{self, sleep_until};
use aether_core::medium::Crowded;
use aether_core::{Pattern, Wave};
use aether_link::{Acceptance, FLOW, Noted, Pause, PauseRequest, PauseTable, read_pauses};

/// The maximum size of all messages that wait in a process. These are messages that were in transit when the senders
/// were asked to pause, or that a server held for a process that was not running for a while. Beyond this limit,
/// messages do not wait.
const WAITING_BYTES: usize = 64 << 20;

/// The assumed memory overhead of a message besides its payload.
const MESSAGE_OVERHEAD: usize = 256;

/// The maximum number of notices read between two batches.
const NOTICES: usize = 64;

/// The receiver's side: messages that wait, and the request to their senders.
pub(super) struct PauseRequester {
    shared: Arc<NatsShared>,
    /// Completes when there is room for the waiting waves, or when their inbox has lost patience.
    settling: Option<BoxFuture<'static, ()>>,
    /// Messages that arrived after the waiting waves.
    messages: VecDeque<Arrived>,
    pause: PauseRequest,
}

impl PauseRequester {
    pub(super) fn new(shared: Arc<NatsShared>, pattern: Pattern) -> Self {
        let pause = PauseRequest::new(shared.flow.next_id(), pattern);
        Self { shared, settling: None, messages: VecDeque::new(), pause }
    }

    pub(super) fn is_waiting(&self) -> bool {
        self.settling.is_some()
    }

    /// Starts waiting for room for the waves that do not fit, if there are any.
    pub(super) fn wait_with(&mut self, crowded: Crowded) {
        let Some(level) = crowded.level() else { return };
        self.settling = Some(crowded.settle().boxed());
        let pause = self.pause.ask(level);
        self.send(pause);
    }

    /// Returns when the waiting waves have been settled. Never returns if no waves are waiting. Renews the pause
    /// requests meanwhile.
    ///
    /// Cancel safety: if cancelled, the next call continues the wait.
    pub(super) async fn settled(&mut self) {
        loop {
            let again = self.pause.renewal();
            let settling = async {
                match &mut self.settling {
                    Some(settling) => Pin::new(settling).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                biased;
                () = settling => {
                    self.settling = None;
                    return;
                }
                () = sleep_until(again) => self.ask_again(),
            }
        }
    }

    /// Queues a message that arrived during a wait. If it exceeds the limit, the waiting waves are shed.
    pub(super) fn keep(&mut self, message: Arrived) {
        let bytes = weight(&message);
        self.messages.push_back(message);
        if self.shared.waiting_bytes.fetch_add(bytes, Ordering::Relaxed) + bytes > WAITING_BYTES {
            self.settling = None;
        }
    }

    /// The next message, if one may be taken now. When none is left, the senders are allowed to resume.
    pub(super) fn next(&mut self) -> Option<Arrived> {
        if self.is_waiting() {
            self.ask_again();
            if self.shared.waiting_bytes.load(Ordering::Relaxed) <= WAITING_BYTES || self.messages.is_empty()
            {
                return None;
            }
            self.settling = None;
        }
        let message = self.take();
        if message.is_none() {
            let end = self.pause.end();
            self.send(end);
        }
        message
    }

    /// Stops waiting and sheds the waves that do not fit. The queued messages must still be taken.
    pub(super) fn give_up(&mut self) {
        self.settling = None;
    }

    /// The next message, regardless of whether waves are waiting.
    pub(super) fn take(&mut self) -> Option<Arrived> {
        let message = self.messages.pop_front()?;
        self.shared.waiting_bytes.fetch_sub(weight(&message), Ordering::Relaxed);
        Some(message)
    }

    fn ask_again(&mut self) {
        let pause = self.pause.renewed(clock::now());
        self.send(pause);
    }

    fn send(&self, notice: Option<Pause>) {
        if let Some(notice) = notice {
            self.shared.send_pause(&notice);
        }
    }
}

impl Drop for PauseRequester {
    fn drop(&mut self) {
        while self.take().is_some() {}
    }
}

fn weight(arrived: &Arrived) -> usize {
    arrived.message.length + MESSAGE_OVERHEAD
}

impl NatsShared {
    /// Sends a pause notice if the client has room for it now, because a task that takes waves from the network must
    /// not wait. The next notice, or the end of the lease, makes up for a notice that is not sent.
    fn send_pause(&self, pause: &Pause) {
        let Some(frame) = self.flow.wave(pause).and_then(|wave| self.frame(&wave, clock::now()).ok()) else {
            return;
        };
        let subject = self.subject(Root::Questions, FLOW);
        let Some(frame) = self.sealed(Root::Questions, FLOW, &subject, frame) else { return };
        let sending = self.client.publish(subject, frame);
        // Unconstrained, because the task's budget may be exhausted.
        let _ = coop::unconstrained(sending).now_or_never();
    }
}

/// The pauses in force, and the notices that change them.
pub(super) struct ObeyedPauses {
    notices: Option<Subscriber>,
    /// The start of the subject of the notices: prefix, root and dot.
    before_channel: String,
    guard: SealingGuard,
    table: PauseTable,
}

impl ObeyedPauses {
    pub(super) fn new(shared: &NatsShared) -> Self {
        let (before_channel, guard) = (shared.subject(Root::Questions, ""), shared.sealing.guard(false));
        Self { notices: None, before_channel, guard, table: PauseTable::default() }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.table.is_empty()
    }

    /// Waves offered to the outbox before this mark are held.
    pub(super) const fn seen(&self) -> u64 {
        self.table.seen()
    }

    /// Takes a batch of waves that are not held.
    pub(super) fn take_unheld(&mut self, shared: &NatsShared, most: (usize, usize), batch: &mut Vec<Wave>) {
        shared.state.take(batch, |outbox, batch| self.table.take_unheld(outbox, &shared.flow, most, batch));
    }

    /// Waits for a notice or for the end of a pause.
    ///
    /// Cancel safety: if cancelled, no notice is lost.
    pub(super) async fn changed(&mut self, shared: &NatsShared) {
        let end = self.table.next_end();
        let message = match &mut self.notices {
            None => std::future::pending().await,
            Some(notices) => tokio::select! {
                message = notices.next() => message,
                () = sleep_until(end) => return,
            },
        };
        match message {
            Some(message) => self.obey(message, shared),
            // The client has ended.
            None => self.notices = None,
        }
    }

    /// Reads the notices that have arrived and removes the pauses that have ended. Called between batches.
    pub(super) async fn update(&mut self, shared: &NatsShared) {
        if shared.is_closed() {
            // Closing does not wait for receivers: they shed what they cannot accept, and count it.
            self.notices = None;
            if self.table.forget_all() {
                self.apply(shared);
            }
            return;
        }
        let Some(notices) = &mut self.notices else {
            // Subscribes before the first wave is sent. A process that sends nothing does not need pause notices.
            let subject = shared.subject(Root::Questions, FLOW);
            self.notices = shared.client.subscribe(subject).await.ok();
            return;
        };
        let mut come = Vec::new();
        // Bypasses the task's budget, which may be used up: messages that have arrived must be seen.
        while come.len() < NOTICES
            && let Some(Some(message)) = coop::unconstrained(notices.next()).now_or_never()
        {
            come.push(message);
        }
        come.into_iter().for_each(|message| self.obey(message, shared));
        // Another path may have had the outbox meanwhile, which then does not know of these pauses.
        let is_due = shared.outbox.is_shared() && !self.table.is_empty();
        if self.table.forget_ended() || is_due {
            self.apply(shared);
        }
    }

    fn obey(&mut self, message: Message, shared: &NatsShared) {
        shared.state.took_message();
        let Self { before_channel, guard, .. } = self;
        let arrived = shared.sealing.open(Root::Questions, before_channel, message, guard);
        let Some(arrived) = arrived else { return };
        let Some((node, pauses)) = read_pauses(&arrived.message.payload) else { return };
        let node = known_node(arrived.proof.as_ref(), node);
        for pause in pauses {
            if self.table.note(node, pause, &shared.flow) == Noted::Renewed {
                // Flushing tasks see that the receivers are making progress.
                shared.state.note_progress();
            }
        }
        self.apply(shared);
    }

    /// Updates the outbox.
    fn apply(&mut self, shared: &NatsShared) {
        if self.table.apply(&shared.outbox, &shared.flow) {
            // Flushing tasks see that sending continues.
            shared.state.note_progress();
        }
    }
}
