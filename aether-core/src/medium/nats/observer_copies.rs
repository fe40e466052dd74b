//! What observers see of questions and answers.
//!
//! The asker publishes copies of its question and of the answer it got, without a reply subject, each when the original
//! has been handed on. Of the question of a foreign requester observers hear the original, and the answerer publishes
//! the copy of its answer.

use futures_util::FutureExt;
use tokio::task::coop;

use super::cloudevents;
use super::connection::{NatsShared, Root};
use crate::clock::Instant;
use crate::medium::Wire;
use crate::wave::Wave;

impl NatsShared {
    /// Shows a wave to the observers of its channel. Never waits: what the client has no room for is not seen, and
    /// those who take part do not depend on it.
    pub(super) fn show(&self, wave: &Wave) {
        let subject = self.subject(Root::Seen, wave.channel().as_str());
        match self.wire {
            Wire::Frames => {
                if let Ok(frame) = self.frame(wave, Instant::now()) {
                    at_once(self.client.publish(subject, frame));
                }
            }
            Wire::CloudEvents => {
                let headers = cloudevents::headers(wave, Instant::now());
                at_once(self.client.publish_with_headers(subject, headers, wave.payload().clone()));
            }
        }
    }
}

fn at_once<E: std::fmt::Display>(publish: impl Future<Output = Result<(), E>>) {
    // Handing over to the client takes one poll if there is room.
    match coop::unconstrained(publish).now_or_never() {
        Some(Ok(())) => {}
        Some(Err(error)) => tracing::debug!(%error, "observers do not see a question or an answer"),
        None => tracing::debug!("observers do not see a question or an answer: the client has no room"),
    }
}
