//! Questions under way: who waits for which answer.
//!
//! Each connection has one inbox for answers and one subscription to it. A question brings a reply subject in that inbox
//! that ends with a number of its own, and its asker waits in a table under that number. The asker removes itself,
//! however its wait ends, so a question without an answer leaves nothing behind. Numbers are pseudo-random under a key
//! that only this connection knows: who has seen some of them cannot answer other questions.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use async_nats::{Client, Message, StatusCode, SubscribeError};
use futures_util::StreamExt;
use parking_lot::Mutex;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use super::link::Link;

/// The most questions of one connection that wait for an answer at the same time.
pub(super) const MAX_QUESTIONS: usize = 1 << 16;

/// A table with at most so many places keeps them when it is empty.
const PLACES_KEPT: usize = 256;

pub(super) struct Asking {
    shared: Arc<AskingState>,
    /// Takes the answers from the client.
    task: JoinHandle<()>,
}

struct AskingState {
    /// What all reply subjects begin with.
    inbox: String,
    key: RandomState,
    asked: AtomicU64,
    /// `None` once the client has ended: no answer will come.
    waiting: Mutex<Option<HashMap<u64, oneshot::Sender<Message>>>>,
    stray: AtomicU64,
}

/// Why a question cannot be asked now.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Refused {
    /// As many as there may be wait already.
    TooMany,
    /// The client has ended.
    Ended,
}

/// The client ended before there was an answer.
#[derive(Debug, thiserror::Error)]
#[error("the connection was closed")]
pub(super) struct Ended;

/// What came back.
#[derive(Debug)]
pub(super) enum Answer {
    Given(Message),
    /// The server says that nobody hears the question.
    Nobody,
}

/// One question that waits for its answer. Dropped, it waits no longer.
pub(super) struct Asker<'a> {
    shared: &'a AskingState,
    number: u64,
    answer: oneshot::Receiver<Message>,
}

impl Asking {
    /// Subscribes to an inbox that only this connection hears.
    pub(super) async fn new(client: &Client, link: Arc<Link>) -> Result<Self, SubscribeError> {
        let shared = Arc::new(AskingState::new(client.new_inbox()));
        let mut answers = client.subscribe(format!("{}.*", shared.inbox)).await?;
        let task = tokio::spawn({
            let shared = Arc::clone(&shared);
            async move {
                while let Some(answer) = answers.next().await {
                    link.took_message();
                    shared.take(answer);
                }
                // Dropping their senders tells those who wait.
                *shared.waiting.lock() = None;
            }
        });
        Ok(Self { shared, task })
    }

    /// Enters a question into the table. The subscription is in force for it, as the server handles what one client
    /// sends in order.
    pub(super) fn enter(&self) -> Result<Asker<'_>, Refused> {
        self.shared.enter()
    }

    /// How many answers came that nobody waited for: late or further ones, or made-up ones.
    pub(super) fn stray(&self) -> u64 {
        self.shared.stray.load(Ordering::Relaxed)
    }
}

impl Drop for Asking {
    fn drop(&mut self) {
        // The task holds a handle of the client, which ends with its last one.
        self.task.abort();
    }
}

impl AskingState {
    fn new(inbox: String) -> Self {
        Self {
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
        loop {
            let number = self.key.hash_one(self.asked.fetch_add(1, Ordering::Relaxed));
            // Two questions in 2^64 have the same number; if both wait, the later one draws another.
            if let Entry::Vacant(place) = waiting.entry(number) {
                place.insert(sender);
                return Ok(Asker { shared: self, number, answer });
            }
        }
    }

    fn take(&self, answer: Message) {
        let number =
            answer.subject.rsplit('.').next().and_then(|number| u64::from_str_radix(number, 16).ok());
        let asker = number.and_then(|number| self.remove(number));
        // Sending fails if the asker has just given up.
        if asker.is_none_or(|asker| asker.send(answer).is_err()) {
            self.stray.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn remove(&self, number: u64) -> Option<oneshot::Sender<Message>> {
        let mut waiting = self.waiting.lock();
        let waiting = waiting.as_mut()?;
        let asker = waiting.remove(&number);
        // Memory that many questions at a time took is given back.
        if waiting.capacity() > PLACES_KEPT && waiting.len() < waiting.capacity() / 8 {
            waiting.shrink_to(PLACES_KEPT.max(waiting.len() * 2));
        }
        asker
    }
}

impl Asker<'_> {
    /// Where the answer is to go.
    pub(super) fn reply_subject(&self) -> String {
        format!("{}.{:x}", self.shared.inbox, self.number)
    }

    /// Waits for the answer.
    pub(super) async fn answer(&mut self) -> Result<Answer, Ended> {
        let answer = (&mut self.answer).await.map_err(|_| Ended)?;
        let is_nobody = answer.status == Some(StatusCode::NO_RESPONDERS);
        Ok(if is_nobody { Answer::Nobody } else { Answer::Given(answer) })
    }
}

impl Drop for Asker<'_> {
    fn drop(&mut self) {
        drop(self.shared.remove(self.number));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::FutureExt;

    fn message(subject: String, status: Option<StatusCode>) -> Message {
        let (payload, subject) = (bytes::Bytes::new(), subject.into());
        Message { subject, reply: None, payload, headers: None, status, description: None, length: 0 }
    }

    fn places(shared: &AskingState) -> (usize, usize) {
        shared.waiting.lock().as_ref().map_or((0, 0), |waiting| (waiting.len(), waiting.capacity()))
    }

    #[test]
    fn an_answer_reaches_its_asker_once_and_others_are_counted() {
        let shared = AskingState::new("inbox".to_owned());
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
        let shared = AskingState::new("inbox".to_owned());
        let asked: Vec<_> = std::iter::repeat_with(|| shared.enter().unwrap()).take(MAX_QUESTIONS).collect();
        assert_eq!(shared.enter().err(), Some(Refused::TooMany));
        drop(asked);
        let (waiting, kept) = places(&shared);
        assert!(waiting == 0 && kept <= 2 * PLACES_KEPT, "{kept}");
        assert!(shared.enter().is_ok());
    }

    #[test]
    fn numbers_do_not_follow_one_another() {
        let shared = AskingState::new("inbox".to_owned());
        let [first, second, third] = std::array::from_fn(|_| shared.enter().unwrap().number);
        assert_ne!(second.wrapping_sub(first), third.wrapping_sub(second));
        let other = AskingState::new("inbox".to_owned());
        assert_ne!(first, other.enter().unwrap().number);
    }

    #[test]
    fn those_who_wait_are_told_that_the_client_has_ended() {
        let shared = AskingState::new("inbox".to_owned());
        let mut asker = shared.enter().unwrap();
        *shared.waiting.lock() = None;
        assert!(matches!(asker.answer().now_or_never(), Some(Err(Ended))));
        assert_eq!(shared.enter().err(), Some(Refused::Ended));
    }
}
