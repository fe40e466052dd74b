//! The relay: order, restarts, refused waves, and a bus that is away.

use std::time::Duration;

use aether_core::{Aether, LocalOptions, Vibrator, Wave};
use aether_outbox::{Backend, Relay, RelayError, Store};

use crate::stage::{
    bill, billed, billing, connect, logged, make_order, number, open, open_log, order, within,
};

async fn waves_are_relayed_in_order_and_billed_once<B: Backend>(folder: &std::path::Path, store: Store<B>) {
    let log = open_log(folder);
    let aether = connect(&log).await;
    (1..=10).for_each(|number| assert_eq!(make_order(&store), number));
    let relay = Relay::spawn(&store, &aether).unwrap();
    assert!(matches!(Relay::spawn(&store, &aether), Err(RelayError::Taken)));
    within(store.wait_for(|ledger| ledger.relayed == 10)).await;
    // The relay sleeps now, and a commit wakes it.
    assert_eq!(make_order(&store), 11);
    within(store.wait_for(|ledger| ledger.relayed == 11)).await;
    assert_eq!(logged(&log), (1..=11).collect::<Vec<_>>());

    let consumer = billing(&log);
    for _ in 0..10 {
        let delivery = within(consumer.receive()).await.unwrap();
        assert_eq!(delivery.wave().source(), store.source());
        assert!(bill(&store, delivery.wave()).await);
        delivery.ack().await.unwrap();
    }
    let first = within(consumer.receive()).await.unwrap();
    assert!(bill(&store, first.wave()).await);
    drop(first); // as if the process had ended before the acknowledgement
    let again = within(consumer.receive()).await.unwrap();
    assert!(!bill(&store, again.wave()).await, "it was billed before");
    again.ack().await.unwrap();
    assert_eq!(billed(&store), (11, 66));
    let account = relay.close(Duration::from_secs(180)).await;
    assert_eq!((account.ledger.relayed, account.ledger.waiting, account.last_error), (11, 0, None));
    assert!(Relay::spawn(&store, &aether).is_ok(), "the place is free again");
}

#[tokio::test]
async fn in_redb_waves_are_relayed_in_order_and_billed_once() {
    let folder = tempfile::tempdir().unwrap();
    waves_are_relayed_in_order_and_billed_once(folder.path(), open(folder.path())).await;
}

#[cfg(feature = "sqlite")]
#[tokio::test]
async fn in_sqlite_waves_are_relayed_in_order_and_billed_once() {
    let folder = tempfile::tempdir().unwrap();
    waves_are_relayed_in_order_and_billed_once(folder.path(), crate::stage::open_sqlite(folder.path())).await;
}

#[tokio::test]
async fn a_wave_that_is_relayed_again_after_a_crash_is_in_the_log_once() {
    let folder = tempfile::tempdir().unwrap();
    let (store, log) = (open(folder.path()), open_log(folder.path()));
    let aether = connect(&log).await;
    // The crash came after the log had taken the wave, and before the relay had noted it.
    let change = store.begin().unwrap();
    let wave = order(1);
    let id = change.emit(wave.clone()).unwrap();
    change.commit().unwrap();
    let first =
        aether.emitter("relay").unwrap().emit_identified(wave.identified(id.clone(), None)).await.unwrap();
    make_order(&store);
    let relay = Relay::spawn(&store, &aether).unwrap();
    let account = relay.close(Duration::from_secs(180)).await;
    assert_eq!((account.ledger.relayed, account.ledger.waiting), (2, 0));
    assert_eq!(
        (first.stored.unwrap().position.get(), logged(&log)),
        (1, vec![1, 1]),
        "the second is a wave of its own"
    );
    let mut reader = log.read_from(0);
    let mut ids = Vec::new();
    while let Some(aether_log::LogItem::Wave(stored)) = reader.next_item().unwrap() {
        ids.push(stored.wave.id());
    }
    assert_eq!((ids.len(), ids[0] == id, ids[1].sequence), (2, true, 2));
}

#[tokio::test]
async fn a_wave_keeps_its_cause_and_its_age_while_it_waits() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path());
    let aether = Aether::local();
    let mut billing = Vibrator::create("billing", &aether).await.unwrap();
    billing.resonate_on("orders.>").await.unwrap();
    aether.emitter("till").unwrap().emit(Wave::builder("orders.place").text("0")).await.unwrap();
    let cause = within(billing.receive()).await.unwrap();
    let change = store.begin().unwrap();
    change.follow(&cause).emit(order(1)).unwrap();
    change.commit().unwrap();
    std::thread::sleep(Duration::from_millis(20)); // it grows older
    let relay = Relay::spawn(&store, &aether).unwrap();
    let wave = within(billing.receive()).await.unwrap();
    assert_eq!((wave.cause(), wave.root(), number(&wave)), (Some(&cause.id()), cause.id(), 1));
    assert!(wave.age() >= Duration::from_millis(20), "{:?}", wave.age());
    relay.close(Duration::from_secs(1)).await;
}

#[tokio::test]
async fn a_wave_that_the_bus_never_takes_is_kept_and_the_others_go_on() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path());
    let change = store.begin().unwrap();
    change.emit(order(1)).unwrap();
    change.emit(Wave::builder("orders.created").bytes(vec![0; 2000])).unwrap();
    change.emit(order(3)).unwrap();
    change.commit().unwrap();
    let small =
        aether_core::AetherBuilder::new().url("local:").options(LocalOptions::default().max_payload(1000));
    let small = small.connect().await.unwrap();
    let relay = Relay::spawn(&store, &small).unwrap();
    let account = relay.close(Duration::from_secs(180)).await;
    let ledger = account.ledger;
    assert_eq!((ledger.committed, ledger.relayed, ledger.refused, ledger.adds_up()), (3, 2, 1, true));
    let refused = store.refused().unwrap();
    assert_eq!((refused.len(), refused[0].number), (1, 2));
    assert!(refused[0].reason.contains("2000 bytes"), "{}", refused[0].reason);
    assert_eq!(refused[0].wave.as_ref().unwrap().payload().len(), 2000);
    // A bus that takes it.
    assert!(store.retry_refused(2).unwrap() && !store.retry_refused(2).unwrap());
    let relay = Relay::spawn(&store, &Aether::local()).unwrap();
    let account = relay.close(Duration::from_secs(180)).await;
    assert_eq!((account.ledger.relayed, account.ledger.refused), (3, 0));
    assert!(!store.drop_refused(2).unwrap());
}

#[tokio::test]
async fn a_closed_bus_takes_nothing_and_the_account_says_what_waits() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path());
    let closed = Aether::local();
    closed.close().await.unwrap();
    make_order(&store);
    let relay = Relay::spawn(&store, &closed).unwrap();
    let account = relay.close(Duration::from_secs(10)).await;
    assert_eq!(
        account.to_string(),
        "outbox: 1 waves committed = 0 relayed + 1 waiting + 0 refused + 0 dropped; \
         the first of those that wait: the medium is closed"
    );
    drop(store);
    let (store, aether) = (open(folder.path()), Aether::local());
    assert_eq!(store.ledger().waiting, 1);
    let relay = Relay::spawn(&store, &aether).unwrap();
    assert_eq!(relay.close(Duration::from_secs(180)).await.ledger.relayed, 1);
}
