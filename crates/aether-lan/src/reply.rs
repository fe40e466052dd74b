//! The way back to an asker in another process.

use std::sync::Arc;

use futures_util::future::BoxFuture;

use super::lane::Lane;
use super::message::Message;
use super::shared::{LanShared, MAX_FRAME};
use aether_core::Wave;
use aether_core::wave::{ReplyError, ReplyPath};
use aether_link::Acceptance;

pub(super) struct Reply {
    pub(super) shared: Arc<LanShared>,
    pub(super) asker: u64,
    pub(super) number: u64,
    pub(super) lane: Lane,
}

impl ReplyPath for Reply {
    fn carry(&self, reply: Wave) -> BoxFuture<'_, Result<(), ReplyError>> {
        Box::pin(async move {
            let shared = &self.shared;
            if shared.is_closed() {
                return Err(ReplyError::Closed);
            }
            if let Some((bytes, max_bytes)) = shared.oversize(&reply) {
                return Err(ReplyError::TooLarge { bytes, max_bytes });
            }
            let too_large = |_| ReplyError::TooLarge { bytes: reply.payload().len(), max_bytes: MAX_FRAME };
            let frame = shared.frame(self.lane, &reply).map_err(too_large)?;
            let answer = Message::Answer { number: self.number, frame };
            if shared.say(self.asker, self.lane, answer).await { Ok(()) } else { Err(ReplyError::Closed) }
        })
    }
}
