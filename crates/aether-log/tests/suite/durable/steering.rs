//! Consumers as queues that people look at and steer: paused, resumed, hurried and cancelled, in a folder and in JetStream.

use std::collections::BTreeSet;
use std::time::Duration;

use aether_core::Wave;
use aether_log::{Consumer, ConsumerOptions, DurableLog, JobState, QueueStanding};
use futures_util::FutureExt as _;

use crate::durable::stage::{Place, connect, order, position, quick, receive, text};

/// A wave that fails is not due again within a test.
fn slow() -> ConsumerOptions {
    ConsumerOptions::default().pauses(Duration::from_secs(3600), Duration::from_secs(3600))
}

async fn places() -> [Place; 2] {
    [Place::folder(), Place::jetstream().await]
}

/// Waits until the queue is so. A failure is reported to the server behind the scenes.
async fn queue_until(consumer: &Consumer, is_so: impl Fn(&QueueStanding) -> bool) -> QueueStanding {
    let asking = async {
        loop {
            let queue = consumer.queue().await.unwrap();
            if is_so(&queue) {
                return queue;
            }
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(60), asking).await.expect("the queue is so")
}

fn of_key(text: &str, key: &str) -> Wave {
    Wave::builder("orders.created").key(key).text(text).build().unwrap()
}

async fn emit(log: &DurableLog, waves: impl IntoIterator<Item = Wave>) -> Vec<u64> {
    let aether = connect(log).await;
    let (shop, mut positions) = (aether.emitter("shop").unwrap(), Vec::new());
    for wave in waves {
        positions.push(position(&shop.emit(wave).await.unwrap()));
    }
    positions
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_paused_consumer_takes_nothing_and_what_runs_goes_on() {
    for place in places().await {
        let log = place.open().await;
        emit(&log, ["one", "two", "three"].map(|text| order(text, 0.5))).await;
        let [consumer, other] = [(); 2].map(|()| log.consumer("billing", "orders.>", quick()).unwrap());
        let first = receive(&consumer).await;
        assert_eq!(log.consumers().iter().map(Consumer::name).collect::<Vec<_>>(), ["billing"]);
        consumer.pause();
        let mut waiting = Box::pin(other.receive());
        assert!((&mut waiting).now_or_never().is_none(), "all handles of the name");
        let queue = queue_until(&consumer, |queue| queue.waiting + queue.unseen == 2).await;
        assert!(queue.is_paused && queue.in_flight == 1 && queue.longest.is_some(), "{queue:?}");
        first.ack().await.unwrap();
        assert!((&mut waiting).now_or_never().is_none(), "an end does not begin others");
        other.resume();
        assert_eq!(text(&waiting.await.unwrap()), "two");
        let queue = consumer.queue().await.unwrap();
        assert!(!queue.is_paused && queue.done == 1, "{queue:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_wave_that_pauses_after_a_failure_is_listed_and_due_when_somebody_says_so() {
    for by_key in [false, true] {
        for place in places().await {
            let log = place.open().await;
            let waves = [of_key("one", "a"), of_key("two", "b"), of_key("three", "c")];
            let positions = emit(&log, waves).await;
            let options = if by_key { slow().by_key() } else { slow() };
            let consumer = log.consumer("billing", "orders.>", options).unwrap();
            for _ in 0..2 {
                receive(&consumer).await.nack("no ink");
            }
            let running = receive(&consumer).await;
            let queue = queue_until(&consumer, |queue| queue.retrying == 2).await;
            assert!(queue.next_due > Some(Duration::from_secs(3000)), "{queue:?}");
            assert_eq!((queue.waiting, queue.unseen, queue.in_flight, queue.by_key), (0, 0, 1, by_key));

            let jobs = consumer.jobs(0, 10).await.unwrap();
            assert_eq!(jobs.iter().map(|job| job.position).collect::<Vec<_>>(), positions);
            assert!(matches!(jobs[0].state, JobState::Retrying(due) if due > Duration::from_secs(3000)));
            assert_eq!((jobs[0].attempt, jobs[0].error.as_deref()), (2, Some("no ink")));
            let wave = jobs[0].wave.as_ref().unwrap();
            assert_eq!((wave.text().unwrap(), wave.key()), ("one", Some("a")));
            assert!(matches!(jobs[2].state, JobState::InFlight(_)) && jobs[2].error.is_none());
            assert_eq!(jobs[2].attempt, 1);
            let page = consumer.jobs(positions[0], 1).await.unwrap();
            assert_eq!(page.iter().map(|job| job.position).collect::<Vec<_>>(), positions[1..2]);

            assert_eq!(consumer.retry(Some(positions[2])).await, 0, "it runs");
            assert_eq!(consumer.retry(Some(positions[1])).await, 1);
            let two = receive(&consumer).await;
            assert_eq!((text(&two).as_str(), two.attempt()), ("two", 2));
            two.nack("still no ink");
            queue_until(&consumer, |queue| queue.retrying == 2).await;
            assert_eq!(consumer.retry(None).await, 2);
            let both = [receive(&consumer).await, receive(&consumer).await];
            let attempts: BTreeSet<_> =
                both.iter().map(|delivery| (text(delivery), delivery.attempt())).collect();
            assert_eq!(attempts, [("one".to_owned(), 2), ("two".to_owned(), 3)].into());
            for delivery in both.into_iter().chain([running]) {
                delivery.ack().await.unwrap();
            }
            assert_eq!(consumer.account().await.unwrap().acknowledged, 3);
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cancelled_wave_is_a_dead_letter_that_was_not_handled() {
    for by_key in [false, true] {
        for place in places().await {
            let log = place.open().await;
            let waves = ["one", "two", "three", "four"].map(|text| of_key(text, "a"));
            let positions = emit(&log, waves).await;
            let options = if by_key { slow().by_key() } else { slow() };
            let consumer = log.consumer("billing", "orders.>", options).unwrap();
            receive(&consumer).await.nack("no ink");
            queue_until(&consumer, |queue| queue.retrying == 1).await;
            // Also while it is paused.
            consumer.pause();
            assert!(consumer.cancel(positions[0]).await.unwrap(), "it pauses");
            let waits = async {
                // By key the server delivers it a moment later.
                while !consumer.cancel(positions[2]).await.unwrap() {
                    tokio::task::yield_now().await;
                }
            };
            tokio::time::timeout(Duration::from_secs(60), waits).await.expect("it waits");
            consumer.resume();
            let two = receive(&consumer).await;
            assert_eq!(text(&two), "two");
            assert!(!consumer.cancel(positions[1]).await.unwrap(), "it runs");
            assert!(!consumer.cancel(positions[0]).await.unwrap(), "it is gone");
            two.ack().await.unwrap();
            let four = receive(&consumer).await;
            assert_eq!(text(&four), "four");
            four.ack().await.unwrap();

            let letters = log.dead().after(0, 10).await.unwrap();
            let letters: Vec<_> = letters
                .iter()
                .map(|letter| {
                    (letter.stored.position, letter.attempts, letter.failed.len(), letter.is_cancelled())
                })
                .collect();
            assert_eq!(letters, [(positions[0], 1, 2, true), (positions[2], 0, 1, true)]);
            let queue = consumer.queue().await.unwrap();
            assert_eq!((queue.letters, queue.waiting, queue.retrying, queue.done), (2, 0, 0, 4), "{queue:?}");
            let account = consumer.account().await.unwrap();
            assert_eq!((account.acknowledged, account.dead, account.waiting), (2, 2, 0), "{account:?}");
            assert!(account.adds_up());
            let again = ConsumerOptions::default();
            drop(consumer);
            let next = log.consumer("other", "orders.>", again).unwrap();
            assert_eq!(text(&receive(&next).await), "one", "other consumers get them");
        }
    }
}
