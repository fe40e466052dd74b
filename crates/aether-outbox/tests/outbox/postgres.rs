//! A store in Postgres: once, the outbox, and relays that take turns.

use std::time::Duration;

use aether_core::{Aether, AetherBuilder, LocalOptions, Vibrator, Wave};
use aether_outbox::{OpenError, PostgresStore, Relay, Store, StoreError};
use sqlx::PgPool;

use crate::postgres_server::PostgresServer;
use crate::stage::{billing, connect, logged, number, open_log, order, within};

async fn open(pool: &PgPool) -> PostgresStore {
    Store::builder("shop").open_postgres(pool).await.unwrap()
}

async fn emit(store: &PostgresStore, pool: &PgPool, wave: Wave) -> u64 {
    let mut change = pool.begin().await.unwrap();
    let id = store.emit(&mut change, wave, None).await.unwrap();
    change.commit().await.unwrap();
    id.sequence
}

/// Emits a wave whose number is its place in the order of the commits.
async fn emit_next(store: &PostgresStore, pool: &PgPool) {
    let mut change = pool.begin().await.unwrap();
    let sql = "UPDATE made SET last = last + 1 RETURNING last";
    let next: i64 = sqlx::query_scalar(sql).fetch_one(&mut *change).await.unwrap();
    store.emit(&mut change, order(next.unsigned_abs()), None).await.unwrap();
    change.commit().await.unwrap();
}

async fn make_table(pool: &PgPool) {
    sqlx::raw_sql("CREATE TABLE made (last bigint NOT NULL); INSERT INTO made VALUES (0)")
        .execute(pool)
        .await
        .unwrap();
}

#[tokio::test]
async fn a_change_its_waves_and_that_it_was_done_are_committed_together_or_not() {
    let Some(server) = PostgresServer::start() else { return };
    let pool = server.pool("shop").await;
    make_table(&pool).await;
    let store = open(&pool).await;
    for (commits, is_new) in [(false, true), (true, true), (true, false)] {
        let mut change = pool.begin().await.unwrap();
        assert_eq!(store.once(&mut change, "order 17").await.unwrap(), is_new);
        if is_new {
            sqlx::query("UPDATE made SET last = last + 1").execute(&mut *change).await.unwrap();
            assert_eq!(store.emit(&mut change, order(1), None).await.unwrap().sequence, 1);
        }
        if commits {
            change.commit().await.unwrap();
        }
    }
    let made: i64 = sqlx::query_scalar("SELECT last FROM made").fetch_one(&pool).await.unwrap();
    let ledger = store.ledger().await.unwrap();
    assert_eq!((made, ledger.committed, ledger.waiting), (1, 1, 1));
    // A key is not an identity, and a wave that was never emitted has none.
    let mut change = pool.begin().await.unwrap();
    let wave = order(1);
    assert!(matches!(store.once(&mut change, &wave.id()).await, Err(StoreError::NoIdentity)));
    assert!(matches!(store.once(&mut change, "").await, Err(StoreError::Name { .. })));
    assert!(store.once(&mut change, "order 18").await.unwrap());
    assert!(!store.once(&mut change, "order 18").await.unwrap(), "in one transaction");
}

#[tokio::test]
async fn of_two_transactions_with_one_job_the_second_waits_and_does_it_only_after_a_rollback() {
    let Some(server) = PostgresServer::start() else { return };
    let pool = server.pool("shop").await;
    let store = open(&pool).await;
    for (key, commits) in [("kept", true), ("dropped", false)] {
        let mut first = pool.begin().await.unwrap();
        assert!(store.once(&mut first, key).await.unwrap());
        let mut second = pool.begin().await.unwrap();
        let mut asked = std::pin::pin!(store.once(&mut second, key));
        assert!(tokio::select! { biased; _ = &mut asked => false, () = within(is_blocked(&pool)) => true });
        if commits {
            first.commit().await.unwrap()
        } else {
            first.rollback().await.unwrap()
        }
        assert_eq!(within(asked).await.unwrap(), !commits, "{key}");
    }
}

/// Waits until a statement waits for another transaction.
async fn is_blocked(pool: &PgPool) {
    let sql = "SELECT EXISTS (SELECT FROM pg_stat_activity WHERE wait_event_type = 'Lock')";
    while !sqlx::query_scalar::<_, bool>(sql).fetch_one(pool).await.unwrap() {}
}

#[tokio::test]
async fn the_relays_of_two_processes_keep_the_order_of_the_commits_and_wake_at_each() {
    const EACH: u64 = 100;
    let Some(server) = PostgresServer::start() else { return };
    let (one, other) = (server.pool("one").await, server.pool("other").await);
    make_table(&one).await;
    // Both open an empty database at once.
    let (at_one, at_other) = tokio::join!(open(&one), open(&other));
    let folder = tempfile::tempdir().unwrap();
    let log = open_log(folder.path());
    let aether = connect(&log).await;
    let relays = [&at_one, &at_other].map(|store| Relay::spawn_postgres(store, &aether).unwrap());
    let make = async |store: &PostgresStore, pool: &PgPool| {
        for _ in 0..EACH {
            emit_next(store, pool).await;
        }
    };
    tokio::join!(make(&at_one, &one), make(&at_other, &other));
    for relay in relays {
        let account = relay.close(Duration::from_secs(180)).await;
        assert_eq!((account.ledger.relayed, account.ledger.waiting, account.last_error), (2 * EACH, 0, None));
    }
    assert_eq!(logged(&log), (1..=2 * EACH).collect::<Vec<_>>());
}

#[tokio::test]
async fn a_relay_whose_connection_breaks_goes_on_and_the_log_has_each_wave_once() {
    let Some(server) = PostgresServer::start() else { return };
    let (pool, at_relay) = (server.pool("shop").await, server.pool("relay").await);
    make_table(&pool).await;
    let (store, relaying) = (open(&pool).await, open(&at_relay).await);
    let folder = tempfile::tempdir().unwrap();
    let log = open_log(folder.path());
    let consumer = billing(&log);
    let relay = Relay::spawn_postgres(&relaying, &connect(&log).await).unwrap();
    for _ in 0..20 {
        emit_next(&store, &pool).await;
        within(consumer.receive()).await.unwrap().ack().await.unwrap();
        // The log has the wave, and the relay may have noted it or not.
        let sql =
            "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE application_name = 'relay'";
        let broken: i64 = sqlx::query_scalar(sql).fetch_one(&pool).await.unwrap();
        assert!(broken >= 1, "{broken}");
    }
    let account = relay.close(Duration::from_secs(180)).await;
    assert_eq!((account.ledger.relayed, account.ledger.waiting), (20, 0), "{account}");
    assert_eq!(logged(&log), (1..=20).collect::<Vec<_>>());
}

#[tokio::test]
async fn a_relay_that_is_dropped_leaves_its_turn_to_another() {
    let Some(server) = PostgresServer::start() else { return };
    let pool = server.pool("shop").await;
    make_table(&pool).await;
    let store = open(&pool).await;
    let folder = tempfile::tempdir().unwrap();
    let log = open_log(folder.path());
    let (aether, consumer) = (connect(&log).await, billing(&log));
    for last in 1..=20 {
        let relay = Relay::spawn_postgres(&store, &aether).unwrap();
        emit_next(&store, &pool).await;
        let delivery = within(consumer.receive()).await.unwrap();
        assert_eq!(number(delivery.wave()), last);
        delivery.ack().await.unwrap();
        drop(relay);
    }
    let account = Relay::spawn_postgres(&store, &aether).unwrap().close(Duration::from_secs(180)).await;
    assert_eq!((account.ledger.relayed, account.ledger.waiting), (20, 0), "{account}");
    assert_eq!(logged(&log), (1..=20).collect::<Vec<_>>());
}

#[tokio::test]
async fn a_wave_follows_from_its_cause_and_a_refused_one_is_kept() {
    let Some(server) = PostgresServer::start() else { return };
    let pool = server.pool("shop").await;
    let store = open(&pool).await;
    let local = AetherBuilder::new().url("local:").options(LocalOptions::default().max_payload(1000));
    let small = local.connect().await.unwrap();
    let mut billing = Vibrator::create("billing", &small).await.unwrap();
    billing.resonate_on("orders.>").await.unwrap();
    small.emitter("till").unwrap().emit(Wave::builder("orders.place").text("0")).await.unwrap();
    let cause = within(billing.receive()).await.unwrap();

    emit(&store, &pool, Wave::builder("orders.created").bytes(vec![0; 2000]).build().unwrap()).await;
    let mut change = pool.begin().await.unwrap();
    store.emit(&mut change, order(2), Some(&cause)).await.unwrap();
    change.commit().await.unwrap();
    let relay = Relay::spawn_postgres(&store, &small).unwrap();
    let wave = within(billing.receive()).await.unwrap();
    assert_eq!((wave.cause(), wave.id().sequence, number(&wave)), (Some(&cause.id()), 2, 2));
    let ledger = relay.close(Duration::from_secs(180)).await.ledger;
    assert_eq!((ledger.committed, ledger.relayed, ledger.refused, ledger.adds_up()), (2, 1, 1, true));
    let refused = store.refused().await.unwrap();
    assert_eq!((refused.len(), refused[0].number), (1, 1));
    assert!(refused[0].reason.contains("2000 bytes"), "{}", refused[0].reason);
    assert!(store.retry_refused(1).await.unwrap() && !store.retry_refused(1).await.unwrap());
    let relay = Relay::spawn_postgres(&store, &small).unwrap();
    assert_eq!(relay.close(Duration::from_secs(180)).await.ledger.refused, 1);
    assert!(store.drop_refused(1).await.unwrap() && !store.drop_refused(1).await.unwrap());
    let ledger = store.ledger().await.unwrap();
    assert_eq!((ledger.dropped, ledger.refused, ledger.waiting, ledger.adds_up()), (1, 0, 0, true));
}

#[tokio::test]
async fn an_outbox_is_bounded_forgets_what_is_old_and_has_a_new_source_after_a_backup() {
    let Some(server) = PostgresServer::start() else { return };
    let pool = server.pool("shop").await;
    let builder = Store::builder("shop").max_waiting(1).remember(1, Duration::ZERO);
    let store = builder.clone().open_postgres(&pool).await.unwrap();
    let mut change = pool.begin().await.unwrap();
    let first = store.emit(&mut change, order(1), None).await.unwrap();
    let full = store.emit(&mut change, order(2), None).await.unwrap_err();
    assert!(matches!(full, StoreError::Full { waiting: 1, most: 1 }) && full.is_transient(), "{full}");
    assert!(store.once(&mut change, "a").await.unwrap());
    change.commit().await.unwrap();
    assert_eq!(store.ledger().await.unwrap().committed, 1, "the refused number was given back");
    let mut change = pool.begin().await.unwrap();
    assert!(store.once(&mut change, "b").await.unwrap(), "it forgets a");
    assert!(store.once(&mut change, "a").await.unwrap(), "again");
    change.commit().await.unwrap();

    let relay = Relay::spawn_postgres(&store, &Aether::local()).unwrap();
    assert_eq!(relay.close(Duration::from_secs(180)).await.ledger.relayed, 1);
    builder.restored_from_backup().open_postgres(&pool).await.unwrap();
    let mut change = pool.begin().await.unwrap();
    let second = store.emit(&mut change, order(2), None).await.unwrap();
    assert_eq!((second.sequence, second.source == first.source), (2, false));
    drop(change);
    sqlx::query("UPDATE aether_store SET number = 7 WHERE name = 'version'").execute(&pool).await.unwrap();
    let newer = Store::builder("shop").open_postgres(&pool).await.unwrap_err();
    assert!(matches!(newer, OpenError::Version { version: 7, .. }), "{newer}");
}
