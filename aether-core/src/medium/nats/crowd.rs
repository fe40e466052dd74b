//! The receiver's side of pauses: messages that wait because an inbox has no room, and the notices to their senders.
//!
//! One for each task that takes from the client. What the network brings for an inbox whose options say that emitters
//! wait, and that has no room, waits here: at most as long as the inbox lets emitters wait, and of all subscriptions
//! together at most [`WAITING_BYTES`]. Meanwhile the senders are asked to pause. A receiver that is stuck makes the inbox
//! lose patience; then it sheds at once, nothing waits here and nobody is asked to pause, until it is half empty.

use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use async_nats::Message;
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use tokio::task::coop;

use super::connection::{NatsShared, Root};
use super::flow::{FLOW, LEASE, Pause, RENEW_EVERY, sleep_until};
use crate::channel::Pattern;
use crate::clock::Instant;
use crate::router::Crowded;

/// So many bytes of messages wait in a process: what was on its way when the senders were asked to pause, or what a server
/// held for a process that did not run for a while. What is more is not waited with.
const WAITING_BYTES: usize = 64 << 20;

/// What a message takes beside its payload.
const MESSAGE_OVERHEAD: usize = 256;

pub(super) struct Crowd {
    shared: Arc<NatsShared>,
    id: u64,
    pattern: Pattern,
    /// Ready when the waves that have no room have some, or when their inbox has lost patience.
    settling: Option<BoxFuture<'static, ()>>,
    /// What came after them.
    messages: VecDeque<Message>,
    /// The level from which on senders are asked to pause, and when they are asked again.
    pausing: Option<(u8, Instant)>,
}

impl Crowd {
    pub(super) fn new(shared: Arc<NatsShared>, pattern: Pattern) -> Self {
        let id = shared.flow.next_id();
        Self { shared, id, pattern, settling: None, messages: VecDeque::new(), pausing: None }
    }

    pub(super) fn is_waiting(&self) -> bool {
        self.settling.is_some()
    }

    /// Waits with what has no room, if there is anything.
    pub(super) fn wait_with(&mut self, crowded: Crowded) {
        let Some(level) = crowded.level() else { return };
        self.settling = Some(crowded.settle().boxed());
        if self.pausing.is_none_or(|(paused, _)| level < paused) {
            self.pause(level);
        }
    }

    /// Returns when nothing waits any more; never if nothing waits. Asks the senders again meanwhile.
    ///
    /// Cancel safety: cancelled, it goes on with the next call.
    pub(super) async fn settled(&mut self) {
        loop {
            let again = self.pausing.map(|(_, again)| again);
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

    /// Keeps a message that came while something waits. Where it is one too many, what waits is shed.
    pub(super) fn keep(&mut self, message: Message) {
        let bytes = weight(&message);
        self.messages.push_back(message);
        if self.shared.flow.waiting_bytes.fetch_add(bytes, Ordering::Relaxed) + bytes > WAITING_BYTES {
            self.settling = None;
        }
    }

    /// The next message, if it may be taken now. When there is none left, the senders may resume.
    pub(super) fn next(&mut self) -> Option<Message> {
        if self.is_waiting() {
            self.ask_again();
            if self.shared.flow.waiting_bytes.load(Ordering::Relaxed) <= WAITING_BYTES
                || self.messages.is_empty()
            {
                return None;
            }
            self.settling = None;
        }
        let message = self.take();
        if message.is_none()
            && let Some((level, _)) = self.pausing.take()
        {
            self.send(level, Duration::ZERO);
        }
        message
    }

    /// Waits no more: what has no room is shed. The messages are still to be taken.
    pub(super) fn give_up(&mut self) {
        self.settling = None;
    }

    /// The next message, whether anything waits or not.
    pub(super) fn take(&mut self) -> Option<Message> {
        let message = self.messages.pop_front()?;
        self.shared.flow.waiting_bytes.fetch_sub(weight(&message), Ordering::Relaxed);
        Some(message)
    }

    fn ask_again(&mut self) {
        if let Some((level, again)) = self.pausing
            && again <= Instant::now()
        {
            self.pause(level);
        }
    }

    fn pause(&mut self, level: u8) {
        self.pausing = Some((level, Instant::now() + RENEW_EVERY));
        self.send(level, LEASE);
    }

    fn send(&self, level: u8, lease: Duration) {
        self.shared.send_pause(&Pause { id: self.id, pattern: self.pattern.clone(), level, lease });
    }
}

impl Drop for Crowd {
    fn drop(&mut self) {
        while self.take().is_some() {}
    }
}

fn weight(message: &Message) -> usize {
    message.length + MESSAGE_OVERHEAD
}

impl NatsShared {
    /// Sends a notice, if the client has room for it now: a task that takes waves from the network does not wait. One that
    /// is not sent is made up for by the next, or by the end of the lease.
    pub(super) fn send_pause(&self, pause: &Pause) {
        let Some(frame) = self.flow.wave(pause).and_then(|wave| self.frame(&wave, Instant::now()).ok())
        else {
            return;
        };
        let sending = self.client.publish(self.subject(Root::Questions, FLOW), frame);
        // Without the budget of the task, which may be spent.
        let _ = coop::unconstrained(sending).now_or_never();
    }
}
