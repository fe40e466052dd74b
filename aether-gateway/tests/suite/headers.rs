//! The headers that protect whoever looks at an answer in a browser: on every answer of every kind of route.

use aether_core::Aether;
use aether_field::Field;
use aether_gateway::{FieldOptions, GatewayOptions};
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use sha2::{Digest as _, Sha384};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::support::{self, Reply, Running, raw};

const UPGRADE: &str = "connection: upgrade\r\nupgrade: websocket\r\nsec-websocket-version: 13\r\n\
                       sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n";

/// The resources that a kind of answer may load.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Policy {
    /// Scripts and styles of the gateway.
    Page,
    /// The styles in it.
    Status,
    Nothing,
}

pub(crate) fn assert_protected(reply: &Reply, about: &str) {
    let header = |name: &str| reply.headers.get(name).map(String::as_str);
    assert_eq!(header("x-content-type-options"), Some("nosniff"), "{about}: {reply:?}");
    assert_eq!(header("referrer-policy"), Some("no-referrer"), "{about}: {reply:?}");
    assert_eq!(header("cross-origin-resource-policy"), Some("same-origin"), "{about}: {reply:?}");
    assert!(header("cache-control").is_some_and(|value| value.starts_with("no-")), "{about}: {reply:?}");
    let policy = header("content-security-policy").unwrap_or_else(|| panic!("{about}: {reply:?}"));
    for directive in ["default-src 'none'", "base-uri 'none'", "form-action 'none'", "frame-ancestors 'none'"]
    {
        assert!(policy.contains(directive), "{about}: {policy}");
    }
    assert!(!policy.contains("unsafe-eval") && !policy.contains('*'), "{about}: {policy}");
}

/// The head of an answer that goes on.
async fn begun(running: &Running, request: &str) -> Reply {
    let mut stream = TcpStream::connect(running.address).await.unwrap();
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut said = Vec::new();
    while !said.ends_with(b"\r\n\r\n") {
        said.push(stream.read_u8().await.unwrap());
    }
    Reply::of(&said)
}

#[tokio::test(flavor = "multi_thread")]
async fn every_answer_has_the_headers_that_protect_a_browser() {
    let aether = Aether::local();
    let field = Field::builder("home").replica("gateway").join(&aether).await.unwrap();
    let fields = FieldOptions::default().field("home", field);
    let running = support::run(&aether, GatewayOptions::default().fields(fields)).await;
    let here = running.address;
    let tag = raw(here, &format!("GET / HTTP/1.1\r\nhost: {here}\r\n\r\n")).await.headers["etag"].clone();
    let tagged = format!("if-none-match: {tag}\r\n");
    let from_elsewhere = format!("{UPGRADE}origin: https://evil.example\r\n");
    let kinds = [
        ("GET /", "", 200, Policy::Page),
        ("GET /", tagged.as_str(), 304, Policy::Page),
        ("HEAD /page/app.js", "", 200, Policy::Page),
        ("GET /page/none.js", "", 404, Policy::Nothing),
        ("GET /status", "", 200, Policy::Status),
        ("GET /api/overview", "", 200, Policy::Nothing),
        ("GET /api/history?last=x", "", 400, Policy::Nothing),
        ("GET /api/log", "", 200, Policy::Nothing),
        ("GET /api/durable", "", 200, Policy::Nothing),
        ("GET /api/dead", "", 200, Policy::Nothing),
        ("GET /api/dead/x", "", 400, Policy::Nothing),
        ("GET /api/queues", "", 200, Policy::Nothing),
        ("GET /metrics", "", 200, Policy::Nothing),
        ("GET /map.dot", "", 404, Policy::Nothing),
        ("GET /asyncapi.json", "", 200, Policy::Nothing),
        ("GET /openapi.json", "", 200, Policy::Nothing),
        ("GET /livez", "", 200, Policy::Nothing),
        ("GET /readyz", "accept: application/json\r\n", 200, Policy::Nothing),
        ("GET /nothing", "", 404, Policy::Nothing),
        ("DELETE /metrics", "", 405, Policy::Nothing),
        ("GET /api/overview", "via: 1.1 proxy\r\n", 401, Policy::Nothing),
        ("GET /waves?kind=none", "", 400, Policy::Nothing),
        ("GET /waves", "origin: https://evil.example\r\n", 403, Policy::Nothing),
        ("POST /waves/a", "", 202, Policy::Nothing),
        ("POST /waves/a..b", "", 400, Policy::Nothing),
        ("GET /ws", "", 400, Policy::Nothing),
        ("GET /ws", &from_elsewhere, 403, Policy::Nothing),
        ("GET /field/home/ws", "", 400, Policy::Nothing),
        ("GET /field/none/ws", UPGRADE, 404, Policy::Nothing),
        ("GET /field/home/ws", &from_elsewhere, 403, Policy::Nothing),
        ("GET /field/home/entries", "", 200, Policy::Nothing),
        ("GET /field/home/entries", "origin: https://evil.example\r\n", 403, Policy::Nothing),
        ("GET /field/none/entries", "", 404, Policy::Nothing),
    ];
    for (head, more, code, policy) in kinds {
        let request = format!("{head} HTTP/1.1\r\nhost: {here}\r\ncontent-length: 0\r\n{more}\r\n");
        let reply = raw(here, &request).await;
        let about = format!("{head} {more:?}");
        assert_eq!(reply.code, code, "{about}: {reply:?}");
        assert_protected(&reply, &about);
        assert!(!reply.headers.contains_key("strict-transport-security"), "{about} without TLS");
        let said = &reply.headers["content-security-policy"];
        let of = match (said.contains("script-src"), said.contains("style-src")) {
            (true, true) => Policy::Page,
            (false, true) => Policy::Status,
            _ => Policy::Nothing,
        };
        assert_eq!(of, policy, "{about}: {said}");
    }
    for (path, more, code) in [("/waves", "", 200), ("/ws", UPGRADE, 101), ("/field/home/ws", UPGRADE, 101)] {
        let reply = begun(&running, &format!("GET {path} HTTP/1.1\r\nhost: {here}\r\n{more}\r\n")).await;
        assert_eq!(reply.code, code, "{path}");
        assert_protected(&reply, path);
    }
    running.stop().await;
}

#[tokio::test]
async fn pages_of_all_origins_load_the_client_by_its_hash() {
    let running = support::run(&Aether::local(), GatewayOptions::default()).await;
    let here = running.address;
    let get = async |path: &str| {
        raw(here, &format!("GET {path} HTTP/1.1\r\nhost: {here}\r\norigin: https://shop.example\r\n\r\n"))
            .await
    };
    let about = get("/client/").await;
    let described: serde_json::Value = serde_json::from_slice(&about.body).unwrap();
    let script = get(described["script"].as_str().unwrap()).await;
    for reply in [&about, &script] {
        assert_eq!(reply.code, 200);
        assert_eq!(reply.headers["access-control-allow-origin"], "*");
        assert_eq!(reply.headers["cross-origin-resource-policy"], "cross-origin");
    }
    let hash = BASE64_STANDARD.encode(Sha384::digest(&script.body));
    assert_eq!(described["integrity"], format!("sha384-{hash}"));
    assert_eq!(described["version"], env!("CARGO_PKG_VERSION"));
    running.stop().await;
}
