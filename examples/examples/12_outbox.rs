//! A change and its waves in one transaction, effects that happen once, a projection, and sagas: what a shop needs so that
//! stock and orders add up after a crash.
//!
//! The first run ends before anything is relayed, as if the process had been killed. The second one goes on with its
//! file: the relay emits what was committed, a consumer starts one saga for each order although a wave comes twice, and
//! a projection adds up the sales. The saga of the broken cup is undone, because nobody pays for it.
//!
//! `cargo run -p aether-examples --example 12_outbox` prints:
//!
//! ```text
//! first run, outbox: 3 waves committed = 0 relayed + 3 waiting + 0 refused + 0 dropped
//! a lamp: reserved
//! a lamp: a copy, nothing is done
//! a broken cup: reserved
//! a fire alarm: reserved
//! sagas: 3 started = 2 completed + 1 undone + 0 running + 0 stuck + 0 undefined
//! outbox: 5 waves committed = 5 relayed + 0 waiting + 0 refused + 0 dropped
//! stock: {"a broken cup": 10, "a fire alarm": 9, "a lamp": 9}
//! sold: {"a fire alarm": 1, "a lamp": 1}
//! ```

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use aether_core::{Durability, Wave};
use aether_log::{ConsumerOptions, Log};
use aether_outbox::{Projection, Relay, Run, SagaError, Sagas, Step, StepError, Store, StoreError};

type Fallible<T> = Result<T, Box<dyn std::error::Error>>;

const ARTICLES: [&str; 3] = ["a lamp", "a broken cup", "a fire alarm"];

fn open(folder: &Path) -> Fallible<(Store, Log)> {
    let log = Log::builder(folder.join("log")).channels("orders.>", Durability::Synced)?.open()?;
    Ok((Store::builder("shop").open(folder.join("shop.redb"))?, log))
}

/// Reserves, takes the money, and tells that the article is sold; or gives back what was reserved.
fn sagas(store: &Store, log: &Log) -> Result<Sagas<String>, SagaError> {
    let reserve = Step::new("reserve", |mut run: Run<String>| async move {
        let article = run.state.clone();
        // In the transaction that ends the step, so it happens once.
        run.change(move |change| {
            let stock = change.table("stock");
            stock.insert(&article, &(stock.get(&article)?.unwrap_or(0_i64) - 1))
        });
        Ok(run)
    });
    let reserve = reserve.undo(|mut run| async move {
        let article = run.state.clone();
        // Undone also where nobody knows whether it was made; here it was, because only the payment fails.
        run.change(move |change| {
            let stock = change.table("stock");
            stock.insert(&article, &(stock.get(&article)?.unwrap_or(0_i64) + 1))
        });
        Ok(run)
    });
    let pay = Step::new("pay", |mut run: Run<String>| async move {
        if run.state == "a broken cup" {
            return Err(StepError::refused("nobody pays for that"));
        }
        run.emit(Wave::builder("orders.sold").key(run.id()).text(run.state.clone()).build()?);
        Ok(run)
    });
    let pay = pay.within(Duration::from_secs(2));
    Sagas::builder("orders").step(reserve).step(pay).open(store, log)
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Fallible<()> {
    let folder = tempfile::tempdir()?;
    {
        let (store, _log) = open(folder.path())?;
        for article in ARTICLES {
            let change = store.begin()?;
            change.table("stock").insert(article, &10_i64)?;
            change.table("orders").insert(&format!("order of {article}"), &article)?;
            change.emit(Wave::builder("orders.created").text(article))?;
            change.commit()?; // all three, or nothing
        }
        println!("first run, {}", store.ledger());
    }

    let (store, log) = open(folder.path())?;
    let aether = log.connect(aether::builder().url("local:")).await?;
    let relay = Relay::spawn(&store, &aether)?;
    let sagas = sagas(&store, &log)?;
    let runner = sagas.spawn()?;
    let options = ConsumerOptions::default().pauses(Duration::ZERO, Duration::ZERO);
    let orders = log.consumer("shop", "orders.created", options)?;
    for round in 0..4 {
        let delivery = orders.receive().await?;
        let (sagas, wave) = (sagas.clone(), delivery.wave().clone());
        let article = wave.text()?.to_owned();
        let is_new = store.write(move |change| {
            let is_new = change.once(&wave.id())?;
            if is_new {
                let id = wave.id().to_string();
                sagas.start(change, &id, &wave.text().unwrap_or_default().to_owned())?;
            }
            Ok::<_, SagaError>(is_new)
        });
        println!("{article}: {}", if is_new.await? { "reserved" } else { "a copy, nothing is done" });
        match round {
            0 => drop(delivery), // as if the process had ended before the acknowledgement
            _ => delivery.ack().await?,
        }
    }
    let ledger = sagas.wait_for(|ledger| ledger.started == 3 && ledger.running == 0).await;
    assert!(ledger.adds_up() && ledger.undone == 1);
    println!("{ledger}");
    // Both end as soon as nothing is left to do; a slow disk may take a while.
    runner.close(Duration::from_secs(60)).await;
    println!("{}", relay.close(Duration::from_secs(60)).await);

    let mut sold = Projection::open(&store, &log, "sold", "orders.sold", |change, stored| {
        let (sold, article) = (change.table("sold"), stored.wave.text()?);
        Ok(sold.insert(article, &(sold.get(article)?.unwrap_or(0_i64) + 1))?)
    })?;
    sold.catch_up().await?;
    let rows = |table: &str| -> Result<BTreeMap<String, i64>, StoreError> {
        Ok(store.begin()?.table(table).from("", 10)?.into_iter().collect())
    };
    let (stock, sold) = (rows("stock")?, rows("sold")?);
    println!("stock: {stock:?}\nsold: {sold:?}");
    for article in ARTICLES {
        assert_eq!(stock[article] + sold.get(article).unwrap_or(&0), 10, "{article}");
    }
    aether.close().await?;
    Ok(())
}
