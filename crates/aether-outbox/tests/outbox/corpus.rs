//! Stores that earlier versions wrote, in redb and in SQLite: a change, a wave that waits, a wave that was handled once, and
//! a saga in the middle.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use aether_core::{Aether, Source, Vibrator, WaveId};
use aether_files::corpus;
use aether_outbox::{Backend, Relay, Run, Sagas, Step, Store, StoreBuilder};
use tokio::sync::Semaphore;

use crate::stage::{number, open_log, order, within};

/// Memories do not end before this.
const AGE: Duration = Duration::from_secs(1 << 32);

fn store() -> StoreBuilder {
    Store::builder("shop").remember(1000, AGE)
}

fn handled() -> WaveId {
    WaveId { source: Source::with_instance("billing", 7).unwrap(), sequence: 9 }
}

/// A saga of two steps, whose second one waits for a permit.
fn sagas<B: Backend>(
    store: &Store<B>,
    folder: &Path,
    calls: &Arc<Semaphore>,
    may: &Arc<Semaphore>,
) -> Sagas<u64, B> {
    let (calls, may) = (Arc::clone(calls), Arc::clone(may));
    let reserve = Step::new("reserve", |mut run: Run<u64, B>| async move {
        run.state += 1;
        let wave = order(run.state);
        run.emit(wave);
        Ok(run)
    });
    let pay = Step::new("pay", move |run: Run<u64, B>| {
        let (calls, may) = (Arc::clone(&calls), Arc::clone(&may));
        async move {
            assert_eq!((run.id(), run.state), ("order-41", 42));
            calls.add_permits(1);
            may.acquire().await.unwrap().forget();
            Ok(run)
        }
    });
    Sagas::builder("orders").step(reserve).step(pay).open(store, &open_log(folder)).unwrap()
}

async fn write_into<B: Backend>(store: Store<B>) {
    let change = store.begin().unwrap();
    change.table("made").insert("last", &41_u64).unwrap();
    change.emit(order(41)).unwrap();
    assert!(change.once(&handled()).unwrap());
    change.commit().unwrap();
    let log = tempfile::tempdir().unwrap();
    let (calls, may) = (Arc::new(Semaphore::new(0)), Arc::new(Semaphore::new(0)));
    let sagas = sagas(&store, log.path(), &calls, &may);
    let change = store.begin().unwrap();
    assert!(sagas.start(&change, "order-41", &41).unwrap());
    change.commit().unwrap();
    let runner = sagas.spawn().unwrap();
    within(calls.acquire()).await.unwrap().forget();
    runner.close(Duration::ZERO).await;
}

#[tokio::main(flavor = "current_thread")]
async fn write(folder: &Path) {
    write_into(store().open(folder.join("shop.redb")).unwrap()).await;
    write_into(store().open_sqlite(folder.join("shop.sqlite")).unwrap()).await;
}

#[test]
fn a_store_of_each_version_is_read() {
    for (version, folder) in corpus::copies(env!("CARGO_MANIFEST_DIR"), write).unwrap() {
        read(&version, folder.path());
    }
}

#[tokio::main(flavor = "current_thread")]
async fn read(version: &str, folder: &Path) {
    read_from(version, store().open(folder.join("shop.redb")).unwrap()).await;
    read_from(version, store().open_sqlite(folder.join("shop.sqlite")).unwrap()).await;
}

async fn read_from<B: Backend>(version: &str, store: Store<B>) {
    let change = store.begin().unwrap();
    assert_eq!(change.table::<u64>("made").get("last").unwrap(), Some(41), "{version}");
    assert!(!change.once(&handled()).unwrap(), "{version}: it was handled");
    drop(change);
    assert_eq!(store.ledger().waiting, 2, "{version}: {}", store.ledger());

    let aether = Aether::local();
    let mut billing = Vibrator::create("billing", &aether).await.unwrap();
    billing.resonate_on("orders.>").await.unwrap();
    let relay = Relay::spawn(&store, &aether).unwrap();
    for (sequence, expected) in [(1, 41), (2, 42)] {
        let wave = within(billing.receive()).await.unwrap();
        assert_eq!((wave.source(), wave.sequence()), (store.source(), sequence), "{version}");
        assert_eq!((wave.channel().as_str(), number(&wave)), ("orders.created", expected), "{version}");
    }
    relay.close(Duration::from_secs(10)).await;

    let log = tempfile::tempdir().unwrap();
    let (calls, may) = (Arc::new(Semaphore::new(0)), Arc::new(Semaphore::new(1)));
    let sagas = sagas(&store, log.path(), &calls, &may);
    assert_eq!(sagas.ledger().running, 1, "{version}");
    let runner = sagas.spawn().unwrap();
    let ledger = within(sagas.wait_for(|ledger| ledger.completed == 1)).await;
    assert!(ledger.adds_up(), "{version}: {ledger}");
    assert_eq!(calls.available_permits(), 1, "{version}: the step is made again, and only this one");
    runner.close(Duration::from_secs(10)).await;
}
