//! Pending questions, and the matching of answers to them.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use parking_lot::Mutex;
use tokio::sync::oneshot;

/// The maximum number of questions that wait for an answer at the same time.
pub(super) const MAX_QUESTIONS: usize = 1 << 16;

#[derive(Default)]
pub(super) struct Asking {
    last: AtomicU64,
    waiting: Mutex<HashMap<u64, oneshot::Sender<Bytes>>>,
    stray: AtomicU64,
}

/// A question waiting for its answer. Dropping it removes it from the table.
pub(super) struct Asker<'a> {
    asking: &'a Asking,
    pub(super) number: u64,
    pub(super) answer: oneshot::Receiver<Bytes>,
}

impl Asking {
    /// Enters a question; `None` if too many wait.
    pub(super) fn enter(&self) -> Option<Asker<'_>> {
        let mut waiting = self.waiting.lock();
        if waiting.len() >= MAX_QUESTIONS {
            return None;
        }
        // Number 0 is a notice.
        let number = self.last.fetch_add(1, Ordering::Relaxed) + 1;
        let (sender, answer) = oneshot::channel();
        waiting.insert(number, sender);
        Some(Asker { asking: self, number, answer })
    }

    /// An answer has arrived.
    pub(super) fn take(&self, number: u64, frame: Bytes) {
        let asker = self.waiting.lock().remove(&number);
        if asker.is_none_or(|asker| asker.send(frame).is_err()) {
            self.stray.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// The questions that wait.
    pub(super) fn len(&self) -> usize {
        self.waiting.lock().len()
    }

    /// Answers that nobody waited for.
    pub(super) fn stray(&self) -> u64 {
        self.stray.load(Ordering::Relaxed)
    }
}

impl Drop for Asker<'_> {
    fn drop(&mut self) {
        self.asking.waiting.lock().remove(&self.number);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_reaches_its_asker_once_and_others_are_counted() {
        let asking = Asking::default();
        let (mut first, second) = (asking.enter().unwrap(), asking.enter().unwrap());
        asking.take(first.number, Bytes::from_static(b"yes"));
        assert_eq!(first.answer.try_recv().unwrap(), "yes");
        let gone = second.number;
        drop(second);
        for number in [first.number, gone, 0, 99] {
            asking.take(number, Bytes::new());
        }
        assert_eq!((asking.stray(), asking.waiting.lock().len()), (4, 0));
    }
}
