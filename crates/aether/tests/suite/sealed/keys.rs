//! Processes with other keys, none, old ones and new ones; and what the options refuse.

use std::error::Error;

use aether::nats::{NatsError, NatsOptions, Wire};
use aether::seal::{KeyUse, SealKeys, sealed_key};
use aether_conformance::NatsServer;
use aether_core::Vibrator;

use crate::proxy::Proxy;
use crate::sealed::scene::{Enemy, Scene, connect, next, options, within};
use crate::settling::flushed;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn processes_with_other_keys_or_none_do_not_hear_each_other_and_say_why() {
    let mut scene = Scene::new().await;
    let others = SealKeys::generate().unwrap();
    let stranger = connect(&scene.server.url(), options(others.clone())).await;
    let open = connect(&scene.server.url(), NatsOptions::default()).await;
    let mut open_ear = Vibrator::create("open-ear", &open).await.unwrap();
    open_ear.resonate_on("shop.*").await.unwrap();
    for aether in [&stranger, &open] {
        let emitter = aether.emitter("other").unwrap();
        emitter.emit_bytes("shop.load", "x").await.unwrap();
        flushed(aether).await;
    }
    assert_eq!(next(&mut open_ear).await.source().name(), "other");
    scene.only_the_next_wave_arrives().await;
    flushed(&scene.here).await;
    let id = others.ids().next().unwrap().0;
    let missing = aether::seal::missing_keys(&scene.there);
    assert!(missing.len() == 1 && missing[0].0 == id, "{missing:?}");
    let status = scene.there.status();
    assert!(status.refused_unknown_key >= 1 && status.refused_plain >= 1, "{status:?}");
    assert_eq!((status.refused_tampered, status.refused_replayed, status.refused_stale), (0, 0, 0));
    // The process without keys refuses what is sealed, and takes it for no wave.
    within("the refusal", async {
        while open.status().refused_sealed == 0 {
            tokio::task::yield_now().await;
        }
    })
    .await;
    assert_eq!((open_ear.ledger().offered, open.status().malformed), (1, 0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rotation_takes_effect_with_the_next_connection_and_loses_nothing() {
    let server = NatsServer::start().await.unwrap();
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("keys");
    let mut keys = SealKeys::generate().unwrap();
    keys.save_new(&file).unwrap();
    let (here_proxy, there_proxy) =
        (Proxy::new(server.port()).await.unwrap(), Proxy::new(server.port()).await.unwrap());
    let here = connect(&here_proxy.url(), options(&file)).await;
    let there = connect(&there_proxy.url(), options(&file)).await;
    let mut ear = Vibrator::create("ear", &there).await.unwrap();
    ear.resonate_on("shop.load").await.unwrap();
    let shop = Vibrator::create("shop", &here).await.unwrap();
    let mut enemy = Enemy::new(&server).await;
    for step in 0..4 {
        let (first, second) = (&here_proxy, &there_proxy);
        // Both orders: the sender first, the receiver first.
        let turns = if step % 2 == 0 { [first, second] } else { [second, first] };
        for proxy in turns {
            if step > 0 {
                proxy.cut().await;
                proxy.mend();
                // A join needs the connection.
                let aether = if std::ptr::eq(proxy, first) { &here } else { &there };
                let probe = Vibrator::create("probe", aether).await.unwrap();
                within("the connection", probe.resonate_on("probe")).await.unwrap();
            }
            shop.emit_bytes("shop.load", format!("{step}")).await.unwrap();
            assert_eq!(next(&mut ear).await.text().unwrap(), format!("{step}"));
        }
        match step {
            0 => {
                keys.add().unwrap();
            }
            1 => {
                keys.seal_with_newest();
            }
            _ => {
                keys.drop_others();
            }
        }
        keys.replace(&file).unwrap();
    }
    let seen = enemy.fence().await;
    let waves = seen.iter().filter(|message| message.subject.as_str() == "aether.shop.load");
    let mut used: Vec<_> = waves.filter_map(|message| sealed_key(&message.payload)).collect();
    used.dedup();
    assert_eq!(used.len(), 2, "the old key, then the new one: {used:?}");
    let status = there.status();
    assert_eq!((ear.ledger().lost(), status.refused()), (0, 0), "{status:?}");
    // A file that cannot be used leaves the keys as they were.
    std::fs::write(&file, "no keys").unwrap();
    here_proxy.cut().await;
    here_proxy.mend();
    shop.emit_bytes("shop.load", "still").await.unwrap();
    assert_eq!(next(&mut ear).await.text().unwrap(), "still");
}

#[tokio::test]
async fn options_that_cannot_be_are_refused() {
    let server = NatsServer::start().await.unwrap();
    let refused = async |options: NatsOptions| {
        aether::builder().url(server.url()).options(options).connect().await.unwrap_err()
    };
    let keys = SealKeys::generate().unwrap();
    let both = refused(options(keys.clone()).wire(Wire::CloudEvents)).await;
    assert!(matches!(both.of_medium(), Some(NatsError::SealedEvents)), "{both}");
    let folder = tempfile::tempdir().unwrap();
    let absent = refused(options(folder.path().join("none"))).await;
    assert!(matches!(absent.of_medium(), Some(NatsError::Keys(_))) && !absent.is_transient(), "{absent}");
    assert!(absent.source().unwrap().to_string().contains("none"), "{absent}");
    let shown = format!("{:?}", options(keys.clone()));
    let (id, key_use) = keys.ids().next().unwrap();
    assert!(shown.contains(&id.to_string()) && key_use == KeyUse::Seals, "{shown}");
    assert!(!shown.contains("aether-key"), "{shown}");
}

#[tokio::test]
async fn the_service_discovery_of_nats_tools_is_not_answered() {
    let server = NatsServer::start().await.unwrap();
    let sealed = connect(&server.url(), options(SealKeys::generate().unwrap())).await;
    let vibrator = Vibrator::create("quiet", &sealed).await.unwrap();
    vibrator.resonate_on("x").await.unwrap();
    let client = async_nats::connect(server.url()).await.unwrap();
    let nobody = client.request("$SRV.PING", "".into()).await.unwrap_err();
    assert_eq!(nobody.kind(), async_nats::RequestErrorKind::NoResponders);
}
