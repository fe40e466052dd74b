//! Clients of the API for waves that are quick, hostile, or may do only some of it.

use aether_core::{Aether, Kind, Vibrator, Wave};
use aether_gateway::{Access, FieldOptions, GatewayOptions};
use aether_service::{CancellationToken, Service};
use futures_util::StreamExt as _;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_tungstenite::tungstenite::Message;

use crate::api::{PATIENCE, Socket, heard, request, say, socket};
use crate::support::{self, Running, StoppedTime};

/// The next message.
async fn next(socket: &mut Socket) -> Value {
    loop {
        if let Message::Text(text) = socket.next().await.expect("the connection is open").unwrap() {
            return serde_json::from_str(&text).unwrap();
        }
    }
}

#[tokio::test]
async fn a_burst_reaches_a_client_without_further_waves() {
    let time = StoppedTime::new();
    let aether = Aether::local();
    let running = support::run(&aether, GatewayOptions::default()).await;
    let mut client = socket(&running).await;
    say(&mut client, json!({ "op": "subscribe", "id": 1, "filter": { "pattern": "burst" } })).await;
    heard(&mut client, "done").await;
    let shop = Vibrator::create("shop", &aether).await.unwrap();
    for n in 0..1000 {
        shop.emit_wave("burst", &n).await.unwrap();
    }
    let (mut waves, mut tenths) = (0, 0);
    while waves < 1000 {
        // With 128 waves a message and a message a second it would be eight seconds.
        assert!(tenths < 40, "{waves} waves");
        time.tenth_passes().await;
        tenths += 1;
        // Waves that were due come before or soon after the answer to anything.
        say(&mut client, json!({ "op": "unsubscribe", "id": 2 })).await;
        loop {
            let message = next(&mut client).await;
            if message["op"] != "waves" {
                break;
            }
            waves +=
                message["waves"].as_array().unwrap().len() + message["missed"].as_u64().unwrap() as usize;
        }
    }
    drop(time);
    running.stop().await;
}

/// A connection that has become a WebSocket.
pub(crate) async fn upgraded(running: &Running) -> TcpStream {
    let mut stream = TcpStream::connect(running.address).await.unwrap();
    let head = format!(
        "GET /ws HTTP/1.1\r\nhost: {}\r\nconnection: upgrade\r\nupgrade: websocket\r\nsec-websocket-version: 13\r\n\
         sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n",
        running.address
    );
    stream.write_all(head.as_bytes()).await.unwrap();
    let mut begin = [0; 12];
    stream.read_exact(&mut begin).await.unwrap();
    assert_eq!(&begin, b"HTTP/1.1 101");
    stream
}

#[tokio::test(flavor = "multi_thread")]
async fn hostile_connections_end_alone_and_a_good_client_gets_in() {
    let running = support::run(&Aether::local(), GatewayOptions::default()).await;
    let unmasked = b"\x81\x02hi".to_vec();
    let reserved_bits = b"\xf1\x80\0\0\0\0".to_vec();
    let mut endless = b"\x81\xff\x7f\xff\xff\xff\xff\xff\xff\xff\0\0\0\0".to_vec();
    endless.extend([b'x'; 1000]);
    for bytes in [unmasked, reserved_bits, endless, b"GET / HTTP/1.1\r\n\r\n".to_vec()] {
        let mut stream = upgraded(&running).await;
        stream.write_all(&bytes).await.unwrap();
        let mut rest = Vec::new();
        let ended = timeout(PATIENCE, stream.read_to_end(&mut rest)).await;
        // Closed or reset, but not left open.
        assert!(ended.is_ok(), "{bytes:?}");
    }
    // More connections than one source may have: the others get an error, and none is kept when they are gone.
    let mut many = Vec::new();
    for _ in 0..100 {
        many.push(upgraded(&running).await);
    }
    // Each is refused a moment after its upgrade.
    let refused = async {
        loop {
            let status: Value = serde_json::from_str(&running.get("/api/status").await.body).unwrap();
            if status["clients"]["refused"]["connections_per_source"].as_u64().unwrap() >= 60 {
                break;
            }
        }
    };
    timeout(PATIENCE, refused).await.expect("the others are refused");
    drop(many);
    let gone = async {
        loop {
            let status: Value = serde_json::from_str(&running.get("/api/status").await.body).unwrap();
            if status["clients"]["clients"] == 0 {
                break;
            }
        }
    };
    timeout(PATIENCE, gone).await.expect("their places are given back");
    heard(&mut socket(&running).await, "hello").await;
    running.stop().await;
}

/// A service that has failed at a command on each of these channels and keeps the letters.
async fn failing(aether: &Aether, channels: &[&str]) -> CancellationToken {
    let closed = async || Err::<(), _>(std::io::Error::other("the bank is closed"));
    let till = Service::builder("till").on("*.paid", closed).with_letters().build(aether).await.unwrap();
    let stop = CancellationToken::new();
    tokio::spawn(till.run_until(stop.clone()));
    let shop = aether.emitter("shop").unwrap();
    for channel in channels {
        shop.emit(Wave::builder(*channel).kind(Kind::Command).build().unwrap()).await.unwrap();
    }
    let letters = aether.dead_letters();
    let kept = async {
        while letters.counts().kept < channels.len() as u64 {
            tokio::task::yield_now().await;
        }
    };
    timeout(PATIENCE, kept).await.expect("the letters");
    stop
}

#[cfg(unix)]
#[tokio::test(flavor = "multi_thread")]
async fn letters_are_for_those_who_may_hear_their_channels() {
    use std::os::unix::fs::PermissionsExt as _;
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("tokens.json");
    std::fs::write(
        &path,
        r#"[{"token": "orders", "hear": ["orders.>"]}, {"token": "all", "hear": [">"], "emit": ["aether.letters.*"]}]"#,
    )
    .unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
    let aether = Aether::local();
    let fields = FieldOptions::default().access(Access::load(&path).unwrap());
    let running = support::run(&aether, GatewayOptions::default().fields(fields)).await;
    let stop = failing(&aether, &["orders.paid", "salaries.paid"]).await;
    let get = async |token: &str, path: &str| {
        let head = format!("GET {path} HTTP/1.1\r\nauthorization: Bearer {token}");
        let (code, body) = request(&running, &head, "").await;
        (code, serde_json::from_str::<Value>(&body).unwrap())
    };
    // A list that came without the service, which has two seconds for its answer, is none.
    let list = async |token: &str| {
        let listed = async {
            loop {
                let (code, list) = get(token, "/api/dead").await;
                let stores = list["stores"].as_array().unwrap();
                if !stores.is_empty() && stores.iter().all(|store| store["error"].is_null()) {
                    return (code, list);
                }
            }
        };
        timeout(PATIENCE, listed).await.expect("the service answers")
    };
    let (code, all) = list("all").await;
    assert_eq!(
        (code, all["letters"].as_array().unwrap().len(), &all["hidden"]),
        (200, 2, &0.into()),
        "{all}"
    );
    let (code, some) = list("orders").await;
    assert_eq!((code, &some["hidden"]), (200, &1.into()), "{some}");
    assert_eq!(some["letters"][0]["channel"], "orders.paid");

    let of = |channel: &str| {
        let letters = all["letters"].as_array().unwrap();
        let letter = letters.iter().find(|letter| letter["channel"] == channel).unwrap();
        format!("/api/dead/{}", letter["id"].as_str().unwrap())
    };
    assert_eq!(get("orders", &of("orders.paid")).await.0, 200);
    let (code, refused) = get("orders", &of("salaries.paid")).await;
    assert_eq!((code, &refused["reason"]), (403, &"right".into()));
    for (token, code) in [("orders", 403), ("all", 200), ("all", 404)] {
        let head = format!("DELETE {} HTTP/1.1\r\nauthorization: Bearer {token}", of("orders.paid"));
        assert_eq!(request(&running, &head, "").await.0, code, "{token}");
    }
    stop.cancel();
    running.stop().await;
}
