//! The worker as it runs: in virtual time, and as a program that is killed.

#![allow(clippy::unwrap_used, reason = "a test that fails ends")]

use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use aether_outbox::Relay;
use aether_testing::{NatsServer, ServerOptions, TestBus};
use aether_worker::{Order, Orders, every_night, open, place, worker};
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::process::{Child, Command};

fn order(number: u32) -> Order {
    Order { id: format!("order-{number}"), customer: format!("customer-{}", number % 3), cents: 100 * number }
}

fn number(orders: &Orders, sql: &str) -> u32 {
    orders.begin().unwrap().sql().query_row(sql, [], |row| row.get(0)).unwrap()
}

#[tokio::test(start_paused = true)]
async fn orders_become_invoices_reminders_and_reports() {
    let folder = tempfile::tempdir().unwrap();
    let bus = TestBus::builder().durable("jobs.>").start().await;
    let orders = open(&folder.path().join("orders.sqlite")).unwrap();
    let relay = Relay::spawn(&orders, bus.aether()).unwrap();
    every_night(bus.aether()).await.unwrap();
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

/// Starts the program. Returns where it takes orders.
async fn start(folder: &Path, settings: &[(&str, &str)]) -> (Child, String) {
    let mut program = Command::new(env!("CARGO_BIN_EXE_worker"));
    program.args(["--http", "127.0.0.1:0"]).current_dir(folder).kill_on_drop(true);
    program.env("AETHER__DURABLE__STORED", "jobs.>").envs(settings.iter().copied());
    let mut program = program.stdout(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(program.stdout.take().unwrap()).lines();
    let line = lines.next_line().await.unwrap().unwrap();
    (program, line.replace("orders: ", ""))
}

/// Places orders at programs that are killed, and checks the invoices that a last one has made.
async fn killed(settings: &[(&str, &str)], mut between: impl AsyncFnMut()) {
    let folder = tempfile::tempdir().unwrap();
    for round in 0..5 {
        let (mut program, url) = start(folder.path(), settings).await;
        for number in 20 * round..20 * (round + 1) {
            let order = serde_json::to_string(&order(number)).unwrap();
            ureq::post(&url).content_type("application/json").send(&order).unwrap();
        }
        between().await;
        program.kill().await.unwrap();
    }
    let (mut program, url) = start(folder.path(), settings).await;
    let invoiced = async {
        for number in 0..100 {
            let url = format!("{url}/{}", order(number).id);
            while ureq::get(&url).call().unwrap().body_mut().read_to_string().unwrap() == "none" {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        }
    };
    tokio::time::timeout(Duration::from_secs(60), invoiced).await.expect("each order gets an invoice");
    program.kill().await.unwrap();
    let orders = open(&folder.path().join("orders.sqlite")).unwrap();
    assert_eq!(number(&orders, "SELECT count(DISTINCT invoice) FROM orders WHERE invoice <= 100"), 100);
    let turned = "SELECT count(*) FROM orders a JOIN orders b USING (customer) WHERE a.rowid < b.rowid AND a.invoice > b.invoice";
    assert_eq!(number(&orders, turned), 0, "each customer has its invoices in the order of its orders");
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
    let log = ("AETHER__DURABLE__LOG", "jetstream:jobs");
    let settings = [log, ("AETHER__DURABLE__ACK_WAIT", "5s"), ("AETHER_MEDIUM", &url)];
    killed(&settings, async || {
        server.kill().await.unwrap();
        server.restart().await.unwrap();
    })
    .await;
}
