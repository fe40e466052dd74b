//! Dead letters that are replayed: a job that was done is not done again, and one that had failed is done.

use std::num::NonZeroU32;
use std::time::Duration;

use aether_log::ConsumerOptions;
use aether_outbox::{Backend, Store, StoreError};

use crate::stage::{bill, billed, connect, logged, open, open_log, order, within};

/// Bills two waves, which both become dead letters: the first one was billed, and only its acknowledgement was lost.
async fn a_replay_does_what_was_not_done_and_nothing_twice<B: Backend>(
    folder: &std::path::Path,
    store: Store<B>,
) {
    let log = open_log(folder);
    let aether = connect(&log).await;
    let shop = aether.emitter("shop").unwrap();
    for number in [1, 2] {
        shop.emit_confirmed(order(number)).await.unwrap();
    }
    let options = ConsumerOptions::default().pauses(Duration::ZERO, Duration::ZERO);
    let once = options.max_attempts(NonZeroU32::MIN);
    let consumer = log.consumer("billing", "orders.>", once).unwrap();
    let first = within(consumer.receive()).await.unwrap();
    assert!(bill(&store, first.wave()).await);
    first.nack("the acknowledgement was lost");
    let second = within(consumer.receive()).await.unwrap();
    let failed = store.write({
        let wave = second.wave().clone();
        move |change| {
            assert!(change.once(&wave.id())? && change.once("bill of order 2")?);
            Err::<(), _>(StoreError::other("the till is broken"))
        }
    });
    second.nack(&failed.await.unwrap_err().to_string());
    let buried = async {
        while consumer.ledger().dead < 2 {
            tokio::task::yield_now().await;
        }
    };
    // A consumer writes its letters when it is asked for the next wave.
    let all = async {
        tokio::select! { () = buried => {}, next = consumer.receive() => panic!("{next:?}") }
    };
    within(all).await;
    for letter in log.dead().numbers() {
        log.dead().replay(letter, &shop).await.unwrap();
    }
    assert_eq!(logged(&log), [1, 2, 1, 2], "a replay is a new attempt, so the log keeps it");
    for is_new in [false, true] {
        let again = within(consumer.receive()).await.unwrap();
        assert_eq!(again.wave().attempts(), 2);
        assert_eq!(bill(&store, again.wave()).await, is_new);
        again.ack().await.unwrap();
    }
    assert_eq!(billed(&store), (2, 3), "each billed once");
}

#[tokio::test]
async fn in_redb_a_replay_does_what_was_not_done_and_nothing_twice() {
    let folder = tempfile::tempdir().unwrap();
    a_replay_does_what_was_not_done_and_nothing_twice(folder.path(), open(folder.path())).await;
}

#[cfg(feature = "sqlite")]
#[tokio::test]
async fn in_sqlite_a_replay_does_what_was_not_done_and_nothing_twice() {
    let folder = tempfile::tempdir().unwrap();
    a_replay_does_what_was_not_done_and_nothing_twice(
        folder.path(),
        crate::stage::open_sqlite(folder.path()),
    )
    .await;
}
