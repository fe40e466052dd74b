//! The prefetch, the wake-ups and the account, in each order that the memory model allows.

use std::future::poll_fn;
use std::sync::atomic::Ordering;

use ::loom::future::block_on;
use ::loom::thread::{self, JoinHandle};

use super::*;
use crate::sync::{AtomicBool, in_each_order};

/// The receiver has taken 1, and 2 and 3 are its prefetch.
fn prefetched(options: InboxOptions) -> Arc<Inbox> {
    let inbox = Arc::new(Inbox::new(options).unwrap());
    fill(&inbox, 1..4);
    assert_eq!((receive(&inbox), inbox.state.lock().prefetched), (1, 2));
    inbox
}

fn emits(inbox: &Arc<Inbox>, emit: impl FnOnce(&Inbox) + 'static) -> JoinHandle<()> {
    let inbox = Arc::clone(inbox);
    thread::spawn(move || emit(&inbox))
}

/// One emitter offers a stronger wave, another one a weaker wave, which must not hide the first.
#[test]
fn a_stronger_wave_that_was_offered_is_received_before_a_prefetch() {
    const ORDER: [u64; 4] = [4, 2, 3, 5];
    in_each_order(3, || {
        let inbox = prefetched(shedding(16));
        let emitters = [(4, 0.9), (5, 0.1)].map(|(number, amplitude)| {
            let offered = Arc::new(AtomicBool::new(false));
            let is_offered = Arc::clone(&offered);
            let emitter = emits(&inbox, move |inbox| {
                inbox.offer(numbered(number, amplitude), Offer::Now).unwrap();
                offered.store(true, Ordering::Release);
            });
            (number, is_offered, emitter)
        });
        let mut due = ORDER.to_vec();
        for _ in 0..2 {
            let is_offered = |number: &&u64| {
                let emitter = emitters.iter().find(|(other, ..)| other == *number);
                emitter.is_none_or(|(_, offered, _)| offered.load(Ordering::Acquire))
            };
            let strongest = due.iter().find(is_offered).copied();
            let rank = |number| ORDER.iter().position(|other| Some(*other) == number);
            let received = receive(&inbox);
            assert!(rank(Some(received)) <= rank(strongest), "{received} before {strongest:?}");
            due.retain(|number| *number != received);
        }
        for (_, _, emitter) in emitters {
            emitter.join().unwrap();
        }
        assert_eq!([receive(&inbox), receive(&inbox)], due[..]);
        assert_eq!(inbox.ledger(), Ledger { offered: 5, delivered: 5, ..Ledger::default() });
    });
}

#[test]
fn no_wake_up_of_the_receiver_is_lost() {
    in_each_order(3, || {
        let inbox = prefetched(shedding(16));
        let emitters = [4, 5].map(|number| emits(&inbox, move |inbox| fill(inbox, number..number + 1)));
        let mut received: Vec<_> =
            (0..4).map(|_| number(&block_on(poll_fn(|cx| inbox.poll_receive(cx))).unwrap())).collect();
        assert_eq!(received[..2], [2, 3]);
        received.sort_unstable();
        assert_eq!(received, [2, 3, 4, 5]);
        emitters.into_iter().for_each(|emitter| emitter.join().unwrap());
        let closing = emits(&inbox, Inbox::close);
        assert!(block_on(poll_fn(|cx| inbox.poll_receive(cx))).is_none());
        closing.join().unwrap();
    });
}

/// The clock of the runtime is paused, so patience never ends.
#[test]
fn no_wake_up_of_a_waiting_emitter_is_lost() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build();
    let runtime = Arc::new(runtime.unwrap());
    in_each_order(2, move || {
        let _entered = runtime.enter();
        let inbox = Arc::new(Inbox::new(patient(1)).unwrap());
        fill(&inbox, 1..2);
        let emitters = [2, 3].map(|number| {
            emits(&inbox, move |inbox| block_on(inbox.offer_patiently(&numbered(number, 0.5))))
        });
        let mut received: Vec<_> =
            (0..3).map(|_| number(&block_on(poll_fn(|cx| inbox.poll_receive(cx))).unwrap())).collect();
        received.sort_unstable();
        assert_eq!(received, [1, 2, 3]);
        emitters.into_iter().for_each(|emitter| emitter.join().unwrap());
        assert_eq!(inbox.ledger(), Ledger { offered: 3, delivered: 3, ..Ledger::default() });
    });
}

#[test]
fn the_account_is_exact_while_a_prefetch_is_put_back_for_room() {
    in_each_order(3, || {
        let inbox = prefetched(shedding(4));
        let emitters = [4..6, 6..8].map(|numbers| {
            emits(&inbox, |inbox| {
                fill(inbox, numbers);
                assert!(inbox.ledger().adds_up());
            })
        });
        let mut received = vec![receive(&inbox), receive(&inbox)];
        emitters.into_iter().for_each(|emitter| emitter.join().unwrap());
        while let Poll::Ready(Some(number)) = poll(&inbox) {
            received.push(number);
        }
        let of =
            |numbers: std::ops::Range<u64>| received.iter().filter(move |number| numbers.contains(number));
        assert!(of(1..6).is_sorted() && of(6..8).is_sorted(), "{received:?}");
        let delivered = 1 + received.len() as u64;
        let ledger = Ledger { offered: 7, delivered, shed_full: 7 - delivered, ..Ledger::default() };
        assert_eq!(inbox.ledger(), ledger);
    });
}
