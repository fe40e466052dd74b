//! The API of the gateway: its description, waves over HTTP and WebSocket, tokens, and clients that do not read.

use std::time::Duration;

use aether_core::{Aether, Vibrator, Wave};
use aether_gateway::{Access, FieldOptions, GatewayOptions};
use aether_service::{CancellationToken, Service, Typed};
use futures_util::{SinkExt as _, StreamExt as _};
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_tungstenite::tungstenite::client::IntoClientRequest as _;
use tokio_tungstenite::tungstenite::{Error, Message};
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream, connect_async};

use crate::support::{self, Running};

pub(crate) const PATIENCE: Duration = Duration::from_secs(120);

/// The code of the answer and its body.
pub(crate) async fn request(running: &Running, head: &str, body: &str) -> (u16, String) {
    let mut stream = TcpStream::connect(running.address).await.unwrap();
    let (address, length) = (running.address, body.len());
    let text = format!("{head}\r\ncontent-length: {length}\r\nhost: {address}\r\n\r\n{body}");
    // The server may answer and close before it has read everything.
    let _ = stream.write_all(text.as_bytes()).await;
    let mut answer = String::new();
    let _ = timeout(PATIENCE, stream.read_to_string(&mut answer)).await.unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap_or_else(|| panic!("{answer:?}"));
    (head[9..12].parse().unwrap(), body.to_owned())
}

pub(crate) type Socket = WebSocketStream<MaybeTlsStream<TcpStream>>;

pub(crate) async fn socket(running: &Running) -> Socket {
    connect_async(format!("ws://{}/ws", running.address)).await.unwrap().0
}

pub(crate) async fn say(socket: &mut Socket, message: Value) {
    socket.send(Message::Text(message.to_string().into())).await.unwrap();
}

/// The next message of this kind.
pub(crate) async fn heard(socket: &mut Socket, op: &str) -> Value {
    let next = async {
        loop {
            if let Message::Text(text) = socket.next().await.expect("the connection is open").unwrap() {
                let message: Value = serde_json::from_str(&text).unwrap();
                if message["op"] == op {
                    return message;
                }
            }
        }
    };
    timeout(PATIENCE, next).await.unwrap_or_else(|_| panic!("no {op}"))
}

#[tokio::test(flavor = "multi_thread")]
async fn the_description_is_valid_and_every_route_of_it_is_there() {
    let running = support::run(&Aether::local(), GatewayOptions::default()).await;
    let document: Value = serde_json::from_str(&running.get("/openapi.json").await.body).unwrap();
    let schema =
        serde_json::from_str(include_str!("../../../docs/protocol/openapi/openapi-3.1.json")).unwrap();
    let published = jsonschema::validator_for(&schema).unwrap();
    let errors: Vec<_> = published.iter_errors(&document).map(|error| error.to_string()).collect();
    assert!(errors.is_empty(), "{errors:?}");

    // The document against the routes: a path that is not there has the 404 that names the document.
    let paths = document["paths"].as_object().unwrap();
    for (path, item) in paths {
        let path = path
            .replace("{path}", "app.js")
            .replace("{channel}", "a.b")
            .replace("{name}", "none")
            .replace("{store}", "1f")
            .replace("{consumer}", "mailer")
            .replace("{change}", "pause")
            .replace("{key}", "k");
        // An answer to `/waves` goes on, unless its filter is refused.
        let path =
            if path == "/waves" { "/waves?kind=none".to_owned() } else { path.replace("{id}", "1f-1") };
        for method in ["get", "post", "put", "delete"] {
            let head = format!("{} {path} HTTP/1.1", method.to_uppercase());
            let (code, body) = request(&running, &format!("{head}\r\nconnection: close"), "").await;
            assert!(!body.contains("/openapi.json describes every path"), "{path}: {body}");
            let is_described = item.get(method).is_some();
            assert_eq!(code == 405, !is_described, "{method} {path}: {code} {body}");
            if is_described && code != 400 && code != 426 {
                assert!(item[method]["responses"].get(code.to_string()).is_some(), "{method} {path}: {code}");
            }
        }
    }
    // The routes against the document: each that the program was built with.
    let sources = [
        include_str!("../../src/http.rs"),
        include_str!("../../src/assets.rs"),
        include_str!("../../src/letters.rs"),
        include_str!("../../src/queues.rs"),
        include_str!("../../src/consumers.rs"),
        include_str!("../../src/waves.rs"),
        include_str!("../../src/field/routes.rs"),
    ];
    let mut routes = 0;
    for route in sources.iter().flat_map(|source| source.split(".route(\"").skip(1)) {
        let path = route.split('"').next().unwrap().replace("{*", "{");
        assert!(paths.contains_key(&path), "{path} is not described");
        routes += 1;
    }
    assert_eq!(routes, paths.len());
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_views_have_what_the_description_requires() {
    let aether = Aether::local();
    let mut running = support::run(&aether, GatewayOptions::default()).await;
    let shop = Vibrator::create("shop", &aether).await.unwrap();
    let stock = Vibrator::create("stock", &aether).await.unwrap();
    stock.resonate_on("orders.*").await.unwrap();
    shop.emit_wave("orders.created", &1).await.unwrap();
    for plumbing in ["aether.descriptions.1f", "field.home.beats"] {
        shop.emit_wave(plumbing, &1).await.unwrap();
    }
    running.observes(3).await;
    let document: Value = serde_json::from_str(&running.get("/openapi.json").await.body).unwrap();
    for name in ["overview", "services", "ledger", "map", "history", "log", "durable"] {
        let answer = running.get(&format!("/api/{name}")).await;
        let body: Value = serde_json::from_str(&answer.body).unwrap();
        let mut schema =
            document["paths"][format!("/api/{name}")]["get"]["responses"]["200"]["content"]["application/json"]
                ["schema"]
                .clone();
        schema["components"] = document["components"].clone();
        let errors: Vec<_> = jsonschema::validator_for(&schema)
            .unwrap()
            .iter_errors(&body)
            .map(|error| error.to_string())
            .collect();
        assert!(errors.is_empty(), "{name}: {errors:?}");
    }
    let map: Value = serde_json::from_str(&running.get("/api/map").await.body).unwrap();
    assert_eq!((&map["emits"][0]["service"], &map["hears"][0]["service"]), (&"shop".into(), &"stock".into()));
    assert_eq!(map["channels"].as_array().unwrap().len(), 1, "{map}");
    let all: Value = serde_json::from_str(&running.get("/api/map?all=1").await.body).unwrap();
    assert_eq!(all["channels"].as_array().unwrap().len(), 3, "{all}");
    assert_eq!(running.get("/api/map?all=x").await.code, 400);
    assert_eq!(running.get("/api/history?last=x").await.code, 400);
    assert_eq!(running.get("/api/log?last=x").await.code, 400);
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_request_of_a_wave_is_found_by_each_of_its_waves() {
    let aether = Aether::local();
    let mut running = support::run(&aether, GatewayOptions::default()).await;
    let shop = aether.emitter("shop").unwrap();
    let created = shop.emit_wave("orders.created", &1).await.unwrap();
    let id = shop.id_of(&created);
    let paid = Wave::builder("orders.paid").cause(id.clone()).build().unwrap();
    let paid = shop.id_of(&shop.emit(paid).await.unwrap());
    shop.emit_wave("orders.other", &2).await.unwrap();
    running.observes(3).await;
    let document: Value = serde_json::from_str(&running.get("/openapi.json").await.body).unwrap();
    let schema = &document["paths"]["/api/waves/{id}/chain"]["get"]["responses"]["200"]["content"];
    let schema = jsonschema::validator_for(&schema["application/json"]["schema"]).unwrap();
    for asked in [&id, &paid] {
        let path = format!("/api/waves/{}/chain", asked.to_string().replace('/', "%2F"));
        let body: Value = serde_json::from_str(&running.get(&path).await.body).unwrap();
        assert!(schema.is_valid(&body), "{body}");
        let waves = body["waves"].as_array().unwrap();
        let channels: Vec<_> = waves.iter().map(|wave| wave["channel"].as_str().unwrap()).collect();
        assert_eq!(channels, ["orders.created", "orders.paid"]);
        assert_eq!((&waves[1]["cause"], &body["root"]), (&id.to_string().into(), &id.to_string().into()));
    }
    assert_eq!(running.get("/api/waves/nobody@1%2F1/chain").await.code, 404);
    assert_eq!(running.get("/api/waves/nobody/chain").await.code, 400);
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wave_is_posted_as_json_and_as_an_event_and_a_question_is_answered() {
    let aether = Aether::local();
    let running = support::run(&aether, GatewayOptions::default()).await;
    let mut ear = Vibrator::create("ear", &aether).await.unwrap();
    ear.resonate_on("orders.*").await.unwrap();
    let head = "POST /waves/orders.created?amplitude=0.9&key=7 HTTP/1.1\r\ncontent-type: application/json";
    let (code, body) = request(&running, head, r#"{"n":1}"#).await;
    assert_eq!(code, 202, "{body}");
    let wave = ear.receive().await.unwrap();
    assert_eq!((wave.key(), &wave.payload()[..]), (Some("7"), br#"{"n":1}"#.as_slice()));
    assert_eq!(serde_json::from_str::<Value>(&body).unwrap()["wave"], wave.id().to_string());

    let head = "POST /waves/orders.paid HTTP/1.1\r\ncontent-type: application/cloudevents+json";
    let event = r#"{"specversion":"1.0","id":"5","source":"/till","type":"paid","data":{"sum":3}}"#;
    assert_eq!(request(&running, head, event).await.0, 202);
    let wave = ear.receive().await.unwrap();
    assert_eq!(
        (wave.metadata().value("ce-id"), &wave.payload()[..]),
        (Some("5"), br#"{"sum":3}"#.as_slice())
    );

    let stop = CancellationToken::new();
    let doubler = Service::builder("doubler").on_query("double", async |Typed(n): Typed<u32>| Typed(2 * n));
    let serving = tokio::spawn(doubler.build(&aether).await.unwrap().run_until(stop.clone()));
    let (code, body) =
        request(&running, "POST /waves/double?kind=query&patience_ms=10000 HTTP/1.1", "21").await;
    assert_eq!((code, &serde_json::from_str::<Value>(&body).unwrap()["json"]), (200, &42.into()));
    for (head, body, expected) in [
        ("POST /waves/nobody?kind=query HTTP/1.1", "1", 404),
        ("POST /waves/a..b HTTP/1.1", "1", 400),
        ("POST /waves/a?amplitude=2 HTTP/1.1", "1", 400),
        ("POST /waves/_aether.accounts HTTP/1.1", "1", 400),
        ("POST /waves/a HTTP/1.1\r\norigin: https://evil.example", "1", 403),
        ("GET /waves?pattern=a..b HTTP/1.1", "", 400),
    ] {
        let (code, text) = request(&running, head, body).await;
        assert_eq!(code, expected, "{head}: {text}");
    }
    let (code, _) = request(&running, "POST /waves/a HTTP/1.1", &"x".repeat((1 << 20) + 1)).await;
    assert_eq!(code, 413);
    stop.cancel();
    serving.await.unwrap().unwrap();
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_of_events_has_the_waves_that_match_and_outlives_the_bound_of_a_request() {
    let aether = Aether::local();
    let running = support::run(&aether, GatewayOptions::default()).await;
    let shop = Vibrator::create("shop", &aether).await.unwrap();
    let mut stream = TcpStream::connect(running.address).await.unwrap();
    let head = format!("GET /waves?pattern=orders.* HTTP/1.1\r\nhost: {}\r\n\r\n", running.address);
    stream.write_all(head.as_bytes()).await.unwrap();
    let mut lines = BufReader::new(stream).lines();
    // The first comment confirms that the subscription is open.
    while !lines.next_line().await.unwrap().unwrap().starts_with(": waves follow") {}
    for channel in ["noise", "orders.created"] {
        shop.emit_wave(channel, &"line\nbreak").await.unwrap();
    }
    let data = timeout(PATIENCE, async {
        loop {
            let line = lines.next_line().await.unwrap().expect("the stream goes on");
            if let Some(data) = line.strip_prefix("data: ") {
                return data.to_owned();
            }
        }
    });
    let wave: Value = serde_json::from_str(&data.await.unwrap()).unwrap();
    assert_eq!((&wave["channel"], &wave["json"]), (&"orders.created".into(), &"line\nbreak".into()));
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_socket_watches_hears_emits_and_asks() {
    let aether = Aether::local();
    let running = support::run(&aether, GatewayOptions::default()).await;
    let mut socket = socket(&running).await;
    assert_eq!(heard(&mut socket, "hello").await["needs_token"], false);
    say(&mut socket, json!({ "op": "watch", "view": "overview" })).await;
    let view = heard(&mut socket, "view").await;
    assert_eq!((&view["view"], &view["missed"]), (&"overview".into(), &0.into()));
    say(&mut socket, json!({ "op": "subscribe", "id": 1, "filter": { "pattern": "a.*" } })).await;
    assert_eq!(heard(&mut socket, "done").await["id"], 1);
    let wave = json!({ "channel": "a.b", "json": { "n": 1 } });
    say(&mut socket, json!({ "op": "emit", "id": 2, "wave": wave })).await;
    let (emitted, waves) = (heard(&mut socket, "emitted").await, heard(&mut socket, "waves").await);
    assert_eq!((&waves["waves"][0]["id"], &waves["waves"][0]["json"]["n"]), (&emitted["wave"], &1.into()));
    say(&mut socket, json!({ "op": "ask", "id": 3, "wave": { "channel": "nobody", "kind": "query" } })).await;
    let error = heard(&mut socket, "error").await;
    assert_eq!((&error["id"], &error["reason"]), (&3.into(), &"ask".into()));
    for (message, reason) in [
        (json!({ "op": "dance" }), "json"),
        (json!({ "op": "watch", "view": "moon" }), "view"),
        (json!({ "op": "emit", "id": 4, "wave": { "channel": "a b" } }), "wave"),
        (json!({ "op": "subscribe", "filter": { "pattern": "a..b" } }), "filter"),
        (json!({ "op": "emit", "wave": { "channel": "a", "text": "x".repeat(70_000) } }), "message_size"),
    ] {
        say(&mut socket, message).await;
        assert_eq!(heard(&mut socket, "error").await["reason"], reason);
    }
    let status: Value = serde_json::from_str(&running.get("/api/status").await.body).unwrap();
    assert_eq!(
        (&status["clients"]["clients"], &status["clients"]["refused"]["view"]),
        (&1.into(), &1.into())
    );
    running.stop().await;
    let ended = async { while let Some(Ok(_)) = socket.next().await {} };
    timeout(PATIENCE, ended).await.expect("the gateway ends the stream");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_does_not_read_slows_nobody_and_is_told_what_it_missed() {
    let aether = Aether::local();
    let running = support::run(&aether, GatewayOptions::default()).await;
    let (mut slow, mut good) = (socket(&running).await, socket(&running).await);
    for socket in [&mut slow, &mut good] {
        say(socket, json!({ "op": "subscribe", "id": 1, "filter": { "pattern": "flood" } })).await;
        heard(socket, "done").await;
    }
    let shop = Vibrator::create("shop", &aether).await.unwrap();
    // More than the queue of a client and the buffers of its connection take.
    let (waves, text) = (8000_u64, "x".repeat(4000));
    let reading = async {
        let (mut read, mut missed) = (0, 0);
        while read + missed < waves {
            let message = heard(&mut good, "waves").await;
            missed += message["missed"].as_u64().unwrap();
            read += message["waves"].as_array().unwrap().len() as u64;
        }
        (read, missed)
    };
    let emitting = async {
        for _ in 0..waves {
            shop.emit_wave("flood", &text).await.unwrap();
        }
    };
    let ((read, missed), ()) =
        timeout(2 * PATIENCE, async { tokio::join!(reading, emitting) }).await.unwrap();
    assert_eq!(read + missed, waves, "each is read or counted");
    let (mut told, mut got) = (0, 0);
    while told + got < waves {
        let message = heard(&mut slow, "waves").await;
        told += message["missed"].as_u64().unwrap();
        got += message["waves"].as_array().unwrap().len() as u64;
    }
    assert!(told > 0 && told + got == waves, "{told} + {got}");
    let status: Value = serde_json::from_str(&running.get("/api/status").await.body).unwrap();
    assert_eq!(status["clients"]["missed_waves"], told + missed);
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn waves_need_a_token_where_there_is_one_and_pages_of_others_never_connect() {
    let access = Access::default().waves_token("s3cret").unwrap();
    let options = GatewayOptions::default().fields(FieldOptions::default().access(access));
    let running = support::run(&Aether::local(), options).await;
    for (head, code) in [
        ("POST /waves/a HTTP/1.1", 401),
        ("POST /waves/a HTTP/1.1\r\nauthorization: Bearer guess", 401),
        ("POST /waves/a HTTP/1.1\r\nauthorization: Bearer s3cret", 202),
        ("GET /waves HTTP/1.1", 401),
        ("GET /api/dead HTTP/1.1", 401),
        ("DELETE /api/dead/1f-1 HTTP/1.1", 401),
        ("GET /api/queues/1f/mailer HTTP/1.1", 401),
        ("DELETE /api/dead/1f-1 HTTP/1.1\r\nauthorization: Bearer s3cret", 404),
        ("GET /api/overview HTTP/1.1", 401),
        ("GET /api/overview HTTP/1.1\r\nauthorization: Bearer s3cret", 200),
        ("GET /waves HTTP/1.1\r\nauthorization: Bearer s3cret\r\norigin: https://evil.example", 403),
    ] {
        assert_eq!(request(&running, head, "").await.0, code, "{head}");
    }
    let mut socket = socket(&running).await;
    assert_eq!(heard(&mut socket, "hello").await["needs_token"], true);
    say(&mut socket, json!({ "op": "emit", "wave": { "channel": "a" } })).await;
    assert_eq!(heard(&mut socket, "error").await["reason"], "no_token");
    say(&mut socket, json!({ "op": "token", "token": "s3cret" })).await;
    heard(&mut socket, "done").await;
    say(&mut socket, json!({ "op": "emit", "wave": { "channel": "a" } })).await;
    heard(&mut socket, "emitted").await;

    let mut foreign = format!("ws://{}/ws", running.address).into_client_request().unwrap();
    foreign.headers_mut().insert("origin", "https://evil.example".parse().unwrap());
    let Err(Error::Http(refused)) = connect_async(foreign).await else { panic!("it connected") };
    assert_eq!(refused.status(), 403);
    running.stop().await;
}
