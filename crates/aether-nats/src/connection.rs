//! State shared by all parts of the NATS medium: the client, the outbox, the subjects, and the message size limit.
//!
//! The sending task, the tasks of subscriptions, the reply paths and the medium use it. It starts no tasks. It sends
//! only copies for observers: the asker publishes a copy of its question, and of the answer it received, without a
//! reply subject. Each copy is published when the original has been handed on. Observers receive the original
//! question of a foreign requester, and the responder publishes the copy of its answer.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use bytes::Bytes;
use futures_util::FutureExt;
use futures_util::future::{BoxFuture, join_all};
use parking_lot::Mutex;
use tokio::task::coop;

use super::authentication::{Sealing, role_of};
use super::client::NatsClient;
use super::cloudevents;
use super::joins::{AnnouncementRequests, Joins};
use super::malformed::Malformed;
use super::no_responders::Unverified;
use super::refusals::NatsRefusals;
use super::state::ConnectionState;
use super::subjects::Root;
use aether_core::clock::{Instant, micros_since_1970};
use aether_core::inbox::Inbox;
use aether_core::medium::Wire;
use aether_core::{Channel, Wave, clock};
use aether_link::wire::{EncodeError, Sender, encode, frame_bound, record_bound};
use aether_link::{Acceptance, Flow, OutboxReader, frame_oversize};

/// The number of messages that the client queues per subscription before it drops any. The client counts messages, not
/// bytes. The draining tasks empty these queues at once and never wait for anything. The queue therefore only has to
/// hold the messages that arrive while a draining task is not scheduled.
pub(super) const CLIENT_QUEUE: usize = 1 << 18;

/// A subscription that is being left. The future completes once the client has been told to unsubscribe.
pub(super) type Leaving = futures_util::future::Shared<BoxFuture<'static, ()>>;

/// State shared by the sending task, the reply paths and the medium.
pub(super) struct NatsShared {
    pub(super) client: NatsClient,
    pub(super) state: Arc<ConnectionState>,
    pub(super) refusals: Arc<NatsRefusals>,
    pub(super) malformed: Arc<Malformed>,
    pub(super) outbox: OutboxReader,
    pub(super) prefix: String,
    pub(super) wire: Wire,
    pub(super) sealing: Arc<Sealing>,
    /// `None` in a process without keys.
    pub(super) unverified: Option<Unverified>,
    pub(super) node: u64,
    pub(super) closed: AtomicBool,
    pub(super) announcements: AnnouncementRequests,
    pub(super) joins: Joins,
    pub(super) flow: Flow,
    /// Total bytes of the messages that wait behind a wave that does not fit into its inbox.
    pub(super) waiting_bytes: AtomicUsize,
    /// Subscriptions that were left, but that the client may not have been told about yet.
    pub(super) leaving: Mutex<Vec<Leaving>>,
}

impl NatsShared {
    pub(super) fn subject(&self, root: Root, name: &str) -> String {
        [&self.prefix, root.as_suffix(), ".", name].concat()
    }

    pub(super) fn sender(&self) -> Sender {
        Sender { node: self.node, sent_micros: micros_since_1970() }
    }

    /// Encodes one wave as a frame of its own.
    pub(super) fn frame(&self, wave: &Wave, now: Instant) -> Result<Bytes, EncodeError> {
        encode(self.sender(), None, std::slice::from_ref(wave), now)
    }

    /// Seals a frame for a channel below a root, if this process seals. `None` if it cannot be sealed.
    pub(super) fn sealed(&self, root: Root, channel: &str, subject: &str, frame: Bytes) -> Option<Bytes> {
        self.sealing.seal(role_of(root, channel), subject, "", frame)
    }

    /// The maximum size of a frame, before it is sealed if this process seals.
    pub(super) fn max_frame(&self) -> usize {
        self.client.max_payload().saturating_sub(self.sealing.overhead())
    }

    /// Waits until the client has been told about every subscription that was left. Messages handed to the client
    /// afterwards do not reach those subscriptions, because the server processes one client's messages in order.
    pub(super) async fn left(&self) {
        let leaving = self.leaving.lock().clone();
        if !leaving.is_empty() {
            join_all(leaving).await;
            self.leaving.lock().retain(|leaving| leaving.peek().is_none());
        }
    }

    /// Sends a copy of a wave to the observers of its channel. Never waits: if the client has no room, the copy is
    /// skipped, and the participants do not depend on it.
    pub(super) fn observe(&self, wave: &Wave) {
        match self.wire {
            Wire::Frames => {
                if let Ok(frame) = self.frame(wave, clock::now()) {
                    self.observe_frame(wave.channel(), frame);
                }
            }
            Wire::CloudEvents => {
                let subject = self.subject(Root::Seen, wave.channel().as_str());
                let headers = cloudevents::headers(wave, clock::now());
                at_once(self.client.publish_with_headers(subject, headers, wave.payload().clone()));
            }
        }
    }

    /// The same for a wave that was just sent as this frame.
    pub(super) fn observe_frame(&self, channel: &Channel, frame: Bytes) {
        let subject = self.subject(Root::Seen, channel.as_str());
        if let Some(frame) = self.sealed(Root::Seen, channel.as_str(), &subject, frame) {
            at_once(self.client.publish(subject, frame));
        }
    }
}

impl Acceptance for NatsShared {
    fn outbox(&self) -> &Arc<Inbox> {
        self.outbox.inbox()
    }

    fn is_closed(&self) -> bool {
        self.closed.load(Ordering::Acquire)
    }

    fn oversize(&self, wave: &Wave) -> Option<(usize, usize)> {
        let max_bytes = self.max_frame();
        match self.wire {
            Wire::Frames => {
                let bound = frame_bound(None) + record_bound(wave);
                frame_oversize(wave, (bound, max_bytes), |now| self.frame(wave, now))
            }
            Wire::CloudEvents => {
                let bytes = wave.payload().len() + cloudevents::headers_len(wave);
                (bytes > max_bytes).then_some((bytes, max_bytes))
            }
        }
    }
}

fn at_once<E: std::fmt::Display>(publish: impl Future<Output = Result<(), E>>) {
    // Handing over to the client takes one poll if there is room.
    match coop::unconstrained(publish).now_or_never() {
        Some(Ok(())) => {}
        Some(Err(error)) => tracing::debug!(%error, "observers get no copy of a question or an answer"),
        None => tracing::debug!("observers get no copy of a question or an answer: the client has no room"),
    }
}
