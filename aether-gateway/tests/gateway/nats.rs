//! The gateway over a real NATS server, which goes and comes back.

use aether_core::conformance::NatsServer;
use aether_core::{Aether, AskError, FlushError, Vibrator};
use aether_gateway::GatewayOptions;

use crate::metrics::adds_up;
use crate::support::{self, Metrics};

#[tokio::test(flavor = "multi_thread")]
async fn waves_of_other_processes_are_observed_and_the_outbox_is_accounted_for() {
    let server = NatsServer::start().await.unwrap();
    let aether = Aether::connect(&server.url()).await.unwrap();
    let mut running = support::run(&aether, GatewayOptions::default()).await;

    let elsewhere = Aether::connect(&server.url()).await.unwrap();
    let shop = Vibrator::create("shop", &elsewhere).await.unwrap();
    let till = Vibrator::create("till", &aether).await.unwrap();
    for _ in 0..20 {
        shop.emit_bytes("orders.created", "x").await.unwrap();
        till.emit_bytes("orders.paid", "x").await.unwrap();
    }
    running.observes(40).await;
    aether.flush().await.unwrap();

    let metrics = Metrics::read(&running.get("/metrics").await.body);
    for channel in ["orders.created", "orders.paid"] {
        let labels = [("channel", channel), ("kind", "event")];
        assert_eq!(metrics.value("aether_observed_waves_total", &labels), 20.0, "{channel}");
    }
    assert_eq!(metrics.value("aether_outbox_offered_waves_total", &[]), 20.0);
    assert_eq!(metrics.value("aether_outbox_delivered_waves_total", &[]), 20.0);
    adds_up(&metrics, "aether_outbox_", &[]);
    let page = running.get("/").await.body;
    assert!(page.contains("outbox of the medium") && page.contains("A network, connected"), "{page}");
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn questions_and_answers_are_observed_and_a_gateway_is_nobody_that_could_answer() {
    let server = NatsServer::start().await.unwrap();
    for aether in [Aether::local(), Aether::connect(&server.url()).await.unwrap()] {
        let mut running = support::run(&aether, GatewayOptions::default()).await;
        let shop = Vibrator::create("shop", &aether).await.unwrap();
        let nobody = shop.ask_wave("stock.count", &"lamp").await;
        assert!(matches!(nobody, Err(AskError::NoResonator { .. })), "{nobody:?}");
        let mut stock = Vibrator::create("stock", &aether).await.unwrap();
        stock.resonate_on("stock.count").await.unwrap();
        let (answer, ()) = tokio::join!(shop.ask_wave("stock.count", &"lamp"), async {
            stock.receive().await.unwrap().reply(&17).await.unwrap();
        });
        assert_eq!(answer.unwrap().json::<u8>().unwrap(), 17);
        running.observes(3).await;
        let metrics = Metrics::read(&running.get("/metrics").await.body);
        for (kind, waves) in [("query", 2.0), ("response", 1.0)] {
            let labels = [("channel", "stock.count"), ("kind", kind)];
            assert_eq!(metrics.value("aether_observed_waves_total", &labels), waves, "{kind}");
        }
        running.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn not_ready_while_the_server_is_away_and_ready_again_by_itself() {
    let mut server = NatsServer::start().await.unwrap();
    let aether = Aether::connect(&server.url()).await.unwrap();
    let mut running = support::run(&aether, GatewayOptions::default()).await;
    assert_eq!(running.get("/readyz").await.code, 200);

    server.kill().await.unwrap();
    // Returns when the server has been missed.
    assert!(matches!(aether.flush().await, Err(FlushError::Unanswered { .. })));
    let answer = running.get("/readyz").await;
    assert_eq!((answer.code, answer.body.as_str()), (503, "not ready: the medium is not connected\n"));
    let metrics = Metrics::read(&running.get("/metrics").await.body);
    assert_eq!(metrics.value("aether_medium_connected", &[]), 0.0);
    assert_eq!(metrics.value("aether_ready", &[]), 0.0);
    assert_eq!(running.get("/livez").await.code, 200);

    // Waits in the outbox for the server, and is heard when both ways are in force again.
    let shop = Vibrator::create("shop", &aether).await.unwrap();
    shop.emit_bytes("orders.created", "x").await.unwrap();
    server.restart().await.unwrap();
    running.observes(1).await;
    assert_eq!(running.get("/readyz").await.code, 200);
    let metrics = Metrics::read(&running.get("/metrics").await.body);
    assert_eq!(metrics.value("aether_medium_connects_total", &[]), 2.0);
    running.stop().await;
}
