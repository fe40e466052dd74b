//! `aether trace`, and what other commands print for it, over a real NATS server.

use aether_core::{Emitter, Kind, Vibrator, Wave};
use serde_json::Value;

use crate::nats::{listener, server, with};
use crate::process::{PATIENCE, Running, run, run_all};

/// A service that answers questions on `front`: it asks `back`, which may refuse, and emits an event.
async fn services(url: &str) -> [tokio::task::JoinHandle<()>; 2] {
    let back = {
        let aether = aether::connect(url).await.unwrap();
        let mut back = Vibrator::create("back", &aether).await.unwrap();
        back.resonate_in_group("back", "back").await.unwrap();
        tokio::spawn(async move {
            while let Some(question) = back.receive().await {
                match question.json::<u32>().unwrap() {
                    0 => {
                        let reason = aether_core::FailureReason::Rejected;
                        question.reply_failure(reason, "no lamp").await.unwrap();
                    }
                    number => question.reply(&(number * 2)).await.unwrap(),
                }
            }
        })
    };
    let aether = aether::connect(url).await.unwrap();
    let mut front = Vibrator::create("front", &aether).await.unwrap();
    front.resonate_in_group("front", "front").await.unwrap();
    let front = tokio::spawn(async move {
        while let Some(question) = front.receive().await {
            let emitter: Emitter = front.following(&question);
            let asked = Wave::builder("back").kind(Kind::Query).bytes(question.payload().clone());
            let answer = emitter.ask_within(asked.build().unwrap(), PATIENCE).await;
            emitter.emit_wave("front.done", &answer.is_ok()).await.unwrap();
            if question.expects_reply() {
                question.reply(&answer.is_ok()).await.unwrap();
            }
        }
    });
    [back, front]
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_is_printed_as_a_tree_by_ask_emit_and_trace() {
    let (server, medium) = server().await;
    let _services = services(&server.url()).await;
    let [asked, emitted] = run_all([
        &with(&["ask", "front", "3", "--trace", "8s", "--timeout", "2m"], &medium),
        &with(&["emit", "front", "0", "--trace", "8s"], &medium),
    ]);
    assert_eq!((asked.code, asked.out.as_str()), (Some(0), "true\n"), "{asked:?}");
    let lines: Vec<&str> = asked.err.lines().collect();
    assert!(lines[0].starts_with("5 waves of 3 sources in "), "{asked:?}");
    for (line, drawn) in lines[1..].iter().zip([
        "  front  query by aether-ask: answered by front after ",
        "  ├─ back  query by front: answered by back after ",
        "  │  └─ back  response by back  back@",
        "  ├─ front.done  event by front  front@",
        "  └─ front  response by front  front@",
    ]) {
        assert!(line.contains(drawn), "{drawn:?} in {line:?}");
    }

    assert_eq!(emitted.code, Some(0), "{emitted:?}");
    for part in [
        "back  query by front: failed at back after ",
        "rejected: no lamp",
        "  └─ front.done  event by front",
    ] {
        assert!(emitted.err.contains(part), "{emitted:?}");
    }
    assert!(emitted.err.contains(emitted.out.trim()), "its id is in the tree: {emitted:?}");

    // By an id that a listener printed: the vibrator that emits is known before it emits.
    let aether = aether::connect(&server.url()).await.unwrap();
    let shop = Vibrator::create("shop", &aether).await.unwrap().with_baggage("tenant", "acme").unwrap();
    let first = format!("{}/1", shop.source());
    let mut tracing = Running::start(&with(&["trace", &first, "--json"], &medium));
    tracing.tells("following ");
    let watching = aether::connect(&server.url()).await.unwrap();
    let mut watcher = Vibrator::builder("watcher").observe().create(&watching).await.unwrap();
    watcher.resonate_on(">").await.unwrap();
    let mut listener = listener(&["front.done", "--ids", "--count", "1"], &medium);
    let question = Wave::builder("front").kind(Kind::Query).json(1).build().unwrap();
    shop.ask_within(question, PATIENCE).await.unwrap();
    let heard = listener.line();
    // The server has sent all of the request to those that observe.
    for _ in 0..5 {
        let seen = tokio::time::timeout(PATIENCE, watcher.receive()).await;
        seen.expect("five waves pass").unwrap();
    }
    tracing.signal(nix::sys::signal::Signal::SIGINT);
    let (said, _) = tracing.end();
    assert_eq!(said.code, Some(0), "{said:?}");
    let waves: Vec<Value> = said.out.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(waves.len(), 5, "{said:?}");
    assert!(waves.iter().all(|wave| wave["root"] == first && wave["baggage"] == "tenant=acme"), "{waves:?}");
    let done = waves.iter().find(|wave| wave["channel"] == "front.done").unwrap();
    assert!(heard.contains(done["id"].as_str().unwrap()), "{heard} has {done}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_of_which_nothing_passes_is_a_failure_and_a_wrong_id_is_wrong_usage() {
    let (_server, medium) = server().await;
    let nothing = run(&with(&["trace", "shop@1f/1", "--for", "100ms"], &medium));
    assert_eq!((nothing.code, nothing.out.as_str()), (Some(1), ""), "{nothing:?}");
    assert!(nothing.err.contains("no wave of the request shop@1f/1 was seen"), "{nothing:?}");
    let wrong = run(&with(&["trace", "shop"], &medium));
    assert_eq!(wrong.code, Some(2), "{wrong:?}");
    assert!(wrong.err.contains("ids look like alpha@1f9a3c5b7d2e4f60/17"), "{wrong:?}");
    assert_eq!(run(&["trace", "shop@1f/1"]).code, Some(2), "on a medium that nobody shares");
}
