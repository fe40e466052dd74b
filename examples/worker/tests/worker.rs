//! The worker as it runs: in virtual time, and as a program that is killed.

#![allow(clippy::unwrap_used, reason = "a test that fails ends")]

use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use aether::Durability;
use aether::log::Log;
use aether_outbox::Relay;
use aether_testing::{NatsServer, ServerOptions, TestBus};
use aether_worker::{Order, Orders, every_night, open, place, worker};

fn order(number: u32) -> Order {
    Order { id: format!("order-{number}"), customer: format!("customer-{}", number % 3), cents: 100 * number }
}

fn number(orders: &Orders, sql: &str) -> u32 {
    orders.begin().unwrap().sql().query_row(sql, [], |row| row.get(0)).unwrap()
}

#[tokio::test(start_paused = true)]
async fn orders_become_invoices_reminders_and_reports() {
    let folder = tempfile::tempdir().unwrap();
    let log = Log::builder(folder.path().join("jobs")).channels("jobs.>", Durability::Stored).unwrap();
    let log = log.open().unwrap();
    let bus = TestBus::builder().over(log.layer(aether::builder().url("local:"))).start().await;
    log.attach(bus.aether());
    let orders = open(&folder.path().join("orders.sqlite")).unwrap();
    let relay = Relay::spawn(&orders, bus.aether()).unwrap();
    every_night(&log.clone().into()).await.unwrap();
    let worker = bus.serve(worker(orders.clone())).await;

    for number in [1, 2, 3, 2] {
        place(&orders, order(number)).await.unwrap();
    }
    // Long for the worker and short for the test.
    let days = |days: u64| tokio::time::sleep(Duration::from_secs(days * 24 * 60 * 60));
    days(13).await;
    assert_eq!(number(&orders, "SELECT count(invoice) FROM orders"), 3);
    assert_eq!(number(&orders, "SELECT sum(reminders) FROM orders"), 0);
    let change = orders.begin().unwrap();
    change.sql().execute("UPDATE orders SET paid = 1 WHERE id = 'order-3'", []).unwrap();
    change.commit().unwrap();
    days(2).await;
    assert_eq!(number(&orders, "SELECT sum(reminders) FROM orders"), 2);
    assert_eq!(number(&orders, "SELECT count(*) FROM reports WHERE invoices = 3 AND cents = 600"), 15);
    assert_eq!(worker.stop().await.succeeded, 3 + 3 + 15);
    relay.close(Duration::from_secs(1)).await;
    bus.finish().await;
}

struct Program(Child, String);

impl Program {
    fn start(folder: &Path, settings: &[(&str, &str)]) -> Self {
        let mut program = Command::new(env!("CARGO_BIN_EXE_worker"));
        program.args(["--http", "127.0.0.1:0"]).current_dir(folder).env("AETHER__DURABLE__STORED", "jobs.>");
        let mut child = program.envs(settings.iter().copied()).stdout(Stdio::piped()).spawn().unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let url = lines.next().unwrap().unwrap().replace("orders: ", "");
        Self(child, url)
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }
}

/// Places orders at programs that are killed, and checks the invoices that a last one has made.
async fn killed(settings: &[(&str, &str)], mut between: impl AsyncFnMut()) {
    let folder = tempfile::tempdir().unwrap();
    let mut placed = 0;
    for round in 1..=5 {
        let program = Program::start(folder.path(), settings);
        while placed < 20 * round {
            let order = serde_json::to_string(&order(placed)).unwrap();
            ureq::post(&program.1).content_type("application/json").send(&order).unwrap();
            placed += 1;
        }
        between().await;
    }
    let (program, end) = (Program::start(folder.path(), settings), Instant::now() + Duration::from_secs(60));
    let mut invoices: Vec<u32> = Vec::new();
    for number in 0..placed {
        let url = format!("{}/{}", program.1, order(number).id);
        invoices.push(loop {
            let shown = ureq::get(&url).call().unwrap().body_mut().read_to_string().unwrap();
            let invoice: Option<u32> = serde_json::from_str(&shown).unwrap();
            assert!(Instant::now() < end, "{url} has no invoice");
            match invoice {
                Some(invoice) => break invoice,
                None => std::thread::sleep(Duration::from_millis(10)),
            }
        });
    }
    // Each customer has its invoices in the order of its orders.
    for customer in 0..3 {
        assert!(invoices.iter().skip(customer).step_by(3).is_sorted(), "{invoices:?}");
    }
    invoices.sort_unstable();
    assert_eq!(invoices, (1..=placed).collect::<Vec<_>>(), "each order has one invoice");
}

#[tokio::test]
async fn kills_lose_and_double_no_job_in_a_folder() {
    let jobs = tempfile::tempdir().unwrap();
    killed(&[("AETHER__DURABLE__FOLDER", jobs.path().to_str().unwrap())], async || {}).await;
}

#[tokio::test]
async fn kills_lose_and_double_no_job_in_jetstream() {
    let streams = tempfile::tempdir().unwrap();
    let mut server =
        NatsServer::start_with(ServerOptions::default().jetstream(streams.path())).await.unwrap();
    let url = server.url().to_owned();
    let settings = [("AETHER__DURABLE__LOG", "jetstream:jobs"), ("AETHER_MEDIUM", &url)];
    killed(&settings, async || {
        server.kill().await.unwrap();
        server.restart().await.unwrap();
    })
    .await;
}
