//! `/api/durable/consumer`: what is shown, sent again and forgotten, and of which logs.

use std::path::Path;

use aether_core::{Aether, Durability, Emitter, Wave};
use aether_gateway::{Access, FieldOptions, GatewayOptions, LogFolder};
use aether_log::{Consumer, ConsumerOptions, Log};
use serde_json::Value;

use crate::api::request;
use crate::support::{self, Running};

/// A log, its bus, and a consumer that has received nothing.
async fn shop(folder: &Path) -> (Log, Aether, Consumer) {
    let log = Log::builder(folder).channels("orders.>", Durability::Stored).unwrap().open().unwrap();
    let aether = log.connect(aether::builder().url("local:")).await.unwrap();
    let consumer = log.consumer("billing", "orders.>", ConsumerOptions::default()).unwrap();
    (log, aether, consumer)
}

async fn emit(shop: &Emitter, waves: usize, bytes: usize) {
    for _ in 0..waves {
        let wave = Wave::builder("orders.created").bytes(vec![b'x'; bytes]).build().unwrap();
        shop.emit(wave).await.unwrap();
    }
}

async fn watching(folder: &Path, access: Access) -> Running {
    let fields = FieldOptions::default().access(access);
    let options =
        GatewayOptions::default().physics(false).fields(fields).durable(vec![LogFolder::new(folder)]);
    support::run(&Aether::local(), options).await
}

async fn asked(running: &Running, method: &str, path: &str, folder: &Path, token: &str) -> (u16, Value) {
    let query = format!("folder={}&consumer=billing", folder.display());
    let head = format!("{method} {path}?{query} HTTP/1.1\r\nauthorization: Bearer {token}");
    let (code, body) = request(running, &head, "").await;
    (code, serde_json::from_str(&body).unwrap())
}

const CONSUMER: &str = "/api/durable/consumer";
const REPLAY: &str = "/api/durable/consumer/replay";

#[tokio::test(flavor = "multi_thread")]
async fn a_token_without_the_right_to_emit_learns_nothing_of_other_folders_and_sends_nothing_again() {
    let root = tempfile::tempdir().unwrap();
    let (shown, other) = (root.path().join("shop"), root.path().join("secret"));
    let (_log, aether, _billing) = shop(&shown).await;
    emit(&aether.emitter("shop").unwrap(), 2, 10).await;
    std::fs::create_dir(&other).unwrap();
    let access = Access::default().token("fields").unwrap().waves_token("waves").unwrap();
    let running = watching(&shown, access).await;
    for token in ["fields", "waves"] {
        let there = asked(&running, "DELETE", CONSUMER, &other, token).await;
        let missing = asked(&running, "DELETE", CONSUMER, &root.path().join("nowhere"), token).await;
        assert_eq!(there, missing);
        assert_eq!(there.0, 404, "{there:?}");
    }
    assert_eq!(asked(&running, "DELETE", CONSUMER, &shown, "fields").await.0, 403);
    for folder in [&shown, &other] {
        let (code, body) = asked(&running, "POST", REPLAY, folder, "fields").await;
        assert_eq!((code, &body["reason"]), (403, &"right".into()), "{body}");
    }
    let (code, body) = asked(&running, "POST", REPLAY, &shown, "waves").await;
    assert_eq!((code, &body["waves"], &body["more"]), (200, &2.into(), &false.into()), "{body}");
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn large_waves_are_shown_until_their_bytes_are_too_many_and_the_answer_says_that_more_wait() {
    let root = tempfile::tempdir().unwrap();
    let (_log, aether, _billing) = shop(root.path()).await;
    let shop = aether.emitter("shop").unwrap();
    let running = watching(root.path(), Access::default().waves_token("waves").unwrap()).await;
    emit(&shop, 19, 10).await;
    let (code, body) = asked(&running, "GET", CONSUMER, root.path(), "waves").await;
    assert_eq!((code, body["waves"].as_array().unwrap().len(), &body["more"]), (200, 19, &false.into()));
    emit(&shop, 2, 10).await;
    let (_, body) = asked(&running, "GET", CONSUMER, root.path(), "waves").await;
    assert_eq!((body["waves"].as_array().unwrap().len(), &body["more"]), (20, &true.into()));
    // 22 MiB behind them.
    emit(&shop, 22, 1 << 20).await;
    let (_, body) = asked(&running, "POST", REPLAY, root.path(), "waves").await;
    assert_eq!((&body["waves"], &body["more"]), (&(21 + 16).into(), &true.into()), "{body}");
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_waves_of_a_sealed_log_are_shown_by_a_gateway_that_has_its_keys() {
    let root = tempfile::tempdir().unwrap();
    let (folder, file) = (root.path().join("shop"), root.path().join("own.keys"));
    let keys = aether::seal::SealKeys::generate().unwrap();
    keys.save_new(&file).unwrap();
    let log =
        Log::builder(&folder).channels("orders.>", Durability::Stored).unwrap().keys(keys).open().unwrap();
    let aether = log.connect(aether::builder().url("local:")).await.unwrap();
    let _billing = log.consumer("billing", "orders.>", ConsumerOptions::default()).unwrap();
    emit(&aether.emitter("shop").unwrap(), 2, 10).await;
    for (keys, shown) in [(Some(file), true), (None, false)] {
        let fields = FieldOptions::default().access(Access::default().waves_token("waves").unwrap());
        let options = GatewayOptions::default().physics(false).fields(fields).durable_keys(keys);
        let running = support::run(&Aether::local(), options.durable(vec![LogFolder::new(&folder)])).await;
        let (code, body) = asked(&running, "GET", CONSUMER, &folder, "waves").await;
        match shown {
            true => assert_eq!((code, body["waves"].as_array().map(Vec::len)), (200, Some(2)), "{body}"),
            false => assert!(code >= 400 && body.to_string().contains("keys of the log"), "{code} {body}"),
        }
        running.stop().await;
    }
}
