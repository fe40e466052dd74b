//! What all pieces of the NATS medium share: the client, the outbox, the subjects, and what fits into a message.
//!
//! Used by the sending task, the draining tasks, the replies and the owner. It starts no task and sends nothing itself.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use async_nats::Client;
use bytes::Bytes;
use futures_util::future::{BoxFuture, join_all};
use parking_lot::Mutex;

use super::announcing::Announcing;
use super::cloudevents;
use super::flow::Flow;
use super::link::Link;
use crate::clock::Instant;
use crate::inbox::Inbox;
use crate::medium::{EmitError, Wire};
use crate::wave::Wave;
use crate::wire::{
    EncodeError, MAX_POSITION, Sender, encode, frame_bound, micros_since_1970, record_bound, record_growth,
};

/// Messages that a subscription of the client holds before it drops. The client counts messages, not bytes. Ours are
/// drained at once and nothing that the draining tasks do waits, so this only has to cover the time that such a task may
/// not get a processor: what queues up is what the network brings in that time.
pub(super) const CLIENT_QUEUE: usize = 1 << 18;

/// A subscription on its way out: ready when the client has been told that it was left.
pub(super) type Leaving = futures_util::future::Shared<BoxFuture<'static, ()>>;

/// What the sending task, the replies and the owner share.
pub(super) struct NatsShared {
    pub(super) client: Client,
    pub(super) link: Arc<Link>,
    pub(super) outbox: Arc<Inbox>,
    pub(super) prefix: String,
    pub(super) wire: Wire,
    pub(super) node: u64,
    pub(super) closed: AtomicBool,
    pub(super) announcing: Announcing,
    pub(super) flow: Flow,
    /// Subscriptions that were left and of which the client may not know yet.
    pub(super) leaving: Mutex<Vec<Leaving>>,
}

/// What the subjects of one kind of messages begin with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Root {
    /// `prefix.channel`: waves, and the questions of foreign requesters.
    Waves,
    /// `prefix-ask.channel`: questions, and inquiries whether anybody hears; heard by those who could answer.
    Questions,
    /// `prefix-seen.channel`: copies of questions and answers, heard by observers.
    Seen,
}

impl Root {
    pub(super) const fn as_suffix(self) -> &'static str {
        match self {
            Self::Waves => "",
            Self::Questions => "-ask",
            Self::Seen => "-seen",
        }
    }
}

impl NatsShared {
    pub(super) fn subject(&self, root: Root, name: &str) -> String {
        format!("{}{}.{name}", self.prefix, root.as_suffix())
    }

    pub(super) fn sender(&self) -> Sender {
        Sender { node: self.node, sent_micros: micros_since_1970() }
    }

    /// One wave as a frame of its own.
    pub(super) fn frame(&self, wave: &Wave, now: Instant) -> Result<Bytes, EncodeError> {
        encode(self.sender(), None, std::slice::from_ref(wave), now)
    }

    pub(super) fn is_closed(&self) -> bool {
        self.closed.load(Ordering::Acquire)
    }

    /// Waits until the client knows of every subscription that was left. What it is given afterwards does not go to
    /// those who have left: the server handles what one client sends in order.
    pub(super) async fn left(&self) {
        let leaving = self.leaving.lock().clone();
        if !leaving.is_empty() {
            join_all(leaving).await;
            self.leaving.lock().retain(|leaving| leaving.peek().is_none());
        }
    }

    /// Hands back what can never be sent.
    pub(super) fn check(&self, wave: Wave) -> Result<Wave, EmitError> {
        if self.is_closed() {
            return Err(EmitError::Closed { wave });
        }
        match self.oversize(&wave) {
            Some((bytes, max_bytes)) => Err(EmitError::TooLarge { wave, bytes, max_bytes }),
            None => Ok(wave),
        }
    }

    /// The size on the wire and the largest size, if the wave is too large. The exact size is only computed when a
    /// cheap bound does not decide.
    pub(super) fn oversize(&self, wave: &Wave) -> Option<(usize, usize)> {
        let max_bytes = self.client.max_payload();
        match self.wire {
            Wire::Frames => {
                let bound = frame_bound(None) + record_bound(wave);
                if bound <= max_bytes {
                    return None;
                }
                // As of the oldest it can be when it leaves: what is taken here is not refused by the client later.
                let now = Instant::now();
                let bytes = self
                    .frame(wave, now)
                    .map_or(bound, |frame| frame.len() + MAX_POSITION + record_growth(wave, now));
                (bytes > max_bytes).then_some((bytes, max_bytes))
            }
            Wire::CloudEvents => {
                let bytes = wave.payload().len() + cloudevents::headers_len(wave);
                (bytes > max_bytes).then_some((bytes, max_bytes))
            }
        }
    }
}
