//! Copies of questions and answers for observers.
//!
//! The asker publishes a copy of its question, and of the answer it received, without a reply subject. Each copy is
//! published when the original has been handed on. Observers receive the original question of a foreign requester, and
//! the responder publishes the copy of its answer.

use bytes::Bytes;
use futures_util::FutureExt;
use tokio::task::coop;

use super::cloudevents;
use super::connection::NatsShared;
use super::root::Root;
use aether_core::medium::Wire;
use aether_core::{Channel, Wave, clock};

impl NatsShared {
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

fn at_once<E: std::fmt::Display>(publish: impl Future<Output = Result<(), E>>) {
    // Handing over to the client takes one poll if there is room.
    match coop::unconstrained(publish).now_or_never() {
        Some(Ok(())) => {}
        Some(Err(error)) => tracing::debug!(%error, "observers get no copy of a question or an answer"),
        None => tracing::debug!("observers get no copy of a question or an answer: the client has no room"),
    }
}
