//! Floors and bounds that change while an inbox is in use.

use super::*;
use crate::InboxControl;

fn controlled(options: InboxOptions) -> (Arc<Inbox>, InboxControl) {
    let (inbox, control) = (Arc::new(Inbox::new(options).unwrap()), InboxControl::default());
    control.add(Arc::clone(&inbox) as _);
    (inbox, control)
}

#[tokio::test(start_paused = true)]
async fn a_larger_bound_admits_the_emitters_that_wait() {
    let (inbox, control) = controlled(patient(4));
    fill(&inbox, 0..4);
    waits!(first, inbox, numbered(4, 0.5));
    waits!(second, inbox, numbered(5, 0.5));
    control.set_bounds(5, 64 << 20).unwrap();
    assert!(futures::poll!(first.as_mut()).is_ready());
    assert!(futures::poll!(second.as_mut()).is_pending(), "there is room for one");
    control.set_bounds(6, 64 << 20).unwrap();
    second.await;
    assert_eq!([0, 1, 2, 3, 4, 5].map(|_| receive(&inbox)), [0, 1, 2, 3, 4, 5]);
    assert_eq!(inbox.ledger().lost(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_smaller_bound_keeps_what_is_queued_and_makes_emitters_wait() {
    let (inbox, control) = controlled(patient(100));
    fill(&inbox, 0..50);
    assert_eq!(receive(&inbox), 0, "a prefetch is taken as well");
    control.set_bounds(10, 64 << 20).unwrap();
    assert_eq!(inbox.ledger().queued, 49);
    assert!(inbox.offer(numbered(50, 0.5), Offer::IfRoom).is_err());
    waits!(emitter, inbox, numbered(50, 0.5));
    for expected in 1..45 {
        assert_eq!(receive(&inbox), expected);
    }
    emitter.await;
    assert_eq!((inbox.ledger().queued, inbox.ledger().lost()), (6, 0));
}

#[test]
fn a_wave_that_cannot_wait_sheds_down_to_the_smaller_bound() {
    let (inbox, control) = controlled(shedding(100));
    fill(&inbox, 0..50);
    control.set_bounds(10, 64 << 20).unwrap();
    inbox.offer(numbered(50, 0.9), Offer::Now).unwrap();
    assert_eq!((inbox.ledger().queued, inbox.ledger().shed_full), (10, 41));
    assert_eq!(receive(&inbox), 50, "the strongest stays");
    let weight = numbered(10, 0.5).weight();
    control.set_bounds(10, 2 * weight).unwrap();
    inbox.offer(numbered(51, 0.5), Offer::Now).unwrap();
    assert_eq!(inbox.ledger().queued, 2);
}

/// The waves decay, from 0.5 to the floor of 0.4 in less than three seconds, so the clock is paused.
#[tokio::test(start_paused = true)]
async fn a_floor_counts_at_once_and_for_inboxes_that_are_made_later() {
    let (inbox, control) = controlled(patient(10));
    inbox.offer(numbered(0, 0.1), Offer::IfRoom).unwrap();
    control.set_floor(Floor::new(0.4).unwrap());
    inbox.offer(numbered(1, 0.1), Offer::IfRoom).unwrap();
    assert_eq!((inbox.ledger().queued, inbox.ledger().shed_below_floor), (1, 1));
    assert_eq!(inbox.effective_floor(), Floor::new(0.4).unwrap());
    control.set_bounds(1, 64 << 20).unwrap();
    let later = Arc::new(Inbox::new(shedding(10)).unwrap());
    control.add(Arc::clone(&later) as _);
    for (number, amplitude) in [(0, 0.1), (1, 0.5), (2, 0.5)] {
        later.offer(numbered(number, amplitude), Offer::Now).unwrap();
    }
    let ledger = later.ledger();
    assert_eq!((ledger.shed_below_floor, ledger.shed_full, ledger.queued), (1, 1, 1));
    control.set_floor(Floor::OPEN);
    assert_eq!(inbox.effective_floor(), Floor::OPEN);
}

#[tokio::test(start_paused = true)]
async fn a_raised_floor_counts_for_queued_waves_that_decay_also_where_there_was_none() {
    let (inbox, control) = controlled(patient(10));
    for number in 0..40 {
        let wave =
            Wave::builder("a").amplitude(0.9).half_life(Duration::from_secs(1)).text(number.to_string());
        inbox.offer(emitted(wave), Offer::Now).unwrap();
    }
    assert_eq!(receive(&inbox), 30, "the others are prefetched or queued");
    tokio::time::advance(Duration::from_secs(4)).await;
    control.set_floor(Floor::new(0.3).unwrap());
    assert!(poll(&inbox).is_pending());
    assert_eq!((inbox.ledger().expired, inbox.ledger().queued), (9, 0));
}

#[test]
fn a_bound_out_of_range_is_refused_and_an_inbox_that_is_gone_is_forgotten() {
    let (inbox, control) = controlled(patient(4));
    assert!(control.set_bounds(0, 1).unwrap_err().to_string().contains("max_waves = 0"));
    assert!(control.set_bounds(1, 0).unwrap_err().to_string().contains("max_bytes = 0"));
    fill(&inbox, 0..4);
    assert!(inbox.offer(numbered(4, 0.5), Offer::IfRoom).is_err());
    assert_eq!(control.inboxes(), 1);
    drop(inbox);
    assert_eq!(control.inboxes(), 0);
}

/// A waker of an executor that polls at once.
struct Immediate(Box<dyn Fn() + Send + Sync>);

impl std::task::Wake for Immediate {
    fn wake(self: Arc<Self>) {
        self.0();
    }
}

#[tokio::test(start_paused = true)]
async fn an_emitter_that_is_woken_by_new_bounds_may_use_the_control() {
    let (inbox, control) = controlled(patient(1));
    fill(&inbox, 0..1);
    let (looked, seen) = (control.clone(), Arc::new(Mutex::new(None)));
    let sees = Arc::clone(&seen);
    // It would wait for ever under the lock of the control.
    let look = move || *sees.lock() = looked.shared.try_lock().map(|controlled| controlled.bounds);
    let waker = Waker::from(Arc::new(Immediate(Box::new(look))));
    let wave = numbered(1, 0.5);
    let mut emitter = pin!(inbox.offer_patiently(&wave));
    assert!(emitter.as_mut().poll(&mut Context::from_waker(&waker)).is_pending());
    control.set_bounds(2, 64 << 20).unwrap();
    assert_eq!(*seen.lock(), Some(Some((2, 64 << 20))));
}
