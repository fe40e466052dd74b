//! The metrics of a service over HTTP, checked with the tool of Prometheus.

#![allow(clippy::unwrap_used, reason = "a failure here is a failure of the test")]

mod promtool;
mod tls;

use std::collections::BTreeMap;
use std::num::NonZeroU32;
use std::time::Duration;

use aether_core::{Aether, AskError, Durability, Kind, Vibrator, Wave};
use aether_log::{ConsumerOptions, Log};
use aether_metrics::prometheus_client::metrics::gauge::Gauge;
use aether_metrics::{Counter, Endpoint, Metrics};
use aether_service::{CancellationToken, Json, Rejection, Service, State};

struct Answer {
    code: u16,
    content_type: String,
    body: String,
}

async fn get(endpoint: &Endpoint, path: &str, accept: &'static str) -> Answer {
    get_of(endpoint, &endpoint.address().to_string(), path, accept).await
}

/// The same by another name of the host.
async fn get_of(endpoint: &Endpoint, host: &str, path: &str, accept: &'static str) -> Answer {
    let (url, host) = (format!("http://{}{path}", endpoint.address()), host.to_owned());
    tokio::task::spawn_blocking(move || {
        let config = ureq::Agent::config_builder().http_status_as_error(false).proxy(None).build();
        let mut response = ureq::Agent::new_with_config(config)
            .get(&url)
            .header("accept", accept)
            .header("host", host)
            .call()
            .unwrap();
        let content_type = response.headers()["content-type"].to_str().unwrap().to_owned();
        let body = response.body_mut().read_to_string().unwrap();
        Answer { code: response.status().as_u16(), content_type, body }
    })
    .await
    .unwrap()
}

/// The values by name and labels.
fn values(text: &str) -> BTreeMap<String, f64> {
    let lines = text.lines().filter(|line| !line.starts_with('#'));
    lines
        .map(|line| line.rsplit_once(' ').unwrap())
        .map(|(name, value)| (name.to_owned(), value.parse().unwrap()))
        .collect()
}

async fn refuse(State(refused): State<Counter>, Json(units): Json<u32>) -> Result<Json<u32>, Rejection> {
    if units > 5 {
        refused.inc();
        return Err(Rejection::new("not enough left"));
    }
    Ok(Json(units))
}

#[tokio::test(flavor = "multi_thread")]
async fn one_endpoint_has_the_ledgers_the_handlers_and_an_authors_own_metrics() {
    let aether = Aether::local();
    let (refused, shelves) = (Counter::default(), Gauge::<i64>::default());
    shelves.set(3);
    let builder = Service::builder("sto\"ck\\ä").state(refused.clone());
    let service = builder.on_query("stock.reserve", refuse).build(&aether).await.unwrap();
    let metrics = Metrics::of(&aether)
        .service(&service)
        .metric("orders_refused", "Orders without stock", refused)
        .metric("shelves", "Shelves in use", shelves);
    let endpoint = metrics.serve(([127, 0, 0, 1], 0).into()).await.unwrap();
    let shutdown = CancellationToken::new();
    let running = tokio::spawn(service.run_until(shutdown.clone()));

    let shop = Vibrator::create("shop", &aether).await.unwrap();
    for units in [1, 2, 7] {
        let question = Wave::builder("stock.reserve").kind(Kind::Query).json(units).build().unwrap();
        let asked = shop.ask_within(question, Duration::from_secs(60)).await;
        assert_eq!(matches!(asked, Err(AskError::Failed { .. })), units == 7, "{asked:?}");
    }
    shop.emit(Wave::builder("nobody.hears").kind(Kind::Command)).await.unwrap();
    shutdown.cancel();
    running.await.unwrap().unwrap();

    let answer = get(&endpoint, "/metrics", "*/*").await;
    assert_eq!((answer.code, &*answer.content_type), (200, "text/plain; version=0.0.4; charset=utf-8"));
    promtool::check(&answer.body);
    let of = values(&answer.body);
    let service =
        |line: &str| of[&format!("aether_service_{line}").replace("S", "service=\"sto\\\"ck\\\\ä\"")];
    assert_eq!(service("received_waves_total{S}"), 3.0);
    assert_eq!(service("waves_total{S,outcome=\"succeeded\"}"), 2.0);
    assert_eq!(service("waves_total{S,outcome=\"rejected\"}"), 1.0);
    assert_eq!(service("handling_waves{S}"), 0.0);
    assert_eq!((of["orders_refused_total"], of["shelves"]), (1.0, 3.0));
    assert_eq!(of["aether_offered_waves_total"], of["aether_delivered_waves_total"]);
    assert_eq!((of["aether_offered_waves_total"], of["aether_dead_letters"]), (3.0, 1.0));
    assert_eq!(of["aether_medium_connected"], 1.0);

    let open = get(&endpoint, "/metrics", "application/openmetrics-text").await;
    assert_eq!(open.content_type, "application/openmetrics-text; version=1.0.0; charset=utf-8");
    assert!(open.body.ends_with("# EOF\n"));
    // The metrics of the process change from scrape to scrape.
    let still = |values: BTreeMap<String, f64>| -> BTreeMap<String, f64> {
        values.into_iter().filter(|(name, _)| !name.starts_with("process_")).collect()
    };
    assert_eq!(still(values(&open.body)), still(of), "the values do not depend on the format");
    endpoint.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn services_of_one_name_are_added_up_and_other_paths_are_not_found() {
    let aether = Aether::local();
    let mut metrics = Metrics::of(&aether);
    for pattern in ["a", "b"] {
        let service = Service::builder("twin").on(pattern, async || {}).build(&aether).await.unwrap();
        metrics = metrics.service(&service);
        let running = tokio::spawn(service.run_until(CancellationToken::new()));
        let asker = Vibrator::create("asker", &aether).await.unwrap();
        asker.emit_wave(pattern, &1).await.unwrap();
        aether.flush().await.unwrap();
        // Handled when the shutdown has let it finish.
        running.abort();
        let _ = running.await;
    }
    let text = metrics.write().unwrap();
    assert_eq!(text.matches("aether_service_received_waves_total{").count(), 1, "{text}");
    let endpoint = metrics.serve(([127, 0, 0, 1], 0).into()).await.unwrap();
    assert_eq!(get(&endpoint, "/", "*/*").await.code, 404);
    assert_eq!(get(&endpoint, "/readyz", "*/*").await.body, "ready\n");
    aether.close().await.unwrap();
    let closed = get(&endpoint, "/readyz", "*/*").await;
    assert_eq!((closed.code, closed.body.as_str()), (503, "not ready: the medium is not connected\n"));
    let closed = get(&endpoint, "/readyz", "application/json").await;
    assert_eq!((closed.code, closed.content_type.as_str()), (503, "application/json"));
    let json = r#"{"ready":false,"reasons":[{"code":"not_connected","text":"the medium is not connected"}]}"#;
    assert_eq!(closed.body, json);
    assert_eq!(get(&endpoint, "/livez", "*/*").await.code, 200);
    let address = endpoint.address();
    let taken = Metrics::of(&aether).serve(address).await.unwrap_err();
    assert!(taken.to_string().contains(&address.to_string()), "{taken}");
    endpoint.close().await;
    assert!(std::net::TcpStream::connect(address).is_err(), "it no longer listens");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_consumer_has_given_up_is_in_the_metrics_of_its_process() {
    let folder = tempfile::tempdir().unwrap();
    let log = Log::builder(folder.path()).channels("jobs.>", Durability::Stored).unwrap().open().unwrap();
    let aether = log.connect(aether::builder().url("local:")).await.unwrap();
    let endpoint = Metrics::of(&aether).serve(([127, 0, 0, 1], 0).into()).await.unwrap();
    promtool::check(&get(&endpoint, "/metrics", "*/*").await.body);
    let shop = aether.emitter("shop").unwrap();
    let once =
        ConsumerOptions::default().max_attempts(NonZeroU32::MIN).pauses(Duration::ZERO, Duration::ZERO);
    let billing = log.consumer("billing", "jobs.>", once).unwrap();
    for job in 1..=3 {
        shop.emit_wave("jobs.run", &job).await.unwrap();
        billing.receive().await.unwrap().nack("no ink");
    }
    // Giving up happens while the next one is waited for, which is weaker and so comes last.
    shop.emit(Wave::builder("jobs.run").amplitude(0.1)).await.unwrap();
    billing.receive().await.unwrap().ack().await.unwrap();
    let text = get(&endpoint, "/metrics", "*/*").await.body;
    promtool::check(&text);
    assert_eq!(values(&text)["aether_durable_given_up_waves_total{consumer=\"billing\"}"], 3.0, "{text}");
    endpoint.close().await;
}

/// The owner of a name can let it lead to this machine after a page was loaded.
#[tokio::test(flavor = "multi_thread")]
async fn a_page_that_has_led_its_name_to_this_machine_reads_nothing() {
    let endpoint = Metrics::of(&Aether::local()).serve(([127, 0, 0, 1], 0).into()).await.unwrap();
    for path in ["/metrics", "/readyz", "/livez"] {
        for host in ["evil.example", "evil.example:9464"] {
            let answer = get_of(&endpoint, host, path, "application/json").await;
            assert_eq!(answer.code, 403, "{path} of {host}: {}", answer.body);
        }
        for host in ["localhost:9464", "127.0.0.1", "[::1]:9464"] {
            assert_eq!(get_of(&endpoint, host, path, "*/*").await.code, 200, "{path} of {host}");
        }
    }
    endpoint.close().await;
}
