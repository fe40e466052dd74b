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
