//! Descriptions: what a service tells about itself, as AsyncAPI, and what a directory of services takes from strangers.

use std::sync::{Arc, LazyLock};
use std::time::Duration;

use aether_conformance::NatsServer;
use aether_core::{Aether, Wave};
use aether_service::description::{Description, DescriptionError, Directory, asyncapi, channel_of};
use aether_service::schemars::{self, JsonSchema};
use aether_service::{CancellationToken, Json, Service, ServiceError, Typed};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tokio::time::Instant;

use crate::service::stage::LONG;

/// An order.
#[derive(Serialize, Deserialize, JsonSchema)]
struct Order {
    id: String,
    #[serde(default)]
    lines: Vec<Line>,
    /// A type that contains itself.
    parent: Option<Box<Order>>,
}

#[derive(Serialize, Deserialize, JsonSchema)]
struct Line {
    sku: String,
    count: u32,
}

#[derive(Serialize, Deserialize, JsonSchema)]
#[serde(tag = "outcome")]
enum Outcome {
    Taken { number: u64 },
    Refused { reason: String },
}

async fn take(Typed(order): Typed<Order>) -> Typed<Outcome> {
    Typed(Outcome::Refused { reason: order.id })
}
async fn untyped(Json(_): Json<Value>) {}
async fn anything(_: Wave) {}

fn shop() -> aether_service::ServiceBuilder {
    Service::builder("shop")
        .group("shop")
        .on_query("orders.take", take)
        .on("orders.*.changed", untyped)
        .on("audit.>", anything)
        .emits::<Order>("orders.taken")
        .describe("1.2.3", "Takes orders")
}

/// The published JSON schema of AsyncAPI 3.1, which takes a second to read.
static PUBLISHED: LazyLock<jsonschema::Validator> = LazyLock::new(|| {
    let schema = include_str!("../../../../../docs/protocol/asyncapi/asyncapi-3.1.0.json");
    jsonschema::validator_for(&serde_json::from_str(schema).unwrap()).unwrap()
});

fn mistakes(document: &Value) -> Vec<String> {
    let mut mistakes: Vec<_> =
        PUBLISHED.iter_errors(document).map(|error| format!("{}: {error}", error.instance_path())).collect();
    // The published schema does not follow references inside of the document.
    check_references(document, document, &mut mistakes);
    mistakes
}

fn check_references(value: &Value, document: &Value, mistakes: &mut Vec<String>) {
    match value {
        Value::Object(members) => {
            if let Some(Value::String(reference)) = members.get("$ref")
                && reference.strip_prefix('#').is_none_or(|path| document.pointer(path).is_none())
            {
                mistakes.push(format!("{reference} leads nowhere"));
            }
            members.values().for_each(|member| check_references(member, document, mistakes));
        }
        Value::Array(items) => items.iter().for_each(|item| check_references(item, document, mistakes)),
        _ => {}
    }
}

#[tokio::test]
async fn a_service_describes_its_handlers_as_valid_asyncapi() {
    let service = shop().build(&Aether::local()).await.unwrap();
    let document = service.asyncapi();
    assert_eq!(mistakes(&document), [""; 0], "{document:#}");

    assert_eq!(
        document["info"],
        json!({ "title": "shop", "version": "1.2.3", "description": "Takes orders" })
    );
    let wild = &document["channels"]["orders.token1.changed"];
    assert_eq!(
        (&wild["address"], &wild["x-aether-pattern"]),
        (&json!("orders.{token1}.changed"), &json!("orders.*.changed"))
    );
    assert_eq!(document["channels"]["audit.rest"]["address"], "audit.{rest}");
    let operation = &document["operations"]["shop.receive.orders.take"];
    assert_eq!(
        (&operation["action"], &operation["bindings"]["nats"]["queue"]),
        (&json!("receive"), &json!("shop"))
    );
    let message =
        |reference: &Value| document.pointer(&reference["$ref"].as_str().unwrap()[1..]).unwrap().clone();
    let question = message(&operation["messages"][0]);
    assert_eq!(question["payload"], json!({ "$ref": "#/components/schemas/Order" }));
    let answer = message(&operation["reply"]["messages"][0]);
    assert_eq!(answer["payload"]["$ref"], "#/components/schemas/Outcome");
    assert_eq!(document["components"]["schemas"]["Order"]["description"], "An order.");
    // Handlers without a schema take anything of their media type, or anything at all.
    let changed = message(&document["operations"]["shop.receive.orders.token1.changed"]["messages"][0]);
    assert_eq!((changed.get("payload"), &changed["contentType"]), (None, &json!("application/json")));
    let audited = message(&document["operations"]["shop.receive.audit.rest"]["messages"][0]);
    assert_eq!((audited.get("payload"), audited.get("contentType")), (None, None));
    assert_eq!(document["operations"]["shop.send.orders.taken"]["action"], "send");
    // The channel of the description itself is none of the service's own.
    assert_eq!(document["operations"].as_object().unwrap().len(), 4);
}

#[test]
fn a_document_with_a_mistake_is_not_valid() {
    let description: Description =
        serde_json::from_value(json!({ "service": "a", "version": "1", "operations": [] })).unwrap();
    let valid = asyncapi("a", "1", "", &[description]);
    assert_eq!(mistakes(&valid), [""; 0]);
    for (path, wrong) in [
        ("asyncapi", json!("2.0.0")),
        ("info", json!({ "title": "a" })),
        ("operations", json!({ "x": { "action": "steal" } })),
    ] {
        let mut document = valid.clone();
        document[path] = wrong;
        assert!(!mistakes(&document).is_empty(), "{path}");
    }
}

#[tokio::test]
async fn a_service_that_is_too_large_to_be_described_is_refused_only_if_it_has_to_answer() {
    let long = "x".repeat(150);
    let many = || {
        (0..1500)
            .fold(Service::builder("many"), |many, number| many.on(format!("a{number}.{long}"), anything))
    };
    drop(many().build(&Aether::local()).await.unwrap());
    let refused = many().describe("1", "").build(&Aether::local()).await.unwrap_err();
    assert!(matches!(refused, ServiceError::Description(DescriptionError::TooLarge { .. })), "{refused}");
}

#[tokio::test]
async fn what_a_service_emits_must_have_a_valid_pattern() {
    let refused = shop().emits::<u8>("a..b").build(&Aether::local()).await.unwrap_err();
    assert!(matches!(refused, ServiceError::Emits { ref given, .. } if given == "a..b"), "{refused}");
    let refused = shop().describe("1", &"x".repeat(2000)).build(&Aether::local()).await.unwrap_err();
    assert!(matches!(refused, ServiceError::Description(_)), "{refused}");
}

/// Waits until the roster of a directory shows this many services that answer.
async fn announced(aether: &Aether, services: usize) {
    let mut roster = aether.roster().await.unwrap();
    let answering = |roster: &aether_core::presence::Roster| {
        let heard = roster.vibrators().into_iter().flat_map(|vibrator| vibrator.heard);
        heard.filter(|heard| heard.pattern.as_str().starts_with("aether.descriptions.")).count()
    };
    let seen = async {
        while answering(&roster) < services {
            roster.changed().await;
        }
    };
    tokio::time::timeout(LONG, seen).await.expect("they announce themselves");
}

#[tokio::test]
async fn a_directory_unites_the_services_of_a_medium_and_refuses_strangers_nonsense() {
    let server = NatsServer::start().await.unwrap();
    let connect = async || aether::connect(&server.url()).await.unwrap();
    let (here, there, elsewhere) = (connect().await, connect().await, connect().await);
    let shutdown = CancellationToken::new();
    let mut running = Vec::new();
    for aether in [&here, &there] {
        // Two instances of one service.
        running.push(tokio::spawn(shop().build(aether).await.unwrap().run_until(shutdown.clone())));
    }
    let stock =
        Service::builder("stock").on_query("stock.take", take).describe("2", "").build(&there).await.unwrap();
    running.push(tokio::spawn(stock.run_until(shutdown.clone())));
    let evil = |schema: Value| {
        json!({ "wall_micros": 0, "description": { "service": "evil", "version": "1", "operations": [{
            "action": "receive", "pattern": "x", "message": { "schema": schema },
        }] } })
    };
    let answers = [
        evil(json!({ "$ref": "http://evil.example/schema.json" })),
        json!("nonsense"),
        json!("x".repeat(400 << 10)),
    ];
    let mut strangers = Service::builder("evil");
    for (id, answer) in answers.into_iter().enumerate() {
        let answer = Arc::new(answer);
        strangers = strangers.on_query(channel_of(id as u64), move || {
            let answer = Arc::clone(&answer);
            async move { Json((*answer).clone()) }
        });
    }
    running.push(tokio::spawn(strangers.build(&elsewhere).await.unwrap().run_until(shutdown.clone())));

    let watching = connect().await;
    let directory = Directory::open(&watching, watching.emitter("watching").unwrap()).await.unwrap();
    announced(&watching, 6).await;
    // A service that a busy machine delays for longer than the patience of the directory is silent, and is asked again.
    let complete = async {
        loop {
            let listing = directory.read().await;
            if listing.services.len() >= 3 && listing.refused.invalid + listing.refused.too_large >= 3 {
                break listing;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    let listing = tokio::time::timeout(LONG, complete).await.expect("all of them answer");
    let services: Vec<_> =
        listing.services.iter().map(|service| service.description.service.as_str()).collect();
    assert_eq!(services, ["shop", "shop", "stock"]);
    assert_eq!((listing.refused.invalid, listing.refused.too_large, listing.refused.left_out), (2, 1, 0));
    // One machine, one clock: what differs is the way.
    for service in &listing.services {
        assert!(service.clock_offset_micros.unsigned_abs() <= service.round_trip_micros, "{service:?}");
    }
    // Strangers are not asked again at once.
    assert_eq!(directory.read().await.refused, listing.refused);

    let document = asyncapi("all", "1", "", &listing.descriptions());
    assert_eq!(mistakes(&document), [""; 0], "{document:#}");
    assert_eq!(document["info"]["x-aether-services"], json!(["shop 1.2.3", "stock 2"]));
    // Both have a type of this name, and neither gets the other's.
    let schemas = document["components"]["schemas"].as_object().unwrap();
    assert!(schemas.contains_key("shop.Order") && schemas.contains_key("stock.Order"));
    assert_eq!(document["operations"].as_object().unwrap().len(), 5);

    shutdown.cancel();
    for service in running {
        service.await.unwrap().unwrap();
    }
}

/// A service is there before it handles anything. One that is asked too early is asked again.
#[tokio::test(start_paused = true)]
async fn a_service_that_is_slow_to_start_is_asked_again_and_one_that_never_answers_ever_more_rarely() {
    let aether = Aether::local();
    let service = Service::builder("slow").on_query("slow.ask", async || {});
    let service = service.describe("1", "").build(&aether).await.unwrap();
    let directory = Directory::open(&aether, aether.emitter("watching").unwrap()).await.unwrap();
    announced(&aether, 1).await;
    let mut asked = Vec::new();
    for _ in 0..7 {
        let started = Instant::now();
        let listing = directory.read().await;
        assert!(listing.services.is_empty());
        assert_eq!(listing.refused.silent as usize, asked.len() + 1);
        directory.rested().await;
        asked.push(started.elapsed().as_secs());
    }
    // Two seconds of patience, and the rest.
    assert_eq!(asked, [3, 4, 6, 10, 18, 32, 32]);
    let shutdown = CancellationToken::new();
    let running = tokio::spawn(service.run_until(shutdown.clone()));
    assert_eq!(directory.read().await.services.len(), 1);
    shutdown.cancel();
    running.await.unwrap().unwrap();
}
