//! One transaction: the change, the waves, and the memory of waves that were handled.

use std::time::Duration;

use aether_core::{Source, Wave, WaveId};
use aether_outbox::{Backend, Store, StoreError};

use crate::stage::{make_order, open, order};

fn id(sequence: u64) -> WaveId {
    WaveId { source: Source::with_instance("till", 7).unwrap(), sequence }
}

fn a_change_and_its_waves_are_committed_together_or_not_at_all<B: Backend>(reopen: impl Fn() -> Store<B>) {
    let store = reopen();
    let change = store.begin().unwrap();
    change.table("orders").insert("1", &"a lamp").unwrap();
    let given_up = change.emit(order(1)).unwrap();
    assert!(change.once(&id(1)).unwrap());
    drop(change);
    assert_eq!((store.ledger().committed, store.ledger().waiting), (0, 0));

    let change = store.begin().unwrap();
    assert_eq!(change.table::<String>("orders").get("1").unwrap(), None);
    assert!(change.once(&id(1)).unwrap(), "what was not committed was not handled");
    change.table("orders").insert("1", &"a desk").unwrap();
    change.table("orders").insert("2", &"a lamp").unwrap();
    let first = change.emit(order(1)).unwrap();
    let second = change.emit(Wave::builder("orders.created").text("2")).unwrap();
    change.commit().unwrap();
    assert_eq!(first, given_up, "a number that was not committed is given again");
    assert_eq!((first.sequence, second.sequence), (1, 2));
    assert_eq!(first.source, *store.source());
    drop(store);

    let store = reopen();
    assert_eq!(first.source, *store.source());
    let ledger = store.ledger();
    assert_eq!((ledger.committed, ledger.waiting, ledger.adds_up()), (2, 2, true));
    let change = store.begin().unwrap();
    assert!(!change.once(&id(1)).unwrap() && change.once(&id(2)).unwrap());
    let orders = change.table::<String>("orders");
    assert_eq!(orders.from("", 10).unwrap().len(), 2);
    assert_eq!(orders.from("2", 10).unwrap(), [("2".to_owned(), "a lamp".to_owned())]);
    assert!(orders.remove("1").unwrap() && !orders.remove("1").unwrap());
    assert_eq!(change.emit(order(3)).unwrap().sequence, 3);
}

#[test]
fn in_redb_a_change_and_its_waves_are_committed_together_or_not_at_all() {
    let folder = tempfile::tempdir().unwrap();
    a_change_and_its_waves_are_committed_together_or_not_at_all(|| open(folder.path()));
}

#[cfg(feature = "sqlite")]
#[test]
fn in_sqlite_a_change_and_its_waves_are_committed_together_or_not_at_all() {
    let folder = tempfile::tempdir().unwrap();
    a_change_and_its_waves_are_committed_together_or_not_at_all(|| crate::stage::open_sqlite(folder.path()));
}

#[cfg(feature = "sqlite")]
#[test]
fn statements_of_the_service_are_part_of_the_transaction() {
    let folder = tempfile::tempdir().unwrap();
    let store = crate::stage::open_sqlite(folder.path());
    let change = store.begin().unwrap();
    change.sql().execute_batch("CREATE TABLE orders (id INTEGER PRIMARY KEY, article TEXT)").unwrap();
    change.commit().unwrap();
    for (article, is_kept) in [("a lamp", false), ("a desk", true)] {
        let change = store.begin().unwrap();
        change.sql().execute("INSERT INTO orders (article) VALUES (?1)", [article]).unwrap();
        change.emit(order(1)).unwrap();
        if is_kept {
            change.commit().unwrap();
        }
    }
    let change = store.begin().unwrap();
    let articles: String =
        change.sql().query_row("SELECT group_concat(article) FROM orders", [], |row| row.get(0)).unwrap();
    assert_eq!((articles.as_str(), store.ledger().committed), ("a desk", 1));
}

#[tokio::test]
async fn a_job_is_done_by_the_first_closure_that_succeeds() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path());
    let done = async |job: &str, outcome: Result<u8, StoreError>| store.once(job, move |_| outcome).await;
    let failed = done("payment", Err(StoreError::ShutDown)).await;
    assert!(matches!(failed, Err(StoreError::ShutDown)), "{failed:?}");
    assert_eq!(done("payment", Ok(1)).await.unwrap(), Some(1), "what failed is not remembered");
    assert_eq!(done("payment", Err(StoreError::ShutDown)).await.unwrap(), None, "nothing is called");
    assert_eq!(done("refund", Ok(2)).await.unwrap(), Some(2));
    let refused = done("", Ok(3)).await.unwrap_err();
    assert!(matches!(refused, StoreError::Name { what: "key", .. }), "{refused}");
}

#[cfg(feature = "sqlite")]
#[tokio::test]
async fn a_closure_returns_an_error_of_its_own_or_of_its_statements() {
    let folder = tempfile::tempdir().unwrap();
    let store = crate::stage::open_sqlite(folder.path());
    let broken = store.write(|change| {
        change.emit(order(1))?;
        change.sql().execute("INSERT INTO missing VALUES (1)", [])?;
        Ok::<_, StoreError>(())
    });
    let broken = broken.await.unwrap_err();
    assert!(broken.to_string().contains("no such table: missing") && !broken.is_transient(), "{broken}");
    let StoreError::Other(inner) = broken else { panic!("{broken:?}") };
    assert!(inner.is::<rusqlite::Error>());
    let own = store.write(|change| {
        change.emit(order(1))?;
        "no number".parse::<u64>().map_err(StoreError::other)
    });
    assert_eq!(own.await.unwrap_err().to_string(), "invalid digit found in string");
    assert_eq!(store.ledger().committed, 0);
}

#[tokio::test]
async fn a_closure_returns_an_error_of_a_table_of_redb() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path());
    let written = |units: &'static str| {
        store.write(move |change| {
            change
                .redb()
                .open_table(redb::TableDefinition::<&str, &str>::new("stock"))?
                .insert("lamp", units)?;
            Ok::<_, StoreError>(())
        })
    };
    written("7").await.unwrap();
    let unfit = store.write(|change| {
        change.redb().open_table(redb::TableDefinition::<&str, u64>::new("stock"))?;
        Ok::<_, StoreError>(())
    });
    let unfit = unfit.await.unwrap_err();
    assert!(matches!(&unfit, StoreError::Other(error) if error.is::<redb::Error>()), "{unfit}");
    let full = redb::Error::Io(std::io::ErrorKind::StorageFull.into());
    assert!(StoreError::other(full).is_transient() && !unfit.is_transient());
}

#[test]
fn typed_tables_of_redb_are_part_of_the_transaction() {
    const STOCK: redb::TableDefinition<'_, &str, u64> = redb::TableDefinition::new("stock");
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path());
    for (units, is_kept) in [(1, true), (2, false)] {
        let change = store.begin().unwrap();
        change.redb().open_table(STOCK).unwrap().insert("lamp", units).unwrap();
        change.emit(order(units)).unwrap();
        if is_kept {
            change.commit().unwrap();
        }
    }
    let change = store.begin().unwrap();
    let table = change.redb().open_table(STOCK).unwrap();
    let units = redb::ReadableTable::get(&table, "lamp").unwrap().unwrap().value();
    assert_eq!((units, store.ledger().committed), (1, 1));
}

#[test]
fn ids_beyond_the_horizon_are_forgotten_the_oldest_first() {
    let folder = tempfile::tempdir().unwrap();
    let store =
        Store::builder("shop").remember(10, Duration::from_secs(3600)).open(folder.path().join("s")).unwrap();
    let change = store.begin().unwrap();
    assert!((1..=20).all(|number| change.once(&id(number)).unwrap()));
    assert!((11..=20).all(|number| !change.once(&id(number)).unwrap()), "ten are remembered");
    assert!(change.once(&id(10)).unwrap(), "and no more than ten");
    change.commit().unwrap();
    drop(store);
    let store = Store::builder("shop").remember(10, Duration::ZERO).open(folder.path().join("s")).unwrap();
    let change = store.begin().unwrap();
    assert!(!change.once(&id(20)).unwrap());
    // Each new one forgets two that are too old.
    assert!((100..110).all(|number| change.once(&id(number)).unwrap()));
    assert!(change.once(&id(20)).unwrap());
}

fn a_key_is_done_once_apart_from_identities_and_within_the_same_bounds<B: Backend>(
    open: impl Fn(u64) -> Store<B>,
) {
    let store = open(10);
    let change = store.begin().unwrap();
    assert!(change.once("payment of order 17").unwrap() && change.once(&id(1)).unwrap());
    drop(change);
    let change = store.begin().unwrap();
    assert!(change.once("payment of order 17").unwrap(), "what was not committed was not done");
    // The bytes of an identity, written as a text.
    let like_an_id = format!("{}{}till", "\0\0\0\0\0\0\0\u{7}", "\0\0\0\0\0\0\0\u{1}");
    assert!(change.once(&like_an_id).unwrap() && change.once(&id(1)).unwrap());
    change.commit().unwrap();
    drop(store);

    let store = open(10);
    let change = store.begin().unwrap();
    assert!(!change.once("payment of order 17").unwrap() && !change.once(&like_an_id).unwrap());
    assert!((2..=20).all(|number| change.once(&id(number)).unwrap()));
    assert!(!change.once("payment of order 17").unwrap(), "identities do not push keys out");
    assert!((1..=10).all(|number| change.once(&format!("job {number}")).unwrap()));
    assert!(change.once("payment of order 17").unwrap(), "ten keys are remembered");
    assert!(change.once(&"k".repeat(512)).unwrap());
    for refused in ["", &"k".repeat(513)] {
        let refused = change.once(refused).unwrap_err();
        assert!(matches!(refused, StoreError::Name { what: "key", most: 512, .. }), "{refused}");
    }
}

#[test]
fn in_redb_a_key_is_done_once_apart_from_identities_and_within_the_same_bounds() {
    let folder = tempfile::tempdir().unwrap();
    let store = |ids| Store::builder("shop").remember(ids, Duration::from_secs(3600));
    a_key_is_done_once_apart_from_identities_and_within_the_same_bounds(|ids| {
        store(ids).open(folder.path().join("s")).unwrap()
    });
}

#[cfg(feature = "sqlite")]
#[test]
fn in_sqlite_a_key_is_done_once_apart_from_identities_and_within_the_same_bounds() {
    let folder = tempfile::tempdir().unwrap();
    let store = |ids| Store::builder("shop").remember(ids, Duration::from_secs(3600));
    a_key_is_done_once_apart_from_identities_and_within_the_same_bounds(|ids| {
        store(ids).open_sqlite(folder.path().join("s")).unwrap()
    });
}

#[test]
fn a_wave_without_an_identity_and_a_reserved_channel_are_refused_and_nothing_else_is_lost() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path());
    let change = store.begin().unwrap();
    assert!(matches!(change.once(&order(1).id()), Err(StoreError::NoIdentity)));
    let refused = change.emit(Wave::builder("not a channel")).unwrap_err();
    assert!(matches!(refused, StoreError::Wave(_)), "{refused}");
    let name = change.table::<u64>("made").insert("", &1).unwrap_err();
    assert!(matches!(name, StoreError::Name { what: "key", .. }), "{name}");
    change.table("made").insert("last", &"text").unwrap();
    let unfit = change.table::<u64>("made").get("last").unwrap_err();
    assert_eq!(unfit.to_string(), "the value of \"last\" in the table made does not fit its type");
    change.emit(order(1)).unwrap();
    change.commit().unwrap();
    assert_eq!(store.ledger().committed, 1);
}

#[test]
fn an_outbox_takes_no_more_waves_than_may_wait() {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::builder("shop").max_waiting(2).open(folder.path().join("s")).unwrap();
    assert_eq!((make_order(&store), make_order(&store)), (1, 2));
    let change = store.begin().unwrap();
    assert!(matches!(change.emit(order(3)), Err(StoreError::Full { waiting: 2, most: 2 })));
    // The change itself may be committed.
    change.table("made").insert("last", &3_u64).unwrap();
    change.commit().unwrap();
    assert_eq!(store.ledger().waiting, 2);
}
