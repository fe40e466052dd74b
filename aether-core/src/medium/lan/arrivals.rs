//! What has arrived and was not looked at yet: from the threads of Zenoh to the task that receives.
//!
//! Bounded by bytes. A thread that brings more waits, so that TCP slows the sender down. What this process sends to itself
//! does not wait, because the same task that would make room for it may be sending.

use std::collections::VecDeque;

use bytes::Bytes;
use parking_lot::{Condvar, Mutex};
use tokio::sync::Notify;

use super::lane::Lane;
use super::message::Message;

/// The receiving task waits for nothing, so this only has to hold what arrives while it is not scheduled.
const MAX_BYTES: usize = 16 << 20;
/// What a message takes besides its bytes.
const OVERHEAD: usize = 128;

/// One message.
#[derive(Debug)]
pub(super) enum Arrival {
    /// As the network brought it.
    Sealed(Bytes),
    /// Of this process to itself.
    Own(Lane, Message),
}

#[derive(Default)]
struct Waiting {
    messages: VecDeque<Arrival>,
    bytes: usize,
    is_ended: bool,
}

#[derive(Default)]
pub(super) struct Arrivals {
    waiting: Mutex<Waiting>,
    has_room: Condvar,
    filled: Notify,
}

impl Arrivals {
    /// Called by a thread of Zenoh. Waits for room.
    pub(super) fn bring(&self, bytes: Bytes) {
        let mut waiting = self.waiting.lock();
        while waiting.bytes > MAX_BYTES && !waiting.is_ended {
            self.has_room.wait(&mut waiting);
        }
        if !waiting.is_ended {
            waiting.bytes += bytes.len() + OVERHEAD;
            waiting.messages.push_back(Arrival::Sealed(bytes));
            drop(waiting);
            self.filled.notify_one();
        }
    }

    /// A message of this process to itself.
    pub(super) fn bring_own(&self, lane: Lane, message: Message) {
        let mut waiting = self.waiting.lock();
        if !waiting.is_ended {
            waiting.messages.push_back(Arrival::Own(lane, message));
            drop(waiting);
            self.filled.notify_one();
        }
    }

    /// Takes everything that has arrived; waits for something.
    ///
    /// Cancel safety: if cancelled before completion, nothing is taken.
    pub(super) async fn take(&self) -> VecDeque<Arrival> {
        loop {
            let taken = self.take_now();
            if !taken.is_empty() {
                return taken;
            }
            self.filled.notified().await;
        }
    }

    pub(super) fn take_now(&self) -> VecDeque<Arrival> {
        let mut waiting = self.waiting.lock();
        waiting.bytes = 0;
        self.has_room.notify_all();
        std::mem::take(&mut waiting.messages)
    }

    /// Nothing is taken any more, and nobody has to wait.
    pub(super) fn end(&self) {
        let mut waiting = self.waiting.lock();
        waiting.is_ended = true;
        waiting.messages.clear();
        self.has_room.notify_all();
    }
}
