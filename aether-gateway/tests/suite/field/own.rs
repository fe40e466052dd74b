//! The own protocol.

use aether_core::Aether;
use aether_gateway::{Access, FieldOptions, SecurityLimits};
use serde_json::{Value, json};

use crate::field::client::{Client, now};
use crate::field::server::Server;
use crate::support::StoppedTime;

async fn server() -> (Aether, Server) {
    let aether = Aether::local();
    let server = Server::start(&aether, FieldOptions::default()).await;
    (aether, server)
}

#[tokio::test]
async fn case_1_of_two_offline_writes_the_later_one_stands_in_either_order() {
    let (_aether, server) = server().await;
    for (round, a_first) in [true, false].into_iter().enumerate() {
        let key = format!("k{round}");
        let (ids, viewer) = ([format!("a{round}"), format!("b{round}")], format!("viewer{round}"));
        let mut a = Client::following(server.address, "home", &ids[0]).await;
        let mut b = Client::following(server.address, "home", &ids[1]).await;
        // Both are offline when they write, A five seconds before B.
        let at = now();
        let older = a.set(1, at - 6000.0, &key, &json!("of A"));
        let newer = b.set(1, at - 1000.0, &key, &json!("of B"));
        if a_first {
            a.write(&older).await;
            b.write(&newer).await;
        } else {
            b.write(&newer).await;
            a.write(&older).await;
        }
        a.until(|client| client.value(&key) == Some(&json!("of B"))).await;
        b.until(|client| client.value(&key) == Some(&json!("of B"))).await;
        a.until(|client| client.superseded.len() == 1).await;
        assert_eq!((&a.superseded[0]["lost"], &a.superseded[0]["value"]), (&json!("of A"), &json!("of B")));
        b.settle().await;
        assert_eq!(b.superseded, [] as [Value; 0], "the winner is not told");
        let viewer = Client::following(server.address, "home", &viewer).await;
        assert_eq!(viewer.value(&key), Some(&json!("of B")));
    }
    server.stop().await;
}

#[tokio::test]
async fn case_2_a_write_from_before_a_removal_does_not_bring_the_key_back() {
    let (_aether, server) = server().await;
    let mut b = Client::following(server.address, "home", "b").await;
    b.write(&b.set(1, now() - 9000.0, "k", &json!("first"))).await;
    let a = Client::following(server.address, "home", "a").await;
    let offline = a.set(1, now() - 5000.0, "k", &json!("of A"));
    drop(a);
    b.until(|client| client.value("k").is_some()).await;
    b.write(&b.delete(2, now(), "k")).await;
    let mut a = Client::following(server.address, "home", "a").await;
    a.write(&offline).await;
    a.until(|client| client.superseded.len() == 1).await;
    let told = &a.superseded[0];
    assert_eq!((&told["key"], &told["lost"], told.get("value")), (&json!("k"), &json!("of A"), None));
    assert_eq!((server.field.get_json("k"), a.value("k")), (None, None));
    b.settle().await;
    assert_eq!(b.superseded, [] as [Value; 0]);
    server.stop().await;
}

#[tokio::test]
async fn case_4_5000_offline_writes_arrive_on_default_limits() {
    const BATCH: usize = 400;
    let time = StoppedTime::new();
    let (_aether, server) = server().await;
    let mut client = Client::connect(server.address, "home", "a").await;
    let at = now();
    let write =
        |op: u64| json!({ "type": "set", "op": op, "at": at - 1000.0, "key": format!("k{op}"), "value": op });
    let writes: Vec<Value> = (1..=5000).map(write).collect();
    // As a client would: as many as fit into a message of 64 KiB.
    for batch in writes.chunks(BATCH) {
        client.tab.send(&json!(batch)).await;
    }
    // The hello has taken one of a burst of 200, and 10 come back in a tenth of a second. A message is taken when there is
    // one, and its requests are owed before the next.
    for tenths in 0.. {
        let taken = ((198 + 10 * tenths) / BATCH + 1) * BATCH;
        client.until(|client| client.acks.len() >= taken.min(5000)).await;
        if taken >= 5000 {
            break;
        }
        time.tenth_passes().await;
    }
    assert_eq!(client.acks.len(), 5000);
    assert_eq!(server.field.list("k*").len(), 5000);
    assert_eq!(client.refused.len(), 0);
    server.stop().await;
}

#[tokio::test]
async fn case_4_single_messages_beyond_the_rate_are_read_later_and_not_lost() {
    let (_aether, server) = server().await;
    let mut client = Client::connect(server.address, "home", "a").await;
    let started = std::time::Instant::now();
    for op in 1..=350 {
        let write =
            json!({ "type": "set", "op": op, "at": now() - 1000.0, "key": format!("k{op}"), "value": op });
        client.tab.send(&write).await;
    }
    client.until(|client| client.acks.len() == 350).await;
    assert!(
        started.elapsed().as_secs_f64() > 1.0,
        "350 messages are a burst of 200 and 1.5 s at 100 a second"
    );
    server.stop().await;
}

#[tokio::test]
async fn of_an_array_25_requests_count_as_one_message() {
    let aether = Aether::local();
    let mut limits = SecurityLimits::default();
    (limits.messages_burst, limits.messages_per_second) = (4, 4.0);
    let server = Server::start(&aether, FieldOptions::default().limits(limits)).await;
    let mut client = Client::connect(server.address, "home", "a").await;
    let started = std::time::Instant::now();
    let write = |op: u64| json!({ "type": "set", "op": op, "at": now() - 1000.0, "key": format!("k{op}"), "value": op });
    let writes: Vec<Value> = (1..=250).map(write).collect();
    client.tab.send(&json!(writes)).await;
    client.write(&write(251)).await;
    let seconds = started.elapsed().as_secs_f64();
    assert!(seconds > 1.0, "10 messages are a burst of 4, and more than 1 s at 4 a second");
    assert!(seconds < 50.0, "250 messages would take a minute");
    server.stop().await;
}

#[tokio::test]
async fn a_token_takes_a_share_of_the_entries_and_removals_half_of_the_room() {
    let aether = Aether::local();
    let mut bounds = aether_field::core::Limits::default();
    bounds.max_entries = 40;
    let field = aether_field::Field::builder("home").limits(bounds).join(&aether).await.unwrap();
    let access = Access::default().token("one").unwrap().token("other").unwrap();
    let options = FieldOptions::default().access(access);
    let server = Server::serving(&aether, options, Default::default(), field).await;
    let mut one = Client::with_token(server.address, "home", "a", Some("one")).await;
    let mut other = Client::with_token(server.address, "home", "b", Some("other")).await;
    let delete = |op: u64, key: String| json!({ "type": "delete", "op": op, "at": now(), "key": key });
    for op in 1..=10 {
        one.write(&delete(op, format!("none/{op}"))).await;
    }
    one.tab.send(&delete(11, "none/11".to_owned())).await;
    one.until(|client| client.refused.contains_key(&11)).await;
    assert_eq!(one.refused[&11]["code"], "share");
    // What is there may still be written, and others go on.
    other.write(&other.set(1, now(), "k", &json!(1))).await;
    assert_eq!(server.field.status().entries, 11);
    // Removals of what is not there do not take the room of what somebody writes.
    for number in 0..9 {
        server.field.set(&format!("own/{number}"), &1).unwrap();
    }
    other.tab.send(&delete(2, "nothing".to_owned())).await;
    other.until(|client| client.refused.contains_key(&2)).await;
    assert_eq!(other.refused[&2]["code"], "field");
    other.write(&other.set(3, now(), "another", &json!(1))).await;
    server.stop().await;
}

#[tokio::test]
async fn case_5_an_operation_that_is_sent_again_is_applied_once() {
    let (_aether, server) = server().await;
    let mut a = Client::following(server.address, "home", "a").await;
    let at = now() - 1000.0;
    let writes = [
        a.set(1, at, "k", &json!("one")),
        json!({ "type": "count", "op": 2, "at": at, "key": "visits", "up": 3 }),
        json!({ "type": "insert", "op": 3, "at": at, "key": "tags", "member": "x" }),
    ];
    for write in &writes {
        a.write(write).await;
        a.write(write).await;
    }
    let applied = server.field.status();
    // The acknowledgements were lost: the client comes back and sends everything again.
    drop(a);
    let mut a = Client::following(server.address, "home", "a").await;
    for write in &writes {
        a.write(write).await;
    }
    a.settle().await;
    let again = server.field.status();
    assert_eq!((again.received, again.entries), (applied.received, applied.entries), "one record each");
    assert_eq!((applied.received, applied.entries), (3, 3));
    assert_eq!((server.field.count("visits"), server.field.members("tags").len()), (3, 1));
    assert_eq!(a.superseded, [] as [Value; 0]);

    // Somebody else has written meanwhile. The repeated write neither comes back nor counts as lost.
    let mut b = Client::following(server.address, "home", "b").await;
    b.write(&b.set(1, now(), "k", &json!("two"))).await;
    b.write(&json!({ "type": "discard", "op": 2, "at": now(), "key": "tags", "member": "x" })).await;
    for write in &writes {
        a.write(write).await;
    }
    a.settle().await;
    assert_eq!(server.field.get::<String>("k").unwrap().as_deref(), Some("two"));
    assert_eq!(server.field.members("tags").len(), 0);
    assert_eq!(a.superseded, [] as [Value; 0]);
    server.stop().await;
}

#[tokio::test]
async fn case_6_of_40_races_the_loser_alone_is_told_once() {
    let (_aether, server) = server().await;
    let mut a = Client::following(server.address, "home", "a").await;
    let mut b = Client::following(server.address, "home", "b").await;
    for round in 0..40 {
        let (key, op, at) = (format!("k{round}"), round + 1, now());
        // Neither has seen the other's.
        let (of_a, of_b) = (a.set(op, at - 2.0, &key, &json!("a")), b.set(op, at - 1.0, &key, &json!("b")));
        if round % 2 == 0 {
            tokio::join!(a.write(&of_a), b.write(&of_b));
        } else {
            b.write(&of_b).await;
            a.write(&of_a).await;
        }
    }
    a.until(|client| client.superseded.len() == 40).await;
    a.settle().await;
    b.settle().await;
    assert_eq!((a.superseded.len(), b.superseded.len()), (40, 0));
    let mut keys: Vec<_> = a.superseded.iter().map(|told| told["key"].to_string()).collect();
    keys.sort();
    keys.dedup();
    assert_eq!(keys.len(), 40);

    // A write that follows one does not race with it, also if the clock of its writer is behind.
    a.until(|client| client.value("k0") == Some(&json!("b"))).await;
    a.write(&a.set(100, now() - 3000.0, "k0", &json!("after"))).await;
    b.until(|client| client.value("k0") == Some(&json!("after"))).await;
    b.settle().await;
    assert_eq!(b.superseded.len(), 0);
    server.stop().await;
}

#[tokio::test]
async fn case_8_each_refusal_has_a_reason_and_leaves_the_connection() {
    let (_aether, server) = server().await;
    let mut a = Client::following(server.address, "home", "a").await;
    let deep = format!("{}{}", "[".repeat(10_000), "]".repeat(10_000));
    for (op, value, code) in
        [(1, "null", "null"), (2, r#""\ud800""#, "json"), (3, deep.as_str(), "json"), (4, "1e999", "json")]
    {
        a.tab
            .send_text(&format!(r#"{{"type":"set","op":{op},"at":{},"key":"k","value":{value}}}"#, now()))
            .await;
        a.until(|client| client.refused.contains_key(&op)).await;
        assert_eq!(a.refused[&op]["code"], code);
    }
    for text in ["{\"type\":\"set\",\"value\":NaN}", &"[".repeat(60_000), &"[".repeat(100_000)] {
        let before = a.others.len();
        a.tab.send_text(text).await;
        a.until(|client| client.others.len() > before).await;
        assert_eq!(a.others[before]["type"], "refused");
    }
    a.write(&a.set(9, now(), "__proto__", &json!({ "__proto__": 1 }))).await;
    a.until(|client| client.value("__proto__").is_some()).await;
    assert_eq!(server.field.list("*").len(), 1);
    server.stop().await;
}

#[tokio::test]
async fn a_client_that_comes_back_gets_what_it_missed_and_no_more() {
    let mut limits = SecurityLimits::default();
    limits.max_oplog_size = 3;
    let aether = Aether::local();
    let server = Server::start(&aether, FieldOptions::default().limits(limits)).await;
    server.field.set("old", &1).unwrap();
    server.field.set("removed", &1).unwrap();
    let mut a = Client::following(server.address, "home", "a").await;
    server.field.set("seen", &1).unwrap();
    a.until(|client| client.value("seen").is_some()).await;
    let (state, cursor) = (a.state.clone(), a.cursor.clone());
    drop(a);
    server.field.set("missed", &1).unwrap();
    server.field.remove("removed").unwrap();
    let mut viewer = Client::following(server.address, "home", "viewer").await;
    assert_eq!(viewer.state.len(), 3);

    let mut a = Client::connect(server.address, "home", "a").await;
    (a.state, a.cursor) = (state.clone(), cursor.clone());
    a.subscribe(json!(["*"])).await;
    assert_eq!(a.snapshots, 0, "it resumes");
    a.until(|client| client.value("missed").is_some() && client.value("removed").is_none()).await;
    assert_eq!(a.state, viewer.state);
    drop(a);

    for number in 0..5 {
        server.field.set(&format!("more{number}"), &1).unwrap();
    }
    viewer.until(|client| client.value("more4").is_some()).await;
    let mut a = Client::connect(server.address, "home", "a").await;
    (a.state, a.cursor) = (state, cursor);
    a.subscribe(json!(["*"])).await;
    assert_eq!(a.snapshots, 1, "too much has changed for the history");
    assert_eq!(a.state, viewer.state);
    server.stop().await;
}

#[tokio::test]
async fn a_cursor_of_other_patterns_is_no_cursor() {
    let (_aether, server) = server().await;
    for name in ["room/a1", "room/b1", "room/b2"] {
        server.field.set(name, &1).unwrap();
    }
    let mut a = Client::connect(server.address, "home", "a").await;
    a.subscribe(json!(["room/a*"])).await;
    assert_eq!((a.state.len(), a.snapshots), (1, 1));
    a.subscribe(json!(["room/a*", "room/b*"])).await;
    assert_eq!((a.state.len(), a.snapshots), (3, 2), "the entries of the new pattern come");
    // In another order they are the same.
    a.subscribe(json!(["room/b*", "room/a*"])).await;
    assert_eq!((a.state.len(), a.snapshots), (3, 2));
    server.stop().await;
}

#[tokio::test]
async fn a_durable_write_is_confirmed_after_the_sync_and_without_a_store_never() {
    let folder = tempfile::tempdir().unwrap();
    let aether = Aether::local();
    let field = aether_field::Field::builder("home").store(folder.path().join("home.field")).join(&aether);
    let server =
        Server::serving(&aether, FieldOptions::default(), Default::default(), field.await.unwrap()).await;
    let mut a = Client::connect(server.address, "home", "a").await;
    let durable =
        |op: u64| json!({ "type": "set", "op": op, "at": now(), "key": "k", "value": op, "durable": true });
    for op in 1..=3 {
        a.tab.send(&durable(op)).await;
    }
    a.until(|client| client.durable == [1, 2, 3]).await;
    server.stop().await;

    let other = Aether::local();
    let server = Server::start(&other, FieldOptions::default()).await;
    let mut a = Client::connect(server.address, "home", "a").await;
    a.tab.send(&durable(1)).await;
    a.until(|client| client.others.iter().any(|message| message["type"] == "not-durable")).await;
    assert!(a.acks.contains_key(&1), "it is in the field all the same");
    server.stop().await;
}

#[tokio::test]
async fn an_entry_of_a_counter_says_how_much_of_it_the_client_itself_has_added() {
    let (_aether, server) = server().await;
    let count = |op: u64, up: u64, down: u64| json!({ "type": "count", "op": op, "at": now(), "key": "n", "up": up, "down": down });
    let mut a = Client::connect(server.address, "home", "a").await;
    a.tab.send(&count(1, 5, 1)).await;
    a.until(|a| a.acks.len() == 1).await;
    server.field.add("n", 8).unwrap();
    let subscribe = json!({ "type": "subscribe", "patterns": ["n"] });
    a.tab.send(&subscribe).await;
    let own = |up: u64, sum: i64| json!({ "counter": "n", "sum": sum, "own": { "up": up, "down": 1 } });
    assert_eq!(a.tab.next("snapshot").await["entries"], json!([own(5, 12)]));
    let mut b = Client::connect(server.address, "home", "b").await;
    b.tab.send(&subscribe).await;
    assert_eq!(b.tab.next("snapshot").await["entries"], json!([{ "counter": "n", "sum": 12 }]));
    a.tab.send(&count(2, 9, 1)).await;
    assert_eq!(a.tab.next("changes").await["entries"], json!([own(9, 16)]));
    assert_eq!(b.tab.next("changes").await["entries"], json!([{ "counter": "n", "sum": 16 }]));
    server.stop().await;
}

/// A client that sees participants.
async fn watcher(server: &Server, id: &str) -> Client {
    let mut client = Client::connect(server.address, "home", id).await;
    client.tab.send(&json!({ "type": "subscribe", "patterns": [], "presence": true })).await;
    client.until(|client| client.snapshots == 1).await;
    client
}

#[tokio::test]
async fn one_connection_is_several_participants_up_to_a_bound_and_all_leave_with_it() {
    let (_aether, server) = server().await;
    let (mut a, mut b) = (watcher(&server, "a").await, watcher(&server, "b").await);
    let id = a.hello["id"].as_str().unwrap().to_owned();
    let say = |name: &str, value: Value| json!({ "type": "presence", "as": name, "value": value });
    for tab in 0..32 {
        a.tab.send(&say(&format!("tab {tab}"), json!(tab))).await;
    }
    b.until(|b| b.others.len() == 32).await;
    let last = b.others.iter().find(|other| other["value"] == 31).unwrap();
    assert_eq!(last["id"], format!("{id}/tab 31"));
    a.tab.send(&say("tab 32", json!(32))).await;
    let refused = a.tab.next("refused").await;
    assert_eq!((&refused["code"], refused.get("op")), (&json!("presence"), None));
    a.tab.send(&say(&"x".repeat(65), json!(1))).await;
    assert_eq!(a.tab.next("refused").await["code"], "key-size");
    // One of them leaves, which makes room for another.
    a.tab.send(&say("tab 7", Value::Null)).await;
    b.until(|b| b.others.len() == 33).await;
    assert_eq!(b.others[32], json!({ "type": "presence-leave", "id": format!("{id}/tab 7") }));
    a.tab.send(&say("tab 32", json!(32))).await;
    b.until(|b| b.others.len() == 34).await;
    assert!(a.others.is_empty(), "a client does not get what it is itself");
    drop(a);
    b.until(|b| b.others.len() == 34 + 32).await;
    assert!(b.others[34..].iter().all(|other| other["type"] == "presence-leave"));
    server.stop().await;
}

#[tokio::test]
async fn presence_is_any_json_and_reaches_those_who_ask_for_it_but_not_oneself() {
    let (_aether, server) = server().await;
    let (mut a, mut b) = (watcher(&server, "a").await, watcher(&server, "b").await);
    a.tab.send(&json!({ "type": "presence", "value": { "typing": ["k"] } })).await;
    b.until(|client| !client.others.is_empty()).await;
    let value = json!({ "typing": ["k"] });
    let expected = json!({ "type": "presence", "id": a.hello["id"], "patterns": ["*"], "value": value });
    assert_eq!(b.others, [expected]);
    b.tab.send(&json!({ "type": "presence", "value": 7 })).await;
    a.until(|client| !client.others.is_empty()).await;
    assert_eq!((&a.others[0]["id"], a.others.len()), (&b.hello["id"], 1), "not its own");
    a.tab.send(&json!({ "type": "presence" })).await;
    b.until(|client| client.others.len() == 2).await;
    assert_eq!(b.others[1], json!({ "type": "presence-leave", "id": a.hello["id"] }));
    assert_eq!(server.field.list("*").len(), 0, "presence is not kept");
    server.stop().await;
}
