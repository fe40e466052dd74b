//! The control messages of [`joins`](super::joins): ours, those of others, and the answers to ours.
//!
//! [`Nats`](super::Nats) sends them, and runs one task per connection that takes them. The sending task answers.

use std::sync::Arc;

use async_nats::{Message, SubscribeError};
use futures_util::StreamExt;
use tokio::sync::watch;

use super::arrived::Arrived;
use super::connection::NatsShared;
use super::joins::{JOINS, JoinNotice, answers_for};
use super::root::Root;
use super::sealing::SealingGuard;
use aether_core::{Channel, Pattern, clock};

impl NatsShared {
    /// Sends the notice of a join that is in force.
    ///
    /// Cancel safety: cancelled while it waits for room in the client, nothing is sent.
    pub(super) async fn tell_join(&self, pattern: &Pattern) {
        let notice = self.joins.notice(pattern).and_then(|wave| self.frame(&wave, clock::now()).ok());
        let Some(frame) = notice else { return };
        let subject = self.subject(Root::Questions, JOINS);
        if let Some(frame) = self.sealed(Root::Questions, JOINS, &subject, frame) {
            // Fails only when the client has ended.
            let _ = self.client.publish(subject, frame).await;
        }
    }

    /// Opens a control message.
    fn open_notice(&self, message: Message, before: &str, guard: &mut SealingGuard) -> Option<Arrived> {
        self.link.took_message();
        self.sealing.open(Root::Questions, before, message, guard)
    }
}

/// Starts the task that takes the notices of others, and the answers to ours.
pub(super) async fn listen(
    shared: &Arc<NatsShared>,
    mut ending: watch::Receiver<bool>,
) -> Result<(), SubscribeError> {
    let answers_on = answers_for(shared.node);
    let mut notices = shared.client.subscribe(shared.subject(Root::Questions, JOINS)).await?;
    let mut answers = shared.client.subscribe(shared.subject(Root::Questions, &answers_on)).await?;
    let shared = Arc::clone(shared);
    tokio::spawn(async move {
        let before = shared.subject(Root::Questions, "");
        let mut guards = [shared.sealing.guard(false), shared.sealing.guard(false)];
        let Ok(answers_on) = Channel::with_reserved(&answers_on) else { return };
        loop {
            // Once the client has ended, the end is all that is left to wait for.
            tokio::select! {
                biased;
                _ = ending.wait_for(|ending| *ending) => return,
                Some(message) = answers.next() => {
                    if let Some(answer) = shared.open_notice(message, &before, &mut guards[0]) {
                        shared.joins.note_answer(&answer, &answers_on);
                    }
                }
                Some(message) = notices.next() => {
                    let notice = shared.open_notice(message, &before, &mut guards[1]);
                    let notice = notice.filter(|_| shared.joins.admits_one(clock::now()));
                    if let Some(notice) = notice.and_then(|notice| JoinNotice::read(&notice.message.payload)) {
                        shared.announcing.joined(notice);
                    }
                }
            }
        }
    });
    Ok(())
}
