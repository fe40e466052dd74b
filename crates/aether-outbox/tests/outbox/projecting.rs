//! Projections: no gap, no copy, and logs that are not the one that the projection was made of.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use aether_core::{Aether, Durability};
use aether_log::{Log, StoredWave};
use aether_outbox::{Projection, ProjectionError, Redb, Store, Transaction};
use aether_seal::SealKeys;

use crate::stage::{connect, number, open, open_log, order, within};

type Refusal = Box<dyn std::error::Error + Send + Sync>;

/// Counts the waves, and adds up their numbers.
fn add(change: &Transaction<'_, Redb>, stored: &StoredWave) -> Result<(), Refusal> {
    let table = change.table("sums");
    let (count, sum) = table.get("all")?.unwrap_or((0_u64, 0_u64));
    Ok(table.insert("all", &(count + 1, sum + number(&stored.wave)))?)
}

fn sums(store: &Store<Redb>) -> (u64, u64) {
    store.begin().unwrap().table("sums").get("all").unwrap().unwrap_or_default()
}

async fn emit(aether: &Aether, numbers: impl IntoIterator<Item = u64>) {
    let shop = aether.emitter("shop").unwrap();
    for number in numbers {
        shop.emit(order(number)).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_projection_has_each_wave_once_over_restarts_and_while_waves_come() {
    let folder = tempfile::tempdir().unwrap();
    let log = open_log(folder.path());
    let aether = connect(&log).await;
    emit(&aether, 1..=300).await;
    {
        let store = open(folder.path());
        let mut projection = Projection::open(&store, &log, "sums", "orders.>", add).unwrap();
        assert_eq!((projection.catch_up().await.unwrap(), projection.position()), (300, 300));
        assert_eq!(sums(&store), (300, 300 * 301 / 2));
    }
    emit(&aether, 301..=400).await;
    let store = open(folder.path());
    let projection = Projection::open(&store, &log, "sums", "orders.>", add).unwrap();
    assert_eq!(projection.position(), 300);
    drop(projection);
    let (seen, mut last) = tokio::sync::watch::channel(0);
    let mut projection = Projection::open(&store, &log, "sums", "orders.>", move |change, stored| {
        seen.send_replace(number(&stored.wave));
        add(change, stored)
    })
    .unwrap();
    // Replay and live waves, without a seam, and calls that are cancelled in the middle.
    let coming = aether.clone();
    let emitted = tokio::spawn(async move { emit(&coming, 401..=1000).await });
    for reached in [450, 700, 1000] {
        tokio::select! {
            ended = projection.run() => panic!("{ended:?}"),
            reached = within(last.wait_for(|last| *last >= reached)) => drop(reached.unwrap()),
        }
    }
    emitted.await.unwrap();
    projection.catch_up().await.unwrap();
    assert_eq!(sums(&store), (1000, 1000 * 1001 / 2));
    projection.rebuild(|change| change.table::<(u64, u64)>("sums").clear()).await.unwrap();
    assert_eq!((sums(&store), projection.position()), ((0, 0), 0));
    assert_eq!(projection.catch_up().await.unwrap(), 1000);
    assert_eq!(sums(&store), (1000, 1000 * 1001 / 2));
}

#[tokio::test]
async fn a_wave_that_is_refused_or_makes_it_panic_stops_a_projection_behind_the_wave_before() {
    let folder = tempfile::tempdir().unwrap();
    let (store, log) = (open(folder.path()), open_log(folder.path()));
    let aether = connect(&log).await;
    emit(&aether, 1..=10).await;
    let bad = Arc::new(AtomicU64::new(7));
    let at = Arc::clone(&bad);
    let mut projection = Projection::open(&store, &log, "sums", "orders.>", move |change, stored| {
        // Its changes for this wave from before it failed must not be kept.
        add(change, stored)?;
        match (at.load(Ordering::Relaxed), number(&stored.wave)) {
            (7, 7) => Err("seven".into()),
            (8, 8) => panic!("eight"),
            _ => Ok(()),
        }
    })
    .unwrap();
    for again in 0..2 {
        let refused = projection.catch_up().await.unwrap_err();
        assert!(matches!(refused, ProjectionError::Refused { position: 7, .. }), "{again}: {refused:?}");
        assert_eq!((projection.position(), sums(&store)), (6, (6, 21)));
    }
    bad.store(8, Ordering::Relaxed);
    let panicked = projection.catch_up().await.unwrap_err();
    assert_eq!(panicked.to_string(), "the projection sums panicked at the wave at position 8: eight");
    assert_eq!((projection.position(), sums(&store)), (7, (7, 28)));
    bad.store(0, Ordering::Relaxed);
    assert_eq!(projection.catch_up().await.unwrap(), 3);
    assert_eq!(sums(&store), (10, 55));
}

#[tokio::test]
async fn another_log_another_pattern_and_a_bad_name_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path());
    {
        let log = open_log(folder.path());
        emit(&connect(&log).await, 1..=3).await;
        Projection::open(&store, &log, "sums", "orders.>", add).unwrap().catch_up().await.unwrap();
        let other = Projection::open(&store, &log, "sums", "orders.created", add).unwrap_err();
        assert!(
            matches!(&other, ProjectionError::OtherPattern { stored, .. } if stored == "orders.>"),
            "{other}"
        );
        let name = Projection::open(&store, &log, "a sum", "orders.>", add).unwrap_err();
        assert!(matches!(name, ProjectionError::Name { .. }), "{name}");
    }
    let other = Log::builder(folder.path().join("other")).channels("orders.>", Durability::Synced).unwrap();
    let other = other.open().unwrap();
    let shorter = Projection::open(&store, &other, "sums", "orders.>", add).unwrap_err();
    assert!(matches!(shorter, ProjectionError::OtherLog { position: 3, .. }), "{shorter}");
    emit(&connect(&other).await, 1..=5).await;
    let different = Projection::open(&store, &other, "sums", "orders.>", add).unwrap_err();
    assert!(matches!(different, ProjectionError::OtherLog { position: 3, .. }), "{different}");
    Projection::forget(&store, "sums", |change| change.table::<(u64, u64)>("sums").clear()).unwrap();
    let mut projection = Projection::open(&store, &other, "sums", "orders.>", add).unwrap();
    assert_eq!((projection.catch_up().await.unwrap(), sums(&store)), (5, (5, 15)));
}

#[tokio::test]
async fn a_projection_of_a_sealed_log_stops_at_a_wave_whose_key_is_missing_and_goes_on_with_it() {
    let folder = tempfile::tempdir().unwrap();
    let log = |keys: &SealKeys| {
        let log = Log::builder(folder.path().join("log")).channels("orders.>", Durability::Stored).unwrap();
        log.keys(keys.clone()).open().unwrap()
    };
    let older = SealKeys::generate().unwrap();
    let mut newer = older.clone();
    newer.add().unwrap();
    newer.seal_with_newest();
    for (keys, numbers) in [(&older, 1..=2), (&newer, 3..=4)] {
        emit(&connect(&log(keys)).await, numbers).await;
    }
    let store = open(folder.path());
    for _ in 0..2 {
        let log = log(&older);
        let mut projection = Projection::open(&store, &log, "sums", "orders.>", add).unwrap();
        let stopped = projection.catch_up().await.unwrap_err();
        assert!(matches!(stopped, ProjectionError::Locked { position: 3, .. }), "{stopped:?}");
        assert_eq!((sums(&store), projection.position()), ((2, 3), 2));
    }
    let log = log(&newer);
    let mut projection = Projection::open(&store, &log, "sums", "orders.>", add).unwrap();
    assert_eq!(projection.catch_up().await.unwrap(), 2);
    assert_eq!((sums(&store), projection.position()), ((4, 10), 4));
}
