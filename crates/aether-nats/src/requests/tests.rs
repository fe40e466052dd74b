//! Pending questions without a server, and their answers in all orders.

use super::*;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use async_nats::Subject;
use bytes::Bytes;
use futures_util::stream;
use futures_util::stream::iter;
use tokio::sync::mpsc;

use crate::NatsOptions;
use aether_core::InboxOptions;
use aether_core::inbox::Inbox;
use aether_link::OutboxReader;

fn made_of(answers: BoxStream<'static, Message>) -> RequestsState {
    let outbox = Inbox::new(InboxOptions::default()).unwrap();
    let state = Arc::new(ConnectionState::new(OutboxReader::new(Arc::new(outbox)), None));
    let sealing = Sealing::new(&NatsOptions::default()).unwrap();
    RequestsState::new("inbox".to_owned(), answers, state, Arc::new(sealing))
}

/// Without answers from the client; the tests hand them over.
fn asking_state() -> RequestsState {
    made_of(stream::pending().boxed())
}

fn message(subject: String, status: Option<StatusCode>) -> Message {
    let (payload, subject) = (bytes::Bytes::new(), subject.into());
    Message { subject, reply: None, payload, headers: None, status, description: None, length: 0 }
}

fn places(shared: &RequestsState) -> (usize, usize) {
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
    assert_eq!(shared.enter().err(), Some(CannotAsk::TooMany));
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
    assert!(matches!(asker.answer().now_or_never(), Some(Err(ClientEnded))));
    assert_eq!(shared.enter().err(), Some(CannotAsk::ClientEnded));
}

/// A state whose answers are sent here, and the poll of its task.
fn answered_by_hand() -> (mpsc::UnboundedSender<Message>, Arc<RequestsState>) {
    let (sender, mut receiver) = mpsc::unbounded_channel();
    (sender, Arc::new(made_of(stream::poll_fn(move |cx| receiver.poll_recv(cx)).boxed())))
}

fn task_of(shared: &Arc<RequestsState>) -> tokio_test::task::Spawn<impl Future<Output = ()> + use<>> {
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
    assert!(matches!(waiting.poll(), Poll::Ready(Err(ClientEnded))));
}

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
