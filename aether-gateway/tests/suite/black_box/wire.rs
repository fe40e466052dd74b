//! Protocol 0.4 as a client sees it. Each case passes against the sync engine itself, which shows that the case is right.

use futures_util::future::join_all;
use serde_json::{Value, json};
use sha1::{Digest as _, Sha1};

use crate::black_box::client::{Client, closed, greeted};
use crate::black_box::server::Server;

pub(crate) const TOKEN: &str = "a token/with ?&# and \u{fc}";
/// The same in a URL.
const TOKEN_IN_URL: &str = "a%20token%2Fwith%20%3F%26%23%20and%20%C3%BC";

/// `hello` and `snapshot` come first, in this order, with exactly their keys.
pub(crate) async fn greeting(server: &Server) {
    let mut client = Client::connect(&server.url()).await;
    let hello = client.expect("hello", &["id", "color"]).await;
    let id = hello["id"].as_str().unwrap();
    let parts: Vec<_> = id.split('-').collect();
    assert_eq!(parts.iter().map(|part| part.len()).collect::<Vec<_>>(), [8, 4, 4, 4, 12], "{id}");
    assert!(parts[2].starts_with('4'), "{id} is not a UUID of version 4");
    let digest = Sha1::digest(id.as_bytes());
    let hue = (u32::from(digest[0]) << 16 | u32::from(digest[1]) << 8 | u32::from(digest[2])) % 360;
    assert_eq!(hello["color"], format!("hsl({hue}, 78%, 62%)"));
    let snapshot = client.expect("snapshot", &["data"]).await;
    assert_eq!(snapshot["data"], json!({}));
    let mut other = Client::connect(&server.url()).await;
    assert_ne!(other.greeted().await.0, id);
}

/// Writes come back to every client, the writer included; a newcomer gets what is there, and nothing else.
pub(crate) async fn writes(server: &Server) {
    let url = server.url();
    let (mut writer, mut reader) = (greeted(&url).await, greeted(&url).await);
    let values = [
        json!(1),
        json!(-1.5),
        json!(true),
        json!(""),
        json!("\u{e4}\u{1f600} \" \\ \n"),
        json!([]),
        json!({ "b": [1, { "a": null }], "a": "x" }),
        json!(9_007_199_254_740_993_i64),
    ];
    for (at, value) in values.iter().enumerate() {
        let key = format!("key/{at} \u{e4}");
        writer.set(&key, value.clone()).await;
        for client in [&mut writer, &mut reader] {
            client.sees(&key, value).await;
        }
    }
    reader.send(json!({ "type": "delete", "key": "key/0 \u{e4}" })).await;
    for client in [&mut writer, &mut reader] {
        assert_eq!(client.expect("delete", &["key"]).await["key"], "key/0 \u{e4}");
    }
    let (_, snapshot) = Client::connect(&url).await.greeted().await;
    let expected: serde_json::Map<_, _> = values
        .iter()
        .enumerate()
        .skip(1)
        .map(|(at, value)| (format!("key/{at} \u{e4}"), value.clone()))
        .collect();
    assert_eq!(snapshot, Value::Object(expected));
}

/// Cursors go to the others only, and are whole numbers; their end is reported.
pub(crate) async fn presence(server: &Server) {
    let url = server.url();
    let mut moving = Client::connect(&url).await;
    let (id, _) = moving.greeted().await;
    let mut reader = greeted(&url).await;
    for (sent, x, y) in [
        (json!({ "type": "presence", "x": 3, "y": -4 }), 3, -4),
        (json!({ "type": "presence", "x": 5.9, "y": -6.9 }), 5, -6),
        (json!({ "type": "presence", "y": 7 }), 0, 7),
        (json!({ "type": "presence", "x": "12", "y": true }), 12, 1),
        (json!({ "type": "presence" }), 0, 0),
    ] {
        moving.send(sent.clone()).await;
        let seen = reader.expect("presence", &["id", "color", "x", "y"]).await;
        assert_eq!((&seen["id"], &seen["x"], &seen["y"]), (&json!(id), &json!(x), &json!(y)), "{sent}");
    }
    // Not echoed to itself.
    moving.sees_nothing_but_its_own("fence").await;
    reader.sees("fence", &json!("fence")).await;
    drop(moving);
    assert_eq!(reader.expect("presence-leave", &["id"]).await["id"], id);
    // Not persisted.
    let (_, snapshot) = Client::connect(&url).await.greeted().await;
    assert_eq!(snapshot, json!({ "fence": "fence" }));
}

/// Bad input is dropped without a word, and the connection stays.
pub(crate) async fn bad_input(server: &Server) {
    let url = server.url();
    let (mut writer, mut reader) = (greeted(&url).await, greeted(&url).await);
    let long_key = "k".repeat(257);
    let wide_key = "\u{e4}".repeat(129);
    let bad = [
        "{".to_owned(),
        "[]".to_owned(),
        "\"set\"".to_owned(),
        "7".to_owned(),
        "{}".to_owned(),
        json!({ "key": "a", "value": 1 }).to_string(),
        json!({ "type": 7, "key": "a", "value": 1 }).to_string(),
        json!({ "type": "later", "key": "a", "value": 1 }).to_string(),
        json!({ "type": "auth", "token": "late" }).to_string(),
        json!({ "type": "set", "value": 1 }).to_string(),
        json!({ "type": "set", "key": "", "value": 1 }).to_string(),
        json!({ "type": "set", "key": 7, "value": 1 }).to_string(),
        json!({ "type": "set", "key": long_key, "value": 1 }).to_string(),
        json!({ "type": "set", "key": wide_key, "value": 1 }).to_string(),
        json!({ "type": "set", "key": "a", "value": "v".repeat(32_767) }).to_string(),
        json!({ "type": "set", "key": "a", "value": "v".repeat(70_000) }).to_string(),
        json!({ "type": "delete" }).to_string(),
        json!({ "type": "delete", "key": "" }).to_string(),
        json!({ "type": "delete", "key": ["a"] }).to_string(),
    ];
    for text in bad {
        writer.text(text).await;
    }
    writer.sees_nothing_but_its_own("fence").await;
    reader.sees("fence", &json!("fence")).await;
    // The largest that is allowed.
    let (key, value) = ("k".repeat(256), json!("v".repeat(32_766)));
    writer.set(&key, value.clone()).await;
    for client in [&mut writer, &mut reader] {
        client.sees(&key, &value).await;
    }
    let (_, snapshot) = Client::connect(&url).await.greeted().await;
    assert_eq!(snapshot, json!({ "fence": "fence", key: value }));
}

/// A frame that is too large ends the connection of its sender, and no other.
pub(crate) async fn large_frame(server: &Server) {
    let url = server.url();
    let (mut sender, mut other) = (greeted(&url).await, greeted(&url).await);
    sender.text("x".repeat(262_145)).await;
    let end = sender.next().await.unwrap_err();
    // A server that closes while input is on the way may lose its close frame to a reset.
    assert!([1009, 1006].contains(&end.code), "{end:?}");
    other.sees_nothing_but_its_own("fence").await;
}

/// The reaction of a server to more messages than the burst.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum AtTheRate {
    Closed,
    ReadLater,
}

/// More messages than the burst concern their sender, and no other.
pub(crate) async fn too_fast(server: &Server, at_the_rate: AtTheRate) {
    let url = server.url();
    let (mut sender, mut other) = (greeted(&url).await, greeted(&url).await);
    for _ in 0..400 {
        sender.text("{}").await;
    }
    match at_the_rate {
        AtTheRate::Closed => assert_eq!(sender.next().await, closed(1008, "rate limit")),
        AtTheRate::ReadLater => {
            sender.sees_nothing_but_its_own("late").await;
            other.sees("late", &json!("fence")).await;
        }
    }
    other.sees_nothing_but_its_own("fence").await;
}

/// The thirty-third connection of one address is refused; the place of one that goes is given back.
pub(crate) async fn connections(server: &Server) {
    let url = server.url();
    let mut clients = join_all((0..32).map(|_| greeted(&url))).await;
    assert_eq!(Client::connect(&url).await.next().await, closed(1013, "server busy"));
    let leaving = clients.pop().unwrap();
    drop(leaving);
    // The server notices the end of a connection on its own time: the leave of nobody is announced, so ask again.
    loop {
        let mut next = Client::connect(&url).await;
        match next.next().await {
            Ok(hello) => break assert_eq!(hello["type"], "hello"),
            end => assert_eq!(end, closed(1013, "server busy")),
        }
    }
}

/// Without the right token a client gets nothing but the end of its connection. The server has [`TOKEN`].
pub(crate) async fn tokens(server: &Server) {
    let url = server.url();
    let mut good = Client::connect(&format!("{url}?auth_token={TOKEN_IN_URL}")).await;
    good.greeted().await;
    good.set("secret", json!(1)).await;
    good.sees("secret", &json!(1)).await;
    let failed = closed(1008, "auth failed");
    assert_eq!(Client::connect(&format!("{url}?auth_token=wrong")).await.next().await, failed);
    for first in [
        json!({ "type": "auth", "token": "wrong" }),
        json!({ "type": "auth", "token": "" }),
        json!({ "type": "auth" }),
        json!({ "type": "set", "key": "a", "value": 1 }),
        json!([]),
    ] {
        let mut client = Client::connect(&url).await;
        client.send(first.clone()).await;
        assert_eq!(client.next().await, failed, "{first}");
    }
    let mut client = Client::connect(&url).await;
    client.send(json!({ "type": "auth", "token": TOKEN })).await;
    let (_, snapshot) = client.greeted().await;
    assert_eq!(snapshot, json!({ "secret": 1 }));
    // Later ones are ignored, also wrong ones.
    client.send(json!({ "type": "auth", "token": "wrong" })).await;
    client.sees_nothing_but_its_own("fence").await;
}

/// A client that does not authenticate in time is closed, with nothing sent before. The default is 5 s; the server here
/// gives it a second. The sync engine uses the code of an ordinary end.
pub(crate) async fn slow_token(server: &Server) {
    let mut client = Client::connect(&server.url()).await;
    let end = client.next().await.unwrap_err();
    assert!([1000, 1008].contains(&end.code), "{end:?}");
}
