//! Messages that have arrived and were not looked at yet: from the network to the task that receives.
//!
//! Bounded by bytes. A thread of Zenoh that brings more waits, so that TCP slows the sender down; another network waits for
//! room first. A message of this process to itself does not wait, because the same task that would make room for it may
//! be sending.

use std::collections::VecDeque;

use bytes::Bytes;
#[cfg(feature = "zenoh")]
use parking_lot::Condvar;
use parking_lot::{Mutex, MutexGuard};
use tokio::sync::Notify;

use super::lane::Lane;
use super::message::Message;
use aether_core::clock::{self, Instant};

/// The receiving task waits for nothing, so this only has to hold what arrives while it is not scheduled. As much again
/// for what this process sends to itself.
const MAX_BYTES: usize = 16 << 20;
/// The memory that a message takes besides its bytes.
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
    own_bytes: usize,
    /// When the first of them arrived.
    since: Option<Instant>,
    /// The same of those that were taken last, while they are being looked at.
    taken_since: Option<Instant>,
    is_ended: bool,
}

impl Waiting {
    fn push(&mut self, arrival: Arrival) {
        self.since = self.since.or_else(|| Some(clock::now()));
        self.messages.push_back(arrival);
    }
}

#[derive(Default)]
pub(super) struct Arrivals {
    waiting: Mutex<Waiting>,
    emptied: Notify,
    #[cfg(feature = "zenoh")]
    has_room: Condvar,
    filled: Notify,
}

impl Arrivals {
    /// Called by a thread of Zenoh. Waits for room.
    #[cfg(feature = "zenoh")]
    pub(super) fn bring_in_place(&self, bytes: Bytes) {
        let mut waiting = self.waiting.lock();
        while waiting.bytes > MAX_BYTES && !waiting.is_ended {
            self.has_room.wait(&mut waiting);
        }
        self.push(waiting, bytes);
    }

    /// Waits for room; not at all once nothing is taken any more.
    pub(super) async fn room(&self) {
        loop {
            let emptied = self.emptied.notified();
            {
                let waiting = self.waiting.lock();
                if waiting.bytes <= MAX_BYTES || waiting.is_ended {
                    return;
                }
            }
            emptied.await;
        }
    }

    /// Called by another network, which has waited for room. Several of its tasks may have found the same room, so only
    /// twice as much is too much, and lost.
    pub(super) fn bring(&self, bytes: Bytes) {
        let waiting = self.waiting.lock();
        if waiting.bytes <= 2 * MAX_BYTES {
            self.push(waiting, bytes);
        }
    }

    fn push(&self, mut waiting: MutexGuard<'_, Waiting>, bytes: Bytes) {
        if !waiting.is_ended {
            waiting.bytes += bytes.len() + OVERHEAD;
            waiting.push(Arrival::Sealed(bytes));
            drop(waiting);
            self.filled.notify_one();
        }
    }

    fn note_room(&self) {
        self.emptied.notify_waiters();
        #[cfg(feature = "zenoh")]
        self.has_room.notify_all();
    }

    /// A message of this process to itself. Returns false if there is no room, or nothing is taken any more.
    pub(super) fn bring_own(&self, lane: Lane, message: Message) -> bool {
        let mut waiting = self.waiting.lock();
        if waiting.is_ended || waiting.own_bytes > MAX_BYTES {
            return false;
        }
        waiting.own_bytes += message.body().len() + OVERHEAD;
        waiting.push(Arrival::Own(lane, message));
        drop(waiting);
        self.filled.notify_one();
        true
    }

    /// Everything that arrived before this was looked at. It falls behind while the receiving task has no turn.
    pub(super) fn looked_at_until(&self) -> Instant {
        let waiting = self.waiting.lock();
        waiting.taken_since.or(waiting.since).unwrap_or_else(clock::now)
    }

    /// Takes everything that has arrived; waits for something. Everything taken before has been looked at by now.
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
        (waiting.bytes, waiting.own_bytes) = (0, 0);
        waiting.taken_since = waiting.since.take();
        self.note_room();
        std::mem::take(&mut waiting.messages)
    }

    /// Nothing is taken any more, and nobody has to wait.
    pub(super) fn end(&self) {
        let mut waiting = self.waiting.lock();
        waiting.is_ended = true;
        waiting.messages.clear();
        self.note_room();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_looked_at_yet_holds_back_the_time_until_the_next_is_taken() {
        let arrivals = Arrivals::default();
        let before = clock::test_now();
        arrivals.bring(Bytes::from_static(b"first"));
        let first = arrivals.looked_at_until();
        assert!(first >= before && first == arrivals.looked_at_until());
        assert_eq!(arrivals.take_now().len(), 1);
        arrivals.bring(Bytes::from_static(b"second"));
        assert_eq!(arrivals.looked_at_until(), first, "it was taken, and not looked at yet");
        assert_eq!(arrivals.take_now().len(), 1);
        assert!(arrivals.looked_at_until() >= first);
        assert!(arrivals.take_now().is_empty());
        let idle = clock::test_now();
        assert!(arrivals.looked_at_until() >= idle);
    }

    #[test]
    fn what_a_process_sends_to_itself_is_bounded() {
        let arrivals = Arrivals::default();
        let frame = Bytes::from(vec![0; 1 << 20]);
        let copy = || Message::Copy { frame: frame.clone() };
        let taken = (0..100).filter(|_| arrivals.bring_own(Lane::LAST, copy())).count();
        assert!((16..18).contains(&taken), "{taken}");
        arrivals.take_now();
        assert!(arrivals.bring_own(Lane::LAST, copy()));
        arrivals.end();
        assert!(!arrivals.bring_own(Lane::LAST, copy()));
    }
}
