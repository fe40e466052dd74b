//! One receiver, several emitters and an observer, each on a thread of its own.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;

use super::*;

const EMITTERS: u64 = 3;
const EACH: u64 = 20_000;

/// Receives until the inbox is closed and empty; checks the order of what one emitter sent at one amplitude.
fn receive_all(inbox: &Inbox) -> u64 {
    let mut newest = std::collections::HashMap::new();
    let mut received = 0;
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    runtime.block_on(async {
        while let Some(wave) = std::future::poll_fn(|cx| inbox.poll_receive(cx)).await {
            received += 1;
            let number = number(&wave);
            let stream = (wave.channel().clone(), wave.amplitude());
            let before = newest.insert(stream, number);
            assert!(before < Some(number), "{number} after {before:?}");
        }
    });
    received
}

fn race(options: InboxOptions) {
    const MAX_WAVES: usize = 40;
    let reported = Arc::new(AtomicU64::new(0));
    let report = Arc::clone(&reported);
    let options = options.max_waves(MAX_WAVES).on_shed(move |_, _| {
        report.fetch_add(1, Ordering::Relaxed);
    });
    let inbox = Inbox::new(options).unwrap();
    let over = AtomicBool::new(false);
    let received = thread::scope(|scope| {
        let receiver = scope.spawn(|| receive_all(&inbox));
        let onlooker = scope.spawn(|| {
            while !over.load(Ordering::Relaxed) {
                let ledger = inbox.ledger();
                assert!(ledger.adds_up() && ledger.queued <= MAX_WAVES as u64, "{ledger:?}");
                thread::yield_now();
            }
        });
        let emitters: Vec<_> = (0..EMITTERS)
            .map(|emitter| {
                let inbox = &inbox;
                scope.spawn(move || {
                    for number in 1..=EACH {
                        let amplitude = [0.5, 0.5, 0.5, 0.9, 0.1][number as usize % 5];
                        let wave = Wave::builder(format!("emitter.{emitter}")).amplitude(amplitude);
                        let wave = emitted(wave.text(number.to_string()));
                        if number.is_multiple_of(7) {
                            inbox.offer_all([wave]);
                        } else if let Err(wave) = inbox.offer(wave, Offer::IfRoom) {
                            inbox.offer(wave, Offer::Now).unwrap();
                        }
                    }
                })
            })
            .collect();
        for emitter in emitters {
            emitter.join().unwrap();
        }
        inbox.close();
        over.store(true, Ordering::Relaxed);
        onlooker.join().unwrap();
        receiver.join().unwrap()
    });
    let ledger = inbox.ledger();
    let offered = EMITTERS * EACH;
    assert_eq!((ledger.offered, ledger.delivered, ledger.queued), (offered, received, 0));
    assert!(ledger.adds_up(), "{ledger:?}");
    assert_eq!(reported.load(Ordering::Relaxed), ledger.lost());
}

#[test]
fn order_bounds_and_account_hold_while_threads_race() {
    race(patient(1));
    race(shedding(1).order(ServeOrder::Arrival));
}
