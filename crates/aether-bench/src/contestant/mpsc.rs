//! tokio's bounded mpsc channel with `try_send`: first in, first out, and a full channel drops the newest.

use std::sync::Arc;

use bytes::Bytes;
use tokio::sync::mpsc::{Receiver, Sender, channel};

use super::{BOUND, Hear, Offer};
use crate::losses::{Loss, Losses};
use crate::payload::{Load, Message};
use crate::schedule::Strength;

/// Both ends.
pub(crate) fn mpsc(losses: &Arc<Losses>) -> (MpscSender, MpscReceiver) {
    let (sender, receiver) = channel(BOUND);
    (MpscSender { sender: Some(sender), losses: Arc::clone(losses) }, MpscReceiver(receiver))
}

pub(crate) struct MpscSender {
    sender: Option<Sender<Bytes>>,
    losses: Arc<Losses>,
}

impl Offer for MpscSender {
    fn offer(&mut self, payload: Bytes, strength: Strength) {
        if self.sender.as_ref().is_none_or(|sender| sender.try_send(payload).is_err()) {
            self.losses.count(strength, Loss::Refused);
        }
    }

    async fn end(&mut self) -> bool {
        self.sender = None;
        true
    }
}

pub(crate) struct MpscReceiver(Receiver<Bytes>);

impl Hear for MpscReceiver {
    async fn next(&mut self) -> Option<Load> {
        loop {
            if let Some(Message::Load(load)) = Message::of_payload(&self.0.recv().await?) {
                return Some(load);
            }
        }
    }
}
