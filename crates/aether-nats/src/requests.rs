//! Questions and their answers: the table of pending questions, and the reply path of those who answer.
//!
//! Each connection has one inbox subject for answers and one subscription to it. Each question carries a reply subject
//! in that inbox that ends with a number unique to the question. The asker waits in a table under that number, and
//! removes its entry however the wait ends, so an unanswered question leaves nothing behind. The numbers are
//! pseudo-random under a key private to this connection: a process that has seen some of them cannot answer other
//! questions.
//!
//! A task takes the answers out of the client ([`Answers::poll_as_task`]), so that late and forged ones are counted
//! and do not pile up. While a single question waits, its asker takes them itself ([`Answers::take_alone`]): its
//! answer then wakes the asker and not the task first. Two such askers could not rely on each other, because a future
//! that nobody polls takes nothing; so the second one hands the work back to the task.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::future::poll_fn;
use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll, Waker};

use async_nats::{Client, Message, StatusCode, SubscribeError};
use futures_util::future::BoxFuture;
use futures_util::stream::BoxStream;
use futures_util::{FutureExt, StreamExt};
use parking_lot::Mutex;
use smallvec::SmallVec;
use tokio::sync::oneshot;
use tokio::sync::oneshot::error::RecvError;
use tokio::task::JoinHandle;

use super::authentication::{Arrived, Role, Sealing};
use super::cloudevents;
use super::connection::NatsShared;
use super::state::ConnectionState;
use aether_core::wave::{ReplyError, ReplyPath};
use aether_core::{Wave, clock};
use aether_link::Acceptance;

/// The maximum number of questions per connection that wait for an answer at the same time.
pub(super) const MAX_QUESTIONS: usize = 1 << 16;

/// The table is not shrunk below this capacity, even when it is empty.
const PLACES_KEPT: usize = 256;

/// The pending questions of a connection.
pub(super) struct Requests {
    shared: Arc<RequestsState>,
    /// The task that takes answers out of the client.
    task: JoinHandle<()>,
}

struct RequestsState {
    answers: Answers,
    state: Arc<ConnectionState>,
    sealing: Arc<Sealing>,
    /// The common prefix of all reply subjects.
    inbox: String,
    key: RandomState,
    asked: AtomicU64,
    /// `None` once the client has ended, after which no answer can arrive.
    waiting: Mutex<Option<HashMap<u64, WaitingAsker>>>,
    stray: AtomicU64,
}

/// An asker in the table.
struct WaitingAsker {
    answer: oneshot::Sender<Arrived>,
    /// For the first notice that nobody heard the question. `None` if such a notice is an answer.
    notice: Option<oneshot::Sender<()>>,
}

/// Why a question cannot be asked now.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum CannotAsk {
    /// [`MAX_QUESTIONS`] are already waiting.
    TooMany,
    /// The client has ended.
    ClientEnded,
}

/// The client ended before an answer arrived.
#[derive(Debug, thiserror::Error)]
#[error("the connection was closed")]
pub(super) struct ClientEnded;

/// The reply to a question.
#[allow(clippy::large_enum_variant, reason = "moved once, from the asker to its caller")]
pub(super) enum Answer {
    Given(Arrived),
    /// The server reported that no subscriber received the question.
    Nobody,
    /// Somebody reported so. In a process with keys it need not be the server, and an answer may still come.
    Notice,
}

/// A question waiting for its answer. Dropping it removes it from the table.
pub(super) struct Asker<'a> {
    shared: &'a RequestsState,
    number: u64,
    answer: oneshot::Receiver<Arrived>,
    notice: Option<oneshot::Receiver<()>>,
}

impl Requests {
    /// Subscribes to an inbox subject that only this connection uses.
    pub(super) async fn new(
        client: &Client,
        state: Arc<ConnectionState>,
        sealing: Arc<Sealing>,
    ) -> Result<Self, SubscribeError> {
        let inbox = client.new_inbox();
        let answers = client.subscribe(format!("{inbox}.*")).await?;
        let shared = Arc::new(RequestsState::new(inbox, answers.boxed(), state, sealing));
        let task = tokio::spawn({
            let shared = Arc::clone(&shared);
            async move {
                poll_fn(|cx| shared.answers.poll_as_task(cx, |answer| shared.take(answer))).await;
                // Dropping the senders wakes all waiting askers.
                *shared.waiting.lock() = None;
            }
        });
        Ok(Self { shared, task })
    }

    /// Enters a question into the table. The subscription is active before the question arrives, because the server
    /// processes one client's messages in order.
    pub(super) fn enter(&self) -> Result<Asker<'_>, CannotAsk> {
        self.shared.enter()
    }

    /// The number of answers that matched no waiting question: late, duplicate or forged answers.
    pub(super) fn stray(&self) -> u64 {
        self.shared.stray.load(Ordering::Relaxed)
    }
}

impl Drop for Requests {
    fn drop(&mut self) {
        self.task.abort();
        // The subscription holds a client handle, and the client ends only when its last handle is dropped.
        self.shared.answers.end();
    }
}

impl RequestsState {
    fn new(
        inbox: String,
        answers: BoxStream<'static, Message>,
        state: Arc<ConnectionState>,
        sealing: Arc<Sealing>,
    ) -> Self {
        Self {
            answers: Answers::new(answers),
            state,
            sealing,
            inbox,
            key: RandomState::new(),
            asked: AtomicU64::new(0),
            waiting: Mutex::new(Some(HashMap::new())),
            stray: AtomicU64::new(0),
        }
    }

    fn enter(&self) -> Result<Asker<'_>, CannotAsk> {
        let mut waiting = self.waiting.lock();
        let waiting = waiting.as_mut().ok_or(CannotAsk::ClientEnded)?;
        if waiting.len() >= MAX_QUESTIONS {
            return Err(CannotAsk::TooMany);
        }
        let (sender, answer) = oneshot::channel();
        let (notice_sender, notice) = self.sealing.is_on().then(oneshot::channel).unzip();
        loop {
            let number = self.key.hash_one(self.asked.fetch_add(1, Ordering::Relaxed));
            // Two numbers collide with a probability of 1 in 2^64. If both questions wait, the later one draws another.
            if let Entry::Vacant(place) = waiting.entry(number) {
                place.insert(WaitingAsker { answer: sender, notice: notice_sender });
                return Ok(Asker { shared: self, number, answer, notice });
            }
        }
    }

    fn take(&self, answer: Message) {
        self.state.took_message();
        // What is not from somebody with the key ends no question.
        let Some(answer) = self.sealing.open_answer(answer) else { return };
        let number =
            answer.message.subject.rsplit('.').next().and_then(|number| u64::from_str_radix(number, 16).ok());
        // A send fails if the asker has just given up.
        let is_taken = if self.sealing.is_on() && is_notice(&answer.message) {
            let notice =
                number.and_then(|number| self.waiting.lock().as_mut()?.get_mut(&number)?.notice.take());
            notice.is_some_and(|notice| notice.send(()).is_ok())
        } else {
            let asker = number.and_then(|number| self.remove(number));
            asker.is_some_and(|asker| asker.answer.send(answer).is_ok())
        };
        if !is_taken {
            self.stray.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Whether a single question waits.
    fn is_alone(&self) -> bool {
        self.waiting.lock().as_ref().is_some_and(|waiting| waiting.len() == 1)
    }

    fn remove(&self, number: u64) -> Option<WaitingAsker> {
        let mut waiting = self.waiting.lock();
        let waiting = waiting.as_mut()?;
        let asker = waiting.remove(&number);
        // Release the memory that a burst of questions needed.
        if waiting.capacity() > PLACES_KEPT && waiting.len() < waiting.capacity() / 8 {
            waiting.shrink_to(PLACES_KEPT.max(waiting.len() * 2));
        }
        asker
    }
}

/// Whether this is the notice that nobody heard a question.
fn is_notice(message: &Message) -> bool {
    message.status == Some(StatusCode::NO_RESPONDERS)
}

impl Asker<'_> {
    /// The subject to which the answer must be sent.
    pub(super) fn reply_subject(&self) -> String {
        let inbox = &self.shared.inbox;
        let mut subject = String::with_capacity(inbox.len() + 1 + 16);
        subject.push_str(inbox);
        subject.push('.');
        let digits = (0..16).rev().map(|place| (self.number >> (4 * place)) as u32 & 0xF);
        subject.extend(digits.filter_map(|digit| char::from_digit(digit, 16)));
        subject
    }

    /// Waits for the answer. After [`Answer::Notice`] it can be called again, and returns that once only.
    ///
    /// Cancel safety: cancelled before completion, it can be called again.
    pub(super) async fn answer(&mut self) -> Result<Answer, ClientEnded> {
        poll_fn(|cx| self.poll_answer(cx)).await.map_err(|_| ClientEnded)
    }

    fn poll_answer(&mut self, cx: &mut Context<'_>) -> Poll<Result<Answer, RecvError>> {
        let answer = self.poll_taken(cx);
        if answer.is_ready() {
            return answer;
        }
        let shared = self.shared;
        shared.answers.take_alone(self.number, || shared.is_alone(), cx, |answer| shared.take(answer));
        // One of those may be the answer to this question.
        self.poll_taken(cx)
    }

    fn poll_taken(&mut self, cx: &mut Context<'_>) -> Poll<Result<Answer, RecvError>> {
        if let Poll::Ready(answer) = self.answer.poll_unpin(cx) {
            let of = |answer: Arrived| match is_notice(&answer.message) {
                true => Answer::Nobody,
                false => Answer::Given(answer),
            };
            return Poll::Ready(answer.map(of));
        }
        match self.notice.as_mut().map(|notice| notice.poll_unpin(cx)) {
            Some(Poll::Ready(said)) => {
                self.notice = None;
                if said.is_ok() { Poll::Ready(Ok(Answer::Notice)) } else { Poll::Pending }
            }
            _ => Poll::Pending,
        }
    }
}

impl Drop for Asker<'_> {
    fn drop(&mut self) {
        drop(self.shared.remove(self.number));
        self.shared.answers.give_back(self.number, |answer| self.shared.take(answer));
    }
}

/// The stream of answers, and who is woken when one arrives.
pub(super) struct Answers(Mutex<AnswersState>);

struct AnswersState {
    /// `None` once the client has ended.
    stream: Option<BoxStream<'static, Message>>,
    task: Waker,
    /// The question whose asker takes the answers; `None` while the task does.
    taker: Option<u64>,
}

/// The answers taken under the lock. They are handed out outside of it, because that wakes the askers, and a waker may run
/// anything.
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
    fn poll_as_task(&self, cx: &mut Context<'_>, take: impl Fn(Message)) -> Poll<()> {
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
    /// `is_alone` is called under the lock, so when two askers come at the same time, one sees the other.
    fn take_alone(
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
    fn give_back(&self, question: u64, take: impl Fn(Message)) {
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

/// The reply path to an asker on the other side of the broker.
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
                // The log has the reason why it cannot be sealed.
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

#[cfg(test)]
mod tests;
