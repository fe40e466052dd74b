//! Orders between processes, over a real NATS server that is killed during the run.

use std::time::{Duration, Instant};

use aether_conformance::NatsServer;
use aether_core::{Aether, Vibrator};
use aether_service::CancellationToken;
use aether_service_alpha::{Alpha, AlphaOptions, OrderSummary, Rate};
use aether_service_beta::{Beta, BetaOptions, StockSummary};
use tokio::process::Command;
use tokio::task::JoinHandle;

/// Many more than are made while a busy machine is about to kill the server.
const ORDERS: u64 = 1000;
/// Longer than any machine takes; nothing waits for it to pass.
const LONG: Duration = Duration::from_secs(300);

fn options() -> AlphaOptions {
    let options = AlphaOptions::default().orders(Some(ORDERS)).deadline(LONG);
    options.rate(Rate::per_second(200.0).unwrap()).seed(3)
}

/// An inventory with ample stock.
async fn inventory(aether: &Aether) -> (CancellationToken, JoinHandle<StockSummary>) {
    let beta = Beta::start(aether, BetaOptions::default().units(10_000)).await.unwrap();
    let shutdown = CancellationToken::new();
    let stop = shutdown.clone();
    (shutdown, tokio::spawn(async move { beta.run(stop).await.unwrap() }))
}

async fn close(shutdown: CancellationToken, beta: JoinHandle<StockSummary>) -> StockSummary {
    shutdown.cancel();
    beta.await.unwrap()
}

/// The result of the same orders in one process without failures.
async fn undisturbed() -> (OrderSummary, StockSummary) {
    let aether = Aether::local();
    let (shutdown, beta) = inventory(&aether).await;
    let alpha = Alpha::start(&aether, options().rate(Rate::per_second(1000.0).unwrap())).await.unwrap();
    let orders = alpha.run(CancellationToken::new()).await.unwrap();
    (orders, close(shutdown, beta).await)
}

/// Receives completed orders over its own connection.
async fn listener(url: &str) -> (Aether, Vibrator) {
    let aether = aether::connect(url).await.unwrap();
    let listener = Vibrator::create("listener", &aether).await.unwrap();
    listener.resonate_on("orders.completed").await.unwrap();
    (aether, listener)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_is_killed_twice_loses_no_order_and_sells_nothing_twice() {
    let mut server = NatsServer::start().await.unwrap();
    let url = server.url();
    let (for_alpha, for_beta) = (aether::connect(&url).await.unwrap(), aether::connect(&url).await.unwrap());
    let (shutdown, beta) = inventory(&for_beta).await;
    let (_connection, mut listener) = listener(&url).await;
    let alpha = Alpha::start(&for_alpha, options()).await.unwrap();
    let counters = alpha.counters();
    let alpha = tokio::spawn(alpha.run(CancellationToken::new()));

    // One short outage, and one that is longer than the patience of a question.
    for outage in [Duration::ZERO, Duration::from_millis(1500)] {
        for _ in 0..40 {
            listener.receive().await.unwrap();
        }
        let before = counters.summary();
        assert!(before.created < ORDERS, "all orders were made before the server was killed: {before}");
        server.kill().await.unwrap();
        tokio::time::sleep(outage).await;
        server.restart().await.unwrap();
    }
    let orders = alpha.await.unwrap().unwrap();
    let stock = close(shutdown, beta).await;

    assert_eq!((orders.created, orders.in_flight), (ORDERS, 0), "{orders}");
    assert!(for_alpha.status().connects > 1 && for_beta.status().connects > 1, "the server was never missed");
    assert_eq!((orders, stock), undisturbed().await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_inventory_that_starts_later_gets_the_orders_that_wait() {
    let server = NatsServer::start().await.unwrap();
    let aether = aether::connect(&server.url()).await.unwrap();
    let mut waiting = Vibrator::create("listener", &aether).await.unwrap();
    waiting.resonate_on("orders.created").await.unwrap();
    let for_alpha = aether::connect(&server.url()).await.unwrap();
    let alpha = Alpha::start(&for_alpha, options().orders(Some(20))).await.unwrap();
    let alpha = tokio::spawn(alpha.run(CancellationToken::new()));
    for _ in 0..16 {
        waiting.receive().await.unwrap();
    }
    let (shutdown, beta) = inventory(&aether).await;
    let orders = alpha.await.unwrap().unwrap();
    assert_eq!((orders.created, orders.refused, orders.in_flight), (20, 0, 0), "{orders}");
    assert_eq!(close(shutdown, beta).await.reserved, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_program_prints_the_summary_of_the_orders() {
    let server = NatsServer::start().await.unwrap();
    let aether = aether::connect(&server.url()).await.unwrap();
    let (shutdown, beta) = inventory(&aether).await;
    let output = program(&server.url()).args(["--orders", "30", "--rate", "500"]).output().await.unwrap();
    let stock = close(shutdown, beta).await;
    let printed = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success(), "{printed}{}", String::from_utf8_lossy(&output.stderr));
    assert!(
        printed.starts_with("orders: 30 created = ") && printed.ends_with(" 0 in flight\n"),
        "{printed:?}"
    );
    assert!(stock.sold > 0 && stock.reserved == 0, "{stock}");
}

#[cfg(unix)]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_signal_ends_the_program_soon_even_without_the_server() {
    use nix::sys::signal::{Signal, kill};
    use nix::unistd::Pid;

    for server_is_killed in [false, true] {
        let mut server = NatsServer::start().await.unwrap();
        let (aether, mut listener) = listener(&server.url()).await;
        let (shutdown, beta) = inventory(&aether).await;
        // With the server the orders in flight end, however busy the machine is.
        let grace = if server_is_killed { "600ms" } else { "60s" };
        let grace = format!("service.alpha.grace={grace}");
        let program = program(&server.url()).args(["--rate", "500", "--set", &grace]).spawn().unwrap();
        for _ in 0..20 {
            listener.receive().await.unwrap();
        }
        if server_is_killed {
            server.kill().await.unwrap();
        }
        let signalled = Instant::now();
        kill(Pid::from_raw(program.id().unwrap().try_into().unwrap()), Signal::SIGTERM).unwrap();
        let output = program.wait_with_output().await.unwrap();
        let took = signalled.elapsed();
        let (printed, log) =
            (String::from_utf8(output.stdout).unwrap(), String::from_utf8(output.stderr).unwrap());
        // Without the server the last waves may be lost, which is reported.
        let is_told =
            log.lines().any(|line| line.starts_with("error: ") && line.contains("waves may be lost: "));
        assert_eq!(output.status.code(), Some(if is_told { 1 } else { 0 }), "{log}");
        assert!(server_is_killed || !is_told, "{log}");
        assert!(log.contains("sent: waves: "), "{log}");
        // About a second, and more on a busy machine. An order that is not ended goes on for half a minute.
        assert!(took < Duration::from_secs(25), "{took:?} {log}");
        assert!(printed.starts_with("orders: ") && printed.lines().count() == 1, "{printed:?}");
        // Without the server an order may be in flight at the end, or the last one has just failed.
        assert!(server_is_killed || printed.ends_with(" 0 in flight\n"), "{printed}");
        assert!(close(shutdown, beta).await.adds_up());
    }
}

/// The order service as a process.
fn program(url: &str) -> Command {
    let mut program = Command::new(env!("CARGO_BIN_EXE_aether-service-alpha"));
    program
        .args(["--medium", url])
        .env_remove("AETHER_LOG")
        .env_remove("AETHER_WAIT")
        .stdin(std::process::Stdio::null())
        .stdout(std::process::Stdio::piped())
        .stderr(std::process::Stdio::piped())
        .kill_on_drop(true);
    program
}
