//! Two of tokio's bounded mpsc channels, one for important messages, with a `select!` that polls that one first: a
//! careful user's solution for two strengths inside one process. A full channel drops its newest message.

use std::sync::Arc;

use bytes::Bytes;
use tokio::sync::mpsc::{Receiver, Sender, channel};

use super::{BOUND, Hear, Offer};
use crate::losses::{Loss, Losses};
use crate::payload::{Load, Message};
use crate::schedule::Strength;

/// Both ends.
pub(crate) fn two_mpsc(losses: &Arc<Losses>) -> (TwoSender, TwoReceiver) {
    let (strong_sender, strong) = channel(BOUND);
    let (weak_sender, weak) = channel(BOUND);
    let senders = Some((strong_sender, weak_sender));
    (TwoSender { senders, losses: Arc::clone(losses) }, TwoReceiver { strong, weak })
}

pub(crate) struct TwoSender {
    senders: Option<(Sender<Bytes>, Sender<Bytes>)>,
    losses: Arc<Losses>,
}

impl Offer for TwoSender {
    fn offer(&mut self, payload: Bytes, strength: Strength) {
        let taken = self.senders.as_ref().is_some_and(|(strong, weak)| {
            let sender = match strength {
                Strength::Strong => strong,
                Strength::Weak => weak,
            };
            sender.try_send(payload).is_ok()
        });
        if !taken {
            self.losses.count(strength, Loss::Refused);
        }
    }

    async fn end(&mut self) -> bool {
        self.senders = None;
        true
    }
}

pub(crate) struct TwoReceiver {
    strong: Receiver<Bytes>,
    weak: Receiver<Bytes>,
}

impl Hear for TwoReceiver {
    async fn next(&mut self) -> Option<Load> {
        loop {
            let payload = tokio::select! {
                biased;
                Some(payload) = self.strong.recv() => payload,
                Some(payload) = self.weak.recv() => payload,
                else => return None,
            };
            if let Some(Message::Load(load)) = Message::of_payload(&payload) {
                return Some(load);
            }
        }
    }
}
