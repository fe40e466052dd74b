//! The gateway over a real NATS server that stops and restarts.

use std::time::Duration;

use aether_conformance::NatsServer;
use aether_core::{Aether, AskError, FlushError, Kind, Vibrator, Wave};
use aether_gateway::GatewayOptions;
use futures_util::StreamExt;

use crate::metrics::adds_up;
use crate::support::{self, Metrics};

/// A bound for what takes milliseconds on an idle machine. Nothing waits for it to pass.
const PATIENCE: Duration = Duration::from_secs(120);

/// Asks for the number of lamps.
async fn ask(shop: &Vibrator) -> Result<Wave, AskError> {
    let question = Wave::builder("stock.count").kind(Kind::Query).json("lamp").build().unwrap();
    shop.ask_within(question, PATIENCE).await
}

#[tokio::test(flavor = "multi_thread")]
async fn waves_of_other_processes_are_observed_and_the_outbox_is_accounted_for() {
    let server = NatsServer::start().await.unwrap();
    let aether = aether::connect(&server.url()).await.unwrap();
    let mut running = support::run(&aether, GatewayOptions::default()).await;

    let elsewhere = aether::connect(&server.url()).await.unwrap();
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
    let page = running.get("/status").await.body;
    assert!(page.contains("outbox of the medium") && page.contains("A network, connected"), "{page}");
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn questions_and_answers_are_observed_and_a_gateway_does_not_count_as_a_responder() {
    let server = NatsServer::start().await.unwrap();
    for aether in [Aether::local(), aether::connect(&server.url()).await.unwrap()] {
        let mut running = support::run(&aether, GatewayOptions::default()).await;
        let shop = Vibrator::create("shop", &aether).await.unwrap();
        let nobody = ask(&shop).await;
        assert!(matches!(nobody, Err(AskError::NoResonator { .. })), "{nobody:?}");
        let mut stock = Vibrator::create("stock", &aether).await.unwrap();
        stock.resonate_on("stock.count").await.unwrap();
        let (answer, ()) = tokio::join!(ask(&shop), async {
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
    let aether = aether::connect(&server.url()).await.unwrap();
    let mut running = support::run(&aether, GatewayOptions::default()).await;
    assert_eq!(running.get("/readyz").await.code, 200);

    server.kill().await.unwrap();
    // Returns when the gateway has noticed the outage.
    assert!(matches!(aether.flush().await, Err(FlushError::Unanswered { .. })));
    let answer = running.get("/readyz").await;
    assert_eq!((answer.code, answer.body.as_str()), (503, "not ready: the medium is not connected\n"));
    let metrics = Metrics::read(&running.get("/metrics").await.body);
    assert_eq!(metrics.value("aether_medium_connected", &[]), 0.0);
    assert_eq!(metrics.value("aether_ready", &[]), 0.0);
    assert_eq!(running.get("/livez").await.code, 200);

    // The wave waits in the outbox and is received once both connections are back.
    let shop = Vibrator::create("shop", &aether).await.unwrap();
    shop.emit_bytes("orders.created", "x").await.unwrap();
    server.restart().await.unwrap();
    running.observes(1).await;
    assert_eq!(running.get("/readyz").await.code, 200);
    let metrics = Metrics::read(&running.get("/metrics").await.body);
    assert_eq!(metrics.value("aether_medium_connects_total", &[]), 2.0);
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn each_of_several_paths_has_its_metrics() {
    let servers = [NatsServer::start().await.unwrap(), NatsServer::start().await.unwrap()];
    let urls = servers.each_ref().map(NatsServer::url);
    let aether = aether::connect(&urls.join(" ")).await.unwrap();
    let mut running = support::run(&aether, GatewayOptions::default()).await;
    let shop = Vibrator::create("shop", &aether).await.unwrap();
    shop.emit_bytes("orders.created", "x").await.unwrap();
    running.observes(1).await;
    let metrics = Metrics::read(&running.get("/metrics").await.body);
    for (url, is_in_use) in [(&urls[0], 1.0), (&urls[1], 0.0)] {
        let labels = [("path", &**url)];
        assert_eq!(metrics.value("aether_path_in_use", &labels), is_in_use);
        assert_eq!(metrics.value("aether_path_waves_total", &labels), is_in_use);
        assert_eq!(metrics.value("aether_path_unconfirmed_waves_total", &labels), 0.0);
        assert_eq!(metrics.value("aether_path_unreached_processes", &labels), 0.0);
    }
    running.stop().await;
}

/// Messages as anybody may publish them: an echo of a wave that was never emitted, an answer to a question that was never
/// asked, and announcements beyond what the roster keeps.
#[tokio::test(flavor = "multi_thread")]
async fn what_was_refused_is_shown_by_its_reason() {
    let server = NatsServer::start().await.unwrap();
    let aether = aether::connect(&server.url()).await.unwrap();
    let running = support::run(&aether, GatewayOptions::default()).await;
    let page = running.get("/status").await.body;
    assert!(!page.contains("not believed"), "{page}");
    let shop = Vibrator::create("shop", &aether).await.unwrap();
    let mut echoes = shop.echoes().await.unwrap();
    let wave = Wave::builder("orders").kind(Kind::Command).build().unwrap();
    let id = shop.id_of(&shop.emit(wave).await.unwrap());
    echoes.receive().await.unwrap();

    let stranger = async_nats::connect(server.url()).await.unwrap();
    let mut heard = stranger.subscribe(">").await.unwrap();
    let mut stock = Vibrator::create("stock", &aether).await.unwrap();
    stock.resonate_on("stock.count").await.unwrap();
    let mut answered = async || {
        let (answer, ()) = tokio::join!(ask(&shop), async {
            stock.receive().await.unwrap().reply(&17).await.unwrap();
        });
        answer.unwrap();
    };
    answered().await;
    let reply = loop {
        let message = heard.next().await.unwrap();
        if message.subject.contains("stock.count")
            && let Some(reply) = message.reply
        {
            break reply;
        }
    };
    stranger.publish(reply, "again".into()).await.unwrap();
    // The second of them may be true.
    for sequence in [id.sequence + 100, id.sequence] {
        let echo = format!(
            r#"[{{"of":"{}/{sequence}","channel":"orders","reason":"shed","hint":"","by":"x","count":1}}]"#,
            id.source
        );
        let subject = format!("aether-ask._aether.echo.{:x}", id.source.instance());
        stranger.publish(subject, echo.into()).await.unwrap();
    }
    let long = "y".repeat(200);
    for vibrator in 0..100 {
        let hears: Vec<_> = (0..256).map(|n| format!(r#"{{"pattern":"x{vibrator}p{n}{long}.*"}}"#)).collect();
        let text = format!(
            r#"[{{"vibrator":"fake@{:x}","hears":[{}],"floor":0,"effective_floor":0}}]"#,
            vibrator + 10,
            hears.join(",")
        );
        stranger.publish("aether-ask._aether.vibrators", text.into()).await.unwrap();
    }
    stranger.flush().await.unwrap();

    let mut roster = aether.roster().await.unwrap();
    let refused = async {
        echoes.receive().await.unwrap();
        // Its answer comes behind the one that nobody waits for.
        answered().await;
        while roster.left_out() == 0 {
            roster.changed().await;
        }
    };
    tokio::time::timeout(PATIENCE, refused).await.expect("all of it is refused");
    let metrics = Metrics::read(&running.get("/metrics").await.body);
    let counts = ["refused_echoes", "medium_stray_answers", "left_out_announcements"];
    for name in counts {
        assert!(metrics.value(&format!("aether_{name}_total"), &[]) >= 1.0, "{name}");
    }
    for name in ["medium_implausible_messages", "implausible_announcements"] {
        assert_eq!(metrics.value(&format!("aether_{name}_total"), &[]), 0.0, "{name}");
    }
    let status = running.get("/api/status").await.body;
    for name in ["refused_echoes", "stray_answers", "left_out_announcements", "implausible_announcements"] {
        assert!(status.contains(&format!("\"{name}\":")), "{status}");
    }
    let page = running.get("/status").await.body;
    for text in
        ["1 echoes of waves that never were", "1 answers that nobody waited for", "announcements too many"]
    {
        assert!(page.contains(text), "{page}");
    }
    running.stop().await;
}
