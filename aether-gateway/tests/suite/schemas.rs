//! The answers of the API, against its description: the views with something in them.

use aether_conformance::NatsServer;
use aether_core::{Aether, Kind, Vibrator, Wave};
use aether_gateway::GatewayOptions;
use aether_service::Service;
use serde_json::{Value, json};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use crate::accounts::{line, status, store};
use crate::api::{PATIENCE, heard, request, say, socket};
use crate::support::{self, Running};

/// The description of the API.
pub(crate) struct Described(Value);

impl Described {
    pub(crate) async fn by(running: &Running) -> Self {
        Self(serde_json::from_str(&running.get("/openapi.json").await.body).unwrap())
    }

    /// Whether a value matches a part of the description.
    fn check(&self, mut schema: Value, value: &Value, about: &str) {
        schema["components"] = self.0["components"].clone();
        let errors: Vec<_> = jsonschema::validator_for(&schema)
            .unwrap()
            .iter_errors(value)
            .map(|error| format!("{}: {error}", error.instance_path()))
            .collect();
        assert!(errors.is_empty(), "{about}: {errors:?}");
    }

    fn check_component(&self, name: &str, value: &Value) {
        self.check(json!({ "$ref": format!("#/components/schemas/{name}") }), value, name);
    }

    /// Asks for a path, and checks the answer.
    pub(crate) async fn get(&self, running: &Running, path: &str) -> Value {
        self.get_as(running, path, path.split('?').next().unwrap()).await
    }

    /// Asks for a path, and checks the answer as one of a path with parameters.
    pub(crate) async fn get_as(&self, running: &Running, path: &str, described: &str) -> Value {
        let answer = running.get(path).await;
        let value = serde_json::from_str(&answer.body).unwrap();
        let response = &self.0["paths"][described]["get"]["responses"][answer.code.to_string()];
        assert_eq!(answer.code, 200, "{path}: {}", answer.body);
        self.check(response["content"]["application/json"]["schema"].clone(), &value, path);
        value
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn status_and_accounts_of_other_processes_are_as_described() {
    let server = NatsServer::start().await.unwrap();
    let aether = aether::connect(&server.url()).await.unwrap();
    let running = support::run(&aether, GatewayOptions::default()).await;
    let described = Described::by(&running).await;
    let (_elsewhere, _stock) = store(&server).await;
    let has_lost = |line: &Value| line["inboxes"]["shed"]["full"] == 8;
    status(&running, |accounts| line(accounts, "programs").is_some_and(has_lost)).await;
    let all = described.get(&running, "/api/accounts").await;
    let inboxes =
        all.as_array().unwrap().iter().map(|it| it["account"]["inboxes"].as_array().map_or(0, Vec::len));
    assert!(inboxes.sum::<usize>() > 0, "{all}");
    let status = described.get(&running, "/api/status").await;
    assert!(!status["accounts"]["programs"].as_array().unwrap().is_empty());
    assert!(!status["observed"]["channels"].as_array().unwrap().is_empty());
    let overview = described.get(&running, "/api/overview").await;
    assert!(!overview["losses"]["places"].as_array().unwrap().is_empty(), "{overview}");
    running.stop().await;
}

#[tokio::test]
async fn incidents_and_findings_are_as_described() {
    let mut server = NatsServer::start().await.unwrap();
    let aether = aether::connect(&server.url()).await.unwrap();
    let mut running = support::run_stopped(&aether, GatewayOptions::default()).await;
    let described = Described::by(&running).await;
    let shop = Vibrator::create("shop", &aether).await.unwrap();
    // A finding: one channel causes the other.
    for _ in 0..50 {
        let created = shop.emit(Wave::from_bytes("orders.created", "").unwrap()).await.unwrap();
        shop.emit(Wave::builder("orders.paid").cause(shop.id_of(&created)).build().unwrap()).await.unwrap();
    }
    // They are there before any time passes.
    running.observes(100).await;
    let insight = running.insight.clone().unwrap();
    while insight.findings().is_empty() {
        running.looked().await;
    }
    let findings = described.get(&running, "/api/findings").await;
    assert!(!findings["findings"].as_array().unwrap().is_empty());
    // An incident: the connection is lost.
    server.kill().await.unwrap();
    while insight.incidents().is_empty() {
        running.looked().await;
    }
    let incidents = described.get(&running, "/api/incidents").await;
    assert_eq!(incidents["incidents"][0]["cause"], "disconnected", "{incidents}");
    described.get(&running, "/api/status").await;
    described.get(&running, "/api/overview").await;
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn dead_letters_and_channels_of_the_history_are_as_described() {
    let aether = Aether::local();
    let running = support::run(&aether, GatewayOptions::default()).await;
    let described = Described::by(&running).await;
    let closed = async || Err::<(), _>(std::io::Error::other("the bank is closed"));
    let till =
        Service::builder("till").on("orders.paid", closed).with_letters().build(&aether).await.unwrap();
    let stop = CancellationToken::new();
    let serving = tokio::spawn(till.run_until(stop.clone()));
    let shop = aether.emitter("shop").unwrap();
    let command =
        Wave::builder("orders.paid").kind(Kind::Command).key("7").metadata("a", "b").text("3").build();
    shop.emit(command.unwrap()).await.unwrap();
    let listed = async {
        loop {
            let dead = described.get(&running, "/api/dead").await;
            if dead["letters"].as_array().is_some_and(|letters| !letters.is_empty()) {
                return dead;
            }
        }
    };
    let dead = timeout(PATIENCE, listed).await.expect("a letter");
    let letter = &dead["letters"][0];
    assert_eq!((&letter["key"], &letter["service"]), (&"7".into(), &"till".into()), "{dead}");
    let id = letter["id"].as_str().unwrap();
    described.get_as(&running, &format!("/api/dead/{id}"), "/api/dead/{id}").await;
    let history = described.get(&running, "/api/history?channels=true").await;
    assert!(!history["channels"].as_array().unwrap().is_empty(), "{history}");
    let overview = described.get(&running, "/api/overview").await;
    let services = described.get(&running, "/api/services").await;
    assert_eq!(overview["vibrators"], services["vibrators"].as_array().unwrap().len());
    stop.cancel();
    serving.await.unwrap().unwrap();
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn every_form_of_a_wave_is_as_described() {
    let aether = Aether::local();
    let running = support::run(&aether, GatewayOptions::default()).await;
    let described = Described::by(&running).await;
    let mut client = socket(&running).await;
    say(&mut client, json!({ "op": "subscribe", "id": 1, "filter": { "pattern": "forms.*" } })).await;
    heard(&mut client, "done").await;
    let shop = Vibrator::create("shop", &aether).await.unwrap();
    let cause = shop.emit(Wave::from_bytes("other", "").unwrap()).await.unwrap();
    let base = || Wave::builder("forms.a");
    let long = "x".repeat(20_000);
    let waves = [
        base().json(json!({ "n": [1, null] })),
        base().text("sch\u{f6}n").kind(Kind::Broadcast).amplitude(0.9),
        base().bytes(vec![0, 255]).half_life(std::time::Duration::from_secs(8)).key("k"),
        base().text(long).cause(shop.id_of(&cause)).metadata("x", "y"),
        base(),
    ];
    let number = waves.len();
    for wave in waves {
        shop.emit(wave.build().unwrap()).await.unwrap();
    }
    let mut seen = Vec::new();
    while seen.len() < number {
        seen.extend(heard(&mut client, "waves").await["waves"].as_array().unwrap().clone());
    }
    seen.iter().for_each(|wave| described.check_component("Wave", wave));
    for (at, form) in ["json", "text", "base64", "cut"].into_iter().enumerate() {
        assert!(seen[at].get(form).is_some(), "{form}: {}", seen[at]);
    }
    let (code, emitted) = request(&running, "POST /waves/forms.b HTTP/1.1", "1").await;
    assert_eq!(code, 202);
    let schema = &described.0["paths"]["/waves/{channel}"]["post"]["responses"]["202"];
    let emitted = serde_json::from_str(&emitted).unwrap();
    described.check(schema["content"]["application/json"]["schema"].clone(), &emitted, "emitted");
    let (_, refused) = request(&running, "POST /waves/a..b HTTP/1.1", "1").await;
    described.check_component("Problem", &serde_json::from_str(&refused).unwrap());
    running.stop().await;
}
