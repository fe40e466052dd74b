//! The inbox's behaviour, case by case; [`model`] compares it with a plain sorted list.

mod control;
mod holding;
#[cfg(aether_loom)]
mod loom;
mod model;
mod queue;
mod race;
mod waiting;

use std::future::Future as _;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use parking_lot::Mutex;

use super::waiting::LONG_WAIT;
use super::{EVICTION_WINDOW, Inbox, InboxOptions, Ledger, Offer, ServeOrder, ShedReason, WhenFull};
use crate::amplitude::{Amplitude, Floor, amplitude_of_level};
use crate::clock::{self, Moment};
use crate::source::{Sequencer, Source};
use crate::wave::{Wave, WaveBuilder};

const PATIENCE: Duration = Duration::from_millis(100);

fn patient(max_waves: usize) -> InboxOptions {
    InboxOptions::interactive().max_waves(max_waves).when_full(WhenFull::Wait { patience: PATIENCE })
}

fn shedding(max_waves: usize) -> InboxOptions {
    InboxOptions::interactive().max_waves(max_waves).when_full(WhenFull::Shed)
}

/// A wave just emitted by a source of its own.
fn emitted(builder: WaveBuilder) -> Wave {
    let mut wave = builder.build().unwrap();
    wave.stamp(&Sequencer::new(Source::new("test").unwrap()), Moment::now());
    wave
}

fn numbered(number: u64, amplitude: f32) -> Wave {
    emitted(Wave::builder("a").amplitude(amplitude).text(number.to_string()))
}

fn number(wave: &Wave) -> u64 {
    wave.text().unwrap().trim().parse().unwrap()
}

/// The number of the wave received now, if any.
fn poll(inbox: &Inbox) -> Poll<Option<u64>> {
    inbox.poll_receive(&mut Context::from_waker(Waker::noop())).map(|wave| wave.as_ref().map(number))
}

fn receive(inbox: &Inbox) -> u64 {
    let Poll::Ready(Some(number)) = poll(inbox) else { panic!("nothing to receive: {inbox:?}") };
    number
}

fn fill(inbox: &Inbox, numbers: std::ops::Range<u64>) {
    for number in numbers {
        inbox.offer(numbered(number, 0.5), Offer::IfRoom).unwrap();
    }
}

/// An emitter that finds no room, polled once so that it starts to wait.
macro_rules! waits {
    ($name:ident, $inbox:expr, $wave:expr) => {
        let wave = $wave;
        let mut $name = pin!($inbox.offer_patiently(&wave));
        assert!(futures::poll!($name.as_mut()).is_pending());
    };
}
use waits;

#[test]
fn options_that_leave_no_room_are_refused() {
    for options in [
        patient(0),
        patient(u32::MAX as usize),
        patient(1).max_bytes(0),
        patient(1).sojourn_cap(Some(Duration::ZERO)),
    ] {
        assert!(Inbox::new(options.clone()).is_err(), "{options:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn closing_wakes_the_receiver_and_the_emitters() {
    let empty = Inbox::new(patient(1)).unwrap();
    let mut receiver =
        tokio_test_task(|cx| empty.poll_receive(cx).map(|wave| wave.map(|wave| number(&wave))));
    assert!(receiver.poll().is_pending());
    empty.close();
    assert!(receiver.is_woken());
    assert_eq!(receiver.poll(), Poll::Ready(None));

    let full = Inbox::new(patient(1)).unwrap();
    fill(&full, 0..1);
    let started = Moment::now();
    {
        waits!(one, full, numbered(1, 0.5));
        waits!(other, full, numbered(2, 0.5));
        full.close();
        one.await;
        other.await;
    }
    assert_eq!(started.elapsed(), Duration::ZERO);
    full.offer(numbered(3, 0.5), Offer::Now).unwrap();
    full.offer_all([numbered(4, 0.5), numbered(5, 0.5)]);
    assert_eq!(full.ledger(), Ledger { offered: 6, shed_closed: 5, queued: 1, ..Ledger::default() });
    assert_eq!(receive(&full), 0);
    assert_eq!((poll(&full), poll(&full)), (Poll::Ready(None), Poll::Ready(None)));
}

/// A future with a waker that records whether it was woken.
fn tokio_test_task<T, F: FnMut(&mut Context<'_>) -> Poll<T>>(poll: F) -> Task<F> {
    Task { poll, woken: Arc::new(Woken::default()) }
}

struct Task<F> {
    poll: F,
    woken: Arc<Woken>,
}

#[derive(Default)]
struct Woken(std::sync::atomic::AtomicBool);

impl std::task::Wake for Woken {
    fn wake(self: Arc<Self>) {
        self.0.store(true, std::sync::atomic::Ordering::Relaxed);
    }
}

impl<T, F: FnMut(&mut Context<'_>) -> Poll<T>> Task<F> {
    fn poll(&mut self) -> Poll<T> {
        let waker = Waker::from(Arc::clone(&self.woken));
        (self.poll)(&mut Context::from_waker(&waker))
    }
}

impl<F> Task<F> {
    /// Whether it was woken since the last call.
    fn is_woken(&self) -> bool {
        self.woken.0.swap(false, std::sync::atomic::Ordering::Relaxed)
    }
}

#[tokio::test(start_paused = true)]
async fn every_accepted_offer_wakes_the_receiver_and_a_refused_one_does_not() {
    let inbox = Inbox::new(patient(1)).unwrap();
    let mut receiver =
        tokio_test_task(|cx| inbox.poll_receive(cx).map(|wave| wave.map(|wave| number(&wave))));
    assert!(receiver.poll().is_pending());
    inbox.offer(numbered(1, 0.5), Offer::IfRoom).unwrap();
    assert!(receiver.is_woken());
    assert_eq!(receiver.poll(), Poll::Ready(Some(1)));
    assert!(receiver.poll().is_pending());
    inbox.offer_all([numbered(2, 0.5)]);
    assert!(receiver.is_woken());
    assert_eq!(receiver.poll(), Poll::Ready(Some(2)));

    let mut seen = 0;
    let mut picky = tokio_test_task(|cx| inbox.poll_receive_where(cx, &mut seen, |wave| number(wave) == 4));
    inbox.offer(numbered(3, 0.5), Offer::IfRoom).unwrap();
    assert!(picky.poll().is_pending());
    assert!(inbox.offer(numbered(4, 0.5), Offer::IfRoom).is_err());
    assert!(!picky.is_woken());
    inbox.offer(numbered(4, 0.5), Offer::Now).unwrap();
    assert!(picky.is_woken());
    assert!(matches!(picky.poll(), Poll::Ready(Some(wave)) if number(&wave) == 4));
}

#[tokio::test(start_paused = true)]
async fn abandoned_waves_are_counted_and_reported_once() {
    let reported = Arc::new(Mutex::new(Vec::new()));
    let report = Arc::clone(&reported);
    let options = patient(100).on_shed(move |wave: &Wave, reason| report.lock().push((number(wave), reason)));
    let inbox = Inbox::new(options).unwrap();
    fill(&inbox, 0..40);
    // The receiver now holds a prefetch.
    assert_eq!([receive(&inbox), receive(&inbox)], [0, 1]);
    inbox.abandon();
    assert_eq!(inbox.ledger(), Ledger { offered: 40, delivered: 2, shed_closed: 38, ..Ledger::default() });
    let expected: Vec<_> = (2..40).map(|number| (number, ShedReason::Closed)).collect();
    assert_eq!(*reported.lock(), expected);
    inbox.abandon();
    assert_eq!(inbox.ledger().lost(), 38);
    assert_eq!(poll(&inbox), Poll::Ready(None));
}

#[tokio::test(start_paused = true)]
async fn the_effective_floor_rises_at_an_eviction_and_falls_after_two_windows() {
    let floor_of = |amplitude: f32| {
        let level = numbered(0, amplitude).signal().level();
        Floor::at(amplitude_of_level(level))
    };
    let inbox = Inbox::new(shedding(1).floor(Floor::new(0.01).unwrap())).unwrap();
    let configured = inbox.effective_floor();
    assert_eq!(configured, Floor::new(0.01).unwrap());
    inbox.offer(numbered(0, 1.0), Offer::Now).unwrap();
    assert_eq!(inbox.effective_floor(), configured, "nothing was evicted");
    inbox.offer(numbered(1, 0.1), Offer::Now).unwrap();
    assert_eq!(inbox.effective_floor(), floor_of(0.1));
    inbox.offer(numbered(2, 0.5), Offer::Now).unwrap();
    inbox.offer(numbered(3, 0.2), Offer::Now).unwrap();
    assert_eq!(inbox.effective_floor(), floor_of(0.5), "the strongest evicted level counts");

    tokio::time::advance(EVICTION_WINDOW).await;
    assert_eq!(inbox.effective_floor(), floor_of(0.5));
    inbox.offer(numbered(4, 0.1), Offer::Now).unwrap();
    assert_eq!(inbox.effective_floor(), floor_of(0.5), "the previous window still counts");
    tokio::time::advance(EVICTION_WINDOW).await;
    assert_eq!(inbox.effective_floor(), floor_of(0.1));
    tokio::time::advance(2 * EVICTION_WINDOW).await;
    assert_eq!(inbox.effective_floor(), configured);

    inbox.offer(numbered(4, 1.0), Offer::Now).unwrap();
    assert!(inbox.effective_floor() > configured);
    tokio::time::advance(2 * EVICTION_WINDOW).await;
    assert_eq!(inbox.effective_floor(), configured, "although the floor was not read in between");

    // An eviction below the configured floor does not lower it.
    inbox.offer(numbered(5, 0.01), Offer::Now).unwrap();
    assert!(inbox.effective_floor() >= configured);
}

#[tokio::test(start_paused = true)]
async fn receive_where_takes_the_strongest_match_and_leaves_the_others() {
    let inbox = Inbox::new(patient(1000)).unwrap();
    for (number, amplitude) in [(0, 0.5), (1, 0.5), (2, 0.8), (3, 0.8), (4, 0.5), (6, 0.1), (5, 1.0)] {
        inbox.offer(numbered(number, amplitude), Offer::IfRoom).unwrap();
    }
    // Puts some waves into the receiver's prefetch.
    assert_eq!(receive(&inbox), 5);
    let mut cx = Context::from_waker(Waker::noop());
    let mut even = || {
        let polled = inbox.poll_receive_where(&mut cx, &mut 0, |wave| number(wave).is_multiple_of(2));
        polled.map(|wave| wave.as_ref().map(number))
    };
    assert_eq!([(); 4].map(|()| even()), [2, 0, 4, 6].map(|number| Poll::Ready(Some(number))));
    assert_eq!(even(), Poll::Pending);
    assert_eq!([receive(&inbox), receive(&inbox)], [3, 1]);
    inbox.close();
    assert_eq!(inbox.ledger(), Ledger { offered: 7, delivered: 7, ..Ledger::default() });
}

#[tokio::test(start_paused = true)]
async fn receive_where_looks_at_each_wave_once_while_it_waits() {
    let inbox = Inbox::new(patient(100_000)).unwrap();
    fill(&inbox, 0..1000);
    let mut cx = Context::from_waker(Waker::noop());
    let (mut seen, mut looked) = (0, 0);
    let mut poll = |inbox: &Inbox| {
        let polled = inbox.poll_receive_where(&mut cx, &mut seen, |wave| {
            looked += 1;
            number(wave) == 2000
        });
        (polled.map(|wave| wave.as_ref().map(number)), looked)
    };
    assert_eq!(poll(&inbox), (Poll::Pending, 1000));
    assert_eq!(poll(&inbox), (Poll::Pending, 1000));
    for number in 1000..2000 {
        inbox.offer(numbered(number, 0.5), Offer::IfRoom).unwrap();
        assert_eq!(poll(&inbox), (Poll::Pending, number as usize + 1));
    }
    inbox.offer(numbered(2000, 0.5), Offer::IfRoom).unwrap();
    assert_eq!(poll(&inbox), (Poll::Ready(Some(2000)), 2001));
    assert_eq!(inbox.ledger().queued, 2000);
}

#[tokio::test(start_paused = true)]
async fn a_stronger_wave_is_received_before_prefetched_ones() {
    let inbox = Inbox::new(patient(1000)).unwrap();
    fill(&inbox, 0..50);
    assert_eq!(receive(&inbox), 0);
    inbox.offer(numbered(100, 1.0), Offer::IfRoom).unwrap();
    inbox.offer(numbered(101, 0.1), Offer::IfRoom).unwrap();
    inbox.offer(numbered(102, 1.0), Offer::IfRoom).unwrap();
    assert_eq!([receive(&inbox), receive(&inbox), receive(&inbox)], [100, 102, 1]);
    assert_eq!((0..49).map(|_| receive(&inbox)).last(), Some(101));
}

#[tokio::test(start_paused = true)]
async fn a_wave_may_wait_as_long_as_the_sojourn_cap_and_no_longer() {
    let cap = Duration::from_millis(20);
    for order in [ServeOrder::Strength, ServeOrder::Arrival] {
        let inbox = Inbox::new(patient(100).order(order).sojourn_cap(Some(cap))).unwrap();
        fill(&inbox, 0..40);
        tokio::time::advance(cap).await;
        fill(&inbox, 40..41);
        assert_eq!([receive(&inbox), receive(&inbox)], [0, 1]);
        tokio::time::advance(Duration::from_millis(1)).await;
        assert_eq!(receive(&inbox), 40, "the prefetched ones are too late as well");
        let ledger = Ledger { offered: 41, delivered: 3, shed_sojourn: 38, ..Ledger::default() };
        assert_eq!(inbox.ledger(), ledger);
    }
}

#[tokio::test(start_paused = true)]
async fn a_callback_may_use_the_inbox_that_calls_it() {
    let slot = Arc::new(Mutex::new(None::<Arc<Inbox>>));
    let place = Arc::clone(&slot);
    let inbox = Arc::new(
        Inbox::new(shedding(2).on_shed(move |wave: &Wave, _| {
            let inbox = place.lock().clone().unwrap();
            assert!(inbox.ledger().adds_up());
            if wave.amplitude() < Amplitude::NORMAL {
                inbox.offer(numbered(number(wave) + 100, 1.0), Offer::Now).unwrap();
            }
        }))
        .unwrap(),
    );
    *slot.lock() = Some(Arc::clone(&inbox));
    inbox.offer(numbered(1, 0.5), Offer::Now).unwrap();
    inbox.offer(numbered(2, 0.5), Offer::Now).unwrap();
    inbox.offer(numbered(3, 0.1), Offer::Now).unwrap();
    assert_eq!([receive(&inbox), receive(&inbox)], [103, 2]);
    assert_eq!(inbox.ledger(), Ledger { offered: 4, delivered: 2, shed_full: 2, ..Ledger::default() });
    *slot.lock() = None;
}

#[tokio::test(start_paused = true)]
async fn a_medium_takes_many_at_once_the_strongest_first_within_its_bounds() {
    let inbox = Inbox::new(patient(1000)).unwrap();
    let weight = numbered(10, 0.5).weight();
    for number in 10..60_u64 {
        let amplitude = if number.is_multiple_of(2) { 0.5 } else { 0.9 };
        inbox.offer(numbered(number, amplitude), Offer::IfRoom).unwrap();
    }
    assert!(inbox.filled().await);
    let take = |waves, bytes| {
        let mut taken = Vec::new();
        inbox.take_many(waves, bytes, &mut taken);
        taken.iter().map(number).collect::<Vec<_>>()
    };
    assert_eq!(take(3, usize::MAX), [11, 13, 15]);
    assert_eq!(take(1000, 2 * weight), [17, 19]);
    assert_eq!(take(1000, 1), [21], "at least one");
    let rest = take(1000, usize::MAX);
    assert_eq!((rest[0], rest[18], rest[19], rest.len()), (23, 59, 10, 44));
    assert_eq!(take(1000, usize::MAX), [0; 0]);
    assert_eq!(inbox.ledger(), Ledger { offered: 50, delivered: 50, ..Ledger::default() });
    inbox.close();
    assert!(!inbox.filled().await);
}

#[test]
fn unsendable_waves_are_counted_as_unsendable() {
    let reasons = Arc::new(Mutex::new(Vec::new()));
    let options = InboxOptions::default().on_shed({
        let reasons = Arc::clone(&reasons);
        move |_, reason| reasons.lock().push(reason)
    });
    let inbox = Inbox::new(options).unwrap();
    inbox.offer_all((0..5).map(|_| Wave::from_bytes("a", "x").unwrap()));
    let mut taken = Vec::new();
    inbox.take_many(3, usize::MAX, &mut taken);
    inbox.count_unsendable(2);
    inbox.report(&taken[1..], ShedReason::Unsendable);
    let ledger = Ledger { offered: 5, delivered: 1, shed_unsendable: 2, queued: 2, ..Ledger::default() };
    assert_eq!(inbox.ledger(), ledger);
    assert!(ledger.adds_up());
    assert_eq!(*reasons.lock(), [ShedReason::Unsendable; 2]);
}

#[tokio::test(start_paused = true)]
async fn waves_taken_for_sending_are_subject_to_the_cap_the_floor_and_the_order() {
    let cap = Duration::from_millis(20);
    let reasons = Arc::new(Mutex::new(Vec::new()));
    let report = Arc::clone(&reasons);
    let options = patient(100).sojourn_cap(Some(cap)).floor(Floor::new(0.3).unwrap());
    let options =
        options.order(ServeOrder::Arrival).on_shed(move |_: &Wave, reason| report.lock().push(reason));
    let inbox = Inbox::new(options).unwrap();
    let take = || {
        let mut taken = Vec::new();
        inbox.take_many(100, usize::MAX, &mut taken);
        taken.iter().map(number).collect::<Vec<_>>()
    };
    fill(&inbox, 0..3);
    tokio::time::advance(cap + Duration::from_millis(1)).await;
    inbox.offer(numbered(3, 0.5), Offer::IfRoom).unwrap();
    let fading = Wave::builder("a").amplitude(0.4).half_life(Duration::from_millis(8)).text("4");
    inbox.offer(emitted(fading), Offer::IfRoom).unwrap();
    inbox.offer(numbered(5, 1.0), Offer::IfRoom).unwrap();
    tokio::time::advance(cap / 2).await;
    assert_eq!(take(), [3, 5]);
    let ledger = Ledger { offered: 6, delivered: 2, shed_sojourn: 3, expired: 1, ..Ledger::default() };
    assert_eq!(inbox.ledger(), ledger);
    use ShedReason::{Expired, Sojourn};
    assert_eq!(*reasons.lock(), [Sojourn, Sojourn, Sojourn, Expired]);
}
