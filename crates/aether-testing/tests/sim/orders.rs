//! The order system: a shop, a group of stocks of which one reserves each order, and a ledger that adds up both.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use aether_core::{Aether, Emitter, Vibrator, Wave};
use aether_service::{CancellationToken, Json, Service, ServiceBuilder, State};
use aether_testing::sim::{RandomFaults, Sim, explore};
use serde::{Deserialize, Serialize};
use tokio::time::sleep;
use tower::BoxError;

use crate::traffic::{Disk, SECOND, STRENGTHS, burst, key, pause, vary_links};

const STOCKS: [&str; 3] = ["stock 1", "stock 2", "stock 3"];
const REGIONS: u64 = 4;
const ITEMS: u64 = 50;
/// How long the processes have to find each other, before the shop opens: the ledger misses no beginning of a stream.
const OPENS_AFTER: Duration = Duration::from_secs(4);
const FAULTS_WITHIN: Duration = Duration::from_secs(40);
/// Connections are tried again within a second, and a beat later all know what each hears.
const CALMS_WITHIN: Duration = Duration::from_secs(8);

#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
struct Order {
    number: u64,
    item: u64,
    amount: u64,
}

/// The orders that a process has taken, by number.
#[derive(Debug, Default)]
struct Taken(BTreeMap<u64, (u64, Order)>);

impl Taken {
    fn take(&mut self, order: Order) -> Result<(), String> {
        let (times, _) = self.0.entry(order.number).or_insert((0, order));
        *times += 1;
        if *times > 1 { Err(format!("order {} was taken {times} times", order.number)) } else { Ok(()) }
    }

    fn times(&self, number: u64) -> u64 {
        self.0.get(&number).map_or(0, |(times, _)| *times)
    }

    fn total(&self) -> u64 {
        self.0.values().map(|(times, _)| times).sum()
    }

    /// The amount of each item.
    fn sums(&self) -> BTreeMap<u64, u64> {
        let mut sums = BTreeMap::new();
        for (times, order) in self.0.values() {
            *sums.entry(order.item).or_default() += times * order.amount;
        }
        sums
    }
}

#[derive(Debug, Default)]
struct Books {
    /// The orders that the shop has given to its outbox.
    ordered: Taken,
    /// The number of orders when a flush ended well.
    flushed: u64,
    /// The orders that the stocks have reserved.
    reserved: Taken,
    /// The orders that the ledger has heard.
    heard: Taken,
    confirmed: Taken,
    /// The last number of each source, channel and strength.
    last: BTreeMap<(u64, String, u32), u64>,
    problems: Vec<String>,
}

type Shelf = Disk<Books>;

async fn order(shop: &Emitter, books: &Shelf) -> Result<(), BoxError> {
    let order = {
        let mut books = books.lock();
        let number = books.ordered.0.len() as u64;
        let order = Order { number, item: key(ITEMS), amount: fastrand::u64(1..10) };
        books.ordered.take(order)?;
        order
    };
    let channel = format!("orders.region{}", key(REGIONS));
    let strength = STRENGTHS[fastrand::usize(..STRENGTHS.len())];
    shop.emit(Wave::builder(channel).amplitude(strength).json(order)).await?;
    Ok(())
}

/// Emits bursts of orders until a number of them has been given in all lives of the process.
async fn sell(aether: &Aether, books: &Shelf, orders: u64, mean: Duration) -> Result<(), BoxError> {
    let shop = aether.emitter("shop")?;
    while (books.lock().ordered.0.len() as u64) < orders {
        for _ in 0..burst(60) {
            order(&shop, books).await?;
        }
        // A flush that fails has lost something, or somebody is away.
        let ordered = books.lock().ordered.0.len() as u64;
        if fastrand::u8(..3) == 0 && aether.flush().await.is_ok() {
            books.lock().flushed = ordered;
        }
        sleep(pause(mean)).await;
    }
    Ok(())
}

/// The slowest stock takes a hundred times as long as the fastest one.
fn stock(place: u32, books: &Shelf) -> ServiceBuilder<(Shelf, Duration)> {
    let takes = Duration::from_millis(10_u64.pow(place) / 10);
    Service::builder("stock").group("stock").concurrency(4).state((Arc::clone(books), takes)).on(
        "orders.*",
        async |State((books, takes)): State<(Shelf, Duration)>,
               Json(order): Json<Order>,
               emitter: Emitter| {
            sleep(takes).await;
            let taken = books.lock().reserved.take(order);
            books.lock().problems.extend(taken.err().map(|problem| format!("{problem} by the group")));
            emitter.emit_wave("stock.reserved", &order).await
        },
    )
}

async fn keep(aether: Aether, shutdown: CancellationToken, books: Shelf) -> Result<(), BoxError> {
    let mut ledger = Vibrator::create("ledger", &aether).await?;
    ledger.resonate_on("orders.*").await?;
    ledger.resonate_on("stock.reserved").await?;
    while let Some(Some(wave)) = shutdown.run_until_cancelled(ledger.receive()).await {
        let order: Order = wave.json()?;
        let mut books = books.lock();
        let of_order = wave.channel().as_str() != "stock.reserved";
        let taken = if of_order { books.heard.take(order) } else { books.confirmed.take(order) };
        books.problems.extend(taken.err().map(|problem| format!("{problem} by the ledger")));
        let strength = wave.amplitude().as_f32().to_bits();
        let stream = (wave.source().instance(), wave.channel().as_str().to_owned(), strength);
        let last = books.last.insert(stream, wave.id().sequence).unwrap_or(0);
        if last >= wave.id().sequence && of_order {
            books.problems.push(format!("{} came after {last}", wave.id()));
        }
    }
    Ok(())
}

/// The system. Nothing is ordered yet.
fn system(sim: &mut Sim, orders: u64, mean: Duration) -> Shelf {
    let books = Shelf::default();
    for (place, name) in STOCKS.into_iter().enumerate() {
        let of_stock = Arc::clone(&books);
        sim.serve(name, move || stock(place as u32 + 1, &of_stock));
    }
    let of_ledger = Arc::clone(&books);
    sim.process("ledger", move |aether, shutdown| keep(aether, shutdown, Arc::clone(&of_ledger)));
    let of_shop = Arc::clone(&books);
    sim.process("shop", move |aether, shutdown| {
        let books = Arc::clone(&of_shop);
        async move {
            sleep(OPENS_AFTER).await;
            sell(&aether, &books, orders, mean).await?;
            shutdown.cancelled().await;
            Ok::<_, BoxError>(())
        }
    });
    let checked = Arc::clone(&books);
    sim.always(move |_| checked.lock().problems.pop().map_or(Ok(()), Err));
    books
}

/// Each order is reserved and heard exactly once, flushes end when all have it, and nothing counts as lost.
fn without_faults(sim: &mut Sim) {
    const ORDERS: u64 = 250;
    let books = system(sim, ORDERS, SECOND / 10);
    vary_links(sim);
    let of_check = Arc::clone(&books);
    sim.always(move |sim| {
        let flushed = of_check.lock().flushed;
        let ledger = sim.aether("ledger").map(|aether| aether.ledger().offered).unwrap_or_default();
        if ledger < flushed {
            return Err(format!("{flushed} orders are flushed, and {ledger} waves are at the ledger"));
        }
        Ok(())
    });
    let done = Arc::clone(&books);
    sim.eventually(300 * SECOND, "all orders are reserved and heard", move |_| {
        let books = done.lock();
        let ordered = books.ordered.total();
        ordered >= ORDERS
            && [&books.reserved, &books.heard, &books.confirmed].iter().all(|taken| taken.total() == ordered)
    });
    {
        let books = books.lock();
        let sums = books.ordered.sums();
        assert_eq!(
            [&books.reserved, &books.heard, &books.confirmed].map(Taken::sums),
            [&sums, &sums, &sums].map(Clone::clone)
        );
    }
    sim.run_for(2 * SECOND);
    let ordered = books.lock().ordered.total();
    let accounts: BTreeMap<_, _> = sim.finish().into_iter().collect();
    assert_eq!(accounts["shop"].medium.outbox.delivered, ordered);
    let ledger = accounts["ledger"].inbox("ledger");
    assert_eq!((ledger.offered, ledger.delivered), (2 * ordered, 2 * ordered));
    let stocks = STOCKS.map(|name| accounts[name].inbox("stock"));
    assert_eq!(stocks.iter().map(|stock| stock.offered).sum::<u64>(), ordered);
    assert_eq!(stocks.iter().map(|stock| stock.delivered).sum::<u64>(), ordered);
    for (name, account) in &accounts {
        let medium = &account.medium;
        let lost = [
            medium.unconfirmed,
            medium.lost_upstream,
            medium.dropped_by_client,
            medium.malformed,
            medium.implausible,
        ];
        assert_eq!(lost, [0; 5], "{name}: {medium:?}");
    }
}

/// After the faults each new order is reserved and heard exactly once.
fn recovers(sim: &mut Sim, books: &Shelf) {
    sim.heal();
    sim.run_for(CALMS_WITHIN);
    let first = books.lock().ordered.0.len() as u64;
    let of_task = Arc::clone(books);
    sim.run("shop", async move |aether| {
        let shop = aether.emitter("shop").unwrap();
        for _ in 0..40 {
            order(&shop, &of_task).await.unwrap();
        }
    });
    let done = Arc::clone(books);
    sim.eventually(10 * SECOND, "the new orders are reserved and heard", move |_| {
        let books = done.lock();
        (first..first + 40).all(|number| {
            [&books.reserved, &books.heard, &books.confirmed].iter().all(|taken| taken.times(number) == 1)
        })
    });
}

/// Everything happens, also crash loops: no order is reserved or heard twice, and the system recovers.
fn with_crashes(sim: &mut Sim) {
    let books = system(sim, 250, SECOND / 4);
    sim.random_faults(FAULTS_WITHIN, &RandomFaults::new(6).clock_jumps(1));
    let mut random = fastrand::Rng::with_seed(sim.seed());
    let (loops, begins) = (STOCKS[random.usize(..STOCKS.len())], random.u32(4..20));
    for time in begins..begins + random.u32(2..10) {
        sim.at(time * SECOND, move |sim| sim.restart(loops));
        sim.at(time * SECOND + Duration::from_millis(random.u64(0..900)), move |sim| sim.kill(loops));
    }
    sim.at(FAULTS_WITHIN - SECOND, move |sim| sim.restart(loops));
    sim.run_for(FAULTS_WITHIN);
    for name in STOCKS {
        sim.restart(name);
    }
    recovers(sim, &books);
}

/// Nobody dies: what the ledger does not hear it counts as lost, once a new connection or the next order shows it.
fn without_crashes(sim: &mut Sim) {
    let books = system(sim, 250, SECOND / 4);
    sim.run_for(OPENS_AFTER);
    sim.random_faults(FAULTS_WITHIN, &RandomFaults::new(5).kills(0));
    sim.run_for(FAULTS_WITHIN);
    recovers(sim, &books);
    sim.run("shop", async |aether| aether.flush().await.unwrap());
    let shop = sim.aether("shop").unwrap().status();
    let ledger = sim.aether("ledger").unwrap();
    let stocks: u64 = STOCKS.map(|name| sim.aether(name).unwrap().status().outbox.delivered).iter().sum();
    let sent = shop.outbox.delivered + stocks;
    let account = ledger.inboxes().into_iter().find(|report| report.vibrator == "ledger").unwrap().ledger;
    let books = books.lock();
    assert_eq!(shop.outbox.delivered, books.ordered.total());
    assert_eq!(account.delivered, books.heard.total() + books.confirmed.total());
    // The stocks announce their positions by themselves.
    let accounted = account.delivered + account.lost_upstream;
    assert!(accounted == sent, "{sent} waves were sent to the ledger: {account:?}");
}

/// The network is parted for longer than positions are announced: the new connection shows what is missing.
fn with_a_long_partition(sim: &mut Sim) {
    let books = system(sim, 60, SECOND / 4);
    let mut random = fastrand::Rng::with_seed(sim.seed());
    sim.run_for(OPENS_AFTER + Duration::from_millis(random.u64(500..8000)));
    match random.u8(..3) {
        0 => sim.cut(&["ledger"], &["shop"]),
        1 => sim.cut_one_way(&["shop"], &["ledger"]),
        _ => sim.freeze("ledger"),
    }
    sim.run_for(Duration::from_secs(random.u64(90..150)));
    sim.wake("ledger");
    sim.heal();
    sim.run_for(CALMS_WITHIN);
    let (sent, heard) = (sim.aether("shop").unwrap().status().outbox.delivered, books.lock().heard.total());
    let account = sim.aether("ledger").unwrap().ledger();
    assert!(sent >= 60 && books.lock().confirmed.total() > 0);
    let reserved: u64 = STOCKS.map(|name| sim.aether(name).unwrap().status().outbox.delivered).iter().sum();
    assert_eq!(account.offered, sent + reserved, "{heard} of {sent} orders were heard: {account:?}");
}

pub(crate) const SCENARIOS: [fn(&mut Sim); 4] =
    [without_faults, with_crashes, without_crashes, with_a_long_partition];

#[test]
fn each_order_is_reserved_and_heard_exactly_once() {
    explore(0..4, without_faults);
}

#[test]
fn no_order_is_taken_twice_and_the_system_recovers_from_crashes() {
    explore(0..4, with_crashes);
}

#[test]
fn orders_that_are_not_heard_are_counted_as_lost() {
    explore(0..4, without_crashes);
}

#[test]
fn what_a_long_partition_took_is_counted_after_it() {
    explore(0..2, with_a_long_partition);
}
