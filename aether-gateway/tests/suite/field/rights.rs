//! Tokens, rights, origins and TLS.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use aether_core::Aether;
use aether_gateway::{Access, FieldOptions, GatewayOptions, SecurityLimits};
use futures_util::{SinkExt as _, StreamExt as _};
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::{Error, Message};

use crate::field::client::{Client, Heard, POLICY, Tab, now};
use crate::field::server::Server;
use crate::support::StoppedTime;

pub(crate) fn private(path: &Path, text: &str) {
    std::fs::write(path, text).expect("written");
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt as _;
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600)).expect("made private");
    }
}

#[tokio::test]
async fn case_10_without_the_right_token_the_connection_is_closed_before_anything_is_sent() {
    let time = StoppedTime::new();
    let aether = Aether::local();
    let mut limits = SecurityLimits::default();
    limits.handshake_timeout = Duration::from_millis(300);
    let access = Access::default().token("s3cret").unwrap();
    let server = Server::start(&aether, FieldOptions::default().access(access).limits(limits)).await;
    server.field.set("secret", &1).unwrap();
    let closed = Heard::Closed(Some((POLICY, "auth failed".to_owned())));
    let first = [
        json!({ "type": "auth", "token": "wrong" }),
        json!({ "type": "auth", "token": 1 }),
        json!({ "type": "auth", "token": null }),
        json!({ "type": "auth" }),
        json!({ "type": "set", "key": "k", "value": 1 }),
    ];
    for first in first {
        let mut tab = Tab::connect(server.address, "/field/home/ws").await;
        tab.send(&first).await;
        assert_eq!(tab.hear().await, closed, "{first}");
    }
    for path in ["/field/home/ws?auth_token=wrong", "/field/home/ws?auth_token="] {
        let mut tab = Tab::connect(server.address, path).await;
        assert_eq!(tab.hear().await, closed, "{path}");
    }
    // A silent one is closed when its time is over.
    let mut silent = Tab::connect(server.address, "/field/home/ws").await;
    // Its time has begun when another request has been answered.
    server.get("/livez").await;
    time.second_passes().await;
    assert_eq!(silent.hear().await, closed);
    let mut own = Tab::own(server.address, "home").await;
    own.send(&json!({ "type": "hello", "client": "a", "token": "wrong" })).await;
    assert!(matches!(own.hear().await, Heard::Closed(Some((4401, _)))));

    let mut by_url = Tab::connect(server.address, "/field/home/ws?auth_token=s3cret").await;
    assert_eq!(by_url.json().await["type"], "hello");
    let mut by_frame = Tab::connect(server.address, "/field/home/ws").await;
    by_frame.send(&json!({ "type": "auth", "token": "s3cret" })).await;
    assert_eq!(by_frame.json().await["type"], "hello");
    assert_eq!(by_frame.json().await["data"], json!({ "secret": 1 }));
    // Longer than the handshake may take: an authenticated viewer may be quiet.
    time.second_passes().await;
    server.field.set("later", &2).unwrap();
    assert_eq!(by_frame.json().await["key"], "later");
    let own = Client::with_token(server.address, "home", "a", Some("s3cret")).await;
    assert_eq!(own.hello["write"], json!(["*"]));
    drop(time);
    server.stop().await;
}

/// The keys of all rooms, of which one in 33 is in room 7; `AETHER_FIELD_KEYS=1000000` is the whole case.
const KEYS: u64 = 30_000;

#[tokio::test]
async fn case_17_a_subscription_gets_its_part_in_chunks_and_rights_hold_by_prefix() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("tokens.json");
    private(
        &path,
        r#"[{"token": "guest", "field": "home", "read": ["room/7/*"], "write": ["room/7/lamp"]},
            {"token": "owner", "read": ["*"], "write": ["*"]}]"#,
    );
    let aether = Aether::local();
    let server = Server::start(&aether, FieldOptions::default().access(Access::load(&path).unwrap())).await;
    let keys = std::env::var("AETHER_FIELD_KEYS").map_or(KEYS, |keys| keys.parse().unwrap());
    for number in 0..keys {
        let name = if number % 33 == 0 { format!("room/7/{number}") } else { format!("room/8/{number}") };
        server.field.set(&name, &"x".repeat(256)).unwrap();
    }
    let mut guest = Client::with_token(server.address, "home", "guest", Some("guest")).await;
    guest.tab.send(&json!({ "type": "subscribe", "patterns": ["*"] })).await;
    let (mut parts, mut entries) = (0, 0);
    loop {
        let message = guest.tab.json().await;
        if message["type"] != "snapshot" {
            continue;
        }
        parts += 1;
        for entry in message["entries"].as_array().unwrap() {
            assert!(entry["key"].as_str().unwrap().starts_with("room/7/"), "{entry}");
            entries += 1;
        }
        assert_eq!(message["sent"], entries);
        assert!(message["at_most"].as_u64().unwrap() >= entries);
        if message["done"] == true {
            break;
        }
    }
    assert_eq!(entries, keys.div_ceil(33));
    assert!(parts > 3, "{parts} parts");

    server.field.set("room/8/lamp", &1).unwrap();
    server.field.set("room/7/lamp", &1).unwrap();
    guest.until(|client| client.value("room/7/lamp").is_some()).await;
    assert_eq!(guest.value("room/8/lamp"), None);
    guest.write(&guest.set(1, now(), "room/7/lamp", &json!(2))).await;
    guest.tab.send(&guest.set(2, now(), "room/7/door", &json!(2))).await;
    guest.tab.send(&json!({ "type": "subscribe", "patterns": ["room/8/*"] })).await;
    guest.until(|client| client.refused.len() == 1 && client.others.len() == 1).await;
    assert_eq!((&guest.refused[&2]["code"], &guest.others[0]["code"]), (&json!("right"), &json!("right")));

    let mut published = Tab::connect(server.address, "/field/home/ws?auth_token=guest").await;
    published.json().await;
    let data = published.json().await["data"].clone();
    assert_eq!(data.as_object().unwrap().len() as u64, keys.div_ceil(33) + 1);
    published.send(&json!({ "type": "set", "key": "room/7/door", "value": 1 })).await;
    published.send(&json!({ "type": "set", "key": "room/7/lamp", "value": 3 })).await;
    assert_eq!(published.next("set").await["key"], "room/7/lamp");
    assert_eq!(server.field.get_json("room/7/door"), None);
    server.stop().await;
}

#[tokio::test]
async fn a_token_that_may_only_write_is_told_that_it_lost_and_not_against_what() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("tokens.json");
    private(
        &path,
        r#"[{"token": "box", "field": "home", "read": [], "write": ["inbox/*"]},
            {"token": "owner", "read": ["*"], "write": ["*"]}]"#,
    );
    let aether = Aether::local();
    let server = Server::start(&aether, FieldOptions::default().access(Access::load(&path).unwrap())).await;
    server.field.set("inbox/x", &json!({ "secret": "salary 4711" })).unwrap();
    let mut writer = Client::with_token(server.address, "home", "writer", Some("box")).await;
    // It has lost before it comes, and afterwards.
    writer.write(&writer.set(1, now() - 5000.0, "inbox/x", &json!(1))).await;
    let at = now();
    writer.write(&writer.set(2, at - 500.0, "inbox/y", &json!(2))).await;
    let mut owner = Client::with_token(server.address, "home", "owner", Some("owner")).await;
    owner.write(&owner.set(1, at, "inbox/y", &json!("secret"))).await;
    writer.until(|client| client.superseded.len() == 2).await;
    for told in &writer.superseded {
        assert!(told.get("value").is_none() && !told["by"].is_null() && !told["lost"].is_null(), "{told}");
    }
    server.stop().await;
}

#[tokio::test]
async fn participants_are_seen_by_those_who_may_read_something_that_they_may() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("tokens.json");
    private(
        &path,
        r#"[{"token": "7", "read": ["room/7/*"], "write": ["room/7/*"]},
            {"token": "8", "read": ["room/8/*"], "write": ["room/8/*"]},
            {"token": "reader", "read": ["*"], "write": []},
            {"token": "all", "read": ["*"], "write": ["*"]}]"#,
    );
    let aether = Aether::local();
    let server = Server::start(&aether, FieldOptions::default().access(Access::load(&path).unwrap())).await;
    let mut clients = Vec::new();
    for token in ["7", "8", "reader", "all"] {
        let mut client = Client::with_token(server.address, "home", token, Some(token)).await;
        client.tab.send(&json!({ "type": "subscribe", "patterns": [], "presence": true })).await;
        client.until(|client| client.snapshots == 1).await;
        clients.push(client);
    }
    let mut published = Tab::connect(server.address, "/field/home/ws?auth_token=7").await;
    let [seven, eight, reader, all] = &mut clients[..] else { unreachable!() };
    let say = |value: &str| json!({ "type": "presence", "value": value });
    eight.tab.send(&say("of room 8")).await;
    reader.until(|client| client.others.len() == 1).await;
    let seen = &reader.others[0];
    assert_eq!((&seen["value"], &seen["patterns"]), (&json!("of room 8"), &json!(["room/8/*"])));
    // One that may write nothing is nobody.
    reader.tab.send(&say("reads")).await;
    reader.until(|client| client.others.len() == 2).await;
    assert_eq!(reader.others[1]["code"], "right");
    // A client with all rights names whom it concerns.
    let mut secret = say("secret of room 8");
    secret["patterns"] = json!(["room/8/*"]);
    all.tab.send(&secret).await;
    eight.until(|client| client.others.len() == 1).await;
    all.tab.send(&say("for all")).await;
    seven.until(|client| !client.others.is_empty()).await;
    let seen = &seven.others[0];
    assert_eq!(
        (&seen["value"], &seen["patterns"]),
        (&json!("for all"), &json!(["room/7/*"])),
        "not of others"
    );
    let mut foreign = say("foreign");
    foreign["patterns"] = json!(["room/8/*"]);
    seven.tab.send(&foreign).await;
    seven.until(|client| client.others.len() == 2).await;
    assert_eq!(seven.others[1]["code"], "right");
    // An announcement that no longer concerns a client leaves it.
    all.tab.send(&secret).await;
    seven.until(|client| client.others.len() == 3).await;
    assert_eq!(seven.others[2], json!({ "type": "presence-leave", "id": all.hello["id"] }));
    all.tab.send(&json!({ "type": "presence", "value": { "x": 1, "y": 2 } })).await;
    assert_eq!(published.next("presence").await["id"], all.hello["id"]);
    server.stop().await;
}

#[tokio::test]
async fn pages_of_other_origins_are_refused_unless_they_are_named() {
    let aether = Aether::local();
    let server = Server::start(&aether, FieldOptions::default().origin("https://shop.example")).await;
    let from =
        async |origin: &str| Tab::try_connect(server.address, "/field/home/ws", &[("origin", origin)]).await;
    assert!(from("https://shop.example").await.is_ok());
    assert!(from(&format!("http://{}", server.address)).await.is_ok());
    for origin in ["https://evil.example", "null"] {
        match from(origin).await {
            Err(Error::Http(response)) => assert_eq!(response.status(), 403),
            other => panic!("{:?}", other.map(drop)),
        }
    }
    match Tab::try_connect(server.address, "/field/office/ws", &[]).await {
        Err(Error::Http(response)) => assert_eq!(response.status(), 404),
        other => panic!("{:?}", other.map(drop)),
    }
    assert_eq!(server.line().await["refused"]["origin"], 2);
    server.stop().await;
}

/// The code of the answer to a client that wants the field `home`; 101 if it gets it.
async fn code(server: &Server, headers: &[(&'static str, &str)]) -> u16 {
    match Tab::try_connect(server.address, "/field/home/ws", headers).await {
        Ok(_) => 101,
        Err(Error::Http(response)) => response.status().as_u16(),
        Err(other) => panic!("{other}"),
    }
}

#[tokio::test]
async fn without_a_token_those_behind_a_proxy_and_under_a_name_get_no_field() {
    let aether = Aether::local();
    let shop = ("origin", "https://shop.example");
    let server = Server::start(&aether, FieldOptions::default().origin("https://shop.example")).await;
    for proxied in [("x-forwarded-for", "192.0.2.7"), ("forwarded", "for=192.0.2.7"), ("via", "1.1 proxy")] {
        assert_eq!(code(&server, &[proxied]).await, 401, "{proxied:?}");
    }
    // Also a page that may: who leads its name here is somebody else.
    assert_eq!(code(&server, &[("host", "rebound.example"), shop]).await, 403);
    assert_eq!(code(&server, &[("host", "rebound.example")]).await, 403);
    assert_eq!((code(&server, &[]).await, code(&server, &[shop]).await), (101, 101));
    let refused = &server.line().await["refused"];
    assert_eq!((&refused["no_token"], &refused["host"]), (&json!(3), &json!(2)));
    server.stop().await;

    // A token decides about fields under any name, and so does an option that lets everybody in.
    let behind = [("host", "bus.example"), ("via", "1.1 proxy")];
    let access = Access::default().token("s3cret").unwrap();
    let server = Server::start(&aether, FieldOptions::default().access(access)).await;
    let mut tab =
        Tab::try_connect(server.address, "/field/home/ws?auth_token=s3cret", &behind).await.unwrap();
    assert_eq!(tab.json().await["type"], "hello");
    let mut wrong =
        Tab::try_connect(server.address, "/field/home/ws?auth_token=guess", &behind).await.unwrap();
    assert_eq!(wrong.closed().await.map(|(code, _)| code), Some(POLICY));
    server.stop().await;
    let insecure = GatewayOptions::default().insecure(true);
    let server = Server::start_with(&aether, FieldOptions::default(), insecure).await;
    assert_eq!(code(&server, &behind).await, 101);
    server.stop().await;
}

#[tokio::test]
async fn fields_are_served_over_tls() {
    let folder = tempfile::tempdir().unwrap();
    let (certificate, key) = (folder.path().join("cert.pem"), folder.path().join("key.pem"));
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    std::fs::write(&certificate, made.cert.pem()).unwrap();
    private(&key, &made.signing_key.serialize_pem());
    let tls = aether_metrics::Tls::load(&certificate, &key).unwrap();
    let aether = Aether::local();
    let server =
        Server::start_with(&aether, FieldOptions::default(), GatewayOptions::default().tls(Some(tls))).await;

    let mut roots = rustls::RootCertStore::empty();
    roots.add(made.cert.der().clone()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    let stream = TcpStream::connect(server.address).await.unwrap();
    let name = "localhost".try_into().unwrap();
    let stream = tokio_rustls::TlsConnector::from(Arc::new(config)).connect(name, stream).await.unwrap();
    let url = format!("wss://{}/field/home/ws", server.address);
    let (mut socket, _) = tokio_tungstenite::client_async(url, stream).await.unwrap();
    let Some(Ok(Message::Text(hello))) = socket.next().await else { panic!("no hello") };
    assert_eq!(serde_json::from_str::<Value>(&hello).unwrap()["type"], "hello");
    socket.send(Message::text(r#"{"type":"set","key":"k","value":1}"#)).await.unwrap();
    let echo = socket.filter_map(async |message| message.ok()?.into_text().ok());
    let echo = std::pin::pin!(echo).skip(1).next().await.unwrap();
    assert_eq!(serde_json::from_str::<Value>(&echo).unwrap()["key"], "k");
    server.stop().await;
}

#[cfg(unix)]
#[test]
fn a_private_key_that_every_user_can_read_is_refused_with_the_remedy() {
    use std::os::unix::fs::PermissionsExt as _;
    let folder = tempfile::tempdir().unwrap();
    let (certificate, key) = (folder.path().join("cert.pem"), folder.path().join("key.pem"));
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    std::fs::write(&certificate, made.cert.pem()).unwrap();
    std::fs::write(&key, made.signing_key.serialize_pem()).unwrap();
    std::fs::set_permissions(&key, std::fs::Permissions::from_mode(0o644)).unwrap();
    let refused = aether_metrics::Tls::load(&certificate, &key).unwrap_err().to_string();
    assert!(refused.contains("chmod 600"), "{refused}");
    std::fs::set_permissions(&key, std::fs::Permissions::from_mode(0o600)).unwrap();
    aether_metrics::Tls::load(&certificate, &key).unwrap();
    let swapped = aether_metrics::Tls::load(&key, &certificate).unwrap_err().to_string();
    assert!(swapped.contains("certificates"), "{swapped}");
}
