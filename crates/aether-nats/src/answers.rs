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
use smallvec::SmallVec;

/// The stream of answers, and who is woken when one arrives.
pub(super) struct Answers(Mutex<AnswersState>);

struct AnswersState {
    /// `None` once the client has ended.
    stream: Option<BoxStream<'static, Message>>,
    task: Waker,
    /// The question whose asker takes the answers; `None` while the task does.
    taker: Option<u64>,
}

/// What was taken under the lock. It is handed out outside of it, because that wakes the askers, and a waker may run anything.
#[must_use]
#[derive(Default)]
struct Taken {
    answers: SmallVec<[Message; 1]>,
    /// The task, if the client has ended.
    ended: Option<Waker>,
}

impl Taken {
    fn hand_out(self, take: impl Fn(Message)) {
        self.answers.into_iter().for_each(take);
        self.ended.into_iter().for_each(Waker::wake);
    }
}

impl AnswersState {
    /// Takes all that have arrived. The next one wakes this waker.
    fn take_all(&mut self, waker: &Waker) -> Taken {
        let (mut cx, mut taken) = (Context::from_waker(waker), Taken::default());
        while let Some(stream) = &mut self.stream {
            match stream.poll_next_unpin(&mut cx) {
                Poll::Ready(Some(answer)) => taken.answers.push(answer),
                Poll::Ready(None) => {
                    (self.stream, self.taker) = (None, None);
                    taken.ended = Some(self.task.clone());
                }
                Poll::Pending => break,
            }
        }
        taken
    }

    fn give_to_task(&mut self) -> Taken {
        self.taker = None;
        let task = self.task.clone();
        self.take_all(&task)
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
        let mut taken = if state.taker.is_none() { state.take_all(cx.waker()) } else { Taken::default() };
        let has_ended = state.stream.is_none();
        drop(state);
        // This is the task.
        taken.ended = None;
        taken.hand_out(take);
        if has_ended { Poll::Ready(()) } else { Poll::Pending }
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
        let taken = if is_alone() {
            state.taker = Some(question);
            state.take_all(cx.waker())
        } else if state.taker.is_some() {
            state.give_to_task()
        } else {
            Taken::default()
        };
        drop(state);
        taken.hand_out(take);
    }

    /// Gives the work back to the task. Called when the asker of a question stops waiting.
    pub(super) fn give_back(&self, question: u64, take: impl Fn(Message)) {
        let mut state = self.0.lock();
        let taken = if state.taker == Some(question) { state.give_to_task() } else { Taken::default() };
        drop(state);
        taken.hand_out(take);
    }

    /// Drops the stream and what it holds.
    pub(super) fn end(&self) {
        // Dropped outside of the lock.
        let stream = self.0.lock().stream.take();
        drop(stream);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use async_nats::Subject;
    use bytes::Bytes;
    use futures_util::stream::iter;

    use super::*;

    fn answers(count: usize) -> Arc<Answers> {
        let answer = Message {
            subject: Subject::from_static("inbox.1"),
            reply: None,
            payload: Bytes::new(),
            headers: None,
            status: None,
            description: None,
            length: 0,
        };
        Arc::new(Answers::new(iter(vec![answer; count]).boxed()))
    }

    #[test]
    fn askers_are_woken_outside_of_the_lock() {
        let mut cx = Context::from_waker(Waker::noop());
        let taken = AtomicUsize::new(0);
        let take = |answers: &Arc<Answers>| {
            let answers = Arc::clone(answers);
            let taken = &taken;
            move |_| {
                // As an executor that polls at once would do.
                assert!(answers.0.try_lock().is_some(), "the lock is held while an asker is woken");
                taken.fetch_add(1, Ordering::Relaxed);
            }
        };
        let of = answers(3);
        assert!(of.poll_as_task(&mut cx, take(&of)).is_ready());
        let of = answers(3);
        of.take_alone(1, || true, &mut cx, take(&of));
        let of = answers(3);
        of.0.lock().taker = Some(1);
        of.take_alone(2, || false, &mut cx, take(&of));
        let of = answers(3);
        of.0.lock().taker = Some(1);
        of.give_back(1, take(&of));
        assert_eq!(taken.into_inner(), 12);
    }
}
