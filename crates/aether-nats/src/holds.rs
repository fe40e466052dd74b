//! The sender's side of pauses: determines which waves stay in the outbox for now.
//!
//! Belongs to the sending task; `emit` is not involved. It reads the notices of receivers; the
//! [`PauseTable`](aether_link::PauseTable) keeps what they ask for.

use async_nats::{Message, Subscriber};
use futures_util::{FutureExt, StreamExt};
use tokio::task::coop;

use super::arrived::known_node;
use super::connection::NatsShared;
use super::root::Root;
use super::sealing::SealingGuard;
use aether_core::Wave;
use aether_core::clock::sleep_until;
use aether_link::Acceptance;
use aether_link::{self, FLOW, Noted, PauseTable};

/// The maximum number of notices read between two batches.
const NOTICES: usize = 64;

/// The pauses in force, and the notices that change them.
pub(super) struct Holds {
    notices: Option<Subscriber>,
    /// The start of the subject of the notices: prefix, root and dot.
    before_channel: String,
    guard: SealingGuard,
    table: PauseTable,
}

impl Holds {
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
        shared.link.take(batch, |outbox, batch| self.table.take_unheld(outbox, &shared.flow, most, batch));
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
        shared.link.took_message();
        let Self { before_channel, guard, .. } = self;
        let arrived = shared.sealing.open(Root::Questions, before_channel, message, guard);
        let Some(arrived) = arrived else { return };
        let Some((node, pauses)) = aether_link::read_pauses(&arrived.message.payload) else { return };
        let node = known_node(arrived.proof.as_ref(), node);
        for pause in pauses {
            if self.table.note(node, pause, &shared.flow) == Noted::Renewed {
                // Flushing tasks see that the receivers are making progress.
                shared.link.moved();
            }
        }
        self.apply(shared);
    }

    /// Updates the outbox.
    fn apply(&mut self, shared: &NatsShared) {
        if self.table.apply(&shared.outbox, &shared.flow) {
            // Flushing tasks see that sending continues.
            shared.link.moved();
        }
    }
}
