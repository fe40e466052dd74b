//! tokio's broadcast channel: first in, first out; a full channel drops the oldest and reports how many.

use bytes::Bytes;
use tokio::sync::broadcast::error::RecvError;
use tokio::sync::broadcast::{Receiver, Sender, channel};

use super::{BOUND, Hear, Offer};
use crate::payload::{Load, Message};
use crate::schedule::Strength;

/// Both ends.
pub(crate) fn broadcast() -> (BroadcastSender, BroadcastReceiver) {
    let (sender, receiver) = channel(BOUND);
    (BroadcastSender(Some(sender)), BroadcastReceiver { receiver, lagged: 0 })
}

pub(crate) struct BroadcastSender(Option<Sender<Bytes>>);

impl Offer for BroadcastSender {
    fn offer(&mut self, payload: Bytes, _strength: Strength) {
        if let Some(sender) = &self.0 {
            // Refused only without a receiver.
            let _ = sender.send(payload);
        }
    }

    async fn end(&mut self) -> bool {
        self.0 = None;
        true
    }
}

pub(crate) struct BroadcastReceiver {
    receiver: Receiver<Bytes>,
    lagged: u64,
}

impl Hear for BroadcastReceiver {
    async fn next(&mut self) -> Option<Load> {
        loop {
            match self.receiver.recv().await {
                Ok(payload) => {
                    if let Some(Message::Load(load)) = Message::of_payload(&payload) {
                        return Some(load);
                    }
                }
                Err(RecvError::Lagged(missed)) => self.lagged += missed,
                Err(RecvError::Closed) => return None,
            }
        }
    }

    fn lagged(&self) -> u64 {
        self.lagged
    }
}
