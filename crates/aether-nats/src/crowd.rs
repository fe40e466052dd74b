//! The receiver's side of pauses: messages that wait because an inbox is full, and pause notices to their senders.
//!
//! Each task that takes messages from the client has one [`Crowd`]. If an inbox makes emitters wait and is full,
//! messages for it wait here. They wait at most as long as the inbox lets emitters wait, and all subscriptions together
//! hold at most [`WAITING_BYTES`]. Meanwhile the senders are asked to pause. If a receiver is stuck, its inbox loses
//! patience and sheds waves at once. Until that inbox is half empty, nothing waits here and no sender is asked to
//! pause.

use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use tokio::task::coop;

use super::arrived::Arrived;
use super::connection::NatsShared;
use super::root::Root;
use aether_core::Pattern;
use aether_core::clock::{self, sleep_until};
use aether_core::medium::Crowded;
use aether_link::{FLOW, Pause, PauseRequest};

/// The maximum size of all messages that wait in a process. These are messages that were in transit when the senders
/// were asked to pause, or that a server held for a process that was not running for a while. Beyond this limit,
/// messages do not wait.
const WAITING_BYTES: usize = 64 << 20;

/// The assumed memory overhead of a message besides its payload.
const MESSAGE_OVERHEAD: usize = 256;

pub(super) struct Crowd {
    shared: Arc<NatsShared>,
    /// Completes when there is room for the waiting waves, or when their inbox has lost patience.
    settling: Option<BoxFuture<'static, ()>>,
    /// Messages that arrived after the waiting waves.
    messages: VecDeque<Arrived>,
    pause: PauseRequest,
}

impl Crowd {
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

impl Drop for Crowd {
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
    pub(super) fn send_pause(&self, pause: &Pause) {
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
