//! Pending questions, and the matching of answers to them.
//!
//! Each connection has one inbox subject for answers and one subscription to it. Each question carries a reply subject
//! in that inbox that ends with a number unique to the question. The asker waits in a table under that number, and
//! removes its entry however the wait ends, so an unanswered question leaves nothing behind. The numbers are
//! pseudo-random under a key private to this connection: a process that has seen some of them cannot answer other
//! questions.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::future::poll_fn;
use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};

use async_nats::{Client, Message, StatusCode, SubscribeError};
use futures_util::stream::BoxStream;
use futures_util::{FutureExt, StreamExt};
use parking_lot::Mutex;
use tokio::sync::oneshot::{self, error::RecvError};
use tokio::task::JoinHandle;

use super::answers::Answers;
use super::arrived::Arrived;
use super::link::Link;
use super::sealing::Sealing;

/// The maximum number of questions per connection that wait for an answer at the same time.
pub(super) const MAX_QUESTIONS: usize = 1 << 16;

/// The table is not shrunk below this capacity, even when it is empty.
const PLACES_KEPT: usize = 256;

pub(super) struct Asking {
    shared: Arc<AskingState>,
    /// The task that takes answers out of the client.
    task: JoinHandle<()>,
}

struct AskingState {
    answers: Answers,
    link: Arc<Link>,
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
pub(super) enum Refused {
    /// [`MAX_QUESTIONS`] are already waiting.
    TooMany,
    /// The client has ended.
    Ended,
}

/// The client ended before an answer arrived.
#[derive(Debug, thiserror::Error)]
#[error("the connection was closed")]
pub(super) struct Ended;

/// The reply to a question.
#[allow(clippy::large_enum_variant, reason = "moved once, from the asker to its caller")]
pub(super) enum Answer {
    Given(Arrived),
    /// The server reported that no subscriber received the question.
    Nobody,
    /// Somebody says so. In a process with keys it need not be the server, and an answer may still come.
    Notice,
}

/// A question waiting for its answer. Dropping it removes it from the table.
pub(super) struct Asker<'a> {
    shared: &'a AskingState,
    number: u64,
    answer: oneshot::Receiver<Arrived>,
    notice: Option<oneshot::Receiver<()>>,
}

impl Asking {
    /// Subscribes to an inbox subject that only this connection uses.
    pub(super) async fn new(
        client: &Client,
        link: Arc<Link>,
        sealing: Arc<Sealing>,
    ) -> Result<Self, SubscribeError> {
        let inbox = client.new_inbox();
        let answers = client.subscribe(format!("{inbox}.*")).await?;
        let shared = Arc::new(AskingState::new(inbox, answers.boxed(), link, sealing));
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
    pub(super) fn enter(&self) -> Result<Asker<'_>, Refused> {
        self.shared.enter()
    }

    /// The number of answers that matched no waiting question: late, duplicate or forged answers.
    pub(super) fn stray(&self) -> u64 {
        self.shared.stray.load(Ordering::Relaxed)
    }
}

impl Drop for Asking {
    fn drop(&mut self) {
        self.task.abort();
        // The subscription holds a client handle, and the client ends only when its last handle is dropped.
        self.shared.answers.end();
    }
}

impl AskingState {
    fn new(
        inbox: String,
        answers: BoxStream<'static, Message>,
        link: Arc<Link>,
        sealing: Arc<Sealing>,
    ) -> Self {
        Self {
            answers: Answers::new(answers),
            link,
            sealing,
            inbox,
            key: RandomState::new(),
            asked: AtomicU64::new(0),
            waiting: Mutex::new(Some(HashMap::new())),
            stray: AtomicU64::new(0),
        }
    }

    fn enter(&self) -> Result<Asker<'_>, Refused> {
        let mut waiting = self.waiting.lock();
        let waiting = waiting.as_mut().ok_or(Refused::Ended)?;
        if waiting.len() >= MAX_QUESTIONS {
            return Err(Refused::TooMany);
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
        self.link.took_message();
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
    pub(super) async fn answer(&mut self) -> Result<Answer, Ended> {
        poll_fn(|cx| self.poll_answer(cx)).await.map_err(|_| Ended)
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::NatsOptions;
    use aether_core::InboxOptions;
    use aether_core::inbox::Inbox;
    use aether_link::OutboxReader;
    use futures_util::stream;
    use tokio::sync::mpsc;

    fn made_of(answers: BoxStream<'static, Message>) -> AskingState {
        let outbox = Inbox::new(InboxOptions::default()).unwrap();
        let link = Arc::new(Link::new(OutboxReader::new(Arc::new(outbox)), None));
        let sealing = Sealing::new(&NatsOptions::default()).unwrap();
        AskingState::new("inbox".to_owned(), answers, link, Arc::new(sealing))
    }

    /// Without answers from the client; the tests hand them over.
    fn asking_state() -> AskingState {
        made_of(stream::pending().boxed())
    }

    fn message(subject: String, status: Option<StatusCode>) -> Message {
        let (payload, subject) = (bytes::Bytes::new(), subject.into());
        Message { subject, reply: None, payload, headers: None, status, description: None, length: 0 }
    }

    fn places(shared: &AskingState) -> (usize, usize) {
        shared.waiting.lock().as_ref().map_or((0, 0), |waiting| (waiting.len(), waiting.capacity()))
    }

    #[test]
    fn an_answer_reaches_its_asker_once_and_others_are_counted() {
        let shared = asking_state();
        let (mut first, mut second) = (shared.enter().unwrap(), shared.enter().unwrap());
        assert!(first.answer().now_or_never().is_none());
        shared.take(message(second.reply_subject(), Some(StatusCode::NO_RESPONDERS)));
        shared.take(message(first.reply_subject(), None));
        assert!(matches!(first.answer().now_or_never(), Some(Ok(Answer::Given(_)))));
        assert!(matches!(second.answer().now_or_never(), Some(Ok(Answer::Nobody))));
        let made_up = ["inbox.17", "inbox.zz", "inbox.", ""].map(str::to_owned);
        for subject in [first.reply_subject()].into_iter().chain(made_up) {
            shared.take(message(subject, None));
        }
        assert_eq!(shared.stray.load(Ordering::Relaxed), 5);
    }

    #[test]
    fn questions_without_an_answer_leave_nothing_behind() {
        let shared = asking_state();
        let asked: Vec<_> = std::iter::repeat_with(|| shared.enter().unwrap()).take(MAX_QUESTIONS).collect();
        assert_eq!(shared.enter().err(), Some(Refused::TooMany));
        drop(asked);
        let (waiting, kept) = places(&shared);
        assert!(waiting == 0 && kept <= 2 * PLACES_KEPT, "{kept}");
        assert!(shared.enter().is_ok());
    }

    #[test]
    fn numbers_do_not_follow_one_another() {
        let shared = asking_state();
        let [first, second, third] = std::array::from_fn(|_| shared.enter().unwrap().number);
        assert_ne!(second.wrapping_sub(first), third.wrapping_sub(second));
        let other = asking_state();
        assert_ne!(first, other.enter().unwrap().number);
    }

    #[test]
    fn those_who_wait_are_told_that_the_client_has_ended() {
        let shared = asking_state();
        let mut asker = shared.enter().unwrap();
        *shared.waiting.lock() = None;
        assert!(matches!(asker.answer().now_or_never(), Some(Err(Ended))));
        assert_eq!(shared.enter().err(), Some(Refused::Ended));
    }

    /// A state whose answers are sent here, and the poll of its task.
    fn answered_by_hand() -> (mpsc::UnboundedSender<Message>, Arc<AskingState>) {
        let (sender, mut receiver) = mpsc::unbounded_channel();
        (sender, Arc::new(made_of(stream::poll_fn(move |cx| receiver.poll_recv(cx)).boxed())))
    }

    fn task_of(shared: &Arc<AskingState>) -> tokio_test::task::Spawn<impl Future<Output = ()> + use<>> {
        let shared = Arc::clone(shared);
        tokio_test::task::spawn(async move {
            poll_fn(|cx| shared.answers.poll_as_task(cx, |answer| shared.take(answer))).await;
            *shared.waiting.lock() = None;
        })
    }

    #[test]
    fn an_answer_to_the_only_question_wakes_its_asker_and_not_the_task() {
        let (client, shared) = answered_by_hand();
        let mut task = task_of(&shared);
        assert!(task.poll().is_pending());
        let mut asker = shared.enter().unwrap();
        let subject = asker.reply_subject();
        let mut waiting = tokio_test::task::spawn(asker.answer());
        assert!(waiting.poll().is_pending());
        client.send(message(subject, None)).unwrap();
        assert!(waiting.is_woken() && !task.is_woken());
        assert!(matches!(waiting.poll(), Poll::Ready(Ok(Answer::Given(_)))));
        drop(waiting);
        drop(asker);
        // Nobody asks any more, so the task counts what comes late.
        client.send(message("inbox.17".to_owned(), None)).unwrap();
        assert!(task.is_woken() && task.poll().is_pending());
        assert_eq!(shared.stray.load(Ordering::Relaxed), 1);
    }

    #[test]
    fn an_asker_that_is_not_polled_keeps_no_answer_from_another_one() {
        let (client, shared) = answered_by_hand();
        let mut task = task_of(&shared);
        assert!(task.poll().is_pending());
        let (mut first, mut second) = (shared.enter().unwrap(), shared.enter().unwrap());
        let subject = second.reply_subject();
        let (mut idle, mut waiting) =
            (tokio_test::task::spawn(first.answer()), tokio_test::task::spawn(second.answer()));
        assert!(idle.poll().is_pending() && waiting.poll().is_pending());
        client.send(message(subject, None)).unwrap();
        assert!(task.is_woken() && task.poll().is_pending());
        assert!(waiting.is_woken());
        assert!(matches!(waiting.poll(), Poll::Ready(Ok(Answer::Given(_)))));
    }

    #[test]
    fn an_asker_alone_hands_over_to_the_task_when_another_one_comes() {
        let (client, shared) = answered_by_hand();
        let mut task = task_of(&shared);
        assert!(task.poll().is_pending());
        let mut first = shared.enter().unwrap();
        let mut idle = tokio_test::task::spawn(first.answer());
        assert!(idle.poll().is_pending());
        let mut second = shared.enter().unwrap();
        let subject = second.reply_subject();
        let mut waiting = tokio_test::task::spawn(second.answer());
        assert!(waiting.poll().is_pending());
        client.send(message(subject, None)).unwrap();
        assert!(task.is_woken() && !idle.is_woken() && task.poll().is_pending());
        assert!(matches!(waiting.poll(), Poll::Ready(Ok(Answer::Given(_)))));
    }

    #[test]
    fn the_only_asker_is_told_that_the_client_has_ended() {
        let (client, shared) = answered_by_hand();
        let mut task = task_of(&shared);
        assert!(task.poll().is_pending());
        let mut asker = shared.enter().unwrap();
        let mut waiting = tokio_test::task::spawn(asker.answer());
        assert!(waiting.poll().is_pending());
        drop(client);
        assert!(waiting.is_woken() && waiting.poll().is_pending());
        assert!(task.is_woken() && task.poll().is_ready());
        assert!(matches!(waiting.poll(), Poll::Ready(Err(Ended))));
    }
}
