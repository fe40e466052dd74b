//! Orders through both sample services in one process: everything is accounted for on both sides.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::time::Duration;

use aether_core::{Aether, Kind, Vibrator, Wave};
use aether_service::CancellationToken;
use aether_service_alpha::{Alpha, AlphaOptions, Chance, OrderSummary, Rate};
use aether_service_beta::{Beta, BetaOptions, StockSummary};
use aether_testing::{Fault, Faults, TestBus};
use serde_json::{Value, json};
use tokio::task::JoinHandle;

const ENDS: [&str; 3] = ["orders.completed", "orders.refused", "orders.compensated"];

fn options(orders: u64) -> AlphaOptions {
    AlphaOptions::default().orders(Some(orders)).rate(Rate::per_second(1000.0).unwrap()).seed(7)
}

struct Stock {
    shutdown: CancellationToken,
    running: JoinHandle<StockSummary>,
}

impl Stock {
    async fn open(aether: &Aether, options: BetaOptions) -> Self {
        let beta = Beta::start(aether, options).await.unwrap();
        let shutdown = CancellationToken::new();
        let stop = shutdown.clone();
        Self { shutdown, running: tokio::spawn(async move { beta.run(stop).await.unwrap() }) }
    }

    async fn close(self) -> StockSummary {
        self.shutdown.cancel();
        self.running.await.unwrap()
    }
}

/// Receives all events of orders and payments, and the questions to the inventory.
struct Witness(Vibrator);

impl Witness {
    async fn listen(aether: &Aether) -> Self {
        let vibrator = Vibrator::create("witness", aether).await.unwrap();
        for pattern in ["orders.>", "payments.*", "inventory.*"] {
            vibrator.resonate_on(pattern).await.unwrap();
        }
        Self(vibrator)
    }

    /// Closes the medium and returns all received waves by channel.
    async fn testify(mut self, aether: &Aether) -> HashMap<String, Vec<Wave>> {
        aether.close().await.unwrap();
        let mut heard: HashMap<String, Vec<Wave>> = HashMap::new();
        while let Some(wave) = self.0.receive().await {
            heard.entry(wave.channel().to_string()).or_default().push(wave);
        }
        assert_eq!(self.0.ledger().lost(), 0);
        heard
    }
}

fn field(wave: &Wave, name: &str) -> u64 {
    wave.json::<Value>().unwrap()[name].as_u64().unwrap_or_else(|| panic!("no number {name} in {wave:?}"))
}

fn sum(heard: &HashMap<String, Vec<Wave>>, channel: &str, name: &str) -> u64 {
    heard.get(channel).into_iter().flatten().map(|wave| field(wave, name)).sum()
}

#[tokio::test(start_paused = true)]
async fn every_order_has_one_end_and_the_stock_and_the_money_agree() {
    aether_testing::follow_tokio();
    let aether = Aether::local();
    let witness = Witness::listen(&aether).await;
    let stock = Stock::open(&aether, BetaOptions::default().units(60)).await;
    let alpha = Alpha::start(&aether, options(300)).await.unwrap();
    let counters = alpha.counters();

    let summary = alpha.run(CancellationToken::new()).await.unwrap();
    let stock = stock.close().await;
    let heard = witness.testify(&aether).await;

    assert_eq!(summary, counters.summary());
    assert!(summary.adds_up() && stock.adds_up(), "{summary}; {stock}");
    assert_eq!((summary.created, summary.in_flight), (300, 0));
    assert!(summary.completed > 0 && summary.refused > 0 && summary.compensated > 0, "{summary}");

    // One end for each order, as many of each kind as counted.
    let ends: Vec<_> = ENDS.iter().flat_map(|channel| &heard[*channel]).collect();
    let ended: HashSet<_> = ends.iter().map(|wave| wave.key().unwrap()).collect();
    let created: HashSet<_> = heard["orders.created"].iter().map(|wave| wave.key().unwrap()).collect();
    assert_eq!((ends.len(), ended), (300, created));
    let counts = ENDS.map(|channel| heard[channel].len() as u64);
    assert_eq!(counts, [summary.completed, summary.refused, summary.compensated]);

    // The stock: completed orders account for the units sold, and no reservation is left.
    assert_eq!((stock.reserved, stock.supplied), (0, 300));
    assert_eq!(stock.sold, sum(&heard, "orders.completed", "quantity"));
    assert_eq!(sum(&heard, "inventory.released", "quantity"), sum(&heard, "orders.compensated", "quantity"));
    // The money: charges minus refunds equal the amounts of completed orders.
    let kept =
        sum(&heard, "payments.charged", "amount_cents") - sum(&heard, "payments.refunded", "amount_cents");
    assert_eq!(kept, sum(&heard, "orders.completed", "amount_cents"));
}

#[tokio::test(start_paused = true)]
async fn each_wave_of_an_order_names_the_one_that_led_to_it() {
    aether_testing::follow_tokio();
    let aether = Aether::local();
    let witness = Witness::listen(&aether).await;
    let stock = Stock::open(&aether, BetaOptions::default()).await;
    let alpha = Alpha::start(&aether, options(1).decline_rate(Chance::new(0.0).unwrap())).await.unwrap();
    alpha.run(CancellationToken::new()).await.unwrap();
    stock.close().await;
    let heard = witness.testify(&aether).await;

    let only = |channel: &str| {
        let waves = &heard[channel];
        assert_eq!(waves.len(), 1, "{channel}");
        waves[0].clone()
    };
    let caused_by = |channel: &str| only(channel).cause().cloned().unwrap();
    assert_eq!(only("orders.created").cause(), None);
    assert_eq!(caused_by("inventory.reserve"), only("orders.created").id());
    assert_eq!(caused_by("inventory.reserved"), only("inventory.reserve").id());
    assert_eq!(caused_by("payments.charged"), only("payments.charge").id());
    // Only the asker receives the answers; their source is enough here.
    for (channel, answered_by) in
        [("payments.charge", "beta"), ("inventory.commit", "payments"), ("orders.completed", "beta")]
    {
        assert_eq!(caused_by(channel).source.name(), answered_by, "{channel}");
    }
    let roots: HashSet<_> = heard.values().flatten().map(Wave::root).collect();
    assert_eq!(roots, HashSet::from([only("orders.created").id()]), "one request");
    let keys: HashSet<_> = heard.values().flatten().map(|wave| wave.key().unwrap().to_owned()).collect();
    assert_eq!(keys.len(), 1, "one order, one key: {keys:?}");
    let strength = |channel: &str| only(channel).amplitude();
    assert!(strength("orders.completed") > strength("orders.created"));
}

/// A run with enough stock, in which only the cards decide.
async fn enough_of_everything(seed: u64, between: Between) -> (OrderSummary, StockSummary) {
    let faults = Faults::with_seed(1);
    if between == Between::Losses {
        faults.add(Fault::lose(0.3).on("inventory.*").source("beta"));
        faults.add(Fault::duplicate(0.3).on("inventory.*"));
    }
    let bus = TestBus::builder().faults(&faults).start().await;
    let stock = Stock::open(bus.aether(), BetaOptions::default().units(1000)).await;
    let late = bus.vibrator("late").await;
    if between == Between::Losses {
        let ear = Vibrator::builder("ear").observe().create(bus.aether()).await.unwrap();
        ear.resonate_on("inventory.reserve").await.unwrap();
        tokio::spawn(repeat_old_questions(ear, late, bus.shutdown()));
    }
    let options = options(200).seed(seed).decline_rate(Chance::new(0.3).unwrap());
    let alpha = Alpha::start(bus.aether(), options).await.unwrap();
    let orders = alpha.run(CancellationToken::new()).await.unwrap();
    bus.shutdown().cancel();
    let stock = stock.close().await;
    let faults = bus.finish().await.faults.unwrap();
    assert_eq!(faults.answers_lost > 0, between == Between::Losses, "{faults}");
    (orders, stock)
}

/// What happens to questions and answers in transit.
#[derive(Clone, Copy, PartialEq)]
enum Between {
    Nothing,
    /// Three of ten answers are lost, three of ten questions arrive twice, and old ones are repeated.
    Losses,
}

/// Repeats an old question with each new one: late by any number of questions, for example after the sale or the release.
async fn repeat_old_questions(mut ear: Vibrator, late: Vibrator, shutdown: CancellationToken) {
    let (mut rng, mut asked) = (fastrand::Rng::with_seed(1), Vec::new());
    while let Some(Some(wave)) = shutdown.run_until_cancelled(ear.receive()).await {
        if wave.kind() == Kind::Response || wave.source() == late.source() {
            continue;
        }
        asked.push(wave.json::<Value>().unwrap());
        // Its answer may be lost, like any other.
        let old = late.ask_wave("inventory.reserve", &asked[rng.usize(..asked.len())]);
        let _ = shutdown.run_until_cancelled(old).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_seed_repeats_the_run() {
    let first = enough_of_everything(1, Between::Nothing).await;
    assert_eq!(first, enough_of_everything(1, Between::Nothing).await);
    assert_ne!(first, enough_of_everything(2, Between::Nothing).await);
}

#[tokio::test(start_paused = true)]
async fn answers_that_get_lost_and_questions_that_come_late_change_nothing() {
    let lossy = enough_of_everything(1, Between::Losses).await;
    assert_eq!(lossy, enough_of_everything(1, Between::Nothing).await);
    let (orders, stock) = lossy;
    assert_eq!((orders.in_flight, stock.reserved), (0, 0));
}

#[tokio::test]
async fn orders_wait_for_an_inventory_that_starts_later() {
    let aether = Aether::local();
    let mut listener = Vibrator::create("listener", &aether).await.unwrap();
    listener.resonate_on("orders.created").await.unwrap();
    let alpha = Alpha::start(&aether, options(40)).await.unwrap();
    let counters = alpha.counters();
    let alpha = tokio::spawn(alpha.run(CancellationToken::new()));
    // As many as may be in flight; none of them can continue.
    for _ in 0..16 {
        listener.receive().await.unwrap();
    }
    let before = counters.summary();
    assert_eq!((before.created, before.in_flight), (16, 16), "{before}");

    let stock = Stock::open(&aether, BetaOptions::default().units(1000)).await;
    let summary = alpha.await.unwrap().unwrap();
    assert_eq!((summary.created, summary.refused, summary.in_flight), (40, 0, 0), "{summary}");
    assert_eq!(stock.close().await.reserved, 0);
}

#[tokio::test(start_paused = true)]
async fn orders_without_an_answer_stay_counted() {
    aether_testing::follow_tokio();
    let aether = Aether::local();
    let alpha = Alpha::start(&aether, options(3).deadline(Duration::from_secs(5))).await.unwrap();
    let started = tokio::time::Instant::now();
    let summary = alpha.run(CancellationToken::new()).await.unwrap();
    assert_eq!((summary.created, summary.in_flight), (3, 3), "{summary}");
    let took = started.elapsed();
    assert!((10..12).contains(&took.as_secs()), "once forwards, once backwards: {took:?}");
}

#[tokio::test(start_paused = true)]
async fn shutdown_ends_it_within_a_second_and_leaves_nothing_uncounted() {
    aether_testing::follow_tokio();
    let aether = Aether::local();
    let mut listener = Vibrator::create("listener", &aether).await.unwrap();
    listener.resonate_on("orders.completed").await.unwrap();
    let stock = Stock::open(&aether, BetaOptions::default().units(10_000)).await;
    let alpha = Alpha::start(&aether, options(0).orders(None)).await.unwrap();
    let shutdown = CancellationToken::new();
    let alpha = tokio::spawn(alpha.run(shutdown.clone()));
    for _ in 0..50 {
        listener.receive().await.unwrap();
    }
    // Without the inventory the orders in flight cannot end.
    let stock = stock.close().await;
    let asked = tokio::time::Instant::now();
    shutdown.cancel();
    let summary = alpha.await.unwrap().unwrap();
    assert!(asked.elapsed() < Duration::from_secs(1), "{:?}", asked.elapsed());
    assert!(summary.adds_up() && summary.completed >= 50, "{summary}");
    assert!(stock.adds_up(), "{stock}");
}

#[tokio::test]
async fn closing_the_medium_ends_both_services() {
    let aether = Aether::local();
    let mut listener = Vibrator::create("listener", &aether).await.unwrap();
    listener.resonate_on("orders.completed").await.unwrap();
    let stock = Stock::open(&aether, BetaOptions::default().units(10_000)).await;
    let alpha = Alpha::start(&aether, options(0).orders(None)).await.unwrap();
    let alpha = tokio::spawn(alpha.run(CancellationToken::new()));
    listener.receive().await.unwrap();
    aether.close().await.unwrap();
    let (orders, stock) = (alpha.await.unwrap().unwrap(), stock.running.await.unwrap());
    assert!(orders.adds_up() && stock.adds_up() && orders.completed > 0, "{orders}; {stock}");
}

/// An inventory that reserves, never sells, and gives `on_release` as the answer to a release.
async fn stubborn(aether: &Aether, on_release: &'static str) -> JoinHandle<()> {
    let mut inventory = Vibrator::create("stubborn", aether).await.unwrap();
    inventory.resonate_on("inventory.*").await.unwrap();
    tokio::spawn(async move {
        while let Some(wave) = inventory.receive().await {
            match wave.channel().as_str() {
                "inventory.reserve" => wave.reply(&json!({ "outcome": "reserved" })).await.unwrap(),
                "inventory.release" => wave.reply(&json!({ "outcome": on_release })).await.unwrap(),
                _ => drop(wave),
            }
        }
    })
}

async fn one_order_with(on_release: &'static str) -> (OrderSummary, BTreeMap<String, usize>) {
    aether_testing::follow_tokio();
    let aether = Aether::local();
    let witness = Witness::listen(&aether).await;
    let inventory = stubborn(&aether, on_release).await;
    let options = options(1).decline_rate(Chance::new(0.0).unwrap()).deadline(Duration::from_secs(5));
    let summary = Alpha::start(&aether, options).await.unwrap().run(CancellationToken::new()).await.unwrap();
    let heard = witness.testify(&aether).await;
    inventory.await.unwrap();
    let told = ["orders.completed", "orders.compensated", "payments.charged", "payments.refunded"];
    let counts = told.map(|channel| (channel.to_owned(), heard.get(channel).map_or(0, Vec::len)));
    (summary, counts.into_iter().filter(|(_, count)| *count > 0).collect())
}

#[tokio::test(start_paused = true)]
async fn a_sale_that_is_never_confirmed_is_undone_and_paid_back() {
    let (summary, told) = one_order_with("released").await;
    assert_eq!((summary.compensated, summary.in_flight), (1, 0), "{summary}");
    let told: Vec<_> = told.iter().map(|(channel, count)| (channel.as_str(), *count)).collect();
    assert_eq!(told, [("orders.compensated", 1), ("payments.charged", 1), ("payments.refunded", 1)]);
}

#[tokio::test(start_paused = true)]
async fn a_sale_whose_confirmation_was_lost_is_a_sale() {
    let (summary, told) = one_order_with("already_sold").await;
    assert_eq!((summary.completed, summary.in_flight), (1, 0), "{summary}");
    let told: Vec<_> = told.iter().map(|(channel, count)| (channel.as_str(), *count)).collect();
    assert_eq!(told, [("orders.completed", 1), ("payments.charged", 1)]);
}

#[tokio::test(start_paused = true)]
async fn an_order_whose_undoing_is_not_confirmed_stays_in_flight() {
    let (summary, told) = one_order_with("whatever").await;
    assert_eq!((summary.created, summary.in_flight), (1, 1), "{summary}");
    assert_eq!(told.keys().collect::<Vec<_>>(), ["payments.charged"]);
}
