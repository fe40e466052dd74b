//! A field over plain HTTP: entries, one entry, and server-sent events.

use std::io::{BufRead as _, BufReader};
use std::sync::mpsc;
use std::time::Duration;

use aether_core::Aether;
use aether_field::Field;
use aether_gateway::{Access, FieldOptions, GatewayOptions, SecurityLimits};
use serde_json::{Value, json};

use crate::field::client::{PATIENCE, Tab};
use crate::field::rights::private;
use crate::field::server::Server;

/// An answer: its code, its headers, and its text.
struct Answer {
    code: u16,
    headers: ureq::http::HeaderMap,
    text: String,
}

impl Answer {
    fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }

    fn json(&self) -> Value {
        serde_json::from_str(&self.text).unwrap_or_else(|_| panic!("{}", self.text))
    }

    fn reason(&self) -> (u16, String) {
        (self.code, self.json()["reason"].as_str().unwrap().to_owned())
    }
}

/// Sends a request with these headers and this body.
async fn ask(server: &Server, method: &str, path: &str, headers: &[(&str, &str)], body: &str) -> Answer {
    let mut request =
        ureq::http::Request::builder().method(method).uri(format!("http://{}{path}", server.address));
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let request = request.body(body.to_owned()).unwrap();
    let send = move || {
        let agent =
            ureq::Agent::config_builder().http_status_as_error(false).allow_non_standard_methods(true);
        let mut answer = agent.build().new_agent().run(request).unwrap();
        let text = answer.body_mut().read_to_string().unwrap();
        Answer { code: answer.status().as_u16(), headers: answer.headers().clone(), text }
    };
    tokio::task::spawn_blocking(send).await.unwrap()
}

async fn server() -> (Aether, Server) {
    let aether = Aether::local();
    let server = Server::start(&aether, FieldOptions::default()).await;
    (aether, server)
}

#[tokio::test(flavor = "multi_thread")]
async fn entries_are_lines_of_json_and_an_unchanged_field_sends_none() {
    let (_aether, server) = server().await;
    for number in 0..3000 {
        server.field.set(&format!("room/{number}"), &json!({ "n": number })).unwrap();
    }
    server.field.add("visits", 7).unwrap();
    server.field.insert("tags", "new").unwrap();
    let all = ask(&server, "GET", "/field/home/entries", &[], "").await;
    assert_eq!((all.code, all.header("content-type")), (200, "application/x-ndjson"));
    assert_eq!(all.text.lines().count(), 3002);
    let last: Vec<Value> =
        all.text.lines().skip(3000).map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(
        (&last[0]["counter"], &last[0]["sum"], &last[1]["member"]),
        (&json!("visits"), &json!(7), &json!("new"))
    );
    let some = ask(&server, "GET", "/field/home/entries?pattern=room/1*&pattern=visits", &[], "").await;
    assert_eq!(some.text.lines().count(), 1111 + 1);

    let tag = all.header("etag").to_owned();
    let same = ask(&server, "GET", "/field/home/entries", &[("if-none-match", &tag)], "").await;
    assert_eq!((same.code, same.text.as_str()), (304, ""));
    let others =
        ask(&server, "GET", "/field/home/entries?pattern=room/1*", &[("if-none-match", &tag)], "").await;
    assert_eq!(others.code, 200, "a tag belongs to its patterns");
    ask(&server, "PUT", "/field/home/entries/room/1", &[], "1").await;
    let changed = ask(&server, "GET", "/field/home/entries", &[("if-none-match", &tag)], "").await;
    assert_eq!(changed.code, 200, "at once, without a moment in which the old one counts as new");

    assert_eq!(
        ask(&server, "GET", "/field/attic/entries", &[], "").await.reason(),
        (404, "field".to_owned())
    );
    let wrong = ask(&server, "GET", "/field/home/entries?patterns=x", &[], "").await;
    assert_eq!(wrong.reason(), (400, "parameter".to_owned()));
    let many = format!("/field/home/entries?{}", "pattern=a&".repeat(65));
    assert_eq!(ask(&server, "GET", &many, &[], "").await.reason(), (400, "patterns".to_owned()));
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_entry_is_read_written_and_removed() {
    let folder = tempfile::tempdir().unwrap();
    let aether = Aether::local();
    let field = Field::builder("home").store(folder.path().join("home.field")).join(&aether).await.unwrap();
    let server = Server::serving(&aether, FieldOptions::default(), GatewayOptions::default(), field).await;
    let path = "/field/home/entries/room/7/l%C3%A4mp%20%2A";
    assert_eq!(ask(&server, "GET", path, &[], "").await.reason(), (404, "absent".to_owned()));
    let put = ask(&server, "PUT", path, &[], "{ \"on\" : true }").await;
    assert_eq!((put.code, &put.json()["durable"]), (200, &json!(true)));
    assert_eq!(server.field.get_json("room/7/lämp *").as_deref(), Some(&br#"{"on":true}"#[..]));
    let read = ask(&server, "GET", path, &[], "").await;
    assert_eq!((read.code, read.text.as_str()), (200, r#"{"on":true}"#));
    assert_eq!(read.header("etag"), format!("\"{}\"", put.json()["version"].as_str().unwrap()));
    let same = ask(&server, "GET", path, &[("if-none-match", read.header("etag"))], "").await;
    assert_eq!(same.code, 304);
    for (body, reason) in [
        ("null", (400, "null")),
        ("", (400, "json")),
        ("{", (400, "json")),
        ("\"\\ud800\"", (400, "json")),
        (&format!("\"{}\"", "v".repeat(32_767)), (413, "value-size")),
    ] {
        let refused = ask(&server, "PUT", path, &[], body).await;
        assert_eq!(refused.reason(), (reason.0, reason.1.to_owned()));
    }
    let long = format!("/field/home/entries/{}", "k".repeat(257));
    assert_eq!(ask(&server, "PUT", &long, &[], "1").await.reason(), (400, "key-size".to_owned()));
    let removed = ask(&server, "DELETE", path, &[], "").await;
    assert_eq!((removed.code, &removed.json()["durable"]), (200, &json!(true)));
    assert_eq!(ask(&server, "DELETE", path, &[], "").await.reason(), (404, "absent".to_owned()));
    assert_eq!(ask(&server, "POST", path, &[], "1").await.code, 405);
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_field_in_memory_says_that_it_is_not_on_a_disk() {
    let (_aether, server) = server().await;
    let put = ask(&server, "PUT", "/field/home/entries/k", &[], "1").await.json();
    assert_eq!(put["durable"], false);
    assert!(put["message"].as_str().unwrap().contains("memory"), "{put}");
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn rights_hold_over_http_too() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("tokens.json");
    let tokens = r#"[{"token":"one","read":["a/*"],"write":["a/*"]},{"token":"waves","hear":[">"]}]"#;
    private(&path, tokens);
    let aether = Aether::local();
    let options = FieldOptions::default().access(Access::load(&path).unwrap()).origin("https://shop.example");
    let server = Server::start(&aether, options).await;
    server.field.set("a/1", &1).unwrap();
    server.field.set("b/1", &1).unwrap();
    let (one, waves) = (("authorization", "Bearer one"), ("authorization", "Bearer waves"));
    let entries = "/field/home/entries";
    assert_eq!(ask(&server, "GET", entries, &[], "").await.reason(), (401, "no_token".to_owned()));
    let guess = ask(&server, "GET", entries, &[("authorization", "Bearer guess")], "").await;
    assert_eq!((guess.reason(), guess.header("www-authenticate")), ((401, "token".to_owned()), "Bearer"));
    assert_eq!(ask(&server, "GET", entries, &[waves], "").await.reason(), (403, "right".to_owned()));
    let read = ask(&server, "GET", entries, &[one], "").await;
    assert_eq!((read.text.lines().count(), read.json()["key"].clone()), (1, json!("a/1")));
    let by_url = ask(&server, "GET", "/field/home/entries?auth_token=one", &[], "").await;
    assert_eq!(by_url.code, 200);
    for (method, path, body) in [
        ("GET", "/field/home/entries?pattern=b/*", ""),
        ("GET", "/field/home/entries/b/1", ""),
        ("PUT", "/field/home/entries/b/1", "2"),
        ("DELETE", "/field/home/entries/b/1", ""),
        ("GET", "/field/home/watch?pattern=b/*", ""),
    ] {
        assert_eq!(
            ask(&server, method, path, &[one], body).await.reason(),
            (403, "right".to_owned()),
            "{method} {path}"
        );
    }
    assert_eq!(server.field.get::<u64>("b/1").unwrap(), Some(1));

    // A page of an allowed origin gets the headers, another one is refused.
    let shop = ("origin", "https://shop.example");
    let may = ask(&server, "GET", entries, &[one, shop], "").await;
    assert_eq!((may.code, may.header("access-control-allow-origin")), (200, "https://shop.example"));
    let preflight =
        ask(&server, "OPTIONS", entries, &[shop, ("access-control-request-method", "PUT")], "").await;
    assert_eq!((preflight.code, preflight.header("access-control-allow-methods")), (204, "GET, PUT, DELETE"));
    let evil = ("origin", "https://evil.example");
    let may_not = ask(&server, "GET", entries, &[one, evil], "").await;
    assert_eq!(
        (may_not.reason(), may_not.header("access-control-allow-origin")),
        ((403, "origin".to_owned()), "")
    );
    let status = ask(&server, "GET", "/api/status", &[one], "").await.json();
    let refused = &status["fields"][0]["refused"];
    assert_eq!((&refused["token"], &refused["origin"], &refused["right"]), (&json!(1), &json!(1), &json!(6)));
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_address_asks_at_the_rate_of_the_field() {
    let aether = Aether::local();
    let mut limits = SecurityLimits::default();
    (limits.messages_burst, limits.messages_per_second) = (3, 0.001);
    let server = Server::start(&aether, FieldOptions::default().limits(limits)).await;
    for _ in 0..3 {
        assert_eq!(ask(&server, "PUT", "/field/home/entries/k", &[], "1").await.code, 200);
    }
    let late = ask(&server, "GET", "/field/home/entries", &[], "").await;
    assert_eq!(late.reason(), (429, "rate".to_owned()));
    assert!(late.header("retry-after").parse::<u64>().unwrap() > 1);
    server.stop().await;
}

/// A reader of server-sent events.
struct Events {
    lines: mpsc::Receiver<String>,
}

impl Events {
    fn open(server: &Server, path: &str, last: Option<&str>) -> Self {
        let mut request = ureq::get(format!("http://{}{path}", server.address));
        if let Some(last) = last {
            request = request.header("last-event-id", last);
        }
        let (sender, lines) = mpsc::channel();
        std::thread::spawn(move || {
            let answer = request.call().unwrap();
            for line in BufReader::new(answer.into_body().into_reader()).lines().map_while(Result::ok) {
                if sender.send(line).is_err() {
                    return;
                }
            }
        });
        Self { lines }
    }

    /// The next event: its id, if it has one, and its data.
    fn next(&self) -> (Option<String>, Value) {
        let mut id = None;
        loop {
            let line = self.lines.recv_timeout(PATIENCE).expect("an event in time");
            if let Some(text) = line.strip_prefix("id: ") {
                id = Some(text.to_owned());
            } else if let Some(data) = line.strip_prefix("data: ") {
                return (id, serde_json::from_str(data).unwrap());
            }
        }
    }

    fn has_ended(&self) -> bool {
        loop {
            match self.lines.recv_timeout(PATIENCE) {
                Ok(_) => {}
                Err(error) => return error == mpsc::RecvTimeoutError::Disconnected,
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn events_go_on_where_a_client_was() {
    let (_aether, server) = server().await;
    server.field.set("room/1", &1).unwrap();
    let events = Events::open(&server, "/field/home/watch?pattern=room/*", None);
    assert_eq!(events.next().1["type"], "subscribed");
    let (id, snapshot) = events.next();
    assert_eq!((&snapshot["type"], &snapshot["entries"][0]["key"]), (&json!("snapshot"), &json!("room/1")));
    assert!(id.is_some());
    server.field.set("room/2", &2).unwrap();
    // The first write may come again, as a change.
    let id = loop {
        let (id, changes) = events.next();
        if changes["entries"].as_array().unwrap().iter().any(|entry| entry["key"] == "room/2") {
            break id;
        }
    };
    drop(events);
    server.field.set("room/3", &3).unwrap();
    let again = Events::open(&server, "/field/home/watch?pattern=room/*", id.as_deref());
    let (_, answer) = again.next();
    assert_eq!((&answer["type"], &answer["resumed"]), (&json!("subscribed"), &json!(true)));
    assert_eq!(again.next().1["entries"][0]["key"], "room/3");
    let elsewhere = Events::open(&server, "/field/home/watch", Some("nonsense"));
    assert_eq!(elsewhere.next().1["resumed"], false);
    server.stop().await;
    assert!(again.has_ended() && elsewhere.has_ended());
}

#[tokio::test(flavor = "multi_thread")]
async fn events_end_when_the_rights_of_their_token_do() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("tokens.json");
    private(&path, r#"[{"token":"one","read":["*"]}]"#);
    let aether = Aether::local();
    let mut limits = SecurityLimits::default();
    limits.ping_interval = Duration::from_millis(200);
    let options = FieldOptions::default().access(Access::load(&path).unwrap()).limits(limits);
    let server = Server::start(&aether, options).await;
    let events = Events::open(&server, "/field/home/watch?auth_token=one", None);
    assert_eq!(events.next().1["type"], "subscribed");
    private(&path, r#"[{"token":"two","read":["*"]}]"#);
    assert!(events.has_ended());
    server.stop().await;
}

#[tokio::test]
async fn a_published_page_finds_its_field_at_the_root() {
    let aether = Aether::local();
    let server = Server::start(&aether, FieldOptions::default().root("home")).await;
    server.field.set("k", &1).unwrap();
    let mut tab = Tab::connect(server.address, "/").await;
    assert_eq!(tab.next("hello").await["color"].as_str().map(|colour| colour.starts_with("hsl")), Some(true));
    assert_eq!(tab.next("snapshot").await["data"], json!({ "k": 1 }));
    let own = [("sec-websocket-protocol", "aether.field.v1")];
    let mut own = Tab::try_connect(server.address, "/", &own).await.unwrap();
    own.send(&json!({ "type": "hello", "client": "tab" })).await;
    assert_eq!(own.next("hello").await["protocol"], 1);
    assert!(server.get("/").await.contains("<!doctype html"), "and who looks at it gets the pages");
    server.stop().await;
    // Without the option there is nothing but the pages.
    let server = Server::start(&aether, FieldOptions::default().root("attic")).await;
    assert!(Tab::try_connect(server.address, "/", &[]).await.is_err());
    server.stop().await;
}

#[tokio::test]
async fn with_durable_echo_a_client_sees_its_write_when_it_is_on_the_disk() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("home.field");
    let aether = Aether::local();
    let field = Field::builder("home").store(&file).join(&aether).await.unwrap();
    let mut limits = SecurityLimits::default();
    limits.set("durable_echo=true").unwrap();
    let options = FieldOptions::default().limits(limits);
    let server = Server::serving(&aether, options, GatewayOptions::default(), field).await;
    let (mut tab, _) = Tab::opened(server.address, "home").await;
    for number in 0..50 {
        tab.send(&json!({ "type": "set", "key": format!("k{number}"), "value": number })).await;
        assert_eq!(tab.next("set").await["value"], number);
        // A crash would leave this.
        let copy = folder.path().join("copy.field");
        std::fs::copy(&file, &copy).unwrap();
        let alone = Aether::local();
        let left = Field::builder("home").store(&copy).join(&alone).await.unwrap();
        assert_eq!(left.get::<u64>(&format!("k{number}")).unwrap(), Some(number));
        left.close().await.unwrap();
        std::fs::remove_file(&copy).unwrap();
    }
    server.stop().await;
}
