//! The reply path to an asker on the other side of the broker.

use std::sync::Arc;

use futures_util::future::BoxFuture;

use super::cloudevents;
use super::connection::NatsShared;
use super::sealing::Role;
use aether_core::wave::{ReplyError, ReplyPath};
use aether_core::{Wave, clock};
use aether_link::Acceptance;

/// Where answers may go: below `_INBOX`, and below `_R_`, which a server puts in place of an inbox in another account. The asker
/// chooses the subject, and the server lets a program answer to any: so a client without the right to publish somewhere could
/// have a program with more rights do it, and none must have it publish to another channel or to the server's own interfaces.
pub(super) fn may_be_answered(subject: &str) -> bool {
    subject.starts_with("_INBOX.") || subject.starts_with("_R_.")
}

pub(super) struct Reply {
    pub(super) shared: Arc<NatsShared>,
    pub(super) subject: async_nats::Subject,
    /// Where the asker waits by its own, sealed words.
    pub(super) asked_from: Option<async_nats::Subject>,
    /// The asker does not publish a copy of the answer for observers.
    pub(super) to_foreigner: bool,
    /// The asker does not support frames, so it gets only the payload.
    pub(super) plain: bool,
}

impl ReplyPath for Reply {
    fn carry(&self, reply: Wave) -> BoxFuture<'_, Result<(), ReplyError>> {
        Box::pin(async move {
            if self.shared.is_closed() {
                return Err(ReplyError::Closed);
            }
            if let Some((bytes, max_bytes)) = self.shared.oversize(&reply) {
                return Err(ReplyError::TooLarge { bytes, max_bytes });
            }
            let (client, subject) = (&self.shared.client, self.subject.clone());
            let sent = if self.plain {
                let headers = cloudevents::headers(&reply, clock::now());
                client.publish_with_headers(subject, headers, reply.payload().clone()).await
            } else {
                let Ok(frame) = self.shared.frame(&reply, clock::now()) else {
                    let (bytes, max_bytes) = (reply.payload().len(), client.max_payload());
                    return Err(ReplyError::TooLarge { bytes, max_bytes });
                };
                let address = self.asked_from.as_deref().unwrap_or(&subject);
                // The log says why it cannot be sealed.
                let frame = self.shared.sealing.seal(Role::Answers, address, "", frame);
                client.publish(subject, frame.ok_or(ReplyError::Closed)?).await
            };
            // The connection may have been re-established in the meantime, to a server with a lower limit.
            sent.map_err(|_| match self.shared.oversize(&reply) {
                Some((bytes, max_bytes)) => ReplyError::TooLarge { bytes, max_bytes },
                None => ReplyError::Closed,
            })?;
            if self.to_foreigner {
                self.shared.observe(&reply);
            }
            Ok(())
        })
    }
}
