//! Takes the answers of one connection out of the client.
//!
//! A task takes them ([`Answers::poll_as_task`]), so that late and forged answers are counted and do not pile up. While a
//! single question waits, its asker takes them itself ([`Answers::take_alone`]): its answer then wakes the asker and not
//! the task first. Two such askers could not rely on each other, because a future that nobody polls takes nothing; so
//! the second one hands the work back to the task.

use std::task::{Context, Poll, Waker};

use async_nats::Message;
use futures_util::StreamExt;
use futures_util::stream::BoxStream;
use parking_lot::Mutex;

/// The stream of answers, and who is woken when one arrives.
pub(super) struct Answers(Mutex<AnswersState>);

struct AnswersState {
    /// `None` once the client has ended.
    stream: Option<BoxStream<'static, Message>>,
    task: Waker,
    /// The question whose asker takes the answers; `None` while the task does.
    taker: Option<u64>,
}

impl AnswersState {
    /// Takes all that have arrived. The next one wakes this waker. Returns the task if the client has ended, to be woken
    /// outside of the lock.
    #[must_use]
    fn take_all(&mut self, waker: &Waker, take: impl Fn(Message)) -> Option<Waker> {
        let mut cx = Context::from_waker(waker);
        while let Some(stream) = &mut self.stream {
            match stream.poll_next_unpin(&mut cx) {
                Poll::Ready(Some(answer)) => take(answer),
                Poll::Ready(None) => {
                    (self.stream, self.taker) = (None, None);
                    return Some(self.task.clone());
                }
                Poll::Pending => break,
            }
        }
        None
    }

    #[must_use]
    fn give_to_task(&mut self, take: impl Fn(Message)) -> Option<Waker> {
        self.taker = None;
        let task = self.task.clone();
        self.take_all(&task, take)
    }
}

impl Answers {
    pub(super) fn new(stream: BoxStream<'static, Message>) -> Self {
        Self(Mutex::new(AnswersState { stream: Some(stream), task: Waker::noop().clone(), taker: None }))
    }

    /// Takes answers unless an asker does. Ready when the client has ended.
    pub(super) fn poll_as_task(&self, cx: &mut Context<'_>, take: impl Fn(Message)) -> Poll<()> {
        let mut state = self.0.lock();
        state.task.clone_from(cx.waker());
        if state.taker.is_none() {
            // This is the task.
            let _ = state.take_all(cx.waker(), take);
        }
        if state.stream.is_none() { Poll::Ready(()) } else { Poll::Pending }
    }

    /// Takes answers for the asker of a question if no other question waits. Otherwise the task takes them.
    ///
    /// `is_alone` is called under the lock, so that of two askers that come at the same time one sees the other.
    pub(super) fn take_alone(
        &self,
        question: u64,
        is_alone: impl FnOnce() -> bool,
        cx: &mut Context<'_>,
        take: impl Fn(Message),
    ) {
        let mut state = self.0.lock();
        let ended = if is_alone() {
            state.taker = Some(question);
            state.take_all(cx.waker(), take)
        } else if state.taker.is_some() {
            state.give_to_task(take)
        } else {
            None
        };
        drop(state);
        ended.into_iter().for_each(Waker::wake);
    }

    /// Gives the work back to the task. Called when the asker of a question stops waiting.
    pub(super) fn give_back(&self, question: u64, take: impl Fn(Message)) {
        let mut state = self.0.lock();
        let ended = if state.taker == Some(question) { state.give_to_task(take) } else { None };
        drop(state);
        ended.into_iter().for_each(Waker::wake);
    }

    /// Drops the stream and what it holds.
    pub(super) fn end(&self) {
        // Dropped outside of the lock.
        let stream = self.0.lock().stream.take();
        drop(stream);
    }
}
