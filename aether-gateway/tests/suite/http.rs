//! The HTTP answers of the gateway, its readiness and its shutdown.

use aether_core::{Aether, Vibrator, Wave};
use aether_gateway::{Gateway, GatewayOptions, StartError};
use aether_service::{Service, Typed, description, health};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use crate::api::PATIENCE;
use crate::support;

#[tokio::test(flavor = "multi_thread")]
async fn the_page_shows_hostile_names_as_text() {
    let aether = Aether::local();
    let mut running = support::run(&aether, GatewayOptions::default()).await;
    let hostile = Vibrator::create("<script>alert('x')</script>&\"", &aether).await.unwrap();
    let wave = Wave::builder("a.<b&\"c'd").amplitude(0.9).text("<img src=x onerror=alert(1)>").build();
    hostile.emit(wave.unwrap()).await.unwrap();
    running.observes(1).await;

    let page = running.get("/status").await;
    assert_eq!((page.code, page.content_type.as_str()), (200, "text/html; charset=utf-8"));
    for never in ["<script", "<img", "<b&", "alert('x')</script>"] {
        assert!(!page.body.contains(never), "{never} in {}", page.body);
    }
    let text = unescaped(&page.body);
    assert!(text.contains("<td>a.<b&\"c'd</td><td>1</td><td>28 B</td>"), "{text}");
    // The name appears as the last source of the channel and as the owner of an inbox.
    assert_eq!(text.matches("<script>alert('x')</script>&\"</td>").count(), 2, "{text}");
    assert!(text.contains("<td>0.9</td>") && text.contains("http-equiv=\"refresh\""), "{text}");

    let status = running.get("/api/status").await;
    assert_eq!((status.code, status.content_type.as_str()), (200, "application/json"));
    let status: serde_json::Value = serde_json::from_str(&status.body).unwrap();
    let line = &status["observed"]["channels"][0];
    assert_eq!(line["channel"], "a.<b&\"c'd");
    assert_eq!(line["last_source"], "<script>alert('x')</script>&\"");
    assert_eq!((&line["last_amplitude"], &line["waves"]), (&0.9.into(), &1.into()));
    assert_eq!(line["kinds"][0]["kind"], "event");
    assert_eq!(status["readiness"], "ready");
    assert_eq!(status["medium"]["crosses_processes"], false);
    let own = status["inboxes"].as_array().unwrap().iter().find(|i| i["vibrator"] == "gateway").unwrap();
    assert_eq!((&own["ledger"]["offered"], &own["ledger"]["delivered"]), (&1.into(), &1.into()));
    running.stop().await;
}

fn unescaped(html: &str) -> String {
    let named = [("&lt;", "<"), ("&gt;", ">"), ("&quot;", "\""), ("&#60;", "<"), ("&#62;", ">")];
    let named = named.into_iter().chain([("&#34;", "\""), ("&#39;", "'"), ("&amp;", "&"), ("&#38;", "&")]);
    named.fold(html.to_owned(), |html, (from, to)| html.replace(from, to))
}

#[tokio::test(flavor = "multi_thread")]
async fn ready_while_the_medium_is_open_and_always_alive() {
    let aether = Aether::local();
    let running = support::run(&aether, GatewayOptions::default()).await;
    for path in ["/readyz", "/healthz", "/livez"] {
        assert_eq!(running.get(path).await.code, 200, "{path}");
    }
    let check = health::check(&aether, "no_stock", || Some("the stock is not loaded yet".to_owned()));
    for path in ["/readyz", "/healthz"] {
        let answer = running.get(path).await;
        assert_eq!((answer.code, answer.body.as_str()), (503, "not ready: the stock is not loaded yet\n"));
    }
    drop(check);
    assert_eq!(running.get("/readyz").await.code, 200);
    aether.close().await.unwrap();
    for path in ["/readyz", "/healthz"] {
        let answer = running.get(path).await;
        assert_eq!(answer.code, 503, "{path}");
        assert!(answer.body.starts_with("not ready: the medium is"), "{}", answer.body);
    }
    let json = running.accepting("GET", "/readyz", "application/json").await;
    let reasons: serde_json::Value = serde_json::from_str(&json.body).unwrap();
    assert_eq!((json.code, json.content_type.as_str()), (503, "application/json"));
    assert_eq!((&reasons["ready"], reasons["reasons"].as_array().unwrap().len()), (&false.into(), 1));
    assert_eq!(running.get("/livez").await.code, 200);
    assert!(running.get("/status").await.body.contains("not connected"));
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_descriptions_of_all_services_are_one_document_and_nonsense_is_counted() {
    let aether = Aether::local();
    let running = support::run(&aether, GatewayOptions::default()).await;
    let stop = CancellationToken::new();
    let stock =
        Service::builder("stock").on_query("stock.take", async |Typed(units): Typed<u32>| Typed(units));
    let evil = Service::builder("evil").on_query(description::channel_of(7), async || "nonsense");
    let mut services = Vec::new();
    for service in [stock.describe("1.0.0", "Keeps it"), evil] {
        services.push(tokio::spawn(service.build(&aether).await.unwrap().run_until(stop.clone())));
    }
    // A service has two seconds for its answer. One that takes longer on a busy machine is asked again.
    let described = async {
        loop {
            let answer = running.get("/asyncapi.json").await;
            assert_eq!((answer.code, answer.content_type.as_str()), (200, "application/json"));
            let document: serde_json::Value = serde_json::from_str(&answer.body).unwrap();
            let metrics = support::Metrics::read(&running.get("/metrics").await.body);
            let refused = metrics.sum("aether_refused_descriptions_total", &[("reason", "invalid")]);
            if refused > 0.0 && document["operations"].as_object().is_some_and(|all| !all.is_empty()) {
                return document;
            }
        }
    };
    let document = timeout(PATIENCE, described).await.expect("both services answer");
    assert_eq!(document["asyncapi"], "3.1.0");
    assert_eq!(
        document["operations"].as_object().unwrap().keys().collect::<Vec<_>>(),
        ["stock.receive.stock.take"]
    );
    let metrics = support::Metrics::read(&running.get("/metrics").await.body);
    assert_eq!(metrics.value("aether_refused_descriptions_total", &[("reason", "invalid")]), 1.0);
    stop.cancel();
    for service in services {
        service.await.unwrap().unwrap();
    }
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_there_is_404_and_what_would_write_is_405() {
    let aether = Aether::local();
    let running = support::run(&aether, GatewayOptions::default()).await;
    for path in ["/nothing", "/metrics/", "/api", "/../etc/passwd"] {
        assert_eq!(running.get(path).await.code, 404, "{path}");
    }
    for method in ["DELETE", "OPTIONS"] {
        assert_eq!(running.request(method, "/metrics").await.code, 405, "{method}");
    }
    assert_eq!(running.request("HEAD", "/metrics").await.code, 200);
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn invalid_requests_are_refused_without_harm() {
    let aether = Aether::local();
    let running = support::run(&aether, GatewayOptions::default()).await;
    let long = format!("GET / HTTP/1.1\r\nhost: a\r\nx: {}\r\n\r\n", "y".repeat(64 * 1024));
    let many = format!("GET / HTTP/1.1\r\nhost: a\r\n{}\r\n", "x: y\r\n".repeat(100));
    for (request, code) in [("nonsense\r\n\r\n", "400"), (&long, "431"), (&many, "431")] {
        let answer = raw(&running, request).await;
        assert!(answer.starts_with(&format!("HTTP/1.1 {code}")), "{code}: {answer:?}");
    }
    assert_eq!(running.get("/livez").await.code, 200);
    running.stop().await;
}

async fn raw(running: &support::Running, request: &str) -> String {
    let mut stream = TcpStream::connect(running.address).await.unwrap();
    // The server may answer and close before it has read everything.
    let _ = stream.write_all(request.as_bytes()).await;
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer).await;
    String::from_utf8(answer).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_silent_client_delays_neither_others_nor_the_shutdown() {
    let aether = Aether::local();
    let running = support::run(&aether, GatewayOptions::default()).await;
    let mut silent = TcpStream::connect(running.address).await.unwrap();
    silent.write_all(b"GET /livez HTTP/1.1\r\n").await.unwrap();
    assert_eq!(running.get("/livez").await.code, 200);
    running.stop().await;
    let mut rest = Vec::new();
    let _ = silent.read_to_end(&mut rest).await;
    assert!(rest.is_empty());
}

#[tokio::test]
async fn waves_queued_at_shutdown_are_still_observed() {
    let aether = Aether::local();
    let options = GatewayOptions::default().listen(support::any_port());
    let gateway = Gateway::start(&aether, options).await.unwrap();
    let observed = gateway.observed();
    let shop = Vibrator::create("shop", &aether).await.unwrap();
    for _ in 0..1000 {
        shop.emit_bytes("a", "x").await.unwrap();
    }
    let shutdown = CancellationToken::new();
    shutdown.cancel();
    gateway.run(shutdown).await;
    assert_eq!(observed.waves(), 1000);
    assert_eq!(aether.ledger().shed_closed, 0);
}

#[tokio::test]
async fn no_gateway_starts_without_its_address_or_its_subscription() {
    let aether = Aether::local();
    let gateway =
        Gateway::start(&aether, GatewayOptions::default().listen(support::any_port())).await.unwrap();
    let second = Gateway::start(&aether, GatewayOptions::default().listen(gateway.address())).await;
    assert!(matches!(second, Err(StartError::Bind { .. })));

    aether.close().await.unwrap();
    let third = Gateway::start(&aether, GatewayOptions::default().listen(support::any_port())).await;
    assert!(matches!(third, Err(StartError::Join(_))));
}
