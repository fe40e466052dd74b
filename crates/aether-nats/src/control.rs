//! The framework's control notices. They bypass the outbox, and the broker reports whether anybody receives them.
//!
//! Notices are sent to the subjects of questions, so that observers do not count as receivers. Each notice has its own
//! reply subject, to which the server reports that there are no responders (status 503). Nothing else replies there.
//! The server processes one client's messages in order. Once a marker sent after the notices has returned, all such
//! reports have arrived.

use async_nats::Subscriber;
use futures_util::future::join_all;
use futures_util::{FutureExt, StreamExt};
use tokio::task::coop;

use super::connection::NatsShared;
use super::root::Root;
use super::tokens::Tokens;
use super::unheard_probes::unheard;
use aether_core::medium::Reach;
use aether_core::{Wave, clock};
use aether_link::Acceptance;

/// Sends notices and receives the server's no-responders reports.
pub(super) struct Control {
    subject: String,
    tokens: Tokens,
    /// The subscription is made with the first notice. Each call holds the lock, so that calls run one at a time.
    words: tokio::sync::Mutex<Words>,
}

#[derive(Default)]
struct Words {
    subscriber: Option<Subscriber>,
    /// The number of the latest notice. Numbers keep a late report from being attributed to another notice.
    last: u64,
}

impl Control {
    /// `subject` must be one that only this connection subscribes to.
    pub(super) fn new(subject: String) -> Self {
        Self { subject, tokens: Tokens::default(), words: tokio::sync::Mutex::default() }
    }

    pub(super) async fn notify(&self, shared: &NatsShared, notices: Vec<Wave>) -> Vec<Reach> {
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
            reaches.push(if is_sent { Reach::Delivered } else { Reach::Unsent });
        }
        if shared.link.marker_returns(&shared.client).await {
            // Unconstrained, because the task's budget may be exhausted and every queued message must be seen.
            while let Some(Some(word)) = coop::unconstrained(subscriber.next()).now_or_never() {
                shared.link.took_message();
                let Some(number) = unheard(&word, &self.tokens) else { continue };
                if number.is_none() {
                    shared.link.refuse();
                }
                // Older reports belong to a call that was cancelled.
                let place = number.and_then(|number| usize::try_from(number.checked_sub(first)?).ok());
                if let Some(reach) = place.and_then(|place| reaches.get_mut(place)) {
                    *reach = Reach::NoListener;
                }
            }
            self.look_again(shared, &notices, &mut reaches).await;
        } else {
            let is_sent = |reach: &&mut Reach| **reach == Reach::Delivered;
            reaches.iter_mut().filter(is_sent).for_each(|reach| *reach = Reach::Unknown);
        }
        reaches
    }

    /// In a process with keys others may have said that nobody hears a notice.
    async fn look_again(&self, shared: &NatsShared, notices: &[Wave], reaches: &mut [Reach]) {
        if !shared.sealing.is_on() {
            return;
        }
        let unheard = notices.iter().zip(&mut *reaches).filter(|(_, reach)| **reach == Reach::NoListener);
        let looks = unheard.map(async |(notice, reach)| {
            *reach = match shared.is_unheard(notice.channel()).await {
                Some(true) => Reach::NoListener,
                // Somebody hears the channel now. The report was false, or whoever hears it has come since.
                Some(false) | None => Reach::Unknown,
            };
        });
        join_all(looks).await;
    }

    /// Waits for any call to [`tell`](Self::tell) in progress to finish.
    pub(super) async fn announced(&self) {
        drop(self.words.lock().await);
    }

    async fn send(&self, shared: &NatsShared, number: u64, notice: &Wave) -> bool {
        // While a medium is being closed, its vibrators still send their farewell notices.
        if shared.link.has_ended() || shared.oversize(notice).is_some() {
            return false;
        }
        // Notices are always frames, whatever the wire format of other waves, because only Aether reads them.
        let Ok(frame) = shared.frame(notice, clock::now()) else { return false };
        let subject = shared.subject(Root::Questions, notice.channel().as_str());
        let channel = notice.channel().as_str();
        let Some(frame) = shared.sealed(Root::Questions, channel, &subject, frame) else { return false };
        let reply = format!("{}.{}", self.subject, self.tokens.write(number));
        shared.client.publish_with_reply(subject, reply, frame).await.is_ok()
    }
}
