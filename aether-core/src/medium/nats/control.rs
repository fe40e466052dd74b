//! Control of the framework: past the outbox, and with the broker's word on whether anybody hears them.
//!
//! They go where questions go, so that observers do not count. Each has a reply subject of its own, to which the
//! server says that nobody is there (status 503). Nobody else answers. The server handles what one client sends in
//! order, so when a marker that was sent behind them is back, all such words have come.

use async_nats::Subscriber;
use futures_util::{FutureExt, StreamExt};
use tokio::task::coop;

use super::connection::{NatsShared, Root};
use super::tokens::Tokens;
use super::unheard_probes::unheard;
use crate::clock::Instant;
use crate::medium::Reach;
use crate::wave::Wave;

/// Where the server's words arrive.
pub(super) struct Control {
    subject: String,
    tokens: Tokens,
    /// Subscribed to with the first notice. Locked by whoever tells: one call after the other.
    words: tokio::sync::Mutex<Words>,
}

#[derive(Default)]
struct Words {
    subscriber: Option<Subscriber>,
    /// Counts the notices, so that a word that comes late is not taken for one of another notice.
    last: u64,
}

impl Control {
    /// `subject` is one that only this connection hears.
    pub(super) fn new(subject: String) -> Self {
        Self { subject, tokens: Tokens::default(), words: tokio::sync::Mutex::default() }
    }

    pub(super) async fn tell(&self, shared: &NatsShared, notices: Vec<Wave>) -> Vec<Reach> {
        let mut words = self.words.lock().await;
        let Words { subscriber, last } = &mut *words;
        if subscriber.is_none() {
            *subscriber = shared.client.subscribe(format!("{}.*", self.subject)).await.ok();
        }
        let Some(subscriber) = subscriber else { return vec![Reach::Unsent; notices.len()] };
        let first = *last + 1;
        let mut reaches = Vec::with_capacity(notices.len());
        for notice in &notices {
            *last += 1;
            let is_sent = self.send(shared, *last, notice).await;
            reaches.push(if is_sent { Reach::Heard } else { Reach::Unsent });
        }
        if shared.link.marker_returns(&shared.client).await {
            // Without the budget of the task, which may be spent: what is there must be seen.
            while let Some(Some(word)) = coop::unconstrained(subscriber.next()).now_or_never() {
                shared.link.took_message();
                let Some(number) = unheard(&word, &self.tokens) else { continue };
                if number.is_none() {
                    shared.link.refuse();
                }
                // What is older is of a call that was cancelled.
                let place = number.and_then(|number| usize::try_from(number.checked_sub(first)?).ok());
                if let Some(reach) = place.and_then(|place| reaches.get_mut(place)) {
                    *reach = Reach::Nobody;
                }
            }
        } else {
            let is_sent = |reach: &&mut Reach| **reach == Reach::Heard;
            reaches.iter_mut().filter(is_sent).for_each(|reach| *reach = Reach::Unknown);
        }
        reaches
    }

    /// Waits until all is told that somebody has begun to tell.
    pub(super) async fn told(&self) {
        drop(self.words.lock().await);
    }

    async fn send(&self, shared: &NatsShared, number: u64, notice: &Wave) -> bool {
        // While a medium is being closed its vibrators still say goodbye.
        if shared.link.has_ended() || shared.oversize(notice).is_some() {
            return false;
        }
        // Always a frame, whatever other waves are written as: nobody but Aether reads these.
        let Ok(frame) = shared.frame(notice, Instant::now()) else { return false };
        let subject = shared.subject(Root::Questions, notice.channel().as_str());
        let reply = format!("{}.{}", self.subject, self.tokens.write(number));
        shared.client.publish_with_reply(subject, reply, frame).await.is_ok()
    }
}
