//! Orders and stock in files, in a process that is killed with `kill -9` at random moments: afterwards they add up.
//!
//! The process runs the inventory service with a store, and an order desk that places orders without end. Each order is a
//! saga: reserve, pay, sell. Every fourth card is declined, so its order is undone.

use std::io::{BufRead as _, BufReader, Write as _};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use aether_core::{Aether, Durability, Emitter, Kind, Wave};
use aether_log::{Log, LogItem};
use aether_outbox::{Relay, Run, SagaLedger, Sagas, Step, StepError, Store};
use aether_service::CancellationToken;
use aether_service_beta::messages::{self, Answer};
use aether_service_beta::{Beta, BetaOptions, StockSummary};
use serde::{Deserialize, Serialize};
use serde_json::json;

const SKUS: [&str; 2] = ["lamp", "desk"];

#[derive(Debug, Clone, Serialize, Deserialize)]
struct Order {
    number: u64,
    quantity: u64,
    /// The inventory has sold it, where the desk does not know.
    is_sold: bool,
}

async fn ask(desk: &Emitter, channel: &str, payload: serde_json::Value) -> Result<Answer, StepError> {
    let question = Wave::builder(channel).kind(Kind::Command).json(&payload).build()?;
    Ok(desk.ask_within(question, Duration::from_secs(20)).await?.json()?)
}

/// The steps of an order. The inventory can be asked twice; the desk counts in the transaction that ends the step.
fn order_desk(desk: &Emitter, store: &Store, log: &Log) -> Sagas<Order> {
    let by = |desk: &Emitter| desk.clone();
    let (reserving, releasing, selling) = (by(desk), by(desk), by(desk));
    let reserve = Step::new("reserve", move |run: Run<Order>| {
        let desk = reserving.clone();
        async move {
            let Order { number, quantity, .. } = run.state;
            let sku = SKUS[usize::try_from(number).unwrap_or_default() % SKUS.len()];
            let order = json!({ "order": run.id(), "sku": sku, "quantity": quantity });
            match ask(&desk, messages::RESERVE, order).await? {
                Answer::Reserved { .. } => Ok(run),
                other => Err(StepError::refused(format!("{other:?}"))),
            }
        }
    });
    let reserve = reserve.undo(move |mut run| {
        let desk = releasing.clone();
        async move {
            match ask(&desk, messages::RELEASE, json!({ "order": run.id() })).await? {
                Answer::Released => Ok(run),
                Answer::AlreadySold => {
                    run.state.is_sold = true;
                    Ok(run)
                }
                other => Err(StepError::failed(format!("{other:?}"))),
            }
        }
    });
    let pay = Step::new("pay", |run: Run<Order>| async move {
        if run.state.number.is_multiple_of(4) {
            return Err(StepError::refused("the card is declined"));
        }
        Ok(run)
    });
    let sell = Step::new("sell", move |mut run: Run<Order>| {
        let desk = selling.clone();
        async move {
            match ask(&desk, messages::COMMIT, json!({ "order": run.id() })).await? {
                Answer::Sold => {}
                other => return Err(StepError::refused(format!("{other:?}"))),
            }
            let units = run.state.quantity;
            run.change(move |change| {
                let sold = change.table("sold");
                sold.insert("units", &(sold.get("units")?.unwrap_or(0) + units))
            });
            run.emit(Wave::builder("orders.completed").key(run.id()).text(units.to_string()).build()?);
            Ok(run)
        }
    });
    Sagas::builder("orders").step(reserve).step(pay).step(sell).open(store, log).unwrap()
}

struct Shop {
    aether: Aether,
    log: Log,
    desk: Store,
    sagas: Sagas<Order>,
    beta: tokio::task::JoinHandle<StockSummary>,
    shutdown: CancellationToken,
    relay: Relay,
}

impl Shop {
    async fn open(folder: &Path) -> Self {
        let log = Log::builder(folder.join("log")).channels("orders.>", Durability::Synced).unwrap();
        let log = log.channels("inventory.*", Durability::Stored).unwrap().open().unwrap();
        let aether = log.connect(aether::builder().url("local:")).await.unwrap();
        let stock = Store::builder("beta").open(folder.join("stock.redb")).unwrap();
        let options = BetaOptions::default().units(1000).restock_every(Some(Duration::from_millis(20)));
        let beta = Beta::start(&aether, options.heartbeat(None).store(stock)).await.unwrap();
        let shutdown = CancellationToken::new();
        let beta = beta.run(shutdown.clone());
        let beta = tokio::spawn(async move { beta.await.unwrap() });
        let desk = Store::builder("desk").open(folder.join("desk.redb")).unwrap();
        let relay = Relay::spawn(&desk, &aether).unwrap();
        let sagas = order_desk(&aether.emitter("desk").unwrap(), &desk, &log);
        Self { aether, log, desk, sagas, beta, shutdown, relay }
    }

    fn place_order(&self) -> u64 {
        let change = self.desk.begin().unwrap();
        let placed = change.table("placed");
        let number = placed.get("orders").unwrap().unwrap_or(0_u64) + 1;
        placed.insert("orders", &number).unwrap();
        let order = Order { number, quantity: 1 + number % 3, is_sold: false };
        assert!(self.sagas.start(&change, &format!("order-{number}"), &order).unwrap());
        change.emit(Wave::builder("orders.created").text(number.to_string())).unwrap();
        change.commit().unwrap();
        number
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "the process that another test kills"]
async fn sells_until_it_is_killed() {
    let folder = std::env::var_os("AETHER_SHOP_FOLDER").unwrap();
    let shop = Shop::open(folder.as_ref()).await;
    let _runner = shop.sagas.spawn().unwrap();
    println!("\nopen");
    loop {
        // A few at once, so that each kill finds orders at all steps.
        shop.sagas.wait_for(|ledger| ledger.running < 8).await;
        let number = tokio::task::block_in_place(|| shop.place_order());
        let mut out = std::io::stdout().lock();
        writeln!(out, "\nplaced {number}").unwrap();
        out.flush().unwrap();
    }
}

/// Runs the shop and kills it a while after the first line that begins like this. Returns the number of the last order
/// that it said to have placed.
fn run_and_kill(folder: &Path, awaited: &str) -> u64 {
    let mut shop = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "killing::sells_until_it_is_killed", "--ignored", "--nocapture"])
        .env("AETHER_SHOP_FOLDER", folder)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(shop.stdout.take().unwrap()).lines();
    let first = lines.by_ref().map(Result::unwrap).find(|line| line.starts_with(awaited));
    let first = first.expect("the shop was opened");
    let pid = nix::unistd::Pid::from_raw(i32::try_from(shop.id()).unwrap());
    let moment = Duration::from_micros(fastrand::u64(10_000..400_000));
    let killer = std::thread::spawn(move || {
        std::thread::sleep(moment);
        nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGKILL).unwrap();
    });
    let lines = std::iter::once(first).chain(lines.map(Result::unwrap));
    let numbers = lines.filter_map(|line| line.strip_prefix("placed ")?.parse().ok());
    let last = numbers.max().unwrap_or_default();
    killer.join().unwrap();
    let ended = shop.wait().unwrap();
    assert_eq!(std::os::unix::process::ExitStatusExt::signal(&ended), Some(9), "the shop failed by itself");
    last
}

/// Eight, or the number in the environment.
fn rounds() -> u64 {
    std::env::var("AETHER_OUTBOX_KILLS").map_or(8, |rounds| rounds.parse().expect("a number of kills"))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn stock_and_orders_add_up_after_kill_9() {
    let folder = tempfile::tempdir().unwrap();
    // The first one is killed after an order, the others at any moment: a slow machine may place none until then.
    let awaited = |round| if round == 0 { "placed " } else { "open" };
    let said =
        (0..rounds()).map(|round| run_and_kill(folder.path(), awaited(round))).max().unwrap_or_default();

    let shop = Shop::open(folder.path()).await;
    let interrupted = shop.sagas.ledger().running;
    let runner = shop.sagas.spawn().unwrap();
    let ended = shop.sagas.wait_for(|ledger| ledger.running == 0);
    let ledger: SagaLedger =
        tokio::time::timeout(Duration::from_secs(300), ended).await.expect("all orders end");
    assert!(ledger.adds_up() && ledger.stuck == 0, "{ledger}");
    let change = shop.desk.begin().unwrap();
    let placed: u64 = change.table("placed").get("orders").unwrap().unwrap();
    let sold: u64 = change.table("sold").get("units").unwrap().unwrap();
    drop(change);
    assert!(placed >= said && said > 0, "{placed} orders, {said} said");
    assert_eq!(ledger.started, placed);
    assert_eq!(
        ledger.undone,
        placed / 4,
        "every fourth card is declined, and all other orders are completed"
    );
    // The counts of the desk, of its waves, and of the inventory.
    let units: u64 = (1..=placed).filter(|number| number % 4 != 0).map(|number| 1 + number % 3).sum();
    assert_eq!(sold, units);
    runner.close(Duration::from_secs(60)).await;
    let account = shop.relay.close(Duration::from_secs(60)).await;
    assert_eq!((account.ledger.waiting, account.ledger.adds_up()), (0, true));
    shop.shutdown.cancel();
    let stock = shop.beta.await.unwrap();
    assert!(stock.adds_up(), "{stock}");
    assert_eq!((stock.sold, stock.reserved), (sold, 0), "{stock}");

    let mut told = 0;
    let mut completed = 0;
    let mut reader = shop.log.read_from(0).only(&"orders.completed".parse().unwrap());
    while let Some(LogItem::Wave(stored)) = reader.next_item().unwrap() {
        told += stored.wave.text().unwrap().parse::<u64>().unwrap();
        completed += 1;
    }
    assert_eq!((told, completed), (sold, ledger.completed), "each order is reported once");
    let mut supplied = 0;
    let mut reader = shop.log.read_from(0).only(&"inventory.restocked".parse().unwrap());
    while let Some(LogItem::Wave(stored)) = reader.next_item().unwrap() {
        supplied += stored.wave.json::<messages::Supply>().unwrap().quantity.get();
    }
    let supplied = u64::from(supplied) + 1000 * 5;
    assert_eq!(stock.supplied, supplied, "each supply is reported once");
    println!("{} kills: {ledger}, {interrupted} were interrupted; {stock}", rounds());
    shop.aether.close().await.unwrap();
}
