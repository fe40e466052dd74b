//! Reading names and numbers is refused to a page that has led its name here, and to clients behind a proxy.

use aether_core::Aether;
use aether_gateway::{Access, FieldOptions, GatewayOptions};
use futures_util::StreamExt as _;
use serde_json::{Value, json};
use tokio_tungstenite::connect_async;
use tokio_tungstenite::tungstenite::client::IntoClientRequest as _;

use crate::api::{Socket, heard, say};
use crate::exposed::GUARDED;
use crate::support::{self, Reply, Running, raw};

const PROXIED: &str = "x-forwarded-for: 192.0.2.7\r\n";

async fn get(running: &Running, path: &str, host: &str, more: &str) -> Reply {
    raw(running.address, &format!("GET {path} HTTP/1.1\r\nhost: {host}\r\n{more}\r\n")).await
}

async fn socket_with(running: &Running, headers: &[(&'static str, &str)]) -> Socket {
    let mut request = format!("ws://{}/ws", running.address).into_client_request().unwrap();
    for (name, value) in headers {
        request.headers_mut().insert(*name, value.parse().unwrap());
    }
    connect_async(request).await.unwrap().0
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rebound_page_and_clients_of_a_proxy_read_nothing_without_a_token() {
    let running = support::run(&Aether::local(), GatewayOptions::default()).await;
    let here = running.address.to_string();
    for path in GUARDED {
        let rebound = get(&running, path, "rebound.example", "").await;
        assert_eq!((rebound.code, rebound.json()["reason"].as_str()), (403, Some("host")), "{path}");
        let proxied = get(&running, path, &here, PROXIED).await;
        assert_eq!((proxied.code, proxied.json()["reason"].as_str()), (401, Some("no_token")), "{path}");
        let direct = get(&running, path, &here, "").await.code;
        assert!(![401, 403].contains(&direct), "{path}: {direct}");
    }
    // The page of such a name is its own, so it may connect, and sees nothing.
    let rebound = [("host", "rebound.example"), ("origin", "http://rebound.example")];
    for (headers, reason) in [(&rebound[..], "host"), (&[("via", "1.1 proxy")], "no_token")] {
        let mut client = socket_with(&running, headers).await;
        let hello = heard(&mut client, "hello").await;
        assert!(hello["watch_refused"].is_string() && hello["refused"].is_string(), "{hello}");
        say(&mut client, json!({ "op": "watch", "view": "overview" })).await;
        assert_eq!(heard(&mut client, "error").await["reason"], reason);
        drop(client.next());
    }
    let status: Value = serde_json::from_str(&running.get("/api/status").await.body).unwrap();
    let refused = &status["clients"]["refused"];
    assert_eq!(refused["host"], GUARDED.len() + 1, "they are counted: {refused}");
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn where_there_is_a_token_a_proxy_that_says_nothing_opens_nothing_either() {
    let access = Access::default().token("field").unwrap();
    let options = GatewayOptions::default().fields(FieldOptions::default().access(access));
    let running = support::run(&Aether::local(), options).await;
    let here = running.address.to_string();
    for path in ["/api/overview", "/metrics", "/status"] {
        assert_eq!(get(&running, path, &here, "").await.code, 401, "{path}");
        for (host, more) in [(here.as_str(), ""), ("bus.example", PROXIED)] {
            let token = format!("{more}authorization: Bearer field\r\n");
            assert_eq!(get(&running, path, host, &token).await.code, 200, "{path} of {host}");
        }
    }
    let mut client = socket_with(&running, &[("host", "bus.example"), ("via", "1.1 proxy")]).await;
    assert!(heard(&mut client, "hello").await["watch_refused"].is_string());
    say(&mut client, json!({ "op": "token", "token": "field" })).await;
    heard(&mut client, "done").await;
    say(&mut client, json!({ "op": "watch", "view": "overview" })).await;
    heard(&mut client, "view").await;
    running.stop().await;
}
